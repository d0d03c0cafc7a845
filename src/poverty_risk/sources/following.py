"""Households that exports no longer name: nobody follows them any more, which no export says by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.database import open_database
from poverty_risk.schema import Table
from poverty_risk.sources.told import Part

__all__ = ["Listing", "Vanished", "find_vanished", "tells_households"]

ACTIVE, MOVED = "active", "moved"
"""Codes of a household's status."""

WHOLE = 0.8
"""With such a part of the households that it ever had, a township is taken to be whole in an export."""

ROUND_DAYS = 31
"""Townships may come one after the other: what comes within so many days is one round of exports."""


@dataclass(frozen=True)
class Listing:
    """Which households one export names.

    Parameters
    ----------
    kind
        Name of the mapping.
    exported
        Day of the export.
    number
        Its position in the order of imports.
    households
        ``household_id``, ``township_id``, ``status``; the latter two may be missing.
    """

    kind: str
    exported: date
    number: int
    households: pa.Table


@dataclass(frozen=True)
class Vanished:
    """What exports tell of households that they no longer name.

    Parameters
    ----------
    parts
        Records with status ``moved``.
    moved
        Households that an export lacks which is whole for their township.
    untold
        Households that no later export names, none of which is whole for their township.
    townships
        Townships of those that are untold.
    strange
        Kind and day of exports of which, in townships that were told before, under half of the
        households were: their ids may have changed.
    """

    parts: tuple[Part, ...]
    moved: int
    untold: int
    townships: int
    strange: tuple[tuple[str, date], ...] = ()


def tells_households(table: Table) -> bool:
    """Whether a table tells which households are and which no longer are followed.

    Parameters
    ----------
    table
        Its declaration.

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> [name for name, table in load_schema("archive").tables.items() if tells_households(table)]
    ['household']
    """
    status = table.columns.get("status")
    return (
        table.entity == "household" and status is not None and {ACTIVE, MOVED} <= set(status.codes)
    )


def find_vanished(listings: Sequence[Listing]) -> Vanished:
    """Households whom exports no longer name, so that nothing that happens to them is on record.

    Parameters
    ----------
    listings
        Exports of households in any order; those of one kind and day are one export.

    Returns
    -------
    Vanished
        What these exports tell without saying it, and how many households it is about.

    Notes
    -----
    A household that a later export lacks, although at least four fifths of the most households that
    its township ever had are in it, has moved: on the day of that export, and known from then on.

    A household that no later export names, although none of them was whole for its township, is no
    longer followed from the day after it was last named. That is known from the last export of the
    kind on, because until then it might still have come, and only if this is more than a month later.
    So an export of some townships leaves the others as they were as long as they come again; if they
    never do, what would have been a label of 0 is unknown.

    Whoever was told not to be active already, or is named by another kind of export on the day or
    later, has not vanished. Who is named again is active again.

    Examples
    --------
    >>> def export(year, *households):
    ...     told = {"household_id": list(households), "township_id": ["t"] * len(households)}
    ...     return Listing("person", date(year, 12, 31), year, pa.table(told))
    >>> vanished = find_vanished([export(2021, *"abcde"), export(2022, *"abcd")])
    >>> vanished.parts[0].records["household_id"].to_pylist(), vanished.parts[0].exported
    (['e'], datetime.date(2022, 12, 31))
    """
    if not listings:
        return Vanished((), 0, 0, 0)
    with open_database() as connection:
        connection.register("told", pa.concat_tables(_complete(item) for item in listings))
        connection.execute(_HOMES)
        connection.execute(_GONE)
        gone = connection.sql(
            "SELECT kind, known, event, household_id FROM gone ORDER BY ALL"
        ).to_arrow_table()
        counted = connection.execute(
            "SELECT count(*) FILTER (whole), count(*) FILTER (NOT whole), "
            "count(DISTINCT township_id) FILTER (NOT whole) FROM gone"
        ).fetchone()
        strange = tuple(connection.execute(_STRANGE).fetchall())
    assert counted is not None
    numbers: dict[tuple[str, date], int] = {}
    for item in listings:
        which = item.kind, item.exported
        numbers[which] = max(item.number, numbers.get(which, item.number))
    exports = gone.group_by(["kind", "known"]).aggregate([]).to_pylist()
    days = [(item["kind"], item["known"]) for item in exports]
    parts = tuple(_make_part(gone, kind, day, numbers[kind, day]) for kind, day in days)
    moved, untold, townships = map(int, counted)
    return Vanished(parts, moved, untold, townships, strange)


