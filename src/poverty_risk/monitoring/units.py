"""Whether the amounts of a feed are still written in the same unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from poverty_risk.declarations import Words
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import WatchedRound

__all__ = ["check_units", "compare_amounts", "measure_amounts"]

RECENT = (31, 92, 366)
"""Days over which recent amounts are taken: the first of them in which there are enough."""

FEWEST = 30
"""Recent amounts, and earlier ones, for their medians to be compared."""

MOST_POWERS = 4
"""Factors of 10 to 10,000, either way."""


def compare_amounts(recent: np.ndarray, earlier: np.ndarray, tolerance: float) -> tuple[float, int]:
    """Factor between the medians, and the power of ten that it is near to.

    Parameters
    ----------
    recent, earlier
        Amounts above zero.
    tolerance
        How near, in powers of ten.

    Returns
    -------
    factor : float
        Median of the recent ones over that of the earlier ones.
    power : int
        0 unless the factor is near 10, 100, 1,000, 10,000 or one over these, and half of the recent
        amounts are outside what nine of ten earlier ones were.

    Examples
    --------
    >>> import numpy as np
    >>> yuan = np.linspace(2000, 4000, 50)
    >>> compare_amounts(yuan / 10_000, yuan, 0.2)[1], compare_amounts(2 * yuan, yuan, 0.2)[1]
    (-4, 0)
    """
    factor = float(np.median(recent) / np.median(earlier))
    power = round(float(np.log10(factor)))
    if power == 0 or abs(power) > MOST_POWERS or abs(np.log10(factor) - power) > tolerance:
        return factor, 0
    low, high = np.quantile(earlier, [0.1, 0.9])
    outside = recent < low if power < 0 else recent > high
    return factor, power if outside.mean() >= 0.5 else 0


def measure_amounts(watched: WatchedRound, places: pd.Series | None = None) -> pd.DataFrame:
    """Recent amounts against earlier ones, by column, and by column and place.

    Parameters
    ----------
    watched
        The round.
    places
        Place of each household, to look into each of them too.

    Returns
    -------
    DataFrame
        Columns table, column, place (missing: the county), recent, earlier, factor, power. Amounts
        with too few records are left out.
    """
    rows = []
    for table, column in _amount_columns(watched):
        records = watched.tables.arrow(table)
        values = records[column].to_pandas().to_numpy(dtype=float, na_value=np.nan)
        known = records["known_date"].cast("timestamp[us]").to_pandas()
        age = (watched.as_of - known).dt.days.to_numpy()
        told = values > 0
        households = "household_id" in records.column_names and places is not None
        where = records["household_id"].to_pandas().map(places) if households else None
        for place, mine in _split(told, where):
            found = _compare(values[mine], age[mine], watched.settings.unit_tolerance)
            if found is not None:
                rows.append({"table": table, "column": column, "place": place} | found)
    names = ["table", "column", "place", "recent", "earlier", "factor", "power"]
    return pd.DataFrame(rows, columns=names)


def _amount_columns(watched: WatchedRound) -> Iterator[tuple[str, str]]:
    for table in watched.tables.names:
        for column, declared in watched.task.schema.tables[table].columns.items():
            if declared.kind == "number" and declared.unit not in (None, "points"):
                yield table, column


def _split(told: np.ndarray, where: pd.Series | None) -> Iterator[tuple[str | None, np.ndarray]]:
    yield None, told
    if where is not None:
        for place in sorted(where.dropna().unique()):
            yield str(place), told & (where == place).to_numpy()


def _compare(values: np.ndarray, age: np.ndarray, tolerance: float) -> dict[str, float] | None:
    for days in RECENT:
        recent, earlier = values[age <= days], values[(age > days) & (age <= days + 3 * 366)]
        if len(recent) >= FEWEST and len(earlier) >= FEWEST:
            factor, power = compare_amounts(recent, earlier, tolerance)
            return {
                "recent": float(len(recent)),
                "earlier": float(len(earlier)),
                "factor": factor,
                "power": power,
            }
    return None


def check_units(watched: WatchedRound, amounts: pd.DataFrame) -> CheckResult:
    """M008: amounts whose median moved by a factor near a power of ten."""
    if not len(amounts):
        return CheckResult("M008", "not_applicable", "few")
    changed = amounts[amounts["power"] != 0]
    metrics = {"changed": float(len(changed))}
    if not len(changed):
        count = int(amounts["place"].isna().sum())
        return CheckResult("M008", "passed", "passed", {"count": count}, metrics)
    pairs = changed.drop_duplicates(["table", "column"])
    return CheckResult(
        "M008",
        "issue",
        "changed",
        {
            "amounts": tuple(
                _name(watched, str(row.table), str(row.column))
                for row in pairs.itertuples(index=False)
            ),
            "factor": f"{10.0 ** pairs['power'].iloc[0]:g}",
        },
        metrics,
    )


def _name(watched: WatchedRound, table: str, column: str) -> Words:
    declared = watched.task.schema.tables[table].columns[column].label
    name = watched.name_table(table)
    own = Words(zh=column, en=column) if declared is None else declared
    return Words(zh=f"{name.zh}: {own.zh}", en=f"{name.en}: {own.en}")
