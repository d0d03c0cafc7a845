"""The report of a training, and what comes back from the visits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from poverty_risk.config import Config
from poverty_risk.evaluation import compute_group_metrics
from poverty_risk.exceptions import PovertyRiskError
from poverty_risk.explain import explain_risk
from poverty_risk.loading import load_model
from poverty_risk.privacy import KeyRing, read_keys
from poverty_risk.report.feedback import (
    Feedback,
    merge_feedback,
    read_feedback,
    write_feedback_errors,
)
from poverty_risk.report.guide import write_guide
from poverty_risk.report.model_report import (
    read_evaluation,
    read_training,
    write_model_report,
)
from poverty_risk.whole_files import write_private_table
from poverty_risk.workflows.office import FEEDBACK, KEY_FILE, OFFICE_ONLY, read_lookup
from poverty_risk.workflows.training import TaskResult

__all__ = ["import_feedback", "write_report_from_disk", "write_reports"]

MOST_EXPLAINED = 1000
"""Test points whose contributions the importance of themes is averaged over."""


def write_reports(config: Config, result: TaskResult) -> dict[str, Path]:
    """Write the model report of a task, and the officers' guide, in both languages."""
    data, test = result.data, result.data.test
    dates = test.index.get_level_values("as_of_date")
    known = read_training(result.folder) | {
        "source": config.history.source,
        "censored": dict(data.censored),
        "test_first": str(dates.min().date()),
        "test_last": str(dates.max().date()),
        "config": config.model_dump_json(indent=1),
        "command": "poverty-risk train",
    }
    groups = {
        column: compute_group_metrics(
            data.test_labels, result.risks["model"], data.test_points[column]
        )
        for column in ("township_id",)
        if column in data.test_points
    }
    chosen = np.random.default_rng(config.seed).permutation(len(test))[:MOST_EXPLAINED]
    explanation = explain_risk(result.model, test.iloc[np.sort(chosen)])
    folder, written = config.output / "reports", {}
    for locale in ("zh", "en"):
        written[f"report_{locale}"] = write_model_report(
            result.model,
            result.evaluation,
            folder / f"{result.name}_{locale}.html",
            locale=locale,
            training=known,
            groups=groups,
            explanation=explanation,
        )
        written[f"guide_{locale}"] = write_guide(folder / f"guide_{locale}.html", locale)
    return written


def write_report_from_disk(
    model: str | Path, evaluation: str | Path, path: str | Path, locale: str
) -> Path:
    """Write the model report from a model folder and the evaluation tables of its training."""
    loaded = load_model(model)
    return write_model_report(
        loaded,
        read_evaluation(Path(evaluation)),
        path,
        locale=locale,
        training=read_training(Path(model)) if Path(model).is_dir() else {},
    )


def import_feedback(
    config: Config, workbook: str | Path, imported_on: pd.Timestamp
) -> tuple[Feedback, dict[str, Path]]:
    """Read a filled workbook back and add it to what was imported before.

    Returns
    -------
    feedback : Feedback
        All that is known now; its errors are those of this workbook.
    paths : dict
        ``outcomes`` and ``visits`` (history records), and ``errors`` where rows have to be corrected.
    """
    office = config.output / OFFICE_ONLY
    kept, visits = (office / name for name in FEEDBACK)
    before = None
    if kept.is_file():
        before = Feedback(outcomes=pd.read_parquet(kept), errors=pd.DataFrame())
    found = _read_signed(workbook, read_lookup(config), imported_on, read_keys(office / KEY_FILE))
    feedback = merge_feedback(before, found)
    write_private_table(feedback.outcomes, kept)
    write_private_table(feedback.visits, visits)
    paths = {"outcomes": kept, "visits": visits}
    if len(feedback.errors):
        name = f"{Path(workbook).stem}_to_correct.xlsx"
        paths["errors"] = write_feedback_errors(feedback, config.output / "visits" / name)
    return feedback, paths


def _read_signed(
    workbook: str | Path, lookup: pd.DataFrame, imported_on: pd.Timestamp, ring: KeyRing
) -> Feedback:
    """Read a workbook with the key that it was signed with: it may be older than a rotation."""
    older = sorted((number for number in ring.keys if number != ring.current), reverse=True)
    errors: list[PovertyRiskError] = []
    for key in (ring.key, *(ring.keys[number] for number in older)):
        try:
            return read_feedback(workbook, lookup=lookup, imported_on=imported_on, key=key)
        except PovertyRiskError as error:
            errors.append(error)
    raise errors[0]
