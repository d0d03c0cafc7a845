"""Risk over time: what enters which interval, what never falls, who is used up to when."""

import copy

import numpy as np
import pandas as pd
import pytest

from poverty_risk.calibration import SigmoidCalibrator
from poverty_risk.cohort import build_prediction_points
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import DeclarationError, FeatureError, LabelError, ModelFolderError
from poverty_risk.features import Catalog, FeatureSpec
from poverty_risk.hazard import HazardModel
from poverty_risk.labels import label_returns
from poverty_risk.model import RiskModel
from poverty_risk.person_periods import PersonPeriods, _check_happens, label_times, parse_horizons
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

HORIZONS = ["3mo", "6mo", "12mo", "24mo"]
SETTINGS = {"n_estimators": 60, "learning_rate": 0.1, "min_child_samples": 30, "n_jobs": 1}


def draw(size: int = 3000, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Features, outcomes with households lost on the way, and the true risks."""
    rng = np.random.default_rng(seed)
    dates = pd.to_datetime(["2020-01-01"])
    index = pd.MultiIndex.from_product(
        [[f"h{i:05d}" for i in range(size)], dates], names=["household_id", "as_of_date"]
    )
    features = pd.DataFrame(
        {"income": rng.normal(size=size), "noise": rng.normal(size=size)}, index=index
    )
    rate = 0.01 * np.exp(-features["income"].to_numpy())
    event, lost = rng.exponential(1.0 / rate), rng.exponential(60.0, size)
    months = np.array([int(text.removesuffix("mo")) for text in HORIZONS])
    happened = event[:, None] < months
    seen = happened & (event < lost)[:, None] | (~happened & (lost[:, None] >= months))
    outcomes = pd.DataFrame(np.where(seen, happened.astype(float), np.nan), index, HORIZONS)
    truth = pd.DataFrame(-np.expm1(-rate[:, None] * months), index, HORIZONS)
    return features, outcomes, truth


@pytest.fixture(scope="module")
def drawn():
    return draw()


@pytest.fixture(scope="module")
def fitted(drawn):
    return HazardModel(horizons=HORIZONS, **SETTINGS).fit(drawn[0], drawn[1])


# ------------------------------------------------------------------------------------ intervals


def test_a_household_is_used_up_to_when_it_was_last_seen():
    outcomes = pd.DataFrame(
        [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, np.nan, np.nan], [np.nan] * 4, [1, 1, 1, np.nan]],
        columns=HORIZONS,
    )
    rows = PersonPeriods.of(outcomes)
    found = {
        point: rows.happened[rows.point == point][np.argsort(rows.interval[rows.point == point])]
        for point in range(5)
    }
    assert found[0].tolist() == [0, 0, 0, 0]
    assert found[1].tolist() == [0, 0, 1]
    assert found[2].tolist() == [0, 0]
    assert found[3].tolist() == []
    assert found[4].tolist() == [1]


def test_an_outcome_that_is_undone_is_refused():
    with pytest.raises(FeatureError, match="1 outcomes that had happened by one horizon"):
        PersonPeriods.of(pd.DataFrame({"3mo": [1.0], "6mo": [0.0]}))


@pytest.mark.parametrize(
    "horizons", [["12mo", "3mo"], ["12mo", "12mo"], [], "12mo", ["90d", "3mo"]]
)
def test_horizons_follow_one_another(horizons):
    with pytest.raises(DeclarationError):
        parse_horizons(horizons)


def test_a_state_has_no_time():
    with pytest.raises(LabelError, match="a state at the end of a horizon"):
        _check_happens(load_schema("eph"), "poor_at_12mo")


# -------------------------------------------------------------------------------------- labels


@pytest.fixture(scope="module")
def county():
    tables = make_household_history(400, start="2020-01-01", end="2024-01-01", seed=2).tables
    return tables, build_prediction_points(tables, ["2021-07-01", "2023-02-01"])


def test_labels_of_each_horizon_are_those_of_a_horizon_alone(county):
    tables, points = county
    found = label_times(tables, points, ["6mo", "24mo"], "identified")
    for horizon in found.columns:
        alone = label_returns(tables, points, horizon, "identified")
        pd.testing.assert_series_equal(found[horizon], alone, check_names=False)
    late = found.xs("2023-02-01", level="as_of_date")
    assert late["6mo"].notna().any()
    assert late["24mo"].isna().all()


def test_labels_that_were_not_complete_on_a_day_are_missing(county):
    tables, points = county
    # Six months from 1 July 2021 and 60 days for reporting: complete on 2 March 2022.
    for known_by, known in [("2022-03-01", False), ("2022-03-02", True)]:
        found = label_times(tables, points, ["6mo"], "identified", known_by)
        early = found.xs("2021-07-01", level="as_of_date")["6mo"]
        assert early.notna().any() == known
        assert found.xs("2023-02-01", level="as_of_date")["6mo"].isna().all()


def test_an_outcome_reported_late_was_not_known_on_a_day():
    frames = {
        "household": pd.DataFrame(
            {
                "household_id": ["h1"],
                "event_date": ["2019-01-01"],
                "known_date": ["2019-01-01"],
                "township_id": ["T1"],
                "village_id": ["V1"],
                "status": ["active"],
            }
        ),
        "monitoring": pd.DataFrame(
            {
                "household_id": ["h1"],
                "event_date": ["2021-09-01"],
                "known_date": ["2023-05-01"],
                "status": ["identified"],
            }
        ),
    }
    tables = HistoryTables.from_frames(frames, load_schema(), observed_to="2024-01-01")
    points = pd.DataFrame(
        index=pd.MultiIndex.from_tuples(
            [("h1", pd.Timestamp("2021-07-01"))], names=["household_id", "as_of_date"]
        )
    )
    for known_by, label in [("2023-01-01", 0.0), ("2023-06-01", 1.0)]:
        found = label_times(tables, points, ["6mo"], "identified", known_by)
        assert found["6mo"].tolist() == [label]


# --------------------------------------------------------------------------------------- model


def test_risk_never_falls_with_the_horizon(fitted, drawn):
    risk = fitted.risk(drawn[0])
    assert list(risk.columns) == HORIZONS
    assert (np.diff(risk.to_numpy(), axis=1) >= 0).all()
    assert ((risk > 0) & (risk < 1)).all(axis=None)


def test_risks_are_those_of_the_hazards_one_after_the_other(fitted, drawn):
    hazards, risk = fitted.hazard(drawn[0]), fitted.risk(drawn[0])
    assert risk["3mo"].to_numpy() == pytest.approx(hazards["3mo"].to_numpy())
    survived = (1 - hazards["3mo"]) * (1 - hazards["6mo"]) * (1 - hazards["12mo"])
    assert risk["12mo"].to_numpy() == pytest.approx(1 - survived.to_numpy())


@pytest.mark.parametrize("seed", range(3))
def test_risk_never_falls_whatever_the_calibrators(drawn, fitted, seed):
    rng = np.random.default_rng(seed)
    drawn_lines = {h: SigmoidCalibrator(*rng.uniform([0, -9], [3, 3])) for h in HORIZONS}
    model = copy.copy(fitted)
    model.calibrators_ = drawn_lines
    assert (np.diff(model.risk(drawn[0]).to_numpy(), axis=1) >= 0).all()


def test_each_horizon_is_near_its_true_risk(fitted):
    features, _, truth = draw(4000, seed=9)
    risk = fitted.risk(features)
    for horizon in HORIZONS:
        assert risk[horizon].mean() == pytest.approx(truth[horizon].mean(), rel=0.15)
        assert risk[horizon].corr(truth[horizon], method="spearman") > 0.9


def test_lost_households_make_the_risk_neither_too_low_nor_too_high(fitted, drawn):
    features, outcomes, truth = drawn
    whole = outcomes["24mo"]
    assert whole.isna().mean() > 0.2
    # Counting the lost as zeros gives too little; leaving them out too much, because whoever was lost
    # after the outcome is still there.
    assert whole.fillna(0.0).mean() < 0.88 * truth["24mo"].mean()
    assert whole.mean() > 1.12 * truth["24mo"].mean()
    assert fitted.risk(features)["24mo"].mean() == pytest.approx(truth["24mo"].mean(), rel=0.08)


def test_points_are_matched_by_key(fitted, drawn):
    features, outcomes, _ = drawn
    shuffled = outcomes.sample(frac=1.0, random_state=1)[HORIZONS[::-1]]
    again = HazardModel(horizons=HORIZONS, **SETTINGS).fit(features, shuffled)
    pd.testing.assert_frame_equal(again.risk(features), fitted.risk(features))


def test_directions_hold_at_every_horizon(drawn):
    spec = FeatureSpec(stem="income", formula="1", theme="income", direction=-1)
    catalog = Catalog([spec], "archive", "test")
    features = drawn[0].rename(columns={"income": spec.name})
    model = HazardModel(catalog, horizons=HORIZONS, **SETTINGS).fit(features, drawn[1])
    ladder = pd.DataFrame({spec.name: np.linspace(-4, 4, 200)})
    assert (np.diff(model.risk(ladder).to_numpy(), axis=0) <= 0).all()


def test_a_loaded_model_is_the_same_to_the_last_bit(fitted, drawn, tmp_path):
    model_id = fitted.save(tmp_path / "hazard", {"run": "test"})
    loaded = HazardModel.load(tmp_path / "hazard")
    assert loaded.model_id_ == model_id
    pd.testing.assert_frame_equal(loaded.risk(drawn[0]), fitted.risk(drawn[0]), check_exact=True)
    assert not list(tmp_path.rglob("*.pkl"))


def test_kinds_of_model_folders_are_not_mixed_up(fitted, drawn, tmp_path):
    fitted.save(tmp_path / "hazard")
    with pytest.raises(ModelFolderError, match="written by RiskModel"):
        RiskModel.load(tmp_path / "hazard")
    labels = drawn[1]["12mo"]
    settings = SETTINGS | {"calibration": None, "early_stopping_rounds": None, "n_estimators": 3}
    RiskModel(**settings).fit(drawn[0], labels).save(tmp_path / "risk")
    with pytest.raises(ModelFolderError, match="written by HazardModel"):
        HazardModel.load(tmp_path / "risk")


def test_what_cannot_be_learned_from_is_said(drawn):
    features, outcomes, _ = drawn
    model = HazardModel(horizons=HORIZONS, **SETTINGS)
    with pytest.raises(FeatureError, match="no column '24mo'"):
        model.fit(features, outcomes.drop(columns="24mo"))
    with pytest.raises(FeatureError, match="1 of 3000 points without an entry"):
        model.fit(features, outcomes.iloc[1:])
    with pytest.raises(FeatureError, match="interval that ends at 24mo"):
        model.fit(features, outcomes.assign(**{"24mo": np.nan}))
