"""Features computed over arrays: several as-of dates of a household in one pass, no database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.features.spec import FeatureSpec
from poverty_risk.point_chunks import PointChunk, cut_points, run_chunks
from poverty_risk.record_arrays import Aggregate
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback

__all__ = ["compute_features"]


def compute_features(
    tables: HistoryTables,
    index: pd.MultiIndex,
    specs: Sequence[FeatureSpec],
    *,
    known: bool = False,
    threads: int = 2,
    on_chunk: Callable[[int], None] | None = None,
    rows: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Compute features of tables at prediction points.

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
    rows
        By name, where the values go; new arrays by default.

    Returns
    -------
    dict
        By name, one float64 value per point, missing = NaN; of a category a Categorical.
    """
    results = [np.empty(len(index)) if rows is None else rows[spec.name] for spec in specs]
    by_table: dict[str, list[int]] = defaultdict(list)
    for number, spec in enumerate(specs):
        by_table[str(spec.table)].append(number)
    aggregates = [_to_aggregate(spec, tables.schema, known=known) for spec in specs]

    def compute(chunk: PointChunk) -> int:
        places = _as_slice(chunk.points)
        for name, numbers in by_table.items():
            found = chunk.aggregate(name, [aggregates[number] for number in numbers])
            for number, values in zip(numbers, found, strict=True):
                results[number][places] = values
        return len(chunk.points)

    for count in run_chunks(compute, cut_points(tables, index), threads):
        if on_chunk is not None:
            on_chunk(count)
    return {
        spec.name: row if one.codes is None or known else _to_category(row, one.codes)
        for spec, one, row in zip(specs, aggregates, results, strict=True)
    }


def _as_slice(places: np.ndarray) -> np.ndarray | slice:
    """Places that follow one another as a slice, which is written several times as fast."""
    if (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def _to_category(places: np.ndarray, codes: Sequence[str]) -> Any:
    whole = np.where(np.isnan(places), -1, places).astype(np.int64)
    return pd.Categorical.from_codes(whole, dtype=pd.CategoricalDtype(list(codes)))


def _to_aggregate(spec: FeatureSpec, schema: Schema, *, known: bool) -> Aggregate:
    how = str(spec.aggregator)
    if known and how not in ("last", "first"):
        how = "max"
    codes = None
    if spec.kind == "category":
        codes = schema.tables[str(spec.table)].all_columns[str(spec.value)].codes
    return Aggregate(
        how=how,
        lookback=Lookback.parse(spec.lookback, spec.lag),
        value=spec.value,
        where=spec.where,
        latest_per=spec.latest_per,
        codes=codes,
        known=known,
        place=f"feature '{spec.name}'",
    )
