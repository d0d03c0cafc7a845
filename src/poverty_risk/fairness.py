"""Whether a visit budget serves every group alike: recall, precision, calibration, share of visits.

Groups are told by `poverty_risk.audit_groups`; they are compared here and never enter a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from poverty_risk.audit_groups import build_audit_groups
from poverty_risk.bootstrap import compute_ends, iter_resamples, number_clusters
from poverty_risk.declarations import Declared
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.ranking import Outcomes, align_outcomes, count_visits
from poverty_risk.small_groups import SortedGroups, sort_into_groups

__all__ = [
    "GroupEvaluation",
    "GroupLimits",
    "build_audit_groups",
    "check_group_limits",
    "evaluate_groups",
]

MEASURES = ("recall", "precision", "calibration", "visit_share")
COMPARED = ("estimate", "reference", "difference", "ratio")

Positive = Annotated[float, Field(gt=0)]


class GroupLimits(Declared):
    """How far a group may fall behind.

    Parameters
    ----------
    smallest_recall_ratio
        Least recall of a group, as a share of everyone else's; None: no limit, as for the others.
    smallest_precision_ratio
        Least precision of a group, as a share of everyone else's.
    smallest_visit_ratio
        Least share of visits of a group, as a share of its share of households. Groups differ in
        need, so that a limit here is a decision about policy.
    largest_miscalibration
        Outcomes over expected outcomes of a group must lie between one over this and this.
    judged_by
        ``interval``: a limit is broken when the whole interval lies beyond it; ``estimate``: when
        the estimate does. Small groups break limits by chance, the more so the more groups.
    level
        Coverage of those intervals: the more groups are judged, the nearer to 1.
    groupings
        Groupings that are judged; None: all.
    """

    smallest_recall_ratio: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    smallest_precision_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    smallest_visit_ratio: Positive | None = None
    largest_miscalibration: Annotated[float, Field(ge=1)] | None = 1.5
    judged_by: Literal["interval", "estimate"] = "interval"
    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    groupings: tuple[str, ...] | None = None

    def bounds(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Lowest and highest accepted value by (measure, column), of the limits that are set."""
        most = self.largest_miscalibration
        limits = {
            ("recall", "ratio"): (self.smallest_recall_ratio, np.inf),
            ("precision", "ratio"): (self.smallest_precision_ratio, np.inf),
            ("visit_share", "ratio"): (self.smallest_visit_ratio, np.inf),
            ("calibration", "estimate"): (None if most is None else 1.0 / most, most or np.inf),
        }
        return {key: (low, high) for key, (low, high) in limits.items() if low is not None}


@dataclass(frozen=True)
class GroupEvaluation:
    """What one visit budget does for each group, as tables that can be shown.

    Parameters
    ----------
    groups
        Index (grouping, group); columns members and outcomes (labelled points and those with the
        outcome), population_share, and pooled (how many small groups it stands for; 1: itself).
        A boolean grouping has the group ``yes``, and ``(unknown)`` where there are enough of those.
    measures
        Index (name, grouping, group, measure); columns estimate, reference, difference, ratio, each
        of them with ``_low`` and ``_high``, and replicates (in which the ratio was defined). Measures
        are recall (share of outcomes reached), precision (share of visits that reach one),
        calibration (outcomes over expected outcomes) and visit_share (share of all visits). The
        reference is everyone else, for visit_share the group's share of households. Missing where
        not defined, and precision where under ten visits go to the group.
    hidden
        Groupings that are not told, by name with the reason.
    budget
        Share of the points that can be visited.
    visits
        Number of visits.
    censored
        Points without a label, left out.
    level
        Coverage of the intervals.
    """

    groups: pd.DataFrame
    measures: pd.DataFrame
    hidden: Mapping[str, str] = field(default_factory=dict)
    budget: float = 1.0
    visits: int = 0
    censored: int = 0
    level: float = 0.95


