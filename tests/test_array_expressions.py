"""Expressions over arrays equal those that the database computes, on drawn tables and expressions."""

import datetime as dt

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pytest

from poverty_risk.array_expressions import evaluate_expression
from poverty_risk.column_values import Kind, Values
from poverty_risk.expressions import compile_expression
from poverty_risk.language import FUNCTIONS, Context, find_functions, reads_as_of_date

ROWS = 300
LINE = {2021: 6300.0, 2022: 6700.0, 2024: 7200.0}
TYPES = {"x": "float64", "y": "float64", "n": "int64", "kind": "string", "other": "string"}
TYPES |= {"yes": "boolean", "no": "boolean", "day": "date", "later": "date", "as_of": "date"}


def _draw_records(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    pools = {
        "x": [0.0, -1.0, 1.0, 2.5, 7000.0, *rng.normal(0, 100, 20).tolist()],
        "y": [0.0, -0.5, 3.0, 100.0, *rng.normal(5, 3, 20).tolist()],
        "n": list(range(-2, 9)),
        "kind": ["a", "b", "flood"],
        "other": ["b", "c", "", "flood"],
        "yes": [True, False],
        "no": [True, False],
        "day": [dt.date(2019, 12, 30) + dt.timedelta(days=17 * step) for step in range(120)],
        "later": [dt.date(1969, 12, 31), dt.date(2024, 2, 29), dt.date(2100, 1, 1)],
    }
    drawn = {
        name: [pool[at] if rng.random() > 0.15 else None for at in rng.integers(0, len(pool), ROWS)]
        for name, pool in pools.items()
    }
    # Every point has an as-of date.
    drawn["as_of"] = [dt.date(2023, 1, 1 + int(at)) for at in rng.integers(0, 28, ROWS)]
    kinds = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string()}
    kinds |= {"boolean": pa.bool_(), "date": pa.date32()}
    return pa.table({name: pa.array(drawn[name], kinds[kind]) for name, kind in TYPES.items()})


class _Writer:
    """Writes expressions of the language at random."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def choose(self, *choices):
        return choices[self.rng.integers(len(choices))]()

    def pick(self, *items):
        return str(items[self.rng.integers(len(items))])

    def number(self, depth):
        if depth == 0:
            return self.pick("x", "y", "n", "0", "1", "2.5", "as_of_year", "as_of_month")
        a, b = (lambda: self.number(depth - 1)), (lambda: self.number(depth - 1))
        return self.choose(
            lambda: f"({a()} {self.pick('+', '-', '*', '/')} {b()})",
            lambda: f"(-{self.pick('x', 'y', 'n')})",
            lambda: f"abs(x + {a()})",
            lambda: f"log1p(y + {a()})",
            lambda: f"{self.pick('least', 'greatest')}({a()}, {b()}, n)",
            lambda: f"where({self.condition(depth - 1)}, {a()} + 0, {b()} + 0)",
            lambda: f"coalesce(x, {a()} * 1.0, {b()} * 1.0)",
            lambda: (
                f"{self.pick('days_since', 'days_until', 'years_since', 'line', 'year', 'month')}({self.pick('day', 'later')})"
            ),
        )

    def condition(self, depth):
        if depth == 0:
            return self.pick("yes", "no")
        compared = self.pick("<", "<=", ">", ">=", "==", "!=")
        a, b = (lambda: self.number(depth - 1)), (lambda: self.condition(depth - 1))
        return self.choose(
            lambda: f"({a()} {compared} {a()} + x)",
            lambda: f"(kind {compared} {self.text()})",
            lambda: f"(day {compared} {self.pick('later', repr('2021-05-17'))})",
            lambda: f"({b()} {self.pick('and', 'or')} {b()})",
            lambda: f"(not {b()})",
            lambda: f"(kind in ['a', {self.text()}, 'nowhere'])",
            lambda: f"(n in [1, 2, {a()}])",
            lambda: f"is_missing({self.choose(lambda: self.pick('x', 'kind', 'yes', 'day'), b)})",
            lambda: f"active({self.pick('day', 'later')})",
            lambda: f"coalesce(yes, {b()}, False)",
            lambda: f"where({b()}, yes, {b()})",
            lambda: f"(coalesce(kind, {self.text()}) == {self.text()})",
            lambda: f"(where({b()}, kind, {self.text()}) {compared} 'b')",
        )

    def text(self):
        return self.pick("other", "kind", "'a'", "'b'", "'nowhere'")


def _in_database(records: pa.Table, texts: list[str]) -> list[np.ndarray]:
    table = ibis.table(TYPES, name="records")
    context = Context({name: table[name] for name in TYPES if name != "as_of"}, table.as_of, LINE)
    compiled = {}
    for number, text in enumerate(texts):
        value = compile_expression(text, context)
        value = value if hasattr(value, "cast") else ibis.literal(value)
        compiled[f"v{number}"] = value.cast("float64")
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("records", records)
        found = connection.sql(str(ibis.to_sql(table.select(**compiled), dialect="duckdb")))
        columns = found.to_arrow_table().columns
    # Arithmetic of constants alone is decimal there.
    return [column.cast(pa.float64()).to_numpy() for column in columns]


def _over_arrays(records: pa.Table, texts: list[str]) -> list[np.ndarray]:
    columns = {name: Values.from_arrow(records[name]) for name in TYPES}
    context = Context(columns, columns.pop("as_of"), LINE)
    values = (evaluate_expression(text, context).to_float() for text in texts)
    return [np.broadcast_to(value, ROWS) for value in values]


@pytest.mark.parametrize("seed", range(4))
def test_drawn_expressions_equal_the_database(seed):
    writer, records = _Writer(seed), _draw_records(seed)
    texts = [writer.number(1 + one % 3) for one in range(60)]
    texts += [writer.condition(1 + one % 3) for one in range(120)]
    there, here = _in_database(records, texts), _over_arrays(records, texts)
    for text, expected, found in zip(texts, there, here, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=text)
    # Neither side may be missing everywhere, or nothing was compared.
    assert np.mean([np.isfinite(column).mean() for column in there]) > 0.5
    assert set().union(*(find_functions(text) for text in texts)) == set(FUNCTIONS)


def test_part_of_a_column_keeps_its_missing_values():
    records = _draw_records(0)
    for name in TYPES:
        whole, part = Values.from_arrow(records[name]), Values.from_arrow(records[name][13:30])
        assert part.kind is whole.kind
        np.testing.assert_array_equal(part.is_missing(), whole.is_missing()[13:30])
        if part.kind is not Kind.TEXT:
            np.testing.assert_array_equal(part.array, whole.array[13:30])


def test_what_reads_the_as_of_date():
    assert reads_as_of_date("years_since(day) > 3")
    assert reads_as_of_date("as_of_year - 1")
    assert not reads_as_of_date("year(day) + line(day)")
