"""Peers on the EPH panel: the same features, the same rows, one test year, paired intervals.

Run with ``python benchmarks/eph_peers.py``; the figures are printed and kept in ``results/``. Ours is as
``configs/eph.yaml`` has it. Peers that learn from outcomes learn from the same broad cohort, and logistic
regression and EBM from the scored cohort, too; rule and VEP need the scored cohort alone. EBM and AutoML
are told only if `interpret-core` and `flaml` with `xgboost` can be imported. ``--seconds`` is the time
that AutoML has; ``--tasks`` names tasks of the config, separated by commas.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from eph_panel import CONFIG, FOLDER, Study, read_study
from measuring import peak_memory_gb, run_script

from poverty_risk import RiskModel
from poverty_risk.baselines import IncomeRule, LogisticBaseline, VulnerabilityBaseline
from poverty_risk.bootstrap import bootstrap_metrics
from poverty_risk.config import Config, load_config
from poverty_risk.evaluation import compute_budget_table

METRICS = ("auc", "average_precision")
BUDGET = 0.10
Fitted = Callable[[pd.DataFrame], np.ndarray]


def fit_ours(config: Config, study: Study, name: str, rows: pd.Series) -> RiskModel:
    """The trees that ``poverty-risk train`` makes; an order needs no calibration."""
    task = config.tasks[name]
    settings = config.model.model_dump() | {"calibration": None, "n_folds": 2, "n_refits": 0}
    model = RiskModel(
        study.catalog, study.task(task.label, task.cohort), seed=config.seed, **settings
    )
    return model.fit(
        study.features.loc[rows.index],
        rows,
        scored=study.cohorts.loc[rows.index, task.cohort],
        groups=study.villages.loc[rows.index],
        graded=study.grade(rows, task.graded),
    )


def fit_logistic(learned: pd.DataFrame, rows: pd.Series, strength: float) -> Fitted:
    regression = LogisticBaseline(strength).fit(learned, rows)
    return lambda asked: regression.predict_proba(asked)[:, 1]


def fit_ebm(learned: pd.DataFrame, rows: pd.Series) -> Fitted:
    """Explainable boosting machine with its own defaults but no bags outside the machine's cores."""
    from interpret.glassbox import ExplainableBoostingClassifier

    kinds = [
        "nominal" if values.dtype == "category" else "continuous" for _, values in learned.items()
    ]
    machine = ExplainableBoostingClassifier(
        feature_types=kinds, interactions=10, outer_bags=4, n_jobs=1, random_state=0
    )
    machine.fit(plain(learned), rows.to_numpy(int))
    return lambda asked: machine.predict_proba(plain(asked))[:, 1]


def fit_automl(learned: pd.DataFrame, rows: pd.Series, seconds: int) -> Fitted:
    from flaml.automl.automl import AutoML

    search = AutoML()
    search.fit(
        learned.reset_index(drop=True),
        rows.to_numpy(int),
        task="classification",
        metric="roc_auc",
        time_budget=seconds,
        estimator_list=["lgbm", "xgboost", "rf", "extra_tree", "lrl1"],
        n_jobs=2,
        seed=0,
        verbose=0,
    )
    return lambda asked: search.predict_proba(asked.reset_index(drop=True))[:, 1]


def plain(features: pd.DataFrame) -> pd.DataFrame:
    """Categories as texts, everything else as floats."""
    return pd.DataFrame(
        {
            name: values.astype(object) if values.dtype == "category" else values.astype(float)
            for name, values in features.items()
        }
    )


