"""Sheets into records: expected values are worked out by hand from the rows written here."""

from __future__ import annotations

import random
from datetime import date

import pyarrow as pa
import pytest

from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.privacy import hash_id
from poverty_risk.schema import load_schema
from poverty_risk.sources.conversion import convert_sheet
from poverty_risk.sources.faults import hide
from poverty_risk.sources.mapping import list_mappings, load_mapping
from poverty_risk.sources.raw import REJECTED, RawSheet
from poverty_risk.tables import HistoryTables

KEY = b"an office's key of enough bytes"
DAY = date(2021, 7, 15)


def certificate(number, birth="19491231", order="002"):
    """A number of 18 digits with its check digit (GB 11643): 12 minus the sum modulo 11, modulo 11."""
    digits = f"{number}{birth}{order}"
    total = sum(int(d) * 2 ** (17 - at) for at, d in enumerate(digits))
    return digits + "0123456789X"[(12 - total % 11) % 11]


WOMAN = certificate("110105")
MAN = certificate("612522", "19620305", "011")


def read(header, *rows, name="national_person", exported=DAY, **options):
    """Convert a table written as text: columns by blanks, '-' for a blank cell."""
    headers = header.split()
    content = [[None if cell == "-" else cell for cell in row.split()] for row in rows]
    cells = pa.table(
        {h: pa.array([r[at] for r in content], pa.string()) for at, h in enumerate(headers)}
    )
    numbers = pa.array(range(3, 3 + len(rows)), pa.int64())
    sheet = RawSheet("file.xlsx", "Sheet1", cells, numbers)
    mapping = options.pop("mapping", None) or load_mapping(name)
    converted = convert_sheet(sheet, mapping, KEY, exported, **options)
    counts = converted.counts
    assert counts.read == counts.accepted + counts.rejected + counts.repeated == len(rows)
    assert converted.rejected.schema == REJECTED
    return converted


def rows_of(converted, table, *columns):
    return [tuple(row[c] for c in columns) for row in converted.records[table].to_pylist()]


def faults(converted):
    return [(f["row"], f["column"], f["expected"]) for f in converted.rejected.to_pylist()]


def own(number):
    return hash_id(number, KEY)


PERSON = "户编号 人编号 乡镇 行政村"


# ---------------------------------------------------------------------------------------- persons


def test_health_in_either_order_and_unknown_health():
    converted = read(
        f"{PERSON} 健康状况",
        "H1 P1 甲镇 东村 残疾,患有大病",
        "H1 P2 甲镇 东村 患有大病，残疾",
        "H1 P3 甲镇 东村 健康",
        "H1 P4 甲镇 东村 长期慢性病",
        "H1 P5 甲镇 东村 -",
    )
    assert rows_of(converted, "person", "severe_illness", "chronic_illness") == [
        (True, False),
        (True, False),
        (False, False),
        (False, True),
        (None, None),  # blank is unknown or not applicable, never healthy
    ]
    assert faults(converted) == []


def test_school_or_education_exactly_one_of_which_is_filled():
    converted = read(
        f"{PERSON} 文化程度 在校生状况",
        "H1 P1 甲镇 东村 小学 -",
        "H1 P2 甲镇 东村 - 七年级",
        "H1 P3 甲镇 东村 - 学龄前儿童",
        "H1 P4 甲镇 东村 - -",
        "H1 P5 甲镇 东村 本科及以上 -",
        "H1 P6 甲镇 东村 - 普通高中二年级",
    )
    assert rows_of(converted, "person", "education", "in_school") == [
        ("primary", False),
        (None, True),
        (None, False),
        (None, None),
        ("bachelor", False),
        (None, True),
    ]
    assert rows_of(converted, "schooling", "stage", "status") == [
        ("compulsory", "enrolled"),
        ("senior", "enrolled"),
    ]


def test_dropouts_but_not_of_those_who_cannot_go_to_school():
    converted = read(
        f"{PERSON} 在校生状况 是否失学辍学 失学或辍学原因",
        "H1 P1 甲镇 东村 - 是 厌学",
        "H1 P2 甲镇 东村 - 是 身体原因",
        "H1 P3 甲镇 东村 九年级 否 -",
        "H1 P4 甲镇 东村 - - 外出务工",
    )
    told = rows_of(converted, "schooling", "person_id", "stage", "status")
    days = set(converted.records["schooling"]["event_date"].to_pylist())
    assert days == {date(2021, 3, 1)}  # the term of the export: the same record all term long
    assert "schooling" not in converted.states
    assert sorted(told) == sorted(
        [
            (own("P1"), "compulsory", "dropped_out"),
            (own("P4"), "compulsory", "dropped_out"),
            (own("P3"), "compulsory", "enrolled"),
        ]
    )


