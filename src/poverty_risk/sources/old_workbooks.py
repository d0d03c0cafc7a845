"""XLS workbooks, looked at before any reader takes memory for them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.sources.workbook_parts import SheetErrors, check_extent

__all__ = ["check_old_workbook"]

MAX_BYTES = 512 << 20
"""65,536 rows and 256 columns, the most of this format, take less."""

STREAMS = ("workbook", "book", "encryptedpackage")
FREE = 0xFFFFFFFA
"""Sector numbers from here on are none."""

DIMENSIONS, BOUNDSHEET, FAILED, BEGIN = 0x0200, 0x0085, 0x0205, 0x0809
PASSWORD = 0x002F
SINGLE = {0x0006, 0x0203, 0x0204, 0x0205, 0x027E, 0x00FD, 0x00D6}
"""Records of one cell that holds something: row and column come first."""
SEVERAL = {0x00BD}
"""Records of cells beside each other: the last column comes last."""


def check_old_workbook(path: Path) -> dict[str, SheetErrors]:
    """Raise where an XLS workbook is damaged, protected, or claims an absurd size.

    Parameters
    ----------
    path
        An XLS file.

    Returns
    -------
    dict
        By name of the sheet, the cells whose formula failed: readers show them as blank.

    Raises
    ------
    PovertyRiskError
        Cut off, of another kind, with a password, or with a sheet that is too large.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "list.xls")
    ...     _ = path.write_bytes(b"no workbook")
    ...     check_old_workbook(path)
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.PovertyRiskError: list.xls: found a workbook that is cut off or damaged...
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PovertyRiskError(
            Fault(path.name, f"{size:,} bytes", f"at most {MAX_BYTES:,}", "Save it as XLSX.")
        )
    try:
        streams = _Compound(path.read_bytes()).read_streams()
    except (struct.error, ValueError, IndexError, OverflowError):
        streams = None
    remedy = "Open it in a spreadsheet program and save it as XLSX without a password."
    if streams is None:
        found = "a workbook that is cut off or damaged"
        raise PovertyRiskError(
            Fault(path.name, found, "a whole XLS workbook", "Copy or export it again.")
        )
    if "encryptedpackage" in streams:
        raise PovertyRiskError(Fault(path.name, "a password", "a workbook without one", remedy))
    stream = streams.get("workbook", streams.get("book"))
    if stream is None:
        found = "a document of another program"
        raise PovertyRiskError(Fault(path.name, found, "an XLS workbook", remedy))
    return _check_records(stream, path.name)


def _check_records(stream: bytes, file: str) -> dict[str, SheetErrors]:
    names: dict[int, str] = {}
    errors: dict[int, list[tuple[int, int]]] = {}
    height = width = begin = 0
    for kind, at, size in _iter_records(stream):
        if kind in SINGLE and size >= 4:
            row, column = struct.unpack_from("<HH", stream, at)
            height, width = max(height, row + 1), max(width, column + 1)
            if kind == FAILED and size >= 8 and stream[at + 7]:
                errors.setdefault(begin, []).append((row, column))
        elif kind in SEVERAL and size >= 6:
            (row,), (column,) = (
                struct.unpack_from("<H", stream, place) for place in (at, at + size - 2)
            )
            height, width = max(height, row + 1), max(width, column + 1)
        elif kind == BEGIN:
            check_extent(height, width, file)
            height, width, begin = 0, 0, at - 4
        elif kind == DIMENSIONS:
            _check_dimensions(stream[at : at + size], file)
        elif kind == BOUNDSHEET and size > 8:
            names[struct.unpack_from("<I", stream, at)[0]] = _read_name(stream[at + 6 : at + size])
        elif kind == PASSWORD:
            expected = "a workbook without one"
            raise PovertyRiskError(Fault(file, "a password", expected, "Save it without."))
    check_extent(height, width, file)
    return {name: errors[at] for at, name in names.items() if at in errors}


def _iter_records(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind of each record, where its content begins, and how long it is."""
    at, end, unpack = 0, len(stream) - 4, struct.Struct("<HH").unpack_from
    while at <= end:
        kind, size = unpack(stream, at)
        yield kind, at + 4, min(size, len(stream) - at - 4)
        at += 4 + size


def _check_dimensions(record: bytes, file: str) -> None:
    if len(record) >= 14:
        first, last, left, right = struct.unpack_from("<IIHH", record)
    elif len(record) >= 8:
        first, last, left, right = struct.unpack_from("<HHHH", record)
    else:
        return
    check_extent(max(last - first, 0), max(right - left, 0), file)


def _read_name(record: bytes) -> str:
    size, is_wide = record[0], record[1] & 1
    return record[2 : 2 + size * (2 if is_wide else 1)].decode(
        "utf-16-le" if is_wide else "latin-1", errors="replace"
    )


class _Compound:
    """A compound file: streams in chains of sectors, short ones in chains of small sectors."""

    def __init__(self, content: bytes) -> None:
        shift, small_shift = struct.unpack_from("<HH", content, 30)
        n_tables, self._directory = struct.unpack_from("<II", content, 44)
        self._cutoff, self._small_table, _, more, n_more = struct.unpack_from("<5I", content, 56)
        if shift not in (9, 12) or small_shift != 6:
            raise ValueError
        self._content, self._size = content, 1 << shift
        tables = list(struct.unpack_from("<109I", content, 76))
        for _ in range(min(n_more, len(content) // self._size)):
            sector = _to_numbers(self._read_sector(more))
            tables += sector[:-1]
            more = sector[-1]
        used = [at for at in tables if at < FREE][:n_tables]
        self._next = _to_numbers(b"".join(map(self._read_sector, used)))

    def read_streams(self) -> dict[str, bytes]:
        """All streams that tell what the file is, by name in small letters."""
        directory = self._read_chain(self._directory)
        entries = [directory[at : at + 128] for at in range(0, len(directory) - 127, 128)]
        small = _to_numbers(self._read_chain(self._small_table))
        inner = self._read_chain(struct.unpack_from("<I", entries[0], 116)[0])
        streams: dict[str, bytes] = {}
        for entry in entries[1:]:
            length = struct.unpack_from("<H", entry, 64)[0]
            name = entry[: max(length - 2, 0)][:64].decode("utf-16-le", errors="replace").casefold()
            start, size = struct.unpack_from("<II", entry, 116)
            if entry[66] != 2 or name in streams or name not in STREAMS:
                continue
            if size >= self._cutoff:
                content = self._read_chain(start)
            else:
                places = _follow(start, small)
                content = b"".join(inner[at * 64 : at * 64 + 64] for at in places)
            if len(content) < size:
                raise ValueError
            streams[name] = content[:size]
        return streams

    def _read_chain(self, start: int) -> bytes:
        return b"".join(map(self._read_sector, _follow(start, self._next)))

    def _read_sector(self, at: int) -> bytes:
        start = (at + 1) * self._size
        if start >= len(self._content):
            raise ValueError
        # The last one is short in files of some programs.
        return self._content[start : start + self._size].ljust(self._size, b"\0")


def _to_numbers(content: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(content) // 4}I", content[: len(content) // 4 * 4]))


def _follow(start: int, table: list[int]) -> list[int]:
    """Sectors of a chain; one that never ends is forged."""
    chain = []
    while start < FREE:
        chain.append(start)
        if len(chain) > len(table):
            raise ValueError
        start = table[start]
    return chain
