"""Dates: the only place where they are compared.

All windows are half-open. A record is known at an as-of date if the office knew it strictly before
that date; it is in a lookback if it happened in [as_of - lag - lookback, as_of - lag); it is in the
horizon if it happens in [as_of, as_of + horizon). The predicates work alike on pandas Series and on
Ibis columns, so that every engine reads the same rule; `record_kernels` writes it out for its loops,
and tests compare the two.
"""

from __future__ import annotations

import functools
import re
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault

__all__ = [
    "Horizon",
    "Lookback",
    "is_active",
    "is_known",
    "label_known_by",
    "parse_as_of_dates",
    "parse_days",
]

DAYS_PER_YEAR = 365.25
"""Mean length of a Julian year; ages and slopes per year use it."""

_LENGTH = re.compile(r"(\d{1,5})(d|mo)")


def parse_days(text: str | int) -> int:
    """Read a length in days such as ``"90d"``.

    Parameters
    ----------
    text
        ``"90d"``, or a whole number of days.

    Returns
    -------
    int
        Days, zero or more.

    Raises
    ------
    DeclarationError
        Anything else.

    Examples
    --------
    >>> parse_days("90d")
    90
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _LENGTH.fullmatch(str(text).strip())
    if match is None or match.group(2) != "d":
        raise DeclarationError(
            Fault("length of time", repr(text), "days such as '90d'", "Write the number with 'd'.")
        )
    return int(match.group(1))


@dataclass(frozen=True)
class Lookback:
    """How far back a feature looks, and how many days before the as-of date it stops.

    Parameters
    ----------
    days
        Length of the window; None for all that is known.
    lag
        Days directly before the as-of date that are left out.
    """

    days: int | None
    lag: int = 0

    @classmethod
    def parse(cls, text: str, lag: str | int = 0) -> Lookback:
        """Read ``"365d"`` or ``"ever"``."""
        return cls(None if text == "ever" else parse_days(text), parse_days(lag))

    def __str__(self) -> str:
        return "ever" if self.days is None else f"{self.days}d"

    def contains(self, event_date: Any, as_of_date: Any, days: Any) -> Any:
        """Whether events fall into the window.

        Parameters
        ----------
        event_date, as_of_date
            Columns of one engine.
        days
            Function that turns a whole number into that engine's interval of days.
        """
        inside = event_date < as_of_date - days(self.lag)
        if self.days is not None:
            inside = inside & (event_date >= as_of_date - days(self.lag + self.days))
        return inside


@dataclass(frozen=True)
class Horizon:
    """How far ahead a risk looks: [as_of, as_of + horizon).

    Parameters
    ----------
    length
        Number of units.
    unit
        ``"mo"`` calendar months or ``"d"`` days.
    """

    length: int
    unit: str

    @classmethod
    def parse(cls, text: str | Horizon) -> Horizon:
        """Read ``"12mo"`` or ``"90d"``.

        Raises
        ------
        DeclarationError
            Not a positive length with its unit.
        """
        if isinstance(text, Horizon):
            return text
        match = _LENGTH.fullmatch(str(text).strip())
        if match is None or int(match.group(1)) == 0:
            raise DeclarationError(
                Fault("horizon", repr(text), "such as '12mo' or '365d'", "Write number and unit.")
            )
        return cls(int(match.group(1)), match.group(2))

    def __str__(self) -> str:
        return f"{self.length}{self.unit}"

    def end(self, as_of_dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """First day after the horizon of each as-of date."""
        if self.unit == "mo":
            return pd.DatetimeIndex(as_of_dates + pd.DateOffset(months=self.length))
        return pd.DatetimeIndex(as_of_dates + pd.Timedelta(days=self.length))


def contains_outcome(event_date: Any, as_of_date: Any, horizon_end: Any) -> Any:
    """Whether an outcome falls into the horizon [as_of_date, horizon_end)."""
    return (event_date >= as_of_date) & (event_date < horizon_end)


def is_known(known_date: Any, superseded_date: Any, as_of_date: Any) -> Any:
    """Whether a record was known, and not yet corrected by a later one, at the as-of date.

    Parameters
    ----------
    known_date
        When the office knew the record.
    superseded_date
        When the office knew its correction; null for a record that was never corrected.
    as_of_date
        The as-of date.
    """
    current = superseded_date.isnull() | (superseded_date >= as_of_date)
    return (known_date < as_of_date) & current


def is_active(valid_to: Any, as_of_date: Any) -> Any:
    """Whether a state still lasts on the as-of date; a missing end means that it does."""
    return valid_to.isnull() | (valid_to >= as_of_date)


def label_known_by(
    as_of_dates: pd.DatetimeIndex, horizon: Horizon, lag_days: int
) -> pd.DatetimeIndex:
    """Day from which on a label is complete: end of the horizon plus the outcome's reporting lag."""
    return pd.DatetimeIndex(horizon.end(as_of_dates) + pd.Timedelta(days=lag_days))


def _read_dates(items: Any) -> pd.DatetimeIndex:
    if isinstance(items, np.ndarray):
        return pd.DatetimeIndex(items)
    return pd.DatetimeIndex(pd.to_datetime(pd.Series(items, dtype=object), format="ISO8601"))


def parse_as_of_dates(dates: Any) -> pd.DatetimeIndex:
    """Read one or several as-of dates into a sorted index of whole days without repeats.

    Raises
    ------
    DeclarationError
        A value is not a date, or carries a time of day.
    """
    if isinstance(dates, pd.DatetimeIndex) and len(dates) == 1 and dates.tz is None:
        return _read_day(dates[0]).view()
    return _read_days(dates)


@functools.lru_cache(maxsize=256)
def _read_day(day: Any) -> pd.DatetimeIndex:
    """One date, which is asked for again and again."""
    return _read_days([day])


def _read_days(dates: Any) -> pd.DatetimeIndex:
    if isinstance(dates, pd.DatetimeIndex):
        items: Any = dates.to_numpy()  # without a name and a frequency
    else:
        items = [dates] if isinstance(dates, str) or not hasattr(dates, "__iter__") else list(dates)
    try:
        index = _read_dates(items)
    except (ValueError, TypeError, OverflowError):
        found = reprlib.repr(items)
        raise DeclarationError(
            Fault("as_of_date", found, "dates such as '2024-01-01'", "Correct the date.")
        ) from None
    if index.hasnans or index.tz is not None or bool((index != index.normalize()).any()):
        raise DeclarationError(
            Fault(
                "as_of_date",
                "a missing date, a time of day or a time zone",
                "whole days",
                "Give the day.",
            )
        )
    return pd.DatetimeIndex(index.unique().sort_values()).as_unit("us")