@pytest.mark.parametrize(
    ("exported", "term"),
    [
        (date(2021, 2, 28), date(2020, 9, 1)),
        (date(2021, 3, 1), date(2021, 3, 1)),
        (date(2021, 8, 31), date(2021, 3, 1)),
        (date(2021, 9, 1), date(2021, 9, 1)),
        (date(2021, 12, 31), date(2021, 9, 1)),
        (date(2021, 1, 1), date(2020, 9, 1)),
    ],
)
def test_school_terms(exported, term):
    converted = read(f"{PERSON} 在校生状况", "H1 P1 甲镇 东村 小学", exported=exported)
    assert rows_of(converted, "schooling", "event_date", "known_date") == [(term, exported)]


def test_the_certificate_goes_before_the_columns_and_a_contradiction_is_told():
    converted = read(
        f"{PERSON} 证件号码 出生日期 性别 残疾等级",
        f"H1 P1 甲镇 东村 {WOMAN} 1950-01-01 男 -",
        f"H1 P2 甲镇 东村 {MAN}42 1962.03.05 男 3",
        "H1 P3 甲镇 东村 - 2001年2月3日 女 二级",
    )
    assert rows_of(converted, "person", "birth_date", "sex", "disability_level") == [
        (date(1949, 12, 31), "woman", None),
        (date(1962, 3, 5), "man", 2),  # digits 19 and 20: category 4, level 2
        (date(2001, 2, 3), "woman", 2),
    ]
    assert [(row, column) for row, column, _ in faults(converted)] == [(3, "出生日期"), (3, "性别")]
    assert converted.counts.accepted == 3


def test_a_disability_certificate_is_the_same_person_as_the_identity_card():
    converted = read(f"{PERSON} 证件号码", f"H1 - 甲镇 东村 {MAN}42", f"H2 - 甲镇 东村 {WOMAN}")
    people = converted.people.to_pylist()
    assert [p["certificate"] for p in people] == [own(MAN), own(WOMAN)]
    # Without a number of its own a person goes by the certificate.
    assert [p["person_id"] for p in people] == [own(MAN), own(WOMAN)]
    assert rows_of(converted, "person", "person_id") == [(own(MAN),), (own(WOMAN),)]


def test_a_rounded_certificate_is_never_hashed():
    header = f"{PERSON} 证件号码"
    with_number = read(header, "H1 P1 甲镇 东村 6.12522E+17", f"H1 P2 甲镇 东村 {MAN}")
    assert with_number.people["certificate"].to_pylist() == [None, own(MAN)]
    assert with_number.counts.accepted == 2
    without = read(header, "H1 - 甲镇 东村 6.12522E+17", f"H1 P2 甲镇 东村 {MAN}")
    assert without.counts.rejected == 1
    assert "rounded" in faults(without)[0][2]
    assert without.people["certificate"].to_pylist() == [own(MAN)]


def test_near_misses_of_a_mistyped_certificate_are_hashed():
    # The digits at positions 9 and 10 change places: the check digit no longer fits.
    mistyped = MAN[:8] + MAN[9] + MAN[8] + MAN[10:]
    assert mistyped != MAN
    converted = read(
        "姓名 证件号码 结算时间 医疗总费用", f"王五 {mistyped} 2021-06-01 10", name="medical_bills"
    )
    person = converted.people.to_pylist()[0]
    assert own(MAN) in person["transposed"]
    assert (person["certificate"], person["person_id"]) == (None, None)
    assert person["name"] == own("王五")
    assert converted.counts.rejected == 1
    text = str(converted.rejected.to_pylist()) + str(converted.people.to_pylist())
    assert mistyped not in text
    assert MAN not in text


def test_insurance_of_a_household_is_counted_over_its_members():
    converted = read(
        f"{PERSON} 是否参加城乡居民基本医疗保险 是否参加城镇职工基本医疗保险",
        "H1 P1 甲镇 东村 是 -",
        "H1 P2 甲镇 东村 否 是",
        "H2 P3 甲镇 东村 否 否",
        "H2 P4 甲镇 东村 否 -",
        "H2 P5 甲镇 东村 - -",  # of this one nothing is known
        "H3 P6 甲镇 东村 - -",
    )
    told = rows_of(converted, "check", "household_id", "item", "passed", "uninsured_members")
    assert told == [(own("H1"), "insurance", True, 0), (own("H2"), "insurance", False, 2)]


def test_household_columns_of_persons_become_one_household_and_contradictions_are_told():
    converted = read(
        "户编号 人编号 县 乡（镇） 行政村 户类型 耕地面积（亩） 与户主关系 民族",
        "H1 P1 丹凤县 甲镇 东村 脱贫户 3.5 户主 汉族",
        "H1 P2 丹凤县 甲镇 东村 脱贫户 3.5 配偶 回族",
        "H1 P3 丹凤县 甲镇 西村 一般农户 - 之子 汉族",
    )
    columns = ("township_id", "village_id", "household_type", "cultivated_land", "ethnic_minority")
    assert rows_of(converted, "household", *columns) == [
        ("丹凤县/甲镇", "丹凤县/甲镇/东村", "lifted", 3.5, False)  # the nation is that of the head
    ]
    assert [f[:2] for f in faults(converted)] == [(5, "县 + 乡（镇） + 行政村"), (5, "户类型")]
    assert converted.counts.accepted == 3
    assert {"household", "person"} <= converted.states


