"""The store: what goes in comes out, the same only once, damage is told, never built upon."""

import json
import os
import shutil
import stat
from datetime import date

import pyarrow as pa
import pytest

from poverty_risk.exceptions import HistoryError
from poverty_risk.sources.delivery import Origin, compute_content_hash
from poverty_risk.sources.history import build_history, build_tables, describe_coverage
from poverty_risk.sources.raw import REJECTED, Converted, Counts
from poverty_risk.sources.store import PRIVATE, Store

KEY = b"a key of the office, 32 bytes ..."
JAN, FEB, MAR = (date(2023, month, 28) for month in (1, 2, 3))
PEOPLE = pa.schema(
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


def _converted(day, land=2.0, *, members="xy", **more):
    """An export of one household with its members, as a conversion leaves it."""
    dated = {"event_date": [day], "known_date": [day]}
    home = {"household_id": ["h"], "township_id": ["t"], "village_id": ["v"], "status": ["active"]}
    persons = [
        {"person_id": p, "household_id": "h", "certificate": f"c{p}", "source_row": 2}
        for p in members
    ]
    told = [
        {**person, "event_date": day, "known_date": day, "status": "present"} for person in persons
    ]
    rejected = {
        "file": "a.csv",
        "sheet": "",
        "row": 9,
        "column": "land",
        "found": "x",
        "expected": "a number",
    }
    fields = {
        "kind": "person",
        "file": "a.csv",
        "sheet": "",
        "exported": day,
        "records": {
            "household": pa.table(home | dated | {"cultivated_land": [land], "source_row": [2]}),
            "person": pa.Table.from_pylist(told).drop_columns(["certificate"]),
        },
        "states": frozenset({"household", "person"}),
        "people": pa.Table.from_pylist(persons, schema=PEOPLE),
        "private": PRIVATE.empty_table(),
        "rejected": pa.Table.from_pylist([rejected], schema=REJECTED),
        "counts": Counts(4, 2, 1, 1),
    }
    return Converted(**fields | more)


def _origin(day, content="0" * 16, mapping="a" * 16):
    return Origin(file="a.csv", content=content, mapping=mapping, exported=day)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    with store.writing(KEY):
        store.add(_origin(JAN), [_converted(JAN)])
    return store


def _state(store):
    """Everything a store says, by content."""
    return {item.name: store.read(item) for item in store.deliveries()}


# ---------------------------------------------------------------------------- in and out


def test_what_was_added_comes_back_as_it_was(store):
    (delivery,) = store.deliveries()
    (back,) = store.read(delivery)
    told = _converted(JAN)
    assert (back.kind, back.file, back.exported, back.states, back.counts) == (
        told.kind,
        told.file,
        JAN,
        told.states,
        told.counts,
    )
    assert {n: t.to_pylist() for n, t in back.records.items()} == {
        n: t.to_pylist() for n, t in told.records.items()
    }
    assert back.people.equals(told.people)
    assert back.rejected.equals(told.rejected)


def test_the_same_twice_changes_no_file(store):
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    with store.writing(KEY):
        again = store.add(_origin(JAN), [_converted(JAN)])
    assert again == store.deliveries()[0]
    assert {
        path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()
    } == before


def test_same_content_of_another_day_is_another_delivery(store):
    with store.writing(KEY):
        store.add(_origin(FEB), [_converted(FEB)])
    assert [item.origin.exported for item in store.deliveries()] == [JAN, FEB]


def test_reading_with_another_mapping_takes_the_place_and_back_again(store):
    for mapping, land in (("b" * 16, 3.0), ("a" * 16, 4.0), ("b" * 16, 5.0)):
        with store.writing(KEY):
            store.add(_origin(JAN, mapping=mapping), [_converted(JAN, land)])
        (delivery,) = store.deliveries()
        assert store.read(delivery)[0].records["household"]["cultivated_land"].to_pylist() == [land]
    with store.writing(KEY):
        pass  # a run that adds nothing clears away what was replaced
    assert len(list((store.folder / "imports").iterdir())) == 1


def test_removed_delivery_is_gone_with_what_was_private(tmp_path):
    store = Store(tmp_path / "store")
    private = pa.table({"id": ["x"], "field": ["phone"], "value": ["13800000000"]}, schema=PRIVATE)
    with store.writing(KEY):
        store.add(_origin(JAN), [_converted(JAN, private=private)])
        store.add(_origin(FEB), [_converted(FEB)])
    january, february = store.deliveries()
    assert store.read_private(january).equals(private)
    assert store.read_private(february).num_rows == 0
    with store.writing(KEY):
        store.remove([january])
    assert store.deliveries() == (february,)
    assert store.read_private(january).num_rows == 0
    assert not list((store.folder / "office_only").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_private_values_lie_apart_and_only_their_owner_may_read_them(tmp_path):
    store = Store(tmp_path / "store")
    private = pa.table(
        {"id": ["x"], "field": ["name"], "value": ["planted secret"]}, schema=PRIVATE
    )
    with store.writing(KEY):
        store.add(_origin(JAN), [_converted(JAN, private=private)])
    (path,) = (store.folder / "office_only").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    elsewhere = [p.read_bytes() for p in (store.folder / "imports").rglob("*") if p.is_file()]
    assert elsewhere
    assert not any(b"planted secret" in content for content in elsewhere)


def test_counts_that_do_not_add_up_are_refused(store):
    before = _state(store).keys()
    with (
        store.writing(KEY),
        pytest.raises(HistoryError, match="5 rows read, 2 accepted, 1 rejected, 1 repeated"),
    ):
        store.add(_origin(FEB), [_converted(FEB, counts=Counts(5, 2, 1, 1))])
    assert _state(store).keys() == before


# ----------------------------------------------------------------------------- what is refused


def test_another_key_is_refused_before_anything_is_written(store):
    with (
        pytest.raises(HistoryError, match="another key than that of its ids"),
        store.writing(b"another key of the office"),
    ):
        pytest.fail("the store was opened")


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with (
        pytest.raises(HistoryError, match="1 files or folders of something else"),
        Store(tmp_path / "photos").writing(KEY),
    ):
        pytest.fail("the folder was taken")
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="found a file"), Store(tmp_path / "file").writing(KEY):
        pytest.fail("the file was taken")
    with pytest.raises(HistoryError, match="expected a folder that an import made"):
        Store(tmp_path / "photos").deliveries()


def test_newer_format_is_refused(store):
    path = store.folder / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(HistoryError, match="found format 2; expected format 1"), store.writing(KEY):
        pytest.fail("the store was opened")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '"text"', '{"format": 1}', "[" * 100_000, "\x00"]
)
def test_damaged_identity_is_told(store, content):
    (store.folder / "store.json").write_text(content)
    with pytest.raises(HistoryError, match="store '.*': found"), store.writing(KEY):
        pytest.fail("the store was opened")


