"""The office's month: import, check, monitor, score, lists, track."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from poverty_risk.config import Config
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.file_lock import hold_lock
from poverty_risk.model import RiskModel
from poverty_risk.monitoring.catalog import load_monitoring_catalog
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking.rounds import log_round
from poverty_risk.workflows.chain import FOLDER, Chain, CycleResult, check_tracked
from poverty_risk.workflows.checks import check_history
from poverty_risk.workflows.imports import import_history
from poverty_risk.workflows.monitoring import monitor
from poverty_risk.workflows.privacy import record_export
from poverty_risk.workflows.promotion import find_champion, load_version
from poverty_risk.workflows.rounds import make_round
from poverty_risk.workflows.scoring import latest_date, score_latest
from poverty_risk.workflows.step_log import Done, StepRecord, digest_paths, digest_texts
from poverty_risk.workflows.training import read_tables

__all__ = ["run_month"]


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
    check_tracked(config)
    _check_codes(accepted)
    with hold_lock(config.output / FOLDER / "month", "the monthly cycle", longest_wait=1.0):
        chain = Chain(config, "month", on_step)
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


def _load_champion(config: Config) -> RiskModel:
    found = find_champion(config)
    if found is None:
        expected = f"a version with alias '{config.promotion.alias}'"
        remedy = "Train and register a model first (`poverty-risk cycle --yearly`)."
        raise DeclarationError(
            Fault(f"'{config.tracking.registered_name}'", "no champion", expected, remedy)
        )
    return load_version(config, found)


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
        store_folder=config.mlflow_folder,
    )
    return Done({}, {"run": run_id})
