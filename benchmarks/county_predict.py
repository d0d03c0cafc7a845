"""Predicts a county of 100,000 households from Parquet: the command, in ranges, and as a whole.

Run with ``python benchmarks/county_predict.py``; the figures are printed and kept in ``results/``.
The county is simulated and a model trained on its first 20,000 households before; that is not
measured. ``--data`` names a folder with ``county`` and ``model`` from an earlier run.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import peak_memory_gb, run_fresh, run_script

ROOT = Path(__file__).parents[1]
TRAINED_ON = 20_000
RANGES = (5_000, 20_000, 50_000)


def train(tables: Any, folder: Path) -> None:
    """A model of usual size, on the first households of a county."""
    import pandas as pd

    import poverty_risk as pr

    own = tables.slice_households(0, min(TRAINED_ON, len(tables.households)))
    points = pr.build_prediction_points(own, pd.date_range("2020-01-01", "2022-07-01", freq="6MS"))
    labels = pr.label_returns(own, points, "12mo", "identified").dropna()
    catalog = pr.load_catalog("archive")
    features = pr.build_features(own, points.loc[labels.index], catalog)
    task = pr.PredictionTask(own.schema, "at_risk", "identified", "12mo", own.line)
    model = pr.RiskModel(catalog, task, n_estimators=300, learning_rate=0.05)
    model.fit(features, labels).save(folder)


def prepare(households: str, folder: str) -> dict[str, Any]:
    from poverty_risk import make_household_history

    tables = make_household_history(int(households), seed=0).tables
    tables.write(Path(folder) / "county")
    train(tables, Path(folder) / "model")
    return {}


def command(folder: str, output: str) -> dict[str, Any]:
    """``poverty-risk predict`` as an office runs it: features, risks, explanations, reasons, files."""
    program = Path(sys.executable).with_name("poverty-risk")
    asked = ["predict", "--config", ROOT / "configs/default.yaml", "--folder", f"{folder}/county"]
    asked += ["--model", f"{folder}/model", "--output", output]
    began = time.perf_counter()
    subprocess.run([program, *asked], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_gb": round(used.ru_maxrss / unit, 2),
    }


def in_ranges(folder: str, output: str, households: str) -> dict[str, Any]:
    from poverty_risk import predict_folder

    began = time.perf_counter()
    paths = predict_folder(
        Path(folder) / "county",
        Path(output) / "ranges",
        model=Path(folder) / "model",
        households=int(households),
    )
    return _told(began) | {"output_mb": round(next(iter(paths.values())).stat().st_size / 2**20, 1)}


def whole(folder: str) -> dict[str, Any]:
    from poverty_risk import predict_risk, read_history

    began = time.perf_counter()
    tables = read_history(Path(folder) / "county")
    answer = predict_risk(tables, as_of_date=tables.observed_to, model=Path(folder) / "model")
    return _told(began) | {
        "households": len(answer),
        "ok": int((answer["status"] == "ok").sum()),
        "with_reasons": int((answer["reasons"].str.len() > 0).sum()),
    }


def _told(began: float) -> dict[str, Any]:
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or scratch
        if not options.data:
            run_fresh(__file__, "prepare", str(options.households), folder)
        figures = {"command": run_fresh(__file__, "command", folder, f"{scratch}/outputs")}
        for households in RANGES:
            output = f"{scratch}/in_{households}"
            figures[f"ranges_of_{households}"] = run_fresh(
                __file__, "in_ranges", folder, output, str(households)
            )
        return figures | {"whole": run_fresh(__file__, "whole", folder)}


if __name__ == "__main__":
    steps = {"prepare": prepare, "command": command, "in_ranges": in_ranges, "whole": whole}
    run_script(__file__, __doc__, measure, steps, {"households": 100_000, "data": ""})
