"""Values put on the points of features by key, never by position."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError

__all__ = ["align_grades", "align_values", "check_both_outcomes", "group_codes"]


def align_values(values: pd.Series | np.ndarray, index: pd.Index, place: str) -> pd.Series:
    """Values on the index of the features, by key; arrays must have the same length."""
    if not index.is_unique:
        found = f"{int(index.duplicated().sum()):,} of {len(index):,} points repeated"
        fix = "Leave them out; households of several counties need the county in their ids."
        raise FeatureError(Fault("points", found, "each point once", fix))
    if isinstance(values, pd.Series):
        if values.index.equals(index):
            return values.astype(float)
        missing = index.difference(values.index)
        if len(missing) or not values.index.is_unique:
            raise FeatureError(
                Fault(
                    place,
                    f"{len(missing)} of {len(index)} points without an entry, or repeated points",
                    "one entry for each point of the features",
                    "Compute both from the same points.",
                )
            )
        return values.reindex(index).astype(float)
    if len(values) != len(index):
        raise FeatureError(
            Fault(place, f"{len(values)} values", f"{len(index)}", "Compute both from one table.")
        )
    return pd.Series(np.asarray(values, dtype=float), index=index)


def align_grades(grades: pd.Series, index: pd.Index) -> pd.Series:
    """Graded labels on the index of the features: each between 0 and 1."""
    aligned = align_values(grades, index, "graded labels")
    outside = int((~aligned.between(0.0, 1.0)).sum())
    if outside:
        raise FeatureError(
            Fault(
                "graded labels",
                f"{outside} of {len(index)} points with a label missing, or not from 0 to 1",
                "a grade from 0 to 1 wherever there is a label",
                "Compute them with `grade_labels` from the same labels.",
            )
        )
    return aligned


def group_codes(groups: pd.Series | None, index: pd.Index) -> np.ndarray:
    """Whole numbers by group, by position: villages, or households where none are named."""
    if groups is None:
        level = "household_id" if "household_id" in index.names else 0
        return np.asarray(pd.factorize(index.get_level_values(level))[0])
    codes = pd.Series(pd.factorize(groups, use_na_sentinel=False)[0], index=groups.index)
    return align_values(codes, index, "groups").to_numpy().astype(int)


def check_both_outcomes(labels: pd.Series) -> None:
    """Refuse labels of one class, or others than 0 and 1."""
    classes = np.unique(labels.to_numpy())
    if not np.array_equal(classes, [0.0, 1.0]):
        raise FeatureError(
            Fault(
                "labels",
                f"values {classes[:5].tolist()}",
                "both 0 and 1 (missing = censored)",
                "Widen the cohort or the dates.",
            )
        )
