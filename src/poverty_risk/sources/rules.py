"""The expressions of a mapping: checked against the schema, and computed over a sheet at once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import ibis
import pyarrow as pa

from poverty_risk.database import open_database
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.expressions import Context, compile_expression, find_names
from poverty_risk.schema import Schema
from poverty_risk.sources.fields import find_context
from poverty_risk.sources.kinds import Mapping as Kind
from poverty_risk.sources.kinds import TableRule

__all__ = [
    "check_mapping",
    "column_expressions",
    "compile_mapping",
    "compute_rules",
    "find_sensitive_fields",
    "find_used_fields",
]

_IBIS_TYPES = {
    pa.string(): "string",
    pa.float64(): "float64",
    pa.int64(): "int64",
    pa.bool_(): "boolean",
    pa.date32(): "date",
}
_KINDS = {
    "string": lambda t: t.is_string(),
    "category": lambda t: t.is_string(),
    "number": lambda t: t.is_numeric(),
    "integer": lambda t: t.is_numeric(),
    "boolean": lambda t: t.is_boolean(),
    "date": lambda t: t.is_date(),
}


def column_expressions(rule: TableRule, schema: Schema) -> dict[str, str]:
    """Expression by column of the table, those included that only some schemas have."""
    declared = schema.tables[rule.table].columns
    return rule.columns | {n: text for n, text in rule.if_declared.items() if n in declared}


def _all_expressions(kind: Kind, schema: Schema) -> Iterator[tuple[str, str]]:
    """Name of a result, and its expression."""
    for number, check in enumerate(kind.checks):
        yield f"check_{number}", check.where
    for number, rule in enumerate(kind.tables):
        if rule.where is not None:
            yield f"where_{number}", rule.where
        for column, text in column_expressions(rule, schema).items():
            yield f"column_{number}_{column}", text


def _compile(text: str, names: Mapping[str, object], place: str) -> ibis.Value:
    value = compile_expression(text, Context(names, place=place))
    return value if isinstance(value, ibis.Value) else ibis.literal(value)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A mapping and a schema as a key: declarations are frozen, so that the same object stays."""

    kind: Kind
    schema: Schema

    def __hash__(self) -> int:
        return hash((id(self.kind), id(self.schema)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Pair):
            return NotImplemented
        return self.kind is other.kind and self.schema is other.schema


@functools.lru_cache(maxsize=64)
def _to_sql(pair: _Pair) -> str:
    kind, schema = pair.kind, pair.schema
    check_mapping(kind, schema)
    sheet_rows = _unbound(kind)
    names = {name: sheet_rows[name] for name in sheet_rows.columns}
    results = {
        name: _compile(text, names, f"{kind.name}, '{text}'")
        for name, text in _all_expressions(kind, schema)
    }
    query = sheet_rows.select(_position=sheet_rows["_position"], **results)
    return f"{ibis.to_sql(query, dialect='duckdb')} ORDER BY _position"


def compile_mapping(kind: Kind, schema: Schema) -> str:
    """All expressions of a mapping as one query; compiled once per mapping and schema.

    Parameters
    ----------
    kind
        The mapping.
    schema
        Where the records go.

    Returns
    -------
    str
        SQL for `compute_rules`.

    Raises
    ------
    DeclarationError
        The mapping does not fit the schema (see `check_mapping`).

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> "check_0" in compile_mapping(load_mapping("national_income"), load_schema("archive"))
    True
    """
    return _to_sql(_Pair(kind, schema))


def _unbound(kind: Kind) -> ibis.Table:
    types = {name: _IBIS_TYPES[type_] for name, (_, type_) in find_context(kind).items()}
    return ibis.table({"_position": "int64"} | types, name="sheet_rows")


def find_used_fields(kind: Kind, schema: Schema) -> set[str]:
    """Fields that something of a mapping is made of; the others need not be read.

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> "address" in find_used_fields(load_mapping("national_person"), load_schema("archive"))
    False
    """
    context = find_context(kind)
    names = {name for _, text in _all_expressions(kind, schema) for name in find_names(text)}
    names |= {name for rule in kind.tables for name in rule.event_date}
    names |= {name for group in kind.one_of for name in group}
    names |= {name for name, field in kind.fields.items() if field.required}
    names |= {"household_id", "person_id", "is_head", "birth_date", *kind.person}
    names |= {kind.known_date} if kind.known_date else set()
    used = {context[name][0] for name in names if name in context}
    # What a derived value that is used is made of.
    for name, item in kind.derived.items():
        if any(used_name == name or used_name.startswith(f"{name}_") for used_name in names):
            used |= {context[part][0] for part in item.names if part in context}
    return used - {""}


def find_sensitive_fields(kind: Kind, schema: Schema) -> set[str]:
    """Fields of which a sensitive column is made, or that are no more than hashed or dropped.

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> sorted(find_sensitive_fields(load_mapping("national_work"), load_schema("archive")))[-1]
    'wage'
    """
    context = find_context(kind)
    sensitive = {name for name, field in kind.fields.items() if field.privacy != "keep"}
    for rule in kind.tables:
        for column, text in column_expressions(rule, schema).items():
            if schema.tables[rule.table].columns[column].sensitive:
                sensitive |= {context[name][0] for name in find_names(text) if name in context}
    for item in kind.derived.values():
        sensitive |= {item.monthly.amount} if item.monthly is not None else set()
    return sensitive - {""}


def compute_rules(sql: str, kind: Kind, columns: Mapping[str, pa.Array]) -> pa.Table:
    """All conditions and values that a mapping declares, for every row of a sheet.

    Parameters
    ----------
    sql
        From `compile_mapping`.
    kind
        The mapping.
    columns
        What was read, by the names of `find_context`.

    Returns
    -------
    pyarrow.Table
        ``check_<n>``, ``where_<n>`` and ``column_<n>_<column>``, in the order of the rows.
    """
    size = len(next(iter(columns.values())))
    content = {"_position": pa.array(range(size), pa.int64())}
    content |= {name: columns[name] for name in find_context(kind)}
    with open_database() as connection:
        connection.register("sheet_rows", pa.table(content))
        return connection.sql(sql).to_arrow_table().combine_chunks()


def check_mapping(kind: Kind, schema: Schema) -> None:
    """Check that a mapping fits a schema: tables, columns, names, codes and types.

    Parameters
    ----------
    kind
        The mapping.
    schema
        The schema.

    Raises
    ------
    DeclarationError
        All that does not fit, in one error.

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> check_mapping(load_mapping("national_income"), load_schema("archive"))
    """
    sheet_rows = _unbound(kind)
    names = {name: sheet_rows[name] for name in sheet_rows.columns if name != "_position"}
    faults: list[Fault] = []
    for number, check in enumerate(kind.checks):
        faults += _check_condition(check.where, names, f"mapping '{kind.name}', check {number + 1}")
    for number, rule in enumerate(kind.tables):
        faults += _check_rule(
            kind, schema, rule, names, f"mapping '{kind.name}', rule {number + 1}"
        )
    if faults:
        raise DeclarationError(faults)


def _check_condition(text: str, names: Mapping[str, object], place: str) -> list[Fault]:
    try:
        value = _compile(text, names, place)
    except DeclarationError as error:
        return list(error.faults)
    if value.type().is_boolean():
        return []
    return [Fault(place, repr(text), "a condition, true or false", "Rewrite it.")]


def _check_rule(
    kind: Kind, schema: Schema, rule: TableRule, names: Mapping[str, object], place: str
) -> list[Fault]:
    table = schema.tables.get(rule.table)
    if table is None:
        tables = ", ".join(schema.tables)
        return [Fault(place, f"table '{rule.table}'", f"one of {tables}", "Correct the name.")]
    faults = [] if rule.where is None else _check_condition(rule.where, names, place)
    required = [c for c, item in table.columns.items() if item.required and c not in rule.columns]
    if required:
        found = f"no expression for {', '.join(required)}"
        faults.append(Fault(place, found, "all required columns", "Add them."))
    for column, text in column_expressions(rule, schema).items():
        where = f"{place}, column '{column}' of '{rule.table}'"
        item = table.columns.get(column)
        if item is None:
            columns = ", ".join(table.columns)
            faults.append(Fault(where, "no such column", f"one of {columns}", "Correct the name."))
            continue
        try:
            type_ = _compile(text, names, where).type()
        except DeclarationError as error:
            faults += error.faults
            continue
        if not (_KINDS[item.kind](type_) or type_.is_null()):
            faults.append(Fault(where, f"{text!r} of type {type_}", item.kind, "Rewrite it."))
        field = kind.fields.get(text)
        codes = set(field.codes.values()) - {""} if field is not None and item.codes else set()
        if strange := sorted(codes - set(item.codes)):
            allowed = ", ".join(item.codes)
            faults.append(
                Fault(where, f"codes {', '.join(strange)}", allowed, "Correct the codes.")
            )
    return faults
