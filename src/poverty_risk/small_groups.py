"""Groups of labelled points as columns: small ones are pooled with others, or not told at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.privacy import SMALL_COUNT

__all__ = ["MEMBER", "POOLED", "UNKNOWN", "SortedGroups", "sort_into_groups"]

MEMBER, UNKNOWN, POOLED = "yes", "(unknown)", "(pooled)"


@dataclass(frozen=True)
class SortedGroups:
    """Which labelled point is in which of the groups that are told.

    Parameters
    ----------
    names
        (grouping, group) of each column.
    inside
        1.0 or 0.0, shape (n_points, n_groups); groups of different groupings overlap.
    pooled
        How many groups each column stands for.
    hidden
        Groupings of which no group is told, by name with the reason.
    """

    names: tuple[tuple[str, str], ...]
    inside: np.ndarray
    pooled: tuple[int, ...]
    hidden: Mapping[str, str]


def sort_into_groups(label: np.ndarray, groups: pd.DataFrame) -> SortedGroups:
    """Groups of ten outcomes or more, and so of ten members or more.

    Parameters
    ----------
    label
        1.0 or 0.0, shape (n_points,).
    groups
        In the order of `label`. A boolean column has members, others and missing; of it only members
        (``yes``) and missing (``(unknown)``) are told. Of a column of names all groups are; small
        ones become ``(pooled)`` together with the next smallest ones, until ten outcomes are reached.

    Returns
    -------
    SortedGroups
        The groups that are told; what is left over of each grouping is not small either.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk.small_groups import sort_into_groups
    >>> names = pd.DataFrame({"township": np.repeat(["t1", "t2", "t3"], [30, 8, 7])})
    >>> sort_into_groups(np.ones(45), names).names
    (('township', 't1'), ('township', '(pooled)'))
    """
    names: list[tuple[str, str]] = []
    columns: list[np.ndarray] = []
    pooled: list[int] = []
    hidden: dict[str, str] = {}
    for grouping in map(str, groups.columns):
        values = groups[grouping]
        sort = _sort_members if pd.api.types.is_bool_dtype(values.dtype) else _sort_names
        told = sort(values, label)
        if not told:
            hidden[grouping] = f"under {SMALL_COUNT} members or outcomes"
        for group, inside, count in told:
            names.append((grouping, group))
            columns.append(inside)
            pooled.append(count)
    inside = np.column_stack(columns) if columns else np.empty((len(label), 0))
    return SortedGroups(tuple(names), inside.astype(np.float64), tuple(pooled), hidden)


def _is_small(inside: np.ndarray, label: np.ndarray) -> bool:
    # Ten outcomes are ten members.
    return int(label[inside].sum()) < SMALL_COUNT


def _sort_members(values: pd.Series, label: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
    """Members, and those of whom nobody can tell; the rest of each must not be small either."""
    unknown = values.isna().to_numpy()
    member = values.fillna(value=False).to_numpy(dtype=bool)
    if _is_small(member, label) or _is_small(~member, label):
        return []
    told = [(MEMBER, member, 1)]
    # With both of them told, the third could be worked out.
    if not _is_small(unknown, label) and not _is_small(~member & ~unknown, label):
        told.append((UNKNOWN, unknown, 1))
    return told


def _sort_names(values: pd.Series, label: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
    """Groups by name, small ones pooled with the next smallest until nothing small is left."""
    codes, names = pd.factorize(values.astype("str").fillna(UNKNOWN), sort=True)
    outcomes = np.bincount(codes, weights=label, minlength=len(names))
    order = np.argsort(outcomes, kind="stable")
    taken = int((outcomes < SMALL_COUNT).sum())
    while 0 < taken < len(names) and outcomes[order[:taken]].sum() < SMALL_COUNT:
        taken += 1
    if len(names) - taken + (taken > 0) < 2:
        return []
    told = [(str(names[code]), codes == code, 1) for code in sorted(order[taken:])]
    return told + ([(POOLED, np.isin(codes, order[:taken]), taken)] if taken else [])
