"""Trees of a LightGBM model, read from its text: what each split asks and how many rows went where."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = ["Asks", "Tree", "read_trees"]

READ_AGAIN = "Read the model folder again."
PLAIN_REMEDY = "Explain it with engine='plain', if LightGBM can."

CATEGORY_BIT, LEFT_BIT, MISSING_SHIFT = 1, 2, 2
"""How LightGBM packs a split's ``decision_type``: category, missing goes left, what counts as missing."""


class Asks(IntEnum):
    """What a split asks of a value: which values count as missing, or which category it is."""

    NUMBER = 0
    """Nothing counts as missing; NaN is read as 0."""
    NUMBER_NOT_ZERO = 1
    """0 and NaN count as missing (``zero_as_missing``)."""
    NUMBER_NOT_NAN = 2
    """NaN counts as missing."""
    CATEGORY = 3
    """Codes of a set go left; every other value, NaN and negative ones too, right."""


@dataclass(frozen=True)
class Tree:
    """A tree in LightGBM's order: a child comes after its parent; child ``-1 - k`` is leaf ``k``.

    Parameters
    ----------
    feature, threshold, asks, missing_left
        Of each split. The threshold of a category split has no meaning.
    codes
        Of each category split the codes that go left; empty for other splits.
    left, right
        Children of each split.
    split_rows, leaf_rows
        Training rows that came to each split and to each leaf.
    value
        Of each leaf.
    """

    feature: list[int]
    threshold: list[float]
    asks: list[Asks]
    missing_left: list[bool]
    codes: list[tuple[int, ...]]
    left: list[int]
    right: list[int]
    split_rows: list[int]
    leaf_rows: list[int]
    value: list[float]

    def rows(self, child: int) -> int:
        """Training rows that came to a child."""
        return self.split_rows[child] if child >= 0 else self.leaf_rows[-1 - child]

    @property
    def mean(self) -> float:
        """Mean value over the training rows."""
        if not self.feature:
            return self.value[0]
        total = self.split_rows[0]
        return sum(
            rows / total * value for rows, value in zip(self.leaf_rows, self.value, strict=True)
        )


def read_trees(text: str) -> tuple[list[Tree], int]:
    """Read the trees from the text of a booster.

    Parameters
    ----------
    text
        As `lightgbm.Booster.model_to_string` gives it.

    Returns
    -------
    trees : list of Tree
        In order.
    n_features : int
        Columns of the matrix that the booster reads.

    Raises
    ------
    PovertyRiskError
        The text is none of a booster, or one that cannot be explained by tables: linear trees,
        several classes, or a random forest.

    Examples
    --------
    >>> import lightgbm, numpy as np
    >>> from poverty_risk.shapley.trees import read_trees
    >>> X = np.arange(90.0).reshape(-1, 1)
    >>> booster = lightgbm.train({"verbosity": -1}, lightgbm.Dataset(X, X[:, 0] > 50), 1)
    >>> trees, n_features = read_trees(booster.model_to_string())
    >>> len(trees), n_features, trees[0].asks[0].name
    (1, 1, 'NUMBER')
    """
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    header = _fields(head)
    if not blocks or "max_feature_idx" not in header:
        raise PovertyRiskError(Fault("booster", "no trees", "a text of LightGBM", READ_AGAIN))
    if header.get("num_tree_per_iteration") != "1" or "average_output" in head.splitlines():
        raise PovertyRiskError(
            Fault(
                "booster",
                "several classes or a random forest",
                "boosted trees of one outcome",
                PLAIN_REMEDY,
            )
        )
    return [_read_tree(_fields(block)) for block in blocks], int(header["max_feature_idx"]) + 1


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {name: value for name, sign, value in pairs if sign}


def _read_tree(fields: dict[str, str]) -> Tree:
    if fields.get("is_linear", "0") != "0":
        raise PovertyRiskError(
            Fault(
                "booster",
                "linear trees",
                "trees with constant leaves",
                "Train without linear_tree to explain.",
            )
        )
    splits = int(fields["num_leaves"]) - 1
    packed = _integers(fields, "decision_type", splits)
    thresholds = _numbers(fields, "threshold", splits)
    sets = list(_code_sets(fields))
    categorical = [bool(one & CATEGORY_BIT) for one in packed]
    tree = Tree(
        feature=_integers(fields, "split_feature", splits),
        threshold=thresholds,
        asks=[
            Asks.CATEGORY if one & CATEGORY_BIT else Asks(one >> MISSING_SHIFT & 3)
            for one in packed
        ],
        missing_left=[bool(one & LEFT_BIT) for one in packed],
        # The threshold of a category split is the place of its set.
        codes=[
            sets[int(at)] if is_category else ()
            for at, is_category in zip(thresholds, categorical, strict=True)
        ],
        left=_integers(fields, "left_child", splits),
        right=_integers(fields, "right_child", splits),
        split_rows=_integers(fields, "internal_count", splits),
        leaf_rows=_integers(fields, "leaf_count", splits + 1 if splits else 0),
        value=_numbers(fields, "leaf_value", splits + 1),
    )
    _check_shape(tree)
    return tree


def _integers(fields: dict[str, str], name: str, count: int) -> list[int]:
    return [int(value) for value in _values(fields, name, count)]


def _numbers(fields: dict[str, str], name: str, count: int) -> list[float]:
    return [float(value) for value in _values(fields, name, count)]


def _values(fields: dict[str, str], name: str, count: int) -> list[str]:
    values = fields.get(name, "").split() if count else []
    if len(values) != count:
        raise PovertyRiskError(
            Fault("booster", f"{len(values)} values of {name}", f"{count} of them", READ_AGAIN)
        )
    return values


def _code_sets(fields: dict[str, str]) -> Iterator[tuple[int, ...]]:
    """Codes of each set: bits of 32-bit words, the words of all sets in one row."""
    words = np.array(fields.get("cat_threshold", "").split(), dtype=np.uint32)
    bounds = [int(value) for value in fields.get("cat_boundaries", "").split()]
    for begin, end in itertools.pairwise(bounds):
        bits = np.unpackbits(words[begin:end].astype("<u4").view(np.uint8), bitorder="little")
        yield tuple(np.flatnonzero(bits).tolist())


def _check_shape(tree: Tree) -> None:
    """Each split and leaf is somebody's child once, after its parent: all else goes round in circles."""
    children: Sequence[int] = [*tree.left, *tree.right]
    splits = len(tree.feature)
    expected = set(range(1, splits)) | {-1 - leaf for leaf in range(splits + 1)}
    later = all(
        child < 0 or child > parent
        for side in (tree.left, tree.right)
        for parent, child in enumerate(side)
    )
    if splits and (set(children) != expected or len(children) != len(expected) or not later):
        raise PovertyRiskError(
            Fault("booster", "a tree in knots", "children after parents", READ_AGAIN)
        )
    kinds: dict[int, Asks] = {}
    for feature, asks in zip(tree.feature, tree.asks, strict=True):
        if kinds.setdefault(feature, asks) is not asks:
            raise PovertyRiskError(
                Fault(
                    "booster",
                    f"two ways of missing for column {feature} in one tree",
                    "one way",
                    PLAIN_REMEDY,
                )
            )
