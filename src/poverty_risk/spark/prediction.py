"""Predictions of one or many counties on Spark, in the files that `predict_folder` writes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.batch import COMPUTING, tell_if_nobody_there
from poverty_risk.cohort import check_tables, find_conditions
from poverty_risk.file_lock import hold_lock
from poverty_risk.history_chunks import find_counties
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.predict import parse_date, task_of
from poverty_risk.prediction_folder import PredictionFolder
from poverty_risk.spark.job import Job
from poverty_risk.spark.records import SparkHistory, open_counties
from poverty_risk.spark.scoring import pack_model
from poverty_risk.spark.session import needed_settings, start_session, telling_job_failures

__all__ = ["predict_counties"]

QUERYING = ("ibis-framework", "sqlglot", "pyspark")
"""Packages of which another version may write or run other queries."""


def predict_counties(
    folder: str | Path,
    output: str | Path,
    *,
    model: RiskModel | str | Path,
    as_of_date: str | pd.Timestamp | None = None,
    locale: str = "zh",
    explain: bool = True,
    line: Mapping[int, float] | None = None,
    observed_to: str | pd.Timestamp | None = None,
    session: Any = None,
) -> dict[str, Path]:
    """Predict all households of one or many counties on Spark.

    Counties that are finished for the same question are not predicted again.

    Parameters
    ----------
    folder
        A county's history as `HistoryTables.write` wrote it, or a folder of such folders, one per
        county and named like it; at a place that driver and workers see under the same path.
    output, model, as_of_date, locale, explain
        See `predict_folder`. The place of `output` has to be seen by driver and workers, too.
    line, observed_to
        As in `read_history`, for all counties.
    session
        The Spark session; the running one, or a new one, by default. Its Python workers need this
        package, of this version.

    Returns
    -------
    dict
        The file of each county, by its name, as `predict_folder` gives it. Values are those of
        `predict_risk`, except that sums of fractions may differ in the last bits.

    Raises
    ------
    PovertyRiskError
        As `predict_folder` does; histories that were not written by this package, or touched since;
        poverty lines that differ between counties; no Spark, or a job that failed.

    Examples
    --------
    >>> from poverty_risk.spark import predict_counties, start_session
    >>> session = start_session("local[2]")  # doctest: +SKIP
    >>> predict_counties("data/province", "outputs/province",
    ...                  model="outputs/models/identified_12mo")  # doctest: +SKIP
    """
    loaded = load_model(model)
    task = task_of(loaded)
    if not hasattr(loaded, "model_id_"):
        pack_model(loaded)  # saving gives it its id: without, all unsaved models ask one question
    folder, output = Path(folder), Path(output).resolve()
    several = list(find_counties(folder).values()) != [folder]
    session = start_session() if session is None else session
    with (
        needed_settings(session),
        hold_lock(output, f"predictions '{output.name}'", longest_wait=0),
    ):
        history = open_counties(session, folder, task.schema, line, observed_to)
        for names in history.counties.values():
            check_tables(names, find_conditions(task.schema, task.cohort))
        dates = {
            county: parse_date(as_of_date or end, end)[0]
            for county, end in history.observed_to.items()
        }
        made = {
            county: PredictionFolder(
                output / county if several else output,
                _ask(history, county, dates[county], loaded, locale, explain),
            )
            for county in history.counties
        }
        for left in output.glob(".spark-*"):  # of a job that was killed
            shutil.rmtree(left)
        told = dates
        dates = {county: dates[county] for county in made if not made[county].is_complete}
        if dates:
            job = Job(session, history, loaded, task, dates, locale, explain)
            with tempfile.TemporaryDirectory(dir=output, prefix=".spark-") as place:
                with telling_job_failures():
                    files = job.write(Path(place))
                for county, path in files.items():
                    made[county].adopt(path)
        paths = {county: place.complete(county) for county, place in made.items()}
    for county, day in told.items():
        tell_if_nobody_there(paths[county], day)
    return paths


def _ask(
    history: SparkHistory,
    county: str,
    as_of: pd.Timestamp,
    model: RiskModel,
    locale: str,
    explain: bool,
) -> dict[str, object]:
    """All that a county's answers depend on."""
    return {
        "engine": "spark",
        "history": history.digests[county],
        "line": {str(year): value for year, value in (history.line or {}).items()},
        "observed_to": str(history.observed_to[county].date()),
        "as_of_date": str(as_of.date()),
        "model_id": model.model_id_,
        "locale": locale,
        "explain": explain,
        "versions": {package: metadata.version(package) for package in (*COMPUTING, *QUERYING)},
    }
