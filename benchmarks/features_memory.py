"""Builds all features of 50,000 households on one and on four as-of dates: seconds, peak memory.

Run with ``python benchmarks/features_memory.py``; the figures are printed and kept in ``results/``.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import forget_peak_memory, peak_memory_gb, run_fresh, run_script

DATES = ("2023-01-01", "2023-04-01", "2023-07-01", "2023-10-01")


def simulate(households: str, folder: str) -> dict[str, Any]:
    from poverty_risk import make_household_history

    make_household_history(int(households), seed=0).tables.write(folder)
    return {}


def build(folder: str, dates: str) -> dict[str, Any]:
    from poverty_risk import build_features, build_prediction_points, load_catalog, read_history

    began = time.perf_counter()
    tables = read_history(folder)
    read, reading_peak = time.perf_counter() - began, peak_memory_gb()
    points = build_prediction_points(tables, DATES[: int(dates)])
    apart = forget_peak_memory()
    before = peak_memory_gb()
    began, used = time.perf_counter(), time.process_time()
    features = build_features(tables, points, load_catalog("archive"))
    seconds = time.perf_counter() - began
    return {
        "points": len(features),
        "features": features.shape[1],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "held_before_gb": round(before, 2) if apart else None,
        "read_seconds": round(read, 1),
        "reading_peak_memory_gb": round(reading_peak, 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "history")
        run_fresh(__file__, "simulate", str(options.households), folder)
        return {
            f"dates_{number}": run_fresh(__file__, "build", folder, str(number))
            for number in (1, len(DATES))
        }


if __name__ == "__main__":
    steps = {"simulate": simulate, "build": build}
    run_script(__file__, __doc__, measure, steps, {"households": 50_000})
