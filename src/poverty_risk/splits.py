"""Splits in time: nothing is tested before the labels that it was learned from were complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.windows import Horizon, label_known_by, parse_as_of_dates, parse_days

__all__ = ["TemporalSplit", "dates_of", "describe_periods", "later_holdout", "split_periods"]


@dataclass(frozen=True)
class TemporalSplit:
    """Cross-validation over as-of dates with an embargo, for scikit-learn.

    Each test fold is one as-of date, or a group of them. It is learned from all points whose label
    was complete by the first test date: horizon and reporting lag have passed. The points in between
    are in neither part.

    Parameters
    ----------
    horizon
        Horizon of the labels, as ``"12mo"`` or ``"90d"``.
    reporting_lag
        Days after which the office knows of an outcome, as ``"60d"``.
    n_splits
        Number of test dates, the latest ones; not used when `test_dates` are given.
    test_dates
        Test dates, or groups of them (each group is one fold). None takes the latest of the points.
    min_train_dates
        As-of dates that must be left to learn from in each fold.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.splits import TemporalSplit
    >>> dates = pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01"])
    >>> index = pd.MultiIndex.from_product([["h1", "h2"], dates], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": range(8)}, index=index)
    >>> for train, test in TemporalSplit("12mo", n_splits=2).split(features):
    ...     print(len(train), sorted(set(index[test].get_level_values(1).year)))
    4 [2022]
    6 [2023]
    """

    horizon: str | Horizon = "12mo"
    reporting_lag: str | int = "0d"
    n_splits: int = 3
    test_dates: Sequence[Any] | None = None
    min_train_dates: int = 1

    def get_n_splits(
        self,
        X: Any = None,  # noqa: ARG002
        y: Any = None,  # noqa: ARG002
        groups: Any = None,  # noqa: ARG002
    ) -> int:
        """Number of folds; the arguments are not read."""
        return self.n_splits if self.test_dates is None else len(self.test_dates)

    def split(
        self,
        X: pd.DataFrame | pd.Series | pd.Index,
        y: Any = None,  # noqa: ARG002
        groups: Any = None,  # noqa: ARG002
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of train and test points, fold by fold, earliest test date first.

        Parameters
        ----------
        X
            Points: anything with index (household_id, as_of_date), or that index.
        y, groups
            Not read.

        Yields
        ------
        train, test : ndarray
            Positions in `X`.

        Raises
        ------
        DeclarationError
            No test date is asked for, or no date to learn from.
        FeatureError
            The index has no as-of dates, a test date has no points, or too few dates to learn from.
        """
        self._check_settings()
        dates = dates_of(X)
        horizon, lag = Horizon.parse(self.horizon), parse_days(self.reporting_lag)
        known_by = label_known_by(dates, horizon, lag)
        folds = []
        for group in self._groups(dates, known_by):
            train = np.flatnonzero(known_by <= group.min())
            test = np.flatnonzero(dates.isin(group))
            self._check_fold(dates, train, test, group)
            _check_embargo(dates[train], dates[test], horizon, lag)
            folds.append((train, test))
        yield from folds

    def _check_settings(self) -> None:
        faults = []
        if self.min_train_dates < 1:
            found = f"{self.min_train_dates}"
            faults.append(Fault("min_train_dates", found, "1 or more", "Correct it."))
        if self.test_dates is None and self.n_splits < 1:
            faults.append(Fault("n_splits", f"{self.n_splits}", "1 or more", "Correct it."))
        # A lone date would be read letter by letter.
        if isinstance(self.test_dates, str) or (
            self.test_dates is not None and not self.test_dates
        ):
            found, expected = repr(self.test_dates), "a list of dates, or of groups of them"
            faults.append(Fault("test_dates", found, expected, "Put the dates into a list."))
        if faults:
            raise DeclarationError(faults)

    def _groups(
        self, dates: pd.DatetimeIndex, known_by: pd.DatetimeIndex
    ) -> list[pd.DatetimeIndex]:
        if self.test_dates is not None:
            return sorted((parse_as_of_dates(group) for group in self.test_dates), key=min)
        distinct = dates.unique().sort_values()
        distinct_known = known_by.unique().sort_values()
        usable = [d for d in distinct if (distinct_known <= d).sum() >= self.min_train_dates]
        if len(usable) < self.n_splits:
            raise FeatureError(
                Fault(
                    "split in time",
                    f"{len(usable)} of {len(distinct)} as-of dates with {self.min_train_dates} or "
                    f"more dates at least {self.horizon} and {self.reporting_lag} before them",
                    f"{self.n_splits} such test dates",
                    "Add earlier as-of dates, or ask for fewer splits.",
                )
            )
        return [pd.DatetimeIndex([date]) for date in usable[-self.n_splits :]]

    def _check_fold(
        self, dates: pd.DatetimeIndex, train: np.ndarray, test: np.ndarray, group: pd.DatetimeIndex
    ) -> None:
        place = f"fold tested on {group.min().date()}"
        faults = [
            Fault(place, f"no point on {date.date()}", "points on each test date", "Remove it.")
            for date in group.difference(dates[test])
        ]
        if (found := dates[train].nunique()) < self.min_train_dates:
            faults.append(
                Fault(
                    place,
                    f"{found} as-of dates at least {self.horizon} and {self.reporting_lag} before",
                    f"{self.min_train_dates} to learn from",
                    "Add earlier as-of dates, or test later.",
                )
            )
        if faults:
            raise FeatureError(faults)


def split_periods(
    index: pd.Index,
    train_to: Any,
    test_from: Any,
    *,
    horizon: str | Horizon,
    reporting_lag: str | int = "0d",
    train_from: Any = None,
    test_to: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split points once, by explicit as-of dates, and check the embargo between them.

    Parameters
    ----------
    index
        Points, with a level ``as_of_date``.
    train_to, test_from
        Last as-of date learned from, first one tested, both included.
    horizon
        Horizon of the labels, as ``"12mo"``.
    reporting_lag
        Days after which the office knows of an outcome, as ``"60d"``.
    train_from, test_to
        First as-of date learned from, last one tested, both included; None: no limit.

    Returns
    -------
    train, test : ndarray
        Masks over `index`.

    Raises
    ------
    DeclarationError
        Horizon and reporting lag do not fit between `train_to` and `test_from`.
    FeatureError
        The index has no as-of dates, or no point is left to learn from or to test.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.splits import split_periods
    >>> dates = pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"])
    >>> index = pd.MultiIndex.from_product([["h1"], dates], names=["household_id", "as_of_date"])
    >>> train, test = split_periods(index, "2020-06-30", "2022-01-01", horizon="12mo")
    >>> train.tolist(), test.tolist()
    ([True, False, False], [False, False, True])
    """
    dates, span = dates_of(index), Horizon.parse(horizon)
    lag = parse_days(reporting_lag)
    last_train, first_test = parse_as_of_dates(train_to), parse_as_of_dates(test_from)
    # The dates that are really used decide: `train_to` may lie after the last as-of date.
    train = np.asarray(dates <= last_train[0])
    test = np.asarray(dates >= first_test[0])
    if train_from is not None:
        train &= np.asarray(dates >= parse_as_of_dates(train_from)[0])
    if test_to is not None:
        test &= np.asarray(dates <= parse_as_of_dates(test_to)[0])
    faults = [
        Fault(f"{part} period", "no point in it", "one or more", "Correct its dates.")
        for part, mask in (("train", train), ("test", test))
        if not mask.any()
    ]
    if faults:
        raise FeatureError(faults)
    _check_embargo(dates[train], dates[test], span, lag)
    return train, test


def later_holdout(
    as_of_dates: pd.DatetimeIndex,
    share: float,
    *,
    horizon: str | Horizon | None = None,
    reporting_lag_days: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the latest as-of dates back, for stopping and calibration.

    Parameters
    ----------
    as_of_dates
        As-of date of each row, shape (n_rows,), none missing.
    share
        Share of the rows to keep back, between 0 and 1. Dates are never cut in two, so the nearest
        share is taken that leaves rows to boost on.
    horizon
        Horizon of the labels when it must lie between the two parts (embargo); None: no embargo, the
        later dates are only strictly later.
    reporting_lag_days
        Days that the embargo lasts beyond the horizon; not used without `horizon`.

    Returns
    -------
    boost, later : ndarray
        Masks over the rows; rows within the embargo are in neither.

    Raises
    ------
    DeclarationError
        `share` is not between 0 and 1.
    FeatureError
        No date has rows that are early enough before it.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.splits import later_holdout
    >>> dates = pd.to_datetime(["2020-01-01", "2020-07-01", "2021-01-01", "2021-07-01"])
    >>> boost, later = later_holdout(dates, 0.25, horizon="12mo")
    >>> boost.tolist(), later.tolist()
    ([True, True, False, False], [False, False, False, True])
    """
    if not 0 < share < 1:
        raise DeclarationError(
            Fault("later_share", f"{share}", "between 0 and 1, both excluded", "Correct it.")
        )
    dates = pd.DatetimeIndex(as_of_dates)
    span = None if horizon is None else Horizon.parse(horizon)
    ready_by = dates if span is None else label_known_by(dates, span, reporting_lag_days)
    first_ready = ready_by.min()
    best: tuple[float, pd.Timestamp] | None = None
    for start in dates.unique().sort_values(ascending=False):
        if not (first_ready < start if span is None else first_ready <= start):
            break
        distance = abs(float(np.mean(dates >= start)) - share)
        if best is None or distance < best[0]:
            best = (distance, start)
    if best is None:
        raise FeatureError(_no_holdout(dates, span, reporting_lag_days))
    start = best[1]
    boost = np.asarray(dates < start if span is None else ready_by <= start)
    later = np.asarray(dates >= start)
    if span is not None:
        _check_embargo(dates[boost], dates[later], span, reporting_lag_days)
    return boost, later


def _no_holdout(dates: pd.DatetimeIndex, span: Horizon | None, lag: int) -> Fault:
    found = (
        f"{dates.nunique()} as-of dates from {dates.min().date()} to {dates.max().date()}"
        if len(dates)
        else "no rows"
    )
    apart = "" if span is None else f", {span} and {lag} days apart"
    return Fault(
        "later dates for stopping and calibration",
        found,
        f"an earlier and a later as-of date{apart}",
        "Add earlier as-of dates, or train without embargo, stopping and calibration.",
    )


def describe_periods(
    index: pd.Index, target: np.ndarray, periods: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Points, positives, first and last date of each period (masks), and the base rate of all."""
    described: dict[str, Any] = {}
    for name, mask in periods.items():
        described[name] = {"points": int(mask.sum()), "positives": int(target[mask].sum())}
        if "as_of_date" in index.names:
            dates = index.get_level_values("as_of_date")[mask]
            described[name] |= {"first": str(dates.min().date()), "last": str(dates.max().date())}
    return described | {"base_rate": float(target.mean())}


def dates_of(points: pd.DataFrame | pd.Series | pd.Index) -> pd.DatetimeIndex:
    """As-of date of each point.

    Raises
    ------
    FeatureError
        The index has no level as_of_date, or a date is missing.
    """
    index = points if isinstance(points, pd.Index) else getattr(points, "index", None)
    if index is None or "as_of_date" not in index.names:
        found = type(points).__name__ if index is None else f"index {list(index.names)}"
        raise FeatureError(
            Fault("points", found, "a level as_of_date of the index", "Set the index.")
        )
    dates = pd.DatetimeIndex(index.get_level_values("as_of_date"))
    if dates.hasnans:
        raise FeatureError(
            Fault("points", "a missing as_of_date", "a date for each point", "Remove the point.")
        )
    return dates


def _check_embargo(
    train: pd.DatetimeIndex, test: pd.DatetimeIndex, horizon: Horizon, lag: int
) -> None:
    """No label that was learned from is completed after the first test date."""
    complete, first = label_known_by(train, horizon, lag).max(), test.min()
    if complete > first:
        raise DeclarationError(
            Fault(
                "embargo between train and test",
                f"labels of {train.max().date()} complete on {complete.date()}, "
                f"test from {first.date()}",
                f"{horizon} and {lag} days between the last date learned from and the first tested",
                "End the train period earlier, or start the test period later.",
            )
        )
