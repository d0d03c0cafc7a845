"""Visit rounds: choose, put into words, write, write down that it left; what rounds say of a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poverty_risk.cohort import find_groups
from poverty_risk.config import Config
from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.features import build_features
from poverty_risk.labels import label_returns
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.predict import task_of
from poverty_risk.selective import SeenEvaluation, evaluate_seen
from poverty_risk.tables import HistoryTables
from poverty_risk.visits import VisitList
from poverty_risk.workflows.monitoring import learned_to
from poverty_risk.workflows.office import read_looks, read_returned
from poverty_risk.workflows.privacy import record_export
from poverty_risk.workflows.visits import plan_round, tell_round, write_round

__all__ = ["RoundFiles", "evaluate_rounds", "make_round"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundFiles:
    """A round that is written.

    Parameters
    ----------
    visit_list
        Whom to visit.
    told
        Households with a card.
    paths
        ``workbook``, ``page``, ``lookup`` and ``who``.
    """

    visit_list: VisitList
    told: int
    paths: Mapping[str, Path]


def make_round(
    config: Config,
    tables: HistoryTables,
    model: RiskModel | str | Path,
    locale: str,
    *,
    reason: str = "",
    **scope: str,
) -> RoundFiles:
    """Choose whom to visit, write workbook and page, and write down that they left the office.

    Parameters
    ----------
    config, tables, model
        See `plan_round`.
    locale
        Language of all texts.
    reason
        For the office's log.
    **scope
        ``role`` and ``place``, see `write_round`.

    Returns
    -------
    RoundFiles
        The list and where it is.
    """
    planned = plan_round(config, tables, model, locale=locale)
    facts = tell_round(planned, locale)
    paths = write_round(config, planned, facts, **scope)
    told = len(facts.cards)
    for name in ("workbook", "page"):
        record_export(config, "visits", reason=reason, output=paths[name], households=told)
    return RoundFiles(planned.round.visit_list, told, paths)


def evaluate_rounds(config: Config, tables: HistoryTables, model: str | Path) -> SeenEvaluation:
    """Evaluate a model on outcomes that the visits of earlier rounds saw, weighted by their chances.

    Parameters
    ----------
    config
        The run; its output folder remembers the rounds.
    tables
        The history.
    model
        Folder or URI.

    Returns
    -------
    SeenEvaluation
        Of all households that could be visited on the dates of those rounds whose outcomes are known
        by now, and from which on nothing was learned, see `evaluate_seen`. Of a list of which
        workbooks came back only the visits in them count as made, of other lists all.

    Raises
    ------
    FeatureError
        No such round.
    """
    loaded, looks = load_model(model), read_looks(config)
    task, clean = task_of(loaded), learned_to(loaded)
    if clean is not None:
        looks = looks[looks.index.get_level_values("as_of_date") >= clean]
    if len(looks):
        labels = label_returns(tables, looks, task.horizon, task.label)
        # A round whose horizon is not over yet has no label at all.
        known = labels.notna().groupby(level="as_of_date").transform("any")
        looks = _keep_made(looks[known], read_returned(config))
    if not len(looks):
        found = f"none with outcomes of {task.horizon} known by now"
        if clean is not None:
            found += f" from {clean.date()} on, when those of training were complete"
        raise FeatureError(
            Fault("visit rounds", found, "one or more", "Wait for outcomes, or use `evaluate`.")
        )
    groups = find_groups(tables, pd.MultiIndex.from_frame(looks.index.to_frame(index=False)))
    return evaluate_seen(
        labels.loc[looks.index],
        looks,
        {"model": loaded.risk(build_features(tables, looks, loaded.catalog))},
        groups.get(str(config.evaluation.cluster)),
        budgets=config.evaluation.budgets,
        replicates=max(config.evaluation.replicates, 1),
        seed=config.seed,
    )


def _keep_made(
    looks: pd.DataFrame, returned: Mapping[tuple[str, pd.Timestamp], bool]
) -> pd.DataFrame:
    """Looks of which only those count as visited whose visit found something out: a plan sees nothing.

    Lists of which nothing came back count as carried out, and are told.
    """
    dates = looks.index.get_level_values("as_of_date")
    points = zip(looks.index.get_level_values("household_id"), dates, strict=True)
    there = np.array([returned.get((str(one), pd.Timestamp(date)), False) for one, date in points])
    came_back = dates.isin({date for _, date in returned})
    if silent := sorted({str(date)[:10] for date in dates[~came_back]}):
        logger.warning(
            "Nothing came back of the lists of %s: all their visits count as made.",
            ", ".join(silent),
        )
    return looks.assign(visited=looks["visited"] & (there | ~came_back))
