"""The day of an export, which most files tell by their name alone."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import date

__all__ = ["find_earliest_day", "find_export_day"]

_DAY = re.compile(
    r"(?<!\d)(20\d\d)(?:([-._/]?)(\d\d)\2(\d\d)|\D{1,2}(\d{1,2})\D{1,2}(\d{1,2}))(?!\d)"
)
_MONTH = re.compile(r"(?<!\d)(20\d\d)(?:[-._/]?(\d\d)|\D{1,2}(\d{1,2}))(?!\d)")


def find_export_day(name: str) -> date | None:
    """The day that the name of a file tells.

    Parameters
    ----------
    name
        Name of the file.

    Returns
    -------
    date or None
        Of several days the last, which is the end of a period; of a month its last day, because
        nobody knew before; None where the name tells neither, or only a year.

    Examples
    --------
    >>> find_export_day("household_20230630.xlsx"), find_export_day("bills 2023-02.csv")
    (datetime.date(2023, 6, 30), datetime.date(2023, 2, 28))
    >>> find_export_day("income of 2023.xlsx") is None
    True
    """
    return max(_iter_days(name), default=None) or max(_iter_month_ends(name), default=None)


def find_earliest_day(name: str) -> date | None:
    """The first day on which a file of this name can have been exported.

    Parameters
    ----------
    name
        Name of the file.

    Returns
    -------
    date or None
        The day that the name tells, or of a month its first day; None where it tells neither.

    Examples
    --------
    >>> find_earliest_day("household_20230630.xlsx"), find_earliest_day("bills 2023-02.csv")
    (datetime.date(2023, 6, 30), datetime.date(2023, 2, 1))
    """
    month_end = max(_iter_month_ends(name), default=None)
    return max(_iter_days(name), default=None) or (month_end and month_end.replace(day=1))


def _iter_days(name: str) -> Iterator[date]:
    for match in _DAY.finditer(name):
        year, _, month, day, other_month, other_day = match.groups()
        try:
            yield date(int(year), int(month or other_month), int(day or other_day))
        except ValueError:
            continue  # a number of another kind


def _iter_month_ends(name: str) -> Iterator[date]:
    for match in _MONTH.finditer(name):
        year, month = int(match.group(1)), int(match.group(2) or match.group(3))
        if 1 <= month <= 12:
            yield date(year, month, monthrange(year, month)[1])
