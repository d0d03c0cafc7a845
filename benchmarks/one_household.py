"""One household, now: from its history and from ready features, warm, in a fresh process, in 8 threads.

Run with ``python benchmarks/one_household.py``; the figures are printed and kept in ``results/``. The
default model is trained on a simulated county first, with its six refits for rough ranges; that is not
measured. Warm sides take turns household by household, in a random order; `pred_contrib` is LightGBM's
own, on one thread and on as many as the model has. Ready features
are tables of one row that were cut out before. Sides that say so were asked after
`build_contribution_tables`, as a program that stays up would.
A smaller run: ``--households 3000 --asked 100``.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measuring import heavy_modules, peak_memory_gb, run_fresh, run_script

AS_OF = "2024-10-01"
WARM_UP = 20
FRESH = 5
THREADS = 8
REFITS = 6


def prepare(households: str, folder: str) -> dict[str, Any]:
    """A county, the records of one of its households, and the default model, as folders."""
    import pandas as pd

    import poverty_risk as pr

    tables = pr.make_household_history(int(households), seed=0).tables
    tables.write(Path(folder) / "county")
    dates = pd.date_range("2020-01-01", "2022-07-01", freq="6MS")
    points = pr.build_prediction_points(tables, dates)
    labels = pr.label_returns(tables, points, "12mo", "identified").dropna()
    catalog = pr.load_catalog("archive")
    features = pr.build_features(tables, points.loc[labels.index], catalog)
    task = pr.PredictionTask(tables.schema, "at_risk", "identified", "12mo", tables.line)
    model = pr.RiskModel(catalog, task, n_refits=REFITS).fit(features, labels)
    for name in ("model", "copy"):  # a program keeps a folder's model once
        model.save(Path(folder) / name)
    members = pr.build_prediction_points(tables, AS_OF).index.get_level_values("household_id")
    tables.select_households([members[len(members) // 2]]).write(Path(folder) / "one")
    return {"trees": model.forest_.trees, "members": len(members)}


def warm(folder: str, asked: str) -> dict[str, Any]:
    """Milliseconds of each way to ask, household by household in turns."""
    import poverty_risk as pr
    from poverty_risk.explain import build_contribution_tables
    from poverty_risk.shapley import kept

    tables = pr.read_history(Path(folder) / "county")
    model = pr.load_model(Path(folder) / "model")
    points = pr.build_prediction_points(tables, AS_OF)
    points = points.iloc[:: max(1, len(points) // (int(asked) + WARM_UP))]
    features = pr.build_features(tables, points, model.catalog)
    one = [features.iloc[[row]] for row in range(len(features))]
    matrix = model.columns_.matrix(features)
    booster = model.forest_.boosters[0]
    ready = pr.load_model(Path(folder) / "copy")
    build_contribution_tables(ready)
    tabulated = kept.tables_of(ready.forest_)
    ids = points.index.get_level_values("household_id")

    def plain(row: int, threads: int) -> Any:
        return booster.predict(matrix[[row]], pred_contrib=True, num_threads=threads)

    sides: dict[str, Callable[[int], Any]] = {
        "from_history": lambda row: pr.predict_risk(
            tables, as_of_date=AS_OF, model=model, households=ids[row]
        ),
        "from_features": lambda row: pr.predict_from_features(one[row], model=model),
        "contributions": lambda row: model.forest_.contributions(matrix[[row]]),
        "from_history_with_tables": lambda row: pr.predict_risk(
            tables, as_of_date=AS_OF, model=ready, households=ids[row]
        ),
        "from_features_with_tables": lambda row: pr.predict_from_features(one[row], model=ready),
        "contributions_with_tables": lambda row: tabulated.compute(matrix[[row]]),
        "pred_contrib": lambda row: plain(row, 1),
        "pred_contrib_model_threads": lambda row: plain(row, model.n_jobs),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    rng = random.Random(0)
    for row in range(len(points)):
        # What ran before leaves the caches as it likes: each side follows each other one.
        for name in rng.sample(list(sides), len(sides)):
            ask = sides[name]
            began = time.perf_counter()
            ask(row)
            taken[name].append(1000 * (time.perf_counter() - began))
    figures: dict[str, Any] = {
        name: summarise(times[WARM_UP:]) | {"first_ms": round(times[0], 1)}
        for name, times in taken.items()
    }
    for name in ("contributions", "contributions_with_tables"):
        ratio = figures["pred_contrib"]["p50_ms"] / figures[name]["p50_ms"]
        figures[f"{name}_over_pred_contrib"] = round(ratio, 2)
    return {"asked": len(points) - WARM_UP, **figures, "memory_gb": round(peak_memory_gb(), 2)}


def summarise(milliseconds: list[float]) -> dict[str, float]:
    """Median and the slowest of a hundred."""
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


def together(folder: str, asked: str) -> dict[str, Any]:
    """The same households one after the other and by 8 threads at once, in two languages."""
    import poverty_risk as pr

    tables = pr.read_history(Path(folder) / "county")
    model = pr.load_model(Path(folder) / "model")
    members = pr.build_prediction_points(tables, AS_OF).index.get_level_values("household_id")
    questions = [(one, locale) for one in members[: int(asked) // 2] for locale in ("zh", "en")]

    def answer(question: tuple[str, str]) -> Any:
        household, locale = question
        return pr.predict_risk(
            tables, as_of_date=AS_OF, model=model, households=household, locale=locale
        )

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        at_once = list(pool.map(answer, questions))
    middle = time.perf_counter()
    in_turn = [answer(question) for question in questions]
    ended = time.perf_counter()
    return {
        "questions": len(questions),
        "equal": sum(a.equals(b) for a, b in zip(at_once, in_turn, strict=True)),
        "at_once_ms_each": round(1000 * (middle - began) / len(questions), 2),
        "in_turn_ms_each": round(1000 * (ended - middle) / len(questions), 2),
    }


def first(folder: str) -> dict[str, Any]:
    """Import, model, history of one household, answer: as a program that starts anew."""
    marks = [time.perf_counter()]
    import poverty_risk as pr

    marks.append(time.perf_counter())
    model = pr.load_model(Path(folder) / "model")
    marks.append(time.perf_counter())
    tables = pr.read_history(Path(folder) / "one")
    marks.append(time.perf_counter())
    answer = pr.predict_risk(tables, as_of_date=AS_OF, model=model)
    marks.append(time.perf_counter())
    names = ("import_package", "load_model", "read_history", "answer")
    seconds = zip(names, marks[:-1], marks[1:], strict=True)
    return {
        "status": answer["status"].tolist(),
        "seconds": {name: round(end - start, 3) for name, start, end in seconds},
        "imported": heavy_modules(),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All of it; fresh processes several times, after one that fills the caches."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = run_fresh(__file__, "prepare", str(options.households), folder)
        first_ever = run_first_ever(folder)
        run_fresh(__file__, "first", folder)
        runs = [run_fresh(__file__, "first", folder) for _ in range(FRESH)]
        runs.sort(key=lambda run: run["process_seconds"])
        return {
            "model": {name: prepared[name] for name in ("trees", "members")},
            "warm": run_fresh(__file__, "warm", folder, str(options.asked)),
            f"{THREADS}_threads": run_fresh(__file__, "together", folder, str(options.asked)),
            "fresh_process": runs[FRESH // 2],
            "fresh_process_seconds_of_all": [run["process_seconds"] for run in runs],
            "fresh_process_that_compiles_first": first_ever,
        }


def run_first_ever(folder: str) -> dict[str, Any]:
    """A fresh process for which nothing was compiled before."""
    with tempfile.TemporaryDirectory() as empty:
        before = os.environ.get("NUMBA_CACHE_DIR")
        os.environ["NUMBA_CACHE_DIR"] = empty
        try:
            return run_fresh(__file__, "first", folder)
        finally:
            del os.environ["NUMBA_CACHE_DIR"]
            if before is not None:
                os.environ["NUMBA_CACHE_DIR"] = before


if __name__ == "__main__":
    run_script(
        __file__,
        __doc__,
        measure,
        {"prepare": prepare, "warm": warm, "together": together, "first": first},
        {"households": 20_000, "asked": 500},
    )
