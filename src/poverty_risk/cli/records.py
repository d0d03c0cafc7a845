"""Commands about histories: made up, checked."""

from __future__ import annotations

from pathlib import Path

import click

from poverty_risk.cli.options import show


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
@click.option("--rejected", type=click.Path(path_type=Path), help="CSV for the rejected rows.")
@click.argument("folder", type=click.Path(path_type=Path))
def check(schema: str, rejected: Path | None, folder: Path) -> None:
    """Read the history tables of FOLDER and say what is wrong with them."""
    from poverty_risk.tables import read_history  # noqa: PLC0415

    tables = read_history(folder, schema)
    click.echo(repr(tables))
    faults = tables.rejected
    if len(faults):
        counts = faults.groupby(["table", "column", "expected"]).size().rename("rows")
        show("rejected", counts.reset_index())
    if rejected is not None:
        faults.to_csv(rejected, index=False)
        click.echo(f"each fault with its row  {rejected}")
