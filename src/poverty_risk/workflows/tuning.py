"""Search for parameters, and compare candidates, on the past periods of a history."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.candidates import Candidates
from poverty_risk.config import Config, ModelSettings
from poverty_risk.declarations import parse_declaration, rewrite_section
from poverty_risk.panel import Panel, build_panel
from poverty_risk.search_space import SearchSpace
from poverty_risk.selection import CandidateComparison, compare_candidates, evaluate_over_time
from poverty_risk.tables import HistoryTables
from poverty_risk.task import PredictionTask
from poverty_risk.tracking.tuning import log_comparison, open_search_log
from poverty_risk.tuning import TuningResult, name_search, tune_model
from poverty_risk.workflows.training import load_features

__all__ = ["ComparedCandidates", "TunedModel", "compare", "tune", "write_tuned_config"]

STORAGE = "trials.db"


@dataclass(frozen=True)
class TunedModel:
    """A search that is over.

    Parameters
    ----------
    result
        What it found.
    paths
        ``trials`` (CSV), ``storage`` (SQLite, to go on from), ``config`` (the run config with the
        best parameters).
    """

    result: TuningResult
    paths: dict[str, Path]


@dataclass(frozen=True)
class ComparedCandidates:
    """A comparison that is over.

    Parameters
    ----------
    comparison
        Tables and choice.
    over_time
        The reference and the chosen candidate by year, by scheme and forward.
    paths
        ``summary``, ``periods``, ``last`` and ``over_time`` as CSV.
    run_id
        MLflow run; None when tracking is off.
    """

    comparison: CandidateComparison
    over_time: pd.DataFrame
    paths: dict[str, Path]
    run_id: str | None


def tune(
    config: Config,
    tables: HistoryTables,
    space: SearchSpace,
    config_path: str | Path,
    *,
    task: str | None = None,
) -> TunedModel:
    """Search for parameters of a task's model; write trials and the config with the best ones.

    Parameters
    ----------
    config
        The run.
    tables
        The history.
    space
        What is searched.
    config_path
        The file of the config, whose text the tuned one keeps.
    task
        Task of the config; the first by default.

    Returns
    -------
    TunedModel
        The result and where it is. Called again after an interruption, it goes on.

    Raises
    ------
    DeclarationError
        Periods, ranges or file do not fit.
    """
    name = task or next(iter(config.tasks))
    _check_values(config, {n: bounds.values or bounds.ends for n, bounds in space.model.items()})
    panel = _build_panel(config, tables, name, space.periods)
    folder = config.output / "tuning" / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.model.model_dump()
    with contextlib.ExitStack() as stack:
        log = None
        if config.tracking.enabled:
            search = name_search(panel, space, settings, config.seed)
            log = stack.enter_context(
                open_search_log(
                    search,
                    space.objective,
                    f"{config.tracking.experiment}-tuning",
                    store_folder=config.mlflow_folder,
                )
            )
        result = tune_model(
            panel,
            space,
            settings=settings,
            storage=folder / STORAGE,
            seed=config.seed,
            on_trial=None if log is None else log.log_trial,
        )
        if log is not None:
            log.log_result(result)
    result.trials.to_csv(folder / "trials.csv")
    tuned = folder / "tuned.yaml"
    write_tuned_config(config_path, result.parameters, tuned)
    paths = {"trials": folder / "trials.csv", "storage": folder / STORAGE, "config": tuned}
    return TunedModel(result, paths)


def compare(
    config: Config, tables: HistoryTables, declared: Candidates, *, task: str | None = None
) -> ComparedCandidates:
    """Compare candidates over past periods; write and log the tables.

    Parameters
    ----------
    config
        The run.
    tables
        The history.
    declared
        What is compared (`read_candidates`).
    task
        Task of the config; the first by default.

    Returns
    -------
    ComparedCandidates
        Tables, choice, and where they are.

    Raises
    ------
    DeclarationError
        Periods, parameters or cohorts that do not fit.
    """
    name = task or next(iter(config.tasks))
    candidates = {
        label: candidate.model_copy(
            update={"train_cohort": candidate.train_cohort or config.tasks[name].train_cohort}
        )
        for label, candidate in declared.candidates.items()
    }
    for candidate in candidates.values():
        _check_values(config, {n: (value,) for n, value in candidate.model.items()})
    dates = {
        label: _learning_dates(config, candidate.every) for label, candidate in candidates.items()
    }
    panel = _build_panel(
        config,
        tables,
        name,
        declared.periods,
        dates=sorted({day for days in dates.values() for day in days}),
        horizons=[h for candidate in candidates.values() for h in candidate.horizons],
        cohorts=[c.train_cohort for c in candidates.values() if c.train_cohort is not None],
        measured=any(candidate.graded for candidate in candidates.values()),
    )
    comparison = compare_candidates(
        panel,
        candidates,
        declared.reference,
        objective=declared.objective,
        settings=config.model.model_dump(),
        dates=dates,
        metrics=[f"recall_at_{budget:.12g}" for budget in config.evaluation.budgets],
        tie=declared.tie,
        replicates=config.evaluation.replicates,
        seed=config.seed,
    )
    told = {comparison.reference, comparison.chosen}
    margins = {key: margin for key, margin in comparison.margins.items() if key[0] in told}
    over_time = evaluate_over_time(panel, margins, schemes=declared.schemes)
    paths = _write_comparison(config.output / "comparison" / name, comparison, over_time)
    run_id = None
    if config.tracking.enabled:
        run_id = log_comparison(
            comparison,
            over_time,
            json.loads(declared.model_dump_json()),
            f"{config.tracking.experiment}-tuning",
            store_folder=config.mlflow_folder,
        )
    return ComparedCandidates(comparison, over_time, paths, run_id)


def _check_values(config: Config, values: Mapping[str, Iterable[Any]]) -> None:
    """Every value is one that a run config could have."""
    settings = config.model.model_dump()
    for name, tried in values.items():
        for value in tried:
            parse_declaration(ModelSettings, settings | {name: value}, "model")


def _learning_dates(config: Config, every: str | None) -> pd.DatetimeIndex:
    train = config.periods.train
    return (train if every is None else train.model_copy(update={"every": every})).dates()


def _build_panel(
    config: Config,
    tables: HistoryTables,
    name: str,
    periods: Iterable[Any],
    *,
    dates: Iterable[Any] | None = None,
    horizons: Iterable[str] = (),
    cohorts: Iterable[str] = (),
    measured: bool = False,
) -> Panel:
    task = config.tasks[name]
    line = None if tables.line is None else dict(tables.line)
    return build_panel(
        tables,
        PredictionTask(tables.schema, task.cohort, task.label, task.horizon, line),
        load_features(config),
        _learning_dates(config, None) if dates is None else dates,
        periods,
        horizons=horizons,
        cohorts=cohorts,
        cluster=config.evaluation.cluster,
        graded=task.graded,
        measured=measured,
    )


def _write_comparison(
    folder: Path, comparison: CandidateComparison, over_time: pd.DataFrame
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: getattr(comparison, name) for name in ("summary", "periods", "last")}
    paths = {}
    for name, table in (tables | {"over_time": over_time}).items():
        paths[name] = folder / f"{name}.csv"
        table.to_csv(paths[name])
    return paths


def write_tuned_config(
    source: str | Path, parameters: Mapping[str, Any], target: str | Path
) -> None:
    """Write a config with other parameters of its model, all else as it was, comments too.

    Parameters
    ----------
    source
        A run config.
    parameters
        Parameters of `RiskModel` and their new values.
    target
        Where to.

    Raises
    ------
    DeclarationError
        The config has no section ``model`` of its own.
    """
    text = Path(source).read_text(encoding="utf-8")
    text = rewrite_section(text, "model", parameters, Path(source).name)
    Path(target).write_text(text, encoding="utf-8")
