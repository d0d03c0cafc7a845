"""Boosted trees averaged in log-odds: the one place that knows LightGBM."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

from poverty_risk.additive import Regression, fit_steps
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.tree_texts import mix_texts

__all__ = [
    "Booster",
    "Forest",
    "Rows",
    "boost",
    "boost_folds",
    "boost_halves",
    "cross_fit",
    "draw_folds",
    "draw_half",
    "mix",
    "set_parameters",
]

Booster = lightgbm.Booster

MAX_BIN = 255

EXTREMES = re.compile(r"^(feature_infos=)(.*)$", re.MULTILINE)
"""Where LightGBM's text holds the smallest and the largest value of each feature: each is one
household's, prediction reads neither, and a model folder leaves the office."""
FOLDS = 5_011
"""Names the stream of random numbers that folds are drawn from."""

FEWEST_SHARED = 64
"""Fewer rows are done by one thread before others have started."""


@dataclass(frozen=True)
class Rows:
    """Rows to boost on.

    Parameters
    ----------
    matrix
        Shape (n, n_features); categories as codes, missing as NaN.
    target
        0 or 1, shape (n,).
    weight
        Weight of each row, shape (n,); None for 1.
    names
        Name of each column.
    categorical
        Positions of the category columns.
    start
        Log-odds that boosting starts from, shape (n,); None for those of the base rate. They are no
        part of the trees: who predicts adds them again.
    regression
        What `mix` mixes into boosters on these rows; None for nothing.
    """

    matrix: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    names: Sequence[str]
    categorical: Sequence[int]
    start: np.ndarray | None = None
    regression: Regression | None = None

    def dataset(self, mask: np.ndarray, reference: lightgbm.Dataset | None) -> lightgbm.Dataset:
        """The masked rows as LightGBM takes them, binned like `reference`."""
        return lightgbm.Dataset(
            self.matrix[mask],
            label=self.target[mask],
            weight=None if self.weight is None else self.weight[mask],
            init_score=None if self.start is None else self.start[mask],
            feature_name=list(self.names),
            categorical_feature=list(self.categorical),
            reference=reference,
            params={"verbosity": -1, "max_bin": MAX_BIN},
        )

    def quantile(self, values: np.ndarray, mask: np.ndarray, share: float) -> float:
        """The value below which a share of the masked rows lies, each counted with its weight."""
        if self.weight is None:
            return float(np.quantile(values, share))
        weight = self.weight[mask]
        return float(np.quantile(values, share, weights=weight, method="inverted_cdf"))


def boost(
    rows: Rows,
    mask: np.ndarray,
    parameters: Mapping[str, Any],
    trees: int,
    later: np.ndarray | None = None,
    patience: int | None = None,
) -> lightgbm.Booster:
    """Boost trees on masked rows; with `later` and `patience` stop when later rows gain no more.

    Parameters
    ----------
    rows
        All rows.
    mask
        Which of them are boosted on.
    parameters
        Of LightGBM.
    trees
        Most trees.
    later
        Which rows decide when to stop; none: all trees.
    patience
        Rounds without gain before boosting stops; None: all trees.

    Returns
    -------
    Booster
        Read back from its text, so that a model that is loaded later is the same to the last bit.

    Raises
    ------
    FeatureError
        Nobody, or only households of one outcome, to boost on.
    """
    outcomes = rows.target[mask]
    if not 0 < outcomes.sum() < len(outcomes):
        raise FeatureError(
            Fault(
                "rows to boost on, those before the later dates and the embargo",
                f"{len(outcomes):,} with a label, {int(outcomes.sum()):,} of them with the outcome",
                "households with and without the outcome",
                "Add earlier as-of dates, widen the cohort, or train without embargo.",
            )
        )
    stopping = patience is not None and later is not None and bool(later.any())
    training = rows.dataset(mask, None)
    booster = lightgbm.train(
        dict(parameters),
        training,
        num_boost_round=trees,
        valid_sets=[rows.dataset(later, training)] if stopping and later is not None else None,
        callbacks=[lightgbm.early_stopping(int(patience or 0), verbose=False)] if stopping else [],
    )
    best = booster.best_iteration if stopping else -1
    text = EXTREMES.sub(_blank, booster.model_to_string(num_iteration=best))
    return lightgbm.Booster(model_str=text)


def _blank(found: re.Match[str]) -> str:
    return f"{found[1]}{' '.join(['none'] * len(found[2].split()))}"


def mix(
    boosters: Sequence[lightgbm.Booster], rows: Rows, mask: np.ndarray
) -> list[lightgbm.Booster]:
    """Boosters with the regression of the rows, fitted on the masked ones, as further trees."""
    if rows.regression is None:
        return list(boosters)
    weight = None if rows.weight is None else rows.weight[mask]
    mean, steps = fit_steps(
        rows.matrix[mask], rows.target[mask], weight, rows.categorical, rows.regression
    )
    share = rows.regression.share
    texts = [mix_texts(booster.model_to_string(), mean, steps, share) for booster in boosters]
    # Written once more by LightGBM: what is kept is its own text.
    mixed = [lightgbm.Booster(model_str=text).model_to_string() for text in texts]
    return [lightgbm.Booster(model_str=text) for text in mixed]


