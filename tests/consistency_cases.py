"""A planted case and a clean neighbour for each consistency rule, written from the rule's words.

A row is a table and what it differs in from an ordinary record of that table; ``{h}`` stands for the
household. Household and first member are added where a case says nothing of these tables.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

LINE = {2018: 4300, 2019: 4600, 2020: 5000, 2021: 6000, 2022: 6700, 2023: 7500, 2024: 8200}

ORDINARY: dict[str, dict[str, Any]] = {
    "household": {
        "event_date": "2019-01-01", "township_id": "T1", "village_id": "{h}-V", "status": "active",
        "household_type": "lifted",
    },
    "person": {
        "event_date": "2019-01-01", "person_id": "{h}-1", "status": "present",
        "birth_date": "1980-05-05", "sex": "woman", "is_head": True, "labour": "ordinary",
    },
    "income": {
        "event_date": "2023-09-30", "period_start": "2022-10-01", "period_end": "2023-09-30",
        "window": "annual", "members": 1, "wage": 20000, "business": 3000, "business_cost": 1000,
        "property": 0, "transfer": 1000, "claims": 0, "rigid_expenditure": 500,
    },
    "work": {"event_date": "2023-05-31", "person_id": "{h}-1", "worked": True, "wage": 3000},
    "medical_bill": {
        "event_date": "2023-05-05", "person_id": "{h}-1", "bill_id": "{h}-B1", "care": "inpatient",
        "total": 1000, "out_of_pocket": 300,
    },
    "schooling": {
        "event_date": "2023-09-01", "person_id": "{h}-1", "stage": "compulsory",
        "status": "enrolled",
    },
    "check": {"event_date": "2023-04-01", "item": "housing", "passed": True, "house_grade": "A"},
    "shock": {"event_date": "2023-03-01", "kind": "flood", "loss": 5000},
    "assistance": {"event_date": "2023-05-10", "kind": "other", "amount": 100},
    "loan": {
        "event_date": "2023-03-31", "loan_id": "{h}-L1", "balance": 30000, "overdue_days": 0,
        "maturity_date": "2025-06-01",
    },
    "relocation": {"event_date": "2019-06-01", "mode": "centralised", "occupied": True},
    "visit": {"event_date": "2023-05-05", "purpose": "routine", "difficulty_found": False},
    "monitoring": {
        "event_date": "2023-05-01", "status": "identified", "category": "sudden",
        "risk_type": "illness",
    },
}  # fmt: skip

Row = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """What breaks a rule, and what just does not.

    Parameters
    ----------
    bad, good
        Rows of a household.
    found_at
        Households with a finding, where it is not the one of the case alone.
    """

    bad: list[Row]
    good: list[Row]
    found_at: tuple[str, ...] = field(default=("{h}",))


def make_frames(cases: dict[str, Case]) -> dict[str, pd.DataFrame]:
    """Raw tables of all cases: households ``<code>-bad`` and ``<code>-good``, and one ``clean``."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ORDINARY}
    for table, differs in CLEAN:
        rows[table].append(_fill(table, "clean", differs))
    for code, case in cases.items():
        for kind, given in (("bad", case.bad), ("good", case.good)):
            household = f"{code}-{kind}"
            said = {table for table, _ in given}
            ready = [(t, {}) for t in ("household", "person") if t not in said] + given
            for table, differs in ready:
                if differs is not None:
                    rows[table].append(_fill(table, household, differs))
    return {name: pd.DataFrame(content) for name, content in rows.items()}


def _fill(table: str, household: str, differs: dict[str, Any]) -> dict[str, Any]:
    record = {"household_id": "{h}", **ORDINARY[table], **differs}
    if table == "income" and "event_date" not in differs:
        record["event_date"] = max(record["period_start"], record["period_end"])
    day = dt.date.fromisoformat(record["event_date"])
    record.setdefault("known_date", str(day + dt.timedelta(days=10)))
    return {
        name: value.replace("{h}", household) if isinstance(value, str) else value
        for name, value in record.items()
    }


def _cleared(day: str, **differs: Any) -> Row:
    return "monitoring", {"event_date": day, "status": "cleared"} | differs | {
        "category": None, "risk_type": None,
    }  # fmt: skip


