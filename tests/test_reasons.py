"""Reasons: comparators that are what they say, sources with their dates, directions that hold."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from poverty_risk import (
    Catalog,
    FeatureSpec,
    RiskModel,
    build_comparison,
    build_features,
    build_reasons,
    explain_change,
    explain_risk,
)
from poverty_risk.exceptions import FeatureError
from poverty_risk.features import build_known_dates
from poverty_risk.reasons import STABLE_SHARE, HouseholdReasons
from small_county import AS_OF, train_small_county


@pytest.fixture(scope="module")
def county():
    return train_small_county(households=160, n_refits=3)


@pytest.fixture(scope="module")
def now(county):
    from poverty_risk import build_prediction_points

    points = build_prediction_points(county.tables, AS_OF)
    return build_features(county.tables, points, county.model.catalog)


@pytest.fixture(scope="module")
def compared(county, now):
    return build_comparison(county.tables, now.iloc[:20], now, county.model.catalog)


def test_own_values_are_those_of_a_year_earlier(county, now, compared):
    earlier = pd.Timestamp(AS_OF) - pd.DateOffset(years=1)
    ids = now.index.get_level_values("household_id")[:20]
    index = pd.MultiIndex.from_product([ids, [earlier]], names=now.index.names)
    expected = build_features(county.tables, pd.DataFrame(index=index), county.model.catalog)
    for name in expected.columns:
        assert np.array_equal(
            compared.own[name].astype(object).fillna("none").to_numpy(),
            expected[name].astype(object).fillna("none").to_numpy(),
        )


def test_medians_are_of_the_village_and_of_ten_households_at_least(county, now, compared):
    from poverty_risk.cohort import find_groups

    villages = find_groups(county.tables, now.index)["village_id"].to_numpy()
    name = "income_to_line" if "income_to_line" in now else compared.village.columns[0]
    shown = 0
    for position in range(20):
        same = now[name].to_numpy()[villages == villages[position]]
        known = same[~np.isnan(same)]
        value = compared.village[name].iloc[position]
        if len(known) < 10:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(np.median(known))
            shown += 1
    assert shown


def test_known_dates_are_those_of_the_records_that_count(county, now):
    """Of a count the latest, of a last value that record's own, looked up in the plain tables."""
    window = {"table": "visit", "lookback": "365d", "theme": "visits"}
    specs = [
        FeatureSpec(stem="visits", aggregator="count", **window),
        FeatureSpec(stem="found", aggregator="last", value="difficulty_found", **window),
    ]
    found = build_known_dates(county.tables, now, Catalog(specs, "archive", "test"))
    as_of = pd.Timestamp(AS_OF)
    records = county.tables["visit"]
    records = records[
        (records["known_date"] < as_of)
        & (records["event_date"] < as_of)
        & (records["event_date"] >= as_of - pd.Timedelta(days=365))
    ].sort_values(["household_id", "event_date", "known_date"])
    by_household = records.groupby("household_id")["known_date"]
    households = now.index.get_level_values("household_id")
    for name, expected in (
        ("visits_count_365d", by_household.max()),
        ("found_last_365d", by_household.last()),
    ):
        wanted = pd.to_datetime(expected.reindex(households)).to_numpy()
        same = (found[name].to_numpy() == wanted) | (
            found[name].isna().to_numpy() & pd.isna(wanted)
        )
        # The few others are visits on one day, whose order is decided by all their columns.
        assert same.mean() > 0.97
        assert pd.notna(wanted).mean() > 0.3


def test_nothing_is_known_on_the_as_of_date_or_later(county, now):
    known = build_known_dates(county.tables, now, county.model.catalog)
    assert known.max().max() < pd.Timestamp(AS_OF)


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_a_reason_says_value_comparator_source_and_date(county, now, compared, locale):
    explanation = explain_risk(county.model, now.iloc[:20])
    reasons = build_reasons(explanation, county.model, locale, compared)
    told = [reason for household in reasons for reason in household]
    kinds = {item.kind for reason in told for item in reason.comparators}
    assert "own_year_before" in kinds
    assert kinds & {"village_median", "township_median"}
    for reason in told:
        for item in reason.comparators:
            assert item.text in reason.text
        assert reason.source
        if reason.known_date is not None:
            assert reason.known_date < pd.Timestamp(AS_OF)
            assert str(reason.known_date.year) in reason.source


