"""The lines of the audit log on disk, and the head file beside them."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from poverty_risk.exceptions import Fault
from poverty_risk.whole_files import PRIVATE, write_whole_file

__all__ = ["AuditEntry", "Head", "append_line", "find_end", "head_file", "read_entry", "read_head"]
__all__ += ["read_lines", "write_head"]

NO_HEAD = "no head file"
"""Note of a line that was written while the head file was missing: lines before may be cut off."""

RESTORE = "Restore the log from a backup, and ask who could write to it."


@dataclass(frozen=True)
class AuditEntry:
    """One line of the log.

    Parameters
    ----------
    number
        From 1, without gaps.
    at
        When, UTC.
    who
        Who ran it: as given, otherwise the account.
    account
        Account of the operating system.
    command
        What was run, such as ``visits``.
    reason
        Why.
    output
        Name of the file that was written, without its folder; empty where there is none.
    output_hash
        SHA-256 of that file.
    households
        How many households it tells of; None where that says nothing.
    note
        What the log itself had to say, normally nothing.
    previous
        Keyed hash of the line before; empty in the first line.
    own
        Keyed hash of this line with all of the above.
    """

    number: int
    at: str
    who: str
    account: str
    command: str
    reason: str
    output: str
    output_hash: str
    households: int | None
    note: str
    previous: str
    own: str = ""

    def sign(self, key: bytes) -> str:
        """Keyed hash of all but ``own``."""
        content = {name: value for name, value in asdict(self).items() if name != "own"}
        return _sign(content, key)


@dataclass(frozen=True)
class Head:
    """How far the log went: lines, hash of the last one, bytes."""

    lines: int = 0
    last: str = ""
    size: int = 0


def _sign(content: Mapping[str, Any], key: bytes) -> str:
    message = json.dumps(content, sort_keys=True, ensure_ascii=True).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def head_file(path: Path) -> Path:
    """The head file of a log."""
    return path.with_suffix(".head.json")


def append_line(path: Path, entry: AuditEntry) -> int:
    """Write a line after the last whole one; how long the log is then."""
    line = json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        os.fsync(file.fileno())
        return size + len(line)


def write_head(path: Path, head: Head, key: bytes) -> None:
    """Write the head file, whole or not at all."""
    content = asdict(head)
    text = json.dumps(content | {"own": _sign(content, key)})
    write_whole_file(head_file(path), text.encode(), PRIVATE)


def read_head(path: Path, key: bytes) -> tuple[Head | None, list[Fault]]:
    """The head, or None and what is wrong with its file."""
    target = head_file(path)
    expected = "the head file that stands beside the log"
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
        own = content.pop("own")
        if not hmac.compare_digest(_sign(content, key), str(own)):
            raise ValueError  # noqa: TRY301 - told below like any other damage
        return Head(**content), []
    except FileNotFoundError:
        return None, [Fault("head file", "no such file", expected, RESTORE)]
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        found = "altered, or written with another key"
        return None, [Fault("head file", found, expected, RESTORE)]


def read_lines(path: Path, start: int = 0) -> tuple[list[bytes], bool]:
    """Whole lines from a byte on, and whether a part of a line follows."""
    if not path.exists():
        return [], False
    with path.open("rb") as file:
        file.seek(start)
        *lines, rest = file.read().split(b"\n")
    return lines, bool(rest)


_NAMES = {item.name for item in fields(AuditEntry)}


def read_entry(line: bytes, key: bytes) -> AuditEntry | None:
    """The line, if it is one that was written with the key."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or set(content) != _NAMES:
        return None
    entry = AuditEntry(**content)
    try:
        holds = hmac.compare_digest(entry.sign(key), str(entry.own))
    except TypeError:
        return None
    return entry if holds else None


def find_end(path: Path, key: bytes) -> tuple[Head, str]:
    """Where the next line goes on, and what it has to note."""
    head, _ = read_head(path, key)
    if head is None:
        lines, torn = read_lines(path)
        if not lines and not torn:
            # Before the first line, so that a missing head file always means that it was removed.
            write_head(path, Head(), key)
            return Head(), ""
        entries = [entry for line in lines if (entry := read_entry(line, key)) is not None]
        last = max(entries, key=lambda entry: entry.number, default=None)
        return (Head() if last is None else Head(last.number, last.own)), NO_HEAD
    lines, torn = read_lines(path, head.size)
    if torn:
        _cut_part(path, head.size)
    for line in lines:
        # Written by a program that was killed before it could write the head.
        entry = read_entry(line, key)
        if entry is not None and entry.previous == head.last and entry.number == head.lines + 1:
            head = Head(entry.number, entry.own, head.size + len(line) + 1)
            write_head(path, head, key)
    return head, ""


def _cut_part(path: Path, confirmed: int) -> None:
    """Cut off the part of a line that was never confirmed; nothing that was."""
    content = path.read_bytes()
    os.truncate(path, max(confirmed, content.rfind(b"\n") + 1))
