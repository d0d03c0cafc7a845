"""Exact explanations of a county: tables against LightGBM's own `pred_contrib`, and plain `predict`.

Run with ``python benchmarks/explanation.py``; the figures are printed and kept in ``results/``. The
default model is trained on a simulated county, its rows are repeated up to the number asked for. All
sides take turns in one process; `pred_contrib` and shap get fewer rows, because they take minutes, and
are compared in rows a second. A smaller run: ``--rows 20000 --households 5000 --repeats 3``.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from measuring import forget_peak_memory, peak_memory_gb, run_fresh, run_script

THREADS = 2
SHAPES = {
    "15 leaves, 600 trees": {"num_leaves": 15, "max_depth": 8, "trees": 600},
    "31 leaves, 200 trees": {"num_leaves": 31, "max_depth": 8, "trees": 200},
    "63 leaves, 400 trees": {"num_leaves": 63, "max_depth": 8, "trees": 400},
    "63 leaves, 400 trees, any depth": {"num_leaves": 63, "max_depth": -1, "trees": 400},
}


def prepare(households: str, folder: str) -> dict[str, Any]:
    """The default model of a simulated county, its matrix, and models of other shapes."""
    import pandas as pd

    import poverty_risk as pr

    tables = pr.make_household_history(int(households), seed=0).tables
    dates = pd.date_range("2020-01-01", "2022-07-01", freq="6MS")
    points = pr.build_prediction_points(tables, dates)
    labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
    catalog = pr.load_catalog("archive")
    features = pr.build_features(tables, points.loc[labels.index], catalog)
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    model = pr.RiskModel(catalog, task).fit(features, labels)
    model.save(Path(folder) / "model")
    matrix = model.columns_.matrix(features)
    np.save(Path(folder) / "matrix.npy", matrix)
    data = lightgbm.Dataset(matrix, labels.to_numpy(), params={"verbosity": -1})
    for number, shape in enumerate(SHAPES.values()):
        settings = {"objective": "binary", "verbosity": -1, "learning_rate": 0.03, "seed": 0}
        settings |= {"min_data_in_leaf": 50, "num_threads": THREADS}
        settings |= {name: value for name, value in shape.items() if name != "trees"}
        booster = lightgbm.train(settings, data, shape["trees"])
        booster.save_model(Path(folder) / f"shape_{number}.txt")
    return {"rows": len(matrix), "features": matrix.shape[1]}


def compare(folder: str, booster: str, rows: str, repeats: str) -> dict[str, Any]:
    """Both engines, shap and plain prediction in turns, on the same model."""
    import shap

    from poverty_risk.shapley import TreeContributions

    text = (Path(folder) / booster).read_text(encoding="utf-8")
    plain = lightgbm.Booster(model_str=text)
    X = read_rows(folder, int(rows))
    began = time.perf_counter()
    tables = TreeContributions.from_texts([text])
    tables.warm_up()
    ready = time.perf_counter() - began
    few = X[: max(400, len(X) // 50)]
    warnings.filterwarnings("ignore", "LightGBM binary classifier", UserWarning)
    peer = shap.TreeExplainer(plain)
    sides: dict[str, tuple[Callable[[], Any], int]] = {
        "tables": (lambda: tables.compute(X, THREADS), len(X)),
        "pred_contrib": (
            lambda: plain.predict(few, pred_contrib=True, num_threads=THREADS),
            len(few),
        ),
        "shap": (lambda: peer.shap_values(few), len(few)),
        "predict": (lambda: plain.predict(X, raw_score=True, num_threads=THREADS), len(X)),
    }
    speeds = time_in_turns(sides, int(repeats))
    found, expected = tables.compute(few), plain.predict(few, pred_contrib=True)
    margin = plain.predict(few, raw_score=True)
    medians = {name: one["rows_a_second"] for name, one in speeds.items()}
    return {
        "trees": plain.num_trees(),
        "rows": len(X),
        "rows_of_pred_contrib_and_shap": len(few),
        "sides": speeds,
        "one_row": time_one_row(plain, tables, X),
        "getting_ready_seconds": round(ready, 2),
        "tables_mb": round(tables.table.nbytes / 1e6, 1),
        "edges_of_deep_leaves": len(tables.deep.parent),
        "largest_difference": float(np.abs(found - expected).max()),
        # Which of the two it comes from: their sums should give the margin.
        "tables_off_the_margin": float(np.abs(found.sum(axis=1) - margin).max()),
        "pred_contrib_off_the_margin": float(np.abs(expected.sum(axis=1) - margin).max()),
        "predict_over_tables": round(medians["predict"] / medians["tables"], 2),
        "tables_over_pred_contrib": round(medians["tables"] / medians["pred_contrib"], 1),
    }


def read_rows(folder: str, rows: int) -> np.ndarray:
    """So many rows, those of the county again and again in another order each time."""
    matrix = np.load(Path(folder) / "matrix.npy")
    rng = np.random.default_rng(0)
    again = -(-rows // len(matrix))
    chosen = np.concatenate([rng.permutation(len(matrix)) for _ in range(again)])[:rows]
    return matrix[chosen]


def time_in_turns(
    sides: dict[str, tuple[Callable[[], Any], int]], repeats: int
) -> dict[str, dict[str, float]]:
    """Median, lowest and highest speed of each side; a round of all of them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, (run, _) in sides.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {
        name: {
            "rows_a_second": round(rows / statistics.median(seconds[name][1:])),
            "lowest": round(rows / max(seconds[name][1:])),
            "highest": round(rows / min(seconds[name][1:])),
        }
        for name, (_, rows) in sides.items()
    }


