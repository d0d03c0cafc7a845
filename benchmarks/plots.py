"""Plots of stored results: ours, peers and the floor; growth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "poverty_risk"  # the same figures, the same file

OURS, PEER, FLOOR = "#1f6f8b", "#b9b9b9", "#e0a030"
COLOURS = {"tables": OURS, "predict": FLOOR}


def draw_plots(results: dict[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Draw what there are results for; titles and files."""
    folder.mkdir(exist_ok=True)
    drawn = []
    for name, (title, draw) in PLOTS.items():
        script = name.partition("-")[0]
        result = results.get(script)
        if result is None:
            continue
        figure = Figure(figsize=(7.5, 3.2), layout="constrained")
        axes = figure.subplots()
        draw(axes, result["figures"])
        axes.spines[["top", "right"]].set_visible(False)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        drawn.append((title, path))
    return drawn


def draw_bars(axes: Axes, values: dict[str, float], unit: str, *, log: bool = False) -> None:
    """Horizontal bars, largest on top, each with its number."""
    names = sorted(values, key=lambda name: values[name])
    colours = [COLOURS.get(name, PEER) for name in names]
    bars = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(bars, [f" {values[name]:,.4g}" for name in names], fontsize=8)
    axes.set_xlabel(unit)
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.15)


def _explanation(axes: Axes, figures: dict[str, Any]) -> None:
    sides = figures["default_model"]["sides"]
    draw_bars(
        axes,
        {name: side["rows_a_second"] for name, side in sides.items()},
        "rows a second, default model, two threads (logarithmic)",
        log=True,
    )


def _shapes(axes: Axes, figures: dict[str, Any]) -> None:
    shapes = {"default model": figures["default_model"], **figures["other_shapes"]}
    values = {name: shape["tables_over_pred_contrib"] for name, shape in shapes.items()}
    draw_bars(axes, values, "times as fast as pred_contrib", log=True)


PLOTS: dict[str, tuple[str, Callable[[Axes, dict[str, Any]], None]]] = {
    "explanation-sides": (
        "Explanations: ours, peers, and plain predict as the floor",
        _explanation,
    ),
    "explanation-shapes": ("Explanations: shapes of forest", _shapes),
}
