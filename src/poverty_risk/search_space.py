"""What a search for parameters may try, declared in a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from poverty_risk.candidates import check_parameters
from poverty_risk.declarations import Declared, parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.ranking import PROBABILITY_METRICS, check_metric_names

__all__ = ["Range", "SearchSpace", "check_search_space", "read_search_space"]


class Range(Declared):
    """Values that one parameter may take.

    Parameters
    ----------
    low, high
        Ends of a range of numbers, both included; whole numbers if both are.
    log
        Whether it is searched on a scale of logarithms.
    values
        Values to choose from, in place of a range.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    values: tuple[bool | int | float | str | None, ...] = ()

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Range:
        whole = self.low is not None and self.high is not None
        if whole == bool(self.values) or (self.low is None) != (self.high is None):
            message = "either 'low' and 'high', or 'values'"
            raise ValueError(message)
        if self.low is not None and self.high is not None and not self.low < self.high:
            message = "'low' under 'high'"
            raise ValueError(message)
        if self.log and not (self.low or 0) > 0:
            message = "'low' above 0 for a scale of logarithms"
            raise ValueError(message)
        return self

    @property
    def ends(self) -> tuple[int | float, int | float]:
        """Both ends of a range of numbers."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


class SearchSpace(Declared):
    """What is searched, for what, how long.

    Parameters
    ----------
    objective
        Metric of an order, more is better: ``average_precision``, ``auc``, ``recall_at_0.02``, ...
    trials
        Trials in all, those of an earlier, interrupted search included.
    startup
        Trials drawn at random before the search learns from them.
    warm_up
        Periods of each trial that are always tested before it can be pruned.
    prune
        Whether trials worse than the median at the same period are given up.
    periods
        As-of dates tested on; the last is kept apart from the search.
    model
        Range of each parameter of `RiskModel`.

    Examples
    --------
    >>> from poverty_risk.search_space import read_search_space
    >>> read_search_space("configs/tuning.yaml").objective
    'average_precision'
    """

    objective: str = "average_precision"
    trials: int = Field(default=40, ge=1, le=10_000)
    startup: int = Field(default=10, ge=1)
    warm_up: int = Field(default=1, ge=0)
    prune: bool = True
    periods: tuple[date, ...] = Field(min_length=2)
    model: dict[str, Range] = Field(min_length=1)


def read_search_space(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SearchSpace:
    """Read what is searched.

    Parameters
    ----------
    path
        YAML such as ``configs/tuning.yaml``, which explains every key.
    overrides
        Values that replace the file's, by key.

    Returns
    -------
    SearchSpace
        Checked names and values.

    Raises
    ------
    DeclarationError
        Unknown keys, ranges that are none, parameters that `RiskModel` does not have, or a metric
        that an order does not have.
    """
    content = read_yaml(path) | dict(overrides or {})
    space = parse_declaration(SearchSpace, content, Path(path).name)
    check_search_space(space, Path(path).name)
    return space


def check_search_space(space: SearchSpace, place: str) -> None:
    """Parameters and objective exist; a `DeclarationError` names those that do not."""
    check_parameters(space.model, f"{place}, 'model'")
    if set(check_metric_names([space.objective])) & set(PROBABILITY_METRICS):
        found, remedy = f"'{space.objective}'", "Calibration comes after the choice."
        raise DeclarationError(
            Fault(f"{place}, 'objective'", found, "a metric of an order", remedy)
        )
