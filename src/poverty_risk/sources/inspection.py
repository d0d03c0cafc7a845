"""What kind of file something is, and how close its unknown headers are to known ones."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.privacy import SMALL_COUNT, mask_numbers
from poverty_risk.sources.certificates import read_certificates
from poverty_risk.sources.combining import to_array
from poverty_risk.sources.files import read_sheets
from poverty_risk.sources.header_matching import plain_header
from poverty_risk.sources.kinds import Mapping, SourceField
from poverty_risk.sources.mapping import (
    Match,
    find_mapping,
    list_mappings,
    load_mapping,
    match_sheet,
)
from poverty_risk.sources.raw import RawSheet
from poverty_risk.sources.values import read_values

__all__ = [
    "InspectedColumn",
    "InspectedSheet",
    "inspect_sheet",
    "inspect_source",
]

CLOSE = 0.5
"""Below this confidence a header is called unmapped."""

N_CANDIDATES = 4
N_SAMPLED = 1000
"""Rows that are read to see whether a column can be what its header says."""


@dataclass(frozen=True)
class InspectedColumn:
    """A column of a sheet.

    Parameters
    ----------
    header
        As the file has it.
    field
        Field of the mapping; None where none is known or close.
    confidence
        1 for a header that the mapping knows, less for one that is close to one it knows.
    readable
        Share of the sampled cells that can be read as the field's kind; None without cells.
    unknown
        Words that the field has no code for, with the number of rows, those that enough rows share
        to name nobody.
    """

    header: str
    field: str | None
    confidence: float
    readable: float | None
    unknown: MappingABC[str, int]

    @property
    def status(self) -> str:
        """``known``, ``close`` or ``unmapped``."""
        if self.field is None:
            return "unmapped"
        return "known" if self.confidence == 1 else "close"


@dataclass(frozen=True)
class InspectedSheet:
    """What a sheet seems to be.

    Parameters
    ----------
    file, sheet
        Where it is.
    rows
        Rows of records.
    skipped
        Rows that are no records, by the reason.
    mapping
        The kind that fits best; None where nothing of any kind was found.
    confidence
        Between 0 and 1.
    candidates
        Other kinds and their confidence, the best first.
    columns
        The columns of the sheet in their order.
    missing
        What the kind needs and the sheet does not have, close columns counted as found.
    """

    file: str
    sheet: str
    rows: int
    skipped: MappingABC[str, int]
    mapping: Mapping | None
    confidence: float
    candidates: tuple[tuple[str, float], ...]
    columns: tuple[InspectedColumn, ...]
    missing: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether the sheet can be imported as it is."""
        close = any(column.status == "close" for column in self.columns)
        return self.mapping is not None and not self.missing and not close

    def to_frame(self) -> pd.DataFrame:
        """One line per column: header, field, status, confidence, readable, unknown."""
        lines = [
            {
                "header": column.header,
                "field": column.field,
                "status": column.status,
                "confidence": column.confidence,
                "readable": column.readable,
                "unknown": ", ".join(f"{word} ({n})" for word, n in column.unknown.items()),
            }
            for column in self.columns
        ]
        names = ["header", "field", "status", "confidence", "readable", "unknown"]
        return pd.DataFrame(lines, columns=names)


def inspect_source(
    path: str | Path, *, mappings: Sequence[Mapping] = (), kind: str | None = None
) -> list[InspectedSheet]:
    r"""Say what the sheets of a file seem to be, before anything is imported.

    Parameters
    ----------
    path
        The file.
    mappings
        Mappings of your own beside the shipped ones.
    kind
        Take this kind instead of the one that fits best.

    Returns
    -------
    list of InspectedSheet
        One per sheet with a table.

    Raises
    ------
    HistoryError
        The file cannot be read, or there is no such kind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "unknown.csv"
    ...     _ = path.write_text("colour,shape\nred,round\n", encoding="utf-8")
    ...     [sheet.mapping for sheet in inspect_source(path)]
    [None]
    """
    return [inspect_sheet(sheet, mappings=mappings, kind=kind) for sheet in read_sheets(path)]


def inspect_sheet(
    sheet: RawSheet, *, mappings: Sequence[Mapping] = (), kind: str | None = None
) -> InspectedSheet:
    """Say what one sheet seems to be (see `inspect_source`).

    Examples
    --------
    >>> sheet = RawSheet("a.csv", "", pa.table({"colour": ["red"]}), pa.array([2]))
    >>> inspect_sheet(sheet).columns[0].status
    'unmapped'
    """
    matches = find_mapping(sheet, mappings)
    if kind is not None:
        matches = [match for match in matches if match.mapping.name == kind] or [
            match_sheet(sheet, _find_kind(kind, mappings))
        ]
    skipped = dict(Counter(row.why for row in sheet.skipped))
    size = sheet.cells.num_rows
    if not matches:
        columns = tuple(
            InspectedColumn(mask_numbers(h), None, 0.0, None, {}) for h in sheet.cells.column_names
        )
        return InspectedSheet(sheet.file, sheet.sheet, size, skipped, None, 0.0, (), columns, ())
    proposed = [(match, _propose(sheet, match)) for match in _most_promising(matches)]
    match, close = max(proposed, key=lambda item: _promise(*item))
    others = tuple((m.mapping.name, m.confidence) for m in matches if m is not match)
    return InspectedSheet(
        sheet.file,
        sheet.sheet,
        size,
        skipped,
        match.mapping,
        match.confidence,
        others[:N_CANDIDATES],
        _describe_columns(sheet, match, close),
        _still_missing(match, close),
    )


