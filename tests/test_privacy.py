"""Pseudonyms, masks and small counts; the key stays in one file that its owner alone reads."""

import hashlib
import hmac
import logging
import os
import stat

import numpy as np
import pandas as pd
import pytest

from poverty_risk import privacy
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.privacy import (
    add_key,
    hash_id,
    mask_id,
    mask_numbers,
    read_keys,
    read_or_make_key,
    remove_old_keys,
    suppress_small_counts,
    use_newest_key,
)
from poverty_risk.progress import track

KEY = b"0123456789abcdef"
posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are a matter of POSIX")


# --- pseudonyms ---


def test_a_pseudonym_is_the_keyed_hash():
    expected = hmac.new(KEY, b"H0000123", hashlib.sha256).hexdigest()
    assert hash_id("H0000123", KEY, 64) == expected
    assert hash_id("H0000123", KEY) == expected[:20]
    # RFC 4231, test case 2 (key "Jefe" made long enough by the zeros that HMAC adds itself).
    known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    padded = b"Jefe" + b"\0" * 12
    assert hash_id("what do ya want for nothing?", padded, 64) == known


def test_pseudonyms_depend_on_key_and_id():
    ids = [f"H{number:07d}" for number in range(2000)] + ["\u6237\u53f71"]
    ours = [hash_id(identifier, KEY) for identifier in ids]
    theirs = {hash_id(identifier, b"another key of 16") for identifier in ids}
    assert ours == [hash_id(identifier, KEY) for identifier in ids]
    assert len(set(ours)) == len(ids)
    assert not set(ours) & theirs


def test_short_keys_and_odd_lengths_come_in_one_error():
    with pytest.raises(PovertyRiskError, match="^2 problems") as caught:
        hash_id("H0000123", b"short", 8)
    assert [fault.place for fault in caught.value.faults] == ["key", "length"]
    assert "H0000123" not in str(caught.value)
    assert "short" not in caught.value.faults[0].found
    with pytest.raises(PovertyRiskError, match="length: found 65; expected 16 to 64"):
        hash_id("H0000123", KEY, 65)


# --- the key file ---


@posix
def test_a_new_key_is_for_its_owner_alone_and_stays(tmp_path):
    path = tmp_path / "office_only" / "pseudonym.key"
    before = os.umask(0)  # the widest that a machine can be set to
    try:
        key = read_or_make_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) == 64
    assert len(set(key)) > 8
    assert read_or_make_key(str(path)) == key
    assert [item.name for item in path.parent.iterdir()] == ["pseudonym.key"]
    assert read_or_make_key(tmp_path / "other.key") != key


def test_an_empty_or_short_key_file_is_an_error_and_is_not_filled(tmp_path):
    """A new key in its place would give every household a new pseudonym without a word."""
    path = tmp_path / "pseudonym.key"
    for content in (b"", b" \n", b"tooshort"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(PovertyRiskError, match="pseudonym.key': found [08] bytes; .*backup"):
            read_or_make_key(path)
        assert path.read_bytes() == content


def test_a_key_file_ends_with_or_without_a_line_break(tmp_path):
    path = tmp_path / "pseudonym.key"
    path.write_bytes(KEY + b"\r\n")
    path.chmod(0o600)
    assert read_or_make_key(path) == KEY


def test_a_folder_in_place_of_the_key_file(tmp_path):
    with pytest.raises(PovertyRiskError, match="key file '.*': found Is a directory"):
        read_or_make_key(tmp_path)


@posix
def test_a_key_that_others_can_read_is_reported_without_showing_it(tmp_path, caplog):
    path = tmp_path / "pseudonym.key"
    path.write_bytes(KEY)
    path.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        assert read_or_make_key(path) == KEY
    assert "can be read by others than its owner" in caplog.text
    assert KEY.decode() not in caplog.text
    caplog.clear()
    path.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        read_or_make_key(path)
    assert not caplog.records


def test_of_two_programs_that_make_a_key_both_take_the_first(tmp_path, monkeypatch):
    path = tmp_path / "pseudonym.key"
    publish = privacy._publish

    def come_second(temporary, target):
        target.write_bytes(KEY)
        target.chmod(0o600)
        publish(temporary, target)

    monkeypatch.setattr(privacy, "_publish", come_second)
    assert read_or_make_key(path) == KEY
    assert [item.name for item in tmp_path.iterdir()] == ["pseudonym.key"]


def test_a_drive_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    path = tmp_path / "pseudonym.key"
    assert read_or_make_key(path) == path.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == ["pseudonym.key"]


def test_a_key_that_could_not_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(privacy, "_publish", full)
    with pytest.raises(PovertyRiskError, match="No space left on device"):
        read_or_make_key(tmp_path / "pseudonym.key")
    assert list(tmp_path.iterdir()) == []


# --- numbered keys ---


def test_a_key_file_that_was_never_rotated_is_key_number_one(tmp_path):
    path = tmp_path / "pseudonym.key"
    key = read_or_make_key(path)
    ring = read_keys(path)
    assert (dict(ring.keys), ring.current, ring.newest, ring.key) == ({1: key}, 1, 1, key)
    assert path.read_bytes() == key


def test_a_new_key_waits_until_it_is_used_and_the_old_one_can_be_forgotten(tmp_path):
    path = tmp_path / "pseudonym.key"
    first = read_or_make_key(path)
    waiting = add_key(path)
    second = waiting.keys[2]
    assert (waiting.current, waiting.newest) == (1, 2)
    assert len(second) == 64
    assert second != first
    assert read_or_make_key(path) == first
    assert add_key(path) == waiting  # a rotation that was interrupted goes on with the same key
    assert use_newest_key(path).key == second
    assert read_or_make_key(path) == second
    assert dict(read_keys(path).keys) == {1: first, 2: second}
    third = add_key(path).keys[3]
    assert dict(remove_old_keys(path).keys) == {2: second, 3: third}
    assert read_or_make_key(path) == second


@posix
def test_a_file_of_numbered_keys_is_for_its_owner_alone_and_says_what_it_is(tmp_path):
    path = tmp_path / "pseudonym.key"
    before = os.umask(0)
    try:
        ring = add_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().splitlines() == [
        "poverty-risk keys, format 1",
        f"1 {ring.keys[1].decode()}",
        f"2 {ring.keys[2].decode()}",
        "current 1",
    ]
    assert [item.name for item in tmp_path.iterdir()] == ["pseudonym.key"]
    assert ring.keys[1].decode() not in repr(ring)


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:-1],  # which is current?
        lambda lines: [*lines, "current 2"],
        lambda lines: [*lines[:-1], "current 7"],
        lambda lines: [lines[0], lines[1][:20], *lines[2:]],
        lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
        lambda lines: [*lines, "and more"],
    ],
)
def test_a_damaged_file_of_numbered_keys_is_refused_without_its_content(tmp_path, damage):
    path = tmp_path / "pseudonym.key"
    ring = add_key(path)
    path.write_text("\n".join(damage(path.read_text().splitlines())))
    with pytest.raises(PovertyRiskError, match="found a damaged file; .* backup") as caught:
        read_keys(path)
    assert not [key for key in ring.keys.values() if key.decode()[:20] in str(caught.value)]


