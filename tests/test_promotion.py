"""A challenger refused for each reason, accepted, rolled back; two at once; what the record holds."""

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from poverty_risk.cohort import build_prediction_points
from poverty_risk.config import Config
from poverty_risk.datasets import make_household_history
from poverty_risk.declarations import parse_declaration
from poverty_risk.evaluation import evaluate_risk
from poverty_risk.exceptions import (
    DeclarationError,
    FeatureError,
    ModelFolderError,
    PovertyRiskError,
)
from poverty_risk.features import build_features
from poverty_risk.labels import label_returns
from poverty_risk.leakage import LeakageReport
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.promotion import (
    Candidate,
    Decision,
    PromotionSettings,
    compute_kept_reasons,
    decide_promotion,
)
from poverty_risk.promotion.decision import Condition
from poverty_risk.tracking import alias as aliases
from poverty_risk.tracking import log_training, record_training
from poverty_risk.tracking import promotion as edge
from poverty_risk.tracking.promotion import record_decision, roll_back
from poverty_risk.tracking.versions import find_version
from poverty_risk.workflows import promotion as workflow
from poverty_risk.workflows.training import find_shared_task
from small_county import pick_features

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)

# -------------------------------------------------------------------------------- the decision, pure

POINTS = 3_000
BUDGET = 0.1


@pytest.fixture(scope="module")
def fair():
    """Outcomes drawn from the challenger's own risks; the champion knows half as much; 100 villages."""
    rng = np.random.default_rng(11)
    index = pd.MultiIndex.from_product(
        [[f"H{i:07d}" for i in range(POINTS)], pd.to_datetime(["2023-01-01"])],
        names=["household_id", "as_of_date"],
    )
    signal = rng.normal(-2.5, 1.2, POINTS)
    risk = pd.Series(1 / (1 + np.exp(-signal)), index=index)
    labels = pd.Series((rng.random(POINTS) < risk).astype(float), index=index)
    noisy = pd.Series(1 / (1 + np.exp(-(signal + rng.normal(0, 1.5, POINTS)))), index=index)
    told = pd.Series([("income", "health", "work", "debt")] * 50, index=index[:50])
    frame = pd.DataFrame(
        {"elderly_only": rng.random(POINTS) < 0.3, "township": rng.choice(list("abc"), POINTS)},
        index=index,
    )
    return {
        "challenger": Candidate("2", "new", risk, told, pd.Timestamp("2022-12-01")),
        "champion": Candidate("1", "old", noisy, told, pd.Timestamp("2021-12-01")),
        "labels": labels,
        "groups": frame,
        "clusters": pd.Series(np.arange(POINTS) % 100, index=index),
        "leakage": make_leakage("ok"),
        "settings": PromotionSettings(replicates=100),
        "budget": BUDGET,
    }


def make_leakage(verdict):
    row = {"check": "auc", "feature": "income", "table": "income", "value": 0.9, "remedy": ""}
    return LeakageReport(pd.DataFrame([row | {"verdict": verdict}]))


def decide(given, **changes):
    given = given | changes
    both = (given.pop("challenger"), given.pop("champion"), given.pop("labels"))
    return decide_promotion(*both, **given)


def figures(decision, name):
    return next(item.figures for item in decision.conditions if item.name == name)


def test_a_better_challenger_is_accepted(fair):
    decision = decide(fair)
    assert decision.accepted, decision.to_table().to_string()
    assert list(decision.to_table().index) == [
        "recall", "calibration_slope", "calibration_ratio", "groups", "reasons", "leakage",
        "held_out",
    ]  # fmt: skip
    assert set(decision.to_table()["outcome"]) == {"passed"}
    assert (decision.challenger, decision.champion) == (("2", "new"), ("1", "old"))
    assert decision.period == ("2023-01-01", "2023-01-01")
    # Recall by hand: outcomes among the 300 highest risks over all outcomes.
    for name in ("challenger", "champion"):
        top = fair[name].risk.nlargest(300).index
        expected = fair["labels"].loc[top].sum() / fair["labels"].sum()
        assert figures(decision, "recall")[name] == pytest.approx(expected)


