"""Loops over the levels of a regression's rows, compiled by numba when first used."""

from __future__ import annotations

import numpy as np

from poverty_risk.record_kernels import compiled

__all__ = ["add_heights", "sum_by_level"]


@compiled
def add_heights(levels: np.ndarray, heights: np.ndarray, margin: np.ndarray) -> None:
    """Add to each row's margin the height of its level in every column, column by column."""
    for column in range(levels.shape[0]):
        own, height = levels[column], heights[column]
        for row in range(own.shape[0]):
            margin[row] += height[own[row]]


@compiled
def sum_by_level(levels: np.ndarray, values: np.ndarray, sums: np.ndarray) -> None:
    """Add each row's value to the sum of its level in every column."""
    for column in range(levels.shape[0]):
        own, total = levels[column], sums[column]
        for row in range(own.shape[0]):
            total[own[row]] += values[row]
