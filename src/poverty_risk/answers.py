"""An answer while it is worked out: one place per asked household, column by column."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from poverty_risk.data_gaps import find_data_gaps, find_missing, find_telling
from poverty_risk.exceptions import DeclarationError, HistoryError
from poverty_risk.explain import explain_risk
from poverty_risk.model import RiskModel
from poverty_risk.model_columns import ModelRows
from poverty_risk.reasons import build_reasons, texts
from poverty_risk.rejected import RejectedCounts
from poverty_risk.risk_intervals import find_ends, has_intervals
from poverty_risk.task import PredictionTask
from poverty_risk.unlike import describe_unlike

__all__ = ["Answers", "Asked", "Question", "answer_each"]

logger = logging.getLogger(__name__)

FEWEST_KNOWN = 0.5
"""Below this share of the usually known features a risk would describe the gaps, not the household.
Only features that are missing when nothing is known count: a number of visits of 0 tells nothing."""

MOST_FAILURES = 20
"""So many failures without a single answer are no matter of single households."""

TEXTS = ("status", "status_reason", "tier", "model_id", "unlike")
NUMBERS = ("risk", "margin", "risk_low", "risk_high")
LISTS = ("reasons", "protective_factors", "data_gaps")


@dataclass(frozen=True)
class Asked:
    """What is asked, but for which households.

    Parameters
    ----------
    as_of
        The as-of date, alone in its index.
    model
        A fitted model with a catalogue.
    locale
        Language of the texts.
    words
        Texts of that language.
    explain
        Whether reasons are given, and how sure a risk is.
    """

    as_of: pd.DatetimeIndex
    model: RiskModel
    locale: str
    words: dict[str, Any]
    explain: bool


class Answers:
    """Rows of `predict_risk` in the making, by position of the household in `ids`.

    Parameters
    ----------
    ids
        Ids of the asked households, each once.
    asked
        What is asked.
    """

    def __init__(self, ids: np.ndarray, asked: Asked) -> None:
        self.ids = ids.astype(str)
        self.asked = asked
        size = len(ids)
        self.columns: dict[str, np.ndarray] = {
            name: np.full(size, None, dtype=object) for name in (*TEXTS, *LISTS)
        }
        self.columns["status"][:] = "unknown_household"
        self.columns["model_id"][:] = getattr(asked.model, "model_id_", "unsaved")
        self.columns |= {name: np.full(size, np.nan) for name in NUMBERS}

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """Answers for several groups of households as one."""
        joined = cls(np.concatenate([part.ids for part in parts]), parts[0].asked)
        for name in joined.columns:
            joined.columns[name] = np.concatenate([part.columns[name] for part in parts])
        return joined

    @classmethod
    def failed(cls, ids: np.ndarray, asked: Asked) -> Answers:
        """Answers that say that nothing could be computed."""
        answers = cls(ids, asked)
        answers.tell(slice(None), "error", str(asked.words["status_reasons"]["failed"]))
        return answers

    def tell_excluded(self, at: np.ndarray, codes: Iterable[str]) -> None:
        """That households are outside the cohort, by the code of the condition that each fails."""
        named = self.asked.words["status_reasons"]
        for place, code in zip(at, codes, strict=True):
            self.tell(place, "not_in_cohort", named.get(code, named["other"].format(code=code)))

    def tell_rejected(
        self, exclusion: pd.Series, task: PredictionTask, rejected: RejectedCounts
    ) -> None:
        """That what would have put households into the cohort was rejected.

        Parameters
        ----------
        exclusion
            By position, the code of the condition that each household fails; missing for members.
        task
            Whose cohort.
        rejected
            What was rejected, by household.
        """
        tables: dict[str, list[str]] = {}
        for condition in task.schema.cohorts[task.cohort]:
            tables.setdefault(condition.reason, []).append(condition.table)
        template = str(self.asked.words["status_reasons"]["rejected"])
        for place in np.flatnonzero(exclusion.notna().to_numpy()):
            mine = rejected.get(self.ids[place], {})
            for name in tables.get(exclusion.iloc[place], ()):
                if name in mine:
                    count, columns = mine[name]
                    listed = self.asked.words["list_separator"].join(
                        f"{name}.{column}" for column in columns
                    )
                    reason = template.format(count=count, columns=listed)
                    self.tell(place, "rejected_records", reason)

    def tell(self, at: Any, status: str, reason: str) -> None:
        """A status, and why, for the households at some positions."""
        self.columns["status"][at] = status
        self.columns["status_reason"][at] = reason

    def assess(
        self, at: np.ndarray, features: pd.DataFrame | ModelRows, absent_tables: Collection[str]
    ) -> None:
        """Risk, reasons and data gaps of the households at some positions, from their features.

        Parameters
        ----------
        at
            Positions, in the order of the rows of `features`.
        features
            Features, one row per position; or rows that the model's columns have read.
        absent_tables
            Tables that the office does not have.
        """
        model, locale = self.asked.model, self.asked.locale
        telling = find_telling(model, self.asked.as_of[0], absent_tables)
        # Places are all that is asked of the rows, and an index of points is heavy to carry along.
        rows = model.columns_.read(features, pd.RangeIndex(len(features)))
        missing = find_missing(rows, model, telling).sum(axis=1)
        enough = missing <= (1 - FEWEST_KNOWN) * len(telling)
        template = str(self.asked.words["status_reasons"]["too_little"])
        self.columns["status"][at] = "ok"
        for place, count in zip(at[~enough], missing[~enough], strict=True):
            reason = template.format(missing=count, total=len(telling))
            self.tell(place, "insufficient_data", reason)
        self._put_lists("data_gaps", at, find_data_gaps(rows, model, locale))
        if enough.any():
            self._assess_known(at[enough], rows.take(enough))

    def _assess_known(self, at: np.ndarray, rows: ModelRows) -> None:
        model = self.asked.model
        if self.asked.explain:
            explanation = explain_risk(model, rows)
            margin, risk = explanation.margins, explanation.risks
            reasons = build_reasons(explanation, model, self.asked.locale)
            for column, raises in (("reasons", True), ("protective_factors", False)):
                self._put_lists(column, at, [texts(items, raises=raises) for items in reasons])
            self._put_doubts(at, rows, margin)
        else:
            margin = model.forest_.margins(rows.matrix)
            risk = model.calibrate(margin)
        self.columns["margin"][at] = margin
        self.columns["risk"][at] = risk
        self.columns["tier"][at] = model.find_tiers(risk)

    def _put_doubts(self, at: np.ndarray, rows: ModelRows, margin: np.ndarray) -> None:
        """Between what values each risk lies, and of whom the model knows nothing alike."""
        model = self.asked.model
        if has_intervals(model):
            ends = find_ends(model, rows.matrix, margin)
            self.columns["risk_low"][at], self.columns["risk_high"][at] = ends
        self.columns["unlike"][at] = describe_unlike(model, rows, self.asked.locale)

    def _put_lists(self, column: str, at: np.ndarray, lists: Sequence[list[str]]) -> None:
        # One by one: numpy would take lists of equal length for a matrix.
        for place, texts_of_one in zip(at, lists, strict=True):
            self.columns[column][place] = texts_of_one

    def to_frame(self) -> pd.DataFrame:
        """The table that `predict_risk` gives: the highest risk first."""
        # Calibration may give many households one risk; their margins still differ. What is equal in
        # both keeps the order of the ids, so that the same history gives the same table.
        order = np.lexsort((self.ids, -self.columns["margin"], -self.columns["risk"]))
        told: dict[str, Any] = {name: values[order] for name, values in self.columns.items()}
        # As one column: making five costs five times as much for one household.
        size, written = len(order), np.concatenate([told[name] for name in TEXTS])
        words = pd.array(written, dtype="str")
        told |= {name: words[at * size : (at + 1) * size] for at, name in enumerate(TEXTS)}
        for name in LISTS:
            for place in np.flatnonzero(told[name] == None):  # noqa: E711 - element by element
                told[name][place] = []
        columns = {
            "as_of_date": self.asked.as_of.repeat(len(order)),
            "status": told["status"],
            "status_reason": told["status_reason"],
            "risk": told["risk"],
            "rank": _rank(told["risk"]),
            "tier": told["tier"],
            "margin": told["margin"],
            **{name: told[name] for name in LISTS},
            "model_id": told["model_id"],
            "risk_low": told["risk_low"],
            "risk_high": told["risk_high"],
            "unlike": told["unlike"],
        }
        index = pd.Index(self.ids[order], dtype="str", name="household_id")
        return pd.DataFrame(columns, index=index, copy=False)


def _rank(risks: np.ndarray) -> pd.arrays.IntegerArray:
    """Place of each risk, the highest first; equal ones share the lowest place, none has none."""
    unknown = np.isnan(risks)
    places = np.searchsorted(-risks[~unknown], -risks, side="left") + 1
    return pd.arrays.IntegerArray(places.astype(np.int64), unknown)


class Question(Protocol):
    """What is asked, wherever features come from."""

    def answer(self, ids: np.ndarray) -> tuple[Answers, pd.DataFrame]:
        """Answers in the order of `ids`; and the features of those in the cohort."""

    def answer_alone(self, ids: np.ndarray) -> tuple[Answers, pd.DataFrame]:
        """The same from what is on record of these households alone."""

    def tell_failed(self, ids: np.ndarray) -> Answers:
        """Rows that say that nothing could be computed."""


def answer_each(question: Question, asked: np.ndarray) -> tuple[Answers, pd.DataFrame]:
    """All answers; where a computation fails, by halves, down to the households that make it fail."""
    try:
        return question.answer(asked)
    except (DeclarationError, HistoryError):
        raise  # about the whole history, not about a household
    except Exception as error:  # noqa: BLE001 - whatever one history does must not stop the others
        first = error
    answers: list[Answers] = []
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
    return Answers.join(answers), pd.concat(features) if features else pd.DataFrame()
