"""A new key for the pseudonyms of an office."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from poverty_risk.config import Config
from poverty_risk.privacy import add_key, hash_id, read_keys, remove_old_keys, use_newest_key
from poverty_risk.rotation import (
    IdMap,
    rotate_history,
    rotate_lookup,
    rotate_store,
)
from poverty_risk.sources import Store
from poverty_risk.whole_files import write_private_table
from poverty_risk.workflows.office import (
    FEEDBACK,
    KEY_FILE,
    LOOKUP,
    OFFICE_ONLY,
    VISIT_LISTS,
    drop_predictions,
    read_office_table,
)
from poverty_risk.workflows.privacy import record_export

__all__ = ["Rotation", "drop_old_keys", "rotate_key"]


@dataclass(frozen=True)
class Rotation:
    """What a rotation did.

    Parameters
    ----------
    number
        Number of the key that is in use now.
    replaced
        Pseudonyms replaced in the ``history`` and in the ``store``, as far as there are any.
    dropped
        Hashes of names and certificates that could not be renewed (see `rotate_store`).
    households
        Households in the lookup of visit rounds.
    """

    number: int
    replaced: dict[str, int]
    dropped: int
    households: int


def rotate_key(
    config: Config,
    *,
    reason: str,
    history: str | Path | None = None,
    store: str | Path | None = None,
    id_map: str | Path | None = None,
    who: str | None = None,
) -> Rotation:
    """Make pseudonyms with a new key from now on.

    Parameters
    ----------
    config
        The run; its output folder holds key and lookup.
    reason
        Why, for the log.
    history
        History folder of which the ids are pseudonyms themselves; not given where it holds the ids of
        the monitoring system.
    store
        Import store of which the ids were made with the office's key.
    id_map
        The office's own file of ids beside pseudonyms, for `history` and `store`.
    who
        Who asked for it, for the log.

    Returns
    -------
    Rotation
        What was replaced.

    Raises
    ------
    PovertyRiskError
        An id is in no map; then nothing was changed in that place, and the old key stays in use.

    Notes
    -----
    The new key comes into use last. A rotation that was interrupted is run again, with the same
    arguments, and goes on with the same key. Workbooks that were handed out before can be read back
    until `drop_old_keys`.
    """
    office = config.output / OFFICE_ONLY
    record_export(config, "rotate-key", reason=reason, who=who)
    ring = add_key(office / KEY_FILE)
    old, new = ring.key, ring.keys[ring.newest]
    known = IdMap({}) if id_map is None else IdMap.read(id_map, old, new)
    if store is not None:
        # What the store keeps of ids serves the history and the lookup, too.
        own = _read_ids(Path(store), old, new)
        known = IdMap({**own.new_by_old, **known.new_by_old})
    replaced, dropped = {}, 0
    if history is not None:
        replaced["history"] = rotate_history(history, known)
        drop_predictions(config)  # they name households by the ids before
    if store is not None:
        replaced["store"], dropped = rotate_store(store, old, new, known)
    households = _rotate_office(office, known, new)
    if id_map is not None:
        known.renew_file(id_map)
    number = use_newest_key(office / KEY_FILE).current
    record_export(
        config, "rotate-key: done", reason=f"key {number}", households=households, who=who
    )
    return Rotation(number, replaced, dropped, households)


def _read_ids(store: Path, old: bytes, new: bytes) -> IdMap:
    opened = Store(store)
    parts = [opened.read_private(delivery).to_pandas() for delivery in opened.deliveries()]
    return IdMap.build(pd.concat(parts), old, new) if parts else IdMap({})


def _rotate_office(office: Path, known: IdMap, new: bytes) -> int:
    for name in (*FEEDBACK, VISIT_LISTS):
        if known.new_by_old and (office / name).is_file():
            rows = pd.read_parquet(office / name)
            ids = [known.new_by_old.get(h, h) for h in rows["household_id"]]
            write_private_table(rows.assign(household_id=ids), office / name)
    if not (office / LOOKUP).is_file():
        return 0
    rows = rotate_lookup(read_office_table(office / LOOKUP), known, new)
    write_private_table(rows, office / LOOKUP)
    return int(rows["household_id"].nunique())


def drop_old_keys(config: Config, *, reason: str, who: str | None = None) -> int:
    """End a rotation: forget the old keys and the pseudonyms that were made with them.

    Returns
    -------
    int
        Old pseudonyms that were removed from the lookup. Workbooks that show them cannot be read back
        any more.
    """
    office = config.output / OFFICE_ONLY
    record_export(config, "rotate-key --drop-old", reason=reason, who=who)
    ring, removed = read_keys(office / KEY_FILE), 0
    if (office / LOOKUP).is_file():
        rows = read_office_table(office / LOOKUP)
        own = _made_with(ring.key, rows)
        removed = int((~own).sum())
        write_private_table(rows[own], office / LOOKUP)
    for path in sorted(office.glob("*_who.csv")):
        # Whose the rows of a list are: one of before the rotation tells whose the old ones were.
        if not _made_with(ring.key, read_office_table(path)).all():
            path.unlink()
    remove_old_keys(office / KEY_FILE)
    return removed


def _made_with(key: bytes, rows: pd.DataFrame) -> pd.Series:
    """Whether each row's pseudonym is that of a key."""
    current = [hash_id(household, key) for household in rows["household_id"]]
    return rows["pseudonym"] == pd.Series(current, index=rows.index, dtype="str")
