"""Contributions against the definition of Shapley values, and what is derived from them."""

import itertools
import math

import lightgbm
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from poverty_risk.exceptions import FeatureError
from poverty_risk.explain import build_contribution_tables, explain_risk
from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.forest import Forest
from poverty_risk.model import RiskModel

CODES = ["lifted", "ordinary", "other", "unknown"]
NAMES = ["wage_last_ever", "type_last_ever", "bill_sum_365d", "noise"]


def make_catalog() -> Catalog:
    bill = {"table": "medical_bill", "value": "total", "aggregator": "sum", "lookback": "365d"}
    kind = {"table": "household", "value": "household_type", "aggregator": "last"}
    wage = {"table": "income", "value": "wage", "aggregator": "last"}
    return Catalog(
        [
            FeatureSpec(stem="wage", **wage, theme="income", direction=-1),
            FeatureSpec(stem="type", **kind, theme="composition", kind="category"),
            FeatureSpec(stem="bill", **bill, theme="health", direction=1),
            FeatureSpec(stem="noise", formula="wage_last_ever * 2", theme="income"),
        ],
        "archive",
        "test",
    )


def make_points(size: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    dates = pd.to_datetime(["2019-01-01", "2020-01-01", "2021-01-01", "2022-01-01"])
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(size // 4)], dates], names=["household_id", "as_of_date"]
    )
    missing = rng.random((4, size)) < 0.15
    kinds = rng.choice(CODES, size)
    features = pd.DataFrame(
        {
            "wage_last_ever": np.where(missing[0], np.nan, rng.normal(size=size)),
            "type_last_ever": pd.Categorical(np.where(missing[1], None, kinds), categories=CODES),
            "bill_sum_365d": np.where(missing[2], np.nan, rng.exponential(size=size)),
            "noise": np.where(missing[3], np.nan, rng.normal(size=size)),
        },
        index=index,
    )
    odd = np.isin(kinds, ["lifted", "other"])
    margin = -1 - features["wage_last_ever"].fillna(-1) + odd + features["bill_sum_365d"].fillna(0)
    labels = pd.Series((rng.random(size) < 1 / (1 + np.exp(-margin))).astype(float), index=index)
    return features, labels


def fit(calibration: str | None = "sigmoid", n_seeds: int = 1, catalog: bool = True) -> RiskModel:
    features, labels = make_points(800, seed=0)
    model = RiskModel(
        make_catalog() if catalog else None,
        n_estimators=5,
        learning_rate=0.4,
        num_leaves=6,
        min_child_samples=10,
        reg_lambda=0.0,
        colsample=1.0,
        calibration=calibration,
        early_stopping_rounds=None,
        n_seeds=n_seeds,
        n_jobs=1,
    )
    return model.fit(features, labels)


@pytest.fixture(scope="module")
def model() -> RiskModel:
    return fit()


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    """New points; among them one of which nothing is known and one of an unseen type."""
    features, _ = make_points(40, seed=5)
    features["type_last_ever"] = features["type_last_ever"].cat.add_categories("unseen")
    features.iloc[0] = np.nan
    features.iloc[1, 1] = "unseen"
    return features


def read_boosters(model: RiskModel, folder) -> list[lightgbm.Booster]:
    """The boosters as they were saved, read by LightGBM itself."""
    model.save(folder / "model")
    files = sorted((folder / "model").glob("booster_*.txt"))
    return [lightgbm.Booster(model_file=str(file)) for file in files]


def encode(features: pd.DataFrame) -> np.ndarray:
    """Features as LightGBM reads them: types by their place in CODES, others as missing."""
    place = {code: float(number) for number, code in enumerate(CODES)}
    types = features["type_last_ever"].astype(object).map(lambda code: place.get(code, np.nan))
    return features[NAMES].assign(type_last_ever=types.astype(float)).to_numpy(dtype=float)


# ------------------------------------------------- the definition, written down without LightGBM's help
#
# Lundberg et al. (2018), algorithm 1: what a tree is expected to answer when only the features S are
# known. A split on a known feature is followed; on an unknown one both sides count, by the number of
# training rows that went there. Shapley values average what each feature adds over all orders.


def goes_left(node: dict, value: float) -> bool:
    if node["decision_type"] == "==":
        # Missing categories belong to no set and go right.
        return not math.isnan(value) and str(int(value)) in node["threshold"].split("||")
    if math.isnan(value):
        if node["missing_type"] == "NaN":
            return bool(node["default_left"])
        value = 0.0  # the feature was never missing in training
    return value <= node["threshold"]


def count_rows(node: dict) -> int:
    return node["internal_count"] if "split_index" in node else node["leaf_count"]


def expect(node: dict, row: np.ndarray, known: frozenset[int]) -> float:
    if "split_index" not in node:
        return node["leaf_value"]
    children = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expect(children[not goes_left(node, row[node["split_feature"]])], row, known)
    total = sum(count_rows(child) for child in children)
    return sum(count_rows(child) / total * expect(child, row, known) for child in children)


def compute_shapley(booster: lightgbm.Booster, row: np.ndarray) -> tuple[np.ndarray, float]:
    """Shapley values of one row by the sum over all subsets, and the value of the empty set."""
    roots = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    n = len(row)
    worth = {
        subset: sum(expect(root, row, subset) for root in roots)
        for size in range(n + 1)
        for subset in map(frozenset, itertools.combinations(range(n), size))
    }
    values = np.zeros(n)
    for subset, value in worth.items():
        for feature in set(range(n)) - subset:
            orders = math.factorial(len(subset)) * math.factorial(n - len(subset) - 1)
            values[feature] += orders / math.factorial(n) * (worth[subset | {feature}] - value)
    return values, worth[frozenset()]


def test_the_trees_split_on_every_kind_of_feature(model, tmp_path):
    # Otherwise the comparison below would say less than it seems to.
    (booster,) = read_boosters(model, tmp_path)
    table = booster.trees_to_dataframe()
    assert set(table["split_feature"].dropna()) == set(NAMES)
    assert {"==", "<="} == set(table["decision_type"].dropna())
    assert table["tree_index"].nunique() == 5


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_contributions_are_the_shapley_values_of_the_definition(n_seeds, points, tmp_path):
    model = fit(n_seeds=n_seeds)
    explanation = explain_risk(model, points)
    boosters = read_boosters(model, tmp_path)
    assert len(boosters) == n_seeds
    matrix = encode(points)
    for position, row in enumerate(matrix):
        values, bases = zip(*(compute_shapley(booster, row) for booster in boosters), strict=True)
        found = explanation.contributions.iloc[position].to_numpy()
        assert found == pytest.approx(np.mean(values, axis=0), abs=1e-9)
        assert explanation.base_margin == pytest.approx(np.mean(bases), abs=1e-9)
    assert np.abs(explanation.contributions.to_numpy()).max() > 0.1


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_contributions_are_those_of_lightgbm(n_seeds, points, tmp_path):
    model = fit(n_seeds=n_seeds)
    explanation = explain_risk(model, points)
    expected = np.mean(
        [b.predict(encode(points), pred_contrib=True) for b in read_boosters(model, tmp_path)],
        axis=0,
    )
    assert explanation.contributions.to_numpy() == pytest.approx(expected[:, :-1], abs=1e-12)
    assert explanation.base_margin == pytest.approx(expected[0, -1], abs=1e-12)
    margins = [b.predict(encode(points), raw_score=True) for b in read_boosters(model, tmp_path)]
    assert explanation.margin.to_numpy() == pytest.approx(np.mean(margins, axis=0), abs=1e-12)


def test_contributions_sum_to_the_margin(model, points):
    explanation = explain_risk(model, points)
    total = explanation.contributions.sum(axis=1) + explanation.base_margin
    assert total.to_numpy() == pytest.approx(explanation.margin.to_numpy(), abs=1e-9)


def test_by_theme_sums_the_features_of_each_theme(model, points):
    explanation = explain_risk(model, points)
    contributions = explanation.contributions
    expected = pd.DataFrame(
        {
            "income": contributions["wage_last_ever"] + contributions["noise"],
            "composition": contributions["type_last_ever"],
            "health": contributions["bill_sum_365d"],
        }
    )
    pd.testing.assert_frame_equal(explanation.by_theme, expected)


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", None])
def test_points_of_the_themes_sum_to_the_risk_above_the_base_risk(calibration, points):
    model = fit(calibration)
    explanation = explain_risk(model, points)
    base = pd.Series([explanation.base_margin])
    assert explanation.base_risk == model.risk_of_margin(base).iloc[0]
    shares = explanation.by_theme.mul(explanation.points_per_log_odd, axis=0).sum(axis=1)
    expected = explanation.risk - explanation.base_risk
    assert shares.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-12)
    assert (explanation.points_per_log_odd >= 0).all()


