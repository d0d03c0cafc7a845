"""Outcomes in the order of their risk: metrics that count ties, for many weightings at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault, FeatureError

__all__ = [
    "PROBABILITY_METRICS",
    "Outcomes",
    "Ranking",
    "align_outcomes",
    "check_metric_names",
    "count_visits",
]

RANK_METRICS = ("auc", "average_precision")
PROBABILITY_METRICS = ("brier", "log_loss")
"""Metrics that need a probability; missing for a margin."""

_AT_BUDGET = re.compile(r"(precision|recall|lift)_at_(\d*\.?\d+(?:e-\d+)?)")


@dataclass(frozen=True)
class Outcomes:
    """Labels and risks of the same labelled points, as arrays.

    Parameters
    ----------
    index
        The labelled points.
    label
        1.0 or 0.0, shape (n,).
    risks
        Risk or margin by name, shape (n,) each.
    probable
        By name, whether it is a probability.
    censored
        Number of points left out because they have no label.
    """

    index: pd.Index
    label: np.ndarray
    risks: Mapping[str, np.ndarray]
    probable: Mapping[str, bool]
    censored: int


def align_outcomes(labels: pd.Series, risks: Mapping[str, pd.Series]) -> Outcomes:
    """Bring labels and risks to the same points, by key, without the censored ones.

    Parameters
    ----------
    labels
        1, 0 or missing (censored), index unique.
    risks
        Risk by name, the same points in any order, none missing at a labelled point. A Series named
        ``margin`` is an order without a scale; every other one must be a probability.

    Returns
    -------
    Outcomes
        Arrays of the labelled points in the order of `labels`.

    Raises
    ------
    FeatureError
        Other points, repeated points, labels that are not 0 or 1, missing risks, or risks outside
        [0, 1]: all in one error.
    """
    faults = [] if isinstance(labels, pd.Series) else [_not_series("labels", labels)]
    faults += [_not_series(f"risk '{k}'", r) for k, r in risks.items() if not hasattr(r, "index")]
    if faults:
        raise FeatureError(faults)
    values = labels.to_numpy(dtype=np.float64, na_value=np.nan)
    known = ~np.isnan(values)
    if not labels.index.is_unique:
        faults.append(Fault("labels", "repeated points", "each point once", "Drop the repeats."))
    if odd := sorted(set(values[known].tolist()) - {0.0, 1.0}):
        faults.append(Fault("labels", f"{odd[:5]}", "1, 0 or missing", "Correct the labels."))
    if not known.any():
        faults.append(Fault("labels", "no label", "one or more", "Choose earlier as-of dates."))
    if faults:
        raise FeatureError(faults)
    arrays, probable = {}, {}
    for name, risk in risks.items():
        array, found = _align_risk(labels.index, risk, known, f"risk '{name}'")
        arrays[name], probable[name] = array, risk.name != "margin"
        faults += found
    if faults:
        raise FeatureError(faults)
    return Outcomes(
        labels.index[known], values[known], arrays, probable, int(len(values) - known.sum())
    )


def _not_series(place: str, values: Any) -> Fault:
    return Fault(
        place,
        type(values).__name__,
        "a Series with the points as its index",
        "Give the index: values are matched by key.",
    )


def _align_risk(
    index: pd.Index, risk: pd.Series, known: np.ndarray, place: str
) -> tuple[np.ndarray, list[Fault]]:
    if not risk.index.equals(index):
        absent, extra = len(index.difference(risk.index)), len(risk.index.difference(index))
        if absent or extra or len(risk) != len(index):
            fault = Fault(
                place,
                f"{len(risk)} points, {absent} of the labels' points absent, {extra} others",
                f"the {len(index)} points of the labels, each once",
                "Predict the points that are labelled; censored ones keep a missing label.",
            )
            return np.empty(0), [fault]
        risk = risk.reindex(index)
    array = risk.to_numpy(dtype=np.float64, na_value=np.nan)[known]
    if missing := int(np.isnan(array).sum()):
        remedy = "Predict them, or leave them out of labels and risks alike."
        return array, [Fault(place, f"{missing} missing", "a value at each labelled point", remedy)]
    outside = int(((array < 0.0) | (array > 1.0)).sum())
    if outside and risk.name != "margin":
        remedy = "If it is only an order, name the Series 'margin'."
        return array, [Fault(place, f"{outside} values outside [0, 1]", "probabilities", remedy)]
    return array, []


def check_metric_names(names: Iterable[str]) -> tuple[str, ...]:
    """Metric names as a tuple.

    Parameters
    ----------
    names
        ``auc``, ``average_precision``, ``brier``, ``log_loss``, and ``precision_at_<budget>``,
        ``recall_at_<budget>``, ``lift_at_<budget>`` with a budget such as 0.05.

    Returns
    -------
    tuple
        The names.

    Raises
    ------
    DeclarationError
        A name that is none of these, or a budget that is not above 0 and at most 1.

    Examples
    --------
    >>> from poverty_risk.ranking import check_metric_names
    >>> check_metric_names(["auc", "recall_at_0.05"])
    ('auc', 'recall_at_0.05')
    """
    names = tuple(names)
    faults = []
    for name in names:
        match = _AT_BUDGET.fullmatch(name)
        if name not in RANK_METRICS + PROBABILITY_METRICS and not (
            match and 0 < float(match[2]) <= 1
        ):
            known = ", ".join([*RANK_METRICS, *PROBABILITY_METRICS, "recall_at_0.05"])
            faults.append(Fault("metric", f"'{name}'", f"such as {known}", "Correct the name."))
    if faults:
        raise DeclarationError(faults)
    return names


def count_visits(budget: float, total: Any) -> Any:
    """Visits that a budget allows among so many households: rounded down, at least one.

    Examples
    --------
    >>> from poverty_risk.ranking import count_visits
    >>> int(count_visits(0.05, 199)), int(count_visits(0.29, 100)), int(count_visits(0.01, 10))
    (9, 29, 1)
    """
    # 0.29 * 100 is 28.999999999999996 in binary; nobody means 28.
    return np.maximum(1.0, np.floor(np.round(budget * np.asarray(total, dtype=float), 9)))


class Ranking:
    """Outcomes sorted once by falling risk; equal risks form one group.

    Parameters
    ----------
    label
        1.0 or 0.0, shape (n,).
    risk
        Risk or margin, shape (n,), none missing.
    probable
        Whether `risk` is a probability.

    Examples
    --------
    >>> import numpy as np
    >>> from poverty_risk.ranking import Ranking
    >>> ranking = Ranking(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.5, 0.5, 0.1]))
    >>> ranking.compute(["auc"], np.ones((1, 4)))["auc"].tolist()
    [0.875]
    """

    def __init__(self, label: np.ndarray, risk: np.ndarray, probable: bool = True) -> None:
        self.order = np.argsort(-risk, kind="stable")
        self.label, self.probable = label[self.order], probable
        self.risk = risk[self.order]
        changes = np.flatnonzero(self.risk[1:] != self.risk[:-1]) + 1
        self.starts = np.concatenate([[0], changes]).astype(np.intp)

    def compute(self, names: Iterable[str], weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics under several weightings of the points.

        Parameters
        ----------
        names
            As for `check_metric_names`.
        weights
            Weight of each point in the order given to the constructor, not negative, shape
            (n_weightings, n).

        Returns
        -------
        dict
            By metric, shape (n_weightings,); missing where it is not defined (one class only, or a
            metric of probabilities for a margin).
        """
        weights = weights[:, self.order]
        every = self._by_group(weights)
        positive = self._by_group(weights * self.label)
        from_top, positive_from_top = np.cumsum(every, axis=1), np.cumsum(positive, axis=1)
        found = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name in names:
                if match := _AT_BUDGET.fullmatch(name):
                    found[name] = _at_budget(
                        match[1], float(match[2]), every, positive, from_top, positive_from_top
                    )
                elif name == "auc":
                    found[name] = _auc(every, positive, from_top, positive_from_top)
                elif name == "average_precision":
                    precision = positive_from_top / np.where(from_top > 0, from_top, 1.0)
                    found[name] = (positive * precision).sum(axis=1) / positive_from_top[:, -1]
                elif self.probable:
                    found[name] = weights @ self._losses(name) / from_top[:, -1]
                else:
                    found[name] = np.full(len(weights), np.nan)
        return found

    def compute_once(self, names: Iterable[str]) -> dict[str, float]:
        """Metrics with every point counted once."""
        once = self.compute(names, np.ones((1, len(self.label))))
        return {name: float(value[0]) for name, value in once.items()}

    def _by_group(self, weights: np.ndarray) -> np.ndarray:
        if len(self.starts) == weights.shape[1]:
            return weights
        return np.add.reduceat(weights, self.starts, axis=1)

    def _losses(self, name: str) -> np.ndarray:
        if name == "brier":
            return np.asarray((self.risk - self.label) ** 2)
        # As scikit-learn: a risk of exactly 0 or 1 costs much, not infinitely much.
        smallest = np.finfo(np.float64).eps
        risk = np.clip(self.risk, smallest, 1.0 - smallest)
        return np.asarray(-np.where(self.label == 1.0, np.log(risk), np.log1p(-risk)))


