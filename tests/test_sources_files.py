"""Files as counties have them: what is a record, what is none, and what is refused with a reason."""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import io
import struct
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
import xlsxwriter
import xlwt
from hypothesis import given, settings
from hypothesis import strategies as st

from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.sources import text_files, workbook_parts, workbooks
from poverty_risk.sources.files import read_sheets
from poverty_risk.sources.header import find_header

HEADER = ["户编号", "姓名", "人均纯收入（元）", "备注"]
RECORDS = [["6101000001", "张三", "8123.5", None], ["6101000002", "李四", "9000", "外出"]]
LIST = [
    ["脱贫户花名册", None, None, None],
    ["单位：石门镇", None, "日期：2021年3月", None],
    HEADER,
    *RECORDS,
    ["合 计", None, "17123.5", None],
]


def write_text(path, rows, encoding="utf-8", delimiter=",", end="\n"):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows(rows)
    path.write_bytes(stream.getvalue().encode(encoding))
    return path


def write_xlsx(path, *sheets, merges=()):
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd"}) as workbook:
        for number, rows in enumerate(sheets):
            sheet = workbook.add_worksheet(f"表{number + 1}")
            for at, row in enumerate(rows):
                for across, cell in enumerate(row):
                    if cell is not None:
                        sheet.write(at, across, cell)
            for merge in merges:
                sheet.merge_range(*merge[:4], merge[4])
    return path


def write_xls(path, rows, merges=()):
    workbook = xlwt.Workbook()
    sheet = workbook.add_sheet("表1")
    date = xlwt.easyxf(num_format_str="yyyy-mm-dd")
    for merge in merges:
        sheet.write_merge(merge[0], merge[2], merge[1], merge[3], merge[4])
    for at, row in enumerate(rows):
        for across, cell in enumerate(row):
            if cell is not None:
                sheet.write(at, across, cell, *[date] * isinstance(cell, dt.date))
    workbook.save(str(path))
    return path


def read_one(path):
    (sheet,) = read_sheets(path)
    check_whole(sheet)
    return sheet


def check_whole(sheet):
    """Each row is a record or skipped, once; headers are unique; no cell is blank but not null."""
    numbers = [*sheet.rows.to_pylist(), *(one.row for one in sheet.skipped)]
    assert len(numbers) == len(set(numbers))
    assert sheet.rows.to_pylist() == sorted(sheet.rows.to_pylist())
    assert sheet.rows.type == pa.int64()
    assert len(set(sheet.cells.column_names)) == sheet.cells.num_columns
    if sheet.cells.num_columns:
        assert sheet.cells.num_rows == len(sheet.rows)
    for column in sheet.cells.columns:
        assert column.type == pa.string()
        assert not any(cell is not None and not cell.strip() for cell in column.to_pylist())


def to_rows(sheet):
    return [list(row.values()) for row in sheet.cells.to_pylist()]


def why(sheet):
    return {one.row: one.why for one in sheet.skipped}


WHY = {1: "title", 2: "title", 3: "header", 6: "total"}

# -------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_in_each_encoding_and_with_each_delimiter(tmp_path, encoding, delimiter, end):
    sheet = read_one(write_text(tmp_path / "名册.csv", LIST, encoding, delimiter, end))
    assert (sheet.file, sheet.sheet) == ("名册.csv", "")
    assert sheet.cells.column_names == HEADER
    assert to_rows(sheet) == RECORDS
    assert sheet.rows.to_pylist() == [4, 5]
    assert why(sheet) == WHY


def test_rows_are_numbered_as_a_spreadsheet_shows_them(tmp_path, monkeypatch):
    # Blocks of a size at which rows lie on their borders.
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1 << 12)
    body = [[f"{at}", f"姓名\n{at}", "1", "x"] for at in range(2000)]
    path = write_text(tmp_path / "list.csv", [["题目"], HEADER, *body])
    content = path.read_text(encoding="utf-8").replace("\n1000,", "\n\n1,2,3,4,5\n1000,")
    path.write_text(content, encoding="utf-8")
    sheet = read_one(path)
    assert why(sheet) == {1: "title", 2: "header", 1003: "blank", 1004: "uneven"}
    numbers = dict(zip(sheet.cells["户编号"].to_pylist(), sheet.rows.to_pylist(), strict=True))
    assert numbers["0"] == 3
    assert numbers["999"] == 1002
    assert numbers["1000"] == 1005
    assert len(numbers) == 2000


