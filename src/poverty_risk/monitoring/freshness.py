"""Whether records still arrive: by feed, and by feed and place, against what is usual at the season."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.cohort import find_groups
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import WatchedRound
from poverty_risk.monitoring.settings import MonitoringSettings
from poverty_risk.privacy import SMALL_COUNT

__all__ = ["Rhythm", "check_feeds", "check_places", "measure_feeds", "measure_rhythm"]

YEARS = 3
"""Earlier years that tell what is usual at this season."""

AROUND = 30
"""Days before and after the same day of those years."""

RECENT = 92
"""Days over which the number of records is compared."""

COLUMNS = (
    "table",
    "place",
    "last_known",
    "silent_days",
    "usual_days",
    "expected",
    "recent",
    "usual",
)


@dataclass(frozen=True)
class Rhythm:
    """How records arrive.

    Parameters
    ----------
    silent_days
        Days since the last one that was known before the date.
    usual_days
        Longest silence around the same day of earlier years; missing without an earlier year.
    expected
        Fewest records that arrived, in those years, in the same span as the silence lasts now.
    recent, usual
        Records of the last three months, and the fewest in the same months of earlier years.
    """

    silent_days: int
    usual_days: float
    expected: float
    recent: float
    usual: float

    def judge(self, settings: MonitoringSettings) -> str:
        """``late``, ``thin``, ``passed``, or ``few`` when silence would tell nothing."""
        if np.isnan(self.usual_days):
            return "few"
        longest = max(settings.late_factor * self.usual_days, settings.late_days)
        if self.silent_days > longest and self.expected >= settings.late_records:
            return "late"
        if self.usual >= 3 * settings.late_records and self.recent < settings.thin * self.usual:
            return "thin"
        return "passed" if self.silent_days <= longest else "few"


def measure_rhythm(counts: np.ndarray) -> Rhythm:
    """How a feed arrives.

    Parameters
    ----------
    counts
        Records by the day on which they became known, the day before the as-of date last.

    Returns
    -------
    Rhythm
        Its silence and what is usual.

    Examples
    --------
    >>> import numpy as np
    >>> monthly = np.zeros(1461)
    >>> monthly[::30] = 50
    >>> stopped = monthly.copy()
    >>> stopped[-100:] = 0
    >>> measure_rhythm(stopped).silent_days, measure_rhythm(stopped).usual_days
    (111, 30.0)
    """
    # Not earlier than the first record: before it there was no feed.
    days = np.flatnonzero(counts)
    if not len(days):
        return Rhythm(len(counts), np.nan, np.nan, 0.0, np.nan)
    counts = counts[days[0] :]
    end, total = len(counts), np.concatenate([[0.0], np.cumsum(counts)])
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(end), -1))
    silence = np.arange(1, end + 1) - last
    silent = int(silence[-1])
    usual_days, expected, usual = [], [], []
    for year in range(1, YEARS + 1):
        then = end - round(365.25 * year)
        if then - max(silent, AROUND) < 0:
            break
        usual_days.append(silence[max(then - AROUND - 1, 0) : then + AROUND].max())
        expected.append(total[then] - total[then - silent])
        if then >= RECENT:
            usual.append(total[then] - total[then - RECENT])
    return Rhythm(
        silent,
        float(max(usual_days, default=np.nan)),
        float(min(expected, default=np.nan)),
        float(total[end] - total[max(end - RECENT, 0)]),
        float(min(usual, default=np.nan)),
    )


def measure_feeds(watched: WatchedRound) -> pd.DataFrame:
    """The rhythm of every feed, in the whole county and in each place.

    Parameters
    ----------
    watched
        The round.

    Returns
    -------
    DataFrame
        One row per table (place missing) and per table and place; columns table, place, last_known,
        silent_days, usual_days, expected, recent, usual, status (``late``, ``thin``, ``passed``,
        ``few``). Places with fewer than ten households are left out.
    """
    places = _find_places(watched)
    rows = [
        {"table": table, "place": place, "last_known": _last(watched, rhythm)}
        | vars(rhythm)
        | {"status": rhythm.judge(watched.settings)}
        for table in watched.tables.names
        for place, counts in _count_by_place(watched, table, places)
        for rhythm in [measure_rhythm(counts)]
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, "status"])


def _last(watched: WatchedRound, rhythm: Rhythm) -> pd.Timestamp:
    return watched.as_of - pd.Timedelta(days=rhythm.silent_days)


def _find_places(watched: WatchedRound) -> pd.Series | None:
    """Place of each household as last known; None when the schema has no such group."""
    ids = watched.tables.households
    index = pd.MultiIndex.from_product([ids, [watched.as_of]], names=["household_id", "as_of_date"])
    groups = find_groups(watched.tables, index).droplevel("as_of_date")
    if watched.settings.place not in groups:
        return None
    places = groups[watched.settings.place].dropna()
    sizes = places.value_counts()
    return places[places.isin(sizes.index[sizes >= SMALL_COUNT])]


def _count_by_place(
    watched: WatchedRound, table: str, places: pd.Series | None
) -> Iterator[tuple[str | None, np.ndarray]]:
    """Records by day, in all and by place."""
    records = watched.tables.arrow(table)
    known = records["known_date"].cast("timestamp[us]").to_pandas()
    length = max((watched.as_of - watched.begin).days, 1)
    day = (known - watched.as_of).dt.days.to_numpy(dtype=np.int64) + length
    inside = day >= 0
    yield None, np.bincount(day[inside], minlength=length).astype(float)
    if places is None or "household_id" not in records.column_names:
        return
    named = records["household_id"].to_pandas().map(places)
    codes, names = pd.factorize(named, sort=True)
    kept = inside & (codes >= 0)
    grid = np.bincount(codes[kept] * length + day[kept], minlength=len(names) * length)
    for name, counts in zip(names, grid.reshape(len(names), length), strict=True):
        yield str(name), counts.astype(float)


def check_feeds(watched: WatchedRound, feeds: pd.DataFrame) -> CheckResult:
    """M006: feeds from which nothing comes any more, in the whole county."""
    county = feeds[feeds["place"].isna()]
    late = county[county["status"] == "late"]
    thin = county[county["status"] == "thin"]
    metrics = {"late": float(len(late)), "thin": float(len(thin))}
    if len(late):
        worst = late.sort_values("silent_days", ascending=False, kind="stable")
        return CheckResult(
            "M006",
            "issue",
            "late",
            {
                "feeds": tuple(watched.name_table(name) for name in worst["table"]),
                "days": int(worst["silent_days"].iloc[0]),
                "usual": int(worst["usual_days"].iloc[0]),
            },
            metrics,
        )
    if len(thin):
        names = tuple(watched.name_table(name) for name in thin["table"])
        return CheckResult("M006", "tip", "thin", {"feeds": names}, metrics)
    if (county["status"] == "few").all():
        return CheckResult("M006", "not_applicable", "young", {}, metrics)
    return CheckResult("M006", "passed", "passed", {"count": len(county)}, metrics)


def check_places(watched: WatchedRound, feeds: pd.DataFrame) -> CheckResult:
    """M007: places from which a feed stopped that still comes from elsewhere."""
    stopped = set(feeds.loc[feeds["place"].isna() & (feeds["status"] == "late"), "table"])
    local = feeds[feeds["place"].notna() & ~feeds["table"].isin(stopped)]
    if local["place"].nunique() < 2:
        several = len(feeds["place"].dropna().unique()) > 1
        reason = "stopped" if stopped and several else "one_place"
        outcome = "skipped" if reason == "stopped" else "not_applicable"
        return CheckResult("M007", outcome, reason)  # type: ignore[arg-type]
    late = local[local["status"] == "late"]
    thin = local[local["status"] == "thin"]
    metrics = {"late": float(late["place"].nunique()), "thin": float(len(thin))}
    if len(late):
        tables = late["table"].value_counts().index
        return CheckResult(
            "M007",
            "issue",
            "late",
            {
                "places": tuple(sorted(late["place"].unique())),
                "feeds": tuple(watched.name_table(str(name)) for name in tables),
            },
            metrics,
        )
    if (local["status"] == "few").all():
        return CheckResult("M007", "not_applicable", "young", {}, metrics)
    if len(thin) and not _is_thin_everywhere(thin, feeds):
        places = tuple(sorted(thin["place"].unique()))
        return CheckResult("M007", "tip", "thin", {"places": places}, metrics)
    return CheckResult("M007", "passed", "passed", {"count": local["place"].nunique()}, metrics)


def _is_thin_everywhere(thin: pd.DataFrame, feeds: pd.DataFrame) -> bool:
    county = feeds[feeds["place"].isna() & (feeds["status"] == "thin")]
    return set(thin["table"]) <= set(county["table"])
