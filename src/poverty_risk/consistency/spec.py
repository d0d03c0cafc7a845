"""Consistency rules as a file declares them; ``catalog.yaml`` is the manual of the form."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from poverty_risk.declarations import Declared, Words, parse_declaration, read_yaml
from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.expressions import find_functions, find_names
from poverty_risk.schema import Schema

__all__ = [
    "OTHER_PREFIX",
    "SEVERITIES",
    "ConsistencyCatalog",
    "ConsistencyRule",
    "Lookup",
    "Measure",
    "load_consistency_rules",
]

SEVERITIES = ("error", "warning", "note")
"""Contradictory or impossible; implausible or against the procedure; a gap to fill. Worst first."""

OTHER_PREFIX = "that_"
"""In front of the columns of the table that is looked up, beside those of the record itself."""

DAYS_AFTER = "days_after"
"""Days from the record's event to that of the other record; below 0 if the other one is earlier."""


class Measure(Declared):
    """A value over several records.

    Parameters
    ----------
    take
        What is computed; ``last`` of the records in their canonical order, missing ones left out.
    value
        Expression of which; only ``count`` has none.
    where
        Which records enter; all by default.
    """

    take: Literal["count", "sum", "min", "max", "nunique", "last"]
    value: str | None = None
    where: str | None = None

    @model_validator(mode="after")
    def _value_unless_counted(self) -> Measure:
        if (self.take == "count") != (self.value is None):
            message = "'count' has no 'value', every other 'take' needs one"
            raise ValueError(message)
        return self

    @property
    def expressions(self) -> tuple[str, ...]:
        """All expressions of it."""
        return tuple(text for text in (self.value, self.where) if text is not None)


class Lookup(Measure):
    """A value over other records that belong to a record: of its household, its person, its loan.

    Parameters
    ----------
    table
        Where the other records stand; in the rule's own table the record itself is left out.
    same
        Columns in which both agree.
    of
        Which other records are considered at all, before the latest are chosen.
    latest
        Of the considered ones only the latest per these columns and record.
    """

    table: str
    same: tuple[str, ...] = ("household_id",)
    of: str | None = None
    latest: tuple[str, ...] = ()

    @property
    def expressions(self) -> tuple[str, ...]:
        """All expressions of it."""
        return (*super().expressions, *((self.of,) if self.of is not None else ()))


class Rejected(Declared):
    """Rows that were refused when the history was read, by what was found or expected."""

    found: str | None = None
    expected: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Rejected:
        if (self.found is None) == (self.expected is None):
            message = "needs either 'found' or 'expected'"
            raise ValueError(message)
        return self


