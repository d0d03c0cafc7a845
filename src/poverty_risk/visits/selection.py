"""The optimal selection under nested capacities and minima, and what each of them costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poverty_risk.visits.candidates import Candidates
from poverty_risk.visits.quotas import Bounds, QuotaTree, find_bounds

__all__ = ["Lineup", "Selection", "line_up", "select", "split_by_leaf"]


@dataclass(frozen=True)
class Lineup:
    """Households that can be visited, in the order of the list, and the quotas over them.

    Parameters
    ----------
    candidates
        All households.
    rows
        Their rows among the candidates: the order of the list. A position counts in it.
    tree, bounds
        The quotas, and what they mean for these households.
    members
        Of each leaf its positions, ascending.
    """

    candidates: Candidates
    rows: np.ndarray
    tree: QuotaTree
    bounds: Bounds
    members: list[np.ndarray]

    def select(self) -> Selection:
        """The best whole visits under the quotas as they are."""
        return select(self.tree, self.members, self.bounds.lower, self.bounds.upper)


def line_up(
    candidates: Candidates, rows: np.ndarray, tree: QuotaTree, lower: np.ndarray | None = None
) -> Lineup:
    """Put households that can be visited under the quotas.

    Parameters
    ----------
    candidates
        All households.
    rows
        Those that can be visited, in the order of the list.
    tree
        The quotas.
    lower
        Minima to keep instead of the declared ones.

    Returns
    -------
    Lineup
        Ready to be selected from.

    Raises
    ------
    DeclarationError
        The minima cannot be met within the capacities.
    """
    leaf = tree.leaf[rows]
    bounds = find_bounds(tree, leaf, lower)
    return Lineup(candidates, rows, tree, bounds, split_by_leaf(leaf, len(tree.level)))


@dataclass(frozen=True)
class _Pool:
    """Visits of one node: those that minima force, and those that are free, best first.

    Each is an array of two rows: positions in the order of the list, and how much of the visit
    (in units; part of a visit where a slot is shared with the draw).
    """

    forced: np.ndarray
    free: np.ndarray


@dataclass(frozen=True)
class Selection:
    """An optimal selection, with what is needed to change one quota and select again.

    Parameters
    ----------
    tree
        The quotas.
    members
        Of each leaf its positions in the order of the list.
    lower, upper
        Minimum and capacity of each node, in units.
    unit
        Units in one visit.
    pools
        Of each node.
    """

    tree: QuotaTree
    members: list[np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    unit: int
    pools: list[_Pool]

    @property
    def visits(self) -> np.ndarray:
        """Positions that are selected, and how much of a visit each gets, in units: two rows."""
        return np.concatenate([self.pools[-1].forced, self.pools[-1].free], axis=1)

    @property
    def amounts(self) -> np.ndarray:
        """How much of a visit each position gets, in units, shape (n_households,)."""
        amounts = np.zeros(sum(map(len, self.members)), dtype=np.int64)
        position, amount = self.visits
        np.add.at(amounts, position, amount)
        return amounts

    def visits_without(self, node: int, bound: str) -> np.ndarray:
        """Visits without one node's ``"lower"`` or ``"upper"`` bound; the others stay.

        Only the pools on the way from there to the county change.
        """
        lower, upper = self.lower.copy(), self.upper.copy()
        if bound == "lower":
            lower[node] = 0
        else:
            upper[node] = np.iinfo(np.int64).max
        if node == len(self.pools) - 1 and bound == "upper":
            # All pools were cut at what the county can visit.
            return select(self.tree, self.members, lower, upper, self.unit).visits
        pools = dict(enumerate(self.pools))
        while node >= 0:
            parts = [pools[c] for c in self.tree.children[node]] or [self._waiting(node)]
            pools[node] = _combine(parts, lower[node], min(upper[node], upper[-1]))
            node = int(self.tree.parent[node])
        return np.concatenate([pools[len(pools) - 1].forced, pools[len(pools) - 1].free], axis=1)

    def _waiting(self, leaf: int) -> _Pool:
        members = self.members[leaf]
        waiting = np.stack([members, np.full_like(members, self.unit)])
        return _Pool(waiting[:, :0], waiting)


def split_by_leaf(leaf: np.ndarray, nodes: int) -> list[np.ndarray]:
    """Positions of each leaf, ascending; `leaf` is in the order of the list."""
    order = np.argsort(leaf, kind="stable")
    ends = np.cumsum(np.bincount(leaf, minlength=nodes))[:-1]
    return np.split(order, ends)


def select(
    tree: QuotaTree,
    members: list[np.ndarray],
    lower: np.ndarray,
    upper: np.ndarray,
    unit: int = 1,
) -> Selection:
    """Select the first households of an order that nested quotas allow.

    Parameters
    ----------
    tree
        The quotas.
    members
        Of each leaf its positions in the order of the list, ascending; see `split_by_leaf`.
    lower, upper
        Minimum and capacity of each node in units, possible to meet.
    unit
        Units in one visit.

    Returns
    -------
    Selection
        As many visits as the capacities allow; among all such selections the one that is best in the
        order of the list, for every weighting that falls along it.

    Notes
    -----
    Selections between lower and upper bounds on nested groups are the bases of a matroid, so that
    taking the best household that still leaves a feasible selection is optimal. This computes the
    same from below: what a node needs for its minima is forced, the rest waits in order, cut at the
    node's capacity. In each node the best selection of k visits is then the first k of forced and
    free together, because best selections of nested quotas grow one household at a time.
    """
    selection = Selection(tree, members, lower, upper, unit, [])
    pools = selection.pools
    for node, below in enumerate(tree.children):
        parts = [pools[child] for child in below] or [selection._waiting(node)]  # noqa: SLF001
        # No node can use more than the county can; shorter pools are merged faster.
        pools.append(_combine(parts, lower[node], min(upper[node], upper[-1])))
    return selection


def _combine(parts: list[_Pool], lower: int, upper: int) -> _Pool:
    forced = np.concatenate([part.forced for part in parts], axis=1)
    free = np.concatenate([part.free for part in parts], axis=1)
    if len(parts) > 1:
        free = free[:, np.argsort(free[0], kind="stable")]
    needed = lower - forced[1].sum()
    if needed > 0:
        taken, free = _split(free, needed)
        forced = np.concatenate([forced, taken], axis=1)
    free, _ = _split(free, upper - forced[1].sum())
    return _Pool(forced, free)


def _split(visits: np.ndarray, amount: int) -> tuple[np.ndarray, np.ndarray]:
    """The first visits up to an amount, and the others; a visit may be cut in two."""
    reached = np.cumsum(visits[1])
    whole = int(np.searchsorted(reached, amount, side="right"))
    head, tail = visits[:, :whole], visits[:, whole:]
    part = amount - (int(reached[whole - 1]) if whole else 0)
    if part > 0 and tail.shape[1]:
        piece, tail = tail[:, :1].copy(), tail.copy()
        piece[1], tail[1, 0] = part, tail[1, 0] - part
        head = np.concatenate([head, piece], axis=1)
    return head, tail