def test_of_as_many_rows_the_first_one_is_believed():
    converted = read(f"{PERSON} 户类型", "H1 P1 甲镇 东村 一般农户", "H1 P2 甲镇 东村 脱贫户")
    assert rows_of(converted, "household", "household_type") == [("ordinary",)]
    assert faults(converted)[0][:2] == (4, "户类型")


def test_one_person_twice():
    converted = read(
        f"序号 {PERSON} 劳动技能 备注",
        "1 H1 P1 甲镇 东村 普通劳动力 -",
        "2 H1 P1 甲镇 东村 普通劳动力 -",  # differs in its serial number only
        "3 H1 P1 甲镇 东村 普通劳动力 补录",  # says the same in another way
        "4 H2 P1 甲镇 东村 普通劳动力 -",  # in two households
    )
    assert (converted.counts.accepted, converted.counts.repeated, converted.counts.rejected) == (
        1,
        2,
        1,
    )
    assert faults(converted) == [
        (6, "person", "one record of 'person' per person_id, event_date; row 3 says something else")
    ]
    # A row that is refused has no part in its household either.
    assert rows_of(converted, "household", "household_id") == [(own("H1"),)]
    assert converted.people["household_id"].to_pylist() == [own("H1")]


def test_all_faults_of_a_rejected_row_are_told_and_those_of_kept_rows_apart():
    converted = read(
        f"{PERSON} 劳动技能 残疾等级 耕地面积",
        "- P1 甲镇 东村 啥都会 九级 多",
        "H1 P2 甲镇 东村 啥都会 2 1",
    )
    assert (converted.counts.accepted, converted.counts.rejected) == (1, 1)
    assert sorted(f[:2] for f in faults(converted)) == [
        (3, "劳动技能"),
        (3, "户编号"),
        (3, "残疾等级"),
        (3, "耕地面积"),
        (4, "劳动技能"),
    ]
    kept = {f["row"]: "row was kept" in f["expected"] for f in converted.rejected.to_pylist()}
    assert kept == {3: False, 4: True}


# ------------------------------------------------------------------------------------------ income


INCOME = "户编号 家庭人口 年度 识别监测时间 工资性收入（万元） 生产经营性收入 生产经营性支出 低保金 养老保险金"


@pytest.mark.parametrize(
    ("year", "identified", "exported", "expected"),
    [
        # 1 October of the year before to 30 September.
        ("2023", "-", date(2023, 11, 30), (date(2022, 10, 1), date(2023, 9, 30), "annual")),
        ("2023年", "202205", date(2023, 11, 30), (date(2022, 10, 1), date(2023, 9, 30), "annual")),
        # Identified in June 2021: June 2020 to May 2021.
        ("-", "202106", date(2021, 7, 15), (date(2020, 6, 1), date(2021, 5, 31), "rolling")),
        # The account of 2021 cannot be complete in July: it is the rolling one.
        ("2021", "202106", date(2021, 7, 15), (date(2020, 6, 1), date(2021, 5, 31), "rolling")),
        ("2021", "202101", date(2021, 10, 1), (date(2020, 10, 1), date(2021, 9, 30), "annual")),
    ],
)
def test_window_of_an_income_account(year, identified, exported, expected):
    row = f"H1 3 {year} {identified} 1.2 2000 500 - -"
    converted = read(INCOME, row, name="national_income", exported=exported)
    assert rows_of(converted, "income", "period_start", "period_end", "window") == [expected]
    record = converted.records["income"].to_pylist()[0]
    assert record["wage"] == 12000  # ten thousands of yuan
    assert (record["event_date"], record["known_date"]) == (expected[1], exported)
    assert "income" not in converted.states


def test_an_account_that_is_not_complete_is_rejected():
    row = "H1 3 2021 201806 1 - - - -"  # identified long ago: no rolling account either
    converted = read(INCOME, row, name="national_income", exported=date(2021, 7, 15))
    assert converted.counts.rejected == 1
    assert "was over on 2021-07-15" in faults(converted)[0][2]


def test_months_of_the_file_go_before_all_rules():
    header = "户编号 年度 核算开始时间 核算结束时间 工资性收入 转移性收入 核算方式"
    converted = read(
        header,
        "H1 2021 2020.10 2021.09 1 1 滚动",
        "H2 2021 202003 202102 1 1 -",
        "H3 2021 - - 1 1 滚动",
        name="national_income",
        exported=date(2021, 12, 1),
    )
    assert rows_of(converted, "income", "period_start", "period_end", "window") == [
        (date(2020, 10, 1), date(2021, 9, 30), "annual"),
        (date(2020, 3, 1), date(2021, 2, 28), "rolling"),
    ]
    # A rolling account without a month of identification covers nobody knows what.
    assert [f[0] for f in faults(converted) if "a day on which it happened" in f[2]] == [5]


