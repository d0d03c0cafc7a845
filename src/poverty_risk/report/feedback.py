"""Feedback: a filled workbook becomes visit and outcome records; what is wrong goes back to the office."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import pandas as pd

from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.report.entries import PURPOSES, Entry, EntryReader, RowFault, read_date
from poverty_risk.report.returned import ReturnedRow, ReturnedWorkbook, read_returned
from poverty_risk.report.sheets import FEEDBACK, LOCKED, RecordRow, read_value
from poverty_risk.report.xlsx import OfficerBook, SheetRow
from poverty_risk.wording import load_locale

__all__ = ["Feedback", "merge_feedback", "read_feedback", "write_feedback_errors"]

FOUND: Mapping[str, bool | None] = {"yes": True, "partly": True, "no": False, "not_at_home": None}
"""Whether a difficulty was found; nobody at home leaves it open."""

VISIT_DTYPES: Mapping[str, str] = {
    "household_id": "str",
    "event_date": "datetime64[ns]",
    "known_date": "datetime64[ns]",
    "purpose": "str",
    "difficulty_found": "boolean",
}
OUTCOME_DTYPES: Mapping[str, str] = {
    "record_id": "str",
    "version_id": "str",
    "household_id": "str",
    "round_id": "str",
    "as_of_date": "datetime64[ns]",
    "event_date": "datetime64[ns]",
    "known_date": "datetime64[ns]",
    "why": "str",
    "purpose": "str",
    "found_true": "str",
    "difficulty_found": "boolean",
    "risk_type": "str",
    "measure": "str",
    "disagree": "str",
    "note": "str",
}
ERROR_COLUMNS = tuple(item.name for item in fields(RowFault))


@dataclass(frozen=True)
class Feedback:
    """What came back of a round.

    Parameters
    ----------
    outcomes
        Every version of every row that was imported: ``record_id`` (round and household),
        ``version_id`` (what it says), household_id, round_id, as_of_date, event_date (visited on),
        known_date (first imported on), why, purpose, found_true, difficulty_found, risk_type and
        measure as codes, disagree, note.
    errors
        One line per fault: sheet, row, pseudonym, code (permanent), column, found, expected,
        remedy; texts in the language of the workbook.
    notes
        What was not read, such as columns that were added, and why.
    not_visited
        Rows without any entry.
    returned
        What `write_feedback_errors` writes the faulty rows from.
    """

    outcomes: pd.DataFrame
    errors: pd.DataFrame
    notes: tuple[str, ...] = ()
    not_visited: int = 0
    returned: ReturnedWorkbook | None = field(default=None, repr=False)

    @property
    def visits(self) -> pd.DataFrame:
        """Records for the archive's table ``visit``.

        household_id, event_date, known_date, purpose, difficulty_found. Where nobody was at home
        nobody looked: that is an outcome, but no visit. A corrected row with the same date stays
        beside its correction, which became known later (history tables resolve that). A corrected
        date replaces the earlier record, because no later record of another day could.
        """
        ordered = self.outcomes.sort_values("known_date", kind="stable")
        found = ordered["difficulty_found"].notna()
        latest = ordered.groupby("record_id")["event_date"].transform("last")
        looked = found.groupby(ordered["record_id"]).transform("last")
        valid = ordered[found & looked & (ordered["event_date"] == latest)]
        # Of two versions known on one day the one handed in last counts.
        valid = valid.drop_duplicates(["record_id", "known_date"], keep="last")
        return valid[list(VISIT_DTYPES)].reset_index(drop=True)


def read_feedback(
    workbook: str | Path,
    *,
    lookup: pd.DataFrame,
    imported_on: str | dt.date | pd.Timestamp,
    key: bytes | None = None,
) -> Feedback:
    """Read a filled workbook back: what visits found, and what has to be corrected.

    Parameters
    ----------
    workbook
        A file that `write_workbook` or `write_feedback_errors` wrote. Officers may have sorted,
        filtered or deleted rows, added columns, and typed dates as text.
    lookup
        The office's own: columns ``pseudonym`` and ``household_id``.
    imported_on
        Day of the import: the day from which the office knows what was found.
    key
        The secret that the workbook was written with, if any.

    Returns
    -------
    Feedback
        Rows without a fault as outcomes and visits, the others as errors. A row without any entry
        is not visited yet.

    Raises
    ------
    PovertyRiskError
        The file is none of ours, damaged, protected by a password, of an old format or too large;
        its hidden record was changed; a feedback column is gone; the lookup cannot be used.

    Notes
    -----
    Purpose: a rule hit or a high risk is an ``alert``, a minimum ``routine``, a random check
    ``random``. "Partly" counts as difficulty found. Reading the same file again gives the same
    ids, whatever the day, so that `merge_feedback` adds nothing.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import RunFacts, VisitFacts
    >>> from poverty_risk.report.xlsx import write_workbook
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures={},
    ... )  # fmt: skip
    >>> lookup = pd.DataFrame({"pseudonym": [], "household_id": []})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_workbook(VisitFacts(run, ()), f"{folder}/visits.xlsx")
    ...     len(read_feedback(path, lookup=lookup, imported_on="2024-03-01").outcomes)
    0
    """
    known = _read_lookup(lookup)
    today = _read_day(imported_on)
    book = read_returned(workbook, key)
    reader = EntryReader(book, known, today.date(), key)
    filled = [row for row in book.rows if _is_filled(row)]
    rows = _without_copies(filled)
    counts = Counter(row.pseudonym for row in rows)
    outcomes = []
    for row in rows:
        repeated = counts[row.pseudonym] > 1 and row.pseudonym in book.handed_out
        if repeated:
            reader.add(row, "repeated", "pseudonym", row.pseudonym)
        entry = reader.read(row)
        if entry is not None and not repeated:
            handed_out = book.handed_out[row.pseudonym]
            outcomes.append(_tell(entry, handed_out, known[row.pseudonym], book, today))
    empty = [row for row in book.rows if not _is_filled(row)]
    for row in empty:
        # Also where nothing was filled in, unknown households and changed cells are told.
        reader.check_household(row)
    order = {(row.sheet, row.row): position for position, row in enumerate(book.rows)}
    faults = sorted(reader.faults, key=lambda fault: order[fault.sheet, fault.row])
    return Feedback(
        outcomes=_frame(outcomes),
        errors=pd.DataFrame([asdict(fault) for fault in faults], columns=list(ERROR_COLUMNS)),
        notes=book.notes,
        # A sheet that was copied holds its households twice.
        not_visited=len({row.pseudonym for row in empty} - {row.pseudonym for row in filled}),
        returned=book,
    )


def _read_day(imported_on: str | dt.date | pd.Timestamp) -> pd.Timestamp:
    day = pd.to_datetime(imported_on, errors="coerce")
    if pd.isna(day):
        expected = "a date such as 2024-03-05"
        raise PovertyRiskError(Fault("imported_on", "no date", expected, "Give the day of today."))
    return day.tz_localize(None).normalize()


def _is_filled(row: ReturnedRow) -> bool:
    return any(value is not None for value in row.entries.values())


def _without_copies(rows: list[ReturnedRow]) -> list[ReturnedRow]:
    """Rows without those that say the same of the same household once more."""
    said: dict[str, ReturnedRow] = {}
    for row in rows:
        entries = [read_value(row.entries[name]) for name in FEEDBACK]
        said.setdefault(json.dumps([row.pseudonym, sorted(row.locked.items()), entries]), row)
    return list(said.values())


def _tell(
    entry: Entry, row: RecordRow, household: str, book: ReturnedWorkbook, today: pd.Timestamp
) -> dict[str, object]:
    assert entry.found_true is not None
    said = [str(entry.visited_on), entry.found_true, entry.risk_type, entry.measure]
    record_id = _hash([book.record.round_id, row.pseudonym])
    return {
        "record_id": record_id,
        "version_id": _hash([record_id, *said, entry.disagree, entry.note]),
        "household_id": household,
        "round_id": book.record.round_id,
        "as_of_date": pd.Timestamp(book.record.as_of_date),
        "event_date": pd.Timestamp(str(entry.visited_on)),
        "known_date": today,
        "why": row.why,
        "purpose": PURPOSES[row.why],
        "found_true": entry.found_true,
        "difficulty_found": FOUND[entry.found_true],
        "risk_type": entry.risk_type,
        "measure": entry.measure,
        "disagree": entry.disagree,
        "note": entry.note,
    }


def _hash(parts: list[str | None]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _frame(outcomes: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(outcomes, columns=list(OUTCOME_DTYPES)).astype(dict(OUTCOME_DTYPES))


def _read_lookup(lookup: pd.DataFrame) -> dict[str, str]:
    remedy = "Give the lookup that was written with the round."
    if absent := [name for name in ("pseudonym", "household_id") if name not in lookup]:
        expected = "columns pseudonym and household_id"
        raise PovertyRiskError(Fault("lookup", f"no {' and '.join(absent)}", expected, remedy))
    told = lookup[["pseudonym", "household_id"]].dropna().astype(str).drop_duplicates()
    if int(repeated := told["pseudonym"].duplicated().sum()):
        found = f"{repeated} pseudonyms of several households"
        raise PovertyRiskError(Fault("lookup", found, "one household each", remedy))
    return dict(zip(told["pseudonym"], told["household_id"], strict=True))


def merge_feedback(existing: Feedback | None, new: Feedback) -> Feedback:
    """Add what came back to what was imported before; what is known already changes nothing.

    Parameters
    ----------
    existing
        Imported before; None at first.
    new
        From `read_feedback`.

    Returns
    -------
    Feedback
        Outcomes of both, each version once with the day on which it was first imported. Errors,
        notes and returned rows are those of `new`: they are about the file handed in last.

    Notes
    -----
    A row that says something else than before is a correction: a further version, kept beside the
    earlier one (see `Feedback.visits`). Handing in an older file again does not bring back what
    was corrected since.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.report.feedback import Feedback, merge_feedback
    >>> nothing = Feedback(pd.DataFrame(columns=["version_id", "known_date"]), pd.DataFrame())
    >>> len(merge_feedback(None, nothing).outcomes)
    0
    """
    outcomes, notes = new.outcomes, tuple(new.notes)
    if existing is not None and len(existing.outcomes):
        seen = set(existing.outcomes["version_id"])
        added = outcomes[~outcomes["version_id"].isin(seen)]
        notes += _tell_reverted(existing, new)
        outcomes = pd.concat([existing.outcomes, added]) if len(added) else existing.outcomes
    outcomes = outcomes.sort_values("known_date", kind="stable").reset_index(drop=True)
    return Feedback(outcomes, new.errors, notes, new.not_visited, new.returned)


def _tell_reverted(existing: Feedback, new: Feedback) -> tuple[str, ...]:
    """A note on rows that say what was corrected since."""
    ordered = existing.outcomes.sort_values("known_date", kind="stable")
    now = ordered.drop_duplicates("record_id", keep="last").set_index("record_id")["version_id"]
    again = new.outcomes[new.outcomes["version_id"].isin(set(ordered["version_id"]))]
    count = int((again["version_id"] != again["record_id"].map(now)).sum())
    if not count or new.returned is None:
        return ()
    texts = load_locale(new.returned.record.locale)["workbook"]["notes"]
    return (str(texts["reverted"]).format(count=count),)


def write_feedback_errors(feedback: Feedback, path: str | Path) -> Path:
    """Write the faulty rows to a workbook that the office corrects and hands in again.

    Parameters
    ----------
    feedback
        From `read_feedback`.
    path
        The file; an older one is replaced.

    Returns
    -------
    Path
        Where it was written: a sheet with what to correct in front of each row, locked columns
        as they were handed out, entries as they came back. `read_feedback` reads it like the
        workbook itself, with the same key.

    Raises
    ------
    PovertyRiskError
        The feedback was not read from a workbook, or the file cannot be written.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.report.feedback import Feedback, write_feedback_errors
    >>> write_feedback_errors(Feedback(pd.DataFrame(), pd.DataFrame()), "faults.xlsx")
    Traceback (most recent call last):
    poverty_risk.exceptions.PovertyRiskError: feedback: found no rows; expected ...
    """
    book = feedback.returned
    if book is None:
        remedy = "Give what read_feedback returned."
        raise PovertyRiskError(Fault("feedback", "no rows", "rows that were read", remedy))
    texts = load_locale(book.record.locale)["workbook"]
    faults: dict[tuple[str, int], list[str]] = {}
    for fault in feedback.errors.to_dict("records"):
        told = texts["fault"].format_map(fault)
        faults.setdefault((fault["sheet"], fault["row"]), []).append(told)
    faulty = [row for row in book.rows if (row.sheet, row.row) in faults]
    out = OfficerBook(book.record)
    rows = [_correct(row, book, "\n".join(faults[row.sheet, row.row])) for row in faulty]
    out.add_list(texts["sheets"]["corrections"], rows, faults=True)
    named = {row.pseudonym: None for row in faulty if row.pseudonym in book.handed_out}
    if len(named) < len(faulty):
        # A pseudonym of nobody is corrected to that of a household without a row.
        told = {row.pseudonym for row in book.rows}
        named |= {pseudonym: None for pseudonym in book.handed_out if pseudonym not in told}
    out.add_record(book.handed_out[pseudonym] for pseudonym in named)
    return out.save(path)


def _correct(row: ReturnedRow, book: ReturnedWorkbook, faults: str) -> SheetRow:
    handed_out = book.handed_out.get(row.pseudonym)
    cells = {name: row.locked.get(name, "") for name in LOCKED} | {"pseudonym": row.pseudonym}
    entries: dict[str, str | dt.date] = {}
    for name in FEEDBACK:
        value = row.entries[name]
        date = read_date(value, book.epoch) if name == "visited_on" else None
        entries[name] = date or ("" if name in row.formulas else read_value(value))
    tier = "" if handed_out is None else handed_out.tier
    if handed_out is None:
        return SheetRow(cells, tier, False, entries, faults, is_unknown=True)
    return SheetRow(handed_out.cells, tier, False, entries, faults)
