"""Identity numbers, names and phones are planted in the input; nothing that leaves the office holds them.

They stand where an office may have them: as ids, in wrong columns, in rows that are rejected, in names of
files, in what officers write into a workbook. Everything that a small run writes, prints, logs or raises
is searched, but the office's own folder.
"""

import json
import logging
import re
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from poverty_risk.cli import cli
from poverty_risk.config import load_config
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.tables import read_history
from poverty_risk.wording import load_locale
from poverty_risk.workflows.forgetting import forget_everything_before, forget_households
from poverty_risk.workflows.key_rotation import drop_old_keys, rotate_key
from poverty_risk.workflows.privacy import (
    check_audit,
    record_export,
    write_impact_assessment,
    write_letter,
)
from poverty_risk.workflows.reports import import_feedback

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings(
    # MLflow's own use of pydantic and SQLAlchemy; nothing we can change.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
)

HOUSEHOLD, PERSON, BILL = "612501196503072431", "61250119900307123X", "ZD612501197011112222"
PLACE, PHONE, NAME = "612501195501013333", "13987654321", "欧阳测试甲"
NOTE_PHONE, NOTE_NAME, FILE_PHONE = "13711112222", "司徒测试乙", "13633334444"
SECRETS = (HOUSEHOLD, PERSON, BILL, PLACE, PHONE, NAME, NOTE_PHONE, NOTE_NAME, FILE_PHONE)
OFFICE_ONLY = "office_only"


def find_secrets(content: bytes) -> set[str]:
    """Which secrets are written in these bytes, as text of any kind or escaped as in JSON."""
    found = set()
    for secret in SECRETS:
        escaped = json.dumps(secret)[1:-1]
        spelled = [secret.encode(code) for code in ("utf-8", "utf-16-le", "gb18030")]
        spelled += [escaped.encode(), secret.encode("ascii", "xmlcharrefreplace")]
        if any(text in content for text in spelled):
            found.add(secret)
    return found


def find_leaks(folder: Path) -> dict[str, set[str]]:
    """Secrets by file, looking into workbooks, and at names of files."""
    leaks: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        contents = [name.encode()]
        if path.is_file():
            contents.append(path.read_bytes())
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    contents += [archive.read(part) for part in archive.namelist()]
        if found := set[str]().union(*map(find_secrets, contents)):
            leaks[name] = found
    return leaks


def plant(folder: Path) -> tuple[str, str]:
    """A county with secrets; the household that has them, and one of the rejected rows."""
    tables = make_household_history(160, start="2019-01-01", end="2024-06-01", seed=3).tables
    folder.mkdir()
    last = tables["household"].groupby("household_id").last()
    # Somebody who is still there and not monitored, so that a card can be written.
    monitored = set(tables["monitoring"]["household_id"])
    chosen = next(h for h in last.index if last.loc[h, "status"] == "active" and h not in monitored)
    person = tables["person"].query("household_id == @chosen")["person_id"].iloc[0]
    for name in tables.names:
        frame = tables[name]
        frame = frame.replace({chosen: HOUSEHOLD, person: PERSON})
        if name == "medical_bill":
            frame.loc[frame.index[0], "bill_id"] = BILL
        if name == "household":
            wrong = frame.iloc[[0, 1, 2]].copy()
            wrong["household_id"] = ["W1", "W2", PLACE]
            wrong["status"] = [NAME, PHONE, "active"]
            wrong["lifted_year"] = wrong["lifted_year"].astype(object)
            wrong["lifted_year"] = [None, None, float(PHONE)]
            frame = pd.concat([frame.astype(object), wrong.astype(object)])
        if name == "income":
            wrong = frame.iloc[[0]].astype(object).copy()
            wrong["wage"] = PHONE
            frame = pd.concat([frame.astype(object), wrong])
        frame.to_csv(folder / f"{name}.csv", index=False)
    line = pd.Series(dict(tables.line), name="line").rename_axis("year")
    line.to_csv(folder / "line.csv")
    return chosen, person


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The whole way through the command line; all that it prints, logs and raises."""
    root = tmp_path_factory.mktemp("planted")
    plant(root / "county")
    settings = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text(encoding="utf-8"))
    settings["history"] = {"source": "folder", "folder": str(root / "county"), "schema": "archive"}
    settings["output"] = str(root / "out")
    settings["model"] |= {"n_estimators": 5, "n_jobs": 1, "min_child_samples": 10}
    settings["evaluation"] |= {"replicates": 0, "truth_replicates": 0}
    settings["scoring"] |= {"as_of_date": "2024-06-01"}
    settings["tasks"] = {"any_12mo": {"cohort": "at_risk", "label": "any", "horizon": "12mo"}}
    settings["periods"] = {
        "train": {"first": "2020-01-01", "last": "2021-07-01", "every": "6mo"},
        "test": {"first": "2023-01-01", "last": "2023-01-01", "every": "6mo"},
    }
    settings["visits"] = {"share": 0.3, "reserve": 5}
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    said: list[str] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: said.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    level = logging.getLogger("poverty_risk").level
    logging.getLogger("poverty_risk").setLevel(logging.DEBUG)
    try:
        model = str(root / "out" / "models" / "any_12mo")
        for arguments in (
            ["check", str(root / "county"), "--output", str(root / "out" / "check")],
            ["train", "--config", str(config)],
            ["predict", "--config", str(config), "--model", model],
            ["explain", "--config", str(config), "--model", model, "--household", HOUSEHOLD],
            ["visits", "--config", str(config), "--model", model],
            ["card", "--config", str(config), "--model", model, "--household", HOUSEHOLD],
            ["card", "--config", str(config), "--model", model, "--household", PERSON],
        ):
            (root / "out").mkdir(exist_ok=True)
            result = CliRunner().invoke(cli, arguments)
            said.append(result.output)
            if result.exception is not None:
                assert isinstance(result.exception, PovertyRiskError), result.exc_info
                assert PERSON in arguments, str(result.exception)
                said.append(f"{result.exception} {result.exception!r}")
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("poverty_risk").setLevel(level)
    return {"root": root, "config": load_config(config), "model": model, "said": said}


def leaks_outside_the_office(run) -> dict[str, set[str]]:
    leaks = find_leaks(run["root"] / "out")
    return {name: found for name, found in leaks.items() if OFFICE_ONLY not in Path(name).parts}


def test_the_search_finds_what_is_there(run, tmp_path):
    """Otherwise the tests below could not fail: the input and the office's own folder hold secrets."""
    inputs = find_leaks(run["root"] / "county")
    assert set[str]().union(*inputs.values()) >= {HOUSEHOLD, PERSON, BILL, PLACE, PHONE, NAME}
    assert find_leaks(run["root"] / "out" / OFFICE_ONLY)["households.csv"] >= {HOUSEHOLD}
    book = openpyxl.Workbook()
    book.active["A1"] = f"{NAME} {PHONE}"
    book.save(tmp_path / "book.xlsx")
    (tmp_path / "escaped.json").write_text(json.dumps({"name": NAME}))
    (tmp_path / PHONE).touch()
    assert find_leaks(tmp_path) == {
        PHONE: {PHONE}, "book.xlsx": {NAME, PHONE}, "escaped.json": {NAME},
    }  # fmt: skip