def test_parts_of_transfers_are_summed_only_where_there_is_no_total():
    header = "户编号 年度 工资性收入 转移性收入 低保金 养老保险金 其他财产性收入"
    converted = read(
        header,
        "H1 2021 1 - 4,800 １２００ -",
        "H2 2021 1 700 4800 1200 300",
        "H3 2021 1 - - - -",
        name="national_income",
        exported=date(2021, 12, 1),
    )
    assert rows_of(converted, "income", "transfer", "property") == [
        (6000, None),
        (700, 300),
        (None, None),  # nothing told is not zero
    ]


def test_totals_that_do_not_fit_their_parts_are_told():
    header = "户编号 年度 家庭人口 工资性收入 转移性收入 家庭纯收入 人均纯收入"
    converted = read(
        header,
        "H1 2021 2 1000 500 1500 750",
        "H2 2021 2 1000 500 9000 750",
        name="national_income",
        exported=date(2021, 12, 1),
    )
    assert [f[:2] for f in faults(converted)] == [(4, "家庭纯收入"), (4, "人均纯收入")]
    assert converted.counts.accepted == 2
    assert {f["found"] for f in converted.rejected.to_pylist()} == {"(hidden)"}


def test_amounts_beyond_the_bounds_stay_empty():
    header = "户编号 年度 家庭人口 工资性收入 转移性收入"
    converted = read(header, "H1 2021 0 -5 500", name="national_income", exported=date(2021, 12, 1))
    assert rows_of(converted, "income", "members", "wage", "transfer") == [(None, None, 500)]
    assert {f[1] for f in faults(converted)} == {"家庭人口", "工资性收入"}


# -------------------------------------------------------------------------------------- monitoring


MONITORED = "户编号 监测对象类别 首次识别时间 识别监测时间 风险是否已消除 消除监测时间 致贫/返贫风险1 致贫/返贫风险2"


def monitoring(*rows, exported=DAY):
    converted = read(MONITORED, *rows, name="national_monitored", exported=exported)
    return converted, sorted(
        rows_of(converted, "monitoring", "event_date", "status", "category", "risk_type")
    )


def test_identified_and_cleared_months():
    converted, told = monitoring("H1 突发严重困难户 - 202011 是 202106 因病 因残")
    assert told == [
        (date(2020, 11, 30), "identified", "sudden", "illness"),
        (date(2021, 6, 30), "cleared", "sudden", "illness"),
    ]
    assert set(converted.records["monitoring"]["known_date"].to_pylist()) == {DAY}
    assert converted.states == frozenset()


def test_a_household_monitored_for_the_second_time():
    _, told = monitoring("H1 脱贫不稳定户 202001 202105 否 - 因务工就业不稳 -")
    assert told == [
        (date(2020, 1, 31), "identified", None, None),
        (date(2021, 5, 31), "identified", "unstable", "job_loss"),
    ]


def test_a_month_that_is_not_over_is_the_same_record_in_the_next_export():
    for exported in (date(2021, 7, 15), date(2021, 8, 15)):
        converted, _ = monitoring("H1 边缘易致贫户 - 202107 否 - 缺劳动力 -", exported=exported)
        record = converted.records["monitoring"].to_pylist()[0]
        assert record["event_date"] == date(2021, 7, 31)
        # Never known before it happened, and never before the export.
        assert record["known_date"] == max(date(2021, 7, 31), exported)


def test_months_to_come_are_rejected():
    converted = read(MONITORED, "H1 边缘户 - 202109 否 - 因学 -", name="national_monitored")
    assert converted.counts.rejected == 1
    assert converted.records == {}


def test_cleared_without_a_month_keeps_the_identification():
    converted, told = monitoring("H1 边缘户 - 202101 是 - 因学 -")
    assert [t[1] for t in told] == ["identified"]
    assert faults(converted)[0][1:] == (
        "消除监测时间",
        "a day on which it happened (the row was kept)",
    )
    assert converted.counts.accepted == 1


def test_cleared_months_of_households_whose_risk_is_not_cleared_are_no_clearing():
    _, told = monitoring("H1 边缘户 - 202101 否 202103 因学 -")
    assert [t[1] for t in told] == ["identified"]


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("因病", "illness"),
        ("因残", "disability"),
        ("因学", "schooling"),
        ("因自然灾害", "disaster"),
        ("0203", "disaster"),
        ("因意外事故", "accident"),
        ("产业项目失败", "industry_failure"),
        ("因务工就业不稳", "job_loss"),
        ("缺劳动力", "labour_shortage"),
        ("因安全住房", "housing"),
        ("因安全饮水", "water"),
        ("其他", "other"),
        ("99", "other"),
        (
            "因残,因病",
            "disability",
        ),  # the first is the main one, in whatever order codes are declared
        ("因病、因残", "illness"),
        ("无", None),
    ],
)
def test_risk_types(word, code):
    _, told = monitoring(f"H1 边缘户 - 202101 否 - {word} -")
    assert told[0][3] == code


