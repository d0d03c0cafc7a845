"""Features at prediction points, computed from the catalogue."""

from __future__ import annotations

import functools
import importlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pandas as pd

from poverty_risk.array_expressions import compute_numbers, read_column
from poverty_risk.column_values import Values
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.features.spec import Catalog, FeatureSpec, load_catalog
from poverty_risk.language import find_names
from poverty_risk.point_index import check_point_index
from poverty_risk.progress import track
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables

__all__ = ["ENGINES", "build_features", "build_known_dates", "complete_features"]

logger = logging.getLogger(__name__)

Engine: TypeAlias = Literal["arrays", "sql", "spark"]
ENGINES: tuple[str, ...] = Engine.__args__  # type: ignore[attr-defined]
"""Ways to run the catalogue."""


def build_features(
    tables: HistoryTables,
    points: pd.DataFrame,
    specs: Catalog | Iterable[FeatureSpec] | str | None = None,
    *,
    threads: int = 2,
    engine: Engine = "arrays",
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
    engine
        ``"arrays"``; ``"sql"``: the same features by queries, slowly, the plain twin; or ``"spark"``:
        those queries on the running Spark session, or on a new one (see `poverty_risk.spark`).

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
    values = np.empty((len(catalog), len(points)))
    rows = dict(zip(catalog.names, values, strict=True))
    found = _run(tables, points, aggregated, threads, engine, rows=rows)
    return complete_features(found, points.index, catalog, tables.schema, engine, values)


def complete_features(
    found: Mapping[str, Any],
    index: pd.Index,
    catalog: Catalog,
    schema: Schema,
    engine: Engine = "arrays",
    values: np.ndarray | None = None,
) -> pd.DataFrame:
    """Features from the values of those that read a table: categories, then formulas.

    Parameters
    ----------
    found
        Values by name, in the order of `index`; of a category Categorical, or codes as texts.
    index
        (household_id, as_of_date).
    catalog
        All features.
    schema
        What is declared.
    engine
        As in `build_features`.
    values
        Room for the numbers, shape (n_features, n_points), which becomes the table; what stands in
        `found` may be rows of it already.

    Returns
    -------
    DataFrame
        As `build_features`.
    """
    if values is None:
        values = np.empty((len(catalog), len(index)))
    rows = dict(zip(catalog.names, values, strict=True))
    categories = {}
    for spec in catalog.specs:
        if spec.kind == "category":
            codes = list(catalog.codes(spec, schema))
            categories[spec.name] = pd.Categorical(found[spec.name], categories=codes)
        elif spec.formula is None and not np.shares_memory(rows[spec.name], found[spec.name]):
            rows[spec.name][:] = found[spec.name]
    compute = _compute_formulas if engine == "arrays" else _query_formulas
    compute(rows, categories, index, catalog)
    # The rows are the columns of the table, without a copy.
    features = pd.DataFrame(values.T, index=index, columns=list(catalog.names), copy=False)
    for name, category in categories.items():
        features[name] = category
    return features


def _find_calendar(index: pd.Index) -> dict[str, np.ndarray]:
    """What formulas may call by a name and is no feature."""
    dates = pd.DatetimeIndex(index.get_level_values("as_of_date"))
    return {
        "as_of_year": dates.year.to_numpy(float),
        "as_of_month": dates.month.to_numpy(float),
    }


def _compute_formulas(
    rows: Mapping[str, np.ndarray],
    categories: Mapping[str, pd.Categorical[Any]],
    index: pd.Index,
    catalog: Catalog,
) -> None:
    """Fill the rows of formulas."""
    numbers = {**rows, **_find_calendar(index)}
    columns = {name: Values.number(row) for name, row in numbers.items()}
    columns |= {name: read_column(pd.Series(codes)) for name, codes in categories.items()}
    for stage in catalog.formula_stages:
        formulas = {spec.name: str(spec.formula) for spec in stage}
        for name, found in compute_numbers(columns, formulas, len(index), catalog.place).items():
            rows[name][:] = found


def _query_formulas(
    rows: Mapping[str, np.ndarray],
    categories: Mapping[str, pd.Categorical[Any]],
    index: pd.Index,
    catalog: Catalog,
) -> None:
    """Fill the rows of formulas by queries."""
    from poverty_risk.engine import query_expressions  # noqa: PLC0415 - Ibis takes a while

    done = [spec.name for spec in catalog.specs if spec.formula is None]
    for stage in catalog.formula_stages:
        columns = {**_find_calendar(index), **{name: rows[name] for name in done}, **categories}
        formulas = {spec.name: str(spec.formula) for spec in stage}
        computed = query_expressions(pd.DataFrame(columns), formulas, catalog.place)
        for name in formulas:
            rows[name][:] = computed[name]
        done += formulas


def build_known_dates(
    tables: HistoryTables,
    points: pd.DataFrame,
    specs: Catalog,
    *,
    threads: int = 2,
    engine: Engine = "arrays",
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
    engine
        As in `build_features`.

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
    found = _run(tables, points, aggregated, threads, engine, known=True)
    days = pd.DataFrame(found, index=points.index)
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
    engine: Engine,
    *,
    known: bool = False,
    rows: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Values (or days on which they were known) of features of tables, by point; in `rows` at best."""
    # Imported when asked for: numba, Ibis and Spark take a while.
    compute: Callable[..., dict[str, Any]]
    if engine == "spark":
        # By name, because Spark is a layer above, and an extra.
        compute = importlib.import_module("poverty_risk.spark.features").compute_features
    elif engine == "arrays":
        from poverty_risk.features.arrays import compute_features  # noqa: PLC0415

        compute = functools.partial(compute_features, rows=rows)
    else:
        from poverty_risk.features.queries import query_features as compute  # noqa: PLC0415
    index = cast("pd.MultiIndex", points.index)
    present = [spec for spec in specs if spec.table in tables]
    with track(total=len(index), description="features") as advance:
        found = compute(tables, index, present, known=known, threads=threads, on_chunk=advance)
    # Nothing is known of a table that the office does not have.
    absent = [spec.name for spec in specs if spec.name not in found]
    return found | {name: np.full(len(index), np.nan) for name in absent}


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
