"""Bad records are rejected one by one, with their place, value and reason; all others are kept."""

import datetime as dt
import functools
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poverty_risk.declarations import parse_declaration
from poverty_risk.exceptions import Fault, HistoryError, PovertyRiskError
from poverty_risk.schema import Table
from poverty_risk.structure import find_structure_faults, find_unreadable
from poverty_risk.validation import validate_table

LABEL = {"zh": "t", "en": "t"}
TABLE = parse_declaration(
    Table,
    {
        "label": LABEL,
        "key": ["household_id", "event_date", "kind"],
        "columns": {
            "kind": {"kind": "category", "required": True, "codes": ["flood", "fire's"]},
            "loss": {"kind": "number", "min": 0, "max": 5_000_000},
            "gain": {"kind": "number"},
            "members": {"kind": "integer", "min": 1, "max": 40},
            "number": {"kind": "integer"},
            "insured": {"kind": "boolean"},
            "paid_date": {"kind": "date"},
            "note": {"kind": "string"},
            "wage": {"kind": "number", "min": 0, "max": 100, "sensitive": True},
            "birth_date": {"kind": "date", "sensitive": True},
        },
    },
    "test",
)
GOOD = {
    "household_id": "a",
    "event_date": "2023-05-01",
    "known_date": "2023-05-09",
    "kind": "flood",
    "loss": "900.5",
    "gain": "-3",
    "members": "4",
    "number": "-7",
    "insured": "true",
    "paid_date": "2023-06-01",
    "note": "n",
    "wage": "50",
    "birth_date": "1980-01-01",
}


def _validate(rows, table=TABLE):
    frame = pd.DataFrame([GOOD | row for row in rows]).astype(object)
    return validate_table("shock", table, pa.Table.from_pandas(frame, preserve_index=False))


def _accepted(result) -> list[dict]:
    return result.accepted.drop_columns(["superseded_date", "record_order"]).to_pylist()


def test_a_good_record_is_typed():
    result = _validate([{}])
    assert _accepted(result) == [
        {
            "household_id": "a",
            "event_date": dt.date(2023, 5, 1),
            "known_date": dt.date(2023, 5, 9),
            "kind": "flood",
            "loss": 900.5,
            "gain": -3.0,
            "members": 4,
            "number": -7,
            "insured": True,
            "paid_date": dt.date(2023, 6, 1),
            "note": "n",
            "wage": 50.0,
            "birth_date": dt.date(1980, 1, 1),
        }
    ]
    assert result.rejected.empty
    assert result.rejected_rows.num_rows == 0


BAD_VALUES = [
    ("household_id", None, "a value (required)"),
    ("household_id", "  ", "a value (required)"),
    ("event_date", None, "a value (required)"),
    ("event_date", "2023-02-29", "a date such as 2023-05-31"),
    ("event_date", "45000", "a date such as 2023-05-31"),
    ("event_date", "20230501", "a date such as 2023-05-31"),
    ("known_date", "2023-05-01x", "a date such as 2023-05-31"),
    ("known_date", "2023-04-30", "known on or after the day it happened"),
    ("known_date", "2300-01-01", "a date from 1900-01-01 to before 2200-01-01"),
    ("paid_date", "1899-12-31", "a date from 1900-01-01 to before 2200-01-01"),
    ("paid_date", "infinity", "a date from 1900-01-01 to before 2200-01-01"),
    ("kind", None, "a value (required)"),
    ("kind", "Flood", "one of 'flood', 'fire''s'"),
    ("loss", "1,000", "a finite number"),
    ("loss", "-0.01", ">= 0"),
    ("loss", "5000000.1", "<= 5,000,000"),
    ("gain", "inf", "a finite number"),
    ("gain", "-1e999", "a finite number"),
    ("gain", "O.5", "a finite number"),
    ("members", "0", ">= 1"),
    ("members", "41", "<= 40"),
    ("members", "2.5", "a whole number"),
    ("members", "two", "a whole number"),
    ("number", "1e30", "a whole number"),
    ("insured", "2", "true or false"),
    ("insured", "perhaps", "true or false"),
]


@functools.cache
def _all_bad():
    """Row 0 is good, row n holds bad value n - 1, the last row is good again."""
    bad = [{column: value} for column, value, _ in BAD_VALUES]
    return _validate([{}, *bad, {"household_id": "b"}])


@pytest.mark.parametrize("number", range(len(BAD_VALUES)))
def test_every_kind_of_bad_value(number):
    column, value, expected = BAD_VALUES[number]
    result = _all_bad()
    lines = result.rejected.astype(object).where(result.rejected.notna(), None)
    assert lines[lines["row"] == number + 1].to_dict("records") == [
        {
            "table": "shock",
            "row": number + 1,
            "column": column,
            "found": value,
            "expected": expected,
        }
    ]
    assert result.rejected_rows.to_pylist()[number] == GOOD | {column: value, "row": number + 1}