def test_all_five_risks_are_kept_where_the_schema_has_columns_for_them():
    header = "户编号 识别监测时间 致贫/返贫风险1 致贫/返贫风险2 致贫/返贫风险3"
    converted = read(
        header,
        "H1 202101 因病 因残 因学",
        "H2 202101 因病、因学 - -",
        name="national_monitored",
    )
    assert rows_of(converted, "monitoring", "risk_type", "risk_type_2", "risk_type_3") == [
        ("illness", "disability", "schooling"),
        ("illness", "schooling", None),
    ]


def test_guarantees_at_identification_and_after_clearing():
    converted = read(
        "户编号 识别监测时间 消除监测时间 致贫返贫风险1 识别时|住房安全 识别时|饮水安全 风险消除后|住房安全",
        "H1 202101 202106 因安全住房 否 是 是",
        name="national_monitored",
    )
    assert sorted(rows_of(converted, "check", "event_date", "item", "passed")) == [
        (date(2021, 1, 31), "housing", False),
        (date(2021, 1, 31), "water", True),
        (date(2021, 6, 30), "housing", True),
    ]


# ---------------------------------------------------------------------------------- other exports


def test_work_by_month():
    header = "户编号 人编号 月份 是否已务工 务工所在地 务工月收入（元） 就业渠道"
    converted = read(
        header,
        "H1 P1 202105 是 省外 4,500 自发外出",
        "H1 P1 2021年6月 √ 县内 1800元 公益性岗位",
        "H1 P1 2021.07 否 - - -",
        "H1 P2 202106 - 县内 - -",
        name="national_work",
    )
    columns = ("event_date", "known_date", "worked", "place", "wage", "public_post")
    assert rows_of(converted, "work", *columns) == [
        (date(2021, 5, 31), DAY, True, "outside", 4500, False),
        (date(2021, 6, 30), DAY, True, "county", 1800, True),
        (date(2021, 7, 31), date(2021, 7, 31), False, None, None, None),
    ]
    assert faults(converted) == [(6, "是否已务工", "a value (required)")]
    assert (
        "work" not in converted.states
    )  # a month is a fact of its own, also where nothing changed


def test_work_without_a_month_is_that_of_the_export():
    converted = read("户编号 人编号 是否已务工", "H1 P1 是", name="national_work")
    assert rows_of(converted, "work", "event_date") == [(date(2021, 7, 31),)]


def test_measures_of_one_kind_and_day_are_added_up():
    header = "户编号 帮扶措施 综合保障类型 开始时间 结束时间 金额（万元）"
    converted = read(
        header,
        "H1 产业帮扶 - 202101 202112 1.2",
        "H1 产业帮扶 - 202101 202106 0.06",
        "H1 综合保障 低保 2021-02-03 - 0.04",
        "H1 公益岗位帮扶 - - - 1",
        name="national_measures",
    )
    columns = ("event_date", "kind", "amount", "valid_to")
    assert rows_of(converted, "assistance", *columns) == [
        (date(2021, 1, 1), "industry", 1100.0, date(2021, 12, 31)),  # 12,000 / 12 + 600 / 6
        (date(2021, 2, 3), "dibao", 400.0, None),
    ]
    assert faults(converted)[0][:2] == (6, "开始时间")


def test_household_export():
    header = "户编号 乡镇 行政村 户主姓名 户类型 脱贫年度 危房户 住房等级 是否解决安全饮用水 是否易地搬迁户 安置方式 是否实际入住 距主干路距离（里） 识别监测时间 致贫返贫风险"
    converted = read(
        header,
        "H1 甲镇 东村 王五 脱贫户 2018 否 B级 是 是 集中安置 是 3 202101 因病",
        "H2 甲镇 东村 李四 一般农户 - - D 否 否 - - - - -",
        "H3 甲镇 东村 赵六 一般农户 - 是 A - - - - - - -",
        name="national_household",
    )
    assert rows_of(converted, "household", "household_type", "lifted_year", "distance_to_road") == [
        ("lifted", 2018, 1.5),
        ("ordinary", None, None),
        ("ordinary", None, None),
    ]
    assert rows_of(converted, "relocation", "mode", "occupied") == [("centralised", True)]
    checks = rows_of(converted, "check", "household_id", "item", "passed", "house_grade")
    assert sorted(checks) == sorted(
        [
            (own("H1"), "housing", True, "B"),
            (own("H2"), "housing", False, "D"),
            (own("H3"), "housing", False, "A"),  # said to be dangerous: it does not pass
            (own("H1"), "water", True, None),
            (own("H2"), "water", False, None),
        ]
    )
    assert len(converted.records["monitoring"]) == 1
    assert converted.people.num_rows == 0


# ------------------------------------------------------------------------------------------- feeds


