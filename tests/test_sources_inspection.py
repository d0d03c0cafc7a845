"""What a file is said to be, and the mapping to complete."""

from __future__ import annotations

import pyarrow as pa
import pytest

from poverty_risk.exceptions import HistoryError
from poverty_risk.sources.inspection import inspect_sheet, inspect_source
from poverty_risk.sources.mapping import find_mapping, load_mapping
from poverty_risk.sources.mapping_draft import render_mapping, write_mapping
from poverty_risk.sources.raw import RawSheet, SkippedRow

MAN = "11010519491231002X"  # the example of GB 11643


def sheet_of(columns, file="清单.csv", **options):
    size = len(next(iter(columns.values())))
    cells = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return RawSheet(file, "", cells, pa.array(range(2, size + 2), pa.int64()), **options)


VISITS = {
    "户编号": ["H1"] * 12,
    "走访的时间": ["2021-06-01"] * 12,
    "走访类型": ["串门"] * 11 + ["抽查"],
    "发现困难情况": ["是", "否"] * 6,
    "天气": ["晴"] * 12,
}


def test_a_known_file_is_ready():
    columns = {"户编号": ["H1"], "走访时间": ["2021-06-01"], "走访类型": ["抽查"]}
    inspected = inspect_sheet(sheet_of(columns, skipped=(SkippedRow(1, "title"),)))
    assert inspected.mapping.name == "visits"
    assert inspected.ready
    assert inspected.skipped == {"title": 1}
    assert [c.status for c in inspected.columns] == ["known"] * 3
    assert [c.readable for c in inspected.columns] == [1.0] * 3


def test_close_headers_are_proposed_with_confidence():
    inspected = inspect_sheet(sheet_of(VISITS))
    assert inspected.mapping.name == "visits"
    assert not inspected.ready
    assert inspected.missing == ()
    frame = inspected.to_frame().set_index("header")
    assert frame["status"].to_dict() == {
        "户编号": "known",
        "走访的时间": "close",
        "走访类型": "known",
        "发现困难情况": "close",
        "天气": "unmapped",
    }
    assert frame["field"].to_dict()["走访的时间"] == "visited"
    assert frame["field"].to_dict()["发现困难情况"] == "found"
    close = frame.loc[frame["status"] == "close", "confidence"]
    assert ((close >= 0.5) & (close < 1)).all()
    # 11 of 12 say so: enough to be a word of the office, and no name.
    assert frame.loc["走访类型", "unknown"] == "串门 (11)"
    assert frame.loc["走访类型", "readable"] == round(1 / 12, 3)


def test_a_column_that_cannot_be_read_as_such_is_less_close():
    dates = inspect_sheet(sheet_of(VISITS)).columns[1].confidence
    words = inspect_sheet(sheet_of(VISITS | {"走访的时间": ["上周"] * 12})).columns[1]
    assert words.field is None or words.confidence < dates - 0.2


def test_rare_words_are_not_told_since_they_may_be_names():
    columns = VISITS | {"走访类型": ["张三丰"] * 9 + ["抽查"] * 3}
    inspected = inspect_sheet(sheet_of(columns))
    assert inspected.columns[2].unknown == {}
    assert "张三丰" not in render_mapping(inspected) + str(inspected.to_frame())


def test_the_mapping_to_complete_makes_the_file_ready(tmp_path):
    inspected = inspect_sheet(sheet_of(VISITS))
    path = write_mapping(inspected, tmp_path / "new" / "own.yaml")
    text = path.read_text(encoding="utf-8")
    assert "extends: visits" in text
    assert '#   "串门":  # 11 rows' in text
    assert "#   天气" in text
    own = load_mapping(path)
    assert not find_mapping(sheet_of(VISITS))[0].complete
    match = find_mapping(sheet_of(VISITS), [own])[0]
    assert match.complete
    assert match.headers["visited"] == "走访的时间"
    assert inspect_sheet(sheet_of(VISITS), mappings=[own]).ready
    completed = text.replace("  purpose: {}", "  purpose: {codes: {串门: routine}}")
    path.write_text(completed, encoding="utf-8")
    assert inspect_sheet(sheet_of(VISITS), mappings=[load_mapping(path)]).columns[2].readable == 1


def test_what_is_still_missing_is_listed():
    inspected = inspect_sheet(sheet_of({"姓名": ["王五"], "结算时间": ["2021-06-01"]}))
    assert inspected.mapping.name == "medical_bills"
    assert "person_id|certificate" in inspected.missing
    assert "#   person_id or certificate" in render_mapping(inspected)
    assert not inspected.ready


def test_a_certificate_is_known_by_its_cells():
    columns = {
        "本人身份证件号": [MAN],
        "结算时间": ["2021-06-01"],
        "医疗总费用": ["5"],
        "自付": ["1"],
    }
    inspected = inspect_sheet(sheet_of(columns))
    assert inspected.mapping.name == "medical_bills"
    assert inspected.columns[0].field == "certificate"
    assert MAN not in render_mapping(inspected) + str(inspected.to_frame())


def test_nothing_known():
    inspected = inspect_sheet(sheet_of({"颜色": ["红"]}))
    assert (inspected.mapping, inspected.confidence, inspected.ready) == (None, 0.0, False)
    with pytest.raises(HistoryError, match="Name the kind"):
        render_mapping(inspected)
    forced = inspect_sheet(sheet_of({"颜色": ["红"]}), kind="water")
    assert "extends: water" in render_mapping(forced)
    with pytest.raises(HistoryError, match="found 'watr'; expected one of"):
        inspect_sheet(sheet_of({"颜色": ["红"]}), kind="watr")


def test_a_header_cannot_break_the_mapping(tmp_path):
    nasty = '走访"时间: }\n- [x]\x07\\'
    inspected = inspect_sheet(sheet_of(VISITS | {nasty: [None] * 12, "# {a": ["b"] * 12}))
    own = load_mapping(write_mapping(inspected, tmp_path / "own.yaml"))
    assert own.name == "visits"


def test_numbers_of_people_in_a_header_are_masked():
    inspected = inspect_sheet(sheet_of(VISITS | {"手机13812345678": [None] * 12}))
    assert "手机13***78" in [column.header for column in inspected.columns]
    text = render_mapping(inspected)
    assert ("手机13***78" in text, "13812345678" in text) == (True, False)


def test_an_existing_file_is_never_replaced(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(HistoryError, match="the file exists"):
        write_mapping(inspect_sheet(sheet_of(VISITS)), path)
    assert path.read_text(encoding="utf-8") == "mine"
    assert [item.name for item in tmp_path.iterdir()] == ["own.yaml"]


def test_inspecting_a_file(tmp_path):
    path = tmp_path / "走访.csv"
    path.write_text(
        "走访记录,,\n户编号,走访时间,走访类型\nH1,2021.6.1,抽查\n合计,1,\n", encoding="gb18030"
    )
    inspected = inspect_source(path)[0]
    assert inspected.mapping.name == "visits"
    assert inspected.ready
    assert inspected.rows == 1
    assert inspected.confidence > 0.9
