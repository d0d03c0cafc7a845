"""From margins to risks: calibrators fitted on later dates, monotone, kept as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from poverty_risk.exceptions import DeclarationError, Fault, FeatureError, ModelFolderError
from poverty_risk.logistic import fit_logistic_line

__all__ = [
    "CalibrationSpread",
    "Calibrator",
    "IsotonicCalibrator",
    "SigmoidCalibrator",
    "fit_calibrator",
    "load_calibrator",
]

Values = np.ndarray | pd.Series


class Calibrator(Protocol):
    """What maps margins to risks without changing their order."""

    def predict(self, margin: Values) -> np.ndarray:
        """Risk of each margin, shape (n,), in [0, 1], never falling as the margin rises."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `load_calibrator` reads back exactly."""


@dataclass(frozen=True)
class SigmoidCalibrator:
    """Platt scaling: the risk is the logistic of ``slope * margin + intercept``.

    Parameters
    ----------
    slope
        Zero or more.
    intercept
        In log-odds.

    References
    ----------
    Platt, J. (1999). Probabilistic outputs for support vector machines.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.calibration import SigmoidCalibrator
    >>> SigmoidCalibrator(slope=1.0, intercept=0.0).predict(np.array([0.0])).tolist()
    [0.5]
    """

    slope: float
    intercept: float

    @classmethod
    def fit(
        cls, margin: Values, y: Values, sample_weight: Values | None = None
    ) -> SigmoidCalibrator:
        """Fit on margins of a later period (see `fit_calibrator`).

        Notes
        -----
        Targets are smoothed as by Platt: (P + 1) / (P + 2) for the P positives and 1 / (N + 2) for
        the N negatives, so that few positives do not give certainties. Margins that are all the same
        get the smoothed base rate.
        """
        margin, target, weight = _rows(margin, y, sample_weight)
        positives = float(weight @ target)
        negatives = float(weight.sum()) - positives
        smoothed = np.where(
            target == 1.0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0)
        )
        if np.ptp(margin) == 0.0:
            rate = float(weight @ smoothed / weight.sum())
            return cls(1.0, float(logit(rate) - margin[0]))
        slope, intercept = fit_logistic_line(margin, smoothed, weight)
        if not slope >= 0.0:
            raise FeatureError(
                Fault(
                    "calibration",
                    f"a slope of {slope:.3g} on {len(margin)} later points, {positives:g} positive",
                    "zero or more: a higher margin, a higher risk",
                    "The model found nothing that holds on later dates: learn from more points.",
                )
            )
        return cls(slope, intercept)

    def predict(self, margin: Values) -> np.ndarray:
        """Risk of each margin, shape (n,), in [0, 1]."""
        values = np.asarray(margin, dtype=np.float64)
        return np.asarray(expit(self.slope * values + self.intercept), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `load_calibrator` reads back exactly."""
        return {"kind": "sigmoid", **asdict(self)}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> SigmoidCalibrator:
        """Read back what `to_dict` gave."""
        found = cls(float(mapping["slope"]), float(mapping["intercept"]))
        if not (np.isfinite(found.slope) and np.isfinite(found.intercept) and found.slope >= 0.0):
            message = f"slope {found.slope}, intercept {found.intercept}"
            raise ValueError(message)
        return found


@dataclass(frozen=True)
class IsotonicCalibrator:
    """Isotonic regression: linear between thresholds, constant outside them.

    Parameters
    ----------
    margins
        Thresholds, strictly rising.
    risks
        Risk at each threshold, never falling.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.calibration import IsotonicCalibrator
    >>> calibrator = IsotonicCalibrator(margins=(-1.0, 1.0), risks=(0.1, 0.3))
    >>> calibrator.predict(np.array([-9.0, 0.0, 9.0])).tolist()
    [0.1, 0.2, 0.3]
    """

    margins: tuple[float, ...]
    risks: tuple[float, ...]

    @classmethod
    def fit(
        cls, margin: Values, y: Values, sample_weight: Values | None = None
    ) -> IsotonicCalibrator:
        """Fit on margins of a later period (see `fit_calibrator`).

        Notes
        -----
        Risks are kept within [1 / (n + 2), (n + 1) / (n + 2)] for a total weight of n, because no
        finite number of points shows that something is certain.
        """
        margin, target, weight = _rows(margin, y, sample_weight)
        edge = 1.0 / (float(weight.sum()) + 2.0)
        regression = IsotonicRegression(y_min=edge, y_max=1.0 - edge, out_of_bounds="clip")
        regression.fit(margin, target, sample_weight=weight)
        return cls(
            tuple(map(float, regression.X_thresholds_)),
            tuple(map(float, np.maximum.accumulate(regression.y_thresholds_))),
        )

    def predict(self, margin: Values) -> np.ndarray:
        """Risk of each margin, shape (n,), in [0, 1]."""
        values = np.asarray(margin, dtype=np.float64)
        margins, risks = np.asarray(self.margins), np.asarray(self.risks)
        # Rounding of the interpolation must not reach over a threshold's own risk.
        below = np.clip(np.searchsorted(margins, values, side="right") - 1, 0, len(margins) - 1)
        above = np.minimum(below + 1, len(margins) - 1)
        return np.asarray(
            np.clip(np.interp(values, margins, risks), risks[below], risks[above]), dtype=np.float64
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `load_calibrator` reads back exactly."""
        return {"kind": "isotonic", "margins": list(self.margins), "risks": list(self.risks)}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> IsotonicCalibrator:
        """Read back what `to_dict` gave."""
        margins = np.asarray(mapping["margins"], dtype=np.float64)
        risks = np.asarray(mapping["risks"], dtype=np.float64)
        fits = margins.ndim == 1 and margins.shape == risks.shape and len(margins) > 0
        if not (
            fits
            and np.isfinite(margins).all()
            and (np.diff(margins) > 0).all()
            and (np.diff(risks) >= 0).all()
            and ((risks >= 0) & (risks <= 1)).all()
        ):
            message = "thresholds that do not rise, or risks outside [0, 1]"
            raise ValueError(message)
        return cls(tuple(margins.tolist()), tuple(risks.tolist()))


@dataclass(frozen=True)
class CalibrationSpread:
    """How far slope and intercept of a sigmoid calibration vary with the villages learned from.

    Parameters
    ----------
    slope, intercept
        Their variances.
    both
        Their covariance.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.calibration import CalibrationSpread
    >>> CalibrationSpread(0.01, 0.04, 0.0).variance(np.array([0.0, -2.0])).tolist()
    [0.04, 0.08]
    """

    slope: float
    intercept: float
    both: float

    @classmethod
    def of(
        cls,
        margin: np.ndarray,
        label: np.ndarray,
        risk: np.ndarray,
        groups: np.ndarray,
        weight: np.ndarray | None = None,
    ) -> CalibrationSpread:
        """Of the calibration of margins, by the sandwich estimator over groups.

        Parameters
        ----------
        margin, label, risk
            Of the rows that the calibration was fitted on, shape (n,).
        groups
            Whole numbers from 0: villages, whose households share luck.
        weight
            Of each row, 1 by default.

        Notes
        -----
        Observed information on both sides, sums of the score by group between them, times
        G / (G - 1) for G groups.

        References
        ----------
        Liang, K.-Y. and Zeger, S. L. (1986). Longitudinal data analysis using generalized linear
        models.
        """
        weight = np.ones(len(margin)) if weight is None else weight
        curvature = weight * risk * (1.0 - risk)
        cross = float(curvature @ margin)
        information = np.array([[curvature @ margin**2, cross], [cross, curvature.sum()]])
        rest = weight * (label - risk)
        sums = np.column_stack([np.bincount(groups, rest * margin), np.bincount(groups, rest)])
        count = len(np.unique(groups))
        inverse = np.linalg.pinv(information)  # margins that are all the same have no inverse
        spread = inverse @ (sums.T @ sums) @ inverse * count / max(count - 1, 1)
        return cls(float(spread[0, 0]), float(spread[1, 1]), float(spread[0, 1]))

    def variance(self, margin: np.ndarray) -> np.ndarray:
        """Variance of the calibrated log-odds of each margin, shape (n,)."""
        found = self.slope * margin**2 + 2.0 * self.both * margin + self.intercept
        return np.asarray(np.maximum(found, 0.0))

    def to_dict(self) -> dict[str, float]:
        """Plain values that `from_dict` reads back."""
        return {"slope": self.slope, "intercept": self.intercept, "both": self.both}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> CalibrationSpread:
        """Read back what `to_dict` gave."""
        found = cls(float(mapping["slope"]), float(mapping["intercept"]), float(mapping["both"]))
        if not (found.slope >= 0 and found.intercept >= 0 and np.isfinite(found.both)):
            message = "variances of a calibration that are none"
            raise ValueError(message)
        return found


KINDS: Mapping[str, type[SigmoidCalibrator | IsotonicCalibrator]] = {
    "sigmoid": SigmoidCalibrator,
    "isotonic": IsotonicCalibrator,
}


def fit_calibrator(
    kind: str, margin: Values, y: Values, sample_weight: Values | None = None
) -> SigmoidCalibrator | IsotonicCalibrator:
    """Fit a calibrator on margins that the model did not learn from.

    Parameters
    ----------
    kind
        ``"sigmoid"`` (two numbers, for few positives) or ``"isotonic"`` (for hundreds of positives).
    margin
        Log-odds of later points, shape (n,), finite.
    y
        Labels 1, 0 or missing (censored: left out), shape (n,).
    sample_weight
        Weight of each point, not negative; 1 by default. Of these three, all that are Series are
        matched by key; an array is in the order of the first Series.

    Returns
    -------
    SigmoidCalibrator or IsotonicCalibrator
        The fitted calibrator.

    Raises
    ------
    DeclarationError
        No such kind.
    FeatureError
        Lengths or keys that do not match, one class only, a missing margin, or margins that order
        the later points the wrong way round.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.calibration import fit_calibrator
    >>> margin, y = np.array([-2.0, -1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    >>> calibrator = fit_calibrator("sigmoid", margin, y)
    >>> bool(calibrator.slope > 0)
    True
    """
    if kind not in KINDS:
        raise DeclarationError(
            Fault("calibration", f"'{kind}'", f"one of {', '.join(KINDS)}", "Correct it.")
        )
    return KINDS[kind].fit(margin, y, sample_weight)


def load_calibrator(mapping: Mapping[str, Any]) -> SigmoidCalibrator | IsotonicCalibrator:
    """Read back a calibrator from the plain values of its ``to_dict``.

    Parameters
    ----------
    mapping
        As from ``to_dict``, also after JSON.

    Returns
    -------
    SigmoidCalibrator or IsotonicCalibrator
        One that predicts the same to the last bit.

    Raises
    ------
    ModelFolderError
        An unknown kind, or values that are no monotone calibration.

    Examples
    --------
    >>> from poverty_risk.calibration import load_calibrator
    >>> load_calibrator({"kind": "sigmoid", "slope": 1.5, "intercept": -0.5})
    SigmoidCalibrator(slope=1.5, intercept=-0.5)
    """
    try:
        return KINDS[mapping["kind"]].from_dict(mapping)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFolderError(
            Fault(
                "calibrator",
                f"{type(error).__name__}: {error}",
                f"a monotone calibrator of kind {' or '.join(KINDS)}",
                "Copy the model folder again from where it was trained.",
            )
        ) from None


def _rows(
    margin: Values, y: Values, sample_weight: Values | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins, labels and weights of the labelled rows, checked."""
    aligned = {"margin": margin, "labels": y}
    if sample_weight is not None:
        aligned["weights"] = sample_weight
    series = {name: values for name, values in aligned.items() if isinstance(values, pd.Series)}
    for name, values in series.items():
        aligned[name] = _reorder(name, values, next(iter(series.values())).index)
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in aligned.items()}
    arrays.setdefault("weights", np.ones(len(margin)))
    for name, array in arrays.items():
        if array.shape != (len(margin),):
            raise FeatureError(_mismatch(name, f"shape {array.shape}", f"({len(margin)},)"))
    labelled = ~np.isnan(arrays["labels"]) & (arrays["weights"] != 0.0)
    margins, labels, weights = (arrays[name][labelled] for name in ("margin", "labels", "weights"))
    faults = []
    if not np.isfinite(margins).all():
        faults.append(_mismatch("margin", "a missing or infinite margin", "finite margins"))
    if not (weights > 0).all():
        faults.append(_mismatch("weights", "a missing or negative weight", "zero or more"))
    if not np.array_equal(np.unique(labels), [0.0, 1.0]):
        faults.append(
            _mismatch("labels", f"{np.unique(labels)[:5].tolist()}", "both 0 and 1 on later dates")
        )
    if faults:
        raise FeatureError(faults)
    return margins, labels, weights


def _reorder(name: str, values: pd.Series, index: pd.Index) -> pd.Series:
    if values.index.equals(index):
        return values
    same = len(values) == len(index) and not len(values.index.symmetric_difference(index))
    if not (same and values.index.is_unique):
        raise FeatureError(_mismatch(name, "other or repeated points", "the same, each once"))
    return values.reindex(index)


def _mismatch(name: str, found: str, expected: str) -> Fault:
    return Fault(f"calibration, {name}", found, expected, "Widen the cohort or correct the rows.")
