"""Codes and words of the checks, from ``catalog.yaml``."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from pydantic import Field, model_validator

from poverty_risk.declarations import Declared, Words, read_declaration

__all__ = ["MonitoringCatalog", "load_monitoring_catalog"]


class Check(Declared):
    """One check.

    Parameters
    ----------
    name
        What is checked.
    meaning
        What is compared with what.
    remedy
        What to do when it raises an issue or a tip.
    is_cause
        Whether its issues explain those of other checks, which then are told as tips.
    reasons
        Sentences that say why it came out as it did.
    """

    name: Words
    meaning: Words
    remedy: Words
    is_cause: bool = False
    reasons: dict[str, Words] = Field(min_length=1)


class MonitoringCatalog(Declared):
    """All checks, by their permanent codes, with the words of the report.

    Parameters
    ----------
    outcomes
        Words of the five outcomes.
    reasons
        Sentences that several checks use.
    texts
        Words of the report.
    columns
        Titles of columns of the tables.
    statuses
        Words of what became of a feature, a feed or a place.
    checks
        The checks by code.
    """

    outcomes: dict[str, Words]
    reasons: dict[str, Words]
    texts: dict[str, Words]
    columns: dict[str, Words]
    statuses: dict[str, Words]
    checks: dict[str, Check]

    @model_validator(mode="after")
    def _codes_are_codes(self) -> MonitoringCatalog:
        odd = [code for code in self.checks if not (code[0] == "M" and code[1:].isdigit())]
        if odd or list(self.checks) != sorted(self.checks):
            message = "codes such as M001, in order"
            raise ValueError(message)
        return self

    def reason(self, code: str, reason: str) -> Words:
        """A sentence of a check, or one that several checks use."""
        own = self.checks[code].reasons
        return own[reason] if reason in own else self.reasons[reason]


@functools.cache
def load_monitoring_catalog() -> MonitoringCatalog:
    """The shipped codes and words.

    Returns
    -------
    MonitoringCatalog
        The catalogue.

    Examples
    --------
    >>> from poverty_risk.monitoring import load_monitoring_catalog
    >>> load_monitoring_catalog().checks["M006"].name["en"]
    'feeds that stopped'
    """
    path = Path(str(resources.files("poverty_risk") / "monitoring" / "catalog.yaml"))
    return read_declaration(MonitoringCatalog, path)
