"""The job that Spark runs: who is at risk, their features, risks and reasons, ranks in each county."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from poverty_risk.cohort import find_conditions
from poverty_risk.cohort_queries import compile_condition, compile_group
from poverty_risk.data_gaps import catalog_of
from poverty_risk.features.queries import compile_features
from poverty_risk.model import RiskModel
from poverty_risk.prediction_folder import COLUMNS
from poverty_risk.spark.features import query_points
from poverty_risk.spark.queries import ENTITY
from poverty_risk.spark.records import COUNTY, SparkHistory, entity_of
from poverty_risk.spark.scoring import Scoring, pack_model, score_batches
from poverty_risk.spark.session import import_ibis_dialect
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
        """Write the answers of each county as one file; the files by county."""
        # Kept, because every query reads the points anew.
        reviewed = self._review().persist()
        try:
            ranked = self._rank(self._score(reviewed, self._build_features(reviewed)))
            writer = ranked.write.partitionBy(NUMBER).option("compression", "zstd")
            writer.parquet(folder.resolve().as_uri())
        finally:
            reviewed.unpersist()
        files: dict[str, Path] = {}
        for number, county in enumerate(self.dates):
            # None where nobody lives; one otherwise, because a county is ranked in one partition.
            files |= dict.fromkeys([county], *folder.glob(f"{NUMBER}={number}/*.parquet"))
        return files

    @functools.cached_property
    def _line(self) -> dict[int, float]:
        return dict(self.history.line or self.task.line or {})

    @functools.cached_property
    def _groups(self) -> list[str]:
        """Groups of households, such as the village, of which a table is there."""
        groups = self.task.schema.groups
        return [name for name, group in groups.items() if group.table in self.history.records]

    def _review(self) -> Any:
        """All households, with their groups, and the reason of those outside the cohort."""
        schema, dialect = self.task.schema, import_ibis_dialect()
        queries = {name: compile_group(schema, name, dialect) for name in self._groups}
        points = self._find_points()
        for name, frame in self._ask(points, queries).items():
            found = frame.withColumnRenamed("value", f"{name}_id")
            points = points.drop(f"{name}_id").join(found, KEY, "left")
        if "village_id" not in points.columns:
            points = points.selectExpr("*", "CAST(NULL AS STRING) AS village_id")
        conditions = [
            item
            for item in find_conditions(schema, self.task.cohort)
            if item.table in self.history.records
        ]
        queries = {
            f"met_{number}": compile_condition(schema, item, self._line, dialect)
            for number, item in enumerate(conditions)
        }
        from pyspark.sql import functions as f  # noqa: PLC0415

        reason = f.lit(None).cast("string")
        asked = zip(self._ask(points, queries).items(), conditions, strict=True)
        for (name, frame), item in asked:
            # 0: a record whose condition cannot be decided counts as not met; NULL: no record at all.
            met = frame.select(KEY, f.coalesce("met", f.lit(0.0)).alias(name))
            points = points.join(met, KEY, "left")
            absent = f.lit(0.0 if item.if_absent == "drop" else 1.0)
            failed = f.coalesce(name, absent) != 1.0
            reason = f.coalesce(reason, f.when(failed, f.lit(item.reason)))
        return points.withColumn("exclusion", reason).drop(*queries)

    def _find_points(self) -> Any:
        """Every household with any record, once, on its county's as-of date."""
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
        dates = self.session.createDataFrame(days)
        name = f"substring({KEY}, length({COUNTY}) + 2)" if self.history.several else KEY
        return households.join(dates.hint("broadcast"), COUNTY).selectExpr(
            COUNTY,
            NUMBER,
            KEY,
            f"{name} AS {NAME}",
            f"{KEY} AS point",
            "as_of_date",
            "CAST(NULL AS STRING) AS village_id",
            "CAST(NULL AS DATE) AS horizon_end",
        )

    def _ask(self, points: Any, queries: Mapping[str, str]) -> dict[str, Any]:
        """Rows of queries by household."""
        frames = query_points(self.session, self.history, points, queries)
        # The household is its own point; of villages, the point alone names it.
        return {
            name: frame.drop(ENTITY).withColumnRenamed("point", KEY)
            for name, frame in frames.items()
        }

    def _build_features(self, reviewed: Any) -> Any:
        """Values of the features that read a table, of the members of the cohort."""
        catalog = catalog_of(self.model)
        specs = [spec for spec in catalog.specs if spec.table in self.history.records]
        queries = compile_features(specs, self.task.schema, self._line, import_ibis_dialect())
        features = reviewed.filter("exclusion IS NULL").select(KEY)
        for frame in self._ask(reviewed.filter("exclusion IS NULL"), queries).values():
            features = features.join(frame, KEY, "left")
        return features

    def _score(self, reviewed: Any, features: Any) -> Any:
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
        )
        shared = self.session.sparkContext.broadcast(scoring)
        told = reviewed.join(features, KEY, "left").withColumn(KEY, reviewed[NAME])
        if self.history.several and "village_id" in groups:
            village = f"substring(village_id, length({COUNTY}) + 2)"
            told = told.selectExpr("* EXCEPT (village_id)", f"{village} AS village_id")
        ddl = ", ".join(f"`{name}` {SPARK_TYPES[kind]}" for name, kind in columns.items())
        return told.drop(NAME, "point", "as_of_date", "horizon_end").mapInArrow(
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
