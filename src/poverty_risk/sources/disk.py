"""What a failing disk says, and bringing files to it in order."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from poverty_risk.exceptions import Fault, HistoryError

__all__ = ["describe_failure", "sync", "telling_failures"]

_FAILURES = {
    errno.ENOSPC: "a full disk",
    errno.EDQUOT: "a full disk (quota)",
    errno.EROFS: "a read-only disk",
    errno.EACCES: "no permission, or a file that another program has open",
    errno.EPERM: "no permission, or a file that another program has open",
}


def describe_failure(error: BaseException) -> str:
    """What a failure of the disk or of a Parquet file says; its first line quotes no content.

    Examples
    --------
    >>> import errno
    >>> describe_failure(OSError(errno.ENOSPC, "No space left on device"))
    'a full disk'
    """
    number = getattr(error, "errno", None)
    if number in _FAILURES:
        return _FAILURES[number]
    if number:
        return os.strerror(number)
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


@contextlib.contextmanager
def telling_failures(place: str, remedy: str) -> Iterator[None]:
    """Failures of the disk within the block as faults.

    Parameters
    ----------
    place
        What is read or written.
    remedy
        What the reader can do.

    Raises
    ------
    HistoryError
        The block failed on the disk.

    Examples
    --------
    >>> with telling_failures("store 'county'", "Make room."):
    ...     pass
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        expected = "a disk that can be read and written"
        raise HistoryError(Fault(place, describe_failure(error), expected, remedy)) from None


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk, so that a power cut keeps the order of events.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sync(Path(folder))
    """
    if os.name != "posix":
        return  # other systems open no folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
