"""Households unlike any that a model learned from, and by what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.data_gaps import catalog_of
from poverty_risk.model import RiskModel
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.wording import format_value, load_locale

__all__ = ["find_unlike"]

BEYOND = 0.25
"""How far outside the values of training, as a share of their whole range, a value is unlike any.
Just outside is the calendar (years since something) or the next richest household."""

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
    A number is far when it lies outside the values of training by more than a quarter of their range. The
    ends of that range are the values of the tenth household from either side, because a model
    leaves the office; so a few households of training are far, too. A category is far when fewer
    than ten rows of training had it, a missing value when fewer than ten lacked one.

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
    [nan, 'unlike any household learned from: income (30 times)']
    """
    distance = _measure(model, model.columns_.matrix(features))
    words, catalog = load_locale(locale)["unlike"], catalog_of(model)
    names = np.array(model.columns_.names, dtype=object)
    far: list[list[str]] = []
    texts: list[str | None] = []
    for position, row in enumerate(distance):
        order = np.argsort(-row, kind="stable")
        found = [str(name) for name in names[order[row[order] > 0.0]]]
        far.append(found)
        told = [
            words["feature"].format(
                label=catalog[name].label(locale),
                value=_tell(features[name].iloc[position], catalog[name].unit, locale),
            )
            for name in found[:MOST_NAMED]
        ]
        joined = load_locale(locale)["list_separator"].join(told)
        texts.append(words["text"].format(features=joined) if told else None)
    return pd.DataFrame(
        {
            "unlike": (distance > 0.0).any(axis=1),
            "features": pd.Series(far, index=features.index, dtype=object),
            "text": pd.Series(texts, index=features.index, dtype="str"),
        },
        index=features.index,
    )


def _tell(value: Any, unit: str, locale: str) -> str:
    if pd.isna(value):
        return str(load_locale(locale)["unlike"]["missing"])
    return format_value(value, unit, locale)


def _measure(model: RiskModel, matrix: np.ndarray) -> np.ndarray:
    """How far each value is from training, 0 for none, shape of the matrix; infinite without a scale."""
    learned = float(model.training_["boosted"]["points"])
    distance = np.zeros(matrix.shape)
    for position, name in enumerate(model.columns_.names):
        entry, values = model.reference_[name], matrix[:, position]
        known = ~np.isnan(values)
        if "shares" in entry:
            rows = np.asarray(entry["shares"]) * (1.0 - entry["missing"]) * learned
            distance[known, position] = np.where(
                rows[values[known].astype(int)] < SMALL_COUNT, np.inf, 0.0
            )
        elif "quantiles" in entry:
            lowest, highest = entry["quantiles"][0], entry["quantiles"][-1]
            outside = np.maximum(lowest - values, values - highest)[known]
            span = highest - lowest
            with np.errstate(divide="ignore", invalid="ignore"):
                times = np.where(outside > BEYOND * span, outside / span, 0.0)
            distance[known, position] = times
        if entry["missing"] * learned < SMALL_COUNT:
            distance[~known, position] = np.inf
    return distance
