"""What shows a training: tables and figures of its evaluation, its catalogue, made-up rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from poverty_risk.evaluation import Evaluation, plot_precision_at_budget, plot_reliability
from poverty_risk.explain import RiskExplanation
from poverty_risk.features import Catalog
from poverty_risk.model import RiskModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "describe_catalog",
    "draw_evaluation",
    "evaluation_tables",
    "make_input_example",
    "plot_contributions",
]


def evaluation_tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Tables of an evaluation by name, without those that are empty."""
    names = ("metrics", "intervals", "differences", "budgets", "reliability")
    found = {name: getattr(evaluation, name) for name in names}
    return {name: table for name, table in found.items() if table is not None and len(table)}


def draw_evaluation(evaluation: Evaluation) -> dict[str, Figure]:
    """Figures of an evaluation by name: precision at each budget, and reliability."""
    # Without rows (only margins were compared) there is nothing to draw.
    drawn = {"precision_at_budget": plot_precision_at_budget(evaluation.budgets)}
    if len(evaluation.reliability):
        drawn["reliability"] = plot_reliability(evaluation.reliability)
    figures = {name: axes.get_figure(root=True) for name, axes in drawn.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def describe_catalog(catalog: Catalog) -> pd.DataFrame:
    """The feature catalogue as a table, one row per feature.

    Parameters
    ----------
    catalog
        The features.

    Returns
    -------
    DataFrame
        Index ``feature``; what it is computed from, theme, direction, unit, and its name in zh
        and en.
    """
    source = ("table", "value", "where", "aggregator", "lookback", "lag", "formula")
    fields = (*source, "theme", "direction", "unit", "risk_type", "role", "kind")
    rows = [
        {name: getattr(spec, name) for name in fields}
        | {f"label_{locale}": spec.label(locale) for locale in ("zh", "en")}
        for spec in catalog.specs
    ]
    return pd.DataFrame(rows, index=pd.Index(catalog.names, name="feature"))


def make_input_example(model: RiskModel) -> pd.DataFrame:
    """Two made-up rows of features: no household of the history has them.

    Parameters
    ----------
    model
        A fitted model; its reference holds typical values.

    Returns
    -------
    DataFrame
        One column per feature. First row: medians and most frequent codes. Second row: the upper
        quartile of every feature on its own, and the second most frequent code. Features that were
        never known in training are missing.
    """
    columns: dict[str, list[Any]] = {}
    for name in map(str, model.feature_names_in_):
        typical = model.reference_[name]
        if name in model.columns_.categories:
            order = np.argsort(typical["shares"], kind="stable")[::-1]
            codes = [model.columns_.categories[name][position] for position in order]
            columns[name] = [codes[0], codes[min(1, len(codes) - 1)]]
        else:
            grid = typical.get("quantiles", [math.nan])
            columns[name] = [typical.get("median", math.nan), grid[(3 * len(grid)) // 4]]
    kinds = {name: str if name in model.columns_.categories else float for name in columns}
    return pd.DataFrame(columns).astype(kinds)


def plot_contributions(explanation: RiskExplanation, most: int = 20) -> Figure:
    """Draw shap's summary of contributions: one dot per point and feature, coloured by its value.

    Parameters
    ----------
    explanation
        From `explain_risk`.
    most
        Features shown at most, those that move the risk most.

    Returns
    -------
    Figure
        Contributions in log-odds; no ids are on it.
    """
    # Only here, because importing them takes a second.
    import matplotlib.pyplot as plt  # noqa: PLC0415
    import shap  # noqa: PLC0415

    shown = min(most, explanation.contributions.shape[1])
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.35 * shown), layout="constrained")
    shap.plots.beeswarm(
        explanation.to_shap(), max_display=shown, show=False, ax=axes, plot_size=None
    )
    axes.set_xlabel("contribution to the log-odds")
    plt.close(figure)
    return figure
