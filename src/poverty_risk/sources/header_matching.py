"""Headers of files against the headers that a mapping declares."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from poverty_risk.sources.words import normalise_text

__all__ = ["PlainHeader", "assign_headers", "plain_header"]

_BRACKETS = re.compile(
    "[([\\u3010\\u3014<]([^()\\[\\]\\u3010\\u3011\\u3014\\u3015<>]*)[)\\]\\u3011\\u3015>]"
)
_MARKS = ' \t*:\u2022\u25cf\u3001."'
_LEVELS = re.compile(r"[\s/\\|_>\u2014-]+")
"""What may stand between the rows of a header that was written over several rows."""


@dataclass(frozen=True)
class PlainHeader:
    """A header without what differs from file to file.

    Parameters
    ----------
    text
        The words alone, in small letters: no blanks, marks, or brackets.
    brackets
        What stood in brackets, often a unit.
    levels
        The words of each row of a header of several rows; one for a plain header.
    """

    text: str
    brackets: str
    levels: tuple[str, ...]


@functools.lru_cache(4096)
def plain_header(header: str) -> PlainHeader:
    r"""Take a header apart.

    Parameters
    ----------
    header
        As the file has it.

    Returns
    -------
    PlainHeader
        Words, brackets and levels.

    Examples
    --------
    >>> plain_header(" * Wage \uff08yuan\uff09").text, plain_header("Wage(yuan)").brackets
    ('wage', 'yuan')
    """
    plain = normalise_text(header).casefold()
    brackets = " ".join(_BRACKETS.findall(plain)).strip()
    # A header that is nothing but brackets is called what stands in them.
    bare = _BRACKETS.sub("", plain).strip(_MARKS) or plain
    levels = tuple(level.strip(_MARKS) for level in _LEVELS.split(bare))
    levels = tuple(level for level in levels if level)
    return PlainHeader("".join(levels), brackets, levels)


def assign_headers(headers: Sequence[str], aliases: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Which header of a sheet holds which field.

    Parameters
    ----------
    headers
        Headers of the sheet.
    aliases
        What each field is called in files, the most usual first.

    Returns
    -------
    dict
        Header by field; fields that the sheet does not have are left out. Of several headers for one
        field the one that is declared first is taken.

    Examples
    --------
    >>> assign_headers(["Town", "No."], {"township": ["township", "town"]})
    {'township': 'Town'}
    """
    declared = {
        plain_header(alias).text: (field, rank)
        for field, names in aliases.items()
        for rank, alias in enumerate(names)
    }
    plain = {header: plain_header(header) for header in headers}
    found: dict[str, tuple[int, str]] = {}
    for header, parts in plain.items():
        _note(found, declared.get(parts.text), header)
    # The last row of a header of several rows, where it alone says what it is.
    last = [parts.levels[-1] for parts in plain.values() if parts.levels]
    for header, parts in plain.items():
        if (
            len(parts.levels) > 1
            and parts.text not in declared
            and last.count(parts.levels[-1]) == 1
        ):
            match = declared.get(parts.levels[-1])
            if match is not None and match[0] not in found:
                _note(found, match, header)
    return {field: found[field][1] for field in aliases if field in found}


def _note(found: dict[str, tuple[int, str]], match: tuple[str, int] | None, header: str) -> None:
    if match is None:
        return
    field, rank = match
    if field not in found or rank < found[field][0]:
        found[field] = (rank, header)
