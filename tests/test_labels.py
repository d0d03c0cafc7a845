"""Labels on tiny histories: what counts, on which days, and when nobody can tell."""

import logging

import numpy as np
import pandas as pd
import pytest

from drawing import AS_OF, LINE, draw_frames
from poverty_risk.exceptions import DeclarationError, FeatureError, LabelError
from poverty_risk.labels import grade_labels, label_returns, measure_returns
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

DATE = "2022-07-01"  # the horizon of twelve months ends on 2023-07-01
Cases = dict[str, tuple[list[tuple], list[tuple], float | None]]

ACTIVE = ("2020-01-01", "2020-01-05", "active")
FOUND = ("2022-12-01", "2022-12-20", "identified")

# household: its archive after ACTIVE, its monitoring, the label.
IDENTIFIED: Cases = {
    "nothing": ([], [], 0),
    "on_the_date": ([], [("2022-07-01", "2022-07-20", "identified")], 1),
    "the_day_before": ([], [("2022-06-30", "2022-07-20", "identified")], 0),
    "on_the_last_day": ([], [("2023-06-30", "2023-07-20", "identified")], 1),
    "on_the_day_after": ([], [("2023-07-01", "2023-07-20", "identified")], 0),
    "known_after_the_horizon": ([], [("2023-06-01", "2023-08-20", "identified")], 1),
    "only_cleared": ([], [("2022-12-01", "2022-12-20", "cleared")], 0),
    "moved": ([("2022-12-01", "2022-12-20", "moved")], [], None),
    "dissolved": ([("2022-12-01", "2022-12-20", "dissolved")], [], None),
    "moved_on_the_date": ([("2022-07-01", "2022-08-20", "moved")], [], None),
    "moved_on_the_last_day": ([("2023-06-30", "2023-07-20", "moved")], [], None),
    "moved_on_the_day_after": ([("2023-07-01", "2023-07-20", "moved")], [], 0),
    "gone_before_unknown": ([("2022-06-01", "2022-07-20", "moved")], [], None),
    "gone_and_back_before": (
        [("2021-06-01", "2021-07-20", "moved"), ("2022-06-01", "2022-06-20", "active")],
        [],
        0,
    ),
    "gone_and_back_within": (
        [("2022-06-01", "2022-07-20", "moved"), ("2022-09-01", "2022-09-20", "active")],
        [],
        None,
    ),
    "identified_then_moved": ([("2023-02-01", "2023-02-20", "moved")], [FOUND], 1),
    "moved_then_identified": ([("2022-09-01", "2022-09-20", "moved")], [FOUND], 1),
    "moved_by_mistake": (
        [("2022-12-01", "2022-12-20", "moved"), ("2022-12-01", "2023-03-20", "active")],
        [],
        0,
    ),
}


def frame_of(cases: Cases, number: int, first: tuple = ()) -> pd.DataFrame:
    """Records of all cases; the columns after the household are those of the tuples."""
    columns = ["household_id", "event_date", "known_date", "status"]
    return pd.DataFrame(
        [(name, *row) for name, case in cases.items() for row in (*first, *case[number])],
        columns=columns,
    )


def make_tables(observed_to: str, line=None, **frames: pd.DataFrame) -> HistoryTables:
    if "household" in frames:
        frames["household"] = frames["household"].assign(township_id="t1", village_id="v1")
    tables = HistoryTables.from_frames(
        frames, load_schema("archive"), line=line, observed_to=observed_to
    )
    assert tables.rejected.empty
    return tables


def make_points(names, dates=(DATE,)) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [list(names), pd.to_datetime(list(dates))], names=["household_id", "as_of_date"]
    )
    return pd.DataFrame(index=index)


def label(tables: HistoryTables, names, definition: str, horizon: str = "12mo") -> dict:
    found = label_returns(tables, make_points(names), horizon, definition)
    found = found.droplevel("as_of_date").astype(object)
    return found.where(found.notna(), None).to_dict()


def identified_tables(observed_to: str = "2023-08-30") -> HistoryTables:
    household, monitoring = frame_of(IDENTIFIED, 0, (ACTIVE,)), frame_of(IDENTIFIED, 1)
    return make_tables(observed_to, household=household, monitoring=monitoring)


@pytest.fixture(scope="module")
def identified() -> dict:
    return label(identified_tables(), IDENTIFIED, "identified")


