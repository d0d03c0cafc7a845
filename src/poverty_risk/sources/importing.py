"""Files and database tables into the store: each whole or not at all, the same one only once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from poverty_risk.arrow_tables import compute_fingerprint
from poverty_risk.exceptions import Fault, HistoryError, PovertyRiskError
from poverty_risk.progress import track
from poverty_risk.schema import Schema, load_schema
from poverty_risk.sources.conversion import convert_sheet
from poverty_risk.sources.database import DatabaseTable, read_database
from poverty_risk.sources.decisions import DECISIONS_FILE, read_decisions, write_decisions
from poverty_risk.sources.delivery import Delivery, Origin, compute_content_hash
from poverty_risk.sources.disk import describe_failure
from poverty_risk.sources.export_days import find_earliest_day, find_export_day
from poverty_risk.sources.files import read_sheets
from poverty_risk.sources.forgotten import (
    ForgottenDelivery,
    Tombstones,
    drop_forgotten,
    read_tombstones,
    write_tombstones,
)
from poverty_risk.sources.history import describe_coverage, link_people
from poverty_risk.sources.import_report import ImportedFile, ImportReport, add_counts
from poverty_risk.sources.kinds import Mapping as Kind
from poverty_risk.sources.mapping import find_mapping, load_mapping
from poverty_risk.sources.raw import REJECTED, Converted, Counts, RawSheet
from poverty_risk.sources.store import Store

__all__ = ["import_sources"]

Source = Path | DatabaseTable

SUFFIXES = (".csv", ".txt", ".tsv", ".xlsx", ".xlsm", ".xls", ".et")
"""Files of a folder that are read; all others are told."""


@dataclass(frozen=True)
class _Run:
    """What holds for all sources of an import."""

    store: Store
    key: bytes
    kinds: tuple[Kind, ...]
    kind: str | None
    schema: Schema
    keep_private: bool
    days: Mapping[str, date]
    day: date | None
    restore_forgotten: bool


def import_sources(
    sources: Iterable[str | Path | DatabaseTable],
    store: Store | str | Path,
    key: bytes,
    *,
    exported: date | Mapping[str, date] | None = None,
    mappings: Sequence[Kind | str | Path] = (),
    kind: str | None = None,
    schema: Schema | str | Path = "archive",
    keep_private: bool = False,
    restore_forgotten: bool = False,
    quiet: bool | None = None,
) -> ImportReport:
    r"""Import files, folders of files, and tables of databases into a store.

    One that cannot be read does not keep the others from being imported. What was imported before
    is left as it is; a run that was killed is simply started again.

    Parameters
    ----------
    sources
        Files, folders (their files, not those of folders within), and database tables.
    store
        The store or its folder; made where there is none.
    key
        The office's key.
    exported
        Day of the export, for all sources or by the name of the file. By default what the name of
        the file tells, such as ``household_20230630.xlsx``; it cannot be earlier than that.
    mappings
        Mappings of your own, by path or loaded; they go before those that are shipped.
    kind
        Name of the mapping of all sources; by default each sheet is recognised by its headers.
    schema
        Where the records go.
    keep_private
        Whether names, telephones and accounts are kept, in ``office_only`` of the store.
    restore_forgotten
        Whether what was forgotten is taken in again: deliveries of which records were forgotten
        before a day, and rows of households that were forgotten. They are then no longer forgotten.
    quiet
        Whether no progress is shown; by default only on a terminal.

    Returns
    -------
    ImportReport
        What became of each file, and the links of the whole store.

    Raises
    ------
    PovertyRiskError
        The store cannot be written, is held by another run, or has another key; or a decision about
        a near miss cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "letter_20230630.csv").write_text("Dear,Sir\nplease,read\n")
    ...     report = import_sources([folder], f"{folder}/store", b"0123456789abcdef")
    >>> [(item.file, item.status, item.faults[0].found) for item in report.files]
    [('letter_20230630.csv', 'failed', 'a sheet of no known kind')]
    """
    run = _Run(
        store=store if isinstance(store, Store) else Store(store),
        key=key,
        kinds=tuple(item if isinstance(item, Kind) else load_mapping(item) for item in mappings),
        kind=kind,
        schema=schema if isinstance(schema, Schema) else load_schema(schema),
        keep_private=keep_private,
        days=exported if isinstance(exported, Mapping) else {},
        day=None if isinstance(exported, Mapping) else exported,
        restore_forgotten=restore_forgotten,
    )
    with run.store.writing(key):
        found, files = _expand(run.store, sources)
        rejected = [REJECTED.empty_table()]
        with track("files", total=len(found), quiet=quiet) as advance:
            for source in found:
                imported, faulty = _import_one(run, source)
                files.append(imported)
                rejected += faulty
                advance(1)
        path = run.store.folder / DECISIONS_FILE
        links = link_people(run.store, run.schema)
        write_decisions(path, links.near_misses, read_decisions(path))
        told = pa.concat_tables(rejected).combine_chunks()
        return ImportReport(tuple(files), told, links, describe_coverage(run.store), path)


def _expand(
    store: Store,
    sources: Iterable[str | Path | DatabaseTable],
) -> tuple[list[Source], list[ImportedFile]]:
    """Files of folders in their place, and those that are left alone."""
    found: list[Source] = []
    left: list[ImportedFile] = []
    for source in sources:
        if isinstance(source, DatabaseTable) or not Path(source).is_dir():
            found.append(source if isinstance(source, DatabaseTable) else Path(source))
            continue
        for path in sorted(Path(source).iterdir()):
            if path.name.startswith((".", "~$")):
                continue  # of the system, or the mark of a workbook that is open
            if path.resolve() == store.folder.resolve():
                continue
            if path.suffix.lower() in SUFFIXES and path.is_file():
                found.append(path)
            else:
                wanted = f"files {', '.join(SUFFIXES)}"
                fault = Fault(path.name, "a folder or another file", wanted, "Import it by itself.")
                left.append(ImportedFile(path.name, "skipped", faults=(fault,)))
    return found, left


def _import_one(run: _Run, source: Source) -> tuple[ImportedFile, list[pa.Table]]:
    """Import one source; what is wrong with it is told, what is wrong with the store is raised."""
    day: date | None = None
    marks = read_tombstones(run.store.folder)
    restoring = run.restore_forgotten and marks != Tombstones()
    try:
        day = _find_day(run, source)
        content, raw = _read_content(source)
        earlier = _find_earlier(run, content, day)
        is_whole = earlier is not None and not run.store.find_damage(earlier)
        if earlier is not None and is_whole and not restoring and _is_read(run, earlier):
            return _describe(source, "unchanged", earlier), []
        if (mark := marks.find(content, day)) is not None and not restoring:
            return _describe_forgotten(source, mark), []
        raw = read_sheets(source) if isinstance(source, Path) else raw
        matched, faults = _match(run, raw)
        sheets = [_convert(run, sheet, kind, day) for sheet, kind in matched]
        if not sheets:
            return ImportedFile(source.name, "failed", day, faults=tuple(faults)), []
    except PovertyRiskError as error:
        return ImportedFile(source.name, "failed", day, faults=error.faults), []
    if restoring:
        write_tombstones(run.store.folder, marks.without([(content, day)], sheets))
    else:
        sheets = [drop_forgotten(sheet, marks) for sheet in sheets]
    origin = Origin(
        file=source.name,
        content=content,
        mapping=_compute_reading(run, [kind for _, kind in matched]),
        exported=day,
    )
    read = {sheet.sheet for sheet, _ in matched}
    unread = [sheet.sheet for sheet in raw if sheet.sheet not in read]
    delivery = run.store.add(origin, sheets, unread, anew=restoring)
    # With a sheet that still nobody can read, everything else is as before.
    status = "unchanged" if delivery == earlier else "imported" if earlier is None else "replaced"
    return _describe(source, status, delivery, faults), [sheet.rejected for sheet in sheets]


def _convert(run: _Run, sheet: RawSheet, kind: Kind, day: date) -> Converted:
    return convert_sheet(
        sheet, kind, run.key, day, schema=run.schema, keep_private=run.keep_private
    )


def _find_day(run: _Run, source: Source) -> date:
    own = source.exported if isinstance(source, DatabaseTable) else find_export_day(source.name)
    day = run.days.get(source.name) or run.day or own
    if day is None:
        found, expected = "no day of export", "a name such as 'household_20230630.xlsx'"
        remedy = "Rename the file, or say the day with 'exported'."
        raise HistoryError(Fault(source.name, found, expected, remedy))
    earliest = None if isinstance(source, DatabaseTable) else find_earliest_day(source.name)
    if earliest is not None and day < earliest:
        # Nobody knew before what the file tells.
        remedy = "Correct the day, or the name of the file."
        found, expected = f"exported on {day}", f"not before {earliest}, as its name tells"
        raise HistoryError(Fault(source.name, found, expected, remedy))
    if day > datetime.now(UTC).astimezone().date():
        remedy = "Correct the name of the file, or say the day with 'exported'."
        raise HistoryError(Fault(source.name, f"exported on {day}", "a day until today", remedy))
    return day


def _read_content(source: Source) -> tuple[str, list[RawSheet]]:
    """Fingerprint of a source; and a database table, which has to be read for that."""
    if isinstance(source, DatabaseTable):
        sheet = read_database(source)
        order = [(name, "ascending") for name in sheet.cells.column_names]
        # A database gives its rows in any order.
        told = sheet.cells.sort_by(order) if order else sheet.cells
        return compute_fingerprint({source.place: told}, without=""), [sheet]
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.blake2b(digest_size=16)
            ).hexdigest(), []
    except OSError as error:
        expected = "a file that is there, closed, and may be read"
        fault = Fault(source.name, describe_failure(error), expected, "Check the file.")
        raise HistoryError(fault) from None


def _find_earlier(run: _Run, content: str, day: date) -> Delivery | None:
    told, _ = run.store.scan()
    same = [item for item in told if (item.origin.content, item.origin.exported) == (content, day)]
    return same[-1] if same else None


def _is_read(run: _Run, earlier: Delivery) -> bool:
    """Whether all of an earlier delivery was read, and as it would be read now."""
    own = {kind.name: kind for kind in run.kinds}
    names = [sheet.kind for sheet in earlier.sheets]
    if earlier.unread or run.kind not in (None, *names):
        return False
    try:
        kinds = [own.get(name) or load_mapping(name) for name in names]
    except PovertyRiskError:
        return False  # read with a mapping of one's own that is not given now
    return _compute_reading(run, kinds) == earlier.origin.mapping


def _compute_reading(run: _Run, kinds: Sequence[Kind]) -> str:
    """Fingerprint of all that decides what a file becomes."""
    parts = [run.schema.model_dump_json(), str(run.keep_private)]
    parts += [kind.model_dump_json() for kind in kinds]
    return compute_content_hash("\n".join(parts).encode())


def _match(run: _Run, raw: Sequence[RawSheet]) -> tuple[list[tuple[RawSheet, Kind]], list[Fault]]:
    """Mapping of each sheet, and a fault for each sheet that has none."""
    matched: list[tuple[RawSheet, Kind]] = []
    faults: list[Fault] = []
    for sheet in raw:
        ranked = find_mapping(sheet, run.kinds)
        complete = [match for match in ranked if match.complete]
        complete = [match for match in complete if run.kind in (None, match.mapping.name)]
        if len(complete) > 1 and complete[0].confidence == complete[1].confidence:
            names = ", ".join(match.mapping.name for match in complete[:3])
            found, expected = f"what can be {names}", "headers of one kind"
            faults.append(Fault(_place(sheet), found, expected, "Say which with 'kind'."))
        elif complete:
            matched.append((sheet, complete[0].mapping))
        else:
            near = ranked[0].mapping.name if ranked else "none"
            expected = "headers that a mapping knows" if run.kind is None else f"'{run.kind}'"
            remedy = f"Inspect it and complete a mapping; the nearest is {near}."
            faults.append(Fault(_place(sheet), "a sheet of no known kind", expected, remedy))
    if not raw:
        faults.append(Fault("file", "no sheet with anything in it", "a table", "Export it again."))
    return matched, faults


def _place(sheet: RawSheet) -> str:
    return f"{sheet.file}, sheet '{sheet.sheet}'" if sheet.sheet else sheet.file


def _describe_forgotten(source: Source, mark: ForgottenDelivery) -> ImportedFile:
    found = f"a file of which records were forgotten (known before {mark.before})"
    remedy = "Leave it out; 'restore_forgotten' takes all of it in again."
    fault = Fault(source.name, found, "not forgotten", remedy)
    return ImportedFile(source.name, "forgotten", mark.exported, faults=(fault,))


def _describe(
    source: Source, status: str, delivery: Delivery, faults: Sequence[Fault] = ()
) -> ImportedFile:
    counts = [Counts(s.read, s.accepted, s.rejected, s.repeated) for s in delivery.sheets]
    kinds = {sheet.sheet: sheet.kind for sheet in delivery.sheets}
    day = delivery.origin.exported
    return ImportedFile(source.name, status, day, kinds, add_counts(counts), tuple(faults))
