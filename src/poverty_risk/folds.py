"""Boosting on some of the villages: halves that tell which reasons hold, folds that calibrate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from poverty_risk.boosting import Booster, Rows, boost, mix
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.forest import Forest

__all__ = ["boost_folds", "boost_halves", "cross_fit", "draw_folds", "draw_half"]

FOLDS = 5_011
"""Names the stream of random numbers that folds are drawn from."""


def draw_half(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which rows belong to a random half of the groups (whole numbers from 0), shape (n,)."""
    size = int(groups.max()) + 1
    drawn = np.zeros(size, dtype=bool)
    drawn[rng.permutation(size)[: (size + 1) // 2]] = True
    return np.asarray(drawn[groups])


def boost_halves(
    rows: Rows,
    mask: np.ndarray,
    groups: np.ndarray,
    parameters: Sequence[Mapping[str, Any]],
    trees: int,
    seed: int,
) -> list[Booster]:
    """The same trees on random halves of the groups, one for each entry of `parameters`.

    They tell which reasons hold.
    """
    boosters = []
    for number, settings in enumerate(parameters):
        half = draw_half(groups, np.random.default_rng([seed, number]))
        # Half of the rows want half of the leaf size, or they would know less than they could.
        fewer = {"min_data_in_leaf": max(settings["min_data_in_leaf"] // 2, 1)}
        boosters += mix(
            [boost(rows, mask & half, dict(settings) | fewer, trees)], rows, mask & half
        )
    return boosters


def draw_folds(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Fold of each row (0 to `count` - 1), shape (n,): groups stay whole, folds get equally many.

    Raises
    ------
    DeclarationError
        Fewer than two folds.
    FeatureError
        One group only.
    """
    size = int(groups.max()) + 1
    if count < 2:
        raise DeclarationError(Fault("n_folds", f"{count}", "2 or more", "Ask for more."))
    if size < 2:
        fault = Fault("folds", "rows of one group", "two groups or more", "Name smaller groups.")
        raise FeatureError(fault)
    # A stream of its own: the trees and the halves of the refits are drawn from the seed, too.
    rng = np.random.default_rng([seed, FOLDS])
    return np.asarray((rng.permutation(size) % min(count, size))[groups])


def boost_folds(
    rows: Rows,
    folds: np.ndarray,
    parameters: Mapping[str, Any],
    trees: int,
    patience: int | None = None,
) -> Iterator[tuple[np.ndarray, Booster]]:
    """Leave out one fold after the other: trees of about the final size for rows they never saw.

    Parameters
    ----------
    rows
        All rows, all of them boosted on in turn.
    folds
        Fold of each row, from `draw_folds`.
    parameters
        Of LightGBM.
    trees
        Most trees of each fold.
    patience
        Rounds without gain on the fold left out before boosting stops; None: all trees.

    Yields
    ------
    left_out : ndarray
        Mask of the rows of the fold.
    booster : Booster
        Boosted on those of the other folds.
    """
    for left_out in _leave_out(folds):
        yield left_out, boost(rows, ~left_out, parameters, trees, left_out, patience)


def _leave_out(folds: np.ndarray) -> Iterator[np.ndarray]:
    return (folds == fold for fold in range(int(folds.max()) + 1))


def cross_fit(
    rows: Rows,
    folds: np.ndarray,
    parameters: Sequence[Mapping[str, Any]],
    trees: Sequence[int],
    n_jobs: int,
) -> np.ndarray:
    """Margins of all rows, shape (n,), each from trees of the other folds.

    Parameters
    ----------
    rows
        All rows.
    folds
        Fold of each row, from `draw_folds`.
    parameters, trees
        Of LightGBM, and the number of trees, of each booster whose margins are averaged.
    n_jobs
        Threads of LightGBM.

    Returns
    -------
    ndarray
        Log-odds of each row.
    """
    margins = np.empty(len(rows.target))
    for left_out in _leave_out(folds):
        pairs = zip(parameters, trees, strict=True)
        boosters = mix([boost(rows, ~left_out, *pair) for pair in pairs], rows, ~left_out)
        margins[left_out] = Forest(boosters, n_jobs).margins(rows.matrix[left_out])
    return margins
