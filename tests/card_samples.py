"""Made-up facts of a visit round, small and known by heart; their texts stand in card_samples.yaml."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from poverty_risk.report.facts import (
    AccountFact,
    CardFacts,
    MeasureOption,
    ReasonFact,
    RunFacts,
    ThemeFact,
    VisitFacts,
)
from poverty_risk.report.html import render_card
from poverty_risk.wording import load_locale

AS_OF = pd.Timestamp("2024-01-01")
GOLDEN = Path(__file__).parent / "golden"

TEXTS = yaml.safe_load((Path(__file__).parent / "card_samples.yaml").read_text(encoding="utf-8"))

POINTS = {
    "income": 0.08, "health": 0.04, "data_gap": 0.02, "village": -0.01, "employment": 0.009,
    "visits": 0.007, "industry": -0.006, "education": 0.005, "housing": -0.003, "water": 0.0001,
}  # fmt: skip
"""Nine themes are told, eight of them as bars; the tenth would be written as 0.0."""

TIERS = ("red", "orange", "yellow", "green")


def make_run(locale: str = "en", **changes: Any) -> RunFacts:
    """A county's round: 20 visits; by hand, 8 of the 10 returns that could be reached."""
    texts, words = TEXTS[locale], load_locale(locale)
    run = RunFacts(
        locale=locale,
        as_of_date=AS_OF,
        horizon_text=texts["horizon"],
        outcome=texts["outcome"],
        model_id="m-20231201",
        run_id="9f3a61c2",
        snapshot="ee02a0ee1133",
        policies={"zh": "商洛政策库2024", "en": "Shangluo policies 2024"}[locale],
        scored=1397,
        not_scored={words["status"]["not_in_cohort"]: 84.0, words["status"]["error"]: None},
        figures={
            "visit_list": 8.0, "rules_alone": 5.0, "at_random": 2.0, "best_possible": 10.0,
            "visits": 20.0, "share": 0.126,
        },
        quota_prices=(
            _price("capacity", "township_id", None, None, 2.5, 3.0),
            _price("capacity", "township_id", "T1", 12.0, 1.2, 0.0),
            _price("capacity", "county", None, 20.0, 1.1, 0.0),
            _price("random_share", "county", None, 0.05, 0.4, 1.0),
            _price("rules_first", "county", None, None, 0.0, -6.0),
            _price("cool_down", "county", None, 90.0, 0.06, 0.0),
            _price("minimum", "village_id", "V1", 1.0, 0.04, 0.0),
        ),
        by_tier={"red": 9, "orange": 6, "yellow": 4, "green": 1},
        left_out={words["card_texts"]["left_out"]["cooled_down"]: 17.0},
    )  # fmt: skip
    return dataclasses.replace(run, **changes)


def _price(
    constraint: str, level: str, group: str | None, bound: float | None, price: float, hits: float
) -> dict[str, object]:
    missing = float("nan")  # as pandas tells a missing value
    return {
        "constraint": constraint,
        "level": level,
        "group": missing if group is None else group,
        "bound": missing if bound is None else bound,
        "visits": 20,
        "price": price,
        "rule_hits": hits,
    }


def make_card(locale: str = "en", **changes: Any) -> CardFacts:
    """A household with everything that a card can show: a rule hit, illness, a data gap."""
    texts, words = TEXTS[locale], load_locale(locale)
    kinds = tuple(words["risk_types"][kind] for kind in ("illness", "other"))
    card = CardFacts(
        order=1,
        pseudonym="5c1b37a08303fc7ebd80",
        household="H0***70",
        township=texts["township"],
        village=texts["villages"][0],
        is_reserve=False,
        why="rule",
        why_text=words["card_texts"]["why"]["rule"],
        rules=(texts["rule"],),
        tier="orange",
        tier_label=words["tiers"]["orange"],
        due_date=pd.Timestamp("2024-01-11"),
        risk=0.23,
        risk_text=texts["risk_text"],
        rank_text=texts["rank_text"],
        reasons=(
            _reason(locale, "income", "other"),
            _reason(locale, "health", "illness", is_health=True),
            _reason(locale, "data_gap", "other", text="gap", is_gap=True),
        ),
        lowering=(_reason(locale, "village", "other"),),
        left_out_text=texts["left_out"],
        themes=tuple(
            ThemeFact(words["themes"][theme], points, theme == "health")
            for theme, points in POINTS.items()
        ),
        accounts=(
            AccountFact(2021, -1000.0, 6000.0),
            AccountFact(2022, 9000.0, None),
            AccountFact(2023, 4819.4, 7500.0),
        ),
        changes=tuple(texts["changes"]),
        alternatives=tuple(texts["alternatives"]),
        similar=texts["similar"],
        checks=(texts["check"],),
        options=(MeasureOption(kinds[0], texts["option"], texts["department"]),),
        data_gaps=(texts["data_gap"],),
        confidence="low",
        confidence_text=words["confidence_notes"]["low"],
        unlike_text=texts["unlike"],
        unlike_is_health=False,
        risk_types=kinds,
    )
    return dataclasses.replace(card, **changes)


def _reason(
    locale: str,
    theme: str,
    risk_type: str,
    text: str | None = None,
    *,
    is_gap: bool = False,
    is_health: bool = False,
) -> ReasonFact:
    texts, words = TEXTS[locale][text or theme], load_locale(locale)
    return ReasonFact(
        theme=theme,
        theme_label=words["themes"][theme],
        text=texts["text"],
        source=texts["source"],
        risk_type=words["risk_types"][risk_type],
        points=POINTS[theme],
        is_gap=is_gap,
        is_health=is_health,
    )


def make_bare_card(locale: str = "en", **changes: Any) -> CardFacts:
    """A household visited by a rule alone: no risk, hence nothing that a model tells."""
    nothing = dict.fromkeys(
        ("reasons", "lowering", "themes", "accounts", "changes", "alternatives", "checks",
         "options", "data_gaps", "risk_types"), (),
    )  # fmt: skip
    blank = dict.fromkeys(("risk_text", "rank_text", "left_out_text", "similar", "unlike_text"), "")
    return make_card(locale, risk=None, due_date=None, **(nothing | blank | changes))


def make_facts(locale: str = "en", households: int = 12, **changes: Any) -> VisitFacts:
    """A round of several households; the last quarter is the reserve.

    Household number n (from 1) is in village (n - 1) mod 3, has tier (n - 1) mod 4, the risk
    1 / (n + 1), and as risk type illness when n is even and failure of a project when it is odd.
    """
    words, villages = load_locale(locale), TEXTS[locale]["villages"]
    cards = []
    for order in range(1, households + 1):
        tier = TIERS[(order - 1) % 4]
        reserve = order > households * 3 // 4
        kind = "illness" if order % 2 == 0 else "industry_failure"
        cards.append(
            make_card(
                locale,
                order=order,
                pseudonym=f"{order:020x}",
                household=f"H0***{order:02d}",
                village=villages[(order - 1) % 3],
                tier=tier,
                tier_label=words["tiers"][tier],
                is_reserve=reserve,
                due_date=None if reserve else AS_OF + pd.Timedelta(days=5 * (order % 3 + 1)),
                risk=1 / (order + 1),
                risk_types=(words["risk_types"][kind],),
                **changes,
            )
        )
    return VisitFacts(make_run(locale), tuple(cards))


def golden_card(locale: str) -> str:
    """What the golden file of a language holds: the body of the sample card, without its styles."""
    html = render_card(make_card(locale), make_run(locale))
    return html[html.index("<main") : html.index("</main>")] + "</main>\n"
