"""Import end to end on small files of an office: accounted for, linked, told once. Expected by hand."""

import stat
from datetime import date, timedelta

import pandas as pd
import pytest

from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.labels import label_returns
from poverty_risk.sources.export_days import find_export_day
from poverty_risk.sources.forgotten import FORGOTTEN_FILE, Tombstones, read_tombstones
from poverty_risk.sources.history import build_history
from poverty_risk.sources.importing import import_sources
from poverty_risk.sources.store import Store
from poverty_risk.store_retention import forget_store_before, forget_store_household

KEY = b"a key of the office, 32 bytes ..."
# Invented numbers with right check digits (GB 11643: weights 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2).
ONE, TWO, THREE = "11010519491231002X", "110105194912310038", "110105198001010016"
HOME = "户编号,乡镇,村,户类型,户状态,耕地面积\n"
PERSON = "户编号,人编号,乡镇,村,姓名,证件号码,与户主关系,文化程度,健康状况\n"
BILL = "姓名,身份证号码,结算单号,结算时间,医疗总费用,合规自付费用\n"


def _check_digit(first):
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(d) * w for d, w in zip(first, weights, strict=True)) % 11]


def test_invented_numbers_are_what_they_claim():
    assert all(_check_digit(number[:17]) == number[17] for number in (ONE, TWO, THREE))


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for month, land in (("202301", 2), ("202303", 3)):
        home = f"a1,甲乡,乙村,脱贫户,正常,{land}\na2,甲乡,乙村,一般农户,正常,4\n"
        (folder / f"household_{month}.csv").write_text(HOME + home, encoding="utf-8-sig")
        person = f"a1,p1,甲乡,乙村,张三,{ONE},户主,小学,健康\na2,p2,甲乡,乙村,李四,{TWO},户主,初中,健康\n"
        (folder / f"person_{month}.csv").write_text(PERSON + person, encoding="gb18030")
    bills = f"张三,{ONE},b1,2023-02-10,5000,1200\n王五,{THREE},b2,2023-02-11,300,100\n"
    (folder / "bills_20230305.csv").write_text(BILL + bills, encoding="utf-8")
    return folder


def _status(report):
    return {item.file: item.status for item in report.files}


def test_files_become_history_and_every_row_is_accounted_for(files, tmp_path):
    report = import_sources([files], tmp_path / "store", KEY, quiet=True)
    assert set(_status(report).values()) == {"imported"}
    counts = report.counts
    assert (counts.read, counts.accepted, counts.rejected, counts.repeated) == (10, 10, 0, 0)
    frame = report.to_frame().set_index("file")
    assert frame.loc["bills_20230305.csv", ["kinds", "exported", "read"]].tolist() == [
        "medical_bills",
        date(2023, 3, 5),
        2,
    ]
    tables = build_history(tmp_path / "store")
    assert tables["household"]["cultivated_land"].tolist().count(3.0) == 1
    assert len(tables["household"]) == 3
    # One of the two bills is of nobody in the archive.
    bill = tables["medical_bill"].iloc[0]
    assert (len(tables["medical_bill"]), bill["total"]) == (1, 5000.0)
    person = tables["person"].set_index("person_id").loc[bill["person_id"]]
    assert person["household_id"] == bill["household_id"]
    rates = {row["kind"]: row for row in report.links.rates.to_pylist()}
    assert (rates["medical_bills"]["persons"], rates["medical_bills"]["linked"]) == (2, 1)
    assert len(tables.rejected) == 0


def test_import_is_incremental_and_the_same_again_changes_nothing(files, tmp_path):
    march = files / "household_202303.csv"
    content = march.read_bytes()
    march.unlink()
    import_sources([files], tmp_path / "store", KEY, quiet=True)
    march.write_bytes(content)
    report = import_sources([files], tmp_path / "store", KEY, quiet=True)
    assert [name for name, status in _status(report).items() if status == "imported"] == [
        march.name
    ]
    assert set(_status(report).values()) == {"imported", "unchanged"}
    once = import_sources([files], tmp_path / "once", KEY, quiet=True)
    assert set(_status(once).values()) == {"imported"}
    assert (
        build_history(tmp_path / "store").fingerprint
        == build_history(tmp_path / "once").fingerprint
    )


def test_order_of_the_files_does_not_matter(files, tmp_path):
    paths = sorted(files.iterdir())
    for at, order in enumerate((paths, paths[::-1])):
        import_sources(order, tmp_path / f"{at}", KEY, quiet=True)
    prints = {build_history(tmp_path / f"{at}").fingerprint for at in range(2)}
    assert len(prints) == 1


