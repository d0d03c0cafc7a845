"""One hazard model against one model per horizon, on simulated counties, each horizon tested once.

Run with ``python benchmarks/hazard.py``; the figures are printed and kept in ``results/``. Both learn
what was known on the test date: a horizon of 24 months has labels of earlier dates only. Intervals
resample households, the same ones for both.
"""

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
from measuring import run_script

import poverty_risk as pr
from poverty_risk.bootstrap import bootstrap_metrics
from poverty_risk.evaluation import compute_metrics
from poverty_risk.person_periods import DEFAULT_HORIZONS

TRAIN = pd.date_range("2017-01-01", "2022-07-01", freq="3MS")
TEST = "2022-10-01"
METRICS = ("auc", "average_precision", "brier", "log_loss")
FIRST_SEED = 21


def predict_county(
    households: int, seed: int
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], dict]:
    """Test outcomes, risks by model, and seconds of fitting."""
    tables = pr.make_household_history(households, start="2016-01-01", seed=seed).tables
    train = pr.build_prediction_points(tables, TRAIN)
    test = pr.build_prediction_points(tables, TEST)
    known = pr.label_times(tables, train, definition="identified", known_by=TEST)
    train, known = train[known["3mo"].notna()], known[known["3mo"].notna()]
    outcomes = pr.label_times(tables, test, definition="identified")
    catalog = pr.load_catalog("archive")
    features = pr.build_features(tables, pd.concat([train, test]), catalog)
    learned, asked = features.loc[train.index], features.loc[test.index]
    villages = train["village_id"]
    began = time.perf_counter()
    hazard = pr.HazardModel(catalog, seed=seed).fit(learned, known, groups=villages)
    seconds = {"hazard": time.perf_counter() - began, "trees": hazard.training_["trees"]}
    risks = {"hazard": hazard.risk(asked), "single": pd.DataFrame(index=test.index)}
    began = time.perf_counter()
    for horizon in DEFAULT_HORIZONS:
        task = pr.PredictionTask(tables.schema, "at_risk", "identified", horizon, tables.line)
        model = pr.RiskModel(catalog, task, refit=True, seed=seed)
        model.fit(learned, known[horizon], groups=villages)
        risks["single"][horizon] = model.risk(asked)
    seconds["single"] = time.perf_counter() - began
    prefix = f"{seed}_"
    outcomes, *found = (
        table.rename(index=lambda name: prefix + name, level="household_id")
        for table in (outcomes, *risks.values())
    )
    return outcomes, dict(zip(risks, found, strict=True)), seconds


def compare(outcomes: pd.DataFrame, risks: dict[str, pd.DataFrame], horizon: str) -> dict[str, Any]:
    own = {name: table[horizon].rename("risk") for name, table in risks.items()}
    found = bootstrap_metrics(outcomes[horizon], own, metrics=METRICS, replicates=500)
    figures: dict[str, Any] = {"outcomes": int(outcomes[horizon].sum())}
    for name, risk in own.items():
        metrics = compute_metrics(outcomes[horizon], risk)
        keep = [*METRICS, "calibration_slope", "mean_risk", "base_rate"]
        figures[name] = {key: round(float(metrics[key]), 5) for key in keep}
    rows = found.differences.loc[("hazard", "single")]
    figures["hazard minus single"] = {
        metric: [round(float(row[key]), 5) for key in ("difference", "low", "high")]
        for metric, row in rows.iterrows()
    }
    return figures


def measure(options: argparse.Namespace) -> dict[str, Any]:
    seeds = range(FIRST_SEED, FIRST_SEED + options.counties)
    parts = [predict_county(options.households, seed) for seed in seeds]
    outcomes = pd.concat([part[0] for part in parts])
    risks = {name: pd.concat([part[1][name] for part in parts]) for name in ("hazard", "single")}
    figures: dict[str, Any] = {h: compare(outcomes, risks, h) for h in DEFAULT_HORIZONS}
    figures["share_falling_with_horizon"] = {
        name: round(float((np.diff(table.to_numpy(), axis=1) < 0).any(axis=1).mean()), 4)
        for name, table in risks.items()
    }
    figures["fit"] = {
        key: round(float(np.mean([p[2][key] for p in parts])), 1) for key in parts[0][2]
    }
    return figures


if __name__ == "__main__":
    run_script(__file__, __doc__, measure, {"none": dict}, {"households": 6000, "counties": 3})
