"""Ids, keys and small counts: keyed hashes and their keys, masks, suppression."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.whole_files import PRIVATE, telling_write_failures, write_whole_file

__all__ = [
    "KeyRing",
    "add_key",
    "hash_id",
    "mask_id",
    "mask_numbers",
    "read_keys",
    "read_or_make_key",
    "remove_old_keys",
    "suppress_small_counts",
    "use_newest_key",
]

logger = logging.getLogger(__name__)

MIN_KEY_BYTES = 16
SMALL_COUNT = 10
"""Counts below this are not shown in aggregates (domain knowledge: k >= 10)."""

RING = b"poverty-risk keys, format 1"
"""First line of a file with numbered keys; a file without it is one key, number 1."""

_BETWEEN = r"[ \t\u00a0\u3000\-\u2010-\u2015\uff0d]?"
_LONG_NUMBER = re.compile(
    # A date that stands alone is no such number, though a second one may follow.
    rf"(?<![0-9])((?:19|20)[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}})(?!-?[0-9])"
    rf"|[0-9\uff10-\uff19](?:{_BETWEEN}[0-9\uff10-\uff19]){{10,}}(?:{_BETWEEN}[Xx](?![A-Za-z]))?"
)
_RING_LINE = re.compile(rb"([1-9]\d{0,5}) ([0-9a-f]{32,256})|current ([1-9]\d{0,5})")


@dataclass(frozen=True)
class KeyRing:
    """The numbered keys of an office.

    Parameters
    ----------
    keys
        Keys by number.
    current
        Number of the key that pseudonyms are made with now. A newer one is waiting until everything
        that it has to reach is rewritten.
    """

    keys: Mapping[int, bytes] = field(repr=False)
    current: int

    @property
    def key(self) -> bytes:
        """The key in use."""
        return self.keys[self.current]

    @property
    def newest(self) -> int:
        """The highest number."""
        return max(self.keys)


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
    return read_keys(path).key


def read_keys(path: str | Path) -> KeyRing:
    """All keys of a key file; one is made where there is no file.

    Parameters
    ----------
    path
        The key file.

    Returns
    -------
    KeyRing
        The keys by number; a file that was never rotated holds number 1 alone.

    Raises
    ------
    PovertyRiskError
        As `read_or_make_key`; or a file of numbered keys is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_keys(f"{folder}/pseudonym.key")
    KeyRing(current=1)
    """
    path = Path(path)
    try:
        if not path.exists():
            _make_key(path)
        content = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise PovertyRiskError(
            Fault(f"key file '{path}'", str(error.strerror), "a file to read", "Check the path.")
        ) from None
    if len(content) < MIN_KEY_BYTES:
        raise PovertyRiskError(
            Fault(
                f"key file '{path}'",
                f"{len(content)} bytes",
                f">= {MIN_KEY_BYTES}",
                "Bring the key back from a backup; without one delete the file, and all pseudonyms "
                "change.",
            )
        )
    if os.name == "posix" and mode & 0o077:
        logger.warning("Key file '%s' can be read by others than its owner: chmod 600.", path)
    return _parse_ring(content, path)


def _parse_ring(content: bytes, path: Path) -> KeyRing:
    first, *lines = content.splitlines()
    if first.strip() != RING:
        return KeyRing(MappingProxyType({1: content}), 1)
    found = [_RING_LINE.fullmatch(line.strip()) for line in lines]
    keys = {int(m[1]): bytes(m[2]) for m in found if m is not None and m[1] is not None}
    current = [int(m[3]) for m in found if m is not None and m[3] is not None]
    if None in found or len(current) != 1 or current[0] not in keys or len(keys) < len(found) - 1:
        # Without what it holds: these are secrets.
        expected = "one line per numbered key, and which is current"
        remedy = "Bring the file back from a backup."
        raise PovertyRiskError(Fault(f"key file '{path}'", "a damaged file", expected, remedy))
    return KeyRing(MappingProxyType(keys), current[0])


def add_key(path: str | Path) -> KeyRing:
    """Add a new key that waits to be used; where one is waiting already, that one stays.

    Parameters
    ----------
    path
        The key file.

    Returns
    -------
    KeyRing
        With the new key as `KeyRing.newest`; the current one is still the old one.

    Raises
    ------
    PovertyRiskError
        The file cannot be read or written.

    Notes
    -----
    So a rotation that was interrupted goes on with the key that it began with: what is rewritten
    already need not be rewritten again.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ring = add_key(f"{folder}/pseudonym.key")
    ...     add_key(f"{folder}/pseudonym.key") == ring, ring.current, ring.newest
    (True, 1, 2)
    """
    ring = read_keys(path)
    if ring.newest > ring.current:
        return ring
    new = secrets.token_hex(32).encode()
    return _write_ring(path, KeyRing({**ring.keys, ring.newest + 1: new}, ring.current))


def use_newest_key(path: str | Path) -> KeyRing:
    """Make the newest key the one that pseudonyms are made with.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = add_key(f"{folder}/pseudonym.key")
    ...     use_newest_key(f"{folder}/pseudonym.key").current
    2
    """
    ring = read_keys(path)
    return _write_ring(path, KeyRing(ring.keys, ring.newest))


def remove_old_keys(path: str | Path) -> KeyRing:
    """Forget all keys before the current one: what was made with them can no longer be read back.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = add_key(f"{folder}/pseudonym.key")
    ...     _ = use_newest_key(f"{folder}/pseudonym.key")
    ...     sorted(remove_old_keys(f"{folder}/pseudonym.key").keys)
    [2]
    """
    ring = read_keys(path)
    kept = {number: key for number, key in ring.keys.items() if number >= ring.current}
    return _write_ring(path, KeyRing(kept, ring.current))


def _write_ring(path: str | Path, ring: KeyRing) -> KeyRing:
    # A key that was chosen by hand may be any bytes; in a ring all are hexadecimal digits, and a
    # pseudonym depends on the bytes. So such a key is refused rather than changed.
    place = f"key file '{path}'"
    if any(_RING_LINE.fullmatch(b"1 " + key) is None for key in ring.keys.values()):
        expected = "32 to 256 hexadecimal digits"
        remedy = "Only keys that this package made can be rotated; start with a new output folder."
        raise PovertyRiskError(Fault(place, "a key of another kind", expected, remedy))
    path = Path(path)
    lines = [RING, *(b"%d %s" % (number, key) for number, key in sorted(ring.keys.items()))]
    with telling_write_failures(place):
        write_whole_file(path, b"\n".join([*lines, b"current %d" % ring.current, b""]), PRIVATE)
    return KeyRing(MappingProxyType(dict(ring.keys)), ring.current)


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        write_whole_file(temporary, secrets.token_hex(32).encode(), PRIVATE)
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


def mask_numbers(text: str) -> str:
    """A text with its long numbers masked, which may be identity, phone or account numbers.

    Blanks and hyphens between the digits do not hide a number; what they part may be a date.

    Examples
    --------
    >>> mask_numbers("account 6222 0212 3456 7890")
    'account 62***90'
    >>> mask_numbers("asked by phone 13812345678 on 2024-03-05")
    'asked by phone 13***78 on 2024-03-05'
    """
    return _LONG_NUMBER.sub(lambda found: found[1] or mask_id(found[0]), text)


def suppress_small_counts(counts: pd.Series, smallest: int = SMALL_COUNT) -> pd.Series:
    """Counts with those from 1 to `smallest` - 1 replaced by missing; zero stays.

    One such count beside the total of all can still be worked out: leave the total away too.

    Examples
    --------
    >>> suppress_small_counts(pd.Series([0, 3, 12])).tolist()
    [0.0, nan, 12.0]
    """
    return counts.astype(float).mask((counts > 0) & (counts < smallest))