def test_decision_of_a_person_holds_from_the_next_import_on(files, tmp_path):
    wrong = f"李四,{_with_birth_of(TWO)},b3,2023-02-12,900,90\n"
    (files / "bills_20230306.csv").write_text(BILL + wrong, encoding="utf-8")
    store = tmp_path / "store"
    report = import_sources([files], store, KEY, quiet=True)
    (near,) = report.links.near_misses.to_pylist()
    assert (near["file"], near["row"], near["why"]) == (
        "bills_20230306.csv",
        2,
        "same name and birth date",
    )
    assert len(build_history(store)["medical_bill"]) == 1
    path = report.near_misses_file
    header, line = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text(f"{header}\n{line}是\n", encoding="utf-8-sig")
    again = import_sources([files], store, KEY, quiet=True)
    assert set(_status(again).values()) == {"unchanged"}
    assert sorted(build_history(store)["medical_bill"]["total"]) == [900.0, 5000.0]
    assert [row["same_person"] for row in again.links.near_misses.to_pylist()] == ["yes"]


def _with_birth_of(number):
    """Another valid number with the same birth date."""
    first = number[:14] + "777"
    return first + _check_digit(first)


def test_names_and_numbers_are_nowhere_in_the_store(files, tmp_path):
    import_sources([files], tmp_path / "store", KEY, quiet=True)
    build_history(tmp_path / "store").write(tmp_path / "store" / "history")
    contents = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    # Parquet compresses pages: what it holds is looked at as text.
    store = Store(tmp_path / "store")
    told = str([sheet for item in store.deliveries() for sheet in store.read(item)])
    for secret in (ONE, TWO, THREE, "张三", "李四", "王五", "a1", "p1"):
        assert not any(secret.encode() in content for content in contents if len(secret) > 2)
        assert f"'{secret}'" not in told
        assert f'"{secret}"' not in told


def test_what_an_office_keeps_is_kept_apart(files, tmp_path):
    import_sources(
        [files / "person_202301.csv"], tmp_path / "store", KEY, keep_private=True, quiet=True
    )
    store = Store(tmp_path / "store")
    (delivery,) = store.deliveries()
    assert "张三" in store.read_private(delivery)["value"].to_pylist()


# -------------------------------------------------------------------------------- what cannot be read


def test_what_cannot_be_read_keeps_nothing_else_from_being_imported(files, tmp_path):
    (files / "letter_20230101.csv").write_text("Dear,Sir\nplease,see\n", encoding="utf-8")
    (files / "empty_20230101.csv").touch()
    (files / "household.csv").write_text(HOME + "a1,甲乡,乙村,脱贫户,正常,2\n", encoding="utf-8")
    tomorrow = date.today() + timedelta(days=2)  # noqa: DTZ011 - as the clock of this machine shows it
    (files / f"household_{tomorrow:%Y%m%d}.csv").write_text(
        HOME + "a1,甲乡,乙村,脱贫户,正常,2\n", encoding="utf-8"
    )
    (files / "notes.docx").touch()
    (files / "~$open.xlsx").touch()
    report = import_sources(
        [files, tmp_path / "missing_20230101.csv"], tmp_path / "store", KEY, quiet=True
    )
    status = _status(report)
    assert [name for name, s in status.items() if s == "skipped"] == ["notes.docx"]
    failed = sorted(name for name, s in status.items() if s == "failed")
    assert failed == sorted(
        [
            "letter_20230101.csv",
            "empty_20230101.csv",
            "household.csv",
            f"household_{tomorrow:%Y%m%d}.csv",
            "missing_20230101.csv",
        ]
    )
    assert sum(s == "imported" for s in status.values()) == 5
    told = "\n".join(map(str, report.faults))
    for words in (
        "a sheet of no known kind",
        "no day of export",
        "expected a day until today",
        "No such file",
        "Inspect it",
    ):
        assert words in told


def test_day_of_export_can_be_said(files, tmp_path):
    path = files / "household.csv"
    path.write_text(HOME + "a1,甲乡,乙村,脱贫户,正常,2\n", encoding="utf-8")
    for exported in (date(2023, 6, 30), {"household.csv": date(2023, 6, 30)}):
        report = import_sources(
            [path], tmp_path / str(type(exported)), KEY, exported=exported, quiet=True
        )
        assert [item.exported for item in report.files] == [date(2023, 6, 30)]


def test_day_before_that_of_the_files_name_is_refused(files, tmp_path):
    """Otherwise what was exported in June would be known in January."""
    path = files / "household_20230630.csv"
    path.write_text(HOME + "a1,甲乡,乙村,脱贫户,正常,2\n", encoding="utf-8")
    store = tmp_path / "store"
    report = import_sources([path], store, KEY, exported=date(2023, 1, 31), quiet=True)
    assert _status(report) == {path.name: "failed"}
    assert report.files[0].faults[0].expected == "not before 2023-06-30, as its name tells"
    # A name that tells a month leaves the day open.
    path = files / "household_202303.csv"
    for day, status in ((date(2023, 2, 28), "failed"), (date(2023, 3, 1), "imported")):
        report = import_sources([path], store, KEY, exported=day, quiet=True)
        assert _status(report) == {path.name: status}


