"""The simulated county: repeatable, as messy as an archive, its truth kept apart and exact."""

import numpy as np
import pandas as pd
import pytest

from poverty_risk import build_prediction_points, label_returns, make_household_history
from poverty_risk.datasets.county import WARM_UP, _begin, _live_month
from poverty_risk.datasets.events import EventLog
from poverty_risk.datasets.identification import _account
from poverty_risk.datasets.population import MONTHS, PRESENT, line_of
from poverty_risk.exceptions import DeclarationError, FeatureError


@pytest.fixture(scope="module")
def county():
    return make_household_history(6000, seed=5)


def test_same_seed_same_county():
    first, again = make_household_history(150, seed=2), make_household_history(150, seed=2)
    assert first.tables.fingerprint == again.tables.fingerprint
    pd.testing.assert_frame_equal(first.truth, again.truth)
    other = make_household_history(150, seed=3)
    assert other.tables.fingerprint != first.tables.fingerprint


def test_rates_are_those_of_published_reports(county):
    """About 1 % of households a year newly identified, about 60 % of them sudden hardship."""
    monitoring = county.tables["monitoring"]
    found = monitoring[
        (monitoring["status"] == "identified") & (monitoring["event_date"] >= "2019")
    ]
    yearly = len(found) / 6 / county.n_households
    assert 0.007 < yearly < 0.016
    assert 0.45 < (found["category"] == "sudden").mean() < 0.75


def test_archive_is_as_messy_as_an_archive(county):
    tables = county.tables
    assert set(tables.names) == set(tables.schema.tables)
    expected = set(tables.rejected["expected"])
    assert {
        "known on or after the day it happened",
        "one record per fact and known date",
    } <= expected
    income = tables["income"]
    annual = income[income["window"] == "annual"]
    assert ((annual["wage"] > 0) & (annual["wage"] < 100)).any()  # placeholders
    keys = ["household_id", "period_start", "period_end"]
    assert annual.duplicated(keys).any()  # corrections keep both values
    assert tables["person"]["education"].isna().any()
    assert (annual["period_end"].dt.month == 9).all()
    assert (income.loc[income["window"] == "rolling", "known_date"] >= "2019").all()
    lag = (tables["medical_bill"]["known_date"] - tables["medical_bill"]["event_date"]).dt.days
    assert lag.min() >= 10
    assert lag.max() <= 50


def test_nothing_is_known_after_the_end_and_truth_stays_outside(county):
    for name in county.tables.names:
        assert (county.tables[name]["known_date"] < county.end).all()
    columns = {column for name in county.tables.names for column in county.tables[name].columns}
    assert not columns & {"ability", "fragility", "coping", "hardship", "true_risk"}


def test_identification_is_recorded_later_than_it_happened(county):
    monitoring = county.tables["monitoring"]
    lag = (monitoring["known_date"] - monitoring["event_date"]).dt.days
    assert lag.between(5, 30).all()


def test_help_starts_after_identification(county):
    found = county.tables["monitoring"].query("status == 'identified'")
    helped = county.tables["assistance"].query("kind == 'other'")
    first = found.groupby("household_id")["event_date"].min()
    started = helped.groupby("household_id")["event_date"].min()
    both = pd.concat([first.rename("found"), started.rename("helped")], axis=1).dropna()
    assert len(both) > 100
    assert (both["helped"] > both["found"]).all()


def test_welfare_truth_differs_from_what_was_recorded(county):
    """Many households fall below the line or lose a guarantee and nobody identifies them."""
    counts = county.truth.groupby("outcome")["household_id"].nunique()
    assert counts["below_line"] > counts["identified"]
    both = set(county.truth.query("outcome == 'below_line'")["household_id"]) & set(
        county.truth.query("outcome == 'identified'")["household_id"]
    )
    assert both


def test_a_life_can_be_lived_again():
    """True risk starts from states that are replayed without a log: they must be the same."""
    start = pd.Timestamp("2019-01-01")
    logged, rng = _begin(300, start, 4)
    quiet, again = _begin(300, start, 4)
    log = EventLog()
    for month in range(1, WARM_UP + 14):
        _live_month(logged, rng, log, warm=month <= MONTHS)
        _live_month(quiet, again, None, warm=month <= MONTHS)
    for name, values in logged.households.items():
        np.testing.assert_array_equal(values, quiet.households[name], err_msg=name)
    np.testing.assert_array_equal(logged.rolling["wage"], quiet.rolling["wage"])


def test_true_risk_is_calibrated_and_orders_better_than_income(county):
    dates = ["2021-07-01", "2023-01-01"]
    points = build_prediction_points(county.tables, dates)
    truth = county.true_risk(points, 12, replicates=40)
    labels = label_returns(county.tables, points, "12mo", "identified").dropna()
    risk = truth.loc[labels.index, "true_risk"]
    expected, seen = risk.sum(), labels.sum()
    # Shared shocks make the county's luck vary more than independent draws would.
    assert abs(expected - seen) < 4 * np.sqrt(expected)
    assert risk[labels == 1].mean() > 5 * risk[labels == 0].mean()
    assert truth["standard_error"].max() < 0.08


@pytest.mark.parametrize("outcome", ["below_line", "guarantee_failed", "any"])
def test_true_risk_of_other_outcomes(outcome):
    county = make_household_history(200, seed=1)
    points = build_prediction_points(county.tables, "2023-01-01")
    risk = county.true_risk(points, 12, replicates=5, outcome=outcome)["true_risk"]
    assert risk.between(0, 1).all()
    assert risk.max() > 0
    any_risk = county.true_risk(points, 12, replicates=5, outcome="any")["true_risk"]
    assert (any_risk >= risk - 0.21).all()


def test_true_risk_says_what_it_cannot_answer():
    county = make_household_history(60, seed=1)
    points = build_prediction_points(county.tables, "2023-01-15")
    with pytest.raises(FeatureError, match="as-of date 2023-01-15.*first days of months"):
        county.true_risk(points)
    with pytest.raises(DeclarationError, match="'identifed'.*one of identified, below_line"):
        county.true_risk(build_prediction_points(county.tables, "2023-01-01"), outcome="identifed")


def test_sizes_and_dates_are_checked():
    with pytest.raises(DeclarationError, match=r"n_households: found 10.*(?s:.)*end: found"):
        make_household_history(10, start="2019-01-01", end="2020-01-01")


def test_line_is_extended_by_its_growth():
    line = line_of(range(2017, 2028))
    assert line[2021] == 6000
    assert line[2016 + 1] < line[2018]
    assert line[2027] > line[2026] > line[2025]


def test_income_of_the_state_is_what_the_account_counts():
    state, rng = _begin(200, pd.Timestamp("2019-01-01"), 0)
    for month in range(1, 20):
        _live_month(state, rng, None, warm=month <= MONTHS)
    account = _account(state)
    size = state.sum_by_household((state.persons["status"] == PRESENT).astype(int))
    by_hand = sum(
        state.rolling[name].sum(axis=0) for name in ("wage", "business", "property", "transfer")
    )
    by_hand = by_hand - state.rolling["business_cost"].sum(axis=0)
    there = size > 0
    np.testing.assert_allclose(account.ratio[there], (by_hand / size / account.line)[there])
