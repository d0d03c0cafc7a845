"""What was rejected of a history: raw rows with their faults, in memory and beside written tables.

Rejected rows are no records, but they are households' data: whatever forgets, renames or selects
households does so with them, too. Written, a table's rejected rows are text, in a file of their own that
names the hash of the table's file: rows that belonged to another file of that name are not told.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather

from poverty_risk.raw_text import name_any, to_text
from poverty_risk.validation import REJECTED_COLUMNS

__all__ = ["Rejected", "RejectedCounts", "find_owners", "rejected_file"]

logger = logging.getLogger(__name__)

ROW, FAULTS, OF = "row", "__faults", b"of"
TOLD = ("column", "found", "expected")
"""What is told of each fault of a row."""

RejectedCounts = Mapping[str, Mapping[str, tuple[int, tuple[str, ...]]]]
"""By household and table: rows of it that were rejected, and the columns at fault."""


@dataclass(frozen=True, eq=False)
class Rejected:
    """Rows that are no records, kept with their reasons.

    Parameters
    ----------
    faults
        One line per fault: table, row (position in the raw table), column, found, expected; by table.
    rows
        The raw rows by table, with their position in column ``row``.
    """

    faults: pd.DataFrame
    rows: Mapping[str, pa.Table]

    @classmethod
    def of(cls, parts: Mapping[str, tuple[pd.DataFrame, pa.Table]]) -> Rejected:
        """Put together what was rejected of several tables, each with its faults."""
        told = {name: part for name, part in sorted(parts.items()) if part[1].num_rows}
        faults = [faults.assign(table=name) for name, (faults, _) in told.items()]
        columns = list(REJECTED_COLUMNS)
        # Not joined to nothing: a table without rows has columns of other types.
        joined = pd.concat(faults, ignore_index=True) if faults else pd.DataFrame(columns=columns)
        return cls(joined[columns], {name: rows for name, (_, rows) in told.items()})

    @property
    def count(self) -> int:
        """Number of rejected rows."""
        return sum(table.num_rows for table in self.rows.values())

    @property
    def owners(self) -> set[str]:
        """Ids of households that rejected rows are of."""
        return {owner for rows in self.rows.values() for owner in find_owners(rows) if owner}

    def names(self, household: str) -> bool:
        """Whether a row holds an id in any of its cells: shifted columns are why rows are rejected."""
        return any(name_any(rows, {household}).any() for rows in self.rows.values())

    def faults_of(self, name: str) -> pd.DataFrame:
        """The faults of a table."""
        return self.faults[self.faults["table"] == name].reset_index(drop=True)

    @classmethod
    def read(cls, files: Mapping[str, Path], *, sealed: bool) -> Rejected:
        """What `write` left beside the files of tables.

        Parameters
        ----------
        files
            The file of each table.
        sealed
            Whether nobody can have exchanged a table's file since. Otherwise its hash decides whether
            the rejected rows are still those of this file.
        """
        parts = {}
        for name, file in files.items():
            path = file.with_name(rejected_file(name))
            try:
                if not path.is_file():
                    continue
                rows = feather.read_table(path)
                if not sealed and (rows.schema.metadata or {}).get(OF) != _hash(file):
                    continue
                parts[name] = (_unfold(rows), rows.drop_columns([FAULTS]))
            except (OSError, pa.ArrowException, KeyError, AttributeError):
                logger.warning(
                    "'%s' cannot be read: what was rejected of '%s' is not told. Records do not "
                    "depend on it.",
                    path.name,
                    name,
                )
        return cls.of(parts)

    def write(self, files: Mapping[str, Path]) -> None:
        """Write each table's rejected rows beside its file, which has to be there."""
        for name, rows in self.rows.items():
            folded = _fold(to_text(rows), self.faults_of(name))
            sealed = folded.replace_schema_metadata({OF: _hash(files[name])})
            # Not compressed: that nothing of a household is left can then be seen from the bytes.
            feather.write_feather(
                sealed, files[name].with_name(rejected_file(name)), compression="uncompressed"
            )

    @functools.cached_property
    def by_household(self) -> RejectedCounts:
        """Rows of each household that were rejected for a fault of a column.

        Repeats and conflicts (faults without a column) are left out: one record of the fact was kept.
        """
        found: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {}
        for name, table in self.rows.items():
            owners = pd.DataFrame({ROW: table[ROW].to_numpy(), "household_id": find_owners(table)})
            lines = self.faults_of(name)
            lines = lines[lines["column"] != ""].merge(owners.dropna(), on=ROW)
            lines = lines.sort_values(["household_id", "column"], kind="stable")
            households = lines["household_id"].to_numpy(dtype=object)
            starts = np.flatnonzero(np.append(True, households[1:] != households[:-1]))
            columns, rows = lines["column"].to_numpy(dtype=object), lines[ROW].to_numpy()
            for begin, end in zip(starts, np.append(starts[1:], len(lines)), strict=True):
                if end > begin:
                    told = (len(set(rows[begin:end])), tuple(dict.fromkeys(columns[begin:end])))
                    found.setdefault(str(households[begin]), {})[name] = told
        return found

    def join(self, later: Rejected) -> Rejected:
        """Both; where a table has some of both, those of this one are numbered behind."""
        parts = {name: (later.faults_of(name), rows) for name, rows in later.rows.items()}
        for name, rows in self.rows.items():
            faults = self.faults_of(name)
            if name in parts:
                others, raw = parts[name]
                shift = int(others[ROW].max()) + 1
                moved = pa.array(rows[ROW].to_numpy() + shift)
                rows = rows.set_column(rows.column_names.index(ROW), ROW, moved)
                faults = pd.concat([others, faults.assign(row=faults[ROW] + shift)])
                rows = pa.concat_tables([to_text(raw), to_text(rows)], promote_options="default")
            parts[name] = (faults, rows)
        return Rejected.of(parts)

    def filter(self, keep: Callable[[pa.Table], np.ndarray]) -> Rejected:
        """Only the rows that `keep` marks in a table, with their faults; itself where that is all."""
        marks = {name: keep(rows) for name, rows in self.rows.items()}
        if all(mark.all() for mark in marks.values()):
            return self
        parts = {}
        for name, rows in self.rows.items():
            # As text, newly written: a dictionary would keep the names of those who are gone.
            kept, faults = to_text(rows).filter(pa.array(marks[name])), self.faults_of(name)
            parts[name] = (faults[faults[ROW].isin(kept[ROW].to_pylist())], kept)
        return Rejected.of(parts)


