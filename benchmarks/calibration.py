"""How a model that is boosted again is calibrated: by villages left out, or as it was before that.

Run with ``python benchmarks/calibration.py``; the figures are printed and kept in ``results/``. Before,
the calibration of trees boosted on earlier dates was kept for those boosted again on earlier and later
dates. Both are judged on three test dates of each county by the true risk that the county implies: the
calibration slope (0.9 to 1.1 is asked for), expected over true outcomes, and the cross-entropy.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
from measuring import run_script
from scipy.special import logit

import poverty_risk as pr
from poverty_risk.boosting import Rows, boost, set_parameters
from poverty_risk.forest import Forest
from poverty_risk.logistic import fit_logistic_line

PERIODS = (
    ("2016-01-01", "2018-07-01", "2019-10-01"),
    ("2018-01-01", "2020-07-01", "2021-10-01"),
    ("2019-01-01", "2021-07-01", "2022-10-01"),
)
FIRST_SEED = 31


def refit_as_before(model: pr.RiskModel, X: pd.DataFrame, y: pd.Series, asked: pd.DataFrame) -> Any:
    """Risks of trees boosted again on both periods, by the calibration of the first trees."""
    dates = X.index.get_level_values("as_of_date")
    periods = [model.training_[name] for name in ("boosted", "later")]
    mask = np.any([(dates >= p["first"]) & (dates <= p["last"]) for p in periods], axis=0)
    columns = model.columns_
    rows = Rows(columns.matrix(X), y.to_numpy(), None, columns.names, columns.categorical)
    directions = list(model.directions.values())
    settings = set_parameters(model.get_params(deep=False), directions, seed=model.seed)
    trees = boost(rows, mask, settings, model.training_["trees"][0])
    return model.calibrate(Forest([trees]).margins(columns.matrix(asked)))


def judge(risk: Any, truth: np.ndarray) -> dict[str, float]:
    risk = np.asarray(risk)
    return {
        "slope": fit_logistic_line(logit(risk), truth)[0],
        "true_over_expected": float(truth.sum() / risk.sum()),
        "cross_entropy": float(-(truth * np.log(risk) + (1 - truth) * np.log1p(-risk)).mean()),
    }


def measure_county(households: int, seed: int, every: str) -> list[dict[str, Any]]:
    county = pr.make_household_history(households, start="2015-01-01", seed=seed)
    tables, catalog = county.tables, pr.load_catalog("archive")
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    found = []
    for first, last, test in PERIODS:
        points = pr.build_prediction_points(tables, pd.date_range(first, last, freq=every))
        labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
        points = points.loc[labels.index]
        asked = pr.build_prediction_points(tables, test)
        features = pr.build_features(tables, pd.concat([points, asked]), catalog)
        X, at = features.loc[points.index], features.loc[asked.index]
        truth = county.true_risk(asked, "12mo", replicates=60)["true_risk"].to_numpy()
        settings = {"seed": seed, "min_child_samples": 100 if households > 4000 else 30}
        first_trees = pr.RiskModel(catalog, task, **settings)
        first_trees.fit(X, labels)
        again = pr.RiskModel(catalog, task, refit=True, **settings)
        again.fit(X, labels, groups=points["village_id"])
        found.append(
            {
                "before": judge(refit_as_before(first_trees, X, labels, at), truth),
                "now": judge(again.risk(at), truth),
            }
        )
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    seeds = range(FIRST_SEED, FIRST_SEED + options.counties)
    rows = [row for s in seeds for row in measure_county(options.households, s, "3MS")]
    figures: dict[str, Any] = {"periods": len(rows)}
    for name in ("before", "now"):
        table = pd.DataFrame([row[name] for row in rows])
        figures[name] = {
            "mean_slope": round(float(table["slope"].mean()), 3),
            "slopes_within_0.9_1.1": round(float(table["slope"].between(0.9, 1.1).mean()), 3),
            "mean_true_over_expected": round(float(table["true_over_expected"].mean()), 3),
            "mean_abs_log_true_over_expected": round(
                float(np.log(table["true_over_expected"]).abs().mean()), 3
            ),
        }
    gain = np.array([r["now"]["cross_entropy"] - r["before"]["cross_entropy"] for r in rows])
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
    figures["cross_entropy_now_minus_before"] = [
        round(float(value), 6)
        for value in (gain.mean(), gain.mean() - 1.96 * error, gain.mean() + 1.96 * error)
    ]
    return figures


if __name__ == "__main__":
    run_script(__file__, __doc__, measure, {"none": dict}, {"households": 6000, "counties": 4})
