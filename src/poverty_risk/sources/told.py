"""What deliveries told of one history table: one row per source, fact and delivery, dated honestly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.schema import ARROW_TYPES, Table

__all__ = [
    "LEFT",
    "PRESENT",
    "Part",
    "Shape",
    "choose_rows",
    "date_corrections",
    "date_late_rows",
    "find_shape",
    "list_columns",
    "quote",
    "register_told",
    "tells_members",
]

PRESENT, LEFT = "present", "left"
"""Codes of a member's status."""


@dataclass(frozen=True)
class Part:
    """Records of one history table as one sheet told them.

    Parameters
    ----------
    kind
        Name of the mapping: one source says one thing after the other.
    exported
        Day of the export or delivery.
    number
        Its position in the order of imports; of two deliveries of one day the later one counts.
    records
        Typed records. A column that is absent, or without any value, says nothing.
    linked
        Whether the household ids were found by linking; in a table of states they fill gaps only, and
        so does a status that is `present` for all: a feed that says it of everybody tells nothing.
    lagged
        Whether known dates were computed from event dates and a usual lag. Then what an earlier
        delivery of the kind should have told, and did not, is known from its own delivery only.
    """

    kind: str
    exported: date
    number: int
    records: pa.Table
    linked: bool = False
    lagged: bool = False


@dataclass(frozen=True)
class Shape:
    """Which columns name a fact, and which tell about it."""

    fact: tuple[str, ...]
    content: tuple[str, ...]
    is_state: bool

    @property
    def dated_fact(self) -> tuple[str, ...]:
        """What names a fact, and of a state its day."""
        return (*self.fact, "event_date") if self.is_state else self.fact


def tells_members(table: Table) -> bool:
    """Whether a table tells who is and who no longer is a member of a household.

    Parameters
    ----------
    table
        Its declaration.

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> [name for name, table in load_schema("archive").tables.items() if tells_members(table)]
    ['person']
    """
    status = table.columns.get("status")
    return table.entity == "person" and status is not None and {PRESENT, LEFT} <= set(status.codes)


def find_shape(table: Table, *, is_state: bool) -> Shape:
    """Which columns of a table name a fact, and which tell about it."""
    apart = {"known_date"} | ({"event_date"} if is_state else set())
    fact = tuple(name for name in table.key if name not in apart)
    content = tuple(name for name in table.all_columns if name not in apart | set(fact))
    return Shape(fact, content, is_state)


def quote(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def list_columns(columns: Sequence[str]) -> str:
    """Names in SQL, with commas."""
    return ", ".join(map(quote, columns))


def register_told(
    connection: duckdb.DuckDBPyConnection, table: Table, shape: Shape, parts: Sequence[Part]
) -> int:
    """Make the table of everything told; ``_said`` has a bit for each column that says something."""
    dates = ["event_date"] * shape.is_state + ["known_date"]
    queries = []
    for at, part in enumerate(parts):
        records, said = _complete(table, part.records)
        if part.linked and shape.is_state:
            said -= {"household_id"}
            if tells_members(table) and _all_present(records):
                said -= {"status"}
        bits = sum(1 << bit for bit, name in enumerate(shape.content) if name in said)
        connection.register(f"part_{at}", records)
        queries.append(
            f"SELECT {list_columns([*shape.fact, *dates, *shape.content])}, {bits}::UBIGINT AS _said, "
            f"{_text(part.kind)} AS _kind, DATE '{part.exported}' AS _exported, {part.number} AS _number "
            f"FROM part_{at}"
        )
    connection.execute(f"CREATE TEMP TABLE told AS {' UNION ALL '.join(queries)}")
    return sum(part.records.num_rows for part in parts)


def _complete(table: Table, records: pa.Table) -> tuple[pa.Table, set[str]]:
    """Records with every declared column in its type, and the columns that say something."""
    said, columns = set(), {}
    for name, item in table.all_columns.items():
        kind = ARROW_TYPES[item.kind]
        if name not in records.column_names:
            columns[name] = pa.nulls(records.num_rows, kind)
            continue
        try:
            columns[name] = records[name].cast(kind)
        except pa.ArrowException:
            # Without its message, which may quote a value.
            found = f"{records[name].type}"
            remedy = "Import the file again with a mapping that fits."
            raise HistoryError(Fault(f"column '{name}'", found, str(kind), remedy)) from None
        if records[name].null_count < records.num_rows:
            said.add(name)
    return pa.table(columns), said


def _all_present(records: pa.Table) -> bool:
    return bool(pc.all(pc.equal(records["status"], PRESENT)).as_py())


def _split_groups(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], only: str = "TRUE"
) -> bool:
    """Move rows of `told` that share all of some columns to `shared`, and say whether there are any.

    Nearly all rows stand alone, and a window over the others costs next to nothing.
    """
    groups = f"SELECT {list_columns(columns)} FROM told GROUP BY ALL HAVING count(*) > 1 AND {only}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE groups AS {groups}")
    same = " AND ".join(f"told.{quote(c)} IS NOT DISTINCT FROM groups.{quote(c)}" for c in columns)
    found = connection.execute("SELECT count(*) FROM groups").fetchone()
    if found == (0,):
        return False
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE shared AS SELECT * FROM told SEMI JOIN groups ON {same}"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE told AS SELECT * FROM told ANTI JOIN groups ON {same}"
    )
    return True


