"""What a model has to beat: the office's rules, the plainest rule, VEP and logistic regression."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from poverty_risk.declarations import Declared, read_declaration
from poverty_risk.engine import compute_expressions
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.expressions import find_names

__all__ = ["IncomeRule", "LogisticBaseline", "OfficeRules", "Rule", "VulnerabilityBaseline"]

SEVERITIES = {"red": 3, "orange": 2, "yellow": 1, "grey": 0}
"""Severities of rules and their order."""


class Rule(Declared):
    """One rule: a condition over features, with its colour and its words.

    Parameters
    ----------
    code
        Permanent code.
    severity
        ``red``, ``orange``, ``yellow``, or ``grey`` (about the data, not the household).
    when
        Condition over feature names and the named thresholds.
    zh, en
        What it says.
    """

    code: str
    severity: Literal["red", "orange", "yellow", "grey"]
    when: str
    zh: str
    en: str


class _RuleFile(Declared):
    name: str
    parameters: dict[str, float] = Field(default_factory=dict)
    rules: tuple[Rule, ...]


class OfficeRules:
    """The office's rules over single indicators.

    Parameters
    ----------
    rules
        The rules in order.
    parameters
        Thresholds that their conditions name.
    place
        Where they come from, for errors.

    Examples
    --------
    >>> from poverty_risk.baselines import OfficeRules
    >>> rules = OfficeRules.load()
    >>> rules.rules[0].code, rules.rules[0].severity
    ('R1', 'red')
    """

    def __init__(
        self, rules: tuple[Rule, ...], parameters: dict[str, float], place: str = "rules"
    ) -> None:
        self.rules, self.parameters, self.place = tuple(rules), dict(parameters), place
        codes = [rule.code for rule in self.rules]
        if twice := sorted({code for code in codes if codes.count(code) > 1}):
            raise DeclarationError(
                [Fault(place, f"rule '{code}' twice", "unique codes", "Rename.") for code in twice]
            )
        self.features = tuple(
            sorted(
                {name for rule in self.rules for name in find_names(rule.when, place)}
                - set(self.parameters)
            )
        )

    @classmethod
    def load(cls, path: str | Path | None = None) -> OfficeRules:
        """Load rules from a YAML file; the shipped twelve by default.

        Raises
        ------
        DeclarationError
            Faults in the file.
        """
        shipped = Path(str(resources.files("poverty_risk") / "rules.yaml"))
        path = shipped if path is None else Path(path)
        file = read_declaration(_RuleFile, path)
        return cls(file.rules, file.parameters, path.name)

    def hits(self, features: pd.DataFrame) -> pd.DataFrame:
        """Which rules each household hits.

        Parameters
        ----------
        features
            Features with the columns that the rules name; a missing value is no hit.

        Returns
        -------
        DataFrame
            One boolean column per rule, index of `features`.

        Raises
        ------
        FeatureError
            Columns that are not there, all in one error.
        """
        absent = [name for name in self.features if name not in features.columns]
        if absent:
            raise FeatureError(
                [
                    Fault(
                        self.place,
                        f"no feature '{name}'",
                        "the features that the rules name",
                        "Build it, or change the rule.",
                    )
                    for name in absent
                ]
            )
        numbers = {name: features[name].astype(float) for name in self.features}
        base = pd.DataFrame(numbers, index=features.index).assign(**self.parameters)
        found = compute_expressions(base, {rule.code: rule.when for rule in self.rules}, self.place)
        return found == 1.0

    def severity(self, features: pd.DataFrame) -> pd.Series:
        """The worst colour of each household; missing where no rule is hit."""
        hits = self.hits(features)
        levels = np.array([SEVERITIES[rule.severity] for rule in self.rules])
        worst = np.where(hits.to_numpy(), levels, -1).max(axis=1)
        names = {level: colour for colour, level in SEVERITIES.items()}
        return pd.Series([names.get(level) for level in worst], index=features.index, dtype="str")

    def margin(self, features: pd.DataFrame) -> pd.Series:
        """An order of households, not a probability: worst colour first, then the number of hits.

        Returns
        -------
        Series
            float64 named ``margin``, index of `features`; many households are tied.
        """
        hits = self.hits(features).to_numpy()
        levels = np.array([SEVERITIES[rule.severity] for rule in self.rules])
        worst = np.where(hits, levels, -1).max(axis=1, initial=-1)
        real = hits[:, levels > 0].sum(axis=1)
        return pd.Series(worst + real / (len(levels) + 1), index=features.index, name="margin")


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
        self.median_ = float(_column(X, self.feature).median())
        return self

    def margin(self, X: pd.DataFrame) -> pd.Series:
        """Minus the income: an order, not a probability."""
        return (-_column(X, self.feature).fillna(self.median_)).rename("margin")


def _column(features: pd.DataFrame, name: str) -> pd.Series:
    if name not in features.columns:
        raise FeatureError(
            Fault("features", f"no column '{name}'", "the income feature", "Name another one.")
        )
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
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return ColumnTransformer(
        [
            ("number", number, make_column_selector(dtype_include="number")),
            ("category", category, make_column_selector(dtype_exclude="number")),
        ]
    )


def _plain(features: pd.DataFrame) -> pd.DataFrame:
    """Categories as objects with NaN, which is what scikit-learn's imputers expect."""
    return features.astype(
        {
            name: object
            for name in features.columns
            if not pd.api.types.is_numeric_dtype(features[name])
        }
    )


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
        """Fit on features and labels (0 or 1, none missing)."""
        labels = np.asarray(y, dtype=int)
        self.classes_ = np.unique(labels)
        regression = LogisticRegression(C=self.C, max_iter=2000)
        self.pipeline_ = Pipeline([("prepare", _prepare()), ("regression", regression)])
        self.pipeline_.fit(_plain(X), labels, regression__sample_weight=sample_weight)
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities of 0 and 1, shape (n, 2)."""
        return np.asarray(self.pipeline_.predict_proba(_plain(X)))

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
        """Fit mean and variance on households with an account; `y` is not used."""
        income = _column(X, self.income_feature)
        known = (income > 0).to_numpy()
        self.classes_ = np.array([0, 1])
        self.regressors_ = [c for c in X.columns if not re.search("income|poor|to_line", str(c))]
        self.prepare_ = _prepare().fit(_plain(X.loc[known, self.regressors_]))
        design = self.prepare_.transform(_plain(X.loc[known, self.regressors_]))
        target = np.log(income.to_numpy()[known])
        first = Ridge(alpha=self.ridge).fit(design, target)
        residual = target - first.predict(design)
        log_square = np.log(np.maximum(residual**2, 1e-6))
        self.variance_ = Ridge(alpha=self.ridge).fit(design, log_square)
        # The mean of the log of a squared normal is below the log of its mean.
        raw = np.exp(self.variance_.predict(design))
        self.scale_ = float(np.mean(residual**2 / raw))
        self.mean_ = Ridge(alpha=self.ridge).fit(
            design, target, sample_weight=1.0 / (self.scale_ * raw)
        )
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Chances of staying above and falling under the line, shape (n, 2)."""
        design = self.prepare_.transform(_plain(X[self.regressors_]))
        spread = np.sqrt(self.scale_ * np.exp(self.variance_.predict(design)))
        risk = norm.cdf((np.log(self.threshold) - self.mean_.predict(design)) / spread)
        return np.column_stack([1 - risk, risk])
