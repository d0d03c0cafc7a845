"""Deliveries become history: what changed, since when it is known, who left. Expected values by hand."""

import contextlib
import itertools
import random
import sqlite3
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest

from poverty_risk import load_schema
from poverty_risk.exceptions import HistoryError
from poverty_risk.sources.following import Listing, find_vanished
from poverty_risk.sources.membership import Presence, find_leavers
from poverty_risk.sources.snapshots import merge_parts
from poverty_risk.sources.told import Part, tells_members

ARCHIVE = load_schema("archive")
JAN, FEB, MAR, APR = (date(2023, month, 28) for month in (1, 2, 3, 4))


def _part(kind, day, rows, number=1, linked=False, dated=None):
    """A state on its day, or with `dated` records that bring their own dates."""
    own = {} if dated else {"event_date": day, "known_date": day}
    names = {name: None for row in rows for name in row}  # Arrow takes those of the first row
    return Part(
        kind, day, number, pa.Table.from_pylist([names | own | row for row in rows]), linked
    )


def _merge(table, parts, is_state=True):
    merged = merge_parts(ARCHIVE.tables[table], parts, is_state=is_state)
    rows = merged.records.to_pylist()
    return sorted(rows, key=lambda row: (row["known_date"], str(row))), merged


def _home(day, land, **more):
    row = {"household_id": "h", "township_id": "t", "village_id": "v", "status": "active"}
    return _part("household", day, [row | {"cultivated_land": land} | more])


def _member(person="p", household="h", status="present", **more):
    return {"person_id": person, "household_id": household, "status": status} | more


# ------------------------------------------------------------------------------ what changed, when


def test_state_that_stays_is_one_record_and_a_change_is_known_from_its_export():
    rows, merged = _merge("household", [_home(JAN, 2.0), _home(FEB, 2.0), _home(MAR, 2.5)])
    assert [(row["event_date"], row["known_date"], row["cultivated_land"]) for row in rows] == [
        (JAN, JAN, 2.0),
        (MAR, MAR, 2.5),
    ]
    assert (merged.told, merged.contradicted) == (3, 0)


def _house(day, passed):
    return _part("person", day, [{"household_id": "h", "item": "housing", "passed": passed}])


def test_what_is_found_is_told_once_a_year_while_nothing_changes():
    """A feature that looks back two years must not call a house unknown that each export calls safe."""
    days = [date(2021, 12, 31), date(2022, 6, 30), date(2022, 12, 31), date(2024, 1, 31)]
    rows, _ = _merge("check", [_house(day, True) for day in days])
    assert [(row["event_date"], row["known_date"], row["passed"]) for row in rows] == [
        (day, day, True) for day in (days[0], days[1], days[3])
    ]
    # A year with a change has that record, and a failure that stands is no new event in the next one.
    rows, _ = _merge("check", [_house(day, day < days[2]) for day in days])
    assert [(row["known_date"], row["passed"]) for row in rows] == [
        (days[0], True),
        (days[2], False),
    ]


def test_value_that_returns_is_a_change_again():
    rows, _ = _merge("household", [_home(JAN, 2.0), _home(FEB, 3.0), _home(MAR, 2.0)])
    assert [row["cultivated_land"] for row in rows] == [2.0, 3.0, 2.0]


def test_blank_after_a_value_is_a_change_and_a_column_that_is_missing_says_nothing():
    another = {"household_id": "g", "township_id": "t", "village_id": "v", "status": "active"}
    jan = _home(JAN, 2.0)
    feb = _part("household", FEB, [another | {"household_id": "h"}])  # exported without the column
    mar = _part(
        "household",
        MAR,
        [
            another | {"household_id": "h", "cultivated_land": None},
            another | {"cultivated_land": 1.0},
        ],
    )
    rows, _ = _merge("household", [jan, feb, mar])
    told = [
        (row["known_date"], row["cultivated_land"]) for row in rows if row["household_id"] == "h"
    ]
    assert told == [(JAN, 2.0), (MAR, None)]


def test_only_one_township_in_an_export_leaves_the_others_as_they_were():
    whole = [
        {"household_id": h, "township_id": t, "village_id": "v", "status": "active"}
        for h, t in (("a", "1"), ("b", "2"))
    ]
    rows, _ = _merge(
        "household", [_part("household", JAN, whole), _part("household", FEB, whole[:1])]
    )
    assert [(row["household_id"], row["known_date"]) for row in rows] == [("a", JAN), ("b", JAN)]


