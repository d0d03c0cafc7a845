"""Watch a model on a date: tables, a report in both languages, MLflow, and what a scheduler is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.config import Config
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.monitoring import MonitoringReport, MonitoringSettings, run_monitoring
from poverty_risk.predict import predict_risk, task_of
from poverty_risk.report.monitoring_report import write_monitoring_report
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking.monitoring import log_monitoring
from poverty_risk.windows import Horizon, label_known_by
from poverty_risk.workflows.office import read_visit_lists
from poverty_risk.workflows.scoring import latest_date

__all__ = ["MonitoredRound", "find_earlier_dates", "learned_to", "monitor"]

ROUNDS = 8
"""Earlier rounds that are looked at, a quarter of a year apart."""

STEP_MONTHS = 3


@dataclass(frozen=True)
class MonitoredRound:
    """A watched round.

    Parameters
    ----------
    report
        What was found.
    paths
        ``table_zh``, ``table_en``, ``report_zh``, ``report_en``, and one CSV per detail.
    run_id
        MLflow run; None when tracking is off.
    """

    report: MonitoringReport
    paths: Mapping[str, Path]
    run_id: str | None

    @property
    def exit_code(self) -> int:
        """0, or 1 when a check raised an issue."""
        return self.report.exit_code


def monitor(
    config: Config,
    tables: HistoryTables,
    model: RiskModel | str | Path,
    *,
    settings: MonitoringSettings | None = None,
    earlier_answers: Mapping[Any, pd.DataFrame] | None = None,
    visit_lists: Mapping[Any, pd.DataFrame] | None = None,
) -> MonitoredRound:
    """Watch a model at the config's date, and write down what was found.

    Parameters
    ----------
    config
        The run.
    tables
        The history.
    model
        The model that is in use.
    settings
        Limits; the config's by default.
    earlier_answers
        Answers of earlier rounds by date. Without them, earlier dates are scored again from what was
        known then; those on which the model learned are left out.
    visit_lists
        Past visit lists by date; by default those that this output folder remembers.

    Returns
    -------
    MonitoredRound
        Report, files and exit code.
    """
    settings = config.monitoring if settings is None else settings
    loaded, as_of = load_model(model), latest_date(config, tables)
    if earlier_answers is None:
        earlier_answers = {
            date: predict_risk(tables, as_of_date=date, model=loaded, explain=False)
            for date in find_earlier_dates(loaded, tables, as_of)
        }
    report = run_monitoring(
        loaded,
        tables,
        as_of,
        earlier_answers=earlier_answers,
        visit_lists=read_visit_lists(config) if visit_lists is None else visit_lists,
        settings=settings,
    )
    paths = _write(config.output / "monitoring", report, loaded, settings)
    run_id = None
    if config.tracking.enabled:
        run_id = log_monitoring(
            report,
            f"{config.tracking.experiment}-monitoring",
            store_folder=config.mlflow_folder,
        )
    return MonitoredRound(report, paths, run_id)


def find_earlier_dates(
    model: RiskModel, tables: HistoryTables, as_of: pd.Timestamp
) -> list[pd.Timestamp]:
    """Dates of earlier rounds that the model has not learned from.

    Parameters
    ----------
    model
        A fitted model; its training says which dates and outcomes it has seen.
    tables
        The history.
    as_of
        The round that is watched.

    Returns
    -------
    list
        Oldest first, a quarter of a year apart, at most as many as two years hold; only dates from
        which on the outcomes of training were complete.
    """
    clean = learned_to(model)
    dates = [as_of - pd.DateOffset(months=STEP_MONTHS * k) for k in range(1, ROUNDS + 1)]
    return sorted(
        date for date in dates if (clean is None or date >= clean) and date <= tables.observed_to
    )


def learned_to(model: RiskModel) -> pd.Timestamp | None:
    """The last date of training, plus horizon and reporting lag; None for one without dates."""
    task = task_of(model)
    lasts = [
        one["last"] for one in model.training_.values() if isinstance(one, dict) and "last" in one
    ]
    if not lasts:
        return None
    last = pd.DatetimeIndex([max(map(pd.Timestamp, lasts))])
    lag = task.schema.reporting_lag_days(task.label)
    return label_known_by(last, Horizon.parse(task.horizon), lag)[0]


def _write(
    folder: Path, report: MonitoringReport, model: RiskModel, settings: MonitoringSettings | None
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    day, paths = str(report.as_of_date.date()), {}
    for locale in ("zh", "en"):
        table = report.to_table(locale).drop(columns="outcome")
        titles = {name: report.catalog.columns[name][locale] for name in table.columns}
        path = folder / f"checks_{day}_{locale}.csv"
        # With a byte-order mark, for spreadsheets.
        path.write_text(table.rename(columns=titles).to_csv(index=False), encoding="utf-8-sig")
        paths[f"table_{locale}"] = path
        paths[f"report_{locale}"] = write_monitoring_report(
            report,
            model,
            folder / f"monitoring_{day}_{locale}.html",
            locale=locale,
            settings=settings,
        )
    for name, table in report.details.items():
        paths[name] = folder / f"{name}_{day}.csv"
        table.to_csv(paths[name])
    return paths
