"""Features of many households: beside a scan of the same columns, on 1 and 8 dates, beside pandas and featuretools.

Run with ``python benchmarks/features_scale.py --households 1000000``; the default is small. The history is
simulated county by county; ``--folder`` names one that is there (a folder of counties) and is kept.
Features are built from Parquet in ranges of households, reading included; the scan sums the hash of every
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


def simulate(households: str, seed: str, folder: str) -> dict[str, Any]:
    from poverty_risk import make_household_history

    make_household_history(int(households), seed=int(seed)).tables.write(folder)
    return {}


def find_counties(folder: str, households: str) -> list[Path]:
    """Counties that hold the households asked for, or as many as there are."""
    import pyarrow.parquet as pq

    chosen, count = [], 0
    for county in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        if count < int(households):
            chosen.append(county)
            count += pq.ParquetFile(county / "household.parquet").metadata.num_rows
    return chosen


def build(folder: str, households: str, dates: str) -> dict[str, Any]:
    """Seconds of all features from files on disk, in ranges of households."""
    import pandas as pd

    from poverty_risk import build_features, iter_history, load_catalog

    catalog, at = load_catalog("archive"), pd.to_datetime(DATES[: int(dates)])
    names = ["household_id", "as_of_date"]
    counties = find_counties(folder, households)
    first = next(iter_history(counties[0], 100))
    index = pd.MultiIndex.from_product([first.households[:9], at], names=names)
    build_features(first, pd.DataFrame(index=index), catalog)  # loads what is compiled
    count, wanted = 0, int(households)
    began, used = time.perf_counter(), time.process_time()
    for county in counties:
        for part in iter_history(county):
            chosen = part.households[: wanted - count]
            index = pd.MultiIndex.from_product([chosen, at], names=names)
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
    from poverty_risk.language import find_names

    schema, columns = load_schema("archive"), {}
    for spec in load_catalog("archive").specs:
        if spec.table is not None:
            read = columns.setdefault(spec.table, set())
            read |= {"event_date", "known_date", "superseded_date", *spec.latest_per}
            read |= {schema.tables[spec.table].id_columns[0]}
            for text in (spec.value, spec.where):
                read |= find_names(text) if text is not None else set()
    columns["household"] |= {"village_id"}
    counties = find_counties(folder, households)
    values = 0
    began, used = time.perf_counter(), time.process_time()
    with duckdb.connect(config={"threads": 2}) as connection:
        for table, read in columns.items():
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
    """Ours and featuretools on the same features; skipped where it is not installed."""
    import numpy as np
    import pandas as pd

    from poverty_risk import build_features, iter_history, load_catalog

    if not python:
        return {"skipped": "no Python with featuretools was named (--featuretools)"}
    county = find_counties(folder, "1")[0]
    tables = next(iter_history(county, int(few)))
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(__file__).with_name("features_in_featuretools.py")
        tables.write(Path(scratch) / "county")
        command = [
            python,
            str(script),
            str(Path(scratch) / "county"),
            AS_OF,
            f"{scratch}/theirs.parquet",
        ]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        theirs = pd.read_parquet(f"{scratch}/theirs.parquet").reindex(tables.households)
    figures = json.loads(told.splitlines()[-1])
    names = ["household_id", "as_of_date"]
    index = pd.MultiIndex.from_product([tables.households, [pd.Timestamp(AS_OF)]], names=names)
    points, catalog = pd.DataFrame(index=index), load_catalog("archive").select(theirs.columns)
    build_features(tables, points, catalog)
    began = time.perf_counter()
    ours = build_features(tables, points, catalog)
    seconds = time.perf_counter() - began
    for name in theirs:
        found, expected = ours[name].to_numpy(float), theirs[name].to_numpy(float)
        np.testing.assert_allclose(found, np.nan_to_num(expected), rtol=1e-9, err_msg=name)
    return figures | {
        "households": len(tables.households),
        "features": theirs.shape[1],
        "equal": True,
        "ours_seconds": round(seconds, 4),
        "ratio": round(figures["featuretools_seconds"] / seconds, 1),
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
        many, few = str(options.households), str(options.few)
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
        "ratio_featuretools_to_ours": tools.get("ratio"),
    }


if __name__ == "__main__":
    steps = {"simulate": simulate, "build": build, "scan": scan}
    steps |= {"compare": compare, "featuretools": compare_featuretools}
    options = {"households": 10_000, "few": 2_000, "folder": "", "featuretools": ""}
    run_script(__file__, __doc__, measure, steps, options)
