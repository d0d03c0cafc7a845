"""Logistic regression written as trees: what each feature adds is a tree that asks about it alone.

The mean of boosted trees and a regression can order households better than either. A regression beside
the trees would have no place in explanations, alternatives, similar households and the model folder;
written as trees, exactly, it is in all of them.

Each feature is cut into steps, and the regression is fitted on those steps, so that nothing is lost when
it is written. Coefficients keep the directions of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.privacy import SMALL_COUNT

__all__ = ["Regression", "Step", "Steps", "fit_steps"]

MOST_STEPS = 32
"""Steps that the values of a feature are spread over; values that many rows share get their own."""

FEWEST_IN_STEP = 50
"""Rows that a step has at least where values are spread."""

MOST_CATEGORIES = 128
"""Codes with a coefficient, the most frequent ones; further ones count as average."""

TOLERANCE, MOST_ITERATIONS = 1e-8, 500
"""Of the loss per row: what is left is far less than what one more row would change."""


@dataclass(frozen=True)
class Regression:
    """How much a regression counts beside boosted trees.

    Parameters
    ----------
    share
        Its share in the mean of log-odds, above 0 and up to 1.
    c
        Inverse strength of its L2 penalty, as in scikit-learn.
    directions
        By column: 1, -1, or 0 for any.
    fewest
        Rows that a step, a category or what is missing needs for a coefficient of its own: so many that
        ten households are among them, because a model leaves the office.
    """

    share: float
    c: float
    directions: Sequence[int]
    fewest: int = SMALL_COUNT

    @classmethod
    def of(
        cls, share: float, c: float, directions: Sequence[int], index: pd.Index
    ) -> Regression | None:
        """As `RiskModel` is told, for points of an index; None for a share of 0.

        Raises
        ------
        DeclarationError
            A share outside 0 to 1, or a strength that is not positive.
        """
        wanted = [
            ("logistic", share, "a share, 0 to 1", 0.0 <= share <= 1.0),
            ("logistic_c", c, "a positive number", 0.0 < c < np.inf),
        ]
        faults = [
            Fault(n, f"{value}", ok, "Correct it.") for n, value, ok, fits in wanted if not fits
        ]
        if faults:
            raise DeclarationError(faults)
        if not share:
            return None
        # A household has a row for each date: so many rows have ten households among them.
        ids = index.get_level_values("household_id") if "household_id" in index.names else index
        most = int(np.unique(pd.factorize(ids)[0], return_counts=True)[1].max(initial=1))
        return cls(share, c, directions, SMALL_COUNT * most)


@dataclass(frozen=True)
class Step:
    """Values of a feature that get the same height.

    Parameters
    ----------
    height
        What it adds to the log-odds; heights of a feature have mean 0 over the rows.
    count
        Rows.
    weight
        Sum of ``risk * (1 - risk)`` over its rows, times their weights: LightGBM's weight of a leaf.
    ends
        Largest value of the step, as trees ask for it; the code for a category; NaN for missing.
    """

    height: float
    count: int
    weight: float
    ends: float


@dataclass(frozen=True)
class Steps:
    """What a feature adds.

    Parameters
    ----------
    position
        Of its column.
    categorical
        Whether steps are categories.
    known
        Steps of known values, in ascending order for numbers; the last category is the one that
        differs least from the average, because trees send codes there that they do not know.
    missing
        The step of missing values, and of rare categories; None where there were none.
    """

    position: int
    categorical: bool
    known: tuple[Step, ...]
    missing: Step | None


def fit_steps(
    matrix: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    categorical: Sequence[int],
    regression: Regression,
) -> tuple[float, list[Steps]]:
    """Fit the regression; the mean log-odds, and the steps of every feature that adds something.

    Parameters
    ----------
    matrix
        Shape (n, n_features); categories as codes, missing as NaN.
    target
        0 or 1, shape (n,).
    weight
        Of each row, shape (n,); None for 1.
    categorical
        Positions of the category columns.
    regression
        Penalty and directions.

    Returns
    -------
    intercept : float
        Log-odds of a row whose features all have their mean height.
    steps : list of Steps
        By column; heights in log-odds.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.additive import Regression, fit_steps
    >>> matrix = np.repeat([[0.0], [1.0]], 100, axis=0)
    >>> target = np.r_[np.tile([0.0, 0, 0, 1], 25), np.tile([0.0, 1, 1, 1], 25)]
    >>> mean, (steps,) = fit_steps(matrix, target, None, [], Regression(0.5, 1e6, [1]))
    >>> [round(step.height, 2) for step in steps.known]
    [-1.1, 1.1]
    """
    columns = [
        column
        for position in range(matrix.shape[1])
        if (
            column := _cut_categories(matrix[:, position], position, regression.fewest)
            if position in categorical
            else _cut_numbers(matrix[:, position], position, regression)
        )
    ]
    own = np.ones(len(target)) if weight is None else weight
    coefficients, margin = _minimize(columns, target, own, regression.c)
    risk = expit(margin)
    spread = own * risk * (1.0 - risk)
    mean, steps = float(coefficients[0]), []
    for column, part in zip(columns, _take_apart(columns, coefficients), strict=True):
        heights = column.design @ part
        centre = float(heights @ column.counts / column.counts.sum())
        mean += centre
        if np.ptp(heights) > 0.0:
            steps.append(column.describe(heights - centre, spread))
    return mean, steps


@dataclass(frozen=True)
class _Column:
    """A column in levels: its rows' levels, and what each level gives to each coefficient."""

    position: int
    levels: np.ndarray
    design: np.ndarray
    ends: np.ndarray  # of each level; NaN for missing
    categorical: bool = False
    bounds: list[tuple[float | None, float | None]] = field(default_factory=list)

    @property
    def counts(self) -> np.ndarray:
        return np.bincount(self.levels, minlength=len(self.design))

    def describe(self, heights: np.ndarray, spread: np.ndarray) -> Steps:
        weights = np.bincount(self.levels, spread, minlength=len(self.design))
        parts = (heights, self.counts, weights, self.ends)
        found = [Step(*values) for values in zip(*(part.tolist() for part in parts), strict=True)]
        known = [step for step in found if not np.isnan(step.ends)]
        if self.categorical:
            known.sort(key=lambda step: -abs(step.height))
        missing = next((step for step in found if np.isnan(step.ends)), None)
        return Steps(self.position, self.categorical, tuple(known), missing)


