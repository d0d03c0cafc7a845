"""Commands of choices: search for parameters, compare candidates over past periods."""

from __future__ import annotations

from pathlib import Path

import click

from poverty_risk.cli.options import CONFIG, FOLDER, OUTPUT, load, show

__all__ = ["compare", "tune"]

TASK = click.option("--task", help="Task of the config; by default the first.")


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@click.option(
    "--space",
    "space_path",
    type=click.Path(path_type=Path),
    default=Path("configs/tuning.yaml"),
    show_default=True,
    help="What is searched; the file explains every key.",
)
@TASK
@click.option("--trials", type=int, help="Trials in all; replaces the file's.")
def tune(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    space_path: Path,
    task: str | None,
    trials: int | None,
) -> None:
    """Search for parameters on past periods in order of time; goes on where it was interrupted."""
    from poverty_risk import workflows  # noqa: PLC0415
    from poverty_risk.search_space import read_search_space  # noqa: PLC0415

    config = load(config_path, folder, output)
    name = workflows.choose_tasks(config, [] if task is None else [task])[0]
    space = read_search_space(space_path, {} if trials is None else {"trials": trials})
    tables, _ = workflows.read_tables(config)
    tuned = workflows.tune(config, tables, space, config_path, task=name)
    result, objective = tuned.result, space.objective
    states = ", ".join(f"{n} {s}" for s, n in result.trials["state"].value_counts().items())
    click.echo(f"{len(result.trials)} trials: {states}")
    click.echo(
        f"mean {objective} of earlier periods: {result.value:.4f}, before {result.base_value:.4f}"
    )
    click.echo(
        f"on the last period, kept apart: {result.last['best']:.4f}, before {result.last['base']:.4f}"
    )
    for parameter, value in result.parameters.items():
        click.echo(f"  {parameter:<21} {value}")
    for title, path in tuned.paths.items():
        click.echo(f"{title:<23} {path}")


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@click.option(
    "--candidates",
    "candidates_path",
    type=click.Path(path_type=Path),
    default=Path("configs/candidates.yaml"),
    show_default=True,
    help="What is compared; the file explains every key.",
)
@TASK
def compare(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    candidates_path: Path,
    task: str | None,
) -> None:
    """Compare ways to learn over all past periods: regret, rank, paired intervals."""
    from poverty_risk import workflows  # noqa: PLC0415
    from poverty_risk.candidates import read_candidates  # noqa: PLC0415

    config = load(config_path, folder, output)
    name = workflows.choose_tasks(config, [] if task is None else [task])[0]
    declared = read_candidates(candidates_path)
    tables, _ = workflows.read_tables(config)
    found = workflows.compare(config, tables, declared, task=name)
    comparison = found.comparison
    show(f"{comparison.objective} over the earlier periods", comparison.summary)
    by_period = comparison.periods[comparison.objective].unstack("period")
    by_period = by_period.rename(columns=lambda day: str(day)[:10])
    show("by period", by_period.loc[comparison.summary.index])
    show("on the last period, on which nothing was chosen", comparison.last)
    show("over time", found.over_time)
    click.echo(f"\nchosen                  {comparison.chosen}")
    for title, path in found.paths.items():
        click.echo(f"{title:<23} {path}")
