"""What is written down about a delivery: what it is, what it holds, which files it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa
from pydantic import Field

from poverty_risk.declarations import Declared
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.sources.raw import REJECTED, Converted

__all__ = [
    "FORMAT",
    "Delivery",
    "Origin",
    "StoredSheet",
    "check_counts",
    "compute_content_hash",
    "describe_sheets",
    "split_sheets",
]

FORMAT = 1


class Origin(Declared):
    """What makes a delivery the same delivery again.

    Parameters
    ----------
    file
        Name of the file without its folder, or of the database's table.
    content
        Fingerprint of what it holds.
    mapping
        Fingerprint of how it is read; another one makes the delivery be read again.
    exported
        Day of the export or delivery.
    """

    file: str
    content: str = Field(pattern="^[0-9a-f]{16,64}$")
    mapping: str = Field(pattern="^[0-9a-f]{16,64}$")
    exported: date

    @property
    def name(self) -> str:
        """Name of its directory."""
        return f"{self.exported:%Y%m%d}-{self.content[:16]}-{self.mapping[:8]}"

    def is_same_content(self, other: Origin) -> bool:
        """Whether both are the same content of the same day, however it was read."""
        return (self.content, self.exported) == (other.content, other.exported)


class StoredSheet(Declared):
    """One sheet of a delivery.

    Parameters
    ----------
    number
        Its position in the delivery, from 0.
    kind
        Name of the mapping.
    sheet
        Its name in the file.
    tables
        History tables that it tells records of.
    states
        Those of them that tell the state on the day of the export.
    read, accepted, rejected, repeated
        Counts of rows.
    """

    number: int = Field(ge=0)
    kind: str
    sheet: str
    tables: tuple[str, ...]
    states: tuple[str, ...]
    read: int = Field(ge=0)
    accepted: int = Field(ge=0)
    rejected: int = Field(ge=0)
    repeated: int = Field(ge=0)


class Delivery(Declared):
    """The manifest of a delivery.

    Parameters
    ----------
    format
        Version of the store that wrote it.
    number
        Its position in the order of imports, from 1.
    origin
        What was imported.
    replaces
        Directory of an earlier reading of the same content.
    sheets
        What it holds.
    unread
        Sheets of the file that no mapping could read.
    files
        Fingerprint of each Parquet file.
    """

    format: int
    number: int = Field(ge=1)
    origin: Origin
    replaces: str | None = Field(default=None, pattern="^[0-9]{8}-[0-9a-f]{16}-[0-9a-f]{8}$")
    sheets: tuple[StoredSheet, ...]
    unread: tuple[str, ...] = ()
    files: dict[str, str]

    @property
    def name(self) -> str:
        """Name of its directory."""
        return self.origin.name


def compute_content_hash(content: bytes) -> str:
    """Fingerprint of bytes.

    Examples
    --------
    >>> len(compute_content_hash(b"household_id"))
    32
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_counts(origin: Origin, sheets: Sequence[Converted]) -> None:
    """Refuse sheets of which a row is neither accepted nor rejected nor repeated.

    Parameters
    ----------
    origin
        Where they come from.
    sheets
        Converted sheets.

    Raises
    ------
    HistoryError
        Counts do not add up.

    Examples
    --------
    >>> check_counts(Origin(file="a.csv", content="0" * 16, mapping="1" * 16, exported="2023-05-31"), [])
    """
    faults = [
        Fault(
            f"{origin.file} {part.sheet}".strip(),
            f"{part.counts.read} rows read, {part.counts.accepted} accepted, "
            f"{part.counts.rejected} rejected, {part.counts.repeated} repeated",
            "read = accepted + rejected + repeated",
            "Report it: rows were lost in the conversion.",
        )
        for part in sheets
        if part.counts.read != part.counts.accepted + part.counts.rejected + part.counts.repeated
    ]
    if faults:
        raise HistoryError(faults)


def split_sheets(sheets: Sequence[Converted]) -> Iterator[tuple[str, pa.Table]]:
    """Name and table of everything that is kept of converted sheets, but what is private.

    Examples
    --------
    >>> list(split_sheets([]))
    []
    """
    for number, part in enumerate(sheets):
        for name, table in part.records.items():
            yield f"{number}-record-{name}", table
        yield f"{number}-people", part.people
        yield f"{number}-rejected", part.rejected.cast(REJECTED)


def describe_sheets(sheets: Sequence[Converted]) -> tuple[StoredSheet, ...]:
    """What a manifest says of converted sheets.

    Examples
    --------
    >>> describe_sheets([])
    ()
    """
    return tuple(
        StoredSheet(
            number=number,
            kind=part.kind,
            sheet=part.sheet,
            tables=tuple(part.records),
            states=tuple(sorted(part.states & set(part.records))),
            read=part.counts.read,
            accepted=part.counts.accepted,
            rejected=part.counts.rejected,
            repeated=part.counts.repeated,
        )
        for number, part in enumerate(sheets)
    )
