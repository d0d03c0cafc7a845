"""Tables of the models in use, each built once per process and gone with its model."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Protocol

from poverty_risk.shapley.contributions import TreeContributions

__all__ = ["Boosters", "is_prepared", "prepare", "tables_of", "tables_of_each"]


class Boosters(Protocol):
    """What tables are built from: boosters whose margins are averaged, as texts."""

    @property
    def texts(self) -> list[str]:
        """Text of each booster."""
        ...


_built: weakref.WeakKeyDictionary[Boosters, tuple[TreeContributions, ...]] = (
    weakref.WeakKeyDictionary()
)
_prepared: weakref.WeakSet[Boosters] = weakref.WeakSet()
_building = threading.Lock()


def tables_of(boosters: Boosters) -> TreeContributions:
    """Contributions to the average of all boosters."""
    with _building:
        if boosters not in _built:
            _built[boosters] = (TreeContributions.from_texts(boosters.texts),)
        return _built[boosters][0]


def tables_of_each(boosters: Boosters, groups: Sequence[int]) -> tuple[TreeContributions, ...]:
    """Contributions to each booster alone, summed by group; `groups` are the same at every call."""
    with _building:
        if boosters not in _built:
            _built[boosters] = tuple(
                TreeContributions.from_texts([text], groups) for text in boosters.texts
            )
        return _built[boosters]


def prepare(boosters: Boosters) -> None:
    """Build the tables, load the engine, and remember that both stand ready."""
    tables_of(boosters).warm_up()
    _prepared.add(boosters)


def is_prepared(boosters: Boosters) -> bool:
    """Whether `prepare` was called."""
    return boosters in _prepared
