"""The audit log: whatever is done to it without the key is found; two programs may write at once."""

import hashlib
import hmac
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poverty_risk.audit_log import append_audit, verify_audit_log
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.file_lock import hold_lock

KEY = b"0123456789abcdef"
posix = pytest.mark.skipif(os.name != "posix", reason="modes and signals are a matter of POSIX")


@pytest.fixture
def log(tmp_path):
    """A log of five lines."""
    path = tmp_path / "audit.jsonl"
    for number in range(1, 6):
        append_audit(path, KEY, command=f"command {number}", reason="round", households=number)
    return path


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def faults_of(path, key=KEY, **options):
    return [
        f"{fault.place}: {fault.found}" for fault in verify_audit_log(path, key, **options).faults
    ]


# ----------------------------------------------------------------------------------- what a line says


def test_a_line_says_who_when_what_why_and_which_file(tmp_path):
    output = tmp_path / "visits_zh.xlsx"
    output.write_bytes(b"a workbook")
    before = time.strftime("%Y-%m-%dT%H", time.gmtime())
    path = tmp_path / "office_only" / "audit.jsonl"
    entry = append_audit(
        path, KEY, command="visits", reason="round of July", output=output, households=120, who="Li"
    )
    written = json.loads(path.read_text(encoding="utf-8"))
    account = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
    assert written["number"] == 1
    assert written["at"].startswith(before[:11])
    assert written["who"] == "Li"
    assert written["account"] == account.strip()
    assert (written["command"], written["reason"]) == ("visits", "round of July")
    assert written["output"] == "visits_zh.xlsx"
    assert written["output_hash"] == hashlib.sha256(b"a workbook").hexdigest()
    assert written["households"] == 120
    assert entry.own == written["own"]
    assert append_audit(path, KEY, command="card").who == account.strip()


def test_the_chain_is_hmac_over_the_line_before(log):
    """Computed here anew, from the file alone."""
    previous = ""
    for line in lines_of(log):
        content = json.loads(line)
        own = content.pop("own")
        assert content["previous"] == previous
        message = json.dumps(content, sort_keys=True).encode()
        assert own == hmac.new(KEY, message, hashlib.sha256).hexdigest()
        previous = own


