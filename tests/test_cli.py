"""The command line, from a simulated history in a folder to explained households."""

import datetime as dt
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from poverty_risk import predict_risk, read_history
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


def test_check_tells_contradictions_and_writes_what_to_correct(run, tmp_path):
    history, out = tmp_path / "history", tmp_path / "out"
    shutil.copytree(run["history"], history)
    visits = pd.read_parquet(history / "visit.parquet")
    visits.loc[:2, "known_date"] = dt.date(2000, 1, 1)  # before they happened
    visits.to_parquet(history / "visit.parquet", index=False)
    result = CliRunner().invoke(
        cli, ["check", str(history), "--output", str(out), "--locale", "en"]
    )
    assert result.exit_code == 0, result.output
    assert "known on or after the day it happened" in result.output
    # The recorder of the simulation copies accounts of the year before.
    assert "All income parts equal those of the year before: copied" in result.output
    rejected = pd.read_csv(out / "office_only" / "rejected.csv")
    assert rejected.loc[rejected["table"] == "visit", "row"].tolist() == [0, 1, 2]
    # What was rejected of the other tables before they were written is told, too.
    assert {"household", "income"} <= set(rejected["table"])
    assert {path.name for path in (out / "checks").iterdir()} == {
        "corrections_en.xlsx", "rules_en.csv", "townships_en.csv",
    }  # fmt: skip


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
    known = predict_risk(read_history(run["history"]), as_of_date="2025-01-01", model=run["model"])
    known = known.index[known["status"] == "ok"][0]
    result = CliRunner().invoke(
        cli,
        ["explain", "--config", run["config"], "--model", run["model"], "--locale", "en",
         "--household", known, "--household", "H9999999"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Associated with a higher risk" in result.output
    assert "## 1. Household" in result.output
    assert "2. H9***99: no record of the household" in result.output
    alone = ["explain", "--config", run["config"], "--model", run["model"], "--locale", "en"]
    result = CliRunner().invoke(cli, [*alone, "--household", "H9999999"])
    assert "H9***99: no record of the household" in result.output
    assert "Model:" not in result.output


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


@pytest.fixture(scope="module")
def visited(run):
    result = CliRunner().invoke(
        cli, ["visits", "--config", run["config"], "--model", run["model"], "--locale", "en"]
    )
    assert result.exit_code == 0, result.output
    return {**run, "visits": result.output, "out": run["folder"] / "out"}


def test_visits_writes_workbook_page_and_lookup(visited):
    assert "expected returns reached" in visited["visits"]
    page = (visited["out"] / "visits" / "visits_en.html").read_text(encoding="utf-8")
    lookup = visited["out"] / "office_only" / "households.csv"
    assert lookup.stat().st_mode & 0o077 == 0
    assert "of the 50 most similar earlier households" in page
    assert not set(pd.read_csv(lookup)["household_id"]) & set(re.findall(r"H\d{7}", page))


def test_a_village_sees_its_own_and_no_health_detail(visited):
    from poverty_risk.report.health import tells_of_health

    listed = pd.read_excel(
        visited["out"] / "visits" / "visits_en.xlsx", sheet_name=None, header=None
    )
    cells = [str(cell) for sheet in listed.values() for cell in sheet.to_numpy().ravel()]
    village = next(cell for cell in cells if re.fullmatch(r"V\d{4}", cell))
    result = CliRunner().invoke(
        cli,
        [
            "visits",
            "--config",
            visited["config"],
            "--model",
            visited["model"],
            "--locale",
            "en",
            "--role",
            "village",
            "--place",
            village,
        ],
    )
    assert result.exit_code == 0, result.output
    (written,) = (visited["out"] / "visits").glob(f"visits_village-{village}-*_en.html")
    page = written.read_text(encoding="utf-8")
    assert set(re.findall(r"\bV\d{4}\b", page)) == {village}
    reasons = re.findall(r'<span class="theme">[^<]*</span>: ([^<]*)</p>', page)
    assert reasons
    assert [text for text in reasons if tells_of_health(text)] == []
    # The same line on every card, whether something is left out on it or not.
    cards = page.count('<article class="card"')
    assert page.count("the township officer who holds the full card verifies") == cards


def test_card_of_one_household(visited):
    household = pd.read_csv(visited["out"] / "office_only" / "households.csv")["household_id"][0]
    result = CliRunner().invoke(
        cli,
        [
            "card",
            "--config",
            visited["config"],
            "--model",
            visited["model"],
            "--locale",
            "en",
            "--household",
            household,
        ],
    )
    assert result.exit_code == 0, result.output
    (path,) = (visited["out"] / "cards").glob("*_en.html")
    text = path.read_text(encoding="utf-8")
    assert re.search("(About|Fewer than) [0-9]+ of 1(00|,000) such households", text)
    assert household not in text


def test_report_from_disk(visited, tmp_path):
    out = tmp_path / "report.html"
    result = CliRunner().invoke(
        cli,
        [
            "report",
            "--model",
            visited["model"],
            "--output",
            str(out),
            "--locale",
            "en",
            "--evaluation",
            str(visited["out"] / "evaluation" / "any_12mo"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "<html" in out.read_text(encoding="utf-8")


def test_feedback_comes_back_once(visited, tmp_path):
    import openpyxl

    book = openpyxl.load_workbook(visited["out"] / "visits" / "visits_en.xlsx")
    sheet = next(
        s for s in book if any(c.value == "Visited on" for row in s.iter_rows() for c in row)
    )
    head = next(row for row in sheet.iter_rows() if any(c.value == "Visited on" for c in row))
    at = {cell.value: cell.column for cell in head}
    row = head[0].row + 1
    sheet.cell(row, at["Visited on"]).value = "2025-01-20"
    sheet.cell(row, at["Found true"]).value = "yes"
    sheet.cell(row + 1, at["Visited on"]).value = "2025-01-21"  # no result: a fault
    filled = tmp_path / "filled.xlsx"
    book.save(filled)
    command = [
        "feedback",
        "--config",
        visited["config"],
        "--imported-on",
        "2025-02-01",
        str(filled),
    ]
    first = CliRunner().invoke(cli, command)
    assert first.exit_code == 0, first.output
    assert first.output.startswith("1 visits on record")
    assert "1 faults" in first.output
    again = CliRunner().invoke(cli, command)
    assert again.output.splitlines()[0] == first.output.splitlines()[0]
    assert (visited["out"] / "visits" / "filled_to_correct.xlsx").is_file()
    visits = pd.read_parquet(visited["out"] / "office_only" / "visit.parquet")
    assert visits["event_date"].astype(str).tolist() == ["2025-01-20"]
