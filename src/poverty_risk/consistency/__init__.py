"""Whether records of a history can be true together: rules with permanent codes, run by the engine."""

from poverty_risk.consistency.quality import HouseholdQuality, summarise_quality
from poverty_risk.consistency.run import ConsistencyReport, check_consistency
from poverty_risk.consistency.spec import (
    ConsistencyCatalog,
    ConsistencyRule,
    load_consistency_rules,
)

__all__ = [
    "ConsistencyCatalog",
    "ConsistencyReport",
    "ConsistencyRule",
    "HouseholdQuality",
    "check_consistency",
    "load_consistency_rules",
    "summarise_quality",
]
