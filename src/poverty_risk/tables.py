"""History tables: validated, immutable, sorted by household, with what was rejected beside them."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.arrow_tables import (
    compute_fingerprint,
    find_line_faults,
    find_table_files,
    read_line,
    read_table_file,
    to_raw_tables,
)
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.household_index import HouseholdIndex
from poverty_risk.observation import find_end, read_end
from poverty_risk.rejected import Rejected, find_owners
from poverty_risk.schema import Schema, load_schema
from poverty_risk.structure import validate_each
from poverty_risk.windows import parse_as_of_dates
from poverty_risk.written_folder import WrittenHistory, read_written, write_folder

__all__ = ["HistoryTables", "digest_tables", "read_history"]

logger = logging.getLogger(__name__)


class HistoryTables:
    """The validated history of households: one immutable Arrow table per declared table.

    Make it with `HistoryTables.from_frames` or `read_history`. Records are sorted by household, event
    date, known date and then by all other columns, so that nothing depends on the order of a file.

    Parameters
    ----------
    schema
        What is declared.
    records
        Accepted records by table name, canonical order.
    rejection
        What was rejected, with its faults.
    line
        Poverty line by year in yuan per person and year; None when not given.
    observed_to
        First day about which nothing is on record any more.
    index
        Where each household's records lie, when that is known already.
    some
        Whether these are only some of the households that `rejection` tells of.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import HistoryTables, load_schema
    >>> shock = pd.DataFrame({"household_id": ["a", "a"], "event_date": ["2023-05-01", "2023-06-01"],
    ...     "known_date": ["2023-05-09", "2023-05-01"], "kind": ["flood", "fire"], "loss": [900, 1]})
    >>> tables = HistoryTables.from_frames({"shock": shock}, load_schema("archive"))
    >>> len(tables["shock"]), tables.rejected.loc[0, "expected"]
    (1, 'known on or after the day it happened')
    """

    def __init__(
        self,
        schema: Schema,
        records: Mapping[str, pa.Table],
        rejection: Rejected,
        line: Mapping[int, float] | None,
        observed_to: pd.Timestamp,
        *,
        index: HouseholdIndex | None = None,
        some: bool = False,
    ) -> None:
        self._some = some
        self._schema = schema
        self._records = MappingProxyType(dict(records))
        self._rejection = rejection
        # One type of number, so that 5000 and 5000.0 are the same line.
        years = None if line is None else {int(y): float(v) for y, v in sorted(line.items())}
        self._line = None if years is None else MappingProxyType(years)
        self._observed_to = observed_to
        self._index = HouseholdIndex.build(self._records) if index is None else index

    @classmethod
    def from_frames(
        cls,
        frames: Mapping[str, pd.DataFrame | pa.Table],
        schema: Schema | None = None,
        line: Mapping[int, float] | None = None,
        observed_to: str | pd.Timestamp | None = None,
    ) -> HistoryTables:
        """Validate raw tables.

        Parameters
        ----------
        frames
            Raw tables by declared name. Values may be text; blank text and NaN are missing.
        schema
            What is declared; the shipped archive by default.
        line
            Poverty line by year, yuan per person and year.
        observed_to
            First day about which nothing is on record any more; by default the day after the last
            known date of any record.

        Returns
        -------
        HistoryTables
            Accepted records, and all that was rejected with its reasons.

        Raises
        ------
        HistoryError
            Undeclared tables or columns, missing required columns, a line that is not a positive
            number by year: all in one error. Tables of which no row could be read: in one error.
        """
        schema = schema or load_schema("archive")
        raw, faults = to_raw_tables(frames)
        loads = {name: functools.partial(raw.__getitem__, name) for name in raw}
        return _validate(loads, schema, line, observed_to, faults, Rejected.of({}))

    @property
    def schema(self) -> Schema:
        """What is declared."""
        return self._schema

    @property
    def names(self) -> tuple[str, ...]:
        """Tables that are there, in the order of the schema."""
        return tuple(name for name in self._schema.tables if name in self._records)

    @property
    def absent(self) -> tuple[str, ...]:
        """Declared tables that the office does not have."""
        return tuple(name for name in self._schema.tables if name not in self._records)

    @property
    def rejected(self) -> pd.DataFrame:
        """One line per fault of a rejected row: table, row, column, found, expected."""
        return self._rejection.faults.copy()

    @property
    def rejection(self) -> Rejected:
        """All that was rejected, of the whole history even where these are some of its households."""
        return self._rejection

    def rejected_rows(self, name: str) -> pd.DataFrame:
        """The raw rejected rows of a table with their position in column ``row``."""
        if name not in self._rejection.rows:
            return pd.DataFrame({"row": pd.Series(dtype="int64")})
        frame: pd.DataFrame = self._rejection.rows[name].to_pandas()
        return frame

    @property
    def line(self) -> Mapping[int, float] | None:
        """Poverty line by year in yuan per person and year."""
        return self._line

    @property
    def observed_to(self) -> pd.Timestamp:
        """First day about which nothing is on record any more."""
        return self._observed_to

    @property
    def households(self) -> np.ndarray:
        """Sorted ids of all households with any record, shape (n_households,); read-only."""
        return self._index.households

    def offsets(self, name: str) -> np.ndarray:
        """Where each household's records begin in a table, and the end, shape (n_households + 1,)."""
        return self._index.offsets[name]

    def arrow(self, name: str) -> pa.Table:
        """Accepted records of a table as Arrow, with ``superseded_date`` and ``record_order``."""
        if name not in self._records:
            declared = name in self._schema.tables
            raise HistoryError(
                Fault(
                    "table",
                    f"'{name}'{' (declared, but this office does not have it)' * declared}",
                    f"one of {', '.join(self.names)}",
                    "Check `tables.names` first.",
                )
            )
        return self._records[name]

    def __getitem__(self, name: str) -> pd.DataFrame:
        records = self.arrow(name)
        # A history on disk may have been read with fewer columns.
        declared = self._schema.tables[name].all_columns
        columns = [column for column in declared if column in records.column_names]
        dates = [f.name for f in records.schema if pa.types.is_date(f.type)]
        frame: pd.DataFrame = records.select(columns).to_pandas(date_as_object=False)
        return frame.astype(dict.fromkeys([d for d in dates if d in frame], "datetime64[us]"))

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {self._records[name].num_rows:,}" for name in self.names)
        return (
            f"HistoryTables({self._schema.name}: {len(self.households):,} households; {counts}; "
            f"{len(self._rejection.faults):,} faults in rejected rows)"
        )

    def with_line(self, line: Mapping[int, float]) -> HistoryTables:
        """The same tables with a poverty line by year."""
        if faults := find_line_faults(line):
            raise HistoryError(faults)
        return self._derive(self._records, self._index, line=line)

    def _derive(
        self,
        records: Mapping[str, pa.Table],
        index: HouseholdIndex | None,
        *,
        line: Mapping[int, float] | None = None,
        observed_to: pd.Timestamp | None = None,
        some: bool = False,
    ) -> HistoryTables:
        return HistoryTables(
            self._schema,
            records,
            self._rejection,
            line if line is not None else self._line,
            observed_to if observed_to is not None else self._observed_to,
            index=index,
            some=some or self._some,
        )

    def slice_households(self, start: int, stop: int) -> HistoryTables:
        """Households number `start` to `stop` (excluded) of `households`, without copying.

        Tables about villages stay whole. `observed_to` and `rejected` stay those of the whole.
        """
        return self._derive(*self._index.slice(self._records, start, stop), some=True)

    def select_households(self, household_ids: Iterable[str]) -> HistoryTables:
        """Only the named households; ids without any record are left out."""
        at = self._index.find(household_ids)
        if len(at) and at[-1] - at[0] + 1 == len(at):
            return self.slice_households(int(at[0]), int(at[-1]) + 1)
        return self._derive(*self._index.take(self._records, at), some=True)

    def known_before(self, as_of_date: str | pd.Timestamp) -> HistoryTables:
        """What the office knew before a date: the archive as it stood then."""
        # This truncates an archive; whether a record counts at an as-of date is for `windows`.
        as_of = parse_as_of_dates([as_of_date])[0]
        day = pa.scalar(as_of.date(), type=pa.date32())
        records = {}
        for name, table in self._records.items():
            kept = table.filter(pc.less(table["known_date"], day))
            later = pc.greater_equal(kept["superseded_date"], day)
            open_again = pc.if_else(
                pc.fill_null(later, True), pa.scalar(None, pa.date32()), kept["superseded_date"]
            )
            at = kept.column_names.index("superseded_date")
            records[name] = kept.set_column(at, "superseded_date", open_again).combine_chunks()
        return self._derive(records, None, observed_to=min(as_of, self._observed_to))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all accepted records, the line and the schema: the same history, the same hash."""
        # Without the order numbers, which depend on the households that stand before.
        records = {name: self._records[name] for name in self.names}
        digest = hashlib.blake2b(self._schema.model_dump_json().encode(), digest_size=16)
        digest.update(repr(dict(self._line or {})).encode())
        digest.update(compute_fingerprint(records, without="record_order").encode())
        return digest.hexdigest()

    def write(self, folder: str | Path) -> Path:
        """Write one Parquet file per table, where each household's records are, the line, and what was rejected.

        The folder appears whole or not at all. One that holds nothing but tables written before is
        replaced; until the new one stands, the old state is kept. Of a selection of households only
        their own rejected rows are written.

        Parameters
        ----------
        folder
            Where to.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        HistoryError
            The place is taken by something else.
        """
        tables = {
            name: self._records[name].select(
                [*self._schema.tables[name].all_columns, "superseded_date"]
            )
            for name in self.names
        }
        end = _find_sure_end(tables)
        digest = digest_tables(self._schema)
        rejection = self._rejection.filter(self._mark_own) if self._some else self._rejection
        write_folder(Path(folder), tables, self._line, digest, end, self._index, rejection)
        return Path(folder)

    def _mark_own(self, rows: pa.Table) -> np.ndarray:
        """Which rejected rows are of these households."""
        own = set(self.households)
        return np.array([owner in own for owner in find_owners(rows)], dtype=bool)


def _validate(
    loads: Mapping[str, Callable[[], pa.Table]],
    schema: Schema,
    line: Mapping[int, float] | None,
    observed_to: str | pd.Timestamp | None,
    faults: list[Fault],
    before: Rejected,
) -> HistoryTables:
    if not loads:
        faults.append(Fault("history", "no table", "at least one", "Check the folder."))
    end, end_faults = read_end(observed_to)
    faults += find_line_faults(line) + end_faults
    validated = validate_each(loads, schema, faults)
    if faults:
        raise HistoryError(faults)
    records = {name: item.accepted for name, item in validated.items()}
    rejected = Rejected.of(
        {n: (item.rejected, item.rejected_rows) for n, item in validated.items()}
    )
    end = find_end(table["known_date"] for table in records.values()) if end is None else end
    return _told_of(HistoryTables(schema, records, before.join(rejected), line, end))


def _told_of(tables: HistoryTables) -> HistoryTables:
    if tables.absent:
        logger.warning(
            "Tables that this office does not have: %s. Their features are data gaps.",
            ", ".join(tables.absent),
        )
    return tables


def digest_tables(schema: Schema) -> str:
    """Hash of the tables that a schema declares: what records were validated against."""
    declared = {name: table.model_dump(mode="json") for name, table in schema.tables.items()}
    return hashlib.blake2b(json.dumps(declared).encode(), digest_size=16).hexdigest()


def read_history(
    folder: str | Path,
    schema: Schema | str | Path = "archive",
    line: Mapping[int, float] | None = None,
    observed_to: str | pd.Timestamp | None = None,
) -> HistoryTables:
    """Read a folder of Parquet and CSV files, one per declared table.

    Parameters
    ----------
    folder
        Folder with ``<table>.parquet`` or ``<table>.csv`` (UTF-8, with header), and optionally
        ``line.csv`` with columns year and line. Files of other kinds are ignored.
    schema
        Schema, or its name or path.
    line
        Poverty line by year; takes the place of ``line.csv``.
    observed_to
        First day about which nothing is on record any more; by default after the last known date.

    Returns
    -------
    HistoryTables
        The validated history.

    Raises
    ------
    HistoryError
        No such folder, unreadable files, undeclared tables or columns: all in one error.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history, read_history
    >>> tables = make_household_history(100, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tables.write(folder)
    ...     len(read_history(folder).households) == len(tables.households)
    True
    """
    folder = Path(folder)
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    files, faults = find_table_files(folder)
    given, line_faults = read_line(folder) if line is None else (line, [])
    if not faults + line_faults:
        written = read_written(folder, digest_tables(declared))
        if written is not None:
            return _trust(written, declared, given, observed_to)
    loads = {name: functools.partial(read_table_file, path) for name, path in files.items()}
    # Rows that were rejected before a file was written that is still there.
    before = Rejected.read(files, sealed=False)
    return _validate(loads, declared, given, observed_to, faults + line_faults, before)


def _find_sure_end(records: Mapping[str, pa.Table]) -> pd.Timestamp | None:
    """Where records end; None where a reader has to be told that they cannot end there."""
    try:
        return find_end(table["known_date"] for table in records.values())
    except HistoryError:
        return None


def _trust(
    written: WrittenHistory,
    schema: Schema,
    line: Mapping[int, float] | None,
    observed_to: str | pd.Timestamp | None,
) -> HistoryTables:
    """Records that were validated before they were written."""
    end, faults = read_end(observed_to)
    if faults := faults + find_line_faults(line):
        raise HistoryError(faults)
    records = {
        name: table.append_column("record_order", pa.array(np.arange(table.num_rows)))
        for name, table in written.records.items()
    }
    end = end or written.facts.end
    end = find_end(table["known_date"] for table in records.values()) if end is None else end
    return _told_of(
        HistoryTables(schema, records, written.rejection, line, end, index=written.places)
    )