@pytest.mark.parametrize(
    ("locale", "visits", "assistance"),
    [
        ("zh", "走访监测多安排给已有困难或风险的农户", "帮扶多给予已有困难的农户"),
        (
            "en",
            "visits go where trouble is already known or feared",
            "help goes where trouble is already known",
        ),
    ],
)
def test_of_visits_and_help_it_is_told_where_they_go(locale, visits, assistance):
    def spec(stem, table, aggregator, theme, **kind):
        return FeatureSpec(
            stem=stem, table=table, aggregator=aggregator, lookback="365d", theme=theme,
            direction=kind.get("direction", 0),
        )  # fmt: skip

    specs = [
        spec("visits", "visit", "count", "visits"),
        spec("visit", "visit", "days_since_last", "visits"),
        spec("relief", "assistance", "count", "assistance"),
        spec("found", "visit", "count", "visits", direction=1),
        spec("kind", "monitoring", "count", "visits"),
    ]
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [[f"h{i}" for i in range(600)], pd.to_datetime(["2021-01-01"])],
        names=["household_id", "as_of_date"],
    )
    reasons = {}
    for chosen in specs:
        values = rng.integers(0, 4, 600).astype(float)
        values = values * 100 if chosen.aggregator == "days_since_last" else values
        features = pd.DataFrame({chosen.name: values}, index=index)
        high = values >= np.median(values)
        for side, risky in (("high", high), ("low", ~high)):
            labels = pd.Series((risky & (rng.random(600) < 0.6)).astype(float), index=index)
            model = RiskModel(
                Catalog([chosen], "archive", "one"), n_estimators=9, min_child_samples=20,
                calibration=None, early_stopping_rounds=None, n_jobs=1,
            )  # fmt: skip
            model.fit(features, labels)
            explained = build_reasons(explain_risk(model, features), model, locale)
            told = {reason for one in explained for reason in one.raising}
            reasons[chosen.stem, side] = {
                (r.value, visits in r.text, assistance in r.text) for r in told
            }
    assert {told[1:] for told in reasons["visits", "high"]} == {(True, False)}
    assert {told[1:] for told in reasons["relief", "high"]} == {(False, True)}
    # No visit, a visit long ago, and what is known to raise risks or is no visit: nothing is added.
    assert (0.0, False, False) in reasons["visits", "low"]
    assert {told[1:] for told in reasons["visit", "low"]} == {(True, False)}
    assert {told[1:] for told in reasons["visit", "high"] if told[0] == 300} == {(False, False)}
    for stem in ("found", "kind"):
        assert {told[1:] for told in reasons[stem, "high"]} == {(False, False)}


def test_points_of_all_themes_sum_to_the_risk_above_the_base(county, now):
    explanation = explain_risk(county.model, now)
    total = explanation.points_by_theme.sum(axis=1)
    assert np.allclose(total, explanation.risk - explanation.base_risk, atol=1e-12)


def test_a_theme_whose_direction_does_not_hold_is_left_out_and_counted(county, now):
    explanation = explain_risk(county.model, now.iloc[:8], agreement=True)
    assert explanation.agreement.to_numpy().min() >= 0
    assert set(np.unique(explanation.agreement)) <= {0.0, 1 / 3, 2 / 3, 1.0}
    stable = dataclasses.replace(explanation, agreement=explanation.agreement * 0 + 1.0)
    before = build_reasons(stable, county.model, "en")
    theme = before[0].raising[0].theme
    doubted = stable.agreement.copy()
    doubted[theme] = STABLE_SHARE - 0.01
    after = build_reasons(dataclasses.replace(stable, agreement=doubted), county.model, "en")
    assert theme in [r.theme for r in before[0].raising]
    assert theme not in [r.theme for r in after[0]]
    assert (before[0].left_out, after[0].left_out) == (0, 1)


def test_agreement_counts_refits_with_the_same_sign(county, now):
    rows = now.iloc[:5]
    explanation = explain_risk(county.model, rows, agreement=True)
    refits = county.model.contributions_of_refits(rows)
    theme = explanation.by_theme.columns[0]
    members = [
        position
        for position, name in enumerate(explanation.contributions.columns)
        if explanation.themes[name] == theme
    ]
    for row in range(5):
        own = explanation.by_theme[theme].iloc[row]
        same = [np.sign(refit[row, members].sum()) == np.sign(own) != 0 for refit in refits]
        assert explanation.agreement[theme].iloc[row] == pytest.approx(np.mean(same))


def test_refits_are_kept_in_the_model_folder(county, now, tmp_path):
    from poverty_risk import RiskModel

    county.model.save(tmp_path / "model")
    loaded = RiskModel.load(tmp_path / "model")
    before = county.model.contributions_of_refits(now.iloc[:5])
    assert np.array_equal(loaded.contributions_of_refits(now.iloc[:5]), before)


def test_official_risk_types_come_main_one_first():
    assert HouseholdReasons((), ()).risk_types == ()


def test_a_change_is_split_exactly_into_household_and_model(county, now):
    earlier = pd.Timestamp(AS_OF) - pd.DateOffset(months=6)
    ids = now.index.get_level_values("household_id")
    index = pd.MultiIndex.from_product([ids, [earlier]], names=now.index.names)
    before = build_features(county.tables, pd.DataFrame(index=index), county.model.catalog)
    old = train_small_county(households=160, seed=5, n_estimators=5, calibration=None).model
    change = explain_change(county.model, before, now, model_before=old)
    total = change.by_theme.sum(axis=1) + change.by_model
    assert np.allclose(total, change.after - change.before, atol=1e-12)
    assert np.allclose(change.before, old.risk(before))
    assert np.allclose(
        change.by_model, county.model.risk(before).to_numpy() - old.risk(before).to_numpy()
    )
    same = explain_change(county.model, now, now)
    assert (same.by_model == 0).all()
    assert np.allclose(same.by_theme, 0)


def test_a_household_twice_in_a_round_is_refused(county, now):
    twice = pd.concat([now, now.iloc[:1]])
    with pytest.raises(FeatureError, match="a household twice in one round"):
        explain_change(county.model, twice, now)