def test_the_run_did_what_it_should(run):
    out = run["root"] / "out"
    names = {path.name for path in out.rglob("*") if path.is_file()}
    assert {"mlflow.db", "manifest.json", "visit_priority_zh.csv", "visits_zh.xlsx"} <= names
    assert list((out / "cards").glob("*.html"))
    assert [text for text in run["said"] if "61***31" in text]


def test_no_file_outside_the_office_holds_a_secret(run):
    leaks = leaks_outside_the_office(run)
    assert leaks == {}


def test_neither_the_mlflow_store_nor_the_model_holds_a_secret(run):
    """Said once more by name, because others may read them."""
    for folder in ("mlflow", "models"):
        assert (run["root"] / "out" / folder).is_dir()
        assert find_leaks(run["root"] / "out" / folder) == {}


def test_nothing_that_is_printed_logged_or_raised_holds_a_secret(run):
    assert len(run["said"]) >= 8
    assert {text: found for text in run["said"] if (found := find_secrets(text.encode()))} == {}


def test_faults_of_rejected_rows_hold_no_secret(run):
    faults = read_history(run["root"] / "county").rejected
    assert set(faults["table"]) == {"household", "income"}
    assert find_secrets(faults.to_csv().encode()) == set()


@pytest.mark.parametrize("secret", [NAME, PHONE, PERSON])
def test_a_table_of_which_nothing_can_be_read_is_told_without_its_content(tmp_path, secret):
    rows = {"household_id": ["a"], "event_date": ["2021-01-01"], "known_date": ["2021-01-02"]}
    pd.DataFrame(rows | {"kind": [secret], "loss": [1]}).to_csv(tmp_path / "shock.csv", index=False)
    with pytest.raises(PovertyRiskError, match="none can be read") as caught:
        read_history(tmp_path)
    assert find_secrets(f"{caught.value} {caught.value!r}".encode()) == set()


def test_numbers_in_names_of_files_are_not_repeated(tmp_path):
    (tmp_path / f"shock{FILE_PHONE}.csv").write_text("household_id\na\n")
    with pytest.raises(PovertyRiskError, match="table 'shock") as caught:
        read_history(tmp_path)
    assert find_secrets(str(caught.value).encode()) == set()


def test_numbers_in_headers_are_not_repeated(tmp_path):
    """A file without a header: its first row is taken for one."""
    (tmp_path / "shock.csv").write_text(f"{HOUSEHOLD},{PHONE}\n{HOUSEHOLD},1\n")
    with pytest.raises(PovertyRiskError, match="column") as caught:
        read_history(tmp_path)
    assert find_secrets(str(caught.value).encode()) == set()


