"""Calibration: monotone, kept to the last bit, and equal to fits that others make."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from poverty_risk.calibration import (
    IsotonicCalibrator,
    SigmoidCalibrator,
    fit_calibrator,
    load_calibrator,
)
from poverty_risk.exceptions import DeclarationError, FeatureError, ModelFolderError
from poverty_risk.logistic import fit_logistic_line

KINDS = ["sigmoid", "isotonic"]


def draw(size: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins with ties, labels of a rate near 10 %, whole weights."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(-2.0, 1.2, size).round(1)
    y = (rng.random(size) < expit(0.7 * margin - 0.9)).astype(float)
    return margin, y, rng.integers(1, 4, size).astype(float)


class MarginItself(ClassifierMixin, BaseEstimator):
    """A fitted classifier of scikit-learn whose margin is its only column."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 0]

    def predict(self, X):
        return self.classes_[(X[:, 0] > 0).astype(int)]


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_is_a_logistic_regression_on_smoothed_targets(weighted):
    """Independent: each point once as a 1 and once as a 0, weighted by Platt's target."""
    margin, y, weight = draw()
    weight = weight if weighted else np.ones(len(y))
    positives = weight[y == 1].sum()
    negatives = weight[y == 0].sum()
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    regression = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    regression.fit(
        np.tile(margin, 2)[:, None],
        np.repeat([1, 0], len(y)),
        np.concatenate([weight * target, weight * (1 - target)]),
    )
    found = SigmoidCalibrator.fit(margin, y, weight if weighted else None)
    assert found.slope == pytest.approx(regression.coef_.item(), rel=1e-6)
    assert found.intercept == pytest.approx(regression.intercept_.item(), rel=1e-6)


def test_sigmoid_gives_the_risks_of_scikit_learn():
    margin, y, _ = draw(seed=3)
    theirs = CalibratedClassifierCV(FrozenEstimator(MarginItself().fit(None, y)), method="sigmoid")
    theirs.fit(margin[:, None], y)
    ours = fit_calibrator("sigmoid", margin, y).predict(margin)
    # Their optimiser stops at a tolerance; ours runs to the end.
    np.testing.assert_allclose(ours, theirs.predict_proba(margin[:, None])[:, 1], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_two_points(kind):
    margin, y, weight = draw(seed=1)
    twice = np.repeat(np.arange(len(y)), weight.astype(int))
    weighted = fit_calibrator(kind, margin, y, weight)
    repeated = fit_calibrator(kind, margin[twice], y[twice])
    np.testing.assert_allclose(weighted.predict(margin), repeated.predict(margin), rtol=1e-8)


def test_isotonic_pools_what_falls():
    """By hand: 1, 0 at margins 2 and 3 become 1/2; five points allow risks from 1/7 to 6/7."""
    found = IsotonicCalibrator.fit(np.arange(1.0, 6.0), np.array([0.0, 1.0, 0.0, 1.0, 1.0]))
    margins = np.array([-9.0, 1.0, 1.5, 2.0, 2.7, 3.0, 3.5, 4.0, 99.0])
    low, half, high = 1 / 7, 1 / 2, 6 / 7
    expected = [low, low, (low + half) / 2, half, half, half, (half + high) / 2, high, high]
    np.testing.assert_allclose(found.predict(margins), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_higher_margin_never_has_a_lower_risk(kind, seed):
    margin, y, weight = draw(300, seed)
    calibrator = fit_calibrator(kind, margin, y, weight)
    rng = np.random.default_rng(seed)
    # Thresholds, their neighbours in floating point, and far away.
    asked = np.concatenate([margin, np.nextafter(margin, 99), rng.normal(-2, 5, 3000), [-800, 800]])
    risk = calibrator.predict(np.sort(asked))
    assert (np.diff(risk) >= 0).all()
    assert risk.min() >= 0
    assert risk.max() <= 1
    assert np.ptp(risk) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_through_json_to_the_last_bit(kind):
    margin, y, weight = draw(seed=2)
    calibrator = fit_calibrator(kind, margin / 3, y, weight)
    again = load_calibrator(json.loads(json.dumps(calibrator.to_dict())))
    assert again == calibrator
    asked = np.random.default_rng(0).normal(-2, 3, 5000)
    assert again.predict(asked).tobytes() == calibrator.predict(asked).tobytes()


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"kind": "spline"},
        {"kind": ["sigmoid"]},
        {"kind": "sigmoid", "slope": 1.0},
        {"kind": "sigmoid", "slope": -1.0, "intercept": 0.0},
        {"kind": "sigmoid", "slope": float("nan"), "intercept": 0.0},
        {"kind": "sigmoid", "slope": 1.0, "intercept": float("inf")},
        {"kind": "sigmoid", "slope": "steep", "intercept": 0.0},
        {"kind": "isotonic", "margins": [], "risks": []},
        {"kind": "isotonic", "margins": [0.0, 1.0], "risks": [0.1]},
        {"kind": "isotonic", "margins": [1.0, 1.0], "risks": [0.1, 0.2]},
        {"kind": "isotonic", "margins": [0.0, 1.0], "risks": [0.2, 0.1]},
        {"kind": "isotonic", "margins": [0.0, 1.0], "risks": [0.2, 1.1]},
        {"kind": "isotonic", "margins": [0.0, float("nan")], "risks": [0.1, 0.2]},
        {"kind": "isotonic", "margins": [0.0, 1.0], "risks": [0.1, float("nan")]},
        None,
    ],
)
def test_what_is_no_calibrator_is_refused(broken):
    with pytest.raises(ModelFolderError, match="calibrator: found .*monotone calibrator of kind"):
        load_calibrator(broken)


