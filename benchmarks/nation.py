"""Predicts a nation of counties out of core: killed in the middle, gone on with, memory by range.

Run with ``python benchmarks/nation.py`` (20,000 households, two minutes) or
``python benchmarks/nation.py --households 3000000``; the figures are printed and kept in ``results/``.
Counties of 100,000 households are simulated one at a time, which takes a minute each and is not
measured; ``--data`` names a folder where they are looked for and left (86 MB each), with the model.
The line to 30 million households is drawn from the ranges of this run.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from county_predict import train
from measuring import forget_peak_memory, peak_memory_gb, run_fresh, run_script

COUNTY, SMALLEST_NATION = 100_000, 4
PER_RANGE = 20_000
NATION = 30_000_000


def simulate(households: str, seed: str, folder: str) -> dict[str, Any]:
    """One county; of the first one a model is trained, too."""
    from poverty_risk import make_household_history

    tables = make_household_history(int(households), seed=int(seed)).tables
    tables.write(Path(folder) / "counties" / f"county_{int(seed):03}")
    if not (Path(folder) / "model").exists():
        train(tables, Path(folder) / "model")
    return {"households": len(tables.households)}


def predict(folder: str, output: str, counties: str, per_range: str) -> dict[str, Any]:
    """Predict the first counties one after the other; seconds and peak memory by range."""
    from poverty_risk.batch import Batch
    from poverty_risk.history_chunks import find_counties

    began = time.perf_counter()
    batch = Batch.load(Path(folder) / "model", locale="zh", households=int(per_range))
    ranges, mark = [], [time.perf_counter()]

    def tell(households: int) -> None:
        now = time.perf_counter()
        ranges.append((households, round(now - mark[0], 2), round(peak_memory_gb(), 3)))
        mark[0] = now
        forget_peak_memory()

    chosen = list(find_counties(Path(folder) / "counties").items())[: int(counties)]
    paths = [batch.predict(path, Path(output) / name, on_range=tell) for name, path in chosen]
    return {
        "counties": len(chosen),
        "ranges": ranges,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "output_mb": round(sum(path.stat().st_size for path in paths) / 2**20, 1),
    }


def kill_in_the_middle(folder: str, output: Path, counties: int, per_range: int) -> float:
    """Kill a run with SIGKILL in the county in the middle, within its second range; its seconds."""
    began = time.perf_counter()
    county = sorted((Path(folder) / "counties").iterdir())[counties // 2].name
    arguments = [folder, str(output), str(counties), str(per_range)]
    started = subprocess.Popen(
        [sys.executable, __file__, "--step", "predict", *arguments], stdout=subprocess.DEVNULL
    )
    while not list((output / county / "parts").glob("0*.parquet")):
        if started.poll() is not None:
            message = "the run ended before it could be killed"
            raise RuntimeError(message)
        time.sleep(0.01)
    time.sleep(0.5)  # within the next range
    started.send_signal(signal.SIGKILL)
    started.wait()
    return time.perf_counter() - began


def draw_line(ranges: list[list[float]]) -> dict[str, Any]:
    """What a larger nation takes: seconds by household, and whether memory grows with households."""
    sizes, seconds, peaks = (np.array(column) for column in zip(*ranges, strict=True))
    # The first range also loads and compiles.
    pace = seconds[1:].sum() / sizes[1:].sum()
    early, late = np.array_split(peaks, 2)
    return {
        "households": int(sizes.sum()),
        "households_per_second": round(1 / pace),
        "peak_memory_gb": round(float(peaks.max()), 2),
        "median_peak_of_first_half_gb": round(float(np.median(early)), 3),
        "median_peak_of_second_half_gb": round(float(np.median(late)), 3),
        "hours_for_30_million": round(NATION * pace / 3600, 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    size = min(COUNTY, options.households // SMALLEST_NATION)
    counties, per_range = options.households // size, min(PER_RANGE, size // 2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or scratch
        for seed in range(counties):
            if not (Path(folder) / "counties" / f"county_{seed:03}").exists():
                run_fresh(__file__, "simulate", str(size), str(seed), folder)
        output, again = Path(scratch) / "predictions", Path(scratch) / "again"
        began = kill_in_the_middle(folder, output, counties, per_range)
        finished = len(list(output.glob("*/predictions.parquet")))
        rest = run_fresh(__file__, "predict", folder, str(output), str(counties), str(per_range))
        # Without a stop, from the first county to the one that was killed in.
        half = str(counties // 2 + 1)
        first = run_fresh(__file__, "predict", folder, str(again), half, str(per_range))
        same = [
            path.read_bytes() == (output / path.parent.name / path.name).read_bytes()
            for path in sorted(again.glob("*/predictions.parquet"))
        ]
        histories = Path(folder, "counties").rglob("*.parquet")
        return {
            "counties": counties,
            "households_per_county": size,
            "households_per_range": per_range,
            "seconds_until_killed": round(began, 1),
            "counties_finished_until_killed": finished,
            "seconds_gone_on": rest["seconds"],
            "ranges_gone_on": len(rest["ranges"]),
            "output_mb": rest["output_mb"],
            "counties_identical": f"{sum(same)} of {len(same)}",
            "history_mb": round(sum(path.stat().st_size for path in histories) / 2**20, 1),
            "line": draw_line(first["ranges"]),
            "line_gone_on": draw_line(rest["ranges"]),
            "peak_memory_gb_by_range": [gb for _, _, gb in first["ranges"]],
        }


if __name__ == "__main__":
    steps = {"simulate": simulate, "predict": predict}
    run_script(__file__, __doc__, measure, steps, {"households": 20_000, "data": ""})
