"""Filled workbooks come back: what is imported, what is refused, and that twice changes nothing."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import zipfile

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from card_samples import make_card, make_run
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.report.entries import read_date
from poverty_risk.report.facts import VisitFacts
from poverty_risk.report.feedback import merge_feedback, read_feedback, write_feedback_errors
from poverty_risk.report.sheets import FEEDBACK, LOCKED, RECORD_SHEET
from poverty_risk.report.xlsx import write_workbook
from poverty_risk.schema import load_schema
from poverty_risk.validation import validate_table
from poverty_risk.wording import LOCALES, load_locale

KEY = b"0123456789abcdef"
TITLES = [*LOCKED, *FEEDBACK]
WHY = ("rule", "risk", "minimum", "random", "rule", "rule")
PSEUDONYMS = [f"{n:020x}" for n in range(1, 7)]
LOOKUP = pd.DataFrame({"pseudonym": PSEUDONYMS, "household_id": [f"H{n}" for n in range(1, 7)]})
VISITED, TODAY = "2024-03-05", "2024-04-01"
FULL = {"visited_on": VISITED, "found_true": "yes"}


def make_workbook(path, locale="en", key=KEY, **changes):
    """Six households of one township, in rows 2 to 7, visited for all four reasons."""
    cards = tuple(
        make_card(locale, order=n, pseudonym=f"{n:020x}", why=why, township="T")
        for n, why in enumerate(WHY, start=1)
    )
    return write_workbook(VisitFacts(make_run(locale, **changes), cards), path, key)


def column_of(name):
    return TITLES.index(name) + 1


def fill(path, rows, change=None):
    """Fill in rows of the township's sheet, as an officer would; `change` does what else happened."""
    book = openpyxl.load_workbook(path)
    for row, entries in rows.items():
        for name, value in entries.items():
            book["T"].cell(row, column_of(name), value)
    if change is not None:
        change(book)
    book.save(path)
    return path


def read(path, **changes):
    return read_feedback(path, **{"lookup": LOOKUP, "imported_on": TODAY, "key": KEY} | changes)


@pytest.fixture
def path(tmp_path):
    return make_workbook(tmp_path / "visits.xlsx")


def codes(feedback):
    return feedback.errors["code"].tolist()


# ------------------------------------------------------------------------------------- what is read


def test_untouched_workbook_says_nothing(path):
    feedback = read(path)
    assert (len(feedback.outcomes), len(feedback.visits), len(feedback.errors)) == (0, 0, 0)
    assert feedback.not_visited == 6
    assert feedback.notes == ()


def test_visits_are_records_of_the_archive(path):
    found = ["yes", "partly", "no", "not at home", "yes"]
    rows = {n + 2: {"visited_on": VISITED, "found_true": f} for n, f in enumerate(found)}
    rows[4]["disagree"] = "work again"
    feedback = read(fill(path, rows))
    assert codes(feedback) == []
    # Nobody looked where nobody was at home: no visit; by reason: rule, risk, minimum, random, rule.
    visits = feedback.visits
    assert visits["household_id"].tolist() == ["H1", "H2", "H3", "H5"]
    assert visits["purpose"].tolist() == ["alert", "alert", "routine", "alert"]
    assert visits["difficulty_found"].tolist() == [True, True, False, True]
    assert set(visits["event_date"]) == {pd.Timestamp(VISITED)}
    assert set(visits["known_date"]) == {pd.Timestamp(TODAY)}
    assert feedback.outcomes["purpose"].tolist()[3] == "random"
    assert feedback.outcomes["found_true"].tolist()[3] == "not_at_home"
    assert feedback.outcomes["disagree"].tolist()[2] == "work again"
    assert feedback.not_visited == 1
    table = validate_table("visit", load_schema("archive").tables["visit"], pa.table(visits))
    assert (table.accepted.num_rows, len(table.rejected)) == (4, 0)


@pytest.mark.parametrize("locale", LOCALES)
def test_entries_of_every_drop_down_are_read_back_as_codes(tmp_path, locale):
    words = load_locale(locale)
    texts = words["workbook"]
    path = make_workbook(tmp_path / "v.xlsx", locale)
    entries = {
        "visited_on": VISITED, "found_true": texts["found_true"]["partly"],
        "risk_type": f" {words['risk_types']['job_loss']} ", "measure": texts["measures"]["water"],
    }  # fmt: skip
    outcome = read(fill(path, {2: entries})).outcomes.iloc[0]
    assert outcome[["found_true", "risk_type", "measure"]].tolist() == [
        "partly",
        "job_loss",
        "water",
    ]
    # Names are told apart in both languages together, and each code has one.
    for names in (texts["found_true"], texts["measures"], words["risk_types"]):
        assert len({name.casefold() for name in names.values()}) == len(names)


