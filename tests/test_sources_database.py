"""Databases by URL: SQLite always, and a real PostgreSQL server that the tests start themselves."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy

from poverty_risk.exceptions import HistoryError
from poverty_risk.sources.database import DatabaseTable, read_database
from poverty_risk.sources.history import build_history
from poverty_risk.sources.importing import import_sources

KEY = b"a key of the office, 32 bytes ..."
HEADERS = ["户编号", "乡镇", "村", "户类型", "户状态", "耕地面积"]
HOMES = [
    ("a1", "甲乡", "乙村", "脱贫户", "正常", 2.5),
    ("a2", "甲乡", "乙村", "一般农户", "正常", None),
]


# ----------------------------------------------------------------------------------- PostgreSQL


def _find_binaries():
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
    found = shutil.which("initdb")
    folders += [Path(found).parent] if found else []
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


def _find_user():
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return None


@pytest.fixture(scope="module")
def postgres():
    """URL of a database in a server of its own, which listens on a socket alone."""
    if os.name != "posix":
        pytest.skip("the server is started on POSIX systems alone")
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    binaries, user = _find_binaries(), _find_user()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    if user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no other user")
    # A short path: a socket's may have about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        os.chown(folder, user["user"], user["group"])

    def run(*command):
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)},
            **user,
        )
        assert done.returncode == 0, done.stderr

    data, options = str(folder / "data"), f"-k {folder} -c listen_addresses= -c fsync=off -F"
    run("initdb", "-D", data, "-U", "reader", "-E", "UTF8", "--auth=trust", "--no-sync")
    try:
        run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql+psycopg://reader@/postgres?host={folder}"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def sqlite(tmp_path):
    path = tmp_path / "county.db"
    sqlite3.connect(path).close()
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def filled(url):
    """A database with the households of an office, and with one value of each type."""
    engine = sqlalchemy.create_engine(url)
    metadata = sqlalchemy.MetaData()
    text, number = sqlalchemy.Text, sqlalchemy.Numeric(12, 2)
    homes = sqlalchemy.Table(
        "农户信息",
        metadata,
        *[sqlalchemy.Column(name, number if name == HEADERS[-1] else text) for name in HEADERS],
    )
    types = sqlalchemy.Table(
        "types",
        metadata,
        sqlalchemy.Column("whole", sqlalchemy.BigInteger),
        sqlalchemy.Column("floating", sqlalchemy.Float(53)),
        sqlalchemy.Column("truth", sqlalchemy.Boolean),
        sqlalchemy.Column("day", sqlalchemy.Date),
        sqlalchemy.Column("moment", sqlalchemy.DateTime),
        sqlalchemy.Column("words", text),
        sqlalchemy.Column("exact", number),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(homes.insert(), [dict(zip(HEADERS, row, strict=True)) for row in HOMES])
        connection.execute(
            types.insert(),
            [
                {
                    "whole": 110105194912310020,
                    "floating": 1.5,
                    "truth": True,
                    "day": date(2023, 5, 31),
                    "moment": datetime.fromisoformat("2023-05-31T08:30"),
                    "words": "是",
                    "exact": Decimal("12.50"),
                },
                dict.fromkeys(["whole", "floating", "truth", "day", "moment", "words", "exact"]),
            ],
        )
    yield url
    engine.dispose()


# ----------------------------------------------------------------------------------------- reading


def test_every_type_as_text_and_no_digit_of_an_id_is_lost(filled):
    told = read_database(DatabaseTable(url=filled, table="types")).cells.to_pylist()
    first, second = sorted(told, key=lambda row: row["whole"] is None)
    # SQLite has no type of its own for times: it gives the text that it was given.
    assert first.pop("moment") in ("2023-05-31 08:30:00", "2023-05-31 08:30:00.000000")
    assert first == {
        "whole": "110105194912310020",
        "floating": "1.5",
        "truth": "1",
        "day": "2023-05-31",
        "words": "是",
        "exact": "12.5",
    }
    assert set(second.values()) == {None}


def test_query_and_table_say_the_same(filled):
    table = read_database(DatabaseTable(url=filled, table="农户信息"))
    query = read_database(DatabaseTable(url=filled, query='SELECT * FROM "农户信息"'))
    assert sorted(table.cells.to_pylist(), key=str) == sorted(query.cells.to_pylist(), key=str)
    assert (table.file, table.cells.column_names, table.rows.to_pylist()) == (
        "农户信息",
        HEADERS,
        [1, 2],
    )
    assert query.file == "query"


def test_result_without_rows_keeps_its_columns(filled):
    sheet = read_database(DatabaseTable(url=filled, query='SELECT * FROM "农户信息" WHERE 1 = 0'))
    assert (sheet.cells.column_names, sheet.cells.num_rows, len(sheet.rows)) == (HEADERS, 0, 0)


def test_nothing_is_written_whatever_the_query_does(filled):
    before = read_database(DatabaseTable(url=filled, table="农户信息")).cells.num_rows
    with pytest.raises(HistoryError, match="found another statement; expected a SELECT statement"):
        read_database(DatabaseTable(url=filled, query='DELETE FROM "农户信息"'))
    assert read_database(DatabaseTable(url=filled, table="农户信息")).cells.num_rows == before


def test_no_such_table_or_column(filled):
    with pytest.raises(HistoryError, match="expected a table or a query that can be read"):
        read_database(DatabaseTable(url=filled, table="nothing"))
    with pytest.raises(
        HistoryError, match="expected a table or a query that can be read"
    ) as caught:
        read_database(DatabaseTable(url=filled, query="SELECT secret_column FROM types"))
    assert "secret_column" not in str(caught.value)


def test_columns_with_one_name_are_told(filled):
    with pytest.raises(HistoryError, match="column 'a' twice"):
        read_database(DatabaseTable(url=filled, query="SELECT 1 AS a, 2 AS a"))


def test_table_of_a_schema_of_the_database(postgres):
    engine = sqlalchemy.create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE SCHEMA IF NOT EXISTS office"))
        connection.execute(
            sqlalchemy.text("CREATE TABLE IF NOT EXISTS office.homes AS SELECT 'a1' AS id")
        )
    engine.dispose()
    assert read_database(DatabaseTable(url=postgres, table="office.homes")).cells.to_pylist() == [
        {"id": "a1"}
    ]


def test_binary_values_are_refused(filled):
    query = (
        "SELECT CAST('abc' AS BLOB) AS photo"
        if filled.startswith("sqlite")
        else "SELECT 'abc'::bytea AS photo"
    )
    with pytest.raises(HistoryError, match="column 'photo': found values of type bytes"):
        read_database(DatabaseTable(url=filled, query=query))


# -------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "oracle+nothing://x/y",
        "postgresql+psycopg://u:planted@localhost:1/x?connect_timeout=1",
        "://",
    ],
)
def test_url_that_leads_nowhere_shows_no_password(url):
    with pytest.raises(HistoryError, match="Check the URL, the driver, names and rights") as caught:
        read_database(DatabaseTable(url=url, table="t"))
    assert "planted" not in str(caught.value)
    assert "planted" not in repr(DatabaseTable(url=url, table="t"))


def test_missing_file_of_sqlite_is_not_made(tmp_path):
    with pytest.raises(HistoryError, match="found no such file"):
        read_database(DatabaseTable(url=f"sqlite:///{tmp_path}/none.db", table="t"))
    assert not list(tmp_path.iterdir())


def test_table_or_query_but_not_both():
    for more in ({}, {"table": "t", "query": "SELECT 1"}):
        with pytest.raises(ValueError, match="exactly one of 'table' and 'query'"):
            DatabaseTable(url="sqlite://", **more)


# ------------------------------------------------------------------- the same mappings as for files


def test_database_and_file_become_the_same_history(filled, tmp_path):
    lines = [
        ",".join(HEADERS),
        *(",".join("" if cell is None else str(cell) for cell in row) for row in HOMES),
    ]
    (tmp_path / "homes_20230331.csv").write_text("\n".join(lines), encoding="utf-8")
    source = DatabaseTable(url=filled, table="农户信息", exported=date(2023, 3, 31))
    report = import_sources([source], tmp_path / "a", KEY, quiet=True)
    (told,) = report.files
    assert (told.status, dict(told.kinds)) == ("imported", {"": "national_household"})
    assert (told.counts.read, told.counts.accepted) == (2, 2)
    import_sources([tmp_path / "homes_20230331.csv"], tmp_path / "b", KEY, quiet=True)
    assert build_history(tmp_path / "a").fingerprint == build_history(tmp_path / "b").fingerprint
    again = import_sources([source], tmp_path / "a", KEY, quiet=True)
    assert [item.status for item in again.files] == ["unchanged"]


def test_database_whose_rows_come_in_another_order_is_the_same(filled, tmp_path):
    def ordered(direction):
        return DatabaseTable(
            url=filled,
            query=f'SELECT * FROM "农户信息" ORDER BY 1 {direction}',
            exported=date(2023, 3, 31),
        )

    first = import_sources([ordered("ASC")], tmp_path / "store", KEY, quiet=True)
    second = import_sources([ordered("DESC")], tmp_path / "store", KEY, quiet=True)
    assert [item.status for item in (*first.files, *second.files)] == ["imported", "unchanged"]
