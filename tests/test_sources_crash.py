"""Whatever happens while the store is written: the state of before is whole, and a rerun completes.

Killed at random points, a full disk at each single write, a folder that cannot be written, files cut
off, two runs at once.
"""

import contextlib
import errno
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poverty_risk.exceptions import HistoryError, PovertyRiskError
from poverty_risk.sources.delivery import Origin
from poverty_risk.sources.history import build_history
from poverty_risk.sources.importing import import_sources
from poverty_risk.sources.raw import REJECTED, Converted, Counts
from poverty_risk.sources.store import PRIVATE, Store

KEY = b"a key of the office, 32 bytes ..."
DAYS = [date(2023, month, 28) for month in (1, 2, 3, 4)]
KILLS = 200

_HOUSEHOLD = "户编号,乡镇,村,户类型,户状态,耕地面积\n"
_PERSON = "户编号,人编号,乡镇,村,姓名,证件号码,与户主关系,文化程度,健康状况\n"


def _write_files(folder):
    """Two exports of two days: land changes, and the second person leaves."""
    folder.mkdir()
    for month, land, persons in (("202301", 2, "12"), ("202303", 3, "1")):
        home = f"a1,甲乡,乙村,脱贫户,正常,{land}\na2,甲乡,乙村,一般农户,正常,4\n"
        (folder / f"household_{month}.csv").write_text(_HOUSEHOLD + home, encoding="utf-8")
        members = "".join(f"a1,p{p},甲乡,乙村,张三,,户主,小学,健康\n" for p in persons)
        (folder / f"person_{month}.csv").write_text(_PERSON + members, encoding="utf-8")
    return folder


def _content(store):
    """What a store says, whoever wrote it and when."""
    told = {}
    for item in store.deliveries():
        assert store.find_damage(item) == []
        told[item.name] = [[sheet.kind, *sorted(item.files.values())] for sheet in item.sheets]
    return told


# ------------------------------------------------------------------------------------------ killed