def test_when_an_event_of_a_feed_was_known():
    header = "身份证号 结算时间 推送日期 医疗总费用 个人自付 结算单号"
    converted = read(
        header,
        f"{MAN} 2021-06-01 2021-06-04 100 10 A1",  # the file tells
        f"{MAN} 2021-04-01 - 100 10 A2",  # 35 days later
        f"{MAN} 2021-07-10 - 100 10 A3",  # at the latest on delivery
        f"{MAN} 2021-06-01 2021-05-01 100 10 A4",  # known before it happened
        f"{MAN} 2021-07-16 - 100 10 A5",  # after the delivery
        f"{MAN} 2021-06-01 2021-07-16 100 10 A6",  # known after the delivery
        name="medical_bills",
    )
    assert rows_of(converted, "medical_bill", "bill_id", "known_date") == [
        (own("A1"), date(2021, 6, 4)),
        (own("A2"), date(2021, 5, 6)),
        (own("A3"), DAY),
    ]
    assert [f[0] for f in faults(converted)] == [6, 7, 8]
    assert converted.records["medical_bill"]["person_id"].to_pylist() == [own(MAN)] * 3
    assert converted.records["medical_bill"]["household_id"].null_count == 3


def test_bills_without_a_number_get_one_and_two_equal_ones_are_a_repeat():
    header = "身份证号 结算时间 医疗类别 医疗总费用 个人自付"
    converted = read(
        header,
        f"{MAN} 2021-06-01 住院 100 10",
        f"{MAN} 2021-06-01 住院 100 10",
        f"{MAN} 2021-06-01 门诊慢特病 100 10",
        name="medical_bills",
    )
    assert (converted.counts.accepted, converted.counts.repeated) == (2, 1)
    assert len(set(converted.records["medical_bill"]["bill_id"].to_pylist())) == 2
    assert rows_of(converted, "medical_bill", "care") == [("inpatient",), ("outpatient",)]


def test_records_of_households_in_a_feed_name_the_person():
    converted = read(
        "户主姓名 户主身份证号 灾害种类 受灾时间 损失金额（万元） 房屋受损情况",
        f"王五 {MAN} 山洪 2021年6月3日 0.5 倒塌",
        f"王五 {MAN} 洪涝灾害 2021-06-03 1 -",
        f"李四 {WOMAN} 滑坡 2021-06-03 1 一般损坏",
        name="disaster_losses",
    )
    told = rows_of(converted, "shock", "person_id", "household_id", "kind", "loss")
    assert told == [(own(MAN), None, "flood", 15000), (own(WOMAN), None, "geological", 10000)]
    assert rows_of(converted, "check", "person_id", "item", "passed") == [
        (own(MAN), "housing", False)
    ]
    assert converted.counts.accepted == 3


def test_new_illness_says_nothing_else_of_a_person():
    converted = read(
        "身份证号 确诊时间 疾病类别",
        f"{MAN} 2021-06-01 大病",
        f"{MAN} 2021-06-01 慢性病",
        f"{WOMAN} 2021年5月 -",
        name="severe_illness",
    )
    columns = ("person_id", "event_date", "severe_illness", "chronic_illness", "status")
    assert rows_of(converted, "person", *columns) == [
        (own(MAN), date(2021, 6, 1), True, True, "present"),
        (own(WOMAN), date(2021, 5, 31), True, None, "present"),
    ]
    assert "person" not in converted.states
    assert converted.records["person"]["household_id"].null_count == 2


def test_disability_certificates():
    converted = read(
        "残疾人证号 残疾等级 发证日期 业务类型",
        f"{MAN}42 三级 2021-06-01 新办",
        f"{WOMAN}11 一级 2021-06-01 注销",
        name="disability",
    )
    assert rows_of(converted, "person", "person_id", "disability_level") == [(own(MAN), 2)]
    assert [f[:2] for f in faults(converted)] == [(3, "残疾等级"), (4, "业务类型")]


def test_schooling_and_dropouts():
    header = "学生身份证号 学段 入学时间 资助金额 学费"
    converted = read(
        header, f"{MAN} 高中 2021-03-01 500 1000", f"{MAN} 高中 2021-03-01 300 -", name="schooling"
    )
    assert rows_of(converted, "schooling", "stage", "status", "cost", "aid") == [
        ("senior", "enrolled", 1000, 800)
    ]
    converted = read(
        "学生身份证号 辍学时间 辍学原因 劝返时间",
        f"{MAN} 202103 厌学 2021-04-10",
        f"{WOMAN} 202103 重度残疾 -",
        name="dropouts",
    )
    assert rows_of(converted, "schooling", "event_date", "status", "stage") == [
        (date(2021, 3, 31), "dropped_out", "compulsory"),
        (date(2021, 4, 10), "enrolled", "compulsory"),
    ]
    assert converted.counts.rejected == 1


