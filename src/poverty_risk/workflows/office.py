"""What stays in the office: the keys, whose a pseudonym is, what came back from visits."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from poverty_risk.config import Config
from poverty_risk.file_lock import hold_lock
from poverty_risk.privacy import hash_id
from poverty_risk.visits import VisitList
from poverty_risk.whole_files import write_private_table

__all__ = [
    "FAULTS",
    "FEEDBACK",
    "KEY_FILE",
    "LOOKUP",
    "OFFICE_ONLY",
    "PREDICTIONS",
    "VISIT_LISTS",
    "drop_predictions",
    "find_household_ids",
    "keep_visit_list",
    "read_looks",
    "read_lookup",
    "read_office_table",
    "read_returned",
    "read_visit_lists",
    "write_lookup",
]

OFFICE_ONLY = "office_only"
"""Folder within the output; nothing of it is passed on."""

KEY_FILE = "pseudonym.key"
LOOKUP = "households.csv"
FEEDBACK = ("feedback.parquet", "visit.parquet")
"""Outcomes of visits in all their versions, and the history records made of them."""

VISIT_LISTS = "visit_lists.parquet"
"""Whom the lists of all rounds named or could have named, why, and with which risk and chance."""

FAULTS = ("rejected.csv", "import_faults.csv")
"""Faults of the latest check and of the latest import, which quote what stands in rows."""

PREDICTIONS = "predictions"
"""Folder of the latest predictions with the ids of households, as `predict_folder` makes it."""


def drop_predictions(config: Config) -> bool:
    """Delete the latest predictions, which name households; the next run makes them again."""
    folder = config.output / OFFICE_ONLY / PREDICTIONS
    found = folder.is_dir()
    if found:
        with hold_lock(folder, f"predictions '{folder.name}'"):
            shutil.rmtree(folder)
    return found


def read_office_table(path: Path) -> pd.DataFrame:
    """A table of the office, CSV or Parquet."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def read_lookup(config: Config) -> pd.DataFrame:
    """Which pseudonym is which household: columns pseudonym and household_id; empty before a round."""
    path = config.output / OFFICE_ONLY / LOOKUP
    if path.is_file():
        return read_office_table(path)
    return pd.DataFrame({"pseudonym": [], "household_id": []}, dtype=str)


def write_lookup(config: Config, households: Iterable[str], key: bytes) -> Path:
    """Write which pseudonym is which household, for its owner alone.

    Households of earlier rounds stay: their feedback may still come back when they are no longer
    scored, because they are monitored by then.
    """
    path = config.output / OFFICE_ONLY / LOOKUP
    rows = pd.DataFrame({"household_id": [str(household) for household in households]})
    rows.insert(0, "pseudonym", [hash_id(household, key) for household in rows["household_id"]])
    rows = pd.concat([rows, read_lookup(config)]).drop_duplicates("pseudonym")
    write_private_table(rows, path)
    return path


def find_household_ids(config: Config, given: Iterable[str]) -> list[str]:
    """Ids of households, of which some may be given by the pseudonym that stands on a list."""
    rows = read_lookup(config)
    known = dict(zip(rows["pseudonym"], rows["household_id"], strict=True))
    return [known.get(str(one), str(one)) for one in given]


def keep_visit_list(config: Config, visit_list: VisitList) -> Path:
    """Remember whom a round's list names, in place of an earlier list of the same date."""
    path = config.output / OFFICE_ONLY / VISIT_LISTS
    can = visit_list.households.query("propensity > 0")[["visited", "risk", "propensity"]]
    # Those who were not visited too: what visits found is weighted by the chances of all.
    rows = visit_list.visits[["why"]].join(can, how="right").reset_index()
    rows.insert(0, "as_of_date", pd.Timestamp(visit_list.as_of_date))
    with hold_lock(path, "the lists of all rounds"):
        if path.is_file():
            before = read_office_table(path)
            rows = pd.concat([before[before["as_of_date"] != visit_list.as_of_date], rows])
        write_private_table(rows, path)
    return path


def read_visit_lists(config: Config) -> dict[pd.Timestamp, pd.DataFrame]:
    """Lists of earlier rounds by date: index household_id; why, risk, propensity."""
    rows = _read_rounds(config)
    listed = rows[rows["visited"]].drop(columns="visited")
    return {
        pd.Timestamp(str(date)): own.drop(columns="as_of_date").set_index("household_id")
        for date, own in listed.groupby("as_of_date")
    }


def read_looks(config: Config) -> pd.DataFrame:
    """Who was and who could have been visited by the rounds: what `evaluate_seen` weights by.

    Index (household_id, as_of_date); columns visited, propensity.
    """
    rows = _read_rounds(config).set_index(["household_id", "as_of_date"])
    return rows[["visited", "propensity"]]


def read_returned(config: Config) -> dict[tuple[str, pd.Timestamp], bool]:
    """By household and date of the list: whether what came back in a workbook says what was found."""
    path = config.output / OFFICE_ONLY / FEEDBACK[0]
    if not path.is_file():
        return {}
    versions = read_office_table(path).sort_values("known_date", kind="stable")
    latest = versions.drop_duplicates("record_id", keep="last")
    looked = latest["difficulty_found"].notna()  # where nobody was at home nobody looked
    days = pd.to_datetime(latest["as_of_date"])
    found: dict[tuple[str, pd.Timestamp], bool] = {}
    for household, day, there in zip(latest["household_id"].astype(str), days, looked, strict=True):
        # A list that was made twice may have two rows of a household.
        found[household, day] = found.get((household, day), False) or bool(there)
    return found


def _read_rounds(config: Config) -> pd.DataFrame:
    path = config.output / OFFICE_ONLY / VISIT_LISTS
    if path.is_file():
        return read_office_table(path)
    columns = ["as_of_date", "household_id", "why", "visited", "risk", "propensity"]
    return pd.DataFrame(columns=columns).astype({"visited": bool, "propensity": float})
