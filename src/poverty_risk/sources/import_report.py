"""What an import did: per file, row by row accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa

from poverty_risk.exceptions import Fault
from poverty_risk.sources.links import Links
from poverty_risk.sources.raw import Counts

__all__ = ["ImportReport", "ImportedFile", "add_counts"]


NO_ROWS = Counts(0, 0, 0, 0)


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Sum of counts.

    Examples
    --------
    >>> add_counts([Counts(3, 2, 1, 0), Counts(2, 1, 0, 1)])
    Counts(read=5, accepted=3, rejected=1, repeated=1)
    """
    total = [0, 0, 0, 0]
    for item in counts:
        told = (item.read, item.accepted, item.rejected, item.repeated)
        total = [before + more for before, more in zip(total, told, strict=True)]
    return Counts(*total)


@dataclass(frozen=True)
class ImportedFile:
    """What became of one file or database table.

    Parameters
    ----------
    file
        Its name.
    status
        ``imported``, ``replaced`` (read again with another mapping, or because its earlier import
        was damaged), ``unchanged`` (imported before), ``forgotten`` (its records were forgotten, and
        it is not read again), ``failed``, or ``skipped`` (in a folder, and of no kind that is read).
    exported
        Day of the export; None where nobody could tell.
    kinds
        Mapping by sheet.
    counts
        Rows of all its sheets.
    faults
        Why it failed, or which of its sheets could not be read.
    """

    file: str
    status: str
    exported: date | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    counts: Counts = NO_ROWS
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Parameters
    ----------
    files
        What became of each file, in the order in which they were read.
    rejected
        Faults of rejected rows of the files imported now, as in `poverty_risk.sources.raw.REJECTED`.
    links
        Who is who in the whole store, with the match rate per feed and the near misses.
    coverage
        What the store has of each kind, as by `describe_coverage`.
    near_misses_file
        Where a person decides who is the same.
    """

    files: tuple[ImportedFile, ...]
    rejected: pa.Table
    links: Links
    coverage: pd.DataFrame
    near_misses_file: Path

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All that could not be read."""
        return tuple(fault for item in self.files for fault in item.faults)

    @property
    def counts(self) -> Counts:
        """Rows of the files imported now: read = accepted + rejected + repeated."""
        return add_counts(item.counts for item in self.files if item.status != "unchanged")

    def to_frame(self) -> pd.DataFrame:
        """One row per file: file, status, exported, kinds, and its counts."""
        rows = [
            {
                "file": item.file,
                "status": item.status,
                "exported": item.exported,
                "kinds": ", ".join(dict.fromkeys(item.kinds.values())),
                **vars(item.counts),
            }
            for item in self.files
        ]
        columns = ["file", "status", "exported", "kinds", *vars(NO_ROWS)]
        return pd.DataFrame(rows, columns=columns)
