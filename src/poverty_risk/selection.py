"""Selection over time: how each candidate did in all past periods, and which one that speaks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.bootstrap import compute_ends, iter_resamples, number_clusters
from poverty_risk.candidates import Candidate, fit_candidate
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.panel import Panel
from poverty_risk.progress import track
from poverty_risk.ranking import (
    PROBABILITY_METRICS,
    Ranking,
    align_outcomes,
    check_metric_names,
)
from poverty_risk.windows import parse_as_of_dates

__all__ = ["CandidateComparison", "compare_candidates", "evaluate_over_time"]

ALWAYS = ("average_precision", "auc")


@dataclass(frozen=True)
class CandidateComparison:
    """What comparing candidates over past periods gives.

    Parameters
    ----------
    objective
        Metric that regret and rank are of; more is better.
    reference
        Candidate that the others are compared with.
    chosen
        Candidate with the least mean regret over the earlier periods; of those that tie with it the
        simplest, then the one declared first.
    periods
        Index (candidate, period): points, positives, learned_from, learned_positives, the metrics,
        regret (best of the period minus own), rank (1 is best; ties share the mean), difference to
        the reference with low and high (paired resamples), and whether the period is an earlier one.
    summary
        Index candidate, by mean regret: over the earlier periods mean of the objective, mean_regret,
        largest_regret, mean_rank; difference of the mean to the reference with low, high and
        share_better; members (models that are averaged); chosen.
    last
        Index candidate: metrics of the last period, which no choice was made on, with difference,
        low, high to the reference.
    margins
        By (candidate, period learned in), margins on that period and on all later ones.
    """

    objective: str
    reference: str
    chosen: str
    periods: pd.DataFrame
    summary: pd.DataFrame
    last: pd.DataFrame
    margins: Mapping[tuple[str, pd.Timestamp], pd.Series]


def compare_candidates(
    panel: Panel,
    candidates: Mapping[str, Candidate],
    reference: str,
    *,
    objective: str = "average_precision",
    settings: Mapping[str, Any] | None = None,
    dates: Mapping[str, pd.DatetimeIndex] | None = None,
    metrics: Sequence[str] = (),
    tie: float = 0.01,
    replicates: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> CandidateComparison:
    """Fit every candidate in every past period, on what was known then, and compare.

    One split is luck: with some hundred outcomes a period the best of many candidates is often the
    luckiest. Regret over all earlier periods is what a choice would have cost.

    Parameters
    ----------
    panel
        From `build_panel`.
    candidates
        By name, the reference among them.
    reference
        Name of the candidate that the others are compared with.
    objective
        ``"average_precision"``, ``"auc"``, ``"recall_at_0.02"`` (at a visit budget), or another
        metric of an order.
    settings
        Parameters of `RiskModel` that candidates start from.
    dates
        By candidate, the as-of dates to learn from; all of the panel by default.
    metrics
        Further metrics to tell.
    tie
        Candidates whose mean regret exceeds the least one by at most this share of the best mean
        objective tie: the simplest is chosen.
    replicates
        Resamples of whole clusters, the same for all candidates and all periods.
    level
        Coverage of the intervals.
    seed
        Of models and resampling.

    Returns
    -------
    CandidateComparison
        Tables, the chosen candidate, and the margins.

    Raises
    ------
    DeclarationError
        An unknown reference, or a metric that an order does not have.
    FeatureError
        Nothing to learn from in a period.

    Notes
    -----
    The last period takes no part in the choice. Resamples draw clusters once for all periods, since
    the same villages are in each; the interval of the mean difference allows for that.

    Examples
    --------
    >>> from poverty_risk import Candidate, PredictionTask, build_panel, compare_candidates
    >>> from poverty_risk import load_catalog, make_household_history
    >>> tables = make_household_history(300, start="2019-01-01", end="2023-01-01", seed=1).tables
    >>> task = PredictionTask(tables.schema, "at_risk", "guarantee_failed", "6mo", tables.line)
    >>> panel = build_panel(tables, task, load_catalog("archive"), ["2020-01-01", "2020-04-01"],
    ...                     ["2021-01-01", "2022-01-01"])
    >>> few = {"n_estimators": 10, "min_child_samples": 20}
    >>> found = compare_candidates(panel, {"trees": Candidate(), "both": Candidate(model={"logistic": 0.5})},
    ...                            "trees", settings=few, replicates=20)
    >>> found.chosen in ("trees", "both"), bool(found.summary["mean_regret"].min() >= 0)
    (True, True)
    """
    if reference not in candidates:
        found, known = f"'{reference}'", ", ".join(candidates)
        raise DeclarationError(Fault("reference", found, f"one of {known}", "Correct the name."))
    names = check_order_metrics([objective, *ALWAYS, *metrics])
    margins: dict[tuple[str, pd.Timestamp], pd.Series] = {}
    learned: dict[tuple[str, pd.Timestamp], tuple[int, int]] = {}
    dates = dates or {}
    with track("candidates", len(candidates) * len(panel.periods)) as advance:
        for period in panel.periods:
            for name, candidate in candidates.items():
                fitted = fit_candidate(
                    panel, candidate, period, settings or {}, dates=dates.get(name), seed=seed
                )
                margins[name, period] = fitted.margin(_later_points(panel, period))
                learned[name, period] = fitted.rows, fitted.positives
                advance(1)
    values, drawn = _measure(panel, list(candidates), margins, names, objective, replicates, seed)
    table = _tell_periods(panel, values, drawn, learned, objective, reference, level)
    simplicity = {
        # With what all start from: how many seeds are averaged may be said there.
        name: candidate.model_copy(
            update={"model": {**(settings or {}), **candidate.model}}
        ).members
        for name, candidate in candidates.items()
    }
    summary = _summarise(table, drawn, panel.earlier, simplicity, objective, reference, level)
    chosen = _choose(summary, simplicity, tie * float(summary[objective].max()))
    summary.insert(0, "chosen", summary.index == chosen)
    columns = ["points", "positives", *names, "difference", "low", "high"]
    last = table[~table["earlier"]].droplevel("period").loc[summary.index, columns]
    return CandidateComparison(objective, reference, chosen, table, summary, last, margins)


def check_order_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """Names of metrics without repeats, all of them defined for an order.

    Raises
    ------
    DeclarationError
        An unknown metric, or one that needs a probability.
    """
    names = check_metric_names(dict.fromkeys(metrics))
    faults = [
        Fault("metric", f"'{name}'", "a metric of an order", "Calibration comes after the choice.")
        for name in names
        if name in PROBABILITY_METRICS
    ]
    if faults:
        raise DeclarationError(faults)
    return names


def _later_points(panel: Panel, period: pd.Timestamp) -> pd.DataFrame:
    """Features of the labelled points on a period and on all later ones."""
    index = panel.outcomes.dropna().index
    return panel.features.loc[index[index.get_level_values("as_of_date") >= period]]


def _measure(
    panel: Panel,
    names: list[str],
    margins: Mapping[tuple[str, pd.Timestamp], pd.Series],
    metrics: tuple[str, ...],
    objective: str,
    replicates: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics by (candidate, period), and the objective in each resample by (candidate, period)."""
    labels = panel.outcomes.dropna()
    period_of = labels.index.get_level_values("as_of_date")
    clusters = None if panel.clusters is None else panel.clusters.loc[labels.index]
    codes = number_clusters(align_outcomes(labels, {}), labels, clusters)
    rankings = {}
    for name in names:
        for period in panel.periods:
            own = labels[period_of == period]
            margin = margins[name, period].loc[own.index]
            rankings[name, period] = Ranking(own.to_numpy(), margin.to_numpy(), probable=False)
    parts: dict[tuple[str, pd.Timestamp], list[np.ndarray]] = {key: [] for key in rankings}
    for weights in iter_resamples(codes, replicates, seed) if replicates else ():
        for key, ranking in rankings.items():
            own_weights = weights[:, np.asarray(period_of == key[1])]
            parts[key].append(ranking.compute([objective], own_weights)[objective])
    values = pd.DataFrame({key: r.compute_once(metrics) for key, r in rankings.items()}).T
    drawn = {key: np.concatenate(found) if found else np.empty(0) for key, found in parts.items()}
    return values.rename_axis(["candidate", "period"]), pd.DataFrame(drawn)


