"""Search for parameters on past periods in order of time, with pruning, kept so that it can go on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from poverty_risk.candidates import Candidate, fit_candidate
from poverty_risk.exceptions import DeclarationError, Fault, PovertyRiskError
from poverty_risk.file_lock import hold_lock
from poverty_risk.panel import Panel
from poverty_risk.progress import track
from poverty_risk.ranking import Ranking
from poverty_risk.search_space import Range, SearchSpace, check_search_space

if TYPE_CHECKING:
    import optuna

__all__ = ["Trial", "TuningResult", "name_search", "tune_model"]

STUDY = "poverty-risk"
PLAN = "plan"
"""What a stored study was made for; another plan must not go on with it."""


@dataclass(frozen=True)
class Trial:
    """One trial that is over.

    Parameters
    ----------
    number
        From 0, in order.
    state
        ``complete`` or ``pruned``.
    parameters
        Values that were tried.
    by_period
        Objective on each period that was tested.
    """

    number: int
    state: Literal["complete", "pruned"]
    parameters: Mapping[str, Any]
    by_period: Mapping[pd.Timestamp, float]

    @property
    def value(self) -> float:
        """Mean objective over the periods tested."""
        return float(np.mean(list(self.by_period.values())))


@dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Parameters
    ----------
    parameters
        The best parameters.
    value
        Their mean objective over the earlier periods.
    base_value
        That of the parameters that the search started from.
    trials
        Index trial; state, value, one column per period (missing where pruned before it), and one per
        parameter.
    last
        Objective on the last period, which took no part: index ``best``, ``base``.
    """

    parameters: Mapping[str, Any]
    value: float
    base_value: float
    trials: pd.DataFrame
    last: pd.Series


def tune_model(
    panel: Panel,
    space: SearchSpace,
    *,
    settings: Mapping[str, Any] | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    on_trial: Callable[[Trial], None] | None = None,
) -> TuningResult:
    """Search for parameters of `RiskModel`, judged on the earlier periods in order of time.

    Each trial is fitted anew for every earlier period on what was known then (the window grows),
    tested there, and given up when its mean so far is under the median of earlier trials.

    Parameters
    ----------
    panel
        From `build_panel`; its periods are those tested on.
    space
        Ranges, objective and number of trials (`read_search_space`).
    settings
        Parameters of `RiskModel` that are not searched, and from which the search starts: they are
        the first trial as far as they lie in the ranges.
    storage
        SQLite file that keeps the trials. A search that was interrupted goes on there, with the
        trials that an uninterrupted one would have made; None keeps them in memory.
    seed
        Of models and search.
    on_trial
        Called with each trial when it is over, and first with those that the file holds.

    Returns
    -------
    TuningResult
        Best parameters, all trials, and the last period apart.

    Raises
    ------
    DeclarationError
        Parameters or metric that do not exist; a file that holds another search.
    PovertyRiskError
        Optuna is not installed, or another program is searching with this file.

    Notes
    -----
    Tree-structured Parzen estimator and median pruner of Optuna. The sampler is seeded anew by the
    number of trials that are over, so that a resumed search repeats exactly. The best of many trials
    looks better than it is: judge it by `compare_candidates` against the parameters in use.

    References
    ----------
    Akiba, T. et al. (2019). Optuna: A next-generation hyperparameter optimization framework.

    Examples
    --------
    >>> from poverty_risk import PredictionTask, build_panel, load_catalog
    >>> from poverty_risk import make_household_history, tune_model
    >>> from poverty_risk.search_space import SearchSpace
    >>> tables = make_household_history(300, start="2019-01-01", end="2023-01-01", seed=1).tables
    >>> task = PredictionTask(tables.schema, "at_risk", "guarantee_failed", "6mo", tables.line)
    >>> panel = build_panel(tables, task, load_catalog("archive"), ["2020-01-01", "2020-04-01"],
    ...                     ["2021-01-01", "2022-01-01"])
    >>> space = SearchSpace(trials=2, periods=panel.periods, model={"num_leaves": {"low": 2, "high": 7}})
    >>> found = tune_model(panel, space, settings={"n_estimators": 10, "min_child_samples": 20})
    >>> found.trials["state"].tolist()[0], 2 <= found.parameters["num_leaves"] <= 7
    ('complete', True)
    """
    check_search_space(space, "search space")
    base = dict(settings or {})
    with _open_study(space, panel, base, storage, seed) as study:
        over = _trials_over(study, panel)
        if on_trial is not None:
            for trial in over:
                on_trial(trial)
        with track("trials", space.trials - len(over)) as advance:
            while len(over) < space.trials:
                _reseed(study, space, seed, len(over))
                over.append(_run_trial(study, len(over), space, panel, base, seed))
                if on_trial is not None:
                    on_trial(over[-1])
                advance(1)
    return _conclude(panel, space, base, over, seed)


