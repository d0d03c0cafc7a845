"""One raw table against its declaration: typed, sorted, corrections linked, rejected rows kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.database import open_database
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.raw_text import BLANKS, LARGEST_EXACT, with_local_days
from poverty_risk.schema import ARROW_TYPES, Column, Table

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "REJECTED_COLUMNS",
    "ValidatedTable",
    "validate_table",
]

REJECTED_COLUMNS = ("table", "row", "column", "found", "expected")
EARLIEST, LATEST = "1900-01-01", "2200-01-01"
"""Dates outside are typing errors: nobody alive was born before, no plan reaches beyond."""

LONGEST_FOUND = 200

_KINDS = {
    "string": ("VARCHAR", "text (ids kept as numbers: whole and of at most 15 digits)"),
    "category": ("VARCHAR", "text"),
    "number": ("DOUBLE", "a finite number"),
    "integer": ("BIGINT", "a whole number"),
    "boolean": ("BOOLEAN", "true or false"),
    "date": ("DATE", "a date such as 2023-05-31"),
}
"""SQL type of each kind of column, and what a fault says was expected."""


@dataclass(frozen=True)
class ValidatedTable:
    """What became of a raw table.

    Parameters
    ----------
    accepted
        Records sorted by id, event date, known date and all other columns, with
        ``superseded_date`` and ``record_order`` added.
    rejected
        One line per fault: table, row (position in the raw table), column, found, expected.
    rejected_rows
        The raw rows that were rejected, with their position in column ``row``.
    """

    accepted: pa.Table
    rejected: pd.DataFrame
    rejected_rows: pa.Table


@dataclass(frozen=True)
class _Rule:
    column: str
    faulty: str
    expected: str


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(column: str) -> str:
    """SQL for a raw cell as text; blank is missing."""
    return f"NULLIF(TRIM(CAST(raw.{_quote(column)} AS VARCHAR), '{BLANKS}' || chr(0)), '')"


def _given(column: str, item: Column, kind: pa.DataType) -> str:
    """SQL for whether a raw cell holds anything; NaN is missing, as a number and as text."""
    if pa.types.is_null(kind):
        return "FALSE"
    if pa.types.is_floating(kind):
        return f"(raw.{_quote(column)} IS NOT NULL AND NOT isnan(raw.{_quote(column)}))"
    if item.kind in ("number", "integer"):
        return f"COALESCE(LOWER({_text(column)}) <> 'nan', FALSE)"
    return f"{_text(column)} IS NOT NULL"


def _typed(column: str, item: Column, kind: pa.DataType) -> str:
    """SQL for the typed value of a raw cell; what cannot be read is missing here."""
    sql_type = _KINDS[item.kind][0]
    if pa.types.is_null(kind):
        return f"CAST(NULL AS {sql_type})"
    raw, text = f"raw.{_quote(column)}", _text(column)
    if item.kind in _NATIVE and _NATIVE[item.kind](kind):
        text = raw  # it already has its type: no detour over text
    match item.kind:
        case "number":
            number = f"TRY_CAST({text} AS DOUBLE)"
            return f"CASE WHEN isfinite({number}) THEN {number} END"
        case "integer" if text != raw:
            # A cast alone would round 1.5 to 2; a fraction is a fault, and 3.0 is the integer 3.
            number = f"TRY_CAST({text} AS DOUBLE)"
            return f"CASE WHEN {number} = ROUND({number}) THEN TRY_CAST({text} AS BIGINT) END"
        case "boolean" if text != raw:
            # Flags with gaps come as 1.0 and 0.0.
            return f"TRY_CAST(regexp_replace({text}, '\\.0+$', '') AS BOOLEAN)"
        case "string" | "category" if pa.types.is_floating(kind):
            # Ids with gaps come as 123.0: the same id as 123 in another table.
            whole = f"{raw} = ROUND({raw}) AND ABS({raw}) < {LARGEST_EXACT}"
            return f"CASE WHEN {whole} THEN CAST(CAST({raw} AS BIGINT) AS VARCHAR) END"
    # A time of day is dropped: the package counts in whole days.
    return f"TRY_CAST({text} AS {sql_type})"


_NATIVE = {
    "number": pa.types.is_floating,
    "integer": pa.types.is_integer,
    "boolean": pa.types.is_boolean,
    "date": lambda kind: pa.types.is_date(kind) or pa.types.is_timestamp(kind),
}


def _rules(table: Table, raw: pa.Table) -> list[_Rule]:
    rules: list[_Rule] = []
    for column, item in table.all_columns.items():
        name, given = f"typed.{_quote(column)}", "FALSE"
        if column in raw.column_names:
            given = _given(column, item, raw.schema.field(column).type)
        rules.append(_Rule(column, f"{name} IS NULL AND {given}", _KINDS[item.kind][1]))
        if item.required:
            rules.append(_Rule(column, f"{name} IS NULL AND NOT {given}", "a value (required)"))
        if item.codes:
            codes = ", ".join(_literal(code) for code in item.codes)
            rules.append(_Rule(column, f"{name} NOT IN ({codes})", f"one of {codes}"))
        if item.min is not None:
            rules.append(_Rule(column, f"{name} < {item.min!r}", f">= {item.min:,.15g}"))
        if item.max is not None:
            rules.append(_Rule(column, f"{name} > {item.max!r}", f"<= {item.max:,.15g}"))
        if item.kind == "date":
            inside = f"{name} < DATE '{EARLIEST}' OR {name} >= DATE '{LATEST}'"
            rules.append(_Rule(column, inside, f"a date from {EARLIEST} to before {LATEST}"))
    rules.append(
        _Rule(
            "known_date",
            'typed."known_date" < typed."event_date"',
            "known on or after the day it happened",
        )
    )
    return rules


def _load(connection: duckdb.DuckDBPyConnection, table: Table, raw: pa.Table) -> list[_Rule]:
    """Make the typed table, and the list of the rows that break a rule."""
    numbers = pa.array(np.arange(raw.num_rows, dtype=np.int64))
    connection.register("raw_rows", with_local_days(raw).append_column("__row", numbers))
    types = {field.name: field.type for field in raw.schema}
    selected = [
        f"{_typed(column, item, types.get(column, pa.null()))} AS {_quote(column)}"
        for column, item in table.all_columns.items()
    ]
    connection.execute(
        f"CREATE TEMP TABLE typed AS SELECT raw.__row, {', '.join(selected)} FROM raw_rows AS raw"
    )
    rules = _rules(table, raw)
    faulty = " OR ".join(f"COALESCE({rule.faulty}, FALSE)" for rule in rules)
    connection.execute(
        "CREATE TEMP TABLE faulty_rows AS SELECT typed.__row FROM typed "
        f"JOIN raw_rows AS raw ON raw.__row = typed.__row WHERE {faulty}"
    )
    return rules


def _masked(text: str) -> str:
    """SQL for what a cell holds, without the numbers and names that stand in a wrong column.

    Codes and numbers of a schema are not written in Han characters; what is may be somebody's name.
    """
    numbers = f"regexp_replace({text}, '([0-9]{{2}})[0-9]{{5,}}([0-9][0-9Xx])', '\\1***\\2', 'g')"
    return f"CASE WHEN regexp_matches({text}, '\\p{{Han}}') THEN '***' ELSE {numbers} END"


def _describe_faults(
    connection: duckdb.DuckDBPyConnection, name: str, table: Table, rules: list[_Rule]
) -> pd.DataFrame:
    """One line per fault of the rejected rows; values of sensitive columns are hidden."""
    parts = []
    columns = table.all_columns
    raw_columns = {c for (c, *_) in connection.execute("DESCRIBE raw_rows").fetchall()}
    for rule in rules:
        found = "NULL"
        if columns[rule.column].sensitive:
            found = _literal("(hidden)")
        elif rule.column in raw_columns:
            found = _masked(f"LEFT(CAST(raw.{_quote(rule.column)} AS VARCHAR), {LONGEST_FOUND})")
        parts.append(
            f'SELECT {_literal(name)} AS "table", typed.__row AS "row", '
            f'{_literal(rule.column)} AS "column", {found} AS found, '
            f"{_literal(rule.expected)} AS expected "
            "FROM typed JOIN raw_rows AS raw ON raw.__row = typed.__row "
            f"JOIN faulty_rows ON faulty_rows.__row = typed.__row WHERE COALESCE({rule.faulty}, FALSE)"
        )
    query = " UNION ALL ".join(parts) + ' ORDER BY "row", "column", expected'
    lines: pd.DataFrame = connection.sql(query).to_arrow_table().to_pandas()
    return lines


def _sort(connection: duckdb.DuckDBPyConnection, table: Table) -> pa.Table:
    """Accepted rows in the canonical order that makes every later step independent of file order."""
    columns = list(table.all_columns)
    first = [table.id_columns[0], "event_date", "known_date"]
    order = first + [column for column in columns if column not in first]
    names = ", ".join(_quote(column) for column in columns)
    by = ", ".join(_quote(column) for column in order)
    return connection.sql(
        f"SELECT {names}, __row FROM typed ANTI JOIN faulty_rows USING (__row) ORDER BY {by}, __row"
    ).to_arrow_table()


def _mark_repeats(ordered: pa.Table) -> np.ndarray:
    """True where a record equals the one before it in every column."""
    same = np.ones(max(ordered.num_rows - 1, 0), dtype=bool)
    for column in ordered.column_names:
        if column == "__row" or not same.any():
            continue
        values = ordered[column].combine_chunks()
        before, after = values.slice(0, len(values) - 1), values.slice(1)
        equal = pc.fill_null(pc.equal(before, after), False)
        both_missing = pc.and_(pc.is_null(before), pc.is_null(after))
        same &= pc.or_(equal, both_missing).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(min(ordered.num_rows, 1), dtype=bool), same])


def _supersede(
    connection: duckdb.DuckDBPyConnection, table: Table, ordered: pa.Table
) -> tuple[pa.Array, np.ndarray]:
    """When each record was corrected by a later known one with the same key."""
    superseded = np.full(ordered.num_rows, np.datetime64("NaT", "D"), dtype="datetime64[D]")
    connection.register("ordered", ordered)
    key = ", ".join(_quote(column) for column in table.key)
    hashes = connection.sql(f"SELECT hash({key}) AS h FROM ordered").to_arrow_table()["h"]
    candidates = pd.Series(hashes.to_numpy()).duplicated(keep=False).to_numpy()
    if candidates.any():
        subset = ordered.append_column("__order", pa.array(np.arange(ordered.num_rows)))
        connection.register("candidates", subset.filter(pa.array(candidates)))
        found = connection.sql(
            f"SELECT __order, LEAD(known_date) OVER (PARTITION BY {key} "
            "ORDER BY known_date, __order) AS superseded_date FROM candidates"
        ).to_arrow_table()
        superseded[found["__order"].to_numpy()] = found["superseded_date"].to_numpy()
    known = ordered["known_date"].to_numpy()
    return pa.array(superseded, type=pa.date32()), superseded == known


def _refuse_rows(name: str, ordered: pa.Table, mask: np.ndarray, reason: str) -> pd.DataFrame:
    rows = ordered["__row"].to_numpy()[mask]
    expected = "one record per fact and known date"
    told = {"table": name, "row": rows, "column": "", "found": reason, "expected": expected}
    return pd.DataFrame(told)


def validate_table(name: str, table: Table, raw: pa.Table) -> ValidatedTable:
    """Type, check, sort and link one raw table whose columns are in order.

    Parameters
    ----------
    name
        Table name.
    table
        Its declaration.
    raw
        Raw rows; every column may be text. Blank text and NaN are missing values.

    Returns
    -------
    ValidatedTable
        Accepted records and everything that was rejected. ``len(raw)`` equals the number of
        accepted plus the number of rejected rows.

    Raises
    ------
    HistoryError
        A column is of a type that cannot hold any declared kind, such as a length of time.

    Notes
    -----
    A record equal to another in every column is rejected as a repeat. Of two records with the same
    key and the same known date, the later in canonical order stays; the other is rejected as a
    conflict, because nobody can tell which one the office believed.
    """
    import duckdb  # noqa: PLC0415 - a history that was validated before needs none

    with open_database() as connection:
        try:
            rules = _load(connection, table, raw)
        except duckdb.Error as error:
            # Without its message, which may quote values.
            types = ", ".join(f"{field.name} {field.type}" for field in raw.schema)
            reason = f"{type(error).__name__} among the columns {types}"
            raise HistoryError(
                Fault(f"table '{name}'", reason, "text, numbers and dates", "Convert the columns.")
            ) from None
        rejected = [_describe_faults(connection, name, table, rules)]
        ordered = _sort(connection, table)
        repeats = _mark_repeats(ordered)
        rejected.append(_refuse_rows(name, ordered, repeats, "a repeat of another record"))
        ordered = ordered.filter(pa.array(~repeats))
        superseded, conflicts = _supersede(connection, table, ordered)
    rejected.append(_refuse_rows(name, ordered, conflicts, "a conflict with another record"))
    kept = ordered.append_column("superseded_date", superseded).filter(pa.array(~conflicts))
    accepted = kept.drop_columns(["__row"])
    accepted = accepted.append_column(
        "record_order", pa.array(np.arange(accepted.num_rows, dtype=np.int64))
    )
    target = {column: ARROW_TYPES[item.kind] for column, item in table.all_columns.items()}
    target |= {"superseded_date": pa.date32(), "record_order": pa.int64()}
    accepted = accepted.cast(pa.schema(list(target.items()))).combine_chunks()
    lines = pd.concat([part for part in rejected if len(part)] or [rejected[0]], ignore_index=True)
    lines = lines.reindex(columns=list(REJECTED_COLUMNS)).sort_values("row", kind="stable")
    lost = np.unique(lines["row"].to_numpy(dtype=np.int64))
    rows = raw.take(pa.array(lost)).append_column("row", pa.array(lost))
    return ValidatedTable(accepted, lines.reset_index(drop=True), rows)