@pytest.mark.parametrize("household", list(IDENTIFIED))
def test_newly_identified(identified, household):
    assert identified[household] == IDENTIFIED[household][2]


def test_nobody_has_a_label_before_the_reporting_lag_is_over():
    """2023-07-01 plus 60 days is 2023-08-30. A day earlier even those already identified have none:

    of that date they would be all that is labelled, each a 1.
    """
    early = label(identified_tables("2023-08-29"), IDENTIFIED, "identified")
    assert set(early.values()) == {None}
    # Twelve months from a day earlier are complete.
    points = make_points(["nothing", "on_the_date"], ["2022-06-30", "2022-07-01"])
    found = label_returns(identified_tables("2023-08-29"), points, "12mo", "identified")
    assert found.isna().tolist() == [False, True] * 2
    assert found.dropna().tolist() == [0, 1]


def test_a_horizon_in_days():
    """153 days from 1 July end on 1 December, the day of the event; 154 include it."""
    for days, expected in (("153d", 0), ("154d", 1)):
        found = label(identified_tables(), ["identified_then_moved"], "identified", days)
        assert found == {"identified_then_moved": expected}


def test_without_an_archive_nobody_is_known_to_be_lost():
    tables = make_tables("2023-08-30", monitoring=frame_of(IDENTIFIED, 1))
    names = ["only_cleared", "identified_then_moved", "never_heard_of"]
    assert list(label(tables, names, "identified").values()) == [0, 1, 0]


def test_the_first_definition_is_the_usual_one(identified):
    tables = identified_tables()
    found = label_returns(tables, make_points(IDENTIFIED))
    expected = label_returns(tables, make_points(IDENTIFIED), "12mo", "identified")
    pd.testing.assert_series_equal(found, expected)
    assert found.name == "label"
    assert found.dtype == np.float64


def test_labels_are_found_by_key():
    tables = identified_tables()
    points = make_points(IDENTIFIED, ["2021-07-01", DATE, "2022-08-01"])
    expected = label_returns(tables, points, "12mo", "identified")
    mixed = points.sample(frac=1, random_state=0)
    found = label_returns(tables, mixed, "12mo", "identified")
    assert found.index.equals(mixed.index)
    pd.testing.assert_series_equal(found.reindex(points.index), expected)


# Accounts: (end, known, members, wage, business, cost, property, transfer); lines 6000 and 6500.
def account(end="2022-09-30", known="2022-11-01", members=2, wage=9000.0, transfer=1000.0):
    return (end, known, members, wage, 3000.0, 1000.0, 0.0, transfer)


BELOW: Cases = {
    # (9000 + 3000 - 1000 + 0 + 1000) / 2 = 6000
    "on_the_line": ([], [account()], 0),
    "one_yuan_below": ([], [account(transfer=998.0)], 1),
    "above": ([], [account(transfer=5000.0)], 0),
    # 12,400 / 2 = 6200: above the line of 2022, below that of 2023
    "by_the_line_of_its_year": ([], [account("2023-06-30", "2023-08-01", transfer=1400.0)], 1),
    "by_the_line_of_the_year_before": ([], [account(transfer=1400.0)], 0),
    "by_members": ([], [account(members=3)], 1),
    "no_account": ([], [], None),
    "account_before": ([], [account("2022-06-30", "2022-07-20", wage=0.0)], None),
    "account_on_the_date": ([], [account("2022-07-01", "2022-07-20", wage=0.0)], 1),
    "account_on_the_day_after": ([], [account("2023-07-01", "2023-07-20", wage=0.0)], None),
    "wage_not_recorded": ([], [account(wage=None)], None),
    "members_not_recorded": ([], [account(members=None)], None),
    "one_of_two_not_recorded": ([], [account(wage=None), account("2023-03-31", "2023-04-01")], 1),
    "one_of_two_below": ([], [account(), account("2022-12-31", "2023-01-01", wage=0.0)], 1),
    "corrected": ([], [account(wage=0.0), account(known="2023-01-01")], 0),
    "moved_with_an_account": ([("2022-12-01", "2022-12-20", "moved")], [account()], 0),
    "moved_without": ([("2022-08-01", "2022-08-20", "moved")], [], None),
}
TWO_LINES = {2022: 6000.0, 2023: 6500.0}


