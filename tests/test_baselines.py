"""The office's rules on hand-made households, edges included; VEP and logistic regression against numpy."""

import functools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from poverty_risk import (
    HistoryTables,
    IncomeRule,
    LogisticBaseline,
    OfficeRules,
    VulnerabilityBaseline,
    build_features,
    load_schema,
)
from poverty_risk.baselines import Rule
from poverty_risk.exceptions import DeclarationError, FeatureError

AS_OF = pd.Timestamp("2022-07-01")
# A line that rises: an income that falls by less in yuan falls by more against it.
LINE = dict.fromkeys(range(2018, 2023), 6000.0) | {2020: 5000.0}


def ago(days: int) -> str:
    """The date so many days before the as-of date."""
    return f"{AS_OF - pd.Timedelta(days=days):%Y-%m-%d}"


def income(end: str = "2021-09-30", **parts) -> dict:
    start = f"{pd.Timestamp(end) - pd.DateOffset(years=1) + pd.Timedelta(days=1):%Y-%m-%d}"
    amounts = dict.fromkeys(
        ("business", "business_cost", "property", "transfer", "claims", "rigid_expenditure"), 0.0
    )
    account = {"period_start": start, "period_end": end, "window": "annual", "members": 1}
    return {"event_date": end, **account, **amounts, "wage": 60_000.0, **parts}


def person(number: int = 1, **values) -> dict:
    plain = {"status": "present", "birth_date": "1980-01-01", "labour": "ordinary"}
    start = {"event_date": "2019-01-01", "person_id": f"P{number}", "in_school": False}
    return start | plain | values


def work(month_end: str, worked: bool = True, number: int = 1) -> dict:
    wage = 5000.0 if worked else None
    return {"event_date": month_end, "person_id": f"P{number}", "worked": worked, "wage": wage}


def worked_until(last: str, number: int = 1) -> list[dict]:
    """A monthly record each from July 2021 to May 2022: worked up to `last`, not worked later."""
    months = [f"{day:%Y-%m-%d}" for day in pd.date_range("2021-07-31", "2022-05-31", freq="ME")]
    return [work(month, month <= last, number) for month in months]


def bill(days: int, own: float, **values) -> dict:
    plain = {"person_id": "P1", "care": "inpatient", "severe_illness": False}
    return {
        "event_date": ago(days),
        "bill_id": f"{days}-{own}",
        "out_of_pocket": own,
        **plain,
        **values,
    }


def term(days: int, cost: float, aid: float | None = 0.0, **values) -> dict:
    plain = {"person_id": "P2", "stage": "college", "status": "enrolled"}
    return {"event_date": ago(days), "cost": cost, "aid": aid, **plain, **values}


def check(days: int, item: str, passed: bool, uninsured: int | None = None) -> dict:
    return {
        "event_date": ago(days),
        "item": item,
        "passed": passed,
        "uninsured_members": uninsured,
    }


def shock(days: int, kind: str, loss: float | None = None) -> dict:
    return {"event_date": ago(days), "kind": kind, "loss": loss}


def loan(days: int, overdue: int, name: str = "L") -> dict:
    return {"event_date": ago(days), "loan_id": name, "balance": 9000.0, "overdue_days": overdue}


def monitored(status: str, days: int) -> dict:
    return {"event_date": ago(days), "status": status}


def dibao(days: int, until: str | None = None) -> dict:
    return {"event_date": ago(days), "kind": "dibao", "amount": 300.0, "valid_to": until}


HOUSEHOLD = {
    "event_date": "2019-01-01",
    "township_id": "T1",
    "village_id": "V1",
    "status": "active",
    "household_type": "ordinary",
}
LIFTED = HOUSEHOLD | {"household_type": "lifted", "lifted_year": 2018}
CALM = {
    "household": [HOUSEHOLD],
    "person": [person()],
    "income": [income("2020-09-30"), income("2021-09-30")],
    "work": worked_until("2022-05-31"),
    "visit": [{"event_date": ago(30), "purpose": "routine", "difficulty_found": False}],
}
"""A household in order: ten times the line two years running, one worker at work, visited in June."""

