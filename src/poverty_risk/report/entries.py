"""What officers fill in, row by row: read leniently, judged strictly, every fault told."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from openpyxl.utils.datetime import from_excel

from poverty_risk.privacy import mask_numbers
from poverty_risk.report.returned import ReturnedRow, ReturnedWorkbook
from poverty_risk.report.sheets import LOCKED, LONGEST_ENTRY, read_value
from poverty_risk.wording import LOCALES, load_locale

__all__ = ["DISAGREES", "PURPOSES", "Entry", "EntryReader", "RowFault", "read_date"]

PURPOSES: Mapping[str, str] = {
    "rule": "alert",
    "risk": "alert",
    "minimum": "routine",
    "random": "random",
}
"""Purpose of a visit in the archive, by why the household stood on the list."""

DISAGREES = "no"
"""The answer in `found_true` that needs a reason."""

SHOWN = 60
"""Characters of what was found that a fault repeats."""

# Year, month and day apart by whatever separates them, characters of a calendar included.
_PARTS = re.compile(r"(\d{4})\s*[^\d\s]\s*(\d{1,2})\s*[^\d\s]\s*(\d{1,2})\s*[^\d\s:]?")
_TIME = re.compile(r"[T\s]\s*\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*$")
_DIGITS = re.compile(r"(\d{4})(\d{2})(\d{2})")
_NAMED = ("%d %B %Y", "%B %d, %Y", "%d %b %Y", "%b %d, %Y")
FIRST_SERIAL, LAST_SERIAL = 30_000, 80_000
"""1982 and 2119 as a spreadsheet counts days; other numbers are no visit."""


@dataclass(frozen=True)
class RowFault:
    """One fault of one row, in the language of the workbook; `code` is permanent."""

    sheet: str
    row: int
    pseudonym: str
    code: str
    column: str
    found: str
    expected: str
    remedy: str


@dataclass(frozen=True)
class Entry:
    """What a row says, in codes; missing where it says nothing or cannot be read."""

    visited_on: dt.date | None
    found_true: str | None
    risk_type: str | None
    measure: str | None
    disagree: str
    note: str


def read_date(value: object, epoch: Any = None) -> dt.date | None:
    """A date as officers and spreadsheet programs write it; None when it is none.

    Day and month in digits without a year first are refused: nobody can tell which is which.

    Examples
    --------
    >>> read_date("2024.3.5"), read_date(45356), read_date("05/03/2024")
    (datetime.date(2024, 3, 5), datetime.date(2024, 3, 5), None)
    """
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    if isinstance(value, bool):
        return None
    text = unicodedata.normalize("NFKC", read_value(value)).strip()
    if text.isdecimal() and FIRST_SERIAL <= int(text) <= LAST_SERIAL:
        return _from_serial(int(text), epoch)
    if isinstance(value, float) and FIRST_SERIAL <= value <= LAST_SERIAL:
        return _from_serial(int(value), epoch)
    return _read_text(_TIME.sub("", text))


def _from_serial(days: int, epoch: Any) -> dt.date:
    found = from_excel(days) if epoch is None else from_excel(days, epoch)
    assert isinstance(found, dt.datetime)
    return found.date()


def _read_text(text: str) -> dt.date | None:
    parts = _PARTS.fullmatch(text) or _DIGITS.fullmatch(text)
    if parts:
        try:
            return dt.date(*(int(part) for part in parts.groups()[:3]))
        except ValueError:
            return None
    for pattern in _NAMED:
        found = pd.to_datetime(text, format=pattern, errors="coerce")
        if not pd.isna(found):
            return found.date()
    return None


def _simple(text: str) -> str:
    """A choice as it is compared: however wide, spaced or capitalised it was typed."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


