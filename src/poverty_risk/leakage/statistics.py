"""What can be counted without building again: one feature alone, and the dates of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import rankdata

from poverty_risk.features import Catalog
from poverty_risk.leakage.report import FEWEST, make_finding
from poverty_risk.progress import track
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon, contains_outcome

LEAK_AUC = 0.95
"""No single honest feature tells a 12-month outcome this well."""

SUSPECT_AUC = 0.85
"""Above this the feature deserves a look at how and when its records are written."""

PLAUSIBLE_AUC = 0.88
"""Whole models of such outcomes lie at 0.68 to 0.88 (domain notes); above, somebody should look."""

SAME_DAY_SHARE = 0.95
"""No real feed is on file the same day as often as this."""

LATE_SHARE = 0.50
"""A table that is known so late can hardly warn of anything."""

FEWEST_RECORDS = 50
"""A table of fewer records has no typical lag."""

RATE_WEIGHT = 10.0
"""Prior households behind the overall rate when a rate is estimated for a rare code."""


def _rank_auc(values: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive has the higher value, ties counting half."""
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def _rate_per_code(codes: np.ndarray, positive: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Rate of positives of each row's code, estimated without the row's own fold."""
    rates = np.empty(len(codes))
    for fold in np.unique(folds):
        own = folds == fold
        overall = positive[~own].mean() if (~own).any() else 0.0
        counts = np.bincount(codes[~own], minlength=codes.max() + 1)
        sums = np.bincount(codes[~own], weights=positive[~own], minlength=codes.max() + 1)
        rates[own] = ((sums + RATE_WEIGHT * overall) / (counts + RATE_WEIGHT))[codes[own]]
    return rates


def _table_of(name: str, catalog: Catalog) -> str | None:
    return catalog[name].table if name in catalog else None


def check_single_features(
    features: pd.DataFrame, labels: pd.Series, catalog: Catalog
) -> list[dict[str, Any]]:
    """AUC of each feature alone, and of its being missing, against the label."""
    known = labels.notna().to_numpy()
    positive = labels.to_numpy()[known] == 1.0
    # The points of one household share a fold: their codes and labels repeat each other.
    folds = pd.factorize(features.index.get_level_values("household_id")[known])[0] % 5
    findings = []
    with track("single features", total=features.shape[1]) as advance:
        for name in features.columns:
            column = features.loc[known, name]
            table = _table_of(str(name), catalog)
            missing = column.isna().to_numpy()
            if isinstance(column.dtype, pd.CategoricalDtype):
                codes = column.cat.codes.to_numpy(dtype=np.int64) + 1
                auc = _rank_auc(_rate_per_code(codes, positive, folds), positive)
                findings.append(_judge("auc", str(name), table, auc, positive))
            else:
                values = column.to_numpy(dtype=float)[~missing]
                auc = _rank_auc(values, positive[~missing])
                found = max(auc, 1.0 - auc)
                findings.append(_judge("auc", str(name), table, found, positive[~missing]))
            if missing.any() and not missing.all():
                auc = _rank_auc(missing.astype(float), positive)
                found = max(auc, 1.0 - auc)
                findings.append(_judge("auc_missing", str(name), table, found, positive))
            advance(1)
    return findings


def judge_model_auc(auc: float) -> dict[str, Any]:
    """The finding about a whole model's AUC on later dates."""
    seen = "model_leak" if auc > LEAK_AUC else "model_suspect" if auc > PLAUSIBLE_AUC else ""
    return make_finding("model_auc", None, None, auc, seen)


def _judge(
    check: str, feature: str, table: str | None, auc: float, positive: np.ndarray
) -> dict[str, Any]:
    if min(positive.sum(), (~positive).sum()) < FEWEST:
        return make_finding(check, feature, table, auc, "too_few")
    seen = "leak_auc" if auc > LEAK_AUC else "suspect_auc" if auc > SUSPECT_AUC else ""
    return make_finding(check, feature, table, auc, seen)


# ------------------------------------------------------------------------- the dates of the tables


def _dates(records: pa.Table, column: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(records[column].to_numpy())


def check_known_dates(tables: HistoryTables, horizon: Horizon) -> list[dict[str, Any]]:
    """How long after an event each table knew of it."""
    findings = []
    for name in tables.names:
        records = tables.arrow(name)
        if not records.num_rows:
            continue
        happened = _dates(records, "event_date")
        lag = np.asarray((_dates(records, "known_date") - happened).days)
        reach = np.asarray((horizon.end(happened) - happened).days)
        enough = records.num_rows >= FEWEST_RECORDS
        same, late = float((lag == 0).mean()), float((lag >= reach).mean())
        same_seen = "same_day" if enough and same > SAME_DAY_SHARE else ""
        late_seen = "late" if enough and late > LATE_SHARE else ""
        findings += [
            make_finding("known_same_day", None, name, same, same_seen),
            make_finding("known_after_horizon", None, name, late, late_seen),
            make_finding("shortest_lag_days", None, name, float(lag.min())),
            make_finding("median_lag_days", None, name, float(np.median(lag))),
        ]
    return findings


def _outcome_tables(schema: Schema, label: str | None) -> set[str]:
    if label is None or label not in schema.labels:
        return set()
    found = schema.labels[label]
    own = {found.table} if found.table is not None else set()
    return own.union(*(_outcome_tables(schema, part) for part in found.of))


def check_aftermath(
    tables: HistoryTables, labels: pd.Series, horizon: Horizon, label: str | None
) -> list[dict[str, Any]]:
    """Tables whose records come with the outcome, or exist for positives only."""
    known = labels.dropna()
    positive = known.to_numpy() == 1.0
    if min(positive.sum(), (~positive).sum()) < FEWEST:
        return []
    owners, owner = np.unique(
        known.index.get_level_values("household_id").to_numpy(dtype=str), return_inverse=True
    )
    as_of = pd.DatetimeIndex(known.index.get_level_values("as_of_date"))
    ever = np.bincount(owner, weights=positive) > 0
    own = _outcome_tables(tables.schema, label)
    findings = []
    for name in tables.names:
        records = tables.arrow(name)
        if "household_id" not in records.column_names or name in own or not records.num_rows:
            continue
        holder = _positions(records["household_id"], owners)
        counts = _count_in_horizon(holder, _dates(records, "event_date"), owner, as_of, horizon)
        auc = _rank_auc(counts, positive)
        seen = "aftermath" if auc > SUSPECT_AUC else ""
        findings.append(make_finding("records_in_horizon_auc", None, name, auc, seen))
        holders = ever[np.unique(holder[holder >= 0])]
        share = float(holders.mean()) if len(holders) else float("nan")
        only = len(holders) >= 2 * FEWEST and share > LEAK_AUC and float(ever.mean()) < 0.5
        seen = "only_positives" if only else ""
        findings.append(make_finding("positive_share_of_holders", None, name, share, seen))
    return findings


def _positions(ids: pa.ChunkedArray, owners: np.ndarray) -> np.ndarray:
    """Position of each record's household among `owners`; -1 for others."""
    encoded = ids.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_numpy(zero_copy_only=False).astype(str)
    return np.asarray(pd.Index(owners).get_indexer(names)[encoded.indices.to_numpy()])


def _count_in_horizon(
    holder: np.ndarray,
    happened: pd.DatetimeIndex,
    owner: np.ndarray,
    as_of: pd.DatetimeIndex,
    horizon: Horizon,
) -> np.ndarray:
    """Records of each point's household that happen within the point's horizon."""
    counts = np.zeros(len(owner))
    for date, end in zip(as_of.unique(), horizon.end(as_of.unique()), strict=True):
        inside = np.asarray(contains_outcome(happened, date, end)) & (holder >= 0)
        by_owner = np.bincount(holder[inside], minlength=owner.max() + 1)
        here = np.asarray(as_of == date)
        counts[here] = by_owner[owner[here]]
    return counts
