"""The job that Spark runs: who is at risk, their features, risks and reasons, ranks in each county."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from poverty_risk.cohort import find_conditions
from poverty_risk.cohort_queries import compile_condition, compile_group
from poverty_risk.data_gaps import catalog_of
from poverty_risk.exceptions import Fault
from poverty_risk.features.queries import compile_features
from poverty_risk.model import RiskModel
from poverty_risk.prediction_folder import COLUMNS
from poverty_risk.schema import Condition
from poverty_risk.spark.features import query_beside
from poverty_risk.spark.queries import ENTITY, rewrite
from poverty_risk.spark.records import COUNTY, SparkHistory, entity_of
from poverty_risk.spark.scoring import Scoring, pack_model, score_batches
from poverty_risk.spark.session import SparkError, import_ibis_dialect, spread
from poverty_risk.task import PredictionTask

__all__ = ["Job"]

NUMBER = "county_number"
"""Names the folders that Spark writes: a number needs no escape as a county's name may."""

KEY = "household_id"
"""Of a point, too, because there is one point per household."""

NAME = "household_name"
"""The household's id in its county, without the county in front of it."""

SPARK_TYPES = {
    pa.string(): "string",
    pa.date32(): "date",
    pa.float64(): "double",
    pa.int64(): "bigint",
    pa.list_(pa.string()): "array<string>",
}


