"""How tall a row must be for its texts: not every program adjusts rows when it opens a file."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["estimate_height"]

PIXELS_PER_UNIT = 7.0
"""A column width of 1 is one digit of the default font (Calibri 11)."""

LEADING = 1.33
PADDING = 3.0
TALLEST = 409.0
"""What a row may have, in points."""


def estimate_height(cells: Iterable[tuple[str, float]], font_size: float) -> float:
    r"""Height in points of a row of wrapped cells, rather too tall than too low.

    Parameters
    ----------
    cells
        Text and column width of each cell.
    font_size
        In points.

    Returns
    -------
    float
        Points; at most what a row may have.

    Examples
    --------
    >>> estimate_height([("short", 20)], 10), estimate_height([("two\nlines", 20)], 10)
    (16.3, 29.6)
    """
    lines = max((_count_lines(text, width, font_size) for text, width in cells), default=1)
    return min(lines * font_size * LEADING + PADDING, TALLEST)


def _count_lines(text: str, width: float, font_size: float) -> int:
    room = width * PIXELS_PER_UNIT - 4
    em = font_size * 96 / 72
    return sum(_wrap(paragraph, room, em) for paragraph in text.split("\n"))


def _wrap(paragraph: str, room: float, em: float) -> int:
    lines, used = 1, 0.0
    for word in _pieces(paragraph):
        length = sum(_advance(character) for character in word) * em
        if used and used + length > room:
            lines, used = lines + 1, 0.0
        # A word longer than the line is broken wherever the line ends.
        lines += int(length // room) if length > room else 0
        used += length % room if length > room else length
    return lines


def _pieces(paragraph: str) -> Iterable[str]:
    """Where a line may break: after a blank, and before and after every wide character."""
    word = ""
    for character in paragraph:
        if _advance(character) == 1.0:
            if word:
                yield word
            yield character
            word = ""
        else:
            word += character
            if character == " ":
                yield word
                word = ""
    if word:
        yield word


def _advance(character: str) -> float:
    """Width in ems: a full one for East Asian characters, about half a one for all others."""
    return 1.0 if unicodedata.east_asian_width(character) in "WFA" else 0.5
