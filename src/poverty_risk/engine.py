"""Runs compiled Ibis queries over history tables; the one place that knows the embedded database.

A query is written against unbound tables: ``points`` (one row per prediction point) and the declared
history tables. Compiled SQL is kept, so a second run with the same declarations costs no compilation.
Each household lies whole in one chunk and each chunk runs on one thread in canonical record order:
the same history gives the same floating-point sums, bit for bit, however many threads there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk import windows
from poverty_risk.database import open_database
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables

__all__ = [
    "compile_to_sql",
    "keep_latest",
    "known_records",
    "make_points",
    "query_expressions",
    "records_table",
    "run_in_chunks",
]

CHUNK_HOUSEHOLDS = 20_000
"""Households a chunk: small enough for two chunks of a rich archive in a few hundred megabytes."""

IBIS_TYPES = {
    "string": "string",
    "category": "string",
    "number": "float64",
    "integer": "int64",
    "boolean": "boolean",
    "date": "date",
}

POINTS = ibis.table(
    {
        "point": "int64",
        "household_id": "string",
        "village_id": "string",
        "as_of_date": "date",
        "horizon_end": "date",
    },
    name="points",
)
"""Prediction points as queries see them; ``point`` is the row's position."""


def records_table(schema: Schema, name: str) -> Any:
    """Unbound Ibis table of a declared history table."""
    columns = {c: IBIS_TYPES[item.kind] for c, item in schema.tables[name].all_columns.items()}
    columns |= {"superseded_date": "date", "record_order": "int64"}
    return ibis.table(columns, name=name)


def records_of_points(schema: Schema, name: str) -> Any:
    """Each point's records of a table, whenever they were known: for labels only."""
    records = records_table(schema, name)
    entity = "village_id" if schema.tables[name].entity == "village" else "household_id"
    points = POINTS.select("point", "as_of_date", "horizon_end", _entity=POINTS[entity])
    return points.join(records, points["_entity"] == records[entity])


def known_records(schema: Schema, name: str) -> Any:
    """Each point's records that were known and not yet corrected at its as-of date."""
    joined = records_of_points(schema, name)
    return joined.filter(
        windows.is_known(joined.known_date, joined.superseded_date, joined.as_of_date)
    )


def keep_latest(records: Any, per: Sequence[str]) -> Any:
    """Of each point's records only the latest per the named columns."""
    groups = [column for column in per if column != "household_id"]
    window = ibis.window(group_by=["point", *groups], order_by=ibis.desc("record_order"))
    return records.mutate(_rank=ibis.row_number().over(window)).filter(ibis._["_rank"] == 0)


def compile_to_sql(query: Any, dialect: str = "duckdb") -> str:
    """SQL text of an Ibis query."""
    return str(ibis.to_sql(query, dialect=dialect))


def _days(dates: Any) -> pa.Array:
    return pa.array(np.asarray(dates, dtype="datetime64[D]"), type=pa.date32())


def make_points(
    index: pd.MultiIndex,
    village_ids: pd.Series | None = None,
    horizon: windows.Horizon | None = None,
) -> pa.Table:
    """Prediction points as the Arrow table that queries read.

    Parameters
    ----------
    index
        (household_id, as_of_date).
    village_ids
        Village of each point, by position; None where no village table is read.
    horizon
        Adds the end of the horizon of each point.
    """
    as_of = pd.DatetimeIndex(index.get_level_values("as_of_date"))
    villages = pa.nulls(len(index), pa.string())
    if village_ids is not None:
        villages = pa.array(village_ids.to_numpy(dtype=object), type=pa.string(), from_pandas=True)
    end = pa.nulls(len(index), pa.date32()) if horizon is None else _days(horizon.end(as_of))
    return pa.table(
        {
            "point": pa.array(np.arange(len(index), dtype=np.int64)),
            "household_id": pa.array(
                index.get_level_values("household_id").to_numpy(dtype=object), type=pa.string()
            ),
            "village_id": villages,
            "as_of_date": _days(as_of),
            "horizon_end": end,
        }
    )


def _chunks(tables: HistoryTables, points: pa.Table) -> Iterator[tuple[HistoryTables, pa.Table]]:
    """Household ranges with their points; every point is in exactly one of them."""
    ids = points["household_id"].to_numpy(zero_copy_only=False).astype(str)
    at = np.searchsorted(tables.households, ids) if len(tables.households) else np.zeros(len(ids))
    at = np.minimum(at, max(len(tables.households) - 1, 0)).astype(np.int64)
    if len(np.unique(at)) * 4 < len(tables.households) and len(ids) <= CHUNK_HOUSEHOLDS:
        # Few households of many: pick them instead of scanning everyone.
        yield tables.select_households(ids), points
        return
    for start in range(0, max(len(tables.households), 1), CHUNK_HOUSEHOLDS):
        stop = min(start + CHUNK_HOUSEHOLDS, len(tables.households))
        inside = (at >= start) & (at < max(stop, 1))
        if inside.any():
            yield tables.slice_households(start, stop), points.filter(pa.array(inside))


