"""Whether risks can be taken at their word: mean risk against what was observed."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit

from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.logistic import fit_logistic_line
from poverty_risk.ranking import align_outcomes

__all__ = [
    "CalibrationLine",
    "bin_by_risk",
    "compute_calibration_slope",
    "compute_reliability",
    "fit_calibration_line",
]

NEAREST_TO_CERTAIN = 1e-6
"""Risks are kept this far from 0 and 1 before their log-odds are taken."""


class CalibrationLine(NamedTuple):
    """Logistic recalibration; slope 1 and intercept 0 mean that risks can be taken at their word."""

    slope: float
    intercept: float


def compute_calibration_slope(labels: pd.Series, risk: pd.Series) -> CalibrationLine:
    """Slope and intercept of the logistic regression of the label on the log-odds of the risk.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out).
    risk
        Probability of each point, matched by key; risks of 0 and 1 are taken as 1e-6 and 1 - 1e-6.

    Returns
    -------
    CalibrationLine
        slope (below 1: risks too extreme) and intercept; missing for one class or constant risks.

    Raises
    ------
    FeatureError
        Points that do not match, missing risks, or risks outside [0, 1].

    References
    ----------
    Cox, D. R. (1958). Two further applications of a model for binary regression.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.reliability import compute_calibration_slope
    >>> labels = pd.Series([1.0] + [0.0] * 3 + [1.0] * 3 + [0.0])
    >>> line = compute_calibration_slope(labels, pd.Series([0.25] * 4 + [0.75] * 4))
    >>> round(line.slope, 6), abs(round(line.intercept, 6))
    (1.0, 0.0)
    """
    outcomes = align_outcomes(labels, {"risk": risk.rename("risk")})
    return fit_calibration_line(outcomes.label, outcomes.risks["risk"])


def fit_calibration_line(label: np.ndarray, risk: np.ndarray) -> CalibrationLine:
    """`compute_calibration_slope` of arrays of the same points, without missing values."""
    log_odds = logit(np.clip(risk, NEAREST_TO_CERTAIN, 1.0 - NEAREST_TO_CERTAIN))
    return CalibrationLine(*fit_logistic_line(log_odds, label))


def compute_reliability(
    labels: pd.Series, risk: pd.Series, bins: int = 10, level: float = 0.95
) -> pd.DataFrame:
    """Mean risk against observed rate, in bins of about equally many points.

    Parameters
    ----------
    labels
        1, 0 or missing (censored: left out).
    risk
        Probability of each point, matched by key.
    bins
        Bins by quantiles of the risk; fewer when equal risks fill several, because they stay
        together.
    level
        Coverage of the Wilson interval.

    Returns
    -------
    DataFrame
        Index bin (0 = lowest risks); columns lowest, highest, n, positives, mean_risk, observed,
        observed_low, observed_high.

    Raises
    ------
    FeatureError
        Points that do not match, missing risks, or risks outside [0, 1].

    References
    ----------
    Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.reliability import compute_reliability
    >>> table = compute_reliability(pd.Series([0.0, 0, 1, 1]), pd.Series([0.1, 0.1, 0.8, 0.9]), bins=2)
    >>> table[["n", "observed"]].values.tolist()
    [[2.0, 0.0], [2.0, 1.0]]
    """
    outcomes = align_outcomes(labels, {"risk": risk.rename("risk")})
    return bin_by_risk(outcomes.label, outcomes.risks["risk"], bins, level)


def bin_by_risk(
    label: np.ndarray, risk: np.ndarray, bins: int = 10, level: float = 0.95
) -> pd.DataFrame:
    """`compute_reliability` of arrays of the same points, without missing values."""
    if bins < 1 or not 0.0 < level < 1.0:
        found = f"bins={bins}, level={level}"
        raise DeclarationError(
            Fault("reliability", found, "one bin or more, a level between 0 and 1", "Correct it.")
        )
    edges = np.unique(np.quantile(risk, np.linspace(0.0, 1.0, bins + 1)[1:-1], method="lower"))
    codes = np.searchsorted(edges, risk, side="left")
    # The highest edge can equal the highest risk: no bin beyond it.
    table = (
        pd.DataFrame({"bin": np.unique(codes, return_inverse=True)[1], "risk": risk, "y": label})
        .groupby("bin")
        .agg(
            lowest=("risk", "min"),
            highest=("risk", "max"),
            n=("y", "size"),
            positives=("y", "sum"),
            mean_risk=("risk", "mean"),
            observed=("y", "mean"),
        )
    )
    low, high = _wilson(table["observed"].to_numpy(), table["n"].to_numpy(), level)
    return table.assign(
        positives=table["positives"].astype(np.int64), observed_low=low, observed_high=high
    )


def _wilson(rate: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    centre = (rate + z**2 / (2.0 * n)) / (1.0 + z**2 / n)
    half = z / (1.0 + z**2 / n) * np.sqrt(rate * (1.0 - rate) / n + z**2 / (4.0 * n**2))
    return np.clip(centre - half, 0.0, rate), np.clip(centre + half, rate, 1.0)
