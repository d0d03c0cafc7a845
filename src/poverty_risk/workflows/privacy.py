"""The log of what leaves the office, and the documents that the law asks for."""

from __future__ import annotations

from pathlib import Path

from poverty_risk.audit_log import AuditCheck, AuditEntry, append_audit, verify_audit_log
from poverty_risk.config import Config
from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.loading import load_model
from poverty_risk.model import RiskModel
from poverty_risk.privacy import read_or_make_key
from poverty_risk.report.law_documents import (
    OfficeFacts,
    build_assessment_facts,
    write_assessment,
    write_household_letter,
)
from poverty_risk.report.model_report import read_evaluation, read_training
from poverty_risk.report.processing import describe_processing
from poverty_risk.tables import HistoryTables
from poverty_risk.workflows.office import KEY_FILE, OFFICE_ONLY
from poverty_risk.workflows.visits import plan_round, tell_round

__all__ = ["check_audit", "record_export", "write_impact_assessment", "write_letter"]

AUDIT_LOG, AUDIT_KEY = "audit.jsonl", "audit.key"


def record_export(
    config: Config,
    command: str,
    *,
    reason: str = "",
    output: str | Path | None = None,
    households: int | None = None,
    who: str | None = None,
) -> AuditEntry:
    """Write down in the office's log that something was taken out (see `append_audit`)."""
    office = config.output / OFFICE_ONLY
    return append_audit(
        office / AUDIT_LOG,
        read_or_make_key(office / AUDIT_KEY),
        command=command,
        reason=reason,
        output=output,
        households=households,
        who=who,
    )


def check_audit(config: Config, known_head: str | None = None) -> AuditCheck:
    """Look whether the office's log is as it was written (see `verify_audit_log`)."""
    office = config.output / OFFICE_ONLY
    if not (office / AUDIT_KEY).exists():
        # A new key would call every line of an old log altered.
        remedy = "Bring the key back from a backup; without a log there is nothing to verify."
        raise PovertyRiskError(
            Fault(f"key file '{AUDIT_KEY}'", "no such file", "the key of the log", remedy)
        )
    return verify_audit_log(office / AUDIT_LOG, read_or_make_key(office / AUDIT_KEY), known_head)


def write_impact_assessment(
    config: Config,
    model: str | Path,
    evaluation: str | Path,
    *,
    locale: str | None = None,
    office: OfficeFacts | None = None,
) -> Path:
    """Write the impact assessment of a training that is on disk, for the office to complete.

    Parameters
    ----------
    config
        The run.
    model
        Model folder, or an MLflow URI.
    evaluation
        Folder of the evaluation tables that training wrote.
    locale
        Language; by default the config's.
    office
        What the office fills in.

    Returns
    -------
    Path
        The HTML file in ``reports``.

    Raises
    ------
    PovertyRiskError
        Model or evaluation cannot be read, or the file cannot be written.
    """
    locale = locale or config.scoring.locale
    private = config.output / OFFICE_ONLY
    training = read_training(Path(model)) if Path(model).is_dir() else {}
    facts = build_assessment_facts(
        load_model(model),
        read_evaluation(Path(evaluation)),
        locale=locale,
        training=training | {"source": config.history.source},
        office=office,
        measures={
            "keyed": (private / KEY_FILE).is_file(),
            "audited": (private / AUDIT_LOG).is_file(),
        },
    )
    return write_assessment(facts, config.output / "reports" / f"assessment_{locale}.html")


def write_letter(
    config: Config,
    tables: HistoryTables,
    model: RiskModel | str | Path,
    household: str,
    *,
    reason: str,
    locale: str | None = None,
    office: OfficeFacts | None = None,
    who: str | None = None,
) -> Path:
    """Write the explanation that a household asked for, and the line of the log.

    Parameters
    ----------
    config
        The run.
    tables
        The history.
    model
        Model folder, MLflow URI or model.
    household
        Its id as in the history.
    reason
        Who asked, and how it was made sure that it is somebody of the household; for the log.
    locale
        Language; by default the config's.
    office
        What the office fills in.
    who
        Who writes it, for the log.

    Returns
    -------
    Path
        The HTML file in ``letters``, readable by its owner alone.

    Raises
    ------
    PovertyRiskError
        The household is not known or has no risk; the error says why.
    """
    locale = locale or config.scoring.locale
    planned = plan_round(config, tables, model, [household])
    facts = tell_round(planned, locale)
    card = facts.cards[0]
    path = config.output / "letters" / f"{card.pseudonym}_{locale}.html"
    write_household_letter(
        card,
        facts.run,
        path,
        processing=describe_processing(planned.round.model, locale),
        office=office,
    )
    try:
        record_export(config, "household-letter", reason=reason, output=path, households=1, who=who)
    except PovertyRiskError:
        # What is not in the log does not leave the office.
        path.unlink(missing_ok=True)
        raise
    return path