def test_a_key_that_was_chosen_by_hand_is_not_rotated(tmp_path):
    """In a file of several keys it could not be told from its end or number."""
    path = tmp_path / "pseudonym.key"
    path.write_bytes(b"a sentence as a secret")
    path.chmod(0o600)
    with pytest.raises(PovertyRiskError, match="a key of another kind") as caught:
        add_key(path)
    assert "sentence" not in str(caught.value)
    assert read_or_make_key(path) == b"a sentence as a secret"


def test_a_ring_that_could_not_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "pseudonym.key"
    key = read_or_make_key(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(PovertyRiskError, match="No space left on device"):
        add_key(path)
    assert read_or_make_key(path) == key
    assert [item.name for item in tmp_path.iterdir()] == ["pseudonym.key"]


# --- masks and small counts ---


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("13812345678", "13***78"),
        ("11010119900307123X", "11***3X"),
        ("\u7535\u8bdd\uff11\uff13\uff18\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18", "\u7535\u8bdd\uff11\uff13***\uff17\uff18"),
        ("asked on 2024-03-05, batch 20240305", "asked on 2024-03-05, batch 20240305"),
        ("visits_13812345678.xlsx", "visits_13***78.xlsx"),
        ("card 6222 0212 3456 7890, phone 139-1234-5678", "card 62***90, phone 13***78"),
        ("110101-19900307-123X", "11***3X"),
        ("2024-03-05 and 2024-03-06 12:30", "2024-03-05 and 2024-03-06 12:30"),
        ("2024-03-05 2024-03-06 13812345678", "2024-03-05 2024-03-06 13***78"),
        ("", ""),
    ],
)  # fmt: skip
def test_long_numbers_within_a_text_are_masked(text, masked):
    assert mask_numbers(text) == masked


@pytest.mark.parametrize(
    ("identifier", "masked"),
    [
        ("", "***"),
        ("H1", "***"),
        ("H001", "***"),
        ("H0001", "H***1"),
        ("H000123", "H***3"),
        ("H0000123", "H0***23"),
        ("11010119900307123X", "11***3X"),
    ],
)
def test_at_least_half_of_an_id_is_masked(identifier, masked):
    assert mask_id(identifier) == masked
    assert len(masked) - 3 <= len(identifier) / 2


def test_small_counts_are_suppressed_and_zero_stays():
    counts = pd.Series([0, 1, 9, 10, 11, np.nan], index=list("abcdef"))
    found = suppress_small_counts(counts)
    np.testing.assert_array_equal(found, [0.0, np.nan, np.nan, 10.0, 11.0, np.nan])
    assert found.index.tolist() == counts.index.tolist()
    assert counts["b"] == 1
    np.testing.assert_array_equal(
        suppress_small_counts(pd.Series([0, 1, 2]), smallest=2), [0.0, np.nan, 2.0]
    )


# --- progress: what stays off logs and files ---


def test_progress_is_silent_where_nobody_looks(capsys):
    for quiet in (None, True):
        with track("months", total=2, quiet=quiet) as advance:
            advance(1)
            advance(1)
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal_and_then_gone(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with track("months", total=2) as advance:
        advance(2)
    shown = capsys.readouterr()
    assert "months" in shown.err
    assert shown.out == ""