def test_short_rows_are_filled_up_and_long_ones_told(tmp_path):
    path = tmp_path / "list.csv"
    lines = ["a,b,c,d", "1,2,3,4", "5", "6,7", "8,9,10,11,,", "12,13,14,15,x", "16,17,18,19", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    sheet = read_one(path)
    assert to_rows(sheet) == [
        ["1", "2", "3", "4"],
        ["5", None, None, None],
        ["6", "7", None, None],
        ["8", "9", "10", "11"],
        ["16", "17", "18", "19"],
    ]
    assert sheet.rows.to_pylist() == [2, 3, 4, 5, 7]
    assert why(sheet) == {1: "header", 6: "uneven"}


def test_a_row_that_a_line_break_cut_in_two_and_a_last_row_that_was_cut_off(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("a,b,c,d\n1,2,3,4\n5,6,first half\nother half,7\n8,9,10,11\n12,1", "utf-8")
    sheet = read_one(path)
    assert to_rows(sheet) == [["1", "2", "3", "4"], ["8", "9", "10", "11"]]
    assert why(sheet) == {1: "header", 3: "uneven", 4: "uneven", 6: "uneven"}


def test_delimiters_at_the_end_of_every_row_make_no_column(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("a,b\n1,2,,\n3,4,,\n", encoding="utf-8")
    assert to_rows(read_one(path)) == [["1", "2"], ["3", "4"]]


def test_quoted_values_hold_delimiters_quotes_and_line_breaks(tmp_path):
    rows = [["a", "b"], ["1,2", 'he said "no"'], ["first\nsecond", "x"]]
    assert to_rows(read_one(write_text(tmp_path / "list.csv", rows))) == rows[1:]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('a,b,c\n1,2,3\n4,"5,6\n7,8,9\n', 3),
        ('a,b,c\n1,2,"3\n4,5,6\n7,8,9\n', 2),
        ('a,b,c,d,e,f\n1,"2,3,4,5,6\n1,2,3,4,5,6\n1,2,3,4,5,6\n1,2","3,4,5,6\n', 2),
    ],
)
def test_a_quotation_mark_that_is_not_closed_is_no_data(tmp_path, text, row):
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        PovertyRiskError, match=f"a quotation mark that is not closed, in row {row}"
    ):
        read_sheets(path)


