"""Features as SQL: the catalogue compiled through Ibis, the plain twin of the arrays."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk import windows
from poverty_risk.cohort_queries import query_groups
from poverty_risk.engine import (
    compile_to_sql,
    keep_latest,
    known_records,
    make_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.features.spec import ZERO_WHEN_EMPTY, FeatureSpec
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback

__all__ = ["compile_features", "query_features"]


def query_features(
    tables: HistoryTables,
    index: pd.MultiIndex,
    specs: Sequence[FeatureSpec],
    *,
    known: bool = False,
    threads: int = 2,
    on_chunk: Callable[[int], None] | None = None,
    dialect: str = "duckdb",
    run: Callable[..., dict[str, pa.Table]] = run_in_chunks,
) -> dict[str, np.ndarray]:
    """Query features of tables at prediction points.

    Parameters
    ----------
    tables
        The history.
    index
        (household_id, as_of_date).
    specs
        Features of tables that are there; no formulas.
    known
        Days since 1970 on which each value was known, instead of the value.
    threads
        Household ranges computed at a time.
    on_chunk
        Called after each range with its number of points.
    dialect
        SQL dialect of the engine, as Ibis names it.
    run
        What runs queries, like `engine.run_in_chunks`.

    Returns
    -------
    dict
        By name, one float64 value per point, missing = NaN; of a category the code or None.
    """
    index = pd.MultiIndex.from_frame(index.to_frame(index=False))
    queries = _compile_cached(
        tables.schema.model_dump_json(),
        json.dumps([spec.model_dump() for spec in specs], sort_keys=True),
        tuple((tables.line or {}).items()),
        dialect,
        known,
    )
    needs_village = any(tables.schema.tables[str(s.table)].entity == "village" for s in specs)
    villages = pd.Series(query_groups(tables, index)["village"]) if needs_village else None
    points = make_points(index, villages)
    found = run(tables, points, queries, threads=threads, on_chunk=on_chunk)
    by_query = {column: key for key, rows in found.items() for column in rows.column_names}
    columns: dict[str, np.ndarray] = {}
    for spec in specs:
        empty = 0.0 if spec.aggregator in ZERO_WHEN_EMPTY and not known else np.nan
        if spec.name in by_query:
            columns[spec.name] = scatter(found[by_query[spec.name]], spec.name, len(index), empty)
        else:  # no points at all
            columns[spec.name] = np.full(len(index), empty)
    return columns


@functools.lru_cache(maxsize=32)
def _compile_cached(
    schema_json: str,
    specs_json: str,
    line: tuple[tuple[int, float], ...],
    dialect: str,
    known: bool,
) -> dict[str, str]:
    schema = Schema.model_validate_json(schema_json)
    specs = [FeatureSpec.model_validate(entry) for entry in json.loads(specs_json)]
    return compile_features(specs, schema, dict(line), dialect, known=known)


def compile_features(
    specs: Iterable[FeatureSpec],
    schema: Schema,
    line: dict[int, float] | None = None,
    dialect: str = "duckdb",
    *,
    known: bool = False,
) -> dict[str, str]:
    """SQL that computes features: one query per table (and per choice of latest records).

    Parameters
    ----------
    specs
        Features of tables; formulas are left out.
    schema
        What is declared.
    line
        Poverty line by year.
    dialect
        SQL dialect, as Ibis names it.
    known
        Days since 1970 on which each value was known, instead of the value.

    Returns
    -------
    dict
        SQL by a name that says what it reads. Each gives ``point`` and one column per feature.
    """
    groups: dict[tuple[str, ...], list[FeatureSpec]] = defaultdict(list)
    for spec in specs:
        if spec.table is None:
            continue
        # The latest records depend on the window, so such features share a query only with equals.
        window = (spec.lookback, spec.lag) if spec.latest_per else ()
        groups[(spec.table, *spec.latest_per, *window)].append(spec)
    return {
        " ".join(key): compile_to_sql(_query(schema, members, line or {}, known), dialect)
        for key, members in groups.items()
    }


def _interval(days: int) -> Any:
    return ibis.interval(days=days)


def _query(schema: Schema, specs: list[FeatureSpec], line: dict[int, float], known: bool) -> Any:
    first = specs[0]
    records = known_records(schema, str(first.table))
    spans = [Lookback.parse(spec.lookback, spec.lag) for spec in specs]
    reaches = [None if s.days is None else s.days + s.lag for s in spans]
    longest = None if None in reaches else max(reach for reach in reaches if reach is not None)
    widest = Lookback(longest, 0)
    if first.latest_per:
        widest = spans[0]
    records = records.filter(widest.contains(records.event_date, records.as_of_date, _interval))
    if first.latest_per:
        records = keep_latest(records, first.latest_per)
    # Sums of fractions depend on their order; which side of a join is read first must not show.
    records = records.order_by("record_order")
    columns = {name: records[name] for name in schema.tables[str(first.table)].all_columns}
    aggregates = {}
    for spec, span in zip(specs, spans, strict=True):
        context = Context(columns, records.as_of_date, line, f"feature '{spec.name}'")
        inside = span.contains(records.event_date, records.as_of_date, _interval)
        if spec.where is not None:
            inside = inside & compile_expression(spec.where, context)
        compute = _known_day if known else _aggregate
        aggregates[spec.name] = compute(spec, records, inside, context)
    return records.group_by("point").aggregate(**aggregates)


def _aggregate(spec: FeatureSpec, records: Any, inside: Any, context: Context) -> Any:
    if spec.aggregator in _OF_RECORDS:
        return _OF_RECORDS[str(spec.aggregator)](records, inside)
    value = compile_expression(str(spec.value), context)
    if isinstance(value, bool | int | float):
        value = ibis.ifelse(records.record_order >= 0, float(value), None)  # only columns aggregate
    if spec.aggregator == "nunique":
        return value.nunique(where=inside).cast("float64")
    if spec.kind != "category":
        value = value.cast("float64")
    return _OF_VALUES[str(spec.aggregator)](value, records, inside & value.notnull())


def _known_day(spec: FeatureSpec, records: Any, inside: Any, context: Context) -> Any:
    day = records.known_date.delta(ibis.date(1970, 1, 1), unit="day").cast("float64")
    if spec.value is not None:
        value = compile_expression(spec.value, context)
        # Without the cast, sqlglot writes NOT x IS NOT NULL, which databases read as NOT (x IS ...).
        known = value.cast("float64") if _is_boolean(value) else value
        inside = inside & known.notnull() if hasattr(known, "notnull") else inside
    if spec.aggregator == "last":
        return day.argmax(records.record_order, where=inside)
    if spec.aggregator == "first":
        return day.argmin(records.record_order, where=inside)
    return day.max(where=inside)


def _is_boolean(value: Any) -> bool:
    return hasattr(value, "type") and bool(value.type().is_boolean())


def _days_since(records: Any) -> Any:
    return records.as_of_date.delta(records.event_date, unit="day")


_OF_RECORDS: dict[str, Callable[[Any, Any], Any]] = {
    "count": lambda records, inside: records.count(where=inside).cast("float64"),
    "exists": lambda records, inside: (records.count(where=inside) > 0).cast("float64"),
    "days_since_last": lambda records, inside: (
        _days_since(records).min(where=inside).cast("float64")
    ),
}


def _last(value: Any, records: Any, inside: Any) -> Any:
    return value.argmax(records.record_order, where=inside)


def _first(value: Any, records: Any, inside: Any) -> Any:
    return value.argmin(records.record_order, where=inside)


def _delta(value: Any, records: Any, inside: Any) -> Any:
    # A single record has no change.
    change = _last(value, records, inside) - _first(value, records, inside)
    return ibis.ifelse(value.count(where=inside) >= 2, change, None)


def _cv(value: Any, _: Any, inside: Any) -> Any:
    return value.std(where=inside) / value.mean(where=inside).abs().nullif(0.0)


def _slope(value: Any, records: Any, inside: Any) -> Any:
    # Least squares per year; days count backwards from the as-of date, hence the sign.
    years = -_days_since(records) / windows.DAYS_PER_YEAR
    spread = years.var(how="pop", where=inside)
    return value.cov(years, how="pop", where=inside) / spread.nullif(0.0)


_OF_VALUES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "last": _last,
    "first": _first,
    "sum": lambda value, _, inside: value.sum(where=inside).coalesce(0.0),
    "mean": lambda value, _, inside: value.mean(where=inside),
    "min": lambda value, _, inside: value.min(where=inside),
    "max": lambda value, _, inside: value.max(where=inside),
    "std": lambda value, _, inside: value.std(where=inside),
    "cv": _cv,
    "slope": _slope,
    "delta": _delta,
    "share": lambda value, _, inside: value.mean(where=inside),
}
