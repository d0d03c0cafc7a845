"""Whether intervals hold what they should, and whether households unlike any are worse predicted.

Run with ``python benchmarks/uncertainty.py``; the figures are printed and kept in ``results/``.

Intervals: share that hold the risk of households with the same features. A county knows the true risk
of each household, and a model of true risks, learned from other counties, stands for what a county
without end would teach. Beside it, the mean true risk of households of like risk.

Unlike: a model is trained without households whose medical bills are high, and asked about all.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
from measuring import run_script

import poverty_risk as pr
from poverty_risk.boosting import Rows, boost, set_parameters
from poverty_risk.forest import Forest

TRAIN = pd.date_range("2019-01-01", "2021-07-01", freq="3MS")
TEST = "2022-10-01"
LEVEL = 0.9
FIRST_SEED = 41
HELD_OUT, HELD_OUT_FROM = "oop_to_income", 0.9
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0)


class County:
    """Features, labels and true risks of a county."""

    def __init__(self, households: int, seed: int, catalog: pr.Catalog) -> None:
        county = pr.make_household_history(households, start="2018-01-01", seed=seed)
        tables = county.tables
        points = pr.build_prediction_points(tables, TRAIN)
        self.labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
        self.villages = points.loc[self.labels.index, "village_id"]
        asked = pr.build_prediction_points(tables, TEST)
        features = pr.build_features(
            tables, pd.concat([points.loc[self.labels.index], asked]), catalog
        )
        self.train, self.test = features.loc[self.labels.index], features.loc[asked.index]
        self.truth = county.true_risk(asked, "12mo", replicates=60)["true_risk"].to_numpy()
        self.task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)

    def fit(
        self, catalog: pr.Catalog, keep: pd.Series | None = None, **settings: Any
    ) -> pr.RiskModel:
        keep = pd.Series(True, index=self.train.index) if keep is None else keep
        model = pr.RiskModel(catalog, self.task, refit=True, **settings)
        return model.fit(self.train[keep], self.labels[keep], groups=self.villages[keep])


def learn_truth(model: pr.RiskModel, counties: list[County]) -> Forest:
    """A model of true risks: a soft label counts as an outcome and as none, by its weight."""
    matrix = np.concatenate([model.columns_.matrix(county.test) for county in counties])
    truth = np.concatenate([county.truth for county in counties])
    target = np.repeat([1.0, 0.0], len(truth))
    rows = Rows(
        np.concatenate([matrix, matrix]),
        target,
        np.concatenate([truth, 1.0 - truth]),
        model.columns_.names,
        model.columns_.categorical,
    )
    directions = list(model.directions.values())
    settings = set_parameters(model.get_params(deep=False), directions, seed=model.seed)
    return Forest([boost(rows, np.ones(len(target), dtype=bool), settings, 250)])


def cover(model: pr.RiskModel, county: County, oracle: Forest) -> dict[str, float]:
    found = pr.build_risk_intervals(model, county.test, LEVEL)
    low, high = found["low"].to_numpy(), found["high"].to_numpy()
    like = 1.0 / (1.0 + np.exp(-oracle.margins(model.columns_.matrix(county.test))))
    risk = model.risk(county.test)
    bins = pd.qcut(risk.rank(method="first"), BINS, labels=False).to_numpy()
    means = pd.DataFrame({"low": low, "high": high, "truth": county.truth}).groupby(bins).mean()
    return {
        "same_features": float(np.mean((low <= like) & (like <= high))),
        "same_features_top_5_percent": float(
            np.mean(((low <= like) & (like <= high))[risk >= risk.quantile(0.95)])
        ),
        "groups_of_like_risk": float(means["truth"].between(means["low"], means["high"]).mean()),
        "single_true_risks": float(np.mean((low <= county.truth) & (county.truth <= high))),
        "median_high_over_low": float(np.median(high / low)),
    }


def judge_unlike(county: County, catalog: pr.Catalog, seed: int) -> dict[str, float]:
    limit = county.train[HELD_OUT].quantile(HELD_OUT_FROM)
    model = county.fit(catalog, ~(county.train[HELD_OUT] > limit), seed=seed)
    flag = pr.find_unlike(model, county.test)["unlike"].to_numpy()
    plain = pr.find_unlike(county.fit(catalog, seed=seed), county.test)["unlike"].to_numpy()
    strange = (county.test[HELD_OUT] > limit).to_numpy()
    risk = model.risk(county.test).to_numpy()

    def true_over_expected(mask: np.ndarray) -> float:
        return float(county.truth[mask].sum() / risk[mask].sum())

    return {
        "flagged": float(flag.mean()),
        "flagged_of_held_out_kind": float(flag[strange].mean()),
        "flagged_of_others": float(flag[~strange].mean()),
        "flagged_when_nothing_is_held_out": float(plain.mean()),
        "true_over_expected_flagged": true_over_expected(flag),
        "true_over_expected_others": true_over_expected(~flag),
        "mean_error_flagged": float(np.abs(risk - county.truth)[flag].mean()),
        "mean_error_others": float(np.abs(risk - county.truth)[~flag].mean()),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    catalog = pr.load_catalog("archive")
    seeds = range(FIRST_SEED, FIRST_SEED + options.counties)
    counties = [County(options.households, seed, catalog) for seed in seeds]
    covered, unlike = [], []
    for seed, county in zip(seeds, counties, strict=True):
        model = county.fit(catalog, n_refits=6, seed=seed)
        others = [other for other in counties if other is not county]
        covered.append(cover(model, county, learn_truth(model, others)))
        unlike.append(judge_unlike(county, catalog, seed))
    return {
        name: {key: round(float(value), 3) for key, value in pd.DataFrame(rows).mean().items()}
        for name, rows in ((f"intervals_of_{LEVEL:.0%}", covered), ("unlike", unlike))
    }


if __name__ == "__main__":
    run_script(__file__, __doc__, measure, {"none": dict}, {"households": 6000, "counties": 4})
