"""Intervals of a risk: as wide as resampling says, kept in the folder."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from poverty_risk.calibration import CalibrationSpread
from poverty_risk.exceptions import DeclarationError
from poverty_risk.explain import build_contribution_tables
from poverty_risk.logistic import fit_logistic_line
from poverty_risk.model import RiskModel
from poverty_risk.risk_intervals import build_risk_intervals

SETTINGS = {"n_estimators": 40, "learning_rate": 0.1, "min_child_samples": 30, "n_jobs": 1}


def draw(villages: int = 60, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series, pd.Series]:
    """Features, labels, villages and true risks of 30 households a village, on two dates."""
    rng = np.random.default_rng(seed)
    dates = pd.to_datetime(["2020-01-01", "2022-01-01"])
    ids = [f"h{i:05d}" for i in range(villages * 30)]
    index = pd.MultiIndex.from_product([ids, dates], names=["household_id", "as_of_date"])
    names = pd.Series([f"v{int(i[1:]) // 30}" for i in index.get_level_values(0)], index=index)
    features = pd.DataFrame(rng.normal(size=(len(index), 3)), index, ["income", "bill", "noise"])
    truth = pd.Series(expit(-2 - 0.8 * features["income"] + 0.4 * features["bill"]), index=index)
    return features, (pd.Series(rng.random(len(index)), index) < truth).astype(float), names, truth


@pytest.fixture(scope="module")
def fitted():
    features, labels, villages, _ = draw()
    return RiskModel(refit=True, n_refits=5, **SETTINGS).fit(features, labels, groups=villages)


def test_spread_of_a_calibration_is_that_of_resampled_villages():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 40)
    luck = rng.normal(scale=0.8, size=80)[groups]
    margin = rng.normal(size=len(groups)) - 1.0
    label = (rng.random(len(groups)) < expit(margin + luck)).astype(float)
    slope, intercept = fit_logistic_line(margin, label)
    spread = CalibrationSpread.of(margin, label, expit(slope * margin + intercept), groups)
    drawn = [
        fit_logistic_line(
            margin, label, np.bincount(rng.integers(80, size=80), minlength=80)[groups]
        )
        for _ in range(300)
    ]
    resampled = np.cov(np.array(drawn).T)
    assert np.sqrt(spread.intercept) == pytest.approx(np.sqrt(resampled[1, 1]), rel=0.15)
    assert np.sqrt(spread.slope) == pytest.approx(np.sqrt(resampled[0, 0]), rel=0.15)
    # Households of a village share luck: taken one by one they would seem to tell more.
    alone = CalibrationSpread.of(
        margin, label, expit(slope * margin + intercept), np.arange(len(groups))
    )
    assert spread.intercept > 1.5 * alone.intercept


def test_a_weight_of_two_is_two_rows_of_a_village():
    rng = np.random.default_rng(1)
    margin, groups = rng.normal(size=200), np.repeat(np.arange(20), 10)
    label, risk = (rng.random(200) < 0.3).astype(float), np.full(200, 0.3)
    twice = CalibrationSpread.of(*(np.tile(a, 2) for a in (margin, label, risk, groups)))
    weighted = CalibrationSpread.of(margin, label, risk, groups, np.full(200, 2.0))
    assert weighted.slope == pytest.approx(twice.slope)


def test_intervals_hold_the_true_risks(fitted):
    features, _, _, truth = draw(seed=7)
    found = build_risk_intervals(fitted, features)
    held = (found["low"] <= truth) & (truth <= found["high"])
    assert held.mean() > 0.75
    risk = fitted.risk(features)
    assert ((found["low"] <= risk) & (risk <= found["high"])).all()


def test_many_rows_and_prepared_models_get_the_same_from_tables(fitted, tmp_path, monkeypatch):
    features = draw(2, seed=4)[0]
    plain = build_risk_intervals(fitted, features)
    alone = build_risk_intervals(fitted, features.iloc[:1])
    pd.testing.assert_frame_equal(alone, plain.iloc[:1], check_exact=True)
    fitted.save(tmp_path / "model")
    prepared = RiskModel.load(tmp_path / "model")
    build_contribution_tables(prepared)
    monkeypatch.setattr(prepared.refits_, "margins_of_each", None)  # not asked any more
    told = build_risk_intervals(prepared, features)
    pd.testing.assert_frame_equal(told, plain, rtol=1e-10)
    alone = build_risk_intervals(prepared, features.iloc[:1])
    pd.testing.assert_frame_equal(alone, told.iloc[:1], check_exact=True)
    monkeypatch.setattr("poverty_risk.explain.MANY_MARGINS", len(features))
    monkeypatch.setattr(fitted.refits_, "margins_of_each", None)
    pd.testing.assert_frame_equal(build_risk_intervals(fitted, features), told, check_exact=True)


def test_a_higher_level_is_wider(fitted):
    features = draw(5, seed=3)[0]
    narrow, wide = (build_risk_intervals(fitted, features, level) for level in (0.5, 0.95))
    assert (wide["low"] < narrow["low"]).all()
    assert (narrow["high"] < wide["high"]).all()


def test_a_calibration_of_more_villages_is_surer(fitted):
    few = RiskModel(refit=True, n_refits=5, **SETTINGS)
    features, labels, villages, _ = draw(15, seed=2)
    few.fit(features, labels, groups=villages)
    spreads = [
        float(model.spread_.variance(model.margin(features).mean())) for model in (few, fitted)
    ]
    assert spreads[0] > 2 * spreads[1]


def test_a_loaded_model_has_the_same_intervals(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded, features = RiskModel.load(tmp_path / "model"), draw(5, seed=3)[0]
    pd.testing.assert_frame_equal(
        build_risk_intervals(loaded, features),
        build_risk_intervals(fitted, features),
        check_exact=True,
    )


def test_what_cannot_tell_an_interval_says_so(fitted):
    features, labels, villages, _ = draw(20)
    bare = RiskModel(calibration="isotonic", **SETTINGS).fit(features, labels, groups=villages)
    with pytest.raises(DeclarationError, match="calibration 'isotonic'") as caught:
        build_risk_intervals(bare, features, 1.5)
    assert "0 refits" in str(caught.value)
    assert "level" in str(caught.value)


def test_impossible_variances_are_refused():
    with pytest.raises(ValueError, match="variances"):
        CalibrationSpread.from_dict({"slope": -1.0, "intercept": 0.1, "both": 0.0})
