"""XLSX and XLS workbooks: their sheets as text columns, merged cells filled, absurd ones refused."""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from python_calamine import CalamineSheet, CalamineWorkbook, SheetTypeEnum, load_workbook

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.sources.header import MOST_HEADER_ROWS, Header, Merge, find_header, make_sheet
from poverty_risk.sources.old_workbooks import check_old_workbook
from poverty_risk.sources.raw import RawSheet, SkippedRow
from poverty_risk.sources.workbook_parts import SheetErrors, check_workbook_parts

__all__ = ["ERROR", "read_workbook"]

ERROR = "#ERROR"
"""What a cell says whose formula failed: no value, but not blank either."""

LARGEST_EXACT = 1e15
"""Spreadsheets keep 15 digits."""


def read_workbook(path: Path, kind: str) -> list[RawSheet]:
    """Read the sheets of a workbook (see `poverty_risk.sources.files.read_sheets`).

    Parameters
    ----------
    path
        The workbook.
    kind
        ``xlsx`` or ``xls``.

    Returns
    -------
    list of RawSheet
        Sheets that hold anything, hidden ones too. Numbers beyond 15 digits stay in the form
        ``6.12E+17``, because their last digits are lost.

    Raises
    ------
    PovertyRiskError
        Damaged, protected, or larger inside than any real workbook; or no sheet has a header.

    Examples
    --------
    >>> import tempfile, xlsxwriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "list.xlsx")
    ...     with xlsxwriter.Workbook(path) as workbook:
    ...         sheet = workbook.add_worksheet("May")
    ...         _ = [sheet.write_row(at, 0, row) for at, row in enumerate([["id", "sum"], [1, 2.5]])]
    ...     read_workbook(path, "xlsx")[0].cells.to_pydict()
    {'id': ['1'], 'sum': ['2.5']}
    """
    errors = check_workbook_parts(path) if kind == "xlsx" else check_old_workbook(path)
    workbook = _open(path)
    sheets, n_headers = [], 0
    for metadata in workbook.sheets_metadata:
        if metadata.typ != SheetTypeEnum.WorkSheet:
            continue
        sheet = _read_sheet(path.name, workbook, metadata.name, errors.get(metadata.name, ()))
        if sheet is not None:
            sheets.append(sheet)
            n_headers += sheet.cells.num_columns > 0
    if n_headers == 0:
        found = "no sheet with a header" if sheets else "no sheet that holds anything"
        expected = "a row with the names of the columns"
        raise PovertyRiskError(
            Fault(path.name, found, expected, "Add one, as the system that exported it writes it.")
        )
    return sheets


def _open(path: Path) -> CalamineWorkbook:
    # By its content: of a path the reader would believe the name.
    content = io.BytesIO(path.read_bytes())
    workbook: CalamineWorkbook = _guard(path.name, lambda: load_workbook(content))
    return workbook


def _guard(file: str, read: Any) -> Any:
    """Call the reader; whatever it raises becomes our error.

    A damaged file may make it panic, which is no `Exception`.
    """
    try:
        return read()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001
        found = f"a workbook that cannot be read ({type(error).__name__})"
    raise PovertyRiskError(
        Fault(
            file,
            found,
            "a whole XLSX or XLS workbook without a password",
            "Copy it again; or open it in a spreadsheet program and save it as XLSX.",
        )
    )


def _read_sheet(
    file: str, workbook: CalamineWorkbook, name: str, errors: SheetErrors
) -> RawSheet | None:
    sheet: CalamineSheet = _guard(file, lambda: workbook.get_sheet_by_name(name))
    if sheet.start is None:
        return None
    cells: list[list[Any]] = _guard(file, sheet.to_python)
    n_rows, width = len(cells), len(cells[0]) if cells else 0
    first_row, first_column = sheet.start
    for row, column in errors:
        at, across = row - first_row, column - first_column
        if 0 <= at < n_rows and 0 <= across < width and cells[at][across] == "":
            cells[at][across] = ERROR
    merges = _find_merges(sheet, n_rows, width)
    top = [[_to_text(cell) for cell in row] for row in cells[:MOST_HEADER_ROWS]]
    header = find_header(top, merges)
    if header is None:
        filled = [at for at, row in enumerate(cells) if any(cell != "" for cell in row)]
        skipped = tuple(SkippedRow(first_row + at + 1, "no header") for at in filled)
        empty = pa.array([], pa.int64())
        return RawSheet(file, name, pa.table({}), empty, skipped) if filled else None
    _fill_merged(cells, merges, header)
    columns = [_to_column(cells_of) for cells_of in zip(*cells[header.end :], strict=True)]
    columns = columns or [pa.array([], pa.string())] * width
    rows = np.arange(header.end, n_rows) + first_row + 1
    return make_sheet(file, name, header, columns, rows, top[: header.end], first_row + 1)


