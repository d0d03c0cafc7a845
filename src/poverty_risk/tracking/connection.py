"""The MLflow store: where it is, whether it can be used, and being connected to it for a while."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = [
    "check_writable",
    "find_experiment",
    "open_store",
    "resolve_uri",
    "sqlite_file",
]

DATABASE = "mlflow.db"
KEPT = "Correct name or store, and log again; the model folder is kept as it is."
ARTIFACTS = "mlartifacts"

_SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    # Otherwise the project files of whatever folder one works in are copied into the model.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
_FEWER_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
"""Unless the user says otherwise: with MLflow's seven, a server that is off is told after minutes."""

_ONE_AT_A_TIME = threading.RLock()
"""MLflow's choice of a store, and the variable that tells of it, are one for the whole process."""

_LOGGERS = ("mlflow", "alembic")
_SQLITE = b"SQLite format 3\0"


def find_experiment(client: Any, name: str, uri: str) -> str:
    """Id of an experiment; made, beside its database, when it is not there."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if (database := sqlite_file(uri)) is not None:
        # Beside the database: MLflow's default is the folder one happens to be in.
        location = (database.parent / ARTIFACTS).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None of a server."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute()


def check_writable(database: Path, place: str) -> None:
    """Refuse a database that cannot be opened, at once."""
    # MLflow tries again for minutes before it gives up on a database that cannot be opened.
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with database.open("a+b") as file:
            file.seek(0)
            start = file.read(len(_SQLITE))
        found = None if start in (b"", _SQLITE) else "a file of another kind"
    except OSError as error:
        found = error.strerror or type(error).__name__
    if found is not None:
        raise PovertyRiskError(
            Fault(place, f"{found}: {database}", "a SQLite database to write", KEPT)
        )


def resolve_uri(tracking_uri: str | None, store_folder: str | Path | None) -> str:
    """The store that is meant: as given, of the environment, or a database in a folder."""
    with _ONE_AT_A_TIME:
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    folder = Path.cwd() if store_folder is None else Path(store_folder)
    return f"sqlite:///{folder.absolute() / DATABASE}"


@contextlib.contextmanager
def open_store(uri: str, place: str, error: type[PovertyRiskError]) -> Iterator[Any]:
    """MLflow set to a store, quiet, with everything as it was afterwards; its errors as ours.

    Other threads wait for their turn.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: PLC0415 - takes seconds
    import mlflow.pyfunc  # noqa: PLC0415
    import sqlalchemy.exc  # noqa: PLC0415 - of MLflow, which lets its errors through

    refusals = (mlflow.exceptions.MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError)
    fewer = {name: os.environ.get(name, value) for name, value in _FEWER_RETRIES.items()}
    with (
        _ONE_AT_A_TIME,
        _environment(_SETTINGS | fewer),
        _quiet_logs(),
        _tracking_to(mlflow, uri),
    ):
        try:
            yield mlflow
        except refusals as refusal:
            reason = str(refusal).splitlines()[0][:300]
            raise error(Fault(place, reason, f"what MLflow can do in {uri}", KEPT)) from refusal


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Only warnings of MLflow and of the migrations that make its database."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _tracking_to(mlflow: Any, uri: str) -> Iterator[None]:
    # Without the variable MLflow tells whether somebody set the store in this process; setting it
    # sets the variable too, so both are put back.
    variable = os.environ.pop("MLFLOW_TRACKING_URI", None)
    chosen = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(chosen)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable
