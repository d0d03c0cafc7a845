"""Rows that were refused when the history was read, as findings that the office can correct."""

from __future__ import annotations

import pandas as pd

from poverty_risk.consistency.spec import ConsistencyRule
from poverty_risk.raw_text import to_text
from poverty_risk.tables import HistoryTables

__all__ = ["find_rejected"]

TOLD = ("household_id", "person_id", "event_date", "known_date")


def find_rejected(
    tables: HistoryTables, table: str, rule: ConsistencyRule, as_of_date: pd.Timestamp
) -> pd.DataFrame:
    """Refused rows of a table that a rule is about.

    Parameters
    ----------
    tables
        The history.
    table
        Which table.
    rule
        A rule with `rejected`.
    as_of_date
        Rows known on or after it are left out; those whose known date cannot be read are told.

    Returns
    -------
    DataFrame
        As the findings of a query: ids, dates (missing where they cannot be read) and values.
    """
    assert rule.rejected is not None
    rejected = tables.rejected
    raw = tables.rejection.rows.get(table)
    rows = tables.rejected_rows(table) if raw is None else to_text(raw).to_pandas()
    column = "found" if rule.rejected.found is not None else "expected"
    wanted = rule.rejected.found or rule.rejected.expected
    about = rejected[(rejected["table"] == table) & (rejected[column] == wanted)]
    rows = rows[rows["row"].isin(about["row"])].reset_index(drop=True)
    told = rows.reindex(columns=list(TOLD))
    dates = {
        name: pd.to_datetime(told[name], errors="coerce", format="mixed")
        for name in ("event_date", "known_date")
    }
    texts = {name: told[name].astype("str") for name in ("household_id", "person_id")}
    shown = rows.reindex(columns=list(rule.show)).astype("str")
    listed = [[None if pd.isna(v) else str(v)[:40] for v in row] for row in shown.to_numpy()]
    values = pd.Series(listed, index=rows.index, dtype=object)
    found = pd.DataFrame({**texts, **dates, "values": values})
    known = ~(found["known_date"] >= as_of_date)
    return found[known].sort_values(["household_id", "event_date"], kind="stable")
