"""What the officers' workbook and its way back share: columns, texts of cells, the hidden record."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.report.facts import RunFacts
from poverty_risk.whole_files import PRIVATE, telling_write_failures, write_whole_file

__all__ = [
    "FEEDBACK",
    "FORMAT",
    "LISTS_SHEET",
    "LOCKED",
    "LONGEST_ENTRY",
    "RECORD_HEADINGS",
    "RECORD_SHEET",
    "Record",
    "RecordRow",
    "clean_text",
    "name_sheets",
    "read_value",
    "save_workbook",
]

FORMAT = "1"
"""Raised when an older reader would misread what is written."""

RECORD_SHEET, LISTS_SHEET = "_record", "_lists"

LOCKED = (
    "order", "standing", "pseudonym", "household", "village", "tier", "due", "risk", "why", "rules",
    "themes", "verify", "gaps",
)  # fmt: skip
RECORD_HEADINGS = ("checksum", "why_code", "tier_code")
"""Columns of the hidden record before the locked ones."""

FEEDBACK = ("visited_on", "found_true", "risk_type", "measure", "disagree", "note")

LONGEST_ENTRY = 500
LONGEST_TEXT = 2000
"""Far below what a cell may hold (32,767); whoever needs more reads the card."""

LONGEST_NAME = 31
MIN_KEY_BYTES = 16

_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_FORMULA = re.compile("[=+\\-@\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet may take for a formula, also as East Asian keyboards write it (full width)."""
_ESCAPE = re.compile("_x[0-9A-Fa-f]{4}_")
_NOT_IN_NAMES = re.compile(r"[\[\]:*?/\\\x00-\x1f]")


def clean_text(text: str) -> str:
    r"""A text that a cell can hold, that reads back the same, and that can never be a formula.

    What XML cannot hold is left out, tabs and carriage returns become blanks. A text that begins
    like a formula gets an apostrophe in front: in a workbook it is a string anyway, but it would
    become a formula when saved as CSV and opened again.

    Examples
    --------
    >>> clean_text("=1+1"), clean_text("\t-2"), clean_text("a\r\nb")
    ("'=1+1", "'-2", 'a\nb')
    """
    text = text.replace("\r\n", "\n").replace("\r", " ").replace("\t", " ")
    text = _ILLEGAL.sub("", text)
    # Readers take _x000D_ for an escaped character; a blank keeps the text readable.
    while _ESCAPE.search(text):
        text = _ESCAPE.sub(" ", text)
    text = text.strip()
    if _FORMULA.match(text):
        text = f"'{text}"
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def read_value(value: object) -> str:
    """A cell's value as one text, whatever program saved it.

    Examples
    --------
    >>> read_value(3.0), read_value(None), read_value(" a ")
    ('3', '', 'a')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, dt.datetime):
        return str(value.date()) if value.time() == dt.time() else str(value)
    text = str(value).replace("_x000D_", "").replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()


def name_sheets(places: Sequence[str], unknown: str, taken: Sequence[str]) -> dict[str, str]:
    """Sheet names by place: at most 31 characters, allowed ones, no two alike.

    Examples
    --------
    >>> name_sheets(["A/B", "a:b", ""], "unknown", ["Cover"])
    {'A/B': 'A B', 'a:b': 'a b (2)', '': 'unknown'}
    """
    # Excel keeps "History" to itself.
    used = {"history", RECORD_SHEET, LISTS_SHEET, *(name.casefold() for name in taken)}
    names = {}
    for place in places:
        cleaned = _NOT_IN_NAMES.sub(" ", _ILLEGAL.sub("", place)).strip().strip("'").strip()
        wanted = cleaned or unknown
        name, number = _shorten(wanted, ""), 2
        while name.casefold() in used:
            name, number = _shorten(wanted, f" ({number})"), number + 1
        used.add(name.casefold())
        names[place] = name
    return names


def _shorten(name: str, suffix: str) -> str:
    """At most 31 units of UTF-16, as Excel counts."""
    while len((name + suffix).encode("utf-16-le")) // 2 > LONGEST_NAME:
        name = name[:-1]
    return name.rstrip(" '") + suffix


@dataclass(frozen=True)
class RecordRow:
    """What was handed out about one household: by this, changed cells are recognised and restored.

    Parameters
    ----------
    pseudonym, why, tier
        Keyed hash, why it is visited, code of the tier.
    cells
        Text of every locked column.
    checksum
        Over all of these and the round.
    """

    pseudonym: str
    why: str
    tier: str
    cells: Mapping[str, str]
    checksum: str

    @property
    def signed(self) -> list[str]:
        """What the checksum is over."""
        return [self.pseudonym, self.why, self.tier, *(self.cells[name] for name in LOCKED)]


@dataclass(frozen=True)
class Record:
    """The round that a workbook belongs to.

    Parameters
    ----------
    locale, as_of_date, model_id, run_id, snapshot
        As in `RunFacts`, the date as text.
    keyed
        Whether checksums are made with the office's key: ``"yes"`` or ``"no"``.
    checksum
        Over all of these and the format.
    """

    locale: str
    as_of_date: str
    model_id: str
    run_id: str
    snapshot: str
    keyed: str
    checksum: str = ""

    @classmethod
    def make(cls, run: RunFacts, key: bytes | None) -> Record:
        """The record of a round, signed."""
        if key is not None and len(key) < MIN_KEY_BYTES:
            expected = f">= {MIN_KEY_BYTES} bytes"
            raise PovertyRiskError(Fault("key", f"{len(key)} bytes", expected, "Use a longer one."))
        record = cls(
            locale=run.locale,
            as_of_date=str(run.as_of_date.date()),
            model_id=clean_text(run.model_id),
            run_id=clean_text(run.run_id),
            snapshot=clean_text(run.snapshot),
            keyed="no" if key is None else "yes",
        )
        return cls(**{**vars(record), "checksum": record.sign(["record"], key)})

    @property
    def round_id(self) -> str:
        """Name of the round: the same for every workbook written of it, in every language."""
        parts = [self.as_of_date, self.model_id, self.run_id, self.snapshot]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def sign(self, parts: Sequence[str], key: bytes | None) -> str:
        """Checksum of some texts within this round: HMAC with the office's key if there is one."""
        head = [FORMAT, self.locale, self.as_of_date, self.model_id, self.run_id, self.snapshot]
        message = json.dumps(["workbook", *head, self.keyed, *parts]).encode()
        if key is None:
            return hashlib.sha256(message).hexdigest()[:32]
        return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]

    def holds(self, parts: Sequence[str], checksum: str, key: bytes | None) -> bool:
        """Whether a checksum is that of some texts."""
        return hmac.compare_digest(self.sign(parts, key).encode(), checksum.encode())


def save_workbook(content: bytes, path: Path) -> Path:
    """Write a workbook, whole or not at all; its owner alone can read it.

    Parameters
    ----------
    content
        The file.
    path
        Where to; an older one is replaced.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_workbook(b"PK", Path(folder) / "visits.xlsx").name
    'visits.xlsx'
    """
    remedy = "Check the path; close the file if a program has it open."
    with telling_write_failures(f"workbook '{path}'", remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole_file(path, content, PRIVATE)
    return path
