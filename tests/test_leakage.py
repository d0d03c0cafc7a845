"""Leakage: planted leaks are named, honest features are not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from poverty_risk import windows
from poverty_risk.cohort import build_prediction_points
from poverty_risk.exceptions import FeatureError
from poverty_risk.features import Catalog, FeatureSpec, build_features, queries
from poverty_risk.labels import label_returns
from poverty_risk.leakage import LeakageReport, check_leakage
from poverty_risk.leakage.statistics import _rank_auc, _rate_per_code
from poverty_risk.schema import load_schema
from poverty_risk.tables import HistoryTables

DATES = ["2022-01-01", "2022-07-01"]
HOUSEHOLDS = 240


def make_frames(seed: int = 0) -> dict[str, pd.DataFrame]:
    """A tiny archive: every sixth household becomes identified; shocks are reported a month late."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"h{number:04d}" for number in range(HOUSEHOLDS)])
    start = pd.Timestamp("2020-01-05")
    household = pd.DataFrame({"household_id": ids, "event_date": start})
    household["known_date"] = start + pd.Timedelta(days=20)
    household["township_id"], household["village_id"] = "t1", "v1"
    household["status"] = "active"
    household["household_type"] = rng.choice(["lifted", "ordinary"], HOUSEHOLDS)

    count = 6 * HOUSEHOLDS
    shock = pd.DataFrame({"household_id": rng.choice(ids, count)})
    shock["event_date"] = start + pd.to_timedelta(rng.integers(0, 1200, count), "D")
    shock["known_date"] = shock["event_date"] + pd.to_timedelta(rng.integers(5, 60, count), "D")
    shock["kind"] = rng.choice(["flood", "drought", "accident"], count)
    shock["loss"] = rng.integers(100, 9000, count).astype(float)

    positives = ids[::6]
    monitoring = pd.DataFrame({"household_id": positives})
    monitoring["event_date"] = pd.Timestamp("2022-08-01") + pd.to_timedelta(
        rng.integers(0, 120, len(positives)), "D"
    )
    monitoring["known_date"] = monitoring["event_date"] + pd.Timedelta(days=30)
    monitoring["status"] = "identified"
    return {"household": household, "shock": shock, "monitoring": monitoring}


def make_catalog() -> Catalog:
    common = {"table": "shock", "theme": "shock"}
    return Catalog(
        [
            FeatureSpec(stem="shock", aggregator="count", lookback="365d", **common),
            FeatureSpec(stem="loss", value="loss", aggregator="sum", lookback="730d", **common),
            FeatureSpec(stem="old_loss", value="loss", aggregator="last", lag="180d", **common),
            FeatureSpec(
                stem="type",
                table="household",
                value="household_type",
                aggregator="last",
                kind="category",
                theme="other",
            ),
            FeatureSpec(
                stem="loss_per_shock", formula="loss_sum_730d / shock_count_365d", theme="shock"
            ),
        ],
        "archive",
        "test",
    )


