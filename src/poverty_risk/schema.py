"""Declared history tables: columns, units, keys, sensitivity, cohorts and labels of an archive.

A schema is a YAML file (see ``schemas/archive.yaml``, which is its own manual). An office that keeps
more than the shipped archive declares further tables and columns in a file of its own and merges it
with `Schema.extended`; no code is needed.
"""

from __future__ import annotations

import functools
import graphlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from poverty_risk.declarations import (
    Declared,
    Words,
    find_unusable_names,
    parse_declaration,
    read_yaml,
)
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.windows import parse_days

__all__ = ["Column", "Condition", "FollowUp", "Label", "Schema", "Table", "load_schema"]

ColumnKind = Literal["string", "category", "number", "integer", "boolean", "date"]
Entity = Literal["household", "person", "village"]

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "category": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}


class Column(Declared):
    """A declared column.

    Parameters
    ----------
    kind
        What its values are.
    label
        Its name in Chinese and English.
    unit
        Unit of a number.
    required
        Whether a record without it is rejected.
    codes
        The allowed values of a category.
    min, max
        Bounds of a number, both allowed.
    sensitive
        Not shown outside cards; never in errors or logs.
    audit
        For fairness checks only.
    blocked
        Why no feature may use it.
    """

    kind: ColumnKind
    label: Words | None = None
    unit: str | None = None
    required: bool = False
    codes: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    sensitive: bool = False
    audit: bool = False
    blocked: str | None = None

    @model_validator(mode="after")
    def _codes_and_kind(self) -> Column:
        if (self.kind == "category") != bool(self.codes):
            message = "a category needs codes, and only a category has them"
            raise ValueError(message)
        bounded = self.min is not None or self.max is not None
        if bounded and self.kind not in ("number", "integer"):
            message = "only a number or an integer has 'min' and 'max'"
            raise ValueError(message)
        if self.min is not None and self.max is not None and self.min > self.max:
            message = f"min {self.min:g} is above max {self.max:g}"
            raise ValueError(message)
        return self


class Table(Declared):
    """A declared history table.

    Parameters
    ----------
    entity
        What a record is about; names the id columns it must have.
    key
        Columns that name the fact. A later known record with the same key corrects the earlier one.
    columns
        Declared columns beside the ids, ``event_date`` and ``known_date``.
    treatment
        Whether its records are help given: features on it must be lagged and unconstrained.
    observation
        Where a record is what was found on a day, not a state that holds until the next one: the
        boolean column that must be true for the same finding, told again later, to be another record.
    """

    label: Words
    entity: Entity = "household"
    key: tuple[str, ...]
    columns: dict[str, Column]
    treatment: bool = False
    observation: str | None = None

    @property
    def id_columns(self) -> tuple[str, ...]:
        """Id columns that every record must have."""
        return {
            "household": ("household_id",),
            "person": ("household_id", "person_id"),
            "village": ("village_id",),
        }[self.entity]

    @functools.cached_property
    def all_columns(self) -> dict[str, Column]:
        """Ids and dates, then the declared columns."""
        implicit = {name: Column(kind="string", required=True) for name in self.id_columns}
        for name in ("event_date", "known_date"):
            implicit[name] = Column(kind="date", required=True)
        return implicit | self.columns

    @model_validator(mode="after")
    def _key_is_declared(self) -> Table:
        missing = [name for name in self.key if name not in self.all_columns]
        if missing:
            message = f"key columns that are not declared: {', '.join(missing)}"
            raise ValueError(message)
        reserved = {*self.id_columns, *_RESERVED}
        clash = [name for name in self.columns if name.casefold() in reserved]
        if clash:
            message = f"columns that every table has, or reserved names: {', '.join(clash)}"
            raise ValueError(message)
        seen = None if self.observation is None else self.columns.get(self.observation)
        if self.observation is not None and (seen is None or seen.kind != "boolean"):
            message = f"observation '{self.observation}' is no boolean column"
            raise ValueError(message)
        if bad := find_unusable_names(self.columns):
            message = f"names that no expression can use, or twice but for case: {', '.join(bad)}"
            raise ValueError(message)
        return self


_RESERVED = (
    *("household_id", "event_date", "known_date", "superseded_date", "record_order"),
    *("as_of_date", "as_of_year", "as_of_month", "horizon_end", "point", "row"),
)
"""Columns that the package adds itself, or names of the expression language."""

_RESERVED_TABLES = ("points", "frame", "line")
"""What queries call the prediction points and ready features, and the file of the poverty line."""


