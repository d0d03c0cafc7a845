"""Forget in an import store: the same rules as for a history (see `retention`), in every delivery.

Of a delivery that was imported before the day only what is in force stays; one of which nothing stays is
removed. Counts of rows in its manifest stay: they say what was read, not what is kept. Persons, private
ids and faults of rejected rows go with their records. What is forgotten stays so: the store keeps marks
(see `sources.forgotten`), and an import of the same file, or of rows of the same households, does not
bring them back unless it is told to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.retention import (
    REMOVED,
    BeforeDay,
    Forgotten,
    OfHouseholds,
    RetentionPolicy,
    count_marks,
)
from poverty_risk.rewriting import rewrite_store
from poverty_risk.schema import Schema, load_schema
from poverty_risk.sources.forgotten import (
    Tombstones,
    drop_forgotten,
    read_tombstones,
    write_tombstones,
)
from poverty_risk.sources.raw import Converted
from poverty_risk.sources.store import Store
from poverty_risk.windows import parse_as_of_dates

__all__ = ["forget_store_before", "forget_store_household"]

ID = "household_id"
Deliveries = list[tuple[Converted, ...]]


def forget_store_before(
    folder: str | Path,
    key: bytes,
    date: str | pd.Timestamp,
    *,
    schema: Schema | str | Path = "archive",
    policy: RetentionPolicy | None = None,
) -> Forgotten:
    """Remove the records of an import store that were known before a day.

    Parameters
    ----------
    folder
        The store.
    key
        The key of its ids.
    date
        The day; what was known on it stays.
    schema
        What is declared, or its name or path.
    policy
        What stays because it is in force; the shipped policy by default.

    Returns
    -------
    Forgotten
        Counts by table, over all deliveries.

    Raises
    ------
    HistoryError
        The store cannot be read or written; nothing was changed.
    """
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    day = parse_as_of_dates([date])[0]
    plan = BeforeDay(declared, policy or RetentionPolicy.load(), day)
    return _forget(folder, key, declared, plan, day)


def forget_store_household(
    folder: str | Path,
    key: bytes,
    households: Iterable[str],
    *,
    schema: Schema | str | Path = "archive",
    missing_ok: bool = False,
) -> Forgotten:
    """Remove everything of some households from an import store.

    Parameters
    ----------
    folder
        The store.
    key
        The key of its ids.
    households
        Their ids as in the history.
    schema
        What is declared, or its name or path.
    missing_ok
        Whether households without any record are no fault.

    Returns
    -------
    Forgotten
        Counts by table, over all deliveries.

    Raises
    ------
    HistoryError
        The store holds none of a household, or cannot be read or written; nothing was changed.
    """
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    plan = OfHouseholds(frozenset(map(str, households)), missing_ok=missing_ok)
    return _forget(folder, key, declared, plan, None)


def _forget(
    folder: str | Path,
    key: bytes,
    schema: Schema,
    plan: OfHouseholds | BeforeDay,
    day: pd.Timestamp | None,
) -> Forgotten:
    done: list[Forgotten] = []

    def change(deliveries: Deliveries) -> Deliveries:
        tables = _put_together(deliveries, schema)
        marks = plan.mark(tables)
        done.append(count_marks(tables, marks))
        if isinstance(plan, OfHouseholds):
            plan.check(done[0])
        kept = _filter(deliveries, tables, marks)
        marked = _mark_forgotten(folder, deliveries, kept, plan, day)
        if isinstance(plan, OfHouseholds):
            # Files that name no household tell of these persons nevertheless.
            kept = [tuple(_without_persons(part, marked) for part in parts) for parts in kept]
        left = {h for parts in kept for part in parts for h in _ids_of(part)}
        return [_without_others(parts, left, day) for parts in kept]

    rewrite_store(folder, key, change)
    return done[0]


def _mark_forgotten(
    folder: str | Path,
    deliveries: Deliveries,
    kept: Deliveries,
    plan: OfHouseholds | BeforeDay,
    day: pd.Timestamp | None,
) -> Tombstones:
    """Mark in the store what is about to be forgotten, before it is: so nothing can come between."""
    marks = read_tombstones(folder)
    if isinstance(plan, OfHouseholds):
        columns = ["person_id", ID, "certificate"]
        people = [part.people.select(columns) for parts in deliveries for part in parts]
        if people:
            marks = marks.with_households(plan.households, pa.concat_tables(people))
    elif day is not None:
        stored = sorted(Store(folder).deliveries(), key=lambda item: item.number)
        pairs = zip(stored, deliveries, kept, strict=True)
        lost = [item.origin for item, old, new in pairs if _count_rows(new) < _count_rows(old)]
        marks = marks.with_deliveries(lost, day.date())
    write_tombstones(folder, marks)
    return marks


def _count_rows(sheets: tuple[Converted, ...]) -> int:
    return sum(table.num_rows for sheet in sheets for table in sheet.records.values())


def _without_persons(sheet: Converted, marks: Tombstones) -> Converted:
    left = drop_forgotten(sheet, marks)
    return dataclasses.replace(sheet, records=left.records, people=left.people)


def _put_together(deliveries: Deliveries, schema: Schema) -> dict[str, pa.Table]:
    """The records of all deliveries by table, for rules that look at all of them."""
    parts: dict[str, list[pa.Table]] = {}
    for sheet in (sheet for sheets in deliveries for sheet in sheets):
        for name, table in sheet.records.items():
            if ID not in table.column_names:
                continue
            for column in ("event_date", "known_date"):
                if column not in table.column_names:
                    # The state on the day of the export, known on that day.
                    days = pa.array([sheet.exported] * table.num_rows, pa.date32())
                    table = table.append_column(column, days)
            parts.setdefault(name, []).append(table)
    together = {}
    for name in schema.tables:
        if name in parts:
            table = pa.concat_tables(parts[name], promote_options="permissive")
            for column in schema.tables[name].key:
                if column not in table.column_names:
                    table = table.append_column(column, pa.nulls(table.num_rows, pa.string()))
            together[name] = table
    return together


def _filter(
    deliveries: Deliveries, tables: Mapping[str, pa.Table], marks: Mapping[str, np.ndarray]
) -> Deliveries:
    """The deliveries without removed records; marks follow the order of `_put_together`."""
    start = dict.fromkeys(tables, 0)
    changed = []
    for sheets in deliveries:
        kept = []
        for sheet in sheets:
            records = {}
            for name, table in sheet.records.items():
                records[name] = table
                if name in start and ID in table.column_names:
                    own = marks[name][start[name] : start[name] + table.num_rows]
                    start[name] += table.num_rows
                    records[name] = table.filter(pa.array(own != REMOVED))
            kept.append(dataclasses.replace(sheet, records=records))
        changed.append(tuple(kept))
    return changed


def _ids_of(sheet: Converted) -> set[str]:
    """Ids of the households and persons that a sheet tells records of."""
    return {
        value
        for table in sheet.records.values()
        for column in (ID, "person_id")
        if column in table.column_names
        for value in table[column].unique().to_pylist()
        if value is not None
    }


def _without_others(
    sheets: tuple[Converted, ...], left: set[str], day: pd.Timestamp | None
) -> tuple[Converted, ...]:
    """Sheets without persons, private ids and faults that have no record any more."""
    known = pa.array(sorted(left), pa.string())
    kept, linked = [], set(left)
    for sheet in sheets:
        people = sheet.people.filter(pc.is_in(sheet.people["person_id"], value_set=known))
        people = people.filter(pc.or_(people[ID].is_null(), pc.is_in(people[ID], value_set=known)))
        linked |= set(people["certificate"].to_pylist()) - {None}
        # A rejected row cannot be told whose it is: it goes with the day of its file.
        old = day is not None and sheet.exported < day.date()
        rejected = sheet.rejected.slice(0, 0) if old else sheet.rejected
        kept.append(dataclasses.replace(sheet, people=people, rejected=rejected))
    ids = pa.array(sorted(linked), pa.string())
    kept = [
        dataclasses.replace(s, private=s.private.filter(pc.is_in(s.private["id"], value_set=ids)))
        for s in kept
    ]
    empty = not any(table.num_rows for sheet in kept for table in sheet.records.values())
    return () if empty else tuple(kept)