def income_of(cases: Cases) -> pd.DataFrame:
    columns = ["event_date", "known_date", "members", "wage", "business", "business_cost"]
    frame = pd.DataFrame(
        [(name, *row) for name, case in cases.items() for row in case[1]],
        columns=["household_id", *columns, "property", "transfer"],
    )
    start = (pd.to_datetime(frame["event_date"]) - pd.DateOffset(years=1)).dt.strftime("%Y-%m-%d")
    return frame.assign(period_start=start, period_end=frame["event_date"], window="annual")


@pytest.fixture(scope="module")
def below_tables() -> HistoryTables:
    return make_tables(
        "2023-10-29",
        TWO_LINES,
        household=frame_of(BELOW, 0, (ACTIVE,)),
        income=income_of(BELOW),
    )


@pytest.fixture(scope="module")
def below(below_tables) -> dict:
    return label(below_tables, BELOW, "below_line")


@pytest.mark.parametrize("household", list(BELOW))
def test_income_below_the_line(below, household):
    assert below[household] == BELOW[household][2]


def test_the_lowest_income_of_the_horizon_is_measured(below_tables):
    found = measure_returns(below_tables, make_points(BELOW), "12mo", "below_line")
    ratios = found.droplevel("as_of_date")
    assert ratios["on_the_line"] == 1.0
    assert ratios["above"] == pytest.approx(8000 / 6000)
    assert ratios["by_the_line_of_its_year"] == pytest.approx(6200 / 6500)
    # 6000 and 1500 yuan: the lower account is the one that is told.
    assert ratios["one_of_two_below"] == pytest.approx(1500 / 6000)
    assert ratios["corrected"] == 1.0
    labels = label_returns(below_tables, make_points(BELOW), "12mo", "below_line")
    pd.testing.assert_series_equal(
        (found < 1.0).astype(float).where(found.notna()), labels, check_names=False
    )


def test_grades_say_how_near_a_household_came():
    labels = pd.Series([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, np.nan, 1.0])
    ratios = pd.Series([-0.3, 0.0, 0.5, 0.999, 1.001, 2.0, 0.5, np.nan])
    graded = grade_labels(labels, ratios, 0.5)
    assert graded[:2].tolist() == [1.0, 1.0]
    assert graded[2] == pytest.approx(0.91717, abs=1e-5)  # the normal below ln(2) / .5
    assert graded[2] + graded[5] == pytest.approx(1.0)
    assert 0.5 < graded[3] < 0.502
    assert 0.498 < graded[4] < 0.5
    assert np.isnan(graded[6])
    assert graded[7] == 1.0  # nothing measured: the label
    assert graded[:6].is_monotonic_decreasing
    pd.testing.assert_series_equal(grade_labels(labels, ratios, 0.0), labels, check_names=False)
    narrow = grade_labels(labels, ratios, 1e-9)
    pd.testing.assert_series_equal(narrow, labels, check_names=False)
    by_key = grade_labels(labels, ratios[::-1], 0.5)
    pd.testing.assert_series_equal(by_key, graded)


@pytest.mark.parametrize("spread", [-0.1, np.nan, np.inf])
def test_a_spread_that_is_none_is_refused(spread):
    with pytest.raises(LabelError, match="spread of graded labels"):
        grade_labels(pd.Series([1.0]), pd.Series([0.5]), spread)


def test_ratios_that_say_otherwise_than_the_labels_are_refused():
    labels = pd.Series([1.0, 1.0, 0.0, 0.0])
    other = pd.Series([0.5, 1.0, 1.5, 0.9])
    with pytest.raises(LabelError, match="found 2 of 4 that say otherwise than the label"):
        grade_labels(labels, other, 0.5)
    with pytest.raises(LabelError, match="found none, of 4 points with a label"):
        grade_labels(labels, pd.Series([np.nan] * 4), 0.5)
    with pytest.raises(FeatureError, match="ratios: found 1 of 4 points without an entry"):
        grade_labels(labels, other[:3], 0.5)


def test_labels_that_are_not_measured_stay_and_are_counted(caplog):
    labels, ratios = pd.Series([1.0, 1.0, 0.0]), pd.Series([0.5, np.nan, np.nan])
    with caplog.at_level(logging.INFO, "poverty_risk.labels"):
        assert grade_labels(labels, ratios, 0.5)[1:].tolist() == [1.0, 0.0]
    assert "2 of 3 labels are not measured and stay." in caplog.text