@posix
def test_the_files_are_for_their_owner_alone(log):
    names = {path.name for path in log.parent.iterdir()}
    assert names == {"audit.jsonl", "audit.head.json", ".audit.jsonl.lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in log.parent.iterdir()} == {0o600}


def test_numbers_of_people_are_masked(tmp_path):
    output = tmp_path / "李四13812345678.xlsx"
    output.write_bytes(b"")
    path = tmp_path / "audit.jsonl"
    reason = "asked by 612501199003071230,\nphone １３８１２３４５６７８, batch 20240305"
    append_audit(path, KEY, command="card", reason=reason, output=output)
    text = path.read_text(encoding="utf-8")
    assert "13812345678" not in text
    assert "612501199003071230" not in text
    assert "１３８１２３４５６７８" not in text
    assert "batch 20240305" in json.loads(text)["reason"]


# ------------------------------------------------------------------------------ what is done to it


def test_a_log_as_it_was_written_has_no_fault(log):
    check = verify_audit_log(log, KEY)
    assert check.faults == ()
    assert [entry.number for entry in check.entries] == [1, 2, 3, 4, 5]
    assert check.head.startswith("5:")


@pytest.mark.parametrize("field", ["at", "who", "command", "reason", "households", "number"])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_an_altered_line_is_named(log, at, field):
    lines = lines_of(log)
    content = json.loads(lines[at])
    content[field] = 99 if isinstance(content[field], int) else "somebody else"
    lines[at] = json.dumps(content)
    write_lines(log, lines)
    assert faults_of(log) == [f"line {at + 1}: altered, or written with another key"]


def test_a_line_that_was_altered_and_signed_with_another_key_is_named(log):
    other = log.with_name("other.jsonl")
    for number in range(1, 6):
        append_audit(other, b"another key of 16", command=f"command {number}")
    lines = lines_of(log)
    lines[2] = lines_of(other)[2]
    write_lines(log, lines)
    assert faults_of(log) == ["line 3: altered, or written with another key"]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_removed_line_is_named(log, at):
    lines = lines_of(log)
    del lines[at]
    write_lines(log, lines)
    assert faults_of(log) == [f"lines numbered {at + 1}: 1 missing"]


@pytest.mark.parametrize("kept", [4, 2, 0])
def test_a_cut_at_the_end_is_found_by_the_head_file(log, kept):
    """The chain of what is left is whole."""
    write_lines(log, lines_of(log)[:kept])
    missing = ", ".join(str(number) for number in range(kept + 1, 6))
    assert faults_of(log) == [f"lines numbered {missing}: {5 - kept} missing"]


def test_a_removed_log_is_found_by_the_head_file(log):
    log.unlink()
    assert faults_of(log) == ["lines numbered 1, 2, 3, 4, 5: 5 missing"]


def test_moved_and_repeated_lines_are_named(log):
    first, second, third, *rest = lines_of(log)
    write_lines(log, [first, third, second, *rest])
    assert faults_of(log) == ["line 3: moved (its number is 2)"]
    write_lines(log, [first, second, second, third, *rest])
    assert faults_of(log) == ["line 3: repeated (its number is 2)"]


def test_an_inserted_line_is_named(log):
    lines = lines_of(log)
    write_lines(log, [*lines[:2], '{"command": "nothing happened"}', "no JSON", *lines[2:]])
    told = "altered, or written with another key"
    assert faults_of(log) == [f"line 3: {told}", f"line 4: {told}"]


def test_a_line_of_another_log_with_the_same_key_does_not_fit(log):
    other = log.with_name("other.jsonl")
    for number in range(1, 6):
        append_audit(other, KEY, command=f"another {number}")
    lines = lines_of(log)
    lines[2] = lines_of(other)[2]
    write_lines(log, lines)
    told = "a line of another log"
    assert faults_of(log) == [f"line numbered 3: {told}", f"line numbered 4: {told}"]


def test_another_key_fits_nothing(log):
    found = faults_of(log, b"another key of 16")
    assert found == [
        *(["head file: altered, or written with another key"]),
        *(f"line {number}: altered, or written with another key" for number in range(1, 6)),
    ]


def test_an_altered_or_missing_head_file_is_a_fault(log):
    head = log.with_name("audit.head.json")
    content = json.loads(head.read_text())
    head.write_text(json.dumps(content | {"lines": 3}))
    write_lines(log, lines_of(log)[:3])
    assert faults_of(log) == ["head file: altered, or written with another key"]
    head.unlink()
    assert faults_of(log) == ["head file: no such file"]


def test_who_removes_the_head_file_with_the_end_is_still_found(log):
    """The next line says so, and says so for ever."""
    log.with_name("audit.head.json").unlink()
    write_lines(log, lines_of(log)[:3])
    assert append_audit(log, KEY, command="visits").note == "no head file"
    append_audit(log, KEY, command="visits")
    assert faults_of(log) == [
        "line numbered 4: written without a head file: lines before it may have been cut off"
    ]


def test_an_older_copy_of_both_files_is_found_by_a_head_that_was_noted(log):
    head, old = log.with_name("audit.head.json"), log.read_bytes()
    old_head = head.read_bytes()
    append_audit(log, KEY, command="an export that is to be hidden")
    noted = verify_audit_log(log, KEY).head
    assert faults_of(log, known_head=noted) == []
    append_audit(log, KEY, command="later")
    assert faults_of(log, known_head=noted) == []
    log.write_bytes(old)
    head.write_bytes(old_head)
    assert faults_of(log) == []
    assert faults_of(log, known_head=noted) == ["noted head: not in this log"]
    append_audit(log, KEY, command="an export that is not the same")
    assert faults_of(log, known_head=noted) == ["noted head: not in this log"]
    assert faults_of(log, known_head="nonsense") == ["noted head: not in this log"]


def test_an_old_head_file_alone_is_a_fault(log):
    head = log.with_name("audit.head.json")
    old = head.read_bytes()
    append_audit(log, KEY, command="visits")
    append_audit(log, KEY, command="visits")
    head.write_bytes(old)
    assert faults_of(log) == ["head file: line 5 as the last one"]


def test_what_was_done_to_the_log_is_still_found_after_more_lines(log):
    write_lines(log, lines_of(log)[:4])
    append_audit(log, KEY, command="visits")
    assert json.loads(lines_of(log)[-1])["number"] == 6
    assert faults_of(log) == ["lines numbered 5: 1 missing"]


# ---------------------------------------------------------------------- killed, and two at once


def test_a_line_of_a_killed_program_counts_and_its_number_is_not_given_again(log):
    """Killed after the line, before the head."""
    head = log.with_name("audit.head.json")
    before = head.read_bytes()
    append_audit(log, KEY, command="killed")
    head.write_bytes(before)
    assert faults_of(log) == []
    assert append_audit(log, KEY, command="next").number == 7
    assert faults_of(log) == []


def test_a_part_of_a_line_is_cut_off_by_the_next_one(log):
    before = log.read_bytes()
    with log.open("ab") as file:
        file.write(b'{"number": 6, "at": "2024-')
    assert faults_of(log) == []
    append_audit(log, KEY, command="next")
    assert log.read_bytes().startswith(before)
    assert len(lines_of(log)) == 6
    assert faults_of(log) == []


def test_nothing_that_was_confirmed_is_cut_off(log):
    """Somebody took the line break away and wrote on."""
    content = log.read_bytes()
    log.write_bytes(content[:-1] + b" and more")
    append_audit(log, KEY, command="next")
    assert log.read_bytes().startswith(content[:-1])
    check = verify_audit_log(log, KEY)
    assert [entry.number for entry in check.entries] == [1, 2, 3, 4, 5, 6]
    assert check.faults == ()


WRITER = """
import sys
from poverty_risk.audit_log import append_audit
for number in range(int(sys.argv[2])):
    append_audit(sys.argv[1], b"0123456789abcdef", command=f"{sys.argv[3]} {number}")
"""


def start_writer(path, lines, name):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(lines), name])


