"""The parts of an XLSX workbook, looked at before any reader takes memory for them."""

from __future__ import annotations

import html
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = ["MAX_CELLS", "SheetErrors", "check_extent", "check_workbook_parts"]

MAX_CELLS = 30_000_000
"""Rows times columns of a sheet: a million rows of 30 columns. Readers hold every cell between the
first and the last one, blank or not, with some 30 bytes each."""

MAX_PART_BYTES = 2 << 30
MAX_PARTS = 10_000
MAX_RATIO = 400
"""Sheets of counties shrink to a tenth or a thirtieth; what shrinks to less than this is a bomb."""

SMALL_BYTES = 16 << 20
"""Parts that unfold to no more are harmless, however well they shrank."""

MAX_TEXT_BYTES = 2 << 30
"""Texts of a sheet, each as often as cells show it: the file holds it once."""

MAX_ERRORS = 100_000
STEP = 1 << 22
LONGEST_TAG = 4096

SheetErrors = Sequence[tuple[int, int]]
"""Cells whose formula failed: row and column, from 0."""

_NAME = rb"<(?:[A-Za-z0-9_.-]+:)?"
_UNUSUAL = re.compile(_NAME + rb"c(?=[\s/>])(?! r=\"A?[A-Z][0-9]{1,5}\"[\s/>])")
"""A cell beyond 52 columns or 99,999 rows, which together are few enough, or written differently."""
_CELL = re.compile(_NAME + rb"c(?:\s+r=[\"']([A-Z]+)([0-9]+)[\"'])?(?=[\s/>])")
_TAG = re.compile(_NAME + rb"(c|row)(?=[\s/>])([^<>]*)>")
_PLACE = re.compile(rb"\sr\s*=\s*[\"']([A-Za-z]*)([0-9]+)[\"']")
_FAILED = re.compile(
    _NAME + rb"c\s+r=[\"']([A-Z]+)([0-9]+)[\"'](?:\s[^<>]*)?\st=[\"']e[\"'][^<>]*>"
)
_SHARED = re.compile(rb"\st=[\"']s[\"'][^<>]*>\s*" + _NAME + rb"v[^<>]*>\s*([0-9]+)")
_ITEM = re.compile(_NAME + rb"si(?=[\s/>])")
_SHEET = re.compile(rb"<(?:\w+:)?sheet\s[^<>]*>")
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\s[^<>]*>")


@dataclass
class _Scan:
    """What a part of the workbook holds."""

    is_unusual: bool = False
    n_shared: int = 0
    errors: list[tuple[int, int]] = field(default_factory=list)


