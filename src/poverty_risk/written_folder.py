"""Folders that a history was written to: whole or not at all, and trusted until somebody touches them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.household_index import ID, HouseholdIndex
from poverty_risk.rejected import Rejected, rejected_file
from poverty_risk.whole_files import exchange_folder

__all__ = [
    "INDEX_FILE",
    "LINE_FILE",
    "MANIFEST_FILE",
    "SUFFIXES",
    "Written",
    "WrittenHistory",
    "find_previous",
    "find_unfinished",
    "find_written",
    "hash_manifest",
    "read_index",
    "read_written",
    "write_folder",
]

logger = logging.getLogger(__name__)

LINE_FILE = "line.csv"
SUFFIXES = (".parquet", ".csv")
"""Files that may hold a table."""

MANIFEST_FILE = "history.json"
"""Which files `write_folder` wrote, with their hashes: what nobody touched is not validated again."""

MANIFEST_FORMAT = 3
"""Goes up whenever validation, canonical order or the files change, so that older folders are validated anew."""

INDEX_FILE = "households.arrow"
"""Where each household's rows are, so that ranges of households are read without looking for them."""

HASHERS = 2
"""Files hashed at a time."""

ROWS_PER_GROUP = 32_768
"""Rows of a table that are written, and can be read, at a time: a few thousand households."""


class Written(NamedTuple):
    """What a folder that nobody has touched since says of itself.

    Fields
    ------
    digest
        Another one, another history.
    end
        Where the data end; None where the writer could not be sure.
    """

    digest: str
    end: pd.Timestamp | None


class WrittenHistory(NamedTuple):
    """A history that `write_folder` wrote.

    Fields
    ------
    records
        Validated records by table name, with ``superseded_date``.
    rejection
        What was rejected.
    places
        Where each household's records are.
    facts
        What the folder says of itself.
    """

    records: dict[str, pa.Table]
    rejection: Rejected
    places: HouseholdIndex
    facts: Written


def read_written(folder: Path, schema: str) -> WrittenHistory | None:
    """Tables that `write_folder` wrote and nobody has touched since; None where that is not so.

    Parameters
    ----------
    folder
        The folder.
    schema
        Digest of the declared tables that they were validated against.

    Returns
    -------
    WrittenHistory or None
        All of it.
    """
    written = find_written(folder, schema)
    if written is None:
        return None
    try:
        files = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
        tables = {name: pq.read_table(path) for name, path in files.items()}
        index, rejection = read_index(folder), Rejected.read(files, sealed=True)
    except (OSError, pa.ArrowException):
        return None
    rows = {n: table.num_rows for n, table in tables.items() if ID in table.column_names}
    # Replaced while it was read: what stands there now is read as any other folder.
    same = hash_manifest(folder) == written.digest and index.fits(rows)
    return WrittenHistory(tables, rejection, index, written) if same else None


def read_index(folder: Path) -> HouseholdIndex:
    """Where the rows of each household are, in a folder that `find_written` knows."""
    return HouseholdIndex.from_table(feather.read_table(folder / INDEX_FILE))


def find_written(folder: Path, schema: str) -> Written | None:
    """What a folder that `write_folder` wrote says of itself; None where it was touched since.

    Parameters
    ----------
    folder
        The folder.
    schema
        Digest of the declared tables that the records were validated against.
    """
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
        manifest = json.loads(content)
    except (OSError, ValueError):
        return None
    end = manifest.get("end") if isinstance(manifest, dict) else None
    if manifest != _describe(folder, schema, end):
        logger.info("'%s' is not as it was written: all of it is validated.", folder.name)
        return None
    return Written(_hash(content), None if end is None else pd.Timestamp(end))


def _describe(folder: Path, schema: str, end: object) -> dict[str, Any]:
    """The manifest of a folder as it stands."""
    told = {"format": MANIFEST_FORMAT, "schema": schema, "files": _hash_files(folder)}
    if end is not None:
        # Sealed, because no file tells of it: an end moved by hand is no end that was written.
        told["end"] = end
        told["seal"] = _hash(json.dumps(told, sort_keys=True, default=str).encode())
    return told


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def hash_manifest(folder: Path) -> str | None:
    """Digest of what a folder says was written there, without a look at the files; None of others."""
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        return None
    return _hash(content)


