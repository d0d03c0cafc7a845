"""A county made up month by month, whose true risk is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.datasets.dynamics import live_one_month
from poverty_risk.datasets.events import EventLog, calendar
from poverty_risk.datasets.feeds import build_frames
from poverty_risk.datasets.identification import ACCOUNT_MONTH, find_failing, review_month
from poverty_risk.datasets.population import MONTHS, Array, State, draw_population, line_of
from poverty_risk.datasets.records import Recorder
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.progress import track
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

__all__ = ["OUTCOMES", "SimulatedCounty", "make_household_history"]

OUTCOMES = ("identified", "below_line", "guarantee_failed", "any")
"""What `SimulatedCounty.true_risk` can be the risk of."""

WARM_UP = 24
"""Months lived before the history starts: a year to fill rolling sums, a year to settle."""

LIVES, RECORDING, FUTURES = 1, 2, 3
"""Separate streams of random numbers, so that none changes another."""


@dataclass(frozen=True)
class SimulatedCounty:
    """A simulated county: what its office recorded, and what is true.

    Parameters
    ----------
    tables
        The recorded history, as of its end.
    truth
        What truly happened, one row per household, month and outcome: ``household_id``,
        ``event_date`` (first day of the month), ``outcome`` (``identified``, ``below_line``: true
        income of the account year under the line, ``guarantee_failed``: a guarantee began to fail).
    line
        Monitoring line by year, yuan per person and year.
    n_households, start, end, seed
        What it was made with.
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
        horizon_months: int = 12,
        *,
        replicates: int = 100,
        outcome: str = "identified",
    ) -> pd.DataFrame:
        """The risk that the county's own hidden state implies: no model can rank better.

        The county is lived again, with the same seed, up to each as-of date; from there its future
        is simulated `replicates` times.

        Parameters
        ----------
        points
            Index (household_id, as_of_date); dates are first days of months.
        horizon_months
            Months from the as-of date.
        replicates
            Simulated futures per date.
        outcome
            One of ``identified``, ``below_line``, ``guarantee_failed``, ``any``.

        Returns
        -------
        DataFrame
            Index of `points`; ``true_risk`` in [0, 1] and ``standard_error`` of its simulation.

        Raises
        ------
        FeatureError
            Unknown households, or dates outside the history or within a month.
        DeclarationError
            Another outcome.

        Notes
        -----
        For ``identified`` the months' chances are combined as ``1 - prod(1 - chance)`` along futures
        in which nobody is identified, instead of counting who was: the same expectation with a much
        smaller error. Other outcomes are counted.
        """
        if outcome not in OUTCOMES:
            raise DeclarationError(
                Fault("outcome", f"'{outcome}'", f"one of {', '.join(OUTCOMES)}", "Correct it.")
            )
        rows, months = self._locate(points)
        risk, error = np.zeros(len(points)), np.zeros(len(points))
        wanted = np.unique(months)
        with track("true risk", len(wanted) * replicates) as advance:
            for state in self._states_before(wanted):
                month = state.month + 1
                found = []
                for replicate in range(replicates):
                    rng = np.random.default_rng([self.seed, FUTURES, month, replicate])
                    found.append(_live_on(state.copy(), rng, horizon_months, outcome))
                    advance(1)
                draws = np.stack(found)
                here = months == month
                risk[here] = draws.mean(axis=0)[rows[here]]
                spread = (
                    draws.std(axis=0, ddof=1) if replicates > 1 else np.full(draws.shape[1], np.nan)
                )
                error[here] = spread[rows[here]] / np.sqrt(replicates)
        return pd.DataFrame({"true_risk": risk, "standard_error": error}, index=points.index)

    def _locate(self, points: pd.DataFrame) -> tuple[Array, Array]:
        ids = points.index.get_level_values("household_id").astype(str)
        dates = pd.DatetimeIndex(points.index.get_level_values("as_of_date"))
        numbers = pd.Series(ids.str[1:], dtype="object")
        rows = pd.to_numeric(numbers, errors="coerce").to_numpy(float) - 1
        months = np.asarray(dates.year * MONTHS + dates.month - 1)
        faults = []
        unknown = ~((rows >= 0) & (rows < self.n_households))
        if unknown.any():
            faults.append(
                Fault("points", f"{unknown.sum()} households", "of this county", "Use its tables.")
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
        return rows.astype(int), months

    def _states_before(self, months: Array) -> Any:
        state, rng = _begin(self.n_households, self.start, self.seed)
        first = state.month
        for month in range(first + 1, int(months.max()) + 1):
            if month in months:
                yield state
            _live_month(state, rng, None, warm=month - first <= MONTHS)


def make_household_history(
    n_households: int = 2000,
    start: str = "2019-01-01",
    end: str = "2025-01-01",
    seed: int = 0,
) -> SimulatedCounty:
    """Simulate a county and the archive that its office would keep.

    Parameters
    ----------
    n_households
        Households at the start, at least 50.
    start, end
        First day of the history and day after its last; first days of months, at least two years
        apart.
    seed
        The same seed gives the same county.

    Returns
    -------
    SimulatedCounty
        ``tables`` (as an office has them), ``truth`` and ``true_risk`` (as nobody has them).

    Raises
    ------
    DeclarationError
        Sizes or dates out of range.

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
    begin, stop = pd.Timestamp(start), pd.Timestamp(end)
    _check(n_households, begin, stop)
    state, rng = _begin(n_households, begin, seed)
    log, truth = EventLog(), _Truth()
    origin, last = state.month, stop.year * MONTHS + stop.month - 2
    eve: State | None = None
    before = EventLog()
    with track("simulating", last - origin) as advance:
        for month in range(origin + 1, last + 1):
            in_history = month > origin + WARM_UP
            if month == origin + WARM_UP + 1:
                eve = state.copy()
                # Of the time before, an archive keeps who was monitored.
                for kind in ("identified", "cleared"):
                    log.events[kind] = before.events[kind]
            warm = month - origin <= MONTHS
            _live_month(state, rng, log if in_history else before, warm=warm)
            truth.note(state, in_history)
            advance(1)
    assert eve is not None
    recorder = Recorder(
        eve,
        state,
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


def _check(n_households: int, start: pd.Timestamp, end: pd.Timestamp) -> None:
    faults = []
    if n_households < 50:
        faults.append(Fault("n_households", str(n_households), ">= 50", "Ask for more."))
    for name, date in (("start", start), ("end", end)):
        if date.day != 1:
            faults.append(Fault(name, f"{date:%Y-%m-%d}", "the first day of a month", "Move it."))
    if end < start + pd.DateOffset(years=2):
        faults.append(
            Fault("end", f"{end:%Y-%m-%d}", "at least two years after start", "Choose a later end.")
        )
    if faults:
        raise DeclarationError(faults)


def _begin(n_households: int, start: pd.Timestamp, seed: int) -> tuple[State, np.random.Generator]:
    rng = np.random.default_rng([seed, LIVES])
    eve = start.year * MONTHS + start.month - 2
    return draw_population(n_households, eve - WARM_UP, rng), rng


def _live_month(
    state: State,
    rng: np.random.Generator,
    log: EventLog | None,
    *,
    warm: bool = False,
    identifies: bool = True,
) -> Array | None:
    money = live_one_month(state, rng, log)
    # In the first year rolling sums are not whole: nobody can be reviewed.
    return None if warm else review_month(state, rng, money, log, identifies=identifies)


def _live_on(state: State, rng: np.random.Generator, months: int, outcome: str) -> Array:
    """One future: the chance of being identified, or whether the outcome came."""
    size = len(state.first)
    spared, came = np.ones(size), np.zeros(size, dtype=bool)
    for _ in range(months):
        before = _is_failing(state)
        chance = _live_month(state, rng, None, identifies=outcome != "identified")
        assert chance is not None
        spared *= 1 - chance
        if outcome in ("below_line", "any") and calendar(state.month)[1] == ACCOUNT_MONTH:
            came |= state.households["ratio"] < 1
        if outcome in ("guarantee_failed", "any"):
            came |= _is_failing(state) & ~before
    if outcome == "identified":
        return np.asarray(1 - spared)
    return np.where(came, 1.0, 1 - spared if outcome == "any" else 0.0)


def _is_failing(state: State) -> Array:
    return np.asarray(np.any(list(find_failing(state).values()), axis=0))


class _Truth:
    """Collects what truly happens to households while they live."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, Array]] = []
        self.failing: Array | None = None

    def note(self, state: State, in_history: bool) -> None:
        failing = _is_failing(state)
        if in_history:
            active = state.households["active"]
            if self.failing is not None:
                new = np.flatnonzero(failing & ~self.failing & active)
                self.found.append((state.month, "guarantee_failed", new))
            if calendar(state.month)[1] == ACCOUNT_MONTH:
                poor = np.flatnonzero((state.households["ratio"] < 1) & active)
                self.found.append((state.month, "below_line", poor))
        self.failing = failing

    def collect(self, recorder: Recorder, log: EventLog) -> pd.DataFrame:
        identified = log.collect("identified")
        parts = list(self.found)
        if identified:
            parts += [
                (int(month), "identified", identified["who"][identified["month"] == month])
                for month in np.unique(identified["month"])
            ]
        frames = [
            pd.DataFrame(
                {
                    "household_id": recorder.household_ids[who],
                    "event_date": Recorder.first_day(np.full(len(who), month)),
                    "outcome": outcome,
                }
            )
            for month, outcome, who in parts
            if len(who)
        ]
        found = pd.concat(frames, ignore_index=True)
        return found.sort_values(["event_date", "outcome", "household_id"], ignore_index=True)
