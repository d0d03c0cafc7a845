"""Rows of a sheet into typed records of history tables; what a record cannot hold is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.expressions import find_names
from poverty_risk.schema import ARROW_TYPES, Column, Schema, Table
from poverty_risk.sources.combining import choose_agreed, find_groups, reduce_values, to_array
from poverty_risk.sources.faults import HIDDEN, FaultLog
from poverty_risk.sources.fields import Fields, find_context
from poverty_risk.sources.kinds import Mapping as Kind
from poverty_risk.sources.kinds import TableRule
from poverty_risk.sources.rules import column_expressions
from poverty_risk.validation import EARLIEST, LATEST
from poverty_risk.windows import parse_days

__all__ = ["Outcome", "build_records", "find_dates", "find_key_columns"]

_IDS = ("household_id", "person_id")


@dataclass
class Outcome:
    """What became of the rows of a sheet.

    Parameters
    ----------
    records
        Records by history table.
    made, refused, same, shared
        Per row, whether it gave a record of its own, had one refused, said the same as an earlier
        row, or had a part in a record of several rows.
    """

    size: int
    records: dict[str, list[pa.Table]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.made, self.refused, self.same, self.shared = (
            np.zeros(self.size, dtype=bool) for _ in range(4)
        )


@dataclass(frozen=True)
class _Builder:
    kind: Kind
    schema: Schema
    fields: Fields
    computed: pa.Table
    exported: date
    log: FaultLog
    context: dict[str, tuple[str, pa.DataType]]


def find_dates(
    kind: Kind, rule: TableRule, fields: Fields, exported: date
) -> tuple[np.ndarray, np.ndarray]:
    """Day on which each row's event happened, and on which it was known; not a time where unknown.

    A month that is not over on the day of the export counts as known on its last day: so the same
    month of a later export is the same record.

    Parameters
    ----------
    kind
        The mapping.
    rule
        The rule of the table.
    fields
        What was read.
    exported
        Day of the export or delivery.
    """
    size = len(fields.rows)
    today = np.datetime64(exported, "D")
    event, is_month = np.full(size, np.datetime64("NaT", "D")), np.zeros(size, dtype=bool)
    for name in rule.event_date or ("exported",):
        days = _to_days(fields.columns[name])
        take = np.isnat(event) & ~np.isnat(days)
        event[take] = days[take]
        is_month[take] = fields.is_month.get(name, np.zeros(size, dtype=bool))[take]
    known = np.full(size, today)
    if kind.delivery == "feed":
        lag = np.timedelta64(parse_days(kind.reporting_lag or "0d"), "D")
        known = np.minimum(event + lag, today)
        if kind.known_date is not None:
            told = _to_days(fields.columns[kind.known_date])
            known = np.where(np.isnat(told), known, told)
    unfinished = is_month & (event > today)
    unfinished &= event.astype("datetime64[M]") == today.astype("datetime64[M]")
    known[unfinished] = event[unfinished]
    return event, known


def _to_days(column: pa.Array) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype("datetime64[D]")


def build_records(
    kind: Kind,
    schema: Schema,
    fields: Fields,
    computed: pa.Table,
    usable: np.ndarray,
    exported: date,
    log: FaultLog,
) -> Outcome:
    """Make the records of all rules of a mapping.

    Parameters
    ----------
    kind, schema
        What is declared.
    fields
        What was read.
    computed
        From `poverty_risk.sources.rules.compute_rules`.
    usable
        Rows that are not rejected already.
    exported
        Day of the export or delivery.
    log
        Takes what a record cannot hold.

    Returns
    -------
    Outcome
        Records, and what each row gave. A row whose own records were all refused, or that says what
        an earlier row says, has no part in records of several rows.
    """
    builder = _Builder(kind, schema, fields, computed, exported, log, find_context(kind))
    outcome = Outcome(len(fields.rows))
    # Rows that give a record of their own come first: whoever is refused there is refused entirely.
    for number, rule in sorted(enumerate(kind.tables), key=lambda item: item[1].rows == "many"):
        alone = outcome.refused | outcome.same
        taking_part = usable if rule.rows == "one" else usable & (outcome.made | ~alone)
        _build_rule(builder, number, rule, taking_part, outcome)
    return outcome


def _build_rule(
    builder: _Builder, number: int, rule: TableRule, usable: np.ndarray, outcome: Outcome
) -> None:
    positions = np.flatnonzero(usable & _condition(builder, number))
    table, kept = _make_rows(builder, number, rule, positions)
    if rule.rows == "one":
        outcome.refused[np.setdiff1d(positions, kept)] = True
        table, kept = _refuse_conflicts(builder, rule, table, kept, outcome)
        outcome.made[kept] = True
    else:
        outcome.shared[kept] = True
        table = _combine_rows(builder, rule, table, kept)
    outcome.records.setdefault(rule.table, []).append(table)


def _condition(builder: _Builder, number: int) -> np.ndarray:
    name = f"where_{number}"
    size = len(builder.fields.rows)
    if name not in builder.computed.column_names:
        return np.full(size, True)
    mask: np.ndarray = builder.computed[name].fill_null(False).to_numpy()
    return mask.astype(bool)


def _headers(builder: _Builder, text: str) -> str:
    """Headers of the columns that an expression is made of."""
    context = builder.context
    used = [name for name in sorted(find_names(text)) if name in context]
    names = [source for name in used for source in _sources(builder, name)]
    told = [builder.fields.headers[n] for n in dict.fromkeys(names) if n in builder.fields.headers]
    return " + ".join(told)


def _make_rows(
    builder: _Builder, number: int, rule: TableRule, positions: np.ndarray
) -> tuple[pa.Table, np.ndarray]:
    """One typed record per row, and the positions of the rows that gave one."""
    declared = builder.schema.tables[rule.table]
    take = pa.array(positions)
    refused = _check_dates(builder, rule, positions)
    columns: dict[str, pa.Array] = {}
    for name in _id_names(builder, rule):
        columns[name] = builder.fields.columns[f"_{name}"].take(take)
    event, known = find_dates(builder.kind, rule, builder.fields, builder.exported)
    columns["event_date"] = pa.array(event[positions], pa.date32())
    columns["known_date"] = pa.array(known[positions], pa.date32())
    rows = builder.fields.rows[positions]
    for column, text in column_expressions(rule, builder.schema).items():
        item = declared.columns[column]
        values = builder.computed[f"column_{number}_{column}"].combine_chunks().take(take)
        values, faulty, expected = _fit(values, item)
        header = _headers(builder, text) or column
        builder.log.add(rows[faulty], header, expected, HIDDEN)
        if item.required:
            missing = ~values.is_valid().to_numpy(zero_copy_only=False)
            builder.log.add(rows[missing & ~faulty & ~refused], header, "a value (required)", "")
            refused |= missing
        columns[column] = values
    columns["source_row"] = pa.array(rows, pa.int64())
    kept = ~refused
    return pa.table(columns).filter(pa.array(kept)), positions[kept]


def _id_names(builder: _Builder, rule: TableRule) -> tuple[str, ...]:
    """Ids of the records; in a feed also the person, by whom the household is found."""
    own = builder.schema.tables[rule.table].id_columns
    return tuple(name for name in _IDS if name in own or builder.kind.delivery == "feed")


def _check_dates(builder: _Builder, rule: TableRule, positions: np.ndarray) -> np.ndarray:
    """Which rows have no possible day, each told."""
    event, known = find_dates(builder.kind, rule, builder.fields, builder.exported)
    event, known = event[positions], known[positions]
    rows, headers = builder.fields.rows[positions], builder.fields.headers
    sources = [source for name in rule.event_date for source in _sources(builder, name)]
    header = " + ".join(headers[name] for name in dict.fromkeys(sources) if name in headers)
    today = np.datetime64(builder.exported, "D")
    earliest, latest = np.datetime64(EARLIEST), np.datetime64(LATEST)
    none = np.isnat(event)
    outside = ~none & ((event < earliest) | (event >= latest))
    future = ~none & ~outside & (known < event) & (event > today)
    early = ~none & ~outside & ~future & (known < event)
    late = ~none & ~outside & (known > today) & (known != event)
    reasons = (
        (none, "a day on which it happened"),
        (outside, f"a date from {EARLIEST} to before {LATEST}"),
        (future, f"a day that was over on {today}, when the file was exported"),
        (early, "known on or after the day it happened"),
        (late, f"known by {today}, when the file was exported"),
    )
    for mask, expected in reasons:
        found = ["" if np.isnat(day) else str(day) for day in event[mask]]
        builder.log.add(rows[mask], header or "event_date", expected, found)
    bad: np.ndarray = none | outside | future | early | late
    return bad


def _sources(builder: _Builder, name: str) -> tuple[str, ...]:
    """Fields of which a value is made."""
    kinds = builder.kind.derived
    derived = kinds.get(name, kinds.get(name.rpartition("_")[0]))
    return (builder.context[name][0],) if derived is None else derived.names


def _fit(values: pa.Array, item: Column) -> tuple[pa.Array, np.ndarray, str]:
    """Values in the declared type, null where they do not fit; which these are; what was expected."""
    type_ = ARROW_TYPES[item.kind]
    fits = pa.array(np.full(len(values), True))
    expected = []
    if item.kind == "integer" and pa.types.is_floating(values.type):
        fits = pc.fill_null(pc.equal(values, pc.round(values)), True)
        values = pc.if_else(fits, values, None)
        expected.append("a whole number")
    values = values.cast(type_)
    if item.codes:
        fits = pc.and_(fits, pc.or_(values.is_null(), pc.is_in(values, pa.array(item.codes))))
        expected.append(f"one of {', '.join(item.codes)}")
    if item.min is not None:
        fits = pc.and_(fits, pc.fill_null(pc.greater_equal(values, item.min), True))
        expected.append(f">= {item.min:,.15g}")
    if item.max is not None:
        fits = pc.and_(fits, pc.fill_null(pc.less_equal(values, item.max), True))
        expected.append(f"<= {item.max:,.15g}")
    faulty = ~fits.to_numpy(zero_copy_only=False)
    if faulty.any():
        values = pc.if_else(fits, values, None)
    return values, faulty, " and ".join(expected)


def find_key_columns(declared: Table, table: pa.Table) -> list[pa.Array]:
    """Columns that name the fact of a record; whose household is unknown is kept apart by person.

    Parameters
    ----------
    declared
        The history table.
    table
        Its records.
    """
    columns = [to_array(table[name]) for name in declared.key]
    if "household_id" in declared.key and "person_id" in table.column_names:
        at = declared.key.index("household_id")
        columns[at] = pc.coalesce(columns[at], to_array(table["person_id"]))
    return columns


def _refuse_conflicts(
    builder: _Builder, rule: TableRule, table: pa.Table, kept: np.ndarray, outcome: Outcome
) -> tuple[pa.Table, np.ndarray]:
    """Of rows about the same record the first stays; another that says otherwise is told.

    What became known on another day is a correction, and stays.
    """
    declared = builder.schema.tables[rule.table]
    content = [n for n in table.column_names if n not in ("source_row", "known_date")]
    same = _is_later([to_array(table[name]) for name in content], table.num_rows)[0]
    outcome.same[kept[same]] = True
    table, kept = table.filter(pa.array(~same)), kept[~same]
    keys = [*find_key_columns(declared, table), to_array(table["known_date"])]
    differs, leading = _is_later(keys, table.num_rows)
    rows = builder.fields.rows[kept]
    expected = [
        f"one record of '{rule.table}' per {', '.join(declared.key)}; "
        f"row {rows[at]} says something else"
        for at in leading[differs]
    ]
    builder.log.add(rows[differs], rule.table, expected, "")
    outcome.refused[kept[differs]] = True
    return table.filter(pa.array(~differs)), kept[~differs]


def _is_later(columns: list[pa.Array], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether an earlier row has the same values, and which is the first that has them."""
    groups, first = find_groups(columns, size)
    leading = first[groups] if size else groups
    return leading != np.arange(size), leading


