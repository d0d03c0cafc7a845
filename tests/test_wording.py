"""Words: every sentence of the archive catalogue in both languages, and numbers as readers write them."""

import datetime as dt
import re
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poverty_risk import (
    build_features,
    build_prediction_points,
    load_catalog,
    load_schema,
    make_household_history,
)
from poverty_risk.exceptions import DeclarationError
from poverty_risk.wording import (
    format_date,
    format_horizon,
    format_value,
    load_locale,
    write_sentence,
)

LOCALES = ("zh", "en")
CATALOG, SCHEMA = load_catalog("archive"), load_schema("archive")
SPECS = [CATALOG[name] for name in CATALOG.model_names]
MODEL_FEATURES = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)

SENTENCES = (
    "raises", "lowers", "either",
    "raises_true", "raises_false", "lowers_true", "lowers_false", "either_true", "either_false",
)  # fmt: skip
COUNTED = (0, 1, 2, 5, 1.5, 40)
MEASURED = (0, 1e-5, 0.004, 0.034, 0.35, 0.82, 1, 1.35, 15.63, 2e5, -0.05, -1.7)
LASTING = (0, 1, 2, 31, 246, 730, 1095, 1400)
NAMED = {"disability": (0, 1, 2, 3, 4, 2.5), "schooling": (0, 6, 9, 12, 15, 16, 7.5)}
MEASURES = {"ratio", "share", "variation", "change", "change_points", "about_months", "mu", "km"}
LASTS = {"days", "days_ago", "due"}

HAN = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
LETTER = re.compile(r"[A-Za-z]")
CAUSE = re.compile(
    r"因为|由于|导致|造成|引起|所以|\bbecause|\bcaus|\bdue to\b|\bleads? to\b|\bresult"
)
SINGULAR = (
    "month", "year", "day", "point", "member", "person", "child", "pupil", "student", "death", "visit",
    "household", "hospital stay", "warning", "disaster", "accident", "failed check", "income account",
    "source of income", "kind", "percentage point",
)  # fmt: skip
ONE = re.compile(rf"(?<![\d.,-])1 (?:{'|'.join(SINGULAR)})\b")
AFTER_ONE = re.compile(r"(?<![\d.,])1 (?!fails|times )([a-z]+s)\b")
AFTER_MANY = re.compile(rf"(?:(?<![\d.,])[02-9]|\d[\d.,]*\d) (?:{'|'.join(SINGULAR)})\b")

# What the engine can leave empty without anybody having failed to write something down.
NOTHING_TO_ASK = {
    "wage_change_4m",
    "months_without_work_now",
    "monthly_wage_cv_365d",
    "own_share_of_bills_mean_730d",
    "any_shock_days_since_last_1500d",
    "loan_due_min_1500d",
    "years_since_lifted",
    "cleared_days_since_last_ever",
    "work_record_days_since_last_ever",
}


def values_of(spec):
    """Zero, small, large, negative, and what only this kind of feature can be."""
    if spec.kind == "category":
        return CATALOG.codes(spec, SCHEMA)
    if spec.kind == "flag":
        return (0.0, 1.0)
    if spec.unit in NAMED:
        return NAMED[spec.unit]
    if spec.unit in MEASURES:
        return MEASURED
    return (*LASTING, -1, -500) if spec.unit in LASTS else COUNTED


def tell(spec, value, locale, *, raises=True):
    words = spec.words[locale]
    return write_sentence(words, value, spec.unit, locale, raises=raises, kind=spec.kind)


def check_text(text, locale):
    """What holds for everything that an officer reads."""
    assert text
    assert text == text.strip()
    assert not re.search(r"[{}]|  |\bnan\b|None|\binf\b", text), text
    assert not CAUSE.search(text), text
    if locale == "zh":
        # Houses are graded with letters in Chinese too.
        assert not LETTER.search(re.sub("[A-D]级", "", text)), text
        assert " " not in text, text
    else:
        assert not HAN.search(text), text
        assert not AFTER_ONE.search(text), text
        assert not AFTER_MANY.search(text), text


