"""Who is at risk on which as-of date: the prediction points."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, HistoryError
from poverty_risk.point_chunks import PointChunk, cut_points
from poverty_risk.record_arrays import Aggregate
from poverty_risk.schema import Condition, Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Lookback, parse_as_of_dates

__all__ = ["build_prediction_points", "find_exclusions", "find_groups", "review_cohort"]

Engine: TypeAlias = Literal["arrays", "sql"]
"""How the history is read: over arrays, or by queries, slowly; the plain twin."""

NO_RECORD = -1.0
"""Neither met nor not: there is no record to decide a condition on."""


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
    *,
    engine: Engine = "arrays",
) -> pd.DataFrame:
    """All households on each as-of date, with the reason why one is not in the cohort.

    Parameters
    ----------
    tables, as_of_dates, cohort, households
        As in `build_prediction_points`.
    engine
        ``"arrays"``, or ``"sql"``: the same by queries, slowly; the plain twin.

    Returns
    -------
    DataFrame
        As `build_prediction_points`, plus ``exclusion``: the reason of the first condition that the
        household fails, missing for members of the cohort.
    """
    dates = parse_as_of_dates(as_of_dates)
    if isinstance(households, str):
        households = [households]
    ids = tables.households if households is None else np.unique(np.asarray(list(households), str))
    index = pd.MultiIndex.from_arrays(
        [np.tile(ids.astype(object), len(dates)), dates.repeat(len(ids))],
        names=["household_id", "as_of_date"],
    )
    exclusion = pd.Series(find_exclusions(tables, index, cohort, engine=engine), index, "str")
    return find_groups(tables, index, engine=engine).assign(exclusion=exclusion)


def find_exclusions(
    tables: HistoryTables,
    index: pd.MultiIndex,
    cohort: str | None = None,
    *,
    engine: Engine = "arrays",
) -> np.ndarray:
    """Reason of the first condition that each point fails, None for members of the cohort.

    Parameters
    ----------
    tables, cohort, engine
        As in `review_cohort`.
    index
        (household_id, as_of_date).
    """
    conditions = find_conditions(tables.schema, cohort)
    check_tables(tables, conditions)
    present = [item for item in conditions if item.table in tables]
    decided: Iterable[np.ndarray]
    if engine == "sql":
        from poverty_risk.cohort_queries import query_conditions  # noqa: PLC0415 - imports Ibis

        decided = query_conditions(tables, index, present, NO_RECORD)
    else:
        decided = _decide(tables, index, present)
    exclusion = np.full(len(index), None, dtype=object)
    for item, met in zip(present, decided, strict=True):
        # A record whose condition cannot be decided counts as not met.
        failed = np.where(met == NO_RECORD, item.if_absent == "drop", met != 1.0)
        exclusion[failed & pd.isna(exclusion)] = item.reason
    return exclusion


def _decide(
    tables: HistoryTables, index: pd.MultiIndex, conditions: Sequence[Condition]
) -> np.ndarray:
    """Whether each condition is met at each point: 1, 0, NaN (not known) or `NO_RECORD`."""
    decided = np.full((len(conditions), len(index)), NO_RECORD)
    for chunk in cut_points(tables, index):
        for number, item in enumerate(conditions):
            decided[number, chunk.points] = _decide_chunk(chunk, item)
    return decided


def _decide_chunk(chunk: PointChunk, condition: Condition) -> np.ndarray:
    lookback = Lookback(None) if condition.within is None else Lookback.parse(condition.within)
    latest, place = ("household_id",), f"cohort condition '{condition.reason}'"
    met, count = chunk.aggregate(
        condition.table,
        [
            Aggregate("last", lookback, condition.where, latest_per=latest, place=place),
            Aggregate("count", lookback, latest_per=latest, place=place),
        ],
    )
    return np.where(count == 0, NO_RECORD, met)


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
            "Bring the table (read all of them, not columns alone), or declare a cohort without it.",
        )
        for item in conditions
        if item.table not in tables and item.if_absent == "drop"
    ]
    if faults:
        raise HistoryError(faults)


def find_groups(
    tables: HistoryTables, index: pd.MultiIndex, *, engine: Engine = "arrays"
) -> pd.DataFrame:
    """Township, village or other declared group of each point, as known at its as-of date.

    Parameters
    ----------
    tables
        The history.
    index
        (household_id, as_of_date).
    engine
        As in `review_cohort`.

    Returns
    -------
    DataFrame
        One string column ``<group>_id`` per declared group, missing where unknown.
    """
    if engine == "sql":
        from poverty_risk.cohort_queries import query_groups  # noqa: PLC0415 - imports Ibis

        found = query_groups(tables, index)
    else:
        found = {name: np.full(len(index), None, dtype=object) for name in tables.schema.groups}
        for chunk in cut_points(tables, index):
            for name, values in found.items():
                places, words = chunk.find_group(name)
                # The last one is that of an unknown group.
                values[chunk.points] = np.array([*words, None], dtype=object)[places]
    columns = {f"{name}_id": pd.Series(values, index, "str") for name, values in found.items()}
    return pd.DataFrame(columns, index=index)