MONITORED_ONCE = [monitored("identified", 900), monitored("cleared", 500)]
UNABLE = {"person": [person(labour="lost"), person(2, labour="none")], "work": []}

# name -> (records that replace those of CALM, codes of the rules that must be hit, all of them)
CASES: dict[str, tuple[dict, set[str]]] = {
    "calm": ({}, set()),
    # R1, R2: reference income = (60,000 + claims - rigid expenditure) / 1 member / 6,000.
    "5,999 is under the line": ({"income": [income(rigid_expenditure=54_001.0)]}, {"R1"}),
    "6,000 is the line": ({"income": [income(rigid_expenditure=54_000.0)]}, {"R2"}),
    "7,199 is under 1.2 lines": ({"income": [income(rigid_expenditure=52_801.0)]}, {"R2"}),
    "7,200 is 1.2 lines": ({"income": [income(rigid_expenditure=52_800.0)]}, set()),
    "claims count": ({"income": [income(rigid_expenditure=54_500.0, claims=2_000.0)]}, set()),
    "two members share": ({"income": [income(members=2, rigid_expenditure=48_001.0)]}, {"R1"}),
    "unknown claims: nobody can tell": (
        {"income": [income(rigid_expenditure=59_000.0, claims=None)]},
        set(),
    ),
    "no account": ({"income": []}, set()),
    "an account of 800 days ago": (
        {"income": [income(ago(801), rigid_expenditure=59_000.0)]},
        set(),
    ),
    "a placeholder wage is no wage": (
        {"income": [income("2020-09-30"), income("2021-09-30", wage=50.0)]},
        set(),
    ),
    "a rolling account is written because of the outcome": (
        {"income": [income(), income("2022-04-30", window="rolling", wage=1_000.0)]},
        set(),
    ),
    "an account not known yet": (
        {"income": [income(rigid_expenditure=59_000.0, known_date=ago(0))]},
        set(),
    ),
    # R3
    "house failed": ({"check": [check(60, "housing", False)]}, {"R3"}),
    "house failed, then passed": (
        {"check": [check(400, "housing", False), check(60, "housing", True)]},
        set(),
    ),
    "water failed": ({"check": [check(60, "water", False)]}, {"R3"}),
    "one member uninsured": ({"check": [check(60, "insurance", False, 1)]}, {"R3"}),
    "all insured": ({"check": [check(60, "insurance", True, 0)]}, set()),
    "pupil dropped out": (
        {"schooling": [term(90, 0.0, stage="compulsory", status="dropped_out")]},
        {"R3"},
    ),
    "pupil came back": (
        {
            "schooling": [
                term(90, 0.0, stage="compulsory", status="dropped_out"),
                term(30, 0.0, stage="compulsory"),
            ]
        },
        set(),
    ),
    "left a senior school": ({"schooling": [term(90, 0.0, None, status="dropped_out")]}, set()),
    # R4: 5,000 for lifted or once monitored households, 20,000 for others.
    "ordinary, 20,000": ({"medical_bill": [bill(10, 20_000.0)]}, {"R4"}),
    "ordinary, 19,999": ({"medical_bill": [bill(10, 19_999.0)]}, set()),
    "lifted, 5,000": ({"household": [LIFTED], "medical_bill": [bill(10, 5_000.0)]}, {"R4"}),
    "lifted, 4,999": ({"household": [LIFTED], "medical_bill": [bill(10, 4_999.0)]}, set()),
    "once monitored, 5,000": (
        {"monitoring": MONITORED_ONCE, "medical_bill": [bill(10, 5_000.0)]},
        {"R4"},
    ),
    "bills of 12 months are summed": (
        {"medical_bill": [bill(365, 12_000.0), bill(2, 8_000.0)]},
        {"R4"},
    ),
    "a bill of 366 days ago": (
        {"medical_bill": [bill(366, 12_000.0), bill(2, 8_000.0)]},
        set(),
    ),
    "a bill known on the day itself": (
        {"medical_bill": [bill(10, 20_000.0, known_date=ago(0))]},
        set(),
    ),
    # R4b: 60 % of 60,000 is 36,000.
    "36,000 of 60,000": ({"medical_bill": [bill(10, 36_000.0)]}, {"R4"}),
    "36,001 of 60,000": ({"medical_bill": [bill(10, 36_001.0)]}, {"R4", "R4b"}),
    "bills, school and losses together": (
        {
            "medical_bill": [bill(10, 19_000.0)],
            "schooling": [term(100, 9_000.0)],
            "shock": [shock(50, "industry_failure", 8_001.0)],
        },
        {"R4b"},
    ),
    "rigid expenditure of the account before last year is past": (
        {"income": [income(rigid_expenditure=40_000.0)]},
        set(),
    ),
    "bills without an account": (
        {"income": [], "medical_bill": [bill(10, 19_999.0)]},
        set(),
    ),
    "nothing earned, something to pay": (
        {"income": [income(wage=0.0)], "medical_bill": [bill(10, 2.0)]},
        {"R1", "R4b"},
    ),
    # R5
    "severe illness": ({"medical_bill": [bill(365, 1.0, severe_illness=True)]}, {"R5"}),
    "severe illness 366 days ago": (
        {"medical_bill": [bill(366, 1.0, severe_illness=True)]},
        set(),
    ),
    "disability level 1": ({"person": [person(), person(2, disability_level=1)]}, {"R5"}),
    "disability level 2": ({"person": [person(), person(2, disability_level=2)]}, {"R5"}),
    "disability level 3": ({"person": [person(), person(2, disability_level=3)]}, set()),
    "disabled member who left": (
        {"person": [person(), person(2, disability_level=1, status="left")]},
        set(),
    ),
    # R6
    "school 12,000, aid 2,000": ({"schooling": [term(100, 12_000.0, 2_000.0)]}, {"R6"}),
    "school 12,000, aid 2,001": ({"schooling": [term(100, 12_000.0, 2_001.0)]}, set()),
    "two terms": ({"schooling": [term(365, 5_000.0), term(122, 5_000.0, None)]}, {"R6"}),
    "a term of 366 days ago": ({"schooling": [term(366, 5_000.0), term(122, 5_000.0)]}, set()),
    # R7: from 60,000 to 42,000 is minus 30 %.
    "income fell by 30 %": (
        {"income": [income("2020-09-30"), income(wage=42_000.0)]},
        {"R7"},
    ),
    "income fell by less": (
        {"income": [income("2020-09-30"), income(wage=42_001.0)]},
        set(),
    ),
    "no account before": ({"income": [income(wage=42_000.0)]}, set()),
    # The end of April is 62 days ago, 2.04 months; the end of May is 31.
    "stopped working two months ago": ({"work": worked_until("2022-04-30")}, {"R7"}),
    "stopped working one month ago": (
        {"work": [*worked_until("2022-05-31"), work("2022-06-20", False)]},
        set(),
    ),
    "one of two still works": (
        {
            "person": [person(), person(2)],
            "work": worked_until("2022-03-31") + worked_until("2022-05-31", 2),
        },
        set(),
    ),
    "last worked years ago": ({"work": [work("2019-06-30"), work("2022-05-31", False)]}, set()),
    "no work records": ({"work": []}, set()),
    "never worked": ({"work": worked_until("2021-01-01")}, set()),
    # R8
    "flood": ({"shock": [shock(365, "flood", 100.0)]}, {"R8"}),
    "fire": ({"shock": [shock(5, "fire")]}, {"R8"}),
    "accident": ({"shock": [shock(5, "accident")]}, {"R8"}),
    "death": ({"shock": [shock(5, "death")]}, {"R8"}),
    "flood 366 days ago": ({"shock": [shock(366, "flood", 100.0)]}, set()),
    "a job-loss warning is no disaster": ({"shock": [shock(5, "job_loss")]}, set()),
    # R9
    "overdue 30 days": ({"loan": [loan(20, 30)]}, set()),
    "overdue 31 days": ({"loan": [loan(20, 31)]}, {"R9"}),
    "repaid since": ({"loan": [loan(80, 90), loan(20, 0)]}, set()),
    "one of two loans": ({"loan": [loan(20, 0, "L1"), loan(20, 31, "L2")]}, {"R9"}),
    # R10
    "nobody able to work": (UNABLE, {"R10"}),
    "nobody able, on social assistance": (UNABLE | {"assistance": [dibao(400)]}, set()),
    "social assistance has ended": (UNABLE | {"assistance": [dibao(400, ago(30))]}, {"R10"}),
    "one able to work": (
        {"person": [person(labour="lost"), person(2, labour="skilled")], "work": []},
        set(),
    ),
    "the able one left": (
        {"person": [person(labour="lost"), person(2, status="left")], "work": []},
        {"R10"},
    ),
    "weak labour is some": ({"person": [person(labour="weak")], "work": []}, set()),
    "labour capacity unknown": ({"person": [person(labour=None)], "work": []}, set()),
    "a child of unknown capacity": (
        {
            "person": [person(labour="lost"), person(2, labour=None, birth_date="2010-01-01")],
            "work": [],
        },
        {"R10"},
    ),
    "a student of full age": (
        {"person": [person(labour="lost"), person(2, in_school=True)], "work": []},
        {"R10"},
    ),
    "members unknown": ({"person": [], "work": []}, set()),
    # R11
    "cleared 364 days ago": (
        {"monitoring": [monitored("identified", 800), monitored("cleared", 364)]},
        {"R11"},
    ),
    "cleared 365 days ago": (
        {"monitoring": [monitored("identified", 800), monitored("cleared", 365)]},
        set(),
    ),
    "cleared 366 days ago": (
        {"monitoring": [monitored("identified", 800), monitored("cleared", 366)]},
        set(),
    ),
    # R12
    "visited 179 days ago": ({"visit": [{"event_date": ago(179), "purpose": "routine"}]}, set()),
    "visited 180 days ago": ({"visit": [{"event_date": ago(180), "purpose": "routine"}]}, {"R12"}),
    "never visited": ({"visit": []}, {"R12"}),
}


