"""The page in a real browser: search, filters, cards, keyboard, print, phone, and no network."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pypdf
import pytest

from card_samples import TEXTS, make_card, make_facts
from poverty_risk.report.facts import AccountFact, MeasureOption, VisitFacts
from poverty_risk.report.html import render_card, write_page
from poverty_risk.wording import LOCALES, load_locale

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed here"
)

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
)  # fmt: skip

NASTY_VILLAGE = '</script><img src=x onerror="window.hacked=1">'
VISITS, HOUSEHOLDS = 6, 8
A4 = (595, 842)
"""Points."""

# Text that is drawn, its colour and the first background behind it that covers; large text needs 3.
CONTRASTS = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
const poor = [];
let seen = 0;
for (const element of arguments[0].querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility({ visibilityProperty: true }) || element.closest("svg, option")) continue;
  seen += 1;
  const style = getComputedStyle(element), ink = parse(style.color).slice(0, 3);
  let behind = element, ground = [255, 255, 255];
  while (behind) { const one = parse(getComputedStyle(behind).backgroundColor); if (one.length === 3 || one[3] > 0) { ground = one.slice(0, 3); break; } behind = behind.parentElement; }
  const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
  const ratio = (high + .05) / (low + .05);
  const size = parseFloat(style.fontSize);
  if (ratio < 4.5 || size < 12) poor.push([element.textContent.trim().slice(0, 30), ratio.toFixed(2), size]);
}
return [seen, poor];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page per language; one village of each has a name that must not run."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for locale in LOCALES:
        facts = make_facts(locale, HOUSEHOLDS)
        third = TEXTS[locale]["villages"][2]
        cards = tuple(
            dataclasses.replace(
                card, village=NASTY_VILLAGE if card.village == third else card.village
            )
            for card in facts.cards
        )
        found[locale] = write_page(VisitFacts(facts.run, cards), folder / f"{locale}.html")
    return found


class Reader:
    """Somebody in front of the page."""

    def __init__(self, browser: WebDriver) -> None:
        self.browser = browser

    def open(self, path: Path, width: int = 1280, height: int = 900) -> Reader:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 760}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.get(path.as_uri())
        # Printing is asked for by tests themselves.
        self.run("window.print = () => { window.asked = (window.asked || 0) + 1; };")
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def choose(self, control: str, value: str) -> None:
        self.run(
            "const [id, value] = arguments, control = document.getElementById(id);"
            "control.value = value; control.dispatchEvent(new Event('input', {bubbles: true}));",
            control,
            value,
        )

    @property
    def orders(self) -> list[int]:
        """Orders of the rows that are seen, from top to bottom."""
        return self.run(
            "return [...document.querySelectorAll('.list tbody tr')]"
            ".filter((row) => row.checkVisibility()).map((row) => Number(row.dataset.order))"
        )

    @property
    def card(self) -> str | None:
        """Household on the open card."""
        return self.run(
            "const card = document.querySelector('dialog[open] article h2'); return card && card.textContent"
        )

    def wait_for_focus(self, name: str) -> None:
        """Wait until something has the focus: a dialog tells that it was closed a moment later."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 5).until(lambda _: self.focused == name)

    @property
    def focused(self) -> str:
        return self.run(
            "return document.activeElement.getAttribute('href') || document.activeElement.id"
        )

    def print(self) -> pypdf.PdfReader:
        answer = self.browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        return pypdf.PdfReader(io.BytesIO(base64.b64decode(answer["data"])))


@pytest.fixture
def reader(browser: WebDriver) -> Reader:
    return Reader(browser)


def sizes(pdf: pypdf.PdfReader) -> set[tuple[int, int]]:
    return {(round(page.mediabox.width), round(page.mediabox.height)) for page in pdf.pages}


def text_of(page: pypdf.PageObject) -> str:
    """Its text; Chromium writes some Chinese characters as the radicals that look the same."""
    return unicodedata.normalize("NFKC", page.extract_text())


