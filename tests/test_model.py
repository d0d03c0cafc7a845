"""The model: what is learned, what is kept, what is refused."""

import json
import pickle
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from poverty_risk import boosting, folds
from poverty_risk.calibration import SigmoidCalibrator
from poverty_risk.data_gaps import find_data_gaps
from poverty_risk.exceptions import FeatureError, ModelFolderError
from poverty_risk.explain import explain_risk
from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.model_columns import FEW_ROWS, ModelColumns
from poverty_risk.reasons import build_reasons
from poverty_risk.reliability import compute_calibration_slope
from poverty_risk.risk_sentence import describe_risk
from poverty_risk.schema import load_schema
from poverty_risk.splits import TemporalSplit

WORDS = {
    "zh": {"label": "农户类型", "raises": "户类型为{value}", "lowers": "户类型为{value}"},
    "en": {"label": "type", "raises": "it is {value}", "lowers": "it is {value}"},
}


def make_catalog() -> Catalog:
    return Catalog(
        [
            FeatureSpec(
                stem="wage",
                table="income",
                value="wage",
                aggregator="last",
                theme="income",
                direction=-1,
                unit="yuan",
            ),
            FeatureSpec(
                stem="bill",
                table="medical_bill",
                value="total",
                aggregator="sum",
                lookback="365d",
                theme="health",
                direction=1,
                unit="yuan",
            ),
            FeatureSpec(
                stem="type",
                table="household",
                value="household_type",
                aggregator="last",
                kind="category",
                theme="composition",
                words=WORDS,
            ),
            FeatureSpec(stem="noise", formula="wage_last_ever * 2", theme="income"),
        ],
        "archive",
        "test",
    )


def make_points(households: int, dates: list[str], seed: int = 0):
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [[f"h{i:04d}" for i in range(households)], pd.to_datetime(dates)],
        names=["household_id", "as_of_date"],
    )
    size = len(index)
    features = pd.DataFrame(
        {
            "wage_last_ever": rng.normal(size=size),
            "bill_sum_365d": rng.exponential(size=size),
            "type_last_ever": pd.Categorical(
                rng.choice(["lifted", "ordinary"], size), categories=["lifted", "ordinary"]
            ),
            "noise": rng.normal(size=size),
        },
        index=index,
    )
    features.loc[rng.random(size) < 0.05, "wage_last_ever"] = np.nan
    margin = -3 - features["wage_last_ever"].fillna(0) + 0.7 * features["bill_sum_365d"]
    margin += features["type_last_ever"] == "lifted"
    labels = pd.Series((rng.random(size) < 1 / (1 + np.exp(-margin))).astype(float), index=index)
    return features, labels


DATES = ["2018-01-01", "2019-01-01", "2020-01-01", "2022-01-01"]


@pytest.fixture(scope="module")
def fitted():
    features, labels = make_points(1500, DATES)
    task = PredictionTask(load_schema("archive"), "at_risk", "identified", "12mo", {2020: 5000.0})
    model = RiskModel(make_catalog(), task, n_estimators=150, learning_rate=0.1)
    return model.fit(features, labels), features, labels


def test_trees_learn_from_dates_whose_labels_end_before_the_later_ones(fitted):
    model, _, _ = fitted
    assert model.training_["boosted"]["last"] == "2020-01-01"
    assert model.training_["later"]["first"] == "2022-01-01"


def test_calibrated_risk_matches_new_outcomes(fitted):
    model, _, _ = fitted
    features, labels = make_points(8000, ["2023-01-01"], seed=9)
    risk = model.risk(features)
    # The standard error of the mean outcome of 8,000 households is about 0.004.
    assert risk.mean() == pytest.approx(labels.mean(), abs=0.02)
    top = risk >= risk.quantile(0.9)
    assert risk[top].mean() == pytest.approx(labels[top].mean(), abs=0.08)


def test_monotone_directions_hold_for_every_household(fitted):
    model, features, _ = fitted
    raised = features.assign(bill_sum_365d=features["bill_sum_365d"] + 1)
    assert (model.margin(raised) >= model.margin(features)).all()
    richer = features.assign(wage_last_ever=features["wage_last_ever"] + 1)
    known = features["wage_last_ever"].notna()
    assert (model.margin(richer) <= model.margin(features))[known].all()


