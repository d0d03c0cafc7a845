"""MLflow: runs, registered models, and the way back from a URI to a model folder.

Everything else in the package works without MLflow; it is imported when one of these functions runs.
"""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from poverty_risk.exceptions import Fault, ModelFolderError, PovertyRiskError
from poverty_risk.model_folder import MANIFEST
from poverty_risk.tracking.alias import read_alias
from poverty_risk.tracking.connection import (
    check_writable,
    find_experiment,
    open_store,
    resolve_uri,
    sqlite_file,
)
from poverty_risk.tracking.record import TrainingRecord

__all__ = ["LoggedTraining", "download_model_folder", "log_training"]

MODEL_NAME = "model"
MOST_PARAMS = 100
"""Parameters that MLflow takes in one call."""

LONGEST_PARAM = 6_000
"""Characters that MLflow keeps of a parameter."""

REQUIRED = ("poverty-risk", "mlflow", "lightgbm", "numpy", "pandas", "scikit-learn", "duckdb")


@dataclass(frozen=True)
class LoggedTraining:
    """Where a training was logged.

    Parameters
    ----------
    run_id
        MLflow run.
    model_uri
        What `predict_risk` and MLflow load: ``models:/<name>/<version>``, or
        ``models:/<model id>`` when it was not registered.
    version
        Registered version; None when it was not registered.
    tracking_uri
        The store.
    """

    run_id: str
    model_uri: str
    version: str | None
    tracking_uri: str


def log_training(
    record: TrainingRecord,
    experiment: str = "poverty-risk",
    registered_name: str | None = "poverty-risk",
    alias: str | None = "champion",
    *,
    rival_alias: str | None = None,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> LoggedTraining:
    """Log a training to MLflow and register its model.

    Parameters
    ----------
    record
        From `record_training`.
    experiment
        Experiment; made when it is not there.
    registered_name
        Registered model that gets a new version; None registers nothing.
    alias
        Alias that the new version gets, such as ``"champion"``; None leaves aliases as they are.
    rival_alias
        Alias that it gets instead where a version has `alias` already; None: `alias` moves.
    tracking_uri
        MLflow store. By default ``MLFLOW_TRACKING_URI``; if that is not set, a SQLite database in
        `store_folder`, with the artifacts beside it.
    store_folder
        Folder of that database; the current folder by default.

    Returns
    -------
    LoggedTraining
        Run, version and store.

    Raises
    ------
    PovertyRiskError
        The store cannot be written, or MLflow refuses; a run that had begun is marked as failed. The
        model folder of the record is not touched.

    Notes
    -----
    The run carries what the record holds and nothing else: no user, no path of a script. MLflow's
    usage reports to its makers are switched off unless ``MLFLOW_DISABLE_TELEMETRY`` says otherwise.
    The registered model is a copy of the model folder and of ``serving/pyfunc_model.py``; it holds
    no pickle and loads with ``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false``.

    Examples
    --------
    A store that cannot be written is told before anything is logged:

    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from poverty_risk import log_training
    >>> from poverty_risk.tracking import TrainingRecord
    >>> record = TrainingRecord(Path("models/any_12mo"), pd.DataFrame({"income": [0.5, 2.0]}))
    >>> log_training(record, tracking_uri="sqlite:////dev/null/mlflow.db")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.PovertyRiskError: MLflow experiment 'poverty-risk': found ...

    Otherwise ``log_training(record_training(model, folder, evaluation))`` gives the version:
    ``models:/poverty-risk/1``.
    """
    place = f"MLflow experiment '{experiment}'"
    uri = resolve_uri(tracking_uri, store_folder)
    if (database := sqlite_file(uri)) is not None:
        check_writable(database, place)
    with open_store(uri, place, PovertyRiskError) as mlflow:
        client = mlflow.MlflowClient()
        run = client.create_run(
            find_experiment(client, experiment, uri),
            tags=dict(record.tags),
            run_name=f"{record.tags.get('label', MODEL_NAME)} {record.tags['model_id']}",
        )
        run_id = run.info.run_id
        try:
            _log_values(mlflow, client, run_id, record)
            model_id = _log_model(mlflow, client, run.info, record)
            model_uri, version = f"models:/{model_id}", None
            if registered_name is not None:
                version = _register(
                    mlflow, client, model_uri, registered_name, (alias, rival_alias)
                )
                model_uri = f"models:/{registered_name}/{version}"
        except BaseException:
            # A store that is gone cannot be told; what went wrong first is what the caller must see.
            with contextlib.suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    return LoggedTraining(run_id, model_uri, version, uri)


def _log_values(mlflow: Any, client: Any, run_id: str, record: TrainingRecord) -> None:
    params = [
        mlflow.entities.Param(name, value[:LONGEST_PARAM]) for name, value in record.params.items()
    ]
    for start in range(0, len(params), MOST_PARAMS):
        client.log_batch(run_id, params=params[start : start + MOST_PARAMS])
    for name, value in record.metrics.items():
        client.log_metric(run_id, name, float(value))
    for name, table in record.tables.items():
        client.log_text(run_id, table.to_csv(), f"tables/{name}.csv")
    for name, content in record.documents.items():
        client.log_dict(run_id, content, f"{name}.json")
    for name, figure in record.figures.items():
        client.log_figure(run_id, figure, f"figures/{name}.png")


def _log_model(mlflow: Any, client: Any, run: Any, record: TrainingRecord) -> str:
    """Log the pyfunc model; its id."""
    # Made by hand, because MLflow's own way adds user and script to its tags.
    logged = client.create_logged_model(
        run.experiment_id,
        name=MODEL_NAME,
        source_run_id=run.run_id,
        tags=dict(record.tags),
        params={name: value[:LONGEST_PARAM] for name, value in record.params.items()},
    )
    code = resources.files("poverty_risk") / "serving" / "pyfunc_model.py"
    with tempfile.TemporaryDirectory(prefix="poverty-risk-") as workplace:
        # Copied, because MLflow writes down where it found them: the user's own folders are not to be
        # read in a store that others see.
        python_model = shutil.copy(str(code), workplace)
        model_folder = shutil.copytree(record.model_folder, Path(workplace, "model"))
        mlflow.models.Model.log(
            artifact_path=None,
            name=MODEL_NAME,
            flavor=mlflow.pyfunc,
            run_id=run.run_id,
            model_id=logged.model_id,
            python_model=python_model,
            artifacts={"model_folder": str(model_folder)},
            signature=_signature(mlflow, record),
            input_example=record.input_example,
            # Given, so that MLflow does not start processes to find them out.
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in REQUIRED],
        )
    return str(logged.model_id)


