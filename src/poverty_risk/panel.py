"""Past periods with what was known in each: what choices of parameters and cohort are judged on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.cohort import build_prediction_points
from poverty_risk.exceptions import DeclarationError, Fault, LabelError
from poverty_risk.features import Catalog, build_features
from poverty_risk.labels import check_measured, grade_labels, label_returns, measure_returns
from poverty_risk.splits import TemporalSplit
from poverty_risk.tables import HistoryTables
from poverty_risk.task import PredictionTask
from poverty_risk.windows import Horizon, parse_as_of_dates

__all__ = ["Panel", "build_panel"]


@dataclass(frozen=True)
class Panel:
    """Points on many dates, with the labels that were known in each past period.

    Parameters
    ----------
    catalog
        Features that models use.
    task
        What is predicted, for whom.
    features
        Features of all points, index (household_id, as_of_date).
    known
        By period, the labels that the office could give on that day: one column per horizon, index of
        the points learned from; missing where the outcome was not yet known.
    outcomes
        Labels of the scored cohort on the periods themselves. Those of all periods but the last are
        as they were known on the last, so that a choice made on them is a choice that could have been
        made then.
    cohorts
        By cohort, whether a point belongs to it, index of `features`.
    clusters
        Village of each point, or another group whose households share luck; None: households.
    ratios
        By period, what the labels known then look at, over its threshold, as `known`; empty unless
        something grades labels.
    graded
        Spread that labels are graded by, for trees to learn from (`grade_labels`); 0: they are not.
    """

    catalog: Catalog
    task: PredictionTask
    features: pd.DataFrame
    known: Mapping[pd.Timestamp, pd.DataFrame]
    outcomes: pd.Series
    cohorts: pd.DataFrame
    clusters: pd.Series | None
    ratios: Mapping[pd.Timestamp, pd.DataFrame]
    graded: float = 0.0

    @property
    def periods(self) -> tuple[pd.Timestamp, ...]:
        """The periods in order of time."""
        return tuple(sorted(self.known))

    @property
    def earlier(self) -> tuple[pd.Timestamp, ...]:
        """All periods but the last: those that choices are made on."""
        return self.periods[:-1]

    def labels_at(self, period: pd.Timestamp) -> pd.Series:
        """Labels of the scored cohort on a period, missing ones left out."""
        dates = self.outcomes.index.get_level_values("as_of_date")
        labels: pd.Series = self.outcomes[dates == period].dropna()
        return labels

    def rows_known(
        self,
        period: pd.Timestamp,
        horizon: str,
        cohort: str | None = None,
        dates: pd.DatetimeIndex | None = None,
    ) -> pd.Series:
        """Labels of a horizon that were known in a period, of a cohort, on some dates.

        Parameters
        ----------
        period
            One of `periods`.
        horizon
            One of the panel's horizons.
        cohort
            One of the panel's cohorts; the scored one by default.
        dates
            As-of dates to learn from; all by default.

        Returns
        -------
        Series
            1.0 or 0.0, index (household_id, as_of_date).
        """
        labels = self.known[period][horizon].dropna()
        member = self.cohorts.loc[labels.index, cohort or self.task.cohort].to_numpy()
        if dates is not None:
            member = member & labels.index.get_level_values("as_of_date").isin(dates)
        known: pd.Series = labels[member]
        return known.rename("label")

    def grade(
        self, period: pd.Timestamp, horizon: str, labels: pd.Series, spread: float | None = None
    ) -> pd.Series | None:
        """Labels of `rows_known` graded by what was measured then; None where they are not graded.

        Parameters
        ----------
        period, horizon
            As for `rows_known`.
        labels
            What it gave.
        spread
            Of `grade_labels`; that of the panel by default.

        Returns
        -------
        Series or None
            From 0 to 1, index of `labels`.

        Raises
        ------
        LabelError
            The panel was built without what labels measure.
        """
        spread = self.graded if spread is None else spread
        if not spread:
            return None
        if not self.ratios:
            place, found = f"labels graded by {spread}", "a panel without what they measure"
            fix = "Build the panel with `measured=True`."
            raise LabelError(Fault(place, found, "a measured one", fix))
        return grade_labels(labels, self.ratios[period].loc[labels.index, horizon], spread)


def build_panel(
    tables: HistoryTables,
    task: PredictionTask,
    catalog: Catalog,
    dates: Iterable[Any],
    periods: Iterable[Any],
    *,
    horizons: Iterable[str] = (),
    cohorts: Iterable[str] = (),
    cluster: str | None = None,
    graded: float = 0.0,
    measured: bool = False,
) -> Panel:
    """Features of many dates, and for each past period the labels that were known then.

    Parameters
    ----------
    tables
        The history.
    task
        What is predicted, for whom.
    catalog
        Features to build.
    dates
        As-of dates that can be learned from.
    periods
        As-of dates that models are tested on, at least two. The last one is kept apart: choices are
        made on the others, whose outcomes must be known by then.
    horizons
        Further horizons of labels to learn from; that of the task always is one.
    cohorts
        Further cohorts to learn from; that of the task always is one.
    cluster
        Group of the schema that is resampled whole, such as ``village_id``; None: households.
    graded
        Spread that labels are graded by unless a candidate says another one; 0: they are not.
    measured
        Whether candidates grade labels by spreads of their own.

    Returns
    -------
    Panel
        Features, labels by period, outcomes.

    Raises
    ------
    DeclarationError
        Fewer than two periods, or an earlier one whose outcomes are not known by the last.
    FeatureError
        A period before which no label was complete.
    LabelError
        Grades of a label that measures nothing.

    Notes
    -----
    Labels of a period come from the archive as it stood on that day (`HistoryTables.known_before`),
    so that neither outcomes nor corrections that became known later are learned from. Labels of the
    task's horizon are complete after horizon and reporting lag: that is the embargo, checked by
    `TemporalSplit`. Those of a shorter horizon are known earlier, which is why they can help.

    Examples
    --------
    >>> from poverty_risk import PredictionTask, build_panel, load_catalog, make_household_history
    >>> tables = make_household_history(200, start="2019-01-01", end="2023-01-01", seed=1).tables
    >>> task = PredictionTask(tables.schema, "at_risk", "guarantee_failed", "6mo", tables.line)
    >>> panel = build_panel(tables, task, load_catalog("archive"), ["2020-01-01", "2020-07-01"],
    ...                     ["2021-01-01", "2022-01-01"])
    >>> [len(set(known.index.get_level_values("as_of_date"))) for known in panel.known.values()]
    [1, 2]
    """
    measured = measured or graded > 0.0
    if measured:
        check_measured(task.schema, task.label)
    learned, tested = parse_as_of_dates(dates), parse_as_of_dates(periods)
    if len(tested) < 2:
        found = f"{len(tested)} period"
        expected = "two or more: the last is kept apart"
        raise DeclarationError(Fault("periods", found, expected, "Give earlier dates too."))
    names = list(dict.fromkeys([task.cohort, *cohorts]))
    spans = list(dict.fromkeys([str(Horizon.parse(h)) for h in (task.horizon, *horizons)]))
    members = {name: build_prediction_points(tables, learned, name) for name in names}
    scored = build_prediction_points(tables, tested, task.cohort)
    _check_embargo(tables, task, members[task.cohort].index, scored.index, tested)
    points = pd.concat([*members.values(), scored])
    points = points[~points.index.duplicated()].sort_index()
    source = pd.concat(members.values())
    source = source[~source.index.duplicated()].sort_index()
    known = {period: _labels_known(tables, source, task, spans, period) for period in tested}
    outcomes = _label_periods(tables, scored, task, tested)
    used = known[tested[-1]].index.union(outcomes.index)
    belongs = {name: used.isin(members[name].index) for name in names}
    belongs[task.cohort] |= used.isin(scored.index)
    return Panel(
        catalog=catalog,
        task=task,
        features=build_features(tables, pd.DataFrame(index=used), catalog),
        known=known,
        outcomes=outcomes,
        cohorts=pd.DataFrame(belongs, index=used),
        clusters=None if cluster is None else points.loc[used, cluster],
        ratios={
            period: _measure_known(tables, labels.index, task, spans, period)
            for period, labels in known.items()
            if measured
        },
        graded=graded,
    )


def _check_embargo(
    tables: HistoryTables,
    task: PredictionTask,
    learned: pd.Index,
    scored: pd.Index,
    tested: pd.DatetimeIndex,
) -> None:
    """Each period has points, and dates whose labels were complete before it."""
    lag = f"{tables.schema.reporting_lag_days(task.label)}d"
    split = TemporalSplit(task.horizon, lag, test_dates=[[date] for date in tested])
    for _ in split.split(learned.union(scored)):
        pass


def _labels_known(
    tables: HistoryTables,
    points: pd.DataFrame,
    task: PredictionTask,
    horizons: list[str],
    period: pd.Timestamp,
) -> pd.DataFrame:
    """Labels by horizon as the archive gave them on the day of a period, unknown points left out."""
    before = points.index.get_level_values("as_of_date") < period
    archive = tables.known_before(period)
    labels = {h: label_returns(archive, points[before], h, task.label) for h in horizons}
    return pd.DataFrame(labels).dropna(how="all")


def _measure_known(
    tables: HistoryTables,
    index: pd.Index,
    task: PredictionTask,
    horizons: list[str],
    period: pd.Timestamp,
) -> pd.DataFrame:
    """What labels look at, by horizon, as the archive gave it on the day of a period."""
    archive, points = tables.known_before(period), pd.DataFrame(index=index)
    return pd.DataFrame({h: measure_returns(archive, points, h, task.label) for h in horizons})


def _label_periods(
    tables: HistoryTables, scored: pd.DataFrame, task: PredictionTask, tested: pd.DatetimeIndex
) -> pd.Series:
    dates = scored.index.get_level_values("as_of_date")
    last = np.asarray(dates == tested[-1])
    archive = tables.known_before(tested[-1])
    labels: pd.Series = pd.concat(
        [
            label_returns(archive, scored[~last], task.horizon, task.label),
            label_returns(tables, scored[last], task.horizon, task.label),
        ]
    ).dropna()
    found = pd.DatetimeIndex(labels.index.get_level_values("as_of_date")).unique()
    faults = [
        Fault(
            f"period {date.date()}",
            "no outcome known " + ("yet" if date == tested[-1] else f"on {tested[-1].date()}"),
            "one whose horizon and reporting lag are over by then",
            "Take an earlier date, or a later last period.",
        )
        for date in tested.difference(found)
    ]
    kinds = labels.groupby(level="as_of_date").nunique()
    faults += [
        Fault(f"period {date.date()}", "outcomes of one kind only", "both", "Leave it out.")
        for date in kinds.index[kinds < 2]
    ]
    if faults:
        raise DeclarationError(faults)
    return labels
