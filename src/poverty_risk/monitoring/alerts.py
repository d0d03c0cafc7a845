"""What past visit lists found, against what their risks promised."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from poverty_risk.labels import label_returns
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import Causes, WatchedRound, write_share

__all__ = ["check_yield", "measure_lists"]

FEWEST_VISITS = 30


def measure_lists(
    watched: WatchedRound, lists: Mapping[pd.Timestamp, pd.DataFrame]
) -> pd.DataFrame:
    """Each past visit list: visits, what they found, what was expected, and the random visits apart.

    Parameters
    ----------
    watched
        The round.
    lists
        Visits by date of their round: index household_id, columns risk, why, and, where the visits
        told, outcome (1, 0 or missing); otherwise the label of the model's task counts.

    Returns
    -------
    DataFrame
        Index as_of_date; columns visits, known (with an outcome), found, yield, expected, error,
        random_known, random_yield. Missing where fewer outcomes or visits are known than may be told.
    """
    rows = {date: _measure(watched, date, visits) for date, visits in sorted(lists.items())}
    names = ["visits", "known", "found", "yield", "expected", "error"]
    names += ["random_known", "random_yield"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    return table.astype(float).rename_axis("as_of_date")


def _measure(watched: WatchedRound, date: pd.Timestamp, visits: pd.DataFrame) -> dict[str, float]:
    outcome = _outcomes(watched, date, visits)
    random = np.zeros(len(visits), dtype=bool)
    if "why" in visits:
        random = (visits["why"] == "random").to_numpy()
    risk = visits["risk"].to_numpy(dtype=float, na_value=np.nan)
    known = ~np.isnan(outcome) & ~np.isnan(risk) & ~random
    drawn = ~np.isnan(outcome) & random
    row = {"visits": float(len(visits)), "known": float(known.sum())}
    if known.sum() >= FEWEST_VISITS:
        chance = risk[known]
        row |= {"found": float(outcome[known].sum()), "yield": float(outcome[known].mean())}
        row |= {"expected": float(chance.sum())}
        row |= {"error": float(np.sqrt((chance * (1 - chance)).sum()))}
    row["random_known"] = float(drawn.sum())
    if drawn.sum() >= FEWEST_VISITS:
        row["random_yield"] = float(outcome[drawn].mean())
    return row


def _outcomes(watched: WatchedRound, date: pd.Timestamp, visits: pd.DataFrame) -> np.ndarray:
    if "outcome" in visits:
        return visits["outcome"].to_numpy(dtype=float, na_value=np.nan)
    index = pd.MultiIndex.from_product([visits.index, [date]], names=["household_id", "as_of_date"])
    task = watched.task
    labels = label_returns(watched.tables, pd.DataFrame(index=index), task.horizon, task.label)
    return labels.to_numpy(dtype=float)


def check_yield(watched: WatchedRound, causes: Causes, lists: pd.DataFrame) -> CheckResult:
    """M013: the latest visit list whose outcomes are known found far fewer than its risks promised."""
    if not len(lists):
        return CheckResult("M013", "not_applicable", "no_lists")
    blocked = sorted({causes.tables[t] for t in watched.label_tables() if t in causes.tables})
    if blocked:
        return CheckResult("M013", "skipped", "cause", {"codes": tuple(blocked)})
    known = lists[lists["found"].notna()]
    if not len(known):
        return CheckResult("M013", "not_applicable", "few_visits", {"fewest": FEWEST_VISITS})
    last, settings = known.iloc[-1], watched.settings
    behind = (last["expected"] - last["found"]) / max(last["error"], 1e-9)
    poor = last["found"] < settings.yield_ratio * last["expected"] and behind > settings.z
    outcome = "issue" if poor else "passed"
    values = {
        "date": str(pd.Timestamp(str(last.name)).date()),
        "known": int(last["known"]),
        "yield": write_share(float(last["yield"]), float(last["known"])),
        "expected": f"{100 * last['expected'] / last['known']:.1f} %",
    }
    metrics = {"yield": float(last["yield"])}
    return CheckResult("M013", outcome, outcome, values, metrics)  # type: ignore[arg-type]