def _combine_rows(
    builder: _Builder, rule: TableRule, table: pa.Table, kept: np.ndarray
) -> pa.Table:
    """One record per key of all rows that tell of it."""
    declared = builder.schema.tables[rule.table]
    groups, first = find_groups(find_key_columns(declared, table), table.num_rows)
    if len(first) == table.num_rows:
        return table
    rows = builder.fields.rows[kept]
    single = table.take(pa.array(first))
    expressions = column_expressions(rule, builder.schema)
    for at, name in enumerate(table.column_names):
        if name == "known_date":
            # All of it is known when the last part is.
            single = single.set_column(
                at, name, reduce_values(to_array(table[name]), groups, "max")
            )
        if name in declared.key or name not in expressions:
            continue
        how = rule.combine.get(name, "agree")
        column = to_array(table[name])
        if how in ("agree", "head"):
            values, contradicts = choose_agreed(column, groups)
            if how == "head":
                values = _prefer_head(builder, column, groups, kept, values)
            else:
                header = _headers(builder, expressions[name]) or name
                expected = f"what most rows of the same {', '.join(declared.key)} say"
                builder.log.add(rows[contradicts], header, expected, HIDDEN)
        else:
            values = reduce_values(column, groups, how)
        single = single.set_column(at, name, values)
    return single


def _prefer_head(
    builder: _Builder, column: pa.Array, groups: np.ndarray, kept: np.ndarray, agreed: pa.Array
) -> pa.Array:
    heads = builder.fields.columns.get("is_head")
    if heads is None:
        return agreed
    is_head = heads.take(pa.array(kept)).fill_null(False)
    of_head, _ = choose_agreed(pc.if_else(is_head, column, None), groups)
    return pc.coalesce(of_head, agreed)
