"""A county as its offices would hand it over: archived exports and departmental feeds, with their faults.

The history is simulated; what is written are the files: old and new workbooks, CSV in three encodings,
title rows, headers over two rows, totals, full-width digits, eight ways to write a date, amounts in
ten-thousands, several codes in a cell, certificate numbers of 15, 18 and 20 digits, some with two digits
exchanged, some that a spreadsheet rounded; accounts that a later export corrects. `write_messy_county` says
how many rows of each file are good, repeated and bad, so that the counts of an import can be checked.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xlsxwriter
import xlwt

from poverty_risk import HistoryTables, make_household_history

EXPORT_DAYS = ("2021-12-31", "2022-12-31", "2023-12-31", "2024-12-31")
COUNTY = "示例县"
LINE = {2019: 5000, 2020: 5400, 2021: 6000, 2022: 6600, 2023: 7100, 2024: 7600, 2025: 8100}


@dataclass
class MessyFile:
    """A written file and what stands in it.

    Parameters
    ----------
    path
        The file.
    kind
        Mapping that reads it.
    exported
        Day of its export or delivery.
    rows
        Rows that are records, good or bad.
    rejected
        Rows without a readable value in a column that a record cannot do without.
    repeated
        Rows that stand there twice.
    spoiled
        Cells that cannot be read in rows that can do without them.
    """

    path: Path
    kind: str
    exported: str
    rows: int
    rejected: int = 0
    repeated: int = 0
    spoiled: int = 0


@dataclass(frozen=True)
class MessyCounty:
    """All files, and the history that they were written from.

    Parameters
    ----------
    files
        What was written.
    tables
        The simulated history.
    certificates
        Number by person_id.
    corrections
        Accounts that a later export tells otherwise: ``household_id``, ``year``, and the wages
        ``before`` and ``after``, in yuan.
    """

    files: list[MessyFile]
    tables: HistoryTables
    certificates: pd.Series
    corrections: pd.DataFrame

    def find(self, kind: str) -> list[MessyFile]:
        """Files of a kind, in the order of their days."""
        return [file for file in self.files if file.kind == kind]


# --------------------------------------------------------------------------- certificate numbers

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def add_check_digit(body: str) -> str:
    """A number of 17 digits with the check digit of GB 11643."""
    total = sum(int(digit) * weight for digit, weight in zip(body, WEIGHTS, strict=True))
    return body + "10X98765432"[total % 11]


def make_certificates(tables: HistoryTables) -> pd.Series:
    """One number per person by person_id: region, birth date, and an order whose parity is the sex."""
    others = [tables[name][["person_id"]] for name in ("medical_bill", "work", "schooling")]
    persons = pd.concat([tables["person"], *others])
    # The first that is told of each; where nothing is, any will do: only the number knows then.
    people = persons.groupby("person_id", as_index=False)[["birth_date", "sex"]].first()
    people = people.fillna({"birth_date": pd.Timestamp("1961-01-01"), "sex": "woman"})
    turn = people.groupby(["birth_date", "sex"]).cumcount()
    numbers = [
        add_check_digit(
            f"6125{22 + order // 490:02d}{born:%Y%m%d}{2 * (order % 490 + 1) + (sex == 'man'):03d}"
        )
        for order, born, sex in zip(turn, people["birth_date"], people["sex"], strict=True)
    ]
    return pd.Series(numbers, index=pd.Index(people["person_id"], name="person_id"))


def shorten(number: str) -> str:
    """The 15 digits of somebody born before 2000: no century, no check digit."""
    return number[:6] + number[8:17]


def exchange_digits(number: str) -> str:
    """The number with two neighbouring digits exchanged, so that its check digit is wrong."""
    at = next(at for at in range(16, 0, -1) if number[at] != number[at - 1])
    return number[: at - 1] + number[at] + number[at - 1] + number[at + 1 :]


# --------------------------------------------------------------------------- how people write

DATES: Sequence[Callable[[pd.Timestamp], str]] = (
    lambda day: f"{day:%Y-%m-%d}",
    lambda day: f"{day:%Y.%m.%d}",
    lambda day: f"{day:%Y/%m/%d}",
    lambda day: f"{day:%Y%m%d}",
    lambda day: f"{day.year}年{day.month}月{day.day}日",
    lambda day: f"{day:%Y-%m-%d} 00:00:00",
    lambda day: str((day - pd.Timestamp("1899-12-30")).days),
    lambda day: f"{day:%Y-%m-%d}".translate(FULL_WIDTH),
)
MONTHS: Sequence[Callable[[pd.Timestamp], str]] = (
    lambda day: f"{day:%Y%m}",
    lambda day: f"{day:%Y-%m}",
    lambda day: f"{day.year}年{day.month}月",
    lambda day: f"{day:%Y.%m}",
)
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
YES, NO = ("是", "1", "√"), ("否", "0", "")


def _write_days(days: pd.Series, ways: Sequence[Callable[[pd.Timestamp], str]]) -> list[str]:
    return [
        "" if pd.isna(day) else ways[number % len(ways)](day) for number, day in enumerate(days)
    ]


def _write_flags(flags: pd.Series, no: Sequence[str] = ("否", "0")) -> list[str]:
    told = [(YES if flag else no) if not pd.isna(flag) else ("",) for flag in flags]
    return [words[number % len(words)] for number, words in enumerate(told)]


def _write_amounts(amounts: pd.Series) -> list[str]:
    """Plain, with separators, full-width."""
    ways = (
        lambda value: f"{value:.2f}",
        lambda value: f"{value:,.2f}",
        lambda value: f"{value:.2f}元",
        lambda value: f"{value:.2f}".translate(FULL_WIDTH),
    )
    return [
        "" if pd.isna(value) else ways[number % len(ways)](value)
        for number, value in enumerate(amounts)
    ]


def _translate(values: pd.Series, words: dict[str, str]) -> list[str]:
    return [words.get(str(value), "") if not pd.isna(value) else "" for value in values]


# --------------------------------------------------------------------------- files


def _write_csv(
    path: Path, frame: pd.DataFrame, encoding: str, above: Sequence[str] = (), sign: str = ","
) -> None:
    text = io.StringIO()
    for line in above:
        text.write(line + sign * (len(frame.columns) - 1) + "\n")
    frame.to_csv(text, index=False, sep=sign, quoting=csv.QUOTE_MINIMAL)
    path.write_bytes(text.getvalue().encode(encoding))


def _write_xlsx(
    path: Path, frame: pd.DataFrame, title: str, total: str = "", group: str = "监测信息"
) -> None:
    """A title over all columns, a header over two rows with merged cells, and a row of totals."""
    workbook = xlsxwriter.Workbook(str(path), {"strings_to_numbers": False})
    sheet = workbook.add_worksheet("Sheet1")
    columns = list(frame.columns)
    middle = workbook.add_format({"align": "center"})
    sheet.merge_range(0, 0, 0, len(columns) - 1, title, middle)
    sheet.merge_range(1, 0, 1, 2, "基本信息", middle)
    sheet.merge_range(1, 3, 1, len(columns) - 1, group, middle)
    sheet.write_row(2, 0, columns)
    for number, row in enumerate(frame.itertuples(index=False), start=3):
        sheet.write_row(number, 0, row)
    if total:
        sheet.write(3 + len(frame), 0, total)
        sheet.write_number(3 + len(frame), len(columns) - 1, len(frame))
    workbook.close()


def _write_xls(path: Path, frame: pd.DataFrame, title: str) -> None:
    workbook = xlwt.Workbook(encoding="utf-8")
    sheet = workbook.add_sheet("表1")
    sheet.write_merge(0, 0, 0, len(frame.columns) - 1, title)
    for column, name in enumerate(frame.columns):
        sheet.write(1, column, name)
        for number, value in enumerate(frame[name], start=2):
            sheet.write(number, column, value)
    workbook.save(str(path))


# --------------------------------------------------------------------------- exports and feeds

EDUCATION = {
    "illiterate": "文盲或半文盲", "primary": "小学", "junior": "初中", "senior": "高中",
    "college": "大专", "bachelor": "本科及以上",
}  # fmt: skip
LABOUR = {
    "skilled": "技能劳动力", "ordinary": "普通劳动力", "weak": "弱劳动力或半劳动力",
    "lost": "丧失劳动力", "none": "无劳动力",
}  # fmt: skip
CATEGORY = {"unstable": "脱贫不稳定户", "marginal": "边缘易致贫户", "sudden": "突发严重困难户"}
RISK = {
    "illness": "因病", "disability": "因残", "schooling": "因学", "disaster": "因自然灾害",
    "accident": "因意外事故", "industry_failure": "因产业项目失败", "job_loss": "因务工就业不稳",
    "labour_shortage": "缺劳动力", "housing": "因安全住房", "water": "因安全饮水", "other": "其他",
}  # fmt: skip
DISASTER = ("洪涝灾害", "洪涝", "暴雨洪涝")
STAGE = {
    "preschool": "学前教育", "compulsory": "义务教育", "senior": "普通高中", "vocational": "中职",
    "college": "高职高专",
}  # fmt: skip
PURPOSE = {"routine": "日常走访", "random": "随机抽查", "alert": "预警核查"}
MEASURE = {
    "dibao": "最低生活保障", "tekun": "特困供养", "temporary": "临时救助", "medical": "医疗救助",
    "education": "教育帮扶", "public_post": "公益性岗位", "industry": "产业帮扶", "housing": "危房改造",
    "other": "其他",
}  # fmt: skip


def _latest(tables: HistoryTables, name: str, day: str, by: Sequence[str]) -> pd.DataFrame:
    """What an export of a day shows: the latest known record of each."""
    known = tables.known_before(day)[name]
    return known.sort_values([*by, "event_date", "known_date"]).drop_duplicates(by, keep="last")


def _where(homes: pd.DataFrame) -> dict[str, list[str]]:
    return {
        "县（区）": [COUNTY] * len(homes),
        "乡（镇）": [f"{one}镇" for one in homes["township_id"]],
        "行政村": [f"{one}村" for one in homes["village_id"]],
    }


def _flag_health(person: pd.DataFrame) -> list[str]:
    """Several codes in one cell, in either order."""
    told = []
    for number, row in enumerate(
        person[["chronic_illness", "severe_illness", "disability_level"]].itertuples(index=False)
    ):
        chronic, severe, level = row
        parts = [
            word
            for word, holds in (
                ("长期慢性病", chronic is True),
                ("患有大病", severe is True),
                ("残疾", not pd.isna(level)),
            )
            if holds
        ]
        unknown = pd.isna(chronic) and pd.isna(severe) and pd.isna(level)
        told.append("" if unknown else ",".join(parts[:: 1 if number % 2 else -1]) or "健康")
    return told


def _person_export(tables: HistoryTables, day: str, certificates: pd.Series) -> pd.DataFrame:
    homes = _latest(tables, "household", day, ["household_id"]).set_index("household_id")
    homes = homes[homes["status"] == "active"]
    person = _latest(tables, "person", day, ["person_id"])
    person = person[(person["status"] == "present") & person["household_id"].isin(homes.index)]
    home = homes.loc[person["household_id"]]
    schooled = person["in_school"].fillna(False).astype(bool)
    numbers = certificates[person["person_id"]].to_numpy()
    return pd.DataFrame(
        _where(home)
        | {
            "户编号": person["household_id"].to_numpy(),
            "人编号": person["person_id"].to_numpy(),
            "姓名": [f"张{one[-6:]}" for one in numbers],
            "证件号码": numbers,
            "与户主关系": ["户主" if head else "其他" for head in person["is_head"].fillna(False)],
            "出生日期": _write_days(person["birth_date"], DATES),
            "性别": ["男" if sex == "man" else "女" for sex in person["sex"]],
            "文化程度": [
                "" if school else EDUCATION.get(str(level), "")
                for school, level in zip(schooled, person["education"], strict=True)
            ],
            "在校生状况": ["小学" if school else "" for school in schooled],
            "健康状况": _flag_health(person),
            "残疾等级": [
                "" if pd.isna(level) else "一二三四"[int(level) - 1] + "级"
                for level in person["disability_level"]
            ],
            "劳动技能": _translate(person["labour"], LABOUR),
            "是否参加城乡居民基本医疗保险": ["是"] * len(person),
            "是否参加城乡居民基本养老保险": _write_flags(person["pension_insured"]),
            "联系电话": [f"139{one[-9:-1]}" for one in numbers],
            "户类型": [
                "脱贫户" if kind == "lifted" else "一般农户" for kind in home["household_type"]
            ],
            "脱贫年度": ["" if pd.isna(year) else str(int(year)) for year in home["lifted_year"]],
            "耕地面积（亩）": [
                "" if pd.isna(area) else f"{area:g}" for area in home["cultivated_land"]
            ],
        }
    )


def _income_export(tables: HistoryTables, day: str) -> pd.DataFrame:
    """Yearly accounts that ended within the year, in ten-thousands of yuan."""
    known = tables.known_before(day)["income"]
    year = pd.Timestamp(day).year
    income = known[(known["window"] == "annual") & (known["period_end"].dt.year == year)]
    income = income.sort_values("known_date").drop_duplicates("household_id", keep="last")
    names = {
        "wage": "工资性收入（万元）", "business": "生产经营性收入（万元）",
        "business_cost": "生产经营性支出（万元）", "property": "财产性收入（万元）",
        "transfer": "转移性收入（万元）", "claims": "理赔收入（万元）",
        "rigid_expenditure": "合规自付支出（万元）",
    }  # fmt: skip
    return pd.DataFrame(
        {
            "户编号": income["household_id"].to_numpy(),
            "年度": [str(year)] * len(income),
            "人数": ["" if pd.isna(n) else str(int(n)) for n in income["members"]],
        }
        | {
            header: ["" if pd.isna(value) else f"{value / 10000:.6f}" for value in income[name]]
            for name, header in names.items()
        }
    )


def _write_risks(found: pd.DataFrame) -> list[str]:
    """The main risk first; every third household has two in one cell."""
    told = []
    numbers = found["household_id"].str.extract(r"(\d+)$")[0].astype(int)
    for number, main in zip(numbers, _translate(found["risk_type"], RISK), strict=True):
        other = "因残" if main == "因病" else "因病"
        told.append(main + "、，；"[number // 3 % 3] + other if main and number % 3 == 0 else main)
    return told


def _monitored_export(tables: HistoryTables, day: str) -> pd.DataFrame:
    known = tables.known_before(day)["monitoring"]
    homes = _latest(tables, "household", day, ["household_id"]).set_index("household_id")
    found = known[known["status"] == "identified"].drop_duplicates("household_id", keep="last")
    found = found[found["household_id"].isin(homes.index)]
    ended = known[known["status"] == "cleared"].drop_duplicates("household_id", keep="last")
    cleared = ended.set_index("household_id")["event_date"].reindex(found["household_id"])
    over = cleared.to_numpy() > found["event_date"].to_numpy()
    home = homes.loc[found["household_id"]]
    return pd.DataFrame(
        _where(home)
        | {
            "户编号": found["household_id"].to_numpy(),
            "监测对象类别": _translate(found["category"], CATEGORY),
            "识别监测时间": _write_days(found["event_date"], MONTHS),
            "致贫返贫风险1": _write_risks(found),
            "风险是否已消除": ["是" if one else "否" for one in over],
            "消除监测时间": _write_days(cleared.where(over), MONTHS),
        }
    )


def _feeds(tables: HistoryTables, certificates: pd.Series) -> dict[str, pd.DataFrame]:
    """Departmental feeds over the whole time, each row with the day on which it was delivered."""
    bills, visit = tables["medical_bill"], tables["visit"]
    return {
        "medical_bills": pd.DataFrame(
            {
                "身份证号": _write_numbers(certificates[bills["person_id"]]),
                "结算单号": bills["bill_id"].to_numpy(),
                "结算日期": _write_days(bills["event_date"], DATES),
                "就医类别": ["住院" if care == "inpatient" else "门诊" for care in bills["care"]],
                "是否大病": _write_flags(bills["severe_illness"]),
                "医疗总费用": _write_amounts(bills["total"]),
                "合规自付费用": _write_amounts(bills["out_of_pocket"]),
                "推送日期": _write_days(bills["known_date"], DATES[:1]),
            }
        ),
        "visits": pd.DataFrame(
            {
                "户编号": visit["household_id"].to_numpy(),
                "走访日期": _write_days(visit["event_date"], DATES),
                "走访类型": _translate(visit["purpose"], PURPOSE),
                "是否发现困难": _write_flags(visit["difficulty_found"]),
                "录入日期": _write_days(visit["known_date"], DATES[:1]),
            }
        ),
        **_feeds_of_offices(tables, certificates),
    }


def _feeds_of_offices(tables: HistoryTables, certificates: pd.Series) -> dict[str, pd.DataFrame]:
    """Schools, the federation of the disabled, emergency management and a bank."""
    school, shock, loan = tables["schooling"], tables["shock"], tables["loan"]
    person = tables["person"]
    disabled = person[person["disability_level"].notna()].drop_duplicates("person_id")
    flood = shock[shock["kind"] == "flood"]
    heads = person[person["is_head"].fillna(False).astype(bool)].drop_duplicates("household_id")
    borrowers = heads.set_index("household_id")["person_id"]
    loan = loan[loan["household_id"].isin(borrowers.index)]
    numbers = certificates[disabled["person_id"]]
    return {
        "schooling": pd.DataFrame(
            {
                "学生身份证号": certificates[school["person_id"]].to_numpy(),
                "学段": _translate(school["stage"], STAGE),
                "学籍状态": ["在读" if kind == "enrolled" else "辍学" for kind in school["status"]],
                "开学时间": _write_days(school["event_date"], DATES),
                "学期费用": _write_amounts(school["cost"]),
                "资助金额": _write_amounts(school["aid"]),
                "推送日期": _write_days(school["known_date"], DATES[:1]),
            }
        ),
        "disability": pd.DataFrame(
            {
                "姓名": [f"张{one[-6:]}" for one in numbers],
                # The person's number, the category and the level.
                "残疾人证号": [
                    f"{one}{order % 7 + 1}{int(level)}"
                    for order, (one, level) in enumerate(
                        zip(numbers, disabled["disability_level"], strict=True)
                    )
                ],
                "残疾等级": [
                    "一二三四"[int(level) - 1] + "级" for level in disabled["disability_level"]
                ],
                "发证日期": _write_days(disabled["event_date"], DATES),
                "推送日期": _write_days(disabled["known_date"], DATES[:1]),
            }
        ),
        "disaster_losses": pd.DataFrame(
            {
                "户编号": flood["household_id"].to_numpy(),
                "灾害种类": [DISASTER[number % 3] for number in range(len(flood))],
                "受灾时间": _write_days(flood["event_date"], DATES),
                "损失金额（万元）": [
                    "" if pd.isna(loss) else f"{loss / 10000:.6f}" for loss in flood["loss"]
                ],
                "上报时间": _write_days(flood["known_date"], DATES[:1]),
            }
        ),
        "microcredit": pd.DataFrame(
            {
                "借款人身份证号": certificates[borrowers[loan["household_id"]]].to_numpy(),
                "借据号": loan["loan_id"].to_numpy(),
                "统计日期": _write_days(loan["event_date"], DATES),
                "贷款余额（元）": _write_amounts(loan["balance"]),
                "逾期天数": [str(days) for days in loan["overdue_days"]],
                "到期日期": _write_days(loan["maturity_date"], DATES),
                "推送日期": _write_days(loan["known_date"], DATES[:1]),
            }
        ),
    }


def _write_numbers(numbers: pd.Series) -> list[str]:
    """Some of those born before 2000 as their old cards have it, with 15 digits."""
    return [
        shorten(number) if number[6:8] == "19" and at % 20 == 0 else number
        for at, number in enumerate(numbers)
    ]


def _exports_of_events(
    tables: HistoryTables, after: pd.Timestamp, day: str
) -> dict[str, pd.DataFrame]:
    """Exports of what became known since the export before."""

    def recent(name: str) -> pd.DataFrame:
        known = tables.known_before(day)[name]
        return known[known["known_date"] >= after]

    work, measure = recent("work"), recent("assistance")
    return {
        "national_work": pd.DataFrame(
            {
                "户编号": work["household_id"].to_numpy(),
                "人编号": work["person_id"].to_numpy(),
                "监测月份": _write_days(work["event_date"], MONTHS),
                "是否已务工": _write_flags(work["worked"]),
                "务工月收入": _write_amounts(work["wage"]),
                "是否公益性岗位": _write_flags(work["public_post"]),
            }
        ),
        "national_measures": pd.DataFrame(
            {
                "户编号": measure["household_id"].to_numpy(),
                "帮扶措施": _translate(measure["kind"], MEASURE),
                "开始时间": _write_days(measure["event_date"], DATES),
                "结束时间": _write_days(measure["valid_to"], DATES),
                "月金额": _write_amounts(measure["amount"]),
            }
        ),
    }


def _spoil(
    frame: pd.DataFrame, column: str, value: str, share: float, rng: np.random.Generator
) -> int:
    """Write something unreadable into some rows; how many."""
    rows = rng.random(len(frame)) < share
    rows[:1] = True  # at least one
    frame.loc[rows, column] = value
    return int(rows.sum())


def write_messy_county(folder: Path, households: int, seed: int = 0) -> MessyCounty:
    """Write the files of a county into a folder.

    Parameters
    ----------
    folder
        Where to.
    households
        Size of the county.
    seed
        Of the simulation and of the faults.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = make_household_history(households, seed=seed).tables
    certificates = make_certificates(tables)
    rng = np.random.default_rng(seed)
    files = []
    since = pd.Timestamp("1900-01-01")
    corrections = _correct(_income_export(tables, EXPORT_DAYS[1]))
    for number, day in enumerate(EXPORT_DAYS):
        corrected = corrections if number == 2 else corrections.head(0)
        files += _write_exports(folder, tables, certificates, number, corrected, rng)
        files += _write_events(folder, _exports_of_events(tables, since, day), day, rng)
        since = pd.Timestamp(day)
    for quarter in pd.date_range("2022-03-31", EXPORT_DAYS[-1], freq="QE"):
        day = f"{quarter:%Y-%m-%d}"
        monitored = _monitored_export(tables, day)
        path = folder / f"监测对象_{quarter:%Y%m%d}.xlsx"
        _write_xlsx(path, monitored, f"{COUNTY}监测对象信息")
        files.append(MessyFile(path, "national_monitored", day, len(monitored)))
    files += _write_events(folder, _feeds(tables, certificates), EXPORT_DAYS[-1], rng)
    return MessyCounty(files, tables, certificates, _describe_corrections(corrections))


