"""Steps of single features as LightGBM's text, mixed into that of boosted trees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from poverty_risk.additive import Step, Steps

__all__ = ["mix_texts"]

BEYOND_NUMBERS = 1e300
"""The threshold that LightGBM asks for when it parts missing values from all others."""

CATEGORY, DEFAULT_LEFT, NAN_IS_MISSING = 1, 2, 8
"""Bits of LightGBM's ``decision_type``."""

VALUES: Final = re.compile(r"^(leaf_value|internal_value|split_gain)=(.*)$", re.MULTILINE)
TREE: Final = re.compile(r"^Tree=\d+\n", re.MULTILINE)


def mix_texts(boosted: str, intercept: float, steps: Sequence[Steps], share: float) -> str:
    """Text of a booster whose margin is the mean of boosted trees and a regression.

    Parameters
    ----------
    boosted
        Text of the boosted trees.
    intercept, steps
        From `fit_steps`, on the same columns.
    share
        Of the regression: 1 leaves out the boosted trees.

    Returns
    -------
    str
        To be read by LightGBM. The number of rows of a step decides, as in boosted trees, how much it
        counts in SHAP values.
    """
    head, _, rest = boosted.partition("\nTree=")
    trees, end, tail = ("Tree=" + rest).partition("end of trees")
    # Without their sizes LightGBM reads one tree after the other.
    head = "\n".join(line for line in head.split("\n") if not line.startswith("tree_sizes="))
    kept = [] if share == 1.0 else TREE.split(_scale(trees, 1.0 - share))[1:]
    rows = sum(step.count for step in _all_steps(steps[0])) if steps else 1
    added = [_write_leaf(intercept * share, rows), *(_Tree(one, share).write() for one in steps)]
    bodies = [body.strip("\n") for body in (*kept, *added)]
    texts = [f"Tree={number}\n{body}\n\n\n" for number, body in enumerate(bodies)]
    return f"{head.rstrip()}\n\n{''.join(texts)}{end}{tail}"


def _scale(trees: str, factor: float) -> str:
    def scale(found: re.Match[str]) -> str:
        return f"{found[1]}={_join(float(value) * factor for value in found[2].split())}"

    return VALUES.sub(scale, trees)


def _all_steps(steps: Steps) -> tuple[Step, ...]:
    return steps.known if steps.missing is None else (*steps.known, steps.missing)


def _write_leaf(value: float, rows: int) -> str:
    """A tree that asks nothing."""
    fields = {"num_leaves": 1, "num_cat": 0, "leaf_value": f"{value:.17g}", "leaf_count": rows}
    return _write_fields(fields | {"is_linear": 0, "shrinkage": 1})


class _Tree:
    """Halves the steps of a feature until each is a leaf: few questions from the root to any of them."""

    def __init__(self, steps: Steps, share: float) -> None:
        self.steps, self.share = steps, share
        self.leaves: list[Step] = []
        self.thresholds: list[float] = []
        self.decisions: list[int] = []
        self.children: list[list[int]] = []
        self.inside: list[list[Step]] = []
        self.sets: list[list[int]] = []
        self.gains: list[float] = []
        known = list(steps.known)
        if steps.missing is None:
            self._grow(known)
        else:
            self._part(known, [steps.missing])

    def _grow(self, steps: list[Step]) -> int:
        if len(steps) == 1:
            self.leaves.append(steps[0])
            return -len(self.leaves)
        half = len(steps) // 2
        return self._part(steps[:half], steps[half:])

    def _part(self, left: list[Step], right: list[Step]) -> int:
        number = len(self.children)
        self.children.append([])
        self.inside.append(left + right)
        mean = _mean(left + right)
        sides = [(_mean(side) - mean) ** 2 * _weigh(side) for side in (left, right)]
        self.gains.append(sum(sides) * self.share)
        missing = self.steps.missing
        if self.steps.categorical:
            self.thresholds.append(len(self.sets))
            self.sets.append(_write_set([int(step.ends) for step in left]))
            self.decisions.append(CATEGORY)
        else:
            self.thresholds.append(min(left[-1].ends, BEYOND_NUMBERS))
            asks = DEFAULT_LEFT if missing is None else NAN_IS_MISSING
            self.decisions.append(asks)
        self.children[number] = [self._grow(left), self._grow(right)]
        return number

    def write(self) -> str:
        size = len(self.children)
        counts = _join(_count(steps) for steps in self.inside)
        fields: dict[str, object] = {
            "num_leaves": len(self.leaves),
            "num_cat": len(self.sets),
            "split_feature": _join([self.steps.position] * size),
            "split_gain": _join(self.gains),
            "threshold": _join(self.thresholds),
            "decision_type": _join(self.decisions),
            "left_child": _join(left for left, _ in self.children),
            "right_child": _join(right for _, right in self.children),
            "leaf_value": _join(step.height * self.share for step in self.leaves),
            "leaf_weight": _join(step.weight for step in self.leaves),
            "leaf_count": _join(step.count for step in self.leaves),
            "internal_value": _join(_mean(steps) * self.share for steps in self.inside),
            "internal_weight": _join(_weigh(steps) for steps in self.inside),
            "internal_count": counts,
        }
        if self.sets:
            ends = np.cumsum([0, *(len(words) for words in self.sets)])
            fields["cat_boundaries"] = _join(ends.tolist())
            fields["cat_threshold"] = _join(word for words in self.sets for word in words)
        return _write_fields(fields | {"is_linear": 0, "shrinkage": 1})


def _count(steps: Sequence[Step]) -> int:
    return sum(step.count for step in steps)


def _weigh(steps: Sequence[Step]) -> float:
    return sum(step.weight for step in steps)


def _mean(steps: Sequence[Step]) -> float:
    return sum(step.height * step.count for step in steps) / _count(steps)


def _write_set(codes: Sequence[int]) -> list[int]:
    """Codes as bits of 32-bit words."""
    words = [0] * (max(codes) // 32 + 1)
    for code in codes:
        words[code // 32] |= 1 << code % 32
    return words


def _join(values: Iterable[float]) -> str:
    return " ".join(f"{value:.17g}" for value in values)


def _write_fields(fields: dict[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in fields.items())
