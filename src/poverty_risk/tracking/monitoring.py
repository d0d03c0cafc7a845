"""Monitoring in MLflow: one run per date, with numbers and tables, and never a household."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pandas as pd

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.monitoring import MonitoringReport
from poverty_risk.tracking.record import PERSONAL
from poverty_risk.tracking.store import (
    check_writable,
    find_experiment,
    open_store,
    resolve_uri,
    sqlite_file,
)

__all__ = ["log_monitoring"]


def log_monitoring(
    report: MonitoringReport,
    experiment: str = "poverty-risk-monitoring",
    *,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> str:
    """Log a monitoring report to MLflow, one run per report.

    Parameters
    ----------
    report
        From `run_monitoring`.
    experiment
        Experiment; made when it is not there.
    tracking_uri, store_folder
        Where to, as in `log_training`.

    Returns
    -------
    str
        The run: its metrics ``monitoring.<code>.<number>`` and ``monitoring.<outcome>``, with the day
        of the report as their time, so that runs side by side give a course; its tags the outcome of
        each check; its artifacts the tables.

    Raises
    ------
    PovertyRiskError
        A table has ids of households, the store cannot be written, or MLflow refuses.
    """
    place = f"MLflow experiment '{experiment}'"
    tables = {"checks": report.to_table("en")} | dict(report.details)
    _check_no_ids(tables)
    uri = resolve_uri(tracking_uri, store_folder)
    if (database := sqlite_file(uri)) is not None:
        check_writable(database, place)
    day = int(report.as_of_date.tz_localize("UTC").timestamp() * 1000)
    tags = {"as_of_date": str(report.as_of_date.date()), "model_id": report.model_id}
    tags |= {one.code: one.outcome for one in report.results}
    with open_store(uri, place, PovertyRiskError) as mlflow:
        client = mlflow.MlflowClient()
        run = client.create_run(
            find_experiment(client, experiment, uri),
            tags=tags,
            run_name=f"monitoring {tags['as_of_date']} {report.model_id}",
        )
        run_id = str(run.info.run_id)
        try:
            metrics = [
                mlflow.entities.Metric(name, value, day, 0)
                for name, value in report.metrics.items()
            ]
            client.log_batch(run_id, metrics=metrics)
            for name, table in tables.items():
                client.log_text(run_id, table.to_csv(), f"monitoring/{name}.csv")
        except BaseException:
            # A store that is gone cannot be told; what went wrong first is what the caller must see.
            with contextlib.suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    return run_id


def _check_no_ids(tables: dict[str, pd.DataFrame]) -> None:
    faults = [
        Fault(
            f"table '{name}'", f"ids ({', '.join(found)})", "figures about groups", "Aggregate it."
        )
        for name, table in tables.items()
        if (found := sorted(PERSONAL & {str(c) for c in [*table.columns, *table.index.names]}))
    ]
    if faults:
        raise PovertyRiskError(faults)
