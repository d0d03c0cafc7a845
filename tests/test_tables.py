"""History tables: the same history from any file, nothing changed later, nothing lost silently."""

import json
import logging
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drawing import LINE, draw_frames
from poverty_risk import (
    FeatureSpec,
    HistoryTables,
    build_features,
    engine,
    load_schema,
    read_history,
    written_folder,
)
from poverty_risk.declarations import parse_declaration
from poverty_risk.engine import make_points, run_in_chunks, scatter
from poverty_risk.exceptions import DeclarationError, FeatureError, HistoryError
from poverty_risk.history_chunks import HistoryFolder
from poverty_risk.point_index import check_point_index
from poverty_risk.schema import Schema
from poverty_risk.validation import validate_table

WORDS = {"zh": "t", "en": "t"}
SCHEMA = parse_declaration(
    Schema,
    {
        "name": "small",
        "tables": {
            "home": {
                "label": WORDS,
                "key": ["household_id", "event_date"],
                "columns": {"village_id": {"kind": "string"}},
            },
            "shock": {
                "label": WORDS,
                "key": ["household_id", "event_date", "kind"],
                "columns": {
                    "kind": {"kind": "category", "codes": ["flood", "fire"], "required": True},
                    "loss": {"kind": "number", "min": 0, "sensitive": True},
                },
            },
            "village": {
                "label": WORDS,
                "entity": "village",
                "key": ["village_id", "event_date"],
                "columns": {"score": {"kind": "number"}},
            },
        },
        "cohorts": {"all": []},
        "groups": {"village": {"table": "home", "column": "village_id"}},
        "labels": {},
    },
    "test",
)
FLOODS = FeatureSpec(stem="loss", table="shock", value="loss", aggregator="sum", theme="shock")
SCORE = FeatureSpec(stem="score", table="village", value="score", aggregator="last", theme="place")


def _shock(ids=("a", "b", "c"), **columns) -> pd.DataFrame:
    rows = {
        "household_id": list(ids),
        "event_date": "2023-05-01",
        "known_date": "2023-05-09",
        "kind": "flood",
        "loss": [100.0 * (n + 1) for n in range(len(ids))],
    }
    return pd.DataFrame(rows | columns)


def _tables(ids=("a", "b", "c"), **columns) -> HistoryTables:
    return HistoryTables.from_frames({"shock": _shock(ids, **columns)}, SCHEMA)


def _points(*points) -> pd.DataFrame:
    names = ["household_id", "as_of_date"]
    rows = [(household, pd.Timestamp(day)) for household, day in points]
    return pd.DataFrame(index=pd.MultiIndex.from_tuples(rows, names=names))


# --- reading ---


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    drawn = draw_frames(load_schema("archive"), seed=5, households=4, rows=6)
    return {name: drawn[name] for name in ("person", "income", "shock", "village")}


def test_parquet_and_csv_give_the_same_history(frames, tmp_path):
    schema = load_schema("archive")
    expected = HistoryTables.from_frames(frames, schema, LINE)
    for kind in ("parquet", "csv"):
        (tmp_path / kind).mkdir()
        pd.DataFrame({"year": list(LINE), "line": list(LINE.values())}).to_csv(
            tmp_path / kind / "line.csv", index=False
        )
    for name, frame in frames.items():
        frame.convert_dtypes().to_parquet(tmp_path / "parquet" / f"{name}.parquet", index=False)
        frame.sample(frac=1, random_state=1).to_csv(tmp_path / "csv" / f"{name}.CSV", index=False)
    for kind in ("parquet", "csv"):
        read = read_history(tmp_path / kind)
        assert read.fingerprint == expected.fingerprint
        assert read.line == LINE
        assert read.observed_to == expected.observed_to
        for name in frames:
            pd.testing.assert_frame_equal(read[name], expected[name], check_exact=True)
            assert len(read[name]) > 10


def test_what_is_written_is_read_again(tmp_path):
    tables = HistoryTables.from_frames({"shock": _shock()}, SCHEMA, {2023: 7000, 2022: 6500.5})
    folder = tables.write(tmp_path / "new" / "history")
    assert sorted(p.name for p in folder.iterdir()) == [
        "history.json",
        "households.arrow",
        "line.csv",
        "shock.parquet",
    ]
    read = read_history(folder, SCHEMA)
    assert read.fingerprint == tables.fingerprint
    assert dict(read.line) == {2022: 6500.5, 2023: 7000.0}
    # The argument takes the place of the file.
    assert dict(read_history(folder, SCHEMA, line={2023: 1}).line) == {2023: 1.0}


def test_what_was_rejected_is_written_and_read_too(tmp_path):
    bad = _shock(["b", "c"]).assign(known_date=["2020-01-01", "?"], loss=["-1", "2"])
    tables = HistoryTables.from_frames({"shock": pd.concat([_shock(), bad])}, SCHEMA)
    assert len(tables.rejected) == 3
    folder = tables.write(tmp_path / "history")
    assert (folder / "rejected-shock.arrow").is_file()
    read = read_history(folder, SCHEMA)
    pd.testing.assert_frame_equal(read.rejected, tables.rejected)
    pd.testing.assert_frame_equal(read.rejected_rows("shock"), tables.rejected_rows("shock"))
    # In a touched folder they are still told where the table's own file is what it was,
    (folder / "history.json").unlink()
    pd.testing.assert_frame_equal(read_history(folder, SCHEMA).rejected, tables.rejected)
    # and no more where another file has taken its place.
    frame = pd.read_parquet(folder / "shock.parquet").drop(columns="superseded_date")
    frame.to_parquet(folder / "shock.parquet", index=False)
    assert len(read_history(folder, SCHEMA).rejected) == 0


