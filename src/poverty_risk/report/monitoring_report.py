"""The monitoring report: one HTML file per language that needs no network."""

from __future__ import annotations

from pathlib import Path

from poverty_risk.model import RiskModel
from poverty_risk.monitoring import MonitoringReport, MonitoringSettings, load_monitoring_catalog
from poverty_risk.report.charts import draw_bars
from poverty_risk.report.documents import render_template, write_document
from poverty_risk.report.model_charts import draw_forest
from poverty_risk.report.model_evaluation import Interval
from poverty_risk.report.monitoring_charts import TimePlot, TimePoint, draw_over_time
from poverty_risk.report.monitoring_facts import (
    MOST_FEATURES,
    MonitoringFacts,
    build_monitoring_facts,
)
from poverty_risk.wording import format_value

__all__ = ["render_monitoring_report", "write_monitoring_report"]


def write_monitoring_report(
    report: MonitoringReport,
    model: RiskModel,
    path: str | Path,
    *,
    locale: str = "zh",
    settings: MonitoringSettings | None = None,
) -> Path:
    """Write a monitoring report as one HTML file, without any row of a household.

    Parameters
    ----------
    report
        From `run_monitoring`.
    model
        The model that was watched.
    path
        The HTML file; an older one is replaced.
    locale
        ``"zh"`` or ``"en"``.
    settings
        Limits that are drawn.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.
    """
    facts = build_monitoring_facts(report, model, locale)
    return write_document(render_monitoring_report(facts, settings), path, "monitoring report")


def render_monitoring_report(
    facts: MonitoringFacts, settings: MonitoringSettings | None = None
) -> str:
    """Render a monitoring report.

    Parameters
    ----------
    facts
        From `build_monitoring_facts`.
    settings
        Limits that are drawn.

    Returns
    -------
    str
        An HTML document in the language of the facts, without scripts; its policy forbids every
        request.
    """
    limit = (settings or MonitoringSettings()).psi
    catalog = load_monitoring_catalog()
    shown = facts.features[:MOST_FEATURES]
    # The bar of the limit itself gives the place of its line on the same scale.
    bars = draw_bars({**{one.name: one.psi for one in shown}, "": limit}, str)
    with_ratio = [one for one in facts.rounds if one.ratio is not None]
    return render_template(
        "monitoring_report.html",
        {
            "facts": facts,
            "texts": {name: words[facts.locale] for name, words in catalog.texts.items()},
            "columns": {name: words[facts.locale] for name, words in catalog.columns.items()},
            "issues": sum(one.outcome == "issue" for one in facts.checks),
            "features": list(zip(shown, bars[:-1], strict=True)),
            "limit": limit,
            "limit_at": bars[-1].width,
            "grid": _make_grid(facts),
            "tiers": _draw_tiers(facts),
            "rounds": _draw_rounds(facts),
            "ratios": draw_forest(
                [Interval(one.ratio or 0.0, one.ratio_low, one.ratio_high) for one in with_ratio]
            )
            if with_ratio
            else None,
            "with_ratio": with_ratio,
            "lists": _draw_lists(facts),
        },
    )


def _make_grid(facts: MonitoringFacts) -> tuple[tuple[str, ...], list[tuple[str, list[object]]]]:
    """Feeds as columns, places as rows; None where a place has no such feed."""
    feeds = tuple(dict.fromkeys(one.feed for one in facts.places))
    cells = {(one.place, one.feed): one for one in facts.places}
    places = dict.fromkeys(one.place for one in facts.places)
    return feeds, [(place, [cells.get((place, feed)) for feed in feeds]) for place in places]


def _draw_tiers(facts: MonitoringFacts) -> list[tuple[str, list[tuple[str, float, str]]]]:
    """Of each tier its name, and kind, width and text of its three bars."""
    longest = (
        max(max(made, before or 0.0, now or 0.0) for _, made, before, now in facts.tiers) or 1.0
    )

    def bar(kind: str, share: float | None) -> tuple[str, float, str]:
        if share is None:
            return kind, 0.0, ""
        text = format_value(share, "share", facts.locale)
        return kind, round(100 * share / longest, 1), text

    return [
        (label, [bar("training", made), bar("year_ago", before), bar("now", now)])
        for label, made, before, now in facts.tiers
    ]


def _draw_rounds(facts: MonitoringFacts) -> TimePlot:
    return draw_over_time(
        [
            TimePoint(one.date, one.estimated, one.auc, one.auc_low, one.auc_high)
            for one in facts.rounds
        ]
    )


def _draw_lists(facts: MonitoringFacts) -> TimePlot | None:
    if not facts.lists:
        return None
    return draw_over_time([TimePoint(one.date, one.expected, one.found) for one in facts.lists])
