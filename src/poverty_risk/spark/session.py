"""Spark sessions: found or started, and the settings that our queries need."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = [
    "SparkError",
    "import_ibis_dialect",
    "needed_settings",
    "spread",
    "start_session",
    "telling_job_failures",
]

SETTINGS = {
    # A shuffle by household serves what is grouped by household and point.
    "spark.sql.requireAllClusterKeysForDistribution": "false",
    # Sums of fractions depend on their order: records stay sorted under joins, which Spark thinks useless.
    "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.EliminateSorts",
    # Bounds the memory of a Python worker: so many households are explained at a time.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "5000",
    # Spark would plan all that is left anew after each of dozens of stages, for longer than they run.
    "spark.sql.adaptive.enabled": "false",
    # Until it is known how many households there are (see `spread`).
    "spark.sql.shuffle.partitions": "16",
    # Dates have no zone here; nothing may be shifted on the way to Python.
    "spark.sql.session.timeZone": "UTC",
}
"""Settings of a session while our queries are planned and run."""

HOUSEHOLDS_PER_PARTITION = 10_000
"""Histories that one task sorts and aggregates at a time."""


PAGE = "1m"
"""Memory that each sort and each aggregate of a task takes at once: there are about a hundred of them."""


class SparkError(PovertyRiskError):
    """Spark is not there, or a job on it failed."""


def start_session(master: str | None = None, **settings: str) -> Any:
    """The session of the running program, or a new one.

    Parameters
    ----------
    master
        Such as ``"local[2]"``, ``"spark://host:7077"`` or ``"yarn"``; None takes what ``spark-submit``
        or ``spark-defaults.conf`` says, and this machine otherwise.
    settings
        More settings, with ``__`` for the dots: ``spark__driver__memory="4g"``.

    Returns
    -------
    pyspark.sql.SparkSession
        An active session is answered as it is, because a program has one.

    Raises
    ------
    SparkError
        No pyspark or no Java.
    """
    sql = _import_sql()
    active = sql.SparkSession.getActiveSession()
    if active is not None:
        return active
    _check_java()
    # The workers' Python has to be this one, with this package, unless the cluster says otherwise.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.appName("poverty_risk")
    settings = {
        "spark__ui__showConsoleProgress": "false",
        "spark__buffer__pageSize": PAGE,
    } | settings
    if master is not None:
        builder = builder.master(master)
    for name, value in settings.items():
        builder = builder.config(name.replace("__", "."), value)
    with _without_pandas_warning():
        return builder.getOrCreate()


@contextlib.contextmanager
def needed_settings(session: Any) -> Iterator[None]:
    """The session's settings are ours inside, and its own again afterwards."""
    before = {name: session.conf.get(name, None) for name in SETTINGS}
    for name, value in SETTINGS.items():
        session.conf.set(name, value)
    try:
        with _without_pandas_warning():
            yield
    finally:
        for name, old in before.items():
            if old is None:
                session.conf.unset(name)
            else:
                session.conf.set(name, old)


def spread(session: Any, households: int) -> None:
    """Spread what is shuffled from now on over partitions: two per core, more of many households."""
    partitions = max(
        2 * session.sparkContext.defaultParallelism,
        math.ceil(households / HOUSEHOLDS_PER_PARTITION),
    )
    session.conf.set("spark.sql.shuffle.partitions", str(partitions))


def import_ibis_dialect() -> str:
    """Name of Spark's dialect in Ibis, whose options exist only once its backend was imported."""
    import ibis  # noqa: PLC0415

    with _without_pandas_warning():
        _ = ibis.pyspark
    return "pyspark"


def _import_sql() -> Any:
    try:
        with _without_pandas_warning():
            from pyspark import sql  # noqa: PLC0415
    except ImportError:
        raise SparkError(
            Fault(
                "engine 'spark'",
                "no pyspark",
                "the extra 'spark'",
                "Run: pip install 'poverty-risk[spark]'",
            )
        ) from None
    return sql


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and (Path(home) / "bin" / "java").exists()):
        raise SparkError(
            Fault("engine 'spark'", "no Java", "Java 17 or later", "Install it, or set JAVA_HOME.")
        )


@contextlib.contextmanager
def telling_job_failures() -> Iterator[None]:
    """A job that fails becomes an error of ours, without its message, which may quote a household's row."""
    try:
        yield
    except Exception as error:
        kind = type(error)
        if kind.__module__.split(".")[0] not in ("py4j", "pyspark"):
            raise
        raise SparkError(
            Fault("Spark job", f"{kind.__name__}", "a job that ends", "See Spark's own log.")
        ) from None


@contextlib.contextmanager
def _without_pandas_warning() -> Iterator[None]:
    # Spark warns of pandas 3 wherever it may use pandas; all that is exchanged here is Arrow.
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "PySpark does not yet fully support pandas", FutureWarning
        )
        # Spark's own code, on newer Pythons and Arrows.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="pyspark")
        yield
