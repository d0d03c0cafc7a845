"""MLflow runs about a day of the office: metrics carry that day, so that runs side by side give a course."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.tracking.connection import (
    check_writable,
    find_experiment,
    open_store,
    resolve_uri,
    sqlite_file,
)

__all__ = ["log_dated_run"]


def log_dated_run(
    experiment: str,
    title: str,
    day: pd.Timestamp,
    *,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    texts: Mapping[str, str] | None = None,
    unique: str | None = None,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> str:
    """Log one run.

    Parameters
    ----------
    experiment
        Experiment; made when it is not there.
    title
        Name of the run.
    day
        Time of its metrics.
    tags, metrics
        What it says.
    texts
        Its artifacts, text by path.
    unique
        Tag that only one run has: a finished run with the same value is taken instead of a new one.
    tracking_uri, store_folder
        Where to, as in `log_training`.

    Returns
    -------
    str
        The run.

    Raises
    ------
    PovertyRiskError
        The store cannot be written, or MLflow refuses.
    """
    place = f"MLflow experiment '{experiment}'"
    uri = resolve_uri(tracking_uri, store_folder)
    if (database := sqlite_file(uri)) is not None:
        check_writable(database, place)
    time = int(day.tz_localize("UTC").timestamp() * 1000)
    with open_store(uri, place, PovertyRiskError) as mlflow:
        client = mlflow.MlflowClient()
        where = find_experiment(client, experiment, uri)
        if unique is not None:
            condition = f"tags.`{unique}` = '{tags[unique]}' and attributes.status = 'FINISHED'"
            if found := client.search_runs([where], condition, max_results=1):
                return str(found[0].info.run_id)
        run = client.create_run(where, tags=dict(tags), run_name=title)
        run_id = str(run.info.run_id)
        try:
            values = [mlflow.entities.Metric(k, v, time, 0) for k, v in metrics.items()]
            client.log_batch(run_id, metrics=values)
            for path, text in (texts or {}).items():
                client.log_text(run_id, text, path)
        except BaseException:
            # A store that is gone cannot be told; what went wrong first is what the caller must see.
            with contextlib.suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    return run_id
