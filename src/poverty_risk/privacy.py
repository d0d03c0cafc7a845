"""Ids and small counts: keyed hashes, masks, suppression."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

import pandas as pd

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = ["hash_id", "mask_id", "read_or_make_key", "suppress_small_counts"]

logger = logging.getLogger(__name__)

MIN_KEY_BYTES = 16
SMALL_COUNT = 10
"""Counts below this are not shown in aggregates (domain knowledge: k >= 10)."""


def hash_id(identifier: str, key: bytes, length: int = 20) -> str:
    """Keyed hash of an id (HMAC-SHA-256, hexadecimal), the same for the same key.

    Parameters
    ----------
    identifier
        The id as the office writes it.
    key
        Secret of at least 16 bytes that stays in the office.
    length
        Hexadecimal digits kept, 16 to 64.

    Returns
    -------
    str
        The pseudonym.

    Raises
    ------
    PovertyRiskError
        The key is too short or the length is out of bounds.

    Examples
    --------
    >>> hash_id("H0000123", b"0123456789abcdef")[:6]
    '19b9b8'
    """
    faults = []
    if len(key) < MIN_KEY_BYTES:
        faults.append(
            Fault("key", f"{len(key)} bytes", f">= {MIN_KEY_BYTES}", "Use a longer secret.")
        )
    if not 16 <= length <= 64:
        faults.append(Fault("length", str(length), "16 to 64", "Choose one in between."))
    if faults:
        raise PovertyRiskError(faults)
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:length]


def read_or_make_key(path: str | Path) -> bytes:
    """The office's secret key from a file; made once, readable by its owner only.

    Parameters
    ----------
    path
        The key file. It stays in the office: who has it can map pseudonyms back.

    Returns
    -------
    bytes
        32 random bytes as 64 hexadecimal digits, or what the file holds.

    Raises
    ------
    PovertyRiskError
        The file holds less than 16 bytes, or cannot be read or made. An empty file is never filled:
        a new key would give every household a new pseudonym.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     key = read_or_make_key(f"{folder}/office_only/pseudonym.key")
    ...     key == read_or_make_key(f"{folder}/office_only/pseudonym.key")
    True
    """
    path = Path(path)
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise PovertyRiskError(
            Fault(f"key file '{path}'", str(error.strerror), "a file to read", "Check the path.")
        ) from None
    if len(key) < MIN_KEY_BYTES:
        raise PovertyRiskError(
            Fault(
                f"key file '{path}'",
                f"{len(key)} bytes",
                f">= {MIN_KEY_BYTES}",
                "Bring the key back from a backup; without one delete the file, and all pseudonyms "
                "change.",
            )
        )
    if os.name == "posix" and mode & 0o077:
        logger.warning("Key file '%s' can be read by others than its owner: chmod 600.", path)
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        # Whole or not at all; of two programs that make it at once, both read the first one's.
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return
    except OSError:
        # No hard links on FAT and on some network drives.
        temporary.replace(path)


def mask_id(identifier: str) -> str:
    """An id with its middle hidden, for messages and default output; at least half of it.

    Examples
    --------
    >>> mask_id("H0000123")
    'H0***23'
    """
    shown = min(len(identifier) // 4, 2)
    if len(identifier) <= 4:
        return "***"
    return f"{identifier[:shown]}***{identifier[-shown:]}"


def suppress_small_counts(counts: pd.Series, smallest: int = SMALL_COUNT) -> pd.Series:
    """Counts with those from 1 to `smallest` - 1 replaced by missing; zero stays.

    One such count beside the total of all can still be worked out: leave the total away too.

    Examples
    --------
    >>> suppress_small_counts(pd.Series([0, 3, 12])).tolist()
    [0.0, nan, 12.0]
    """
    return counts.astype(float).mask((counts > 0) & (counts < smallest))
