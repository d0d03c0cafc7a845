"""Contributions: exact SHAP values in log-odds, checked, grouped by theme."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.model import RiskModel

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RiskExplanation", "explain_risk"]

TOLERANCE = 1e-6
"""Largest accepted difference, in log-odds, between a margin and the sum of its contributions."""


@dataclass(frozen=True)
class RiskExplanation:
    """Why the model gives each point its risk.

    Parameters
    ----------
    contributions
        SHAP values in log-odds, index (household_id, as_of_date), one column per feature.
    base_margin
        Mean margin over the training rows, log-odds.
    margin
        Log-odds of each point: base margin plus its contributions.
    risk
        Calibrated probability of each point.
    base_risk
        Calibrated probability at the base margin.
    features
        Values of the features, same index and columns.
    themes
        Theme of each feature.
    """

    contributions: pd.DataFrame
    base_margin: float
    margin: pd.Series
    risk: pd.Series
    base_risk: float
    features: pd.DataFrame
    themes: Mapping[str, str]

    @functools.cached_property
    def by_theme(self) -> pd.DataFrame:
        """Sum of contributions per theme in log-odds, one column per theme.

        Correlated features share one theme, so the sum is steadier than its parts.
        """
        columns: dict[str, list[str]] = {}
        for name in self.contributions.columns:
            columns.setdefault(self.themes[name], []).append(name)
        sums = {theme: self.contributions[names].sum(axis=1) for theme, names in columns.items()}
        return pd.DataFrame(sums, index=self.contributions.index)

    @functools.cached_property
    def points_per_log_odd(self) -> pd.Series:
        """Probability per log-odd along the way from the base risk to each risk.

        Contributions times this number are probability points that sum to ``risk - base_risk``: the
        Aumann-Shapley shares of the calibrated curve.
        """
        way = self.margin - self.base_margin
        near = way.abs() < 1e-9
        slope = (self.risk - self.base_risk) / way.mask(near, 1.0)
        return slope.mask(near, 0.0)

    def to_shap(self) -> Any:
        """The same as ``shap.Explanation``, for shap's own plots.

        Returns
        -------
        shap.Explanation
            Values in log-odds, shape (n_points, n_features).
        """
        import shap  # noqa: PLC0415 - takes seconds, and only plots need it

        numbers = self.features.apply(
            lambda c: c.cat.codes.where(c.notna()) if hasattr(c, "cat") else c
        )
        return shap.Explanation(
            values=self.contributions.to_numpy(),
            base_values=np.full(len(self.contributions), self.base_margin),
            data=numbers.to_numpy(dtype=float),
            feature_names=list(self.contributions.columns),
        )


def explain_risk(model: RiskModel, features: pd.DataFrame) -> RiskExplanation:
    """Explain the risk of each point exactly.

    Parameters
    ----------
    model
        A fitted model.
    features
        Features, index (household_id, as_of_date); columns are found by name.

    Returns
    -------
    RiskExplanation
        Contributions of each feature to the log-odds of the outcome, and their sums by theme.

    Raises
    ------
    FeatureError
        A feature of the model is missing, or contributions do not sum to the margin.

    Notes
    -----
    Path-dependent SHAP values of trees. They say what is associated with the assessed risk in the
    model, not what caused it.

    References
    ----------
    Lundberg et al. (2020), From local explanations to global understanding with explainable AI for
    trees, Nature Machine Intelligence 2.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, explain_risk
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> explanation = explain_risk(model.fit(features, labels), features)
    >>> bool(explanation.contributions["income"].iloc[0] > 0)
    True
    """
    contributions, base = model.contributions(features)
    margin = model.margin(features)
    gap = (contributions.sum(axis=1) + base - margin).abs()
    worst = float(gap.max()) if len(gap) else 0.0
    if worst > TOLERANCE * max(1.0, float(margin.abs().max()) if len(margin) else 1.0):
        raise FeatureError(
            Fault(
                "contributions",
                f"a sum that is {worst:.2g} off the margin",
                f"at most {TOLERANCE:g}",
                "Report this: the explanation must not be used.",
            )
        )
    catalog = model.catalog
    base_margin = pd.Series([base])
    return RiskExplanation(
        contributions=contributions,
        base_margin=base,
        margin=margin,
        risk=model.risk_of_margin(margin),
        base_risk=float(model.risk_of_margin(base_margin).iloc[0]),
        features=features[list(contributions.columns)],
        themes={
            name: "other" if catalog is None else catalog[name].theme
            for name in contributions.columns
        },
    )
