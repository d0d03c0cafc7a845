"""The model report: the model card of one training, as one HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.evaluation import Evaluation
from poverty_risk.exceptions import Fault, PovertyRiskError
from poverty_risk.explain import RiskExplanation
from poverty_risk.leakage import LeakageReport
from poverty_risk.model import RiskModel
from poverty_risk.model_folder import MANIFEST, read_model_folder
from poverty_risk.report.charts import draw_bars
from poverty_risk.report.documents import render_template, write_document
from poverty_risk.report.model_charts import draw_forest, draw_reliability
from poverty_risk.report.model_evaluation import BudgetFact, Interval
from poverty_risk.report.model_facts import NOTHING_KNOWN, ModelFacts, build_model_facts
from poverty_risk.wording import format_date, format_value, load_locale

__all__ = ["read_evaluation", "read_training", "render_model_report", "write_model_report"]

INDEXES: Mapping[str, tuple[str, ...]] = {
    "metrics": ("name",),
    "intervals": ("name", "metric"),
    "differences": ("name", "baseline", "metric"),
    "budgets": ("name", "budget"),
    "reliability": ("name", "bin"),
}
"""Tables of an evaluation as training writes them, and what stands first in their rows."""

OPTIONAL = frozenset({"intervals", "differences", "reliability"})


def write_model_report(
    model: RiskModel,
    evaluation: Evaluation,
    path: str | Path,
    *,
    locale: str = "zh",
    training: Mapping[str, Any] = NOTHING_KNOWN,
    leakage: LeakageReport | None = None,
    groups: Mapping[str, pd.DataFrame] | None = None,
    explanation: RiskExplanation | None = None,
) -> Path:
    """Write the model report of a training: its model card, without any row of a household.

    Parameters
    ----------
    model
        A fitted or loaded model.
    evaluation
        How it did on later dates, the model first.
    path
        The HTML file; an older one is replaced.
    locale
        ``"zh"`` or ``"en"``.
    training
        What is known beside the model: see `build_model_facts`, and `read_training`.
    leakage
        The leakage report.
    groups
        Tables of `compute_group_metrics` by what they are grouped by.
    explanation
        Contributions at some points, for the importance of themes; without it the gain of the trees.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    DeclarationError
        Another language, or unknown entries in `training`.
    PovertyRiskError
        The file cannot be written.

    References
    ----------
    Mitchell, M. et al. (2019). Model cards for model reporting.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_model_report(model, evaluation, f"{folder}/model.html", locale="en").name
    'model.html'
    """
    facts = build_model_facts(
        model,
        evaluation,
        locale=locale,
        training=training,
        leakage=leakage,
        groups=groups,
        explanation=explanation,
    )
    return write_document(render_model_report(facts), path, "model report")


def render_model_report(facts: ModelFacts) -> str:
    """Render a model report.

    Parameters
    ----------
    facts
        From `build_model_facts`.

    Returns
    -------
    str
        An HTML document in the language of the facts, without scripts; its policy forbids every
        request.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    >>> labels = (features["income"] < -1).astype(float)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    >>> html = render_model_report(build_model_facts(model, evaluation, locale="en"))
    >>> "<h1>Model report</h1>" in html
    True
    """
    words = load_locale(facts.locale)
    pen = _Pen(facts.locale)
    probable = [one for one in facts.compared if "brier" in one.metrics]
    forests = [
        (metric, [one for one in facts.compared if metric in one.metrics])
        for metric in ("auc", "average_precision")
    ]
    return render_template(
        "model_report.html",
        {
            "facts": facts,
            "words": words,
            "texts": words["model_report"],
            "lang": words["page"]["lang"],
            "pen": pen,
            "probable": probable,
            "forests": [
                (metric, list(zip(rows, plot.marks, strict=True)), plot.ticks)
                for metric, rows in forests
                if rows
                for plot in [draw_forest([one.metrics[metric] for one in rows])]
            ],
            "budget_rows": _by_name(facts.budgets),
            "reliability": draw_reliability(facts.reliability, pen.share)
            if facts.reliability
            else None,
            "theme_bars": draw_bars(
                {one.theme: one.share for one in facts.themes},
                pen.share,
                {one.theme: one.label for one in facts.themes},
            ),
        },
    )


class _Pen:
    """Writes numbers, shares, intervals and dates as readers of a language do."""

    def __init__(self, locale: str) -> None:
        self.locale = locale
        self.texts = load_locale(locale)["model_report"]

    def number(self, value: float | None, digits: int = 3) -> str:
        """A number with fixed decimals."""
        return str(self.texts["none"]) if value is None else self._signed(f"{value:.{digits}f}")

    def count(self, value: int | None) -> str:
        """A count; one that may not be told is under 10."""
        return str(self.texts["few"]) if value is None else f"{value:,}"

    def share(self, value: float | None) -> str:
        """A share as per cent."""
        none = str(self.texts["none"])
        return none if value is None else format_value(value, "share", self.locale)

    def interval(self, found: Interval | None, kind: str = "number") -> str:
        """An estimate with its interval."""
        if found is None:
            return str(self.texts["few"])
        write = self.share if kind == "share" else self.number
        if found.low is None or found.high is None:
            return write(found.estimate)
        return str(self.texts["range"]).format(
            estimate=write(found.estimate), low=write(found.low), high=write(found.high)
        )

    def times(self, value: float | None) -> str:
        """A lift."""
        if value is None:
            return str(self.texts["few"])
        return str(self.texts["budgets"]["times"]).format(n=f"{value:.1f}")

    def dates(self, first: str | None, last: str | None) -> str:
        """From a date to a date; one alone where they are the same."""
        if first is None or last is None:
            return str(self.texts["unknown"])
        ends = [format_date(str(date), self.locale) for date in (first, last)]
        return (
            ends[0] if ends[0] == ends[1] else self.texts["to"].format(first=ends[0], last=ends[1])
        )

    @staticmethod
    def _signed(text: str) -> str:
        return text.replace("-", "\N{MINUS SIGN}")


def _by_name(budgets: Sequence[BudgetFact]) -> list[tuple[str, list[BudgetFact]]]:
    rows: dict[str, list[BudgetFact]] = {}
    for one in budgets:
        rows.setdefault(one.label, []).append(one)
    return list(rows.items())


def read_training(folder: str | Path) -> dict[str, Any]:
    """What a model folder says of its training, for the report.

    Parameters
    ----------
    folder
        A folder written by `RiskModel.save`; every file is checked against its hash.

    Returns
    -------
    dict
        ``model_id``, ``created``, ``versions``, and ``history`` and ``task`` where they were saved.

    Raises
    ------
    ModelFolderError
        A file is missing, altered, foreign or of a newer format.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    >>> labels = (features["income"] < -1).astype(float)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model_id = model.fit(features, labels).save(f"{folder}/model", {"history": "f1"})
    ...     known = read_training(f"{folder}/model")
    >>> known["model_id"] == model_id, known["history"]
    (True, 'f1')
    """
    folder = Path(folder)
    content = read_model_folder(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    known = {"model_id": content.model_id}
    known |= {key: manifest[key] for key in ("created", "versions") if key in manifest}
    return known | {key: content.extra[key] for key in ("history", "task") if key in content.extra}


def read_evaluation(folder: str | Path) -> Evaluation:
    r"""Read back the tables of an evaluation that training wrote.

    Parameters
    ----------
    folder
        A folder with ``metrics.csv``, ``budgets.csv`` and, where they were computed,
        ``intervals.csv``, ``differences.csv`` and ``reliability.csv``.

    Returns
    -------
    Evaluation
        The tables.

    Raises
    ------
    PovertyRiskError
        A table is missing or is none: all in one error.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "metrics.csv").write_text("name,n,auc\nmodel,50,0.7\n")
    ...     _ = Path(folder, "budgets.csv").write_text("name,budget,visits\nmodel,0.1,5\n")
    ...     float(read_evaluation(folder).metrics.loc["model", "auc"])
    0.7
    """
    found: dict[str, pd.DataFrame] = {}
    faults = []
    for name in INDEXES:
        path = Path(folder, f"{name}.csv")
        try:
            found[name] = _read_table(path, name)
        except (OSError, ValueError, KeyError) as error:
            expected = f"a table with {', '.join(INDEXES[name])}"
            remedy = "Train again, or copy the folder again."
            faults.append(Fault(f"evaluation '{path.name}'", _reason(error), expected, remedy))
    if faults:
        raise PovertyRiskError(faults)
    return Evaluation(**found)


def _read_table(path: Path, name: str) -> pd.DataFrame:
    if name in OPTIONAL and not path.exists():
        return pd.DataFrame()
    index = list(INDEXES[name])
    # A name may look like a number.
    texts = dict.fromkeys(set(index) - {"budget", "bin"}, "str")
    table = pd.read_csv(path, dtype=texts)
    if name in OPTIONAL and table.empty:
        return pd.DataFrame()
    return table.set_index(index)


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "another table"
