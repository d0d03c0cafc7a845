"""The workbook of consistency findings: a sheet per township, to be corrected by the office."""

from __future__ import annotations

import datetime as dt
import functools
import io
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import xlsxwriter
from xlsxwriter.format import Format

from poverty_risk.consistency import ConsistencyReport
from poverty_risk.declarations import Declared, Words, read_declaration
from poverty_risk.privacy import hash_id, mask_id
from poverty_risk.report.row_heights import estimate_height
from poverty_risk.report.sheets import clean_text, name_sheets, save_workbook
from poverty_risk.wording import format_date, load_locale

__all__ = ["CorrectionWords", "number_findings", "tell_findings", "write_corrections"]

WIDTHS: Mapping[str, float] = {
    "number": 13, "code": 6, "severity": 7, "wrong": 26, "pseudonym": 11, "household": 10, "village": 10,
    "person": 10, "table": 13, "date": 11, "found": 30, "remedy": 28, "department": 15,
    "corrected": 18, "note": 18,
}  # fmt: skip
"""In characters."""

ENTRIES = ("corrected", "note")
FONT_SIZE = 10
LANDSCAPE_A4 = 9
MOST_ROWS = 20_000
"""Findings on one sheet: more than anybody corrects before checking again."""

NUMBER_LENGTH = 12
_WHOLE = re.compile(r"(-?\d+)\.0")


class CorrectionWords(Declared):
    """Words of the workbook and of its summary, from ``corrections.yaml``."""

    texts: Mapping[str, Words]
    how: tuple[Words, ...]
    columns: Mapping[str, Words]
    severities: Mapping[str, Words]
    statuses: Mapping[str, Words]
    summary: Mapping[str, Words]
    codes: Mapping[str, Words]

    @classmethod
    @functools.cache
    def load(cls) -> CorrectionWords:
        """The shipped words."""
        path = resources.files("poverty_risk") / "report" / "corrections.yaml"
        return read_declaration(cls, Path(str(path)))

    def tell_status(self, rule: Mapping[Any, Any], locale: str) -> str:
        """Whether a rule ran, and what it lacked."""
        return self.statuses[str(rule["status"])][locale].format(lacking=rule["lacking"])

    def tell_value(self, name: str, value: str | None, locale: str) -> str:
        """A found value as readers of the language write it."""
        if value is None:
            return self.texts["missing"][locale]
        words = self.codes.get(f"{name}.{value}") or self.codes.get(value)
        if words is not None:
            return words[locale]
        risk_types: Mapping[str, str] = load_locale(locale)["risk_types"]
        whole = _WHOLE.fullmatch(value)
        return risk_types.get(value, whole.group(1) if whole else value)


def number_findings(findings: pd.DataFrame, key: bytes) -> pd.Series:
    """A number for each finding that stays the same from check to check.

    Parameters
    ----------
    findings
        From `check_consistency`.
    key
        Secret of the office.

    Returns
    -------
    Series
        Twelve hexadecimal digits, index of `findings`. Equal rows share one number.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency
    >>> from poverty_risk.report.corrections import number_findings
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> number_findings(report.findings, b'0123456789abcdef').str.len().unique().tolist()
    [12]
    """
    named = ["code", "table", "household_id", "person_id", "event_date"]
    parts = findings[named].astype("str").fillna("").itertuples(index=False)
    texts = pd.Series(["\n".join(part) for part in parts], index=findings.index, dtype="str")
    texts = texts + "\n" + findings["values"].astype("str")
    return texts.map(lambda text: hash_id(text, key)[:NUMBER_LENGTH]).astype("str")


