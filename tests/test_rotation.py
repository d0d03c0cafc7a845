"""New keys: pseudonyms of histories, stores and lookups, through the office's own map.

Expected pseudonyms are HMACs computed here from the ids and the keys.
"""

import dataclasses
import datetime as dt
import hashlib
import hmac
import re
import shutil

import pandas as pd
import pyarrow as pa
import pytest

from poverty_risk.exceptions import HistoryError, PovertyRiskError
from poverty_risk.retention import forget_before
from poverty_risk.rewriting import read_tables_of
from poverty_risk.rotation import IdMap, rotate_history, rotate_lookup, rotate_store
from poverty_risk.sources.delivery import Origin
from poverty_risk.sources.raw import REJECTED, Converted, Counts
from poverty_risk.sources.store import PRIVATE, Store
from poverty_risk.store_retention import forget_store_before, forget_store_household
from poverty_risk.tables import HistoryTables, read_history

OLD, NEW = b"an old key of an office", b"a new key of an office"
HOUSEHOLDS = ("H0000001", "H0000002")
PERSON, TWISTED = "11010119900307123X", "11010119900370123X"


def pseudonym(identifier, key):
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:20]


OLD_IDS = [pseudonym(h, OLD) for h in HOUSEHOLDS]
NEW_IDS = [pseudonym(h, NEW) for h in HOUSEHOLDS]


def make_map(identifiers=(*HOUSEHOLDS, PERSON)):
    pairs = {"pseudonym": [pseudonym(i, OLD) for i in identifiers], "household_id": identifiers}
    return IdMap.build(pd.DataFrame(pairs), OLD, NEW)


@pytest.fixture
def folder(tmp_path):
    """A history whose ids are pseudonyms: a CSV and a Parquet table."""
    folder = tmp_path / "h"
    folder.mkdir()
    rows = {"household_id": [*OLD_IDS, OLD_IDS[0]], "event_date": ["2021-01-01"] * 3}
    rows |= {"known_date": ["2021-01-02"] * 3, "kind": ["flood", "fire", "death"]}
    pd.DataFrame(rows).to_csv(folder / "shock.csv", index=False)
    members = {
        "household_id": OLD_IDS[:1],
        "person_id": [pseudonym(PERSON, OLD)],
        "status": ["present"],
    }
    members |= {"event_date": [dt.date(2021, 1, 1)], "known_date": [dt.date(2021, 1, 2)]}
    pd.DataFrame(members).to_parquet(folder / "person.parquet")
    return folder


# ------------------------------------------------------------------------------------- a history


def test_every_pseudonym_of_a_history_is_replaced_and_nothing_else(folder):
    assert rotate_history(folder, make_map()) == 3
    tables = {name: table.to_pandas() for name, table in read_tables_of(folder).items()}
    assert tables["shock"]["household_id"].tolist() == [*NEW_IDS, NEW_IDS[0]]
    assert tables["shock"]["kind"].tolist() == ["flood", "fire", "death"]
    assert tables["person"]["person_id"].tolist() == [pseudonym(PERSON, NEW)]
    text = b"".join(path.read_bytes() for path in folder.iterdir())
    assert not [old for old in OLD_IDS if old.encode() in text]


def test_rejected_rows_get_new_pseudonyms_and_lose_ids_that_are_nobodys(folder, tmp_path):
    rows = pd.read_csv(folder / "shock.csv").assign(known_date="2020-12-01")  # before it happened
    rows.loc[1, "household_id"] = "a mistyped id"
    rows.loc[2, "household_id"] = f" {OLD_IDS[0]}\0"
    rows.loc[2, "event_date"] = OLD_IDS[0]  # a shifted row: its fault quotes the cell
    frames = {"shock": pd.concat([pd.read_csv(folder / "shock.csv"), rows])}
    written = HistoryTables.from_frames(frames).write(tmp_path / "written")
    rotate_history(written, make_map())
    tables = read_history(written)
    found = tables.rejected_rows("shock")
    assert found["household_id"].fillna("").tolist() == [NEW_IDS[0], "", NEW_IDS[0]]
    assert tables.rejection.by_household.keys() == {NEW_IDS[0]}
    assert found["kind"].tolist() == ["flood", "fire", "death"]
    assert tables.rejected["row"].tolist() == [3, 4, 5]
    text = b"".join(path.read_bytes() for path in written.rglob("*") if path.is_file())
    assert not [old for old in (*OLD_IDS, "mistyped") if old.encode() in text]


