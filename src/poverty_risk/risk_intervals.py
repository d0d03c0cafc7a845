"""How sure a calibrated risk is: an interval from what other villages would have taught."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit, stdtrit

from poverty_risk.calibration import SigmoidCalibrator
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.explain import find_refit_margins
from poverty_risk.model import RiskModel

__all__ = ["build_risk_intervals", "count_between", "find_ends", "has_intervals"]

FEWEST_REFITS = 3
LEVEL = 0.9


def build_risk_intervals(
    model: RiskModel, features: pd.DataFrame, level: float = LEVEL
) -> pd.DataFrame:
    """Between what values a household's risk lies, given what the model could learn.

    Parameters
    ----------
    model
        Calibrated by ``"sigmoid"``, with three refits at least.
    features
        Features; columns are found by name.
    level
        Share of the risks that should lie within their intervals; see the notes on how many do.

    Returns
    -------
    DataFrame
        Index of `features`; ``low`` and ``high``, in [0, 1], around the risk.

    Raises
    ------
    DeclarationError
        A model without refits or without such a calibration, or a level outside (0, 1).

    Notes
    -----
    The interval is of the risk of *households with these features*: what sets this household apart
    and stands in no record is not in it, nor is a year that is unlike those learned from.

    A model learned from half of the villages, drawn without replacement, is as far from the model of
    all villages as that is from one of a county without end (delete-half jackknife). Its variance
    and that of the calibration, clustered by village, add up in log-odds; quantiles are those of
    Student's t with as many degrees of freedom as there are refits.

    They are too narrow: on four simulated counties intervals of 90 % held 87 % of the risks that a
    model of the true risks gives to the same features, 84 % among the highest twentieth. The spread of the calibration alone held a
    quarter: it knows nothing of what the trees do not know. See ``benchmarks/uncertainty.py``.

    References
    ----------
    Shao, J. and Wu, C. F. J. (1989). A general theory for jackknife variance estimation.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, build_risk_intervals
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01", "2023-01-01"])], names=["household_id", "as_of_date"])
    >>> rng = np.random.default_rng(0)
    >>> features = pd.DataFrame({"income": rng.normal(size=800)}, index=index)
    >>> labels = (features["income"] + rng.normal(size=800) < -1.5).astype(float)
    >>> model = RiskModel(n_estimators=20, min_child_samples=20, n_refits=4, n_jobs=1)
    >>> found = build_risk_intervals(model.fit(features, labels), features)
    >>> risk = model.risk(features)
    >>> bool(((found["low"] <= risk) & (risk <= found["high"])).all())
    True
    """
    _check(model, level)
    matrix = model.columns_.matrix(features)
    low, high = find_ends(model, matrix, model.forest_.margins(matrix), level)
    return pd.DataFrame({"low": low, "high": high}, features.index)


def has_intervals(model: RiskModel) -> bool:
    """Whether a fitted model can tell intervals: by its calibration, and by enough refits."""
    refits = model.refits_
    return (
        model.spread_ is not None and refits is not None and len(refits.boosters) >= FEWEST_REFITS
    )


def find_ends(
    model: RiskModel, matrix: np.ndarray, margin: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the intervals of `build_risk_intervals`, shape (n,) each.

    Parameters
    ----------
    model
        One that `has_intervals`.
    matrix
        Rows as the model's columns turn them into numbers, shape (n, n_features).
    margin
        Their margins, shape (n,).
    level
        Share of the risks that should lie within.
    """
    calibrator, spread = model.calibrator_, model.spread_
    assert isinstance(calibrator, SigmoidCalibrator)
    assert spread is not None
    halves = find_refit_margins(model, matrix)
    of_trees = np.zeros(len(margin))
    for half in halves:  # in order: a row alone and among others gets the same bits
        of_trees += (half - margin) ** 2
    of_trees *= calibrator.slope**2 / len(halves)
    reach = float(stdtrit(len(halves), (1.0 + level) / 2.0))
    reached = reach * np.sqrt(of_trees + spread.variance(margin))
    centre = calibrator.slope * margin + calibrator.intercept
    return expit(centre - reached), expit(centre + reached)


def _check(model: RiskModel, level: float) -> None:
    faults = []
    if model.spread_ is None:
        found = f"calibration {model.calibration!r}, or a model of an older version"
        faults.append(Fault("model", found, "'sigmoid'", "Train it again."))
    refits = 0 if model.refits_ is None else len(model.refits_.boosters)
    if refits < FEWEST_REFITS:
        expected = f"{FEWEST_REFITS} or more"
        faults.append(Fault("model", f"{refits} refits", expected, "Train with n_refits=6."))
    if not 0.0 < level < 1.0:
        faults.append(Fault("level", f"{level}", "between 0 and 1", "Correct it."))
    if faults:
        raise DeclarationError(faults)


def count_between(low: float, high: float, base: int) -> tuple[int, int]:
    """Whole households out of `base` that an interval of a risk reaches from and to, outwards."""
    return int(low * base), int(np.ceil(high * base - 1e-9))
