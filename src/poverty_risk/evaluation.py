"""How good a risk is: ordering, calibration, and what a visit budget finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.bootstrap import DEFAULT_METRICS, BootstrapResult, bootstrap_metrics
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.figures import plot_precision_at_budget, plot_reliability
from poverty_risk.ranking import Outcomes, Ranking, align_outcomes, count_visits
from poverty_risk.reliability import (
    CalibrationLine,
    bin_by_risk,
    compute_calibration_slope,
    compute_reliability,
    fit_calibration_line,
)

__all__ = [
    "BootstrapResult",
    "CalibrationLine",
    "Evaluation",
    "bootstrap_metrics",
    "compute_budget_table",
    "compute_calibration_slope",
    "compute_group_metrics",
    "compute_metrics",
    "compute_reliability",
    "evaluate_risk",
    "plot_precision_at_budget",
    "plot_reliability",
]

DEFAULT_BUDGETS = (0.01, 0.02, 0.05, 0.10)
COUNTS = ("n", "n_censored", "positives")


@dataclass(frozen=True)
class Evaluation:
    """How several risks compare on the same points, as tables.

    Parameters
    ----------
    metrics
        One row per name, columns of `compute_metrics`.
    intervals, differences
        Of `bootstrap_metrics`; empty without resamples.
    budgets
        Index (name, budget), columns of `compute_budget_table`.
    reliability
        Index (name, bin), columns of `compute_reliability`; no rows for a margin.
    """

    metrics: pd.DataFrame
    intervals: pd.DataFrame
    differences: pd.DataFrame
    budgets: pd.DataFrame
    reliability: pd.DataFrame


def compute_metrics(labels: pd.Series, risk: pd.Series) -> pd.Series:
    """Metrics of one risk.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out and counted).
    risk
        Probability of each point, matched by key. A Series named ``margin`` is only an order:
        metrics of probabilities are then missing.

    Returns
    -------
    Series
        n, n_censored, positives, base_rate, mean_risk, auc, average_precision, brier, log_loss,
        calibration_slope, calibration_intercept; missing where not defined (one class only).

    Raises
    ------
    FeatureError
        Points that do not match, missing risks, or risks outside [0, 1].

    Notes
    -----
    AUC is the share of pairs of one positive and one negative in which the positive has the higher
    risk, equal risks counting half. Average precision is the sum over distinct risks, from the top,
    of precision times the recall gained, as in scikit-learn.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.evaluation import compute_metrics
    >>> labels, risk = pd.Series([1.0, 0.0, 1.0, 0.0, None]), pd.Series([0.9, 0.5, 0.5, 0.1, 0.2])
    >>> compute_metrics(labels, risk)[["n", "n_censored", "auc"]].tolist()
    [4.0, 1.0, 0.875]
    """
    outcomes = align_outcomes(labels, {"risk": risk})
    return pd.Series(_metrics(outcomes, "risk"), name="metric")


def _metrics(outcomes: Outcomes, name: str) -> dict[str, float]:
    label, risk = outcomes.label, outcomes.risks[name]
    probable = outcomes.probable[name]
    line = fit_calibration_line(label, risk) if probable else CalibrationLine(np.nan, np.nan)
    return {
        "n": float(len(label)),
        "n_censored": float(outcomes.censored),
        "positives": float(label.sum()),
        "base_rate": float(label.mean()),
        "mean_risk": float(risk.mean()) if probable else np.nan,
        **Ranking(label, risk, probable).compute_once(DEFAULT_METRICS),
        "calibration_slope": line.slope,
        "calibration_intercept": line.intercept,
    }


def compute_budget_table(
    labels: pd.Series, risk: pd.Series, budgets: Sequence[float] = DEFAULT_BUDGETS
) -> pd.DataFrame:
    """What visiting the households of highest risk finds, and the range that ties allow.

    Rules give many households the same rank, so the list at a budget is not unique. Expected is the
    mean over all orders of the tied, lowest and highest are the worst and the best order.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out).
    risk
        Probability or margin of each point, matched by key.
    budgets
        Shares of the points that can be visited, above 0 and at most 1.

    Returns
    -------
    DataFrame
        Index budget; columns visits, tied (points that share the last risk visited), and
        <measure>_lowest, <measure>, <measure>_highest for precision (share of visits that find an
        outcome), recall (share of outcomes found) and lift (precision over base rate).

    Raises
    ------
    DeclarationError
        A budget that is no share.
    FeatureError
        Points that do not match, missing risks.

    Notes
    -----
    Visits are rounded down, at least one. Several as-of dates are ranked together.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.evaluation import compute_budget_table
    >>> labels, risk = pd.Series([1.0, 0.0, 1.0, 0.0]), pd.Series([0.9, 0.5, 0.5, 0.1])
    >>> table = compute_budget_table(labels, risk, budgets=[0.5])
    >>> table[["precision_lowest", "precision", "precision_highest"]].values.tolist()
    [[0.5, 0.75, 1.0]]
    """
    outcomes = align_outcomes(labels, {"risk": risk})
    return _budgets(outcomes.label, outcomes.risks["risk"], budgets)


def _budgets(label: np.ndarray, risk: np.ndarray, budgets: Sequence[float]) -> pd.DataFrame:
    faults = [
        Fault("visit budget", f"{budget}", "a share above 0 and at most 1", "Correct it.")
        for budget in budgets
        if not 0.0 < budget <= 1.0
    ]
    if faults:
        raise DeclarationError(faults)
    n, positives = len(label), float(label.sum())
    falling = np.sort(risk)[::-1]
    rows = []
    for budget in budgets:
        visits = int(count_visits(budget, n))
        last = falling[visits - 1]
        above, tied = risk > last, risk == last
        slots, among_tied = visits - int(above.sum()), float(label[tied].sum())
        sure, size = float(label[above].sum()), int(tied.sum())
        hits = {
            "_lowest": sure + max(0.0, slots - (size - among_tied)),
            "": sure + slots * among_tied / size,
            "_highest": sure + min(float(slots), among_tied),
        }
        row: dict[str, float] = {"budget": budget, "visits": visits, "tied": size}
        row |= {f"precision{end}": hit / visits for end, hit in hits.items()}
        row |= {f"recall{end}": _share(hit, positives) for end, hit in hits.items()}
        row |= {f"lift{end}": _share(hit * n, visits * positives) for end, hit in hits.items()}
        rows.append(row)
    return pd.DataFrame(rows).set_index("budget")


def _share(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


def compute_group_metrics(
    labels: pd.Series, risk: pd.Series, groups: pd.Series, min_count: int = 10
) -> pd.DataFrame:
    """Metrics of one risk within groups, such as townships.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out and counted).
    risk
        Probability or margin of each point, matched by key.
    groups
        Group of each point, matched by key; points without one form the group missing.
    min_count
        Groups with fewer labelled points have all values missing: they would point at households.

    Returns
    -------
    DataFrame
        Index group (sorted, missing last), columns of `compute_metrics`.

    Raises
    ------
    FeatureError
        Points that do not match, missing risks, or risks outside [0, 1].

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.evaluation import compute_group_metrics
    >>> labels, risk = pd.Series([1.0, 0.0, 0.0]), pd.Series([0.9, 0.5, 0.1])
    >>> compute_group_metrics(labels, risk, pd.Series(["t1", "t1", "t2"]), min_count=2)["auc"].tolist()
    [1.0, nan]
    """
    align_outcomes(labels, {"risk": risk})
    if not groups.index.is_unique or len(absent := labels.index.difference(groups.index)):
        found = "repeated points" if not groups.index.is_unique else f"{len(absent)} absent points"
        raise FeatureError(Fault("groups", found, "one entry for each point", "Add them."))
    groups, risk = groups.reindex(labels.index), risk.reindex(labels.index)
    rows = {}
    for group, own in labels.groupby(groups, sort=True, dropna=False, observed=True):
        enough = int(own.notna().sum()) >= max(min_count, 1)
        rows[group] = (
            compute_metrics(own, risk.loc[own.index]) if enough else pd.Series(dtype=float)
        )
    table = pd.DataFrame(rows).T
    columns = list(compute_metrics(labels, risk).index)
    return table.reindex(columns=columns).astype(float).rename_axis(str(groups.name or "group"))


def evaluate_risk(
    labels: pd.Series,
    risks: Mapping[str, pd.Series],
    clusters: pd.Series | None = None,
    *,
    budgets: Sequence[float] = DEFAULT_BUDGETS,
    replicates: int = 500,
    seed: int = 0,
    bins: int = 10,
    baselines: Sequence[str] | None = None,
) -> Evaluation:
    """Compare risks on the same points: all tables of an evaluation.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out and counted).
    risks
        Risk by name, the model first; a Series named ``margin`` is only an order.
    clusters
        Cluster of each point for resampling, such as its village; None: its household.
    budgets
        Shares of the points that can be visited.
    replicates
        Resamples for intervals and differences; 0: none.
    seed
        Of the resampling.
    bins
        Of the reliability table.
    baselines
        Names that the others are compared with; None: all but the first.

    Returns
    -------
    Evaluation
        The tables.

    Raises
    ------
    DeclarationError
        A budget that is no share, an unknown baseline.
    FeatureError
        Points that do not match, missing risks, or risks outside [0, 1].

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk.evaluation import evaluate_risk
    >>> labels = pd.Series(np.tile([0.0, 1.0], 50))
    >>> evaluation = evaluate_risk(labels, {"model": labels * 0.8 + 0.1}, replicates=20)
    >>> evaluation.metrics.loc["model", "auc"].item()
    1.0
    """
    if not risks:
        raise FeatureError(Fault("risks", "none", "one or more by name", "Give the model's risk."))
    outcomes = align_outcomes(labels, risks)
    metrics = pd.DataFrame({name: _metrics(outcomes, name) for name in risks}).T
    budget_tables = {n: _budgets(outcomes.label, r, budgets) for n, r in outcomes.risks.items()}
    reliability = {
        name: bin_by_risk(outcomes.label, risk, bins)
        for name, risk in outcomes.risks.items()
        if outcomes.probable[name]
    }
    resampled = BootstrapResult(pd.DataFrame(), pd.DataFrame())
    if replicates:
        at_budgets = [f"{kind}_at_{b:.12g}" for b in budgets for kind in ("precision", "recall")]
        resampled = bootstrap_metrics(
            labels,
            risks,
            clusters,
            [*DEFAULT_METRICS, *at_budgets],
            replicates=replicates,
            seed=seed,
            baselines=baselines,
        )
    return Evaluation(
        metrics=metrics.astype(dict.fromkeys(COUNTS, np.int64)).rename_axis("name"),
        intervals=resampled.intervals,
        differences=resampled.differences,
        budgets=pd.concat(budget_tables, names=["name"]),
        reliability=pd.concat(reliability, names=["name"]) if reliability else pd.DataFrame(),
    )
