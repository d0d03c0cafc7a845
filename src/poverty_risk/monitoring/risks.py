"""Whether the risks are distributed as they were: in training, a year ago, and in the last round."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk.monitoring.drift import (
    Comparison,
    compare_with_reference,
    compute_effective_size,
)
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import Causes, Scored, WatchedRound, write_share

__all__ = ["check_last_round", "check_risks", "measure_tiers"]

QUANTILES = 21


def measure_tiers(watched: WatchedRound, causes: Causes) -> pd.DataFrame:
    """Share of households by tier: in training, a year ago, now.

    Parameters
    ----------
    watched
        The round.
    causes
        Households of places that stopped are left out.

    Returns
    -------
    DataFrame
        Index tier, the highest first and ``green`` last; columns training (the shares that the tiers
        were made for), year_ago (missing without history), now, and n (households now).
    """
    names = sorted(watched.model.tiers_, key=watched.model.tiers_.__getitem__, reverse=True)
    down_to = np.array([watched.model.tiers[name] for name in names])
    shares = np.append(np.diff(down_to, prepend=0.0), 1 - down_to[-1])
    tiers = [*names, "green"]
    table = pd.DataFrame({"training": shares}, index=pd.Index(tiers, name="tier"))
    place = watched.settings.place
    year = watched.year_ago
    table["year_ago"] = (
        np.nan if year is None else _shares(watched, year.without(place, causes.places), tiers)
    )
    now = watched.now.without(place, causes.places)
    return table.assign(now=_shares(watched, now, tiers), n=len(now.risk))


def _shares(watched: WatchedRound, scored: Scored, tiers: list[str]) -> np.ndarray:
    found = watched.model.tier(scored.risk).value_counts(normalize=True)
    return found.reindex(tiers, fill_value=0.0).to_numpy(dtype=float)


def check_risks(watched: WatchedRound, causes: Causes, tiers: pd.DataFrame) -> CheckResult:
    """M004: risks distributed unlike those that the tiers were made on, since less than a year."""
    settings = watched.settings
    now = watched.now.without(settings.place, causes.places)
    size = compute_effective_size(now.risk.to_numpy(), watched.clusters(now))
    if size < settings.fewest or len(set(watched.model.tiers_.values())) < len(tiers) - 1:
        return CheckResult("M004", "not_applicable", "few", {"fewest": settings.fewest})
    found = _compare_tiers(tiers["training"], tiers["now"], len(now.risk), size)
    year = np.nan
    if tiers["year_ago"].notna().all():
        year = _compare_tiers(tiers["year_ago"], tiers["now"], len(now.risk), size).psi
    metrics = {"psi": found.psi, "psi_year": year, "mean_risk": float(now.risk.mean())}
    values = {"psi": round(found.psi, 2), "red": write_share(tiers["now"].iloc[0], len(now.risk))}
    values |= {"red_training": _percent(tiers["training"].iloc[0])}
    far = found.psi >= settings.psi and found.p_value <= settings.level
    new = far and not year < settings.psi_year
    outcome = "issue" if new else "tip" if far else "passed"
    return CheckResult("M004", outcome, outcome, values, metrics)  # type: ignore[arg-type]


def _compare_tiers(reference: pd.Series, now: pd.Series, n: int, size: float) -> Comparison:
    values = np.repeat(np.arange(len(now)), np.round(now.to_numpy() * n).astype(int))
    found = compare_with_reference({"shares": reference.to_numpy()}, values * 1.0, size=size)
    assert found is not None
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def check_last_round(
    watched: WatchedRound, causes: Causes, answers: dict[pd.Timestamp, pd.Series]
) -> CheckResult:
    """M005: risks distributed unlike those of the last round."""
    settings = watched.settings
    if not answers:
        return CheckResult("M005", "not_applicable", "no_earlier")
    last = max(answers)
    now = watched.now.without(settings.place, causes.places)
    before = answers[last]
    if causes.places:
        left_out = watched.now.points[settings.place].isin(causes.places)
        gone = watched.now.points.index[left_out].get_level_values("household_id")
        before = before[~before.index.isin(gone)]
    size = compute_effective_size(now.risk.to_numpy(), watched.clusters(now))
    if min(size, len(before)) < settings.fewest:
        return CheckResult("M005", "not_applicable", "few", {"fewest": settings.fewest})
    grid = np.quantile(before, np.linspace(0, 1, QUANTILES), method="lower")
    # The last round was asked for the same households, most of them: as if it were known exactly.
    found = compare_with_reference({"quantiles": grid.tolist()}, now.risk.to_numpy(), size=size)
    assert found is not None
    moved = found.psi >= settings.psi_round and found.p_value <= settings.level
    values = {
        "psi": round(found.psi, 2),
        "date": str(last.date()),
        "mean": _percent(float(now.risk.mean())),
        "mean_before": _percent(float(before.mean())),
    }
    outcome = "issue" if moved else "passed"
    return CheckResult("M005", outcome, outcome, values, {"psi": found.psi})  # type: ignore[arg-type]