def test_employment_assistance_and_houses():
    converted = read(
        "身份证号 统计月份 就业状态 失业时间 月工资",
        f"{MAN} 202106 失业 2021-06-10 -",
        f"{WOMAN} 202106 已就业 - 3000",
        name="employment",
    )
    assert rows_of(converted, "work", "worked", "wage") == [(False, None), (True, 3000)]
    assert rows_of(converted, "shock", "kind", "event_date") == [("job_loss", date(2021, 6, 10))]
    converted = read(
        "户编号 身份证号 救助类型 审批时间 停发时间 月保障金额",
        f"H1 {MAN} 农村低保 202101 - 400",
        f"H1 {WOMAN} 农村低保 202101 - 380",
        f"H1 {MAN} 临时救助 2021-02-03 - 2000",
        name="social_assistance",
    )
    assert rows_of(converted, "assistance", "kind", "amount", "event_date", "valid_to") == [
        ("dibao", 780, date(2021, 1, 1), None),
        ("temporary", 2000, date(2021, 2, 3), date(2021, 2, 3)),
    ]
    converted = read(
        "户编号 鉴定等级 鉴定时间 竣工时间", "H1 C级 20210301 2021-06-01", name="house_inspections"
    )
    assert rows_of(converted, "check", "event_date", "passed", "house_grade") == [
        (date(2021, 3, 1), False, "C"),
        (date(2021, 6, 1), True, None),
    ]


def test_assistance_per_household_is_taken_once():
    converted = read(
        "户编号 身份证号 救助类型 审批时间 户月保障金额",
        f"H1 {MAN} 低保 202101 780",
        f"H1 {WOMAN} 低保 202101 780",
        name="social_assistance",
    )
    assert rows_of(converted, "assistance", "amount") == [(780,)]


def test_deaths_and_accidents():
    converted = read(
        "身份证号 发生时间 事件类型 损失金额",
        f"{MAN} 2021-06-01 交通事故死亡 500",
        f"{WOMAN} 2021-06-02 迁出 -",
        name="deaths_accidents",
    )
    assert rows_of(converted, "person", "status") == [("deceased",), ("left",)]
    told = {(kind, loss) for kind, loss in rows_of(converted, "shock", "kind", "loss")}
    assert told == {("accident", 500), ("death", None)}


def test_loans_claims_visits_and_appeals():
    converted = read(
        "借款人身份证号 贷款编号 贷款余额（万元） 到期日 逾期天数",
        f"{MAN} L1 3 2023-01-01 0",
        name="microcredit",
    )
    assert rows_of(converted, "loan", "loan_id", "balance", "event_date", "known_date") == [
        (own("L1"), 30000, DAY, DAY)
    ]
    converted = read(
        "身份证号 理赔时间 理赔金额 出险原因 出险时间",
        f"{MAN} 2021-06-01 500 意外伤害 2021-05-01",
        f"{WOMAN} 2021-06-01 700 因病 2021-05-01",
        name="insurance_claims",
    )
    assert rows_of(converted, "assistance", "kind", "amount") == [("other", 500), ("medical", 700)]
    assert rows_of(converted, "shock", "kind", "event_date") == [("accident", date(2021, 5, 1))]
    converted = read(
        "户编号 走访时间 走访类型 是否发现困难",
        "H1 2021-06-01 日常走访 否",
        "H1 2021-06-01 日常走访 是",
        name="visits",
    )
    assert rows_of(converted, "visit", "purpose", "difficulty_found") == [("routine", True)]
    converted = read(
        "诉求人身份证号 诉求时间 办结时间 办理结果",
        f"{MAN} 2021-06-01 2021-06-20 属实",
        name="appeals",
    )
    assert rows_of(converted, "visit", "purpose", "difficulty_found", "known_date") == [
        ("alert", True, date(2021, 6, 20))
    ]


def test_water():
    converted = read(
        "户编号 停水时间 问题类型 恢复供水时间", "H1 2021-05-01 管网损坏 2021-05-20", name="water"
    )
    assert rows_of(converted, "check", "item", "passed", "event_date") == [
        ("water", False, date(2021, 5, 1)),
        ("water", True, date(2021, 5, 20)),
    ]


# ----------------------------------------------------------------------------------------- privacy


SECRETS = (
    "张三丰",
    "13812345678",
    "6217001234567890123",
    "幸福路八号",
    MAN,
    WOMAN,
    "H4711",
    "P4711",
)


def test_nothing_private_leaves_the_conversion():
    converted = read(
        f"姓名 {PERSON} 证件号码 联系电话 银行卡号 家庭住址 文化程度 出生日期 耕地面积",
        f"张三丰 H4711 P4711 甲镇 东村 {MAN} 13812345678 6217001234567890123 幸福路八号 张三丰 13812345678 {WOMAN}",
        f"张三丰 - P4711 甲镇 东村 {WOMAN} 13812345678 6217001234567890123 幸福路八号 小学 {MAN} 张三丰",
    )
    told = [*converted.records.values(), converted.people, converted.rejected, converted.private]
    text = " ".join(str(table.to_pylist()) for table in told)
    assert not [secret for secret in SECRETS if secret in text]
    assert converted.rejected.num_rows >= 5
    assert converted.private.num_rows == 0
    name = converted.people["name"].to_pylist()[0]
    assert name == own("张三丰")


