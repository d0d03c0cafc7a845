"""Households that received help: what their outcomes cannot say, and guards for training on them."""

from __future__ import annotations

import functools
from typing import Any, Literal

import ibis
import numpy as np
import pandas as pd

from poverty_risk import windows
from poverty_risk.baselines import LogisticBaseline
from poverty_risk.engine import (
    compile_to_sql,
    known_records,
    make_points,
    records_of_points,
    run_in_chunks,
    scatter,
)
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.features import Catalog
from poverty_risk.point_index import check_point_index
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon, Lookback

__all__ = ["GUARDS", "Guard", "find_help", "guard_helped"]

Guard = Literal["none", "censor", "exclude", "weigh"]
GUARDS: tuple[Guard, ...] = ("none", "censor", "exclude", "weigh")
"""How outcomes of helped households are kept from teaching that they are safe."""

RECENT_DAYS = 365
"""Help without an end on record counts as lasting for so long, where its table has no end at all."""

LARGEST_WEIGHT = 10.0
SMALLEST_CHANCE = 1e-3


def find_help(
    tables: HistoryTables, points: pd.DataFrame | pd.Series, horizon: str | Horizon = "12mo"
) -> pd.DataFrame:
    """Which points were helped on their as-of date, and which began to be helped in the horizon.

    Parameters
    ----------
    tables
        The history. Help is what its schema declares as ``treatment`` (the assistance table).
    points
        Index (household_id, as_of_date); columns are not read.
    horizon
        As of the label.

    Returns
    -------
    DataFrame
        Index of `points`; bool columns before (help was known and lasted on the as-of date) and within
        (help began in [as_of_date, as_of_date + horizon), whenever it became known).

    Raises
    ------
    FeatureError
        The schema declares no help, or none of its tables is there.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, find_help, make_household_history
    >>> tables = make_household_history(200, seed=1).tables
    >>> find_help(tables, build_prediction_points(tables, "2023-01-01")).columns.tolist()
    ['before', 'within']
    """
    check_point_index(points, "points")
    schema = tables.schema
    helping = [name for name, table in schema.tables.items() if table.treatment and name in tables]
    if not helping:
        expected = "a table that the schema declares as treatment"
        raise FeatureError(
            Fault("help", f"tables {', '.join(tables.names)}", expected, "Bring assistance.")
        )
    index = pd.MultiIndex.from_frame(points.index.to_frame(index=False))
    queries = _compile(schema.model_dump_json(), tuple(helping))
    rows = run_in_chunks(tables, make_points(index, horizon=Horizon.parse(horizon)), queries)
    found = {"before": np.zeros(len(index), bool), "within": np.zeros(len(index), bool)}
    for query, values in rows.items():
        kind = query.split(" ")[0]
        found[kind] |= scatter(values, "helped", len(index), fill=0.0) == 1.0
    return pd.DataFrame(found, index=points.index)


@functools.lru_cache(maxsize=8)
def _compile(schema_json: str, helping: tuple[str, ...]) -> dict[str, str]:
    schema = Schema.model_validate_json(schema_json)
    queries = {}
    for table in helping:
        known = known_records(schema, table)
        if "valid_to" in schema.tables[table].columns:
            lasting = windows.is_active(known.valid_to, known.as_of_date)
        else:
            recent = Lookback(RECENT_DAYS)
            lasting = recent.contains(known.event_date, known.as_of_date, _interval)
        began = records_of_points(schema, table)
        began = began.filter(began.superseded_date.isnull())
        inside = windows.contains_outcome(began.event_date, began.as_of_date, began.horizon_end)
        queries[f"before {table}"] = compile_to_sql(_any(known, lasting))
        queries[f"within {table}"] = compile_to_sql(_any(began, inside))
    return queries


def _any(records: Any, met: Any) -> Any:
    return records.group_by("point").aggregate(helped=met.cast("float64").max())


def _interval(days: int) -> Any:
    return ibis.interval(days=days)


