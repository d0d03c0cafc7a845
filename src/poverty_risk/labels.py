"""Labels: what happened within the horizon; whoever was not followed has none."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow.compute as pc

from poverty_risk import windows
from poverty_risk.engine import (
    compile_to_sql,
    make_points,
    records_of_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.exceptions import Fault, LabelError
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.point_index import check_point_index
from poverty_risk.schema import Label, Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon, parse_days

__all__ = ["label_returns"]

logger = logging.getLogger(__name__)


def label_returns(
    tables: HistoryTables,
    points: pd.DataFrame,
    horizon: str | Horizon = "12mo",
    definition: str | None = None,
) -> pd.Series:
    """Label prediction points: 1 it happened, 0 it did not, missing when nobody can tell.

    Parameters
    ----------
    tables
        The history, as late as it goes: what was recorded after the horizon counts too.
    points
        Index (household_id, as_of_date); columns are not read.
    horizon
        ``"12mo"`` or ``"90d"``; an outcome counts in [as_of_date, as_of_date + horizon).
    definition
        Name of a label of the schema; its first one by default.

    Returns
    -------
    Series
        float64 named ``label``, index of `points`. Missing (censored): the data end (less the
        reporting lag) before the horizon does; or no such event, and the household was lost.

    Raises
    ------
    LabelError
        No such definition, a table that it needs is not there, or a year without a poverty line.

    Notes
    -----
    An event that was seen counts even if the household was lost later. A household is only a 0 if it
    was followed to the end, because those who leave are not like those who stay. A household that had
    left before the as-of date, unknown to the office, was not followed either.

    Where the data end too early, events that were seen do not count: on such a date only they would
    have a label, and every household with one would be a 1.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, label_returns, make_household_history
    >>> tables = make_household_history(300, seed=1).tables
    >>> points = build_prediction_points(tables, "2023-01-01")
    >>> set(label_returns(tables, points).dropna().unique()) <= {0.0, 1.0}
    True
    """
    check_point_index(points, "points")
    schema = tables.schema
    name = next(iter(schema.labels)) if definition is None else definition
    if name not in schema.labels:
        known = ", ".join(schema.labels)
        raise LabelError(Fault("label", f"'{name}'", f"one of {known}", "Correct the name."))
    horizon = Horizon.parse(horizon)
    index = pd.MultiIndex.from_frame(points.index.to_frame(index=False))
    happened, followed = _outcome(tables, index, horizon, name)
    complete_from = windows.label_known_by(
        pd.DatetimeIndex(index.get_level_values("as_of_date")),
        horizon,
        schema.reporting_lag_days(name),
    )
    complete = np.asarray(complete_from <= tables.observed_to)
    labels = np.where(happened, 1.0, np.where(followed, 0.0, np.nan))
    return pd.Series(np.where(complete, labels, np.nan), index=points.index, name="label")


def _outcome(
    tables: HistoryTables, index: pd.MultiIndex, horizon: Horizon, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Whether it happened, and whether a household without it was followed as far as data go."""
    label = tables.schema.labels[name]
    if label.kind == "any":
        usable = [part for part in label.of if _has_tables(tables, part)]
        skipped = sorted(set(label.of) - set(usable))
        if not usable:
            raise LabelError(
                Fault(f"label '{name}'", "none of its tables", "at least one", "Bring a table.")
            )
        if skipped:
            logger.warning("Label '%s' is made without %s: no such table.", name, skipped)
        parts = [_outcome(tables, index, horizon, part) for part in usable]
        return np.any([part[0] for part in parts], axis=0), np.all([p[1] for p in parts], axis=0)
    if not _has_tables(tables, name):
        raise LabelError(
            Fault(
                f"label '{name}'",
                f"no table '{label.table}'",
                f"one of {', '.join(tables.names)}",
                "Bring the table, or choose another definition.",
            )
        )
    if label.needs_line:
        _check_line(tables, label, name, index, horizon)
    follow_up = tables.schema.follow_up
    queries = _compile(
        tables.schema.model_dump_json(),
        name,
        tuple((tables.line or {}).items()),
        follow_up is not None and follow_up.table in tables,
    )
    found = run_in_chunks(tables, make_points(index, horizon=horizon), queries)
    happened = _flag(found, "outcome", len(index))
    if "seen" in queries:
        return happened, _flag(found, "seen", len(index))
    return happened, ~_flag(found, "lost", len(index))