def test_columns_are_found_by_name_in_any_order(fitted):
    model, features, _ = fitted
    shuffled = features[["noise", "type_last_ever", "bill_sum_365d", "wage_last_ever"]]
    pd.testing.assert_series_equal(model.margin(shuffled), model.margin(features))


def test_missing_column_is_named(fitted):
    model, features, _ = fitted
    with pytest.raises(FeatureError, match="no column bill_sum_365d"):
        model.risk(features.drop(columns="bill_sum_365d"))


def test_an_unseen_category_is_a_missing_value(fitted):
    model, features, _ = fitted
    rows = features.iloc[:50]
    unseen = rows.assign(type_last_ever=pd.Categorical(["new"] * 50))
    missing = rows.assign(type_last_ever=pd.Categorical([None] * 50, categories=["lifted"]))
    pd.testing.assert_series_equal(model.margin(unseen), model.margin(missing))


def test_labels_are_aligned_by_key_not_by_position(fitted):
    model, features, labels = fitted
    again = clone(model).fit(features, labels.sample(frac=1, random_state=1))
    pd.testing.assert_series_equal(again.margin(features), model.margin(features))


def test_censored_points_are_left_out(fitted):
    model, features, labels = fitted
    more, _ = make_points(50, ["2019-06-01"], seed=3)
    both = pd.concat([features, more])
    labelled = labels.reindex(both.index)
    again = clone(model).fit(both, labelled)
    assert again.training_["boosted"] == model.training_["boosted"]


def test_only_scored_points_decide_trees_and_calibration(fitted):
    model, features, labels = fitted
    scored = features["type_last_ever"] == "lifted"
    again = clone(model).fit(features, labels, scored=scored)
    assert again.training_["boosted"] == model.training_["boosted"]
    expected = int(scored[scored.index.get_level_values("as_of_date") == "2022-01-01"].sum())
    assert again.training_["later"]["points"] == expected


def test_grades_of_0_and_1_are_the_labels(fitted):
    """The link is the same, so trees of another objective of LightGBM say the same."""
    model, features, labels = fitted
    own = clone(model).fit(features, labels, graded=labels)
    np.testing.assert_allclose(own.margin(features), model.margin(features), atol=1e-6)
    assert "objective=binary sigmoid:1" in own.forest_.boosters[0].model_to_string()


def test_trees_learn_grades_and_calibration_outcomes(fitted):
    model, features, labels = fitted
    graded = labels * 0.5 + 0.25
    own = clone(model).fit(features, labels, graded=graded.sample(frac=1.0, random_state=0))
    assert abs(own.margin(features)).max() < abs(model.margin(features)).max() / 2
    later = features.index.get_level_values("as_of_date") == pd.Timestamp(DATES[-1])
    assert own.risk(features)[later].mean() == pytest.approx(labels[later].mean(), abs=0.005)
    order = own.margin(features).corr(model.margin(features), method="spearman")
    assert order > 0.9
    assert own.training_["graded"]
    assert not model.training_["graded"]


@pytest.mark.parametrize("grade", [-0.01, 1.01, np.nan])
def test_grades_outside_0_and_1_are_refused(fitted, grade):
    model, features, labels = fitted
    graded = labels.copy()
    graded.iloc[3] = grade
    with pytest.raises(FeatureError, match="graded labels: found 1 of 6000 points"):
        clone(model).fit(features, labels, graded=graded)


def test_one_date_cannot_give_a_later_period():
    features, labels = make_points(200, ["2020-01-01"])
    with pytest.raises(FeatureError):
        RiskModel().fit(features, labels)


def test_one_class_is_refused():
    features, labels = make_points(50, ["2020-01-01"])
    with pytest.raises(FeatureError, match="both 0 and 1"):
        RiskModel().fit(features, labels * 0)


def test_scikit_learn_cross_validates_it():
    features, labels = make_points(400, DATES)
    model = RiskModel(n_estimators=20, calibration=None, early_stopping_rounds=None)
    split = TemporalSplit(horizon="12mo", n_splits=2)
    aucs = cross_val_score(model, features, labels, cv=split, scoring="roc_auc")
    assert len(aucs) == 2
    assert aucs.min() > 0.6


