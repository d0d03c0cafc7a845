"""The loops over the records of each prediction point, compiled by numba when first used.

Records of a household (or village) stand together, by event date, then known date. The loops release
Python's lock, so that threads of Python share the work; numba's own threads are not used, because a
process that has started them may not fork. Sums go through the records in order, and spreads are
updated record by record (Welford), as DuckDB does it: the results are the same to the bit, but for the
slope, where builds of DuckDB may round a product and a sum once instead of twice.

What is known and what lies within a window is the rule of `windows`, written out for loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numba
import numpy as np

from poverty_risk.windows import DAYS_PER_YEAR

__all__ = ["HOWS", "Requests", "aggregate_records", "keep_latest", "select_known"]

HOWS = (
    *("last", "first", "sum", "mean", "min", "max", "std", "cv", "slope", "delta", "count"),
    *("nunique", "share", "days_since_last", "exists"),
)
"""Aggregators by number."""

LAST, FIRST, SUM, MEAN, MIN, MAX, STD, CV, SLOPE, DELTA = range(10)
COUNT, NUNIQUE, SHARE, DAYS_SINCE_LAST, EXISTS = range(10, 15)
TRUE = 2
"""As in `column_values`."""

FEW = 64
"""Up to so many values insertion sorts faster than anything else."""

Array: TypeAlias = np.ndarray
Function = TypeVar("Function", bound=Callable[..., Any])


class Requests(NamedTuple):
    """What is aggregated, one entry each; defined beside the loops, which are kept as compiled.

    Fields
    ------
    how
        Place in `HOWS`.
    window
        Place in `reach` and `lag`.
    value
        Row of the numbers; -1 for none.
    test
        Row of the conditions; -1 for none.
    reach, lag
        Of each window: events count in [as_of - reach, as_of - lag), in days.
    """

    how: Array
    window: Array
    value: Array
    test: Array
    reach: Array
    lag: Array


def _compiled(function: Function) -> Function:
    """Compile when first called, and keep what was compiled for the next process, where that can be."""
    try:
        made = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:
        made = numba.njit(function, nogil=True)
    return made  # type: ignore[no-any-return]


@_compiled
def _first_from(days: Array, low: int, high: int, day: Any) -> int:
    """First place in [low, high) whose day is not before `day`."""
    while low < high:
        middle = (low + high) >> 1
        if days[middle] < day:
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def select_known(
    begin: Array,
    end: Array,
    as_of: Array,
    event: Array,
    known: Array,
    superseded: Array,
    reach: int,
    lag: int,
    rows: Array,
    ends: Array,
) -> None:
    """Rows of each point that are known, not corrected and within a window: `windows.is_known`.

    Point `p` gets ``rows[ends[p]:ends[p + 1]]``; `rows` has room for all.
    """
    filled = 0
    ends[0] = 0
    for point in range(begin.shape[0]):
        day = np.int64(as_of[point])
        first = _first_from(event, begin[point], end[point], day - reach)
        stop = _first_from(event, first, end[point], day - lag)
        for row in range(first, stop):
            if known[row] < day and superseded[row] >= day:
                rows[filled] = row
                filled += 1
        ends[point + 1] = filled


@_compiled
def keep_latest(ends: Array, groups: Array, kept: Array, new_ends: Array) -> int:
    """Places of each point's latest record per group; `groups` counts from 0. How many there are."""
    seen = np.full(groups.max() + 1 if groups.shape[0] else 0, -1, dtype=np.int64)
    filled = 0
    new_ends[0] = 0
    for point in range(ends.shape[0] - 1):
        first = filled
        for place in range(ends[point + 1] - 1, ends[point] - 1, -1):
            if seen[groups[place]] != point:
                seen[groups[place]] = point
                kept[filled] = place
                filled += 1
        # Found from the back; the order of the records counts.
        low, high = first, filled - 1
        while low < high:
            kept[low], kept[high] = kept[high], kept[low]
            low, high = low + 1, high - 1
        new_ends[point + 1] = filled
    return filled


@_compiled
def _count_distinct(values: Array, count: int) -> int:
    if count == 0:
        return 0
    if count > FEW:
        values = np.sort(values[:count])
    else:
        for place in range(1, count):
            value, at = values[place], place
            while at > 0 and values[at - 1] > value:
                values[at] = values[at - 1]
                at -= 1
            values[at] = value
    distinct = 1
    for place in range(1, count):
        distinct += values[place] != values[place - 1]
    return distinct


