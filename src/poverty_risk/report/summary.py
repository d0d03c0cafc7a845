"""Facts of a scored cohort as tables and plain text: the ranking by risk, explained households."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.evaluation import Evaluation
from poverty_risk.privacy import hash_id, mask_id
from poverty_risk.report.health import tells_of_health
from poverty_risk.risk_sentence import describe_risk
from poverty_risk.wording import format_value, load_locale

__all__ = ["build_comparison", "build_priority_table", "render_explained", "render_priority_csv"]

NEVER_FIRST = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula."""


COMPARED_BUDGETS = (0.05, 0.10)
"""Visit budgets of the short comparison; all others stand in the written tables."""


def build_comparison(evaluation: Evaluation) -> pd.DataFrame:
    """The short comparison: one row per candidate, texts with 95 % intervals where there are any.

    Parameters
    ----------
    evaluation
        From `evaluate_risk`; its first candidate is compared with the others.

    Returns
    -------
    DataFrame
        Texts by candidate: ``AUC``, ``AP``, ``Brier``, precision and recall at the shown budgets,
        and ``ahead by`` (AUC of the first candidate minus this one, paired resamples).
    """
    budgets = [
        b for b in COMPARED_BUDGETS if b in evaluation.budgets.index.get_level_values("budget")
    ]
    columns = {"auc": "AUC", "average_precision": "AP", "brier": "Brier"}
    for budget in budgets:
        columns[f"precision_at_{budget:g}"] = f"precision at {budget:.0%}"
        columns[f"recall_at_{budget:g}"] = f"recall at {budget:.0%}"
    rows = {}
    for name in evaluation.metrics.index:
        row = {}
        for metric, title in columns.items():
            row[title] = _with_interval(evaluation, str(name), metric)
        row["ahead by (AUC)"] = _difference(evaluation, str(name))
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _with_interval(evaluation: Evaluation, name: str, metric: str) -> str:
    if (name, metric) in evaluation.intervals.index:
        row = evaluation.intervals.loc[[(name, metric)]].iloc[0].astype(float)
        estimate, low, high = row["estimate"], row["low"], row["high"]
        return "-" if np.isnan(estimate) else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
    if metric in evaluation.metrics.columns:
        value = float(evaluation.metrics[metric][name])
    else:
        which, _, budget = metric.partition("_at_")
        value = float(evaluation.budgets[which][(name, float(budget))])
    return "-" if np.isnan(value) else f"{value:.3f}"


def _difference(evaluation: Evaluation, name: str) -> str:
    rows = evaluation.differences.reset_index()
    row = rows[(rows["metric"] == "auc") & (rows["baseline"] == name)] if len(rows) else rows
    if not len(row):
        return "-"
    first = row.iloc[0]
    return f"{first['difference']:+.3f} [{first['low']:+.3f}, {first['high']:+.3f}]"


def build_priority_table(
    answer: pd.DataFrame, groups: pd.DataFrame, key: bytes, *, locale: str = "zh"
) -> pd.DataFrame:
    """Households with a risk, highest first, ids masked and hashed.

    Parameters
    ----------
    answer
        From `predict_risk`, index household_id.
    groups
        Columns township_id and village_id by household_id.
    key
        Secret of the office that pseudonyms are made with.
    locale
        Language of list separators.

    Returns
    -------
    DataFrame
        rank, pseudonym, household (masked), township_id, village_id, tier, risk, reasons,
        protective_factors, data_gaps; the lists as one text each, without anything that tells of
        somebody's health.
    """
    scored = answer[answer["status"] == "ok"]
    words = load_locale(locale)
    join = words["sentence_separator"]

    def tell(texts: Iterable[str]) -> str:
        """The texts of a list: what tells of somebody's health stands on the card only."""
        kept = list(texts)
        told = [text for text in kept if not tells_of_health(text)]
        if len(told) < len(kept):
            told.append(str(words["card_texts"]["health_on_card"]))
        return str(join).join(told)

    place = groups.reindex(scored.index)
    table = pd.DataFrame(
        {
            "rank": scored["rank"],
            "pseudonym": [hash_id(str(household), key) for household in scored.index],
            "household": [mask_id(str(household)) for household in scored.index],
            "township_id": place["township_id"],
            "village_id": place["village_id"],
            "tier": scored["tier"],
            "risk": scored["risk"].round(4),
            "reasons": scored["reasons"].map(tell),
            "protective_factors": scored["protective_factors"].map(tell),
            "data_gaps": scored["data_gaps"].map(tell),
        },
        index=scored.index,
    )
    return table.sort_values("rank", kind="stable").reset_index(drop=True)


