"""Arrow tables of a history: raw ones from memory and files, accepted ones to a hash."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.written_folder import LINE_FILE, SUFFIXES, find_previous

__all__ = [
    "compute_fingerprint",
    "find_line_faults",
    "find_table_files",
    "read_line",
    "read_table_file",
    "to_raw_tables",
]

SUPERSEDED = "superseded_date"


def to_raw_tables(
    frames: Mapping[str, pd.DataFrame | pa.Table],
) -> tuple[dict[str, pa.Table], list[Fault]]:
    """Raw Arrow tables of tables in memory, and a fault for each that is no table."""
    raw, faults = {}, []
    for name, frame in frames.items():
        if isinstance(frame, pa.Table):
            raw[name] = _without_views(frame)
        elif isinstance(frame, pd.DataFrame):
            raw[name] = _to_arrow(frame)
        else:
            kind = type(frame).__name__
            faults.append(
                Fault(f"table '{name}'", kind, "a pandas or Arrow table", "Convert it first.")
            )
    return raw, faults


def _to_arrow(frame: pd.DataFrame) -> pa.Table:
    # By position, because a name may come twice; that is for the check of the structure to tell.
    columns = [_column_to_arrow(frame.iloc[:, at]) for at in range(frame.shape[1])]
    return pa.table(columns, names=[str(name) for name in frame.columns])


def _column_to_arrow(column: pd.Series) -> pa.Array | pa.ChunkedArray:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)  # as the office's clock showed it
    if not isinstance(column.dtype, pd.PeriodDtype | pd.IntervalDtype):
        # Mixed Python types fail here.
        with contextlib.suppress(pa.ArrowException, OverflowError):
            return pa.array(column, from_pandas=True)
    # As text: the declared kind decides what can be read.
    return pa.array(column.astype(object).map(str, na_action="ignore"), from_pandas=True)


def _without_views(table: pa.Table) -> pa.Table:
    """Text in the layout that all of Arrow's functions take."""
    for at, field in enumerate(table.schema):
        if field.type == pa.string_view():
            table = table.set_column(at, field.name, table[at].cast(pa.string()))
    return table


