"""Features over arrays equal those of the queries, their plain twin."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from drawing import AS_OF, LINE, draw_frames
from poverty_risk import (
    Catalog,
    FeatureSpec,
    HistoryTables,
    build_features,
    load_catalog,
    load_schema,
    point_chunks,
    record_arrays,
)
from poverty_risk.exceptions import DeclarationError
from poverty_risk.features import build_known_dates
from poverty_risk.features.spec import AGGREGATORS
from poverty_risk.record_kernels import HOWS

CATALOGS = ("archive", "eph")


@functools.cache
def _history(name: str, seed: int = 3, households: int = 40) -> HistoryTables:
    schema = load_schema(name)
    return HistoryTables.from_frames(draw_frames(schema, seed, households), schema, LINE)


def _points(tables: HistoryTables, dates=AS_OF, more=()) -> pd.DataFrame:
    households = [*tables.households, *more]
    names = ["household_id", "as_of_date"]
    index = pd.MultiIndex.from_product([households, pd.to_datetime(list(dates))], names=names)
    return pd.DataFrame(index=index).sample(frac=1.0, random_state=4)


def _assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal to the bit, but for slopes: see `record_kernels`."""
    slopes = [name for name in expected if "_slope_" in name]
    others = expected.columns.difference(slopes)
    pd.testing.assert_frame_equal(found[others], expected[others], check_exact=True)
    pd.testing.assert_frame_equal(found[slopes], expected[slopes], rtol=1e-9)


@pytest.mark.parametrize("name", CATALOGS)
@pytest.mark.parametrize("seed", range(3))
def test_arrays_equal_the_queries(name, seed):
    tables = _history(name, seed)
    points = _points(tables, [*AS_OF, "2019-06-30"], more=["nobody"])
    found, expected = (build_features(tables, points, name, engine=e) for e in ("arrays", "sql"))
    _assert_equal(found, expected)
    assert expected.nunique().ge(2).mean() > 0.9


@pytest.mark.parametrize("name", CATALOGS)
def test_known_dates_equal_those_of_the_queries(name):
    tables, catalog = _history(name), load_catalog(name)
    points = _points(tables, more=["nobody"])
    found, expected = (
        build_known_dates(tables, points, catalog, engine=e) for e in ("arrays", "sql")
    )
    pd.testing.assert_frame_equal(found, expected)
    assert expected.notna().any().mean() > 0.9


def _spec(aggregator: str, **more) -> FeatureSpec:
    without = aggregator in ("count", "exists", "days_since_last")
    entry = {"table": "income", "value": None if without else "wage / members"} | more
    stem = f"tried_{abs(hash(str(sorted(more.items())))) % 10**8}"
    return FeatureSpec(stem=stem, aggregator=aggregator, theme="income", **entry)


def test_every_aggregator_in_several_windows():
    tables = _history("archive")
    specs = [
        _spec(aggregator, lookback=lookback, lag=lag, where="not (wage > 20000)")
        for aggregator in AGGREGATORS
        for lookback, lag in (("365d", "0d"), ("730d", "120d"), ("ever", "0d"), ("ever", "92d"))
    ]
    assert set(AGGREGATORS) == set(HOWS)
    points = _points(tables)
    found, expected = (build_features(tables, points, specs, engine=e) for e in ("arrays", "sql"))
    _assert_equal(found, expected)
    assert expected.nunique().min() >= 2


UNUSUAL = [
    _spec("nunique", value="members", lookback="ever"),
    _spec("nunique", value="wage", lookback="ever", latest_per=("window",)),
    _spec("nunique", value="wage > 9000", lookback="ever"),
    _spec("nunique", value="window", lookback="ever"),
    _spec("nunique", value="period_start", lookback="ever"),
    _spec("count", lookback="ever", latest_per=("window", "members")),
    _spec("count", lookback="ever", latest_per=("period_start", "household_id")),
    _spec("sum", value="1", lookback="800d"),
    _spec("sum", value="days_since(period_end)", lookback="800d"),
    _spec("mean", value="where(active(period_end), wage, as_of_year)", lookback="800d"),
    _spec("share", value="wage > business", lookback="ever"),
    _spec("last", value="wage > business", lookback="ever", kind="flag"),
    _spec("first", value="window", lookback="ever", kind="category"),
    _spec("last", value="window", lookback="800d", where="members > 3", kind="category"),
    _spec("count", table="village", value=None, lookback="ever", where="clinic and not paved_road"),
    _spec("slope", table="village", value="environment_score", lookback="ever"),
    _spec("count", table="work", lookback="ever", where="worked or public_post"),
]


