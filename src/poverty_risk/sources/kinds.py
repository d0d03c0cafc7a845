"""The declaration of a kind of county file: its columns, codes, and what its rows become."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poverty_risk.declarations import Declared, Words, find_unusable_names
from poverty_risk.sources.header_matching import plain_header

__all__ = ["Account", "Derived", "Mapping", "Monthly", "RowCheck", "SourceField", "TableRule"]

BUILT_IN = ("exported", "export_month", "school_term")
"""Dates that every row has: the day of the export or delivery, the last day of its month, and the
first day of its school term (1 March or 1 September)."""

FieldKind = Literal[
    "string",
    "category",
    "number",
    "integer",
    "boolean",
    "date",
    "month",
    "codes",
    "certificate",
]
Combination = Literal["agree", "head", "sum", "min", "max", "any", "all"]


class SourceField(Declared):
    """A column of a file.

    Parameters
    ----------
    headers
        What the column is called in files, the most usual first; compared without blanks, brackets
        with a unit, and full-width signs.
    kind
        How its cells are read. ``codes`` are several codes in one cell, ``month`` a month without
        its day, ``certificate`` an identity or disability certificate number.
    codes
        Code by what a cell says, for ``category`` and ``codes``; further words of a ``boolean``;
        whole numbers of an ``integer`` that is written in words. An empty code says that there is
        none.
    unit
        Unit of the values; a unit in the header's brackets is converted to it.
    day
        The day that stands for a month.
    or_month
        Whether a date may be a month without its day.
    privacy
        ``keep``; ``hash``: only a keyed hash leaves the conversion; ``drop``: nothing does.
    required
        Whether a row without it, or with one that cannot be read, is rejected.
    note
        Why it is as it is.
    """

    headers: tuple[str, ...] = Field(min_length=1)
    kind: FieldKind = "string"
    codes: dict[str, str] = Field(default_factory=dict)
    unit: str | None = None
    day: Literal["first", "last"] = "last"
    or_month: bool = False
    privacy: Literal["keep", "hash", "drop"] = "keep"
    required: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> SourceField:
        if self.codes and self.kind not in ("category", "codes", "boolean", "integer"):
            message = "only a category, codes, a boolean or an integer has 'codes'"
            raise ValueError(message)
        if self.kind == "integer" and not all(c.isdecimal() for c in self.codes.values() if c):
            message = "codes of an integer are whole numbers"
            raise ValueError(message)
        if self.or_month and self.kind != "date":
            message = "only a date has 'or_month'"
            raise ValueError(message)
        if self.kind in ("category", "codes") and not self.codes:
            message = f"kind '{self.kind}' needs 'codes'"
            raise ValueError(message)
        if self.kind == "boolean" and not set(self.codes.values()) <= {"true", "false"}:
            message = "codes of a boolean are 'true' or 'false'"
            raise ValueError(message)
        if self.kind == "certificate" and self.privacy != "hash":
            message = "a certificate number needs 'privacy: hash'"
            raise ValueError(message)
        if self.privacy == "hash" and self.kind not in ("string", "certificate"):
            message = "only a string or a certificate can be hashed"
            raise ValueError(message)
        return self


class Account(Declared):
    """Which period an income account covers; names are those of fields.

    Parameters
    ----------
    year
        Year of a yearly account: 1 October of the year before to 30 September.
    identified
        Month of identification: a rolling account covers the twelve months before it.
    kind
        Field that says ``annual`` or ``rolling``.
    first_month, last_month
        Months that the file itself gives; they go before all other rules.
    """

    year: str | None = None
    identified: str | None = None
    kind: str | None = None
    first_month: str | None = None
    last_month: str | None = None


class Monthly(Declared):
    """An amount a month of a sum paid for a time; names are those of fields.

    Parameters
    ----------
    amount
        The sum.
    start, end
        First and last day; without an end it was paid once, in one month.
    """

    amount: str
    start: str
    end: str


class Derived(Declared):
    """A value made of fields before anything else; exactly one of its parts.

    Parameters
    ----------
    join
        Texts put one behind the other with a slash between them; missing ones are left out, and
        without the last there is none.
    hash
        An id for records that have none in the file: a keyed hash of these fields.
    account
        The period of an income account: gives ``<name>_start``, ``<name>_end``, ``<name>_window``.
    monthly
        An amount a month.
    """

    join: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    account: Account | None = None
    monthly: Monthly | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Fields that it is made of."""
        parts = [part for part in (self.account, self.monthly) if part is not None]
        named = [name for part in parts for _, name in part if name is not None]
        return (*self.join, *self.hash, *named)

    @model_validator(mode="after")
    def _one_part(self) -> Derived:
        if sum(map(bool, (self.join, self.hash, self.account, self.monthly))) != 1:
            message = "exactly one of 'join', 'hash', 'account' and 'monthly'"
            raise ValueError(message)
        return self


class RowCheck(Declared):
    """Something that a row must not say.

    Parameters
    ----------
    where
        Expression that is true where a row says it.
    field
        The field that is at fault.
    expected
        What was expected of it, for the office.
    reject
        Whether the row is rejected; otherwise it is kept and told.
    """

    where: str
    field: str
    expected: str
    reject: bool = False


