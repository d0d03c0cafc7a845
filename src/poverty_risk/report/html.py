"""The page and the cards as HTML: facts laid out by templates, one file each, nothing from a network."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from poverty_risk.report.charts import (
    IncomeDrawing,
    ThemeBars,
    draw_bars,
    draw_income,
    draw_themes,
)
from poverty_risk.report.documents import read_source, render_template, write_document
from poverty_risk.report.facts import CardFacts, RunFacts, VisitFacts
from poverty_risk.report.price_rows import write_prices
from poverty_risk.wording import format_date, format_value, load_locale

__all__ = ["render_card", "render_page", "write_page"]

HEALTH_TYPES = ("illness", "disability")
"""Risk types that tell of somebody's health: lists offer them as one, so that neither can be told."""


def render_page(facts: VisitFacts) -> str:
    """Render the page of a visit round: summary, lists and all cards in one file.

    Parameters
    ----------
    facts
        What the reader's role may see (see `scope_to_role`).

    Returns
    -------
    str
        An HTML document in the language of the facts. It needs no network and no server; its policy
        forbids every request and every script but its own.

    Notes
    -----
    Lists show theme names alone, no value and no health detail; cards show all that the facts hold.
    Cards are in the document from the start, so that it can be read and printed without scripts.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import RunFacts, VisitFacts
    >>> ways = {"visit_list": 3.0, "rules_alone": 2.0, "at_random": 1.0, "best_possible": 3.0}
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures=ways | {"visits": 0.0, "share": 0.0},
    ... )  # fmt: skip
    >>> "Visit list: risk of returning to poverty" in render_page(VisitFacts(run, ()))
    True
    """
    layout = _Layout(facts.run)
    words, page = layout.words, layout.page
    ways = {way: facts.run.figures[way] for way in page["ways"]}
    context = {
        "facts": facts,
        "reserve": tuple(card for card in facts.cards if card.is_reserve),
        "places": _places(facts),
        "tiers": [tier for tier in words["tiers"] if any(c.tier == tier for c in facts.cards)],
        "kinds": _kinds(facts, layout),
        "way_bars": draw_bars(ways, layout.number, page["ways"], first="visit_list"),
        "tier_bars": draw_bars(facts.run.by_tier, layout.count, words["tiers"]),
        "place_bars": draw_bars(_count_places(facts), layout.count),
        "prices": write_prices(facts.run.quota_prices, page, layout.show),
        "data": {
            "rows": [_row(card, layout) for card in facts.cards],
            "tiers": list(words["tiers"]),
            "words": {
                "shown": page["tools"]["shown"],
                "position": page["dialog"]["position"],
            },
        },
    }
    return layout.render("page.html", ("card.css", "page.css"), ("first", "fit", "page"), context)


def render_card(card: CardFacts, run: RunFacts) -> str:
    """Render one household's card as a document of its own, to print on one A4 page.

    Parameters
    ----------
    card
        The household.
    run
        The round that it belongs to.

    Returns
    -------
    str
        An HTML document in the language of the run.

    Examples
    --------
    >>> import dataclasses
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import CardFacts, RunFacts
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures={},
    ... )  # fmt: skip
    >>> empty = dict.fromkeys((field.name for field in dataclasses.fields(CardFacts)), "")
    >>> known = {"order": 1, "household": "H0***23", "due_date": None, "confidence": "high"}
    >>> "Household visit card H0***23" in render_card(CardFacts(**empty | known), run)
    True
    """
    return _Layout(run).render("card.html", ("card.css",), ("fit",), {"card": card})


def write_page(facts: VisitFacts, path: str | Path) -> Path:
    """Write the page of a visit round, whole or not at all.

    Parameters
    ----------
    facts
        What the reader's role may see.
    path
        The file; an older one is replaced.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import RunFacts, VisitFacts
    >>> ways = {"visit_list": 3.0, "rules_alone": 2.0, "at_random": 1.0, "best_possible": 3.0}
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures=ways | {"visits": 0.0, "share": 0.0},
    ... )  # fmt: skip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(VisitFacts(run, ()), f"{folder}/page.html").name
    'page.html'
    """
    return write_document(render_page(facts), path, "page", private=True)


