"""The office's year: a chain of steps each month, another each year, that can be killed at any point.

Month: import, check, monitor, score, lists, track. Year: train (and register), compare, promote. Each step
depends on the digest of the one before; what is done and unchanged is not done again (`step_log`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd

from poverty_risk.cohort import build_prediction_points
from poverty_risk.config import Config, Period
from poverty_risk.datasets import SimulatedCounty
from poverty_risk.evaluation import evaluate_risk
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.features import build_features
from poverty_risk.file_lock import hold_lock
from poverty_risk.labels import label_returns
from poverty_risk.model import RiskModel
from poverty_risk.monitoring.catalog import load_monitoring_catalog
from poverty_risk.predict import load_model, task_of
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking import download_model_folder
from poverty_risk.tracking.rounds import log_round
from poverty_risk.tracking.versions import RegisteredVersion, find_registered, find_version
from poverty_risk.windows import Horizon, label_known_by
from poverty_risk.workflows.checks import check_history
from poverty_risk.workflows.imports import import_history
from poverty_risk.workflows.monitoring import monitor
from poverty_risk.workflows.privacy import record_export
from poverty_risk.workflows.promotion import promote
from poverty_risk.workflows.reports import write_reports
from poverty_risk.workflows.rounds import make_round
from poverty_risk.workflows.scoring import latest_date, score_latest
from poverty_risk.workflows.step_log import (
    Done,
    StepLog,
    StepRecord,
    digest_paths,
    digest_texts,
    find_named_files,
)
from poverty_risk.workflows.training import (
    log_result,
    read_tables,
    train_task,
    write_evaluation,
)
from poverty_risk.workflows.visits import keep_similar

__all__ = ["CycleResult", "move_periods", "run_month", "run_year"]

FOLDER = "cycle"
NOBODY = "none"
"""Said in place of a champion's version where no version has the alias."""


