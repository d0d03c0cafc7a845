"""Imports the files of a messy county into history, and reads plain tables, in fresh processes.

Run with ``python benchmarks/import_county.py``; the figures are printed and kept in ``results/``.
The files are those of the tests (``tests/messy_county.py``): three years of archived exports and
departmental feeds with the faults of real ones. Writing them is not measured. What was imported is
reconciled with what was written: the run fails where a single row is missing.

Plain tables of 20 columns are read with pandas and openpyxl too, turn by turn; of each the fastest
of the repeated readings is kept. They tell less than `read_sheets`, which also finds the encoding, the
delimiter and the header, and tells records from titles, totals and notes.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from measuring import forget_peak_memory, peak_memory_gb, run_fresh, run_script

KEY = b"only for benchmarks, 24 bytes"
AIMS = {"csv_mb_per_second": 50, "xlsx_rows_per_second": 20_000}
COLUMNS = 20
CSV_ROWS, XLSX_ROWS = 300_000, 50_000


# ------------------------------------------------------------------------------------ the messy county


def write_files(households: str, folder: str) -> dict[str, Any]:
    """The files of the county, and what stands in each of them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from messy_county import write_messy_county

    county = write_messy_county(Path(folder) / "files", int(households))
    written = [asdict(replace(file, path=file.path.name)) for file in county.files]
    (Path(folder) / "written.json").write_text(json.dumps(written), encoding="utf-8")
    paths = [file.path for file in county.files]
    return {
        "files": dict(Counter(path.suffix.removeprefix(".") for path in paths)),
        "megabytes": round(sum(path.stat().st_size for path in paths) / 1e6, 1),
        **{
            name: sum(file[name] for file in written)
            for name in ("rows", "rejected", "repeated", "spoiled")
        },
    }


