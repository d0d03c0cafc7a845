"""The small expression language of catalogues, labels, cohorts and rules.

A subset of Python's syntax, parsed with ``ast`` and never executed: names, numbers, strings,
``True``/``False``, arithmetic, comparisons, ``in [...]``, ``and``/``or``/``not`` and the functions of
`FUNCTIONS`. It is compiled to Ibis, so the same text runs on every engine, with SQL's three-valued
logic: a comparison or a sum with a missing value is missing, a filter keeps only what is true, division
by zero is missing. ``where(test, yes, no)`` of a test that is missing is ``no``, ``line(date)`` of a year
without a line is missing. Unlike Python, arithmetic wants numbers, and ``not``, ``and``, ``or`` and the
test of ``where`` want conditions.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
from ibis.common.annotations import ValidationError as IbisSignatureError

from poverty_risk import windows
from poverty_risk.exceptions import DeclarationError, Fault

__all__ = ["FUNCTIONS", "Context", "compile_expression", "find_functions", "find_names"]

MAX_LENGTH = 2_000
MAX_DEPTH = 40
MAX_INTEGER = 2**63 - 1


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


def _is_condition(value: Any) -> bool:
    return isinstance(value, bool) or (hasattr(value, "type") and value.type().is_boolean())


def _is_number(value: Any) -> bool:
    if hasattr(value, "type"):
        return bool(value.type().is_numeric())
    return isinstance(value, int | float) and not isinstance(value, bool)


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


# name -> (fewest arguments, most arguments, what it compiles to)
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "is_missing": (1, 1, lambda _, value: value.isnull()),
    "coalesce": (2, 20, lambda _, *values: ibis.coalesce(*values)),
    "where": (3, 3, lambda _, *values: _where(*values)),
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


_LOGIC: dict[type[ast.boolop], Callable[[Any, Any], Any]] = {
    ast.And: lambda a, b: a & b,
    ast.Or: lambda a, b: a | b,
}

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


@functools.lru_cache(maxsize=4096)
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
        return _Compiler(text, context).compile(tree)
    except _MISFITS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DeclarationError(
            Fault(context.place, repr(text), "values that fit together", f"Check it ({reason}).")
        ) from None


_MISFITS = (
    *(TypeError, AttributeError, ValueError, OverflowError),
    *(ibis.common.exceptions.IbisError, IbisSignatureError),
)
"""What Ibis and Python raise where operands do not fit together."""


@dataclass(frozen=True)
class _Compiler:
    """Compiles the nodes of one expression."""

    text: str
    context: Context

    def compile(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value) if _is_constant(value):
                return value
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.BoolOp(op=operator, values=values):
                return functools.reduce(_LOGIC[type(operator)], map(self._condition, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value = self._condition(operand)
                return not value if isinstance(value, bool) else ~value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._number(operand)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                return _ARITHMETIC[type(operator)](self._number(left), self._number(right))
            case ast.Compare(
                left=left, ops=[ast.In()], comparators=[ast.List(elts=[_, *_] as items)]
            ):
                return _is_in(self.compile(left), [self.compile(item) for item in items])
            case ast.Compare(left=left, ops=[o], comparators=[right]) if type(o) in _COMPARE:
                return _COMPARE[type(o)](self.compile(left), self.compile(right))
            case ast.Call(func=ast.Name(id=name), args=values, keywords=[]) if name in FUNCTIONS:
                fewest, most, function = FUNCTIONS[name]
                if not fewest <= len(values) <= most:
                    raise self._refuse(node, f"{fewest} to {most} arguments")
                return function(self.context, *map(self.compile, values))
        raise self._refuse(node, f"names, numbers, operators or {', '.join(FUNCTIONS)}")

    def _condition(self, node: ast.expr) -> Any:
        value = self.compile(node)
        if not _is_condition(value):
            raise self._refuse(node, "a condition, true or false")
        return value

    def _number(self, node: ast.expr) -> Any:
        value = self.compile(node)
        if not _is_number(value):
            raise self._refuse(node, "a number")
        return value

    def _name(self, node: ast.expr, name: str) -> Any:
        if name in self.context.columns:
            return self.context.columns[name]
        if name in _BUILT_IN:
            return _BUILT_IN[name](self.context)
        raise self._refuse(node, f"one of {', '.join(sorted(self.context.columns))}")

    def _refuse(self, node: ast.expr, expected: str) -> DeclarationError:
        piece = ast.get_source_segment(self.text.strip(), node) or type(node).__name__
        found = f"'{piece}' in {self.text!r}"
        remedy = "Use the expression language."
        return DeclarationError(Fault(self.context.place, found, expected, remedy))


def _is_constant(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= MAX_INTEGER
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))
