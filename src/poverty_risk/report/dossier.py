"""From a visit list to the facts that workbook, page and cards show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from poverty_risk.baselines.rules import SEVERITIES
from poverty_risk.cohort import find_groups
from poverty_risk.comparison import build_comparison
from poverty_risk.consistency import HouseholdQuality
from poverty_risk.data_gaps import catalog_of, find_data_gaps
from poverty_risk.explain import RiskExplanation, explain_risk
from poverty_risk.privacy import hash_id, mask_id
from poverty_risk.reasons import (
    HouseholdReasons,
    Reason,
    build_reasons,
    is_about_health,
)
from poverty_risk.report.accounts import build_accounts
from poverty_risk.report.facts import CardFacts, ReasonFact, ThemeFact, VisitFacts
from poverty_risk.report.policies import PolicyTable
from poverty_risk.report.round import Round, choose_told, name_outcome, tell_run
from poverty_risk.risk_change import RiskChange, explain_change
from poverty_risk.risk_intervals import build_risk_intervals, has_intervals
from poverty_risk.risk_sentence import WIDEST_RANGE, describe_risk
from poverty_risk.unlike import find_unlike
from poverty_risk.wording import format_value, load_locale

__all__ = ["build_visit_facts"]

SMALLEST_CHANGE = 0.001
"""A theme whose points moved by less is not told."""

MOST_CHANGES = 3
MOST_CHECKS = 6
HITS = ("red", "orange", "yellow")
MANY_ERRORS = 2
"""From so many contradictions on, what a card stands on is in doubt."""
FEW_GAPS, MANY_GAPS = 1, 4
"""Up to which number of data gaps a card is well founded, and from which on it is not."""


def build_visit_facts(round_: Round, key: bytes, locale: str = "zh") -> VisitFacts:
    """Build the facts of a visit round: visits in order, then the reserve.

    Parameters
    ----------
    round_
        What was scored and chosen.
    key
        Secret of the office that pseudonyms are made with.
    locale
        Language of all texts: ``"zh"`` or ``"en"``.

    Returns
    -------
    VisitFacts
        One card per household of the visit list and of the reserve; no real id, no name.

    Notes
    -----
    Reasons are told of those households only, with their own value a year earlier, the median of
    their village, source and date, and without themes whose direction refits do not share.
    """
    told = choose_told(round_)
    explained = _explain(round_, told.index, locale)
    writer = _CardWriter(round_, explained, key, locale)
    cards = tuple(writer.write(str(household), row) for household, row in told.iterrows())
    return VisitFacts(tell_run(round_, writer.policies.name[locale], locale), cards)


@dataclass(frozen=True)
class _Explained:
    """What is known of the listed households that have a risk, by household_id."""

    position: Mapping[str, int]
    explanation: RiskExplanation
    reasons: Sequence[HouseholdReasons]
    gaps: Sequence[Sequence[str]]
    change: RiskChange | None
    changed: Mapping[str, int]
    intervals: pd.DataFrame | None
    unlike: pd.DataFrame


def _explain(round_: Round, households: pd.Index, locale: str) -> _Explained:
    ids = round_.features.index.get_level_values("household_id")
    features = round_.features[ids.isin(households)]
    model, tables = round_.model, round_.tables
    assert model.catalog is not None
    explanation = explain_risk(model, features, agreement=True)
    points = pd.DataFrame(index=features.index)
    comparison = build_comparison(tables, points, round_.features, model.catalog)
    told = features.index.get_level_values("household_id").astype(str)
    change, changed = None, told[:0]
    if round_.before is not None and len(round_.before):
        changed = told[told.isin(round_.before.index.get_level_values("household_id"))]
        before = round_.before.droplevel("as_of_date").loc[changed]
        before.index = pd.MultiIndex.from_product(
            [changed, [round_.previous]], names=points.index.names
        )
        change = explain_change(model, before, features[told.isin(changed)])
    return _Explained(
        position={household: position for position, household in enumerate(told)},
        explanation=explanation,
        reasons=build_reasons(explanation, model, locale, comparison),
        gaps=find_data_gaps(features, model, locale),
        change=change,
        changed={household: position for position, household in enumerate(changed)},
        intervals=build_risk_intervals(model, features) if has_intervals(model) else None,
        unlike=find_unlike(model, features, locale),
    )


class _CardWriter:
    """Puts one household after the other into words."""

    def __init__(self, round_: Round, explained: _Explained, key: bytes, locale: str) -> None:
        self.round, self.explained, self.key, self.locale = round_, explained, key, locale
        self.words = load_locale(locale)
        assert round_.model.task is not None
        self.outcome = name_outcome(round_.model.task, locale)
        self.texts = self.words["card_texts"]
        self.policies = round_.policies or PolicyTable.load()
        points = pd.DataFrame(index=explained.explanation.features.index)
        self.accounts = build_accounts(round_.tables, points)
        self.ranks = _rank_in_places(round_)
        self.severity = {rule.code: SEVERITIES[rule.severity] for rule in round_.rules.rules}
        self.rule_texts = {rule.code: getattr(rule, locale) for rule in round_.rules.rules}

    def write(self, household: str, row: pd.Series) -> CardFacts:
        at = self.explained.position.get(household)
        reasons = HouseholdReasons((), ()) if at is None else self.explained.reasons[at]
        # Whose record is too thin for a risk is told what it lacks all the same.
        answer = self.round.answer.loc[household].to_dict()
        thin = (self.round.thin or {}).get(household, ())
        gaps = tuple(thin if at is None else self.explained.gaps[at])
        risk = None if pd.isna(row["risk"]) else float(row["risk"])
        assert self.round.model.task is not None
        horizon = self.round.model.task.horizon
        quality = (self.round.quality or {}).get(household, HouseholdQuality())
        unlike, unlike_is_health = ("", False) if at is None else self._unlike(at)
        confidence = "low"
        if at is not None and not unlike:
            confidence = _confidence(len(gaps), reasons.left_out, quality)
            low, high = self._between(at) or (0.0, 0.0)
            if confidence == "high" and high - low > WIDEST_RANGE:
                confidence = "medium"  # beside "a very rough guess" it would contradict itself
        codes = sorted(row.get("rule_codes") or (), key=lambda code: -self.severity.get(code, 0))
        rules = tuple(self.rule_texts.get(code, code) for code in codes)
        is_reserve, by_lot = bool(row["is_reserve"]), row["why"] == "random"
        model_tier = None if risk is None else str(answer["tier"])
        why = "random_hit" if by_lot and row["severity"] in HITS else str(row["why"])
        kinds = reasons.risk_types
        return CardFacts(
            order=int(row["order"]),
            pseudonym=hash_id(household, self.key),
            household=mask_id(household),
            township=_text(row.get("township_id")),
            village=_text(row.get("village_id")),
            is_reserve=is_reserve,
            why=str(row["why"]),
            why_text=self._tell_why(why, str(row["tier"]), model_tier),
            rules=rules,
            tier=str(row["tier"]),
            tier_label=str(self.words["tiers"][row["tier"]]),
            due_date=None if is_reserve or pd.isna(row["due_date"]) else row["due_date"],
            risk=risk,
            risk_text=""
            if risk is None
            else describe_risk(risk, horizon, self.locale, self.outcome, self._between(at)),
            rank_text=self._rank_text(household),
            reasons=tuple(self._tell(reason) for reason in reasons.raising),
            # An official risk type is what raises a risk.
            lowering=tuple(
                dataclasses.replace(self._tell(reason), risk_type="") for reason in reasons.lowering
            ),
            left_out_text=self._left_out(reasons.left_out),
            themes=() if at is None else self._themes(at),
            accounts=self.accounts.get(household, ()),
            changes=self._changes(household),
            alternatives=self._alternatives(household, row, model_tier),
            similar=(self.round.similar or {}).get(household, ""),
            checks=self._checks(reasons),
            options=self.policies.options(kinds, self.locale),
            data_gaps=(*gaps, *self._doubts(quality)),
            confidence=confidence,
            confidence_text=str(self.words["confidence_notes"][confidence]),
            unlike_text=unlike,
            unlike_is_health=unlike_is_health,
            risk_types=tuple(self.words["risk_types"][kind] for kind in kinds),
        )

    def _between(self, at: int | None) -> tuple[float, float] | None:
        """Ends of the risk's interval, where the model tells one."""
        if at is None or self.explained.intervals is None:
            return None
        ends = self.explained.intervals.iloc[at]
        return float(ends["low"]), float(ends["high"])

    def _unlike(self, at: int) -> tuple[str, bool]:
        """That the model knows nothing alike, and what to do; whether this tells of health."""
        found, catalog = self.explained.unlike.iloc[at], catalog_of(self.round.model)
        if not found["unlike"]:
            return "", False
        told = str(self.texts["unlike"]).format(unlike=found["text"])
        return told, any(is_about_health(catalog[name]) for name in found["features"])

    def _doubts(self, quality: HouseholdQuality) -> tuple[str, ...]:
        """That records contradict each other: the clerk corrects them, nobody at the door can."""
        count = len(quality.codes)
        return (str(self.texts["doubts"]).format(count=count),) if count else ()

    def _tell_why(self, why: str, tier: str, model_tier: str | None) -> str:
        """Why it is visited, and whose the tier is where rules and model differ."""
        told = str(self.texts["why"][why])
        if model_tier in (None, tier):
            return told
        names = self.words["tiers"]
        whose = str(self.texts["by_rule"]).format(tier=names[tier], model=names[model_tier])
        return f"{told}{self.words['sentence_separator']}{whose}"

    def _alternatives(
        self, household: str, row: pd.Series, model_tier: str | None
    ) -> tuple[str, ...]:
        """What the model would say, with a word where a rule holds the tier all the same."""
        told = tuple((self.round.alternatives or {}).get(household, ()))
        tier = str(row["tier"])
        if row["severity"] != tier or model_tier is None:
            return told
        stays = str(self.texts["rules_stay"]).format(tier=self.words["tiers"][tier])
        return tuple(f"{text}{stays}" for text in told)

    def _tell(self, reason: Reason) -> ReasonFact:
        return ReasonFact(
            theme=reason.theme,
            theme_label=str(self.words["themes"][reason.theme]),
            text=reason.text,
            source=reason.source,
            risk_type=str(self.words["risk_types"][reason.risk_type]),
            points=reason.points,
            is_gap=reason.is_gap,
            is_health=reason.is_health,
        )

    def _left_out(self, count: int) -> str:
        return str(self.words["reasons"]["unstable"]).format(count=count) if count else ""

    def _themes(self, at: int) -> tuple[ThemeFact, ...]:
        points = self.explained.explanation.points_by_theme.iloc[at]
        ordered = points.reindex(points.abs().sort_values(ascending=False, kind="stable").index)
        return tuple(
            ThemeFact(str(self.words["themes"][theme]), float(value), theme == "health")
            for theme, value in ordered.items()
        )

    def _changes(self, household: str) -> tuple[str, ...]:
        change, at = self.explained.change, self.explained.changed.get(household)
        if self.round.previous is None or household not in self.explained.position:
            return ()
        if change is None or at is None:
            return (str(self.texts["not_assessed"]),)
        before, after = float(change.before.iloc[at]), float(change.after.iloc[at])
        shown = [format_value(risk, "share", self.locale) for risk in (before, after)]
        if shown[0] == shown[1]:
            return (str(self.texts["unchanged"]),)
        told = [
            str(self.texts["moved"]).format(
                before=shown[0],
                after=shown[1],
                previous=format_value(str(self.round.previous)[:10], "date", self.locale),
            )
        ]
        points = change.by_theme.iloc[at]
        largest = points.reindex(points.abs().sort_values(ascending=False, kind="stable").index)
        largest = largest[largest.abs() >= SMALLEST_CHANGE].head(MOST_CHANGES)
        told += [
            str(self.texts["moved_by"]).format(
                theme=self.words["themes"][theme],
                change=format_value(float(value), "change_points", self.locale),
            )
            for theme, value in largest.items()
        ]
        rest = float(points.sum() - largest.sum())
        if abs(rest) >= SMALLEST_CHANGE:
            # What is told adds up to the move of the risk.
            text = str(self.texts["moved_rest" if len(largest) else "moved_little"])
            told.append(text.format(change=format_value(rest, "change_points", self.locale)))
        return tuple(told)

    def _checks(self, reasons: HouseholdReasons) -> tuple[str, ...]:
        """One or two things to verify per raising theme, with who holds the proof."""
        proof = self.words["proof"]["themes"]
        themes = list(dict.fromkeys(reason.theme for reason in reasons.raising)) or ["other"]
        per_theme = max(MOST_CHECKS // len(themes), 1)
        checks = []
        for theme in themes:
            holders = str(self.words["list_separator"]).join(proof[theme])
            asked = str(self.words["reasons"]["proof"]).format(departments=holders)
            checks += [
                str(self.texts["check"]).format(check=check, proof=asked)
                for check in self.words["verify"][theme][:per_theme]
            ]
        return tuple(checks)

    def _rank_text(self, household: str) -> str:
        if household not in self.ranks.index:
            return ""
        rank = self.ranks.loc[[household]].iloc[0].to_dict()
        parts = [
            str(self.texts["rank"][level]).format(
                rank=int(rank[level]), of=int(rank[f"{level}_size"])
            )
            for level in ("village", "township")
            if f"{level}_size" in rank and not pd.isna(rank[level])
        ]
        return str(self.words["list_separator"]).join(parts)


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)


def _confidence(gaps: int, left_out: int, quality: HouseholdQuality) -> str:
    """How well founded a card is: what is missing, contradicts itself, or did not hold."""
    if gaps >= MANY_GAPS or quality.errors >= MANY_ERRORS:
        return "low"
    sound = not (left_out or quality.errors or quality.warnings)
    return "high" if gaps <= FEW_GAPS and sound else "medium"


def _rank_in_places(round_: Round) -> pd.DataFrame:
    """Rank of each scored household within its village and township, and their sizes."""
    scored = round_.answer.loc[round_.answer["status"] == "ok", ["risk"]]
    index = pd.MultiIndex.from_product(
        [scored.index, [round_.visit_list.as_of_date]], names=["household_id", "as_of_date"]
    )
    scored = scored.join(find_groups(round_.tables, index).droplevel("as_of_date"))
    ranks = {}
    for level in ("village", "township"):
        if f"{level}_id" not in scored:
            continue
        groups = scored.groupby(f"{level}_id")["risk"]
        ranks[level] = groups.rank(method="min", ascending=False)
        ranks[f"{level}_size"] = groups.transform("size")
    return pd.DataFrame(ranks, index=scored.index)
