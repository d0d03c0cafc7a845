"""Runs consistency rules over a history and tells what was found, by household and by township."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.consistency.queries import (
    ALL_PREFIX,
    compile_rule,
    group_query,
    known_query,
)
from poverty_risk.consistency.rejected import find_rejected
from poverty_risk.consistency.spec import (
    SEVERITIES,
    ConsistencyCatalog,
    ConsistencyRule,
    load_consistency_rules,
)
from poverty_risk.database import open_database
from poverty_risk.privacy import suppress_small_counts
from poverty_risk.schema import Schema
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import parse_as_of_dates

__all__ = ["FINDING_COLUMNS", "RULE_COLUMNS", "ConsistencyReport", "check_consistency"]

FINDING_COLUMNS = (
    *("code", "severity", "theme", "table", "household_id", "person_id", "event_date"),
    *("known_date", "values"),
)
RULE_COLUMNS = (
    *("code", "table", "severity", "theme", "status", "lacking", "looked_at", "undecided"),
    *("findings", "households"),
)


@dataclass(frozen=True)
class ConsistencyReport:
    """What consistency rules found.

    Parameters
    ----------
    as_of_date
        Only what was known before it was looked at.
    findings
        One row per finding: code, severity, theme, table, household_id, person_id (missing where it
        is about the household), event_date and known_date of the record, values (texts in the order
        of the rule's `show`, missing ones None), and one column per group of the schema
        (``township_id``, ``village_id``). Real ids: it stays in the office.
    rules
        One row per rule and table: code, table, severity, theme, status, lacking, looked_at
        (records, or groups where the rule is about groups), undecided (of these, where a value is
        missing), findings, households. Status: ``run``; ``table_absent`` (the office does not have
        it), ``not_declared`` (by its schema), ``no_line``: the rule could not run, and `lacking`
        says what it lacked.
    catalog
        The rules.
    schema
        What the history declares.

    Examples
    --------
    >>> from poverty_risk import make_household_history
    >>> from poverty_risk.consistency import check_consistency
    >>> report = check_consistency(make_household_history(100, seed=1).tables)
    >>> len(report.not_run), list(report.count_by_township().columns)
    (0, ['error', 'warning', 'note'])
    """

    as_of_date: pd.Timestamp
    findings: pd.DataFrame
    rules: pd.DataFrame
    catalog: ConsistencyCatalog
    schema: Schema

    @property
    def not_run(self) -> pd.DataFrame:
        """Rules that could not run, with what they lacked."""
        return self.rules[self.rules["status"] != "run"]

    def count_by_township(self, *, shared: bool = True) -> pd.DataFrame:
        """Households with findings by township and severity.

        Parameters
        ----------
        shared
            Whether others than the office will see it: counts from 1 to 9 are then missing.

        Returns
        -------
        DataFrame
            Index township_id (missing where nobody knows it), one column per severity, worst
            first. No totals: beside one the hidden count could be worked out.
        """
        return self._count("severity", list(SEVERITIES), shared=shared)

    def count_by_rule(self, *, shared: bool = True) -> pd.DataFrame:
        """Households with findings by township and rule; parameters as in `count_by_township`."""
        found = set(self.findings["code"])
        codes = [code for code in self.catalog.codes if code in found]
        return self._count("code", codes, shared=shared)

    def _count(self, column: str, names: list[str], *, shared: bool) -> pd.DataFrame:
        places = self.findings.reindex(columns=["township_id", column, "household_id"])
        households = places.groupby(["township_id", column], dropna=False)["household_id"].nunique()
        counts = households.reset_index().pivot_table(
            index="township_id", columns=column, values="household_id", fill_value=0, dropna=False
        )
        counts = counts.reindex(columns=names, fill_value=0).rename_axis(columns=None).astype(int)
        if shared:
            return counts.apply(suppress_small_counts)
        return counts


def check_consistency(
    tables: HistoryTables,
    as_of_date: str | pd.Timestamp | None = None,
    rules: ConsistencyCatalog | None = None,
) -> ConsistencyReport:
    """Check whether the records of a history can be true together.

    Parameters
    ----------
    tables
        The history.
    as_of_date
        Only records known before it, and not corrected by then, are looked at; by default all.
    rules
        From `load_consistency_rules`; the shipped ones by default.

    Returns
    -------
    ConsistencyReport
        Findings, and for each rule whether it ran and on how many records.

    Raises
    ------
    DeclarationError
        A rule is not of the expression language, or a date is none.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk import HistoryTables, load_schema
    >>> from poverty_risk.consistency import check_consistency
    >>> bills = pd.DataFrame({"household_id": ["a", "a"], "person_id": ["a1", "a1"],
    ...     "bill_id": ["1", "2"], "event_date": ["2023-05-01", "2023-06-01"],
    ...     "known_date": ["2023-05-09", "2023-06-09"], "total": [900, 900],
    ...     "out_of_pocket": [300, 9000]})
    >>> tables = HistoryTables.from_frames({"medical_bill": bills}, load_schema("archive"))
    >>> report = check_consistency(tables)
    >>> report.findings[["code", "person_id", "values"]].to_numpy().tolist()
    [['K081', 'a1', ['900.0', '9000.0']]]
    >>> report.rules.set_index("code").loc["K061", ["status", "lacking"]].tolist()
    ['table_absent', 'work, person']
    """
    catalog = load_consistency_rules() if rules is None else rules
    as_of = parse_as_of_dates([tables.observed_to if as_of_date is None else as_of_date])[0]
    schema = tables.schema
    # One thread: sums of fractions depend on their order.
    with open_database(threads=1) as connection:
        _load_known(connection, tables, as_of)
        checker = _Checker(connection, tables, catalog, as_of)
        parts = [part for rule in catalog.rules for part in checker.check(rule)]
        groups = {
            name: connection.sql(group_query(schema, name)).to_arrow_table().to_pandas()
            for name, group in schema.groups.items()
            if group.table in tables
        }
    findings = _tell_findings([part.findings for part in parts])
    for name in schema.groups:
        known = groups.get(name, pd.DataFrame({"household_id": [], "value": []}))
        values = known.set_index("household_id")["value"].astype("str")
        findings[f"{name}_id"] = findings["household_id"].map(values).astype("str")
    told = pd.DataFrame([part.row for part in parts], columns=list(RULE_COLUMNS))
    return ConsistencyReport(as_of, findings, told, catalog, schema)


def _load_known(
    connection: duckdb.DuckDBPyConnection, tables: HistoryTables, as_of: pd.Timestamp
) -> None:
    """Make one table per history table of what was known at the as-of date."""
    day = pa.table({"as_of_date": pa.array([as_of.date()], type=pa.date32())})
    connection.register("_as_of", day)
    for name in tables.names:
        connection.register(f"{ALL_PREFIX}{name}", tables.arrow(name))
        query = _known_cached(tables.schema.model_dump_json(), name)
        connection.execute(f'CREATE TEMP TABLE "{name}" AS {query}')


@functools.lru_cache(maxsize=128)
def _known_cached(schema_json: str, name: str) -> str:
    return known_query(Schema.model_validate_json(schema_json), name)


@dataclass(frozen=True)
class _Part:
    """What became of one rule on one table."""

    row: dict[str, Any]
    findings: pd.DataFrame


class _Checker:
    """Runs one rule after the other."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: HistoryTables,
        catalog: ConsistencyCatalog,
        as_of: pd.Timestamp,
    ) -> None:
        self.connection, self.tables, self.catalog, self.as_of = connection, tables, catalog, as_of

    def check(self, rule: ConsistencyRule) -> Iterator[_Part]:
        """Run a rule on each of its tables."""
        if rule.rejected is not None:
            for table in rule.tables or self.tables.names:
                yield self._check_rejected(rule, table)
            return
        for table in rule.tables:
            status, lacking = self._find_lack(rule, table)
            if status == "run":
                yield self._run(rule, table)
            else:
                yield _part(rule, table, status, lacking)

    def _find_lack(self, rule: ConsistencyRule, table: str) -> tuple[str, str]:
        """Whether a rule can run on a table, and what it lacks."""
        schema = self.tables.schema
        if lost := rule.find_undeclared(table, schema, self.catalog.parameters):
            return "not_declared", ", ".join(lost)
        needed = dict.fromkeys([table, *(item.table for item in rule.beside.values())])
        if absent := [name for name in needed if name not in self.tables]:
            return "table_absent", ", ".join(absent)
        if rule.needs_line and self.tables.line is None:
            return "no_line", ""
        return "run", ""

    def _run(self, rule: ConsistencyRule, table: str) -> _Part:
        queries = compile_rule(
            rule, table, self.tables.schema, self.catalog.parameters, self.tables.line
        )
        looked_at, undecided = self.connection.sql(queries.counts).fetchall()[0]
        found = self.connection.sql(queries.findings).to_arrow_table()
        return _part(rule, table, "run", "", (looked_at, undecided), _to_frame(found))

    def _check_rejected(self, rule: ConsistencyRule, table: str) -> _Part:
        if table not in self.tables:
            return _part(rule, table, "table_absent", table)
        found = find_rejected(self.tables, table, rule, self.as_of)
        known = self.connection.sql(f'SELECT COUNT(*) FROM "{table}"').fetchall()[0][0]
        return _part(rule, table, "run", "", (known + len(found), 0), found)


