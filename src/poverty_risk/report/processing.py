"""Which personal information a model reads: by table, what of it is sensitive, what is never read."""

from __future__ import annotations

from dataclasses import dataclass

from poverty_risk.expressions import find_names
from poverty_risk.features import Catalog
from poverty_risk.model import RiskModel
from poverty_risk.schema import Schema
from poverty_risk.wording import load_locale

__all__ = ["Processing", "TableUse", "describe_processing"]


@dataclass(frozen=True)
class TableUse:
    """What a model reads of one history table, in words.

    Parameters
    ----------
    label
        The table.
    source
        Where its records come from.
    columns
        Columns that features read, without the sensitive ones.
    sensitive
        Sensitive columns that features read.
    unread
        Sensitive columns that no feature reads.
    """

    label: str
    source: str
    columns: tuple[str, ...]
    sensitive: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Processing:
    """The personal information behind a model.

    Parameters
    ----------
    tables
        Tables that features read.
    features
        How many features there are.
    audit_only
        Columns that serve fairness checks alone; no feature reads them.
    tells_of_children
        Whether birth dates or schooling are read, so that of children under 14 something is processed.
    """

    tables: tuple[TableUse, ...] = ()
    features: int = 0
    audit_only: tuple[str, ...] = ()
    tells_of_children: bool = False

    @property
    def is_sensitive(self) -> bool:
        """Whether anything sensitive is read."""
        return self.tells_of_children or any(table.sensitive for table in self.tables)


CHILDREN = frozenset({("person", "birth_date"), ("person", "in_school"), ("schooling", "stage")})
"""Columns of the shipped archive that tell of children."""


def describe_processing(model: RiskModel, locale: str) -> Processing:
    """What a model reads, from its own catalogue and schema.

    Parameters
    ----------
    model
        A fitted or loaded model; without catalogue or task nothing is known.
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    Processing
        In the order of the schema.

    Examples
    --------
    >>> from poverty_risk import RiskModel
    >>> describe_processing(RiskModel(), "en").is_sensitive
    False
    """
    words = load_locale(locale)
    catalog, task = model.catalog, model.task
    if catalog is None or task is None:
        return Processing()
    read = _find_read(catalog, task.schema)
    uses = []
    for name, table in task.schema.tables.items():
        if name not in read:
            continue
        labels = {
            column: column if item.label is None else item.label[locale]
            for column, item in table.columns.items()
        }
        sensitive = [column for column, item in table.columns.items() if item.sensitive]
        uses.append(
            TableUse(
                label=table.label[locale],
                source=str(words["sources"].get(name, "")),
                columns=tuple(labels[c] for c in labels if c in read[name] and c not in sensitive),
                sensitive=tuple(labels[c] for c in sensitive if c in read[name]),
                unread=tuple(labels[c] for c in sensitive if c not in read[name]),
            )
        )
    audited = [
        column if item.label is None else item.label[locale]
        for name, table in task.schema.tables.items()
        for column, item in table.columns.items()
        if item.audit and column not in read.get(name, ())
    ]
    children = any(column in read.get(table, ()) for table, column in CHILDREN)
    return Processing(tuple(uses), len(catalog.model_names), tuple(audited), children)


def _find_read(catalog: Catalog, schema: Schema) -> dict[str, set[str]]:
    """Columns of each table that some feature reads."""
    read: dict[str, set[str]] = {}
    for spec in catalog.specs:
        if spec.table is None or spec.table not in schema.tables:
            continue
        columns = read.setdefault(spec.table, set())
        for text in (spec.value, spec.where):
            if text is not None:
                columns |= find_names(str(text)) & set(schema.tables[spec.table].columns)
    return read
