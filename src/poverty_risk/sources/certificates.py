"""Certificate numbers: check digit, birth date, sex and disability; rounded numbers are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from poverty_risk.sources.values import FAULTS
from poverty_risk.sources.words import load_source_words, normalise_text

__all__ = ["Certificates", "read_certificates"]

WEIGHTS = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
"""Powers of two modulo 11, from the first digit (GB 11643-1999)."""

CHECK_DIGITS = np.frombuffer(b"10X98765432", dtype=np.uint8)
"""Check digit by the weighted sum modulo 11."""

PROVINCES = [
    *range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66),
    71, 81, 82, 83, 91,
]  # fmt: skip
"""First two digits in use; 81 to 83 on residence permits, 91 on those of foreigners since 2023."""

EARLIEST_BIRTH = np.datetime64("1900-01-01")
LATEST_BIRTH = np.datetime64("2100-01-01")

EXPECTED = (
    None,
    "a number of 15, 18, 20 or 22 digits",
    "all digits as text (a spreadsheet rounded this number)",
    "all digits as text (others of this column were rounded, and this one may be)",
    "a place in digits 1 to 6",
    "a birth date in digits 7 to 14",
    "a number whose check digit is right",
    "category 1 to 7 and level 1 to 4 in digits 19 and 20",
)
"""What is told for each kind of fault; 0 is none."""
FINE, SHAPE, ROUNDED, SUSPECT, PLACE, BIRTH, CHECK, DISABILITY = range(8)

SHARE_OF_ROUNDED = 0.2
"""Of proper numbers one in 64 to 128 happens to be a floating-point number of its own; in a column
of rounded ones all are."""

_AROUND = re.compile(r"[\s'`\u2018\u2019\u00b4\"\-]")
"""Blanks, hyphens, and the sign by which a spreadsheet is told that a number is text."""
_PERSON = re.compile(r"([0-9]{17}[0-9X])(?:[0-9]{2}(?:[0-9B][0-9])?)?|[0-9]{15}")
_SCIENTIFIC = re.compile(r"[0-9](?:\.[0-9]+)?E\+?[0-9]{1,2}")


@dataclass(frozen=True)
class Certificates:
    """What certificate numbers tell; arrays of one row per cell, null where it cannot be told.

    Parameters
    ----------
    numbers
        Person numbers of 18 digits, also of those written with 15 and of disability certificates.
        Private: they may only be hashed, never be kept.
    birth_date
        Type date32.
    sex
        ``man`` or ``woman``.
    disability_category
        1 to 7, int64; of disability certificates (20 or 22 digits) alone.
    disability_level
        1 (the most severe) to 4, int64; of disability certificates alone.
    transposed
        For a number whose check digit is wrong, and for one of 15 digits, which has none: the valid
        numbers that result when two neighbouring digits change places, a list of strings; else
        null. A number whose check digit is right has none, because the digit finds every such
        exchange. Private as `numbers`.
    faults
        Cells that are refused, as in `poverty_risk.sources.values.FAULTS`. They quote no number.
    """

    numbers: pa.Array
    birth_date: pa.Array
    sex: pa.Array
    disability_category: pa.Array
    disability_level: pa.Array
    transposed: pa.Array
    faults: pa.Table


def read_certificates(cells: pa.Array | pa.ChunkedArray) -> Certificates:
    """Read a column of certificate numbers.

    Numbers of 15 digits become those of 18 digits of the same person, so that both are linked. A
    number that a spreadsheet rounded is refused, also when its check digit is right by chance: if
    others of the column were rounded, all those that could have been are refused.

    Parameters
    ----------
    cells
        Text, null where blank, shape (n_rows,).

    Returns
    -------
    Certificates
        What they tell. The numbers in it are private.

    Examples
    --------
    >>> import pyarrow as pa
    >>> read = read_certificates(pa.array(["11010519491231002X42", "6.1252E+17"]))
    >>> str(read.birth_date[0]), read.sex[0].as_py(), read.disability_level[0].as_py()
    ('1949-12-31', 'woman', 2)
    >>> read.faults["expected"].to_pylist()
    ['all digits as text (a spreadsheet rounded this number)']
    """
    texts = [_normalise(text) for text in cells.to_pylist()]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    written = np.array([_to_person_number(text) for text in texts], dtype="S18")
    numbers = written.view(np.uint8).reshape(len(texts), 18)
    shaped, short = numbers[:, 0] > 0, lengths == 15
    complete = np.flatnonzero(shaped & short)
    numbers[complete, 17] = _compute_check_digits(numbers[complete])

    fault = np.zeros(len(texts), dtype=np.int8)
    fault[(lengths > 0) & ~shaped] = SHAPE
    fault[[bool(_SCIENTIFIC.fullmatch(text)) for text in texts]] = ROUNDED
    fault[shaped] = _find_faults(numbers[shaped])
    swappable = shaped & ((fault != FINE) | short)
    _refuse_rounded(numbers, shaped & (lengths == 18), fault)
    category, level = _read_disability(texts, lengths, fault)
    told = shaped & (fault == FINE)
    swappable &= (fault != ROUNDED) & (fault != SUSPECT)
    return Certificates(
        numbers=pa.array(written.astype("U18"), pa.string(), mask=~told),
        birth_date=pa.array(_read_births(numbers), pa.date32(), mask=~told),
        sex=pa.array(np.where(numbers[:, 16] % 2, "man", "woman"), pa.string(), mask=~told),
        disability_category=pa.array(category, pa.int64(), mask=~told | (category == 0)),
        disability_level=pa.array(level, pa.int64(), mask=~told | (level == 0)),
        transposed=_find_transposed(numbers, swappable, short),
        faults=_make_faults(fault),
    )


def _make_faults(fault: np.ndarray) -> pa.Table:
    index = np.flatnonzero(fault)
    expected = [EXPECTED[kind] for kind in fault[index]]
    return pa.table([pa.array(index, pa.int64()), pa.array(expected, pa.string())], schema=FAULTS)


def _normalise(text: str | None) -> str:
    """Digits alone; nothing where the cell tells nothing."""
    if text is None or text.casefold() in load_source_words().blank:
        return ""
    if text.isascii() and text.isalnum():
        return text.upper()
    return _AROUND.sub("", normalise_text(text)).upper().removesuffix(".0")


def _to_person_number(text: str) -> str:
    """The 18 digits of a person, the last one still to be computed where 15 are written."""
    match = _PERSON.fullmatch(text)
    if match is None:
        return ""
    return match.group(1) or f"{text[:6]}19{text[6:]}0"


def _compute_check_digits(numbers: np.ndarray) -> np.ndarray:
    """Right check digit of each number, shape (n_numbers,), from digits of shape (n_numbers, 18)."""
    sums = (numbers[:, :17].astype(np.int64) - ord("0")) @ WEIGHTS
    digits: np.ndarray = CHECK_DIGITS[sums % 11]
    return digits


def _read_births(numbers: np.ndarray) -> np.ndarray:
    """Birth dates, not a time where the digits tell none."""
    digits = numbers[:, 6:14].astype(np.int64) - ord("0")
    year = digits[:, :4] @ [1000, 100, 10, 1]
    month, day = digits[:, 4:6] @ [10, 1], digits[:, 6:] @ [10, 1]
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]")
    months = months + (month - 1).astype("timedelta64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)
    exists &= (days >= EARLIEST_BIRTH) & (days < LATEST_BIRTH)
    return np.where(exists, days, np.datetime64("NaT", "D"))


def _find_faults(numbers: np.ndarray) -> np.ndarray:
    """The first fault of each number of 18 digits."""
    digits = numbers[:, :17].astype(np.int64) - ord("0")
    fault = np.full(len(numbers), FINE, dtype=np.int8)
    fault[_compute_check_digits(numbers) != numbers[:, 17]] = CHECK
    fault[np.isnat(_read_births(numbers))] = BIRTH
    fault[~np.isin(digits[:, :2] @ [10, 1], PROVINCES)] = PLACE
    # An X elsewhere than at the end comes from an exchange of digits.
    fault[(digits > 9).any(axis=1)] = SHAPE
    return fault


def _refuse_rounded(numbers: np.ndarray, candidates: np.ndarray, fault: np.ndarray) -> None:
    """Numbers that lost their last digits, and those that may have in a column where others did.

    A spreadsheet keeps 15 digits and fills up with zeros; other programs keep the nearest
    floating-point number. One in eleven of the results has the right check digit by chance.
    """
    at = np.flatnonzero(candidates & (numbers[:, 17] != ord("X")))
    whole = numbers[at].copy().view("S18").ravel().astype(np.int64)
    wrong = fault[at] != FINE
    zeros = whole % 1000 == 0
    floats = whole.astype(np.float64).astype(np.int64) == whole
    if not (wrong & floats).sum() >= 2 or floats.mean() < SHARE_OF_ROUNDED:
        floats[:] = False
    fault[at[wrong & (zeros | floats)]] = ROUNDED
    if (fault == ROUNDED).any():
        fault[at[~wrong & (zeros | floats)]] = SUSPECT


def _read_disability(
    texts: list[str], lengths: np.ndarray, fault: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Category and level of disability certificates, 0 for other numbers."""
    category, level = np.zeros((2, len(texts)), dtype=np.int64)
    for at in np.flatnonzero((lengths >= 20) & (fault == FINE)):
        category[at], level[at] = int(texts[at][18]), int(texts[at][19])
    told = (category >= 1) & (category <= 7) & (level >= 1) & (level <= 4)
    fault[(lengths >= 20) & (fault == FINE) & ~told] = DISABILITY
    return category, level


def _find_transposed(numbers: np.ndarray, swappable: np.ndarray, short: np.ndarray) -> pa.Array:
    """Valid numbers by exchange of two neighbouring digits, for the rows that may have some."""
    rows = np.flatnonzero(swappable)
    found: dict[int, set[str]] = {int(row): set() for row in rows}
    for left in range(17):
        swapped = numbers[rows].copy()
        swapped[:, [left, left + 1]] = swapped[:, [left + 1, left]]
        upgraded = short[rows]
        # The century of 15 digits was never written, and neither was their check digit.
        possible = ~upgraded | ~np.isin(left, [5, 6, 7, 16])
        swapped[upgraded, 17] = _compute_check_digits(swapped[upgraded])
        possible &= (swapped[:, :17] != numbers[rows, :17]).any(axis=1)
        possible[possible] = _find_faults(swapped[possible]) == FINE
        for row, number in zip(rows[possible], swapped[possible], strict=True):
            found[int(row)].add(number.tobytes().decode())
    lists = [sorted(found[at]) if swappable[at] else None for at in range(len(numbers))]
    return pa.array(lists, pa.list_(pa.string()))