class ConsistencyRule(Declared):
    """One rule: which records it looks at, what it compares them with, and when they are wrong.

    Parameters
    ----------
    code
        Permanent: a code is never given to another rule. Shipped ones begin with K.
    severity
        ``error`` (contradictory or impossible), ``warning`` (implausible, or against the
        procedure), ``note`` (a gap to fill).
    theme
        Theme as in the feature catalogue.
    department
        Who can correct it; a key of the catalogue's departments.
    table
        History table, or several: the rule then runs on each of them.
    of, latest, where
        Which records it looks at: those meeting `of`, of these the latest per the columns of
        `latest`, of these those meeting `where`.
    beside
        Values over other records, by name.
    per, measures
        Columns by which the records are grouped, and values over each group, by name.
    report
        One finding per ``record``, or one per ``group`` (its latest record stands for it).
    when
        Condition under which something is wrong; a missing one is not wrong, but counted.
    rejected
        Instead of `when`: rows that were refused on reading.
    show
        Columns and named values to show with a finding.
    wrong, remedy
        What is wrong and what to do; ``{name}`` stands for a parameter.
    """

    code: str = Field(pattern=r"^[A-Z]\d{3}$")
    severity: Literal["error", "warning", "note"]
    theme: str
    department: str
    table: str | tuple[str, ...] = ()
    of: str | None = None
    latest: tuple[str, ...] = ()
    where: str | None = None
    beside: dict[str, Lookup] = Field(default_factory=dict)
    per: tuple[str, ...] = ()
    measures: dict[str, Measure] = Field(default_factory=dict)
    report: Literal["record", "group"] = "record"
    when: str | None = None
    rejected: Rejected | None = None
    show: tuple[str, ...] = ()
    wrong: Words
    remedy: Words

    @model_validator(mode="after")
    def _complete(self) -> ConsistencyRule:
        if (self.when is None) == (self.rejected is None):
            message = "needs either 'when' or 'rejected'"
            raise ValueError(message)
        if bool(self.per) != bool(self.measures):
            message = "'per' and 'measures' belong together"
            raise ValueError(message)
        if self.report == "group" and not self.per:
            message = "one finding per group needs 'per'"
            raise ValueError(message)
        if self.rejected is None and not self.tables:
            message = "needs a 'table'"
            raise ValueError(message)
        return self

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it runs on; none for rows refused on reading, which may be of any."""
        return (self.table,) if isinstance(self.table, str) else self.table

    @property
    def named(self) -> tuple[str, ...]:
        """Names of the values that it computes."""
        return (*self.beside, *self.measures)

    @property
    def expressions(self) -> tuple[str, ...]:
        """All expressions of it."""
        own = tuple(text for text in (self.of, self.where, self.when) if text is not None)
        parts = (*self.beside.values(), *self.measures.values())
        return own + tuple(text for part in parts for text in part.expressions)

    @property
    def needs_line(self) -> bool:
        """Whether it compares with the poverty line."""
        return any("line" in find_functions(text) for text in self.expressions)

    def find_undeclared(self, table: str, schema: Schema, known: Iterable[str]) -> list[str]:
        """Tables and columns that it needs and a schema does not declare.

        Parameters
        ----------
        table
            The one of its tables that it runs on.
        schema
            What is declared.
        known
            Names that need no column: parameters.
        """
        needed = [table, *(item.table for item in self.beside.values())]
        if lost := [name for name in dict.fromkeys(needed) if name not in schema.tables]:
            return [f"table '{name}'" for name in lost]
        own = {*schema.tables[table].all_columns, *self.named, *known}
        used = [*self.latest, *self.per, *self.show]
        texts = [text for text in (self.of, self.where, self.when) if text is not None]
        texts += [text for item in self.measures.values() for text in item.expressions]
        used += [name for text in texts for name in sorted(find_names(text))]
        lost = [f"column '{table}.{name}'" for name in used if name not in own]
        for item in self.beside.values():
            others = schema.tables[item.table].all_columns
            both = {*own, DAYS_AFTER, *(f"{OTHER_PREFIX}{name}" for name in others)}
            names = [name for text in item.expressions for name in sorted(find_names(text))]
            names += [f"{OTHER_PREFIX}{name}" for name in (*item.same, *item.latest)]
            names += [name for name in item.same if name not in own]
            lost += [f"column '{item.table}.{name}'" for name in names if name not in both]
        return list(dict.fromkeys(lost))


class ConsistencyCatalog(Declared):
    """Consistency rules with what they share.

    Parameters
    ----------
    name
        What the catalogue is called.
    parameters
        Thresholds by name; conditions and words use them.
    departments
        Who can correct records, by code.
    names
        Words of the values that rules compute.
    rules
        The rules, in the order in which findings are told.

    Examples
    --------
    >>> from poverty_risk.consistency import load_consistency_rules
    >>> rules = load_consistency_rules()
    >>> rules["K001"].severity, rules.describe("K001", "en")
    ('warning', 'No measure within 31 days of identification')
    """

    name: str
    parameters: dict[str, float] = Field(default_factory=dict)
    departments: dict[str, Words]
    names: dict[str, Words] = Field(default_factory=dict)
    rules: tuple[ConsistencyRule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> ConsistencyCatalog:
        codes = [rule.code for rule in self.rules]
        problems = [f"code {c} twice" for c in sorted({c for c in codes if codes.count(c) > 1})]
        for rule in self.rules:
            if rule.department not in self.departments:
                problems.append(f"{rule.code}: department '{rule.department}' is not declared")
            problems += [
                f"{rule.code}: no words in 'names' for '{name}'"
                for name in rule.named
                if name in rule.show and name not in self.names
            ]
            unknown = _places(rule.wrong) | _places(rule.remedy)
            problems += [
                f"{rule.code}: '{{{name}}}' is no parameter"
                for name in sorted(unknown - set(self.parameters))
            ]
        if problems:
            message = "; ".join(problems)
            raise ValueError(message)
        return self

    @cached_property
    def _by_code(self) -> Mapping[str, ConsistencyRule]:
        return {rule.code: rule for rule in self.rules}

    def __getitem__(self, code: str) -> ConsistencyRule:
        if code not in self._by_code:
            expected = f"one of {', '.join(self._by_code)}"
            raise DeclarationError(Fault(self.name, f"rule '{code}'", expected, "Correct it."))
        return self._by_code[code]

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes in order."""
        return tuple(self._by_code)

    def describe(self, code: str, locale: str) -> str:
        """What a rule says is wrong, with its parameters filled in."""
        return self._fill(self[code].wrong[locale])

    def advise(self, code: str, locale: str) -> str:
        """What to do about a finding of a rule."""
        return self._fill(self[code].remedy[locale])

    def name_department(self, code: str, locale: str) -> str:
        """Who can correct a finding of a rule."""
        return self.departments[self[code].department][locale]

    def name_value(self, code: str, name: str, locale: str, schema: Schema, table: str) -> str:
        """What a shown value is called: a named value, or the label of a column."""
        if name in self[code].named:
            return self.names[name][locale]
        column = schema.tables[table].all_columns.get(name)
        if column is not None and column.label is not None:
            return column.label[locale]
        return self.names[name][locale] if name in self.names else name

    def _fill(self, text: str) -> str:
        return text.format_map({name: _plain(value) for name, value in self.parameters.items()})

    def extended(self, extra: Mapping[str, Any], place: str = "extra rules") -> ConsistencyCatalog:
        """The same catalogue with an office's own rules, and with other values of parameters.

        Parameters
        ----------
        extra
            Any part of a catalogue file. A parameter of the same name takes the place of the
            shipped one; a rule needs a code of its own.
        place
            Where `extra` comes from, for errors.

        Returns
        -------
        ConsistencyCatalog
            A new catalogue; this one stays as it is.
        """
        merged: dict[str, Any] = self.model_dump()
        for section, content in extra.items():
            known: Any = merged.get(section)
            if isinstance(known, dict) and isinstance(content, Mapping):
                merged[section] = known | dict(content)
            elif section == "rules" and isinstance(content, Iterable):
                merged[section] = [*known, *content]
            else:
                merged[section] = content
        return parse_declaration(ConsistencyCatalog, merged, place)


def _places(words: Words) -> set[str]:
    texts = (words.zh, words.en)
    return {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def load_consistency_rules(
    path: str | Path | None = None, extra: str | Path | None = None
) -> ConsistencyCatalog:
    """Load consistency rules from a file; the shipped ones by default.

    Parameters
    ----------
    path
        A catalogue of your own with the keys of the shipped ``catalog.yaml``.
    extra
        File with further rules, names, departments, and other values of parameters.

    Returns
    -------
    ConsistencyCatalog
        The rules in the order of the file.

    Raises
    ------
    DeclarationError
        Faults in a file, all in one error.

    Examples
    --------
    >>> from poverty_risk.consistency import load_consistency_rules
    >>> len(load_consistency_rules().rules) >= 40
    True
    """
    shipped = Path(str(resources.files("poverty_risk") / "consistency" / "catalog.yaml"))
    path = shipped if path is None else Path(path)
    catalog = parse_declaration(ConsistencyCatalog, read_yaml(path), path.name)
    return catalog if extra is None else catalog.extended(read_yaml(extra), Path(extra).name)
