"""The small expression language of catalogues, labels, cohorts and rules.

A subset of Python's syntax, parsed with ``ast`` and never executed: names, numbers, strings,
``True``/``False``, arithmetic, comparisons, ``in [...]``, ``and``/``or``/``not`` and the functions of
`FUNCTIONS`. It is compiled to Ibis, so the same text runs on every engine, with SQL's three-valued
logic: a comparison with a missing value is missing, a filter keeps only what is true, division by
zero is missing.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis

from poverty_risk import windows
from poverty_risk.exceptions import DeclarationError, Fault

__all__ = ["FUNCTIONS", "Context", "compile_expression", "find_functions", "find_names"]

MAX_LENGTH = 2_000
MAX_DEPTH = 40


@dataclass(frozen=True)
class Context:
    """What the names and functions of an expression mean.

    Parameters
    ----------
    columns
        Ibis columns by name.
    as_of_date
        Ibis column with the as-of date; None where there is none (rules over ready features).
    line
        The poverty line by year, for ``line(date)``.
    place
        Where the expression stands, for errors.
    """

    columns: Mapping[str, Any]
    as_of_date: Any = None
    line: Mapping[int, float] | None = None
    place: str = "expression"


def _days_between(later: Any, earlier: Any) -> Any:
    return later.delta(earlier, unit="day")


def _line(context: Context, date: Any) -> Any:
    years = context.line or {}
    if not years:
        return ibis.null("float64")
    cases = [(year, float(value)) for year, value in sorted(years.items())]
    return date.year().cases(*cases, else_=ibis.null("float64"))


def _as_of(context: Context) -> Any:
    if context.as_of_date is None:
        raise DeclarationError(
            Fault(context.place, "a function of the as-of date", "features only", "Rewrite it.")
        )
    return context.as_of_date


def _unless_missing(function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    # SQL engines disagree on missing values here, and most skip them; in this language they count.
    columns = [value for value in values if not isinstance(value, int | float)]
    result = function(*values)
    for column in columns:
        result = ibis.ifelse(column.isnull(), None, result)
    return result


# name -> (fewest arguments, most arguments, what it compiles to)
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "is_missing": (1, 1, lambda _, value: value.isnull()),
    "coalesce": (2, 20, lambda _, *values: ibis.coalesce(*values)),
    "where": (3, 3, lambda _, test, yes, no: ibis.ifelse(test, yes, no)),
    "abs": (1, 1, lambda _, value: value.abs()),
    "log1p": (1, 1, lambda _, value: ibis.ifelse(value > -1, (value + 1.0).ln(), None)),
    "least": (2, 20, lambda _, *values: _unless_missing(ibis.least, values)),
    "greatest": (2, 20, lambda _, *values: _unless_missing(ibis.greatest, values)),
    "days_since": (1, 1, lambda context, date: _days_between(_as_of(context), date)),
    "days_until": (1, 1, lambda context, date: _days_between(date, _as_of(context))),
    "years_since": (
        1,
        1,
        lambda context, date: _days_between(_as_of(context), date) / windows.DAYS_PER_YEAR,
    ),
    "active": (1, 1, lambda context, date: windows.is_active(date, _as_of(context))),
    "year": (1, 1, lambda _, date: date.year()),
    "month": (1, 1, lambda _, date: date.month()),
    "line": (1, 1, _line),
}
"""The functions of the language: fewest and most arguments, and their meaning in Ibis."""

_BUILT_IN: dict[str, Callable[[Context], Any]] = {
    "as_of_year": lambda context: _as_of(context).year(),
    "as_of_month": lambda context: _as_of(context).month(),
}


def _divide(numerator: Any, denominator: Any) -> Any:
    if isinstance(denominator, int | float):
        return numerator / denominator if denominator else ibis.null("float64")
    return numerator / denominator.nullif(0)


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: _divide,
}


@functools.lru_cache(maxsize=4096)
def _parse(text: str, place: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise DeclarationError(
            Fault(place, f"{len(text)} characters", f"at most {MAX_LENGTH}", "Split it.")
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise DeclarationError(
            Fault(place, repr(text), "an expression", f"Correct the syntax ({error}).")
        ) from None
    if _depth(tree) > MAX_DEPTH:
        raise DeclarationError(Fault(place, "deep nesting", f"<= {MAX_DEPTH} levels", "Split it."))
    return tree


def _depth(node: ast.AST) -> int:
    # Level by level, so that a hostile expression cannot exhaust the call stack.
    depth, level = 0, [node]
    while level and depth <= MAX_DEPTH:
        level = [child for parent in level for child in ast.iter_child_nodes(parent)]
        depth += 1
    return depth


def find_names(text: str, place: str = "expression") -> frozenset[str]:
    """Names of columns or features that an expression uses.

    Examples
    --------
    >>> sorted(find_names("where(worked, wage, 0) / line(event_date)"))
    ['event_date', 'wage', 'worked']
    """
    tree = _parse(text, place)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}
    return frozenset(names - set(_BUILT_IN))


def find_functions(text: str, place: str = "expression") -> frozenset[str]:
    """Names of the functions that an expression calls."""
    tree = _parse(text, place)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return frozenset(node.id for node in calls if isinstance(node, ast.Name))


def compile_expression(text: str, context: Context) -> Any:
    """Compile an expression to an Ibis value.

    Parameters
    ----------
    text
        The expression.
    context
        What its names and functions mean.

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
    tree = _parse(text, context.place)
    try:
        return _compile(tree, text, context)
    except (TypeError, AttributeError, ibis.common.exceptions.IbisError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DeclarationError(
            Fault(context.place, repr(text), "values that fit together", f"Check it ({reason}).")
        ) from None


def _refuse(node: ast.AST, text: str, context: Context, expected: str) -> DeclarationError:
    piece = ast.get_source_segment(text.strip(), node) or type(node).__name__
    return DeclarationError(
        Fault(context.place, f"'{piece}' in {text!r}", expected, "Use the expression language.")
    )


def _compile(node: ast.expr, text: str, context: Context) -> Any:
    def inner(child: ast.expr) -> Any:
        return _compile(child, text, context)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name):
            return _name(node, name, text, context)
        case ast.BoolOp(op=operator, values=values):
            parts = [inner(value) for value in values]
            if isinstance(operator, ast.And):
                return functools.reduce(lambda a, b: a & b, parts)
            return functools.reduce(lambda a, b: a | b, parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~inner(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -inner(operand)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            return _ARITHMETIC[type(operator)](inner(left), inner(right))
        case ast.Compare(left=left, ops=[ast.In()], comparators=[ast.List(elts=items)]):
            return inner(left).isin([inner(item) for item in items])
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if (
            type(operator) in _COMPARE
        ):
            return _COMPARE[type(operator)](inner(left), inner(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            fewest, most, function = FUNCTIONS[name]
            if not fewest <= len(arguments) <= most:
                raise _refuse(node, text, context, f"{fewest} to {most} arguments")
            return function(context, *[inner(argument) for argument in arguments])
    raise _refuse(node, text, context, f"names, numbers, operators or {', '.join(FUNCTIONS)}")


def _name(node: ast.expr, name: str, text: str, context: Context) -> Any:
    if name in context.columns:
        return context.columns[name]
    if name in _BUILT_IN:
        return _BUILT_IN[name](context)
    raise _refuse(node, text, context, f"one of {', '.join(sorted(context.columns))}")
