"""`predict_risk`: every asked household gets an answer, alone or among all, and nothing else happens."""

import dataclasses
import json
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from poverty_risk import answers, predict
from poverty_risk.batch import predict_folder
from poverty_risk.cohort import build_prediction_points
from poverty_risk.data_gaps import find_telling, usually_known
from poverty_risk.exceptions import (
    DeclarationError,
    FeatureError,
    ModelFolderError,
    PovertyRiskError,
)
from poverty_risk.explain import explain_risk
from poverty_risk.features import Catalog, FeatureSpec, build_features
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.predict import predict_from_features, predict_risk
from poverty_risk.prediction_folder import read_predictions
from poverty_risk.reasons import build_reasons
from poverty_risk.report.summary import render_explained
from poverty_risk.risk_intervals import build_risk_intervals
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables, read_history
from poverty_risk.unlike import find_unlike
from poverty_risk.wording import load_locale
from small_county import AS_OF, train_small_county

DTYPES = {
    "as_of_date": "datetime64[us]",
    "status": "str",
    "status_reason": "str",
    "risk": "float64",
    "rank": "Int64",
    "tier": "str",
    "margin": "float64",
    "reasons": "object",
    "protective_factors": "object",
    "data_gaps": "object",
    "model_id": "str",
    "risk_low": "float64",
    "risk_high": "float64",
    "unlike": "str",
}


@pytest.fixture(scope="module")
def county():
    return train_small_county(n_refits=3)