def _tables(cases: dict[str, dict], without: tuple[str, ...] = ()) -> HistoryTables:
    """One household per case; a record without a known date was known on the day after."""
    schema, rows = load_schema("archive"), {}
    for number, records in enumerate(cases.values()):
        for table, entries in (CALM | records).items():
            for entry in entries:
                known = f"{pd.Timestamp(entry['event_date']) + pd.Timedelta(days=1):%Y-%m-%d}"
                identified = {"household_id": f"H{number:03d}", "known_date": known} | entry
                # Members, bills and loans of different households are different ones.
                for column in {"person_id", "bill_id", "loan_id"} & set(entry):
                    identified[column] = f"{identified['household_id']}-{entry[column]}"
                rows.setdefault(table, []).append(identified)
    frames = {
        name: pd.DataFrame(rows.get(name, []), columns=list(table.all_columns)).astype(object)
        for name, table in schema.tables.items()
        if name not in without
    }
    tables = HistoryTables.from_frames(frames, schema, LINE)
    assert tables.rejected.empty
    return tables


def _hits(cases: dict[str, dict], without: tuple[str, ...] = ()) -> dict[str, set[str]]:
    ids = [f"H{number:03d}" for number in range(len(cases))]
    index = pd.MultiIndex.from_product([ids, [AS_OF]], names=["household_id", "as_of_date"])
    features = build_features(_tables(cases, without), pd.DataFrame(index=index), "archive")
    hits = OfficeRules.load().hits(features)
    return {
        name: set(hits.columns[row])
        for name, row in zip(cases, hits.to_numpy(dtype=bool), strict=True)
    }


