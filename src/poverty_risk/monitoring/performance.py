"""How good the risks were, once outcomes are known, and how good they should be until then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.cohort import find_groups
from poverty_risk.labels import label_returns
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import Causes, WatchedRound
from poverty_risk.ranking import Ranking
from poverty_risk.windows import Horizon, label_known_by

__all__ = [
    "check_calibration",
    "check_estimate",
    "check_estimate_error",
    "check_realised",
    "estimate_performance",
    "measure_rounds",
]

MEASURES = ("auc", "precision", "recall")
COUNTS = ("n", "labelled", "positives")


def estimate_performance(risk: np.ndarray, budget: float) -> dict[str, float]:
    """Performance that calibrated risks promise, before any outcome is known.

    Parameters
    ----------
    risk
        Calibrated risk of each household.
    budget
        Share of them that is visited.

    Returns
    -------
    dict
        auc, precision and recall, expected under the risks: every household counts as an outcome
        with its risk, and as none with the rest.

    Notes
    -----
    It stands and falls with calibration: how wrong it was last time is told beside it.

    References
    ----------
    Lipton, Wang and Smola (2018), Detecting and correcting for label shift; the estimate is known as
    confidence-based performance estimation.

    Examples
    --------
    >>> import numpy as np
    >>> round(estimate_performance(np.array([1.0, 0.0]), 0.5)["auc"], 3)
    1.0
    >>> round(estimate_performance(np.array([0.5, 0.5, 0.1, 0.1]), 0.5)["precision"], 3)
    0.5
    """
    label = np.repeat([1.0, 0.0], len(risk))
    weights = np.concatenate([risk, 1.0 - risk])[None, :]
    return _measure(Ranking(label, np.tile(risk, 2)), budget, weights)


def _measure(ranking: Ranking, budget: float, weights: np.ndarray) -> dict[str, float]:
    names = ("auc", f"precision_at_{budget:.12g}", f"recall_at_{budget:.12g}")
    found = ranking.compute(names, weights)
    return {short: float(found[name][0]) for short, name in zip(MEASURES, names, strict=True)}


def measure_rounds(
    watched: WatchedRound, causes: Causes, answers: Mapping[pd.Timestamp, pd.Series]
) -> pd.DataFrame:
    """Earlier rounds and this one: expected and observed outcomes, estimated and realised performance.

    Parameters
    ----------
    watched
        The round.
    causes
        Households of places that stopped are left out.
    answers
        Risks by household of each earlier date.

    Returns
    -------
    DataFrame
        Index as_of_date; columns n, labelled, positives, expected, ratio (observed over expected),
        ratio_low, ratio_high, z, of each measure its value, and for auc its interval; estimated_<m> on
        the households with a known outcome, or on all where none is known. Values are missing where
        there are fewer outcomes than the settings ask for.
    """
    settings, learned = watched.settings, _count_learned(watched)
    budget, fewest = settings.budget, settings.fewest_outcomes
    rows: dict[pd.Timestamp, dict[str, float]] = {}
    for date, risk in sorted(answers.items()):
        labels, cluster = _find_outcomes(watched, causes, risk.index, date)
        rows[date] = _measure_round(risk.to_numpy(), labels, cluster, budget, fewest, learned)
    now = watched.now.without(watched.settings.place, causes.places).risk.to_numpy()
    rows[watched.as_of] = _measure_round(
        now, np.full(len(now), np.nan), None, budget, fewest, learned
    )
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("as_of_date")


def _find_outcomes(
    watched: WatchedRound, causes: Causes, households: pd.Index, date: pd.Timestamp
) -> tuple[np.ndarray, pd.Series | None]:
    """Label and village of each household; no labels before those of the date are complete."""
    task, settings = watched.task, watched.settings
    lag = task.schema.reporting_lag_days(task.label)
    complete = label_known_by(pd.DatetimeIndex([date]), Horizon.parse(task.horizon), lag)[0]
    if complete > watched.tables.observed_to:
        return np.full(len(households), np.nan), None
    index = pd.MultiIndex.from_product([households, [date]], names=["household_id", "as_of_date"])
    groups = find_groups(watched.tables, index)
    labels = label_returns(watched.tables, groups, task.horizon, task.label)
    if causes.places and settings.place in groups:
        labels = labels.mask(groups[settings.place].isin(causes.places))
    return labels.to_numpy(), groups.get(settings.cluster)


def _measure_round(
    risk: np.ndarray,
    label: np.ndarray,
    cluster: pd.Series | None,
    budget: float,
    fewest: int,
    learned: float,
) -> dict[str, float]:
    known = ~np.isnan(label)
    told = risk[known] if known.any() else risk
    positives = float(np.nansum(label))
    row: dict[str, float] = {"n": float(len(risk)), "labelled": float(known.sum())}
    row |= {"positives": positives if known.any() else np.nan}
    estimated = estimate_performance(told, budget) if len(told) else dict.fromkeys(MEASURES, np.nan)
    row |= {f"estimated_{name}": value for name, value in estimated.items()}
    names = ("expected", "ratio", "ratio_low", "ratio_high", "z", "auc_low", "auc_high", *MEASURES)
    row |= dict.fromkeys(names, np.nan)
    row["expected"] = float(risk[known].sum()) if known.any() else np.nan
    if not known.any() or min(positives, known.sum() - positives) < fewest:
        # Fewer than ten outcomes would point at households, and tell nothing.
        return row | ({"positives": np.nan} if positives < fewest else {})
    villages = None if cluster is None else cluster[known]
    row |= _calibrate(risk[known], label[known], villages, learned)
    ranking = Ranking(label[known], risk[known])
    row |= _measure(ranking, budget, np.ones((1, int(known.sum()))))
    error = _error_of_auc(row["auc"], positives, known.sum() - positives)
    return row | {
        "auc_low": row["auc"] - 1.96 * error,
        "auc_high": min(row["auc"] + 1.96 * error, 1.0),
    }


def _count_learned(watched: WatchedRound) -> float:
    """Outcomes that the calibration was learned from."""
    training: dict[str, Any] = watched.model.training_
    names = (
        "calibrated",
        "later",
        "boosted",
    )  # a model of an older version names one of the latter
    period: dict[str, Any] = next((training[name] for name in names if name in training), {})
    return float(max(period.get("positives", np.inf), 1.0))


def _calibrate(
    risk: np.ndarray, label: np.ndarray, cluster: pd.Series | None, learned: float
) -> dict[str, float]:
    """Observed over expected, with an error that lets the households of a village share luck.

    What is expected was learned from so many outcomes itself, and is no surer than they were.
    """
    rest = label - risk
    variance = float((risk * (1 - risk)).sum())
    if cluster is not None and len(set(cluster)) > 1:
        codes = pd.factorize(cluster, use_na_sentinel=False)[0]
        sizes = np.bincount(codes)
        # Around the mean: a shift that all villages share is what is tested, not luck.
        around = np.bincount(codes, rest) - sizes * rest.mean()
        few = len(sizes) / (len(sizes) - 1)
        variance = max(variance, few * float((around**2).sum()))
    expected = float(risk.sum())
    error = max(np.sqrt(variance + expected**2 / learned), 1e-9)
    observed = float(label.sum())
    return {
        "ratio": observed / expected,
        "ratio_low": max(observed - 1.96 * error, 0.0) / expected,
        "ratio_high": (observed + 1.96 * error) / expected,
        "z": float(rest.sum()) / error,
    }


def _error_of_auc(auc: float, positives: float, negatives: float) -> float:
    """Standard error of Hanley and McNeil (1982)."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (one - auc**2) + (negatives - 1) * (two - auc**2)
    return float(np.sqrt(spread / (positives * negatives)))


