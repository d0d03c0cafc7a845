"""The simulated county: repeatable, as messy as an archive, honest in time, its truth kept apart."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from poverty_risk import build_prediction_points, label_returns, make_household_history
from poverty_risk.datasets import OUTCOMES
from poverty_risk.datasets import lives as lives_module
from poverty_risk.datasets.dynamics import live_one_month
from poverty_risk.datasets.events import EventLog
from poverty_risk.datasets.feeds import build_frames
from poverty_risk.datasets.identification import ACCOUNT_MONTH, _account, review_month
from poverty_risk.datasets.lives import (
    WARM_UP,
    Lives,
    find_any_failing,
    live_on,
    simulate_risk,
)
from poverty_risk.datasets.population import MONTHS, PRESENT, line_of, load_constants
from poverty_risk.datasets.records import Recorder
from poverty_risk.exceptions import DeclarationError, FeatureError

START = pd.Timestamp("2019-01-01")


@pytest.fixture(scope="module")
def county():
    return make_household_history(4000, seed=5)


@pytest.fixture(scope="module")
def small():
    return make_household_history(200, "2022-01-01", "2023-07-01", seed=1)


@pytest.fixture(scope="module")
def logged():
    """A county of which all is noted: its eve, its states after two and after four years, its log."""
    lives, before, log = Lives.begin(1500, START, 3), EventLog(), EventLog()
    for _ in range(WARM_UP):
        lives.live_month(before)
    eve, half = lives.state.copy(), None
    for kind in ("identified", "cleared", "help"):
        log.events[kind] = before.events[kind]
    for month in range(4 * MONTHS):
        if month == 2 * MONTHS:
            half = lives.state.copy()
        lives.live_month(log)
    return SimpleNamespace(eve=eve, half=half, last=lives.state, log=log)


class FixedDraws:
    """Stands in for a generator: what is recorded then depends on the lives alone."""

    def __init__(self, share):
        self.share = share

    def random(self, size):
        return np.full(size, self.share)

    def integers(self, low, high, size):
        return np.full(size, low)

    def normal(self, mean, sd, size):
        return np.full(size, float(mean))

    def uniform(self, low, high, size):
        return np.full(size, float(high))

    def beta(self, a, b, size):
        return np.zeros(size)


def record(logged, end, *, known_to, share=0.5):
    """Raw tables of what was known before a day, from lives that were noted up to a state."""
    log = EventLog()
    for kind, parts in logged.log.events.items():
        log.events[kind] = [part for part in parts if part["month"][0] <= end.month]
    day = np.datetime64(known_to, "D")
    return build_frames(
        Recorder(logged.eve, end, log, np.datetime64(START, "D"), day, FixedDraws(share))
    )


def sorted_rows(table):
    return table.sort_by([(name, "ascending") for name in table.column_names])


# --- repeatable ---------------------------------------------------------------------------------


def test_same_seed_same_county_in_another_process(small):
    code = (
        "from poverty_risk import make_household_history as make\n"
        "print(make(200, '2022-01-01', '2023-07-01', seed=1).tables.fingerprint)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )
    assert again.stdout.strip() == small.tables.fingerprint


def test_another_seed_is_another_county(small):
    """Whom an office covers is drawn anew too: not the same places of the list in every county."""
    other = make_household_history(200, "2022-01-01", "2023-01-01", seed=2)
    covered = [set(county.tables["income"]["household_id"]) for county in (small, other)]
    assert all(100 < len(households) < 200 for households in covered)
    assert len(covered[0] ^ covered[1]) > 20


def test_a_life_can_be_lived_again():
    """True risk starts from states that are replayed without a log: they must be the same."""
    noted, quiet = Lives.begin(300, START, 4), Lives.begin(300, START, 4)
    log = EventLog()
    for _ in range(WARM_UP + 13):
        noted.live_month(log)
        quiet.live_month()
    for name, values in noted.state.households.items():
        np.testing.assert_array_equal(values, quiet.state.households[name], err_msg=name)
    np.testing.assert_array_equal(noted.state.rolling["wage"], quiet.state.rolling["wage"])


@pytest.mark.parametrize(
    ("size", "start", "end"),
    [
        (1, "2019-01-01", "2019-02-01"),
        (60, "2030-12-01", "2031-01-01"),
    ],
)
def test_small_short_and_far_histories(size, start, end):
    county = make_household_history(size, start, end, seed=9)
    assert set(county.tables.names) == set(county.tables.schema.tables)
    assert len(county.tables.households) <= size
    assert county.tables.observed_to == pd.Timestamp(end)
    points = build_prediction_points(county.tables, end)
    assert len(county.true_risk(points, 1, replicates=2)) == len(points)


# --- rates --------------------------------------------------------------------------------------


def test_rates_are_those_of_published_reports(county):
    """About 1 % of households a year newly identified, about 60 % of them sudden hardship."""
    monitoring = county.tables["monitoring"]
    found = monitoring[
        (monitoring["status"] == "identified") & (monitoring["event_date"] >= "2019")
    ]
    yearly = len(found) / 6 / county.n_households
    assert 0.007 < yearly < 0.016
    assert 0.45 < (found["category"] == "sudden").mean() < 0.75


def test_floods_share_villages_and_lost_jobs_share_seasons(logged):
    shock = logged.log.collect("shock")
    village = logged.eve.households["village"][shock["who"]] * 100_000 + shock["month"]
    hit = {
        kind: np.unique(village[shock["kind"] == kind], return_counts=True)[1]
        for kind in ("flood", "geological")
    }
    assert hit["flood"].mean() > 10
    assert hit["geological"].mean() < 1.5
    jobs = np.bincount(logged.log.collect("job_loss")["month"] - logged.eve.month - 1)
    # Losses of independent persons would be Poisson: variance and mean the same.
    assert jobs.var() > 3 * jobs.mean()


# --- what an archive looks like -----------------------------------------------------------------


def test_archive_is_as_messy_as_an_archive(county):
    tables = county.tables
    assert set(tables.names) == set(tables.schema.tables)
    income = tables["income"]
    annual = income[income["window"] == "annual"]
    assert ((annual["wage"] > 0) & (annual["wage"] < 100)).any()  # placeholders
    keys = ["household_id", "period_start", "period_end"]
    twice = annual[annual.duplicated(keys, keep=False)]
    assert len(twice) > 100  # corrections keep both values
    spans = twice.groupby(keys)["known_date"].agg(lambda days: (days.max() - days.min()).days)
    assert spans.between(50, 259).all()
    # Values copied from the year before: the same wage to the yuan.
    wages = annual[annual["wage"] > 100].drop_duplicates(keys)
    assert (wages.groupby("household_id")["wage"].diff() == 0).sum() > 10
    for table, column in (("person", "education"), ("person", "labour"), ("shock", "loss")):
        assert tables[table][column].isna().any()
    assert (annual["period_end"].dt.month == 9).all()
    assert (annual["period_start"].dt.month == 10).all()
    assert (income.loc[income["window"] == "rolling", "known_date"] >= "2019").all()


def test_rejected_rows_are_the_planted_ones(county):
    """Doubles and dates that cannot be, in the shares of county.yaml; nothing else is rejected."""
    spec = load_constants().records
    expected = county.tables.rejected["expected"]
    raw = sum(len(county.tables[name]) for name in county.tables.names) + len(expected)
    early = (expected == "known on or after the day it happened").sum()
    doubled = (expected == "one record per fact and known date").sum()
    assert early + doubled == len(expected)
    # Within five standard deviations of a binomial count.
    assert abs(early - spec.impossible * raw) < 5 * np.sqrt(spec.impossible * raw)
    # Besides doubles, a few records of one day contradict each other.
    assert 0.9 * spec.duplicated * raw < doubled < 1.4 * spec.duplicated * raw


def test_reporting_lags_are_those_declared(county):
    lags = vars(load_constants().records.lag_days)
    for name in set(county.tables.names) - {"income", "assistance"}:
        low, high = lags[name]
        days = (county.tables[name]["known_date"] - county.tables[name]["event_date"]).dt.days
        assert days.between(low, high).all(), name
    annual = county.tables["income"].query("window == 'annual'")
    first = annual.groupby(["household_id", "period_end"])["known_date"].min().reset_index()
    days = (first["known_date"] - first["period_end"]).dt.days
    # A correction of an account whose first version was rejected is the first that is left.
    assert (days.between(*lags["income"])).mean() > 0.999


def test_nothing_is_known_after_the_end_and_truth_stays_outside(county):
    for name in county.tables.names:
        assert (county.tables[name]["known_date"] < county.end).all()
    columns = {column for name in county.tables.names for column in county.tables[name].columns}
    assert not columns & {"ability", "fragility", "coping", "hardship", "true_risk", "exposure"}


def test_households_that_left_have_no_later_records(county):
    household = county.tables["household"]
    left = household[household["status"] != "active"].set_index("household_id")["event_date"]
    assert len(left) > 50
    for name in set(county.tables.names) - {"village", "assistance"}:
        table = county.tables[name]
        end = table["household_id"].map(left)
        assert not (table["event_date"] > end).any(), name


def test_years_of_exit_are_known_only_when_they_are_over(county):
    household = county.tables["household"].dropna(subset=["lifted_year"])
    assert (household["event_date"].dt.year >= household["lifted_year"]).all()
    assert (household["lifted_year"] >= 2019).any()


def test_nobody_is_on_record_before_birth(county):
    person = county.tables["person"].dropna(subset=["birth_date"])
    assert (person["event_date"] >= person["birth_date"]).all()
    # No member comes back from the dead.
    last = person.sort_values("event_date", kind="stable").groupby("person_id")["status"]
    dead = person.loc[person["status"] == "deceased", "person_id"].unique()
    assert len(dead) > 50
    assert (last.last()[dead] == "deceased").all()


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_no_record_depends_on_the_future(logged, share, monkeypatch):
    """What was known after two years is the same whether or not two more years were lived.

    With fixed draws all that is left is what happened; with a share of 0 every gap, double, copy
    and correction is there.
    """
    monkeypatch.setattr(load_constants().records, "impossible", -1.0)
    short = record(logged, logged.half, known_to="2021-01-01", share=share)
    long = record(logged, logged.last, known_to="2021-01-01", share=share)
    for name, table in long.items():
        assert sorted_rows(table).equals(sorted_rows(short[name])), name
    assert sum(table.num_rows for table in short.values()) > 20_000


def test_accounts_sum_the_months_that_they_say(logged):
    """Wages by month, summed by hand over each account's 12 months."""
    work, size = logged.log.collect("work"), len(logged.eve.first)
    first = logged.eve.month + 1
    wages = np.zeros((4 * MONTHS, size))
    household = logged.last.persons["household"][work["who"]]
    np.add.at(wages, (work["month"] - first, household), work["wage"])
    for kind, shift in (("account", 1), ("rolling_account", 0)):
        account = logged.log.collect(kind)
        at = account["month"] - first + shift
        whole = at >= MONTHS
        assert whole.sum() > 30
        for who, end, wage in zip(
            account["who"][whole], at[whole], account["wage"][whole], strict=True
        ):
            assert wage == pytest.approx(wages[end - MONTHS : end, who].sum())