def test_the_rest_is_kept():
    assert [row["household_id"] for row in _accepted(_all_bad())] == ["a", "b"]
    assert _all_bad().rejected_rows.num_rows == len(BAD_VALUES)


def test_several_faults_of_a_row_are_all_told():
    result = _validate([{"members": "0", "kind": "x", "insured": "y?"}])
    assert list(result.rejected["column"]) == ["insured", "kind", "members"]
    assert result.accepted.num_rows == 0


@pytest.mark.parametrize(
    ("column", "value"), [("wage", "123456"), ("wage", "secret"), ("birth_date", "1880-02-03")]
)
def test_sensitive_values_are_hidden_where_faults_are_told(column, value):
    result = _validate([{}, {column: value}])
    assert result.rejected["found"].tolist() == ["(hidden)"]
    assert value not in result.rejected.to_string()
    # The row itself stays with the office.
    assert result.rejected_rows.column(column).to_pylist() == [value]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("13987654321", "13***21"), ("11010119900307123X and 5", "11***3X and 5"), ("soon", "soon"),
     ("欧阳甲", "***"), ("20231301", "20231301"), ("id 欧", "***")],
)  # fmt: skip
def test_names_and_numbers_of_people_in_a_wrong_column_are_masked(value, shown):
    result = _validate([{}, {"kind": value}])
    assert result.rejected["found"].tolist() == [shown]
    assert result.rejected_rows.column("kind").to_pylist() == [value]


def test_a_long_cell_is_cut_in_the_fault_alone():
    result = _validate([{}, {"loss": "y" * 150 + "x" * 5000}])
    assert result.rejected.loc[0, "found"] == "y" * 150 + "x" * 50
    assert len(result.rejected_rows.column("loss")[0].as_py()) == 5150


SAME_VALUES = [
    ("household_id", " a\t", "a"),
    ("household_id", "\u3000a\u00a0", "a"),
    # Left on, arrays of ids would take this household for household a.
    ("household_id", "a\x00\x00", "a"),
    ("event_date", "2023/5/1", dt.date(2023, 5, 1)),
    ("event_date", "2023-05-01 23:59:59", dt.date(2023, 5, 1)),
    ("event_date", "2023-05-01T02:00:00+08:00", dt.date(2023, 5, 1)),
    ("kind", " flood ", "flood"),
    ("kind", "fire's", "fire's"),
    ("loss", " 1e3 ", 1000.0),
    ("loss", "nan", None),
    ("loss", "", None),
    ("loss", None, None),
    ("members", "3.0", 3),
    ("members", "NaN", None),
    # Beyond 2 ** 53, where floating-point numbers would change the last digit.
    ("number", "9007199254740993", 9007199254740993),
    ("insured", "1.0", True),
    ("insured", "0", False),
    ("insured", "False", False),
    ("insured", "N", False),
    ("note", "\u3000", None),
    ("note", "it's; DROP TABLE typed", "it's; DROP TABLE typed"),
]


@pytest.mark.parametrize(("column", "value", "expected"), SAME_VALUES)
def test_ways_of_writing_a_value(column, value, expected):
    result = _validate([{column: value}])
    assert result.rejected.empty
    assert _accepted(result)[0][column] == expected


def _raw(**columns) -> pa.Table:
    return pa.table({name: [value] for name, value in GOOD.items()} | columns)


NATIVE = [
    ("household_id", pa.array([123.0]), "123"),
    ("household_id", pa.array([123]), "123"),
    ("household_id", pa.array(["a"]).dictionary_encode(), "a"),
    ("note", pa.array([np.nan]), None),
    ("note", pa.nulls(1), None),
    ("loss", pa.array([np.nan]), None),
    ("loss", pa.array([7]), 7.0),
    ("loss", pa.array([7.25], pa.float32()), 7.25),
    ("members", pa.array([3.0]), 3),
    ("members", pa.array([3], pa.uint8()), 3),
    ("insured", pa.array([1.0]), True),
    ("insured", pa.array([0], pa.int8()), False),
    ("insured", pa.array([True]), True),
    ("event_date", pa.array([dt.date(2023, 5, 1)]), dt.date(2023, 5, 1)),
    ("event_date", pa.array([np.datetime64("2023-05-01T23:00", "us")]), dt.date(2023, 5, 1)),
    ("event_date", pa.array([dt.date(2023, 5, 1)], pa.date64()), dt.date(2023, 5, 1)),
]


