"""Logistic regression on one variable: what calibration fits and evaluation checks."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

__all__ = ["fit_logistic_line"]

MOST_STEPS = 200
TOLERANCE = 1e-10
"""Largest gradient, as a share of the total weight, that counts as converged."""


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
        or values that separate the classes.

    Notes
    -----
    Newton's method on standardised values with halved steps, so that it does not overshoot. A
    solution counts only if the gradient vanishes while the curvature does not.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.logistic import fit_logistic_line
    >>> slope, intercept = fit_logistic_line(np.array([0.0, 0, 1, 1]), np.array([0.25, 0.25, 0.75, 0.75]))
    >>> bool(np.isclose(slope, 2 * np.log(3))), bool(np.isclose(intercept, -np.log(3)))
    (True, True)
    """
    weight = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=float)
    total = float(weight.sum())
    mean_target = float(weight @ target) / total if total > 0 else 0.0
    if not 0.0 < mean_target < 1.0 or np.ptp(values[weight > 0]) == 0.0:
        return np.nan, np.nan
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
        # Where classes separate, the curvature vanishes together with the gradient.
        if np.linalg.det(hessian / total) < TOLERANCE**2:
            return np.nan, np.nan
        if np.abs(gradient).max() <= TOLERANCE * total:
            return float(beta[0] / spread), float(beta[1] - beta[0] * centre / spread)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while (tried := _loss(beta - size * step, scaled, target, weight)) > loss and size > 1e-10:
            size /= 2.0
        beta, loss = beta - size * step, tried
    return np.nan, np.nan


def _loss(beta: np.ndarray, scaled: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    margin = beta[0] * scaled + beta[1]
    # -log(risk) = log(1 + exp(-margin)), without overflow.
    return float(
        weight @ (target * np.logaddexp(0, -margin) + (1 - target) * np.logaddexp(0, margin))
    )
