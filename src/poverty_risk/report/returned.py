"""A workbook that came back: opened with care, rows found wherever officers moved them."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import openpyxl
from openpyxl.utils.cell import coordinate_to_tuple
from openpyxl.utils.exceptions import InvalidFileException

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.report.sheets import (
    FEEDBACK,
    FORMAT,
    LISTS_SHEET,
    LOCKED,
    RECORD_HEADINGS,
    RECORD_SHEET,
    Record,
    RecordRow,
    read_value,
)
from poverty_risk.wording import LOCALES, load_locale

__all__ = ["ReturnedRow", "ReturnedWorkbook", "read_returned"]

MOST_BYTES = 200_000_000
MOST_PARTS = 2_000
MOST_ROWS, MOST_COLUMNS = 100_000, 200
"""Far above what a county writes; beyond, a file is damaged or made to exhaust the machine."""

HEADING_WITHIN = 20
"""Rows above the heading that officers may have added."""

ENOUGH_HEADINGS = 3
"""So many of our headings make a list, even one that lacks some: it must not be passed over."""

COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
DIMENSION = re.compile(rb'<(?:\w+:)?dimension\s[^>]*ref="([A-Z]+[0-9]+)(?::([A-Z]+[0-9]+))?"')
_UNREADABLE = (
    AttributeError, EOFError, IndexError, InvalidFileException, KeyError, NotImplementedError,
    OSError, OverflowError, ParseError, TypeError, UnicodeError, ValueError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What openpyxl and zipfile raise over a damaged file."""


@dataclass(frozen=True)
class ReturnedRow:
    """One row as it came back.

    Parameters
    ----------
    sheet, row
        Where it stands.
    pseudonym
        As it stands there.
    locked
        Texts of the locked columns that the sheet has.
    entries
        Values of the feedback columns as the program saved them; None where empty.
    formulas
        Feedback columns with a formula.
    """

    sheet: str
    row: int
    pseudonym: str
    locked: Mapping[str, str]
    entries: Mapping[str, Any]
    formulas: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReturnedWorkbook:
    """All that a workbook says: the round, what was handed out, and what came back.

    Parameters
    ----------
    record
        The round.
    handed_out
        Rows of the hidden record by pseudonym.
    rows
        Rows with a pseudonym or an entry.
    notes
        What was not read, and why, in the language of the workbook.
    epoch
        Day from which the workbook counts its dates.
    """

    record: Record
    handed_out: Mapping[str, RecordRow]
    rows: tuple[ReturnedRow, ...]
    notes: tuple[str, ...]
    epoch: Any = field(default=None, repr=False)


def read_returned(path: str | Path, key: bytes | None) -> ReturnedWorkbook:
    """Read a workbook that `write_workbook` or `write_feedback_errors` wrote.

    Parameters
    ----------
    path
        The file.
    key
        The office's secret if the workbook was written with it.

    Returns
    -------
    ReturnedWorkbook
        Its rows, not checked yet.

    Raises
    ------
    PovertyRiskError
        The file is none of ours, damaged, protected by a password, of an old format or too large,
        or its hidden record was changed.
    """
    path = Path(path)
    place = f"workbook '{path.name}'"
    _check_file(path, place)
    try:
        with warnings.catch_warnings():
            # Extensions that openpyxl leaves out (drop-downs) are none of what is read here.
            warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
            book = openpyxl.load_workbook(path, read_only=True, keep_links=False)
            try:
                return _read_book(book, place, key)
            finally:
                book.close()
    except _UNREADABLE as error:
        raise _damaged(place, type(error).__name__) from None


def _damaged(place: str, found: str) -> PovertyRiskError:
    remedy = "Open it in a spreadsheet program, save it again as .xlsx, or ask for it once more."
    return PovertyRiskError(Fault(place, f"damaged: {found}", "a readable .xlsx file", remedy))


def _check_file(path: Path, place: str) -> None:
    """Refuse what is no workbook, or too large, before anything of it is parsed."""
    expected = "an .xlsx file that was handed out"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        fault = Fault(place, str(error.strerror), "a file to read", "Check the path.")
        raise PovertyRiskError(fault) from None
    if size > MOST_BYTES:
        raise PovertyRiskError(Fault(place, "over 200 MB", expected, "Hand in the original file."))
    if head.startswith(COMPOUND_FILE):
        raise PovertyRiskError(_tell_compound(path.read_bytes(), place))
    if not head.startswith(b"PK"):
        remedy = "Hand in the filled .xlsx file itself, not saved as another format."
        raise PovertyRiskError(Fault(place, "another kind of file", expected, remedy))
    try:
        with zipfile.ZipFile(path) as archive:
            _check_parts(archive, place)
    except _UNREADABLE as error:
        raise _damaged(place, type(error).__name__) from None