def check_sentence(text, locale):
    check_text(text, locale)
    # Brackets with comparators may follow, and nothing else stands behind a bracket or full stop.
    assert text[-1] not in ".。；;，,）)", text
    assert not re.search(r"的的|有有|\bof of\b|times of|-0\b", text), text


@MODEL_FEATURES
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("raises", [True, False])
def test_every_value_of_every_feature_is_told_well(spec, locale, raises):
    for value in values_of(spec):
        check_sentence(tell(spec, value, locale, raises=raises), locale)
    check_sentence(tell(spec, None, locale, raises=raises), locale)


@MODEL_FEATURES
@pytest.mark.parametrize("locale", LOCALES)
def test_every_comparator_is_told_well(spec, locale):
    words = load_locale(locale)["reasons"]
    for value in values_of(spec) if spec.compare != "none" else ():
        shown = format_value(value, spec.unit, locale, beside=True)
        for kind in ("own_year_before", "village_median", "township_median", "typical"):
            check_text(words[kind].format(value=shown), locale)


@MODEL_FEATURES
def test_words_are_complete_and_hold_the_value_alone(spec):
    assert set(spec.words) == set(LOCALES)
    zh, en = (spec.words[locale] for locale in LOCALES)
    for words in (zh, en):
        for raises in (True, False):
            for flag in (True, False) if spec.kind == "flag" else (None,):
                assert words.sentence(raises=raises, flag=flag) is not None
        assert (words.ask is None) == (spec.name in NOTHING_TO_ASK)
        check_text(words.label, "zh" if words is zh else "en")
        if words.ask:
            check_text(words.ask, "zh" if words is zh else "en")
    for name in SENTENCES:
        holders = [_holders(getattr(words, name)) for words in (zh, en)]
        assert holders[0] == holders[1], name
        # A flag, or what is not there, is said without its value.
        expected = set() if "_" in name else {"value"}
        assert holders[0] in (None, expected), name


def _holders(text):
    if text is None:
        return None
    return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}


@pytest.mark.parametrize("name", sorted(NOTHING_TO_ASK))
def test_what_nobody_failed_to_write_down_is_no_gap(name):
    for locale, record in (("zh", "记录"), ("en", "record")):
        text = tell(CATALOG[name], np.nan, locale)
        # It is a statement about records, since an office without the table has none either.
        assert record in text
        assert not text.startswith(("数据缺口", "Data gap"))


def test_each_unit_of_the_catalogue_is_known_and_brackets_use_known_units():
    used = {spec.unit for spec in CATALOG.specs} - {"flag", "category"}
    for locale in LOCALES:
        units = load_locale(locale)["units"]
        assert used <= set(units)
        assert {unit["beside"] for unit in units.values() if "beside" in unit} <= set(units)


def test_what_is_changeable_can_be_changed():
    changeable = {spec.name for spec in SPECS if spec.changeable}
    assert changeable == {
        # income regained, and the change and composition that follow from it
        "income_to_line", "income_excl_transfer_to_line", "ref_income_to_line", "income_change_yoy",
        "income_source_count_last_800d", "property_income_to_line_last_800d",
        "business_to_line_last_800d",
        # a job resumed
        "work_months_count_365d", "work_months_count_122d", "workers_now_count_122d",
        "wage_to_line_sum_365d", "wage_change_4m", "months_without_work_now", "job_stopped",
        "resettled_without_job_exists_ever",
        # insurance, schooling, house, water, loan
        "uninsured_members", "dropped_out_count_800d", "house_unsafe_last_1500d",
        "water_unsafe_last_1500d", "guarantee_fail_count", "loan_overdue_days",
    }  # fmt: skip