# ------------------------------------------------------------------------------------- damage


def _files(store):
    return sorted((store.folder / "imports").rglob("*.parquet"))


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "empty", "exchanged"])
@pytest.mark.parametrize("number", range(4))
def test_damaged_file_is_told_and_the_same_import_repairs_it(store, damage, number):
    path, another = _files(store)[number], _files(store)[number - 1]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = bytes([content[40] ^ 1])
        path.write_bytes(
            {
                "truncated": content[: len(content) // 2],
                "altered": content[:40] + changed + content[41:],
                "empty": b"",
                "exchanged": another.read_bytes(),
            }[damage]
        )
    (delivery,) = store.deliveries()
    assert [fault.place for fault in store.find_damage(delivery)] == [
        f"delivery '{delivery.name}', {path.name}"
    ]
    with pytest.raises(
        HistoryError, match="expected the file as it was written. Import its file again"
    ):
        store.read(delivery)
    with store.writing(KEY):
        store.add(_origin(JAN), [_converted(JAN)])
    assert store.find_damage(store.deliveries()[0]) == []
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no manifest.json that can be read"),
        ("{", "no manifest.json that can be read"),
        ("[" * 100_000, "no manifest.json that can be read"),
        ("[]", "found format None"),
        ('{"format": 7}', "found format 7; expected format 1"),
        ('{"format": 1}', "no such key"),
    ],
)
def test_damaged_manifest_is_told_and_stops_no_import(store, content, message):
    path = next((store.folder / "imports").iterdir()) / "manifest.json"
    before = path.read_text()
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(HistoryError, match=message):
        store.deliveries()
    with store.writing(KEY):
        store.add(_origin(FEB), [_converted(FEB)])
        store.add(_origin(JAN), [_converted(JAN)])
    assert [item.origin.exported for item in store.deliveries()] == [JAN, FEB]
    assert json.loads(path.read_text()).keys() == json.loads(before).keys()


def test_manifest_of_another_delivery_or_with_paths_is_refused(store):
    folder = next((store.folder / "imports").iterdir())
    shutil.copytree(folder, folder.with_name("20230101-copy"))
    with pytest.raises(HistoryError, match="'20230101-copy'.*expected its own manifest"):
        store.deliveries()
    shutil.rmtree(folder.with_name("20230101-copy"))
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps(told | {"files": {"../../store.json": "0" * 32}})
    )
    with pytest.raises(HistoryError, match="expected its own manifest"):
        store.deliveries()
    outside = store.folder.parent / "outside"
    outside.mkdir()
    (folder / "manifest.json").write_text(json.dumps(told | {"replaces": "../../../outside"}))
    with store.writing(KEY):
        pass
    assert outside.is_dir()


