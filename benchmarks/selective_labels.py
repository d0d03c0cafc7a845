"""Outcomes seen only where somebody looked: the bias of evaluation and training, with weights and without.

Run with ``python benchmarks/selective_labels.py``; the figures are printed and kept in ``results/``. In
each simulated county true hardship is known for all. Every half-year a tenth of the households is visited
by a list, with a part left to chance, and what was true of the others is hidden. The list ranks by a model
of the office's own identifications, or by officers who beside it know of some households what no record
tells. Then the hidden truth is compared with what can be told of it: from visits counted once, with unseen
households taken as safe, and from visits weighted by their propensities. Errors are averaged over
counties, with 95 % t intervals of their mean.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
from measuring import run_script
from scipy import stats

import poverty_risk as pr
from poverty_risk.ranking import Ranking

CAPACITY = 0.10
LISTS = {
    "list by a model, 5% at random": (0.05, 0.0),
    "list by a model, 30% at random": (0.30, 0.0),
    "list by officers who know more, 30% at random": (0.30, 0.3),
}
"""Share of the visits left to chance, and of coming hardship that officers know of."""
TRAINED = tuple(LISTS)[1:]
"""With fewer random visits there are too few outcomes to learn from."""
TRAIN_DATES = pd.date_range("2019-07-01", "2022-07-01", freq="6MS").strftime("%Y-%m-%d").tolist()
TEST_DATES = ["2023-07-01", "2024-01-01", "2024-07-01", "2025-01-01"]
METRICS = ("auc", "average_precision", "recall_at_0.05", "calibration_ratio")


def fit(catalog: Any, task: Any, features: pd.DataFrame, labels: pd.Series, weight: Any) -> Any:
    model = pr.RiskModel(
        catalog, task, n_estimators=200, learning_rate=0.05, min_child_samples=40, n_jobs=1
    )
    return model.fit(features.loc[labels.index], labels, sample_weight=weight)


def measure_all(labels: pd.Series, risk: pd.Series) -> dict[str, float]:
    """Metrics where every outcome is known, by the names of `evaluate_seen`."""
    known = labels.dropna()
    own = risk.loc[known.index].to_numpy()
    found = Ranking(known.to_numpy(), own).compute_once(METRICS[:-1])
    return found | {"calibration_ratio": float(known.sum() / own.sum())}


def visit(points: pd.DataFrame, risk: pd.Series, random_share: float, seed: int) -> pd.DataFrame:
    """Who the lists of all dates visit, and with which propensity."""
    lists = []
    for date, own in risk.groupby(level="as_of_date"):
        places = points.loc[own.index, ["township_id", "village_id"]]
        households = places.assign(risk=own).droplevel("as_of_date")
        number = round(CAPACITY * len(households))
        lists.append(
            pr.build_visit_list(
                households,
                capacity=number,
                as_of_date=date,
                random_share=random_share,
                first=(),
                seed=seed,
            )
        )
    return pr.collect_looks(lists)


def judge_evaluation(
    labels: pd.Series, looks: pd.DataFrame, risk: pd.Series, villages: pd.Series
) -> pd.DataFrame:
    """What four ways say of one model; index metric."""
    found = pr.evaluate_seen(
        labels, looks, {"model": risk}, villages, budgets=[0.05], replicates=200
    )
    seen = found.metrics.loc["model"].loc[list(METRICS)]
    visited = looks.loc[labels.index, "visited"]
    once = measure_all(labels.where(visited), risk)
    safe = measure_all(labels.where(visited | labels.isna(), 0.0), risk)
    return pd.DataFrame(
        {
            "truth": measure_all(labels, risk),
            "visits counted once": once,
            "unseen as safe": safe,
            "weighted": seen["estimate"],
            "low": seen["low"],
            "high": seen["high"],
        }
    ).loc[list(METRICS)]


def judge_training(
    catalog: Any, task: Any, features: pd.DataFrame, labels: pd.Series, looks: pd.DataFrame
) -> dict[str, Any]:
    """Models of the same visits, learned in different ways."""
    visited = looks.loc[labels.index, "visited"]
    half, whole = (pr.select_seen(labels, looks, power=power) for power in (0.5, 1.0))
    ways = {
        "all outcomes (nobody has them)": (labels.dropna(), None),
        "visits counted once": (labels.where(visited).dropna(), None),
        "unseen as safe": (labels.where(visited | labels.isna(), 0.0).dropna(), None),
        "weighted, to the power 0.5": (half["label"], half["weight"]),
        "weighted": (whole["label"], whole["weight"]),
    }
    models = {way: fit(catalog, task, features, *rows) for way, rows in ways.items()}
    # The later dates, which no trees were boosted on.
    later = labels[labels.index.get_level_values("as_of_date") >= TRAIN_DATES[-2]]
    for way in ("visits counted once", "unseen as safe"):
        models[f"{way}, calibrated with weights"] = pr.calibrate_seen(
            models[way], features.loc[later.index], later, looks
        )
    return models


def measure_county(households: int, seed: int) -> dict[str, Any]:
    """Evaluation and training in one county."""
    county = pr.make_household_history(households, end="2026-01-01", seed=seed)
    tables, catalog = county.tables, pr.load_catalog("archive")
    train = pr.build_prediction_points(tables, TRAIN_DATES)
    test = pr.build_prediction_points(tables, TEST_DATES)
    truth = county.true_hardship(pd.concat([train, test]))
    features = pr.build_features(tables, pd.concat([train, test]), catalog)
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    identified = pr.label_returns(tables, train, "12mo", "identified").dropna()
    usual = fit(catalog, task, features, identified, None).risk(features)
    found: dict[str, Any] = {"outcome_rate": float(truth.loc[test.index].mean())}
    points = pd.concat([train, test])
    rng = np.random.default_rng(seed)
    for name, (share, known) in LISTS.items():
        told = (rng.random(len(points)) < known) & (truth == 1.0)
        looks = visit(points, usual.loc[points.index].mask(told, 0.9), share, seed)
        own = truth.loc[test.index], looks, usual.loc[test.index], test["village_id"]
        found[name] = {"evaluation": judge_evaluation(*own)}
        if name in TRAINED:
            models = judge_training(catalog, task, features, truth.loc[train.index], looks)
            risks = {way: model.risk(features.loc[test.index]) for way, model in models.items()}
            found[name]["training"] = pd.DataFrame(
                {way: measure_all(truth.loc[test.index], risk) for way, risk in risks.items()}
            )
    return found


def mean_and_interval(values: list[float]) -> list[float]:
    """Mean over counties and the 95 % t interval of the mean."""
    array = np.array(values)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return [round(float(x), 4) for x in (array.mean(), array.mean() - half, array.mean() + half)]


def summarise_evaluation(counties: list[pd.DataFrame]) -> dict[str, Any]:
    """Mean errors of each way to evaluate the same model, by metric."""
    figures: dict[str, Any] = {}
    for metric in METRICS:
        rows = [table.loc[metric] for table in counties]
        inside = [bool(row["low"] <= row["truth"] <= row["high"]) for row in rows]
        figures[metric] = {"truth": mean_and_interval([row["truth"] for row in rows])}
        for way in ("visits counted once", "unseen as safe", "weighted"):
            figures[metric][f"error, {way}"] = mean_and_interval(
                [row[way] - row["truth"] for row in rows]
            )
        held = f"{sum(inside)} of {len(inside)}"
        figures[metric]["intervals of weighted that hold the truth"] = held
    return figures


def summarise_training(counties: list[pd.DataFrame]) -> dict[str, Any]:
    """Mean quality of each way to train, by metric."""
    return {
        metric: {
            way: mean_and_interval([table.loc[metric, way] for table in counties])
            for way in counties[0].columns
        }
        for metric in METRICS
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    counties = []
    for seed in range(options.seeds):
        counties.append(measure_county(options.households, seed))
        print(f"county {seed + 1} of {options.seeds}", flush=True)
        for name in TRAINED:
            print(name, counties[-1][name]["training"].round(3).to_string(), sep="\n", flush=True)
    rate = mean_and_interval([county["outcome_rate"] for county in counties])
    return {
        "outcome_rate": rate,
        "evaluation": {
            name: summarise_evaluation([county[name]["evaluation"] for county in counties])
            for name in LISTS
        },
        "training": {
            name: summarise_training([county[name]["training"] for county in counties])
            for name in TRAINED
        },
    }


if __name__ == "__main__":
    run_script(__file__, __doc__ or "", measure, {}, {"households": 4_000, "seeds": 6})
