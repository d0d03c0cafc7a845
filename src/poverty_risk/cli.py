"""The command line: thin over `poverty_risk.workflows`."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from poverty_risk.exceptions import PovertyRiskError

__all__ = ["main"]

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="poverty-risk")
@click.option("--verbose", is_flag=True, help="Show what is being done.")
def cli(verbose: bool) -> None:
    """Predict and explain the risk of returning to poverty, from household history.

    The risk may only add visits. It decides no benefit and appraises no one.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )


def _load(config_path: Path, folder: Path | None, output: Path | None, **extra: Any) -> Any:
    # Inside the commands, so that `--help` answers at once.
    from poverty_risk.config import load_config  # noqa: PLC0415

    overrides = {"history.folder": folder, "output": output, **extra}
    if folder is not None and "history.source" not in extra:
        source = load_config(config_path).history.source if config_path.is_file() else "folder"
        overrides["history.source"] = "folder" if source == "simulate" else source
    given = {key: str(value) for key, value in overrides.items() if value is not None}
    return load_config(config_path, given)


def _show(title: str, table: Any) -> None:
    click.echo(f"\n{title}\n{table.to_string(float_format=lambda value: f'{value:.3f}')}")


@cli.command()
@CONFIG
@OUTPUT
def demo(config_path: Path, output: Path | None) -> None:
    """The whole way on a simulated county: train, compare, log, score, explain."""
    from poverty_risk import workflows  # noqa: PLC0415

    started = time.monotonic()
    config = _load(config_path, None, output)
    tables, county = workflows.read_tables(config)
    click.echo(f"simulated history: {tables!r}")
    name = next(iter(config.tasks))
    result = workflows.train_task(config, tables, name, county)
    _show_result(result)
    workflows.keep_similar(config, result)
    reports = workflows.write_reports(config, result)
    logged = workflows.log_result(config, tables, result) if config.tracking.enabled else None
    scored = workflows.score_latest(config, tables, result.folder)
    _show_scored(scored)
    _make_round(config, tables, result.folder, config.scoring.locale)
    click.echo(f"model report            {reports[f'report_{config.scoring.locale}']}")
    click.echo(f"officers' guide         {reports[f'guide_{config.scoring.locale}']}")
    click.echo(f"model folder            {result.folder}")
    click.echo(f"evaluation tables       {config.output / 'evaluation' / name}")
    if logged is not None:
        _show_logged(logged)
    click.echo(f"done in {time.monotonic() - started:.0f} s")


def _show_logged(logged: Any) -> None:
    store = str(logged.tracking_uri).replace(f"{Path.cwd()}/", "")
    click.echo(f"registered in MLflow    {logged.model_uri}  ({store})")


def _show_result(result: Any) -> None:
    from poverty_risk.report.summary import build_comparison  # noqa: PLC0415

    data = result.data
    click.echo(
        f"\n{result.name}: learned from {len(data.train):,} points "
        f"({int(data.train_labels.sum()):,} with the outcome), tested on {len(data.test):,} "
        f"({int(data.test_labels.sum()):,}); censored: train {data.censored['train']:,}, "
        f"test {data.censored['test']:,}"
    )
    _show("on the test period", build_comparison(result.evaluation))


def _show_scored(scored: dict[str, Any]) -> None:
    answer = scored["answer"]
    counts = ", ".join(f"{k} {n:,}" for k, n in answer["status"].value_counts().items())
    tiers = ", ".join(f"{k} {n:,}" for k, n in answer["tier"].value_counts().items())
    click.echo(f"\nscored {answer['as_of_date'].iloc[0].date()}: {counts}; {tiers}")
    click.echo(f"visit-priority table    {scored['priority']}")
    click.echo(f"explained households    {scored['explained']}")


