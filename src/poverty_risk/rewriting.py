"""Change the records of a history folder or an import store: all or none, and nothing old stays."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from poverty_risk.arrow_tables import find_table_files, read_table_file
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.file_lock import hold_lock
from poverty_risk.raw_text import decode
from poverty_risk.rejected import Rejected, rejected_file
from poverty_risk.sources.delivery import Delivery
from poverty_risk.sources.raw import Converted
from poverty_risk.sources.store import Store
from poverty_risk.whole_files import exchange_folder
from poverty_risk.written_folder import INDEX_FILE, MANIFEST_FILE, find_previous, find_unfinished

logger = logging.getLogger(__name__)

__all__ = ["read_tables_of", "rewrite_folder", "rewrite_store"]


def read_tables_of(folder: str | Path) -> dict[str, pa.Table]:
    r"""The raw tables of a folder by name; an interrupted rewriting is taken back or completed first.

    Parameters
    ----------
    folder
        Folder with ``<table>.parquet`` or ``<table>.csv``.

    Returns
    -------
    dict
        Raw tables; every column of a CSV is text.

    Raises
    ------
    HistoryError
        No such folder, or files that cannot be read: all in one error.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "shock.csv").write_text("household_id\na\n")
    ...     read_tables_of(folder)["shock"].num_rows
    1
    """
    folder = Path(folder).resolve()
    _recover_folder(folder)
    paths, faults = find_table_files(folder)
    raw = {}
    for name, path in paths.items():
        try:
            raw[name] = read_table_file(path)
        except HistoryError as error:
            faults += error.faults
    if faults:
        raise HistoryError(faults)
    return raw


def rewrite_folder(
    folder: str | Path,
    change: Callable[[dict[str, pa.Table], Rejected], tuple[dict[str, pa.Table], Rejected]],
) -> None:
    r"""Give the tables of a folder other rows or values.

    Parameters
    ----------
    folder
        Folder of tables; its other files are kept as they are.
    change
        Gets the raw tables by name, and what was rejected before the folder was written; gives back
        the tables that changed, and what becomes of the rejected rows (the same object: they stay).

    Raises
    ------
    HistoryError
        The folder cannot be read or written; then it is as it was.

    Notes
    -----
    A new folder is written beside the old one, and takes its place in one step; then the old one is
    deleted. Killed before that step, the old state is there; killed after it, the new one, and what is
    left of the old one is deleted when the folder is next read here. Files keep their format.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = Path(root, "history")
    ...     folder.mkdir()
    ...     _ = (folder / "shock.csv").write_text("household_id\na\nb\n")
    ...     rewrite_folder(folder, lambda old, rejected: ({"shock": old["shock"].slice(1)}, rejected))
    ...     (folder / "shock.csv").read_text().split()
    ['"household_id"', '"b"']
    """
    folder = Path(folder).resolve()  # what stands behind a link changes, not the link
    with hold_lock(folder, f"history folder '{folder.name}'"):
        tables = read_tables_of(folder)
        paths, _ = find_table_files(folder)
        before = Rejected.read(paths, sealed=False)
        changed, rejection = change(tables, before)
        # Rejected rows of a file that is not there any more, or that cannot be read, nobody can look through.
        rejects = {rejected_file(name): name for name in paths}
        there = [name for name in rejects if (folder / name).exists()]
        lost = [name for name in there if rejects[name] not in before.rows]
        if not changed and rejection is before and not lost:
            return
        _check_no_links([paths[name] for name in changed])
        if lost:
            told = ", ".join(lost)
            logger.warning("Rejected rows of tables that were exchanged are deleted: %s.", told)
        replaced = {paths[name].name for name in changed} | {MANIFEST_FILE, INDEX_FILE, *there}
        temporary = _beside(folder, "rewriting")

        def leave_out(place: str, names: list[str]) -> set[str]:
            # Of what lies deeper everything is kept.
            return replaced.intersection(names) if Path(place) == folder else set()

        with _exchanging(folder, temporary):
            shutil.copytree(folder, temporary, ignore=leave_out)
            for name, table in changed.items():
                _write(decode(table), temporary / paths[name].name)
                shutil.copymode(paths[name], temporary / paths[name].name)
            rejection.write({name: temporary / path.name for name, path in paths.items()})


def rewrite_store(
    folder: str | Path,
    key: bytes,
    change: Callable[[list[tuple[Converted, ...]]], list[tuple[Converted, ...]]],
    new_key: bytes | None = None,
) -> None:
    """Give the deliveries of an import store other rows or ids.

    Parameters
    ----------
    folder
        The store.
    key
        The key of its ids.
    change
        Gets the sheets of each delivery in the order of import, with what the office keeps privately,
        and gives back as many; a delivery without sheets is removed.
    new_key
        The key of its ids afterwards, if it is another.

    Raises
    ------
    HistoryError
        The store cannot be read or written; then it is as it was.

    Notes
    -----
    A new store is written beside the old one and takes its place in one step, as in `rewrite_folder`.
    An import that runs at the same time waits, or is told that the store is held.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     with Store(f"{root}/store").writing(b"0123456789abcdef"):
    ...         pass
    ...     rewrite_store(f"{root}/store", b"0123456789abcdef", lambda found: found, b"fedcba9876543210")
    ...     with Store(f"{root}/store").writing(b"fedcba9876543210"):
    ...         print(Store(f"{root}/store").deliveries())
    ()
    """
    folder = Path(folder).resolve()
    store = Store(folder)
    with hold_lock(folder, f"store '{folder.name}'"):
        _recover_folder(folder)
        with store.writing(key):
            deliveries = sorted(store.deliveries(), key=lambda item: item.number)
            changed = change([_read_whole(store, item) for item in deliveries])
            temporary = _beside(folder, "rewriting")
            with _exchanging(folder, temporary):
                new = Store(temporary)
                with new.writing(new_key or key):
                    for delivery, sheets in zip(deliveries, changed, strict=True):
                        if sheets:
                            new.add(delivery.origin, sheets, delivery.unread)
                # What lies beside the deliveries, such as decisions about persons.
                own = ("imports", "office_only", "store.json", ".*")
                others = shutil.ignore_patterns(*own)
                shutil.copytree(folder, temporary, ignore=others, dirs_exist_ok=True)


def _read_whole(store: Store, delivery: Delivery) -> tuple[Converted, ...]:
    """The sheets of a delivery; what is private of all of them is with the first."""
    first, *rest = store.read(delivery)
    return (dataclasses.replace(first, private=store.read_private(delivery)), *rest)


def _check_no_links(paths: list[Path]) -> None:
    """What is behind a link would stay as it is."""
    faults = [
        Fault(f"table '{path.stem}'", "a link to a file elsewhere", "a file", "Put the file there.")
        for path in paths
        if path.is_symlink()
    ]
    if faults:
        raise HistoryError(faults)


def _write(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:
        if path.suffix.lower() == ".csv":
            pa_csv.write_csv(table, file)
        else:
            pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _beside(folder: Path, what: str) -> Path:
    """A hidden name beside a folder."""
    return folder.with_name(f".{folder.name}-{what}")


@contextlib.contextmanager
def _exchanging(folder: Path, temporary: Path) -> Iterator[None]:
    """Let what the block writes to a temporary folder take the place of a folder, which is deleted.

    Parameters
    ----------
    folder
        What is replaced once the block has ended without an error.
    temporary
        Where the block writes; on the same disk.

    Raises
    ------
    HistoryError
        The disk refused. The folder is as it was, unless only the old one could not be deleted.
    """
    try:
        yield
        exchange_folder(temporary, folder, find_previous(folder), must_go=True)
    except OSError as error:
        place, remedy = f"folder '{folder.name}'", "Make room, or check who may write there."
        found = str(error.strerror)
        raise HistoryError(Fault(place, found, "a place to write", remedy)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _recover_folder(folder: Path) -> None:
    """Complete or take back what a killed program left.

    Raises
    ------
    HistoryError
        What is left cannot be removed.
    """
    previous = find_previous(folder)
    try:
        if previous.is_dir():
            if folder.is_dir():
                shutil.rmtree(previous)
            else:
                previous.rename(folder)
        left = [_beside(folder, "rewriting")]
        if folder.parent.is_dir():
            left += folder.parent.glob(f"{find_unfinished(folder)}*")
        for temporary in left:
            if temporary.is_dir():
                shutil.rmtree(temporary)
    except OSError as error:
        found = f"an old state that cannot be removed ({error.strerror})"
        place, remedy = f"folder '{folder.name}'", f"Remove '{previous.name}' beside it."
        raise HistoryError(Fault(place, found, "the folder alone", remedy)) from None