def _row(columns: Sequence[str]) -> str:
    return f"row({', '.join(['_said', *map(quote, columns)])})"


def choose_rows(connection: duckdb.DuckDBPyConnection, shape: Shape) -> int:
    """Leave one row per source, fact, known date and day of export; count those it contradicts."""
    same = ["_kind", *shape.dated_fact, "known_date", "_exported"]
    if not _split_groups(connection, same):
        return 0
    said = _row(shape.content)
    connection.execute(
        f"CREATE TEMP TABLE ranked AS SELECT *, row_number() OVER w AS _rank, "
        f"{said} IS DISTINCT FROM first_value({said}) OVER w AS _differs FROM shared "
        f"WINDOW w AS (PARTITION BY {list_columns(same)} ORDER BY _number DESC, {said} DESC)"
    )
    connection.execute(
        "INSERT INTO told SELECT * EXCLUDE (_rank, _differs) FROM ranked WHERE _rank = 1"
    )
    counted = connection.execute("SELECT count(*) FROM ranked WHERE _differs").fetchone()
    assert counted is not None
    return int(counted[0])


def date_late_rows(
    connection: duckdb.DuckDBPyConnection, shape: Shape, parts: Sequence[Part]
) -> None:
    """What came later than its computed known date, with the delivery after it, was known then."""
    days = sorted({(part.kind, part.exported) for part in parts if part.lagged})
    if len(days) == len({kind for kind, _ in days}):
        return
    values = ", ".join(f"({_text(kind)}, DATE '{day}')" for kind, day in days)
    connection.execute(
        f"CREATE TEMP TABLE deliveries AS SELECT * FROM (VALUES {values}) AS t(_kind, day)"
    )
    fact = list_columns(["_kind", *shape.dated_fact])
    same = " AND ".join(
        f"told.{quote(c)} IS NOT DISTINCT FROM late.{quote(c)}"
        for c in ("_kind", *shape.dated_fact)
    )
    connection.execute(f"""
        CREATE TEMP TABLE late AS
        WITH firsts AS (
            SELECT {fact}, min(_exported) AS first_told, min(known_date) AS known
            FROM told SEMI JOIN deliveries USING (_kind) GROUP BY {fact}
        )
        SELECT firsts.* FROM firsts ASOF JOIN deliveries
            ON firsts._kind = deliveries._kind AND firsts.first_told > deliveries.day
        WHERE deliveries.day >= known;
        UPDATE told SET known_date = greatest(known_date, first_told) FROM late WHERE {same}
    """)


def date_corrections(connection: duckdb.DuckDBPyConnection, shape: Shape) -> None:
    """What one delivery says otherwise than an earlier one is known from its own day, and counts."""
    same = ["_kind", *shape.dated_fact]
    # What is known from the day of its export is in order already.
    if not _split_groups(connection, same, "bool_or(known_date <> _exported)"):
        return
    row = f"{list_columns(same)}, known_date, {_row(shape.content)}"
    connection.execute(f"""
        INSERT INTO told
        WITH turns AS (
            SELECT *, dense_rank() OVER w AS _turn, max(known_date) OVER w AS _latest
            FROM shared WINDOW w AS (PARTITION BY {list_columns(same)} ORDER BY _exported)
        ), compared AS (
            SELECT *, lag(_turn) OVER (PARTITION BY {row} ORDER BY _turn) AS _before FROM turns
        )
        SELECT * EXCLUDE (_turn, _latest, _before) REPLACE (
            CASE WHEN _turn = 1 THEN known_date ELSE greatest(_latest, _exported) END AS known_date
        )
        FROM compared WHERE _turn = 1 OR _before IS DISTINCT FROM _turn - 1
    """)