def test_retroactive_correction_keeps_both_values_with_their_known_dates():
    account = {
        "household_id": "h",
        "period_start": date(2021, 10, 1),
        "period_end": date(2022, 9, 30),
    }
    account |= {"event_date": date(2022, 9, 30), "window": "annual"}
    parts = [
        _part("income", day, [account | {"known_date": day, "wage": wage}])
        for day, wage in ((JAN, 9000.0), (FEB, 9000.0), (MAR, 14000.0))
    ]
    rows, _ = _merge("income", parts, is_state=False)
    assert [(row["known_date"], row["wage"]) for row in rows] == [(JAN, 9000.0), (MAR, 14000.0)]


def test_feed_told_again_with_its_own_known_date_is_a_repeat_and_otherwise_a_correction_of_that_day():
    bill = {"person_id": "p", "household_id": "h", "bill_id": "1", "event_date": date(2022, 5, 3)}
    bill |= {"known_date": date(2022, 6, 2), "care": "inpatient"}
    parts = [
        _part("bills", day, [bill | {"out_of_pocket": paid}], dated=True)
        for day, paid in ((JAN, 100.0), (FEB, 100.0), (MAR, 70.0), (APR, 70.0))
    ]
    rows, _ = _merge("medical_bill", parts, is_state=False)
    # First told in January about June of the year before, as its source says; corrected in March.
    assert [(row["known_date"], row["out_of_pocket"]) for row in rows] == [
        (date(2022, 6, 2), 100.0),
        (MAR, 70.0),
    ]


def test_events_of_one_feed_that_came_in_one_delivery_are_all_kept():
    rows = [
        _member(event_date=day, known_date=FEB, severe_illness=ill)
        for day, ill in ((date(2022, 11, 1), True), (date(2023, 1, 5), False))
    ]
    told, _ = _merge("person", [_part("illness", FEB, rows, dated=True)])
    assert [(row["event_date"], row["severe_illness"]) for row in told] == [
        (date(2022, 11, 1), True),
        (date(2023, 1, 5), False),
    ]


def test_correction_is_known_from_its_own_delivery_and_counts_even_if_it_brings_an_earlier_date():
    """A bill's date is corrected to January: its known date by the usual lag is before that of March."""
    bill = {"person_id": "p", "household_id": "h", "bill_id": "1", "care": "inpatient"}
    first = bill | {"event_date": date(2023, 3, 5), "known_date": date(2023, 4, 4)}
    corrected = bill | {"event_date": date(2023, 1, 5), "known_date": date(2023, 2, 4)}
    parts = [
        _part("bills", date(2023, 4, 30), [first], dated=True),
        _part("bills", date(2023, 6, 30), [corrected], dated=True),
    ]
    for order in itertools.permutations(parts):
        rows, _ = _merge("medical_bill", list(order), is_state=False)
        assert [(row["known_date"], row["event_date"]) for row in rows] == [
            (date(2023, 4, 4), date(2023, 3, 5)),
            (date(2023, 6, 30), date(2023, 1, 5)),
        ]


def test_row_that_comes_later_than_the_usual_lag_is_known_from_its_own_delivery():
    """The bill of 5 January is computed to be known on 4 February; that of 28 February lacks it."""
    bill = {"person_id": "p", "household_id": "h", "event_date": date(2023, 1, 5)}
    bill |= {"known_date": date(2023, 2, 4)}
    other, late = bill | {"bill_id": "1"}, bill | {"bill_id": "2"}
    told = [(FEB, [other]), (MAR, [other, late]), (APR, [other, late])]
    parts = [_part("bills", day, rows, dated=True) for day, rows in told]
    for lagged, day in ((True, MAR), (False, date(2023, 2, 4))):
        rows, _ = _merge("medical_bill", [replace(p, lagged=lagged) for p in parts], is_state=False)
        known = {row["bill_id"]: row["known_date"] for row in rows}
        assert (known, len(rows)) == ({"1": date(2023, 2, 4), "2": day}, 2)


