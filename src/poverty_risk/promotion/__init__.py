"""Promotion: whether a challenger replaces the champion (pure; MLflow is told by `tracking`)."""

from poverty_risk.promotion.conditions import compute_kept_reasons
from poverty_risk.promotion.decide import decide_promotion
from poverty_risk.promotion.decision import Candidate, Condition, Decision
from poverty_risk.promotion.settings import PromotionSettings

__all__ = [
    "Candidate",
    "Condition",
    "Decision",
    "PromotionSettings",
    "compute_kept_reasons",
    "decide_promotion",
]