def _run_chunk(
    tables: HistoryTables, points: pa.Table, queries: Mapping[str, str]
) -> dict[str, pa.Table]:
    with open_database(threads=1) as connection:
        connection.register("points", points)
        for name in tables.names:
            connection.register(name, tables.arrow(name))
        return {key: connection.sql(query).to_arrow_table() for key, query in queries.items()}


def run_in_chunks(
    tables: HistoryTables,
    points: pa.Table,
    queries: Mapping[str, str],
    *,
    threads: int = 2,
    on_chunk: Callable[[int], None] | None = None,
) -> dict[str, pa.Table]:
    """Run queries over household ranges, several at once.

    Parameters
    ----------
    tables
        The history.
    points
        From `make_points`.
    queries
        SQL by name; each gives rows with column ``point``. Tables that a query reads must be there.
    threads
        Chunks at a time.
    on_chunk
        Called after each chunk with its number of points, for progress.

    Returns
    -------
    dict
        The rows of each query, all chunks together.
    """
    if not queries or not points.num_rows:
        return {}
    parts: list[dict[str, pa.Table]] = []
    chunks = _chunks(tables, points)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        # One chunk more than threads is cut ahead, so memory stays that of a few chunks.
        waiting: list[tuple[Any, int]] = []
        for chunk_tables, chunk_points in chunks:
            future = pool.submit(_run_chunk, chunk_tables, chunk_points, queries)
            waiting.append((future, chunk_points.num_rows))
            if len(waiting) > threads:
                parts.append(_finish(*waiting.pop(0), on_chunk))
        parts.extend(_finish(future, count, on_chunk) for future, count in waiting)
    return {key: pa.concat_tables([part[key] for part in parts]) for key in queries}


def _finish(future: Any, count: int, on_chunk: Callable[[int], None] | None) -> dict[str, pa.Table]:
    result: dict[str, pa.Table] = future.result()
    if on_chunk is not None:
        on_chunk(count)
    return result


def scatter(values: pa.Table, column: str, size: int, fill: Any = np.nan) -> np.ndarray:
    """A column of query rows as an array by point; points without a row get `fill`."""
    found = values[column]
    if pa.types.is_string(found.type) or pa.types.is_large_string(found.type):
        result = np.full(size, None, dtype=object)
        result[values["point"].to_numpy()] = found.to_numpy(zero_copy_only=False)
        return result
    result = np.full(size, fill, dtype=np.float64)
    result[values["point"].to_numpy()] = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return result


def query_expressions(
    frame: pd.DataFrame, expressions: Mapping[str, str], place: str = "expression"
) -> pd.DataFrame:
    """As `array_expressions.compute_expressions`, by a query: its plain twin.

    Parameters
    ----------
    frame
        Columns of numbers (missing = NaN) or categories; any index, kept.
    expressions
        Expression by name of the result.
    place
        Where they come from, for errors.

    Returns
    -------
    DataFrame
        One float64 column per expression (true = 1, false = 0, missing = NaN), index of `frame`.

    Raises
    ------
    DeclarationError
        An expression is not of the language, or uses a column that is not there.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.engine import query_expressions
    >>> rows = pd.DataFrame({"income_to_line": [0.8, 1.4, None]})
    >>> query_expressions(rows, {"poor": "income_to_line < 1"})["poor"].tolist()
    [1.0, 0.0, nan]
    """
    if not expressions:
        return pd.DataFrame(index=frame.index)
    kinds = {
        str(column): "float64" if pd.api.types.is_numeric_dtype(frame[column]) else "string"
        for column in frame.columns
    }
    sql = _compile_over_frame(tuple(kinds.items()), tuple(expressions.items()), place)
    columns: dict[str, Any] = {"point": pa.array(np.arange(len(frame)))}
    for name, kind in kinds.items():
        target = pa.float64() if kind == "float64" else pa.string()
        # A flag column of a user may be boolean; categories go as their codes' names.
        values = frame[name].astype(float) if kind == "float64" else frame[name].astype(object)
        columns[name] = pa.array(values.to_numpy(), type=target, from_pandas=True)
    with open_database(threads=1) as connection:
        connection.register("frame", pa.table(columns))
        found = connection.sql(sql).to_arrow_table()
    result = {name: scatter(found, name, len(frame)) for name in expressions}
    return pd.DataFrame(result, index=frame.index)


@functools.lru_cache(maxsize=64)
def _compile_over_frame(
    kinds: tuple[tuple[str, str], ...], expressions: tuple[tuple[str, str], ...], place: str
) -> str:
    table = ibis.table({"point": "int64", **dict(kinds)}, name="frame")
    columns = {name: table[name] for name, _ in kinds}
    computed = {
        name: ibis.literal(0.0)
        + _as_number(compile_expression(text, Context(columns, place=place)))
        for name, text in expressions
    }
    return compile_to_sql(table.select(table.point, **computed))


def _as_number(value: Any) -> Any:
    return value if isinstance(value, int | float) else value.cast("float64")
