"""Candidates: ways to learn the same risk, declared in a file, fitted on what a period knew."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from poverty_risk.declarations import Declared, read_declaration
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.model import RiskModel
from poverty_risk.panel import Panel
from poverty_risk.windows import Horizon

__all__ = ["Candidate", "Candidates", "FittedCandidate", "fit_candidate", "read_candidates"]

logger = logging.getLogger(__name__)

NOT_TUNED = ("catalog", "task", "tiers", "seed", "n_jobs")
"""Parameters of `RiskModel` that are no choice of how to learn."""


def check_parameters(names: Mapping[str, Any], place: str) -> None:
    """Names of parameters that `RiskModel` can be given here.

    Raises
    ------
    DeclarationError
        One that it does not have.
    """
    usable = sorted(set(RiskModel().get_params(deep=False)) - set(NOT_TUNED))
    faults = [
        Fault(place, f"'{name}'", f"one of {', '.join(usable)}", "Correct the name.")
        for name in names
        if name not in usable
    ]
    if faults:
        raise DeclarationError(faults)


class Candidate(Declared):
    """One way to learn: what is not said is as in the run config.

    Parameters
    ----------
    model
        Parameters of `RiskModel` that differ from the config's.
    train_cohort
        Cohort that is learned from; None: the one that is scored.
    every
        Distance of the as-of dates that are learned from, as ``"6mo"``; None: the config's.
    half_life
        Age at which a point counts half as much as one of the period itself, as ``"24mo"``; None:
        all ages count the same.
    positives
        Weight of a point with the outcome, against 1 of one without.
    horizons
        Horizons of the labels, one model each, averaged in log-odds; none: that of the task.
    graded
        Spread that labels are graded by, for trees to learn from (`grade_labels`); 0: they are not;
        None: the config's.

    Examples
    --------
    >>> from poverty_risk.candidates import Candidate
    >>> Candidate(horizons=["12mo", "6mo"], model={"logistic": 0.5}).members
    4
    """

    model: dict[str, Any] = Field(default_factory=dict)
    train_cohort: str | None = None
    every: str | None = None
    half_life: str | None = None
    positives: float = Field(default=1.0, gt=0)
    horizons: tuple[str, ...] = ()
    graded: float | None = Field(default=None, ge=0, le=10, strict=True)

    @field_validator("model")
    @classmethod
    def _has_share(cls, model: dict[str, Any]) -> dict[str, Any]:
        share = model.get("logistic", 0.0)
        if not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
            message = "a share 'logistic' from 0 to 1"
            raise ValueError(message)
        return model

    @field_validator("every", "half_life")
    @classmethod
    def _is_length(cls, text: str | None) -> str | None:
        return None if text is None else _parse_length(text)

    @field_validator("horizons")
    @classmethod
    def _are_lengths(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_parse_length(text) for text in texts)

    @property
    def members(self) -> int:
        """Fitted models that are averaged: the measure of how simple a candidate is."""
        spans = max(len(self.horizons), 1)
        share = float(self.model.get("logistic", 0.0))
        trees = int(self.model.get("n_seeds", 1)) if share < 1.0 else 0
        return spans * (trees + (1 if share > 0.0 else 0))


def _parse_length(text: str) -> str:
    try:
        return str(Horizon.parse(text))
    except DeclarationError as error:
        # The place and the value are told by the error of the whole file.
        raise ValueError(error.faults[0].expected) from None


class Candidates(Declared):
    """What `poverty-risk compare` compares, when, and by what.

    Parameters
    ----------
    objective
        Metric of an order, more is better.
    reference
        Candidate that the others are compared with.
    periods
        As-of dates tested on; the last is kept apart from the choice.
    tie
        Share of the best objective within which mean regrets tie.
    schemes
        Days on which categories changed.
    candidates
        By name.

    Examples
    --------
    >>> from poverty_risk.candidates import read_candidates
    >>> read_candidates("configs/candidates.yaml").reference
    'as_configured'
    """

    objective: str = "average_precision"
    reference: str
    periods: tuple[date, ...] = Field(min_length=2)
    tie: float = Field(default=0.01, ge=0, lt=1)
    schemes: tuple[date, ...] = ()
    candidates: dict[str, Candidate] = Field(min_length=1)


def read_candidates(path: str | Path) -> Candidates:
    """Read the candidates of a file.

    Parameters
    ----------
    path
        YAML such as ``configs/candidates.yaml``, which explains every key.

    Returns
    -------
    Candidates
        Checked names and values.

    Raises
    ------
    DeclarationError
        Unknown keys, wrong values, parameters that `RiskModel` does not have, or a reference that is
        no candidate.
    """
    declared = read_declaration(Candidates, path)
    place = Path(path).name
    for name, candidate in declared.candidates.items():
        check_parameters(candidate.model, f"{place}, candidate '{name}'")
    if declared.reference not in declared.candidates:
        known = ", ".join(declared.candidates)
        found = f"'{declared.reference}'"
        raise DeclarationError(
            Fault(f"{place}, 'reference'", found, f"one of {known}", "Correct the name.")
        )
    return declared


@dataclass(frozen=True)
class FittedCandidate:
    """A candidate as it could have been fitted in a period.

    Parameters
    ----------
    models
        One per horizon.
    rows, positives
        Points learned from, of the first horizon, and outcomes among them.
    """

    models: tuple[RiskModel, ...]
    rows: int
    positives: int

    def margin(self, features: pd.DataFrame) -> pd.Series:
        """Mean log-odds of the members: an order, not a calibrated risk."""
        margins = [model.margin(features).to_numpy() for model in self.models]
        return pd.Series(np.mean(margins, axis=0), index=features.index, name="margin")


def fit_candidate(
    panel: Panel,
    candidate: Candidate,
    period: pd.Timestamp,
    settings: Mapping[str, Any],
    *,
    dates: pd.DatetimeIndex | None = None,
    seed: int = 0,
) -> FittedCandidate:
    """Fit a candidate on the labels that were known in a period, and on nothing else.

    Parameters
    ----------
    panel
        From `build_panel`.
    candidate
        What is learned, how.
    period
        One of the panel's periods.
    settings
        Parameters of `RiskModel`; those of the candidate come before them.
    dates
        As-of dates that the candidate's ``every`` leaves; all of the panel by default.
    seed
        Of all random choices.

    Returns
    -------
    FittedCandidate
        Models that give an order.

    Raises
    ------
    FeatureError
        Nothing to learn from, or outcomes of one kind only.

    Notes
    -----
    Where the dates known in a period do not leave horizon and reporting lag between those boosted on
    and those that decide on the number of trees, that inner embargo is left out; with a single date
    all trees are boosted. The embargo to the period itself always holds: later labels are not there.
    Calibration is left out, because it does not change an order.
    """
    chosen = dict(settings) | dict(candidate.model) | {"seed": seed}
    models, counts = [], []
    for horizon in candidate.horizons or (panel.task.horizon,):
        labels = panel.rows_known(period, horizon, candidate.train_cohort, dates)
        features = panel.features.loc[labels.index]
        weight = weigh(labels, candidate, period)
        counts.append((len(labels), int(labels.sum())))
        scored = panel.cohorts.loc[labels.index, panel.task.cohort]
        model = RiskModel(panel.catalog, replace(panel.task, horizon=horizon), **chosen)
        graded = panel.grade(period, horizon, labels, candidate.graded)
        models.append(_fit(model, features, labels, scored, weight, graded))
    return FittedCandidate(tuple(models), *counts[0])


def weigh(labels: pd.Series, candidate: Candidate, period: pd.Timestamp) -> pd.Series | None:
    """Weights by age of the point and by outcome, with mean 1; None when all are the same."""
    if candidate.half_life is None and candidate.positives == 1.0:
        return None
    weight = np.where(labels.to_numpy() == 1.0, candidate.positives, 1.0)
    if candidate.half_life is not None:
        dates = pd.DatetimeIndex(labels.index.get_level_values("as_of_date"))
        span = Horizon.parse(candidate.half_life).end(pd.DatetimeIndex([period]))[0] - period
        weight = weight * 0.5 ** np.asarray((period - dates) / span)
    return pd.Series(weight / weight.mean(), index=labels.index)


def _fit(
    model: RiskModel,
    features: pd.DataFrame,
    labels: pd.Series,
    scored: pd.Series,
    weight: pd.Series | None,
    graded: pd.Series | None,
) -> RiskModel:
    refit, how = model.refit, {"sample_weight": weight, "graded": graded}
    # An order needs neither calibration nor the refits that reasons are checked on.
    model.set_params(calibration=None, n_refits=0, refit=False)
    dates = labels.index.get_level_values("as_of_date").nunique()
    if dates < 2 or model.early_stopping_rounds is None:
        model.set_params(early_stopping_rounds=None).fit(features, labels, **how)
        return model
    try:
        model.fit(features, labels, scored=scored, **how)
    except FeatureError:
        if not model.embargo:
            raise
        logger.info("No inner embargo: %d dates are too few for it.", dates)
        model.set_params(embargo=False).fit(features, labels, scored=scored, **how)
    if not refit:
        return model
    trees = round(float(np.mean(model.training_["trees"])))
    model.set_params(n_estimators=max(trees, 1), early_stopping_rounds=None)
    model.fit(features, labels, **how)
    return model
