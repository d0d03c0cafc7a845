"""Plots of stored results: ours, peers and the floor; growth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

mpl.rcParams["svg.hashsalt"] = "poverty_risk"  # the same figures, the same file

OURS, PEER, FLOOR = "#1f6f8b", "#b9b9b9", "#e0a030"
COLOURS = {"tables": OURS, "seconds": OURS, "predict": FLOOR, "scan_seconds": FLOOR}


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


def draw_growth(axes: Axes, runs: list[dict[str, Any]], by: str, sides: dict[str, str]) -> None:
    """Lines over what grows, on logarithmic axes: a straight one of slope one is in proportion."""
    for side, label in sides.items():
        known = [run for run in runs if side in run]
        colour = COLOURS.get(side, PEER)
        sizes = [run[by] for run in known]
        axes.plot(sizes, [run[side] for run in known], "o-", ms=4, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = [run[by] for run in runs]
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
    axes.set_xlabel(by)
    axes.legend(frameon=False, fontsize=8)


RATES = {"tables": "tables", "predict": "plain predict", "pred_contrib": "pred_contrib"}
SECONDS = {"seconds": "features", "scan_seconds": "scan of the same columns"}


def _by_households(axes: Axes, figures: dict[str, Any]) -> None:
    beside = [
        {"households": p["households"], "pandas": p["pandas_seconds"][1]} for p in figures["pandas"]
    ]
    pandas = f"pandas, {figures['pandas'][0]['features']} of the features, in memory"
    draw_growth(axes, figures["by_households"], "households", SECONDS)
    axes.plot(
        *zip(*[run.values() for run in beside], strict=True), "o-", ms=4, color=PEER, label=pandas
    )
    axes.legend(frameon=False, fontsize=8)
    axes.set_ylabel("seconds")


def _by_dates(axes: Axes, figures: dict[str, Any]) -> None:
    draw_growth(axes, figures["by_dates"], "dates", SECONDS)
    axes.set_ylabel("seconds")


def _by_trees(axes: Axes, figures: dict[str, Any]) -> None:
    draw_growth(axes, figures["by_trees"], "trees", RATES)
    axes.set_ylabel("rows a second")


def _by_depth(axes: Axes, figures: dict[str, Any]) -> None:
    draw_growth(axes, figures["by_depth"], "depth", RATES)
    axes.set_ylabel("rows a second")


PLOTS: dict[str, tuple[str, Callable[[Axes, dict[str, Any]], None]]] = {
    "explanation-sides": (
        "Explanations: ours, peers, and plain predict as the floor",
        _explanation,
    ),
    "explanation-shapes": ("Explanations: shapes of forest", _shapes),
    "growth-households": ("Features: growth with households", _by_households),
    "growth-dates": ("Features: growth with as-of dates", _by_dates),
    "growth-trees": ("Explanations: growth with trees", _by_trees),
    "growth-depth": (
        "Explanations: growth with depth (leaves as many as it allows, up to 255)",
        _by_depth,
    ),
}
