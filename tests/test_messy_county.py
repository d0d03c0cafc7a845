"""From the files of a messy county to explained households, end to end: nothing lost on the way."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from messy_county import EXPORT_DAYS, LINE, write_messy_county
from poverty_risk import workflows
from poverty_risk.cli import cli
from poverty_risk.config import load_config
from poverty_risk.sources import Store, build_history, import_sources

ROOT = Path(__file__).parents[1]
KEY = b"only for tests, 20 bytes"


@pytest.fixture(scope="module")
def county(tmp_path_factory):
    return write_messy_county(tmp_path_factory.mktemp("files"), 260, seed=2)


@pytest.fixture(scope="module")
def imported(county, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    paths = [file.path for file in county.files]
    return folder, import_sources(paths, folder, KEY)


@pytest.fixture(scope="module")
def history(imported):
    return build_history(Store(imported[0])).with_line(LINE)


def test_each_row_is_accepted_rejected_or_a_repeat(county, imported):
    told = {file.file: file for file in imported[1].files}
    for written in county.files:
        found = told[written.path.name]
        assert (found.status, list(found.kinds.values())) == ("imported", [written.kind])
        counts = found.counts
        assert counts.read == counts.accepted + counts.rejected + counts.repeated
        assert (counts.read, counts.rejected, counts.repeated) == (
            written.rows, written.rejected, written.repeated,
        ), written.path.name  # fmt: skip


def test_each_unreadable_cell_is_told_with_its_row(county, imported):
    faults = imported[1].rejected.to_pandas()
    for written in county.files:
        own = faults[faults["file"] == written.path.name]
        if written.kind == "national_person":
            own = own[own["expected"].str.contains("a spreadsheet rounded this number")]
        assert own["row"].nunique() == written.rejected + written.spoiled
        assert own["row"].min() > 1 or own.empty  # the header stands above
    # No fault shows a certificate number.
    assert not faults["found"].str.contains(r"\d{12}", na=False).any()


def test_the_same_files_again_change_nothing(county, imported, history):
    again = import_sources([file.path for file in county.files], imported[0], KEY)
    assert {file.status for file in again.files} == {"unchanged"}
    rebuilt = build_history(Store(imported[0])).with_line(LINE)
    assert rebuilt.fingerprint == history.fingerprint


def test_the_history_says_what_the_files_say(county, history):
    """Against the simulated tables that the files were written from."""
    source = county.tables
    bills = source["medical_bill"]
    total = history["medical_bill"]["out_of_pocket"].sum()
    written = next(file for file in county.files if file.kind == "medical_bills")
    # All but the rejected rows and those of persons that no export names.
    assert total <= bills["out_of_pocket"].sum()
    assert total >= bills["out_of_pocket"].sum() * (1 - 0.25)
    assert len(history["medical_bill"]) <= len(bills) - written.rejected
    # Amounts in ten-thousands came back as yuan: the accounts of the last export.
    account = source.known_before(EXPORT_DAYS[-1])["income"]
    account = account[(account["window"] == "annual") & (account["period_end"] == "2024-09-30")]
    account = account.sort_values("known_date").drop_duplicates("household_id", keep="last")
    income = history["income"]
    income = income[income["period_end"] == "2024-09-30"]
    assert len(income) == account["household_id"].nunique()
    assert income["wage"].sum() == pytest.approx(account["wage"].sum(), rel=1e-6)
    # Birth dates from the certificate numbers, or from their own column where those were rounded.
    person = history["person"].drop_duplicates("person_id", keep="last")
    assert person["birth_date"].notna().mean() > 0.99
    known = source["person"]["birth_date"].dropna().dt.year.median()
    assert person["birth_date"].dt.year.median() == pytest.approx(known, abs=5)


def test_nothing_is_known_before_it_was_exported(history):
    for name in ("household", "person", "income", "monitoring"):
        known = history[name]["known_date"]
        assert known.min() >= pd.Timestamp(EXPORT_DAYS[0])
        assert set(known.dt.month) <= {3, 6, 9, 12}


def test_no_identity_number_name_or_telephone_is_in_the_history_or_the_store(
    county, imported, history, tmp_path
):
    secrets = set(county.certificates) | {f"张{number[-6:]}" for number in county.certificates}
    history.write(tmp_path / "history")
    for folder in (imported[0], tmp_path / "history"):
        for path in folder.rglob("*"):
            if path.is_file():
                text = path.read_bytes().decode("utf-8", errors="ignore")
                if path.suffix == ".parquet":
                    text = pd.read_parquet(path).to_csv()
                assert not re.search(r"(?<!\d)139\d{8}(?!\d)", text), path.name
                assert not [secret for secret in secrets if secret in text], path.name


def test_trained_scored_and_explained_from_the_files(history, tmp_path):
    folder = history.write(tmp_path / "history")
    settings = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text("utf-8"))
    settings["history"] = {"source": "folder", "folder": str(folder), "schema": "archive"}
    settings["line"] = LINE
    settings["output"] = str(tmp_path / "out")
    settings["model"] |= {"n_estimators": 15, "n_jobs": 1, "min_child_samples": 8, "n_refits": 0}
    # So few exports leave no later dates with households of both outcomes.
    settings["model"] |= {"embargo": False, "calibration": None, "early_stopping_rounds": None}
    settings["evaluation"] |= {"replicates": 0, "truth_replicates": 0}
    settings["scoring"] |= {"as_of_date": "2025-01-01"}
    settings["tasks"] = {"any_6mo": {"cohort": "at_risk", "label": "any", "horizon": "6mo"}}
    settings["periods"] = {
        "train": {"first": "2022-01-15", "last": "2022-10-15", "every": "3mo"},
        "test": {"first": "2024-01-15", "last": "2024-01-15", "every": "3mo"},
    }
    settings["tracking"]["enabled"] = False
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    trained = CliRunner().invoke(cli, ["train", "--config", str(path)])
    assert trained.exit_code == 0, trained.output
    model = tmp_path / "out" / "models" / "any_6mo"
    config = load_config(path)
    scored = workflows.score_latest(config, history, model)["answer"]
    assert (scored["status"] == "ok").sum() > 100
    assert scored.loc[scored["status"] == "ok", "reasons"].str.len().max() > 0
    household = scored.index[scored["status"] == "ok"][0]
    card = CliRunner().invoke(
        cli,
        ["card", "--config", str(path), "--model", str(model), "--household", household,
         "--locale", "zh"],
    )  # fmt: skip
    assert card.exit_code == 0, card.output
