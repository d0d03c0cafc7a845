"""A planned round: what its cards say of those who are hard to tell of."""

import dataclasses
import re

import pandas as pd
import pytest

from poverty_risk import (
    PredictionTask,
    RiskModel,
    build_features,
    build_prediction_points,
    label_returns,
    load_catalog,
    make_household_history,
    workflows,
)
from poverty_risk.config import load_config
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.report.dossier import build_visit_facts
from poverty_risk.report.facts import scope_to_role
from poverty_risk.risk_intervals import build_risk_intervals
from poverty_risk.risk_sentence import WIDEST_RANGE
from poverty_risk.similar import build_similar_index
from poverty_risk.tables import HistoryTables

AS_OF = "2023-07-01"
SPARSE, NEW = "SPARSE1", "NEWHH1"


def _with_two_more(tables):
    """One household of which little is known and a rule is hit; one that came after the last round."""
    frames = {name: tables[name] for name in tables.names}
    home = frames["household"].iloc[[0]]
    old = home.assign(household_id=SPARSE, event_date="2022-01-01", known_date="2022-01-05")
    flood = pd.DataFrame(
        {"household_id": [SPARSE], "event_date": ["2023-05-01"], "known_date": ["2023-05-05"],
         "kind": ["flood"], "loss": [9000.0]}
    )  # fmt: skip
    of = {name: frame[frame.get("household_id") == tables.households[0]] for name, frame in
          frames.items() if "household_id" in frame}  # fmt: skip
    late = {}
    for name, frame in of.items():
        told = frame.assign(household_id=NEW, known_date=pd.Timestamp(AS_OF) - pd.Timedelta(days=9))
        told = told[told["event_date"] < told["known_date"]]
        for column in ("person_id", "bill_id", "loan_id"):
            if column in told:
                told[column] = "N" + told[column].astype(str)
        late[name] = told.drop_duplicates(list(tables.schema.tables[name].key))
    for name in of:
        frames[name] = pd.concat([frames[name], late[name]])
    frames["household"] = pd.concat([frames["household"], old])
    frames["shock"] = pd.concat([frames["shock"], flood])
    return HistoryTables.from_frames(frames, tables.schema, tables.line, tables.observed_to)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    tables = make_household_history(150, start="2019-01-01", end="2024-01-01", seed=3).tables
    points = build_prediction_points(tables, ["2020-07-01", "2021-07-01", "2022-02-01"])
    labels = label_returns(tables, points, "12mo", "any").dropna()
    catalog = load_catalog("archive")
    features = build_features(tables, points.loc[labels.index], catalog)
    task = PredictionTask(tables.schema, "at_risk", "any", "12mo", dict(tables.line or {}))
    model = RiskModel(
        catalog, task, n_estimators=12, num_leaves=7, learning_rate=0.2, min_child_samples=10,
        n_jobs=1, embargo=False, early_stopping_rounds=None, n_refits=3,
    ).fit(features, labels)  # fmt: skip
    output = tmp_path_factory.mktemp("round")
    config = load_config(
        "configs/quick.yaml",
        {
            "output": str(output),
            "scoring.as_of_date": AS_OF,
            "visits.share": "0.6",
            "visits.reserve": "3",
        },
    )
    model.save(output / "model")
    model = RiskModel.load(output / "model")
    build_similar_index(model, features, labels).write(
        output / "office_only" / f"similar_{model.model_id_}.npz"
    )
    tables = _with_two_more(tables)
    return config, tables, model, workflows.plan_round(config, tables, model)


def _cards(planned, locale="en"):
    return {card.household: card for card in workflows.tell_round(planned[3], locale).cards}


def test_too_little_data_is_no_high_confidence_and_tells_what_is_lacking(planned):
    answer = planned[3].round.answer
    assert answer.loc[SPARSE, "status"] == "insufficient_data"
    listed = planned[3].round.visit_list.visits
    assert listed.loc[SPARSE, "why"] == "rule"
    card = _cards(planned)["S***1"]
    assert (card.risk, card.confidence) == (None, "low")
    assert card.data_gaps
    assert not re.search("[一-鿿]", "".join(card.data_gaps))


def test_a_card_tells_the_range_of_its_risk(planned):
    round_ = planned[3].round
    ends = build_risk_intervals(round_.model, round_.features).droplevel("as_of_date")
    visits = round_.visit_list.visits
    cards = workflows.tell_round(planned[3], "en").cards
    told = 0
    for household, card in zip(visits.index, cards, strict=False):
        beside = "rough range" in card.risk_text or "a very rough guess" in card.risk_text
        assert (card.risk is not None) == beside
        if card.risk is None:
            continue
        wide = ends.loc[household, "high"] - ends.loc[household, "low"] > WIDEST_RANGE
        assert ("guess" in card.risk_text) == wide
        if wide:
            continue
        told += 1
        found = re.match(
            r".* of ([\d,]+) such .* \(rough range: (\d+) to (\d+)\) will", card.risk_text
        )
        base, low, high = (int(text.replace(",", "")) for text in found.groups())
        assert low / base <= ends.loc[household, "low"] <= card.risk
        assert card.risk <= ends.loc[household, "high"] <= high / base
        assert "%" not in card.risk_text
    assert told > 20


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_who_is_unlike_any_has_low_confidence_and_is_told_by_what(planned, locale):
    round_ = planned[3].round
    before = {card.order: card for card in workflows.tell_round(planned[3], locale).cards}
    order = next(n for n, c in before.items() if c.confidence != "low")
    household = round_.visit_list.visits.index[order - 1]
    features = round_.features.copy()
    features.loc[household, "income_to_line"] = 500.0
    strange = dataclasses.replace(round_, features=features)
    card = next(c for c in build_visit_facts(strange, b"k" * 32, locale).cards if c.order == order)
    assert card.confidence == "low"
    label = round_.model.catalog["income_to_line"].label(locale)
    assert label in card.unlike_text
    assert card.unlike_text.endswith({"zh": "以入户看到的为准", "en": "go by what you see"}[locale])