def refuse_recall(fair):
    return {"challenger": replace(fair["challenger"], risk=fair["champion"].risk)} | {
        "champion": replace(fair["champion"], risk=fair["challenger"].risk),
        "settings": fair["settings"].model_copy(update={"calibration": None}),
    }


def refuse_slope(fair):
    # Log-odds halved about their mean: the same order, and about as many expected.
    odds = np.log(fair["challenger"].risk / (1 - fair["challenger"].risk))
    flat = 1 / (1 + np.exp(-(odds / 2 - 0.9)))
    return {"challenger": replace(fair["challenger"], risk=flat)}


def refuse_ratio(fair):
    odds = np.log(fair["challenger"].risk / (1 - fair["challenger"].risk))
    high = 1 / (1 + np.exp(-(odds + 1.0)))
    groups = fair["settings"].groups.model_copy(update={"largest_miscalibration": None})
    settings = fair["settings"].model_copy(update={"groups": groups})
    return {"challenger": replace(fair["challenger"], risk=high), "settings": settings}


def refuse_groups(fair):
    # The elderly go last, whatever their risk.
    old = fair["groups"]["elderly_only"]
    risk = fair["challenger"].risk.where(~old, fair["challenger"].risk / 10)
    settings = fair["settings"].model_copy(update={"recall": None, "calibration": None})
    return {"challenger": replace(fair["challenger"], risk=risk), "settings": settings}


def refuse_reasons(fair):
    other = fair["challenger"].reasons.map(lambda _: ("income", "health", "relocation", "water"))
    return {"challenger": replace(fair["challenger"], reasons=other)}


def refuse_leakage(fair):
    return {"leakage": make_leakage("leak")}


def refuse_held_out(fair):
    seen = replace(fair["challenger"], learned_to=pd.Timestamp("2023-01-02"))
    return {"challenger": seen}


@pytest.mark.parametrize(
    ("change", "failed", "found"),
    [
        (refuse_recall, "recall", r"-0\.\d+ \("),
        (refuse_slope, "calibration_slope", r"^[12]\.\d+"),
        (refuse_ratio, "calibration_ratio", r"^0\.\d+"),
        (refuse_groups, "groups", "elderly_only yes: recall 0"),
        (refuse_reasons, "reasons", "50% kept, over 50 households"),
        (refuse_leakage, "leakage", "1 leaks: income"),
        (refuse_held_out, "held_out", "before 2023-01-02"),
    ],
)
def test_a_challenger_is_refused_for_each_reason_alone(fair, change, failed, found):
    decision = decide(fair, **change(fair))
    assert decision.failed == (failed,), decision.to_table().to_string()
    assert not decision.accepted
    assert pd.Series([decision.to_table().loc[failed, "found"]]).str.contains(found).all()


def test_a_challenger_that_is_no_better_is_refused(fair):
    same = replace(fair["champion"], risk=fair["challenger"].risk)
    decision = decide(fair, champion=same)
    assert decision.failed == ("recall",)
    # Every resample ties.
    assert figures(decision, "recall")["share_better"] == 0.5
    lenient = {"recall": {"smallest_gain": 0.0, "smallest_share_better": 0.5}}
    settings = parse_declaration(PromotionSettings, lenient | {"replicates": 20}, "test")
    assert decide(fair, champion=same, settings=settings).accepted


def test_the_first_champion_need_not_beat_anyone(fair):
    decision = decide(fair, champion=None)
    assert decision.accepted
    outcomes = decision.to_table()["outcome"]
    assert outcomes[outcomes == "not_applicable"].index.tolist() == ["recall", "reasons"]
    assert decision.to_dict()["champion"] == {"version": None, "model_id": None}