def time_one_row(plain: lightgbm.Booster, tables: Any, X: np.ndarray) -> dict[str, float]:
    """Median milliseconds of one row, in turns."""
    sides = {
        "tables": lambda row: tables.compute(row, THREADS),
        "pred_contrib": lambda row: plain.predict(row, pred_contrib=True, num_threads=THREADS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for place in range(200):
        for name, run in sides.items():
            began = time.perf_counter()
            run(X[place : place + 1])
            seconds[name].append(time.perf_counter() - began)
    return {f"{name}_ms": round(statistics.median(own) * 1e3, 3) for name, own in seconds.items()}


def weigh(folder: str, rows: str) -> dict[str, Any]:
    """Memory for so many rows beyond matrix and result."""
    from poverty_risk.shapley import TreeContributions

    text = (Path(folder) / "model" / "booster_0.txt").read_text(encoding="utf-8")
    tables = TreeContributions.from_texts([text])
    tables.warm_up()
    X = read_rows(folder, int(rows))
    forget_peak_memory()
    before = peak_memory_gb()
    result = tables.compute(X, THREADS)
    more = peak_memory_gb() - before - result.nbytes / 2**30
    return {"rows": len(X), "beyond_result_mb": round(more * 1024, 1)}


def start(folder: str, engine: str, rows: str) -> dict[str, Any]:
    """First explanation of a fresh process by either engine, everything compiled before."""
    import pandas as pd

    import poverty_risk as pr

    model = pr.RiskModel.load(Path(folder) / "model")
    values = read_rows(folder, int(rows))
    names = list(model.feature_names_in_)
    index = pd.MultiIndex.from_product(
        [range(len(values)), [pd.Timestamp("2022-01-01")]], names=["household_id", "as_of_date"]
    )
    features = pd.DataFrame(values, index=index, columns=names)
    for name, codes in model.columns_.categories.items():
        kept = features[name].fillna(-1).astype(int)
        features[name] = pd.Categorical.from_codes(kept, categories=list(codes))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        pr.explain_risk(model, features, engine=engine)
        seconds.append(round(time.perf_counter() - began, 3))
    return {"rows": len(values), "first_seconds": seconds[0], "second_seconds": seconds[1]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rows, repeats = str(options.rows), str(options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        prepared = run_fresh(__file__, "prepare", str(options.households), folder)
        default = run_fresh(
            __file__, "compare", folder, str(Path("model") / "booster_0.txt"), rows, repeats
        )
        fewer = str(max(1, options.rows // 20))
        return {
            "threads": THREADS,
            "features": prepared["features"],
            "rows_of_the_county": prepared["rows"],
            "default_model": default,
            "other_shapes": {
                name: run_fresh(__file__, "compare", folder, f"shape_{number}.txt", fewer, repeats)
                for number, name in enumerate(SHAPES)
            },
            "memory": [
                run_fresh(__file__, "weigh", folder, str(options.rows * times))
                for times in (1, 2, 4)
            ],
            "fresh_process": {
                f"{engine}, {count} rows": run_fresh(__file__, "start", folder, engine, str(count))
                for count in (1, 1_000, 4_000)
                for engine in ("tables", "plain")
            },
        }


if __name__ == "__main__":
    steps = {"prepare": prepare, "compare": compare, "weigh": weigh, "start": start}
    options = {"rows": 100_000, "households": 20_000, "repeats": 7}
    run_script(__file__, str(__doc__), measure, steps, options)