def test_several_known_dates_of_one_delivery_repeated_by_the_next_say_nothing_new():
    bill = {"person_id": "p", "household_id": "h", "bill_id": "1", "event_date": date(2022, 5, 3)}
    told = [
        bill | {"known_date": day, "out_of_pocket": paid}
        for day, paid in ((date(2022, 6, 2), 100.0), (date(2022, 8, 2), 70.0))
    ]
    parts = [_part("bills", day, told, dated=True) for day in (JAN, FEB)]
    rows, _ = _merge("medical_bill", parts, is_state=False)
    assert [(row["known_date"], row["out_of_pocket"]) for row in rows] == [
        (date(2022, 6, 2), 100.0),
        (date(2022, 8, 2), 70.0),
    ]


# ------------------------------------------------------------------------- several sources, one fact


def test_feed_that_says_present_of_everybody_brings_nobody_back_to_life():
    ill = _member(event_date=MAR, known_date=MAR, severe_illness=True)
    parts = [
        _part("person", JAN, [_member()]),
        _part("person", FEB, [_member(status="deceased")]),
        _part("illness", MAR, [ill], linked=True, dated=True),
    ]
    rows, _ = _merge("person", parts)
    assert [(row["known_date"], row["status"], row["severe_illness"]) for row in rows] == [
        (JAN, "present", None),
        (FEB, "deceased", None),
        (MAR, "deceased", True),
    ]


def test_feed_that_tells_a_death_counts_beside_the_living():
    told = [
        _member(person, status=status, event_date=FEB, known_date=FEB)
        for person, status in (("p", "deceased"), ("q", "present"))
    ]
    parts = [
        _part("person", JAN, [_member("p"), _member("q")]),
        _part("deaths", FEB, told, linked=True, dated=True),
    ]
    rows, _ = _merge("person", parts)
    assert [(row["person_id"], row["known_date"], row["status"]) for row in rows] == [
        ("p", JAN, "present"),
        ("q", JAN, "present"),
        ("p", FEB, "deceased"),
    ]


def test_feed_of_one_column_leaves_all_others_as_the_export_told_them():
    feed = _part(
        "illness",
        FEB,
        [_member(event_date=FEB, known_date=FEB, severe_illness=True)],
        linked=True,
        dated=True,
    )
    parts = [
        _part("person", day, [_member(education="junior", severe_illness=False)])
        for day in (JAN, MAR)
    ]
    rows, _ = _merge("person", [*parts, feed])
    # The export of March says once more what it said in January: that does not undo the feed.
    assert [(row["known_date"], row["education"], row["severe_illness"]) for row in rows] == [
        (JAN, "junior", False),
        (FEB, "junior", True),
    ]


def test_state_told_late_holds_from_the_day_of_the_last_known_state():
    late = _member(event_date=date(2022, 12, 1), known_date=FEB, disability_level=1)
    parts = [
        _part("person", JAN, [_member(education="junior")]),
        _part("disability", FEB, [late], linked=True, dated=True),
    ]
    rows, _ = _merge("person", parts)
    # With its own event date it would stand before the state of January, which then would hide it.
    assert [(row["event_date"], row["known_date"], row["disability_level"]) for row in rows] == [
        (JAN, JAN, None),
        (JAN, FEB, 1),
    ]


def test_blank_of_a_source_that_never_said_anything_says_nothing():
    other = _part("other", FEB, [_member("p", education=None), _member("q", education="senior")])
    rows, _ = _merge("person", [_part("person", JAN, [_member("p", education="junior")]), other])
    assert [row["education"] for row in rows if row["person_id"] == "p"] == ["junior"]


def test_linked_household_fills_a_gap_and_never_moves_anybody():
    feed = _part(
        "illness",
        MAR,
        [_member(household="old", event_date=MAR, known_date=MAR, severe_illness=True)],
        linked=True,
        dated=True,
    )
    early = _part(
        "illness",
        JAN,
        [_member("q", household="new", event_date=JAN, known_date=JAN, severe_illness=True)],
        linked=True,
        dated=True,
    )
    rows, _ = _merge("person", [_part("person", FEB, [_member(household="new")]), feed, early])
    assert [
        (row["person_id"], row["known_date"], row["household_id"], row["status"]) for row in rows
    ] == [
        ("q", JAN, "new", "present"),
        ("p", FEB, "new", "present"),
        ("p", MAR, "new", "present"),
    ]


def test_two_sources_of_one_day_make_one_record():
    parts = [
        _part("person", JAN, [_member(education="junior")]),
        _part("illness", JAN, [_member(severe_illness=True)]),
    ]
    rows, _ = _merge("person", parts)
    assert [(row["education"], row["severe_illness"]) for row in rows] == [("junior", True)]


