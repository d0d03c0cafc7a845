"""Outcomes seen only where somebody looked: weighted by the recorded chances of being visited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.bootstrap import DEFAULT_METRICS, compute_ends, iter_resamples, number_clusters
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.ranking import Ranking, align_outcomes, count_visits

__all__ = ["SeenEvaluation", "check_coverage", "evaluate_seen", "select_seen"]

FEWEST = 20
"""Points below which a region that nobody could have seen is no fault: it may be chance."""

REGION_BINS = 4


@dataclass(frozen=True)
class SeenEvaluation:
    """How good risks are among all who could be visited, told from those who were.

    Parameters
    ----------
    metrics
        Index (name, metric); columns estimate (weighted), low, high, replicates (resamples in which it
        was defined), unweighted (what the same visits say when each counts once).
    sample
        What the visits are worth. points; coverable : points with a propensity above 0, of whom all estimates speak; visited;
        failed : visits without an outcome; seen : visits with one; positives; effective : number of
        equally weighted visits that would tell as much (Kish); effective_positives : the same among
        the positives, which bounds what can be said of recall; largest_share : of one point in the
        total weight.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import evaluate_seen
    >>> risk = pd.Series(np.linspace(0.01, 0.6, 200))
    >>> looks = pd.DataFrame({"visited": np.arange(200) % 2 == 0, "propensity": 0.5})
    >>> found = evaluate_seen((risk > 0.5).astype(float), looks, {"model": risk}, replicates=20)
    >>> found.sample[["visited", "effective"]].tolist()
    [100.0, 100.0]
    """

    metrics: pd.DataFrame
    sample: pd.Series


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
    regularisation of the model keeps its meaning. Calibration is weighted likewise.

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
    visited, propensity = _read_looks(looks, labels.index)
    seen = visited & labels.notna().to_numpy()
    _check_seen(seen)
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
    visited, propensity = _read_looks(looks, regions.index)
    rows, faults = [], []
    for feature in regions.columns:
        names = _cut(regions[feature])
        for region in sorted(set(names)):
            inside = names == region
            own, can = visited & inside, (propensity > 0) & inside
            coverable = can.sum() / inside.sum()
            smallest = propensity[can].min() if can.any() else np.nan
            effective = _effective(1.0 / propensity[own])
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


def evaluate_seen(
    labels: pd.Series,
    looks: pd.DataFrame,
    risks: Mapping[str, pd.Series],
    clusters: pd.Series | None = None,
    *,
    regions: pd.DataFrame | None = None,
    budgets: Sequence[float] = (0.05, 0.10),
    replicates: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> SeenEvaluation:
    """Evaluate risks on outcomes that only visits saw, for all who could have been visited.

    Visits go where the risk is high: among the visited a model looks worse at ordering, and its
    outcomes look more frequent, than among all. Where unseen households count as safe, whatever the
    visits followed looks better than it is.

    Parameters
    ----------
    labels, looks
        As for `select_seen`.
    risks
        Risk by name at every point that could be visited, matched by key; a Series named ``margin``
        is only an order.
    clusters
        Cluster of each point for resampling, such as its village; None: its household.
    regions
        As for `check_coverage`, which is then asked first; None: not asked.
    budgets
        Shares of the coverable points that can be visited, for recall and precision.
    replicates
        Resamples for intervals.
    seed
        Of the resampling.
    level
        Coverage of the intervals.

    Returns
    -------
    SeenEvaluation
        auc, average_precision, brier, log_loss, outcome_rate, calibration_ratio (outcomes over
        expected ones), recall_at_<budget> and precision_at_<budget> by name, and what the sample is
        worth.

    Raises
    ------
    DeclarationError
        A budget that is no share, a level outside (0, 1), no resample.
    FeatureError
        Points that do not match, a region that nobody could see, or no visit with an outcome.

    Notes
    -----
    Every visit with an outcome has weight ``1 / propensity``, untrimmed; rates are ratios of weighted
    sums (Hajek). The households of highest risk are those among all coverable points, whose risks
    are known; only what is found among them is estimated. Intervals are percentiles over resampled
    clusters of seen points, with the lists' chances as they were.

    What this cannot know: whoever had a propensity of 0; what failed visits would have found (they
    are taken to be like the others); what a visit did not recognise; and outcomes that the visit, or
    the help that followed it, prevented.

    References
    ----------
    Hajek (1971), comment on an essay by D. Basu. Kish (1965), Survey sampling.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import evaluate_seen
    >>> risk = pd.Series(np.linspace(0.01, 0.6, 200))
    >>> looks = pd.DataFrame({"visited": np.arange(200) % 2 == 0, "propensity": 0.5})
    >>> found = evaluate_seen((risk > 0.5).astype(float), looks, {"model": risk}, replicates=20)
    >>> found.metrics.loc[("model", "auc"), "estimate"].item()
    1.0
    """
    _check_settings(budgets, replicates, level)
    visited, propensity = _read_looks(looks, labels.index)
    if regions is not None:
        check_coverage(looks, regions.loc[labels.index])
    coverable = propensity > 0
    seen = visited & labels.notna().to_numpy()
    _check_seen(seen)
    outcomes = align_outcomes(labels.where(seen), risks)
    weight = 1.0 / propensity[seen]
    codes = number_clusters(outcomes, labels, clusters)
    rows = []
    for name, risk in risks.items():
        everywhere = _risk_of(risk, labels.index[coverable], name)
        own = outcomes.risks[name]
        listed = {budget: _listed(everywhere, own, budget) for budget in budgets}
        measured = _Seen(outcomes.label, own, outcomes.probable[name], listed)
        estimate = measured.compute(weight[None])
        once = measured.compute(np.ones((1, len(weight))))
        drawn = [measured.compute(w) for w in _iter_weights(codes, weight, replicates, seed)]
        for metric, value in estimate.items():
            ends = compute_ends(np.concatenate([part[metric] for part in drawn]), level)
            rows.append((name, metric, float(value[0]), *ends, float(once[metric][0])))
    columns = ["name", "metric", "estimate", "low", "high", "replicates", "unweighted"]
    return SeenEvaluation(
        pd.DataFrame(rows, columns=columns).set_index(["name", "metric"]),
        _describe(visited, coverable, outcomes.label, weight),
    )


def _iter_weights(
    codes: np.ndarray, weight: np.ndarray, replicates: int, seed: int
) -> Iterator[np.ndarray]:
    for counts in iter_resamples(codes, replicates, seed):
        yield counts * weight


class _Seen:
    """One risk at the seen points; `listed` is each point's share on the list of a budget."""

    def __init__(
        self,
        label: np.ndarray,
        risk: np.ndarray,
        probable: bool,
        listed: Mapping[float, np.ndarray],
    ) -> None:
        self.label, self.risk, self.probable, self.listed = label, risk, probable, listed
        self.ranking = Ranking(label, risk, probable)

    def compute(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every metric under several weightings, shape (n_weightings,) each."""
        found = self.ranking.compute(DEFAULT_METRICS, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            outcomes = weights @ self.label
            found["outcome_rate"] = outcomes / weights.sum(axis=1)
            expected = weights @ self.risk if self.probable else np.full(len(weights), np.nan)
            found["calibration_ratio"] = outcomes / expected
            for budget, listed in self.listed.items():
                hits = weights @ (self.label * listed)
                found[f"recall_at_{budget:g}"] = hits / outcomes
                found[f"precision_at_{budget:g}"] = hits / (weights @ listed)
        return found


def _listed(everywhere: np.ndarray, risk: np.ndarray, budget: float) -> np.ndarray:
    """Which seen points are among the highest risks of all; the last tied ones share the rest."""
    visits = int(count_visits(budget, len(everywhere)))
    last = np.partition(everywhere, -visits)[-visits]
    above, tied = int((everywhere > last).sum()), int((everywhere == last).sum())
    return np.where(risk > last, 1.0, np.where(risk == last, (visits - above) / tied, 0.0))


def _risk_of(risk: pd.Series, index: pd.Index, name: str) -> np.ndarray:
    values = risk.reindex(index).to_numpy(dtype=np.float64, na_value=np.nan)
    if absent := int(np.isnan(values).sum()):
        found = f"{absent:,} of {len(values):,} points that could be visited without a risk"
        raise FeatureError(
            Fault(f"risk '{name}'", found, "a risk at each of them", "Score all of them.")
        )
    return values


def _describe(
    visited: np.ndarray, coverable: np.ndarray, label: np.ndarray, weight: np.ndarray
) -> pd.Series:
    return pd.Series(
        {
            "points": float(len(visited)),
            "coverable": float(coverable.sum()),
            "visited": float(visited.sum()),
            "failed": float(visited.sum() - len(label)),
            "seen": float(len(label)),
            "positives": float(label.sum()),
            "effective": _effective(weight),
            "effective_positives": _effective(weight[label == 1.0]),
            "largest_share": float(weight.max() / weight.sum()),
        },
        name="sample",
    )


def _effective(weight: np.ndarray) -> float:
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def _read_looks(looks: pd.DataFrame, index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
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


def _check_seen(seen: np.ndarray) -> None:
    if not seen.any():
        raise FeatureError(
            Fault("labels", "no visit with an outcome", "one or more", "Wait for what visits find.")
        )


def _check_settings(budgets: Sequence[float], replicates: int, level: float) -> None:
    faults = [
        Fault("visit budget", f"{budget}", "a share above 0 and at most 1", "Correct it.")
        for budget in budgets
        if not 0.0 < budget <= 1.0
    ]
    if replicates < 1:
        faults.append(Fault("replicates", f"{replicates}", "1 or more", "Correct it."))
    if not 0.0 < level < 1.0:
        faults.append(Fault("level", f"{level}", "between 0 and 1", "Correct it."))
    if faults:
        raise DeclarationError(faults)
