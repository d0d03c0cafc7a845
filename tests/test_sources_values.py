"""Text cells into values: each way in which offices write them, and whatever else may stand there."""

from __future__ import annotations

import datetime as dt
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poverty_risk.exceptions import DeclarationError
from poverty_risk.sources.values import KINDS, find_rounded, read_values
from poverty_risk.sources.words import load_source_words, normalise_text

HEALTH = {"健康": "healthy", "长期慢性病": "chronic", "患有大病": "severe", "残疾": "disabled"}


def read(cells, kind, **options):
    """Values and faults of a column, as Python objects; faults by position."""
    found = read_values(pa.array(cells, pa.string()), kind, **options)
    assert len(found.values) == len(cells)
    faults = {row["index"]: row["expected"] for row in found.faults.to_pylist()}
    assert list(faults) == sorted(faults)
    assert all(found.values[at].as_py() is None for at in faults)
    return found.values.to_pylist(), faults


def value(cell, kind, **options):
    values, faults = read([cell], kind, **options)
    assert faults == {}
    return values[0]


def fault(cell, kind, **options):
    values, faults = read([cell], kind, **options)
    assert values == [None]
    return faults[0]


# ----------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1200", 1200.0),
        ("-3.5", -3.5),
        ("1,234,567.8", 1234567.8),
        ("１２００．５", 1200.5),
        ("１，２００", 1200.0),
        ("1.2万元", 12000.0),
        ("3 万元", 30000.0),
        ("0.5万", 5000.0),
        ("12000元", 12000.0),
        ("￥1,200.00", 1200.0),
        ("¥ 80", 80.0),
        ("2.5亩", 2.5),
        ("1.2E+3", 1200.0),
        ("+7", 7.0),
        (".5", 0.5),
    ],
)
def test_number_is_read_as_offices_write_it(cell, expected):
    assert value(cell, "number") == expected


@pytest.mark.parametrize("cell", [None, "-", "—", "无", "/", "NaN", "NULL", "不详"])
def test_a_mark_for_nothing_is_missing_and_no_fault(cell):
    assert value(cell, "number") is None


@pytest.mark.parametrize(
    "cell",
    ["abc", "1,5", "12,34,567", "1.2.3", "约300", "inf", "1e400", "0x10", "#N/A", "3万5", "1 2"],
)
def test_what_is_no_number_is_a_fault(cell):
    assert fault(cell, "number") == "a number"


def test_the_unit_of_a_column_counts_unless_the_cell_has_its_own():
    cells = ["1.5", "１．５", "1.5元", "1.5万元", "1,000"]
    values, faults = read(cells, "number", unit=10000)
    assert values == [15000.0, 15000.0, 1.5, 15000.0, 10_000_000.0]
    assert faults == {}


def test_whole_numbers():
    values, faults = read(["3", "3.0", "３", "1,200", "3.5", str(2**53), "x", None], "integer")
    assert values == [3, 3, 3, 1200, None, None, None, None]
    assert faults == dict.fromkeys([4, 5, 6], "a whole number")


def test_a_whole_number_of_yuan_in_ten_thousands_stays_whole():
    # In floating point 1.2345 * 10000 is 12345.000000000002.
    assert value("1.2345", "integer", unit=10000) == 12345


# ----------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("cell", ["是", "有", "1", "1.0", "√", "✓", "Y", "TRUE", "１", " 是 "])
def test_yes(cell):
    assert value(cell, "boolean") is True


@pytest.mark.parametrize("cell", ["否", "无", "0", "0.0", "×", "N", "false", "０"])
def test_no(cell):
    assert value(cell, "boolean") is False


def test_an_answer_of_a_mapping_goes_before_and_another_is_a_fault():
    values, faults = read(
        ["已务工", "未务工", "也许", "-"], "boolean", codes={"已务工": "true", "未务工": "false"}
    )
    assert values == [True, False, None, None]
    assert faults == {2: "yes or no"}


def test_answers_of_a_mapping_are_true_or_false():
    with pytest.raises(DeclarationError, match="found 'maybe'; expected 'true' or 'false'"):
        read(["x"], "boolean", codes={"x": "maybe"})


