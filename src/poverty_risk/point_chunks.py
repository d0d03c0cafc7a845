"""Prediction points cut into ranges of households, each with its records as arrays.

Each household lies whole in one range and its records keep their order: the results do not depend
on how many ranges or threads there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.household_index import find_runs
from poverty_risk.record_arrays import Aggregate, Points, Records, aggregate
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback

__all__ = ["PointChunk", "cut_points", "run_chunks"]

CHUNK_HOUSEHOLDS = 10_000
"""Fewer take more time of Python, which threads cannot share; more take more memory."""

MANY_DATES = 4
"""Where a household has more points than this, half as many households are taken together."""


@dataclass(frozen=True)
class VillageRows:
    """Where the records of each village stand in a table about villages."""

    ids: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    @classmethod
    def find(cls, table: pa.Table) -> VillageRows:
        """Rows of a table in canonical order."""
        ids, end = find_runs(table["village_id"])
        begin = np.concatenate([[0], end[:-1]]).astype(np.int64)
        return cls(ids.to_numpy(zero_copy_only=False).astype(str), begin, end)

    def look_up(self, villages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of each village; 0 and 0 of one without records."""
        wanted = np.asarray(villages, dtype=str)
        at = np.searchsorted(self.ids, wanted)
        there = at < len(self.ids)
        there[there] = self.ids[at[there]] == wanted[there]
        at = np.where(there, at, 0)
        begin, end = (
            np.where(there, one[at] if len(one) else 0, 0) for one in (self.begin, self.end)
        )
        return begin.astype(np.int64), end.astype(np.int64)


@dataclass(frozen=True)
class PointChunk:
    """Points of some households.

    Parameters
    ----------
    tables
        The history of at least these households.
    points
        Places of the points in the whole index, by household, then date.
    households
        Of each point the place of its household in ``tables.households``; -1 for one without records.
    as_of
        Of each point the as-of date, days since 1970, int32.
    villages
        Rows of the tables about villages.
    """

    tables: HistoryTables
    points: np.ndarray
    households: np.ndarray
    as_of: np.ndarray
    villages: dict[str, VillageRows]

    def aggregate(self, name: str, aggregates: Sequence[Aggregate]) -> np.ndarray:
        """Aggregates of the records of a table, shape (n_aggregates, n_points)."""
        line = self.tables.line
        if name not in self.villages:
            return aggregate(self._records(name), self._rows(name), aggregates, line)
        return aggregate(*self._of_villages(name), aggregates, line)

    def _records(self, name: str) -> Records:
        return Records(self.tables.arrow(name), self._names(name))

    def _names(self, name: str) -> tuple[str, ...]:
        # A history on disk may have been read with fewer columns.
        there = self.tables.arrow(name).column_names
        return tuple(one for one in self.tables.schema.tables[name].all_columns if one in there)

    def _rows(self, name: str) -> Points:
        offsets = self.tables.offsets(name)
        known = self.households >= 0
        begin = np.where(known, offsets[self.households], 0)
        end = np.where(known, offsets[self.households + 1], 0)
        return Points(begin, end, self.as_of)

    def _of_villages(self, name: str) -> tuple[Records, Points]:
        """Records of the villages of the points, and where each point's lie among them."""
        codes, ids = self.village
        begin, end = self.villages[name].look_up(ids)
        rows = np.concatenate([np.arange(a, b) for a, b in zip(begin, end, strict=True)] or [begin])
        records = self.tables.arrow(name).take(pa.array(rows, pa.int64()))
        # As they lie now, one village after the other; the last is none.
        new_end = np.append(np.cumsum(end - begin), 0)
        new_begin = np.append(new_end[:-1] - (end - begin), 0)
        return Records(records, self._names(name)), Points(
            new_begin[codes], new_end[codes], self.as_of
        )

    @functools.cached_property
    def village(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Village of each point at its as-of date as a place among ids, -1 for none; and the ids."""
        return self.find_group("village")

    def find_group(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Latest known value of a declared group at each point as a place among values; the values."""
        group = self.tables.schema.groups[name]
        if group.table not in self.tables:
            return np.full(len(self.points), -1), ()
        records = self._records(group.table)
        values = records[group.column].words
        last = Aggregate("last", Lookback(None), group.column, codes=values)
        found = aggregate(records, self._rows(group.table), [last])[0]
        return np.where(np.isnan(found), -1, found).astype(np.int64), values


def cut_points(tables: HistoryTables, index: pd.MultiIndex) -> Iterator[PointChunk]:
    """Ranges of households with their points; every point is in exactly one.

    Parameters
    ----------
    tables
        The history.
    index
        (household_id, as_of_date).
    """
    index = index.remove_unused_levels()
    level = index.names.index("household_id")
    codes, households = index.codes[level], index.levels[level].to_numpy(object).astype(str)
    at = _find_households(tables.households, households)[codes]
    dates = index.get_level_values("as_of_date").to_numpy().astype("datetime64[D]")
    as_of = dates.astype(np.int64).astype(np.int32)
    villages = {
        name: VillageRows.find(tables.arrow(name))
        for name in tables.names
        if tables.schema.tables[name].entity == "village"
    }
    order = np.lexsort((as_of, at))
    if len(households) * 4 < len(tables.households) and len(households) <= CHUNK_HOUSEHOLDS:
        # Few households of many: pick them instead of reading everyone.
        tables = tables.select_households(households)
        at = _find_households(tables.households, households)[codes]
    size = CHUNK_HOUSEHOLDS if len(index) <= MANY_DATES * len(households) else CHUNK_HOUSEHOLDS // 2
    starts = list(range(0, max(len(tables.households), 1), size))
    # Points of unknown households come first, with place -1.
    bounds = np.append(np.searchsorted(at[order], starts), len(order))
    bounds[0] = 0
    for start, first, last in zip(starts, bounds[:-1], bounds[1:], strict=True):
        if first < last:
            stop = min(start + size, len(tables.households))
            points = order[first:last]
            places = np.where(at[points] < 0, -1, at[points] - start)
            part = tables.slice_households(start, stop)
            yield PointChunk(part, points, places, as_of[points], villages)


def _find_households(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)


def run_chunks(
    compute: Callable[[PointChunk], int], chunks: Iterator[PointChunk], threads: int
) -> Iterator[int]:
    """What a function gives for each chunk, several at once, in order."""
    waiting = list(chunks)
    if threads == 1 or len(waiting) < 2:
        yield from map(compute, waiting)
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        yield from pool.map(compute, waiting)