class TableRule(Declared):
    """How rows become records of one history table.

    Parameters
    ----------
    table
        The history table.
    where
        Expression that a row must meet; without it every row gives a record.
    event_date
        Fields with the day, of which the first that a row has counts; without them the record tells
        the state on the day of the export. ``exported`` is that day, ``export_month`` the last day
        of its month, ``school_term`` the first day of its school term.
    columns
        Expression by column of the table. Ids need no expression.
    if_declared
        The same, for columns that only some schemas have.
    rows
        ``one``: a row is a record, and a second with the same key that says something else is
        refused. ``many``: rows with the same key together make one record.
    combine
        How values of several rows become one, by column: ``agree`` (the default: what most rows
        say, and who says otherwise is told), ``head`` (what the row of the head of household
        says), ``sum``, ``min``, ``max``, ``any``, ``all``.
    """

    table: str
    where: str | None = None
    event_date: tuple[str, ...] = ()
    columns: dict[str, str]
    if_declared: dict[str, str] = Field(default_factory=dict)
    rows: Literal["one", "many"] = "one"
    combine: dict[str, Combination] = Field(default_factory=dict)

    @field_validator("event_date", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _combined_columns_exist(self) -> TableRule:
        if self.combine and self.rows == "one":
            message = "'combine' needs 'rows: many'"
            raise ValueError(message)
        if unknown := sorted(set(self.combine) - {*self.columns, *self.if_declared}):
            message = f"columns of 'combine' that have no expression: {', '.join(unknown)}"
            raise ValueError(message)
        return self


class Mapping(Declared):
    """A kind of file: what it is called, what it holds, what becomes of it.

    Parameters
    ----------
    name
        The kind.
    label
        Its name in Chinese and English.
    delivery
        ``export`` tells the state of a system on the day of the export, which is when everything in
        it was known; ``feed`` tells of events that were known on a day of their own.
    titles
        Words of file and sheet names of this kind.
    notes
        What was decided for it.
    known_date
        Field of a feed with the day on which an event was known.
    reporting_lag
        Days from an event to its being known, for rows without `known_date`; at the latest it was
        known on the day of delivery.
    fields
        Columns of the file by name.
    one_of
        Fields of which a row needs at least one, in groups.
    signature
        Fields that tell this kind from others: a file has at least one of each group.
    person
        Fields of certificates that tell who the person of a row is, the first that a row has.
    derived
        Values made of fields.
    checks
        What a row must not say.
    tables
        What rows become.
    serial
        Headers of mere row numbers, which make no row different from another.
    units
        Factors by unit and by what headers write.

    Examples
    --------
    >>> from poverty_risk.sources.mapping import load_mapping
    >>> load_mapping("national_income").delivery
    'export'
    """

    name: str
    label: Words
    delivery: Literal["export", "feed"]
    titles: tuple[str, ...] = ()
    notes: str = ""
    known_date: str | None = None
    reporting_lag: str | None = Field(default=None, pattern=r"^[0-9]{1,4}d$")
    fields: dict[str, SourceField] = Field(min_length=1)
    one_of: tuple[tuple[str, ...], ...] = ()
    signature: tuple[tuple[str, ...], ...] = Field(min_length=1)
    person: tuple[str, ...] = ("certificate",)
    derived: dict[str, Derived] = Field(default_factory=dict)
    checks: tuple[RowCheck, ...] = ()
    tables: tuple[TableRule, ...] = Field(min_length=1)
    serial: tuple[str, ...] = ()
    units: dict[str, dict[str, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_sound(self) -> Mapping:
        messages = [
            *self._faults_of_delivery(),
            *self._faults_of_headers(),
            *self._faults_of_names(),
        ]
        if messages:
            raise ValueError("; ".join(messages))
        return self

    def _faults_of_delivery(self) -> list[str]:
        if self.delivery == "feed" and self.reporting_lag is None:
            return ["a feed states its 'reporting_lag'; it is never taken to be nothing"]
        if self.delivery == "export" and (self.reporting_lag or self.known_date):
            return ["an export is known on its day; 'reporting_lag' and 'known_date' are for feeds"]
        return []

    def _faults_of_headers(self) -> list[str]:
        seen: dict[str, str] = {}
        return [
            f"header '{header}' of both '{first}' and '{name}'"
            for name, field in self.fields.items()
            for header in field.headers
            if (first := seen.setdefault(plain_header(header).text, name)) != name
        ]

    def _faults_of_names(self) -> list[str]:
        named = [name for group in (*self.one_of, *self.signature) for name in group]
        named += [self.known_date] if self.known_date else []
        named += [name for item in self.derived.values() for name in item.names]
        named += [check.field for check in self.checks]
        named += [name for rule in self.tables for name in rule.event_date]
        named += [name for name in self.person if self.person != ("certificate",)]
        made = {f"{name}_{end}" for name in self.derived for end in ("start", "end", "window")}
        made |= {*self.fields, *self.derived, *BUILT_IN}
        messages = []
        if unknown := sorted(set(named) - made):
            messages.append(f"fields that are not declared: {', '.join(unknown)}")
        units = {field.unit for field in self.fields.values() if field.unit is not None}
        if strange := sorted(units - set(self.units)):
            messages.append(f"units without factors: {', '.join(strange)}")
        if unusable := find_unusable_names([*self.fields, *self.derived]):
            messages.append(f"names that no expression can use: {', '.join(unusable)}")
        return messages
