"""Conditions of a promotion, as a run config declares them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from poverty_risk.declarations import Declared
from poverty_risk.fairness import GroupLimits

__all__ = ["CalibrationCondition", "PromotionSettings", "RecallCondition"]

Share = Annotated[float, Field(ge=0, le=1)]


class RecallCondition(Declared):
    """What the challenger must reach at the visit budget, compared with the champion.

    Parameters
    ----------
    smallest_gain
        Least difference of recall, challenger minus champion; negative: so much may be lost.
    smallest_share_better
        Least share of paired resamples in which the challenger reaches more; ties count half.
    """

    smallest_gain: Annotated[float, Field(ge=-1, le=1)] = 0.0
    smallest_share_better: Share = 0.8


class CalibrationCondition(Declared):
    """How far the challenger's risks may be from what was observed.

    Parameters
    ----------
    slope
        Lowest and highest slope of the logistic recalibration.
    ratio
        Lowest and highest number of outcomes over the number expected.
    """

    slope: tuple[float, float] = (0.8, 1.25)
    ratio: tuple[float, float] = (0.67, 1.5)

    @field_validator("slope", "ratio")
    @classmethod
    def _is_in_order(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= ends[0] <= 1 <= ends[1]:
            message = "the lowest, at most 1, and the highest, at least 1"
            raise ValueError(message)
        return ends


class PromotionSettings(Declared):
    """Conditions under which a challenger becomes champion; a null condition is not asked for.

    Parameters
    ----------
    alias
        Alias of the registered model that the champion has.
    budget
        Share of households that can be visited; None: that of the visit lists.
    replicates
        Paired resamples.
    recall, calibration, groups
        See `RecallCondition`, `CalibrationCondition`, `poverty_risk.fairness.GroupLimits`.
    audit_groups
        YAML file of your own with the groups, or ``shipped``.
    smallest_share_of_reasons
        Least share of the champion's reasons (at most four themes for each household on its visit
        list) that the challenger tells too.
    no_leaks
        Whether the leakage check must find no leak in the challenger's features.
    held_out
        Whether the challenger may have learned nothing from outcomes of the period compared on.
    """

    alias: Annotated[str, Field(min_length=1)] = "champion"
    budget: Annotated[float, Field(gt=0, le=1)] | None = None
    replicates: Annotated[int, Field(ge=20, le=20_000)] = 500
    recall: RecallCondition | None = RecallCondition()
    calibration: CalibrationCondition | None = CalibrationCondition()
    groups: GroupLimits | None = GroupLimits()
    audit_groups: Path | Literal["shipped"] = "shipped"
    smallest_share_of_reasons: Share | None = 0.6
    no_leaks: bool = True
    held_out: bool = True
