"""Predicts the risk of a county of 20,000 households, and of one household, in fresh processes.

Run with ``python benchmarks/predict_county.py``; the figures are printed and kept in ``results/``.
A model is trained first, on the same county and earlier dates; that is not measured.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import heavy_modules, peak_memory_gb, run_fresh, run_script

AS_OF = "2024-10-01"


def prepare(households: str, folder: str) -> dict[str, Any]:
    """A county, the records of one of its households, and a trained model, as folders."""
    import pandas as pd

    import poverty_risk as pr

    tables = pr.make_household_history(int(households), seed=0).tables
    tables.write(Path(folder) / "county")
    dates = pd.date_range("2020-01-01", "2022-07-01", freq="6MS")
    points = pr.build_prediction_points(tables, dates)
    labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
    catalog = pr.load_catalog("archive")
    features = pr.build_features(tables, points.loc[labels.index], catalog)
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    model = pr.RiskModel(catalog, task, n_estimators=300, learning_rate=0.05)
    model.fit(features, labels).save(Path(folder) / "model")
    members = pr.build_prediction_points(tables, AS_OF).index.get_level_values("household_id")
    one = str(members[len(members) // 2])
    tables.select_households([one]).write(Path(folder) / "one")
    return {"trees": model.training_.get("trees")}


def predict(folder: str, history: str, explain: str) -> dict[str, Any]:
    """Import, read, predict, predict again: as a program that starts anew would."""
    marks = [time.perf_counter()]
    from poverty_risk import predict_risk, read_history

    marks.append(time.perf_counter())
    tables = read_history(Path(folder) / history)
    marks.append(time.perf_counter())
    for _ in range(2):
        answer = predict_risk(
            tables,
            as_of_date=AS_OF,
            model=Path(folder) / "model",
            locale="zh",
            explain=explain == "explained",
        )
        marks.append(time.perf_counter())
    names = ("import", "read", "first_predict", "second_predict")
    seconds = zip(names, marks[:-1], marks[1:], strict=True)
    return {
        "households": len(answer),
        "ok": int((answer["status"] == "ok").sum()),
        "with_reasons": int((answer["reasons"].str.len() > 0).sum()),
        **{f"{name}_seconds": round(end - begin, 2) for name, begin, end in seconds},
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "heavy_modules": heavy_modules(),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = run_fresh(__file__, "prepare", str(options.households), folder)
        return {
            "trees": prepared["trees"],
            "county": run_fresh(__file__, "predict", folder, "county", "explained"),
            "county_without_reasons": run_fresh(__file__, "predict", folder, "county", "plain"),
            "one_household": run_fresh(__file__, "predict", folder, "one", "explained"),
        }


if __name__ == "__main__":
    steps = {"prepare": prepare, "predict": predict}
    run_script(__file__, __doc__, measure, steps, {"households": 20_000})
