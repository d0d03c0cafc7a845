"""Contributions as words: which themes raise or lower a household's risk, and what is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poverty_risk.comparison import Comparison
from poverty_risk.data_gaps import catalog_of
from poverty_risk.explain import RiskExplanation
from poverty_risk.features.spec import FeatureSpec
from poverty_risk.kept_facts import keep_per_fit
from poverty_risk.model import RiskModel
from poverty_risk.model_columns import ModelRows
from poverty_risk.wording import (
    format_date,
    format_value,
    load_locale,
    write_sentence,
)

__all__ = [
    "Comparator",
    "HouseholdReasons",
    "Reason",
    "build_reasons",
    "is_about_health",
]

MOST_RAISING = 4
MOST_LOWERING = 2
"""At most four reasons that raise and two that lower: more is not read (domain notes, 5.1)."""

SMALLEST_SHARE = 0.02
"""A theme with less than this share of all movement is no reason."""

CARE = {"visits": "visit", "assistance": "assistance"}
"""Themes of reasons that say where care goes, and the table that tells of it."""

STABLE_SHARE = 0.8
"""A theme whose direction fewer refits on resampled villages share is left out, and counted."""

HEALTH_RISK_TYPES = frozenset({"illness", "disability"})
"""Reasons of these types tell of somebody's health: for cards only, never for lists (domain notes, 5.4)."""


@dataclass(frozen=True)
class Comparator:
    """What tells a reader whether a value is high or low.

    Parameters
    ----------
    kind
        ``own_year_before``, ``village_median``, ``township_median`` or ``typical`` (median of the
        training rows).
    value
        The value compared with.
    text
        Its clause in the asked language.
    """

    kind: str
    value: float | str
    text: str


@dataclass(frozen=True)
class Reason:
    """A theme that moves a household's risk, told by its strongest feature.

    Parameters
    ----------
    theme
        Theme of the catalogue.
    feature
        The feature of the theme that moves it most in this direction.
    raises
        Whether the theme raises the risk.
    contribution
        Sum over the theme, log-odds.
    points
        Its part of ``risk - base risk``, probability; over all themes they sum exactly.
    value
        Value of the feature; None when missing.
    comparators
        What it is compared with, most telling first.
    risk_type
        Official risk type that the feature points to.
    tables
        History tables that the feature is computed from.
    known_date
        When the office knew it; None when no record counts or nobody asked.
    agreement
        Share of refits that agree on the direction; None without refits.
    is_gap
        Whether the value is missing: then the reason is a data gap.
    is_health
        Whether it tells of somebody's health, and belongs on a card only.
    text
        The sentence in the asked language, with its comparators, without "associated with": its
        heading says that.
    source
        Source and date in the asked language.
    """

    theme: str
    feature: str
    raises: bool
    contribution: float
    points: float
    value: float | str | None
    comparators: tuple[Comparator, ...]
    risk_type: str
    tables: tuple[str, ...]
    known_date: pd.Timestamp | None
    agreement: float | None
    is_gap: bool
    is_health: bool
    text: str
    source: str


@dataclass(frozen=True)
class HouseholdReasons:
    """The reasons of one point.

    Parameters
    ----------
    raising
        At most four, strongest first.
    lowering
        At most two, strongest first.
    left_out
        Themes that would have been among them, but whose direction refits do not share.
    """

    raising: tuple[Reason, ...]
    lowering: tuple[Reason, ...]
    left_out: int = 0

    def __iter__(self) -> Iterator[Reason]:
        """Raising ones first."""
        yield from (*self.raising, *self.lowering)

    @property
    def risk_types(self) -> tuple[str, ...]:
        """Official risk types of what raises the risk, main one first; ``other`` only when alone."""
        # What nobody knows is no risk of an official type.
        told = [reason for reason in self.raising if not reason.is_gap]
        found = tuple(dict.fromkeys(reason.risk_type for reason in told))
        return tuple(kind for kind in found if kind != "other") or found[:1]


