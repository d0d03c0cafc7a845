"""Exact contributions of many rows: the trees prepared once, then a few look-ups per row and tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.shapley.deep import Deep, flatten_deep
from poverty_risk.shapley.plan import Piece, plan_pieces
from poverty_risk.shapley.questions import Columns, Questions
from poverty_risk.shapley.tables import Pieces, find_nodes, flatten_pieces
from poverty_risk.shapley.trees import Tree, read_trees

__all__ = ["TreeContributions"]

MOST_BITS = 11
"""Conditions of a piece at most. More of them make fewer look-ups, but tables that no cache holds."""

MOST_VALUES = 32 * 2**20
"""Values of all tables at most (256 MB); where they would be more, pieces are cut smaller."""

FEWEST_BITS = 4

BLOCK = 2048
"""Rows worked on at once: sums and places of a block stay in the second cache."""

DEEP_BLOCK = 256
"""The same where leaves are integrated, which go through a block row by row."""

SPAN = 4 * BLOCK
"""Rows that a thread takes at once."""

FEWEST_SHARED = 256
"""Fewer rows are done before threads have started."""


@dataclass(frozen=True)
class TreeContributions:
    """Path-dependent SHAP values of boosted trees, prepared for many rows.

    A leaf's Shapley values depend only on which of its path's features a row satisfies, so they are
    tabulated once for every pattern; leaves that share most of their path share a table, and leaves
    that are too deep for one are integrated. Made by `from_texts`.

    Parameters
    ----------
    base
        Mean margin over the training rows, log-odds.
    n_features
        Columns of the matrix.
    n_outputs
        Columns of the result besides the base.
    columns, pieces, table, deep
        As the engine reads them.
    """

    base: float
    n_features: int
    n_outputs: int
    columns: Columns
    pieces: Pieces
    table: np.ndarray
    deep: Deep

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        groups: Sequence[int] | None = None,
        *,
        most_bits: int = MOST_BITS,
    ) -> TreeContributions:
        """Prepare boosters, whose margins are averaged.

        Parameters
        ----------
        texts
            Texts of the boosters, all over the same columns.
        groups
            Column of the result that each feature counts for, such as its theme; by default its own.
        most_bits
            Conditions of a table at most, 1 to 16.

        Returns
        -------
        TreeContributions
            Ready to compute.

        Raises
        ------
        PovertyRiskError
            A text cannot be read, or holds linear trees, several classes or a random forest.

        Examples
        --------
        >>> import lightgbm, numpy as np
        >>> from poverty_risk.shapley import TreeContributions
        >>> X = np.random.default_rng(0).normal(size=(500, 3))
        >>> booster = lightgbm.train({"verbosity": -1}, lightgbm.Dataset(X, X[:, 0] + X[:, 1] ** 2), 5)
        >>> contributions = TreeContributions.from_texts([booster.model_to_string()]).compute(X)
        >>> bool(np.allclose(contributions, booster.predict(X, pred_contrib=True), atol=1e-12))
        True
        """
        trees, n_features = _read_all(texts)
        groups = list(range(n_features)) if groups is None else list(groups)
        questions = Questions(trees)
        owners = [groups[feature] for feature, _ in questions.keys]
        pieces, deep = _plan(trees, questions, owners, most_bits)
        flat, leaves = flatten_pieces(pieces, questions, owners)
        from poverty_risk.shapley.engine import fill_tables  # noqa: PLC0415 - numba takes a while

        table = np.zeros(int(flat.value_begin[-1]))
        fill_tables(flat, leaves, *_nodes_by_features(most_bits), table)
        return cls(
            base=sum(tree.mean for tree in trees),
            n_features=n_features,
            n_outputs=max(groups, default=-1) + 1,
            columns=questions.to_columns(),
            pieces=flat,
            table=table,
            deep=flatten_deep(deep, questions, owners),
        )

    def compute(self, X: np.ndarray, n_jobs: int = 1) -> np.ndarray:
        """Contributions of each row, as LightGBM's ``pred_contrib`` gives them.

        Parameters
        ----------
        X
            Shape (n, n_features), float32 or float64; missing as NaN, categories as codes.
        n_jobs
            Threads; 0 and below: all processors that the process may use.

        Returns
        -------
        ndarray
            Log-odds, shape (n, n_outputs + 1); the last column is the base. The same to the last bit
            for a row alone and among others, and for any number of threads.

        Raises
        ------
        FeatureError
            Another number of columns, or no numbers.

        Notes
        -----
        Besides the result it needs memory for `SPAN` rows and thread, however many rows there are.
        """
        if X.ndim != 2 or X.shape[1] != self.n_features or X.dtype.kind not in "fiub":
            raise FeatureError(
                Fault(
                    "matrix",
                    f"shape {X.shape} of type {X.dtype}",
                    f"numbers in {self.n_features} columns",
                    "Build the matrix with the model's own columns.",
                )
            )
        # Columns are worked out and read one by one.
        result = np.empty((self.n_outputs + 1, len(X)))
        threads = n_jobs if n_jobs > 0 else _count_processors()
        # A thread should have something to do even when there are few rows.
        span = max(1, min(SPAN, -(-len(X) // threads)))
        spans = [slice(begin, begin + span) for begin in range(0, len(X), span)]

        def explain(rows: slice) -> None:
            self._explain(X[rows], result[:, rows])

        if threads == 1 or len(X) < FEWEST_SHARED:
            for rows in spans:
                explain(rows)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(explain, spans):
                    pass
        return result.T

    def warm_up(self) -> None:
        """Load the engine, compiling it where that was never done, so that the first rows do not wait."""
        self.compute(np.full((1, self.n_features), np.nan))

    def _explain(self, X: np.ndarray, result: np.ndarray) -> None:
        from poverty_risk.shapley.engine import explain_rows  # noqa: PLC0415 - numba takes a while

        if X.dtype not in (np.float32, np.float64):
            X = X.astype(np.float32)  # as LightGBM does
        explain_rows(
            np.ascontiguousarray(X, dtype=np.float64),
            self.base,
            self.columns,
            self.pieces,
            self.table,
            self.deep,
            DEEP_BLOCK if len(self.deep.parent) else BLOCK,
            result,
        )


def _read_all(texts: Sequence[str]) -> tuple[list[Tree], int]:
    """Trees of all boosters, each with its share of the average."""
    read = [read_trees(text) for text in texts]
    widths = {n_features for _, n_features in read}
    if len(widths) != 1:
        raise FeatureError(
            Fault(
                "boosters",
                f"{len(read)} boosters over {sorted(widths)} columns",
                "at least one, all over the same columns",
                "Read the model folder again.",
            )
        )
    trees = [
        replace(tree, value=[value / len(read) for value in tree.value])
        for booster, _ in read
        for tree in booster
    ]
    return trees, widths.pop()


def _plan(
    trees: Sequence[Tree], questions: Questions, owners: Sequence[int], most_bits: int
) -> tuple[list[Piece], list[tuple[Tree, list[int]]]]:
    """Pieces as large as the tables' budget allows, and the deep leaves of each tree."""
    while True:
        plans = [plan_pieces(tree, questions, owners, most_bits) for tree in trees]
        pieces = [piece for found, _ in plans for piece in found]
        values = sum(piece.count_values(owners) for piece in pieces)
        if values <= MOST_VALUES or most_bits <= FEWEST_BITS:
            return pieces, [(tree, deep) for tree, (_, deep) in zip(trees, plans, strict=True)]
        most_bits -= 1


def _nodes_by_features(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for each number of features up to `most`, in the rows of two matrices."""
    nodes, weights = np.zeros((most + 1, most)), np.zeros((most + 1, most))
    for features in range(1, most + 1):
        own = find_nodes(features)
        nodes[features, : len(own[0])], weights[features, : len(own[1])] = own
    return nodes, weights


def _count_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
