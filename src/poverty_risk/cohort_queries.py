"""Cohorts and groups as SQL: the plain twin of the arrays, and what other databases run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import ibis
import numpy as np
import pandas as pd

from poverty_risk.engine import (
    compile_to_sql,
    keep_latest,
    known_records,
    make_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.schema import Condition, Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback

__all__ = ["compile_condition", "compile_group", "query_conditions", "query_groups"]


def query_groups(tables: HistoryTables, index: pd.MultiIndex) -> dict[str, np.ndarray]:
    """Values of the declared groups at each point, None where unknown, by name of the group."""
    groups = tables.schema.groups
    queries = {
        name: compile_group(tables.schema, name)
        for name, group in groups.items()
        if group.table in tables
    }
    found = run_in_chunks(tables, make_points(index), queries)
    nothing = np.full(len(index), None, dtype=object)
    return {
        name: scatter(found[name], "value", len(index)) if name in found else nothing
        for name in groups
    }


def query_conditions(
    tables: HistoryTables, index: pd.MultiIndex, conditions: Sequence[Condition], no_record: float
) -> list[np.ndarray]:
    """Whether each condition is met at each point: 1, 0, NaN (not known) or `no_record`."""
    queries = {
        str(number): compile_condition(tables.schema, item, tables.line)
        for number, item in enumerate(conditions)
    }
    villages = query_groups(tables, index).get("village")
    points = make_points(index, None if villages is None else pd.Series(villages, dtype=object))
    found = run_in_chunks(tables, points, queries)
    return [
        scatter(found[name], "met", len(index), no_record) if found else np.full(len(index), np.nan)
        for name in queries
    ]


@functools.lru_cache(maxsize=64)
def _condition_sql_cached(
    schema_json: str, condition: Condition, line: tuple[tuple[int, float], ...], dialect: str
) -> str:
    schema = Schema.model_validate_json(schema_json)
    records = known_records(schema, condition.table)
    if condition.within is not None:
        window = Lookback.parse(condition.within)
        records = records.filter(
            window.contains(
                records.event_date, records.as_of_date, lambda days: ibis.interval(days=days)
            )
        )
    latest = keep_latest(records, ["household_id"])
    context = Context(
        {column: latest[column] for column in schema.tables[condition.table].all_columns},
        latest.as_of_date,
        dict(line),
        f"cohort condition '{condition.reason}'",
    )
    met = compile_expression(condition.where, context)
    decided = latest.select(latest.point, met=met)
    return compile_to_sql(decided.mutate(met=decided.met.cast("float64")), dialect)


def compile_condition(
    schema: Schema,
    condition: Condition,
    line: Mapping[int, float] | None = None,
    dialect: str = "duckdb",
) -> str:
    """SQL that tells by ``point`` whether a condition of a cohort is ``met`` (1, 0 or missing)."""
    years = tuple((line or {}).items())
    return _condition_sql_cached(schema.model_dump_json(), condition, years, dialect)


@functools.lru_cache(maxsize=64)
def _group_sql_cached(schema_json: str, name: str, dialect: str) -> str:
    schema = Schema.model_validate_json(schema_json)
    group = schema.groups[name]
    records = known_records(schema, group.table)
    value = records[group.column]
    latest = value.argmax(records.record_order, where=value.notnull())
    return compile_to_sql(records.group_by("point").aggregate(value=latest), dialect)


def compile_group(schema: Schema, name: str, dialect: str = "duckdb") -> str:
    """SQL that gives the ``value`` of a declared group by ``point``."""
    return _group_sql_cached(schema.model_dump_json(), name, dialect)