def _tell_periods(
    panel: Panel,
    values: pd.DataFrame,
    drawn: pd.DataFrame,
    learned: Mapping[tuple[str, pd.Timestamp], tuple[int, int]],
    objective: str,
    reference: str,
    level: float,
) -> pd.DataFrame:
    by_period = values[objective].groupby(level="period")
    labels = {period: panel.labels_at(period) for period in panel.periods}
    rows = []
    for name, period in values.index:
        difference = float(
            values.loc[(name, period), objective] - values.loc[(reference, period), objective]
        )
        gains = (drawn[name, period] - drawn[reference, period]).to_numpy()
        low, high, _ = compute_ends(gains, level)
        rows.append((len(labels[period]), int(labels[period].sum()), *learned[name, period],
                     difference, low, high, period in panel.earlier))  # fmt: skip
    columns = ["points", "positives", "learned_from", "learned_positives", "difference", "low"]
    told = pd.DataFrame(rows, columns=[*columns, "high", "earlier"], index=values.index)
    table = pd.concat([told[columns[:4]], values, told[["difference", "low", "high"]]], axis=1)
    table["regret"] = by_period.transform("max") - values[objective]
    table["rank"] = by_period.rank(ascending=False)
    return table.assign(earlier=told["earlier"])


def _summarise(
    table: pd.DataFrame,
    drawn: pd.DataFrame,
    earlier: Sequence[pd.Timestamp],
    simplicity: Mapping[str, int],
    objective: str,
    reference: str,
    level: float,
) -> pd.DataFrame:
    own = table[table["earlier"]].groupby(level="candidate", sort=False)
    summary = pd.DataFrame(
        {
            objective: own[objective].mean(),
            "mean_regret": own["regret"].mean(),
            "largest_regret": own["regret"].max(),
            "mean_rank": own["rank"].mean(),
        }
    )
    means = {
        name: drawn[[(name, period) for period in earlier]].mean(axis=1, skipna=False)
        for name in summary.index
    }
    rows = []
    for name in summary.index:
        gains = (means[name] - means[reference]).to_numpy()
        low, high, count = compute_ends(gains, level)
        known = gains[~np.isnan(gains)]
        better = float(np.mean((known > 0) + (known == 0) / 2.0)) if count else np.nan
        difference = summary.loc[name, objective] - summary.loc[reference, objective]
        rows.append((difference, low, high, better, simplicity[name]))
    columns = ["difference", "low", "high", "share_better", "members"]
    compared = pd.DataFrame(rows, columns=columns, index=summary.index)
    return pd.concat([summary, compared], axis=1).sort_values("mean_regret", kind="stable")


