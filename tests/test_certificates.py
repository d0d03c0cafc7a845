"""Certificate numbers against a second computation of the check digit, and the ways they get damaged."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poverty_risk.sources.certificates import read_certificates

# The example of GB 11643-1999 itself: born on the last day of 1949, sequence 002 is a woman.
STANDARD = "11010519491231002X"
ROUNDED = "all digits as text (a spreadsheet rounded this number)"
SUSPECT = "all digits as text (others of this column were rounded, and this one may be)"
CHECK = "a number whose check digit is right"


def check_digit(first_17):
    """ISO 7064 MOD 11-2 by its recursion; the package sums weights instead."""
    carry = 0
    for digit in first_17:
        carry = (carry + int(digit)) * 2 % 11
    return "0123456789X"[(12 - carry) % 11]


def number(sequence=123, place="610125", birth="19800512"):
    first_17 = f"{place}{birth}{sequence:03d}"
    return first_17 + check_digit(first_17)


def read(*cells):
    found = read_certificates(pa.array(cells, pa.string()))
    faults = {row["index"]: row["expected"] for row in found.faults.to_pylist()}
    columns = (
        found.numbers, found.birth_date, found.sex, found.disability_category,
        found.disability_level, found.transposed,
    )  # fmt: skip
    assert all(len(column) == len(cells) for column in columns)
    for at in faults:
        assert all(column[at].as_py() is None for column in columns[:5])
    assert not any(re.search("[0-9]{4}", text) for text in faults.values())
    return found, faults


def test_the_standards_own_example():
    assert check_digit(STANDARD[:17]) == "X"
    found, faults = read(STANDARD)
    assert faults == {}
    assert found.numbers.to_pylist() == [STANDARD]
    assert found.birth_date.to_pylist() == [dt.date(1949, 12, 31)]
    assert found.sex.to_pylist() == ["woman"]
    assert found.disability_level.to_pylist() == found.disability_category.to_pylist() == [None]
    assert found.transposed.to_pylist() == [None]


def test_an_odd_sequence_is_a_man():
    found, _ = read(number(sequence=121), number(sequence=120))
    assert found.sex.to_pylist() == ["man", "woman"]


def test_fifteen_digits_are_the_same_person_as_eighteen():
    found, faults = read("110105491231002")
    assert faults == {}
    assert found.numbers.to_pylist() == [STANDARD]
    assert found.birth_date.to_pylist() == [dt.date(1949, 12, 31)]


@pytest.mark.parametrize("end", ["42", "4201", "42B1"])
def test_a_disability_certificate_tells_category_and_level(end):
    found, faults = read(STANDARD + end)
    assert faults == {}
    assert found.numbers.to_pylist() == [STANDARD]
    assert found.disability_category.to_pylist() == [4]
    assert found.disability_level.to_pylist() == [2]


@pytest.mark.parametrize("end", ["02", "82", "40", "45", "00"])
def test_no_such_category_or_level(end):
    assert read(STANDARD + end)[1] == {0: "category 1 to 7 and level 1 to 4 in digits 19 and 20"}


@pytest.mark.parametrize(
    "written",
    ["'11010519491231002X", " 1101 0519 4912 31002x ", "１１０１０５１９４９１２３１００２Ｘ",
     "110105-19491231-002X", "\u200b11010519491231002X\n"],
)  # fmt: skip
def test_a_number_is_found_among_signs_that_are_none_of_it(written):
    assert read(written)[0].numbers.to_pylist() == [STANDARD]


@pytest.mark.parametrize("blank", [None, "", "-", "无", "NULL"])
def test_no_number_is_no_fault(blank):
    found, faults = read(blank)
    assert faults == {}
    assert found.numbers.to_pylist() == [None]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("12345", "a number of 15, 18, 20 or 22 digits"),
        ("E12345678", "a number of 15, 18, 20 or 22 digits"),
        (STANDARD + "1", "a number of 15, 18, 20 or 22 digits"),
        ("1101051949123100X2", "a number of 15, 18, 20 or 22 digits"),
        ("990105194912310021", "a place in digits 1 to 6"),
        ("110105194913310021", "a birth date in digits 7 to 14"),
        ("110105194902300021", "a birth date in digits 7 to 14"),
        ("110105189912310021", "a birth date in digits 7 to 14"),
        (STANDARD[:17] + "1", CHECK),
    ],
)
def test_what_is_wrong_is_told(cell, expected):
    assert read(cell)[1] == {0: expected}


# ---------------------------------------------------------------------------------- rounded numbers


@pytest.mark.parametrize(
    "cell", ["6.12501198005121E+17", "6.1E+17", "6.12501198005121e17", "6E+19"]
)
def test_a_number_in_the_form_of_a_spreadsheet_is_rounded(cell):
    assert read(cell)[1] == {0: ROUNDED}


def test_a_number_that_ends_in_zeros_instead_of_its_digits_is_rounded():
    cut = number(sequence=123)[:15] + "000"
    assert check_digit(cut[:17]) != "0"
    assert read(cut)[1] == {0: ROUNDED}


def _with_zeros_by_right():
    """A number of which the sequence ends in 00 and the check digit is 0."""
    return next(
        made
        for day in range(1, 29)
        for made in [number(sequence=100, birth=f"198005{day:02d}")]
        if made.endswith("000")
    )


def test_zeros_that_are_right_are_refused_only_where_others_were_rounded():
    proper = _with_zeros_by_right()
    found, faults = read(proper)
    assert faults == {}
    assert found.numbers.to_pylist() == [proper]
    assert read(proper, "6.1E+17", STANDARD)[1] == {0: SUSPECT, 1: ROUNDED}


def test_a_column_of_floating_point_numbers_is_refused_whole():
    proper = [number(sequence=at, birth=f"1980051{at % 10}") for at in range(100, 300)]
    # What another program writes after it read the numbers as floating-point ones.
    rounded = [str(int(np.float64(text))) for text in proper if "X" not in text]
    kept = [text for text in rounded if check_digit(text[:17]) == text[17]]
    assert 0 < len(kept) < len(rounded), "some have the right check digit by chance"
    found, faults = read(*rounded)
    assert faults.keys() == set(range(len(rounded)))
    assert set(faults.values()) == {ROUNDED, SUSPECT}
    assert found.numbers.null_count == len(rounded)


def test_proper_numbers_are_not_refused_because_some_are_whole_as_floating_point_numbers():
    proper = [number(sequence=at, birth=f"1980051{at % 10}") for at in range(1000 // 2)]
    mistyped = proper[0][:17] + ("1" if proper[0][17] != "1" else "2")
    assert read(*proper, mistyped)[1] == {len(proper): CHECK}


def test_fifteen_digits_are_exact_as_a_number():
    assert read("110105491231002.0")[0].numbers.to_pylist() == [STANDARD]


# -------------------------------------------------------------------------------- exchanged digits


def test_two_exchanged_digits_are_found_by_the_check_digit_and_put_right():
    proper = number(sequence=345)
    for left in range(16):
        if proper[left] == proper[left + 1]:
            continue
        wrong = proper[:left] + proper[left + 1] + proper[left] + proper[left + 2 :]
        found, faults = read(wrong)
        assert faults.keys() == {0}
        assert proper in found.transposed[0].as_py()


def test_of_fifteen_digits_an_exchange_is_possible_and_listed():
    written = "110105491231002"
    exchanged = "110105491231020"
    found, faults = read(written, exchanged)
    assert faults == {}
    first, second = found.numbers.to_pylist()
    assert second in found.transposed[0].as_py()
    assert first in found.transposed[1].as_py()


def test_a_rounded_number_has_no_near_ones():
    found, _ = read("6.1E+17", number()[:15] + "000")
    assert found.transposed.to_pylist() == [None, None]


# ------------------------------------------------------------------------------------ whatever else


def test_columns_of_no_rows_and_in_chunks():
    assert read()[1] == {}
    found = read_certificates(pa.chunked_array([[STANDARD], [None]], pa.string()))
    assert found.numbers.to_pylist() == [STANDARD, None]


PEOPLE = st.builds(
    number,
    st.integers(1, 999),
    st.sampled_from(["110105", "610125", "659004", "830000"]),
    st.dates(dt.date(1900, 1, 1), dt.date(2030, 1, 1)).map("{:%Y%m%d}".format),
)


@settings(max_examples=200, deadline=None)
@given(PEOPLE.filter(lambda made: not made.endswith("000")))
def test_a_proper_number_tells_its_person(proper):
    found, faults = read(proper)
    assert faults == {}
    assert found.numbers[0].as_py() == proper
    assert found.birth_date[0].as_py() == dt.datetime.strptime(proper[6:14], "%Y%m%d").date()  # noqa: DTZ007
    assert found.sex[0].as_py() == ("man" if int(proper[16]) % 2 else "woman")


@settings(max_examples=200, deadline=None)
@given(PEOPLE, st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(proper, at, by):
    wrong = proper[:at] + str((int(proper[at]) + by) % 10) + proper[at + 1 :]
    found, faults = read(wrong)
    assert faults.keys() == {0}
    assert found.numbers[0].as_py() is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.none() | st.text(max_size=24) | st.from_regex(r"[0-9X１E+. ]{12,23}", fullmatch=True)
    )
)
def test_whatever_stands_in_a_cell_only_right_numbers_come_out(cells):
    found, _ = read(*cells)
    for made in found.numbers.drop_null().to_pylist():
        assert len(made) == 18
        assert check_digit(made[:17]) == made[17]
