"""The regression written as trees: its likelihood, its text, and a model that mixes it in."""

import itertools

import lightgbm
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from poverty_risk import RiskModel, explain_risk
from poverty_risk.additive import Regression, fit_steps
from poverty_risk.exceptions import DeclarationError
from poverty_risk.tree_texts import mix_texts
from test_model import make_catalog, make_points

CATEGORY = 3


def make_matrix(rows: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Columns of every kind: free, with missing values, mostly zero, categories, constant."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, 5)) * 3
    matrix[rng.random(rows) < 0.1, 1] = np.nan
    matrix[:, 2] = np.where(rng.random(rows) < 0.9, 0.0, rng.exponential(100, rows))
    matrix[:, CATEGORY] = rng.integers(0, 80, rows)
    matrix[rng.random(rows) < 0.05, CATEGORY] = np.nan
    matrix[:, 4] = 7.0
    margin = 0.4 * matrix[:, 0] - 0.3 * np.nan_to_num(matrix[:, 1]) - 1.0
    margin += 0.01 * np.nan_to_num(matrix[:, CATEGORY]) + np.isnan(matrix[:, 1])
    return matrix, (rng.random(rows) < expit(margin)).astype(float)


def sum_steps(matrix: np.ndarray, mean: float, steps: list) -> np.ndarray:
    """Log-odds by looking up each value among the steps: what the text has to say."""
    total = np.full(len(matrix), mean)
    for one in steps:
        for row, value in enumerate(matrix[:, one.position]):
            if one.categorical:
                other = one.known[-1] if one.missing is None else one.missing
                found = [step.height for step in one.known if step.ends == value]
                total[row] += found[0] if found else other.height
            elif np.isnan(value) and one.missing is not None:
                total[row] += one.missing.height
            else:
                ends = [step.ends for step in one.known]
                total[row] += one.known[int(np.searchsorted(ends, np.nan_to_num(value)))].height
    return total


@pytest.fixture(scope="module")
def fit():
    matrix, target = make_matrix()
    regression = Regression(0.5, 0.05, [1, 0, 1, 0, 1])
    return matrix, target, fit_steps(matrix, target, None, [CATEGORY], regression)


def test_every_feature_that_varies_has_steps_and_a_constant_none(fit):
    matrix, _, (_, steps) = fit
    assert {one.position for one in steps} <= {0, 1, 2, 3}
    assert {0, 1, 3} <= {one.position for one in steps}
    for one in steps:
        parts = one.known if one.missing is None else (*one.known, one.missing)
        assert sum(step.count for step in parts) == len(matrix)
        assert min(step.count for step in one.known) >= (1 if one.categorical else 10)
        assert sum(step.count * step.height for step in parts) == pytest.approx(0.0, abs=1e-8)
    assert steps[0].missing is None
    assert steps[1].missing is not None


def test_a_step_ends_where_its_values_do(fit):
    matrix, _, (_, steps) = fit
    for one in (one for one in steps if not one.categorical):
        edges = [-np.inf, *(step.ends for step in one.known)]
        counts = [
            int(((matrix[:, one.position] > low) & (matrix[:, one.position] <= high)).sum())
            for low, high in itertools.pairwise(edges)
        ]
        assert counts == [step.count for step in one.known]


def test_heights_are_those_of_the_penalised_likelihood():
    """Against scikit-learn on the same steps, where no direction binds."""
    from sklearn.linear_model import LogisticRegression

    matrix, target = make_matrix()
    regression = Regression(0.5, 0.05, [0] * 5)
    mean, steps = fit_steps(matrix[:, :1], target, None, [], regression)
    heights = np.array([step.height for step in steps[0].known])
    ends = [step.ends for step in steps[0].known[:-1]]
    levels = np.searchsorted(ends, matrix[:, 0])
    scaled = np.sign(matrix[:, 0]) * np.log1p(np.abs(matrix[:, 0]))
    means = np.bincount(levels, scaled) / np.bincount(levels)
    column = means[levels][:, None]
    column = (column - column.mean()) / column.std()
    expected = LogisticRegression(C=0.05, tol=1e-10).fit(column, target)
    np.testing.assert_allclose(
        heights[levels], column[:, 0] * expected.coef_[0, 0], rtol=1e-3, atol=1e-4
    )
    assert mean == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_weights_count_as_rows_do():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, 600).astype(float)
    target = (rng.random(600) < expit(values - 2)).astype(float)
    twice = np.r_[np.arange(600), np.arange(300)]
    weight = np.r_[np.full(300, 2.0), np.ones(300)]
    # Rows say where steps end and what is standard: without a penalty neither matters here.
    free = Regression(0.5, 1e9, [0])
    own = fit_steps(values[:, None], target, weight, [], free)
    other = fit_steps(values[twice, None], target[twice], None, [], free)
    margins = [sum_steps(values[:50, None], *found) for found in (own, other)]
    np.testing.assert_allclose(*margins, atol=1e-3)