# ----------------------------------------------------------------- documents, feedback, log, keys


@pytest.fixture(scope="module")
def after(run):
    """What comes after the visits: letter, assessment, feedback, a new key; then it is forgotten."""
    config, root = run["config"], run["root"]
    tables = read_history(root / "county")
    letter = write_letter(config, tables, run["model"], HOUSEHOLD, reason=f"asked by {PHONE}")
    write_impact_assessment(config, run["model"], root / "out" / "evaluation" / "any_12mo")
    workbook = next((root / "out" / "visits").glob("visits*.xlsx"))
    filled = root / "filled.xlsx"
    book = openpyxl.load_workbook(workbook)
    columns = load_locale("zh")["workbook"]["columns"]
    for sheet in book.worksheets:
        texts = {
            str(cell.value): cell.column for row in sheet.iter_rows(max_row=12) for cell in row
        }
        if sheet.sheet_state == "visible" and columns["note"] in texts:
            break
    row = sheet.max_row
    note = texts[columns["note"]]
    visited = texts[columns["visited_on"]]
    sheet.cell(row, note).value = f"{NOTE_NAME} {NOTE_PHONE}"
    sheet.cell(row, visited).value = f"yesterday {NOTE_PHONE}"
    book.save(filled)
    feedback, paths = import_feedback(config, filled, pd.Timestamp("2024-07-01"))
    record_export(config, "visits", reason=f"for {NOTE_NAME} {NOTE_PHONE}", output=workbook)
    return {"letter": letter, "feedback": feedback, "paths": paths, "filled": filled}


def test_a_letter_names_nobody(after):
    text = after["letter"].read_text(encoding="utf-8")
    assert "61***31" in text
    assert find_secrets(text.encode()) == set()


def test_documents_of_the_law_and_the_log_hold_no_secret(run, after):
    out = run["root"] / "out"
    assert find_secrets((out / "reports" / "assessment_zh.html").read_bytes()) == set()
    log = (out / OFFICE_ONLY / "audit.jsonl").read_bytes()
    # A name that somebody writes as the reason cannot be told from other words.
    assert find_secrets(log) <= {NOTE_NAME}
    assert check_audit(run["config"]).faults == ()


def test_feedback_stays_in_the_office_and_its_faults_tell_no_secret(run, after):
    errors = after["feedback"].errors
    assert len(errors)
    told = errors.to_csv().encode()
    assert find_secrets(told) == set()


def test_keys_are_rotated_and_a_household_is_forgotten(run, after):
    """Last, because it changes what the tests above look at."""
    config, out = run["config"], run["root"] / "out"
    lookup = out / OFFICE_ONLY / "households.csv"
    before = pd.read_csv(lookup)
    rotation = rotate_key(config, reason="yearly")
    found = pd.read_csv(lookup)
    assert rotation.number == 2
    assert rotation.households == before["household_id"].nunique()
    assert len(found) == 2 * len(before)
    # A workbook that was signed with the old key is still read.
    import_feedback(config, after["filled"], pd.Timestamp("2024-07-02"))
    assert drop_old_keys(config, reason="all workbooks are back") == len(before)
    old = set(before["pseudonym"])
    assert not set(pd.read_csv(lookup)["pseudonym"]) & old
    office = (path.read_text(encoding="utf-8") for path in (out / OFFICE_ONLY).glob("*.csv"))
    assert not any(pseudonym in text for text in office for pseudonym in old)

    forgotten = forget_households(config, [HOUSEHOLD], reason="on request")
    assert forgotten.parts["history"].gone == 1
    assert forgotten.remaining
    assert find_leaks(run["root"] / "county").keys() & {"work.csv", "household.csv"} <= {
        "household.csv"  # the rejected rows, which belong to no household
    }
    assert HOUSEHOLD not in {s for f in find_leaks(run["root"] / "county").values() for s in f}
    assert HOUSEHOLD not in {s for f in find_leaks(out / OFFICE_ONLY).values() for s in f}
    with pytest.raises(PovertyRiskError, match="1 households without any record"):
        forget_households(config, [HOUSEHOLD], reason="again")

    findings = out / OFFICE_ONLY / "findings.csv"  # as `check` writes it
    days = ["2022-12-31", "", "2023-01-01"]
    pd.DataFrame({"household_id": "somebody", "known_date": days}).to_csv(findings, index=False)
    counts = forget_everything_before(config, "2023-01-01", reason="three years are over")
    assert counts.parts["history"].removed > 100
    assert counts.office["findings.csv"] == 1
    assert pd.read_csv(findings, keep_default_na=False)["known_date"].tolist() == days[1:]
    lines = check_audit(config)
    assert lines.faults == ()
    assert [e.command for e in lines.entries if re.match("rotate|forget", e.command)] == [
        "rotate-key", "rotate-key: done", "rotate-key --drop-old",
        "forget --household", "forget --household: done", "forget --household",
        "forget --before 2023-01-01", "forget --before 2023-01-01: done",
    ]  # fmt: skip
