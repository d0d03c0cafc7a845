"""Expressions of the language, compiled to Ibis: the same text runs on every database."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import ibis
from ibis.common.annotations import ValidationError as IbisSignatureError

from poverty_risk import windows
from poverty_risk.language import (
    FUNCTIONS,
    Context,
    Meaning,
    find_functions,
    find_names,
    translate,
)

__all__ = ["FUNCTIONS", "Context", "compile_expression", "find_functions", "find_names"]


def compile_expression(text: str, context: Context) -> Any:
    """Compile an expression to an Ibis value.

    Parameters
    ----------
    text
        The expression.
    context
        What its names and functions mean; columns are those of Ibis.

    Returns
    -------
    ibis.Value
        The compiled expression (a plain Python value for a lone constant).

    Raises
    ------
    DeclarationError
        Anything outside the language, an unknown name, a wrong number of arguments.

    Examples
    --------
    >>> import ibis
    >>> from poverty_risk.expressions import Context, compile_expression
    >>> records = ibis.table({"loss": "float64"}, name="shock")
    >>> compile_expression("loss > 100", Context({"loss": records.loss})).type().is_boolean()
    True
    """
    return translate(text, context, _MEANING)


def _days_between(later: Any, earlier: Any) -> Any:
    return later.delta(earlier, unit="day")


def _line(context: Context, date: Any) -> Any:
    years = context.line or {}
    if not years:
        return ibis.null("float64")
    cases = [(year, float(value)) for year, value in sorted(years.items())]
    return date.year().cases(*cases, else_=ibis.null("float64"))


def _is_condition(value: Any) -> bool:
    return isinstance(value, bool) or (hasattr(value, "type") and value.type().is_boolean())


def _is_number(value: Any) -> bool:
    if hasattr(value, "type"):
        return bool(value.type().is_numeric())
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_missing(value: Any) -> Any:
    # Without the cast, NOT x IS NULL is written, which databases read as NOT (x IS NULL).
    return (value.cast("int8") if _is_condition(value) else value).isnull()


def _where(test: Any, yes: Any, no: Any) -> Any:
    if not _is_condition(test):
        message = "the test of 'where' is no condition"
        raise TypeError(message)
    return ibis.ifelse(test, yes, no)


def _is_in(value: Any, items: list[Any]) -> Any:
    for item in items:
        _COMPARE[ast.Eq](value, item)  # refuses text among numbers, which databases take
    return value.isin(items)


def _unless_missing(function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    # SQL engines disagree on missing values here, and most skip them; in this language they count.
    columns = [value for value in values if not isinstance(value, int | float)]
    result = function(*values)
    for column in columns:
        result = ibis.ifelse(column.isnull(), None, result)
    return result


def _divide(numerator: Any, denominator: Any) -> Any:
    if isinstance(denominator, int | float):
        return numerator / denominator if denominator else ibis.null("float64")
    return numerator / denominator.nullif(0)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "is_missing": lambda _, value: _is_missing(value),
    "coalesce": lambda _, *values: ibis.coalesce(*values),
    "where": lambda _, *values: _where(*values),
    "abs": lambda _, value: value.abs(),
    "log1p": lambda _, value: ibis.ifelse(value > -1, (value + 1.0).ln(), None),
    "least": lambda _, *values: _unless_missing(ibis.least, values),
    "greatest": lambda _, *values: _unless_missing(ibis.greatest, values),
    "days_since": lambda context, date: _days_between(context.as_of(), date),
    "days_until": lambda context, date: _days_between(date, context.as_of()),
    "years_since": lambda context, date: (
        _days_between(context.as_of(), date) / windows.DAYS_PER_YEAR
    ),
    "active": lambda context, date: windows.is_active(date, context.as_of()),
    "year": lambda _, date: date.year(),
    "month": lambda _, date: date.month(),
    "line": _line,
}

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}

_MEANING = Meaning(
    constant=lambda value: value,
    is_condition=_is_condition,
    is_number=_is_number,
    invert=lambda value: not value if isinstance(value, bool) else ~value,
    negate=lambda value: -value,
    logic={ast.And: lambda a, b: a & b, ast.Or: lambda a, b: a | b},
    compare=_COMPARE,
    arithmetic={
        ast.Add: lambda a, b: a + b,
        ast.Sub: lambda a, b: a - b,
        ast.Mult: lambda a, b: a * b,
        ast.Div: _divide,
    },
    is_in=_is_in,
    functions=_FUNCTIONS,
    names={
        "as_of_year": lambda context: context.as_of().year(),
        "as_of_month": lambda context: context.as_of().month(),
    },
    misfits=(
        *(TypeError, AttributeError, ValueError, OverflowError),
        *(ibis.common.exceptions.IbisError, IbisSignatureError),
    ),
)
"""The last are what Ibis and Python raise where operands do not fit together."""
