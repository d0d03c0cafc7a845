"""A sequence of deliveries becomes history: only what changed is a record, known from when it was told.

An export tells everybody's present state again and again, and a feed may tell only one or two columns
of a person. Both are brought together per fact: what a source says counts from the day on which it
says something else than before, and what it does not say stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from poverty_risk.database import open_database
from poverty_risk.schema import Table
from poverty_risk.sources.told import (
    LEFT,
    PRESENT,
    Part,
    Shape,
    choose_rows,
    date_corrections,
    date_late_rows,
    find_shape,
    list_columns,
    quote,
    register_told,
    tells_members,
)

__all__ = ["Merged", "merge_parts"]


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
    shape = find_shape(table, is_state=is_state)
    moves = is_state and tells_members(table)
    with open_database() as connection:
        told = register_told(connection, table, shape, parts)
        contradicted = choose_rows(connection, shape)
        date_late_rows(connection, shape, parts)
        date_corrections(connection, shape)
        connection.execute(_changes_sql(shape))
        connection.execute(_history_sql(shape))
        if is_state and table.observation:
            connection.execute(_found_again_sql(shape, table.observation))
        columns = list(table.all_columns)
        query = f"SELECT {list_columns(columns)} FROM history"
        if moves:
            query += f" UNION ALL {_moves_sql(shape, columns)}"
        records = connection.sql(query).to_arrow_table()
    return Merged(records, told, contradicted)


def _order(shape: Shape) -> str:
    dates = ["known_date"] + ["event_date"] * shape.is_state
    return f"{', '.join(dates)}, _exported, _number"


def _changes_sql(shape: Shape) -> str:
    """Of each source, the first row of a fact and the columns that changed in later ones.

    A value that is said is wrapped, so that a blank that is said differs from nothing said.
    """
    window = f"(PARTITION BY _kind, {list_columns(shape.fact)} ORDER BY {_order(shape)})"
    differs = " OR ".join(
        f"{name} IS DISTINCT FROM lag({name}) OVER w"
        for name in ["_said", *map(quote, shape.content)]
    )
    wrapped, before, changed = [], [], []
    for bit, name in enumerate(shape.content):
        now, then = quote(name), quote("before " + name)
        wrapped.append(f"CASE WHEN (_said >> {bit}) & 1 = 1 THEN {{'v': {now}}} END AS {now}")
        before.append(f"lag({now} IGNORE NULLS) OVER w AS {then}")
        blank = f"({then} IS NULL AND {now}.v IS NULL)"
        new = f"{now} IS NOT NULL AND {now} IS DISTINCT FROM {then} AND NOT {blank}"
        changed.append(f"CASE WHEN {new} THEN {now} END AS {now}")
    household = "household_id" if "household_id" in shape.content else "NULL::VARCHAR"
    others = f"{list_columns(shape.fact)}, {'event_date, ' * shape.is_state}known_date"
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


def _found_again_sql(shape: Shape, observation: str) -> str:
    """Once in each year in which a fact was told and did not change: that it holds, found anew."""
    fact = list_columns(shape.fact)
    same = " AND ".join(f"again.{quote(n)} = history.{quote(n)}" for n in shape.fact)
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
        WHERE history.{quote(observation)}
    """


def _history_sql(shape: Shape) -> str:
    """What all sources together say of a fact from each known date on."""
    values = [
        f"(last_value({quote(name)} IGNORE NULLS) OVER w).v AS {quote(name)}"
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
    fact, order = list_columns(shape.fact), f"{_order(shape)}, _kind"
    differs = " OR ".join(
        f"{name} IS DISTINCT FROM lag({name}) OVER w" for name in map(quote, shape.content)
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
                PARTITION BY {list_columns(shape.dated_fact)}, known_date ORDER BY _turn DESC
            ) = 1
        )
        SELECT * FROM last WINDOW w AS (PARTITION BY {fact} ORDER BY _turn)
        QUALIFY row_number() OVER w = 1 OR {differs or "FALSE"}
    """


def _moves_sql(shape: Shape, columns: Sequence[str]) -> str:
    """For who is told in another household: gone from the old one, the day before."""
    told = {
        "household_id": "_old_household",
        "event_date": "CAST(event_date - INTERVAL 1 DAY AS DATE)",
        "status": f"'{LEFT}'",
    }
    selected = [f"{told.get(name, quote(name))} AS {quote(name)}" for name in columns]
    return f"""
        SELECT {", ".join(selected)} FROM (
            SELECT *, lag(household_id) OVER w AS _old_household, lag(status) OVER w AS _old_status
            FROM history WINDOW w AS (PARTITION BY {list_columns(shape.fact)} ORDER BY _turn)
        ) WHERE _old_household <> household_id AND _old_status = '{PRESENT}'
    """