def test_store_without_any_record_says_so(files, tmp_path):
    path = files / "household_20230630.csv"
    path.write_text(HOME + ",甲乡,乙村,脱贫户,正常,2\n", encoding="utf-8")
    report = import_sources([path], tmp_path / "store", KEY, quiet=True)
    assert (report.counts.accepted, report.counts.rejected) == (0, 1)
    with pytest.raises(HistoryError, match="no record.*See the faults of the import"):
        build_history(tmp_path / "store")


def test_store_is_for_its_owner_alone(files, tmp_path):
    import_sources([files], tmp_path / "store", KEY, quiet=True)
    folders = [path for path in (tmp_path / "store").rglob("*") if path.is_dir()]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "store", *folders]}
    assert (modes, len(folders)) == ({0o700}, 6)  # imports, and one per file


def test_nothing_is_known_of_the_future_of_households_that_exports_no_longer_name(tmp_path, caplog):
    """Five households of one township, one of another; from 2022 on one and the other are not told."""
    folder = tmp_path / "files"
    folder.mkdir()
    town = [f"a{n},甲乡,乙村,脱贫户,正常,{n + 1}" for n in range(5)]
    other = "b1,丙乡,丁村,脱贫户,正常,9"
    monitored = "户编号,识别监测时间,致贫返贫风险1,风险是否已消除\na0,202103,因病,否\n"
    for year, rows in ((2021, [*town, other]), (2022, town[:4]), (2023, town[:4])):
        text = HOME + "\n".join(rows) + "\n"
        (folder / f"household_{year}1231.csv").write_text(text, encoding="utf-8")
        (folder / f"监测对象_{year}1231.csv").write_text(monitored, encoding="utf-8")
    import_sources([folder], tmp_path / "store", KEY, quiet=True)
    with caplog.at_level("INFO"):
        tables = build_history(tmp_path / "store")
    assert "household: 1 households no longer in whole exports." in caplog.text
    assert "household: 1 households of 1 townships are in no later export" in caplog.text
    homes = tables["household"].set_index("household_id")
    names = homes[homes["status"] == "active"]["cultivated_land"]
    moved = homes[homes["status"] == "moved"]
    assert {
        (names[home], row["event_date"], row["known_date"]) for home, row in moved.iterrows()
    } == {
        (5.0, pd.Timestamp("2022-12-31"), pd.Timestamp("2022-12-31")),
        (9.0, pd.Timestamp("2022-01-01"), pd.Timestamp("2023-12-31")),
    }
    days = pd.to_datetime(["2022-01-31"])
    index = pd.MultiIndex.from_product([names.index, days], names=["household_id", "as_of_date"])
    labels = label_returns(tables, pd.DataFrame(index=index)).droplevel("as_of_date")
    told = {names[home]: None if pd.isna(label) else int(label) for home, label in labels.items()}
    assert (told[5.0], told[9.0]) == (None, None)
    assert (told[2.0], told[3.0], told[4.0]) == (0, 0, 0)


# ---------------------------------------------------------------------------------- what is forgotten


def _homes(store):
    return set(build_history(store)["person"]["household_id"])


def _bills(store):
    tables = build_history(store)
    return len(tables["medical_bill"]) if "medical_bill" in tables else 0


def test_household_that_was_forgotten_does_not_come_back_with_the_next_file(files, tmp_path):
    store = tmp_path / "store"
    import_sources([files], store, KEY, quiet=True)
    (home,) = set(build_history(store)["medical_bill"]["household_id"])  # that of person p1
    assert len(_homes(store)) == 2
    forget_store_household(store, KEY, [home])
    assert home not in _homes(store)
    # The same files again, later ones of the same households, and a bill that names no household.
    later = tmp_path / "later"
    later.mkdir()
    for month in ("202303", "202305"):
        old = files / f"person_{month}.csv"
        text = (files / "person_202303.csv").read_bytes()
        (later / old.name).write_bytes(text + b"\n" * (month == "202303"))
    bill = BILL + f"张三,{ONE},b7,2023-05-10,5000,1200\n"
    (later / "bills_20230605.csv").write_text(bill, encoding="utf-8")
    report = import_sources([files, later], store, KEY, quiet=True)
    status, frame = _status(report), report.to_frame().set_index("file")
    assert (status["household_202301.csv"], status["person_202305.csv"]) == (
        "unchanged",
        "imported",
    )
    counted = ["read", "accepted", "rejected", "repeated"]
    assert frame.loc["person_202305.csv", counted].tolist() == [2, 1, 1, 0]
    assert frame.loc["bills_20230605.csv", counted].tolist() == [1, 0, 1, 0]
    assert set(report.rejected["expected"].to_pylist()) == {"not forgotten"}
    assert (home in _homes(store), _bills(store)) == (False, 0)
    # Only who says so takes it in again.
    again = import_sources([files], store, KEY, restore_forgotten=True, quiet=True)
    assert "replaced" in _status(again).values()
    assert (home in _homes(store), _bills(store)) == (True, 1)
    assert read_tombstones(store) == Tombstones()