def check_workbook_parts(path: Path) -> dict[str, SheetErrors]:
    """Raise where a workbook unfolds to more than any real one; nothing is kept in memory.

    Parameters
    ----------
    path
        An XLSX file.

    Returns
    -------
    dict
        By name of the sheet, the cells whose formula failed: readers show them as blank.

    Raises
    ------
    PovertyRiskError
        No whole archive, a password, too many parts, a part or a sheet that is too large, or more
        text than memory should hold.

    Examples
    --------
    >>> import tempfile, xlsxwriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "list.xlsx")
    ...     with xlsxwriter.Workbook(path) as workbook:
    ...         _ = workbook.add_worksheet("May").write_formula(1, 0, "=1/0", None, "#DIV/0!")
    ...     check_workbook_parts(path)
    {'May': [(1, 0)]}
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path.name)
            return _check_parts(archive, path.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError):
        raise PovertyRiskError(
            Fault(
                path.name,
                "a workbook that is cut off or damaged",
                "a whole XLSX workbook",
                "Copy or export it again.",
            )
        ) from None


def _check_archive(archive: zipfile.ZipFile, file: str) -> None:
    parts = archive.infolist()
    names = {part.filename.casefold() for part in parts}
    remedy = "Copy its cells into a new workbook, or export it as CSV."
    for is_wrong, found, expected in (
        (len(parts) > MAX_PARTS, f"{len(parts):,} parts", f"at most {MAX_PARTS:,}"),
        (len(names) < len(parts), "a part twice", "each part once"),
        (any(part.flag_bits & 1 for part in parts), "a password", "a workbook without one"),
        ("xl/workbook.xml" not in names, "an archive of another kind", "an XLSX workbook"),
    ):
        if is_wrong:
            raise PovertyRiskError(Fault(file, found, expected, remedy))
    for part in parts:
        size = part.file_size
        is_bomb = size > SMALL_BYTES and size > MAX_RATIO * max(part.compress_size, 1)
        if size > MAX_PART_BYTES or is_bomb:
            found = f"{size:,} bytes in a part of {part.compress_size:,}"
            expected = f"at most {MAX_PART_BYTES:,} bytes, and {MAX_RATIO} times as much"
            raise PovertyRiskError(Fault(file, found, expected, remedy))


def _check_parts(archive: zipfile.ZipFile, file: str) -> dict[str, SheetErrors]:
    lengths = np.zeros(1, dtype=np.int64)
    scans: dict[str, _Scan] = {}
    # Every part of XML, because the workbook itself says which of them are sheets.
    for part in archive.infolist():
        if part.filename.casefold().endswith("sharedstrings.xml"):
            lengths = _measure_strings(archive, part, file)
        elif part.filename.casefold().endswith((".xml", ".rels")):
            scans[part.filename] = _scan(archive, part, file)
    for name, scan in scans.items():
        if int(lengths.max()) * scan.n_shared > MAX_TEXT_BYTES:
            _check_text(archive, name, lengths, scan.n_shared, file)
    sheets = _find_sheets(archive)
    return {
        sheet: scans[part].errors
        for sheet, part in sheets.items()
        if part in scans and scans[part].errors
    }


def _iter_chunks(archive: zipfile.ZipFile, part: zipfile.ZipInfo, file: str) -> Iterator[bytes]:
    """The part in pieces that end before a tag."""
    rest = b""
    with archive.open(part) as stream:
        while chunk := stream.read(STEP):
            chunk = rest + chunk
            end = chunk.rfind(b"<")
            rest = chunk[end:] if end >= 0 else b""
            if len(rest) > LONGEST_TAG:
                if b">" not in rest:
                    raise PovertyRiskError(
                        Fault(file, "a tag without an end", "a workbook", "Export it again.")
                    )
                # A long text behind a tag that is closed.
                end, rest = len(chunk), b""
            yield chunk[:end]
    yield rest


def _scan(archive: zipfile.ZipFile, part: zipfile.ZipInfo, file: str) -> _Scan:
    scan = _Scan()
    for chunk in _iter_chunks(archive, part, file):
        scan.is_unusual = scan.is_unusual or _UNUSUAL.search(chunk) is not None
        scan.n_shared += chunk.count(b't="s"') + chunk.count(b"t='s'")
        if b'"e"' in chunk or b"'e'" in chunk:
            for column, row in _FAILED.findall(chunk)[: MAX_ERRORS - len(scan.errors)]:
                scan.errors.append((int(row) - 1, _to_column(column)))
    if scan.is_unusual:
        check_extent(*_measure(archive, part, file), file)
    return scan


def _measure(archive: zipfile.ZipFile, part: zipfile.ZipInfo, file: str) -> tuple[int, int]:
    """Last row and last column of the cells of a sheet."""
    columns: set[bytes] = set()
    rows: set[bytes] = set()
    for chunk in _iter_chunks(archive, part, file):
        if found := _CELL.findall(chunk):
            names, numbers = zip(*found, strict=True)
            columns.update(names)
            rows.update(numbers)
    height = max((int(row) for row in rows if row), default=0)
    width = max((_to_column(name) + 1 for name in columns if name), default=0)
    if b"" in columns or height * width > MAX_CELLS:
        # Cells that only have a format take no memory, and cells may do without a place.
        return _measure_exactly(archive, part, file)
    return height, width


def _measure_exactly(archive: zipfile.ZipFile, part: zipfile.ZipInfo, file: str) -> tuple[int, int]:
    """Last row and last column of the cells that hold something."""
    height = width = row = column = 0
    for chunk in _iter_chunks(archive, part, file):
        for kind, attributes in _TAG.findall(chunk):
            place = _PLACE.search(attributes)
            if kind == b"row":
                row, column = int(place.group(2)) if place else row + 1, 0
                continue
            if place is None:
                column += 1
            else:
                row, column = int(place.group(2)), _to_column(place.group(1)) + 1
            if not attributes.endswith(b"/"):
                height, width = max(height, row), max(width, column)
    return height, width


def _to_column(name: bytes) -> int:
    """Position of a column by its letters, from 0; far out where there are too many."""
    at = 0
    for letter in name.upper()[:8]:
        at = at * 26 + letter - ord("A") + 1
    return at - 1


def check_extent(height: int, width: int, file: str) -> None:
    """Raise where a sheet is larger than any that an office keeps.

    Parameters
    ----------
    height, width
        Last row and last column, from 1.
    file
        Name of the file, for the error.

    Raises
    ------
    PovertyRiskError
        More cells than `MAX_CELLS`.

    Examples
    --------
    >>> check_extent(100_000, 40, "list.xlsx")
    """
    if height * width > MAX_CELLS:
        raise PovertyRiskError(
            Fault(
                file,
                f"a sheet of {height:,} rows and {width:,} columns",
                f"at most {MAX_CELLS:,} cells",
                "Delete what stands far below or far right of the table, or export it as CSV.",
            )
        )


# ------------------------------------------------------------------------------------------- texts


def _measure_strings(archive: zipfile.ZipFile, part: zipfile.ZipInfo, file: str) -> np.ndarray:
    """Bytes of each text that cells share."""
    starts, at = [np.zeros(0, dtype=np.int64)], 0
    for chunk in _iter_chunks(archive, part, file):
        starts.append(np.array([at + m.start() for m in _ITEM.finditer(chunk)], dtype=np.int64))
        at += len(chunk)
    return np.diff(np.concatenate([*starts, [at]]), prepend=0)[1:] if at else np.zeros(1, np.int64)


def _check_text(
    archive: zipfile.ZipFile, name: str, lengths: np.ndarray, n_shared: int, file: str
) -> None:
    total = n_found = 0
    for chunk in _iter_chunks(archive, archive.getinfo(name), file):
        shown = np.array([int(at) for at in _SHARED.findall(chunk)], dtype=np.float64)
        n_found += len(shown)
        shown = shown[shown < len(lengths)].astype(np.int64)
        total += int(lengths[shown].sum())
    if total > MAX_TEXT_BYTES or n_found < n_shared:
        raise PovertyRiskError(
            Fault(
                file,
                "a long text in very many cells",
                f"at most {MAX_TEXT_BYTES:,} bytes of text in a sheet",
                "Export it as CSV.",
            )
        )


# ------------------------------------------------------------------------------------------- sheets


def _find_sheets(archive: zipfile.ZipFile) -> dict[str, str]:
    """The part of each sheet, by its name."""
    try:
        workbook = archive.read("xl/workbook.xml")
        relations = archive.read("xl/_rels/workbook.xml.rels")
    except KeyError:
        return {}
    targets = {
        found["Id"]: found["Target"]
        for found in map(_read_attributes, _RELATION.findall(relations))
        if {"Id", "Target"} <= set(found)
    }
    sheets = {}
    for found in map(_read_attributes, _SHEET.findall(workbook)):
        target = targets.get(found.get("id", ""), "")
        part = target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
        sheets[found.get("name", "")] = part
    return sheets


def _read_attributes(tag: bytes) -> Mapping[str, str]:
    """Attributes of a tag, without the prefixes of their names."""
    pairs = re.findall(r"([\w.-]+)\s*=\s*[\"']([^\"']*)[\"']", tag.decode(errors="replace"))
    return {name: html.unescape(value) for name, value in pairs}
