"""What a monitoring report tells, in words and numbers of one language, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.model import RiskModel
from poverty_risk.monitoring import OUTCOMES, MonitoringReport
from poverty_risk.wording import format_date, format_value, load_locale

__all__ = ["MOST_FEATURES", "MonitoringFacts", "build_monitoring_facts"]

MOST_FEATURES = 15
"""Features drawn; all of them stand in the table that is written beside the report."""


@dataclass(frozen=True)
class CheckFact:
    """A check in words."""

    code: str
    outcome: str
    outcome_text: str
    name: str
    meaning: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class FeedFact:
    """A feed, in the whole county or in one place."""

    feed: str
    place: str
    last: str
    silent: int
    usual: str
    recent: str
    recent_usual: str
    status: str
    status_text: str


@dataclass(frozen=True)
class FeatureFact:
    """How far a feature moved."""

    name: str
    label: str
    psi: float
    psi_text: str
    missing: str
    missing_training: str
    status: str
    status_text: str


@dataclass(frozen=True)
class RoundFact:
    """A round: what its risks promised and what came true."""

    date: str
    labelled: str
    positives: str
    expected: str
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    ratio_text: str
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    auc_text: str
    estimated: float
    estimated_text: str
    precision: str
    recall: str


@dataclass(frozen=True)
class ListFact:
    """A visit list: what it found."""

    date: str
    visits: str
    known: str
    found: float
    found_text: str
    expected: float
    expected_text: str
    random_text: str


@dataclass(frozen=True)
class MonitoringFacts:
    """All that a monitoring report tells.

    Parameters
    ----------
    locale
        Language.
    as_of_date, model_id
        What was watched.
    counts
        Checks by outcome, with the words of the outcome.
    checks
        All checks, in the order of their codes.
    feeds, places
        Feeds in the whole county, and by place.
    features
        Features that were compared, the furthest from training first.
    tiers
        Tier and its shares: when the tiers were made, a year ago, now; None: no
        history, or under ten households.
    households
        Households with a risk now.
    rounds
        Earlier rounds and this one, oldest first.
    lists
        Past visit lists with known outcomes.
    """

    locale: str
    as_of_date: str
    model_id: str
    counts: tuple[tuple[str, str, int], ...]
    checks: tuple[CheckFact, ...]
    feeds: tuple[FeedFact, ...]
    places: tuple[FeedFact, ...]
    features: tuple[FeatureFact, ...]
    tiers: tuple[tuple[str, float, float | None, float | None], ...]
    households: str
    rounds: tuple[RoundFact, ...]
    lists: tuple[ListFact, ...]


def build_monitoring_facts(
    report: MonitoringReport, model: RiskModel, locale: str = "zh"
) -> MonitoringFacts:
    """Put a monitoring report into words.

    Parameters
    ----------
    report
        From `run_monitoring`.
    model
        The model that was watched, for the names of features and tables.
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    MonitoringFacts
        What the template draws.
    """
    words, pen = load_locale(locale), _Pen(report, locale)
    table = report.to_table(locale)
    counts = table["outcome"].value_counts()
    tiers = report.details["tiers"]
    return MonitoringFacts(
        locale=locale,
        as_of_date=format_date(str(report.as_of_date.date()), locale),
        model_id=report.model_id,
        counts=tuple(
            (name, report.catalog.outcomes[name][locale], int(counts.get(name, 0)))
            for name in OUTCOMES
        ),
        checks=_checks(report, table, locale),
        feeds=_feeds(report.details["feeds"], model, pen),
        places=_feeds(report.details["places"], model, pen),
        features=_features(report.details["features"], model, pen),
        tiers=tuple(
            (
                str(words["tiers"].get(tier, tier)),
                float(row["training"]),
                _known(row["year_ago"]),
                _known(row["now"]),
            )
            for tier, row in zip(tiers.index, tiers.to_dict("records"), strict=True)
        ),
        households=pen.count(float(tiers["n"].iloc[0])),
        rounds=_rounds(report.details["rounds"], pen),
        lists=_lists(report.details["lists"], pen),
    )


def _checks(report: MonitoringReport, table: pd.DataFrame, locale: str) -> tuple[CheckFact, ...]:
    return tuple(
        CheckFact(
            code=row["code"],
            outcome=row["outcome"],
            outcome_text=row["outcome_text"],
            name=row["check"],
            meaning=report.catalog.checks[row["code"]].meaning[locale],
            reason=row["reason"],
            remedy=row["remedy"],
        )
        for row in table.to_dict("records")
    )


class _Pen:
    """Writes numbers of a report; what is missing is a dash, a hidden count is said to be small."""

    def __init__(self, report: MonitoringReport, locale: str) -> None:
        self.report, self.locale = report, locale

    def text(self, name: str) -> str:
        """A text of the report."""
        return self.report.catalog.texts[name][self.locale]

    def status(self, name: str) -> str:
        """What became of a feature or a feed; codes of causes stay codes."""
        known = self.report.catalog.statuses
        return known[name][self.locale] if name in known else name

    def count(self, value: float) -> str:
        """A count."""
        return self.text("hidden") if np.isnan(value) else f"{value:,.0f}"

    def number(self, value: float, digits: int = 2) -> str:
        """A number."""
        return self.text("none") if np.isnan(value) else f"{value:.{digits}f}"

    def share(self, value: float) -> str:
        """A share as per cent."""
        return self.text("none") if np.isnan(value) else format_value(value, "share", self.locale)


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _feeds(feeds: pd.DataFrame, model: RiskModel, pen: _Pen) -> tuple[FeedFact, ...]:
    assert model.task is not None
    tables = model.task.schema.tables
    return tuple(
        FeedFact(
            feed=tables[row["table"]].label[pen.locale],
            place=str(row.get("place", "")),
            last=format_date(str(row["last_known"].date()), pen.locale),
            silent=int(row["silent_days"]),
            usual=pen.number(row["usual_days"], 0),
            recent=pen.count(row["recent"]),
            recent_usual=pen.count(row["usual"]),
            status=row["status"],
            status_text=pen.status(row["status"]),
        )
        for row in feeds.to_dict("records")
    )


def _features(features: pd.DataFrame, model: RiskModel, pen: _Pen) -> tuple[FeatureFact, ...]:
    assert model.catalog is not None
    compared = features[features["psi"].notna()].sort_values("psi", ascending=False, kind="stable")
    return tuple(
        FeatureFact(
            name=str(name),
            label=model.catalog[str(name)].label(pen.locale),
            psi=float(row["psi"]),
            psi_text=f"{pen.number(row['psi'])} ({pen.number(row['psi_year'])})",
            missing=pen.share(row["missing"]),
            missing_training=pen.share(row["missing_training"]),
            status=row["drift_status"],
            status_text=pen.status(row["drift_status"]),
        )
        for name, row in zip(compared.index, compared.to_dict("records"), strict=True)
    )


def _rounds(rounds: pd.DataFrame, pen: _Pen) -> tuple[RoundFact, ...]:
    return tuple(
        RoundFact(
            date=str(pd.Timestamp(str(date)).date()),
            labelled=pen.count(row["labelled"]),
            positives=pen.text("none") if row["labelled"] == 0 else pen.count(row["positives"]),
            expected=pen.number(row["expected"], 1),
            ratio=_known(row["ratio"]),
            ratio_low=_known(row["ratio_low"]),
            ratio_high=_known(row["ratio_high"]),
            ratio_text=pen.number(row["ratio"]),
            auc=_known(row["auc"]),
            auc_low=_known(row["auc_low"]),
            auc_high=_known(row["auc_high"]),
            auc_text=pen.number(row["auc"]),
            estimated=float(row["estimated_auc"]),
            estimated_text=pen.number(row["estimated_auc"]),
            precision=pen.share(row["precision"]),
            recall=pen.share(row["recall"]),
        )
        for date, row in zip(rounds.index, rounds.to_dict("records"), strict=True)
    )


def _lists(lists: pd.DataFrame, pen: _Pen) -> tuple[ListFact, ...]:
    told = lists[lists["yield"].notna()]
    return tuple(
        ListFact(
            date=str(pd.Timestamp(str(date)).date()),
            visits=pen.count(row["visits"]),
            known=pen.count(row["known"]),
            found=float(row["yield"]),
            found_text=pen.share(row["yield"]),
            expected=float(row["expected"] / row["known"]),
            expected_text=pen.share(row["expected"] / row["known"]),
            random_text=pen.share(row["random_yield"]),
        )
        for date, row in zip(told.index, told.to_dict("records"), strict=True)
    )