def test_file_whose_records_were_forgotten_is_not_read_again(files, tmp_path):
    store = tmp_path / "store"
    import_sources([files], store, KEY, quiet=True)
    # In force is what the last export of March told, that of persons; all others go whole.
    forget_store_before(store, KEY, "2023-04-01")
    before = build_history(store)
    report = import_sources([files], store, KEY, quiet=True)
    status = _status(report)
    assert status == {
        "bills_20230305.csv": "forgotten",
        "household_202301.csv": "forgotten",
        "household_202303.csv": "forgotten",
        "person_202301.csv": "forgotten",
        "person_202303.csv": "unchanged",
    }
    assert "restore_forgotten" in str(report.faults[0])
    assert build_history(store).fingerprint == before.fingerprint
    marks = {(mark.exported, mark.before) for mark in read_tombstones(store).deliveries}
    days = (date(2023, 1, 31), date(2023, 3, 5), date(2023, 3, 31))
    assert marks == {(day, date(2023, 4, 1)) for day in days}
    again = import_sources([files], store, KEY, restore_forgotten=True, quiet=True)
    assert "forgotten" not in _status(again).values()
    assert build_history(store)["household"]["known_date"].min() == pd.Timestamp("2023-01-31")


def test_damaged_marks_stop_an_import(files, tmp_path):
    import_sources([files], tmp_path / "store", KEY, quiet=True)
    (tmp_path / "store" / FORGOTTEN_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(HistoryError, match="forgotten.json: found a file that cannot be read"):
        import_sources([files], tmp_path / "store", KEY, quiet=True)


def test_kind_can_be_said_and_must_fit(files, tmp_path):
    path = files / "household_202301.csv"
    report = import_sources([path], tmp_path / "store", KEY, kind="medical_bills", quiet=True)
    assert [fault.expected for fault in report.faults] == ["'medical_bills'"]
    report = import_sources([path], tmp_path / "store", KEY, kind="national_household", quiet=True)
    assert _status(report) == {path.name: "imported"}


def test_mapping_that_does_not_exist_stops_before_anything_is_written(files, tmp_path):
    with pytest.raises(DeclarationError, match="'nothing'"):
        import_sources([files], tmp_path / "store", KEY, mappings=["nothing"], quiet=True)
    assert not (tmp_path / "store").exists()


def test_own_mapping_reads_a_file_anew_and_replaces_what_was_read(files, tmp_path):
    path = files / "household_202301.csv"
    store = tmp_path / "store"
    import_sources([path], store, KEY, quiet=True)
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: national_household\nname: own_household\ntitles: [household]\n", encoding="utf-8"
    )
    report = import_sources([path], store, KEY, mappings=[own], kind="own_household", quiet=True)
    assert _status(report) == {path.name: "replaced"}
    assert [sheet.kind for item in Store(store).deliveries() for sheet in item.sheets] == [
        "own_household"
    ]
    assert len(build_history(store)["household"]) == 2


def test_another_key_is_refused(files, tmp_path):
    import_sources([files], tmp_path / "store", KEY, quiet=True)
    with pytest.raises(HistoryError, match="another key than that of its ids"):
        import_sources([files], tmp_path / "store", b"another key of the office ......", quiet=True)


# -------------------------------------------------------------------------------------- days of names


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("household_20230630.xlsx", date(2023, 6, 30)),
        ("户信息2023-06-30.csv", date(2023, 6, 30)),
        ("户信息2023.6.5导出.csv", date(2023, 6, 5)),
        ("2021年3月5日户表.xls", date(2021, 3, 5)),
        ("2021年3月户表.xls", date(2021, 3, 31)),
        ("202402医保.csv", date(2024, 2, 29)),
        ("bills 20230101-20230331.csv", date(2023, 3, 31)),
        ("2021年度收入.xlsx", None),
        ("户信息.xlsx", None),
        ("13802023063012.csv", None),
        ("20231345.csv", None),
        ("20230230.csv", None),
        ("2022-2023.csv", None),
    ],
)
def test_day_that_the_name_of_a_file_tells(name, day):
    assert find_export_day(name) == day