def test_assistance_on_record_is_what_households_are_given(logged, monkeypatch):
    """Records without an end add up to the hidden state's monthly help."""
    monkeypatch.setattr(load_constants().records, "impossible", -1.0)
    table = record(logged, logged.last, known_to="2024-01-01")["assistance"].to_pandas()
    keys = ["household_id", "event_date", "kind"]
    latest = table.sort_values("known_date").drop_duplicates(keys, keep="last")
    going_on = latest[latest["valid_to"].isna() & (latest["kind"] != "medical")]
    recorded = going_on.groupby("household_id")["amount"].sum()
    h = logged.last.households
    given = np.where(h["active"], h["dibao"] + h["help"], 0.0)
    ids = [f"H{number:07d}" for number in range(1, len(given) + 1)]
    np.testing.assert_allclose(recorded.reindex(ids).fillna(0.0), given, atol=3.0)
    assert (given > 0).sum() > 30
    assert latest["valid_to"].notna().any()


# --- identification is one thing, welfare another ------------------------------------------------


def test_identification_rests_on_a_visit(county):
    found = county.tables["monitoring"].query("status == 'identified' and event_date >= '2019'")
    visit = county.tables["visit"]
    noticed = visit[visit["difficulty_found"].astype(bool)]
    month = noticed["event_date"].dt.to_period("M")
    first = noticed.groupby([noticed["household_id"], month])["event_date"].min()
    keys = pd.MultiIndex.from_arrays([found["household_id"], found["event_date"].dt.to_period("M")])
    seen = first.reindex(keys).to_numpy()
    # Some visits were entered with impossible dates and rejected.
    assert pd.notna(seen).mean() > 0.99
    on_record = pd.notna(seen)
    assert (found["event_date"].to_numpy()[on_record] >= seen[on_record]).all()


