"""Features of many households: beside a scan of the same columns, on 1 and 8 dates, beside pandas and featuretools.

Run with ``python benchmarks/features_scale.py --households 1000000``; the default is small. The history is
simulated county by county; ``--folder`` names one that is there (a folder of counties) and is kept.
Features are built from Parquet in ranges of households (half as many for 8 dates), reading included, at
points whose index stands ready; the scan sums the hash of every
column that they read (`sum(hash(column))` in DuckDB). pandas and featuretools get their tables in memory and
compute some of the features, which must come out equal, on the first county's first ``--few`` households.
``--featuretools`` names the Python of an environment where featuretools is installed (it needs an older
pandas); without it that side is skipped.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from features_in_pandas import IN_PANDAS, compute_in_pandas, read_frames
from measuring import peak_memory_gb, run_fresh, run_script

AS_OF = "2024-01-01"
DATES = ("2024-01-01", "2023-07-01", "2023-01-01", "2022-07-01")
DATES += ("2022-01-01", "2021-07-01", "2021-01-01", "2020-07-01")
COUNTY = 100_000
ROUNDS = 3
FEATURETOOLS_TABLES = ("household", "medical_bill", "work", "shock", "visit", "check", "income")


def simulate(households: str, seed: str, folder: str) -> dict[str, Any]:
    from poverty_risk import make_household_history

    make_household_history(int(households), seed=int(seed)).tables.write(folder)
    return {}


def find_counties(folder: str, households: str) -> list[Path]:
    """Counties that hold at least the households asked for, or as many as there are."""
    chosen, count = [], 0
    for county in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        if count < int(households):
            chosen.append(county)
            count += count_households(county)
    return chosen


def count_households(county: Path) -> int:
    import duckdb

    household = str(county / "household.parquet")
    query = f"SELECT count(DISTINCT household_id) FROM read_parquet('{household}')"
    return int(duckdb.execute(query).fetchall()[0][0])


def build(folder: str, households: str, dates: str) -> dict[str, Any]:
    """Seconds of all features from files on disk, in ranges of households."""
    import numpy as np
    import pandas as pd

    from poverty_risk import build_features, iter_history, load_catalog, load_schema
    from poverty_risk.history_chunks import HOUSEHOLDS_PER_CHUNK

    catalog, at = load_catalog("archive"), pd.to_datetime(DATES[: int(dates)])
    schema = load_schema("archive")
    needed = {"schema": schema, "columns": catalog.find_columns(schema)}
    names = ["household_id", "as_of_date"]
    counties = find_counties(folder, households)
    first = next(iter_history(counties[0], 100, **needed))
    index = pd.MultiIndex.from_product([first.households[:9], at], names=names)
    build_features(first, pd.DataFrame(index=index), catalog)  # loads what is compiled
    count, wanted = 0, int(households)
    began, used = time.perf_counter(), time.process_time()
    for county in counties:
        # Eight dates of half as many households: a range's table stays small.
        size = HOUSEHOLDS_PER_CHUNK if len(at) == 1 else HOUSEHOLDS_PER_CHUNK // 2
        for part in iter_history(county, size, **needed):
            chosen = part.households[: wanted - count]
            codes = [
                np.repeat(np.arange(len(chosen)), len(at)),
                np.tile(range(len(at)), len(chosen)),
            ]
            index = pd.MultiIndex(
                [pd.Index(chosen), at], codes, names=names, verify_integrity=False
            )
            count += len(chosen)
            features = build_features(part, pd.DataFrame(index=index), catalog)
            if count == wanted:
                break
    return {
        "households": count,
        "features": features.shape[1],
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def scan(folder: str, households: str) -> dict[str, Any]:
    """Seconds of hashing every value of the columns that the features read."""
    import duckdb

    from poverty_risk import load_catalog, load_schema

    columns = load_catalog("archive").find_columns(load_schema("archive"))
    counties = find_counties(folder, households)
    values = 0
    began, used = time.perf_counter(), time.process_time()
    with duckdb.connect(config={"threads": 2}) as connection:
        for table, needed in columns.items():
            read = needed | {"event_date", "known_date", "superseded_date"}
            sums = ", ".join(f'sum(hash("{column}"))' for column in sorted(read))
            files = [str(county / f"{table}.parquet") for county in counties]
            found = connection.execute(f"SELECT count(*), {sums} FROM read_parquet({files})")
            values += found.fetchall()[0][0] * len(read)
    return {
        "values": values,
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
    }


def compare(folder: str, few: str) -> dict[str, Any]:
    """Seconds of ours and of pandas on the same features in memory, taking turns."""
    import numpy as np
    import pandas as pd

    from poverty_risk import build_features, iter_history, load_catalog

    county = find_counties(folder, "1")[0]
    tables = next(iter_history(county, int(few)))
    frames = read_frames(county, tables.households)
    names = ["household_id", "as_of_date"]
    index = pd.MultiIndex.from_product([tables.households, [pd.Timestamp(AS_OF)]], names=names)
    points, catalog = pd.DataFrame(index=index), load_catalog("archive").select(IN_PANDAS)
    line, seconds = dict(tables.line or {}), {"ours": [], "pandas": []}
    build_features(tables, points, catalog)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ours = build_features(tables, points, catalog)
        seconds["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        theirs = compute_in_pandas(frames, tables.households, pd.Timestamp(AS_OF), line)
        seconds["pandas"].append(time.perf_counter() - began)
    for name in IN_PANDAS:
        found, expected = ours[name].to_numpy(float), theirs[name].to_numpy(float)
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=name)
    return {
        "households": len(tables.households),
        "features": len(IN_PANDAS),
        "equal": True,
        **{
            f"{side}_seconds": [round(one, 3) for one in sorted(all_)]
            for side, all_ in seconds.items()
        },
        "ratio": round(
            statistics.median(seconds["pandas"]) / statistics.median(seconds["ours"]), 1
        ),
    }


def compare_featuretools(folder: str, few: str, python: str) -> dict[str, Any]:
    """Ours and featuretools on the same features; skipped where it is not installed.

    On one date for all, and on a date of its own for every household, as in training.
    """
    import numpy as np
    import pandas as pd

    from poverty_risk import iter_history

    if not python:
        return {"skipped": "no Python with featuretools was named (--featuretools)"}
    county = find_counties(folder, "1")[0]
    tables = _known_on_their_day(next(iter_history(county, int(few))))
    dates = pd.Series(pd.date_range("2023-01-01", AS_OF))
    own = dates.sample(int(few), replace=True, random_state=0).to_numpy()
    sides = {"one_date": [pd.Timestamp(AS_OF)] * int(few), "own_dates": own}
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        tables.write(Path(scratch) / "county")
        for side, as_of in sides.items():
            # Theirs takes a calculation per date and window: a tenth of the households is enough.
            size = int(few) if side == "one_date" else int(few) // 10
            chosen = np.random.default_rng(0).permutation(tables.households)
            points = pd.DataFrame({"household_id": chosen, "time": as_of[: len(chosen)]})
            figures[side] = _race(tables, points, size, python, Path(scratch))
    return figures


def _known_on_their_day(tables: Any) -> Any:
    """The same history, of which every record is known on its day and none was corrected."""
    import pyarrow.compute as pc

    from poverty_risk import HistoryTables

    frames = {}
    for name in FEATURETOOLS_TABLES:
        last = pc.is_null(tables.arrow(name)["superseded_date"]).to_numpy()
        rows = tables[name][last]
        frames[name] = rows.assign(known_date=rows["event_date"])
    return HistoryTables.from_frames(frames, tables.schema, tables.line)


def _race(tables: Any, points: Any, size: int, python: str, scratch: Path) -> dict[str, Any]:
    """Theirs at the first `size` points, ours at these and at all."""
    import numpy as np
    import pandas as pd

    from poverty_risk import build_features, load_catalog

    paths = [scratch / "points.parquet", scratch / "theirs.parquet"]
    points[:size].to_parquet(paths[0])
    script = Path(__file__).with_name("features_in_featuretools.py")
    command = [python, str(script), str(scratch / "county"), *map(str, paths)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = json.loads(told.splitlines()[-1])
    theirs = pd.read_parquet(paths[1]).set_index(["household_id", "as_of_date"])
    catalog = load_catalog("archive").select(theirs.columns)
    index = points.rename(columns={"time": "as_of_date"}).set_index(list(theirs.index.names))[[]]
    seconds = {}
    for count in (size, len(index)):
        build_features(tables, index[:count], catalog)
        rounds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            ours = build_features(tables, index[:count], catalog)
            rounds.append(time.perf_counter() - began)
        seconds[count] = statistics.median(rounds)
    theirs = theirs.reindex(index.index[:size])
    for name in theirs:
        found, expected = ours[name][:size].to_numpy(float), theirs[name].to_numpy(float)
        if not np.isnan(found).any():  # sums and counts of nothing
            expected = np.nan_to_num(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=name)
    per_second = [size / figures["seconds"], len(index) / seconds[len(index)]]
    return {
        "features": theirs.shape[1],
        "equal": True,
        "points": size,
        "featuretools_seconds": figures["seconds"],
        "featuretools_cpu_seconds": figures["cpu_seconds"],
        "ours_seconds": round(seconds[size], 4),
        "ratio_same_points": round(figures["seconds"] / seconds[size], 1),
        "points_of_ours": len(index),
        "featuretools_points_per_second": round(per_second[0], 1),
        "our_points_per_second": round(per_second[1]),
        "ratio_of_rates": round(per_second[1] / per_second[0], 1),
    }


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the middle time, with the times of all."""
    ordered = sorted(runs, key=lambda run: run["seconds"])
    return ordered[len(ordered) // 2] | {"all_seconds": [run["seconds"] for run in ordered]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or scratch
        if not options.folder:
            for seed in range(-(-options.households // COUNTY)):
                size = min(COUNTY, options.households - seed * COUNTY)
                county = str(Path(folder) / f"county_{seed:02d}")
                run_fresh(__file__, "simulate", str(size), str(seed), county)
        # Whole counties: the scan cannot leave out households.
        chosen = find_counties(folder, str(options.households))
        many, few = str(sum(map(count_households, chosen))), str(options.few)
        runs: dict[str, list[dict[str, Any]]] = {"scan": [], "dates_1": [], "dates_8": []}
        for _ in range(ROUNDS):
            runs["scan"].append(run_fresh(__file__, "scan", folder, many))
            runs["dates_1"].append(run_fresh(__file__, "build", folder, many, "1"))
            runs["dates_8"].append(run_fresh(__file__, "build", folder, many, "8"))
        middle = {side: _spread(found) for side, found in runs.items()}
        pandas = run_fresh(__file__, "compare", folder, few)
        tools = run_fresh(__file__, "featuretools", folder, few, options.featuretools)
    one = middle["dates_1"]
    return middle | {
        "pandas": pandas,
        "featuretools": tools,
        "ratio_to_scan": round(one["seconds"] / middle["scan"]["seconds"], 2),
        "ratio_cpu_to_scan": round(one["cpu_seconds"] / middle["scan"]["cpu_seconds"], 2),
        "ratio_8_dates_to_1": round(middle["dates_8"]["seconds"] / one["seconds"], 2),
        "ratio_cpu_8_dates_to_1": round(middle["dates_8"]["cpu_seconds"] / one["cpu_seconds"], 2),
        "ratio_pandas_to_ours": pandas["ratio"],
        "ratio_featuretools_to_ours": {
            side: tools[side]["ratio_of_rates"]
            for side in ("one_date", "own_dates")
            if side in tools
        },
    }


if __name__ == "__main__":
    steps = {"simulate": simulate, "build": build, "scan": scan}
    steps |= {"compare": compare, "featuretools": compare_featuretools}
    options = {"households": 10_000, "few": 2_000, "folder": "", "featuretools": ""}
    run_script(__file__, __doc__, measure, steps, options)