def test_a_quotation_mark_within_a_value_opens_nothing(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('a,b\n5"pipe,1\n6,2\n', encoding="utf-8")
    assert to_rows(read_one(path)) == [['5"pipe', "1"], ["6", "2"]]


def test_damaged_and_cut_text(tmp_path):
    path = write_text(tmp_path / "list.csv", [HEADER, *[["1", "石门镇某某村民", "2", "x"]] * 9])
    whole = path.read_bytes()
    at = whole.rindex("民".encode())
    path.write_bytes(whole[: at + 2])
    with pytest.raises(PovertyRiskError, match="an end within a character, in line 10"):
        read_sheets(path)
    path.write_bytes(whole[: at + 2] + whole[at + 3 :])
    with pytest.raises(PovertyRiskError, match="damaged UTF-8 in line 10"):
        read_sheets(path)
    path.write_bytes("户编号,姓名\n1,张三\n".encode("gb18030") + b"2,\xff\xff\n")
    with pytest.raises(PovertyRiskError, match="another encoding in line 3; expected UTF-8 or GB"):
        read_sheets(path)
    path.write_bytes(codecs.BOM_UTF16_LE + "a,b\n1".encode("utf-16-le") + b"\x00")
    with pytest.raises(PovertyRiskError, match="expected a whole file in UTF-16"):
        read_sheets(path)


# ------------------------------------------------------------------------------------- what is none


def test_totals_notes_blank_rows_and_headers_of_further_pages(tmp_path):
    page = [
        ["脱贫户花名册"],
        HEADER,
        ["1", "张三", "3", None],
        ["石门镇小计", None, "3", None],
        [None, "合计", "3", None],
        ["第 1 / 2 页", None, None, None],
    ]
    end = [[None] * 4, ["2", None, None, None], ["填表人：王五", None, "审核人：赵六", None]]
    sheet = read_one(write_text(tmp_path / "list.csv", [*page, *page, *end]))
    assert to_rows(sheet) == [
        ["1", "张三", "3", None],
        ["1", "张三", "3", None],
        ["2", None, None, None],
    ]
    assert sheet.rows.to_pylist() == [3, 9, 14]
    assert why(sheet) == {
        1: "title", 2: "header", 4: "total", 5: "total", 6: "note",
        7: "title", 8: "repeated header", 10: "total", 11: "total", 12: "note",
        13: "blank", 15: "note",
    }  # fmt: skip


def test_header_of_two_rows():
    top = [
        ["表", None, None, None, None, None],
        ["户编号", "家庭收入", None, "支出", None, "备注"],
        [None, "工资性", "经营性", "医疗", "教育", None],
        ["1", "2", "3", "4", "5", None],
    ]
    found = find_header(top)
    assert found.rows == (1, 2)
    assert found.names == (
        "户编号",
        "家庭收入|工资性",
        "家庭收入|经营性",
        "支出|医疗",
        "支出|教育",
        "备注",
    )


@pytest.mark.parametrize(
    "number", ["账号6222021234567890", "电话：139-1234-5678", "卡6222 0212 345"]
)
def test_a_cell_with_the_digits_of_a_number_of_somebody_is_no_header(number):
    assert find_header([[number, "张三"], ["户编号", "姓名"], ["a1", "李四"]]).rows == (1,)
    assert find_header([["户编号2024", "姓名"], ["a1", "李四"]]).rows == (0,)


def test_a_record_of_words_is_no_second_row_of_the_header():
    found = find_header([["姓名", "性别", None], ["张三", "男", "外出"], ["李四", "女", None]])
    assert found.rows == (0,)
    assert found.names == ("姓名", "性别", "column 3")


def test_merged_cells_tell_which_columns_a_group_has():
    top = [
        [None, None, "收入", None, None],
        ["户编号", "姓名", "工资", "经营", "人数"],
        ["1", "张三", "2", "3", "4"],
    ]
    found = find_header(top, merges=[(0, 2, 0, 3)])
    assert found.names == ("户编号", "姓名", "收入|工资", "收入|经营", "人数")
    assert found.rows == (0, 1)


def test_names_of_columns_are_unique_and_without_line_breaks():
    found = find_header([["姓 名", "姓名", "务工时间\n（月）", "net  income", "id", "id", "id #2"]])
    assert found.names == (
        "姓名",
        "姓名 #2",
        "务工时间（月）",
        "net income",
        "id",
        "id #2",
        "id #2 #2",
    )


def test_no_header_is_an_error_in_text_and_told_in_a_sheet(tmp_path):
    path = write_text(tmp_path / "list.csv", [["1", "2"], ["3", "4"]])
    with pytest.raises(
        PovertyRiskError, match="no header in the first 2 rows; expected a row with"
    ):
        read_sheets(path)
    book = write_xlsx(tmp_path / "list.xlsx", [[1, 2], [3, 4]], [["id", "x"], [1, 2]])
    without, proper = read_sheets(book)
    assert why(without) == {1: "no header", 2: "no header"}
    assert without.cells.num_columns == 0
    assert to_rows(proper) == [["1", "2"]]
    with pytest.raises(PovertyRiskError, match="no sheet with a header"):
        read_sheets(write_xlsx(tmp_path / "none.xlsx", [[1, 2], [3, 4]]))
    with pytest.raises(PovertyRiskError, match="no sheet that holds anything"):
        read_sheets(write_xlsx(tmp_path / "empty.xlsx", []))


# --------------------------------------------------------------------------------------- workbooks


@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_workbook_reads_like_text(tmp_path, kind):
    rows = [[float(c) if c and c.replace(".", "").isdigit() else c for c in row] for row in LIST]
    write = write_xlsx if kind == "xlsx" else write_xls
    sheet = read_one(write(tmp_path / f"名册.{kind}", rows))
    assert sheet.sheet == "表1"
    assert sheet.cells.column_names == HEADER
    assert to_rows(sheet) == RECORDS
    assert sheet.rows.to_pylist() == [4, 5]
    assert why(sheet) == WHY


@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_what_a_file_is_tells_its_content_not_its_name(tmp_path, kind):
    write = write_xlsx if kind == "xlsx" else write_xls
    path = write(tmp_path / f"list.{kind}", LIST)
    other = path.rename(tmp_path / ("list.xls" if kind == "xlsx" else "list.csv"))
    assert to_rows(read_one(other)) == RECORDS
    assert to_rows(read_one(write_text(tmp_path / "text.xls", LIST, "gb18030", "\t"))) == RECORDS


def test_cells_of_a_workbook_as_text(tmp_path):
    path = tmp_path / "list.xlsx"
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd"}) as workbook:
        sheet = workbook.add_worksheet("五月")
        sheet.write_row(2, 1, ["名称", "值"])
        sheet.write_row(3, 1, ["whole", 610121000123])
        sheet.write_row(4, 1, ["fraction", 0.1])
        sheet.write_row(5, 1, ["rounded", 612501198001011234])
        sheet.write_row(6, 1, ["answer", True])
        sheet.write_row(7, 1, ["blanks", " \u3000 "])
        sheet.write_row(8, 1, ["date", dt.date(2021, 3, 5)])
        sheet.write_row(9, 1, ["time", dt.datetime.fromisoformat("2021-03-05T08:30")])
        sheet.write(10, 1, "failed")
        sheet.write_formula(10, 2, "=1/0", None, "#DIV/0!")
        sheet.write(11, 1, "formula")
        sheet.write_formula(11, 2, "=1+1", None, 2)
        # A format alone, at the very end of the sheet: common, and nothing.
        sheet.write_blank(1048575, 16383, None, workbook.add_format({"bold": True}))
    sheet = read_one(path)
    assert dict(to_rows(sheet)) == {
        "whole": "610121000123",
        "fraction": "0.1",
        "rounded": "6.12501198001011E+17",
        "answer": "TRUE",
        "blanks": None,
        "date": "2021-03-05",
        "time": "2021-03-05 08:30:00",
        "failed": "#ERROR",
        "formula": "2",
    }
    assert sheet.rows.to_pylist() == list(range(4, 13))


def test_a_failed_formula_of_an_old_workbook_is_not_blank(tmp_path):
    path = tmp_path / "list.xls"
    workbook = xlwt.Workbook()
    for name in ("表1", "two"):
        sheet = workbook.add_sheet(name)
        sheet.write(0, 0, "名称")
        sheet.write(0, 1, "值")
        sheet.write(1, 0, "failed")
        sheet.row(1).set_cell_error(1, "#N/A!" if name == "two" else "#DIV/0!")
    workbook.save(str(path))
    assert [to_rows(sheet) for sheet in read_sheets(path)] == [[["failed", "#ERROR"]]] * 2


@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_merged_cells_of_header_and_records(tmp_path, kind):
    rows = [
        [None] * 4,
        [None] * 4,
        [None, None, "工资性", "经营性"],
        [None, "张三", 1, 2],
        [None, "张四", 3, 4],
        ["H2", "李四", 5, 6],
    ]
    merges = [
        (0, 0, 0, 3, "花名册"), (1, 0, 2, 0, "户编号"), (1, 1, 2, 1, "姓名"),
        (1, 2, 1, 3, "收入"), (3, 0, 4, 0, "H1"),
    ]  # fmt: skip
    write = write_xlsx if kind == "xlsx" else write_xls
    sheet = read_one(write(tmp_path / f"list.{kind}", rows, merges=merges))
    assert sheet.cells.column_names == ["户编号", "姓名", "收入|工资性", "收入|经营性"]
    # What is merged is said of each of its rows.
    assert sheet.cells["户编号"].to_pylist() == ["H1", "H1", "H2"]
    assert why(sheet) == {1: "title", 2: "header", 3: "header"}


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"<html><table><tr><td>1</td></tr></table></html>", "a web page or XML"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Workbook/>", "a web page or XML"),
        (b"PAR1" + b"\0" * 99, "a Parquet file"),
        (b"\x7fELF" + b"\0" * 99, "bytes that stand in no text"),
        (b"\n\n\n", "no header in the first 3 rows"),
        (b"PK\x03\x04" + b"x" * 99, "a workbook that is cut off or damaged"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 999,
            "a workbook that is cut off or damaged",
        ),
    ],
)
def test_foreign_files_are_refused_with_a_remedy(tmp_path, content, found):
    path = tmp_path / "list.xls"
    path.write_bytes(content)
    with pytest.raises(PovertyRiskError, match=found) as caught:
        read_sheets(path)
    (fault,) = caught.value.faults
    assert fault.place == "list.xls"
    assert fault.expected
    assert fault.remedy.endswith(".")