def build_reasons(
    explanation: RiskExplanation,
    model: RiskModel,
    locale: str = "zh",
    comparison: Comparison | None = None,
) -> list[HouseholdReasons]:
    """Rank the themes of each point and put them into words.

    Parameters
    ----------
    explanation
        From `explain_risk`; with ``agreement=True`` themes whose direction does not hold over refits
        on resampled villages are left out and counted.
    model
        The model that was explained; it carries catalogue and typical values.
    locale
        ``"zh"`` or ``"en"``.
    comparison
        From `build_comparison`, for the same points: the household's own value a year earlier, its
        village, and the date on which the office knew. Without it values are compared with the median
        of the training rows.

    Returns
    -------
    list of HouseholdReasons
        One per point, in the order of the explanation.

    Examples
    --------
    >>> from poverty_risk.reasons import MOST_RAISING
    >>> MOST_RAISING
    4
    """
    columns = list(explanation.themes)
    by_theme: dict[str, list[int]] = {}
    for position, theme in enumerate(explanation.themes.values()):
        by_theme.setdefault(theme, []).append(position)
    members = list(by_theme.values())
    writer = _Writer(explanation, model, locale, comparison)
    sums = explanation.theme_sums
    values, slope = explanation.values, explanation.slopes_to_base
    order = np.argsort(-sums, axis=1, kind="stable")
    floor = SMALLEST_SHARE * np.abs(sums).sum(axis=1)
    agreed = (
        None if explanation.agreement is None else explanation.agreement[list(by_theme)].to_numpy()
    )
    found = []
    for row in range(len(sums)):
        told: dict[bool, list[Reason]] = {True: [], False: []}
        left_out = 0
        for raises, most in ((True, MOST_RAISING), (False, MOST_LOWERING)):
            sign = 1 if raises else -1
            for theme in order[row][::sign]:
                total = float(sums[row, theme])
                if sign * total <= floor[row] or len(told[raises]) == most:
                    break
                share = None if agreed is None else float(agreed[row, theme])
                if share is not None and share < STABLE_SHARE:
                    left_out += 1
                    continue
                pushes = sign * values[row, members[theme]]
                strongest = [i for i in np.argsort(-pushes, kind="stable") if pushes[i] > 0]
                name = writer.choose([columns[members[theme][i]] for i in strongest], row)
                if not raises and writer.says_nothing_good(name, row):
                    continue
                points = total * float(slope[row])
                told[raises].append(writer.write(name, row, total, points, share))
        found.append(HouseholdReasons(tuple(told[True]), tuple(told[False]), left_out))
    return found


