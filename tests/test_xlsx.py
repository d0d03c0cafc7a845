"""The officers' workbook, opened by a second library: what it shows, what it never shows, how it prints."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
import stat
import tempfile
import zipfile

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from card_samples import AS_OF, make_bare_card, make_card, make_facts, make_run
from poverty_risk.baselines import OfficeRules
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.report import cover
from poverty_risk.report.facts import VisitFacts
from poverty_risk.report.health import tells_of_health
from poverty_risk.report.list_view import build_list_cells
from poverty_risk.report.row_heights import estimate_height
from poverty_risk.report.sheets import (
    FEEDBACK,
    LISTS_SHEET,
    LOCKED,
    RECORD_SHEET,
    clean_text,
    name_sheets,
    read_value,
)
from poverty_risk.report.xlsx import write_workbook
from poverty_risk.wording import LOCALES, load_locale

KEY = b"0123456789abcdef"
STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
TITLES = [*LOCKED, *FEEDBACK]
NASTY = st.text(
    st.characters(exclude_categories=()) | st.sampled_from([*"=+-@\t\r\n'\"<&_x", "\x00", "\ud800"])
)


def at(column):
    """Letter of a column: 13 locked ones from A, then the feedback from N."""
    return "ABCDEFGHIJKLMNOPQRS"[TITLES.index(column)]


@pytest.fixture(scope="module", params=LOCALES)
def locale(request):
    return request.param


@pytest.fixture(scope="module")
def texts(locale):
    return load_locale(locale)["workbook"]


@pytest.fixture(scope="module")
def path(tmp_path_factory, locale):
    facts = make_facts(locale, 12)
    cards = [
        dataclasses.replace(card, township="T/1" if card.order % 2 else card.township)
        for card in facts.cards
    ]
    folder = tmp_path_factory.mktemp(locale)
    return write_workbook(VisitFacts(facts.run, tuple(cards)), folder / "visits.xlsx", KEY)


@pytest.fixture(scope="module")
def book(path):
    return openpyxl.load_workbook(path)


@pytest.fixture(scope="module")
def sheet(book):
    return book["T 1"]


def column(sheet, name):
    return [cell.value for cell in sheet[at(name)][1:]]


# -------------------------------------------------------------------------------------- what it says


def test_one_sheet_per_township_between_cover_and_hidden_sheets(book, texts, locale):
    other = make_card(locale).township
    shown = [s.title for s in book if s.sheet_state == "visible"]
    assert shown[0] == texts["sheets"]["cover"]
    assert set(shown[1:]) - {texts["sheets"]["guide"]} == {"T 1", other}
    assert {s.title for s in book if s.sheet_state == "hidden"} == {LISTS_SHEET, RECORD_SHEET}


def test_headings_and_rows(sheet, texts, locale):
    words = load_locale(locale)
    assert [cell.value for cell in sheet[1]] == [texts["columns"][name] for name in TITLES]
    # Odd numbers of 12; 10 to 12 are the reserve.
    assert column(sheet, "order") == [1, 3, 5, 7, 9, 11]
    visit, reserve = texts["standing"]["visit"], texts["standing"]["reserve"]
    assert column(sheet, "standing") == [visit] * 5 + [reserve]
    assert column(sheet, "pseudonym")[1] == f"{3:020x}"
    # Tiers go round red, orange, yellow, green: odd numbers are red and yellow.
    red, yellow = (f"{s} {words['tiers'][t]}" for s, t in (("■", "red"), ("◆", "yellow")))
    assert column(sheet, "tier") == [red, yellow] * 3
    # Due 5 * (order mod 3 + 1) days after 1 January; the reserve has no date.
    assert column(sheet, "due")[:2] == ["2024-01-11", "2024-01-06"]
    assert column(sheet, "due")[-1] is None
    assert [column(sheet, name) for name in FEEDBACK] == [[None] * 6] * 6
    assert sheet["A7"].font.italic
    assert not sheet["A6"].font.italic


def test_risk_in_words():
    # 1/2 is 50 of 100; 0.0136 is under 2 %: 14 of 1,000; none without a model's risk.
    for risk, told in ((0.5, "about 50 of 100"), (0.0136, "about 14 of 1,000")):
        assert build_list_cells(make_card("en", risk=risk), "en")["risk"].split() == told.split()
    assert build_list_cells(make_bare_card("en"), "en")["risk"] == "no risk from the model"


def test_checks_are_told_without_departments_and_shortly(locale):
    words = load_locale(locale)
    proof = words["reasons"]["proof"].format(departments=words["proof"]["themes"]["income"][0])
    checks = [
        words["card_texts"]["check"].format(check=check, proof=proof)
        for check in words["verify"]["income"]
    ]
    assert len(checks) == 4
    told = build_list_cells(make_card(locale, checks=tuple(checks)), locale)["verify"].split("\n")
    more = words["workbook"]["see_card"]
    assert told == [*(f"□ {check}" for check in words["verify"]["income"][:3]), more]


def test_cover_tells_what_the_list_is_and_is_not(book, texts, locale):
    sheet = book[texts["sheets"]["cover"]]
    told = [str(cell.value) for row in sheet for cell in row if cell.value is not None]
    joined = "\n".join(told)
    for text in (*texts["cover"]["never"], *texts["cover"]["how"], *texts["cover"]["fill"]):
        assert text in joined
    assert load_locale(locale)["notice"] in told
    values = {row[0].value: row[1].value for row in sheet if row[0].value}
    assert values[texts["cover"]["model"]] == "m-20231201"
    assert values[texts["cover"]["snapshot"]] == "ee02a0ee1133"
    figures = texts["cover"]["figures"]
    assert [values[figures[way]] for way in figures] == ["8", "5", "2"]
    # 84 not in the cohort are told, few are not; 9 visits and 3 in reserve are below ten.
    status, few = load_locale(locale)["status"], load_locale(locale)["page"]["few"]
    assert values[status["not_in_cohort"]] == texts["cover"]["households"].format(count=84)
    assert values[status["error"]] == values[texts["cover"]["visits"]] == few
    # The last card of each tier with a date: numbers 9, 6, 7 and 8, due 5 * (number mod 3 + 1) days
    # after the as-of date.
    due = [texts["cover"]["days"].format(count=5 * (n % 3 + 1)) for n in (9, 6, 7, 8)]
    days = [
        values[f"{texts['shapes'][t]} {load_locale(locale)['tiers'][t]}"]
        for t in load_locale(locale)["tiers"]
    ]
    assert days == due


def test_deadlines_are_those_of_the_cards():
    cards = [
        make_card("en", tier="red", due_date=AS_OF + pd.Timedelta(days=3)),
        make_card("en", order=2, tier="green", due_date=AS_OF + pd.Timedelta(days=45)),
    ]
    told = read_cover(VisitFacts(make_run("en"), tuple(cards)))
    assert told["■ red"] == "3 days of the as-of date"
    assert told["● green"] == "45 days of the as-of date"
    assert told["▲ orange"] == "none this time"


def read_cover(facts):
    sheet = openpyxl.load_workbook(written(facts))["Cover"]
    return {row[0].value: row[1].value for row in sheet if row[0].value}


def written(facts, key=None):
    with tempfile.TemporaryDirectory() as folder:
        return io.BytesIO(write_workbook(facts, f"{folder}/v.xlsx", key).read_bytes())


def test_guide_has_a_sheet_of_its_own_when_the_package_holds_one(monkeypatch):
    monkeypatch.setattr(cover, "_read_guide", lambda locale: "# Head\nFirst line\n=2+2")
    book = openpyxl.load_workbook(written(make_facts("en", 4)))
    assert book.sheetnames[1] == "Guide"
    assert [row[0].value for row in book["Guide"]] == ["Head", "First line", "'=2+2"]
    monkeypatch.setattr(cover, "_read_guide", lambda locale: "")
    assert "Guide" not in openpyxl.load_workbook(written(make_facts("en", 4))).sheetnames


# ------------------------------------------------------------------------------------- health detail


def test_whatever_tells_of_health_is_recognised(locale):
    words = load_locale(locale)
    rules = {rule.code: getattr(rule, locale) for rule in OfficeRules.load().rules}
    told = [*words["verify"]["health"], rules["R4"], rules["R5"], rules["R10"]]
    told += [words["risk_types"]["illness"], words["risk_types"]["disability"]]
    assert [text for text in told if not tells_of_health(text)] == []
    plain = [*words["verify"]["income"], *words["verify"]["housing"], *words["verify"]["water"]]
    plain += [rules[code] for code in ("R1", "R2", "R3", "R6", "R7", "R9", "R11", "R12")]
    assert [text for text in plain if tells_of_health(text)] == []


def test_list_shows_no_health_detail(locale):
    words = load_locale(locale)
    rules = {rule.code: getattr(rule, locale) for rule in OfficeRules.load().rules}
    secret = [rules["R5"], *words["verify"]["health"]]
    card = make_card(
        locale,
        rules=(rules["R5"], rules["R9"]),
        checks=(*words["verify"]["health"], words["verify"]["water"][0]),
        data_gaps=(words["verify"]["health"][0],),
    )
    cells = build_list_cells(card, locale)
    # Not even that something is left out: on a list that would tell as much.
    assert cells["rules"] == rules["R9"]
    assert cells["verify"] == f"□ {words['verify']['water'][0]}"
    assert cells["gaps"] == ""
    # Nor anywhere else in the file: reasons, options, comparators.
    archive = zipfile.ZipFile(written(VisitFacts(make_run(locale), (card,))))
    everything = "".join(archive.read(name).decode() for name in archive.namelist())
    secret += [reason.text for reason in card.reasons] + [option.text for option in card.options]
    assert [text for text in secret if text in everything] == []


# ------------------------------------------------------------------------------------ how it behaves


def test_print_set_up(sheet, texts, locale):
    assert sheet.page_setup.orientation == "landscape"
    assert str(sheet.page_setup.paperSize) == sheet.PAPERSIZE_A4
    assert sheet.sheet_properties.pageSetUpPr.fitToPage
    assert (sheet.page_setup.fitToWidth or 1, sheet.page_setup.fitToHeight) == (1, 0)
    assert sheet.print_title_rows == "$1:$1"
    assert sheet.print_area == "'T 1'!$A$1:$S$7"
    assert texts["print"]["notice"] in sheet.oddFooter.left.text
    assert "&P" in sheet.oddFooter.right.text
    assert "&N" in sheet.oddFooter.right.text
    assert "2024-01-01" in sheet.oddHeader.right.text


def test_heading_is_frozen_and_filters_are_set(sheet):
    assert sheet.freeze_panes == "E2"
    assert sheet.auto_filter.ref == "A1:S7"


def test_only_feedback_cells_are_unlocked(sheet):
    assert sheet.protection.sheet
    assert sheet.protection.password is None
    # In these flags True means forbidden.
    assert not sheet.protection.autoFilter
    assert not sheet.protection.sort
    unlocked = {
        cell.column_letter for row in sheet["A2:S7"] for cell in row if not cell.protection.locked
    }
    assert unlocked == set("NOPQRS")


def test_drop_downs_and_validation(book, sheet, texts, locale):
    found = {str(rule.sqref): rule for rule in sheet.data_validations.dataValidation}
    ranges = {name: f"{at(name)}2:{at(name)}7" for name in FEEDBACK}
    assert set(found) == set(ranges.values())
    dates = found[ranges["visited_on"]]
    # 1 January 2024 is day 45292 of a spreadsheet (25569 is 1 January 1970).
    assert (dates.type, dates.operator) == ("date", "greaterThanOrEqual")
    assert float(dates.formula1) == 25569 + (AS_OF - pd.Timestamp("1970-01-01")).days
    words = load_locale(locale)
    lists = {
        "found_true": texts["found_true"], "risk_type": words["risk_types"],
        "measure": texts["measures"],
    }  # fmt: skip
    for name, choices in lists.items():
        rule = found[ranges[name]]
        assert rule.type == "list"
        area = rule.formula1.split("!")[1].replace("$", "")
        values = [cell.value for (cell,) in book[LISTS_SHEET][area]]
        assert values == list(choices.values())
    for name in ("disagree", "note"):
        assert (found[ranges[name]].type, found[ranges[name]].formula1) == ("textLength", "500")
    for rule in found.values():
        assert rule.prompt
        assert rule.showErrorMessage


def test_tiers_differ_without_colours():
    facts = make_facts("en", 4)
    cards = tuple(dataclasses.replace(card, is_reserve=False) for card in facts.cards)
    township = cards[0].township
    sheet = openpyxl.load_workbook(written(VisitFacts(facts.run, cards)))[township]
    cells = sheet[at("tier")][1:]
    assert len({cell.value.split()[0] for cell in cells}) == 4

    def brightness(cell):
        red, green, blue = (
            int(cell.fill.fgColor.rgb[i : i + 2], 16) if cell.fill.fill_type == "solid"
            else int(cell.fill.bgColor.rgb[i : i + 2], 16) for i in (2, 4, 6)
        )  # fmt: skip
        return 0.299 * red + 0.587 * green + 0.114 * blue

    greys = [brightness(cell) for cell in cells]
    assert all(b - a > 25 for a, b in itertools.pairwise(greys))
    assert cells[2].fill.fill_type == "gray0625"
    assert cells[0].font.color.rgb == "FFFFFFFF"


def test_no_formula_anywhere(book):
    kinds = {cell.data_type for sheet in book for row in sheet for cell in row}
    assert kinds == {"s", "n"}


def test_the_same_facts_give_the_same_bytes(tmp_path):
    facts = make_facts("en", 4)
    first, second = (write_workbook(facts, tmp_path / n, KEY).read_bytes() for n in ("a", "b"))
    assert first == second


def test_file_is_private_and_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "visits.xlsx"
    write_workbook(make_facts("en", 4), path)
    write_workbook(make_facts("en", 8), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["visits.xlsx"]


def test_unwritable_path_and_short_key_are_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PovertyRiskError, match="workbook .* expected a file to write"):
        write_workbook(make_facts("en", 4), tmp_path / "file" / "v.xlsx")
    with pytest.raises(PovertyRiskError, match="key: found 5 bytes; expected >= 16 bytes"):
        write_workbook(make_facts("en", 4), tmp_path / "v.xlsx", b"short")


# ------------------------------------------------------------------------------------- nasty texts


@pytest.mark.parametrize("start", STARTS)
def test_text_that_looks_like_a_formula_stays_text(tmp_path, start):
    nasty = f"{start}HYPERLINK(1)"
    card = make_card(
        "en", rules=(nasty,), checks=(nasty,), village=nasty, township=nasty, data_gaps=(nasty,)
    )
    facts = VisitFacts(make_run("en", model_id=nasty, place=nasty), (card,))
    book = openpyxl.load_workbook(write_workbook(facts, tmp_path / "v.xlsx"))
    assert {cell.data_type for sheet in book for row in sheet for cell in row} <= {"s", "n"}
    # Saved as CSV and read by a spreadsheet, no field begins like a formula either.
    fields = io.StringIO()
    for sheet in book:
        csv.writer(fields).writerows([["" if v is None else v for v in r] for r in sheet.values])
    values = [value for row in csv.reader(io.StringIO(fields.getvalue())) for value in row]
    assert [value for value in values if value.startswith(STARTS)] == []
    # Tabs and carriage returns are gone; what else may begin a formula stands behind an apostrophe.
    assert ("HYPERLINK(1)" if start.isspace() else f"'{nasty}") in values


@settings(max_examples=8, deadline=None)
@given(texts=st.lists(NASTY, min_size=5, max_size=5), place=NASTY)
def test_any_text_reads_back_as_the_same_string(texts, place):
    card = make_card(
        "en", village=texts[0], rules=(texts[1],), tier_label=texts[2], household=texts[3],
        data_gaps=(texts[4],), township=place,
    )  # fmt: skip
    book = openpyxl.load_workbook(written(VisitFacts(make_run("en"), (card,))))
    name = name_sheets([place], "place not on record", ["Cover", "Guide", "To correct"])[place]
    expected = build_list_cells(card, "en")
    for column_name in LOCKED:
        cell = book[name][f"{at(column_name)}2"]
        assert read_value(cell.value) == expected[column_name]
        assert cell.data_type in "sn"


@settings(deadline=None)
@given(NASTY)
def test_cleaning_a_clean_text_changes_nothing(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert not cleaned.startswith(STARTS)
    assert len(cleaned) <= 2000


@settings(deadline=None)
@given(st.lists(st.text() | st.sampled_from(["a/b", "A:B", "'", "History"]), unique=True))
def test_sheet_names_are_what_a_spreadsheet_takes(places):
    names = list(name_sheets(places, "unknown", ["Cover"]).values())
    assert len({name.casefold() for name in [*names, "Cover", "History"]}) == len(names) + 2
    for name in names:
        assert 0 < len(name.encode("utf-16-le")) // 2 <= 31
        assert not re.search(r"[\[\]:*?/\\]", name)
        assert not name.startswith("'")
        assert not name.endswith("'")


def test_rows_are_tall_enough():
    # 20 units are 136 pixels without the margins; 10 points are 13.3 pixels: 10 wide characters.
    def lines(text):
        return round((estimate_height([(text, 20)], 10) - 3) / 13.3)

    assert [lines("\u6c34" * n) for n in (1, 10, 11, 21)] == [1, 1, 2, 3]
    # Half as wide: 20 letters; a word goes to the next line whole, a longer one is broken.
    assert [lines(text) for text in ("a" * 20, "a" * 21, "aaaa " * 4, "aaaa " * 5)] == [1, 2, 1, 2]
    assert estimate_height([("a\n" * 1000, 20)], 10) == 409