def live_and_count(size, months, *, diligence, seed=6):
    lives = Lives.begin(size, START, seed)
    lives.state.villages["diligence"] = lives.state.villages["diligence"] * diligence
    log, poor, failed = EventLog(), 0, 0
    for _ in range(WARM_UP + months):
        before = find_any_failing(lives.state)
        lives.live_month(log)
        active = lives.state.households["active"]
        failed += int((find_any_failing(lives.state) & ~before & active).sum())
        if lives.state.month % MONTHS + 1 == ACCOUNT_MONTH:
            poor += int(((lives.state.households["ratio"] < 1) & active).sum())
    return len(log.collect("identified")["who"]), poor, failed


def test_more_visits_find_more_but_do_not_make_hardship():
    """Verification bias: what is identified depends on who looks, what happens does not."""
    few = live_and_count(2500, 24, diligence=0.2)
    many = live_and_count(2500, 24, diligence=4.0)
    assert many[0] > 1.4 * few[0]
    for seldom, often in zip(few[1:], many[1:], strict=True):
        # Luck of two counties; and help after identification makes hardship rarer, not more frequent.
        assert often < seldom + 4 * np.sqrt(seldom)


def test_where_nobody_looks_nobody_is_identified(monkeypatch):
    constants = load_constants()
    monkeypatch.setattr(constants.records, "random_visits", 0.0)
    monkeypatch.setattr(constants.monitoring, "declared", 0.0)
    for name in vars(constants.monitoring.alert):
        if name != "bill_from":
            monkeypatch.setattr(constants.monitoring.alert, name, 0.0)
    identified, poor, failed = live_and_count(1500, 12, diligence=0.0)
    assert identified == 0
    assert poor > 50
    assert failed > 50


