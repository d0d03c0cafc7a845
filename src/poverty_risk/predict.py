"""The door for other programs: history tables in, one answer per household out."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from poverty_risk.cohort import review_cohort
from poverty_risk.data_gaps import find_data_gaps, usually_known
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError, HistoryError
from poverty_risk.explain import explain_risk
from poverty_risk.features import build_features
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.model_folder import MANIFEST
from poverty_risk.reasons import build_reasons, texts
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import parse_as_of_dates
from poverty_risk.wording import load_locale

__all__ = ["load_model", "predict_risk", "task_of"]

logger = logging.getLogger(__name__)

FEWEST_KNOWN = 0.5
"""Below this share of the usually known features a risk would describe the gaps, not the household.
Only features that are missing when nothing is known count: a number of visits of 0 tells nothing."""

NOBODY = ""
"""An id that no record can have."""

LATE_DAYS = 92
"""Days between the end of the history and the as-of date from which on feeds are surely missing."""

STALE_DAYS = 456
"""Days after which even the yearly accounts are missing (a year, and a quarter until they are known);
counts over an empty year are 0, so that every household would look untroubled."""

MOST_FAILURES = 20
"""So many failures without a single answer are no matter of single households."""


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
        Ids to answer for, each answered once; all households of the history by default.
    locale
        Language of the texts: ``"zh"`` or ``"en"``.
    explain
        Whether reasons are given; without them it is faster.

    Returns
    -------
    DataFrame
        One row per asked household, index ``household_id``; the highest risk first, equal risks by
        margin, then those without a risk.

        as_of_date : the date.
        status : ``ok``, ``insufficient_data``, ``unknown_household``, ``not_in_cohort``,
            ``rejected_records``, or ``error`` when a computation failed on what is on record.
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
        The date (none, several, or long after the end of the history), the language or the model's
        task is not usable.
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
    return predict_with_features(
        tables,
        as_of_date=as_of_date,
        model=model,
        households=households,
        locale=locale,
        explain=explain,
    )[0]


def predict_with_features(
    tables: HistoryTables,
    *,
    as_of_date: str | pd.Timestamp,
    model: RiskModel | str | Path,
    households: Iterable[str] | None = None,
    locale: str = "zh",
    explain: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`predict_risk`, and the features that it stands on, for a visit round to go on with.

    Parameters
    ----------
    tables, as_of_date, model, households, locale, explain
        See `predict_risk`.

    Returns
    -------
    answer : DataFrame
        See `predict_risk`.
    features : DataFrame
        Of all households with status ``ok`` or ``insufficient_data``, index
        (household_id, as_of_date), sorted by household.
    """
    words = load_locale(locale)
    as_of = _parse_date(as_of_date, tables)
    loaded = load_model(model)
    task = task_of(loaded)
    _check_schema(tables, task)
    if tables.line is None and task.line is not None:
        tables = tables.with_line(task.line)
    asked = tables.households if households is None else _unique(households)
    question = _Question(tables, as_of, loaded, task, locale, words, explain)
    answer, features = _answer_each(question, asked)
    answer["rank"] = answer["risk"].rank(method="min", ascending=False).astype("Int64")
    # Calibration may give many households one risk; their margins still differ. What is equal in both
    # keeps the order of the ids, so that the same history gives the same table.
    answer = answer.sort_index(kind="stable")
    answer = answer.sort_values(["risk", "margin"], ascending=False, kind="stable")
    return answer, features.sort_index(kind="stable")


def _parse_date(as_of_date: str | pd.Timestamp, tables: HistoryTables) -> pd.DatetimeIndex:
    as_of = parse_as_of_dates(as_of_date)
    if len(as_of) != 1:
        raise DeclarationError(
            Fault("as_of_date", f"{len(as_of)} dates", "one date", "Call it once per date.")
        )
    days = (as_of[0] - tables.observed_to).days
    if days > STALE_DAYS:
        raise DeclarationError(
            Fault(
                "as_of_date",
                f"{as_of[0].date()}, {days:,} days after the end of the history",
                f"at most {STALE_DAYS} days after {tables.observed_to.date()}",
                "Bring newer tables, or give an earlier date.",
            )
        )
    if days > LATE_DAYS:
        logger.warning("The history ends %d days before the as-of date.", days)
    return as_of