def _find_blocked(
    code: str, watched: WatchedRound, causes: Causes, rounds: pd.DataFrame, column: str
) -> CheckResult | None:
    """Why a check of outcomes has nothing to judge; None when it has."""
    blocked = sorted({causes.tables[t] for t in watched.label_tables() if t in causes.tables})
    if blocked:
        return CheckResult(code, "skipped", "cause", {"codes": tuple(blocked)})
    if len(rounds) < 2:
        return CheckResult(code, "not_applicable", "no_earlier")
    if rounds["labelled"].max() == 0:
        return CheckResult(code, "not_applicable", "not_mature")
    if rounds[column].notna().sum() == 0:
        values = {"fewest": watched.settings.fewest_outcomes}
        return CheckResult(code, "not_applicable", "few_outcomes", values)
    return None


def _day(round_: pd.Series) -> str:
    return str(pd.Timestamp(str(round_.name)).date())


def check_calibration(watched: WatchedRound, causes: Causes, rounds: pd.DataFrame) -> CheckResult:
    """M009: outcomes of the latest mature round against what its risks promised."""
    if blocked := _find_blocked("M009", watched, causes, rounds, "ratio"):
        return blocked
    last = rounds[rounds["ratio"].notna()].iloc[-1]
    settings = watched.settings
    factor = max(last["ratio"], 1 / max(last["ratio"], 1e-9))
    real = abs(last["z"]) > settings.z
    outcome = "passed"
    if real and factor > settings.calibration_tip:
        outcome = "issue" if factor > settings.calibration else "tip"
    values = {
        "date": _day(last),
        "observed": int(last["positives"]),
        "expected": round(float(last["expected"]), 1),
        "ratio": round(float(last["ratio"]), 2),
    }
    return CheckResult("M009", outcome, outcome, values, {"ratio": float(last["ratio"])})  # type: ignore[arg-type]