def _make_round(config: Any, tables: Any, model: Any, locale: str, **scope: str) -> None:
    from poverty_risk import workflows  # noqa: PLC0415

    planned = workflows.plan_round(config, tables, model)
    facts = workflows.tell_round(planned, locale)
    paths = workflows.write_round(config, planned, facts, **scope)
    listed = planned.round.visit_list
    click.echo(f"\n{len(listed.visits):,} visits, {len(listed.reserve):,} in reserve")
    _show("expected returns reached with as many visits", listed.summary)
    click.echo(f"workbook                {paths['workbook']}")
    click.echo(f"page                    {paths['page']}")


@cli.command()
@click.option(
    "--households",
    type=click.IntRange(50),
    default=2000,
    show_default=True,
    help="Size of the county.",
)
@click.option("--start", default="2019-01-01", show_default=True, help="First day.")
@click.option("--end", default="2025-01-01", show_default=True, help="Day after the last.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all random numbers.")
@click.argument("folder", type=click.Path(path_type=Path))
def simulate(households: int, start: str, end: str, seed: int, folder: Path) -> None:
    """Write the history tables of a simulated county to FOLDER."""
    from poverty_risk.datasets import make_household_history  # noqa: PLC0415

    county = make_household_history(households, start=start, end=end, seed=seed)
    click.echo(f"{county.tables!r}\nwritten to {county.tables.write(folder)}")


@cli.command()
@click.option("--schema", default="archive", show_default=True, help="Name or YAML file.")
@click.option("--rejected", type=click.Path(path_type=Path), help="CSV for the rejected rows.")
@click.argument("folder", type=click.Path(path_type=Path))
def check(schema: str, rejected: Path | None, folder: Path) -> None:
    """Read the history tables of FOLDER and say what is wrong with them."""
    from poverty_risk.tables import read_history  # noqa: PLC0415

    tables = read_history(folder, schema)
    click.echo(repr(tables))
    faults = tables.rejected
    if len(faults):
        counts = faults.groupby(["table", "column", "expected"]).size().rename("rows")
        _show("rejected", counts.reset_index())
    if rejected is not None:
        faults.to_csv(rejected, index=False)
        click.echo(f"each fault with its row  {rejected}")


@cli.command()
@CONFIG
@FOLDER
@OUTPUT
@click.option("--task", "only", multiple=True, help="Only this task of the config; repeatable.")
def train(
    config_path: Path, folder: Path | None, output: Path | None, only: tuple[str, ...]
) -> None:
    """Train every task of a config, compare with the baselines, log the first to MLflow."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, folder, output)
    tables, county = workflows.read_tables(config)
    click.echo(repr(tables))
    for name in workflows.choose_tasks(config, only):
        result = workflows.train_task(config, tables, name, county)
        _show_result(result)
        click.echo(f"\nmodel folder            {result.folder}")
        click.echo(f"evaluation tables       {config.output / 'evaluation' / name}")
        reports = workflows.write_reports(config, result)
        click.echo(f"model report            {reports[f'report_{config.scoring.locale}']}")
        first = name == next(iter(config.tasks))
        if first:
            workflows.keep_similar(config, result)
        if config.tracking.enabled and first:
            logged = workflows.log_result(config, tables, result)
            _show_logged(logged)


@cli.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
def evaluate(config_path: Path, folder: Path | None, output: Path | None, model: str) -> None:
    """Evaluate a model that is already trained on the test period of a config."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, folder, output)
    tables, _ = workflows.read_tables(config)
    evaluation = workflows.evaluate_model(config, tables, model)
    _show("on the test period", evaluation.metrics)
    _show("at visit budgets", evaluation.budgets)


