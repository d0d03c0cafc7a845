"""Check a history for contradictions: a table, a workbook to correct, a summary by township."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from poverty_risk.consistency import (
    ConsistencyCatalog,
    ConsistencyReport,
    check_consistency,
    load_consistency_rules,
)
from poverty_risk.privacy import read_or_make_key, suppress_small_counts
from poverty_risk.report.corrections import CorrectionWords, number_findings, write_corrections
from poverty_risk.report.documents import write_document
from poverty_risk.report.sheets import clean_text
from poverty_risk.schema import Schema, load_schema
from poverty_risk.tables import HistoryTables, read_history
from poverty_risk.workflows.office import KEY_FILE, OFFICE_ONLY

__all__ = ["CheckedHistory", "build_rule_table", "build_township_table", "check_history"]

COUNTS = ("looked_at", "undecided", "findings", "households")


@dataclass(frozen=True)
class CheckedHistory:
    """A checked history.

    Parameters
    ----------
    report
        What was found, with real ids.
    rules
        One row per rule and table, in words, counts under 10 hidden.
    townships
        Households with findings by township and severity, counts under 10 hidden.
    paths
        What was written: ``rules`` and ``townships`` (CSV, may be shared), ``workbook`` (to
        correct, ids masked), ``lookup`` (real ids by number; stays in the office).
    """

    report: ConsistencyReport
    rules: pd.DataFrame
    townships: pd.DataFrame
    paths: Mapping[str, Path]


def check_history(
    history: HistoryTables | str | Path,
    schema: Schema | str | Path = "archive",
    *,
    output: str | Path,
    extra_schema: str | Path | None = None,
    rules: ConsistencyCatalog | str | Path | None = None,
    as_of_date: str | pd.Timestamp | None = None,
    locale: str = "zh",
) -> CheckedHistory:
    """Check a history and write what the office needs to correct it.

    Parameters
    ----------
    history
        A folder of history tables, or tables that were read already.
    schema
        What a folder declares: a schema, its name or its path.
    output
        Folder of the run; files go to ``checks`` and, with real ids, to ``office_only``.
    extra_schema
        File with further tables and columns, as in `load_schema`.
    rules
        A catalogue, or a file with an office's own rules and parameters beside the shipped ones.
    as_of_date
        Only records known before it are looked at; by default all.
    locale
        Language of all texts.

    Returns
    -------
    CheckedHistory
        Findings, tables and paths.

    Raises
    ------
    PovertyRiskError
        The history or the rules cannot be read, or a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.workflows.checks import check_history
    >>> tables = make_household_history(100, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(check_history(tables, output=folder, locale="en").paths)
    ['lookup', 'rules', 'townships', 'workbook']
    """
    if not isinstance(history, HistoryTables):
        declared = schema if isinstance(schema, Schema) else load_schema(schema, extra_schema)
        history = read_history(history, declared)
    catalog = rules
    if not isinstance(catalog, ConsistencyCatalog):
        catalog = load_consistency_rules(extra=catalog)
    report = check_consistency(history, as_of_date, catalog)
    rule_table = build_rule_table(report, locale)
    townships = build_township_table(report, locale)
    return CheckedHistory(
        report, rule_table, townships, _write(report, rule_table, townships, Path(output), locale)
    )


def build_rule_table(report: ConsistencyReport, locale: str = "zh") -> pd.DataFrame:
    """What each rule looked at and found, in words, with counts under 10 hidden.

    Parameters
    ----------
    report
        From `check_consistency`.
    locale
        Language.

    Returns
    -------
    DataFrame
        One row per rule and table, in the order of the catalogue.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency
    >>> from poverty_risk.workflows.checks import build_rule_table
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> 'findings' in build_rule_table(report, 'en')
    True
    """
    words, catalog, rules = CorrectionWords.load(), report.catalog, report.rules
    tables = {name: table.label[locale] for name, table in report.schema.tables.items()}
    hidden = {name: suppress_small_counts(rules[name]) for name in COUNTS}
    columns = {
        "code": rules["code"],
        "severity": rules["severity"].map(lambda name: words.severities[name][locale]),
        "wrong": rules["code"].map(lambda code: catalog.describe(code, locale)),
        "department": rules["code"].map(lambda code: catalog.name_department(code, locale)),
        "table": rules["table"].map(lambda name: tables.get(name, name)),
        "status": [words.tell_status(rule, locale) for rule in rules.to_dict("records")],
        **{name: _show(counts, words, locale) for name, counts in hidden.items()},
    }
    names = {name: words.summary[name][locale] for name in columns}
    return pd.DataFrame(columns).rename(columns=names)


def build_township_table(report: ConsistencyReport, locale: str = "zh") -> pd.DataFrame:
    """Households with findings by township and severity, in words, with counts under 10 hidden.

    Parameters
    ----------
    report
        From `check_consistency`.
    locale
        Language.

    Returns
    -------
    DataFrame
        One row per township.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency
    >>> from poverty_risk.workflows.checks import build_township_table
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> list(build_township_table(report, 'en').columns)[:2]
    ['township', 'error']
    """
    words, counts = CorrectionWords.load(), report.count_by_township()
    unknown = words.texts["unknown_place"][locale]
    places = [unknown if pd.isna(place) else clean_text(str(place)) for place in counts.index]
    shown = {
        words.severities[name][locale]: _show(counts[name], words, locale).to_numpy()
        for name in counts.columns
    }
    return pd.DataFrame({words.summary["township"][locale]: places, **shown})


def _show(counts: pd.Series, words: CorrectionWords, locale: str) -> pd.Series:
    few = words.summary["few"][locale]
    return counts.map(lambda count: few if pd.isna(count) else str(int(count))).astype("str")


def _write(
    report: ConsistencyReport,
    rules: pd.DataFrame,
    townships: pd.DataFrame,
    output: Path,
    locale: str,
) -> dict[str, Path]:
    folder = output / "checks"
    key = read_or_make_key(output / OFFICE_ONLY / KEY_FILE)
    lookup = report.findings.drop(columns="values")
    lookup.insert(0, "number", number_findings(report.findings, key))
    written = {
        "rules": (rules, folder / f"rules_{locale}.csv", False),
        "townships": (townships, folder / f"townships_{locale}.csv", False),
        "lookup": (lookup, output / OFFICE_ONLY / "findings.csv", True),
    }
    # With a byte-order mark, for spreadsheets.
    paths = {
        name: write_document("\ufeff" + table.to_csv(index=False), path, name, private=private)
        for name, (table, path, private) in written.items()
    }
    paths["workbook"] = write_corrections(
        report, folder / f"corrections_{locale}.xlsx", key, locale
    )
    return paths
