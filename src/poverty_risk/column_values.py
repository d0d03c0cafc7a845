"""Columns as arrays in which a value can be missing."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Kind", "Values", "fill"]

FALSE, UNKNOWN, TRUE = 0, 1, 2
"""A condition, in an order in which ``and`` is the smaller, ``or`` the larger, ``not`` 2 less it."""

MISSING_CODE = -1
MISSING_DAY = np.iinfo(np.int32).min


class Kind(enum.Enum):
    """What a column holds, and how."""

    NUMBER = "number"
    CONDITION = "condition"
    TEXT = "text"
    DATE = "date"


@dataclass(frozen=True, eq=False, slots=True)
class Values:
    """A column, or one value that stands for a whole column.

    Parameters
    ----------
    kind
        What it holds.
    array
        Shape (n,) or (). NUMBER: float64, missing = NaN. CONDITION: int8, `FALSE`, `UNKNOWN` or
        `TRUE`. TEXT: int32 places in `words`, missing = -1. DATE: int32 days since 1970, missing =
        `MISSING_DAY`.
    words
        The texts, each once.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from poverty_risk.column_values import Values
    >>> Values.from_arrow(pa.array([True, None, False])).to_float().tolist()
    [1.0, nan, 0.0]
    """

    kind: Kind
    array: np.ndarray
    words: tuple[str, ...] = ()

    @classmethod
    def number(cls, values: object) -> Values:
        """Of numbers; NaN is missing."""
        return cls(Kind.NUMBER, np.asarray(values, dtype=np.float64))

    @classmethod
    def condition(cls, true: object) -> Values:
        """Of True and False, none missing."""
        return cls(Kind.CONDITION, np.asarray(true, dtype=bool).astype(np.int8) * np.int8(TRUE))

    @classmethod
    def date(cls, days: object) -> Values:
        """Of dates as numpy reads them (or days since 1970); NaT is missing."""
        read = np.asarray(days)
        if read.dtype.kind in "iu":
            return cls(Kind.DATE, read.astype(np.int32))
        read = read.astype("datetime64[D]")
        numbers = np.where(np.isnat(read), MISSING_DAY, read.astype(np.int64)).astype(np.int32)
        return cls(Kind.DATE, numbers)

    @classmethod
    def text(cls, words: Sequence[str], codes: np.ndarray) -> Values:
        """Of texts as places in `words`; -1 is missing."""
        return cls(Kind.TEXT, np.asarray(codes, dtype=np.int32), tuple(words))

    @classmethod
    def constant(cls, value: str | bool | float) -> Values:
        """One value for a whole column."""
        if isinstance(value, bool):
            return cls.condition(value)
        if isinstance(value, str):
            return cls.text((value,), np.zeros((), dtype=np.int32))
        return cls.number(value)

    @classmethod
    def from_arrow(cls, column: pa.Array | pa.ChunkedArray) -> Values:
        """Of a column of a history table."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        kind = column.type
        if pa.types.is_boolean(kind):
            return cls(Kind.CONDITION, _read_conditions(column))
        if pa.types.is_date(kind):
            return cls(Kind.DATE, fill(column.cast(pa.int32()), MISSING_DAY))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            column = column.dictionary_encode()
        if pa.types.is_dictionary(column.type):
            codes = fill(column.indices.cast(pa.int32()), MISSING_CODE)
            return cls(Kind.TEXT, codes, tuple(column.dictionary.to_pylist()))
        return cls.number(column.to_numpy(zero_copy_only=False))

    def __len__(self) -> int:
        return len(self.array)

    def is_missing(self) -> np.ndarray:
        """True where nothing is known."""
        if self.kind is Kind.NUMBER:
            return np.asarray(np.isnan(self.array))
        if self.kind is Kind.CONDITION:
            return np.asarray(self.array == UNKNOWN)
        return np.asarray(self.array == (MISSING_CODE if self.kind is Kind.TEXT else MISSING_DAY))

    def to_float(self) -> np.ndarray:
        """As numbers: 1 and 0 for true and false, days since 1970, places of texts; missing = NaN."""
        if self.kind is Kind.NUMBER:
            return self.array
        if self.kind is Kind.CONDITION:
            return np.asarray(_AS_FLOAT[self.array])
        return np.where(self.is_missing(), np.nan, self.array)

    def take(self, rows: np.ndarray) -> Values:
        """The values at some rows."""
        return self if self.array.ndim == 0 else Values(self.kind, self.array[rows], self.words)


_AS_FLOAT = np.array([0.0, np.nan, 1.0])


def fill(column: pa.Array, missing: int) -> np.ndarray:
    """Whole numbers, with one that stands for what is missing."""
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(missing, column.type))
    values: np.ndarray = column.to_numpy()
    return values


def _read_conditions(column: pa.Array) -> np.ndarray:
    """Through the bits: null among true and false would make an array of Python objects."""
    validity, bits = column.buffers()
    conditions = _read_bits(bits, column) << 1
    if validity is not None and column.null_count:
        conditions = np.where(_read_bits(validity, column), conditions, UNKNOWN)
    return conditions.astype(np.int8)


def _read_bits(buffer: pa.Buffer, column: pa.Array) -> np.ndarray:
    first = column.offset // 8
    stop = (column.offset + len(column) + 7) // 8
    packed = np.frombuffer(buffer, dtype=np.uint8, count=stop - first, offset=first)
    bits = np.unpackbits(packed, bitorder="little")
    start = column.offset - 8 * first
    return bits[start : start + len(column)]
