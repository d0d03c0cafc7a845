"""Intervals by resampling whole clusters, and paired differences on the same resamples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.ranking import (
    PROBABILITY_METRICS,
    Outcomes,
    Ranking,
    align_outcomes,
    check_metric_names,
)

__all__ = [
    "DEFAULT_METRICS",
    "BootstrapResult",
    "bootstrap_metrics",
    "compute_ends",
    "iter_resamples",
    "number_clusters",
]

DEFAULT_METRICS = ("auc", "average_precision", "brier", "log_loss")
CELLS_AT_ONCE = 2_000_000
"""Weights held at a time (16 MB); bounds the memory for any number of points."""


@dataclass(frozen=True)
class BootstrapResult:
    """What resampling says.

    Parameters
    ----------
    intervals
        Index (name, metric); columns estimate, low, high, replicates (in which it was defined).
    differences
        Index (name, baseline, metric); columns difference (name minus baseline), low, high,
        share_better (of resamples; for brier and log_loss lower is better; a tie counts half),
        replicates.
    """

    intervals: pd.DataFrame
    differences: pd.DataFrame


def bootstrap_metrics(
    labels: pd.Series,
    risks: Mapping[str, pd.Series],
    clusters: pd.Series | None = None,
    metrics: Iterable[str] = DEFAULT_METRICS,
    *,
    replicates: int = 500,
    seed: int = 0,
    level: float = 0.95,
    baselines: Sequence[str] | None = None,
) -> BootstrapResult:
    """Percentile intervals of metrics by cluster bootstrap, and paired differences.

    Households of a village share weather, roads and cadres; resampling single households would give
    intervals that are too narrow. Every resample serves all risks, so differences are paired.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out).
    risks
        Risk by name on the points of `labels`, matched by key; a Series named ``margin`` is only an
        order.
    clusters
        Cluster of each point, such as its village. None takes the household; where missing, the
        household is its own cluster.
    metrics
        Names as for `poverty_risk.ranking.check_metric_names`.
    replicates
        Number of resamples.
    seed
        Of the resampling; the same seed draws the same clusters in whatever order the points come.
    level
        Coverage of the intervals.
    baselines
        Names that the others are compared with; None: all but the first.

    Returns
    -------
    BootstrapResult
        Intervals and differences.

    Raises
    ------
    DeclarationError
        An unknown metric or baseline, or a level outside (0, 1).
    FeatureError
        Points that do not match, or fewer than two clusters.

    Notes
    -----
    As many clusters are drawn, with replacement, as there are. A resample without positives defines
    no AUC; it is left out of that metric, and `replicates` says how many are left. With fewer than
    some twenty clusters percentile intervals are too narrow.

    References
    ----------
    Field, C. A. and Welsh, A. H. (2007). Bootstrapping clustered data.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk.bootstrap import bootstrap_metrics
    >>> labels = pd.Series(np.tile([0.0, 1.0], 50))
    >>> risks = {"model": labels * 0.8 + 0.1, "chance": labels * 0 + 0.5}
    >>> result = bootstrap_metrics(labels, risks, metrics=["auc"], replicates=50)
    >>> result.differences.loc[("model", "chance", "auc"), "difference"].item()
    0.5
    """
    names = check_metric_names(metrics)
    _check_settings(level, replicates, list(risks), baselines)
    outcomes = align_outcomes(labels, risks)
    codes = number_clusters(outcomes, labels, clusters)
    rankings = {
        name: Ranking(outcomes.label, risk, outcomes.probable[name])
        for name, risk in outcomes.risks.items()
    }
    draws: dict[tuple[str, str], list[np.ndarray]] = {}
    for weights in iter_resamples(codes, replicates, seed):
        for name, ranking in rankings.items():
            for metric, values in ranking.compute(names, weights).items():
                draws.setdefault((name, metric), []).append(values)
    drawn = {key: np.concatenate(parts) for key, parts in draws.items()}
    estimates = {
        (name, metric): value
        for name, ranking in rankings.items()
        for metric, value in ranking.compute_once(names).items()
    }
    compared = list(risks)[1:] if baselines is None else list(baselines)
    pairs = [(n, b) for n in risks if n not in compared for b in compared]
    return BootstrapResult(
        _summarise_intervals(estimates, drawn, level),
        _summarise_differences(estimates, drawn, pairs, names, level),
    )


def _check_settings(
    level: float, replicates: int, names: list[str], baselines: Sequence[str] | None
) -> None:
    faults = []
    if not 0.0 < level < 1.0:
        faults.append(Fault("level", f"{level}", "between 0 and 1", "Correct it."))
    if replicates < 1:
        faults.append(Fault("replicates", f"{replicates}", "1 or more", "Correct it."))
    faults += [
        Fault("baselines", f"'{name}'", f"one of {', '.join(names)}", "Correct the name.")
        for name in baselines or ()
        if name not in names
    ]
    if faults:
        raise DeclarationError(faults)


def number_clusters(
    outcomes: Outcomes, labels: pd.Series, clusters: pd.Series | None
) -> np.ndarray:
    """Whole numbers from 0 that name the cluster of each labelled point."""
    index = outcomes.index
    own = index.get_level_values("household_id") if "household_id" in index.names else index
    own_codes = pd.factorize(own, sort=True)[0]
    if clusters is None:
        return _check_count(own_codes)
    if not clusters.index.is_unique or len(absent := labels.index.difference(clusters.index)):
        found = (
            "repeated points" if not clusters.index.is_unique else f"{len(absent)} points absent"
        )
        raise FeatureError(
            Fault("clusters", found, "one entry for each point of the labels", "Add them.")
        )
    values = clusters.reindex(index)
    codes, known = pd.factorize(values.astype("str").where(values.notna()), sort=True)
    codes = np.where(codes < 0, len(known) + own_codes, codes)
    return _check_count(np.unique(codes, return_inverse=True)[1])


def _check_count(codes: np.ndarray) -> np.ndarray:
    """One cluster alone would be drawn each time: an interval of no width, as if all were known."""
    if codes.max() == 0:
        raise FeatureError(
            Fault(
                "clusters",
                "one cluster with all points",
                "two or more, better twenty",
                "Resample smaller clusters, or ask for no resamples.",
            )
        )
    return codes


def iter_resamples(codes: np.ndarray, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """How often each point is drawn, some resamples at a time, shape (some, n_points)."""
    rng = np.random.default_rng(seed)
    clusters = int(codes.max()) + 1
    some = max(1, CELLS_AT_ONCE // len(codes))
    for start in range(0, replicates, some):
        counts = np.stack(
            [
                np.bincount(rng.integers(clusters, size=clusters), minlength=clusters)
                for _ in range(min(some, replicates - start))
            ]
        )
        yield counts[:, codes].astype(np.float64)


def compute_ends(values: np.ndarray, level: float) -> tuple[float, float, int]:
    """Ends of the interval over resamples, and in how many of them there was a value."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan, 0
    low, high = np.quantile(known, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high), len(known)


