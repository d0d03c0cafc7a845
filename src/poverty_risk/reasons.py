"""Contributions as words: which themes raise or lower a household's risk, and what is not known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from poverty_risk.explain import RiskExplanation
from poverty_risk.features.spec import Catalog, FeatureSpec
from poverty_risk.model import RiskModel
from poverty_risk.wording import format_horizon, format_value, load_locale

__all__ = ["Reason", "build_reasons", "describe_risk", "find_data_gaps"]

MOST_RAISING = 4
MOST_LOWERING = 2
"""At most four reasons that raise and two that lower: more is not read (domain notes, 5.1)."""

SMALLEST_SHARE = 0.02
"""A theme with less than this share of all movement is no reason."""

USUALLY_KNOWN = 0.10
"""A feature missing in at most this share of training rows is one that an office usually knows."""


@dataclass(frozen=True)
class Reason:
    """A theme that moves a household's risk.

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
        Share of ``risk - base risk``, probability.
    value
        Value of the feature; None when missing.
    typical
        Median of the feature in training; None for categories.
    risk_type
        Official risk type that the feature points to.
    is_gap
        Whether the value is missing: then the reason is a data gap.
    text
        The sentence in the asked language, without "associated with": its heading says that.
    """

    theme: str
    feature: str
    raises: bool
    contribution: float
    points: float
    value: float | str | None
    typical: float | None
    risk_type: str
    is_gap: bool
    text: str


def build_reasons(
    explanation: RiskExplanation, model: RiskModel, locale: str = "zh"
) -> list[list[Reason]]:
    """Rank the themes of each point and put them into words.

    Parameters
    ----------
    explanation
        From `explain_risk`.
    model
        The model that was explained; it carries catalogue and typical values.
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    list of list of Reason
        One list per point, in the order of the explanation: at most four themes that raise the risk,
        strongest first, then at most two that lower it.

    Examples
    --------
    >>> from poverty_risk.reasons import MOST_RAISING
    >>> MOST_RAISING
    4
    """
    catalog = _catalog_of(model)
    columns = list(explanation.contributions.columns)
    by_theme = explanation.by_theme
    themes = list(by_theme.columns)
    members = [[i for i, c in enumerate(columns) if explanation.themes[c] == t] for t in themes]
    values = explanation.contributions.to_numpy()
    sums = by_theme.to_numpy()
    order = np.argsort(-sums, axis=1, kind="stable")
    floor = SMALLEST_SHARE * np.abs(sums).sum(axis=1)
    slope = explanation.points_per_log_odd.to_numpy()
    data = {name: explanation.features[name].astype(object).to_numpy() for name in columns}
    writer = _Writer(catalog, model, locale)
    found = []
    for row in range(len(sums)):
        raising = [t for t in order[row] if sums[row, t] > floor[row]][:MOST_RAISING]
        lowering = [t for t in order[row][::-1] if sums[row, t] < -floor[row]][:MOST_LOWERING]
        reasons = []
        for theme in [*raising, *lowering]:
            total = float(sums[row, theme])
            pushes = values[row, members[theme]] * np.sign(total)
            strongest = [i for i in np.argsort(-pushes, kind="stable") if pushes[i] > 0]
            name = writer.choose([columns[members[theme][i]] for i in strongest], data, row)
            points = total * float(slope[row])
            reasons.append(writer.write(catalog[name], data[name][row], total, points))
        found.append(reasons)
    return found


class _Writer:
    """Writes the sentence of a feature; keeps what is the same for all households."""

    def __init__(self, catalog: Catalog, model: RiskModel, locale: str) -> None:
        self.catalog, self.locale = catalog, locale
        self.words = load_locale(locale)["reasons"]
        self.typical = {
            spec.name: model.reference_.get(spec.name, {}).get("median") for spec in catalog.specs
        }

    def choose(self, ranked: list[str], data: dict[str, Any], row: int) -> str:
        """The strongest feature that says something: it has a value, or one can ask for it."""
        for name in ranked:
            if not _is_missing(data[name][row]) or self._ask(name) is not None:
                return name
        return ranked[0]

    def _ask(self, name: str) -> str | None:
        words = self.catalog[name].words.get(self.locale)  # type: ignore[call-overload]
        return None if words is None else words.ask

    def write(self, spec: FeatureSpec, value: Any, total: float, points: float) -> Reason:
        missing = _is_missing(value)
        raises = total > 0
        typical = self.typical[spec.name]
        text = (
            self.words["gap"].format(label=spec.label(self.locale))
            if missing
            else self._sentence(spec, value, typical, raises)
        )
        return Reason(
            theme=spec.theme,
            feature=spec.name,
            raises=raises,
            contribution=total,
            points=points,
            value=None if missing else value,
            typical=typical,
            risk_type=spec.risk_type,
            is_gap=missing,
            text=text,
        )

    def _sentence(self, spec: FeatureSpec, value: Any, typical: float | None, raises: bool) -> str:
        words = spec.words.get(self.locale)  # type: ignore[call-overload]
        flag = bool(value) if spec.kind == "flag" else None
        template = None if words is None else words.sentence(raises=raises, flag=flag)
        if template is None:
            template = self.words["plain" if typical is not None else "plain_alone"]
        return str(template).format(
            label=spec.label(self.locale),
            value=format_value(value, spec.unit, self.locale),
            typical=format_value(typical, spec.unit, self.locale),
        )


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)  # noqa: PLR0124 - NaN is unequal to itself


def _catalog_of(model: RiskModel) -> Catalog:
    if model.catalog is not None:
        return model.catalog
    specs = [FeatureSpec(stem=str(n), formula="0", theme="other") for n in model.feature_names_in_]
    return Catalog(specs, "none", "columns")


def find_data_gaps(
    features: Any, model: RiskModel, locale: str = "zh", most: int = 5
) -> list[list[str]]:
    """What is missing for each point although an office usually knows it.

    Parameters
    ----------
    features
        Features, one row per point.
    model
        Its reference says what is usually known.
    locale
        ``"zh"`` or ``"en"``.
    most
        Names at most per point; those that are known most often come first.

    Returns
    -------
    list of list of str
        What to ask for, one list per point.
    """
    usual = usually_known(model)
    catalog = _catalog_of(model)
    asks = []
    for name in usual:
        words = catalog[name].words.get(locale)  # type: ignore[call-overload]
        asks.append(words.ask if words is not None and words.ask else catalog[name].label(locale))
    missing = features[usual].isna().to_numpy()
    found = []
    for row in missing:
        named = dict.fromkeys(asks[position] for position in np.flatnonzero(row))
        found.append(list(named)[:most])
    return found


def usually_known(model: RiskModel) -> list[str]:
    """Features that are missing in few training rows, best known first."""
    shares = {name: entry["missing"] for name, entry in model.reference_.items()}
    known = [name for name, share in shares.items() if share <= USUALLY_KNOWN]
    return sorted(known, key=lambda name: shares[name])


def describe_risk(risk: float, horizon: str, locale: str = "zh") -> str:
    """A risk in words: of 100 (or 1,000) such households about so many.

    Examples
    --------
    >>> describe_risk(0.12, "12mo", "en")
    'Of 100 such households about 12 get into trouble within 12 months'
    """
    words = load_locale(locale)["reasons"]
    key, base = ("of_hundred", 100) if risk >= 0.02 else ("of_hundred_rare", 1000)
    return str(words[key]).format(
        count=max(round(risk * base), 0), horizon=format_horizon(horizon, locale)
    )


def texts(reasons: Iterable[Reason], *, raises: bool) -> list[str]:
    """The sentences of one direction, in order."""
    return [reason.text for reason in reasons if reason.raises is raises]