class Case:
    """Points, labels and honest features of one archive."""

    def __init__(self, frames: dict[str, pd.DataFrame]) -> None:
        self.tables = HistoryTables.from_frames(
            frames, load_schema("archive"), observed_to="2024-01-01"
        )
        self.points = build_prediction_points(self.tables, DATES)
        self.labels = label_returns(self.tables, self.points, "12mo", "identified")
        self.catalog = make_catalog()
        self.features = build_features(self.tables, self.points, self.catalog)

    def check(self, features: pd.DataFrame | None = None, **options: object) -> LeakageReport:
        return check_leakage(
            self.tables,
            self.points,
            self.labels,
            self.features if features is None else features,
            self.catalog,
            label="identified",
            households=120,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(make_frames())


def find(report: LeakageReport, check: str, about: str) -> pd.Series:
    table = report.table
    hits = table[
        (table["check"] == check) & ((table["feature"] == about) | (table["table"] == about))
    ]
    assert len(hits) == 1
    return hits.iloc[0]


def test_honest_features_have_no_leak(case: Case) -> None:
    report = case.check()
    assert not report.has_leaks
    assert report.leaking_features == ()
    rebuilt = report.table[report.table["check"].str.startswith("unknown_")]
    assert len(rebuilt) == 2 * len(case.catalog)
    assert set(rebuilt["verdict"]) == {"ok"}
    assert set(report.table["verdict"]) <= {"ok", "suspect", "untested"}


def test_report_does_not_name_households(case: Case) -> None:
    report = case.check()
    text = report.to_text() + report.table.to_csv()
    assert not any(household in text for household in case.tables.households)


def test_column_that_holds_the_label_is_a_leak(case: Case) -> None:
    planted = case.features.assign(
        outcome=case.labels.fillna(0.0),
        opposite=-case.labels.fillna(0.0),
        noted=np.where(case.labels == 1.0, 5.0, np.nan),
        coded=pd.Categorical(np.where(case.labels == 1.0, "b", "a")),
    )
    report = case.check(planted)
    assert set(report.leaking_features) == {"outcome", "opposite", "noted", "coded"}
    assert find(report, "auc", "outcome")["value"] == 1.0
    assert find(report, "auc_missing", "noted")["verdict"] == "leak"
    assert find(report, "unknown_removed", "outcome")["verdict"] == "suspect"
    assert "outcome" in report.to_text()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A build that takes whatever happened, whether or not anybody knew."""
    queries._compile_cached.cache_clear()
    monkeypatch.setattr(
        windows, "is_known", lambda known, superseded, as_of: known.notnull() | superseded.isnull()
    )
    yield
    monkeypatch.undo()
    queries._compile_cached.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_build_that_forgets_the_known_date_is_named(case: Case) -> None:
    leaking = build_features(case.tables, case.points, case.catalog, engine="sql")
    report = case.check(leaking)
    expected = {"shock_count_365d", "loss_sum_730d", "loss_per_shock"}
    assert set(report.leaking_features) == expected
    assert find(report, "unknown_removed", "shock_count_365d")["value"] > 0
    assert find(report, "unknown_exchanged", "loss_sum_730d")["verdict"] == "leak"
    # What stops 180 days before, and what is known long before, cannot differ.
    assert find(report, "unknown_removed", "old_loss_last_ever_lag180d")["verdict"] == "ok"
    assert find(report, "unknown_removed", "type_last_ever")["verdict"] == "ok"


def test_features_of_another_history_are_named(case: Case) -> None:
    stale = case.features.copy()
    stale["loss_sum_730d"] += 1.0
    assert case.check(stale).leaking_features == ("loss_sum_730d",)


def test_known_dates_copied_from_event_dates_are_suspect() -> None:
    frames = make_frames()
    frames["shock"]["known_date"] = frames["shock"]["event_date"]
    report = Case(frames).check()
    assert find(report, "known_same_day", "shock")["verdict"] == "suspect"
    assert find(report, "known_same_day", "shock")["value"] == 1.0
    assert find(report, "median_lag_days", "household")["value"] == 20.0
    assert find(report, "known_same_day", "household")["verdict"] == "ok"


def test_known_dates_of_an_export_are_suspect() -> None:
    frames = make_frames()
    frames["shock"]["known_date"] = pd.Timestamp("2023-12-01")
    report = Case(frames).check()
    late = find(report, "known_after_horizon", "shock")
    assert late["verdict"] == "suspect"
    assert late["value"] > 0.5


def test_table_written_because_of_the_outcome_is_suspect() -> None:
    frames = make_frames()
    visit = frames["monitoring"][["household_id", "event_date", "known_date"]].copy()
    visit["purpose"] = "alert"
    report = Case(frames | {"visit": visit}).check()
    assert find(report, "records_in_horizon_auc", "visit")["verdict"] == "suspect"
    assert find(report, "positive_share_of_holders", "visit")["value"] == 1.0
    assert find(report, "positive_share_of_holders", "visit")["verdict"] == "suspect"
    # The outcome's own table follows the outcome by definition.
    assert "records_in_horizon_auc" not in set(
        report.table.loc[report.table["table"] == "monitoring", "check"]
    )


@pytest.mark.parametrize(("auc", "verdict"), [(0.80, "ok"), (0.90, "suspect"), (0.96, "leak")])
def test_whole_model_too_good_to_be_true(case: Case, auc: float, verdict: str) -> None:
    report = case.check(auc=auc)
    row = report.table[report.table["check"] == "model_auc"].iloc[0]
    assert row["verdict"] == verdict
    assert report.has_leaks == (verdict == "leak")


def test_too_few_positives_are_untested_not_ok(case: Case) -> None:
    labels = case.labels.copy()
    labels[labels == 1.0] = np.nan
    labels.iloc[:3] = 1.0
    report = check_leakage(
        case.tables, case.points, labels, case.features, case.catalog, households=20
    )
    assert find(report, "auc", "shock_count_365d")["verdict"] == "untested"
    assert not report.has_leaks


def test_nothing_unknown_is_untested_not_ok() -> None:
    frames = make_frames()
    del frames["monitoring"]
    frames["shock"] = frames["shock"][frames["shock"]["known_date"] < "2022-01-01"]
    tables = HistoryTables.from_frames(frames, load_schema("archive"), observed_to="2024-01-01")
    points = build_prediction_points(tables, DATES)
    features = build_features(tables, points, make_catalog())
    labels = pd.Series(0.0, index=points.index)
    report = check_leakage(tables, points, labels, features, make_catalog(), households=20)
    assert find(report, "unknown_removed", "shock_count_365d")["verdict"] == "untested"


def test_other_points_are_refused(case: Case) -> None:
    with pytest.raises(FeatureError, match="2 problems"):
        check_leakage(
            case.tables, case.points, case.labels.iloc[1:], case.features.iloc[1:], case.catalog
        )


def test_rows_in_another_order_give_the_same_report(case: Case) -> None:
    shuffled = case.features.sample(frac=1.0, random_state=1)
    pd.testing.assert_frame_equal(case.check(shuffled).table, case.check().table)


def test_rank_auc_by_hand() -> None:
    positive = np.array([True, False, True, False])
    # Pairs (3,1) won, (3,2) won, (2,1) won, (2,2) tied: 3.5 of 4.
    assert _rank_auc(np.array([3.0, 1.0, 2.0, 2.0]), positive) == pytest.approx(3.5 / 4)


def test_rate_per_code_leaves_its_own_fold_out() -> None:
    codes = np.array([0, 0, 1, 1])
    positive = np.array([True, False, False, False])
    folds = np.array([0, 1, 0, 1])
    # Fold 0 learns from rows 1 and 3 (no positives): rate 0. Fold 1 learns from rows 0 and 2:
    # overall 1/2, code 0 (1 + 10/2) / 11, code 1 (0 + 10/2) / 11.
    expected = [0.0, 6 / 11, 0.0, 5 / 11]
    assert _rate_per_code(codes, positive, folds) == pytest.approx(expected)
