"""From the files of a messy county to explained households, end to end: nothing lost on the way."""

import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from messy_county import (
    EXPORT_DAYS,
    INDISPENSABLE,
    LINE,
    exchange_digits,
    shorten,
    write_messy_county,
)
from poverty_risk import workflows
from poverty_risk.cli import cli
from poverty_risk.config import load_config
from poverty_risk.privacy import hash_id
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
    # Amounts in ten-thousands came back as yuan: the accounts of the last export.
    account = source.known_before(EXPORT_DAYS[-1])["income"]
    account = account[(account["window"] == "annual") & (account["period_end"] == "2024-09-30")]
    account = account.sort_values("known_date").drop_duplicates("household_id", keep="last")
    income = history["income"]
    income = income[income["period_end"] == "2024-09-30"]
    assert len(income) == account["household_id"].nunique()
    assert income["wage"].sum() == pytest.approx(account["wage"].sum(), rel=1e-6)
    # Birth dates from the certificate numbers, or from their own column where those were rounded.
    person = history["person"]
    person = person[person["known_date"] >= EXPORT_DAYS[0]].drop_duplicates(
        "person_id", keep="last"
    )
    assert person["birth_date"].notna().mean() > 0.99
    known = source["person"]["birth_date"].dropna().dt.year.median()
    assert person["birth_date"].dt.year.median() == pytest.approx(known, abs=5)
    # Measures come in the workbooks of Excel 97. Those of the last year are told once.
    measures = source["assistance"]
    measures = measures[measures["known_date"] >= EXPORT_DAYS[2]]
    last = county.find("national_measures")[-1]
    assert len(measures) == last.rows
    told = history["assistance"]
    told = told[told["known_date"] == EXPORT_DAYS[3]]
    assert len(told) == last.rows - last.rejected
    assert told["amount"].sum() == pytest.approx(
        measures["amount"].sum() - measures["amount"].iloc[0]
    )


def read_table(file):
    """A text file as pandas reads it, which shares nothing with the reader under test."""
    encoding = "gb18030" if file.kind in ("visits", "microcredit") else "utf-8"
    sign = "\t" if file.path.suffix == ".txt" else ","
    return pd.read_csv(file.path, dtype=str, keep_default_na=False, encoding=encoding, sep=sign)


@pytest.fixture(scope="module")
def exported(county):
    """Persons and their households by certificate number, as the four exports tell them."""
    tables = []
    for at, file in enumerate(county.find("national_person")):
        encoding = ("gb18030", "utf-8-sig", "utf-8")[at % 3]
        tables.append(pd.read_csv(file.path, dtype=str, encoding=encoding, skiprows=1))
    persons = pd.concat(tables)
    return persons[persons["证件号码"].str.len() == 18]


@pytest.mark.parametrize(
    ("kind", "table", "number", "amount", "told"),
    [
        ("medical_bills", "medical_bill", "身份证号", "out_of_pocket", "合规自付费用"),
        ("schooling", "schooling", "学生身份证号", "cost", "学期费用"),
        ("microcredit", "loan", "借款人身份证号", "balance", "贷款余额（元）"),
    ],
)
def test_persons_of_feeds_are_linked_by_their_certificates(
    county, history, exported, kind, table, number, amount, told
):
    """By a plain comparison of the numbers in the files; of 15 digits the 15 that they share."""
    (file,) = county.find(kind)
    rows = read_table(file)
    column, wrong = INDISPENSABLE[kind]
    rows = rows[rows[column] != wrong]
    homes = exported.groupby("证件号码")["户编号"].agg(set)
    short = dict(zip(homes.index.map(shorten), homes.index, strict=True))
    whole = rows[number].map(lambda cell: cell if len(cell) == 18 else short.get(cell, ""))
    linked = whole.isin(homes.index)
    assert 0.7 < linked.mean() < 1
    records = history[table]
    if kind == "schooling":
        # The exports of persons tell who is at school on their day.
        records = records[~records["known_date"].isin(pd.to_datetime(EXPORT_DAYS))]
    assert len(records) == linked.sum()
    amounts = rows.loc[linked, told].map(read_amount)
    assert records[amount].sum() == pytest.approx(amounts.sum(), abs=0.01)
    ids = exported.drop_duplicates("证件号码").set_index("证件号码")["人编号"]
    if "person_id" in records:
        hashed = {hash_id(ids[one], KEY) for one in whole[linked]}
        assert set(records["person_id"]) == hashed
    households = {hash_id(home, KEY) for one in set(whole[linked]) for home in homes[one]}
    assert set(records["household_id"]) <= households


def read_amount(cell):
    return float(unicodedata.normalize("NFKC", cell).replace(",", "").removesuffix("元") or "nan")


def test_one_person_is_the_same_in_exports_bills_and_certificates(county, history):
    """Somebody whose bill has the old number of 15 digits and whose certificate has 20."""
    bills = read_table(county.find("medical_bills")[0])
    short = set(bills.loc[bills["身份证号"].str.len() == 15, "身份证号"])
    levels = county.tables["person"].dropna(subset="disability_level")
    levels = levels.drop_duplicates("person_id").set_index("person_id")["disability_level"]
    numbers = county.certificates[levels.index]
    both = numbers.index[numbers.map(shorten).isin(short)]
    people = history["person"]
    found = [one for one in both if hash_id(one, KEY) in set(history["medical_bill"]["person_id"])]
    assert found
    for one in found:
        told = people[people["person_id"] == hash_id(one, KEY)]
        assert levels[one] in set(told["disability_level"])
        assert len(set(told["household_id"])) == 1