def find_table_files(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Files of a folder by table name, the largest first, and a fault for each name that comes twice.

    Parameters
    ----------
    folder
        Folder with ``<table>.parquet`` or ``<table>.csv`` files. Other files, hidden ones and
        ``line.csv`` are left alone.

    Returns
    -------
    tuple
        Paths by table name; faults.

    Raises
    ------
    HistoryError
        No such folder.
    """
    if not folder.is_dir():
        previous = find_previous(folder)
        remedy = "Check the path."
        if previous.is_dir():
            remedy = f"An interrupted write left the old state in '{previous.name}': rename it."
        raise HistoryError(Fault("history folder", f"'{folder}'", "a folder of tables", remedy))
    files: dict[str, Path] = {}
    faults: list[Fault] = []
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.name.lower() == LINE_FILE
        if hidden or path.suffix.lower() not in _READERS:
            continue
        if path.stem in files:
            faults.append(
                Fault(path.name, f"table '{path.stem}' twice", "one file", "Remove one of them.")
            )
        files[path.stem] = path
    # The largest while most memory is free.
    return dict(sorted(files.items(), key=lambda item: -item[1].stat().st_size)), faults


def read_table_file(path: Path) -> pa.Table:
    """A raw table of a Parquet or CSV file, every column of a CSV as text.

    Raises
    ------
    HistoryError
        The file cannot be read; the fault does not quote its content.
    """
    table = _READERS[path.suffix.lower()](path)
    return table.drop_columns([SUPERSEDED]) if SUPERSEDED in table.column_names else table


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        # The first line names what is damaged; Parquet is binary, so it quotes no row.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise HistoryError(
            Fault(path.name, reason, "a Parquet file", "Export or copy it again.")
        ) from None


def _read_csv(path: Path) -> pa.Table:
    # As text: the declared kind decides what a cell is, and a cell that cannot be read is kept.
    uneven: list[pa_csv.InvalidRow] = []

    def note(row: pa_csv.InvalidRow) -> str:
        uneven.append(row)
        return "skip"

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        if not header:
            raise HistoryError(Fault(path.name, "an empty file", "a header", "Export it again."))
        table = pa_csv.read_csv(
            path,
            # One thread, because otherwise nobody knows the numbers of uneven rows.
            read_options=pa_csv.ReadOptions(use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except (pa.ArrowException, ValueError, OSError, csv.Error) as error:
        # Without its message, which may quote a household's row.
        raise HistoryError(_csv_fault(path, error)) from None
    if uneven:
        first = uneven[0]
        raise HistoryError(
            Fault(
                path.name,
                f"{len(uneven)} rows with too few or too many fields; the first is row "
                f"{first.number} of the file with {first.actual_columns}",
                f"{first.expected_columns} fields, as in the header",
                "Put quotes around values that hold a comma.",
            )
        )
    return table


def _csv_fault(path: Path, error: Exception) -> Fault:
    expected = "a CSV file in UTF-8 with a header"
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    found, remedy = f"no UTF-8 in line {number}", "Save it as 'CSV UTF-8'."
                    return Fault(path.name, found, expected, remedy)
    except OSError as reason:
        return Fault(path.name, str(reason.strerror), expected, "Check the file.")
    return Fault(path.name, f"unreadable ({type(error).__name__})", expected, "Export it again.")


_READERS = dict(zip(SUFFIXES, (_read_parquet, _read_csv), strict=True))


def read_line(folder: Path) -> tuple[dict[int, float] | None, list[Fault]]:
    """Poverty line by year from ``line.csv``, None where there is no such file; and its faults."""
    path = folder / LINE_FILE
    if not path.is_file():
        return None, []
    try:
        lines = pd.read_csv(path, encoding="utf-8-sig", dtype={"year": "int64", "line": "float64"})
        years, values = lines["year"], lines["line"]
    except (ValueError, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        expected = "columns year and line, with a whole number and a number in every row"
        return None, [Fault(path.name, reason, expected, "Correct the file.")]
    twice = sorted(set(years[years.duplicated()]))
    faults = [Fault(path.name, f"{year} twice", "each year once", "Drop one.") for year in twice]
    return {int(y): float(v) for y, v in zip(years, values, strict=True)}, faults


def find_line_faults(line: Mapping[int, float] | None) -> list[Fault]:
    """What is wrong with a poverty line by year."""
    if line is not None and not line:
        return [Fault("line", "no year", "at least one year", "Give the line, or leave it out.")]
    return [
        Fault("line", f"{year!r}: {value!r}", "a year and a positive number", "Correct the line.")
        for year, value in (line or {}).items()
        if not (_is_year(year) and _is_amount(value))
    ]


def _is_year(year: object) -> bool:
    return isinstance(year, int | np.integer) and bool(1900 < year < 2200)


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return False
    return math.isfinite(value) and bool(value > 0)


def compute_fingerprint(tables: Mapping[str, pa.Table], without: str) -> str:
    """Hash of what tables say: values and where they are missing, never how memory holds them.

    Parameters
    ----------
    tables
        Tables by name; their order counts.
    without
        A column that is left out.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, table in tables.items():
        digest.update(f"{name} {table.num_rows} ".encode())
        for column in table.column_names:
            if column != without:
                digest.update(f"{column} {table[column].type} ".encode())
                _hash_column(digest, table[column].combine_chunks())
    return digest.hexdigest()


def _hash_column(digest: Any, values: pa.Array) -> None:
    digest.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_string(values.type):
        # Through the buffers: a Python string per cell would take minutes for a province.
        filled = pc.fill_null(values, "")
        _, bounds, text = filled.buffers()
        starts = np.frombuffer(bounds, np.int32)[filled.offset : filled.offset + len(filled) + 1]
        digest.update(np.diff(starts).tobytes())
        digest.update(memoryview(text or b"")[starts[0] : starts[-1]])
        return
    if pa.types.is_date(values.type):
        values = values.cast(pa.int32())
    filled = pc.fill_null(values, pa.scalar(0).cast(values.type))
    digest.update(filled.to_numpy(zero_copy_only=False).tobytes())
