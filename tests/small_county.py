"""A small simulated county with a quickly trained model, for tests of what comes after training."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from poverty_risk.cohort import build_prediction_points
from poverty_risk.datasets import make_household_history
from poverty_risk.features import Catalog, build_features, load_catalog
from poverty_risk.labels import label_returns
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.tables import HistoryTables

AS_OF = "2023-07-01"


@dataclass(frozen=True)
class SmallCounty:
    """History, labelled features of a few dates, and a model fitted on them."""

    tables: HistoryTables
    features: pd.DataFrame
    labels: pd.Series
    model: RiskModel


def pick_features() -> Catalog:
    """The first feature of each theme and every category, with what they are computed from."""
    catalog = load_catalog("archive")
    used = [spec for spec in catalog.specs if spec.role == "model"]
    first = {spec.theme: spec.name for spec in reversed(used)}
    wanted = {*first.values(), *(spec.name for spec in used if spec.kind == "category")}
    while parts := {
        part
        for name in wanted
        for part in re.findall(r"\w+", catalog[name].formula or "")
        if part in catalog.names and part not in wanted
    }:
        wanted |= parts
    specs = [spec for spec in catalog.specs if spec.name in wanted]
    return Catalog(specs, "archive", "small county")


def train_small_county(households: int = 120, **parameters: object) -> SmallCounty:
    """A dozen trees over a few features: enough to tell households apart, no more."""
    county = make_household_history(households, start="2019-01-01", end="2023-12-01", seed=3)
    tables = county.tables
    points = build_prediction_points(tables, ["2020-07-01", "2021-07-01", "2022-07-01"])
    labels = label_returns(tables, points, "12mo", "any").dropna()
    catalog = pick_features()
    features = build_features(tables, points.loc[labels.index], catalog)
    task = PredictionTask(tables.schema, "at_risk", "any", "12mo", dict(tables.line or {}))
    settings = {"n_estimators": 12, "num_leaves": 7, "learning_rate": 0.2, "min_child_samples": 10}
    settings |= {"n_jobs": 1, "embargo": False, "early_stopping_rounds": None} | parameters
    model = RiskModel(catalog, task, **settings).fit(features, labels)
    return SmallCounty(tables, features, labels, model)