@functools.cache
def _all_hits() -> dict[str, set[str]]:
    return _hits({name: records for name, (records, _) in CASES.items()})


@pytest.mark.parametrize("case", CASES)
def test_rule_hits_of_a_household(case):
    assert _all_hits()[case] == CASES[case][1]


def test_every_rule_is_hit_by_a_case():
    hit = set().union(*_all_hits().values())
    assert hit == {rule.code for rule in OfficeRules.load().rules}


def test_tables_that_the_office_does_not_have_hit_nothing():
    # In trouble by every feed but the archive of members, and none of these feeds is kept.
    feeds = ("income", "work", "medical_bill", "schooling", "check", "shock", "loan", "visit")
    case = {"in trouble": {"visit": [], "shock": [shock(5, "flood")], "income": []}}
    assert _hits(case, feeds)["in trouble"] == set()
    assert _hits(case)["in trouble"] == {"R8", "R12"}
    # Without knowing who receives social assistance, nobody can tell that it is missing.
    assert _hits({"unable": UNABLE}, ("assistance",))["unable"] == set()


def test_severities_are_those_of_the_baseline():
    severities = {rule.code: rule.severity for rule in OfficeRules.load().rules}
    by_colour = {
        "red": {"R1", "R3", "R4b", "R8", "R10"},
        "orange": {"R4", "R5", "R7"},
        "yellow": {"R2", "R6", "R9", "R11"},
        "grey": {"R12"},
    }
    assert severities == {code: c for c, codes in by_colour.items() for code in codes}


