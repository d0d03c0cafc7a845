"""Monitoring: a fault raises its own code and no other, a quiet year none, every outcome has a reason."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from poverty_risk.cohort import build_prediction_points
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import DeclarationError, FeatureError
from poverty_risk.features import build_features, load_catalog
from poverty_risk.labels import label_returns
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.monitoring import (
    OUTCOMES,
    MonitoringSettings,
    load_monitoring_catalog,
    run_monitoring,
)
from poverty_risk.monitoring.drift import (
    adjust_p_values,
    compare_with_reference,
    compute_effective_size,
    compute_psi,
)
from poverty_risk.monitoring.freshness import measure_rhythm
from poverty_risk.monitoring.performance import estimate_performance
from poverty_risk.monitoring.units import compare_amounts
from poverty_risk.rejected import Rejected
from poverty_risk.report.monitoring_charts import TimePoint, draw_over_time
from poverty_risk.report.monitoring_facts import build_monitoring_facts
from poverty_risk.report.monitoring_report import render_monitoring_report
from poverty_risk.tables import HistoryTables

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)
AS_OF = "2025-01-01"
EARLIER = ("2022-10-01", "2023-07-01", "2024-10-01")
TRAINING = ("2020-01-01", "2021-01-01", "2022-01-01", "2022-07-01")
FEATURES = (
    *("income_to_line", "transfer_share_last_800d", "wage_share_last_800d"),
    *("work_months_count_365d", "wage_to_line_sum_365d", "oop_to_line_sum_365d"),
    *("rigid_to_income_last_800d", "dependency_ratio", "head_age_max_ever"),
    *("visits_count_365d", "collective_income_last_1500d", "house_grade_last_1500d"),
    *("years_since_lifted", "months_without_work_now"),
)
INCOME_PARTS = ("wage", "business", "business_cost", "property", "transfer", "rigid_expenditure")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


class _Frames(dict):
    """Tables of a history as frames, made when they are asked for."""

    def __init__(self, tables: HistoryTables) -> None:
        self.tables = tables

    def __missing__(self, name: str) -> pd.DataFrame:
        self[name] = self.tables[name].copy()
        return self[name]


def _frames(tables: HistoryTables) -> _Frames:
    return _Frames(tables)


def _rebuild(tables: HistoryTables, frames: _Frames) -> HistoryTables:
    """The history with the changed tables in place of the old ones; only these are validated anew."""
    changed = HistoryTables.from_frames(dict(frames), tables.schema)
    records = {name: tables.arrow(name) for name in tables.names}
    records |= {name: changed.arrow(name) for name in changed.names}
    nothing = Rejected.of({})
    return HistoryTables(tables.schema, records, nothing, tables.line, tables.observed_to)


def _make_county(seed: int) -> HistoryTables:
    """A county whose villages form townships of two; the simulator has one township of this size."""
    tables = make_household_history(600, start="2018-01-01", end=AS_OF, seed=seed).tables
    frames = _frames(tables)
    number = frames["household"]["village_id"].astype(str).str[1:].astype(int)
    frames["household"]["township_id"] = "T" + ((number - 1) // 2 + 1).astype(str)
    return _rebuild(tables, frames)


def _train(tables: HistoryTables) -> RiskModel:
    points = build_prediction_points(tables, TRAINING)
    labels = label_returns(tables, points, "12mo", "any").dropna()
    catalog = load_catalog("archive").select(FEATURES)
    task = PredictionTask(tables.schema, "at_risk", "any", "12mo", dict(tables.line or {}))
    model = RiskModel(
        catalog, task, n_estimators=30, learning_rate=0.1, num_leaves=7, min_child_samples=30
    )
    return model.fit(build_features(tables, points.loc[labels.index], catalog), labels)


def _answer(model: RiskModel, tables: HistoryTables, date: str) -> pd.DataFrame:
    points = build_prediction_points(tables, date)
    risk = model.risk(build_features(tables, points, model.catalog))
    return risk.droplevel("as_of_date").to_frame()


@dataclasses.dataclass(frozen=True)
class County:
    tables: HistoryTables
    model: RiskModel
    answers: dict[str, pd.DataFrame]

    def watch(self, tables=None, as_of=AS_OF, **arguments):
        arguments = {"earlier_answers": self.answers} | arguments
        return run_monitoring(self.model, tables or self.tables, as_of, **arguments)


@pytest.fixture(scope="session")
def county() -> County:
    tables = _make_county(3)
    model = _train(tables)
    return County(tables, model, {date: _answer(model, tables, date) for date in EARLIER})


@pytest.fixture(scope="session")
def quiet(county):
    lists = {
        date: answer.sample(120, random_state=1).assign(why=["risk"] * 80 + ["random"] * 40)
        for date, answer in county.answers.items()
    }
    return county.watch(visit_lists=lists)


# ----------------------------------------------------------------------------- seeded faults


def _stop_feed(tables):
    frames = _frames(tables)
    frames["work"] = frames["work"][frames["work"]["known_date"] < "2024-10-10"]
    return _rebuild(tables, frames)


def _stop_yearly_feed(tables):
    frames = _frames(tables)
    frames["income"] = frames["income"][frames["income"]["known_date"] < "2024-09-01"]
    return _rebuild(tables, frames)


def _change_unit(tables):
    """From yuan to wan-yuan."""
    frames = _frames(tables)
    late = frames["income"]["known_date"] >= "2024-09-01"
    for part in INCOME_PARTS:
        frames["income"].loc[late, part] /= 10_000
    return _rebuild(tables, frames)


def _change_unit_of_wages(tables):
    frames = _frames(tables)
    frames["work"].loc[frames["work"]["known_date"] >= "2024-11-01", "wage"] /= 10_000
    return _rebuild(tables, frames)


def _silence_township(tables):
    frames = _frames(tables)
    household = frames["household"]
    mine = set(household.loc[household["township_id"] == "T2", "household_id"])
    for name in tables.names:
        frame = frames[name]
        if "household_id" in frame:
            lost = frame["household_id"].isin(mine) & (frame["known_date"] >= "2024-09-01")
            frames[name] = frame[~lost]
    return _rebuild(tables, frames)


def _double_transfers(tables):
    frames = _frames(tables)
    frames["income"].loc[frames["income"]["period_start"] >= "2023-09-01", "transfer"] *= 2
    frames["assistance"].loc[frames["assistance"]["event_date"] >= "2023-09-01", "amount"] *= 2
    return _rebuild(tables, frames)


def _empty_column(tables):
    frames = _frames(tables)
    late = frames["work"]["known_date"] >= "2023-12-15"
    frames["work"].loc[late, "place"] = None
    return _rebuild(tables, frames)


FAULTS = {
    "a column is left empty": (_empty_column, "M001"),
    "a policy doubles transfers": (_double_transfers, "M003"),
    "a monthly feed stops": (_stop_feed, "M006"),
    "a yearly feed does not come": (_stop_yearly_feed, "M006"),
    "a township stops reporting": (_silence_township, "M007"),
    "accounts turn from yuan to wan-yuan": (_change_unit, "M008"),
    "wages turn from yuan to wan-yuan": (_change_unit_of_wages, "M008"),
}


@pytest.fixture(scope="session")
def faulty(county):
    return {name: county.watch(make(county.tables)) for name, (make, _) in FAULTS.items()}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_raises_its_code_and_no_other(faulty, name):
    report = faulty[name]
    assert report.issues == (FAULTS[name][1],)
    assert report.exit_code == 1


def test_a_finding_says_what_and_where(faulty):
    def tell(name):
        report = faulty[name]
        return report.describe(report[FAULTS[name][1]], "en")

    assert tell("a monthly feed stops").startswith("work by month: nothing for 8")
    assert tell("a township stops reporting").startswith("T2 stopped reporting: ")
    assert "share of transfers in gross income" in tell("a policy doubles transfers")
    assert "wage income" in tell("accounts turn from yuan to wan-yuan")
    assert "about 0.0001 times as before" in tell("accounts turn from yuan to wan-yuan")
    assert tell("a column is left empty") == "missing: work by month: place of work"


def test_features_of_a_stopped_feed_are_judged_by_its_code_alone(faulty):
    features = faulty["a monthly feed stops"].details["features"]
    assert features.loc["work_months_count_365d", "drift_status"] == "M006"
    assert features.loc["head_age_max_ever", "drift_status"] == "passed"


def test_what_a_cause_explains_is_a_tip_that_names_it(faulty):
    report = faulty["accounts turn from yuan to wan-yuan"]
    explained = [one for one in report.results if one.reason == "explained"]
    assert explained
    assert {one.outcome for one in explained} == {"tip"}
    assert all("M008" in report.describe(one, "en") for one in explained)
    assert report["M009"].outcome == "skipped"  # its label is made from these accounts


# -------------------------------------------------------------------------------- quiet years


def test_a_quiet_year_raises_nothing(quiet):
    assert quiet.issues == ()
    assert quiet.exit_code == 0


@pytest.mark.parametrize("as_of", ["2023-10-01", "2024-03-15", "2024-06-15"])
def test_other_seasons_of_a_quiet_county_raise_nothing(county, as_of):
    earlier = {date: county.answers[date] for date in EARLIER if date < as_of}
    assert county.watch(as_of=as_of, earlier_answers=earlier).issues == ()


@pytest.mark.parametrize("seed", [5, 8])
def test_other_quiet_counties_raise_nothing(seed):
    tables = _make_county(seed)
    model = _train(tables)
    answers = {date: _answer(model, tables, date) for date in ("2023-07-01", "2024-10-01")}
    assert run_monitoring(model, tables, AS_OF, earlier_answers=answers).issues == ()


# ------------------------------------------------------------------------- outcomes and words


def test_each_outcome_is_reached_with_a_reason(county, quiet, faulty):
    reports = [quiet, *faulty.values(), county.watch(earlier_answers=None)]
    seen = {one.outcome for report in reports for one in report.results}
    assert seen == set(OUTCOMES)
    for report in reports:
        assert [one.code for one in report.results] == list(report.catalog.checks)
        for one in report.results:
            assert CHINESE.search(report.describe(one, "zh"))
            assert not CHINESE.search(report.describe(one, "en"))


def test_without_earlier_rounds_performance_is_not_applicable(county):
    report = county.watch(earlier_answers=None)
    outcomes = {code: report[code].outcome for code in ("M005", "M009", "M010", "M012", "M013")}
    assert set(outcomes.values()) == {"not_applicable"}
    assert report["M011"].reason == "first"


def test_a_drift_of_long_standing_is_a_tip(county):
    """The share of transfers doubled over two years ago: far from training, but no news."""
    frames = _frames(county.tables)
    frames["income"].loc[frames["income"]["period_start"] >= "2022-09-01", "transfer"] *= 2
    report = county.watch(_rebuild(county.tables, frames))
    features = report.details["features"]
    assert features.loc["transfer_share_last_800d", "drift_status"] == "tip"
    assert report["M003"].outcome == "tip"


def test_a_wrong_model_loses_calibration(county):
    """A fifth of the same risks: several times what they promise comes true."""
    wrong = {
        date: answer.assign(risk=answer["risk"] / 5) for date, answer in county.answers.items()
    }
    report = county.watch(earlier_answers=wrong)
    assert report["M009"].outcome == "issue"


def test_a_model_that_orders_backwards_loses_performance(county):
    wrong = {d: a.assign(risk=a["risk"].max() - a["risk"]) for d, a in county.answers.items()}
    report = county.watch(earlier_answers=wrong)
    assert report["M010"].outcome == "issue"
    assert report["M012"].outcome == "tip"
    assert report["M010"].metrics["auc"] < 0.5


def test_a_list_that_finds_nothing_is_an_issue(county):
    answer = county.answers["2023-07-01"].head(200).assign(risk=0.2, outcome=0.0, why="risk")
    report = county.watch(visit_lists={"2023-07-01": answer})
    assert report["M013"].outcome == "issue"  # 40 expected, none found
    found = answer.assign(outcome=[1.0] * 40 + [0.0] * 160)
    assert county.watch(visit_lists={"2023-07-01": found})["M013"].outcome == "passed"


def test_an_absent_table_is_an_issue(county):
    whole = county.tables
    records = {name: whole.arrow(name) for name in whole.names if name != "visit"}
    rest = HistoryTables(whole.schema, records, whole.rejection, whole.line, whole.observed_to)
    report = county.watch(rest)
    assert "M001" in report.issues
    assert report.describe(report["M001"], "en") == "missing: visits"


def test_later_records_change_nothing(county):
    """What the office came to know on or after the date does not exist on that date."""
    as_of = "2024-03-01"
    earlier = {"2022-10-01": county.answers["2022-10-01"]}
    known = county.tables.known_before(as_of)
    whole = county.watch(as_of=as_of, earlier_answers=earlier)
    cut = county.watch(known, as_of=as_of, earlier_answers=earlier)
    assert whole.results == cut.results


def test_counts_under_ten_and_ids_are_not_told(quiet, faulty):
    for report in (quiet, *faulty.values()):
        for name, table in report.details.items():
            assert "household_id" not in {*table.columns, *table.index.names}
            counts = [c for c in ("n", "labelled", "positives", "known", "found") if c in table]
            told = table[counts].to_numpy(dtype=float)
            assert not ((told > 0) & (told < 10)).any(), name


def test_faults_of_the_input_are_told(county):
    with pytest.raises(FeatureError, match="earlier answers of 2024-10-01: found columns"):
        county.watch(earlier_answers={"2024-10-01": pd.DataFrame({"chance": [0.1]})})
    with pytest.raises(DeclarationError, match="as_of_date: found 2 dates"):
        county.watch(as_of=["2024-01-01", "2024-02-01"])
    features = pd.DataFrame({"a": np.linspace(0, 1, 100)})
    labels = (features["a"] > 0.5).astype(float)
    plain = RiskModel(n_estimators=2, calibration=None, early_stopping_rounds=None)
    plain.fit(features, labels)
    with pytest.raises(DeclarationError, match="no task or no feature catalogue"):
        run_monitoring(plain, county.tables, AS_OF)


# ------------------------------------------------------------------------------------ report


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_report_shows_checks_and_plots(county, faulty, locale):
    report = faulty["a township stops reporting"]
    html = render_monitoring_report(build_monitoring_facts(report, county.model, locale))
    assert html.count("<svg") > 10
    assert all(code in html for code in report.catalog.checks)
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert bool(CHINESE.search(html)) == (locale == "zh")
    household = str(county.tables.households[0])
    assert household not in html


def test_report_of_a_young_history_has_no_holes(county):
    report = county.watch(earlier_answers=None)
    html = render_monitoring_report(build_monitoring_facts(report, county.model, "en"))
    assert "No round has complete outcomes yet." in html
    assert "nan" not in re.sub(r"<[^>]+>", " ", html).lower().split()


def test_table_and_metrics(quiet):
    table = quiet.to_table("zh")
    assert list(table["code"]) == list(quiet.catalog.checks)
    assert set(table["outcome"]) <= set(OUTCOMES)
    assert (table.loc[table["outcome"] == "passed", "remedy"] == "").all()
    metrics = quiet.metrics
    assert sum(metrics[f"monitoring.{name}"] for name in OUTCOMES) == len(table)
    assert 0.5 < metrics["monitoring.M010.auc"] <= 1


def test_codes_are_permanent():
    catalog = load_monitoring_catalog()
    assert list(catalog.checks) == [f"M{number:03d}" for number in range(1, 14)]
    for check in catalog.checks.values():
        for words in (check.name, check.meaning, check.remedy, *check.reasons.values()):
            assert CHINESE.search(words.zh)
            assert words.en
            assert not CHINESE.search(words.en)
            assert set(re.findall(r"{(\w+)", words.zh)) == set(re.findall(r"{(\w+)", words.en))


def test_runs_of_mlflow_carry_numbers_and_no_household(quiet, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    from poverty_risk.tracking.monitoring import log_monitoring

    run_id = log_monitoring(quiet, store_folder=tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(run_id)
    assert run.data.metrics["monitoring.issue"] == 0.0
    assert run.data.tags["M006"] == "passed"
    assert run.data.tags["as_of_date"] == AS_OF
    assert {"checks.csv", "rounds.csv"} <= {p.name for p in tmp_path.rglob("monitoring/*.csv")}


def test_workflow_writes_tables_and_reports_and_tells_the_scheduler(county, tmp_path):
    from poverty_risk.config import load_config
    from poverty_risk.workflows.monitoring import find_earlier_dates, monitor

    overrides = {"output": str(tmp_path), "tracking.enabled": False}
    config = load_config("configs/quick.yaml", overrides | {"scoring.as_of_date": AS_OF})
    # Trained to 2022-07-01; outcomes of that date were complete after twelve months and a lag of 120
    # days, on 2023-10-29: 2024-01-01 is the first of the quarterly dates that is new to the model.
    dates = find_earlier_dates(county.model, county.tables, pd.Timestamp(AS_OF))
    assert [str(date.date()) for date in dates] == [
        *("2024-01-01", "2024-04-01", "2024-07-01", "2024-10-01")
    ]
    found = monitor(config, county.tables, county.model, earlier_answers=county.answers)
    assert (found.exit_code, found.run_id) == (0, None)
    table = pd.read_csv(found.paths["table_zh"])
    assert list(table.iloc[:, 0]) == list(found.report.catalog.checks)
    assert CHINESE.search(table.columns[1])
    assert "<h1>Monitoring report</h1>" in found.paths["report_en"].read_text(encoding="utf-8")
    assert all(path.is_file() for path in found.paths.values())
    broken = monitor(config, _stop_feed(county.tables), county.model, earlier_answers={})
    assert broken.exit_code == 1


# -------------------------------------------------------------------------------- statistics


def test_psi_by_hand():
    # Shares 0.8 and 0.2 against 0.5 and 0.5: 0.3 ln 1.6 + 0.3 ln 2.5 = 0.3 ln 4; many rows, so that
    # the half count added to each bin does not matter.
    found = compute_psi(np.array([0.5, 0.5]), np.array([800_000, 200_000]))
    assert found == pytest.approx(0.3 * np.log(4), abs=1e-5)
    assert compute_psi(np.array([1.0, 0.0]), np.array([50, 50])) < np.inf


def test_distance_against_quantiles_is_that_of_the_samples():
    """Against quantiles of a fine grid the distance is that of Kolmogorov and Smirnov's test."""
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    training, now = rng.normal(size=4_000), rng.normal(0.3, 1.2, size=2_000)
    grid = np.quantile(training, np.linspace(0, 1, 21), method="lower")
    found = compare_with_reference({"quantiles": grid.tolist()}, now, reference_size=4_000)
    exact = ks_2samp(training, now)
    assert found.distance == pytest.approx(exact.statistic, abs=0.03)
    assert found.p_value < 1e-10
    assert exact.pvalue < 1e-10


