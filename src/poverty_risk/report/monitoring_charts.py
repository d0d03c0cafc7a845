"""Time plots of a monitoring report, as places in units of the drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TimePlot", "TimePoint", "draw_over_time"]

LEFT, TOP, WIDTH, HEIGHT = 44.0, 12.0, 560.0, 170.0
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MOST_TICKS = 5


@dataclass(frozen=True)
class TimePoint:
    """A date with an estimate, what came true, and its interval; None where it is not known."""

    label: str
    estimated: float | None
    realised: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TimePlot:
    """Places of a time plot.

    Parameters
    ----------
    marks
        Of each date x, y estimated, y realised, y of both ends, and its label.
    estimated, realised
        Points of the two lines, as SVG writes them.
    ticks
        y and text of the vertical axis.
    left, right, top, bottom
        The frame.
    """

    marks: tuple[tuple[float, float | None, float | None, float | None, float | None, str], ...]
    estimated: str
    realised: str
    ticks: tuple[tuple[float, str], ...]
    left: float = LEFT
    right: float = LEFT + WIDTH
    top: float = TOP
    bottom: float = TOP + HEIGHT


def draw_over_time(points: Sequence[TimePoint]) -> TimePlot:
    """Place points side by side, one per date.

    Parameters
    ----------
    points
        At least one, with a number at least in one of them.

    Returns
    -------
    TimePlot
        The axis reaches from a round number below all to one above all.

    Examples
    --------
    >>> plot = draw_over_time([TimePoint("2023", 0.8, 0.7, 0.6, 0.8), TimePoint("2024", 0.7, None)])
    >>> [text for _, text in plot.ticks], plot.marks[0][2]
    (['0.6', '0.7', '0.8'], 97.0)
    """
    ends = [
        value
        for one in points
        for value in (one.estimated, one.realised, one.low, one.high)
        if value is not None
    ]
    lowest, highest = min(ends), max(ends)
    step = next((s for s in STEPS if (highest - lowest) / s <= MOST_TICKS - 1), STEPS[-1])
    first = math.floor(lowest / step + 1e-9)
    last = max(math.ceil(highest / step - 1e-9), first + 1)
    slot = WIDTH / len(points)

    def place(value: float | None) -> float | None:
        if value is None:
            return None
        return round(TOP + HEIGHT * (1 - (value / step - first) / (last - first)), 1)

    marks = tuple(
        (
            round(LEFT + (at + 0.5) * slot, 1),
            place(one.estimated),
            place(one.realised),
            place(one.low),
            place(one.high),
            one.label,
        )
        for at, one in enumerate(points)
    )
    return TimePlot(
        marks,
        " ".join(f"{x},{y}" for x, y, *_ in marks if y is not None),
        " ".join(f"{x},{y}" for x, _, y, *_ in marks if y is not None),
        tuple((float(place(k * step) or 0.0), f"{k * step:.3g}") for k in range(first, last + 1)),
    )
