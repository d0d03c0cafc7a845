"""When the data of a history end: the first day about which nothing is on record any more."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import DeclarationError, Fault, HistoryError
from poverty_risk.windows import parse_as_of_dates

__all__ = ["find_end", "read_end"]


def read_end(
    observed_to: str | pd.Timestamp | None,
) -> tuple[pd.Timestamp | None, list[Fault]]:
    """The day that a caller gives, or a fault; None where none is given."""
    if observed_to is None:
        return None, []
    try:
        return parse_as_of_dates([observed_to])[0], []
    except DeclarationError:
        found = repr(observed_to)
        return None, [Fault("observed_to", found, "a date such as '2025-01-01'", "Correct it.")]


MANY_RECORDS, FAR_DAYS = 1_000, 366
"""From so many records on, a last day so far after nearly all of them is taken for a mistyped year."""


def find_end(known_dates: Iterable[pa.ChunkedArray]) -> pd.Timestamp:
    """The day after the last known date of any record.

    Parameters
    ----------
    known_dates
        Known dates of records in as many parts as the caller likes, each looked at once.

    Raises
    ------
    HistoryError
        No record at all, or a last day so late that its year must be mistyped.
    """
    counts: Counter[dt.date] = Counter()
    for column in known_dates:
        found = pc.value_counts(column)
        counts.update(
            dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))
        )
    if not counts:
        raise HistoryError(Fault("history", "no record", "at least one", "Check the folder."))
    days = sorted(counts)
    _check_last(days, np.cumsum([counts[day] for day in days]))
    return pd.Timestamp(days[-1]) + pd.Timedelta(days=1)


def _check_last(days: list[dt.date], up_to: np.ndarray) -> None:
    """One mistyped year would move the end of the data, and call everybody followed until then."""
    records = int(up_to[-1])
    usual, last = days[int(np.searchsorted(up_to, int(0.999 * (records - 1)), "right"))], days[-1]
    if records >= MANY_RECORDS and (last - usual).days > FAR_DAYS:
        raise HistoryError(
            Fault(
                "known_date",
                f"a last day {last}, {(last - usual).days} days after nearly all others",
                f"records known by about {usual}",
                "Correct the mistyped dates, or say where the data end with `observed_to`.",
            )
        )