# ---------------------------------------------------------------------------------- contradictions


def test_of_two_deliveries_of_one_day_the_later_import_counts_and_the_other_is_counted():
    first, second = _home(JAN, 2.0), _home(JAN, 4.0)
    rows, merged = _merge(
        "household",
        [Part("household", JAN, 2, second.records), Part("household", JAN, 1, first.records)],
    )
    assert [row["cultivated_land"] for row in rows] == [4.0]
    assert merged.contradicted == 1


def test_person_in_two_households_of_one_export_gives_no_noise_month_after_month():
    parts = [
        _part("person", day, [_member(household="a"), _member(household="b")])
        for day in (JAN, FEB, MAR)
    ]
    rows, merged = _merge("person", parts)
    assert len(rows) == 1
    assert merged.contradicted == 3


def test_value_of_another_kind_is_refused_without_being_quoted():
    part = _part(
        "household",
        JAN,
        [
            {
                "household_id": "h",
                "township_id": "t",
                "village_id": "v",
                "status": "active",
                "cultivated_land": "secret",
            }
        ],
    )
    with pytest.raises(HistoryError, match="'cultivated_land'.*string.*double") as caught:
        _merge("household", [part])
    assert "secret" not in str(caught.value)


def test_quotes_in_the_name_of_a_kind_stay_text():
    part = Part("o'clock", JAN, 1, _home(JAN, 2.0).records)
    rows, _ = _merge("household", [part])
    assert len(rows) == 1


# ------------------------------------------------------------------------------------ who has left


def _export(day, homes, kind="person", number=1):
    """Presence by household: persons, None for one whose row was rejected."""
    rows = [{"person_id": p, "household_id": h} for h, persons in homes.items() for p in persons]
    told = pa.Table.from_pylist(
        rows, schema=pa.schema([("person_id", pa.string()), ("household_id", pa.string())])
    )
    return Presence(kind, day, number, told)


def _left(*exports, **more):
    parts, partial = find_leavers(exports, **more)
    told = [
        (part.exported, person)
        for part in parts
        for person in part.records["person_id"].to_pylist()
    ]
    return sorted(told), partial


def test_only_the_table_of_persons_tells_members():
    assert [name for name, table in ARCHIVE.tables.items() if tells_members(table)] == ["person"]


def test_member_who_vanishes_has_left_once_and_may_come_back():
    exports = [
        _export(JAN, {"h": "xy"}),
        _export(FEB, {"h": "x"}),
        _export(MAR, {"h": "x"}),
        _export(APR, {"h": "xy"}),
    ]
    assert _left(*exports) == ([(FEB, "y")], [])


def test_household_that_is_in_no_export_keeps_its_members():
    exports = [
        _export(JAN, {"h": "xy", "other": "z"}),
        _export(FEB, {"other": "z"}),
        _export(MAR, {"h": "x", "other": "z"}),
    ]
    assert _left(*exports) == ([(MAR, "y")], [])


def test_townships_of_one_day_are_one_export():
    # y moved from h to g, which the other file of the day tells.
    exports = [
        _export(JAN, {"h": "xy", "g": "z"}),
        _export(FEB, {"h": "x"}),
        _export(FEB, {"g": "zy"}, number=2),
    ]
    assert _left(*exports) == ([], [])


def test_rejected_row_of_a_household_makes_nobody_leave_until_it_is_whole_again():
    exports = [
        _export(JAN, {"h": "xy"}),
        _export(FEB, {"h": ["x", None]}),
        _export(MAR, {"h": "x"}),
    ]
    assert _left(*exports) == ([(MAR, "y")], [])


def test_kinds_of_export_are_compared_with_themselves_alone():
    assert _left(_export(JAN, {"h": "xy"}), _export(FEB, {"h": "x"}, kind="monitored")) == ([], [])


def test_the_dead_have_not_left():
    dead = pa.table({"person_id": ["y"], "known_date": pa.array([JAN])})
    assert _left(_export(JAN, {"h": "xyz"}), _export(FEB, {"h": "x"}), deceased=dead) == (
        [(FEB, "z")],
        [],
    )


def test_export_that_lacks_a_fifth_of_all_members_tells_of_nobody_that_he_left():
    full = {f"h{at}": [f"{at}a", f"{at}b"] for at in range(20)}
    workers = {home: persons[:1] for home, persons in full.items()}
    later = full | {"h0": ["0a"]}
    told, partial = _left(_export(JAN, full), _export(FEB, workers), _export(MAR, later))
    assert told == [(MAR, "0b")]
    assert partial == [("person", FEB)]


