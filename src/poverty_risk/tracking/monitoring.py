"""Monitoring in MLflow: one run per date, with numbers and tables, and never a household."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.monitoring import MonitoringReport
from poverty_risk.tracking.dated_runs import log_dated_run
from poverty_risk.tracking.record import PERSONAL

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
    tables = {"checks": report.to_table("en")} | dict(report.details)
    _check_no_ids(tables)
    tags = {"as_of_date": str(report.as_of_date.date()), "model_id": report.model_id}
    tags |= {one.code: one.outcome for one in report.results}
    return log_dated_run(
        experiment,
        f"monitoring {tags['as_of_date']} {report.model_id}",
        report.as_of_date,
        tags=tags,
        metrics=report.metrics,
        texts={f"monitoring/{name}.csv": table.to_csv() for name, table in tables.items()},
        tracking_uri=tracking_uri,
        store_folder=store_folder,
    )


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
