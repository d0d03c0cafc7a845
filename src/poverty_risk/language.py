"""The small expression language of catalogues, labels, cohorts and rules.

A subset of Python's syntax, parsed with ``ast`` and never executed: names, numbers, strings,
``True``/``False``, arithmetic, comparisons, ``in [...]``, ``and``/``or``/``not`` and the functions of
`FUNCTIONS`. What the operations do is said by a `Meaning`: `expressions` compiles to Ibis, so the same
text runs on every database; `array_expressions` computes over arrays. Both follow SQL's three-valued
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

from poverty_risk.exceptions import DeclarationError, Fault

__all__ = ["FUNCTIONS", "Context", "Meaning", "find_functions", "find_names", "translate"]

MAX_LENGTH = 2_000
MAX_DEPTH = 40
MAX_INTEGER = 2**63 - 1

FUNCTIONS: dict[str, tuple[int, int]] = {
    "is_missing": (1, 1),
    "coalesce": (2, 20),
    "where": (3, 3),
    "abs": (1, 1),
    "log1p": (1, 1),
    "least": (2, 20),
    "greatest": (2, 20),
    "days_since": (1, 1),
    "days_until": (1, 1),
    "years_since": (1, 1),
    "active": (1, 1),
    "year": (1, 1),
    "month": (1, 1),
    "line": (1, 1),
}
"""The functions of the language: fewest and most arguments."""

AS_OF_FUNCTIONS = frozenset({"days_since", "days_until", "years_since", "active"})
AS_OF_NAMES = frozenset({"as_of_year", "as_of_month"})
"""What reads the as-of date."""


@dataclass(frozen=True)
class Context:
    """What the names and functions of an expression mean.

    Parameters
    ----------
    columns
        Columns by name, of the engine at hand.
    as_of_date
        Column with the as-of date; None where there is none (rules over ready features).
    line
        The poverty line by year, for ``line(date)``.
    place
        Where the expression stands, for errors.
    """

    columns: Mapping[str, Any]
    as_of_date: Any = None
    line: Mapping[int, float] | None = None
    place: str = "expression"

    def as_of(self) -> Any:
        """Column with the as-of date."""
        if self.as_of_date is None:
            raise DeclarationError(
                Fault(self.place, "a function of the as-of date", "features only", "Rewrite it.")
            )
        return self.as_of_date


@dataclass(frozen=True)
class Meaning:
    """What the language does on one kind of column.

    Parameters
    ----------
    constant
        Value of a number, a text, or True or False.
    is_condition, is_number
        What kind a value is.
    invert, negate
        ``not`` and the sign.
    logic, compare, arithmetic
        By syntax node.
    is_in
        ``in [...]``.
    functions
        Meaning of each of `FUNCTIONS`; the context comes first.
    names
        Meaning of each of `AS_OF_NAMES`.
    misfits
        Errors raised where operands do not fit together.
    """

    constant: Callable[[Any], Any]
    is_condition: Callable[[Any], bool]
    is_number: Callable[[Any], bool]
    invert: Callable[[Any], Any]
    negate: Callable[[Any], Any]
    logic: Mapping[type[ast.boolop], Callable[[Any, Any], Any]]
    compare: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]
    arithmetic: Mapping[type[ast.operator], Callable[[Any, Any], Any]]
    is_in: Callable[[Any, list[Any]], Any]
    functions: Mapping[str, Callable[..., Any]]
    names: Mapping[str, Callable[[Context], Any]]
    misfits: tuple[type[Exception], ...]


@functools.lru_cache(maxsize=4096)
def parse_expression(text: str, place: str) -> ast.expr:
    """Syntax tree of an expression.

    Raises
    ------
    DeclarationError
        No Python syntax, too long or too deep.
    """
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
    return _find_all_names(text, place) - AS_OF_NAMES


def _find_all_names(text: str, place: str) -> frozenset[str]:
    tree = parse_expression(text, place)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return frozenset(
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called
    )


@functools.lru_cache(maxsize=4096)
def find_functions(text: str, place: str = "expression") -> frozenset[str]:
    """Names of the functions that an expression calls."""
    tree = parse_expression(text, place)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return frozenset(node.id for node in calls if isinstance(node, ast.Name))


@functools.lru_cache(maxsize=4096)
def reads_as_of_date(text: str, place: str = "expression") -> bool:
    """Whether the value of an expression depends on the as-of date.

    Examples
    --------
    >>> reads_as_of_date("active(valid_to)"), reads_as_of_date("amount / line(event_date)")
    (True, False)
    """
    used = find_functions(text, place) & AS_OF_FUNCTIONS
    return bool(used | (_find_all_names(text, place) & AS_OF_NAMES))


def translate(text: str, context: Context, meaning: Meaning) -> Any:
    """Give an expression its value.

    Parameters
    ----------
    text
        The expression.
    context
        What its names mean.
    meaning
        What its operations do.

    Returns
    -------
    Any
        A value of the engine at hand.

    Raises
    ------
    DeclarationError
        Anything outside the language, an unknown name, a wrong number of arguments.
    """
    tree = parse_expression(text, context.place)
    try:
        return _Translator(text, context, meaning).translate(tree)
    except meaning.misfits as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DeclarationError(
            Fault(context.place, repr(text), "values that fit together", f"Check it ({reason}).")
        ) from None


@dataclass(frozen=True)
class _Translator:
    """Translates the nodes of one expression."""

    text: str
    context: Context
    meaning: Meaning

    def translate(self, node: ast.expr) -> Any:
        means = self.meaning
        match node:
            case ast.Constant(value=value) if _is_constant(value):
                return means.constant(value)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.BoolOp(op=operator, values=values):
                return functools.reduce(means.logic[type(operator)], map(self._condition, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return means.invert(self._condition(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return means.negate(self._number(operand))
            case ast.BinOp(left=left, op=o, right=right) if type(o) in means.arithmetic:
                return means.arithmetic[type(o)](self._number(left), self._number(right))
            case ast.Compare(
                left=left, ops=[ast.In()], comparators=[ast.List(elts=[_, *_] as items)]
            ):
                return means.is_in(self.translate(left), [self.translate(one) for one in items])
            case ast.Compare(left=left, ops=[o], comparators=[right]) if type(o) in means.compare:
                return means.compare[type(o)](self.translate(left), self.translate(right))
            case ast.Call(func=ast.Name(id=name), args=values, keywords=[]) if name in FUNCTIONS:
                fewest, most = FUNCTIONS[name]
                if not fewest <= len(values) <= most:
                    raise self._refuse(node, f"{fewest} to {most} arguments")
                return means.functions[name](self.context, *map(self.translate, values))
        raise self._refuse(node, f"names, numbers, operators or {', '.join(FUNCTIONS)}")

    def _condition(self, node: ast.expr) -> Any:
        value = self.translate(node)
        if not self.meaning.is_condition(value):
            raise self._refuse(node, "a condition, true or false")
        return value

    def _number(self, node: ast.expr) -> Any:
        value = self.translate(node)
        if not self.meaning.is_number(value):
            raise self._refuse(node, "a number")
        return value

    def _name(self, node: ast.expr, name: str) -> Any:
        if name in self.context.columns:
            return self.context.columns[name]
        if name in self.meaning.names:
            return self.meaning.names[name](self.context)
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