def test_what_a_fault_quotes_of_an_old_pseudonym_goes(folder, tmp_path):
    good = pd.read_csv(folder / "shock.csv")
    shifted = good.assign(event_date="60011427145006123" + OLD_IDS[0][-3:], kind="  garbled  ")
    new = {
        shifted["event_date"].iloc[0]: "renewed00000000renewed",
        **dict(zip(OLD_IDS, NEW_IDS, strict=True)),
    }
    written = HistoryTables.from_frames({"shock": pd.concat([good, shifted])}).write(tmp_path / "w")
    rotate_history(written, IdMap(new))
    tables = read_history(written)
    assert set(tables.rejected.loc[tables.rejected["column"] == "event_date", "found"]) == {""}
    assert set(tables.rejected_rows("shock")["kind"]) == {"  garbled  "}
    assert set(tables.rejected_rows("shock")["event_date"]) == {"renewed00000000renewed"}
    before = {path: path.stat().st_mtime_ns for path in written.iterdir()}
    rotate_history(written, IdMap(new))
    assert before == {path: path.stat().st_mtime_ns for path in written.iterdir()}


def test_a_rotation_that_was_interrupted_is_run_again(folder, tmp_path):
    """One table has the new pseudonyms already, the other has not."""
    other = shutil.copytree(folder, tmp_path / "other")
    rotate_history(other, make_map())
    shutil.copy(other / "shock.csv", folder / "shock.csv")
    rotate_history(folder, make_map())
    assert read_tables_of(folder) == read_tables_of(other)
    assert rotate_history(folder, make_map()) == 0


def test_an_id_that_is_not_in_the_map_stops_everything(folder):
    before = (folder / "shock.csv").read_bytes()
    with pytest.raises(HistoryError, match="1 values of household_id that the id map") as caught:
        rotate_history(folder, make_map((HOUSEHOLDS[0], PERSON)))
    assert OLD_IDS[1] not in str(caught.value)
    assert (folder / "shock.csv").read_bytes() == before


def test_the_map_takes_only_pairs_that_were_made_with_one_of_the_keys(tmp_path):
    pairs = pd.DataFrame(
        {
            "id": [OLD_IDS[0], NEW_IDS[1], OLD_IDS[0], "short", None],
            "field": ["number", "number", "telephone", "number", "number"],
            "value": [HOUSEHOLDS[0], HOUSEHOLDS[1], "13812345678", "H1", "H2"],
        }
    )
    expected = dict(zip(OLD_IDS, NEW_IDS, strict=True))
    assert IdMap.build(pairs, OLD, NEW).new_by_old == expected
    pairs.to_parquet(tmp_path / "ids.parquet")
    pairs.to_csv(tmp_path / "ids.csv", index=False)
    for name in ("ids.parquet", "ids.csv"):
        assert IdMap.read(tmp_path / name, OLD, NEW).new_by_old == expected
    assert "H0000001" not in repr(IdMap.build(pairs, OLD, NEW))


def test_files_that_are_no_map(tmp_path):
    with pytest.raises(PovertyRiskError, match=re.escape("id map 'none.csv': found No such file")):
        IdMap.read(tmp_path / "none.csv", OLD, NEW)
    (tmp_path / "ids.parquet").write_text("13812345678")
    with pytest.raises(PovertyRiskError, match="'ids.parquet': found unreadable") as caught:
        IdMap.read(tmp_path / "ids.parquet", OLD, NEW)
    assert "13812345678" not in str(caught.value)
    (tmp_path / "ids.csv").write_text("a,b\n1,2\n")
    with pytest.raises(PovertyRiskError, match="2 other columns"):
        IdMap.read(tmp_path / "ids.csv", OLD, NEW)


# -------------------------------------------------------------------------------------- a lookup


def test_old_workbooks_can_still_be_read_back_by_the_lookup():
    rows = pd.DataFrame({"pseudonym": ["first round"], "household_id": ["H0000001"]})
    found = rotate_lookup(rows, None, NEW)
    assert found["pseudonym"].tolist() == [NEW_IDS[0], "first round"]
    assert set(found["household_id"]) == {"H0000001"}
    assert rotate_lookup(found, None, NEW).equals(found)


