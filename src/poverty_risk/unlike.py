"""Households unlike any that a model learned from, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.data_gaps import catalog_of
from poverty_risk.kept_facts import keep_per_fit
from poverty_risk.model import RiskModel
from poverty_risk.model_columns import ModelRows
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.wording import format_value, load_locale

__all__ = ["describe_unlike", "find_unlike"]

BEYOND = 0.25
"""How far outside the values of training, as a share of their whole range, a value is unlike any.
Just outside is the next richest household."""

CALENDAR: Mapping[str, float] = {
    "days": 1096.0, "days_ago": 1096.0, "due": 1096.0, "about_months": 36.0, "years": 3.0,
}  # fmt: skip
"""What the calendar alone may add in three years to a value of each unit: in another season than those
of training every account is older, and time since an event has no end. A wrong century is found."""

MOST_NAMED = 3


def find_unlike(model: RiskModel, features: pd.DataFrame, locale: str = "zh") -> pd.DataFrame:
    """Households with values far from any that the model learned from: its risk is a guess there.

    Trees know nothing beyond the last value that they saw: a household there gets the risk of the
    nearest they know. Often the record is wrong (another unit, a slipped digit): look before visiting.

    Parameters
    ----------
    model
        Its reference says what was seen in training.
    features
        Features; columns are found by name.
    locale
        Language of the text: ``"zh"`` or ``"en"``.

    Returns
    -------
    DataFrame
        Index of `features`.

        unlike : whether any feature is far from training.
        features : list of str, names of these features, the farthest first.
        text : what is unlike, in words, at most three features; missing where nothing is.

    Notes
    -----
    A number is far when it lies outside the values of training by more than a quarter of their range;
    a time by more than that and three years. The ends of that range are the values of the tenth
    household from either side, because a model leaves the office; so a few households of training
    are far, too. A category is far when fewer than ten rows of training had it. What is missing is a
    data gap and told as such.

    One feature is looked at after the other: rare combinations of common values are not found, nor
    the lowest values of something whose highest are very high.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, find_unlike
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(0, 4, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < 1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> model = model.fit(features, labels)
    >>> find_unlike(model, pd.DataFrame({"income": [3.0, 30.0]}), "en")["text"].tolist()
    [nan, 'unlike any household that the model has learned from: income (30 times)']
    """
    rows = model.columns_.read(features)
    at, distance = _find_far(model, rows.matrix)
    far: list[list[str]] = [[] for _ in range(len(rows))]
    for place, names in zip(at, _order(model, distance), strict=True):
        far[place] = names
    index = features.index
    return pd.DataFrame(
        {
            "unlike": np.isin(np.arange(len(rows)), at),
            "features": pd.Series(far, index=index, dtype=object),
            "text": pd.Series(describe_unlike(model, rows, locale), index, "str"),
        },
        index=index,
    )


def describe_unlike(model: RiskModel, rows: ModelRows, locale: str = "zh") -> np.ndarray:
    """The texts of `find_unlike`, shape (n,), None where nothing is far.

    Parameters
    ----------
    model, locale
        See `find_unlike`.
    rows
        Features as the model's columns read them.
    """
    words, catalog = load_locale(locale), catalog_of(model)
    texts = np.full(len(rows), None, dtype=object)
    at, distance = _find_far(model, rows.matrix)
    for place, names in zip(at, _order(model, distance), strict=True):
        told = [
            words["unlike"]["feature"].format(
                label=catalog[name].label(locale),
                value=format_value(rows.value(name, place), catalog[name].unit, locale),
            )
            for name in names[:MOST_NAMED]
        ]
        joined = words["list_separator"].join(told)
        texts[place] = words["unlike"]["text"].format(features=joined)
    return texts


def _order(model: RiskModel, distance: np.ndarray) -> list[list[str]]:
    """Names of the far features of each row, the farthest first."""
    names = np.array(model.columns_.names, dtype=object)
    orders = np.argsort(-distance, axis=1, kind="stable")
    return [
        [str(name) for name in names[order[row[order] > 0.0]]]
        for row, order in zip(distance, orders, strict=True)
    ]


def _find_far(model: RiskModel, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows with a far value, and how far from training each of their values is.

    0 is near; infinite where there is no scale. Most rows are like training: they are looked at by
    bounds alone.
    """
    low, high, span = _ends(model)
    far = (matrix < low - BEYOND * span) | (matrix > high + BEYOND * span)
    for position in model.columns_.categorical:
        far[:, position] = _is_rare(model, model.columns_.names[position], matrix[:, position])
    at = np.flatnonzero(far.any(axis=1))
    outside = np.maximum(low - matrix[at], matrix[at] - high)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(far[at], outside / span, 0.0)
    distance[far[at] & np.isnan(distance)] = np.inf  # categories, which have no scale
    return at, distance


@keep_per_fit
def _ends(model: RiskModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest value of training of each feature, and their distance."""
    catalog, reference = catalog_of(model), model.reference_
    ends = [_ends_of(reference[name], catalog[name].unit) for name in model.columns_.names]
    low, high = np.array(ends).T
    return low, high, high - low


def _ends_of(entry: Mapping[str, Any], unit: str) -> tuple[float, float]:
    """Lowest and highest value of training; none of a category, or where nothing was known."""
    if "quantiles" not in entry:
        return np.nan, np.nan
    moved = CALENDAR.get(unit, 0.0)
    return entry["quantiles"][0] - moved, entry["quantiles"][-1] + moved


def _is_rare(model: RiskModel, name: str, codes: np.ndarray) -> np.ndarray:
    """Whether hardly anybody in training had each category."""
    entry, learned = model.reference_[name], float(model.training_["boosted"]["points"])
    rows = np.asarray(entry["shares"]) * (1.0 - entry["missing"]) * learned
    rare, known = np.zeros(len(codes), dtype=bool), ~np.isnan(codes)
    rare[known] = rows[codes[known].astype(int)] < SMALL_COUNT
    return rare
