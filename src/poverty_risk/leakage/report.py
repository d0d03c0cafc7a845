"""Findings about leakage, and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = ["COLUMNS", "FEWEST", "VERDICTS", "LeakageReport", "make_finding"]

COLUMNS = ("check", "feature", "table", "value", "verdict", "remedy")
VERDICTS = ("leak", "suspect", "untested", "ok")

FEWEST = 10
"""Positives and negatives below which an AUC can be high by chance."""

_WORDS: dict[str, tuple[str, str]] = {
    "": ("ok", ""),
    "known": ("ok", "None of its values changed."),
    "too_few": (
        "untested",
        f"Fewer than {FEWEST} positives or negatives with a value: nobody can tell.",
    ),
    "nothing_unknown": (
        "untested",
        "No record of the sampled households was known later: there was nothing to take away.",
    ),
    "leak_auc": (
        "leak",
        (
            "It alone tells the label. Look at what its records are written for; then block its "
            "column, lag it, or correct its known dates."
        ),
    ),
    "suspect_auc": (
        "suspect",
        "Look at when and why its records are written before you trust it.",
    ),
    "changed": (
        "leak",
        (
            "Its value changes when records that were not yet known are taken away or exchanged. "
            "Filter by known_date < as_of_date; if it was built earlier, build it again."
        ),
    ),
    "foreign": (
        "suspect",
        "Not in the catalogue: nobody can show that it was known. Declare it as a feature.",
    ),
    "same_day": (
        "suspect",
        (
            "Nearly every record is known on the day it happened, as if the known date was copied from "
            "the event date. Ask the office, and state the reporting lag of the source."
        ),
    ),
    "late": (
        "suspect",
        (
            "Most records become known only after a whole horizon, as if the known date was the day of "
            "the export. Features on it will be data gaps."
        ),
    ),
    "aftermath": (
        "suspect",
        (
            "Its records follow the outcome: within the horizon they are there for the positives and "
            "hardly for others. Lag features on it, and doubt its known dates."
        ),
    ),
    "only_positives": (
        "suspect",
        (
            "Its records exist for positives only, as if the table was written because of the outcome. "
            "Doubt its known dates; leave it out if they cannot be shown."
        ),
    ),
    "model_leak": (
        "leak",
        "Too good to be true on later dates. Look at the strongest features first.",
    ),
    "model_suspect": (
        "suspect",
        "Better than is usual for such outcomes. Look at the strongest features.",
    ),
}
"""Verdict and remedy by what was seen."""


def make_finding(
    check: str, feature: str | None, table: str | None, value: float, seen: str = ""
) -> dict[str, Any]:
    """One line of the report; `seen` is a key of the verdicts and remedies."""
    verdict, remedy = _WORDS[seen]
    return {
        "check": check,
        "feature": feature,
        "table": table,
        "value": float(value),
        "verdict": verdict,
        "remedy": remedy,
    }


@dataclass(frozen=True)
class LeakageReport:
    """What was checked, and what it says.

    Parameters
    ----------
    table
        One line per check, worst first: ``check``, ``feature`` and ``table`` (missing where it is
        about neither), ``value``, ``verdict`` (``leak``, ``suspect``, ``untested``, ``ok``),
        ``remedy`` in words.
    """

    table: pd.DataFrame

    @property
    def has_leaks(self) -> bool:
        """Whether any check says ``leak``."""
        return bool((self.table["verdict"] == "leak").any())

    @property
    def leaking_features(self) -> tuple[str, ...]:
        """Features that a check calls a leak, in the order of the table."""
        leaks = self.table.loc[self.table["verdict"] == "leak", "feature"].dropna()
        return tuple(str(name) for name in leaks.unique())

    def to_text(self) -> str:
        """A summary and one line per finding that is not ``ok``."""
        counts = self.table["verdict"].value_counts()
        shown = ", ".join(f"{int(counts.get(v, 0))} {v}" for v in VERDICTS)
        lines = [f"Leakage: {len(self.table)} checks: {shown}."]
        for verdict in ("leak", "suspect"):
            for row in self.table[self.table["verdict"] == verdict].itertuples(index=False):
                about = [str(x) for x in (row.feature, row.table) if isinstance(x, str)]
                lines.append(
                    f"{verdict}: {row.check}: {' of table '.join(about) or 'model'}: "
                    f"{row.value:.3g}. {row.remedy}"
                )
        return "\n".join(lines)
