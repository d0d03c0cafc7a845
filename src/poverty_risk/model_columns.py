"""The columns of a model: found by name, categories pinned, turned into the matrix that trees read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.privacy import SMALL_COUNT

__all__ = ["ModelColumns"]

REFERENCE_QUANTILES = 21
"""Quantiles kept of each feature: every fifth per cent, both ends included."""


@dataclass(frozen=True)
class ModelColumns:
    """Names and categories of a model's features, in the model's order.

    Parameters
    ----------
    names
        Feature names.
    categories
        Codes of each category feature, as they were when the model was fitted.
    """

    names: tuple[str, ...]
    categories: Mapping[str, tuple[Any, ...]]

    @classmethod
    def of(cls, features: pd.DataFrame, names: Sequence[str]) -> ModelColumns:
        """The named columns of a table of features.

        Raises
        ------
        FeatureError
            A column is not there.
        """
        _check_columns(features, names)
        categories = {
            name: tuple(features[name].cat.categories)
            for name in names
            if isinstance(features[name].dtype, pd.CategoricalDtype)
        }
        return cls(tuple(names), categories)

    @property
    def categorical(self) -> list[int]:
        """Positions of the category features."""
        return [self.names.index(name) for name in self.categories]

    def matrix(self, features: pd.DataFrame) -> np.ndarray:
        """Columns by name in order, shape (n, n_features); codes by position, unseen ones missing.

        Raises
        ------
        FeatureError
            A column is not there, or holds no numbers where the model saw numbers.
        """
        _check_columns(features, self.names)
        matrix = np.empty((len(features), len(self.names)), dtype=np.float64)
        faults = []
        for position, name in enumerate(self.names):
            column = features[name]
            if name in self.categories:
                known = pd.Index(self.categories[name])
                codes = known.get_indexer(pd.Index(column.astype(object)))
                matrix[:, position] = np.where(codes < 0, np.nan, codes)
            elif pd.api.types.is_numeric_dtype(column.dtype):
                matrix[:, position] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                faults.append(
                    Fault(
                        f"feature '{name}'",
                        f"values of type {column.dtype}",
                        "numbers (the model saw numbers)",
                        "Build the features with the model's own catalogue.",
                    )
                )
        if faults:
            raise FeatureError(faults)
        return matrix

    def describe(self, matrix: np.ndarray) -> dict[str, dict[str, Any]]:
        """Share missing, median and quantiles (or shares of codes) of each feature."""
        described = {}
        for position, name in enumerate(self.names):
            values = matrix[:, position]
            known = values[~np.isnan(values)]
            entry: dict[str, Any] = {"missing": float(1 - len(known) / max(len(values), 1))}
            if name in self.categories:
                counts = np.bincount(known.astype(int), minlength=len(self.categories[name]))
                entry["shares"] = (counts / max(len(known), 1)).tolist()
            elif len(known):
                at = np.linspace(0, 1, REFERENCE_QUANTILES)
                grid = np.quantile(_without_extremes(known), at, method="lower")
                entry |= {"median": float(np.median(known)), "quantiles": grid.tolist()}
            described[name] = entry
        return described


def _without_extremes(known: np.ndarray) -> np.ndarray:
    """Values up to that of the tenth household from either end.

    The smallest and the largest are each one household's, and a model folder leaves the office.
    """
    if len(known) < 2 * SMALL_COUNT:
        return np.array([np.median(known)])
    ordered = np.sort(known)
    return np.asarray(np.clip(ordered, ordered[SMALL_COUNT - 1], ordered[-SMALL_COUNT]))


def _check_columns(features: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in features.columns]
    if missing:
        raise FeatureError(
            Fault(
                "features",
                f"no column {', '.join(missing[:5])}{' …' * (len(missing) > 5)}",
                f"the {len(names)} features of the model",
                "Build the features with the model's own catalogue.",
            )
        )
