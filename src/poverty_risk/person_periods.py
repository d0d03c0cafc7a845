"""Outcomes over time: what had happened by each horizon, and the intervals in which one was at risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, FeatureError, LabelError
from poverty_risk.labels import label_returns
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon

__all__ = ["DEFAULT_HORIZONS", "PersonPeriods", "label_times", "parse_horizons"]

DEFAULT_HORIZONS = ("3mo", "6mo", "12mo", "24mo")


def parse_horizons(horizons: Sequence[str]) -> tuple[str, ...]:
    """Horizons as they are named in columns, shortest first.

    Raises
    ------
    DeclarationError
        No horizon, one that cannot be read, or two that do not follow one another.
    """
    if isinstance(horizons, str) or not len(horizons):
        found, expected = repr(horizons), "a list such as ['3mo', '12mo']"
        raise DeclarationError(Fault("horizons", found, expected, "List them."))
    read = [Horizon.parse(text) for text in horizons]
    # 90 days are shorter than three months, or longer: it depends on the month.
    starts = pd.date_range("2023-01-01", "2024-12-01", freq="MS")
    ends = [horizon.end(starts) for horizon in read]
    if any((first >= second).any() for first, second in pairwise(ends)):
        raise DeclarationError(
            Fault("horizons", ", ".join(map(str, read)), "each longer than the last", "Sort them.")
        )
    return tuple(map(str, read))


def label_times(
    tables: HistoryTables,
    points: pd.DataFrame,
    horizons: Sequence[str] = DEFAULT_HORIZONS,
    definition: str | None = None,
    known_by: str | pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Label prediction points by several horizons: whether it had happened by then.

    A household that was lost, or whose horizon is not over, still has the labels of the shorter
    horizons: `HazardModel` learns from it up to when it was last seen.

    Parameters
    ----------
    tables
        The history.
    points
        Index (household_id, as_of_date); columns are not read.
    horizons
        Such as ``["3mo", "12mo"]``, each longer than the last.
    definition
        Name of a label of the schema, one that happens on a day (no ``state``); its first by default.
    known_by
        Labels are those that the archive of this date gave: neither outcomes nor corrections that
        became known later count. By default the end of the history.

    Returns
    -------
    DataFrame
        float64, index of `points`, one column per horizon: 1 it had happened, 0 it had not, missing
        when nobody can tell (see `label_returns`). In a row 1 stays 1.

    Raises
    ------
    DeclarationError
        Horizons that do not follow one another.
    LabelError
        No such definition, or one of a state, which can end again.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, label_times, make_household_history
    >>> tables = make_household_history(300, seed=1).tables
    >>> points = build_prediction_points(tables, "2024-01-01")
    >>> label_times(tables, points, ["6mo", "24mo"]).notna().any().tolist()
    [True, False]
    """
    names = parse_horizons(horizons)
    name = next(iter(tables.schema.labels)) if definition is None else definition
    _check_happens(tables.schema, name)
    archive = tables if known_by is None else tables.known_before(known_by)
    labels = {horizon: label_returns(archive, points, horizon, name) for horizon in names}
    return pd.DataFrame(labels).rename_axis(columns="horizon")


def _check_happens(schema: Schema, name: str) -> None:
    label = schema.labels.get(name)
    if label is None:
        return  # `label_returns` says so
    for part in label.of:
        _check_happens(schema, part)
    if label.kind == "state":
        raise LabelError(
            Fault(
                f"label '{name}'",
                "a state at the end of a horizon",
                "an outcome that happens on a day: a risk over time never falls",
                "Choose a label of kind 'event', or train one RiskModel per horizon.",
            )
        )


@dataclass(frozen=True)
class PersonPeriods:
    """One row per point and interval in which it was at risk and is known to have been seen.

    Parameters
    ----------
    point
        Position of the point of each row, shape (n_rows,).
    interval
        Number of the interval, from 0, shape (n_rows,): the time between two horizons.
    happened
        1.0 where the outcome fell into the interval, 0.0 where not.
    """

    point: np.ndarray
    interval: np.ndarray
    happened: np.ndarray

    @classmethod
    def of(cls, outcomes: pd.DataFrame) -> PersonPeriods:
        """Expand the labels of `label_times`, shape (n_points, n_horizons).

        Notes
        -----
        A point enters an interval if nothing had happened by its start, and its label at the end is
        known. Whoever was lost, or whose time is not over, is left out from then on: it counts as
        one without the outcome for as long as it was seen, and for no longer.

        Examples
        --------
        >>> import pandas as pd
        >>> from poverty_risk.person_periods import PersonPeriods
        >>> outcomes = pd.DataFrame({"3mo": [0.0, 1.0, 0.0], "12mo": [1.0, 1.0, None]})
        >>> rows = PersonPeriods.of(outcomes)
        >>> list(zip(rows.point.tolist(), rows.interval.tolist(), rows.happened.tolist()))
        [(0, 0, 0.0), (1, 0, 1.0), (2, 0, 0.0), (0, 1, 1.0)]
        """
        labels = outcomes.to_numpy(dtype=np.float64)
        _check_order(labels)
        points, intervals, happened = [], [], []
        before = np.zeros(len(labels))
        for interval in range(labels.shape[1]):
            by_end = labels[:, interval]
            at_risk = np.flatnonzero((before == 0.0) & ~np.isnan(by_end))
            points.append(at_risk)
            intervals.append(np.full(len(at_risk), interval))
            happened.append(by_end[at_risk])
            before = by_end
        return cls(np.concatenate(points), np.concatenate(intervals), np.concatenate(happened))


def _check_order(labels: np.ndarray) -> None:
    odd = ~np.isin(labels[~np.isnan(labels)], [0.0, 1.0])
    undone = sum(int(((a == 1.0) & (b == 0.0)).sum()) for a, b in pairwise(labels.T))
    faults = []
    if odd.any():
        faults.append(
            Fault("outcomes", f"{odd.sum()} other values", "1, 0 or missing", "See them.")
        )
    if undone:
        found = f"{undone} outcomes that had happened by one horizon and not by a longer one"
        faults.append(Fault("outcomes", found, "none", "Use label_times."))
    if faults:
        raise FeatureError(faults)
