"""Some features of the archive's catalogue as one would write them in pandas: filters and groupby."""

from pathlib import Path

import numpy as np
import pandas as pd

IN_PANDAS = (
    *("net_income_last_800d", "net_income_to_line_last_800d", "net_income_to_line_first_800d"),
    *("net_income_to_line_delta_800d", "net_income_per_capita_first_800d"),
    *("income_to_line_ratio_cv_1500d", "income_to_line_ratio_min_1500d"),
    *("transfer_share_last_800d", "wage_share_last_800d", "income_accounts_count_1500d"),
    *("oop_medical_sum_365d", "oop_to_line_sum_365d", "oop_to_line_sum_92d"),
    *("inpatient_count_365d", "inpatient_count_92d", "new_severe_illness_exists_365d"),
    *("own_share_of_bills_mean_730d", "wage_now_sum_122d", "wage_to_line_sum_365d"),
    *("work_months_count_365d", "work_months_count_122d", "monthly_wage_cv_365d"),
    *("work_reports_nunique_122d", "worked_latest_days_since_last_ever"),
    *("workers_now_count_122d", "household_size_count_ever", "severe_ill_count_ever"),
    *("chronic_ill_count_ever", "elders_count_ever", "head_age_max_ever"),
    *("disaster_count_365d", "job_loss_count_365d", "shock_loss_sum_365d"),
    *("any_shock_days_since_last_1500d", "visits_count_365d", "difficulty_found_count_365d"),
    "failed_checks_count_1096d",
)
TABLES = ("income", "medical_bill", "work", "person", "shock", "visit", "check")
DISASTERS = ["flood", "drought", "geological", "weather", "biological", "fire"]
DATES = ("event_date", "known_date", "superseded_date", "period_end", "birth_date")


def read_frames(county: Path, households: np.ndarray) -> dict[str, pd.DataFrame]:
    frames = {}
    for name in TABLES:
        frame = pd.read_parquet(county / f"{name}.parquet")
        frame = frame[frame["household_id"].isin(households)].reset_index(drop=True)
        for column in set(DATES) & set(frame):
            frame[column] = pd.to_datetime(frame[column])
        frames[name] = frame
    return frames


def compute_in_pandas(
    frames: dict[str, pd.DataFrame], households: np.ndarray, as_of: pd.Timestamp, line: dict
) -> pd.DataFrame:
    known = {}
    for name, frame in frames.items():
        current = frame["superseded_date"].isna() | (frame["superseded_date"] >= as_of)
        known[name] = frame[(frame["known_date"] < as_of) & current]

    def last_days(name: str, days: int) -> pd.DataFrame:
        event = known[name]["event_date"]
        return known[name][(event < as_of) & (event >= as_of - pd.Timedelta(days=days))]

    features = {}
    features |= _income(last_days("income", 1500), as_of, line)
    features |= _medical(last_days("medical_bill", 730), as_of, line)
    features |= _work(known["work"], last_days("work", 365), as_of, line)
    features |= _person(known["person"], as_of)
    features |= _events(last_days, as_of)
    found = pd.DataFrame(features).reindex(households)
    counted = [
        n for n in found if any(f"_{how}_" in n for how in ("sum", "count", "exists", "nunique"))
    ]
    return found.fillna(dict.fromkeys(counted, 0.0)).astype(float)


def _income(frame: pd.DataFrame, as_of: pd.Timestamp, line: dict) -> dict[str, pd.Series]:
    annual = frame[frame["window"] == "annual"]
    counted = annual.groupby("household_id").size()
    wage = annual["wage"]
    # A missing wage leaves the filter undecided, and an undecided record does not count.
    plausible = annual[wage.notna() & ~((wage > 0) & (wage < 100))]
    net = plausible["wage"] + plausible["business"] - plausible["business_cost"]
    net = net + plausible["property"] + plausible["transfer"]
    gross = (
        plausible["wage"] + plausible["business"] + plausible["property"] + plausible["transfer"]
    )
    gross = gross.replace(0, np.nan)
    rows = plausible.assign(
        net=net,
        per_capita=net / plausible["members"].replace(0, np.nan),
        transfer_share=plausible["transfer"] / gross,
        wage_share=plausible["wage"] / gross,
    )
    rows["to_line"] = rows["per_capita"] / rows["period_end"].dt.year.map(line)
    long = rows.groupby("household_id")
    recent = rows[rows["event_date"] >= as_of - pd.Timedelta(days=800)].groupby("household_id")
    ratio = recent["to_line"]
    return {
        "income_accounts_count_1500d": counted,
        "net_income_last_800d": recent["net"].last(),
        "net_income_to_line_last_800d": ratio.last(),
        "net_income_to_line_first_800d": ratio.first(),
        "net_income_to_line_delta_800d": (ratio.last() - ratio.first()).where(ratio.count() >= 2),
        "net_income_per_capita_first_800d": recent["per_capita"].first(),
        "income_to_line_ratio_cv_1500d": long["to_line"].std() / long["to_line"].mean().abs(),
        "income_to_line_ratio_min_1500d": long["to_line"].min(),
        "transfer_share_last_800d": recent["transfer_share"].last(),
        "wage_share_last_800d": recent["wage_share"].last(),
    }


