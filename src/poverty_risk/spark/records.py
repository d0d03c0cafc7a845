"""Histories as Spark reads them: records by table, of one county or of many."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from poverty_risk.arrow_tables import read_line
from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.history_chunks import HistoryFolder, find_counties
from poverty_risk.rejected import Rejected, RejectedCounts
from poverty_risk.schema import Schema
from poverty_risk.spark.queries import VIEW
from poverty_risk.tables import HistoryTables, digest_tables
from poverty_risk.written_folder import find_written

__all__ = ["COUNTY", "SparkHistory", "entity_of", "open_counties", "open_tables", "viewed"]

COUNTY = "county"

SPARK_TYPES = {
    "string": "string",
    "category": "string",
    "number": "double",
    "integer": "bigint",
    "boolean": "boolean",
    "date": "date",
}

OF_FILE = "replace(element_at(split(_metadata.file_path, '/'), -2), '+', '%2B')"
"""Folder of a file's row, as an address writes it; a plus sign there is no blank."""


@dataclass(frozen=True)
class SparkHistory:
    """Records of one or several counties.

    Parameters
    ----------
    schema
        What is declared.
    counties
        Tables that each county has; the key is empty where there is one county without a name.
    line
        Poverty line by year.
    observed_to
        First day about which nothing is on record any more, by county.
    digests
        Hash of what each history says; empty for a history in memory.
    rejected
        What was rejected, by county and household.
    rows
        Spark frames by table, with ``county`` and ``record_order``. Where there are several counties,
        ids of households and villages begin with the county, so that no two counties share one.
    """

    schema: Schema
    counties: Mapping[str, frozenset[str]]
    line: Mapping[int, float] | None
    observed_to: Mapping[str, pd.Timestamp]
    digests: Mapping[str, str]
    rejected: Mapping[str, RejectedCounts]
    rows: Mapping[str, Any]

    @property
    def several(self) -> bool:
        """Whether there are counties with names."""
        return "" not in self.counties

    @functools.cached_property
    def records(self) -> dict[str, Any]:
        """Rows by table: each household's records in one partition, in canonical order."""
        keys = {name: entity_of(self.schema, name) for name in self.rows}
        return {
            name: frame.repartition(keys[name]).sortWithinPartitions(keys[name], "record_order")
            for name, frame in self.rows.items()
        }


def entity_of(schema: Schema, table: str) -> str:
    """Column by which records of a table are joined to points."""
    return "village_id" if schema.tables[table].entity == "village" else "household_id"


def open_tables(session: Any, tables: HistoryTables) -> SparkHistory:
    """A history in memory, sent to Spark as Arrow."""
    rows = {name: session.createDataFrame(tables.arrow(name)) for name in tables.names}
    counties, end = {"": frozenset(tables.names)}, {"": tables.observed_to}
    rejected = {"": tables.rejection.by_household}
    return SparkHistory(tables.schema, counties, tables.line, end, {}, rejected, rows)


def open_counties(
    session: Any,
    folder: str | Path,
    schema: Schema,
    line: Mapping[int, float] | None = None,
    observed_to: str | pd.Timestamp | None = None,
) -> SparkHistory:
    """Histories on disk, which `HistoryTables.write` wrote, one folder per county.

    Parameters
    ----------
    session
        The Spark session.
    folder
        A county's folder, or a folder of such folders, at a place that all workers see.
    schema
        What is declared.
    line, observed_to
        As in `read_history`, of all counties.

    Raises
    ------
    HistoryError
        A folder was not written by this package or was touched since, or lines differ.
    """
    folders = find_counties(folder)
    facts = _look_at_counties(session, folders, schema)
    faults = [
        Fault(
            f"history '{folders[county].name}'",
            "files not written by this package, or touched since",
            "what was validated and written",
            "Run read_history(...).write(...) once, or poverty-risk import.",
        )
        for county, fact in facts.items()
        if fact is None
    ]
    if faults:
        raise HistoryError(faults)
    told = {county: fact for county, fact in facts.items() if fact is not None}
    counties = {county: frozenset(fact["tables"]) for county, fact in told.items()}
    ends = {county: pd.Timestamp(observed_to or fact["end"]) for county, fact in told.items()}
    line = _one_line(told) if line is None else dict(line)
    rows = {}
    for name in schema.tables:
        paths = [
            _find_path(folders[county], county, name)
            for county, names in counties.items()
            if name in names
        ]
        if paths:
            rows[name] = _read(session, paths, schema, name, several="" not in folders)
    digests = {county: str(fact["digest"]) for county, fact in told.items()}
    rejected = {county: fact["rejected"] for county, fact in told.items()}
    return SparkHistory(schema, counties, line, ends, digests, rejected, rows)


