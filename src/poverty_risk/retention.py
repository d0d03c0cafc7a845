"""Forget: records that were known before a day, and whole households.

What is removed, and what stays (`forget_before`):

- A record goes if the office knew it before the day. The day when it was known counts, not the day when
  it happened: a correction of an old fact that became known later stays.
- A record that a later one corrects goes by the same rule, whether the correction stays or not. Every
  record of a history is complete in itself, so that a correction tells the fact without what it
  corrects. The other way round cannot happen: a correction is known later than what it corrects, so
  that no wrong value comes back to life.
- What is still in force on the day stays, although it was known before: where a household lives, its
  members, whether it is being monitored, its house, help and loans that go on (``retention.yaml``).
  Without these the household could no longer be found, scored or visited. Of each such state one record
  stays: the last one known before the day, corrections resolved. It is the one that the office believed
  on that day, even where a correction became known since.
- Rows that were rejected are no records: of them those stay that were surely known on the day or later
  and name no household that goes, in whatever cell; rows about villages go by the day as well.
- Households that were dissolved or moved away, and of which nothing was recorded since, go altogether.

Scores at the day and later are computed as before, but for features that look back beyond it. Dates
before it can no longer be learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from poverty_risk.database import open_database
from poverty_risk.declarations import Declared, read_declaration
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.privacy import mask_numbers
from poverty_risk.raw_text import name_any, to_text
from poverty_risk.rejected import Rejected
from poverty_risk.rewriting import rewrite_folder
from poverty_risk.schema import Schema, load_schema
from poverty_risk.windows import parse_as_of_dates

__all__ = ["Forgotten", "RetentionPolicy", "forget_before", "forget_household"]

ID = "household_id"
KEPT, REMOVED, IN_FORCE, UNDATED = "kept", "removed", "in_force", "undated"


class State(Declared):
    """A table that tells states: for whom one is in force, and when it has ended."""

    per: tuple[str, ...]
    ended: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    until: str | None = None


class RetentionPolicy(Declared):
    """What stays although it was known before the day.

    Parameters
    ----------
    household
        Table whose ended records end everything of a household; None for none.
    in_force
        Tables of states.
    """

    household: str | None = None
    in_force: dict[str, State] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path | None = None) -> RetentionPolicy:
        """Read a policy; the one for the shipped archive by default."""
        shipped = Path(str(resources.files("poverty_risk") / "retention.yaml"))
        return read_declaration(cls, path or shipped)


@dataclass(frozen=True)
class Forgotten:
    """What a forgetting did, as counts.

    Parameters
    ----------
    records
        Index table; columns ``removed``, ``in_force`` (known before the day, still valid),
        ``undated`` (no readable known date: kept, to be corrected) and ``kept`` (all others).
    households
        Households of which something was removed.
    gone
        Households of which nothing is left.
    gone_ids
        Their ids, for the office's own lookup; not to be shown.
    left_ids
        Ids of households of which something is left; not to be shown.
    rejected
        Rejected rows that were removed beside the records.
    """

    records: pd.DataFrame = field(repr=False)
    households: int
    gone: int
    gone_ids: frozenset[str] = field(default=frozenset(), repr=False)
    left_ids: frozenset[str] = field(default=frozenset(), repr=False)
    rejected: int = 0

    @property
    def removed(self) -> int:
        """Records that were removed."""
        return int(self.records[REMOVED].sum())


def forget_before(
    folder: str | Path,
    date: str | pd.Timestamp,
    *,
    schema: Schema | str | Path = "archive",
    policy: RetentionPolicy | None = None,
) -> Forgotten:
    """Remove the records of a history folder that were known before a day.

    Parameters
    ----------
    folder
        Folder of history tables, Parquet or CSV.
    date
        The day; what was known on it stays.
    schema
        What is declared, or its name or path.
    policy
        What stays because it is in force; the shipped policy by default.

    Returns
    -------
    Forgotten
        Counts by table.

    Raises
    ------
    HistoryError
        The folder cannot be read as declared; nothing was changed.
    DeclarationError
        Not a date.

    Notes
    -----
    See the head of this module for what stays and why. All tables change in one step (see
    `rewrite_folder`); doing it again changes nothing.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history, read_history
    >>> tables = make_household_history(60, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as root:
    ...     _ = tables.write(f"{root}/county")
    ...     forgotten = forget_before(f"{root}/county", "2022-01-01")
    ...     bills = read_history(f"{root}/county")["medical_bill"]
    >>> bool((bills["known_date"] >= "2022-01-01").all()), forgotten.removed > 0
    (True, True)
    """
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    day = parse_as_of_dates([date])[0]
    plan = BeforeDay(declared, policy or RetentionPolicy.load(), day)
    return _forget(Path(folder), declared, plan)


def forget_household(
    folder: str | Path,
    households: Iterable[str],
    *,
    schema: Schema | str | Path = "archive",
    missing_ok: bool = False,
) -> Forgotten:
    """Remove everything of some households from a history folder.

    Parameters
    ----------
    folder
        Folder of history tables, Parquet or CSV.
    households
        Their ids as in the history.
    schema
        What is declared, or its name or path.
    missing_ok
        Whether households without any record are no fault.

    Returns
    -------
    Forgotten
        Counts by table.

    Raises
    ------
    HistoryError
        The folder cannot be read as declared, or it holds none of a household; nothing was changed.

    Notes
    -----
    A member who has moved to another household keeps the records there. An export that still names
    the household brings it back when it is imported.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history, read_history
    >>> tables = make_household_history(60, seed=1).tables
    >>> with tempfile.TemporaryDirectory() as root:
    ...     _ = tables.write(f"{root}/county")
    ...     forgotten = forget_household(f"{root}/county", [tables.households[0]])
    ...     left = read_history(f"{root}/county").households
    >>> forgotten.gone, len(tables.households) - len(left)
    (1, 1)
    """
    declared = schema if isinstance(schema, Schema) else load_schema(schema)
    wanted = frozenset(map(str, households))
    return _forget(Path(folder), declared, OfHouseholds(wanted, missing_ok=missing_ok))


class OfHouseholds:
    """Marks the rows of some households."""

    def __init__(self, households: frozenset[str], *, missing_ok: bool) -> None:
        self.households, self.missing_ok = households, missing_ok

    def mark(self, tables: Mapping[str, pa.Table]) -> dict[str, np.ndarray]:
        """What becomes of each row, by table."""
        return {
            name: np.where(np.isin(_text(table, ID), list(self.households)), REMOVED, KEPT)
            for name, table in tables.items()
        }

    def check(self, forgotten: Forgotten, rejection: Rejected | None = None) -> None:
        """Refuse households of which there was no record, nor a rejected row that names them."""
        unknown = self.households - forgotten.gone_ids
        if rejection is not None:
            unknown = frozenset(one for one in unknown if not rejection.names(one))
        if unknown and not self.missing_ok:
            fault = f"{len(unknown)} of {len(self.households)} households without any record"
            raise HistoryError(Fault("households", fault, "known ones", "Check the ids."))

    def keep_rejected(self, rows: pa.Table) -> np.ndarray:
        """Which rejected rows name none of them, in whatever column."""
        return ~name_any(rows, self.households)


class BeforeDay:
    """Marks the rows that were known before a day, unless they are in force."""

    def __init__(self, schema: Schema, policy: RetentionPolicy, day: pd.Timestamp) -> None:
        self.schema, self.policy, self.day = schema, policy, day

    def mark(self, tables: Mapping[str, pa.Table]) -> dict[str, np.ndarray]:
        """What becomes of each row, by table."""
        ended: set[str] = set()
        main = self.policy.household
        if main is not None and main in tables:
            rows = self._judge(main, tables[main])
            alive = set(rows.loc[rows["later"] | (rows["last"] & ~rows["ended"]), ID])
            ended = set(rows.loc[rows["last"] & rows["ended"], ID]) - alive
        marks = {}
        for name, table in tables.items():
            rows = self._judge(name, table)
            stays = rows["last"] & ~rows["ended"] & ~rows[ID].isin(ended)
            marks[name] = np.select(
                [rows["undated"], rows["later"], stays], [UNDATED, KEPT, IN_FORCE], REMOVED
            )
        return marks

    def keep_rejected(self, rows: pa.Table) -> np.ndarray:
        """Which rejected rows were surely known on the day or later; no others are worth keeping."""
        if "known_date" not in rows.column_names:
            return np.zeros(rows.num_rows, dtype=bool)
        with open_database() as connection:
            connection.register("raw", to_text(rows.select(["known_date"]), trimmed=True))
            day = f"DATE '{self.day.date()}'"
            found = connection.sql(
                f"SELECT COALESCE(TRY_CAST(known_date AS DATE) >= {day}, FALSE) AS later FROM raw"
            ).to_arrow_table()
        return np.asarray(found["later"].to_numpy(), dtype=bool)

    def _judge(self, name: str, table: pa.Table) -> pd.DataFrame:
        """Of each row: undated, known on the day or later, last state known before it, ended."""
        state = self.policy.in_force.get(name)
        declared = self.schema.tables[name]
        with open_database() as connection:
            connection.register("raw", _as_text(table))
            day = f"DATE '{self.day.date()}'"
            partition = ", ".join(f'"{column}"' for column in declared.key)
            last, ended = "FALSE", "FALSE"
            if state is not None:
                per = ", ".join(f'"{column}"' for column in state.per)
                ended = _ended(state, table.column_names, day)
                last = (
                    f"before AND valid AND event = max(event) FILTER (before AND valid) "
                    f"OVER (PARTITION BY {per})"
                )
            frame: pd.DataFrame = (
                connection.sql(f"""
                    WITH typed AS (
                        SELECT *, TRY_CAST(known_date AS DATE) AS known,
                            TRY_CAST(event_date AS DATE) AS event FROM raw),
                    corrected AS (
                        SELECT *, known < {day} AS before, LEAD(known) OVER (
                            PARTITION BY {partition} ORDER BY known, event, __row) AS next
                        FROM typed),
                    valid AS (
                        SELECT *, COALESCE(next >= {day}, TRUE) AS valid FROM corrected)
                    SELECT __row, {ID}, known IS NULL AS undated,
                        COALESCE(NOT before, FALSE) AS later,
                        COALESCE({last}, FALSE) AS last, COALESCE({ended}, FALSE) AS ended
                    FROM valid ORDER BY __row""")
                .to_arrow_table()
                .to_pandas()
            )
        return frame.astype(dict.fromkeys(["undated", "later", "last", "ended"], bool))


def _ended(state: State, columns: list[str], day: str) -> str:
    """SQL for whether a state has ended."""
    known = [column for column in state.ended if column in columns]
    conditions = []
    for column in known:
        values = ", ".join("'" + value.replace("'", "''") + "'" for value in state.ended[column])
        conditions.append(f"regexp_replace(\"{column}\", '\\.0+$', '') IN ({values})")
    if state.until is not None and state.until in columns:
        conditions.append(f'TRY_CAST("{state.until}" AS DATE) < {day}')
    return " OR ".join(f"({condition})" for condition in conditions) or "FALSE"


def _as_text(table: pa.Table) -> pa.Table:
    """All cells as trimmed text with the position of each row: files differ in their types."""
    numbers = pa.array(np.arange(table.num_rows, dtype=np.int64))
    return to_text(table, trimmed=True).append_column("__row", numbers)


def _text(table: pa.Table, column: str) -> np.ndarray:
    cells = _as_text(table.select([column]))[column].to_pandas()
    # An id with gaps in its column comes as 123.0.
    found: np.ndarray = cells.str.replace(r"\.0$", "", regex=True).to_numpy(dtype=object)
    return found


def _forget(folder: Path, schema: Schema, plan: OfHouseholds | BeforeDay) -> Forgotten:
    done: list[Forgotten] = []

    def change(
        tables: dict[str, pa.Table], rejection: Rejected
    ) -> tuple[dict[str, pa.Table], Rejected]:
        own = _own_tables(schema, tables)
        marks = plan.mark(own)
        forgotten = count_marks(own, marks)
        if isinstance(plan, OfHouseholds):
            plan.check(forgotten, rejection)
        left = rejection.filter(plan.keep_rejected)
        left = left.filter(lambda rows: ~name_any(rows, forgotten.gone_ids))
        # Of whom nothing but rejected rows was there.
        lost = (rejection.owners - left.owners) - forgotten.gone_ids - forgotten.left_ids
        done.append(
            replace(
                forgotten,
                households=forgotten.households + len(lost),
                gone=forgotten.gone + len(lost),
                gone_ids=forgotten.gone_ids | lost,
                rejected=rejection.count - left.count,
            )
        )
        changed = {
            name: table.filter(pa.array(marks[name] != REMOVED))
            for name, table in own.items()
            if (marks[name] == REMOVED).any()
        }
        return changed, left

    rewrite_folder(folder, change)
    return done[0]


def _own_tables(schema: Schema, tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Tables about households; a table that is not declared, or not as declared, is a fault."""
    faults = []
    for name, table in tables.items():
        if name not in schema.tables:
            expected, remedy = f"one of {', '.join(schema.tables)}", "Declare it, or move it away."
            faults.append(Fault("history", f"table '{mask_numbers(name)}'", expected, remedy))
            continue
        declared = schema.tables[name]
        needed = {*declared.id_columns, *declared.key, "known_date", "event_date"}
        faults += [
            Fault(f"table '{name}'", f"no column '{column}'", "that column", "Export it again.")
            for column in sorted(needed - set(table.column_names))
        ]
    if faults:
        raise HistoryError(faults)
    return {n: tables[n] for n in schema.tables if n in tables and ID in tables[n].column_names}


def count_marks(tables: Mapping[str, pa.Table], marks: Mapping[str, np.ndarray]) -> Forgotten:
    """What a forgetting does, from what becomes of each row."""
    columns = [REMOVED, IN_FORCE, UNDATED, KEPT]
    counts = {name: [int((mark == kind).sum()) for kind in columns] for name, mark in marks.items()}
    ids = {name: _text(table, ID) for name, table in tables.items()}
    gone = {h for name in tables for h in ids[name][marks[name] == REMOVED]} - {None}
    left = {h for name in tables for h in ids[name][marks[name] != REMOVED]} - {None}
    records = pd.DataFrame.from_dict(counts, orient="index", columns=columns, dtype="int64")
    nothing_left = frozenset(map(str, gone - left))
    counted = records.rename_axis("table")
    return Forgotten(counted, len(gone), len(nothing_left), nothing_left, frozenset(map(str, left)))