def _hash_files(folder: Path) -> dict[str, str]:
    names = {INDEX_FILE, *(rejected_file(path.stem) for path in folder.glob("*.parquet"))}
    paths = [
        path
        for path in sorted(folder.iterdir())
        if (path.suffix.lower() in SUFFIXES or path.name in names) and not path.name.startswith(".")
    ]
    # The largest first: it would keep one waiting for the other at the end.
    by_size = sorted(paths, key=lambda p: p.stat().st_size if p.is_file() else 0, reverse=True)
    with ThreadPoolExecutor(HASHERS) as pool:
        hashes = dict(zip(by_size, pool.map(_hash_file, by_size), strict=True))
    return {path.name: hashes[path] for path in paths}


def _hash_file(path: Path) -> str:
    if not path.is_file():
        return ""  # a table that is a folder of files was not written here
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def write_folder(
    folder: Path,
    tables: Mapping[str, pa.Table],
    line: Mapping[int, float] | None,
    schema: str = "",
    end: pd.Timestamp | None = None,
    index: HouseholdIndex | None = None,
    rejection: Rejected | None = None,
) -> None:
    """Write one Parquet file per table, the line as CSV, what was rejected, and what `read_written` needs to trust them.

    The folder appears whole or not at all. An existing one is set aside under a hidden name until
    the new one stands, so that at no moment both are lost.

    Parameters
    ----------
    folder
        Where to; a folder that was written before is replaced.
    tables
        Tables by name.
    line
        Poverty line by year.
    schema
        Digest of the declared tables that the records were validated against.
    end
        Where the data end, so that a reader need not look through all of them; None if unknown.
    index
        Where each household's rows are; None for tables that nobody reads by household.
    rejection
        What was rejected; None where that is kept elsewhere.

    Raises
    ------
    HistoryError
        The place is taken by something else than tables written before.
    """
    folder = folder.resolve()  # what stands behind a link changes, not the link
    _check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=find_unfinished(folder), dir=folder.parent))
    try:
        for name, table in tables.items():
            pq.write_table(
                table,
                temporary / f"{name}.parquet",
                compression="zstd",
                row_group_size=ROWS_PER_GROUP,
            )
        if index is not None:
            feather.write_feather(index.to_table(), temporary / INDEX_FILE, compression="zstd")
        if rejection is not None:
            rejection.write({name: temporary / f"{name}.parquet" for name in tables})
        if line is not None:
            lines = pd.DataFrame({"year": list(line), "line": list(line.values())})
            lines.to_csv(temporary / LINE_FILE, index=False)
        manifest = _describe(temporary, schema, None if end is None else end.date().isoformat())
        (temporary / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        exchange_folder(temporary, folder, find_previous(folder), must_go=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_previous(folder: Path) -> Path:
    """Where the old state of a folder stands while a new one takes its place."""
    return folder.with_name(f".{folder.name}-previous")


def find_unfinished(folder: Path) -> str:
    """How the names of folders begin that are written beside a folder, to take its place."""
    return f".{folder.name}-writing-"


def _check_target(folder: Path) -> None:
    if folder.is_dir():
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        tables = [name for name in names if name.endswith(".parquet")]
        own = {LINE_FILE, MANIFEST_FILE, INDEX_FILE, *tables}
        own |= {rejected_file(Path(name).stem) for name in tables}
        foreign = sorted(set(names) - own)
        found = f"{len(foreign)} files that it did not write, such as '{''.join(foreign[:1])}'"
    else:
        foreign, found = [folder.name] * folder.exists(), "a file"
    if foreign:
        expected = "a new folder, or one that holds only tables written before"
        raise HistoryError(
            Fault(f"'{folder}'", found, expected, "Choose another folder; nothing was written.")
        )