def _find_kind(kind: str, mappings: Sequence[Mapping]) -> Mapping:
    own = {mapping.name: mapping for mapping in mappings}
    if kind in own:
        return own[kind]
    if kind not in list_mappings():
        names = ", ".join(dict.fromkeys([*own, *list_mappings()]))
        raise HistoryError(Fault("kind", f"'{kind}'", f"one of {names}", "Check the name."))
    return load_mapping(kind)


def _most_promising(matches: Sequence[Match]) -> list[Match]:
    """Complete ones as they are ranked; otherwise those that explain most."""
    if matches[0].complete:
        return [matches[0]]
    return sorted(matches, key=lambda match: -match.confidence)[:N_CANDIDATES]


Proposal = dict[str, tuple[str, float]]
"""Field and confidence by header."""


def _promise(match: Match, close: Proposal) -> tuple[bool, float]:
    found = len(match.headers) + sum(confidence for _, confidence in close.values())
    return not _still_missing(match, close), found + 2 * match.titled


def _still_missing(match: Match, close: Proposal) -> tuple[str, ...]:
    found = {field for field, _ in close.values()}
    return tuple(group for group in match.missing if not found & set(group.split("|")))


def _propose(sheet: RawSheet, match: Match) -> Proposal:
    """Headers that no field is declared for, given to the fields whose headers are closest."""
    open_fields = {n: f for n, f in match.mapping.fields.items() if n not in match.headers}
    pairs = []
    for header in match.unmapped:
        text = plain_header(header).text
        for name, field in open_fields.items():
            similar = max(_similarity(text, plain_header(alias).text) for alias in field.headers)
            if similar >= CLOSE:
                readable = _read_share(_sample(sheet, header), field)
                # A column that cannot be read as such is something else, whatever it is called.
                confidence = similar * (0.4 + 0.6 * (0.8 if readable is None else readable))
                pairs.append((round(min(confidence, 0.99), 2), header, name))
    proposal: Proposal = {}
    for confidence, header, name in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        taken = {field for field, _ in proposal.values()}
        if confidence >= CLOSE and header not in proposal and name not in taken:
            proposal[header] = (name, confidence)
    return proposal


def _similarity(one: str, other: str) -> float:
    """How close two headers are: shared runs of signs, more where one holds the other whole."""
    ratio = difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) >= 2 and shorter in longer:
        ratio = max(ratio, 0.6 + 0.4 * len(shorter) / len(longer))
    return ratio


def _sample(sheet: RawSheet, header: str) -> pa.Array:
    return to_array(sheet.cells[header].slice(0, N_SAMPLED)).drop_null()


def _read_share(cells: pa.Array, field: SourceField) -> float | None:
    if not len(cells):
        return None
    if field.kind == "certificate":
        wrong: int = read_certificates(cells).faults.num_rows
        return 1 - wrong / len(cells)
    return 1 - len(_unreadable(cells, field)) / len(cells)


def _unreadable(cells: pa.Array, field: SourceField) -> list[str]:
    kind = "category" if field.codes and field.kind == "integer" else field.kind
    read = read_values(cells, kind, codes=field.codes or None, month=field.day)
    wrong: list[str] = cells.take(read.faults["index"].combine_chunks()).to_pylist()
    if field.or_month and wrong:
        months = read_values(pa.array(wrong), "month")
        wrong = [wrong[at] for at in months.faults["index"].to_pylist()]
    return wrong


def _describe_columns(
    sheet: RawSheet, match: Match, close: Proposal
) -> tuple[InspectedColumn, ...]:
    known = {header: name for name, header in match.headers.items()}
    columns = []
    for header in sheet.cells.column_names:
        name, confidence = close.get(header, (known.get(header), float(header in known)))
        if name is None:
            columns.append(InspectedColumn(mask_numbers(header), None, 0.0, None, {}))
            continue
        field = match.mapping.fields[name]
        readable = _read_share(_sample(sheet, header), field)
        unknown = _find_unknown(sheet, header, field)
        share = None if readable is None else round(readable, 3)
        told = mask_numbers(header)
        columns.append(InspectedColumn(told, name, confidence, share, unknown))
    return tuple(columns)


def _find_unknown(sheet: RawSheet, header: str, field: SourceField) -> dict[str, int]:
    """Words without a code that many rows share; rarer ones could be a name in the wrong column."""
    if field.kind not in ("category", "codes", "boolean") or field.privacy != "keep":
        return {}
    counts = Counter(_unreadable(to_array(sheet.cells[header]).drop_null(), field))
    return {mask_numbers(word): n for word, n in counts.most_common(20) if n >= SMALL_COUNT}