@contextlib.contextmanager
def _open_study(
    space: SearchSpace,
    panel: Panel,
    base: Mapping[str, Any],
    storage: str | Path | None,
    seed: int,
) -> Iterator[optuna.Study]:
    optuna = _import_optuna()
    place = "the search" if storage is None else f"'{Path(storage).name}'"
    if storage is not None:
        Path(storage).absolute().parent.mkdir(parents=True, exist_ok=True)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    store, alone = None, contextlib.ExitStack()
    try:
        if storage is not None:
            # Trials that run are taken for those of a search that was killed.
            alone.enter_context(hold_lock(storage, f"search in {place}", longest_wait=1.0))
            store = optuna.storages.RDBStorage(f"sqlite:///{Path(storage).absolute()}")
        study = optuna.create_study(
            storage=store,
            study_name=STUDY,
            direction="maximize",
            pruner=_make_pruner(optuna, space),
            load_if_exists=True,
        )
        _check_plan(study, _describe_plan(space, panel, base, seed), place)
        _give_up_unfinished(optuna, study)
        yield study
    finally:
        optuna.logging.set_verbosity(verbosity)
        if store is not None:
            store.engine.dispose()
        alone.close()


def _import_optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ImportError:
        raise PovertyRiskError(
            Fault("tuning", "no optuna", "the extra 'tune'", "pip install 'poverty-risk[tune]'.")
        ) from None
    return optuna


def _make_pruner(optuna: Any, space: SearchSpace) -> Any:
    if not space.prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=space.startup, n_warmup_steps=space.warm_up)


def _describe_plan(
    space: SearchSpace, panel: Panel, base: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """All that trials depend on, but not their number: a search can be made longer."""
    return {
        "space": space.model_dump(mode="json", exclude={"trials", "periods"}),
        "periods": [str(period.date()) for period in panel.periods],
        "task": [panel.task.cohort, panel.task.label, panel.task.horizon],
        "graded": panel.graded,
        "features": list(panel.catalog.model_names),
        "points": _digest_points(panel),
        "settings": {name: str(value) for name, value in sorted(base.items())},
        "seed": seed,
    }


def _digest_points(panel: Panel) -> str:
    """Hash of features and labels: a corrected record makes another search, as a new one does."""
    digest = hashlib.blake2b(digest_size=16)
    labels = [known[period] for known in (panel.known, panel.ratios) for period in known]
    for table in (panel.features, *labels, panel.outcomes.to_frame()):
        digest.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())
    return digest.hexdigest()


def name_search(
    panel: Panel, space: SearchSpace, settings: Mapping[str, Any] | None = None, seed: int = 0
) -> str:
    """Short name of a search: the same arguments give the same one, however many trials."""
    plan = json.dumps(_describe_plan(space, panel, dict(settings or {}), seed), sort_keys=True)
    return hashlib.sha256(plan.encode()).hexdigest()[:12]


def _check_plan(study: optuna.Study, plan: dict[str, Any], place: str) -> None:
    stored = study.user_attrs.get(PLAN)
    if stored is None:
        study.set_user_attr(PLAN, plan)
        return
    changed = [name for name in plan if plan[name] != stored.get(name)]
    if changed:
        raise DeclarationError(
            Fault(
                f"search in {place}",
                f"one with other {', '.join(changed)}",
                "the same search",
                "Take another file, or the config that it was begun with.",
            )
        )


def _give_up_unfinished(optuna: Any, study: optuna.Study) -> None:
    """Trials that were running when a search was interrupted are made again."""
    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _reseed(study: optuna.Study, space: SearchSpace, seed: int, number: int) -> None:
    """A sampler of its own for each trial, so that its draw does not depend on interruptions."""
    optuna = _import_optuna()
    drawn = int(np.random.default_rng([seed, number]).integers(2**31))
    study.sampler = optuna.samplers.TPESampler(seed=drawn, n_startup_trials=space.startup)


