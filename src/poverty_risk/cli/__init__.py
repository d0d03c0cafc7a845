"""The command line: thin over `poverty_risk.workflows`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from poverty_risk.cli import cycle, models, officers, privacy, records, tuning
from poverty_risk.exceptions import PovertyRiskError

__all__ = ["ENVIRONMENT", "cli", "main"]

ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""What a process is told before it imports anything, unless somebody has told it otherwise.

How often threads of GNU OpenMP look again before they sleep: by default they spin for milliseconds, and two
trainings on the same cores keep each other from running (`benchmarks/company.py`). And whose memory Arrow
takes: its own pool gives back between ranges of households what the next one has to fetch anew.
"""


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


for _command in (
    models.demo,
    records.simulate,
    records.sources,
    records.import_command,
    records.check,
    models.train,
    models.evaluate,
    tuning.tune,
    tuning.compare,
    models.predict,
    models.explain,
    models.leakage,
    models.promote,
    models.monitor,
    cycle.cycle,
    officers.visits,
    officers.card,
    officers.report,
    officers.feedback,
    privacy.audit,
    privacy.forget,
    privacy.rotate_key,
    privacy.assessment,
    privacy.household_letter,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; errors of the package are printed without a traceback."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    command: Callable[..., Any] = cli
    try:
        command(standalone_mode=True)
    except PovertyRiskError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2)
