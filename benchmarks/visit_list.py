"""Returns that visits reach on a simulated county: the list, the model, the rules, random, the truth.

Run with ``python benchmarks/visit_list.py``; the figures are printed and kept in ``results/``. The
default config is trained on a county of 20,000; on its test date the visits of 2 % and of 5 % of the
households are chosen in each way, and the returns that then really followed are counted. The list is the
one that an office would get (red rule hits first, minimum per village, cool-down, 5 % at random), with
other settings beside it; ties and random draws are averaged over seeds.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd
from measuring import run_script

from poverty_risk import build_visit_list, evaluate_visit_list, workflows
from poverty_risk.baselines import OfficeRules
from poverty_risk.config import VisitSettings, load_config

SHARES = (0.02, 0.05)
SETTINGS: dict[str, dict[str, Any]] = {
    "list as configured": {},
    "list, by risk alone with minima": {"first": ()},
    "list, by risk alone without minima": {"first": (), "minimum": None, "random_share": 0.0},
}


def find_candidates(result: workflows.TaskResult, visit_feature: str) -> pd.DataFrame:
    """What `build_visit_list` needs of every household of the test date."""
    features, risk = result.data.test, result.risks["model"]
    rules = OfficeRules.load()
    hits = rules.hits(features)
    as_of = features.index.get_level_values("as_of_date")[0]
    days = pd.to_timedelta(features[visit_feature], unit="D")
    candidates = pd.DataFrame(
        {
            "risk": risk,
            "tier": result.model.tier(risk),
            "severity": rules.severity(features),
            "rule_codes": [list(hits.columns[row]) for row in hits.to_numpy()],
            "last_visit": as_of - days,
        }
    ).join(result.data.test_points[["township_id", "village_id"]])
    return candidates.droplevel("as_of_date")


def count_returns(
    result: workflows.TaskResult, settings: VisitSettings, share: float, seeds: int
) -> dict[str, float]:
    """Returns reached by so many visits in each way."""
    assert settings.visit_feature is not None
    candidates = find_candidates(result, settings.visit_feature)
    labels = result.data.test_labels.droplevel("as_of_date")
    as_of = result.data.test.index.get_level_values("as_of_date")[0]
    number = round(share * len(candidates))
    usual = settings.model_dump(include={"minimum", "cool_down", "random_share", "first"})
    reached: dict[str, list[float]] = {}
    for seed in range(seeds):
        for name, other in SETTINGS.items():
            listed = build_visit_list(
                candidates, capacity=number, as_of_date=as_of, seed=seed, **(usual | other)
            )
            ways = evaluate_visit_list(listed, labels).ways["returns"]
            reached.setdefault(name, []).append(float(ways["visit_list"]))
        reached.setdefault("rules alone", []).append(float(ways["rules_alone"]))
        reached.setdefault("at random", []).append(float(ways["at_random"]))
    for name in ("model", "truth"):
        ranked = result.risks[name].droplevel("as_of_date").sort_values(ascending=False)
        reached[f"{name} alone"] = [float(labels[ranked.index[:number]].sum())]
    return {"visits": number, "all returns": float(labels.sum())} | {
        name: round(float(np.mean(values)), 1) for name, values in reached.items()
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    config = load_config(
        "configs/default.yaml", {"history.simulate.households": str(options.households)}
    )
    tables, county = workflows.read_tables(config)
    result = workflows.train_task(config, tables, next(iter(config.tasks)), county)
    return {
        f"{share:.0%} of households": count_returns(result, config.visits, share, options.seeds)
        for share in SHARES
    }


if __name__ == "__main__":
    run_script(__file__, __doc__ or "", measure, {}, {"households": 20_000, "seeds": 20})
