"""History tables: validated, immutable, sorted by household, with what was rejected beside them."""

from __future__ import annotations

import functools
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.schema import Schema, load_schema
from poverty_risk.validation import REJECTED_COLUMNS, find_structure_faults, validate_table

__all__ = ["HistoryTables", "read_history"]

logger = logging.getLogger(__name__)

LINE_FILE = "line.csv"


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
        households: np.ndarray | None = None,
        offsets: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._schema = schema
        self._records = MappingProxyType(dict(records))
        self._rejected = rejected
        self._rejected_rows = MappingProxyType(dict(rejected_rows))
        self._line = None if line is None else MappingProxyType(dict(sorted(line.items())))
        self._observed_to = observed_to
        if households is None or offsets is None:
            households, offsets = _index_households(self._household_tables())
        self._households, self._offsets = households, offsets

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
            Undeclared tables or columns, missing required columns, a table of which no row could be
            read, a line that is not a positive number by year: all in one error.
        """
        schema = schema or load_schema("archive")
        raw = {
            name: frame if isinstance(frame, pa.Table) else _to_arrow(frame)
            for name, frame in frames.items()
        }
        faults = _find_faults(schema, raw) + _find_line_faults(line)
        if faults:
            raise HistoryError(faults)
        validated = {name: validate_table(name, schema.tables[name], raw[name]) for name in raw}
        faults = [
            Fault(
                f"table '{name}'",
                f"{raw[name].num_rows} rows of which none can be read; the first: "
                f"{item.rejected.iloc[0]['column']} {item.rejected.iloc[0]['found']!r}",
                f"{item.rejected.iloc[0]['expected']}",
                "Correct the mapping of the columns.",
            )
            for name, item in validated.items()
            if raw[name].num_rows and not item.accepted.num_rows
        ]
        if faults:
            raise HistoryError(faults)
        records = {name: item.accepted for name, item in validated.items()}
        parts = [item.rejected for item in validated.values() if len(item.rejected)]
        rejected = (
            pd.concat(parts, ignore_index=True)
            if parts
            else pd.DataFrame(columns=list(REJECTED_COLUMNS))
        )
        rows = {n: item.rejected_rows for n, item in validated.items() if len(item.rejected)}
        end = _last_known(records) if observed_to is None else pd.Timestamp(observed_to)
        tables = cls(schema, records, rejected, rows, line, end)
        tables._report_absent()
        return tables

    def _report_absent(self) -> None:
        if self.absent:
            logger.warning(
                "Tables that this office does not have: %s. Their features are data gaps.",
                ", ".join(self.absent),
            )

    def _household_tables(self) -> dict[str, pa.Table]:
        return {n: t for n, t in self._records.items() if "household_id" in t.column_names}

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
        """Sorted ids of all households with any record, shape (n_households,)."""
        return self._households

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
            f"HistoryTables({self._schema.name}: {len(self._households):,} households; {counts}; "
            f"{len(self._rejected):,} faults in rejected rows)"
        )

    def with_line(self, line: Mapping[int, float]) -> HistoryTables:
        """The same tables with a poverty line by year."""
        if faults := _find_line_faults(line):
            raise HistoryError(faults)
        return self._derive(self._records, line=line)

    def _derive(
        self,
        records: Mapping[str, pa.Table],
        *,
        line: Mapping[int, float] | None = None,
        observed_to: pd.Timestamp | None = None,
        **index: Any,
    ) -> HistoryTables:
        kept = index or {"households": self._households, "offsets": self._offsets}
        return HistoryTables(
            self._schema,
            records,
            self._rejected,
            self._rejected_rows,
            line if line is not None else self._line,
            observed_to if observed_to is not None else self._observed_to,
            **kept,
        )

    def slice_households(self, start: int, stop: int) -> HistoryTables:
        """Households number `start` to `stop` (excluded) of `households`, without copying.

        Tables about villages stay whole. `observed_to` and `rejected` stay those of the whole.
        """
        records, offsets = dict(self._records), {}
        for name in self._offsets:
            first, last = self._offsets[name][start], self._offsets[name][stop]
            records[name] = self._records[name].slice(first, last - first)
            offsets[name] = self._offsets[name][start : stop + 1] - first
        return self._derive(records, households=self._households[start:stop], offsets=offsets)

    def select_households(self, household_ids: Iterable[str]) -> HistoryTables:
        """Only the named households; ids without any record are left out."""
        wanted = np.unique(np.asarray(list(household_ids), dtype=object).astype(str))
        at = np.searchsorted(self._households, wanted)
        at = at[at < len(self._households)]
        at = at[np.isin(self._households[at], wanted)]
        if len(at) and at[-1] - at[0] + 1 == len(at):
            return self.slice_households(int(at[0]), int(at[-1]) + 1)
        records = dict(self._records)
        for name, offset in self._offsets.items():
            ranges = [np.arange(offset[i], offset[i + 1]) for i in at]
            rows = np.concatenate(ranges) if ranges else np.empty(0, dtype=np.int64)
            records[name] = self._records[name].take(pa.array(rows, type=pa.int64()))
        return self._derive(records, **_index_of(records))

    def known_before(self, as_of_date: str | pd.Timestamp) -> HistoryTables:
        """What the office knew before a date: the archive as it stood then."""
        # This truncates an archive; whether a record counts at an as-of date is for `windows`.
        day = pa.scalar(pd.Timestamp(as_of_date).date(), type=pa.date32())
        records = {}
        for name, table in self._records.items():
            kept = table.filter(pc.less(table["known_date"], day))
            later = pc.greater_equal(kept["superseded_date"], day)
            open_again = pc.if_else(
                pc.fill_null(later, True), pa.scalar(None, pa.date32()), kept["superseded_date"]
            )
            at = kept.column_names.index("superseded_date")
            records[name] = kept.set_column(at, "superseded_date", open_again).combine_chunks()
        observed_to = min(pd.Timestamp(as_of_date), self._observed_to)
        return self._derive(records, observed_to=observed_to, **_index_of(records))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all accepted records, the line and the schema: the same history, the same hash."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self._schema.model_dump_json().encode())
        digest.update(repr(dict(self._line or {})).encode())
        for name in self.names:
            digest.update(name.encode())
            with pa.PythonFile(_Hashing(digest), mode="w") as sink:
                table = self._records[name].drop_columns(["record_order"]).combine_chunks()
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
        return digest.hexdigest()

    def write(self, folder: str | Path) -> Path:
        """Write the accepted records as one Parquet file per table, and the line as CSV.

        The folder appears whole or not at all; an existing one is replaced.

        Parameters
        ----------
        folder
            Where to.

        Returns
        -------
        Path
            The folder.
        """
        target = Path(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for name in self.names:
                columns = list(self._schema.tables[name].all_columns)
                pq.write_table(
                    self._records[name].select(columns),
                    temporary / f"{name}.parquet",
                    compression="zstd",
                )
            if self._line is not None:
                lines = pd.DataFrame({"year": list(self._line), "line": list(self._line.values())})
                lines.to_csv(temporary / LINE_FILE, index=False)
            if target.exists():
                shutil.rmtree(target)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target


class _Hashing:
    """A writable file that only feeds a hash."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing to close; the hash goes on."""


