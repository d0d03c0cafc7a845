"""Windows are half-open: every edge by hand, alike in pandas and in the database."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from poverty_risk import FeatureSpec, HistoryTables, build_features, load_schema
from poverty_risk.exceptions import DeclarationError
from poverty_risk.windows import (
    Horizon,
    Lookback,
    contains_outcome,
    is_active,
    is_known,
    label_known_by,
    parse_as_of_dates,
    parse_days,
)

AS_OF = pd.Timestamp("2024-03-01")


def _dates(*days) -> pd.Series:
    return pd.Series(pd.to_datetime(list(days)))


def _as_of(days) -> pd.Series:
    return pd.Series([AS_OF] * len(days))


# --- known ---


def test_known_means_strictly_before_the_as_of_date():
    known = _dates("2024-02-29", "2024-03-01", "2024-03-02")
    never = _dates(None, None, None)
    assert is_known(known, never, _as_of(known)).tolist() == [True, False, False]


def test_a_corrected_record_counts_until_its_correction_is_known():
    """A correction of 1 March is not known on 1 March, so the record of before still counts then."""
    superseded = _dates("2024-02-29", "2024-03-01", "2024-03-02", None)
    known = _dates(*["2024-01-01"] * 4)
    found = is_known(known, superseded, _as_of(known))
    assert found.tolist() == [False, True, True, True]


def test_on_no_day_are_a_record_and_its_correction_both_known_or_both_unknown():
    days = pd.Series(pd.date_range("2024-01-01", periods=60))
    first, second = pd.Timestamp("2024-01-10"), pd.Timestamp("2024-02-05")
    never = pd.Series(pd.NaT, index=days.index)
    before = is_known(pd.Series([first] * 60), pd.Series([second] * 60), days)
    after = is_known(pd.Series([second] * 60), never, days)
    assert not (before & after).any()
    assert ((before | after) == (days > first)).all()


def test_a_state_lasts_on_its_last_day():
    ends = _dates("2024-02-29", "2024-03-01", None)
    assert is_active(ends, _as_of(ends)).tolist() == [False, True, True]


# --- lookback and horizon ---


@pytest.mark.parametrize(
    ("lookback", "lag", "inside"),
    [
        # [as_of - lookback, as_of): 1 March itself is outside; 10 days before is 20 February.
        ("10d", 0, {"2024-02-20", "2024-02-29"}),
        ("ever", 0, {"2014-01-01", "2024-02-18", "2024-02-19", "2024-02-20", "2024-02-29"}),
        # Without the last ten days: up to 19 February, and from ten days before that.
        ("10d", "10d", {"2024-02-18", "2024-02-19"}),
        ("ever", "10d", {"2014-01-01", "2024-02-18", "2024-02-19"}),
        ("1d", 0, {"2024-02-29"}),
    ],
)
def test_lookback_is_half_open(lookback, lag, inside):
    days = ["2014-01-01", "2024-02-18", "2024-02-19", "2024-02-20", "2024-02-29"]
    days += ["2024-03-01", "2024-03-02"]
    window = Lookback.parse(lookback, lag)
    found = window.contains(_dates(*days), _as_of(days), lambda n: pd.Timedelta(days=n))
    assert {day for day, hit in zip(days, found, strict=True) if hit} == inside


def test_outcomes_of_the_horizon_are_half_open():
    days = _dates("2024-02-29", "2024-03-01", "2024-08-31", "2024-09-01")
    end = Horizon.parse("6mo").end(pd.DatetimeIndex(_as_of(days)))
    found = contains_outcome(days, _as_of(days), pd.Series(end))
    assert found.tolist() == [False, True, True, False]


def test_no_record_is_on_both_sides_of_an_as_of_date():
    days = pd.Series(pd.date_range("2023-01-01", "2025-06-01"))
    as_of = pd.Series([AS_OF] * len(days))
    past = Lookback.parse("ever").contains(days, as_of, lambda n: pd.Timedelta(days=n))
    end = pd.Series([Horizon.parse("12mo").end(pd.DatetimeIndex([AS_OF]))[0]] * len(days))
    future = contains_outcome(days, as_of, end)
    assert not (past & future).any()
    # 1 March 2024 to 28 February 2025.
    assert (past | future).sum() == (pd.Timestamp("2025-03-01") - days[0]).days


@pytest.mark.parametrize(
    ("horizon", "as_of", "end"),
    [
        ("1mo", "2023-01-31", "2023-02-28"),
        ("1mo", "2024-01-31", "2024-02-29"),
        ("1mo", "2023-02-28", "2023-03-28"),
        ("2mo", "2023-12-31", "2024-02-29"),
        ("12mo", "2024-02-29", "2025-02-28"),
        ("12mo", "2023-07-01", "2024-07-01"),
        ("3mo", "2023-11-30", "2024-02-29"),
        ("30d", "2024-01-31", "2024-03-01"),
        ("365d", "2024-02-29", "2025-02-28"),
    ],
)
def test_horizons_in_calendar_months_end_within_the_month(horizon, as_of, end):
    found = Horizon.parse(horizon).end(pd.DatetimeIndex([as_of, "2023-07-01"]))
    assert found[0] == pd.Timestamp(end)
    assert len(found) == 2


def test_a_label_is_complete_after_horizon_and_reporting_lag():
    found = label_known_by(pd.DatetimeIndex(["2023-01-31"]), Horizon.parse("1mo"), 60)
    # 28 February and 60 days: 31 of March, 29 of April.
    assert found.tolist() == [pd.Timestamp("2023-04-29")]


def test_the_database_reads_the_same_rules():
    """The edges above, through `build_features`: one record per household, counted or not."""
    events = {
        "before": ("2024-02-19", "2024-02-29"),
        "first": ("2024-02-20", "2024-02-29"),
        "last": ("2024-02-29", "2024-02-29"),
        "same_day": ("2024-03-01", "2024-03-01"),
        "late": ("2024-02-29", "2024-03-01"),
    }
    shock = pd.DataFrame(
        [(name, *days) for name, days in events.items()],
        columns=["household_id", "event_date", "known_date"],
    ).assign(kind="flood", loss=1)
    tables = HistoryTables.from_frames({"shock": shock}, load_schema("archive"))
    points = pd.DataFrame(
        index=pd.MultiIndex.from_product(
            [list(events), [AS_OF]], names=["household_id", "as_of_date"]
        )
    )
    specs = [
        FeatureSpec(stem="s", table="shock", aggregator="count", theme="t", **window)
        for window in ({"lookback": "10d"}, {"lookback": "10d", "lag": "10d"}, {"lag": "1d"}, {})
    ]
    found = build_features(tables, points, specs).astype(int)
    assert found.to_dict("list") == {
        "s_count_10d": [0, 1, 1, 0, 0],
        "s_count_10d_lag10d": [1, 0, 0, 0, 0],
        "s_count_ever_lag1d": [1, 1, 0, 0, 0],
        "s_count_ever": [1, 1, 1, 0, 0],
    }


def test_predicates_work_on_ibis_columns():
    table = ibis.table({"a": "date", "b": "date", "c": "date"}, name="t")
    for predicate in (
        is_known(table.a, table.b, table.c),
        is_active(table.a, table.b),
        contains_outcome(table.a, table.b, table.c),
        Lookback(10, 5).contains(table.a, table.b, lambda days: ibis.interval(days=days)),
    ):
        assert predicate.type().is_boolean()


# --- reading lengths and dates ---


@pytest.mark.parametrize(("text", "days"), [("90d", 90), (" 0d ", 0), (7, 7), (0, 0)])
def test_lengths_in_days(text, days):
    assert parse_days(text) == days


@pytest.mark.parametrize("text", ["90", "90 d", "3mo", "-1d", "1.5d", "d", "", -1, True, 1.5, None])
def test_what_is_no_length_in_days(text):
    with pytest.raises(DeclarationError, match="length of time: found .*; expected days such as"):
        parse_days(text)


def test_lookbacks_and_horizons_read_and_written():
    assert Lookback.parse("ever") == Lookback(None, 0)
    assert Lookback.parse("365d", "90d") == Lookback(365, 90)
    assert (str(Lookback(None, 5)), str(Lookback(30))) == ("ever", "30d")
    assert str(Horizon.parse(" 12mo ")) == "12mo"
    assert Horizon.parse(Horizon(90, "d")) == Horizon(90, "d")
    with pytest.raises(DeclarationError, match="length of time: found 'always'"):
        Lookback.parse("always")


@pytest.mark.parametrize("text", ["12", "0mo", "0d", "-1mo", "1y", "12 months", "", None, 12])
def test_what_is_no_horizon(text):
    with pytest.raises(DeclarationError, match="horizon: found .*Write number and unit"):
        Horizon.parse(text)


@pytest.mark.parametrize(
    "dates",
    [
        "2024-03-01",
        AS_OF,
        dt.date(2024, 3, 1),
        np.datetime64("2024-03-01"),
        ["2024-03-01", AS_OF],
        pd.Series(["2024-03-01"]),
        pd.DatetimeIndex(["2024-03-01"]),
        ("2024-03-01T00:00:00",),
    ],
)
def test_as_of_dates_in_many_ways(dates):
    assert parse_as_of_dates(dates).tolist() == [AS_OF]


def test_as_of_dates_are_sorted_without_repeats():
    found = parse_as_of_dates(["2024-03-01", "2023-03-01", "2024-03-01"])
    assert found.tolist() == [pd.Timestamp("2023-03-01"), AS_OF]
    assert found.unit == "us"
    assert len(parse_as_of_dates([])) == 0


@pytest.mark.parametrize(
    ("dates", "match"),
    [
        ("2024-13-01", r"found \['2024-13-01'\]; expected dates such as"),
        ("soon", r"found \['soon'\]; expected dates such as"),
        (["2024-03-01", "01/03/2024"], "expected dates such as"),
        ("2024-03-01 08:00", "a time of day or a time zone; expected whole days"),
        (AS_OF.tz_localize("Asia/Shanghai"), "a time zone; expected whole days"),
        (None, "a missing date"),
        (["2024-03-01", pd.NaT], "a missing date"),
    ],
)
def test_what_is_no_as_of_date(dates, match):
    with pytest.raises(DeclarationError, match=match):
        parse_as_of_dates(dates)