def test_a_lookup_of_a_history_of_pseudonyms_points_at_the_new_ones():
    rows = pd.DataFrame({"pseudonym": ["first round"], "household_id": [OLD_IDS[0]]})
    found = rotate_lookup(rows, make_map(), NEW)
    assert set(found["household_id"]) == {NEW_IDS[0]}
    assert found["pseudonym"].tolist() == [pseudonym(NEW_IDS[0], NEW), "first round"]


# --------------------------------------------------------------------------------------- a store


def converted(exported, households, *, private=True):
    """One sheet: the state of some households on a day, their floods, a person of the first."""
    day = dt.date.fromisoformat(exported)
    ids = [pseudonym(h, OLD) for h in households]
    count = len(ids)
    state = pa.table(
        {
            "household_id": ids, "event_date": [day] * count, "known_date": [day] * count,
            "township_id": ["t"] * count, "village_id": ["v"] * count,
            "status": ["active"] * count, "source_row": list(range(count)),
        }
    )  # fmt: skip
    flood = state.select(["household_id", "event_date", "known_date", "source_row"])
    flood = flood.append_column("kind", pa.array(["flood"] * count))
    people = pa.table(
        {
            "person_id": [pseudonym(PERSON, OLD)],
            "household_id": ids[:1],
            "certificate": [pseudonym(PERSON, OLD)],
            "transposed": pa.array([[pseudonym(TWISTED, OLD)]]),
            "name": [pseudonym("Li Si", OLD)],
            "birth_date": [dt.date(1990, 3, 7)],
        }
    )
    work = pa.table(
        {
            "household_id": ids[:1], "person_id": [pseudonym(PERSON, OLD)], "event_date": [day],
            "known_date": [day], "worked": [True], "source_row": [0],
        }
    )  # fmt: skip
    known = [(pseudonym(h, OLD), "number", h) for h in (*households, PERSON)]
    known.append((pseudonym(PERSON, OLD), "telephone", "13812345678"))
    kept = pa.Table.from_pylist(
        [dict(zip(("id", "field", "value"), row, strict=True)) for row in known], PRIVATE
    )
    rejected = pa.Table.from_pylist([{"file": "a.xlsx", "row": 9, "found": "?"}], REJECTED)
    return Converted(
        kind="household", file="a.xlsx", sheet="", exported=day,
        records={"household": state, "shock": flood, "work": work},
        states=frozenset({"household"}), people=people,
        private=kept if private else PRIVATE.empty_table(), rejected=rejected,
        counts=Counts(count + 1, count, 1, 0),
    )  # fmt: skip


def make_store(path, *sheets):
    store = Store(path)
    with store.writing(OLD):
        for number, sheet in enumerate(sheets):
            origin = Origin(
                file="a.xlsx", content=f"{number:016x}", mapping="0" * 16, exported=sheet.exported
            )
            store.add(origin, [sheet])
    (path / "decisions.csv").write_text("kept")
    return store


def records_of(store, table, column="household_id"):
    return [
        value
        for delivery in store.deliveries()
        for sheet in store.read(delivery)
        for value in sheet.records[table][column].to_pylist()
    ]


def test_a_store_gets_new_pseudonyms_and_is_bound_to_the_new_key(tmp_path):
    store = make_store(
        tmp_path / "s", converted("2021-01-31", HOUSEHOLDS), converted("2022-01-31", HOUSEHOLDS)
    )
    # A name and a twisted number are in no map: hashes of them are dropped, two of each delivery.
    assert rotate_store(tmp_path / "s", OLD, NEW) == (3, 4)
    assert records_of(store, "household") == NEW_IDS * 2
    assert records_of(store, "work", "person_id") == [pseudonym(PERSON, NEW)] * 2
    first = store.deliveries()[0]
    people = store.read(first)[0].people.to_pylist()[0]
    assert people["certificate"] == pseudonym(PERSON, NEW)
    assert (people["name"], people["transposed"]) == (None, [])
    private = store.read_private(first).to_pylist()
    assert {row["id"] for row in private} == {*NEW_IDS, pseudonym(PERSON, NEW)}
    assert "13812345678" in {row["value"] for row in private}
    assert (tmp_path / "s" / "decisions.csv").read_text() == "kept"
    with store.writing(NEW):
        pass
    with pytest.raises(HistoryError, match="another key"), store.writing(OLD):
        pass
    text = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert not [old for old in OLD_IDS if old.encode() in text]
    assert {path.name for path in tmp_path.iterdir()} == {".s.lock", "s"}