def _signature(mlflow: Any, record: TrainingRecord) -> Any:
    types, columns = mlflow.types, []
    for name, kind in record.input_example.dtypes.items():
        number = kind.kind == "f"
        # A category may come as text or as a pandas category; MLflow's string refuses the latter.
        declared = types.DataType.double if number else types.schema.AnyType()
        columns.append(types.schema.ColSpec(declared, str(name), required=False))
    texts = types.schema.Array(types.DataType.string)
    answer = {"risk": types.DataType.double, "tier": types.DataType.string}
    answer |= {"margin": types.DataType.double, "reasons": texts, "protective_factors": texts}
    params = [
        types.ParamSpec("locale", types.DataType.string, "zh"),
        types.ParamSpec("reasons", types.DataType.boolean, True),
    ]
    return mlflow.models.ModelSignature(
        inputs=types.Schema(columns),
        outputs=types.Schema([types.schema.ColSpec(kind, name) for name, kind in answer.items()]),
        params=types.ParamSchema(params),
    )


def _register(
    mlflow: Any, client: Any, model_uri: str, name: str, aliases: tuple[str | None, str | None]
) -> str:
    # MLflow prints what it did; the caller gets it as a value.
    with contextlib.redirect_stderr(io.StringIO()):
        version = str(mlflow.register_model(model_uri, name).version)
    alias, rival = aliases
    if alias is not None and rival is not None and read_alias(client, name, alias) is not None:
        alias = rival
    if alias is not None:
        client.set_registered_model_alias(name, alias, version)
    return version


def download_model_folder(
    uri: str, *, tracking_uri: str | None = None, store_folder: str | Path | None = None
) -> Path:
    """Find the model folder that an MLflow URI stands for.

    Parameters
    ----------
    uri
        ``models:/<name>@<alias>``, ``models:/<name>/<version>``, ``models:/<model id>`` or
        ``runs:/<run id>/<path>``.
    tracking_uri, store_folder
        Where to look, as in `log_training`.

    Returns
    -------
    Path
        A local folder with ``manifest.json``. Of a store on this machine it is the store's own
        folder: do not change it. From a server it is downloaded once per process and version.

    Raises
    ------
    ModelFolderError
        No such store, model, version, alias or run, or it holds no model folder.
    """
    if not uri.startswith(("models:/", "runs:/")):
        raise ModelFolderError(
            Fault("model URI", f"'{uri}'", "models:/... or runs:/...", "Correct the URI.")
        )
    store = resolve_uri(tracking_uri, store_folder)
    database = sqlite_file(store)
    if database is not None and not database.is_file():
        # MLflow would make an empty database here.
        raise ModelFolderError(
            Fault(
                f"'{uri}'",
                f"no MLflow store {store}",
                "the store that the model was registered in",
                "Set MLFLOW_TRACKING_URI.",
            )
        )
    with open_store(store, f"'{uri}'", ModelFolderError) as mlflow:
        folder = _download(mlflow, store, _pin(mlflow, uri))
    manifests = sorted(folder.rglob(MANIFEST))
    if len(manifests) != 1:
        raise ModelFolderError(
            Fault(
                f"'{uri}'",
                f"{len(manifests)} files {MANIFEST}",
                "a model that was logged by poverty_risk",
                "Check the URI; other MLflow models cannot be used here.",
            )
        )
    return manifests[0].parent


def _pin(mlflow: Any, uri: str) -> str:
    """The URI with its alias replaced by the version that has it now."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if uri.startswith("runs:/") or not at:
        return uri
    version = mlflow.MlflowClient().get_model_version_by_alias(unquote(name), unquote(alias))
    return f"models:/{name}/{version.version}"


def _download(mlflow: Any, store: str, uri: str) -> Path:
    if sqlite_file(store) is not None or uri.endswith("/latest"):
        return Path(mlflow.artifacts.download_artifacts(uri))
    folder = Path(_make_download_folder(store, uri).name)
    if not any(folder.rglob(MANIFEST)):
        mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
    return folder


@functools.cache
def _make_download_folder(store: str, uri: str) -> tempfile.TemporaryDirectory[str]:
    """One folder per process and version; it goes away with the process."""
    del store, uri  # they are the key of the cache
    return tempfile.TemporaryDirectory(prefix="poverty-risk-")
