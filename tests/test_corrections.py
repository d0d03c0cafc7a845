"""The workbook of findings, the summary by township, and the files of a check."""

import csv
import re
import stat

import openpyxl
import pandas as pd
import pytest

from consistency_cases import CASES, LINE, make_frames
from poverty_risk import HistoryTables, load_schema
from poverty_risk.consistency import check_consistency, load_consistency_rules
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.privacy import hash_id
from poverty_risk.report import corrections
from poverty_risk.report.corrections import (
    CorrectionWords,
    number_findings,
    tell_findings,
    write_corrections,
)
from poverty_risk.workflows.checks import check_history

KEY = b"0123456789abcdef"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
FEW = {"K041", "K081", "K091", "K121", "K131", "K132"}
HEADINGS = [
    *("编号", "规则", "程度", "问题", "编码", "农户", "村", "成员", "数据表", "日期", "现有值"),
    *("怎样更正", "更正单位", "更正后的值", "备注"),
]


@pytest.fixture(scope="module")
def tables() -> HistoryTables:
    frames = make_frames({code: case for code, case in CASES.items() if code in FEW})
    return HistoryTables.from_frames(frames, load_schema(), LINE, observed_to="2025-01-01")


@pytest.fixture(scope="module")
def report(tables):
    rules = load_consistency_rules()
    few = tuple(rule for rule in rules.rules if rule.code in FEW)
    return check_consistency(tables, rules=rules.model_copy(update={"rules": few}))


@pytest.fixture(scope="module")
def book(report, tmp_path_factory):
    path = write_corrections(report, tmp_path_factory.mktemp("book") / "zh.xlsx", KEY)
    return openpyxl.load_workbook(path)


def _cells(book) -> list[str]:
    return [str(cell.value) for sheet in book for row in sheet for cell in row if cell.value]


def _rows(book, sheet="T1") -> list[dict[str, object]]:
    lines = list(book[sheet].iter_rows(values_only=True))
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_one_row_per_finding_worst_first(book, report):
    rows = _rows(book)
    assert list(rows[0]) == HEADINGS
    assert sorted(row["规则"] for row in rows) == sorted(report.findings["code"])
    order = [["错误", "疑似", "待补"].index(row["程度"]) for row in rows]
    assert order == sorted(order)
    assert len(rows) > 5


def test_row_tells_all_that_is_needed_to_correct_it(book):
    row = next(row for row in _rows(book) if row["规则"] == "K081")
    assert row["问题"] == "自付费用大于总费用"
    assert row["编码"] == hash_id("K081-bad", KEY)
    assert row["农户"] == "K0***ad"
    assert row["成员"] == "K0***-1"
    assert row["数据表"] == "医疗费用"
    assert row["日期"] == "2023-05-05"
    assert row["现有值"] == "医疗总费用：1000；合规自付费用：1000.01"
    assert row["怎样更正"] == "核对结算单"
    assert row["更正单位"] == "医保局"
    assert row["更正后的值"] is None
    assert row["备注"] is None


def test_values_are_told_in_words(report):
    told = tell_findings(report, KEY, "en").set_index("code")
    assert told.loc["K091", "found"] == "house grade: C; guaranteed: yes"
    assert told.loc["K121", "found"] == "household status: dissolved"
    assert CorrectionWords.load().tell_value("labour", "ordinary", "zh") == "普通劳动力"
    assert CorrectionWords.load().tell_value("type_seen", "ordinary", "zh") == "一般农户"
    assert CorrectionWords.load().tell_value("wage", None, "en") == "blank"
    assert CorrectionWords.load().tell_value("risk_type", "illness", "zh") == "因病"


def test_entries_are_open_and_all_else_is_locked(book):
    sheet = book["T1"]
    assert sheet.protection.sheet
    locked = {sheet.cell(1, cell.column).value: cell.protection.locked for cell in sheet[2]}
    assert {name for name, shut in locked.items() if not shut} == {"更正后的值", "备注"}


