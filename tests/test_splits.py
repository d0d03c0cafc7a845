"""Splits: what is learned from was complete before the first test date, whatever the order of rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from poverty_risk import splits
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.model import RiskModel
from poverty_risk.splits import TemporalSplit, later_holdout, split_periods

YEARS = ["2018-01-01", "2019-01-01", "2020-01-01", "2021-01-01"]


def make_index(dates, households: int = 2, seed: int | None = None) -> pd.MultiIndex:
    index = pd.MultiIndex.from_product(
        [[f"h{number}" for number in range(households)], pd.to_datetime(dates)],
        names=["household_id", "as_of_date"],
    )
    return index if seed is None else index[np.random.default_rng(seed).permutation(len(index))]


def list_folds(split: TemporalSplit, index: pd.MultiIndex) -> list[tuple[list[str], list[str]]]:
    """As-of dates of train and test, fold by fold."""
    dates = index.get_level_values("as_of_date").strftime("%Y-%m-%d")
    return [(sorted(set(dates[a])), sorted(set(dates[b]))) for a, b in split.split(index)]


def complete_on(date: pd.Timestamp, horizon: str, lag: int) -> pd.Timestamp:
    """Written anew: the day from which a label of that date is known."""
    length = int(horizon.rstrip("dmo"))
    step = pd.DateOffset(months=length) if horizon.endswith("mo") else pd.DateOffset(days=length)
    return date + step + pd.DateOffset(days=lag)


@pytest.mark.parametrize(
    ("lag", "train"),
    [("0d", YEARS[:2]), ("1d", YEARS[:1]), ("365d", YEARS[:1]), (0, YEARS[:2]), (366, [])],
)
def test_embargo_is_the_horizon_and_the_reporting_lag(lag, train):
    """Tested on 2020-01-01: a label of 2019-01-01 is complete that day, with a lag one day late."""
    split = TemporalSplit("12mo", lag, test_dates=["2020-01-01"])
    if not train:
        with pytest.raises(FeatureError, match="0 as-of dates at least 12mo and 366 before"):
            list(split.split(make_index(YEARS)))
        return
    assert list_folds(split, make_index(YEARS)) == [(train, ["2020-01-01"])]


@pytest.mark.parametrize("seed", range(6))
def test_folds_are_all_that_is_complete_and_nothing_else(seed):
    """By brute force over drawn dates, horizons, lags and orders of rows."""
    rng = np.random.default_rng(seed)
    horizon = str(rng.choice(["90d", "6mo", "12mo"]))
    lag = int(rng.choice([0, 30, 60, 120]))
    days = pd.Timestamp("2015-01-31") + pd.to_timedelta(rng.integers(0, 2500, 14), "D")
    index = make_index(days.unique(), 3, seed)
    index = index[rng.random(len(index)) < 0.8]
    dates = index.get_level_values("as_of_date")
    folds = list(TemporalSplit(horizon, f"{lag}d", n_splits=3).split(index))
    assert len(folds) == 3
    assert [dates[test].min() for _, test in folds] == sorted(dates.unique())[-3:]
    for train, test in folds:
        first = dates[test].min()
        expected = [n for n, d in enumerate(dates) if complete_on(d, horizon, lag) <= first]
        assert train.tolist() == expected
        assert test.tolist() == np.flatnonzero(dates == first).tolist()
        assert len(np.intersect1d(train, test)) == 0


def test_order_of_rows_changes_no_fold():
    split = TemporalSplit("12mo", "60d", n_splits=2)
    for seed in (None, 1, 2):
        index = make_index(YEARS, 3, seed)
        assert list_folds(split, index) == [(YEARS[:1], YEARS[2:3]), (YEARS[:2], YEARS[3:])]


def test_frames_series_and_indexes_are_split_alike():
    index = make_index(YEARS, seed=0)
    expected = [(a.tolist(), b.tolist()) for a, b in TemporalSplit().split(index)]
    for points in (pd.Series(1.0, index=index), pd.DataFrame({"x": 1.0}, index=index)):
        assert [(a.tolist(), b.tolist()) for a, b in TemporalSplit().split(points)] == expected


def test_a_group_of_test_dates_is_one_fold_behind_its_first():
    split = TemporalSplit("12mo", test_dates=[["2021-01-01", "2020-01-01"], "2019-01-01"])
    assert list_folds(split, make_index(YEARS)) == [
        (YEARS[:1], ["2019-01-01"]),
        (YEARS[:2], ["2020-01-01", "2021-01-01"]),
    ]


def test_number_of_folds():
    assert TemporalSplit(n_splits=4).get_n_splits() == 4
    index = make_index(YEARS)
    assert TemporalSplit(n_splits=2).get_n_splits(index, None, None) == 2
    grouped = TemporalSplit(n_splits=9, test_dates=[["2020-01-01", "2021-01-01"], "2019-01-01"])
    assert grouped.get_n_splits(index) == len(list(grouped.split(index))) == 2


def test_min_train_dates_moves_the_first_fold():
    assert list_folds(TemporalSplit(n_splits=1, min_train_dates=3), make_index(YEARS)) == [
        (YEARS[:3], YEARS[3:])
    ]
    with pytest.raises(FeatureError, match="found 1 of 4 as-of dates with 3 or more dates"):
        list(TemporalSplit(n_splits=2, min_train_dates=3).split(make_index(YEARS)))


def test_a_horizon_of_months_ends_with_the_month():
    """Six months from 31 August and from 29 August both end on 28 February."""
    dates = ["2020-08-29", "2020-08-31", "2020-09-01", "2021-02-28"]
    split = TemporalSplit("6mo", test_dates=["2021-02-28"])
    assert list_folds(split, make_index(dates)) == [(dates[:2], dates[3:])]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_splits": 4}, "split in time: found 3 of 4 as-of dates.*; expected 4 such test dates"),
        ({"horizon": "48mo"}, "found 0 of 4 as-of dates with 1 or more dates at least 48mo"),
        ({"test_dates": ["2022-01-01"]}, "fold tested on 2022-01-01: found no point on 2022"),
        ({"test_dates": ["2018-01-01"]}, "fold tested on 2018-01-01: found 0 as-of dates"),
        (
            {"test_dates": [["2018-01-01", "2017-01-01"]]},
            "(?s)2 problems.*no point on 2017-01-01.*0 as-of dates",
        ),
    ],
)
def test_periods_that_are_too_short_are_said(settings, message):
    with pytest.raises(FeatureError, match=message):
        list(TemporalSplit(**{"n_splits": 1, **settings}).split(make_index(YEARS)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_splits": 0}, "n_splits: found 0; expected 1 or more"),
        ({"min_train_dates": 0}, "min_train_dates: found 0; expected 1 or more"),
        ({"test_dates": []}, r"test_dates: found \[\]; expected a list of dates"),
        ({"test_dates": "2021-01-01"}, "test_dates: found '2021-01-01'; expected a list of dates"),
        ({"n_splits": 0, "min_train_dates": -1}, "(?s)2 problems.*min_train_dates.*n_splits"),
        ({"horizon": "1y"}, "horizon: found '1y'"),
        ({"reporting_lag": "2mo"}, "length of time: found '2mo'"),
        ({"test_dates": ["soon"]}, "as_of_date: found"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(DeclarationError, match=message):
        list(TemporalSplit(**settings).split(make_index(YEARS)))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((4, 2)), "points: found ndarray; expected a level as_of_date"),
        (pd.DataFrame({"x": [1, 2]}), r"points: found index \[None\]"),
        (make_index([*YEARS, None]), "points: found a missing as_of_date"),
    ],
)
def test_points_without_dates_are_refused(points, message):
    with pytest.raises(FeatureError, match=message):
        list(TemporalSplit().split(points))


def test_the_invariant_is_asserted_not_assumed(monkeypatch):
    """A split that forgets horizon and lag when it picks rows is found out by its own check."""
    honest, calls = splits.label_known_by, []

    def forgetful(dates, horizon, lag):
        calls.append(lag)
        return dates if len(calls) == 1 else honest(dates, horizon, lag)

    monkeypatch.setattr(splits, "label_known_by", forgetful)
    with pytest.raises(DeclarationError, match="embargo between train and test: found labels of"):
        list(TemporalSplit(n_splits=1).split(make_index(YEARS)))


def draw(seed: int = 0):
    """Features without missing values, labels, rows in no order."""
    rng = np.random.default_rng(seed)
    index = make_index(YEARS, 150, seed)
    features = pd.DataFrame(rng.normal(size=(len(index), 3)), index, ["a", "b", "c"])
    margin = features["a"] - features["b"] - 0.5
    return features, pd.Series((rng.random(len(index)) < 1 / (1 + np.exp(-margin))) * 1.0, index)


def test_cross_validation_by_scikit_learn_equals_a_loop():
    features, labels = draw()
    split = TemporalSplit("12mo", "60d", n_splits=2)
    found = cross_val_score(LogisticRegression(), features, labels, cv=split, scoring="roc_auc")
    year = features.index.get_level_values("as_of_date").year
    expected = []
    for test, last in ((2020, 2018), (2021, 2019)):
        fitted = LogisticRegression().fit(features[year <= last], labels[year <= last])
        risk = fitted.predict_proba(features[year == test])[:, 1]
        expected.append(roc_auc_score(labels[year == test], risk))
    assert found.tolist() == expected
    assert min(expected) > 0.7


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (LogisticRegression(), {"C": [1e-6, 1.0]}),
        (
            RiskModel(calibration=None, early_stopping_rounds=None, n_jobs=1),
            {"n_estimators": [1, 20]},
        ),
    ],
    ids=["logistic", "model"],
)
def test_grid_search_by_scikit_learn(estimator, grid):
    features, labels = draw()
    search = GridSearchCV(
        estimator, grid, cv=TemporalSplit("12mo", n_splits=2), scoring="neg_log_loss"
    )
    search.fit(features, labels)
    assert search.n_splits_ == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    ((name, values),) = grid.items()
    assert search.best_params_ == {name: values[1]}
    assert search.predict_proba(features).shape == (600, 2)


def test_periods_by_hand():
    index = make_index(["2019-01-01", *YEARS[2:], "2022-01-01"], 1)
    train, test = split_periods(
        index,
        "2020-06-30",
        "2021-01-01",
        horizon="12mo",
        train_from="2019-06-01",
        test_to="2021-12-31",
    )
    assert train.tolist() == [False, True, False, False]
    assert test.tolist() == [False, False, True, False]


@pytest.mark.parametrize(("lag", "fits"), [("0d", True), ("1d", False)])
def test_periods_keep_the_embargo(lag, fits):
    """The dates that are there count: 2020-01-01 plus 12 months is 2021-01-01."""
    settings = {"train_to": "2020-12-31", "test_from": "2020-12-31", "horizon": "12mo"}
    if fits:
        train, test = split_periods(make_index(YEARS, 1), reporting_lag=lag, **settings)
        assert (train.sum(), test.sum()) == (3, 1)
        return
    with pytest.raises(DeclarationError, match="complete on 2021-01-02, test from 2021-01-01"):
        split_periods(make_index(YEARS, 1), reporting_lag=lag, **settings)


def test_overlapping_periods_are_refused():
    with pytest.raises(DeclarationError, match="embargo between train and test"):
        split_periods(make_index(YEARS), "2021-01-01", "2019-01-01", horizon="30d")


def test_empty_periods_are_named_together():
    with pytest.raises(FeatureError, match="(?s)2 problems.*train period.*test period"):
        split_periods(make_index(YEARS), "2017-01-01", "2025-01-01", horizon="12mo")


@pytest.mark.parametrize(
    ("share", "lag", "boosted", "kept"),
    [
        (0.25, 0, YEARS[:3], YEARS[3:]),
        (0.25, 1, YEARS[:2], YEARS[3:]),  # the label of 2020 is complete a day too late
        (0.5, 0, YEARS[:2], YEARS[2:]),
        (0.9, 0, YEARS[:1], YEARS[1:]),  # as much as leaves a date to boost on
        (0.01, 0, YEARS[:3], YEARS[3:]),  # dates are never cut in two
    ],
)
@pytest.mark.parametrize("seed", [None, 3])
def test_later_dates_are_held_back_behind_the_embargo(share, lag, boosted, kept, seed):
    dates = make_index(YEARS, 5, seed).get_level_values("as_of_date")
    boost, later = later_holdout(dates, share, horizon="12mo", reporting_lag_days=lag)
    assert sorted(set(dates[boost].strftime("%Y-%m-%d"))) == boosted
    assert sorted(set(dates[later].strftime("%Y-%m-%d"))) == kept
    assert (boost.sum(), later.sum()) == (5 * len(boosted), 5 * len(kept))


def test_without_embargo_later_is_only_later():
    dates = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-02", "2020-01-03"])
    boost, later = later_holdout(dates, 0.75)
    assert boost.tolist() == [True, False, False, False]
    assert later.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("dates", "horizon", "message"),
    [
        (["2020-01-01"], None, "found 1 as-of dates from 2020-01-01 to 2020-01-01"),
        (["2020-01-01", "2020-12-31"], "12mo", "expected .*12mo and 0 days apart"),
        ([], "12mo", "found no rows"),
    ],
)
def test_too_few_dates_to_hold_back(dates, horizon, message):
    with pytest.raises(FeatureError, match=message):
        later_holdout(pd.DatetimeIndex(dates), 0.25, horizon=horizon)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_share_held_back_is_a_share(share):
    with pytest.raises(DeclarationError, match="later_share: found"):
        later_holdout(pd.to_datetime(YEARS), share)
