"""Reference pages about code: public names, commands, run configs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import poverty_risk
from poverty_risk.cli import cli

ROOT = Path(__file__).parents[2]

THEMES = {
    "history": (
        "History tables",
        "Tables declared, read, imported, checked, or made up.",
        (
            *("schema", "tables", "history_chunks", "sources", "consistency", "datasets"),
            "exceptions",
        ),
    ),
    "points": (
        "Points, labels, features",
        "Who is at risk when, what became of them, and what was known.",
        ("cohort", "labels", "selective", "splits", "features", "panel", "person_periods", "spark"),
    ),
    "model": (
        "Models",
        "The model, others of its kind, and what they have to beat.",
        ("model", "task", "tuning", "hazard", "baselines", "helped"),
    ),
    "evaluation": (
        "Evaluation",
        "How good risks are, for whom, and whether something knew the future.",
        (
            *("evaluation", "figures", "candidates", "selection", "fairness", "audit_groups"),
            *("leakage", "risk_intervals", "unlike"),
        ),
    ),
    "reasons": (
        "Reasons",
        "Contributions, what changed, sentences, alternatives, similar households.",
        ("explain", "comparison", "reasons", "alternatives", "similar"),
    ),
    "use": (
        "Use",
        "Risks for programs, visit lists, MLflow.",
        ("predict", "batch", "visits", "tracking", "monitoring", "promotion", "serving"),
    ),
}
"""Title, what the page holds, and modules, by page. A name of another module goes to `OTHERS`."""

OTHERS = ("others", "Further names", "Names that belong to no other page.")


def list_names_by_page() -> dict[str, list[str]]:
    """Public names by page, in the order of the page's modules; every public name is on one page."""
    names = sorted(name for name in poverty_risk.__all__ if not name.startswith("__"))
    left = {name: getattr(poverty_risk, name).__module__.split(".")[1] for name in names}
    pages: dict[str, list[str]] = {}
    for page, (_, _, modules) in THEMES.items():
        pages[page] = [name for home in modules for name in left if left[name] == home]
        left = {name: home for name, home in left.items() if home not in modules}
    return pages | ({OTHERS[0]: list(left)} if left else {})


def write_name_pages() -> dict[str, str]:
    """A page per theme with the docstring of each of its names."""
    titles = {page: (title, text) for page, (title, text, _) in THEMES.items()}
    titles[OTHERS[0]] = OTHERS[1:]
    pages = {}
    for page, names in list_names_by_page().items():
        title, text = titles[page]
        entries = "\n".join(f"::: poverty_risk.{name}\n" for name in names)
        pages[f"reference/{page}.md"] = f"# {title}\n\n{text}\n\n{entries}"
    return pages


def write_index(further: dict[str, str]) -> str:
    """The entry of the reference: every public name with the first line of its docstring."""
    lines = ["# Reference", "", "`import poverty_risk as pr`, then:", ""]
    for page, names in list_names_by_page().items():
        title = THEMES[page][0] if page in THEMES else OTHERS[1]
        lines += [f"## [{title}]({page}.md)", "", "| name | |", "|---|---|"]
        for name in names:
            doc = (getattr(poverty_risk, name).__doc__ or "").strip()
            first = re.sub(r"\s+", " ", doc.split("\n\n")[0])
            lines.append(f"| [`{name}`]({page}.md#poverty_risk.{name}) | {escape_cell(first)} |")
        lines.append("")
    lines += ["## Files and codes", ""]
    lines += [f"- [{title}]({Path(path).name})" for path, title in further.items()]
    return "\n".join(lines) + "\n"


def escape_cell(text: object) -> str:
    """Text as a cell of a Markdown table; between backticks a bar needs no escape."""
    plain = re.sub(r"\s+", " ", str(text)).strip()
    parts = plain.split("`")
    return "`".join(part if i % 2 else part.replace("|", "\\|") for i, part in enumerate(parts))


def break_name(name: str) -> str:
    """A long name as code that may break after an underscore."""
    return f"<code>{name.replace('_', '_<wbr>')}</code>"


def walk_commands(
    group: click.Group = cli, name: str = "poverty-risk"
) -> Iterator[tuple[str, click.Command]]:
    """All commands with their full names, groups before their members."""
    for member in sorted(group.commands):
        command = group.commands[member]
        yield f"{name} {member}", command
        if isinstance(command, click.Group):
            yield from walk_commands(command, f"{name} {member}")


def write_command_page() -> str:
    """Every command with its arguments and options, from click itself."""
    lines = [
        "# Command line",
        "",
        _clean_help(cli.help),
        "",
        (
            "Exit codes: 0 done; 1 a check found something (`check`, `leakage`, `monitor`, `audit`); "
            "2 the command could not be carried out, with what was found, expected, and how to mend it."
        ),
        "",
    ]
    for name, command in walk_commands():
        context = click.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        lines += [f"## {name}", "", _clean_help(command.help), "", "```text", usage, "```", ""]
        rows = [_option_row(option, context) for option in command.params]
        if rows:
            lines += ["| option | value | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _clean_help(text: str | None) -> str:
    return inspect.cleandoc((text or "").replace("\b", ""))


def _option_row(option: click.Parameter, context: click.Context) -> str:
    if isinstance(option, click.Argument):
        return f"| `{option.make_metavar(context)}` | argument | |"
    assert isinstance(option, click.Option)
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "flag" if option.is_flag else f"`{option.make_metavar(context)}`"
    record = option.get_help_record(context)
    return f"| {names} | {escape_cell(kind)} | {escape_cell(record[1] if record else '')} |"


def write_config_page() -> str:
    """The shipped config, cut at its top keys: the file is its own manual."""
    text = (ROOT / "configs" / "default.yaml").read_text(encoding="utf-8")
    lines = [
        "# Run configs",
        "",
        (
            "This is `configs/default.yaml`. `configs/quick.yaml` has the same keys with smaller numbers "
            "for a first look, `configs/eph.yaml` reads the Argentine panel."
        ),
        "",
    ]
    for part in _split_config(text):
        keys = re.findall(r"^(\w+):", part, re.MULTILINE)
        lines += [f"## {', '.join(keys)}", "", "```yaml", part.strip("\n"), "```", ""]
    return "\n".join(lines)


def _split_config(text: str) -> list[str]:
    """Paragraphs between blank lines; the remarks at the top go with the single keys below them."""
    remarks, first, *others = (part for part in re.split(r"\n\s*\n", text) if part.strip())
    return [f"{remarks}\n{first}", *others]
