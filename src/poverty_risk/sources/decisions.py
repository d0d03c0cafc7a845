"""The file in which a person decides who is the same: near misses with a column to fill in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.sources.disk import telling_failures
from poverty_risk.sources.links import NEAR_MISSES
from poverty_risk.sources.words import load_source_words, normalise_text
from poverty_risk.whole_files import write_whole_file

__all__ = ["DECISIONS_FILE", "read_decisions", "write_decisions"]

DECISIONS_FILE = "near_misses.csv"
_COLUMNS = tuple(NEAR_MISSES.names)


def read_decisions(path: Path) -> pa.Table:
    """Read what was decided about near misses.

    Parameters
    ----------
    path
        The file; where there is none, nothing was decided.

    Returns
    -------
    pyarrow.Table
        As `NEAR_MISSES`, ``same_person`` being yes, no or null.

    Raises
    ------
    HistoryError
        The file cannot be read, lacks a column, or holds an answer that is neither yes nor no.

    Examples
    --------
    >>> read_decisions(Path("no such file.csv")).num_rows
    0
    """
    if not path.exists():
        return NEAR_MISSES.empty_table()
    with telling_failures(path.name, "Close it in other programs."):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What Excel makes of it when it is saved as a plain CSV in China.
        text = content.decode("gb18030", errors="replace")
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    faults: list[Fault] = []
    if lines and (missing := [name for name in _COLUMNS if name not in lines[0]]):
        remedy = "Restore the header, or delete the file and decide again."
        raise HistoryError(Fault(path.name, "another header", f"'{missing[0]}' too", remedy))
    rows = [_read_line(path, number, line, faults) for number, line in enumerate(lines, start=2)]
    if faults:
        raise HistoryError(faults)
    return pa.Table.from_pylist(rows, schema=NEAR_MISSES)


def _read_line(
    path: Path, number: int, line: dict[str, str | None], faults: list[Fault]
) -> dict[str, object]:
    words = load_source_words()
    row: dict[str, object] = {name: line[name] or None for name in _COLUMNS}
    row["row"] = int(str(line["row"])) if str(line["row"] or "").isdigit() else None
    answer = normalise_text(line["same_person"] or "").casefold()
    if answer in words.yes or answer in words.no:
        row["same_person"] = "yes" if answer in words.yes else "no"
    elif answer:
        place, expected = f"{path.name}, line {number}", "yes, no or nothing in 'same_person'"
        faults.append(Fault(place, f"'{answer[:20]}'", expected, "Correct the answer."))
    return row


def write_decisions(path: Path, near_misses: pa.Table, decided: pa.Table) -> None:
    """Write near misses for a person to decide; what was decided before is never lost.

    Parameters
    ----------
    path
        The file, which is replaced whole or not at all.
    near_misses
        As `NEAR_MISSES`, as found now.
    decided
        As read before.

    Raises
    ------
    HistoryError
        The file cannot be written, because it is open in another program, for instance.

    Examples
    --------
    >>> import tempfile
    >>> pair = {"kind": "bills", "person_id": "c", "candidate_id": "p", "why": "same name"}
    >>> near = pa.Table.from_pylist([pair], schema=NEAR_MISSES)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "near_misses.csv"
    ...     write_decisions(path, near, NEAR_MISSES.empty_table())
    ...     read_decisions(path).equals(near)
    True
    """
    now = near_misses.to_pylist()
    pairs = {(row["person_id"], row["candidate_id"]) for row in now}
    now += [
        row
        for row in decided.to_pylist()
        if row["same_person"] and (row["person_id"], row["candidate_id"]) not in pairs
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([_plain(row[name]) for name in _COLUMNS] for row in now)
    content = text.getvalue().encode("utf-8-sig")
    with telling_failures(path.name, "Close it in other programs and run the import again."):
        if not path.exists() or path.read_bytes() != content:
            write_whole_file(path, content)


def _plain(value: object) -> object:
    """A cell that no spreadsheet program takes for a formula."""
    is_formula = isinstance(value, str) and value[:1] in "=+-@\t\r" and value
    return f"'{value}" if is_formula else value
