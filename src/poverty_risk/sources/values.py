"""Text cells into typed columns: what cannot be read stays null and is told, cell by cell."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.sources.dates import make_date_parser, without_time
from poverty_risk.sources.words import load_source_words, normalise_text

__all__ = ["FAULTS", "KINDS", "ReadValues", "find_rounded", "read_values"]

FAULTS = pa.schema([("index", pa.int64()), ("expected", pa.string())])
"""One line per cell that cannot be read: its position, and what was expected instead."""

KINDS = ("string", "category", "number", "integer", "boolean", "date", "month", "codes")

LARGEST_WHOLE = 2**53
"""Whole numbers beyond have lost digits once they were floating-point numbers."""

_PLAIN_NUMBER = r"^[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?$"
_GROUPED = r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?"
_ROUNDED = r"^[0-9](?:\.[0-9]+)?[eE]\+?[0-9]{1,3}$"
_FAILED = r"^#(?:N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!|SPILL!|CALC!|ERROR)$"
"""What a spreadsheet shows where a formula failed."""

_ROUNDED_EXPECTED = "all its digits (as a number it lost the last ones)"
_WHOLE_FLOAT = re.compile(r"([0-9]+)\.0+")


@dataclass(frozen=True)
class ReadValues:
    """A column as it was read.

    Parameters
    ----------
    values
        Typed values, one per cell; null where the cell is blank or cannot be read.
    faults
        Cells that cannot be read, as in `FAULTS`, ascending by position.
    """

    values: pa.Array
    faults: pa.Table


def read_values(
    cells: pa.Array | pa.ChunkedArray,
    kind: str,
    *,
    codes: Mapping[str, str] | None = None,
    unit: float = 1.0,
    separators: Iterable[str] | None = None,
    month: str = "last",
) -> ReadValues:
    """Read a column of text cells as one kind of value.

    Distinct texts are read once; plain numbers go through Arrow's cast.

    Parameters
    ----------
    cells
        Text, null where blank, shape (n_rows,).
    kind
        ``string``, ``category``, ``number``, ``integer``, ``boolean``, ``date``, ``month``, or
        ``codes`` for several codes in one cell.
    codes
        Code by the text that files write, for ``category`` and ``codes``; other texts are faults.
        None takes texts as they are. For ``boolean`` it adds words: ``"true"`` or ``"false"`` by
        text. A text that is a code is never taken for blank.
    unit
        Factor from the unit of the column to the declared one (10000 for ten thousand yuan). A unit
        written in the cell itself goes before it.
    separators
        What stands between several codes; None for those of ``mappings/words.yaml``.
    month
        The day that stands for a month: ``last`` or ``first``.

    Returns
    -------
    ReadValues
        Values of type string, double, int64, bool, date32, or list of string (codes in the order of
        ``codes``, each once), and the faults.

    Raises
    ------
    DeclarationError
        No such kind, or no such day of a month.

    Examples
    --------
    >>> import pyarrow as pa
    >>> read = read_values(pa.array(["1,200", None, "twelve"]), "number")
    >>> read.values.to_pylist(), read.faults.to_pylist()
    ([1200.0, None, None], [{'index': 2, 'expected': 'a number'}])
    """
    if kind not in KINDS or month not in ("first", "last"):
        raise DeclarationError(
            Fault(
                "kind of a column",
                f"'{kind}', month '{month}'",
                f"one of {', '.join(KINDS)}; month first or last",
                "Correct the mapping.",
            )
        )
    column = _combine(cells)
    if kind in ("number", "integer"):
        return _read_numbers(column, unit, whole=kind == "integer")
    if kind in ("date", "month"):
        column = without_time(column)
        parse = make_date_parser(column, kind, month)
        return _read_distinct(column, functools.partial(_parse_date, parse=parse), pa.date32())
    if kind == "boolean":
        answers = _make_answers(codes)
        return _read_distinct(column, functools.partial(_parse_answer, answers=answers), pa.bool_())
    if kind == "codes":
        return _read_several(column, codes, separators)
    if codes is not None:
        by_text = _fold_codes(codes)
        return _read_distinct(column, functools.partial(_parse_code, codes=by_text), pa.string())
    return _read_strings(column)


def find_rounded(cells: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Whether a text is a long number that a spreadsheet rounded, such as 6.12E+17.

    Parameters
    ----------
    cells
        Text, shape (n_rows,).

    Returns
    -------
    pyarrow.Array
        Boolean, shape (n_rows,); false where there is no text.

    Examples
    --------
    >>> import pyarrow as pa
    >>> find_rounded(pa.array(["6.12E+17", "612", None])).to_pylist()
    [True, False, False]
    """
    return pc.fill_null(pc.match_substring_regex(_combine(cells), _ROUNDED), False)


