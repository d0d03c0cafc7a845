"""What each constraint of a visit list costs, in expected returns that are not reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.visits.quotas import COUNTY, NO_LIMIT
from poverty_risk.visits.selection import Lineup, Selection, line_up, select

__all__ = ["compute_quota_prices"]

COLUMNS = ["constraint", "level", "group", "bound", "visits", "price", "rule_hits"]


@dataclass(frozen=True)
class _Optimum:
    """The best list without a random share, and how others compare with it."""

    lineup: Lineup
    selection: Selection
    reached: np.ndarray

    def price(self, visits: np.ndarray, lineup: Lineup | None = None) -> np.ndarray:
        """Expected returns, and households whose severity goes first, that others reach more."""
        reached = _reach(self.lineup if lineup is None else lineup, visits)
        return np.asarray(reached - self.reached)

    def price_of_order(self, rows: np.ndarray) -> np.ndarray:
        """Price when other rows, or another order, are selected from under the same quotas."""
        lineup = self.lineup
        other = line_up(lineup.candidates, rows, lineup.tree, lineup.bounds.lower)
        return self.price(other.select().visits, other)


def _reach(lineup: Lineup, visits: np.ndarray) -> np.ndarray:
    position, amount = visits
    visited = lineup.rows[position.astype(np.intp)]
    candidates = lineup.candidates
    return np.array(
        [amount @ candidates.expected[visited], amount @ candidates.goes_first[visited]]
    )


def compute_quota_prices(
    lineup: Lineup, propensity: np.ndarray, *, cool_down: int, random_share: float
) -> pd.DataFrame:
    """Prices of quotas, minima, cool-down, rules first and random share.

    Parameters
    ----------
    lineup
        Households and quotas.
    propensity
        Of each position, with the random share.
    cool_down, random_share
        The settings.

    Returns
    -------
    DataFrame
        See `VisitList`.
    """
    selection, candidates = lineup.select(), lineup.candidates
    optimum = _Optimum(lineup, selection, _reach(lineup, selection.visits))
    cooled = np.flatnonzero(candidates.left_out == "cooled_down")
    warm = candidates.order(np.concatenate([lineup.rows, cooled]))
    by_risk = candidates.order(lineup.rows, by_rules=False)
    with_draw = np.stack([np.arange(len(propensity)), propensity])
    records = [*_of_levels(optimum), *_of_groups(optimum)]
    for name, bound, price in (
        ("cool_down", cool_down, optimum.price_of_order(warm)),
        ("random_share", random_share, -optimum.price(with_draw)),
        ("rules_first", None, optimum.price_of_order(by_risk)),
    ):
        records.append((name, COUNTY, None, bound, int(lineup.bounds.most[-1]), *price))
    table = pd.DataFrame(records, columns=COLUMNS)
    table = table.astype({"constraint": "str", "level": "str", "group": "str", "bound": float})
    # Sums in another order differ in the last digits; nobody should read them as a price.
    table[["price", "rule_hits"]] = table[["price", "rule_hits"]].round(9) + 0.0
    return table.sort_values("price", ascending=False, kind="stable", ignore_index=True)


def _of_groups(optimum: _Optimum) -> Iterator[tuple[object, ...]]:
    """Each quota alone."""
    tree, bounds, selection = optimum.lineup.tree, optimum.lineup.bounds, optimum.selection
    visits = _visits_by_node(optimum)
    for node, (level, group) in enumerate(zip(tree.level, tree.group, strict=True)):
        where = (level, None if level == COUNTY else group)
        # A bound that is not reached costs nothing: selections are convex in every quota.
        if tree.upper[node] < NO_LIMIT:
            reached = visits[node] == tree.upper[node] < bounds.size[node]
            price = optimum.price(selection.visits_without(node, "upper")) if reached else (0, 0)
            yield ("capacity", *where, int(tree.upper[node]), int(visits[node]), *price)
        if tree.lower[node] > 0:
            reached = visits[node] == bounds.lower[node] > 0
            price = optimum.price(selection.visits_without(node, "lower")) if reached else (0, 0)
            yield ("minimum", *where, int(tree.lower[node]), int(visits[node]), *price)


def _of_levels(optimum: _Optimum) -> Iterator[tuple[object, ...]]:
    """All quotas of one level together, which is not the sum of each alone."""
    lineup = optimum.lineup
    tree, bounds, members = lineup.tree, lineup.bounds, lineup.members
    total = int(bounds.most[-1])
    for level in dict.fromkeys(tree.level):
        inside = np.array([name == level for name in tree.level])
        if level in {"", COUNTY}:
            continue
        if (inside & (tree.upper < NO_LIMIT)).any():
            upper = np.where(inside, bounds.size, bounds.upper)
            other = select(tree, members, bounds.lower, upper)
            yield ("capacity", level, None, None, total, *optimum.price(other.visits))
        if (inside & (tree.lower > 0)).any():
            lower = np.where(inside, 0, bounds.lower)
            other = select(tree, members, lower, bounds.upper)
            yield ("minimum", level, None, None, total, *optimum.price(other.visits))


def _visits_by_node(optimum: _Optimum) -> np.ndarray:
    tree, leaf = optimum.lineup.tree, optimum.lineup.tree.leaf[optimum.lineup.rows]
    visits = np.bincount(leaf, weights=optimum.selection.amounts, minlength=len(tree.level))
    return tree.sum_up(visits.astype(np.int64))