def test_points_of_a_household_at_the_base_are_finite(points):
    # Labels that no feature separates: no tree splits, every margin is the base margin.
    features, labels = make_points(400, seed=1)
    model = RiskModel(
        make_catalog(),
        n_estimators=2,
        min_child_samples=10_000,
        calibration=None,
        early_stopping_rounds=None,
        n_jobs=1,
    ).fit(features, labels)
    explanation = explain_risk(model, points)
    assert (explanation.contributions == 0).all(axis=None)
    assert np.isfinite(explanation.points_per_log_odd).all()
    # With equal margins, the base margin is the log-odds of the share of positives.
    share = labels.mean()
    assert explanation.base_margin == pytest.approx(math.log(share / (1 - share)), abs=1e-6)


@pytest.mark.parametrize("n_seeds", [1, 9])
def test_one_household_is_explained_as_in_the_whole(n_seeds, points):
    # Nine boosters, because numpy sums eight and more numbers in another order when there is one row.
    model = fit(n_seeds=n_seeds)
    whole = explain_risk(model, points)
    for position in range(len(points)):
        alone = explain_risk(model, points.iloc[[position]])
        row = slice(position, position + 1)
        pd.testing.assert_frame_equal(
            alone.contributions, whole.contributions.iloc[row], check_exact=True
        )
        pd.testing.assert_series_equal(alone.margin, whole.margin.iloc[row], check_exact=True)
        pd.testing.assert_series_equal(alone.risk, whole.risk.iloc[row], check_exact=True)


