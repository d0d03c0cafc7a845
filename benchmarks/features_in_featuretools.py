"""Some features of the archive's catalogue by featuretools, in an environment of its own.

``python features_in_featuretools.py COUNTY POINTS OUTPUT``, called by `features_scale`. One calculation
per window, as featuretools wants it. What an expression says of a record is computed before, and every
record is known on its day and never corrected, so that featuretools needs no rule of its own for that;
reading and preparing are not timed.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import featuretools as ft
import numpy as np
import pandas as pd
from featuretools.primitives import Count, First, Last, Max, Mean, Min, NumUnique, Sum

DISASTERS = ["flood", "drought", "geological", "weather", "biological", "fire"]
FEATURES = {
    "92d": {
        "oop_to_line_sum_92d": ("medical_bill", "to_line", Sum),
        "inpatient_count_92d": ("medical_bill", "inpatient", Sum),
    },
    "122d": {
        "wage_now_sum_122d": ("work", "earned", Sum),
        "work_months_count_122d": ("work", "worked", Sum),
        "work_reports_nunique_122d": ("work", "day", NumUnique),
        "disaster_count_122d": ("shock", "disaster", Sum),
    },
    "365d": {
        "oop_medical_sum_365d": ("medical_bill", "out_of_pocket", Sum),
        "oop_to_line_sum_365d": ("medical_bill", "to_line", Sum),
        "inpatient_count_365d": ("medical_bill", "inpatient", Sum),
        "new_severe_illness_exists_365d": ("medical_bill", "severe", Max),
        "wage_to_line_sum_365d": ("work", "to_line", Sum),
        "work_months_count_365d": ("work", "worked", Sum),
        "disaster_count_365d": ("shock", "disaster", Sum),
        "job_loss_count_365d": ("shock", "job_loss", Sum),
        "shock_loss_sum_365d": ("shock", "loss", Sum),
        "loss_to_line_sum_365d": ("shock", "to_line", Sum),
        "accident_count_365d": ("shock", "accident", Sum),
        "death_count_365d": ("shock", "death", Sum),
        "visits_count_365d": ("visit", None, Count),
        "difficulty_found_count_365d": ("visit", "difficulty", Sum),
    },
    "730d": {"own_share_of_bills_mean_730d": ("inpatient_bill", "share", Mean)},
    "800d": {
        "net_income_last_800d": ("income", "net", Last),
        "net_income_to_line_last_800d": ("income", "to_line", Last),
        "net_income_to_line_first_800d": ("income", "to_line", First),
        "net_income_per_capita_first_800d": ("income", "per_capita", First),
        "transfer_share_last_800d": ("income", "transfer_share", Last),
        "wage_share_last_800d": ("income", "wage_share", Last),
    },
    "1096d": {"failed_checks_count_1096d": ("check", "failed", Sum)},
    "1500d": {"income_to_line_ratio_min_1500d": ("income", "to_line", Min)},
}


def read_frames(county: Path) -> dict[str, pd.DataFrame]:
    """Records, with what the expressions of the catalogue say of each."""
    lines = pd.read_csv(county / "line.csv")
    line = dict(zip(lines["year"], lines["line"], strict=True))
    frames = {}
    for name in ("medical_bill", "work", "shock", "visit", "check", "income"):
        frames[name] = pd.read_parquet(county / f"{name}.parquet")
        frames[name]["event_date"] = pd.to_datetime(frames[name]["event_date"])
    year_line = {name: rows["event_date"].dt.year.map(line) for name, rows in frames.items()}
    frames["medical_bill"] = bills = frames["medical_bill"].assign(
        to_line=lambda rows: rows["out_of_pocket"] / year_line["medical_bill"],
        inpatient=lambda rows: (rows["care"] == "inpatient").astype(float),
        severe=lambda rows: rows["severe_illness"].fillna(False).astype(float),
        share=lambda rows: rows["out_of_pocket"] / rows["total"].replace(0, np.nan),
    )
    frames["inpatient_bill"] = bills[bills["inpatient"] == 1]
    work = frames["work"]
    earned = work["wage"].where(work["worked"].astype(bool), 0.0)
    frames["work"] = work.assign(
        earned=earned,
        to_line=earned / year_line["work"],
        worked=work["worked"].astype(float),
        day=work["event_date"].dt.strftime("%Y-%m-%d"),
    )
    kind = frames["shock"]["kind"]
    single = {name: (kind == name).astype(float) for name in ("job_loss", "accident", "death")}
    frames["shock"] = frames["shock"].assign(
        disaster=kind.isin(DISASTERS).astype(float),
        to_line=frames["shock"]["loss"] / year_line["shock"],
        **single,
    )
    found = frames["visit"]["difficulty_found"]
    frames["visit"] = frames["visit"].assign(difficulty=found.fillna(False).astype(float))
    frames["check"] = frames["check"].assign(failed=1.0 - frames["check"]["passed"].astype(float))
    frames["income"] = _income(frames["income"], line)
    return frames


def _income(rows: pd.DataFrame, line: dict[int, float]) -> pd.DataFrame:
    wage = rows["wage"]
    rows = rows[(rows["window"] == "annual") & wage.notna() & ~((wage > 0) & (wage < 100))]
    net = rows["wage"] + rows["business"] - rows["business_cost"] + rows["property"]
    net += rows["transfer"]
    gross = rows["wage"] + rows["business"] + rows["property"] + rows["transfer"]
    gross = gross.replace(0, np.nan)
    per_capita = net / rows["members"].replace(0, np.nan)
    return rows.assign(
        net=net,
        per_capita=per_capita,
        to_line=per_capita / pd.to_datetime(rows["period_end"]).dt.year.map(line),
        transfer_share=rows["transfer"] / gross,
        wage_share=rows["wage"] / gross,
    )


def make_entities(frames: dict[str, pd.DataFrame], households: pd.Series) -> ft.EntitySet:
    """Only the columns that are aggregated, so that nothing else is dragged along."""
    entities = ft.EntitySet("county")
    unique = households.drop_duplicates().to_frame("household_id")
    entities.add_dataframe(unique, "households", index="household_id")
    wanted = [one for features in FEATURES.values() for one in features.values()]
    for name, rows in frames.items():
        columns = {column for table, column, _ in wanted if table == name and column is not None}
        rows = rows[["household_id", "event_date", *sorted(columns)]].reset_index(drop=True)
        types = {"day": "Categorical"} if "day" in columns else None
        entities.add_dataframe(
            rows,
            name,
            index=f"{name}_row",
            make_index=True,
            time_index="event_date",
            logical_types=types,
        )
        entities.add_relationship("households", "household_id", name, "household_id")
    entities.add_last_time_indexes()
    return entities


def compute(entities: ft.EntitySet, points: pd.DataFrame) -> pd.DataFrame:
    """All features at (household_id, time)."""
    parts = []
    for window, wanted in FEATURES.items():
        definitions = [
            ft.AggregationFeature(
                ft.IdentityFeature(entities[table].ww[column or f"{table}_row"]),
                "households",
                primitive=primitive,
            )
            for table, column, primitive in wanted.values()
        ]
        found = ft.calculate_feature_matrix(
            definitions,
            entities,
            cutoff_time=points,
            cutoff_time_in_index=True,
            training_window=window,
            include_cutoff_time=False,
        )
        found.columns = list(wanted)
        parts.append(found)
    return pd.concat(parts, axis=1)


def main() -> None:
    county, output = Path(sys.argv[1]), sys.argv[3]
    points = pd.read_parquet(sys.argv[2])
    warnings.simplefilter("ignore")
    entities = make_entities(read_frames(county), points["household_id"])
    began, used = time.perf_counter(), time.process_time()
    found = compute(entities, points)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    found.index.names = ["household_id", "as_of_date"]
    found.astype(float).reset_index().to_parquet(output)
    print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}))


if __name__ == "__main__":
    main()
