"""Consistency rules compiled to SQL: what is known, what a rule looks at, what it finds wrong.

Queries read one temporary table per history table, of its own name, that holds what was known at the
as-of date (see `known_query`). Thresholds and the poverty line are declared values; nothing that
stands in a record enters the text of a query.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import ibis

from poverty_risk import windows
from poverty_risk.consistency.spec import (
    DAYS_AFTER,
    OTHER_PREFIX,
    ConsistencyRule,
    Lookup,
    Measure,
)
from poverty_risk.engine import compile_to_sql, records_table
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.expressions import Context, compile_expression, find_names
from poverty_risk.schema import Schema

__all__ = ["ALL_PREFIX", "AS_OF", "RuleQueries", "compile_rule", "group_query", "known_query"]

ALL_PREFIX = "_all_"
"""In front of the name of a table with all its records; no declared name begins with a line."""

AS_OF = ibis.table({"as_of_date": "date"}, name="_as_of")
"""One row: the as-of date."""

ORDER, WRONG = "record_order", "_wrong"
_ALWAYS = ("household_id", "person_id", "event_date", "known_date", ORDER, "as_of_date")
_NONE_IS_ZERO = ("count", "sum", "nunique")


@dataclass(frozen=True)
class RuleQueries:
    """SQL of one rule on one table.

    Parameters
    ----------
    counts
        Gives one row: how many records or groups it judged, and how many it could not decide.
    findings
        Gives one row per finding: ids, dates and ``values``, a list of texts.
    """

    counts: str
    findings: str


def known_query(schema: Schema, table: str) -> str:
    """SQL for the records of a table that were known, and not yet corrected, at the as-of date."""
    columns = records_table(schema, table).schema()
    records = ibis.table(columns, name=f"{ALL_PREFIX}{table}").cross_join(AS_OF)
    known = windows.is_known(records.known_date, records.superseded_date, records.as_of_date)
    return compile_to_sql(records.filter(known))


def group_query(schema: Schema, name: str) -> str:
    """SQL for each household's latest known value of a declared group (township, village)."""
    group = schema.groups[name]
    records = _known(schema, group.table, {"household_id", group.column})
    value = records[group.column]
    latest = value.argmax(records[ORDER], where=value.notnull())
    return compile_to_sql(records.group_by("household_id").aggregate(value=latest))


def _known(schema: Schema, table: str, wanted: AbstractSet[str]) -> Any:
    """Known records with the wanted columns and those that every query needs."""
    columns = dict(records_table(schema, table).schema()) | {"as_of_date": "date"}
    kept = [name for name in columns if name in wanted or name in _ALWAYS]
    return ibis.table(columns, name=table).select(*kept)


def compile_rule(
    rule: ConsistencyRule,
    table: str,
    schema: Schema,
    parameters: Mapping[str, float],
    line: Mapping[int, float] | None,
) -> RuleQueries:
    """Compile a rule for one of its tables.

    Raises
    ------
    DeclarationError
        An expression is not of the language, or its values do not fit together.
    """
    used = {name for text in rule.expressions for name in find_names(text)}
    return _compile_cached(
        rule.model_dump_json(),
        table,
        schema.model_dump_json(),
        tuple(sorted((name, value) for name, value in parameters.items() if name in used)),
        tuple((line or {}).items()) if rule.needs_line else (),
    )


@functools.lru_cache(maxsize=1024)
def _compile_cached(
    rule_json: str,
    table: str,
    schema_json: str,
    parameters: tuple[tuple[str, float], ...],
    line: tuple[tuple[int, float], ...],
) -> RuleQueries:
    rule, schema = _read_rule(rule_json), _read_schema(schema_json)
    return _Compiler(rule, table, schema, dict(parameters), dict(line)).compile()


@functools.lru_cache(maxsize=256)
def _read_rule(text: str) -> ConsistencyRule:
    return ConsistencyRule.model_validate_json(text)


@functools.lru_cache(maxsize=8)
def _read_schema(text: str) -> Schema:
    return Schema.model_validate_json(text)


