"""What is recorded about a training: plain values, tables and figures, and never a household."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from poverty_risk.evaluation import Evaluation
from poverty_risk.exceptions import Fault, ModelFolderError, PovertyRiskError
from poverty_risk.explain import explain_risk
from poverty_risk.leakage import LeakageReport
from poverty_risk.model import RiskModel
from poverty_risk.model_folder import MANIFEST, read_model_folder
from poverty_risk.tables import HistoryTables
from poverty_risk.tracking.exhibits import (
    describe_catalog,
    draw_evaluation,
    evaluation_tables,
    make_input_example,
    plot_contributions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TrainingRecord", "record_training"]

PERSONAL = frozenset({"household_id", "person_id", "bill_id", "loan_id"})
"""Names of ids of one household, person or document; a table that has one is refused."""

SAMPLE_ROWS = 1_000
"""Points shown in the picture of contributions."""

VERSIONS_OF = ("poverty-risk", "lightgbm", "mlflow", "numpy", "pandas", "scikit-learn", "shap")

_WORD = re.compile(r"[^\s,;:\"'()\[\]{}=/|]+")
_METRIC = re.compile(r"[\w.\- /:]+")


@dataclass(frozen=True)
class TrainingRecord:
    """All that is recorded about one training.

    Parameters
    ----------
    model_folder
        The saved model.
    input_example
        Two made-up rows of features.
    params
        Flat parameters of model and task.
    metrics
        Flat metrics, ``<period>.<metric>`` for the model and ``<period>.<name>.<metric>`` for what
        it is compared with.
    tags
        Where the model comes from: model id, fingerprints, schema, label, versions.
    tables
        Tables by name; none has ids or rows of households.
    figures
        Figures by name.
    documents
        Plain values by name, such as the config.

    Raises
    ------
    PovertyRiskError
        A table with household ids, or a metric without a usable name or value: all in one error.
    """

    model_folder: Path
    input_example: pd.DataFrame = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    figures: Mapping[str, Figure] = field(default_factory=dict, repr=False)
    documents: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        faults = [
            Fault(
                f"table '{name}'",
                f"ids of households or persons ({', '.join(personal)})",
                "figures about groups",
                "Aggregate it before it is recorded.",
            )
            for name, table in {**self.tables, "input example": self.input_example}.items()
            if (personal := sorted(PERSONAL & {str(c) for c in _all_names(table)}))
        ]
        faults += [
            Fault(f"metric '{name}'", repr(value), "a plain name and a number", "Correct it.")
            for name, value in self.metrics.items()
            if not _METRIC.fullmatch(name) or not isinstance(value, float | int)
        ]
        if faults:
            raise PovertyRiskError(faults)

    def check_no_ids(self, ids: Iterable[str]) -> None:
        """Refuse a record in which one of these ids is written anywhere.

        Parameters
        ----------
        ids
            Ids of households, persons or documents to look for. Short ones (under five characters,
            or under eight digits) are not: they would be found by chance.

        Raises
        ------
        PovertyRiskError
            An id was found; the error says where, not which.
        """
        wanted = {h for h in map(str, ids) if len(h) >= (8 if h.isdigit() else 5)}
        faults = [
            Fault(
                place,
                f"{len(found)} ids of households, persons or documents",
                "none",
                "Take them out before it is recorded.",
            )
            for place, text in self._texts()
            if (found := wanted.intersection(_WORD.findall(text)))
        ]
        if faults:
            raise PovertyRiskError(faults)

    def _texts(self) -> Iterator[tuple[str, str]]:
        plain = {"params": self.params, "metrics": self.metrics, "tags": self.tags}
        for name, values in {**plain, **self.documents}.items():
            yield name, json.dumps(values, ensure_ascii=False, default=str)
        for name, table in {**self.tables, "input example": self.input_example}.items():
            yield f"table '{name}'", table.to_csv()
        from matplotlib.text import Text  # noqa: PLC0415 - with the figures, not before

        for name, figure in self.figures.items():
            written = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
            yield f"figure '{name}'", "\n".join(text.get_text() for text in written)
        yield "model folder", (self.model_folder / MANIFEST).read_text(encoding="utf-8")


def _all_names(table: pd.DataFrame) -> list[Any]:
    return [*table.columns, *table.index.names]


def record_training(
    model: RiskModel,
    model_folder: str | Path,
    evaluation: Evaluation | Mapping[str, Evaluation],
    *,
    tables: HistoryTables | None = None,
    leakage: LeakageReport | None = None,
    config: Mapping[str, Any] | None = None,
    sample: pd.DataFrame | None = None,
    seed: int = 0,
) -> TrainingRecord:
    """Gather what is worth keeping about a training.

    Parameters
    ----------
    model
        The fitted model.
    model_folder
        Where it was saved.
    evaluation
        How it did on later dates; several periods by name, one alone is called ``test``.
    tables
        The history: its fingerprint is recorded, and nothing that holds one of its ids.
    leakage
        The leakage report.
    config
        Plain values of the run config.
    sample
        Features of points for the picture of contributions, index (household_id, as_of_date); at
        most 1,000 of them are drawn. The picture shows values, no ids.
    seed
        Of the draw.

    Returns
    -------
    TrainingRecord
        Plain values, tables and figures; nothing is written.

    Raises
    ------
    PovertyRiskError
        Something to be recorded holds ids of households.
    ModelFolderError
        The folder is damaged, or holds another model.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> from poverty_risk.tracking import record_training
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = model.save(f"{folder}/model")
    ...     evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    ...     record = record_training(model, f"{folder}/model", evaluation)
    >>> record.params["n_estimators"]
    '9'
    """
    folder = Path(model_folder)
    periods = {"test": evaluation} if isinstance(evaluation, Evaluation) else dict(evaluation)
    recorded: dict[str, pd.DataFrame] = {}
    figures: dict[str, Figure] = {}
    for period, item in periods.items():
        recorded |= {f"{period}_{name}": table for name, table in evaluation_tables(item).items()}
        figures |= {f"{period}_{name}": drawn for name, drawn in draw_evaluation(item).items()}
    if model.catalog is not None:
        recorded["feature_catalog"] = describe_catalog(model.catalog)
    if leakage is not None:
        recorded["leakage"] = leakage.table
    if sample is not None and len(sample):
        rows = np.random.default_rng(seed).permutation(len(sample))[:SAMPLE_ROWS]
        figures["contributions"] = plot_contributions(explain_risk(model, sample.iloc[rows]))
    record = TrainingRecord(
        model_folder=folder,
        input_example=make_input_example(model),
        params=_params(model),
        metrics={k: v for p, item in periods.items() for k, v in _metrics(p, item).items()},
        tags=_tags(model, folder, tables, leakage),
        tables=recorded,
        figures=figures,
        documents={} if config is None else {"config": dict(config)},
    )
    if tables is not None:
        record.check_no_ids(_find_ids(tables))
    return record


def _find_ids(tables: HistoryTables) -> Iterator[str]:
    """Ids of all households, persons and documents of a history."""
    yield from tables.households
    for name in tables.names:
        records = tables.arrow(name)
        for column in PERSONAL.intersection(records.column_names) - {"household_id"}:
            yield from filter(None, records[column].unique().to_pylist())


def _metrics(period: str, evaluation: Evaluation) -> dict[str, float]:
    """Flat metrics of one period; those of the first risk, the model's, carry no name."""
    first = evaluation.metrics.index[0]
    found: dict[str, float] = {}
    for name, row in evaluation.metrics.iterrows():
        prefix = period if name == first else f"{period}.{name}"
        found |= {f"{prefix}.{metric}": float(value) for metric, value in row.items()}
    entry: Any
    for entry in evaluation.budgets.reset_index().itertuples():
        prefix = period if entry.name == first else f"{period}.{entry.name}"
        for measure in ("precision", "recall", "lift"):
            found[f"{prefix}.{measure}{_at(entry.budget)}"] = float(getattr(entry, measure))
    if len(evaluation.intervals):
        for metric, row in evaluation.intervals.loc[first].iterrows():
            measure, _, budget = str(metric).partition("_at_")
            flat = f"{period}.{measure}{_at(float(budget)) if budget else ''}"
            found |= {f"{flat}.{end}": float(row[end]) for end in ("low", "high")}
    return found