@pytest.mark.parametrize("locale", LOCALES)
def test_search_and_filters(reader: Reader, pages: dict[str, Path], locale: str) -> None:
    reader.open(pages[locale])
    words, villages = load_locale(locale), TEXTS[locale]["villages"]
    every = list(range(1, HOUSEHOLDS + 1))
    assert reader.orders == every
    reader.find("#search").send_keys(f"{villages[1]} H0")
    # Household n is in village (n - 1) mod 3.
    assert reader.orders == [2, 5, 8]
    assert reader.find("#printed").text == "3"
    shown = words["page"]["tools"]["shown"].format(shown=3, all=HOUSEHOLDS)
    assert reader.find("#shown").text == shown
    # Its tier is (n - 1) mod 4: orange is 2, 6.
    reader.choose("tier", "orange")
    assert reader.orders == [2]
    reader.click("#clear")
    assert reader.orders == every
    reader.choose("kind", words["page"]["tools"]["health"])
    assert reader.orders == [2, 4, 6, 8]
    reader.choose("kind", "")
    reader.choose("search", "nowhere to be found")
    assert reader.orders == []
    # Texts of cards are not searched: a list must not find a household by its health.
    reader.choose("search", TEXTS[locale]["similar"][:8])
    assert reader.orders == []


def test_a_village_whose_name_is_markup_is_text(reader: Reader, pages: dict[str, Path]) -> None:
    reader.open(pages["zh"])
    options = reader.browser.find_elements("css selector", "#place option")
    (nasty,) = (option for option in options if option.text.strip() == NASTY_VILLAGE)
    reader.choose("place", nasty.get_attribute("value"))
    assert reader.orders == [3, 6]
    reader.click("#visits tbody tr:not([hidden]) a")
    assert NASTY_VILLAGE in reader.find("dialog article header").text
    assert reader.run("return [window.hacked || 0, document.images.length]") == [0, 0]


def test_sorting(reader: Reader, pages: dict[str, Path]) -> None:
    reader.open(pages["en"])
    visits, reserve = list(range(1, VISITS + 1)), list(range(VISITS + 1, HOUSEHOLDS + 1))
    head = "#visits th[data-sort=risk]"
    reader.click(f"{head} button")
    # Risk is 1 / (n + 1): the highest first is the order; visits stay before the reserve.
    assert reader.orders == visits + reserve
    assert reader.find(head).get_attribute("aria-sort") == "ascending"
    reader.click(f"{head} button")
    assert reader.orders == visits[::-1] + reserve[::-1]
    assert reader.find(head).get_attribute("aria-sort") == "descending"
    assert reader.run("return document.getElementById('sort').value") == "risk"
    reader.choose("sort", "tier")
    # Red, orange, yellow, green by (n - 1) mod 4; 7 and 8 are the reserve.
    assert reader.orders == [1, 5, 2, 6, 3, 4, 7, 8]
    reader.choose("sort", "due")
    # Due after 5 * (n mod 3 + 1) days: multiples of 3 first.
    assert reader.orders == [3, 6, 1, 4, 2, 5, 7, 8]


@pytest.mark.parametrize("locale", LOCALES)
def test_a_card_opens_by_mouse_and_closes_by_keyboard(
    reader: Reader, pages: dict[str, Path], locale: str
) -> None:
    from selenium.webdriver import Keys

    reader.open(pages[locale])
    assert reader.card is None
    reader.click("tr[data-order='4'] td.themes")
    assert reader.card == "H0***04"
    reader.press(Keys.ESCAPE)
    assert reader.card is None
    reader.wait_for_focus("#card-4")
    reader.click("tr[data-order='2'] a")
    reader.click("#close")
    assert reader.card is None
    reader.wait_for_focus("#card-2")