def _find_merges(sheet: CalamineSheet, n_rows: int, width: int) -> list[Merge]:
    """Merged cells within the sheet, counted from its first filled cell; all of them small enough.

    Cells cannot be merged twice: where the areas add up to more than the sheet, they are forged.
    """
    first_row, first_column = sheet.start or (0, 0)
    merges, area = [], 0
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or []:
        merge = (
            max(top - first_row, 0),
            max(left - first_column, 0),
            min(bottom - first_row, n_rows - 1),
            min(right - first_column, width - 1),
        )
        if merge[0] <= merge[2] and merge[1] <= merge[3]:
            merges.append(merge)
            area += (merge[2] - merge[0] + 1) * (merge[3] - merge[1] + 1)
    return merges if area <= n_rows * width else []


def _fill_merged(cells: list[list[Any]], merges: Sequence[Merge], header: Header) -> None:
    """What merged cells of records say holds for each of their rows: a household's for its members."""
    for top, left, bottom, right in merges:
        if top >= header.end and left == right:
            for at in range(top + 1, bottom + 1):
                if cells[at][left] == "":
                    cells[at][left] = cells[top][left]


# ------------------------------------------------------------------------------------ cells as text


def _to_column(cells: Sequence[Any]) -> pa.Array:
    kinds = set(map(type, cells))
    if kinds == {str}:
        return pa.array(cells, pa.string())
    if kinds == {float}:
        return _numbers_to_text(pa.array(cells, pa.float64()))
    if kinds == {str, float}:
        texts = pa.array([cell if type(cell) is str else None for cell in cells], pa.string())
        numbers = pa.array([cell if type(cell) is float else None for cell in cells], pa.float64())
        return pc.coalesce(texts, _numbers_to_text(numbers))
    return pa.array([_to_text(cell) for cell in cells], pa.string())


def _numbers_to_text(numbers: pa.Array) -> pa.Array:
    if pc.min_max(numbers)["max"].as_py() is None:
        return numbers.cast(pa.string())
    size = pc.abs(numbers)
    whole = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(size, LARGEST_EXACT))
    texts = pc.if_else(whole, numbers, None).cast(pa.int64()).cast(pa.string())
    if pc.all(whole).as_py():
        return texts
    texts = pc.coalesce(texts, numbers.cast(pa.string()))
    # Arrow writes other numbers than these with an exponent, or without one where Python has one.
    as_python = pc.and_(pc.greater_equal(size, 1e-4), pc.less(size, 1e10))
    other = pc.and_(pc.invert(pc.or_(whole, as_python)), numbers.is_valid()).fill_null(False)
    written = [_number_to_text(number) for number in numbers.filter(other).to_pylist()]
    return pc.replace_with_mask(texts, other, pa.array(written, pa.string()))


def _number_to_text(number: float) -> str:
    if not math.isfinite(number):
        return ERROR  # spreadsheets have no such number, forged or damaged files do
    if abs(number) >= LARGEST_EXACT:
        return f"{number:.14E}"
    return str(int(number)) if number == int(number) else repr(number)


def _to_text(cell: Any) -> str | None:
    """Text of a cell of any kind; null where it is blank."""
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, int | float):
        return _number_to_text(float(cell))
    if isinstance(cell, dt.datetime):
        return cell.date().isoformat() if cell.time() == dt.time() else cell.isoformat(" ")
    return None if cell is None else str(cell)