def test_who_left_comes_back_with_all_that_was_told():
    parts = [
        _part("person", JAN, [_member("x"), _member("y", education="junior")]),
        _part("person", FEB, [_member("x")]),
        _part("person", MAR, [_member("x"), _member("y", education="junior")]),
    ]
    left, _ = find_leavers([Presence("person", part.exported, 1, part.records) for part in parts])
    rows, _ = _merge("person", [*parts, *left])
    told = [
        (r["known_date"], r["status"], r["education"], r["household_id"])
        for r in rows
        if r["person_id"] == "y"
    ]
    assert told == [
        (JAN, "present", "junior", "h"),
        (FEB, "left", "junior", "h"),
        (MAR, "present", "junior", "h"),
    ]


def test_who_moves_leaves_the_old_household_the_day_before():
    rows, _ = _merge(
        "person",
        [
            _part("person", JAN, [_member(household="a")]),
            _part("person", FEB, [_member(household="b")]),
        ],
    )
    assert [(r["household_id"], r["event_date"], r["known_date"], r["status"]) for r in rows] == [
        ("a", JAN, JAN, "present"),
        ("a", date(2023, 2, 27), FEB, "left"),
        ("b", FEB, FEB, "present"),
    ]


# ----------------------------------------------------------------- against a plain row-by-row twin


def _plain_history(exports):
    """One source, one column: a record where an export says something else than the last one."""
    history, last = [], {}
    for day, rows in sorted(exports.items()):
        for home, land in sorted(rows.items()):
            if home not in last or last[home] != land:
                history.append((home, day, land))
            last[home] = land
    return sorted(history, key=str)


@pytest.mark.parametrize("seed", range(5))
def test_same_history_as_row_by_row_in_whatever_order_the_exports_came(seed):
    draw = random.Random(seed)
    days = [date(2023, month, 28) for month in range(1, 9)]
    homes = [f"h{at}" for at in range(6)]
    exports = {
        day: {home: draw.choice([1.0, 2.0, 3.0]) for home in draw.sample(homes, draw.randint(2, 6))}
        for day in days
    }
    parts = [
        _part(
            "household",
            day,
            [
                {
                    "household_id": h,
                    "township_id": "t",
                    "village_id": "v",
                    "status": "active",
                    "cultivated_land": land,
                }
                for h, land in rows.items()
            ],
            number=draw.randint(1, 99),
        )
        for day, rows in exports.items()
    ]
    draw.shuffle(parts)
    rows, _ = _merge("household", parts)
    assert sorted(
        ((r["household_id"], r["known_date"], r["cultivated_land"]) for r in rows), key=str
    ) == _plain_history(exports)


def test_leavers_are_those_that_a_plain_query_in_another_database_finds():
    draw = random.Random(3)
    days = [date(2023, month, 28) for month in range(1, 7)]
    exports = []
    for day in days:
        homes = draw.sample(range(8), 5)
        exports.append(
            _export(
                day, {f"h{h}": [f"{h}{p}" for p in "abc" if draw.random() < 0.9] for h in homes}
            )
        )
    exports = [e for e in exports if e.people.num_rows]
    rows = [
        (str(e.exported), r["household_id"], r["person_id"])
        for e in exports
        for r in e.people.to_pylist()
    ]
    with contextlib.closing(sqlite3.connect(":memory:")) as database, database:
        database.execute("CREATE TABLE told (day TEXT, home TEXT, person TEXT)")
        database.executemany("INSERT INTO told VALUES (?, ?, ?)", rows)
        expected = database.execute("""
            SELECT (SELECT min(later.day) FROM told AS later WHERE later.home = told.home AND later.day > told.day) AS next,
                person FROM told
            WHERE next IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM told AS again WHERE again.person = told.person AND again.day > told.day AND again.day <= next)
            ORDER BY 1, 2
        """).fetchall()
    database.close()
    told, _ = _left(*exports)
    assert [(str(day), person) for day, person in told] == expected
    assert expected


def test_all_orders_of_three_exports_give_one_history():
    parts = [_home(JAN, 2.0), _home(FEB, 3.0), _home(MAR, 3.0)]
    histories = [_merge("household", list(order))[0] for order in itertools.permutations(parts)]
    assert all(history == histories[0] for history in histories)