def tell_findings(report: ConsistencyReport, key: bytes, locale: str = "zh") -> pd.DataFrame:
    """Findings in words, ids masked, worst first within a township.

    Parameters
    ----------
    report
        From `check_consistency`.
    key
        Secret of the office that numbers are made with.
    locale
        Language: ``"zh"`` or ``"en"``.

    Returns
    -------
    DataFrame
        ``township`` and one text column per column of the workbook but those to fill in.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency
    >>> from poverty_risk.report.corrections import tell_findings
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> list(tell_findings(report, b'0123456789abcdef', 'en').columns)[:3]
    ['township', 'number', 'code']
    """
    words, catalog, found = CorrectionWords.load(), report.catalog, report.findings
    found = found.assign(number=number_findings(found, key))
    found = found.reindex(columns=[*dict.fromkeys([*found, "township_id", "village_id"])])
    order = list(words.severities)
    rank = found["severity"].map({name: at for at, name in enumerate(order)})
    found = found.assign(rank=rank).sort_values(["township_id", "rank"], kind="stable")
    by_code = dict.fromkeys(found["code"])
    wrong = {code: catalog.describe(code, locale) for code in by_code}
    remedy = {code: catalog.advise(code, locale) for code in by_code}
    department = {code: catalog.name_department(code, locale) for code in by_code}
    tables = {name: table.label[locale] for name, table in report.schema.tables.items()}
    shown = [
        _tell_values(report, words, locale, code, table, values)
        for code, table, values in zip(found["code"], found["table"], found["values"], strict=True)
    ]
    columns = {
        "township": found["township_id"].astype("str").fillna(""),
        "number": found["number"],
        "code": found["code"],
        "severity": found["severity"].map(lambda name: words.severities[name][locale]),
        "wrong": found["code"].map(wrong),
        "pseudonym": _hash(found["household_id"], key),
        "household": _mask(found["household_id"]),
        "village": found["village_id"].astype("str").fillna(""),
        "person": _mask(found["person_id"]),
        "table": found["table"].map(tables),
        "date": found["event_date"].dt.strftime("%Y-%m-%d").fillna(""),
        "found": shown,
        "remedy": found["code"].map(remedy),
        "department": found["code"].map(department),
    }
    return pd.DataFrame(columns, index=found.index).astype("str").reset_index(drop=True)


def _mask(ids: pd.Series) -> pd.Series:
    return ids.map(lambda value: "" if pd.isna(value) else mask_id(str(value)))


def _hash(ids: pd.Series, key: bytes) -> pd.Series:
    return ids.map(lambda value: "" if pd.isna(value) else hash_id(str(value), key))


def _tell_values(
    report: ConsistencyReport,
    words: CorrectionWords,
    locale: str,
    code: str,
    table: str,
    values: Sequence[str | None],
) -> str:
    pair = words.texts["pair"][locale]
    told = [
        pair.format(
            name=report.catalog.name_value(code, name, locale, report.schema, table),
            value=words.tell_value(name, value, locale),
        )
        for name, value in zip(report.catalog[code].show, values, strict=True)
    ]
    return words.texts["separator"][locale].join(told)


def write_corrections(
    report: ConsistencyReport, path: str | Path, key: bytes, locale: str = "zh"
) -> Path:
    """Write the workbook of findings, whole or not at all.

    Parameters
    ----------
    report
        From `check_consistency`.
    path
        The file; an older one is replaced.
    key
        Secret of the office that numbers are made with.
    locale
        Language: ``"zh"`` or ``"en"``.

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
    Households and persons are masked; the office's lookup tells by the number which they are. Every
    text is written as a string, never as a formula. The same report gives the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency
    >>> from poverty_risk.report.corrections import write_corrections
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_corrections(report, f"{folder}/corrections.xlsx", b"0123456789abcdef").name
    'corrections.xlsx'
    """
    book = _CorrectionsBook(report, locale)
    told = tell_findings(report, key, locale)
    townships = list(dict.fromkeys(told["township"]))
    names = name_sheets(townships, book.text("unknown_place"), [book.text("cover_sheet")])
    sheets = {name: told[told["township"] == township] for township, name in names.items()}
    book.write_cover({name: len(rows) for name, rows in sheets.items()})
    for name, rows in sheets.items():
        book.write_sheet(name, rows.head(MOST_ROWS))
    return save_workbook(book.close(), Path(path))


