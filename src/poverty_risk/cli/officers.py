"""Commands of a visit round: list, cards, report, feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poverty_risk.cli.options import CONFIG, FOLDER, LOCALE, MODEL, OUTPUT, REASON, load, show

__all__ = ["card", "feedback", "report", "show_round", "visits"]


def show_round(made: Any) -> None:
    """Say what a list reaches and where it is."""
    listed = made.visit_list
    click.echo(f"\nwhole county: {len(listed.visits):,} visits, {len(listed.reserve):,} in reserve")
    show("expected returns reached with as many visits", listed.summary)
    click.echo(f"workbook                {made.paths['workbook']}")
    click.echo(f"page                    {made.paths['page']}")
    click.echo(f"whose the rows are      {made.paths['who']}  (stays in the office)")


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
@click.option(
    "--role",
    type=click.Choice(["county", "township", "village"]),
    default="county",
    show_default=True,
    help="Who reads: a village sees no health detail.",
)
@click.option("--place", default="", help="The township or village of that role.")
@REASON
def visits(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    as_of: str | None,
    locale: str | None,
    role: str,
    place: str,
    reason: str,
) -> None:
    """Choose whom to visit; write the workbook and the page with a card of each household."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    locale = locale or config.scoring.locale
    show_round(
        workflows.make_round(config, tables, model, locale, reason=reason, role=role, place=place)
    )


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--household", "households", multiple=True, required=True, help="Repeatable.")
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
@REASON
def card(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    households: tuple[str, ...],
    as_of: str | None,
    locale: str | None,
    reason: str,
) -> None:
    """Write the printable cards of single households."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    planned = workflows.plan_round(config, tables, model, households, locale)
    for path in workflows.write_cards(
        config, workflows.tell_round(planned, locale or config.scoring.locale)
    ):
        workflows.record_export(config, "card", reason=reason, output=path, households=1)
        click.echo(f"card                    {path}")


@click.command()
@MODEL
@click.option(
    "--evaluation",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the evaluation tables that training wrote.",
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The HTML file.")
@LOCALE
def report(model: str, evaluation: Path, output: Path, locale: str | None) -> None:
    """Write the model report of a training that is on disk."""
    from poverty_risk import workflows  # noqa: PLC0415

    path = workflows.write_report_from_disk(model, evaluation, output, locale or "zh")
    click.echo(f"model report            {path}")


@click.command()
@CONFIG
@OUTPUT
@click.option("--imported-on", help="Day of the import; by default today.")
@click.argument("workbook", type=click.Path(path_type=Path))
def feedback(
    config_path: Path, output: Path | None, imported_on: str | None, workbook: Path
) -> None:
    """Read a filled visit workbook back; write what has to be corrected."""
    import pandas as pd  # noqa: PLC0415

    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, None, output)
    day = pd.Timestamp(imported_on) if imported_on else pd.Timestamp.today().normalize()
    found, paths = workflows.import_feedback(config, workbook, day)
    click.echo(
        f"{len(found.visits):,} visits on record, {found.not_visited:,} rows not visited yet, "
        f"{len(found.errors):,} faults"
    )
    for note in found.notes:
        click.echo(note)
    for name, path in paths.items():
        click.echo(f"{name:<23} {path}")
