"""From the store to history tables: linked, brought together by comparison, validated."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.schema import Schema, Table, load_schema
from poverty_risk.sources.decisions import DECISIONS_FILE, read_decisions
from poverty_risk.sources.delivery import Delivery, StoredSheet
from poverty_risk.sources.following import Listing, Vanished, find_vanished, tells_households
from poverty_risk.sources.links import Links, People, find_links, link_records
from poverty_risk.sources.mapping import list_mappings, load_mapping
from poverty_risk.sources.membership import Presence, find_leavers
from poverty_risk.sources.snapshots import merge_parts
from poverty_risk.sources.store import Store
from poverty_risk.sources.told import Part, tells_members
from poverty_risk.tables import HistoryTables

__all__ = ["BuiltTable", "build_history", "build_tables", "describe_coverage", "link_people"]

logger = logging.getLogger(__name__)


Sheets = Sequence[tuple[Delivery, StoredSheet]]


@dataclass(frozen=True)
class BuiltTable:
    """What became of all that was told about one history table.

    Parameters
    ----------
    records
        History, not yet validated.
    unlinked
        Records of persons whom the archive does not have; they stay in the store.
    contradicted
        Rows against which the same delivery, or a later one of the same day, says otherwise.
    partial
        Kind and day of exports that lack too many members to tell who has left.
    moved, untold, townships, strange
        Households that exports no longer name (see `find_vanished`).
    """

    records: pa.Table
    unlinked: int
    contradicted: int
    partial: tuple[tuple[str, date], ...] = ()
    moved: int = 0
    untold: int = 0
    townships: int = 0
    strange: tuple[tuple[str, date], ...] = ()


def build_history(
    store: Store | str | Path,
    schema: Schema | str | Path = "archive",
    line: Mapping[int, float] | None = None,
    observed_to: str | pd.Timestamp | None = None,
) -> HistoryTables:
    """History tables of everything that was imported.

    Parameters
    ----------
    store
        The store or its folder.
    schema
        What is declared, or its name or path.
    line
        Poverty line by year in yuan per person and year.
    observed_to
        First day about which nothing is on record any more. By default the day after the last
        delivery that tells who is followed and who is at risk (the tables of `schema.follow_up` and
        of its cohorts); a later delivery of other tables does not make anybody followed for longer.

    Returns
    -------
    HistoryTables
        The validated history, the same in whatever order the deliveries of different days came.

    Raises
    ------
    HistoryError
        No store, damaged deliveries, nothing imported.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     with store.writing(b"0123456789abcdef"):
    ...         pass
    ...     try:
    ...         build_history(store)
    ...     except HistoryError as error:
    ...         print(error.faults[0].found)
    no delivery
    """
    store = store if isinstance(store, Store) else Store(store)
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    built = build_tables(store, declared)
    _log_losses(store, built)
    frames = {name: item.records for name, item in built.items() if item.records.num_rows}
    end = _find_end(_list_sheets(store), declared) if observed_to is None else observed_to
    return HistoryTables.from_frames(dict(frames), declared, line, end)


def build_tables(store: Store, schema: Schema) -> dict[str, BuiltTable]:
    """Bring together what all deliveries of a store tell, table by table.

    Parameters
    ----------
    store
        The store.
    schema
        What is declared; tables that it does not have are an error.

    Returns
    -------
    dict
        Records by table, and what could not become one.

    Raises
    ------
    HistoryError
        Damaged deliveries, nothing imported, or tables of another schema.
    """
    sheets = _list_sheets(store)
    told = {name for _, sheet in sheets for name in sheet.tables}
    place, unknown = f"store '{store.folder}'", sorted(told - set(schema.tables))
    if not sheets:
        raise HistoryError(Fault(place, "no delivery", "at least one", "Import a file first."))
    if unknown:
        expected = f"tables of the schema '{schema.name}'"
        remedy = "Use the schema with which the files were imported."
        raise HistoryError(Fault(place, ", ".join(unknown), expected, remedy))
    links = link_people(store, schema)
    return {
        name: _build_table(store, schema, name, links) for name in schema.tables if name in told
    }


def _build_table(store: Store, schema: Schema, name: str, links: Links) -> BuiltTable:
    table = schema.tables[name]
    sheets = [(item, sheet) for item, sheet in _list_sheets(store) if name in sheet.tables]
    is_state = any(name in sheet.states for _, sheet in sheets)
    parts, unlinked = [], 0
    for delivery, sheet in sheets:
        records = store.read_records(delivery, sheet, name)
        is_archive = table.entity == "village" or tells_archive(sheet, schema.tables)
        if not is_archive and "person_id" in records.column_names:
            records, lost = link_records(records, links)
            unlinked += lost
        day = delivery.origin.exported
        parts.append(
            Part(
                sheet.kind,
                day,
                delivery.number,
                records,
                linked=not is_archive,
                lagged=_is_lagged(sheet.kind),
            )
        )
    left: list[Part] = []
    partial: list[tuple[str, date]] = []
    if is_state and tells_members(table):
        left, partial = find_leavers(_read_presences(store, name, sheets), _find_deceased(parts))
    gone = Vanished((), 0, 0, 0)
    if is_state and tells_households(table):
        gone = find_vanished(_read_listings(store, name, sheets))
    merged = merge_parts(table, [*parts, *left, *gone.parts], is_state=is_state)
    return BuiltTable(
        merged.records,
        unlinked,
        merged.contradicted,
        tuple(partial),
        gone.moved,
        gone.untold,
        gone.townships,
        gone.strange,
    )


@functools.cache
def _is_lagged(kind: str) -> bool:
    """Whether the known dates of a kind are computed; a mapping of one's own is not known here."""
    if kind not in list_mappings():
        return False
    mapping = load_mapping(kind)
    return mapping.delivery == "feed" and mapping.known_date is None


