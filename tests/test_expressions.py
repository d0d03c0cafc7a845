"""The expression language: what it refuses, what missing values do, and its functions by hand."""

import datetime as dt
import warnings

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poverty_risk.array_expressions import compute_expressions, evaluate_expression
from poverty_risk.column_values import Kind, Values
from poverty_risk.engine import query_expressions
from poverty_risk.exceptions import DeclarationError
from poverty_risk.expressions import compile_expression
from poverty_risk.language import (
    FUNCTIONS,
    MAX_DEPTH,
    MAX_LENGTH,
    Context,
    find_functions,
    find_names,
)

DAY = dt.date(2023, 5, 31)
AS_OF = dt.date(2024, 2, 29)
ROW = {
    "x": 6.0,
    "zero": 0.0,
    "n": 4,
    "gap": None,
    "kind": "flood",
    "no_kind": None,
    "yes": True,
    "no": False,
    "unknown": None,
    "day": DAY,
    "later": dt.date(2024, 2, 29),
    "no_day": None,
    "as_of": AS_OF,
}
TYPES = {
    "x": "float64",
    "zero": "float64",
    "n": "int64",
    "gap": "float64",
    "kind": "string",
    "no_kind": "string",
    "yes": "boolean",
    "no": "boolean",
    "unknown": "boolean",
    "day": "date",
    "later": "date",
    "no_day": "date",
    "as_of": "date",
}
RECORDS = ibis.table(TYPES, name="records")
ARROW_KINDS = {
    "float64": pa.float64(),
    "int64": pa.int64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}
ARROW = pa.schema([(name, ARROW_KINDS[kind]) for name, kind in TYPES.items()])
CONTEXT = Context(
    {name: RECORDS[name] for name in TYPES if name != "as_of"},
    RECORDS["as_of"],
    {2022: 6500.0, 2023: 7000.0},
    "test",
)


def _over_arrays(records: pa.Table) -> Context:
    """The same context over arrays."""
    columns = {name: Values.from_arrow(records[name]) for name in TYPES}
    return Context(columns, columns.pop("as_of"), CONTEXT.line, "test")


def _array_value(text):
    """Value of an expression over the one record, by the arrays."""
    value = evaluate_expression(text, _over_arrays(pa.Table.from_pylist([ROW], schema=ARROW)))
    if np.all(value.is_missing()):
        return None
    if value.kind is Kind.TEXT:
        return value.words[value.array]
    single = float(np.ravel(value.to_float())[0])
    return single == 1.0 if value.kind is Kind.CONDITION else single


def _values(texts) -> list:
    """Values of expressions over the one record, in one query."""
    columns = {}
    for number, text in enumerate(texts):
        value = compile_expression(text, CONTEXT)
        columns[f"v{number}"] = value if hasattr(value, "type") else ibis.literal(value)
    sql = ibis.to_sql(RECORDS.select(**columns), dialect="duckdb")
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("records", pa.Table.from_pylist([ROW], schema=ARROW))
        found = connection.sql(str(sql)).to_arrow_table()
    return list(found.to_pylist()[0].values())


# --- what it means ---

VALUES = {
    "x + 2 * n - 1": 13.0,
    "x / n": 1.5,
    "n / 3": 4 / 3,
    "-x": -6.0,
    "-(2 + 1)": -3,
    "x > 5": True,
    "x >= 6 and x <= 6": True,
    "x != 6 or n == 4": True,
    "not yes": False,
    "not (x < 5)": True,
    "not True": False,
    "not (1 < 2) or yes": True,
    "kind == 'flood'": True,
    "kind in ['fire', 'flood']": True,
    "n in [1, 2]": False,
    "not (n in [1, 2])": True,
    "where(yes, 1, 2)": 1,
    "where(no, 1, 2)": 2,
    "coalesce(gap, n)": 4.0,
    "coalesce(x, n)": 6.0,
    "abs(-x)": 6.0,
    "log1p(zero)": 0.0,
    "log1p(x - 5)": float(np.log(2)),
    "least(x, n, 5)": 4.0,
    "greatest(x, n, 5)": 6.0,
    # 31 May 2023 to 29 February 2024: 30 + 31 + 31 + 30 + 31 + 30 + 31 + 31 + 29 days.
    "days_since(day)": 274,
    "days_until(day)": -274,
    "years_since(day)": 274 / 365.25,
    "days_since(later)": 0,
    "active(later)": True,
    "active(day)": False,
    "active(no_day)": True,
    "year(day)": 2023,
    "month(day)": 5,
    "as_of_year": 2024,
    "as_of_month": 2,
    "day > '2023-05-30'": True,
    "line(day)": 7000.0,
    "x / line(day)": 6 / 7000,
    "'text'": "text",
    "True": True,
}


def test_values_worked_out_by_hand():
    assert dict(zip(VALUES, _values(VALUES), strict=True)) == pytest.approx(VALUES)


@pytest.mark.parametrize("text", VALUES)
def test_values_worked_out_by_hand_over_arrays(text):
    expected = VALUES[text]
    found = _array_value(text)
    assert found == expected if isinstance(expected, str) else found == pytest.approx(expected)