@pytest.mark.parametrize("direction", [1, -1])
def test_directions_hold_even_against_the_data(direction):
    matrix, target = make_matrix()
    regression = Regression(0.5, 0.05, [direction] * 5)
    _, steps = fit_steps(matrix, target, None, [CATEGORY], regression)
    for one in (one for one in steps if not one.categorical):
        assert (np.diff([step.height for step in one.known]) * direction >= 0).all()
    # The first column raises the risk: with the other direction it adds nothing.
    assert (0 in {one.position for one in steps}) == (direction == 1)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_text_says_what_trees_and_steps_say(fit, share):
    matrix, target, (mean, steps) = fit
    data = lightgbm.Dataset(matrix, target, categorical_feature=[CATEGORY])
    settings = {"objective": "binary", "num_leaves": 8, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(settings, data, 10)
    text = mix_texts(booster.model_to_string(), mean, steps, share)
    mixed = lightgbm.Booster(model_str=text)
    assert mixed.num_trees() == (0 if share == 1.0 else 10) + 1 + len(steps)
    asked = np.vstack([matrix[:500], np.full((1, 5), np.nan), np.full((1, 5), 1e6)])
    asked[-1, CATEGORY] = 99  # a code that nobody had
    expected = share * sum_steps(asked, mean, steps)
    expected += (1 - share) * booster.predict(asked, raw_score=True)
    np.testing.assert_allclose(mixed.predict(asked, raw_score=True), expected, atol=1e-12)
    values = mixed.predict(asked, pred_contrib=True)
    np.testing.assert_allclose(values.sum(axis=1), expected, atol=1e-12)
    again = lightgbm.Booster(model_str=mixed.model_to_string())
    assert again.model_to_string() == mixed.model_to_string()


def test_no_path_asks_more_often_than_exact_explanation_allows(fit):
    def depth(node: dict) -> int:
        inside = "split_index" in node
        return 1 + max(depth(node["left_child"]), depth(node["right_child"])) if inside else 0

    _, _, (mean, steps) = fit
    empty = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(*fit[:2]), 1
    ).model_to_string()
    mixed = lightgbm.Booster(model_str=mix_texts(empty, mean, steps, 1.0))
    assert max(depth(tree["tree_structure"]) for tree in mixed.dump_model()["tree_info"]) <= 8


def test_nothing_that_varies_leaves_the_base_rate():
    target = np.r_[np.zeros(75), np.ones(25)]
    mean, steps = fit_steps(np.full((100, 2), 3.0), target, None, [], Regression(1.0, 1.0, [0, 0]))
    assert steps == []
    assert expit(mean) == pytest.approx(0.25)
    data = lightgbm.Dataset(np.random.default_rng(0).normal(size=(100, 2)), target)
    text = lightgbm.train({"objective": "binary", "verbosity": -1}, data, 1).model_to_string()
    mixed = lightgbm.Booster(model_str=mix_texts(text, mean, steps, 1.0))
    np.testing.assert_allclose(mixed.predict(np.zeros((3, 2))), 0.25)


# -------------------------------------------------------------------------- a model that mixes it in


@pytest.fixture(scope="module")
def points():
    return make_points(1500, ["2019-01-01", "2021-01-01", "2023-01-01"])


def _model(**settings) -> RiskModel:
    return RiskModel(make_catalog(), n_estimators=40, learning_rate=0.1, **settings)


@pytest.mark.parametrize("refit", [False, True])
def test_margin_is_the_mean_of_trees_and_regression(points, refit):
    features, labels = points
    shares = (0.0, 0.3, 1.0)
    trees, mixed, regression = (
        _model(logistic=share, refit=refit).fit(features, labels).margin(features)
        for share in shares
    )
    np.testing.assert_allclose(mixed, 0.7 * trees + 0.3 * regression, atol=1e-12)
    assert not np.allclose(trees, regression)


def test_boosted_trees_are_counted_without_those_of_the_regression(points):
    plain, mixed = (_model(logistic=share).fit(*points) for share in (0.0, 0.5))
    assert plain.training_["trees"] == mixed.training_["trees"] == plain.forest_.trees
    assert mixed.forest_.trees[0] > plain.forest_.trees[0]


def test_refits_and_the_saved_model_hold_the_regression(points, tmp_path):
    features, labels = points
    model = _model(logistic=0.5, n_refits=2).fit(features, labels)
    model.save(tmp_path / "model")
    loaded = RiskModel.load(tmp_path / "model")
    pd.testing.assert_series_equal(loaded.margin(features), model.margin(features))
    assert loaded.logistic == 0.5
    refits = loaded.refits_.margins_of_each(loaded.columns_.matrix(features))
    assert np.corrcoef([model.margin(features), *refits]).min() > 0.8


