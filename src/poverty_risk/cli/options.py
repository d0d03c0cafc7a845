"""Options that commands share, and how configs are read and tables shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = [
    "CONFIG",
    "FOLDER",
    "LOCALE",
    "MODEL",
    "OUTPUT",
    "REASON",
    "REASON_REQUIRED",
    "load",
    "show",
]

CONFIG = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("configs/default.yaml"),
    show_default=True,
    help="Run config; its file explains every key.",
)
FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path), help="History folder; replaces the config's."
)
OUTPUT = click.option(
    "--output", type=click.Path(path_type=Path), help="Output folder; replaces the config's."
)
MODEL = click.option(
    "--model", required=True, help="Model folder, or an MLflow URI such as models:/name@champion."
)
LOCALE = click.option(
    "--locale",
    type=click.Choice(["zh", "en"]),
    help="Language of all texts; by default the config's.",
)
REASON = click.option("--reason", default="", help="Why, for the office's log of what left it.")
REASON_REQUIRED = click.option(
    "--reason", required=True, help="Why, and who asked, for the office's log."
)


def load(config_path: Path, folder: Path | None, output: Path | None, **extra: Any) -> Any:
    """A config with what the command line replaces in it."""
    # Inside the commands, so that `--help` answers at once.
    from poverty_risk.config import load_config  # noqa: PLC0415

    overrides = {"history.folder": folder, "output": output, **extra}
    if folder is not None and "history.source" not in extra:
        source = load_config(config_path).history.source if config_path.is_file() else "folder"
        overrides["history.source"] = "folder" if source == "simulate" else source
    given = {key: str(value) for key, value in overrides.items() if value is not None}
    return load_config(config_path, given)


def show(title: str, table: Any) -> None:
    """Print a table under its title."""
    click.echo(f"\n{title}\n{table.to_string(float_format=lambda value: f'{value:.3f}')}")
