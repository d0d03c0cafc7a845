"""Measures a step in a fresh process, and keeps the figures with the machine they were taken on."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from poverty_risk.cli import ENVIRONMENT

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "poverty-risk",
    "numpy",
    "pandas",
    "pyarrow",
    "duckdb",
    "ibis-framework",
    "scikit-learn",
    "lightgbm",
    "numba",
    "shap",
)
HEAVY = ("mlflow", "shap", "sklearn", "matplotlib", "lightgbm", "ibis", "duckdb", "pandas", "scipy")
"""Modules that cost a program time or memory when they are imported."""


def describe_machine() -> dict[str, Any]:
    """Cores, processor and memory; no host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cores": cores,
        "processor": _name_processor(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _name_processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def peak_memory_gb() -> float:
    """Most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def forget_peak_memory() -> bool:
    """Let the peak start again from what is held now; only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def heavy_modules() -> list[str]:
    """Which of the heavy modules this process has imported."""
    return [name for name in HEAVY if name in sys.modules]


def run_fresh(script: str, step: str, *arguments: str) -> dict[str, Any]:
    """Run a step of a script in a process of its own; its figures, and the wall-clock seconds."""
    command = [sys.executable, script, "--step", step, *arguments]
    told = ENVIRONMENT | os.environ  # as the command line runs
    began = time.perf_counter()
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=told)
    seconds = time.perf_counter() - began
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures | {"process_seconds": round(seconds, 2)}


def run_script(
    script: str,
    description: str,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    steps: dict[str, Callable[..., dict[str, Any]]],
    options: Mapping[str, int | str],
) -> None:
    """Command line of a benchmark: measure everything and keep it, or one step for `run_fresh`.

    Options are numbers, or paths as texts, of which the last name alone is kept.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, default in options.items():
        told = f"default {default:,}" if isinstance(default, int) else "a folder"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=told)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are kept")
    parser.add_argument("--step", choices=sorted(steps), help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(steps[chosen.step](*chosen.arguments)))
        return
    name = Path(script).stem
    busy = os.getloadavg()[0]
    figures = measure(chosen)
    result = {
        "benchmark": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "settings": {
            option: value if isinstance(value, int) else Path(value).name
            for option, value in ((option, getattr(chosen, option)) for option in options)
        },
        "figures": figures,
        "machine": describe_machine(),
        "load_before": round(busy, 2),
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in PACKAGES},
    }
    chosen.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    (chosen.results / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
