"""The embedded database, opened for a while and quiet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__all__ = ["open_database"]


def open_database(threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A database in memory, to be used in a ``with``; None: as many threads as there are cores."""
    import duckdb  # noqa: PLC0415 - one household's answer needs none

    connection = duckdb.connect(config={} if threads is None else {"threads": threads})
    # It takes every program that stands in no file (a notebook, a piped command) for somebody who
    # watches, and would print its own bar among what the program prints. A notebook that could not
    # show one refuses to be told so.
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.execute("SET enable_progress_bar = false")
    return connection
