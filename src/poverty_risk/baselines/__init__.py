"""What a model has to beat: the office's rules, the plainest rule, VEP and logistic regression."""

from poverty_risk.baselines.learners import IncomeRule, LogisticBaseline, VulnerabilityBaseline
from poverty_risk.baselines.rules import OfficeRules, Rule

__all__ = ["IncomeRule", "LogisticBaseline", "OfficeRules", "Rule", "VulnerabilityBaseline"]