WAGE = "工资性收入（万元）"


def _correct(accounts: pd.DataFrame) -> pd.DataFrame:
    """Some accounts with more wages than before, in ``before``."""
    told = accounts[accounts[WAGE] != ""].iloc[4:12].copy()
    told["before"] = told[WAGE]
    return told.assign(**{WAGE: [f"{float(wage) + 0.12:.6f}" for wage in told[WAGE]]})


def _describe_corrections(corrections: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "household_id": corrections["户编号"],
            "year": corrections["年度"].astype(int),
            "before": corrections["before"].astype(float) * 10000,
            "after": corrections[WAGE].astype(float) * 10000,
        }
    )


def _write_exports(
    folder: Path,
    tables: HistoryTables,
    certificates: pd.Series,
    number: int,
    corrected: pd.DataFrame,
    rng: np.random.Generator,
) -> list[MessyFile]:
    """Persons and income accounts as they stood on a day."""
    day = EXPORT_DAYS[number]
    person = _person_export(tables, day, certificates)
    # As a spreadsheet leaves a number of 18 digits that it took for a number.
    rounded = _spoil(person, "证件号码", "6.12522E+17", 0.002, rng)
    path = folder / f"家庭成员信息_{day.replace('-', '')}.csv"
    encoding = ("gb18030", "utf-8-sig", "utf-8")[number % 3]
    _write_csv(path, person, encoding, [f"{COUNTY}家庭成员信息表"])
    persons = MessyFile(path, "national_person", day, len(person), spoiled=rounded)
    income = pd.concat([_income_export(tables, day), corrected.drop(columns="before")])
    income = income.reset_index(drop=True)
    wrong = _spoil(income, "人数", "四口人", 0.002, rng)
    twice = pd.concat([income, income.iloc[1:4]])
    path = folder / f"收入信息_{day.replace('-', '')}.xlsx"
    _write_xlsx(path, twice, f"{COUNTY}{day[:4]}年收入信息", "合计")
    accounts = MessyFile(path, "national_income", day, len(twice), repeated=3, spoiled=wrong)
    return [persons, accounts]


