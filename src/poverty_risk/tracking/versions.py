"""Versions of a registered model: by number, alias, URI, or by the model that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poverty_risk.exceptions import Fault, ModelFolderError
from poverty_risk.tracking.alias import read_alias, read_if_there
from poverty_risk.tracking.connection import open_store, resolve_uri, sqlite_file

__all__ = ["RegisteredVersion", "find_registered", "find_version"]


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Parameters
    ----------
    name
        Registered model.
    version
        Its number, as text.
    uri
        What `load_model` reads: ``models:/<name>/<version>``.
    """

    name: str
    version: str

    @property
    def uri(self) -> str:
        """What `load_model` and `download_model_folder` read."""
        return f"models:/{self.name}/{self.version}"


def find_version(
    name: str,
    which: str,
    *,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> RegisteredVersion | None:
    """A version of a registered model by number, alias or URI.

    Parameters
    ----------
    name
        Registered model.
    which
        ``"3"``, ``"models:/<name>/3"``, ``"champion"`` or ``"models:/<name>@champion"``.
    tracking_uri, store_folder
        As in `log_training`.

    Returns
    -------
    RegisteredVersion or None
        The version; None when no version has this number or alias.

    Raises
    ------
    ModelFolderError
        No such store, or a URI of another model.

    Examples
    --------
    >>> from poverty_risk.tracking.versions import find_version
    >>> find_version("poverty-risk", "models:/other/3")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.ModelFolderError: 'models:/other/3': found a version of another model; ...
    """
    wanted = which
    if which.startswith("models:/"):
        wanted = which.removeprefix("models:/")
        if not wanted.startswith((f"{name}/", f"{name}@")):
            remedy = "Register the model under this name, or name it in the config."
            found = "a version of another model"
            raise ModelFolderError(Fault(f"'{which}'", found, f"one of '{name}'", remedy))
        wanted = wanted.removeprefix(name)[1:]
    uri = resolve_uri(tracking_uri, store_folder)
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        # MLflow would make an empty database here.
        remedy = "Train and register a model first, or set MLFLOW_TRACKING_URI."
        raise ModelFolderError(Fault(f"'{name}'", f"no MLflow store {uri}", "its store", remedy))
    with open_store(uri, f"'{name}', '{which}'", ModelFolderError) as mlflow:
        client = mlflow.MlflowClient()
        if wanted.isdigit():
            found = read_if_there(lambda: client.get_model_version(name, wanted))
            holder = None if found is None else str(found.version)
        else:
            holder = read_alias(client, name, wanted)
    return None if holder is None else RegisteredVersion(name, holder)


def find_registered(
    name: str,
    model_id: str,
    *,
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> RegisteredVersion | None:
    """The latest version of a registered model that holds this very model; None without any.

    Parameters
    ----------
    name
        Registered model.
    model_id
        ``model_id_`` of the model.
    tracking_uri, store_folder
        As in `log_training`.

    Returns
    -------
    RegisteredVersion or None
        The version.

    Examples
    --------
    >>> import tempfile
    >>> from poverty_risk.tracking.versions import find_registered
    >>> find_registered("poverty-risk", "0a1b", store_folder=tempfile.mkdtemp()) is None
    True
    """
    uri = resolve_uri(tracking_uri, store_folder)
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        return None
    with open_store(uri, f"'{name}'", ModelFolderError) as mlflow:
        client = mlflow.MlflowClient()
        versions = client.search_model_versions(f"name = '{name}'")
        for version in sorted(versions, key=lambda one: -int(one.version)):
            run = client.get_run(version.run_id) if version.run_id else None
            if run is not None and run.data.tags.get("model_id") == model_id:
                return RegisteredVersion(name, str(version.version))
    return None
