"""CSV and other delimited text: its encoding, its delimiter, its rows as text columns."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.sources.encoding import decode_text
from poverty_risk.sources.header import MOST_HEADER_ROWS, Header, find_header, make_sheet
from poverty_risk.sources.raw import RawSheet

__all__ = ["find_delimiter", "read_text_file"]

MAX_BYTES = 4 << 30
"""A province's export has some hundred megabytes; columns take about as much memory as the file."""

MAX_COLUMNS = 4096
HEAD_BYTES = 1 << 20
"""What is looked at to find delimiter and header."""

BLOCK_BYTES = 16 << 20
"""No row may be longer."""

DELIMITERS = (",", "\t", ";", "|")


def read_text_file(path: Path) -> list[RawSheet]:
    r"""Read delimited text (see `poverty_risk.sources.files.read_sheets`).

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list of RawSheet
        One sheet without a name. A row with more or fewer fields than the header is skipped as
        ``uneven``: it is a record that cannot be read. Missing fields at the end are blank, as
        Excel writes them.

    Raises
    ------
    PovertyRiskError
        No text, in another encoding, without a header, or with a quotation mark that is not closed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "list.txt")
    ...     _ = path.write_text("id;income\n1;900\n", encoding="utf-8")
    ...     read_text_file(path)[0].cells.column_names
    ['id', 'income']
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PovertyRiskError(
            Fault(path.name, f"{size:,} bytes", f"at most {MAX_BYTES:,}", "Split the file.")
        )
    text = decode_text(path.read_bytes(), path.name)
    top = _read_top(text, path.name)
    header = find_header(top.rows)
    if header is None:
        raise PovertyRiskError(
            Fault(
                path.name,
                f"no header in the first {len(top.rows)} rows",
                "a row with the names of the columns",
                "Add one, as the system that exported the file writes it.",
            )
        )
    header = _fit_header(header, top)
    body = _read_body(text[top.ends[header.end - 1] :], top.delimiter, header, path.name)
    above = top.rows[: header.end]
    sheet = make_sheet(path.name, "", header, body.columns, body.rows, above, 1, body.uneven)
    return [sheet]


# -------------------------------------------------------------------------- delimiter and first rows


@dataclass(frozen=True)
class _Top:
    """First rows, the byte at which each of them ends, and the delimiter."""

    rows: list[list[str | None]]
    n_fields: list[int]
    ends: list[int]
    delimiter: str


def find_delimiter(head: str) -> str:
    r"""The delimiter that gives most rows the same number of fields.

    Examples
    --------
    >>> find_delimiter("a;b\n1,5;2\n")
    ';'
    """
    return max(DELIMITERS, key=lambda sign: _rate_delimiter(head, sign))


def _rate_delimiter(head: str, delimiter: str) -> tuple[int, int]:
    try:
        counts = Counter(len(row) for row, _ in _iter_rows(head, delimiter))
    except csv.Error:
        return 0, 0
    several = [(n_rows, width) for width, n_rows in counts.items() if width > 1]
    return max(several, default=(0, 0))


def _iter_rows(head: str, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """First rows and the number of lines up to the end of each."""
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    for row in itertools.islice(reader, MOST_HEADER_ROWS):
        yield row, reader.line_num


def _read_top(text: memoryview, file: str) -> _Top:
    head = bytes(text[:HEAD_BYTES]).decode("utf-8", errors="ignore")
    delimiter = find_delimiter(head)
    lines = list(itertools.islice(io.StringIO(head, newline=""), 100_000))
    ends = np.cumsum([0, *(len(line.encode()) for line in lines)])
    try:
        found = list(_iter_rows(head, delimiter))
    except csv.Error:
        found = []
    width = max((len(row) for row, _ in found), default=0)
    if not found or width > MAX_COLUMNS or found[-1][1] >= len(ends):
        raise PovertyRiskError(
            Fault(
                file,
                "no rows" if not found else f"{width:,} fields in a row",
                f"rows of at most {MAX_COLUMNS:,} fields",
                "Is this really a table? Export it again.",
            )
        )
    rows = [[cell or None for cell in row] + [None] * (width - len(row)) for row, _ in found]
    n_fields = [len(row) for row, _ in found]
    return _Top(rows, n_fields, [int(ends[line]) for _, line in found], delimiter)


def _fit_header(header: Header, top: _Top) -> Header:
    """The header with one name per field of a row; delimiters at the end of rows name nothing."""
    n_columns = max(top.n_fields[at] for at in header.rows)
    below = list(zip(top.n_fields, top.rows, strict=True))[header.end :]
    usual = Counter(count for count, _ in below).most_common(1)
    if usual and usual[0][0] > n_columns:
        extra = [cell for count, row in below if count == usual[0][0] for cell in row[n_columns:]]
        n_columns = usual[0][0] if not any(extra) else n_columns
    lines = tuple(line[:n_columns] for line in header.lines)
    return Header(header.rows, header.names[:n_columns], lines)


# -------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class _Body:
    columns: list[pa.Array]
    rows: np.ndarray
    uneven: list[int]


def _read_body(text: memoryview, delimiter: str, header: Header, file: str) -> _Body:
    """Rows below the header, numbered as a spreadsheet would show them."""
    width, first_row = len(header.names), header.end + 1
    if not len(text):
        return _Body([pa.array([], pa.string())] * width, np.array([], dtype=np.int64), [])
    _check_quotes(text, delimiter, first_row, file)
    table, invalid = _parse(text, delimiter, width, file, use_threads=True)
    if invalid:
        # Once more on one thread, because otherwise nobody knows the numbers of uneven rows.
        table, invalid = _parse(text, delimiter, width, file, use_threads=False)
    columns = [column.combine_chunks() for column in table.columns]
    numbers = np.arange(table.num_rows + len(invalid))
    numbers = np.delete(numbers, [row.number - 1 for row in invalid])
    ends_open = bytes(text[-1:]) not in (b"\n", b"\r")
    mended, uneven = _mend(invalid, delimiter, width, len(numbers) if ends_open else None)
    if mended:
        numbers = np.concatenate([numbers, list(mended)])
        order = np.argsort(numbers, kind="stable")
        added = zip(columns, zip(*mended.values(), strict=True), strict=True)
        columns = [
            pa.concat_arrays([column, pa.array(cells, pa.string())]).take(pa.array(order))
            for column, cells in added
        ]
        numbers = numbers[order]
    if re.search(b'"', text) is not None:
        _check_cells(columns, delimiter, numbers + first_row, file)
    return _Body(columns, numbers + first_row, [at + first_row for at in uneven])


def _parse(
    text: memoryview, delimiter: str, width: int, file: str, *, use_threads: bool
) -> tuple[pa.Table, list[pa_csv.InvalidRow]]:
    invalid: list[pa_csv.InvalidRow] = []

    def note(row: pa_csv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    names = [str(at) for at in range(width)]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(pa.py_buffer(text)),
            read_options=pa_csv.ReadOptions(
                use_threads=use_threads, column_names=names, block_size=BLOCK_BYTES
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False,  # it was checked when the encoding was found
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except (pa.ArrowException, ValueError):
        # Without its message, which may quote a household's row.
        raise PovertyRiskError(
            Fault(
                file,
                "rows that cannot be told apart",
                f"rows of at most {BLOCK_BYTES:,} bytes, quotation marks in pairs",
                "Export it again, as XLSX if need be.",
            )
        ) from None
    return table, invalid


def _mend(
    invalid: list[pa_csv.InvalidRow], delimiter: str, width: int, n_whole: int | None
) -> tuple[dict[int, list[str | None]], list[int]]:
    """Rows with blank fields left out or added at their end, by position; and positions of others.

    A line break within a value makes two short rows that add up to a whole one; a short last row
    without an end of line (`n_whole` rows are whole then) was cut off: both are not mended.
    """
    fields = {row.number - 1: _split(row.text, delimiter) for row in invalid}
    counts = {at: len(row) for at, row in fields.items()}
    last = None if n_whole is None else n_whole + len(invalid) - 1
    mended: dict[int, list[str | None]] = {}
    uneven = []
    for at, row in fields.items():
        beside = [counts[other] for other in (at - 1, at + 1) if other in counts]
        broken = any(n + len(row) - 1 == width and n != len(row) for n in beside)
        if any(row[width:]) or (len(row) < width and (broken or at == last)):
            uneven.append(at)
        else:
            cells = [cell or None for cell in row[:width]]
            mended[at] = cells + [None] * (width - len(cells))
    return mended, uneven


def _split(text: str, delimiter: str) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


# ----------------------------------------------------------------------------------------- quoting

FEWEST_COLUMNS = 6
"""A line of a text may well hold a comma or two."""


def _check_quotes(text: memoryview, delimiter: str, first_row: int, file: str) -> None:
    """Raise where a quotation mark at the start of a value is never closed: it swallows the rest."""
    if re.search(b'"', text) is None:
        return
    n_quotes = int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord('"')))
    if n_quotes % 2 == 0:
        return
    end = "\n0"
    stream = io.StringIO(bytes(text).decode() + end, newline="")
    row = first_row
    last: list[str] = []
    try:
        for row, last in enumerate(csv.reader(stream, delimiter=delimiter), start=first_row):  # noqa: B007
            pass
    except csv.Error:
        raise _quote_error(row + 1, file) from None
    if last != ["0"]:
        raise _quote_error(row, file)


def _check_cells(columns: list[pa.Array], delimiter: str, rows: np.ndarray, file: str) -> None:
    """Raise where a value holds a line that is a whole row: two quotation marks were not closed."""
    if len(columns) < FEWEST_COLUMNS:
        return
    row = rf"[\n\r](?:[^\n\r{delimiter}]*[{delimiter}]){{{len(columns) - 1}}}[^\n\r{delimiter}]*[\n\r]"
    for column in columns:
        several = pc.fill_null(pc.match_substring(column, "\n"), False)
        if not pc.any(several).as_py():
            continue
        at = np.flatnonzero(several)
        found = pc.match_substring_regex(column.take(pa.array(at)), row).to_numpy(
            zero_copy_only=False
        )
        if found.any():
            raise _quote_error(int(rows[at[found]][0]), file)


def _quote_error(row: int, file: str) -> PovertyRiskError:
    return PovertyRiskError(
        Fault(
            file,
            f"a quotation mark that is not closed, in row {row} or soon after",
            "quotation marks in pairs around values",
            "Correct that row, or export the file as XLSX.",
        )
    )
