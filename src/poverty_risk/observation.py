"""When the data of a history end: the first day about which nothing is on record any more."""

from __future__ import annotations

from collections.abc import Mapping

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


def find_end(records: Mapping[str, pa.Table]) -> pd.Timestamp:
    """The day after the last known date of any record.

    Raises
    ------
    HistoryError
        No record at all, or a last day so late that its year must be mistyped.
    """
    days = [pc.max(table["known_date"]).as_py() for table in records.values() if table.num_rows]
    if not days:
        raise HistoryError(Fault("history", "no record", "at least one", "Check the folder."))
    _check_last(records, pd.Timestamp(max(days)))
    return pd.Timestamp(max(days)) + pd.Timedelta(days=1)


MANY_RECORDS, FAR_DAYS = 1_000, 366
"""From so many records on, a last day so far after nearly all of them is taken for a mistyped year."""


def _check_last(records: Mapping[str, pa.Table], last: pd.Timestamp) -> None:
    """One mistyped year would move the end of the data, and call everybody followed until then."""
    known = [table["known_date"].to_numpy() for table in records.values() if table.num_rows]
    days = np.sort(np.concatenate(known).astype("datetime64[D]"))
    usual = pd.Timestamp(days[int(0.999 * (len(days) - 1))])
    if len(days) >= MANY_RECORDS and (last - usual).days > FAR_DAYS:
        raise HistoryError(
            Fault(
                "known_date",
                f"a last day {last.date()}, {(last - usual).days} days after nearly all others",
                f"records known by about {usual.date()}",
                "Correct the mistyped dates, or say where the data end with `observed_to`.",
            )
        )