def test_what_a_value_is_compared_with():
    compare = {spec.name: spec.compare for spec in SPECS}
    for name in ("head_age_max_ever", "land_per_member", "road_distance_last_ever",
                 "county_seat_distance_last_ever", "income_before_to_line"):  # fmt: skip
        assert compare[name] == "place", name
    for name in ("income_to_line", "oop_to_income", "wage_to_line_sum_365d", "visits_count_365d"):
        assert compare[name] == "both", name
    assert {compare[spec.name] for spec in SPECS if spec.kind == "flag"} == {"none"}


# Each value worked out by hand from the rule in the comment.
@pytest.mark.parametrize(
    ("value", "unit", "zh", "en"),
    [
        # per cent: one decimal under 10%; times above the whole, to 2 decimals, 1 from 10 on
        (0, "ratio", "0%", "0%"),
        (0.0004, "ratio", "0.1%以下", "less than 0.1%"),
        (0.0072, "share", "0.7%", "0.7%"),
        (0.034, "ratio", "3.4%", "3.4%"),
        (0.0996, "ratio", "10%", "10%"),
        (0.82, "ratio", "82%", "82%"),
        (0.996, "ratio", "100%", "100%"),
        (1.004, "ratio", "100%", "100%"),
        (1.006, "ratio", "1.01倍", "1.01 times"),
        (1.35, "ratio", "1.35倍", "1.35 times"),
        (15.63, "ratio", "15.6倍", "15.6 times"),
        (15_000, "ratio", "100倍以上", "more than 100 times"),
        (-1.2, "ratio", "-120%", "-120%"),
        (1.2, "share", "120%", "120%"),
        (-0.0001, "ratio", "0%", "0%"),
        # changes by their direction
        (-1, "change", "下降100%", "fell by 100%"),
        (0.052, "change", "上升5.2%", "rose by 5.2%"),
        (0, "change", "持平", "stayed the same"),
        (-0.0004, "change", "持平", "stayed the same"),
        (-0.187, "change_points", "下降19个百分点", "fell by 19 percentage points"),
        (0.01, "change_points", "上升1个百分点", "rose by 1 percentage point"),
        (-0.01, "change_points", "下降1个百分点", "fell by 1 percentage point"),
        # ten thousands in Chinese from 10,000 as shown
        (0.3, "yuan", "不到1元", "less than 1 yuan"),
        (8500, "yuan", "8500元", "8,500 yuan"),
        (9999.4, "yuan", "9999元", "9,999 yuan"),
        (9999.6, "yuan", "1万元", "10,000 yuan"),
        (12_500, "yuan", "1.25万元", "12,500 yuan"),
        (-12_500, "yuan", "-1.25万元", "-12,500 yuan"),
        (123_456_789, "yuan", "1.23亿元", "123,456,789 yuan"),
        # days up to 400, then months of 30.4 days, then years
        (1, "days", "1天", "1 day"),
        (246, "days_ago", "246天前", "246 days ago"),
        (487, "days_ago", "约16个月前", "about 16 months ago"),
        (730, "days", "约2年", "about 2 years"),
        (913, "days", "约2.5年", "about 2.5 years"),
        (1095, "days", "约3年", "about 3 years"),
        (-31, "due", "31天前", "31 days ago"),
        (0, "due", "评估日当天", "on the as-of date"),
        (90, "due", "90天后", "in 90 days"),
        (0.2, "about_months", "不到1个月", "less than a month"),
        (1.1, "about_months", "约1个月", "about 1 month"),
        (59.1, "about_months", "约5年", "about 5 years"),
        # measure words; one and many
        (1, "months", "1个月", "1 month"),
        (1.5, "months", "1.5个月", "1.5 months"),
        (1, "members", "1人", "1 member"),
        (2, "children", "2人", "2 children"),
        (1, "households", "1户", "1 household"),
        (2, "visits", "2次", "2 visits"),
        (1, "times", "1次", "once"),
        (3, "times", "3次", "3 times"),
        (1, "failing", "1项", "1 fails"),
        (2, "failing", "2项", "2 fail"),
        (1, "accounts", "1份", "1 income account"),
        (4, "income_sources", "4类", "4 sources of income"),
        (59.07, "age", "59岁", "59 years"),
        (0, "years", "不到1年", "less than a year"),
        (0.167, "mu", "0.17亩", "0.17 mu"),
        (2.49, "mu", "2.5亩", "2.5 mu"),
        (0.02, "km", "不到0.1公里", "less than 0.1 km"),
        (4, "disability", "一级", "level 1, extremely severe"),
        (9, "schooling", "初中", "junior middle school"),
        (7.5, "schooling", "受教育7.5年", "7.5 years of school"),
        # flags, codes, missing, units of other catalogues
        (1, "flag", "是", "yes"),
        (False, "flag", "否", "no"),
        ("lifted", "category", "脱贫户", "lifted out of poverty"),
        ("D", "category", "D级", "grade D"),
        (None, "ratio", "无记录", "no record"),
        (np.nan, "visits", "无记录", "no record"),
        (pd.NA, "category", "无记录", "no record"),
        (np.inf, "ratio", "无记录", "no record"),
        (np.float32(2), "count", "2", "2"),
        (12_345.678, "of another catalogue", "12345.7", "12,345.7"),
        ("2024-03-15", "date", "2024年3月15日", "15 March 2024"),
    ],
)
def test_numbers_as_readers_write_them(value, unit, zh, en):
    assert format_value(value, unit, "zh") == zh
    assert format_value(value, unit, "en") == en