@pytest.fixture(scope="module")
def folder(county, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    county.model.save(folder)
    return folder


@pytest.fixture(scope="module")
def whole(county, folder):
    """The answer for the whole county."""
    return predict_risk(county.tables, as_of_date=AS_OF, model=folder)


def frames_of(tables: HistoryTables, households=None, names=None) -> dict[str, pd.DataFrame]:
    """Raw tables, some of them and of some households only: validating takes time."""
    if households is not None:
        tables = tables.select_households(households)
    return {name: tables[name] for name in names or tables.names}


def rebuild(tables: HistoryTables, frames) -> HistoryTables:
    return HistoryTables.from_frames(frames, tables.schema, tables.line, tables.observed_to)


def add_rows(frames, name: str, rows: list[dict]) -> None:
    frames[name] = pd.concat([frames[name], pd.DataFrame(rows)], ignore_index=True)


def well_known(whole: pd.DataFrame, count: int) -> pd.Index:
    """Households of whom nothing that is usually known is missing."""
    gaps = whole["data_gaps"].map(len)
    return whole.index[(gaps == 0) & (whole["status"] == "ok")][:count]


# ------------------------------------------------------------------------------ what the answer is


def test_the_answer_is_what_model_and_reasons_say_of_the_features(county, whole):
    model, catalog = county.model, county.model.catalog
    points = build_prediction_points(county.tables, AS_OF, "at_risk")
    features = build_features(county.tables, points, catalog)
    answered = whole[whole["status"] == "ok"]
    ids = answered.index
    assert set(ids) <= set(points.index.get_level_values("household_id"))
    features = features.loc[[(household, pd.Timestamp(AS_OF)) for household in ids]]
    expected = model.risk(features)
    assert (answered["risk"].to_numpy() == expected.to_numpy()).all()
    assert (answered["margin"].to_numpy() == model.margin(features).to_numpy()).all()
    for column, count, raises in (("reasons", 4, True), ("protective_factors", 2, False)):
        told = [
            [reason.text for reason in reasons if reason.raises is raises]
            for reasons in build_reasons(explain_risk(model, features), model, "zh")
        ]
        assert answered[column].tolist() == told
        assert max(map(len, told)) <= count
    # Tiers by their definition: the highest one whose lowest risk is reached.
    tiers = [
        max((lowest, tier) for tier, lowest in [*model.tiers_.items(), ("green", -1.0)] if r >= lowest)[1]
        for r in expected
    ]  # fmt: skip
    assert answered["tier"].tolist() == tiers
    assert set(tiers) > {"green"}


def test_columns_and_types_are_as_documented(county, folder, whole):
    answers = [
        whole,
        predict_risk(county.tables, as_of_date=AS_OF, model=folder, households=[]),
        predict_risk(county.tables, as_of_date=AS_OF, model=folder, households="nobody"),
        predict_risk(county.tables, as_of_date=AS_OF, model=folder, explain=False),
    ]
    for answer in answers:
        assert answer.dtypes.astype(str).to_dict() == DTYPES
        assert list(answer) == list(DTYPES)
        assert answer.index.name == "household_id"
        assert str(answer.index.dtype) == "str"
    assert [len(answer) for answer in answers] == [len(whole), 0, 1, len(whole)]
    for column in ("reasons", "protective_factors", "data_gaps"):
        assert all(type(texts) is list for texts in whole[column])
    assert whole["as_of_date"].unique().tolist() == [pd.Timestamp(AS_OF)]


def test_explained_households_tell_range_and_what_is_unusual(county, folder, whole):
    told = predict_risk(county.tables, as_of_date=AS_OF, model=folder, locale="en")
    told["unlike"] = pd.Series({told.index[1]: "unlike any: wage"})
    told.loc[told.index[:2], ["risk", "risk_low", "risk_high"]] = [0.08, 0.03, 0.19]
    text = render_explained(told, told.index[:2], "12mo", "en")
    first, second = text.split("\n## ")[1:]
    assert "About 8 of 100 such households (rough range: 3 to 19) will have" in first
    assert "Unusual case" not in first
    assert "**Unusual case**: unlike any: wage; check these entries first" in second
    bare = whole.drop(columns=["risk_low", "risk_high", "unlike"])  # of an older release
    assert "大致范围" not in render_explained(bare, bare.index[:1], "12mo")
    # What a reason calls a gap is among what to ask for.
    gap = load_locale("en")["reasons"]["gap_ask"].format(ask="who works")
    bare = bare.iloc[:1].assign(data_gaps=[[]], reasons=[[gap]], protective_factors=[[]])
    asked = render_explained(bare, bare.index, "12mo", "en").partition("To be asked for")[2]
    assert "- who works" in asked
    assert "nothing" not in asked


def test_every_household_of_the_history_is_answered_once(county, whole):
    assert sorted(whole.index) == county.tables.households.tolist()
    assert set(whole["status"]) == {"ok", "not_in_cohort", "insufficient_data"}


def test_only_those_who_are_ok_have_a_risk_and_only_the_others_a_reason(whole):
    ok = whole["status"] == "ok"
    for column in ("risk", "rank", "tier", "margin"):
        assert (whole[column].notna() == ok).all()
    assert (whole["status_reason"].isna() == ok).all()
    assert whole["risk"].dropna().between(0, 1).all()


def test_without_reasons_the_rest_is_the_same(county, folder, whole):
    quick = predict_risk(county.tables, as_of_date=AS_OF, model=folder, explain=False)
    texts = ["reasons", "protective_factors"]
    left_out = [*texts, "risk_low", "risk_high", "unlike"]
    pd.testing.assert_frame_equal(quick.drop(columns=left_out), whole.drop(columns=left_out))
    for column in texts:
        assert not any(quick[column])
        assert any(whole[column])
    assert quick[["risk_low", "risk_high", "unlike"]].isna().all(axis=None)


def test_the_rough_range_is_that_of_the_model_s_intervals(county, whole):
    ok = whole["status"] == "ok"
    for column in ("risk_low", "risk_high"):
        assert (whole[column].notna() == ok).all()
    features = features_of(county.tables, county.model, whole.index[ok])
    expected = build_risk_intervals(county.model, features)
    assert (whole.loc[ok, "risk_low"].to_numpy() == expected["low"].to_numpy()).all()
    assert (whole.loc[ok, "risk_high"].to_numpy() == expected["high"].to_numpy()).all()
    assert (whole["risk_low"] < whole["risk"])[ok].all()
    assert (whole["risk"] < whole["risk_high"])[ok].all()


@pytest.mark.parametrize("parameters", [{"n_refits": 0}, {"calibration": "isotonic"}])
def test_a_model_that_tells_no_range_answers_all_the_same(county, whole, parameters):
    model = RiskModel(
        county.model.catalog, county.model.task, **(settings_of(county.model) | parameters)
    ).fit(county.features, county.labels)
    answer = predict_risk(county.tables, as_of_date=AS_OF, model=model)
    assert answer["risk"].notna().sum() == whole["risk"].notna().sum()
    assert answer[["risk_low", "risk_high"]].isna().all(axis=None)
    assert answer["reasons"].map(len).any()


def test_a_household_unlike_any_in_training_is_told_by_what(county, whole):
    known = well_known(whole, 3)
    features = features_of(county.tables, county.model, known)
    assert predict_from_features(features, model=county.model)["unlike"].isna().all()
    name = next(
        name
        for name, entry in county.model.reference_.items()
        if "quantiles" in entry and county.model.catalog[name].theme == "income"
    )
    features.iloc[1, features.columns.get_loc(name)] = 1e9
    for locale in ("zh", "en"):
        answer = predict_from_features(features, model=county.model, locale=locale)
        told = answer["unlike"].dropna()
        assert told.index.tolist() == [known[1]]
        expected = find_unlike(county.model, features, locale)["text"].iloc[1]
        assert told.iloc[0] == expected
        assert county.model.catalog[name].label(locale) in expected


def test_highest_risk_first_and_equal_risks_share_a_rank(county):
    # Isotonic calibration gives many households the same risk.
    parameters = settings_of(county.model) | {"calibration": "isotonic"}
    steps = RiskModel(county.model.catalog, county.model.task, **parameters)
    steps.fit(county.features, county.labels)
    answer = predict_risk(county.tables, as_of_date=AS_OF, model=steps, explain=False)
    risk = answer["risk"].dropna()
    assert risk.nunique() < len(risk) / 2
    assert risk.index.tolist() == answer.index[: len(risk)].tolist()
    assert (np.diff(risk) <= 0).all()
    expected = [1 + int((risk > value).sum()) for value in risk]
    assert answer["rank"].dropna().tolist() == expected
    # Within a risk by margin; what is equal in both, and those without a risk, by id.
    order = sorted(risk.index, key=lambda h: (-risk[h], -answer.loc[h, "margin"], h))
    assert risk.index.tolist() == order
    rest = answer.index[len(risk) :].tolist()
    assert rest == sorted(rest)


def test_an_unsaved_model_says_so(county, folder, whole):
    unsaved = RiskModel(county.model.catalog, county.model.task, **settings_of(county.model))
    unsaved.fit(county.features, county.labels)
    answer = predict_risk(county.tables, as_of_date=AS_OF, model=unsaved)
    assert answer["model_id"].unique().tolist() == ["unsaved"]
    pd.testing.assert_frame_equal(answer.drop(columns="model_id"), whole.drop(columns="model_id"))
    identifier = json.loads((folder / "manifest.json").read_text("utf-8"))["model_id"]
    assert whole["model_id"].unique().tolist() == [identifier]


def settings_of(model: RiskModel) -> dict:
    parameters = model.get_params(deep=False)
    return {name: value for name, value in parameters.items() if name not in ("catalog", "task")}


def test_a_folder_that_is_replaced_is_read_again(county, tmp_path):
    model = RiskModel.load(county.model.save(tmp_path / "a") and tmp_path / "a")
    first = predict_risk(county.tables, as_of_date=AS_OF, model=tmp_path / "a", households=[])
    other = RiskModel(model.catalog, model.task, **(settings_of(model) | {"n_estimators": 3}))
    identifier = other.fit(county.features, county.labels).save(tmp_path / "a")
    answer = predict_risk(
        county.tables, as_of_date=AS_OF, model=str(tmp_path / "a"), households="x"
    )
    assert answer["model_id"].tolist() == [identifier]
    assert len(first) == 0


# --------------------------------------------------------------------------- one, some, all, nobody


def test_one_household_alone_gets_the_row_that_it_gets_among_all(county, folder, whole):
    ok = whole.index[whole["status"] == "ok"]
    asked = [ok[0], ok[len(ok) // 2], ok[-1], whole.index[-1]]
    for household in asked:
        alone = predict_risk(county.tables, as_of_date=AS_OF, model=folder, households=household)
        expected = whole.loc[[household]].drop(columns="rank")
        pd.testing.assert_frame_equal(alone.drop(columns="rank"), expected, check_exact=True)


def test_from_its_own_records_alone_a_household_gets_the_same_row(county, folder, whole):
    # The monitoring system may bring one household's records and its village's, and nothing else.
    household = whole.index[0]
    frames = frames_of(county.tables, [household])
    assert set(frames["person"]["household_id"]) == {household}
    tables = HistoryTables.from_frames(frames, county.tables.schema, county.tables.line)
    alone = predict_risk(tables, as_of_date=AS_OF, model=folder)
    expected = whole.loc[[household]].drop(columns="rank")
    pd.testing.assert_frame_equal(alone.drop(columns="rank"), expected, check_exact=True)


def test_two_halves_give_what_the_whole_gives(county, folder, whole):
    ids = sorted(whole.index)
    parts = [
        predict_risk(county.tables, as_of_date=AS_OF, model=folder, households=half)
        for half in (ids[::2], ids[1::2])
    ]
    together = pd.concat(parts).loc[whole.index]
    pd.testing.assert_frame_equal(
        together.drop(columns="rank"), whole.drop(columns="rank"), check_exact=True
    )


FORMS = {
    "list": list,
    "set": set,
    "generator": lambda ids: (household for household in ids),
    "series": lambda ids: pd.Series(ids, index=range(7, 7 + len(ids))),
    "repeated": lambda ids: ids + ids[:2] + ids[-1:],
}


@pytest.mark.parametrize("form", FORMS)
def test_households_may_come_in_any_form_and_are_answered_once(county, folder, whole, form):
    ids = [*whole.index[:2], "nobody", *whole.index[-2:]]
    answer = predict_risk(
        county.tables, as_of_date=AS_OF, model=folder, households=FORMS[form](ids), explain=False
    )
    assert sorted(answer.index) == sorted(ids)
    assert answer["status"].tolist()[:2] == ["ok", "ok"]
    assert answer.loc["nobody", "status"] == "unknown_household"


def test_a_number_or_nothing_as_id_is_an_unknown_household(county, folder):
    answer = predict_risk(
        county.tables, as_of_date=AS_OF, model=folder, households=[12, None, float("nan"), ""]
    )
    assert answer["status"].tolist() == ["unknown_household"] * 4
    assert answer["status_reason"].notna().all()


def test_half_a_character_and_a_filled_up_field_do_not_fail_the_others(county, folder, whole):
    first = whole.index[0]
    answer = predict_risk(
        county.tables, as_of_date=AS_OF, model=folder, households=[first, first + "\0", "\ud800"]
    )
    assert answer["status"].to_dict() == {first: "ok", "\\ud800": "unknown_household"}


def test_an_id_of_many_characters_is_not_cut_to_one_that_is_known(county, folder, whole):
    longer = whole.index[0] + "0" * 40
    answer = predict_risk(
        county.tables, as_of_date=AS_OF, model=folder, households=[whole.index[0], longer]
    )
    assert answer["status"].to_dict() == {whole.index[0]: "ok", longer: "unknown_household"}


def test_lists_of_two_households_are_not_one_list(county, folder):
    answer = predict_risk(county.tables, as_of_date=AS_OF, model=folder, households=["x", "y"])
    answer["reasons"].iloc[0].append("changed")
    assert answer["reasons"].iloc[1] == []


# ----------------------------------------------------------------- those who cannot be told a risk


@pytest.fixture(scope="module")
def troubled(county, whole):
    """The county with five more households of whom no risk can be told, and one who has little."""
    frames = frames_of(county.tables)
    archive = {
        "event_date": "2019-03-01",
        "known_date": "2019-03-05",
        "township_id": "T1",
        "village_id": "V1",
        "status": "active",
        "household_type": "lifted",
    }
    add_rows(
        frames,
        "household",
        [
            archive | {"household_id": "gone"},
            archive | {"household_id": "gone", "event_date": "2022-03-01",
                       "known_date": "2022-03-05", "status": "moved"},
            # A repeat of a record costs nothing: it must not be told as the reason.
            archive | {"household_id": "gone"},
            archive | {"household_id": "watched"},
            archive | {"household_id": "garbled", "status": "aktiv", "cultivated_land": "-3"},
            archive | {"household_id": "late", "event_date": "2023-06-20",
                       "known_date": AS_OF},
            archive | {"household_id": "new"},
            # Rejected records of those who are in the cohort, or out of it for something else.
            archive | {"household_id": "watched", "event_date": "2020-03-01", "status": "aktiv"},
            archive | {"household_id": whole.index[0], "status": "aktiv"},
        ],
    )  # fmt: skip
    watched = {"household_id": "watched", "event_date": "2022-01-01", "known_date": "2022-01-09"}
    add_rows(frames, "monitoring", [watched | {"status": "identified"}])
    add_rows(
        frames,
        "person",
        [
            {"household_id": "garbled", "person_id": "garbled-1", "event_date": "2019-03-01",
             "known_date": "2019-03-05", "status": "present"},
        ],
    )  # fmt: skip
    return rebuild(county.tables, frames)


REASONS = {
    "gone": ("not_in_cohort", "该户已迁出、注销或没有有效档案", "moved away"),
    "watched": ("not_in_cohort", "该户正在监测帮扶中，风险尚未消除", "is being monitored"),
    "garbled": (
        "rejected_records",
        "1条记录未通过校验，涉及：household.cultivated_land、household.status",
        "1 records were rejected, in: household.cultivated_land, household.status",
    ),
    "late": ("not_in_cohort", "没有有效档案", "no valid record"),
    "stranger": ("unknown_household", "没有该户在评估日之前已知的记录", "no record of the household"),
}  # fmt: skip


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_each_household_without_a_risk_is_told_why(troubled, folder, locale):
    answer = predict_risk(
        troubled, as_of_date=AS_OF, model=folder, households=list(REASONS), locale=locale
    )
    for household, (status, chinese, english) in REASONS.items():
        assert answer.loc[household, "status"] == status
        reason = answer.loc[household, "status_reason"]
        assert (chinese if locale == "zh" else english) in reason
        assert answer.loc[household, ["risk", "rank", "tier", "margin"]].isna().all()


def test_a_date_before_all_records_is_told(county, folder, caplog):
    answer = predict_risk(county.tables, as_of_date="2011-01-01", model=folder, explain=False)
    assert set(answer["status"]) == {"not_in_cohort"}
    told = f"None of {len(answer)} households is in the cohort on 2011-01-01: is the date right?"
    assert told in caplog.text
    caplog.clear()
    predict_risk(county.tables, as_of_date=AS_OF, model=folder, explain=False)
    assert "cohort" not in caplog.text
    # A household whose records were rejected does not silence it.
    predict.tell_if_nobody(pd.Series({"not_in_cohort": 9, "rejected_records": 1}), "2011-01-01")
    assert "None of 10 households" in caplog.text


def test_a_date_before_all_records_is_told_once_for_a_county(county, folder, caplog, tmp_path):
    written = county.tables.write(tmp_path / "county")
    asked = {"model": folder, "households": 50, "explain": False}
    predict_folder(written, tmp_path / "early", as_of_date="2011-01-01", **asked)
    assert caplog.text.count("is in the cohort on 2011-01-01: is the date right?") == 1
    caplog.clear()
    # One range of which nobody is in the cohort says nothing of the county.
    predict_folder(written, tmp_path / "now", as_of_date=AS_OF, **(asked | {"households": 1}))
    assert "cohort" not in caplog.text


def test_a_written_history_tells_the_same(troubled, folder, tmp_path):
    asked = {"as_of_date": AS_OF, "model": folder, "households": list(REASONS)}
    expected = predict_risk(troubled, **asked)
    written = troubled.write(tmp_path / "history")
    pd.testing.assert_frame_equal(predict_risk(read_history(written), **asked), expected)
    # Read by ranges, too.
    made = predict_folder(written, tmp_path / "made", model=folder, as_of_date=AS_OF)
    (path,) = made.values()
    assert read_predictions(path).loc["garbled", "status"] == "rejected_records"


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_too_little_data_is_counted_and_what_is_missing_is_named(troubled, folder, locale):
    answer = predict_risk(
        troubled, as_of_date=AS_OF, model=folder, households=["new"], locale=locale
    )
    row = answer.loc["new"]
    assert row["status"] == "insufficient_data"
    # Usually known: missing in at most a tenth of the training rows. Of these, only features that are
    # missing for somebody of whom there is no record tell whether anything is known.
    model = RiskModel.load(folder)
    index = pd.MultiIndex.from_tuples(
        [("new", pd.Timestamp(AS_OF)), ("stranger", pd.Timestamp(AS_OF))],
        names=["household_id", "as_of_date"],
    )
    features = build_features(troubled, pd.DataFrame(index=index), model.catalog)
    usual = [name for name, entry in model.reference_.items() if entry["missing"] <= 0.1]
    telling = [name for name in usual if pd.isna(features[name].iloc[1])]
    missing = sum(pd.isna(features[name].iloc[0]) for name in telling)
    assert 0 < len(telling) < len(usual)
    assert len(telling) / 2 < missing < len(telling)
    numbers = re.findall(r"\d+", row["status_reason"])
    assert sorted(map(int, numbers)) == sorted([missing, len(telling)])
    assert 0 < len(row["data_gaps"]) <= 5
    assert np.isnan(row["risk"])


def test_the_others_are_answered_as_if_nobody_were_in_trouble(troubled, folder, whole):
    answer = predict_risk(troubled, as_of_date=AS_OF, model=folder)
    assert len(answer) == len(whole) + 5  # those without any accepted record are not in the history
    pd.testing.assert_frame_equal(answer.loc[whole.index], whole, check_exact=True)
    others = answer["status"].drop(whole.index).value_counts().to_dict()
    assert others == {"not_in_cohort": 3, "insufficient_data": 1, "rejected_records": 1}


def test_rejected_records_of_another_table_are_not_the_reason(county, folder, whole):
    # A moved household whose bill was rejected is out of the cohort because it moved.
    household = whole.index[(whole["status"] == "not_in_cohort").to_numpy()][0]
    frames = frames_of(county.tables, [household], ["household", "shock"])
    bad = {"household_id": household, "event_date": "2022-01-01", "known_date": "2021-01-01"}
    add_rows(frames, "shock", [bad | {"kind": "flood"}])
    tables = rebuild(county.tables, frames)
    assert len(tables.rejected_rows("shock")) == 1
    answer = predict_risk(tables, as_of_date=AS_OF, model=folder, households=household)
    assert answer["status"].tolist() == ["not_in_cohort"]


def test_before_the_history_began_nobody_is_in_the_cohort(county, folder):
    answer = predict_risk(county.tables, as_of_date="2010-01-01", model=folder)
    assert set(answer["status"]) == {"not_in_cohort"}
    assert answer["rank"].isna().all()


def test_an_unknown_household_is_unknown_though_the_cohort_asks_for_no_record(county):
    # A cohort that keeps households without a record of its tables would take anybody in.
    content = {"tables": {}, "cohorts": {"open": [
        {"table": "monitoring", "where": "status == 'cleared'", "if_absent": "keep", "reason": "x"}
    ]}}  # fmt: skip
    schema = load_schema("archive").extended(content, "test")
    task = dataclasses.replace(county.model.task, schema=schema, cohort="open")
    model = RiskModel(county.model.catalog, task, **settings_of(county.model))
    model.fit(county.features, county.labels)
    frames = frames_of(county.tables, names=["visit"])
    tables = HistoryTables.from_frames(frames, schema, county.tables.line)
    answer = predict_risk(tables, as_of_date=AS_OF, model=model, households=["stranger"])
    assert answer["status"].tolist() == ["unknown_household"]


# ------------------------------------------------------------------------- from features that are ready

ANSWERED = ["status", "status_reason", "risk", "tier", "margin", "reasons", "protective_factors",
            "data_gaps", "model_id"]  # fmt: skip


def features_of(tables, model, households) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [households, pd.to_datetime([AS_OF])], names=["household_id", "as_of_date"]
    )
    return build_features(tables, pd.DataFrame(index=index), model.catalog)


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_ready_features_get_the_same_answer_one_by_one_or_together(troubled, folder, locale):
    model = RiskModel.load(folder)
    expected = predict_risk(troubled, as_of_date=AS_OF, model=model, locale=locale)
    expected = expected[expected["status"].isin(["ok", "insufficient_data"])]
    assert set(expected["status"]) == {"ok", "insufficient_data"}
    features = features_of(troubled, model, expected.index.sort_values())
    together = predict_from_features(features, model=model, locale=locale)
    pd.testing.assert_frame_equal(together, expected, check_exact=True)
    # By name, whatever else stands there in whatever order.
    shuffled = features.iloc[:, ::-1].assign(village="V1")
    for household in ["new", *expected.index[:5]]:
        alone = predict_from_features(shuffled.loc[[household]], model=folder, locale=locale)
        pd.testing.assert_frame_equal(
            alone[ANSWERED], expected.loc[[household], ANSWERED], check_exact=True
        )
        assert alone.dtypes.astype(str).to_dict() == DTYPES
    silent = predict_from_features(features, model=model, explain=False)
    pd.testing.assert_series_equal(silent["risk"], expected["risk"], check_exact=True)
    assert not silent["reasons"].map(len).any()


def test_ready_features_without_a_table_are_answered_alike(county, folder):
    model = RiskModel.load(folder)
    used = {spec.table for spec in model.catalog.specs if spec.table} - {"household"}
    for absent in sorted(used):
        tables = rebuild(county.tables, frames_of(county.tables, names=[
            name for name in county.tables.names if name != absent
        ]))  # fmt: skip
        try:
            expected = predict_risk(tables, as_of_date=AS_OF, model=model)
        except PovertyRiskError:
            continue  # a cohort that cannot do without the table
        members = expected.index[expected["status"].isin(["ok", "insufficient_data"])]
        answer = predict_from_features(
            features_of(tables, model, members.sort_values()), model=model
        )
        pd.testing.assert_frame_equal(answer, expected.loc[answer.index], check_exact=True)


def test_no_features_no_rows(county, folder):
    model = RiskModel.load(folder)
    answer = predict_from_features(features_of(county.tables, model, []), model=model)
    assert len(answer) == 0
    assert answer.dtypes.astype(str).to_dict() == DTYPES


def test_features_that_cannot_be_answered_are_refused(county, folder, whole):
    model = RiskModel.load(folder)
    features = features_of(county.tables, model, whole.index[:2])
    later = features.rename(index={pd.Timestamp(AS_OF): pd.Timestamp("2023-08-01")}, level=1)
    with pytest.raises(FeatureError, match="several as-of dates"):
        predict_from_features(pd.concat([features, later]), model=model)
    with pytest.raises(FeatureError, match="no column"):
        predict_from_features(features.iloc[:, :3], model=model)
    with pytest.raises(FeatureError, match="index"):
        predict_from_features(features.droplevel("as_of_date"), model=model)
    with pytest.raises(FeatureError, match="repeated points"):
        predict_from_features(features.iloc[[0, 0]], model=model)


@pytest.mark.parametrize("absent", [(), ("visit",), ("work", "village")])
def test_what_is_missing_for_a_stranger_is_known_without_a_history(county, absent):
    model = county.model
    names = [name for name in county.tables.names if name not in absent]
    tables = rebuild(county.tables, frames_of(county.tables, names=names))
    blank = features_of(tables, model, ["stranger"]).iloc[0]
    usual = usually_known(model)
    expected = [name for name in usual if pd.isna(blank[name])]
    assert find_telling(model, pd.Timestamp(AS_OF), tables.absent) == tuple(expected)
    assert 0 < len(expected) < len(usual)


def test_what_is_no_id_no_model_and_no_table_is_told(county):
    model, asked = county.model, {"as_of_date": AS_OF}
    with pytest.raises(DeclarationError, match="households: found int; expected an id"):
        predict_risk(county.tables, model=model, households=1, **asked)
    with pytest.raises(DeclarationError, match="model: found NoneType; expected a model folder"):
        predict_risk(county.tables, model=None, **asked)
    with pytest.raises(FeatureError, match="features: found dict; expected a DataFrame"):
        predict_from_features({}, model=model)


def test_ready_features_may_have_columns_that_the_model_does_not_read(county):
    model = county.model
    features = features_of(county.tables, model, county.tables.households[:3])
    others = [name for name in features if name not in model.columns_.places]
    twice = pd.concat([features, features[others]], axis=1)
    found = predict_from_features(twice, model=model)
    pd.testing.assert_frame_equal(found, predict_from_features(features, model=model))


# ----------------------------------------------------------------------------------------- many at once


def test_eight_threads_get_what_one_gets(county, folder):
    # A model of its own: what is kept at first use is made by all threads at once.
    model = RiskModel.load(folder)
    asked = [
        (household, locale)
        for household in [*county.tables.households[:20], "stranger"]
        for locale in ("zh", "en")
    ]

    def answer(question):
        household, locale = question
        return predict_risk(
            county.tables, as_of_date=AS_OF, model=model, households=household, locale=locale
        )

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answer, asked))
    for question, one in zip(asked, found, strict=True):
        pd.testing.assert_frame_equal(one, answer(question), check_exact=True)


