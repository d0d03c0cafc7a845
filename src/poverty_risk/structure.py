"""Raw tables against their schema: whether they have the declared shape, then row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.privacy import mask_numbers
from poverty_risk.schema import Schema, Table
from poverty_risk.validation import ValidatedTable, validate_table

__all__ = ["find_structure_faults", "find_unreadable", "validate_each"]


def find_structure_faults(name: str, table: Table, raw: pa.Table) -> list[Fault]:
    """Columns that are missing or not declared: faults of the whole table.

    Parameters
    ----------
    name
        Table name, for the faults.
    table
        Its declaration.
    raw
        What was read.

    Returns
    -------
    list of Fault
        Empty when the table has the declared shape.
    """
    declared = table.all_columns
    faults = [
        Fault(
            f"table '{name}'",
            f"no column '{column}'",
            f"a column of kind {item.kind}",
            "Add it to the table, or map the column that holds it.",
        )
        for column, item in declared.items()
        if item.required and column not in raw.column_names
    ]
    faults += [
        Fault(
            f"table '{name}'",
            f"column '{mask_numbers(column)}'",
            f"declared columns: {', '.join(declared)}",
            "Declare it in a schema of your own, or leave it out.",
        )
        for column in raw.column_names
        if column not in declared
    ]
    repeated = sorted({c for c in raw.column_names if raw.column_names.count(c) > 1})
    faults += [
        Fault(
            f"table '{name}'",
            f"column '{mask_numbers(column)}' twice",
            "once",
            "Rename or drop one.",
        )
        for column in repeated
    ]
    return faults


def find_unreadable(name: str, raw: pa.Table, validated: ValidatedTable) -> list[Fault]:
    """A fault where every row of a table was rejected: the mapping is wrong, not the rows."""
    if not raw.num_rows or validated.accepted.num_rows:
        return []
    first = validated.rejected.iloc[0]
    value = mask_numbers(str(first["found"]))
    found = f"{raw.num_rows} rows of which none can be read; the first: {first['column']}"
    return [
        Fault(
            f"table '{name}'",
            f"{found} {value[:40]!r}",
            str(first["expected"]),
            "Correct the mapping of the columns.",
        )
    ]


def validate_each(
    loads: Mapping[str, Callable[[], pa.Table]], schema: Schema, faults: list[Fault]
) -> dict[str, ValidatedTable]:
    """Validate one table after the other, so that no more than one raw table is held.

    Parameters
    ----------
    loads
        What gives each raw table, by name.
    schema
        What is declared.
    faults
        Faults found so far; those of the tables are added. While there are any, structures are still
        checked but no rows.

    Returns
    -------
    dict
        What became of each table.
    """
    validated: dict[str, ValidatedTable] = {}
    for name, load in loads.items():
        if name not in schema.tables:
            expected = f"one of {', '.join(schema.tables)}"
            remedy = "Rename it, or declare the table in a schema of your own."
            faults.append(Fault("history", f"table '{mask_numbers(name)}'", expected, remedy))
            continue
        try:
            raw = load()
        except HistoryError as error:
            faults += error.faults
            continue
        faults += find_structure_faults(name, schema.tables[name], raw)
        if not faults:
            validated[name] = validate_table(name, schema.tables[name], raw)
            faults += find_unreadable(name, raw, validated[name])
    # In the order of the schema, whichever table was read first.
    return {name: validated[name] for name in schema.tables if name in validated}