def test_a_model_with_the_line_of_a_history_is_cloned(fitted):
    model, _, _ = fitted
    line = MappingProxyType({2020: 5000.0})
    task = PredictionTask(load_schema("archive"), "at_risk", "identified", "12mo", line)
    assert clone(clone(model).set_params(task=task)).task == model.task


def test_repeated_points_are_refused(fitted):
    """As when two counties whose ids are the same are put together."""
    model, features, labels = fitted
    with pytest.raises(FeatureError, match="points: found 6,000 of 12,000 points repeated"):
        clone(model).fit(pd.concat([features] * 2), pd.concat([labels] * 2))


def test_the_same_seed_gives_the_same_model(fitted, tmp_path):
    model, features, labels = fitted
    again = clone(model).fit(features, labels)
    assert again.save(tmp_path / "a") == model.save(tmp_path / "b")


def test_a_loaded_model_equals_the_trained_one_to_the_last_bit(fitted, tmp_path):
    model, features, _ = fitted
    identifier = model.save(tmp_path / "model", {"history": "abc"})
    loaded = RiskModel.load(tmp_path / "model")
    assert (loaded.risk(features).to_numpy() == model.risk(features).to_numpy()).all()
    assert loaded.model_id_ == identifier
    assert loaded.extra_ == {"history": "abc"}
    assert loaded.task == model.task
    assert loaded.tiers_ == model.tiers_
    assert loaded.catalog.fingerprint == model.catalog.fingerprint
    contributions, base = loaded.contributions(features.iloc[:20])
    expected, expected_base = model.contributions(features.iloc[:20])
    pd.testing.assert_frame_equal(contributions, expected)
    assert base == expected_base


def test_an_altered_booster_is_refused(fitted, tmp_path):
    fitted[0].save(tmp_path / "model")
    booster = tmp_path / "model" / "booster_0.txt"
    booster.write_text(booster.read_text().replace("0.1", "0.2", 1))
    with pytest.raises(ModelFolderError, match="'booster_0.txt' was altered"):
        RiskModel.load(tmp_path / "model")


def test_an_altered_manifest_is_refused(fitted, tmp_path):
    fitted[0].save(tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["state"]["tiers"]["red"] = 0.0
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelFolderError, match="an altered manifest"):
        RiskModel.load(tmp_path / "model")


def test_contributions_sum_to_the_margin_and_points_to_the_risk(fitted):
    model, features, _ = fitted
    explanation = explain_risk(model, features)
    total = explanation.contributions.sum(axis=1) + explanation.base_margin
    assert np.abs(total - explanation.margin).max() < 1e-9
    points = explanation.by_theme.mul(explanation.points_per_log_odd, axis=0).sum(axis=1)
    assert np.abs(points - (explanation.risk - explanation.base_risk)).max() < 1e-9


def test_contributions_are_taken_by_shap(fitted):
    model, features, _ = fitted
    explanation = explain_risk(model, features.iloc[:30]).to_shap()
    assert explanation.values.shape == (30, 4)
    assert list(explanation.feature_names) == list(model.feature_names_in_)


def test_averaged_boosters_are_explained_as_one():
    features, labels = make_points(400, DATES)
    model = RiskModel(make_catalog(), n_estimators=30, n_seeds=3, embargo=False).fit(
        features, labels
    )
    assert len(model.forest_.boosters) == 3
    explanation = explain_risk(model, features)
    total = explanation.contributions.sum(axis=1) + explanation.base_margin
    assert np.abs(total - explanation.margin).max() < 1e-9


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_reasons_raise_first_then_lower_and_gaps_are_said(fitted, locale):
    model, features, _ = fitted
    explanation = explain_risk(model, features.iloc[:300])
    found = build_reasons(explanation, model, locale)
    assert len(found) == 300
    for position, reasons in enumerate(found):
        raising = [r.contribution for r in reasons if r.raises]
        lowering = [r.contribution for r in reasons if not r.raises]
        assert raising == sorted(raising, reverse=True)
        assert lowering == sorted(lowering)
        assert len(raising) <= 4
        assert len(lowering) <= 2
        for reason in reasons:
            assert reason.contribution == pytest.approx(
                explanation.by_theme.iloc[position][reason.theme]
            )
            assert reason.is_gap == (reason.value is None)
            assert "nan" not in reason.text
    # Here households without a wage on record do better, which is no news for an officer:
    missing = features["wage_last_ever"].iloc[:300].isna().to_numpy()
    theme = explanation.by_theme.columns[0]
    assert (explanation.by_theme.loc[missing, theme] < 0).any()
    assert not any(reason.is_gap for reasons in found for reason in reasons)
    # where they do worse, it is told as a gap.
    turned = RiskModel(model.catalog, n_estimators=30, calibration=None, early_stopping_rounds=None)
    turned.fit(features, features["wage_last_ever"].isna().astype(float))
    worse = build_reasons(explain_risk(turned, features.iloc[:300]), turned, locale)
    assert {reason.text for reasons in worse for reason in reasons if reason.is_gap} == (
        {"数据缺口：没有“wage_last_ever”的记录，请核实"}
        if locale == "zh"
        else {"Data gap: there is no record of “wage_last_ever”; please check"}
    )