def tells_archive(sheet: StoredSheet, tables: Mapping[str, Table]) -> bool:
    """Whether a sheet tells the state of members, so that others are linked to it."""
    return any(name in tables and tells_members(tables[name]) for name in sheet.states)


def link_people(store: Store, schema: Schema) -> Links:
    """Link the persons of all feeds of a store to its archive, with the decisions made so far.

    Parameters
    ----------
    store
        The store.
    schema
        What is declared.

    Returns
    -------
    Links
        Who is who.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     with store.writing(b"0123456789abcdef"):
    ...         pass
    ...     link_people(store, load_schema("archive")).persons.num_rows
    0
    """
    people = [
        People(
            sheet.kind,
            delivery.origin.exported,
            delivery.number,
            delivery.origin.file,
            store.read_people(delivery, sheet),
            is_archive=tells_archive(sheet, schema.tables),
        )
        for delivery, sheet in _list_sheets(store)
    ]
    return find_links(people, read_decisions(store.folder / DECISIONS_FILE))


def describe_coverage(store: Store) -> pd.DataFrame:
    """What was delivered of each kind, and where there is no history yet.

    Parameters
    ----------
    store
        The store.

    Returns
    -------
    pandas.DataFrame
        Per kind: ``deliveries``, ``first`` and ``last`` day of export, ``rows`` accepted,
        ``tells_state``, and ``is_snapshot``: the state of a single day, so that nothing is known of
        what was before or of what changed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     with store.writing(b"0123456789abcdef"):
    ...         pass
    ...     len(describe_coverage(store))
    0
    """
    rows = [
        {
            "kind": sheet.kind,
            "exported": delivery.origin.exported,
            "accepted": sheet.accepted,
            "tells_state": bool(sheet.states),
        }
        for delivery, sheet in _list_sheets(store)
    ]
    told = pd.DataFrame(rows, columns=["kind", "exported", "accepted", "tells_state"])
    by_kind = told.groupby("kind")
    coverage = pd.DataFrame(
        {
            "deliveries": by_kind["exported"].nunique(),
            "first": by_kind["exported"].min(),
            "last": by_kind["exported"].max(),
            "rows": by_kind["accepted"].sum(),
            "tells_state": by_kind["tells_state"].any(),
        }
    )
    coverage["is_snapshot"] = coverage["tells_state"].astype(bool) & (coverage["deliveries"] == 1)
    return coverage


