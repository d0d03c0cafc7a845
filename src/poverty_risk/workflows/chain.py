"""A chain of steps that can be killed at any point: what a month and a year of the office share.

Each step depends on the digest of the one before; what is done and unchanged is not done again
(`step_log`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from poverty_risk.config import Config
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.workflows.step_log import (
    Done,
    StepLog,
    StepRecord,
    digest_paths,
    digest_texts,
    find_named_files,
)

__all__ = ["FOLDER", "Chain", "CycleResult", "check_tracked"]

FOLDER = "cycle"
"""Folder within the output that the chains remember themselves in."""


@dataclass(frozen=True)
class CycleResult:
    """What a chain did.

    Parameters
    ----------
    steps
        Its steps in their order, as far as it came; `StepRecord.kept` where nothing was to be done.
    stopped_by
        Codes of monitoring that keep lists from being made; empty when the chain came to its end.
    """

    steps: tuple[StepRecord, ...]
    stopped_by: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0; 1 where somebody has to decide: monitoring raised an issue, or a challenger was refused."""
        figures = {step.name: step.figures for step in self.steps}
        issues = figures.get("monitor", {}).get("issues")
        refused = figures.get("promote", {}).get("outcome") == "refused"
        failed = figures.get("import", {}).get("failed", 0)
        return int(bool(issues) or refused or bool(failed))


class Chain:
    """Runs steps one after another, each on the digest of the one before."""

    def __init__(self, config: Config, name: str, on_step: Callable[[StepRecord], None]) -> None:
        self._log = StepLog(config.output / FOLDER / f"{name}.json", config.output)
        self._on_step = on_step
        content = config.model_dump(mode="json", exclude={"cycle"})
        self.last = digest_texts(
            name,
            metadata.version("poverty-risk"),
            json.dumps(content, sort_keys=True),
            digest_paths(find_named_files(content)),
        )
        self.steps: list[StepRecord] = []

    def run(self, name: str, work: Callable[[], Done], *inputs: str) -> StepRecord:
        """Do a step, unless it is done on these inputs and all that came before."""
        record = self._log.run(name, digest_texts(self.last, *inputs), work)
        self.last = record.digest()
        self.steps.append(record)
        self._on_step(record)
        return record


def check_tracked(config: Config) -> None:
    """Refuse a config without MLflow: which model is in use is written there."""
    if not config.tracking.enabled:
        remedy = "Set `tracking.enabled`: which model is in use is written there."
        raise DeclarationError(Fault("tracking", "switched off", "MLflow", remedy))
