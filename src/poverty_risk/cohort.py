"""Who is at risk on which as-of date: the prediction points."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Mapping
from typing import Any

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
from poverty_risk.exceptions import DeclarationError, Fault, HistoryError
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.schema import Condition, Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback, parse_as_of_dates

__all__ = [
    "build_prediction_points",
    "check_tables",
    "compile_condition",
    "compile_group",
    "find_conditions",
    "find_groups",
    "review_cohort",
]


def build_prediction_points(
    tables: HistoryTables,
    as_of_dates: str | pd.Timestamp | Iterable[Any],
    cohort: str | None = None,
    households: str | Iterable[str] | None = None,
) -> pd.DataFrame:
    """Households of a cohort on each as-of date, judged by what was known then.

    Parameters
    ----------
    tables
        The history.
    as_of_dates
        One or several dates.
    cohort
        Name of a cohort of the schema; its first one by default.
    households
        Only these (a lone id is one household); all by default.

    Returns
    -------
    DataFrame
        Index (household_id, as_of_date), sorted by date and household; one string column per group
        of the schema (``township_id``, ``village_id``), missing where unknown.

    Raises
    ------
    DeclarationError
        No such cohort, or a date that is none.
    HistoryError
        A table that the cohort needs and cannot do without is not there.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, make_household_history
    >>> county = make_household_history(200, seed=1)
    >>> points = build_prediction_points(county.tables, ["2023-01-01", "2024-01-01"])
    >>> list(points.columns)
    ['township_id', 'village_id']
    """
    reviewed = review_cohort(tables, as_of_dates, cohort, households)
    return reviewed[reviewed["exclusion"].isna()].drop(columns="exclusion")


def review_cohort(
    tables: HistoryTables,
    as_of_dates: str | pd.Timestamp | Iterable[Any],
    cohort: str | None = None,
    households: str | Iterable[str] | None = None,
) -> pd.DataFrame:
    """All households on each as-of date, with the reason why one is not in the cohort.

    Parameters
    ----------
    tables, as_of_dates, cohort, households
        As in `build_prediction_points`.

    Returns
    -------
    DataFrame
        As `build_prediction_points`, plus ``exclusion``: the reason of the first condition that the
        household fails, missing for members of the cohort.
    """
    schema = tables.schema
    conditions = find_conditions(schema, cohort)
    check_tables(tables, conditions)
    dates = parse_as_of_dates(as_of_dates)
    if isinstance(households, str):
        households = [households]
    ids = tables.households if households is None else np.unique(np.asarray(list(households), str))
    index = pd.MultiIndex.from_arrays(
        [np.tile(ids.astype(object), len(dates)), dates.repeat(len(ids))],
        names=["household_id", "as_of_date"],
    )
    reviewed = find_groups(tables, index)
    present = [item for item in conditions if item.table in tables]
    queries = {
        str(number): compile_condition(schema, item, tables.line)
        for number, item in enumerate(present)
    }
    found = run_in_chunks(tables, make_points(index, reviewed.get("village_id")), queries)
    exclusion = np.full(len(index), None, dtype=object)
    for number, item in enumerate(present):
        met = np.full(len(index), np.nan)
        met = scatter(found[str(number)], "met", len(index), fill=-1.0) if found else met
        # -1: no record at all; NaN: a record whose condition cannot be decided counts as not met.
        failed = np.where(met == -1.0, item.if_absent == "drop", met != 1.0)
        exclusion[failed & pd.isna(exclusion)] = item.reason
    return reviewed.assign(exclusion=pd.Series(exclusion, index=index, dtype="str"))


def find_conditions(schema: Schema, cohort: str | None = None) -> tuple[Condition, ...]:
    """Conditions of a cohort of the schema; of its first one by default."""
    name = next(iter(schema.cohorts)) if cohort is None else cohort
    if name not in schema.cohorts:
        raise DeclarationError(
            Fault("cohort", f"'{name}'", f"one of {', '.join(schema.cohorts)}", "Correct the name.")
        )
    return schema.cohorts[name]


def check_tables(tables: Container[str], conditions: Iterable[Condition]) -> None:
    """Check that the tables are there without which nobody would be in the cohort."""
    faults = [
        Fault(
            f"cohort condition '{item.reason}'",
            f"no table '{item.table}'",
            "the table, because households without a record are dropped",
            "Bring the table, or declare a cohort that does without it.",
        )
        for item in conditions
        if item.table not in tables and item.if_absent == "drop"
    ]
    if faults:
        raise HistoryError(faults)


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


def find_groups(tables: HistoryTables, index: pd.MultiIndex) -> pd.DataFrame:
    """Township, village or other declared group of each point, as known at its as-of date.

    Parameters
    ----------
    tables
        The history.
    index
        (household_id, as_of_date).

    Returns
    -------
    DataFrame
        One string column ``<group>_id`` per declared group, missing where unknown.
    """
    schema = tables.schema
    names = [name for name, group in schema.groups.items() if group.table in tables]
    queries = {name: compile_group(schema, name) for name in names}
    found = run_in_chunks(tables, make_points(index), queries)
    columns = {}
    for name in schema.groups:
        values = np.full(len(index), None, dtype=object)
        if name in found:
            values = scatter(found[name], "value", len(index))
        columns[f"{name}_id"] = pd.Series(values, index=index, dtype="str")
    return pd.DataFrame(columns, index=index)
