"""The office's chain of a month and of a year."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from poverty_risk.cli.options import CONFIG, FOLDER, OUTPUT, load


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@click.option("--yearly", is_flag=True, help="Train, compare and promote instead.")
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    help="Code of an issue of monitoring that somebody has looked at; repeatable.",
)
@click.option("--who", default="", help="With --yearly: who answers for the promotion.")
@click.option("--why", default="", help="With --yearly: why now.")
def cycle(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    as_of: str | None,
    yearly: bool,
    accepted: tuple[str, ...],
    who: str,
    why: str,
) -> None:
    """Import, check, monitor, score, make the lists and track; yearly: train, compare, promote.

    Killed and started again, it goes on with the step that was not done. Exit code 1 when somebody has
    to decide: an issue of monitoring, a file that could not be read, a challenger that was refused.
    """
    from poverty_risk import workflows  # noqa: PLC0415

    if yearly and not (who.strip() and why.strip()):
        message = "--yearly wants --who and --why: a promotion is recorded."
        raise click.UsageError(message)
    config = load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    if yearly:
        done = workflows.run_year(config, who=who, why=why, on_step=_show_step)
    else:
        done = workflows.run_month(config, accepted=accepted, on_step=_show_step)
    if done.stopped_by:
        codes = " ".join(f"--accept {code}" for code in done.stopped_by)
        click.echo(
            f"no lists: {', '.join(done.stopped_by)} raised an issue, see {config.output}/monitoring; "
            f"mend it, or go on with {codes}"
        )
    sys.exit(done.exit_code)


def _show_step(step: Any) -> None:
    state = "as before" if step.kept else "done"
    said = "; ".join(
        f"{name} {', '.join(value) or 'none' if isinstance(value, list) else value}"
        for name, value in step.figures.items()
    )
    click.echo(f"{step.name:<10}{state:<11}{said}")
