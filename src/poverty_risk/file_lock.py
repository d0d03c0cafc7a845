"""One program at a time: a lock that is free again when the program that held it dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from poverty_risk.exceptions import Fault, PovertyRiskError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["hold_lock"]

LONGEST_WAIT = 30.0
"""Seconds to wait for another program."""


@contextlib.contextmanager
def hold_lock(path: str | Path, place: str, longest_wait: float = LONGEST_WAIT) -> Iterator[None]:
    """Hold the lock of a file or folder alone.

    Parameters
    ----------
    path
        What is locked; the lock is a hidden file beside it, which stays and holds nothing.
    place
        What it is, for errors.
    longest_wait
        Seconds to wait for another program.

    Raises
    ------
    PovertyRiskError
        Another program holds it for longer, or the lock cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, hold_lock(f"{folder}/log", "log"):
    ...     print("alone")
    alone
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        found = str(error.strerror)
        raise PovertyRiskError(Fault(place, found, "a place to write", "Check it.")) from None
    try:
        until = time.monotonic() + longest_wait
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                found, remedy = "another program that is writing", "Wait for it, and try again."
                raise PovertyRiskError(Fault(place, found, "a place that is free", remedy))
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
