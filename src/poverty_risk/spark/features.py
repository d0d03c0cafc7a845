"""The catalogue's aggregates at prediction points, computed by Spark's SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.features.queries import query_features
from poverty_risk.features.spec import FeatureSpec
from poverty_risk.spark.queries import ENTITY, rewrite
from poverty_risk.spark.records import SparkHistory, open_tables, viewed
from poverty_risk.spark.session import import_ibis_dialect, needed_settings, start_session
from poverty_risk.tables import HistoryTables

__all__ = ["compute_features", "query_points"]


def query_points(
    session: Any, history: SparkHistory, points: Any, queries: Mapping[str, str]
) -> dict[str, Any]:
    """Spark frames of queries over the records of points, by name; nothing is computed yet.

    Parameters
    ----------
    session
        The Spark session.
    history
        The records.
    points
        Spark frame of points, with the columns that `engine.POINTS` declares.
    queries
        SQL in Ibis's dialect for Spark.
    """
    with viewed({"points": points, **history.records}):
        return {name: session.sql(rewrite(query)) for name, query in queries.items()}


def compute_features(
    tables: HistoryTables, index: pd.MultiIndex, specs: Sequence[FeatureSpec], **options: Any
) -> dict[str, np.ndarray]:
    """`queries.query_features` on Spark."""
    dialect = import_ibis_dialect()
    return query_features(tables, index, specs, dialect=dialect, run=run_on_spark, **options)


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
        history = open_tables(session, tables)
        frames = query_points(session, history, session.createDataFrame(points), queries)
        found = {name: frame.drop(ENTITY).toArrow() for name, frame in frames.items()}
    if on_chunk is not None:
        on_chunk(points.num_rows)
    return found
