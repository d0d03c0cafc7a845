"""Capacities and minima of nested groups, as a tree."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.exceptions import DeclarationError, Fault

__all__ = ["COUNTY", "Bounds", "QuotaTree", "Quotas", "build_quota_tree", "find_bounds"]

COUNTY = "county"
"""Name of the level that holds every household; no column of its own."""

Quotas = int | Mapping[str, int | Mapping[str, int]]
"""A number for the county, or numbers by level (a column): one for each group, or by group."""

NO_LIMIT = 2**31
MOST_FAULTS = 10
"""A county has hundreds of villages; an error names the first ones and counts the others."""

_Declared = dict[str, int | dict[str, int]]


@dataclass(frozen=True)
class QuotaTree:
    """Groups that have a quota, nested; every household sits in exactly one leaf.

    Nodes are in postorder: children before parents, the county last, the nodes below a node directly
    before it.

    Parameters
    ----------
    level, group
        Of each node; the level is empty where a leaf only holds the households of a group that lie
        in none of its lower groups.
    children
        Of each node.
    first_below
        First node of each node's subtree.
    lower, upper
        Declared minimum and capacity, shape (n_nodes,).
    leaf
        Leaf of each household, shape (n_households,).
    """

    level: tuple[str, ...]
    group: tuple[str, ...]
    children: tuple[tuple[int, ...], ...]
    first_below: tuple[int, ...]
    lower: np.ndarray
    upper: np.ndarray
    leaf: np.ndarray

    @functools.cached_property
    def parent(self) -> np.ndarray:
        """Parent of each node, -1 for the county."""
        parent = np.full(len(self.level), -1)
        for node, below in enumerate(self.children):
            parent[list(below)] = node
        return parent

    def sum_up(self, of_leaves: np.ndarray) -> np.ndarray:
        """Totals of each node from values of the leaves (zero at other nodes)."""
        total = of_leaves.copy()
        for node, below in enumerate(self.children):
            if below:
                total[node] = total[list(below)].sum()
        return total

    def name(self, node: int) -> str:
        """Level and group of a node, for messages."""
        if self.level[node] == COUNTY:
            return COUNTY
        return f"{self.level[node]} '{self.group[node]}'"


@dataclass(frozen=True)
class Bounds:
    """What the quotas mean for the households that can be visited, shape (n_nodes,) each.

    Parameters
    ----------
    size
        Households that can be visited.
    lower, upper
        Minimum and capacity, neither above `size`.
    demand
        Fewest visits that meet all minima in the node.
    most
        Most visits that the capacities in the node allow.
    """

    size: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    demand: np.ndarray
    most: np.ndarray


def build_quota_tree(
    households: pd.DataFrame, capacity: Quotas, minimum: Quotas | None
) -> QuotaTree:
    """Read quotas and find out how their groups are nested.

    Parameters
    ----------
    households
        One row per household with the columns that the quotas name. A household without a value
        lies in no group of that level and is bound by the other levels only.
    capacity, minimum
        See `build_visit_list`.

    Returns
    -------
    QuotaTree
        The tree.

    Raises
    ------
    DeclarationError
        Quotas that are no whole numbers, unknown levels or groups, groups that are not nested.
    """
    faults: list[Fault] = []
    upper = _read_quotas("capacity", capacity, faults)
    lower = _read_quotas("minimum", {} if minimum is None else minimum, faults)
    if not upper and not faults:
        faults.append(Fault("capacity", "none", "one or more quotas", "Give 'county' at least."))
    levels = [level for level in dict.fromkeys([*upper, *lower]) if level != COUNTY]
    for level in levels:
        if level not in households.columns:
            near = difflib.get_close_matches(level, [str(c) for c in households.columns], n=1)
            remedy = f"Did you mean '{near[0]}'?" if near else "Add the column to 'risk'."
            expected = f"'{COUNTY}' or a column of 'risk'"
            faults.append(Fault("quotas", f"level '{level}'", expected, remedy))
    if faults:
        raise DeclarationError(faults)
    nodes = _Nodes(len(households))
    for level in levels:
        faults += nodes.add_level(level, households[level], lower.get(level), upper.get(level))
    if faults:
        raise DeclarationError(_first(faults))
    total = (_of_county(lower, 0), _of_county(upper, NO_LIMIT))
    return nodes.nest(*total)


def _of_county(quotas: _Declared, otherwise: int) -> int:
    found = quotas.get(COUNTY, otherwise)
    assert isinstance(found, int)
    return found


def _first(faults: list[Fault]) -> list[Fault]:
    if len(faults) <= MOST_FAULTS:
        return faults
    more = f"{len(faults) - MOST_FAULTS} more of this kind"
    return [*faults[:MOST_FAULTS], Fault("quotas", more, "none", "Correct those above first.")]


def _read_quotas(place: str, quotas: Any, faults: list[Fault]) -> _Declared:
    if not isinstance(quotas, Mapping):
        quotas = {COUNTY: quotas}
    found: _Declared = {}
    for level, value in quotas.items():
        if isinstance(value, Mapping) and level != COUNTY:
            groups = {str(k): _whole(f"{place} of '{k}'", v, faults) for k, v in value.items()}
            found[str(level)] = groups
        else:
            found[str(level)] = _whole(f"{place} of level '{level}'", value, faults)
    return found


def _whole(place: str, value: Any, faults: list[Fault]) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and 0 <= value < NO_LIMIT:
        return int(value)
    expected = "a whole number, zero or more"
    faults.append(Fault(place, repr(value)[:40], expected, "Correct the number of visits."))
    return 0


def _group_name(value: Any) -> str:
    # Codes become floats in a column that has gaps.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class _Nodes:
    """Nodes while levels are added, before it is known how they are nested."""

    def __init__(self, households: int) -> None:
        self.level: list[str] = []
        self.group: list[str] = []
        self.lower: list[int] = []
        self.upper: list[int] = []
        self.member: list[np.ndarray] = []
        self.households = households

    def add_level(
        self,
        level: str,
        column: pd.Series,
        lower: int | dict[str, int] | None,
        upper: int | dict[str, int] | None,
    ) -> list[Fault]:
        """Add the groups of one column that have a quota."""
        codes, values = pd.factorize(column)
        # In the order of their names, so that nothing depends on the order of rows.
        names, renamed = np.unique(
            np.array([_group_name(v) for v in values], dtype=object), return_inverse=True
        )
        known, faults = set(names), []
        for quotas in (lower, upper):
            for group in quotas if isinstance(quotas, dict) else ():
                if group not in known:
                    near = difflib.get_close_matches(group, list(names), n=1)
                    remedy = f"Did you mean '{near[0]}'?" if near else "Remove or correct it."
                    place, expected = f"quotas of level '{level}'", "a group of a household"
                    faults.append(Fault(place, f"unknown group '{group}'", expected, remedy))
        node = np.full(len(names) + 1, -1)
        for position, name in enumerate(names):
            least, most = _quota_of(lower, name, 0), _quota_of(upper, name, NO_LIMIT)
            if least > 0 or most < NO_LIMIT:
                node[position] = len(self.level)
                self.level.append(level)
                self.group.append(str(name))
                self.lower.append(least)
                self.upper.append(most)
        self.member.append(node[np.where(codes >= 0, renamed[codes] if len(names) else -1, -1)])
        return faults

    def nest(self, lower: int, upper: int) -> QuotaTree:
        """Find each node's parent; the sets must form a laminar family."""
        root = len(self.level)
        if self.member:
            member = np.column_stack(self.member)
            size = np.bincount(member[member >= 0], minlength=root + 1)
            # Of the sets that hold a household each must lie in the next larger one, which is then
            # the same for all its households. In no group: in the county alone.
            breadth = np.where(member < 0, self.households + 1, size[member])
            order = np.argsort(-breadth, axis=1, kind="stable")
            chain = np.take_along_axis(member, order, axis=1)
        else:
            chain = np.full((self.households, 0), -1)
        above = np.column_stack([np.full(self.households, -1), chain])
        parents: list[set[int]] = [set() for _ in range(root)]
        for child, parent in zip(chain.T, above.T[:-1], strict=True):
            pairs = pd.DataFrame({"child": child, "parent": parent}).drop_duplicates()
            for lower_node, upper_node in pairs.to_numpy():
                if lower_node >= 0:
                    parents[lower_node].add(int(upper_node) if upper_node >= 0 else root)
        self._check_nested(parents, root)
        deepest = np.where(above[:, -1] >= 0, above[:, -1], root)
        self.level.append(COUNTY)
        self.group.append(COUNTY)
        self.lower.append(lower)
        self.upper.append(upper)
        return self._arrange([next(iter(p)) for p in parents], deepest, root)

    def _check_nested(self, parents: list[set[int]], root: int) -> None:
        def place(node: int) -> str:
            return f"in {self.level[node]} '{self.group[node]}'" if node < root else "outside them"

        faults = [
            Fault(
                f"{self.level[node]} '{self.group[node]}'",
                "households " + " and ".join(place(p) for p in sorted(above)[:4]),
                "each group with a quota inside one larger group",
                "Correct the groups of these households, or give the quota on another level.",
            )
            for node, above in enumerate(parents)
            if len(above) > 1
        ]
        if faults:
            raise DeclarationError(_first(faults))

    def _arrange(self, parents: list[int], deepest: np.ndarray, root: int) -> QuotaTree:
        below: list[list[int]] = [[] for _ in range(root + 1)]
        for node, parent in enumerate(parents):
            below[parent].append(node)
        leaf = np.arange(root + 1)
        for node in np.unique(deepest):
            if below[node]:
                leaf[node] = len(below)
                below[node].append(len(below))
                below.append([])
                self.level.append("")
                self.group.append(self.group[node])
                self.lower.append(0)
                self.upper.append(NO_LIMIT)
        order, starts = _postorder(below, root)
        new = np.argsort(order)
        return QuotaTree(
            level=tuple(self.level[node] for node in order),
            group=tuple(self.group[node] for node in order),
            children=tuple(tuple(int(new[child]) for child in below[node]) for node in order),
            first_below=tuple(starts),
            lower=np.array(self.lower, dtype=np.int64)[order],
            upper=np.array(self.upper, dtype=np.int64)[order],
            leaf=new[leaf[deepest]],
        )