@dataclass(frozen=True)
class CycleResult:
    """What a chain did.

    Parameters
    ----------
    steps
        Its steps in their order, as far as it came; `StepRecord.kept` where nothing was to be done.
    stopped_by
        Codes of monitoring that keep lists from being made; empty when the chain came to its end.
    """

    steps: tuple[StepRecord, ...]
    stopped_by: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0; 1 where somebody has to decide: monitoring raised an issue, or a challenger was refused."""
        figures = {step.name: step.figures for step in self.steps}
        issues = figures.get("monitor", {}).get("issues")
        refused = figures.get("promote", {}).get("outcome") == "refused"
        failed = figures.get("import", {}).get("failed", 0)
        return int(bool(issues) or refused or bool(failed))


class _Chain:
    """Runs steps one after another, each on the digest of the one before."""

    def __init__(self, config: Config, name: str, on_step: Callable[[StepRecord], None]) -> None:
        self._log = StepLog(config.output / FOLDER / f"{name}.json", config.output)
        self._on_step = on_step
        content = config.model_dump(mode="json", exclude={"cycle"})
        self.last = digest_texts(
            name,
            metadata.version("poverty-risk"),
            json.dumps(content, sort_keys=True),
            digest_paths(find_named_files(content)),
        )
        self.steps: list[StepRecord] = []

    def run(self, name: str, work: Callable[[], Done], *inputs: str) -> StepRecord:
        record = self._log.run(name, digest_texts(self.last, *inputs), work)
        self.last = record.digest()
        self.steps.append(record)
        self._on_step(record)
        return record


def run_month(
    config: Config,
    *,
    accepted: Iterable[str] = (),
    on_step: Callable[[StepRecord], None] = lambda _: None,
) -> CycleResult:
    """Import what came, check it, watch the model, score everybody, write the lists, track the round.

    Parameters
    ----------
    config
        The run. ``cycle.sources`` is imported into ``cycle.store`` and ``history.folder``; without
        sources the history is taken as it is.
    accepted
        Codes of monitoring whose issues somebody has looked at: they do not keep lists from being made.
    on_step
        Called with each step that is done.

    Returns
    -------
    CycleResult
        The steps, and which codes stopped it before the lists.

    Raises
    ------
    PovertyRiskError
        A step failed, or another cycle is at work; the steps before it are kept.

    Notes
    -----
    Killed and started again it goes on with the step that was not done. The same files, config and
    champion do nothing at all. The lists wait when a code of ``cycle.stop_at`` raises an issue: lists
    on broken records cost visits.
    """
    settings, accepted = config.cycle, set(accepted)
    _check_tracked(config)
    _check_codes(accepted)
    with hold_lock(config.output / FOLDER / "month", "the monthly cycle", longest_wait=1.0):
        chain = _Chain(config, "month", on_step)
        if settings.sources:
            sources = list(settings.sources)
            chain.run("import", lambda: _import(config, sources), digest_paths(sources))
        elif config.history.folder is not None:
            chain.last = digest_texts(chain.last, digest_paths([config.history.folder]))
        tables = functools.cache(lambda: read_tables(config)[0])
        model = _load_champion(config)
        chain.run("check", lambda: _check(config, tables()))
        watched = chain.run("monitor", lambda: _monitor(config, tables(), model), model.model_id_)
        issues = watched.figures["issues"]
        assert isinstance(issues, list)
        stopping = sorted(set(issues) & set(settings.stop_at) - accepted)
        if stopping:
            return CycleResult(tuple(chain.steps), tuple(stopping))
        chain.run("score", lambda: _score(config, tables(), model))
        chain.run("lists", lambda: _list(config, tables(), model))
        digest = chain.last
        chain.run("track", lambda: _track(config, tables(), model, chain.steps, digest))
        return CycleResult(tuple(chain.steps))


def _check_codes(accepted: set[str]) -> None:
    known = load_monitoring_catalog().checks
    if unknown := sorted(accepted - set(known)):
        expected = f"codes of monitoring, {min(known)} to {max(known)}"
        raise DeclarationError(
            Fault("accepted issues", ", ".join(unknown), expected, "Correct the code.")
        )


def _check_tracked(config: Config) -> None:
    if not config.tracking.enabled:
        remedy = "Set `tracking.enabled`: which model is in use is written there."
        raise DeclarationError(Fault("tracking", "switched off", "MLflow", remedy))


def _load_champion(config: Config) -> RiskModel:
    found = _find_champion(config)
    if found is None:
        expected = f"a version with alias '{config.promotion.alias}'"
        remedy = "Train and register a model first (`poverty-risk cycle --yearly`)."
        raise DeclarationError(
            Fault(f"'{config.tracking.registered_name}'", "no champion", expected, remedy)
        )
    return _load(config, found)


def _find_champion(config: Config) -> RegisteredVersion | None:
    return find_version(
        config.tracking.registered_name,
        config.promotion.alias,
        store_folder=config.output / "mlflow",
    )


def _load(config: Config, version: RegisteredVersion) -> RiskModel:
    return load_model(download_model_folder(version.uri, store_folder=config.output / "mlflow"))


def _import(config: Config, sources: list[Path]) -> Done:
    assert config.history.folder is not None
    done = import_history(config, sources, store=config.cycle.store, folder=config.history.folder)
    counts = done.report.counts
    return Done(
        {"history": done.folder},
        {
            "read": counts.read,
            "accepted": counts.accepted,
            "rejected": counts.rejected,
            "failed": sum(item.status == "failed" for item in done.report.files),
        },
    )


def _check(config: Config, tables: HistoryTables) -> Done:
    found = check_history(tables, output=config.output, locale=config.scoring.locale)
    workbook, findings = found.paths["workbook"], found.report.findings
    households = int(findings["household_id"].nunique())
    record_export(config, "check", reason="cycle", output=workbook, households=households)
    return Done(found.paths, {"findings": len(findings)})


def _monitor(config: Config, tables: HistoryTables, model: RiskModel) -> Done:
    found = monitor(config, tables, model)
    by_outcome: dict[str, list[str]] = {"issue": [], "tip": []}
    for one in found.report.results:
        by_outcome.setdefault(one.outcome, []).append(one.code)
    figures = {"issues": by_outcome["issue"], "tips": by_outcome["tip"]}
    return Done(found.paths, figures)


def _score(config: Config, tables: HistoryTables, model: RiskModel) -> Done:
    scored = score_latest(config, tables, model)
    answer, paths = scored.pop("answer"), scored
    record_export(
        config, "predict", reason="cycle", output=paths["priority"], households=len(answer)
    )
    return Done(paths, {str(k): int(n) for k, n in answer["status"].value_counts().items()})


def _list(config: Config, tables: HistoryTables, model: RiskModel) -> Done:
    made = make_round(config, tables, model, config.scoring.locale, reason="cycle")
    listed = made.visit_list
    expected = float(listed.summary["expected_returns"]["visit_list"])
    figures = {"visits": len(listed.visits), "reserve": len(listed.reserve)}
    # The lookup grows with every round; it is nothing that this step alone answers for.
    outputs = {name: path for name, path in made.paths.items() if name != "lookup"}
    return Done(outputs, {**figures, "expected_returns": round(expected, 1)})


def _track(
    config: Config, tables: HistoryTables, model: RiskModel, steps: list[StepRecord], digest: str
) -> Done:
    run_id = log_round(
        {step.name: step.figures for step in steps},
        as_of_date=latest_date(config, tables),
        model_id=model.model_id_,
        digest=digest,
        experiment=f"{config.tracking.experiment}-rounds",
        store_folder=config.output / "mlflow",
    )
    return Done({}, {"run": run_id})


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
    _check_tracked(config)
    with hold_lock(config.output / FOLDER / "year", "the yearly cycle", longest_wait=1.0):
        tables, county = read_tables(config)
        if config.cycle.move_periods:
            config = move_periods(config, tables)
        chain = _Chain(config, "year", on_step)
        trained = chain.run("train", lambda: _train(config, tables, county), tables.fingerprint)
        version, rival = str(trained.figures["version"]), str(trained.figures["champion"])
        champion = _find_champion(config)
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
    store, registered = config.output / "mlflow", config.tracking.registered_name
    # Killed between the registration and our own note of it, the same training is there already.
    found = find_registered(registered, result.model.model_id_, store_folder=store)
    version = log_result(config, tables, result).version if found is None else found.version
    champion = _find_champion(config)
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
    models = {
        "challenger": _load(config, RegisteredVersion(name, version)),
        "champion": _load(config, RegisteredVersion(name, rival)),
    }
    task = task_of(models["challenger"])
    points = build_prediction_points(tables, config.periods.test.dates(), task.cohort)
    labels = label_returns(tables, points, task.horizon, task.label).dropna()
    points, cluster = points.loc[labels.index], config.evaluation.cluster
    evaluation = evaluate_risk(
        labels,
        {
            key: model.risk(build_features(tables, points, model.catalog))
            for key, model in models.items()
        },
        clusters=None if cluster is None else points[cluster],
        budgets=config.evaluation.budgets,
        replicates=config.evaluation.replicates,
        seed=config.seed,
    )
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
    champion = _find_champion(config)
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