def test_what_was_not_looked_at_has_failed(fair):
    unknown = replace(fair["challenger"], reasons=None, learned_to=None)
    decision = decide(fair, challenger=unknown, leakage=None, groups=None)
    assert decision.failed == ("groups", "reasons", "leakage", "held_out")


def test_groups_too_small_to_judge_stop_no_promotion(fair):
    rare = pd.DataFrame({"relocated": np.arange(POINTS) < 5}, index=fair["labels"].index)
    decision = decide(fair, groups=rare)
    assert decision.accepted
    row = decision.to_table().loc["groups"]
    assert row["outcome"] == "not_applicable"
    assert row["found"].endswith("0 limits and 1 groupings too small to judge")
    assert decision.groups.measures.empty
    assert decision.to_dict()["groups_not_told"] == {"relocated": "under 10 members or outcomes"}


def test_conditions_that_are_null_are_not_asked_for(fair):
    names = ("recall", "calibration", "groups", "smallest_share_of_reasons")
    given = dict.fromkeys(names) | {"no_leaks": False, "held_out": False}
    settings = parse_declaration(PromotionSettings, given, "test")
    decision = decide(fair, settings=settings)
    assert decision.conditions == ()
    assert decision.accepted


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"recal": None}, "Did you mean 'recall'?"),
        ({"calibration": {"slope": [1.1, 1.2]}}, "the lowest, at most 1, and the highest"),
        ({"groups": {"smallest_recall_ratio": 1.2}}, "'groups.smallest_recall_ratio'"),
        ({"replicates": 0}, "'replicates'"),
    ],
)
def test_settings_that_cannot_be_meant_are_told(given, match):
    with pytest.raises(DeclarationError, match=match):
        parse_declaration(PromotionSettings, given, "promotion")


def test_points_have_to_fit(fair):
    few = replace(fair["champion"], risk=fair["champion"].risk.iloc[1:])
    with pytest.raises(FeatureError, match="risk 'champion': found 2999 points"):
        decide(fair, champion=few)
    with pytest.raises(DeclarationError, match="reasons: found 1 points without"):
        compute_kept_reasons(fair["challenger"].reasons.iloc[1:], fair["champion"].reasons)


def test_kept_reasons_by_hand():
    old = pd.Series([("a", "b", "c", "d"), ("a",), ()])
    new = pd.Series([("e", "d", "b", "f"), ("a", "b"), ("a",)])
    # Two of four, one of one, none of none: three of five.
    assert compute_kept_reasons(new[::-1], old) == 0.6
    assert np.isnan(compute_kept_reasons(new[2:], old[2:]))


def test_a_decision_as_plain_values_is_json_without_nan(fair):
    text = json.dumps(decide(fair, champion=None).to_dict(), allow_nan=False)
    assert "H000" not in text


# ------------------------------------------------------------------------------- the alias in MLflow

NAME = "county"
WORDS = {"who": "data desk", "why": "yearly retraining"}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store with three registered versions, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with edge.open_store(uri, "test", PovertyRiskError) as mlflow:
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("poverty-risk", str(folder / "artifacts"))
        client.create_registered_model(NAME)
        for _ in range(3):
            run_id = client.create_run(experiment).info.run_id
            client.set_terminated(run_id)
            client.create_model_version(NAME, source=str(folder), run_id=run_id)
    return folder


