"""The Argentine household panel EPH (INDEC) as history tables.

A dwelling is visited in quarters q, q+1, q+4 and q+5, so a household that has just risen above the
line can be followed for a year. The panel is urban and Argentine: it shows that the method works on
real households and is no evidence about rural China.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from poverty_risk.datasets.eph_codes import (
    DWELLING_CODES,
    DWELLING_COUNTS,
    DWELLING_FLAGS,
    REGIONS,
    STRATEGIES,
)
from poverty_risk.datasets.eph_members import (
    MEMBER_COLUMNS,
    MEMBER_TEXT,
    add_departures,
    add_earlier_interview,
    decode,
    name_members,
    quarter_ends,
    yes_or_no,
)
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

__all__ = ["build_eph_frames", "read_eph"]

ROTATION = (0, 1, 4, 5)
"""Quarters after the first visit in which a dwelling is visited."""

NO_INCOME_ANSWER = ("12", "13")
"""Codes of DECIFR for a household whose income was not answered."""

INCOME_DECILES = {f"{decile:02d}": float(decile) for decile in range(1, 11)}
"""DECCFR: tenth of the country's households by income per member; other codes are no income or no
answer."""

NOT_HOUSEHOLD_MEMBERS = (51, 71)
"""COMPONENTE of live-in servants and lodgers."""

_FILE = re.compile(r"_a(\d\d)t([1-4])\.tsv\.gz$")
_QUARTER = re.compile(r"(\d{4})Q([1-4])")
_INTERVIEW_TEXT = ("CODUSU", "DECIFR", "DECCFR", "IDIMPH")
_INTERVIEW_NUMBERS = ("NRO_HOGAR", "REALIZADA", "REGION", "AGLOMERADO", "PONDERA", "ITF")


def read_eph(folder: str | Path, quarters: Iterable[str] | None = None) -> HistoryTables:
    """Read the EPH panel, the open data set with a true return-to-poverty label.

    Parameters
    ----------
    folder
        Holds ``hogar/hogar_aYYtQ.tsv.gz`` and ``indiv/indiv_aYYtQ.tsv.gz`` (INDEC's public files as
        tab-separated text), ``poverty_line.csv`` and ``adult_equivalent.csv``.
    quarters
        Such as ``["2008Q1", "2008Q2"]``; all that are there by default. What is said about earlier
        interviews refers to the quarters read.

    Returns
    -------
    HistoryTables
        Tables ``interview`` (one record per household and quarter) and ``member`` (one per person
        and quarter) of the schema ``eph``. Amounts are nominal pesos a month or multiples of the
        household's own line; no poverty line by year is carried, because the line is regional and
        quarterly.

    Raises
    ------
    HistoryError
        No such folder, file or quarter, a file without a needed column, a quarter without a line:
        all faults of a kind in one error.

    Notes
    -----
    A household is poor when its total income is below ``line per adult equivalent x sum of its
    members' adult equivalents``; undefined when its income was not answered or it has no members on
    file. An interview happens, and is known, on the last day of its quarter: the files tell nothing
    finer, and INDEC closes a quarter as a whole.

    References
    ----------
    INDEC, Encuesta Permanente de Hogares, public-use microdata and record layout.

    Examples
    --------
    >>> from poverty_risk.datasets.eph import read_eph
    >>> read_eph("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    poverty_risk.exceptions.HistoryError: 3 problems:...
    """
    frames = build_eph_frames(folder, quarters)
    return HistoryTables.from_frames(frames, load_schema("eph"))


def build_eph_frames(
    folder: str | Path, quarters: Iterable[str] | None = None
) -> dict[str, pd.DataFrame]:
    """Read the EPH panel into plain tables, before they are validated.

    Parameters
    ----------
    folder, quarters
        As in `read_eph`.

    Returns
    -------
    dict
        ``interview`` and ``member``, with the columns of the schema ``eph``.

    Raises
    ------
    HistoryError
        As in `read_eph`.

    Examples
    --------
    >>> from poverty_risk.datasets.eph import build_eph_frames
    >>> build_eph_frames("no/such/folder", ["2008Q1"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    poverty_risk.exceptions.HistoryError: 4 problems:...
    """
    folder = Path(folder)
    found = _find_quarters(folder, quarters)
    interview_numbers = (*_INTERVIEW_NUMBERS, *DWELLING_CODES, *DWELLING_COUNTS, *DWELLING_FLAGS)
    interview = _read_quarters(
        folder, "hogar", found, _INTERVIEW_TEXT, (*interview_numbers, *STRATEGIES)
    )
    member = _read_quarters(folder, "indiv", found, MEMBER_TEXT, MEMBER_COLUMNS)
    interview = interview[interview["REALIZADA"] == 1].reset_index(drop=True)
    is_member = ~member["COMPONENTE"].isin(NOT_HOUSEHOLD_MEMBERS)
    member = member[is_member].reset_index(drop=True)
    member["adult_equivalent"] = _adult_equivalents(folder, member)
    interview = _add_income(interview, member, _read_line(folder))
    interview = _add_rotation(interview)
    member = add_earlier_interview(member, interview)
    interview = add_departures(interview, member)
    return {
        "interview": _name_interview(interview),
        "member": name_members(member),
    }


def _find_quarters(folder: Path, quarters: Iterable[str] | None) -> list[int]:
    """Quarters (year x 4 + quarter - 1) for which both files are there."""
    kinds = ("hogar", "indiv")
    sides = {kind: {_parse_file(path) for path in (folder / kind).glob("*.gz")} for kind in kinds}
    there = {
        kind: {quarter for quarter in side if quarter is not None} for kind, side in sides.items()
    }
    if quarters is None:
        wanted = there["hogar"] | there["indiv"]
    else:
        wanted = {_parse_quarter(text) for text in quarters}
    faults = [
        Fault(
            "EPH folder",
            f"no file {kind}/{_file_name(kind, quarter)}",
            "household and person file of each quarter",
            "Complete the folder, or name the quarters to read.",
        )
        for quarter in sorted(wanted)
        for kind in kinds
        if quarter not in there[kind]
    ]
    faults += [
        Fault("EPH folder", f"no {name}", "the file beside hogar and indiv", "Check the folder.")
        for name in ("poverty_line.csv", "adult_equivalent.csv")
        if not (folder / name).is_file()
    ]
    if not wanted:
        faults.append(Fault("EPH folder", "no quarter", "hogar_aYYtQ.tsv.gz", "Check the folder."))
    if faults:
        raise HistoryError(faults)
    return sorted(wanted)


def _parse_file(path: Path) -> int | None:
    match = _FILE.search(path.name)
    return None if match is None else (2000 + int(match[1])) * 4 + int(match[2]) - 1


def _parse_quarter(text: str) -> int:
    match = _QUARTER.fullmatch(text)
    if match is None:
        raise HistoryError(Fault("quarters", repr(text), "such as '2008Q2'", "Correct it."))
    return int(match[1]) * 4 + int(match[2]) - 1


def _file_name(kind: str, quarter: int) -> str:
    return f"{kind}_a{quarter // 4 % 100:02d}t{quarter % 4 + 1}.tsv.gz"


def _read_quarters(
    folder: Path,
    kind: str,
    quarters: list[int],
    text: tuple[str, ...],
    numbers: tuple[str, ...],
) -> pd.DataFrame:
    types = dict.fromkeys(text, pa.string()) | dict.fromkeys(numbers, pa.float64())
    options = pa_csv.ConvertOptions(
        include_columns=list(types),
        column_types=types,
        # Blank and the word None stand for no value in these files.
        null_values=["", "None"],
        strings_can_be_null=True,
    )
    parts, faults = [], []
    for quarter in quarters:
        name = _file_name(kind, quarter)
        try:
            part = pa_csv.read_csv(
                folder / kind / name,
                parse_options=pa_csv.ParseOptions(delimiter="\t"),
                convert_options=options,
            )
        except (pa.ArrowException, KeyError, OSError) as error:
            reason = str(error).splitlines()[0][:160]
            faults.append(Fault(f"EPH file {name}", reason, "INDEC's columns", "Get it again."))
            continue
        parts.append(part.append_column("quarter", pa.array(np.full(part.num_rows, quarter))))
    if faults:
        raise HistoryError(faults)
    frame: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    frame["household_id"] = frame["CODUSU"] + "_" + frame["NRO_HOGAR"].astype("int64").astype("str")
    return frame


def _adult_equivalents(folder: Path, member: pd.DataFrame) -> pd.Series:
    """Adult equivalent of each person; missing where age or sex is unknown."""
    table = pd.read_csv(folder / "adult_equivalent.csv").set_index(["sex", "age"])
    # Age 0 and -1 both mean under one year; the table writes -1.
    age = member["CH06"].where(member["CH06"] != 0, -1)
    keys = pd.MultiIndex.from_arrays([member["CH04"], age])
    equivalents = table["adult_equivalent"].astype("float64").reindex(keys)
    return pd.Series(equivalents.to_numpy(), index=member.index)


def _read_line(folder: Path) -> pd.Series:
    """Line per adult equivalent in pesos a month by (region, quarter)."""
    lines = pd.read_csv(folder / "poverty_line.csv")
    quarter = lines["year"] * 4 + lines["quarter"] - 1
    index = pd.MultiIndex.from_arrays([lines["region"], quarter], names=["REGION", "quarter"])
    return pd.Series(lines["line_per_adult_equivalent"].to_numpy(float), index=index)


def _add_income(interview: pd.DataFrame, member: pd.DataFrame, line: pd.Series) -> pd.DataFrame:
    """Line of each household, its income relative to it, and whether it is poor."""
    per_adult = line.reindex(pd.MultiIndex.from_frame(interview[["REGION", "quarter"]])).to_numpy()
    lacking = interview.loc[np.isnan(per_adult), ["REGION", "quarter"]].drop_duplicates()
    if len(lacking):
        named = ", ".join(f"region {r:.0f} {q // 4}Q{q % 4 + 1}" for r, q in lacking.to_numpy(int))
        raise HistoryError(
            Fault("poverty_line.csv", f"no line for {named}", "each quarter read", "Add it.")
        )
    groups = member.groupby(["household_id", "quarter"], sort=False)["adult_equivalent"]
    # A member of unknown age makes the household's line unknown, not lower.
    found = pd.DataFrame(
        {
            "members": groups.size(),
            "adult_equivalents": groups.sum().where(groups.count() == groups.size()),
        }
    )
    result = interview.join(found, on=["household_id", "quarter"])
    result["income_answered"] = ~result["DECIFR"].isin(NO_INCOME_ANSWER) & result["ITF"].notna()
    result["total_income"] = result["ITF"].where(result["income_answered"])
    result["household_line"] = per_adult * result["adult_equivalents"]
    result["income_to_line"] = result["total_income"] / result["household_line"]
    known = result["income_to_line"].notna()
    below = result["total_income"] < result["household_line"]
    result["poor"] = below.astype("boolean").where(known)
    return result


def _find_first_visits() -> dict[int, int]:
    """Which visit the first sighting of a dwelling was, by the quarters it was seen in.

    The key is a bit mask of quarters since the first sighting. What fits two rotations (seen once,
    in two quarters running, or twice a year apart) is left out.
    """
    starts: dict[int, set[int]] = {}
    for size in range(1, len(ROTATION) + 1):
        for seen in itertools.combinations(range(len(ROTATION)), size):
            mask = sum(1 << (ROTATION[visit] - ROTATION[seen[0]]) for visit in seen)
            starts.setdefault(mask, set()).add(seen[0])
    return {mask: min(visits) for mask, visits in starts.items() if len(visits) == 1}


def _add_rotation(interview: pd.DataFrame) -> pd.DataFrame:
    """Add the number of the visit, and what was known from the interview before."""
    result = interview.sort_values(["household_id", "quarter"], ignore_index=True)
    dwelling = result.groupby("CODUSU", sort=False)["quarter"]
    first = dwelling.transform("min")
    seen = result.drop_duplicates(["CODUSU", "quarter"])
    # No dwelling stays longer than the rotation; a longer span is a pattern that none explains.
    span = (seen["quarter"] - first[seen.index]).clip(upper=ROTATION[-1] + 1)
    masks = pd.Series(1 << span.to_numpy(), index=seen["CODUSU"]).groupby(level=0).sum()
    first_visit = result["CODUSU"].map(masks.map(_find_first_visits()))
    numbers = pd.Series(range(1, len(ROTATION) + 1), index=ROTATION, dtype="float64")
    offset = first_visit.map(pd.Series(ROTATION)) + result["quarter"] - first
    result["visit"] = offset.map(numbers)
    households = result.groupby("household_id", sort=False)
    result["interviews_before"] = households.cumcount()
    result["quarters_since_previous"] = households["quarter"].diff()
    result["poor_before"] = households["poor"].shift()
    result["income_to_line_before"] = households["income_to_line"].shift()
    return result


def _name_interview(interview: pd.DataFrame) -> pd.DataFrame:
    """Make the table of the schema from INDEC's columns."""
    day = quarter_ends(interview["quarter"])
    parts = interview["IDIMPH"].str.replace("0", "", regex=False).str.len().astype("float64")
    columns = {
        "household_id": interview["household_id"],
        "event_date": day,
        "known_date": day,
        "region": decode(interview["REGION"], REGIONS),
        "city": "city_" + interview["AGLOMERADO"].astype("int64").astype("str").str.zfill(2),
        "weight": interview["PONDERA"],
        "income_decile": interview["DECCFR"].map(INCOME_DECILES),
        "imputed_parts": parts,
        "imputed": (parts > 0).astype("boolean").where(parts.notna()),
    }
    kept = (
        "visit interviews_before quarters_since_previous total_income income_answered members "
        "adult_equivalents household_line income_to_line poor poor_before income_to_line_before "
        "members_left earnings_left"
    )
    columns |= {name: interview[name] for name in kept.split()}
    for source, (name, codes) in DWELLING_CODES.items():
        columns[name] = decode(interview[source], codes)
    for source, (name, most) in DWELLING_COUNTS.items():
        columns[name] = interview[source].where(interview[source].between(0, most))
    for source, name in (DWELLING_FLAGS | STRATEGIES).items():
        columns[name] = yes_or_no(interview[source])
    return pd.DataFrame(columns)
