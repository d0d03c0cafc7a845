"""The workbook for officers: a cover, one sheet per township, columns to fill in; prints on A4."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from poverty_risk.report.cover import A4, TIER_LOOKS, write_cover, write_guide
from poverty_risk.report.facts import CardFacts, VisitFacts
from poverty_risk.report.list_view import build_list_cells
from poverty_risk.report.row_heights import estimate_height
from poverty_risk.report.sheets import (
    FEEDBACK,
    FORMAT,
    LISTS_SHEET,
    LOCKED,
    LONGEST_ENTRY,
    RECORD_HEADINGS,
    RECORD_SHEET,
    Record,
    RecordRow,
    clean_text,
    name_sheets,
    save_workbook,
)
from poverty_risk.wording import load_locale

__all__ = ["OfficerBook", "SheetRow", "write_workbook"]

WIDTHS: Mapping[str, float] = {
    "faults": 26, "order": 5, "standing": 5.5, "pseudonym": 11, "household": 9.5, "village": 8,
    "tier": 6.5, "due": 10.5, "risk": 9, "why": 8, "rules": 15, "themes": 11, "verify": 27,
    "gaps": 13, "visited_on": 10.5, "found_true": 9.5, "risk_type": 9.5, "measure": 9.5,
    "disagree": 13, "note": 13,
}  # fmt: skip
"""In characters; together they print at about three quarters of their size on A4 landscape."""

CENTRED = frozenset(
    {"order", "standing", "tier", "due", "household", "village", "why", "risk", "visited_on",
     "found_true", "risk_type", "measure"}
)  # fmt: skip
CHOICES: Mapping[str, str] = {
    "found_true": "found_true",
    "risk_type": "risk_types",
    "measure": "measures",
}
DATE_FORMAT = "yyyy-mm-dd"
FONT_SIZE = 10
LOWEST_ROW = 32
"""Room to write by hand, in points."""


@dataclass(frozen=True)
class SheetRow:
    """One row of a list.

    Parameters
    ----------
    cells
        Text by locked column.
    tier
        Code of the tier.
    is_reserve
        Whether it stands in reserve.
    entries
        What is filled in already, by feedback column.
    faults
        What has to be corrected; only on the sheet of corrections.
    is_unknown
        Whether its pseudonym is of no household of the round: then it can be corrected, too.
    """

    cells: Mapping[str, str]
    tier: str = ""
    is_reserve: bool = False
    entries: Mapping[str, str | dt.date] = field(default_factory=dict)
    faults: str = ""
    is_unknown: bool = False


def write_workbook(facts: VisitFacts, path: str | Path, key: bytes | None = None) -> Path:
    """Write the workbook of a visit round, whole or not at all.

    Parameters
    ----------
    facts
        What the reader's role may see (see `scope_to_role`).
    path
        The file; an older one is replaced.
    key
        The office's secret: changed cells are then recognised even where somebody changed the
        hidden record as well. None recognises slips only.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    PovertyRiskError
        The file cannot be written, or the key is too short.

    Notes
    -----
    Lists hold no health detail. Every text is written as a string, never as a formula; see
    `clean_text` for what happens to texts that would become one in a CSV file. The same facts give
    the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import RunFacts, VisitFacts
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures={"visit_list": 0.0, "rules_alone": 0.0, "at_random": 0.0},
    ... )  # fmt: skip
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_workbook(VisitFacts(run, ()), f"{folder}/visits.xlsx").name
    'visits.xlsx'
    """
    record = Record.make(facts.run, key)
    words = load_locale(facts.run.locale)
    titles = words["workbook"]["sheets"]
    names = name_sheets(facts.townships, words["page"]["unknown_place"], list(titles.values()))
    book = OfficerBook(record)
    write_cover(book.workbook, facts, names)
    write_guide(book.workbook, facts.run.locale)
    rows = []
    for township, name in names.items():
        cards = [card for card in facts.cards if card.township == township]
        listed = [_row(card, record.locale) for card in sorted(cards, key=_visits_first)]
        book.add_list(name, listed)
        rows += [_record_row(card, record, key) for card in cards]
    book.add_record(rows)
    return book.save(path)


def _visits_first(card: CardFacts) -> tuple[bool, int]:
    return card.is_reserve, card.order


def _row(card: CardFacts, locale: str) -> SheetRow:
    return SheetRow(build_list_cells(card, locale), card.tier, card.is_reserve)


def _record_row(card: CardFacts, record: Record, key: bytes | None) -> RecordRow:
    cells = build_list_cells(card, record.locale)
    row = RecordRow(cells["pseudonym"], card.why, card.tier, cells, "")
    return RecordRow(**{**vars(row), "checksum": record.sign(row.signed, key)})


class OfficerBook:
    """A workbook in the making: lists to fill in, and the hidden record that they belong to."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.words: Mapping[str, Any] = load_locale(record.locale)
        self.texts: Mapping[str, Any] = self.words["workbook"]
        self.as_of = dt.date.fromisoformat(record.as_of_date)
        self._buffer = io.BytesIO()
        never = ("strings_to_formulas", "strings_to_urls", "strings_to_numbers")
        options = dict.fromkeys(never, False) | {"in_memory": True}
        self.workbook = xlsxwriter.Workbook(self._buffer, options)
        # The day of the round, not of writing: the same facts give the same bytes.
        created = dt.datetime.combine(self.as_of, dt.time())
        self.workbook.set_properties({"title": self.texts["cover"]["title"], "created": created})
        self._formats: dict[tuple[str, str, bool], Format] = {}

    def add_list(self, name: str, rows: Sequence[SheetRow], *, faults: bool = False) -> Worksheet:
        """Add a sheet with one row per household; with a column of faults when asked for."""
        sheet = self.workbook.add_worksheet(name)
        columns = [*(["faults"] if faults else []), *LOCKED, *FEEDBACK]
        for at, column in enumerate(columns):
            sheet.set_column(at, at, WIDTHS[column])
            look = "entry_heading" if column in FEEDBACK else "heading"
            sheet.write_string(0, at, self.texts["columns"][column], self._format(look))
        headings = [(self.texts["columns"][name], WIDTHS[name] - 3) for name in columns]
        sheet.set_row(0, estimate_height(headings, FONT_SIZE))
        for line, row in enumerate(rows, start=1):
            for at, column in enumerate(columns):
                self._write(sheet, line, at, column, row)
            shown = {"faults": row.faults, **row.cells, **_texts_of(row.entries)}
            texts = [(shown.get(column, ""), WIDTHS[column]) for column in columns]
            sheet.set_row(line, max(estimate_height(texts, FONT_SIZE), LOWEST_ROW))
        self._set_up(sheet, columns, len(rows), name)
        if rows:
            self._validate(sheet, columns, len(rows))
        return sheet

    def _write(self, sheet: Worksheet, line: int, at: int, column: str, row: SheetRow) -> None:
        kind = "open" if column == "pseudonym" and row.is_unknown else column
        look = self._format(kind, row.tier, is_reserve=row.is_reserve)
        if column in FEEDBACK:
            value = row.entries.get(column, "")
        else:
            value = row.faults if column == "faults" else row.cells.get(column, "")
        if isinstance(value, dt.date):
            sheet.write_datetime(line, at, dt.datetime.combine(value, dt.time()), look)
        elif column == "order" and value.isdecimal():
            sheet.write_number(line, at, int(value), look)
        elif value:
            sheet.write_string(line, at, clean_text(value), look)
        else:
            sheet.write_blank(line, at, None, look)

    def _set_up(self, sheet: Worksheet, columns: Sequence[str], rows: int, place: str) -> None:
        texts = self.texts["print"]
        last = len(columns) - 1
        sheet.freeze_panes(1, columns.index("household") + 1)
        sheet.autofilter(0, 0, max(rows, 1), last)
        sheet.set_landscape()
        sheet.set_paper(A4)
        sheet.set_margins(left=0.35, right=0.35, top=0.65, bottom=0.6)
        sheet.repeat_rows(0)
        sheet.print_area(0, 0, rows, last)
        sheet.fit_to_pages(1, 0)
        title = texts["header"].format(place=place)
        as_of = texts["as_of"].format(date=self.record.as_of_date)
        sheet.set_header(f"&L{_literal(title)}&R{_literal(as_of)}")
        page = texts["page"].format(page="&P", pages="&N")
        sheet.set_footer(f"&L&8{_literal(' ' + texts['notice'])}&R{page}")
        allowed = ("format_columns", "format_rows", "autofilter", "sort")
        sheet.protect("", dict.fromkeys(allowed, True))

    def _validate(self, sheet: Worksheet, columns: Sequence[str], rows: int) -> None:
        prompts = self.texts["prompts"]
        for column in FEEDBACK:
            at, prompt = columns.index(column), prompts[column]
            rule: dict[str, object] = {
                "input_title": prompt["title"],
                "input_message": prompt["text"].format(example=self.as_of),
                "error_title": prompt["title"],
                "error_message": prompts["refused"],
            }
            if column == "visited_on":
                rule |= {"validate": "date", "criteria": ">=", "value": self.as_of}
            elif column in CHOICES:
                position = list(CHOICES).index(column)
                letter, count = "ABC"[position], len(self.choices(column))
                source = f"='{LISTS_SHEET}'!${letter}$1:${letter}${count}"
                rule |= {"validate": "list", "source": source}
            else:
                rule |= {"validate": "length", "criteria": "<=", "value": LONGEST_ENTRY}
                rule["error_message"] = prompt["text"]
            sheet.data_validation(1, at, rows, at, rule)

    def choices(self, column: str) -> Mapping[str, str]:
        """Names by code of what a column may hold."""
        if column == "risk_type":
            return dict(self.words["risk_types"])
        return dict(self.texts[CHOICES[column]])

    def _add_choices(self) -> None:
        sheet = self.workbook.add_worksheet(LISTS_SHEET)
        for at, column in enumerate(CHOICES):
            for line, name in enumerate(self.choices(column).values()):
                sheet.write_string(line, at, name)
        sheet.hide()

    def add_record(self, rows: Iterable[RecordRow]) -> None:
        """Add the hidden sheets: what can be chosen, the round, every household's locked cells.

        They come last: programs show the first sheet when a workbook is opened.
        """
        self._add_choices()
        sheet = self.workbook.add_worksheet(RECORD_SHEET)
        for line, (name, value) in enumerate({"format": FORMAT, **vars(self.record)}.items()):
            sheet.write_string(line, 0, name)
            sheet.write_string(line, 1, value)
        start = len(vars(self.record)) + 2
        for at, name in enumerate((*RECORD_HEADINGS, *LOCKED)):
            sheet.write_string(start, at, name)
        for line, row in enumerate(rows, start=start + 1):
            values = (row.checksum, row.why, row.tier, *(row.cells[name] for name in LOCKED))
            for at, value in enumerate(values):
                sheet.write_string(line, at, value)
        sheet.hide()

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all."""
        self.workbook.close()
        return save_workbook(self._buffer.getvalue(), Path(path))

    def _format(self, column: str, tier: str = "", *, is_reserve: bool = False) -> Format:
        kind = tier if column == "tier" else ""
        known = (column, kind, is_reserve)
        if known not in self._formats:
            self._formats[known] = self.workbook.add_format(self._look(*known))
        return self._formats[known]

    def _look(self, column: str, tier: str, is_reserve: bool) -> dict[str, object]:
        look: dict[str, object] = {
            "font_name": self.texts["font"], "font_size": FONT_SIZE, "text_wrap": True,
            "valign": "top", "border": 1, "border_color": "#7F7F7F", "italic": is_reserve,
        }  # fmt: skip
        if column in ("heading", "entry_heading"):
            heading = {"bold": True, "align": "center", "valign": "vcenter"}
            return look | heading | ({"bg_color": "#D9D9D9"} if column == "heading" else {})
        if column in CENTRED:
            look["align"] = "center"
        if column in (*FEEDBACK, "open"):
            look["locked"] = False
        if column == "visited_on":
            look["num_format"] = DATE_FORMAT
        if column == "faults":
            look |= {"bold": True, "bg_color": "#F2F2F2"}
        return {**look, **TIER_LOOKS.get(tier, {})}


def _texts_of(entries: Mapping[str, str | dt.date]) -> dict[str, str]:
    return {name: str(value) for name, value in entries.items()}


def _literal(text: str) -> str:
    """A text in a header or footer, where an ampersand begins a code."""
    return text.replace("&", "&&")
