"""The command line, from a simulated history in a folder to explained households."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from poverty_risk.cli import cli, main

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small history in a folder and a model trained on it, both through the command line."""
    folder = tmp_path_factory.mktemp("run")
    runner = CliRunner()
    history = folder / "county"
    made = runner.invoke(cli, ["simulate", str(history), "--households", "600", "--seed", "3"])
    assert made.exit_code == 0, made.output
    settings = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text(encoding="utf-8"))
    settings["history"] = {"source": "folder", "folder": str(history), "schema": "archive"}
    settings["output"] = str(folder / "out")
    settings["model"] |= {"n_estimators": 20, "n_jobs": 1, "min_child_samples": 10}
    settings["evaluation"] |= {"replicates": 0, "truth_replicates": 0}
    settings["scoring"] |= {"as_of_date": "2025-01-01"}
    # Households of which nobody is identified leave nothing to learn in so small a county.
    settings["tasks"] = {
        "any_12mo": {"cohort": "at_risk", "label": "any", "horizon": "12mo"},
    }
    # Its income part is known 120 days late: the embargo is longer than for the first task.
    settings["periods"] = {
        "train": {"first": "2020-01-01", "last": "2022-01-01", "every": "6mo"},
        "test": {"first": "2023-07-01", "last": "2023-07-01", "every": "6mo"},
    }
    settings["tracking"]["enabled"] = False
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    trained = runner.invoke(cli, ["train", "--config", str(config)])
    assert trained.exit_code == 0, trained.output
    return {
        "folder": folder,
        "history": history,
        "config": str(config),
        "model": str(folder / "out" / "models" / "any_12mo"),
        "trained": trained.output,
    }


def test_train_prints_every_candidate_and_writes_its_tables(run):
    for name in ("model", "logistic", "rules", "income_rule", "vep"):
        assert f"\n{name} " in run["trained"]
    metrics = pd.read_csv(run["folder"] / "out" / "evaluation" / "any_12mo" / "metrics.csv")
    assert set(metrics["name"]) == {"model", "logistic", "rules", "income_rule", "vep"}
    assert metrics.set_index("name").loc["model", "auc"] > 0.6


def test_check_counts_rejected_rows_and_writes_them(run, tmp_path):
    out = tmp_path / "rejected.csv"
    result = CliRunner().invoke(cli, ["check", str(run["history"]), "--rejected", str(out)])
    assert result.exit_code == 0, result.output
    # What was written has already been validated: nothing is left to reject.
    assert "600" in result.output or "59" in result.output
    assert list(pd.read_csv(out).columns)[:3] == ["table", "row", "column"]


def test_predict_writes_masked_ids_only(run):
    result = CliRunner().invoke(
        cli, ["predict", "--config", run["config"], "--model", run["model"], "--locale", "en"]
    )
    assert result.exit_code == 0, result.output
    text = (run["folder"] / "out" / "visits" / "visit_priority_en.csv").read_text("utf-8-sig")
    households = pd.read_parquet(run["history"] / "household.parquet")["household_id"].unique()
    assert not [household for household in households if household in text]
    lookup = run["folder"] / "out" / "office_only" / "households.csv"
    assert lookup.stat().st_mode & 0o077 == 0
    known = pd.read_csv(lookup)
    assert set(known["household_id"]) <= set(households)
    assert known["pseudonym"].is_unique
    table = pd.read_csv(run["folder"] / "out" / "visits" / "visit_priority_en.csv")
    assert table["risk"].is_monotonic_decreasing


def test_evaluate_agrees_with_training(run):
    result = CliRunner().invoke(
        cli, ["evaluate", "--config", run["config"], "--model", run["model"]]
    )
    assert result.exit_code == 0, result.output
    metrics = pd.read_csv(run["folder"] / "out" / "evaluation" / "any_12mo" / "metrics.csv")
    auc = metrics.set_index("name").loc["model", "auc"]
    assert f"{auc:.3f}" in result.output


def test_explain_answers_known_and_unknown_households(run):
    household = pd.read_csv(run["folder"] / "out" / "office_only" / "households.csv")
    known = household["household_id"].iloc[0]
    result = CliRunner().invoke(
        cli,
        ["explain", "--config", run["config"], "--model", run["model"], "--locale", "en",
         "--household", known, "--household", "H9999999"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Associated with a higher risk" in result.output
    assert "H9***99: not in the history" in result.output or "H9***99" in result.output


def test_leakage_finds_none_in_the_shipped_features(run):
    result = CliRunner().invoke(cli, ["leakage", "--config", run["config"]])
    assert result.exit_code == 0, result.output


def test_errors_come_without_a_traceback(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["poverty-risk", "train", "--config", "no/such.yaml"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "DeclarationError" in shown
    assert "no such file" in shown
    assert "Traceback" not in shown


def test_model_folder_holds_no_household(run):
    manifest = (Path(run["model"]) / "manifest.json").read_text(encoding="utf-8")
    households = pd.read_parquet(run["history"] / "household.parquet")["household_id"].unique()
    assert not [household for household in households if household in manifest]
    assert json.loads(manifest)["format"] >= 1
