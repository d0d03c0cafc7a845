"""Models from wherever they are kept: folders, MLflow, memory."""

from __future__ import annotations

import functools
from pathlib import Path

from poverty_risk.exceptions import DeclarationError, Fault
from poverty_risk.model import RiskModel
from poverty_risk.model_folder import MANIFEST

__all__ = ["load_model"]


def load_model(model: RiskModel | str | Path) -> RiskModel:
    """A model from a folder, an MLflow URI, or as it is.

    Parameters
    ----------
    model
        Folder, ``models:/...`` or ``runs:/...`` URI, or a fitted `RiskModel`.

    Returns
    -------
    RiskModel
        The model; a folder is read once per process while its manifest stays the same.

    Raises
    ------
    ModelFolderError
        The folder is damaged or foreign.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, load_model
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = model.fit(features, labels).save(f"{folder}/model")
    ...     loaded = load_model(f"{folder}/model")
    >>> bool((loaded.risk(features) == model.risk(features)).all())
    True
    """
    if isinstance(model, RiskModel):
        return model
    if not isinstance(model, str | Path):
        expected = "a model folder, an MLflow URI or a RiskModel"
        raise DeclarationError(Fault("model", type(model).__name__, expected, "Give one of them."))
    if str(model).startswith(("models:/", "runs:/")):
        # Only here: importing mlflow takes seconds, and a folder needs none of it.
        from poverty_risk.tracking import download_model_folder  # noqa: PLC0415

        return RiskModel.load(download_model_folder(str(model)))
    folder = Path(model)
    manifest = folder / MANIFEST
    stamp = manifest.stat().st_mtime_ns if manifest.is_file() else 0
    return _load_folder(str(folder.resolve()), stamp)


@functools.lru_cache(maxsize=4)
def _load_folder(folder: str, stamp: int) -> RiskModel:  # noqa: ARG001 - part of the cache key
    return RiskModel.load(folder)
