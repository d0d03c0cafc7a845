"""A county made up month by month, whose true risk is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.datasets.events import EventLog, calendar
from poverty_risk.datasets.feeds import build_frames
from poverty_risk.datasets.identification import ACCOUNT_MONTH
from poverty_risk.datasets.lives import (
    FUTURES,
    RECORDING,
    WARM_UP,
    Lives,
    find_any_failing,
    simulate_risk,
)
from poverty_risk.datasets.population import MONTHS, Array, State, line_of
from poverty_risk.datasets.records import Recorder, number_texts, pick
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.progress import track
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon

__all__ = ["OUTCOMES", "SimulatedCounty", "make_household_history"]

OUTCOMES = ("identified", "below_line", "guarantee_failed", "any")
"""What `SimulatedCounty.true_risk` can be the risk of."""


@dataclass(frozen=True)
class SimulatedCounty:
    """A simulated county: what its office recorded, and what is true.

    Parameters
    ----------
    tables
        The recorded history, as of its end.
    truth
        What truly happened, one row per household, month and outcome: ``household_id``,
        ``event_date`` (first day of the month), ``outcome``. Two are welfare events, whoever saw
        them: ``below_line``, true income of the account year under the line, and
        ``guarantee_failed``, a guarantee began to fail. ``identified`` is a decision, taken only
        where somebody looked.
    line
        Monitoring line by year, yuan per person and year.
    n_households, start, end, seed
        What it was made with.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> county = make_household_history(200, seed=1)
    >>> county.n_households, county.end.year, "outcome" in county.truth
    (200, 2025, True)
    """

    tables: HistoryTables
    truth: pd.DataFrame
    line: dict[int, float]
    n_households: int
    start: pd.Timestamp
    end: pd.Timestamp
    seed: int

    def true_risk(
        self,
        points: pd.DataFrame,
        horizon: str | Horizon | int = "12mo",
        *,
        replicates: int = 100,
        outcome: str = "identified",
        helped: bool = True,
    ) -> pd.DataFrame:
        """The risk that the county's own hidden state implies: no model can rank better.

        The county is lived again, with the same seed, up to each as-of date; from there its future
        is simulated `replicates` times.

        Parameters
        ----------
        points
            Index (household_id, as_of_date); dates are first days of months.
        horizon
            Months from the as-of date: ``"12mo"`` or 12.
        replicates
            Simulated futures per date.
        outcome
            One of ``identified``, ``below_line``, ``guarantee_failed``, ``any``, as in `truth`.
        helped
            False: the risk if all help and social assistance ended on the as-of date and none came
            afterwards.

        Returns
        -------
        DataFrame
            Index of `points`; ``true_risk`` in [0, 1] and ``standard_error`` of its simulation.

        Raises
        ------
        FeatureError
            Unknown households, or dates outside the history or within a month.
        DeclarationError
            Another outcome, a horizon that is not in months, no replicate.

        Notes
        -----
        For ``identified`` and ``any`` the months' chances of being identified are combined as
        ``1 - prod(1 - chance)`` along futures in which nobody is, instead of counting who was: the
        same expectation with a much smaller error. Other outcomes are counted.

        One more future, drawn from those of all households, enters each mean and its error. Risks
        are therefore moved towards the county's mean by one part in ``replicates + 1``, and none is
        0 but those of households that have left the county. On a scale of log-odds the noise of small risks still shows: a calibration slope
        against few replicates lies below 1, and tends to 1 with more of them.

        Examples
        --------
        >>> from poverty_risk import build_prediction_points, make_household_history
        >>> county = make_household_history(200, seed=1)
        >>> points = build_prediction_points(county.tables, "2023-01-01")
        >>> truth = county.true_risk(points, "12mo", replicates=5)
        >>> bool(truth["true_risk"].between(0, 1).all())
        True
        """
        length = _months_of(horizon, replicates, outcome)
        rows, months = self._locate(points)
        risk, error = np.zeros(len(points)), np.zeros(len(points))
        wanted = np.unique(months)
        with track("true risk", len(wanted) * replicates) as advance:
            for state in self._states_before(wanted):
                here = months == state.month + 1
                streams = self._streams(state.month + 1, replicates, advance)
                found, errors = simulate_risk(state, streams, length, outcome, helped=helped)
                risk[here], error[here] = found[rows[here]], errors[rows[here]]
        return pd.DataFrame({"true_risk": risk, "standard_error": error}, index=points.index)

    def true_hardship(
        self, points: pd.DataFrame, horizon: str | Horizon | int = "12mo", *, level: float = 0.25
    ) -> pd.Series:
        """Who truly came into hardship, whether or not anybody looked.

        ``identified`` needs a visit, a warning or a request; this is what somebody who looked at
        everyone in every month would have seen. The county is lived again, with the same seed.

        Parameters
        ----------
        points
            Index (household_id, as_of_date); dates are first days of months.
        horizon
            Months from the as-of date: ``"12mo"`` or 12.
        level
            Hardship of a month that counts, from above 0 (more than the household can carry) to 1
            (a reviewer's chance to recognise it does not rise further).

        Returns
        -------
        Series
            float64 named ``label``, index of `points`: 1 it came, 0 it did not, missing where the
            household left first or the history ends before the horizon.

        Raises
        ------
        FeatureError
            Unknown households, or dates outside the history or within a month.
        DeclarationError
            A horizon that is not in months.

        Examples
        --------
        >>> from poverty_risk import build_prediction_points, make_household_history
        >>> county = make_household_history(200, seed=1)
        >>> points = build_prediction_points(county.tables, "2023-01-01")
        >>> set(county.true_hardship(points).dropna()) <= {0.0, 1.0}
        True
        """
        length = _months_of(horizon, 1, "identified")
        rows, months = self._locate(points)
        came, left = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        lives = Lives.begin(self.n_households, self.start, self.seed)
        end = self.end.year * MONTHS + self.end.month - 1
        while lives.state.month + 1 < end:
            lives.live_month()
            inside = (months <= lives.state.month) & (lives.state.month < months + length)
            active = lives.state.households["active"][rows]
            came |= inside & active & (lives.state.households["hardship"][rows] > level)
            left |= inside & ~active
        label = np.where(came, 1.0, np.where(left, np.nan, 0.0))
        label[months + length > end] = np.nan
        return pd.Series(label, index=points.index, name="label")

    def _streams(
        self, month: int, replicates: int, advance: Callable[[int], None]
    ) -> Iterator[np.random.Generator]:
        for replicate in range(replicates):
            yield np.random.default_rng([self.seed, FUTURES, month, replicate])
            advance(1)

    def _locate(self, points: pd.DataFrame) -> tuple[Array, Array]:
        """Position of each point's household, and month of its date."""
        ids = points.index.get_level_values("household_id").astype(str)
        dates = pd.DatetimeIndex(points.index.get_level_values("as_of_date"))
        names = number_texts("H", self.n_households, 7).to_numpy(zero_copy_only=False)
        rows = pd.Index(names).get_indexer(ids)
        faults = []
        if (rows < 0).any():
            faults.append(
                Fault("points", f"{(rows < 0).sum()} points", "of this county", "Use its tables.")
            )
        outside = (dates < self.start) | (dates > self.end) | (dates.day != 1)
        if outside.any():
            faults.append(
                Fault(
                    "points",
                    f"as-of date {dates[outside][0]:%Y-%m-%d}",
                    f"first days of months, {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}",
                    "Choose such dates.",
                )
            )
        if faults:
            raise FeatureError(faults)
        return rows, np.asarray(dates.year * MONTHS + dates.month - 1)

    def _states_before(self, months: Array) -> Iterator[State]:
        """The state on the eve of each month, in order of time."""
        lives = Lives.begin(self.n_households, self.start, self.seed)
        for month in months:
            while lives.state.month < month - 1:
                lives.live_month()
            yield lives.state


def _months_of(horizon: str | Horizon | int, replicates: int, outcome: str) -> int:
    """The horizon in months; faults of all arguments of `true_risk` in one error."""
    faults = []
    if outcome not in OUTCOMES:
        faults.append(
            Fault("outcome", f"'{outcome}'", f"one of {', '.join(OUTCOMES)}", "Correct it.")
        )
    if replicates < 1:
        faults.append(Fault("replicates", str(replicates), "1 or more", "Simulate more futures."))
    text = f"{horizon}mo" if isinstance(horizon, int) else str(horizon)
    if not re.fullmatch(r"[1-9]\d{0,2}mo", text):
        faults.append(Fault("horizon", repr(horizon), "months such as '12mo'", "Give months."))
    if faults:
        raise DeclarationError(faults)
    return Horizon.parse(text).length


def make_household_history(
    n_households: int = 2000,
    start: str | pd.Timestamp = "2019-01-01",
    end: str | pd.Timestamp = "2025-01-01",
    seed: int = 0,
) -> SimulatedCounty:
    """Simulate a county and the archive that its office would keep.

    Parameters
    ----------
    n_households
        Households at the start, at least 1. Rates are those of a county from some thousands on.
    start, end
        First day of the history and day after its last; first days of months.
    seed
        0 or more; the same seed gives the same county.

    Returns
    -------
    SimulatedCounty
        ``tables`` (as an office has them), ``truth`` and ``true_risk`` (as nobody has them).

    Raises
    ------
    DeclarationError
        Sizes, dates or seed out of range.

    Notes
    -----
    Households live month by month: members age, study, fall ill, work away and come back; floods
    share villages, slumps of jobs share seasons; help starts after identification and works. What is
    recorded comes later, with gaps, doubles, placeholders and corrections. Constants and their
    sources stand in ``datasets/county.yaml``; they were fixed before any model was trained.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> county = make_household_history(200, seed=1)
    >>> len(county.tables.names)
    14
    """
    begin, stop = _check(n_households, start, end, seed)
    lives = Lives.begin(n_households, begin, seed)
    before, log, truth = EventLog(), EventLog(), _Truth()
    months = (stop.year - begin.year) * MONTHS + stop.month - begin.month
    with track("simulating", WARM_UP + months) as advance:
        for _ in range(WARM_UP):
            lives.live_month(before)
            advance(1)
        eve = lives.state.copy()
        # Of the time before, an archive keeps who was monitored and helped.
        for kind in ("identified", "cleared", "help"):
            log.events[kind] = before.events[kind]
        for _ in range(months):
            failing = find_any_failing(lives.state)
            lives.live_month(log)
            truth.note(lives.state, failing)
            advance(1)
    recorder = Recorder(
        eve,
        lives.state,
        log,
        np.datetime64(begin, "D"),
        np.datetime64(stop, "D"),
        np.random.default_rng([seed, RECORDING]),
    )
    line = line_of(range(begin.year - 1, stop.year + 3))
    tables = HistoryTables.from_frames(
        build_frames(recorder), load_schema("archive"), line, observed_to=stop
    )
    outcomes = truth.collect(recorder, log)
    return SimulatedCounty(tables, outcomes, line, n_households, begin, stop, seed)


def _check(
    n_households: int, start: str | pd.Timestamp, end: str | pd.Timestamp, seed: int
) -> tuple[pd.Timestamp, pd.Timestamp]:
    faults, dates = [], []
    for name, number, least in (("n_households", n_households, 1), ("seed", seed, 0)):
        if not (isinstance(number, int | np.integer) and number >= least):
            faults.append(
                Fault(name, repr(number), f"a whole number >= {least}", "Ask for another.")
            )
    for name, text in (("start", start), ("end", end)):
        date = pd.to_datetime(text, errors="coerce")
        if pd.isna(date) or date.tz is not None or date != date.normalize() or date.day != 1:
            faults.append(
                Fault(name, repr(text), "the first day of a month such as '2019-01-01'", "Move it.")
            )
        else:
            dates.append(date)
    if len(dates) == 2 and dates[1] <= dates[0]:
        faults.append(Fault("end", f"{dates[1]:%Y-%m-%d}", "after start", "Choose a later end."))
    if faults:
        raise DeclarationError(faults)
    return dates[0], dates[1]


class _Truth:
    """Collects what truly happens to households while they live."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, Array]] = []

    def note(self, state: State, failed_before: Array) -> None:
        """Note the month that has just been lived."""
        active = state.households["active"]
        new = np.flatnonzero(find_any_failing(state) & ~failed_before & active)
        self.found.append((state.month, "guarantee_failed", new))
        if calendar(state.month)[1] == ACCOUNT_MONTH:
            poor = np.flatnonzero((state.households["ratio"] < 1) & active)
            self.found.append((state.month, "below_line", poor))

    def collect(self, recorder: Recorder, log: EventLog) -> pd.DataFrame:
        """One row per household, month and outcome, those before the history left out."""
        parts = [(np.full(len(who), month), outcome, who) for month, outcome, who in self.found]
        identified = log.collect("identified")
        parts.append((identified["month"], "identified", identified["who"]))
        frames = [
            pd.DataFrame(
                {
                    "household_id": pick(recorder.household_ids, who).to_numpy(
                        zero_copy_only=False
                    ),
                    "event_date": Recorder.first_day(month),
                    "outcome": outcome,
                }
            )
            for month, outcome, who in parts
        ]
        found = pd.concat(frames, ignore_index=True)
        found = found[found["event_date"] >= recorder.start]
        kinds = {"household_id": "str", "event_date": "datetime64[us]", "outcome": "str"}
        found = found.astype(kinds)
        return found.sort_values(["event_date", "outcome", "household_id"], ignore_index=True)