def _quota_of(quotas: int | dict[str, int] | None, group: str, otherwise: int) -> int:
    if isinstance(quotas, dict):
        return quotas.get(group, otherwise)
    return otherwise if quotas is None else quotas


def _postorder(below: list[list[int]], root: int) -> tuple[list[int], list[int]]:
    order: list[int] = []
    starts: list[int] = []

    def visit(node: int) -> None:
        start = len(order)
        for child in below[node]:
            visit(child)
        order.append(node)
        starts.append(start)

    visit(root)
    return order, starts


def find_bounds(tree: QuotaTree, leaf: np.ndarray, lower: np.ndarray | None = None) -> Bounds:
    """Quotas for the households that can be visited.

    Parameters
    ----------
    tree
        The quotas.
    leaf
        Leaf of each household that can be visited.
    lower
        Minima to keep instead of the declared ones.

    Returns
    -------
    Bounds
        A group's minimum is never more than the households it has.

    Raises
    ------
    DeclarationError
        The minima cannot be met within the capacities.
    """
    size = tree.sum_up(np.bincount(leaf, minlength=len(tree.level)))
    lower = np.minimum(tree.lower if lower is None else lower, size)
    upper = np.minimum(tree.upper, size)
    demand, most = lower.copy(), upper.copy()
    faults: list[Fault] = []
    for node, below in enumerate(tree.children):
        if below:
            demand[node] = max(lower[node], demand[list(below)].sum())
            most[node] = min(upper[node], most[list(below)].sum())
        if demand[node] > most[node]:
            faults.append(
                Fault(
                    f"minimum in {tree.name(node)}",
                    f"{demand[node]} visits needed",
                    f"at most {most[node]}, which the capacities allow there",
                    "Lower the minima, or raise the capacities.",
                )
            )
            demand[node] = most[node]  # told once, not again for each group above
    if faults:
        raise DeclarationError(_first(faults))
    return Bounds(size, lower, upper, demand, most)