def test_each_rule_has_words_in_both_languages():
    for rule in OfficeRules.load().rules:
        assert any("一" <= letter <= "鿿" for letter in rule.zh)
        assert rule.en.isascii()


def _rule(code: str, severity: str, when: str) -> Rule:
    return Rule(code=code, severity=severity, when=when, zh="规则", en="rule")


def _colours() -> OfficeRules:
    """A rule of each colour, hit by a value of 1 in the feature of its name."""
    codes = {"a": "red", "b": "orange", "c": "orange", "d": "yellow", "e": "grey"}
    return OfficeRules(tuple(_rule(k, v, f"{k} == one") for k, v in codes.items()), {"one": 1.0})


HITS = pd.DataFrame(
    [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
        [np.nan] * 5,
    ],
    columns=list("abcde"),
    index=pd.Index([*list("stuvwxyz"), "missing"], name="household_id"),
)


def test_colour_is_the_worst_severity():
    found = _colours().severity(HITS)
    assert found.index.equals(HITS.index)
    expected = [None, "grey", "yellow", "orange", "orange", "red", "red", "red", None]
    assert [None if pd.isna(colour) else colour for colour in found] == expected


def test_order_is_colour_then_number_of_hits_without_grey():
    found = _colours().margin(HITS)
    # Colour (red 3, orange 2, yellow 1) plus a sixth (five rules and one) for each hit that is not grey.
    expected = [0, 0, 1 + 1 / 6, 2 + 1 / 6, 2 + 3 / 6, 3 + 1 / 6, 3 + 1 / 6, 3 + 4 / 6, 0]
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-12)
    assert found.name == "margin"
    assert found.index.equals(HITS.index)


def test_no_household_no_hit():
    empty = HITS.iloc[:0]
    assert _colours().hits(empty).shape == (0, 5)
    assert len(_colours().margin(empty)) == 0
    assert len(_colours().severity(empty)) == 0


def test_rules_over_categories_and_flags():
    rules = OfficeRules((_rule("X", "red", "grade in ['C', 'D'] and lifted == 1"),), {})
    features = pd.DataFrame(
        {
            "grade": pd.Categorical(["C", "A", None, "D"], categories=["A", "B", "C", "D"]),
            "lifted": [True, True, True, False],
        }
    )
    assert rules.hits(features)["X"].tolist() == [True, False, False, False]


def test_absent_features_are_told_at_once():
    with pytest.raises(FeatureError, match=r"(?s)2 problems.*'b'.*'d'"):
        _colours().hits(HITS.drop(columns=["b", "d"]))


def test_faults_of_rules_are_told_at_once():
    broken = (_rule("A", "red", "x >"), _rule("A", "red", "x > 1"), _rule("B", "red", "(("))
    with pytest.raises(DeclarationError, match=r"(?s)3 problems.*'A' twice.*rule 'A'.*rule 'B'"):
        OfficeRules(broken, {})
    with pytest.raises(DeclarationError, match="no rule; expected one at least"):
        OfficeRules((), {})


