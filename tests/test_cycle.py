"""The monthly and the yearly chain: killed at any step they go on, and nothing is done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib import resources

import pandas as pd
import pytest
from click.testing import CliRunner

from poverty_risk import make_household_history, workflows
from poverty_risk.cli import cli
from poverty_risk.config import load_config
from poverty_risk.exceptions import DeclarationError, PovertyRiskError
from poverty_risk.tables import read_history
from poverty_risk.tracking.versions import RegisteredVersion
from poverty_risk.workflows import month, year
from poverty_risk.workflows.step_log import Done, StepLog

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)
LATER = {"line.csv": "2030,9000.0\n", "rules.yaml": "# as agreed in March\n"}
MONTH = ["check", "monitor", "score", "lists", "track"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """A folder history, an output folder with a champion, and the overrides that name them."""
    place = tmp_path_factory.mktemp("office")
    make_household_history(700, seed=5).tables.write(place / "history")
    overrides = {
        "history.source": "folder",
        "history.folder": str(place / "history"),
        "output": str(place / "output"),
        "model.n_estimators": "15",
        "model.n_refits": "0",
        "evaluation.replicates": "5",
        "promotion.replicates": "20",
        "visits.previous": None,
    }
    config = load_config("configs/quick.yaml", overrides)
    done = workflows.run_year(config, who="data office", why="first model")
    assert [step.name for step in done.steps] == ["train"]  # nobody to be compared with
    return place, overrides


def _config(office, **extra):
    return load_config("configs/quick.yaml", {**office[1], **extra})


@pytest.fixture
def quiet(monkeypatch):
    """Monitoring that finds nothing: what it finds is tested elsewhere."""
    monkeypatch.setattr(month, "_monitor", lambda *_: Done({}, {"issues": [], "tips": []}))


def test_a_month_runs_once(office, quiet):
    config = _config(office)
    first = workflows.run_month(config)
    assert [step.name for step in first.steps] == MONTH
    assert not any(step.kept for step in first.steps)
    assert (config.output / "visits" / "visits_zh.xlsx").is_file()
    again = workflows.run_month(config)
    assert [step.name for step in again.steps] == MONTH
    assert all(step.kept for step in again.steps)
    assert [s.figures for s in again.steps] == [s.figures for s in first.steps]


@pytest.mark.parametrize("at", ["_check", "_score", "_list", "_track"])
def test_killed_at_any_step_it_goes_on_there(office, quiet, monkeypatch, tmp_path, at):
    config = _config(office)
    (config.output / "cycle" / "month.json").unlink(missing_ok=True)
    name = {"_check": "check", "_score": "score", "_list": "lists", "_track": "track"}[at]

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(month, at, die)
        with pytest.raises(Killed):
            workflows.run_month(config)
    steps = workflows.run_month(config).steps
    assert [s.name for s in steps] == MONTH
    assert [s.name for s in steps if s.kept] == MONTH[: MONTH.index(name)]


def test_what_was_deleted_is_made_again_and_all_after_it_stays(office, quiet):
    config = _config(office)
    workflows.run_month(config)
    page = config.output / "visits" / "visits_zh.html"
    before = page.read_bytes()
    page.unlink()
    states = {step.name: step.kept for step in workflows.run_month(config).steps}
    assert states == {"check": True, "monitor": True, "score": True, "lists": False, "track": True}
    assert (
        page.read_bytes() == before
    )  # the same round, the same page: hence nothing after it changes


def test_new_records_run_every_step_again(office, quiet, tmp_path):
    config = _config(office)
    workflows.run_month(config)
    tables = read_history(office[0] / "history")
    fewer = tables.known_before(tables.observed_to - pd.Timedelta(days=3))
    fewer.write(tmp_path / "history")
    other = _config(office, **{"history.folder": str(tmp_path / "history")})
    assert not any(step.kept for step in workflows.run_month(other).steps)


def test_a_line_or_rule_corrected_by_hand_runs_every_step_again(office, quiet, tmp_path):
    folder = tmp_path / "history"
    shutil.copytree(office[0] / "history", folder)
    shipped = resources.files("poverty_risk") / "rules.yaml"
    rules = tmp_path / "rules.yaml"
    rules.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    config = _config(office, **{"history.folder": str(folder), "baselines.rules": str(rules)})
    workflows.run_month(config)
    for path in (folder / "line.csv", rules):
        assert all(step.kept for step in workflows.run_month(config).steps)
        # One more year, or a remark: neither is told by the manifest that the folder was written with.
        path.write_text(path.read_text(encoding="utf-8") + LATER[path.name], encoding="utf-8")
        assert not any(step.kept for step in workflows.run_month(config).steps)


def test_an_issue_keeps_lists_back_until_somebody_accepts_it(office, monkeypatch):
    def issue(*_):
        return Done({}, {"issues": ["M008", "M009"], "tips": []})

    monkeypatch.setattr(month, "_monitor", issue)
    config = _config(office)
    (config.output / "cycle" / "month.json").unlink(missing_ok=True)
    stopped = workflows.run_month(config)
    assert stopped.stopped_by == ("M008",)  # M009 does not stop: the order may still be right
    assert [step.name for step in stopped.steps] == ["check", "monitor"]
    assert stopped.exit_code == 1
    gone_on = workflows.run_month(config, accepted=["M008"])
    assert [s.name for s in gone_on.steps] == MONTH
    assert [s.kept for s in gone_on.steps][:2] == [True, True]
    assert gone_on.exit_code == 1  # the issue is still one


def test_monitoring_runs_in_the_chain_and_reads_past_lists(office):
    config = _config(office)
    (config.output / "cycle" / "month.json").unlink(missing_ok=True)
    watched = next(s for s in workflows.run_month(config).steps if s.name == "monitor")
    assert set(watched.figures) == {"issues", "tips"}
    assert all(not path.startswith("/") for path, _ in watched.outputs.values())


def test_a_round_is_tracked_once(office, quiet):
    from poverty_risk.tracking.connection import open_store, resolve_uri

    config = _config(office)
    (config.output / "cycle" / "month.json").unlink(missing_ok=True)
    run = workflows.run_month(config).steps[-1].figures["run"]
    # Killed after MLflow was told and before we noted it.
    path = config.output / "cycle" / "month.json"
    log = json.loads(path.read_text())
    log["steps"] = [step for step in log["steps"] if step["name"] != "track"]
    path.write_text(json.dumps(log))
    again = workflows.run_month(config).steps[-1]
    assert not again.kept
    assert again.figures["run"] == run
    uri = resolve_uri(None, config.output / "mlflow")
    with open_store(uri, "test", PovertyRiskError) as mlflow:
        content = mlflow.MlflowClient().get_run(run).data
    assert content.metrics["lists.visits"] > 0
    assert content.metrics["score.ok"] > 100


def test_a_second_year_compares_and_decides_once(office, monkeypatch):
    config = _config(office, seed="1")
    done = workflows.run_year(config, who="data office", why="yearly")
    assert [step.name for step in done.steps] == ["train", "compare", "promote"]
    outcome = done.steps[-1].figures["outcome"]
    assert outcome in ("promoted", "refused")
    assert done.exit_code == int(outcome == "refused")
    figures = done.steps[0].figures
    assert figures["champion"] != figures["version"]
    again = workflows.run_year(config, who="data office", why="yearly")
    assert all(step.kept for step in again.steps)
    # Killed between the registration and our note of it: the version is found, not made again.
    path = config.output / "cycle" / "year.json"
    path.unlink()
    third = workflows.run_year(config, who="data office", why="yearly")
    assert third.steps[0].figures["version"] == figures["version"]


def test_a_first_training_killed_before_its_alias_is_held_to_the_conditions(office, tmp_path):
    config = _config(office, output=str(tmp_path), **{"tracking.alias": None})
    steps = workflows.run_year(config, who="data office", why="first model").steps
    assert [step.name for step in steps] == ["train", "promote"]
    assert steps[0].figures["champion"] == "none"
    assert steps[1].figures["outcome"] in ("promoted", "refused")


def test_a_champion_moved_by_hand_is_the_one_compared_with(office, monkeypatch):
    def compare(config, tables, version, rival):
        return Done({}, {"rival": rival})

    def refuse(*_):
        return Done({}, {"outcome": "refused"})

    monkeypatch.setattr(year, "_compare", compare)
    monkeypatch.setattr(year, "_promote", refuse)
    config = _config(office, seed="2")
    first = workflows.run_year(config, who="data office", why="yearly")
    assert first.steps[1].figures["rival"] == first.steps[0].figures["champion"]
    moved = RegisteredVersion("poverty-risk", "17")
    monkeypatch.setattr(year, "find_champion", lambda _: moved)
    again = workflows.run_year(config, who="data office", why="yearly")
    assert [step.kept for step in again.steps] == [True, False, False]
    assert again.steps[1].figures["rival"] == "17"


def test_periods_move_on_as_outcomes_become_known(office):
    config = _config(office)
    tables, _ = workflows.read_tables(config)
    moved = workflows.move_periods(config, tables)
    assert moved == config  # the quick config already tests on the last complete year
    early = _config(
        office,
        **{
            "periods.train.first": "2020-01-01",
            "periods.train.last": "2020-07-01",
            "periods.test.first": "2021-10-01",
            "periods.test.last": "2021-10-01",
        },
    )
    moved = workflows.move_periods(early, tables)
    assert str(moved.periods.test.last) == "2023-10-01"
    assert str(moved.periods.train.first) == "2020-01-01"
    assert str(moved.periods.train.last) == "2022-07-01"


def test_no_champion_and_no_tracking_are_told(office, tmp_path):
    config = _config(office, output=str(tmp_path))
    with pytest.raises(PovertyRiskError, match="no MLflow store"):
        workflows.run_month(config)
    with pytest.raises(DeclarationError, match="tracking: found switched off"):
        workflows.run_month(_config(office, **{"tracking.enabled": "false"}))


def test_a_code_that_does_not_exist_is_not_accepted(office):
    with pytest.raises(DeclarationError, match="accepted issues: found M08, M999"):
        workflows.run_month(_config(office), accepted=["M08", "M999", "M008"])


def test_sources_need_a_folder_history():
    with pytest.raises(DeclarationError, match="which `cycle.sources` are imported into"):
        load_config("configs/quick.yaml", {"cycle.sources": ["data/raw"]})


def test_a_damaged_log_is_told(tmp_path):
    (tmp_path / "month.json").write_text("{")
    with pytest.raises(PovertyRiskError, match="Delete it"):
        StepLog(tmp_path / "month.json", tmp_path)


def test_a_step_that_is_killed_for_real_leaves_no_record(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from poverty_risk.workflows.step_log import Done, StepLog\n"
        "log = StepLog(Path(sys.argv[1]) / 'log.json', Path(sys.argv[1]))\n"
        "log.run('first', 'a', lambda: Done())\n"
        "log.run('second', 'b', lambda: (print('ready', flush=True), time.sleep(60), Done())[2])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    log = StepLog(tmp_path / "log.json", tmp_path)
    assert log.run("first", "a", Done).kept
    assert not log.run("second", "b", Done).kept


def test_the_command_tells_each_step(office, quiet):
    arguments = ["cycle", "--config", "configs/quick.yaml", "--folder", office[1]["history.folder"]]
    result = CliRunner().invoke(cli, [*arguments, "--yearly", "--output", office[1]["output"]])
    assert result.exit_code == 2
    assert "--who" in result.output