def _combine(cells: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(cells, pa.ChunkedArray):
        cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)
    return cells if cells.type == pa.string() else cells.cast(pa.string())


Parsed = tuple[Any, str | None]
"""A value, or what was expected instead; neither where the cell tells nothing."""


def _read_distinct(
    column: pa.Array, parse: Callable[[str], Parsed], kind: pa.DataType
) -> ReadValues:
    encoded = column.dictionary_encode()
    parsed = [parse(normalise_text(text)) for text in encoded.dictionary.to_pylist()]
    values = pa.array([value for value, _ in parsed], kind).take(encoded.indices)
    expected = pa.array([text for _, text in parsed], pa.string()).take(encoded.indices)
    return ReadValues(values, _make_faults(expected))


def _make_faults(expected: pa.Array) -> pa.Table:
    """Faults of the cells for which something else was expected."""
    index = pc.indices_nonzero(expected.is_valid())
    return pa.table([index.cast(pa.int64()), expected.take(index)], schema=FAULTS)


def _is_blank(text: str) -> bool:
    return not text or text.casefold() in load_source_words().blank


# ----------------------------------------------------------------------------------------- numbers


def _read_numbers(column: pa.Array, unit: float, whole: bool) -> ReadValues:
    plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN_NUMBER), False)
    cast = pc.multiply(pc.if_else(plain, column, None).cast(pa.float64()), float(unit))
    parse = functools.partial(_parse_number, unit=float(unit))
    other = _read_distinct(pc.if_else(plain, None, column), parse, pa.float64())
    values = pc.coalesce(cast, other.values)
    faulty = pc.or_(_mark(other.faults, len(column)), pc.invert(_holds(pc.is_finite(values))))
    if whole:
        # 0.0003 * 10000 is no whole number to a computer, but it is to the office.
        rounded = pc.round(values)
        near = pc.less_equal(pc.abs(pc.subtract(values, rounded)), 0.0 if unit == 1 else 1e-6)
        fits = pc.and_(near, pc.less(pc.abs(rounded), float(LARGEST_WHOLE)))
        faulty = pc.or_(faulty, pc.invert(_holds(fits)))
        values = pc.if_else(faulty, None, rounded).cast(pa.int64())
    else:
        values = pc.if_else(faulty, None, values)
    expected = pa.scalar("a whole number" if whole else "a number")
    return ReadValues(values, _make_faults(pc.if_else(faulty, expected, None)))


def _holds(condition: pa.Array) -> pa.Array:
    """A condition on values, taken as true where there is no value."""
    return pc.fill_null(condition, True)


def _mark(faults: pa.Table, n_rows: int) -> pa.Array:
    mask = np.zeros(n_rows, dtype=bool)
    mask[faults["index"].to_numpy()] = True
    return pa.array(mask)


def _parse_number(text: str, unit: float) -> Parsed:
    text = text.casefold()
    if _is_blank(text):
        return None, None
    match = _amounts().fullmatch(text)
    if match is None:
        return None, "a number"
    if match["unit"]:
        unit = load_source_words().units[match["unit"]]
    value = float(match["number"].replace(",", "")) * unit
    return (value, None) if math.isfinite(value) else (None, "a number")


@functools.cache
def _amounts() -> re.Pattern[str]:
    """A number, plain or in groups of three digits, between signs of a currency and a unit."""
    words = load_source_words()
    signs = "".join(rf"(?:{re.escape(sign)})?\s*" for sign in words.currencies)
    units = "|".join(map(re.escape, sorted(words.units, key=len, reverse=True)))
    number = f"{_GROUPED}|{_PLAIN_NUMBER.strip('^$')}"
    return re.compile(rf"{signs}(?P<number>{number})\s*(?P<unit>{units})?")


