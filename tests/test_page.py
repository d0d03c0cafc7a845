"""What page and cards hold: every fact, escaped, and no health detail in lists."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import pytest

from card_samples import (
    GOLDEN,
    POINTS,
    TEXTS,
    golden_card,
    make_bare_card,
    make_card,
    make_facts,
    make_run,
)
from page_reader import Element, read_html
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.report.charts import draw_bars, draw_income, draw_themes
from poverty_risk.report.facts import AccountFact, ThemeFact, VisitFacts, scope_to_role
from poverty_risk.report.html import render_card, render_page, write_page
from poverty_risk.wording import LOCALES, load_locale

NASTY = '</script><img src=x onerror="window.hacked=1"> <!-- \'&amp; {{ 7*7 }} \u2028'


def page_of(facts: VisitFacts) -> Element:
    return read_html(render_page(facts))


def data_of(page: Element) -> dict[str, Any]:
    data: dict[str, Any] = json.loads("".join(map(str, page.one("script", id="data").content)))
    return data


def texts_of(fact: Any) -> Iterator[str]:
    """Every text of a fact, those of the facts inside it too."""
    if isinstance(fact, str):
        yield fact
    elif isinstance(fact, tuple):
        for one in fact:
            yield from texts_of(one)
    elif dataclasses.is_dataclass(fact):
        for field in dataclasses.fields(fact):
            yield from texts_of(getattr(fact, field.name))


# Cards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
def test_a_card_shows_every_text_of_its_facts(locale: str) -> None:
    card, run = make_card(locale), make_run(locale)
    shown = read_html(render_card(card, run)).one("article").text
    # Codes stand behind names: they are told by why_text, tier_label, theme_label and the badge.
    codes = {"rule", "orange", "low", *POINTS}
    told = set(texts_of(card)) - codes - {""}
    assert len(told) > 30
    assert {text for text in told if text not in shown} == set()
    for text in (run.model_id, run.run_id, run.snapshot, run.horizon_text, run.outcome):
        assert text in shown
    assert load_locale(locale)["notice"] in shown


def test_a_card_shows_numbers_and_dates_as_they_are_written() -> None:
    card = read_html(render_card(make_card("en"), make_run("en"))).one("article")
    assert "As of 1 January 2024" in card.text
    assert "visit by 11 January 2024" in card.text
    bars = card.one("table", class_="bars")
    points = {row.one("th").text: row.all("td")[1].text for row in bars.all("tr")}
    # The eight largest, in per cent with a true minus; the ninth by its number, the tenth by name.
    words = load_locale("en")["themes"]
    assert points == {
        words["income"]: "+8.0", words["health"]: "+4.0", words["data_gap"]: "+2.0",
        words["village"]: "−1.0", words["employment"]: "+0.9", words["visits"]: "+0.7",
        words["industry"]: "−0.6", words["education"]: "+0.5",
    }  # fmt: skip
    assert f"Others: {words['housing']} −0.3" in card.text
    assert f"Less than 0.1 points: {words['water']}" in card.text
    income = card.one("svg", class_="income")
    assert [text.text for text in income.all("text")] == [
        "2021", "−1,000", "6,000", "2022", "9,000", "–", "2023", "4,819", "7,500", "Income", "Line",
    ]  # fmt: skip
    assert "2023: 4,819, line 7,500" in income["aria-label"]


@pytest.mark.parametrize("locale", LOCALES)
def test_a_card_is_told_apart_without_colour(locale: str) -> None:
    letters = set()
    for tier in ("red", "orange", "yellow", "green"):
        card = make_card(locale, tier=tier, tier_label=f"({tier})")
        document = read_html(render_card(card, make_run(locale)))
        band = document.one("article").one("p", class_="tiername")
        assert band.text == f"({tier})"
        symbol = document.one("symbol", id=band.one("use")["href"].removeprefix("#"))
        shape = next(one for one in symbol.walk() if one.tag in ("polygon", "circle", "rect"))
        letters.add((symbol.one("text").text, shape.attributes.get("points", shape.tag)))
    assert len({letter for letter, _ in letters}) == 4
    assert len({shape for _, shape in letters}) == 4


def test_a_card_without_a_risk_says_so_and_leaves_no_empty_section() -> None:
    card = read_html(render_card(make_bare_card("en", is_reserve=True), make_run("en"))).one(
        "article"
    )
    assert "no risk from the model" in card.text.lower()
    assert "Reserve (no. 1)" in card.text
    assert "visit by" not in card.text
    headings = [heading.text for heading in card.all("h3")]
    assert headings == [
        "Associated with a higher risk",
        "Associated with a lower risk",
        "What to verify at the door",
        "Visit record (by hand)",
    ]
    assert card.text.count("nothing that stands out") == 2


def test_a_card_has_fields_for_what_the_visit_finds() -> None:
    words = load_locale("en")
    fields = read_html(render_card(make_card("en"), make_run("en"))).one("div", class_="fields")
    labels = [label.text for label in fields.all("b")]
    assert labels == [
        "Visited on", "Visited by", "Found true", "Risk type", "Measure planned",
        "Reason for disagreeing", "Note", "Officer's signature",
    ]  # fmt: skip
    boxes = [box.text for box in fields.all("i")]
    # The same answers as in the workbook that the record is copied to.
    assert boxes == ["yes", "partly", "no", "not at home", *words["risk_types"].values()]


def test_options_and_alternatives_are_labelled() -> None:
    card = read_html(render_card(make_card("en"), make_run("en"))).one("article")
    headings = [heading.text for heading in card.all("h3")]
    assert "Options to consider from: Shangluo policies 2024; not output of the model" in headings
    assert "If things changed what the model would say; not a promise" in headings


@pytest.mark.parametrize("locale", LOCALES)
def test_a_card_is_the_same_in_the_page(locale: str) -> None:
    facts = make_facts(locale, 4)
    page = page_of(facts)
    for card in facts.cards:
        alone = read_html(render_card(card, facts.run)).one("article")
        assert page.one("article", id=f"card-{card.order}") == alone


@pytest.mark.parametrize("locale", LOCALES)
def test_golden_card(locale: str) -> None:
    """Wanted changes: ``python tests/regenerate_golden.py``, then look at the difference."""
    golden = (GOLDEN / f"card_{locale}.html").read_text(encoding="utf-8")
    assert golden_card(locale) == golden


# Charts --------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_their_amounts() -> None:
    bars = draw_bars({"a": 8.0, "b": 2.0, "c": 0.0}, str, {"a": "A"}, first="b")
    # 100 * 2 / 8 = 25
    assert [bar.width for bar in bars] == [100.0, 25.0, 0.0]
    assert [(bar.label, bar.kind) for bar in bars] == [
        ("A", "count"),
        ("b", "first"),
        ("c", "count"),
    ]
    assert draw_bars({"a": 0.0}, str)[0].width == 0.0
    assert draw_bars({}, str) == ()


def test_theme_bars_stand_around_a_common_zero() -> None:
    themes = [ThemeFact("up", 0.06), ThemeFact("down", -0.02), ThemeFact("little", 0.0005)]
    drawn = draw_themes([*themes, ThemeFact("tiny", -0.0004), ThemeFact("none", 0.0)], str)
    # From -0.02 to 0.06: zero at a quarter; 0.0005 / 0.08 = 0.6 hundredths.
    assert [(bar.x, bar.width, bar.zero) for bar in drawn.bars] == [
        (25.0, 75.0, 25.0),
        (0.0, 25.0, 25.0),
        (25.0, 0.6, 25.0),
    ]
    assert [bar.kind for bar in drawn.bars] == ["raises", "lowers", "raises"]
    assert (drawn.others, drawn.small) == ((), ("tiny",))


def test_themes_beyond_the_eighth_are_told_in_words() -> None:
    themes = [ThemeFact(str(number), 0.1 / number) for number in range(1, 11)]
    drawn = draw_themes(themes, lambda points: f"{points:.3f}")
    assert [bar.label for bar in drawn.bars] == list("12345678")
    assert drawn.others == (("9", "0.011"), ("10", "0.010"))


def test_income_is_drawn_against_the_line_of_its_year() -> None:
    accounts = [
        AccountFact(2022, -2000.0, 6000.0),
        AccountFact(2023, 8000.0, 7000.0),
        AccountFact(2024, 7000.0, 7000.0),
        AccountFact(2025, 1000.0, None),
    ]
    drawn = draw_income(accounts, str)
    # 60 high for 8,000 to -2,000: 6 per thousand, from 4 at the top; zero at 4 + 48.
    assert drawn.zero == 52.0
    assert [(bar.y, bar.height) for bar in drawn.bars] == [
        (52.0, 12.0),
        (4.0, 48.0),
        (10.0, 42.0),
        (46.0, 6.0),
    ]
    assert [bar.line_y for bar in drawn.bars] == [16.0, 10.0, 10.0, None]
    # On the line is not below it; without a line nobody can tell.
    assert [bar.is_below for bar in drawn.bars] == [True, False, False, False]
    # 250 wide for four years from 50: slots of 62.5, bars of 30 in their middle.
    assert [bar.x for bar in drawn.bars] == [66.2, 128.8, 191.2, 253.8]


# Lists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
def test_lists_show_each_household_once_and_the_reserve_apart(locale: str) -> None:
    facts = make_facts(locale)
    page = page_of(facts)
    visits = page.one("table", id="visits").one("tbody").all("tr")
    reserve = page.one("table", id="reserves").one("tbody").all("tr")
    assert [int(row["data-order"]) for row in visits] == list(range(1, 10))
    assert [int(row["data-order"]) for row in reserve] == [10, 11, 12]
    first = [cell.text for cell in visits[0].all("td")]
    words = load_locale(locale)
    themes = [words["themes"][theme] for theme in ("income", "data_gap")]  # health: cards alone
    assert first[0] == "1"
    assert first[1] == words["tiers"]["red"]
    assert first[2] == "H0***01" + f"{1:020x}"
    assert first[4] == "50%"
    assert first[6] == words["list_separator"].join(themes)
    assert visits[0].one("a")["href"] == "#card-1"
    # The reserve has no day by which it is to be visited.
    assert reserve[0].one("td", class_="due").text == words["page"]["no_value"]


@pytest.mark.parametrize("locale", LOCALES)
def test_lists_and_their_data_hold_no_health_detail(locale: str) -> None:
    facts = make_facts(locale)
    page, texts, words = page_of(facts), TEXTS[locale], load_locale(locale)
    lists = [page.one("section", id=name).text for name in ("list", "reserve")]
    shown = "\n".join([*lists, json.dumps(data_of(page), ensure_ascii=False)])
    private = [texts["health"]["text"], texts["health"]["source"], texts["rule"], texts["check"]]
    private += [texts["option"], texts["similar"], texts["income"]["text"], "13,500", "1.35"]
    assert [text for text in private if text in shown] == []
    # Nor the name of the theme; the risk types illness and disability as one alone, to filter by.
    assert words["themes"]["health"] not in lists[0]
    kinds = [option.text for option in page.one("select", id="kind").all("option")]
    assert kinds[1:] == [words["risk_types"]["industry_failure"], words["page"]["tools"]["health"]]
    assert [row["kinds"] for row in data_of(page)["rows"][:2]] == [[kinds[1]], [kinds[2]]]


def test_illness_and_disability_are_one_risk_type_in_lists() -> None:
    kinds = load_locale("en")["risk_types"]
    cards = (make_card("en", risk_types=(kinds["illness"], kinds["disability"], kinds["water"])),)
    page = page_of(VisitFacts(make_run("en"), cards))
    assert data_of(page)["rows"][0]["kinds"] == ["illness or disability", kinds["water"]]


def test_filters_offer_what_the_round_has() -> None:
    facts = make_facts("en")
    cards = tuple(
        dataclasses.replace(card, township="T2" if card.village == "Xipo" else card.township)
        for card in facts.cards
    )
    page = page_of(VisitFacts(facts.run, cards))
    places = [
        (option.attributes.get("data-township"), option.attributes.get("data-village"))
        for option in page.one("select", id="place").all("option")
    ]
    assert places == [
        (None, None),
        ("Chengguan", None),
        ("Chengguan", "Donggou"),
        ("Chengguan", "Nanwan"),
        ("T2", None),
        ("T2", "Xipo"),
    ]
    tiers = [option["value"] for option in page.one("select", id="tier").all("option")]
    assert tiers == ["", "red", "orange", "yellow", "green"]


def test_the_data_of_a_row() -> None:
    row = data_of(page_of(make_facts("en")))["rows"][1]
    searched = row.pop("searched").split()
    assert {"2", "H0***02", f"{2:020x}", "Chengguan", "Xipo", "orange"} <= set(searched)
    assert "health" not in searched
    assert row == {
        "order": 2,
        "household": "H0***02",
        "township": "Chengguan",
        "village": "Xipo",
        "tier": "orange",
        "risk": pytest.approx(1 / 3),
        "due": "2024-01-16",  # 5 * (2 mod 3 + 1) = 15 days after 1 January
        "reserve": False,
        "kinds": ["illness or disability"],
    }


def test_a_household_without_risk_and_place() -> None:
    page = page_of(VisitFacts(make_run("en"), (make_bare_card("en", township="", village=""),)))
    cells = [cell.text for cell in page.one("table", id="visits").one("tbody").all("td")]
    assert cells[3:5] == ["place not on record", "–"]
    row = data_of(page)["rows"][0]
    assert (row["risk"], row["due"], row["kinds"]) == (None, None, [])
    assert page.all("section", id="reserve") == []


# Summary -------------------------------------------------------------------------------------------


def panels_of(page: Element) -> Mapping[str, Element]:
    return {panel.all("h3")[0].text: panel for panel in page.all("section", class_="panel")}


def rows_of(panel: Element, table: int = 0) -> list[list[str]]:
    rows = panel.all("table")[table].all("tr")
    return [[cell.text for cell in row.walk() if cell.tag in ("th", "td")] for row in rows]


def test_summary_tells_the_figures() -> None:
    page = page_of(make_facts("en"))
    tiles = {
        tile.one("dt").text: tile.one("dd").text
        for tile in page.one("dl", class_="tiles").all("div")
    }
    assert (
        tiles
        == {
            "Visit list": "9 households",
            "Reserve list": "3 households",
            "Expected outcomes reached": "813% of all expected",  # 8, and 12.5 % as a whole per cent
            "Households assessed": "1,397 households",
        }
        or tiles["Expected outcomes reached"] == "812% of all expected"
    )
    panels = panels_of(page)
    ways = panels["Expected outcomes reached with the same number of visits"]
    assert rows_of(ways) == [
        ["this list", "", "8"],
        ["rules alone", "", "5"],
        ["at random", "", "2"],
        ["by risk alone (best possible)", "", "10"],
    ]
    assert [bar["width"] for bar in ways.all("rect")] == ["80.0%", "50.0%", "20.0%", "100.0%"]
    tiers = panels["Visits by tier"]
    assert [row[2] for row in rows_of(tiers)] == [
        "9 households", "6 households", "4 households", "1 household",
    ]  # fmt: skip
    assert [use["href"] for use in tiers.all("use")] == [
        "#tier-red", "#tier-orange", "#tier-yellow", "#tier-green",
    ]  # fmt: skip
    for text in ("As of 1 January 2024", "within 12 months", "m-20231201", "ee02a0ee1133"):
        assert text in page.text


def test_visits_are_counted_by_village_in_a_single_township_and_by_township_in_several() -> None:
    facts = make_facts("en")
    counted = rows_of(panels_of(page_of(facts))["Visits by village"])
    assert [(row[0], row[2]) for row in counted] == [
        ("Donggou", "3 households"),
        ("Nanwan", "3 households"),
        ("Xipo", "3 households"),
    ]
    cards = (*facts.cards, dataclasses.replace(facts.cards[0], order=13, township="T2"))
    counted = rows_of(panels_of(page_of(VisitFacts(facts.run, cards)))["Visits by township"])
    assert [(row[0], row[2]) for row in counted] == [
        ("Chengguan", "9 households"),
        ("T2", "1 household"),
    ]


@pytest.mark.parametrize(("locale", "few"), [("en", "<10 households"), ("zh", "<10户")])
def test_small_counts_are_suppressed(locale: str, few: str) -> None:
    page, words = page_of(make_facts(locale)), load_locale(locale)
    panel = panels_of(page)[words["page"]["summary"]["not_scored"]]
    counts = {row[0]: row[1] for row in rows_of(panel)}
    assert counts[words["status"]["error"]] == few
    assert counts[words["status"]["not_in_cohort"]].startswith("84")
    assert rows_of(panel, 1)[0][1].startswith("17")


def test_prices_of_quotas() -> None:
    panel = panels_of(page_of(make_facts("en")))["What each arrangement costs"]
    assert rows_of(panel)[1:] == [
        ["most visits: all townships together", "–", "2.5", "3"],
        ["most visits: T1", "12", "1.2", "0"],
        ["most visits: county", "20", "1.1", "0"],
        ["random checks", "5%", "0.4", "1"],
        ["rule hits first", "–", "0", "−6"],
        ["none soon after a visit", "90 days", "0.1", "0"],
    ]
    # 0.04 returns would be written as 0: counted, not listed.
    assert "1 more cost nothing" in panel.text


def test_only_the_dearest_prices_are_shown_at_once() -> None:
    row = make_run().quota_prices[1]
    prices = tuple({**row, "group": f"T{number}", "price": 20.0 - number} for number in range(11))
    facts = dataclasses.replace(make_facts("en"), run=make_run("en", quota_prices=prices))
    panel = panels_of(page_of(facts))["What each arrangement costs"]
    assert len(rows_of(panel)) == 9
    more = panel.one("details")
    assert more.one("summary").text == "3 more"
    assert [row[0] for row in rows_of(more)] == [
        "most visits: T8",
        "most visits: T9",
        "most visits: T10",
    ]


@pytest.mark.parametrize("locale", LOCALES)
def test_a_township_is_told_which_figures_are_the_countys(locale: str) -> None:
    facts = make_facts(locale)
    texts, page = TEXTS[locale], load_locale(locale)["page"]
    scoped = page_of(scope_to_role(facts, "township", texts["township"]))
    assert texts["township"] in scoped.one("h1").text
    marked = [
        one.text
        for one in (*scoped.all("h3"), *scoped.all("dt"))
        if one.text.endswith(page["county_mark"].strip())
    ]
    assert len(marked) == 6
    assert page["county_mark"].strip() not in page_of(facts).one("section", id="summary").text


# The document --------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", LOCALES)
def test_the_notice_is_on_the_page_and_on_every_card(locale: str) -> None:
    page, notice = page_of(make_facts(locale, 4)), load_locale(locale)["notice"]
    assert page.one("p", role="note").text == notice
    assert [card.one("p", class_="notice").text for card in page.all("article", class_="card")] == [
        notice
    ] * 4
    # Printed lists repeat the head of their tables on every sheet.
    assert [notice in row.text for row in page.all("tr", class_="running")] == [True, True]


@pytest.mark.parametrize("locale", LOCALES)
def test_text_from_data_is_escaped(locale: str) -> None:
    facts = make_facts(locale, 4)
    nasty = make_card(locale)
    reason = dataclasses.replace(
        nasty.reasons[0], text=NASTY, source=NASTY, theme_label=NASTY, risk_type=NASTY
    )
    every = {
        field.name: NASTY
        for field in dataclasses.fields(nasty)
        if isinstance(getattr(nasty, field.name), str)
        and field.name not in {"why", "tier", "confidence"}
    }
    every |= dict.fromkeys(
        ("rules", "changes", "alternatives", "checks", "data_gaps", "risk_types"), (NASTY,)
    )
    nasty = dataclasses.replace(
        nasty,
        **every,
        reasons=(reason,),
        lowering=(reason,),
        themes=(ThemeFact(NASTY, 0.1), ThemeFact(NASTY, 0.0001)),
        options=tuple(
            dataclasses.replace(option, risk_type=NASTY, text=NASTY, department=NASTY)
            for option in nasty.options
        ),
    )
    run = make_run(
        locale, horizon_text=NASTY, outcome=NASTY, model_id=NASTY, run_id=NASTY, snapshot=NASTY,
        place=NASTY, not_scored={NASTY: 11.0}, left_out={NASTY: None},
        quota_prices=({**make_run().quota_prices[1], "group": NASTY, "constraint": NASTY},),
    )  # fmt: skip
    html = render_page(VisitFacts(run, (*facts.cards[1:], nasty)))
    page = read_html(html)
    assert page.all("img") == []
    assert len(page.all("script")) == 4
    assert "49" not in page.one("h1").text
    assert "<!--" not in html
    written = " ".join(NASTY.split())
    card = page.one("article", id="card-1")
    assert card.one("h2").text == written
    # Seventeen texts of the card itself, seven of reasons and options twice or once, and more.
    assert card.text.count(written) > 25
    row = data_of(page)["rows"][-1]
    assert (row["village"], row["township"], row["kinds"]) == (NASTY, NASTY, [NASTY])
    assert NASTY in [option.attributes.get("data-village") for option in page.all("option")]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", ["page", "card"])
def test_nothing_is_fetched_and_only_our_scripts_run(locale: str, kind: str) -> None:
    html = (
        render_page(make_facts(locale, 4))
        if kind == "page"
        else render_card(make_card(locale), make_run(locale))
    )
    document = read_html(html)
    addresses = [
        one.attributes[name]
        for one in document.walk()
        for name in ("src", "href", "action", "srcset", "data")
        if name in one.attributes
    ]
    assert addresses
    assert {address for address in addresses if not re.match(r"#[\w-]+$|data:,$", address)} == set()
    assert not re.search(r"url\(|@import|//[a-z]+\.", html)
    assert [
        name for one in document.walk() for name in one.attributes if name.startswith("on")
    ] == []
    (policy,) = (one["content"] for one in document.all("meta") if "http-equiv" in one.attributes)
    scripts = [one for one in document.all("script") if "type" not in one.attributes]
    hashes = {
        base64.b64encode(hashlib.sha256("".join(map(str, one.content)).encode()).digest()).decode()
        for one in scripts
    }
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize("locale", LOCALES)
def test_the_document_is_sound(locale: str) -> None:
    page = page_of(make_facts(locale))
    ids = [one["id"] for one in page.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    targets = {
        one["href"][1:] for one in page.walk() if one.attributes.get("href", "").startswith("#")
    }
    assert targets <= set(ids)
    labelled = {
        one["aria-labelledby"] for one in page.walk() if "aria-labelledby" in one.attributes
    }
    assert labelled <= set(ids)
    assert page.one("html")["lang"] == load_locale(locale)["page"]["lang"]
    # The guide is linked where it is there.
    guide = page.all("section", id="guide")
    assert bool(guide) == ("#guide" in {one["href"] for one in page.one("nav").all("a")})
    controls = [one for one in page.all() if one.tag in ("input", "select")]
    inside_labels = [one for label in page.all("label") for one in label.walk()]
    assert all(any(one is inside for inside in inside_labels) for one in controls)


def test_both_languages_have_the_same_labels() -> None:
    def keys(words: Any, path: str = "") -> set[str]:
        if isinstance(words, Mapping):
            return {key for name, value in words.items() for key in keys(value, f"{path}.{name}")}
        if isinstance(words, list):
            return {f"{path}[{len(words)}]"}
        placeholders = re.findall(r"{(\w+)}", words)
        return {f"{path} {sorted(placeholders)}"}

    assert keys(load_locale("zh")["page"]) == keys(load_locale("en")["page"])


def test_a_round_without_visits_has_a_page() -> None:
    page = page_of(VisitFacts(make_run("en", by_tier={}, left_out={}), ()))
    assert page.one("table", id="visits").one("tbody").all("tr") == []
    assert data_of(page)["rows"] == []


# Writing -------------------------------------------------------------------------------------------


def test_write_page(tmp_path: Any) -> None:
    facts = make_facts("zh", 4)
    path = write_page(facts, tmp_path / "round" / "page.html")
    assert path.read_text(encoding="utf-8") == render_page(facts)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run = dataclasses.replace(facts.run, as_of_date=pd.Timestamp("2024-02-01"))
    write_page(VisitFacts(run, ()), path)
    assert path.read_text(encoding="utf-8") == render_page(VisitFacts(run, ()))
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")

    def refuse(self: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(PovertyRiskError, match=r"page '.*page\.html': found No space left"):
        write_page(make_facts("en", 1), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PovertyRiskError, match="expected a file to write"):
        write_page(make_facts("en", 1), tmp_path / "file" / "page.html")


@pytest.mark.parametrize("locale", LOCALES)
def test_a_village_is_not_told_of_health_by_what_is_unusual(locale: str) -> None:
    card, village = make_card(locale), TEXTS[locale]["villages"][0]
    words = {"zh": "住院次数（40次）", "en": "hospital stays (40)"}[locale]
    cards = (
        card,
        dataclasses.replace(card, order=2, unlike_is_health=True),
        dataclasses.replace(card, order=3, unlike_text=words),
    )
    scoped = scope_to_role(VisitFacts(make_run(locale), cards), "village", village)
    assert [one.unlike_text for one in scoped.cards] == [card.unlike_text, "", ""]


def test_an_unknown_role_or_place_is_named():
    from poverty_risk.exceptions import DeclarationError
    from poverty_risk.report.facts import scope_to_role

    facts = make_facts("en")
    with pytest.raises(DeclarationError, match="role 'mayor'"):
        scope_to_role(facts, "mayor")
    with pytest.raises(DeclarationError, match="place 'nowhere'"):
        scope_to_role(facts, "village", "nowhere")