class _CorrectionsBook:
    """A workbook in the making."""

    def __init__(self, report: ConsistencyReport, locale: str) -> None:
        self.report, self.locale, self.words = report, locale, CorrectionWords.load()
        self._buffer = io.BytesIO()
        never = ("strings_to_formulas", "strings_to_urls", "strings_to_numbers")
        options = dict.fromkeys(never, False) | {"in_memory": True}
        self.workbook = xlsxwriter.Workbook(self._buffer, options)
        # The day of the check, not of writing: the same findings give the same bytes.
        created = dt.datetime.combine(report.as_of_date.date(), dt.time())
        self.workbook.set_properties({"title": self.text("title"), "created": created})

    def text(self, name: str) -> str:
        """A text of the workbook."""
        return self.words.texts[name][self.locale]

    def close(self) -> bytes:
        """The finished file."""
        self.workbook.close()
        return self._buffer.getvalue()

    def _style(self, **look: object) -> Format:
        base = {"font_name": self.text("font"), "font_size": FONT_SIZE, "valign": "top"}
        return self.workbook.add_format({**base, "text_wrap": True, **look})

    def write_cover(self, counts: Mapping[str, int]) -> None:
        """Write what the workbook is, how to fill it in, and which rules could not run."""
        lines: list[tuple[str, str]] = [
            (self.text("title"), "title"),
            (self.text("notice"), "bold"),
        ]
        as_of = format_date(self.report.as_of_date, self.locale)
        known = self.text("pair").format(name=self.text("as_of"), value=as_of)
        lines += [(known, ""), (self.text("as_of_note"), ""), (self.text("how"), "heading")]
        lines += [(words[self.locale], "") for words in self.words.how]
        lines.append((self.text("contents"), "heading"))
        for place, count in counts.items():
            lines.append((self.text("content").format(place=place, count=count), ""))
            if count > MOST_ROWS:
                cut = self.text("cut").format(place=place, count=count - MOST_ROWS)
                lines.append((cut, "bold"))
        lines.append((self.text("not_run"), "heading"))
        lines += [(text, "") for text in self._tell_not_run()] or [(self.text("all_run"), "")]
        sheet = self.workbook.add_worksheet(self.text("cover_sheet"))
        sheet.set_column(0, 0, 100)
        looks = {
            "title": self._style(bold=True, font_size=16),
            "heading": self._style(bold=True, font_size=12, bottom=1),
            "bold": self._style(bold=True),
            "": self._style(),
        }
        for line, (text, look) in enumerate(lines):
            size = 16 if look == "title" else FONT_SIZE
            sheet.set_row(line, estimate_height([(text, 100)], size))
            sheet.write_string(line, 0, clean_text(text), looks[look])
        sheet.hide_gridlines(2)
        sheet.fit_to_pages(1, 0)
        sheet.protect("", {"format_columns": True, "format_rows": True})

    def _tell_not_run(self) -> list[str]:
        return [
            self.text("pair").format(
                name=f"{rule['code']} {self.report.catalog.describe(rule['code'], self.locale)}",
                value=self.words.tell_status(rule, self.locale),
            )
            for rule in self.report.not_run.to_dict("records")
        ]

    def write_sheet(self, name: str, rows: pd.DataFrame) -> None:
        """Write the findings of a township, with columns to fill in."""
        sheet = self.workbook.add_worksheet(name)
        columns = list(WIDTHS)
        border = {"border": 1, "border_color": "#7F7F7F"}
        heading = border | {"bold": True, "align": "center", "valign": "vcenter"}
        locked, open_ = self._style(**border), self._style(**border, locked=False)
        grey, white = self._style(**heading, bg_color="#D9D9D9"), self._style(**heading)
        for at, column in enumerate(columns):
            sheet.set_column(at, at, WIDTHS[column])
            title = self.words.columns[column][self.locale]
            sheet.write_string(0, at, title, white if column in ENTRIES else grey)
        for line, row in enumerate(rows.to_dict("records"), start=1):
            texts = [clean_text(str(row.get(column, ""))) for column in columns]
            widths = [WIDTHS[column] for column in columns]
            sheet.set_row(line, estimate_height(zip(texts, widths, strict=True), FONT_SIZE))
            for at, (column, text) in enumerate(zip(columns, texts, strict=True)):
                look = open_ if column in ENTRIES else locked
                if text:
                    sheet.write_string(line, at, text, look)
                else:
                    sheet.write_blank(line, at, None, look)
        sheet.freeze_panes(1, columns.index("household") + 1)
        sheet.autofilter(0, 0, max(len(rows), 1), len(columns) - 1)
        sheet.set_landscape()
        sheet.set_paper(LANDSCAPE_A4)
        sheet.repeat_rows(0)
        sheet.fit_to_pages(1, 0)
        sheet.set_footer(f"&R{self.text('page').format(page='&P', pages='&N')}")
        sheet.protect("", dict.fromkeys(("format_columns", "format_rows", "autofilter"), True))