def _auc(
    every: np.ndarray, positive: np.ndarray, from_top: np.ndarray, positive_from_top: np.ndarray
) -> np.ndarray:
    negative = every - positive
    negatives_from_top = from_top - positive_from_top
    negatives, positives = negatives_from_top[:, -1], positive_from_top[:, -1]
    below = negatives[:, None] - negatives_from_top
    pairs = (positive * (below + negative / 2.0)).sum(axis=1)
    return np.asarray(pairs / (positives * negatives))


def _at_budget(
    kind: str,
    budget: float,
    every: np.ndarray,
    positive: np.ndarray,
    from_top: np.ndarray,
    positive_from_top: np.ndarray,
) -> np.ndarray:
    """Expected precision, recall or lift over all orders of tied risks."""
    total, positives = from_top[:, -1], positive_from_top[:, -1]
    visits = count_visits(budget, total)
    group = np.minimum((from_top < visits[:, None]).sum(axis=1), every.shape[1] - 1)[:, None]

    def at(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.take_along_axis(values, group, axis=1)[:, 0])

    before, hits_before = at(from_top) - at(every), at(positive_from_top) - at(positive)
    hits = hits_before + (visits - before) * at(positive) / at(every)
    if kind == "recall":
        return np.asarray(hits / positives)
    precision = hits / visits
    return np.asarray(precision if kind == "precision" else precision * total / positives)