def _to_arrow(frame: pd.DataFrame) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Columns of mixed Python types: as text, and the declared kind decides what can be read.
        mixed = frame.select_dtypes(include="object").columns
        text = {column: frame[column].map(str, na_action="ignore") for column in mixed}
        return pa.Table.from_pandas(frame.assign(**text), preserve_index=False)


def _find_faults(schema: Schema, raw: Mapping[str, pa.Table]) -> list[Fault]:
    faults = [] if raw else [Fault("history", "no table", "at least one", "Check the folder.")]
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


def _find_line_faults(line: Mapping[int, float] | None) -> list[Fault]:
    return [
        Fault("line", f"{year!r}: {value!r}", "a year and a positive number", "Correct the line.")
        for year, value in (line or {}).items()
        if not (isinstance(year, int | np.integer) and 1900 < year < 2200 and float(value) > 0)
    ]


def _index_of(records: Mapping[str, pa.Table]) -> dict[str, Any]:
    households, offsets = _index_households(
        {name: table for name, table in records.items() if "household_id" in table.column_names}
    )
    return {"households": households, "offsets": offsets}


def _index_households(
    records: Mapping[str, pa.Table],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sorted household ids, and for each table where each household's records start."""
    runs = {}
    for name, table in records.items():
        encoded = pc.run_end_encode(table["household_id"].combine_chunks(), run_end_type=pa.int64())
        runs[name] = (
            encoded.values.to_numpy(zero_copy_only=False).astype(str),
            encoded.run_ends.to_numpy(zero_copy_only=False),
        )
    ids = [values for values, _ in runs.values() if len(values)]
    households = np.unique(np.concatenate(ids)) if ids else np.empty(0, dtype=str)
    offsets = {}
    for name, (values, ends) in runs.items():
        counts = np.zeros(len(households), dtype=np.int64)
        counts[np.searchsorted(households, values)] = np.diff(ends, prepend=0)
        offsets[name] = np.concatenate([[0], np.cumsum(counts)])
    return households, offsets


def _last_known(records: Mapping[str, pa.Table]) -> pd.Timestamp:
    days = [pc.max(table["known_date"]).as_py() for table in records.values() if table.num_rows]
    if not days:
        raise HistoryError(Fault("history", "no record", "at least one", "Check the folder."))
    return pd.Timestamp(max(days)) + pd.Timedelta(days=1)


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
    """
    folder = Path(folder)
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    if not folder.is_dir():
        raise HistoryError(
            Fault("history folder", f"'{folder}'", "a folder of tables", "Check the path.")
        )
    raw, faults = {}, []
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".parquet", ".csv") or path.name == LINE_FILE:
            continue
        if path.stem in raw:
            faults.append(
                Fault(path.name, f"table '{path.stem}' twice", "one file", "Remove one of them.")
            )
        try:
            raw[path.stem] = _read_file(path)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:160]
            faults.append(Fault(path.name, reason, f"a {path.suffix[1:]} file", "Export it again."))
    if line is None and (folder / LINE_FILE).is_file():
        line = _read_line(folder / LINE_FILE)
    if faults:
        raise HistoryError(faults + _find_faults(declared, raw))
    return HistoryTables.from_frames(raw, declared, line, observed_to)


def _read_line(path: Path) -> dict[int, float]:
    try:
        lines = pd.read_csv(path, usecols=["year", "line"])
        return {int(y): float(v) for y, v in zip(lines["year"], lines["line"], strict=True)}
    except (ValueError, OSError) as error:
        raise HistoryError(
            Fault(path.name, str(error)[:120], "columns year and line", "Correct the file.")
        ) from None


def _read_file(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    # As text: the declared kind decides what a cell is, and a cell that cannot be read is kept.
    with path.open(encoding="utf-8-sig") as file:
        header = pd.read_csv(file, nrows=0).columns
    options = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return pa_csv.read_csv(path, convert_options=options)
