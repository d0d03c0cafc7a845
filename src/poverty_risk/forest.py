"""Boosted trees averaged in log-odds: margins, contributions, leaves, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np

__all__ = ["Forest"]

FEWEST_SHARED = 64
"""Fewer rows are done by one thread before others have started."""


class Forest:
    """Boosters whose margins are averaged.

    Parameters
    ----------
    boosters
        At least one, all over the same columns.
    n_jobs
        Threads of LightGBM.
    """

    def __init__(self, boosters: Sequence[lightgbm.Booster], n_jobs: int = 2) -> None:
        self.boosters = tuple(boosters)
        self.n_jobs = n_jobs
        # One row costs as much again without it.
        self._base_margin: float | None = None

    @classmethod
    def from_texts(cls, texts: Sequence[str], columns: Sequence[str], n_jobs: int) -> Forest:
        """Read boosters back from their texts.

        Raises
        ------
        ValueError
            No boosters, a text that is none, or one over other columns.
        """
        if not texts:
            message = "no booster"
            raise ValueError(message)
        return cls([_read(text, list(columns)) for text in texts], n_jobs)

    @property
    def texts(self) -> list[str]:
        """Text of each booster."""
        return [booster.model_to_string() for booster in self.boosters]

    @property
    def trees(self) -> list[int]:
        """Number of trees of each booster."""
        return [booster.num_trees() for booster in self.boosters]

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        """Log-odds of each row, shape (n,)."""
        return _average(self.margins_of_each(matrix))

    def margins_of_each(self, matrix: np.ndarray) -> list[np.ndarray]:
        """Log-odds of each booster alone, shape (n,) each."""
        threads = self._threads(matrix)
        return [
            np.asarray(b.predict(matrix, raw_score=True, num_threads=threads))
            for b in self.boosters
        ]

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """Path-dependent SHAP values in log-odds, shape (n, n_features)."""
        return _average([self._contributions(b, matrix) for b in self.boosters])

    def contributions_of_each(self, matrix: np.ndarray) -> np.ndarray:
        """The same for each booster alone, shape (n_boosters, n, n_features)."""
        return np.stack([self._contributions(b, matrix) for b in self.boosters])

    def _contributions(self, booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
        if not len(matrix):
            return np.empty(matrix.shape)  # LightGBM divides by the number of rows
        return self._contribute(booster, matrix)[:, :-1]

    def _contribute(self, booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
        """Contributions, and the base in the last column."""
        found = booster.predict(matrix, pred_contrib=True, num_threads=self._threads(matrix))
        values = np.asarray(found, dtype=np.float64)
        return values.reshape(len(matrix), matrix.shape[1] + 1)

    def _threads(self, matrix: np.ndarray) -> int:
        return 1 if len(matrix) < FEWEST_SHARED else self.n_jobs

    def base_margin(self, n_features: int) -> float:
        """Mean margin over the rows boosted on, in log-odds."""
        if self._base_margin is not None:
            return self._base_margin
        blank = np.full((1, n_features), np.nan)
        bases = [self._contribute(b, blank)[0, -1] for b in self.boosters]
        self._base_margin = float(np.mean(bases))
        return self._base_margin

    def leaves(self, matrix: np.ndarray) -> np.ndarray:
        """Leaf that each row falls into, shape (n, trees of all boosters)."""
        if not len(matrix):
            return np.empty((0, sum(b.num_trees() for b in self.boosters)), dtype=np.int32)
        parts = [
            np.asarray(
                b.predict(matrix, pred_leaf=True, num_threads=self._threads(matrix))
            ).reshape(len(matrix), -1)
            for b in self.boosters
        ]
        return np.concatenate(parts, axis=1).astype(np.int32)

    def thresholds(self) -> dict[int, np.ndarray]:
        """Sorted split points of each numeric column that the trees ask about, by its position."""
        found: dict[int, set[float]] = {}
        for booster in self.boosters:
            for tree in booster.dump_model()["tree_info"]:
                _collect(tree["tree_structure"], found)
        return {position: np.array(sorted(values)) for position, values in sorted(found.items())}


def _average(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean, summed in order: numpy sums eight and more in another order when there is one row."""
    if len(parts) == 1:
        return parts[0]
    total = np.array(parts[0], dtype=np.float64)
    for part in parts[1:]:
        total += part
    return np.asarray(total / len(parts))


def _collect(node: Mapping[str, Any], found: dict[int, set[float]]) -> None:
    if "split_index" not in node:
        return
    if node["decision_type"] == "<=":
        found.setdefault(int(node["split_feature"]), set()).add(float(node["threshold"]))
    _collect(node["left_child"], found)
    _collect(node["right_child"], found)


def _read(text: str, columns: list[str]) -> lightgbm.Booster:
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None
    if booster.feature_name() != columns:
        message = "booster and manifest name different features"
        raise ValueError(message)
    return booster