def _run_trial(
    study: optuna.Study,
    number: int,
    space: SearchSpace,
    panel: Panel,
    base: Mapping[str, Any],
    seed: int,
) -> Trial:
    waiting = _import_optuna().trial.TrialState.WAITING
    if number == 0 and not study.get_trials(deepcopy=False, states=(waiting,)):
        study.enqueue_trial(_inside(space, base))
    trial = study.ask()
    parameters = {name: _suggest(trial, name, bounds) for name, bounds in space.model.items()}
    by_period: dict[pd.Timestamp, float] = {}
    pruned = False
    for step, period in enumerate(panel.earlier):
        by_period[period] = _test(panel, space.objective, period, {**base, **parameters}, seed)
        trial.report(float(np.mean(list(by_period.values()))), step)
        if pruned := period != panel.earlier[-1] and trial.should_prune():
            break
    found = Trial(number, "pruned" if pruned else "complete", parameters, by_period)
    trial.set_user_attr("by_period", [float(value) for value in by_period.values()])
    optuna = _import_optuna()
    if pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, found.value)
    return found


def _inside(space: SearchSpace, base: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in use as far as they lie in the ranges."""
    found = {}
    for name, bounds in space.model.items():
        value = base.get(name)
        if bounds.values:
            inside = name in base and value in bounds.values
        else:
            low, high = bounds.ends
            inside = value is not None and low <= value <= high
        if inside:
            found[name] = value
    return found


def _suggest(trial: optuna.Trial, name: str, bounds: Range) -> Any:
    if bounds.values:
        return trial.suggest_categorical(name, list(bounds.values))
    low, high = bounds.ends
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=bounds.log)
    return trial.suggest_float(name, float(low), float(high), log=bounds.log)


def _test(
    panel: Panel, objective: str, period: pd.Timestamp, settings: Mapping[str, Any], seed: int
) -> float:
    """Objective on a period of a model fitted on what was known then."""
    fitted = fit_candidate(panel, Candidate(), period, settings, seed=seed)
    labels = panel.labels_at(period)
    margin = fitted.margin(panel.features.loc[labels.index])
    ranking = Ranking(labels.to_numpy(), margin.to_numpy(), probable=False)
    return ranking.compute_once([objective])[objective]


def _trials_over(study: optuna.Study, panel: Panel) -> list[Trial]:
    """Trials of the file that are over, numbered as an uninterrupted search would."""
    optuna = _import_optuna()
    states = {
        optuna.trial.TrialState.COMPLETE: "complete",
        optuna.trial.TrialState.PRUNED: "pruned",
    }
    found: list[Trial] = []
    for stored in study.get_trials(deepcopy=False, states=tuple(states)):
        values = stored.user_attrs["by_period"]
        by_period = dict(zip(panel.earlier, values, strict=False))
        state: Any = states[stored.state]
        found.append(Trial(len(found), state, stored.params, by_period))
    return found


def _conclude(
    panel: Panel, space: SearchSpace, base: Mapping[str, Any], over: list[Trial], seed: int
) -> TuningResult:
    complete = [trial for trial in over if trial.state == "complete"]
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    rows = [
        {"state": trial.state, "value": trial.value}
        | {str(period.date()): trial.by_period.get(period, np.nan) for period in panel.earlier}
        | dict(trial.parameters)
        for trial in over
    ]
    index = pd.Index([trial.number for trial in over], name="trial")
    last, found = panel.periods[-1], dict(base) | dict(best.parameters)
    first = over[0]
    if first.state == "complete" and {**base, **first.parameters} == dict(base):
        before = first.value
    else:
        tested = [_test(panel, space.objective, period, base, seed) for period in panel.earlier]
        before = float(np.mean(tested))
    apart = {
        name: _test(panel, space.objective, last, settings, seed)
        for name, settings in (("best", found), ("base", base))
    }
    return TuningResult(
        parameters=dict(best.parameters),
        value=best.value,
        base_value=before,
        trials=pd.DataFrame(rows, index=index),
        last=pd.Series(apart, name=space.objective),
    )