def test_workbook_holds_no_id(book, tables):
    persons = set(tables["person"]["person_id"])
    text = "\n".join(_cells(book))
    assert not [name for name in (*tables.households, *persons) if f"{name}\n" in f"{text}\n"]
    # Villages are named after their households here: only whole ids count.
    assert "K081-bad-V" in text


def test_english_workbook_is_english(report, tmp_path):
    book = openpyxl.load_workbook(write_corrections(report, tmp_path / "en.xlsx", KEY, "en"))
    assert not CHINESE.search("\n".join(_cells(book)))
    assert book.sheetnames == ["About", "T1"]
    assert _rows(book)[0]["What is wrong"]


def test_same_findings_give_the_same_bytes(report, tmp_path):
    first = write_corrections(report, tmp_path / "a.xlsx", KEY).read_bytes()
    assert write_corrections(report, tmp_path / "b.xlsx", KEY).read_bytes() == first
    other = b"another secret of the office"
    assert write_corrections(report, tmp_path / "c.xlsx", other).read_bytes() != first


def test_number_stays_from_check_to_check(report, tables):
    numbers = number_findings(report.findings, KEY)
    assert numbers.is_unique
    assert numbers.str.fullmatch("[0-9a-f]{12}").all()
    rules = report.catalog.model_copy(update={"rules": (report.catalog["K081"],)})
    later = check_consistency(tables, "2026-01-01", rules)
    assert set(number_findings(later.findings, KEY)) < set(numbers)


def _visit(household: str, township: str) -> dict[str, pd.DataFrame]:
    days = {"event_date": "2023-05-01", "known_date": "2024-05-01"}
    place = {"township_id": township, "village_id": '=HYPERLINK("x")', "status": "active"}
    archive = {"household_id": [household], "event_date": "2019-01-01", "known_date": "2019-01-05"}
    return {
        "household": pd.DataFrame({**archive, **place}),
        "visit": pd.DataFrame({"household_id": [household], "purpose": "routine", **days}),
    }


def _check(frames):
    rules = load_consistency_rules()
    only = rules.model_copy(update={"rules": (rules["K134"], rules["K061"])})
    return check_consistency(HistoryTables.from_frames(frames, load_schema()), rules=only)


def test_formulas_are_neutralised(tmp_path):
    found = _check(_visit("=1+1", "@SUM(A1)/[x]:y"))
    book = openpyxl.load_workbook(write_corrections(found, tmp_path / "x.xlsx", KEY))
    cells = [cell for sheet in book for row in sheet for cell in row if cell.value]
    assert all(cell.data_type == "s" for cell in cells)
    assert not [cell.value for cell in cells if str(cell.value)[0] in "=+-@"]
    assert book.sheetnames[1] == "@SUM(A1)  x  y"
    assert '\'=HYPERLINK("x")' in _cells(book)


def test_rule_that_could_not_run_stands_on_the_cover(tmp_path):
    found = _check(_visit("a", "T1"))
    book = openpyxl.load_workbook(write_corrections(found, tmp_path / "x.xlsx", KEY, "en"))
    cover = [row[0] for row in book["About"].iter_rows(values_only=True)]
    told = "K061 Work record of a child under 16: no table: work, person"
    assert told in cover
    assert any("Known before: 2 May 2024" in str(line) for line in cover)


def test_findings_beyond_a_sheet_are_counted(report, tmp_path, monkeypatch):
    monkeypatch.setattr(corrections, "MOST_ROWS", 3)
    book = openpyxl.load_workbook(write_corrections(report, tmp_path / "x.xlsx", KEY, "en"))
    assert len(_rows(book)) == 3
    left = len(report.findings) - 3
    assert any(f"T1: {left} further, milder findings" in text for text in _cells(book))


def test_unknown_township_has_a_sheet(tmp_path):
    frames = _visit("a", "T1")
    del frames["household"]
    book = openpyxl.load_workbook(write_corrections(_check(frames), tmp_path / "x.xlsx", KEY, "en"))
    assert book.sheetnames == ["About", "township unknown"]
    assert len(_rows(book, "township unknown")) == 1


