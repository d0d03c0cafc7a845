"""Simulates a county of 100,000 households over six years: seconds and peak memory.

Run with ``python benchmarks/simulate.py``; the figures are printed and kept in ``results/``.
"""

import argparse
import time
from typing import Any

from measuring import peak_memory_gb, run_fresh, run_script


def simulate(households: str) -> dict[str, Any]:
    from poverty_risk import make_household_history

    began = time.perf_counter()
    county = make_household_history(int(households), "2019-01-01", "2025-01-01", seed=0)
    seconds = time.perf_counter() - began
    tables = county.tables
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "records": sum(tables.arrow(name).num_rows for name in tables.names),
        "fingerprint": tables.fingerprint,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    return run_fresh(__file__, "simulate", str(options.households))


if __name__ == "__main__":
    run_script(__file__, __doc__, measure, {"simulate": simulate}, {"households": 100_000})
