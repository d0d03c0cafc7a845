"""What the trees ask, as small whole numbers: each value becomes its place among a column's thresholds.

All splits of a model ask a column about a few hundred thresholds at most. A value is placed among them
once; then each split, and each path through several splits of one feature, is a set of places. Nearly
all such sets are ranges, which one subtraction and one comparison decide for many rows at once.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from poverty_risk.shapley.trees import Asks, Tree

__all__ = ["Columns", "Questions", "Tests"]

MOST_SMALL = 65_000
"""Places that still fit 16 bits, with room for what a range needs."""


class Columns(NamedTuple):
    """How values become places. Place 0: missing, or a category that no split names.

    Fields
    ------
    feature, asks
        Column of the matrix, and what is asked of it.
    begin
        Where the thresholds of each column begin, and one end more.
    threshold
        Sorted within each column; for categories one number, the number of codes.
    """

    feature: np.ndarray
    asks: np.ndarray
    begin: np.ndarray
    threshold: np.ndarray


class Tests(NamedTuple):
    """Whether a place belongs to a set: ``place - low <= span`` without sign, or by its member list.

    Fields
    ------
    column
        Of `Columns`.
    low, span
        The range; it may go round the end of the numbers.
    begin
        Where the set's list begins in `member`, -1 for ranges.
    member
        1 for places in the set, for sets that are no range.
    """

    column: np.ndarray
    low: np.ndarray
    span: np.ndarray
    begin: np.ndarray
    member: np.ndarray


@dataclass
class Questions:
    """Columns that trees ask about, and the set of places that goes left at each split.

    A set is a whole number whose bit ``p`` stands for place ``p``: sets of any size meet with ``&``.

    Parameters
    ----------
    trees
        All trees that are answered together.
    """

    trees: Sequence[Tree]
    keys: list[tuple[int, Asks]] = field(init=False)
    limits: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        asked: dict[tuple[int, Asks], set[float]] = {}
        for tree in self.trees:
            for split, key in enumerate(zip(tree.feature, tree.asks, strict=True)):
                values = asked.setdefault(key, set())
                if key[1] is Asks.CATEGORY:
                    values.add(float(max(tree.codes[split], default=0) + 1))
                else:
                    values.add(tree.threshold[split])
        self.keys = sorted(asked)
        self.limits = [
            [max(asked[key])] if key[1] is Asks.CATEGORY else sorted(asked[key])
            for key in self.keys
        ]
        self.place = {key: number for number, key in enumerate(self.keys)}
        self.sizes = [
            int(limits[0]) + 1 if asks is Asks.CATEGORY else len(limits) + 2
            for (_, asks), limits in zip(self.keys, self.limits, strict=True)
        ]

    def column(self, tree: Tree, split: int) -> int:
        """Number of the column that a split asks."""
        return self.place[tree.feature[split], tree.asks[split]]

    def everything(self, column: int) -> int:
        """All places of a column."""
        return (1 << self.sizes[column]) - 1

    def left(self, tree: Tree, split: int) -> int:
        """The places that go left at a split."""
        if tree.asks[split] is Asks.CATEGORY:
            return sum(1 << code + 1 for code in tree.codes[split])
        limits = self.limits[self.column(tree, split)]
        lower = bisect.bisect_left(limits, tree.threshold[split]) + 1
        return ((1 << lower) - 1) << 1 | int(tree.missing_left[split])

    @property
    def dtype(self) -> np.dtype:
        """Of places: as small as they fit, so that a register holds many."""
        return np.dtype(np.uint16 if max(self.sizes, default=0) < MOST_SMALL else np.uint32)

    def to_columns(self) -> Columns:
        """For the engine."""
        counts = [len(limits) for limits in self.limits]
        return Columns(
            np.array([feature for feature, _ in self.keys], dtype=np.int64),
            np.array([asks for _, asks in self.keys], dtype=np.int64),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.array([limit for limits in self.limits for limit in limits], dtype=np.float64),
        )

    def to_tests(self, sets: Sequence[tuple[int, int]]) -> Tests:
        """For the engine: (column, set of places) each, in order."""
        cycle = np.iinfo(self.dtype).max + 1
        ranges = [_find_range(places, self.everything(column)) for column, places in sets]
        begins: list[int] = []
        members: list[int] = []
        for (column, places), found in zip(sets, ranges, strict=True):
            begins.append(-1 if found is not None else len(members))
            if found is None:
                members.extend(places >> place & 1 for place in range(self.sizes[column]))
        bounds = [(0, 0) if found is None else found for found in ranges]
        return Tests(
            np.array([column for column, _ in sets], dtype=np.int64),
            np.array([low for low, _ in bounds], dtype=self.dtype),
            np.array([(high - low) % cycle for low, high in bounds], dtype=self.dtype),
            np.array(begins, dtype=np.int64),
            np.array(members or [0], dtype=self.dtype),
        )


def _find_range(places: int, everything: int) -> tuple[int, int] | None:
    """First and last place of a set that is a range, perhaps round the end; None if it is none."""
    last = everything.bit_length()
    if places == everything:
        return 0, last
    if not places:
        return last, last  # a place that no value has
    low, high = _lowest(places), places.bit_length() - 1
    if places == _fill(low, high):
        return low, high
    outside = everything ^ places
    low, high = _lowest(outside), outside.bit_length() - 1
    return (high + 1, low - 1) if outside == _fill(low, high) else None


def _lowest(places: int) -> int:
    return (places & -places).bit_length() - 1


def _fill(low: int, high: int) -> int:
    return ((1 << high + 1) - 1) ^ ((1 << low) - 1)
