"""The risk model: gradient boosting with expected directions, calibrated on later dates."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from poverty_risk import boosting, folds, model_state
from poverty_risk.additive import Regression
from poverty_risk.alignment import align_grades, align_values, check_both_outcomes, group_codes
from poverty_risk.boosting import Booster, Rows
from poverty_risk.calibration import CalibrationSpread, fit_calibrator
from poverty_risk.features.spec import Catalog
from poverty_risk.forest import Forest
from poverty_risk.model_columns import ModelColumns
from poverty_risk.model_folder import write_model_folder
from poverty_risk.splits import dates_of, describe_periods, later_holdout
from poverty_risk.task import PredictionTask
from poverty_risk.windows import Horizon

__all__ = ["DEFAULT_TIERS", "PredictionTask", "RiskModel"]

logger = logging.getLogger(__name__)

DEFAULT_TIERS: Mapping[str, float] = {"red": 0.01, "orange": 0.05, "yellow": 0.10}
"""Share of households from the top that each tier reaches down to; the rest is green."""


class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calibrated risk of an outcome within a horizon, from features of households.

    A scikit-learn classifier around LightGBM. Trees are boosted on the earlier as-of dates; their
    number and, unless they are boosted again, the calibration come from later dates, whose labels do
    not overlap in time. A logistic regression, itself written as trees, can be mixed in.

    Parameters
    ----------
    catalog
        Features to use: columns are matched by name, directions become monotone constraints,
        categories are pinned. None takes every column, unconstrained.
    task
        What is predicted, for whom; kept with the model and needed to predict from history tables.
    n_estimators
        Most boosted trees.
    learning_rate, num_leaves, max_depth, min_child_samples, reg_lambda
        As in LightGBM. Depth is capped so that exact explanation stays cheap.
    subsample, colsample
        Share of rows and of features that each tree sees.
    monotone
        Whether directions of the catalogue become constraints.
    logistic
        Share of logistic regression in the mean of log-odds: 0 none, 1 alone, without boosted trees.
    logistic_c
        Inverse strength of its L2 penalty, as in scikit-learn.
    calibration
        ``"sigmoid"``, ``"isotonic"`` or None (then the risk is the logistic of the margin).
    later_share
        Share of the training rows, from the latest dates, that is kept for stopping and calibration.
    embargo
        Whether horizon and reporting lag must lie between boosting dates and later dates.
    early_stopping_rounds
        Rounds without gain on the later dates before boosting stops; None boosts all trees.
    refit
        Whether the trees are boosted again, on all dates, once their number is known. They are then
        calibrated by margins from trees of the same number that saw nothing of the row's village.
    n_folds
        Folds of whole villages that calibrate a model that is boosted again.
    n_seeds
        Boosters with different seeds, averaged in log-odds.
    n_refits
        Further boosters, each on a random half of the villages: a reason whose sign they do not agree
        on is not told. 0: every reason is told.
    tiers
        Share of households from the top by tier; thresholds are taken on the later dates.
    seed
        Of all random choices.
    n_jobs
        Threads of LightGBM.

    Attributes
    ----------
    forest_
        The fitted trees.
    refits_
        Trees of the refits on half of the villages each; None without refits.
    calibrator_
        Maps margins to risks; None without calibration.
    spread_
        How sure that map is; None unless it is ``"sigmoid"``.
    reference_
        Per feature: share missing, median and quantiles over the training rows.
    tiers_
        Lowest risk of each tier.
    training_
        Dates, rows and positives of boosting and later period.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel
    >>> dates = pd.to_datetime(["2021-01-01", "2023-01-01"])
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)], dates],
    ...                                    names=["household_id", "as_of_date"])
    >>> rng = np.random.default_rng(0)
    >>> features = pd.DataFrame({"income": rng.normal(size=800)}, index=index)
    >>> labels = pd.Series((features["income"] < -1.0).astype(float), name="label")
    >>> model = RiskModel(n_estimators=20, min_child_samples=20).fit(features, labels)
    >>> bool(model.risk(features)[labels == 1].mean() > 0.5)
    True
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        task: PredictionTask | None = None,
        *,
        n_estimators: int = 600,
        learning_rate: float = 0.03,
        num_leaves: int = 15,
        max_depth: int = 8,
        min_child_samples: int = 100,
        reg_lambda: float = 10.0,
        subsample: float = 0.8,
        colsample: float = 0.5,
        monotone: bool = True,
        logistic: float = 0.0,
        logistic_c: float = 0.005,
        calibration: str | None = "sigmoid",
        later_share: float = 0.25,
        embargo: bool = True,
        early_stopping_rounds: int | None = 50,
        refit: bool = False,
        n_folds: int = 5,
        n_seeds: int = 1,
        n_refits: int = 0,
        tiers: Mapping[str, float] = DEFAULT_TIERS,
        seed: int = 0,
        n_jobs: int = 2,
    ) -> None:
        self.catalog = catalog
        self.task = task
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.max_depth = max_depth
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda
        self.subsample = subsample
        self.colsample = colsample
        self.monotone = monotone
        self.logistic = logistic
        self.logistic_c = logistic_c
        self.calibration = calibration
        self.later_share = later_share
        self.embargo = embargo
        self.early_stopping_rounds = early_stopping_rounds
        self.refit = refit
        self.n_folds = n_folds
        self.n_seeds = n_seeds
        self.n_refits = n_refits
        self.tiers = tiers
        self.seed = seed
        self.n_jobs = n_jobs

    def fit(
        self,
        X: pd.DataFrame,
        y: pd.Series | np.ndarray,
        sample_weight: pd.Series | None = None,
        scored: pd.Series | None = None,
        groups: pd.Series | None = None,
        graded: pd.Series | None = None,
    ) -> Self:
        """Fit trees, their number, and the calibration.

        Parameters
        ----------
        X
            Features, shape (n_points, n_features), index (household_id, as_of_date).
        y
            Labels 1, 0 or missing (censored: left out), same index.
        sample_weight
            Weight of each point, same index; 1 by default.
        scored
            True for points of the cohort that will be scored, same index; all by default. Trees learn
            from every point; their number, the calibration and the tiers come from scored ones.
        groups
            Village of each point, same index: refits and folds take or leave it whole. Households
            by default.
        graded
            From 0 to 1, same index, from `grade_labels`: what trees learn, and their number with it,
            in place of `y`. All else comes from `y`; without calibration risks are an order alone.

        Returns
        -------
        RiskModel
            Itself.

        Raises
        ------
        FeatureError
            Missing columns, another index, labels of one class only, or no later dates.
        """
        self.__dict__.pop("model_id_", None)  # of what was saved before
        labels = align_values(y, X.index, "labels").dropna()
        X = X.loc[labels.index]
        weight = None if sample_weight is None else align_values(sample_weight, X.index, "weights")
        check_both_outcomes(labels)
        self.classes_ = np.array([0, 1])
        names = self.catalog.model_names if self.catalog is not None else X.columns
        self.set_columns(ModelColumns.of(X, [str(name) for name in names]))
        rows = Rows(
            self.columns_.matrix(X),
            labels.to_numpy(),
            None if weight is None else weight.to_numpy(),
            self.columns_.names,
            self.columns_.categorical,
            regression=self._regression(X.index),
            graded=None if graded is None else align_grades(graded, X.index).to_numpy(),
        )
        boosted, later = self._split(X.index)
        mask = np.ones(len(labels), dtype=bool)
        if scored is not None:
            mask = align_values(scored, X.index, "scored").to_numpy() == 1.0
        self.reference_ = self.columns_.describe(rows.matrix[mask])
        stopping = later & mask
        settings = [self._parameters(number) for number in range(self.n_seeds + self.n_refits)]
        own, others = settings[: self.n_seeds], settings[self.n_seeds :]
        boosters, rounds = self._boost(rows, boosted, stopping, own)
        codes = group_codes(groups, X.index)
        calibrated = stopping if stopping.any() else boosted
        if self.refit:
            boosted, calibrated = np.ones(len(labels), dtype=bool), mask
            # From trees like those of the final model that saw nothing of the row's village.
            drawn = folds.draw_folds(codes, self.n_folds, self.seed)
            margins = folds.cross_fit(rows, drawn, own, rounds, self.n_jobs)
            boosters = [boosting.boost(rows, boosted, *o) for o in zip(own, rounds, strict=True)]
        self.forest_ = Forest(boosting.mix(boosters, rows, boosted), self.n_jobs)
        if not self.refit:
            margins = self.forest_.margins(rows.matrix)
        self._calibrate(rows, margins, calibrated, codes)
        self._set_tiers(rows, margins, stopping if stopping.any() else calibrated)
        halves = folds.boost_halves(rows, boosted, codes, others, rounds[0], self.seed)
        self.refits_ = Forest(halves, self.n_jobs) if halves else None
        parts = {"boosted": boosted, "later": stopping, "calibrated": calibrated}
        used = {name: part for name, part in parts.items() if part.any()}
        self.training_ = {"trees": rounds, "graded": graded is not None}
        self.training_ |= describe_periods(X.index, rows.target, used)
        return self

    forest_: Forest
    training_: dict[str, Any]

    def _boost(
        self, rows: Rows, boosted: np.ndarray, later: np.ndarray, settings: list[dict[str, Any]]
    ) -> tuple[list[Booster], list[int]]:
        """Boosters and their numbers of trees, which later dates tell, if anything does."""
        most, patience = self.n_estimators, self.early_stopping_rounds
        if self.logistic == 1.0:  # no tree of theirs will count
            most, patience = 1, None
        if self.refit and patience is None:  # boosted again with as many trees: nothing to find out
            return [], [most] * len(settings)
        found = [boosting.boost(rows, boosted, own, most, later, patience) for own in settings]
        return found, Forest(found).trees

    def _calibrate(
        self, rows: Rows, margins: np.ndarray, mask: np.ndarray, groups: np.ndarray
    ) -> None:
        self.calibrator_, self.spread_ = None, None
        if self.calibration is not None:
            weight = None if rows.weight is None else rows.weight[mask]
            own, labels = margins[mask], rows.target[mask]
            self.calibrator_ = fit_calibrator(self.calibration, own, labels, weight)
            risks = self.calibrate(own)
            if self.calibration == "sigmoid":
                self.spread_ = CalibrationSpread.of(own, labels, risks, groups[mask], weight)

    spread_: CalibrationSpread | None

    def _set_tiers(self, rows: Rows, margins: np.ndarray, mask: np.ndarray) -> None:
        risks = self.calibrate(margins[mask])
        self.tiers_ = {
            tier: rows.quantile(risks, mask, 1 - share) for tier, share in self.tiers.items()
        }

    def set_columns(self, columns: ModelColumns) -> None:
        """Take over the columns of the fitted model, under the names that scikit-learn reads too."""
        self.columns_ = columns
        self.feature_names_in_ = np.asarray(columns.names, dtype=object)
        self.n_features_in_ = len(columns.names)

    def _split(self, index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
        everything = np.ones(len(index), dtype=bool)
        if self.calibration is None and self.early_stopping_rounds is None:
            return everything, ~everything
        horizon = Horizon.parse(self.task.horizon) if self.task is not None else None
        lag = self.task.schema.reporting_lag_days(self.task.label) if self.task is not None else 0
        return later_holdout(
            dates_of(index),
            self.later_share,
            horizon=horizon if self.embargo else None,
            reporting_lag_days=lag if self.embargo else 0,
        )

    def _parameters(self, number: int) -> dict[str, Any]:
        directions = list(self.directions.values()) if self.monotone else []
        settings = self.get_params(deep=False)
        return boosting.set_parameters(settings, directions, seed=self.seed + 1000 * number)

    def _regression(self, index: pd.Index) -> Regression | None:
        directions = [d * self.monotone for d in self.directions.values()]
        return Regression.of(self.logistic, self.logistic_c, directions, index)

    @property
    def directions(self) -> dict[str, int]:
        """Expected direction of each feature (0 = unconstrained), in the model's order."""
        catalog, columns = self.catalog, self.columns_
        return {
            name: 0 if catalog is None or name in columns.categories else catalog[name].direction
            for name in columns.names
        }

    def calibrate(self, margins: np.ndarray) -> np.ndarray:
        """Calibrated probability of each margin, shape (n,)."""
        if self.calibrator_ is None:
            return np.asarray(1.0 / (1.0 + np.exp(-margins)), dtype=np.float64)
        return np.asarray(self.calibrator_.predict(margins), dtype=np.float64)

    def margin(self, X: pd.DataFrame) -> pd.Series:
        """Log-odds before calibration.

        Parameters
        ----------
        X
            Features; columns are found by name, further columns are ignored.

        Returns
        -------
        Series
            float64 named ``margin``, index of `X`.

        Raises
        ------
        FeatureError
            A feature of the model is missing or has another type.
        """
        check_is_fitted(self, "forest_")
        margins = self.forest_.margins(self.columns_.matrix(X))
        return pd.Series(margins, index=X.index, name="margin")

    def risk(self, X: pd.DataFrame) -> pd.Series:
        """Calibrated probability in [0, 1], named ``risk``, index of `X` (see `margin`)."""
        return self.risk_of_margin(self.margin(X))

    def risk_of_margin(self, margin: pd.Series) -> pd.Series:
        """Calibrated probability of margins, named ``risk``."""
        return pd.Series(self.calibrate(margin.to_numpy()), index=margin.index, name="risk")

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Calibrated probabilities of no outcome and outcome, shape (n_points, 2)."""
        risks = self.risk(X).to_numpy()
        return np.column_stack([1.0 - risks, risks])

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        """Margins as an array, shape (n_points,)."""
        return self.margin(X).to_numpy()

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """1 where the risk is at least one half: rarely, at base rates of one in a hundred."""
        return (self.risk(X).to_numpy() >= 0.5).astype(int)

    def tier(self, risk: pd.Series) -> pd.Series:
        """Tier of each risk by the thresholds of training, named ``tier``; ``green`` below all."""
        return pd.Series(self.find_tiers(risk.to_numpy()), risk.index, "str", "tier")

    def find_tiers(self, risks: np.ndarray) -> np.ndarray:
        """The same for an array."""
        tiers = np.full(len(risks), "green", dtype=object)
        for name, lowest in sorted(self.tiers_.items(), key=lambda item: item[1]):
            tiers[risks >= lowest] = name
        return tiers

    def contributions(self, X: pd.DataFrame) -> tuple[pd.DataFrame, float]:
        """Exact path-dependent SHAP values in log-odds, and the base margin.

        Parameters
        ----------
        X
            Features.

        Returns
        -------
        contributions : DataFrame
            Index of `X`, one column per feature of the model.
        base_margin : float
            Mean margin over the training rows; adding a row's contributions gives its margin.
        """
        check_is_fitted(self, "forest_")
        values = self.forest_.contributions(self.columns_.matrix(X))
        base = self.forest_.base_margin(self.n_features_in_)
        return pd.DataFrame(values, index=X.index, columns=list(self.feature_names_in_)), base

    def contributions_of_refits(self, X: pd.DataFrame) -> np.ndarray | None:
        """SHAP values of each refit, shape (n_refits, n_points, n_features); None without refits."""
        check_is_fitted(self, "forest_")
        refits = self.refits_
        return None if refits is None else refits.contributions_of_each(self.columns_.matrix(X))

    def save(self, folder: str | Path, extra: Mapping[str, Any] | None = None) -> str:
        """Write a model folder: text boosters and a JSON manifest, no pickle.

        Parameters
        ----------
        folder
            Where to; appears whole or not at all.
        extra
            Further plain values for the manifest, such as the run and the history fingerprint.

        Returns
        -------
        str
            The model id: a hash of all that decides a prediction.
        """
        check_is_fitted(self, "forest_")
        state, texts = model_state.dump(self)
        self.model_id_ = write_model_folder(Path(folder), state, texts, extra or {})
        return self.model_id_

    @classmethod
    def load(cls, folder: str | Path) -> RiskModel:
        """Load a model folder; runs no code from it.

        Parameters
        ----------
        folder
            A folder written by `save`.

        Returns
        -------
        RiskModel
            A fitted model that predicts as the saved one did, to the last bit.

        Raises
        ------
        ModelFolderError
            A file is missing, altered, foreign or of a newer format.
        """
        model: RiskModel = model_state.load_folder(
            folder,
            lambda content: model_state.restore(cls, content.state, content.boosters),
            "RiskModel.save",
        )
        return model
