"""Choices on past periods: nothing later is seen, searches go on where they stopped, runs are nested."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from poverty_risk import (
    Candidate,
    PredictionTask,
    RiskModel,
    build_panel,
    compare_candidates,
    tune_model,
)
from poverty_risk.candidates import fit_candidate, read_candidates, weigh
from poverty_risk.config import load_config
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import DeclarationError, LabelError, PovertyRiskError
from poverty_risk.labels import grade_labels, label_returns, measure_returns
from poverty_risk.ranking import Ranking
from poverty_risk.search_space import SearchSpace, read_search_space
from poverty_risk.selection import evaluate_over_time
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking.tuning import log_comparison, open_search_log
from poverty_risk.tuning import name_search
from poverty_risk.workflows.tuning import write_tuned_config
from small_county import pick_features

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)
CONFIGS = Path(__file__).parents[1] / "configs"
PERIODS = [pd.Timestamp(day) for day in ("2021-01-01", "2022-01-01", "2022-10-01")]
MEASURED = [pd.Timestamp(day) for day in ("2021-08-01", "2022-08-01")]
DATES = pd.date_range("2020-01-01", "2021-07-01", freq="3MS")
FEW = {"n_estimators": 15, "learning_rate": 0.2, "min_child_samples": 10, "n_jobs": 1}
SPACE = SearchSpace(
    trials=6,
    startup=3,
    warm_up=0,
    periods=PERIODS,
    model={"num_leaves": {"low": 2, "high": 12}, "colsample": {"low": 0.2, "high": 0.9}},
)
CANDIDATES = {
    "trees": Candidate(),
    "regression": Candidate(model={"logistic": 1.0}),
    "both": Candidate(model={"logistic": 0.5}, horizons=["6mo", "3mo"]),
    "recent": Candidate(half_life="6mo", positives=3.0),
}


@pytest.fixture(scope="module")
def tables():
    return make_household_history(400, start="2019-01-01", end="2023-07-01", seed=3).tables


@pytest.fixture(scope="module")
def panel(tables):
    task = PredictionTask(tables.schema, "at_risk", "guarantee_failed", "6mo", tables.line)
    return build_panel(
        tables, task, pick_features(), DATES, PERIODS, horizons=["3mo"], cluster="village_id"
    )


@pytest.fixture(scope="module")
def comparison(panel):
    return compare_candidates(panel, CANDIDATES, "trees", settings=FEW, replicates=40, seed=5)


# -------------------------------------------------------------------------------------- time order


def test_a_period_knows_only_labels_that_were_complete_before_it(panel):
    lag = panel.task.schema.reporting_lag_days("guarantee_failed")
    for period, known in panel.known.items():
        for horizon, months in (("6mo", 6), ("3mo", 3)):
            labels = known[horizon].dropna()
            dates = pd.DatetimeIndex(labels.index.get_level_values("as_of_date")).unique()
            complete = dates + pd.DateOffset(months=months) + pd.Timedelta(days=lag)
            assert (complete <= period).all()
            # Nothing that was known is left out.
            ready = DATES + pd.DateOffset(months=months) + pd.Timedelta(days=lag) <= period
            assert set(dates) == set(DATES[ready])


def test_a_shorter_horizon_is_known_earlier(panel):
    known = panel.known[PERIODS[0]]
    last = {h: known[h].dropna().index.get_level_values("as_of_date").max() for h in ("6mo", "3mo")}
    assert last["3mo"] > last["6mo"]


def test_labels_of_a_period_are_those_that_the_archive_gave_then(tables, panel):
    period = PERIODS[1]
    labels = panel.rows_known(period, "6mo")
    before = label_returns(
        tables.known_before(period), pd.DataFrame(index=labels.index), "6mo", "guarantee_failed"
    )
    pd.testing.assert_series_equal(labels, before, check_names=False)


def test_records_known_later_change_nothing_of_earlier_periods(tables, panel):
    """The panel of the archive as it stood on the last period has the same earlier periods."""
    cut = tables.known_before(PERIODS[2])
    earlier = PERIODS[:2]
    small = build_panel(
        cut, panel.task, panel.catalog, DATES, earlier, horizons=["3mo"], cluster="village_id"
    )
    for period in earlier:
        pd.testing.assert_frame_equal(small.known[period], panel.known[period])
        own = fit_candidate(small, CANDIDATES["both"], period, FEW)
        same = fit_candidate(panel, CANDIDATES["both"], period, FEW)
        points = panel.features.loc[panel.labels_at(period).index]
        pd.testing.assert_series_equal(own.margin(points), same.margin(points))


@pytest.fixture(scope="module")
def measured(tables):
    """Periods whose six months hold the ends of yearly accounts."""
    task = PredictionTask(tables.schema, "at_risk", "below_line", "6mo", tables.line)
    return build_panel(tables, task, pick_features(), DATES, MEASURED, graded=0.5)


def test_grades_of_a_period_are_those_that_the_archive_gave_then(tables, measured):
    period = MEASURED[1]
    labels = measured.rows_known(period, "6mo")
    points = pd.DataFrame(index=labels.index)
    known, later = (
        measure_returns(archive, points, "6mo", "below_line")
        for archive in (tables.known_before(period), tables)
    )
    graded = measured.grade(period, "6mo", labels)
    pd.testing.assert_series_equal(graded, grade_labels(labels, known, 0.5))
    assert (known != later).sum() > 2  # corrected afterwards
    assert graded.between(0.0, 1.0).all()
    assert not graded.isin([0.0, 1.0]).all()


def test_a_candidate_has_its_own_spread(measured):
    points = measured.features.loc[measured.labels_at(MEASURED[0]).index]
    margins = {
        spread: fit_candidate(measured, Candidate(graded=spread), MEASURED[0], FEW).margin(points)
        for spread in (None, 0.5, 0.0, 2.0)
    }
    pd.testing.assert_series_equal(margins[None], margins[0.5])
    # Few are below the line: the more is chance, the nearer all grades are to a half.
    assert margins[2.0].mean() > margins[0.5].mean() > margins[0.0].mean()


def test_grades_need_what_a_label_measures(tables, panel):
    with pytest.raises(LabelError, match="labels graded by 0.5: found a panel without"):
        fit_candidate(panel, Candidate(graded=0.5), PERIODS[1], FEW)
    with pytest.raises(LabelError, match="label 'guarantee_failed' to be graded"):
        build_panel(tables, panel.task, panel.catalog, DATES, PERIODS, measured=True)


def test_a_period_that_knows_nothing_yet_does_not_stop_the_others(tables):
    """Nothing was measured before the first account was known."""
    task = PredictionTask(tables.schema, "at_risk", "below_line", "6mo", tables.line)
    income = tables["income"]
    late = HistoryTables.from_frames(
        {name: tables[name] for name in tables.names if name != "income"}
        | {"income": income[income["known_date"] >= "2021-09-01"]},
        tables.schema,
        tables.line,
        observed_to=tables.observed_to,
    )
    early = build_panel(late, task, pick_features(), DATES, MEASURED, measured=True)
    assert early.ratios[MEASURED[0]].empty
    assert len(early.ratios[MEASURED[1]]) > 100


def test_outcomes_of_a_period_do_not_reach_its_own_model(panel):
    period = PERIODS[0]
    other = {p: known if p == period else 1.0 - known for p, known in panel.known.items()}
    turned = dataclasses.replace(panel, outcomes=1.0 - panel.outcomes, known=other)
    points = panel.features.loc[panel.labels_at(period).index]
    own, same = (fit_candidate(p, Candidate(), period, FEW) for p in (panel, turned))
    pd.testing.assert_series_equal(own.margin(points), same.margin(points))


def test_outcomes_that_choices_are_made_on_were_known_on_the_last_period(tables, panel):
    late = pd.Timestamp("2022-07-01")  # six months and the reporting lag end after 2022-10-01
    with pytest.raises(
        DeclarationError, match=r"period 2022-07-01: found no outcome known on 2022-10"
    ):
        build_panel(tables, panel.task, panel.catalog, DATES, [PERIODS[0], late, PERIODS[2]])


def test_one_period_is_no_panel(tables, panel):
    with pytest.raises(DeclarationError, match=r"periods: found 1 period; expected two or more"):
        build_panel(tables, panel.task, panel.catalog, DATES, PERIODS[:1])


# -------------------------------------------------------------------------------------- candidates


def test_weights_fall_by_half_with_age_and_have_mean_one():
    index = pd.MultiIndex.from_product(
        [["a", "b"], pd.to_datetime(["2020-01-01", "2021-01-01"])],
        names=["household_id", "as_of_date"],
    )
    labels = pd.Series([1.0, 0.0, 0.0, 0.0], index=index)
    weight = weigh(labels, Candidate(half_life="12mo", positives=4.0), pd.Timestamp("2022-01-01"))
    assert weight.mean() == pytest.approx(1.0)
    assert weight.iloc[3] / weight.iloc[2] == pytest.approx(2.0, rel=0.01)
    assert weight.iloc[0] / weight.iloc[2] == pytest.approx(4.0)
    assert weigh(labels, Candidate(), pd.Timestamp("2022-01-01")) is None


def test_an_ensemble_is_the_mean_of_its_members(panel):
    period, points = PERIODS[1], panel.features
    alone = {
        name: fit_candidate(panel, candidate, period, FEW).margin(points)
        for name, candidate in {
            "six": Candidate(horizons=["6mo"]),
            "three": Candidate(horizons=["3mo"]),
            "regression": Candidate(model={"logistic": 1.0}),
        }.items()
    }
    two = fit_candidate(panel, Candidate(horizons=["6mo", "3mo"]), period, FEW).margin(points)
    np.testing.assert_allclose(two, (alone["six"] + alone["three"]) / 2)
    quarter = Candidate(model={"logistic": 0.25})
    mixed = fit_candidate(panel, quarter, period, FEW).margin(points)
    np.testing.assert_allclose(mixed, 0.75 * alone["six"] + 0.25 * alone["regression"])


def test_dates_and_weights_change_what_is_learned(panel):
    period, points = PERIODS[1], panel.features
    everything = fit_candidate(panel, Candidate(), period, FEW)
    fewer = fit_candidate(panel, Candidate(), period, FEW, dates=DATES[::2])
    assert fewer.rows < everything.rows
    weighted = fit_candidate(panel, Candidate(positives=3.0), period, FEW)
    assert not weighted.margin(points).equals(everything.margin(points))


def test_trees_are_those_of_a_model_that_is_boosted_again(panel):
    """What is compared is what training would fit, without what an order does not need."""
    period, settings = PERIODS[1], FEW | {"refit": True, "early_stopping_rounds": 3}
    fitted = fit_candidate(panel, Candidate(), period, settings | {"n_refits": 2})
    labels = panel.rows_known(period, "6mo")
    model = RiskModel(panel.catalog, panel.task, calibration=None, **settings)
    model.fit(panel.features.loc[labels.index], labels)
    points = panel.features.loc[panel.labels_at(period).index]
    pd.testing.assert_series_equal(fitted.margin(points), model.margin(points))


def test_a_broader_cohort_is_learned_from_and_the_scored_one_decides_when_to_stop(panel):
    period = PERIODS[1]
    inside = panel.cohorts["at_risk"].to_numpy() & (np.arange(len(panel.cohorts)) % 3 > 0)
    broader = panel.cohorts.assign(everybody=panel.cohorts["at_risk"], at_risk=inside)
    narrowed = dataclasses.replace(panel, cohorts=broader)
    own = fit_candidate(narrowed, Candidate(), period, FEW)
    wide = fit_candidate(narrowed, Candidate(train_cohort="everybody"), period, FEW)
    assert own.rows < wide.rows == len(panel.rows_known(period, "6mo"))
    learned = wide.models[0].training_
    assert learned["later"]["points"] < learned["boosted"]["points"]
    later = learned["later"]
    labels = panel.rows_known(period, "6mo")
    dates = labels.index.get_level_values("as_of_date")
    scored = narrowed.cohorts.loc[labels.index, "at_risk"]
    assert later["points"] == (scored & (dates >= pd.Timestamp(later["first"]))).sum()


def test_members_count_what_is_fitted():
    assert [candidate.members for candidate in CANDIDATES.values()] == [1, 1, 4, 1]
    assert Candidate(model={"n_seeds": 5, "logistic": 0.5}).members == 6


# ------------------------------------------------------------------------------------- comparison


def test_metrics_are_those_of_the_period(panel, comparison):
    for (name, period), row in comparison.periods.iterrows():
        labels = panel.labels_at(period)
        margin = comparison.margins[name, period].loc[labels.index]
        direct = Ranking(labels.to_numpy(), margin.to_numpy(), False).compute_once(["auc"])
        assert row["auc"] == pytest.approx(direct["auc"])
        assert row["positives"] == labels.sum()


def test_regret_and_rank_are_against_the_best_of_the_period(comparison):
    table = comparison.periods
    for _, own in table.groupby(level="period"):
        assert own["regret"].min() == 0.0
        best = own["average_precision"].max()
        np.testing.assert_allclose(own["regret"], best - own["average_precision"])
        assert own["rank"].sum() == pytest.approx(sum(range(1, len(CANDIDATES) + 1)))


def test_the_last_period_takes_no_part_in_the_choice(panel, comparison):
    earlier = comparison.periods[comparison.periods["earlier"]]
    assert set(earlier.index.get_level_values("period")) == set(PERIODS[:2])
    expected = earlier["regret"].groupby(level="candidate").mean()
    pd.testing.assert_series_equal(
        comparison.summary["mean_regret"].sort_index(), expected.sort_index(), check_names=False
    )
    dates = panel.outcomes.index.get_level_values("as_of_date")
    turned = panel.outcomes.where(dates != PERIODS[2], 1.0 - panel.outcomes)
    changed = dataclasses.replace(panel, outcomes=turned)
    other = compare_candidates(changed, CANDIDATES, "trees", settings=FEW, replicates=0, seed=5)
    assert other.chosen == comparison.chosen
    assert not other.last["auc"].equals(comparison.last["auc"])


def test_differences_are_paired_with_the_reference(comparison):
    summary = comparison.summary
    assert summary.loc["trees", ["difference", "low", "high"]].tolist() == [0.0, 0.0, 0.0]
    assert summary.loc["trees", "share_better"] == 0.5
    others = summary.drop("trees")
    assert (others["low"] < others["high"]).all()


def test_a_tie_goes_to_the_simplest(panel):
    same = {"two": Candidate(model={"n_seeds": 2}), "one": Candidate()}
    found = compare_candidates(panel, same, "one", settings=FEW, tie=0.9, replicates=0)
    assert found.chosen == "one"
    # What the config says of seeds counts for whoever does not say it.
    many = {"configured": Candidate(), "one": Candidate(model={"n_seeds": 1})}
    found = compare_candidates(
        panel, many, "one", settings=FEW | {"n_seeds": 2}, tie=0.9, replicates=0
    )
    assert found.summary["members"].to_dict() == {"configured": 2, "one": 1}
    assert found.chosen == "one"


def test_repetition_gives_the_same_tables(panel, comparison):
    again = compare_candidates(panel, CANDIDATES, "trees", settings=FEW, replicates=40, seed=5)
    for name in ("periods", "summary", "last"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(comparison, name))


def test_wrong_names_are_told(panel):
    with pytest.raises(DeclarationError, match=r"reference: found 'absent'; expected one of trees"):
        compare_candidates(panel, CANDIDATES, "absent")
    with pytest.raises(DeclarationError, match=r"'brier'; expected a metric of an order"):
        compare_candidates(panel, CANDIDATES, "trees", objective="brier")


# -------------------------------------------------------------------------------------- over time


def test_over_time_tells_years_schemes_and_ahead(panel, comparison):
    table = evaluate_over_time(panel, comparison.margins, schemes=["2021-07-01"])
    own = table.loc["trees"]
    assert own.loc["year", "periods"].to_dict() == {"2021": 1, "2022": 2}
    assert own.loc["scheme", "periods"].to_dict() == {"before 2021-07-01": 1, "from 2021-07-01": 2}
    assert own.loc["forward", "periods"].to_dict() == {"0": 3, "1": 2, "2": 1}
    first = comparison.margins["trees", PERIODS[0]]
    labels = panel.labels_at(PERIODS[2])
    two_ahead = Ranking(labels.to_numpy(), first.loc[labels.index].to_numpy(), False)
    expected = two_ahead.compute_once(["auc"])["auc"]
    assert own.loc[("forward", "2"), "auc"] == pytest.approx(expected)


def test_without_changes_there_are_no_schemes(panel, comparison):
    table = evaluate_over_time(panel, comparison.margins)
    assert set(table.index.get_level_values("view")) == {"year", "forward"}


# ------------------------------------------------------------------------------------------ search


@pytest.fixture(scope="module")
def searched(panel):
    return tune_model(panel, SPACE, settings=FEW | {"num_leaves": 7}, seed=2)


def test_a_search_starts_from_the_parameters_in_use(searched):
    first = searched.trials.iloc[0]
    assert (first["num_leaves"], first["state"]) == (7, "complete")


def test_the_parameters_in_use_are_tested_on_the_same_periods(panel, searched):
    settings = FEW | {"num_leaves": 7}
    own = compare_candidates(
        panel, {"own": Candidate()}, "own", settings=settings, replicates=0, seed=2
    )
    assert searched.base_value == pytest.approx(own.summary.loc["own", "average_precision"])
    assert searched.last["base"] == pytest.approx(own.last.loc["own", "average_precision"])


def test_the_best_is_the_best_complete_trial_of_the_earlier_periods(searched):
    complete = searched.trials[searched.trials["state"] == "complete"]
    assert searched.value == complete["value"].max()
    columns = [str(period.date()) for period in PERIODS[:2]]
    np.testing.assert_allclose(complete["value"], complete[columns].mean(axis=1))
    assert str(PERIODS[2].date()) not in searched.trials
    assert set(searched.last.index) == {"best", "base"}


def test_pruned_trials_stop_before_the_last_earlier_period(panel):
    space = SPACE.model_copy(update={"trials": 12, "startup": 2})
    found = tune_model(panel, space, settings=FEW, seed=2).trials
    pruned = found[found["state"] == "pruned"]
    assert len(pruned)
    assert pruned["2022-01-01"].isna().all()
    first = pruned.index[0]
    before = found.loc[: first - 1]
    median = before.loc[before["state"] == "complete", "2021-01-01"].median()
    assert pruned.loc[first, "2021-01-01"] < median


class KilledError(Exception):
    """As if somebody ended the process."""


def test_an_interrupted_search_goes_on_as_if_nothing_had_been(
    panel, searched, tmp_path, monkeypatch
):
    storage, calls = tmp_path / "trials.db", []
    settings = FEW | {"num_leaves": 7}

    def break_off(*arguments, **named):
        calls.append(1)
        if len(calls) == 6:
            raise KilledError
        return fit_candidate(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr("poverty_risk.tuning.fit_candidate", break_off)
        with pytest.raises(KilledError):
            tune_model(panel, SPACE, settings=settings, storage=storage, seed=2)
    seen = []
    resumed = tune_model(
        panel, SPACE, settings=settings, storage=storage, seed=2, on_trial=seen.append
    )
    pd.testing.assert_frame_equal(resumed.trials, searched.trials)
    assert resumed.parameters == searched.parameters
    assert [trial.number for trial in seen] == list(range(6))
    longer = SPACE.model_copy(update={"trials": 7})
    extended = tune_model(panel, longer, settings=settings, storage=storage, seed=2)
    pd.testing.assert_frame_equal(extended.trials.iloc[:6], searched.trials)


def test_another_search_does_not_go_on_in_the_same_file(panel, tmp_path):
    short = SPACE.model_copy(update={"trials": 1})
    tune_model(panel, short, settings=FEW, storage=tmp_path / "trials.db")
    with pytest.raises(DeclarationError, match=r"search in 'trials.db': found one with other seed"):
        tune_model(panel, short, settings=FEW, storage=tmp_path / "trials.db", seed=1)
    # As many points with the same labels, one value corrected.
    features = panel.features.copy()
    name = features.select_dtypes("number").columns[0]
    features.iloc[0, features.columns.get_loc(name)] = 0.125
    corrected = dataclasses.replace(panel, features=features)
    with pytest.raises(DeclarationError, match="found one with other points"):
        tune_model(corrected, short, settings=FEW, storage=tmp_path / "trials.db")
    assert name_search(corrected, short, FEW) != name_search(panel, short, FEW)


def test_two_programs_do_not_search_in_the_same_file(panel, tmp_path):
    def search_too(_):
        tune_model(panel, SPACE, settings=FEW, storage=tmp_path / "trials.db")

    with pytest.raises(PovertyRiskError, match="search in 'trials.db': found another program"):
        tune_model(panel, SPACE, settings=FEW, storage=tmp_path / "trials.db", on_trial=search_too)


# ----------------------------------------------------------------------------------------- tracking


def _runs(uri: str) -> pd.DataFrame:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("poverty-risk-tuning")
    return client.search_runs([experiment.experiment_id])


def test_every_trial_is_a_run_nested_in_that_of_the_search(panel, tmp_path):
    settings, uri = FEW, f"sqlite:///{tmp_path / 'mlflow.db'}"
    search = name_search(panel, SPACE, settings)
    for trials in (2, 3):
        space = SPACE.model_copy(update={"trials": trials})
        with open_search_log(search, SPACE.objective, tracking_uri=uri) as log:
            found = tune_model(
                panel, space, settings=settings, storage=tmp_path / "t.db", on_trial=log.log_trial
            )
            log.log_result(found)
    runs = _runs(uri)
    parents = [run for run in runs if "search" in run.data.tags]
    nested = [run for run in runs if "trial" in run.data.tags]
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert len(parents) == 1
    assert sorted(run.data.tags["trial"] for run in nested) == ["0", "1", "2"]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parents[0].info.run_id}
    by_number = {int(run.data.tags["trial"]): run for run in nested}
    for number, row in found.trials.iterrows():
        run = by_number[number]
        assert run.data.metrics["mean_average_precision"] == pytest.approx(row["value"])
        assert run.data.params["num_leaves"] == str(row["num_leaves"])
        assert run.data.tags["state"] == row["state"]
    assert parents[0].data.metrics["average_precision.best"] == pytest.approx(found.value)
    # Killed while a trial was being logged: its run still says that it is running.
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    client.update_run(by_number[2].info.run_id, status="RUNNING")
    with open_search_log(search, SPACE.objective, tracking_uri=uri) as log:
        assert log.logged == {0, 1}


def test_a_search_that_breaks_is_marked_and_taken_up_again(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(KilledError), open_search_log("abc", "auc", tracking_uri=uri):
        raise KilledError
    assert [run.info.status for run in _runs(uri)] == ["FAILED"]
    with open_search_log("abc", "auc", tracking_uri=uri):
        assert [run.info.status for run in _runs(uri)] == ["RUNNING"]
    assert [run.info.status for run in _runs(uri)] == ["FINISHED"]


def test_a_comparison_is_one_run_with_its_tables_and_no_household(panel, comparison, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    over_time = evaluate_over_time(panel, comparison.margins)
    run_id = log_comparison(comparison, over_time, {"trees": {}}, tracking_uri=uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    assert run.data.tags["chosen"] == comparison.chosen
    regret = run.data.metrics["mean_regret/regression"]
    assert regret == pytest.approx(comparison.summary.loc["regression", "mean_regret"])
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in written} == {
        "candidates.json", "summary.csv", "periods.csv", "last.csv", "over_time.csv",
    }  # fmt: skip
    texts = "".join(path.read_text(encoding="utf-8") for path in written)
    assert not any(household in texts for household in panel.features.index.levels[0][:50])


# ------------------------------------------------------------------------------------------ files


def test_shipped_files_are_read_and_every_key_is_explained():
    declared, space = (
        read_candidates(CONFIGS / "candidates.yaml"),
        read_search_space(CONFIGS / "tuning.yaml"),
    )
    config = load_config(CONFIGS / "default.yaml")
    assert declared.candidates[declared.reference] == Candidate()
    for periods in (declared.periods, space.periods):
        assert periods[-1] == config.periods.test.first
        assert periods[0] > date(2021, 3, 2)  # a first label is complete
    for name, keys in (
        ("candidates.yaml", [*type(declared).model_fields, *Candidate.model_fields]),
        ("tuning.yaml", [*type(space).model_fields, *space.model]),
    ):
        lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
        for key in keys:
            own = [n for n, line in enumerate(lines) if line.strip(" #").startswith(key)]
            assert any("#" in lines[n] or "#" in lines[n - 1] for n in own), key


WRONG = [
    ("model: {num_leafs: 6}", r"candidate 'odd': found 'num_leafs'; expected one of calibration"),
    ("positives: -2", r"'candidates\.odd\.positives': found -2"),
    ("every: half a year", r"'candidates\.odd\.every'.*such as '12mo'"),
    ("horizon: 6mo", r"unknown key 'horizon'.*Did you mean 'horizons'"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_candidates_are_told(tmp_path, text, message):
    path = tmp_path / "candidates.yaml"
    path.write_text(
        f"reference: odd\nperiods: [2021-07-01, 2022-01-01]\ncandidates:\n  odd: {{{text}}}\n"
    )
    with pytest.raises(DeclarationError, match=message):
        read_candidates(path)


WRONG_RANGES = [
    ("num_leaves: {low: 5}", "either 'low' and 'high', or 'values'"),
    ("num_leaves: {low: 5, high: 2}", "'low' under 'high'"),
    ("num_leaves: {low: 0, high: 2, log: true}", "'low' above 0"),
    ("seed: {low: 0, high: 2}", "found 'seed'; expected one of calibration"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_RANGES)
def test_wrong_ranges_are_told(tmp_path, text, message):
    path = tmp_path / "tuning.yaml"
    path.write_text(f"periods: [2021-07-01, 2022-01-01]\nmodel:\n  {text}\n")
    with pytest.raises(DeclarationError, match=message):
        read_search_space(path)


def test_the_tuned_config_is_the_config_with_other_parameters(tmp_path):
    source, target = CONFIGS / "quick.yaml", tmp_path / "tuned.yaml"
    parameters = {"num_leaves": 6, "learning_rate": 0.045, "monotone": False}
    write_tuned_config(source, parameters, target)
    before, after = load_config(source), load_config(target)
    assert after.model == before.model.model_copy(update=parameters)
    assert after.model_copy(update={"model": before.model}) == before
    texts = [path.read_text(encoding="utf-8").splitlines() for path in (source, target)]
    changed = [(a, b) for a, b in zip(*texts, strict=True) if a != b]
    assert len(changed) == 3
    assert all(a.split("#")[1] == b.split("#")[1] for a, b in changed)


def test_parameters_that_a_config_does_not_write_are_added(tmp_path):
    text = (CONFIGS / "quick.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "num_leaves" not in line]
    source, target = tmp_path / "short.yaml", tmp_path / "tuned.yaml"
    source.write_text("\n".join(lines), encoding="utf-8")
    write_tuned_config(source, {"num_leaves": 6, "subsample": 0.5}, target)
    found = load_config(target).model
    assert (found.num_leaves, found.subsample) == (6, 0.5)


# -------------------------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A quick config of few households, and what is searched and compared on it."""
    folder = tmp_path_factory.mktemp("run")
    config = yaml.safe_load((CONFIGS / "quick.yaml").read_text(encoding="utf-8"))
    config["history"]["simulate"] |= {"households": 300, "end": date(2023, 7, 1)}
    config["tasks"] = {
        "failed_6mo": {"cohort": "at_risk", "label": "guarantee_failed", "horizon": "6mo"}
    }
    config["model"] |= {"n_estimators": 10, "n_jobs": 1, "min_child_samples": 10}
    config["output"] = str(folder / "out")
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    periods = [period.date() for period in PERIODS]
    space = {"trials": 2, "periods": periods, "model": {"num_leaves": {"low": 3, "high": 9}}}
    (folder / "tuning.yaml").write_text(yaml.safe_dump(space))
    compared = {"reference": "own", "periods": periods, "schemes": [date(2021, 7, 1)]}
    compared["candidates"] = {
        "own": {},
        "mixed": {"model": {"logistic": 0.5}, "horizons": ["6mo", "3mo"]},
    }
    (folder / "candidates.yaml").write_text(yaml.safe_dump(compared))
    return folder