def render_priority_csv(table: pd.DataFrame, locale: str) -> str:
    """The ranking by risk as CSV with headings of the language; no text can be a formula."""
    words = load_locale(locale)
    shown = table.assign(tier=table["tier"].map(words["tiers"]))
    for column in shown.select_dtypes(include=["str", "object"]).columns:
        shown[column] = shown[column].map(_defused)
    return str(shown.rename(columns=words["visit_columns"]).to_csv(index=False))


def _defused(value: object) -> object:
    if isinstance(value, str) and value.startswith(NEVER_FIRST):
        return "'" + value
    return value


def render_explained(
    answer: pd.DataFrame,
    households: Iterable[str],
    horizon: str,
    locale: str = "zh",
    *,
    ranked: bool = True,
    outcome: str = "",
    numbers: Mapping[str, int] | None = None,
) -> str:
    """Some households with their risk and reasons, as Markdown; ids masked.

    Parameters
    ----------
    answer
        From `predict_risk`, index household_id.
    households
        Which, in order.
    horizon
        Horizon of the model, as ``"12mo"``.
    locale
        ``"zh"`` or ``"en"``.
    ranked
        Whether the answer is about a whole county, so that its ranks mean something.
    outcome
        Name of what is predicted.
    numbers
        By household, a number that stands before it: masked ids may be alike.

    Returns
    -------
    str
        Text in the language.
    """
    words = load_locale(locale)
    told, rows = words["explained"], answer.loc[list(households)]
    heading, title_of = ("heading", "title") if ranked else ("heading_single", "title_single")
    lines = [f"# {told[heading].format(n=len(rows))}", "", f"> {words['notice']}", ""]
    for household, row in rows.iterrows():
        title = told[title_of].format(
            household=mask_id(str(household)), tier=words["tiers"][row["tier"]], rank=row["rank"]
        )
        if numbers is not None:
            title = f"{numbers[str(household)]}. {title}"
        between = (row.get("risk_low", np.nan), row.get("risk_high", np.nan))
        sentence = describe_risk(float(row["risk"]), horizon, locale, outcome, between)
        date = format_value(str(row["as_of_date"].date()), "date", locale)
        lines += [f"## {title}", "", told["risk"].format(as_of_date=date, sentence=sentence), ""]
        if not pd.isna(unlike := row.get("unlike")):
            text = str(words["card_texts"]["unlike"]).format(unlike=unlike)
            page = words["page"]
            lines += [f"**{page['card']['unlike']}**{page['colon']}{text}", ""]
        for part in ("reasons", "protective_factors", "data_gaps"):
            items = row[part] if part != "data_gaps" else _list_gaps(row, words)
            items = items or [told["nothing"]]
            lines += [f"**{told[part]}**", "", *[f"- {item}" for item in items], ""]
    lines.append(told["model"].format(model_id=rows["model_id"].iloc[0] if len(rows) else ""))
    return "\n".join(lines) + "\n"


def _list_gaps(row: pd.Series, words: Mapping[str, Any]) -> list[str]:
    """What to ask for: what is usually known, and what a reason above says is not known."""
    before, _, after = str(words["reasons"]["gap_ask"]).partition("{ask}")
    told = [*row["reasons"], *row["protective_factors"]]
    asked = [t.removeprefix(before).removesuffix(after) for t in told if t.startswith(before)]
    return list(dict.fromkeys([*row["data_gaps"], *asked]))
