"""Members of the households of the EPH: their work, schooling and incomes, and who came and went."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk.datasets.eph_codes import (
    AMOUNTS,
    BENEFITS,
    CONSTRUCTION,
    EDUCATION_LEVELS,
    MEMBER_CODES,
    MEMBER_FLAGS,
    MONTHS_AT_LEAST,
    NO_QUALIFICATION,
    SCHOOLING,
    SEARCH_MONTHS,
    UNDEREMPLOYED,
    WORKPLACE_SIZES,
    WORKPLACE_SIZES_ROUGHLY,
)

__all__ = [
    "MEMBER_COLUMNS",
    "MEMBER_TEXT",
    "add_departures",
    "add_earlier_interview",
    "decode",
    "name_members",
    "quarter_ends",
    "yes_or_no",
]

MEMBER_TEXT = ("CODUSU", "PP04D_COD", "CH14", "IDIMPP")
"""Columns of the person file read as text."""

MEMBER_COLUMNS = (
    *("NRO_HOGAR", "COMPONENTE", "CH04", "CH06", "NIVEL_ED", "INTENSI", "PP3E_TOT"),
    *("CH12", "CH13", "PP03D", "PP04C", "PP04C99", "PP05H", "PP07A", "PP10A", *BENEFITS),
    *(*MEMBER_CODES, *MEMBER_FLAGS, *AMOUNTS),
)
"""Columns of the person file read as numbers."""

UNKNOWN_HOURS = 168
"""Hours a week above this are the code for no answer (999): a week has no more."""

EMPLOYED = 1
"""ESTADO."""

MOST_JOBS = 9

NOTHING = 1e-9
"""Multiples of the line below which a difference of sums is rounding."""


def quarter_ends(quarters: pd.Series) -> pd.Series:
    """Last day of each quarter."""
    numbers = np.sort(quarters.unique())
    days = [pd.Timestamp(n // 4, n % 4 * 3 + 1, 1) + pd.offsets.QuarterEnd() for n in numbers]
    return quarters.map(pd.Series(days, index=numbers)).astype("datetime64[us]")


def yes_or_no(values: pd.Series) -> pd.Series:
    """1 yes, 2 no, anything else missing."""
    return (values == 1).astype("boolean").where(values.isin([1, 2]))


def decode(values: pd.Series, codes: dict[int, str]) -> pd.Series:
    """Words for codes; a code without a word is missing."""
    return values.map(codes).astype("str")


def add_earlier_interview(member: pd.DataFrame, interview: pd.DataFrame) -> pd.DataFrame:
    """Add the household's line, and what the interview before said of the same person.

    Parameters
    ----------
    member
        Persons, in INDEC's columns.
    interview
        Interviews with ``household_line`` and ``quarters_since_previous``.

    Returns
    -------
    DataFrame
        The persons with ``household_line``, ``in_household_before`` (missing at the first interview),
        and where they were, ``activity_before``, ``contribution_before`` and ``earnings_before``.
    """
    households = interview.drop_duplicates(["household_id", "quarter"])
    known = households.set_index(["household_id", "quarter"])
    keys = pd.MultiIndex.from_frame(member[["household_id", "quarter"]])
    found = known[["household_line", "quarters_since_previous"]].reindex(keys)
    result = member.assign(household_line=found["household_line"].to_numpy())
    result["earnings"] = (_amount(result, "P21") + _amount(result, "TOT_P12")).astype("float64")
    # Numbers are sorted many times as fast as the texts of ids.
    codes = pd.Series(pd.factorize(result["household_id"])[0], index=result.index)
    person = codes * 100 + result["COMPONENTE"].astype("int64")
    ordered = pd.DataFrame({"person": person, "quarter": result["quarter"]}).sort_values(
        ["person", "quarter"]
    )
    earlier = result.loc[ordered.index, ["quarter", "ESTADO", "PP07H", "earnings"]].shift()
    same = ordered["person"].eq(ordered["person"].shift())
    before = result["quarter"] - found["quarters_since_previous"].to_numpy()
    present = (same & earlier["quarter"].eq(before)).reindex(result.index)
    earlier = earlier.reindex(result.index).where(present)
    result["in_household_before"] = present.astype("boolean").where(before.notna().to_numpy())
    result["activity_before"] = earlier["ESTADO"]
    result["contribution_before"] = earlier["PP07H"]
    result["earnings_before"] = earlier["earnings"]
    return result


def add_departures(interview: pd.DataFrame, member: pd.DataFrame) -> pd.DataFrame:
    """Add how many members left since the interview before, and what they had earned.

    Parameters
    ----------
    interview
        Interviews.
    member
        Persons of `add_earlier_interview`.

    Returns
    -------
    DataFrame
        The interviews with ``members_left`` and ``earnings_left`` (multiples of the line of the
        interview before); missing at the first interview.
    """
    there = member["in_household_before"].fillna(value=False).astype("float64")
    told = pd.DataFrame(
        {
            "members": 1.0,
            "earnings": member["earnings"].fillna(0.0),
            "stayed": there,
            "earnings_stayed": member["earnings_before"].fillna(0.0),
        }
    )
    keys = [member["household_id"], member["quarter"]]
    sums = told.groupby(keys, sort=False).sum()
    now = sums.reindex(pd.MultiIndex.from_frame(interview[["household_id", "quarter"]]))
    quarter = interview["quarter"] - interview["quarters_since_previous"]
    before = sums.reindex(pd.MultiIndex.from_arrays([interview["household_id"], quarter]))
    left = before["members"].to_numpy() - now["stayed"].to_numpy()
    earnings = before["earnings"].to_numpy() - now["earnings_stayed"].to_numpy()
    # Sums of the same amounts in another order differ in the last digits, also below zero.
    earnings = np.where((left > 0) & ~(np.abs(earnings) < NOTHING), earnings, left * 0)
    return interview.assign(members_left=left, earnings_left=earnings)


def name_members(member: pd.DataFrame) -> pd.DataFrame:
    """Make the table of the schema; amounts become multiples of the household's line.

    Parameters
    ----------
    member
        Persons of `add_earlier_interview`, with ``adult_equivalent``.

    Returns
    -------
    DataFrame
        The table ``member``.
    """
    day = quarter_ends(member["quarter"])
    number = member["COMPONENTE"].astype("int64").astype("str")
    columns = {
        "household_id": member["household_id"],
        "person_id": member["household_id"] + "_" + number,
        "event_date": day,
        "known_date": day,
        "sex": decode(member["CH04"], {1: "man", 2: "woman"}),
        "age": member["CH06"].clip(lower=0),
        "adult_equivalent": member["adult_equivalent"],
        "education_level": member["NIVEL_ED"].map(EDUCATION_LEVELS),
        "years_of_schooling": _count_schooling(member),
        "income_imputed": member["IDIMPP"].fillna("").str.contains("[1-9]").astype("boolean"),
        "in_household_before": member["in_household_before"],
        "activity_before": decode(member["activity_before"], MEMBER_CODES["ESTADO"][1]),
        "pension_contribution_before": yes_or_no(member["contribution_before"]),
        "earnings_before": member["earnings_before"],
    }
    columns |= _describe_work(member)
    for source, (name, codes) in MEMBER_CODES.items():
        columns[name] = decode(member[source], codes)
    for source, name in MEMBER_FLAGS.items():
        columns[name] = yes_or_no(member[source])
    for source, name in AMOUNTS.items():
        columns[name] = _amount(member, source)
    return pd.DataFrame(columns)


def _amount(member: pd.DataFrame, source: str) -> pd.Series:
    # Negative codes mean no answer.
    return member[source].where(member[source] >= 0) / member["household_line"]


def _count_schooling(member: pd.DataFrame) -> pd.Series:
    """Years of schooling: those before the level attended, and of that level."""
    before = member["CH12"].map({level: years for level, (years, _) in SCHOOLING.items()})
    finished = member["CH12"].map({level: years for level, (_, years) in SCHOOLING.items()})
    passed = pd.to_numeric(member["CH14"], errors="coerce")
    # 98 and 99 are special schools and no answer.
    begun = np.minimum(before + passed.where(passed < 10, 0.0), finished)
    never = decode(member["CH10"], MEMBER_CODES["CH10"][1]) == "never_attended"
    return finished.where(member["CH13"] == 1, begun).mask(never, 0.0)


def _describe_work(member: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns on the main job of those who work, and on the search of those who do not."""
    employed = member["ESTADO"] == EMPLOYED
    occupation = member["PP04D_COD"].str.strip().str.zfill(5).where(employed)
    skill = pd.to_numeric(occupation.str[4:5], errors="coerce")
    size = member["PP04C"].map(WORKPLACE_SIZES)
    roughly = member["PP04C99"].map(WORKPLACE_SIZES_ROUGHLY)
    months = member["PP07A"].map(MONTHS_AT_LEAST)
    benefits = pd.DataFrame({source: member[source] == 1 for source in BENEFITS}).sum(axis=1)
    asked = member[list(BENEFITS)].isin([1, 2]).any(axis=1)
    jobs = member["PP03D"]
    return {
        "underemployed": member["INTENSI"]
        .isin(UNDEREMPLOYED)
        .astype("boolean")
        .where(member["INTENSI"].between(1, 5)),
        "hours": member["PP3E_TOT"].where(member["PP3E_TOT"] <= UNKNOWN_HOURS),
        "skill_level": (NO_QUALIFICATION - skill).where(skill.between(1, NO_QUALIFICATION)),
        "construction": (occupation.str[:2] == CONSTRUCTION).astype("boolean").where(employed),
        "workplace_size": size.fillna(roughly).where(employed),
        "months_in_job": months.fillna(member["PP05H"].map(MONTHS_AT_LEAST)).where(employed),
        "benefits": benefits.astype("float64").where(asked),
        "further_jobs": jobs.where(employed & jobs.between(1, MOST_JOBS)),
        "months_of_search": member["PP10A"].map(SEARCH_MONTHS),
    }