def evaluate_groups(
    labels: pd.Series,
    risks: pd.Series | Mapping[str, pd.Series],
    groups: pd.DataFrame,
    budget: float,
    *,
    clusters: pd.Series | None = None,
    replicates: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> GroupEvaluation:
    """Compare groups with everyone else at one visit budget, with clustered bootstrap intervals.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out and counted).
    risks
        Risk of each point, matched by key, or several by name; alone it is called ``model``.
    groups
        From `build_audit_groups`: boolean columns (member, other, missing) or columns of names.
    budget
        Share of the points that can be visited, above 0 and at most 1.
    clusters
        Cluster of each point for resampling, such as its village; None: its household.
    replicates
        Resamples; 0: no intervals.
    seed
        Of the resampling.
    level
        Coverage of the intervals.

    Returns
    -------
    GroupEvaluation
        The tables. Groups of fewer than ten members or outcomes are pooled with one another (names),
        with the next smallest ones until ten are reached, or not told at all.

    Raises
    ------
    DeclarationError
        A budget that is no share.
    FeatureError
        Points that do not match, missing risks, or fewer than two clusters.

    Notes
    -----
    In every resample the points of highest risk are chosen again, as many as the budget allows;
    equal risks share the last visits equally. Everyone else is all labelled points but the group's.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk.fairness import evaluate_groups
    >>> labels = pd.Series(np.tile([0.0, 1.0], 40))
    >>> risk = labels * 0.5 + np.repeat([0.3, 0.1], 40)
    >>> groups = pd.DataFrame({"relocated": np.repeat([False, True], 40)})
    >>> found = evaluate_groups(labels, risk, groups, 0.25, replicates=0).measures
    >>> found.loc[("model", "relocated", "yes", "recall"), ["estimate", "reference"]].tolist()
    [0.0, 1.0]
    """
    if not 0.0 < budget <= 1.0:
        found = Fault("visit budget", f"{budget}", "a share above 0 and at most 1", "Correct it.")
        raise DeclarationError(found)
    named = {"model": risks} if isinstance(risks, pd.Series) else dict(risks)
    outcomes = align_outcomes(labels, named)
    sorting = sort_into_groups(outcomes.label, _align_groups(labels, groups, outcomes))
    weights: Iterator[np.ndarray] = iter(())
    if replicates:
        weights = iter_resamples(number_clusters(outcomes, labels, clusters), replicates, seed)
    once = {name: _compare(outcomes, name, sorting, budget) for name in named}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in named}
    for some in weights:
        for name in named:
            drawn[name].append(_compare(outcomes, name, sorting, budget, some))
    few = _few_visits(outcomes, named, sorting, budget)
    rows = [
        row
        for name in named
        for row in _describe(name, sorting, once[name][0], drawn[name], few[name], level)
    ]
    index = ["name", "grouping", "group", "measure"]
    columns = [*index, *(c + end for c in COMPARED for end in ("", "_low", "_high")), "replicates"]
    return GroupEvaluation(
        groups=_count_groups(outcomes, sorting),
        measures=pd.DataFrame(rows, columns=columns).set_index(index),
        hidden=sorting.hidden,
        budget=budget,
        visits=int(count_visits(budget, len(outcomes.label))),
        censored=outcomes.censored,
        level=level,
    )


def _align_groups(labels: pd.Series, groups: pd.DataFrame, outcomes: Outcomes) -> pd.DataFrame:
    if not groups.index.is_unique or len(absent := labels.index.difference(groups.index)):
        found = "repeated points" if not groups.index.is_unique else f"{len(absent)} absent points"
        raise FeatureError(Fault("groups", found, "one entry for each point", "Add them."))
    return groups.reindex(outcomes.index)


def _visited(risk: np.ndarray, weights: np.ndarray, budget: float) -> np.ndarray:
    """How much of each point's weight is visited, highest risks first; ties share what is left."""
    order = np.argsort(-risk, kind="stable")
    falling = risk[order]
    starts = np.concatenate([[0], np.flatnonzero(falling[1:] != falling[:-1]) + 1])
    sizes = np.diff(np.append(starts, len(risk)))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    visits = count_visits(budget, weights.sum(axis=1))[:, None]
    before = np.cumsum(tied, axis=1) - tied
    reached = np.clip(visits - before, 0.0, tied)
    share = np.divide(reached, tied, out=np.zeros_like(tied), where=tied > 0)
    visited = np.empty_like(weights)
    visited[:, order] = np.repeat(share, sizes, axis=1) * weights[:, order]
    return visited