def _identified(day: str = "2023-05-01", **differs: Any) -> Row:
    return "monitoring", {"event_date": day, **differs}


def _left(day: str, status: str = "left") -> Row:
    return "person", {"event_date": day, "status": status}


def _gone(day: str, status: str = "moved") -> Row:
    return "household", {"event_date": day, "status": status}


CLEAN: list[Row] = [
    *((table, {}) for table in ORDINARY if table not in ("income", "schooling", "visit")),
    (
        "person",
        {"person_id": "{h}-2", "birth_date": "2014-02-03", "is_head": False, "labour": "none"},
    ),
    ("income", {"members": 2}),
    ("schooling", {"person_id": "{h}-2", "event_date": "2024-03-01"}),
    ("visit", {"event_date": "2024-09-01"}),
]
"""A household with a record in every table, of which nothing is wrong."""

NO_ARCHIVE: Row = ("household", None)  # type: ignore[assignment]
NO_MEMBER: Row = ("person", None)  # type: ignore[assignment]

MONITORING = {
    # 1 May to 2 June are 32 days.
    "K001": Case(
        [_identified(), ("assistance", {"event_date": "2023-06-02"})],
        [_identified(), ("assistance", {"event_date": "2023-06-01"})],
    ),
    # 1 May to 27 October are 179 days.
    "K002": Case(
        [_identified(), _cleared("2023-10-27")],
        [_identified(), _cleared("2023-10-28")],
    ),
    "K003": Case(
        [_identified("2023-05-31"), _cleared("2023-06-30")],
        [_identified("2023-05-31"), _cleared("2023-07-01")],
    ),
    # (20000 + 3000 - 1000 + 1000) / 4 = 5750 and / 3 = 7667, against 7500 in 2023.
    "K004": Case(
        [_identified("2022-05-01"), ("income", {"members": 4}), _cleared("2023-11-01")],
        [_identified("2022-05-01"), ("income", {"members": 3}), _cleared("2023-11-01")],
    ),
    "K005": Case(
        [_cleared("2023-11-01"), _identified("2023-11-02")],
        [_cleared("2023-11-01"), _identified("2022-11-02")],
    ),
    "K006": Case(
        [_identified("2022-05-01"), _identified("2023-05-01")],
        [_identified("2022-05-01"), _cleared("2022-12-01"), _identified("2023-05-01")],
    ),
    "K007": Case(
        [_identified("2022-01-01"), _cleared("2022-08-01"), _cleared("2023-08-01")],
        [
            _identified("2022-01-01"),
            _cleared("2022-08-01"),
            _identified("2023-01-01"),
            _cleared("2023-08-01"),
        ],
    ),
    "K008": Case(
        [_identified(), ("medical_bill", {"event_date": "2022-04-30"})],
        [_identified(), ("medical_bill", {"event_date": "2022-05-01"})],
    ),
    # One worker of three, one of four.
    "K009": Case(
        [
            _identified(risk_type="labour_shortage"),
            ("person", {}),
            *[
                ("person", {"person_id": f"{{h}}-{n}", "labour": "lost", "is_head": False})
                for n in (2, 3)
            ],
        ],
        [
            _identified(risk_type="labour_shortage"),
            ("person", {}),
            *[
                ("person", {"person_id": f"{{h}}-{n}", "labour": "lost", "is_head": False})
                for n in (2, 3, 4)
            ],
        ],
    ),
    # (20000 + 3000 - 1000 + 1000) / 1 = 23000 and (16000 + 3000 - 1000 + 1000) / 1 = 19000.
    "K010": Case(
        [("income", {}), _identified("2023-12-01")],
        [("income", {"wage": 16000}), _identified("2023-12-01")],
    ),
    "K011": Case(
        [_identified(category="marginal")],
        [_identified(category="unstable")],
    ),
    "K012": Case([_identified(risk_type=None)], [_identified()]),
    "K013": Case(
        [_identified(risk_type="disaster"), ("shock", {"kind": "job_loss"})],
        [_identified(risk_type="disaster"), ("shock", {})],
    ),
    "K014": Case(
        [_identified(risk_type="housing"), ("check", {"house_grade": "B"})],
        [_identified(risk_type="housing"), ("check", {"house_grade": "C", "passed": False})],
    ),
    # 92 + 60 days before 2025-01-01 is 2024-08-02.
    "K015": Case(
        [_identified(), ("visit", {"event_date": "2024-08-01"})],
        [_identified(), ("visit", {"event_date": "2024-08-02"})],
    ),
}