class _Layout:
    """What all templates of a run share: words, formats, styles, scripts and the policy."""

    def __init__(self, run: RunFacts) -> None:
        self.run, self.locale = run, run.locale
        self.words: Mapping[str, Any] = load_locale(run.locale)
        self.page: Mapping[str, Any] = self.words["page"]
        self.health = {self.words["risk_types"][kind] for kind in HEALTH_TYPES}

    def show(self, value: object, unit: str) -> str:
        """A value as readers of the language write it."""
        return format_value(value, unit, self.locale).replace("-", "−")

    def amount(self, value: float | None) -> str:
        """An amount without its unit, which a heading tells; a dash for a missing one."""
        return str(self.page["no_value"]) if value is None else self.show(round(value), "number")

    def number(self, value: float) -> str:
        """A number with one decimal at most."""
        return self.show(value, "number")

    def count(self, number: float) -> str:
        """Households."""
        return self.show(number, "households")

    def points(self, value: float) -> str:
        """Probability points with their sign."""
        return f"{value * 100:+.1f}".replace("-", "−")

    def place_of(self, card: CardFacts) -> str:
        """Township and village, as far as they are known."""
        known = [name for name in (card.township, card.village) if name]
        return " · ".join(known) or str(self.page["unknown_place"])

    def kinds_of(self, card: CardFacts) -> list[str]:
        """Risk types as lists may tell them."""
        merged = str(self.page["tools"]["health"])
        told = (merged if kind in self.health else kind for kind in card.risk_types)
        return list(dict.fromkeys(told))

    def render(
        self,
        template: str,
        styles: Iterable[str],
        scripts: Iterable[str],
        context: Mapping[str, object],
    ) -> str:
        """Fill a template."""
        sources = {name: read_source(f"{name}.js") for name in scripts}
        hashes = " ".join(_hash_of(source) for source in sources.values())
        functions: dict[str, Callable[..., object]] = {
            "show": self.show,
            "day": lambda date: format_date(date, self.locale),
            "place_of": self.place_of,
            "theme_bars": self.theme_bars,
            "income_drawing": self.income_drawing,
        }
        return render_template(
            template,
            {
                "run": self.run,
                "words": self.words,
                "page": self.page,
                "style": Markup("\n").join(read_source(name) for name in styles),
                "scripts": sources,
                # Styles may stand in the guide; they cannot fetch anything either.
                "policy": f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
                "img-src data:; base-uri 'none'; form-action 'none'",
                **functions,
                **context,
            },
        )

    def theme_bars(self, card: CardFacts) -> ThemeBars:
        """Bars of the themes of a card."""
        return draw_themes(card.themes, self.points)

    def income_drawing(self, card: CardFacts) -> IncomeDrawing:
        """Income history of a card, whole yuan."""
        return draw_income(card.accounts, self.amount)


def _hash_of(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _count_places(facts: VisitFacts) -> dict[str, int]:
    """Visits by township, or by village where all are in one township."""
    level = "township" if len(facts.townships) > 1 else "village"
    counts = Counter(getattr(card, level) for card in facts.visits)
    unknown = load_locale(facts.run.locale)["page"]["unknown_place"]
    return {name or unknown: counts[name] for name in sorted(counts)}


def _places(facts: VisitFacts) -> list[tuple[str, list[str]]]:
    """Townships with their villages."""
    pairs = sorted({(card.township, card.village) for card in facts.cards})
    groups = itertools.groupby(pairs, key=lambda pair: pair[0])
    return [(township, [village for _, village in villages]) for township, villages in groups]


def _kinds(facts: VisitFacts, layout: _Layout) -> list[str]:
    """Risk types to filter by, the most frequent first."""
    counts = Counter(kind for card in facts.cards for kind in layout.kinds_of(card))
    return [kind for kind, _ in counts.most_common()]


def _row(card: CardFacts, layout: _Layout) -> dict[str, object]:
    """What search, filters and sorting read; nothing that the list does not show."""
    searched = (
        str(card.order),
        card.household,
        card.pseudonym,
        card.township,
        card.village,
        card.tier_label,
        layout.page["why"][card.why],
        *card.list_themes,
    )
    return {
        "order": card.order,
        "household": card.household,
        "township": card.township,
        "village": card.village,
        "tier": card.tier,
        "risk": card.risk,
        "due": None if card.due_date is None else str(card.due_date.date()),
        "reserve": card.is_reserve,
        "kinds": layout.kinds_of(card),
        "searched": " ".join(searched),
    }