def test_brackets_do_not_repeat_what_is_counted():
    assert format_value(1, "hospital_stays", "en", beside=True) == "1"
    assert format_value(1, "hospital_stays", "zh", beside=True) == "1次"
    assert format_value(-0.04, "change", "en", beside=True) == "down 4%"
    assert format_value(-0.04, "change", "zh", beside=True) == "下降4%"
    assert format_value(24, "months", "en", beside=True) == "24 months"


@given(st.floats(0.01, 9e9))
def test_a_chinese_amount_read_back_is_the_amount_to_its_last_digit(amount):
    text = format_value(amount, "yuan", "zh")
    if amount < 0.499999:
        assert text == "不到1元"
        return
    number, scale = re.fullmatch(r"([\d.]+)([万亿]?)元", text).groups()
    size = {"": 1, "万": 1e4, "亿": 1e8}[scale]
    last = 1 if not scale else 0.01 * size
    assert float(number) * size == pytest.approx(amount, abs=last / 2 * (1 + 1e-9))
    # Below its scale a number would be written with the smaller word.
    assert float(number) >= 1
    assert float(number) < 1e4 or scale == "亿"


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_a_larger_change_never_reads_as_a_smaller_one(first, second):
    def read(value):
        text = format_value(value, "change", "en", beside=True)
        found = re.fullmatch(r"(up|down) ([\d.]+)%", text)
        if text == "unchanged":
            return 0.0
        return float(found[2]) * (1 if found[1] == "up" else -1)

    low, high = sorted((first, second))
    assert read(low) <= read(high)


@pytest.mark.parametrize(
    ("name", "value", "zh", "en"),
    [
        (
            "income_to_line",
            0.82,
            "人均纯收入为当年监测线的82%",
            "net income per person is 82% of that year's line",
        ),
        (
            "income_to_line",
            1.35,
            "人均纯收入为当年监测线的1.35倍",
            "net income per person is 1.35 times that year's line",
        ),
        (
            "ref_income_to_line",
            -0.4,
            "监测参考纯收入（加理赔收入、减合规自付刚性支出）为零或负数",
            "with insurance claims added and compliant rigid expenditure taken off, income is zero or negative",
        ),
        (
            "wage_change_4m",
            -1.0,
            "与此前一年相比，近四个月的月均务工收入下降100%",
            "monthly wages of the last four months fell by 100% compared with the year before",
        ),
        ("workers_now_count_122d", 0, "目前无人务工", "nobody at work now"),
        ("workers_now_count_122d", 1, "目前有1人务工", "1 member at work now"),
        (
            "water_unsafe_last_1500d",
            1.0,
            "最近一次核查，饮水安全没有保障",
            "drinking water failed its latest check",
        ),
        ("house_grade_last_1500d", "C", "房屋等级为C级", "the house is rated grade C"),
        (
            "house_grade_last_1500d",
            None,
            "数据缺口，请补充核实：住房安全鉴定",
            "Data gap, to be asked for and checked: the safety check of the house",
        ),
        ("loan_due_min_1500d", -31, "小额信贷到期日在31天前", "microcredit due 31 days ago"),
        (
            "loan_due_min_1500d",
            None,
            "没有未结清小额信贷的记录",
            "no outstanding microcredit on record",
        ),
        (
            "max_disability_severity",
            4,
            "家中最重的残疾等级为一级",
            "the most severe disability in the household is level 1, extremely severe",
        ),
    ],
)
def test_sentences(name, value, zh, en):
    assert tell(CATALOG[name], value, "zh") == zh
    assert tell(CATALOG[name], value, "en") == en


