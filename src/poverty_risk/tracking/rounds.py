"""A round of the office in MLflow: what each step of it said, in numbers and never a household."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.tracking.dated_runs import log_dated_run

__all__ = ["log_round"]


def log_round(
    figures: Mapping[str, Mapping[str, float | str | list[str]]],
    *,
    as_of_date: pd.Timestamp,
    model_id: str,
    digest: str,
    experiment: str = "poverty-risk-rounds",
    tracking_uri: str | None = None,
    store_folder: str | Path | None = None,
) -> str:
    """Log a round; one that is logged already is found again by its digest.

    Parameters
    ----------
    figures
        What each step says, by step and name: numbers become metrics ``<step>.<name>``, texts tags.
    as_of_date
        Day of the round.
    model_id
        The model that answered.
    digest
        Of all that the round read and wrote.
    experiment
        Experiment; made when it is not there.
    tracking_uri, store_folder
        Where to, as in `log_training`.

    Returns
    -------
    str
        The run.

    Raises
    ------
    PovertyRiskError
        The store cannot be written, or MLflow refuses.

    Examples
    --------
    >>> import pandas as pd
    >>> from poverty_risk.tracking.rounds import log_round
    >>> log_round({}, as_of_date=pd.Timestamp("2025-01-01"), model_id="0a", digest="1b",
    ...           tracking_uri="sqlite:////dev/null/mlflow.db")
    Traceback (most recent call last):
    ...
    poverty_risk.exceptions.PovertyRiskError: MLflow experiment 'poverty-risk-rounds': found ...
    """
    metrics: dict[str, float] = {}
    tags = {"as_of_date": str(as_of_date.date()), "model_id": model_id, "round": digest}
    for step, said in figures.items():
        for name, value in said.items():
            key = f"{step}.{name}".replace(" ", "_")
            if isinstance(value, int | float):
                metrics[key] = float(value)
            else:
                tags[key] = _as_text(value)
    return log_dated_run(
        experiment,
        f"round {tags['as_of_date']} {model_id}",
        as_of_date,
        tags=tags,
        metrics=metrics,
        unique="round",
        tracking_uri=tracking_uri,
        store_folder=store_folder,
    )


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