def _cut_numbers(values: np.ndarray, position: int, regression: Regression) -> _Column | None:
    missing = np.isnan(values)
    finite = values[np.isfinite(values)]
    if len(finite) < regression.fewest:
        return None
    values = np.clip(values, finite.min(), finite.max())  # infinite ones: like the farthest finite
    distinct, counts = np.unique(values[~missing], return_counts=True)
    if len(distinct) < 2 and not missing.any():
        return None
    last = _find_steps(counts, regression.fewest)
    # Halfway to the next value, as LightGBM does; the last step has no end.
    middles = distinct[last[:-1]] + (distinct[last[:-1] + 1] - distinct[last[:-1]]) / 2
    cuts = np.where(middles < distinct[last[:-1] + 1], middles, distinct[last[:-1]])
    levels = np.searchsorted(cuts, values).astype(np.uint8)  # NaN sorts behind all cuts
    levels[missing] = len(cuts) + 1
    heights = _standardize(distinct, counts, last)
    direction = regression.directions[position]
    design, bounds = heights[:, None], [(0.0, None), (None, None), (None, 0.0)][1 - direction]
    ends = np.append(cuts, np.inf)
    if not missing.any():
        return _Column(position, levels, design, ends, bounds=[bounds])
    # Where few are missing they get no coefficient, and count as average.
    own = 1.0 if missing.sum() >= regression.fewest else 0.0
    design = np.block(
        [[design, np.zeros((len(design), 1))], [np.zeros((1, 1)), np.full((1, 1), own)]]
    )
    either = [bounds, (None, None)]
    return _Column(position, levels, design, np.append(ends, np.nan), bounds=either)


