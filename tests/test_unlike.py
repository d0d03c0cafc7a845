"""Households unlike any in training: far values are named, the calendar is not."""

import numpy as np
import pandas as pd
import pytest

from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.model import RiskModel
from poverty_risk.unlike import find_unlike

WORDS = {
    language: {"label": label, "raises": "{value}", "lowers": "{value}"}
    for language, label in (("zh", "工资"), ("en", "wage"))
}
SETTINGS = {"n_estimators": 5, "calibration": None, "early_stopping_rounds": None, "n_jobs": 1}


def make_catalog() -> Catalog:
    wage = FeatureSpec(
        stem="wage",
        table="income",
        value="wage",
        aggregator="last",
        theme="income",
        unit="yuan",
        words=WORDS,
    )
    kind = FeatureSpec(
        stem="type",
        table="household",
        value="household_type",
        aggregator="last",
        kind="category",
        theme="composition",
    )
    return Catalog(
        [wage, kind, FeatureSpec(stem="gap", formula="1", theme="income")], "archive", "t"
    )


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    size = 2000
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(size)], pd.to_datetime(["2021-01-01"])],
        names=["household_id", "as_of_date"],
    )
    kinds = np.where(rng.random(size) < 0.5, "lifted", "ordinary")
    kinds[:3] = "rare"
    features = pd.DataFrame(
        {
            "wage_last_ever": rng.uniform(1000, 9000, size),
            "type_last_ever": pd.Categorical(kinds, ["lifted", "ordinary", "rare"]),
            "gap": np.where(rng.random(size) < 0.4, np.nan, 1.0),
        },
        index=index,
    )
    labels = (features["wage_last_ever"] < 2000).astype(float)
    return RiskModel(make_catalog(), **SETTINGS).fit(features, labels)


def rows(wages, kind="lifted", gap=1.0) -> pd.DataFrame:
    kinds = pd.Categorical([kind] * len(wages), ["lifted", "ordinary", "rare"])
    return pd.DataFrame({"wage_last_ever": wages, "type_last_ever": kinds, "gap": gap})


def test_a_far_value_is_named_with_its_value(model):
    found = find_unlike(model, rows([5000.0, 50000000.0]), "en")
    assert found["unlike"].tolist() == [False, True]
    assert found["features"].tolist() == [[], ["wage_last_ever"]]
    assert found["text"].iloc[1] == (
        "unlike any household that the model has learned from: wage (50,000,000 yuan)"
    )
    assert pd.isna(found["text"].iloc[0])
    assert "工资" in find_unlike(model, rows([50000000.0]))["text"].iloc[0]


def test_a_value_just_outside_is_like_the_others(model):
    # Training reaches from 1,000 to 9,000: from -1,000 to 11,000 nothing is said.
    assert find_unlike(model, rows([-900.0, 10900.0]))["unlike"].tolist() == [False, False]
    assert find_unlike(model, rows([-1200.0, 11200.0]))["unlike"].tolist() == [True, True]


def test_a_category_that_hardly_anybody_had_is_unlike(model):
    assert find_unlike(model, rows([5000.0], "rare"))["features"].tolist() == [["type_last_ever"]]


def test_a_missing_value_is_a_data_gap_and_no_far_value(model):
    assert find_unlike(model, rows([np.nan, 5000.0], gap=np.nan))["unlike"].tolist() == [False] * 2


def test_the_calendar_makes_nobody_unlike():
    """Trained in July, asked in April: every account is younger than any that was learned from."""
    size = 400
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(size)], pd.to_datetime(["2021-07-01"])],
        names=["household_id", "as_of_date"],
    )
    name = "income_days_since_last_ever"
    spec = FeatureSpec(
        stem="income", table="income", aggregator="days_since_last", theme="income", unit="days_ago"
    )
    ages = np.random.default_rng(0).integers(160, 180, size).astype(float)
    features = pd.DataFrame({name: ages}, index=index)
    model = RiskModel(Catalog([spec], "archive", "t"), **SETTINGS)
    model.fit(features, (features[name] < 165).astype(float))
    asked = pd.DataFrame({name: [90.0, 366.0, 800.0, 45000.0]})
    assert find_unlike(model, asked)["unlike"].tolist() == [False, False, False, True]


def test_a_value_where_training_had_one_only_is_unlike(model):
    assert find_unlike(model, rows([5000.0], gap=2.0))["features"].tolist() == [["gap"]]


def test_the_farthest_comes_first_and_three_are_told(model):
    found = find_unlike(model, rows([90000.0], "rare", 7.0), "en")
    assert set(found["features"].iloc[0][:2]) == {"type_last_ever", "gap"}
    assert found["features"].iloc[0][2] == "wage_last_ever"


def test_a_loaded_model_says_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    asked = rows([5000.0, 50000000.0])
    pd.testing.assert_frame_equal(
        find_unlike(RiskModel.load(tmp_path / "model"), asked), find_unlike(model, asked)
    )
