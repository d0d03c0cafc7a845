"""Whether the features are still what the model learned from: how often missing, how distributed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from poverty_risk.features.spec import FeatureSpec
from poverty_risk.monitoring.drift import (
    adjust_p_values,
    compare_with_reference,
    compute_effective_size,
)
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import Causes, WatchedRound

__all__ = ["check_drift", "check_missing", "measure_features"]

NUMBERS = (
    *("missing", "missing_training", "missing_year", "p_missing"),
    *("psi", "distance", "p_value", "psi_year", "q_value", "q_missing"),
)


_CALENDAR = re.compile(r"\bas_of_(year|month|date)\b|\bdays_since\(")


def measure_features(watched: WatchedRound, causes: Causes) -> pd.DataFrame:
    """Each feature of the model now, against training and against a year ago.

    Parameters
    ----------
    watched
        The round.
    causes
        Feeds and places that stopped: their features and households are left out.

    Returns
    -------
    DataFrame
        Index feature; columns theme, missing, missing_training, missing_year, psi, distance, p_value,
        q_value, psi_year, q_missing, and in missing_status and drift_status what became of it:
        ``issue``, ``tip``, ``passed``, ``few``, ``clock``, or the code of the cause.
    """
    place = watched.settings.place
    now = watched.now.without(place, causes.places)
    before = None if watched.year_ago is None else watched.year_ago.without(place, causes.places)
    year = None
    if before is not None and len(before.risk) >= watched.settings.fewest:
        year = watched.model.columns_.describe(before.matrix)
    clusters = watched.clusters(now)
    rows = [
        _measure(watched, causes, name, now.matrix[:, position], clusters, year)
        for position, name in enumerate(watched.model.columns_.names)
    ]
    table = (
        pd.DataFrame(rows)
        .set_index("feature")
        .reindex(columns=["theme", *NUMBERS[:-2], "drift_status", "missing_status"])
    )
    table["q_value"] = adjust_p_values(table["p_value"].to_numpy(dtype=float))
    table["q_missing"] = adjust_p_values(table["p_missing"].to_numpy(dtype=float))
    return _judge(table, watched)


def _measure(
    watched: WatchedRound,
    causes: Causes,
    name: str,
    values: np.ndarray,
    clusters: np.ndarray | None,
    year: dict[str, dict[str, Any]] | None,
) -> dict[str, Any]:
    assert watched.model.catalog is not None
    spec = watched.model.catalog[name]
    row: dict[str, Any] = {"feature": name, "theme": spec.theme}
    tables = watched.model.catalog.tables_of(name)
    if cause := next((causes.tables[table] for table in tables if table in causes.tables), None):
        return row | {"drift_status": cause, "missing_status": cause}
    entry, fewest = watched.model.reference_[name], watched.settings.fewest
    gap = np.isnan(values)
    row |= {"missing": gap.mean() if len(gap) else np.nan, "missing_training": entry["missing"]}
    if year is not None:
        row["missing_year"] = year[name]["missing"]
    worth = compute_effective_size(gap, clusters)
    if spec.aggregator == "days_since_last":
        row["missing_status"] = "clock"  # missing: no such event in its window, which moves on
    elif worth < fewest:
        row["missing_status"] = "few"
    else:
        row["p_missing"] = _p_of_rise(row["missing"], entry["missing"], worth)
    known = ~gap
    size = compute_effective_size(values[known], None if clusters is None else clusters[known])
    if _is_clock(spec):
        return row | {"drift_status": "clock"}
    if size < fewest:
        return row | {"drift_status": "few"}
    found = compare_with_reference(
        entry, values, size=size, reference_size=_training_points(watched)
    )
    if found is None:
        return row | {"drift_status": "few"}
    row |= {"psi": found.psi, "distance": found.distance, "p_value": found.p_value}
    earlier = None if year is None else compare_with_reference(year[name], values)
    return row | {"psi_year": np.nan if earlier is None else earlier.psi}


def _p_of_rise(share: float, reference: float, size: float) -> float:
    pooled = (share + reference) / 2
    error = np.sqrt(max(pooled * (1 - pooled), 1e-12) / size)
    return float(norm.sf((share - reference) / error))


def _is_clock(spec: FeatureSpec) -> bool:
    """Whether it moves with the calendar whatever happens: that it moved tells nothing."""
    texts = [text for text in (spec.formula, spec.value) if text is not None]
    dated = any(_CALENDAR.search(text) for text in texts)
    return spec.aggregator == "days_since_last" or dated


def _training_points(watched: WatchedRound) -> float:
    periods = [one for one in watched.model.training_.values() if isinstance(one, dict)]
    return float(max((one["points"] for one in periods), default=np.inf))


def _judge(table: pd.DataFrame, watched: WatchedRound) -> pd.DataFrame:
    settings = watched.settings
    real = table["q_value"] <= settings.level
    far = real & (table["psi"] >= settings.psi)
    new = far & ~(table["psi_year"] < settings.psi_year)
    real_gap = table["q_missing"] <= settings.level
    rose = real_gap & (table["missing"] - table["missing_training"] >= settings.missing)
    new_gap = rose & ~(table["missing"] - table["missing_year"] < settings.missing)
    for column, issue, tip in (
        ("drift_status", new, far),
        ("missing_status", new_gap, rose),
    ):
        judged = np.where(issue, "issue", np.where(tip, "tip", "passed"))
        table[column] = table[column].where(table[column].notna(), judged)
    return table


def check_missing(watched: WatchedRound, features: pd.DataFrame) -> CheckResult:
    """M002: features that are missing more often than in training and than a year ago."""
    return _conclude("M002", watched, features, "missing_status", "missing")


def check_drift(watched: WatchedRound, features: pd.DataFrame) -> CheckResult:
    """M003: features whose distribution left that of training, within the last year."""
    return _conclude("M003", watched, features, "drift_status", "psi")


def _conclude(
    code: str, watched: WatchedRound, features: pd.DataFrame, status: str, size: str
) -> CheckResult:
    counts = features[status].value_counts()
    metrics = {"issues": float(counts.get("issue", 0)), "tips": float(counts.get("tip", 0))}
    metrics["largest"] = float(features[size].max())
    for outcome in ("issue", "tip"):
        mine = features[features[status] == outcome]
        if len(mine):
            worst = mine.sort_values(size, ascending=False, kind="stable").index
            names = tuple(watched.name_feature(str(name)) for name in worst)
            values = {"count": len(mine), "features": names}
            return CheckResult(code, outcome, outcome, values, metrics)
    passed = int(counts.get("passed", 0))
    if passed:
        others = len(features) - passed
        values = {"count": passed, "others": others}
        return CheckResult(code, "passed", "passed", values, metrics)
    causes = sorted({str(one) for one in features[status] if str(one).startswith("M")})
    if causes:
        return CheckResult(code, "skipped", "cause", {"codes": tuple(causes)}, metrics)
    return CheckResult(code, "not_applicable", "few", {"fewest": watched.settings.fewest}, metrics)