@pytest.mark.parametrize(("column", "values", "expected"), NATIVE)
def test_columns_that_have_types_already(column, values, expected):
    result = validate_table("shock", TABLE, _raw(**{column: values}))
    assert result.rejected.empty
    assert _accepted(result)[0][column] == expected


def test_a_time_with_a_zone_counts_on_the_day_that_the_office_saw():
    # 1 May, 02:00 in Shanghai is 30 April, 18:00 in UTC.
    moment = pa.array([np.datetime64("2023-04-30T18:00", "us")])
    moment = moment.cast(pa.timestamp("us", "Asia/Shanghai"))
    result = validate_table("shock", TABLE, _raw(event_date=moment))
    assert _accepted(result)[0]["event_date"] == dt.date(2023, 5, 1)


BAD_NATIVE = [
    ("household_id", pa.array([1.5]), "text (ids kept as numbers: whole and of at most 15 digits)"),
    # An identity number of 18 digits that went through a spreadsheet has lost its last ones.
    ("household_id", pa.array([1.1e17]), "text (ids kept as numbers: whole and"),
    ("members", pa.array([2.5]), "a whole number"),
    ("number", pa.array([2**63], pa.uint64()), "a whole number"),
    ("gain", pa.array([np.inf]), "a finite number"),
    ("insured", pa.array([0.5]), "true or false"),
]


@pytest.mark.parametrize(("column", "values", "expected"), BAD_NATIVE)
def test_bad_values_of_columns_that_have_types(column, values, expected):
    result = validate_table("shock", TABLE, _raw(**{column: values}))
    assert result.accepted.num_rows == 0
    assert result.rejected["column"].tolist() == [column]
    assert expected in result.rejected.loc[0, "expected"]


def test_a_type_that_no_database_reads_is_told_without_values():
    half = pa.array([np.float16(7.25)])
    with pytest.raises(HistoryError, match="loss halffloat") as caught:
        validate_table("shock", TABLE, _raw(loss=half))
    assert "7.25" not in str(caught.value)


def test_repeats_are_rejected_and_the_first_stays():
    """Missing values are equal here, and so are different spellings of a value."""
    rows = [{"note": None}, {"household_id": "b"}, {"note": ""}, {"note": None, "loss": "9005e-1"}]
    result = _validate(rows)
    assert result.rejected[["row", "column", "found", "expected"]].to_dict("list") == {
        "row": [2, 3],
        "column": ["", ""],
        "found": ["a repeat of another record"] * 2,
        "expected": ["one record per fact and known date"] * 2,
    }
    assert [row["household_id"] for row in _accepted(result)] == ["a", "b"]


def test_a_later_known_record_corrects_an_earlier_one():
    """Three accounts of one fact: each is superseded on the day the next one is known."""
    result = _validate(
        [
            {"known_date": "2023-07-01", "loss": "3"},
            {"known_date": "2023-05-09", "loss": "1"},
            {"known_date": "2023-06-01", "loss": "2"},
            {"kind": "fire's", "loss": "9"},
        ]
    )
    rows = result.accepted.select(["kind", "loss", "superseded_date"]).to_pylist()
    assert rows == [
        {"kind": "fire's", "loss": 9.0, "superseded_date": None},
        {"kind": "flood", "loss": 1.0, "superseded_date": dt.date(2023, 6, 1)},
        {"kind": "flood", "loss": 2.0, "superseded_date": dt.date(2023, 7, 1)},
        {"kind": "flood", "loss": 3.0, "superseded_date": None},
    ]
    assert result.accepted["record_order"].to_pylist() == [0, 1, 2, 3]


def test_a_conflict_leaves_one_record_and_keeps_the_chain():
    """Two versions known on one day: the later in canonical order (the higher loss) stays."""
    result = _validate(
        [
            {"known_date": "2023-06-01", "loss": "5"},
            {"known_date": "2023-06-01", "loss": "4"},
            {"known_date": "2023-05-09", "loss": "1"},
        ]
    )
    rows = result.accepted.select(["loss", "superseded_date"]).to_pylist()
    assert rows == [
        {"loss": 1.0, "superseded_date": dt.date(2023, 6, 1)},
        {"loss": 5.0, "superseded_date": None},
    ]
    line = result.rejected.iloc[0]
    assert (line["row"], line["found"]) == (1, "a conflict with another record")
    assert line["expected"] == "one record per fact and known date"


