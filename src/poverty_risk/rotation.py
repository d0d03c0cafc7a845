"""Give pseudonyms a new key: where ids of a history are pseudonyms, through the office's own id map.

A pseudonym cannot be turned into that of another key; only who knows the id behind it can make the new
one. The id map is what the office keeps for that: ids beside pseudonyms, as the lookup of visit rounds
does (``households.csv``) and as an import does that was asked to keep them. Where an id is not in the
map nothing is changed, and the remedy is to import the files again with the new key.

Old and new pseudonyms are told apart by the map, so that a rotation which was interrupted is simply run
again: what has the new pseudonym already stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.exceptions import Fault, HistoryError, PovertyRiskError
from poverty_risk.privacy import hash_id
from poverty_risk.raw_text import to_text
from poverty_risk.rejected import Rejected
from poverty_risk.rewriting import rewrite_folder, rewrite_store
from poverty_risk.sources.forgotten import read_tombstones, write_tombstones
from poverty_risk.sources.raw import Converted
from poverty_risk.sources.store import Store
from poverty_risk.whole_files import write_private_table

__all__ = ["IdMap", "rotate_history", "rotate_lookup", "rotate_store"]

IDS = ("household_id", "person_id")
"""Columns of which every value has to get its new pseudonym."""


@dataclass(frozen=True)
class IdMap:
    """New pseudonyms by old ones.

    Parameters
    ----------
    new_by_old
        Pseudonyms made with the old key, and those of the same ids made with the new one.
    """

    new_by_old: Mapping[str, str] = dataclasses.field(repr=False)

    @classmethod
    def build(cls, pairs: pd.DataFrame, old: bytes, new: bytes) -> IdMap:
        """Make the map.

        Parameters
        ----------
        pairs
            Pseudonyms and the ids behind them, in two columns: ``pseudonym`` and ``household_id``, or
            ``id`` and ``value``. A pair of which the pseudonym was made with neither key is left out:
            the value is a name or a telephone number, no id.
        old, new
            The keys.

        Returns
        -------
        IdMap
            The map.

        Raises
        ------
        PovertyRiskError
            Other columns.

        Examples
        --------
        >>> import pandas as pd
        >>> from poverty_risk.privacy import hash_id
        >>> old, new = b"0123456789abcdef", b"fedcba9876543210"
        >>> pairs = pd.DataFrame({"pseudonym": [hash_id("H1", old)], "household_id": ["H1"]})
        >>> IdMap.build(pairs, old, new).new_by_old == {hash_id("H1", old): hash_id("H1", new)}
        True
        """
        names = [n for n in (("pseudonym", "household_id"), ("id", "value")) if {*n} <= {*pairs}]
        if not names:
            expected = "columns pseudonym and household_id, or id and value"
            raise PovertyRiskError(
                Fault("id map", f"{len(pairs.columns)} other columns", expected, "Check the file.")
            )
        known = pairs[list(names[0])].dropna().astype(str)
        found = {}
        for pseudonym, identifier in known.drop_duplicates().itertuples(index=False):
            before = hash_id(identifier, old, max(len(pseudonym), 16)) if _fits(pseudonym) else ""
            after = hash_id(identifier, new, len(before)) if before else ""
            if pseudonym in (before, after) and before:
                found[before] = after
        return cls(found)

    @classmethod
    def read(cls, path: str | Path, old: bytes, new: bytes) -> IdMap:
        """Read the office's file, CSV or Parquet, and make the map (see `build`)."""
        return cls.build(_read_pairs(Path(path)), old, new)

    def renew_file(self, path: str | Path) -> None:
        """Write the office's file again with the new pseudonyms, for the next rotation.

        Raises
        ------
        PovertyRiskError
            The file cannot be read or written.
        """
        path = Path(path)
        pairs = _read_pairs(path)
        name = "pseudonym" if "pseudonym" in pairs else "id"
        renewed = pairs.assign(**{name: [self.new_by_old.get(p, p) for p in pairs[name]]})
        write_private_table(renewed, path)

    def renew(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Texts with every old pseudonym replaced by the new one; all else as it is."""
        encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        renewed = pa.array([self.new_by_old.get(text, text) for text in texts], pa.string())
        return pa.chunked_array([pc.take(renewed, encoded.indices)]).cast(values.type)

    def count_unknown(self, values: pa.ChunkedArray) -> int:
        """Different texts that are pseudonyms of neither key."""
        known = {*self.new_by_old, *self.new_by_old.values(), None}
        return len(set(values.unique().to_pylist()) - known)


def _read_pairs(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Without its message, which may quote an id.
        found = str(getattr(error, "strerror", None) or "unreadable")
        expected, remedy = "a CSV or Parquet file", "Check the path."
        raise PovertyRiskError(Fault(f"id map '{path.name}'", found, expected, remedy)) from None


def _fits(pseudonym: str) -> bool:
    return 16 <= len(pseudonym) <= 64


def rotate_history(folder: str | Path, id_map: IdMap) -> int:
    r"""Replace the pseudonyms of a history folder.

    Parameters
    ----------
    folder
        Folder of history tables.
    id_map
        New pseudonyms by old ones.

    Returns
    -------
    int
        Different pseudonyms that were replaced.

    Raises
    ------
    HistoryError
        A household or person is not in the map, or the folder cannot be read or written; nothing was
        changed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as root:
    ...     _ = Path(root, "h").mkdir(), Path(root, "h", "a.csv").write_text("household_id\nold1\n")
    ...     rotate_history(f"{root}/h", IdMap({"old1": "new1"}))
    1
    """
    replaced: set[str] = set()

    def change(
        tables: dict[str, pa.Table], rejection: Rejected
    ) -> tuple[dict[str, pa.Table], Rejected]:
        _check_known({f"table '{name}'": table for name, table in tables.items()}, id_map)
        renewed = {name: _renew(table, id_map, replaced) for name, table in tables.items()}
        changed = {name: table for name, table in renewed.items() if table is not tables[name]}
        return changed, _renew_rejected(rejection, id_map)

    rewrite_folder(folder, change)
    return len(replaced)


def _renew_rejected(rejection: Rejected, id_map: IdMap) -> Rejected:
    """Rejected rows with new pseudonyms, where one is a whole cell, in whatever column.

    An id that no map knows was mistyped, and is nobody's: it must not hinder the rotation, nor stay.
    What a fault quotes of such a cell is left out: it may be a part of the old pseudonym.
    """
    new, known = id_map.new_by_old, set(id_map.new_by_old.values())
    parts, changed = {}, False
    for name, rows in rejection.rows.items():
        texts, renewed = to_text(rows, trimmed=True), to_text(rows)
        faults = rejection.faults_of(name)
        for at, column in enumerate(rows.column_names):
            if column == "row":
                continue
            cells, trimmed = renewed[column].to_pylist(), texts[column].to_pylist()
            strange = [column in IDS and cell is not None and cell not in known for cell in trimmed]
            told = [
                new.get(text, None if nobody else cell)
                for text, nobody, cell in zip(trimmed, strange, cells, strict=True)
            ]
            moved = [
                row
                for row, a, b in zip(rows["row"].to_pylist(), told, cells, strict=True)
                if a != b
            ]
            if moved:
                changed = True
                # Built anew: where Arrow marks a text as missing, its bytes stay in the file.
                renewed = renewed.set_column(at, column, pa.array(told, pa.string()))
                quoted = (faults["column"] == column) & faults["row"].isin(moved)
                faults["found"] = faults["found"].mask(quoted, "")
        parts[name] = (faults, renewed)
    return Rejected.of(parts) if changed else rejection


def rotate_store(
    folder: str | Path, old: bytes, new: bytes, id_map: IdMap | None = None
) -> tuple[int, int]:
    """Replace the pseudonyms of an import store, and the key that it is bound to.

    Parameters
    ----------
    folder
        The store.
    old, new
        The keys.
    id_map
        The office's own map, beside what the store itself keeps of ids (`Converted.private`).

    Returns
    -------
    replaced : int
        Different pseudonyms that were replaced.
    dropped : int
        Hashes of certificates and names of which the number or name is not known; they served to link
        persons, and are gone until their file is imported again.

    Raises
    ------
    HistoryError
        A household or person is in no map, or the store cannot be read or written; nothing was changed.
    """
    if _is_rotated(Path(folder), new):
        return 0, 0
    replaced: set[str] = set()
    dropped = 0

    def change(deliveries: list[tuple[Converted, ...]]) -> list[tuple[Converted, ...]]:
        nonlocal dropped
        kept = [part.private.to_pandas() for parts in deliveries for part in parts]
        own = IdMap.build(pd.concat(kept), old, new).new_by_old if kept else {}
        known = IdMap({**own, **({} if id_map is None else id_map.new_by_old)})
        places: dict[str, pa.Table] = {}
        for parts in deliveries:
            for part in parts:
                for name, table in [*part.records.items(), ("people", part.people)]:
                    places[f"{part.kind}, {part.exported}, {name}"] = table
        _check_known(places, known)
        changed = []
        for parts in deliveries:
            sheets = []
            for part in parts:
                people, lost = _renew_people(part.people, known, replaced)
                dropped += lost
                records = {n: _renew(table, known, replaced) for n, table in part.records.items()}
                private = _renew(part.private, known, replaced, but=("value", "field"))
                sheets.append(
                    dataclasses.replace(part, records=records, people=people, private=private)
                )
            changed.append(tuple(sheets))
        # Who was forgotten stays so under the new pseudonym.
        write_tombstones(folder, read_tombstones(folder).renewed(known.new_by_old))
        return changed

    rewrite_store(folder, old, change, new)
    return len(replaced), dropped


def _is_rotated(folder: Path, new: bytes) -> bool:
    """Whether a rotation that was interrupted later had reached the store already."""
    store = Store(folder)
    store.scan()  # a folder that is no store is told, and not made one
    try:
        with store.writing(new):
            return True
    except HistoryError:
        return False


def rotate_lookup(rows: pd.DataFrame, id_map: IdMap | None, new: bytes) -> pd.DataFrame:
    """The lookup of visit rounds with new pseudonyms first, and those that are still about.

    Parameters
    ----------
    rows
        Columns ``pseudonym`` and ``household_id``.
    id_map
        Where ids of the history are pseudonyms themselves: the map by which they were replaced.
    new
        The new key.

    Returns
    -------
    DataFrame
        The same columns. Old pseudonyms stay, for workbooks that were handed out before.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"pseudonym": ["p1"], "household_id": ["H1"]})
    >>> rotate_lookup(rows, None, b"0123456789abcdef")["household_id"].tolist()
    ['H1', 'H1']
    """
    new_by_old = {} if id_map is None else id_map.new_by_old
    renewed = rows.assign(household_id=[new_by_old.get(h, h) for h in rows["household_id"]])
    made = renewed.assign(pseudonym=[hash_id(h, new) for h in renewed["household_id"]])
    return pd.concat([made, renewed]).drop_duplicates("pseudonym").reset_index(drop=True)


def _check_known(places: Mapping[str, pa.Table], id_map: IdMap) -> None:
    faults = [
        Fault(
            place,
            f"{unknown} values of {column} that the id map does not hold",
            "pseudonyms of ids in the map",
            "Nothing was changed. Complete the map, or import the files again with the new key.",
        )
        for place, table in places.items()
        for column in IDS
        if column in table.column_names and (unknown := id_map.count_unknown(table[column]))
    ]
    if faults:
        raise HistoryError(faults)


def _renew(
    table: pa.Table, id_map: IdMap, replaced: set[str], but: tuple[str, ...] = ()
) -> pa.Table:
    """The table with old pseudonyms replaced in all columns of text; itself where there are none."""
    for at, field in enumerate(table.schema):
        if not _is_text(field.type) or field.name in but:
            continue
        old = set(table[at].unique().to_pylist()) & set(id_map.new_by_old)
        if old:
            replaced |= old
            table = table.set_column(at, field, id_map.renew(table[at]))
    return table


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, in any of the layouts that files come in."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _renew_people(people: pa.Table, id_map: IdMap, replaced: set[str]) -> tuple[pa.Table, int]:
    """Persons with their new pseudonyms; hashes that cannot be renewed are dropped and counted."""
    dropped = 0
    people = _renew(people, id_map, replaced)
    new = pa.array(sorted(set(id_map.new_by_old.values())), pa.string())
    for name in ("certificate", "name"):
        at = people.column_names.index(name)
        known = pc.is_in(people[name], value_set=new)
        dropped += pc.sum(pc.and_(pc.invert(known), people[name].is_valid())).as_py() or 0
        emptied = pc.if_else(known, people[name], pa.scalar(None, pa.string()))
        people = people.set_column(at, people.schema.field(at), emptied)
    at = people.column_names.index("transposed")
    lists = [
        None if hashes is None else [id_map.new_by_old.get(h) for h in hashes]
        for hashes in people["transposed"].to_pylist()
    ]
    dropped += sum(hashes.count(None) for hashes in lists if hashes is not None)
    kept = [None if hashes is None else [h for h in hashes if h] for hashes in lists]
    field = people.schema.field(at)
    return people.set_column(at, field, pa.array(kept, field.type)), dropped