def _invoke(*arguments: str) -> str:
    from poverty_risk.cli import cli

    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands_print_and_write_their_tables(small_run):
    run = str(small_run / "run.yaml")
    told = _invoke("tune", "--config", run, "--space", str(small_run / "tuning.yaml"))
    assert "2 trials" in told
    folder = small_run / "out" / "tuning" / "failed_6mo"
    assert len(pd.read_csv(folder / "trials.csv")) == 2
    assert 3 <= load_config(folder / "tuned.yaml").model.num_leaves <= 9
    again = _invoke("tune", "--config", run, "--space", str(small_run / "tuning.yaml"))
    assert again == told
    told = _invoke("compare", "--config", run, "--candidates", str(small_run / "candidates.yaml"))
    for title in ("mean_regret", "by period", "on the last period", "over time", "chosen"):
        assert title in told
    folder = small_run / "out" / "comparison" / "failed_6mo"
    summary = pd.read_csv(folder / "summary.csv", index_col="candidate")
    assert set(summary.index) == {"own", "mixed"}
    assert summary["chosen"].sum() == 1
    assert {"over_time.csv", "periods.csv", "last.csv"} <= {path.name for path in folder.iterdir()}
    store = f"sqlite:///{small_run / 'out' / 'mlflow' / 'mlflow.db'}"
    assert len(_runs(store)) == 4