INCOME = {
    "K021": Case([("income", {"wage": 99})], [("income", {"wage": 100})]),
    "K022": Case(
        [("income", {"period_start": "2021-10-01", "period_end": "2022-09-30"}), ("income", {})],
        [
            ("income", {"period_start": "2021-10-01", "period_end": "2022-09-30", "transfer": 999}),
            ("income", {}),
        ],
    ),
    "K023": Case(
        [("household", {"household_id": "{h}" + n, "village_id": "{h}-V"}) for n in ("", "x", "y")]
        + [("income", {"household_id": "{h}" + n, "wage": 12345}) for n in ("", "x", "y")],
        [("household", {"household_id": "{h}" + n, "village_id": "{h}-V"}) for n in ("", "x")]
        + [("household", {"household_id": "{h}y", "village_id": "{h}-W"})]
        + [("income", {"household_id": "{h}" + n, "wage": 12346}) for n in ("", "x", "y")],
        ("{h}", "{h}x", "{h}y"),
    ),
    "K024": Case(
        [("income", {"period_end": "2022-09-30"})],
        [("income", {"period_end": "2022-10-01"})],
    ),
    "K025": Case(
        [("income", {}), ("income", {"period_start": "2023-09-30", "period_end": "2024-09-30"})],
        [("income", {}), ("income", {"period_start": "2023-10-01", "period_end": "2024-09-30"})],
    ),
    # 460 days before 2025-01-01 is 2023-09-29.
    "K026": Case(
        # A recent record of the archive does not make the household a new one.
        [
            ("household", {}),
            ("household", {"event_date": "2024-12-01"}),
            ("income", {"period_end": "2023-09-28"}),
        ],
        [("income", {"period_end": "2023-09-29"})],
    ),
    # The second member left a day before the account ended, or a day after.
    "K027": Case(
        [
            ("income", {"members": 2}),
            ("person", {}),
            ("person", {"person_id": "{h}-2"}),
            ("person", {"person_id": "{h}-2", "event_date": "2023-09-29", "status": "left"}),
        ],
        [
            ("income", {"members": 2}),
            ("person", {}),
            ("person", {"person_id": "{h}-2"}),
            ("person", {"person_id": "{h}-2", "event_date": "2023-10-01", "status": "left"}),
        ],
    ),
    # 197000 and 196999 from wages with 3000 net from the rest: 200000 is not more than 200000.
    "K028": Case([("income", {"wage": 197001})], [("income", {"wage": 197000})]),
    # Eleven months of 3000 yuan are 33000.
    "K029": Case(
        [
            ("income", {"wage": 10999}),
            *[("work", {"event_date": f"2023-{m:02d}-01", "wage": 3700}) for m in range(1, 10)],
        ],
        [
            ("income", {"wage": 11100}),
            *[("work", {"event_date": f"2023-{m:02d}-01", "wage": 3700}) for m in range(1, 10)],
        ],
    ),
    "K030": Case(
        [("income", {"period_start": "2023-01-01", "period_end": "2023-12-31"})],
        [
            (
                "income",
                {"window": "rolling", "period_start": "2023-01-01", "period_end": "2023-12-31"},
            )
        ],
    ),
    "K031": Case(
        [("income", {"window": "rolling"}), _identified("2023-11-30")],
        [("income", {"window": "rolling"}), _identified("2023-10-20")],
    ),
}

