"""Persons of departmental feeds, who come with a certificate number alone, found in the archive.

A link is never guessed: the keyed hash of a certificate is the same or it is not. What is nearly the
same is told to a person, whose decision is kept in a file and holds from the next import on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from poverty_risk.database import open_database

__all__ = ["NEAR_MISSES", "Links", "People", "find_links", "link_records"]

NEAR_MISSES = pa.schema(
    [
        ("kind", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("person_id", pa.string()),
        ("candidate_id", pa.string()),
        ("why", pa.string()),
        ("same_person", pa.string()),
    ]
)
"""One line per pair; ``same_person`` is for a person to fill in: yes, no, or blank."""

_PEOPLE = pa.schema(
    [
        ("person_id", pa.string()),
        ("household_id", pa.string()),
        ("certificate", pa.string()),
        ("transposed", pa.list_(pa.string())),
        ("name", pa.string()),
        ("birth_date", pa.date32()),
        ("source_row", pa.int64()),
    ]
)


@dataclass(frozen=True)
class People:
    """Persons of one sheet.

    Parameters
    ----------
    kind
        Name of the mapping.
    exported
        Day of the export or delivery.
    number
        Its position in the order of imports.
    file
        Name of the file.
    people
        As in `Converted.people`, with ``source_row`` where it is known.
    is_archive
        Whether the sheet tells who is in which household; all others are linked to these.
    """

    kind: str
    exported: date
    number: int
    file: str
    people: pa.Table
    is_archive: bool


@dataclass(frozen=True)
class Links:
    """Who is who.

    Parameters
    ----------
    persons
        ``told_id`` as a feed has it, ``from_day`` on ``person_id`` as the archive has it, with
        ``how``: ``certificate``, ``person_id`` or ``decision``. Whom the archive gave a new number
        has several lines: a new number does not rewrite what was known under the old one.
    households
        ``person_id``, ``from_day``, ``household_id``: where each person was in the exports.
    rates
        Per kind: ``persons`` in the feed, how many of them are ``linked`` (of those ``decided`` by a
        person), ``near`` and ``unknown``, and ``share``, the part of them that is linked.
    near_misses
        As `NEAR_MISSES`, with the decisions so far.
    """

    persons: pa.Table
    households: pa.Table
    rates: pa.Table
    near_misses: pa.Table


def find_links(parts: Sequence[People], decisions: pa.Table | None = None) -> Links:
    """Link the persons of feeds to those of the archive.

    Parameters
    ----------
    parts
        Persons of all sheets.
    decisions
        Near misses of an earlier import, as `NEAR_MISSES`, with what a person decided.

    Returns
    -------
    Links
        Who is who, how many are linked, and who may be the same.

    Notes
    -----
    Near misses are persons of a feed whose number is that of somebody in the archive with two
    neighbouring digits exchanged, or whose name and birth date are the same. A row whose number
    fails its check digit has no certificate; its near miss tells which number to correct.

    Examples
    --------
    >>> day = date(2023, 1, 31)
    >>> archive = pa.table({"person_id": ["p"], "household_id": ["h"], "certificate": ["c"]})
    >>> feed = pa.table({"person_id": ["c"], "certificate": ["c"]})
    >>> people = [("person", archive, True), ("bills", feed, False)]
    >>> links = find_links([People(kind, day, 1, "a", told, is_archive) for kind, told, is_archive in people])
    >>> links.persons.to_pylist()
    [{'told_id': 'c', 'from_day': datetime.date(2023, 1, 31), 'person_id': 'p', 'how': 'certificate'}]
    """
    with open_database() as connection:
        _register(connection, parts, decisions)
        for query in (_ANCHORS, _FEED, _LINKED, _NEAR):
            connection.execute(query)
        tables = [
            connection.sql(query).to_arrow_table()
            for query in (
                "SELECT told_id, from_day, person_id, how FROM linked ORDER BY ALL",
                "SELECT person_id, day AS from_day, household_id FROM homes ORDER BY ALL",
                _RATES,
                _NEAR_COLUMNS,
            )
        ]
    return Links(tables[0], tables[1], tables[2], tables[3].cast(NEAR_MISSES))


def _register(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[People], decisions: pa.Table | None
) -> None:
    told = [_complete(part) for part in parts]
    empty = _PEOPLE.empty_table()
    for name, kind in (("kind", pa.string()), ("file", pa.string()), ("day", pa.date32())):
        empty = empty.append_column(name, pa.array([], kind))
    empty = empty.append_column("number", pa.array([], pa.int64()))
    empty = empty.append_column("is_archive", pa.array([], pa.bool_()))
    connection.register("told", pa.concat_tables([empty, *told]))
    connection.register("decisions", NEAR_MISSES.empty_table() if decisions is None else decisions)


def _complete(part: People) -> pa.Table:
    rows = part.people.num_rows
    columns = {
        field.name: part.people[field.name].cast(field.type)
        if field.name in part.people.column_names
        else pa.nulls(rows, field.type)
        for field in _PEOPLE
    }
    columns["kind"] = pa.repeat(part.kind, rows)
    columns["file"] = pa.repeat(part.file, rows)
    columns["day"] = pa.repeat(pa.scalar(part.exported), rows)
    columns["number"] = pa.repeat(pa.scalar(part.number, pa.int64()), rows)
    columns["is_archive"] = pa.repeat(part.is_archive, rows)
    return pa.table(columns)


_NEAR_COLUMNS = """
    SELECT kind, file, row, told_id AS person_id, candidate_id, why, same_person
    FROM near ORDER BY ALL