def test_rejected_rows_that_cannot_be_read_hinder_nothing(tmp_path, caplog):
    bad = _shock(["b"]).assign(loss="-1")
    tables = HistoryTables.from_frames({"shock": pd.concat([_shock(), bad])}, SCHEMA)
    folder = tables.write(tmp_path / "history")
    (folder / "rejected-shock.arrow").write_bytes(b"no Arrow")
    read = read_history(folder, SCHEMA)
    assert read.fingerprint == tables.fingerprint
    assert "'rejected-shock.arrow' cannot be read" in caplog.text
    # Nor does a file or folder of somebody else's, which is left alone.
    (folder / "rejected").mkdir()
    with pytest.raises(HistoryError, match="1 files that it did not write, such as 'rejected'"):
        tables.write(folder)


@pytest.mark.parametrize("kind", ["category", "str"])
def test_of_a_selection_only_its_own_rejected_rows_are_written(tmp_path, kind):
    frame = pd.concat([_shock([name]) for name in ("anna", "berta", "clara")])
    bad = frame.assign(known_date="?")
    both = pd.concat([frame, bad], ignore_index=True)
    both["household_id"] = both["household_id"].astype(kind)
    tables = HistoryTables.from_frames({"shock": both}, SCHEMA)
    assert len(tables.rejected_rows("shock")) == 3
    folder = tables.select_households(["berta"]).write(tmp_path / "one")
    assert read_history(folder, SCHEMA).rejected_rows("shock")["household_id"].tolist() == ["berta"]
    # Also not in what Arrow keeps of a column beside its rows.
    content = (folder / "rejected-shock.arrow").read_bytes()
    assert b"berta" in content
    assert b"anna" not in content
    assert b"clara" not in content


def test_rejected_rows_of_two_readings_are_numbered_one_behind_the_other():
    one = HistoryTables.from_frames(
        {"shock": pd.concat([_shock(), _shock(["b"]).assign(loss="-1")])}, SCHEMA
    )
    two = HistoryTables.from_frames(
        {"shock": pd.concat([_shock(), _shock(["c", "d"]).assign(loss=-2.0)])}, SCHEMA
    )
    both = one.rejection.join(two.rejection)
    assert both.rows["shock"]["household_id"].to_pylist() == ["c", "d", "b"]
    assert both.faults["row"].is_unique
    assert both.faults["row"].tolist() == both.rows["shock"]["row"].to_pylist()
    assert {h: found["shock"] for h, found in both.by_household.items()} == dict.fromkeys(
        "bcd", (1, ("loss",))
    )


def test_what_nobody_touched_is_not_validated_again(tmp_path, monkeypatch):
    corrected = pd.concat([_shock(), _shock().assign(known_date="2023-09-01")])
    folder = HistoryTables.from_frames({"shock": corrected}, SCHEMA).write(tmp_path / "history")
    validated = []
    monkeypatch.setattr(
        "poverty_risk.structure.validate_table",
        lambda *arguments: validated.append(arguments[0]) or validate_table(*arguments),
    )
    trusted = read_history(folder, SCHEMA)
    assert validated == []
    (folder / "history.json").unlink()
    anew = read_history(folder, SCHEMA)
    assert validated == ["shock"]
    assert trusted.arrow("shock").equals(anew.arrow("shock"))
    assert trusted.arrow("shock")["superseded_date"].null_count < len(trusted["shock"])
    assert (trusted.fingerprint, trusted.observed_to) == (anew.fingerprint, anew.observed_to)


@pytest.mark.parametrize("touch", ["rows", "file", "schema", "manifest"])
def test_what_somebody_touched_is_validated(tmp_path, touch):
    folder = HistoryTables.from_frames({"shock": _shock()}, SCHEMA).write(tmp_path / "history")
    schema = SCHEMA
    if touch == "rows":  # a record known before it happened, which no reader may let in
        _shock(known_date="2022-01-01").to_parquet(folder / "shock.parquet", index=False)
        with pytest.raises(HistoryError, match="rows of which none can be read"):
            read_history(folder, schema)
        return
    if touch == "file":
        _shock().drop(columns="loss").to_parquet(folder / "extra.parquet", index=False)
        with pytest.raises(HistoryError, match="history: found table 'extra'"):
            read_history(folder, schema)
        return
    if touch == "schema":
        declared = SCHEMA.model_dump()
        declared["tables"]["shock"]["columns"]["loss"]["max"] = 150.0
        schema = Schema.model_validate(declared)
    else:
        (folder / "history.json").write_text('{"format": 1, "schema": []')
    read = read_history(folder, schema)
    losses = read["shock"]["loss"].dropna()
    assert len(read["shock"]) + len(read.rejected["row"].unique()) == len(_shock())
    assert touch != "schema" or losses.tolist() == [100.0]


def _write_csv(path, text, encoding="utf-8") -> None:
    path.write_bytes(textwrap.dedent(text).encode(encoding))


