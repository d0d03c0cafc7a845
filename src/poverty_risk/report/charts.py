"""Bars and income history of page and cards, as lengths and places that templates draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poverty_risk.report.facts import AccountFact, ThemeFact

__all__ = ["Bar", "IncomeDrawing", "ThemeBars", "draw_bars", "draw_income", "draw_themes"]

SMALLEST_BAR = 0.0005
"""Probability points that would be written as 0.0 are named, not drawn."""

MOST_BARS = 8
"""Themes drawn on a card; a page has no room for more, and the others matter little."""

LEFT, WIDTH, TOP, HEIGHT = 50.0, 250.0, 4.0, 60.0
"""Where income bars stand in their drawing; beside and below is room for the numbers."""

WIDEST = 30.0


@dataclass(frozen=True)
class Bar:
    """One bar, in hundredths of the width.

    Parameters
    ----------
    label, text
        Its name and its number.
    kind
        How it looks: ``count``, ``first``, ``raises`` or ``lowers``.
    width, x
        Length, and where it begins.
    zero
        Where zero stands; None: on the left, not drawn.
    code
        What it counts, where that has a sign of its own.
    """

    label: str
    text: str
    kind: str
    width: float
    x: float = 0.0
    zero: float | None = None
    code: str = ""


def draw_bars(
    amounts: Mapping[str, float],
    write: Callable[[float], str],
    names: Mapping[str, str] | None = None,
    first: str | None = None,
) -> tuple[Bar, ...]:
    """Bars from zero, the longest over the whole width.

    Parameters
    ----------
    amounts
        Amounts by code, zero or more.
    write
        Puts an amount into words.
    names
        Names of codes, where they differ.
    first
        Code that stands out.

    Returns
    -------
    tuple of Bar
        In the order of the amounts.

    Examples
    --------
    >>> [bar.width for bar in draw_bars({"list": 8.0, "random": 2.0}, str)]
    [100.0, 25.0]
    """
    longest = max(amounts.values(), default=0.0) or 1.0
    return tuple(
        Bar(
            label=str((names or {}).get(code, code)),
            text=write(amount),
            kind="first" if code == first else "count",
            width=round(amount / longest * 100, 1),
            code=code,
        )
        for code, amount in amounts.items()
    )


@dataclass(frozen=True)
class ThemeBars:
    """Bars of themes to both sides of zero, and those that are told without a bar.

    Parameters
    ----------
    bars
        The largest themes.
    others
        Name and number of the next.
    small
        Names of those that would be written as 0.0.
    """

    bars: tuple[Bar, ...]
    others: tuple[tuple[str, str], ...]
    small: tuple[str, ...]


def draw_themes(themes: Sequence[ThemeFact], write: Callable[[float], str]) -> ThemeBars:
    """Bars of probability points around a common zero.

    Parameters
    ----------
    themes
        Themes of a card, the largest first.
    write
        Puts points into words.

    Returns
    -------
    ThemeBars
        In the order of the themes.

    Examples
    --------
    >>> themes = [ThemeFact("income", 0.03), ThemeFact("health", -0.01), ThemeFact("water", 0.0001)]
    >>> drawn = draw_themes(themes, str)
    >>> [(bar.kind, bar.x, bar.width) for bar in drawn.bars], drawn.small
    ([('raises', 25.0, 75.0), ('lowers', 0.0, 25.0)], ('water',))
    """
    told = [theme for theme in themes if abs(theme.points) >= SMALLEST_BAR]
    large, others = told[:MOST_BARS], told[MOST_BARS:]
    small = tuple(theme.label for theme in themes if 0 < abs(theme.points) < SMALLEST_BAR)
    highest = max([0.0, *(theme.points for theme in large)])
    lowest = min([0.0, *(theme.points for theme in large)])
    scale = 100.0 / ((highest - lowest) or 1.0)
    bars = tuple(
        Bar(
            label=theme.label,
            text=write(theme.points),
            kind="raises" if theme.points > 0 else "lowers",
            width=round(abs(theme.points) * scale, 1),
            x=round((min(theme.points, 0.0) - lowest) * scale, 1),
            zero=round(-lowest * scale, 1),
        )
        for theme in large
    )
    return ThemeBars(bars, tuple((theme.label, write(theme.points)) for theme in others), small)


@dataclass(frozen=True)
class IncomeBar:
    """One year's income and line: words, and places in units of the drawing."""

    year: int
    income: str
    line: str
    is_below: bool
    left: float
    slot: float
    middle: float
    x: float
    width: float
    y: float
    height: float
    line_y: float | None


@dataclass(frozen=True)
class IncomeDrawing:
    """Bars of the years, and where zero stands."""

    bars: tuple[IncomeBar, ...]
    zero: float


def draw_income(
    accounts: Sequence[AccountFact], write: Callable[[float | None], str]
) -> IncomeDrawing:
    """Income per person of each year against that year's line.

    Parameters
    ----------
    accounts
        Accounts of a card, oldest first.
    write
        Puts an amount into words; also one that is missing.

    Returns
    -------
    IncomeDrawing
        One bar per account; zero is always within the drawing.

    Examples
    --------
    >>> drawn = draw_income([AccountFact(2023, 5000.0, 7500.0), AccountFact(2024, 10000.0, 8000.0)], str)
    >>> [(bar.height, bar.is_below) for bar in drawn.bars], drawn.zero
    ([(30.0, True), (60.0, False)], 64.0)
    """
    amounts = [0.0, *_amounts(accounts)]
    highest, lowest = max(amounts), min(amounts)
    scale = HEIGHT / ((highest - lowest) or 1.0)
    slot = WIDTH / max(len(accounts), 1)
    width = min(slot * 0.55, WIDEST)

    def place(amount: float) -> float:
        return round(TOP + (highest - amount) * scale, 1)

    bars = []
    for at, one in enumerate(accounts):
        left = LEFT + at * slot
        top = place(max(one.income, 0.0))
        bars.append(
            IncomeBar(
                year=one.year,
                income=write(one.income),
                line=write(one.line),
                is_below=one.line is not None and one.income < one.line,
                left=round(left, 1),
                slot=round(slot, 1),
                middle=round(left + slot / 2, 1),
                x=round(left + (slot - width) / 2, 1),
                width=round(width, 1),
                y=top,
                height=round(place(min(one.income, 0.0)) - top, 1),
                line_y=None if one.line is None else place(one.line),
            )
        )
    return IncomeDrawing(tuple(bars), place(0.0))


def _amounts(accounts: Iterable[AccountFact]) -> Iterable[float]:
    for one in accounts:
        yield one.income
        if one.line is not None:
            yield one.line
