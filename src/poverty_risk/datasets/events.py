"""What happens in a simulated county, noted as it happens."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from poverty_risk.datasets.population import (
    MONTHS,
    NO_STAGE,
    PRESENT,
    ROLLING,
    Array,
    State,
    labour_capacity,
)

__all__ = [
    "EVENT_COLUMNS",
    "EventLog",
    "calendar",
    "describe_persons",
    "monthly",
    "name_new_heads",
    "note_persons",
]

_PERSON = {
    "education": np.int8,
    "in_school": np.bool_,
    "labour": np.int64,
    "chronic": np.bool_,
    "severe": np.bool_,
    "disability": np.int8,
    "head": np.bool_,
    "status": np.int8,
}
_ACCOUNT = {"size": np.int64} | dict.fromkeys(ROLLING, np.float64)
_HOUSE = {"grade": np.int8, "water": np.bool_}

EVENT_COLUMNS: dict[str, dict[str, Any]] = {
    "account": _ACCOUNT,
    "bill": {"care": "U10", "severe": np.bool_, "total": np.float64, "own": np.float64},
    "check": _HOUSE,
    "cleared": {},
    "dibao": {"amount": np.float64},
    "dibao_end": {},
    "dropout": {},
    "help": {"amount": np.float64, "medical": np.float64},
    "household_end": {"status": "U9"},
    "identified": {"category": "U8", "reason": "U16"},
    "inspected": _HOUSE,
    "insured": {"uninsured": np.int8},
    "job_loss": {},
    "loan": {"balance": np.float64, "overdue": np.int64, "since": np.int64},
    "person": _PERSON,
    "relocation": {"has_job": np.bool_},
    "rolling_account": _ACCOUNT,
    "shock": {"kind": "U16", "loss": np.float64},
    "term": {"stage": np.int8, "cost": np.float64, "aid": np.float64},
    "visit": {"purpose": "U8", "found": np.bool_},
    "work": {
        "worked": np.bool_,
        "place": np.int8,
        "wage": np.float64,
        "public_post": np.bool_,
    },
    "yearly_person": _PERSON,
}
"""What is noted of each kind of event, beside the month and who it happened to."""


class EventLog:
    """What happened, by kind: columns with the month and the positions of who it happened to."""

    def __init__(self) -> None:
        self.events: dict[str, list[dict[str, Array]]] = defaultdict(list)

    def add(self, event_kind: str, month: int, who: Array, /, **columns: Any) -> None:
        """Note that something happened to persons or households in a month."""
        assert columns.keys() == EVENT_COLUMNS[event_kind].keys()
        if len(who):
            size = len(who)
            values = {name: np.broadcast_to(value, size) for name, value in columns.items()}
            self.events[event_kind].append({"month": np.full(size, month), "who": who, **values})

    def collect(self, kind: str) -> dict[str, Array]:
        """All events of a kind, months in order; columns without rows when there were none."""
        parts = self.events.get(kind, [])
        if not parts:
            columns = {"month": np.int64, "who": np.int64} | EVENT_COLUMNS[kind]
            return {name: np.zeros(0, dtype=kind) for name, kind in columns.items()}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def monthly(yearly: Any) -> Any:
    """A yearly hazard or amount by month."""
    return yearly / MONTHS


def calendar(month: int) -> tuple[int, int]:
    """Year and month of the year (1 to 12)."""
    return month // MONTHS, month % MONTHS + 1


def describe_persons(state: State, who: Array, age: Array) -> dict[str, Array]:
    """What an archive would hold of these persons now."""
    p = state.persons
    return {
        "education": p["education"][who],
        "in_school": p["stage"][who] > NO_STAGE,
        "labour": labour_capacity(state, age, who),
        "chronic": p["chronic"][who],
        "severe": p["severe"][who] > 0,
        "disability": p["disability"][who],
        "head": p["head"][who],
        "status": p["status"][who],
    }


def note_persons(state: State, who: Array, age: Array, log: EventLog | None) -> None:
    """Report what changed in persons, as they are now."""
    if log is not None and len(who):
        log.add("person", state.month, who, **describe_persons(state, who, age))


def name_new_heads(state: State, gone: Array) -> None:
    """The first member present follows a head who died."""
    p = state.persons
    lost = np.flatnonzero(gone & p["head"])
    for person in lost:
        household = p["household"][person]
        start = state.first[household]
        stop = np.searchsorted(p["household"], household, side="right")
        members = np.arange(start, stop)
        there = members[p["status"][members] == PRESENT]
        p["head"][person] = False
        if len(there):
            p["head"][there[0]] = True
