"""What passes between the steps of an import: raw sheets, converted records, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

__all__ = ["REJECTED", "Converted", "Counts", "RawSheet", "SkippedRow"]

REJECTED = pa.schema(
    [
        ("file", pa.string()),
        ("sheet", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("found", pa.string()),
        ("expected", pa.string()),
    ]
)
"""One line per fault of a rejected row; ``found`` is masked where the column is sensitive."""


@dataclass(frozen=True)
class SkippedRow:
    """A row that is no record: a title, a total, a repeated header.

    Parameters
    ----------
    row
        Its number in the file, from 1.
    why
        ``title``, ``header``, ``total``, ``repeated header``, ``note``, ``blank``, ``no header``, or
        ``uneven``: a record that cannot be read, because it has other fields than the header.
    """

    row: int
    why: str


@dataclass(frozen=True)
class RawSheet:
    """One sheet of a file, or one table of a database, as text.

    Parameters
    ----------
    file
        Name of the file without its folder.
    sheet
        Name of the sheet; empty where a file holds one table only.
    cells
        One text column per header, null where a cell is blank; headers are unique.
    rows
        Number of each row in the file, from 1, int64, shape (n_rows,).
    skipped
        Rows that are no records, with the reason.
    """

    file: str
    sheet: str
    cells: pa.Table
    rows: pa.Array
    skipped: tuple[SkippedRow, ...] = ()


@dataclass(frozen=True)
class Counts:
    """Rows of a sheet: read = accepted + rejected + repeated."""

    read: int
    accepted: int
    rejected: int
    repeated: int


@dataclass(frozen=True)
class Converted:
    """One sheet as typed records of history tables, ids hashed, nothing lost.

    Parameters
    ----------
    kind
        Name of the mapping.
    file, sheet
        Where it came from.
    exported
        Day of the export or delivery.
    records
        Records by history table: the columns of the schema, and ``source_row`` (int64).
    states
        Those tables that tell the state on the day of the export; the others tell dated events.
    people
        One row per person read: ``person_id``, ``household_id``, ``certificate`` (keyed hash),
        ``transposed`` (list of keyed hashes of the number with two neighbouring digits exchanged),
        ``name`` (keyed hash), ``birth_date``; null where the file has none.
    private
        What an office keeps in its own key file when it asks for it: ``id``, ``field``, ``value``.
    rejected
        Faults as in `REJECTED`.
    counts
        How many rows went where.
    """

    kind: str
    file: str
    sheet: str
    exported: date
    records: Mapping[str, pa.Table]
    states: frozenset[str]
    people: pa.Table
    private: pa.Table
    rejected: pa.Table
    counts: Counts
