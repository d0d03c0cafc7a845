"""Tables and queries of a database as raw sheets, read with the same mappings as files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy
from pydantic import Field, model_validator
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from poverty_risk.declarations import Declared
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.sources.raw import RawSheet

__all__ = ["DatabaseTable", "read_database"]

ROWS_AT_ONCE = 50_000


class DatabaseTable(Declared):
    """A table or query of a database.

    Parameters
    ----------
    url
        SQLAlchemy URL, such as ``postgresql+psycopg://reader@host/county``. A password in it is
        never shown; leave it to the system's own means (``.pgpass``) where there are any.
    table
        Table or view, with its schema before a dot where it has one.
    query
        SELECT statement, in place of `table`.
    exported
        Day on which the database tells the state, as text or date; by default told to the import.

    Examples
    --------
    >>> DatabaseTable(url="sqlite:///county.db", table="household").place
    "sqlite:///county.db, table 'household'"
    """

    url: str = Field(repr=False)
    table: str | None = None
    query: str | None = None
    exported: date | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> DatabaseTable:
        if (self.table is None) == (self.query is None):
            message = "exactly one of 'table' and 'query'"
            raise ValueError(message)
        return self

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.table or "query"

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        try:
            shown = sqlalchemy.make_url(self.url).render_as_string(hide_password=True)
        except ArgumentError:
            shown = "a database"
        return f"{shown}, table '{self.table}'" if self.table else f"{shown}, query"


def read_database(source: DatabaseTable) -> RawSheet:
    """Read a table or the result of a query.

    Parameters
    ----------
    source
        What to read.

    Returns
    -------
    RawSheet
        All cells as text: dates as ``2023-05-31``, truth as 1 and 0, whole numbers without a point.

    Raises
    ------
    HistoryError
        No such database, driver, table or column; columns with one name; binary values. No fault
        quotes a value, a query or a password.

    Examples
    --------
    >>> sheet = read_database(DatabaseTable(url="sqlite://", query="SELECT 1 AS a, 2.50 AS b"))
    >>> sheet.cells.to_pylist()
    [{'a': '1', 'b': '2.5'}]
    """
    try:
        engine = sqlalchemy.create_engine(source.url)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise _refuse(source, error, "a SQLAlchemy URL whose driver is installed") from None
    try:
        _check_file(source, engine)
        with (
            engine.connect().execution_options(stream_results=True) as connection,
            contextlib.closing(connection.execute(_make_statement(source))) as result,
        ):
            names = list(result.keys())
            _check_names(source, names)
            chunks = [
                _to_text(source, names, rows) for rows in result.partitions(ROWS_AT_ONCE) if rows
            ]
    except SQLAlchemyError as error:
        raise _refuse(source, error, "a table or a query that can be read") from None
    finally:
        engine.dispose()
    empty = pa.schema([(name, pa.string()) for name in names]).empty_table()
    cells = pa.concat_tables([empty, *chunks]).combine_chunks()
    numbers = pa.array(range(1, cells.num_rows + 1), pa.int64())
    return RawSheet(file=source.name, sheet="", cells=cells, rows=numbers)


def _make_statement(source: DatabaseTable) -> sqlalchemy.Executable:
    if source.query is not None:
        # Whatever it is, it is never committed; this only tells a slip early.
        if not re.match(r"\s*(SELECT|WITH)\b", source.query, re.IGNORECASE):
            expected = "a SELECT statement"
            raise HistoryError(Fault(source.place, "another statement", expected, "Correct it."))
        return sqlalchemy.text(source.query)
    schema, _, table = str(source.table).rpartition(".")
    return sqlalchemy.select(sqlalchemy.text("*")).select_from(
        sqlalchemy.table(table, schema=schema or None)
    )


def _check_file(source: DatabaseTable, engine: sqlalchemy.Engine) -> None:
    """SQLite makes the file that it is asked to read."""
    path = engine.url.database or ""
    is_file = bool(path) and ":memory:" not in path and not path.startswith("file:")
    if engine.dialect.name == "sqlite" and is_file and not Path(path).is_file():
        expected = "a file that is there"
        raise HistoryError(Fault(source.place, "no such file", expected, "Check the path."))


def _refuse(source: DatabaseTable, error: Exception, expected: str) -> HistoryError:
    # Without its message, which quotes the statement, and with some drivers values and passwords.
    cause = getattr(error, "orig", None)
    found = type(error).__name__ + (f" ({type(cause).__name__})" if cause is not None else "")
    return HistoryError(
        Fault(source.place, found, expected, "Check the URL, the driver, names and rights.")
    )


def _check_names(source: DatabaseTable, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    faults = [
        Fault(source.place, f"column '{name}' twice", "each name once", "Name it with AS.")
        for name in repeated
    ]
    if faults:
        raise HistoryError(faults)


def _to_text(source: DatabaseTable, names: list[str], rows: Any) -> pa.Table:
    columns = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        try:
            columns[name] = pa.array(_iter_text(values), pa.string())
        except TypeError as error:
            remedy = "Leave the column out of the query, or cast it to text."
            raise HistoryError(
                Fault(f"{source.place}, column '{name}'", str(error), "text", remedy)
            ) from None
    return pa.table(columns)


def _iter_text(values: tuple[Any, ...]) -> Iterator[str | None]:
    for value in values:
        if value is None or isinstance(value, str):
            yield value or None
        elif isinstance(value, bool):
            yield str(int(value))
        elif isinstance(value, int):
            yield str(value)
        elif isinstance(value, float | Decimal):
            yield _number_to_text(value)
        elif isinstance(value, datetime):
            midnight = value.time() == time()
            yield value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
        elif isinstance(value, date):
            yield value.isoformat()
        else:
            raise TypeError(f"values of type {type(value).__name__}")  # noqa: EM102


def _number_to_text(value: float | Decimal) -> str | None:
    if value != value:  # noqa: PLR0124 - the way to find NaN that both types know
        return None
    # A certificate number that a column of floating-point numbers rounded has to stay recognisable.
    text = f"{value:f}" if isinstance(value, Decimal) else repr(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
