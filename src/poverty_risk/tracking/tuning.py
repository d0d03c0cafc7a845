"""Searches and comparisons in MLflow: a run for each search, one nested in it for each trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.selection import CandidateComparison
from poverty_risk.tracking.connection import (
    check_writable,
    find_experiment,
    open_store,
    resolve_uri,
    sqlite_file,
)
from poverty_risk.tuning import Trial, TuningResult

__all__ = ["SearchLog", "log_comparison", "open_search_log"]

PARENT = "mlflow.parentRunId"


class SearchLog:
    """The run of a search, to which trials are added as they come.

    Parameters
    ----------
    client
        Of MLflow, inside its opened store.
    experiment_id, run_id
        Experiment and run of the search.
    objective
        What trials are judged by.
    """

    def __init__(self, client: Any, experiment_id: str, run_id: str, objective: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.run_id = run_id
        self.objective = objective
        nested = find_runs(client, experiment_id, f"tags.`{PARENT}` = '{run_id}'")
        # One that a killed program left running lacks some of its values.
        self.logged = {
            int(run.data.tags["trial"]) for run in nested if run.info.status == "FINISHED"
        }

    def log_trial(self, trial: Trial) -> None:
        """Log a trial as a nested run, unless an earlier part of the search did."""
        if trial.number in self.logged:
            return
        tags = {PARENT: self.run_id, "trial": str(trial.number), "state": trial.state}
        run = self.client.create_run(
            self.experiment_id, tags=tags, run_name=f"trial {trial.number}"
        )
        with fail_with(self.client, run.info.run_id):
            for name, value in trial.parameters.items():
                self.client.log_param(run.info.run_id, name, value)
            for step, (period, value) in enumerate(trial.by_period.items()):
                day = int(period.tz_localize("UTC").timestamp() * 1000)
                self.client.log_metric(run.info.run_id, self.objective, value, day, step)
            self.client.log_metric(run.info.run_id, f"mean_{self.objective}", trial.value)
        self.client.set_terminated(run.info.run_id)
        self.logged.add(trial.number)

    def log_result(self, result: TuningResult) -> None:
        """Log what the whole search found."""
        for name, value in result.parameters.items():
            # As tags, because a longer search may find others and parameters cannot change.
            self.client.set_tag(self.run_id, f"best.{name}", str(value))
        found = {"best": result.value, "base": result.base_value}
        found |= {f"last_{name}": float(value) for name, value in result.last.items()}
        for name, value in found.items():
            self.client.log_metric(self.run_id, f"{self.objective}.{name}", value)
        self.client.log_text(self.run_id, result.trials.to_csv(), "tuning/trials.csv")


@contextlib.contextmanager
def open_search_log(
    search: str,
    objective: str,
    experiment: str = "poverty-risk-tuning",
    *,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> Iterator[SearchLog]:
    """Open the MLflow run of a search: a new one, or that of its earlier, interrupted part.

    Parameters
    ----------
    search
        What the search is known by (`poverty_risk.tuning.name_search`).
    objective
        What trials are judged by.
    experiment
        Experiment; made when it is not there.
    tracking_uri, store_folder
        Where to, as in `log_training`.

    Yields
    ------
    SearchLog
        Takes trials and the result. The run is marked as failed when an error comes through.

    Raises
    ------
    PovertyRiskError
        The store cannot be written, or MLflow refuses.
    """
    with _open(experiment, tracking_uri, store_folder) as (client, experiment_id):
        found = find_runs(client, experiment_id, f"tags.search = '{search}'")
        if found:
            run_id = str(found[0].info.run_id)
            client.update_run(run_id, status="RUNNING")
        else:
            tags = {"search": search, "objective": objective}
            created = client.create_run(experiment_id, tags=tags, run_name=f"tuning {search}")
            run_id = str(created.info.run_id)
        with fail_with(client, run_id):
            yield SearchLog(client, experiment_id, run_id, objective)
        client.set_terminated(run_id)


def log_comparison(
    comparison: CandidateComparison,
    over_time: pd.DataFrame,
    candidates: Mapping[str, Any],
    experiment: str = "poverty-risk-tuning",
    *,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> str:
    """Log a comparison of candidates as one run.

    Parameters
    ----------
    comparison
        From `compare_candidates`.
    over_time
        From `evaluate_over_time`.
    candidates
        What was compared, as plain values.
    experiment
        Experiment; made when it is not there.
    tracking_uri, store_folder
        Where to, as in `log_training`.

    Returns
    -------
    str
        The run: mean regret and rank of each candidate as metrics, the tables as artifacts.

    Raises
    ------
    PovertyRiskError
        The store cannot be written, or MLflow refuses.
    """
    with _open(experiment, tracking_uri, store_folder) as (client, experiment_id):
        tags = {name: getattr(comparison, name) for name in ("objective", "reference", "chosen")}
        run = client.create_run(experiment_id, tags=tags, run_name=f"compare {comparison.chosen}")
        run_id = str(run.info.run_id)
        with fail_with(client, run_id):
            for name, row in comparison.summary.iterrows():
                for measure in ("mean_regret", "mean_rank", "difference"):
                    client.log_metric(run_id, f"{measure}/{name}", float(row[measure]))
            client.log_dict(run_id, dict(candidates), "candidates.json")
            tables = {name: getattr(comparison, name) for name in ("summary", "periods", "last")}
            for name, table in (tables | {"over_time": over_time}).items():
                client.log_text(run_id, table.to_csv(), f"comparison/{name}.csv")
        client.set_terminated(run_id)
    return run_id


@contextlib.contextmanager
def _open(
    experiment: str, tracking_uri: str | None, store_folder: str | Path | None
) -> Iterator[tuple[Any, str]]:
    place = f"MLflow experiment '{experiment}'"
    uri = resolve_uri(tracking_uri, store_folder)
    if (database := sqlite_file(uri)) is not None:
        check_writable(database, place)
    with open_store(uri, place, PovertyRiskError) as mlflow:
        client = mlflow.MlflowClient()
        yield client, find_experiment(client, experiment, uri)


def find_runs(client: Any, experiment_id: str, condition: str) -> list[Any]:
    """All runs of an experiment that meet a condition."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


@contextlib.contextmanager
def fail_with(client: Any, run_id: str) -> Iterator[None]:
    """Mark a run as failed when an error comes through."""
    try:
        yield
    except BaseException:
        # A store that is gone cannot be told; what went wrong first is what the caller must see.
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, "FAILED")
        raise