def test_help_starts_after_identification(county):
    found = county.tables["monitoring"].query("status == 'identified'")
    helped = county.tables["assistance"].query("kind == 'other'")
    first = found.groupby("household_id")["event_date"].min()
    started = helped.groupby("household_id")["event_date"].min()
    both = pd.concat([first.rename("found"), started.rename("helped")], axis=1).dropna()
    assert len(both) > 100
    assert (both["helped"] > both["found"]).all()


def test_help_works(monkeypatch):
    """Futures of one state, each lived with the same numbers with and without identification."""
    lives = Lives.begin(3000, START, 8)
    for _ in range(WARM_UP):
        lives.live_month()
    monkeypatch.setattr(load_constants().monitoring, "recognised", 1.0)
    monkeypatch.setattr(load_constants().monitoring, "declared", 1.0)
    helped, alone = lives.state.copy(), lives.state.copy()
    for state, identifies in ((helped, True), (alone, False)):
        rng = np.random.default_rng(1)
        money = live_one_month(state, rng, None)
        review_month(state, rng, money, None, identifies=identifies)
    found = (helped.households["monitored_since"] >= 0) & (
        lives.state.households["monitored_since"] < 0
    )
    assert found.sum() > 30
    monkeypatch.setattr(load_constants().monitoring, "recognised", 0.0)
    gains = []
    for stream in range(6):
        after = []
        for state in (helped.copy(), alone.copy()):
            rng = np.random.default_rng([2, stream])
            for _ in range(9):
                review_month(state, rng, live_one_month(state, rng, None), None)
            after.append(state.households["ratio"][found])
        gains.append(after[0] - after[1])
    gain = np.mean(gains, axis=0)
    assert gain.mean() > 3 * gain.std() / np.sqrt(found.sum())
    assert gain.mean() > 0.05


def test_welfare_truth_differs_from_what_was_recorded(county):
    """Many households fall below the line or lose a guarantee and nobody identifies them."""
    assert set(county.truth["outcome"]) == {"identified", "below_line", "guarantee_failed"}
    assert county.truth["event_date"].between(county.start, county.end).all()
    counts = county.truth.groupby("outcome")["household_id"].nunique()
    assert counts["below_line"] > counts["identified"]
    both = set(county.truth.query("outcome == 'below_line'")["household_id"]) & set(
        county.truth.query("outcome == 'identified'")["household_id"]
    )
    assert both