def test_only_measured_labels_are_graded(below_tables):
    points = make_points(BELOW)
    expected = "label 'identified' to be graded: found no 'ratio'; .* threshold \\(below_line\\)"
    with pytest.raises(LabelError, match=expected):
        measure_returns(below_tables, points, "12mo", "identified")
    with pytest.raises(LabelError, match="label: found 'returned'"):
        measure_returns(below_tables, points, "12mo", "returned")
    with pytest.raises(LabelError, match="found no table 'income'"):
        measure_returns(identified_tables(), points, "12mo", "below_line")
    lineless = make_tables("2023-10-29", None, income=income_of(BELOW))
    with pytest.raises(LabelError, match="no poverty line for 2022, 2023"):
        measure_returns(lineless, points, "12mo", "below_line")
    assert measure_returns(below_tables, points[:0], "12mo", "below_line").empty


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "any", "of": ["below_line"]}, "'any' has no 'ratio' of its own"),
        ({"needs_line": False}, "'needs_line: true', because the poverty line is asked for"),
    ],
)
def test_ratios_that_cannot_be_declared(changed, message):
    schema = load_schema("archive")
    own = schema.labels["below_line"].model_dump(mode="json") | changed
    with pytest.raises(DeclarationError, match=message):
        schema.extended({"labels": {"own": own}})


def test_a_ratio_that_is_text_is_refused():
    schema = load_schema("archive")
    own = schema.labels["below_line"].model_dump(mode="json") | {"ratio": "window"}
    tables = HistoryTables.from_frames(
        {"income": income_of(BELOW)},
        schema.extended({"labels": {"own": own}}),
        line=TWO_LINES,
        observed_to="2023-10-29",
    )
    with pytest.raises(DeclarationError, match="label 'own', 'window': found text"):
        measure_returns(tables, make_points(BELOW), "12mo", "own")


@pytest.mark.parametrize("line", [None, {2022: 6000.0}, {2023: 6500.0}, {2021: 1.0, 2024: 1.0}])
@pytest.mark.parametrize("definition", ["below_line", "any"])
def test_a_year_without_a_line_is_an_error(line, definition):
    tables = make_tables("2023-10-29", line, income=income_of(BELOW))
    missing = ", ".join(str(year) for year in (2022, 2023) if year not in (line or {}))
    with pytest.raises(
        LabelError, match=f"label 'below_line': found no poverty line for {missing};"
    ):
        label_returns(tables, make_points(BELOW), "12mo", definition)


def test_only_years_of_the_horizon_need_a_line():
    """Twelve months from 1 January end before the account of the next 1 January."""
    cases: Cases = {"a": ([], [account(), account("2023-01-01", "2023-02-01")], 0)}
    tables = make_tables("2024-01-01", {2022: 6000.0}, income=income_of(cases))
    points = make_points(["a"], ["2022-01-01"])
    assert label_returns(tables, points, "12mo", "below_line").tolist() == [0]
    # Two points far apart need no line for the years between.
    both = make_points(["a"], ["2022-01-01", "2019-01-01"])
    assert label_returns(tables, both, "12mo", "below_line").isna().tolist() == [False, True]
    with pytest.raises(LabelError, match="no poverty line for 2023;"):
        label_returns(tables, make_points(["a"], ["2022-01-02"]), "12mo", "below_line")


def check_of(*rows: tuple[str, str, str, str, bool]) -> pd.DataFrame:
    columns = ["household_id", "event_date", "known_date", "item", "passed"]
    return pd.DataFrame(list(rows), columns=columns)


