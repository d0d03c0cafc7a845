"""What is missing of a household although an office usually knows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from poverty_risk.array_expressions import evaluate_expression
from poverty_risk.column_values import MISSING_CODE, Values
from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.features.spec import ZERO_WHEN_EMPTY
from poverty_risk.kept_facts import keep_per_fit
from poverty_risk.language import Context
from poverty_risk.model import RiskModel
from poverty_risk.model_columns import ModelRows

__all__ = ["catalog_of", "find_data_gaps", "find_missing", "find_telling", "usually_known"]

USUALLY_KNOWN = 0.10
"""A feature missing in at most this share of training rows is one that an office usually knows."""


def catalog_of(model: RiskModel) -> Catalog:
    """The model's catalogue; without one, a catalogue of the bare names of its columns."""
    if model.catalog is not None:
        return model.catalog
    specs = [FeatureSpec(stem=str(n), formula="0", theme="other") for n in model.feature_names_in_]
    return Catalog(specs, "none", "columns")


def find_data_gaps(
    features: pd.DataFrame | ModelRows, model: RiskModel, locale: str = "zh", most: int = 5
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
    usual, asks = _what_to_ask(model, locale)
    found = []
    for row in find_missing(features, model, usual):
        named = dict.fromkeys(asks[position] for position in np.flatnonzero(row))
        found.append(list(named)[:most])
    return found


@keep_per_fit
def _what_to_ask(model: RiskModel, locale: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Usually known features that one can ask for, and the words of each."""
    catalog, asks = catalog_of(model), {}
    for name in usually_known(model):
        words = catalog[name].words.get(locale)  # type: ignore[call-overload]
        if words is not None and words.ask is None:
            continue  # that there is nothing to know, such as the time since a shock, is no gap
        asks[name] = words.ask if words is not None else catalog[name].label(locale)
    return tuple(asks), tuple(asks.values())


@keep_per_fit
def usually_known(model: RiskModel) -> tuple[str, ...]:
    """Features that are missing in few training rows, best known first."""
    shares = {name: entry["missing"] for name, entry in model.reference_.items()}
    known = [name for name, share in shares.items() if share <= USUALLY_KNOWN]
    return tuple(sorted(known, key=lambda name: shares[name]))


def find_missing(
    features: pd.DataFrame | ModelRows, model: RiskModel, names: Sequence[str]
) -> np.ndarray:
    """Which of some features of the model are missing, shape (n, len(names))."""
    places = [model.columns_.places[name] for name in names]
    return np.asarray(model.columns_.read(features).missing[:, places])


def find_telling(
    model: RiskModel, as_of_date: pd.Timestamp, absent_tables: Collection[str] = ()
) -> tuple[str, ...]:
    """Usually known features that are missing for somebody of whom there is no record.

    A count of visits is 0 for a stranger, too: that it is known tells nothing.

    Parameters
    ----------
    model
        Its reference says what is usually known, its catalogue what a feature is made of.
    as_of_date
        The as-of date, which some features read.
    absent_tables
        Tables that the office does not have: all features of them are missing.

    Returns
    -------
    tuple of str
        Names of features, best known first.
    """
    return _find_telling(model, as_of_date.year, as_of_date.month, frozenset(absent_tables))


@keep_per_fit
def _find_telling(
    model: RiskModel, year: int, month: int, absent_tables: frozenset[str]
) -> tuple[str, ...]:
    catalog = catalog_of(model)
    columns = {"as_of_year": Values.number([year]), "as_of_month": Values.number([month])}
    for spec in catalog.specs:
        if spec.kind == "category":
            columns[spec.name] = Values.text((), np.array([MISSING_CODE]))
        elif spec.formula is None:
            zero = spec.aggregator in ZERO_WHEN_EMPTY and spec.table not in absent_tables
            columns[spec.name] = Values.number([0.0 if zero else np.nan])
    for stage in catalog.formula_stages:
        for spec in stage:
            context = Context(columns, place=f"feature '{spec.name}'")
            found = evaluate_expression(str(spec.formula), context).to_float()
            columns[spec.name] = Values.number(np.broadcast_to(found, 1))
    return tuple(name for name in usually_known(model) if columns[name].is_missing()[0])
