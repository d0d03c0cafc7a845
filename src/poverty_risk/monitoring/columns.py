"""Whether the records still have what the features are computed from."""

from __future__ import annotations

import pandas as pd
import pyarrow.compute as pc

from poverty_risk.declarations import Words
from poverty_risk.monitoring.findings import CheckResult
from poverty_risk.monitoring.round import WatchedRound

__all__ = ["check_schema", "measure_columns"]

RECENT = 366
FEWEST = 30
ONCE_FILLED = 0.5
"""Share of earlier records with a value from which on a column without any is told."""


def measure_columns(watched: WatchedRound) -> pd.DataFrame:
    """Share filled of each declared column: records of the last year against earlier ones.

    Parameters
    ----------
    watched
        The round.

    Returns
    -------
    DataFrame
        Columns table, column, filled, filled_before; tables with too few records are left out.
    """
    rows = []
    for table in watched.tables.names:
        records = watched.tables.arrow(table)
        known = records["known_date"].cast("timestamp[us]").to_pandas()
        recent = ((watched.as_of - known).dt.days <= RECENT).to_numpy()
        if recent.sum() < FEWEST or (~recent).sum() < FEWEST:
            continue
        for column in watched.task.schema.tables[table].columns:
            if column in records.column_names:
                filled = pc.is_valid(records[column]).to_numpy(zero_copy_only=False)
                rows.append((table, column, filled[recent].mean(), filled[~recent].mean()))
    return pd.DataFrame(rows, columns=["table", "column", "filled", "filled_before"])


def check_schema(watched: WatchedRound, columns: pd.DataFrame) -> CheckResult:
    """M001: tables that the model reads and are not there, columns that nobody fills any more."""
    catalog, model = watched.model.catalog, watched.model
    assert catalog is not None
    absent = []
    for name in model.columns_.names:
        known_in_training = model.reference_.get(name, {}).get("missing", 1.0) < 1.0
        if known_in_training:
            absent += [t for t in catalog.tables_of(name) if t not in watched.tables]
    absent = list(dict.fromkeys(absent))
    empty = columns[(columns["filled"] == 0) & (columns["filled_before"] >= ONCE_FILLED)]
    metrics = {"absent": float(len(absent)), "empty": float(len(empty))}
    if not absent and not len(empty):
        return CheckResult(
            "M001", "passed", "passed", {"count": len(watched.tables.names)}, metrics
        )
    names = [watched.name_table(table) for table in absent]
    names += [_name(watched, *row) for row in empty[["table", "column"]].itertuples(index=False)]
    return CheckResult("M001", "issue", "absent", {"names": tuple(names)}, metrics)


def _name(watched: WatchedRound, table: str, column: str) -> Words:
    own = watched.task.schema.tables[table].columns[column].label or Words(zh=column, en=column)
    name = watched.name_table(table)
    return Words(zh=f"{name.zh}: {own.zh}", en=f"{name.en}: {own.en}")