@pytest.mark.parametrize(
    "typed",
    [
        "2024年3月5日", "2024.3.5", "2024-03-05", "2024/3/5", "20240305", 20240305, 45356, 45356.4,
        "２０２４年３月５日", " 2024 年 3 月 5 日", "2024-03-05 00:00:00", "5 March 2024",
        "March 5, 2024", pd.Timestamp("2024-03-05 14:30").to_pydatetime(), dt.date(2024, 3, 5), "2024年3月5号", "45356",
    ],
)  # fmt: skip
def test_dates_as_officers_type_them(typed):
    # 45356 = 45292 (1 January 2024) + 31 + 29 + 4.
    assert read_date(typed) == dt.date(2024, 3, 5)


@pytest.mark.parametrize(
    "typed", ["05/03/2024", "3月5日", "24.3.5", "2024-13-05", "2024-02-30", "soon", 5, True, ""]
)
def test_what_is_no_date_is_none(typed):
    assert read_date(typed) is None


@given(st.dates(dt.date(1990, 1, 1), dt.date(2100, 1, 1)), st.sampled_from("-./"))
def test_any_date_is_read_back(date, separator):
    assert read_date(f"{date.year}{separator}{date.month}{separator}{date.day}") == date
    assert read_date((date - dt.date(1899, 12, 30)).days) == date


@given(st.text())
def test_no_text_makes_the_date_reader_fail(text):
    assert read_date(text) is None or re.search(r"\d", text)


def test_dates_count_from_1904_where_the_workbook_says_so(path):
    def change(book):
        book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904

    # 1462 days lie between the two calendars.
    feedback = read(fill(path, {2: {"visited_on": 45356 - 1462, "found_true": "yes"}}, change))
    assert feedback.visits["event_date"].tolist() == [pd.Timestamp(VISITED)]


# ------------------------------------------------------------------------------ what officers change


def test_sorted_rows_and_further_columns_change_nothing(path):
    def change(book):
        sheet = book["T"]
        rows = [[cell.value for cell in row] for row in sheet["A2:S7"]]
        for line, values in enumerate(reversed(rows), start=2):
            for at, value in enumerate(values, start=1):
                sheet.cell(line, at).value = value
        sheet.insert_cols(3)
        sheet.cell(1, 3, "Telephone")
        sheet.cell(4, 3, "none")
        sheet.insert_rows(1)
        sheet.cell(1, 1, "for Mr. Li")
        sheet.row_dimensions[5].hidden = True
        sheet.title = "renamed"

    feedback = read(fill(path, {2: FULL, 3: {**FULL, "visited_on": "2024.3.6"}}, change))
    assert codes(feedback) == []
    assert sorted(feedback.visits["household_id"]) == ["H1", "H2"]
    told = 'sheet "renamed" has a further column "Telephone", which was not read'
    assert feedback.notes == (told,)


def test_deleted_rows_and_columns_and_sheets_of_others_are_told(path):
    def change(book):
        book["T"].delete_rows(6, 2)
        book["T"].delete_cols(column_of("gaps"))
        book.create_sheet("own")["A1"] = "notes"

    feedback = read(fill(path, {2: FULL}, change))
    assert feedback.visits["household_id"].tolist() == ["H1"]
    assert feedback.notes == (
        'sheet "T" lacks the column "Missing information", which was not compared',
        'sheet "own" is no visit list and was not read',
        "households that are not in the sheets handed in: 2",
    )


