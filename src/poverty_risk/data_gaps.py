"""What is missing of a household although an office usually knows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.model import RiskModel

__all__ = ["catalog_of", "find_data_gaps", "usually_known"]

USUALLY_KNOWN = 0.10
"""A feature missing in at most this share of training rows is one that an office usually knows."""


def catalog_of(model: RiskModel) -> Catalog:
    """The model's catalogue; without one, a catalogue of the bare names of its columns."""
    if model.catalog is not None:
        return model.catalog
    specs = [FeatureSpec(stem=str(n), formula="0", theme="other") for n in model.feature_names_in_]
    return Catalog(specs, "none", "columns")


def find_data_gaps(
    features: Any, model: RiskModel, locale: str = "zh", most: int = 5
) -> list[list[str]]:
    """What is missing for each point although an office usually knows it.

    Parameters
    ----------
    features
        Features, one row per point.
    model
        Its reference says what is usually known.
    locale
        ``"zh"`` or ``"en"``.
    most
        Names at most per point; those that are known most often come first.

    Returns
    -------
    list of list of str
        What to ask for, one list per point.
    """
    catalog, asks, usual = catalog_of(model), [], []
    for name in usually_known(model):
        words = catalog[name].words.get(locale)  # type: ignore[call-overload]
        if words is not None and words.ask is None:
            continue  # that there is nothing to know, such as the time since a shock, is no gap
        usual.append(name)
        asks.append(words.ask if words is not None else catalog[name].label(locale))
    missing = features[usual].isna().to_numpy()
    found = []
    for row in missing:
        named = dict.fromkeys(asks[position] for position in np.flatnonzero(row))
        found.append(list(named)[:most])
    return found


def usually_known(model: RiskModel) -> list[str]:
    """Features that are missing in few training rows, best known first."""
    shares = {name: entry["missing"] for name, entry in model.reference_.items()}
    known = [name for name, share in shares.items() if share <= USUALLY_KNOWN]
    return sorted(known, key=lambda name: shares[name])