# --------------------------------------------------------------- a computation that fails on one history


LARGEST = 2**63 - 1
"""The largest integer that a column without a limit accepts."""


@pytest.fixture
def overflowing(monkeypatch):
    """Features that cannot be computed of households whose ledger says something very large."""

    def build(tables, points, catalog):
        ids = points.index.get_level_values("household_id")
        ledger = tables["ledger"].query("amount > 1e18")
        if large := sorted(set(ledger["household_id"]) & set(ids)):
            message = f"overflow of {LARGEST} at {large}"
            raise OverflowError(message)
        return build_features(tables, points, catalog)

    monkeypatch.setattr(predict, "build_features", build)


def make_ledger(entries: dict[str, list[int]]) -> HistoryTables:
    """A history of one table whose integers have no upper limit."""
    content = {
        "tables": {
            "ledger": {
                "label": {"zh": "台账", "en": "ledger"},
                "entity": "household",
                "key": ["household_id", "event_date"],
                "columns": {"amount": {"kind": "integer", "label": {"zh": "数额", "en": "amount"}}},
            }
        },
        "cohorts": {
            "listed": [
                {"table": "ledger", "where": "amount > -1", "if_absent": "drop", "reason": "none"}
            ]
        },
    }
    schema = load_schema("archive").extended(content, "test")
    rows = [
        {"household_id": household, "event_date": f"2023-{month:02d}-01",
         "known_date": f"2023-{month:02d}-02", "amount": str(amount)}
        for household, amounts in entries.items()
        for month, amount in enumerate(amounts, start=1)
    ]  # fmt: skip
    return HistoryTables.from_frames({"ledger": pd.DataFrame(rows)}, schema)


