"""Records of prediction points, selected and aggregated over arrays.

The same rules of time as the queries of `engine`: a record counts if it was known, not yet corrected,
and within the window. What an expression says of a record is computed once for all points, except
where it reads the as-of date or only the latest records count; there it is computed for the records
selected.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from poverty_risk.array_expressions import evaluate_expression
from poverty_risk.column_values import MISSING_CODE, TRUE, Kind, Values, fill
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.language import Context, reads_as_of_date
from poverty_risk.record_kernels import (
    HOWS,
    Requests,
    aggregate_records,
    count_within,
    group_codes,
    group_texts,
    keep_latest,
    select_known,
)
from poverty_risk.windows import Lookback

__all__ = ["Aggregate", "Points", "Records", "aggregate"]

EVER = 2**31
"""Days beyond every date."""

NEVER = np.iinfo(np.int32).max

FEW = 3
"""Where windows hold less than one in so many records, expressions are computed for these alone."""

MANY_RECORDS = 50_000
"""Fewer records are not worth the search for such windows."""


class Points(NamedTuple):
    """Prediction points as a table of records sees them.

    Fields
    ------
    begin, end
        First row of each point's records and the one after the last, shape (n_points,).
    as_of
        Days since 1970, int32, shape (n_points,).
    """

    begin: np.ndarray
    end: np.ndarray
    as_of: np.ndarray


@dataclass(frozen=True)
class Aggregate:
    """What becomes of the records of a window.

    Parameters
    ----------
    how
        Aggregator, one of `record_kernels.HOWS`.
    lookback
        The window.
    value
        Expression that is aggregated.
    where
        Expression that picks the records.
    latest_per
        First keep only the latest record in the window per these columns.
    codes
        For a value that is text: the number of each text is its place in these. None: refuse texts.
    known
        Aggregate the day on which the records were known instead; those without a value are left out.
    place
        Where it is declared, for errors.
    """

    how: str
    lookback: Lookback
    value: str | None = None
    where: str | None = None
    latest_per: tuple[str, ...] = ()
    codes: tuple[str, ...] | None = None
    known: bool = False
    place: str = "aggregate"

    @property
    def reads_as_of_date(self) -> bool:
        """Whether what it says of a record differs between as-of dates."""
        texts = (self.value, self.where)
        return any(reads_as_of_date(text, self.place) for text in texts if text is not None)


class Records(Mapping[str, Values]):
    """Columns of a history table by name, made into arrays when they are first asked for.

    Parameters
    ----------
    table
        The records in canonical order, with ``superseded_date``.
    names
        Columns that expressions may name.
    rows
        Only these rows.
    source
        The same records without that choice, whose arrays are used.
    """

    def __init__(
        self,
        table: pa.Table,
        names: Sequence[str],
        rows: np.ndarray | None = None,
        source: Records | None = None,
    ) -> None:
        self._table = table
        self._names = names
        self._rows = rows
        self._source = source
        self._made: dict[str, Values] = {}
        self._codes: dict[str, np.ndarray | None] = {}

    def __getitem__(self, name: str) -> Values:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Values:
        if self._source is None or self._rows is None:
            return Values.from_arrow(self._table[name])
        few = FEW * len(self._rows) < self._table.num_rows
        if few and not self._source.has_made(name):
            # Reading the whole column would cost more than copying a few.
            column = self._table[name].combine_chunks()
            return Values.from_arrow(column.take(pa.array(self._rows)))
        return self._source[name].take(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def has_made(self, name: str) -> bool:
        """Whether a column is an array already."""
        return name in self._made

    @property
    def count(self) -> int:
        """How many records there are."""
        return self._table.num_rows if self._rows is None else len(self._rows)

    def days(self, name: str) -> np.ndarray:
        """Days since 1970 of a column of dates; read-only, as Arrow's own: loops compile for one kind."""
        days = self[name].array.view()
        days.flags.writeable = False
        return days

    @functools.cached_property
    def superseded(self) -> np.ndarray:
        """When each record was corrected; far in the future for one that never was."""
        return fill(self._table["superseded_date"].combine_chunks().cast(pa.int32()), NEVER)

    def text(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Where each text of a column begins (and the last ends) in the bytes of all, and these.

        None for what is no text, or missing somewhere.
        """
        column = self._table[name].combine_chunks()
        if not pa.types.is_string(column.type) or column.null_count:
            return None
        _, offsets, text = column.buffers()
        count = len(column) + 1
        starts = np.frombuffer(offsets, np.int32, count, 4 * column.offset) if offsets else None
        if starts is None or text is None:
            return np.zeros(count, np.int32), np.empty(0, np.uint8)
        return starts, np.frombuffer(text, np.uint8)

    def codes(self, name: str) -> np.ndarray | None:
        """Places of a column's texts among its different ones, -1 = missing; None if not encoded."""
        if name not in self._codes:
            column = self._table[name].combine_chunks()
            encoded = pa.types.is_dictionary(column.type)
            self._codes[name] = fill(column.indices, MISSING_CODE) if encoded else None
        return self._codes[name]

    def at(self, rows: np.ndarray) -> Records:
        """The records at some rows."""
        return Records(self._table, self._names, rows, self)


class _Selection(NamedTuple):
    """Rows of each point: those from ``ends[p]`` to ``ends[p + 1]``."""

    ends: np.ndarray
    rows: np.ndarray


def aggregate(
    records: Records,
    points: Points,
    aggregates: Sequence[Aggregate],
    line: Mapping[int, float] | None = None,
) -> np.ndarray:
    """Aggregate each point's records.

    Parameters
    ----------
    records
        Of one table.
    points
        Where each point's records lie; the same rows may serve several points.
    aggregates
        What is asked for.
    line
        Poverty line by year.

    Returns
    -------
    ndarray
        float64, shape (n_aggregates, n_points); missing = NaN.

    Raises
    ------
    DeclarationError
        An expression that does not fit, a condition that is none, a value that is no number.
    """
    results = np.empty((len(aggregates), len(points.as_of)))
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, one in enumerate(aggregates):
        # The latest records depend on the window, so such a group has only one.
        window = (one.lookback,) if one.latest_per else ()
        groups[(one.latest_per, one.reads_as_of_date, window)].append(number)
    for (latest_per, by_date, _), numbers in groups.items():
        apart = latest_per or by_date
        near = numbers if apart else _find_near(records, points, aggregates, numbers)
        far = [number for number in numbers if number not in near]
        for alike, few in ((near, True), (far, False)):
            members = [aggregates[number] for number in alike]
            if members:
                results[alike] = _aggregate_group(records, points, members, line, few=few)
    return results


def _find_near(
    records: Records, points: Points, aggregates: Sequence[Aggregate], numbers: Sequence[int]
) -> list[int]:
    """Those whose windows reach so far back only that few of all records lie in them."""
    if records.count < MANY_RECORDS:
        return []
    event = records.days("event_date")
    for reach in sorted({_reach(aggregates[number].lookback) for number in numbers}, reverse=True):
        if FEW * count_within(*points, event, reach) < records.count:
            return [number for number in numbers if _reach(aggregates[number].lookback) <= reach]
    return []


def _aggregate_group(
    records: Records,
    points: Points,
    members: Sequence[Aggregate],
    line: Mapping[int, float] | None,
    *,
    few: bool,
) -> np.ndarray:
    """The same of aggregates whose expressions are computed once: of `few`, for the records selected."""
    selection = _select(records, points, members)
    as_of = None
    if few:
        records = records.at(selection.rows)
        counts = np.diff(selection.ends)
        as_of = Values.date(np.repeat(points.as_of, counts))
        selection = _Selection(selection.ends, np.arange(records.count, dtype=np.int32))
    said = _Said(records, as_of, line)
    requests = said.request(members)
    results = np.empty((len(members), len(points.as_of)))
    aggregate_records(
        selection.ends,
        selection.rows,
        points.as_of,
        records.days("event_date"),
        requests,
        said.numbers(),
        said.tests(),
        results,
    )
    return results


def _reach(lookback: Lookback) -> int:
    return EVER if lookback.days is None else lookback.days + lookback.lag


def _select(records: Records, points: Points, members: Sequence[Aggregate]) -> _Selection:
    """Known records of all windows of a group."""
    room = int((points.end - points.begin).sum())
    rows, ends = np.empty(room, dtype=np.int32), np.empty(len(points.as_of) + 1, dtype=np.int64)
    select_known(
        points.begin,
        points.end,
        points.as_of,
        records.days("event_date"),
        records.days("known_date"),
        records.superseded,
        max(_reach(one.lookback) for one in members),
        min(one.lookback.lag for one in members),
        rows,
        ends,
    )
    rows = rows[: ends[-1]]
    if not members[0].latest_per:
        return _Selection(ends, rows)
    selection = _Selection(ends, rows)
    kept, new_ends = np.empty(len(rows), dtype=np.int64), np.empty_like(ends)
    groups = _group(records, selection, members[0].latest_per)
    count = keep_latest(ends, groups, kept, new_ends)
    return _Selection(new_ends, rows[kept[:count]])


def _group(records: Records, selection: _Selection, per: Sequence[str]) -> np.ndarray:
    """A number of each record's group among those of its point, counted from 0."""
    groups = np.zeros(len(selection.rows), dtype=np.int64)
    for name in per:
        if name == "household_id":  # a point has only one
            continue
        places = np.empty(len(selection.rows), dtype=np.int64)
        if (codes := records.codes(name)) is not None:
            group_codes(*selection, codes, places)
        elif (text := records.text(name)) is not None:
            group_texts(*selection, *text, places)
        else:
            places = _number_distinct(records.at(selection.rows)[name])
        groups = groups * (int(places.max(initial=0)) + 1) + places
        if len(per) > 1:
            groups = np.unique(groups, return_inverse=True)[1]
    return groups


def _number_distinct(values: Values) -> np.ndarray:
    return np.unique(values.to_float(), return_inverse=True)[1]


class _Said:
    """What the expressions of some aggregates say of each record, each computed once."""

    def __init__(
        self, records: Records, as_of: Values | None, line: Mapping[int, float] | None
    ) -> None:
        self._records = records
        self._as_of = as_of
        self._line = line
        self._numbers: dict[tuple[object, ...], np.ndarray] = {}
        self._tests: dict[str, np.ndarray] = {}

    def numbers(self) -> np.ndarray:
        """Values by row of a request; the first is none."""
        return self._stack([np.zeros(()), *self._numbers.values()], np.float64)

    def tests(self) -> np.ndarray:
        """Conditions by row of a request; the first holds everywhere."""
        return self._stack([np.full((), TRUE), *self._tests.values()], np.int8)

    def _stack(self, arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
        stacked: np.ndarray = np.empty((len(arrays), self._records.count), dtype=dtype)
        for row, array in enumerate(arrays):
            stacked[row] = array
        return stacked

    def request(self, members: Sequence[Aggregate]) -> Requests:
        """The members as numbers of the loops."""
        windows = list(dict.fromkeys(one.lookback for one in members))
        columns = (
            [HOWS.index(one.how) for one in members],
            [windows.index(one.lookback) for one in members],
            [self._find_value(one) for one in members],
            [self._find_test(one) for one in members],
            [_reach(window) for window in windows],
            [window.lag for window in windows],
        )
        return Requests(*(np.array(column, dtype=np.int64) for column in columns))

    def _find_value(self, one: Aggregate) -> int:
        if one.value is None and not one.known:
            return 0
        key = (one.value, one.codes, one.known, one.how == "nunique")
        if key not in self._numbers:
            self._numbers[key] = self._compute_value(one)
        return 1 + list(self._numbers).index(key)

    def _compute_value(self, one: Aggregate) -> np.ndarray:
        value = Values.number(0.0) if one.value is None else self._evaluate(one.value, one)
        if one.known:
            days = self._records["known_date"].to_float()
            return np.where(value.is_missing(), np.nan, days)
        if value.kind is Kind.TEXT and one.codes is not None:
            return _place_among(value, one.codes)
        if value.kind in (Kind.TEXT, Kind.DATE) and one.how != "nunique":
            raise _misfit(one, f"'{one.value}', a {value.kind.value}", "a number or a condition")
        return value.to_float()

    def _find_test(self, one: Aggregate) -> int:
        if one.where is None:
            return 0
        if one.where not in self._tests:
            test = self._evaluate(one.where, one)
            if test.kind is not Kind.CONDITION:
                raise _misfit(one, f"'{one.where}', a {test.kind.value}", "a condition")
            self._tests[one.where] = test.array
        return 1 + list(self._tests).index(one.where)

    def _evaluate(self, text: str, one: Aggregate) -> Values:
        return evaluate_expression(text, Context(self._records, self._as_of, self._line, one.place))


def _place_among(value: Values, codes: Sequence[str]) -> np.ndarray:
    places = {code: float(place) for place, code in enumerate(codes)}
    # The last one is that of a missing value.
    by_word = np.array([*(places.get(word, np.nan) for word in value.words), np.nan])
    return np.asarray(by_word[value.array])


def _misfit(one: Aggregate, found: str, expected: str) -> DeclarationError:
    return DeclarationError(Fault(one.place, found, expected, "Correct the entry."))