def test_a_row_pasted_twice_counts_once_unless_it_says_something_else(path):
    def copy(book):
        sheet = book["T"]
        for row, note in ((8, None), (9, "other")):
            source = 2 if row == 8 else 3
            for at in range(1, 20):
                sheet.cell(row, at, sheet.cell(source, at).value)
            sheet.cell(row, column_of("note"), note)

    feedback = read(fill(path, {2: FULL, 3: FULL}, copy))
    assert feedback.visits["household_id"].tolist() == ["H1"]
    assert [(e.row, e.code) for e in feedback.errors.itertuples()] == [
        (3, "repeated"), (9, "repeated")
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ what is wrong

FAULTS = {
    "date_missing": {"found_true": "yes"},
    "result_missing": {"visited_on": VISITED},
    "date_before_round": {**FULL, "visited_on": "2023-12-31"},
    "date_after_import": {**FULL, "visited_on": "2024-04-02"},
    "date_unreadable": {**FULL, "visited_on": "last week"},
    "unknown_choice": {**FULL, "measure": "money"},
    "reason_missing": {"visited_on": VISITED, "found_true": "no"},
    "too_long": {**FULL, "note": "x" * 501},
    "formula": {**FULL, "note": "=1+1"},
    "locked_changed": {**FULL, "village": "elsewhere"},
    "unknown_pseudonym": {**FULL, "pseudonym": "0" * 20},
}


@pytest.mark.parametrize("code", FAULTS)
def test_faulty_row_is_told_and_the_others_are_imported(path, code):
    feedback = read(fill(path, {2: FULL, 3: FAULTS[code]}))
    assert codes(feedback) == [code]
    fault = feedback.errors.iloc[0]
    assert (fault["sheet"], fault["row"]) == ("T", 3)
    assert fault[["column", "found", "expected", "remedy"]].str.len().min() > 0
    assert feedback.visits["household_id"].tolist() == ["H1"]


def test_first_and_last_possible_day_are_accepted(path):
    rows = {2: {**FULL, "visited_on": "2024-01-01"}, 3: {**FULL, "visited_on": TODAY}}
    feedback = read(fill(path, rows))
    assert codes(feedback) == []
    assert (feedback.visits["event_date"] <= feedback.visits["known_date"]).all()


def test_household_that_is_not_in_the_lookup_is_told(path):
    feedback = read(fill(path, {2: FULL}), lookup=LOOKUP.iloc[:5])
    assert codes(feedback) == ["unknown_household"]
    assert feedback.errors["row"].tolist() == [7]
    assert len(feedback.visits) == 1


def test_all_faults_of_a_row_are_told_in_the_language_of_the_workbook(tmp_path):
    path = fill(make_workbook(tmp_path / "v.xlsx", "zh"), {2: {"village": "X", "note": "到过"}})
    errors = read(path).errors
    assert errors["code"].tolist() == ["locked_changed", "date_missing", "result_missing"]
    assert errors["column"].tolist() == ["村", "走访日期", "是否属实"]
    assert errors["expected"].iloc[0] == "与发出时相同：东沟村"


def record_cell(book, pseudonym, heading):
    sheet = book[RECORD_SHEET]
    start = next(r for r in range(1, 20) if sheet.cell(r, 2).value == "why_code")
    at = next(c for c in range(1, 30) if sheet.cell(start, c).value == heading)
    key = next(c for c in range(1, 30) if sheet.cell(start, c).value == "pseudonym")
    row = next(r for r in range(start, 40) if sheet.cell(r, key).value == pseudonym)
    return sheet.cell(row, at)


@pytest.mark.parametrize("heading", ["why_code", "tier_code", "village"])
def test_changed_hidden_record_of_a_household_is_recognised(path, heading):
    def change(book):
        record_cell(book, PSEUDONYMS[0], heading).value = "random"
        if heading == "village":
            book["T"].cell(2, column_of("village"), "random")

    feedback = read(fill(path, {2: FULL, 3: FULL}, change))
    assert codes(feedback) == ["record_changed"]
    assert feedback.visits["household_id"].tolist() == ["H2"]


def test_changed_round_is_refused(path):
    def change(book):
        book[RECORD_SHEET]["B3"] = "2020-01-01"

    with pytest.raises(PovertyRiskError, match="a hidden record that was changed, or another key"):
        read(fill(path, {}, change))


def test_key_has_to_be_the_one_that_it_was_written_with(tmp_path, path):
    with pytest.raises(PovertyRiskError, match="checksums made with a key; expected that key"):
        read(path, key=None)
    with pytest.raises(PovertyRiskError, match="changed, or another key"):
        read(path, key=b"another key of the office")
    plain = make_workbook(tmp_path / "plain.xlsx", key=None)
    assert read(plain, key=None).not_visited == 6
    with pytest.raises(PovertyRiskError, match="checksums without a key; expected with the key"):
        read(plain)


def test_missing_feedback_column_is_told_as_a_whole(path):
    def change(book):
        book["T"].cell(1, column_of("note"), "Remarks")
        book["T"].cell(1, column_of("pseudonym"), "Note 2")

    with pytest.raises(PovertyRiskError, match=r"(?s)2 problems.*'Pseudonym' 0.*'Note' 0 times"):
        read(fill(path, {2: FULL}, change))


def test_faulty_lookup_and_day_are_told(path):
    with pytest.raises(PovertyRiskError, match="lookup: found no household_id"):
        read(path, lookup=LOOKUP[["pseudonym"]])
    twice = pd.concat([LOOKUP, LOOKUP.assign(household_id="H9")])
    with pytest.raises(PovertyRiskError, match="found 6 pseudonyms of several households"):
        read(path, lookup=twice)
    with pytest.raises(PovertyRiskError, match="imported_on: found no date"):
        read(path, imported_on="yesterday evening")


# ----------------------------------------------------------------------------------- handed in again


def test_importing_twice_changes_nothing(path):
    fill(path, {2: FULL, 3: {**FULL, "found_true": "not at home"}})
    once = merge_feedback(None, read(path))
    for day in (TODAY, "2024-04-20"):
        again = merge_feedback(once, read(path, imported_on=day))
        pd.testing.assert_frame_equal(again.outcomes, once.outcomes)
        pd.testing.assert_frame_equal(again.visits, once.visits)
    assert once.outcomes["record_id"].is_unique


def test_both_languages_of_a_round_are_one_record(tmp_path, path):
    other = fill(
        make_workbook(tmp_path / "zh.xlsx", "zh"), {2: {"visited_on": VISITED, "found_true": "是"}}
    )
    merged = merge_feedback(read(fill(path, {2: FULL})), read(other))
    assert len(merged.outcomes) == 1


def test_correction_on_the_same_day_of_visit_stays_beside_what_was_known(path):
    first = read(fill(path, {2: FULL}))
    corrected = fill(path, {2: {"found_true": "no", "disagree": "a mistake"}})
    merged = merge_feedback(first, read(corrected, imported_on="2024-05-01"))
    assert merged.visits["difficulty_found"].tolist() == [True, False]
    known = merged.visits["known_date"].astype(str).tolist()
    assert known == ["2024-04-01", "2024-05-01"]
    # The archive takes the second for a correction of the first: same key, known later.
    table = load_schema("archive").tables["visit"]
    accepted = validate_table("visit", table, pa.table(merged.visits)).accepted.to_pandas()
    assert accepted["superseded_date"].astype(str).tolist()[0][:10] == "2024-05-01"
    # On one and the same day the version handed in last counts.
    assert merge_feedback(first, read(corrected)).visits["difficulty_found"].tolist() == [False]


def test_corrected_date_replaces_the_visit_and_old_files_do_not_bring_it_back(tmp_path, path):
    first = read(fill(path, {2: FULL}))
    second = read(fill(path, {2: {"visited_on": "2024-03-06"}}), imported_on="2024-05-01")
    merged = merge_feedback(first, second)
    assert merged.visits["event_date"].astype(str).tolist() == ["2024-03-06"]
    again = merge_feedback(merged, first)
    pd.testing.assert_frame_equal(again.visits, merged.visits)


def test_nobody_at_home_after_all_is_no_visit(path):
    first = read(fill(path, {2: FULL}))
    second = read(fill(path, {2: {"found_true": "not at home"}}), imported_on="2024-05-01")
    assert len(merge_feedback(first, second).visits) == 0


def test_faulty_rows_are_corrected_and_handed_in_again(tmp_path, path):
    rows = {n: FAULTS[c] for n, c in enumerate(
        ("reason_missing", "locked_changed", "unknown_pseudonym", "formula"), start=2
    )}  # fmt: skip
    first = read(fill(path, {**rows, 7: FULL}))
    assert len(first.visits) == 1
    out = write_feedback_errors(first, tmp_path / "faults.xlsx")
    book = openpyxl.load_workbook(out)
    sheet = book["To correct"]
    assert sheet.max_row == 5
    titles = {cell.value: cell.column for cell in sheet[1]}
    told = sheet.cell(2, titles["What to correct"]).value
    assert told.startswith("Reason for disagreeing: empty; expected: a reason for disagreeing.")
    # What was changed is as it was handed out; what was typed is as it came back.
    assert sheet.cell(3, titles["Village"]).value == "Donggou"
    assert sheet.cell(3, titles["Visited on"]).value == pd.Timestamp(VISITED)
    assert sheet.cell(3, titles["Found true"]).value == "yes"
    assert {c.data_type for row in sheet for c in row} <= {"s", "n", "d"}
    # Handed in uncorrected, only what is restored already passes, and the formula that is gone.
    again = read(out)
    assert codes(again) == ["reason_missing", "unknown_pseudonym"]
    assert again.visits["household_id"].tolist() == ["H2", "H4"]
    sheet.cell(2, titles["Reason for disagreeing"], "lives in town now")
    # The code of nobody can be corrected where it stands, to that of the household without a row.
    assert not sheet.cell(4, titles["Pseudonym"]).protection.locked
    assert sheet.cell(3, titles["Pseudonym"]).protection.locked
    sheet.cell(4, titles["Pseudonym"], PSEUDONYMS[2])
    book.save(out)
    corrected = read(out)
    assert codes(corrected) == []
    assert "H3" in corrected.outcomes["household_id"].tolist()


def test_feedback_that_was_not_read_has_no_faults_to_write(tmp_path, path):
    feedback = dataclasses.replace(read(path), returned=None)
    with pytest.raises(PovertyRiskError, match="feedback: found no rows"):
        write_feedback_errors(feedback, tmp_path / "faults.xlsx")


# ----------------------------------------------------------------------------------- foreign files

OLE = bytes.fromhex("d0cf11e0a1b11ae1")
FOREIGN = {
    "another kind of file": b"name,visited\n",
    "the old .xls format": OLE + b"\0" * 600 + "Workbook".encode("utf-16-le"),
    "protected by a password": OLE + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"),
    "damaged": b"PK\x03\x04 cut short",
}


@pytest.mark.parametrize("found", FOREIGN)
def test_foreign_files_are_refused(tmp_path, found):
    path = tmp_path / "v.xlsx"
    path.write_bytes(FOREIGN[found])
    with pytest.raises(PovertyRiskError, match=f"workbook 'v.xlsx': found {found}"):
        read(path)


def test_missing_file_and_folder_are_told(tmp_path):
    with pytest.raises(PovertyRiskError, match="found No such file"):
        read(tmp_path / "none.xlsx")
    with pytest.raises(PovertyRiskError, match="expected a file to read"):
        read(tmp_path)


def repack(path, change):
    """The same archive with some parts changed: `change` gives new content by name, or None."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts | change(parts)).items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_workbook_of_others_is_refused(tmp_path):
    book = openpyxl.Workbook()
    book.save(tmp_path / "v.xlsx")
    with pytest.raises(PovertyRiskError, match="found no hidden record"):
        read(tmp_path / "v.xlsx")


def test_other_archives_and_newer_formats_are_refused(tmp_path, path):
    def newer(book):
        book[RECORD_SHEET]["B1"] = "99"

    with pytest.raises(PovertyRiskError, match="found format '99'; expected format '1'"):
        read(fill(make_workbook(tmp_path / "newer.xlsx"), {}, newer))
    with pytest.raises(PovertyRiskError, match="found no workbook in it"):
        read(repack(path, lambda parts: {"xl/workbook.xml": None}))


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/sharedStrings.xml"])
def test_damaged_parts_are_told(path, part):
    with pytest.raises(PovertyRiskError, match="found damaged"):
        read(repack(path, lambda parts: {part: parts[part][: len(parts[part]) // 2]}))


def test_bombs_are_refused_before_they_are_parsed(tmp_path, path):
    bomb = tmp_path / "bomb.xlsx"
    bomb.write_bytes(path.read_bytes())
    with (
        zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet9.xml", "w", force_zip64=True) as file,
    ):
        for _ in range(210):
            file.write(b" " * 1_000_000)
    with pytest.raises(PovertyRiskError, match="parts that unpack to 21"):
        read(bomb)


def test_huge_dimensions_are_refused(tmp_path, path):
    name = "xl/worksheets/sheet3.xml"

    def declare(parts):
        return {
            name: re.sub(rb'dimension ref="[^"]*"', b'dimension ref="A1:XFD1048576"', parts[name])
        }

    with pytest.raises(PovertyRiskError, match="a sheet of 1,048,576 rows and 16,384 columns"):
        read(repack(path, declare))


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        (b'<row r="900000"><c r="A900000"/></row>', "100,001 rows"),
        (b'<row r="100"><c r="XFD100"/></row>', "16,384 columns"),
    ],
)
def test_size_that_a_sheet_does_not_declare_is_refused_as_well(path, cell, found):
    def grow(parts):
        name = next(n for n in parts if n.startswith("xl/worksheets/") and b'r="S7"' in parts[n])
        return {name: parts[name].replace(b"</sheetData>", cell + b"</sheetData>")}

    with pytest.raises(PovertyRiskError, match=found):
        read(repack(path, grow))


def test_entities_are_refused(path):
    def add(parts):
        content = parts["xl/sharedStrings.xml"]
        return {"xl/sharedStrings.xml": content.replace(b"<sst", b"<!DOCTYPE x [ ]><sst", 1)}

    with pytest.raises(PovertyRiskError, match="a document type declaration"):
        read(repack(path, add))


def test_errors_hold_no_path_and_no_content(tmp_path):
    path = tmp_path / "v.xlsx"
    path.write_bytes(b"PK\x03\x04 secret household")
    with pytest.raises(PovertyRiskError, match="damaged") as caught:
        read(path)
    assert "secret" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
