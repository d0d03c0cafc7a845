"""The office's year: train (and register), compare with the champion, promote."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from poverty_risk.config import Config, Period
from poverty_risk.datasets import SimulatedCounty
from poverty_risk.file_lock import hold_lock
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking.versions import RegisteredVersion, find_registered
from poverty_risk.windows import Horizon, label_known_by
from poverty_risk.workflows.chain import FOLDER, Chain, CycleResult, check_tracked
from poverty_risk.workflows.promotion import find_champion, load_version, promote
from poverty_risk.workflows.reports import write_reports
from poverty_risk.workflows.step_log import Done, StepRecord
from poverty_risk.workflows.training import (
    evaluate_models,
    log_result,
    read_tables,
    train_task,
    write_evaluation,
)
from poverty_risk.workflows.visits import keep_similar

__all__ = ["move_periods", "run_year"]

NOBODY = "none"
"""Said in place of a champion's version where no version has the alias."""


def run_year(
    config: Config,
    *,
    who: str,
    why: str,
    on_step: Callable[[StepRecord], None] = lambda _: None,
) -> CycleResult:
    """Train on the newest outcomes, register, compare with the champion, promote under conditions.

    Parameters
    ----------
    config
        The run. With ``cycle.move_periods`` its training and test dates move on by whole years, as far
        as outcomes are known.
    who, why
        Who answers for the promotion, and why now.
    on_step
        Called with each step that is done.

    Returns
    -------
    CycleResult
        The steps. A refused challenger stays registered; the champion stays champion.

    Raises
    ------
    PovertyRiskError
        A step failed, or another cycle is at work; the steps before it are kept.
    """
    check_tracked(config)
    with hold_lock(config.output / FOLDER / "year", "the yearly cycle", longest_wait=1.0):
        tables, county = read_tables(config)
        if config.cycle.move_periods:
            config = move_periods(config, tables)
        chain = Chain(config, "year", on_step)
        trained = chain.run("train", lambda: _train(config, tables, county), tables.fingerprint)
        version, rival = str(trained.figures["version"]), str(trained.figures["champion"])
        champion = find_champion(config)
        if champion is not None and champion.version != version:
            rival = champion.version  # somebody may have moved the alias since the training
        # The first model has nobody to be compared with, and was given the alias when it was logged:
        # unless the program was killed before that, or the config gives it another alias.
        if rival not in (version, NOBODY):
            chain.run("compare", lambda: _compare(config, tables, version, rival), rival)
        if rival != version:
            chain.run("promote", lambda: _promote(config, tables, version, who, why), rival)
        return CycleResult(tuple(chain.steps))


def move_periods(config: Config, tables: HistoryTables) -> Config:
    """The config with its dates moved on by whole years, as far as outcomes are known.

    Test dates move; training dates grow at their end, so that nothing learned is thrown away.

    Parameters
    ----------
    config
        The run.
    tables
        The history: how far it reaches.

    Returns
    -------
    Config
        With the latest periods of which the first task's outcomes are complete.
    """
    task, periods = next(iter(config.tasks.values())), config.periods
    horizon = Horizon.parse(task.horizon)
    lag = tables.schema.reporting_lag_days(task.label)
    years = 0
    while _known_by(periods.test.moved(years + 1), horizon, lag) <= tables.observed_to:
        years += 1
    grown = periods.train.model_copy(update={"last": periods.train.moved(years).last})
    moved = periods.model_copy(update={"train": grown, "test": periods.test.moved(years)})
    return config.model_copy(update={"periods": moved})


def _known_by(period: Period, horizon: Horizon, lag: int) -> pd.Timestamp:
    return label_known_by(period.dates()[-1:], horizon, lag)[0]


def _train(config: Config, tables: HistoryTables, county: SimulatedCounty | None) -> Done:
    name = next(iter(config.tasks))
    result = train_task(config, tables, name, county)
    reports = write_reports(config, result)
    keep_similar(config, result)
    store, registered = config.mlflow_folder, config.tracking.registered_name
    # Killed between the registration and our own note of it, the same training is there already.
    found = find_registered(registered, result.model.model_id_, store_folder=store)
    version = log_result(config, tables, result).version if found is None else found.version
    champion = find_champion(config)
    metrics = result.evaluation.metrics
    figures: dict[str, float | str | list[str]] = {
        "version": str(version),
        "champion": NOBODY if champion is None else champion.version,
        "points": len(result.data.train),
        "outcomes": int(result.data.train_labels.sum()),
        "auc": _read(metrics, "model", "auc"),
        "average_precision": _read(metrics, "model", "average_precision"),
    }
    return Done({"model": result.folder, **reports}, figures)


def _compare(config: Config, tables: HistoryTables, version: str, rival: str) -> Done:
    name = config.tracking.registered_name
    versions = {"challenger": version, "champion": rival}
    models = {
        key: load_version(config, RegisteredVersion(name, one)) for key, one in versions.items()
    }
    evaluation = evaluate_models(config, tables, models)
    folder = config.output / FOLDER / f"version_{version}_against_{rival}"
    write_evaluation(folder, evaluation)
    figures = {
        f"{measure} of the {key}": _read(evaluation.metrics, key, measure)
        for key in models
        for measure in ("auc", "average_precision")
    }
    return Done({"comparison": folder}, figures)


def _read(metrics: pd.DataFrame, row: str, measure: str) -> float:
    return round(float(metrics[measure][row]), 4)


def _promote(config: Config, tables: HistoryTables, version: str, who: str, why: str) -> Done:
    champion = find_champion(config)
    if champion is not None and champion.version == version:
        # Killed after the alias had moved: the record of the decision is in MLflow.
        return Done({}, {"outcome": "promoted", "champion": version})
    done = promote(config, tables, version, who=who, why=why)
    return Done(
        {},
        {
            "outcome": done.recorded.outcome,
            "champion": str(done.recorded.champion),
            "failed conditions": list(done.decision.failed),
        },
    )
