"""What monitoring found: one result per check, tables beside them, and never a household."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from poverty_risk.declarations import Words
from poverty_risk.monitoring.catalog import MonitoringCatalog

__all__ = ["OUTCOMES", "CheckResult", "MonitoringReport", "Outcome"]

Outcome = Literal["issue", "tip", "passed", "not_applicable", "skipped"]
OUTCOMES: tuple[Outcome, ...] = ("issue", "tip", "passed", "not_applicable", "skipped")
"""Act now; know of it; all is well; nothing to judge here; judged elsewhere, because of a cause."""

MOST_NAMED = 6
"""Features or places named in a sentence; the tables have them all."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Parameters
    ----------
    code
        Permanent code of the check.
    outcome
        One of `OUTCOMES`.
    reason
        Which sentence of the catalogue says why.
    values
        What is put into the sentence: numbers, texts, `Words`, or tuples of them.
    metrics
        Plain numbers for the record.
    """

    code: str
    outcome: Outcome
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MonitoringReport:
    """All checks of one date.

    Parameters
    ----------
    as_of_date
        The date.
    model_id
        The model that was watched.
    results
        One per check, in the order of their codes.
    details
        Tables by name: feeds, places, amounts, features, risks, rounds, lists. Counts under 10 are
        missing.
    catalog
        The words.
    """

    as_of_date: pd.Timestamp
    model_id: str
    results: tuple[CheckResult, ...]
    details: Mapping[str, pd.DataFrame]
    catalog: MonitoringCatalog = field(repr=False)

    @property
    def issues(self) -> tuple[str, ...]:
        """Codes of the checks that raise an issue."""
        return tuple(one.code for one in self.results if one.outcome == "issue")

    @property
    def exit_code(self) -> int:
        """For schedulers: 1 with an issue, otherwise 0."""
        return int(bool(self.issues))

    def __getitem__(self, code: str) -> CheckResult:
        return next(one for one in self.results if one.code == code)

    def describe(self, result: CheckResult, locale: str) -> str:
        """Why a check came out as it did, as a sentence."""
        text = self.catalog.reason(result.code, result.reason)[locale]
        separator = self.catalog.texts["separator"][locale]
        return text.format_map(
            {name: _write(value, locale, separator) for name, value in result.values.items()}
        )

    def to_table(self, locale: str = "zh") -> pd.DataFrame:
        """One row per check: code, outcome, and in words the check, why, and what to do.

        Parameters
        ----------
        locale
            ``"zh"`` or ``"en"``.

        Returns
        -------
        DataFrame
            Columns code, outcome, outcome_text, check, reason, remedy (empty unless issue or tip).
        """
        rows = [
            {
                "code": one.code,
                "outcome": one.outcome,
                "outcome_text": self.catalog.outcomes[one.outcome][locale],
                "check": self.catalog.checks[one.code].name[locale],
                "reason": self.describe(one, locale),
                "remedy": self.catalog.checks[one.code].remedy[locale]
                if one.outcome in ("issue", "tip")
                else "",
            }
            for one in self.results
        ]
        return pd.DataFrame(rows)

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers for a tracking server: of each check, and how many came out in which way."""
        counts = {
            f"monitoring.{name}": float(sum(one.outcome == name for one in self.results))
            for name in OUTCOMES
        }
        found = {
            f"monitoring.{one.code}.{name}": float(value)
            for one in self.results
            for name, value in one.metrics.items()
            if not pd.isna(value)
        }
        return counts | found


def _write(value: Any, locale: str, separator: str) -> str:
    if isinstance(value, Words):
        return value[locale]
    if isinstance(value, tuple):
        shown = separator.join(_write(one, locale, separator) for one in value[:MOST_NAMED])
        return shown + " …" * (len(value) > MOST_NAMED)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
