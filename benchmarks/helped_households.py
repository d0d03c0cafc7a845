"""Helped households look safe: what a naive model learns, and which guard works best.

Run with ``python benchmarks/helped_households.py``; the figures are printed and kept in ``results/``. The
simulated county gives social assistance to many households under the line and help to those identified.
Its hidden state says what each household's risk would be if all help ended on the as-of date; models that
learn from recorded outcomes in different ways are judged on that, on a later date. Figures are means over
counties with 95 % t intervals. ``risk_over_truth`` is mean risk over mean true risk without help (1 is
right, below it help is taken for safety), for all, for the helped and for the others.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
from measuring import run_script
from scipy import stats

import poverty_risk as pr
from poverty_risk.helped import GUARDS, find_help
from poverty_risk.ranking import Ranking

TRAIN_DATES = ["2020-07-01", "2021-01-01", "2021-07-01", "2022-01-01", "2022-07-01"]
TEST_DATE = "2023-10-01"
BUDGETS = (0.02, 0.05, 0.10)
FUTURES = 40


def fit_guarded(
    tables: Any, catalog: Any, features: pd.DataFrame, labels: pd.Series
) -> dict[str, pr.RiskModel]:
    """One model per guard, on the same points."""
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    models = {}
    for method in GUARDS:
        rows = pr.guard_helped(
            tables, labels, "12mo", method=method, features=features, catalog=catalog
        )
        model = pr.RiskModel(
            catalog, task, n_estimators=300, learning_rate=0.05, min_child_samples=40, n_jobs=1
        )
        own = features.loc[rows.index]
        models[method] = model.fit(own, rows["label"], sample_weight=rows["weight"])
    return models


def without_help(features: pd.DataFrame, catalog: Any) -> pd.DataFrame:
    """Features of households of which no help is on record."""
    told = [name for name in features.columns if "assistance" in catalog.tables_of(name)]
    return features.assign(**dict.fromkeys(told, 0.0)).astype(features.dtypes.to_dict())


def judge(risk: pd.Series, truth: pd.Series, helped: np.ndarray) -> dict[str, float]:
    """One risk against the true risk without help; chances weigh as outcomes that come with them."""
    own, chance = risk.to_numpy(), truth.to_numpy()
    label = np.repeat([1.0, 0.0], len(own))
    names = ["auc", *[f"recall_at_{budget:g}" for budget in BUDGETS]]
    weights = np.concatenate([chance, 1.0 - chance])[None]
    found = Ranking(label, np.tile(own, 2)).compute(names, weights)
    listed = np.argsort(-own, kind="stable")[: round(0.05 * len(own))]
    return {name: float(value[0]) for name, value in found.items()} | {
        "risk_over_truth": own.mean() / chance.mean(),
        "risk_over_truth, helped": own[helped].mean() / chance[helped].mean(),
        "risk_over_truth, others": own[~helped].mean() / chance[~helped].mean(),
        "helped among the top 5%": helped[listed].mean(),
    }


def measure_county(households: int, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """All ways in one county (index figure, a column each), and what help does there."""
    county = pr.make_household_history(households, seed=seed)
    tables, catalog = county.tables, pr.load_catalog("archive")
    train = pr.build_prediction_points(tables, TRAIN_DATES)
    test = pr.build_prediction_points(tables, TEST_DATE)
    labels = pr.label_returns(tables, train, "12mo", "identified").dropna()
    features = pr.build_features(tables, pd.concat([train.loc[labels.index], test]), catalog)
    helped = find_help(tables, test)["before"].to_numpy()
    truth = county.true_risk(test, replicates=FUTURES, helped=False)["true_risk"]
    usual = county.true_risk(test, replicates=FUTURES)["true_risk"]
    models = fit_guarded(tables, catalog, features.loc[labels.index], labels)
    own = features.loc[test.index]
    risks = {name: model.risk(own) for name, model in models.items()}
    risks["none, scored as if not helped"] = models["none"].risk(without_help(own, catalog))
    risks["truth with help"], risks["truth without help"] = usual, truth
    ways = {name: judge(risk, truth, helped) for name, risk in risks.items()}
    effect = {
        "helped": float(helped.mean()),
        "true risk of the helped, with help": float(usual[helped].mean()),
        "true risk of the helped, without": float(truth[helped].mean()),
        "true risk of the others, with help": float(usual[~helped].mean()),
        "true risk of the others, without": float(truth[~helped].mean()),
        "risk of the helped, no guard": float(risks["none"][helped].mean()),
    }
    return pd.DataFrame(ways), effect


def mean_and_interval(values: Any) -> list[float]:
    """Mean over counties and the 95 % t interval of the mean."""
    array = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return [round(float(x), 4) for x in (array.mean(), array.mean() - half, array.mean() + half)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    counties = []
    for seed in range(options.seeds):
        counties.append(measure_county(options.households, seed))
        print(f"county {seed + 1} of {options.seeds}", flush=True)
        print(counties[-1][0].round(3).to_string(), flush=True)
    tables, effects = [one[0] for one in counties], [one[1] for one in counties]
    return {
        "what help does": {
            name: mean_and_interval([effect[name] for effect in effects]) for name in effects[0]
        },
        "ways": {
            way: {
                name: mean_and_interval([table.loc[name, way] for table in tables])
                for name in tables[0].index
            }
            for way in tables[0].columns
        },
        "gain over no guard": {
            way: {
                name: mean_and_interval([t.loc[name, way] - t.loc[name, "none"] for t in tables])
                for name in ("auc", *[f"recall_at_{budget:g}" for budget in BUDGETS])
            }
            for way in tables[0].columns
            if way != "none" and not way.startswith("truth")
        },
    }


if __name__ == "__main__":
    run_script(__file__, __doc__ or "", measure, {}, {"households": 4_000, "seeds": 8})
