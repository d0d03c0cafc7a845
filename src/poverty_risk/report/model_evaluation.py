"""An evaluation as facts of the model report; counts that could point at households are left out.

Counts of outcomes under 10 are not told, nor what they could be worked out from: bins are pooled and
groups hidden until each count that is told is 10 or more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.evaluation import Evaluation
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.reliability import bin_by_risk

__all__ = [
    "BudgetFact",
    "ComparedFact",
    "DifferenceFact",
    "GroupFact",
    "GroupTable",
    "Interval",
    "ReliabilityFact",
    "build_budgets",
    "build_compared",
    "build_differences",
    "build_group_table",
    "build_reliability",
]

METRICS = ("auc", "average_precision", "brier", "log_loss")
ORDERS = ("auc", "average_precision")
"""Metrics of the order alone: everything can be compared by them."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; ends are None where nothing was resampled."""

    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ComparedFact:
    """A risk that was compared: the model first; metrics that are not defined are left out."""

    name: str
    label: str
    metrics: Mapping[str, Interval]
    mean_risk: float | None
    slope: float | None


@dataclass(frozen=True)
class BudgetFact:
    """What visits at a budget find; None where under 10 outcomes were found."""

    name: str
    label: str
    budget: float
    visits: int
    precision: Interval | None
    recall: Interval | None
    lift: float | None


@dataclass(frozen=True)
class DifferenceFact:
    """The model minus what it is compared with, on the same resamples."""

    baseline: str
    label: str
    metric: str
    difference: Interval
    share_better: float


@dataclass(frozen=True)
class ReliabilityFact:
    """Points of similar risk: mean risk against the observed rate."""

    points: int
    positives: int
    mean_risk: float
    observed: Interval


@dataclass(frozen=True)
class GroupFact:
    """How the model does in one group."""

    group: str
    points: int
    positives: int
    observed: float
    mean_risk: float | None
    auc: float | None


@dataclass(frozen=True)
class GroupTable:
    """A grouping: the groups that can be told, and how many are hidden."""

    name: str
    groups: tuple[GroupFact, ...]
    hidden: int


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.reset_index().to_dict("records")


def build_compared(evaluation: Evaluation, names: Mapping[str, str]) -> tuple[ComparedFact, ...]:
    """Each risk with its metrics and their intervals.

    Parameters
    ----------
    evaluation
        The evaluation, the model first.
    names
        Words for names, where there are any.

    Returns
    -------
    tuple of ComparedFact
        In the order of the evaluation.
    """
    return tuple(
        ComparedFact(
            name=str(row["name"]),
            label=names.get(str(row["name"]), str(row["name"])),
            metrics={
                metric: _interval(evaluation, str(row["name"]), metric, row[metric])
                for metric in METRICS
                if not math.isnan(row[metric])
            },
            mean_risk=_known(row["mean_risk"]),
            slope=_known(row["calibration_slope"]),
        )
        for row in _rows(evaluation.metrics)
    )


def _interval(evaluation: Evaluation, name: str, metric: str, estimate: float) -> Interval:
    if (name, metric) not in evaluation.intervals.index:
        return Interval(float(estimate))
    row: Any = evaluation.intervals.loc[(name, metric)]
    return Interval(float(estimate), _known(row["low"]), _known(row["high"]))


def build_differences(
    evaluation: Evaluation, own: str, names: Mapping[str, str]
) -> tuple[DifferenceFact, ...]:
    """The model minus the others, by the metrics of the order.

    Parameters
    ----------
    evaluation
        The evaluation; without resamples there are no differences.
    own
        Name of the model.
    names
        Words for names, where there are any.

    Returns
    -------
    tuple of DifferenceFact
        In the order of the evaluation.
    """
    rows = [] if evaluation.differences.empty else _rows(evaluation.differences)
    return tuple(
        DifferenceFact(
            baseline=str(row["baseline"]),
            label=names.get(str(row["baseline"]), str(row["baseline"])),
            metric=str(row["metric"]),
            difference=Interval(float(row["difference"]), _known(row["low"]), _known(row["high"])),
            share_better=float(row["share_better"]),
        )
        for row in rows
        if row["name"] == own and row["metric"] in ORDERS and not math.isnan(row["difference"])
    )


