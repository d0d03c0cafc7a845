"""Choices for the EPH panel, made on earlier periods alone: the test year is not even read.

Run with ``python benchmarks/eph_choices.py``; the figures are printed and kept in ``results/``. Each
choice is fitted three times, on the dates whose outcomes were known at the start of a year, and tested
on the lifts of that year (2007, 2008, 2009). Differences to the first choice are means over the years,
with intervals over households, the same resamples for all. The number of
trees is part of the choice, nothing stops early: the table orders choices, it is no result.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from eph_panel import FOLDER, Study, read_study
from measuring import peak_memory_gb, run_script
from scipy.special import logit

from poverty_risk import RiskModel
from poverty_risk.baselines import LogisticBaseline
from poverty_risk.bootstrap import compute_ends, iter_resamples, number_clusters
from poverty_risk.ranking import Ranking, align_outcomes

# Last date learned from, and the dates tested on: outcomes of the first are known before the second.
YEARS = {
    "2007": ("2006-01-01", "2007-04-01", "2008-01-01"),
    "2008": ("2007-01-01", "2008-04-01", "2009-01-01"),
    "2009": ("2008-01-01", "2009-04-01", "2010-01-01"),
}
LABEL = "poor_at_12mo"
TASKS = {"return": "lifted", "entry": "not_poor"}
METRICS = ("auc", "average_precision")
SETTINGS: dict[str, Any] = {
    "n_estimators": 160,
    "learning_rate": 0.06,
    "num_leaves": 15,
    "max_depth": 8,
    "min_child_samples": 100,
    "reg_lambda": 10.0,
    "subsample": 0.7,
    "colsample": 0.3,
    "calibration": None,
    "early_stopping_rounds": None,
}
LOGISTIC_C = 0.05

# Features by the first word of what they were added for: names are those of the catalogue.
ADDED = {
    "work": "skill head_skill unskilled skilled domestic construction state small_workplace workplace "
    "head_workplace longest_job shortest_job head_job new_job old_job benefits head_benefits "
    "own_pension want_more seek_other search",
    "pay": "weekly_pay head_weekly_pay least_earner other_earners",
    "one_off": "one_off thirteenth_pension job_loss_pay other_sources regular_income decile",
    "answers": "imputed_members imputed_income unanswered",
    "origin": "foreign_born born_elsewhere moved_here cannot_read private_pupils schooling "
    "head_schooling worker_schooling",
    "movement": "joined left jobs_lost jobs_found lost_earnings found_earnings steady raises cuts "
    "largest_raise became_formal lost_formal",
}


def names_without(study: Study, *groups: str) -> list[str]:
    """Features of the model without some groups of those that were added."""
    stems = tuple(stem for group in groups for stem in ADDED[group].split())
    return [name for name in study.catalog.model_names if not name.startswith(stems or ("\0",))]


@dataclass(frozen=True)
class Choice:
    """One way to learn.

    Parameters
    ----------
    left_out
        Groups of features that are not given.
    cohort
        Cohort that is learned from; None: the one that is scored.
    settings
        Parameters of the model that differ from `SETTINGS`; None: logistic regression as scikit-learn
        fits it, without steps or directions.
    graded
        Spread that labels are graded by, for trees to learn from; 0: they are not.
    """

    left_out: tuple[str, ...] = ()
    cohort: str | None = "everyone"
    settings: Mapping[str, Any] | None = field(default_factory=dict)
    graded: float = 0.0

    def fit(
        self, study: Study, rows: pd.Series, cohort: str
    ) -> Callable[[pd.DataFrame], np.ndarray]:
        """What gives the margin of points, learned from some rows."""
        names = names_without(study, *self.left_out)
        learned = study.features.loc[rows.index]
        if self.settings is None:
            regression = LogisticBaseline(LOGISTIC_C).fit(learned[names], rows)
            return lambda asked: logit(regression.predict_proba(asked[names])[:, 1])
        task = study.task(LABEL, cohort)
        model = RiskModel(study.catalog.select(names), task, **(SETTINGS | dict(self.settings)))
        model.fit(learned, rows, graded=study.grade(rows, self.graded))
        return lambda asked: model.margin(asked).to_numpy()


SIX_LEAVES = {"num_leaves": 6, "max_depth": 3, "n_estimators": 300}
LARGER_LEAVES = SIX_LEAVES | {"logistic": 0.5, "n_estimators": 600, "min_child_samples": 300}
MORE_TREES = LARGER_LEAVES | {"n_estimators": 1000}
CHOICES = {
    "features_before": Choice(tuple(ADDED)),
    "all_features": Choice(),
    "six_leaves": Choice(settings=SIX_LEAVES),
    "six_leaves_quarter_logistic": Choice(settings=SIX_LEAVES | {"logistic": 0.25}),
    "six_leaves_half_logistic": Choice(settings=SIX_LEAVES | {"logistic": 0.5}),
    "six_leaves_half_logistic_c_0.05": Choice(
        settings=SIX_LEAVES | {"logistic": 0.5, "logistic_c": 0.05}
    ),
    "six_leaves_half_logistic_c_0.0005": Choice(
        settings=SIX_LEAVES | {"logistic": 0.5, "logistic_c": 0.0005}
    ),
    "first_interview_too": Choice(
        cohort="seen", settings=SIX_LEAVES | {"logistic": 0.5, "n_estimators": 600}
    ),
    "first_interview_too_larger_leaves": Choice(cohort="seen", settings=LARGER_LEAVES),
    "first_interview_too_more_trees": Choice(cohort="seen", settings=MORE_TREES),
    "graded_0.25": Choice(cohort="seen", settings=MORE_TREES, graded=0.25),
    "graded_0.5": Choice(cohort="seen", settings=MORE_TREES, graded=0.5),
    "graded_0.8": Choice(cohort="seen", settings=MORE_TREES, graded=0.8),
    "logistic_as_trees": Choice(settings={"logistic": 1.0, "n_estimators": 1}),
    "learned_from_the_scored_alone": Choice(cohort=None),
    "logistic_on_the_scored": Choice(cohort=None, settings=None),
    "logistic_on_everyone": Choice(settings=None),
    "half_logistic": Choice(settings={"logistic": 0.5}),
    "no_directions": Choice(settings={"monotone": False}),
    "three_seeds": Choice(settings={"n_seeds": 3}),
}
CHOICES |= {f"without_{group}": Choice((group,)) for group in ADDED}


def compare(study: Study, choices: Mapping[str, Choice], replicates: int) -> dict[str, Any]:
    """Metrics by task and choice, with differences to the first choice."""
    parts: dict[str, list[tuple[pd.Series, dict[str, np.ndarray]]]] = {task: [] for task in TASKS}
    for last, first, end in YEARS.values():
        asked = {task: study.rows(LABEL, cohort, first, end) for task, cohort in TASKS.items()}
        margins: dict[str, dict[str, np.ndarray]] = {task: {} for task in TASKS}
        for name, choice in choices.items():
            fitted: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {}
            for task, cohort in TASKS.items():
                source = choice.cohort or cohort
                if source not in fitted:
                    rows = study.rows(LABEL, source, None, last)
                    fitted[source] = choice.fit(study, rows, cohort)
                margins[task][name] = fitted[source](study.features.loc[asked[task].index])
            print(f"{first} {name}", flush=True)
        for task in TASKS:
            parts[task].append((asked[task], margins[task]))
    return {task: tell(found, list(choices), replicates) for task, found in parts.items()}


def tell(
    parts: list[tuple[pd.Series, dict[str, np.ndarray]]], names: list[str], replicates: int
) -> dict[str, Any]:
    """Mean of each metric over the years, and its difference to the first choice."""
    labels = pd.concat([labels for labels, _ in parts])
    codes = number_clusters(align_outcomes(labels, {}), labels, None)
    ends = np.cumsum([len(own) for own, _ in parts])
    spans = [slice(end - len(own), end) for end, (own, _) in zip(ends, parts, strict=True)]
    rankings = {
        name: [Ranking(own.to_numpy(), margins[name], probable=False) for own, margins in parts]
        for name in names
    }
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for weights in iter_resamples(codes, replicates, 0):
        for name, found in rankings.items():
            years = [r.compute(METRICS, weights[:, s]) for r, s in zip(found, spans, strict=True)]
            drawn[name].append(
                np.stack([np.mean([y[m] for y in years], axis=0) for m in METRICS], axis=1)
            )
    once = {
        name: pd.DataFrame([r.compute_once(METRICS) for r in found])
        for name, found in rankings.items()
    }
    result: dict[str, Any] = {"points": len(labels), "outcomes": int(labels.sum())}
    reference = names[0]
    for name in names:
        gains = np.concatenate(drawn[name]) - np.concatenate(drawn[reference])
        result[name] = {}
        for column, metric in enumerate(METRICS):
            mean = float(once[name][metric].mean())
            low, high, _ = compute_ends(gains[:, column], 0.95)
            result[name][metric] = {
                "by_year": [round(float(value), 4) for value in once[name][metric]],
                "mean": round(mean, 4),
                "difference": [
                    round(value, 4)
                    for value in (mean - float(once[reference][metric].mean()), low, high)
                ],
            }
    return result


def measure(options: argparse.Namespace) -> dict[str, Any]:
    dates = pd.date_range("2004-01-01", "2010-01-01", freq="3MS")
    quarters = [
        f"{year}Q{quarter}"
        for year in range(2003, 2011)
        for quarter in (1, 2, 3, 4)
        if (year, quarter) >= (2003, 3) and (year, quarter) != (2007, 3)
    ]
    study = read_study(options.folder, dates, quarters)
    return compare(study, CHOICES, options.replicates) | {
        "peak_memory_gb": round(peak_memory_gb(), 2)
    }


if __name__ == "__main__":
    run_script(__file__, __doc__, measure, {"none": dict}, {"folder": FOLDER, "replicates": 300})