def test_a_discrete_feature_has_not_moved_by_rounding():
    """62 % zeros: the quantiles know it as at least 60 % and less than 65 %."""
    entry = {"quantiles": [0.0] * 13 + [1.0] * 8}
    for share in (0.60, 0.62, 0.649):
        now = np.repeat([0.0, 1.0], [round(1000 * share), 1000 - round(1000 * share)])
        assert compare_with_reference(entry, now).distance == pytest.approx(0.0, abs=1e-9)
    moved = np.repeat([0.0, 1.0], [300, 700])
    assert compare_with_reference(entry, moved).distance == pytest.approx(0.3)


def test_codes_are_tested_by_chi_square():
    from scipy.stats import chisquare

    now = np.repeat([0.0, 1.0, 2.0], [30, 50, 20])
    found = compare_with_reference({"shares": [0.5, 0.3, 0.2]}, now)
    assert found.p_value == pytest.approx(chisquare([30, 50, 20], [50, 30, 20]).pvalue)
    assert found.distance == pytest.approx(0.2)
    unseen = compare_with_reference({"shares": [0.5, 0.5, 0.0]}, now)
    assert unseen.p_value < 1e-6


def test_nothing_known_is_not_compared():
    assert compare_with_reference({"quantiles": [0.0, 1.0]}, np.full(5, np.nan)) is None
    assert compare_with_reference({"missing": 1.0}, np.ones(5)) is None