def _find_path(folder: Path, county: str, table: str) -> str:
    """Path of a table as Spark wants it: in a folder named like the county, and no pattern."""
    folder = folder.resolve() if folder.name != county else folder.parent.resolve() / county
    return re.sub(r"([\\*?{}\[\]])", r"\\\1", str(folder / f"{table}.parquet"))


def _look_at_counties(
    session: Any, folders: Mapping[str, Path], schema: Schema
) -> dict[str, dict[str, Any] | None]:
    """What is to be known of each county before its records are read; on the workers."""
    digest = digest_tables(schema)
    text = schema.model_dump_json()

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            places = batch["folder"].to_pylist()
            facts = [_look_at(Path(place), text, digest) for place in places]
            yield pa.RecordBatch.from_pydict(
                {COUNTY: batch[COUNTY].to_pylist(), "fact": [json.dumps(fact) for fact in facts]}
            )

    places = pa.table(
        {COUNTY: list(folders), "folder": [str(path.resolve()) for path in folders.values()]}
    )
    spread = session.createDataFrame(places).repartition(len(folders), COUNTY)
    found = spread.mapInArrow(look, f"{COUNTY} string, fact string").toArrow().to_pylist()
    return {row[COUNTY]: json.loads(row["fact"]) for row in sorted(found, key=lambda r: r[COUNTY])}


def _look_at(folder: Path, schema_json: str, digest: str) -> dict[str, Any] | None:
    if find_written(folder, digest) is None:
        return None
    history = HistoryFolder(folder, Schema.model_validate_json(schema_json))
    line = read_line(folder)[0]
    return {
        "digest": history.digest,
        "tables": [path.stem for path in folder.glob("*.parquet")],
        "end": str(history.observed_to.date()),
        "line": None if line is None else {str(year): value for year, value in line.items()},
        "rejected": Rejected.read(
            {path.stem: path for path in folder.glob("*.parquet")}, sealed=True
        ).by_household,
    }


def _one_line(facts: Mapping[str, dict[str, Any]]) -> dict[int, float] | None:
    lines = {json.dumps(fact["line"], sort_keys=True): fact["line"] for fact in facts.values()}
    if len(lines) > 1:
        raise HistoryError(
            Fault(
                "line",
                f"{len(lines)} different poverty lines among {len(facts)} counties",
                "one for all counties of a job",
                "Run counties with another line in a job of their own.",
            )
        )
    line = next(iter(lines.values()))
    return None if line is None else {int(year): value for year, value in line.items()}


def _read(session: Any, paths: list[str], schema: Schema, name: str, *, several: bool) -> Any:
    declared = {c: SPARK_TYPES[item.kind] for c, item in schema.tables[name].all_columns.items()}
    declared["superseded_date"] = "date"
    ddl = ", ".join(f"`{column}` {kind}" for column, kind in declared.items())
    county = f"url_decode({OF_FILE})" if several else "''"
    columns = [f"{county} AS {COUNTY}"]
    for column, kind in declared.items():
        # Spark tells NaN from NULL, and sorts it above all numbers; here both are missing.
        value = f"nanvl(`{column}`, CAST(NULL AS DOUBLE))" if kind == "double" else f"`{column}`"
        if several and column in ("household_id", "village_id"):
            value = f"concat({county}, '/', {value})"
        columns.append(f"{value} AS `{column}`")
    # The canonical order is the order of the rows; Spark numbers them as they stand in the file.
    columns.append("_metadata.row_index AS record_order")
    return session.read.schema(ddl).parquet(*paths).selectExpr(*columns)


@contextlib.contextmanager
def viewed(frames: Mapping[str, Any]) -> Iterator[None]:
    """Frames as views by the names that our queries use."""
    for name, frame in frames.items():
        frame.createOrReplaceTempView(VIEW.format(name))
    try:
        yield
    finally:
        for frame, name in zip(frames.values(), frames, strict=True):
            frame.sparkSession.catalog.dropTempView(VIEW.format(name))