# ------------------------------------------------------------------------- who is no longer followed


def _listing(day, towns, kind="person", status=None):
    rows = [
        {"household_id": h, "township_id": town, "status": (status or {}).get(h, "active")}
        for town, households in towns.items()
        for h in households
    ]
    return Listing(kind, day, 1, pa.Table.from_pylist(rows))


def _gone(*listings):
    vanished = find_vanished(listings)
    rows = [row for part in vanished.parts for row in part.records.to_pylist()]
    assert {row["status"] for row in rows} <= {"moved"}
    told = sorted((row["household_id"], row["event_date"], row["known_date"]) for row in rows)
    return told, (vanished.moved, vanished.untold, vanished.townships)


def test_household_that_an_export_of_its_whole_township_lacks_has_moved_on_that_day():
    whole, without = {"1": "abcde", "2": "xy"}, {"1": "abcd", "2": "xy"}
    # It is told once, and not again by the export of April.
    listings = [_listing(JAN, whole), _listing(FEB, whole), _listing(MAR, without)]
    assert _gone(*listings, _listing(APR, without)) == ([("e", MAR, MAR)], (1, 0, 0))
    # Named again in April: it had moved all the same, as the export of March told.
    assert _gone(*listings, _listing(APR, whole)) == ([("e", MAR, MAR)], (1, 0, 0))


def test_export_of_some_townships_or_households_says_nothing_of_the_others_as_long_as_they_come_again():
    whole = {"1": "abcde", "2": "xyz"}
    # Neither a township that is left out, nor one of which three in five households are in it.
    for part in ({"1": "abcde"}, {"1": "abc", "2": "xyz"}):
        listings = map(_listing, (JAN, MAR, APR), (whole, part, whole))
        assert _gone(*listings) == ([], (0, 0, 0))


def test_household_that_no_later_export_names_is_not_followed_from_the_day_after_it_was_told():
    whole, part = {"1": "abcde", "2": "xyz"}, {"1": "abcde"}
    after = date(2023, 1, 29)
    expected = [(h, after, APR) for h in "xyz"]
    listings = [_listing(JAN, whole), _listing(MAR, part), _listing(APR, part)]
    assert _gone(*listings) == (expected, (0, 3, 1))
    # Three in five, again and again, are not the whole township either.
    few = {"1": "abc", "2": "xyz"}
    listings = [_listing(JAN, whole), _listing(MAR, few), _listing(APR, few)]
    assert _gone(*listings) == ([(h, after, APR) for h in "de"], (0, 2, 1))
    # Within a month the other townships may still come.
    assert _gone(_listing(MAR, whole), _listing(date(2023, 4, 28), part)) == ([], (0, 0, 0))


def test_who_was_told_gone_or_is_in_another_kind_of_export_has_not_vanished():
    whole, without = {"1": "abcde"}, {"1": "abcd"}
    dissolved = _listing(JAN, whole, status={"e": "dissolved"})
    assert _gone(dissolved, _listing(FEB, without))[0] == []
    other = _listing(MAR, whole, kind="household")
    assert _gone(_listing(JAN, whole), _listing(FEB, without), other)[0] == []


def test_export_of_which_most_households_are_new_is_told():
    first, other = _listing(JAN, {"1": "abcde"}), _listing(FEB, {"2": "xyz"})
    renamed = _listing(MAR, {"1": "aBCDE", "2": "xyz"})  # four of eight are new
    assert find_vanished([first, other, renamed]).strange == ()
    renamed = _listing(MAR, {"1": "aBCDE", "2": "xyZ"})
    assert find_vanished([first, other, renamed]).strange == (("person", MAR),)


def test_vanished_household_is_active_again_once_it_is_named():
    told = {"township_id": "t", "village_id": "v", "status": "active"}
    days = {JAN: "abcde", FEB: "abcd", MAR: "abcde"}
    parts = [
        _part("person", day, [told | {"household_id": h} for h in households])
        for day, households in days.items()
    ]
    gone = find_vanished([Listing("person", p.exported, 1, p.records) for p in parts])
    rows, _ = _merge("household", [*parts, *gone.parts])
    assert [
        (row["known_date"], row["status"], row["township_id"])
        for row in rows
        if row["household_id"] == "e"
    ] == [(JAN, "active", "t"), (FEB, "moved", "t"), (MAR, "active", "t")]