def test_effective_size_is_that_of_villages_for_their_own_values():
    village = np.repeat(np.arange(20), 10)
    assert compute_effective_size(village.astype(float), village) == pytest.approx(20.0)
    own = np.random.default_rng(1).normal(size=200)
    assert compute_effective_size(own, village) > 100
    assert compute_effective_size(own, None) == 200


def test_adjusted_p_values_by_hand():
    # Sorted 0.01, 0.02, 0.04 of three: 0.03, min(0.03, 0.04), 0.04.
    assert adjust_p_values(np.array([0.04, 0.01, 0.02, np.nan]))[:3] == pytest.approx(
        [0.04, 0.03, 0.03]
    )


def test_rhythm_of_a_yearly_feed():
    """Forty records every December: in October their silence is usual, in February it is not."""
    day = pd.date_range("2020-01-01", "2025-01-31")
    counts = np.where((day.month == 12) & (day.day == 10), 40.0, 0.0)
    settings = MonitoringSettings()
    autumn = measure_rhythm(counts[day < "2024-10-01"])
    assert autumn.judge(settings) == "passed"
    counts[day.year == 2024] = 0.0
    late = measure_rhythm(counts)
    assert late.silent_days == (pd.Timestamp("2025-02-01") - pd.Timestamp("2023-12-10")).days
    assert late.judge(settings) == "late"
    assert measure_rhythm(counts[:200]).judge(settings) == "few"
    assert measure_rhythm(np.zeros(900)).judge(settings) == "few"