def check_realised(watched: WatchedRound, causes: Causes, rounds: pd.DataFrame) -> CheckResult:
    """M010: realised AUC of the latest mature round: too low, or lower than before."""
    if blocked := _find_blocked("M010", watched, causes, rounds, "auc"):
        return blocked
    known = rounds[rounds["auc"].notna()]
    last, earlier = known.iloc[-1], known.iloc[:-1]
    settings = watched.settings
    error = (last["auc_high"] - last["auc_low"]) / (2 * 1.96)
    low = last["auc_high"] < settings.auc
    fell = len(earlier) and earlier["auc"].mean() - last["auc"] > max(
        settings.auc_drop, settings.z * error
    )
    outcome = "issue" if low or fell else "passed"
    values: dict[str, Any] = {"date": _day(last), "auc": round(float(last["auc"]), 2)}
    values |= {"precision": f"{100 * last['precision']:.1f} %"}
    values |= {"recall": f"{100 * last['recall']:.1f} %", "least": settings.auc}
    metrics = {name: float(last[name]) for name in MEASURES}
    return CheckResult("M010", outcome, outcome, values, metrics)  # type: ignore[arg-type]


def check_estimate(watched: WatchedRound, rounds: pd.DataFrame) -> CheckResult:
    """M011: performance that this round's risks promise, against what those of earlier ones did."""
    settings = watched.settings
    now, earlier = rounds.iloc[-1], rounds.iloc[:-1]
    if now["n"] < settings.fewest:
        return CheckResult("M011", "not_applicable", "few", {"fewest": settings.fewest})
    metrics = {f"estimated_{name}": float(now[f"estimated_{name}"]) for name in MEASURES}
    values: dict[str, Any] = {"auc": round(metrics["estimated_auc"], 2)}
    values |= {"precision": f"{100 * metrics['estimated_precision']:.1f} %"}
    if earlier.empty:
        return CheckResult("M011", "passed", "first", values, metrics)
    usual = float(earlier["estimated_auc"].mean())
    values["usual"] = round(usual, 2)
    fell = usual - now["estimated_auc"] > settings.auc_drop
    outcome = "issue" if fell else "passed"
    return CheckResult("M011", outcome, outcome, values, metrics)  # type: ignore[arg-type]


def check_estimate_error(
    watched: WatchedRound, causes: Causes, rounds: pd.DataFrame
) -> CheckResult:
    """M012: how wrong the estimate of the latest mature round was."""
    if blocked := _find_blocked("M012", watched, causes, rounds, "auc"):
        return blocked
    last = rounds[rounds["auc"].notna()].iloc[-1]
    settings = watched.settings
    error = float(last["estimated_auc"] - last["auc"])
    luck = (last["auc_high"] - last["auc_low"]) / (2 * 1.96)
    wrong = abs(error) > max(settings.estimate_error, settings.z * luck)
    # Never an issue: that outcomes or their order are off is for calibration and realised performance.
    outcome = "tip" if wrong else "passed"
    values = {
        "date": _day(last),
        "estimated": round(float(last["estimated_auc"]), 2),
        "auc": round(float(last["auc"]), 2),
        "error": f"{error:+.2f}",
    }
    return CheckResult("M012", outcome, outcome, values, {"error": error})  # type: ignore[arg-type]