CSV = """\
    household_id,event_date,known_date,kind,loss
    "a, of ""the"" hill",2023-05-01,2023-05-09,flood,100
    b,2023-05-01,2023-05-09,fire,"2
    00"
    c,2023-05-01,2023-05-09,fire,
    """


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_with_quotes_line_breaks_and_a_byte_order_mark(tmp_path, encoding):
    _write_csv(tmp_path / "shock.csv", CSV, encoding)
    read = read_history(tmp_path, SCHEMA)
    assert read["shock"]["household_id"].tolist() == ['a, of "the" hill', "c"]
    assert read.rejected[["row", "column", "found"]].to_numpy().tolist() == [
        [1, "loss", "(hidden)"]
    ]


def test_ids_of_digits_keep_their_zeros(tmp_path):
    text = CSV.replace('"a, of ""the"" hill"', "007").replace("c,", "12345678901234567890,")
    _write_csv(tmp_path / "shock.csv", text)
    assert read_history(tmp_path, SCHEMA).households.tolist() == ["007", "12345678901234567890"]


SECRET = "4403071990"


def _break(kind, path):
    good = f"household_id,event_date,known_date,kind,loss\n{SECRET},2023-05-01,2023-05-09,fire,1\n"
    match kind:
        case "gbk":
            text = good + f"{SECRET}\u6237,2023-05-01,2023-05-09,fire,1\n"
            (path / "shock.csv").write_bytes(text.encode("gbk"))
        case "gbk header":
            (path / "shock.csv").write_bytes("\u6237\u53f7,a\n".encode("gbk"))
        case "utf-16":
            (path / "shock.csv").write_text(good, encoding="utf-16")
        case "uneven":
            (path / "shock.csv").write_text(good + f"{SECRET},2023-05-01,x\n{SECRET},a\n")
        case "empty csv":
            (path / "shock.csv").write_bytes(b"")
        case "blank csv":
            (path / "shock.csv").write_text("\n\n")
        case "empty parquet":
            (path / "shock.parquet").write_bytes(b"")
        case "foreign parquet":
            (path / "shock.parquet").write_text(good)
        case "truncated parquet":
            _shock().to_parquet(path / "shock.parquet")
            content = (path / "shock.parquet").read_bytes()
            (path / "shock.parquet").write_bytes(content[: len(content) // 2])
        case "csv folder":
            (path / "shock.csv").mkdir()


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("gbk", r"^shock.csv: found no UTF-8 in line 3; .*Save it as 'CSV UTF-8'"),
        ("gbk header", r"^shock.csv: found no UTF-8 in line 1"),
        ("utf-16", r"^shock.csv: found no UTF-8 in line 1"),
        ("uneven", r"^shock.csv: found 2 rows with .* the first is row 3 of the file with 3; "),
        ("empty csv", r"^shock.csv: found an empty file; expected a header"),
        ("blank csv", r"^shock.csv: found an empty file; expected a header"),
        ("empty parquet", r"^shock.parquet: found .*; expected a Parquet file"),
        ("foreign parquet", r"^shock.parquet: found .*; expected a Parquet file"),
        ("truncated parquet", r"^shock.parquet: found .*; expected a Parquet file"),
        ("csv folder", r"^shock.csv: found Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_without_its_content(tmp_path, kind, match):
    _break(kind, tmp_path)
    with pytest.raises(HistoryError, match=match) as caught:
        read_history(tmp_path, SCHEMA)
    assert len(caught.value.faults) == 1
    assert SECRET not in str(caught.value)


def test_faults_of_all_files_come_in_one_error(tmp_path):
    (tmp_path / "home.csv").write_bytes(b"")
    (tmp_path / "village.parquet").write_bytes(b"PAR1")
    _shock().drop(columns="kind").to_csv(tmp_path / "shock.csv", index=False)
    _shock().to_parquet(tmp_path / "shock.parquet", index=False)
    _shock().to_csv(tmp_path / "chock.csv", index=False)
    (tmp_path / "line.csv").write_text("year,line\n2023,1\n2023,2\n")
    with pytest.raises(HistoryError, match="^5 problems") as caught:
        read_history(tmp_path, SCHEMA)
    places = [fault.place for fault in caught.value.faults]
    # Line first, then the files, the largest first.
    assert sorted(places) == [
        "history",
        "home.csv",
        "line.csv",
        "shock.parquet",
        "village.parquet",
    ]


@pytest.mark.parametrize(
    "text",
    ["jahr,line\n2023,1\n", "year,line\n2023.5,1\n", "year,line\n2023,\n", "", "year,line\n"],
)
def test_a_line_file_that_cannot_be_meant(tmp_path, text):
    _shock().to_parquet(tmp_path / "shock.parquet", index=False)
    (tmp_path / "line.csv").write_text(text)
    with pytest.raises(HistoryError, match=r"^line(\.csv)?: found"):
        read_history(tmp_path, SCHEMA)


def test_a_folder_that_is_missing_empty_or_a_file(tmp_path):
    with pytest.raises(HistoryError, match="'.*nowhere'; expected a folder of tables"):
        read_history(tmp_path / "nowhere", SCHEMA)
    with pytest.raises(HistoryError, match="history: found no table"):
        read_history(tmp_path, SCHEMA)
    (tmp_path / "file").write_text("x")
    with pytest.raises(HistoryError, match="expected a folder of tables"):
        read_history(tmp_path / "file", SCHEMA)


def test_other_and_hidden_files_are_left_alone(tmp_path):
    _shock().to_parquet(tmp_path / "shock.parquet", index=False)
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "._shock.csv").write_bytes(b"\x00\x05")
    (tmp_path / ".shock.parquet").write_bytes(b"")
    assert read_history(tmp_path, SCHEMA).names == ("shock",)


def test_a_table_may_be_a_folder_of_parquet_files(tmp_path):
    (tmp_path / "shock.parquet").mkdir()
    for part in ("a", "b"):
        _shock([part]).to_parquet(tmp_path / "shock.parquet" / f"{part}.parquet", index=False)
    assert read_history(tmp_path, SCHEMA).households.tolist() == ["a", "b"]


# --- from memory ---


def test_all_faults_of_the_structure_come_in_one_error():
    frames = {
        "shock": _shock().drop(columns=["kind", "known_date"]).assign(extra=1, more=2),
        "village": pd.DataFrame({"village_id": ["v"]}),
        "shok": _shock(),
        "home": [1, 2],
    }
    with pytest.raises(HistoryError, match="^10 problems") as caught:
        HistoryTables.from_frames(frames, SCHEMA, {2023: -1}, observed_to="soon")
    found = [f"{fault.place}: {fault.found}" for fault in caught.value.faults]
    assert found == [
        "table 'home': list",
        "line: 2023: -1",
        "observed_to: 'soon'",
        "table 'shock': no column 'known_date'",
        "table 'shock': no column 'kind'",
        "table 'shock': column 'extra'",
        "table 'shock': column 'more'",
        "table 'village': no column 'event_date'",
        "table 'village': no column 'known_date'",
        "history: table 'shok'",
    ]


def test_a_column_that_comes_twice():
    frame = pd.concat([_shock(), _shock()[["kind"]]], axis=1)
    with pytest.raises(HistoryError, match="table 'shock': found column 'kind' twice"):
        HistoryTables.from_frames({"shock": frame}, SCHEMA)


def test_columns_of_mixed_python_types_are_read_by_their_declared_kind():
    frame = _shock(household_id=["a", 7, "c"], loss=["1", 2, None]).astype(object)
    tables = HistoryTables.from_frames({"shock": frame}, SCHEMA)
    assert tables.households.tolist() == ["7", "a", "c"]
    assert tables["shock"]["loss"].fillna(-1).tolist() == [2.0, 1.0, -1.0]


@pytest.mark.parametrize(
    "dates",
    [
        pd.to_datetime(["2023-05-01 01:00"] * 3).tz_localize("Asia/Shanghai"),
        [pd.Timestamp("2023-05-01 23:00").date()] * 3,
        pd.PeriodIndex(["2023-05-01"] * 3, freq="D"),
        pd.Categorical(["2023-05-01"] * 3),
    ],
)
def test_dates_in_the_ways_of_pandas(dates):
    found = _tables(event_date=dates)["shock"]["event_date"]
    assert found.tolist() == [pd.Timestamp("2023-05-01")] * 3


def test_no_row_that_can_be_read_is_an_error_and_masks_what_looks_like_a_person():
    frame = _shock(kind=["11010119900307123X", "x", "y"])
    with pytest.raises(HistoryError, match="3 rows of which none can be read") as caught:
        HistoryTables.from_frames({"shock": frame}, SCHEMA)
    assert "11010119900307123X" not in str(caught.value)
    assert "'11***3X'" in str(caught.value)
    frame = _shock(loss=[-123456.0] * 3)
    with pytest.raises(HistoryError, match=r"loss '\(hidden\)'; expected >= 0") as caught:
        HistoryTables.from_frames({"shock": frame}, SCHEMA)
    assert "123456" not in str(caught.value)


def test_rejected_rows_are_kept_with_their_place():
    tables = _tables(known_date=["2023-05-09", "2023-04-30", "2023-05-01"])
    assert tables.rejected.to_dict("records") == [
        {
            "table": "shock",
            "row": 1,
            "column": "known_date",
            "found": "2023-04-30",
            "expected": "known on or after the day it happened",
        }
    ]
    assert tables.rejected_rows("shock")[["household_id", "row"]].to_numpy().tolist() == [["b", 1]]
    assert tables.rejected_rows("home").empty
    assert tables.households.tolist() == ["a", "c"]
    assert "1 faults in rejected rows" in repr(tables)


def test_logs_and_messages_show_no_household(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    frame = _shock([SECRET, SECRET + "1", "c"], loss=[77123.0, -77456.0, 5.0])
    tables = HistoryTables.from_frames({"shock": frame}, SCHEMA)
    tables.write(tmp_path / "history")
    with pytest.raises(HistoryError, match="found column 'x'") as caught:
        HistoryTables.from_frames({"shock": frame.assign(x=SECRET)}, SCHEMA)
    shown = caplog.text + str(caught.value) + repr(tables) + tables.rejected.to_string()
    assert caplog.records
    assert not any(text in shown for text in (SECRET, "77123", "77456"))


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ({}, "line: found no year"),
        ({"2023": 1.0}, "line: found '2023': 1.0; expected a year and a positive number"),
        ({2023: "7000"}, "line: found 2023: '7000'"),
        ({2023: None}, "line: found 2023: None"),
        ({2023: float("nan")}, "line: found 2023: nan"),
        ({2023: float("inf")}, "line: found 2023: inf"),
        ({2023: True}, "line: found 2023: True"),
        ({23: 1.0}, "line: found 23: 1.0"),
        ({2022: 0, 2023: -1}, "^2 problems"),
    ],
)
def test_a_line_that_cannot_be_meant(line, match):
    with pytest.raises(HistoryError, match=match):
        HistoryTables.from_frames({"shock": _shock()}, SCHEMA, line)
    with pytest.raises(HistoryError, match=match):
        _tables().with_line(line)


def test_observed_to_is_the_day_after_the_last_news_unless_it_is_given():
    assert _tables().observed_to == pd.Timestamp("2023-05-10")
    given = HistoryTables.from_frames({"shock": _shock()}, SCHEMA, observed_to="2024-01-01")
    assert given.observed_to == pd.Timestamp("2024-01-01")
    for value in ("soon", pd.NaT, "2024-01-01 10:00"):
        with pytest.raises(HistoryError, match="observed_to: found"):
            HistoryTables.from_frames({"shock": _shock()}, SCHEMA, observed_to=value)
    with pytest.raises(HistoryError, match="history: found no record"):
        HistoryTables.from_frames({"shock": _shock().iloc[:0]}, SCHEMA)


# --- what is absent ---


def test_absent_tables_are_data_gaps_with_one_notice(caplog):
    with caplog.at_level(logging.WARNING):
        tables = _tables()
    assert [record.getMessage() for record in caplog.records] == [
        "Tables that this office does not have: home, village. Their features are data gaps."
    ]
    assert (tables.names, tables.absent) == (("shock",), ("home", "village"))
    assert "village" not in tables
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        features = build_features(tables, _points(("a", "2024-01-01")), [FLOODS, SCORE])
    assert [record.getMessage() for record in caplog.records] == [
        "Data gaps, because this office has no table: village (1 features)."
    ]
    assert features["loss_sum_ever"].tolist() == [100.0]
    assert features["score_last_ever"].isna().all()


def test_no_notice_when_nothing_is_absent(caplog):
    home = pd.DataFrame(
        {"household_id": ["a"], "event_date": ["2020-01-01"], "known_date": ["2020-01-01"]}
    )
    village = home.rename(columns={"household_id": "village_id"})
    with caplog.at_level(logging.WARNING):
        HistoryTables.from_frames({"shock": _shock(), "home": home, "village": village}, SCHEMA)
    assert not caplog.records


def test_asking_for_a_table_that_is_not_there():
    tables = _tables()
    with pytest.raises(HistoryError, match=r"'village' \(declared, but this office does not"):
        tables["village"]
    with pytest.raises(HistoryError, match="table: found 'shok'; expected one of shock"):
        tables.arrow("shok")


# --- immutable ---


def test_nothing_that_is_handed_out_changes_the_tables():
    tables = HistoryTables.from_frames({"shock": _shock()}, SCHEMA, {2023: 1.0})
    before = tables.fingerprint
    frame = tables["shock"]
    frame["loss"] = -1.0
    frame.loc[0, "kind"] = "fire"
    rejected = tables.rejected
    rejected.loc[0, "table"] = "x"
    with pytest.raises(ValueError, match="read-only"):
        tables.households[0] = "z"
    with pytest.raises(ValueError, match="read-only"):
        tables.slice_households(0, 2).households[0] = "z"
    with pytest.raises(TypeError, match="does not support item assignment"):
        tables.line[2023] = 2.0
    with pytest.raises(AttributeError, match="observed_to"):
        tables.observed_to = pd.Timestamp("2020-01-01")
    assert tables["shock"]["loss"].tolist() == [100.0, 200.0, 300.0]
    assert tables.rejected.empty
    del tables.__dict__["fingerprint"]
    assert tables.fingerprint == before


def test_the_source_frame_may_change_later():
    frame = _shock()
    tables = HistoryTables.from_frames({"shock": frame}, SCHEMA)
    frame["loss"] = 0.0
    frame.loc[:, "household_id"] = "z"
    assert tables["shock"]["loss"].tolist() == [100.0, 200.0, 300.0]
    assert tables.households.tolist() == ["a", "b", "c"]


# --- parts of a history ---


def test_the_fingerprint_tells_what_is_recorded_and_nothing_else():
    whole = _tables(("a", "b", "c", "d"), loss=[1.0, None, 3.0, None])
    assert _tables(("d", "c", "b", "a"), loss=[None, 3.0, None, 1.0]).fingerprint == (
        whole.fingerprint
    )
    parts = {
        "slice": whole.slice_households(1, 3),
        "select": whole.select_households(["c", "b"]),
        "known": _tables(
            ("b", "c", "z"), loss=[None, 3.0, 9.0], known_date=["2023-05-09"] * 2 + ["2024-01-01"]
        ).known_before("2024-01-01"),
        "fresh": _tables(("b", "c"), loss=[None, 3.0]),
    }
    assert len({tables.fingerprint for tables in parts.values()}) == 1
    others = [
        _tables(("b", "c"), loss=[None, 3.5]),
        _tables(("b", "c"), loss=[0.0, 3.0]),
        _tables(("b", "cc"), loss=[None, 3.0]),
        _tables(("b", "c"), loss=[None, 3.0]).with_line({2023: 5.0}),
    ]
    assert len({tables.fingerprint for tables in [whole, parts["fresh"], *others]}) == 6
    by_integers = parts["fresh"].with_line({2023: 5, 2022: 4})
    assert by_integers.fingerprint == parts["fresh"].with_line({2022: 4.0, 2023: 5.0}).fingerprint


def test_selecting_households_leaves_out_unknown_ids():
    tables = _tables(("a4", "a6", "a8"))
    # "a5" stands directly before "a6": it must not bring the records of "a6" a second time.
    chosen = tables.select_households(["a5", "a6", "a6", "a9", ""])
    assert chosen.households.tolist() == ["a6"]
    assert chosen["shock"]["household_id"].tolist() == ["a6"]
    assert tables.select_households(["a8", "a4"])["shock"]["household_id"].tolist() == ["a4", "a8"]
    assert len(tables.select_households([]).households) == 0
    assert len(tables.select_households(["zz"])["shock"]) == 0


@pytest.mark.parametrize("chosen", [["H000", "H003", "H004", "H011"], ["H002", "H009"], ["zz"]])
def test_selected_households_have_their_records_where_the_index_says(chosen):
    schema = load_schema("archive")
    tables = HistoryTables.from_frames(draw_frames(schema, seed=1), schema, LINE)
    part = tables.select_households(chosen)
    assert part.households.tolist() == [one for one in chosen if one != "zz"]
    for name in tables.names:
        if schema.tables[name].entity == "village":
            continue
        whole = tables.arrow(name)
        expected = whole.filter(pa.array(np.isin(whole["household_id"].to_numpy(), chosen)))
        assert part.arrow(name).combine_chunks().equals(expected.combine_chunks())
        ends = np.searchsorted(part.arrow(name)["household_id"].to_numpy().astype(str),
                               part.households)  # fmt: skip
        assert part.offsets(name).tolist() == [*ends, len(expected)]


def test_village_tables_stay_whole_when_households_are_chosen():
    village = pd.DataFrame(
        {"village_id": ["v", "w"], "event_date": "2020-12-31", "known_date": "2021-01-20"}
    )
    tables = HistoryTables.from_frames({"shock": _shock(), "village": village}, SCHEMA)
    assert tables.households.tolist() == ["a", "b", "c"]
    for part in (tables.slice_households(0, 1), tables.select_households(["a", "c"])):
        assert part["village"]["village_id"].tolist() == ["v", "w"]


def test_known_before_gives_the_archive_as_it_stood():
    """Fact a was corrected twice (known 9 May, 1 June, 1 July); on 1 June only the first was known."""
    tables = _tables(
        ("a", "a", "a", "b"),
        loss=[1.0, 2.0, 3.0, 9.0],
        known_date=["2023-05-09", "2023-06-01", "2023-07-01", "2023-06-30"],
    )
    seen = {}
    for day in ("2023-06-01", "2023-06-02", "2023-07-01", "2023-07-02"):
        part = tables.known_before(day)
        current = part.arrow("shock").to_pandas()
        current = current[current["superseded_date"].isna()]
        seen[day] = current["loss"].tolist()
        assert part.observed_to == min(pd.Timestamp(day), tables.observed_to)
    assert seen == {
        "2023-06-01": [1.0],
        "2023-06-02": [2.0],
        "2023-07-01": [2.0, 9.0],
        "2023-07-02": [3.0, 9.0],
    }
    assert tables.known_before("2023-06-15").households.tolist() == ["a"]
    with pytest.raises(DeclarationError, match="found \\['soon'\\]; expected dates such as"):
        tables.known_before("soon")


# --- writing ---


def test_an_interrupted_write_leaves_the_old_state(tmp_path, monkeypatch):
    folder = _tables(("a", "b")).write(tmp_path / "history")
    old = read_history(folder, SCHEMA).fingerprint
    home = _shock(["x"])[["household_id", "event_date", "known_date"]]
    new = HistoryTables.from_frames({"home": home, "shock": _shock(["x"])}, SCHEMA)

    write_table = pq.write_table

    def stop_at_the_second(table, where, **options):
        if "shock" in str(where):
            raise KeyboardInterrupt
        write_table(table, where, **options)

    with monkeypatch.context() as patch:
        patch.setattr(written_folder.pq, "write_table", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            new.write(folder)
    assert read_history(folder, SCHEMA).fingerprint == old
    assert [path.name for path in tmp_path.iterdir()] == ["history"]

    rename = written_folder.Path.rename

    def stop_at_the_last(self, target):
        if self.name.startswith(".history-") and not self.name.endswith("-previous"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(written_folder.Path, "rename", stop_at_the_last)
        with pytest.raises(OSError, match="No space left"):
            new.write(folder)
    assert read_history(folder, SCHEMA).fingerprint == old
    assert [path.name for path in tmp_path.iterdir()] == ["history"]

    new.write(folder)
    assert read_history(folder, SCHEMA).fingerprint == new.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["history"]


KILLED = """
import os, sys
from pathlib import Path
import pyarrow as pa
from poverty_risk import written_folder
{where} = lambda *_, **__: os._exit(9)
written_folder.write_folder(Path(sys.argv[1]), {{"shock": pa.table({{"a": [1]}})}}, {{2023: 1.0}})
"""


@pytest.mark.parametrize(
    "where", ["written_folder.pq.write_table", "written_folder.exchange_folder"]
)
def test_a_killed_write_leaves_the_old_state(tmp_path, where):
    folder = _tables(("a", "b")).write(tmp_path / "history")
    old = read_history(folder, SCHEMA).fingerprint
    command = [sys.executable, "-c", KILLED.format(where=where), str(folder)]
    assert subprocess.run(command, check=False).returncode == 9
    assert read_history(folder, SCHEMA).fingerprint == old
    # What a killed write left behind does not hinder the next one.
    assert _tables(("z",)).write(folder) == folder
    assert read_history(folder, SCHEMA).households.tolist() == ["z"]


def test_killed_between_the_two_renames_the_old_state_is_found(tmp_path):
    folder = _tables(("a", "b")).write(tmp_path / "history")
    folder.rename(tmp_path / ".history-previous")
    with pytest.raises(HistoryError, match="left the old state in '.history-previous': rename it"):
        read_history(folder, SCHEMA)


def test_write_replaces_nothing_but_its_own(tmp_path):
    (tmp_path / "exports").mkdir()
    _shock().to_csv(tmp_path / "exports" / "shock.csv", index=False)
    with pytest.raises(HistoryError, match="1 files that it did not write, such as 'shock.csv'"):
        _tables().write(tmp_path / "exports")
    assert (tmp_path / "exports" / "shock.csv").is_file()
    (tmp_path / "taken").write_text("x")
    with pytest.raises(HistoryError, match="found a file; expected a new folder"):
        _tables().write(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "x"


@pytest.mark.skipif(os.name != "posix", reason="modes of files are a matter of POSIX")
def test_a_written_history_is_for_its_owner_alone(tmp_path):
    folder = _tables().write(tmp_path / "history")
    assert folder.stat().st_mode & 0o077 == 0


# --- points and chunks ---

QUERY = {
    "loss": "SELECT p.point, SUM(s.loss) AS loss FROM points p JOIN shock s USING (household_id) "
    "GROUP BY p.point"
}


def _losses(tables, points) -> list[float]:
    found = run_in_chunks(tables, make_points(points.index), QUERY)
    return scatter(found["loss"], "loss", len(points)).tolist() if found else []


def test_every_point_is_in_exactly_one_chunk(monkeypatch):
    ids = [f"h{number:02d}" for number in range(0, 20, 2)]
    tables = _tables(ids)
    asked = ["h00", "h01", "h08", "h08x", "h18", "h19", "", "zz"]
    points = _points(*[(household, "2024-01-01") for household in asked])
    # Household h<2n> lost 100 (n + 1); those without a record have none.
    expected = [100.0, np.nan, 500.0, np.nan, 1000.0, np.nan, np.nan, np.nan]
    for size in (1, 3, 10, 20_000):
        monkeypatch.setattr(engine, "CHUNK_HOUSEHOLDS", size)
        np.testing.assert_array_equal(_losses(tables, points), expected)
        # One household of many takes the way over a selection.
        np.testing.assert_array_equal(_losses(tables, points.iloc[[1]]), [np.nan])
        np.testing.assert_array_equal(_losses(tables, points.iloc[1:3]), [np.nan, 500.0])


def test_a_household_and_its_unknown_neighbour_are_scored_as_each_alone():
    """Regression: the neighbour's records were read twice and its sums doubled."""
    tables = _tables([f"h{number:02d}" for number in range(0, 40, 2)])
    points = _points(("h05", "2024-01-01"), ("h06", "2024-01-01"))
    assert build_features(tables, points, [FLOODS])["loss_sum_ever"].tolist() == [0.0, 400.0]


def test_points_in_any_order_and_progress():
    tables = _tables(("a", "b", "c"))
    points = _points(("c", "2024-01-01"), ("a", "2023-01-01"), ("b", "2024-01-01"))
    done = []
    found = run_in_chunks(tables, make_points(points.index), QUERY, on_chunk=done.append)
    assert scatter(found["loss"], "loss", 3).tolist() == [300.0, 100.0, 200.0]
    assert sum(done) == 3


def test_no_points_and_no_households():
    tables = _tables()
    none = _points(("a", "2024-01-01")).iloc[:0]
    assert make_points(none.index).num_rows == 0
    assert run_in_chunks(tables, make_points(none.index), QUERY) == {}
    features = build_features(tables, none, [FLOODS, SCORE])
    assert features.shape == (0, 2)
    empty = tables.select_households([])
    np.testing.assert_array_equal(_losses(empty, _points(("a", "2024-01-01"))), [np.nan])


def test_points_that_come_twice_have_no_id_or_no_day():
    twice = _points(("a", "2024-01-01"), ("b", "2024-01-01"), ("a", "2024-01-01"))
    with pytest.raises(FeatureError, match="points: found 1 repeated points"):
        check_point_index(twice, "points")
    with pytest.raises(FeatureError, match="points: found 1 points without id"):
        check_point_index(_points((None, "2024-01-01"), ("a", "2024-01-01")), "points")
    for day in (pd.NaT, "2024-01-01 08:00", pd.Timestamp("2024-01-01", tz="Asia/Shanghai")):
        with pytest.raises(DeclarationError, match="as_of_date: found a missing date, a time of"):
            check_point_index(_points(("a", day)), "points")
    with pytest.raises(FeatureError, match=r"index \['as_of_date', 'household_id'\]"):
        check_point_index(_points(("a", "2024-01-01")).swaplevel(), "points")
    with pytest.raises(FeatureError, match=r"points: found index \[None\]"):
        build_features(_tables(), pd.DataFrame(index=["a"]), [FLOODS])


def test_days_of_points_are_days_of_the_table():
    found = make_points(_points(("a", "2024-02-29")).index).to_pylist()
    assert found == [
        {
            "point": 0,
            "household_id": "a",
            "village_id": None,
            "as_of_date": pd.Timestamp("2024-02-29").date(),
            "horizon_end": None,
        }
    ]
    assert make_points(_points(("a", "2024-02-29")).index).schema.field("village_id").type == (
        pa.string()
    )


def test_a_household_has_the_village_that_the_office_knew_on_each_date():
    """a moved from v to w on 1 May 2023, known on 9 May; the score of 2022 was known in March 2023."""
    home = pd.DataFrame(
        [
            ("a", "2020-01-01", "2020-01-02", "v"),
            ("a", "2023-05-01", "2023-05-09", "w"),
            ("b", "2020-01-01", "2020-01-02", None),
        ],
        columns=["household_id", "event_date", "known_date", "village_id"],
    )
    village = pd.DataFrame(
        [
            ("v", "2021-12-31", "2022-03-01", 1.0),
            ("v", "2022-12-31", "2023-03-01", 2.0),
            ("w", "2022-12-31", "2023-03-01", 3.0),
        ],
        columns=["village_id", "event_date", "known_date", "score"],
    )
    tables = HistoryTables.from_frames({"home": home, "village": village}, SCHEMA)
    days = ["2022-03-01", "2022-03-02", "2023-03-02", "2023-05-09", "2023-05-10"]
    points = _points(*[(household, day) for day in days for household in ("a", "b")])
    found = build_features(tables, points, [SCORE])["score_last_ever"]
    of_a = found.xs("a", level="household_id")
    np.testing.assert_array_equal(of_a, [np.nan, 1.0, 2.0, 2.0, 3.0])
    assert found.xs("b", level="household_id").isna().all()


def test_one_mistyped_year_does_not_move_the_end_of_the_data():
    days = pd.date_range("2022-01-01", periods=1200, freq="D")
    frame = pd.DataFrame(
        {"household_id": "a", "event_date": days, "known_date": days, "kind": "flood"}
    ).astype(object)
    late = pd.DataFrame(
        {"household_id": ["b"], "event_date": ["2042-02-01"], "known_date": ["2042-03-01"]}
    ).assign(kind="flood")
    schema = load_schema("archive")
    with pytest.raises(HistoryError, match="mistyped"):
        HistoryTables.from_frames({"shock": pd.concat([frame, late])}, schema)
    told = HistoryTables.from_frames(
        {"shock": pd.concat([frame, late])}, schema, observed_to="2025-06-01"
    )
    assert told.observed_to == pd.Timestamp("2025-06-01")


def test_a_folder_tells_where_its_data_end_but_not_where_they_cannot(tmp_path):
    days = pd.date_range("2022-01-01", periods=1200, freq="D")
    frame = pd.DataFrame({"household_id": "a", "event_date": days, "known_date": days})
    schema = load_schema("archive")
    tables = HistoryTables.from_frames({"shock": frame.assign(kind="flood")}, schema)
    tables.write(tmp_path / "county")
    manifest = json.loads((tmp_path / "county/history.json").read_text())
    assert manifest["end"] == "2025-04-15"
    assert read_history(tmp_path / "county").observed_to == pd.Timestamp("2025-04-15")
    given = read_history(tmp_path / "county", observed_to="2025-06-01")
    assert given.observed_to == pd.Timestamp("2025-06-01")
    # What was written with an end that somebody gave is read with the end of its records.
    given.write(tmp_path / "given")
    assert read_history(tmp_path / "given").observed_to == pd.Timestamp("2025-04-15")
    mistyped = frame.assign(kind="flood").astype(object)
    mistyped.loc[0, ["event_date", "known_date"]] = "2042-03-01"
    told = HistoryTables.from_frames({"shock": mistyped}, schema, observed_to="2025-06-01")
    told.write(tmp_path / "mistyped")
    assert "end" not in json.loads((tmp_path / "mistyped/history.json").read_text())
    for read in (read_history, HistoryFolder):
        with pytest.raises(HistoryError, match="mistyped"):
            read(tmp_path / "mistyped")


def test_an_end_that_somebody_moved_is_not_believed(tmp_path):
    days = pd.date_range("2022-01-01", periods=30, freq="D")
    frame = pd.DataFrame({"household_id": "a", "event_date": days, "known_date": days})
    tables = HistoryTables.from_frames(
        {"shock": frame.assign(kind="flood")}, load_schema("archive")
    )
    tables.write(tmp_path / "county")
    path = tmp_path / "county/history.json"
    manifest = json.loads(path.read_text())
    for end in ("2030-01-01", 5, "", [1], None):
        path.write_text(json.dumps(manifest | {"end": end}))
        for read in (read_history, HistoryFolder):
            assert read(tmp_path / "county").observed_to == tables.observed_to
    del manifest["end"], manifest["seal"]  # as an earlier version wrote it
    path.write_text(json.dumps(manifest))
    history = HistoryFolder(tmp_path / "county")
    assert not history.is_whole
    assert history.observed_to == tables.observed_to