def _to_frame(found: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = found.drop_columns(["values"]).to_pandas(date_as_object=False)
    frame["values"] = pd.Series(found["values"].to_pylist(), index=frame.index, dtype=object)
    return frame


def _part(
    rule: ConsistencyRule,
    table: str,
    status: str,
    lacking: str = "",
    counts: tuple[int, int] = (0, 0),
    found: pd.DataFrame | None = None,
) -> _Part:
    found = pd.DataFrame(columns=["household_id"]) if found is None else found
    row = {
        "code": rule.code,
        "table": table,
        "severity": rule.severity,
        "theme": rule.theme,
        "status": status,
        "lacking": lacking,
        "looked_at": counts[0],
        "undecided": counts[1],
        "findings": len(found),
        "households": found["household_id"].nunique(),
    }
    told = found.assign(code=rule.code, severity=rule.severity, theme=rule.theme, table=table)
    return _Part(row, told)


def _tell_findings(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All findings, rules in the order of the catalogue, records in their own."""
    filled = [part for part in parts if len(part)]
    if not filled:
        empty = pd.DataFrame({name: np.array([], dtype=object) for name in FINDING_COLUMNS})
        filled = [empty]
    findings = pd.concat(filled, ignore_index=True)[list(FINDING_COLUMNS)]
    texts = [name for name in FINDING_COLUMNS if name not in ("event_date", "known_date", "values")]
    kinds = dict.fromkeys(texts, "str")
    kinds |= dict.fromkeys(("event_date", "known_date"), "datetime64[us]")
    return findings.astype(kinds)