def test_true_identification_is_what_labels_say(county):
    points = build_prediction_points(county.tables, "2022-07-01")
    labels = label_returns(county.tables, points, "12mo", "identified").dropna()
    truth = county.truth.query("outcome == 'identified'")
    inside = truth[truth["event_date"].between("2022-07-01", "2023-06-30")]
    own = labels.index.get_level_values("household_id").isin(inside["household_id"])
    # Records with an impossible date are rejected: a hair's breadth.
    assert (labels.to_numpy() != own).sum() <= 1
    assert own.sum() > 20


# --- true risk ----------------------------------------------------------------------------------


def streams(first, count):
    return [np.random.default_rng([99, number]) for number in range(first, first + count)]


@pytest.fixture(scope="module")
def settled():
    lives = Lives.begin(1500, START, 12)
    for _ in range(WARM_UP + 6):
        lives.live_month()
    return lives.state


def test_mean_of_futures_and_its_error_by_hand(settled, monkeypatch):
    """Each household's futures and one more, drawn from all futures of all households."""
    size, count = len(settled.first), 4
    draws = np.random.default_rng(0).random((count, size)) ** 3
    waiting = iter(draws)
    monkeypatch.setattr(lives_module, "live_on", lambda *_, **__: next(waiting))
    risk, error = simulate_risk(settled, streams(0, count), 12, "identified")
    there = settled.households["active"]
    pool = draws[:, there].ravel()
    for who in (0, 7, 700):
        assert there[who]
        own = draws[:, who]
        mean = (own.sum() + pool.mean()) / (count + 1)
        assert risk[who] == pytest.approx(mean)
        squares = ((own - mean) ** 2).sum() + ((pool - mean) ** 2).mean()
        assert error[who] == pytest.approx(np.sqrt(squares / count / (count + 1)))
    assert (risk[~there] == 0).all()


def test_standard_error_covers_independent_futures(settled):
    first, first_error = simulate_risk(settled, streams(0, 25), 12, "identified")
    again, again_error = simulate_risk(settled, streams(25, 25), 12, "identified")
    there = settled.households["active"]
    apart = (first - again)[there] / np.hypot(first_error, again_error)[there]
    assert (first_error[there] > 0).all()
    # Not too small, and where risks are large enough to be met often, not too large either.
    assert (np.abs(apart) > 3).mean() < 0.005
    assert (np.abs(apart) > 2).mean() < 0.05
    large = (first + again)[there] > 0.1
    assert large.sum() > 30
    assert 0.6 < apart[large].std() < 1.3


@pytest.mark.parametrize("outcome", ["identified", "any"])
def test_chances_along_futures_agree_with_counting(settled, outcome, monkeypatch):
    """The same risk by brute force: futures with identification, and who was identified in them.

    Identification made frequent and no shocks that are shared, so that few futures tell.
    """
    constants = load_constants()
    monkeypatch.setattr(constants.monitoring, "declared", 0.5)
    monkeypatch.setattr(constants.places, "water_failure_per_year", 0.0)
    monkeypatch.setattr(constants.work.bad_season, "per_year", 0.0)
    months, count = 6, 15
    chances = np.stack([live_on(settled.copy(), rng, months, outcome) for rng in streams(0, count)])
    hits = []
    for rng in streams(500, count):
        state, log = settled.copy(), EventLog()
        came = np.zeros(len(state.first), dtype=bool)
        for _ in range(months):
            failed = find_any_failing(state)
            review_month(state, rng, live_one_month(state, rng, log), log)
            active = state.households["active"]
            if outcome == "any":
                came |= active & find_any_failing(state) & ~failed
                if state.month % MONTHS + 1 == ACCOUNT_MONTH:
                    came |= active & (state.households["ratio"] < 1)
        came[log.collect("identified")["who"]] = True
        hits.append(came.sum())
    expected, seen = chances.sum(axis=1), np.array(hits)
    spread = np.sqrt((expected.var() + seen.var()) / count)
    assert abs(expected.mean() - seen.mean()) < 4 * spread
    assert spread < 0.05 * seen.mean()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_nobody_is_identified_where_chances_are_combined(settled, outcome):
    """Chances multiply along futures without help; what is counted is counted with it."""
    state = settled.copy()
    live_on(state, np.random.default_rng(0), 12, outcome)
    more = (state.households["times_identified"] - settled.households["times_identified"]).sum()
    assert (more == 0) == (outcome in ("identified", "any"))