class Condition(Declared):
    """A condition on each household's latest known record of a table.

    Parameters
    ----------
    where
        Expression that must be true.
    within
        How recent the record's event must be, as ``"92d"``; None for any.
    if_absent
        What happens to a household without such a record.
    reason
        Short code given to households that fail.
    """

    table: str
    where: str
    within: str | None = None
    if_absent: Literal["keep", "drop"] = "drop"
    reason: str


class FollowUp(Declared):
    """When a household stops being followed.

    It is lost if its last record before the as-of date, known or not, or any within the horizon meets
    `lost_where`; it counts again after a later record that does not.
    """

    table: str
    lost_where: str


class IncomeHistory(Declared):
    """What a card draws as the household's income history: expressions over one table's columns."""

    table: str
    value: str
    line: str
    where: str = "True"


class Label(Declared):
    """A label definition.

    Parameters
    ----------
    kind
        ``event``: a record meeting `where` happens within the horizon. ``state``: the record nearest
        before the end of the horizon, at most `tolerance` before it, meets `where`. ``any``: one of
        the definitions named in `of`.
    followed
        For an event: ``end`` (a household without the event must be followed to the end of the
        horizon to be a 0) or ``any`` (one record of the table within the horizon is enough).
    reporting_lag
        Within how many days after it happened the event is on record.
    ratio
        Expression of what is measured over its threshold: `where` holds where it is below 1. None:
        nothing is measured. Trees can then learn how near a household came (`grade_labels`).
    """

    kind: Literal["event", "state", "any"]
    label: Words
    table: str | None = None
    where: str | None = None
    of: tuple[str, ...] = ()
    followed: Literal["end", "any"] = "end"
    tolerance: str = "0d"
    reporting_lag: str = "0d"
    needs_line: bool = False
    ratio: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Label:
        if (self.kind == "any") != bool(self.of):
            message = "kind 'any' names other labels in 'of'; other kinds do not"
            raise ValueError(message)
        if self.kind != "any" and (self.table is None or self.where is None):
            message = f"kind '{self.kind}' needs 'table' and 'where'"
            raise ValueError(message)
        if self.kind == "any" and self.ratio is not None:
            message = "kind 'any' has no 'ratio' of its own"
            raise ValueError(message)
        if "line(" in f"{self.where} {self.ratio}" and not self.needs_line:
            message = "'needs_line: true', because the poverty line is asked for"
            raise ValueError(message)
        return self


class Group(Declared):
    """Where the latest known value of a grouping (village, township) stands."""

    table: str
    column: str


