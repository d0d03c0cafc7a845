"""Forest plot and reliability diagram of a model report, as places that the template draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poverty_risk.report.model_evaluation import Interval, ReliabilityFact

__all__ = ["ForestPlot", "ReliabilityPlot", "draw_forest", "draw_reliability"]

SIDE, LEFT, TOP = 300.0, 62.0, 12.0
"""The reliability diagram is a square; beside and below is room for the numbers."""

TICKS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
MOST_TICKS = 5


@dataclass(frozen=True)
class Mark:
    """An interval, in hundredths of the width; without ends only its estimate."""

    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ForestPlot:
    """Intervals over one axis, and its ticks as places and texts."""

    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]


def draw_forest(intervals: Sequence[Interval]) -> ForestPlot:
    """Place intervals side by side over one axis.

    Parameters
    ----------
    intervals
        At least one.

    Returns
    -------
    ForestPlot
        Marks in the order of the intervals; ticks at round numbers.

    Examples
    --------
    >>> plot = draw_forest([Interval(0.7, 0.6, 0.8), Interval(0.65)])
    >>> plot.marks, plot.ticks[0]
    ((Mark(at=50.0, low=0.0, high=100.0), Mark(at=25.0, low=None, high=None)), (0.0, '0.6'))
    """
    ends = [x for i in intervals for x in (i.low, i.estimate, i.high) if x is not None]
    lowest, highest = min(ends), max(ends)
    step = next((s for s in STEPS if (highest - lowest) / s <= MOST_TICKS), STEPS[-1])
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    last = max(last, first + 1)

    def place(value: float) -> float:
        # Adding zero: no place is minus zero.
        return round((value / step - first) / (last - first) * 100, 1) + 0.0

    marks = tuple(
        Mark(
            place(i.estimate),
            None if i.low is None else place(i.low),
            None if i.high is None else place(i.high),
        )
        for i in intervals
    )
    return ForestPlot(
        marks, tuple((place(k * step), f"{k * step:.3g}") for k in range(first, last + 1))
    )


@dataclass(frozen=True)
class ReliabilityPlot:
    """Mean risk against observed rate, both axes logarithmic, in units of the drawing."""

    points: tuple[tuple[float, float, float, float], ...]
    ticks: tuple[tuple[float, float, str], ...]
    left: float
    right: float
    top: float
    bottom: float


def draw_reliability(
    bins: Sequence[ReliabilityFact], write: Callable[[float], str]
) -> ReliabilityPlot:
    """Place the bins of a reliability table.

    Parameters
    ----------
    bins
        At least one, each with outcomes.
    write
        Puts a share into words.

    Returns
    -------
    ReliabilityPlot
        Of each bin x, y and both ends of its interval; of each tick x, y and text. The diagonal goes
        from one corner to the other.

    Examples
    --------
    >>> one = ReliabilityFact(100, 10, 0.1, Interval(0.1, 0.05, 0.2))
    >>> drawn = draw_reliability([one], str)
    >>> drawn.points, [text for _, _, text in drawn.ticks]
    (((212.0, 162.0, 312.0, 12.0),), ['0.05', '0.1', '0.2'])
    """
    ends = [x for b in bins for x in (b.mean_risk, b.observed.low or 0.0, b.observed.high or 1.0)]
    lowest = max((t for t in TICKS if t <= max(min(ends), TICKS[0])), default=TICKS[0])
    highest = min(t for t in TICKS if t >= min(max(ends), 1.0))
    width = math.log(highest / lowest) or 1.0

    def share(value: float) -> float:
        return math.log(max(value, lowest) / lowest) / width * SIDE

    points = tuple(
        (
            round(LEFT + share(b.mean_risk), 1),
            round(TOP + SIDE - share(b.observed.estimate), 1),
            round(TOP + SIDE - share(b.observed.low or lowest), 1),
            round(TOP + SIDE - share(b.observed.high or highest), 1),
        )
        for b in bins
    )
    ticks = tuple(
        (round(LEFT + share(t), 1), round(TOP + SIDE - share(t), 1), write(t))
        for t in TICKS
        if lowest <= t <= highest
    )
    return ReliabilityPlot(points, ticks, LEFT, LEFT + SIDE, TOP, TOP + SIDE)
