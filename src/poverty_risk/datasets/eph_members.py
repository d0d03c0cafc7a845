"""Persons of the EPH panel: what each answered, and what the same person answered before."""

from __future__ import annotations

import pandas as pd

from poverty_risk.datasets.eph_codes import (
    AMOUNTS,
    BENEFITS,
    EDUCATION_LEVELS,
    IRREGULAR,
    MEMBER_CODES,
    MEMBER_FLAGS,
    SIZE_BANDS,
    UNDEREMPLOYED,
    decode,
    yes_or_no,
)

__all__ = ["name_members"]

UNKNOWN_HOURS = 168
"""Hours a week above this are the code for no answer (999): a week has no more."""

EMPLOYED, EMPLOYEE = 1, 3
"""Codes of ESTADO and CAT_OCUP."""


def name_members(member: pd.DataFrame, interview: pd.DataFrame) -> pd.DataFrame:
    """Make the table ``member`` of the schema ``eph`` from INDEC's columns.

    Parameters
    ----------
    member
        Persons with INDEC's columns, ``household_id``, ``quarter``, ``day`` and
        ``adult_equivalent``; no person twice in a quarter.
    interview
        Interviews with ``household_id``, ``quarter`` and ``household_line``.

    Returns
    -------
    DataFrame
        Amounts are multiples of the household's line of the same interview. Columns that end in
        ``_before`` tell what the same person answered at the interview before; missing for who was
        not in the household then.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.datasets import eph_codes as codes
    >>> from poverty_risk.datasets.eph_members import name_members
    >>> asked = [*codes.MEMBER_NUMBERS, *codes.MEMBER_CODES, *codes.MEMBER_FLAGS, *codes.AMOUNTS]
    >>> answers = dict.fromkeys([*asked, *codes.BENEFITS, *codes.IRREGULAR], 0.0)
    >>> visit = {"household_id": "1_1", "quarter": 8032, "day": pd.Timestamp("2008-03-31")}
    >>> person = answers | visit | {"COMPONENTE": 1, "adult_equivalent": 1.0, "IDIMPP": "00000"}
    >>> members = pd.DataFrame([person | {"ESTADO": 1, "CAT_OCUP": 3, "P21": 150.0, "PP07A": 6}])
    >>> interviews = pd.DataFrame([visit | {"household_line": 100.0}])
    >>> table = name_members(members, interviews)
    >>> table[["main_job_income", "job_tenure"]].iloc[0].tolist()
    [1.5, 6.0]
    """
    number = member["COMPONENTE"].astype("int64").astype("str")
    columns = {
        "household_id": member["household_id"],
        "person_id": member["household_id"] + "_" + number,
        "event_date": member["day"],
        "known_date": member["day"],
        "sex": decode(member["CH04"], {1: "man", 2: "woman"}),
        "age": member["CH06"].clip(lower=0),
        "adult_equivalent": member["adult_equivalent"],
        "education_level": member["NIVEL_ED"].map(EDUCATION_LEVELS),
    }
    for source, (name, codes) in MEMBER_CODES.items():
        columns[name] = decode(member[source], codes)
    for source, name in MEMBER_FLAGS.items():
        columns[name] = yes_or_no(member[source])
    columns |= _describe_jobs(member)
    columns |= _measure_income(member, _find_lines(member, interview))
    return _add_before(pd.DataFrame(columns))


def _find_lines(member: pd.DataFrame, interview: pd.DataFrame) -> pd.Series:
    """Line of each person's household at the same interview."""
    households = interview.drop_duplicates(["household_id", "quarter"])
    lines = households.set_index(["household_id", "quarter"])["household_line"]
    keys = pd.MultiIndex.from_frame(member[["household_id", "quarter"]])
    return pd.Series(lines.reindex(keys).to_numpy(), index=member.index)


def _describe_jobs(member: pd.DataFrame) -> dict[str, pd.Series]:
    """The main job of those who work; missing for all others."""
    employed = member["ESTADO"] == EMPLOYED
    employee = employed & (member["CAT_OCUP"] == EMPLOYEE)
    # Employees are asked since when they are there, others since when they run their business.
    tenure = member["PP07A"].where(employee, member["PP05H"])
    skill = member["PP04D_COD"] % 10
    size = member["PP04C"].where(member["PP04C"].between(1, 12), member["PP04C99"].map(SIZE_BANDS))
    has_benefit = member[list(BENEFITS)] == 1
    is_worked = member["INTENSI"].between(1, 5)
    return {
        "underemployed": member["INTENSI"].isin(UNDEREMPLOYED).astype("boolean").where(is_worked),
        "hours": member["PP3E_TOT"].where(member["PP3E_TOT"] <= UNKNOWN_HOURS),
        "job_tenure": tenure.where(employed & tenure.between(1, 6)),
        "job_skill": skill.where(employed & skill.between(1, 4)),
        "workplace_size": size.where(employed),
        "job_benefits": has_benefit.sum(axis=1).astype("float64").where(employee),
        "payslip": (member["PP07K"] == 1).astype("boolean").where(member["PP07K"].between(1, 5)),
        "state_job": (member["PP04A"] == 1).astype("boolean").where(employed),
        "work_programme": (member["PP07E"] == 1).astype("boolean").where(employed),
    }


def _measure_income(member: pd.DataFrame, line: pd.Series) -> dict[str, pd.Series]:
    """Amounts as multiples of the household's line."""
    # Negative codes mean no answer.
    amounts = {name: member[source].clip(lower=0) for source, name in AMOUNTS.items()}
    known = {name: member[source] >= 0 for source, name in AMOUNTS.items()}
    columns = {name: values.where(known[name]) / line for name, values in amounts.items()}
    earned = amounts["main_job_income"].fillna(0) + amounts["other_job_income"].fillna(0)
    columns["income"] = (earned + amounts["non_labour_income"].fillna(0)) / line
    irregular = member[list(IRREGULAR)].clip(lower=0).sum(axis=1)
    columns["irregular_income"] = irregular / line
    parts = member["IDIMPP"].str.replace("0", "", regex=False).str.len()
    columns["income_imputed"] = (parts > 0).astype("boolean").where(parts.notna())
    return columns


def _add_before(member: pd.DataFrame) -> pd.DataFrame:
    """Add what the same person answered at the interview before."""
    ordered = member.sort_values(["person_id", "event_date"], ignore_index=True)
    employed = ordered["activity"] == "employed"
    earned = ordered["main_job_income"].fillna(0) + ordered["other_job_income"].fillna(0)
    told = pd.DataFrame(
        {
            "income_before": ordered["income"],
            "earnings_before": earned.where(ordered["income"].notna()),
            "formal_before": employed & (ordered["pension_contribution"].fillna(False)),
            "imputed_before": ordered["income_imputed"],
        }
    )
    before = told.groupby(ordered["person_id"], sort=False).shift()
    before["formal_before"] = before["formal_before"].astype("boolean")
    return pd.concat([ordered, before], axis=1)