def test_a_store_that_kept_no_ids_is_left_as_it_was(tmp_path):
    store = make_store(tmp_path / "s", converted("2021-01-31", HOUSEHOLDS, private=False))
    with pytest.raises(HistoryError, match="import the files again with the new key"):
        rotate_store(tmp_path / "s", OLD, NEW)
    assert records_of(store, "household") == OLD_IDS
    rotate_store(tmp_path / "s", OLD, NEW, make_map())
    assert records_of(store, "household") == NEW_IDS


def test_a_store_forgets_what_was_known_before_a_day(tmp_path):
    """Both exports before the day tell the state of both households: the later one is in force."""
    store = make_store(
        tmp_path / "s",
        converted("2020-01-31", HOUSEHOLDS),
        converted("2021-01-31", HOUSEHOLDS[:1]),
        converted("2022-01-31", HOUSEHOLDS[:1]),
    )
    forgotten = forget_store_before(tmp_path / "s", OLD, "2022-01-01")
    assert forgotten.records.loc["household"].to_dict() == {
        "removed": 1, "in_force": 2, "undated": 0, "kept": 1,
    }  # fmt: skip
    assert records_of(store, "household") == [OLD_IDS[1], OLD_IDS[0], OLD_IDS[0]]
    assert records_of(store, "shock") == OLD_IDS[:1]
    assert records_of(store, "work") == OLD_IDS[:1]
    deliveries = store.deliveries()
    assert [str(d.origin.exported) for d in deliveries] == [
        "2020-01-31",
        "2021-01-31",
        "2022-01-31",
    ]
    assert [len(store.read(d)[0].rejected) for d in deliveries] == [0, 0, 1]
    # The person's household is not in force in the first delivery any more, the second one's is.
    assert [len(store.read(d)[0].people) for d in deliveries] == [1, 1, 1]
    assert not [fault for delivery in deliveries for fault in store.find_damage(delivery)]


def test_a_store_forgets_a_household_with_its_persons_and_private_ids(tmp_path):
    store = make_store(tmp_path / "s", converted("2021-01-31", HOUSEHOLDS))
    assert forget_store_household(tmp_path / "s", OLD, OLD_IDS[:1]).gone == 1
    assert records_of(store, "household") == OLD_IDS[1:]
    delivery = store.deliveries()[0]
    assert store.read(delivery)[0].people.num_rows == 0
    assert [row["value"] for row in store.read_private(delivery).to_pylist()] == [HOUSEHOLDS[1]]
    text = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert OLD_IDS[0].encode() not in text
    with pytest.raises(HistoryError, match="1 of 1 households without any record"):
        forget_store_household(tmp_path / "s", OLD, OLD_IDS[:1])


def test_a_delivery_of_which_nothing_is_left_is_removed(tmp_path):
    sheet = converted("2020-01-31", HOUSEHOLDS)
    feed = dataclasses.replace(sheet, records={"shock": sheet.records["shock"]})
    store = make_store(tmp_path / "s", feed, converted("2022-01-31", HOUSEHOLDS))
    forget_store_before(tmp_path / "s", OLD, "2022-01-01")
    assert [str(d.origin.exported) for d in store.deliveries()] == ["2022-01-31"]


def test_another_key_changes_nothing(tmp_path):
    store = make_store(tmp_path / "s", converted("2020-01-31", HOUSEHOLDS))
    with pytest.raises(HistoryError, match="another key"):
        forget_store_before(tmp_path / "s", NEW, "2022-01-01")
    assert records_of(store, "household") == OLD_IDS


def test_a_history_and_a_store_forget_by_the_same_rules(tmp_path):
    """The records of a store, written as a history, and forgotten there."""
    sheets = [converted("2020-01-31", HOUSEHOLDS), converted("2022-01-31", HOUSEHOLDS[:1])]
    store = make_store(tmp_path / "s", *sheets)
    (tmp_path / "h").mkdir()
    for name in ("household", "shock", "work"):
        together = pa.concat_tables(
            [sheet.records[name].drop_columns(["source_row"]) for sheet in sheets]
        )
        together.to_pandas().to_parquet(tmp_path / "h" / f"{name}.parquet")
    in_history = forget_before(tmp_path / "h", "2022-01-01")
    in_store = forget_store_before(tmp_path / "s", OLD, "2022-01-01")
    pd.testing.assert_frame_equal(in_history.records, in_store.records)
    for name, table in read_tables_of(tmp_path / "h").items():
        assert table["household_id"].to_pylist() == records_of(store, name)