def _flag(found: dict[str, Any], query: str, size: int) -> np.ndarray:
    if query not in found:
        return np.zeros(size, dtype=bool)
    return np.asarray(scatter(found[query], "met", size, fill=0.0) == 1.0)


def _has_tables(tables: HistoryTables, name: str) -> bool:
    label = tables.schema.labels[name]
    if label.kind == "any":
        return any(_has_tables(tables, part) for part in label.of)
    return label.table in tables


def _check_line(
    tables: HistoryTables, label: Label, name: str, index: pd.MultiIndex, horizon: Horizon
) -> None:
    """Labelling a year without a line would make every household of that year safe."""
    as_of = pd.DatetimeIndex(index.get_level_values("as_of_date"))
    if not len(as_of):
        return
    starts = as_of.unique()
    last_days = horizon.end(starts) - pd.Timedelta(days=1)
    covered = {
        year
        for first, last in zip(starts.year, last_days.year, strict=True)
        for year in range(first, last + 1)
    }
    recorded = set(pc.unique(pc.year(tables.arrow(str(label.table))["event_date"])).to_pylist())
    missing = sorted((recorded & covered) - set(tables.line or {}))
    if missing:
        raise LabelError(
            Fault(
                f"label '{name}'",
                f"no poverty line for {', '.join(str(year) for year in missing)}",
                "a line for every year with an income account",
                "Add these years to `line` in the config; there is no default.",
            )
        )


@functools.lru_cache(maxsize=64)
def _compile(
    schema_json: str, name: str, line: tuple[tuple[int, float], ...], follow_up: bool
) -> Mapping[str, str]:
    """Queries of a label that is no composition; `follow_up`: whether its table is there."""
    schema = Schema.model_validate_json(schema_json)
    label = schema.labels[name]
    records = _final_records(schema, str(label.table), str(label.where), line, f"label '{name}'")
    inside = windows.contains_outcome(records.event_date, records.as_of_date, records.horizon_end)
    by_point = records.group_by("point")
    if label.kind == "state":
        near = windows.Lookback(parse_days(label.tolerance)).contains(
            records.event_date, records.horizon_end, _interval
        )
        known = inside & near & records.met.notnull()
        state = by_point.aggregate(met=records.met.argmax(records.record_order, where=known))
        seen = state.select("point", met=state.met.notnull().cast("float64"))
        return {"outcome": compile_to_sql(state), "seen": compile_to_sql(seen)}
    queries = {"outcome": compile_to_sql(by_point.aggregate(met=records.met.max(where=inside)))}
    if label.followed == "any":
        seen = records.met.notnull().cast("float64").max(where=inside)
        queries["seen"] = compile_to_sql(by_point.aggregate(met=seen))
    elif follow_up:
        queries["lost"] = _compile_lost(schema, line)
    return queries


def _compile_lost(schema: Schema, line: tuple[tuple[int, float], ...]) -> str:
    """Whether a household was lost within the horizon, or gone before it, known or not."""
    follow_up = schema.follow_up
    assert follow_up is not None
    records = _final_records(schema, follow_up.table, follow_up.lost_where, line, "follow_up")
    inside = windows.contains_outcome(records.event_date, records.as_of_date, records.horizon_end)
    before = windows.Lookback(None).contains(records.event_date, records.as_of_date, _interval)
    # Before the as-of date its last state counts, because a household can come back.
    last = records.met.argmax(records.record_order, where=before & records.met.notnull())
    lost = (last.fill_null(0.0) > 0) | (records.met.max(where=inside).fill_null(0.0) > 0)
    return compile_to_sql(records.group_by("point").aggregate(met=lost.cast("float64")))


def _final_records(
    schema: Schema, table: str, where: str, line: tuple[tuple[int, float], ...], place: str
) -> Any:
    """Each point's records of a table, with column ``met``: whether they meet a condition."""
    records = records_of_points(schema, table)
    # The last word on each record: corrections that came later are what really happened.
    records = records.filter(records.superseded_date.isnull())
    columns = {name: records[name] for name in schema.tables[table].all_columns}
    met = compile_expression(where, Context(columns, records.as_of_date, dict(line), place))
    kept = records.select(
        "point", "as_of_date", "horizon_end", "event_date", "record_order", met=met
    )
    return kept.mutate(met=kept.met.cast("float64"))


def _interval(days: int) -> Any:
    return ibis.interval(days=days)
