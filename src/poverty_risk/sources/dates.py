"""Dates and months as offices write them, and the day numbers of spreadsheets."""

from __future__ import annotations

import functools
import re
from calendar import monthrange
from collections.abc import Callable, Iterable
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.sources.words import load_source_words
from poverty_risk.validation import EARLIEST, LATEST

__all__ = ["make_date_parser", "without_time"]

_DATE = "a date such as 2023-05-31"
_MONTH = "a month such as 2023-05"
_TIME = r"(?:[Tt]|\s+)\s*[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:\+08:?00)?$"
_SERIAL = re.compile(r"([1-7][0-9]{4})(?:\.[0-9]+)?")
"""Days of a spreadsheet from 1927 to 2119; four digits could be a year, six a year and a month."""

_SERIAL_ORIGIN = date(1899, 12, 30)
_COMPACT = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})?(?:\.0+)?")
_ONE_DIGIT = re.compile(r"[0-9]{4}\.1")

Parsed = tuple[date | None, str | None]
"""A value, or what was expected; neither where nothing is told."""


def without_time(column: pa.Array) -> pa.Array:
    """Texts without a time of day at their end, so that few distinct dates remain.

    Examples
    --------
    >>> import pyarrow as pa
    >>> without_time(pa.array(["2021-03-05 10:20:30", "x"])).to_pylist()
    ['2021-03-05', 'x']
    """
    if not pc.any(pc.match_substring(column, ":")).as_py():
        return column
    return pc.replace_substring_regex(column, _TIME, "")


def make_date_parser(column: pa.Array, kind: str, day: str) -> Callable[[str], Parsed]:
    """A function from one cell's text to its date, or to what was expected.

    Parameters
    ----------
    column
        All cells: whether ``2021.1`` can be told from a rounded ``2021.10`` depends on the others.
    kind
        ``date`` or ``month``; a month is no date, but a date tells its month.
    day
        The day that stands for a month: ``first`` or ``last``.

    Returns
    -------
    callable
        Takes text as `normalise_text` leaves it.

    Examples
    --------
    >>> import pyarrow as pa
    >>> parse = make_date_parser(pa.array(["202102"]), "month", "last")
    >>> str(parse("202102")[0])
    '2021-02-28'
    """
    if kind == "date":
        return functools.partial(_parse_date, patterns=_patterns())
    both = pc.fill_null(pc.match_substring_regex(column, r"^\s*[0-9]{4}\.(0[0-9]|10)\s*$"), False)
    # With 2021.10 among them they are texts, with 2021.01 numbers of two digits after the point.
    styles = set(pc.unique(column.filter(both)).to_pylist())
    is_text = any(".10" in text for text in styles) and not any(".0" in text for text in styles)
    return functools.partial(_parse_month, patterns=_patterns(), is_text=is_text, day=day)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    words = load_source_words()
    year, month, day = (_either(group) for group in (words.year, words.month, words.day))
    start = rf"([0-9]{{4}})\s?(?:[-/.]|{year})\s?([0-9]{{1,2}})\s?"
    whole = re.compile(rf"{start}(?:[-/.]|{month})\s?([0-9]{{1,2}})\s?(?:{day})?")
    return whole, re.compile(rf"{start}(?:{month})?")


def _either(group: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(group, key=len, reverse=True))


def _parse_date(text: str, patterns: tuple[re.Pattern[str], re.Pattern[str]]) -> Parsed:
    text = re.sub(_TIME, "", text)
    match = patterns[0].fullmatch(text) or _COMPACT.fullmatch(text)
    if match is not None and match.group(3) is not None:
        return _make_date(match.group(1), match.group(2), match.group(3), _DATE)
    return _parse_serial(text, _DATE)


def _parse_month(
    text: str, patterns: tuple[re.Pattern[str], re.Pattern[str]], is_text: bool, day: str
) -> Parsed:
    if _ONE_DIGIT.fullmatch(text) and not is_text:
        return None, "a month such as 2023-01 (as a number, 2023.10 and 2023.1 are the same)"
    text = re.sub(_TIME, "", text)
    match = patterns[1].fullmatch(text) or _COMPACT.fullmatch(text)
    if match is not None and (match.re is patterns[1] or match.group(3) is None):
        found, expected = _make_date(match.group(1), match.group(2), "1", _MONTH)
    else:
        found, expected = _parse_date(text, patterns)
        expected = expected and _MONTH
    if found is None:
        return None, expected
    last = monthrange(found.year, found.month)[1]
    return found.replace(day=last if day == "last" else 1), None


def _parse_serial(text: str, expected: str) -> Parsed:
    match = _SERIAL.fullmatch(text)
    if match is None:
        return None, expected
    return _SERIAL_ORIGIN + timedelta(days=int(match.group(1))), None


def _make_date(year: str, month: str, day: str, expected: str) -> Parsed:
    try:
        found = date(int(year), int(month), int(day))
    except ValueError:
        return None, expected
    if not date.fromisoformat(EARLIEST) <= found < date.fromisoformat(LATEST):
        return None, f"{expected}, from {EARLIEST} on and before {LATEST}"
    return found, None
