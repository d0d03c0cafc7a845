"""How long a visit list takes for a large county: 100,000 households, 2,000 visits, minima.

Run with ``python benchmarks/visits.py``; it prints one line per setting: the median of five runs.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import pandas as pd

from poverty_risk.visits import build_visit_list

SETTINGS = {
    "county": {"capacity": 2000},
    "county and townships, minimum per village": {
        "capacity": {"county": 2000, "township_id": 170},
        "minimum": {"village_id": 1},
    },
    "county, townships and villages, minimum per village": {
        "capacity": {"county": 2000, "township_id": 170, "village_id": 12},
        "minimum": {"village_id": 3},
    },
}


def make_risks(households: int, townships: int, villages: int, seed: int = 0) -> pd.DataFrame:
    """Risks of about 1 %, higher in some townships, with rule hits and earlier visits."""
    rng = np.random.default_rng(seed)
    township = rng.integers(townships, size=households)
    village = rng.integers(villages, size=households)
    margin = -5.0 + rng.normal(0, 1.2, households) + rng.normal(0, 0.5, townships)[township]
    severity = rng.choice(
        ["red", "orange", "yellow", None], p=[0.01, 0.04, 0.1, 0.85], size=households
    )
    days = pd.to_timedelta(rng.integers(1, 720, size=households), unit="D")
    return pd.DataFrame(
        {
            "risk": 1 / (1 + np.exp(-margin)),
            "severity": severity,
            "rule_codes": [["R1"] if one else [] for one in severity],
            "last_visit": pd.Timestamp("2024-01-01") - days,
            "township_id": [f"T{one:02d}" for one in township],
            "village_id": [
                f"T{one:02d}-V{two:02d}" for one, two in zip(township, village, strict=True)
            ],
        },
        index=pd.Index([f"H{number:07d}" for number in range(households)], name="household_id"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--households", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    risk = make_risks(options.households, townships=12, villages=20)
    machine = f"Python {platform.python_version()}, pandas {pd.__version__}, {platform.machine()}"
    print(f"{options.households:,} households; {machine}")
    for name, setting in SETTINGS.items():
        seconds = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            visits = build_visit_list(
                risk, as_of_date="2024-01-01", cool_down=90, reserve=200, **setting
            )
            seconds.append(time.perf_counter() - start)
        share = visits.summary["share"]
        print(
            f"{name}: {statistics.median(seconds):.2f} s, {len(visits.visits)} visits, "
            f"share of expected returns {share['visit_list']:.1%} "
            f"(rules {share['rules_alone']:.1%}, random {share['at_random']:.1%})"
        )


if __name__ == "__main__":
    main()