def test_a_theme_of_many_features_sums_alike_alone_and_in_the_whole():
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(400, 12)), columns=[f"f{i}" for i in range(12)])
    labels = pd.Series((features.sum(axis=1) + rng.normal(size=400) > 0).astype(float))
    model = RiskModel(
        n_estimators=20, calibration=None, early_stopping_rounds=None, min_child_samples=5, n_jobs=1
    ).fit(features, labels)
    whole = explain_risk(model, features)
    for position in range(60):
        alone = explain_risk(model, features.iloc[[position]])
        assert alone.by_theme["other"].iloc[0] == whole.by_theme["other"].iloc[position]


def test_columns_are_found_by_name_and_further_ones_ignored(model, points):
    shuffled = points[["noise", "type_last_ever", "bill_sum_365d", "wage_last_ever"]]
    found = explain_risk(model, shuffled.assign(more=1.0))
    expected = explain_risk(model, points)
    pd.testing.assert_frame_equal(found.contributions, expected.contributions)
    assert list(found.features.columns) == NAMES
    pd.testing.assert_frame_equal(found.features, points[NAMES])


def test_no_households_give_an_empty_explanation(model, points):
    explanation = explain_risk(model, points.iloc[:0])
    assert explanation.contributions.shape == (0, 4)
    assert list(explanation.by_theme.columns) == ["income", "composition", "health"]
    assert len(explanation.points_per_log_odd) == 0


def test_without_a_catalogue_all_is_of_one_theme(points):
    model = fit(catalog=False)
    explanation = explain_risk(model, points)
    assert list(explanation.by_theme.columns) == ["other"]
    total = explanation.contributions.sum(axis=1)
    assert explanation.by_theme["other"].to_numpy() == pytest.approx(total.to_numpy(), abs=1e-12)


def test_a_missing_feature_is_named(model, points):
    with pytest.raises(FeatureError, match="no column wage_last_ever"):
        explain_risk(model, points.drop(columns="wage_last_ever"))


def test_contributions_that_do_not_sum_are_not_given_out(model, points, monkeypatch):
    original = Forest.contributions

    def wrong(self, matrix):
        contributions = original(self, matrix).copy()
        contributions[3, 0] += 0.01
        return contributions

    monkeypatch.setattr(Forest, "contributions", wrong)
    with pytest.raises(FeatureError, match="a sum that is 0.01 off the margin"):
        explain_risk(model, points)


# ------------------------------------------------------------------------------- shap's own plots


def test_to_shap_holds_the_same_numbers(model, points):
    explanation = explain_risk(model, points)
    given = explanation.to_shap()
    assert given.values.tobytes() == explanation.contributions.to_numpy().tobytes()
    assert (given.base_values == explanation.base_margin).all()
    assert list(given.feature_names) == NAMES
    known = points["wage_last_ever"].notna().to_numpy()
    assert (given.data[known, 0] == points["wage_last_ever"][known]).all()
    assert np.isnan(given.data[~known, 0]).all()
    # Codes by their place among the categories, missing ones as missing.
    codes = points["type_last_ever"].cat.codes.to_numpy()
    assert (given.data[codes >= 0, 1] == codes[codes >= 0]).all()
    assert np.isnan(given.data[codes < 0, 1]).all()