def test_a_thin_feed():
    counts = np.full(1461, 2.0)
    counts[-92:] = 0.5
    assert measure_rhythm(counts).judge(MonitoringSettings()) == "thin"


@pytest.mark.parametrize(
    ("factor", "power"), [(1e-4, -4), (10.0, 1), (100.0, 2), (2.0, 0), (0.5, 0), (30.0, 0)]
)
def test_units_change_by_powers_of_ten(factor, power):
    amounts = np.random.default_rng(0).lognormal(8, 0.5, 400)
    assert compare_amounts(amounts[:200] * factor, amounts[200:], 0.2)[1] == power


def test_estimate_of_calibrated_risks_comes_true():
    """Outcomes drawn from the risks themselves: what was estimated is what is realised."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    risk = rng.beta(1, 6, 40_000)
    label = rng.random(40_000) < risk
    estimated = estimate_performance(risk, 0.05)
    top = np.argsort(-risk)[:2_000]
    assert estimated["auc"] == pytest.approx(roc_auc_score(label, risk), abs=0.01)
    assert estimated["precision"] == pytest.approx(label[top].mean(), abs=0.03)
    assert estimated["recall"] == pytest.approx(label[top].sum() / label.sum(), abs=0.02)


def test_time_plot_by_hand():
    # From 0.6 to 0.8 over 170 units below 12: 0.7 in the middle, two slots of 280 from 44 on.
    plot = draw_over_time([TimePoint("a", 0.8, 0.6), TimePoint("b", 0.7, None)])
    assert [mark[:3] for mark in plot.marks] == [(184.0, 12.0, 182.0), (464.0, 97.0, None)]
    assert plot.realised == "184.0,182.0"
