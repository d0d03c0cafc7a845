"""Aliases that one decision at a time may move.

MLflow has no compare-and-set for aliases, but it refuses to change a parameter once it is written. So
a decision first writes its run into the next free parameter ``promotion.<name>.<alias>.<number>`` of
the champion's own run: of two at once one is refused there, on any store. Whoever holds the claim
then looks whether the alias is still where the decision found it, and moves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = ["LONGEST_CLAIM", "claim_alias", "read_alias", "read_if_there"]

LONGEST_CLAIM = 600.0
"""Seconds after which a claim whose run has not ended is taken for that of a program that died."""


def read_alias(client: Any, name: str, alias: str) -> str | None:
    """Version that has an alias of a registered model; None when nobody has it."""
    found = client.get_registered_model(name).aliases.get(alias)
    return None if found is None else str(found)


def claim_alias(
    client: Any, name: str, alias: str, expected: str | None, run_id: str
) -> str | None:
    """Take the next free claim on moving an alias.

    Parameters
    ----------
    client
        MLflow client of the store.
    name, alias
        Registered model and its alias.
    expected
        Version that the alias is expected at; None: that nobody has it.
    run_id
        Run of the decision that wants to move it; it holds the claim until it ends.

    Returns
    -------
    str or None
        The run that holds the claim, when it is another one.

    Raises
    ------
    PovertyRiskError
        No version of the model has a run that could hold claims.
    """
    anchor = _find_anchor(client, name, expected)
    taken = client.get_run(anchor).data.params
    number = 1
    while (holder := taken.get(_name(name, alias, number))) is not None:
        if _is_at_work(client, holder):
            return str(holder)
        number += 1
    try:
        client.log_param(anchor, _name(name, alias, number), run_id)
    except Exception:
        # What a store says about a parameter that is taken differs; what counts is who has it.
        holder = client.get_run(anchor).data.params.get(_name(name, alias, number))
        if holder is None:
            raise
        return None if holder == run_id else str(holder)
    return None


def _name(name: str, alias: str, number: int) -> str:
    return f"promotion.{name}.{alias}.{number}"


def _find_anchor(client: Any, name: str, expected: str | None) -> str:
    """The run whose parameters hold the claims: the champion's own, otherwise the earliest kept."""
    found = client.search_model_versions(f"name = '{name}'")
    own_first = sorted(found, key=lambda v: (str(v.version) != expected, int(v.version)))
    for version in own_first:
        info = _read_run(client, version.run_id)
        if info is not None and info.lifecycle_stage == "active":
            return str(version.run_id)
    raise PovertyRiskError(
        Fault(f"'{name}'", "no version with its training run", "a run that is kept", "Restore it.")
    )


def _is_at_work(client: Any, run_id: str) -> bool:
    info = _read_run(client, run_id)
    if info is None or info.status != "RUNNING":
        return False
    return bool(time.time() - info.start_time / 1000.0 < LONGEST_CLAIM)


def _read_run(client: Any, run_id: str | None) -> Any:
    """What MLflow knows about a run; None when it was deleted for good."""
    return read_if_there(lambda: client.get_run(run_id).info) if run_id else None


def read_if_there(read: Callable[[], Any]) -> Any:
    """What MLflow answers; None where it has no such thing."""
    try:
        return read()
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
