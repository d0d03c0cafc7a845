"""The income history of households, as far as it was known: what a card draws against the line."""

from __future__ import annotations

import pandas as pd

from poverty_risk.engine import (
    compile_to_sql,
    known_records,
    make_points,
    run_in_chunks,
)
from poverty_risk.expressions import Context, compile_expression
from poverty_risk.point_index import check_point_index
from poverty_risk.report.facts import AccountFact
from poverty_risk.tables import HistoryTables

__all__ = ["build_accounts"]


def build_accounts(
    tables: HistoryTables, points: pd.DataFrame, most: int = 6
) -> dict[str, tuple[AccountFact, ...]]:
    """Build each household's accounts of income per person, as known at its as-of date.

    Parameters
    ----------
    tables
        The history; its schema says what an account is (``income_history``).
    points
        Index (household_id, as_of_date), one date per household.
    most
        Latest accounts kept.

    Returns
    -------
    dict
        Accounts by household_id, oldest first, one per year; a household without any is left out.
    """
    check_point_index(points, "points")
    declared = tables.schema.income_history
    if declared is None or declared.table not in tables or not len(points):
        return {}
    records = known_records(tables.schema, declared.table)
    columns = {name: records[name] for name in tables.schema.tables[declared.table].all_columns}
    context = Context(columns, records.as_of_date, dict(tables.line or {}), "income_history")
    value, line = (compile_expression(text, context) for text in (declared.value, declared.line))
    kept = records.filter(compile_expression(declared.where, context) & value.notnull())
    query = kept.select(
        kept.point, kept.record_order, year=kept.event_date.year(), value=value, line=line
    )
    index = pd.MultiIndex.from_frame(points.index.to_frame(index=False))
    found = run_in_chunks(tables, make_points(index), {"accounts": compile_to_sql(query)})
    rows = found["accounts"].to_pandas().sort_values(["point", "record_order"])
    rows = rows.drop_duplicates(["point", "year"], keep="last")
    households = points.index.get_level_values("household_id")
    return {
        str(households[int(point)]): tuple(
            AccountFact(int(row.year), float(row.value), None if pd.isna(row.line) else row.line)
            for row in group.tail(most).itertuples()
        )
        for point, group in rows.groupby("point", sort=False)
    }