def _list_sheets(store: Store) -> Sheets:
    return [(delivery, sheet) for delivery in store.deliveries() for sheet in delivery.sheets]


def _read_presences(store: Store, name: str, sheets: Sheets) -> list[Presence]:
    presences = []
    for delivery, sheet in sheets:
        if name in sheet.states:
            columns = ["person_id", "household_id"]
            people = store.read_people(delivery, sheet).select(columns)
            records = store.read_records(delivery, sheet, name).select(columns)
            both = pa.concat_tables([people.cast(records.schema), records])
            day = delivery.origin.exported
            presences.append(Presence(sheet.kind, day, delivery.number, both))
    return presences


def _read_listings(store: Store, name: str, sheets: Sheets) -> list[Listing]:
    listings = []
    for delivery, sheet in sheets:
        if name in sheet.states:
            records = store.read_records(delivery, sheet, name)
            columns = {"household_id", "township_id", "status"} & set(records.column_names)
            # A household all of whose rows were rejected is in the export nevertheless.
            people = store.read_people(delivery, sheet).select(["household_id"])
            both = [records.select(sorted(columns)), people]
            told = pa.concat_tables(both, promote_options="permissive")
            day = delivery.origin.exported
            listings.append(Listing(sheet.kind, day, delivery.number, told))
    return listings


def _find_deceased(parts: Sequence[Part]) -> pa.Table | None:
    found = []
    for part in parts:
        if "status" in part.records.column_names:
            dead = part.records.filter(pc.equal(part.records["status"], "deceased"))
            found.append(dead.select(["person_id", "known_date"]))
    return pa.concat_tables(found) if found else None


def _find_end(sheets: Sheets, schema: Schema) -> pd.Timestamp:
    """The day after the last delivery that tells who is followed and who is at risk."""
    # In the order of days of export, so that the last one stays.
    last = {name: item.origin.exported for item, sheet in sheets for name in sheet.tables}
    needed = {item.table for conditions in schema.cohorts.values() for item in conditions}
    needed |= {schema.follow_up.table} if schema.follow_up is not None else set()
    days = [last[name] for name in needed if name in last] or list(last.values())
    if not days:
        found, remedy = "no record", "See the faults of the import, and import a corrected file."
        raise HistoryError(Fault("store", found, "at least one accepted row", remedy))
    return pd.Timestamp(min(days) + timedelta(days=1))


def _log_losses(store: Store, built: Mapping[str, BuiltTable]) -> None:
    coverage = describe_coverage(store)
    if kinds := list(coverage.index[coverage["is_snapshot"]]):
        logger.warning("Told once only, so without history: %s.", ", ".join(kinds))
    for name, item in built.items():
        if item.unlinked:
            logger.warning("%s: %d records of nobody in the archive.", name, item.unlinked)
        if item.contradicted:
            logger.warning("%s: %d rows contradict others of the day.", name, item.contradicted)
        if item.moved:
            logger.info("%s: %d households no longer in whole exports.", name, item.moved)
        if item.untold:
            logger.warning(
                "%s: %d households of %d townships are in no later export: not followed any more.",
                name,
                item.untold,
                item.townships,
            )
        for kind, day in item.strange:
            logger.warning("%s of %s: most households are new; were ids changed?", kind, day)
        for kind, day in item.partial:
            logger.warning(
                "%s of %s lists only some members: nobody is said to have left.", kind, day
            )