def schooling_of(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    columns = ["household_id", "event_date", "known_date", "stage", "status"]
    frame = pd.DataFrame(list(rows), columns=columns)
    return frame.assign(person_id=frame["household_id"] + "-1")


CHECKS = check_of(
    ("failed", "2022-09-01", "2022-09-20", "housing", False),
    ("passed", "2022-09-01", "2022-09-20", "housing", True),
    ("one_of_two", "2022-09-01", "2022-09-20", "housing", True),
    ("one_of_two", "2022-09-01", "2022-09-20", "water", False),
    ("corrected", "2022-09-01", "2022-09-20", "water", False),
    ("corrected", "2022-09-01", "2023-01-20", "water", True),
    ("failed_before", "2022-06-30", "2022-06-30", "water", False),
    ("failed_after", "2023-07-01", "2023-07-02", "water", False),
)
SCHOOLS = schooling_of(
    ("dropped_out", "2022-09-01", "2022-10-01", "compulsory", "dropped_out"),
    ("left_senior", "2022-09-01", "2022-10-01", "senior", "dropped_out"),
    ("enrolled", "2022-09-01", "2022-10-01", "compulsory", "enrolled"),
    ("passed", "2022-09-01", "2022-10-01", "compulsory", "enrolled"),
)


def test_a_guarantee_failed():
    tables = make_tables("2023-08-30", check=CHECKS, schooling=SCHOOLS)
    expected = {
        "failed": 1,
        "passed": 0,
        "one_of_two": 1,
        "corrected": 0,  # what is on record in the end
        "failed_before": 0,
        "failed_after": 0,
        "dropped_out": 1,
        "left_senior": 0,
        "enrolled": 0,
        "never_checked": 0,
    }
    assert label(tables, expected, "guarantee_failed") == expected
    late = make_tables("2023-08-29", check=CHECKS, schooling=SCHOOLS)
    assert set(label(late, expected, "guarantee_failed").values()) == {None}


def test_parts_without_a_table_are_said(caplog):
    tables = make_tables("2023-08-30", check=CHECKS)
    with caplog.at_level(logging.WARNING, logger="poverty_risk.labels"):
        found = label(tables, ["failed", "dropped_out"], "guarantee_failed")
    assert found == {"failed": 1, "dropped_out": 0}
    assert "'guarantee_failed' is made without ['dropped_out']" in caplog.text


# household: archive after ACTIVE, income, label of "any".
ANY: Cases = {
    "account_alone": ([], [account()], 0),
    "below": ([], [account(wage=0.0)], 1),
    "nothing": ([], [], None),
    "identified": ([], [], 1),
    "identified_and_account": ([], [account()], 1),
    "check_failed": ([], [account()], 1),
    "moved_with_an_account": ([("2022-12-01", "2022-12-20", "moved")], [account()], None),
    "moved_and_below": ([("2022-12-01", "2022-12-20", "moved")], [account(wage=0.0)], 1),
}


def any_tables(observed_to: str) -> HistoryTables:
    monitoring = [("identified", *FOUND), ("identified_and_account", *FOUND)]
    columns = ["household_id", "event_date", "known_date", "status"]
    return make_tables(
        observed_to,
        TWO_LINES,
        household=frame_of(ANY, 0, (ACTIVE,)),
        income=income_of(ANY),
        monitoring=pd.DataFrame(monitoring, columns=columns),
        check=check_of(("check_failed", "2022-09-01", "2022-09-20", "housing", False)),
        schooling=SCHOOLS,
    )


def test_any_outcome():
    assert label(any_tables("2023-10-29"), ANY, "any") == {k: v[2] for k, v in ANY.items()}


def test_any_waits_for_the_longest_lag():
    """Accounts take 120 days: until then identification alone would be seen, and only as a 1."""
    assert set(label(any_tables("2023-10-28"), ANY, "any").values()) == {None}


def test_any_record_can_be_an_event():
    visited = {
        "kind": "event",
        "table": "visit",
        "where": "True",
        "label": {"zh": "走访", "en": "visit"},
    }
    visits = pd.DataFrame(
        {
            "household_id": ["a", "b"],
            "event_date": ["2022-09-01", "2022-06-01"],
            "known_date": ["2022-09-01", "2022-06-01"],
            "purpose": ["routine", "routine"],
        }
    )
    tables = HistoryTables.from_frames(
        {"visit": visits},
        load_schema("archive").extended({"labels": {"visited": visited}}),
        observed_to="2023-07-01",
    )
    assert label(tables, ["a", "b"], "visited") == {"a": 1, "b": 0}


# Interviews (day, poor); the last 45 days of the horizon begin on 2023-05-17.
INTERVIEWS: dict[str, tuple[list[tuple[str, bool | None]], float | None]] = {
    "poor": ([("2023-06-30", True)], 1),
    "not_poor": ([("2023-06-30", False)], 0),
    "first_day": ([("2023-05-17", True)], 1),
    "a_day_too_early": ([("2023-05-16", True)], None),
    "end_of_the_horizon": ([("2023-07-01", True)], None),
    "poor_earlier": ([("2023-03-31", True), ("2023-06-30", False)], 0),
    "the_last_counts": ([("2023-05-20", True), ("2023-06-20", False)], 0),
    "the_last_answer_counts": ([("2023-05-20", True), ("2023-06-20", None)], 1),
    "no_answer": ([("2023-06-30", None)], None),
    "not_seen_again": ([("2022-06-30", True)], None),
}


def panel_of(observed_to: str) -> HistoryTables:
    rows = [(name, day, poor) for name, case in INTERVIEWS.items() for day, poor in case[0]]
    frame = pd.DataFrame(rows, columns=["household_id", "event_date", "poor"])
    frame = frame.assign(known_date=frame["event_date"], region="cuyo", city="city_10")
    frame["income_to_line"] = frame["poor"].map({True: 0.8, False: 1.4})
    return HistoryTables.from_frames(
        {"interview": frame}, load_schema("eph"), observed_to=observed_to
    )


def test_state_at_the_end_of_the_horizon():
    tables = panel_of("2023-07-01")
    assert tables.rejected.empty
    found = label(tables, INTERVIEWS, "poor_at_12mo")
    assert found == {name: case[1] for name, case in INTERVIEWS.items()}
    early = label(panel_of("2023-06-30"), INTERVIEWS, "poor_at_12mo")
    assert set(early.values()) == {None}


def test_the_state_that_is_labelled_is_measured():
    tables, points = panel_of("2023-07-01"), make_points(INTERVIEWS)
    for definition in ("poor_at_12mo", "poor_within_12mo"):
        labels = label_returns(tables, points, "12mo", definition)
        ratios = measure_returns(tables, points, "12mo", definition)
        expected = labels.map({1.0: 0.8, 0.0: 1.4})
        pd.testing.assert_series_equal(ratios, expected, check_names=False)


def test_the_ratio_is_that_of_the_record_that_is_labelled():
    """Known in the last labelled record it counts, unknown there nothing of another record does."""
    rows = [
        ("answer_lost", "2023-05-20", True, 0.8),
        ("answer_lost", "2023-06-20", None, 1.6),
        ("ratio_lost", "2023-05-20", None, 0.5),
        ("ratio_lost", "2023-06-20", False, None),
        ("both", "2023-05-20", True, 0.7),
        ("both", "2023-06-20", False, 1.2),
    ]
    frame = pd.DataFrame(rows, columns=["household_id", "event_date", "poor", "income_to_line"])
    frame = frame.assign(known_date=frame["event_date"], region="cuyo", city="city_10")
    tables = HistoryTables.from_frames(
        {"interview": frame}, load_schema("eph"), observed_to="2023-07-01"
    )
    points = make_points(["answer_lost", "ratio_lost", "both"])
    at, within = (
        measure_returns(tables, points, "12mo", name).droplevel("as_of_date")
        for name in ("poor_at_12mo", "poor_within_12mo")
    )
    assert at[["answer_lost", "both"]].tolist() == [0.8, 1.2]
    assert within[["answer_lost", "both"]].tolist() == [0.8, 0.7]
    assert at.isna()["ratio_lost"]
    assert within.isna()["ratio_lost"]


def test_state_seen_at_any_time():
    found = label(panel_of("2023-07-01"), INTERVIEWS, "poor_within_12mo")
    changed = {"a_day_too_early": 1, "poor_earlier": 1, "the_last_counts": 1}
    assert found == {name: case[1] for name, case in INTERVIEWS.items()} | changed


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("returned", "label: found 'returned'; expected one of identified, below_line"),
        (
            "identified",
            "label 'identified': found no table 'monitoring'; expected one of household",
        ),
        ("guarantee_failed", "label 'guarantee_failed': found none of its tables"),
        ("any", "label 'any': found none of its tables"),
    ],
)
def test_labels_that_cannot_be_given_are_refused(definition, message):
    tables = make_tables("2023-08-30", household=frame_of(IDENTIFIED, 0, (ACTIVE,)))
    with pytest.raises(LabelError, match=message):
        label_returns(tables, make_points(IDENTIFIED), "12mo", definition)


