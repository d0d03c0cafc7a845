"""Contributions: exact SHAP values in log-odds, checked, grouped by theme."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.model import RiskModel
from poverty_risk.shapley import kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from poverty_risk.boosting import Forest

__all__ = [
    "Engine",
    "RiskChange",
    "RiskExplanation",
    "build_contribution_tables",
    "explain_change",
    "explain_risk",
]

Engine = Literal["auto", "tables", "plain"]
"""How contributions are computed: from tables, by LightGBM, or whichever is faster."""

MANY_ROWS = 3_000
"""Rows from which on tables pay for being built in a new process. How many there are decides, not
what was asked before: the same rows get the same answer to the last bit."""

TOLERANCE = 1e-6
"""Largest accepted difference, in log-odds, between a margin and the sum of its contributions."""

SMALLEST_WAY = 1e-9
"""Margins closer than this (log-odds) count as equal: a share of nothing has no meaning."""


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
    local_slope
        Probability per log-odd at each point.
    agreement
        Share of the refits on resampled villages in which a theme moves the point in the same
        direction, one column per theme; None when it was not asked for, or the model has no refits.
    """

    contributions: pd.DataFrame
    base_margin: float
    margin: pd.Series
    risk: pd.Series
    base_risk: float
    features: pd.DataFrame
    themes: Mapping[str, str]
    local_slope: pd.Series
    agreement: pd.DataFrame | None = None

    @functools.cached_property
    def by_theme(self) -> pd.DataFrame:
        """Sum of contributions per theme in log-odds, one column per theme.

        Correlated features share one theme, so the sum is steadier than its parts.
        """
        return _sum_by_theme(self.contributions, self.themes)

    @functools.cached_property
    def points_by_theme(self) -> pd.DataFrame:
        """Probability points per theme; each row sums to ``risk - base_risk``."""
        return self.by_theme.mul(self.points_per_log_odd, axis=0)

    @functools.cached_property
    def points_per_log_odd(self) -> pd.Series:
        """Probability per log-odd along the way from the base risk to each risk.

        Contributions times this number are probability points that sum to ``risk - base_risk``: the
        Aumann-Shapley shares of the calibrated curve.
        """
        way = self.margin - self.base_margin
        near = way.abs() < SMALLEST_WAY
        slope = (self.risk - self.base_risk) / way.mask(near, 1.0)
        return slope.where(~near, self.local_slope)

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


def _sum_by_theme(contributions: pd.DataFrame, themes: Mapping[str, str]) -> pd.DataFrame:
    columns: dict[str, list[str]] = {}
    for name in contributions.columns:
        columns.setdefault(themes[name], []).append(name)
    # Added in order: a sum over a row of eight and more depends on how many rows there are.
    sums = {
        theme: functools.reduce(operator.add, [contributions[name] for name in names])
        for theme, names in columns.items()
    }
    return pd.DataFrame(sums, index=contributions.index)


def explain_risk(
    model: RiskModel,
    features: pd.DataFrame,
    *,
    agreement: bool = False,
    engine: Engine = "auto",
) -> RiskExplanation:
    """Explain the risk of each point exactly.

    Parameters
    ----------
    model
        A fitted model.
    features
        Features, index (household_id, as_of_date); columns are found by name.
    agreement
        Whether to see in how many refits each theme keeps its direction; costs as much again for
        each refit.
    engine
        ``"plain"``: LightGBM's own ``pred_contrib``. ``"tables"``: the same values to 1e-12, over a
        hundred times as many households a second once the tables stand. ``"auto"``: tables for many
        rows, and for all after `build_contribution_tables`.

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
    tables = _uses_tables(model, len(features), engine)
    contributions, base = (
        _look_up_contributions(model, features) if tables else model.contributions(features)
    )
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
    themes = dict(zip(contributions.columns, _themes(model), strict=True))
    return RiskExplanation(
        contributions=contributions,
        base_margin=base,
        margin=margin,
        risk=model.risk_of_margin(margin),
        base_risk=float(model.risk_of_margin(pd.Series([base])).iloc[0]),
        features=features[list(contributions.columns)],
        themes=themes,
        local_slope=_local_slope(model, margin),
        agreement=_compute_agreement(model, contributions, features, themes, tables=tables)
        if agreement
        else None,
    )


def build_contribution_tables(model: RiskModel) -> None:
    """Prepare a model, so that a single household too is explained from tables.

    For programs that run on and explain households one at a time: takes about a second.

    Parameters
    ----------
    model
        A fitted model.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, explain_risk
    >>> from poverty_risk.explain import build_contribution_tables
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> build_contribution_tables(model.fit(features, labels))
    >>> explanation = explain_risk(model, features.iloc[:1])
    >>> bool(explanation.contributions["income"].iloc[0] > 0)
    True
    """
    kept.prepare(model.forest_)


def _uses_tables(model: RiskModel, rows: int, engine: Engine) -> bool:
    if engine not in get_args(Engine):
        raise FeatureError(
            Fault("engine", repr(engine), " or ".join(get_args(Engine)), "Name one of them.")
        )
    if engine == "auto":
        return rows >= MANY_ROWS or kept.is_prepared(model.forest_)
    return engine == "tables"


def _look_up_contributions(model: RiskModel, features: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """What `RiskModel.contributions` gives, from tables."""
    tables = kept.tables_of(model.forest_)
    values = tables.compute(model.columns_.matrix(features), model.n_jobs)[:, :-1]
    names = list(model.feature_names_in_)
    return pd.DataFrame(values, index=features.index, columns=names), tables.base


STEP = 1e-4
"""Log-odds to both sides of a margin over which the slope of the calibrated curve is taken."""


def _local_slope(model: RiskModel, margin: pd.Series) -> pd.Series:
    rise = model.risk_of_margin(margin + STEP) - model.risk_of_margin(margin - STEP)
    return rise / (2 * STEP)


def _themes(model: RiskModel) -> list[str]:
    """Theme of each feature, in the model's order."""
    names = [str(name) for name in model.feature_names_in_]
    return ["other" if model.catalog is None else model.catalog[name].theme for name in names]