def test_true_risk_is_calibrated(county):
    dates = ["2021-07-01", "2023-01-01"]
    points = build_prediction_points(county.tables, dates)
    truth = county.true_risk(points, "12mo", replicates=10)
    labels = label_returns(county.tables, points, "12mo", "identified").dropna()
    risk = truth.loc[labels.index, "true_risk"]
    expected, seen = risk.sum(), labels.sum()
    # Shared shocks make the county's luck vary more than independent draws would.
    assert abs(expected - seen) < 4 * np.sqrt(expected)
    assert risk[labels == 1].mean() > 5 * risk[labels == 0].mean()


def test_true_risk_is_repeatable_and_alone_as_in_company(small):
    points = build_prediction_points(small.tables, ["2023-01-01", "2023-07-01"])
    whole = small.true_risk(points, "12mo", replicates=4)
    some = points.iloc[[150, 3, 260]]
    alone = small.true_risk(some, 12, replicates=4)
    pd.testing.assert_frame_equal(alone, whole.loc[some.index])


@pytest.mark.parametrize("outcome", ["below_line", "guarantee_failed"])
def test_true_risk_of_other_outcomes_is_calibrated(county, outcome):
    points = build_prediction_points(county.tables, "2022-01-01")
    risk = county.true_risk(points, 12, replicates=6, outcome=outcome)["true_risk"]
    assert risk.between(0, 1).all()
    truth = county.truth[county.truth["event_date"].between("2022-01-01", "2022-12-31")]
    came = truth.loc[truth["outcome"] == outcome, "household_id"]
    seen = points.index.get_level_values("household_id").isin(came).sum()
    assert seen > 50
    assert risk.std() > 0
    # Whole villages lose their water, whole counties their jobs: wider than independent draws.
    assert 0.5 < risk.sum() / seen < 2.0


def test_households_that_left_have_no_risk(settled):
    gone = ~settled.households["active"]
    assert gone.any()
    for outcome in ("below_line", "guarantee_failed", "any"):
        risk, error = simulate_risk(settled, streams(0, 2), 12, outcome)
        assert (risk[gone] == 0).all()
        assert (error[gone] == 0).all()


def test_true_risk_says_what_it_cannot_answer(small):
    points = build_prediction_points(small.tables, "2023-01-15")
    with pytest.raises(FeatureError, match="as-of date 2023-01-15.*first days of months"):
        small.true_risk(points)
    points = build_prediction_points(small.tables, "2023-01-01")
    with pytest.raises(
        DeclarationError,
        match=r"'identifed'.*one of identified, below_line(?s:.)*replicates: found 0"
        r"(?s:.)*'90d'; expected months",
    ):
        small.true_risk(points, "90d", replicates=0, outcome="identifed")
    strange = points.rename(index=lambda name: f"X{name[1:]}", level="household_id")
    with pytest.raises(FeatureError, match=f"{len(points)} points; expected of this county"):
        small.true_risk(strange)


def test_sizes_dates_and_seed_are_checked():
    with pytest.raises(
        DeclarationError,
        match=r"n_households: found 0.*(?s:.)*seed: found -1(?s:.)*start: found '2019-01-15'",
    ):
        make_household_history(0, start="2019-01-15", end="2020-01-01", seed=-1)
    with pytest.raises(DeclarationError, match="end: found 2019-01-01; expected after start"):
        make_household_history(10, start="2019-01-01", end="2019-01-01")


# --- the state ----------------------------------------------------------------------------------


def test_line_is_extended_by_its_growth():
    line = line_of(range(2017, 2028))
    assert line[2021] == 6000
    assert line[2016 + 1] < line[2018]
    assert line[2027] > line[2026] > line[2025]


def test_income_of_the_state_is_what_the_account_counts():
    lives = Lives.begin(200, START, 0)
    for _ in range(19):
        lives.live_month()
    state = lives.state
    account = _account(state)
    size = state.sum_by_household((state.persons["status"] == PRESENT).astype(int))
    by_hand = sum(
        state.rolling[name].sum(axis=0) for name in ("wage", "business", "property", "transfer")
    )
    by_hand = by_hand - state.rolling["business_cost"].sum(axis=0)
    there = size > 0
    np.testing.assert_allclose(account.ratio[there], (by_hand / size / account.line)[there])