def test_data_gaps_name_what_is_usually_known(fitted):
    model, features, _ = fitted
    rows = features[features["wage_last_ever"].isna()].iloc[:1]
    assert find_data_gaps(rows, model, "en") == [["wage_last_ever"]]
    assert find_data_gaps(features[features["wage_last_ever"].notna()].iloc[:1], model) == [[]]


def test_risk_in_words_of_households():
    assert describe_risk(0.034, "12mo", "en").startswith(
        "About 3 of 100 such households will have this outcome within 12 months"
    )
    assert describe_risk(0.0042, "12mo", "zh").startswith(
        "每1000户这样的农户中，约有4户会在12个月内"
    )


@pytest.mark.parametrize(
    ("risk", "between", "zh", "en"),
    [
        (0.08, (0.052, 0.119), "每100户这样的农户中，约有8户（大致范围5至12户）会在", "About 8 of 100 such households (rough range: 5 to 12) will have this outcome within"),
        # One base in a sentence, though the upper end alone would be told of a hundred.
        (0.012, (0.004, 0.03), "每1000户这样的农户中，约有12户（大致范围4至30户）会在", "About 12 of 1,000 such households (rough range: 4 to 30) will have this outcome within"),
        (0.0003, (0.0001, 0.0011), "每1000户这样的农户中，不到1户（大致范围0至2户）会在", "Fewer than 1 of 1,000 such households (rough range: 0 to 2) will have this outcome within"),
        (0.41, (0.0, 0.78), "每100户这样的农户中，约有41户（很不确定）会在", "About 41 of 100 such households (a very rough guess) will"),
        (0.08, (np.nan, np.nan), "每100户这样的农户中，约有8户会在", "About 8 of 100 such households will have this outcome within"),
    ],
)  # fmt: skip
def test_the_range_stands_beside_the_risk_out_of_as_many_households(risk, between, zh, en):
    assert describe_risk(risk, "12mo", "zh", between=between).startswith(zh)
    assert describe_risk(risk, "12mo", "en", between=between).startswith(en)


def test_a_model_boosted_again_is_calibrated_by_villages_it_did_not_see(fitted):
    first, features, labels = fitted
    model = clone(first).set_params(refit=True).fit(features, labels)
    assert model.training_["trees"] == first.training_["trees"]
    assert model.training_["boosted"]["points"] == len(labels)
    assert model.training_["calibrated"]["points"] == len(labels)
    # Trees know what they learned from: on their own rows the margins are too far apart.
    own = SigmoidCalibrator.fit(model.margin(features), labels)
    assert model.calibrator_.slope < own.slope
    fresh, outcomes = make_points(8000, ["2023-01-01"], seed=9)
    slope = compute_calibration_slope(outcomes, model.risk(fresh)).slope
    assert slope == pytest.approx(1.0, abs=0.1)


def test_a_fixed_number_of_trees_is_boosted_once(fitted, monkeypatch):
    """Without a rule to stop by, boosting on the earlier dates alone would find out nothing."""
    model, features, labels = fitted
    fixed = clone(model).set_params(early_stopping_rounds=None, refit=True, n_estimators=20)
    seen, boost = [], boosting.boost
    for module in (boosting, folds):
        monkeypatch.setattr(
            module, "boost", lambda *given: seen.append(given[1].sum()) or boost(*given)
        )
    fixed.fit(features, labels)
    assert fixed.training_["trees"] == [20] == [fixed.forest_.boosters[0].num_trees()]
    assert len(seen) == 1 + fixed.n_folds
    assert seen.count(len(features)) == 1


