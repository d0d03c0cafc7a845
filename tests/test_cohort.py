"""Who is at risk on a date, as the office knew it then and not as it turned out."""

import numpy as np
import pandas as pd
import pytest

from drawing import AS_OF, LINE, draw_frames
from poverty_risk.cohort import build_prediction_points, find_groups, review_cohort
from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

DATE = "2022-07-01"

# One household each: (event, known, status) of the archive and of monitoring, and what keeps it out.
ACTIVE = ("2020-01-01", "2020-01-05", "active")
FOUND = ("2022-03-01", "2022-03-20", "identified")
CASES: dict[str, tuple[list[tuple[str, str, str]], list[tuple[str, str, str]], str | None]] = {
    "active": ([ACTIVE], [], None),
    "known_on_the_date": ([("2022-06-01", "2022-07-01", "active")], [], "not_active"),
    "known_the_day_before": ([("2022-06-01", "2022-06-30", "active")], [], None),
    "moved": ([ACTIVE, ("2022-06-01", "2022-06-30", "moved")], [], "not_active"),
    "moved_known_on_the_date": ([ACTIVE, ("2022-06-01", "2022-07-01", "moved")], [], None),
    "moved_known_much_later": ([ACTIVE, ("2021-06-01", "2023-07-01", "moved")], [], None),
    "dissolved": ([ACTIVE, ("2021-06-01", "2021-07-01", "dissolved")], [], "not_active"),
    "came_back": (
        [ACTIVE, ("2021-02-01", "2021-03-01", "moved"), ("2021-09-01", "2021-10-01", "active")],
        [],
        None,
    ),
    # What happened last counts, not what was heard of last.
    "old_news": (
        [("2021-02-01", "2022-05-01", "moved"), ("2021-09-01", "2021-10-01", "active")],
        [],
        None,
    ),
    "no_archive": ([], [("2022-03-01", "2022-03-20", "cleared")], "not_active"),
    "identified": ([ACTIVE], [FOUND], "currently_monitored"),
    "identified_the_day_before": (
        [ACTIVE],
        [("2022-06-30", "2022-06-30", "identified")],
        "currently_monitored",
    ),
    "identified_known_on_the_date": ([ACTIVE], [("2022-06-01", "2022-07-01", "identified")], None),
    "identified_known_later": ([ACTIVE], [("2022-06-01", "2022-08-01", "identified")], None),
    "identified_later": ([ACTIVE], [("2022-09-01", "2022-09-10", "identified")], None),
    "cleared": ([ACTIVE], [FOUND, ("2022-05-01", "2022-05-10", "cleared")], None),
    "cleared_known_later": (
        [ACTIVE],
        [FOUND, ("2022-05-01", "2022-07-01", "cleared")],
        "currently_monitored",
    ),
    "identified_again": (
        [ACTIVE],
        [
            ("2021-03-01", "2021-03-20", "identified"),
            ("2021-10-01", "2021-10-10", "cleared"),
            FOUND,
        ],
        "currently_monitored",
    ),
    "moved_and_monitored": (
        [ACTIVE, ("2022-06-01", "2022-06-02", "moved")],
        [FOUND],
        "not_active",  # the first condition that fails
    ),
    # The same fact, corrected: before the date it counts, on the date it does not yet.
    "corrected": (
        [("2020-01-01", "2020-01-05", "moved"), (*ACTIVE[:1], "2022-06-30", "active")],
        [],
        None,
    ),
    "corrected_on_the_date": (
        [("2020-01-01", "2020-01-05", "moved"), (*ACTIVE[:1], "2022-07-01", "active")],
        [],
        "not_active",
    ),
}


def rows(number: int) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            (household, event, known, status)
            for household, case in CASES.items()
            for event, known, status in case[number]
        ],
        columns=["household_id", "event_date", "known_date", "status"],
    )
    return frame if number else frame.assign(township_id="t1", village_id="v1")


def make_tables(extra: dict | None = None, **frames: pd.DataFrame) -> HistoryTables:
    schema = load_schema("archive")
    return HistoryTables.from_frames(frames, schema if extra is None else schema.extended(extra))


def archive_of(*records: tuple[str, str, str, str, str, str]) -> pd.DataFrame:
    columns = ["household_id", "event_date", "known_date", "status", "township_id", "village_id"]
    return pd.DataFrame(list(records), columns=columns)


@pytest.fixture(scope="module")
def tables() -> HistoryTables:
    made = make_tables(household=rows(0), monitoring=rows(1))
    assert made.rejected.empty
    return made


@pytest.fixture(scope="module")
def reviewed(tables) -> dict[str, str | None]:
    found = review_cohort(tables, DATE)["exclusion"].droplevel("as_of_date")
    return found.astype(object).where(found.notna(), None).to_dict()


@pytest.mark.parametrize("household", list(CASES))
def test_membership_is_judged_by_what_was_known(reviewed, household):
    assert reviewed[household] == CASES[household][2]


