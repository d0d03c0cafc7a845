"""A county lived month by month, and lived on from any month into many possible futures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.datasets.dynamics import live_one_month
from poverty_risk.datasets.events import EventLog, calendar
from poverty_risk.datasets.identification import ACCOUNT_MONTH, find_failing, review_month
from poverty_risk.datasets.population import MONTHS, Array, State, draw_population

__all__ = ["WARM_UP", "Lives", "find_any_failing", "live_on", "simulate_risk"]

WARM_UP = 24
"""Months lived before the history starts: a year to fill rolling sums, a year to settle."""

LIVES, RECORDING, FUTURES = 1, 2, 3
"""Separate streams of random numbers, so that none changes another."""


@dataclass
class Lives:
    """A county that can be lived again: the same seed, the same lives, whoever writes them down.

    Parameters
    ----------
    state
        What is true at the end of the last month lived.
    rng
        The stream of random numbers of these lives.
    first
        Month before the first one lived.
    """

    state: State
    rng: np.random.Generator
    first: int

    @classmethod
    def begin(cls, n_households: int, start: pd.Timestamp, seed: int) -> Lives:
        """A county `WARM_UP` months before the start of its history."""
        rng = np.random.default_rng([seed, LIVES])
        first = start.year * MONTHS + start.month - 2 - WARM_UP
        return cls(draw_population(n_households, first, rng), rng, first)

    def live_month(self, log: EventLog | None = None) -> None:
        """Live the next month."""
        money = live_one_month(self.state, self.rng, log)
        # In the first year rolling sums are not whole: nobody can be reviewed.
        if self.state.month - self.first > MONTHS:
            review_month(self.state, self.rng, money, log)


def find_any_failing(state: State) -> Array:
    """Whether any guarantee fails for each household."""
    return np.asarray(np.any(list(find_failing(state).values()), axis=0))


def live_on(
    state: State, rng: np.random.Generator, months: int, outcome: str, *, helped: bool = True
) -> Array:
    """One future: each household's chance of being identified, or whether the outcome came.

    Notes
    -----
    Where identification counts, nobody is identified in the future that is lived, and the months'
    chances are combined: until somebody is identified the future is the same, afterwards nothing
    counts any more. Without help, what was given before the future begins has been given; its luck is
    the same as with help.
    """
    by_chance = outcome in ("identified", "any")
    spared, came = np.ones(len(state.first)), np.zeros(len(state.first), dtype=bool)
    for _ in range(months):
        if not helped:
            _end_help(state)
        failed = find_any_failing(state)
        money = live_one_month(state, rng, None)
        spared *= 1 - review_month(state, rng, money, None, identifies=not by_chance)
        active = state.households["active"]
        if outcome in ("below_line", "any") and calendar(state.month)[1] == ACCOUNT_MONTH:
            came |= active & (state.households["ratio"] < 1)
        if outcome in ("guarantee_failed", "any"):
            came |= active & find_any_failing(state) & ~failed
    return np.where(came, 1.0, 1 - spared if by_chance else 0.0)


def _end_help(state: State) -> None:
    """End monitored help and social assistance, begun at any time."""
    for kind in ("help", "dibao"):
        state.households[kind] = np.zeros(len(state.first))


def simulate_risk(
    state: State,
    streams: Iterable[np.random.Generator],
    months: int,
    outcome: str,
    *,
    helped: bool = True,
) -> tuple[Array, Array]:
    """Mean of simulated futures and its standard error, for each household.

    Notes
    -----
    To each household's futures one more is added, drawn from all households' futures. Without it,
    a risk below one in as many as were simulated would mostly come out as 0 with an error of 0,
    as if that misfortune could not happen.
    """
    size, count = len(state.first), 0
    total, squares = np.zeros(size), np.zeros(size)
    for rng in streams:
        chance = live_on(state.copy(), rng, months, outcome, helped=helped)
        total += chance
        squares += chance**2
        count += 1
    there = state.households["active"]
    if not there.any():
        return np.zeros(size), np.zeros(size)
    common = total[there].mean() / count
    spread = squares[there].mean() / count - common**2
    risk = (total + common) / (count + 1)
    deviations = squares - 2 * risk * total + count * risk**2 + spread + (common - risk) ** 2
    error = np.sqrt(np.maximum(deviations, 0) / count / (count + 1))
    # Households that left the county are beyond any outcome of it.
    return np.where(there, risk, 0.0), np.where(there, error, 0.0)
