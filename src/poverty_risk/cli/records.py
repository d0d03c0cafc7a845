"""Commands about histories: made up, checked."""

from __future__ import annotations

from pathlib import Path

import click

from poverty_risk.cli.options import LOCALE, show


@click.command()
@click.option(
    "--households",
    type=click.IntRange(50),
    default=2000,
    show_default=True,
    help="Size of the county.",
)
@click.option("--start", default="2019-01-01", show_default=True, help="First day.")
@click.option("--end", default="2025-01-01", show_default=True, help="Day after the last.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all random numbers.")
@click.argument("folder", type=click.Path(path_type=Path))
def simulate(households: int, start: str, end: str, seed: int, folder: Path) -> None:
    """Write the history tables of a simulated county to FOLDER."""
    from poverty_risk.datasets import make_household_history  # noqa: PLC0415

    county = make_household_history(households, start=start, end=end, seed=seed)
    click.echo(f"{county.tables!r}\nwritten to {county.tables.write(folder)}")


@click.command()
@click.option("--schema", default="archive", show_default=True, help="Name or YAML file.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("outputs/check"),
    show_default=True,
    help="Where the tables and the workbook to correct go.",
)
@click.option(
    "--rules", type=click.Path(path_type=Path), help="YAML file of your own rules and parameters."
)
@click.option("--as-of", "as_of", help="Only records known before; by default all.")
@LOCALE
@click.argument("folder", type=click.Path(path_type=Path))
def check(
    schema: str,
    output: Path,
    rules: Path | None,
    as_of: str | None,
    locale: str | None,
    folder: Path,
) -> None:
    """Say what is wrong with the history tables of FOLDER; write a workbook to correct it."""
    from poverty_risk import workflows  # noqa: PLC0415
    from poverty_risk.tables import read_history  # noqa: PLC0415

    tables = read_history(folder, schema)
    click.echo(repr(tables))
    faults = tables.rejected
    if len(faults):
        counts = faults.groupby(["table", "column", "expected"]).size().rename("rows")
        show("rejected", counts.reset_index())
    found = workflows.check_history(
        tables, output=output, rules=rules, as_of_date=as_of, locale=locale or "zh"
    )
    hits = (found.report.rules["findings"] > 0).to_numpy()
    show("contradictions", found.rules[hits].dropna(axis=1, how="all"))
    absent = sorted(set(found.report.not_run["table"]))
    if absent:
        click.echo(f"rules not run for want of tables: {', '.join(absent)}")
    show("by township", found.townships)
    if len(faults):
        rejected = output / "office_only" / "rejected.csv"
        faults.to_csv(rejected, index=False)
        rejected.chmod(0o600)  # it quotes what stands in the rows
        click.echo(f"rejected rows           {rejected}")
    for name, path in found.paths.items():
        click.echo(f"{name:<23} {path}")