def _compute_agreement(
    model: RiskModel,
    contributions: pd.DataFrame,
    features: pd.DataFrame,
    themes: Mapping[str, str],
    *,
    tables: bool,
) -> pd.DataFrame | None:
    if model.refits_ is None:
        return None
    sums = _sum_by_theme(contributions, themes)
    same = np.zeros(sums.shape)
    refits = (
        _look_up_refits(model, model.refits_, features)
        if tables
        else _sum_refits(model, contributions, features, themes)
    )
    for refit in refits:
        same += refit * sums.to_numpy() > 0
    agreement = same / len(model.refits_.boosters)
    return pd.DataFrame(agreement, index=sums.index, columns=sums.columns)


def _look_up_refits(
    model: RiskModel, refits: Forest, features: pd.DataFrame
) -> Iterator[np.ndarray]:
    """Sums by theme of each refit, from tables."""
    matrix = model.columns_.matrix(features)
    themes = _themes(model)
    order = list(dict.fromkeys(themes))
    for tables in kept.tables_of_each(refits, [order.index(theme) for theme in themes]):
        yield tables.compute(matrix, model.n_jobs)[:, :-1]


def _sum_refits(
    model: RiskModel,
    contributions: pd.DataFrame,
    features: pd.DataFrame,
    themes: Mapping[str, str],
) -> Iterator[np.ndarray]:
    """Sums by theme of each refit, from LightGBM."""
    refits = model.contributions_of_refits(features)
    for values in () if refits is None else refits:
        frame = pd.DataFrame(values, index=features.index, columns=contributions.columns)
        yield _sum_by_theme(frame, themes).to_numpy()


@dataclass(frozen=True)
class RiskChange:
    """Why risks moved between two rounds, in probability points that sum exactly.

    Parameters
    ----------
    before, after
        Calibrated risk of each household in the earlier and in the later round.
    by_theme
        Points from what changed in the household, one column per theme.
    by_model
        Points from the exchange of the model: the new model's risk of the old features minus the
        old model's; 0 when both rounds used the same model.
    """

    before: pd.Series
    after: pd.Series
    by_theme: pd.DataFrame
    by_model: pd.Series


def explain_change(
    model: RiskModel,
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    model_before: RiskModel | None = None,
) -> RiskChange:
    """Explain why each household's risk moved since the last round.

    Parameters
    ----------
    model
        The model of the later round.
    before, after
        Features of the two rounds, index (household_id, as_of_date), one date per household and
        round; households of only one round are left out.
    model_before
        The model of the earlier round; by default the same.

    Returns
    -------
    RiskChange
        Index household_id. ``by_theme`` summed over themes plus ``by_model`` is ``after - before``.

    Raises
    ------
    FeatureError
        A household comes twice in a round.

    Notes
    -----
    The household's part is measured with the new model, between its features of the two rounds; what
    is left is the model's. Themes share the household's part in proportion to the change of their
    log-odds contributions (Aumann-Shapley shares of the calibrated curve along the straight way).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, explain_change
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> change = explain_change(model.fit(features, labels), features, features - 1)
    >>> total = change.by_theme.sum(axis=1) + change.by_model
    >>> bool(np.allclose(total, change.after - change.before))
    True
    """
    earlier, later = (_by_household(frame) for frame in (before, after))
    both = earlier.index.intersection(later.index, sort=False)
    earlier, later = earlier.loc[both], later.loc[both]
    old, new = explain_risk(model, earlier), explain_risk(model, later)
    way = new.margin - old.margin
    near = way.abs() < SMALLEST_WAY
    slope = ((new.risk - old.risk) / way.mask(near, 1.0)).where(~near, new.local_slope)
    first = old.risk if model_before is None else model_before.risk(earlier)
    return RiskChange(
        before=first,
        after=new.risk,
        by_theme=(new.by_theme - old.by_theme).mul(slope, axis=0),
        by_model=(old.risk - first).rename("by_model"),
    )


def _by_household(features: pd.DataFrame) -> pd.DataFrame:
    frame = features.droplevel([n for n in features.index.names if n != "household_id"])
    if not frame.index.is_unique:
        raise FeatureError(
            Fault(
                "features",
                "a household twice in one round",
                "one date per household",
                "Take the features of one as-of date.",
            )
        )
    return frame