def test_what_moved_by_theme_adds_up_to_the_move_of_the_risk(planned):
    cards = workflows.tell_round(planned[3], "en").cards
    whole = 0
    for card in cards:
        if not card.changes or "moved from" not in card.changes[0]:
            continue
        before, after = re.fullmatch(r".* from (.*)% on .* to (.*)%", card.changes[0]).groups()
        parts = [
            re.fullmatch(r".*: (rose|fell) by (.*) percentage points?", t) for t in card.changes[1:]
        ]
        moved = sum(float(p[2]) * {"rose": 1, "fell": -1}[p[1]] for p in parts)
        # Rounded: the risks to whole percent at worst, the parts to .1 points or whole ones.
        assert moved == pytest.approx(float(after) - float(before), abs=1.0 + 0.5 * len(parts))
        whole += card.changes[-1].startswith("changes in all other themes together: ")
    assert whole > 5


def test_nothing_moved_for_who_was_not_assessed_in_the_round_before(planned):
    config, tables, model, _ = planned
    asked = workflows.plan_round(config, tables, model, [NEW])
    (card,) = workflows.tell_round(asked, "en").cards
    assert card.changes == ("not assessed in the last round; nothing to compare with",)


def test_a_card_on_request_says_what_the_list_says(planned):
    config, tables, model, whole = planned
    visits = whole.round.visit_list.visits
    assessed = whole.round.answer.index[whole.round.answer["status"] == "ok"]
    on_list = [*visits.index, *whole.round.visit_list.reserve.index]
    # The random share of the list may reach anybody, the one with the lowest risk too.
    listed, other = visits.index[2], assessed.difference(on_list)[-1]
    facts = workflows.tell_round(workflows.plan_round(config, tables, model, [listed, other]), "zh")
    first, second = facts.cards
    of_list = next(c for c in workflows.tell_round(whole, "zh").cards if c.order == 3)
    assert first == of_list
    assert (second.why, second.order, second.due_date) == ("asked", 0, None)
    assert second.why_text.startswith("应要求打印，不在本轮走访清单上")


def test_where_a_rule_sets_the_tier_the_card_says_what_the_model_says(planned):
    round_ = planned[3].round
    listed = round_.visit_list.visits
    model_tier = round_.answer.loc[listed.index, "tier"]
    differs = listed["risk"].notna() & (listed["tier"] != model_tier)
    assert differs.any()
    assert not differs.all()
    cards = {card.order: card for card in workflows.tell_round(planned[3], "zh").cards}
    for order, differ in enumerate(differs, start=1):
        assert ("模型评估为" in cards[order].why_text) == differ
        # A rule holds the tier whatever the model would say.
        held = listed["severity"].iloc[order - 1] == listed["tier"].iloc[order - 1]
        assert all(("预警规则仍按" in text) == held for text in cards[order].alternatives)


def test_similar_households_are_not_shown_before_their_outcomes_were_known(planned, caplog):
    config, tables, model, _ = planned
    early = config.model_copy(
        update={
            "scoring": config.scoring.model_copy(
                update={"as_of_date": pd.Timestamp("2021-02-01").date()}
            )
        }
    )
    round_ = workflows.plan_round(early, tables, model)
    assert round_.similar is None
    assert "known from" in caplog.text


def test_a_date_on_which_nobody_has_a_risk_is_an_error(planned):
    config, tables, model, _ = planned
    nobody = config.model_copy(
        update={
            "scoring": config.scoring.model_copy(
                update={"as_of_date": pd.Timestamp("2010-01-01").date()}
            )
        }
    )
    with pytest.raises(
        FeatureError, match="visit round: found .*; expected households with a risk"
    ):
        workflows.plan_round(nobody, tables, model)


def test_a_place_never_becomes_a_path(planned):
    config, _, _, whole = planned
    facts = workflows.tell_round(whole, "en")
    hostile = "x/../../../../ESCAPED"
    cards = tuple(dataclasses.replace(card, village=hostile) for card in facts.cards[:2])
    facts = dataclasses.replace(facts, cards=cards)
    paths = workflows.write_round(config, whole, facts, role="village", place=hostile)
    folder = (config.output / "visits").resolve()
    assert {paths[name].resolve().parent for name in ("workbook", "page")} == {folder}


def test_a_village_sees_no_prices_of_others_and_no_village_of_the_same_name(planned):
    facts = workflows.tell_round(planned[3], "en")
    village = facts.cards[0].village
    scoped = scope_to_role(facts, "village", village)
    assert {row["level"] for row in scoped.run.quota_prices} <= {"county"}
    twin = dataclasses.replace(facts.cards[1], village=village, township="T999")
    doubled = dataclasses.replace(facts, cards=(facts.cards[0], twin))
    with pytest.raises(DeclarationError, match="in 2 townships"):
        scope_to_role(doubled, "village", village)