def _compare(
    outcomes: Outcomes,
    name: str,
    sorting: SortedGroups,
    budget: float,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Each measure of each group and its reference, shape (n_weightings, measures, 2, n_groups)."""
    label, risk = outcomes.label, outcomes.risks[name]
    weights = np.ones((1, len(label))) if weights is None else weights
    visited = _visited(risk, weights, budget)
    expected = weights * risk if outcomes.probable[name] else np.full_like(weights, np.nan)
    values = {
        "members": weights,
        "outcomes": weights * label,
        "visits": visited,
        "reached": visited * label,
        "expected": expected,
    }
    own = {key: value @ sorting.inside for key, value in values.items()}
    whole = {key: value.sum(axis=1, keepdims=True) for key, value in values.items()}
    rest = {key: whole[key] - own[key] for key in values}
    shares = [
        [_divide(part["reached"], part["outcomes"]) for part in (own, rest)],
        [_divide(part["reached"], part["visits"]) for part in (own, rest)],
        [_divide(part["outcomes"], part["expected"]) for part in (own, rest)],
        [_divide(own[key], whole[key]) for key in ("visits", "members")],
    ]
    return np.moveaxis(np.asarray(shares), 2, 0)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    # What is left of a difference of equal sums is no number of households.
    whole = np.where(np.abs(whole) > 1e-9, whole, np.nan)
    return np.asarray(part / whole)


def _few_visits(
    outcomes: Outcomes, names: Iterable[str], sorting: SortedGroups, budget: float
) -> dict[str, np.ndarray]:
    """Whether under ten visits go to a group, or to everyone else."""
    once = np.ones((1, len(outcomes.label)))
    found = {}
    for name in names:
        visited = _visited(outcomes.risks[name], once, budget)
        own = (visited @ sorting.inside)[0]
        found[name] = np.minimum(own, visited.sum() - own) < SMALL_COUNT - 1e-9
    return found


def _describe(
    name: str,
    sorting: SortedGroups,
    once: np.ndarray,
    drawn: list[np.ndarray],
    few: np.ndarray,
    level: float,
) -> Iterator[tuple[object, ...]]:
    resampled = np.concatenate(drawn) if drawn else np.full((1, *once.shape), np.nan)
    for position, (grouping, group) in enumerate(sorting.names):
        for number, measure in enumerate(MEASURES):
            hide = measure == "precision" and bool(few[position])
            single = _contrast(once[None, number, :, position], hide)
            many = _contrast(resampled[:, number, :, position], hide)
            row: list[float] = []
            count = 0
            for column in COMPARED:
                low, high, count = compute_ends(many[column], level)
                row += [float(single[column][0]), low, high]
            yield (name, grouping, group, measure, *row, count)


def _contrast(pair: np.ndarray, hide: bool) -> dict[str, np.ndarray]:
    """Group, reference, difference and ratio from values of shape (n, 2)."""
    own, reference = (np.full(len(pair), np.nan) if hide else pair[:, side] for side in (0, 1))
    ratio = _divide(own, reference)
    return dict(zip(COMPARED, (own, reference, own - reference, ratio), strict=True))


def _count_groups(outcomes: Outcomes, sorting: SortedGroups) -> pd.DataFrame:
    members = sorting.inside.sum(axis=0)
    index = pd.MultiIndex.from_tuples(sorting.names or [], names=["grouping", "group"])
    if not sorting.names:
        index = pd.MultiIndex.from_arrays([[], []], names=["grouping", "group"])
    columns = {
        "members": members.astype(np.int64),
        "outcomes": (outcomes.label @ sorting.inside).astype(np.int64),
        "population_share": members / len(outcomes.label),
        "pooled": np.asarray(sorting.pooled, dtype=np.int64),
    }
    return pd.DataFrame(columns, index=index)


def check_group_limits(
    evaluation: GroupEvaluation, limits: GroupLimits, name: str = "model"
) -> pd.DataFrame:
    """Hold the groups of an evaluation against limits.

    Parameters
    ----------
    evaluation
        From `evaluate_groups`; its intervals are taken as they are.
    limits
        The limits.
    name
        The risk that is judged.

    Returns
    -------
    DataFrame
        One row per limit and group: grouping, group, measure, found, low, high, lowest and highest
        accepted, outcome (``passed``, ``failed``, or ``untold`` where the measure is not defined).

    Raises
    ------
    DeclarationError
        No such risk, or a grouping to be judged that was not evaluated.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk.fairness import GroupLimits, check_group_limits, evaluate_groups
    >>> labels = pd.Series(np.tile([0.0, 1.0], 40))
    >>> risk = labels * 0.5 + np.repeat([0.3, 0.1], 40)
    >>> groups = pd.DataFrame({"relocated": np.repeat([False, True], 40)})
    >>> evaluation = evaluate_groups(labels, risk, groups, 0.25, replicates=0)
    >>> limits = GroupLimits(largest_miscalibration=None)
    >>> check_group_limits(evaluation, limits)["outcome"].tolist()
    ['failed']
    """
    table = evaluation.measures.reset_index()
    _check_judged(evaluation, table, limits, name)
    wanted = table["name"] == name
    if limits.groupings is not None:
        wanted &= table["grouping"].isin(limits.groupings)
    rows = []
    for (measure, column), (lowest, highest) in limits.bounds().items():
        own = table[wanted & (table["measure"] == measure)]
        for row in own.to_dict("records"):
            found, low, high = (float(row[f"{column}{end}"]) for end in ("", "_low", "_high"))
            interval = limits.judged_by == "interval" and not np.isnan(low)
            least, most = (low, high) if interval else (found, found)
            broken = most < lowest or least > highest
            outcome = "untold" if np.isnan(found) else "failed" if broken else "passed"
            place = (row["grouping"], row["group"], measure)
            rows.append((*place, found, low, high, lowest, highest, outcome))
    columns = ["grouping", "group", "measure", "found", "low", "high", "lowest", "highest"]
    return pd.DataFrame(rows, columns=[*columns, "outcome"])


def _check_judged(
    evaluation: GroupEvaluation, table: pd.DataFrame, limits: GroupLimits, name: str
) -> None:
    faults = []
    known = table["name"].unique().tolist()
    if known and name not in known:
        faults.append(Fault("risk", f"'{name}'", f"one of {', '.join(known)}", "Correct it."))
    evaluated = {*table["grouping"], *evaluation.hidden}
    faults += [
        Fault("group limits", f"'{grouping}'", f"one of {sorted(evaluated)}", "Correct it.")
        for grouping in limits.groupings or ()
        if grouping not in evaluated
    ]
    if faults:
        raise DeclarationError(faults)