def test_rules_of_an_office(tmp_path):
    path = tmp_path / "own.yaml"
    entry = "{code: Z1, severity: orange, when: 'income < low', zh: 低, en: low}"
    path.write_text(f"name: own\nparameters: {{low: 2}}\nrules: [{entry}]\n", encoding="utf-8")
    rules = OfficeRules.load(path)
    assert rules.features == ("income",)
    assert rules.hits(pd.DataFrame({"income": [1.0, 2.0, None]}))["Z1"].tolist() == [
        True,
        False,
        False,
    ]
    path.write_text(f"name: own\nrules: [{entry.replace('orange', 'purple')}]\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"rules\.0\.severity.*'purple'.*'red', 'orange'"):
        OfficeRules.load(path)


# ------------------------------------------------------------------------------ the plainest rule


def test_income_rule_orders_by_income():
    rows = pd.DataFrame({"income_to_line": [0.5, np.nan, 3.0, 1.0]}, index=list("abcd"))
    found = IncomeRule().fit(rows).margin(rows)
    # The median of 0.5, 1 and 3 stands for the household without an account.
    assert found.to_dict() == {"a": -0.5, "b": -1.0, "c": -3.0, "d": -1.0}
    assert found.name == "margin"


def test_income_rule_without_any_account_ties_all():
    rows = pd.DataFrame({"income_to_line": [np.nan, np.nan]})
    assert IncomeRule().fit(rows).margin(rows).tolist() == [0.0, 0.0]


# ------------------------------------------------------------- logistic regression and VEP in numpy


def _rows(seed: int = 0, size: int = 400) -> tuple[pd.DataFrame, pd.Series]:
    """Skewed amounts, gaps, a flag, a category with gaps; labels that depend on them."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=size)
    amount = np.sign(signal) * np.exp(np.abs(signal) * 3)
    amount[rng.random(size) < 0.2] = np.nan
    grade = rng.choice(["A", "B", "C"], size).astype(object)
    grade[rng.random(size) < 0.1] = None
    flag = (rng.random(size) < 0.3).astype(float)
    features = pd.DataFrame(
        {
            "amount": amount,
            "flag": flag,
            "grade": pd.Categorical(grade, categories=["A", "B", "C", "D"]),
            "income_to_line": np.exp(0.8 + 0.4 * signal - 0.3 * flag + rng.normal(0, 0.3, size)),
            "never_known": np.full(size, np.nan),
        },
        index=pd.Index([f"H{number}" for number in range(size)], name="household_id"),
    )
    chance = 1 / (1 + np.exp(1.5 + signal - flag - (grade == "C")))
    labels = pd.Series((rng.random(size) < chance).astype(float), index=features.index)
    return features, labels


def _design(train: pd.DataFrame, rows: pd.DataFrame, numbers: list[str]) -> np.ndarray:
    """Median, flag of a gap, signed logarithm, unit variance; one column per grade and gap."""

    def raw(of: pd.DataFrame) -> list[np.ndarray]:
        filled = [of[name].fillna(train[name].median()).fillna(0.0) for name in numbers]
        gaps = [of[name].isna().astype(float) for name in numbers if train[name].isna().any()]
        return [np.sign(v) * np.log1p(np.abs(v)) for v in (c.to_numpy() for c in filled + gaps)]

    columns = []
    for known, values in zip(raw(train), raw(rows), strict=True):
        spread = known.std() or 1.0
        columns.append((values - known.mean()) / spread)
    grades = [of["grade"].astype(object).fillna("missing") for of in (train, rows)]
    columns += [(grades[1] == grade).to_numpy(float) for grade in sorted(set(grades[0]))]
    return np.column_stack(columns)


def test_logistic_baseline_equals_a_penalised_likelihood():
    features, labels = _rows()
    train, test = features.iloc[:300], features.iloc[300:]
    numbers = ["amount", "flag", "income_to_line", "never_known"]
    design, target = _design(train, train, numbers), labels.iloc[:300].to_numpy()

    def loss(beta: np.ndarray) -> float:
        margin = design @ beta[1:] + beta[0]
        return np.logaddexp(0, margin).sum() - target @ margin + beta[1:] @ beta[1:] / (2 * 0.3)

    beta = minimize(loss, np.zeros(design.shape[1] + 1), method="BFGS", options={"gtol": 1e-5}).x
    expected = 1 / (1 + np.exp(-(_design(train, test, numbers) @ beta[1:] + beta[0])))
    model = LogisticBaseline(C=0.3).fit(train, labels.iloc[:300])
    found = model.predict_proba(test)
    np.testing.assert_allclose(found[:, 1], expected, atol=2e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (model.predict(test) == (found[:, 1] > 0.5)).all()


def _ridge(design: np.ndarray, target: np.ndarray, weight: np.ndarray, penalty: float):
    centre, mean = weight @ design / weight.sum(), weight @ target / weight.sum()
    centred = design - centre
    gram = centred.T @ (weight[:, None] * centred) + penalty * np.eye(design.shape[1])
    slope = np.linalg.solve(gram, centred.T @ (weight * (target - mean)))
    return lambda rows: rows @ slope + mean - centre @ slope


def test_vep_equals_three_regressions_in_numpy():
    features, _ = _rows(1)
    features.iloc[:30, 3] = np.nan
    features.iloc[30:40, 3] = -0.2
    known = (features["income_to_line"] > 0).to_numpy()
    assert known.sum() == 360
    # Whatever is named after income or the line is no regressor.
    train = features[known].drop(columns="income_to_line")
    design = _design(train, train, ["amount", "flag", "never_known"])
    target = np.log(features.loc[known, "income_to_line"].to_numpy())
    ones = np.ones(360)
    square = (target - _ridge(design, target, ones, 4.0)(design)) ** 2
    log_variance = _ridge(design, np.log(np.maximum(square, 1e-6)), ones, 4.0)
    scale = np.mean(np.maximum(square, 1e-6) / np.exp(log_variance(design)))
    mean = _ridge(design, target, 1 / (scale * np.exp(log_variance(design))), 4.0)
    everyone = _design(train, features, ["amount", "flag", "never_known"])
    spread = np.sqrt(scale * np.exp(log_variance(everyone)))
    standard = (math.log(1.2) - mean(everyone)) / spread
    expected = [0.5 * math.erfc(-value / math.sqrt(2)) for value in standard]

    model = VulnerabilityBaseline("income_to_line", threshold=1.2, ridge=4.0).fit(features)
    found = model.predict_proba(features)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (model.predict(features) == (found[:, 1] > 0.5)).all()


def test_vep_leaves_the_income_out():
    features, _ = _rows(2)
    model = VulnerabilityBaseline("income_to_line").fit(features)
    changed = features.assign(income_to_line=0.01)
    np.testing.assert_array_equal(model.predict_proba(changed), model.predict_proba(features))


def test_vep_of_equal_incomes_is_finite():
    rows = pd.DataFrame({"income_to_line": [2.0] * 6, "workers": [0.0, 1, 2, 0, 1, 2]})
    risk = VulnerabilityBaseline().fit(rows).predict_proba(rows)[:, 1]
    assert (risk < 1e-6).all()


def _learners() -> list:
    return [LogisticBaseline(C=0.1), VulnerabilityBaseline("income_to_line", ridge=2.0)]


@pytest.mark.parametrize("learner", _learners(), ids=lambda learner: type(learner).__name__)
def test_unseen_categories_gaps_and_order_of_columns(learner):
    features, labels = _rows(3)
    learner.fit(features, labels)
    row = features.iloc[:1]
    unseen = learner.predict_proba(row.assign(grade="Z"))
    # A category that was never seen is none of those that were: all their columns are 0.
    assert np.isfinite(unseen).all()
    assert unseen[0, 1] != learner.predict_proba(row.assign(grade="C"))[0, 1]
    np.testing.assert_array_equal(unseen, learner.predict_proba(row.assign(grade="D")))
    empty = pd.DataFrame({name: [np.nan] for name in features})
    assert np.isfinite(learner.predict_proba(empty)).all()
    np.testing.assert_array_equal(
        learner.predict_proba(features[features.columns[::-1]]), learner.predict_proba(features)
    )


@pytest.mark.parametrize("learner", _learners(), ids=lambda learner: type(learner).__name__)
def test_features_absent_at_prediction_are_told(learner):
    features, labels = _rows(4)
    learner.fit(features, labels)
    with pytest.raises(FeatureError, match=r"(?s)2 problems.*'amount'.*'flag'"):
        learner.predict_proba(features.drop(columns=["amount", "flag"]))


@pytest.mark.parametrize("learner", [*_learners(), IncomeRule("x")], ids=lambda a: type(a).__name__)
def test_learners_are_cloned_and_set_as_scikit_learn_does(learner):
    copy = clone(learner)
    assert copy is not learner
    assert copy.get_params() == learner.get_params()
    name, value = next(iter(learner.get_params().items()))
    assert copy.set_params(**{name: "other"}).get_params()[name] == "other"
    assert learner.get_params()[name] == value


def test_unfitted_learners_have_no_answer():
    features, _ = _rows()
    for answer in (
        LogisticBaseline().predict_proba,
        VulnerabilityBaseline().predict_proba,
        IncomeRule().margin,
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            answer(features)


def test_labels_meet_features_by_key_and_censored_rows_are_left_out():
    features, labels = _rows(5)
    expected = LogisticBaseline().fit(features, labels).predict_proba(features)
    shuffled = labels.sample(frac=1.0, random_state=0)
    assert not shuffled.index.equals(labels.index)
    found = LogisticBaseline().fit(features, shuffled).predict_proba(features)
    np.testing.assert_array_equal(found, expected)

    censored = labels.copy()
    censored.iloc[::3] = np.nan
    kept = censored.dropna()
    weight = pd.Series(np.linspace(0.5, 2, len(labels)), index=labels.index)
    found = LogisticBaseline().fit(features, censored, weight[::-1]).predict_proba(features)
    alone = LogisticBaseline().fit(features.loc[kept.index], kept, weight.loc[kept.index])
    np.testing.assert_array_equal(found, alone.predict_proba(features))


def test_weights_count_as_repeated_rows():
    features, labels = _rows(6, 200)
    twice = pd.concat([features, features.iloc[:50]]).reset_index(drop=True)
    both = pd.concat([labels, labels.iloc[:50]]).to_numpy()
    weight = np.where(np.arange(200) < 50, 2.0, 1.0)
    # Medians and scales are those of the rows, not of the weights: leave them out of the comparison.
    numbers = features[["flag"]]
    weighted = LogisticBaseline(C=1e3).fit(numbers, labels, weight).predict_proba(numbers)
    repeated = LogisticBaseline(C=1e3).fit(twice[["flag"]], both).predict_proba(numbers)
    np.testing.assert_allclose(weighted, repeated, atol=1e-3)


def test_labels_that_do_not_fit_are_refused():
    features, labels = _rows(7, 50)
    with pytest.raises(FeatureError, match=r"classes \[0\.0\]; expected 0 and 1"):
        LogisticBaseline().fit(features, labels * 0)
    with pytest.raises(FeatureError, match="1 of 50 points without a value"):
        LogisticBaseline().fit(features, labels.iloc[1:])
    with pytest.raises(FeatureError, match="found 49 values; expected 50"):
        LogisticBaseline().fit(features, labels.to_numpy()[1:])
    with pytest.raises(FeatureError, match="repeated points"):
        LogisticBaseline().fit(features, pd.concat([labels, labels]))


def test_vep_needs_incomes_and_regressors():
    features, _ = _rows(8, 50)
    with pytest.raises(FeatureError, match="no feature 'net_income'"):
        VulnerabilityBaseline("net_income").fit(features)
    with pytest.raises(FeatureError, match="found 0 positive incomes"):
        VulnerabilityBaseline().fit(features.assign(income_to_line=-1.0))
    with pytest.raises(FeatureError, match="50 positive incomes, 0 regressors"):
        VulnerabilityBaseline().fit(features[["income_to_line"]])
    with pytest.raises(FeatureError, match="no feature 'income_to_line'"):
        IncomeRule().fit(features.drop(columns="income_to_line"))
