"""Which leaves of a tree are tabulated together, and which are too deep for tables.

A leaf's Shapley values depend only on which features of its path the row satisfies: at most 2^d
patterns for d features. The leaves below one split have nearly the same path, so that one table serves
them all: its patterns are the path's features (does the row get as far as the split?) and the splits
below. A row then costs one look-up per feature and piece, instead of one per feature and leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from poverty_risk.shapley.questions import Questions
from poverty_risk.shapley.trees import Tree

__all__ = ["Leaf", "Piece", "Step", "find_paths", "plan_pieces"]

SET_COST = 0.1
"""Cost of one more condition per piece and row, where one more look-up costs 1."""


@dataclass(frozen=True)
class Step:
    """One feature on the way to a split or leaf, all of its conditions together.

    Parameters
    ----------
    column
        Number of the column in `Questions`.
    places
        Places that satisfy every condition on it so far.
    cover
        Share of the training rows that the conditions let through, as a product over the splits.
    """

    column: int
    places: int
    cover: float


@dataclass(frozen=True)
class Leaf:
    """A leaf: its value and the features on its path.

    Parameters
    ----------
    value
        Log-odds.
    path
        By column, in the order of their first split.
    """

    value: float
    path: dict[int, Step]


@dataclass(frozen=True)
class Piece:
    """Leaves that share one table.

    Parameters
    ----------
    sets
        (column, places) of each bit of a pattern.
    leaves
        Leaf, and for each of its features which bits must be set and which must not.
    """

    sets: list[tuple[int, int]]
    leaves: list[tuple[Leaf, list[tuple[int, int]]]]

    def find_outputs(self, groups: Sequence[int]) -> list[int]:
        """Columns of the result that the piece counts for; `groups` names them by column asked."""
        return sorted({groups[column] for column, _ in self.sets})

    def count_values(self, groups: Sequence[int]) -> int:
        """Size of its table."""
        return len(self.find_outputs(groups)) << len(self.sets)


@dataclass
class _Below:
    """What is asked at a split and below: sets by their (column, places), and the columns."""

    cost: float
    sets: set[tuple[int, int]] = field(default_factory=set)
    merged: bool = True


def find_paths(tree: Tree, questions: Questions) -> tuple[list[dict[int, Step]], list[Leaf]]:
    """Paths to all splits, and all leaves."""
    paths: list[dict[int, Step]] = [{} for _ in tree.feature]
    leaves = [Leaf(value, {}) for value in tree.value]
    for split in range(len(tree.feature)):
        column, left = questions.column(tree, split), questions.left(tree, split)
        everything = questions.everything(column)
        before = paths[split].get(column, Step(column, everything, 1.0))
        for child, places in (
            (tree.left[split], left),
            (tree.right[split], everything ^ left),
        ):
            cover = before.cover * (tree.rows(child) / max(tree.split_rows[split], 1))
            path = paths[split] | {column: Step(column, before.places & places, cover)}
            if child >= 0:
                paths[child] = path
            else:
                leaves[-1 - child] = Leaf(tree.value[-1 - child], path)
    return paths, leaves


def plan_pieces(
    tree: Tree, questions: Questions, groups: Sequence[int], most_bits: int
) -> tuple[list[Piece], list[int]]:
    """Cut a tree into pieces whose tables have at most 2^most_bits patterns.

    Parameters
    ----------
    tree
        The tree; one without splits has no pieces.
    questions
        Of all trees.
    groups
        Which output each column of `questions` counts for.
    most_bits
        Largest number of conditions of a piece.

    Returns
    -------
    pieces : list of Piece
        Every leaf with at most `most_bits` features is in one of them.
    deep : list of int
        Numbers of the other leaves.
    """
    paths, leaves = find_paths(tree, questions)
    found: dict[int, _Below] = {}
    for child in [-1 - leaf for leaf in range(len(leaves))]:
        path = leaves[-1 - child].path
        cost = _cost(path, set(), groups)
        found[child] = _Below(cost, merged=len(path) <= most_bits)
    for split in reversed(range(len(tree.feature))):
        left, right = found[tree.left[split]], found[tree.right[split]]
        own = (questions.column(tree, split), questions.left(tree, split))
        sets = left.sets | right.sets | {own}
        cost = _cost(paths[split], sets, groups)
        apart = left.cost + right.cost
        merged = (
            left.merged
            and right.merged
            and len(paths[split]) + len(sets) <= most_bits
            and cost <= apart
        )
        found[split] = _Below(cost if merged else apart, sets, merged)
    return _cut(tree, questions, paths, leaves, found)


def _cost(path: dict[int, Step], sets: set[tuple[int, int]], groups: Sequence[int]) -> float:
    columns = set(path) | {column for column, _ in sets}
    return len({groups[column] for column in columns}) + SET_COST * (len(path) + len(sets))


def _cut(
    tree: Tree,
    questions: Questions,
    paths: list[dict[int, Step]],
    leaves: list[Leaf],
    found: dict[int, _Below],
) -> tuple[list[Piece], list[int]]:
    pieces, deep = [], []
    waiting = [0] if tree.feature else []
    while waiting:
        child = waiting.pop()
        if found[child].merged:
            path = paths[child] if child >= 0 else leaves[-1 - child].path
            pieces.append(_build_piece(tree, questions, leaves, child, path, found[child].sets))
        elif child >= 0:
            waiting += [tree.right[child], tree.left[child]]
        else:
            deep.append(-1 - child)
    return pieces, deep


def _build_piece(
    tree: Tree,
    questions: Questions,
    leaves: list[Leaf],
    top: int,
    path: dict[int, Step],
    below: set[tuple[int, int]],
) -> Piece:
    above = {column: bit for bit, column in enumerate(path)}
    inner = {one: bit for bit, one in enumerate(sorted(below), start=len(path))}
    sets = [(step.column, step.places) for step in path.values()] + list(inner)
    # Bits that must and must not be set for each feature, on the way from the top of the piece down.
    start = {column: (1 << bit, 0) for column, bit in above.items()}
    piece = Piece(sets, [])
    waiting = [(top, start)]
    while waiting:
        child, wanted = waiting.pop()
        if child < 0:
            leaf = leaves[-1 - child]
            piece.leaves.append((leaf, [wanted[column] for column in leaf.path]))
            continue
        own = (questions.column(tree, child), questions.left(tree, child))
        bit = 1 << inner[own]
        yes, no = wanted.get(own[0], (0, 0))
        waiting.append((tree.right[child], wanted | {own[0]: (yes, no | bit)}))
        waiting.append((tree.left[child], wanted | {own[0]: (yes | bit, no)}))
    return piece
