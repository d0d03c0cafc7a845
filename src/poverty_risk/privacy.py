"""Ids and small counts: keyed hashes, masks, suppression."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import pandas as pd

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = ["hash_id", "mask_id", "read_or_make_key", "suppress_small_counts"]

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
        32 random bytes, or what the file holds.
    """
    path = Path(path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
    return path.read_bytes().strip()


def mask_id(identifier: str) -> str:
    """An id with its middle hidden, for messages and default output.

    Examples
    --------
    >>> mask_id("H0000123")
    'H0***23'
    """
    if len(identifier) <= 4:
        return "***"
    return f"{identifier[:2]}***{identifier[-2:]}"


def suppress_small_counts(counts: pd.Series, smallest: int = SMALL_COUNT) -> pd.Series:
    """Counts with those from 1 to `smallest` - 1 replaced by missing; zero stays.

    Examples
    --------
    >>> suppress_small_counts(pd.Series([0, 3, 12])).tolist()
    [0.0, nan, 12.0]
    """
    return counts.astype(float).mask((counts > 0) & (counts < smallest))
