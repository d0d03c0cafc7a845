"""The door for other programs: history tables in, one answer per household out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from poverty_risk.answers import Answers, Asked, answer_each
from poverty_risk.cohort import find_exclusions
from poverty_risk.data_gaps import catalog_of
from poverty_risk.exceptions import DeclarationError, Fault, FeatureError
from poverty_risk.features import build_features
from poverty_risk.features.spec import ZERO_WHEN_EMPTY
from poverty_risk.kept_facts import keep_per_fit
from poverty_risk.loading import load_model
from poverty_risk.model import PredictionTask, RiskModel
from poverty_risk.model_columns import ModelRows
from poverty_risk.point_index import check_point_index
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import parse_as_of_dates
from poverty_risk.wording import load_locale

__all__ = [
    "predict_from_features",
    "predict_risk",
    "predict_with_features",
    "task_of",
    "tell_if_nobody",
]

logger = logging.getLogger(__name__)

LATE_DAYS = 92
"""Days between the end of the history and the as-of date from which on feeds are surely missing."""

STALE_DAYS = 456
"""Days after which even the yearly accounts are missing (a year, and a quarter until they are known);
counts over an empty year are 0, so that every household would look untroubled."""


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
        Whether reasons are given, and how sure each risk is; without them it is faster.

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
        risk_low, risk_high : a rough range of the risk (see `build_risk_intervals`: fewer risks lie
            within than its level says); missing without `explain`, and where the model tells none.
        unlike : what sets the household apart from all that the model learned from, whose risk is
            then a guess (see `find_unlike`); missing where nothing does, and without `explain`.

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
    part: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`predict_risk`, and the features that it stands on, for a visit round to go on with.

    Parameters
    ----------
    tables, as_of_date, model, households, locale, explain
        See `predict_risk`.
    part
        Whether these are some of a county's households, of which nobody need be in the cohort.

    Returns
    -------
    answer : DataFrame
        See `predict_risk`.
    features : DataFrame
        Of all households with status ``ok`` or ``insufficient_data``, index
        (household_id, as_of_date), sorted by household.
    """
    words = load_locale(locale)
    as_of = parse_date(as_of_date, tables.observed_to)
    loaded = load_model(model)
    task = task_of(loaded)
    _check_schema(tables, task)
    if tables.line is None and task.line is not None:
        tables = tables.with_line(task.line)
    asked = tables.households
    if households is not None:
        asked = _unique(households)
        # One household of a county must not cost a look at all of them.
        tables = tables.select_households(asked)
    question = _Question(tables, Asked(as_of, loaded, locale, words, explain), task)
    answers, features = answer_each(question, asked)
    answer = answers.to_frame()
    if households is None and not part:
        tell_if_nobody(answer["status"].value_counts(), as_of[0])
    return answer, features.sort_index(kind="stable")


def predict_from_features(
    features: pd.DataFrame,
    *,
    model: RiskModel | str | Path,
    locale: str = "zh",
    explain: bool = True,
) -> pd.DataFrame:
    """Predict risks from features that are ready, with reasons in words.

    For programs that keep features and ask often: the same answer as `predict_risk` in a fraction of
    the time. Whether a household belongs to the cohort is not looked at: ask for prediction points
    (see `build_prediction_points`) alone.

    Parameters
    ----------
    features
        From `build_features` with the model's catalogue, index (household_id, as_of_date), of one
        as-of date; columns are found by name.
    model, locale, explain
        See `predict_risk`.

    Returns
    -------
    DataFrame
        See `predict_risk`; status is ``ok`` or ``insufficient_data``.

    Raises
    ------
    FeatureError
        A feature of the model is missing, several as-of dates, or a household that comes twice.
    DeclarationError
        The language or the model's catalogue is not usable.
    ModelFolderError
        The model folder is damaged or foreign.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import Catalog, FeatureSpec, PredictionTask, RiskModel, load_schema
    >>> from poverty_risk import predict_from_features
    >>> wage = FeatureSpec(stem="wage", table="work", value="monthly_wage", aggregator="mean",
    ...                    lookback="365d", theme="work", direction=-1)
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({wage.name: np.linspace(0, 4000, 400)}, index=index)
    >>> labels = pd.Series((features[wage.name] < 500).astype(float), index=index)
    >>> model = RiskModel(Catalog([wage], "archive", "wages"),
    ...     PredictionTask(load_schema("archive"), "at_risk", "identified", "12mo", None),
    ...     n_estimators=9, calibration=None, early_stopping_rounds=None).fit(features, labels)
    >>> answer = predict_from_features(features.iloc[:1], model=model, locale="en")
    >>> answer["status"].tolist(), bool(answer["risk"].iloc[0] > labels.mean())
    (['ok'], True)
    """
    words = load_locale(locale)
    loaded = load_model(model)
    task_of(loaded)
    if not isinstance(features, pd.DataFrame):
        found = type(features).__name__
        raise FeatureError(Fault("features", found, "a DataFrame", "Use build_features."))
    as_of = check_point_index(features, "features")
    if len(as_of) > 1:
        raise FeatureError(
            Fault("features", "several as-of dates", "one", "Call it once per as-of date.")
        )
    ids = features.index.get_level_values("household_id").to_numpy(dtype=object)
    answers = Answers(ids, Asked(as_of, loaded, locale, words, explain))
    if len(ids):
        rows = loaded.columns_.read(features, pd.RangeIndex(len(ids)))
        answers.assess(np.arange(len(ids)), rows, _find_absent(rows, loaded))
    return answers.to_frame()