def _unique(households: Iterable[str]) -> np.ndarray:
    if isinstance(households, str):
        households = [households]
    return np.array(sorted({str(household) for household in households}), dtype=object)


def task_of(model: RiskModel) -> PredictionTask:
    """What a fitted model predicts, or an error when it was trained without saying so."""
    check_is_fitted(model)
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


@dataclasses.dataclass(frozen=True)
class _Question:
    """What is asked, but for which households."""

    tables: HistoryTables
    as_of: pd.DatetimeIndex
    model: RiskModel
    task: PredictionTask
    locale: str
    words: dict[str, Any]
    explain: bool

    def answer(self, asked: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One row per household, in the order of `asked`; and the features of those in the cohort."""
        answer = self._blank(asked)
        reviewed = review_cohort(self.tables, self.as_of, self.task.cohort, asked)
        exclusion = reviewed["exclusion"].droplevel("as_of_date").reindex(answer.index)
        known = np.isin(answer.index.to_numpy(dtype=str), self.tables.households)
        self._tell_excluded(answer, exclusion, known)
        members = answer.index[known & exclusion.isna().to_numpy()]
        return answer, self._fill_members(answer, members)

    def answer_alone(self, asked: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The same from the records of these households alone."""
        chosen = self.tables.select_households(asked)
        return dataclasses.replace(self, tables=chosen).answer(asked)

    def tell_failed(self, asked: np.ndarray) -> pd.DataFrame:
        """Rows that say that nothing could be computed."""
        reason = self.words["status_reasons"]["failed"]
        return self._blank(asked).assign(status="error", status_reason=reason)

    def _blank(self, asked: np.ndarray) -> pd.DataFrame:
        size = len(asked)

        def empty_lists() -> pd.Series:
            return pd.Series([[] for _ in range(size)], dtype=object)

        answer = pd.DataFrame(
            {
                "as_of_date": self.as_of.repeat(size),
                "status": pd.Series(["unknown_household"] * size, dtype="str"),
                "status_reason": pd.Series([None] * size, dtype="str"),
                "risk": np.full(size, np.nan),
                "rank": pd.array([pd.NA] * size, dtype="Int64"),
                "tier": pd.Series([None] * size, dtype="str"),
                "margin": np.full(size, np.nan),
                "reasons": empty_lists(),
                "protective_factors": empty_lists(),
                "data_gaps": empty_lists(),
                "model_id": pd.Series(
                    [getattr(self.model, "model_id_", "unsaved")] * size, dtype="str"
                ),
            }
        )
        answer.index = pd.Index(asked.astype(str), dtype="str", name="household_id")
        return answer

    def _tell_excluded(self, answer: pd.DataFrame, exclusion: pd.Series, known: np.ndarray) -> None:
        """Say why households outside the cohort get no risk."""
        named = self.words["status_reasons"]
        answer.loc[~known, "status_reason"] = named["no_record"]
        outside = known & exclusion.notna().to_numpy()
        answer.loc[outside, "status"] = "not_in_cohort"
        answer.loc[outside, "status_reason"] = [
            named.get(code, named["other"].format(code=code)) for code in exclusion[outside]
        ]
        rejected = _find_rejected(self.tables, exclusion.dropna(), self.task)
        for household, (count, columns) in rejected.items():
            answer.loc[household, "status"] = "rejected_records"
            answer.loc[household, "status_reason"] = named["rejected"].format(
                count=count, columns=self.words["list_separator"].join(columns)
            )

    def _fill_members(self, answer: pd.DataFrame, members: pd.Index) -> pd.DataFrame:
        points = pd.MultiIndex.from_product(
            [[*members, NOBODY], self.as_of], names=["household_id", "as_of_date"]
        )
        features = build_features(self.tables, pd.DataFrame(index=points), self.model.catalog)
        features, blank = features.iloc[:-1], features.iloc[-1]
        telling = [name for name in usually_known(self.model) if pd.isna(blank[name])]
        missing = features[telling].isna().sum(axis=1).to_numpy()
        enough = missing <= (1 - FEWEST_KNOWN) * len(telling)
        answer.loc[members, "status"] = np.where(enough, "ok", "insufficient_data")
        answer.loc[members[~enough], "status_reason"] = [
            self.words["status_reasons"]["too_little"].format(missing=count, total=len(telling))
            for count in missing[~enough]
        ]
        gaps = find_data_gaps(features, self.model, self.locale)
        answer.loc[members, "data_gaps"] = pd.Series(gaps, index=members, dtype=object)
        if enough.any():
            self._fill_risks(answer, members[enough], features[enough])
        return features

    def _fill_risks(self, answer: pd.DataFrame, ids: pd.Index, features: pd.DataFrame) -> None:
        model = self.model
        if self.explain:
            explanation = explain_risk(model, features)
            margin, risk = explanation.margin, explanation.risk
            reasons = build_reasons(explanation, model, self.locale)
            for column, raises in (("reasons", True), ("protective_factors", False)):
                told = [texts(items, raises=raises) for items in reasons]
                answer.loc[ids, column] = pd.Series(told, index=ids, dtype=object)
        else:
            margin = model.margin(features)
            risk = model.risk_of_margin(margin)
        answer.loc[ids, "margin"] = margin.to_numpy()
        answer.loc[ids, "risk"] = risk.to_numpy()
        answer.loc[ids, "tier"] = model.tier(risk).to_numpy()


def _answer_each(question: _Question, asked: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All answers; where a computation fails, by halves, down to the households that make it fail."""
    try:
        return question.answer(asked)
    except (DeclarationError, HistoryError):
        raise  # about the whole history, not about a household
    except Exception as error:  # noqa: BLE001 - whatever one history does must not stop the others
        first = error
    answers: list[pd.DataFrame] = []
    features: list[pd.DataFrame] = []
    waiting = [asked]
    failures: Counter[str] = Counter()
    while waiting:
        ids = waiting.pop()
        try:
            alone = question.answer_alone(ids)
            answers.append(alone[0])
            features.append(alone[1])
        except Exception as error:  # noqa: BLE001 - as above
            if len(ids) > 1:
                half = len(ids) // 2
                waiting += [ids[half:], ids[:half]]
                continue
            failures[type(error).__name__] += 1
            answers.append(question.tell_failed(ids))
            if failures.total() == len(answers) == MOST_FAILURES:
                raise first from None
    # The kinds only: a message may quote what is on record.
    logger.warning(
        "%d of %d households could not be assessed: %s.",
        failures.total(),
        len(asked),
        ", ".join(f"{kind} ({count})" for kind, count in failures.items()) or "none alone",
    )
    return pd.concat(answers), pd.concat(features) if features else pd.DataFrame()


def _find_rejected(
    tables: HistoryTables, exclusion: pd.Series, task: PredictionTask
) -> dict[str, tuple[int, list[str]]]:
    """Households that fail a condition whose table had records of theirs that were rejected.

    Repeats and conflicts (faults without a column) are left out: one record of the fact was kept.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    lines = tables.rejected
    lines = lines[lines["column"] != ""]
    for condition in task.schema.cohorts[task.cohort]:
        own = exclusion.index[(exclusion == condition.reason).to_numpy()]
        faults = lines[lines["table"] == condition.table]
        rows = tables.rejected_rows(condition.table)
        if not len(own) or not len(faults) or "household_id" not in rows:
            continue
        owner = rows.set_index("row")["household_id"].astype(str)
        faults = faults.assign(household=faults["row"].map(owner))
        faults = faults[faults["household"].isin(own)]
        for household, mine in faults.groupby("household"):
            columns = sorted({f"{condition.table}.{column}" for column in mine["column"]})
            found[str(household)] = (mine["row"].nunique(), columns)
    return found


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