@pytest.fixture(scope="module")
def ledger_model():
    tables = make_ledger({"h": [1]})
    catalog = Catalog(
        [
            FeatureSpec(stem="amount", table="ledger", value="amount * 2", aggregator="last",
                        lookback="365d", theme="income", direction=-1),
            FeatureSpec(stem="entries", table="ledger", aggregator="count", lookback="365d",
                        theme="visits"),
        ],
        "archive",
        "test",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    features = pd.DataFrame(
        {
            "amount_last_365d": rng.integers(0, 100, 400),
            "entries_count_365d": rng.integers(1, 9, 400),
        }
    ).astype(float)
    labels = pd.Series((features["amount_last_365d"] < 20).astype(float))
    task = PredictionTask(tables.schema, "listed", "identified", "12mo")
    model = RiskModel(
        catalog, task, n_estimators=5, calibration=None, early_stopping_rounds=None, n_jobs=1
    )
    return model.fit(features, labels)


GOOD = {f"good{number:02d}": [10 * number, 20, 3 * number] for number in range(12)}
BAD = {"bad-a": [5, LARGEST], "bad-b": [LARGEST], "bad-c": [1, 2, LARGEST - 1]}


@pytest.mark.parametrize("locale", ["zh", "en"])
@pytest.mark.usefixtures("overflowing")
def test_a_history_that_cannot_be_computed_does_not_stop_the_others(ledger_model, caplog, locale):
    tables = make_ledger(GOOD | BAD)
    assert len(tables.rejected) == 0
    with caplog.at_level(logging.DEBUG):
        answer = predict_risk(tables, as_of_date="2023-06-01", model=ledger_model, locale=locale)
    alone = predict_risk(
        make_ledger(GOOD), as_of_date="2023-06-01", model=ledger_model, locale=locale
    )
    pd.testing.assert_frame_equal(answer.loc[alone.index], alone, check_exact=True)
    assert set(alone["status"]) == {"ok"}
    failed = answer.loc[list(BAD)]
    assert set(failed["status"]) == {"error"}
    expected = {
        "zh": "该户数据在计算中出错，未能评估",
        "en": "a computation failed on the data of the household; it was not assessed",
    }
    assert set(failed["status_reason"]) == {expected[locale]}
    assert failed[["risk", "rank", "tier", "margin"]].isna().all(axis=None)
    assert answer.dtypes.astype(str).to_dict() == DTYPES
    assert "3 of 15 households could not be assessed" in caplog.text
    # Neither who nor what.
    assert not any(household in caplog.text for household in answer.index)
    assert str(LARGEST)[:6] not in caplog.text


@pytest.mark.usefixtures("overflowing")
def test_asked_alone_it_gets_the_same_answer(ledger_model):
    tables = make_ledger(GOOD | BAD)
    answer = predict_risk(
        tables, as_of_date="2023-06-01", model=ledger_model, households=["bad-b", "stranger"]
    )
    assert answer["status"].to_dict() == {"bad-b": "error", "stranger": "unknown_household"}


@pytest.mark.usefixtures("overflowing")
def test_it_does_not_stop_those_who_are_asked_for_without_it(ledger_model):
    answer = predict_risk(
        make_ledger(GOOD | BAD), as_of_date="2023-06-01", model=ledger_model, households=list(GOOD)
    )
    assert set(answer["status"]) == {"ok"}


@pytest.mark.usefixtures("overflowing")
def test_what_fails_for_everybody_is_an_error_and_no_answer(ledger_model, monkeypatch):
    tables = make_ledger({f"h{number:03d}": [LARGEST] for number in range(9)})
    answer = predict_risk(tables, as_of_date="2023-06-01", model=ledger_model)
    assert set(answer["status"]) == {"error"}  # nine may be nine unlucky households
    monkeypatch.setattr(answers, "MOST_FAILURES", 4)
    with pytest.raises(Exception, match="[Oo]verflow"):
        predict_risk(tables, as_of_date="2023-06-01", model=ledger_model)


def test_a_fault_in_the_explanation_is_told_apart_too(county, folder, whole, monkeypatch):
    unlucky = whole.index[2]
    points = pd.MultiIndex.from_product(
        [[unlucky], pd.to_datetime([AS_OF])], names=["household_id", "as_of_date"]
    )
    features = build_features(county.tables, pd.DataFrame(index=points), county.model.catalog)
    own = county.model.columns_.matrix(features)[0]

    def explain(model, rows):
        if any(np.array_equal(row, own, equal_nan=True) for row in rows.matrix):
            raise FloatingPointError
        return explain_risk(model, rows)

    monkeypatch.setattr(answers, "explain_risk", explain)
    asked = whole.index[:4]
    answer = predict_risk(county.tables, as_of_date=AS_OF, model=folder, households=asked)
    assert answer.index[answer["status"] == "error"].tolist() == [unlucky]
    others = asked.drop(unlucky)
    columns = ["risk", "margin", "tier", "reasons", "protective_factors", "data_gaps"]
    pd.testing.assert_frame_equal(answer.loc[others, columns], whole.loc[others, columns])


def test_infinite_features_are_answered(ledger_model):
    # The largest that a column of numbers without a limit accepts, twice: their sum is infinite.
    model = RiskModel(ledger_model.catalog, ledger_model.task, **settings_of(ledger_model))
    features = pd.DataFrame(
        {"amount_last_365d": [np.inf, -np.inf, 5.0] * 60, "entries_count_365d": 1.0}
    )
    model.fit(features, pd.Series([0.0, 1.0, 1.0] * 60))
    assert model.risk(features).between(0, 1).all()
    explanation = explain_risk(model, features)
    assert np.isfinite(explanation.contributions).all(axis=None)


# ----------------------------------------------------------------------------- questions that are wrong


@pytest.mark.parametrize(
    ("date", "message"),
    [
        ("2024-13-01", "as_of_date"),
        ("yesterday", "as_of_date"),
        ("", "as_of_date"),
        (None, "a missing date"),
        (pd.NaT, "a missing date"),
        ("2023-07-01T08:00", "a time of day"),
        (pd.Timestamp("2023-07-01", tz="Asia/Shanghai"), "a time of day"),
        (["2023-07-01", "2023-08-01"], "2 dates"),
        ([], "0 dates"),
        ("2042-01-01", "days after the end of the history.*Bring newer tables"),
    ],
)
def test_a_wrong_date_is_refused(county, folder, date, message):
    with pytest.raises(DeclarationError, match=message):
        predict_risk(county.tables, as_of_date=date, model=folder)


@pytest.mark.parametrize("date", [pd.Timestamp(AS_OF), pd.Timestamp(AS_OF).date(), [AS_OF, AS_OF]])
def test_a_date_may_be_written_in_several_ways(county, folder, whole, date):
    answer = predict_risk(
        county.tables, as_of_date=date, model=folder, households=whole.index[0], explain=False
    )
    assert answer["risk"].iloc[0] == whole["risk"].iloc[0]


def test_a_date_long_after_the_last_record_is_told(county, folder, caplog):
    # The history ends on 2023-12-01; 92 days later is 2024-03-02.
    assert county.tables.observed_to == pd.Timestamp("2023-12-01")
    for date, told in (("2024-03-02", False), ("2024-03-03", True)):
        caplog.clear()
        predict_risk(county.tables, as_of_date=date, model=folder, households=[])
        assert ("The history ends 93 days before" in caplog.text) is told


def test_another_language_is_refused(county, folder):
    with pytest.raises(DeclarationError, match="locale: found 'fr'"):
        predict_risk(county.tables, as_of_date=AS_OF, model=folder, locale="fr")


def test_a_model_that_was_not_trained_is_refused(county):
    model = RiskModel(county.model.catalog, county.model.task)
    with pytest.raises(NotFittedError, match="not fitted"):
        predict_risk(county.tables, as_of_date=AS_OF, model=model)


def test_a_model_without_a_task_is_refused(county):
    model = RiskModel(county.model.catalog, **settings_of(county.model))
    model.fit(county.features, county.labels)
    with pytest.raises(DeclarationError, match="no task or no feature catalogue"):
        predict_risk(county.tables, as_of_date=AS_OF, model=model)


def test_a_folder_that_is_not_there_is_told(county, tmp_path):
    with pytest.raises(ModelFolderError, match="model folder 'nothing': found no manifest.json"):
        predict_risk(county.tables, as_of_date=AS_OF, model=tmp_path / "nothing")


def test_a_history_of_another_schema_is_refused(county, folder):
    schema = load_schema("eph").extended(
        {"tables": {"note": {"label": {"zh": "备注", "en": "note"}, "entity": "household",
                             "key": ["household_id", "event_date"], "columns": {}}}},
        "test",
    )  # fmt: skip
    note = {"household_id": ["a"], "event_date": ["2023-01-01"], "known_date": ["2023-01-02"]}
    tables = HistoryTables.from_frames({"note": pd.DataFrame(note)}, schema)
    with pytest.raises(FeatureError, match="schema 'eph'; expected schema 'archive'"):
        predict_risk(tables, as_of_date="2023-06-01", model=folder)


def test_a_history_without_a_table_that_features_read_still_gets_answers(county, folder, whole):
    # An office may not have a table: its features are data gaps.
    asked = well_known(whole, 12)
    names = [name for name in county.tables.names if name not in ("loan", "visit")]
    tables = rebuild(county.tables, frames_of(county.tables, asked, names))
    answer = predict_risk(tables, as_of_date=AS_OF, model=folder, explain=False)
    assert sorted(answer.index) == sorted(asked)
    assert set(answer["status"]) == {"ok"}


def test_a_history_without_the_cohort_s_table_is_an_error(county, folder):
    frames = {"person": county.tables["person"].iloc[:5]}
    with pytest.raises(PovertyRiskError, match="no table 'household'"):
        predict_risk(rebuild(county.tables, frames), as_of_date=AS_OF, model=folder)


def test_without_a_line_the_line_of_the_training_is_used(county, folder, whole):
    names = ["household", "person", "income", "work", "check", "visit", "village"]
    frames = frames_of(county.tables, well_known(whole, 4), names)
    tables = HistoryTables.from_frames(frames, county.tables.schema)
    assert tables.line is None
    found, expected = (
        predict_risk(item, as_of_date=AS_OF, model=folder, explain=False)
        for item in (tables, tables.with_line(county.tables.line))
    )
    assert set(expected["status"]) == {"ok"}
    pd.testing.assert_frame_equal(found, expected)


# -------------------------------------------------------------------------------- what is left behind


def test_no_id_is_logged_or_printed(troubled, folder, caplog, capsys):
    with caplog.at_level(logging.DEBUG):
        answer = predict_risk(troubled, as_of_date=AS_OF, model=folder, households=[
            *troubled.households, "stranger-99"
        ])  # fmt: skip
    told = caplog.text + "".join(capsys.readouterr())
    assert not [household for household in answer.index if household in told]


def test_the_history_is_not_changed(county, folder):
    before = county.tables.fingerprint
    predict_risk(county.tables, as_of_date=AS_OF, model=folder)
    del county.tables.__dict__["fingerprint"]  # it is kept once computed
    assert county.tables.fingerprint == before


def test_a_fresh_process_answers_without_mlflow_shap_or_plots(county, folder, whole, tmp_path):
    county.tables.write(tmp_path / "history")
    code = """
import json, sys
from poverty_risk import predict_risk, read_history
tables = read_history(sys.argv[1])
answer = predict_risk(tables, as_of_date=sys.argv[3], model=sys.argv[2], households=sys.argv[4])
row = json.loads(answer.drop(columns=["as_of_date", "rank"]).to_json(orient="records"))[0]
heavy = ["mlflow", "shap", "matplotlib", "ibis", "duckdb", "sqlalchemy", "IPython", "click",
         "poverty_risk.tracking", "poverty_risk.serving", "poverty_risk.evaluation",
         "poverty_risk.datasets", "poverty_risk.baselines", "poverty_risk.leakage",
         "sklearn.ensemble", "sklearn.tree", "sklearn.linear_model", "sklearn.neighbors"]
print(json.dumps([[name for name in heavy if name in sys.modules], row]))
"""
    household = whole.index[0]
    arguments = [str(tmp_path / "history"), str(folder), AS_OF, household]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    heavy, row = json.loads(done.stdout)
    assert heavy == []
    expected = whole.loc[household]
    assert row["reasons"] == expected["reasons"]
    assert row["risk"] == pytest.approx(expected["risk"], abs=1e-9)  # JSON has ten decimals
    assert household not in done.stderr