@pytest.fixture
def folder(empty_store, tmp_path):
    """A store of one's own; artifacts of its experiment are put beside it."""
    import shutil
    import sqlite3

    shutil.copy(empty_store / "mlflow.db", tmp_path / "mlflow.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        place = str(tmp_path / "artifacts")
        database.execute(
            "update experiments set artifact_location = ? where name != 'Default'", [place]
        )
    database.close()
    return tmp_path


@pytest.fixture
def client(folder):
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def make_decision(challenger="2", champion="1", *, accepted=True):
    condition = Condition("leakage", "0 leaks", "none", "passed" if accepted else "failed")
    old = None if champion is None else (champion, "old")
    period = ("2023-01-01", "2023-01-01")
    return Decision((condition,), (challenger, "new"), old, period, 0.02)


def record(folder, *args, **kwargs):
    return record_decision(make_decision(*args, **kwargs), NAME, **WORDS, store_folder=folder)


def champion_of(client, alias="champion"):
    return aliases.read_alias(client, NAME, alias)


def tags_of(client, run_id):
    return client.get_run(run_id).data.tags


def last_tags(client):
    experiment = client.get_experiment_by_name("poverty-risk").experiment_id
    return client.search_runs([experiment], order_by=["start_time DESC"])[0].data.tags


def test_accepted_refused_and_rolled_back(folder, client):
    first = record(folder, "1", None)
    assert (first.outcome, first.champion, first.former) == ("promoted", "1", None)
    second = record(folder, "2", "1")
    assert champion_of(client) == "2"
    third = record(folder, "3", "2", accepted=False)
    assert (third.outcome, third.champion) == ("refused", "2")
    assert champion_of(client) == "2"
    tags = tags_of(client, third.run_id)
    assert tags["promotion.outcome"] == "refused"
    assert tags["promotion.failed"] == "leakage"
    assert tags["promotion.alias_moved"] == "false"
    back = roll_back(NAME, who="head of desk", why="complaints", store_folder=folder)
    assert (back.outcome, back.champion, back.former) == ("rolled_back", "1", "2")
    assert champion_of(client) == "1"
    tags = tags_of(client, back.run_id)
    assert (tags["promotion.kind"], tags["promotion.who"]) == ("roll_back", "head of desk")
    # Nothing stood before the first champion.
    with pytest.raises(PovertyRiskError, match="found version 1, nothing before it"):
        roll_back(NAME, **WORDS, store_folder=folder)
    assert champion_of(client) == "1"
    # After a roll back one can promote again, also the same version.
    assert record(folder, "2", "1").champion == "2"
    assert tags_of(client, second.run_id)["promotion.outcome"] == "promoted"


def test_one_can_go_back_further_than_once(folder, client):
    for challenger, champion in (("1", None), ("2", "1"), ("3", "2")):
        record(folder, challenger, champion)
    for expected in ("2", "1"):
        assert roll_back(NAME, **WORDS, store_folder=folder).champion == expected
    assert roll_back(NAME, **WORDS, to="3", store_folder=folder).champion == "3"


def test_a_champion_chosen_by_hand_is_respected(folder, client):
    record(folder, "1", None)
    client.set_registered_model_alias(NAME, "champion", "3")
    with pytest.raises(
        PovertyRiskError, match="found version 3 as champion now; expected version 1"
    ):
        record(folder, "2", "1")
    assert champion_of(client) == "3"
    assert last_tags(client)["promotion.outcome"] == "overtaken"
    # From where it stands now one can promote; back one cannot, unless the version is named.
    with pytest.raises(PovertyRiskError, match="version 3, nothing before it"):
        roll_back(NAME, **WORDS, store_folder=folder)
    assert record(folder, "2", "3").champion == "2"


def test_who_comes_second_is_told(folder, client):
    record(folder, "1", None)
    record(folder, "2", "1")
    with pytest.raises(
        PovertyRiskError, match="found version 2 as champion now; expected version 1"
    ):
        record(folder, "3", "1")
    assert champion_of(client) == "2"
    with pytest.raises(
        PovertyRiskError, match="found version 2 as champion now; expected no version"
    ):
        record(folder, "3", None)


def test_who_comes_while_another_is_at_work_is_told(folder, client, monkeypatch):
    """The second begins between the claim of the first and its move."""
    record(folder, "1", None)
    told = []
    claim = aliases.claim_alias

    def claim_then_meet_another(own, name, alias, expected, run_id):
        holder = claim(own, name, alias, expected, run_id)
        experiment = own.get_experiment_by_name("poverty-risk").experiment_id
        other = own.create_run(experiment).info.run_id
        told.append((run_id, claim(own, name, alias, expected, other)))
        return holder

    monkeypatch.setattr(edge, "claim_alias", claim_then_meet_another)
    assert record(folder, "2", "1").champion == "2"
    assert told[0][0] == told[0][1]


def test_of_two_that_claim_at_the_same_moment_one_wins(folder, client, monkeypatch):
    """Both have read that nobody claims; the store lets only one write."""
    record(folder, "1", None)
    experiment = client.get_experiment_by_name("poverty-risk").experiment_id
    runs = [client.create_run(experiment).info.run_id for _ in range(2)]
    write = client.log_param

    def write_after_the_other(run_id, key, value):
        monkeypatch.setattr(client, "log_param", write)
        assert aliases.claim_alias(client, NAME, "champion", "1", runs[1]) is None
        write(run_id, key, value)

    monkeypatch.setattr(client, "log_param", write_after_the_other)
    assert aliases.claim_alias(client, NAME, "champion", "1", runs[0]) == runs[1]


def test_a_program_that_died_blocks_for_a_while_only(folder, client, monkeypatch):
    record(folder, "1", None)
    experiment = client.get_experiment_by_name("poverty-risk").experiment_id
    dead = client.create_run(experiment).info.run_id
    assert aliases.claim_alias(client, NAME, "champion", "1", dead) is None
    with pytest.raises(PovertyRiskError, match=f"another promotion at work \\(run {dead}\\)"):
        record(folder, "2", "1")
    monkeypatch.setattr(aliases, "LONGEST_CLAIM", 0.0)
    assert record(folder, "2", "1").champion == "2"


def test_one_that_is_taken_for_dead_moves_nothing(folder, client, monkeypatch):
    record(folder, "1", None)
    monkeypatch.setattr(edge, "LONGEST_CLAIM", -1.0)
    with pytest.raises(PovertyRiskError, match="so slow a store"):
        record(folder, "2", "1")
    assert champion_of(client) == "1"


def test_a_store_that_fails_leaves_alias_and_a_failed_run(folder, client, monkeypatch):
    record(folder, "1", None)
    with pytest.raises(PovertyRiskError, match="Model Version.*not found"):
        record(folder, "9", "1")
    assert champion_of(client) == "1"
    experiment = client.get_experiment_by_name("poverty-risk").experiment_id
    last = client.search_runs([experiment], order_by=["start_time DESC"])[0]
    assert last.info.status == "FAILED"
    # Its claim is over.
    assert record(folder, "2", "1").champion == "2"


def test_claims_move_on_when_the_run_of_the_champion_is_gone(folder, client):
    record(folder, "2", None)
    client.delete_run(client.get_model_version(NAME, "2").run_id)
    assert record(folder, "3", "2").champion == "3"
    for version in ("1", "3"):
        client.delete_run(client.get_model_version(NAME, version).run_id)
    with pytest.raises(PovertyRiskError, match="no version with its training run"):
        record(folder, "1", "3")


def test_two_threads_promote_at_once(folder, client):
    record(folder, "1", None)
    start, outcomes = threading.Barrier(2), []

    def promote(version):
        start.wait()
        try:
            outcomes.append(record(folder, version, "1").champion)
        except PovertyRiskError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=promote, args=[version]) for version in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_one_won(client, outcomes)


