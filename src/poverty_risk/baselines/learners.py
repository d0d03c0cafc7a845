"""The plainest rule, VEP and logistic regression: what a boosted model has to be better than."""

from __future__ import annotations

import re
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from poverty_risk.baselines.rules import check_columns
from poverty_risk.exceptions import Fault, FeatureError

__all__ = ["IncomeRule", "LogisticBaseline", "VulnerabilityBaseline"]


class IncomeRule(BaseEstimator):  # type: ignore[misc]
    """The plainest rule: the lowest income first, households without an account in the middle.

    Parameters
    ----------
    feature
        Income relative to the line.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.baselines import IncomeRule
    >>> rows = pd.DataFrame({"income_to_line": [0.8, 2.5]})
    >>> IncomeRule("income_to_line").fit(rows).margin(rows).tolist()
    [-0.8, -2.5]
    """

    def __init__(self, feature: str = "income_to_line") -> None:
        self.feature = feature

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:  # noqa: ARG002 - as scikit-learn calls it
        """Learn the median for households without an account; `y` is not used."""
        known = _column(X, self.feature).dropna()
        self.median_ = float(known.median()) if len(known) else 0.0
        return self

    def margin(self, X: pd.DataFrame) -> pd.Series:
        """Minus the income: an order, not a probability."""
        check_is_fitted(self)
        return (-_column(X, self.feature).fillna(self.median_)).rename("margin")


def _column(features: pd.DataFrame, name: str) -> pd.Series:
    check_columns(features, [name], "features")
    return features[name].astype(float)


def _numbers(values: Any) -> Any:
    # Ratios and amounts have long tails; the sign is kept.
    return np.sign(values) * np.log1p(np.abs(values))


def _prepare() -> ColumnTransformer:
    number = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        FunctionTransformer(_numbers, feature_names_out="one-to-one"),
        StandardScaler(),
    )
    category = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing", keep_empty_features=True),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return ColumnTransformer(
        [
            ("number", number, make_column_selector(dtype_include="number")),
            ("category", category, make_column_selector(dtype_exclude="number")),
        ]
    )


