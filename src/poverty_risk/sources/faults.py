"""Faults of a sheet's rows as they are told to the office: what was found stays masked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from poverty_risk.privacy import SMALL_COUNT, mask_id, mask_numbers
from poverty_risk.sources.raw import REJECTED

__all__ = ["KEPT", "FaultLog", "hide"]

KEPT = " (the row was kept)"
"""What is added to the faults of a row that was not rejected."""

HIDDEN = "(hidden)"
_LONGEST = 40
_DIGITS = re.compile(r"[0-9][0-9Xx]{7,}")
"""Long numbers written in one; `mask_numbers` knows those with blanks and hyphens in between."""
_PLAIN = re.compile(r"[0-9 .,:/+\-%()A-Za-z]{1,40}")


def hide(found: Sequence[str | None]) -> list[str]:
    """What may be told of cells that are wrong.

    A column that slipped may hold names where a code is expected. Numbers and dates are told, long
    numbers masked; other words only where so many rows say the same that it names nobody.

    Parameters
    ----------
    found
        Cells of one column.

    Returns
    -------
    list of str
        One text per cell.

    Examples
    --------
    >>> hide(["13.2023", "13800000000", "138-0000-0000", None])
    ['13.2023', '13***00', '13***00', '']
    """
    counts = Counter(found)
    return [_hide(text, counts[text]) for text in found]


def _hide(text: str | None, count: int) -> str:
    if text is None:
        return ""
    if (
        not (_PLAIN.fullmatch(text) and any(sign.isdigit() for sign in text))
        and count < SMALL_COUNT
    ):
        return f"(text of {len(text)} characters)"
    text = mask_numbers(text)
    return _DIGITS.sub(lambda match: mask_id(match.group()), text)[:_LONGEST]


class FaultLog:
    """Collects faults by row, column by column.

    Parameters
    ----------
    file, sheet
        Where the rows come from.
    """

    def __init__(self, file: str, sheet: str) -> None:
        self._file, self._sheet = file, sheet
        self._parts: list[tuple[np.ndarray, str, list[str], list[str]]] = []

    def add(
        self,
        rows: np.ndarray,
        column: str,
        expected: str | Sequence[str],
        found: Sequence[str | None] | str = HIDDEN,
    ) -> None:
        """Note one fault for each of some rows.

        Parameters
        ----------
        rows
            Numbers of the rows in the file.
        column
            Header of the column.
        expected
            What was expected, for all or for each.
        found
            What was found, for each, to be masked; or one text for all.
        """
        size = len(rows)
        if size:
            wanted = [expected] * size if isinstance(expected, str) else list(expected)
            told = [found] * size if isinstance(found, str) else hide(found)
            self._parts.append((np.asarray(rows, dtype=np.int64), column, told, wanted))

    def rows(self, columns: Collection[str] | None = None) -> np.ndarray:
        """Rows that have a fault, in one of some columns or in any.

        Parameters
        ----------
        columns
            Headers; None for all.
        """
        parts = [part[0] for part in self._parts if columns is None or part[1] in columns]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)

    def to_table(self, rejected: np.ndarray) -> pa.Table:
        """All faults by row, as `poverty_risk.sources.raw.REJECTED`.

        Parameters
        ----------
        rejected
            Numbers of the rows that were rejected; faults of others say that the row was kept.
        """
        if not self._parts:
            return REJECTED.empty_table()
        rows = np.concatenate([part[0] for part in self._parts])
        kept = ~np.isin(rows, rejected)
        expected = [text for part in self._parts for text in part[3]]
        columns = {
            "file": pa.repeat(self._file, len(rows)),
            "sheet": pa.repeat(self._sheet, len(rows)),
            "row": pa.array(rows),
            "column": [part[1] for part in self._parts for _ in part[0]],
            "found": [text for part in self._parts for text in part[2]],
            "expected": [t + KEPT * k for t, k in zip(expected, kept.tolist(), strict=True)],
        }
        order = np.argsort(rows, kind="stable")
        return pa.table(columns, schema=REJECTED).take(pa.array(order))
