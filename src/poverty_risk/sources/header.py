"""Where the table of a sheet begins: titles above it, headers of two rows, rows that are no records."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.sources.raw import RawSheet, SkippedRow
from poverty_risk.sources.words import SourceWords, load_source_words, normalise_text

__all__ = ["GROUP", "MOST_HEADER_ROWS", "Header", "Merge", "find_header", "make_sheet"]

GROUP = "|"
"""Between the two parts of a name from a header of two rows."""

MOST_HEADER_ROWS = 60
"""Rows among which a header is looked for."""

LONGEST_LABEL = 60
ID_DIGITS = 11
_BLANKS = r"[\s\x{00a0}\x{3000}]*"

Row = Sequence[str | None]
Merge = tuple[int, int, int, int]
"""First row, first column, last row, last column of merged cells; from 0, both ends within."""


@dataclass(frozen=True)
class Header:
    """The header of a sheet.

    Parameters
    ----------
    rows
        Positions of its one or two rows.
    names
        One name per column, unique.
    lines
        What its rows say, to know them again further down.
    """

    rows: tuple[int, ...]
    names: tuple[str, ...]
    lines: tuple[tuple[str | None, ...], ...]

    @property
    def end(self) -> int:
        """Position of the first row below."""
        return self.rows[-1] + 1


def find_header(top: Sequence[Row], merges: Iterable[Merge] = ()) -> Header | None:
    """Find the header among the first rows of a sheet.

    The header is the first row that fills at least half of the columns, mostly with words. The row
    below belongs to it where it names the parts of merged cells, and so does a row of merged cells
    directly above.

    Parameters
    ----------
    top
        The first rows as text, null where blank, all of the same length.
    merges
        Merged cells, where the file tells them.

    Returns
    -------
    Header or None
        None where no row looks like one.

    Examples
    --------
    >>> top = [["List 2021", None, None], ["id", "income", None], [None, "wage", "other"], ["1", "2", "3"]]
    >>> find_header(top).names
    ('id', 'income|wage', 'income|other')
    """
    top = [[_clean(cell) for cell in row] for row in top[:MOST_HEADER_ROWS]]
    width = max((_count(row) for row in top), default=0)
    at = next((at for at, row in enumerate(top) if _is_header(row, width)), None)
    if at is None:
        return None
    spans = [m for m in merges if m[0] == m[2] and m[1] < m[3]]
    for upper, lower in ((at, at + 1), (at - 1, at)):
        if upper < 0 or lower >= len(top):
            continue
        merged = [m for m in spans if m[0] == upper]
        groups = _find_groups(top[upper], merged)
        if _names_parts(top[upper], top[lower], groups, bool(merged)):
            names = [
                f"{group}{GROUP}{part}" if group and part else part or own
                for group, part, own in zip(groups, top[lower], top[upper], strict=True)
            ]
            return _make_header((upper, lower), names, top)
    return _make_header((at,), top[at], top)


def _clean(cell: str | None) -> str | None:
    text = "" if cell is None else cell.strip("\ufeff \t\r\n\u00a0\u3000")
    # Line breaks and blanks within words of Chinese only serve the layout.
    return re.sub(r"\s+", " " if re.search("[A-Za-z]", text) else "", text) or None


def _count(row: Row) -> int:
    return sum(cell is not None for cell in row)


def _is_header(row: Row, width: int) -> bool:
    n_given = _count(row)
    if n_given < max(min(2, width), (width + 1) // 2):
        return False
    return n_given > 0 and sum(_is_label(cell) for cell in row) >= 0.8 * n_given


def _is_label(cell: str | None) -> bool:
    """Whether a cell names something, rather than being a value or a title such as 'Unit: yuan'."""
    if cell is None or len(cell) > LONGEST_LABEL:
        return False
    text = normalise_text(cell).casefold()
    if sum(sign.isdigit() for sign in text) >= ID_DIGITS:
        return False  # it may be an identity, phone or account number
    words = load_source_words()
    if ":" in text or text in words.yes or text in words.no:
        return False
    return any(sign.isalpha() for sign in _value_words().sub("", text))


@functools.cache
def _value_words() -> re.Pattern[str]:
    """What stands in dates, amounts and numbers of certificates beside digits."""
    words = load_source_words()
    found = sorted({*words.year, *words.month, *words.day, *words.units}, key=len, reverse=True)
    return re.compile("(?<=[0-9])(?:" + "|".join([*map(re.escape, found), "e", "x"]) + ")")


def _find_groups(upper: Row, spans: Sequence[Merge]) -> list[str | None]:
    """The name that stands above several columns, per column."""
    groups: list[str | None] = [None] * len(upper)
    if spans:
        for _, first, _, last in spans:
            groups[first : last + 1] = [upper[first]] * (min(last + 1, len(upper)) - first)
        return groups
    name, first = None, 0
    for at, cell in enumerate([*upper, ""]):
        if cell is not None and cell != name:
            if at - first > 1 and name is not None:
                groups[first:at] = [name] * (at - first)
            name, first = cell, at
    return groups


def _names_parts(upper: Row, lower: Row, groups: Sequence[str | None], is_merged: bool) -> bool:
    """Whether the lower row names the parts of the groups, and nothing else that has a name."""
    # A single cell that is merged, but not from the first column on, is no title.
    if not any(groups) or not (_count(upper) > 1 or (is_merged and groups[0] is None)):
        return False
    given = [cell for cell in lower if cell is not None]
    fits = all(
        part is not None if group is not None else part is None or own is None
        for group, part, own in zip(groups, lower, upper, strict=True)
    )
    return fits and all(map(_is_label, given)) and all(_is_label(c) for c in upper if c is not None)


def _make_header(rows: tuple[int, ...], names: Row, top: Sequence[Row]) -> Header:
    unique: list[str] = []
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        name = name or f"column {at + 1}"
        seen[name] = seen.get(name, 0) + 1
        while seen[name] > 1 and f"{name} #{seen[name]}" in seen:
            seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
        seen.setdefault(unique[-1], 1)
    return Header(rows, tuple(unique), tuple(tuple(top[at]) for at in rows))


# ------------------------------------------------------------------------------------ rows of a sheet


def make_sheet(
    file: str,
    sheet: str,
    header: Header,
    columns: Sequence[pa.Array],
    rows: np.ndarray,
    top: Sequence[Row],
    top_row: int = 1,
    uneven: Iterable[int] = (),
) -> RawSheet:
    """A sheet of what stands below a header: records, and the rows that are none.

    Parameters
    ----------
    file, sheet
        Where it comes from.
    header
        The header, one name per column.
    columns
        Text columns of all rows below the header, null where blank.
    rows
        Number of each of these rows in the file, from 1.
    top
        The first rows of the sheet, the header among them.
    top_row
        Number of the first of them in the file.
    uneven
        Numbers of rows with too many or too few fields.

    Returns
    -------
    RawSheet
        Records and skipped rows; columns without a name and without a value are left out.

    Examples
    --------
    >>> import numpy as np
    >>> import pyarrow as pa
    >>> header = find_header([["id", "income"]])
    >>> columns = [pa.array(["1", "Total"]), pa.array(["900", "900"])]
    >>> make_sheet("list.csv", "", header, columns, np.array([2, 3]), [["id", "income"]]).skipped
    (SkippedRow(row=1, why='header'), SkippedRow(row=3, why='total'))
    """
    above = [[_clean(cell) for cell in row] for row in top[: header.rows[0]]]
    skipped = [
        SkippedRow(top_row + at, "title" if _count(row) else "blank")
        for at, row in enumerate(above)
    ]
    skipped += [SkippedRow(top_row + at, "header") for at in header.rows]
    skipped += [SkippedRow(row, "uneven") for row in uneven]
    columns = [_trim(column) for column in columns]
    why = _classify(columns, header, {cell for row in above for cell in row if cell})
    skipped += [SkippedRow(int(rows[at]), str(why[at])) for at in np.flatnonzero(why != "")]
    skipped.sort(key=lambda one: one.row)
    kept, named = np.flatnonzero(why == ""), _is_named(header)
    cells = {
        name: _take_rows(column, kept)
        for name, column, has_name in zip(header.names, columns, named, strict=True)
        if has_name or column.null_count < len(column)
    }
    return RawSheet(file, sheet, pa.table(cells), pa.array(rows[kept], pa.int64()), tuple(skipped))


def _take_rows(column: pa.Array, kept: np.ndarray) -> pa.Array:
    """Some rows of a column; without a copy where they follow one another, as they mostly do."""
    first, size = (int(kept[0]), len(kept)) if len(kept) else (0, 0)
    if size and int(kept[-1]) - first + 1 != size:
        return column.take(pa.array(kept))
    return column.slice(first, size)


def _is_named(header: Header) -> list[bool]:
    return [any(line[at] is not None for line in header.lines) for at in range(len(header.names))]


def _trim(column: pa.Array) -> pa.Array:
    """Text without blanks around it; null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _classify(columns: Sequence[pa.Array], header: Header, titles: set[str]) -> np.ndarray:
    """Why each row is no record; empty for records."""
    n_given = np.sum([column.is_valid().to_numpy(zero_copy_only=False) for column in columns], 0)
    why = np.full(len(n_given), "", dtype="<U16")
    total, note = _patterns(load_source_words())
    first = pc.coalesce(*columns)
    is_total = _matches(first, total)
    for column in columns[:3]:
        is_total |= _matches(column, total.replace(".{0,12}?", "", 1))
    why[is_total] = "total"
    # Few rows have few cells, and only they can be notes and titles.
    few = np.flatnonzero(n_given <= max(2, len(columns) // 2))
    starts = first.take(pa.array(few))
    if len(columns) > 1:
        why[few[_matches(starts, note)]] = "note"
    told = pa.array(map(_squeeze, titles), pa.string())
    why[few[_to_bool(pc.is_in(_compact(starts), value_set=told))]] = "title"
    for line in header.lines:
        why[_find_repeated(columns, line)] = "repeated header"
    why[n_given == 0] = "blank"
    return why


def _matches(column: pa.Array, pattern: str) -> np.ndarray:
    return _to_bool(pc.match_substring_regex(column, pattern, ignore_case=True))


def _to_bool(mask: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(mask, False))


def _patterns(words: SourceWords) -> tuple[str, str]:
    """Patterns for the first cell of totals and of notes."""
    totals = "|".join(_BLANKS.join(map(re.escape, word)) for word in words.totals)
    notes = "|".join(map(re.escape, words.notes))
    page = "|".join(map(re.escape, words.page))
    # As a sign and not as an escape, which this engine of regular expressions does not know.
    marks = ":\uff1a"
    colon = f"[{marks}]"
    total = rf"^.{{0,12}}?(?:{totals})\s*{colon}?$"
    number = r"[^0-9]?\s*[0-9]+(?:\s*/\s*[0-9]+)?\s*"
    return (
        total,
        rf"^(?:(?:{notes})[^{marks}]{{0,8}}{colon}|{number}(?:{page})|(?:{page}){number}$)",
    )


def _find_repeated(columns: Sequence[pa.Array], line: Row) -> np.ndarray:
    """Rows that say what a row of the header says."""
    given = [at for at, cell in enumerate(line) if cell is not None]
    start = _squeeze(line[given[0]])[:1]
    rows = np.flatnonzero(_to_bool(pc.starts_with(columns[given[0]], start)))
    if len(rows) == 0:
        return rows
    taken = [_compact(columns[at].take(pa.array(rows))) for at in given]
    same = [
        _to_bool(pc.equal(column, _squeeze(line[at])))
        for column, at in zip(taken, given, strict=True)
    ]
    most: np.ndarray = rows[np.mean(same, axis=0) >= 0.8]
    return most


def _squeeze(cell: str | None) -> str:
    return re.sub(r"\s+", "", cell or "")


def _compact(column: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(column, r"[\s\x{00a0}\x{3000}]+", "")