def test_margins_that_are_all_the_same():
    """By hand, 1 positive and 3 negatives: targets 2/3 and 1/5, mean (2/3 + 3/5) / 4 = 19/60."""
    margin, y = np.full(4, 0.3), np.array([0.0, 1.0, 0.0, 0.0])
    sigmoid = fit_calibrator("sigmoid", margin, y)
    assert sigmoid.predict(margin) == pytest.approx([19 / 60] * 4)
    assert sigmoid.slope == 1
    assert fit_calibrator("isotonic", margin, y).predict(margin).tolist() == [0.25] * 4


def test_separated_classes_give_no_certainty():
    """By hand for one point of each class: targets 2/3 and 1/3 are met exactly."""
    found = fit_calibrator("sigmoid", np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(found.predict(np.array([1.0, 2.0])), [1 / 3, 2 / 3])
    stepped = fit_calibrator("isotonic", np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    assert stepped.predict(np.array([1.0, 2.0])).tolist() == [0.25, 0.75]


@pytest.mark.parametrize("kind", KINDS)
def test_censored_points_and_points_without_weight_are_left_out(kind):
    margin, y, weight = draw(200)
    more_margin = np.concatenate([margin, [5.0, np.nan]])
    more_y = np.concatenate([y, [np.nan, 1.0]])
    more_weight = np.concatenate([weight, [1.0, 0.0]])
    found = fit_calibrator(kind, more_margin, more_y, more_weight)
    assert found == fit_calibrator(kind, margin, y, weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plain", ["none", "weights", "margin"])
def test_series_are_matched_by_key(kind, plain):
    """Whatever else is an array: it is in the order of the first Series."""
    values, outcomes, weights = draw(200)
    index = pd.Index([f"h{number}" for number in range(200)])
    margin, y, weight = (pd.Series(v, index=index) for v in (values, outcomes, weights))
    expected = fit_calibrator(kind, values, outcomes, weights)
    mixed = y.sample(frac=1, random_state=1)
    if plain == "margin":
        found = fit_calibrator(kind, values, y, weight.sample(frac=1, random_state=2))
    elif plain == "weights":
        found = fit_calibrator(kind, margin, mixed, weights)
    else:
        found = fit_calibrator(kind, margin, mixed, weight.sample(frac=1, random_state=2))
    assert found == expected


@pytest.mark.parametrize(
    "keys", [["a", "b", "d"], ["a", "b", "b"], ["a", "b"]], ids=["other", "repeated", "fewer"]
)
def test_other_points_are_refused(keys):
    margin = pd.Series([-1.0, 0.0, 1.0], index=["a", "b", "c"])
    y = pd.Series([0.0, 1.0, 1.0][: len(keys)], index=keys)
    with pytest.raises(FeatureError, match="calibration, labels: found other or repeated points"):
        fit_calibrator("sigmoid", margin, y)


def test_labels_do_not_spread_over_repeated_margins():
    margin = pd.Series([-2.0, 2.0, -1.0], index=["a", "b", "a"])
    with pytest.raises(FeatureError, match="calibration, labels: found other or repeated points"):
        fit_calibrator("sigmoid", margin, pd.Series([0.0, 1.0], index=["a", "b"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("margin", "y", "weight", "message"),
    [
        ([], [], None, r"labels: found \[\]; expected both 0 and 1"),
        ([0.0, 1.0], [1.0, 1.0], None, r"labels: found \[1.0\]; expected both 0 and 1"),
        ([0.0, 1.0], [np.nan, np.nan], None, r"labels: found \[\]; expected both 0 and 1"),
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], None, "labels: found .*2.0.*; expected both 0 and 1"),
        ([0.0, np.nan], [0.0, 1.0], None, "margin: found a missing or infinite margin"),
        ([0.0, np.inf], [0.0, 1.0], None, "margin: found a missing or infinite margin"),
        ([0.0, 1.0], [0.0, 1.0], [1.0, -1.0], "weights: found a missing or negative weight"),
        ([0.0, 1.0], [0.0, 1.0], [1.0, np.nan], "weights: found a missing or negative weight"),
        ([0.0, 1.0], [0.0, 1.0, 1.0], None, r"labels: found shape \(3,\)"),
        ([0.0, 1.0], [0.0, 1.0], [1.0], r"weights: found shape \(1,\)"),
    ],
)
def test_what_cannot_be_fitted_is_said(kind, margin, y, weight, message):
    weights = None if weight is None else np.array(weight)
    with pytest.raises(FeatureError, match=message):
        fit_calibrator(kind, np.array(margin), np.array(y), weights)


def test_several_faults_make_one_error():
    with pytest.raises(FeatureError, match="(?s)3 problems.*margin.*weights.*labels"):
        fit_calibrator(
            "sigmoid", np.array([np.nan, 1.0]), np.array([1.0, 1.0]), np.array([1.0, -1.0])
        )


def test_margins_the_wrong_way_round_are_refused():
    margin, y, _ = draw()
    with pytest.raises(FeatureError, match="a slope of -.*a higher margin, a higher risk"):
        fit_calibrator("sigmoid", -margin, y)


def test_an_unknown_kind_is_refused():
    with pytest.raises(DeclarationError, match="'beta'; expected one of sigmoid, isotonic"):
        fit_calibrator("beta", np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def test_logistic_line_of_two_groups():
    """By hand: rates 1/4 at 0 and 2/3 at 2 give log-odds -log 3 and log 2, so slope log(6) / 2."""
    values = np.repeat([0.0, 2.0], [4, 3])
    target = np.array([1.0, 0, 0, 0, 1, 1, 0])
    slope, intercept = fit_logistic_line(values, target)
    assert slope == pytest.approx(np.log(6) / 2)
    assert intercept == pytest.approx(-np.log(3))


def test_logistic_line_of_rare_outcomes_equals_scikit_learn():
    rng = np.random.default_rng(0)
    values = rng.normal(50, 20, 4000)
    target = (rng.random(4000) < expit(0.05 * values - 8.5)).astype(float)
    assert 5 < target.sum() < 60
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    theirs.fit(values[:, None], target)
    slope, intercept = fit_logistic_line(values, target)
    assert slope == pytest.approx(theirs.coef_.item(), rel=1e-6)
    assert intercept == pytest.approx(theirs.intercept_.item(), rel=1e-6)


def test_logistic_line_arrives_for_every_draw():
    """Next to the solution a step gains less than the rounding of the loss; it must still be taken."""
    for seed in range(100):
        margin, y, weight = draw(300, seed)
        slope, intercept = fit_logistic_line(margin, y, weight)
        residual = weight * (expit(slope * margin + intercept) - y)
        assert abs(residual.sum()) < 1e-6
        assert abs(residual @ margin) < 1e-6


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ([1.0, 1, 1], [0.0, 1, 1]),  # constant
        ([0.0, 1, 2], [1.0, 1, 1]),  # one class
        ([0.0, 1, 2, 3], [0.0, 0, 1, 1]),  # separated
        ([0.0, 1, 2, 3], [1.0, 1, 0, 0]),  # separated, falling
        ([0.0, 0, 1, 1], [0.0, 1, 1, 1]),  # both classes at 0, one above: the slope has no end
        ([0.0, 0, 1, 1, 2], [0.0, 0, 0, 1, 1]),  # both classes at 1, the only common value
        ([], []),
    ],
)
def test_logistic_line_without_a_finite_solution_is_missing(values, target):
    assert np.isnan(fit_logistic_line(np.array(values), np.array(target))).all()


def test_logistic_line_reads_only_rows_with_weight():
    values, target = np.array([0.0, 1, 2, 3, 9]), np.array([0.0, 1, 0, 1, 0])
    weight = np.array([1.0, 1, 1, 1, 0])
    expected = fit_logistic_line(values[:4], target[:4])
    np.testing.assert_allclose(fit_logistic_line(values, target, weight), expected)
    assert np.isnan(fit_logistic_line(values, target, np.zeros(5))).all()
