"""What the package raises: one error for all faults, each with found, expected and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "DeclarationError",
    "Fault",
    "FeatureError",
    "HistoryError",
    "LabelError",
    "ModelFolderError",
    "PovertyRiskError",
]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what was found, what was expected, what to do.

    Parameters
    ----------
    place
        Where it is wrong: table and column, file and key, argument.
    found
        What was found there. Never a value of a sensitive column.
    expected
        What would have been accepted.
    remedy
        What the reader can do now.
    """

    place: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: found {self.found}; expected {self.expected}. {self.remedy}"


class PovertyRiskError(Exception):
    """Everything that this package raises on purpose.

    Parameters
    ----------
    *faults
        The faults, or iterables of faults; at least one.

    Examples
    --------
    >>> from poverty_risk.exceptions import Fault, PovertyRiskError
    >>> print(PovertyRiskError(Fault("horizon", "'12'", "'12mo' or '365d'", "Add the unit.")))
    horizon: found '12'; expected '12mo' or '365d'. Add the unit.
    """

    def __init__(self, *faults: Fault | Iterable[Fault]) -> None:
        collected: list[Fault] = []
        for fault in faults:
            if isinstance(fault, Fault):
                collected.append(fault)
            else:
                collected.extend(fault)
        self.faults = tuple(collected)
        super().__init__(self._message())

    def _message(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        lines = [f"{len(self.faults)} problems:"]
        lines.extend(f"  {number}. {fault}" for number, fault in enumerate(self.faults, start=1))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type[PovertyRiskError], tuple[Fault, ...]]:
        # Exceptions rebuild themselves from `args` (the message); ours take faults.
        return type(self), self.faults


class DeclarationError(PovertyRiskError):
    """A config, schema, catalogue or rule file says something that cannot be meant."""


class HistoryError(PovertyRiskError):
    """A history table cannot be read as declared."""


class FeatureError(PovertyRiskError):
    """Features, labels or risks do not fit together or do not fit the model."""


class LabelError(PovertyRiskError):
    """A label cannot be given: no line for a year, no such definition, nothing followed."""


class ModelFolderError(PovertyRiskError):
    """A model folder is damaged, foreign, or of a newer format."""
