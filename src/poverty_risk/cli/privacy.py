"""Commands of whoever answers for the data: log, forgetting, keys, documents that the law asks for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from poverty_risk.cli.options import CONFIG, FOLDER, LOCALE, MODEL, OUTPUT, REASON_REQUIRED, load

__all__ = ["assessment", "audit", "forget", "household_letter", "rotate_key"]

STORE = click.option(
    "--store", type=click.Path(path_type=Path), help="Import store, if there is one."
)


@click.command()
@CONFIG
@OUTPUT
@click.option(
    "--known-head", help="Head that was noted down earlier: shows whether the log was set back."
)
def audit(config_path: Path, output: Path | None, known_head: str | None) -> None:
    """Verify the log of what left the office; exit code 1 when it was changed."""
    from poverty_risk import workflows  # noqa: PLC0415

    found = workflows.check_audit(load(config_path, None, output), known_head)
    click.echo(f"{len(found.entries):,} lines as they were written; head {found.head}")
    for fault in found.faults:
        click.echo(str(fault), err=True)
    sys.exit(int(bool(found.faults)))


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@STORE
@click.option("--before", help="Forget what was known before this day.")
@click.option("--household", "households", multiple=True, help="Forget this household; repeatable.")
@REASON_REQUIRED
def forget(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    store: Path | None,
    before: str | None,
    households: tuple[str, ...],
    reason: str,
) -> None:
    """Remove old records, or everything of a household, from history, store and files."""
    from poverty_risk import workflows  # noqa: PLC0415

    if (before is None) == (not households):
        message = "Give either --before or --household."
        raise click.UsageError(message)
    config = load(config_path, folder, output)
    if before is not None:
        gone = workflows.forget_everything_before(config, before, reason=reason, store=store)
    else:
        gone = workflows.forget_households(config, households, reason=reason, store=store)
    for name, part in gone.parts.items():
        click.echo(f"{name:<23} {part}")
    for name, rows in gone.office.items():
        click.echo(f"{name:<23} {rows:,} rows removed")
    click.echo(f"{len(gone.deleted):,} cards and letters deleted")
    for path in gone.remaining:
        click.echo(f"may still tell of them  {path}")


@click.command("rotate-key")
@CONFIG
@OUTPUT
@STORE
@click.option("--history", type=click.Path(path_type=Path), help="History folder with hashed ids.")
@click.option(
    "--id-map", type=click.Path(path_type=Path), help="CSV or Parquet of ids and pseudonyms."
)
@click.option("--drop-old", is_flag=True, help="End a rotation: forget the old keys.")
@REASON_REQUIRED
def rotate_key(
    config_path: Path,
    output: Path | None,
    store: Path | None,
    history: Path | None,
    id_map: Path | None,
    drop_old: bool,
    reason: str,
) -> None:
    """Make all pseudonyms anew with a new key."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, None, output)
    if drop_old:
        count = workflows.drop_old_keys(config, reason=reason)
        click.echo(f"{count:,} old pseudonyms forgotten")
        return
    done = workflows.rotate_key(config, reason=reason, history=history, store=store, id_map=id_map)
    click.echo(f"key number {done.number} is in use; {done.households:,} households in the lookup")
    for name, count in done.replaced.items():
        click.echo(f"{name:<23} {count:,} pseudonyms replaced")
    if done.dropped:
        click.echo(f"{done.dropped:,} hashes of names or certificates could not be renewed")


@click.command()
@CONFIG
@OUTPUT
@MODEL
@click.option(
    "--evaluation",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the evaluation tables that training wrote.",
)
@LOCALE
def assessment(
    config_path: Path, output: Path | None, model: str, evaluation: Path, locale: str | None
) -> None:
    """Write the impact assessment (PIPL, articles 55 and 56) of a training, to complete."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, None, output)
    path = workflows.write_impact_assessment(config, model, evaluation, locale=locale)
    click.echo(f"impact assessment       {path}")


@click.command("household-letter")
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--household", required=True, help="Its id in the history.")
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@REASON_REQUIRED
@LOCALE
def household_letter(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    household: str,
    as_of: str | None,
    reason: str,
    locale: str | None,
) -> None:
    """Write the explanation that a household asked for (PIPL, article 24)."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    path = workflows.write_letter(config, tables, model, household, reason=reason, locale=locale)
    click.echo(f"letter                  {path}")
