"""Reference pages about catalogues: tables and labels, features, consistency rules, monitoring, mappings."""

from __future__ import annotations

from reference_pages import break_name, escape_cell

from poverty_risk import load_catalog, load_schema
from poverty_risk.consistency import load_consistency_rules
from poverty_risk.features import FeatureSpec
from poverty_risk.monitoring import load_monitoring_catalog
from poverty_risk.sources.mapping import list_mappings, load_mapping
from poverty_risk.wording import load_locale

DIRECTIONS = {1: "+", -1: "−", 0: ""}


def make_table(titles: list[str], rows: list[list[object]]) -> list[str]:
    """Lines of a Markdown table, with an empty line behind it."""
    cells = [" | ".join(escape_cell(cell) for cell in row) for row in rows]
    head = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    return [*head, *(f"| {line} |" for line in cells), ""]


def write_schema_page() -> str:
    """Tables, cohorts and labels of the archive."""
    schema = load_schema("archive")
    lines = [
        "# Tables and labels",
        "",
        (
            "What `schemas/archive.yaml` declares. Beside the columns shown, every record has its ids, an "
            "`event_date` (it happened) and a `known_date` (the office knew). *Sensitive* columns are "
            "shown nowhere outside cards; *blocked* ones may not become a feature."
        ),
        "",
        "## Labels",
        "",
    ]
    rows = [
        [f"`{name}`", label.label["en"], label.label["zh"], label.reporting_lag or ""]
        for name, label in schema.labels.items()
    ]
    lines += make_table(["label", "English", "中文", "known after at most"], rows)
    lines += ["## Cohorts", "", *(f"- `{name}`" for name in schema.cohorts), ""]
    for name, table in schema.tables.items():
        lines += [f"## {name}", "", f"{table.label['en']} · {table.label['zh']}", ""]
        rows = [
            [
                f"`{column}`",
                f"{entry.label['en']}<br>{entry.label['zh']}" if entry.label else "",
                ", ".join(entry.codes) or entry.kind,
                entry.unit or "",
                _tell_use(entry.sensitive, entry.blocked),
            ]
            for column, entry in table.columns.items()
        ]
        lines += make_table(["column", "meaning 含义", "kind or codes", "unit", ""], rows)
    return "\n".join(lines)


def _tell_use(sensitive: bool, blocked: str | None) -> str:
    return ", ".join(
        [*(["sensitive"] if sensitive else []), *([f"blocked: {blocked}"] if blocked else [])]
    )


def write_feature_page() -> str:
    """The data dictionary of the archive's features, by theme, in both languages."""
    catalog = load_catalog("archive")
    words = {language: load_locale(language)["themes"] for language in ("en", "zh")}
    given = len(catalog.model_names)
    lines = [
        "# Features · 特征字典",
        "",
        (
            f"{given} features that a model is given, and {len(catalog) - given} ingredients of them. Each "
            "is one entry of `features/catalogs/archive.yaml`. Direction: + a higher value goes with a "
            "higher risk, − with a lower one, empty: left to the data."
        ),
        "",
    ]
    for theme in catalog.themes:
        specs = [spec for spec in catalog.specs if spec.theme == theme and spec.role == "model"]
        if specs:
            lines += [f"## {words['en'][theme]} · {words['zh'][theme]}", "", *_features(specs)]
    ingredients = [spec for spec in catalog.specs if spec.role == "ingredient"]
    lines += ["## Ingredients · 中间变量", "", *_features(ingredients)]
    return "\n".join(lines)


def _features(specs: list[FeatureSpec]) -> list[str]:
    rows = [
        [
            break_name(spec.name),
            f"{spec.label('en')}<br>{spec.label('zh')}",
            _tell_origin(spec),
            DIRECTIONS[spec.direction],
            spec.unit if spec.kind == "number" else spec.kind,
        ]
        for spec in specs
    ]
    return make_table(["feature", "meaning 含义", "made from", "direction", "unit"], rows)


def _tell_origin(spec: FeatureSpec) -> str:
    if spec.formula is not None:
        return break_name(spec.formula.replace("<", "&lt;"))
    lag = "" if spec.lag == "0d" else f", lag {spec.lag}"
    return f"{spec.aggregator} of {spec.table}, {spec.lookback}{lag}"


def write_consistency_page() -> str:
    """All consistency rules with their permanent codes."""
    catalog = load_consistency_rules()
    lines = [
        "# Consistency rules · 数据一致性规则",
        "",
        (
            f"{len(catalog.rules)} rules on what cannot be true together, or seldom is; `poverty-risk check` "
            "runs them. *Error*: contradictory or impossible; *warning*: implausible, or against the "
            "procedure; *note*: a gap to fill. A code is permanent."
        ),
        "",
    ]
    for severity in ("error", "warning", "note"):
        rows = [
            [
                rule.code,
                f"{catalog.describe(rule.code, 'en')}<br>{catalog.describe(rule.code, 'zh')}",
                ", ".join(rule.tables) or "rejected rows",
                catalog.name_department(rule.code, "en"),
            ]
            for rule in catalog.rules
            if rule.severity == severity
        ]
        lines += [f"## {severity.capitalize()}s", ""]
        lines += make_table(["code", "what is wrong 疑点", "table", "who can correct it"], rows)
    return "\n".join(lines)


def write_monitoring_page() -> str:
    """All checks of monitoring with their permanent codes."""
    checks = load_monitoring_catalog().checks
    lines = [
        "# Monitoring checks · 监测检查",
        "",
        (
            f"`poverty-risk monitor` runs {len(checks)} checks; limits stand under `monitoring` in the "
            "[config](configs.md#monitoring). What a *cause* explains is told as a tip by the others: one "
            "fault, one alarm. A code is permanent."
        ),
        "",
    ]
    for code, check in checks.items():
        lines += [f"## {code} {check.name['en']} · {check.name['zh']}", ""]
        lines += ["*A cause.*", ""] if check.is_cause else []
        for language, mark in (("en", "What to do: "), ("zh", "处理：")):
            lines += [f"{check.meaning[language]}  ", f"{mark}{check.remedy[language]}", ""]
    return "\n".join(lines)


def write_mapping_page() -> str:
    """The shipped mappings: what each kind of file holds, and what becomes of it."""
    lines = [
        "# Mapping files · 数据对接文件",
        "",
        (
            "Each kind of county file is one YAML file in `src/poverty_risk/sources/mappings/`; see [bring "
            "your own data](../county_files.md). *Feed*: events that were known on a day of their own; "
            "*export*: the state of a system on one day, which is when everything in it was known."
        ),
        "",
    ]
    for name in list_mappings():
        mapping = load_mapping(name)
        tables = ", ".join(f"`{rule.table}`" for rule in mapping.tables)
        lag = f", known after at most {mapping.reporting_lag}" if mapping.reporting_lag else ""
        lines += [f"## {name}", "", f"{mapping.label['en']} · {mapping.label['zh']}", ""]
        lines += [f"{mapping.delivery.capitalize()}{lag}; becomes {tables}.", ""]
        rows = [
            [f"`{key}`", "、".join(field.headers[:4]), field.kind, field.privacy]
            for key, field in mapping.fields.items()
        ]
        lines += make_table(["field", "headers, the most usual first", "kind", "privacy"], rows)
    return "\n".join(lines)