class EntryReader:
    """Reads the entries of one returned workbook and collects the faults."""

    def __init__(
        self, book: ReturnedWorkbook, known: Mapping[str, str], today: dt.date, key: bytes | None
    ) -> None:
        self.book, self.known, self.today, self.key = book, known, today, key
        self.as_of = dt.date.fromisoformat(book.record.as_of_date)
        self.words: Mapping[str, Any] = load_locale(book.record.locale)
        self.texts: Mapping[str, Any] = self.words["workbook"]
        self.choices = {name: _choices(name) for name in ("found_true", "risk_type", "measure")}
        self.faults: list[RowFault] = []

    def read(self, row: ReturnedRow) -> Entry | None:
        """What a row says; None when it has a fault."""
        before = len(self.faults)
        self.check_household(row)
        for name in row.formulas:
            # Not what it says: a formula may hold anything.
            self.add(row, "formula", name, "=…")
        entry = self._read_entry(row)
        self._check_entry(row, entry)
        return entry if len(self.faults) == before else None

    def add(self, row: ReturnedRow, code: str, column: str, found: object, **told: object) -> None:
        """Tell a fault of a row."""
        words = self.texts["errors"][code]
        # Officers write names and numbers where they should not; those of numbers can be told.
        shown = mask_numbers(read_value(found))
        shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + "…"
        self.faults.append(
            RowFault(
                row.sheet,
                row.row,
                row.pseudonym,
                code,
                str(self.texts["columns"][column]),
                shown or str(self.texts["errors"]["blank"]),
                str(words["expected"]).format(**told),
                str(words["remedy"]),
            )
        )

    def check_household(self, row: ReturnedRow) -> None:
        """Whether the row is that of a household that was handed out, unchanged."""
        handed_out = self.book.handed_out.get(row.pseudonym)
        if handed_out is None:
            self.add(row, "unknown_pseudonym", "pseudonym", row.pseudonym)
            return
        if row.pseudonym not in self.known:
            self.add(row, "unknown_household", "pseudonym", row.pseudonym)
        signed = self.book.record.holds(handed_out.signed, handed_out.checksum, self.key)
        if not signed or handed_out.why not in PURPOSES:
            self.add(row, "record_changed", "pseudonym", row.pseudonym)
            return
        for name in LOCKED:
            if name in row.locked and row.locked[name] != read_value(handed_out.cells[name]):
                value = handed_out.cells[name] or self.texts["errors"]["blank"]
                self.add(row, "locked_changed", name, row.locked[name], value=value)

    def _read_entry(self, row: ReturnedRow) -> Entry:
        entries = {n: None if n in row.formulas else v for n, v in row.entries.items()}
        visited_on = None
        if entries["visited_on"] is not None:
            visited_on = read_date(entries["visited_on"], self.book.epoch)
            if visited_on is None:
                self.add(row, "date_unreadable", "visited_on", entries["visited_on"])
        for name in ("disagree", "note"):
            if len(read_value(entries[name])) > LONGEST_ENTRY:
                self.add(row, "too_long", name, entries[name], count=LONGEST_ENTRY)
        return Entry(
            visited_on=visited_on,
            found_true=self._choose(row, "found_true", entries["found_true"]),
            risk_type=self._choose(row, "risk_type", entries["risk_type"]),
            measure=self._choose(row, "measure", entries["measure"]),
            disagree=read_value(entries["disagree"]),
            note=read_value(entries["note"]),
        )

    def _choose(self, row: ReturnedRow, column: str, value: object) -> str | None:
        if value is None:
            return None
        code = self.choices[column].get(_simple(read_value(value)))
        if code is None:
            listed = _names(column, self.book.record.locale).values()
            told = str(self.words["list_separator"]).join(listed)
            self.add(row, "unknown_choice", column, value, choices=told)
        return code

    def _check_entry(self, row: ReturnedRow, entry: Entry) -> None:
        date, found = row.entries["visited_on"], row.entries["found_true"]
        if date is None:
            self.add(row, "date_missing", "visited_on", "")
        if entry.visited_on is not None and entry.visited_on < self.as_of:
            self.add(row, "date_before_round", "visited_on", entry.visited_on, date=self.as_of)
        if entry.visited_on is not None and entry.visited_on > self.today:
            self.add(row, "date_after_import", "visited_on", entry.visited_on, date=self.today)
        if found is None:
            self.add(row, "result_missing", "found_true", "")
        if entry.found_true == DISAGREES and row.entries["disagree"] is None:
            self.add(row, "reason_missing", "disagree", "")


def _names(column: str, locale: str) -> Mapping[str, str]:
    words = load_locale(locale)
    if column == "risk_type":
        return dict(words["risk_types"])
    return dict(words["workbook"]["measures" if column == "measure" else column])


def _choices(column: str) -> dict[str, str]:
    """Codes by name, in all languages: an office may fill in the other one's list."""
    return {
        _simple(name): code for locale in LOCALES for code, name in _names(column, locale).items()
    }