# ------------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    "cell",
    [
        "2021-03-05",
        "2021/3/5",
        "2021.3.5",
        "2021.03.05",
        "20210305",
        "20210305.0",
        "2021年3月5日",
        "2021年03月05号",
        "２０２１年３月５日",
        "2021-03-05 10:20:30",
        "2021-03-05T10:20:30.123",
        "2021/3/5 8:00",
        "44260",  # days since 1899-12-30, as a spreadsheet counts
        "44260.5",
    ],
)
def test_date_is_read_as_offices_write_it(cell):
    assert value(cell, "date") == dt.date(2021, 3, 5)


def test_day_number_of_a_spreadsheet_counts_from_the_end_of_1899():
    assert dt.date(1899, 12, 30) + dt.timedelta(days=44260) == dt.date(2021, 3, 5)


@pytest.mark.parametrize(
    "cell",
    ["202103", "2021年3月", "2021", "2021-02-30", "2021-13-01", "5/3/2021", "21.3.5", "1850-01-01",
     "2200-01-01", "昨天", "2021-03-05Z", "2021-03-05T16:00:00Z", "0000-00-00", "#REF!"],
)  # fmt: skip
def test_what_is_no_date_is_a_fault(cell):
    assert fault(cell, "date").startswith("a date such as 2023-05-31")


@pytest.mark.parametrize("cell", ["长期", "至今", "-", None])
def test_an_open_end_is_no_date_and_no_fault(cell):
    assert value(cell, "date") is None


@pytest.mark.parametrize(
    "cell",
    ["202102", "２０２１０２", "202102.0", "2021.02", "2021.2", "2021-02", "2021/2", "2021年2月",
     "2021年02月份", "2021-02-14", "20210214", "44241"],
)  # fmt: skip
def test_month_is_its_first_or_last_day(cell):
    assert value(cell, "month") == dt.date(2021, 2, 28)
    assert value(cell, "month", month="first") == dt.date(2021, 2, 1)


@pytest.mark.parametrize("cell", ["2021", "202113", "2021.13", "三月", "2021年"])
def test_what_is_no_month_is_a_fault(cell):
    assert fault(cell, "month").startswith("a month such as 2023-05")


def test_october_that_may_have_become_january_is_a_fault():
    # As a number 2021.10 is 2021.1; only a column that writes 2021.10 shows that it holds text.
    assert read(["2021.1", "2021.11"], "month")[1].keys() == {0}
    assert read(["2021.1", "2021.01", "2021.11"], "month")[1].keys() == {0}
    values, faults = read(["2021.1", "2021.10"], "month")
    assert values == [dt.date(2021, 1, 31), dt.date(2021, 10, 31)]
    assert faults == {}


# ------------------------------------------------------------------------------------------- codes


def test_code_by_its_text():
    cells = ["健康", " 残 疾 ", "1", "1.0", "未知", "别的", None]
    values, faults = read(cells, "category", codes=HEALTH | {"1": "one"})
    assert values == ["healthy", "disabled", "one", "one", None, None, None]
    assert faults == {5: "a code that the mapping knows"}


def test_a_code_is_never_taken_for_a_mark_for_nothing():
    assert value("无", "category", codes={"无": "none"}) == "none"
    assert value("无", "category", codes={"有": "some"}) is None


@pytest.mark.parametrize(
    "cell",
    [
        "残疾,患有大病",
        "患有大病、残疾",
        "患有大病；残疾；患有大病",
        "残疾 患有大病",
        "残疾/患有大病，",
    ],
)
def test_several_codes_in_one_cell_have_one_order(cell):
    assert value(cell, "codes", codes=HEALTH) == ["severe", "disabled"]


def test_a_code_that_holds_a_separator_is_found_whole():
    codes = {"因病/因伤": "illness", "因学": "school"}
    assert value("因病/因伤", "codes", codes=codes) == ["illness"]
    assert value("因学；因病/因伤", "codes", codes=codes, separators=["；"]) == [
        "illness",
        "school",
    ]