class _Writer:
    """Writes the sentence of a feature; keeps what is the same for all households."""

    def __init__(
        self,
        explanation: RiskExplanation,
        model: RiskModel,
        locale: str,
        comparison: Comparison | None,
    ) -> None:
        self.catalog, self.locale = catalog_of(model), locale
        self.locale_words = load_locale(locale)
        self.words = self.locale_words["reasons"]
        self.data = _Cells(explanation.rows)
        self.model = model
        self.schema = None if model.task is None else model.task.schema
        self.compared: dict[str, _Cells] = {}
        self.known: _Cells | None = None
        if comparison is not None:
            self.compared = {
                "own_year_before": _Cells(comparison.own),
                "village_median": _Cells(comparison.village),
                "township_median": _Cells(comparison.township),
            }
            self.known = _Cells(comparison.known)

    def choose(self, ranked: list[str], row: int) -> str:
        """The strongest feature that says something: it has a value, or one can ask for it."""
        for name in ranked:
            if not _is_missing(self.data.value(name, row)) or self._ask(name) is not None:
                return name
        return ranked[0]

    def says_nothing_good(self, name: str, row: int) -> bool:
        """Whether a lower risk goes with what nobody knows, or with nobody having looked."""
        spec = self.catalog[name]
        looks = spec.theme == "visits" and CARE["visits"] in self.catalog.tables_of(name)
        return _is_missing(self.data.value(name, row)) or (looks and spec.direction == 0)

    def _ask(self, name: str) -> str | None:
        words = self.catalog[name].words.get(self.locale)  # type: ignore[call-overload]
        return None if words is None else words.ask

    def write(
        self, name: str, row: int, total: float, points: float, agreement: float | None
    ) -> Reason:
        spec, value = self.catalog[name], self.data.value(name, row)
        missing, raises = _is_missing(value), total > 0
        comparators = () if missing else self._compare(spec, row)
        known = None if self.known is None else self.known.value(name, row)
        known = None if known is None or pd.isna(known) else pd.Timestamp(known)
        tables = self.catalog.tables_of(name)
        words = spec.words.get(self.locale)  # type: ignore[call-overload]
        return Reason(
            theme=spec.theme,
            feature=name,
            raises=raises,
            contribution=total,
            points=points,
            value=None if missing else value,
            comparators=comparators,
            risk_type=spec.risk_type,
            tables=tables,
            known_date=known,
            agreement=agreement,
            is_gap=missing and (words is None or words.ask is not None),
            is_health=is_about_health(spec),
            text=self._sentence(spec, value, raises, comparators),
            source=self._source(tables, known),
        )

    def _compare(self, spec: FeatureSpec, row: int) -> tuple[Comparator, ...]:
        if spec.kind == "flag" or spec.compare == "none":
            return ()
        shown = self._beside(self.data.value(spec.name, row), spec)
        found = []
        if spec.compare in ("own", "both"):
            own = self._clause("own_year_before", spec, row)
            # The same as a year ago tells nothing new.
            if own is not None and self._beside(own.value, spec) != shown:
                found.append(own)
        if spec.compare in ("place", "both"):
            # What is about a village is the same for all of it.
            alike = set(self.catalog.tables_of(spec.name)) == {"village"}
            kinds = ["township_median", "typical"]
            kinds = kinds if alike else ["village_median", *kinds]
            clauses = (self._clause(kind, spec, row) for kind in kinds)
            found += [clause for clause in clauses if clause is not None][:1]
        return tuple(found)

    def _clause(self, kind: str, spec: FeatureSpec, row: int) -> Comparator | None:
        value: Any
        if kind == "typical":
            return _tell_typical(self.model, spec.name, self.locale)
        cells = self.compared.get(kind)
        value = None if cells is None else cells.value(spec.name, row)
        return _tell_beside(kind, value, spec, self.locale)

    def _beside(self, value: Any, spec: FeatureSpec) -> str:
        return format_value(value, spec.unit, self.locale, beside=True)

    def _sentence(
        self, spec: FeatureSpec, value: Any, raises: bool, comparators: tuple[Comparator, ...]
    ) -> str:
        words = spec.words.get(self.locale)  # type: ignore[call-overload]
        if words is not None:
            sentence = write_sentence(
                words, value, spec.unit, self.locale, raises=raises, kind=spec.kind
            )
        else:
            template = self.words["gap" if _is_missing(value) else "plain"]
            sentence = str(template).format(
                label=spec.name, value=format_value(value, spec.unit, self.locale)
            )
        clauses = [item.text for item in comparators]
        if raises and self._tells_of_care(spec, value, comparators):
            clauses.append(str(self.words["cautions"][spec.theme]))
        if not clauses:
            return sentence
        told = str(self.words["separator"]).join(clauses)
        return f"{sentence}{self.words['open']}{told}{self.words['close']}"

    def _tells_of_care(
        self, spec: FeatureSpec, value: Any, comparators: tuple[Comparator, ...]
    ) -> bool:
        """Whether visits or help are told of, which go where trouble is, and read like its reason."""
        if CARE.get(spec.theme) not in self.catalog.tables_of(spec.name) or spec.direction != 0:
            return False
        if _is_missing(value):
            return False
        if spec.aggregator != "days_since_last":
            return bool(value != 0)
        # A visit longer ago than others' is none of those that trouble brings.
        return all(value <= item.value for item in comparators)

    def _source(self, tables: tuple[str, ...], known: pd.Timestamp | None) -> str:
        if self.schema is None:
            return ""
        words = self.locale_words["sources"]
        labels = [
            str(words.get(name) or self.schema.tables[name].label[self.locale]) for name in tables
        ]
        named = str(self.locale_words["list_separator"]).join(labels)
        if known is None:
            return str(self.words["source_alone"]).format(source=named)
        date = format_date(known, self.locale, "month")
        return str(self.words["source"]).format(source=named, date=date)


@keep_per_fit
def _tell_typical(model: RiskModel, name: str, locale: str) -> Comparator | None:
    """The clause about a feature's typical value, which is everybody's."""
    value = model.reference_.get(name, {}).get("median")
    return _tell_beside("typical", value, catalog_of(model)[name], locale)


def _tell_beside(kind: str, value: Any, spec: FeatureSpec, locale: str) -> Comparator | None:
    if _is_missing(value):
        return None
    told = format_value(value, spec.unit, locale, beside=True)
    return Comparator(kind, value, str(load_locale(locale)["reasons"][kind]).format(value=told))


class _Cells:
    """Values of a table one by one; a column is taken out when it is first asked for, and kept."""

    def __init__(self, table: pd.DataFrame | ModelRows) -> None:
        self.table = table
        self.columns: dict[str, np.ndarray | None] = {}

    def value(self, name: str, row: int) -> Any:
        """A value; None where there is no such column."""
        if name not in self.columns:
            self.columns[name] = self._take_out(name)
        column = self.columns[name]
        return None if column is None else column[row]

    def _take_out(self, name: str) -> np.ndarray | None:
        if isinstance(self.table, ModelRows):
            return self.table.values_of(name)
        if name not in self.table.columns:
            return None
        return np.array(self.table[name], dtype=object)


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)  # noqa: PLR0124 - NaN is unequal to itself


def is_about_health(spec: FeatureSpec) -> bool:
    """Whether a feature tells of somebody's health, whatever its words say."""
    return spec.theme == "health" or spec.risk_type in HEALTH_RISK_TYPES


def texts(reasons: Iterable[Reason], *, raises: bool) -> list[str]:
    """The sentences of one direction, in order."""
    return [reason.text for reason in reasons if reason.raises is raises]