def _find_steps(counts: np.ndarray, fewest: int) -> np.ndarray:
    """Position of the last distinct value of each step."""
    shared = counts >= counts.sum() / MOST_STEPS
    spread = np.where(shared, 0, counts)
    most = int(np.clip(spread.sum() // max(FEWEST_IN_STEP, fewest), 1, MOST_STEPS))
    group = ((np.cumsum(spread) - spread / 2) * most // max(spread.sum(), 1)).astype(int)
    ends = np.append((np.diff(group) > 0) | shared[1:] | shared[:-1], True)
    last: list[int] = []
    begun = 0
    totals = np.cumsum(counts)
    for place in np.flatnonzero(ends):
        if totals[place] - begun >= fewest:
            last.append(int(place))
            begun = totals[place]
    # What is left over at the end is too little for a step of its own.
    return np.array([*last[:-1], len(counts) - 1] if last else [len(counts) - 1])


def _standardize(distinct: np.ndarray, counts: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean of each step on a logarithmic scale, in standard deviations from that of all."""
    scaled = np.sign(distinct) * np.log1p(np.abs(distinct))
    first = np.append(0, last[:-1] + 1)
    sizes = np.add.reduceat(counts, first)
    means = np.add.reduceat(scaled * counts, first) / sizes
    centred = means - np.average(means, weights=sizes)
    spread = float(np.sqrt(np.average(centred**2, weights=sizes)))
    return np.asarray(centred / spread if spread > 0.0 else np.zeros(len(means)))


def _cut_categories(values: np.ndarray, position: int, fewest: int) -> _Column | None:
    codes, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    kept = np.sort(codes[order[counts[order] >= fewest]])
    other = ~np.isin(values, kept)
    if not len(kept) or (len(kept) < 2 and not other.any()):
        return None
    levels = np.searchsorted(kept, np.where(other, kept[0], values)).astype(np.uint8)
    levels[other] = len(kept)
    size = len(kept) + int(other.any())
    # What is missing or rare gets no coefficient: like a code that is not known it counts as average.
    design = np.eye(size)[:, : len(kept)]
    ends = np.append(kept, np.nan)[:size]
    return _Column(position, levels, design, ends, True, [(None, None)] * len(kept))


def _take_apart(columns: Sequence[_Column], coefficients: np.ndarray) -> list[np.ndarray]:
    sizes = [column.design.shape[1] for column in columns]
    return np.split(coefficients[1:], np.cumsum(sizes)[:-1]) if columns else []


def _minimize(
    columns: Sequence[_Column], target: np.ndarray, weight: np.ndarray, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and coefficients of the penalised likelihood, and the log-odds of each row.

    Sums go over levels, not over a matrix of rows by coefficients: that takes an eighth of the memory,
    and comes out the same whatever the number of threads.
    """
    from poverty_risk.additive_kernels import (  # noqa: PLC0415 - numba takes a while
        add_heights,
        sum_by_level,
    )

    total = float(weight.sum())
    levels = np.stack([column.levels for column in columns] or [np.empty((0,), np.uint8)])
    sizes = [len(column.design) for column in columns]

    def sum_heights(coefficients: np.ndarray) -> np.ndarray:
        heights = np.zeros((len(columns), max(sizes, default=0)))
        parts = _take_apart(columns, coefficients)
        for own, column, part in zip(heights, columns, parts, strict=True):
            own[: len(column.design)] = column.design @ part
        margin = np.full(len(target), coefficients[0])
        add_heights(levels, heights, margin)
        return margin

    def compute(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sum_heights(coefficients)
        off = weight * (expit(margin) - target)
        by_level = np.zeros((len(columns), max(sizes, default=0)))
        sum_by_level(levels, off, by_level)
        parts = zip(columns, by_level, sizes, strict=True)
        slopes = [own[:size] @ column.design for column, own, size in parts]
        gradient = np.concatenate([[off.sum()], *slopes])
        loss = weight @ (np.logaddexp(0.0, margin) - target * margin)
        penalty = coefficients[1:] / c
        gradient[1:] += penalty
        return (loss + 0.5 * coefficients[1:] @ penalty) / total, gradient / total

    start = np.zeros(1 + sum(column.design.shape[1] for column in columns))
    mean = float(np.clip(weight @ target / total, 1e-9, 1 - 1e-9))
    start[0] = np.log(mean / (1 - mean))
    bounds = [(None, None), *(bound for column in columns for bound in column.bounds)]
    found = minimize(
        compute,
        start,
        method="L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": MOST_ITERATIONS, "ftol": TOLERANCE, "gtol": 1e-6},
    )
    return np.asarray(found.x), sum_heights(found.x)
