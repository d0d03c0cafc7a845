"""Contributions: exact SHAP values in log-odds, checked, grouped by theme."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.kept_facts import keep_per_fit
from poverty_risk.model import RiskModel
from poverty_risk.model_columns import ModelRows
from poverty_risk.shapley import kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from poverty_risk.forest import Forest
    from poverty_risk.shapley import TreeContributions

__all__ = [
    "SMALLEST_WAY",
    "Engine",
    "RiskExplanation",
    "build_contribution_tables",
    "explain_risk",
    "find_refit_margins",
]

Engine = Literal["auto", "tables", "plain"]
"""How contributions are computed: from tables, by LightGBM, or whichever is faster."""

MANY_ROWS = 3_000
"""Rows from which on tables pay for being built in a new process. How many there are decides, not
what was asked before: the same rows get the same answer to the last bit."""

MANY_MARGINS = 30_000
"""The same for margins alone, which LightGBM gives much faster than contributions."""

FEW_ROWS = 8
"""Rows below which adding number by number takes less time than column by column."""

TOLERANCE = 1e-6
"""Largest accepted difference, in log-odds, between a margin and the sum of its contributions."""

SMALLEST_WAY = 1e-9
"""Margins closer than this (log-odds) count as equal: a share of nothing has no meaning."""


@dataclass(frozen=True)
class RiskExplanation:
    """Why the model gives each point its risk.

    Parameters
    ----------
    values
        SHAP values in log-odds, shape (n, n_features); `contributions` by name.
    base_margin
        Mean margin over the training rows, log-odds.
    margins
        Log-odds of each point: base margin plus its contributions; `margin` by point.
    risks
        Calibrated probability of each point; `risk` by point.
    base_risk
        Calibrated probability at the base margin.
    rows
        The features, as the model's columns read them.
    themes
        Theme of each feature, in the order of the columns.
    slopes
        Probability per log-odd at each point.
    agreement
        Share of the refits on resampled villages in which a theme moves the point in the same
        direction, one column per theme; None when it was not asked for, or the model has no refits.
    """

    values: np.ndarray
    base_margin: float
    margins: np.ndarray
    risks: np.ndarray
    base_risk: float
    rows: ModelRows
    themes: Mapping[str, str]
    slopes: np.ndarray
    agreement: pd.DataFrame | None = None

    # Tables are made when somebody asks for them: one household's answer needs none.
    @property
    def index(self) -> pd.Index:
        """The points: (household_id, as_of_date)."""
        return self.rows.given.index

    @functools.cached_property
    def contributions(self) -> pd.DataFrame:
        """SHAP values in log-odds, one column per feature."""
        return pd.DataFrame(self.values, index=self.index, columns=self.rows.columns.labels)

    @functools.cached_property
    def margin(self) -> pd.Series:
        """Log-odds of each point."""
        return pd.Series(self.margins, index=self.index, name="margin")

    @functools.cached_property
    def risk(self) -> pd.Series:
        """Calibrated probability of each point."""
        return pd.Series(self.risks, index=self.index, name="risk")

    @functools.cached_property
    def local_slope(self) -> pd.Series:
        """Probability per log-odd at each point."""
        return pd.Series(self.slopes, index=self.index, name="risk")

    @property
    def features(self) -> pd.DataFrame:
        """Values of the features, same index and columns."""
        return self.rows.frame

    @functools.cached_property
    def by_theme(self) -> pd.DataFrame:
        """Sum of contributions per theme in log-odds, one column per theme.

        Correlated features share one theme, so the sum is steadier than its parts.
        """
        names, _ = _number(list(self.themes.values()))
        return pd.DataFrame(self.theme_sums, index=self.index, columns=names)

    @functools.cached_property
    def theme_sums(self) -> np.ndarray:
        """`by_theme` as an array, shape (n, n_themes), themes as they first appear in `themes`."""
        _, owners = _number(list(self.themes.values()))
        return _sum_by_theme(self.values, owners)

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
        return pd.Series(self.slopes_to_base, index=self.index)

    @functools.cached_property
    def slopes_to_base(self) -> np.ndarray:
        """`points_per_log_odd` as an array, shape (n,)."""
        way = self.margins - self.base_margin
        near = np.abs(way) < SMALLEST_WAY
        slope = (self.risks - self.base_risk) / np.where(near, 1.0, way)
        return np.where(near, self.slopes, slope)

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
            values=self.values,
            base_values=np.full(len(self.values), self.base_margin),
            data=numbers.to_numpy(dtype=float),
            feature_names=list(self.contributions.columns),
        )


def _number(themes: Sequence[str]) -> tuple[list[str], list[int]]:
    """The themes in the order in which they first appear, and the number of each feature's."""
    order = list(dict.fromkeys(themes))
    numbers = {theme: number for number, theme in enumerate(order)}
    return order, [numbers[theme] for theme in themes]


def _sum_by_theme(contributions: np.ndarray, owners: Sequence[int]) -> np.ndarray:
    """Sums of the columns by the theme that owns each, shape (n, n_themes)."""
    # Minus zero plus anything is that, to the last bit.
    sums = np.full((len(contributions), max(owners, default=-1) + 1), -0.0)
    # Added in order: a sum over a row of eight and more depends on how many rows there are.
    if len(contributions) < FEW_ROWS:
        for row, totals in zip(contributions.tolist(), sums, strict=True):
            added = totals.tolist()
            for value, owner in zip(row, owners, strict=True):
                added[owner] += value
            totals[:] = added
        return sums
    for column, owner in zip(contributions.T, owners, strict=True):
        sums[:, owner] += column
    return sums


