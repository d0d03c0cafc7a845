"""What a table that stands on prediction points is indexed by."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk import windows
from poverty_risk.exceptions import Fault, FeatureError

__all__ = ["check_point_index"]


def check_point_index(frame: pd.DataFrame | pd.Series, place: str) -> None:
    """Check that a table stands on (household_id, as_of_date) without repeats.

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
    ids = frame.index.get_level_values("household_id")
    if nameless := np.count_nonzero(ids.isna()):
        raise FeatureError(
            Fault(
                place, f"{nameless} points without id", "a household_id", "Drop or complete them."
            )
        )
    windows.parse_as_of_dates(frame.index.get_level_values("as_of_date").unique())
    # One point is no repeat: looking for some costs more than the rest of these checks.
    if len(frame) > 1 and not frame.index.is_unique:
        count = int(frame.index.duplicated().sum())
        raise FeatureError(
            Fault(place, f"{count} repeated points", "each point once", "Drop the repeats.")
        )
