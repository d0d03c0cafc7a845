"""Helped households: who they are, and the guards for training on their outcomes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from poverty_risk import (
    HistoryTables,
    build_features,
    build_prediction_points,
    find_help,
    guard_helped,
    label_returns,
    load_catalog,
    load_schema,
    make_household_history,
)
from poverty_risk.config import Task
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.helped import GUARDS
from poverty_risk.workflows import training

AS_OF = pd.Timestamp("2023-01-01")


def help_record(household, began, known, ended=None):
    record = {"household_id": household, "event_date": began, "known_date": known}
    return record | {"kind": "dibao", "amount": 300.0, "valid_to": ended}


@pytest.fixture(scope="module")
def recorded():
    records = [
        help_record("before", "2022-06-01", "2022-06-20"),
        help_record("ended", "2022-03-01", "2022-03-20", "2022-09-30"),
        help_record("unknown", "2022-12-20", "2023-01-10"),
        help_record("within", "2023-03-01", "2023-03-20"),
        help_record("after", "2024-01-01", "2024-01-20"),
    ]
    frame = pd.DataFrame(records)
    for name in ("event_date", "known_date", "valid_to"):
        frame[name] = pd.to_datetime(frame[name])
    tables = {"assistance": frame}
    return HistoryTables.from_frames(tables, load_schema("archive"), observed_to="2025-01-01")


def points_of(*households):
    index = pd.MultiIndex.from_product([households, [AS_OF]], names=["household_id", "as_of_date"])
    return pd.DataFrame(index=index)


def test_help_before_and_within(recorded):
    names = ["before", "ended", "unknown", "within", "after", "nobody"]
    found = find_help(recorded, points_of(*names)).droplevel("as_of_date")
    assert found.index[found["before"]].tolist() == ["before"]
    assert found.index[found["within"]].tolist() == ["within"]
    # The end of the horizon does not belong to it.
    longer = find_help(recorded, points_of(*names), "13mo").droplevel("as_of_date")
    assert longer.index[longer["within"]].tolist() == ["within", "after"]


@pytest.mark.parametrize(
    ("method", "left"),
    [
        ("none", ["before", "before1", "within", "within1", "nobody"]),
        ("censor", ["before", "before1", "within1", "nobody"]),
        ("exclude", ["within1", "nobody"]),
    ],
)
def test_who_is_left(monkeypatch, recorded, method, left):
    names = ["before", "before1", "within", "within1", "nobody", "censored"]
    labels = pd.Series([0.0, 1.0, 0.0, 1.0, 0.0, np.nan], index=points_of(*names).index)
    found = pd.DataFrame({"before": False, "within": False}, index=labels.index)
    found.loc[["before", "before1"], "before"] = True
    found.loc[["within", "within1"], "within"] = True
    monkeypatch.setattr(
        "poverty_risk.helped.find_help", lambda tables, points, horizon: found.loc[points.index]
    )
    rows = guard_helped(recorded, labels, method=method)
    assert rows.index.get_level_values("household_id").tolist() == left
    assert (rows["weight"] == 1.0).all()
    assert rows["label"].equals(labels.loc[rows.index].rename("label"))


def test_those_left_stand_for_those_helped(monkeypatch, recorded):
    rng = np.random.default_rng(0)
    poor = np.tile([1.0, 0.0], 1000)
    labels = pd.Series(
        (rng.random(2000) < 0.3).astype(float),
        index=points_of(*[f"H{i}" for i in range(2000)]).index,
    )
    helped = pd.DataFrame(
        {"before": rng.random(2000) < np.where(poor, 0.6, 0.1), "within": False},
        index=labels.index,
    )
    monkeypatch.setattr(
        "poverty_risk.helped.find_help", lambda tables, points, horizon: helped.loc[points.index]
    )
    features = pd.DataFrame({"poor": poor}, index=labels.index)
    rows = guard_helped(recorded, labels, method="weigh", features=features)
    assert not helped.loc[rows.index, "before"].any()
    assert rows["weight"].mean() == pytest.approx(1.0)
    share = np.average(features.loc[rows.index, "poor"], weights=rows["weight"])
    assert share == pytest.approx(0.5, abs=0.03)
    assert features.loc[rows.index, "poor"].mean() < 0.4


def test_guards_on_a_county():
    county = make_household_history(400, "2021-01-01", "2024-01-01", seed=2)
    tables, catalog = county.tables, load_catalog("archive")
    points = build_prediction_points(tables, "2022-07-01")
    labels = label_returns(tables, points, "12mo", "any")
    features = build_features(tables, points, catalog)
    rows = {
        method: guard_helped(tables, labels, method=method, features=features, catalog=catalog)
        for method in GUARDS
    }
    sizes = {method: len(table) for method, table in rows.items()}
    assert sizes["none"] > sizes["censor"] > sizes["exclude"] == sizes["weigh"] > 0
    assert rows["weigh"]["weight"].std() > 0
    assert rows["weigh"].index.equals(rows["exclude"].index)
    again = guard_helped(tables, labels, method="weigh", features=features, catalog=catalog)
    pd.testing.assert_frame_equal(again, rows["weigh"])


def test_what_cannot_be_guarded_is_told(recorded):
    labels = pd.Series([0.0, 1.0], index=points_of("before", "nobody").index)
    with pytest.raises(DeclarationError, match="method: found 'drop'"):
        guard_helped(recorded, labels, method="drop")
    with pytest.raises(DeclarationError, match="those that tell who gets help"):
        guard_helped(recorded, labels, method="weigh")
    with pytest.raises(FeatureError, match="no household without help"):
        guard_helped(recorded, labels.iloc[:1], method="exclude")
    empty = pd.DataFrame({"household_id": ["a"], "event_date": [AS_OF], "known_date": [AS_OF]})
    frame = empty.assign(status="active", township_id="T1", village_id="V1")
    bare = HistoryTables.from_frames({"household": frame}, load_schema("archive"))
    with pytest.raises(FeatureError, match="declares as treatment"):
        find_help(bare, labels)


def test_true_risk_without_help_is_higher_for_those_who_get_it():
    county = make_household_history(500, "2021-01-01", "2023-07-01", seed=2)
    points = build_prediction_points(county.tables, "2023-01-01")
    helped = find_help(county.tables, points)["before"].to_numpy()
    assert helped.sum() > 20
    with_help = county.true_risk(points, "6mo", replicates=8)["true_risk"]
    without = county.true_risk(points, "6mo", replicates=8, helped=False)["true_risk"]
    gain = without - with_help
    assert gain[helped].mean() > 3 * abs(gain[~helped].mean())
    assert gain[helped].mean() > 0


class Learner:
    """Keeps what it is fitted on."""

    catalog = None

    def fit(self, *arguments, **named):
        self.fitted, self.named = arguments, named


@pytest.mark.parametrize("method", GUARDS)
def test_training_learns_from_what_the_guard_leaves(recorded, method):
    names = ["before", "within", "nobody", "after"]
    labels = pd.Series([0.0, 0.0, 1.0, 0.0], index=points_of(*names).index, name="label")
    features = pd.DataFrame({"income": [1.0, 2.0, 3.0, 4.0]}, index=labels.index)
    scored, groups = labels == 1.0, pd.Series(list("abcd"), index=labels.index)
    data = SimpleNamespace(train=features, train_labels=labels, scored=scored)
    task, model = Task(cohort="at_risk", label="identified", help_guard=method), Learner()
    training._fit_guarded(model, recorded, task, data, groups)
    own, target, weight = model.fitted
    expected = {"none": names, "censor": ["before", "nobody", "after"]}.get(method, names[2:])
    assert own.index.get_level_values("household_id").tolist() == expected
    for values in (target, model.named["scored"], model.named["groups"]):
        assert values.index.equals(own.index)
    assert (weight is None) == (method == "none")


def test_training_grades_what_the_guard_leaves(monkeypatch, recorded):
    labels = pd.Series([0.0, 1.0], index=points_of("before", "nobody").index, name="label")
    ratios = pd.Series([1.25, 0.8], index=labels.index)
    asked = []

    def measure(tables, points, *how):
        asked.append((points.index, how))
        return ratios.loc[points.index]

    monkeypatch.setattr(training, "measure_returns", measure)
    data = SimpleNamespace(train=labels.to_frame(), train_labels=labels, scored=labels == 1.0)
    model = Learner()
    task = Task(cohort="at_risk", label="below_line", help_guard="exclude", graded=0.5)
    training._fit_guarded(model, recorded, task, data, None)
    assert asked[0][1] == ("12mo", "below_line")
    assert asked[0][0].get_level_values("household_id").tolist() == ["nobody"]
    assert model.named["graded"].tolist() == pytest.approx([0.672], abs=1e-3)
    training._fit_guarded(model, recorded, Task(cohort="at_risk", label="below_line"), data, None)
    assert model.named["graded"] is None
