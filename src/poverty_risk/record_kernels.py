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

__all__ = [
    "HOWS",
    "Requests",
    "aggregate_records",
    "compiled",
    "count_within",
    "group_codes",
    "group_texts",
    "keep_latest",
    "select_known",
]

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

BLOCK = 256
"""Points that are taken together."""

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
        Row of the numbers; 0 for none.
    test
        Row of the conditions; 0 for none.
    reach, lag
        Of each window: events count in [as_of - reach, as_of - lag), in days.
    """

    how: Array
    window: Array
    value: Array
    test: Array
    reach: Array
    lag: Array


def compiled(function: Function) -> Function:
    """Compile when first called, and keep what was compiled for the next process, where that can be."""
    try:
        made = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:
        made = numba.njit(function, nogil=True)
    return made  # type: ignore[no-any-return]


@compiled
def _first_from(days: Array, low: int, high: int, day: Any) -> int:
    """First place in [low, high) whose day is not before `day`."""
    while low < high:
        middle = (low + high) >> 1
        if days[middle] < day:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def count_within(begin: Array, end: Array, as_of: Array, event: Array, reach: int) -> int:
    """How many records, known or not, happened within `reach` days before their points."""
    count = 0
    for point in range(begin.shape[0]):
        day = np.int64(as_of[point])
        first = _first_from(event, begin[point], end[point], day - reach)
        count += _first_from(event, first, end[point], day) - first
    return count


@compiled
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


@compiled
def group_codes(ends: Array, rows: Array, codes: Array, groups: Array) -> None:
    """As `group_texts`, of texts that are encoded."""
    longest = 0
    for point in range(ends.shape[0] - 1):
        longest = max(longest, ends[point + 1] - ends[point])
    found = np.empty(longest, dtype=np.int64)
    for point in range(ends.shape[0] - 1):
        count = 0
        for place in range(ends[point], ends[point + 1]):
            group = 0
            while group < count and codes[rows[place]] != found[group]:
                group += 1
            if group == count:
                found[count] = codes[rows[place]]
                count += 1
            groups[place] = group


@compiled
def group_texts(ends: Array, rows: Array, offsets: Array, text: Array, groups: Array) -> None:
    """Number the different texts among each point's rows from 0; `text` holds all, `offsets` where."""
    longest = 0
    for point in range(ends.shape[0] - 1):
        longest = max(longest, ends[point + 1] - ends[point])
    found = np.empty(longest, dtype=np.int64)
    for point in range(ends.shape[0] - 1):
        count = 0
        for place in range(ends[point], ends[point + 1]):
            group = 0
            while group < count and not _same_text(rows[place], found[group], offsets, text):
                group += 1
            if group == count:
                found[count] = rows[place]
                count += 1
            groups[place] = group


@compiled
def _same_text(one: int, other: int, offsets: Array, text: Array) -> bool:
    length = offsets[one + 1] - offsets[one]
    if offsets[other + 1] - offsets[other] != length:
        return False
    # From the end: ids of a household differ there.
    for back in range(1, length + 1):
        if text[offsets[one + 1] - back] != text[offsets[other + 1] - back]:
            return False
    return True


@compiled
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


@compiled
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


@compiled
def _sum(values: Array, count: int) -> Any:
    total = 0.0
    for place in range(count):
        total += values[place]
    return total


@compiled
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


@compiled
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


@compiled
def _summarise(how: int, values: Array, days: Array, count: int, day: Any) -> Any:
    """One number of the values kept, in the order of the records."""
    if how == NUNIQUE:
        return np.float64(_count_distinct(values, count))
    if count == 0 or (how == DELTA and count < 2):
        return np.nan
    if how == MIN:
        return values[:count].min()
    if how == MAX:
        return values[:count].max()
    if how == DELTA:
        return values[count - 1] - values[0]
    if how == SLOPE:
        return _slope(values, days, count, day)
    spread = _std(values, count)
    if how == STD:
        return spread
    mean = abs(_sum(values, count) / count)
    return spread / mean if mean != 0.0 else np.nan


@compiled
def _count(rows: Array, low: Array, high: Array, test: Array, result: Array) -> None:
    for point in range(low.shape[0]):
        count = 0
        for at in range(low[point], high[point]):
            count += test[rows[at]] == TRUE
        result[point] = count


