"""Predict and explain which rural households are at risk of returning to poverty.

The public names are imported when they are first used, so that ``import poverty_risk`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poverty_risk.alternatives import find_alternatives as find_alternatives
    from poverty_risk.baselines import IncomeRule as IncomeRule
    from poverty_risk.baselines import LogisticBaseline as LogisticBaseline
    from poverty_risk.baselines import OfficeRules as OfficeRules
    from poverty_risk.baselines import VulnerabilityBaseline as VulnerabilityBaseline
    from poverty_risk.batch import predict_folder as predict_folder
    from poverty_risk.candidates import Candidate as Candidate
    from poverty_risk.cohort import build_prediction_points as build_prediction_points
    from poverty_risk.comparison import build_comparison as build_comparison
    from poverty_risk.consistency import check_consistency as check_consistency
    from poverty_risk.datasets import SimulatedCounty as SimulatedCounty
    from poverty_risk.datasets import make_household_history as make_household_history
    from poverty_risk.datasets import read_eph as read_eph
    from poverty_risk.evaluation import evaluate_risk as evaluate_risk
    from poverty_risk.evaluation import plot_precision_at_budget as plot_precision_at_budget
    from poverty_risk.evaluation import plot_reliability as plot_reliability
    from poverty_risk.exceptions import PovertyRiskError as PovertyRiskError
    from poverty_risk.explain import explain_risk as explain_risk
    from poverty_risk.fairness import build_audit_groups as build_audit_groups
    from poverty_risk.fairness import evaluate_groups as evaluate_groups
    from poverty_risk.features import Catalog as Catalog
    from poverty_risk.features import FeatureSpec as FeatureSpec
    from poverty_risk.features import build_features as build_features
    from poverty_risk.features import load_catalog as load_catalog
    from poverty_risk.hazard import HazardModel as HazardModel
    from poverty_risk.helped import find_help as find_help
    from poverty_risk.helped import guard_helped as guard_helped
    from poverty_risk.history_chunks import iter_history as iter_history
    from poverty_risk.labels import grade_labels as grade_labels
    from poverty_risk.labels import label_returns as label_returns
    from poverty_risk.labels import measure_returns as measure_returns
    from poverty_risk.leakage import check_leakage as check_leakage
    from poverty_risk.loading import load_model as load_model
    from poverty_risk.looks import check_coverage as check_coverage
    from poverty_risk.looks import select_seen as select_seen
    from poverty_risk.model import PredictionTask as PredictionTask
    from poverty_risk.model import RiskModel as RiskModel
    from poverty_risk.panel import build_panel as build_panel
    from poverty_risk.person_periods import label_times as label_times
    from poverty_risk.predict import predict_from_features as predict_from_features
    from poverty_risk.predict import predict_risk as predict_risk
    from poverty_risk.reasons import build_reasons as build_reasons
    from poverty_risk.risk_change import explain_change as explain_change
    from poverty_risk.risk_intervals import build_risk_intervals as build_risk_intervals
    from poverty_risk.schema import Schema as Schema
    from poverty_risk.schema import load_schema as load_schema
    from poverty_risk.selection import compare_candidates as compare_candidates
    from poverty_risk.selection import evaluate_over_time as evaluate_over_time
    from poverty_risk.selective import SeenEvaluation as SeenEvaluation
    from poverty_risk.selective import calibrate_seen as calibrate_seen
    from poverty_risk.selective import evaluate_seen as evaluate_seen
    from poverty_risk.similar import SimilarIndex as SimilarIndex
    from poverty_risk.similar import build_similar_index as build_similar_index
    from poverty_risk.similar import find_similar as find_similar
    from poverty_risk.sources import build_history as build_history
    from poverty_risk.sources import import_sources as import_sources
    from poverty_risk.sources import inspect_source as inspect_source
    from poverty_risk.splits import TemporalSplit as TemporalSplit
    from poverty_risk.tables import HistoryTables as HistoryTables
    from poverty_risk.tables import read_history as read_history
    from poverty_risk.tracking import log_training as log_training
    from poverty_risk.tracking import record_training as record_training
    from poverty_risk.tuning import tune_model as tune_model
    from poverty_risk.unlike import find_unlike as find_unlike
    from poverty_risk.visits import VisitList as VisitList
    from poverty_risk.visits import build_visit_list as build_visit_list
    from poverty_risk.visits import collect_looks as collect_looks
    from poverty_risk.visits import evaluate_visit_list as evaluate_visit_list

_HOMES = {
    "Candidate": "candidates",
    "Catalog": "features",
    "FeatureSpec": "features",
    "HazardModel": "hazard",
    "HistoryTables": "tables",
    "IncomeRule": "baselines",
    "LogisticBaseline": "baselines",
    "OfficeRules": "baselines",
    "PovertyRiskError": "exceptions",
    "PredictionTask": "model",
    "RiskModel": "model",
    "Schema": "schema",
    "SeenEvaluation": "selective",
    "SimilarIndex": "similar",
    "SimulatedCounty": "datasets",
    "TemporalSplit": "splits",
    "VisitList": "visits",
    "VulnerabilityBaseline": "baselines",
    "build_audit_groups": "fairness",
    "build_comparison": "comparison",
    "build_features": "features",
    "build_history": "sources",
    "build_panel": "panel",
    "build_prediction_points": "cohort",
    "build_reasons": "reasons",
    "build_risk_intervals": "risk_intervals",
    "build_similar_index": "similar",
    "build_visit_list": "visits",
    "check_consistency": "consistency",
    "calibrate_seen": "selective",
    "check_coverage": "looks",
    "check_leakage": "leakage",
    "collect_looks": "visits",
    "compare_candidates": "selection",
    "evaluate_groups": "fairness",
    "evaluate_over_time": "selection",
    "evaluate_risk": "evaluation",
    "evaluate_seen": "selective",
    "evaluate_visit_list": "visits",
    "explain_change": "risk_change",
    "explain_risk": "explain",
    "find_alternatives": "alternatives",
    "find_help": "helped",
    "find_similar": "similar",
    "find_unlike": "unlike",
    "grade_labels": "labels",
    "guard_helped": "helped",
    "import_sources": "sources",
    "inspect_source": "sources",
    "iter_history": "history_chunks",
    "label_returns": "labels",
    "label_times": "person_periods",
    "load_catalog": "features",
    "load_model": "loading",
    "load_schema": "schema",
    "log_training": "tracking",
    "make_household_history": "datasets",
    "measure_returns": "labels",
    "plot_precision_at_budget": "evaluation",
    "plot_reliability": "evaluation",
    "predict_from_features": "predict",
    "predict_folder": "batch",
    "predict_risk": "predict",
    "read_eph": "datasets",
    "read_history": "tables",
    "record_training": "tracking",
    "tune_model": "tuning",
    "select_seen": "looks",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604 - names of the mapping above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        metadata = importlib.import_module("importlib.metadata")
        return metadata.version("poverty-risk")
    if name not in _HOMES:
        message = f"module 'poverty_risk' has no attribute '{name}'"
        raise AttributeError(message)
    value = getattr(importlib.import_module(f"poverty_risk.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