def predict_all(config: Config, study: Study, name: str, seconds: int) -> dict[str, Any]:
    """Risks of each peer on the test rows, and how long it took to fit."""
    task, periods = config.tasks[name], config.periods
    last = str(periods.train.last)
    rows = study.rows(task.label, task.train_cohort or task.cohort, None, last)
    own = rows[study.cohorts.loc[rows.index, task.cohort].to_numpy()]
    labels = study.rows(task.label, task.cohort, str(periods.test.first), str(periods.test.last))
    names = list(study.catalog.model_names)
    learned, narrow = study.features.loc[rows.index, names], study.features.loc[own.index, names]
    income = config.baselines.income_feature
    asked = study.features.loc[labels.index, names]
    strength = config.baselines.logistic_c
    fits: dict[str, Callable[[], Fitted]] = {
        "ours": lambda: fit_ours(config, study, name, rows).margin,
        "logistic": lambda: fit_logistic(narrow, own, strength),
        "logistic, broad cohort": lambda: fit_logistic(learned, rows, strength),
        "rule": lambda: IncomeRule(income).fit(narrow, own).margin,
        "VEP": lambda: (
            lambda x: VulnerabilityBaseline(income).fit(narrow, own).predict_proba(x)[:, 1]
        ),
    }
    if can_import("interpret"):
        fits["EBM"] = lambda: fit_ebm(narrow, own)
        fits["EBM, broad cohort"] = lambda: fit_ebm(learned, rows)
    if seconds and can_import("flaml") and can_import("xgboost"):
        fits["FLAML, broad cohort"] = lambda: fit_automl(learned, rows, seconds)
    risks, took = {}, {}
    for peer, fit in fits.items():
        began = time.perf_counter()
        risk = np.asarray(fit()(asked))
        risks[peer] = pd.Series(risk, labels.index, name="margin")
        took[peer] = round(time.perf_counter() - began, 1)
        print(f"{name}: {peer} {took[peer]} s", flush=True)
    return {"labels": labels, "risks": risks, "seconds": took, "learned_from": len(rows)}


def can_import(package: str) -> bool:
    with contextlib.suppress(ImportError):
        __import__(package)
        return True
    return False


def tell(found: dict[str, Any], study: Study, replicates: int) -> dict[str, Any]:
    """Metrics with intervals by peer, and the lead of ours, on the same resamples of households."""
    labels, risks = found["labels"], found["risks"]
    figures: dict[str, Any] = {
        "points": len(labels),
        "outcomes": int(labels.sum()),
        "learned_from": found["learned_from"],
        "cities": int(study.villages.loc[labels.index].nunique()),
    }
    others = [peer for peer in risks if peer != "ours"]
    by = {"households": None, "cities": study.villages.loc[labels.index]}
    results = {
        unit: bootstrap_metrics(
            labels, risks, clusters, METRICS, replicates=replicates, baselines=others
        )
        for unit, clusters in by.items()
    }
    for peer, risk in risks.items():
        told: dict[str, Any] = {"seconds": found["seconds"][peer]}
        budget = compute_budget_table(labels, risk, [BUDGET])
        told["precision_at_0.10"] = round(float(budget["precision"].iloc[0]), 4)
        for metric in METRICS:
            row = results["households"].intervals.loc[(peer, metric)]
            told[metric] = [round(float(row[key]), 4) for key in ("estimate", "low", "high")]
            for unit, result in results.items():
                if peer != "ours":
                    lead = result.differences.loc[("ours", peer, metric)]
                    told[f"lead_of_ours_{metric}_{unit}"] = [
                        round(float(lead[key]), 4) for key in ("difference", "low", "high")
                    ]
        figures[peer] = told
    return figures


def measure(options: argparse.Namespace) -> dict[str, Any]:
    config = load_config(CONFIG)
    dates = [*config.periods.train.dates(), *config.periods.test.dates()]
    study = read_study(options.folder, dates)
    figures: dict[str, Any] = {}
    for name in options.tasks.split(","):
        found = predict_all(config, study, name, options.seconds)
        figures[name] = tell(found, study, options.replicates)
    peers = [package for package in ("interpret-core", "flaml", "xgboost") if is_there(package)]
    figures["peers"] = {package: metadata.version(package) for package in peers}
    figures["peak_memory_gb"] = round(peak_memory_gb(), 2)
    return figures


def is_there(package: str) -> bool:
    with contextlib.suppress(metadata.PackageNotFoundError):
        metadata.version(package)
        return True
    return False


if __name__ == "__main__":
    tasks = "return_at_12mo,return_within_12mo,entry_at_12mo"
    options = {"folder": FOLDER, "tasks": tasks, "seconds": 600, "replicates": 500}
    run_script(__file__, __doc__, measure, {"none": dict}, options)
