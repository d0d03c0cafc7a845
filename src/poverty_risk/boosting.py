"""Boosting: rows in, LightGBM's trees out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

from poverty_risk.additive import Regression, fit_steps
from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.tree_texts import mix_texts

__all__ = [
    "Booster",
    "Rows",
    "boost",
    "mix",
    "set_parameters",
]

Booster = lightgbm.Booster

MAX_BIN = 255

GRADED = "cross_entropy"
"""LightGBM's objective, and its metric, for labels between 0 and 1."""

EXTREMES = re.compile(r"^(feature_infos=)(.*)$", re.MULTILINE)
"""Where LightGBM's text holds the smallest and the largest value of each feature: each is one
household's, prediction reads neither, and a model folder leaves the office."""


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
    graded
        From 0 to 1, shape (n,): what trees learn in place of `target`, and stop by; None for nothing.
    """

    matrix: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    names: Sequence[str]
    categorical: Sequence[int]
    start: np.ndarray | None = None
    regression: Regression | None = None
    graded: np.ndarray | None = None

    def dataset(self, mask: np.ndarray, reference: lightgbm.Dataset | None) -> lightgbm.Dataset:
        """The masked rows as LightGBM takes them, binned like `reference`."""
        return lightgbm.Dataset(
            self.matrix[mask],
            label=(self.target if self.graded is None else self.graded)[mask],
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
    # LightGBM's `binary` knows 0 and 1 alone.
    objective = {} if rows.graded is None else {"objective": GRADED, "metric": GRADED}
    stopping = patience is not None and later is not None and bool(later.any())
    training = rows.dataset(mask, None)
    booster = lightgbm.train(
        dict(parameters) | objective,
        training,
        num_boost_round=trees,
        valid_sets=[rows.dataset(later, training)] if stopping and later is not None else None,
        callbacks=[lightgbm.early_stopping(int(patience or 0), verbose=False)] if stopping else [],
    )
    best = booster.best_iteration if stopping else -1
    text = EXTREMES.sub(_blank, booster.model_to_string(num_iteration=best))
    if rows.graded is not None:
        # What reads models knows `binary`, whose link is the same.
        head, found, tail = text.partition(f"\nobjective={GRADED}\n")
        if not found:
            name, fix = f"objective={GRADED}", "Take the LightGBM of requirements.lock."
            raise FeatureError(Fault("trees of graded labels", f"no line '{name}'", "one", fix))
        text = f"{head}\nobjective=binary sigmoid:1\n{tail}"
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
