"""Expressions of the language computed over arrays: the plain meaning without any database.

The same as what `expressions` compiles, up to the last digit of a logarithm. Whole numbers are exact
up to 2**53.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk import windows
from poverty_risk.column_values import (
    FALSE,
    MISSING_CODE,
    MISSING_DAY,
    TRUE,
    Kind,
    Values,
)
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.language import Context, Meaning, translate

__all__ = ["compute_expressions", "evaluate_expression"]


def evaluate_expression(text: str, context: Context) -> Values:
    """Compute an expression over arrays.

    Parameters
    ----------
    text
        The expression.
    context
        What its names mean; columns and as-of date are `Values` (of one length, or constants).

    Returns
    -------
    Values
        One value per row, or one for all where the expression reads no column.

    Raises
    ------
    DeclarationError
        Anything outside the language, an unknown name, operands that do not fit together.

    Examples
    --------
    >>> from poverty_risk.array_expressions import evaluate_expression
    >>> from poverty_risk.column_values import Values
    >>> from poverty_risk.language import Context
    >>> columns = {"loss": Values.number([50.0, float("nan"), 900.0])}
    >>> evaluate_expression("loss > 100", Context(columns)).to_float().tolist()
    [0.0, nan, 1.0]
    """
    with np.errstate(all="ignore"):
        value: Values = translate(text, context, _MEANING)
    return value


def compute_expressions(
    frame: pd.DataFrame, expressions: Mapping[str, str], place: str = "expression"
) -> pd.DataFrame:
    """Compute expressions over the columns of a ready table.

    Parameters
    ----------
    frame
        Columns of numbers (missing = NaN) or categories; any index, kept.
    expressions
        Expression by name of the result.
    place
        Where they come from, for errors.

    Returns
    -------
    DataFrame
        One float64 column per expression (true = 1, false = 0, missing = NaN), index of `frame`.

    Raises
    ------
    DeclarationError
        An expression is not of the language, or uses a column that is not there.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.array_expressions import compute_expressions
    >>> rows = pd.DataFrame({"income_to_line": [0.8, 1.4, None]})
    >>> compute_expressions(rows, {"poor": "income_to_line < 1"})["poor"].tolist()
    [1.0, 0.0, nan]
    """
    columns = {str(name): read_column(column) for name, column in frame.items()}
    return pd.DataFrame(compute_numbers(columns, expressions, len(frame), place), index=frame.index)


def compute_numbers(
    columns: Mapping[str, Values], expressions: Mapping[str, str], count: int, place: str
) -> dict[str, np.ndarray]:
    """As `compute_expressions`, of `count` values each."""
    context = Context(columns, place=place)
    computed = {}
    for name, text in expressions.items():
        value = evaluate_expression(text, context)
        if value.kind not in (Kind.NUMBER, Kind.CONDITION):
            found = f"{text!r}, a {value.kind.value}"
            raise DeclarationError(Fault(place, found, "a number", "Correct the expression."))
        # Adding 0 makes -0 a plain 0.
        computed[name] = np.broadcast_to(value.to_float() + 0.0, count)
    return computed


def read_column(column: pd.Series[Any]) -> Values:
    """Column of a ready table: numbers, conditions as 1 and 0, or texts."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return Values.text([str(w) for w in column.cat.categories], column.cat.codes.to_numpy())
    if pd.api.types.is_numeric_dtype(column):  # a flag column of a user may be boolean
        return Values.number(column.to_numpy(dtype=np.float64, na_value=np.nan))
    codes, words = pd.factorize(column.to_numpy(dtype=object))
    return Values.text([str(word) for word in words], codes)


def _want(kind: Kind, value: Values) -> np.ndarray:
    if kind is Kind.DATE and value.kind is Kind.TEXT and value.array.ndim == 0:
        value = _read_date(value)
    if value.kind is not kind:
        message = f"a {value.kind.value} where a {kind.value} is wanted"
        raise TypeError(message)
    return value.array


# --- conditions ---


def _decide(true: Any, false: Any) -> Values:
    """Where neither holds nothing is known."""
    return Values(
        Kind.CONDITION,
        np.asarray(np.asarray(true).view(np.int8) - np.asarray(false).view(np.int8) + np.int8(1)),
    )


_COMPARE_NUMBERS: dict[type[ast.cmpop], Callable[[Any, Any], Values]] = {
    ast.Eq: lambda a, b: _decide(a == b, (a < b) | (a > b)),
    ast.NotEq: lambda a, b: _decide((a < b) | (a > b), a == b),
    ast.Lt: lambda a, b: _decide(a < b, a >= b),
    ast.LtE: lambda a, b: _decide(a <= b, a > b),
    ast.Gt: lambda a, b: _decide(a > b, a <= b),
    ast.GtE: lambda a, b: _decide(a >= b, a < b),
}


