"""What a promotion compares, and what it decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from poverty_risk.fairness import GroupEvaluation

__all__ = ["Candidate", "Condition", "Decision", "Outcome"]

Outcome = Literal["passed", "failed", "not_applicable"]


@dataclass(frozen=True)
class Candidate:
    """A model as a promotion sees it.

    Parameters
    ----------
    version
        Registered version, or another name.
    model_id
        The model.
    risk
        Risk of each point of the period compared on.
    reasons
        Themes of at most four reasons that raise the risk, a tuple per point, for the points whose
        reasons are compared; None: unknown.
    learned_to
        First day of which nothing was learned: the last training date, plus horizon and reporting
        lag; None: unknown.
    """

    version: str
    model_id: str
    risk: pd.Series = field(repr=False)
    reasons: pd.Series | None = field(default=None, repr=False)
    learned_to: pd.Timestamp | None = None


@dataclass(frozen=True)
class Condition:
    """One condition: what was found, what is required, and what follows.

    Parameters
    ----------
    name
        recall, calibration_slope, calibration_ratio, groups, reasons, leakage or held_out.
    found, required
        In words.
    outcome
        ``passed``, ``failed`` or ``not_applicable`` (no champion to compare with, no group of ten
        outcomes). What was not looked at has failed.
    figures
        The numbers behind it.
    """

    name: str
    found: str
    required: str
    outcome: Outcome
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Whether the challenger replaces the champion, and why.

    Parameters
    ----------
    conditions
        Every condition that was asked for.
    challenger, champion
        Version and id of both; no champion for the first promotion.
    period
        First and last as-of date compared on.
    budget
        Share of households that can be visited.
    groups
        Both models by group; None when no groups were given.
    """

    conditions: tuple[Condition, ...]
    challenger: tuple[str, str]
    champion: tuple[str, str] | None
    period: tuple[str, str]
    budget: float
    groups: GroupEvaluation | None = field(default=None, repr=False)

    @property
    def accepted(self) -> bool:
        """Whether no condition has failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the conditions that have failed."""
        return tuple(item.name for item in self.conditions if item.outcome == "failed")

    def to_table(self) -> pd.DataFrame:
        """One row per condition: found, required, outcome."""
        rows = [(item.name, item.found, item.required, item.outcome) for item in self.conditions]
        columns = ["condition", "found", "required", "outcome"]
        return pd.DataFrame(rows, columns=columns).set_index("condition")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record: figures about groups and no household."""
        named = [self.challenger, self.champion or (None, None)]
        return {
            "accepted": self.accepted,
            "challenger": dict(zip(("version", "model_id"), named[0], strict=True)),
            "champion": dict(zip(("version", "model_id"), named[1], strict=True)),
            "period": dict(zip(("first", "last"), self.period, strict=True)),
            "budget": self.budget,
            "conditions": [
                {
                    "name": item.name,
                    "found": item.found,
                    "required": item.required,
                    "outcome": item.outcome,
                    "figures": {k: _plain(v) for k, v in item.figures.items()},
                }
                for item in self.conditions
            ],
            "level_of_groups": None if self.groups is None else self.groups.level,
            "groups_not_told": {} if self.groups is None else dict(self.groups.hidden),
        }


def _plain(value: float) -> float | None:
    # JSON has neither NaN nor infinity.
    return float(value) if np.isfinite(value) else None
