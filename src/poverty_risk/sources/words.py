"""Words and marks that cells of county files use whatever their kind, read from YAML."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

from pydantic import Field

from poverty_risk.declarations import Declared, read_declaration

__all__ = ["SourceWords", "load_source_words", "normalise_text"]

_PATH = Path(__file__).parent / "mappings" / "words.yaml"
_INVISIBLE = dict.fromkeys([0xFEFF, 0x200B, 0x200C, 0x200D, 0x2060])
"""Byte order marks and joiners that came along with copied text."""


class SourceWords(Declared):
    """The words of ``mappings/words.yaml``, as declared there.

    Parameters
    ----------
    yes, no
        Answers to a question, and marks that stand for one.
    blank
        What is written where nothing is told.
    open_ended
        What is written for an end that lies open.
    units
        Factors by unit written behind a number.
    currencies
        Signs before a number.
    year, month, day
        What stands behind the parts of a date.
    separators
        What stands between several codes of a cell.
    totals, notes, page
        How rows begin that are no records, and what stands beside the number of a page.
    """

    yes: tuple[str, ...]
    no: tuple[str, ...]
    blank: tuple[str, ...]
    open_ended: tuple[str, ...]
    units: dict[str, float]
    currencies: tuple[str, ...]
    year: tuple[str, ...]
    month: tuple[str, ...]
    day: tuple[str, ...]
    separators: tuple[str, ...] = Field(min_length=1)
    totals: tuple[str, ...]
    notes: tuple[str, ...]
    page: tuple[str, ...]


@functools.cache
def load_source_words() -> SourceWords:
    """The words and marks of county files.

    Returns
    -------
    SourceWords
        Read once; all words as `normalise_text` leaves them, in small letters.

    Examples
    --------
    >>> load_source_words().units["km"]
    1.0
    """
    declared = read_declaration(SourceWords, _PATH)
    plain: dict[str, object] = {}
    for name, words in declared:
        if isinstance(words, dict):
            plain[name] = {_fold(word): factor for word, factor in words.items()}
        else:
            plain[name] = tuple(dict.fromkeys(_fold(word) for word in words))
    return SourceWords.model_validate(plain)


def _fold(word: str) -> str:
    # A blank is itself a separator of codes.
    return normalise_text(word).casefold() or word


def normalise_text(text: str) -> str:
    r"""Text with plain digits and signs instead of full-width ones, no blanks around, none doubled.

    Examples
    --------
    >>> normalise_text("\u3000\uff12\uff10\uff12\uff11  A ")
    '2021 A'
    """
    plain = unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    return re.sub(r"\s+", " ", plain).strip()
