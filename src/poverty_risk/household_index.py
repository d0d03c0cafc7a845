"""Where each household's records stand in tables that are sorted by household."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ID", "HouseholdIndex", "find_runs"]

ID = "household_id"

ROWS = "rows_of_"
"""Begins the name of a column that counts the rows of a table."""


@dataclass(frozen=True)
class HouseholdIndex:
    """Sorted household ids, and for each table where each household's records start.

    Parameters
    ----------
    households
        Ids, sorted, read-only, shape (n_households,).
    offsets
        By table, shape (n_households + 1,): records of household `i` are rows ``offsets[i]`` to
        ``offsets[i + 1]`` (excluded).
    """

    households: np.ndarray
    offsets: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        self.households.flags.writeable = False

    @classmethod
    def build(cls, records: Mapping[str, pa.Table]) -> HouseholdIndex:
        """Index tables; those without ``household_id`` are left out."""
        there = {name: table for name, table in records.items() if ID in table.column_names}
        runs = {name: find_runs(table[ID]) for name, table in there.items()}
        every = pc.unique(pa.chunked_array([ids for ids, _ in runs.values()], type=pa.string()))
        every = every.take(pc.sort_indices(every))
        offsets = {}
        for name, (ids, ends) in runs.items():
            counts = np.zeros(len(every), dtype=np.int64)
            counts[pc.index_in(ids, value_set=every).to_numpy()] = np.diff(ends, prepend=0)
            offsets[name] = np.concatenate([[0], np.cumsum(counts)])
        return cls(every.to_numpy(zero_copy_only=False).astype(str), offsets)

    @classmethod
    def from_table(cls, table: pa.Table) -> HouseholdIndex:
        """The index that `to_table` gave."""
        ids = table[ID].to_numpy().astype(str)
        names = [name.removeprefix(ROWS) for name in table.column_names if name.startswith(ROWS)]
        counts = {name: table[ROWS + name].to_numpy() for name in names}
        return cls(ids, {name: np.append(0, np.cumsum(own)) for name, own in counts.items()})

    def to_table(self) -> pa.Table:
        """Ids, and how many records each household has in each table: what is small when written."""
        counts = {ROWS + name: np.diff(own).astype(np.int32) for name, own in self.offsets.items()}
        return pa.table({ID: pa.array(self.households.tolist(), pa.string())} | counts)

    def fits(self, rows: Mapping[str, int]) -> bool:
        """Whether it tells of tables with `household_id` that have so many rows, and of no others."""
        return {name: int(own[-1]) for name, own in self.offsets.items()} == dict(rows)

    def keep(self, names: Iterable[str]) -> HouseholdIndex:
        """The same households with the offsets of some tables only."""
        return HouseholdIndex(self.households, {name: self.offsets[name] for name in names})

    def find(self, household_ids: Iterable[str]) -> np.ndarray:
        """Positions of the named households that are there, sorted, each once."""
        wanted = np.unique(np.asarray(list(household_ids), dtype=object).astype(str))
        at = np.searchsorted(self.households, wanted)
        inside = at < len(self.households)
        at, wanted = at[inside], wanted[inside]
        # An unknown id lands on its neighbour, which must not come twice.
        found: np.ndarray = at[self.households[at] == wanted]
        return found

    def slice(
        self, records: Mapping[str, pa.Table], start: int, stop: int
    ) -> tuple[dict[str, pa.Table], HouseholdIndex]:
        """Tables and index of households `start` to `stop` (excluded), without copying."""
        sliced = dict(records)
        for name, offset in self.offsets.items():
            first, last = offset[start], offset[stop]
            sliced[name] = records[name].slice(first, last - first)
        return sliced, self.cut(start, stop)

    def cut(self, start: int, stop: int) -> HouseholdIndex:
        """Index of the tables that hold households `start` to `stop` (excluded) alone."""
        offsets = {name: own[start : stop + 1] - own[start] for name, own in self.offsets.items()}
        return HouseholdIndex(self.households[start:stop], offsets)

    def take(
        self, records: Mapping[str, pa.Table], at: np.ndarray
    ) -> tuple[dict[str, pa.Table], HouseholdIndex]:
        """Tables and index of the households at some positions, sorted, each once."""
        taken, offsets = dict(records), {}
        for name, offset in self.offsets.items():
            first, counts = offset[at], offset[at + 1] - offset[at]
            ends = np.concatenate([[0], np.cumsum(counts)])
            rows = np.arange(ends[-1]) + np.repeat(first - ends[:-1], counts)
            taken[name] = _take_rows(records[name], rows)
            offsets[name] = ends
        return taken, HouseholdIndex(self.households[at], offsets)


def find_runs(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Ids of a sorted column, each once, and the row after the last one of each."""
    ids = column.combine_chunks()
    if not pa.types.is_dictionary(ids.type):
        encoded = pc.run_end_encode(ids, run_end_type=pa.int64())
        return encoded.values, encoded.run_ends.to_numpy()
    codes = ids.indices.to_numpy()
    ends = np.append(np.flatnonzero(codes[1:] != codes[:-1]) + 1, len(codes))[: len(codes)]
    return ids.dictionary.take(pa.array(codes[ends - 1])), ends


def _take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    if not len(rows):
        return table.slice(0, 0)
    # Arrow joins the chunks of texts before it takes any: only what lies around the rows.
    first = int(rows[0])
    near = table.slice(first, int(rows[-1]) - first + 1)
    return near.take(pa.array(rows - first, type=pa.int64()))