def test_the_keyboard_alone_is_enough(reader: Reader, pages: dict[str, Path]) -> None:
    from selenium.webdriver import Keys

    reader.open(pages["zh"])
    reader.press(Keys.TAB)
    assert reader.focused == "#list"  # past the summary
    reader.press(Keys.ENTER)
    for _ in range(20):
        reader.press(Keys.TAB)
        if reader.focused == "#card-1":
            break
    reader.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ENTER)
    assert reader.card == "H0***02"
    reader.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert reader.card == "H0***03"
    for _ in range(8):
        reader.press(Keys.TAB)
        # The page behind an open card cannot be reached.
        assert not reader.run(
            "return document.querySelector('main').contains(document.activeElement)"
        )
    reader.press(Keys.ESCAPE)
    assert reader.card is None
    reader.wait_for_focus("#card-3")


def test_cards_are_leafed_through_in_the_order_that_is_shown(
    reader: Reader, pages: dict[str, Path]
) -> None:
    reader.open(pages["en"])
    reader.choose("tier", "orange")
    reader.click("#visits tbody tr:not([hidden]) a")
    seen = [reader.card]
    reader.click("#next")
    seen.append(reader.card)
    assert seen == ["H0***02", "H0***06"]
    assert reader.find("#position").text == "2 of 2"
    assert not reader.find("#next").is_enabled()


@pytest.mark.parametrize("locale", LOCALES)
def test_all_cards_print_one_to_a_page(reader: Reader, pages: dict[str, Path], locale: str) -> None:
    reader.open(pages[locale])
    reader.click("#print-cards")
    assert reader.run("return window.asked") == 1
    pdf = reader.print()
    assert len(pdf.pages) == HOUSEHOLDS
    assert sizes(pdf) == {A4}
    texts = [text_of(page) for page in pdf.pages]
    assert [f"{order:020x}" in texts[order - 1] for order in range(1, HOUSEHOLDS + 1)] == [
        True
    ] * HOUSEHOLDS
    assert all(TEXTS[locale]["department"] in text for text in texts)
    assert all("ee02a0ee1133" in text for text in texts)  # the last line is on the same page
    # Afterwards the page prints as before.
    assert reader.run("return document.documentElement.dataset.print || ''") == ""


def test_filtered_and_sorted_cards_print_as_they_are_shown(
    reader: Reader, pages: dict[str, Path]
) -> None:
    reader.open(pages["en"])
    reader.choose("tier", "red")
    reader.click("#visits th[data-sort=risk] button")
    reader.click("#visits th[data-sort=risk] button")
    reader.click("#print-cards")
    texts = [text_of(page) for page in reader.print().pages]
    assert [f"{order:020x}" in text for order, text in zip((5, 1), texts, strict=True)] == [
        True
    ] * 2


def test_one_card_prints_alone(reader: Reader, pages: dict[str, Path]) -> None:
    reader.open(pages["zh"])
    reader.click("tr[data-order='5'] a")
    reader.click("#print-card")
    (page,) = reader.print().pages
    assert f"{5:020x}" in text_of(page)
    # As it does when somebody prints with a card open, without the button.
    (page,) = reader.print().pages
    assert f"{5:020x}" in text_of(page)


@pytest.mark.parametrize("locale", LOCALES)
def test_the_list_prints_landscape(reader: Reader, pages: dict[str, Path], locale: str) -> None:
    reader.open(pages[locale])
    reader.click("#print-list")
    pdf = reader.print()
    assert sizes(pdf) == {A4[::-1]}
    texts = [text_of(page) for page in pdf.pages]
    assert len(texts) == 2  # visits and reserve
    labels = load_locale(locale)["page"]["columns"]
    assert all(labels["visited_on"] in text for text in texts)
    assert [f"{order:020x}" in texts[0] for order in (1, VISITS)] == [True, True]
    assert f"{HOUSEHOLDS:020x}" in texts[1]
    assert not any(TEXTS[locale]["department"] in text for text in texts)


