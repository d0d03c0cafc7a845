"""Files and databases of the county into the store, and from there into a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from poverty_risk.config import Config
from poverty_risk.exceptions import HistoryError
from poverty_risk.privacy import read_or_make_key
from poverty_risk.schema import load_schema
from poverty_risk.sources import (
    DatabaseTable,
    ImportReport,
    Store,
    build_history,
    import_sources,
)
from poverty_risk.tables import HistoryTables
from poverty_risk.whole_files import write_private_table
from poverty_risk.workflows.office import FAULTS, KEY_FILE, OFFICE_ONLY, find_household_ids
from poverty_risk.workflows.privacy import record_export

__all__ = ["ImportedHistory", "find_people", "import_history"]


@dataclass(frozen=True)
class ImportedHistory:
    """An import and what came of it.

    Parameters
    ----------
    report
        What became of each file, and who is who.
    tables
        The history of the whole store.
    folder
        Where the history was written.
    rejected
        CSV with the faults of this import, in ``office_only``; None without any.
    """

    report: ImportReport
    tables: HistoryTables
    folder: Path
    rejected: Path | None


def import_history(
    config: Config,
    sources: Sequence[str | Path | DatabaseTable],
    *,
    store: str | Path,
    folder: str | Path,
    exported: date | None = None,
    mappings: Sequence[str | Path] = (),
    kind: str | None = None,
    keep_private: bool = False,
    restore_forgotten: bool = False,
) -> ImportedHistory:
    """Import sources into a store and write the history of all that is in it.

    Parameters
    ----------
    config
        The run: its schema, its line, and the key in ``office_only`` of its output.
    sources
        Files, folders and database tables.
    store
        Folder of the store; made where there is none.
    folder
        Where the history goes; one that was written before is replaced.
    exported, mappings, kind, keep_private, restore_forgotten
        See `poverty_risk.sources.import_sources`.

    Returns
    -------
    ImportedHistory
        The report, the history and where it is.

    Raises
    ------
    HistoryError
        The store cannot be used, or nothing in it can be read.
    """
    office = config.output / OFFICE_ONLY
    schema = load_schema(config.history.schema_name, config.history.extra_schema)
    report = import_sources(
        sources,
        store,
        read_or_make_key(office / KEY_FILE),
        exported=exported,
        mappings=mappings,
        kind=kind,
        schema=schema,
        keep_private=keep_private,
        restore_forgotten=restore_forgotten,
    )
    rejected = _write_rejected(office, report)
    try:
        tables = build_history(store, schema, config.line)
    except HistoryError as error:
        # Why nothing is there is told by what could not be imported.
        raise HistoryError([*report.faults, *error.faults]) from None
    tables.write(folder)
    return ImportedHistory(report, tables, Path(folder), rejected)


def _write_rejected(office: Path, report: ImportReport) -> Path | None:
    lines: pd.DataFrame = report.rejected.to_pandas()
    if lines.empty:
        return None
    path = office / FAULTS[1]
    write_private_table(lines, path, encoding="utf-8-sig")  # it quotes what stands in the rows
    return path


def find_people(
    config: Config, ids: Sequence[str], *, store: str | Path, reason: str, who: str | None = None
) -> pd.DataFrame:
    """Say whose hashes or pseudonyms are, from what the office itself keeps; written down in its log.

    Parameters
    ----------
    config
        The run: its lookup of pseudonyms, and its log.
    ids
        Hashed ids as in the history, or pseudonyms as in a workbook.
    store
        An import store that was filled with ``keep_private``.
    reason, who
        For the log.

    Returns
    -------
    DataFrame
        asked, id (in the history), field, value; without a row for who is not known.
    """
    record_export(config, "sources who", reason=reason, households=len(ids), who=who)
    asked = pd.DataFrame({"asked": list(ids), "id": find_household_ids(config, ids)})
    opened = Store(store)
    kept = [opened.read_private(delivery).to_pandas() for delivery in opened.deliveries()]
    private = pd.concat(kept) if kept else pd.DataFrame(columns=["id", "field", "value"])
    return asked.merge(private.drop_duplicates(), on="id")
