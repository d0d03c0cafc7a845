"""Features at prediction points, compiled from the catalogue."""

from __future__ import annotations

import functools
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ibis
import numpy as np
import pandas as pd

from poverty_risk import windows
from poverty_risk.cohort import find_groups
from poverty_risk.engine import (
    check_point_index,
    compile_to_sql,
    compute_expressions,
    keep_latest,
    known_records,
    make_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.expressions import Context, compile_expression, find_names
from poverty_risk.features.spec import ZERO_WHEN_EMPTY, Catalog, FeatureSpec, load_catalog
from poverty_risk.progress import track
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback

__all__ = ["build_features", "build_known_dates", "compile_features", "complete_features"]

logger = logging.getLogger(__name__)


def build_features(
    tables: HistoryTables,
    points: pd.DataFrame,
    specs: Catalog | Iterable[FeatureSpec] | str | None = None,
    *,
    threads: int = 2,
) -> pd.DataFrame:
    """Compute features at prediction points from what was known at each as-of date.

    Parameters
    ----------
    tables
        The history.
    points
        Index (household_id, as_of_date); columns are not read. Several as-of dates at once.
    specs
        Catalogue, its name, or features alone; by default the catalogue named like the schema.
    threads
        Household ranges computed at a time.

    Returns
    -------
    DataFrame
        Index of `points`, one column per feature in catalogue order, ingredients included: float64
        (flags 0 or 1), categories as pandas Categorical with the schema's codes. Missing: nothing
        known (for sums, counts and flags nothing known is 0), or a table the office does not have.

    Raises
    ------
    DeclarationError
        Entries that do not fit the schema, or need a poverty line that the tables do not carry.
    FeatureError
        `points` is not indexed by (household_id, as_of_date), or a point comes twice.

    Notes
    -----
    A record counts if ``known_date < as_of_date``, if no correction of it was known by then, and if
    ``as_of - lag - lookback <= event_date < as_of - lag``.

    Examples
    --------
    >>> from poverty_risk import FeatureSpec, build_features, build_prediction_points
    >>> from poverty_risk import make_household_history
    >>> tables = make_household_history(200, seed=1).tables
    >>> points = build_prediction_points(tables, "2024-01-01")
    >>> floods = FeatureSpec(stem="flood", table="shock", where="kind == 'flood'",
    ...                      aggregator="count", lookback="730d", theme="shock", direction=1)
    >>> list(build_features(tables, points, [floods]).columns)
    ['flood_count_730d']
    """
    catalog = _as_catalog(specs, tables.schema)
    check_point_index(points, "points")
    catalog.check(tables.schema)
    _check_line(tables, catalog)
    _report_absent(tables, catalog)
    aggregated = [spec for spec in catalog.specs if spec.formula is None]
    found = _run(tables, points, aggregated, threads)
    return complete_features(found, points.index, catalog, tables.schema)


def complete_features(
    found: Mapping[str, Any], index: pd.Index, catalog: Catalog, schema: Schema
) -> pd.DataFrame:
    """Features from the values of those that read a table: categories, then formulas.

    Parameters
    ----------
    found
        Values by name, in the order of `index`.
    index
        (household_id, as_of_date).
    catalog
        All features.
    schema
        What is declared.

    Returns
    -------
    DataFrame
        As `build_features`.
    """
    columns: dict[str, Any] = {}
    for spec in catalog.specs:
        if spec.formula is not None:
            continue
        columns[spec.name] = found[spec.name]
        if spec.kind == "category":
            codes = list(catalog.codes(spec, schema))
            values = pd.array(columns[spec.name], dtype=object)
            columns[spec.name] = pd.Categorical(values, categories=codes)
    features = pd.DataFrame(columns, index=index)
    return _add_formulas(features, catalog).loc[:, list(catalog.names)]


def build_known_dates(
    tables: HistoryTables, points: pd.DataFrame, specs: Catalog, *, threads: int = 2
) -> pd.DataFrame:
    """When the office knew what each feature tells: for the source line of a reason.

    Parameters
    ----------
    tables
        The history.
    points
        Index (household_id, as_of_date); columns are not read.
    specs
        The catalogue.
    threads
        Household ranges computed at a time.

    Returns
    -------
    DataFrame
        Index of `points`, one column of dates per feature: of a last or first value, when that record
        was known; otherwise when the latest of its records was known; of a formula, the latest of its
        parts. Missing where no record counts, as in a count of 0.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, load_catalog, make_household_history
    >>> from poverty_risk.features import build_known_dates
    >>> tables = make_household_history(200, seed=1).tables
    >>> points = build_prediction_points(tables, "2024-01-01")
    >>> known = build_known_dates(tables, points, load_catalog("archive"))
    >>> bool((known.max().max() < points.index.get_level_values("as_of_date")[0]))
    True
    """
    check_point_index(points, "points")
    aggregated = [spec for spec in specs.specs if spec.formula is None]
    days = pd.DataFrame(_run(tables, points, aggregated, threads, known=True), index=points.index)
    for stage in specs.formula_stages:
        for spec in stage:
            parts = sorted(find_names(str(spec.formula)) & set(days.columns))
            days[spec.name] = days[parts].max(axis=1) if parts else np.nan
    dates = {name: pd.to_datetime(days[name], unit="D") for name in specs.names}
    return pd.DataFrame(dates, index=points.index)


def _run(
    tables: HistoryTables,
    points: pd.DataFrame,
    specs: list[FeatureSpec],
    threads: int,
    *,
    known: bool = False,
) -> dict[str, np.ndarray]:
    """Values (or days on which they were known) of features of tables, by point."""
    index = pd.MultiIndex.from_frame(points.index.to_frame(index=False))
    present = [spec for spec in specs if spec.table in tables]
    queries = _compile_cached(
        tables.schema.model_dump_json(),
        json.dumps([spec.model_dump() for spec in present], sort_keys=True),
        tuple((tables.line or {}).items()),
        known,
    )
    needs_village = any(tables.schema.tables[str(s.table)].entity == "village" for s in present)
    villages = find_groups(tables, index)["village_id"] if needs_village else None
    with track(total=len(index), description="features") as advance:
        found = run_in_chunks(
            tables, make_points(index, villages), queries, threads=threads, on_chunk=advance
        )
    by_query = {column: key for key, rows in found.items() for column in rows.column_names}
    columns: dict[str, np.ndarray] = {}
    for spec in specs:
        empty = 0.0 if spec.aggregator in ZERO_WHEN_EMPTY and not known else np.nan
        if spec.name in by_query:
            columns[spec.name] = scatter(found[by_query[spec.name]], spec.name, len(index), empty)
        else:  # no points at all, or a table that the office does not have
            columns[spec.name] = np.full(len(index), empty if spec.table in tables else np.nan)
    return columns


def _as_catalog(specs: Catalog | Iterable[FeatureSpec] | str | None, schema: Schema) -> Catalog:
    if isinstance(specs, Catalog):
        return specs
    if specs is None or isinstance(specs, str):
        return load_catalog(schema.name if specs is None else specs)
    return Catalog(specs, schema.name, "features")


def _uses_line(spec: FeatureSpec) -> bool:
    return any("line(" in text for text in (spec.value, spec.where) if text is not None)


def _check_line(tables: HistoryTables, catalog: Catalog) -> None:
    users = [spec.name for spec in catalog.specs if _uses_line(spec)]
    if users and tables.line is None:
        raise DeclarationError(
            Fault(
                "line",
                "no poverty line by year",
                f"one, because {len(users)} features (such as {users[0]}) are relative to it",
                "Give `line` in the config, or use tables.with_line({2024: ...}).",
            )
        )


def _report_absent(tables: HistoryTables, catalog: Catalog) -> None:
    lost: dict[str, int] = defaultdict(int)
    for spec in catalog.specs:
        if spec.table is not None and spec.table not in tables:
            lost[spec.table] += 1
    if lost:
        named = ", ".join(f"{table} ({count} features)" for table, count in lost.items())
        logger.warning("Data gaps, because this office has no table: %s.", named)


def _add_formulas(features: pd.DataFrame, catalog: Catalog) -> pd.DataFrame:
    for stage in catalog.formula_stages:
        dates = pd.DatetimeIndex(features.index.get_level_values("as_of_date"))
        # Formulas read flags and numbers; the calendar names are columns here.
        base = features.assign(
            as_of_year=np.asarray(dates.year, float), as_of_month=np.asarray(dates.month, float)
        )
        expressions = {spec.name: str(spec.formula) for spec in stage}
        computed = compute_expressions(base, expressions, catalog.place)
        features = pd.concat([features, computed], axis=1)
    return features


@functools.lru_cache(maxsize=32)
def _compile_cached(
    schema_json: str, specs_json: str, line: tuple[tuple[int, float], ...], known: bool
) -> dict[str, str]:
    schema = Schema.model_validate_json(schema_json)
    specs = [FeatureSpec.model_validate(entry) for entry in json.loads(specs_json)]
    return compile_features(specs, schema, dict(line), known=known)


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
        value = ibis.literal(float(value))
    if spec.aggregator == "nunique":
        return value.nunique(where=inside).cast("float64")
    if spec.kind != "category":
        value = value.cast("float64")
    return _OF_VALUES[str(spec.aggregator)](value, records, inside & value.notnull())


def _known_day(spec: FeatureSpec, records: Any, inside: Any, context: Context) -> Any:
    day = records.known_date.delta(ibis.date(1970, 1, 1), unit="day").cast("float64")
    if spec.value is not None:
        value = compile_expression(spec.value, context)
        inside = inside & value.notnull() if hasattr(value, "notnull") else inside
    if spec.aggregator == "last":
        return day.argmax(records.record_order, where=inside)
    if spec.aggregator == "first":
        return day.argmin(records.record_order, where=inside)
    return day.max(where=inside)


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
