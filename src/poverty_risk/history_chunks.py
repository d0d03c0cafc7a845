"""Histories on disk, read by ranges of households, so that no more than one range is in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from poverty_risk.arrow_tables import find_line_faults, find_table_files, read_line
from poverty_risk.exceptions import DeclarationError, Fault, HistoryError
from poverty_risk.household_index import HouseholdIndex
from poverty_risk.observation import find_end, read_end
from poverty_risk.rejected import Rejected
from poverty_risk.schema import Schema, load_schema
from poverty_risk.tables import HistoryTables, digest_tables, read_history
from poverty_risk.written_folder import find_written, hash_manifest, read_index

__all__ = ["HOUSEHOLDS_PER_CHUNK", "HistoryFolder", "find_counties", "iter_history"]

logger = logging.getLogger(__name__)

HOUSEHOLDS_PER_CHUNK = 20_000
"""So many households are predicted within 1.5 GB; fewer cost more time, because each chunk has to be begun."""

HOUSEHOLD = "household_id"

KEPT = (HOUSEHOLD, "village_id", "event_date", "known_date", "superseded_date")
"""Columns that no choice leaves out."""

GROUPS_AT_ONCE = 128
"""Groups of rows of which one column is read at a time."""


def iter_history(
    folder: str | Path,
    households: int = HOUSEHOLDS_PER_CHUNK,
    schema: Schema | str | Path = "archive",
    line: Mapping[int, float] | None = None,
    observed_to: str | pd.Timestamp | None = None,
    columns: Mapping[str, Collection[str]] | None = None,
) -> Iterator[HistoryTables]:
    """Read a history by consecutive ranges of households, without ever holding all of it.

    Parameters
    ----------
    folder
        What `HistoryTables.write` wrote. Another folder, or one that was touched since, has to be
        validated: it is read whole, and the log says so.
    households
        Households of a range; the last one may have fewer.
    schema, line, observed_to
        As in `read_history`.
    columns
        Columns by table that are needed, such as `Catalog.find_columns` tells; ids and dates come
        along, and texts stay encoded as Parquet has them. Other tables are left out, and the next
        range is read ahead. None: all, which prediction points, labels and predictions need.

    Returns
    -------
    iterator of HistoryTables
        Each the same as ``read_history(folder).slice_households(start, stop)``: tables about villages
        whole, line, end, order numbers and rejected rows those of the whole history.

    Raises
    ------
    HistoryError
        The folder cannot be read.
    DeclarationError
        `households` is not positive.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import iter_history, make_household_history
    >>> tables = make_household_history(250, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tables.write(f"{folder}/county")
    ...     sizes = [len(part.households) for part in iter_history(f"{folder}/county", 100)]
    >>> sizes[:-1], sum(sizes) == len(tables.households)
    ([100, 100], True)
    """
    return HistoryFolder(folder, schema, line, observed_to).chunks(households, columns=columns)


def find_counties(folder: str | Path) -> dict[str, Path]:
    """The histories of a folder: itself, or one folder per county.

    Parameters
    ----------
    folder
        A folder of tables, or a folder of such folders, each named like its county.

    Returns
    -------
    dict
        Folders by county, sorted; a folder that holds tables itself is a county of its name.

    Raises
    ------
    HistoryError
        There is no table in either place, or tables lie in both.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history
    >>> tables = make_household_history(60, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as nation:
    ...     _ = tables.write(f"{nation}/anlu"), tables.write(f"{nation}/badong")
    ...     list(find_counties(nation))
    ['anlu', 'badong']
    """
    folder = Path(folder)
    own, faults = find_table_files(folder)
    inner = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name[0] not in "._" and find_table_files(path)[0]
    }
    if own and inner:
        remedy = "Move either of them elsewhere."
        found = f"tables, and tables in {len(inner)} folders"
        faults.append(Fault(f"'{folder.name}'", found, "one county or several", remedy))
    elif not own and not inner:
        remedy = "Check the path."
        faults.append(Fault(f"'{folder.name}'", "no table", "tables of a county", remedy))
    if faults:
        raise HistoryError(faults)
    return inner or {folder.resolve().name: folder}


class HistoryFolder:
    """A history on disk, of which ranges of households can be read one after the other.

    Parameters
    ----------
    folder, schema, line, observed_to
        As in `iter_history`.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history
    >>> tables = make_household_history(250, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as place:
    ...     history = HistoryFolder(tables.write(f"{place}/county"))
    ...     first = next(history.chunks(100))
    ...     rest = list(history.chunks(200, after=str(first.households[-1])))
    >>> len(first.households) + len(rest[0].households) == len(tables.households)
    True
    """

    def __init__(
        self,
        folder: str | Path,
        schema: Schema | str | Path = "archive",
        line: Mapping[int, float] | None = None,
        observed_to: str | pd.Timestamp | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._schema = schema if isinstance(schema, Schema) else load_schema(schema)
        self._whole: HistoryTables | None = None
        find_table_files(self._folder)  # no such folder
        written = find_written(self._folder, digest_tables(self._schema))
        if written is None:
            logger.warning(
                "'%s' was not written by this package, or touched since: all of it is read and "
                "validated in memory. read_history(...).write(...) once makes it readable in parts.",
                self._folder.name,
            )
            self._whole = read_history(self._folder, self._schema, line, observed_to)
            self._line, self._end = self._whole.line, self._whole.observed_to
            self._digest = _hash_whole(self._whole)
            return
        self._digest = written.digest
        self._line, faults = read_line(self._folder) if line is None else (dict(line), [])
        end, end_faults = read_end(observed_to)
        if faults := faults + find_line_faults(self._line) + end_faults:
            raise HistoryError(faults)
        end = end or written.end
        self._end = find_end(self._known_dates()) if end is None else end

    @property
    def digest(self) -> str:
        """Hash of what the history says: another one, another history."""
        return self._digest

    @property
    def line(self) -> Mapping[int, float] | None:
        """Poverty line by year in yuan per person and year."""
        return self._line

    @property
    def observed_to(self) -> pd.Timestamp:
        """First day about which nothing is on record any more."""
        return self._end

    @property
    def is_whole(self) -> bool:
        """Whether it had to be read into memory as a whole."""
        return self._whole is not None

    def chunks(
        self,
        households: int,
        after: str | None = None,
        columns: Mapping[str, Collection[str]] | None = None,
    ) -> Iterator[HistoryTables]:
        """Ranges of `households` households each, from the first one after the id `after` on."""
        if households < 1:
            fault = Fault("households", str(households), "a positive number", "Give 20,000.")
            raise DeclarationError(fault)
        if self._whole is None:
            ranges = self._read(households, after, columns)
            # Two whole ranges would take too much memory for what else is held beside them.
            return ranges if columns is None else _read_ahead(ranges)
        return _slice(_choose(self._whole, columns), households, after)

    def _known_dates(self) -> Iterator[pa.ChunkedArray]:
        for path in self._folder.glob("*.parquet"):
            file = pq.ParquetFile(path)
            for first in range(0, file.num_row_groups, GROUPS_AT_ONCE):
                groups = range(first, min(first + GROUPS_AT_ONCE, file.num_row_groups))
                yield file.read_row_groups(groups, columns=["known_date"])["known_date"]

    def _tell_changed(self) -> HistoryError:
        """That the files are not those that the digest tells of."""
        found, remedy = "another history since it was opened", "Begin anew."
        return HistoryError(Fault(f"history '{self._folder.name}'", found, "the same one", remedy))

    def _read(
        self, households: int, after: str | None, columns: Mapping[str, Collection[str]] | None
    ) -> Iterator[HistoryTables]:
        paths = sorted(self._folder.glob("*.parquet"))
        try:
            index = read_index(self._folder)
            files = {
                p.stem: _open(p, None if columns is None else columns.get(p.stem, ()))
                for p in paths
            }
            # Cohorts and answers need all columns; features alone tell of no rejected row.
            rejects = {p.stem: p for p in paths} if columns is None else {}
            rejection = Rejected.read(rejects, sealed=True)
        except (OSError, pa.ArrowException):
            raise self._tell_changed() from None
        rows = {n: f.parquet.metadata.num_rows for n, f in files.items() if HOUSEHOLD in f.names}
        if hash_manifest(self._folder) != self._digest or not index.fits(rows):
            raise self._tell_changed()
        wanted = {name: file for name, file in files.items() if columns is None or name in columns}
        readers = {
            name: _Reader(file, whole=columns is None)
            for name, file in wanted.items()
            if name in rows
        }
        villages = {n: _numbered(f.read(), 0) for n, f in wanted.items() if n not in rows}
        index = index.keep(readers)
        for start, stop in _cut(index.households, households, after):
            own = index.cut(start, stop)
            records = {n: r.take(*index.offsets[n][[start, stop]]) for n, r in readers.items()}
            if columns is not None:
                records = _name_households(records, own)
            yield HistoryTables(
                *(self._schema, records | villages, rejection, self._line, self._end),
                index=own,
                some=True,
            )


def _hash_whole(tables: HistoryTables) -> str:
    """Hash of a history and of what was rejected, because a household's answer may tell of that, too."""
    rejected = [tables.rejected, *(tables.rejected_rows(name) for name in tables.schema.tables)]
    told = hashlib.blake2b(tables.fingerprint.encode(), digest_size=16)
    for rows in rejected:
        told.update(rows.to_csv(index=False).encode())
    return told.hexdigest()


def _read_ahead(ranges: Iterator[HistoryTables]) -> Iterator[HistoryTables]:
    """The same, each read while the caller computes on the one before."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(next, ranges, None)
        while (current := waiting.result()) is not None:
            waiting = pool.submit(next, ranges, None)
            yield current


def _choose(tables: HistoryTables, columns: Mapping[str, Collection[str]] | None) -> HistoryTables:
    """The same with the chosen columns only."""
    if columns is None:
        return tables
    names = [name for name in tables.names if name in columns]
    records = {}
    for name in names:
        kept = {*KEPT, "record_order", *columns[name]}
        table = tables.arrow(name)
        records[name] = table.select([one for one in table.column_names if one in kept])
    about_households = [name for name in names if HOUSEHOLD in records[name].column_names]
    index = HouseholdIndex.build({name: tables.arrow(name) for name in tables.names})
    return HistoryTables(
        *(tables.schema, records, tables.rejection, tables.line, tables.observed_to),
        index=index.keep(about_households),
    )


def _slice(tables: HistoryTables, households: int, after: str | None) -> Iterator[HistoryTables]:
    for start, stop in _cut(tables.households, households, after):
        yield tables.slice_households(start, stop)


def _cut(ids: np.ndarray, households: int, after: str | None) -> Iterator[tuple[int, int]]:
    """First household and the one after the last of each range."""
    begin = 0 if after is None else int(np.searchsorted(ids, after, side="right"))
    for start in range(begin, len(ids), households):
        yield start, min(start + households, len(ids))


class _File(NamedTuple):
    """A Parquet file, and the columns of it that are read."""

    parquet: pq.ParquetFile
    names: list[str]

    def read(self) -> pa.Table:
        """All rows."""
        return self.parquet.read(columns=self.names)


def _open(path: Path, columns: Collection[str] | None) -> _File:
    file = pq.ParquetFile(path)
    if columns is None:
        return _File(file, file.schema_arrow.names)
    fields = [one for one in file.schema_arrow if one.name in KEPT or one.name in columns]
    texts = [one.name for one in fields if pa.types.is_string(one.type)]
    return _File(pq.ParquetFile(path, read_dictionary=texts), [one.name for one in fields])


class _Reader:
    """The rows of one table, given out in order: what was read and not yet taken."""

    def __init__(self, file: _File, *, whole: bool) -> None:
        self._file, names = file
        self._names = [name for name in names if whole or name != HOUSEHOLD]
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._row, self._group = 0, 0
        self._rows = self._file.schema_arrow.empty_table().select(self._names)

    def take(self, first: int, last: int) -> pa.Table:
        """Rows `first` to `last` (excluded), none of them before those taken last."""
        if last > first:
            self._hold(first, last)
        return _numbered(self._rows.slice(0, last - first), first)

    def _hold(self, first: int, last: int) -> None:
        """Read on up to row `last`, and let go what stands before row `first`."""
        begin = int(np.searchsorted(self._ends, first, side="right"))
        if begin > self._group:  # nothing of what is held, or between, is wanted
            self._group, self._row = begin, int(self._ends[begin - 1])
            self._rows = self._rows.slice(0, 0)
        end = int(np.searchsorted(self._ends, last)) + 1
        if end > self._group:
            read = self._file.read_row_groups(range(self._group, end), columns=self._names)
            self._rows, self._group = pa.concat_tables([self._rows, read]), end
        self._rows, self._row = self._rows.slice(first - self._row), first


def _name_households(records: Mapping[str, pa.Table], index: HouseholdIndex) -> dict[str, pa.Table]:
    """The records with their households, as the index has them: that takes less than decoding ids."""
    ids = pa.array(index.households.tolist(), pa.string())
    places = np.arange(len(ids), dtype=np.int32)
    named = {}
    for name, rows in records.items():
        codes = pa.array(np.repeat(places, np.diff(index.offsets[name])))
        column = pa.DictionaryArray.from_arrays(codes, ids)
        named[name] = rows.add_column(0, HOUSEHOLD, column)
    return named


def _numbered(rows: pa.Table, first: int) -> pa.Table:
    numbers = np.arange(first, first + rows.num_rows)
    return rows.append_column("record_order", pa.array(numbers))
