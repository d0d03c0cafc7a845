"""A sequence of deliveries becomes history: only what changed is a record, known from when it was told.

An export tells everybody's present state again and again, and a feed may tell only one or two columns
of a person. Both are brought together per fact: what a source says counts from the day on which it
says something else than before, and what it does not say stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.schema import ARROW_TYPES, Table

__all__ = ["Merged", "Part", "merge_parts", "tells_members"]

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
class Merged:
    """History of one table.

    Parameters
    ----------
    records
        Records with the columns of the schema, each known from the day on which it was first told.
    told
        Rows that the parts had.
    contradicted
        Rows against which the same delivery, or a later one of the same day, says otherwise.
    """

    records: pa.Table
    told: int
    contradicted: int


@dataclass(frozen=True)
class _Shape:
    """Which columns name a fact, and which tell about it."""

    fact: tuple[str, ...]
    content: tuple[str, ...]
    is_state: bool

    @property
    def dated_fact(self) -> tuple[str, ...]:
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


def merge_parts(table: Table, parts: Sequence[Part], *, is_state: bool) -> Merged:
    """Bring together what all deliveries tell about one history table.

    Parameters
    ----------
    table
        Its declaration.
    parts
        What was told, in any order.
    is_state
        Whether some source tells the table as the state on its day: then a record holds from its
        event date until the next one of the same entity. Otherwise each key is a fact of its own.

    Returns
    -------
    Merged
        The history.

    Raises
    ------
    HistoryError
        Records with values that are not of the declared kind.

    Notes
    -----
    A blank says something only where the same source said something before. A fact that is told
    differently later stays with its first known date, and the correction is known from the day of
    the delivery that told it, whatever date it brings. A state that is told late, about a day before the last known state,
    holds on top of that one and from its day on. Who changes households leaves the old one on the
    day before. What is found to be in order, such as a safe house, is told again once a year as long
    as deliveries say the same: a feature that looks back so far must not call it unknown. What is
    found wanting is told once: a failure that stands is no new event.

    Examples
    --------
    >>> import datetime
    >>> from poverty_risk.schema import load_schema
    >>> def export(month, land):
    ...     day = datetime.date(2023, month, 1)
    ...     told = {"household_id": ["a"], "event_date": [day], "known_date": [day]}
    ...     return Part("household", day, month, pa.table(told | {"cultivated_land": [land]}))
    >>> parts = [export(1, 2.0), export(2, 2.0), export(3, 2.5)]
    >>> merged = merge_parts(load_schema("archive").tables["household"], parts, is_state=True)
    >>> merged.records["cultivated_land"].to_pylist()
    [2.0, 2.5]
    """
    shape = _find_shape(table, is_state=is_state)
    moves = is_state and tells_members(table)
    with duckdb.connect() as connection:
        told = _register(connection, table, shape, parts)
        contradicted = _choose(connection, shape)
        _date_late_rows(connection, shape, parts)
        _date_corrections(connection, shape)
        connection.execute(_changes_sql(shape))
        connection.execute(_history_sql(shape))
        if is_state and table.observation:
            connection.execute(_found_again_sql(shape, table.observation))
        columns = list(table.all_columns)
        query = f"SELECT {_list(columns)} FROM history"
        if moves:
            query += f" UNION ALL {_moves_sql(shape, columns)}"
        records = connection.sql(query).to_arrow_table()
    return Merged(records, told, contradicted)


def _find_shape(table: Table, *, is_state: bool) -> _Shape:
    apart = {"known_date"} | ({"event_date"} if is_state else set())
    fact = tuple(name for name in table.key if name not in apart)
    content = tuple(name for name in table.all_columns if name not in apart | set(fact))
    return _Shape(fact, content, is_state)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _list(columns: Sequence[str]) -> str:
    return ", ".join(map(_quote, columns))


def _register(
    connection: duckdb.DuckDBPyConnection, table: Table, shape: _Shape, parts: Sequence[Part]
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
            f"SELECT {_list([*shape.fact, *dates, *shape.content])}, {bits}::UBIGINT AS _said, "
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
    groups = f"SELECT {_list(columns)} FROM told GROUP BY ALL HAVING count(*) > 1 AND {only}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE groups AS {groups}")
    same = " AND ".join(
        f"told.{_quote(c)} IS NOT DISTINCT FROM groups.{_quote(c)}" for c in columns
    )
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
    return f"row({', '.join(['_said', *map(_quote, columns)])})"


def _choose(connection: duckdb.DuckDBPyConnection, shape: _Shape) -> int:
    """Leave one row per source, fact, known date and day of export; count those it contradicts."""
    same = ["_kind", *shape.dated_fact, "known_date", "_exported"]
    if not _split_groups(connection, same):
        return 0
    said = _row(shape.content)
    connection.execute(
        f"CREATE TEMP TABLE ranked AS SELECT *, row_number() OVER w AS _rank, "
        f"{said} IS DISTINCT FROM first_value({said}) OVER w AS _differs FROM shared "
        f"WINDOW w AS (PARTITION BY {_list(same)} ORDER BY _number DESC, {said} DESC)"
    )
    connection.execute(
        "INSERT INTO told SELECT * EXCLUDE (_rank, _differs) FROM ranked WHERE _rank = 1"
    )
    counted = connection.execute("SELECT count(*) FROM ranked WHERE _differs").fetchone()
    assert counted is not None
    return int(counted[0])


def _date_late_rows(
    connection: duckdb.DuckDBPyConnection, shape: _Shape, parts: Sequence[Part]
) -> None:
    """What came later than its computed known date, with the delivery after it, was known then."""
    days = sorted({(part.kind, part.exported) for part in parts if part.lagged})
    if len(days) == len({kind for kind, _ in days}):
        return
    values = ", ".join(f"({_text(kind)}, DATE '{day}')" for kind, day in days)
    connection.execute(
        f"CREATE TEMP TABLE deliveries AS SELECT * FROM (VALUES {values}) AS t(_kind, day)"
    )
    fact = _list(["_kind", *shape.dated_fact])
    same = " AND ".join(
        f"told.{_quote(c)} IS NOT DISTINCT FROM late.{_quote(c)}"
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


def _date_corrections(connection: duckdb.DuckDBPyConnection, shape: _Shape) -> None:
    """What one delivery says otherwise than an earlier one is known from its own day, and counts."""
    same = ["_kind", *shape.dated_fact]
    # What is known from the day of its export is in order already.
    if not _split_groups(connection, same, "bool_or(known_date <> _exported)"):
        return
    row = f"{_list(same)}, known_date, {_row(shape.content)}"
    connection.execute(f"""
        INSERT INTO told
        WITH turns AS (
            SELECT *, dense_rank() OVER w AS _turn, max(known_date) OVER w AS _latest
            FROM shared WINDOW w AS (PARTITION BY {_list(same)} ORDER BY _exported)
        ), compared AS (
            SELECT *, lag(_turn) OVER (PARTITION BY {row} ORDER BY _turn) AS _before FROM turns
        )
        SELECT * EXCLUDE (_turn, _latest, _before) REPLACE (
            CASE WHEN _turn = 1 THEN known_date ELSE greatest(_latest, _exported) END AS known_date
        )
        FROM compared WHERE _turn = 1 OR _before IS DISTINCT FROM _turn - 1
    """)


def _order(shape: _Shape) -> str:
    dates = ["known_date"] + ["event_date"] * shape.is_state
    return f"{', '.join(dates)}, _exported, _number"


def _changes_sql(shape: _Shape) -> str:
    """Of each source, the first row of a fact and the columns that changed in later ones.

    A value that is said is wrapped, so that a blank that is said differs from nothing said.
    """
    window = f"(PARTITION BY _kind, {_list(shape.fact)} ORDER BY {_order(shape)})"
    differs = " OR ".join(
        f"{name} IS DISTINCT FROM lag({name}) OVER w"
        for name in ["_said", *map(_quote, shape.content)]
    )
    wrapped, before, changed = [], [], []
    for bit, name in enumerate(shape.content):
        now, then = _quote(name), _quote("before " + name)
        wrapped.append(f"CASE WHEN (_said >> {bit}) & 1 = 1 THEN {{'v': {now}}} END AS {now}")
        before.append(f"lag({now} IGNORE NULLS) OVER w AS {then}")
        blank = f"({then} IS NULL AND {now}.v IS NULL)"
        new = f"{now} IS NOT NULL AND {now} IS DISTINCT FROM {then} AND NOT {blank}"
        changed.append(f"CASE WHEN {new} THEN {now} END AS {now}")
    household = "household_id" if "household_id" in shape.content else "NULL::VARCHAR"
    others = f"{_list(shape.fact)}, {'event_date, ' * shape.is_state}known_date"
    status = "status" if "status" in shape.content else "NULL::VARCHAR"
    others += ", _household, _status, _kind, _exported, _number"
    return f"""
        CREATE TEMP TABLE changes AS
        WITH moved AS (
            SELECT * FROM told WINDOW w AS {window} QUALIFY row_number() OVER w = 1 OR {differs}
        ), wrapped AS (
            SELECT * REPLACE ({", ".join(wrapped)}), {household} AS _household,
                {status} AS _status FROM moved
        ), compared AS (
            SELECT *, {", ".join(before)} FROM wrapped WINDOW w AS {window}
        )
        SELECT {others}, {", ".join(changed)} FROM compared
    """


def _found_again_sql(shape: _Shape, observation: str) -> str:
    """Once in each year in which a fact was told and did not change: that it holds, found anew."""
    fact = _list(shape.fact)
    same = " AND ".join(f"again.{_quote(n)} = history.{_quote(n)}" for n in shape.fact)
    return f"""
        INSERT INTO history
        WITH again AS (
            SELECT {fact}, min(known_date) AS day FROM told GROUP BY {fact}, year(known_date)
        ), new AS (
            SELECT again.* FROM again
            LEFT JOIN (SELECT DISTINCT {fact}, year(known_date) AS said FROM history) AS history
            ON {same} AND history.said = year(again.day)
            WHERE history.said IS NULL
        )
        SELECT history.* REPLACE (new.day AS event_date, new.day AS known_date)
        FROM new ASOF JOIN history
        ON {same.replace("again.", "new.")} AND new.day >= history.known_date
        WHERE history.{_quote(observation)}
    """


def _history_sql(shape: _Shape) -> str:
    """What all sources together say of a fact from each known date on."""
    values = [
        f"(last_value({_quote(name)} IGNORE NULLS) OVER w).v AS {_quote(name)}"
        for name in shape.content
        if name not in ("household_id", "status")
    ]
    if "household_id" in shape.content:
        said = "(last_value(household_id IGNORE NULLS) OVER w).v"
        values.append(f"coalesce({said}, _household) AS household_id")
    if "status" in shape.content:
        said = "(last_value(status IGNORE NULLS) OVER w).v"
        values.append(f"coalesce({said}, _status) AS status")
    event = "max(event_date) OVER w AS event_date, " if shape.is_state else ""
    fact, order = _list(shape.fact), f"{_order(shape)}, _kind"
    differs = " OR ".join(
        f"{name} IS DISTINCT FROM lag({name}) OVER w" for name in map(_quote, shape.content)
    )
    return f"""
        CREATE TEMP TABLE history AS
        WITH filled AS (
            SELECT {fact}, {event}known_date, {", ".join(values)},
                row_number() OVER w AS _turn
            FROM changes
            WINDOW w AS (PARTITION BY {fact} ORDER BY {order} ROWS UNBOUNDED PRECEDING)
        ), last AS (
            SELECT * FROM filled QUALIFY row_number() OVER (
                PARTITION BY {_list(shape.dated_fact)}, known_date ORDER BY _turn DESC
            ) = 1
        )
        SELECT * FROM last WINDOW w AS (PARTITION BY {fact} ORDER BY _turn)
        QUALIFY row_number() OVER w = 1 OR {differs or "FALSE"}
    """


def _moves_sql(shape: _Shape, columns: Sequence[str]) -> str:
    """For who is told in another household: gone from the old one, the day before."""
    told = {
        "household_id": "_old_household",
        "event_date": "CAST(event_date - INTERVAL 1 DAY AS DATE)",
        "status": f"'{LEFT}'",
    }
    selected = [f"{told.get(name, _quote(name))} AS {_quote(name)}" for name in columns]
    return f"""
        SELECT {", ".join(selected)} FROM (
            SELECT *, lag(household_id) OVER w AS _old_household, lag(status) OVER w AS _old_status
            FROM history WINDOW w AS (PARTITION BY {_list(shape.fact)} ORDER BY _turn)
        ) WHERE _old_household <> household_id AND _old_status = '{PRESENT}'
    """
