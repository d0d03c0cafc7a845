"""A feature knows only what the office knew: whatever is known later changes nothing, to the bit."""

import functools

import numpy as np
import pandas as pd
import pytest

from drawing import AS_OF, LINE, draw_frames
from poverty_risk import (
    FeatureSpec,
    HistoryTables,
    build_features,
    label_returns,
    load_schema,
)

CATALOGS = ("archive", "eph")
DATE = pd.Timestamp(AS_OF[1])


@functools.cache
def _history(name: str, rows: int = 16, households: int = 12) -> HistoryTables:
    schema = load_schema(name)
    return HistoryTables.from_frames(draw_frames(schema, 11, households, rows), schema, LINE)


def _frames(tables: HistoryTables) -> dict[str, pd.DataFrame]:
    return {name: tables[name] for name in tables.names}


def _rebuilt(name: str, frames: dict[str, pd.DataFrame]) -> HistoryTables:
    return HistoryTables.from_frames(frames, load_schema(name), LINE)


def _points(households, dates=(DATE,)) -> pd.DataFrame:
    return pd.DataFrame(
        index=pd.MultiIndex.from_product(
            [list(households), list(dates)], names=["household_id", "as_of_date"]
        )
    )


BUILDS = {name: functools.partial(build_features, engine=name) for name in ("arrays", "sql")}


@pytest.fixture(params=BUILDS)
def build(request):
    return BUILDS[request.param]


@functools.cache
def _expected(name: str, build) -> pd.DataFrame:
    return build(_history(name), _points(_history(name).households), name)