def test_no_file_a_folder_and_a_name_that_none_can_have(tmp_path):
    with pytest.raises(PovertyRiskError, match="no such file; expected an XLSX or XLS workbook"):
        read_sheets(tmp_path / "none.csv")
    with pytest.raises(PovertyRiskError, match="a folder"):
        read_sheets(tmp_path)
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(PovertyRiskError, match="no such file|a name that no file has"):
            read_sheets(tmp_path / name)


@pytest.mark.parametrize("lock", ["~$list.xlsx", ".~list.xlsx", ".~lock.list.xlsx#"])
def test_a_workbook_that_is_open_is_refused(tmp_path, lock):
    path = write_xlsx(tmp_path / "list.xlsx", LIST)
    (tmp_path / lock).touch()
    with pytest.raises(
        PovertyRiskError, match="list.xlsx: found open in another program"
    ) as caught:
        read_sheets(path)
    assert "Save and close it" in caught.value.faults[0].remedy
    with pytest.raises(PovertyRiskError, match="the mark of a workbook that is open"):
        read_sheets(tmp_path / lock)


def test_a_file_that_may_not_be_read_or_fails_while_it_is(tmp_path, monkeypatch):
    path = write_text(tmp_path / "list.csv", LIST)

    def refuse(error):
        def read(*_args, **_options):
            raise error

        return read

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse(PermissionError(13, "Permission denied")))
        with pytest.raises(PovertyRiskError, match="no access; expected a file that is closed"):
            read_sheets(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse(OSError(5, "Input/output error")))
        with pytest.raises(PovertyRiskError, match="Input/output error; expected a file to read"):
            read_sheets(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse(MemoryError()))
        with pytest.raises(PovertyRiskError, match="more than memory holds"):
            read_sheets(path)


