"""Pieces of all trees as flat arrays, as the engine reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from poverty_risk.shapley.plan import Piece
from poverty_risk.shapley.questions import Questions, Tests

__all__ = ["Leaves", "Pieces", "find_ends", "find_nodes", "flatten_pieces"]


class Pieces(NamedTuple):
    """Pieces in order; piece ``p`` has what lies from ``begin[p]`` to ``begin[p + 1]`` of each kind.

    Fields
    ------
    tests
        Conditions of all pieces, one bit of a pattern each.
    test_begin, output_begin, value_begin
        Where each piece begins among tests, outputs and table values, and one end more.
    output
        Which column of the result each look-up is added to.
    """

    tests: Tests
    test_begin: np.ndarray
    output_begin: np.ndarray
    value_begin: np.ndarray
    output: np.ndarray


class Leaves(NamedTuple):
    """Leaves of all pieces, for building the tables.

    Fields
    ------
    begin
        Where each piece begins among leaves, and one end more.
    step_begin
        Where each leaf begins among steps, and one end more.
    value
        Of each leaf.
    cover, yes, no, slot
        Of each step: cover, bits that must be set, bits that must not, place among the outputs.
    """

    begin: np.ndarray
    step_begin: np.ndarray
    value: np.ndarray
    cover: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    slot: np.ndarray


def find_nodes(features: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], exact for the products over all but one of so many features."""
    nodes, weights = np.polynomial.legendre.leggauss(max(1, (features + 1) // 2))
    return (nodes + 1) / 2, weights / 2


def find_ends(counts: Sequence[int]) -> np.ndarray:
    """Where each of some runs begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def flatten_pieces(
    pieces: Sequence[Piece], questions: Questions, groups: Sequence[int]
) -> tuple[Pieces, Leaves]:
    """Arrays for look-ups, and those to build the tables from."""
    outputs = [piece.find_outputs(groups) for piece in pieces]
    leaves = [one for piece in pieces for one in piece.leaves]
    steps = [
        (step.cover, yes, no, own.index(groups[step.column]))
        for own, piece in zip(outputs, pieces, strict=True)
        for leaf, wanted in piece.leaves
        for step, (yes, no) in zip(leaf.path.values(), wanted, strict=True)
    ]
    cover, yes, no, slot = zip(*steps, strict=True) if steps else ((), (), (), ())
    return (
        Pieces(
            questions.to_tests([one for piece in pieces for one in piece.sets]),
            find_ends([len(piece.sets) for piece in pieces]),
            find_ends([len(own) for own in outputs]),
            find_ends([piece.count_values(groups) for piece in pieces]),
            np.array([output for own in outputs for output in own], dtype=np.int64),
        ),
        Leaves(
            find_ends([len(piece.leaves) for piece in pieces]),
            find_ends([len(leaf.path) for leaf, _ in leaves]),
            np.array([leaf.value for leaf, _ in leaves], dtype=np.float64),
            np.array(cover, dtype=np.float64),
            np.array(yes, dtype=np.uint32),
            np.array(no, dtype=np.uint32),
            np.array(slot, dtype=np.int64),
        ),
    )