def _assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal to the bit."""
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_expected_features_are_not_empty(build):
    for name in CATALOGS:
        assert _expected(name, build).notna().mean().mean() > 0.6


@pytest.mark.parametrize("name", CATALOGS)
def test_records_known_later_change_nothing(name, build):
    """Every record is repeated with other values, known on the as-of date or later."""
    tables = _history(name)
    later = draw_frames(load_schema(name), seed=99)
    frames = _frames(tables)
    for table, frame in frames.items():
        news = later[table].convert_dtypes()
        known = pd.to_datetime(news["known_date"])
        event = pd.to_datetime(news["event_date"])
        # From the very as-of date on, and never before the event itself.
        news["known_date"] = known.where(known >= DATE, DATE).where(event <= DATE, event)
        keys = [c for c in ("bill_id", "loan_id") if c in news]
        for key in keys:
            news[key] = news[key] + "-new"
        frames[table] = pd.concat([frame.astype(object), news.astype(object)])
    rebuilt = _rebuilt(name, frames)
    assert sum(len(rebuilt[t]) for t in rebuilt.names) > sum(len(tables[t]) for t in tables.names)
    _assert_same(build(rebuilt, _points(tables.households), name), _expected(name, build))


@pytest.mark.parametrize("name", CATALOGS)
def test_dropping_what_was_known_later_changes_nothing(name, build):
    tables = _history(name)
    found = build(tables.known_before(DATE), _points(tables.households), name)
    _assert_same(found, _expected(name, build))


@pytest.mark.parametrize("name", CATALOGS)
def test_order_of_rows_changes_nothing(name, build):
    tables = _history(name)
    shuffled = {t: f.sample(frac=1.0, random_state=5) for t, f in _frames(tables).items()}
    _assert_same(
        build(_rebuilt(name, shuffled), _points(tables.households), name), _expected(name, build)
    )


@pytest.mark.parametrize("name", CATALOGS)
def test_one_household_alone_and_in_slices(name, build):
    tables = _history(name)
    household = tables.households[3]
    alone = tables.select_households([household])
    expected = _expected(name, build)
    _assert_same(build(alone, _points([household]), name), expected.loc[[(household, DATE)]])
    parts = [
        build(part, _points(part.households), name)
        for part in (tables.slice_households(0, 5), tables.slice_households(5, 12))
    ]
    _assert_same(pd.concat(parts), expected)


@pytest.mark.parametrize("name", CATALOGS)
def test_other_households_change_nothing(name, build):
    tables = _history(name)
    frames = _frames(tables)
    more = draw_frames(load_schema(name), seed=7)
    for table, frame in more.items():
        renamed = frame.copy()
        for column in ("household_id", "person_id", "bill_id", "loan_id"):
            if column in renamed:
                renamed[column] = "X" + renamed[column].astype(str)
        if load_schema(name).tables[table].entity != "village":
            frames[table] = pd.concat([frames[table].astype(object), renamed.astype(object)])
    found = build(_rebuilt(name, frames), _points(tables.households), name)
    _assert_same(found, _expected(name, build))


@pytest.mark.parametrize("name", CATALOGS)
def test_several_dates_at_once_equal_one_by_one(name, build):
    tables = _history(name)
    dates = pd.to_datetime(AS_OF)
    together = build(tables, _points(tables.households, dates), name)
    for date in dates:
        alone = build(tables, _points(tables.households, [date]), name)
        _assert_same(together.xs(date, level="as_of_date", drop_level=False), alone)


@pytest.mark.parametrize("name", CATALOGS)
def test_order_of_points_and_threads_change_nothing(name, build):
    tables = _history(name)
    points = _points(tables.households).sample(frac=1.0, random_state=1)
    found = build(tables, points, name, threads=1)
    _assert_same(found, _expected(name, build).loc[points.index])


def _one_record(event: str, known: str) -> HistoryTables:
    frame = pd.DataFrame(
        {"household_id": ["a"], "event_date": [event], "known_date": [known], "kind": ["flood"]}
    )
    return HistoryTables.from_frames({"shock": frame}, load_schema("archive"))


@pytest.mark.parametrize(
    ("event", "known", "counted"),
    [
        ("2022-06-30", "2022-06-30", True),  # known the day before
        ("2022-06-30", "2022-07-01", False),  # known on the as-of date
        ("2022-07-01", "2022-07-01", False),  # happens on the as-of date
        ("2022-06-01", "2022-06-01", True),  # first day of the window
        ("2022-05-31", "2022-05-31", False),  # the day before it
    ],
)
def test_edges_of_a_window(event, known, counted, build):
    flood = FeatureSpec(
        stem="flood", table="shock", aggregator="count", lookback="30d", theme="shock"
    )
    features = build(_one_record(event, known), _points(["a"]), [flood])
    assert features["flood_count_30d"].item() == float(counted)


@pytest.mark.parametrize(
    ("event", "counted"), [("2022-06-01", False), ("2022-05-31", True), ("2022-05-02", True)]
)
def test_edges_of_a_lagged_window(event, counted, build):
    flood = FeatureSpec(
        stem="flood", table="shock", aggregator="count", lookback="30d", lag="30d", theme="shock"
    )
    features = build(_one_record(event, event), _points(["a"]), [flood])
    assert features["flood_count_30d_lag30d"].item() == float(counted)


def test_a_correction_counts_from_the_day_after_it_was_known(build):
    frame = pd.DataFrame(
        {
            "household_id": ["a", "a"],
            "event_date": ["2022-06-01", "2022-06-01"],
            "known_date": ["2022-06-05", "2022-06-30"],
            "kind": ["flood", "flood"],
            "loss": [100.0, 900.0],
        }
    )
    tables = HistoryTables.from_frames({"shock": frame}, load_schema("archive"))
    loss = FeatureSpec(
        stem="loss", table="shock", value="loss", aggregator="sum", lookback="ever", theme="shock"
    )
    dates = pd.to_datetime(["2022-06-05", "2022-06-06", "2022-06-30", "2022-07-01"])
    found = build(tables, _points(["a"], dates), [loss])["loss_sum_ever"]
    assert found.tolist() == [0.0, 100.0, 100.0, 900.0]


@pytest.mark.parametrize("label", ["identified", "below_line", "guarantee_failed", "any"])
def test_labels_depend_on_the_horizon_alone(label):
    """Outcomes outside [as_of, as_of + horizon) may be dropped or invented."""
    tables = _history("archive", rows=5, households=400)
    points = _points(tables.households)
    expected = label_returns(tables, points, "6mo", label)
    end = DATE + pd.DateOffset(months=6)
    frames = _frames(tables)
    for table in ("monitoring", "income", "check", "schooling"):
        event = frames[table]["event_date"]
        frames[table] = frames[table][(event >= DATE) & (event < end)]
    # Whether a household had left before the as-of date decides whether it was followed.
    frames["household"] = frames["household"][frames["household"]["event_date"] < end]
    schema = load_schema("archive")
    cut = HistoryTables.from_frames(frames, schema, LINE, observed_to=tables.observed_to)
    found = label_returns(cut, points, "6mo", label)
    pd.testing.assert_series_equal(found, expected)
    assert expected.nunique() == 2
    assert np.isin(expected.dropna(), (0.0, 1.0)).all()
