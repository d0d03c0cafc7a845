"""Commands about histories: made up, imported, checked."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import click

from poverty_risk.cli.options import (
    CONFIG,
    LOCALE,
    OUTPUT,
    REASON,
    REASON_REQUIRED,
    load,
    show,
)
from poverty_risk.exceptions import PovertyRiskError


@click.command()
@click.option(
    "--households",
    type=click.IntRange(50),
    default=2000,
    show_default=True,
    help="Size of the county.",
)
@click.option(
    "--counties",
    type=click.IntRange(1),
    help="So many counties of that size, each in a folder of its own and with the next seed.",
)
@click.option("--start", default="2019-01-01", show_default=True, help="First day.")
@click.option("--end", default="2025-01-01", show_default=True, help="Day after the last.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all random numbers.")
@click.argument("folder", type=click.Path(path_type=Path))
def simulate(
    households: int, counties: int | None, start: str, end: str, seed: int, folder: Path
) -> None:
    """Write the history tables of a simulated county, or of several, to FOLDER."""
    from poverty_risk.datasets import make_household_history  # noqa: PLC0415

    places = [folder]
    if counties is not None:
        places = [folder / f"county_{number:03}" for number in range(counties)]
    for number, place in enumerate(places):
        county = make_household_history(households, start=start, end=end, seed=seed + number)
        click.echo(f"{county.tables!r}\nwritten to {county.tables.write(place)}")


MAPPING = click.option(
    "--mapping",
    "mappings",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Mapping file of your own, before the shipped ones; repeatable.",
)
KIND = click.option("--kind", help="Name of the mapping, where a file is not recognised.")


@click.group()
def sources() -> None:
    """Files of the national system and of departments, before they are imported."""


@sources.command()
@MAPPING
@KIND
@click.option(
    "--write", type=click.Path(path_type=Path), help="Write a mapping to complete to this file."
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def inspect(
    mappings: tuple[Path, ...], kind: str | None, write: Path | None, files: tuple[Path, ...]
) -> None:
    """Say what FILES seem to be, how their columns are read, and what is not mapped."""
    from poverty_risk.sources import inspect_source, load_mapping, write_mapping  # noqa: PLC0415

    known = [load_mapping(path) for path in mappings]
    failed = False
    for path in files:
        try:
            sheets = inspect_source(path, mappings=known, kind=kind)
        except PovertyRiskError as error:
            # One bad file does not keep the others from being looked at.
            click.echo(str(error), err=True)
            failed = True
            continue
        for sheet in sheets:
            name = "unknown" if sheet.mapping is None else sheet.mapping.name
            others = ", ".join(f"{other} {share:.0%}" for other, share in sheet.candidates[:3])
            click.echo(
                f"\n{sheet.file} {sheet.sheet}: {name} ({sheet.confidence:.0%}), "
                f"{sheet.rows:,} rows; {'ready' if sheet.ready else 'not ready'}"
                + (f"; else {others}" if others else "")
            )
            click.echo(sheet.to_frame().to_string(index=False))
            if sheet.missing:
                click.echo(f"missing: {', '.join(sheet.missing)}")
            if write is not None and sheet.mapping is not None:
                click.echo(f"mapping to complete     {write_mapping(sheet, write)}")
                write = None  # one file, of the first sheet
    sys.exit(int(failed))


@sources.command()
@CONFIG
@OUTPUT
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("data/interim/store"),
    show_default=True,
    help="Store of an import with --keep-private.",
)
@REASON_REQUIRED
@click.argument("ids", nargs=-1, required=True)
def who(
    config_path: Path, output: Path | None, store: Path, reason: str, ids: tuple[str, ...]
) -> None:
    """Say whose IDS are, hashes or pseudonyms of a workbook; only in the office, and logged."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, None, output)
    found = workflows.find_people(config, ids, store=store, reason=reason)
    for one in sorted(set(ids) - set(found["asked"])):
        click.echo(f"{one}: nothing is kept of it here; was it imported with --keep-private?")
    if len(found):
        click.echo(found.to_string(index=False))