@pytest.mark.parametrize("locale", LOCALES)
def test_a_card_with_much_to_say_still_fits_its_page(
    reader: Reader, tmp_path: Path, locale: str
) -> None:
    card = make_card(locale)
    long = dataclasses.replace(
        card,
        rules=card.rules * 5,
        reasons=(card.reasons[0], *card.reasons),
        lowering=card.lowering * 2,
        accounts=tuple(AccountFact(2018 + year, 9000.0 * year, 6000.0) for year in range(6)),
        checks=card.checks * 6,
        options=tuple(MeasureOption(str(one), card.options[0].text, "x") for one in range(5)),
        data_gaps=card.data_gaps * 6,
        changes=card.changes * 2,
        alternatives=card.alternatives * 2,
        unlike_text=card.unlike_text * 2,
    )
    facts = make_facts(locale, 1)
    path = write_page(
        VisitFacts(facts.run, (long, dataclasses.replace(long, order=2))), tmp_path / "a.html"
    )
    reader.open(path)
    reader.click("#print-cards")
    pdf = reader.print()
    assert len(pdf.pages) == 2
    assert all("ee02a0ee1133" in text_of(page) for page in pdf.pages)
    scale = reader.run("return document.getElementById('card-1').style.getPropertyValue('--fit')")
    assert 0.7 <= float(scale) < 1
    alone = tmp_path / "card.html"
    alone.write_text(render_card(long, facts.run), encoding="utf-8")
    assert len(reader.open(alone).print().pages) == 1


@pytest.mark.parametrize("locale", LOCALES)
def test_nothing_leaves_the_page_and_nothing_fails(
    reader: Reader, pages: dict[str, Path], locale: str
) -> None:
    browser = reader.browser
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    reader.open(pages[locale])
    reader.find("#search").send_keys("H0")
    reader.click("tr[data-order='3'] a")
    reader.click("#next")
    reader.click("#close")
    reader.print()
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    # The empty icon keeps browsers from asking for one.
    assert pages[locale].as_uri() in asked
    assert {address for address in asked if not address.startswith("data:")} == {
        pages[locale].as_uri()
    }
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("locale", LOCALES)
def test_nothing_runs_over_the_edge_of_a_phone(
    reader: Reader, pages: dict[str, Path], locale: str
) -> None:
    reader.open(pages[locale], width=360, height=740)
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    assert reader.run(widths) == [360, 360]
    # Rows are stacked, each within the screen, and figures are folded away.
    row = reader.find("#visits tbody tr")
    assert row.value_of_css_property("display") == "grid"
    assert not reader.find("#more .panels").is_displayed()
    reader.click("#more summary")
    assert reader.run(widths) == [360, 360]
    reader.click("tr[data-order='1'] a")
    inside = "const box = document.querySelector(arguments[0]); return [box.scrollWidth, box.clientWidth]"
    assert reader.run(inside, "dialog") == [360, 360]
    assert len(set(reader.run(inside, "dialog article"))) == 1


@pytest.mark.parametrize("locale", LOCALES)
def test_text_is_large_and_dark_enough(reader: Reader, pages: dict[str, Path], locale: str) -> None:
    reader.open(pages[locale])
    seen, poor = reader.run(CONTRASTS, reader.find("body"))
    assert seen > 150
    assert poor == []
    reader.click("tr[data-order='1'] a")
    seen, poor = reader.run(CONTRASTS, reader.find("dialog"))
    assert seen > 50
    assert poor == []


def test_without_scripts_the_cards_are_there(reader: Reader, pages: dict[str, Path]) -> None:
    turn = "Emulation.setScriptExecutionDisabled"
    reader.browser.execute_cdp_cmd(turn, {"value": True})
    try:
        reader.browser.get(pages["en"].as_uri())
        assert reader.find("#card-7 h2").is_displayed()
        texts = [text_of(page) for page in reader.print().pages]
    finally:
        reader.browser.execute_cdp_cmd(turn, {"value": False})
    # Once on a list, once on its card.
    assert sum(f"{7:020x}" in text for text in texts) == 2