# None: missing. A filter keeps only what is true.
MISSING = {
    "gap + 1": None,
    "gap > 1": None,
    "gap == gap": None,
    "not unknown": None,
    "no_kind == 'flood'": None,
    "no_kind in ['flood']": None,
    "unknown and yes": None,
    "unknown and no": False,
    "unknown or yes": True,
    "unknown or no": None,
    "is_missing(gap)": True,
    "is_missing(x)": False,
    "is_missing(not unknown)": True,
    "is_missing(not yes)": False,
    "x / zero": None,
    "x / 0": None,
    "n / (2 - 2)": None,
    "zero / zero": None,
    "1 / 0": None,
    "where(unknown, 1, 2)": 2,
    "where(yes, gap, 2)": None,
    "coalesce(gap, gap)": None,
    "least(gap, 1)": None,
    "greatest(gap, 1)": None,
    "greatest(x, gap, 1)": None,
    "abs(gap)": None,
    "log1p(gap)": None,
    "log1p(-1 - zero)": None,
    "log1p(-x)": None,
    "days_since(no_day)": None,
    "year(no_day)": None,
    "line(no_day)": None,
    # 2024 has no line.
    "line(later)": None,
    "x / line(later)": None,
}


def test_missing_values():
    assert dict(zip(MISSING, _values(MISSING), strict=True)) == MISSING


@pytest.mark.parametrize("text", MISSING)
def test_missing_values_over_arrays(text):
    assert _array_value(text) == MISSING[text]


def test_without_any_line_every_year_is_missing():
    context = Context({"day": RECORDS["day"]}, RECORDS["as_of"])
    sql = ibis.to_sql(RECORDS.select(v=compile_expression("line(day)", context)), dialect="duckdb")
    assert "NULL" in str(sql)
    assert "7000" not in str(sql)


def test_every_function_is_tried_above():
    tried = set().union(*(find_functions(text) for text in (*VALUES, *MISSING)))
    assert tried == set(FUNCTIONS)


# --- what it refuses ---

REFUSED = [
    "x.abs()",
    "x.__class__",
    "kind.upper()",
    "__import__('os').system('ls')",
    "open('/etc/passwd')",
    "eval('1')",
    "lambda: 1",
    "(lambda: 1)()",
    "FUNCTIONS['abs'](x)",
    "x[0]",
    "[x for x in [1]]",
    "{1: 2}",
    "{1, 2}",
    "[1, 2]",
    "(1, 2)",
    "f'{x}'",
    "x if yes else 1",
    "x ** 2",
    "9 ** 9 ** 9",
    "x % 2",
    "x // 2",
    "x @ x",
    "x << 30",
    "x | n",
    "~n",
    "+x",
    "x is 1",
    "x not in [1]",
    "x in (1, 2)",
    "x in []",
    "x in [None]",
    "1 < x < 3",
    "None",
    "...",
    "b'x'",
    "1j",
    "1e999",
    "abs",
    "unknown_column + 1",
    "sum(x)",
    "abs()",
    "abs(x, n)",
    "coalesce(x)",
    "where(yes, 1)",
    "abs(value=x)",
    "coalesce(*[x, n])",
    "coalesce(**{})",
    "await x",
    "yield",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_of_the_language_is_refused(text):
    with pytest.raises(DeclarationError, match=r"^test: found .*; expected ") as caught:
        compile_expression(text, CONTEXT)
    assert caught.value.faults[0].place == "test"
    with pytest.raises(DeclarationError) as over_arrays:
        _array_value(text)
    assert over_arrays.value.faults == caught.value.faults


# Python or a database would take these and give something that nobody meant.
MISFITS = [
    ("not n", "found 'n' in 'not n'; expected a condition"),
    ("not x", "expected a condition"),
    ("n and n", "expected a condition"),
    ("yes and 1", "found '1' in 'yes and 1'; expected a condition"),
    ("yes or kind", "expected a condition"),
    ("where(n, 1, 0)", "test of 'where' is no condition"),
    ("where(kind, 1, 0)", "test of 'where' is no condition"),
    ("'a' * 1000000000", "expected a number"),
    ("kind * 2", "expected a number"),
    ("kind + kind", "expected a number"),
    ("yes + 1", "expected a number"),
    ("-yes", "expected a number"),
    ("-kind", "expected a number"),
    ("day + 1", "expected a number"),
    ("later - day", "expected a number"),
    ("x > kind", "not comparable"),
    ("kind == 1", "not comparable"),
    ("kind in [1, 2]", "not comparable"),
    ("x in ['1']", "not comparable"),
    ("day > 20230531", "not comparable"),
    ("coalesce(kind, 1)", "fit together"),
    ("where(yes, 'a', 1)", "fit together"),
    ("least(kind, x)", "fit together"),
    ("abs(kind)", "fit together"),
    ("days_since(x)", "fit together"),
    ("days_until(kind)", "fit together"),
    ("year(x)", "fit together"),
    ("line(2023)", "fit together"),
    ("log1p(kind)", "fit together"),
    ("n + " + "9" * 30, "found '9{30}'"),
]


@pytest.mark.parametrize(("text", "match"), MISFITS)
def test_values_that_do_not_fit_are_refused(text, match):
    with pytest.raises(DeclarationError, match=match):
        compile_expression(text, CONTEXT)
    with pytest.raises(
        DeclarationError, match="expected (a number|a condition|values that fit|names)"
    ):
        _array_value(text)


SYNTAX = [
    "",
    "  ",
    "x +",
    "x; x",
    "x = 1",
    "x := 1",
    "import os",
    "def f(): pass",
    "x\0",
    "'",
    "x x",
]


@pytest.mark.parametrize("text", SYNTAX)
def test_what_is_no_expression(text):
    with pytest.raises(DeclarationError, match="expected an expression. Correct the syntax"):
        compile_expression(text, CONTEXT)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x + " * 600 + "x", f"found 2401 characters; expected at most {MAX_LENGTH}"),
        ("-" * MAX_DEPTH + "x", f"deep nesting; expected <= {MAX_DEPTH} levels"),
        ("abs(" * 45 + "x" + ")" * 45, "deep nesting"),
        ("not " * 45 + "yes", "deep nesting"),
        (" + ".join(["x"] * 45), "deep nesting"),
        ("(" * 500 + "x" + ")" * 500, "an expression"),
        ("-" * 1900 + "x", "deep nesting|an expression"),
    ],
)
def test_expressions_without_end_are_refused(text, match):
    with pytest.raises(DeclarationError, match=match):
        compile_expression(text, CONTEXT)