class Schema(Declared):
    """All that is declared about an archive.

    Parameters
    ----------
    name
        What it is called.
    notes
        What it is about.
    tables
        History tables by name.
    cohorts
        Who can be at risk: conditions by name of the cohort, of which all must hold.
    follow_up
        When a household is lost; None: never.
    income_history
        The income history that a card draws; None: none.
    groups
        Where a household belongs (``village``, ``township``), by name.
    labels
        Definitions of the outcome by name.

    Examples
    --------
    >>> from poverty_risk.schema import load_schema
    >>> load_schema("archive").tables["income"].key
    ('household_id', 'period_start', 'period_end')
    """

    name: str
    notes: str = ""
    tables: dict[str, Table]
    cohorts: dict[str, tuple[Condition, ...]] = Field(min_length=1)
    follow_up: FollowUp | None = None
    income_history: IncomeHistory | None = None
    groups: dict[str, Group] = Field(default_factory=dict)
    labels: dict[str, Label]

    @model_validator(mode="after")
    def _names_exist(self) -> Schema:
        used = [item.table for conditions in self.cohorts.values() for item in conditions]
        used += [item.table for item in self.labels.values() if item.table is not None]
        used += [item.table for item in self.groups.values()]
        used += [part.table for part in (self.follow_up, self.income_history) if part is not None]
        unknown = sorted(set(used) - set(self.tables))
        unknown += sorted({n for lab in self.labels.values() for n in lab.of} - set(self.labels))
        if unknown:
            message = f"names that are not declared: {', '.join(unknown)}"
            raise ValueError(message)
        parts = [*self.labels.values(), *self.groups.values(), self.follow_up]
        named = {part.table for part in parts if part is not None and part.table is not None}
        if of_villages := sorted(n for n in named if self.tables[n].entity == "village"):
            message = f"labels, groups or follow-up on tables of villages: {', '.join(of_villages)}"
            raise ValueError(message)
        bad = find_unusable_names(self.tables) + [
            name for name in self.tables if name in _RESERVED_TABLES
        ]
        if bad:
            message = f"tables with names that are reserved or not usable: {', '.join(bad)}"
            raise ValueError(message)
        lost = [
            f"{group.table}.{group.column}"
            for group in self.groups.values()
            if group.column not in self.tables[group.table].all_columns
        ]
        if lost:
            message = f"columns of groups that are not declared: {', '.join(lost)}"
            raise ValueError(message)
        try:
            graphlib.TopologicalSorter({n: lab.of for n, lab in self.labels.items()}).prepare()
        except graphlib.CycleError as error:
            message = f"labels made of themselves: {', '.join(error.args[1])}"
            raise ValueError(message) from None
        return self

    def reporting_lag_days(self, label: str) -> int:
        """Reporting lag of a label in days: the longest of its parts."""
        item = self.labels[label]
        if item.kind == "any":
            return max(self.reporting_lag_days(name) for name in item.of)
        return parse_days(item.reporting_lag)

    def extended(self, extra: Mapping[str, Any], place: str = "extra schema") -> Schema:
        """The same schema with further tables, columns, cohorts and labels.

        Parameters
        ----------
        extra
            Any part of a schema file. Columns of a table that exists are added to it; a cohort,
            group or label of the same name takes the place of the schema's own.
        place
            Where `extra` comes from, for errors.

        Returns
        -------
        Schema
            A new schema; this one stays as it is.

        Raises
        ------
        DeclarationError
            Unknown keys, a column that already exists, or another change to a table that exists.
        """
        merged: dict[str, Any] = self.model_dump()
        faults: list[Fault] = []
        for section, content in extra.items():
            known: Any = merged.get(section)
            if section == "tables" and isinstance(content, Mapping):
                for name, table in content.items():
                    if name in self.tables:
                        faults += _add_columns(known[name]["columns"], table, f"{place}, '{name}'")
                    else:
                        known[name] = table
            elif isinstance(known, dict) and isinstance(content, Mapping):
                merged[section] = known | dict(content)
            else:
                merged[section] = content
        if faults:
            raise DeclarationError(faults)
        return parse_declaration(Schema, merged, place)


def _add_columns(columns: dict[str, Any], table: Any, place: str) -> list[Fault]:
    """Add declared columns to those of a table that exists; whatever else is said is a fault."""
    if not isinstance(table, Mapping) or not isinstance(table.get("columns"), Mapping):
        found = f"keys {', '.join(map(str, table))}" if isinstance(table, Mapping) else repr(table)
        remedy = "Write the new columns under 'columns'."
        return [Fault(place, found[:80], "key 'columns' with further columns", remedy)]
    faults = [
        Fault(
            place,
            f"key '{key}'",
            "'columns' alone, because the table exists",
            f"Did you mean 'columns'? '{key}' of a shipped table stays as it is.",
        )
        for key in table
        if key != "columns"
    ]
    for column, declared in table["columns"].items():
        if column in columns:
            wanted = "columns that the schema does not have yet"
            faults.append(Fault(place, f"column '{column}' again", wanted, "Rename or drop it."))
        columns[column] = declared
    return faults


def load_schema(name: str | Path = "archive", extra: str | Path | None = None) -> Schema:
    """Load a shipped schema by name, or one of your own by path.

    Parameters
    ----------
    name
        ``"archive"`` (Chinese county archive), ``"eph"`` (Argentine survey panel), or a YAML file.
    extra
        YAML file with further tables, columns, cohorts and labels to add.

    Returns
    -------
    Schema
        The declared schema.

    Raises
    ------
    DeclarationError
        No such schema, or faults in the file, all in one error.

    Examples
    --------
    >>> sorted(load_schema("archive").labels)[:2]
    ['any', 'below_line']
    """
    shipped = resources.files("poverty_risk") / "schemas"
    path = Path(str(shipped / f"{name}.yaml"))
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        names = sorted(Path(str(item)).stem for item in shipped.iterdir() if item.name[0] != "_")
        raise DeclarationError(
            Fault(
                "schema",
                f"'{name}'",
                f"a YAML file or one of {', '.join(names)}",
                "Check the name.",
            )
        )
    schema = parse_declaration(Schema, read_yaml(path), path.name)
    return schema if extra is None else schema.extended(read_yaml(extra), Path(extra).name)