def _tell_compound(content: bytes, place: str) -> Fault:
    if "EncryptedPackage".encode("utf-16-le") in content:
        remedy = "Open it, take the password away (File > Info > Protect), save and hand it in."
        return Fault(place, "protected by a password", "a file without a password", remedy)
    remedy = "Save it as .xlsx (Excel workbook) and hand that in."
    return Fault(place, "the old .xls format", "an .xlsx file", remedy)


def _check_parts(archive: zipfile.ZipFile, place: str) -> None:
    parts = archive.infolist()
    names = {part.filename for part in parts}
    if "xl/workbook.xml" not in names:
        remedy = "Hand in the filled .xlsx file itself, not saved as another format."
        raise PovertyRiskError(Fault(place, "no workbook in it", "an .xlsx file", remedy))
    # Declared sizes can be relied upon: a part that unpacks to more fails its check.
    size = sum(part.file_size for part in parts)
    if len(parts) > MOST_PARTS or size > MOST_BYTES:
        found = f"{len(parts)} parts that unpack to {size:,} bytes"
        expected = f"at most {MOST_PARTS} parts and {MOST_BYTES:,} bytes"
        raise PovertyRiskError(Fault(place, found, expected, "Hand in the original file."))
    for part in parts:
        if part.filename.endswith((".xml", ".rels")):
            with archive.open(part) as stream:
                start = stream.read(4096)
            if b"<!DOCTYPE" in start or b"<!ENTITY" in start:
                found = "a document type declaration, which no spreadsheet program writes"
                raise PovertyRiskError(Fault(place, found, "none", "Hand in the original file."))
            if match := DIMENSION.search(start):
                _check_dimension(place, *coordinate_to_tuple((match[2] or match[1]).decode()))


def _check_dimension(place: str, rows: int, columns: int) -> None:
    if rows > MOST_ROWS or columns > MOST_COLUMNS:
        found = f"a sheet of {rows:,} rows and {columns:,} columns"
        expected = f"at most {MOST_ROWS:,} rows and {MOST_COLUMNS} columns"
        remedy = "Delete the empty rows and columns below and beside the list, then save."
        raise PovertyRiskError(Fault(place, found, expected, remedy))


def _iter_rows(sheet: Any, place: str) -> Iterator[tuple[int, Sequence[Any]]]:
    """Rows with their numbers; what a sheet declares about its size is not relied upon."""
    sheet.reset_dimensions()
    for number, row in enumerate(sheet.iter_rows(), start=1):
        _check_dimension(place, number, len(row))
        yield number, row


def _read_book(book: Any, place: str, key: bytes | None) -> ReturnedWorkbook:
    if RECORD_SHEET not in book.sheetnames:
        remedy = "Hand in the file that was given out; do not copy its sheets into another one."
        expected = "a visit list of this package"
        raise PovertyRiskError(Fault(place, "no hidden record", expected, remedy))
    record, handed_out = _read_record(book[RECORD_SHEET], place, key)
    texts = load_locale(record.locale)["workbook"]
    own = {RECORD_SHEET, LISTS_SHEET, texts["sheets"]["cover"], texts["sheets"]["guide"]}
    rows: list[ReturnedRow] = []
    notes: list[str] = []
    for name in book.sheetnames:
        sheet = book[name]
        if name in own or not hasattr(sheet, "reset_dimensions"):
            continue
        reader = _SheetReader(name, texts, place)
        for number, cells in _iter_rows(sheet, place):
            reader.take(number, cells)
        rows += reader.rows
        notes += reader.finish()
    if lost := len(handed_out.keys() - {row.pseudonym for row in rows}):
        notes.append(texts["notes"]["lost_rows"].format(count=lost))
    return ReturnedWorkbook(record, handed_out, tuple(rows), tuple(notes), book.epoch)


