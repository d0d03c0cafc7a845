"""The door for files: what kind a file is by its content, and its sheets as text."""

from __future__ import annotations

from pathlib import Path

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.sources.raw import RawSheet
from poverty_risk.sources.text_files import read_text_file
from poverty_risk.sources.workbooks import read_workbook

__all__ = ["read_sheets"]

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FOREIGN = {
    b"%PDF": "a PDF",
    b"PK\x05\x06": "an empty archive",
    b"Rar!": "an archive",
    b"7z\xbc\xaf": "an archive",
    b"\x1f\x8b": "a compressed file",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"SQLite format 3": "a database",
    b"{\\rtf": "a text document",
}
_LOCKS = ("~${name}", ".~{name}", ".~lock.{name}#")
"""What Excel, WPS and LibreOffice leave beside a workbook while somebody has it open."""

_KINDS = "an XLSX or XLS workbook, or a CSV or TXT file"


def read_sheets(path: str | Path) -> list[RawSheet]:
    r"""Read a file as it came, every cell as text.

    What a file is, its content tells, never its name. CSV may be in UTF-8 with or without a mark at
    its start, in UTF-16 with one, or in GB18030, with any usual delimiter. Titles above the header,
    headers of two rows, totals, repeated headers and notes are told apart from records.

    Parameters
    ----------
    path
        A CSV, TXT, XLSX or XLS file.

    Returns
    -------
    list of RawSheet
        One per sheet that is not empty, with unique headers; numbers as the file holds them, dates
        as ``2023-05-31``. Every row of the file is a record or is listed as skipped: as ``title``,
        ``header``, ``repeated header``, ``total``, ``note`` or ``blank``; as ``uneven``, a record
        with too many or too few fields, which belongs to the rejected ones; or as ``no header`` in
        a sheet without one, which has no columns.

    Raises
    ------
    PovertyRiskError
        No such file, open in another program, cut off, protected, of another kind, or larger inside
        than any real one. No message quotes a cell.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "list.csv")
    ...     _ = path.write_text("List of May,,\nid,income\n1,900\nTotal,900\n", encoding="utf-8")
    ...     (sheet,) = read_sheets(path)
    >>> sheet.cells.to_pydict(), sheet.rows.to_pylist()
    ({'id': ['1'], 'income': ['900']}, [3])
    >>> [(one.row, one.why) for one in sheet.skipped]
    [(1, 'title'), (2, 'header'), (4, 'total')]
    """
    path = Path(path)
    _check_free(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
        return _read(path, start)
    except OSError as error:
        raise PovertyRiskError(_file_fault(path, error)) from None
    except MemoryError:
        raise PovertyRiskError(
            Fault(path.name, "more than memory holds", "a smaller file", "Split the file.")
        ) from None


def _read(path: Path, start: bytes) -> list[RawSheet]:
    if not start:
        raise PovertyRiskError(Fault(path.name, "an empty file", _KINDS, "Export it again."))
    if start.startswith(_ZIP):
        return read_workbook(path, "xlsx")
    if start.startswith(_OLE):
        return read_workbook(path, "xls")
    foreign = next((name for sign, name in _FOREIGN.items() if start.startswith(sign)), None)
    if foreign is None and start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        # What many systems offer as .xls is a page or the XML of Excel 2003.
        foreign = "a web page or XML"
    if foreign is not None:
        remedy = "Open it in a spreadsheet program and save it as XLSX, or export it as CSV."
        raise PovertyRiskError(Fault(path.name, foreign, _KINDS, remedy))
    return read_text_file(path)


def _check_free(path: Path) -> None:
    """Raise where the path is no file, or one that somebody has open."""
    if path.name.startswith(("~$", ".~")):
        remedy = "Read the workbook itself, once it is closed."
        raise PovertyRiskError(
            Fault(path.name, "the mark of a workbook that is open", _KINDS, remedy)
        )
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise PovertyRiskError(Fault(f"'{path}'", found, _KINDS, "Check the path."))
        names = [lock.format(name=path.name) for lock in _LOCKS]
        lock = next((name for name in names if path.with_name(name).exists()), None)
    except (OSError, ValueError):
        # A name that is too long for the system, or that no file can have.
        raise PovertyRiskError(
            Fault("path of a source", "a name that no file has", _KINDS, "Check the path.")
        ) from None
    if lock is not None:
        raise PovertyRiskError(
            Fault(
                path.name,
                f"open in another program ('{lock}' lies beside it)",
                "a file that nobody is changing",
                f"Save and close it; if nobody has it open, delete '{lock}'.",
            )
        )


def _file_fault(path: Path, error: OSError) -> Fault:
    if isinstance(error, PermissionError):
        remedy = "Close it in Excel, or ask for the right to read it."
        return Fault(path.name, "no access", "a file that is closed and may be read", remedy)
    found = error.strerror or type(error).__name__
    return Fault(path.name, found, "a file to read", "Check the file and its disk; copy it again.")