def set_parameters(
    settings: Mapping[str, Any], directions: Sequence[int], *, seed: int
) -> dict[str, Any]:
    """LightGBM's parameters from those of `RiskModel`; `directions` by column, or none."""
    parameters = {
        "objective": "binary",
        "learning_rate": settings["learning_rate"],
        "num_leaves": settings["num_leaves"],
        "max_depth": settings["max_depth"],
        "min_data_in_leaf": settings["min_child_samples"],
        "lambda_l2": settings["reg_lambda"],
        "bagging_fraction": settings["subsample"],
        "bagging_freq": 1 if settings["subsample"] < 1 else 0,
        "feature_fraction": settings["colsample"],
        "seed": seed,
        "num_threads": settings["n_jobs"],
        # The same trees whatever the number of threads.
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
        "metric": "binary_logloss",
    }
    if any(directions):
        parameters["monotone_constraints"] = list(directions)
        parameters["monotone_constraints_method"] = "intermediate"
    return parameters


def draw_half(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which rows belong to a random half of the groups (whole numbers from 0), shape (n,)."""
    size = int(groups.max()) + 1
    drawn = np.zeros(size, dtype=bool)
    drawn[rng.permutation(size)[: (size + 1) // 2]] = True
    return np.asarray(drawn[groups])


def boost_halves(
    rows: Rows,
    mask: np.ndarray,
    groups: np.ndarray,
    parameters: Sequence[Mapping[str, Any]],
    trees: int,
    seed: int,
) -> list[lightgbm.Booster]:
    """The same trees on random halves of the groups, one for each entry of `parameters`.

    They tell which reasons hold.
    """
    boosters = []
    for number, settings in enumerate(parameters):
        half = draw_half(groups, np.random.default_rng([seed, number]))
        # Half of the rows want half of the leaf size, or they would know less than they could.
        fewer = {"min_data_in_leaf": max(settings["min_data_in_leaf"] // 2, 1)}
        boosters += mix(
            [boost(rows, mask & half, dict(settings) | fewer, trees)], rows, mask & half
        )
    return boosters


def draw_folds(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Fold of each row (0 to `count` - 1), shape (n,): groups stay whole, folds get equally many.

    Raises
    ------
    DeclarationError
        Fewer than two folds.
    FeatureError
        One group only.
    """
    size = int(groups.max()) + 1
    if count < 2:
        raise DeclarationError(Fault("n_folds", f"{count}", "2 or more", "Ask for more."))
    if size < 2:
        fault = Fault("folds", "rows of one group", "two groups or more", "Name smaller groups.")
        raise FeatureError(fault)
    # A stream of its own: the trees and the halves of the refits are drawn from the seed, too.
    rng = np.random.default_rng([seed, FOLDS])
    return np.asarray((rng.permutation(size) % min(count, size))[groups])


def boost_folds(
    rows: Rows,
    folds: np.ndarray,
    parameters: Mapping[str, Any],
    trees: int,
    patience: int | None = None,
) -> Iterator[tuple[np.ndarray, lightgbm.Booster]]:
    """Leave out one fold after the other: trees of about the final size for rows they never saw.

    Parameters
    ----------
    rows
        All rows, all of them boosted on in turn.
    folds
        Fold of each row, from `draw_folds`.
    parameters
        Of LightGBM.
    trees
        Most trees of each fold.
    patience
        Rounds without gain on the fold left out before boosting stops; None: all trees.

    Yields
    ------
    left_out : ndarray
        Mask of the rows of the fold.
    booster : Booster
        Boosted on those of the other folds.
    """
    for left_out in _leave_out(folds):
        yield left_out, boost(rows, ~left_out, parameters, trees, left_out, patience)


def _leave_out(folds: np.ndarray) -> Iterator[np.ndarray]:
    return (folds == fold for fold in range(int(folds.max()) + 1))


def cross_fit(
    rows: Rows,
    folds: np.ndarray,
    parameters: Sequence[Mapping[str, Any]],
    trees: Sequence[int],
    n_jobs: int,
) -> np.ndarray:
    """Margins of all rows, shape (n,), each from trees of the other folds.

    Parameters
    ----------
    rows
        All rows.
    folds
        Fold of each row, from `draw_folds`.
    parameters, trees
        Of LightGBM, and the number of trees, of each booster whose margins are averaged.
    n_jobs
        Threads of LightGBM.

    Returns
    -------
    ndarray
        Log-odds of each row.
    """
    margins = np.empty(len(rows.target))
    for left_out in _leave_out(folds):
        pairs = zip(parameters, trees, strict=True)
        boosters = mix([boost(rows, ~left_out, *pair) for pair in pairs], rows, ~left_out)
        margins[left_out] = Forest(boosters, n_jobs).margins(rows.matrix[left_out])
    return margins


class Forest:
    """Boosters whose margins are averaged.

    Parameters
    ----------
    boosters
        At least one, all over the same columns.
    n_jobs
        Threads of LightGBM.
    """

    def __init__(self, boosters: Sequence[lightgbm.Booster], n_jobs: int = 2) -> None:
        self.boosters = tuple(boosters)
        self.n_jobs = n_jobs
        # One row costs as much again without it.
        self._base_margin: float | None = None

    @classmethod
    def from_texts(cls, texts: Sequence[str], columns: Sequence[str], n_jobs: int) -> Forest:
        """Read boosters back from their texts.

        Raises
        ------
        ValueError
            No boosters, a text that is none, or one over other columns.
        """
        if not texts:
            message = "no booster"
            raise ValueError(message)
        return cls([_read(text, list(columns)) for text in texts], n_jobs)

    @property
    def texts(self) -> list[str]:
        """Text of each booster."""
        return [booster.model_to_string() for booster in self.boosters]

    @property
    def trees(self) -> list[int]:
        """Number of trees of each booster."""
        return [booster.num_trees() for booster in self.boosters]

    def margins(self, matrix: np.ndarray) -> np.ndarray:
        """Log-odds of each row, shape (n,)."""
        return _average(self.margins_of_each(matrix))

    def margins_of_each(self, matrix: np.ndarray) -> list[np.ndarray]:
        """Log-odds of each booster alone, shape (n,) each."""
        threads = self._threads(matrix)
        return [
            np.asarray(b.predict(matrix, raw_score=True, num_threads=threads))
            for b in self.boosters
        ]

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """Path-dependent SHAP values in log-odds, shape (n, n_features)."""
        return _average([self._contributions(b, matrix) for b in self.boosters])

    def contributions_of_each(self, matrix: np.ndarray) -> np.ndarray:
        """The same for each booster alone, shape (n_boosters, n, n_features)."""
        return np.stack([self._contributions(b, matrix) for b in self.boosters])

    def _contributions(self, booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
        if not len(matrix):
            return np.empty(matrix.shape)  # LightGBM divides by the number of rows
        return self._contribute(booster, matrix)[:, :-1]

    def _contribute(self, booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
        """Contributions, and the base in the last column."""
        found = booster.predict(matrix, pred_contrib=True, num_threads=self._threads(matrix))
        values = np.asarray(found, dtype=np.float64)
        return values.reshape(len(matrix), matrix.shape[1] + 1)

    def _threads(self, matrix: np.ndarray) -> int:
        return 1 if len(matrix) < FEWEST_SHARED else self.n_jobs

    def base_margin(self, n_features: int) -> float:
        """Mean margin over the rows boosted on, in log-odds."""
        if self._base_margin is not None:
            return self._base_margin
        blank = np.full((1, n_features), np.nan)
        bases = [self._contribute(b, blank)[0, -1] for b in self.boosters]
        self._base_margin = float(np.mean(bases))
        return self._base_margin

    def leaves(self, matrix: np.ndarray) -> np.ndarray:
        """Leaf that each row falls into, shape (n, trees of all boosters)."""
        if not len(matrix):
            return np.empty((0, sum(b.num_trees() for b in self.boosters)), dtype=np.int32)
        parts = [
            np.asarray(
                b.predict(matrix, pred_leaf=True, num_threads=self._threads(matrix))
            ).reshape(len(matrix), -1)
            for b in self.boosters
        ]
        return np.concatenate(parts, axis=1).astype(np.int32)

    def thresholds(self) -> dict[int, np.ndarray]:
        """Sorted split points of each numeric column that the trees ask about, by its position."""
        found: dict[int, set[float]] = {}
        for booster in self.boosters:
            for tree in booster.dump_model()["tree_info"]:
                _collect(tree["tree_structure"], found)
        return {position: np.array(sorted(values)) for position, values in sorted(found.items())}


def _average(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean, summed in order: numpy sums eight and more in another order when there is one row."""
    if len(parts) == 1:
        return parts[0]
    total = np.array(parts[0], dtype=np.float64)
    for part in parts[1:]:
        total += part
    return np.asarray(total / len(parts))


def _collect(node: Mapping[str, Any], found: dict[int, set[float]]) -> None:
    if "split_index" not in node:
        return
    if node["decision_type"] == "<=":
        found.setdefault(int(node["split_feature"]), set()).add(float(node["threshold"]))
    _collect(node["left_child"], found)
    _collect(node["right_child"], found)


def _read(text: str, columns: list[str]) -> lightgbm.Booster:
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None
    if booster.feature_name() != columns:
        message = "booster and manifest name different features"
        raise ValueError(message)
    return booster
