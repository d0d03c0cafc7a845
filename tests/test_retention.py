"""Forgetting: what goes, what is in force and stays, and that a killed program leaves one state whole.

Expected rows were written down by hand from the rules at the head of `poverty_risk.retention`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poverty_risk import read_history
from poverty_risk.cohort import build_prediction_points
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.features import build_features, load_catalog
from poverty_risk.retention import RetentionPolicy, forget_before, forget_household
from poverty_risk.rewriting import read_tables_of, rewrite_folder
from poverty_risk.tables import HistoryTables

DAY = "2022-01-01"


def write_csv(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder


def household(id_, event, known, status="active"):
    return {
        "household_id": id_,
        "event_date": event,
        "known_date": known,
        "township_id": "t",
        "village_id": "v",
        "status": status,
    }


def shock(id_, event, known, loss):
    row = {"household_id": id_, "event_date": event, "known_date": known, "kind": "flood"}
    return row | {"loss": loss}


def rows_of(folder, table, *columns):
    return [
        tuple(row) for row in read_tables_of(folder)[table].to_pandas()[list(columns)].to_numpy()
    ]


# ------------------------------------------------------------------------------ what goes and stays


def test_records_known_before_the_day_go_and_those_known_on_it_stay(tmp_path):
    folder = write_csv(
        tmp_path / "h",
        shock=[
            shock("a", "2021-12-30", "2021-12-31", 1),
            shock("a", "2021-06-01", "2022-01-01", 2),  # happened before, known on the day
            shock("b", "2022-02-01", "2022-02-02", 3),
        ],
    )
    forgotten = forget_before(folder, DAY)
    assert rows_of(folder, "shock", "loss") == [("2",), ("3",)]
    assert forgotten.records.loc["shock"].to_dict() == {
        "removed": 1, "in_force": 0, "undated": 0, "kept": 2,
    }  # fmt: skip
    assert (forgotten.households, forgotten.gone) == (1, 0)


def test_a_correction_stays_without_what_it_corrects_and_no_old_value_comes_back(tmp_path):
    folder = write_csv(
        tmp_path / "h",
        shock=[
            shock("a", "2021-05-01", "2021-05-09", 100),  # corrected after the day
            shock("a", "2021-05-01", "2022-03-01", 900),
            shock("b", "2021-05-01", "2021-05-09", 100),  # corrected before the day
            shock("b", "2021-05-01", "2021-07-01", 900),
            shock("c", "2023-01-01", "2023-01-02", 5),
        ],
    )
    forget_before(folder, DAY)
    assert rows_of(folder, "shock", "household_id", "loss") == [("a", "900"), ("c", "5")]


def test_the_last_state_known_before_the_day_is_in_force(tmp_path):
    folder = write_csv(
        tmp_path / "h",
        household=[
            household("a", "2019-01-01", "2019-01-05"),
            household("a", "2020-01-01", "2020-01-05"),  # in force
            household("b", "2019-01-01", "2019-01-05"),  # in force; the next is known later
            household("b", "2021-01-01", "2022-06-01"),
            household("c", "2019-01-01", "2019-01-05", "moved"),  # corrected: was active
            household("c", "2019-01-01", "2020-01-05"),  # in force
            household("d", "2019-01-01", "2019-01-05"),
            household("d", "2020-01-01", "2020-01-05", "dissolved"),  # gone
            household("e", "2019-01-01", "2019-01-05", "moved"),  # came back: stays
            household("e", "2021-01-01", "2022-02-01"),
        ],
        check=[
            {"household_id": h, "event_date": "2018-01-01", "known_date": "2018-01-02",
             "item": item, "passed": True}
            for h in ("a", "d", "e") for item in ("water", "housing")
        ],
    )  # fmt: skip
    forgotten = forget_before(folder, DAY)
    assert rows_of(folder, "household", "household_id", "event_date", "status") == [
        ("a", "2020-01-01", "active"),
        ("b", "2019-01-01", "active"),
        ("b", "2021-01-01", "active"),
        ("c", "2019-01-01", "active"),
        ("e", "2021-01-01", "active"),
    ]
    # One of each item; nothing of the household that was dissolved.
    assert rows_of(folder, "check", "household_id", "item") == [
        ("a", "water"), ("a", "housing"), ("e", "water"), ("e", "housing"),
    ]  # fmt: skip
    assert forgotten.gone == 1
    assert forgotten.records.loc["household", "in_force"] == 3


def test_a_state_stays_as_it_was_believed_although_it_was_corrected_since(tmp_path):
    """Known on 1 January 2022: active. The correction became known in March."""
    folder = write_csv(
        tmp_path / "h",
        household=[
            household("a", "2019-01-01", "2019-01-05"),
            household("a", "2019-01-01", "2022-03-01", "moved"),
        ],
    )
    forget_before(folder, DAY)
    before = read_history(folder).known_before("2022-02-01")["household"]
    assert before["status"].tolist() == ["active"]


def test_help_and_loans_that_have_ended_go(tmp_path):
    def helped(kind, valid_to):
        row = {"household_id": "a", "event_date": "2020-01-01", "known_date": "2020-01-02"}
        return row | {"kind": kind, "valid_to": valid_to}

    def loan(id_, known, balance):
        return {"household_id": "a", "event_date": known, "known_date": known,
                "loan_id": id_, "balance": balance}  # fmt: skip

    folder = write_csv(
        tmp_path / "h",
        household=[household("a", "2019-01-01", "2019-01-05")],
        assistance=[helped("dibao", None), helped("housing", "2021-12-31"),
                    helped("medical", "2022-01-01")],
        loan=[loan("l1", "2020-01-01", 500.0), loan("l1", "2021-01-01", 0.0),
              loan("l2", "2021-01-01", 300.0)],
    )  # fmt: skip
    forget_before(folder, DAY)
    assert rows_of(folder, "assistance", "kind") == [("dibao",), ("medical",)]
    assert rows_of(folder, "loan", "loan_id", "balance") == [("l2", "300.0")]


def test_rows_without_a_readable_known_date_stay_and_are_counted(tmp_path):
    folder = write_csv(
        tmp_path / "h",
        shock=[
            shock("a", "2021-05-01", "soon", 1),
            shock("a", "2021-05-01", None, 2),
            shock("a", "2021-05-01", " 2021-05-02 ", 3),
        ],
    )
    forgotten = forget_before(folder, DAY)
    assert rows_of(folder, "shock", "loss") == [("1",), ("2",)]
    assert forgotten.records.loc["shock", "undated"] == 2


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_rejected_is_forgotten_too(tmp_path):
    bad = [
        shock("a", "2021-05-01", "2021-04-01", 1),  # known before it happened
        shock("a", "2022-05-01", "2022-04-01", 2),
        shock("b", "2022-05-01", "soon", 3),
        shock("c", "2022-05-01", "2022-04-02", 4),
    ]
    good = [shock(h, "2022-05-01", "2022-05-02", 5) for h in "abc"]
    raw = write_csv(tmp_path / "raw", shock=[*bad, *good])
    folder = read_history(raw).write(tmp_path / "h")
    assert read_history(folder).rejected_rows("shock")["loss"].tolist() == ["1", "2", "3", "4"]
    forget_before(folder, DAY)
    assert read_history(folder).rejected_rows("shock")["loss"].tolist() == ["2", "4"]
    assert forget_household(folder, ["c"]).gone == 1
    left = read_history(folder)
    assert left.rejected_rows("shock")["loss"].tolist() == ["2"]
    assert left.rejected["row"].tolist() == [1]
    forget_household(folder, ["a"])
    assert len(read_history(folder).rejected) == 0
    assert not list(folder.glob("rejected*"))


def test_rejected_rows_of_whoever_goes_go_from_every_cell(tmp_path):
    household = {"status": "active", "township_id": "T1", "village_id": "V1"}
    raw = write_csv(
        tmp_path / "raw",
        household=[
            household | {"household_id": h, "event_date": "2019-01-01", "known_date": "2019-01-02"}
            for h in ("a", "moved")
        ]
        + [household | {"household_id": "moved", "status": "moved", "event_date": "2020-01-01",
                        "known_date": "2020-01-02"}],
        shock=[
            shock("a", "2022-05-01", "2022-05-02", 1),
            shock("only", "2022-05-01", "2022-04-01", 2),  # of whom nothing else is known
            shock("moved", "2022-05-01", "2022-04-01", 3),
            shock("a", "2022-05-01", "2022-04-01T00:00:00Z", 4),
            shock("a", "2022-05-01", "2022-04-01", 5) | {"kind": "only "},  # a shifted cell
        ],
    )  # fmt: skip
    folder = read_history(raw).write(tmp_path / "h")
    forgotten = forget_before(folder, DAY)
    # Who has moved is gone, and with it what was rejected of it.
    assert forgotten.gone_ids == {"moved"}
    assert forgotten.rejected == 1
    assert read_history(folder).rejected_rows("shock")["loss"].tolist() == ["2", "4", "5"]
    only = forget_household(folder, ["only"])
    assert (only.removed, only.rejected) == (0, 2)
    assert read_history(folder).rejected_rows("shock")["loss"].tolist() == ["4"]
    assert b"only" not in (folder / "rejected-shock.arrow").read_bytes()
    with pytest.raises(HistoryError, match="1 of 1 households without any record"):
        forget_household(folder, ["only"])
    (folder / "kept").mkdir()
    (folder / "kept" / "shock.parquet").write_text("a backup")
    forget_household(folder, ["a"])
    assert (folder / "kept" / "shock.parquet").read_text() == "a backup"


def test_again_changes_nothing_and_villages_and_other_files_stay(tmp_path):
    tables = make_household_history(60, start="2019-01-01", end="2023-01-01", seed=2).tables
    folder = tables.write(tmp_path / "h")
    (folder / "notes.txt").write_text("kept")
    villages = tables["village"]
    first = forget_before(folder, DAY)
    content = contents(folder)
    again = forget_before(folder, DAY)
    assert first.removed > 1000
    assert again.removed == 0
    assert again.records["kept"].tolist() == first.records["kept"].tolist()
    assert content == contents(folder)
    found = read_history(folder)
    pd.testing.assert_frame_equal(found["village"], villages)
    assert dict(found.line) == dict(tables.line)
    assert (folder / "notes.txt").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == [".h.lock", "h"]


def test_scores_look_at_the_same_records_as_before(tmp_path):
    """Features whose lookback does not reach beyond the day, and last states, are the same."""
    tables = make_household_history(80, start="2019-01-01", end="2024-01-01", seed=2).tables
    folder = tables.write(tmp_path / "h")
    forget_before(folder, DAY)
    catalog = load_catalog("archive")
    points = build_prediction_points(tables, ["2023-12-01"], "at_risk")
    after = build_features(read_history(folder, line=dict(tables.line)), points, catalog)
    before = build_features(tables, points, catalog)
    within = [
        spec.name
        for spec in catalog.specs
        if spec.formula is None
        and spec.table not in (None, "village")
        and (
            str(spec.lookback) in ("92d", "122d", "300d", "365d")
            or (spec.table == "household" and spec.aggregator == "last")
        )
    ]
    assert len(within) > 30
    pd.testing.assert_frame_equal(after[within], before[within])


# ---------------------------------------------------------------------------------- one household


def test_a_household_goes_with_everything_of_it(tmp_path):
    tables = make_household_history(60, seed=2).tables
    folder, gone = tables.write(tmp_path / "h"), tables.households[7]
    forgotten = forget_household(folder, [gone])
    assert (forgotten.households, forgotten.gone) == (1, 1)
    raw = read_tables_of(folder)
    assert not any(
        gone in table["household_id"].to_pylist()
        for table in raw.values()
        if "household_id" in table.column_names
    )
    expected = sum(
        (tables[name]["household_id"] == gone).sum() for name in tables.names if name != "village"
    )
    assert forgotten.removed == expected


def test_ids_that_were_read_as_numbers_are_found(tmp_path):
    folder = tmp_path / "h"
    folder.mkdir()
    frame = pd.DataFrame([shock(101.0, "2021-05-01", "2021-05-02", 1)])
    frame = pd.concat([frame, frame.assign(household_id=[None])])
    frame.to_parquet(folder / "shock.parquet")
    assert forget_household(folder, ["101"]).removed == 1


def test_an_unknown_household_is_told_without_its_id_and_nothing_changes(tmp_path):
    folder = write_csv(tmp_path / "h", shock=[shock("a", "2021-05-01", "2021-05-02", 1)])
    before = (folder / "shock.csv").read_bytes()
    with pytest.raises(HistoryError, match="1 of 2 households without any record") as caught:
        forget_household(folder, ["a", "612501199003071230"])
    assert "612501199003071230" not in str(caught.value)
    assert (folder / "shock.csv").read_bytes() == before


# ------------------------------------------------------------------------------------ what is refused


def test_mistakes_are_told_and_change_nothing(tmp_path):
    with pytest.raises(HistoryError, match="a folder of tables"):
        forget_before(tmp_path / "none", DAY)
    folder = write_csv(tmp_path / "h", shock=[shock("a", "2021-05-01", "2021-05-02", 1)])
    with pytest.raises(DeclarationError, match="soon"):
        forget_before(folder, "soon")
    pd.DataFrame({"x": [1]}).to_csv(folder / "gossip.csv")
    pd.DataFrame({"household_id": ["a"]}).to_csv(folder / "loan.csv")
    with pytest.raises(HistoryError, match="4 problems") as caught:
        forget_before(folder, DAY)
    assert "table 'gossip'" in str(caught.value)
    assert "no column 'known_date'" in str(caught.value)
    assert rows_of(folder, "shock", "loss") == [("1",)]


def test_a_policy_of_ones_own(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("in_force: {shock: {per: [household_id]}}", encoding="utf-8")
    folder = write_csv(
        tmp_path / "h",
        shock=[
            shock("a", "2021-05-01", "2021-05-02", 1),
            shock("a", "2021-06-01", "2021-06-02", 2),
        ],
    )
    forget_before(folder, DAY, policy=RetentionPolicy.load(path))
    assert rows_of(folder, "shock", "loss") == [("2",)]


# ---------------------------------------------------------------------------------- killed, and full


def test_a_full_disk_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    folder = write_csv(tmp_path / "h", shock=[shock("a", "2021-05-01", "2021-05-02", 1)])
    before = (folder / "shock.csv").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("poverty_risk.rewriting._write", full)
    with pytest.raises(HistoryError, match="No space left on device"):
        forget_before(folder, DAY)
    assert (folder / "shock.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".h.lock", "h"]


def test_an_old_state_that_a_killed_program_left_is_deleted_or_taken_back(tmp_path):
    folder = write_csv(tmp_path / "h", shock=[shock("a", "2021-05-01", "2021-05-02", 1)])
    previous, half = tmp_path / ".h-previous", tmp_path / ".h-rewriting"
    shutil.copytree(folder, previous)
    half.mkdir()
    assert read_tables_of(folder)["shock"].num_rows == 1
    assert not previous.exists()
    assert not half.exists()
    folder.rename(previous)  # killed between the two steps
    assert forget_before(folder, DAY).removed == 1
    assert rows_of(folder, "shock", "loss") == []


FORGETTER = """
import sys
from poverty_risk.retention import forget_before
print("ready", flush=True)
forget_before(sys.argv[1], "2022-01-01")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are a matter of POSIX")
def test_killed_at_any_moment_one_state_is_whole_and_again_completes(tmp_path):
    tables = make_household_history(60, start="2019-01-01", end="2023-01-01", seed=2).tables
    start = tables.write(tmp_path / "start")
    shutil.copytree(start, tmp_path / "done")
    forget_before(tmp_path / "done", DAY)
    old, new = (read_tables_of(tmp_path / name) for name in ("start", "done"))
    for delay in (0.0, 0.05, 0.15):
        folder = tmp_path / "h"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        process = subprocess.Popen(
            [sys.executable, "-c", FORGETTER, str(folder)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        process.stdout.close()
        assert read_tables_of(folder) in (old, new)
        forget_before(folder, DAY)
        assert read_tables_of(folder) == new


def test_tables_can_be_rewritten_without_any_change(tmp_path):
    folder = write_csv(tmp_path / "h", shock=[shock("a", "2021-05-01", "2021-05-02", 1)])
    before = (folder / "shock.csv").read_bytes()
    rewrite_folder(folder, lambda _, rejected: ({}, rejected))
    assert (folder / "shock.csv").read_bytes() == before


def written(tmp_path, frame, place="h"):
    """A history of one table, written; rejected rows among it."""
    return HistoryTables.from_frames({"shock": frame}).write(tmp_path / place)


def shocks(*rows):
    names = ["household_id", "known_date", "loss"]
    frame = pd.DataFrame(rows, columns=names)
    return frame.assign(event_date="2022-05-01", kind="flood")


def test_forgetting_through_a_link_forgets_at_the_real_place(tmp_path):
    real = written(tmp_path, shocks(("a", "2022-05-02", 1), ("b", "2022-05-02", 2)))
    link = tmp_path / "link"
    link.symlink_to(real)
    forget_household(link, ["a"])
    assert link.is_symlink()
    assert read_history(real).households.tolist() == ["b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".h.lock", "h", "link"]
    HistoryTables.from_frames({"shock": shocks(("c", "2022-05-02", 1))}).write(link)
    assert link.is_symlink()
    assert read_history(real).households.tolist() == ["c"]
    # The file behind a linked table would keep the household.
    (tmp_path / "elsewhere.parquet").write_bytes((real / "shock.parquet").read_bytes())
    (real / "shock.parquet").unlink()
    (real / "shock.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(HistoryError, match="table 'shock': found a link to a file elsewhere"):
        forget_household(real, ["c"])


def test_ids_that_came_as_numbers_and_rows_in_one_cell_are_found(tmp_path):
    frame = shocks((1000.0, "2022-05-02", 1), (2000.0, "2022-05-02", 2), (1000.0, "?", 3))
    merged = shocks((np.nan, "2022-05-02", 4)).assign(kind="1000;flood;2022-05-02")
    folder = written(tmp_path, pd.concat([frame, merged]))
    assert read_history(folder).rejection.by_household.keys() == {"1000"}
    forgotten = forget_household(folder, ["1000"])
    assert (forgotten.removed, forgotten.rejected) == (1, 2)
    assert b"1000" not in b"".join(path.read_bytes() for path in folder.glob("rejected*"))
    assert forget_household(folder, ["1000"], missing_ok=True).rejected == 0


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_the_day_is_that_of_the_office_wherever_the_machine_stands(tmp_path, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        days = pd.to_datetime(["2022-08-15 00:00", "2022-08-16 00:00", "2022-08-16 23:00"])
        frame = shocks(("a", None, 1), ("a", None, 2), ("a", None, 3))
        frame["known_date"] = days.tz_localize("Asia/Shanghai")
        frame["event_date"] = ["2022-05-01", "2022-05-02", "2022-05-03"]
        late = frame.assign(event_date="2023-01-01")  # rejected: known before it happened
        (tmp_path / "raw").mkdir()
        pd.concat([frame, late]).to_parquet(tmp_path / "raw" / "shock.parquet", index=False)
        forget_before(tmp_path / "raw", "2022-08-16")
        assert read_history(tmp_path / "raw")["shock"]["loss"].tolist() == [2, 3]
        folder = written(tmp_path, pd.concat([frame, late]))
        forget_before(folder, "2022-08-16")
        assert read_history(folder).rejected_rows("shock")["loss"].tolist() == ["2", "3"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_nothing_of_whom_was_forgotten_stays_in_a_file(tmp_path):
    frame = shocks(*[(f"anna{n}", "2022-05-02", n) for n in range(5)])
    frame["household_id"] = frame["household_id"].astype("category")
    folder = tmp_path / "raw"
    folder.mkdir()
    frame.to_parquet(folder / "shock.parquet", index=False)
    forget_household(folder, ["anna3"])
    kept = pq.read_table(folder / "shock.parquet")["household_id"]
    assert kept.to_pylist() == ["anna0", "anna1", "anna2", "anna4"]
    assert not pa.types.is_dictionary(kept.type)
    # Nor in what a killed write left beside the folder.
    left = tmp_path / ".raw-writing-x1"
    left.mkdir()
    (left / "rejected-shock.arrow").write_text("anna3")
    forget_household(folder, ["anna3"], missing_ok=True)
    assert not left.exists()


def test_who_is_known_from_rejected_rows_alone_counts(tmp_path):
    folder = written(tmp_path, shocks(("a", "2022-05-02", 1), ("only", "?", 2)))
    forgotten = forget_household(folder, ["only"])
    assert (forgotten.households, forgotten.gone, forgotten.rejected) == (1, 1, 1)
    assert forgotten.gone_ids == {"only"}


def test_rejected_rows_that_cannot_be_looked_through_are_deleted_and_told(tmp_path, caplog):
    folder = written(tmp_path, shocks(("a", "2022-05-02", 1), ("b", "?", 2)))
    (folder / "rejected-shock.arrow").write_bytes(b"half of it")
    (folder / "rejected-notes.arrow").write_bytes(b"the office's own")
    forget_household(folder, ["b"], missing_ok=True)
    assert "are deleted: rejected-shock.arrow" in caplog.text
    assert sorted(path.name for path in folder.glob("rejected*")) == ["rejected-notes.arrow"]