PROMOTE = """
import sys, time
from pathlib import Path
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.promotion import Decision
from poverty_risk.tracking.promotion import record_decision
import mlflow
folder, name, version = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
period = ("2023-01-01", "2023-01-01")
decision = Decision((), (version, "new"), ("1", "old"), period, 0.02)
(folder / f"ready_{version}").touch()
while not all((folder / f"ready_{v}").exists() for v in "23"):
    time.sleep(0.001)
try:
    print(record_decision(decision, name, who="desk", why="new", store_folder=folder).champion)
except PovertyRiskError as error:
    print(error)
"""


def test_two_processes_promote_at_once(folder, client):
    record(folder, "1", None)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, str(folder), NAME, version],
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in ("2", "3")
    ]
    outcomes = [process.communicate(timeout=120)[0].strip() for process in running]
    check_one_won(client, outcomes)


def check_one_won(client, outcomes):
    won = [text for text in outcomes if text in ("2", "3")]
    assert len(won) == 1, outcomes
    assert champion_of(client) == won[0]
    told = next(text for text in outcomes if text != won[0])
    assert "expected version 1" in told
    assert "another promotion at work" in told or f"version {won[0]} as champion now" in told


def test_the_record_says_who_and_why_with_numbers_masked(folder, client):
    record(folder, "1", None)
    told = record_decision(
        make_decision("2", "1"), NAME, who=" Li ", why="asked by 13812345678", store_folder=folder
    )
    tags = tags_of(client, told.run_id)
    assert (tags["promotion.who"], tags["promotion.why"]) == ("Li", "asked by 13***78")
    assert tags["promotion.champion"] == "1"
    version = client.get_model_version(NAME, "2")
    assert version.tags["promotion.replaced"] == "1"
    assert version.tags["promotion.decision"] == told.run_id
    with pytest.raises(DeclarationError, match=r"who: found nothing[\s\S]*why: found nothing"):
        record_decision(make_decision(), NAME, who="", why=" ", store_folder=folder)


