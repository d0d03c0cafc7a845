"""Commands of data scientists: train, evaluate, score, explain, look for leaks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from poverty_risk.cli.officers import show_round
from poverty_risk.cli.options import CONFIG, FOLDER, LOCALE, MODEL, OUTPUT, REASON, load, show


@click.command()
@CONFIG
@OUTPUT
def demo(config_path: Path, output: Path | None) -> None:
    """The whole way on a simulated county: train, compare, log, score, explain."""
    from poverty_risk import workflows  # noqa: PLC0415

    started = time.monotonic()
    config = load(config_path, None, output)
    tables, county = workflows.read_tables(config)
    click.echo(f"simulated history: {tables!r}")
    name = next(iter(config.tasks))
    result = workflows.train_task(config, tables, name, county)
    show_result(result)
    workflows.keep_similar(config, result)
    reports = workflows.write_reports(config, result)
    logged = workflows.log_result(config, tables, result) if config.tracking.enabled else None
    scored = workflows.score_latest(config, tables, result.folder)
    show_scored(scored)
    show_round(workflows.make_round(config, tables, result.folder, config.scoring.locale))
    click.echo(f"model report            {reports[f'report_{config.scoring.locale}']}")
    click.echo(f"officers' guide         {reports[f'guide_{config.scoring.locale}']}")
    click.echo(f"model folder            {result.folder}")
    click.echo(f"evaluation tables       {config.output / 'evaluation' / name}")
    if logged is not None:
        show_logged(logged)
    click.echo(f"done in {time.monotonic() - started:.0f} s")


def show_logged(logged: Any) -> None:
    """Say where a training was logged."""
    store = str(logged.tracking_uri).replace(f"{Path.cwd()}/", "")
    click.echo(f"registered in MLflow    {logged.model_uri}  ({store})")


def show_result(result: Any) -> None:
    """Say what was learned from, and how the model compares."""
    from poverty_risk.report.summary import build_comparison  # noqa: PLC0415

    data = result.data
    click.echo(
        f"\n{result.name}: learned from {len(data.train):,} points "
        f"({int(data.train_labels.sum()):,} with the outcome), tested on {len(data.test):,} "
        f"({int(data.test_labels.sum()):,}); censored: train {data.censored['train']:,}, "
        f"test {data.censored['test']:,}"
        + ("; trees learned grades" if result.model.training_["graded"] else "")
    )
    show("on the test period", build_comparison(result.evaluation))


def show_scored(scored: dict[str, Any]) -> None:
    """Say how many households were scored, and where the answers are."""
    answer = scored["answer"]
    counts = ", ".join(f"{k} {n:,}" for k, n in answer["status"].value_counts().items())
    tiers = ", ".join(f"{k} {n:,}" for k, n in answer["tier"].value_counts().items())
    click.echo(f"\nscored {answer['as_of_date'].iloc[0].date()}: {counts}; {tiers}")
    click.echo(f"risk ranking            {scored['priority']}")
    click.echo(f"explained households    {scored['explained']}")


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@click.option("--task", "only", multiple=True, help="Only this task of the config; repeatable.")
def train(
    config_path: Path, folder: Path | None, output: Path | None, only: tuple[str, ...]
) -> None:
    """Train every task of a config, compare with the baselines, log the first to MLflow."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output)
    tables, county = workflows.read_tables(config)
    click.echo(repr(tables))
    for name in workflows.choose_tasks(config, only):
        result = workflows.train_task(config, tables, name, county)
        show_result(result)
        click.echo(f"\nmodel folder            {result.folder}")
        click.echo(f"evaluation tables       {config.output / 'evaluation' / name}")
        reports = workflows.write_reports(config, result)
        click.echo(f"model report            {reports[f'report_{config.scoring.locale}']}")
        first = name == next(iter(config.tasks))
        if first:
            workflows.keep_similar(config, result)
        if config.tracking.enabled and first:
            logged = workflows.log_result(config, tables, result)
            show_logged(logged)


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option(
    "--rounds", is_flag=True, help="On what the visits of earlier rounds found, weighted, instead."
)
def evaluate(
    config_path: Path, folder: Path | None, output: Path | None, model: str, *, rounds: bool
) -> None:
    """Evaluate a model that is already trained on the test period of a config."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output)
    tables, _ = workflows.read_tables(config)
    if rounds:
        seen = workflows.evaluate_rounds(config, tables, model)
        show("all who could be visited, told by visits", seen.metrics)
        show("what these visits are worth", seen.sample.to_frame())
        return
    evaluation = workflows.evaluate_models(config, tables, {"model": model})
    show("on the test period", evaluation.metrics)
    show("at visit budgets", evaluation.budgets)


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
@click.option(
    "--range",
    "households",
    type=click.IntRange(1),
    help="Households in memory at a time; fewer need less of it, and more time.",
)
@click.option(
    "--engine",
    type=click.Choice(["embedded", "spark"]),
    default="embedded",
    show_default=True,
    help="Where it is computed; 'spark' needs the extra of that name, and Java.",
)
@click.option("--master", help="Of Spark, such as spark://host:7077 or local[2].")
@REASON
def predict(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    as_of: str | None,
    locale: str | None,
    households: int | None,
    engine: str,
    master: str | None,
    reason: str,
) -> None:
    """Score every household of a history, or of a folder of counties; write the ranking by risk.

    Stopped and run again, it goes on where it was.
    """
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(
        config_path, folder, output, **{"scoring.as_of_date": as_of, "scoring.locale": locale}
    )
    if engine == "spark":
        if config.history.source != "folder":
            message = "Spark reads histories on disk: give their folder with --folder."
            raise click.UsageError(message)
        rounds = workflows.score_on_spark(config, model, master)
    elif config.history.source == "folder":
        rounds = workflows.score_folder(config, model, households)
    else:
        tables, _ = workflows.read_tables(config)
        rounds = iter([(config, workflows.score_latest(config, tables, model))])
    for own, scored in rounds:
        workflows.record_export(
            own,
            "predict",
            reason=reason,
            output=scored["priority"],
            households=len(scored["answer"]),
        )
        show_scored(scored)


@click.command()
@CONFIG
@FOLDER
@MODEL
@click.option("--household", "households", multiple=True, required=True, help="Repeatable.")
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
@REASON
def explain(
    config_path: Path,
    folder: Path | None,
    model: str,
    households: tuple[str, ...],
    as_of: str | None,
    locale: str | None,
    reason: str,
) -> None:
    """Explain the risk of single households in words."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, None, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    workflows.record_export(config, "explain", reason=reason, households=len(households))
    click.echo(
        workflows.explain_households(
            config, tables, model, households, locale or config.scoring.locale
        )
    )