@cli.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
def predict(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    as_of: str | None,
    locale: str | None,
) -> None:
    """Score every household of a history; write the visit-priority table."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(
        config_path, folder, output, **{"scoring.as_of_date": as_of, "scoring.locale": locale}
    )
    tables, _ = workflows.read_tables(config)
    _show_scored(workflows.score_latest(config, tables, model))


@cli.command()
@CONFIG
@FOLDER
@MODEL
@click.option("--household", "households", multiple=True, required=True, help="Repeatable.")
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
def explain(
    config_path: Path,
    folder: Path | None,
    model: str,
    households: tuple[str, ...],
    as_of: str | None,
    locale: str | None,
) -> None:
    """Explain the risk of single households in words."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, folder, None, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    click.echo(
        workflows.explain_households(
            config, tables, model, households, locale or config.scoring.locale
        )
    )


@cli.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
@click.option(
    "--role",
    type=click.Choice(["county", "township", "village"]),
    default="county",
    show_default=True,
    help="Who reads: a village sees no health detail.",
)
@click.option("--place", default="", help="The township or village of that role.")
def visits(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    as_of: str | None,
    locale: str | None,
    role: str,
    place: str,
) -> None:
    """Choose whom to visit; write the workbook and the page with a card of each household."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    locale = locale or config.scoring.locale
    _make_round(config, tables, model, locale, role=role, place=place)


@cli.command()
@CONFIG
@FOLDER
@OUTPUT
@MODEL
@click.option("--household", "households", multiple=True, required=True, help="Repeatable.")
@click.option("--as-of", "as_of", help="As-of date; by default the day after the history.")
@LOCALE
def card(
    config_path: Path,
    folder: Path | None,
    output: Path | None,
    model: str,
    households: tuple[str, ...],
    as_of: str | None,
    locale: str | None,
) -> None:
    """Write the printable cards of single households."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, folder, output, **{"scoring.as_of_date": as_of})
    tables, _ = workflows.read_tables(config)
    planned = workflows.plan_round(config, tables, model, households)
    for path in workflows.write_cards(
        config, workflows.tell_round(planned, locale or config.scoring.locale)
    ):
        click.echo(f"card                    {path}")


@cli.command()
@MODEL
@click.option(
    "--evaluation",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the evaluation tables that training wrote.",
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The HTML file.")
@LOCALE
def report(model: str, evaluation: Path, output: Path, locale: str | None) -> None:
    """Write the model report of a training that is on disk."""
    from poverty_risk import workflows  # noqa: PLC0415

    path = workflows.write_report_from_disk(model, evaluation, output, locale or "zh")
    click.echo(f"model report            {path}")


@cli.command()
@CONFIG
@OUTPUT
@click.option("--imported-on", help="Day of the import; by default today.")
@click.argument("workbook", type=click.Path(path_type=Path))
def feedback(
    config_path: Path, output: Path | None, imported_on: str | None, workbook: Path
) -> None:
    """Read a filled visit workbook back; write what has to be corrected."""
    import pandas as pd  # noqa: PLC0415

    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, None, output)
    day = pd.Timestamp(imported_on) if imported_on else pd.Timestamp.today().normalize()
    found, paths = workflows.import_feedback(config, workbook, day)
    click.echo(
        f"{len(found.visits):,} visits on record, {found.not_visited:,} rows not visited yet, "
        f"{len(found.errors):,} faults"
    )
    for note in found.notes:
        click.echo(note)
    for name, path in paths.items():
        click.echo(f"{name:<23} {path}")


@cli.command()
@CONFIG
@FOLDER
@OUTPUT
def leakage(config_path: Path, folder: Path | None, output: Path | None) -> None:
    """Look for features that know the future; exit code 1 when one does."""
    from poverty_risk import workflows  # noqa: PLC0415

    config = _load(config_path, folder, output)
    tables, _ = workflows.read_tables(config)
    report = workflows.check_for_leakage(config, tables)
    click.echo(report.to_text())
    sys.exit(int(report.has_leaks))


def main() -> None:
    """Run the command line; errors of the package are printed without a traceback."""
    command: Callable[..., Any] = cli
    try:
        command(standalone_mode=True)
    except PovertyRiskError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2)