def test_exchanged_digits_are_told_as_a_near_miss_of_the_right_person(county, imported, exported):
    rows = read_table(county.find("medical_bills")[0])
    ids = exported.drop_duplicates("证件号码").set_index("证件号码")["人编号"]
    numbers = set(rows["身份证号"]) - set(county.certificates)
    exchanged = {number for number in numbers if len(number) == 18}
    assert exchanged
    wanted = {
        hash_id(ids[right], KEY)
        for right in county.certificates
        if right in ids.index and exchange_digits(right) in exchanged
    }
    near = imported[1].links.near_misses.to_pandas()
    near = near[(near["kind"] == "medical_bills") & (near["why"] == "two digits exchanged")]
    assert wanted
    assert wanted <= set(near["candidate_id"])
    # Nobody was linked by a guess.
    assert near["same_person"].isna().all()


def test_several_codes_of_a_cell(county, history):
    """Against the cells of the last files."""
    last = county.find("national_monitored")[-1]
    told = pd.read_excel(last.path, header=2, dtype=str, engine="openpyxl")
    several = told[told["致贫返贫风险1"].str.contains("[、，；]", na=False)]
    second = several["致贫返贫风险1"].str.extract("[、，；](.*)")[0]
    expected = {
        (hash_id(home, KEY), {"因病": "illness", "因残": "disability"}[risk])
        for home, risk in zip(several["户编号"], second, strict=True)
    }
    assert expected
    monitoring = history["monitoring"].dropna(subset="risk_type_2")
    assert expected <= set(zip(monitoring["household_id"], monitoring["risk_type_2"], strict=True))
    assert monitoring["household_id"].str.len().eq(20).all()
    # Chronic illness stands alone, before and behind other words.
    ill = _last_export(county).set_index("人编号")["健康状况"].str.contains("慢性病")
    person = history["person"].drop_duplicates("person_id", keep="last").set_index("person_id")
    hashed = [hash_id(one, KEY) for one in ill.index]
    assert ill.sum() > 10
    assert person.loc[hashed, "chronic_illness"].astype(bool).tolist() == ill.tolist()


def _last_export(county):
    path = county.find("national_person")[-1].path
    table = pd.read_csv(path, dtype=str, encoding="gb18030", skiprows=1)
    return table[table["健康状况"].notna()]


def test_a_later_export_that_corrects_an_account_keeps_both_values(county, history):
    assert len(county.corrections) == 8
    income = history["income"].set_index("household_id")
    for row in county.corrections.itertuples():
        told = income.loc[[hash_id(row.household_id, KEY)]]
        told = told[told["period_end"] == f"{row.year}-09-30"].sort_values("known_date")
        assert told["wage"].tolist() == pytest.approx([row.before, row.after], abs=0.01)
        days = told["known_date"].dt.strftime("%Y-%m-%d").tolist()
        assert days == [EXPORT_DAYS[1], EXPORT_DAYS[2]]


def test_losses_of_an_old_workbook_in_ten_thousands(county, history):
    (file,) = county.find("disaster_losses")
    shock = county.tables["shock"]
    flood = shock[shock["kind"] == "flood"]
    records = history["shock"]
    assert len(records) == len(flood) - file.rejected
    assert set(records["kind"]) == {"flood"}
    known = flood.assign(household_id=[hash_id(one, KEY) for one in flood["household_id"]])
    both = records.merge(known, on=["household_id", "event_date"])
    assert len(both) == len(records)
    amounts = both[["loss_x", "loss_y"]].fillna(-1.0)
    assert amounts["loss_x"].tolist() == pytest.approx(amounts["loss_y"].tolist(), abs=0.01)
    assert (both["known_date_x"] == both["known_date_y"]).all()


def test_nothing_is_known_before_it_was_exported(county, history):
    for name in ("household", "person", "income", "monitoring"):
        records = history[name]
        is_early = records["known_date"] < EXPORT_DAYS[0]
        if name == "person":
            # What the federation of the disabled had told before is all that is known then.
            disabled = county.tables["person"].dropna(subset="disability_level")["person_id"]
            assert set(records.loc[is_early, "person_id"]) <= {hash_id(p, KEY) for p in disabled}
            assert records.loc[is_early, "disability_level"].notna().all()
            assert records.loc[is_early, ["birth_date", "sex", "education"]].isna().all(axis=None)
            records = records[~records["person_id"].isin([hash_id(p, KEY) for p in disabled])]
            is_early = records["known_date"] < EXPORT_DAYS[0]
        assert not is_early.any()
        assert set(records["known_date"].dt.month) <= {3, 6, 9, 12}


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
    # A visit to each of its villages is more than the share that a whole county can visit.
    settings["visits"] |= {"share": 0.1}
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
