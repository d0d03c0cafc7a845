"""The random share: whose turn is left to chance, with which chance, and the draw itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poverty_risk.visits.quotas import Bounds, QuotaTree
from poverty_risk.visits.selection import Lineup, select

__all__ = ["UNIT", "DrawPlan", "draw_visits", "plan_draw"]

UNIT = 2**40
"""Parts of a visit. Whole numbers, so that chances add up to whole visits exactly."""


@dataclass(frozen=True)
class DrawPlan:
    """Chances of being visited, fixed before anything is drawn.

    Parameters
    ----------
    ranked
        How much of a visit each position gets by its rank, in units, shape (n_households,).
    chance
        Chance of a household of each leaf in the draw, shape (n_nodes,).
    left
        Visits that each leaf leaves to the draw, in units, shape (n_nodes,).
    propensity
        Probability that each position is visited, shape (n_households,).
    for_minimum
        Whether only a minimum gives a position its visit, shape (n_households,).
    reachable
        Whether some selection within the quotas visits a leaf, shape (n_nodes,).
    """

    ranked: np.ndarray
    chance: np.ndarray
    left: np.ndarray
    propensity: np.ndarray
    for_minimum: np.ndarray
    reachable: np.ndarray


def plan_draw(lineup: Lineup, random_share: float) -> DrawPlan:
    """Decide how much of each group's visits is left to chance, and rank within the rest.

    Parameters
    ----------
    lineup
        Households and quotas.
    random_share
        Share of all visits that is left to chance.

    Returns
    -------
    DrawPlan
        The chances.

    Notes
    -----
    See `build_visit_list` for the design. In symbols: ``q`` spreads all visits evenly within the
    quotas, a node leaves ``x = s q`` of its visits to chance, rank decides over the rest, so that a
    household of a leaf has the chance ``e = x / (n - ranked visits)`` where its rank gave nothing
    and ``p + (1 - p) e`` where it gave ``p``. The sum over a node is ranked visits + ``x``, hence
    within its quotas.
    """
    tree, members, bounds = lineup.tree, lineup.members, lineup.bounds
    evenly = spread_evenly(tree, bounds)
    left = _leave_to_chance(tree, evenly, bounds.most[-1], random_share)
    room = bounds.upper * UNIT - left
    lower = _ranked_minima(tree, bounds, left, room)
    ranked = select(tree, members, lower, room, UNIT).amounts
    freely = select(tree, members, np.zeros_like(lower), room, UNIT).amounts
    left = np.where(_is_leaf(tree), left, 0)
    chance, propensity = _chances(members, ranked, left)
    for_minimum = (ranked > 0) & (freely == 0)
    return DrawPlan(ranked, chance, left, propensity, for_minimum, evenly > 0)


def spread_evenly(tree: QuotaTree, bounds: Bounds) -> np.ndarray:
    """Visits of each node when minima are met and all others fall evenly on households.

    A leaf has none only if no selection within the quotas reaches it.
    """
    evenly = np.zeros(len(tree.level))
    evenly[-1] = bounds.most[-1]
    for node in reversed(range(len(tree.level))):
        below = list(tree.children[node])
        if below:
            demand = bounds.demand[below]
            free = evenly[node] - demand.sum()
            room = bounds.most[below] - demand
            evenly[below] = demand + _fill_evenly(bounds.size[below], room, free)
    return evenly


def _fill_evenly(size: np.ndarray, room: np.ndarray, total: float) -> np.ndarray:
    """Split a total in proportion to size, nowhere above the room (water-filling)."""
    full_at = np.where(size > 0, room / np.maximum(size, 1), 0.0)
    order = np.argsort(full_at, kind="stable")
    filled = np.cumsum(room[order]) - room[order]
    unfilled = np.cumsum(size[order][::-1])[::-1]
    level = (total - filled) / np.maximum(unfilled, 1)
    first = np.flatnonzero(level <= full_at[order])
    rate = max(level[first[0]], 0.0) if len(first) else np.inf
    return np.asarray(np.minimum(np.where(size > 0, rate, 0.0) * np.maximum(size, 1), room))


def _is_leaf(tree: QuotaTree) -> np.ndarray:
    return np.array([not below for below in tree.children])


def _leave_to_chance(
    tree: QuotaTree, evenly: np.ndarray, visits: int, random_share: float
) -> np.ndarray:
    wanted = random_share * visits
    # Whole visits where there is at least one; of very few visits one is drawn now and then.
    wanted = np.floor(wanted + 0.5) if wanted >= 1.0 else wanted
    total = round(wanted * UNIT)
    if not total:
        return np.zeros(len(evenly), dtype=np.int64)
    reached = _is_leaf(tree) & (evenly > 0)
    left = np.where(reached, np.maximum(np.floor(evenly * (total / visits)), 1), 0)
    left = left.astype(np.int64)
    left[np.argmax(left)] += total - left.sum()  # rounding, some 1e-9 of a visit
    return tree.sum_up(left)


def _ranked_minima(
    tree: QuotaTree, bounds: Bounds, left: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """Minima that rank meets: in full, or with the draw's help where there is no room for both."""
    lower = bounds.lower * UNIT
    demand = np.zeros_like(lower)
    for node, start in enumerate(tree.first_below):
        demand[node] = _demand(tree, lower, demand, node)
        if demand[node] > room[node]:
            for inner in range(start, node + 1):
                lower[inner] = max(0, int(bounds.lower[inner]) * UNIT - int(left[inner]))
                demand[inner] = _demand(tree, lower, demand, inner)
    return lower


