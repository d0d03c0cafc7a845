"""Who is no longer told as a member of a household: a state that no export says by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.database import open_database
from poverty_risk.sources.told import LEFT, Part

__all__ = ["Presence", "find_leavers"]

FEWEST_MEMBERS = 30
"""From so many earlier members on, a share of leavers says something about the export."""

MOST_LEAVING = 0.2
"""In a year some four in a hundred leave a household; a fifth says that the export lists only some."""


@dataclass(frozen=True)
class Presence:
    """Who is in one export of persons.

    Parameters
    ----------
    kind
        Name of the mapping.
    exported
        Day of the export.
    number
        Its position in the order of imports.
    people
        ``person_id`` and ``household_id``; a person whose row was rejected has no ``person_id``.
    """

    kind: str
    exported: date
    number: int
    people: pa.Table


def find_leavers(
    presences: Sequence[Presence], deceased: pa.Table | None = None
) -> tuple[list[Part], list[tuple[str, date]]]:
    """Members who are missing from the next export in which their household still is.

    Parameters
    ----------
    presences
        Exports of persons in any order; those of one kind and day are one export, so that a county
        may come by townships.
    deceased
        ``person_id`` and ``known_date`` of the dead, who are not said to have left.

    Returns
    -------
    tuple
        What these exports tell without saying it, as records with status ``left`` on the day of the
        export; and kind and day of exports that lack so many members that they cannot list them
        all. In those nobody has left.

    Notes
    -----
    A household that is not in an export at all has told nothing: it may be of another township. Nor
    has one of which a row was rejected: the missing member may be in that row.

    Examples
    --------
    >>> import pyarrow as pa
    >>> def export(month, *persons):
    ...     told = {"person_id": list(persons), "household_id": ["a"] * len(persons)}
    ...     return Presence("person", date(2023, month, 1), month, pa.table(told))
    >>> parts, _ = find_leavers([export(1, "x", "y"), export(2, "x")])
    >>> parts[0].exported, parts[0].records["person_id"].to_pylist()
    (datetime.date(2023, 2, 1), ['y'])
    """
    if not presences:
        return [], []
    with open_database() as connection:
        _register(connection, presences, deceased)
        connection.execute(_SEEN)
        connection.execute("CREATE TEMP TABLE partial (kind VARCHAR, day DATE)")
        # Twice, because whoever an incomplete export lacks may be missing from the next one as well.
        connection.execute(f"INSERT INTO partial {_PARTIAL}")
        partial = connection.execute("SELECT kind, day FROM partial ORDER BY ALL").fetchall()
        gone = connection.sql(f"{_LEAVERS} ORDER BY ALL").to_arrow_table()
    numbers = {(item.kind, item.exported): item.number for item in presences}
    exports = gone.group_by(["kind", "day"]).aggregate([]).to_pylist()
    parts = [
        _make_part(gone, item["kind"], item["day"], numbers[item["kind"], item["day"]])
        for item in exports
    ]
    return parts, partial


def _register(
    connection: duckdb.DuckDBPyConnection, presences: Sequence[Presence], deceased: pa.Table | None
) -> None:
    told = []
    for item in presences:
        people = item.people.select(["person_id", "household_id"]).cast(
            pa.schema([("person_id", pa.string()), ("household_id", pa.string())])
        )
        rows = people.num_rows
        people = people.append_column("kind", pa.repeat(item.kind, rows))
        told.append(people.append_column("day", pa.repeat(pa.scalar(item.exported), rows)))
    connection.register("told", pa.concat_tables(told))
    if deceased is None:
        deceased = pa.table({"person_id": pa.array([], pa.string()), "known_date": _NO_DAYS})
    connection.register("deceased", deceased)
    connection.execute(
        "CREATE TEMP TABLE present AS SELECT DISTINCT kind, day, household_id, person_id FROM told "
        "WHERE household_id IS NOT NULL AND person_id IS NOT NULL"
    )
    connection.execute(
        "CREATE TEMP TABLE days AS SELECT kind, day, household_id FROM told "
        "WHERE household_id IS NOT NULL GROUP BY ALL HAVING bool_and(person_id IS NOT NULL)"
    )


_NO_DAYS = pa.array([], pa.date32())

_SEEN = """
    CREATE TEMP TABLE seen AS
    WITH homes AS (
        SELECT *, lead(day) OVER (PARTITION BY kind, household_id ORDER BY day) AS next FROM (
            SELECT DISTINCT kind, day, household_id FROM present UNION SELECT * FROM days
        )
    ),
    persons AS (
        SELECT *, lead(day) OVER (PARTITION BY kind, person_id ORDER BY day) AS again FROM present
    )
    SELECT persons.* FROM persons JOIN homes USING (kind, day, household_id)
    WHERE next IS NOT NULL AND (again IS NULL OR again > next)
"""
"""Who was seen in a household, and not in the next export in which it is: few."""

_LEAVERS = """
    WITH complete AS (SELECT * FROM days ANTI JOIN partial USING (kind, day)),
    followed AS (
        SELECT seen.kind, seen.person_id, seen.again, complete.day FROM seen
        ASOF JOIN complete ON seen.kind = complete.kind
            AND seen.household_id = complete.household_id AND seen.day < complete.day
    )
    SELECT DISTINCT kind, day, person_id FROM followed
    WHERE (again IS NULL OR again > day) AND NOT EXISTS (
        SELECT 1 FROM deceased
        WHERE deceased.person_id = followed.person_id AND deceased.known_date <= followed.day
    )
"""
"""Who was seen in a household, and not in the next complete export in which it is."""

_PARTIAL = f"""
    WITH gone AS ({_LEAVERS}),
    stayed AS (SELECT kind, day, count(DISTINCT person_id) AS n FROM present GROUP BY ALL),
    left_out AS (SELECT kind, day, count(*) AS n FROM gone GROUP BY ALL)
    SELECT kind, day FROM left_out JOIN stayed USING (kind, day)
    WHERE left_out.n + stayed.n >= {FEWEST_MEMBERS}
        AND left_out.n > {MOST_LEAVING} * (left_out.n + stayed.n)
"""


def _make_part(gone: pa.Table, kind: str, day: date, number: int) -> Part:
    mine = gone.filter(pc.and_(pc.equal(gone["kind"], kind), pc.equal(gone["day"], pa.scalar(day))))
    told = {
        "person_id": mine["person_id"],
        "event_date": mine["day"],
        "known_date": mine["day"],
        "status": pa.repeat(LEFT, mine.num_rows),
    }
    return Part(kind, day, number, pa.table(told))