_WORKER = """
import json, os, random, signal, sys, time
from pathlib import Path
from poverty_risk.sources import importing
from poverty_risk.sources.importing import import_sources
from poverty_risk.sources.store import Store

def remembered(function):
    known = {}
    def call(first, *others, **more):
        at = getattr(first, "file", str(first) if isinstance(first, Path) else function)
        if at not in known:
            known[at] = function(first, *others, **more)
        return known[at]
    return call

# Read and linked once: what is left of a run is the writing, so that kills are cheap and fall there.
for name in ("read_sheets", "find_mapping", "convert_sheet", "link_people"):
    setattr(importing, name, remembered(getattr(importing, name)))

files, folder, kills, key = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
draw = random.Random(20230331)

def start(store):
    child = os.fork()
    if not child:
        import_sources(sorted(files.iterdir()), store, key, quiet=True)
        os._exit(0)
    return child

def look(store):
    # Whole deliveries alone: scan tells damage, find_damage compares each byte with its fingerprint.
    if not (store / "store.json").is_file():
        return {}
    found, damaged = Store(store).scan()
    assert not damaged, damaged
    assert not [fault for item in found for fault in Store(store).find_damage(item)]
    return {item.name: sorted(item.files.items()) for item in found}

# In this process, so that all that is forked is warm.
import_sources(sorted(files.iterdir()), folder / "warm", key, quiet=True)
expected = look(folder / "warm")
started = time.monotonic()
assert os.waitpid(start(folder / "timed"), 0)[1] == 0
whole = time.monotonic() - started
killed = completed = by_state = 0
partly, states, number = 0, set(), 0
while killed < kills:
    store, before = folder / f"store_{number}", {}
    while True:
        child = start(store)
        time.sleep(draw.uniform(0, 0.6 * whole))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        after = look(store)
        # Nothing of before is lost, and nothing is there but what belongs there.
        assert before.items() <= after.items() <= expected.items(), (before, after)
        killed += os.WIFSIGNALED(status)
        partly += 0 < len(after) < len(expected)
        states.add(len(after))
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        before = after
        if len(after) == len(expected) or killed >= kills:
            assert os.waitpid(start(store), 0)[1] == 0
            break
    assert look(store) == expected
    assert not [path for path in (store / "imports").iterdir() if path.name.startswith(".")]
    completed, number = completed + 1, number + 1
json.dump({"killed": killed, "completed": completed, "partly": partly, "states": len(states)}, sys.stdout)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to start warm processes")
def test_killed_at_random_points_the_store_is_whole_and_a_rerun_completes(tmp_path):
    files = _write_files(tmp_path / "files")
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, str(files), str(tmp_path), str(KILLS), KEY.decode()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["killed"] == KILLS
    # The kills fell among the writes, not all before or after them.
    assert told["partly"] >= KILLS / 10
    assert told["states"] == 5
    last = Store(tmp_path / f"store_{told['completed'] - 1}")
    assert _content(last) == _content(Store(tmp_path / "warm"))
    assert build_history(last).fingerprint == build_history(tmp_path / "warm").fingerprint


# --------------------------------------------------------------------------------------- full disk


def _converted(day, **more):
    dated = {"event_date": [day], "known_date": [day]}
    home = {"household_id": ["h"], "township_id": ["t"], "village_id": ["v"], "status": ["active"]}
    names = ("person_id", "household_id", "certificate", "name")
    fields = {
        "kind": "household",
        "file": "a.csv",
        "sheet": "",
        "exported": day,
        "records": {"household": pa.table(home | dated | {"cultivated_land": [float(day.month)]})},
        "states": frozenset({"household"}),
        "people": pa.table({name: pa.array([], pa.string()) for name in names}),
        "private": pa.table({"id": ["h"], "field": ["phone"], "value": ["1"]}, schema=PRIVATE),
        "rejected": REJECTED.empty_table(),
        "counts": Counts(1, 1, 0, 0),
    }
    return Converted(**fields | more)


def _add(store, day, mapping="a" * 16):
    origin = Origin(file="a.csv", content=f"{day.month:016x}", mapping=mapping, exported=day)
    with store.writing(KEY):
        return store.add(origin, [_converted(day)])


@contextlib.contextmanager
def _failing(monkeypatch, at, code):
    """Let the write number `at` fail, of all that a store does to a disk."""
    count = 0

    def failing(original):
        @functools.wraps(original)
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == at:
                raise OSError(code, os.strerror(code))
            return original(*args, **kwargs)

        return call

    writes = [
        (os, "open"),
        (os, "fsync"),
        (os, "fdopen"),
        (pq, "write_table"),
        (tempfile, "mkdtemp"),
    ]
    writes += [(Path, name) for name in ("mkdir", "rename", "replace")]
    with monkeypatch.context() as patch:
        for owner, name in writes:
            patch.setattr(owner, name, failing(getattr(owner, name)))
        yield lambda: count


_FAILURES = {
    errno.ENOSPC: "a full disk",
    errno.EACCES: "no permission",
    errno.EIO: os.strerror(errno.EIO),
}


@pytest.mark.parametrize("code", _FAILURES)
def test_write_that_fails_leaves_the_state_of_before_and_a_rerun_completes(
    tmp_path, monkeypatch, code
):
    store = Store(tmp_path / "store")
    _add(store, DAYS[0])
    before, kept, told = _content(store), tmp_path / "kept", []
    shutil.copytree(store.folder, kept)
    for at in range(1, 200):
        with _failing(monkeypatch, at, code) as writes:
            try:
                _add(store, DAYS[1])
            except PovertyRiskError as error:
                told.append(error)
        assert before.items() <= _content(store).items()
        if writes() < at:
            break
        _add(store, DAYS[1])
        assert len(_content(store)) == 2
        assert store.read_private(store.deliveries()[1]).num_rows == 1
        shutil.rmtree(store.folder)
        shutil.copytree(kept, store.folder)
    # Table, people, faults, manifest, private values, the folder: every write of them failed once.
    assert len(told) >= 20
    words = (_FAILURES[code], os.strerror(code))
    assert all(any(word in str(error) for word in words) for error in told)
    assert all(fault.remedy for error in told for fault in error.faults)


@pytest.mark.parametrize("at", range(1, 12))
def test_first_write_of_a_store_that_fails_leaves_a_folder_that_can_be_used(
    tmp_path, monkeypatch, at
):
    store = Store(tmp_path / "store")
    with (
        _failing(monkeypatch, at, errno.ENOSPC),
        pytest.raises(PovertyRiskError, match="a full disk|No space left"),
    ):
        _add(store, DAYS[0])
    _add(store, DAYS[0])
    assert len(_content(store)) == 1


def test_failing_exchange_of_a_reading_keeps_one_of_both(tmp_path, monkeypatch):
    for at in range(1, 60):
        store = Store(tmp_path / f"store_{at}")
        _add(store, DAYS[0])
        with (
            _failing(monkeypatch, at, errno.ENOSPC) as writes,
            contextlib.suppress(PovertyRiskError),
        ):
            _add(store, DAYS[0], mapping="b" * 16)
        assert len(_content(store)) == 1
        _add(store, DAYS[0], mapping="b" * 16)
        (delivery,) = store.deliveries()
        assert delivery.origin.mapping == "b" * 16
        if writes() < at:
            return
    pytest.fail("the writes of an exchange have no end")


def _mount(folder, size):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_disk_that_is_really_full(tmp_path):
    folder = tmp_path / "small"
    if not _mount(folder, "256k"):
        pytest.skip("no right to mount a small disk")
    try:
        store, before, told = Store(folder / "store"), {}, ""
        while not told and len(before) < 200:
            day = date(2000 + len(before) // 12, len(before) % 12 + 1, 28)
            try:
                _add(store, day)
            except PovertyRiskError as error:
                told = str(error)
            else:
                before = _content(store)
        assert "a full disk" in told
        assert len(before) > 2
        assert _content(store) == before
        with store.writing(KEY):
            store.remove(store.deliveries()[:2])
        _add(store, DAYS[3])
    finally:
        subprocess.run(["umount", str(folder)], check=False)


# --------------------------------------------------------------------------------- read-only folder


@contextlib.contextmanager
def _as_nobody():
    """Without the right of root to write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_read_only_folder_is_told_and_can_still_be_read():
    # Not under pytest's own folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        store = Store(folder / "store")
        _add(store, DAYS[0])
        before = _content(store)
        build_history(store)  # loads what nobody may not read of the interpreter
        # A store is made for its owner alone; here others may read it.
        folders = [store.folder, store.folder / "imports", *(store.folder / "imports").iterdir()]
        for path in folders:
            path.chmod(0o555)
        (store.folder / ".store.lock").chmod(0o444)
        with _as_nobody():
            with pytest.raises(PovertyRiskError, match="found Permission denied"):
                _add(store, DAYS[1])
            with pytest.raises(HistoryError, match="found no permission"):
                _add(Store(store.folder / "within"), DAYS[1])
            assert _content(store) == before
            assert len(build_history(store)["household"]) == 1
        for path in folders:
            path.chmod(0o755)
    finally:
        shutil.rmtree(folder)