"""

_ANCHORS = """
    CREATE TEMP TABLE archive AS
        SELECT * FROM told WHERE is_archive AND household_id IS NOT NULL AND person_id IS NOT NULL;
    -- Of two persons with one certificate, or two households on one day, the last told counts.
    CREATE TEMP TABLE numbers AS
    WITH daily AS (
        SELECT certificate, day, first(person_id ORDER BY number DESC, person_id) AS person_id
        FROM archive WHERE certificate IS NOT NULL GROUP BY certificate, day
    )
    SELECT * FROM daily WINDOW w AS (PARTITION BY certificate ORDER BY day)
    QUALIFY person_id IS DISTINCT FROM lag(person_id) OVER w;
    CREATE TEMP TABLE last_numbers AS SELECT * FROM numbers
    QUALIFY row_number() OVER (PARTITION BY certificate ORDER BY day DESC) = 1;
    CREATE TEMP TABLE homes AS
    WITH daily AS (
        SELECT person_id, day, first(household_id ORDER BY number DESC, household_id) AS household_id
        FROM archive GROUP BY person_id, day
    )
    SELECT * FROM daily WINDOW w AS (PARTITION BY person_id ORDER BY day)
    QUALIFY household_id IS DISTINCT FROM lag(household_id) OVER w;
"""

_FEED = """
    -- A person without an id is known by the row in which it stands.
    CREATE TEMP TABLE feed AS
    WITH rows AS (
        SELECT *, coalesce(person_id, concat_ws('/', file, source_row, name, birth_date)) AS who
        FROM told WHERE NOT is_archive
    )
    SELECT kind, who, person_id AS told_id, certificate, name, birth_date,
        first(transposed ORDER BY len(transposed) DESC NULLS LAST) AS transposed,
        first(file ORDER BY day DESC, number DESC) AS file,
        first(source_row ORDER BY day DESC, number DESC, source_row) AS row
    FROM rows GROUP BY kind, who, person_id, certificate, name, birth_date;
"""

_LINKED = """
    CREATE TEMP TABLE linked AS
    WITH first_days AS (
        SELECT person_id, min(day) AS day FROM homes GROUP BY person_id
    ),
    same AS (
        SELECT DISTINCT told_id, numbers.day AS from_day, numbers.person_id, 'certificate' AS how,
            1 AS rank, certificate AS told_by
        FROM feed JOIN numbers USING (certificate) WHERE told_id IS NOT NULL
        UNION ALL
        SELECT DISTINCT told_id, day, told_id, 'person_id', 2, told_id
        FROM feed JOIN first_days ON told_id = first_days.person_id
        UNION ALL
        SELECT DISTINCT decisions.person_id, day, candidate_id, 'decision', 0, candidate_id
        FROM decisions JOIN first_days ON candidate_id = first_days.person_id
        WHERE same_person = 'yes' AND decisions.person_id IN (SELECT told_id FROM feed)
    )
    SELECT told_id, from_day, person_id, how FROM same
    QUALIFY dense_rank() OVER (PARTITION BY told_id ORDER BY rank, told_by) = 1
