"""Histories read by ranges of households."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from poverty_risk import build_features, load_catalog, load_schema, written_folder
from poverty_risk.datasets import make_household_history
from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.history_chunks import HistoryFolder, find_counties, iter_history
from poverty_risk.tables import HistoryTables, read_history


@pytest.fixture(scope="module")
def tables() -> HistoryTables:
    return make_household_history(300, start="2021-01-01", end="2023-01-01", seed=4).tables


@pytest.fixture
def folder(tables, tmp_path, monkeypatch):
    """Written in groups so small that households go on in the next one."""
    monkeypatch.setattr(written_folder, "ROWS_PER_GROUP", 97)
    return tables.write(tmp_path / "county")


def _assert_same(part: HistoryTables, expected: HistoryTables) -> None:
    assert part.names == expected.names
    assert part.households.tolist() == expected.households.tolist()
    assert (part.line, part.observed_to) == (expected.line, expected.observed_to)
    assert part.schema == expected.schema
    for name in part.names:
        assert part.arrow(name).equals(expected.arrow(name)), name


@pytest.mark.parametrize("households", [1, 37, 100, 10_000])
def test_ranges_are_slices_of_the_whole(folder, households):
    whole = read_history(folder)
    size = len(whole.households)
    if households == 1:
        size = 12  # enough of the shortest ranges
    parts = iter_history(folder, households)
    for start in range(0, size, households):
        end = min(start + households, size)
        _assert_same(next(parts), whole.slice_households(start, end))
    assert households == 1 or next(parts, None) is None
    assert pq.ParquetFile(folder / "work.parquet").num_row_groups > 10


@pytest.mark.parametrize("households", [7, 120])
@pytest.mark.parametrize("at", [0, 36, 150, -1])
def test_reading_goes_on_after_a_household(folder, at, households):
    """Short ranges have no rows in some tables: what stands before is passed over all the same."""
    whole = read_history(folder)
    ids = whole.households
    after = str(ids[at])
    rest = list(HistoryFolder(folder).chunks(households, after=after))
    begin = int(np.flatnonzero(ids == after)[0]) + 1
    assert sum(len(part.households) for part in rest) == len(ids) - begin
    for number, part in enumerate(rest):
        start = begin + households * number
        _assert_same(part, whole.slice_households(start, min(start + households, len(ids))))


def test_households_in_one_table_only_and_tables_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(written_folder, "ROWS_PER_GROUP", 3)
    ids = [f"h{number:02}" for number in range(40)]
    day = {"event_date": "2022-05-01", "known_date": "2022-05-02"}
    shock = pd.DataFrame({"household_id": ids[:30:2], "kind": "flood", "loss": 5} | day)
    twice = sorted([*ids[25:], *ids[25:]])
    visit = pd.DataFrame({"household_id": twice, "difficulty_found": 0} | day)
    visit["event_date"] = np.where(np.arange(len(visit)) % 2, "2022-04-01", "2022-04-02")
    made = HistoryTables.from_frames({"shock": shock, "visit": visit})
    folder = made.write(tmp_path / "county")
    whole = read_history(folder)
    assert len(whole.households) == 28
    parts = list(iter_history(folder, 5))
    assert [len(part.households) for part in parts] == [5, 5, 5, 5, 5, 3]
    for number, part in enumerate(parts):
        _assert_same(part, whole.slice_households(5 * number, min(5 * number + 5, 28)))
    assert "income" in parts[0].absent


def test_a_touched_folder_is_validated_as_a_whole_and_told(folder, tables, caplog):
    (folder / "history.json").unlink()
    whole = read_history(folder)
    with caplog.at_level(logging.WARNING):
        history = HistoryFolder(folder)
    assert history.is_whole
    assert "not written by this package" in caplog.text
    parts = list(history.chunks(130, after=str(whole.households[9])))
    _assert_same(parts[1], whole.slice_households(140, 270))
    assert parts[0].fingerprint == whole.slice_households(10, 140).fingerprint


def _read_few(folder, catalog):
    """Ranges with what the catalogue reads."""
    columns = catalog.find_columns(load_schema("archive"))
    return columns, list(iter_history(folder, 130, columns=columns))


@pytest.mark.parametrize("touched", [False, True])
def test_only_the_columns_that_features_read(folder, touched):
    whole = read_history(folder)
    size = len(whole.households)
    if touched:
        (folder / "history.json").unlink()
    names = ["workers_now_count_122d", "house_grade_last_1500d", "collective_income_last_1500d"]
    columns, parts = _read_few(folder, load_catalog("archive").select(names))
    assert set(parts[0].names) == {"work", "check", "village", "household"}
    assert columns["work"] == {"household_id", "person_id", "worked"}
    assert "wage" not in parts[0]["work"]
    for number, part in enumerate(parts):
        expected = whole.slice_households(130 * number, min(130 * number + 130, size))
        assert part.households.tolist() == expected.households.tolist()
        for name in part.names:
            if name != "village":
                assert np.array_equal(part.offsets(name), expected.offsets(name))
            found = part.arrow(name)
            same = expected.arrow(name).select(found.column_names)
            assert found.cast(same.schema).equals(same)


def test_features_of_few_columns_are_those_of_all(folder):
    whole, catalog = read_history(folder), load_catalog("archive")
    size = len(whole.households)
    _, parts = _read_few(folder, catalog)
    for number, part in enumerate(parts):
        index = pd.MultiIndex.from_product(
            [part.households, pd.to_datetime(["2022-01-01", "2022-09-01"])],
            names=["household_id", "as_of_date"],
        )
        points = pd.DataFrame(index=index)
        expected = whole.slice_households(130 * number, min(130 * number + 130, size))
        pd.testing.assert_frame_equal(
            build_features(part, points, catalog),
            build_features(expected, points, catalog),
            check_exact=True,
        )


def test_the_digest_tells_histories_apart(folder, tables, tmp_path):
    digest = HistoryFolder(folder).digest
    assert HistoryFolder(tables.write(tmp_path / "again")).digest != ""
    assert HistoryFolder(folder).digest == digest
    tables.with_line({2021: 1.0, 2022: 2.0}).write(folder)
    assert HistoryFolder(folder).digest != digest


def test_line_and_end_are_those_that_are_given(folder):
    first = next(iter_history(folder, 50, line={2022: 3.0}, observed_to="2023-02-01"))
    assert dict(first.line) == {2022: 3.0}
    assert first.observed_to == pd.Timestamp("2023-02-01")
    with pytest.raises(HistoryError, match="observed_to: found 'never'"):
        next(iter_history(folder, 50, line={2022: 3.0}, observed_to="never"))


def test_what_cannot_be_read_is_an_error(folder, tmp_path):
    with pytest.raises(DeclarationError, match="households: found 0"):
        next(iter_history(folder, 0))
    with pytest.raises(HistoryError, match="history folder: found"):
        next(iter_history(tmp_path / "nowhere"))


def test_a_folder_of_counties(folder, tables, tmp_path):
    assert find_counties(folder) == {"county": folder}
    nation = tmp_path / "nation"
    for name in ("badong", "anlu"):
        tables.write(nation / name)
    (nation / "notes").mkdir()
    assert list(find_counties(nation)) == ["anlu", "badong"]
    pq.write_table(pa.table({"a": [1]}), nation / "shock.parquet")
    with pytest.raises(HistoryError, match="tables, and tables in 2 folders"):
        find_counties(nation)
    with pytest.raises(HistoryError, match="no table"):
        find_counties(nation / "notes")


@pytest.mark.parametrize("damage", ["gone", "unreadable"])
def test_an_index_that_goes_away_under_a_reader_is_told(folder, damage):
    history = HistoryFolder(folder)
    index = folder / written_folder.INDEX_FILE
    index.unlink() if damage == "gone" else index.write_bytes(b"no index")
    with pytest.raises(HistoryError, match="another history since it was opened"):
        next(history.chunks(10))
    assert HistoryFolder(folder).is_whole  # validated as any folder that was touched


def test_an_index_that_does_not_fit_the_tables_is_not_believed(folder):
    whole = read_history(folder)
    index = written_folder.read_index(folder).cut(0, len(whole.households) - 5)
    feather.write_feather(index.to_table(), folder / written_folder.INDEX_FILE)
    told = json.loads((folder / "history.json").read_text())
    schema, end = told["schema"], told.get("end")
    (folder / "history.json").write_text(json.dumps(written_folder._describe(folder, schema, end)))
    assert read_history(folder).households.tolist() == whole.households.tolist()
    with pytest.raises(HistoryError, match="another history since it was opened"):
        next(HistoryFolder(folder).chunks(10))