def test_folds_leave_villages_whole(fitted, monkeypatch):
    first, features, labels = fitted
    villages = pd.Series(
        [f"v{int(name[1:]) % 7}" for name in features.index.get_level_values("household_id")],
        index=features.index,
    )
    seen = []

    def note(rows, folds, *rest):
        seen.append(pd.Series(folds).groupby(villages.to_numpy()).nunique())
        return np.linspace(-3, 0, len(folds))

    monkeypatch.setattr("poverty_risk.folds.cross_fit", note)
    monkeypatch.setattr("poverty_risk.model.fit_calibrator", lambda *_: SigmoidCalibrator(1.0, 0.0))
    clone(first).set_params(refit=True).fit(features, labels, groups=villages)
    assert seen[0].eq(1).all()
    assert len(seen[0]) == 7


def test_rows_that_another_model_read_are_read_again():
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(400)], pd.to_datetime(["2021-01-01"])],
        names=["household_id", "as_of_date"],
    )
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(400, 2)), index=index, columns=["income", "age"])
    labels = (features["income"] < -0.5).astype(float)
    settings = {"n_estimators": 9, "calibration": None, "early_stopping_rounds": None}
    one = RiskModel(**settings).fit(features, labels)
    other = RiskModel(**settings).fit(features[["age", "income"]], labels)
    told = explain_risk(other, explain_risk(one, features).rows)
    pd.testing.assert_series_equal(told.risk, other.risk(features))
    features["income"] = 0.0  # what the caller writes later is not what was explained
    assert told.features["income"].std() > 0.5


def test_few_rows_are_read_like_many():
    """Cell by cell or column by column: whole numbers that may be missing, flags, unknown codes."""
    rows = 4 * FEW_ROWS
    known = pd.Categorical(["a", "b"] * (rows // 2), categories=["a", "b"])
    learned = pd.DataFrame({"n": 1.0, "flag": True, "count": 1, "code": known})
    columns = ModelColumns.of(learned, list(learned))
    given = pd.DataFrame(
        {
            "further": "text",
            "code": pd.Categorical([None, "a", "z", "b"] * (rows // 4)),
            "count": pd.array([1, None, 3, None] * (rows // 4), dtype="Int64"),
            "n": np.linspace(0.1, 0.7, rows, dtype=np.float32),
            "flag": [True, False] * (rows // 2),
        }
    )
    _assert_read_alike(columns, given)
    numbers = ["n", "count"]  # of one type: pandas keeps them in one block
    block = pd.DataFrame({"n": [np.nan, 1.0] * rows, "count": np.arange(2.0 * rows)})
    _assert_read_alike(ModelColumns.of(learned, numbers), block)
    learned["code"] = pd.Categorical([1, 2] * (rows // 2), categories=[1, 2])
    other = given.assign(code=pd.Categorical([None, 2, True, 1.0] * (rows // 4)), further=2.0)
    _assert_read_alike(ModelColumns.of(learned, list(learned)), other)


def _assert_read_alike(columns, given):
    many = columns.read(given)
    for at in range(len(given)):
        one = columns.read(given.iloc[[at]])
        np.testing.assert_array_equal(one.matrix[0], many.matrix[at])
        np.testing.assert_array_equal(one.missing[0], many.missing[at])
        for name in columns.names:
            alone, among = one.value(name, 0), many.value(name, at)
            assert alone == among or (pd.isna(alone) and pd.isna(among))
            assert (one.values_of(name)[0] == many.values_of(name)[at]) or pd.isna(alone)


def test_what_was_asked_does_not_travel_with_a_model():
    learned = pd.DataFrame({"n": [1.0, 2.0]})
    columns = ModelColumns.of(learned, ["n"])
    columns.read(learned.assign(secret=1.0))
    assert b"secret" not in pickle.dumps(columns)
    assert pickle.loads(pickle.dumps(columns)) == columns
