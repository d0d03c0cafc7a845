"""Builds features again from a history without, or with other, records that were not yet known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.features import Catalog, build_features
from poverty_risk.leakage.report import make_finding
from poverty_risk.progress import track
from poverty_risk.tables import HistoryTables

TOLERANCE = 1e-9
"""Relative difference above which two values of a feature are different."""

_IMPLICIT = ("event_date", "known_date", "superseded_date", "record_order")


def check_unknown_records(
    tables: HistoryTables,
    labels: pd.Series,
    features: pd.DataFrame,
    catalog: Catalog,
    households: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Features of sampled points that change when records not yet known are altered.

    Parameters
    ----------
    tables, labels, features, catalog, households, seed
        As in `check_leakage`, aligned.

    Returns
    -------
    list of dict
        Findings: per feature and way of altering, the share of sampled points that change.
    """
    rng = np.random.default_rng(seed)
    chosen = _sample_households(labels, households, rng)
    few = tables.select_households(chosen)
    given = features[features.index.get_level_values("household_id").isin(chosen)]
    shared = [str(name) for name in features.columns if name in catalog]
    needed = catalog.select(shared)
    changed = {
        check: np.zeros(len(shared), dtype=np.int64)
        for check in ("unknown_removed", "unknown_exchanged")
    }
    altered = 0
    dates = list(given.index.get_level_values("as_of_date").unique()) if shared else []
    with track("features without what was not yet known", total=len(dates)) as advance:
        for as_of_date in dates:
            here = given[given.index.get_level_values("as_of_date") == as_of_date]
            before = few.known_before(as_of_date)
            exchanged, count = _exchange_unknown(few, before, rng)
            altered += count
            for check, variant in zip(changed, (before, exchanged), strict=True):
                again = build_features(variant, pd.DataFrame(index=here.index), needed)
                changed[check] += [_count_different(here[n], again[n]) for n in shared]
            advance(1)
    return _describe(changed, shared, features, catalog, len(given), altered)


def _describe(
    changed: dict[str, np.ndarray],
    shared: list[str],
    features: pd.DataFrame,
    catalog: Catalog,
    points: int,
    altered: int,
) -> list[dict[str, Any]]:
    unchanged = "known" if altered else "nothing_unknown"
    findings = [
        make_finding(
            check,
            name,
            catalog[name].table,
            count / max(points, 1),
            "changed" if count else unchanged,
        )
        for check, counts in changed.items()
        for name, count in zip(shared, counts, strict=True)
    ]
    foreign = [str(name) for name in features.columns if name not in catalog]
    return findings + [
        make_finding("unknown_removed", name, None, float("nan"), "foreign") for name in foreign
    ]


def _sample_households(labels: pd.Series, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positives first, up to one half: a leak shows where the outcome was written down."""
    ids = labels.index.get_level_values("household_id").astype(str)
    everyone = np.unique(ids)
    positives = np.unique(ids[labels.to_numpy() == 1.0])
    first = rng.permutation(positives)[: count // 2]
    others = rng.permutation(np.setdiff1d(everyone, first))[: count - len(first)]
    return np.concatenate([first, others])


def _exchange_unknown(
    tables: HistoryTables, before: HistoryTables, rng: np.random.Generator
) -> tuple[HistoryTables, int]:
    """The same history, but unknown records carry each other's values; ids and dates stay."""
    records: dict[str, pa.Table] = {}
    altered = 0
    for name in tables.names:
        table = tables.arrow(name)
        known = np.isin(
            table["record_order"].to_numpy(), before.arrow(name)["record_order"].to_numpy()
        )
        unknown = rng.permutation(np.flatnonzero(~known))
        altered += len(unknown)
        order = np.arange(table.num_rows)
        order[unknown] = np.roll(unknown, 1)  # one circle: no record keeps its own values
        kept = {*_IMPLICIT, *tables.schema.tables[name].id_columns}
        taken = table.take(pa.array(order))
        records[name] = pa.table(
            {c: (table if c in kept else taken)[c] for c in table.column_names},
            schema=table.schema,
        ).combine_chunks()
    exchanged = HistoryTables(
        tables.schema, records, tables.rejection, tables.line, tables.observed_to
    )
    return exchanged, altered


def _count_different(given: pd.Series, again: pd.Series) -> int:
    """How often two columns of the same points differ; missing equals missing."""
    again = again.reindex(given.index)
    if isinstance(again.dtype, pd.CategoricalDtype) or given.dtype == object:
        left, right = given.astype(object), again.astype(object)
        same = ((left == right) | (left.isna() & right.isna())).to_numpy(dtype=bool)
    else:
        same = np.isclose(
            given.to_numpy(dtype=float),
            again.to_numpy(dtype=float),
            rtol=TOLERANCE,
            atol=TOLERANCE,
            equal_nan=True,
        )
    return int((~same).sum())