def find_owners(rows: pa.Table) -> list[str | None]:
    """The household of each raw row; None where that is not known."""
    if "household_id" not in rows.column_names:
        return [None] * rows.num_rows
    found: list[str | None] = to_text(rows.select(["household_id"]), trimmed=True)[0].to_pylist()
    return found


def rejected_file(table: str) -> str:
    """Name of the file that holds a table's rejected rows."""
    return f"rejected-{table}.arrow"


def _hash(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest().encode()


def _fold(rows: pa.Table, faults: pd.DataFrame) -> pa.Table:
    """The rows with a list of their faults."""
    places = pd.Index(rows[ROW].to_numpy()).get_indexer(pd.Index(faults[ROW]))
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=rows.num_rows))
    # From objects: pandas may keep a column in several pieces, of which no struct can be made.
    told = faults[list(TOLD)].iloc[order].to_numpy(dtype=object)
    cells = [pa.array(told[:, at], pa.string(), from_pandas=True) for at in range(len(TOLD))]
    lines = pa.StructArray.from_arrays(cells, names=list(TOLD))
    lists = pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), lines)
    return rows.append_column(FAULTS, lists)


def _unfold(rows: pa.Table) -> pd.DataFrame:
    lists = rows[FAULTS].combine_chunks()
    lines = lists.flatten()
    places = np.repeat(rows[ROW].to_numpy(), np.asarray(lists.value_lengths()))
    cells = {name: lines.field(name).to_pandas().astype("str") for name in TOLD}
    return pd.DataFrame({ROW: places.astype(np.int64), **cells})
