"""The columns of a model: found by name, categories pinned, turned into the matrix that trees read."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.privacy import SMALL_COUNT

__all__ = ["ModelColumns", "ModelRows"]

REFERENCE_QUANTILES = 21
"""Quantiles kept of each feature: every fifth per cent, both ends included."""


FEW_ROWS = 8
"""Rows below which they are read cell by cell."""

Codes: TypeAlias = np.ndarray | pd.api.extensions.ExtensionArray
"""A column as it was given, or its cells."""


@dataclass(frozen=True)
class ModelRows:
    """Rows of a model's features, read once: as they were given, and as the numbers that trees read.

    Parameters
    ----------
    columns
        The model's columns.
    given
        Features as they were given; further columns and another order do not matter.
    matrix
        Numbers in the model's order, shape (n, n_features); codes by position, unseen ones missing.
    coded
        Codes of the category features as they were given, n each, by position.
    """

    columns: ModelColumns
    given: pd.DataFrame
    matrix: np.ndarray
    coded: Mapping[int, Codes]

    def __len__(self) -> int:
        return len(self.matrix)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The features by name, in the model's order."""
        return self.columns.select(self.given)

    @functools.cached_property
    def missing(self) -> np.ndarray:
        """What nobody knows, shape (n, n_features); a category that the model never saw is known."""
        missing: np.ndarray = np.isnan(self.matrix)
        for position, column in self.coded.items():
            if missing[:, position].any():
                missing[:, position] = pd.isna(column)
        return missing

    def values_of(self, name: str) -> np.ndarray:
        """Numbers or codes of a feature as objects, shape (n,)."""
        position = self.columns.places[name]
        column = self.coded.get(position)
        return np.array(self.matrix[:, position] if column is None else column, dtype=object)

    def value(self, name: str, row: int) -> Any:
        """Number or code of a feature in one row."""
        position = self.columns.places[name]
        column = self.coded.get(position)
        return self.matrix[row, position].item() if column is None else column[row]

    def take(self, mask: np.ndarray) -> ModelRows:
        """The rows under a mask."""
        if mask.all():
            return self
        coded = {position: column[mask] for position, column in self.coded.items()}
        return ModelRows(self.columns, self.given[mask], self.matrix[mask], coded)


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
        _find_columns(features, pd.Index(names))
        categories = {
            name: tuple(features[name].cat.categories)
            for name in names
            if isinstance(features[name].dtype, pd.CategoricalDtype)
        }
        return cls(tuple(names), categories)

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Position of each feature."""
        return {name: place for place, name in enumerate(self.names)}

    @functools.cached_property
    def categorical(self) -> list[int]:
        """Positions of the category features."""
        return [self.places[name] for name in self.categories]

    @functools.cached_property
    def _numbers(self) -> np.ndarray:
        return np.array([at for at, n in enumerate(self.names) if n not in self.categories], int)

    @functools.cached_property
    def labels(self) -> pd.Index:
        """The names as labels of columns."""
        return pd.Index(self.names)

    @functools.cached_property
    def _codes(self) -> dict[str, dict[str, int]]:
        """Place of each code; none of a feature whose codes are no texts, which may equal others."""
        return {
            name: {code: place for place, code in enumerate(known)}
            for name, known in self.categories.items()
            if all(isinstance(code, str) for code in known)
        }

    def __getstate__(self) -> dict[str, Any]:
        # What was found meanwhile tells of tables that were asked about.
        return {"names": self.names, "categories": self.categories}

    def select(self, features: pd.DataFrame) -> pd.DataFrame:
        """These columns alone, by name, in order.

        Raises
        ------
        FeatureError
            A column is not there, or there twice.
        """
        return features.iloc[:, _find_columns(features, self.labels)].set_axis(self.labels, axis=1)

    def read(self, features: pd.DataFrame | ModelRows, index: pd.Index | None = None) -> ModelRows:
        """These columns as rows of the model; what it read before is given back.

        Parameters
        ----------
        features
            Features; columns are found by name.
        index
            What the rows are called from here on; None: as in `features`.

        Raises
        ------
        FeatureError
            A column is not there, or holds no numbers where the model saw numbers.
        """
        if isinstance(features, ModelRows):
            return features if features.columns is self else self.read(features.given)
        given = features.copy(deep=False)  # what the caller writes into it later is not ours
        if index is not None:
            given.index = index
        places = self._find(given)
        _check_numbers(given, places[self._numbers])
        matrix = np.empty((len(given), len(self.names)), dtype=np.float64)
        by_cell = len(given) < FEW_ROWS and len(self._codes) == len(self.categories)
        read = self._read_cells if by_cell else self._read_columns
        return ModelRows(self, given, matrix, read(given, places, matrix))

    def _find(self, features: pd.DataFrame) -> np.ndarray:
        """Position of each column; rows of one table one after the other have the same."""
        for columns, places in self._seen[-1:]:
            if features.columns.is_(columns):
                return places
        places = _find_columns(features, self.labels)
        self._seen[:] = [(features.columns, places)]
        return places

    @functools.cached_property
    def _seen(self) -> list[tuple[pd.Index, np.ndarray]]:
        return []

    def _read_columns(
        self, given: pd.DataFrame, places: np.ndarray, matrix: np.ndarray
    ) -> dict[int, Codes]:
        """Fill the matrix; the codes of the category features."""
        # All numbers at once: column by column costs more than the rest of an answer.
        numbers = given.iloc[:, places[self._numbers]]
        matrix[:, self._numbers] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        coded: dict[int, Codes] = {}
        for position in self.categorical:
            column = given.iloc[:, places[position]]
            codes = _find_codes(column, self.categories[self.names[position]])
            matrix[:, position] = np.where(codes < 0, np.nan, codes)
            coded[position] = column.array
        return coded

    def _read_cells(
        self, given: pd.DataFrame, places: np.ndarray, matrix: np.ndarray
    ) -> dict[int, Codes]:
        """The same for few rows: cutting columns out would cost more than all of their cells."""
        # A copy, because pandas writes what is missing into its own block otherwise, and fails.
        cells = given.to_numpy(dtype=object, copy=True, na_value=np.nan)[:, places]
        matrix[:, self._numbers] = cells[:, self._numbers]
        for position in self.categorical:
            codes = self._codes[self.names[position]]
            found = (
                codes.get(code) if isinstance(code, str) else None for code in cells[:, position]
            )
            matrix[:, position] = [np.nan if code is None else code for code in found]
        return {position: cells[:, position] for position in self.categorical}

    def matrix(self, features: pd.DataFrame) -> np.ndarray:
        """The numbers of `read` alone, shape (n, n_features)."""
        return self.read(features).matrix

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


def _find_columns(features: pd.DataFrame, names: pd.Index) -> np.ndarray:
    """Position of each named column."""
    found = features.columns.get_indexer_for(names)
    if (found < 0).any():
        missing = [name for name in names if name not in features.columns]
        raise FeatureError(
            Fault(
                "features",
                f"no column {', '.join(missing[:5])}{' …' * (len(missing) > 5)}",
                f"the {len(names)} features of the model",
                "Build the features with the model's own catalogue.",
            )
        )
    if len(found) > len(names):
        raise FeatureError(
            Fault("features", "a column twice", "each feature once", "Drop the repeats.")
        )
    return np.asarray(found)


def _find_codes(column: pd.Series, known: tuple[Any, ...]) -> np.ndarray:
    """Position of each value among the known ones, -1 for none."""
    values = column.array
    if isinstance(values, pd.Categorical) and tuple(values.categories) == known:
        return np.asarray(values.codes)
    return np.asarray(pd.Index(known).get_indexer(pd.Index(column.astype(object))))


def _check_numbers(features: pd.DataFrame, places: np.ndarray) -> None:
    dtypes = features.dtypes.to_numpy()[places]
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in set(dtypes)):
        return
    raise FeatureError(
        [
            Fault(
                f"feature '{name}'",
                f"values of type {dtype}",
                "numbers (the model saw numbers)",
                "Build the features with the model's own catalogue.",
            )
            for name, dtype in zip(features.columns[places], dtypes, strict=True)
            if not pd.api.types.is_numeric_dtype(dtype)
        ]
    )