@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_a_workbook_that_was_cut_off_is_refused(tmp_path, kind):
    write = write_xlsx if kind == "xlsx" else write_xls
    whole = write(tmp_path / f"whole.{kind}", [HEADER, *RECORDS * 200]).read_bytes()
    for share in (0.1, 0.4, 0.7, 0.95):
        path = tmp_path / f"list.{kind}"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(
            PovertyRiskError, match="cut off or damaged; expected a whole XLSX?"
        ) as caught:
            read_sheets(path)
        assert "again" in caught.value.faults[0].remedy


def rewrite(path, name, change):
    """The workbook with one part changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return path


SHEET = "xl/worksheets/sheet1.xml"
FAR = {
    "far away": b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
    "row and cell disagree": b'<row r="3"><c r="XFD1048576"><v>1</v></c></row>',
    "single quotes and blanks": b"<row r='3'><c  s='1'  r = 'XFD1048576' ><v>1</v></c></row>",
    "another prefix": b'<y:row r="3"><y:c r="XFD1048576"><y:v>1</y:v></y:c></y:row>',
    "place by the row": b'<row r="999999999"><c><v>1</v></c>' + b"<c><v>1</v></c>" * 40 + b"</row>",
    "no places": b"<row>"
    + b"<c><v>1</v></c>" * 20_000
    + b"</row>"
    + b"<row><c><v>1</v></c></row>" * 2_000,
}


@pytest.mark.parametrize("far", FAR.values(), ids=list(FAR))
def test_a_sheet_of_absurd_size_is_refused_before_it_is_read(tmp_path, monkeypatch, far):
    monkeypatch.setattr(workbooks, "load_workbook", lambda _: pytest.fail("it was read"))
    path = write_xlsx(tmp_path / "list.xlsx", [["id", "x"], [1, 2]])
    rewrite(path, SHEET, lambda xml: xml.replace(b"</sheetData>", far + b"</sheetData>"))
    with pytest.raises(PovertyRiskError, match="a sheet of [0-9,]+ rows and [0-9,]+ columns"):
        read_sheets(path)


def test_a_part_that_shrank_too_well_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(workbooks, "load_workbook", lambda _: pytest.fail("it was read"))
    path = write_xlsx(tmp_path / "list.xlsx", [["id", "x"], [1, 2]])
    rewrite(
        path, SHEET, lambda xml: xml.replace(b"</sheetData>", b"</sheetData>" + b" " * (20 << 20))
    )
    with pytest.raises(PovertyRiskError, match="bytes in a part of [0-9,]+; expected at most"):
        read_sheets(path)


def test_a_part_that_is_larger_than_it_says_is_refused(tmp_path):
    path = write_xlsx(tmp_path / "list.xlsx", [["id", "x"], *[[1, 2]] * 500])
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(SHEET).file_size
    # The size stands in the header of the part and in the directory at the end.
    content = content.replace(struct.pack("<I", size), struct.pack("<I", 100))
    path.write_bytes(content)
    with pytest.raises(PovertyRiskError, match="cut off or damaged"):
        read_sheets(path)


def test_one_long_text_in_many_cells_is_refused_unless_it_is_little_in_all(tmp_path, monkeypatch):
    rows = [["id", "text"], *[[at, "long " * 200] for at in range(100)], [1, "short"]]
    path = write_xlsx(tmp_path / "list.xlsx", rows)
    # 100 times 1,037 bytes of XML and three short ones; 103 of the long ones would be 106,811.
    monkeypatch.setattr(workbook_parts, "MAX_TEXT_BYTES", 104_500)
    assert read_one(path).cells.num_rows == 101
    monkeypatch.setattr(workbook_parts, "MAX_TEXT_BYTES", 99_000)
    with pytest.raises(PovertyRiskError, match="a long text in very many cells"):
        read_sheets(path)


def test_merged_cells_that_cover_more_than_the_sheet_are_not_filled(tmp_path):
    rows = [["id", "x"], ["a", 1], [None, 2], [None, 3]]
    path = write_xlsx(tmp_path / "list.xlsx", rows, merges=[(1, 0, 3, 0, "a")])
    assert read_one(path).cells["id"].to_pylist() == ["a", "a", "a"]
    again = b'<mergeCell ref="A2:A4"/>'
    rewrite(path, SHEET, lambda xml: xml.replace(b"</mergeCells>", again * 99 + b"</mergeCells>"))
    assert read_one(path).cells["id"].to_pylist() == ["a", None, None]


def test_other_archives_parts_that_come_twice_and_passwords_are_refused(tmp_path):
    path = tmp_path / "list.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    with pytest.raises(PovertyRiskError, match="an archive of another kind; expected an XLSX"):
        read_sheets(path)
    write_xlsx(path, LIST)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(SHEET, "<x/>")
    with pytest.raises(PovertyRiskError, match="a part twice"):
        read_sheets(path)
    old = write_xls(tmp_path / "list.xls", LIST)
    name = "Workbook".encode("utf-16-le")
    locked = "EncryptedPackage".encode("utf-16-le")
    content = old.read_bytes()
    at = content.index(name)
    entry = locked.ljust(64, b"\0") + struct.pack("<H", len(locked) + 2)
    old.write_bytes(content[:at] + entry + content[at + 66 :])
    with pytest.raises(PovertyRiskError, match="a password; expected a workbook without one"):
        read_sheets(old)


def test_an_old_workbook_of_absurd_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(workbooks, "load_workbook", lambda _: pytest.fail("it was read"))
    path = write_xls(tmp_path / "list.xls", LIST)
    content = path.read_bytes()
    at = content.index(b"\x00\x02\x0e\x00") + 4  # the record of dimensions
    path.write_bytes(
        content[:at] + struct.pack("<IIHH", 0, 4_000_000_000, 0, 256) + content[at + 12 :]
    )
    with pytest.raises(PovertyRiskError, match="a sheet of 4,000,000,000 rows and 256 columns"):
        read_sheets(path)
    # A number with that many digits is a record of its own: its cell is moved to the last row and column.
    workbook = xlwt.Workbook()
    workbook.add_sheet("x").write(1, 1, 0.1234567)
    workbook.save(str(path))
    content = path.read_bytes()
    at = content.index(struct.pack("<d", 0.1234567)) - 6
    path.write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
    with pytest.raises(PovertyRiskError, match="a sheet of 65,536 rows and 65,536 columns"):
        read_sheets(path)


# ------------------------------------------------------------------------------------ whatever else

STARTS = [b"", b"a,b\n1,2\n", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xff\xfe", b"\xef\xbb\xbf",
          '"户编号",b\n'.encode(), "户编号,姓名\n".encode("gb18030")]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_whatever_bytes_a_file_holds_it_is_read_or_refused(tmp_path_factory, start, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(start + content)
    is_read_or_refused(path)


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=6)


def change_bytes(content, changes):
    changed = bytearray(content)
    for at, by in changes:
        changed[at % len(changed)] = (changed[at % len(changed)] + by) % 256
    return bytes(changed)


def is_read_or_refused(path):
    try:
        sheets = read_sheets(path)
    except PovertyRiskError:
        return
    for sheet in sheets:
        check_whole(sheet)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["xlsx", "xls"]), CHANGES)
def test_a_workbook_with_any_byte_changed_is_read_or_refused(tmp_path_factory, kind, changes):
    path = tmp_path_factory.getbasetemp() / f"changed.{kind}"
    (write_xlsx if kind == "xlsx" else write_xls)(path, LIST)
    path.write_bytes(change_bytes(path.read_bytes(), changes))
    is_read_or_refused(path)


PARTS = [
    SHEET,
    "xl/workbook.xml",
    "xl/_rels/workbook.xml.rels",
    "xl/sharedStrings.xml",
    "xl/styles.xml",
]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(PARTS), CHANGES)
def test_a_part_with_any_byte_changed_is_read_or_refused(tmp_path_factory, part, changes):
    path = write_xlsx(
        tmp_path_factory.getbasetemp() / "part.xlsx", LIST, merges=[(7, 0, 8, 0, "x")]
    )
    rewrite(path, part, lambda xml: change_bytes(xml, changes))
    is_read_or_refused(path)


CELL = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
) | st.sampled_from(
    ["合计", "注：x", "1", "是", "2021.3", '"', "a,b", "x\ny", " ", "户编号", "\ufeff"]
)
TABLE = st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=8)


@settings(max_examples=200, deadline=None)
@given(TABLE, st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]))
def test_every_row_of_a_table_is_a_record_or_skipped(tmp_path_factory, rows, encoding):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["户编号", "姓名", "收入"], *rows]
    )
    path.write_bytes(stream.getvalue().encode(encoding))
    sheet = read_one(path)
    assert set(sheet.rows.to_pylist()) | set(why(sheet)) == set(range(1, len(rows) + 2))
    for number, cells in zip(sheet.rows.to_pylist(), to_rows(sheet), strict=True):
        assert cells == [cell.strip() or None for cell in rows[number - 2]]


def test_a_number_that_is_none_is_an_error_and_not_a_crash(tmp_path):
    whole, damaged = tmp_path / "whole.xlsx", tmp_path / "damaged.xlsx"
    workbook = xlsxwriter.Workbook(str(whole))
    sheet = workbook.add_worksheet()
    sheet.write_row(0, 0, ["名称", "值"])
    sheet.write_row(1, 0, ["甲", 77031])
    workbook.close()
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"<v>77031</v>", b"<v>NaN</v>"))
    assert to_rows(read_one(whole)) == [["甲", "77031"]]
    assert to_rows(read_one(damaged)) == [["甲", "#ERROR"]]
