"""The features of a model for its report: a dictionary, and how much each theme matters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poverty_risk.explain import RiskExplanation
from poverty_risk.features import FeatureSpec
from poverty_risk.model import RiskModel
from poverty_risk.windows import Lookback
from poverty_risk.wording import load_locale

__all__ = ["FeatureFact", "ThemeFact", "describe_features", "describe_themes"]


@dataclass(frozen=True)
class FeatureFact:
    """An entry of the feature dictionary.

    Parameters
    ----------
    name
        As the model knows it.
    label_zh, label_en
        Its words.
    theme
        Its theme in words.
    direction
        +1, -1, or 0 where the data decide.
    sources
        History tables that it is computed from, in words.
    lookback_days
        How far back it looks; None: all that is known, or computed from other features.
    lag_days
        Days before the as-of date that are left out.
    is_formula
        Whether it is computed from other features.
    missing
        Share of training points without a value.
    """

    name: str
    label_zh: str
    label_en: str
    theme: str
    direction: int
    sources: tuple[str, ...]
    lookback_days: int | None
    lag_days: int
    is_formula: bool
    missing: float


@dataclass(frozen=True)
class ThemeFact:
    """How much a theme matters.

    Parameters
    ----------
    theme, label
        Its code and words.
    amount
        Mean absolute contribution of the theme in log-odds, or summed gain of its splits.
    share
        Of all themes.
    features
        Features in it.
    """

    theme: str
    label: str
    amount: float
    share: float
    features: int


def describe_features(model: RiskModel, locale: str) -> tuple[FeatureFact, ...]:
    """The feature dictionary of a model, in its order.

    Parameters
    ----------
    model
        A fitted model; without a catalogue names are all that is known.
    locale
        Language of themes and sources.

    Returns
    -------
    tuple of FeatureFact
        One per feature.
    """
    return tuple(_describe(model, str(name), locale) for name in model.feature_names_in_)


def _describe(model: RiskModel, name: str, locale: str) -> FeatureFact:
    words, catalog = load_locale(locale), model.catalog
    spec = (
        FeatureSpec(stem="unknown", formula="0", theme="other")
        if catalog is None
        else catalog[name]
    )
    window = Lookback.parse(spec.lookback, spec.lag)
    tables = () if catalog is None else catalog.tables_of(name)
    return FeatureFact(
        name=name,
        label_zh=name if catalog is None else spec.label("zh"),
        label_en=name if catalog is None else spec.label("en"),
        theme=str(words["themes"].get(spec.theme, spec.theme)),
        direction=model.directions[name],
        sources=tuple(_source(model, table, locale) for table in tables),
        lookback_days=None if spec.formula is not None else window.days,
        lag_days=window.lag,
        is_formula=spec.formula is not None,
        missing=float(model.reference_[name]["missing"]),
    )


def _source(model: RiskModel, table: str, locale: str) -> str:
    declared = None if model.task is None else model.task.schema.tables.get(table)
    if declared is not None:
        return declared.label[locale]
    return str(load_locale(locale)["sources"].get(table, table))


def describe_themes(
    model: RiskModel, explanation: RiskExplanation | None, locale: str
) -> tuple[str, tuple[ThemeFact, ...]]:
    """How much each theme matters, the largest first.

    Parameters
    ----------
    model
        A fitted model.
    explanation
        Contributions at some points: a theme's contributions are summed at each point before their
        absolute values are averaged. Without it, the gain of the splits on the theme's features.
    locale
        Language of the theme names.

    Returns
    -------
    kind : str
        ``contributions`` or ``gain``.
    themes : tuple of ThemeFact
        One per theme.
    """
    names = [str(name) for name in model.feature_names_in_]
    catalog = model.catalog
    themes = pd.Series(
        ["other" if catalog is None else catalog[name].theme for name in names], index=names
    )
    if explanation is None:
        kind, amounts = "gain", _gains(model, names).groupby(themes).sum()
    else:
        kind, amounts = "contributions", explanation.by_theme.abs().mean()
    counts, total = Counter(themes), float(amounts.sum()) or 1.0
    words = load_locale(locale)["themes"]
    return kind, tuple(
        ThemeFact(
            str(theme), str(words.get(theme, theme)), amount, amount / total, counts[str(theme)]
        )
        for theme, amount in amounts.sort_values(ascending=False, kind="stable").items()
    )


def _gains(model: RiskModel, names: list[str]) -> pd.Series:
    """Gain of the splits on each feature, averaged over the boosters."""
    gains = [one.feature_importance(importance_type="gain") for one in model.forest_.boosters]
    return pd.Series(np.mean(gains, axis=0), index=names)