def test_its_part_is_explained_exactly(points):
    features, labels = points
    model = _model(logistic=0.5).fit(features, labels)
    rows = features.head(200)
    found = explain_risk(model, rows)
    values, base = model.contributions(rows)
    np.testing.assert_allclose(found.contributions[values.columns], values, atol=1e-12)
    np.testing.assert_allclose(values.sum(axis=1) + base, model.margin(rows), atol=1e-10)


def test_directions_hold_in_the_mixed_model(points):
    features, labels = points
    model = _model(logistic=0.5).fit(features, labels)
    for name, direction in model.directions.items():
        if direction:
            low, high = (features.head(300).assign(**{name: v}) for v in (-50.0, 50.0))
            gain = direction * (model.margin(high).to_numpy() - model.margin(low).to_numpy())
            assert (gain >= -1e-12).all(), name


def _few(column: np.ndarray, target: np.ndarray, *, category: bool = False, fewest: int = 10):
    categorical = [0] if category else []
    regression = Regression(1.0, 1.0, [0], fewest)
    return fit_steps(column[:, None], target, None, categorical, regression)[1]


def test_missing_categories_get_a_risk_of_their_own_average():
    rng = np.random.default_rng(0)
    codes = rng.choice([0.0, 1.0, np.nan], 4000, p=[0.4, 0.3, 0.3])
    chance = np.select([codes == 0, codes == 1], [0.8, 0.1], 0.35)
    target = (rng.random(4000) < chance).astype(float)
    named = pd.Categorical.from_codes(np.nan_to_num(codes, nan=-1).astype(int), ["a", "b"])
    index = pd.MultiIndex.from_product(
        [range(4000), [pd.Timestamp("2021-01-01")]], names=["household_id", "as_of_date"]
    )
    table = pd.DataFrame({"kind": named}, index=index)
    model = RiskModel(
        logistic=1.0, logistic_c=1.0, calibration=None, early_stopping_rounds=None, n_jobs=1
    ).fit(table, target)
    risk = model.risk(table)
    assert risk[np.isnan(codes)].mean() == pytest.approx(target[np.isnan(codes)].mean(), abs=0.1)
    assert model.contributions(table)[1] == pytest.approx(model.margin(table).mean(), abs=1e-9)


def test_steps_of_few_rows_tell_nothing():
    rng = np.random.default_rng(0)
    target = (rng.random(6000) < 0.3).astype(float)
    column = np.zeros(6000)
    column[:12] = 37_541.25
    target[:12] = 1.0
    assert _few(column, target, fewest=120) == []
    (told,) = _few(column, target)
    assert min(step.count for step in told.known) >= 10
    hardly = np.full(6000, np.nan)
    hardly[:3] = [1.0, 2.0, 3.0]
    assert _few(hardly, target) == []
    codes = rng.integers(0, 3, 6000).astype(float)
    codes[:2] = [7.0, 8.0]
    (kinds,) = _few(codes, target, category=True)
    assert [step.ends for step in kinds.known if step.count < 10] == []
    assert kinds.missing.count == 2


def test_a_row_of_each_date_is_one_household(points):
    index = pd.MultiIndex.from_product([range(50), range(12)], names=["household_id", "as_of_date"])
    assert Regression.of(0.5, 1.0, [0], index).fewest == 120
    assert Regression.of(0.5, 1.0, [0], pd.RangeIndex(50)).fewest == 10
    assert Regression.of(0.0, 1.0, [0], index) is None


def test_what_is_missing_tells_even_where_known_values_are_equal():
    rng = np.random.default_rng(0)
    column = np.where(rng.random(4000) < 0.4, np.nan, 1.0)
    target = (rng.random(4000) < np.where(np.isnan(column), 0.5, 0.1)).astype(float)
    (steps,) = _few(column, target)
    assert steps.missing.height > steps.known[0].height + 1.0
    (kinds,) = _few(column - 1.0, target, category=True)
    assert kinds.known[0].height < -0.5


def test_an_infinite_value_is_like_the_farthest_finite_one():
    matrix, target = make_matrix()
    column = matrix[:, 0].copy()
    column[5], column[9] = np.inf, -np.inf
    (steps,) = _few(column, target)
    heights = [step.height for step in steps.known]
    assert heights == sorted(heights)
    assert heights[-1] - heights[0] > 1.0


def test_a_model_tells_no_extreme_of_a_feature(points):
    features, labels = points
    for share in (0.0, 0.5):
        (text,) = _model(logistic=share).fit(features, labels).forest_.texts
        (line,) = [line for line in text.split("\n") if line.startswith("feature_infos=")]
        assert set(line.removeprefix("feature_infos=").split()) == {"none"}


@pytest.mark.parametrize("c", [0.0, -1.0, np.nan])
def test_a_strength_that_is_not_positive_is_refused(points, c):
    with pytest.raises(DeclarationError, match="logistic_c: found .* expected a positive number"):
        _model(logistic=0.5, logistic_c=c).fit(*points)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_its_range_is_refused(points, share):
    with pytest.raises(DeclarationError, match=rf"logistic: found {share}; expected a share"):
        _model(logistic=share).fit(*points)
