"""Run configs: one YAML file says what is read, learned, compared and written.

``configs/default.yaml`` explains every key. Unknown keys are errors that name the nearest valid one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from poverty_risk.declarations import Declared, parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.helped import Guard
from poverty_risk.model import DEFAULT_TIERS
from poverty_risk.monitoring import MonitoringSettings
from poverty_risk.promotion import PromotionSettings
from poverty_risk.visits import DEADLINES
from poverty_risk.windows import Horizon

__all__ = ["Config", "load_config"]

Share = Annotated[float, Field(gt=0, le=1)]


def _parse_horizon(text: str) -> str:
    try:
        return str(Horizon.parse(text))
    except DeclarationError as error:
        # The place and the value are told by the error of the whole config.
        raise ValueError(error.faults[0].expected) from None


class Simulation(Declared):
    """Size and time of a simulated county."""

    households: int = Field(default=20_000, ge=50, le=1_000_000)
    start: date = date(2019, 1, 1)
    end: date = date(2025, 1, 1)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Simulation:
        if self.end <= self.start:
            message = "'end' after 'start'"
            raise ValueError(message)
        return self


class History(Declared):
    """Where the history comes from."""

    source: Literal["simulate", "folder", "eph"] = "simulate"
    folder: Path | None = None
    schema_name: str = Field(default="archive", alias="schema")
    extra_schema: Path | None = None
    observed_to: date | None = None
    simulate: Simulation = Simulation()

    @model_validator(mode="after")
    def _folder_is_given(self) -> History:
        if self.source != "simulate" and self.folder is None:
            message = f"a 'folder' for source '{self.source}'"
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
    help_guard: Guard = "none"
    graded: float = Field(default=0.0, ge=0, le=10, strict=True)

    @field_validator("horizon")
    @classmethod
    def _is_horizon(cls, text: str) -> str:
        return _parse_horizon(text)


class Period(Declared):
    """As-of dates from `first` to `last`, both included."""

    first: date
    last: date
    every: str = "3mo"

    @field_validator("every")
    @classmethod
    def _is_step(cls, text: str) -> str:
        return _parse_horizon(text)

    @model_validator(mode="after")
    def _is_in_order(self) -> Period:
        if self.last < self.first:
            message = "'last' not before 'first'"
            raise ValueError(message)
        return self

    def dates(self) -> pd.DatetimeIndex:
        """The as-of dates."""
        step, first = Horizon.parse(self.every), pd.DatetimeIndex([self.first])
        # Counted from the first date: from month end to month end they would wander.
        later = (Horizon(step.length * k, step.unit).end(first)[0] for k in itertools.count(1))
        last = pd.Timestamp(self.last)
        return pd.DatetimeIndex(
            [first[0], *itertools.takewhile(lambda current: current <= last, later)]
        )

    def moved(self, years: int) -> Period:
        """The same dates so many years later."""
        step = pd.DateOffset(years=years)
        ends = {n: (pd.Timestamp(getattr(self, n)) + step).date() for n in ("first", "last")}
        return self.model_copy(update=ends)


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
    logistic: Annotated[float, Field(ge=0, le=1)] = 0.0
    logistic_c: float = Field(default=0.005, gt=0)
    calibration: Literal["sigmoid", "isotonic"] | None = "sigmoid"
    later_share: float = Field(default=0.25, gt=0, lt=1)
    embargo: bool = True
    early_stopping_rounds: int | None = Field(default=50, ge=1)
    refit: bool = False
    n_folds: int = Field(default=5, ge=2, le=50)
    n_seeds: int = Field(default=1, ge=1, le=50)
    n_refits: int = Field(default=0, ge=0, le=50)
    tiers: dict[str, Share] = Field(default_factory=lambda: dict(DEFAULT_TIERS), min_length=1)
    n_jobs: int = Field(default=2, ge=1)

    @field_validator("tiers")
    @classmethod
    def _reach_further_down(cls, tiers: dict[str, float]) -> dict[str, float]:
        shares = [tiers[name] for name in DEFAULT_TIERS if name in tiers]
        grow = all(narrower < wider for narrower, wider in itertools.pairwise(shares))
        if len(shares) < len(tiers) or not grow:
            message = f"shares of {', '.join(DEFAULT_TIERS)}, each larger than the one before"
            raise ValueError(message)
        return tiers


class Baselines(Declared):
    """What the model is compared with."""

    rules: Path | Literal["shipped"] | None = "shipped"
    income_feature: str | None = None
    vep: bool = True
    logistic: bool = True
    logistic_c: float = Field(default=0.05, gt=0)


class EvaluationSettings(Declared):
    """How it is compared."""

    budgets: tuple[Share, ...] = (0.01, 0.02, 0.05, 0.10)
    replicates: int = Field(default=500, ge=0, le=20_000)
    cluster: str | None = "village_id"
    truth_replicates: int = Field(default=100, ge=0, le=10_000)

    @field_validator("budgets")
    @classmethod
    def _is_a_budget(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if not budgets:
            message = "one share of households or more"
            raise ValueError(message)
        return budgets


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


class VisitSettings(Declared):
    """Whom to visit: see `poverty_risk.visits.build_visit_list`."""

    share: Share | None = 0.02
    capacity: int | dict[str, int | dict[str, int]] | None = None
    minimum: dict[str, int | dict[str, int]] | None = None
    cool_down: int = Field(default=0, ge=0, le=3650)
    random_share: float = Field(default=0.05, ge=0, le=0.5)
    reserve: int = Field(default=0, ge=0)
    first: tuple[Literal["red", "orange", "yellow"], ...] = ("red",)
    deadlines: dict[str, Annotated[int, Field(ge=0, le=3650)]] = Field(
        default_factory=lambda: dict(DEADLINES)
    )
    visit_feature: str | None = None
    policies: Path | Literal["shipped"] = "shipped"
    previous: str | None = None

    @field_validator("capacity", "minimum", mode="before")
    @classmethod
    def _names_are_text(cls, quotas: Any) -> Any:
        # YAML reads a code such as 610102 as a number.
        if not isinstance(quotas, Mapping):
            return quotas
        return {
            str(level): {str(group): n for group, n in v.items()} if isinstance(v, Mapping) else v
            for level, v in quotas.items()
        }

    @field_validator("previous")
    @classmethod
    def _is_length(cls, text: str | None) -> str | None:
        return None if text is None else _parse_horizon(text)

    @model_validator(mode="after")
    def _has_one_capacity(self) -> VisitSettings:
        if (self.share is None) == (self.capacity is None):
            message = "either 'share' or 'capacity', the other null"
            raise ValueError(message)
        return self

    def capacity_for(self, households: int) -> Any:
        """The capacity, for so many households with a risk."""
        return self.capacity if self.share is None else max(round(self.share * households), 1)

    def previous_date(self, as_of: pd.Timestamp) -> pd.Timestamp | None:
        """As-of date of the round before; None when nothing is told of it."""
        if self.previous is None:
            return None
        step = Horizon.parse(self.previous)
        if step.unit == "mo":
            return as_of - pd.DateOffset(months=step.length)
        return as_of - pd.Timedelta(days=step.length)


class Cycle(Declared):
    """The chain of a month and of a year: see `poverty_risk.workflows.run_month`."""

    sources: tuple[Path, ...] | None = None
    store: Path = Path("data/interim/store")
    stop_at: tuple[Annotated[str, Field(pattern=r"^M\d{3}$")], ...] = ("M001", "M006", "M008")
    move_periods: bool = True


class Config(Declared):
    """A whole run.

    Examples
    --------
    >>> from poverty_risk.config import load_config
    >>> load_config("configs/quick.yaml").history.source
    'simulate'
    """

    seed: int = Field(default=0, ge=0)
    output: Path = Path("outputs")
    history: History = History()
    line: dict[int, Annotated[float, Field(gt=0)]] | None = None
    features: Features = Features()
    tasks: dict[str, Task] = Field(min_length=1)
    periods: Periods
    model: ModelSettings = ModelSettings()
    promotion: PromotionSettings = PromotionSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    baselines: Baselines = Baselines()
    evaluation: EvaluationSettings = EvaluationSettings()
    tracking: Tracking = Tracking()
    scoring: Scoring = Scoring()
    visits: VisitSettings = VisitSettings()
    cycle: Cycle = Cycle()

    @property
    def mlflow_folder(self) -> Path:
        """Where the MLflow store is, unless the environment names another."""
        return self.output / "mlflow"

    @model_validator(mode="after")
    def _has_a_place_for_imports(self) -> Config:
        if self.cycle.sources and self.history.source != "folder":
            message = "history.source 'folder', which `cycle.sources` are imported into"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _tells_outcomes(self) -> Config:
        graded = [name for name, task in self.tasks.items() if task.graded]
        if graded and self.model.calibration is None:
            named = ", ".join(f"'{name}'" for name in graded)
            message = f"a 'model.calibration' (sigmoid, isotonic), or `graded: 0` of task {named}"
            raise ValueError(message)
        return self


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
            inner = {} if section.get(name) is None else section[name]
            if not isinstance(inner, dict):
                raise DeclarationError(
                    Fault(dotted, f"'{name}' is no section", "a section", "Check the key.")
                )
            # A copy: YAML lets two sections be the same one.
            section[name] = inner = dict(inner)
            section = inner
        section[key] = value
    return parse_declaration(Config, content, Path(path).name)
