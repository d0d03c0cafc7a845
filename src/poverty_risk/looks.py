"""Who was visited, and with which recorded chance: coverage, and the labels that visits saw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, FeatureError

__all__ = ["align_looks", "check_coverage", "check_seen", "count_effective", "select_seen"]

FEWEST = 20
"""Points below which a region that nobody could have seen is no fault: it may be chance."""

REGION_BINS = 4


def select_seen(labels: pd.Series, looks: pd.DataFrame, *, power: float = 0.5) -> pd.DataFrame:
    """Labels that visits saw, with weights for training.

    A model trained with unseen households as safe learns where offices look. One trained on visits
    alone learns most about those whom the list ranks high; weights make the visited stand for all who
    could have been visited.

    Parameters
    ----------
    labels
        1, 0 or missing, index of points. Labels of points without a visit are not used, however they
        became known: a household that asked for help is seen by reason of its outcome, with a
        chance that nobody recorded.
    looks
        By the same key, from `collect_looks`: visited (bool), propensity (in [0, 1], before the draw).
    power
        Weights are one over the propensity, to this power: 1 makes up for the list in full, at the
        price of few visits that decide everything; 0 counts each visit once, which is enough where
        features tell all that the list knew.

    Returns
    -------
    DataFrame
        One row per visit with an outcome, in the order of `labels`: label, weight (mean 1). Pass them
        to ``RiskModel.fit(features.loc[rows.index], rows["label"], sample_weight=rows["weight"])``.

    Raises
    ------
    FeatureError
        Points without an entry in `looks`, values out of range, or no visit with an outcome.

    Notes
    -----
    No weight is trimmed; a power below 1 flattens them all. Weights are scaled to a mean of 1, so that
    regularisation of the model keeps its meaning. Calibration is weighted likewise; a power below 1
    leaves the level of the risks wrong where the list knew more than the features, which
    `calibrate_seen` sets right (benchmarks/selective_labels.py shows both).

    References
    ----------
    Shimodaira (2000), Improving predictive inference under covariate shift by weighting the
    log-likelihood function.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import select_seen
    >>> looks = pd.DataFrame({"visited": [True, True, False], "propensity": [1.0, 0.5, 0.5]})
    >>> select_seen(pd.Series([1.0, 0.0, None]), looks, power=1)["weight"].round(3).tolist()
    [0.667, 1.333]
    """
    if not 0.0 <= power <= 1.0:
        raise DeclarationError(Fault("power", f"{power}", "between 0 and 1", "Correct it."))
    visited, propensity = align_looks(looks, labels.index)
    seen = visited & labels.notna().to_numpy()
    check_seen(seen)
    weight = propensity[seen] ** -power
    rows = {"label": labels[seen].astype(float), "weight": weight / weight.mean()}
    return pd.DataFrame(rows, index=labels.index[seen])


def check_coverage(looks: pd.DataFrame, regions: pd.DataFrame) -> pd.DataFrame:
    """Whether every region of the features could be seen, and how well it was.

    Where nobody could be visited, no weight helps: nothing is known of such households, and a model
    that is trained or judged there is guessing.

    Parameters
    ----------
    looks
        As for `select_seen`.
    regions
        By the same key, one or more columns: groups such as township_id, or features. Numbers of more
        than a handful of values are cut into quarters; missing values are a region of their own.

    Returns
    -------
    DataFrame
        Index (feature, region); columns points, coverable (share with a propensity above 0), smallest
        (propensity above 0), visited, effective (visits that tell as much, equally weighted).

    Raises
    ------
    FeatureError
        A region of 20 points or more in which no point could be visited; all such regions in one
        error.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import check_coverage
    >>> looks = pd.DataFrame({"visited": [True, False], "propensity": [0.5, 0.25]})
    >>> check_coverage(looks, pd.DataFrame({"township_id": ["T1", "T2"]}))["visited"].tolist()
    [1, 0]
    """
    visited, propensity = align_looks(looks, regions.index)
    rows, faults = [], []
    for feature in regions.columns:
        names = _cut(regions[feature])
        for region in sorted(set(names)):
            inside = names == region
            own, can = visited & inside, (propensity > 0) & inside
            coverable = can.sum() / inside.sum()
            smallest = propensity[can].min() if can.any() else np.nan
            effective = count_effective(1.0 / propensity[own])
            rows.append((feature, region, inside.sum(), coverable, smallest, own.sum(), effective))
            if not can.any() and inside.sum() >= FEWEST:
                faults.append(_uncovered(str(feature), region, int(inside.sum())))
    if faults:
        raise FeatureError(faults)
    columns = ["feature", "region", "points", "coverable", "smallest", "visited", "effective"]
    return pd.DataFrame(rows, columns=columns).set_index(["feature", "region"])


def _uncovered(feature: str, region: str, points: int) -> Fault:
    return Fault(
        f"propensity where {feature} is {region}",
        f"0 at all {points:,} points",
        "a chance above 0 of being visited for some of them",
        "Leave this region out of what is evaluated and scored, or let random visits reach it.",
    )


def _cut(values: pd.Series) -> np.ndarray:
    """Name of each point's region."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > REGION_BINS + 1:
        values = pd.qcut(values.astype(float), REGION_BINS, duplicates="drop")
    texts = values.astype(object).astype(str).where(values.notna().to_numpy(), "missing")
    return np.asarray(texts.to_numpy(), dtype=object)


def count_effective(weight: np.ndarray) -> float:
    """Number of equally weighted points that would tell as much (Kish)."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def align_looks(looks: pd.DataFrame, index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Whether each point was visited, and with which propensity."""
    faults = [
        Fault("looks", f"no column '{name}'", "visited and propensity", "Use collect_looks.")
        for name in ("visited", "propensity")
        if name not in looks.columns
    ]
    if not looks.index.is_unique or not index.is_unique:
        faults.append(Fault("looks", "repeated points", "each point once", "Drop the repeats."))
    elif absent := len(index.difference(looks.index)):
        found = f"{absent:,} of {len(index):,} points without an entry"
        faults.append(Fault("looks", found, "one for each point", "Take the lists of all dates."))
    if faults:
        raise FeatureError(faults)
    own = looks.reindex(index)
    propensity = own["propensity"].to_numpy(dtype=np.float64, na_value=np.nan)
    visited = own["visited"].to_numpy(dtype=bool)
    if odd := int((~((propensity >= 0) & (propensity <= 1))).sum()):
        faults.append(
            Fault("propensity", f"{odd:,} missing or outside [0, 1]", "a chance", "Correct them.")
        )
    if impossible := int((visited & (propensity == 0)).sum()):
        found = f"0 at {impossible:,} points that were visited"
        remedy = "Count only visits of the list: mark the others as not visited."
        faults.append(Fault("propensity", found, "above 0 where visited", remedy))
    if faults:
        raise FeatureError(faults)
    return visited, propensity


def check_seen(seen: np.ndarray) -> None:
    """Refuse visits of which none has an outcome."""
    if not seen.any():
        raise FeatureError(
            Fault("labels", "no visit with an outcome", "one or more", "Wait for what visits find.")
        )