INDISPENSABLE = {
    "medical_bills": ("结算日期", "13月32日"),
    "visits": ("走访日期", "前天"),
    "schooling": ("开学时间", "开学那天"),
    "disability": ("发证日期", "补办中"),
    "disaster_losses": ("灾害种类", "天灾"),
    "microcredit": ("贷款余额（元）", "三万左右"),
    "national_work": ("是否已务工", "也许"),
    "national_measures": ("开始时间", "待定"),
}
"""A column of each kind that a record cannot do without, and something unreadable for it."""

SUFFIXES = {
    "national_measures": ".xls", "disaster_losses": ".xls", "disability": ".xlsx", "microcredit": ".txt",
}  # fmt: skip
TITLES = {
    "national_measures": "帮扶措施明细", "disaster_losses": "受灾损失统计表", "disability": "持证残疾人名单",
}  # fmt: skip


def _write_events(
    folder: Path, frames: dict[str, pd.DataFrame], day: str, rng: np.random.Generator
) -> list[MessyFile]:
    files = []
    for kind, frame in frames.items():
        column, value = INDISPENSABLE[kind]
        wrong = _spoil(frame, column, value, 0.001, rng)
        if kind == "medical_bills":
            whole = (frame[column] != value) & (frame["身份证号"].str.len() == 18)
            good = frame.index[whole][5:100:20]
            numbers = frame.loc[good, "身份证号"]
            frame.loc[good, "身份证号"] = [exchange_digits(number) for number in numbers]
            wrong += len(good)
        path = folder / f"{kind}_{day.replace('-', '')}{SUFFIXES.get(kind, '.csv')}"
        if path.suffix == ".xls":
            _write_xls(path, frame, f"{COUNTY}{TITLES[kind]}")
        elif path.suffix == ".xlsx":
            _write_xlsx(path, frame, f"{COUNTY}{TITLES[kind]}", "合计", group="办证信息")
        else:
            encoding = "gb18030" if kind in ("visits", "microcredit") else "utf-8"
            _write_csv(path, frame, encoding, sign="\t" if path.suffix == ".txt" else ",")
        files.append(MessyFile(path, kind, day, len(frame), rejected=wrong))
    return files
