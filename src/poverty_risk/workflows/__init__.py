"""The steps of a run, from a config to files: what the command line and the notebooks call."""

from poverty_risk.workflows.chain import CycleResult
from poverty_risk.workflows.checks import CheckedHistory, check_history
from poverty_risk.workflows.forgetting import forget_everything_before, forget_households
from poverty_risk.workflows.imports import ImportedHistory, find_people, import_history
from poverty_risk.workflows.key_rotation import drop_old_keys, rotate_key
from poverty_risk.workflows.monitoring import MonitoredRound, monitor
from poverty_risk.workflows.month import run_month
from poverty_risk.workflows.privacy import (
    check_audit,
    record_export,
    write_impact_assessment,
    write_letter,
)
from poverty_risk.workflows.promotion import Promotion, promote, roll_back
from poverty_risk.workflows.reports import (
    import_feedback,
    write_report_from_disk,
    write_reports,
)
from poverty_risk.workflows.rounds import RoundFiles, evaluate_rounds, make_round
from poverty_risk.workflows.scoring import (
    explain_households,
    latest_date,
    score_folder,
    score_latest,
    score_on_spark,
)
from poverty_risk.workflows.training import (
    TaskResult,
    TrainingData,
    build_training_data,
    check_for_leakage,
    choose_tasks,
    evaluate_models,
    load_features,
    log_result,
    read_tables,
    train_task,
)
from poverty_risk.workflows.tuning import ComparedCandidates, TunedModel, compare, tune
from poverty_risk.workflows.visits import (
    ScoredRound,
    keep_similar,
    plan_round,
    tell_round,
    write_cards,
    write_round,
)
from poverty_risk.workflows.year import move_periods, run_year

__all__ = [
    "CheckedHistory",
    "ComparedCandidates",
    "CycleResult",
    "ImportedHistory",
    "MonitoredRound",
    "Promotion",
    "RoundFiles",
    "ScoredRound",
    "TaskResult",
    "TrainingData",
    "TunedModel",
    "build_training_data",
    "check_audit",
    "check_for_leakage",
    "check_history",
    "choose_tasks",
    "compare",
    "drop_old_keys",
    "evaluate_models",
    "evaluate_rounds",
    "explain_households",
    "find_people",
    "forget_everything_before",
    "forget_households",
    "import_feedback",
    "import_history",
    "keep_similar",
    "latest_date",
    "load_features",
    "log_result",
    "make_round",
    "monitor",
    "move_periods",
    "plan_round",
    "promote",
    "read_tables",
    "record_export",
    "roll_back",
    "rotate_key",
    "run_month",
    "run_year",
    "score_folder",
    "score_latest",
    "score_on_spark",
    "tell_round",
    "train_task",
    "tune",
    "write_cards",
    "write_impact_assessment",
    "write_letter",
    "write_report_from_disk",
    "write_reports",
    "write_round",
]