def test_points_are_the_members_in_order(tables):
    dates = ["2022-07-01", "2021-07-01", "2022-07-01"]
    points = build_prediction_points(tables, dates)
    assert points.index.names == ["household_id", "as_of_date"]
    assert points.index.is_unique
    ordered = points.index.to_frame(index=False).sort_values(["as_of_date", "household_id"])
    assert points.index.tolist() == list(ordered.itertuples(index=False, name=None))
    assert list(points.columns) == ["township_id", "village_id"]
    everyone = review_cohort(tables, dates)
    assert len(everyone) == 2 * len(CASES)
    members = everyone.index[everyone["exclusion"].isna()]
    assert points.index.equals(members)


def test_each_date_has_its_own_members(tables):
    points = build_prediction_points(tables, ["2021-07-01", "2022-07-01", "2022-08-01"])
    members = points.index.to_frame(index=False).groupby("household_id")["as_of_date"].apply(list)
    july = [pd.Timestamp("2021-07-01"), pd.Timestamp("2022-07-01"), pd.Timestamp("2022-08-01")]
    assert members["active"] == july
    assert members["moved"] == july[:1]
    assert members["moved_known_on_the_date"] == july[:2]
    assert members["identified_known_on_the_date"] == july[:2]
    assert members["cleared_known_later"] == [july[0], july[2]]
    assert members["known_on_the_date"] == july[2:]


def test_knowing_less_changes_no_member(tables):
    """The archive as it stood that day gives the same points as the whole one."""
    then = tables.known_before(DATE)
    expected = build_prediction_points(tables, DATE)
    pd.testing.assert_frame_equal(build_prediction_points(then, DATE), expected)


def test_only_the_households_asked_for(tables):
    asked = ["moved", "nobody", "active", "active"]
    found = review_cohort(tables, DATE, households=asked)["exclusion"].droplevel("as_of_date")
    assert found.index.tolist() == ["active", "moved", "nobody"]
    assert found.isna().tolist() == [True, False, False]
    assert found["nobody"] == "not_active"
    lone = build_prediction_points(tables, DATE, households="cleared")
    assert lone.index.tolist() == [("cleared", pd.Timestamp(DATE))]
    assert build_prediction_points(tables, DATE, households=[]).empty


def test_groups_are_those_known_then():
    tables = make_tables(
        household=archive_of(
            ("a", "2020-01-01", "2020-01-05", "active", "t1", "v1"),
            ("a", "2022-01-01", "2022-07-01", "active", "t2", "v2"),
            ("b", "2022-06-30", "2022-07-01", "active", "t2", "v3"),
        )
    )
    dates = pd.to_datetime(["2022-07-01", "2022-07-02"])
    index = pd.MultiIndex.from_product(
        [["b", "a", "c"], dates], names=["household_id", "as_of_date"]
    )
    groups = find_groups(tables, index)
    assert groups.index.equals(index)
    assert groups.loc["a", "village_id"].tolist() == ["v1", "v2"]
    assert groups.loc["a", "township_id"].tolist() == ["t1", "t2"]
    assert groups.loc["b", "village_id"].isna().tolist() == [True, False]
    assert groups.loc["c"].isna().all(axis=None)


def test_groups_without_their_table_are_missing():
    only = make_tables(monitoring=rows(1))
    index = pd.MultiIndex.from_tuples(
        [("cleared", pd.Timestamp(DATE))], names=["household_id", "as_of_date"]
    )
    assert find_groups(only, index).isna().all(axis=None)


def test_a_table_that_may_be_absent_keeps_households():
    alone = make_tables(household=rows(0))
    found = review_cohort(alone, DATE)["exclusion"].dropna()
    expected = {name for name, case in CASES.items() if case[2] == "not_active" and case[0]}
    assert set(found.droplevel("as_of_date").index) == expected
    assert set(found) == {"not_active"}


def test_a_table_that_must_be_there_is_missed():
    with pytest.raises(HistoryError, match="cohort condition 'not_active': found no table"):
        build_prediction_points(make_tables(monitoring=rows(1)), DATE)


def test_unknown_cohort_and_dates_are_named(tables):
    with pytest.raises(DeclarationError, match="cohort: found 'rich'; expected one of at_risk"):
        build_prediction_points(tables, DATE, cohort="rich")
    with pytest.raises(DeclarationError, match="as_of_date: found .*whole days"):
        build_prediction_points(tables, "2022-07-01T08:00")


def condition(**keys: str) -> dict:
    return {"cohorts": {"tried": [{"reason": "out", **keys}]}}


@pytest.mark.parametrize(
    ("event", "inside"),
    [("2022-06-30", True), ("2022-06-01", True), ("2022-05-31", False), ("2022-07-01", False)],
)
def test_a_record_must_be_recent_where_that_is_asked(event, inside):
    """Within 30 days before 1 July: from 1 June on."""
    recent = condition(table="household", where="status == 'active'", within="30d")
    tables = make_tables(recent, household=archive_of(("a", event, event, "active", "t1", "v1")))
    assert len(build_prediction_points(tables, DATE, "tried")) == int(inside)


