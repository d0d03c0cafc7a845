"""Run configs: one YAML file says what is read, learned, compared and written.

``configs/default.yaml`` explains every key. Unknown keys are errors that name the nearest valid one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from poverty_risk.declarations import Declared, parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.model import DEFAULT_TIERS
from poverty_risk.windows import Horizon

__all__ = ["Config", "load_config"]


class Simulation(Declared):
    """Size and time of a simulated county."""

    households: int = Field(default=20_000, ge=50, le=1_000_000)
    start: date = date(2019, 1, 1)
    end: date = date(2025, 1, 1)


class History(Declared):
    """Where the history comes from."""

    source: Literal["simulate", "folder", "eph"] = "simulate"
    folder: Path | None = None
    schema_name: str = Field(default="archive", alias="schema")
    extra_schema: Path | None = None
    simulate: Simulation = Simulation()

    @model_validator(mode="after")
    def _folder_is_given(self) -> History:
        if self.source != "simulate" and self.folder is None:
            message = f"source '{self.source}' needs 'folder'"
            raise ValueError(message)
        return self


class Features(Declared):
    """Which features are built."""

    catalog: str = "archive"
    extra: Path | None = None


class Task(Declared):
    """What is predicted, for whom, learned from whom."""

    cohort: str
    label: str
    horizon: str = "12mo"
    train_cohort: str | None = None

    @field_validator("horizon")
    @classmethod
    def _is_horizon(cls, text: str) -> str:
        try:
            return str(Horizon.parse(text))
        except DeclarationError as error:
            raise ValueError(str(error)) from None


class Period(Declared):
    """As-of dates from `first` to `last`, both included."""

    first: date
    last: date
    every: str = "3mo"

    @field_validator("every")
    @classmethod
    def _is_step(cls, text: str) -> str:
        try:
            return str(Horizon.parse(text))
        except DeclarationError as error:
            raise ValueError(str(error)) from None

    def dates(self) -> pd.DatetimeIndex:
        """The as-of dates."""
        step = Horizon.parse(self.every)
        found, current = [], pd.DatetimeIndex([self.first])
        while current[0] <= pd.Timestamp(self.last):
            found.append(current[0])
            current = step.end(current)
        return pd.DatetimeIndex(found)


class Periods(Declared):
    """As-of dates that are learned from and tested on."""

    train: Period
    test: Period


class ModelSettings(Declared):
    """Parameters of `RiskModel`."""

    n_estimators: int = Field(default=600, ge=1, le=20_000)
    learning_rate: float = Field(default=0.03, gt=0, le=1)
    num_leaves: int = Field(default=15, ge=2, le=4096)
    max_depth: int = Field(default=8, ge=1, le=64)
    min_child_samples: int = Field(default=100, ge=1)
    reg_lambda: float = Field(default=10.0, ge=0)
    subsample: float = Field(default=0.8, gt=0, le=1)
    colsample: float = Field(default=0.5, gt=0, le=1)
    monotone: bool = True
    calibration: Literal["sigmoid", "isotonic"] | None = "sigmoid"
    later_share: float = Field(default=0.25, gt=0, lt=1)
    embargo: bool = True
    early_stopping_rounds: int | None = Field(default=50, ge=1)
    refit: bool = False
    n_seeds: int = Field(default=1, ge=1, le=50)
    tiers: dict[str, float] = Field(default_factory=lambda: dict(DEFAULT_TIERS))
    n_jobs: int = Field(default=2, ge=1)


class Baselines(Declared):
    """What the model is compared with."""

    rules: Path | Literal["shipped"] | None = "shipped"
    income_feature: str | None = None
    vep: bool = True
    logistic: bool = True
    logistic_c: float = Field(default=0.05, gt=0)


class EvaluationSettings(Declared):
    """How it is compared."""

    budgets: tuple[float, ...] = (0.01, 0.02, 0.05, 0.10)
    replicates: int = Field(default=500, ge=0, le=20_000)
    cluster: str | None = "village_id"
    truth_replicates: int = Field(default=100, ge=0, le=10_000)


class Tracking(Declared):
    """What MLflow is told."""

    enabled: bool = True
    experiment: str = "poverty-risk"
    registered_name: str = "poverty-risk"
    alias: str | None = "champion"


class Scoring(Declared):
    """The latest date that households are scored at."""

    as_of_date: date | None = None
    explained: int = Field(default=10, ge=0, le=1000)
    locale: Literal["zh", "en"] = "zh"


class Config(Declared):
    """A whole run.

    Examples
    --------
    >>> from poverty_risk.config import load_config
    >>> load_config("configs/quick.yaml").history.source
    'simulate'
    """

    seed: int = 0
    output: Path = Path("outputs")
    history: History = History()
    line: dict[int, float] | None = None
    features: Features = Features()
    tasks: dict[str, Task] = Field(min_length=1)
    periods: Periods
    model: ModelSettings = ModelSettings()
    baselines: Baselines = Baselines()
    evaluation: EvaluationSettings = EvaluationSettings()
    tracking: Tracking = Tracking()
    scoring: Scoring = Scoring()


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a run config.

    Parameters
    ----------
    path
        YAML file.
    overrides
        Values that replace the file's, by dotted key such as ``"history.folder"``.

    Returns
    -------
    Config
        The validated config.

    Raises
    ------
    DeclarationError
        Unknown keys (with section and nearest valid key) and wrong values, all in one error.
    """
    content = read_yaml(path)
    for dotted, value in (overrides or {}).items():
        *sections, key = dotted.split(".")
        section = content
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise DeclarationError(
                    Fault(dotted, f"'{name}' is no section", "a section", "Check the key.")
                )
        section[key] = value
    return parse_declaration(Config, content, Path(path).name)
