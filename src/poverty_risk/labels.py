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
from scipy.special import ndtr

from poverty_risk import windows
from poverty_risk.alignment import align_values
from poverty_risk.engine import (
    compile_to_sql,
    make_points,
    records_of_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.exceptions import DeclarationError, Fault, LabelError
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.point_index import check_point_index
from poverty_risk.schema import Label, Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon, parse_days

__all__ = ["grade_labels", "label_returns", "measure_returns"]

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
    name = _find_name(schema, definition)
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


def measure_returns(
    tables: HistoryTables,
    points: pd.DataFrame,
    horizon: str | Horizon = "12mo",
    definition: str | None = None,
) -> pd.Series:
    """What a label looks at, over its threshold: below 1 the outcome happened.

    Parameters
    ----------
    tables
        The history, as late as it goes.
    points
        Index (household_id, as_of_date); columns are not read.
    horizon
        As in `label_returns`.
    definition
        Name of a label of the schema that declares a ``ratio``; its first label by default.

    Returns
    -------
    Series
        float64 named ``ratio``, index of `points`: of a state the record that is labelled, of an event
        the lowest one within the horizon that can be labelled. Missing: none, or nothing measured in
        it. Who has no label may have one.

    Raises
    ------
    LabelError
        No such definition, none with a ratio, no such table, or a year without a poverty line.
    DeclarationError
        The ratio is no number.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, label_returns, make_household_history
    >>> from poverty_risk import measure_returns
    >>> tables = make_household_history(300, seed=1).tables
    >>> points = build_prediction_points(tables, "2022-01-01")
    >>> ratios = measure_returns(tables, points, "12mo", "below_line")
    >>> labels = label_returns(tables, points, "12mo", "below_line").dropna()
    >>> bool(((ratios[labels.index] < 1.0) == (labels == 1.0)).all())
    True
    """
    check_point_index(points, "points")
    schema = tables.schema
    name = _find_name(schema, definition)
    label = check_measured(schema, name)
    _check_table(tables, name)
    index = pd.MultiIndex.from_frame(points.index.to_frame(index=False))
    horizon = Horizon.parse(horizon)
    if label.needs_line:
        _check_line(tables, label, name, index, horizon)
    query = _compile_ratio(schema.model_dump_json(), name, tuple((tables.line or {}).items()))
    rows = run_in_chunks(tables, make_points(index, horizon=horizon), {"ratio": query})
    ratios = scatter(rows["ratio"], "ratio", len(index)) if rows else np.empty(0)
    return pd.Series(ratios, index=points.index, name="ratio")


def check_measured(schema: Schema, name: str) -> Label:
    """A label that measures something over a threshold.

    Raises
    ------
    LabelError
        No such label, or one without a ratio.
    """
    label = schema.labels[_find_name(schema, name)]
    if label.ratio is None:
        measured = ", ".join(n for n, own in schema.labels.items() if own.ratio) or "none here is"
        advice = "Choose such a label, or do not grade (`graded: 0`)."
        expected = f"a label with a 'ratio', measured over its threshold ({measured})"
        raise LabelError(Fault(f"label '{name}' to be graded", "no 'ratio'", expected, advice))
    return label


def grade_labels(labels: pd.Series, ratios: pd.Series, spread: float) -> pd.Series:
    """Labels from 0 to 1 by how near households came: what trees can learn from in place of 0 and 1.

    Parameters
    ----------
    labels
        1, 0 or missing, from `label_returns`.
    ratios
        From `measure_returns`, same index; where missing, the label stays, which is logged.
    spread
        How much of the logarithm of the ratio is chance, as its standard deviation: .5 takes a
        measured income for one that could as well have been two fifths lower or two thirds higher.
        0 leaves the labels as they are.

    Returns
    -------
    Series
        float64 named ``graded``, index of `labels`: the chance that another measurement would have
        been below the threshold. Missing where the label is.

    Raises
    ------
    LabelError
        A spread below 0 or not finite, ratios that say otherwise than the labels, or none at all.
    FeatureError
        Ratios of other points.

    Notes
    -----
    A household measured at .99 of the line and one at 1.01 are the same household, and one at a third
    of it is not: a label of 0 and 1 tells neither. Use grades to learn an order; what is calibrated,
    tested and told is what happened. An event is graded by its lowest measurement alone.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import grade_labels
    >>> grade_labels(pd.Series([1.0, 1.0, 0.0]), pd.Series([0.4, 0.99, 1.01]), 0.5).round(2).tolist()
    [0.97, 0.51, 0.49]
    """
    if not 0.0 <= spread < np.inf:
        fault = Fault("spread of graded labels", f"{spread}", "0 or more", "Correct it.")
        raise LabelError(fault)
    grades = labels.to_numpy(np.float64, copy=True)
    ratio = align_values(ratios, labels.index, "ratios").to_numpy()
    if spread:
        labelled = ~np.isnan(grades)
        measured = labelled & ~np.isnan(ratio)
        _check_ratios(grades[measured], ratio[measured], int(labelled.sum()))
        with np.errstate(divide="ignore"):  # an income of nothing is below any line
            grades[measured] = ndtr(-np.log(np.maximum(ratio[measured], 0.0)) / spread)
    return pd.Series(grades, index=labels.index, name="graded")


def _check_ratios(happened: np.ndarray, ratio: np.ndarray, labelled: int) -> None:
    """Ratios below 1 are the outcomes: others would be learned the wrong way, and nobody would see."""
    other = int(((ratio < 1.0) != (happened == 1.0)).sum())
    if other or (labelled and not len(ratio)):
        none = f"none, of {labelled:,} points with a label"
        raise LabelError(
            Fault(
                "ratios to grade labels by",
                f"{other:,} of {len(ratio):,} that say otherwise than the label" if other else none,
                "ratios below 1 where the outcome happened, and nowhere else",
                "Take labels and ratios of the same definition and horizon, and declare a 'ratio' "
                "that is below 1 exactly where 'where' holds.",
            )
        )
    if len(ratio) < labelled:
        logger.info("%d of %d labels are not measured and stay.", labelled - len(ratio), labelled)


def _find_name(schema: Schema, definition: str | None) -> str:
    name = next(iter(schema.labels)) if definition is None else definition
    if name not in schema.labels:
        known = ", ".join(schema.labels)
        raise LabelError(Fault("label", f"'{name}'", f"one of {known}", "Correct the name."))
    return name


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
    _check_table(tables, name)
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


def _check_table(tables: HistoryTables, name: str) -> None:
    if not _has_tables(tables, name):
        raise LabelError(
            Fault(
                f"label '{name}'",
                f"no table '{tables.schema.labels[name].table}'",
                f"one of {', '.join(tables.names)}",
                "Bring the table, or choose another definition.",
            )
        )


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
    records = _label_records(schema, name, line)
    inside = windows.contains_outcome(records.event_date, records.as_of_date, records.horizon_end)
    by_point = records.group_by("point")
    if label.kind == "state":
        known = inside & _is_near_the_end(records, label) & records.met.notnull()
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


@functools.lru_cache(maxsize=64)
def _compile_ratio(schema_json: str, name: str, line: tuple[tuple[int, float], ...]) -> str:
    """What a label measures over its threshold, of records that can be labelled alone."""
    schema = Schema.model_validate_json(schema_json)
    label = schema.labels[name]
    records = _label_records(schema, name, line)
    known = windows.contains_outcome(records.event_date, records.as_of_date, records.horizon_end)
    known &= records.met.notnull()
    ratio = records.ratio.min(where=known)
    if label.kind == "state":
        known &= _is_near_the_end(records, label)
        # NaN for missing: without a value its record would be passed over for the one before.
        value = records.ratio.fill_null(float("nan"))
        ratio = value.argmax(records.record_order, where=known)
    return compile_to_sql(records.group_by("point").aggregate(ratio=ratio))


def _is_near_the_end(records: Any, label: Label) -> Any:
    lookback = windows.Lookback(parse_days(label.tolerance))
    return lookback.contains(records.event_date, records.horizon_end, _interval)


def _compile_lost(schema: Schema, line: tuple[tuple[int, float], ...]) -> str:
    """Whether a household was lost within the horizon, or gone before it, known or not."""
    follow_up = schema.follow_up
    assert follow_up is not None
    lost = {"met": follow_up.lost_where}
    records = _final_records(schema, follow_up.table, lost, line, "follow_up")
    inside = windows.contains_outcome(records.event_date, records.as_of_date, records.horizon_end)
    before = windows.Lookback(None).contains(records.event_date, records.as_of_date, _interval)
    # Before the as-of date its last state counts, because a household can come back.
    last = records.met.argmax(records.record_order, where=before & records.met.notnull())
    lost = (last.fill_null(0.0) > 0) | (records.met.max(where=inside).fill_null(0.0) > 0)
    return compile_to_sql(records.group_by("point").aggregate(met=lost.cast("float64")))


def _label_records(schema: Schema, name: str, line: tuple[tuple[int, float], ...]) -> Any:
    """Each point's records with ``met``, and with ``ratio`` where the label declares one."""
    label = schema.labels[name]
    texts = {"met": str(label.where)} | ({"ratio": label.ratio} if label.ratio else {})
    return _final_records(schema, str(label.table), texts, line, f"label '{name}'")


def _final_records(
    schema: Schema,
    table: str,
    texts: Mapping[str, str],
    line: tuple[tuple[int, float], ...],
    place: str,
) -> Any:
    """Each point's records of a table, with columns for what expressions say of them."""
    records = records_of_points(schema, table)
    # The last word on each record: corrections that came later are what really happened.
    records = records.filter(records.superseded_date.isnull())
    columns = {name: records[name] for name in schema.tables[table].all_columns}
    context = Context(columns, records.as_of_date, dict(line), place)
    said = {name: compile_expression(text, context) for name, text in texts.items()}
    faults = [
        Fault(f"{place}, '{texts[name]}'", "text", "a condition or a number", "Compare it.")
        for name, value in said.items()
        if hasattr(value, "type") and value.type().is_string()
    ]
    if faults:
        raise DeclarationError(faults)
    kept = records.select(
        "point", "as_of_date", "horizon_end", "event_date", "record_order", **said
    )
    return kept.mutate(**{name: kept[name].cast("float64") for name in said})


def _interval(days: int) -> Any:
    return ibis.interval(days=days)