def build_budgets(evaluation: Evaluation, names: Mapping[str, str]) -> tuple[BudgetFact, ...]:
    """What visits at each budget find; nothing where under 10 outcomes were found.

    Parameters
    ----------
    evaluation
        The evaluation.
    names
        Words for names, where there are any.

    Returns
    -------
    tuple of BudgetFact
        In the order of the evaluation.
    """
    return tuple(_budget(evaluation, row, names) for row in _rows(evaluation.budgets))


def _budget(evaluation: Evaluation, row: Mapping[Any, Any], names: Mapping[str, str]) -> BudgetFact:
    name, budget = str(row["name"]), float(row["budget"])
    # The number found can be worked out from each of the three. Rounded: it is a mean over ties.
    told = round(row["precision"] * row["visits"], 6) >= SMALL_COUNT
    found = {
        kind: _interval(evaluation, name, f"{kind}_at_{budget:.12g}", row[kind])
        for kind in ("precision", "recall")
    }
    return BudgetFact(
        name=name,
        label=names.get(name, name),
        budget=budget,
        visits=int(row["visits"]),
        precision=found["precision"] if told else None,
        recall=found["recall"] if told else None,
        lift=_known(row["lift"]) if told else None,
    )


def build_reliability(evaluation: Evaluation, own: str) -> tuple[ReliabilityFact, ...]:
    """Bins from the lowest risk up, each pooled with the next ones until it has 10 outcomes.

    Parameters
    ----------
    evaluation
        The evaluation.
    own
        Name of the model.

    Returns
    -------
    tuple of ReliabilityFact
        From low to high risks; empty where there are under 10 outcomes, or only margins.
    """
    if evaluation.reliability.empty:
        return ()
    pools: list[list[dict[Any, Any]]] = [[]]
    for row in (row for row in _rows(evaluation.reliability) if row["name"] == own):
        pools[-1].append(row)
        if sum(one["positives"] for one in pools[-1]) >= SMALL_COUNT:
            pools.append([])
    rest = pools.pop()
    if not pools:
        return ()
    pools[-1] += rest
    return tuple(_pool(rows) for rows in pools)


def _pool(rows: list[dict[Any, Any]]) -> ReliabilityFact:
    n, positives = (int(sum(row[name] for row in rows)) for name in ("n", "positives"))
    mean = sum(row["n"] * row["mean_risk"] for row in rows) / n
    # One bin of all: its Wilson interval is that of the pooled counts.
    label = np.repeat([1.0, 0.0], [positives, n - positives])
    row = bin_by_risk(label, np.full(n, mean), bins=1).to_dict("records")[0]
    observed = Interval(positives / n, float(row["observed_low"]), float(row["observed_high"]))
    return ReliabilityFact(n, positives, float(mean), observed)


def build_group_table(name: str, table: pd.DataFrame) -> GroupTable:
    """Groups with 10 outcomes or more; some stay hidden where they would tell of the others.

    Parameters
    ----------
    name
        What is grouped by.
    table
        From `compute_group_metrics`.

    Returns
    -------
    GroupTable
        In the order of the table.
    """
    counts = table["positives"].fillna(0.0).to_numpy()
    order = np.argsort(counts, kind="stable")
    hidden = int((counts < SMALL_COUNT).sum())
    # The total stands elsewhere: one hidden count, or a small sum of them, could be worked out.
    while 0 < hidden < len(counts) and (hidden == 1 or counts[order[:hidden]].sum() < SMALL_COUNT):
        hidden += 1
    told = np.sort(order[hidden:])
    rows = zip(table.index[told], table.iloc[told].to_dict("records"), strict=True)
    return GroupTable(name, tuple(_group(group, row) for group, row in rows), hidden)


def _group(group: Any, row: Mapping[Any, Any]) -> GroupFact:
    return GroupFact(
        group="" if pd.isna(group) else str(group),
        points=int(row["n"]),
        positives=int(row["positives"]),
        observed=float(row["base_rate"]),
        mean_risk=_known(row["mean_risk"]),
        auc=_known(row["auc"]),
    )
