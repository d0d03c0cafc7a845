"""Risk over time: one discrete-time hazard model for several horizons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from poverty_risk import model_state
from poverty_risk.alignment import group_codes
from poverty_risk.boosting import Rows, boost, set_parameters
from poverty_risk.calibration import IsotonicCalibrator, SigmoidCalibrator, load_calibrator
from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.features.spec import Catalog
from poverty_risk.folds import boost_folds, draw_folds
from poverty_risk.forest import Forest
from poverty_risk.logistic import fit_logistic_intercept
from poverty_risk.model_columns import ModelColumns
from poverty_risk.model_folder import ModelFolder, write_model_folder
from poverty_risk.person_periods import DEFAULT_HORIZONS, PersonPeriods, parse_horizons
from poverty_risk.task import PredictionTask

__all__ = ["HazardModel"]

INTERVAL = "interval"
"""Column of the number of the interval, beside the features."""

KIND = "hazard"


class HazardModel(BaseEstimator):  # type: ignore[misc]
    """Risk of an outcome within 3, 6, 12 and 24 months from one model, never falling with time.

    Time after the as-of date is cut at the horizons. Trees learn, for households to which nothing had
    happened by the start of an interval, whether it happens within it (discrete-time hazard); risks
    of the intervals combine to the risk within each horizon. A household that was lost, or whose
    time is not over, teaches up to when it was last seen.

    Parameters
    ----------
    catalog
        Features to use; None takes every column, unconstrained.
    task
        What is predicted, for whom; its horizon is not read.
    horizons
        Each longer than the last.
    n_estimators
        Most trees; stopping takes fewer.
    learning_rate, num_leaves, max_depth, min_child_samples, reg_lambda, subsample, colsample, monotone
        As in `RiskModel`.
    n_folds
        Folds of whole villages: their margins, from trees of the other folds, choose the number of
        trees and calibrate.
    early_stopping_rounds
        Rounds without gain on a fold before boosting stops; None boosts all trees.
    seed
        Of all random choices.
    n_jobs
        Threads of LightGBM.

    Attributes
    ----------
    forest_
        The fitted trees, over the features and the number of the interval.
    base_
        Log-odds of the mean hazard of each interval, which the trees start from.
    calibrators_
        By horizon, from log-odds of the interval that ends there to its calibrated hazard.
    training_
        Rows, positives and number of trees.

    Notes
    -----
    With hazards h_1, h_2, ... the risk within horizon k is ``1 - (1 - h_1) ... (1 - h_k)``. It is the
    hazards that are calibrated, by margins of trees that saw nothing of the village: so the risk
    cannot fall with time, and those who were lost count for as long as they were seen. Labels at a
    horizon would give risks that are too high: who was lost before an outcome has none, who was lost
    after one has.

    For one horizon alone `RiskModel` is the better choice up to 12 months: on simulated counties its
    log loss was lower by 3 to 11 % (``benchmarks/hazard.py``).

    References
    ----------
    Singer, J. D. and Willett, J. B. (1993). It's about time: using discrete-time survival analysis to
    study duration and the timing of events.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import HazardModel
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(800)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> rng = np.random.default_rng(0)
    >>> features = pd.DataFrame({"income": rng.normal(size=800)}, index=index)
    >>> months = rng.exponential(20.0 * np.exp(features["income"]))
    >>> outcomes = pd.DataFrame({f"{m}mo": (months < m).astype(float) for m in (3, 12)}, index=index)
    >>> model = HazardModel(horizons=["3mo", "12mo"], n_estimators=30).fit(features, outcomes)
    >>> risk = model.risk(features)
    >>> list(risk.columns), bool((risk["3mo"] <= risk["12mo"]).all())
    (['3mo', '12mo'], True)
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        task: PredictionTask | None = None,
        *,
        horizons: Sequence[str] = DEFAULT_HORIZONS,
        n_estimators: int = 600,
        learning_rate: float = 0.03,
        num_leaves: int = 15,
        max_depth: int = 8,
        min_child_samples: int = 100,
        reg_lambda: float = 10.0,
        subsample: float = 0.8,
        colsample: float = 0.5,
        monotone: bool = True,
        n_folds: int = 5,
        early_stopping_rounds: int | None = 50,
        seed: int = 0,
        n_jobs: int = 2,
    ) -> None:
        self.catalog = catalog
        self.task = task
        self.horizons = horizons
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.max_depth = max_depth
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda
        self.subsample = subsample
        self.colsample = colsample
        self.monotone = monotone
        self.n_folds = n_folds
        self.early_stopping_rounds = early_stopping_rounds
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(self, X: pd.DataFrame, y: pd.DataFrame, groups: pd.Series | None = None) -> Self:
        """Fit trees, their number, and the calibration of each horizon.

        Parameters
        ----------
        X
            Features, shape (n_points, n_features), index (household_id, as_of_date).
        y
            Labels by horizon, from `label_times`: same index, one column per horizon.
        groups
            Village of each point, same index: folds take or leave it whole. Households by default.

        Returns
        -------
        HazardModel
            Itself.

        Raises
        ------
        FeatureError
            Missing columns or horizons, other points, an interval without outcomes, or one fold only.
        """
        horizons = parse_horizons(self.horizons)
        outcomes = _align_outcomes(y, X.index, horizons)
        names = self.catalog.model_names if self.catalog is not None else X.columns
        self.columns_ = ModelColumns.of(X, [str(name) for name in names])
        periods = PersonPeriods.of(outcomes)
        self.base_ = _base_hazards(periods, horizons)
        matrix = self.columns_.matrix(X)
        rows = self._rows(matrix, periods)
        folds = draw_folds(group_codes(groups, X.index), self.n_folds, self.seed)
        margins, trees = self._cross_fit(rows, folds[periods.point])
        self.calibrators_ = _calibrate(margins, periods, horizons)
        everything = np.ones(len(rows.target), dtype=bool)
        booster = boost(rows, everything, self._parameters(), trees)
        self.forest_ = Forest([booster], self.n_jobs)
        self.training_ = {
            "trees": trees,
            "points": len(X),
            "rows": len(rows.target),
            "positives": {h: int(outcomes[h].sum()) for h in horizons},
            "known": {h: int(outcomes[h].notna().sum()) for h in horizons},
        }
        return self

    def _rows(self, matrix: np.ndarray, periods: PersonPeriods) -> Rows:
        return Rows(
            np.column_stack([matrix[periods.point], periods.interval]),
            periods.happened,
            None,
            [*self.columns_.names, INTERVAL],
            self.columns_.categorical,
            self.base_[periods.interval],
        )

    def _cross_fit(self, rows: Rows, folds: np.ndarray) -> tuple[np.ndarray, int]:
        """Margins of all rows, each from trees of the other folds; their mean number."""
        margins, counts = np.empty(len(rows.target)), []
        for left_out, booster in boost_folds(
            rows, folds, self._parameters(), self.n_estimators, self.early_stopping_rounds
        ):
            margins[left_out] = Forest([booster], self.n_jobs).margins(rows.matrix[left_out])
            counts.append(booster.num_trees())
        assert rows.start is not None
        return margins + rows.start, max(round(float(np.mean(counts))), 1)

    def _parameters(self) -> dict[str, Any]:
        directions = [self._direction(name) for name in self.columns_.names] + [0]
        settings = self.get_params(deep=False)
        return set_parameters(settings, directions if self.monotone else [], seed=self.seed)

    def _direction(self, name: str) -> int:
        if self.catalog is None or name in self.columns_.categories:
            return 0
        return int(self.catalog[name].direction)

    def hazard(self, X: pd.DataFrame) -> pd.DataFrame:
        """Calibrated risk within each interval, given that nothing has happened before it.

        Parameters
        ----------
        X
            Features; columns are found by name, further columns are ignored.

        Returns
        -------
        DataFrame
            Index of `X`, one column per horizon, at which the interval ends; in [0, 1].
        """
        check_is_fitted(self, "forest_")
        matrix = self.columns_.matrix(X)
        hazards = {}
        for interval, (horizon, calibrator) in enumerate(self.calibrators_.items()):
            asked = np.column_stack([matrix, np.full(len(matrix), float(interval))])
            margin = self.forest_.margins(asked) + self.base_[interval]
            hazards[horizon] = calibrator.predict(margin)
        return pd.DataFrame(hazards, index=X.index).rename_axis(columns="horizon")

    def risk(self, X: pd.DataFrame) -> pd.DataFrame:
        """Calibrated risk within each horizon.

        Parameters
        ----------
        X
            Features; columns are found by name, further columns are ignored.

        Returns
        -------
        DataFrame
            Index of `X`, one column per horizon, in [0, 1], never falling from left to right.
        """
        hazards = self.hazard(X)
        # As logarithms: 1 - (1 - h) loses the small risks.
        risks = -np.expm1(np.cumsum(np.log1p(-hazards.to_numpy()), axis=1))
        return pd.DataFrame(risks, index=X.index, columns=hazards.columns)

    def save(self, folder: str | Path, extra: Mapping[str, Any] | None = None) -> str:
        """Write a model folder: a text booster and a JSON manifest, no pickle.

        Parameters
        ----------
        folder
            Where to; appears whole or not at all.
        extra
            Further plain values for the manifest.

        Returns
        -------
        str
            The model id: a hash of all that decides a prediction.
        """
        check_is_fitted(self, "forest_")
        state = model_state.dump_declared(self) | {
            "kind": KIND,
            "base": self.base_.tolist(),
            "calibrators": {h: item.to_dict() for h, item in self.calibrators_.items()},
            "training": self.training_,
        }
        texts = {"booster_0.txt": self.forest_.texts[0]}
        self.model_id_ = write_model_folder(Path(folder), state, texts, extra or {})
        return self.model_id_

    @classmethod
    def load(cls, folder: str | Path) -> HazardModel:
        """Load a model folder; runs no code from it.

        Parameters
        ----------
        folder
            A folder written by `save`.

        Returns
        -------
        HazardModel
            A fitted model that predicts as the saved one did, to the last bit.

        Raises
        ------
        ModelFolderError
            A file is missing, altered, foreign, of a newer format, or of a `RiskModel`.
        """
        model: HazardModel = model_state.load_folder(folder, cls._restore, "HazardModel.save")
        return model

    @classmethod
    def _restore(cls, content: ModelFolder) -> HazardModel:
        state, texts = content.state, list(content.boosters.values())
        if state["kind"] != KIND:
            message = "another kind of model"
            raise ValueError(message)
        model: HazardModel
        model, model.columns_ = model_state.restore_declared(cls, state)
        horizons = parse_horizons(model.horizons)
        model.base_ = np.asarray(state["base"], dtype=np.float64)
        if model.base_.shape != (len(horizons),) or not np.isfinite(model.base_).all():
            message = "hazards that do not match the horizons"
            raise ValueError(message)
        model.calibrators_ = {h: load_calibrator(state["calibrators"][h]) for h in horizons}
        model.training_ = dict(state["training"])
        model.forest_ = Forest.from_texts(texts, [*state["columns"], INTERVAL], model.n_jobs)
        return model

    calibrators_: dict[str, SigmoidCalibrator | IsotonicCalibrator]
    model_id_: str