def test_points_and_horizon_are_checked():
    tables, points = identified_tables(), make_points(IDENTIFIED)
    with pytest.raises(DeclarationError, match="horizon: found '12'"):
        label_returns(tables, points, "12")
    with pytest.raises(FeatureError, match="points: found 1 repeated points"):
        label_returns(tables, pd.concat([points, points.iloc[:1]]))
    with pytest.raises(FeatureError, match=r"points: found index \['household_id'\]"):
        label_returns(tables, points.droplevel("as_of_date"))


def test_no_points_no_labels():
    points = make_points([])
    for definition in ("identified", "any"):
        assert label_returns(any_tables("2023-10-29"), points, "12mo", definition).empty


# What follows says all of the above once more, in pandas, on drawn histories.
KEYS = {
    "household": ["household_id", "event_date"],
    "monitoring": ["household_id", "event_date", "status"],
    "income": ["household_id", "period_start", "period_end"],
    "check": ["household_id", "event_date", "item"],
    "schooling": ["person_id", "event_date"],
}


def last_word(tables: HistoryTables, name: str) -> pd.DataFrame:
    frame = tables[name].sort_values("known_date", kind="stable")
    return frame.drop_duplicates(KEYS[name], keep="last").sort_values(["event_date", "known_date"])


def expect_labels(tables, date, end, observed_to) -> pd.DataFrame:
    """Label of each definition and household at one date."""
    last = {name: last_word(tables, name) for name in KEYS}
    inside = {
        name: frame[(frame["event_date"] >= date) & (frame["event_date"] < end)]
        for name, frame in last.items()
    }
    ids = pd.Index(tables.households)
    lost = ["moved", "dissolved"]
    archive = last["household"]
    before = archive[archive["event_date"] < date].groupby("household_id")["status"].last()
    gone = ids.isin(before.index[before.isin(lost)])
    gone |= ids.isin(inside["household"].query("status in @lost")["household_id"])

    income = inside["income"]
    net = income["wage"] + income["business"] - income["business_cost"]
    net = (net + income["property"] + income["transfer"]) / income["members"].astype(float)
    income = income.assign(below=net < income["period_end"].dt.year.map(LINE))[net.notna()]
    schooling = inside["schooling"]
    schooling = schooling.query("stage == 'compulsory' and status == 'dropped_out'")
    checks = inside["check"]
    failed = ids.isin(checks.loc[~checks["passed"].astype(bool), "household_id"])
    failed |= ids.isin(schooling["household_id"])
    seen = ids.isin(income["household_id"])
    below = ids.isin(income.loc[income["below"], "household_id"])
    found = ids.isin(inside["monitoring"].query("status == 'identified'")["household_id"])
    table = pd.DataFrame(
        {
            "identified": np.where(found, 1.0, np.where(gone, np.nan, 0.0)),
            "below_line": np.where(below, 1.0, np.where(seen, 0.0, np.nan)),
            "guarantee_failed": np.where(failed, 1.0, np.where(gone, np.nan, 0.0)),
            "any": np.where(found | below | failed, 1.0, np.where(gone | ~seen, np.nan, 0.0)),
        },
        index=ids,
    )
    for name, lag in (
        ("identified", 60),
        ("below_line", 120),
        ("guarantee_failed", 60),
        ("any", 120),
    ):
        if end + pd.DateOffset(days=lag) > observed_to:
            table[name] = np.nan
    return table


def test_drawn_histories_agree_with_pandas():
    """Late news, corrections, gaps; the last date is complete for two of the definitions."""
    schema = load_schema("archive")
    frames = draw_frames(schema, seed=8, households=150, rows=4)
    observed_to = pd.Timestamp("2023-12-15")
    tables = HistoryTables.from_frames(
        {name: frames[name] for name in KEYS}, schema, LINE, observed_to=observed_to
    )
    dates = pd.to_datetime(AS_OF)
    points = make_points(tables.households, AS_OF)
    expected = {
        date: expect_labels(tables, date, date + pd.DateOffset(months=6), observed_to)
        for date in dates
    }
    for definition in ("identified", "below_line", "guarantee_failed", "any"):
        found = label_returns(tables, points, "6mo", definition)
        assert found.nunique() == 2
        for date in dates:
            pd.testing.assert_series_equal(
                found.xs(date, level="as_of_date"),
                expected[date][definition],
                check_names=False,
                obj=f"{definition} on {date.date()}",
            )
    last = expected[dates[2]]
    assert last.notna().any().to_dict() == {
        "identified": True,
        "below_line": False,
        "guarantee_failed": True,
        "any": False,
    }