def test_another_alias_is_another_matter(folder, client):
    record(folder, "1", None)
    record_decision(make_decision("3", None), NAME, **WORDS, alias="trial", store_folder=folder)
    assert champion_of(client, "trial") == "3"
    assert champion_of(client) == "1"


def test_versions_are_found_by_number_alias_and_uri(folder, client):
    record(folder, "2", None)
    for which in ("2", "models:/county/2", "champion", "models:/county@champion"):
        found = find_version(NAME, which, store_folder=folder)
        assert found.uri == "models:/county/2"
    assert find_version(NAME, "trial", store_folder=folder) is None
    assert find_version(NAME, "9", store_folder=folder) is None
    with pytest.raises(ModelFolderError, match="no MLflow store"):
        find_version(NAME, "2", store_folder=folder / "elsewhere")
    assert not (folder / "elsewhere").exists()


# ------------------------------------------------------------------------- the whole way on a county


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A county with two registered models: a plain champion, and a better one without alias."""
    output = tmp_path_factory.mktemp("run")
    tables = make_household_history(400, start="2019-01-01", end="2024-01-01", seed=3).tables
    points = build_prediction_points(tables, ["2020-07-01", "2021-01-01"])
    labels = label_returns(tables, points, "12mo", "identified").dropna()
    catalog = pick_features()
    features = build_features(tables, points.loc[labels.index], catalog)
    task = PredictionTask(tables.schema, "at_risk", "identified", "12mo", dict(tables.line or {}))
    settings = {"num_leaves": 4, "learning_rate": 0.1, "min_child_samples": 10, "n_jobs": 1}
    settings |= {"embargo": False, "early_stopping_rounds": None}
    for trees, alias in ((3, "champion"), (15, None)):
        model = RiskModel(catalog, task, n_estimators=trees, **settings).fit(features, labels)
        model.save(output / f"model_{trees}")
        evaluation = evaluate_risk(labels, {"model": model.risk(features)}, replicates=0)
        log_training(
            record_training(model, output / f"model_{trees}", evaluation),
            registered_name=NAME,
            alias=alias,
            store_folder=output / "mlflow",
        )
    period = {"first": "2022-07-01", "last": "2022-07-01"}
    content = {
        "output": str(output),
        "tasks": {"a": {"cohort": "at_risk", "label": "identified"}},
        "periods": {"train": {"first": "2020-07-01", "last": "2021-01-01"}, "test": period},
        "tracking": {"registered_name": NAME},
        "visits": {"share": 0.1},
    }
    return tables, parse_declaration(Config, content, "test")


@pytest.fixture
def store(trained):
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{trained[1].output / 'mlflow' / 'mlflow.db'}")


def lenient(**changes):
    """Few outcomes: what a county of 400 households cannot show is not asked for."""
    given = {"recall": {"smallest_gain": -1, "smallest_share_better": 0}, "calibration": None}
    given |= {"smallest_share_of_reasons": 0.0, "replicates": 20}
    return parse_declaration(PromotionSettings, given | changes, "test")


def test_promoted_on_a_county_then_rolled_back(trained, store):
    tables, config = trained
    strict = lenient(recall={"smallest_gain": 0.9}, smallest_share_of_reasons=1.0)
    refused = workflow.promote(config, tables, "2", **WORDS, settings=strict)
    assert refused.recorded.outcome == "refused"
    assert "recall" in refused.decision.failed
    assert champion_of(store) == "1"
    done = workflow.promote(config, tables, "models:/county/2", **WORDS, settings=lenient())
    assert done.decision.accepted, done.decision.to_table().to_string()
    assert champion_of(store) == "2"
    conditions = done.decision.to_table()
    assert "households on its visit list" in conditions.loc["reasons", "found"]
    # Trained to 2021-01-01, twelve months, and the label's reporting lag of 60 days.
    assert conditions.loc["held_out", "found"].endswith("2022-03-02")
    assert 0 < figures(done.decision, "reasons")["kept"] <= 1
    back = workflow.roll_back(config, **WORDS)
    assert back.champion == champion_of(store) == "1"
    check_record(tables, config, store, done.recorded.run_id)
    with pytest.raises(DeclarationError, match="challenger: found version 1; expected another"):
        workflow.promote(config, tables, "champion", **WORDS)
    with pytest.raises(DeclarationError, match="challenger: found no version 'trial'"):
        workflow.promote(config, tables, "trial", **WORDS)


def check_record(tables, config, store, run_id):
    """Figures and conditions are there; no household, no pickle, no count of outcomes."""
    run = store.get_run(run_id)
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(files) == {"decision.json", "tables/conditions.csv", "tables/groups.csv"}
    written = "\n".join(path.read_text("utf-8") for path in files.values())
    written += json.dumps(run.to_dictionary())
    assert not [i for i in tables.households if i in written]
    content = json.loads(files["decision.json"].read_text("utf-8"))
    assert content["accepted"] is True
    assert (content["who"], content["why"]) == tuple(WORDS.values())
    assert content["champion"]["version"] == "1"
    assert content["period"] == {"first": "2022-07-01", "last": "2022-07-01"}
    assert run.data.metrics["recall.challenger"] == pytest.approx(
        next(c for c in content["conditions"] if c["name"] == "recall")["figures"]["challenger"]
    )
    groups = pd.read_csv(files["tables/groups.csv"])
    assert not {"members", "outcomes"} & set(groups.columns)


def test_models_of_other_tasks_are_not_compared(trained):
    _, config = trained
    one = RiskModel.load(config.output / "model_3")
    other = RiskModel.load(config.output / "model_15")
    other.task = replace(other.task, label="any")
    with pytest.raises(DeclarationError, match="identified 12mo against archive at_risk any 12mo"):
        find_shared_task([one, other])


def test_budget_is_that_of_the_visit_lists(trained):
    _, config = trained
    asked = PromotionSettings()
    assert workflow._find_budget(config, asked, 400) == 0.1
    assert workflow._find_budget(config, PromotionSettings(budget=0.03), 400) == 0.03
    visits = config.visits.model_copy(update={"share": None, "capacity": 40})
    numbers = config.model_copy(update={"visits": visits})
    assert workflow._find_budget(numbers, asked, 400) == 0.1
    visits = visits.model_copy(update={"capacity": {"county": 40}})
    nested = config.model_copy(update={"visits": visits})
    with pytest.raises(DeclarationError, match=r"promotion\.budget: found none"):
        workflow._find_budget(nested, asked, 400)
