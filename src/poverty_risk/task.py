"""What a model predicts, for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poverty_risk.declarations import parse_declaration
from poverty_risk.schema import Schema

__all__ = ["PredictionTask"]


@dataclass(frozen=True)
class PredictionTask:
    """What a model predicts, for whom; kept in the model folder.

    Parameters
    ----------
    schema
        Schema of the history that the features are computed from.
    cohort
        Cohort that is scored.
    label
        Label definition.
    horizon
        Horizon, as ``"12mo"``.
    line
        Poverty line by year that was used; None when the features need none.

    Examples
    --------
    >>> from poverty_risk import PredictionTask, load_schema
    >>> task = PredictionTask(load_schema("archive"), "at_risk", "identified", "12mo", {2024: 8000})
    >>> PredictionTask.from_dict(task.to_dict(), "manifest").line
    {2024: 8000.0}
    """

    schema: Schema
    cohort: str
    label: str
    horizon: str
    line: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        """Keep the line as a dictionary: a history's own cannot be copied, and models are cloned."""
        if self.line is not None:
            object.__setattr__(self, "line", dict(self.line))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads back."""
        return {
            "schema": self.schema.model_dump(mode="json"),
            "cohort": self.cohort,
            "label": self.label,
            "horizon": self.horizon,
            "line": None if self.line is None else {str(y): v for y, v in self.line.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], place: str) -> PredictionTask:
        """Read back what `to_dict` gave; `place` is named in errors."""
        line = content["line"]
        return cls(
            parse_declaration(Schema, content["schema"], place),
            content["cohort"],
            content["label"],
            content["horizon"],
            None if line is None else {int(year): float(value) for year, value in line.items()},
        )
