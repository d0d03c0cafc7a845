"""Training beside another training on the same cores: threads that wait by spinning, and threads that sleep.

Run with ``python benchmarks/company.py``; the figures are printed and kept in ``results/``. LightGBM's
threads wait for each other many times a second. By default (GNU OpenMP) they spin meanwhile, which costs
nothing on free cores, and on shared ones keeps the very thread that is waited for from running. The
command line sets ``GOMP_SPINCOUNT``, unless somebody has set it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from measuring import run_script

from poverty_risk.cli import ENVIRONMENT

ROUNDS = 3


def train(rows: str) -> dict[str, Any]:
    import lightgbm
    import numpy as np

    rng = np.random.default_rng(0)
    features = rng.normal(size=(int(rows), 130))
    target = (rng.random(int(rows)) < 1 / (1 + np.exp(3 - features[:, 0]))).astype(float)
    settings = {"objective": "binary", "num_leaves": 15, "verbosity": -1, "num_threads": 2}
    data = lightgbm.Dataset(features, target, params={"verbosity": -1})
    began = time.perf_counter()
    lightgbm.train(settings, data, 150)
    return {"seconds": time.perf_counter() - began}


def run_at_once(copies: int, rows: int, spin: str | None) -> float:
    """Seconds until the last of some trainings that began together is done, start included."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, __file__, "--step", "train", str(rows)]
    began = time.perf_counter()
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(copies)
    ]
    if any(process.wait() for process in running):
        raise subprocess.SubprocessError(command)
    return time.perf_counter() - began


def measure(options: argparse.Namespace) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for copies in (1, 2):
            for name, spin in (("spinning", None), ("sleeping", ENVIRONMENT["GOMP_SPINCOUNT"])):
                took = run_at_once(copies, options.rows, spin)
                seconds.setdefault(f"{copies}_{name}", []).append(round(took, 2))
    middle = {name: statistics.median(all_) for name, all_ in seconds.items()}
    return {
        "seconds": seconds,
        "alone_sleeping_to_spinning": round(middle["1_sleeping"] / middle["1_spinning"], 2),
        "in_company_spinning_to_sleeping": round(middle["2_spinning"] / middle["2_sleeping"], 2),
    }


if __name__ == "__main__":
    run_script(__file__, __doc__, measure, {"train": train}, {"rows": 60_000})
