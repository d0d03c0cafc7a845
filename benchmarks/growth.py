"""How time grows: features with households and dates, explanations with trees and depth.

Run with ``python benchmarks/growth.py``; the figures are printed and kept in ``results/``. Features are
built from Parquet in ranges, beside a scan of the same columns; pandas computes some of them in memory.
Explanations take turns with `pred_contrib`, shap and plain `predict`, on the rows of the same county.
A smaller run: ``--households 4000 --rows 2000``.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import explanation
import features_scale
from measuring import run_fresh, run_script

PARTS = (16, 8, 4, 2, 1)
"""The county's households are divided by each of these."""

DATES = (1, 2, 4, 8)
TREES = (50, 100, 200, 400, 800)
DEPTHS = (3, 4, 6, 8, 10, 12)
USUAL = {"trees": 200, "num_leaves": 31, "max_depth": 8}
PANDAS_PARTS = (64, 32, 16)
ROUNDS = 3


def prepare(households: str, folder: str) -> dict[str, Any]:
    """Counties of each size, the rows of eight dates, and boosters of each number of trees and depth."""
    import lightgbm
    import numpy as np
    import pandas as pd

    import poverty_risk as pr

    tables = pr.make_household_history(int(households), seed=0).tables
    # The scan cannot leave out households: each size is a folder of its own.
    for part in PARTS:
        size = len(tables.households) // part
        tables.slice_households(0, size).write(Path(folder) / str(part) / "county")
    points = pr.build_prediction_points(
        tables, pd.date_range("2020-01-01", "2022-07-01", freq="6MS")
    )
    labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
    catalog = pr.load_catalog("archive")
    features = pr.build_features(tables, points.loc[labels.index], catalog)
    matrix = np.stack([features[name].to_numpy(float) for name in numbers_of(features)], axis=1)
    np.save(Path(folder) / "matrix.npy", matrix)
    data = lightgbm.Dataset(matrix, labels.to_numpy(), params={"verbosity": -1})
    for name, shape in shapes().items():
        settings = {"objective": "binary", "verbosity": -1, "learning_rate": 0.03, "seed": 0}
        settings |= {"min_data_in_leaf": 20, "num_threads": explanation.THREADS}
        settings |= {key: value for key, value in shape.items() if key != "trees"}
        lightgbm.train(settings, data, shape["trees"]).save_model(Path(folder) / f"{name}.txt")
    return {"rows": len(matrix), "features": matrix.shape[1]}


def numbers_of(features: Any) -> list[str]:
    return [str(name) for name in features.select_dtypes("number").columns]


def shapes() -> dict[str, dict[str, int]]:
    """Forests of growing number of trees, and of growing depth with as many leaves as that allows."""
    by_trees = {f"trees_{trees}": USUAL | {"trees": trees} for trees in TREES}
    by_depth = {
        f"depth_{depth}": USUAL | {"max_depth": depth, "num_leaves": min(2**depth, 255)}
        for depth in DEPTHS
    }
    return by_trees | by_depth


def measure(options: argparse.Namespace) -> dict[str, Any]:
    households, rows = options.households, str(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        prepared = run_fresh(__file__, "prepare", str(households), folder)
        largest = str(Path(folder) / "1")
        return {
            **{name: prepared[name] for name in ("rows", "features")},
            "by_households": [grow(folder, part, households, 1) for part in PARTS],
            "by_dates": [grow(folder, 1, households, dates) for dates in DATES],
            "pandas": [
                run_fresh(features_scale.__file__, "compare", largest, str(households // part))
                for part in PANDAS_PARTS
            ],
            "by_trees": [race(folder, f"trees_{n}", rows) | {"trees": n} for n in TREES],
            "by_depth": [race(folder, f"depth_{n}", rows) | {"depth": n} for n in DEPTHS],
        }


def grow(folder: str, part: int, households: int, dates: int) -> dict[str, Any]:
    """Features and scan in turns, each in its own process; medians."""
    script, many = features_scale.__file__, str(households)
    county = str(Path(folder) / str(part))
    ours, floor = [], []
    for _ in range(ROUNDS):
        ours.append(run_fresh(script, "build", county, many, str(dates)))
        floor.append(run_fresh(script, "scan", county, many))
    middle = sorted(ours, key=lambda run: run["seconds"])[ROUNDS // 2]
    return {
        "households": middle["households"],
        "dates": dates,
        "seconds": middle["seconds"],
        "peak_memory_gb": middle["peak_memory_gb"],
        "all_seconds": sorted(run["seconds"] for run in ours),
        "scan_seconds": sorted(run["seconds"] for run in floor)[ROUNDS // 2],
    }


def race(folder: str, booster: str, rows: str) -> dict[str, Any]:
    """Rows a second of each engine on one forest."""
    found = run_fresh(explanation.__file__, "compare", folder, f"{booster}.txt", rows, str(ROUNDS))
    rates = {name: side["rows_a_second"] for name, side in found["sides"].items()}
    return rates | {
        name: found[name] for name in ("tables_over_pred_contrib", "getting_ready_seconds")
    }


if __name__ == "__main__":
    run_script(
        __file__,
        str(__doc__),
        measure,
        {"prepare": prepare},
        {"households": 64_000, "rows": 20_000},
    )