def test_one_unknown_code_of_several_is_a_fault():
    assert fault("残疾,别的", "codes", codes=HEALTH) == "codes that the mapping knows"


def test_several_texts_without_declared_codes():
    assert value("乙,甲,乙", "codes") == ["乙", "甲"]


# ------------------------------------------------------------------------------------------- texts


def test_text_without_full_width_digits_and_blanks_around():
    assert read(["６１０１２１", "\u3000甲 村\u00a0", "-", "NULL", "610123456.0"], "string") == (
        ["610121", "甲 村", None, None, "610123456"],
        {},
    )


def test_an_id_that_lost_digits_or_whose_formula_failed_is_a_fault():
    values, faults = read(["6.1012E+17", "610121000123", "#N/A", "#ERROR"], "string")
    assert values == [None, "610121000123", None, None]
    assert faults.keys() == {0, 2, 3}
    assert "lost the last ones" in faults[0]
    assert "formula failed" in faults[2]


def test_rounded_numbers_are_found():
    found = find_rounded(pa.chunked_array([["6.12E+17", "6e17", "612"], [None, "E17"]]))
    assert found.to_pylist() == [True, True, False, False, False]


# ------------------------------------------------------------------------------------ whatever else


def test_kind_and_day_of_a_month_are_checked():
    with pytest.raises(
        DeclarationError, match="found 'money', month 'last'; expected one of string"
    ):
        read([], "money")
    with pytest.raises(DeclarationError, match="month 'middle'"):
        read([], "month", month="middle")


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_no_rows_and_one_of_blanks(kind):
    assert read([], kind) == ([], {})
    assert read([None, None], kind) == ([None, None], {})
    assert read_values(pa.chunked_array([], pa.string()), kind).faults.num_rows == 0


TYPICAL = st.from_regex(r"[0-9１２.,\-/年月日号万元亩是否√×EeX ：:+#无]{0,12}", fullmatch=True)
CELLS = st.lists(st.none() | TYPICAL | st.text(max_size=20), max_size=12)


@settings(max_examples=150, deadline=None)
@given(CELLS, st.sampled_from(KINDS), st.booleans())
def test_whatever_stands_in_a_cell_it_is_read_or_told_or_nothing(cells, kind, declared):
    codes = HEALTH if declared and kind in ("category", "codes") else None
    values, faults = read(cells, kind, codes=codes)
    words = load_source_words()
    for at, cell in enumerate(cells):
        if values[at] is None and at not in faults:
            text = normalise_text(cell or "").casefold()
            assert text in ("", *words.blank, *words.open_ended)


@settings(max_examples=100, deadline=None)
@given(CELLS, st.sampled_from([kind for kind in KINDS if kind != "month"]))
def test_a_column_is_read_like_its_cells_one_by_one(cells, kind):
    values, faults = read(cells, kind)
    alone = [read([cell], kind) for cell in cells]
    assert values == [found[0] for found, _ in alone]
    assert faults == {at: told[0] for at, (_, told) in enumerate(alone) if told}


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e14, 1e14), st.booleans())
def test_a_number_comes_back_however_it_was_written(number, grouped):
    text = f"{number:,.4f}" if grouped else f"{number:.4f}"
    # Python's own reader is the independent one.
    assert value(text, "number") == float(text.replace(",", ""))


@settings(max_examples=100, deadline=None)
@given(
    st.dates(dt.date(1930, 1, 1), dt.date(2099, 12, 31)),
    st.sampled_from(
        ["{:%Y-%m-%d}", "{:%Y%m%d}", "{:%Y年%m月%d日}", "{0.year}.{0.month}.{0.day}", "serial"]
    ),
)
def test_a_date_comes_back_however_it_was_written(day, form):
    text = form.format(day)
    if form == "serial":
        text = str((day - dt.date(1899, 12, 30)).days)
    assert value(text, "date") == day


def test_words_are_plain_and_no_answer_is_both():
    words = load_source_words()
    assert not set(words.yes) & set(words.no)
    assert all(word == word.casefold() and not re.search("[０-９]", word) for word in words.yes)
    assert words.units["万元"] == 10_000