MEMBERS = {
    "K041": Case(
        [("person", {"is_head": False}), ("person", {"person_id": "{h}-2", "is_head": False})],
        [("person", {}), ("person", {"person_id": "{h}-2", "is_head": False})],
    ),
    "K042": Case(
        [("person", {}), ("person", {"person_id": "{h}-2"})],
        [("person", {}), ("person", {"person_id": "{h}-2"}), _left("2022-01-01")],
    ),
    "K043": Case(
        [
            ("household", {}),
            ("household", {"household_id": "{h}x"}),
            ("person", {}),
            ("person", {"household_id": "{h}x", "event_date": "2020-01-01"}),
        ],
        [
            ("household", {}),
            ("household", {"household_id": "{h}x"}),
            ("person", {}),
            _left("2019-12-31"),
            ("person", {"household_id": "{h}x", "event_date": "2020-01-01"}),
        ],
        ("{h}", "{h}x"),
    ),
    "K044": Case(
        [("person", {}), ("person", {"event_date": "2020-01-01", "birth_date": "1980-05-06"})],
        [("person", {}), ("person", {"event_date": "2020-01-01", "birth_date": None})],
    ),
    "K045": Case(
        [("person", {}), ("person", {"event_date": "2020-01-01", "sex": "man"})],
        [("person", {}), ("person", {"event_date": "2020-01-01"})],
    ),
    "K046": Case(
        [("person", {"birth_date": "2019-01-02"})],
        [("person", {"birth_date": "2019-01-01"})],
    ),
    "K047": Case(
        [("person", {"birth_date": "1914-12-31"})],
        [("person", {"birth_date": "1915-01-02"})],
    ),
    "K048": Case(
        [("person", {"birth_date": "2009-01-02"})],
        [("person", {"birth_date": "2009-01-01"})],
    ),
    "K049": Case(
        [("person", {}), _left("2020-01-01", "deceased"), ("person", {"event_date": "2021-01-01"})],
        [("person", {}), _left("2020-01-01"), ("person", {"event_date": "2021-01-01"})],
    ),
    "K050": Case([("person", {"birth_date": None})], [("person", {})]),
    "K051": Case([("person", {}), _left("2022-01-01")], [("person", {})]),
    # Turning sixteen on the day of the record, or a day later.
    "K052": Case(
        [("person", {"birth_date": "2003-01-02"})],
        [("person", {"birth_date": "2003-01-01"})],
    ),
}

WORK_AND_SCHOOL = {
    "K061": Case(
        [("person", {"birth_date": "2007-06-01"}), ("work", {})],
        [("person", {"birth_date": "2007-05-31"}), ("work", {})],
    ),
    "K062": Case(
        [("person", {"birth_date": "1948-05-01"}), ("work", {})],
        [("person", {"birth_date": "1948-06-10"}), ("work", {})],
    ),
    # 92 days before 31 May are 28 February.
    "K063": Case(
        [("person", {}), _left("2023-02-27"), ("work", {})],
        [("person", {}), _left("2023-02-28"), ("work", {})],
    ),
    "K064": Case([("work", {"wage": None})], [("work", {"worked": False, "wage": None})]),
    "K065": Case([("work", {"worked": False})], [("work", {})]),
    "K071": Case(
        [("person", {"birth_date": "2005-08-01"}), ("schooling", {})],
        [("person", {"birth_date": "2005-10-01"}), ("schooling", {})],
    ),
    "K072": Case(
        [("person", {"birth_date": "2011-01-01"}), ("schooling", {"stage": "college"})],
        [("person", {"birth_date": "2004-01-01"}), ("schooling", {"stage": "college"})],
    ),
    # 365 + 60 days before 2025-01-01 is 2023-11-03.
    "K073": Case(
        [("person", {"birth_date": "2014-01-01"}), ("schooling", {"event_date": "2023-11-02"})],
        [("person", {"birth_date": "2014-01-01"}), ("schooling", {"event_date": "2023-11-03"})],
    ),
}

HEALTH_AND_GUARANTEES = {
    "K081": Case(
        [("medical_bill", {"out_of_pocket": 1000.01})],
        [("medical_bill", {"out_of_pocket": 1000})],
    ),
    # 92 days before 5 May are 2 February.
    "K082": Case(
        [("person", {}), _left("2023-02-01", "deceased"), ("medical_bill", {})],
        [("person", {}), _left("2023-02-02", "deceased"), ("medical_bill", {})],
    ),
    "K083": Case(
        [("medical_bill", {}), ("medical_bill", {"bill_id": "{h}-B2"})],
        [("medical_bill", {}), ("medical_bill", {"bill_id": "{h}-B2", "total": 1001})],
    ),
    "K084": Case(
        [
            ("income", {"rigid_expenditure": 0}),
            ("medical_bill", {"total": 9000, "out_of_pocket": 5001}),
        ],
        [
            ("income", {"rigid_expenditure": 0}),
            ("medical_bill", {"total": 9000, "out_of_pocket": 5000}),
        ],
    ),
    "K091": Case([("check", {"house_grade": "C"})], [("check", {"house_grade": "B"})]),
    "K092": Case(
        [("check", {"house_grade": "B", "passed": False})],
        [("check", {"house_grade": "C", "passed": False})],
    ),
    "K093": Case(
        [("check", {"item": "insurance", "house_grade": None, "uninsured_members": 1})],
        [("check", {"item": "insurance", "house_grade": None, "uninsured_members": 0})],
    ),
}

