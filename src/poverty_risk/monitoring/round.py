"""What is watched on a date: the history as it was known, features and risks, now and a year ago."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from poverty_risk.cohort import build_prediction_points
from poverty_risk.declarations import Words
from poverty_risk.features import build_features
from poverty_risk.model import RiskModel
from poverty_risk.monitoring.settings import MonitoringSettings
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.tables import HistoryTables
from poverty_risk.task import PredictionTask

__all__ = ["Causes", "Scored", "WatchedRound", "write_share"]


@dataclass(frozen=True)
class Scored:
    """Households of the cohort on a date.

    Parameters
    ----------
    points
        Index (household_id, as_of_date), their groups.
    matrix
        Features in the model's order, shape (n, n_features).
    risk
        Risk of each, index of the points.
    """

    points: pd.DataFrame
    matrix: np.ndarray
    risk: pd.Series

    def without(self, column: str, places: frozenset[str]) -> Scored:
        """The same without the households of some places."""
        if not places or column not in self.points:
            return self
        kept = ~self.points[column].isin(places).to_numpy()
        return Scored(self.points[kept], self.matrix[kept], self.risk[kept])


@dataclass(frozen=True)
class Causes:
    """What is wrong with the records themselves: other checks then look elsewhere, or say so.

    Parameters
    ----------
    tables
        Tables that stopped, or whose amounts changed their unit, with the code that says so.
    places
        Places that stopped reporting.
    codes
        Codes that raised an issue.
    """

    tables: dict[str, str] = field(default_factory=dict)
    places: frozenset[str] = frozenset()
    codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WatchedRound:
    """One date, one model, one history as it was known then.

    Parameters
    ----------
    tables
        The history, known before the date.
    model
        The model; it knows its task and its catalogue.
    task
        What it predicts.
    as_of
        The date.
    settings
        The limits.
    """

    tables: HistoryTables
    model: RiskModel
    task: PredictionTask
    as_of: pd.Timestamp
    settings: MonitoringSettings

    @functools.cached_property
    def now(self) -> Scored:
        """The cohort on the date."""
        return self.score(self.as_of)

    @functools.cached_property
    def year_ago(self) -> Scored | None:
        """The cohort a year earlier; None when the history had hardly begun by then."""
        before = self.as_of - pd.DateOffset(years=1)
        if (before - self.begin).days < 365:
            return None
        scored = self.score(before)
        return scored if len(scored.risk) else None

    @functools.cached_property
    def begin(self) -> pd.Timestamp:
        """First day on which the office came to know anything of the last years."""
        # The first record of a table may be far older than its feed: take what half of them have.
        firsts = [
            pd.Timestamp(pc.min(self.tables.arrow(name)["known_date"]).as_py())
            for name in self.tables.names
            if self.tables.arrow(name).num_rows
        ]
        return sorted(firsts)[len(firsts) // 2] if firsts else self.as_of

    def score(self, as_of: pd.Timestamp) -> Scored:
        """Points, features and risks of a date."""
        points = build_prediction_points(self.tables, as_of, self.task.cohort)
        assert self.model.catalog is not None
        features = build_features(self.tables, points, self.model.catalog)
        return Scored(points, self.model.columns_.matrix(features), self.model.risk(features))

    def name_table(self, name: str) -> Words:
        """What a table is called."""
        return self.task.schema.tables[name].label

    def name_feature(self, name: str) -> Words:
        """What a feature is called."""
        assert self.model.catalog is not None
        spec = self.model.catalog[name]
        return Words(zh=spec.label("zh"), en=spec.label("en"))

    def label_tables(self, label: str | None = None) -> set[str]:
        """Tables that the label is made from."""
        declared = self.task.schema.labels[label or self.task.label]
        own = {declared.table} if declared.table else set()
        return own.union(*(self.label_tables(part) for part in declared.of))

    def clusters(self, scored: Scored) -> np.ndarray | None:
        """Code of the village of each point."""
        if self.settings.cluster not in scored.points:
            return None
        return np.asarray(pd.factorize(scored.points[self.settings.cluster])[0])


def write_share(share: float, size: float) -> str:
    """A share as per cent; one that stands for under ten households only as less than that.

    Examples
    --------
    >>> write_share(0.25, 400), write_share(0.01, 400), write_share(0.0, 400)
    ('25.0 %', '< 2.5 %', '0.0 %')
    """
    if 0 < round(share * size) < SMALL_COUNT:
        return f"< {100 * SMALL_COUNT / size:.1f} %"
    return f"{100 * share:.1f} %"
