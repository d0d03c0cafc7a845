"""From a messy county's files to a visit round: imported, trained, scored, explained, written.

Run with ``python benchmarks/county_end_to_end.py``; the figures are printed and kept in ``results/``. The
files are those of ``tests/messy_county.py`` (20,000 households, four yearly exports, quarterly lists of
monitored households, feeds of departments); writing them is not measured. So few exports leave room for a
horizon of six months and no embargo within training: the figures show that the way works, not how well a
county's model would be.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import peak_memory_gb, run_fresh, run_script

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))


def write(households: str, folder: str) -> dict[str, Any]:
    """The files, and a run config for their history."""
    import yaml

    from messy_county import LINE, write_messy_county

    county = write_messy_county(Path(folder) / "files", int(households))
    settings = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text(encoding="utf-8"))
    settings["history"] = {"source": "folder", "folder": f"{folder}/history", "schema": "archive"}
    settings["line"], settings["output"] = LINE, f"{folder}/out"
    settings["model"] |= {"embargo": False}
    settings["evaluation"] |= {"truth_replicates": 0}
    settings["scoring"] |= {"as_of_date": "2025-01-01"}
    settings["tracking"]["enabled"] = False
    settings["tasks"] = {
        "identified_6mo": {"cohort": "at_risk", "label": "identified", "horizon": "6mo"}
    }
    settings["periods"] = {
        "train": {"first": "2022-01-15", "last": "2023-07-15", "every": "3mo"},
        "test": {"first": "2024-03-15", "last": "2024-03-15", "every": "3mo"},
    }
    (Path(folder) / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return {
        "rows": sum(file.rows for file in county.files),
        "rejected": sum(file.rejected for file in county.files),
        "repeated": sum(file.repeated for file in county.files),
    }


def go_the_way(folder: str) -> dict[str, Any]:
    """Import, train, score with reasons, choose, tell, write."""
    from poverty_risk import workflows
    from poverty_risk.config import load_config

    config, marks = load_config(f"{folder}/run.yaml"), {"begin": time.perf_counter()}

    def mark(name: str) -> None:
        marks[name] = time.perf_counter()

    done = workflows.import_history(
        config, [f"{folder}/files"], store=f"{folder}/store", folder=f"{folder}/history"
    )
    mark("import")
    result = workflows.train_task(config, done.tables, "identified_6mo")
    workflows.keep_similar(config, result)
    mark("train")
    answer = workflows.score_latest(config, done.tables, result.folder)["answer"]
    mark("score")
    planned = workflows.plan_round(config, done.tables, result.folder)
    facts = workflows.tell_round(planned, "zh")
    workflows.write_round(config, planned, facts)
    mark("round")
    names, model = list(marks), result.evaluation.metrics.loc["model"]
    return {
        "counts": vars(done.report.counts),
        "points_tested": int(model["n"]),
        "outcomes": int(model["positives"]),
        "auc": round(float(model["auc"]), 3),
        "average_precision": round(float(model["average_precision"]), 3),
        "scored": int((answer["status"] == "ok").sum()),
        "with_reasons": int((answer["reasons"].str.len() > 0).sum()),
        "cards": len(facts.cards),
        "seconds": {
            name: round(marks[name] - marks[before], 1)
            for before, name in itertools.pairwise(names)
        },
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        written = run_fresh(__file__, "write", str(options.households), folder)
        found = run_fresh(__file__, "go_the_way", folder)
    counts = found["counts"]
    assert counts["read"] == written["rows"]
    assert (counts["rejected"], counts["repeated"]) == (written["rejected"], written["repeated"])
    return found


if __name__ == "__main__":
    steps = {"write": write, "go_the_way": go_the_way}
    run_script(__file__, __doc__ or "", measure, steps, {"households": 20_000})
