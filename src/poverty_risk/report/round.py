"""A scored round: whom its cards tell of, and what is true of all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.baselines import OfficeRules
from poverty_risk.consistency import HouseholdQuality
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.privacy import SMALL_COUNT
from poverty_risk.report.facts import RunFacts
from poverty_risk.report.policies import PolicyTable
from poverty_risk.tables import HistoryTables
from poverty_risk.visits import VisitList
from poverty_risk.wording import format_horizon, load_locale

__all__ = ["Round", "choose_told", "name_outcome", "tell_run"]


@dataclass(frozen=True)
class Round:
    """A scored round: what `build_visit_facts` tells of.

    Parameters
    ----------
    tables
        The history.
    model
        The model of the round.
    features
        Features of all scored households, index (household_id, as_of_date), one as-of date.
    answer
        From `predict_risk` over all households, index household_id.
    visit_list
        From `build_visit_list`.
    rules
        The office's rules, to say what a rule hit means.
    previous
        As-of date of the round before, for what changed since; None: nothing is told.
    policies
        Options by risk type; the shipped example by default.
    quality
        What contradicts itself in the records, by household_id (see `summarise_quality`).
    run_id
        MLflow run of the model, or empty.
    alternatives, similar
        Sentences by household_id, in the language of the facts.
    simulated
        Whether the county is made up, which every page then says.
    asked
        Households that are told of, whether they are on the list or not; None: all on it.
    before
        Features of the round before, of listed households that had a risk then.
    thin
        What is lacking of listed households without a risk, in the language of the facts.
    """

    tables: HistoryTables
    model: RiskModel
    features: pd.DataFrame
    answer: pd.DataFrame
    visit_list: VisitList
    rules: OfficeRules
    previous: pd.Timestamp | None = None
    policies: PolicyTable | None = None
    quality: Mapping[str, HouseholdQuality] | None = None
    run_id: str = ""
    alternatives: Mapping[str, Sequence[str]] | None = None
    similar: Mapping[str, str] | None = None
    asked: Sequence[str] | None = None
    simulated: bool = False
    before: pd.DataFrame | None = None
    thin: Mapping[str, Sequence[str]] | None = None


def choose_told(round_: Round) -> pd.DataFrame:
    """Rows of the households that are told of: the list and the reserve, or those asked for.

    Parameters
    ----------
    round_
        What was scored and chosen.

    Returns
    -------
    DataFrame
        Rows of the visit list and of the reserve, ``order`` counted over both, ``is_reserve``. Who
        was asked for and is on neither has ``why`` = ``asked``, order 0 and no day.
    """
    visits, reserve = round_.visit_list.visits, round_.visit_list.reserve
    listed = pd.concat([visits.assign(is_reserve=False), reserve.assign(is_reserve=True)])
    listed["order"] = np.arange(1, len(listed) + 1)
    if round_.asked is None:
        return listed
    others = pd.Index(round_.asked).difference(listed.index)
    known = round_.visit_list.households.loc[others]
    ids = round_.features.index.get_level_values("household_id")
    hits = round_.rules.hits(round_.features[ids.isin(others)]).droplevel("as_of_date").loc[others]
    codes = pd.Series(
        [list(hits.columns[row]) for row in hits.to_numpy()], index=others, dtype=object
    )
    extra = known.assign(why="asked", order=0, is_reserve=False, due_date=None, rule_codes=codes)
    rows = [listed[listed.index.isin(round_.asked)], extra]
    return pd.concat([part for part in rows if len(part)])


def tell_run(round_: Round, policies: str, locale: str) -> RunFacts:
    """What is true of the whole round.

    Parameters
    ----------
    round_
        What was scored and chosen.
    policies
        Name of the policy table.
    locale
        Language.
    """
    words, answer, listed = load_locale(locale), round_.answer, round_.visit_list
    task = round_.model.task
    assert task is not None
    statuses = answer.loc[answer["status"] != "ok", "status"].value_counts()
    summary = listed.summary
    waiting = _count_waiting(round_)
    return RunFacts(
        locale=locale,
        as_of_date=listed.as_of_date,
        horizon_text=format_horizon(task.horizon, locale),
        outcome=name_outcome(task, locale),
        model_id=str(answer["model_id"].iloc[0]) if len(answer) else "",
        run_id=round_.run_id,
        # Of what was known then: written again later, it is the same round.
        snapshot=_known_then(round_).fingerprint[:12],
        scored=int((answer["status"] == "ok").sum()),
        not_scored={words["status"][name]: _shown(count) for name, count in statuses.items()},
        figures={str(way): float(value) for way, value in summary["expected_returns"].items()}
        | {"visits": float(summary["visits"].iloc[0]), "share": float(summary["share"].iloc[0])},
        quota_prices=tuple(
            {str(name): value for name, value in row.items()}
            for row in listed.quota_prices.to_dict("records")
        ),
        policies=policies,
        waiting={name: _shown(count) for name, count in waiting.items()},
        simulated=round_.simulated,
        by_tier={tier: int((listed.visits["tier"] == tier).sum()) for tier in words["tiers"]},
        left_out={
            words["card_texts"]["left_out"][reason]: _shown(int(count))
            for reason, count in listed.left_out.items()
        },
    )


def _known_then(round_: Round) -> HistoryTables:
    as_of, tables = round_.visit_list.as_of_date, round_.tables
    # Usually nothing is known later, and a large county need not be copied.
    return tables if as_of >= tables.observed_to else tables.known_before(as_of)


def name_outcome(task: PredictionTask, locale: str) -> str:
    """Name of what a task predicts, in a language."""
    label = task.schema.labels[task.label].label
    return task.label if label is None else label[locale]


def _count_waiting(round_: Round) -> dict[str, int]:
    """Households that a rule or the model calls red and for which no visit is left."""
    known = round_.visit_list.households
    listed = known.index.isin(round_.visit_list.reserve.index) | known["visited"].to_numpy()
    tier = round_.answer["tier"].reindex(known.index)
    return {
        "rule": int((~listed & (known["severity"] == "red")).sum()),
        "model": int((~listed & (tier == "red")).sum()),
    }


def _shown(count: int) -> float | None:
    """A count of households, missing when it is so small that it tells of single ones."""
    return None if 0 < count < SMALL_COUNT else float(np.int64(count))
