"""Files that are written whole or not at all, and for whom."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from poverty_risk.exceptions import Fault, PovertyRiskError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PRIVATE",
    "exchange_folder",
    "replacing",
    "telling_write_failures",
    "write_private_table",
    "write_whole_file",
]

PRIVATE = 0o600
"""Mode of what tells of households: only its owner can read it, until the office passes it on."""


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A new file beside a path, which takes its place when the block ends well.

    Parameters
    ----------
    path
        What is written or replaced; its folder is there.
    mode
        Who may read it, from the first byte on.

    Yields
    ------
    Path
        The empty file to fill.

    Raises
    ------
    OSError
        The disk cannot be written; what stood at the path still does.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "table.csv", PRIVATE) as new:
    ...         _ = new.write_text("a")
    ...     (Path(folder) / "table.csv").read_text()
    'a'
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file whole or not at all; it is on the disk when this returns (see `replacing`).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole_file(Path(folder) / "store.json", b"{}")
    """
    with replacing(path, mode) as temporary, temporary.open("r+b") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def exchange_folder(new: Path, folder: Path, aside: Path, *, must_go: bool) -> None:
    """Let a new folder take the place of an old one, which is deleted: at no moment both are lost.

    Parameters
    ----------
    new
        What takes the place, on the same disk.
    folder
        The place; there need not be anything.
    aside
        Where the old one stands until the new one does; killed in between, it is found there.
    must_go
        Whether an old one that cannot be deleted is an error, because what is in it is to be forgotten.

    Raises
    ------
    OSError
        The disk refused; all is as it was, or only the old one is left aside.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     old, new = Path(root) / "history", Path(root) / "new"
    ...     for place in (old, new):
    ...         place.mkdir()
    ...         _ = (place / place.name).write_text("")
    ...     exchange_folder(new, old, Path(root) / "aside", must_go=True)
    ...     [path.relative_to(root).as_posix() for path in sorted(Path(root).rglob("*"))]
    ['history', 'history/new']
    """
    if folder.is_dir():
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=not must_go)
        folder.rename(aside)
    try:
        new.rename(folder)
    except BaseException:
        if aside.is_dir():
            aside.rename(folder)
        raise
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=not must_go)


@contextlib.contextmanager
def telling_write_failures(place: str, remedy: str = "Check the path.") -> Iterator[None]:
    """Failures to write within the block as a fault.

    Parameters
    ----------
    place
        What is written.
    remedy
        What the reader can do.

    Raises
    ------
    PovertyRiskError
        The block failed on the disk.

    Examples
    --------
    >>> with telling_write_failures("key file 'a.key'"):
    ...     raise PermissionError(13, "Permission denied")
    Traceback (most recent call last):
    poverty_risk.exceptions.PovertyRiskError: key file 'a.key': found Permission denied; expected ...
    """
    try:
        yield
    except OSError as error:
        fault = Fault(place, str(error.strerror), "a file to write", remedy)
        raise PovertyRiskError(fault) from None


def write_private_table(table: pd.DataFrame, path: Path, encoding: str = "utf-8") -> None:
    r"""Write a table of the office, CSV or Parquet, whole or not at all, for its owner alone.

    Parameters
    ----------
    table
        What is written, without its index.
    path
        The file, by its ending; its folder is made.
    encoding
        Of a CSV; ``utf-8-sig`` where somebody opens it in a spreadsheet.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "office_only" / "who.csv"
    ...     write_private_table(pd.DataFrame({"id": ["H1"]}), path)
    ...     path.read_text()
    'id\nH1\n'
    """
    with telling_write_failures(f"'{path.name}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, PRIVATE) as temporary:
            if path.suffix.lower() == ".parquet":
                table.to_parquet(temporary, index=False)
            else:
                table.to_csv(temporary, index=False, encoding=encoding)