def _medical(frame: pd.DataFrame, as_of: pd.Timestamp, line: dict) -> dict[str, pd.Series]:
    rows = frame.assign(
        to_line=frame["out_of_pocket"] / frame["event_date"].dt.year.map(line),
        share=frame["out_of_pocket"] / frame["total"].replace(0, np.nan),
        inpatient=frame["care"] == "inpatient",
        severe=frame["severe_illness"].fillna(False).astype(bool),
    )
    year = rows[rows["event_date"] >= as_of - pd.Timedelta(days=365)].groupby("household_id")
    quarter = rows[rows["event_date"] >= as_of - pd.Timedelta(days=92)].groupby("household_id")
    return {
        "oop_medical_sum_365d": year["out_of_pocket"].sum(),
        "oop_to_line_sum_365d": year["to_line"].sum(),
        "oop_to_line_sum_92d": quarter["to_line"].sum(),
        "inpatient_count_365d": year["inpatient"].sum(),
        "inpatient_count_92d": quarter["inpatient"].sum(),
        "new_severe_illness_exists_365d": year["severe"].max(),
        "own_share_of_bills_mean_730d": rows[rows["inpatient"]]
        .groupby("household_id")["share"]
        .mean(),
    }


def _work(
    ever: pd.DataFrame, frame: pd.DataFrame, as_of: pd.Timestamp, line: dict
) -> dict[str, pd.Series]:
    earned = frame["wage"].where(frame["worked"], 0.0)
    rows = frame.assign(earned=earned, to_line=earned / frame["event_date"].dt.year.map(line))
    now = rows[rows["event_date"] >= as_of - pd.Timedelta(days=122)]
    year, recent = rows.groupby("household_id"), now.groupby("household_id")
    wages = rows[rows["worked"]].groupby("household_id")["wage"]
    latest = now.groupby(["household_id", "person_id"])["worked"].last()
    worked = ever[ever["worked"]].groupby("household_id")["event_date"].max()
    return {
        "wage_now_sum_122d": recent["earned"].sum(),
        "wage_to_line_sum_365d": year["to_line"].sum(),
        "work_months_count_365d": year["worked"].sum(),
        "work_months_count_122d": recent["worked"].sum(),
        "monthly_wage_cv_365d": wages.std() / wages.mean().abs().replace(0, np.nan),
        "work_reports_nunique_122d": recent["event_date"].nunique(),
        "worked_latest_days_since_last_ever": (as_of - worked).dt.days,
        "workers_now_count_122d": latest.groupby("household_id").sum(),
    }


def _person(frame: pd.DataFrame, as_of: pd.Timestamp) -> dict[str, pd.Series]:
    latest = frame.drop_duplicates(["household_id", "person_id"], keep="last")
    here = latest[latest["status"] == "present"]
    age = (as_of - here["birth_date"]).dt.days / 365.25
    members = here.assign(
        age=age,
        elder=age >= 60,
        severe=here["severe_illness"].fillna(False).astype(bool),
        chronic=here["chronic_illness"].fillna(False).astype(bool),
    )
    by = members.groupby("household_id")
    heads = members[members["is_head"].fillna(False).astype(bool)]
    return {
        "household_size_count_ever": by.size(),
        "severe_ill_count_ever": by["severe"].sum(),
        "chronic_ill_count_ever": by["chronic"].sum(),
        "elders_count_ever": by["elder"].sum(),
        "head_age_max_ever": heads.groupby("household_id")["age"].max(),
    }


def _events(last_days, as_of: pd.Timestamp) -> dict[str, pd.Series]:
    shocks, visits = last_days("shock", 365), last_days("visit", 365)
    checks = last_days("check", 1096)
    last = last_days("shock", 1500).groupby("household_id")["event_date"].max()

    def count(frame: pd.DataFrame) -> pd.Series:
        return frame.groupby("household_id").size()

    return {
        "disaster_count_365d": count(shocks[shocks["kind"].isin(DISASTERS)]),
        "job_loss_count_365d": count(shocks[shocks["kind"] == "job_loss"]),
        "shock_loss_sum_365d": shocks.groupby("household_id")["loss"].sum(),
        "any_shock_days_since_last_1500d": (as_of - last).dt.days,
        "visits_count_365d": count(visits),
        "difficulty_found_count_365d": count(
            visits[visits["difficulty_found"].fillna(False).astype(bool)]
        ),
        "failed_checks_count_1096d": count(checks[~checks["passed"]]),
    }
