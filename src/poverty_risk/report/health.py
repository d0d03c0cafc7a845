"""Which texts may tell of somebody's health."""

from __future__ import annotations

import functools
import re

from poverty_risk.wording import LOCALES, load_locale

__all__ = ["tells_of_health"]


def tells_of_health(text: str) -> bool:
    """Whether a text may tell of illness, disability or injury; in doubt it does.

    Rules, policies and feature words can be edited by an office, so that no mark on them can be
    relied upon: the words themselves are looked at, in all languages.

    Examples
    --------
    >>> tells_of_health("new severe illness"), tells_of_health("microcredit overdue")
    (True, False)
    """
    return bool(_health_pattern().search(text))


@functools.cache
def _health_pattern() -> re.Pattern[str]:
    words = [word for locale in LOCALES for word in load_locale(locale)["workbook"]["health_words"]]
    # English words count from their beginning ("still" is no illness); Chinese ones anywhere.
    return re.compile(rf"(?<![A-Za-z])(?:{'|'.join(map(re.escape, words))})", re.IGNORECASE)