def test_workbook_that_cannot_be_written_is_told(report, tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(PovertyRiskError, match="expected a file to write.*close the file"):
        write_corrections(report, tmp_path / "taken" / "x.xlsx", KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# ------------------------------------------------------------------------------- files of a check


@pytest.fixture(scope="module")
def checked(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tables.write(folder / "history")
    rules = folder / "rules.yaml"
    rules.write_text("parameters: {late_days: 175}\n", encoding="utf-8")
    return check_history(folder / "history", output=folder, rules=rules, locale="en"), folder


def test_files_of_a_check(checked):
    found, folder = checked
    assert {name: str(path.relative_to(folder)) for name, path in found.paths.items()} == {
        "rules": "checks/rules_en.csv",
        "townships": "checks/townships_en.csv",
        "workbook": "checks/corrections_en.xlsx",
        "lookup": "office_only/findings.csv",
    }
    for name in ("workbook", "lookup"):
        assert stat.S_IMODE(found.paths[name].stat().st_mode) == 0o600
    # The office's own parameter counts.
    assert "Known more than 175 days" in found.paths["rules"].read_text(encoding="utf-8-sig")


def test_lookup_tells_which_household_a_number_is(checked):
    found, _ = checked
    with found.paths["lookup"].open(encoding="utf-8-sig", newline="") as file:
        lookup = {row["number"]: row for row in csv.DictReader(file)}
    book = openpyxl.load_workbook(found.paths["workbook"])
    rows = _rows(book)
    assert len(rows) > 5
    for row in rows:
        real = lookup[row["Number"]]
        assert real["code"] == row["Rule"]
        assert real["household_id"][:2] == row["Household"][:2]


def test_what_may_be_shared_holds_no_household_and_no_small_count(checked):
    found, _ = checked
    for name in ("rules", "townships"):
        text = found.paths[name].read_text(encoding="utf-8-sig")
        assert "-bad" not in text
        rows = list(csv.reader(text.splitlines()))
        counts = [cell for row in rows[1:] for cell in row if cell.isdecimal()]
        assert counts
        assert not [count for count in counts if 0 < int(count) < 10]
    assert "<10" in found.paths["rules"].read_text(encoding="utf-8-sig")
    # Twelve households and the clean one, of which each lacks an account: exact where it is not small.
    exact = found.report.count_by_township(shared=False)["note"].loc["T1"]
    assert exact >= 10
    assert found.townships["to complete"].tolist() == [str(exact)]


def test_rule_table_says_what_ran(checked):
    found, _ = checked
    told = found.rules.set_index("rule")
    assert len(found.rules) == len(found.report.rules)
    absent = found.report.not_run
    assert absent.empty
    assert (told["status"] == "ran").all()


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_words_of_the_workbook_are_in_their_language(locale):
    words = CorrectionWords.load()
    groups = (
        words.texts,
        words.columns,
        words.severities,
        words.statuses,
        words.summary,
        words.codes,
    )
    texts = [text[locale] for group in groups for text in group.values()]
    texts += [text[locale] for text in words.how]
    if locale == "en":
        assert not [text for text in texts if CHINESE.search(text)]
    else:
        neutral = {"Microsoft YaHei", "<10", "；", "{name}：{value}", "{place}：{count}条"}
        assert not [t for t in texts if not CHINESE.search(t) and t not in neutral]


def test_every_code_that_a_rule_shows_has_words():
    schema, words = load_schema(), CorrectionWords.load()
    lacking = set()
    for rule in load_consistency_rules().rules:
        for table in rule.tables:
            for name in rule.show:
                column = schema.tables[table].all_columns.get(name)
                for code in column.codes if column is not None else ():
                    if not CHINESE.search(words.tell_value(name, code, "zh")):
                        lacking.add((name, code))
    # Grades are letters in both languages.
    assert {pair for pair in lacking if pair[0] != "house_grade"} == set()
