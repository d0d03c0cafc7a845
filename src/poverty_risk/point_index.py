"""What a table that stands on prediction points is indexed by."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk import windows
from poverty_risk.exceptions import Fault, FeatureError

__all__ = ["check_point_index"]


def check_point_index(frame: pd.DataFrame | pd.Series, place: str) -> pd.DatetimeIndex:
    """Check that a table stands on (household_id, as_of_date) without repeats.

    Returns
    -------
    DatetimeIndex
        Its as-of dates, each once, sorted.

    Raises
    ------
    FeatureError
        Another index, a missing id, or a point that comes twice.
    DeclarationError
        An as-of date that is missing, or no whole day.
    """
    names = list(frame.index.names)
    if names != ["household_id", "as_of_date"]:
        raise FeatureError(
            Fault(
                place,
                f"index {names}",
                "index ['household_id', 'as_of_date']",
                "Use build_prediction_points, or set_index on these two columns.",
            )
        )
    assert isinstance(frame.index, pd.MultiIndex)
    # By levels and codes: values of each point cost more than the rest for one household.
    (ids, dates), (known, dated) = frame.index.levels, frame.index.codes
    doubtful = ids.hasnans or (known < 0).any()
    named = frame.index.get_level_values
    if doubtful and (nameless := np.count_nonzero(named("household_id").isna())):
        raise FeatureError(
            Fault(
                place, f"{nameless} points without id", "a household_id", "Drop or complete them."
            )
        )
    used = dates.take(np.unique(dated), allow_fill=True, fill_value=np.nan)
    as_of = windows.parse_as_of_dates(used)
    # One point is no repeat: looking for some costs more than the rest of these checks.
    if len(frame) > 1 and not frame.index.is_unique:
        count = int(frame.index.duplicated().sum())
        raise FeatureError(
            Fault(place, f"{count} repeated points", "each point once", "Drop the repeats.")
        )
    return as_of