# ---------------------------------------------------------------------------------- two runs at once


def test_second_run_is_refused_and_changes_nothing(tmp_path):
    store = Store(tmp_path / "store")
    _add(store, DAYS[0])
    with store.writing(KEY):
        another = Store(store.folder)
        with (
            pytest.raises(
                PovertyRiskError, match="found another program that is writing.*try again"
            ),
            another.writing(KEY, wait=0.05),
        ):
            pytest.fail("two runs at once")
        assert len(_content(another)) == 1
    _add(store, DAYS[1])
    assert len(_content(store)) == 2


_RIVAL = """
import sys
from pathlib import Path
from poverty_risk.sources.importing import import_sources
from poverty_risk.sources.store import Store
sys.stdin.readline()
report = import_sources([Path(sys.argv[1])], sys.argv[2], sys.argv[3].encode(), quiet=True)
print(*sorted({item.status for item in report.files}))
"""


def test_two_programs_at_once_import_everything_once(tmp_path):
    files = _write_files(tmp_path / "files")
    command = [sys.executable, "-c", _RIVAL, str(files), str(tmp_path / "store"), KEY.decode()]
    runs = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    told = [(run.communicate(timeout=60), run.returncode) for run in runs]
    whole = [output.strip() for (output, _), code in told if code == 0]
    refused = [errors for (_, errors), code in told if code != 0]
    assert whole.count("imported") == 1
    assert all("another program that is writing" in errors for errors in refused)
    assert all(status in ("imported", "unchanged") for status in whole)
    import_sources([files], tmp_path / "alone", KEY, quiet=True)
    assert _content(Store(tmp_path / "store")) == _content(Store(tmp_path / "alone"))


# ------------------------------------------------------------------------------- files that are cut off


def test_file_that_is_cut_off_is_told_and_the_others_are_imported(tmp_path):
    files = _write_files(tmp_path / "files")
    cut = files / "household_202304.xlsx"
    cut.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    report = import_sources([files], tmp_path / "store", KEY, quiet=True)
    status = {item.file: item.status for item in report.files}
    assert status.pop(cut.name) == "failed"
    assert set(status.values()) == {"imported"}
    assert [fault.place for fault in report.faults] == [cut.name]


def test_parquet_of_the_store_that_is_cut_off_stops_the_history_and_the_next_import_repairs_it(
    tmp_path,
):
    files = _write_files(tmp_path / "files")
    import_sources([files], tmp_path / "store", KEY, quiet=True)
    store = Store(tmp_path / "store")
    before = build_history(store).fingerprint
    path = min((store.folder / "imports").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(
        HistoryError, match=f"{path.name}.*bytes that are not those.*Import its file again"
    ):
        build_history(store)
    report = import_sources([files], store, KEY, quiet=True)
    assert sorted(item.status for item in report.files) == [
        "replaced",
        "unchanged",
        "unchanged",
        "unchanged",
    ]
    assert build_history(store).fingerprint == before
