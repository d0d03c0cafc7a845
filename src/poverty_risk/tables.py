"""History tables: validated, immutable, sorted by household, with what was rejected beside them."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.arrow_tables import (
    compute_fingerprint,
    find_line_faults,
    read_folder,
    read_line,
    to_raw_tables,
    write_folder,
)
from poverty_risk.exceptions import DeclarationError, Fault, HistoryError
from poverty_risk.household_index import HouseholdIndex
from poverty_risk.schema import Schema, load_schema
from poverty_risk.validation import (
    REJECTED_COLUMNS,
    find_structure_faults,
    find_unreadable,
    validate_table,
)
from poverty_risk.windows import parse_as_of_dates

__all__ = ["HistoryTables", "read_history"]

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
    rejected
        One line per fault: table, row, column, found, expected.
    rejected_rows
        Raw rejected rows by table name.
    line
        Poverty line by year in yuan per person and year; None when not given.
    observed_to
        First day about which nothing is on record any more.
    index
        Where each household's records lie, when that is known already.

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
        rejected: pd.DataFrame,
        rejected_rows: Mapping[str, pa.Table],
        line: Mapping[int, float] | None,
        observed_to: pd.Timestamp,
        *,
        index: HouseholdIndex | None = None,
    ) -> None:
        self._schema = schema
        self._records = MappingProxyType(dict(records))
        self._rejected = rejected
        self._rejected_rows = MappingProxyType(dict(rejected_rows))
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
        if not frames:
            faults.append(Fault("history", "no table", "at least one", "Check the folder."))
        faults += _find_faults(schema, raw) + find_line_faults(line)
        end, end_faults = _read_end(observed_to)
        if faults := faults + end_faults:
            raise HistoryError(faults)
        validated = {name: validate_table(name, schema.tables[name], raw[name]) for name in raw}
        if faults := find_unreadable(raw, validated):
            raise HistoryError(faults)
        records = {name: item.accepted for name, item in validated.items()}
        parts = [item.rejected for item in validated.values() if len(item.rejected)]
        rejected = (
            pd.concat(parts, ignore_index=True)
            if parts
            else pd.DataFrame(columns=list(REJECTED_COLUMNS))
        )
        rows = {n: item.rejected_rows for n, item in validated.items() if len(item.rejected)}
        end = _last_known(records) if end is None else end
        tables = cls(schema, records, rejected, rows, line, end)
        tables._report_absent()
        return tables

    def _report_absent(self) -> None:
        if self.absent:
            logger.warning(
                "Tables that this office does not have: %s. Their features are data gaps.",
                ", ".join(self.absent),
            )

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
        return self._rejected.copy()

    def rejected_rows(self, name: str) -> pd.DataFrame:
        """The raw rejected rows of a table with their position in column ``row``."""
        if name not in self._rejected_rows:
            return pd.DataFrame({"row": pd.Series(dtype="int64")})
        frame: pd.DataFrame = self._rejected_rows[name].to_pandas()
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
        columns = list(self._schema.tables[name].all_columns) if name in self._records else None
        records = self.arrow(name)
        dates = [f.name for f in records.schema if pa.types.is_date(f.type)]
        frame: pd.DataFrame = records.select(columns).to_pandas(date_as_object=False)
        return frame.astype(dict.fromkeys([d for d in dates if d in frame], "datetime64[us]"))

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {self._records[name].num_rows:,}" for name in self.names)
        return (
            f"HistoryTables({self._schema.name}: {len(self.households):,} households; {counts}; "
            f"{len(self._rejected):,} faults in rejected rows)"
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
    ) -> HistoryTables:
        return HistoryTables(
            self._schema,
            records,
            self._rejected,
            self._rejected_rows,
            line if line is not None else self._line,
            observed_to if observed_to is not None else self._observed_to,
            index=index,
        )

    def slice_households(self, start: int, stop: int) -> HistoryTables:
        """Households number `start` to `stop` (excluded) of `households`, without copying.

        Tables about villages stay whole. `observed_to` and `rejected` stay those of the whole.
        """
        return self._derive(*self._index.slice(self._records, start, stop))

    def select_households(self, household_ids: Iterable[str]) -> HistoryTables:
        """Only the named households; ids without any record are left out."""
        at = self._index.find(household_ids)
        if len(at) and at[-1] - at[0] + 1 == len(at):
            return self.slice_households(int(at[0]), int(at[-1]) + 1)
        return self._derive(self._index.take(self._records, at), None)

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
        """Write the accepted records as one Parquet file per table, and the line as CSV.

        The folder appears whole or not at all. One that holds nothing but tables written before is
        replaced; until the new one stands, the old state is kept.

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
        columns = {name: list(self._schema.tables[name].all_columns) for name in self.names}
        tables = {name: self._records[name].select(columns[name]) for name in self.names}
        write_folder(Path(folder), tables, self._line)
        return Path(folder)


def _read_end(
    observed_to: str | pd.Timestamp | None,
) -> tuple[pd.Timestamp | None, list[Fault]]:
    if observed_to is None:
        return None, []
    try:
        return parse_as_of_dates([observed_to])[0], []
    except DeclarationError:
        found = repr(observed_to)
        return None, [Fault("observed_to", found, "a date such as '2025-01-01'", "Correct it.")]


def _find_faults(schema: Schema, raw: Mapping[str, pa.Table]) -> list[Fault]:
    faults = []
    for name, table in raw.items():
        if name not in schema.tables:
            faults.append(
                Fault(
                    "history",
                    f"table '{name}'",
                    f"one of {', '.join(schema.tables)}",
                    "Rename it, or declare the table in a schema of your own.",
                )
            )
        else:
            faults += find_structure_faults(name, schema.tables[name], table)
    return faults


def _last_known(records: Mapping[str, pa.Table]) -> pd.Timestamp:
    days = [pc.max(table["known_date"]).as_py() for table in records.values() if table.num_rows]
    if not days:
        raise HistoryError(Fault("history", "no record", "at least one", "Check the folder."))
    _check_last(records, pd.Timestamp(max(days)))
    return pd.Timestamp(max(days)) + pd.Timedelta(days=1)


MANY_RECORDS, FAR_DAYS = 1_000, 366
"""From so many records on, a last day so far after nearly all of them is taken for a mistyped year."""


def _check_last(records: Mapping[str, pa.Table], last: pd.Timestamp) -> None:
    """One mistyped year would move the end of the data, and call everybody followed until then."""
    known = [table["known_date"].to_numpy() for table in records.values() if table.num_rows]
    days = np.sort(np.concatenate(known).astype("datetime64[D]"))
    usual = pd.Timestamp(days[int(0.999 * (len(days) - 1))])
    if len(days) >= MANY_RECORDS and (last - usual).days > FAR_DAYS:
        raise HistoryError(
            Fault(
                "known_date",
                f"a last day {last.date()}, {(last - usual).days} days after nearly all others",
                f"records known by about {usual.date()}",
                "Correct the mistyped dates, or say where the data end with `observed_to`.",
            )
        )


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
    raw, faults = read_folder(folder)
    given, line_faults = read_line(folder) if line is None else (line, [])
    if faults := faults + line_faults:
        raise HistoryError(faults + _find_faults(declared, raw) + find_line_faults(given))
    return HistoryTables.from_frames(raw, declared, given, observed_to)
