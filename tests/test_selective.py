"""Outcomes seen only where somebody looked: weights, what they can say, and what they refuse to."""

import numpy as np
import pandas as pd
import pytest

from poverty_risk import (
    HistoryTables,
    RiskModel,
    build_features,
    build_prediction_points,
    build_visit_list,
    calibrate_seen,
    check_coverage,
    collect_looks,
    evaluate_seen,
    label_returns,
    load_schema,
    make_household_history,
    select_seen,
)
from poverty_risk.boosting import Rows
from poverty_risk.config import load_config
from poverty_risk.evaluation import compute_budget_table, compute_metrics
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.workflows import evaluate_rounds
from poverty_risk.workflows.office import keep_visit_list, read_looks, read_visit_lists
from small_county import train_small_county


def draw_county(seed, households=4000, capacity=600, random_share=0.5):
    """Outcomes of everyone, a risk that orders them, and the visits of a list that follows it."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"H{i:05d}" for i in range(households)], name="household_id")
    margin = rng.normal(-2.5, 1.2, households)
    risk = pd.Series(1 / (1 + np.exp(-margin)), index=ids)
    labels = pd.Series((rng.random(households) < risk).astype(float), index=ids, name="label")
    visits = build_visit_list(
        pd.DataFrame({"risk": risk}),
        capacity=capacity,
        as_of_date="2024-01-01",
        random_share=random_share,
        first=(),
        seed=seed,
    )
    looks = collect_looks([visits])
    return labels.set_axis(looks.index), risk.set_axis(looks.index), looks


def test_weighted_metrics_find_the_truth_that_visits_hide():
    errors = {"estimate": [], "unweighted": []}
    for seed in range(20):
        labels, risk, looks = draw_county(seed)
        hidden = labels.where(looks["visited"])
        found = evaluate_seen(hidden, looks, {"model": risk}, replicates=1).metrics.loc["model"]
        truth = compute_metrics(labels, risk)
        listed = compute_budget_table(labels, risk, [0.05])
        for way, kept in errors.items():
            kept.append(
                [
                    found.loc["auc", way] - truth["auc"],
                    found.loc["outcome_rate", way] - truth["base_rate"],
                    found.loc["recall_at_0.05", way] - listed.loc[0.05, "recall"],
                ]
            )
    weighted, once = np.array(errors["estimate"]), np.array(errors["unweighted"])
    standard_error = weighted.std(axis=0, ddof=1) / np.sqrt(len(weighted))
    assert (np.abs(weighted.mean(axis=0)) < 3 * standard_error).all()
    # Counted once, the visited look worse off, and the list seems to find nearly all of them.
    assert once.mean(axis=0)[1] > 0.05
    assert once.mean(axis=0)[2] > 0.2


def test_metrics_by_hand():
    looks = pd.DataFrame({"visited": [1, 1, 1, 0, 0], "propensity": [1, 0.5, 0.25, 0.25, 0.25]})
    labels = pd.Series([1.0, 0.0, 1.0, np.nan, np.nan])
    risk = pd.Series([0.9, 0.5, 0.1, 0.2, 0.3])
    found = evaluate_seen(
        labels, looks.astype({"visited": bool}), {"m": risk}, budgets=[0.4], replicates=5
    )
    metrics, sample = found.metrics.loc["m", "estimate"], found.sample
    # Weights 1, 2, 4: one pair (weight 2) is in order, the other (weight 8) is not.
    assert metrics["auc"] == pytest.approx(0.2)
    assert metrics["outcome_rate"] == pytest.approx(5 / 7)
    assert metrics["calibration_ratio"] == pytest.approx(5 / (0.9 + 1.0 + 0.4))
    # Two of five can be visited: the two highest risks of all, both seen.
    assert metrics["recall_at_0.4"] == pytest.approx(1 / 5)
    assert metrics["precision_at_0.4"] == pytest.approx(1 / 3)
    assert sample["effective"] == pytest.approx(49 / 21)
    assert sample["effective_positives"] == pytest.approx(25 / 17)
    assert sample["largest_share"] == pytest.approx(4 / 7)
    assert sample[["points", "coverable", "visited", "seen", "failed"]].tolist() == [5, 5, 3, 3, 0]


def test_budget_is_cut_among_all_who_could_be_visited():
    looks = pd.DataFrame(
        {"visited": [True, True, False, False], "propensity": [0.5, 0.5, 0.5, 0.0]}
    )
    labels, risk = pd.Series([1.0, 0.0, np.nan, np.nan]), pd.Series([0.2, 0.1, 0.9, 0.99])
    found = evaluate_seen(labels, looks, {"m": risk}, budgets=[0.34], replicates=1)
    # The one visit would go to the household that nobody saw, not to the one out of reach.
    assert found.metrics.loc[("m", "recall_at_0.34"), "estimate"] == 0.0


def test_same_seed_same_intervals_and_order_of_points_does_not_matter():
    labels, risk, looks = draw_county(1, households=600, capacity=150)
    first = evaluate_seen(labels, looks, {"m": risk}, replicates=50).metrics
    mixed = labels.sample(frac=1.0, random_state=0)
    again = evaluate_seen(mixed, looks, {"m": risk}, replicates=50).metrics
    pd.testing.assert_frame_equal(first, again)
    assert (first["low"] <= first["high"]).all()


def test_labels_without_a_visit_do_not_count():
    labels, risk, looks = draw_county(2, households=600, capacity=150)
    hidden = labels.where(looks["visited"])
    one = evaluate_seen(labels, looks, {"m": risk}, replicates=5).metrics
    pd.testing.assert_frame_equal(
        one, evaluate_seen(hidden, looks, {"m": risk}, replicates=5).metrics
    )
    assert select_seen(labels, looks).index.isin(looks.index[looks["visited"]]).all()


def test_training_weights_are_flattened_and_have_mean_one():
    looks = pd.DataFrame({"visited": True, "propensity": [1.0] * 99 + [0.01]})
    labels = pd.Series(np.tile([0.0, 1.0], 50))
    for power, ratio in ((0.0, 1.0), (0.5, 10.0), (1.0, 100.0)):
        weight = select_seen(labels, looks, power=power)["weight"]
        assert weight.mean() == pytest.approx(1.0)
        assert weight.iloc[-1] / weight.iloc[0] == pytest.approx(ratio)


def test_failed_visits_are_told():
    looks = pd.DataFrame({"visited": True, "propensity": [0.5, 0.5, 0.5, 0.5]})
    labels, risk = pd.Series([1.0, 0.0, np.nan, 0.0]), pd.Series([0.4, 0.3, 0.2, 0.1])
    assert evaluate_seen(labels, looks, {"m": risk}, replicates=1).sample["failed"] == 1
    assert len(select_seen(labels, looks)) == 3


def test_a_region_that_nobody_could_see_is_refused():
    looks = pd.DataFrame({"visited": True, "propensity": [1.0] * 60}).assign(
        far=["near"] * 40 + ["far"] * 20, income=[3.0] * 40 + [np.nan] * 20
    )
    regions = looks[["far", "income"]]
    looks.loc[40:, ["visited", "propensity"]] = [False, 0.0]
    with pytest.raises(FeatureError, match="(?s)2 problems.*far is far.*income is missing"):
        check_coverage(looks, regions)
    labels = pd.Series(np.tile([0.0, 1.0], 30))
    with pytest.raises(FeatureError, match="chance above 0 of being visited"):
        evaluate_seen(labels, looks, {"m": labels * 0.5}, regions=regions, replicates=1)
    # Fewer than twenty may be chance.
    table = check_coverage(looks.iloc[:55], regions.iloc[:55])
    assert table.loc[("far", "far"), "coverable"] == 0.0
    assert table.loc[("far", "near"), "visited"] == 40


def test_numbers_are_cut_into_quarters():
    looks = pd.DataFrame({"visited": True, "propensity": 1.0}, index=range(100))
    table = check_coverage(looks, pd.DataFrame({"income": np.arange(100.0)}))
    assert table["points"].tolist() == [25] * 4


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ({"visited": [True, True]}, "no column 'propensity'"),
        ({"visited": [True, True], "propensity": [0.5, 0.0]}, "0 at 1 points that were visited"),
        ({"visited": [True, True], "propensity": [0.5, 1.5]}, r"1 missing or outside \[0, 1\]"),
        ({"visited": [True], "propensity": [0.5]}, "1 of 2 points without an entry"),
        ({"visited": [False, False], "propensity": [0.5, 0.5]}, "no visit with an outcome"),
    ],
)
def test_looks_that_cannot_be_are_refused(looks, message):
    labels = pd.Series([1.0, 0.0])
    with pytest.raises(FeatureError, match=message):
        select_seen(labels, pd.DataFrame(looks))
    with pytest.raises(FeatureError, match=message):
        evaluate_seen(labels, pd.DataFrame(looks), {"m": labels})


def test_settings_that_cannot_be_are_refused():
    looks = pd.DataFrame({"visited": [True, True], "propensity": [0.5, 0.5]})
    labels = pd.Series([1.0, 0.0])
    with pytest.raises(DeclarationError, match="(?s)3 problems.*budget.*replicates.*level"):
        evaluate_seen(labels, looks, {"m": labels}, budgets=[2.0], replicates=0, level=1.0)
    with pytest.raises(DeclarationError, match="power: found 1.5"):
        select_seen(labels, looks, power=1.5)
    labels = pd.Series([1.0, 0.0, np.nan])
    looks = pd.DataFrame({"visited": [True, True, False], "propensity": 0.5})
    with pytest.raises(FeatureError, match="1 of 3 points that could be visited without a risk"):
        evaluate_seen(labels, looks, {"m": labels})


def test_lists_of_one_date_are_collected_once():
    risk = pd.DataFrame({"risk": [0.9, 0.5]}, index=pd.Index(["a", "b"], name="household_id"))
    dates = ["2024-01-01", "2024-07-01"]
    lists = [build_visit_list(risk, capacity=1, as_of_date=date) for date in dates]
    looks = collect_looks(lists)
    assert looks.index.names == ["household_id", "as_of_date"]
    assert looks.groupby(level="as_of_date")["visited"].sum().tolist() == [1, 1]
    for wrong in ([], [lists[0], lists[0]]):
        with pytest.raises(FeatureError, match="one list a date"):
            collect_looks(wrong)


# ------------------------------------------------------------------------- the truth of the county


@pytest.fixture(scope="module")
def county():
    return make_household_history(600, "2021-01-01", "2023-07-01", seed=4)


def test_hardship_is_true_whether_or_not_anybody_looked(county):
    points = build_prediction_points(county.tables, ["2021-07-01", "2022-07-01"])
    hardship = county.true_hardship(points)
    assert 0.01 < hardship.mean() < 0.25
    harder = county.true_hardship(points, level=0.75)
    assert (harder <= hardship).loc[harder.notna() & hardship.notna()].all()
    # Nobody is identified without hardship, many are in hardship without being identified.
    found = county.truth[county.truth["outcome"] == "identified"]
    start = pd.Timestamp("2022-07-01")
    inside = found["event_date"].between(start, start + pd.DateOffset(months=11))
    named = set(found.loc[inside, "household_id"])
    any_hardship = county.true_hardship(points, level=0.0).xs(start, level="as_of_date").dropna()
    assert named & set(any_hardship.index)
    assert (any_hardship.loc[any_hardship.index.isin(named)] == 1.0).all()
    assert any_hardship.sum() > 2 * len(named & set(any_hardship.index))


def test_hardship_beyond_the_history_is_not_known(county):
    points = build_prediction_points(county.tables, "2023-01-01")
    assert county.true_hardship(points).isna().all()
    assert county.true_hardship(points, "6mo").notna().any()


# ------------------------------------------------------------------------------ what rounds keep


def test_rounds_remember_who_could_have_been_visited(tmp_path):
    config = load_config("configs/quick.yaml", {"output": str(tmp_path)})
    assert read_looks(config).empty
    assert read_visit_lists(config) == {}
    risk = pd.DataFrame(
        {"risk": np.linspace(0.9, 0.1, 20), "last_visit": pd.NaT},
        index=pd.Index([f"H{i:02d}" for i in range(20)], name="household_id"),
    )
    risk.loc["H19", "last_visit"] = pd.Timestamp("2023-12-20")
    dates = ["2024-01-01", "2024-07-01"]
    lists = [
        build_visit_list(risk, capacity=6, as_of_date=date, random_share=0.5, cool_down=60)
        for date in dates
    ]
    for one in [*lists, lists[0]]:
        keep_visit_list(config, one)
    looks, expected = read_looks(config), collect_looks(lists)
    expected = expected[expected["propensity"] > 0]
    pd.testing.assert_frame_equal(
        looks.sort_index(), expected.sort_index(), check_index_type=False, check_dtype=False
    )
    assert ("H19", pd.Timestamp("2024-01-01")) not in looks.index
    kept = read_visit_lists(config)
    assert list(kept) == [pd.Timestamp(date) for date in dates]
    first = kept[pd.Timestamp(dates[0])]
    assert set(first.index) == set(lists[0].visits.index)
    assert first["why"].equals(lists[0].visits["why"].loc[first.index])


def test_rounds_evaluate_a_model(tmp_path, caplog):
    small = train_small_county(200)
    first = small.features.index.get_level_values("as_of_date") == "2020-07-01"
    model = small.model.set_params(calibration=None).fit(small.features[first], small.labels[first])
    model.save(tmp_path / "model")
    config = load_config("configs/quick.yaml", {"output": str(tmp_path)})
    with pytest.raises(FeatureError, match="visit rounds: found none with outcomes of 12mo"):
        evaluate_rounds(config, small.tables, tmp_path / "model")
    lists = []
    # Of the first round the model learned the outcomes, those of the last one are not known yet.
    for date in ("2021-07-01", "2022-07-01", "2023-07-01"):
        points = build_prediction_points(small.tables, date)
        risk = small.model.risk(build_features(small.tables, points, small.model.catalog))
        households = points.assign(risk=risk).droplevel("as_of_date")
        lists.append(
            build_visit_list(households, capacity=80, as_of_date=date, random_share=0.5, first=())
        )
        keep_visit_list(config, lists[-1])
    looks = collect_looks(lists[1:2])
    assert evaluate_rounds(config, small.tables, tmp_path / "model").sample["visited"] == 80
    assert "Nothing came back of the lists of 2022-07-01" in caplog.text
    # What came back of the list before, or of one whose outcomes are not known, says nothing of it.
    listed = sorted(looks.index.get_level_values("household_id")[looks["visited"]])
    hand_in(tmp_path, {"2021-07-01": listed[:3], "2023-07-01": listed[:3]})
    assert evaluate_rounds(config, small.tables, tmp_path / "model").sample["visited"] == 80
    # A list of which workbooks came back, with nobody at home anywhere, was not carried out.
    hand_in(tmp_path, {"2022-07-01": listed[:60]}, nobody_home=listed)
    with pytest.raises(FeatureError, match="found no visit with an outcome"):
        evaluate_rounds(config, small.tables, tmp_path / "model")
    hand_in(tmp_path, {"2022-07-01": listed[:60]}, nobody_home=listed[50:60])
    made = looks.index.get_level_values("household_id").isin(listed[:50])
    looks = looks.assign(visited=looks["visited"] & made)
    found = evaluate_rounds(config, small.tables, tmp_path / "model")
    assert found.sample["visited"] == looks["visited"].sum()
    expected = evaluate_seen(
        label_returns(small.tables, looks, "12mo", "any"),
        looks,
        {"model": small.model.risk(build_features(small.tables, looks, small.model.catalog))},
        budgets=config.evaluation.budgets,
        replicates=1,
    )
    pd.testing.assert_series_equal(found.metrics["estimate"], expected.metrics["estimate"])


def hand_in(folder, listed, nobody_home=()):
    """Workbooks of some lists came back; rows corrected later count as they say last."""
    rows = [
        {
            "record_id": f"{date}/{household}",
            "household_id": household,
            "as_of_date": pd.Timestamp(date),
            "known_date": pd.Timestamp(date) + pd.Timedelta(days=days),
            "difficulty_found": None if days and household in nobody_home else False,
        }
        for date, households in listed.items()
        for household in households
        for days in (0, 5)
    ]
    place = folder / "office_only"
    place.mkdir(exist_ok=True)
    frame = pd.DataFrame(rows).astype({"difficulty_found": "boolean"})
    frame.sample(frac=1.0, random_state=0).to_parquet(place / "feedback.parquet")


def test_before_the_first_round_nothing_can_be_evaluated(tmp_path):
    days = pd.date_range("2022-01-01", periods=3).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"household_id": "a", "event_date": days, "known_date": days})
    tables = HistoryTables.from_frames(
        {"shock": frame.assign(kind="flood")}, load_schema("archive")
    )
    small = train_small_county(200)
    small.model.save(tmp_path / "model")
    config = load_config("configs/quick.yaml", {"output": str(tmp_path)})
    with pytest.raises(FeatureError, match="visit rounds: found none"):
        evaluate_rounds(config, tables, tmp_path / "model")


def test_thresholds_of_tiers_count_a_row_by_its_weight():
    values, mask = np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, True, True, False])
    rows = Rows(np.zeros((5, 1)), np.zeros(5), np.array([9.0, 9, 1, 1, 50]), ["x"], [])
    assert rows.quantile(values, mask, 0.9) == 0.2
    once = Rows(np.zeros((5, 1)), np.zeros(5), None, ["x"], [])
    assert once.quantile(values, mask, 0.9) == pytest.approx(np.quantile(values, 0.9))


def test_level_of_risks_is_set_by_visits_and_their_order_kept():
    rng = np.random.default_rng(3)
    features = pd.DataFrame({"income": rng.normal(size=4000)})
    chance = 1 / (1 + np.exp(2.0 + 1.5 * features["income"]))
    truth = pd.Series((rng.random(4000) < chance).astype(float))
    # The worse half is always visited, of the better one every tenth.
    propensity = pd.Series(np.where(features["income"] < 0, 1.0, 0.1))
    visited = pd.Series(rng.random(4000)) < propensity
    looks = pd.DataFrame({"visited": visited, "propensity": propensity})
    model = RiskModel(n_estimators=20, min_child_samples=20, early_stopping_rounds=None)
    model.set_params(calibration=None).fit(features, truth.where(visited, 0.0))
    seen = calibrate_seen(model, features, truth.where(visited), looks)
    assert model.risk(features).mean() < 0.9 * truth.mean()
    assert seen.risk(features).mean() == pytest.approx(truth.mean(), rel=0.05)
    assert seen.margin(features).equals(model.margin(features))
    assert seen.tiers_["orange"] == np.quantile(seen.risk(features), 0.95)
    assert model.calibrator_ is None
