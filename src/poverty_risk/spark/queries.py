"""The catalogue's queries in Spark's words.

Ibis writes SQL for Spark; three things are changed on the parsed text. Fractions are DOUBLE, because
Spark reads ``365.25`` as a DECIMAL and rounds what is divided by it. Nothing is sorted as a whole,
because records come sorted within each household. And everything that is grouped by point is grouped
by its household first, so that one shuffle of a table by household serves all queries on it.
"""

from __future__ import annotations

import functools

import sqlglot
from sqlglot import expressions as sql

from poverty_risk.exceptions import Fault
from poverty_risk.spark.session import SparkError

__all__ = ["ENTITY", "VIEW", "rewrite"]

VIEW = "poverty_risk_{}"
"""Name of the view of a table, so that no view of the running program is replaced."""

ENTITY = "_entity"
"""Column with the household (or village) whose records a query joins to a point."""


@functools.lru_cache(maxsize=256)
def rewrite(query: str) -> str:
    """A query in Spark's dialect as it runs here; its rows gain the column `ENTITY`."""
    tree = sqlglot.parse_one(query, dialect="spark")
    for literal in list(tree.find_all(sql.Literal)):
        if not literal.is_string and not literal.is_int:
            literal.replace(sql.cast(literal.copy(), sql.DataType.Type.DOUBLE))
    for order in list(tree.find_all(sql.Order)):
        if isinstance(order.parent, sql.Select):
            order.pop()
    for window in tree.find_all(sql.Window):
        if (by := window.args.get("partition_by")) and (point := _find_point(by)) is not None:
            window.set("partition_by", [_entity_beside(point), *by])
    _add_entity(tree)
    for table in tree.find_all(sql.Table):
        table.set("this", sql.to_identifier(VIEW.format(table.name), quoted=True))
    return tree.sql(dialect="spark")


def _find_point(columns: list[sql.Expr]) -> sql.Column | None:
    found = (c for c in columns if isinstance(c, sql.Column) and c.name == "point")
    return next(found, None)


def _entity_beside(point: sql.Column) -> sql.Column:
    return sql.column(ENTITY, table=point.table, quoted=True)


def _add_entity(tree: sql.Expr) -> None:
    """The outermost query gives the entity, and groups by it where it groups."""
    point = _find_point([e.unalias() for e in tree.expressions])
    if not isinstance(tree, sql.Select) or point is None:
        raise SparkError(Fault("query", "no column 'point'", "one", "Report this."))
    entity = _entity_beside(point)
    tree.set("expressions", [*tree.expressions, entity])
    if tree.args.get("group") is not None:
        tree.set("group", sql.Group(expressions=[entity.copy(), point.copy()]))