def _find_absent(rows: ModelRows, model: RiskModel) -> set[str]:
    """Tables that were not there: what is 0 where nothing happened is missing for everybody."""
    places, tables, further = _find_owners(model)
    missing = np.flatnonzero(rows.missing[:, places].all(axis=0))
    absent = {tables[number] for number in missing}
    looked_at: set[str] = set()
    for name, table in further.items():
        if table not in looked_at and name in rows.given.columns:
            looked_at.add(table)
            absent |= {table} if rows.given[name].isna().to_numpy().all() else set()
    return absent


@keep_per_fit
def _find_owners(model: RiskModel) -> tuple[list[int], list[str], dict[str, str]]:
    """Features that are 0 where nothing happened: positions in the model, and the table of each.

    And tables, by name, of ingredients whose table no column of the model tells about.
    """
    specs = catalog_of(model).specs
    owners = {spec.name: str(spec.table) for spec in specs if spec.aggregator in ZERO_WHEN_EMPTY}
    names = [name for name in owners if name in model.columns_.places]
    tables = [owners[name] for name in names]
    further = {name: table for name, table in owners.items() if table not in tables}
    return [model.columns_.places[name] for name in names], tables, further


def tell_if_nobody(statuses: pd.Series, as_of_date: str | pd.Timestamp) -> None:
    """Warn where nobody of a county is in the cohort: a mistyped year would read as one without risk.

    Parameters
    ----------
    statuses
        Number of households by status.
    as_of_date
        The date asked for.
    """
    found = set(statuses.index[statuses > 0])
    if "not_in_cohort" in found and not found & {"ok", "insufficient_data", "error"}:
        logger.warning(
            "None of %s households is in the cohort on %s: is the date right?",
            f"{int(statuses.sum()):,}",
            pd.Timestamp(as_of_date).date(),
        )


def parse_date(as_of_date: str | pd.Timestamp, observed_to: pd.Timestamp) -> pd.DatetimeIndex:
    """The one as-of date that is asked for, not too long after the end of a history."""
    as_of = parse_as_of_dates(as_of_date)
    if len(as_of) != 1:
        raise DeclarationError(
            Fault("as_of_date", f"{len(as_of)} dates", "one date", "Call it once per date.")
        )
    days = (as_of[0] - observed_to).days
    if days > STALE_DAYS:
        raise DeclarationError(
            Fault(
                "as_of_date",
                f"{as_of[0].date()}, {days:,} days after the end of the history",
                f"at most {STALE_DAYS} days after {observed_to.date()}",
                "Bring newer tables, or give an earlier date.",
            )
        )
    if days > LATE_DAYS:
        logger.warning("The history ends %d days before the as-of date.", days)
    return as_of


def _unique(households: Iterable[str]) -> np.ndarray:
    if isinstance(households, str):
        households = [households]
    if not isinstance(households, Iterable):
        found = type(households).__name__
        raise DeclarationError(Fault("households", found, "an id, or several", "Give a list."))
    # Half a character, as JSON may hold one, would fail the answer of all: it is told as its escape.
    texts = (str(one).rstrip("\0") for one in households)
    ids = {text.encode(errors="backslashreplace").decode() for text in texts}
    return np.array(sorted(ids), dtype=object)


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
    """What is asked of which history."""

    tables: HistoryTables
    asked: Asked
    task: PredictionTask

    def answer(self, ids: np.ndarray) -> tuple[Answers, pd.DataFrame]:
        """Answers in the order of `ids`; and the features of those in the cohort."""
        answers = Answers(ids, self.asked)
        index = self._make_index(answers.ids)
        exclusion = pd.Series(find_exclusions(self.tables, index, self.task.cohort), answers.ids)
        known = np.isin(answers.ids, self.tables.households)
        self._tell_excluded(answers, exclusion, known)
        members = np.flatnonzero(known & exclusion.isna().to_numpy())
        points = pd.DataFrame(index=self._make_index(answers.ids[members]))
        features = build_features(self.tables, points, self.asked.model.catalog)
        answers.assess(members, features, self.tables.absent)
        return answers, features

    def _make_index(self, ids: np.ndarray) -> pd.MultiIndex:
        # The levels as they are: finding them again would cost more than the rest for one household.
        levels: list[Any] = [pd.Index(ids, dtype="str"), self.asked.as_of]
        codes: list[Any] = [np.arange(len(ids)), np.zeros(len(ids), dtype=np.intp)]
        return pd.MultiIndex(
            levels=levels,
            codes=codes,
            names=["household_id", "as_of_date"],
            verify_integrity=False,
        )

    def answer_alone(self, ids: np.ndarray) -> tuple[Answers, pd.DataFrame]:
        """The same from the records of these households alone."""
        chosen = self.tables.select_households(ids)
        return dataclasses.replace(self, tables=chosen).answer(ids)

    def tell_failed(self, ids: np.ndarray) -> Answers:
        """Rows that say that nothing could be computed."""
        return Answers.failed(ids, self.asked)

    def _tell_excluded(self, answers: Answers, exclusion: pd.Series, known: np.ndarray) -> None:
        """Say why households outside the cohort get no risk."""
        named = self.asked.words["status_reasons"]
        answers.tell(np.flatnonzero(~known), "unknown_household", named["no_record"])
        outside = np.flatnonzero(known & exclusion.notna().to_numpy())
        answers.tell_excluded(outside, exclusion.iloc[outside])
        if exclusion.notna().any():
            # Also of those of whom nothing else is on record.
            answers.tell_rejected(exclusion, self.task, self.tables.rejection.by_household)
