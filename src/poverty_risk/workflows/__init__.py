"""The steps of a run, from a config to files: what the command line and the notebooks call."""

from poverty_risk.workflows.checks import CheckedHistory, check_history
from poverty_risk.workflows.reports import (
    import_feedback,
    write_report_from_disk,
    write_reports,
)
from poverty_risk.workflows.scoring import explain_households, latest_date, score_latest
from poverty_risk.workflows.training import (
    TaskResult,
    TrainingData,
    build_training_data,
    check_for_leakage,
    choose_tasks,
    evaluate_model,
    load_features,
    log_result,
    read_tables,
    train_task,
)
from poverty_risk.workflows.visits import (
    ScoredRound,
    keep_similar,
    plan_round,
    tell_round,
    write_cards,
    write_round,
)

__all__ = [
    "CheckedHistory",
    "ScoredRound",
    "TaskResult",
    "TrainingData",
    "build_training_data",
    "check_for_leakage",
    "check_history",
    "choose_tasks",
    "evaluate_model",
    "explain_households",
    "import_feedback",
    "keep_similar",
    "latest_date",
    "load_features",
    "log_result",
    "plan_round",
    "read_tables",
    "score_latest",
    "tell_round",
    "train_task",
    "write_cards",
    "write_report_from_disk",
    "write_reports",
    "write_round",
]