@compiled
def _add(
    rows: Array, low: Array, high: Array, number: Array, test: Array, mean: bool, result: Array
) -> None:
    for point in range(low.shape[0]):
        total, count = 0.0, 0
        for at in range(low[point], high[point]):
            value = number[rows[at]]
            if test[rows[at]] == TRUE and not np.isnan(value):
                total += value
                count += 1
        if mean:
            total = total / count if count else np.nan
        result[point] = total


@compiled
def _find(
    rows: Array, low: Array, high: Array, number: Array, test: Array, last: bool, result: Array
) -> None:
    """Last or first value."""
    step = -1 if last else 1
    for point in range(low.shape[0]):
        at = high[point] - 1 if last else low[point]
        result[point] = np.nan
        for _ in range(low[point], high[point]):
            row = rows[at]
            if test[row] == TRUE and not np.isnan(number[row]):
                result[point] = number[row]
                break
            at += step


@compiled
def _days_since(
    rows: Array, low: Array, high: Array, event: Array, test: Array, as_of: Array, result: Array
) -> None:
    for point in range(low.shape[0]):
        result[point] = np.nan
        for at in range(high[point] - 1, low[point] - 1, -1):
            if test[rows[at]] == TRUE:
                result[point] = np.float64(np.int64(as_of[point]) - event[rows[at]])
                break


@compiled
def _reduce(
    how: int,
    rows: Array,
    low: Array,
    high: Array,
    number: Array,
    test: Array,
    event: Array,
    as_of: Array,
    result: Array,
) -> None:
    """What needs all values of a point at once."""
    longest = 0
    for point in range(low.shape[0]):
        longest = max(longest, high[point] - low[point])
    values, days = np.empty(longest), np.empty(longest, dtype=np.int64)
    for point in range(low.shape[0]):
        count: Any = np.int64(0)  # of a literal `_summarise` would be compiled once more
        for at in range(low[point], high[point]):
            row = rows[at]
            if test[row] == TRUE and not np.isnan(number[row]):
                values[count] = number[row]
                days[count] = event[row]
                count += 1
        result[point] = _summarise(how, values, days, count, np.int64(as_of[point]))


@compiled
def _first_row_from(event: Array, rows: Array, low: int, high: int, day: Any) -> int:
    while low < high:
        middle = (low + high) >> 1
        if event[rows[middle]] < day:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _find_windows(
    ends: Array,
    rows: Array,
    as_of: Array,
    event: Array,
    reach: int,
    lag: int,
    low: Array,
    high: Array,
) -> None:
    for point in range(low.shape[0]):
        day = np.int64(as_of[point])
        low[point] = _first_row_from(event, rows, ends[point], ends[point + 1], day - reach)
        high[point] = ends[point + 1]
        if lag > 0:
            high[point] = _first_row_from(event, rows, low[point], ends[point + 1], day - lag)


@compiled
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
        Values (missing = NaN) and conditions by request's row and record; the first row of each
        stands for none.
    results
        Filled.
    """
    points, windows = as_of.shape[0], requests.reach.shape[0]
    low, high = np.empty((windows, BLOCK), np.int64), np.empty((windows, BLOCK), np.int64)
    # So many points at a time that their records stay in the processor's cache.
    for begin in range(0, points, BLOCK):
        end = min(begin + BLOCK, points)
        size, days = end - begin, as_of[begin:end]
        for window in range(windows):
            reach, lag = requests.reach[window], requests.lag[window]
            starts, stops = low[window, :size], high[window, :size]
            _find_windows(ends[begin : end + 1], rows, days, event, reach, lag, starts, stops)
        for one in range(requests.how.shape[0]):
            how, window = requests.how[one], requests.window[one]
            number, test = numbers[requests.value[one]], tests[requests.test[one]]
            starts, stops, result = low[window, :size], high[window, :size], results[one, begin:end]
            if how in (COUNT, EXISTS):
                _count(rows, starts, stops, test, result)
                if how == EXISTS:
                    for point in range(size):
                        result[point] = min(result[point], 1.0)
            elif how in (SUM, MEAN, SHARE):
                _add(rows, starts, stops, number, test, how != SUM, result)
            elif how in (LAST, FIRST):
                _find(rows, starts, stops, number, test, how == LAST, result)
            elif how == DAYS_SINCE_LAST:
                _days_since(rows, starts, stops, event, test, days, result)
            else:
                _reduce(how, rows, starts, stops, number, test, event, days, result)
