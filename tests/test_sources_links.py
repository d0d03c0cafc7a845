"""Who is who across feeds: only equal hashes link, near misses are for a person. Expected by hand."""

import csv
from datetime import date

import pyarrow as pa
import pytest

from poverty_risk.exceptions import HistoryError
from poverty_risk.sources.decisions import read_decisions, write_decisions
from poverty_risk.sources.links import NEAR_MISSES, People, find_links, link_records

JAN, FEB, MAR, APR = (date(2023, month, 28) for month in (1, 2, 3, 4))
BORN = date(1970, 5, 1)
SCHEMA = pa.schema(
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


def _people(kind, *rows, day=JAN, number=1, is_archive=False):
    told = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    return People(kind, day, number, f"{kind}.csv", told, is_archive)


def _archive(*rows, **more):
    return _people("person", *rows, is_archive=True, **more)


ARCHIVE = _archive(
    {
        "person_id": "p1",
        "household_id": "h1",
        "certificate": "c1",
        "name": "n1",
        "birth_date": BORN,
    },
    {
        "person_id": "p2",
        "household_id": "h2",
        "certificate": "c2",
        "name": "n2",
        "birth_date": BORN,
    },
    # A number whose check digit was wrong: no certificate, but what it may be.
    {"person_id": "p3", "household_id": "h3", "transposed": ["c3", "c3x"], "name": "n3"},
)


def _near(links):
    return [
        tuple(row[n] for n in ("person_id", "candidate_id", "why", "same_person"))
        for row in links.near_misses.to_pylist()
    ]


def _rates(links, kind="bills"):
    return next(row for row in links.rates.to_pylist() if row["kind"] == kind)


# ------------------------------------------------------------------------------------- who is linked


def test_certificate_links_and_nothing_else_does():
    feed = _people(
        "bills",
        {"person_id": "c1", "certificate": "c1"},
        {"person_id": "c9", "certificate": "c9"},
        {"person_id": "p2"},
    )
    links = find_links([ARCHIVE, feed])
    assert [tuple(row.values()) for row in links.persons.to_pylist()] == [
        ("c1", JAN, "p1", "certificate"),
        ("p2", JAN, "p2", "person_id"),
    ]
    assert _rates(links) == {
        "kind": "bills",
        "persons": 3,
        "linked": 2,
        "decided": 0,
        "near": 0,
        "unknown": 1,
        "share": 2 / 3,
    }
    assert links.near_misses.num_rows == 0


def test_person_told_in_many_rows_counts_once():
    row = {"person_id": "c1", "certificate": "c1"}
    links = find_links(
        [ARCHIVE, _people("bills", row, row), _people("bills", row, day=FEB, number=2)]
    )
    assert (_rates(links)["persons"], _rates(links)["share"]) == (1, 1.0)


def test_new_number_of_a_certificate_holds_from_its_day_and_does_not_rewrite_what_was_known():
    again = _archive(
        {"person_id": "p1b", "household_id": "h9", "certificate": "c1"}, day=MAR, number=2
    )
    for parts in ([ARCHIVE, again], [again, ARCHIVE]):
        links = find_links([*parts, _people("bills", {"person_id": "c1", "certificate": "c1"})])
        told = [(row["from_day"], row["person_id"]) for row in links.persons.to_pylist()]
        assert told == [(JAN, "p1"), (MAR, "p1b")]
        days = [date(2022, 12, 1), JAN, FEB, MAR, APR]
        records = pa.table({"person_id": ["c1"] * 5, "known_date": days, "total": range(5)})
        linked, lost = link_records(records, links)
        assert lost == 0
        assert sorted((r["total"], r["person_id"], r["household_id"]) for r in linked.to_pylist()) == [
            *((at, "p1", "h1") for at in range(3)),
            *((at, "p1b", "h9") for at in (3, 4)),
        ]  # fmt: skip


def test_of_two_persons_with_one_certificate_in_one_export_the_one_told_last_is_taken():
    again = _archive({"person_id": "p0", "household_id": "h9", "certificate": "c1"}, number=2)
    links = find_links([again, ARCHIVE, _people("bills", {"person_id": "c1", "certificate": "c1"})])
    assert links.persons["person_id"].to_pylist() == ["p0"]


def test_feed_of_nobody_in_the_archive_has_counts_of_zero():
    rates = _rates(find_links([ARCHIVE, _people("bills", {"person_id": "c9"})]))
    assert (rates["linked"], rates["decided"], rates["near"], rates["unknown"]) == (0, 0, 0, 1)


def test_nothing_told_links_nothing():
    links = find_links([])
    assert (links.persons.num_rows, links.rates.num_rows, links.near_misses.schema) == (
        0,
        0,
        NEAR_MISSES,
    )


# -------------------------------------------------------------------------------------- near misses


def test_number_with_two_digits_exchanged_is_told_with_the_row_to_look_at():
    feed = _people("bills", {"transposed": ["c7", "c2"], "source_row": 12})
    links = find_links([ARCHIVE, feed])
    assert links.near_misses.to_pylist() == [
        {
            "kind": "bills",
            "file": "bills.csv",
            "row": 12,
            "person_id": None,
            "candidate_id": "p2",
            "why": "two digits exchanged",
            "same_person": None,
        }
    ]
    assert (_rates(links)["linked"], _rates(links)["near"], _rates(links)["unknown"]) == (0, 1, 0)


def test_number_that_the_archive_has_wrong_is_told_too():
    links = find_links([ARCHIVE, _people("bills", {"person_id": "c3", "certificate": "c3"})])
    assert _near(links) == [("c3", "p3", "two digits exchanged", None)]


def test_same_name_and_birth_date_is_told_and_only_one_of_both_is_not():
    feed = _people(
        "bills",
        {"person_id": "x", "certificate": "x", "name": "n1", "birth_date": BORN},
        {"person_id": "y", "certificate": "y", "name": "n1", "birth_date": date(1970, 5, 2)},
        {"person_id": "z", "certificate": "z", "name": "n3"},
    )
    assert _near(find_links([ARCHIVE, feed])) == [("x", "p1", "same name and birth date", None)]


def test_who_is_linked_has_no_near_miss():
    feed = _people(
        "bills", {"person_id": "c1", "certificate": "c1", "name": "n2", "birth_date": BORN}
    )
    assert _near(find_links([ARCHIVE, feed])) == []


# ---------------------------------------------------------------------------------------- decisions


def _decided(answer, person="x", candidate="p1"):
    row = {
        "kind": "bills",
        "file": "bills.csv",
        "row": 2,
        "person_id": person,
        "candidate_id": candidate,
        "why": "same name and birth date",
        "same_person": answer,
    }
    return pa.Table.from_pylist([row], schema=NEAR_MISSES)


FEED = _people("bills", {"person_id": "x", "certificate": "x", "name": "n1", "birth_date": BORN})


def test_yes_links_from_the_next_import_on():
    links = find_links([ARCHIVE, FEED], _decided("yes"))
    assert links.persons.to_pylist() == [
        {"told_id": "x", "from_day": JAN, "person_id": "p1", "how": "decision"}
    ]
    assert _near(links) == [("x", "p1", "same name and birth date", "yes")]
    assert (_rates(links)["linked"], _rates(links)["decided"], _rates(links)["near"]) == (1, 1, 0)


def test_no_and_no_answer_link_nobody():
    for answer, near, unknown in (("no", 0, 1), (None, 1, 0)):
        links = find_links([ARCHIVE, FEED], _decided(answer))
        assert links.persons.num_rows == 0
        assert (_rates(links)["near"], _rates(links)["unknown"]) == (near, unknown)


def test_decision_about_somebody_who_is_gone_does_nothing():
    assert find_links([ARCHIVE, FEED], _decided("yes", candidate="gone")).persons.num_rows == 0
    assert find_links([ARCHIVE, FEED], _decided("yes", person="gone")).persons.num_rows == 0


def test_decisions_come_back_from_the_file_and_are_never_lost(tmp_path):
    path = tmp_path / "near_misses.csv"
    write_decisions(path, _decided(None), read_decisions(path))
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    assert lines[1].endswith(",")
    path.write_text("\n".join([lines[0], lines[1] + " 是 "]), encoding="gb18030")
    decided = read_decisions(path)
    assert decided.equals(_decided("yes"))
    # The pair is no near miss any more; what was decided about it stays.
    write_decisions(path, NEAR_MISSES.empty_table(), decided)
    assert read_decisions(path).equals(decided)
    # And while it is one, it stands there once.
    write_decisions(path, decided, decided)
    assert read_decisions(path).num_rows == 1


def test_answers_that_nobody_can_read_are_told_with_their_lines(tmp_path):
    path = tmp_path / "near_misses.csv"
    write_decisions(
        path,
        pa.concat_tables([_decided(None), _decided(None, "y"), _decided(None, "z")]),
        NEAR_MISSES.empty_table(),
    )
    header, *lines = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text(
        "\n".join([header, lines[0] + "perhaps", lines[1] + "否", lines[2] + "?"]), encoding="utf-8"
    )
    with pytest.raises(
        HistoryError, match="line 2: found 'perhaps'; expected yes, no or nothing(?s:.*)line 4"
    ) as caught:
        read_decisions(path)
    assert len(caught.value.faults) == 2


def test_file_with_another_header_is_told(tmp_path):
    path = tmp_path / "near_misses.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(HistoryError, match="near_misses.csv: found another header"):
        read_decisions(path)


def test_names_of_files_are_no_formulas(tmp_path):
    path = tmp_path / "near_misses.csv"
    row = _decided(None).to_pylist()[0] | {"file": "=HYPERLINK(1).csv"}
    write_decisions(
        path, pa.Table.from_pylist([row], schema=NEAR_MISSES), NEAR_MISSES.empty_table()
    )
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1][1] == "'=HYPERLINK(1).csv"


