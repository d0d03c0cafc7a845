"""A visit round in one go: choose, put into words, write, and write down that it left the office."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from poverty_risk.config import Config
from poverty_risk.model import RiskModel
from poverty_risk.tables import HistoryTables
from poverty_risk.visits import VisitList
from poverty_risk.workflows.privacy import record_export
from poverty_risk.workflows.visits import plan_round, tell_round, write_round

__all__ = ["RoundFiles", "make_round"]


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