def test_an_undecidable_record_is_not_met_whatever_absence_means():
    """Land of 2 mu, of none, not recorded, no archive: two keep what absence keeps."""
    archive = archive_of(
        *[
            (name, "2020-01-01", "2020-01-01", "active", "t1", "v1")
            for name in ("two", "zero", "gap")
        ]
    ).assign(cultivated_land=[2.0, 0.0, None])
    other = rows(1).head(1).assign(household_id="none")
    for absent, expected in (("keep", ["none", "two"]), ("drop", ["two"])):
        land = condition(table="household", where="cultivated_land > 0", if_absent=absent)
        tables = make_tables(land, household=archive, monitoring=other)
        points = build_prediction_points(tables, DATE, "tried")
        assert points.index.get_level_values("household_id").tolist() == expected


def test_any_known_record_can_be_enough():
    recorded = condition(table="monitoring", where="True", if_absent="drop")
    found = build_prediction_points(
        make_tables(recorded, household=rows(0), monitoring=rows(1)), DATE, "tried"
    )
    expected = {name for name, case in CASES.items() if any(r[1] < DATE for r in case[1])}
    assert set(found.index.get_level_values("household_id")) == expected


def test_a_condition_on_the_village():
    """Households read their own village's record, the village known at the date."""
    archive = archive_of(
        *[(name, "2020-01-01", "2020-01-01", "active", "t1", village)
          for name, village in (("paved", "v1"), ("unpaved", "v2"), ("unrecorded", "v3"))]
    )  # fmt: skip
    village = pd.DataFrame(
        {
            "village_id": ["v1", "v2", "v2"],
            "event_date": ["2021-12-31", "2020-12-31", "2021-12-31"],
            "known_date": ["2022-02-01", "2021-02-01", "2022-07-01"],
            "paved_road": [True, False, True],
        }
    )
    for absent, expected in (("keep", ["paved", "unrecorded"]), ("drop", ["paved"])):
        road = condition(table="village", where="paved_road", if_absent=absent)
        points = build_prediction_points(
            make_tables(road, household=archive, village=village), DATE, "tried"
        )
        assert points.index.get_level_values("household_id").tolist() == expected


def latest_known(records: pd.DataFrame, key: list[str], date: pd.Timestamp) -> pd.Series:
    """Written anew with pandas: each household's last status among what was known."""
    known = records[records["known_date"] < date]
    known = known.sort_values("known_date", kind="stable").drop_duplicates(key, keep="last")
    ordered = known.sort_values(["event_date", "known_date", "status"], kind="stable")
    return ordered.groupby("household_id")["status"].last()


def test_a_drawn_archive_agrees_with_pandas():
    """Late news, corrections and gaps of 80 households, three dates."""
    schema = load_schema("archive")
    frames = draw_frames(schema, seed=4, households=80, rows=5)
    tables = HistoryTables.from_frames(
        {name: frames[name] for name in ("household", "monitoring")}, schema
    )
    reviewed = review_cohort(tables, AS_OF)["exclusion"]
    monitored = ["household_id", "event_date", "status"]
    for date in pd.to_datetime(AS_OF):
        archive = latest_known(tables["household"], monitored[:2], date).reindex(tables.households)
        status = latest_known(tables["monitoring"], monitored, date).reindex(tables.households)
        expected = np.where(
            archive != "active",
            "not_active",
            np.where(status == "identified", "currently_monitored", "member"),
        )
        found = reviewed.xs(date, level="as_of_date").reindex(tables.households).fillna("member")
        assert found.tolist() == expected.tolist()
        assert set(expected) == {"not_active", "currently_monitored", "member"}


# ------------------------------------------------------------------------------- arrays and queries

DRAWN = {
    "cohorts": {
        "drawn": [
            {"table": "visit", "where": "days_since(event_date) > 30", "within": "365d",
             "if_absent": "drop", "reason": "late visit"},
            {"table": "village", "where": "not is_missing(village_id)", "if_absent": "keep",
             "reason": "village"},
            {"table": "income", "where": "wage > line(event_date)", "if_absent": "keep",
             "reason": "income"},
        ]
    },
    "tables": {},
}  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_arrays_and_queries_agree_on_drawn_histories(seed):
    schema = load_schema("archive").extended(DRAWN, "test")
    tables = HistoryTables.from_frames(draw_frames(schema, seed), schema, LINE)
    asked = [*tables.households[::2], "stranger"]
    reasons = set()
    for cohort in schema.cohorts:
        for households in (None, asked, asked[:1]):
            found, expected = (
                review_cohort(tables, [*AS_OF, "2015-06-30"], cohort, households, engine=engine)
                for engine in ("arrays", "sql")
            )
            pd.testing.assert_frame_equal(found, expected)
            reasons |= set(found["exclusion"].dropna())
    assert {"late visit", "income"} <= reasons
