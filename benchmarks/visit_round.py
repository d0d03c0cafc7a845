"""A visit round of a large county: 100,000 households, 2,000 visits, in a fresh process.

Run with ``python benchmarks/visit_round.py``; the figures are printed and kept in ``results/``. A model
is trained first on a county of 20,000 with the default config; that is not measured. Scoring (features
and risks of everybody) is told apart from what a round adds: the list, the facts of its cards, the
workbook and the page.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import heavy_modules, peak_memory_gb, run_fresh, run_script


def prepare(households: str, folder: str) -> dict[str, Any]:
    """The model of the default config, and a large county with history to its last day."""
    from poverty_risk import make_household_history, workflows
    from poverty_risk.config import load_config

    config = load_config("configs/default.yaml", {"output": folder})
    tables, _ = workflows.read_tables(config)
    result = workflows.train_task(config, tables, next(iter(config.tasks)))
    workflows.keep_similar(config, result)
    make_household_history(int(households), seed=1).tables.write(Path(folder) / "county")
    return {"model": str(result.folder)}


def make_round(folder: str, model: str, visits: str) -> dict[str, Any]:
    """Read, score, choose, tell, write: as an office would once a month."""
    from poverty_risk import workflows
    from poverty_risk.config import load_config
    from poverty_risk.workflows import visits as steps

    config = load_config(
        "configs/default.yaml",
        {
            "output": folder,
            "history.source": "folder",
            "history.folder": f"{folder}/county",
        },
    )
    number = config.visits.model_copy(update={"share": None, "capacity": int(visits)})
    config = config.model_copy(update={"visits": number})
    marks = {"begin": time.perf_counter()}
    tables, _ = workflows.read_tables(config)
    marks["read"] = time.perf_counter()
    score = steps.predict_with_features

    def scored_in_time(*arguments: Any, **named: Any) -> Any:
        answer = score(*arguments, **named)
        # The first call scores the county; later ones are part of the cards.
        marks.setdefault("score", time.perf_counter())
        return answer

    steps.predict_with_features = scored_in_time
    planned = workflows.plan_round(config, tables, model)
    marks["choose"] = time.perf_counter()
    facts = workflows.tell_round(planned, "zh")
    marks["tell"] = time.perf_counter()
    paths = workflows.write_round(config, planned, facts)
    marks["write"] = time.perf_counter()
    names = list(marks)
    seconds = {
        name: round(marks[name] - marks[before], 1) for before, name in itertools.pairwise(names)
    }
    return {
        "households": int(planned.round.answer["risk"].notna().sum()),
        "visits": len(planned.round.visit_list.visits),
        "cards": len(facts.cards),
        "seconds": seconds,
        "beyond_scoring_seconds": round(marks["write"] - marks["score"], 1),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "workbook_mb": round(paths["workbook"].stat().st_size / 1e6, 1),
        "page_mb": round(paths["page"].stat().st_size / 1e6, 1),
        "heavy_modules": heavy_modules(),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = run_fresh(__file__, "prepare", str(options.households), folder)
        arguments = (folder, prepared["model"], str(options.visits))
        return run_fresh(__file__, "make_round", *arguments)


if __name__ == "__main__":
    run_script(
        __file__,
        __doc__ or "",
        measure,
        {"prepare": prepare, "make_round": make_round},
        {"households": 100_000, "visits": 2000},
    )
