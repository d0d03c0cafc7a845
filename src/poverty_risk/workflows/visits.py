"""A visit round: from the latest scores to workbook, page and cards."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from poverty_risk.alternatives import find_alternatives
from poverty_risk.baselines import OfficeRules
from poverty_risk.cohort import find_groups
from poverty_risk.config import Config
from poverty_risk.consistency import check_consistency, summarise_quality
from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.predict import predict_with_features
from poverty_risk.privacy import hash_id, mask_id, read_or_make_key
from poverty_risk.report.documents import write_document
from poverty_risk.report.dossier import build_visit_facts
from poverty_risk.report.facts import VisitFacts, scope_to_role
from poverty_risk.report.html import render_card, write_page
from poverty_risk.report.policies import PolicyTable
from poverty_risk.report.round import Round, choose_told
from poverty_risk.report.xlsx import write_workbook
from poverty_risk.similar import SimilarIndex, build_similar_index, find_similar
from poverty_risk.tables import HistoryTables
from poverty_risk.visits import VisitList, build_visit_list
from poverty_risk.whole_files import write_private_table
from poverty_risk.wording import load_locale
from poverty_risk.workflows.office import (
    KEY_FILE,
    OFFICE_ONLY,
    find_household_ids,
    keep_visit_list,
    write_lookup,
)
from poverty_risk.workflows.scoring import latest_date
from poverty_risk.workflows.training import TaskResult

__all__ = [
    "ScoredRound",
    "keep_similar",
    "plan_round",
    "tell_round",
    "write_cards",
    "write_round",
]

logger = logging.getLogger(__name__)

SIMILAR = "similar_{model_id}.npz"
"""One per model: a challenger's households do not push out the champion's."""


@dataclass(frozen=True)
class ScoredRound:
    """A scored county with its visit list.

    Parameters
    ----------
    round
        Scores, features and visit list.
    key
        The office's secret.
    similar
        Earlier households to compare with; None where training kept none.
    """

    round: Round
    key: bytes
    similar: SimilarIndex | None


def keep_similar(config: Config, result: TaskResult) -> Path:
    """Keep the training households, without ids, for "what became of similar ones"."""
    data, scored = result.data, result.data.scored.to_numpy()
    index = build_similar_index(
        result.model, data.train[scored], data.train_labels[scored], seed=config.seed
    )
    return index.write(_similar_file(config, result.model))


def _similar_file(config: Config, model: RiskModel) -> Path:
    name = SIMILAR.format(model_id=getattr(model, "model_id_", "unsaved"))
    return config.output / OFFICE_ONLY / name


def plan_round(
    config: Config,
    tables: HistoryTables,
    model: RiskModel | str | Path,
    households: Iterable[str] | None = None,
    locale: str | None = None,
) -> ScoredRound:
    """Score every household at the config's date and choose whom to visit.

    The list is that of the whole county; with `households` given, only theirs are told of.

    Raises
    ------
    FeatureError
        Nobody has a risk, or one of the asked households has none; the error says why.
    """
    loaded, as_of = load_model(model), latest_date(config, tables)
    # Too little data for a risk is enough for a rule: the features of such households are there, and
    # they are candidates, too.
    answer, features = predict_with_features(
        tables,
        as_of_date=as_of,
        model=loaded,
        explain=False,
        locale=locale or config.scoring.locale,
    )
    asked = (
        None if households is None else tuple(dict.fromkeys(find_household_ids(config, households)))
    )
    _check_scored(answer)
    _check_asked(answer, asked)
    path = config.baselines.rules
    rules = OfficeRules.load(None if path in (None, "shipped") else path)
    key = read_or_make_key(config.output / OFFICE_ONLY / KEY_FILE)
    candidates = _find_candidates(config, tables, answer, features, rules)
    visit_list = _choose(config, candidates, as_of, key)
    settings = config.visits
    previous = settings.previous_date(as_of)
    return ScoredRound(
        Round(
            tables,
            loaded,
            features.loc[_scored(answer)],
            answer,
            visit_list,
            rules,
            previous,
            PolicyTable.load(None if settings.policies == "shipped" else settings.policies),
            asked=asked,
            simulated=config.history.source == "simulate",
        ),
        key,
        _read_similar(_similar_file(config, loaded), loaded, as_of),
    )


def _scored(answer: pd.DataFrame) -> pd.Index:
    return answer.index[answer["status"] == "ok"]


def _check_scored(answer: pd.DataFrame) -> None:
    if len(_scored(answer)):
        return
    counts = answer["status"].value_counts()
    found = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "no household"
    expected = "households with a risk"
    raise FeatureError(Fault("visit round", found, expected, "Check the as-of date."))


def _check_asked(answer: pd.DataFrame, households: Iterable[str] | None) -> None:
    """Asked households without a risk are told with the reason, not left out silently."""
    asked = pd.Index([] if households is None else list(households))
    faults = [
        Fault(
            f"household '{mask_id(household)}'", "no record of it", "a known one", "Check the id."
        )
        for household in asked.difference(answer.index)
    ]
    for household in asked.intersection(answer.index).difference(_scored(answer)):
        reason = str(answer["status_reason"][household])
        faults.append(
            Fault(
                f"household '{mask_id(household)}'", reason, "a household with a risk", "See why."
            )
        )
    if faults:
        raise FeatureError(faults)


def _read_similar(path: Path, model: RiskModel, as_of: pd.Timestamp) -> SimilarIndex | None:
    """The index of this very model, if its outcomes were known by then; or none."""
    if not path.is_file():
        return None
    index = SimilarIndex.read(path)
    if index.model_id != getattr(model, "model_id_", None):
        logger.warning("No similar households: '%s' belongs to another model.", path.name)
        return None
    if index.known_from and as_of < pd.Timestamp(index.known_from):
        logger.warning(
            "No similar households: what became of them was known from %s on only; on that date the "
            "model itself had not been trained either.",
            index.known_from,
        )
        return None
    return index


def _find_candidates(
    config: Config,
    tables: HistoryTables,
    answer: pd.DataFrame,
    features: pd.DataFrame,
    rules: OfficeRules,
) -> pd.DataFrame:
    settings, as_of = config.visits, answer["as_of_date"].iloc[0]
    candidates = answer.loc[features.index.get_level_values("household_id"), ["risk", "tier"]]
    by_household = features.droplevel("as_of_date")
    hits = rules.hits(features).droplevel("as_of_date")
    codes = hits.columns.to_numpy()
    named = settings.visit_feature
    days = None if named is None else by_household[named]
    named_hits = pd.Series([list(codes[row]) for row in hits.to_numpy()], index=hits.index)
    candidates = candidates.assign(
        severity=rules.severity(features).droplevel("as_of_date"), rule_codes=named_hits
    )
    if days is not None:
        candidates["last_visit"] = as_of - pd.to_timedelta(days, unit="D")
    groups = find_groups(tables, pd.MultiIndex.from_frame(features.index.to_frame(index=False)))
    return candidates.join(groups.droplevel("as_of_date"))


def _choose(
    config: Config,
    candidates: pd.DataFrame,
    as_of: pd.Timestamp,
    key: bytes,
) -> VisitList:
    settings = config.visits
    return build_visit_list(
        candidates,
        capacity=settings.capacity_for(int(candidates["risk"].notna().sum())),
        as_of_date=as_of,
        minimum=settings.minimum,
        cool_down=settings.cool_down,
        random_share=settings.random_share,
        reserve=settings.reserve,
        first=settings.first,
        tiers=settings.deadlines,
        seed=config.seed,
        key=key,
    )


def tell_round(planned: ScoredRound, locale: str) -> VisitFacts:
    """Put a planned round into words: one card per household of the list and of the reserve.

    Of households that were asked for only theirs, also of those that are on neither.
    """
    round_ = planned.round
    listed = choose_told(round_).index
    ids = round_.features.index.get_level_values("household_id")
    features = round_.features[ids.isin(listed)]
    told = [str(household) for household in features.index.get_level_values("household_id")]
    alternatives = find_alternatives(round_.model, features, locale=locale)
    similar: Mapping[str, str] = {}
    if planned.similar is not None:
        found = find_similar(round_.model, features, planned.similar, locale=locale)
        similar = {h: item.text for h, item in zip(told, found, strict=True)}
    sentences = {
        household: [item.text for item in items]
        for household, items in zip(told, alternatives, strict=True)
    }
    # Of these households alone: a contradiction with others' records needs the whole county (`check`).
    households = [str(household) for household in listed]
    own = round_.tables.select_households(households)
    doubts = check_consistency(own, round_.visit_list.as_of_date)
    told_of = dataclasses.replace(
        round_,
        alternatives=sentences,
        similar=similar,
        before=_find_before(round_, told, locale),
        thin=_find_thin(round_, [one for one in households if one not in set(told)], locale),
        quality=summarise_quality(doubts, households, locale),
    )
    return build_visit_facts(told_of, planned.key, locale)


def _find_thin(round_: Round, households: list[str], locale: str) -> dict[str, list[str]]:
    """What is lacking of those without a risk, in the language of the cards."""
    if not households:
        return {}
    answer, _ = predict_with_features(
        round_.tables,
        as_of_date=round_.visit_list.as_of_date,
        model=round_.model,
        households=households,
        locale=locale,
        explain=False,
    )
    return {str(household): list(gaps) for household, gaps in answer["data_gaps"].items()}


def _find_before(round_: Round, households: list[str], locale: str) -> pd.DataFrame | None:
    """Features of the round before, of those who had a risk then: nothing moved for the others."""
    if round_.previous is None or not households:
        return None
    answer, features = predict_with_features(
        round_.tables,
        as_of_date=round_.previous,
        model=round_.model,
        households=households,
        locale=locale,
        explain=False,
    )
    ids = features.index.get_level_values("household_id")
    return features[ids.isin(_scored(answer))]


def write_round(
    config: Config,
    planned: ScoredRound,
    facts: VisitFacts,
    *,
    role: str = "county",
    place: str = "",
) -> dict[str, Path]:
    """Write workbook and page as a role may see them, and the office's own lookup of pseudonyms."""
    folder, locale = config.output / "visits", facts.run.locale
    folder.mkdir(parents=True, exist_ok=True)
    hidden = str(load_locale(locale)["card_texts"]["hidden"])
    keep_visit_list(config, planned.round.visit_list)
    facts = scope_to_role(facts, role, place, hidden_text=hidden)
    # A village may be called anything; a file may not.
    plain = re.sub(r"[^\w-]+", "-", place)[:40]
    told = "" if role == "county" else f"{role}-{plain}-{_short_hash(place)}"
    name = "_".join(part for part in ("visits", told, locale) if part)
    return {
        "workbook": write_workbook(facts, folder / f"{name}.xlsx", planned.key),
        "page": write_page(facts, folder / f"{name}.html"),
        "lookup": write_lookup(config, planned.round.answer.index, planned.key),
        "who": _write_who(config.output / OFFICE_ONLY, name, planned, facts),
    }


def _write_who(folder: Path, name: str, planned: ScoredRound, facts: VisitFacts) -> Path:
    """Whose the rows of a list are, in its order: for who hands it out, and for nobody else."""
    ids = {hash_id(str(h), planned.key): str(h) for h in planned.round.answer.index}
    rows = pd.DataFrame(
        {
            "order": [card.order for card in facts.cards],
            "pseudonym": [card.pseudonym for card in facts.cards],
            "household_id": [ids[card.pseudonym] for card in facts.cards],
            "township_id": [card.township for card in facts.cards],
            "village_id": [card.village for card in facts.cards],
        }
    )
    path = folder / f"{name}_who.csv"
    write_private_table(rows, path, encoding="utf-8-sig")
    return path


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()


def write_cards(config: Config, facts: VisitFacts) -> list[Path]:
    """Write each card of a round as a page of its own."""
    folder = config.output / "cards"
    return [
        write_document(
            render_card(card, facts.run),
            folder / f"{card.pseudonym}_{facts.run.locale}.html",
            "card",
            private=True,
        )
        for card in facts.cards
    ]