def _compare(operator: type[ast.cmpop], left: Values, right: Values) -> Values:
    left, right = _to_one_kind(left, right)
    if left.kind is Kind.TEXT:
        if operator in (ast.Eq, ast.NotEq):
            return _compare_texts(left, right, equal=operator is ast.Eq)
        left, right = _rank_texts(left, right)
    return _COMPARE_NUMBERS[operator](left.to_float(), right.to_float())


def _to_one_kind(left: Values, right: Values) -> tuple[Values, Values]:
    if left.kind is right.kind:
        return left, right
    kinds = {left.kind, right.kind}
    if kinds == {Kind.DATE, Kind.TEXT}:
        return _read_date(left), _read_date(right)
    if kinds == {Kind.CONDITION, Kind.NUMBER}:
        return Values.number(left.to_float()), Values.number(right.to_float())
    message = f"{left.kind.value} and {right.kind.value} are not comparable"
    raise TypeError(message)


def _read_date(value: Values) -> Values:
    """A date written in an expression."""
    if value.kind is Kind.DATE:
        return value
    days = [np.datetime64(word, "D").astype(np.int64) for word in value.words]
    return Values(Kind.DATE, np.array([*days, MISSING_DAY], dtype=np.int32)[value.array])


def _compare_texts(left: Values, right: Values, *, equal: bool) -> Values:
    first, second, _ = _merge_words(left, right)
    same = np.asarray(first == second)
    known = (first != MISSING_CODE) & (second != MISSING_CODE)
    return _decide(same & known, ~same & known) if equal else _decide(~same & known, same & known)