def test_private_columns_are_kept_apart_where_an_office_asks_for_it():
    converted = read(
        f"姓名 {PERSON} 联系电话",
        "张三丰 H4711 P4711 甲镇 东村 13812345678",
        "李四 H4711 P4712 甲镇 东村 -",
        keep_private=True,
    )
    assert converted.private.to_pylist() == [
        # Ids by their own hash, so that they can be given new ones when the key changes.
        {"id": own("H4711"), "field": "household_id", "value": "H4711"},
        {"id": own("H4711"), "field": "household_id", "value": "H4711"},
        {"id": own("P4711"), "field": "person_id", "value": "P4711"},
        {"id": own("P4712"), "field": "person_id", "value": "P4712"},
        {"id": own("P4711"), "field": "person_name", "value": "张三丰"},
        {"id": own("P4712"), "field": "person_name", "value": "李四"},
        {"id": own("P4711"), "field": "phone", "value": "13812345678"},
    ]


def test_words_are_told_only_where_many_rows_share_them():
    assert hide(["张三丰"] * 9)[0] == "(text of 3 characters)"
    assert hide(["半残"] * 10)[0] == "半残"
    assert hide(["2021-13-45", "612522196203050118", "abc"]) == [
        "2021-13-45",
        "61***18",
        "(text of 3 characters)",
    ]


# ------------------------------------------------------------------------------- all kinds, errors


def test_a_sheet_that_lacks_what_the_mapping_needs_is_refused():
    with pytest.raises(HistoryError, match="no column for township of.*a header such as 乡"):
        read("户编号 户类型", "H1 脱贫户", name="national_household")


def test_a_mapping_for_another_schema_is_refused():
    with pytest.raises(DeclarationError, match="found table 'visit'"):
        read(
            "户编号 走访时间 是否发现困难",
            "H1 2021-06-01 是",
            name="visits",
            schema=load_schema("eph"),
        )


WORDS = ["-", "是", "否", "1", "202106", "2021-06-01", "2021.1.1", "44348", "一级", "因病", "低保", "在读", "A",
         "万", "１２３", "1,200", "3.5万元", "√", "住院", "死亡", "洪涝", "x" * 50, MAN, WOMAN, "6.1E+17", "😀", "\\", "'"]  # fmt: skip


@pytest.mark.parametrize("name", list_mappings())
def test_any_row_is_accounted_for_and_what_is_accepted_fits_the_schema(name):
    """Random cells: counts add up (in `read`), and no record is refused by the archive later."""
    rng = random.Random(name)
    mapping = load_mapping(name)
    header = " ".join(field.headers[0] for field in mapping.fields.values())
    rows = []
    for _ in range(60):
        cells = []
        for field in mapping.fields.values():
            likely = [*field.codes][:3] or ["2021-06-01", "202106", "5", MAN]
            cells.append(rng.choice([*likely, *likely, *WORDS]))
        rows.append(" ".join(cells))
    converted = read(header, *rows, mapping=mapping)
    schema = load_schema("archive")
    tables = {}
    for table, records in converted.records.items():
        ids = schema.tables[table].id_columns
        for column in ids:  # as if linked; without a link the archive cannot take them
            at = records.column_names.index(column)
            stand_in = pa.array([f"{column}{n}" for n in records["source_row"].to_pylist()])
            filled = pa.array(
                [
                    a or b
                    for a, b in zip(records[column].to_pylist(), stand_in.to_pylist(), strict=True)
                ],
                pa.string(),
            )
            records = records.set_column(at, column, filled)
        extra = {"source_row", "person_id"} - set(ids)
        tables[table] = records.drop_columns([c for c in records.column_names if c in extra])
    if tables:
        history = HistoryTables.from_frames(tables, schema)
        assert history.rejected.empty
        assert sum(len(t) for t in tables.values()) > 0


def test_a_later_known_row_of_a_feed_is_a_correction_and_stays():
    converted = read(
        "户编号 贷款编号 统计日期 推送日期 贷款余额 逾期天数",
        "H1 L1 2021-05-31 2021-06-01 30000 0",
        "H1 L1 2021-05-31 2021-06-20 30000 15",
        "H1 L1 2021-05-31 2021-06-20 30000 99",
        name="microcredit",
    )
    assert rows_of(converted, "loan", "known_date", "overdue_days") == [
        (date(2021, 6, 1), 0),
        (date(2021, 6, 20), 15),
    ]
    # Of two that were known on one day nobody can tell which one was believed.
    assert [f[0] for f in faults(converted)] == [5]
    assert converted.counts.rejected == 1


def test_rows_are_told_by_their_number_in_the_file():
    converted = read(
        f"{PERSON} 劳动技能", "H1 P1 甲镇 东村 普通劳动力", "- P2 甲镇 东村 普通劳动力"
    )
    assert converted.records["person"]["source_row"].to_pylist() == [3]
    assert converted.rejected["row"].to_pylist() == [4]


def test_an_empty_sheet():
    converted = read(PERSON + " 健康状况")
    assert converted.records == {}
    assert converted.rejected.num_rows == converted.people.num_rows == 0