@dataclass(frozen=True)
class Job:
    """One job over the histories of some counties.

    Parameters
    ----------
    session
        The Spark session.
    history
        Their records.
    model
        A fitted model.
    task
        What it predicts.
    dates
        As-of date of each county that is asked for.
    locale, explain
        See `predict_counties`.
    """

    session: Any
    history: SparkHistory
    model: RiskModel
    task: PredictionTask
    dates: Mapping[str, pd.Timestamp]
    locale: str
    explain: bool

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the answers of each county as one file; the files by county, if anybody lives there."""
        points = self._keep(self._find_points(), folder / "points")
        counted = points.groupBy(NUMBER).count().toArrow()
        counts = dict(zip(*(counted[name].to_pylist() for name in (NUMBER, "count")), strict=True))
        spread(self.session, sum(counts.values()))
        reviewed = self._keep(self._review(points), folder / "reviewed")
        ranked = self._rank(self._score(self._build_features(reviewed)))
        writer = ranked.write.partitionBy(NUMBER).option("compression", "zstd")
        writer.parquet(str(folder / "answers"))
        return {
            county: _find_file(folder / "answers" / f"{NUMBER}={number}", counts[number])
            for number, county in enumerate(self.dates)
            if number in counts
        }

    def _keep(self, frame: Any, place: Path) -> Any:
        """The same rows from files: every query reads them, and a lost worker does not take them along."""
        # No address: Spark would take the escapes of one for names of folders.
        frame.write.parquet(str(place))
        return self.session.read.parquet(str(place))

    @functools.cached_property
    def _line(self) -> dict[int, float]:
        return dict(self.history.line or self.task.line or {})

    @functools.cached_property
    def _groups(self) -> list[str]:
        """Groups of households, such as the village, of which a table is there."""
        groups = self.task.schema.groups
        return [name for name, group in groups.items() if group.table in self.history.rows]

    def _find_points(self) -> Any:
        """Every household with any record, once, on its county's as-of date; with its groups."""
        ids = [
            frame.select(COUNTY, KEY)
            for name, frame in self.history.rows.items()
            if entity_of(self.task.schema, name) == KEY
        ]
        households = functools.reduce(lambda one, other: one.union(other), ids).distinct()
        days = pa.table(
            {
                COUNTY: list(self.dates),
                NUMBER: list(range(len(self.dates))),
                "as_of_date": [date.date() for date in self.dates.values()],
            }
        )
        name = f"substring({KEY}, length({COUNTY}) + 2)" if self.history.several else KEY
        return households.join(
            self.session.createDataFrame(days).hint("broadcast"), COUNTY
        ).selectExpr(
            COUNTY,
            NUMBER,
            KEY,
            f"{name} AS {NAME}",
            f"{KEY} AS point",
            "as_of_date",
            "CAST(NULL AS STRING) AS village_id",
            "CAST(NULL AS DATE) AS horizon_end",
        )

    def _review(self, points: Any) -> Any:
        """Points with their groups, and with the reason of those outside the cohort."""
        schema, dialect = self.task.schema, import_ibis_dialect()
        queries = {}
        for name in self._groups:
            query = rewrite(compile_group(schema, name, dialect))
            queries[f"{schema.groups[name].table} {name}"] = (
                f"SELECT {ENTITY}, point, value AS {name}_id FROM ({query})"
            )
        bare = points.drop(*(f"{name}_id" for name in self._groups))
        grouped = query_beside(self.session, self.history, points, queries, beside=bare)
        conditions = [
            item
            for item in find_conditions(schema, self.task.cohort)
            if item.table in self.history.rows
        ]
        queries = {}
        for number, item in enumerate(conditions):
            query = rewrite(compile_condition(schema, item, self._line, dialect))
            # 0: a record whose condition cannot be decided counts as not met; NULL: no record at all.
            queries[f"{item.table} {number}"] = (
                f"SELECT {ENTITY}, point, coalesce(met, 0D) AS met_{number} FROM ({query})"
            )
        found = query_beside(self.session, self.history, grouped, queries)
        return self._tell_exclusion(found, conditions)

    def _tell_exclusion(self, found: Any, conditions: Sequence[Condition]) -> Any:
        from pyspark.sql import functions as f  # noqa: PLC0415

        reason = f.lit(None).cast("string")
        for number, item in enumerate(conditions):
            absent = f.lit(0.0 if item.if_absent == "drop" else 1.0)
            failed = f.coalesce(f"met_{number}", absent) != 1.0
            reason = f.coalesce(reason, f.when(failed, f.lit(item.reason)))
        met = [f"met_{number}" for number in range(len(conditions))]
        return found.withColumn("exclusion", reason).drop(*met)

    def _build_features(self, reviewed: Any) -> Any:
        """Values of the features that read a table, beside all points; none outside the cohort."""
        catalog = catalog_of(self.model)
        specs = [spec for spec in catalog.specs if spec.table in self.history.rows]
        queries = compile_features(specs, self.task.schema, self._line, import_ibis_dialect())
        rewritten = {name: rewrite(query) for name, query in queries.items()}
        members = reviewed.filter("exclusion IS NULL")
        return query_beside(self.session, self.history, members, rewritten, beside=reviewed)

    def _score(self, features: Any) -> Any:
        """Answers of all households, from Python workers."""
        groups = [f"{name}_id" for name in self._groups]
        columns = {COUNTY: pa.string(), NUMBER: pa.int64()}
        columns |= {name: kind for name, kind in COLUMNS.items() if name != "rank"}
        columns |= dict.fromkeys(groups, pa.string())
        scoring = Scoring(
            pack_model(self.model),
            self.locale,
            self.explain,
            {county: self.history.counties[county] for county in self.dates},
            dict(self.dates),
            columns,
            self.history.rejected,
        )
        shared = self.session.sparkContext.broadcast(scoring)
        told = features.drop(KEY).withColumnRenamed(NAME, KEY)
        if self.history.several and "village_id" in groups:
            village = f"substring(village_id, length({COUNTY}) + 2)"
            told = told.selectExpr("* EXCEPT (village_id)", f"{village} AS village_id")
        ddl = ", ".join(f"`{name}` {SPARK_TYPES[kind]}" for name, kind in columns.items())
        return told.drop("point", "as_of_date", "horizon_end").mapInArrow(
            score_batches(shared), ddl
        )

    def _rank(self, answers: Any) -> Any:
        """The same with each household's rank in its county, sorted by household."""
        place = f"rank() OVER (PARTITION BY {NUMBER} ORDER BY risk DESC NULLS LAST)"
        columns = [COUNTY, *COLUMNS, *(f"{name}_id" for name in self._groups)]
        return (
            answers.selectExpr("*", f"CAST({place} AS BIGINT) AS place")
            .selectExpr("*", "IF(risk IS NULL, NULL, place) AS rank")
            .select(*columns, NUMBER)
            .sortWithinPartitions(NUMBER, KEY)
        )


def _find_file(folder: Path, households: int) -> Path:
    """The file of a county, one because it is ranked in one partition; all its households are there."""
    found = list(folder.glob("*.parquet"))
    answers = sum(pq.read_metadata(path).num_rows for path in found)
    if len(found) != 1 or answers != households:
        told = f"{answers} answers of {households} households, in {len(found)} files"
        raise SparkError(Fault("Spark job", told, "one file with all", "Run it again."))
    return found[0]