HELP_AND_LOANS = {
    "K101": Case(
        [("assistance", {"kind": "dibao", "amount": None})],
        [("assistance", {"kind": "dibao", "amount": 1})],
    ),
    "K102": Case(
        [("assistance", {"valid_to": "2023-05-09"})],
        [("assistance", {"valid_to": "2023-05-10"})],
    ),
    "K103": Case(
        [
            ("assistance", {"kind": "dibao", "event_date": "2022-01-01", "valid_to": "2023-05-10"}),
            ("assistance", {"kind": "tekun"}),
        ],
        [
            ("assistance", {"kind": "dibao", "event_date": "2022-01-01", "valid_to": "2023-05-09"}),
            ("assistance", {"kind": "tekun"}),
        ],
    ),
    # Gone more than 31 days before help begins on 10 May.
    "K104": Case(
        [("household", {}), _gone("2023-04-08"), ("assistance", {})],
        [("household", {}), _gone("2023-04-09"), ("assistance", {})],
    ),
    "K111": Case(
        [("loan", {"balance": 0, "overdue_days": 1})],
        [("loan", {"balance": 1, "overdue_days": 1})],
    ),
    "K112": Case([("loan", {"balance": 50001})], [("loan", {"balance": 50000})]),
    "K113": Case(
        [("loan", {}), ("loan", {"event_date": "2023-06-30", "balance": 30001})],
        [("loan", {}), ("loan", {"event_date": "2023-06-30", "balance": 30000})],
    ),
    # 32 and 31 days before 31 March.
    "K114": Case(
        [("loan", {"maturity_date": "2023-02-27"})],
        [("loan", {"maturity_date": "2023-02-28"})],
    ),
    "K115": Case(
        [("household", {"household_type": "ordinary"}), ("loan", {}), _identified("2023-04-01")],
        [("household", {"household_type": "ordinary"}), ("loan", {}), _identified("2023-03-31")],
    ),
    "K121": Case(
        [("household", {}), _gone("2023-05-04", "dissolved"), ("visit", {})],
        [("household", {}), _gone("2023-05-05", "dissolved"), ("visit", {})],
    ),
}

RECORDS = {
    "K131": Case(
        [("shock", {"known_date": "2023-02-28"})],
        [("shock", {"known_date": "2023-03-01"})],
    ),
    "K132": Case([("shock", {}), ("shock", {})], [("shock", {}), ("shock", {"kind": "fire"})]),
    # A later known value is a correction, one known on the same day a conflict.
    "K133": Case(
        [("shock", {}), ("shock", {"loss": 6000})],
        [("shock", {}), ("shock", {"loss": 6000, "known_date": "2023-03-12"})],
    ),
    # 1 March to 28 August are 180 days.
    "K134": Case(
        [("shock", {"known_date": "2023-08-29"})],
        [("shock", {"known_date": "2023-08-28"})],
    ),
    "K135": Case(
        [NO_ARCHIVE, NO_MEMBER, ("visit", {}), ("visit", {"event_date": "2024-12-01"})],
        [NO_MEMBER, ("visit", {})],
    ),
    "K136": Case(
        [("medical_bill", {"person_id": "K136-good-1"})],
        [("medical_bill", {})],
    ),
}

CASES: dict[str, Case] = {
    **MONITORING, **INCOME, **MEMBERS, **WORK_AND_SCHOOL, **HEALTH_AND_GUARANTEES,
    **HELP_AND_LOANS, **RECORDS,
}  # fmt: skip