@dataclass(frozen=True)
class _Compiler:
    """Compiles one rule for one table."""

    rule: ConsistencyRule
    table: str
    schema: Schema
    parameters: Mapping[str, float]
    line: Mapping[int, float]

    def compile(self) -> RuleQueries:
        records = self._choose()
        for name, lookup in self.rule.beside.items():
            records = self._look_up(records, name, lookup)
        if self.rule.per:
            records = self._measure_groups(records)
        judged = compile_to_sql(self._tell(records, self._condition(str(self.rule.when), records)))
        # Wrapped as text, so that Ibis compiles what is judged once; the database reads of it what it needs.
        undecided = f"COUNT(*) FILTER (WHERE {WRONG} IS NULL)"
        return RuleQueries(
            f"SELECT COUNT(*), {undecided} FROM ({judged})",
            f"SELECT * EXCLUDE ({WRONG}, {ORDER}) FROM ({judged}) WHERE {WRONG} ORDER BY {ORDER}",
        )

    def _choose(self) -> Any:
        """The records that the rule looks at."""
        rule = self.rule
        wanted = {name for text in rule.expressions for name in find_names(text)}
        wanted |= {*rule.latest, *rule.per, *rule.show}
        wanted |= {column for lookup in rule.beside.values() for column in lookup.same}
        records = self._filter(_known(self.schema, self.table, wanted), self.rule.of)
        if self.rule.latest:
            records = _keep_last(records, self.rule.latest, ORDER)
        return self._filter(records, self.rule.where)

    def _look_up(self, records: Any, name: str, lookup: Lookup) -> Any:
        """Records with a value over the other records that belong to each of them."""
        wanted = {name for text in lookup.expressions for name in find_names(text)}
        columns = {
            name.removeprefix(OTHER_PREFIX) for name in wanted if name.startswith(OTHER_PREFIX)
        }
        others = _known(self.schema, lookup.table, columns | {*lookup.same, *lookup.latest})
        others = others.select(**{f"{OTHER_PREFIX}{name}": others[name] for name in others.columns})
        agree = [records[column] == others[f"{OTHER_PREFIX}{column}"] for column in lookup.same]
        both = records.join(others, agree)
        if lookup.table == self.table:
            both = both.filter(both[ORDER] != both[f"{OTHER_PREFIX}{ORDER}"])
        after = both[f"{OTHER_PREFIX}event_date"].delta(both.event_date, unit="day")
        both = self._filter(both.mutate(**{DAYS_AFTER: after}), lookup.of)
        if lookup.latest:
            keys = [ORDER, *(f"{OTHER_PREFIX}{column}" for column in lookup.latest)]
            both = _keep_last(both, keys, f"{OTHER_PREFIX}{ORDER}")
        value = self._measure(both, lookup, f"{OTHER_PREFIX}{ORDER}")
        found = both.group_by(_of=both[ORDER]).aggregate(_value=value)
        joined = records.left_join(found, records[ORDER] == found["_of"])
        known = joined["_value"]
        if lookup.take in _NONE_IS_ZERO:
            known = known.coalesce(0)
        return joined.select(*records.columns, **{name: known})

    def _measure_groups(self, records: Any) -> Any:
        """Records with the values over their group; where a key is missing there is no group."""
        values = {
            name: self._measure(records, measure, ORDER)
            for name, measure in self.rule.measures.items()
        }
        keys = {f"_key{at}": records[column] for at, column in enumerate(self.rule.per)}
        groups = records.group_by(**keys).aggregate(**values)
        agree = [
            records[column] == groups[key] for column, key in zip(self.rule.per, keys, strict=True)
        ]
        joined = records.join(groups, agree)
        for name, measure in self.rule.measures.items():
            if measure.take in _NONE_IS_ZERO:
                joined = joined.mutate(**{name: joined[name].coalesce(0)})
        joined = joined.drop(*keys)
        return _keep_last(joined, self.rule.per, ORDER) if self.rule.report == "group" else joined

    def _measure(self, records: Any, measure: Measure, order: str) -> Any:
        inside = None if measure.where is None else self._condition(measure.where, records)
        if measure.value is None:
            return records.count(where=inside)
        value = self._compile(measure.value, records)
        if measure.take == "last":
            given = value.notnull()
            return value.argmax(records[order], where=given if inside is None else given & inside)
        return getattr(value, measure.take)(where=inside)

    def _tell(self, records: Any, wrong: Any) -> Any:
        """One row per record or group, with whether it is wrong and what to tell of it."""
        has_person = "person_id" in records.columns and (
            self.rule.report == "record" or "person_id" in self.rule.per
        )
        nothing = ibis.null("string")
        values = [_as_text(records[name]) for name in self.rule.show]
        told = {
            "household_id": records.household_id if "household_id" in records.columns else nothing,
            "person_id": records.person_id if has_person else nothing,
            "event_date": records.event_date,
            "known_date": records.known_date,
            "values": ibis.array(values) if values else ibis.literal([], "array<string>"),
        }
        return records.select(**told, **{WRONG: wrong, ORDER: records[ORDER]})

    def _filter(self, records: Any, condition: str | None) -> Any:
        return records if condition is None else records.filter(self._condition(condition, records))

    def _condition(self, text: str, records: Any) -> Any:
        value = self._compile(text, records)
        if not value.type().is_boolean():
            place, expected = f"rule {self.rule.code}", "a condition, true or false"
            raise DeclarationError(Fault(place, repr(text), expected, "Compare it with something."))
        return value

    def _compile(self, text: str, records: Any) -> Any:
        columns = {name: records[name] for name in records.columns} | dict(self.parameters)
        place = f"rule {self.rule.code}"
        return compile_expression(text, Context(columns, records.as_of_date, self.line, place))


def _keep_last(records: Any, per: Any, order: str) -> Any:
    """Of each group only the record that comes last in the canonical order."""
    window = ibis.window(group_by=list(per), order_by=ibis.desc(order))
    ranked = records.mutate(_rank=ibis.row_number().over(window))
    return ranked.filter(ranked["_rank"] == 0).drop("_rank")


def _as_text(value: Any) -> Any:
    """A value as text, amounts to the cent."""
    if value.type().is_floating():
        value = value.round(2)
    return value.cast("string")