def _read_record(sheet: Any, place: str, key: bytes | None) -> tuple[Record, dict[str, RecordRow]]:
    lines = [[read_value(cell.value) for cell in row] for _, row in _iter_rows(sheet, place)]
    # The round stands above the first empty line, the households below.
    head = itertools.takewhile(lambda line: line and line[0], lines)
    told = {line[0]: line[1] for line in head if len(line) > 1}
    if told.get("format") != FORMAT:
        found = f"format {told.get('format', 'unknown')[:20]!r}"
        remedy = "Use the version of the package that wrote it."
        raise PovertyRiskError(Fault(place, found, f"format {FORMAT!r}", remedy))
    names = ("locale", "as_of_date", "model_id", "run_id", "snapshot", "keyed", "checksum")
    record = Record(**{name: told.get(name, "") for name in names})
    _check_key(record, place, key)
    if record.locale not in LOCALES or not record.holds(["record"], record.checksum, key):
        remedy = "Use the original file, and the key that it was written with."
        found = "a hidden record that was changed, or another key"
        raise PovertyRiskError(Fault(place, found, "the record as it was handed out", remedy))
    dt.date.fromisoformat(record.as_of_date)
    headings = [*RECORD_HEADINGS, *LOCKED]
    start = next((at for at, line in enumerate(lines) if line[:3] == headings[:3]), None)
    if start is None:
        raise _damaged(place, "the hidden record has no heading")
    rows = (dict(zip(headings, line, strict=False)) for line in lines[start + 1 :])
    return record, {
        row["pseudonym"]: RecordRow(
            row["pseudonym"],
            row["why_code"],
            row["tier_code"],
            {name: row.get(name, "") for name in LOCKED},
            row["checksum"],
        )
        for row in rows
        if row.get("pseudonym")
    }


def _check_key(record: Record, place: str, key: bytes | None) -> None:
    if record.keyed == "yes" and key is None:
        fault = Fault(place, "checksums made with a key", "that key", "Give the office's key.")
        raise PovertyRiskError(fault)
    if record.keyed != "yes" and key is not None:
        # Otherwise whoever changes a workbook would only have to leave the key away.
        remedy = "If it was really written without one, give none."
        raise PovertyRiskError(Fault(place, "checksums without a key", "with the key", remedy))


class _SheetReader:
    """Finds the heading of a sheet, then reads row by row."""

    def __init__(self, name: str, texts: Mapping[str, Any], place: str) -> None:
        self.name, self.texts, self.place = name, texts, place
        self.rows: list[ReturnedRow] = []
        self.at: dict[str, int] = {}
        self.headings: list[str] = []
        self.outside: list[int] = []

    def take(self, number: int, cells: Sequence[Any]) -> None:
        """The next row."""
        if self.at:
            self._read_row(number, cells)
        elif number <= HEADING_WITHIN:
            self._look_for_heading([read_value(cell.value) for cell in cells])

    def _look_for_heading(self, values: list[str]) -> None:
        titles = {self.texts["columns"][name]: name for name in (*LOCKED, *FEEDBACK, "faults")}
        wanted = [self.texts["columns"][name] for name in ("pseudonym", *FEEDBACK)]
        if sum(title in values for title in wanted) < ENOUGH_HEADINGS:
            return
        faults = [
            Fault(
                f"{self.place}, sheet '{self.name}'",
                f"column '{title}' {values.count(title)} times",
                "once",
                "Bring the heading back as it was handed out.",
            )
            for title in wanted
            if values.count(title) != 1
        ]
        if faults:
            raise PovertyRiskError(faults)
        self.headings = values
        self.at = {titles[title]: at for at, title in enumerate(values) if title in titles}

    def _read_row(self, number: int, cells: Sequence[Any]) -> None:
        at = {name: position for name, position in self.at.items() if position < len(cells)}
        values = {name: cells[position].value for name, position in at.items()}
        entries = {name: values.get(name) for name in FEEDBACK}
        entries = {name: value if read_value(value) else None for name, value in entries.items()}
        pseudonym = read_value(values.get("pseudonym"))
        if not pseudonym and not any(value is not None for value in entries.values()):
            if any(read_value(value) for value in values.values()):
                self.outside.append(number)
            return
        formulas = tuple(n for n in FEEDBACK if n in at and cells[at[n]].data_type == "f")
        locked = {name: read_value(values.get(name)) for name in LOCKED if name in self.at}
        self.rows.append(ReturnedRow(self.name, number, pseudonym, locked, entries, formulas))

    def finish(self) -> list[str]:
        """What was not read of the sheet."""
        notes, told = self.texts["notes"], {"sheet": self.name}
        if not self.at:
            return [notes["other_sheet"].format(**told)]
        known = set(self.texts["columns"].values())
        added = [title for title in self.headings if title and title not in known]
        lost = [self.texts["columns"][name] for name in LOCKED if name not in self.at]
        return [
            *(notes["other_column"].format(column=title[:40], **told) for title in added),
            *(notes["lost_column"].format(column=title, **told) for title in lost),
            *(notes["outside"].format(row=row, **told) for row in self.outside),
        ]