def _calibrate(
    margins: np.ndarray, periods: PersonPeriods, horizons: tuple[str, ...]
) -> dict[str, SigmoidCalibrator | IsotonicCalibrator]:
    """One slope for all intervals, because outcomes of one are few, and an intercept for each."""
    slope = SigmoidCalibrator.fit(margins, periods.happened).slope
    calibrators: dict[str, SigmoidCalibrator | IsotonicCalibrator] = {}
    for interval, horizon in enumerate(horizons):
        own = periods.interval == interval
        intercept = fit_logistic_intercept(slope * margins[own], periods.happened[own])
        calibrators[horizon] = SigmoidCalibrator(slope, intercept)
    return calibrators


def _align_outcomes(
    outcomes: pd.DataFrame, index: pd.Index, horizons: tuple[str, ...]
) -> pd.DataFrame:
    """Labels of the horizons on the points of the features, by key."""
    faults = [
        Fault("outcomes", f"no column '{horizon}'", "one per horizon", "Use label_times.")
        for horizon in horizons
        if horizon not in outcomes.columns
    ]
    absent = len(index.difference(outcomes.index))
    if absent or not outcomes.index.is_unique:
        found = f"{absent} of {len(index)} points without an entry, or repeated points"
        faults.append(Fault("outcomes", found, "each point once", "Compute both of one table."))
    if faults:
        raise FeatureError(faults)
    return outcomes.loc[:, list(horizons)].reindex(index)


def _base_hazards(periods: PersonPeriods, horizons: tuple[str, ...]) -> np.ndarray:
    """Log-odds of the mean hazard of each interval."""
    size = len(horizons)
    positives = np.bincount(periods.interval, weights=periods.happened, minlength=size)
    rows = np.bincount(periods.interval, minlength=size)
    faults = [
        Fault(
            f"interval that ends at {horizon}",
            f"{int(rows[k]):,} households at risk, {int(positives[k]):,} with the outcome",
            "households with and without the outcome",
            "Add earlier as-of dates, or leave this horizon out.",
        )
        for k, horizon in enumerate(horizons)
        if not 0 < positives[k] < rows[k]
    ]
    if faults:
        raise FeatureError(faults)
    return np.asarray(logit(positives / rows))
