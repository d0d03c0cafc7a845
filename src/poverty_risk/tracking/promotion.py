"""Promotion in MLflow: decision records, and an alias that only moves from where it was expected."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, PovertyRiskError
from poverty_risk.privacy import mask_numbers
from poverty_risk.promotion import Decision
from poverty_risk.tracking.alias import LONGEST_CLAIM, claim_alias, read_alias
from poverty_risk.tracking.connection import (
    check_writable,
    find_experiment,
    open_store,
    resolve_uri,
    sqlite_file,
)

__all__ = [
    "RecordedDecision",
    "record_decision",
    "roll_back",
]

LONGEST_TEXT = 1_000
REPLACED, DECISION = "promotion.replaced", "promotion.decision"
"""Tags of a registered version: the champion that it replaced, and the run of the decision."""


@dataclass(frozen=True)
class RecordedDecision:
    """Where a decision was recorded, and what it moved.

    Parameters
    ----------
    run_id
        MLflow run with the record.
    outcome
        ``promoted``, ``refused`` or ``rolled_back``.
    champion
        Version that has the alias now; None when there is none.
    former
        Version that had it before.
    tracking_uri
        The store.
    """

    run_id: str
    outcome: str
    champion: str | None
    former: str | None
    tracking_uri: str


def record_decision(
    decision: Decision,
    name: str = "poverty-risk",
    *,
    who: str,
    why: str,
    alias: str = "champion",
    experiment: str = "poverty-risk",
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> RecordedDecision:
    """Write a decision down in MLflow and, if it was accepted, move the alias.

    Parameters
    ----------
    decision
        From `decide_promotion`; its versions are those of the registered model.
    name
        Registered model.
    who, why
        Who promotes, and for what reason; long numbers in them are masked.
    alias
        The champion's alias.
    experiment
        Experiment of the record.
    tracking_uri, store_folder
        As in `log_training`.

    Returns
    -------
    RecordedDecision
        The record; a refused challenger leaves the alias where it is.

    Raises
    ------
    DeclarationError
        Nobody named, or no reason.
    PovertyRiskError
        The alias is no longer where the decision found it, or another promotion is moving it: that
        one won, and the record of this one says so. Or MLflow refuses.

    Notes
    -----
    The record is a run with the decision as JSON, its conditions and the groups as CSV, figures as
    metrics: rates of groups of ten outcomes or more, and no row of a household. Artifacts are plain
    text. Moving an alias by hand in MLflow between the last look and the move is not noticed.

    Examples
    --------
    >>> from poverty_risk.promotion import Decision
    >>> from poverty_risk.tracking.promotion import record_decision
    >>> decision = Decision((), ("2", "b"), ("1", "a"), ("2023-01-01", "2023-01-01"), 0.02)
    >>> record_decision(decision, who="", why="better")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.DeclarationError: who: found nothing; expected who promotes. ...
    """
    version = decision.challenger[0]
    former = None if decision.champion is None else decision.champion[0]
    tags = {
        "promotion.kind": "promotion",
        "promotion.outcome": "accepted" if decision.accepted else "refused",
        "promotion.failed": ", ".join(decision.failed),
        "promotion.challenger": version,
        "promotion.champion": former or "",
        "challenger.model_id": decision.challenger[1],
    }
    place = _Place(name, alias, experiment, resolve_uri(tracking_uri, store_folder))
    with _recording(place, f"promotion of version {version}", tags, who, why) as record:
        _log_decision(record, decision)
        if not decision.accepted:
            return record.close("refused", former, former)
        record.move(former, version, {REPLACED: former or "", DECISION: record.run_id})
        return record.close("promoted", version, former)


def roll_back(
    name: str = "poverty-risk",
    *,
    who: str,
    why: str,
    to: str | None = None,
    alias: str = "champion",
    experiment: str = "poverty-risk",
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> RecordedDecision:
    """Give the alias back to the champion before, and write down who did and why.

    Parameters
    ----------
    name
        Registered model.
    who, why
        Who rolls back, and for what reason; long numbers in them are masked.
    to
        Version that gets the alias; by default the one that the champion replaced.
    alias, experiment, tracking_uri, store_folder
        As in `record_decision`.

    Returns
    -------
    RecordedDecision
        The record.

    Raises
    ------
    DeclarationError
        Nobody named, or no reason.
    PovertyRiskError
        There is no champion, it replaced nothing, or another promotion is moving the alias.

    Examples
    --------
    >>> from poverty_risk.tracking.promotion import roll_back
    >>> roll_back(who="data desk", why=" ")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.DeclarationError: why: found nothing; expected a reason. ...
    """
    place = _Place(name, alias, experiment, resolve_uri(tracking_uri, store_folder))
    tags = {"promotion.kind": "roll_back", "promotion.outcome": "accepted"}
    with _recording(place, "roll back", tags, who, why) as record:
        current = read_alias(record.client, name, alias)
        former = to or _read_former(record.client, name, current)
        if current is None or not former or former == current:
            found = "no champion" if current is None else f"version {current}, nothing before it"
            remedy = "Name the version to go back to."
            raise PovertyRiskError(Fault(place.words, found, "a former champion", remedy))
        record.tag({"promotion.champion": current, "promotion.restored": former})
        record.client.log_dict(
            record.run_id,
            {"from": current, "to": former, "who": record.who, "why": record.why},
            "decision.json",
        )
        # The restored version keeps what it once replaced, so that one can go back further.
        record.move(current, former, {"promotion.restored_by": record.run_id})
        return record.close("rolled_back", former, current)


@dataclass(frozen=True)
class _Place:
    """Which alias of which model in which store."""

    name: str
    alias: str
    experiment: str
    uri: str

    @property
    def words(self) -> str:
        return f"'{self.name}@{self.alias}'"


@dataclass(frozen=True)
class _Record:
    """The run of one decision while it is written."""

    client: Any
    place: _Place
    run_id: str
    who: str
    why: str
    overdue: Callable[[], bool]

    def tag(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    def move(self, expected: str | None, version: str, tags: Mapping[str, str]) -> None:
        """Move the alias from the expected version, or tell that somebody else did."""
        name, alias = self.place.name, self.place.alias
        holder = claim_alias(self.client, name, alias, expected, self.run_id)
        current = read_alias(self.client, name, alias)
        found = None
        if holder is not None:
            found = f"another promotion at work (run {holder})"
        elif current != expected:
            found = f"{_say(current)} as champion now"
        elif self.overdue():
            found = "so slow a store that others take this promotion for dead"
        if found is not None:
            self.tag({"promotion.outcome": "overtaken"})
            remedy = "Look at its record, compare with the champion of now, and decide again."
            raise PovertyRiskError(Fault(self.place.words, found, _say(expected), remedy))
        for key, value in tags.items():
            self.client.set_model_version_tag(name, version, key, value)
        self.client.set_registered_model_alias(name, alias, version)

    def close(self, outcome: str, champion: str | None, former: str | None) -> RecordedDecision:
        moved = outcome != "refused"
        self.tag({"promotion.outcome": outcome, "promotion.alias_moved": str(moved).lower()})
        self.client.set_terminated(self.run_id)
        return RecordedDecision(self.run_id, outcome, champion, former, self.place.uri)


def _say(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


@contextlib.contextmanager
def _recording(
    place: _Place, title: str, tags: Mapping[str, str], who: str, why: str
) -> Iterator[_Record]:
    """A run for the record of a decision; marked as failed when the decision does not come off."""
    who, why = (mask_numbers(text.strip())[:LONGEST_TEXT] for text in (who, why))
    faults = [
        Fault(key, "nothing", expected, "Say it: the record is for those who ask later.")
        for key, text, expected in (("who", who, "who promotes"), ("why", why, "a reason"))
        if not text
    ]
    if faults:
        raise DeclarationError(faults)
    if (database := sqlite_file(place.uri)) is not None:
        check_writable(database, place.words)
    with open_store(place.uri, place.words, PovertyRiskError) as mlflow:
        client = mlflow.MlflowClient()
        named = {"promotion.who": who, "promotion.why": why, "promotion.model": place.name}
        run = client.create_run(
            find_experiment(client, place.experiment, place.uri),
            tags={**tags, **named, "promotion.alias": place.alias},
            run_name=f"{place.name}: {title}",
        )
        began = time.monotonic()
        record = _Record(
            client=client,
            place=place,
            run_id=str(run.info.run_id),
            who=who,
            why=why,
            # Later nobody respects its claim any more.
            overdue=lambda: time.monotonic() - began > LONGEST_CLAIM / 2,
        )
        try:
            yield record
        except BaseException:
            # A store that is gone cannot be told; what went wrong first is what the caller must see.
            with contextlib.suppress(Exception):
                client.set_terminated(record.run_id, "FAILED")
            raise


def _read_former(client: Any, name: str, version: str | None) -> str | None:
    if version is None:
        return None
    return client.get_model_version(name, version).tags.get(REPLACED) or None


def _log_decision(record: _Record, decision: Decision) -> None:
    client, run_id = record.client, record.run_id
    content = {**decision.to_dict(), "who": record.who, "why": record.why}
    client.log_dict(run_id, content, "decision.json")
    client.log_text(run_id, decision.to_table().to_csv(), "tables/conditions.csv")
    if decision.groups is not None:
        client.log_text(run_id, _tell_groups(decision).to_csv(), "tables/groups.csv")
    for item in content["conditions"]:
        for figure, value in item["figures"].items():
            if value is not None:
                client.log_metric(run_id, f"{item['name']}.{figure}", value)


def _tell_groups(decision: Decision) -> pd.DataFrame:
    """Rates by group, without the counts that small numbers of outcomes could be worked out from."""
    assert decision.groups is not None
    shares = decision.groups.groups[["population_share", "pooled"]]
    return decision.groups.measures.join(shares, on=["grouping", "group"])