def _demand(tree: QuotaTree, lower: np.ndarray, demand: np.ndarray, node: int) -> int:
    return int(max(lower[node], demand[list(tree.children[node])].sum()))


def _chances(
    members: list[np.ndarray], ranked: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Chance in each leaf's draw, and each position's probability to be visited."""
    chance = np.zeros(len(members))
    propensity = ranked / UNIT
    for leaf in np.flatnonzero(left):
        own = members[leaf]
        open_visits = len(own) * UNIT - int(ranked[own].sum())
        chance[leaf] = left[leaf] / open_visits
        by_rank = ranked[own] / UNIT
        propensity[own] = np.where(
            left[leaf] == open_visits, 1.0, by_rank + (1.0 - by_rank) * chance[leaf]
        )
    return chance, propensity


def draw_visits(lineup: Lineup, plan: DrawPlan, rng: np.random.Generator) -> np.ndarray:
    """Draw once.

    Parameters
    ----------
    lineup
        Households and quotas.
    plan
        The chances.
    rng
        Source of chance.

    Returns
    -------
    ndarray of bool
        Whether each position is visited, shape (n_households,). Each is visited with its
        propensity; a node's visits are its expected number, rounded up or down, so that every quota
        holds in every draw.

    Notes
    -----
    Pivotal sampling along the tree: in each leaf, and then in each node with what is left of its
    children, two candidates settle with one coin who takes the whole slot and who passes the rest
    on, until less than one slot is open. Expectations do not change on the way.

    References
    ----------
    Deville and Tillé (1998), Unequal probability sampling without replacement through a splitting
    method; Srinivasan (2001), Distributions on level-sets with applications to approximation
    algorithms.
    """
    visited = np.zeros(len(plan.ranked), dtype=bool)
    waiting: list[tuple[int, int] | None] = []
    for node, below in enumerate(lineup.tree.children):
        if not below:
            waiting.append(_draw_in_leaf(lineup.members[node], plan, node, visited, rng))
            continue
        candidates = [one for one in (waiting[child] for child in below) if one is not None]
        waiting.append(_settle(candidates, visited, rng))
    assert waiting[-1] is None, "the county's visits are a whole number"
    return visited


def _draw_in_leaf(
    own: np.ndarray, plan: DrawPlan, leaf: int, visited: np.ndarray, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Visit whole slots of a leaf; returns who may get the rest, with its chance in units."""
    sure, part = divmod(int(plan.ranked[own].sum()), UNIT)
    visited[own[:sure]] = True
    slots, rest = divmod(part + int(plan.left[leaf]), UNIT)
    contested, others = own[sure : sure + (part > 0)], own[sure + (part > 0) :]
    if not part:
        drawn = rng.choice(others, size=slots + (rest > 0), replace=False)
        visited[drawn[:slots]] = True
        return (int(drawn[-1]), rest) if rest else None
    # One household has part of a slot by rank; the others share theirs evenly.
    expected = len(others) * plan.chance[leaf]
    whole = min(int(expected), slots)
    drawn = rng.choice(others, size=min(whole + 1, len(others)), replace=False)
    visited[drawn[:whole]] = True
    first, second = plan.propensity[contested[0]], expected - whole
    if len(drawn) == whole:  # all others are visited
        visited[contested] = slots > whole
        return (int(contested[0]), rest) if rest else None
    winner, loser = int(contested[0]), int(drawn[-1])
    keeps = first / (first + second) if slots == whole else (1 - second) / (2 - first - second)
    if rng.random() >= keeps:
        winner, loser = loser, winner
    if slots > whole:
        visited[winner], winner = True, loser
    return (winner, rest) if rest else None


def _settle(
    candidates: list[tuple[int, int]], visited: np.ndarray, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Let candidates of a node meet in random order; at most one is left, with its chance."""
    left: tuple[int, int] | None = None
    for position in rng.permutation(len(candidates)):
        other = candidates[position]
        if left is None:
            left = other
            continue
        (one, chance), (two, second) = left, other
        total = chance + second
        if total < UNIT:
            left = (one if rng.integers(total) < chance else two, total)
            continue
        if rng.integers(2 * UNIT - total) >= UNIT - second:
            one, two = two, one
        visited[one] = True
        left = (two, total - UNIT) if total > UNIT else None
    return left
