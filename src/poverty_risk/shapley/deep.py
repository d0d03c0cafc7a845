"""Leaves too deep for tables: their paths as trees of edges, worked through by quadrature.

For a leaf of value v whose path asks features j with covers z_j, of which a row satisfies b_j (0 or 1),

    phi_k = v * (b_k - z_k) * integral over x in [0, 1] of prod_{j != k} (x * b_j + (1 - x) * z_j) dx,

and a few Gauss-Legendre nodes give the integral exactly. All leaves of a tree share the products along
their common way: they are carried down edge by edge, summed up again, and each edge counts for its
feature what the sum below it says. Where a feature comes again, the later edge takes back what the
earlier one counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from poverty_risk.shapley.plan import find_paths
from poverty_risk.shapley.questions import Questions, Tests
from poverty_risk.shapley.tables import find_ends, find_nodes
from poverty_risk.shapley.trees import Tree

__all__ = ["Deep", "flatten_deep"]

REGISTER = 4
"""Nodes are padded to a multiple of it, with weight 0, so that they fill vector registers."""


class Deep(NamedTuple):
    """Edges on the way to deep leaves, parents first.

    Fields
    ------
    tests
        Of each edge: does a row satisfy all conditions on the edge's feature so far?
    begin
        Where each tree begins among edges, and one end more.
    parent, earlier
        Within the tree: the edge above, and the last edge above about the same feature; -1 for none.
    output
        Which column of the result an edge counts for.
    value
        Of the leaf at the end of the edge; 0 where there is a split.
    factor, weight
        Shape (edges, 3, nodes), by how many of the earlier edge and this one a row satisfies: what the
        product along the way is multiplied by, and how much the sum below counts.
    """

    tests: Tests
    begin: np.ndarray
    parent: np.ndarray
    earlier: np.ndarray
    output: np.ndarray
    value: np.ndarray
    factor: np.ndarray
    weight: np.ndarray


class _Edge(NamedTuple):
    column: int
    places: int
    cover: float
    parent: int
    earlier: int
    value: float


def flatten_deep(
    trees: Sequence[tuple[Tree, Sequence[int]]], questions: Questions, groups: Sequence[int]
) -> Deep:
    """Edges to the given leaves of each tree."""
    found = [_find_edges(tree, leaves, questions) for tree, leaves in trees if leaves]
    edges = [edge for tree, _ in found for edge in tree]
    nodes, weights = find_nodes(max((depth for _, depth in found), default=1))
    more = -len(nodes) % REGISTER
    nodes, weights = np.pad(nodes, (0, more), constant_values=0.5), np.pad(weights, (0, more))
    before = [
        tree[edge.earlier].cover if edge.earlier >= 0 else np.nan
        for tree, _ in found
        for edge in tree
    ]
    cover = np.array([edge.cover for edge in edges], dtype=np.float64)
    factor, weight = _find_terms(cover, np.array(before, dtype=np.float64), nodes)
    return Deep(
        questions.to_tests([(edge.column, edge.places) for edge in edges]),
        find_ends([len(tree) for tree, _ in found]),
        np.array([edge.parent for edge in edges], dtype=np.int64),
        np.array([edge.earlier for edge in edges], dtype=np.int64),
        np.array([groups[edge.column] for edge in edges], dtype=np.int64),
        np.array([edge.value for edge in edges], dtype=np.float64),
        factor,
        weight * weights,
    )


def _find_edges(tree: Tree, leaves: Sequence[int], questions: Questions) -> tuple[list[_Edge], int]:
    """Edges that lead to the leaves, and the most features on one path."""
    paths, ends = find_paths(tree, questions)
    needed = {-1 - leaf for leaf in leaves}
    for split in reversed(range(len(tree.feature))):
        if tree.left[split] in needed or tree.right[split] in needed:
            needed.add(split)
    edges: list[_Edge] = []
    # Per split: the edge that leads to it, and the last edge about each column on the way.
    above: dict[int, tuple[int, dict[int, int]]] = {0: (-1, {})}
    for split in range(len(tree.feature)):
        if split not in needed:
            continue
        parent, last = above[split]
        column = questions.column(tree, split)
        for child in (tree.left[split], tree.right[split]):
            if child not in needed:
                continue
            leaf = ends[-1 - child] if child < 0 else None
            step = paths[child][column] if leaf is None else leaf.path[column]
            value = 0.0 if leaf is None else leaf.value
            earlier = last.get(column, -1)
            edges.append(_Edge(column, step.places, step.cover, parent, earlier, value))
            above[child] = (len(edges) - 1, last | {column: len(edges) - 1})
    return edges, max(len(ends[leaf].path) for leaf in leaves)


def _find_terms(
    cover: np.ndarray, before: np.ndarray, nodes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factors and weights without the nodes' own weights; `before` is NaN for first edges."""
    first = np.isnan(before)[:, None]
    z, earlier = cover[:, None], np.where(first, 1.0, before[:, None])
    met, unmet = nodes + (1 - nodes) * z, (1 - nodes) * z
    met_before = np.where(first, 1.0, nodes + (1 - nodes) * earlier)
    known, unknown = (1 - z) / met, np.broadcast_to(-1 / (1 - nodes), met.shape)
    known_before = np.where(first, 0.0, (1 - earlier) / met_before)
    again = np.divide(z, earlier, out=np.zeros_like(z), where=earlier > 0)
    factor = np.stack(
        [
            np.where(first, unmet, again),
            np.where(first, met, unmet / met_before),
            met / met_before,
        ],
        axis=1,
    )
    weight = np.stack(
        [
            np.where(first, unknown, 0.0),
            np.where(first, known, unknown - known_before),
            known - known_before,
        ],
        axis=1,
    )
    return factor, weight
