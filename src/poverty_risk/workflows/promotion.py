"""Promote a challenger, or roll back: both models on the same latest period, a record in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.audit_groups import build_audit_groups, load_audit_groups
from poverty_risk.cohort import build_prediction_points
from poverty_risk.config import Config
from poverty_risk.evaluation import compute_metrics
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.explain import explain_risk
from poverty_risk.features import build_features
from poverty_risk.labels import label_returns
from poverty_risk.leakage import LeakageReport, check_leakage
from poverty_risk.loading import load_model
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.predict import task_of
from poverty_risk.promotion import Candidate, Decision, PromotionSettings, decide_promotion
from poverty_risk.ranking import count_visits
from poverty_risk.reasons import build_reasons
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking import download_model_folder
from poverty_risk.tracking.promotion import RecordedDecision, record_decision
from poverty_risk.tracking.promotion import roll_back as move_back
from poverty_risk.tracking.versions import RegisteredVersion, find_version
from poverty_risk.workflows.monitoring import learned_to
from poverty_risk.workflows.training import find_shared_task

__all__ = ["Promotion", "find_champion", "load_version", "promote", "roll_back"]

MOST_EXPLAINED = 2_000
"""Households whose reasons are compared at most; a share is known well enough from them."""


@dataclass(frozen=True)
class Promotion:
    """What was decided, and where it is written down."""

    decision: Decision
    recorded: RecordedDecision


def promote(
    config: Config,
    tables: HistoryTables,
    challenger: str,
    champion: str | None = None,
    *,
    who: str,
    why: str,
    settings: PromotionSettings | None = None,
) -> Promotion:
    """Hold a registered challenger against the champion; give it the alias if all conditions hold.

    Parameters
    ----------
    config
        The run: its test period is what both are compared on.
    tables
        The history.
    challenger
        Registered version: number, alias or ``models:/...`` URI.
    champion
        The same; by default the version that has the alias. Without any, conditions that compare do
        not apply.
    who, why
        Who promotes, and for what reason.
    settings
        Conditions; by default those of the config.

    Returns
    -------
    Promotion
        The decision and its record. A challenger that was refused leaves the alias where it is.

    Raises
    ------
    DeclarationError
        Models of different tasks, the challenger is the champion, or no budget.
    PovertyRiskError
        Another promotion came first.
    """
    asked = config.promotion if settings is None else settings
    new, old = _find_both(config, challenger, champion, asked.alias)
    models = {item.version: load_version(config, item) for item in (new, old) if item is not None}
    task = find_shared_task([models[item.version] for item in (new, old) if item is not None])
    points = build_prediction_points(tables, config.periods.test.dates(), task.cohort)
    labels = label_returns(tables, points, task.horizon, task.label).dropna()
    points = points.loc[labels.index]
    features = {key: build_features(tables, points, m.catalog) for key, m in models.items()}
    budget = _find_budget(config, asked, len(points))
    candidates = _build_candidates(models, features, None if old is None else old.version, budget)
    groups = build_audit_groups(tables, points, _declared_groups(asked, task))
    cluster = config.evaluation.cluster
    own, given = candidates[new.version], features[new.version]
    decision = decide_promotion(
        own,
        None if old is None else candidates[old.version],
        labels,
        settings=asked,
        budget=budget,
        groups=groups,
        clusters=None if cluster is None else points[cluster],
        leakage=_check_leaks(config, tables, labels, own, models[new.version], given)
        if asked.no_leaks
        else None,
        seed=config.seed,
    )
    recorded = record_decision(
        decision, who=who, why=why, alias=asked.alias, **_store_of(config, experiment=True)
    )
    return Promotion(decision, recorded)


def roll_back(
    config: Config,
    *,
    who: str,
    why: str,
    to: str | None = None,
    settings: PromotionSettings | None = None,
) -> RecordedDecision:
    """Give the alias back to the champion before (see `poverty_risk.tracking.promotion.roll_back`).

    Parameters
    ----------
    config
        The run: names the registered model and the store.
    who, why
        Who rolls back, and for what reason.
    to
        Version that gets the alias; by default the one that the champion replaced.
    settings
        Conditions, for the alias; by default those of the config.

    Returns
    -------
    RecordedDecision
        The record.
    """
    asked = config.promotion if settings is None else settings
    return move_back(
        who=who, why=why, to=to, alias=asked.alias, **_store_of(config, experiment=True)
    )


def _store_of(config: Config, *, experiment: bool) -> dict[str, Any]:
    store: dict[str, Any] = {
        "name": config.tracking.registered_name,
        "store_folder": config.mlflow_folder,
    }
    return store | ({"experiment": config.tracking.experiment} if experiment else {})


def _find_both(
    config: Config, challenger: str, champion: str | None, alias: str
) -> tuple[RegisteredVersion, RegisteredVersion | None]:
    store = _store_of(config, experiment=False)
    new = find_version(which=challenger, **store)
    old = find_version(which=champion or alias, **store)
    faults = []
    if new is None:
        faults.append(
            Fault("challenger", f"no version '{challenger}'", "a registered one", "Train it first.")
        )
    if champion is not None and old is None:
        faults.append(
            Fault("champion", f"no version '{champion}'", "a registered one", "Correct it.")
        )
    if new is not None and new == old:
        remedy = "Nothing is left to promote."
        faults.append(Fault("challenger", f"version {new.version}", "another version", remedy))
    if faults or new is None:
        raise DeclarationError(faults)
    return new, old


def find_champion(config: Config) -> RegisteredVersion | None:
    """The version that is in use; None when none has the alias."""
    return find_version(which=config.promotion.alias, **_store_of(config, experiment=False))


def load_version(config: Config, version: RegisteredVersion) -> RiskModel:
    """The model of a registered version."""
    return load_model(download_model_folder(version.uri, store_folder=config.mlflow_folder))


def _find_budget(config: Config, asked: PromotionSettings, points: int) -> float:
    if asked.budget is not None:
        return asked.budget
    dates = len(config.periods.test.dates())
    capacity = config.visits.capacity_for(points // dates)
    if config.visits.share is not None:
        return config.visits.share
    if isinstance(capacity, Mapping):
        raise DeclarationError(
            Fault(
                "promotion.budget", "none", "a share of households", "Visits go by quotas: set it."
            )
        )
    return min(1.0, int(capacity) * dates / points)


def _build_candidates(
    models: Mapping[str, RiskModel],
    features: Mapping[str, pd.DataFrame],
    champion: str | None,
    budget: float,
) -> dict[str, Candidate]:
    """Both models on all points, with their reasons for the champion's visit list."""
    risks = {key: model.risk(features[key]) for key, model in models.items()}
    reasons: dict[str, pd.Series] = {}
    if champion is not None:
        margin = models[champion].margin(features[champion])
        visits = min(int(count_visits(budget, len(margin))), MOST_EXPLAINED)
        listed = margin.index[np.argsort(-margin.to_numpy(), kind="stable")[:visits]]
        reasons = {key: _tell_themes(m, features[key].loc[listed]) for key, m in models.items()}
    return {
        key: Candidate(
            version=key,
            model_id=str(getattr(model, "model_id_", "unknown")),
            risk=risks[key],
            reasons=reasons.get(key),
            learned_to=learned_to(model),
        )
        for key, model in models.items()
    }


def _tell_themes(model: RiskModel, features: pd.DataFrame) -> pd.Series:
    """Themes of the reasons that raise each point's risk, as an officer is told them."""
    told = build_reasons(explain_risk(model, features, agreement=True), model)
    themes = [tuple(reason.theme for reason in household.raising) for household in told]
    return pd.Series(themes, index=features.index, dtype=object)


def _declared_groups(asked: PromotionSettings, task: PredictionTask) -> Any:
    path = None if asked.audit_groups == "shipped" else Path(asked.audit_groups)
    return load_audit_groups(task.schema, path)


def _check_leaks(
    config: Config,
    tables: HistoryTables,
    labels: pd.Series,
    candidate: Candidate,
    model: RiskModel,
    features: pd.DataFrame,
) -> LeakageReport:
    task = task_of(model)
    return check_leakage(
        tables,
        pd.DataFrame(index=labels.index),
        labels,
        features,
        model.catalog,
        horizon=task.horizon,
        label=task.label,
        auc=float(compute_metrics(labels, candidate.risk)["auc"]),
        seed=config.seed,
    )