# ------------------------------------------------------------------------------- dates and answers


def _parse_date(text: str, parse: Callable[[str], Parsed]) -> Parsed:
    if _is_blank(text) or text.casefold() in load_source_words().open_ended:
        return None, None
    return parse(text)


def _make_answers(codes: Mapping[str, str] | None) -> dict[str, bool]:
    words = load_source_words()
    answers = dict.fromkeys(words.yes, True) | dict.fromkeys(words.no, False)
    added = _fold_codes(codes or {})
    wrong = sorted(set(added.values()) - {"true", "false"})
    if wrong:
        found = ", ".join(f"'{code}'" for code in wrong)
        raise DeclarationError(
            Fault("codes of a question", found, "'true' or 'false'", "Correct the mapping.")
        )
    return answers | {text: code == "true" for text, code in added.items()}


def _parse_answer(text: str, answers: Mapping[str, bool]) -> Parsed:
    answer = _find(text, answers)
    if answer is not None or _is_blank(text):
        return answer, None
    return None, "yes or no"


# ------------------------------------------------------------------------------------------- texts


def _fold_codes(codes: Mapping[str, str]) -> dict[str, str]:
    return {_fold(text): code for text, code in codes.items()}


def _fold(text: str) -> str:
    return normalise_text(text).casefold().replace(" ", "")


def _find(text: str, by_text: Mapping[str, Any]) -> Any:
    """What a text stands for; a code such as 1 may have become 1.0 in another program."""
    folded = _fold(text)
    whole = _WHOLE_FLOAT.fullmatch(folded)
    return by_text.get(folded, by_text.get(whole.group(1)) if whole else None)


def _parse_code(text: str, codes: Mapping[str, str]) -> Parsed:
    code = _find(text, codes)
    if code is not None or _is_blank(text):
        return code, None
    return None, "a code that the mapping knows"


def _read_strings(column: pa.Array) -> ReadValues:
    simple = pc.fill_null(pc.match_substring_regex(column, r"^[!-~]+$"), False)
    other = _read_distinct(pc.if_else(simple, None, column), _parse_text, pa.string())
    values = pc.coalesce(pc.if_else(simple, column, None), other.values)
    # An id that another program kept as a number.
    values = pc.replace_substring_regex(values, r"^([0-9]{6,})\.0$", r"\1")
    blank = pc.is_in(pc.utf8_lower(values), value_set=pa.array(load_source_words().blank))
    rounded = find_rounded(values)
    failed = pc.fill_null(pc.match_substring_regex(values, _FAILED), False)
    expected = pc.if_else(rounded, pa.scalar(_ROUNDED_EXPECTED), None)
    expected = pc.if_else(failed, pa.scalar("a value (its formula failed)"), expected)
    told = pc.invert(pc.or_(blank, expected.is_valid()))
    return ReadValues(pc.if_else(told, values, None), _make_faults(expected))


def _parse_text(text: str) -> Parsed:
    return text or None, None


def _read_several(
    column: pa.Array, codes: Mapping[str, str] | None, separators: Iterable[str] | None
) -> ReadValues:
    signs = load_source_words().separators if separators is None else separators
    signs = tuple(normalise_text(sign) or sign for sign in signs)
    split = re.compile("|".join(re.escape(s) for s in sorted(signs, key=len, reverse=True)) or "$^")
    by_text = None if codes is None else _fold_codes(codes)
    # In one order, whatever the order in the cell: else the same state would seem to have changed.
    order = {code: at for at, code in enumerate(dict.fromkeys((by_text or {}).values()))}

    def parse(text: str) -> Parsed:
        whole = None if by_text is None else _find(text, by_text)
        if whole is not None or _is_blank(text):
            return [whole] if whole is not None else None, None
        parts = [part for part in split.split(text) if part.strip()]
        if by_text is None and re.match(_FAILED, text):
            return None, "a value (its formula failed)"
        if by_text is None:
            return sorted({part.strip() for part in parts}), None
        found = {_find(part, by_text) for part in parts}
        if None in found:
            return None, "codes that the mapping knows"
        return sorted(found, key=order.__getitem__), None

    return _read_distinct(column, parse, pa.list_(pa.string()))