def explain_risk(
    model: RiskModel,
    features: pd.DataFrame | ModelRows,
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
        Features, index (household_id, as_of_date); columns are found by name. Or rows that the
        model's columns have read.
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
    check_is_fitted(model, "forest_")
    rows = model.columns_.read(features)
    matrix = rows.matrix
    tables = _uses_tables(model, len(matrix), engine)
    values, base = _compute_contributions(model, matrix, tables=tables)
    margins = model.forest_.margins(matrix)
    _check_sums(values, base, margins)
    agreed = _compute_agreement(model, values, matrix, tables=tables) if agreement else None
    return RiskExplanation(
        values=values,
        base_margin=base,
        margins=margins,
        risks=model.calibrate(margins),
        base_risk=float(model.calibrate(np.array([base]))[0]),
        rows=rows,
        themes=dict(_themes(model)),  # a copy: what is kept is everybody's
        slopes=_local_slopes(model, margins),
        agreement=None
        if agreed is None
        else pd.DataFrame(agreed, index=rows.given.index, columns=_number_themes(model)[0]),
    )


def _check_sums(values: np.ndarray, base: float, margins: np.ndarray) -> None:
    worst = float(np.abs(values.sum(axis=1) + base - margins).max(initial=0.0))
    if worst > TOLERANCE * max(1.0, float(np.abs(margins).max(initial=0.0))):
        raise FeatureError(
            Fault(
                "contributions",
                f"a sum that is {worst:.2g} off the margin",
                f"at most {TOLERANCE:g}",
                "Report this: the explanation must not be used.",
            )
        )


def build_contribution_tables(model: RiskModel) -> None:
    """Prepare a model, so that a single household too is explained from tables.

    For programs that run on and explain households one at a time: takes about a second, and as much
    again for refits, whose tables give the ends of intervals.

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
    if model.refits_ is not None:
        _tables_of_refits(model, model.refits_)


def _uses_tables(model: RiskModel, rows: int, engine: Engine) -> bool:
    if engine not in get_args(Engine):
        raise FeatureError(
            Fault("engine", repr(engine), " or ".join(get_args(Engine)), "Name one of them.")
        )
    if engine == "auto":
        return rows >= MANY_ROWS or kept.is_prepared(model.forest_)
    return engine == "tables"


def _compute_contributions(
    model: RiskModel, matrix: np.ndarray, *, tables: bool
) -> tuple[np.ndarray, float]:
    """Contributions of each feature, and the base margin."""
    forest = model.forest_
    if tables:
        prepared = kept.tables_of(forest)
        return prepared.compute(matrix, model.n_jobs)[:, :-1], prepared.base
    return forest.contributions(matrix), forest.base_margin(matrix.shape[1])


STEP = 1e-4
"""Log-odds to both sides of a margin over which the slope of the calibrated curve is taken."""


def _local_slopes(model: RiskModel, margins: np.ndarray) -> np.ndarray:
    rise = model.calibrate(margins + STEP) - model.calibrate(margins - STEP)
    return np.asarray(rise / (2 * STEP))


@keep_per_fit
def _themes(model: RiskModel) -> Mapping[str, str]:
    """Theme of each feature, in the model's order."""
    catalog = model.catalog
    return {n: "other" if catalog is None else catalog[n].theme for n in model.columns_.names}


def _number_themes(model: RiskModel) -> tuple[list[str], list[int]]:
    return _number(list(_themes(model).values()))


def _compute_agreement(
    model: RiskModel, values: np.ndarray, matrix: np.ndarray, *, tables: bool
) -> np.ndarray | None:
    """Share of refits that move a point in the same direction, shape (n, n_themes)."""
    if model.refits_ is None:
        return None
    _, owners = _number_themes(model)
    sums = _sum_by_theme(values, owners)
    same = np.zeros(sums.shape)
    for refit in _sum_refits(model.refits_, matrix, owners, model.n_jobs if tables else None):
        same += refit * sums > 0
    return same / len(model.refits_.boosters)


def _sum_refits(
    refits: Forest, matrix: np.ndarray, owners: list[int], threads: int | None
) -> Iterator[np.ndarray]:
    """Sums by theme of each refit: from tables with so many threads, or (None) from LightGBM."""
    if threads is None:
        for values in refits.contributions_of_each(matrix):
            yield _sum_by_theme(values, owners)
        return
    for tables in kept.tables_of_each(refits, owners):
        yield tables.compute(matrix, threads)[:, :-1]


def find_refit_margins(model: RiskModel, matrix: np.ndarray) -> list[np.ndarray]:
    """Margins of each refit, shape (n,) each.

    For very many rows, and for all after `build_contribution_tables`, from the tables of
    contributions: the same to 1e-12 in less time.
    """
    refits = model.refits_
    assert refits is not None
    if len(matrix) < MANY_MARGINS and not kept.is_prepared(model.forest_):
        return refits.margins_of_each(matrix)
    parts = (t.compute(matrix, model.n_jobs) for t in _tables_of_refits(model, refits))
    # Base and themes added in order: see `_sum_by_theme`.
    return [functools.reduce(np.add, part.T) for part in parts]


def _tables_of_refits(model: RiskModel, refits: Forest) -> tuple[TreeContributions, ...]:
    return kept.tables_of_each(refits, _number_themes(model)[1])
