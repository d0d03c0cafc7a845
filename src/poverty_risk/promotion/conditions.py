"""Each condition of a promotion: found, required, outcome. What was not looked at has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from poverty_risk.bootstrap import bootstrap_metrics
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.fairness import GroupEvaluation, GroupLimits, check_group_limits
from poverty_risk.leakage import LeakageReport
from poverty_risk.promotion.decision import Candidate, Condition, Outcome
from poverty_risk.promotion.settings import CalibrationCondition, RecallCondition
from poverty_risk.ranking import align_outcomes
from poverty_risk.reliability import fit_calibration_line

__all__ = [
    "check_calibration",
    "check_groups",
    "check_held_out",
    "check_leaks",
    "check_reasons",
    "check_recall",
    "compute_kept_reasons",
]

NO_CHAMPION = "no champion to compare with"


def _outcome(passed: bool) -> Outcome:
    return "passed" if passed else "failed"


def check_recall(
    labels: pd.Series,
    risks: Mapping[str, pd.Series],
    asked: RecallCondition,
    budget: float,
    clusters: pd.Series | None,
    replicates: int,
    seed: int,
) -> Condition:
    """The challenger reaches as many outcomes as asked, on paired resamples."""
    required = (
        f"a difference of {asked.smallest_gain:+.3f} or more, and more outcomes reached in "
        f"{asked.smallest_share_better:.0%} of resamples or more"
    )
    if "champion" not in risks:
        return Condition("recall", NO_CHAMPION, required, "not_applicable")
    metric = f"recall_at_{budget:.12g}"
    result = bootstrap_metrics(labels, risks, clusters, [metric], replicates=replicates, seed=seed)
    estimates = result.intervals["estimate"].droplevel("metric").astype(float)
    reached = {str(name): float(value) for name, value in estimates.items()}
    row = result.differences.drop(columns="replicates").astype(float).iloc[0]
    figures = {str(name): float(value) for name, value in row.items()}
    words = (
        f"{reached['challenger']:.3f} against {reached['champion']:.3f} at {budget:.2%}: "
        f"{figures['difference']:+.3f} ({figures['low']:+.3f} to {figures['high']:+.3f}), "
        f"more in {figures['share_better']:.0%} of resamples"
    )
    passed = (
        figures["difference"] >= asked.smallest_gain
        and figures["share_better"] >= asked.smallest_share_better
    )
    return Condition("recall", words, required, _outcome(passed), reached | figures)


def check_calibration(
    labels: pd.Series, risk: pd.Series, asked: CalibrationCondition
) -> list[Condition]:
    """Slope and ratio of the challenger's risks lie within their bounds."""
    outcomes = align_outcomes(labels, {"risk": risk.rename("risk")})
    label, values = outcomes.label, outcomes.risks["risk"]
    expected = float(values.sum())
    found = {
        "slope": (float(fit_calibration_line(label, values).slope), asked.slope),
        "ratio": (float(label.sum()) / expected if expected else np.nan, asked.ratio),
    }
    return [
        Condition(
            f"calibration_{name}",
            f"{value:.3f}",
            f"{low:g} to {high:g}",
            _outcome(low <= value <= high),
            {name: value},
        )
        for name, (value, (low, high)) in found.items()
    ]


def check_groups(compared: GroupEvaluation | None, limits: GroupLimits) -> Condition:
    """No group falls behind further than the limits allow."""
    required = "; ".join(
        f"{measure} {column} of each group {low:.3g} or more"
        + ("" if np.isinf(high) else f", {high:.3g} or less")
        for (measure, column), (low, high) in limits.bounds().items()
    )
    required = f"{required or 'no limit'} (judged by {limits.judged_by})"
    if compared is None:
        return Condition("groups", "not evaluated", required, "failed")
    table = check_group_limits(compared, limits, "challenger")
    broken = table[table["outcome"] == "failed"]
    untold = int((table["outcome"] == "untold").sum())
    words = "; ".join(
        f"{row['grouping']} {row['group']}: {row['measure']} {row['found']:.2f} "
        f"({row['low']:.2f} to {row['high']:.2f})"
        for row in broken.to_dict("records")
    )
    words = words or f"no limit broken by {compared.groups.shape[0]} groups"
    if untold or compared.hidden:
        words += f"; {untold} limits and {len(compared.hidden)} groupings too small to judge"
    figures = {"judged": float(len(table) - untold), "broken": float(len(broken))}
    # In a county of few outcomes no group can be judged; that must not stop every promotion.
    outcome = _outcome(broken.empty) if figures["judged"] else "not_applicable"
    return Condition("groups", words, required, outcome, figures)


def compute_kept_reasons(challenger: pd.Series, champion: pd.Series) -> float:
    """Share of the champion's reasons that the challenger tells too.

    Parameters
    ----------
    challenger, champion
        Themes of the reasons, a tuple per point, matched by key.

    Returns
    -------
    float
        Reasons of both over reasons of the champion, all points together; missing without any.

    Raises
    ------
    DeclarationError
        A point of the champion that the challenger has no answer for.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.promotion import compute_kept_reasons
    >>> old = pd.Series([("income", "health"), ("work", "health")])
    >>> compute_kept_reasons(pd.Series([("health", "income"), ("debt", "health")]), old)
    0.75
    """
    if absent := len(champion.index.difference(challenger.index)):
        found = f"{absent} points without the challenger's"
        raise DeclarationError(
            Fault("reasons", found, "both for each point", "Explain the same points.")
        )
    pairs = list(zip(champion, challenger.reindex(champion.index), strict=True))
    told = sum(len(set(old)) for old, _ in pairs)
    kept = sum(len(set(old) & set(new)) for old, new in pairs)
    return kept / told if told else float("nan")


def check_reasons(challenger: Candidate, champion: Candidate | None, smallest: float) -> Condition:
    """Households on the champion's visit list are told much the same reasons."""
    required = f"{smallest:.0%} of the champion's reasons or more"
    if champion is None:
        return Condition("reasons", NO_CHAMPION, required, "not_applicable")
    if challenger.reasons is None or champion.reasons is None:
        return Condition("reasons", "not evaluated", required, "failed")
    share = compute_kept_reasons(challenger.reasons, champion.reasons)
    words = f"{share:.0%} kept, over {len(champion.reasons)} households on its visit list"
    return Condition("reasons", words, required, _outcome(share >= smallest), {"kept": share})


def check_leaks(leakage: LeakageReport | None) -> Condition:
    """The leakage check found no leak."""
    required = "no leak in the challenger's features"
    if leakage is None:
        return Condition("leakage", "not checked", required, "failed")
    counts = leakage.table["verdict"].value_counts()
    words = f"{int(counts.get('leak', 0))} leaks"
    if leakage.has_leaks:
        words += f": {_list(leakage.leaking_features) or 'the model as a whole'}"
    figures = {str(verdict): float(count) for verdict, count in counts.items()}
    return Condition("leakage", words, required, _outcome(not leakage.has_leaks), figures)


def _list(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def check_held_out(challenger: Candidate, first: pd.Timestamp) -> Condition:
    """The challenger learned nothing from the period that is compared on."""
    required = f"nothing learned from {first.date()} on"
    if challenger.learned_to is None:
        return Condition("held_out", "unknown", required, "failed")
    words = f"learned from outcomes known before {challenger.learned_to.date()}"
    return Condition("held_out", words, required, _outcome(challenger.learned_to <= first))