# ------------------------------------------------------------------------------------------- records


def test_records_get_the_household_in_which_the_person_was_when_they_became_known():
    moved = _archive(
        {"person_id": "p1", "household_id": "new", "certificate": "c1"}, day=MAR, number=2
    )
    links = find_links([ARCHIVE, moved, _people("bills", {"person_id": "c1", "certificate": "c1"})])
    days = [date(2022, 12, 1), JAN, FEB, MAR, APR]
    records = pa.table(
        {
            "person_id": ["c1"] * 5,
            "household_id": pa.nulls(5, pa.string()),
            "known_date": days,
            "total": range(5),
        }
    )
    linked, lost = link_records(records, links)
    assert lost == 0
    told = sorted(
        (row["total"], row["person_id"], row["household_id"]) for row in linked.to_pylist()
    )
    assert told == [
        (0, "p1", "h1"),
        (1, "p1", "h1"),
        (2, "p1", "h1"),
        (3, "p1", "new"),
        (4, "p1", "new"),
    ]


def test_household_that_the_feed_itself_says_stays():
    links = find_links([ARCHIVE, _people("bills", {"person_id": "c1", "certificate": "c1"})])
    records = pa.table(
        {
            "person_id": ["c1", "c9", None],
            "household_id": ["own", "other", "third"],
            "known_date": [FEB] * 3,
        }
    )
    linked, lost = link_records(records, links)
    assert lost == 0
    assert sorted((row["person_id"] or "", row["household_id"]) for row in linked.to_pylist()) == [
        ("", "third"),
        ("c9", "other"),
        ("p1", "own"),
    ]


def test_records_of_nobody_are_counted():
    links = find_links([ARCHIVE, _people("bills", {"person_id": "c9", "certificate": "c9"})])
    linked, lost = link_records(
        pa.table({"person_id": ["c9", None], "known_date": [FEB, FEB]}), links
    )
    assert (linked.num_rows, lost) == (0, 2)
