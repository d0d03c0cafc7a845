"""What was rejected of a history: raw rows with their faults, in memory and beside written tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import feather

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.validation import REJECTED_COLUMNS

__all__ = ["Rejected", "RejectedCounts"]

FAULTS, ROWS = "faults", "rows_"
"""Files of a written folder: all faults, and the raw rows by table."""

SUFFIX = ".arrow"

RejectedCounts = Mapping[str, Mapping[str, tuple[int, tuple[str, ...]]]]
"""By household and table: rows of it that were rejected, and the columns at fault."""


@dataclass(frozen=True, eq=False)
class Rejected:
    """Rows that are no records, kept with their reasons.

    Parameters
    ----------
    faults
        One line per fault: table, row (position in the raw table), column, found, expected.
    rows
        The raw rows by table, with their position in column ``row``.
    """

    faults: pd.DataFrame
    rows: Mapping[str, pa.Table]

    @classmethod
    def nothing(cls) -> Rejected:
        """Of a history without any fault."""
        return cls(pd.DataFrame(columns=list(REJECTED_COLUMNS)), {})

    @classmethod
    def read(cls, folder: Path) -> Rejected:
        """What `write` wrote to a folder; nothing where there is no such folder.

        Raises
        ------
        HistoryError
            A file cannot be read.
        """
        if not folder.is_dir():
            return cls.nothing()
        try:
            tables = {
                path.stem: feather.read_table(path) for path in sorted(folder.glob(f"*{SUFFIX}"))
            }
            # Text of pandas, as validation gives it.
            faults = tables.pop(FAULTS).to_pandas().reindex(columns=list(REJECTED_COLUMNS))
        except (OSError, pa.ArrowException, KeyError):
            found, expected = "files that cannot be read", "rejected rows as they were written"
            remedy = "Remove it: records do not depend on it."
            raise HistoryError(Fault(f"folder '{folder.name}'", found, expected, remedy)) from None
        return cls(faults, {name.removeprefix(ROWS): table for name, table in tables.items()})

    def write(self, folder: Path) -> None:
        """Write all of it to a new folder; none where nothing was rejected."""
        if not len(self.faults):
            return
        folder.mkdir()
        faults = pa.Table.from_pandas(self.faults, preserve_index=False)
        feather.write_feather(faults, folder / f"{FAULTS}{SUFFIX}")
        for name, table in self.rows.items():
            feather.write_feather(table, folder / f"{ROWS}{name}{SUFFIX}")

    @functools.cached_property
    def by_household(self) -> RejectedCounts:
        """Rows of each household that were rejected for a fault of a column.

        Repeats and conflicts (faults without a column) are left out: one record of the fact was kept.
        """
        found: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {}
        lines = self.faults[self.faults["column"] != ""]
        for name, faults in lines.groupby("table"):
            table = self.rows.get(str(name))
            if table is None or "household_id" not in table.column_names:
                continue
            rows = table.select(["row", "household_id"]).to_pandas().dropna()
            owner = rows.set_index("row")["household_id"].astype(str)
            owned = faults.assign(household=faults["row"].map(owner))
            for household, own in owned.groupby("household"):
                told = (own["row"].nunique(), tuple(sorted(set(own["column"]))))
                found.setdefault(str(household), {})[str(name)] = told
        return found

    def join(self, later: Rejected) -> Rejected:
        """Both, the rows of this one numbered behind those of the other."""
        if not len(self.faults) or not len(later.faults):
            return self if len(self.faults) else later
        ends = later.faults.groupby("table")["row"].max() + 1
        shift = self.faults["table"].map(ends).fillna(0).astype("int64")
        moved = self.faults.assign(row=self.faults["row"] + shift)
        rows = dict(later.rows)
        for name, table in self.rows.items():
            numbers = pa.array(table["row"].to_numpy() + int(ends.get(name, 0)))
            own = table.set_column(table.column_names.index("row"), "row", numbers)
            rows[name] = _concat_raw(rows[name], own) if name in rows else own
        return Rejected(pd.concat([later.faults, moved], ignore_index=True), rows)

    def says_the_same(self, other: Rejected) -> bool:
        """Whether both hold the same rows."""
        names = self.rows.keys() == other.rows.keys()
        return names and all(table.equals(other.rows[n]) for n, table in self.rows.items())

    def change_rows(self, change: Callable[[pa.Table], pa.Table]) -> Rejected:
        """With other rows, or other values in them; faults of rows that are gone go along."""
        rows = {name: change(table) for name, table in self.rows.items()}
        pairs = pd.MultiIndex.from_frame(self.faults[["table", "row"]])
        left = pd.MultiIndex.from_tuples(
            [(name, row) for name, table in rows.items() for row in table["row"].to_pylist()],
            names=["table", "row"],
        )
        kept = {name: table for name, table in rows.items() if table.num_rows}
        return Rejected(self.faults[pairs.isin(left)].reset_index(drop=True), kept)


def _concat_raw(one: pa.Table, other: pa.Table) -> pa.Table:
    """Rows of both; where raw files differ in the type of a column, as text."""
    tables = [one, other]
    for name in set(one.column_names) & set(other.column_names):
        if one.schema.field(name).type != other.schema.field(name).type:
            tables = [
                table.set_column(
                    table.column_names.index(name), name, table[name].cast(pa.string())
                )
                for table in tables
            ]
    return pa.concat_tables(tables, promote_options="default")