def test_shap_draws_a_summary(model, points):
    import shap

    mpl.use("agg")
    _, axes = plt.subplots()
    shap.plots.beeswarm(explain_risk(model, points).to_shap(), show=False, ax=axes, plot_size=None)
    assert {label.get_text() for label in axes.get_yticklabels()} == set(NAMES)
    # One dot per point and feature: each feature draws its known and its missing values apart.
    dots = sum(len(collection.get_offsets()) for collection in axes.collections)
    assert dots == points.size
    plt.close("all")


def test_shap_draws_one_household_from_the_base_to_its_margin(model, points):
    import shap

    mpl.use("agg")
    explanation = explain_risk(model, points)
    axes = shap.plots.waterfall(explanation.to_shap()[2], show=False)
    texts = " ".join(text.get_text() for text in axes.figure.findobj(mpl.text.Text))
    assert f"{explanation.margin.iloc[2]:.3f}".replace("-", "−") in texts.replace("-", "−")
    assert all(name in texts for name in NAMES)
    plt.close("all")


# ------------------------------------------------------------------------ tables and the plain twin


@pytest.fixture(scope="module")
def refitted() -> RiskModel:
    features, labels = make_points(800, seed=0)
    model = RiskModel(
        make_catalog(),
        n_estimators=5,
        learning_rate=0.4,
        num_leaves=6,
        min_child_samples=10,
        colsample=1.0,
        calibration=None,
        early_stopping_rounds=None,
        n_seeds=2,
        n_refits=3,
        n_jobs=2,
    )
    return model.fit(features, labels)


def test_tables_and_plain_give_the_same_explanation(refitted, points):
    plain = explain_risk(refitted, points, engine="plain", agreement=True)
    found = explain_risk(refitted, points, engine="tables", agreement=True)
    difference = (found.contributions - plain.contributions).abs()
    assert float(difference.max(axis=None)) <= 1e-12
    assert found.base_margin == pytest.approx(plain.base_margin, abs=1e-12)
    pd.testing.assert_series_equal(found.risk, plain.risk)
    assert (found.by_theme - plain.by_theme).abs().max(axis=None) <= 1e-12
    assert plain.agreement is not None
    assert plain.agreement.to_numpy().min() < 1  # otherwise the next line would say little
    pd.testing.assert_frame_equal(found.agreement, plain.agreement)
    empty = explain_risk(refitted, points.iloc[:0], engine="tables", agreement=True)
    assert empty.contributions.shape == (0, 4)


def test_a_household_alone_and_among_others_has_the_same_bits_from_tables(refitted, points):
    whole = explain_risk(refitted, points, engine="tables")
    alone = explain_risk(refitted, points.iloc[[3]], engine="tables")
    assert alone.contributions.to_numpy().tobytes() == (
        whole.contributions.iloc[[3]].to_numpy().tobytes()
    )
    assert alone.by_theme.to_numpy().tobytes() == whole.by_theme.iloc[[3]].to_numpy().tobytes()


def count_plain_calls(monkeypatch) -> list[int]:
    original, calls = Forest.contributions, []

    def counted(self, matrix):
        calls.append(len(matrix))
        return original(self, matrix)

    monkeypatch.setattr(Forest, "contributions", counted)
    return calls


def test_few_rows_are_explained_by_lightgbm_and_many_from_tables(points, monkeypatch):
    model, calls = fit(), count_plain_calls(monkeypatch)
    monkeypatch.setattr("poverty_risk.explain.MANY_ROWS", 20)
    for rows in (19, 20, 40, 19):
        # What was asked before changes nothing: the same rows get the same bits.
        explain_risk(model, points.iloc[:rows])
    assert calls == [19, 19]
    build_contribution_tables(model)
    explain_risk(model, points.iloc[:1])
    assert calls == [19, 19]
    explain_risk(model, points.iloc[:1], engine="plain")
    assert calls == [19, 19, 1]


def test_an_engine_that_does_not_exist_is_told(model, points):
    with pytest.raises(FeatureError, match="found 'fast'; expected auto or tables or plain"):
        explain_risk(model, points, engine="fast")