def _complete(item: Listing) -> pa.Table:
    told, rows = item.households, item.households.num_rows
    columns = {
        name: told[name].cast(pa.string())
        if name in told.column_names
        else pa.nulls(rows, pa.string())
        for name in ("household_id", "township_id", "status")
    }
    columns["kind"] = pa.repeat(item.kind, rows)
    columns["day"] = pa.repeat(pa.scalar(item.exported), rows)
    return pa.table(columns)


_HOMES = """
    CREATE TEMP TABLE homes AS
    WITH daily AS (
        SELECT kind, day, household_id, max(township_id) AS township_id, max(status) AS status
        FROM told WHERE household_id IS NOT NULL GROUP BY ALL
    )
    SELECT kind, day, household_id,
        last_value(township_id IGNORE NULLS) OVER w AS township_id,
        last_value(status IGNORE NULLS) OVER w AS status,
        lead(day) OVER (PARTITION BY kind, household_id ORDER BY day) AS again
    FROM daily
    WINDOW w AS (PARTITION BY kind, household_id ORDER BY day ROWS UNBOUNDED PRECEDING)
"""
"""Where each household was on each day of export, and when it is named next."""

_GONE = f"""
    CREATE TEMP TABLE gone AS
    WITH counted AS (
        SELECT kind, township_id, day, count(*) AS n FROM homes GROUP BY ALL
    ), whole_exports AS (
        SELECT kind, township_id, day FROM counted QUALIFY n >= {WHOLE} * max(n) OVER (
            PARTITION BY kind, township_id ORDER BY day
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ), last_exports AS (
        SELECT kind, max(day) AS last FROM homes GROUP BY kind
    ), followed AS (
        SELECT homes.*, whole_exports.day AS lacks, last FROM homes
        ASOF LEFT JOIN whole_exports ON homes.kind = whole_exports.kind
            AND homes.township_id = whole_exports.township_id AND homes.day < whole_exports.day
        JOIN last_exports ON last_exports.kind = homes.kind
    ), found AS (
        SELECT kind, household_id, township_id, TRUE AS whole, lacks AS event, lacks AS known
        FROM followed
        WHERE coalesce(status, '{ACTIVE}') = '{ACTIVE}' AND lacks < coalesce(again, DATE '9999-12-31')
        UNION ALL
        SELECT kind, household_id, township_id, FALSE, CAST(day + INTERVAL 1 DAY AS DATE), last
        FROM followed
        WHERE coalesce(status, '{ACTIVE}') = '{ACTIVE}' AND lacks IS NULL AND again IS NULL
            AND last > day + {ROUND_DAYS}
    )
    SELECT found.* FROM found ANTI JOIN homes AS others
    ON others.household_id = found.household_id AND others.kind <> found.kind
        AND others.day >= found.event
"""


_STRANGE = """
    WITH firsts AS (
        SELECT kind, day, township_id,
            min(day) OVER (PARTITION BY kind, household_id) AS own_first,
            min(day) OVER (PARTITION BY kind, township_id) AS town_first
        FROM homes
    )
    SELECT kind, day FROM firsts WHERE town_first < day
    GROUP BY kind, day HAVING count(*) FILTER (own_first < day) < 0.5 * count(*) ORDER BY ALL
"""


def _make_part(gone: pa.Table, kind: str, day: date, number: int) -> Part:
    same = pc.and_(pc.equal(gone["kind"], kind), pc.equal(gone["known"], pa.scalar(day)))
    mine = gone.filter(same)
    told = {
        "household_id": mine["household_id"],
        "event_date": mine["event"],
        "known_date": mine["known"],
        "status": pa.repeat(MOVED, mine.num_rows),
    }
    return Part(kind, day, number, pa.table(told))