def test_two_programs_write_at_once_and_no_line_is_lost(tmp_path):
    path = tmp_path / "audit.jsonl"
    writers = [start_writer(path, 40, name) for name in ("a", "b")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    check = verify_audit_log(path, KEY)
    assert check.faults == ()
    assert [entry.number for entry in check.entries] == list(range(1, 81))
    for name in ("a", "b"):
        own = [e.command for e in check.entries if e.command.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(40)]


@posix
def test_killed_at_any_moment_the_log_is_whole_and_goes_on(tmp_path):
    path, confirmed = tmp_path / "audit.jsonl", 0
    for attempt in range(6):
        writer = start_writer(path, 100_000, "killed")
        deadline = time.monotonic() + 30
        while not path.exists() or len(lines_of(path)) <= confirmed + attempt:
            assert time.monotonic() < deadline
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=30)
        assert faults_of(path) == []
        confirmed = append_audit(path, KEY, command="after").number
        assert faults_of(path) == []
    assert [json.loads(line)["number"] for line in lines_of(path)] == list(range(1, confirmed + 1))


def test_a_lock_that_another_holds_is_told(tmp_path):
    with (
        hold_lock(tmp_path / "log", "the log"),
        pytest.raises(PovertyRiskError, match="the log: found another program that is writing"),
        hold_lock(tmp_path / "log", "the log", longest_wait=0.05),
    ):
        pass
    with hold_lock(tmp_path / "log", "the log", longest_wait=0.05):
        pass


# -------------------------------------------------------------------------------------- mistakes


def test_a_short_key_a_missing_log_and_a_missing_output(tmp_path):
    with pytest.raises(PovertyRiskError, match="key: found 5 bytes; expected >= 16"):
        append_audit(tmp_path / "audit.jsonl", b"short", command="visits")
    with pytest.raises(PovertyRiskError, match="audit log 'none.jsonl': found no such file"):
        verify_audit_log(tmp_path / "none.jsonl", KEY)
    with pytest.raises(PovertyRiskError, match="No such file"):
        append_audit(tmp_path / "audit.jsonl", KEY, command="card", output=tmp_path / "none.html")
    assert not Path(tmp_path / "audit.jsonl").exists()


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PovertyRiskError, match="Permission denied"):
        append_audit(tmp_path / "audit.jsonl", KEY, command="visits")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "office_only").write_text("")
    with pytest.raises(PovertyRiskError, match=re.escape("audit log 'audit.jsonl': found ")):
        append_audit(tmp_path / "office_only" / "audit.jsonl", KEY, command="visits")