"""

_NEAR = """
    CREATE TEMP TABLE near AS
    WITH open AS (
        SELECT feed.* FROM feed LEFT JOIN linked USING (told_id) WHERE how IS NULL OR how = 'decision'
    ),
    pairs AS (
        SELECT kind, who, file, row, told_id, last_numbers.person_id AS candidate_id,
            'two digits exchanged' AS why, 1 AS rank
        FROM (SELECT *, unnest(transposed) AS other FROM open)
        JOIN last_numbers ON last_numbers.certificate = other
        UNION ALL
        SELECT open.kind, who, open.file, row, told_id, mistyped.person_id, 'two digits exchanged', 1
        FROM open JOIN (SELECT person_id, unnest(transposed) AS other FROM archive) AS mistyped
            ON mistyped.other = open.certificate
        UNION ALL
        SELECT open.kind, who, open.file, row, told_id, archive.person_id,
            'same name and birth date', 2
        FROM open JOIN archive USING (name, birth_date)
    ),
    best AS (
        SELECT * FROM pairs QUALIFY row_number() OVER (
            PARTITION BY kind, who, candidate_id ORDER BY rank, row
        ) = 1
    )
    SELECT best.*, decided.same_person FROM best LEFT JOIN (
        SELECT person_id, candidate_id, any_value(same_person) AS same_person
        FROM decisions GROUP BY ALL
    ) AS decided ON decided.person_id = told_id AND decided.candidate_id = best.candidate_id
"""

_RATES = """
    WITH open_pairs AS (
        SELECT DISTINCT kind, who, TRUE AS is_near FROM near WHERE same_person IS DISTINCT FROM 'no'
    ),
    persons AS (
        SELECT kind, who, any_value(how) AS how, any_value(is_near) AS is_near
        FROM feed LEFT JOIN linked USING (told_id) LEFT JOIN open_pairs USING (kind, who)
        GROUP BY kind, who
    )
    SELECT kind, count(*) AS persons, count(how) AS linked, count(*) FILTER (how = 'decision') AS decided,
        count(*) FILTER (how IS NULL AND is_near IS NOT NULL) AS near,
        count(*) FILTER (how IS NULL AND is_near IS NULL) AS unknown,
        count(how) / count(*) AS share
    FROM persons GROUP BY kind ORDER BY kind
"""


def link_records(records: pa.Table, links: Links) -> tuple[pa.Table, int]:
    """Records of a feed with the ids of the archive.

    Parameters
    ----------
    records
        Records with ``person_id`` and ``known_date``, and where the feed has it ``household_id``.
    links
        Who is who.

    Returns
    -------
    tuple
        Records with the id that the person had in the archive when the record became known, and
        with the household that the feed itself says, or in which the person was then; and the number of records
        for which nobody can say a household.

    Notes
    -----
    Before the first export of a person the id and the household are those of this first export.

    Examples
    --------
    >>> day = pa.array([date(2023, 3, 1)])
    >>> persons = pa.table({"told_id": ["c"], "from_day": day, "person_id": ["p"]})
    >>> homes = pa.table({"person_id": ["p"], "from_day": day, "household_id": ["h"]})
    >>> links = Links(persons, homes, pa.table({}), NEAR_MISSES.empty_table())
    >>> link_records(pa.table({"person_id": ["c"], "known_date": day}), links)[0].to_pylist()[0]
    {'known_date': datetime.date(2023, 3, 1), 'person_id': 'p', 'household_id': 'h'}
    """
    own = "household_id" if "household_id" in records.column_names else "NULL::VARCHAR"
    apart = ("person_id", "household_id")
    others = [f'found."{name}"' for name in records.column_names if name not in apart]
    with open_database() as connection:
        connection.register("records", records)
        connection.register("links", links.persons)
        connection.register("homes", links.households)
        linked = connection.sql(f"""
            WITH first_links AS (
                SELECT told_id, first(person_id ORDER BY from_day, person_id) AS person_id
                FROM links GROUP BY told_id
            ), found AS (
                SELECT records.*, {own} AS own_household,
                    coalesce(links.person_id, first_links.person_id, records.person_id) AS who
                FROM records ASOF LEFT JOIN links
                    ON links.told_id = records.person_id AND records.known_date >= links.from_day
                LEFT JOIN first_links ON first_links.told_id = records.person_id
            ), first_homes AS (
                SELECT person_id, first(household_id ORDER BY from_day) AS household_id
                FROM homes GROUP BY person_id
            ), placed AS (
                SELECT {", ".join(others)}, found.who AS person_id,
                    coalesce(own_household, homes.household_id, first_homes.household_id)
                        AS household_id
                FROM found ASOF LEFT JOIN homes
                    ON found.who = homes.person_id AND found.known_date >= homes.from_day
                LEFT JOIN first_homes ON first_homes.person_id = found.who
            )
            SELECT * FROM placed WHERE household_id IS NOT NULL
        """).to_arrow_table()
    return linked, records.num_rows - linked.num_rows
