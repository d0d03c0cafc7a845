"""Cover of the officers' workbook: what the list is, how to read it, what it is never used for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.report.facts import VisitFacts
from poverty_risk.report.row_heights import estimate_height
from poverty_risk.report.sheets import clean_text
from poverty_risk.wording import format_date, format_value, load_locale

__all__ = ["A4", "TIER_LOOKS", "write_cover", "write_guide"]

A4 = 9

TIER_LOOKS: Mapping[str, Mapping[str, object]] = {
    "red": {"bg_color": "#B3261E", "font_color": "#FFFFFF", "bold": True},
    "orange": {"bg_color": "#F2902C", "bold": True},
    # Sparse dots (pattern 18) and white: without colours all four differ, beside shape and word.
    "yellow": {"bg_color": "#FFE78A", "fg_color": "#8A6D00", "pattern": 18, "bold": True},
    "green": {"bg_color": "#FFFFFF"},
}

LABEL_WIDTH, TEXT_WIDTH, FONT_SIZE = 20, 76, 10


def write_cover(
    workbook: xlsxwriter.Workbook, facts: VisitFacts, sheets: Mapping[str, str]
) -> None:
    """Add the cover.

    Parameters
    ----------
    workbook
        The workbook in the making.
    facts
        The round.
    sheets
        Sheet name by township.
    """
    cover = _Cover(workbook, facts)
    texts = cover.texts
    cover.title(texts["title"])
    cover.warning(load_locale(facts.run.locale)["notice"])
    cover.heading(texts["facts"])
    for label, value in _tell_facts(facts, texts, cover).items():
        cover.pair(label, value)
    cover.heading(texts["never_title"])
    cover.points(texts["never"])
    cover.heading(texts["how_title"])
    cover.points(texts["how"])
    cover.heading(texts["tiers_title"])
    cover.tiers()
    cover.heading(texts["fill_title"])
    cover.points(texts["fill"])
    cover.figures()
    cover.counts()
    cover.contents(sheets)


def _tell_facts(facts: VisitFacts, texts: Mapping[str, Any], cover: _Cover) -> dict[str, str]:
    run, page = facts.run, load_locale(facts.run.locale)["page"]
    visits = len(facts.visits)
    return {
        texts["place"]: run.place or page["whole_county"],
        texts["as_of"]: format_date(run.as_of_date, run.locale),
        texts["horizon"]: run.horizon_text,
        texts["outcome"]: run.outcome,
        texts["visits"]: cover.count(visits),
        texts["reserve"]: cover.count(len(facts.cards) - visits),
        cover.of_county(texts["scored"]): cover.count(run.scored),
        texts["model"]: run.model_id or page["no_value"],
        texts["run"]: run.run_id or page["no_value"],
        texts["snapshot"]: run.snapshot or page["no_value"],
    }


class _Cover:
    """Writes one line of the cover after the other."""

    def __init__(self, workbook: xlsxwriter.Workbook, facts: VisitFacts) -> None:
        self.facts, self.run = facts, facts.run
        words = load_locale(facts.run.locale)
        self.words: Mapping[str, Any] = words
        self.texts: Mapping[str, Any] = words["workbook"]["cover"]
        self.workbook, self.line = workbook, 0
        self.font = words["workbook"]["font"]
        self.sheet = workbook.add_worksheet(words["workbook"]["sheets"]["cover"])
        self.sheet.set_column(0, 0, LABEL_WIDTH)
        self.sheet.set_column(1, 1, TEXT_WIDTH)
        _print_upright(self.sheet, words["workbook"]["print"])

    def of_county(self, label: str) -> str:
        """A label of what is counted over the whole county, whoever reads it."""
        mark = self.words["page"]["county_mark"] if self.run.role != "county" else ""
        return f"{label}{mark}"

    def count(self, number: float | None) -> str:
        """A number of households; a small one is not told."""
        if number is None or 0 < number < SMALL_COUNT:
            return str(self.words["page"]["few"])
        shown = format_value(number, "number", self.run.locale)
        return str(self.texts["households"]).format(count=shown)

    def _style(self, **look: object) -> Any:
        base = {"font_name": self.font, "font_size": FONT_SIZE, "valign": "top"}
        return self.workbook.add_format(base | look)

    def _next(self, *cells: tuple[str, float]) -> None:
        self.sheet.set_row(self.line, estimate_height(cells, FONT_SIZE))
        self.line += 1

    def title(self, text: str) -> None:
        """The title."""
        self.sheet.write_string(self.line, 0, text, self._style(bold=True, font_size=16))
        self.sheet.set_row(self.line, 28)
        self.line += 1

    def warning(self, text: str) -> None:
        """The notice that stands on everything that shows a risk."""
        self.sheet.write_string(self.line, 0, text, self._style(bold=True))
        self.line += 1

    def heading(self, text: str) -> None:
        """A heading over the next lines, over the whole width."""
        style = self._style(bold=True, font_size=12, bottom=1)
        self.sheet.set_row(self.line, 21)
        style.set_align("bottom")
        self.sheet.write_string(self.line, 0, text, style)
        self.sheet.write_blank(self.line, 1, None, style)
        self.line += 1

    def pair(self, label: str, value: str) -> None:
        """A label and what it says."""
        self.sheet.write_string(self.line, 0, clean_text(label), self._style(text_wrap=True))
        self.sheet.write_string(self.line, 1, clean_text(value), self._style(text_wrap=True))
        self._next((label, LABEL_WIDTH), (value, TEXT_WIDTH))

    def points(self, texts: Iterable[str]) -> None:
        """Numbered sentences."""
        style = self._style(text_wrap=True)
        for position, text in enumerate(texts, start=1):
            told = clean_text(f"{position}. {text}")
            self.sheet.merge_range(self.line, 0, self.line, 1, told, style)
            self._next((told, LABEL_WIDTH + TEXT_WIDTH))

    def tiers(self) -> None:
        """Legend of the tiers with their deadlines, as the cards of the round have them."""
        shapes = self.words["workbook"]["shapes"]
        days = {
            card.tier: (card.due_date - self.run.as_of_date).days
            for card in self.facts.cards
            if card.due_date is not None
        }
        for tier, label in self.words["tiers"].items():
            look = {"border": 1, "align": "center", **TIER_LOOKS.get(tier, {})}
            self.sheet.write_string(self.line, 0, f"{shapes[tier]} {label}", self._style(**look))
            told = self.texts["no_deadline"]
            if tier in days:
                told = self.texts["days"].format(count=days[tier])
            self.sheet.write_string(self.line, 1, told, self._style())
            self.line += 1

    def figures(self) -> None:
        """Expected returns of the list, the rules alone and random visits."""
        self.heading(self.of_county(self.texts["figures_title"]))
        for name, label in self.texts["figures"].items():
            value = self.run.figures.get(name)
            shown = self.words["page"]["no_value"]
            if value is not None:
                shown = format_value(float(value), "number", self.run.locale)
            self.pair(label, str(shown))
        visits = self.count(self.run.figures.get("visits"))
        self.pair("", self.texts["figures_note"].format(visits=visits))
        for name, count in self.run.waiting.items():
            if count != 0:
                told = self.words["page"]["waiting"][name].format(count=self.count(count))
                self.pair("", self.of_county(told))
        if self.run.simulated:
            self.pair("", self.words["page"]["simulated"])

    def counts(self) -> None:
        """Households that are not on the list, and why; small counts are not told."""
        self.heading(self.of_county(self.texts["counts_title"]))
        told = {**self.run.not_scored, **self.run.left_out}
        shown = {name: number for name, number in told.items() if number != 0}
        for name, number in shown.items():
            self.pair(name, self.count(number))
        self.pair("", self.texts["few_note"] if shown else self.texts["nothing"])

    def contents(self, sheets: Mapping[str, str]) -> None:
        """The sheets, to click on."""
        self.heading(self.texts["contents_title"])
        link = self._style(font_color="#0B4F9C", underline=1)
        for township, name in sheets.items():
            cards = [card for card in self.facts.cards if card.township == township]
            reserve = sum(card.is_reserve for card in cards)
            told = self.texts["contents"].format(
                place=name, visits=len(cards) - reserve, reserve=reserve
            )
            target = "internal:'{}'!A1".format(name.replace("'", "''"))
            self.sheet.write_url(self.line, 1, target, link, clean_text(told))
            self.line += 1
        if _read_guide(self.run.locale):
            self.pair("", self.texts["guide"])


def write_guide(workbook: xlsxwriter.Workbook, locale: str) -> None:
    """Add the officers' guide as a sheet of its own, if the package holds one.

    Parameters
    ----------
    workbook
        The workbook in the making.
    locale
        Language.
    """
    text = _read_guide(locale)
    if not text:
        return
    texts = load_locale(locale)["workbook"]
    sheet = workbook.add_worksheet(texts["sheets"]["guide"])
    # Two columns, joined: some programs do not shrink a page whose first column is too wide.
    sheet.set_column(0, 0, LABEL_WIDTH)
    sheet.set_column(1, 1, TEXT_WIDTH)
    _print_upright(sheet, texts["print"])
    base = {"font_name": texts["font"], "font_size": FONT_SIZE, "text_wrap": True, "valign": "top"}
    plain = workbook.add_format(base)
    strong = workbook.add_format(base | {"bold": True, "font_size": 12})
    above = ""
    for line, paragraph in enumerate(text.splitlines()):
        shown = clean_text(paragraph.lstrip("#"))
        # The title, and what follows an empty line, are headings; texts have no other mark.
        style = plain if above else strong
        width = LABEL_WIDTH + TEXT_WIDTH
        sheet.set_row(line, estimate_height([(shown, width)], FONT_SIZE) if shown else 8)
        if shown:
            sheet.merge_range(line, 0, line, 1, shown, style)
        above = shown


def _read_guide(locale: str) -> str:
    name = f"guide_{locale}.txt"
    file = resources.files("poverty_risk") / "report" / "templates" / name
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _print_upright(sheet: Worksheet, texts: Mapping[str, Any]) -> None:
    sheet.hide_gridlines(2)
    sheet.set_paper(A4)
    sheet.set_portrait()
    sheet.set_margins(left=0.6, right=0.6, top=0.6, bottom=0.7)
    sheet.fit_to_pages(1, 0)
    page = texts["page"].format(page="&P", pages="&N")
    sheet.set_footer(f"&R{page}")
    sheet.protect("", {"format_columns": True, "format_rows": True})
