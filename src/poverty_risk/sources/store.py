"""The folder that keeps every delivery as it was imported: whole or not at all, never changed later.

One delivery is one file of an office, or one table of its database, at one day of export. It lies in
one directory of Parquet files beside a manifest with their fingerprints. There is no index that could
contradict the directories: a delivery is there from the moment its directory has its name.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from poverty_risk.declarations import Declared, parse_declaration
from poverty_risk.exceptions import Fault, HistoryError, PovertyRiskError
from poverty_risk.file_lock import hold_lock
from poverty_risk.privacy import hash_id
from poverty_risk.sources.delivery import (
    FORMAT,
    Delivery,
    Origin,
    StoredSheet,
    check_counts,
    compute_content_hash,
    describe_sheets,
    split_sheets,
)
from poverty_risk.sources.disk import sync, telling_failures
from poverty_risk.sources.raw import Converted, Counts
from poverty_risk.whole_files import PRIVATE as OWNER_ONLY
from poverty_risk.whole_files import write_whole_file
from poverty_risk.written_folder import write_folder

__all__ = ["Store"]

LOCK_SECONDS = 5.0
"""How long a run waits for another one that writes."""
MANIFEST, IDENTITY = "manifest.json", "store.json"
IMPORTS, OFFICE_ONLY = "imports", "office_only"
PRIVATE = pa.schema([("id", pa.string()), ("field", pa.string()), ("value", pa.string())])


class _Identity(Declared):
    """What belongs to a store as a whole: its format, and which key made its ids."""

    format: int
    key: str


class Store:
    """A folder of deliveries.

    Parameters
    ----------
    folder
        Where it is or is to be; made by the first `writing`.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk.sources.store import Store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     with store.writing(b"0123456789abcdef"):
    ...         len(store.deliveries())
    0
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._imports = self.folder / IMPORTS
        self._private = self.folder / OFFICE_ONLY
        self._place = f"store '{self.folder}'"

    @contextlib.contextmanager
    def writing(self, key: bytes, wait: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the store alone, and clear away what a killed run left.

        Parameters
        ----------
        key
            The office's key. Ids of another key would match none of those in the store.
        wait
            Seconds to wait for another run.

        Raises
        ------
        PovertyRiskError
            Another run writes, the folder cannot be written or is something else, or the store was
            made with another key or by a newer version.
        """
        with self._telling("Make room or choose another folder."):
            self._refuse_foreign()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_lock(self.folder / "store", self._place, wait):
            with self._telling("Nothing was changed."):
                self._check_identity(key)
                self._imports.mkdir(mode=0o700, exist_ok=True)
                self._clear()
            yield

    def deliveries(self) -> tuple[Delivery, ...]:
        """Manifests of all deliveries in the order of their days of export.

        Raises
        ------
        HistoryError
            No store, or a delivery that is damaged.
        """
        found, damaged = self.scan()
        if damaged:
            raise HistoryError(damaged)
        return found

    def scan(self) -> tuple[tuple[Delivery, ...], list[Fault]]:
        """Manifests of the deliveries that can be read, and a fault for each that cannot."""
        self._require()
        found: list[Delivery] = []
        damaged: dict[str, list[Fault]] = {}
        for folder in self._folders():
            try:
                found.append(self._read_manifest(folder))
            except PovertyRiskError as error:
                damaged[folder.name] = list(error.faults)
        replaced = _find_replaced(found)
        kept = [item for item in found if item.name not in replaced]
        kept.sort(key=lambda item: (item.origin.exported, item.number))
        faults = [fault for name in damaged if name not in replaced for fault in damaged[name]]
        return tuple(kept), faults

    def find_damage(self, delivery: Delivery) -> list[Fault]:
        """Files of a delivery that are missing or not as they were written."""
        faults: list[Fault] = []
        for name in delivery.files:
            try:
                self._read_bytes(delivery, name)
            except HistoryError as error:
                faults += error.faults
        return faults

    def read_records(self, delivery: Delivery, sheet: StoredSheet, table: str) -> pa.Table:
        """Records of one history table as the sheet told them."""
        return self._read(delivery, f"{sheet.number}-record-{table}")

    def read_people(self, delivery: Delivery, sheet: StoredSheet) -> pa.Table:
        """Persons of a sheet as in `Converted.people`."""
        return self._read(delivery, f"{sheet.number}-people")

    def read_rejected(self, delivery: Delivery, sheet: StoredSheet) -> pa.Table:
        """Faults of the rejected rows of a sheet."""
        return self._read(delivery, f"{sheet.number}-rejected")

    def read_private(self, delivery: Delivery) -> pa.Table:
        """What the office keeps beside a delivery: ``id``, ``field``, ``value``."""
        path = self._private / f"{delivery.name}.parquet"
        if not path.is_file():
            return PRIVATE.empty_table()
        with self._telling("Import its file again."):
            return pq.read_table(path)

    def read(self, delivery: Delivery) -> tuple[Converted, ...]:
        """All sheets of a delivery as they were added; ``private`` stays empty."""
        return tuple(
            Converted(
                kind=sheet.kind,
                file=delivery.origin.file,
                sheet=sheet.sheet,
                exported=delivery.origin.exported,
                records={t: self.read_records(delivery, sheet, t) for t in sheet.tables},
                states=frozenset(sheet.states),
                people=self.read_people(delivery, sheet),
                private=PRIVATE.empty_table(),
                rejected=self.read_rejected(delivery, sheet),
                counts=Counts(sheet.read, sheet.accepted, sheet.rejected, sheet.repeated),
            )
            for sheet in delivery.sheets
        )

    def add(
        self,
        origin: Origin,
        sheets: Sequence[Converted],
        unread: Sequence[str] = (),
        *,
        anew: bool = False,
    ) -> Delivery:
        """Add a delivery, or read it anew; only within `writing`.

        Parameters
        ----------
        origin
            What it is.
        sheets
            Its converted sheets.
        unread
            Names of sheets that no mapping could read.
        anew
            Whether the same that was added before is replaced, although it is whole.

        Returns
        -------
        Delivery
            Its manifest; that of before where the same was added before and is whole.

        Raises
        ------
        HistoryError
            It cannot be written, or its counts do not add up; then the store is as before.
        """
        check_counts(origin, sheets)
        earlier, _ = self.scan()
        same = {item.name: item for item in earlier if item.origin.is_same_content(origin)}
        if origin.name in same and not anew and not self.find_damage(same[origin.name]):
            return same[origin.name]
        incoming = self._imports / f".incoming-{origin.name}"
        with self._telling("Nothing was changed; make room and run it again."):
            shutil.rmtree(incoming, ignore_errors=True)
            try:
                write_folder(incoming, dict(split_sheets(sheets)), None)
                delivery = Delivery(
                    format=FORMAT,
                    number=max((item.number for item in earlier), default=0) + 1,
                    origin=origin,
                    replaces=next((name for name in same if name != origin.name), None),
                    sheets=describe_sheets(sheets),
                    unread=tuple(unread),
                    files={
                        path.name: compute_content_hash(path.read_bytes())
                        for path in sorted(incoming.iterdir())
                    },
                )
                write_whole_file(incoming / MANIFEST, delivery.model_dump_json(indent=1).encode())
                self._write_private(origin, [part.private for part in sheets])
                self._publish(incoming, self._imports / origin.name)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
        return delivery

    def remove(self, deliveries: Iterable[Delivery]) -> None:
        """Forget deliveries; only within `writing`.

        Parameters
        ----------
        deliveries
            Those to remove, one after the other: a run that is killed has removed whole ones.
        """
        with self._telling("Run it again."):
            for item in deliveries:
                self._set_aside(self._imports / item.name)
            self._clear()

    # ------------------------------------------------------------------------------- within a store

    def _publish(self, incoming: Path, target: Path) -> None:
        # A temporary folder is for its owner alone; whoever may read the store may read this.
        incoming.chmod(stat.S_IMODE(self._imports.stat().st_mode))
        for path in incoming.iterdir():
            sync(path)
        sync(incoming)
        if target.exists():
            # A damaged one, or one that is restored: nothing is lost with it.
            self._set_aside(target)
        incoming.rename(target)
        sync(self._imports)

    def _set_aside(self, folder: Path) -> None:
        aside = folder.with_name(f".removed-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if folder.exists():
            folder.rename(aside)
            sync(self._imports)

    def _clear(self) -> None:
        """Remove what a killed run left, and readings that a later one replaced."""
        whole, _ = self.scan()
        for name in _find_replaced(whole):
            self._set_aside(self._imports / name)
        for path in self._imports.iterdir():
            if path.name.startswith("."):
                shutil.rmtree(path)
        kept = {folder.name for folder in self._folders()}
        if self._private.is_dir():
            for path in self._private.iterdir():
                if path.suffix != ".parquet" or path.stem not in kept:
                    path.unlink()

    def _write_private(self, origin: Origin, tables: Sequence[pa.Table]) -> None:
        filled = [table.cast(PRIVATE) for table in tables if table.num_rows]
        if not filled:
            # What an earlier import of the same delivery kept must not stay.
            (self._private / f"{origin.name}.parquet").unlink(missing_ok=True)
            return
        self._private.mkdir(mode=0o700, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables(filled), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        write_whole_file(self._private / f"{origin.name}.parquet", content, OWNER_ONLY)

    def _folders(self) -> list[Path]:
        if not self._imports.is_dir():
            return []
        return [path for path in sorted(self._imports.iterdir()) if not path.name.startswith(".")]

    def _read_manifest(self, folder: Path) -> Delivery:
        place = f"delivery '{folder.name}'"
        remedy = "Import its file again, or remove the directory."
        told = _read_json(folder / MANIFEST)
        if told is None:
            found = f"no {MANIFEST} that can be read"
            raise HistoryError(Fault(place, found, "a delivery", remedy))
        self._check_format(told, place)
        delivery = parse_declaration(Delivery, told, f"{folder.name}/{MANIFEST}")
        strange = [name for name in delivery.files if Path(name).name != name or name[0] == "."]
        if delivery.name != folder.name or strange:
            found = f"a manifest of '{delivery.name}'"
            raise HistoryError(Fault(place, found, "its own manifest", remedy))
        return delivery

    def _check_format(self, told: object, place: str) -> None:
        version = told.get("format") if isinstance(told, dict) else None
        if version != FORMAT:
            raise HistoryError(
                Fault(
                    place,
                    f"format {version!r}",
                    f"format {FORMAT}",
                    "Use the version of the package that wrote it, or a newer one.",
                )
            )

    def _read(self, delivery: Delivery, name: str) -> pa.Table:
        content = self._read_bytes(delivery, f"{name}.parquet")
        with self._telling("Import its file again."):
            return pq.read_table(pa.BufferReader(content))

    def _read_bytes(self, delivery: Delivery, name: str) -> bytes:
        path = self._imports / delivery.name / name
        try:
            content = path.read_bytes()
        except OSError as error:
            content, found = b"", str(error.strerror)
        else:
            found = f"{len(content):,} bytes that are not those it was written with"
        if name not in delivery.files or compute_content_hash(content) != delivery.files[name]:
            place = f"delivery '{delivery.name}', {name}"
            remedy = "Import its file again: it takes the place of the damaged one."
            raise HistoryError(Fault(place, found, "the file as it was written", remedy))
        return content

    def _require(self) -> None:
        if not (self.folder / IDENTITY).is_file():
            raise HistoryError(
                Fault(
                    "store",
                    f"'{self.folder}'",
                    "a folder that an import made",
                    "Check the path, or import something first.",
                )
            )

    def _refuse_foreign(self) -> None:
        if not self.folder.exists() or (self.folder / IDENTITY).is_file():
            return
        if not self.folder.is_dir():
            found = "a file"
        else:
            visible = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
            if not visible:
                return
            found = f"{len(visible)} files or folders of something else"
        remedy = "Choose another folder; nothing was written."
        raise HistoryError(Fault(self._place, found, "a store or a new folder", remedy))

    def _check_identity(self, key: bytes) -> None:
        path = self.folder / IDENTITY
        own = _Identity(format=FORMAT, key=hash_id("key of a store", key))
        if not path.exists():
            write_whole_file(path, own.model_dump_json().encode())
            sync(self.folder)
        told = _read_json(path)
        self._check_format(told, self._place)
        if told.get("key") != own.key:
            raise HistoryError(
                Fault(
                    self._place,
                    "another key than that of its ids",
                    "the key with which it was made",
                    "Bring the key back, or import everything into a new store.",
                )
            )

    def _telling(self, remedy: str) -> contextlib.AbstractContextManager[None]:
        return telling_failures(self._place, remedy)


def _read_json(path: Path) -> Any:
    """What a file says; None where nothing can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _find_replaced(found: Sequence[Delivery]) -> set[str]:
    """Names of the deliveries that were read again later."""
    numbers = {item.name: item.number for item in found}
    # By number, because a file that is read again as it was first read has its first name again.
    return {
        item.replaces
        for item in found
        if item.replaces is not None and numbers.get(item.replaces, 0) < item.number
    }
