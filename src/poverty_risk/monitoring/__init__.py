"""Whether a model can still be trusted: checks with permanent codes, five outcomes, a reason each."""

from poverty_risk.monitoring.catalog import MonitoringCatalog, load_monitoring_catalog
from poverty_risk.monitoring.findings import OUTCOMES, CheckResult, MonitoringReport
from poverty_risk.monitoring.run import run_monitoring
from poverty_risk.monitoring.settings import MonitoringSettings

__all__ = [
    "OUTCOMES",
    "CheckResult",
    "MonitoringCatalog",
    "MonitoringReport",
    "MonitoringSettings",
    "load_monitoring_catalog",
    "run_monitoring",
]
