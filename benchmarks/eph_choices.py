"""Choices for the EPH panel, made on earlier periods alone: the test year is not even read.

Run with ``python benchmarks/eph_choices.py``; the figures are printed and kept in ``results/``. Each
choice is fitted three times, on the dates whose outcomes were known at the start of a year, and tested
on the lifts of that year (2007, 2008, 2009). Differences to the first choice are means over the years,
with intervals over households, the same resamples for all. All fits have the same small number of
trees: the table orders choices, it is no result.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from eph_panel import FOLDER, Study, read_study
from measuring import peak_memory_gb, run_script

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
TASKS = {"return": ("poor_at_12mo", "lifted"), "entry": ("poor_at_12mo", "not_poor")}
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


Choice = Callable[[Study, pd.Series, pd.DataFrame, pd.Series], np.ndarray]


def trees(*left_out: str, cohort: str | None = "everyone", **settings: Any) -> Choice:
    """Boosted trees, on a cohort (None: the scored one), without some groups of features."""

    def predict(study: Study, task: pd.Series, asked: pd.DataFrame, year: pd.Series) -> np.ndarray:
        rows = study.rows(task["label"], cohort or task["cohort"], None, year["last"])
        catalog = study.catalog.select(names_without(study, *left_out))
        wanted = SETTINGS | settings
        model = RiskModel(catalog, study.task(task["label"], task["cohort"]), **wanted)
        return model.fit(study.features.loc[rows.index], rows).margin(asked).to_numpy()

    return predict


def logistic(cohort: str | None) -> Choice:
    """Logistic regression on a cohort (None: the scored one)."""

    def predict(study: Study, task: pd.Series, asked: pd.DataFrame, year: pd.Series) -> np.ndarray:
        rows = study.rows(task["label"], cohort or task["cohort"], None, year["last"])
        names = list(study.catalog.model_names)
        model = LogisticBaseline(LOGISTIC_C).fit(study.features.loc[rows.index, names], rows)
        chance = model.predict_proba(asked[names])[:, 1]
        return np.log(chance / (1.0 - chance))

    return predict


CHOICES: dict[str, Choice] = {
    "features_before": trees(*ADDED),
    "all_features": trees(),
    "learned_from_the_scored_alone": trees(cohort=None),
    "six_leaves": trees(num_leaves=6, max_depth=3, n_estimators=300),
    "no_directions": trees(monotone=False),
    "three_seeds": trees(n_seeds=3),
    "logistic_on_the_scored": logistic(None),
}
CHOICES |= {f"without_{group}": trees(group) for group in ADDED}


def compare(study: Study, choices: dict[str, Choice], replicates: int) -> dict[str, Any]:
    """Metrics by choice and task, with differences to the first choice."""
    figures: dict[str, Any] = {}
    for task_name, (label, cohort) in TASKS.items():
        task = pd.Series({"label": label, "cohort": cohort})
        parts = []
        for last, first, end in YEARS.values():
            labels = study.rows(label, cohort, first, end)
            year = pd.Series({"last": last})
            asked = study.features.loc[labels.index]
            margins = {name: choose(study, task, asked, year) for name, choose in choices.items()}
            parts.append((labels, margins))
            print(f"{task_name} {first}: {len(labels):,} points", flush=True)
        figures[task_name] = tell(parts, list(choices), replicates)
    return figures


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