def _plain(features: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64, categories as objects with NaN: what scikit-learn's imputers expect."""
    columns = {}
    for name, values in features.items():
        number = pd.api.types.is_numeric_dtype(values)
        plain = values.astype(float) if number else values.astype(object)
        columns[name] = plain if number else plain.where(plain.notna(), np.nan)
    return pd.DataFrame(columns, index=features.index)


def _aligned(values: Any, index: pd.Index, place: str) -> pd.Series:
    """Values on the index of the features: a Series by key, anything else by position."""
    if isinstance(values, pd.Series) and not values.index.equals(index):
        absent = len(index.difference(values.index))
        if absent or not values.index.is_unique:
            found = f"{absent} of {len(index)} points without a value, or repeated points"
            raise FeatureError(Fault(place, found, "each point once", "Use the same points."))
        return values.reindex(index).astype(float)
    if len(values) != len(index):
        found, expected = f"{len(values)} values", f"{len(index)}, as many as rows"
        raise FeatureError(Fault(place, found, expected, "Use the same points."))
    return pd.Series(np.asarray(values, dtype=float), index=index)


def _labels(y: Any, index: pd.Index) -> pd.Series:
    """Labels of both classes, without the censored ones."""
    labels = _aligned(y, index, "labels").dropna()
    if (classes := sorted(labels.unique())) != [0.0, 1.0]:
        found = f"the classes {[float(label) for label in classes]}"
        raise FeatureError(Fault("labels", found, "0 and 1", "Take more dates or households."))
    return labels.astype(int)


class LogisticBaseline(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression with an L2 penalty on all features.

    Numbers are imputed by the median (with a flag), passed through a signed logarithm and scaled;
    categories are one-hot.

    Parameters
    ----------
    C
        Inverse strength of the penalty.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.baselines import LogisticBaseline
    >>> X = pd.DataFrame({"income_to_line": [0.8, 0.9, 2.0, None, 3.0, 2.5]})
    >>> model = LogisticBaseline().fit(X, [1, 1, 0, 0, 0, 0])
    >>> model.predict_proba(X).shape
    (6, 2)
    """

    def __init__(self, C: float = 0.05) -> None:
        self.C = C

    def fit(self, X: pd.DataFrame, y: Any, sample_weight: Any = None) -> Self:
        """Fit on features and labels.

        Parameters
        ----------
        X
            Features: numbers and categories, missing values allowed.
        y
            1, 0 or missing (censored, left out), by the index of `X` or in its order.
        sample_weight
            Weight of each row, likewise.

        Returns
        -------
        LogisticBaseline
            Itself.

        Raises
        ------
        FeatureError
            Labels of one class only, or of other points than `X`.
        """
        labels = _labels(y, X.index)
        weight = None
        if sample_weight is not None:
            weight = _aligned(sample_weight, X.index, "weights").loc[labels.index].to_numpy()
        self.classes_ = np.array([0, 1])
        self.columns_ = list(X.columns)
        regression = LogisticRegression(C=self.C, max_iter=2000)
        self.pipeline_ = Pipeline([("prepare", _prepare()), ("regression", regression)])
        known = _plain(X.loc[labels.index])
        self.pipeline_.fit(known, labels.to_numpy(), regression__sample_weight=weight)
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities of 0 and 1, shape (n, 2)."""
        check_is_fitted(self)
        check_columns(X, self.columns_, "features")
        return np.asarray(self.pipeline_.predict_proba(_plain(X[self.columns_])))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The more probable class."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class VulnerabilityBaseline(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Vulnerability as expected poverty (VEP): mean and variance of log income, chance to fall.

    Parameters
    ----------
    income_feature
        Latest income relative to the line; features of income are left out of the regressors.
    threshold
        Income relative to the line under which a household counts as poor.
    ridge
        L2 penalty of both regressions on scaled regressors.

    Notes
    -----
    ``log income = X b + e``, ``e^2 = X t``: least squares, variance of its residuals from a
    regression of their logarithm (so that it stays positive), least squares again with weights
    ``1 / variance``; the risk is ``Phi((log threshold - X b) / sd)``. It works on one cross-section
    and learns nothing from labels. It is the chance to be under the line, not to be identified: its
    level is not comparable with other outcomes, its order is.

    References
    ----------
    Chaudhuri, Jalan and Suryahadi (2002), Assessing household vulnerability to poverty from
    cross-sectional data; Chaudhuri (2003).

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.baselines import VulnerabilityBaseline
    >>> X = pd.DataFrame({"income_to_line": [0.9, 1.2, 2.0, 2.6], "workers": [0.0, 1, 2, 2]})
    >>> risk = VulnerabilityBaseline("income_to_line").fit(X).predict_proba(X)[:, 1]
    >>> bool(risk[0] > risk[3])
    True
    """

    def __init__(
        self, income_feature: str = "income_to_line", threshold: float = 1.0, ridge: float = 10.0
    ) -> None:
        self.income_feature = income_feature
        self.threshold = threshold
        self.ridge = ridge

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:  # noqa: ARG002 - as scikit-learn calls it
        """Fit mean and variance on households with a positive income; `y` is not used."""
        income = _column(X, self.income_feature)
        known = (income > 0).to_numpy()
        self.classes_ = np.array([0, 1])
        self.regressors_ = [c for c in X.columns if not re.search("income|poor|to_line", str(c))]
        if not known.any() or not self.regressors_:
            found = f"{int(known.sum())} positive incomes, {len(self.regressors_)} regressors"
            raise FeatureError(Fault("features", found, "some of both", "Give more features."))
        self.prepare_ = _prepare().fit(_plain(X.loc[known, self.regressors_]))
        design = self.prepare_.transform(_plain(X.loc[known, self.regressors_]))
        target = np.log(income.to_numpy()[known])
        first = Ridge(alpha=self.ridge).fit(design, target)
        # A residual of nothing has no logarithm.
        square = np.maximum((target - first.predict(design)) ** 2, 1e-6)
        self.variance_ = Ridge(alpha=self.ridge).fit(design, np.log(square))
        # The mean of the log of a squared normal is below the log of its mean.
        raw = np.exp(self.variance_.predict(design))
        self.scale_ = float(np.mean(square / raw))
        self.mean_ = Ridge(alpha=self.ridge).fit(
            design, target, sample_weight=1.0 / (self.scale_ * raw)
        )
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Chances of staying above and falling under the line, shape (n, 2)."""
        check_is_fitted(self)
        check_columns(X, self.regressors_, "features")
        design = self.prepare_.transform(_plain(X[self.regressors_]))
        spread = np.sqrt(self.scale_ * np.exp(self.variance_.predict(design)))
        risk = norm.cdf((np.log(self.threshold) - self.mean_.predict(design)) / spread)
        return np.column_stack([1 - risk, risk])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """1 where falling under the line is the more probable."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
