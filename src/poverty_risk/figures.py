"""Figures of an evaluation: tables in, axes out; nothing is shown or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_precision_at_budget", "plot_reliability"]


def plot_reliability(reliability: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw observed rate against mean risk, with intervals; the diagonal is perfect calibration.

    Parameters
    ----------
    reliability
        From `compute_reliability`, or of an `Evaluation` (one line per name).
    ax
        Where to draw; None makes a figure that no window shows.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    FeatureError
        A table without the columns of `compute_reliability`, or without rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.figures import plot_reliability
    >>> from poverty_risk.reliability import compute_reliability
    >>> table = compute_reliability(pd.Series([0.0, 1.0]), pd.Series([0.2, 0.8]), bins=2)
    >>> plot_reliability(table).get_xlabel()
    'mean risk'
    """
    _check_table(reliability, ["mean_risk", "observed", "observed_low", "observed_high"])
    ax = _new_axes() if ax is None else ax
    top = float(reliability[["mean_risk", "observed_high"]].to_numpy().max())
    ax.plot([0.0, top], [0.0, top], color="grey", linestyle="--", linewidth=1.0)
    for name, table in _by_name(reliability):
        below = table["observed"] - table["observed_low"]
        above = table["observed_high"] - table["observed"]
        ax.errorbar(
            table["mean_risk"].to_numpy(),
            table["observed"].to_numpy(),
            yerr=np.vstack([below, above]),
            marker="o",
            capsize=2.0,
            label=name,
        )
    ax.set(xlabel="mean risk", ylabel="observed rate")
    _add_legend(ax)
    return ax


def plot_precision_at_budget(budgets: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the precision of visits against the budget; the band is the range that ties allow.

    Parameters
    ----------
    budgets
        From `compute_budget_table`, or of an `Evaluation` (one line per name).
    ax
        Where to draw; None makes a figure that no window shows.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    FeatureError
        A table without the columns of `compute_budget_table`, or without rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.evaluation import compute_budget_table
    >>> from poverty_risk.figures import plot_precision_at_budget
    >>> table = compute_budget_table(pd.Series([0.0, 1.0]), pd.Series([0.2, 0.8]), budgets=[0.5, 1.0])
    >>> plot_precision_at_budget(table).get_xlabel()
    'share of households visited'
    """
    _check_table(budgets, ["precision", "precision_lowest", "precision_highest"])
    ax = _new_axes() if ax is None else ax
    for name, table in _by_name(budgets):
        shares = table.index.get_level_values("budget").to_numpy(dtype=float)
        lines = ax.plot(shares, table["precision"].to_numpy(), marker="o", label=name)
        ax.fill_between(
            shares,
            table["precision_lowest"].to_numpy(),
            table["precision_highest"].to_numpy(),
            color=lines[0].get_color(),
            alpha=0.2,
        )
    ax.set(xlabel="share of households visited", ylabel="share of visits that find an outcome")
    ax.set_ylim(bottom=0.0)
    _add_legend(ax)
    return ax


def _new_axes() -> Axes:
    # Without pyplot: it would choose a window system and keep the figure for ever.
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(layout="constrained").subplots()


def _by_name(table: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    if "name" not in table.index.names:
        return [(None, table)]
    return [(str(name), part) for name, part in table.groupby(level="name", sort=False)]


def _add_legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[1]:
        ax.legend()


def _check_table(table: pd.DataFrame, columns: list[str]) -> None:
    absent = [name for name in columns if name not in table.columns]
    if absent or table.empty:
        found = f"no column {', '.join(absent)}" if absent else "no rows"
        raise FeatureError(
            Fault("figure", found, f"columns {', '.join(columns)} and rows", "Compute the table.")
        )
