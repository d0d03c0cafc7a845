"""Mapping files: each is sound, fits the archive, and is recognised among all others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from poverty_risk.exceptions import DeclarationError
from poverty_risk.schema import load_schema
from poverty_risk.sources.header_matching import assign_headers, plain_header
from poverty_risk.sources.kinds import SourceField
from poverty_risk.sources.mapping import find_mapping, list_mappings, load_mapping, match_sheet
from poverty_risk.sources.raw import RawSheet
from poverty_risk.sources.rules import check_mapping, find_used_fields

KINDS = [
    "national_household",
    "national_person",
    "national_income",
    "national_work",
    "national_measures",
    "national_monitored",
    "medical_bills",
    "severe_illness",
    "disability",
    "schooling",
    "dropouts",
    "employment",
    "social_assistance",
    "house_inspections",
    "disaster_losses",
    "water",
    "deaths_accidents",
    "microcredit",
    "insurance_claims",
    "visits",
    "appeals",
]


def empty_sheet(headers, file="export.xlsx", sheet="Sheet1"):
    cells = pa.table({header: pa.array([], pa.string()) for header in headers})
    return RawSheet(file, sheet, cells, pa.array([], pa.int64()))


def best(headers, file="export.xlsx"):
    return find_mapping(empty_sheet(headers, file))[0]


def test_every_kind_of_the_issue_has_a_mapping():
    assert sorted(list_mappings()) == sorted(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_mapping_fits_the_archive(name):
    mapping = load_mapping(name)
    check_mapping(mapping, load_schema("archive"))
    assert mapping.name == name
    assert (mapping.delivery == "export") == name.startswith("national_")
    # What is private is dropped or hashed in every kind alike.
    private = {"person_name", "head_name", "phone", "bank_account", "bank", "address"}
    assert {f.privacy for n, f in mapping.fields.items() if n in private} <= {"drop"}
    ids = {"household_id", "person_id", "certificate", "head_certificate"}
    assert {f.privacy for n, f in mapping.fields.items() if n in ids} == {"hash"}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_with_the_usual_headers_is_recognised(name):
    """All fields by their first header, without any hint in the name of the file."""
    headers = [field.headers[0] for field in load_mapping(name).fields.values()]
    match = best(headers)
    assert match.mapping.name == name
    assert match.complete
    assert not match.unmapped
    assert match.confidence == 0.9  # 1 with a telling title


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            "序号 县 乡 村 户编号 户主姓名 户类型 人数 住房等级 是否解决安全饮用水 加入合作社",
            "national_household",
        ),
        (
            "户编号 人编号 姓名 性别 证件号码 与户主关系 文化程度 健康状况 劳动技能 户类型 耕地面积",
            "national_person",
        ),
        (
            "户编号 户主姓名 年度 家庭人口 工资性收入 生产经营性收入 转移性收入 财产性收入",
            "national_income",
        ),
        ("户编号 姓名 证件号码 是否已务工 务工月收入（元） 务工所在地 就业渠道", "national_work"),
        ("户编号 户主姓名 帮扶措施类型 开始时间 结束时间 金额（万元）", "national_measures"),
        (
            "户编号 户主姓名 监测对象类别 识别监测时间 致贫/返贫风险1 致贫/返贫风险2 风险是否已消除",
            "national_monitored",
        ),
        ("姓名 身份证号 结算时间 医疗类别 医疗总费用 个人自付", "medical_bills"),
        ("姓名 身份证号 确诊时间 病种", "severe_illness"),
        ("姓名 残疾人证号 残疾类别 残疾等级 发证日期", "disability"),
        ("学生姓名 学生身份证号 学段 入学时间 资助金额", "schooling"),
        ("学生姓名 学生身份证号 学段 辍学时间 辍学原因 劝返时间", "dropouts"),
        ("姓名 身份证号 统计月份 就业状态 失业时间 月工资", "employment"),
        ("姓名 身份证号 救助类型 审批时间 月保障金额（元）", "social_assistance"),
        ("户主姓名 户主身份证号 鉴定等级 鉴定时间", "house_inspections"),
        ("户主姓名 户主身份证号 灾害种类 受灾时间 损失金额（万元）", "disaster_losses"),
        ("户主姓名 户主身份证号 停水时间 饮水是否安全 恢复供水时间", "water"),
        ("姓名 身份证号 死亡时间 事件类型", "deaths_accidents"),
        ("借款人 借款人身份证号 贷款余额 到期日 逾期天数", "microcredit"),
        ("被保险人 被保险人身份证号 理赔时间 理赔金额 出险原因", "insurance_claims"),
        ("户编号 走访时间 走访类型 是否发现困难", "visits"),
        ("诉求人 诉求人身份证号 诉求时间 诉求内容 办理结果", "appeals"),
    ],
)
def test_short_files_of_offices_are_recognised(headers, expected):
    assert best(headers.split()).mapping.name == expected


def test_a_title_decides_between_kinds_that_fit_alike():
    headers = ["户编号", "户主姓名", "识别监测时间", "风险类型", "工资性收入", "转移性收入"]
    matches = {m.mapping.name: m for m in find_mapping(empty_sheet(headers, "监测对象.xlsx"))}
    assert matches["national_monitored"].titled
    assert not matches["national_income"].titled
    assert matches["national_monitored"].confidence > matches["national_household"].confidence


def test_what_a_kind_needs_is_named_where_it_is_missing():
    match = match_sheet(empty_sheet(["姓名", "结算时间"]), load_mapping("medical_bills"))
    assert not match.complete
    assert match.missing[0] == "person_id|certificate"
    assert match.headers == {"person_name": "姓名", "settled": "结算时间"}


@pytest.mark.parametrize(
    ("header", "text", "brackets"),
    [
        ("＊ 证件 号码：", "证件号码", ""),
        ("工资性收入（万元）", "工资性收入", "万元"),
        ("致贫/返贫风险1", "致贫返贫风险1", ""),
        ("县（市、区）", "县", "市、区"),
        ("收入情况|工资性收入（元）", "收入情况工资性收入", "元"),
        ("【必填】姓名", "姓名", "必填"),
    ],
)
def test_headers_are_compared_without_what_differs_from_file_to_file(header, text, brackets):
    plain = plain_header(header)
    assert (plain.text, plain.brackets) == (text, brackets)


def test_headers_of_two_rows():
    aliases = {"house": ["识别时住房安全"], "wage": ["工资性收入"], "water": ["饮水安全"]}
    headers = ["识别时|住房安全", "收入（元）|工资性收入", "识别时|饮水安全", "消除后|饮水安全"]
    # The lower row alone counts only where it names one column.
    assert assign_headers(headers, aliases) == {
        "house": "识别时|住房安全",
        "wage": "收入（元）|工资性收入",
    }


def test_of_two_headers_for_one_field_the_more_usual_is_taken():
    aliases = {"certificate": ["证件号码", "身份证号"]}
    assert assign_headers(["身份证号", "证件号码"], aliases) == {"certificate": "证件号码"}


def test_private_columns_are_not_read():
    used = find_used_fields(load_mapping("national_person"), load_schema("archive"))
    assert {"certificate", "health", "household_id", "risk_1"} <= used
    assert not {"phone", "address", "bank_account", "person_name", "head_certificate"} & used


def write(folder, text):
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_own_mapping_adds_headers_and_codes(tmp_path):
    own = load_mapping(
        write(
            tmp_path,
            "extends: visits\nfields:\n  visited: {headers: [到户日子]}\n"
            "  purpose: {headers: [为何], codes: {串门: routine}}\n",
        )
    )
    assert own.name == "visits"
    assert own.fields["visited"].headers[:2] == ("到户日子", "走访时间")
    assert own.fields["purpose"].codes["串门"] == "routine"
    assert own.fields["purpose"].codes["抽查"] == "random"
    headers = ["户编号", "到户日子", "为何"]
    assert not find_mapping(empty_sheet(headers))[0].complete
    assert find_mapping(empty_sheet(headers), [own])[0].complete


FEED = """
name: own
label: {zh: 自有, en: own}
delivery: feed
shared: [household_id]
fields: {day: {headers: [日子], kind: date}}
signature: [[day]]
"""
TABLES = "tables: [{table: visit, event_date: day, columns: {difficulty_found: 'True'}}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FEED + TABLES, "states its 'reporting_lag'"),
        (FEED.replace("feed", "export") + "reporting_lag: 3d\n" + TABLES, "for feeds"),
        (FEED.replace("household_id", "househol") + TABLES, "own.yaml, 'shared': found househol"),
        (FEED + "tables: [household]\n", "found 'household'; expected a rule, or one of"),
        (FEED.replace("日子", "户编号") + TABLES, "of both 'household_id' and 'day'"),
        (FEED.replace("[[day]]", "[[dya]]") + TABLES, "not declared: dya"),
        (
            FEED.replace("kind: date", "kind: number, unit: parsec") + TABLES,
            "without factors: parsec",
        ),
        ("extends: nothing\n", "mapping: found 'nothing'; expected a YAML file or one of"),
        ("extends: own.yaml\n", "at most five steps"),
        ("extends: visits\nfields: [a]\n", "'fields': found list"),
        ("extends: visits\nfields: {visited: {headers: 5}}\n", "fields.visited.headers"),
        ("extends: visits\nfields: {purpose: {codes: [a]}}\n", "fields.purpose.codes"),
        ("extends: visits\nfields: {visited: {headers: [[a]]}}\n", "fields.visited.headers.0"),
        (FEED.replace("[household_id]", "5") + TABLES, "'shared': found 5"),
    ],
)
def test_faulty_mappings_are_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError, match=message.replace("[", r"\[")):
        load_mapping(write(tmp_path, text))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{table: visit, event_date: day, columns: {purpose: 'dya'}}", "'dya' in 'dya'"),
        ("{table: vist, columns: {}}", "found table 'vist'"),
        ("{table: shock, event_date: day, columns: {loss: '1'}}", "no expression for kind"),
        ("{table: visit, event_date: day, columns: {sort: '1'}}", "no such column"),
        (
            "{table: visit, event_date: day, columns: {purpose: 'day'}}",
            "of type date; expected category",
        ),
        ("{table: visit, where: '1 + 1', columns: {purpose: \"'random'\"}}", "a condition"),
    ],
)
def test_mappings_that_do_not_fit_the_schema_are_refused(tmp_path, rule, message):
    mapping = load_mapping(write(tmp_path, f"{FEED}reporting_lag: 3d\ntables: [{rule}]\n"))
    with pytest.raises(DeclarationError, match=message):
        check_mapping(mapping, load_schema("archive"))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"headers": ["a"], "kind": "category"}, "needs 'codes'"),
        ({"headers": ["a"], "kind": "number", "codes": {"b": "c"}}, "only a category"),
        ({"headers": ["a"], "kind": "boolean", "codes": {"b": "c"}}, "'true' or 'false'"),
        ({"headers": ["a"], "kind": "integer", "codes": {"b": "c"}}, "whole numbers"),
        ({"headers": ["a"], "kind": "certificate"}, "needs 'privacy: hash'"),
        ({"headers": ["a"], "kind": "number", "privacy": "hash"}, "only a string or a certificate"),
        ({"headers": ["a"], "kind": "month", "or_month": True}, "only a date has 'or_month'"),
        ({"headers": []}, "at least 1"),
    ],
)
def test_faulty_fields_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        SourceField.model_validate(field)
