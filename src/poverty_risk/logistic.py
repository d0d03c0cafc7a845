"""Logistic regression on one variable: what calibration fits and evaluation checks."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

__all__ = ["fit_logistic_intercept", "fit_logistic_line"]

MOST_STEPS = 200
TOLERANCE = 1e-10
"""Largest gradient, as a share of the total weight, that counts as converged."""
ROUNDING = 1e-12
"""Rise of the loss, as a share of it, that tells nothing: next to the solution a step gains less."""


def fit_logistic_line(
    values: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """Maximum likelihood slope and intercept of ``logit(target) = slope * values + intercept``.

    Parameters
    ----------
    values
        Finite values, shape (n,).
    target
        Outcomes or smoothed outcomes in [0, 1], shape (n,).
    weight
        Weight of each row, not negative; 1 by default.

    Returns
    -------
    slope, intercept : float
        Missing (NaN, NaN) when there is no unique finite solution: constant values, one class only,
        or classes that a value separates (both may lie on that value itself).

    Notes
    -----
    Newton's method on standardised values with halved steps, so that it does not overshoot. Whether
    a solution exists is decided beforehand, from the ranges of the classes: where they meet in one
    value only, the slope grows without end while the gradient vanishes as if it had arrived.

    References
    ----------
    Albert, A. and Anderson, J. A. (1984). On the existence of maximum likelihood estimates in
    logistic regression models.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.logistic import fit_logistic_line
    >>> slope, intercept = fit_logistic_line(np.array([0.0, 0, 1, 1]), np.array([0.25, 0.25, 0.75, 0.75]))
    >>> bool(np.isclose(slope, 2 * np.log(3))), bool(np.isclose(intercept, -np.log(3)))
    (True, True)
    """
    weight = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=float)
    if not _overlap(values[(weight > 0) & (target > 0)], values[(weight > 0) & (target < 1)]):
        return np.nan, np.nan
    total = float(weight.sum())
    mean_target = float(weight @ target) / total
    centre = float(weight @ values) / total
    spread = float(np.sqrt(weight @ (values - centre) ** 2 / total))
    scaled = (values - centre) / spread
    beta = np.array([0.0, np.log(mean_target / (1.0 - mean_target))])
    loss = _loss(beta, scaled, target, weight)
    for _ in range(MOST_STEPS):
        risk = expit(beta[0] * scaled + beta[1])
        residual = weight * (risk - target)
        gradient = np.array([residual @ scaled, residual.sum()])
        curvature = weight * risk * (1.0 - risk)
        cross = float(curvature @ scaled)
        hessian = np.array([[curvature @ scaled**2, cross], [cross, curvature.sum()]])
        if np.abs(gradient).max() <= TOLERANCE * total:
            return float(beta[0] / spread), float(beta[1] - beta[0] * centre / spread)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        worse = loss * (1.0 + ROUNDING)
        while (tried := _loss(beta - size * step, scaled, target, weight)) > worse and size > 1e-10:
            size /= 2.0
        beta, loss = beta - size * step, tried
    return np.nan, np.nan


def fit_logistic_intercept(
    offset: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """Maximum likelihood intercept of ``logit(target) = offset + intercept``.

    Parameters
    ----------
    offset
        Finite log-odds, shape (n,).
    target
        Outcomes or smoothed outcomes in [0, 1], shape (n,), not all 0 and not all 1.
    weight
        Weight of each row, not negative; 1 by default.

    Returns
    -------
    float
        With it the mean risk is the mean target.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.logistic import fit_logistic_intercept
    >>> float(round(fit_logistic_intercept(np.array([2.0, 2.0]), np.array([0.0, 1.0])), 9))
    -2.0
    """
    weight = np.ones(len(offset)) if weight is None else np.asarray(weight, dtype=float)
    rate = float(weight @ target) / float(weight.sum())
    centre = np.log(rate / (1.0 - rate))

    def excess(intercept: float) -> float:
        return float(weight @ (expit(offset + intercept) - target))

    # All risks are at most the rate at the one end, and at least the rate at the other.
    return float(brentq(excess, centre - offset.max() - 1e-9, centre - offset.min() + 1e-9))


def _overlap(positive: np.ndarray, negative: np.ndarray) -> bool:
    """Whether no value has all positives on one side of it and all negatives on the other."""
    if not len(positive) or not len(negative):
        return False
    return bool(positive.min() < negative.max() and negative.min() < positive.max())


def _loss(beta: np.ndarray, scaled: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    margin = beta[0] * scaled + beta[1]
    # -log(risk) = log(1 + exp(-margin)), without overflow.
    return float(
        weight @ (target * np.logaddexp(0, -margin) + (1 - target) * np.logaddexp(0, margin))
    )
