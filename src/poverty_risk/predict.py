"""The door for other programs: history tables in, one answer per household out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.cohort import review_cohort
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.explain import explain_risk
from poverty_risk.features import build_features
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.model_folder import MANIFEST
from poverty_risk.reasons import build_reasons, find_data_gaps, texts, usually_known
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import parse_as_of_dates
from poverty_risk.wording import load_locale

__all__ = ["load_model", "predict_risk", "task_of"]

logger = logging.getLogger(__name__)

COLUMNS = (
    "as_of_date",
    "status",
    "status_reason",
    "risk",
    "rank",
    "tier",
    "margin",
    "reasons",
    "protective_factors",
    "data_gaps",
    "model_id",
)

FEWEST_KNOWN = 0.5
"""Below this share of the usually known features a risk would describe the gaps, not the household."""


def predict_risk(
    tables: HistoryTables,
    *,
    as_of_date: str | pd.Timestamp,
    model: RiskModel | str | Path,
    households: Iterable[str] | None = None,
    locale: str = "zh",
    explain: bool = True,
) -> pd.DataFrame:
    """Predict each household's risk from its history, with reasons in words.

    Parameters
    ----------
    tables
        The history. Only what was known before `as_of_date` is used.
    as_of_date
        The day on which the horizon begins.
    model
        A model folder, a loaded `RiskModel`, or an MLflow URI such as
        ``models:/poverty-risk@champion``.
    households
        Ids to answer for; all households of the history by default.
    locale
        Language of the texts: ``"zh"`` or ``"en"``.
    explain
        Whether reasons are given; without them it is faster.

    Returns
    -------
    DataFrame
        One row per asked household, index ``household_id``; the highest risk first, then those
        without a risk.

        as_of_date : the date.
        status : ``ok``, ``insufficient_data``, ``unknown_household``, ``not_in_cohort``,
            ``rejected_records``.
        status_reason : why, in words; missing when ``ok``.
        risk : calibrated probability in [0, 1] within the model's horizon; missing unless ``ok``.
        rank : 1 for the highest risk of this answer; equal risks share the lowest rank.
        tier : ``red``, ``orange``, ``yellow`` or ``green``, by thresholds kept with the model.
        margin : log-odds before calibration.
        reasons : list of str, at most four, what is associated with a higher risk.
        protective_factors : list of str, at most two, what is associated with a lower risk.
        data_gaps : list of str, what is missing and worth asking for.
        model_id : the model that answered.

    Raises
    ------
    DeclarationError
        The date, the language or the model's task is not usable.
    ModelFolderError
        The model folder is damaged or foreign.
    FeatureError
        The history is of another schema than the model's.

    Notes
    -----
    The risk may only add visits. It decides no benefit and appraises no one.

    Examples
    --------
    >>> from poverty_risk import make_household_history, predict_risk
    >>> tables = make_household_history(300, seed=1).tables
    >>> predict_risk(tables, as_of_date="2024-01-01", model="models/missing")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.ModelFolderError: model folder 'missing': found no manifest.json; ...
    """
    words = load_locale(locale)
    as_of = parse_as_of_dates(as_of_date)
    if len(as_of) != 1:
        raise DeclarationError(
            Fault("as_of_date", f"{len(as_of)} dates", "one date", "Call it once per date.")
        )
    loaded = load_model(model)
    task = task_of(loaded)
    _check_schema(tables, task)
    if tables.line is None and task.line is not None:
        tables = tables.with_line(task.line)
    asked = tables.households if households is None else _unique(households)
    reviewed = review_cohort(tables, as_of, task.cohort, asked)
    answer = _blank_answer(asked, as_of[0], loaded)
    _tell_excluded(answer, reviewed, tables, words)
    members = reviewed.index[reviewed["exclusion"].isna()]
    if len(members):
        _answer_members(answer, tables, pd.DataFrame(index=members), loaded, words, locale, explain)
    answer["rank"] = answer["risk"].rank(method="min", ascending=False).astype("Int64")
    # Equal risks in a fixed order, so that the same history gives the same table.
    return answer.sort_values("risk", ascending=False, kind="stable", na_position="last")


def _unique(households: Iterable[str]) -> np.ndarray:
    if isinstance(households, str):
        households = [households]
    return np.array(sorted({str(household) for household in households}), dtype=object)


def task_of(model: RiskModel) -> PredictionTask:
    """What a model predicts, or an error when it was trained without saying so."""
    if model.task is None or model.catalog is None:
        raise DeclarationError(
            Fault(
                "model",
                "no task or no feature catalogue",
                "a model that knows its schema, cohort, label and features",
                "Train it with RiskModel(catalog=..., task=...).",
            )
        )
    return model.task


def _check_schema(tables: HistoryTables, task: PredictionTask) -> None:
    if tables.schema.name != task.schema.name:
        raise FeatureError(
            Fault(
                "history tables",
                f"schema '{tables.schema.name}'",
                f"schema '{task.schema.name}', which the model was trained on",
                "Use the model of this archive.",
            )
        )


def _blank_answer(asked: np.ndarray, as_of: pd.Timestamp, model: RiskModel) -> pd.DataFrame:
    size = len(asked)
    answer = pd.DataFrame(
        {
            "as_of_date": as_of,
            "status": pd.Series(["unknown_household"] * size, dtype="str"),
            "status_reason": pd.Series([None] * size, dtype="str"),
            "risk": np.full(size, np.nan),
            "rank": pd.array([pd.NA] * size, dtype="Int64"),
            "tier": pd.Series([None] * size, dtype="str"),
            "margin": np.full(size, np.nan),
            "reasons": [[] for _ in range(size)],
            "protective_factors": [[] for _ in range(size)],
            "data_gaps": [[] for _ in range(size)],
            "model_id": getattr(model, "model_id_", None) or "unsaved",
        },
        columns=list(COLUMNS),
    )
    answer.index = pd.Index(asked.astype(str), name="household_id")
    return answer


def _tell_excluded(
    answer: pd.DataFrame, reviewed: pd.DataFrame, tables: HistoryTables, words: dict[str, Any]
) -> None:
    """Say why households outside the cohort get no risk."""
    exclusion = reviewed["exclusion"].droplevel("as_of_date").reindex(answer.index)
    known = np.isin(answer.index.to_numpy(dtype=str), tables.households)
    excluded = exclusion.notna().to_numpy()
    answer.loc[~known, "status_reason"] = words["status_reasons"]["no_record"]
    outside = known & excluded
    answer.loc[outside, "status"] = "not_in_cohort"
    named = words["status_reasons"]
    answer.loc[outside, "status_reason"] = [
        named.get(code, named["other"].format(code=code)) for code in exclusion[outside]
    ]
    for household, (count, columns) in _find_rejected(tables, answer.index[excluded]).items():
        answer.loc[household, "status"] = "rejected_records"
        answer.loc[household, "status_reason"] = named["rejected"].format(
            count=count, columns=words["list_separator"].join(columns)
        )


def _find_rejected(tables: HistoryTables, households: pd.Index) -> dict[str, tuple[int, list[str]]]:
    """Households without a place in the cohort whose own archive record was rejected."""
    cohort_tables = {item.table for items in tables.schema.cohorts.values() for item in items}
    lines = tables.rejected
    lines = lines[lines["table"].isin(cohort_tables)]
    found: dict[str, tuple[int, list[str]]] = {}
    for name, faults in lines.groupby("table"):
        rows = tables.rejected_rows(str(name))
        if "household_id" not in rows:
            continue
        owner = rows.set_index("row")["household_id"].astype(str)
        owners = faults.assign(household=faults["row"].map(owner))
        for household, own in owners[owners["household"].isin(households)].groupby("household"):
            columns = sorted({f"{name}.{column or 'record'}" for column in own["column"]})
            found[str(household)] = (own["row"].nunique(), columns)
    return found


def _answer_members(
    answer: pd.DataFrame,
    tables: HistoryTables,
    members: pd.DataFrame,
    model: RiskModel,
    words: dict[str, Any],
    locale: str,
    explain: bool,
) -> None:
    features = build_features(tables, members, model.catalog)
    usual = usually_known(model)
    missing = features[usual].isna().sum(axis=1).to_numpy()
    enough = missing <= (1 - FEWEST_KNOWN) * len(usual)
    ids = features.index.get_level_values("household_id").astype(str)
    answer.loc[ids, "status"] = np.where(enough, "ok", "insufficient_data")
    answer.loc[ids[~enough], "status_reason"] = [
        words["status_reasons"]["too_little"].format(missing=count, total=len(usual))
        for count in missing[~enough]
    ]
    gaps = pd.Series(find_data_gaps(features, model, locale), index=ids, dtype=object)
    answer.loc[ids, "data_gaps"] = gaps
    features, ids = features[enough], ids[enough]
    if not len(features):
        return
    if explain:
        explanation = explain_risk(model, features)
        margin, risk = explanation.margin, explanation.risk
        reasons = build_reasons(explanation, model, locale)
        raising = [texts(items, raises=True) for items in reasons]
        lowering = [texts(items, raises=False) for items in reasons]
        answer.loc[ids, "reasons"] = pd.Series(raising, index=ids, dtype=object)
        answer.loc[ids, "protective_factors"] = pd.Series(lowering, index=ids, dtype=object)
    else:
        margin = model.margin(features)
        risk = model.risk_of_margin(margin)
    answer.loc[ids, "margin"] = margin.to_numpy()
    answer.loc[ids, "risk"] = risk.to_numpy()
    answer.loc[ids, "tier"] = model.tier(risk).to_numpy()


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
    """
    if isinstance(model, RiskModel):
        return model
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
