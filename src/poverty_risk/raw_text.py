"""Raw cells as text: the same text for the same cell, whatever type the file that it came in gave it."""

from __future__ import annotations

import re
from collections.abc import Container

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.database import open_database

__all__ = ["BLANKS", "LARGEST_EXACT", "decode", "name_any", "to_text", "with_local_days"]

BLANKS = " \t\r\n\u00a0\u3000\ufeff"
"""What stands around a value in exports and is none, beside the NUL that some fill fields up with: also
full-width and non-breaking spaces."""

LARGEST_EXACT = 2**53
"""Floating-point numbers beyond have lost digits: an id that was read as such a number is no id."""

_BETWEEN = re.compile(r"[^\w.\-]+")
"""What stands between values where a whole row, or a list, got into one cell."""


def with_local_days(raw: pa.Table) -> pa.Table:
    """Times with a time zone as the office's clock showed them: its day counts, not that of UTC."""
    for at, field in enumerate(raw.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            raw = raw.set_column(at, field.name, pc.local_timestamp(raw[at]))
    return raw


def decode(table: pa.Table) -> pa.Table:
    """Without dictionaries, which keep the values of rows that are gone."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table[at].cast(field.type.value_type))
    return table


def to_text(table: pa.Table, *, trimmed: bool = False) -> pa.Table:
    """All cells as text, newly written.

    Parameters
    ----------
    table
        Raw rows; a column ``row`` of positions stays as it is.
    trimmed
        Without the blanks around a value; blank cells are missing.

    Returns
    -------
    Table
        In the order of the rows. Whole numbers have no point, days no time, and NaN is missing.

    Examples
    --------
    >>> import pyarrow as pa
    >>> to_text(pa.table({"household_id": [1000.0, None], "kind": [" flood", ""]}), trimmed=True).to_pydict()
    {'household_id': ['1000', None], 'kind': ['flood', None]}
    """
    raw = decode(with_local_days(table))
    columns = {}
    for field in raw.schema:
        values = raw[field.name].combine_chunks()
        if field.name != "row":
            texts = _write(values)
            # Built anew: where Arrow marks a text as missing, its bytes stay.
            values = _trim(texts) if trimmed else pa.array(texts.to_pylist(), pa.string())
        columns[field.name] = values
    return pa.table(columns)


def _trim(texts: pa.Array) -> pa.Array:
    cut = pc.utf8_trim(texts, characters=BLANKS + "\0")
    return pc.if_else(pc.equal(cut, ""), pa.scalar(None, pa.string()), cut)


def _write(values: pa.Array) -> pa.Array:
    """Cells as text; kinds that files seldom have by a query, which takes longer to begin than to answer."""
    kind = values.type
    if kind in (pa.string(), pa.large_string(), pa.string_view()):
        return values.cast(pa.string())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date(kind):
        return values.cast(pa.string())
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.string())
    if pa.types.is_floating(kind):
        return _write_numbers(values.cast(pa.float64()))
    if pa.types.is_timestamp(kind):
        days = values.cast(pa.date32(), safe=False)
        clock = pc.strftime(values.cast(pa.timestamp("s"), safe=False), "%Y-%m-%d %H:%M:%S")
        midnight = pc.equal(days.cast(kind), values)
        return pc.if_else(midnight, days.cast(pa.string()), clock)
    with open_database() as connection:
        connection.register("raw", pa.table({"cell": values, "place": np.arange(len(values))}))
        query = "SELECT CAST(cell AS VARCHAR) AS text FROM raw ORDER BY place"
        found: pa.Table = connection.sql(query).to_arrow_table()
    return found["text"].combine_chunks()


def _write_numbers(values: pa.Array) -> pa.Array:
    # Numbers with gaps come as 123.0: the same as 123 elsewhere.
    known = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    whole = pc.and_(pc.equal(known, pc.round(known)), pc.less(pc.abs(known), LARGEST_EXACT))
    counts = pc.if_else(whole, known, pa.scalar(None, pa.float64())).cast(pa.int64())
    return pc.coalesce(counts.cast(pa.string()), known.cast(pa.string()))


def name_any(rows: pa.Table, values: Container[str]) -> np.ndarray:
    """Which raw rows hold one of some values, as a whole cell or as a part of one, shape (n,)."""
    texts, named = to_text(rows, trimmed=True), np.zeros(rows.num_rows, dtype=bool)
    for column in texts.column_names:
        if column == "row":
            continue
        coded = texts[column].combine_chunks().dictionary_encode()
        told = [_holds(text, values) for text in coded.dictionary.to_pylist()]
        codes = coded.indices.fill_null(len(told)).to_numpy()
        named |= np.array([*told, False], dtype=bool)[codes]
    return named


def _holds(text: str, values: Container[str]) -> bool:
    return text in values or any(part in values for part in _BETWEEN.split(text))
