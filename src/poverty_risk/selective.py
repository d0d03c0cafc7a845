"""Outcomes seen only where somebody looked: weighted by the recorded chances of being visited."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.bootstrap import DEFAULT_METRICS, compute_ends, iter_resamples, number_clusters
from poverty_risk.calibration import fit_calibrator
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.looks import align_looks, check_coverage, check_seen, count_effective, select_seen
from poverty_risk.model import RiskModel
from poverty_risk.ranking import Ranking, align_outcomes, count_visits

__all__ = ["SeenEvaluation", "calibrate_seen", "evaluate_seen"]


@dataclass(frozen=True)
class SeenEvaluation:
    """How good risks are among all who could be visited, told from those who were.

    Parameters
    ----------
    metrics
        Index (name, metric); columns estimate (weighted), low, high, replicates (resamples in which it
        was defined), unweighted (what the same visits say when each counts once).
    sample
        What the visits are worth. points; coverable : points with a propensity above 0, of whom all
        estimates speak; visited; failed : visits without an outcome; seen : visits with one;
        positives; effective : number of equally weighted visits that would tell as much (Kish);
        effective_positives : the same among the positives, which bounds what can be said of recall;
        largest_share : of one point in the total weight.

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


def calibrate_seen(
    model: RiskModel, features: pd.DataFrame, labels: pd.Series, looks: pd.DataFrame
) -> RiskModel:
    """A model with its order kept and the level of its risks set by visits, weighted in full.

    Trees learn order best from many outcomes, whoever was visited; the level is what they then get
    wrong, and two numbers of it can be told by few random visits.

    Parameters
    ----------
    model
        A fitted model; it is not changed.
    features
        Of points that the trees did not learn from, such as later ones, every one that could be
        visited; tiers are set among them.
    labels, looks
        As for `select_seen`, of the same points.

    Returns
    -------
    RiskModel
        The same trees with another calibration and other tiers; calibration by a sigmoid. It tells
        no intervals (`build_risk_intervals`): how far weighted visits spread is not measured.

    Raises
    ------
    FeatureError
        Points that do not match, visits of one outcome only, or an order that they turn round.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, calibrate_seen
    >>> features = pd.DataFrame({"income": np.random.default_rng(0).normal(size=600)})
    >>> labels = pd.Series((features["income"] < -0.8).astype(float)).where(features.index % 9 > 0, 1.0)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> looks = pd.DataFrame({"visited": True, "propensity": 0.5}, index=labels.index)
    >>> seen = calibrate_seen(model.fit(features, labels), features, labels, looks)
    >>> bool(abs(seen.risk(features).mean() - labels.mean()) < 0.02)
    True
    """
    rows = select_seen(labels, looks, power=1.0)
    found: RiskModel = copy.copy(model).set_params(calibration="sigmoid")
    found.__dict__.pop("model_id_", None)  # of what was saved before
    margin = model.margin(features.loc[rows.index]).to_numpy()
    found.calibrator_ = fit_calibrator(
        "sigmoid", margin, rows["label"].to_numpy(), rows["weight"].to_numpy()
    )
    found.spread_ = None
    risks = found.risk(features)[align_looks(looks, features.index)[1] > 0]
    found.tiers_ = {
        tier: float(np.quantile(risks, 1 - share)) for tier, share in model.tiers.items()
    }
    return found


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
    clusters of seen points, with the lists' chances as they were. With fewer than some twenty effective
    positives they are too narrow: a list with 5 % of its visits at random tells little.

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
    visited, propensity = align_looks(looks, labels.index)
    if regions is not None:
        check_coverage(looks, regions.loc[labels.index])
    coverable = propensity > 0
    seen = visited & labels.notna().to_numpy()
    check_seen(seen)
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
            "effective": count_effective(weight),
            "effective_positives": count_effective(weight[label == 1.0]),
            "largest_share": float(weight.max() / weight.sum()),
        },
        name="sample",
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
