"""Tracking: what is recorded about a training (`record`), and MLflow, where it goes (`store`)."""

from poverty_risk.tracking.exhibits import make_input_example
from poverty_risk.tracking.record import TrainingRecord, record_training
from poverty_risk.tracking.store import LoggedTraining, download_model_folder, log_training

__all__ = [
    "LoggedTraining",
    "TrainingRecord",
    "download_model_folder",
    "log_training",
    "make_input_example",
    "record_training",
]
