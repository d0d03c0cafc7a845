"""One household in one row of a list: short texts, and nothing that tells of somebody's health."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from poverty_risk.report.facts import CardFacts
from poverty_risk.report.health import tells_of_health
from poverty_risk.report.sheets import clean_text
from poverty_risk.wording import load_locale, round_size

__all__ = ["build_list_cells"]

MOST_RULES, MOST_CHECKS, MOST_GAPS = 3, 3, 3
"""More would make rows too tall; that there is more also stands where nothing is about health."""

RARE = 0.02
"""Below this risk, counts of 100 households are too coarse; as on the card."""


def build_list_cells(card: CardFacts, locale: str) -> dict[str, str]:
    """Texts of the locked columns of one household.

    Parameters
    ----------
    card
        The household.
    locale
        Language of the facts.

    Returns
    -------
    dict
        One text per locked column; ``order`` is a number as text.
    """
    words = load_locale(locale)
    texts, line = words["workbook"], "\n"
    more = str(texts["see_card"])
    checks = [_without_departments(check, locale) for check in card.checks]
    cells = {
        "order": str(card.order),
        "standing": texts["standing"]["reserve" if card.is_reserve else "visit"],
        "pseudonym": card.pseudonym,
        "household": card.household,
        "village": card.village or words["page"]["unknown_place"],
        "tier": f"{texts['shapes'].get(card.tier, '')} {card.tier_label}".strip(),
        "due": "" if card.due_date is None else str(card.due_date.date()),
        "risk": _tell_risk(card.risk, texts["risk"]),
        "why": words["page"]["why"].get(card.why, card.why),
        "rules": line.join(_tell(card.rules, MOST_RULES, more)),
        "themes": str(words["list_separator"]).join(card.list_themes),
        "verify": line.join(_tell(checks, MOST_CHECKS, more, mark="□ ")),
        "gaps": line.join(_tell(card.data_gaps, MOST_GAPS, more)),
    }
    return {name: clean_text(str(text)) for name, text in cells.items()}


def _tell(texts: Iterable[str], most: int, more: str, mark: str = "") -> list[str]:
    """The first texts without those on health, of which not even the absence is told."""
    told = [text for text in texts if not tells_of_health(text)]
    return [mark + text for text in told[:most]] + [more] * (len(told) > most)


def _tell_risk(risk: float | None, texts: Mapping[str, str]) -> str:
    if risk is None:
        return texts["none"]
    name, base = ("of_hundred", 100) if risk >= RARE else ("of_thousand", 1000)
    return texts[name].format(count=max(int(round_size(risk * base)), 1))


def _without_departments(check: str, locale: str) -> str:
    found = _check_pattern(locale).fullmatch(check)
    return found["check"] if found else check


@functools.cache
def _check_pattern(locale: str) -> re.Pattern[str]:
    """How a check and those who hold the proof are joined; the list has room for the check alone."""
    words: Mapping[str, Any] = load_locale(locale)
    proof = words["reasons"]["proof"].format(departments="DEPARTMENTS")
    joined = re.escape(words["card_texts"]["check"].format(check="CHECK", proof=proof))
    pattern = joined.replace("CHECK", "(?P<check>.*)").replace("DEPARTMENTS", ".*")
    return re.compile(pattern, re.DOTALL)
