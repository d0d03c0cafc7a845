"""The EPH panel as one table of features, labels and cohorts, for the benchmarks on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import poverty_risk as pr
from poverty_risk.datasets import read_eph

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/eph.yaml"
FOLDER = str(ROOT.parent / "shared/data/eph")
COHORTS = ("seen", "everyone", "lifted", "not_poor")
LABELS = ("poor_at_12mo", "poor_within_12mo")
GRADED_LABEL = "poor_at_12mo"
HORIZON = "12mo"


@dataclass(frozen=True)
class Study:
    """Points of the broad cohort.

    Parameters
    ----------
    catalog
        Features.
    schema
        Schema of the panel.
    features
        Index (household_id, as_of_date).
    labels
        One column per label; missing where nobody was seen again.
    cohorts
        Whether a point belongs to a cohort, one column each.
    villages
        City of each point.
    ratios
        What the label of `GRADED_LABEL` looks at: income over the line a year later.
    """

    catalog: pr.Catalog
    schema: pr.Schema
    features: pd.DataFrame
    labels: pd.DataFrame
    cohorts: pd.DataFrame
    villages: pd.Series
    ratios: pd.Series

    def rows(self, label: str, cohort: str, first: str | None, last: str) -> pd.Series:
        """Labels of a cohort between two as-of dates, both included, missing ones left out."""
        dates = self.labels.index.get_level_values("as_of_date")
        chosen = self.cohorts[cohort].to_numpy() & (dates <= pd.Timestamp(last))
        if first is not None:
            chosen &= dates >= pd.Timestamp(first)
        return self.labels.loc[chosen, label].dropna().rename("label")

    def grade(self, rows: pd.Series, spread: float) -> pd.Series | None:
        """Labels of `GRADED_LABEL` graded by how near the household came; None for a spread of 0."""
        return pr.grade_labels(rows, self.ratios.loc[rows.index], spread) if spread else None

    def task(self, label: str, cohort: str) -> pr.PredictionTask:
        """The task of a label and a cohort."""
        return pr.PredictionTask(self.schema, cohort, label, HORIZON)


def read_study(
    folder: str, dates: Iterable[pd.Timestamp], quarters: Iterable[str] | None = None
) -> Study:
    """Read the panel and compute features, labels and cohorts on some dates."""
    tables, catalog = read_eph(folder, quarters), pr.load_catalog("eph")
    dates = list(dates)
    points = {cohort: pr.build_prediction_points(tables, dates, cohort) for cohort in COHORTS}
    broad = points["seen"]
    labels = pd.DataFrame(
        {label: pr.label_returns(tables, broad, HORIZON, label) for label in LABELS}
    ).dropna(how="all")
    index = labels.index
    cohorts = {cohort: index.isin(found.index) for cohort, found in points.items()}
    return Study(
        catalog,
        tables.schema,
        pr.build_features(tables, pd.DataFrame(index=index), catalog),
        labels,
        pd.DataFrame(cohorts, index=index),
        broad.loc[index, "village_id"],
        pr.measure_returns(tables, pd.DataFrame(index=index), HORIZON, GRADED_LABEL),
    )