@click.command("import")
@CONFIG
@OUTPUT
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("data/interim/store"),
    show_default=True,
    help="Where every import is kept.",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    default=Path("data/processed/history"),
    show_default=True,
    help="Where the history tables go.",
)
@MAPPING
@KIND
@click.option("--exported", help="Day of the export; by default what the file's name tells.")
@click.option("--database", help="SQLAlchemy URL; with --table.")
@click.option("--table", "db_tables", multiple=True, help="Table of the database; repeatable.")
@click.option(
    "--keep-private", is_flag=True, help="Keep names, telephones and ids, for the office alone."
)
@click.option(
    "--restore-forgotten", is_flag=True, help="Take in again what `forget` removed; logged."
)
@REASON
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def import_command(
    config_path: Path,
    output: Path | None,
    store: Path,
    history: Path,
    mappings: tuple[Path, ...],
    kind: str | None,
    exported: str | None,
    database: str | None,
    db_tables: tuple[str, ...],
    keep_private: bool,
    restore_forgotten: bool,
    reason: str,
    files: tuple[Path, ...],
) -> None:
    """Import FILES, folders or database tables; the same ones again change nothing."""
    from poverty_risk import workflows  # noqa: PLC0415
    from poverty_risk.sources import DatabaseTable  # noqa: PLC0415

    if (database is None) != (not db_tables) or not (files or db_tables):
        message = "Give files, or --database with at least one --table."
        raise click.UsageError(message)
    config = load(config_path, None, output)
    tables = [DatabaseTable(url=str(database), table=table) for table in db_tables]
    done = workflows.import_history(
        config,
        [*files, *tables],
        store=store,
        folder=history,
        exported=_read_day(exported),
        mappings=mappings,
        kind=kind,
        keep_private=keep_private,
        restore_forgotten=restore_forgotten,
    )
    if restore_forgotten:
        workflows.record_export(config, "import --restore-forgotten", reason=reason)
    click.echo(done.report.to_frame().to_string(index=False))
    counts = done.report.counts
    click.echo(
        f"{counts.read:,} rows read = {counts.accepted:,} accepted + {counts.rejected:,} rejected "
        f"+ {counts.repeated:,} repeated"
    )
    for fault in done.report.faults:
        click.echo(str(fault), err=True)
    show("persons linked by feed", done.report.links.rates.to_pandas())
    if done.report.links.near_misses.num_rows:
        click.echo(f"near misses to decide   {done.report.near_misses_file}")
    if done.rejected is not None:
        click.echo(f"faults with their rows  {done.rejected}")
    click.echo(f"{done.tables!r}\nhistory                 {done.folder}")
    sys.exit(int(any(item.status == "failed" for item in done.report.files)))


def _read_day(text: str | None) -> dt.date | None:
    """The day that somebody gives, as one would find it in the name of a file."""
    from poverty_risk.sources.export_days import find_export_day  # noqa: PLC0415

    day = None if text is None else find_export_day(text)
    if text is not None and day is None:
        message = f"--exported {text!r}: no day such as 2024-03-31, and no month such as 202403."
        raise click.UsageError(message)
    return day


@click.command()
@CONFIG
@click.option("--schema", default="archive", show_default=True, help="Name or YAML file.")
@OUTPUT
@click.option(
    "--rules", type=click.Path(path_type=Path), help="YAML file of your own rules and parameters."
)
@click.option("--as-of", "as_of", help="Only records known before; by default all.")
@LOCALE
@REASON
@click.argument("folder", type=click.Path(path_type=Path))
def check(
    config_path: Path,
    schema: str,
    output: Path | None,
    rules: Path | None,
    as_of: str | None,
    locale: str | None,
    reason: str,
    folder: Path,
) -> None:
    """Say what is wrong with the history tables of FOLDER; write a workbook to correct it."""
    from poverty_risk import workflows  # noqa: PLC0415
    from poverty_risk.tables import read_history  # noqa: PLC0415
    from poverty_risk.whole_files import write_private_table  # noqa: PLC0415

    config = load(config_path, None, output)
    tables = read_history(folder, schema)
    click.echo(repr(tables))
    faults = tables.rejected
    if len(faults):
        counts = faults.groupby(["table", "column", "expected"]).size().rename("rows")
        show("rejected", counts.reset_index())
    found = workflows.check_history(
        tables,
        output=config.output,
        rules=rules,
        as_of_date=as_of,
        locale=locale or config.scoring.locale,
    )
    hits = (found.report.rules["findings"] > 0).to_numpy()
    show("contradictions", found.rules[hits].dropna(axis=1, how="all"))
    absent = sorted(set(", ".join(found.report.not_run["lacking"]).split(", ")) - {""})
    if absent:
        click.echo(f"rules not run for want of tables: {', '.join(absent)}")
    show("by township", found.townships)
    if len(faults):
        rejected = config.output / "office_only" / "rejected.csv"
        write_private_table(faults, rejected)  # it quotes what stands in the rows
        click.echo(f"rejected rows           {rejected}")
    workflows.record_export(
        config,
        "check",
        reason=reason,
        output=found.paths["workbook"],
        households=int(found.report.findings["household_id"].nunique()),
    )
    for name, path in found.paths.items():
        click.echo(f"{name:<23} {path}")