def _choose(summary: pd.DataFrame, simplicity: Mapping[str, int], tie: float) -> str:
    """The simplest of those whose mean regret is least, or larger by no more; then as declared."""
    regret = summary["mean_regret"]
    near = regret <= regret.min() + tie
    return min((n for n in simplicity if near[n]), key=lambda name: simplicity[name])


def evaluate_over_time(
    panel: Panel,
    margins: Mapping[tuple[str, pd.Timestamp], pd.Series],
    *,
    schemes: Sequence[Any] = (),
    metrics: Sequence[str] = ALWAYS,
) -> pd.DataFrame:
    """How risks hold over time: by year, by scheme, and forward from the day they were learned.

    The line moves every year and categories change with policy, so a model meets another world than
    it learned from. This table says what that cost in the past.

    Parameters
    ----------
    panel
        From `build_panel`.
    margins
        By (candidate, period learned in), risks or margins on that period and on later ones, as
        `CandidateComparison.margins`.
    schemes
        Days on which categories changed: periods before, between and after them are schemes.
    metrics
        Metrics of an order.

    Returns
    -------
    DataFrame
        Index (candidate, view, of): view ``year`` (periods of a calendar year, each tested with what
        was learned for it), ``scheme`` (likewise, between changes; ``before 2021-05-01``), and
        ``forward`` (periods ahead of the one learned in: 0, 1, ...). Columns periods, points,
        positives, and the mean of each metric over the periods.

    Raises
    ------
    DeclarationError
        A metric that an order does not have.

    Notes
    -----
    Metrics are computed in each period and averaged: risks of different periods come from different
    models and are not ranked together. In the forward view older and newer periods weigh the same;
    compare 0 with 1 only over candidates that were tested on the same periods, which `periods` tells.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import Candidate, PredictionTask, build_panel, compare_candidates
    >>> from poverty_risk import evaluate_over_time, load_catalog, make_household_history
    >>> tables = make_household_history(300, start="2019-01-01", end="2023-01-01", seed=1).tables
    >>> task = PredictionTask(tables.schema, "at_risk", "guarantee_failed", "6mo", tables.line)
    >>> panel = build_panel(tables, task, load_catalog("archive"), ["2020-01-01", "2020-04-01"],
    ...                     ["2021-01-01", "2022-01-01"])
    >>> found = compare_candidates(panel, {"regression": Candidate(model={"logistic": 1.0})}, "regression",
    ...                            replicates=0)
    >>> table = evaluate_over_time(panel, found.margins, schemes=["2021-05-01"])
    >>> table.loc[("regression", "forward"), "periods"].tolist()
    [2, 1]
    """
    names = check_order_metrics(metrics)
    changes = parse_as_of_dates(schemes) if len(schemes) else pd.DatetimeIndex([])
    rows = []
    for (name, learned_in), margin in margins.items():
        for ahead, period in enumerate(p for p in panel.periods if p >= learned_in):
            labels = panel.labels_at(period)
            risk = margin.loc[labels.index].to_numpy()
            found = Ranking(labels.to_numpy(), risk, probable=False).compute_once(names)
            counts = {"points": len(labels), "positives": int(labels.sum())}
            views = [("forward", str(ahead))]
            if ahead == 0:
                views.append(("year", str(period.year)))
            if ahead == 0 and len(changes):
                views.append(("scheme", _name_scheme(period, changes)))
            for view, of in views:
                rows.append({"candidate": name, "view": view, "of": of, **counts, **found})
    told = pd.DataFrame(rows)
    grouped = told.groupby(["candidate", "view", "of"], sort=False)
    means = grouped[list(names)].mean()
    sums = grouped[["points", "positives"]].sum()
    table = pd.concat([grouped.size().rename("periods"), sums, means], axis=1)
    return table.sort_index(level=["candidate", "view"], sort_remaining=False, kind="stable")


def _name_scheme(period: pd.Timestamp, changes: pd.DatetimeIndex) -> str:
    before = changes[changes <= period]
    return f"from {before[-1].date()}" if len(before) else f"before {changes[0].date()}"