# Pools of raw cells with what they are; None: missing, BAD: not to be read.
BAD = object()
POOLS = {
    "household_id": [("a", "a"), ("b", "b"), (" b", "b"), ("", None), (None, None)],
    "event_date": [("2023-05-01", 1), ("2023/05/02", 2), ("2023-05-32", BAD), ("", None)],
    "known_date": [("2023-05-01", 1), ("2023-05-02 08:00", 2), ("2023-05-09", 9), ("?", BAD)],
    "kind": [("flood", "flood"), ("fire's", "fire's"), ("storm", BAD), (None, None)],
    "loss": [("0", 0.0), ("0.00", 0.0), ("7", 7.0), ("-1", BAD), ("x", BAD), (None, None)],
    "members": [("1", 1), ("40.0", 40), ("1.5", BAD), (" ", None)],
    "insured": [("true", True), ("0", False), ("?", BAD), (None, None)],
}
REQUIRED = ("household_id", "event_date", "known_date", "kind")
SMALL = TABLE.model_copy(
    update={"columns": {name: TABLE.columns[name] for name in POOLS if name in TABLE.columns}}
)
CELLS = st.fixed_dictionaries({name: st.sampled_from(pool) for name, pool in POOLS.items()})


def _expected_facts(rows) -> dict[tuple, set]:
    """Readable records by fact and known date, worked out without the package."""
    facts: dict[tuple, set] = {}
    for row in rows:
        value = {name: cell[1] for name, cell in row.items()}
        if any(item is BAD for item in value.values()):
            continue
        if any(value[name] is None for name in REQUIRED):
            continue
        if value["known_date"] < value["event_date"]:
            continue
        fact = tuple(value[name] for name in REQUIRED)
        rest = tuple(value[name] for name in POOLS if name not in REQUIRED)
        facts.setdefault(fact, set()).add(rest)
    return facts


@given(st.lists(CELLS, min_size=1, max_size=25))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_read_equals_accepted_plus_rejected(rows):
    """Of each fact and known date one readable version is kept; everything else is rejected."""
    raw = pa.table({n: pa.array([row[n][0] for row in rows], pa.string()) for n in POOLS})
    result = validate_table("shock", SMALL, raw)
    facts = _expected_facts(rows)
    found = [
        (
            tuple(r[n].day if isinstance(r[n], dt.date) else r[n] for n in REQUIRED),
            tuple(r[n] for n in POOLS if n not in REQUIRED),
        )
        for r in _accepted(result)
    ]
    assert sorted(fact for fact, _ in found) == sorted(facts)
    assert all(rest in facts[fact] for fact, rest in found)
    lost = result.rejected_rows["row"].to_pylist()
    assert len(found) + len(lost) == len(rows)
    assert sorted(set(result.rejected["row"])) == lost
    kept = [raw.slice(row, 1).to_pylist()[0] | {"row": row} for row in lost]
    assert result.rejected_rows.to_pylist() == kept


@given(st.lists(CELLS, min_size=2, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_the_order_of_a_file_does_not_matter(rows, random):
    def accepted(rows):
        raw = pa.table({n: pa.array([row[n][0] for row in rows], pa.string()) for n in POOLS})
        return validate_table("shock", SMALL, raw).accepted

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert accepted(shuffled).equals(accepted(rows))


def test_structure_faults_are_all_told():
    raw = pa.table(
        [pa.array(["x"])] * 4, names=["household_id", "event_date", "surprise", "event_date"]
    )
    found = {(fault.place, fault.found) for fault in find_structure_faults("shock", TABLE, raw)}
    assert found == {
        ("table 'shock'", "no column 'known_date'"),
        ("table 'shock'", "no column 'kind'"),
        ("table 'shock'", "column 'surprise'"),
        ("table 'shock'", "column 'event_date' twice"),
    }


def test_a_table_without_any_readable_row_is_a_fault_that_masks_identity_numbers():
    raw = pa.table({name: [value] for name, value in (GOOD | {"loss": None}).items()})
    raw = raw.set_column(raw.column_names.index("kind"), "kind", pa.array(["11010119900307123X"]))
    (fault,) = find_unreadable("shock", raw, validate_table("shock", TABLE, raw))
    assert fault.found == "1 rows of which none can be read; the first: kind '11***3X'"
    assert "flood" in fault.expected


def test_an_empty_table_is_no_fault():
    raw = pa.table({name: pa.array([], pa.string()) for name in GOOD})
    result = validate_table("shock", TABLE, raw)
    assert (result.accepted.num_rows, len(result.rejected)) == (0, 0)
    assert find_unreadable("shock", raw, result) == []


def test_errors_survive_the_way_between_processes():
    faults = [Fault("a", "1", "2", "Do."), Fault("b", "3", "4", "Do.")]
    error = pickle.loads(pickle.dumps(HistoryError(faults)))
    assert isinstance(error, PovertyRiskError)
    assert error.faults == tuple(faults)
    assert str(error).startswith("2 problems:\n  1. a: found 1; expected 2. Do.")
