"""What a model report says, as facts: from the model, its evaluation, and what is known of its training.

No row of a household enters; counts of outcomes under 10 are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from poverty_risk.evaluation import Evaluation
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.explain import RiskExplanation
from poverty_risk.leakage import LeakageReport
from poverty_risk.model import RiskModel
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.report.model_evaluation import (
    BudgetFact,
    ComparedFact,
    DifferenceFact,
    GroupTable,
    ReliabilityFact,
    build_budgets,
    build_compared,
    build_differences,
    build_group_table,
    build_reliability,
)
from poverty_risk.report.model_features import (
    FeatureFact,
    ThemeFact,
    describe_features,
    describe_themes,
)
from poverty_risk.windows import parse_days
from poverty_risk.wording import format_horizon, load_locale

__all__ = ["NOTHING_KNOWN", "ModelFacts", "build_model_facts"]

NOTHING_KNOWN: Mapping[str, Any] = MappingProxyType({})

TRAINING_KEYS = frozenset(
    {"model_id", "created", "versions", "history", "task", "source", "censored"}
    | {"test_first", "test_last", "config", "command"}
)
"""What may be told about a training beside the model."""

TRUTH = "truth"
"""What nothing can beat: the true risk of a simulated county."""

FEW_OUTCOMES = 100
"""Outcomes in the test period under which intervals are wide and groups say little."""


@dataclass(frozen=True)
class OutcomeFact:
    """One definition of an outcome: its words, table, condition, and how late it is known at most."""

    label: str
    table: str
    where: str
    reporting_lag_days: int


@dataclass(frozen=True)
class ConditionFact:
    """A condition of the cohort: table, condition, and whether no such record will do as well."""

    table: str
    where: str
    or_absent: bool


@dataclass(frozen=True)
class TaskFacts:
    """What is predicted, for whom.

    Parameters
    ----------
    schema, cohort, label, horizon
        Names as in the files.
    outcome
        The label in words.
    horizon_text
        The horizon in words.
    definitions
        The events that count.
    conditions
        Who is at risk; all must hold.
    line
        Poverty line by year in yuan.
    """

    schema: str
    cohort: str
    label: str
    horizon: str
    outcome: str
    horizon_text: str
    definitions: tuple[OutcomeFact, ...]
    conditions: tuple[ConditionFact, ...]
    line: Mapping[int, float]


@dataclass(frozen=True)
class PeriodFact:
    """Points of a period: ``boosted``, ``later`` or ``test``; None: not known, or under 10."""

    name: str
    first: str | None
    last: str | None
    points: int
    positives: int | None
    rate: float | None
    censored: int | None


@dataclass(frozen=True)
class LeakageFacts:
    """Checks by verdict, and those that say leak or suspect: verdict, check, what it is about, value."""

    counts: Mapping[str, int]
    findings: tuple[tuple[str, str, str, float], ...]


@dataclass(frozen=True)
class ModelFacts:
    """All that a model report says.

    Parameters
    ----------
    locale
        Language of the words in the facts.
    model_id
        Hash of all that decides a prediction; empty where the model was never saved.
    training
        What is known of the training beside the model: history, versions, config …
    task
        What is predicted; None for a model without a task.
    periods
        Points that were learned from, calibrated on and tested on.
    settings
        Parameters of the model.
    trees
        Trees of each booster.
    tiers
        Lowest risk of each tier.
    compared, differences, budgets
        The evaluation against baselines.
    reliability
        Of the model, bins pooled to 10 outcomes or more.
    groups
        By group.
    themes
        Importance by theme, the largest first.
    importance
        ``contributions`` or ``gain``.
    features
        The feature dictionary.
    leakage
        Checks by verdict, and what is a leak or suspect; None where nothing was checked.
    warnings
        Codes of what a reader must know first, with what they are about.
    """

    locale: str
    model_id: str
    training: Mapping[str, Any]
    task: TaskFacts | None
    periods: tuple[PeriodFact, ...]
    settings: Mapping[str, str]
    trees: tuple[int, ...]
    tiers: Mapping[str, float]
    compared: tuple[ComparedFact, ...]
    differences: tuple[DifferenceFact, ...]
    budgets: tuple[BudgetFact, ...]
    reliability: tuple[ReliabilityFact, ...]
    groups: tuple[GroupTable, ...]
    themes: tuple[ThemeFact, ...]
    importance: str
    features: tuple[FeatureFact, ...]
    leakage: LeakageFacts | None
    warnings: tuple[tuple[str, str], ...]


def build_model_facts(
    model: RiskModel,
    evaluation: Evaluation,
    *,
    locale: str = "zh",
    training: Mapping[str, Any] = NOTHING_KNOWN,
    leakage: LeakageReport | None = None,
    groups: Mapping[str, pd.DataFrame] | None = None,
    explanation: RiskExplanation | None = None,
) -> ModelFacts:
    """Gather what a model report says.

    Parameters
    ----------
    model
        A fitted or loaded model.
    evaluation
        How it did on later dates, the model first.
    locale
        ``"zh"`` or ``"en"``.
    training
        What is known beside the model; any of ``model_id``, ``created``, ``versions`` (by library),
        ``history`` (fingerprint), ``task`` (name in the config), ``source`` (``simulate`` for a
        simulated county), ``censored`` (points without a label by ``train`` and ``test``),
        ``test_first``, ``test_last``, ``config`` (its text) and ``command``.
    leakage
        The leakage report.
    groups
        Tables of `compute_group_metrics` by what they are grouped by.
    explanation
        Contributions at some points, for the importance of themes; without it the gain of the trees.

    Returns
    -------
    ModelFacts
        The facts.

    Raises
    ------
    DeclarationError
        Another language, or unknown entries in `training`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> facts = build_model_facts(model, evaluate_risk(labels, {"model": risk}, replicates=0))
    >>> facts.periods[-1].positives, facts.periods[-1].rate
    (100, 0.25)
    """
    names = load_locale(locale)["model_report"]["names"]
    if unknown := sorted(set(training) - TRAINING_KEYS):
        expected = f"any of {', '.join(sorted(TRAINING_KEYS))}"
        raise DeclarationError(
            [Fault("training", f"'{key}'", expected, "Correct the name.") for key in unknown]
        )
    own = str(evaluation.metrics.index[0])
    differences = build_differences(evaluation, own, names)
    periods = _periods(model, evaluation, training)
    kind, themes = describe_themes(model, explanation, locale)
    found = None if leakage is None else _leaks(leakage)
    return ModelFacts(
        locale=locale,
        model_id=str(getattr(model, "model_id_", None) or training.get("model_id", "")),
        training=dict(training),
        task=_task(model, locale),
        periods=periods,
        settings=_settings(model),
        trees=tuple(model.training_["trees"]),
        tiers=dict(model.tiers_),
        compared=build_compared(evaluation, names),
        differences=differences,
        budgets=build_budgets(evaluation, names),
        reliability=build_reliability(evaluation, own),
        groups=tuple(build_group_table(name, table) for name, table in (groups or {}).items()),
        themes=themes,
        importance=kind,
        features=describe_features(model, locale),
        leakage=found,
        warnings=_warnings(names, training, evaluation, differences, leakage),
    )


def _task(model: RiskModel, locale: str) -> TaskFacts | None:
    task = model.task
    if task is None:
        return None
    schema = task.schema
    waiting, definitions = [task.label], []
    while waiting:
        item = schema.labels[waiting.pop(0)]
        waiting += item.of
        if item.table is not None:
            lag = parse_days(item.reporting_lag)
            table = schema.tables[item.table].label[locale]
            definitions.append(OutcomeFact(item.label[locale], table, str(item.where), lag))
    return TaskFacts(
        schema=schema.name,
        cohort=task.cohort,
        label=task.label,
        horizon=task.horizon,
        outcome=schema.labels[task.label].label[locale],
        horizon_text=format_horizon(task.horizon, locale),
        definitions=tuple(dict.fromkeys(definitions)),
        conditions=tuple(
            ConditionFact(schema.tables[c.table].label[locale], c.where, c.if_absent == "keep")
            for c in schema.cohorts[task.cohort]
        ),
        line=dict(sorted((task.line or {}).items())),
    )


def _told(count: int) -> int | None:
    """A count that can be told; None under 10."""
    return None if 0 < count < SMALL_COUNT else count


def _periods(
    model: RiskModel, evaluation: Evaluation, training: Mapping[str, Any]
) -> tuple[PeriodFact, ...]:
    test: Any = evaluation.metrics.iloc[0]
    tested: Mapping[str, Any] = {
        "first": training.get("test_first"),
        "last": training.get("test_last"),
        "points": test["n"],
        "positives": test["positives"],
    }
    trained = {n: model.training_[n] for n in ("boosted", "later") if n in model.training_}
    censored = training.get("censored", {})
    unlabelled = {"test": int(censored.get("test", 0)) + int(test["n_censored"])}
    if "train" in censored:
        unlabelled["boosted"] = int(censored["train"])
    periods = trained | {"test": tested}
    return tuple(_period(n, period, unlabelled.get(n)) for n, period in periods.items())


def _period(name: str, period: Mapping[str, Any], censored: int | None) -> PeriodFact:
    points, positives = int(period["points"]), _told(int(period["positives"]))
    return PeriodFact(
        name=name,
        first=period.get("first"),
        last=period.get("last"),
        points=points,
        positives=positives,
        rate=None if positives is None or not points else positives / points,
        censored=None if censored is None else _told(censored),
    )


def _settings(model: RiskModel) -> dict[str, str]:
    parameters = model.get_params(deep=False)
    # Tiers stand in the report as risks; threads change nothing.
    left_out = ("catalog", "task", "tiers", "n_jobs")
    return {k: str(v) for k, v in parameters.items() if k not in left_out}


def _leaks(leakage: LeakageReport) -> LeakageFacts:
    table = leakage.table
    told = ["verdict", "check", "feature", "table", "value"]
    rows: Any = table.loc[table["verdict"].isin(["leak", "suspect"]), told].itertuples(index=False)
    found = tuple(
        (
            str(verdict),
            str(check),
            ", ".join(str(x) for x in (feature, source) if isinstance(x, str)),
            float(value),
        )
        for verdict, check, feature, source, value in rows
    )
    return LeakageFacts({str(k): int(v) for k, v in table["verdict"].value_counts().items()}, found)


def _warnings(
    names: Mapping[str, str],
    training: Mapping[str, Any],
    evaluation: Evaluation,
    differences: tuple[DifferenceFact, ...],
    leakage: LeakageReport | None,
) -> tuple[tuple[str, str], ...]:
    found = []
    if training.get("source") == "simulate":
        found.append(("simulated", ""))
    if leakage is not None and leakage.has_leaks:
        found.append(("leaks", ", ".join(leakage.leaking_features) or str(names["model"])))
    found += [
        ("not_better", one.label)
        for one in differences
        if one.metric == "average_precision"
        and one.baseline != TRUTH
        and (one.difference.low is None or one.difference.low <= 0)
    ]
    if int(evaluation.metrics.iloc[0]["positives"]) < FEW_OUTCOMES:
        found.append(("few_outcomes", str(FEW_OUTCOMES)))
    if evaluation.intervals.empty:
        found.append(("no_intervals", ""))
    if leakage is None:
        found.append(("not_checked", ""))
    return tuple(found)
