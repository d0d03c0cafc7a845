"""Risks and reasons in Spark's Python workers, with the package's own code."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from poverty_risk.answers import Answers, Asked, answer_each
from poverty_risk.data_gaps import catalog_of
from poverty_risk.explain import build_contribution_tables
from poverty_risk.features.build import complete_features
from poverty_risk.features.spec import ZERO_WHEN_EMPTY
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.predict import task_of
from poverty_risk.rejected import RejectedCounts
from poverty_risk.spark.records import COUNTY
from poverty_risk.wording import load_locale

__all__ = ["Scoring", "pack_model", "score_batches"]


@dataclass(frozen=True)
class Scoring:
    """What every worker needs to know.

    Parameters
    ----------
    files
        The model folder: bytes by file name.
    locale
        Language of the texts.
    explain
        Whether reasons are given.
    counties
        Tables that each county has.
    as_of
        The day on which the horizon of each county begins.
    columns
        What is answered.
    rejected
        What was rejected, by county and household.
    """

    files: Mapping[str, bytes]
    locale: str
    explain: bool
    counties: Mapping[str, frozenset[str]]
    as_of: Mapping[str, pd.Timestamp]
    columns: Mapping[str, pa.DataType]
    rejected: Mapping[str, RejectedCounts]


def pack_model(model: RiskModel | str | Path) -> dict[str, bytes]:
    """A model folder as bytes by file name, to be sent to workers."""
    loaded = load_model(model)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        loaded.save(place, getattr(loaded, "extra_", None))
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def score_batches(
    shared: Any,
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function that Spark runs over batches of households.

    Parameters
    ----------
    shared
        A broadcast `Scoring`.
    """

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scoring: Scoring = shared.value
        model, words = _unpack(tuple(scoring.files.items())), load_locale(scoring.locale)
        for batch in batches:
            for county, rows in batch.to_pandas().groupby(COUNTY, sort=False):
                as_of = pd.DatetimeIndex([scoring.as_of[county]]).as_unit("us")
                asked = Asked(as_of, model, scoring.locale, words, scoring.explain)
                own = rows.set_index("household_id")
                question = _Rows(
                    asked, own, scoring.counties[county], scoring.rejected.get(county, {})
                )
                answers = answer_each(question, own.index.to_numpy(dtype=object))[0]
                yield _to_arrow(answers.to_frame(), own, scoring.columns)

    return score


@functools.lru_cache(maxsize=2)
def _unpack(files: tuple[tuple[str, bytes], ...]) -> RiskModel:
    """The model; kept, because a worker's process serves many tasks."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files:
            (Path(folder) / name).write_bytes(content)
        model = RiskModel.load(folder)
    build_contribution_tables(model)  # so that bits do not depend on how many come at a time
    return model


@dataclass(frozen=True)
class _Rows:
    """Households of one county with what the queries gave of them."""

    asked: Asked
    rows: pd.DataFrame
    tables: frozenset[str]
    rejected: RejectedCounts

    def answer(self, ids: np.ndarray) -> tuple[Answers, pd.DataFrame]:
        """Answers in the order of `ids`, and the features of those in the cohort."""
        rows = self.rows.loc[ids]
        answers = Answers(ids, self.asked)
        excluded = rows["exclusion"].notna().to_numpy()
        answers.tell_excluded(np.flatnonzero(excluded), rows["exclusion"][excluded])
        task = task_of(self.asked.model)
        answers.tell_rejected(rows["exclusion"], task, self.rejected)
        features = self._build(rows[~excluded])
        absent = set(task.schema.tables) - self.tables
        answers.assess(np.flatnonzero(~excluded), features, absent)
        return answers, features

    def answer_alone(self, ids: np.ndarray) -> tuple[Answers, pd.DataFrame]:
        """The same: a household's row depends on no other."""
        return self.answer(ids)

    def tell_failed(self, ids: np.ndarray) -> Answers:
        """Rows that say that nothing could be computed."""
        return Answers.failed(ids, self.asked)

    def _build(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Features, from the values that the queries gave."""
        catalog, as_of = catalog_of(self.asked.model), self.asked.as_of
        found: dict[str, Any] = {}
        for spec in catalog.specs:
            if spec.formula is not None:
                continue
            # A table that no county has was asked nothing.
            values = rows[spec.name].to_numpy() if spec.name in rows else np.full(len(rows), np.nan)
            if spec.aggregator in ZERO_WHEN_EMPTY and spec.table in self.tables:
                values = np.nan_to_num(values.astype(np.float64))
            found[spec.name] = values
        ids = pd.Index(rows.index, dtype="str")
        index = pd.MultiIndex.from_product([ids, as_of], names=["household_id", "as_of_date"])
        return complete_features(found, index, catalog, task_of(self.asked.model).schema)


def _to_arrow(answer: pd.DataFrame, rows: pd.DataFrame, columns: Mapping[str, pa.DataType]) -> Any:
    told = answer.join(rows[[name for name in columns if name not in answer and name in rows]])
    told = told.reset_index()
    told["as_of_date"] = told["as_of_date"].dt.date
    arrays = [pa.array(told[name], type=kind, from_pandas=True) for name, kind in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))