def test_long_sums_of_conditions_are_no_deep_nesting():
    text = " or ".join(f"x == {number}" for number in range(100))
    assert _values([text]) == [True]


def test_an_unknown_column_lists_those_that_there_are():
    context = Context({"loss": RECORDS["x"], "kind": RECORDS["kind"]}, place="feature 'f'")
    with pytest.raises(DeclarationError, match="feature 'f': found 'los' .*one of kind, loss"):
        compile_expression("los > 1", context)


def test_the_as_of_date_is_for_features_only():
    context = Context({"day": RECORDS["day"]}, place="rule")
    for text in ("days_since(day)", "as_of_year", "active(day)"):
        with pytest.raises(DeclarationError, match="rule: found a function of the as-of date"):
            compile_expression(text, context)


def test_names_and_functions_of_an_expression():
    text = "where(yes and abs(x) > 1, as_of_year - year(day), -gap) in [n, 3]"
    assert find_names(text) == {"yes", "x", "day", "gap", "n"}
    assert find_functions(text) == {"where", "abs", "year"}
    with pytest.raises(DeclarationError, match="catalogue: found 'x \\+'"):
        find_names("x +", "catalogue")


PIECES = st.sampled_from(
    ["x", "n", "kind", "yes", "day", "gap", "1", "0", "2.5", "'a'", "True", "None", "line", "abs",
     "where", "coalesce", "least", "year", "days_since", "is_missing", "(", ")", "[", "]", ",", "+",
     "-", "*", "/", "**", "<", "==", "in", "not", "and", "or", ".", "lambda", ":", "if", "else"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=12).map(" ".join)))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_compiles_to_valid_sql_or_is_refused(text):
    value = _compile_or_refuse(text)
    if hasattr(value, "type"):
        assert "SELECT" in str(ibis.to_sql(RECORDS.select(v=value), dialect="duckdb"))
    else:
        assert isinstance(value, bool | int | float | str | DeclarationError)


def _compile_or_refuse(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # "1is 2": Python warns, then parses
        try:
            return compile_expression(text, CONTEXT)
        except DeclarationError as error:
            return error


# --- over ready tables ---


@pytest.mark.parametrize("compute", [compute_expressions, query_expressions])
def test_expressions_over_a_table_of_features(compute):
    frame = pd.DataFrame(
        {
            "income": [0.5, 2.0, np.nan],
            "flag": [True, False, True],
            "grade": pd.Categorical(["A", "D", None]),
        },
        index=["p", "q", "r"],
    )
    found = compute(
        frame,
        {
            "poor": "income < 1",
            "half": "income / 2",
            "flagged": "flag == 1",
            "bad": "grade in ['C', 'D']",
            "constant": "3",
        },
    )
    expected = pd.DataFrame(
        {
            "poor": [1.0, 0.0, np.nan],
            "half": [0.25, 1.0, np.nan],
            "flagged": [1.0, 0.0, 1.0],
            "bad": [0.0, 1.0, np.nan],
            "constant": [3.0, 3.0, 3.0],
        },
        index=frame.index,
    )
    pd.testing.assert_frame_equal(found, expected)
    assert compute(frame, {}).shape == (3, 0)
    assert compute(frame.iloc[:0], {"poor": "income < 1"}).shape == (0, 1)
    with pytest.raises(DeclarationError, match="rules: found 'wealth' .*flag, grade, income"):
        compute(frame, {"poor": "wealth < 1"}, "rules")