@click.command()
@CONFIG
@FOLDER
@OUTPUT
def leakage(config_path: Path, folder: Path | None, output: Path | None) -> None:
    """Look for features that know the future; exit code 1 when one does."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output)
    tables, _ = workflows.read_tables(config)
    report = workflows.check_for_leakage(config, tables)
    click.echo(report.to_text())
    sys.exit(int(report.has_leaks))


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@click.option("--challenger", help="Registered version in MLflow, such as 2.")
@click.option("--champion", help="Registered version; by default who has the alias.")
@click.option("--roll-back", is_flag=True, help="Give the alias back to the champion before.")
@click.option("--to", "version", help="With --roll-back: to this version.")
@click.option("--who", required=True, help="Who decides.")
@click.option("--why", required=True, help="Why now.")
def promote(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    challenger: str | None,
    champion: str | None,
    roll_back: bool,
    version: str | None,
    who: str,
    why: str,
) -> None:
    """Let a challenger replace the champion if it meets every condition; exit code 1 if not."""
    from poverty_risk import workflows  # noqa: PLC0415

    if (challenger is None) != roll_back:
        message = "Give either --challenger or --roll-back."
        raise click.UsageError(message)
    config = load(config_path, folder, output)
    if roll_back:
        done = workflows.roll_back(config, who=who, why=why, to=version)
        click.echo(f"champion is version {done.champion}, was {done.former}")
        return
    tables, _ = workflows.read_tables(config)
    result = workflows.promote(config, tables, str(challenger), champion, who=who, why=why)
    show("conditions", result.decision.to_table())
    recorded = result.recorded
    click.echo(
        f"{recorded.outcome}: champion is version {recorded.champion}, was {recorded.former}"
    )
    sys.exit(int(recorded.outcome == "refused"))


@click.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
def monitor(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    as_of: str | None,
    locale: str | None,
) -> None:
    """Look whether data and model are still as they were; exit code 1 with an issue."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    found = workflows.monitor(config, tables, model)
    click.echo(found.report.to_table(locale or config.scoring.locale).to_string(index=False))
    for name, path in found.paths.items():
        click.echo(f"{name:<23} {path}")
    sys.exit(found.exit_code)
