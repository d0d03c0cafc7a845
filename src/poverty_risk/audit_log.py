"""Who took what out of the office: an append-only log in which no line can be changed unnoticed.

The log is a text file with one JSON object per line. Each line holds the keyed hash of the line before
it and of itself, so that a line which was altered, removed, inserted or moved is found by whoever has
the key. A cut at the end leaves a chain that is whole; therefore a *head file* beside the log says how
many lines there are and what the last one is. Somebody who can replace both by older copies goes
unnoticed only until the head is compared with one that was noted elsewhere (`AuditCheck.head`).

No line holds an id of a household: counts, names of files and their hashes do.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from poverty_risk.audit_files import (
    NO_HEAD,
    RESTORE,
    AuditEntry,
    Head,
    append_line,
    find_end,
    head_file,
    read_entry,
    read_head,
    read_lines,
    write_head,
)
from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.file_lock import hold_lock
from poverty_risk.privacy import MIN_KEY_BYTES, mask_numbers

if sys.platform != "win32":
    import pwd

__all__ = ["AuditCheck", "AuditEntry", "append_audit", "verify_audit_log"]

LONGEST_TEXT = 500
"""Characters kept of a reason; a line stays far below what a disk writes at once."""


@dataclass(frozen=True)
class AuditCheck:
    """What `verify_audit_log` found.

    Parameters
    ----------
    entries
        Lines that are as they were written, in the order of the file.
    faults
        What is wrong; empty for a log that is whole.
    head
        Number and hash of the last line, to note where nobody who writes the log can change it.
    """

    entries: tuple[AuditEntry, ...] = field(repr=False)
    faults: tuple[Fault, ...]
    head: str


def append_audit(
    path: str | Path,
    key: bytes,
    *,
    command: str,
    reason: str = "",
    output: str | Path | None = None,
    households: int | None = None,
    who: str | None = None,
) -> AuditEntry:
    """Add a line to the log; it is on disk when this returns.

    Parameters
    ----------
    path
        The log, such as ``office_only/audit.jsonl``; made when it is not there, for its owner alone.
    key
        Secret of at least 16 bytes. A key of the log's own, so that it can be kept by somebody else
        than those whose work it records.
    command
        What is run.
    reason
        Why. Long numbers, which may be identity or phone numbers, are masked.
    output
        The file that was written, if any: its name and hash are recorded.
    households
        How many households it tells of.
    who
        Who runs it; by default the account of the operating system, which is recorded in any case.

    Returns
    -------
    AuditEntry
        The line.

    Raises
    ------
    PovertyRiskError
        The key is too short, the output cannot be read, the log cannot be written, or another program
        holds it for half a minute. Whoever exports writes the line first or takes the export back.

    Notes
    -----
    Two programs may write at once: each waits for the other. A program that is killed while it writes
    leaves at most a part of a line, which was never confirmed; the next one cuts it off.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log, key = f"{folder}/audit.jsonl", b"0123456789abcdef"
    ...     _ = append_audit(log, key, command="visits", reason="round of July", households=120)
    ...     line = append_audit(log, key, command="card", reason="visit", households=1)
    ...     line.number, verify_audit_log(log, key).faults
    (2, ())
    """
    path = Path(path)
    _check_key(key)
    place, account = f"audit log '{path.name}'", _find_account()
    written = None if output is None else Path(output)
    try:
        digest = "" if written is None else _hash_file(written)
        with hold_lock(path, place):
            head, note = find_end(path, key)
            entry = AuditEntry(
                number=head.lines + 1,
                at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                who=_short(who or account),
                account=account,
                command=_short(command),
                reason=_short(reason),
                output="" if written is None else _short(written.name),
                output_hash=digest,
                households=None if households is None else int(households),
                note=note,
                previous=head.last,
            )
            entry = AuditEntry(**asdict(entry) | {"own": entry.sign(key)})
            size = append_line(path, entry)
            write_head(path, Head(entry.number, entry.own, size), key)
    except OSError as error:
        fault = Fault(place, str(error.strerror), "a log and an output on disk", "Check both.")
        raise PovertyRiskError(fault) from None
    return entry


def verify_audit_log(path: str | Path, key: bytes, known_head: str | None = None) -> AuditCheck:
    """Look whether the log is as it was written.

    Parameters
    ----------
    path
        The log.
    key
        The secret that it was written with.
    known_head
        A `AuditCheck.head` that was noted earlier; the log must still hold that line.

    Returns
    -------
    AuditCheck
        The lines that hold, and a fault for each line that was altered, inserted, moved or repeated,
        for lines that are missing, also at the end, and for a head file that does not fit.

    Raises
    ------
    PovertyRiskError
        The key is too short, or there is neither log nor head file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log, key = Path(folder, "audit.jsonl"), b"0123456789abcdef"
    ...     for reason in ("visit", "appeal"):
    ...         _ = append_audit(log, key, command="card", reason=reason)
    ...     _ = log.write_text(log.read_text().replace("appeal", "visit!"))
    ...     print(verify_audit_log(log, key).faults[0])
    line 2: found altered, or written with another key; expected the line as it was written. ...
    """
    path = Path(path)
    _check_key(key)
    if not path.exists() and not head_file(path).exists():
        raise PovertyRiskError(
            Fault(f"audit log '{path.name}'", "no such file", "a log", "Check the path.")
        )
    head, faults = read_head(path, key)
    lines, torn = read_lines(path)
    at_line = {number: read_entry(line, key) for number, line in enumerate(lines, start=1)}
    entries = [entry for entry in at_line.values() if entry is not None]
    altered = [number for number, entry in at_line.items() if entry is None]
    expected = "the line as it was written"
    found = "altered, or written with another key"
    faults += [Fault(f"line {number}", found, expected, RESTORE) for number in altered]
    faults += _find_moved(at_line)
    by_number = {entry.number: entry for entry in entries}
    faults += _find_breaks(by_number)
    last = max([*by_number, 0 if head is None else head.lines])
    missing = [number for number in range(1, last + 1) if number not in by_number]
    # An altered line is one that is missing, and has been told already.
    if len(missing) > len(altered):
        count = len(missing) - len(altered)
        told = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        place = f"lines numbered {told}"
        faults.append(Fault(place, f"{count} missing", "every number once", RESTORE))
    faults += _compare_with_head(by_number, head, torn=torn)
    faults += _compare_with_known(by_number, known_head)
    end = by_number.get(max(by_number, default=0))
    return AuditCheck(tuple(entries), tuple(faults), "" if end is None else _name_head(end))


def _name_head(entry: AuditEntry) -> str:
    return f"{entry.number}:{entry.own[:32]}"


def _find_moved(at_line: Mapping[int, AuditEntry | None]) -> list[Fault]:
    faults, seen, highest = [], set[int](), 0
    for line, entry in at_line.items():
        if entry is None:
            continue
        if entry.number in seen or entry.number < highest:
            found = "repeated" if entry.number in seen else "moved"
            found = f"{found} (its number is {entry.number})"
            faults.append(Fault(f"line {line}", found, "lines in their order", RESTORE))
        seen.add(entry.number)
        highest = max(highest, entry.number)
    return faults


def _find_breaks(by_number: Mapping[int, AuditEntry]) -> list[Fault]:
    faults = []
    for number, entry in sorted(by_number.items()):
        before = by_number.get(number - 1)
        previous = "" if number == 1 else entry.previous if before is None else before.own
        if entry.previous != previous:
            found, expected = "a line of another log", f"one that follows line {number - 1}"
            faults.append(Fault(f"line numbered {number}", found, expected, RESTORE))
        if entry.note == NO_HEAD:
            found = "written without a head file: lines before it may have been cut off"
            remedy = "Ask who removed it, and compare with a head that was noted elsewhere."
            faults.append(Fault(f"line numbered {number}", found, "a head file", remedy))
    return faults


def _compare_with_head(
    by_number: Mapping[int, AuditEntry], head: Head | None, *, torn: bool
) -> list[Fault]:
    if head is None:
        return []
    last = max(by_number, default=0)
    at_head = by_number.get(head.lines)
    # A program that was killed had written its line, or a part of it, and not the head yet.
    beyond = last > head.lines + 1 or (last > head.lines and torn)
    if beyond or (at_head is not None and at_head.own != head.last):
        found = f"line {head.lines} as the last one"
        return [Fault("head file", found, f"line {last}", "Ask who put an older one there.")]
    return []


def _compare_with_known(by_number: Mapping[int, AuditEntry], known_head: str | None) -> list[Fault]:
    if known_head is None:
        return []
    number = known_head.partition(":")[0]
    entry = by_number.get(int(number)) if number.isdecimal() else None
    if entry is not None and hmac.compare_digest(_name_head(entry), known_head.strip()):
        return []
    expected = "the line that was noted earlier"
    return [Fault("noted head", "not in this log", expected, RESTORE)]


def _check_key(key: bytes) -> None:
    if len(key) < MIN_KEY_BYTES:
        found, expected = f"{len(key)} bytes", f">= {MIN_KEY_BYTES}"
        raise PovertyRiskError(Fault("key", found, expected, "Use a longer secret."))


def _short(text: str) -> str:
    return mask_numbers(" ".join(str(text).split()))[:LONGEST_TEXT]


def _find_account() -> str:
    # Not what the environment says, which everybody sets as they like.
    if sys.platform == "win32":
        return os.environ.get("USERNAME", "unknown")
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