def test_a_sentence_depends_on_its_direction_where_the_words_do():
    spec = CATALOG["missing_share"]
    assert tell(spec, 0.25, "en") == "25% of the main facts are missing; please complete them"
    assert tell(spec, 0.25, "en", raises=False) == "25% of the main facts are missing"


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("zh", "近一年合规自付医疗费为家庭纯收入的75%（上年同期12%，本村中位数3%）"),
        (
            "en",
            "compliant out-of-pocket medical cost of the last 12 months is 75% of the household's net income (a year earlier: 12%; village median: 3%)",
        ),
    ],
)
def test_brackets_behind_a_sentence(locale, expected):
    words = load_locale(locale)["reasons"]
    clauses = [
        words[kind].format(value=format_value(value, "ratio", locale, beside=True))
        for kind, value in (("own_year_before", 0.12), ("village_median", 0.03))
    ]
    sentence = tell(CATALOG["oop_to_income"], 0.75, locale)
    assert sentence + words["open"] + words["separator"].join(clauses) + words["close"] == expected


class Unworded:
    """An entry without sentences."""

    label, ask = "wages", None

    def sentence(self, *, raises, flag):
        return None


def test_an_entry_without_sentences_is_told_by_its_label():
    assert write_sentence(Unworded(), 3, "count", "en", raises=True) == "wages: 3"
    assert write_sentence(Unworded(), None, "count", "en", raises=True) == (
        "Data gap: there is no record of “wages”; please check"
    )


def test_values_of_a_county_as_the_engine_gives_them():
    tables = make_household_history(150, seed=4).tables
    points = build_prediction_points(tables, "2024-01-01")
    features = build_features(tables, points, CATALOG)
    for spec in SPECS:
        for value in features[spec.name].astype(object).unique():
            for locale in LOCALES:
                check_sentence(tell(spec, value, locale), locale)


@pytest.mark.parametrize(
    ("locale", "style", "expected"),
    [
        ("zh", "day", "2024年3月5日"),
        ("zh", "month", "2024年3月"),
        ("zh", "short", "2024-03"),
        ("en", "day", "5 March 2024"),
        ("en", "month", "March 2024"),
        ("en", "short", "2024-03"),
    ],
)
def test_dates(locale, style, expected):
    for date in (dt.date(2024, 3, 5), pd.Timestamp("2024-03-05 13:00"), "2024-03-05"):
        assert format_date(date, locale, style) == expected
    for missing in (None, pd.NaT):
        assert format_date(missing, locale, style) == load_locale(locale)["missing"]


def test_what_is_no_date_style_or_language_is_refused():
    with pytest.raises(DeclarationError, match=r"expected a date such as 2024-03-15"):
        format_date("March", "en")
    with pytest.raises(DeclarationError, match=r"style: found 'long'; expected one of day, month"):
        format_date("2024-03-05", "en", "long")
    with pytest.raises(DeclarationError, match=r"locale: found 'fr'; expected one of zh, en"):
        load_locale("fr")


