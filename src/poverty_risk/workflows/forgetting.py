"""Forget records and households, wherever the office keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from poverty_risk.config import Config
from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.privacy import hash_id, read_keys
from poverty_risk.retention import (
    Forgotten,
    RetentionPolicy,
    forget_before,
    forget_household,
)
from poverty_risk.schema import Schema, load_schema
from poverty_risk.store_retention import forget_store_before, forget_store_household
from poverty_risk.whole_files import write_private_table
from poverty_risk.windows import parse_as_of_dates
from poverty_risk.workflows.office import (
    FAULTS,
    KEY_FILE,
    OFFICE_ONLY,
    drop_predictions,
    read_office_table,
)
from poverty_risk.workflows.privacy import record_export

__all__ = ["Forgetting", "forget_everything_before", "forget_households"]

OF_ONE_HOUSEHOLD = ("cards", "letters")
"""Folders with one file per household, named by its pseudonym."""

OF_ROUNDS = ("visits",)
"""Folders with files about many households, which cannot be changed afterwards."""


@dataclass(frozen=True)
class Forgetting:
    """What was forgotten.

    Parameters
    ----------
    parts
        Counts of the ``history`` and of the ``store``, as far as there are any.
    office
        Rows that were removed from files of the office, by file.
    deleted
        Cards and letters that were deleted.
    remaining
        Files of earlier rounds, which may still tell of those who are forgotten: the office decides
        whether to destroy them, and those that it handed out.
    """

    parts: dict[str, Forgotten]
    office: dict[str, int] = field(default_factory=dict)
    deleted: tuple[Path, ...] = ()
    remaining: tuple[Path, ...] = ()


def forget_everything_before(
    config: Config,
    date: str | pd.Timestamp,
    *,
    reason: str,
    store: str | Path | None = None,
    policy: str | Path | None = None,
    who: str | None = None,
) -> Forgetting:
    """Remove what was known before a day from history, import store and feedback.

    Parameters
    ----------
    config
        The run: its history folder and its output folder.
    date
        The day; what was known on it stays.
    reason
        Why, for the log.
    store
        Import store, if there is one.
    policy
        What stays because it is in force: a file like the shipped one.
    who
        Who asked for it, for the log.

    Returns
    -------
    Forgetting
        Counts.

    Raises
    ------
    PovertyRiskError
        There is neither a history folder nor a store, or one cannot be read or written as declared.
    """
    schema, day = _read_schema(config), parse_as_of_dates([date])[0]
    kept = RetentionPolicy.load(policy)
    steps = _make_steps(
        config,
        store,
        lambda folder: forget_before(folder, day, schema=schema, policy=kept),
        lambda folder, key: forget_store_before(folder, key, day, schema=schema, policy=kept),
    )
    record_export(config, f"forget --before {day.date()}", reason=reason, who=who)
    parts = {name: step() for name, step in steps.items()}
    # A household may be gone from the history and still be in the store.
    gone = set[str]().union(*(part.gone_ids for part in parts.values()))
    gone = gone.difference(*(part.left_ids for part in parts.values()))
    office = _forget_in_office(config, gone, before=day)
    removed = sum(part.removed for part in parts.values())
    _end(config, f"forget --before {day.date()}", f"{removed} records", who, parts)
    return Forgetting(parts, office, _delete_files(config, gone), _find_rounds(config))


def forget_households(
    config: Config,
    households: Iterable[str],
    *,
    reason: str,
    store: str | Path | None = None,
    who: str | None = None,
) -> Forgetting:
    """Remove everything of some households: history, import store, feedback, lookup, cards, letters.

    Parameters
    ----------
    config
        The run: its history folder and its output folder.
    households
        Their ids as in the history.
    reason
        Why, for the log.
    store
        Import store, if there is one.
    who
        Who asked for it, for the log.

    Returns
    -------
    Forgetting
        Counts, what was deleted, and what of earlier rounds remains.

    Raises
    ------
    PovertyRiskError
        There is neither a history folder nor a store, nothing is known of any of the households, or
        something cannot be read or written.
    """
    wanted, schema = [str(household) for household in households], _read_schema(config)
    steps = _make_steps(
        config,
        store,
        lambda folder: forget_household(folder, wanted, schema=schema, missing_ok=True),
        lambda folder, key: forget_store_household(
            folder, key, wanted, schema=schema, missing_ok=True
        ),
    )
    record_export(config, "forget --household", reason=reason, who=who)
    # What is gone already is no fault in any of the places: a run that was killed is run again.
    deleted = _delete_files(config, set(wanted))
    parts = {name: step() for name, step in steps.items()}
    office = _forget_in_office(config, set(wanted))
    removed = [part.removed + part.rejected for part in parts.values()]
    if not (deleted or any(removed) or any(office.values())):
        remedy = "Check the ids; what was forgotten already is gone."
        found = f"{len(wanted)} households without any record"
        raise PovertyRiskError(Fault("households", found, "known ones", remedy))
    _end(config, "forget --household", "done", who, parts)
    return Forgetting(parts, office, deleted, _find_rounds(config))


def _read_schema(config: Config) -> Schema:
    return load_schema(config.history.schema_name, config.history.extra_schema)


def _make_steps(
    config: Config,
    store: str | Path | None,
    in_history: Callable[[Path], Forgotten],
    in_store: Callable[[Path, bytes], Forgotten],
) -> dict[str, Callable[[], Forgotten]]:
    steps: dict[str, Callable[[], Forgotten]] = {}
    folder = config.history.folder if config.history.source == "folder" else None
    if folder is not None:
        steps["history"] = lambda: in_history(folder)
    if store is not None:
        key = read_keys(config.output / OFFICE_ONLY / KEY_FILE).key
        steps["store"] = lambda: in_store(Path(store), key)
    if not steps:
        remedy = "Give the folder of the history, or the import store."
        raise PovertyRiskError(
            Fault("history", f"source '{config.history.source}'", "a folder or a store", remedy)
        )
    return steps


def _end(
    config: Config, command: str, result: str, who: str | None, parts: dict[str, Forgotten]
) -> None:
    count = max((part.households for part in parts.values()), default=0)
    record_export(config, f"{command}: done", reason=result, households=count, who=who)


def _forget_in_office(
    config: Config, households: set[str], before: pd.Timestamp | None = None
) -> dict[str, int]:
    office, removed = config.output / OFFICE_ONLY, {}
    drop_predictions(config)
    for path in sorted([*office.glob("*.csv"), *office.glob("*.parquet")]):
        if path.name in FAULTS:
            # Whose rows they quote nobody can tell; the next run tells them again.
            path.unlink()
            continue
        rows = read_office_table(path)
        if "household_id" not in rows:
            continue  # a table of the office's own
        gone = rows["household_id"].isin(households)
        if before is not None and (known := {"known_date", "as_of_date"} & set(rows)):
            days = rows["known_date" if "known_date" in known else "as_of_date"]
            # Tables in CSV, such as the findings of `check`, hold texts; what is no day stays.
            gone |= pd.to_datetime(days, errors="coerce", format="ISO8601") < before
        removed[path.name] = int(gone.sum())
        if removed[path.name]:
            write_private_table(rows[~gone], path)
    return removed


def _delete_files(config: Config, households: set[str]) -> tuple[Path, ...]:
    """Delete cards and letters of households, under each pseudonym that they ever had."""
    office = config.output / OFFICE_ONLY
    if not households or not (office / KEY_FILE).is_file():
        return ()
    keys = read_keys(office / KEY_FILE).keys.values()
    names = {hash_id(household, key) for household in households for key in keys}
    found = [
        path
        for folder in OF_ONE_HOUSEHOLD
        for path in sorted((config.output / folder).glob("*.html"))
        if path.stem.rpartition("_")[0] in names
    ]
    for path in found:
        path.unlink()
    return tuple(found)


def _find_rounds(config: Config) -> tuple[Path, ...]:
    return tuple(
        path
        for folder in OF_ROUNDS
        for path in sorted((config.output / folder).glob("*"))
        if path.is_file() and not path.name.startswith(".")
    )