@_compiled
def _sum(values: Array, count: int) -> Any:
    total = 0.0
    for place in range(count):
        total += values[place]
    return total


@_compiled
def _std(values: Array, count: int) -> Any:
    if count < 2:
        return np.nan
    mean, squares = 0.0, 0.0
    for place in range(count):
        value = values[place]
        moved = mean + (value - mean) / (place + 1)
        squares += (value - moved) * (value - mean)
        mean = moved
    return np.sqrt(squares / (count - 1))


@_compiled
def _slope(values: Array, days: Array, count: int, day: Any) -> Any:
    """Least squares per year."""
    mean_year, mean_value, together, squares = 0.0, 0.0, 0.0, 0.0
    for place in range(count):
        # Days count backwards from the as-of date, hence the sign.
        year = -np.float64(day - days[place]) / DAYS_PER_YEAR
        apart = year - mean_year
        moved = mean_year + apart / (place + 1)
        mean_value += (values[place] - mean_value) / (place + 1)
        together += apart * (values[place] - mean_value)
        squares += (year - moved) * (year - mean_year)
        mean_year = moved
    return (together / count) / (squares / count) if squares > 0.0 else np.nan


@_compiled
def _reduce(how: int, values: Array, days: Array, count: int, day: Any) -> Any:
    """One number of the values kept, in the order of the records."""
    if how == COUNT:
        return np.float64(count)
    if how == EXISTS:
        return 1.0 if count else 0.0
    if how == SUM:
        return _sum(values, count)
    if how == NUNIQUE:
        return np.float64(_count_distinct(values, count))
    if count == 0 or (how == DELTA and count < 2):
        return np.nan
    if how == LAST:
        return values[count - 1]
    if how == FIRST:
        return values[0]
    if how == DELTA:
        return values[count - 1] - values[0]
    if how == DAYS_SINCE_LAST:
        return np.float64(day - days[count - 1])
    return _summarise(how, values, days, count, day)


@_compiled
def _summarise(how: int, values: Array, days: Array, count: int, day: Any) -> Any:
    if how == MIN:
        return values[:count].min()
    if how == MAX:
        return values[:count].max()
    if how == STD:
        return _std(values, count)
    if how == SLOPE:
        return _slope(values, days, count, day)
    mean = _sum(values, count) / count
    if how == CV:
        return _std(values, count) / abs(mean) if mean != 0.0 else np.nan
    return mean


@_compiled
def aggregate_records(
    ends: Array,
    rows: Array,
    as_of: Array,
    event: Array,
    requests: Requests,
    numbers: Array,
    tests: Array,
    results: Array,
) -> None:
    """Each request of each point: ``results[request, point]``.

    Parameters
    ----------
    ends, rows
        From `select_known`.
    as_of
        Day of each point.
    event
        Day of each record.
    requests
        What is asked for.
    numbers, tests
        Values (missing = NaN) and conditions by request's row and record.
    results
        Filled.
    """
    longest = 0
    for point in range(as_of.shape[0]):
        longest = max(longest, ends[point + 1] - ends[point])
    values, days = np.empty(longest), np.empty(longest, dtype=np.int64)
    windows = requests.reach.shape[0]
    low, high = np.empty(windows, dtype=np.int64), np.empty(windows, dtype=np.int64)
    for point in range(as_of.shape[0]):
        day = np.int64(as_of[point])
        for window in range(windows):
            at, stop = ends[point], ends[point + 1]
            while at < stop and event[rows[at]] < day - requests.reach[window]:
                at += 1
            while stop > at and event[rows[stop - 1]] >= day - requests.lag[window]:
                stop -= 1
            low[window], high[window] = at, stop
        for one in range(requests.how.shape[0]):
            value, test, window = requests.value[one], requests.test[one], requests.window[one]
            count = 0
            for at in range(low[window], high[window]):
                row = rows[at]
                if test >= 0 and tests[test, row] != TRUE:
                    continue
                if value >= 0:
                    number = numbers[value, row]
                    if np.isnan(number):
                        continue
                    values[count] = number
                days[count] = event[row]
                count += 1
            results[one, point] = _reduce(requests.how[one], values, days, count, day)
