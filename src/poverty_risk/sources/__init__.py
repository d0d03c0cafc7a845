"""Real county files, workbooks and databases into history tables, by mapping files."""

from poverty_risk.sources.database import DatabaseTable
from poverty_risk.sources.history import build_history
from poverty_risk.sources.import_report import ImportReport
from poverty_risk.sources.importing import import_sources
from poverty_risk.sources.inspection import inspect_source
from poverty_risk.sources.mapping import list_mappings, load_mapping
from poverty_risk.sources.mapping_draft import write_mapping
from poverty_risk.sources.store import Store

__all__ = [
    "DatabaseTable",
    "ImportReport",
    "Store",
    "build_history",
    "import_sources",
    "inspect_source",
    "list_mappings",
    "load_mapping",
    "write_mapping",
]