def test_unusual_entries():
    tables = _history("archive")
    points = _points(tables, more=["nobody"])
    found, expected = (build_features(tables, points, UNUSUAL, engine=e) for e in ("arrays", "sql"))
    _assert_equal(found, expected)
    assert expected.nunique().ge(2).mean() > 0.8


def test_many_distinct_values_are_counted():
    days = pd.date_range("2020-01-01", periods=200)
    rng = np.random.default_rng(0)
    losses = rng.integers(0, 90, 200).astype(float)
    frame = pd.DataFrame(
        {
            "household_id": "a",
            "event_date": days,
            "known_date": days,
            "kind": "flood",
            "loss": losses,
        }
    )
    tables = HistoryTables.from_frames({"shock": frame}, load_schema("archive"))
    spec = _spec("nunique", table="shock", value="loss", lookback="ever")
    assert build_features(tables, _points(tables), [spec]).iloc[0, 0] == len(set(losses))


def test_ranges_and_threads_change_nothing(monkeypatch):
    tables = _history("archive")
    points = _points(tables, more=["nobody"])
    whole = build_features(tables, points, "archive", threads=1)
    monkeypatch.setattr(point_chunks, "CHUNK_HOUSEHOLDS", 7)
    pd.testing.assert_frame_equal(build_features(tables, points, "archive", threads=3), whole)
    few = points.iloc[:5]
    pd.testing.assert_frame_equal(build_features(tables, few, "archive"), whole.loc[few.index])


@pytest.mark.parametrize("schema", ["archive", "eph"])
def test_windows_that_hold_few_records_are_computed_for_these_alone(schema, monkeypatch):
    tables, catalog = _history(schema), load_catalog(schema)
    points = _points(tables, more=["nobody"])
    last = points.index.get_level_values("as_of_date").max()
    points = points.iloc[points.index.get_level_values("as_of_date") == last]
    whole = build_features(tables, points, catalog)
    near = []
    found = record_arrays._find_near
    monkeypatch.setattr(record_arrays, "MANY_RECORDS", 0)
    monkeypatch.setattr(
        record_arrays, "_find_near", lambda *asked: near.append(found(*asked)) or near[-1]
    )
    pd.testing.assert_frame_equal(build_features(tables, points, catalog), whole, check_exact=True)
    assert any(near), "no window held few records: the test shows nothing"


def test_eight_threads_at_once():
    tables = _history("archive")
    points = _points(tables)
    whole = build_features(tables, points, "archive")

    def ask(household: str) -> pd.DataFrame:
        mine = points[points.index.get_level_values("household_id") == household]
        return build_features(tables, mine, "archive", threads=1)

    with ThreadPoolExecutor(8) as pool:
        answers = pd.concat(pool.map(ask, list(tables.households) * 2))
    twice = whole.loc[answers.index]
    pd.testing.assert_frame_equal(answers, twice)


def test_no_points_and_nobody():
    tables = _history("archive")
    none = _points(tables).iloc[:0]
    assert build_features(tables, none, "archive").shape == (0, len(load_catalog("archive")))
    assert build_known_dates(tables, none, load_catalog("archive")).shape[0] == 0
    nobody = build_features(tables, _points(tables, more=["nobody"]).loc[["nobody"]], "archive")
    assert nobody["shock_loss_sum_365d"].eq(0.0).all()
    assert nobody["net_income_last_800d"].isna().all()


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"where": "wage + 1"}, "found 'wage \\+ 1', a number; expected a condition"),
        ({"value": "window"}, "found 'window', a text; expected a number"),
        ({"value": "period_start"}, "a date; expected a number"),
    ],
)
def test_entries_that_do_not_fit_are_refused(entry, match):
    spec = _spec("max", lookback="ever", **entry)
    with pytest.raises(DeclarationError, match=match):
        build_features(
            _history("archive"), _points(_history("archive")), Catalog([spec], "archive", "c")
        )
