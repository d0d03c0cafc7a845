"""Trains a county of 100,000 households anew on eight as-of dates: seconds by step, peak memory.

Run with ``python benchmarks/retrain.py``; the figures are printed and kept in ``results/``. The county
is simulated before; that is not measured. ``--data`` names a folder with ``county``, such as that of
``county_predict.py``.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import peak_memory_gb, run_fresh, run_script

ROOT = Path(__file__).parents[1]
PERIODS = {
    "train": {"first": "2020-01-01", "last": "2021-10-01", "every": "3mo"},  # eight dates
    "test": {"first": "2023-10-01", "last": "2023-10-01", "every": "3mo"},
}


def simulate(households: str, folder: str) -> dict[str, Any]:
    from poverty_risk import make_household_history

    make_household_history(int(households), seed=0).tables.write(Path(folder) / "county")
    return {}


def train(folder: str, output: str) -> dict[str, Any]:
    """Everything that ``poverty-risk train`` does with the default config, step by step."""
    from poverty_risk import workflows
    from poverty_risk.config import load_config
    from poverty_risk.model import RiskModel
    from poverty_risk.workflows import training

    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = function(*arguments, **named)
            seconds[name] = round(seconds.get(name, 0) + time.perf_counter() - began, 1)
            return found

        return call

    config = load_config(
        ROOT / "configs/default.yaml",
        {"history.source": "folder", "history.folder": f"{folder}/county", "output": output}
        | {"periods": PERIODS},
    )
    for name in ("build_training_data", "build_features", "evaluate_risk"):
        setattr(training, name, timed(name, getattr(training, name)))
    RiskModel.fit = timed("fit", RiskModel.fit)  # type: ignore[method-assign]
    began = time.perf_counter()
    tables, _ = timed("read", workflows.read_tables)(config)
    result = timed("train_task", workflows.train_task)(config, tables, next(iter(config.tasks)))
    trained = time.perf_counter() - began
    timed("reports", workflows.write_reports)(config, result)
    timed("similar", workflows.keep_similar)(config, result)
    timed("log", workflows.log_result)(config, tables, result)
    return {
        "train_points": len(result.data.train),
        "outcomes": int(result.data.train_labels.sum()),
        "trees": result.model.training_.get("trees"),
        "retraining_seconds": round(trained, 1),
        "with_reports_and_mlflow_seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "steps": seconds,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or scratch
        if not options.data:
            run_fresh(__file__, "simulate", str(options.households), folder)
        return run_fresh(__file__, "train", folder, f"{scratch}/outputs")


if __name__ == "__main__":
    steps = {"simulate": simulate, "train": train}
    run_script(__file__, __doc__, measure, steps, {"households": 100_000, "data": ""})
