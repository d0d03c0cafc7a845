"""Which households belong to the groups that a fairness check compares; declared, never features."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.cohort import find_groups
from poverty_risk.declarations import Declared, Words, parse_declaration, read_yaml
from poverty_risk.engine import (
    compile_to_sql,
    keep_latest,
    known_records,
    make_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.point_index import check_point_index
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback

__all__ = ["AuditGroup", "AuditGroups", "build_audit_groups", "load_audit_groups"]

IF_ABSENT = {"member": 1.0, "other": 0.0, "unknown": np.nan}


class AuditGroup(Declared):
    """How it is told whether a household belongs to a group.

    Parameters
    ----------
    label
        Its name in Chinese and English.
    table
        History table whose records tell it.
    within
        How recent a record's event must be, as ``"60d"``; None for any.
    among
        Which of the latest records count: of a table of persons each person's latest.
    where
        What they must meet.
    holds
        Whether ``any`` or ``all`` of them must.
    if_absent
        What a household without such a record is.
    """

    label: Words
    table: str
    within: str | None = None
    among: str = "True"
    where: str
    holds: Literal["any", "all"] = "any"
    if_absent: Literal["member", "other", "unknown"] = "unknown"


class AuditGroups(Declared):
    """The groups of one schema.

    Parameters
    ----------
    groups
        Groups by name.
    places
        Groups of the schema, such as ``township``, whose values are compared with each other.
    """

    groups: Mapping[str, AuditGroup] = {}
    places: tuple[str, ...] = ()


def load_audit_groups(schema: Schema, path: str | Path | None = None) -> AuditGroups:
    """The groups that are declared for a schema.

    Parameters
    ----------
    schema
        The schema of the history.
    path
        YAML file of your own, in the form of the shipped one; by default the shipped one.

    Returns
    -------
    AuditGroups
        The groups; for a schema that the shipped file does not know its townships alone.

    Raises
    ------
    DeclarationError
        Faults in the file, a file of your own without this schema, or tables and places that the
        schema does not declare.

    Examples
    --------
    >>> from poverty_risk.audit_groups import load_audit_groups
    >>> from poverty_risk.schema import load_schema
    >>> list(load_audit_groups(load_schema("archive")).groups)[:2]
    ['elderly_only', 'woman_headed']
    """
    shipped = Path(str(resources.files("poverty_risk") / "audit_groups.yaml"))
    content = read_yaml(shipped if path is None else path)
    place = f"audit groups of schema '{schema.name}'"
    if schema.name not in content:
        if path is not None:
            found = f"only {', '.join(map(str, content))}"
            raise DeclarationError(Fault(place, found, f"'{schema.name}'", "Add its groups."))
        return AuditGroups(places=tuple({"township"} & set(schema.groups)))
    declared = parse_declaration(AuditGroups, content[schema.name] or {}, place)
    faults = [
        Fault(f"{place}, '{name}'", f"table '{item.table}'", "a declared table", "Correct it.")
        for name, item in declared.groups.items()
        if item.table not in schema.tables or schema.tables[item.table].entity == "village"
    ]
    faults += [
        Fault(place, f"place '{name}'", f"one of {', '.join(schema.groups)}", "Correct it.")
        for name in declared.places
        if name not in schema.groups
    ]
    if faults:
        raise DeclarationError(faults)
    return declared


def build_audit_groups(
    tables: HistoryTables, points: pd.DataFrame | pd.Series, declared: AuditGroups | None = None
) -> pd.DataFrame:
    """Which groups each point belongs to, by what was known before its as-of date.

    For fairness checks alone: the answer is no feature table, and columns that a schema marks as
    ``audit`` are read nowhere else.

    Parameters
    ----------
    tables
        The history.
    points
        Prediction points, index (household_id, as_of_date).
    declared
        The groups; by default those that are shipped for the schema.

    Returns
    -------
    DataFrame
        Index of `points`. One boolean column per group (missing where nobody can tell), then one
        string column per place. A group whose table the history lacks, or whose answer is unknown
        for everybody, has no column.

    Raises
    ------
    FeatureError
        Points on another index, or repeated.
    DeclarationError
        An expression that is not of the language, or uses a column that is not there.

    Notes
    -----
    Three-valued: with ``any`` a household is a member if one record meets the condition, otherwise
    unknown if one cannot be decided; with ``all`` it is none if one record fails, otherwise unknown
    if one cannot be decided.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, make_household_history
    >>> from poverty_risk.audit_groups import build_audit_groups
    >>> tables = make_household_history(200, seed=1).tables
    >>> groups = build_audit_groups(tables, build_prediction_points(tables, "2023-01-01"))
    >>> list(groups.columns)
    ['elderly_only', 'woman_headed', 'disabled', 'relocated', 'ethnic_minority', 'township']
    """
    check_point_index(points, "points")
    index: Any = points.index
    declared = load_audit_groups(tables.schema) if declared is None else declared
    told = {name: item for name, item in declared.groups.items() if item.table in tables}
    queries = {name: _membership_sql(tables, name, item) for name, item in told.items()}
    found = run_in_chunks(tables, make_points(index), queries)
    columns: dict[str, pd.Series] = {}
    for name, item in told.items():
        member = _decide(found.get(name), item, len(index))
        if not np.isnan(member).all():
            values = pd.array(np.nan_to_num(member) == 1.0, dtype="boolean")
            values[np.isnan(member)] = pd.NA
            columns[name] = pd.Series(values, index=index)
    places = find_groups(tables, index) if declared.places else pd.DataFrame(index=index)
    columns |= {
        name: places[f"{name}_id"] for name in declared.places if places[f"{name}_id"].notna().any()
    }
    return pd.DataFrame(columns, index=index)


def _membership_sql(tables: HistoryTables, name: str, item: AuditGroup) -> str:
    """Per point: records that count, that meet the condition, and that cannot be decided."""
    records = known_records(tables.schema, item.table)
    if item.within is not None:
        window = Lookback.parse(item.within)
        records = records.filter(
            window.contains(
                records.event_date, records.as_of_date, lambda days: ibis.interval(days=days)
            )
        )
    table = tables.schema.tables[item.table]
    latest = keep_latest(records, [c for c in table.id_columns if c != "household_id"])
    context = Context(
        {column: latest[column] for column in table.all_columns},
        latest.as_of_date,
        dict(tables.line or {}),
        f"audit group '{name}'",
    )
    counted, met = (compile_expression(text, context) for text in (item.among, item.where))
    rows = latest.select(latest.point, counted=counted, met=met).filter(ibis._["counted"])
    return compile_to_sql(
        rows.group_by("point").aggregate(
            records=rows.count(),
            met=rows.met.cast("int64").sum().coalesce(0),
            undecided=rows.met.isnull().cast("int64").sum(),
        )
    )


def _decide(found: pa.Table | None, item: AuditGroup, size: int) -> np.ndarray:
    """1 member, 0 other, NaN unknown."""
    if found is None:
        return np.full(size, IF_ABSENT[item.if_absent])
    records, met, undecided = (scatter(found, c, size) for c in ("records", "met", "undecided"))
    clear = met > 0 if item.holds == "any" else met == records
    against = met == 0 if item.holds == "any" else met + undecided < records
    doubtful = undecided > 0 if item.holds == "any" else ~against
    member = np.where(clear, 1.0, np.where(doubtful, np.nan, 0.0))
    return np.where(np.isnan(records), IF_ABSENT[item.if_absent], member)