def _summarise_intervals(
    estimates: Mapping[tuple[str, str], float],
    drawn: Mapping[tuple[str, str], np.ndarray],
    level: float,
) -> pd.DataFrame:
    rows = [(*key, value, *compute_ends(drawn[key], level)) for key, value in estimates.items()]
    columns = ["name", "metric", "estimate", "low", "high", "replicates"]
    return pd.DataFrame(rows, columns=columns).set_index(["name", "metric"])


def _summarise_differences(
    estimates: Mapping[tuple[str, str], float],
    drawn: Mapping[tuple[str, str], np.ndarray],
    pairs: list[tuple[str, str]],
    metrics: tuple[str, ...],
    level: float,
) -> pd.DataFrame:
    rows = []
    for name, baseline in pairs:
        for metric in metrics:
            difference = estimates[name, metric] - estimates[baseline, metric]
            values = drawn[name, metric] - drawn[baseline, metric]
            low, high, count = compute_ends(values, level)
            gain = values[~np.isnan(values)] * (-1.0 if metric in PROBABILITY_METRICS else 1.0)
            better = float(np.mean((gain > 0) + (gain == 0) / 2.0)) if count else np.nan
            rows.append((name, baseline, metric, difference, low, high, better, count))
    columns = [
        "name", "baseline", "metric", "difference", "low", "high", "share_better", "replicates",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).set_index(["name", "baseline", "metric"])
