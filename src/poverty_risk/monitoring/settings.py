"""How far something may move before monitoring says so."""

from __future__ import annotations

from pydantic import Field

from poverty_risk.declarations import Declared

__all__ = ["MonitoringSettings"]


class MonitoringSettings(Declared):
    """Limits of the checks; a finding needs a practical size and statistical weight, both.

    Parameters
    ----------
    place, cluster
        Groups of the schema: where feeds come from, and whose households share luck.
    level
        False discoveries allowed among the features that are said to have moved.
    psi, psi_year, psi_round
        Population stability index from which on a distribution has moved: against training, against
        the same day a year ago, and (of the risks) against the last round.
    missing
        Rise of the share missing.
    fewest
        Households, or independent groups of them, below which no distribution is compared.
    late_factor, late_days
        A feed is late when it is silent for so many times its usual longest silence at this season,
        and longer than so many days.
    late_records
        Records that must have arrived in the same span of each earlier year, for silence to tell.
    thin
        Share of its usual records below which a feed is thin.
    unit_tolerance
        How near the factor of an amount must be to 10, 100, ..., in powers of ten.
    calibration, calibration_tip
        Factor between observed and expected outcomes, either way, for an issue and for a tip: years
        differ, of one county more than of many.
    auc, auc_drop
        Lowest AUC, and its largest fall against earlier rounds.
    estimate_error
        Largest difference between the estimated and the realised AUC.
    yield_ratio
        Outcomes found by a visit list over expected ones.
    budget
        Share of households that is visited, for precision and recall.
    z
        Standard errors beyond which a difference in outcomes is no luck.
    fewest_outcomes
        Outcomes below which no performance is computed.

    Examples
    --------
    >>> from poverty_risk.monitoring import MonitoringSettings
    >>> MonitoringSettings(psi=0.3).psi
    0.3
    """

    place: str = "township_id"
    cluster: str = "village_id"
    level: float = Field(default=0.01, gt=0, lt=1)
    psi: float = Field(default=0.25, gt=0)
    psi_year: float = Field(default=0.2, gt=0)
    psi_round: float = Field(default=0.25, gt=0)
    missing: float = Field(default=0.10, gt=0, lt=1)
    fewest: int = Field(default=50, ge=10)
    late_factor: float = Field(default=1.5, ge=1)
    late_days: int = Field(default=31, ge=1)
    late_records: int = Field(default=10, ge=1)
    thin: float = Field(default=0.4, gt=0, lt=1)
    unit_tolerance: float = Field(default=0.2, gt=0, lt=0.5)
    calibration: float = Field(default=2.0, gt=1)
    calibration_tip: float = Field(default=1.5, gt=1)
    auc: float = Field(default=0.6, ge=0.5, lt=1)
    auc_drop: float = Field(default=0.05, gt=0, lt=1)
    estimate_error: float = Field(default=0.10, gt=0, lt=1)
    yield_ratio: float = Field(default=0.5, gt=0, le=1)
    budget: float = Field(default=0.05, gt=0, le=1)
    z: float = Field(default=3.0, gt=0)
    fewest_outcomes: int = Field(default=10, ge=10)
