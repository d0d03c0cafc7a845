"""A fitted model as plain values and texts, and back: what a model folder holds.

The model stands above this module, so that it can use it; here it is any object with its attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poverty_risk.calibration import CalibrationSpread, load_calibrator
from poverty_risk.exceptions import Fault, ModelFolderError, PovertyRiskError
from poverty_risk.features.spec import parse_catalog
from poverty_risk.forest import Forest
from poverty_risk.model_columns import ModelColumns
from poverty_risk.model_folder import ModelFolder, read_model_folder
from poverty_risk.task import PredictionTask

__all__ = ["dump", "dump_declared", "load_folder", "restore", "restore_declared"]


def load_folder(folder: str | Path, restore: Callable[[ModelFolder], Any], writer: str) -> Any:
    """A model from its folder; `writer` names what should have written it.

    Raises
    ------
    ModelFolderError
        A file is missing, altered, foreign or of a newer format, or `restore` cannot use it.
    """
    content = read_model_folder(Path(folder))
    try:
        model = restore(content)
    except (KeyError, TypeError, ValueError, AttributeError, PovertyRiskError) as error:
        raise ModelFolderError(
            Fault(
                f"model folder '{Path(folder).name}'",
                f"a manifest that cannot be used ({type(error).__name__}: {error})"[:300],
                f"a manifest written by {writer}",
                "Copy the folder again from where it was trained.",
            )
        ) from None
    model.model_id_, model.extra_ = content.model_id, content.extra
    return model


def dump(model: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """All that decides a prediction or explains it: plain values, and texts by file name."""
    texts = _name_files("booster", model.forest_) | _name_files("refit", model.refits_)
    return _state(model), texts


def _state(model: Any) -> dict[str, Any]:
    return dump_declared(model) | {
        "calibrator": None if model.calibrator_ is None else model.calibrator_.to_dict(),
        "spread": None if model.spread_ is None else model.spread_.to_dict(),
        "tiers": model.tiers_,
        "reference": model.reference_,
        "training": model.training_,
    }


def dump_declared(model: Any) -> dict[str, Any]:
    """What every kind of model was declared with, and its columns."""
    catalog, task = model.catalog, model.task
    parameters = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in model.get_params(deep=False).items()
        if name not in ("catalog", "task")
    }
    return {
        "parameters": parameters,
        "columns": list(model.columns_.names),
        "categories": {name: list(codes) for name, codes in model.columns_.categories.items()},
        "catalog": None
        if catalog is None
        else {"schema": catalog.schema_name, "features": catalog.to_list()},
        "task": None if task is None else task.to_dict(),
    }


def _name_files(kind: str, forest: Forest | None) -> dict[str, str]:
    texts = [] if forest is None else forest.texts
    return {f"{kind}_{number}.txt": text for number, text in enumerate(texts)}


def restore(kind: Any, state: Mapping[str, Any], texts: Mapping[str, str]) -> Any:
    """A fitted model from what `dump` gave; any fault in it is an error of the usual Python kind."""
    model, columns = restore_declared(kind, state)
    model.classes_ = np.array([0, 1])
    model.set_columns(columns)
    calibrator = state["calibrator"]
    model.calibrator_ = None if calibrator is None else load_calibrator(calibrator)
    spread = state.get("spread")  # models of older versions have none
    model.spread_ = None if spread is None else CalibrationSpread.from_dict(spread)
    model.tiers_, model.reference_ = dict(state["tiers"]), dict(state["reference"])
    model.training_ = dict(state["training"])
    kept = {
        kind: [text for name, text in texts.items() if name.startswith(kind)]
        for kind in ("booster", "refit")
    }
    model.forest_ = Forest.from_texts(kept["booster"], state["columns"], model.n_jobs)
    model.refits_ = (
        Forest.from_texts(kept["refit"], state["columns"], model.n_jobs) if kept["refit"] else None
    )
    return model


def restore_declared(kind: Any, state: Mapping[str, Any]) -> tuple[Any, ModelColumns]:
    """An unfitted model and its columns from what `dump_declared` gave."""
    entries, task = state["catalog"], state["task"]
    catalog = None if entries is None else parse_catalog(entries, "model folder")
    restored_task = None if task is None else PredictionTask.from_dict(task, "model folder")
    model = kind(catalog, restored_task, **state["parameters"])
    if not isinstance(model.n_jobs, int):
        # It reaches LightGBM at the first prediction only.
        message = "n_jobs is no whole number"
        raise TypeError(message)
    categories = {name: tuple(codes) for name, codes in state["categories"].items()}
    return model, ModelColumns(tuple(state["columns"]), categories)