def _merge_words(left: Values, right: Values) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Codes of both among the same words."""
    if left.words == right.words:
        return left.array, right.array, left.words
    words = dict.fromkeys(left.words)
    places = {word: place for place, word in enumerate(words | dict.fromkeys(right.words))}
    codes = np.array([*(places[word] for word in right.words), MISSING_CODE], dtype=np.int32)
    return left.array, codes[right.array], tuple(places)


def _rank_texts(left: Values, right: Values) -> tuple[Values, Values]:
    first, second, words = _merge_words(left, right)
    ranks = np.full(len(words) + 1, np.nan)
    ranks[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    return Values.number(ranks[first]), Values.number(ranks[second])


def _is_in(value: Values, items: list[Values]) -> Values:
    return functools.reduce(_or, (_compare(ast.Eq, value, item) for item in items))


def _and(left: Values, right: Values) -> Values:
    return Values(Kind.CONDITION, np.minimum(left.array, right.array))


def _or(left: Values, right: Values) -> Values:
    return Values(Kind.CONDITION, np.maximum(left.array, right.array))


def _invert(value: Values) -> Values:
    return Values(Kind.CONDITION, np.asarray(np.int8(TRUE) - value.array))


# --- choices ---


def _align(values: Sequence[Values]) -> tuple[Values, ...]:
    """Texts among the same words; all must be of one kind."""
    if len({value.kind for value in values}) > 1:
        message = "values of several kinds"
        raise TypeError(message)
    if values[0].kind is not Kind.TEXT:
        return tuple(values)
    words: tuple[str, ...] = ()
    for value in values:
        *_, words = _merge_words(Values.text(words, np.zeros((), np.int32)), value)
    base = Values.text(words, np.zeros((), np.int32))
    return tuple(Values.text(words, _merge_words(base, value)[1]) for value in values)


def _where(test: Values, yes: Values, no: Values) -> Values:
    if test.kind is not Kind.CONDITION:
        message = "the test of 'where' is no condition"
        raise TypeError(message)
    yes, no = _align((yes, no))
    return Values(yes.kind, np.where(test.array == TRUE, yes.array, no.array), yes.words)


def _coalesce(*values: Values) -> Values:
    aligned = _align(values)
    result = aligned[-1]
    for value in reversed(aligned[:-1]):
        chosen = np.where(value.is_missing(), result.array, value.array)
        result = Values(value.kind, chosen, value.words)
    return result


def _fold(function: Callable[..., np.ndarray], values: Sequence[Values]) -> Values:
    # minimum and maximum of numpy count missing values, as this language does.
    if all(value.kind is Kind.DATE for value in values):
        days = functools.reduce(function, [value.to_float() for value in values])
        return Values.date(np.where(np.isnan(days), MISSING_DAY, days).astype(np.int32))
    return Values.number(functools.reduce(function, [_want(Kind.NUMBER, one) for one in values]))


# --- numbers and dates ---


def _divide(numerator: Values, denominator: Values) -> Values:
    below = denominator.array
    if below.ndim == 0:
        return Values.number(numerator.array / (below if below != 0 else np.nan))
    return Values.number(numerator.array / np.where(below == 0, np.nan, below))


def _log1p(value: Values) -> Values:
    numbers = _want(Kind.NUMBER, value)
    return Values.number(np.log(np.where(numbers > -1, numbers, np.nan) + 1.0))


def _days_between(later: Values, earlier: Values) -> Values:
    days = (_want(Kind.DATE, one) for one in (later, earlier))
    first, second = (np.where(one == MISSING_DAY, np.nan, one) for one in days)
    return Values.number(first - second)


def _is_active(date: Values, as_of: Values) -> Values:
    """As `windows.is_active`: a missing end means that the state lasts."""
    lasts = _COMPARE_NUMBERS[ast.GtE](_want(Kind.DATE, date), _want(Kind.DATE, as_of))
    missing = np.where(date.array == MISSING_DAY, np.int8(TRUE), np.int8(FALSE))
    return Values(Kind.CONDITION, np.maximum(lasts.array, missing))


def _calendar(date: Values) -> tuple[np.ndarray, np.ndarray]:
    """Months since 1970 of each date, and where there is none."""
    days = _want(Kind.DATE, date)
    months = np.asarray(days).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months, np.asarray(days == MISSING_DAY)


def _year(date: Values) -> Values:
    months, missing = _calendar(date)
    return Values.number(np.where(missing, np.nan, months // 12 + 1970))


def _month(date: Values) -> Values:
    months, missing = _calendar(date)
    return Values.number(np.where(missing, np.nan, months % 12 + 1))


def _line(context: Context, date: Values) -> Values:
    days = _want(Kind.DATE, date)
    low, by_day = _line_by_day(tuple(sorted((context.line or {}).items())))
    # No year at either end has a line, so that whatever lies beyond has none, as a missing date.
    return Values.number(by_day.take(np.asarray(days, dtype=np.int64) - low, mode="clip"))


@functools.lru_cache(maxsize=8)
def _line_by_day(line: tuple[tuple[int, float], ...]) -> tuple[int, np.ndarray]:
    years = [year for year, _ in line] or [1970]
    begin = np.array(years).min() - 1 - 1970
    edges = np.arange(begin, np.array(years).max() + 3 - 1970).astype("datetime64[Y]")
    days = edges.astype("datetime64[D]").astype(np.int64)
    values = np.full(int(days[-1] - days[0]), np.nan)
    for year, value in line:
        place = year - 1970 - begin
        values[days[place] - days[0] : days[place + 1] - days[0]] = value
    values.flags.writeable = False
    return int(days[0]), values


_FUNCTIONS: Mapping[str, Callable[..., Values]] = {
    "is_missing": lambda _, value: Values.condition(value.is_missing()),
    "coalesce": lambda _, *values: _coalesce(*values),
    "where": lambda _, *values: _where(*values),
    "abs": lambda _, value: Values.number(np.abs(_want(Kind.NUMBER, value))),
    "log1p": lambda _, value: _log1p(value),
    "least": lambda _, *values: _fold(np.minimum, values),
    "greatest": lambda _, *values: _fold(np.maximum, values),
    "days_since": lambda context, date: _days_between(context.as_of(), date),
    "days_until": lambda context, date: _days_between(date, context.as_of()),
    "years_since": lambda context, date: Values.number(
        _days_between(context.as_of(), date).array / windows.DAYS_PER_YEAR
    ),
    "active": lambda context, date: _is_active(date, context.as_of()),
    "year": lambda _, date: _year(date),
    "month": lambda _, date: _month(date),
    "line": _line,
}

_MEANING = Meaning(
    constant=functools.lru_cache(maxsize=1024, typed=True)(Values.constant),
    is_condition=lambda value: value.kind is Kind.CONDITION,
    is_number=lambda value: value.kind is Kind.NUMBER,
    invert=_invert,
    negate=lambda value: Values.number(-value.array),
    logic={ast.And: _and, ast.Or: _or},
    compare={operator: functools.partial(_compare, operator) for operator in _COMPARE_NUMBERS},
    arithmetic={
        ast.Add: lambda a, b: Values.number(a.array + b.array),
        ast.Sub: lambda a, b: Values.number(a.array - b.array),
        ast.Mult: lambda a, b: Values.number(a.array * b.array),
        ast.Div: _divide,
    },
    is_in=_is_in,
    functions=_FUNCTIONS,
    names={
        "as_of_year": lambda context: _year(context.as_of()),
        "as_of_month": lambda context: _month(context.as_of()),
    },
    misfits=(TypeError, ValueError, OverflowError),
)
