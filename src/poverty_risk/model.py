"""The risk model: gradient boosting with expected directions, calibrated on later dates."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import lightgbm
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from poverty_risk.calibration import fit_calibrator, load_calibrator
from poverty_risk.declarations import parse_declaration
from poverty_risk.exceptions import Fault, FeatureError, ModelFolderError, PovertyRiskError
from poverty_risk.features.spec import Catalog, parse_catalog
from poverty_risk.model_folder import read_model_folder, write_model_folder
from poverty_risk.schema import Schema
from poverty_risk.splits import later_holdout
from poverty_risk.windows import Horizon

__all__ = ["DEFAULT_TIERS", "PredictionTask", "RiskModel"]

logger = logging.getLogger(__name__)

DEFAULT_TIERS: Mapping[str, float] = {"red": 0.01, "orange": 0.05, "yellow": 0.10}
"""Share of households from the top that each tier reaches down to; the rest is green."""


@dataclasses.dataclass(frozen=True)
class PredictionTask:
    """What a model predicts, for whom; kept in the model folder.

    Parameters
    ----------
    schema
        Schema of the history that the features are computed from.
    cohort
        Cohort that is scored.
    label
        Label definition.
    horizon
        Horizon, as ``"12mo"``.
    line
        Poverty line by year that was used; None when the features need none.
    """

    schema: Schema
    cohort: str
    label: str
    horizon: str
    line: Mapping[int, float] | None = None


class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calibrated risk of an outcome within a horizon, from features of households.

    A scikit-learn classifier around LightGBM. Trees are boosted on the earlier as-of dates; their
    number and the calibration come from later dates, whose labels do not overlap in time.

    Parameters
    ----------
    catalog
        Features to use: columns are matched by name, directions become monotone constraints,
        categories are pinned. None takes every column, unconstrained.
    task
        What is predicted, for whom; kept with the model and needed to predict from history tables.
    n_estimators
        Most trees.
    learning_rate, num_leaves, max_depth, min_child_samples, reg_lambda
        As in LightGBM. Depth is capped so that exact explanation stays cheap.
    subsample, colsample
        Share of rows and of features that each tree sees.
    monotone
        Whether directions of the catalogue become constraints.
    calibration
        ``"sigmoid"``, ``"isotonic"`` or None (then the risk is the logistic of the margin).
    later_share
        Share of the training rows, from the latest dates, that is kept for stopping and calibration.
    embargo
        Whether horizon and reporting lag must lie between boosting dates and later dates.
    early_stopping_rounds
        Rounds without gain on the later dates before boosting stops; None boosts all trees.
    refit
        Whether the trees are boosted again on all rows once their number and the calibration are
        known.
    n_seeds
        Boosters with different seeds, averaged in log-odds.
    tiers
        Share of households from the top by tier; thresholds are taken on the later dates.
    seed
        Of all random choices.
    n_jobs
        Threads of LightGBM.

    Attributes
    ----------
    boosters_
        Fitted LightGBM boosters.
    calibrator_
        Maps margins to risks; None without calibration.
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
        calibration: str | None = "sigmoid",
        later_share: float = 0.25,
        embargo: bool = True,
        early_stopping_rounds: int | None = 50,
        refit: bool = False,
        n_seeds: int = 1,
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
        self.calibration = calibration
        self.later_share = later_share
        self.embargo = embargo
        self.early_stopping_rounds = early_stopping_rounds
        self.refit = refit
        self.n_seeds = n_seeds
        self.tiers = tiers
        self.seed = seed
        self.n_jobs = n_jobs

    # ------------------------------------------------------------------ fitting

    def fit(
        self,
        X: pd.DataFrame,
        y: pd.Series | np.ndarray,
        sample_weight: pd.Series | None = None,
        scored: pd.Series | None = None,
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

        Returns
        -------
        RiskModel
            Itself.

        Raises
        ------
        FeatureError
            Missing columns, another index, labels of one class only, or no later dates.
        """
        labels = _align(y, X.index, "labels").dropna()
        X = X.loc[labels.index]
        weight = None if sample_weight is None else _align(sample_weight, X.index, "weights")
        self._check_labels(labels)
        self._set_columns(X)
        matrix = self._matrix(X)
        boost, later = self._split(X.index)
        mask = None if scored is None else _align(scored, X.index, "scored").to_numpy() == 1.0
        self._set_reference(matrix if mask is None else matrix[mask])
        if mask is not None and later.any():
            later = later & mask
        target, row_weight = labels.to_numpy(), None if weight is None else weight.to_numpy()
        self.boosters_ = [
            self._boost(matrix, target, row_weight, boost, later, number)
            for number in range(self.n_seeds)
        ]
        self.calibrator_ = None
        rows = later if later.any() else boost
        margins = self._margins(matrix[rows])
        if self.calibration is not None:
            self.calibrator_ = fit_calibrator(
                self.calibration,
                margins,
                target[rows],
                None if row_weight is None else row_weight[rows],
            )
        risks = self._risks(margins)
        self.tiers_ = {
            tier: float(np.quantile(risks, 1 - share)) for tier, share in self.tiers.items()
        }
        if self.refit:
            self.boosters_ = [
                self._boost(matrix, target, row_weight, boost | later, None, number, trees)
                for number, trees in enumerate([b.num_trees() for b in self.boosters_])
            ]
        self.training_ = self._describe(X.index, target, boost, later)
        return self

    def _check_labels(self, labels: pd.Series) -> None:
        classes = np.unique(labels.to_numpy())
        if not np.array_equal(classes, [0.0, 1.0]):
            raise FeatureError(
                Fault(
                    "labels",
                    f"values {classes[:5].tolist()}",
                    "both 0 and 1 (missing = censored)",
                    "Widen the cohort or the dates.",
                )
            )
        self.classes_ = np.array([0, 1])

    def _set_columns(self, X: pd.DataFrame) -> None:
        names = list(self.catalog.model_names) if self.catalog is not None else list(X.columns)
        self.feature_names_in_ = np.asarray(names, dtype=object)
        self.n_features_in_ = len(names)
        self._check_columns(X)
        self.categories_ = {
            name: list(X[name].cat.categories)
            for name in names
            if isinstance(X[name].dtype, pd.CategoricalDtype)
        }

    def _check_columns(self, X: pd.DataFrame) -> None:
        missing = [name for name in self.feature_names_in_ if name not in X.columns]
        if missing:
            raise FeatureError(
                Fault(
                    "features",
                    f"no column {', '.join(missing[:5])}{' …' * (len(missing) > 5)}",
                    f"the {len(self.feature_names_in_)} features of the model",
                    "Build the features with the model's own catalogue.",
                )
            )

    def _matrix(self, X: pd.DataFrame) -> np.ndarray:
        """Columns by name in the model's order; categories as codes, unseen ones as missing."""
        self._check_columns(X)
        matrix = np.empty((len(X), self.n_features_in_), dtype=np.float64)
        for position, name in enumerate(self.feature_names_in_):
            column = X[name]
            if name in self.categories_:
                codes = pd.Index(self.categories_[name]).get_indexer(
                    pd.Index(column.astype(object))
                )
                matrix[:, position] = np.where(codes < 0, np.nan, codes)
            elif pd.api.types.is_numeric_dtype(column.dtype):
                matrix[:, position] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                raise FeatureError(
                    Fault(
                        f"feature '{name}'",
                        f"values of type {column.dtype}",
                        "numbers (the model saw numbers)",
                        "Build the features with the model's own catalogue.",
                    )
                )
        return matrix

    def _split(self, index: pd.Index) -> tuple[np.ndarray, np.ndarray]:
        everything = np.ones(len(index), dtype=bool)
        if self.calibration is None and self.early_stopping_rounds is None:
            return everything, ~everything
        if "as_of_date" not in index.names:
            raise FeatureError(
                Fault(
                    "features",
                    f"index {list(index.names)}",
                    "a level as_of_date, for stopping and calibration on later dates",
                    "Set the index, or set calibration=None and early_stopping_rounds=None.",
                )
            )
        horizon = Horizon.parse(self.task.horizon) if self.task is not None else None
        lag = self.task.schema.reporting_lag_days(self.task.label) if self.task is not None else 0
        return later_holdout(
            pd.DatetimeIndex(index.get_level_values("as_of_date")),
            self.later_share,
            horizon=horizon if self.embargo else None,
            reporting_lag_days=lag if self.embargo else 0,
        )

    def _set_reference(self, matrix: np.ndarray) -> None:
        self.reference_: dict[str, dict[str, Any]] = {}
        for position, name in enumerate(self.feature_names_in_):
            values = matrix[:, position]
            known = values[~np.isnan(values)]
            entry: dict[str, Any] = {"missing": float(1 - len(known) / max(len(values), 1))}
            if name in self.categories_:
                counts = np.bincount(known.astype(int), minlength=len(self.categories_[name]))
                entry["shares"] = (counts / max(len(known), 1)).tolist()
            elif len(known):
                grid = np.quantile(known, np.linspace(0, 1, 21), method="lower")
                entry |= {"median": float(np.median(known)), "quantiles": grid.tolist()}
            self.reference_[str(name)] = entry

    def _parameters(self, number: int) -> dict[str, Any]:
        parameters = {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "max_depth": self.max_depth,
            "min_data_in_leaf": self.min_child_samples,
            "lambda_l2": self.reg_lambda,
            "bagging_fraction": self.subsample,
            "bagging_freq": 1 if self.subsample < 1 else 0,
            "feature_fraction": self.colsample,
            "seed": self.seed + 1000 * number,
            "num_threads": self.n_jobs,
            # The same trees whatever the number of threads.
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
            "metric": "binary_logloss",
        }
        directions = self.directions
        if self.monotone and any(directions.values()):
            parameters["monotone_constraints"] = list(directions.values())
            parameters["monotone_constraints_method"] = "intermediate"
        return parameters

    @property
    def directions(self) -> dict[str, int]:
        """Expected direction of each feature (0 = unconstrained), in the model's order."""
        catalog = self.catalog
        return {
            str(name): 0 if catalog is None or name in self.categories_ else catalog[name].direction
            for name in self.feature_names_in_
        }

    def _boost(
        self,
        matrix: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        rows: np.ndarray,
        later: np.ndarray | None,
        number: int,
        trees: int | None = None,
    ) -> lightgbm.Booster:
        names = [str(name) for name in self.feature_names_in_]
        categorical = [names.index(name) for name in self.categories_]

        def dataset(mask: np.ndarray, reference: lightgbm.Dataset | None) -> lightgbm.Dataset:
            return lightgbm.Dataset(
                matrix[mask],
                label=target[mask],
                weight=None if weight is None else weight[mask],
                feature_name=names,
                categorical_feature=categorical,
                reference=reference,
                params={"verbosity": -1, "max_bin": 255},
            )

        training = dataset(rows, None)
        stopping = self.early_stopping_rounds is not None and later is not None and later.any()
        booster = lightgbm.train(
            self._parameters(number),
            training,
            num_boost_round=self.n_estimators if trees is None else trees,
            valid_sets=[dataset(later, training)] if stopping and later is not None else None,
            callbacks=(
                [lightgbm.early_stopping(int(self.early_stopping_rounds or 0), verbose=False)]
                if stopping
                else []
            ),
        )
        # From its text, so that a model that is loaded later is the same model to the last bit.
        best = booster.best_iteration if stopping else -1
        return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=best))

    def _describe(
        self, index: pd.Index, target: np.ndarray, boost: np.ndarray, later: np.ndarray
    ) -> dict[str, Any]:
        periods = {"boosted": boost, "later": later} if later.any() else {"boosted": boost}
        described: dict[str, Any] = {"trees": [b.num_trees() for b in self.boosters_]}
        for name, mask in periods.items():
            described[name] = {
                "points": int(mask.sum()),
                "positives": int(target[mask].sum()),
            }
            if "as_of_date" in index.names:
                dates = index.get_level_values("as_of_date")[mask]
                described[name]["first"] = str(dates.min().date())
                described[name]["last"] = str(dates.max().date())
        described["base_rate"] = float(target.mean())
        return described

    # --------------------------------------------------------------- predicting

    def _margins(self, matrix: np.ndarray) -> np.ndarray:
        margins = [
            np.asarray(b.predict(matrix, raw_score=True, num_threads=self.n_jobs))
            for b in self.boosters_
        ]
        return np.asarray(np.mean(np.stack(margins), axis=0), dtype=np.float64)

    def _risks(self, margins: np.ndarray) -> np.ndarray:
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
        check_is_fitted(self, "boosters_")
        return pd.Series(self._margins(self._matrix(X)), index=X.index, name="margin")

    def risk(self, X: pd.DataFrame) -> pd.Series:
        """Calibrated probability in [0, 1], named ``risk``, index of `X` (see `margin`)."""
        return self.risk_of_margin(self.margin(X))

    def risk_of_margin(self, margin: pd.Series) -> pd.Series:
        """Calibrated probability of margins, named ``risk``."""
        return pd.Series(self._risks(margin.to_numpy()), index=margin.index, name="risk")

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
        tiers = np.full(len(risk), "green", dtype=object)
        for name, lowest in sorted(self.tiers_.items(), key=lambda item: item[1]):
            tiers[risk.to_numpy() >= lowest] = name
        return pd.Series(tiers, index=risk.index, name="tier", dtype="str")

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
        check_is_fitted(self, "boosters_")
        matrix = self._matrix(X)
        parts = [
            np.asarray(b.predict(matrix, pred_contrib=True, num_threads=self.n_jobs))
            for b in self.boosters_
        ]
        values = np.mean(np.stack(parts), axis=0).reshape(len(X), self.n_features_in_ + 1)
        base = float(np.mean([self._base_margin(b) for b in self.boosters_]))
        frame = pd.DataFrame(values[:, :-1], index=X.index, columns=list(self.feature_names_in_))
        return frame, base

    def _base_margin(self, booster: lightgbm.Booster) -> float:
        blank = np.full((1, self.n_features_in_), np.nan)
        return float(np.asarray(booster.predict(blank, pred_contrib=True))[0, -1])

    # ------------------------------------------------------------------ keeping

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
        check_is_fitted(self, "boosters_")
        boosters = {
            f"booster_{number}.txt": booster.model_to_string()
            for number, booster in enumerate(self.boosters_)
        }
        self.model_id_ = write_model_folder(Path(folder), self._state(), boosters, extra or {})
        return self.model_id_

    def _state(self) -> dict[str, Any]:
        """All that decides a prediction or explains it, as plain values."""
        catalog, task = self.catalog, self.task
        parameters = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in self.get_params(deep=False).items()
            if name not in ("catalog", "task")
        }
        return {
            "parameters": parameters,
            "columns": [str(name) for name in self.feature_names_in_],
            "categories": self.categories_,
            "catalog": None
            if catalog is None
            else {"schema": catalog.schema_name, "features": catalog.to_list()},
            "task": None
            if task is None
            else {
                "schema": task.schema.model_dump(mode="json"),
                "cohort": task.cohort,
                "label": task.label,
                "horizon": task.horizon,
                "line": None if task.line is None else {str(y): v for y, v in task.line.items()},
            },
            "calibrator": None if self.calibrator_ is None else self.calibrator_.to_dict(),
            "tiers": self.tiers_,
            "reference": self.reference_,
            "training": self.training_,
        }

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
        content = read_model_folder(Path(folder))
        try:
            model = cls._restore(content.state, list(content.boosters.values()))
        except (KeyError, TypeError, ValueError, AttributeError, PovertyRiskError) as error:
            raise ModelFolderError(
                Fault(
                    f"model folder '{Path(folder).name}'",
                    f"a manifest that cannot be used ({type(error).__name__}: {error})"[:300],
                    "a manifest written by RiskModel.save",
                    "Copy the folder again from where it was trained.",
                )
            ) from None
        model.model_id_ = content.model_id
        model.extra_ = content.extra
        return model

    @classmethod
    def _restore(cls, state: Mapping[str, Any], texts: list[str]) -> RiskModel:
        entries, task = state["catalog"], state["task"]
        catalog = None if entries is None else parse_catalog(entries, "model folder")
        restored_task = None
        if task is not None:
            line = task["line"]
            restored_task = PredictionTask(
                parse_declaration(Schema, task["schema"], "model folder"),
                task["cohort"],
                task["label"],
                task["horizon"],
                None if line is None else {int(year): float(v) for year, v in line.items()},
            )
        model = cls(catalog, restored_task, **state["parameters"])
        model.classes_ = np.array([0, 1])
        model.feature_names_in_ = np.asarray(state["columns"], dtype=object)
        model.n_features_in_ = len(state["columns"])
        model.categories_ = dict(state["categories"])
        calibrator = state["calibrator"]
        model.calibrator_ = None if calibrator is None else load_calibrator(calibrator)
        model.tiers_, model.reference_ = dict(state["tiers"]), dict(state["reference"])
        model.training_ = dict(state["training"])
        model.boosters_ = [_read_booster(text, state["columns"]) for text in texts]
        return model


def _read_booster(text: str, columns: list[str]) -> lightgbm.Booster:
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None
    if booster.feature_name() != columns:
        message = "booster and manifest name different features"
        raise ValueError(message)
    return booster


def _align(values: pd.Series | np.ndarray, index: pd.Index, place: str) -> pd.Series:
    """Values on the index of the features, by key; arrays must have the same length."""
    if isinstance(values, pd.Series):
        if values.index.equals(index):
            return values.astype(float)
        missing = index.difference(values.index)
        if len(missing) or not values.index.is_unique:
            raise FeatureError(
                Fault(
                    place,
                    f"{len(missing)} of {len(index)} points without an entry, or repeated points",
                    "one entry for each point of the features",
                    "Compute both from the same points.",
                )
            )
        return values.reindex(index).astype(float)
    if len(values) != len(index):
        raise FeatureError(
            Fault(place, f"{len(values)} values", f"{len(index)}", "Compute both from one table.")
        )
    return pd.Series(np.asarray(values, dtype=float), index=index)
