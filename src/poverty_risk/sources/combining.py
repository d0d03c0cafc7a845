"""Rows that tell of the same record brought together, and those that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["choose_agreed", "find_groups", "reduce_values", "to_array"]


def to_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece.

    Examples
    --------
    >>> to_array(pa.chunked_array([["a"], ["b"]])).to_pylist()
    ['a', 'b']
    """
    if isinstance(column, pa.Array):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def find_groups(columns: Sequence[pa.Array], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the same values, missing ones included.

    Parameters
    ----------
    columns
        Columns that must be the same.
    size
        Number of rows.

    Returns
    -------
    tuple of numpy.ndarray
        Number of each row's group, by first appearance; and position of each group's first row.

    Examples
    --------
    >>> groups, first = find_groups([pa.array(["b", "a", "b", None])], 4)
    >>> groups.tolist(), first.tolist()
    ([0, 1, 0, 2], [0, 1, 3])
    """
    groups = np.zeros(size, dtype=np.int64)
    for column in columns:
        codes = to_codes(column)
        groups = pd.factorize(groups * (codes.max(initial=-1) + 2) + codes + 1)[0]
    return groups, np.unique(groups, return_index=True)[1]


def to_codes(column: pa.Array) -> np.ndarray:
    """A number per distinct value, from 0 in order of appearance; -1 where it is missing."""
    indices = pc.dictionary_encode(column).indices
    codes: np.ndarray = indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def choose_agreed(column: pa.Array, groups: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """What most rows of each group say; of as many, what is said first.

    Parameters
    ----------
    column
        Values by row.
    groups
        Group of each row, from 0 without gaps.

    Returns
    -------
    tuple
        Value by group, null where no row says any; and whether each row says something else.

    Examples
    --------
    >>> values, contradicts = choose_agreed(pa.array(["a", "b", "b", None]), np.array([0, 0, 0, 1]))
    >>> values.to_pylist(), contradicts.tolist()
    (['b', None], [True, False, False, False])
    """
    codes = to_codes(column)
    size = int(groups.max(initial=-1)) + 1
    told = np.flatnonzero(codes >= 0)
    width = int(codes.max(initial=-1)) + 1
    pairs, first, count = np.unique(
        groups[told] * max(width, 1) + codes[told], return_index=True, return_counts=True
    )
    group, code = np.divmod(pairs, max(width, 1))
    order = np.lexsort((first, -count, group))
    best = order[np.unique(group[order], return_index=True)[1]]
    chosen = np.full(size, -1, dtype=np.int64)
    chosen[group[best]] = code[best]
    position = np.zeros(size, dtype=np.int64)
    position[group[best]] = told[first[best]]
    values = column.take(pa.array(position)) if len(column) else column
    values = pc.if_else(pa.array(chosen >= 0), values, None) if size else values
    return values, (codes >= 0) & (codes != chosen[groups])


def reduce_values(column: pa.Array, groups: np.ndarray, how: str) -> pa.Array:
    """One value per group by ``sum``, ``min``, ``max``, ``any`` or ``all``; missing ones left out.

    Examples
    --------
    >>> reduce_values(pa.array([1.0, 2.0, None]), np.array([0, 0, 1]), "sum").to_pylist()
    [3.0, None]
    """
    function = {"any": "max", "all": "min"}.get(how, how)
    values = column.cast(pa.int32()) if pa.types.is_date(column.type) else column
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    table = pa.table({"group": pa.array(groups), "value": values})
    options = pc.ScalarAggregateOptions(skip_nulls=True, min_count=1)
    reduced = table.group_by("group").aggregate([("value", function, options)]).sort_by("group")
    result = reduced[f"value_{function}"]
    if pa.types.is_date(column.type):
        result = result.cast(pa.int32())
    return to_array(result).cast(column.type)
