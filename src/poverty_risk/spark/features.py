"""The catalogue's aggregates at prediction points, computed by Spark's SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.features.queries import query_features
from poverty_risk.features.spec import ZERO_WHEN_EMPTY, FeatureSpec
from poverty_risk.spark.queries import ENTITY, VIEW, rewrite
from poverty_risk.spark.records import SparkHistory, entity_of, open_tables, viewed
from poverty_risk.spark.session import import_ibis_dialect, needed_settings, spread, start_session
from poverty_risk.tables import HistoryTables

__all__ = ["compute_features", "query_beside"]


def query_beside(
    session: Any,
    history: SparkHistory,
    points: Any,
    queries: Mapping[str, str],
    *,
    beside: Any = None,
) -> Any:
    """The columns of queries beside their points; a Spark frame, of which nothing is computed yet.

    Parameters
    ----------
    session
        The Spark session.
    history
        The records.
    points
        Spark frame of points, one per household, with the columns that `engine.POINTS` declares.
    queries
        Rewritten SQL, by names that begin with the table that is read.
    beside
        Frame with the same households, or more of them; `points` by default.
    """
    # In one statement: joined one after the other, Spark would look at all of the plan again each time.
    columns, joins = ["beside.*"], []
    for number, (name, query) in enumerate(queries.items()):
        # A household is its own point; grouped by it, its row is where its other rows are.
        entity = entity_of(history.schema, name.split()[0])
        key = ENTITY if entity == "household_id" else "point"
        columns.append(f"q{number}.* EXCEPT (point, {ENTITY})")
        joins.append(f"LEFT JOIN ({query}) AS q{number} ON beside.household_id = q{number}.{key}")
    view = VIEW.format("beside")
    text = f"SELECT {', '.join(columns)} FROM {view} AS beside {' '.join(joins)}"
    frames = {"points": points, "beside": points if beside is None else beside, **history.records}
    with viewed(frames):
        return session.sql(text)


def compute_features(
    tables: HistoryTables,
    index: pd.MultiIndex,
    specs: Sequence[FeatureSpec],
    *,
    known: bool = False,
    **options: Any,
) -> dict[str, np.ndarray]:
    """`queries.query_features` on Spark."""
    dialect = import_ibis_dialect()
    options |= {"known": known, "dialect": dialect, "run": run_on_spark}
    found = query_features(tables, index, specs, **options)
    if not known:
        # Ibis counts on Spark by a sum, and the sum of nothing is missing.
        for spec in specs:
            if spec.aggregator in ZERO_WHEN_EMPTY:
                found[spec.name] = np.nan_to_num(found[spec.name])
    return found


def run_on_spark(
    tables: HistoryTables,
    points: pa.Table,
    queries: Mapping[str, str],
    *,
    threads: int = 0,  # noqa: ARG001 - of the same kind as `run_in_chunks`
    on_chunk: Callable[[int], None] | None = None,
) -> dict[str, pa.Table]:
    """`engine.run_in_chunks` on Spark, in one go.

    Parameters
    ----------
    tables
        The history, which is sent to Spark.
    points
        From `engine.make_points`.
    queries
        SQL by name in Ibis's dialect for Spark.
    threads
        Not read: Spark knows how many it has.
    on_chunk
        Called at the end with the number of points.

    Returns
    -------
    dict
        The rows of each query.
    """
    if not queries or not points.num_rows:
        return {}
    session = start_session()
    with needed_settings(session):
        spread(session, len(tables.households))
        history = open_tables(session, tables)
        with viewed({"points": session.createDataFrame(points), **history.records}):
            found = {
                name: session.sql(rewrite(query)).drop(ENTITY).toArrow()
                for name, query in queries.items()
            }
    if on_chunk is not None:
        on_chunk(points.num_rows)
    return found
