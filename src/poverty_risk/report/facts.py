"""Facts of a visit round: what workbook, page and cards show. Templates only lay them out.

Facts carry no name and no real household id: a household is its masked id and its keyed pseudonym.
Texts are already in the language of the run. What tells of somebody's health is marked, so that a list
never shows it and a card shows it to those roles that may see it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.report.health import tells_of_health

__all__ = [
    "ROLES",
    "AccountFact",
    "CardFacts",
    "MeasureOption",
    "ReasonFact",
    "RunFacts",
    "ThemeFact",
    "VisitFacts",
    "scope_to_role",
]

ROLES = ("county", "township", "village")
"""Who reads: a county sees all; a township and a village see their own; a village no health detail."""


@dataclass(frozen=True)
class ReasonFact:
    """One reason of a card.

    Parameters
    ----------
    theme, theme_label
        Theme of the catalogue, and its name.
    text
        The sentence with its comparators, without "associated with": the heading says that.
    source
        Where it stands and since when the office knows it.
    risk_type
        Name of the official risk type.
    points
        Probability points of the theme (``0.031`` is 3.1 points); negative when it lowers the risk.
    is_gap
        Whether it is a data gap.
    is_health
        Whether it tells of somebody's health.
    """

    theme: str
    theme_label: str
    text: str
    source: str
    risk_type: str
    points: float
    is_gap: bool = False
    is_health: bool = False


@dataclass(frozen=True)
class ThemeFact:
    """One bar of the chart of themes: its name and its probability points."""

    label: str
    points: float
    is_health: bool = False


@dataclass(frozen=True)
class AccountFact:
    """One account of the income history: its year, income per person and line in yuan."""

    year: int
    income: float
    line: float | None


@dataclass(frozen=True)
class MeasureOption:
    """An option of the policy table: not output of the model."""

    risk_type: str
    text: str
    department: str


@dataclass(frozen=True)
class CardFacts:
    """What one household's card shows.

    Parameters
    ----------
    order
        Place on the visit list, from 1; on the reserve list it goes on counting.
    pseudonym, household
        Keyed hash and masked id.
    township, village
        As the archive names them.
    is_reserve
        Whether the household stands on the reserve list.
    why, why_text
        ``rule``, ``risk``, ``minimum`` or ``random``, and the sentence for it.
    rules
        What the office's rules say, strongest first.
    tier, tier_label
        Code (red, orange, yellow, green) and name.
    due_date
        Day by which the visit should have taken place.
    risk
        Calibrated probability; missing when the household is visited without one.
    risk_text
        "About x of 100 such households (rough range: y to z) ..."; empty without a risk.
    rank_text
        Rank within village and township.
    reasons, lowering
        At most four and two.
    left_out_text
        How many reasons were not told because they do not hold over resampled villages; or empty.
    themes
        All themes with their probability points, largest first.
    accounts
        Income history, oldest first.
    changes
        What changed since the last round, as sentences.
    alternatives
        What the model would say if things that can change were otherwise.
    similar
        What became of similar earlier households; or empty.
    checks
        What to verify at the door, with the department that holds the proof.
    options
        Options by risk type.
    data_gaps
        What to ask for.
    confidence, confidence_text
        ``high``, ``medium`` or ``low``, and why.
    unlike_text
        What sets the household apart from all that the model learned from; or empty.
    unlike_is_health
        Whether that tells of somebody's health.
    risk_types
        Names of official risk types, main one first.
    """

    order: int
    pseudonym: str
    household: str
    township: str
    village: str
    is_reserve: bool
    why: str
    why_text: str
    rules: tuple[str, ...]
    tier: str
    tier_label: str
    due_date: pd.Timestamp | None
    risk: float | None
    risk_text: str
    rank_text: str
    reasons: tuple[ReasonFact, ...]
    lowering: tuple[ReasonFact, ...]
    left_out_text: str
    themes: tuple[ThemeFact, ...]
    accounts: tuple[AccountFact, ...]
    changes: tuple[str, ...]
    alternatives: tuple[str, ...]
    similar: str
    checks: tuple[str, ...]
    options: tuple[MeasureOption, ...]
    data_gaps: tuple[str, ...]
    confidence: str
    confidence_text: str
    unlike_text: str
    unlike_is_health: bool
    risk_types: tuple[str, ...]

    @property
    def list_themes(self) -> tuple[str, ...]:
        """Names of the raising themes for list views: no value, and nothing about health."""
        told = [reason.theme_label for reason in self.reasons if not reason.is_health]
        return tuple(dict.fromkeys(told))


@dataclass(frozen=True)
class RunFacts:
    """What is true of the whole round.

    Parameters
    ----------
    locale
        Language of all texts.
    as_of_date
        Day on which the horizon begins.
    horizon_text, outcome
        Horizon in words; name of the outcome.
    model_id, run_id, snapshot
        Model, MLflow run (or empty), fingerprint of the history.
    scored
        Households with a risk.
    not_scored
        Households without one by status, names in the language; small counts are missing.
    figures
        Expected returns reached and their comparisons, by name (see `VisitList.summary`).
    quota_prices
        Rows of name, limit and expected returns missed.
    by_tier
        Visits by tier code.
    left_out
        Households not considered, by reason; small counts are missing.
    waiting
        Households for which no visit is left although a ``rule`` or the ``model`` calls them red.
    simulated
        Whether the county is made up.
    policies
        Name of the policy table that options come from; the shipped one says that it is an example.
    role, place
        Whom it is for; name of the township or village, or empty for the county.
    """

    locale: str
    as_of_date: pd.Timestamp
    horizon_text: str
    outcome: str
    model_id: str
    run_id: str
    snapshot: str
    scored: int
    not_scored: Mapping[str, float | None]
    figures: Mapping[str, float]
    quota_prices: tuple[Mapping[str, object], ...] = ()
    by_tier: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, float | None] = field(default_factory=dict)
    policies: str = ""
    waiting: Mapping[str, float | None] = field(default_factory=dict)
    simulated: bool = False
    role: str = "county"
    place: str = ""


@dataclass(frozen=True)
class VisitFacts:
    """A visit round: its run and its cards, visits in order, then the reserve."""

    run: RunFacts
    cards: tuple[CardFacts, ...]

    @property
    def visits(self) -> tuple[CardFacts, ...]:
        """Cards of the visit list."""
        return tuple(card for card in self.cards if not card.is_reserve)

    @property
    def townships(self) -> tuple[str, ...]:
        """Townships in the order of their names."""
        return tuple(sorted({card.township for card in self.cards}))

    @property
    def villages(self) -> tuple[str, ...]:
        """Villages in the order of their names."""
        return tuple(sorted({card.village for card in self.cards}))


def scope_to_role(
    facts: VisitFacts, role: str, place: str = "", *, hidden_text: str = ""
) -> VisitFacts:
    """What a role may see: its own place; for a village no health detail.

    Parameters
    ----------
    facts
        All of the county.
    role
        One of `ROLES`.
    place
        Township or village that the role belongs to.
    hidden_text
        Stands on every card of a village: what is not on it, the township verifies.

    Returns
    -------
    VisitFacts
        The same facts, fewer.

    Raises
    ------
    DeclarationError
        No such role, or no household of the round in that place.
    """
    places = {"county": ("",), "township": facts.townships, "village": facts.villages}
    if place not in places.get(role, ()):
        known = ", ".join(places.get(role, ())[:10]) or "no place, for the county"
        raise DeclarationError(
            Fault(
                "role",
                f"role '{role}' of place '{place}'",
                f"one of {', '.join(ROLES)}, and a place on the list ({known})",
                "Correct the role or the place.",
            )
        )
    cards = facts.cards
    if role != "county":
        cards = tuple(card for card in cards if getattr(card, role) == place)
        _check_one_place(cards, place)
    if role == "village":
        cards = tuple(_without_health(card, hidden_text) for card in cards)
    by_tier = {
        tier: sum(card.tier == tier for card in cards if not card.is_reserve)
        for tier in facts.run.by_tier
    }
    # Prices of other villages and townships are theirs.
    prices = facts.run.quota_prices
    if role != "county":
        prices = tuple(row for row in prices if row["level"] == "county")
    run = dataclasses.replace(
        facts.run, role=role, place=place, by_tier=by_tier, quota_prices=prices
    )
    return VisitFacts(run, cards)


def _check_one_place(cards: tuple[CardFacts, ...], place: str) -> None:
    """Villages of two townships may have one name: nobody must see the other's households."""
    townships = sorted({card.township for card in cards})
    if len(townships) > 1:
        raise DeclarationError(
            Fault(
                "place",
                f"'{place}' in {len(townships)} townships ({', '.join(townships[:5])})",
                "a village of one township",
                "Give villages ids that are unique in the county.",
            )
        )


def _without_health(card: CardFacts, hidden_text: str) -> CardFacts:
    """A card without anything that may tell of somebody's health, in all its parts."""

    def keep(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in texts if not tells_of_health(text))

    def hide(reasons: tuple[ReasonFact, ...]) -> tuple[ReasonFact, ...]:
        # Silently: a gap with a label would tell as much as the sentence.
        return tuple(r for r in reasons if not (r.is_health or tells_of_health(r.text)))

    hides_unlike = card.unlike_is_health or tells_of_health(card.unlike_text)
    return dataclasses.replace(
        card,
        reasons=hide(card.reasons),
        lowering=hide(card.lowering),
        # The same line on every card of the village, whatever is left out on it.
        left_out_text=hidden_text,
        themes=tuple(theme for theme in card.themes if not theme.is_health),
        rules=keep(card.rules),
        checks=keep(card.checks),
        data_gaps=keep(card.data_gaps),
        changes=keep(card.changes),
        alternatives=keep(card.alternatives),
        risk_types=keep(card.risk_types),
        similar="" if tells_of_health(card.similar) else card.similar,
        unlike_text="" if hides_unlike else card.unlike_text,
        options=tuple(o for o in card.options if not tells_of_health(f"{o.risk_type}{o.text}")),
    )