def _at(budget: float) -> str:
    return f"_at_{100 * budget:.6g}pct"


def _params(model: RiskModel) -> dict[str, str]:
    """Flat parameters of the model, its task and its training, as text."""
    values: dict[str, Any] = {
        name: value
        for name, value in model.get_params(deep=False).items()
        if name not in ("catalog", "task")
    }
    values["n_features"] = model.n_features_in_
    values["training"] = model.training_
    if (task := model.task) is not None:
        values |= {"cohort": task.cohort, "label": task.label, "horizon": task.horizon}
        values["line"] = dict(task.line or {})
    return dict(_flatten(values))


def _flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _tags(
    model: RiskModel,
    folder: Path,
    tables: HistoryTables | None,
    leakage: LeakageReport | None,
) -> dict[str, str]:
    kept = read_model_folder(folder).model_id
    own = getattr(model, "model_id_", None)
    if own != kept:
        raise ModelFolderError(
            Fault(
                f"model folder '{folder.name}'",
                f"model {kept}",
                f"model {own or 'that was saved'}",
                "Save the model again, or give the folder that it was saved in.",
            )
        )
    tags = {"model_id": kept}
    if tables is not None:
        tags["history"] = tables.fingerprint
    if model.catalog is not None:
        tags["catalog"] = model.catalog.fingerprint
    if model.task is not None:
        tags |= {"schema": model.task.schema.name, "label": model.task.label}
        tags |= {"horizon": model.task.horizon, "cohort": model.task.cohort}
    if leakage is not None:
        tags["leaks"] = ", ".join(leakage.leaking_features) or str(leakage.has_leaks).lower()
    return tags | {f"version.{name}": metadata.version(name) for name in VERSIONS_OF}