def guard_helped(
    tables: HistoryTables,
    labels: pd.Series,
    horizon: str | Horizon = "12mo",
    *,
    method: Guard = "weigh",
    features: pd.DataFrame | None = None,
    catalog: Catalog | None = None,
    largest: float | None = LARGEST_WEIGHT,
) -> pd.DataFrame:
    """Labels and weights for training that do not take helped households for safe ones.

    Help goes to households in trouble and keeps them out of more of it. A model that learns from their
    outcomes learns that such households are safe; whoever then reads a low risk as "needs no help" ends
    the help that made it low. With a guard the risk is meant as that without help.

    Parameters
    ----------
    tables
        The history.
    labels
        1, 0 or missing (censored), index (household_id, as_of_date).
    horizon
        Of the labels.
    method
        ``"none"``: every label, weight 1. ``"censor"``: no label where help began within the horizon
        and no outcome was seen. ``"exclude"``: that, and no label where help lasted on the as-of date.
        ``"weigh"``: as exclude; who is left also stands for those like them who were helped.
    features
        Only for ``"weigh"``, which needs them: what tells who gets help, index of `labels`.
    catalog
        Of the features: those of the help itself are then left aside, they would tell it for certain.
    largest
        Weights are trimmed at so many times their mean; None: not trimmed.

    Returns
    -------
    DataFrame
        One row per label that is left, in the order of `labels`: label, weight (mean 1), for
        ``RiskModel.fit(features.loc[rows.index], rows["label"], sample_weight=rows["weight"])``.

    Raises
    ------
    DeclarationError
        No such method, or no features to weigh by.
    FeatureError
        No table of help, or nobody left without help.

    Notes
    -----
    An outcome that was seen counts even if help began within the horizon: help seldom brings trouble,
    and much of it begins in consequence of the outcome. Weights are one over the chance to be left:
    of no help on the as-of date, times, without an outcome, that of none within the horizon; both from
    a logistic regression on the features. The second weight brings the share of outcomes back to what
    it was before households helped later were taken out: right where such help keeps few outcomes away,
    too low where it keeps many away. Without it ("exclude") the share is too high, as an outcome counts
    though it came before help could. The order of help and outcome would settle it; labels do not
    tell it.

    What this cannot know: needs that officers saw and nobody recorded, and what would become of those
    who are helped always, as nobody like them is left. Recorded income contains the help that a
    household got; its risk without help is still told too low. Metrics on test labels judge the risk
    with help: a guarded model must look worse there.

    References
    ----------
    Robins, Hernan and Brumback (2000), Marginal structural models and causal inference in epidemiology.
    van Geloven et al. (2020), Prediction meets causal inference: the role of treatment in clinical
    prediction models.

    Examples
    --------
    >>> from poverty_risk import build_prediction_points, guard_helped, label_returns
    >>> from poverty_risk import make_household_history
    >>> tables = make_household_history(300, seed=1).tables
    >>> points = build_prediction_points(tables, "2023-01-01")
    >>> labels = label_returns(tables, points, "12mo", "any")
    >>> rows = guard_helped(tables, labels, method="exclude")
    >>> bool(len(rows) < labels.notna().sum()), rows["weight"].unique().tolist()
    (True, [1.0])
    """
    _check_method(method, features)
    labels = labels.dropna()
    if method == "none":
        return pd.DataFrame({"label": labels, "weight": 1.0})
    found = find_help(tables, labels, horizon)
    before, within = found["before"].to_numpy(), found["within"].to_numpy()
    happened = labels.to_numpy() == 1.0
    kept = ~(within & ~happened) if method == "censor" else ~before & ~(within & ~happened)
    if not kept.any():
        raise FeatureError(
            Fault("labels", "no household without help", "some of them", "Take another guard.")
        )
    weight = np.ones(len(labels))
    if method == "weigh":
        assert features is not None
        described = _describe(features.loc[labels.index], tables.schema, catalog)
        weight = 1.0 / _chance(described, ~before, np.ones(len(labels), bool))
        later = 1.0 / _chance(described, ~within, ~before & ~happened)
        weight = np.where(happened, weight, weight * later)
    rows = {"label": labels[kept], "weight": _trim(weight[kept], largest)}
    return pd.DataFrame(rows, index=labels.index[kept])


def _check_method(method: str, features: pd.DataFrame | None) -> None:
    if method not in GUARDS:
        raise DeclarationError(
            Fault("method", f"'{method}'", f"one of {', '.join(GUARDS)}", "Correct it.")
        )
    if method == "weigh" and features is None:
        raise DeclarationError(
            Fault(
                "features", "none", "those that tell who gets help", "Give the training features."
            )
        )


def _describe(features: pd.DataFrame, schema: Schema, catalog: Catalog | None) -> pd.DataFrame:
    """Features of the model that are not the help itself."""
    if catalog is None:
        return features
    helping = {name for name, table in schema.tables.items() if table.treatment}
    names = [name for name in catalog.model_names if not helping & set(catalog.tables_of(name))]
    return features[names]


def _chance(features: pd.DataFrame, spared: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Chance of each point to be spared of help, learned among some of them."""
    target = pd.Series(spared[among].astype(float), index=features.index[among])
    if target.nunique() < 2:
        return np.ones(len(features))
    fitted = LogisticBaseline().fit(features.loc[target.index], target)
    return np.asarray(np.maximum(fitted.predict_proba(features)[:, 1], SMALLEST_CHANCE))


def _trim(weight: np.ndarray, largest: float | None) -> np.ndarray:
    """Weights, none above `largest` times their mean, scaled to a mean of 1."""
    if largest is not None:
        weight = np.minimum(weight, largest * weight.mean())
    return np.asarray(weight / weight.mean())
