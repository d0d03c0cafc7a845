"""What an office had forgotten stays forgotten: marks in the store that the next import obeys."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.declarations import Declared, parse_declaration
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.sources.delivery import Origin, compute_content_hash
from poverty_risk.sources.disk import telling_failures
from poverty_risk.sources.faults import KEPT
from poverty_risk.sources.raw import REJECTED, Converted, Counts
from poverty_risk.whole_files import PRIVATE, write_whole_file

__all__ = [
    "FORGOTTEN_FILE",
    "ForgottenDelivery",
    "Tombstones",
    "drop_forgotten",
    "read_tombstones",
    "write_tombstones",
]

FORGOTTEN_FILE = "forgotten.json"
EXPECTED = "not forgotten"


class ForgottenDelivery(Declared):
    """A delivery of which records were forgotten because they were known before a day."""

    content: str
    exported: date
    before: date


class Tombstones(Declared):
    """What was forgotten.

    Parameters
    ----------
    deliveries
        They are not read again, whole or in part.
    households
        Marks of households of which no row is taken in again: hashes of their pseudonyms, because the
        pseudonyms themselves are to be gone from the store.
    persons
        Marks of those who were in no other household, for files that name no household.
    """

    deliveries: tuple[ForgottenDelivery, ...] = ()
    households: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()

    def find(self, content: str, exported: date) -> ForgottenDelivery | None:
        """The mark of a delivery, if there is one."""
        same = [d for d in self.deliveries if (d.content, d.exported) == (content, exported)]
        return same[-1] if same else None

    def with_deliveries(self, origins: Iterable[Origin], before: date) -> Tombstones:
        """The same with further deliveries."""
        marks = {(d.content, d.exported): d for d in self.deliveries}
        for origin in origins:
            mark = ForgottenDelivery(
                content=origin.content, exported=origin.exported, before=before
            )
            marks[origin.content, origin.exported] = mark
        return self.model_copy(update={"deliveries": tuple(marks.values())})

    def with_households(self, households: Iterable[str], people: pa.Table) -> Tombstones:
        """The same with further households and, of all people, those who are only in these."""
        gone = self.households | _make_marks(households)
        inside = _is_marked(people["household_id"], gone)
        elsewhere = pc.and_(people["household_id"].is_valid(), pc.invert(inside))
        persons = _ids_of(people.filter(inside)) - _ids_of(people.filter(elsewhere))
        marked = self.persons | _make_marks(persons)
        return self.model_copy(update={"households": gone, "persons": marked})

    def renewed(self, new_by_old: Mapping[str, str]) -> Tombstones:
        """The same after a rotation of the key; marks of ids that the map lacks have no effect."""
        new = {_make_mark(old): _make_mark(renewed) for old, renewed in new_by_old.items()}
        return self.model_copy(
            update={
                "households": frozenset(new.get(mark, mark) for mark in self.households),
                "persons": frozenset(new.get(mark, mark) for mark in self.persons),
            }
        )

    def without(
        self, deliveries: Iterable[tuple[str, date]], sheets: Iterable[Converted]
    ) -> Tombstones:
        """The same without deliveries, and without whoever some sheets tell of."""
        taken, told, persons = set(deliveries), set[str](), set[str]()
        for sheet in sheets:
            for table in (*sheet.records.values(), sheet.people):
                told |= _values(table, "household_id")
                persons |= _ids_of(table)
        left = tuple(d for d in self.deliveries if (d.content, d.exported) not in taken)
        return Tombstones(
            deliveries=left,
            households=self.households - _make_marks(told),
            persons=self.persons - _make_marks(persons),
        )


def read_tombstones(folder: str | Path) -> Tombstones:
    """The marks of a store; none where nothing was ever forgotten.

    Raises
    ------
    PovertyRiskError
        The file is damaged: what was forgotten would come back unseen.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_tombstones(folder).households
    frozenset()
    """
    path = Path(folder) / FORGOTTEN_FILE
    if not path.exists():
        return Tombstones()
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        remedy = "Bring it back from a backup: without it an import brings back what was forgotten."
        found = "a file that cannot be read"
        raise HistoryError(Fault(path.name, found, "marks of what was forgotten", remedy)) from None
    return parse_declaration(Tombstones, told, path.name)


def write_tombstones(folder: str | Path, tombstones: Tombstones) -> None:
    """Write the marks of a store; only its owner can read them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tombstones(folder, Tombstones(households=frozenset({"h"})))
    ...     sorted(read_tombstones(folder).households)
    ['h']
    """
    path = Path(folder) / FORGOTTEN_FILE
    # In order, so that the same marks are the same file.
    told = tombstones.model_copy(
        update={
            "households": sorted(tombstones.households),
            "persons": sorted(tombstones.persons),
        }
    )
    with telling_failures(f"'{path.name}' of the store", "Make room and run it again."):
        content = told.model_dump_json(indent=1, warnings=False).encode()
        write_whole_file(path, content, PRIVATE)


def drop_forgotten(sheet: Converted, tombstones: Tombstones) -> Converted:
    """A sheet without the rows of whoever was forgotten; they count as rejected.

    Parameters
    ----------
    sheet
        A converted sheet.
    tombstones
        What was forgotten.

    Examples
    --------
    >>> rows = pa.table({"household_id": ["a", "b"], "source_row": [2, 3]})
    >>> people = pa.table({n: pa.array([], pa.string()) for n in ("person_id", "household_id", "certificate")})
    >>> private = pa.table({n: pa.array([], pa.string()) for n in ("id", "field", "value")})
    >>> sheet = Converted("k", "f", "", date(2023, 1, 1), {"household": rows}, frozenset(), people,
    ...     private, REJECTED.empty_table(), Counts(2, 2, 0, 0))
    >>> drop_forgotten(sheet, Tombstones().with_households(["a"], people)).counts
    Counts(read=2, accepted=1, rejected=1, repeated=0)
    """
    if not tombstones.households:
        return sheet
    rows, records = set[int](), {}
    for name, table in sheet.records.items():
        gone = _is_forgotten(table, tombstones)
        records[name] = table.filter(pc.invert(gone))
        if "source_row" in table.column_names:
            rows |= set(table.filter(gone)["source_row"].to_pylist()) - {None}
    rejected = sheet.rejected.cast(REJECTED)
    kept = pc.ends_with(rejected["expected"], KEPT)
    rows -= set(rejected.filter(pc.invert(kept))["row"].to_pylist())
    people = sheet.people.filter(pc.invert(_is_forgotten(sheet.people, tombstones)))
    if not rows and people.num_rows == sheet.people.num_rows:
        return sheet
    homes = _values(sheet.people, "household_id") - _values(people, "household_id")
    lost = (_ids_of(sheet.people) - _ids_of(people)) | homes
    gone = pc.is_in(sheet.private["id"].cast(pa.string()), value_set=_to_array(lost))
    private = sheet.private.filter(
        pc.invert(pc.or_(gone, _is_marked(sheet.private["id"], tombstones.households)))
    )
    told = {"file": sheet.file, "sheet": sheet.sheet, "column": "", "found": "(hidden)"}
    faults = [told | {"row": row, "expected": EXPECTED} for row in sorted(rows)]
    counts = sheet.counts
    return dataclasses.replace(
        sheet,
        records=records,
        people=people,
        private=private,
        rejected=pa.concat_tables([rejected, pa.Table.from_pylist(faults, schema=REJECTED)]),
        counts=Counts(
            counts.read, counts.accepted - len(rows), counts.rejected + len(rows), counts.repeated
        ),
    )


def _is_forgotten(table: pa.Table, tombstones: Tombstones) -> pa.ChunkedArray:
    none = pa.nulls(table.num_rows, pa.string())
    homes = table["household_id"] if "household_id" in table.column_names else none
    persons = table["person_id"] if "person_id" in table.column_names else none
    alone = pc.and_(pc.is_null(homes), _is_marked(persons, tombstones.persons))
    return pc.or_(_is_marked(homes, tombstones.households), alone)


def _make_mark(pseudonym: str) -> str:
    return compute_content_hash(f"forgotten {pseudonym}".encode())


def _make_marks(pseudonyms: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_make_mark, pseudonyms))


def _is_marked(
    values: pa.ChunkedArray | pa.Array, marks: frozenset[str]
) -> pa.ChunkedArray | pa.Array:
    values = values.cast(pa.string())
    told = [value for value in values.unique().to_pylist() if value is not None] if marks else []
    return pc.is_in(values, value_set=_to_array(v for v in told if _make_mark(v) in marks))


def _to_array(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def _values(table: pa.Table, column: str) -> set[str]:
    if column not in table.column_names:
        return set()
    return set(table[column].unique().to_pylist()) - {None}


def _ids_of(people: pa.Table) -> set[str]:
    return _values(people, "person_id") | _values(people, "certificate")