def test_origin_refuses_what_is_no_fingerprint():
    with pytest.raises(ValueError, match="content"):
        _origin(JAN, content="../../etc")


# ------------------------------------------------------------------------- from the store to history


def test_history_of_three_exports(tmp_path):
    store = Store(tmp_path / "store")
    with store.writing(KEY):
        # The last one first: the order of imports does not matter.
        for day, land, members in ((MAR, 2.5, "x"), (JAN, 2.0, "xy"), (FEB, 2.0, "xy")):
            store.add(_origin(day), [_converted(day, land, members=members)])
    tables = build_history(store)
    home = tables["household"]
    assert home[["event_date", "known_date", "cultivated_land"]].astype(
        str
    ).to_numpy().tolist() == [
        ["2023-01-28", "2023-01-28", "2.0"],
        ["2023-03-28", "2023-03-28", "2.5"],
    ]
    person = tables["person"][["person_id", "known_date", "status"]].astype(str).to_numpy().tolist()
    assert sorted(person) == [
        ["x", "2023-01-28", "present"],
        ["y", "2023-01-28", "present"],
        ["y", "2023-03-28", "left"],
    ]
    assert str(tables.observed_to.date()) == "2023-03-29"
    assert len(tables.rejected) == 0


def test_first_export_alone_is_said_to_be_a_snapshot(store, caplog):
    with caplog.at_level("WARNING"):
        build_history(store)
    assert "Told once only, so without history: person." in caplog.text
    assert describe_coverage(store).loc[
        "person", ["deliveries", "rows", "is_snapshot"]
    ].tolist() == [1, 2, True]
    with store.writing(KEY):
        store.add(_origin(FEB), [_converted(FEB)])
    assert not describe_coverage(store).loc["person", "is_snapshot"]


def test_observation_ends_with_the_last_export_of_who_is_followed(store):
    bill = {
        "bill_id": "1",
        "person_id": "x",
        "household_id": None,
        "event_date": FEB,
        "known_date": MAR,
        "total": 9.0,
    }
    feed = _converted(
        MAR,
        kind="bills",
        states=frozenset(),
        people=PEOPLE.empty_table(),
        records={
            "medical_bill": pa.Table.from_pylist(
                [bill, bill | {"bill_id": "2", "person_id": "nobody"}],
                schema=pa.schema(
                    [
                        ("bill_id", pa.string()),
                        ("person_id", pa.string()),
                        ("household_id", pa.string()),
                        ("event_date", pa.date32()),
                        ("known_date", pa.date32()),
                        ("total", pa.float64()),
                    ]
                ),
            )
        },
    )
    with store.writing(KEY):
        store.add(_origin(MAR, content="b" * 16), [feed])
    tables = build_history(store)
    # A bill of March says nothing about who was identified in March.
    assert str(tables.observed_to.date()) == "2023-01-29"
    assert str(build_history(store, observed_to="2023-03-29").observed_to.date()) == "2023-03-29"


def test_records_of_nobody_in_the_archive_are_counted_and_stay_in_the_store(store, caplog):
    told = pa.table(
        {
            "person_id": ["x", "nobody"],
            "household_id": pa.nulls(2, pa.string()),
            "bill_id": ["1", "2"],
            "event_date": [JAN, JAN],
            "known_date": [FEB, FEB],
            "total": [9.0, 8.0],
        }
    )
    people = [{"person_id": p, "certificate": f"c{p}"} for p in ("x", "nobody")]
    feed = _converted(
        FEB,
        kind="bills",
        states=frozenset(),
        people=pa.Table.from_pylist(people, schema=PEOPLE),
        records={"medical_bill": told},
    )
    with store.writing(KEY):
        store.add(_origin(FEB, content="b" * 16), [feed])
    with caplog.at_level("WARNING"):
        tables = build_history(store)
    assert tables["medical_bill"][["person_id", "household_id", "total"]].to_numpy().tolist() == [
        ["x", "h", 9.0]
    ]
    assert "medical_bill: 1 records of nobody in the archive." in caplog.text
    built = build_tables(store, tables.schema)
    assert {name: item.unlinked for name, item in built.items()} == {
        "household": 0,
        "person": 0,
        "medical_bill": 1,
    }


def test_store_of_another_schema_is_refused(store):
    strange = _converted(
        FEB, records={"livestock": pa.table({"household_id": ["h"]})}, states=frozenset()
    )
    with store.writing(KEY):
        store.add(_origin(FEB), [strange])
    with pytest.raises(
        HistoryError, match="found livestock; expected tables of the schema 'archive'"
    ):
        build_history(store)


def test_content_hash_is_of_all_bytes():
    assert compute_content_hash(b"a") != compute_content_hash(b"b")
