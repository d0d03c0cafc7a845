"""A challenger against the champion: every condition that the settings ask for."""

from __future__ import annotations

import pandas as pd

from poverty_risk.fairness import GroupLimits, evaluate_groups
from poverty_risk.leakage import LeakageReport
from poverty_risk.promotion.conditions import (
    check_calibration,
    check_groups,
    check_held_out,
    check_leaks,
    check_reasons,
    check_recall,
)
from poverty_risk.promotion.decision import Candidate, Condition, Decision
from poverty_risk.promotion.settings import PromotionSettings

__all__ = ["decide_promotion"]


def decide_promotion(
    challenger: Candidate,
    champion: Candidate | None,
    labels: pd.Series,
    *,
    settings: PromotionSettings,
    budget: float,
    groups: pd.DataFrame | None = None,
    clusters: pd.Series | None = None,
    leakage: LeakageReport | None = None,
    seed: int = 0,
) -> Decision:
    """Hold a challenger against the champion on the same points; nothing is read or written.

    Parameters
    ----------
    challenger, champion
        Both models on the points of `labels`; no champion: conditions that compare do not apply.
    labels
        1, 0 or missing (censored: left out), index (household_id, as_of_date).
    settings
        The conditions.
    budget
        Share of households that can be visited.
    groups
        From `build_audit_groups`.
    clusters
        Cluster of each point for resampling, such as its village.
    leakage
        Leakage report of the challenger's features.
    seed
        Of the resampling.

    Returns
    -------
    Decision
        Each condition with found, required and outcome.

    Raises
    ------
    FeatureError
        Points that do not match, or missing risks.
    DeclarationError
        A budget that is no share, or limits on groups that were not given.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk.promotion import Candidate, PromotionSettings, decide_promotion
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(100)],
    ...     pd.to_datetime(["2023-01-01"])], names=["household_id", "as_of_date"])
    >>> labels = pd.Series(np.tile([0.0, 1.0], 50), index=index)
    >>> new, old = Candidate("2", "b", 0.1 + labels * 0.8), Candidate("1", "a", labels * 0 + 0.5)
    >>> settings = PromotionSettings(groups=None, calibration=None, no_leaks=False,
    ...     smallest_share_of_reasons=None, held_out=False)
    >>> decide_promotion(new, old, labels, settings=settings, budget=0.2).accepted
    True
    """
    risks = {"challenger": challenger.risk}
    if champion is not None:
        risks["champion"] = champion.risk
    dates = pd.DatetimeIndex(labels.index.get_level_values("as_of_date"))
    found: list[Condition] = []
    if settings.recall is not None:
        resampling = (clusters, settings.replicates, seed)
        found.append(check_recall(labels, risks, settings.recall, budget, *resampling))
    if settings.calibration is not None:
        found += check_calibration(labels, challenger.risk, settings.calibration)
    compared = None
    if groups is not None:
        compared = evaluate_groups(
            labels,
            risks,
            groups,
            budget,
            clusters=clusters,
            replicates=settings.replicates,
            seed=seed,
            level=(settings.groups or GroupLimits()).level,
        )
    if settings.groups is not None:
        found.append(check_groups(compared, settings.groups))
    if settings.smallest_share_of_reasons is not None:
        found.append(check_reasons(challenger, champion, settings.smallest_share_of_reasons))
    if settings.no_leaks:
        found.append(check_leaks(leakage))
    if settings.held_out:
        found.append(check_held_out(challenger, dates.min()))
    return Decision(
        conditions=tuple(found),
        challenger=(challenger.version, challenger.model_id),
        champion=None if champion is None else (champion.version, champion.model_id),
        period=(str(dates.min().date()), str(dates.max().date())),
        budget=budget,
        groups=compared,
    )
