"""What a household's values are compared with: its own a year earlier, its village, its township."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.cohort import find_groups
from poverty_risk.features import Catalog, build_features, build_known_dates
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.tables import HistoryTables

__all__ = ["Comparison", "build_comparison"]


@dataclass(frozen=True)
class Comparison:
    """Comparators and sources of the features of some points, all with the index of these points.

    Parameters
    ----------
    own
        The same features a year earlier, from what was known then.
    village, township
        Median of the households scored on the same date; missing where fewer than ten have a value.
    known
        When the office knew what a feature tells.
    """

    own: pd.DataFrame
    village: pd.DataFrame
    township: pd.DataFrame
    known: pd.DataFrame


def build_comparison(
    tables: HistoryTables, points: pd.DataFrame, peers: pd.DataFrame, catalog: Catalog
) -> Comparison:
    """Build what reasons compare with, for the points that are told.

    Parameters
    ----------
    tables
        The history.
    points
        Index (household_id, as_of_date) of the households to tell of.
    peers
        Features of all households scored on these dates, index (household_id, as_of_date).
    catalog
        The features.

    Returns
    -------
    Comparison
        With the index of `points`.

    Examples
    --------
    >>> from poverty_risk import build_features, build_prediction_points, load_catalog
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.comparison import build_comparison
    >>> tables, catalog = make_household_history(200, seed=1).tables, load_catalog("archive")
    >>> points = build_prediction_points(tables, "2024-01-01")
    >>> peers = build_features(tables, points, catalog)
    >>> found = build_comparison(tables, points.iloc[:3], peers, catalog)
    >>> len(found.own), float(found.own["household_size_count_ever"].iloc[0]) > 0
    (3, True)
    """
    index = points.index
    earlier = pd.DataFrame(
        index=pd.MultiIndex.from_arrays(
            [
                index.get_level_values("household_id"),
                pd.DatetimeIndex(index.get_level_values("as_of_date")) - pd.DateOffset(years=1),
            ],
            names=index.names,
        )
    )
    own = build_features(tables, earlier, catalog)
    # Who was not on record a year ago has no value of then: counts would say 0.
    then = find_groups(tables, pd.MultiIndex.from_frame(earlier.index.to_frame(index=False)))
    known = np.repeat(then.notna().any(axis=1).to_numpy()[:, None], own.shape[1], axis=1)
    own = own.where(known).set_axis(index, axis=0)
    groups = find_groups(tables, pd.MultiIndex.from_frame(peers.index.to_frame(index=False)))
    numbers = peers[[s.name for s in catalog.specs if s.kind == "number" and s.name in peers]]
    medians = {
        level: _compute_medians(numbers, groups[f"{level}_id"].set_axis(peers.index), index)
        for level in ("village", "township")
        if f"{level}_id" in groups
    }
    nothing = pd.DataFrame(index=index, columns=numbers.columns, dtype=float)
    return Comparison(
        own=own,
        village=medians.get("village", nothing),
        township=medians.get("township", nothing),
        known=build_known_dates(tables, points, catalog),
    )


def _compute_medians(numbers: pd.DataFrame, groups: pd.Series, index: pd.Index) -> pd.DataFrame:
    """Median of each point's group and date, missing where it would tell of too few households."""
    by_group = numbers.groupby([groups, numbers.index.get_level_values("as_of_date")], sort=False)
    # By group first: the county times all features is wanted nowhere.
    medians = by_group.median().where(by_group.count() >= SMALL_COUNT)
    keys = [pd.Index(groups.reindex(index)), index.get_level_values("as_of_date")]
    return medians.reindex(pd.MultiIndex.from_arrays(keys)).set_axis(index, axis=0)