def import_files(folder: str, status: str) -> dict[str, Any]:
    """Import all files; every row that was written is accepted, rejected or a repeat."""
    from poverty_risk.sources import import_sources

    _, seconds, report = _time(
        lambda: import_sources([Path(folder) / "files"], Path(folder) / "store", KEY)
    )
    written = {
        item["path"]: item for item in json.loads((Path(folder) / "written.json").read_text())
    }
    assert {file.file for file in report.files} == set(written)
    for file in report.files:
        expected, counts = written[file.file], file.counts
        assert (file.status, list(file.kinds.values())) == (status, [expected["kind"]]), file
        assert counts.read == counts.accepted + counts.rejected + counts.repeated, file
        told = (counts.read, counts.rejected, counts.repeated)
        assert told == tuple(expected[name] for name in ("rows", "rejected", "repeated")), file
    rows = sum(file.counts.read for file in report.files)
    return seconds | {
        "rows": rows,
        "accepted": sum(file.counts.accepted for file in report.files),
        "rows_per_second": round(rows / seconds["seconds"]),
        "store_megabytes": round(_weigh(Path(folder) / "store") / 1e6, 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def build(folder: str) -> dict[str, Any]:
    """History tables of what was imported."""
    from poverty_risk.sources import Store, build_history

    _, seconds, history = _time(lambda: build_history(Store(Path(folder) / "store")))
    rows = {name: len(history[name]) for name in history.names}
    return seconds | {
        "rows": sum(rows.values()),
        "rows_by_table": rows,
        "rejected": len(history.rejected),
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def _weigh(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _time(run: Callable[[], Any]) -> tuple[float, dict[str, float], Any]:
    began, busy = time.perf_counter(), time.process_time()
    result = run()
    seconds = time.perf_counter() - began
    cpu = time.process_time() - busy
    return seconds, {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}, result


# --------------------------------------------------------------------------------------- plain tables


def write_tables(folder: str) -> dict[str, Any]:
    """Tables as the national system exports them: words, numbers, dates, yes and no, blank cells."""
    import numpy as np
    import pandas as pd
    import xlsxwriter

    rng = np.random.default_rng(0)
    words = np.array(
        ["是", "否", "", "示例镇", "大沟村", "一般农户", "脱贫户", "初中", "普通劳动力"]
    )
    columns: dict[str, Any] = {}
    for at in range(COLUMNS):
        numbers = rng.integers(1, 10**6, CSV_ROWS)
        days = pd.Timestamp("2021-01-01") + pd.to_timedelta(numbers % 1400, unit="D")
        columns[f"栏目{at + 1}"] = (
            [f"6125{number:014d}" for number in numbers],
            words[numbers % len(words)],
            np.char.mod("%.2f", numbers / 100),
            days.strftime("%Y-%m-%d"),
        )[at % 4]
    table = pd.DataFrame(columns)
    for encoding in ("utf-8", "gb18030"):
        table.to_csv(Path(folder) / f"plain_{encoding}.csv", index=False, encoding=encoding)
    part = table.head(XLSX_ROWS)
    # Amounts as numbers, all else as text.
    part = part.astype(dict.fromkeys(part.columns[2::4], float))
    with xlsxwriter.Workbook(Path(folder) / "plain.xlsx", {"constant_memory": True}) as workbook:
        sheet = workbook.add_worksheet("Sheet1")
        sheet.write_row(0, 0, part.columns)
        for at, row in enumerate(part.itertuples(index=False), start=1):
            sheet.write_row(at, 0, row)
    return {}


def read_ours(folder: str, name: str) -> dict[str, Any]:
    from poverty_risk.sources.files import read_sheets

    return _read(Path(folder) / name, lambda path: read_sheets(path)[0].cells.shape)


def read_pandas(folder: str, name: str) -> dict[str, Any]:
    import pandas as pd

    encoding = Path(name).stem.partition("_")[2]
    return _read(
        Path(folder) / name, lambda path: pd.read_csv(path, dtype=str, encoding=encoding).shape
    )


def read_openpyxl(folder: str, name: str) -> dict[str, Any]:
    import openpyxl

    def read(path: Path) -> tuple[int, int]:
        workbook = openpyxl.load_workbook(path, read_only=True)
        rows = [list(row) for row in workbook["Sheet1"].iter_rows(values_only=True)]
        workbook.close()
        return len(rows) - 1, len(rows[0])

    return _read(Path(folder) / name, read)


def _read(path: Path, read: Callable[[Path], tuple[int, int]]) -> dict[str, Any]:
    """What reading a file costs beyond the program and its libraries."""
    forget_peak_memory()
    before = peak_memory_gb()
    _, seconds, shape = _time(lambda: read(path))
    assert shape == (XLSX_ROWS if path.suffix == ".xlsx" else CSV_ROWS, COLUMNS), shape
    size = path.stat().st_size / 1e6
    return seconds | {
        "megabytes": round(size, 1),
        "mb_per_second": round(size / seconds["seconds"], 1),
        "rows_per_second": round(shape[0] / seconds["seconds"]),
        "memory_gb": round(peak_memory_gb() - before, 2),
    }


def compare(folder: str, name: str, other: str, repeats: int) -> dict[str, Any]:
    """A file by both readers, turn by turn; the fastest reading of each, and their ratio."""
    readings: dict[str, list[dict[str, Any]]] = {"read_ours": [], other: []}
    for _ in range(repeats):
        for step, told in readings.items():
            told.append(run_fresh(__file__, step, folder, name))
    ours, theirs = (min(told, key=lambda figures: figures["seconds"]) for told in readings.values())
    return {
        "ours": ours,
        other.removeprefix("read_"): theirs,
        "times_as_fast": round(theirs["seconds"] / ours["seconds"], 2),
    }


# ------------------------------------------------------------------------------------------- the run


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        county = {
            "written": run_fresh(__file__, "write_files", str(options.households), folder),
            "import": run_fresh(__file__, "import_files", folder, "imported"),
            "build_history": run_fresh(__file__, "build", folder),
            "import_again": run_fresh(__file__, "import_files", folder, "unchanged"),
        }
        assert county["import"]["rows"] == county["written"]["rows"]
    with tempfile.TemporaryDirectory() as folder:
        run_fresh(__file__, "write_tables", folder)
        pairs = {
            "csv_utf_8": ("plain_utf-8.csv", "read_pandas"),
            "csv_gb18030": ("plain_gb18030.csv", "read_pandas"),
            "xlsx": ("plain.xlsx", "read_openpyxl"),
        }
        tables = {
            label: compare(folder, name, other, options.repeats)
            for label, (name, other) in pairs.items()
        }
    return {"aims": AIMS, "county": county, "tables": tables}


if __name__ == "__main__":
    steps = {
        step.__name__: step
        for step in (
            write_files, import_files, build, write_tables, read_ours, read_pandas, read_openpyxl,
        )
    }  # fmt: skip
    run_script(__file__, __doc__, measure, steps, {"households": 20_000, "repeats": 3})