def test_horizons():
    assert format_horizon("12mo", "zh") == "12个月"
    assert format_horizon("1mo", "en") == "1 month"
    assert format_horizon("365d", "en") == "365 days"


def leaves(texts, path=()):
    """Every text of a locale with its keys; items of a list count by their position."""
    items = texts.items() if isinstance(texts, dict) else enumerate(texts)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        elif isinstance(value, str):
            yield (*path, key), value


FOR_PROGRAMS = {("page", "lang"), ("workbook", "font")}


def test_both_languages_have_the_same_texts():
    own = {"units", "contractions", "thousands"}  # what a language has of its own
    zh, en = (
        {
            path: text
            for path, text in leaves(load_locale(locale))
            if path[0] not in own and "health_words" not in path
        }
        for locale in LOCALES
    )
    assert set(zh) == set(en)
    units = [load_locale(locale)["units"] for locale in LOCALES]
    assert set(units[0]) == set(units[1])
    for path, text in zh.items():
        if path[0] != "dates":
            assert _holders(text) == _holders(en[path]), path


@pytest.mark.parametrize("locale", LOCALES)
def test_texts_are_in_their_language_and_claim_no_cause(locale):
    foreign = LETTER if locale == "zh" else HAN
    for path, text in leaves(load_locale(locale)):
        if path[-1] == "beside" or path in FOR_PROGRAMS:  # the name of a unit, of a font
            continue
        if path[0] == "model_report":  # for data scientists: names of metrics, and what SHAP is not
            continue
        plain = re.sub(r"[A-D]级|Esc|Excel|\.?xlsx?|CSV", "", re.sub(r"\{[^}]*\}", "", text))
        assert not foreign.search(plain), path
        assert not CAUSE.search(text), path


@pytest.mark.parametrize("locale", LOCALES)
def test_every_theme_and_table_has_its_source_proof_and_checklist(locale):
    words = load_locale(locale)
    themes = {*CATALOG.themes, "other"}
    assert themes <= set(words["themes"])
    assert set(words["verify"]) == set(words["themes"]) == set(words["proof"]["themes"])
    assert set(words["sources"]) == set(words["proof"]["tables"]) == set(SCHEMA.tables)
    for theme, items in words["verify"].items():
        # Short enough for a card: the checklist of a theme is a few lines.
        assert 2 <= len(items) <= 4, theme
        assert all(len(item) <= (40 if locale == "zh" else 100) for item in items), theme
    assert set(words["confidence"]) - {"label"} == set(words["confidence_notes"])


def test_risk_types_are_the_official_words():
    # The national system's list of risks, each once; the last one asks for a note.
    assert set(load_locale("zh")["risk_types"].values()) == {
        "因病", "因学", "因残", "因自然灾害", "因意外事故", "因产业失败", "因务工就业不稳", "缺劳动力",
        "因安全住房", "因安全饮水", "其他",
    }  # fmt: skip
    codes = set(SCHEMA.tables["monitoring"].columns["risk_type"].codes)
    for locale in LOCALES:
        assert set(load_locale(locale)["risk_types"]) == codes
    assert {spec.risk_type for spec in CATALOG.specs} <= codes


@pytest.mark.parametrize("locale", ["zh", "en"])
@pytest.mark.parametrize("half", [1.365, 0.125, 2.5, 1.005, 12500.5, 123456785.0])
def test_halves_are_shown_alike_whatever_the_order_of_a_sum(half, locale):
    near = [half, np.nextafter(half, 0), np.nextafter(half, np.inf), np.nextafter(half, 0) - 1e-16]
    for unit in ("times", "ratio", "yuan", "days", "number"):
        assert len({format_value(value, unit, locale) for value in near}) == 1
    assert format_value(1.365, "times", "en") == format_value(1.3650000000000002, "times", "en")


def test_large_numbers_are_not_moved():
    assert format_value(987_654_321.0, "number", "en") == "987,654,321"
    assert format_value(0.0, "yuan", "en") == "0 yuan"
