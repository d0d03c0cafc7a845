"""Documents that the law asks for, filled from the facts of a run; the office completes and signs them.

- The impact assessment that articles 55 and 56 of the Personal Information Protection Law ask for
  before sensitive personal information is processed or decisions are automated.
- The explanation that a household may ask for (article 24).

The words stand in ``templates/assessment_*.html`` and ``templates/household_letter_*.html``. They are a
draft for the office: what only it can know is left as a line to fill in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from poverty_risk.evaluation import Evaluation
from poverty_risk.model import RiskModel
from poverty_risk.report.documents import render_template, write_document
from poverty_risk.report.facts import CardFacts, RunFacts
from poverty_risk.report.model_evaluation import BudgetFact, ComparedFact
from poverty_risk.report.model_facts import NOTHING_KNOWN, ModelFacts, build_model_facts
from poverty_risk.report.processing import Processing, describe_processing
from poverty_risk.wording import format_date, format_value, load_locale

__all__ = [
    "AssessmentFacts",
    "OfficeFacts",
    "build_assessment_facts",
    "render_assessment",
    "render_household_letter",
    "write_assessment",
    "write_household_letter",
]

NOTHING_READ = Processing()


@dataclass(frozen=True)
class OfficeFacts:
    """What only the office knows; what is empty stays a line to fill in by hand.

    Parameters
    ----------
    organisation, contact, telephone
        Who answers for the processing.
    applicant
        Who asked for an explanation. Leave it empty, and write the name on paper.
    legal_basis
        The regulation by which the office processes the information.
    retention
        Until when records are kept.
    """

    organisation: str = ""
    contact: str = ""
    telephone: str = ""
    applicant: str = ""
    legal_basis: str = ""
    retention: str = ""


@dataclass(frozen=True)
class AssessmentFacts:
    """What an impact assessment says.

    Parameters
    ----------
    model
        Facts of the training.
    processing
        What the model reads.
    office
        What the office filled in.
    measures
        Facts about protective measures by name: ``keyed`` (pseudonyms are keyed), ``audited`` (an
        audit log is kept), ``forgotten_before`` (day before which records were removed, or empty).
    """

    model: ModelFacts
    processing: Processing
    office: OfficeFacts = OfficeFacts()
    measures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> ComparedFact:
        """How the model did in the test period."""
        return self.model.compared[0]

    @property
    def rules(self) -> ComparedFact | None:
        """How the office's rules did, if they were compared."""
        return next((one for one in self.model.compared if one.name == "rules"), None)

    @property
    def budgets(self) -> tuple[BudgetFact, ...]:
        """What visits to shares of households find when the model orders them."""
        return tuple(one for one in self.model.budgets if one.name == self.own.name)


def build_assessment_facts(
    model: RiskModel,
    evaluation: Evaluation,
    *,
    locale: str = "zh",
    training: Mapping[str, Any] = NOTHING_KNOWN,
    groups: Mapping[str, pd.DataFrame] | None = None,
    office: OfficeFacts | None = None,
    measures: Mapping[str, Any] = NOTHING_KNOWN,
) -> AssessmentFacts:
    """Gather what an impact assessment says from a training.

    Parameters
    ----------
    model
        A fitted or loaded model.
    evaluation
        How it did on later dates, the model first.
    locale
        ``"zh"`` or ``"en"``.
    training
        What is known of the training beside the model (see `build_model_facts`).
    groups
        Tables of `compute_group_metrics` by what they are grouped by.
    office
        What the office fills in.
    measures
        See `AssessmentFacts`.

    Returns
    -------
    AssessmentFacts
        No row of a household; counts of outcomes under 10 are left out.

    Raises
    ------
    DeclarationError
        Another language, or unknown entries in `training`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    >>> labels = (features["income"] < -1).astype(float)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    >>> build_assessment_facts(model, evaluation, locale="en").own.name
    'model'
    """
    facts = build_model_facts(model, evaluation, locale=locale, training=training, groups=groups)
    return AssessmentFacts(
        facts, describe_processing(model, locale), office or OfficeFacts(), dict(measures)
    )


def render_assessment(facts: AssessmentFacts) -> str:
    """Render an impact assessment.

    Parameters
    ----------
    facts
        From `build_assessment_facts`.

    Returns
    -------
    str
        An HTML document in the language of the facts, to complete by hand, without scripts.

    References
    ----------
    Personal Information Protection Law of the People's Republic of China (2021), articles 24, 28, 55, 56.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    >>> labels = (features["income"] < -1).astype(float)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    >>> html = render_assessment(build_assessment_facts(model, evaluation, locale="en"))
    >>> "Article 56" in html
    True
    """
    locale = facts.model.locale
    context = {"facts": facts, "office": facts.office, "texts": load_locale(locale)["model_report"]}
    return _render("assessment", locale, context)


def write_assessment(facts: AssessmentFacts, path: str | Path) -> Path:
    """Write an impact assessment, whole or not at all.

    Parameters
    ----------
    facts
        From `build_assessment_facts`.
    path
        The HTML file; an older one is replaced.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, evaluate_risk
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    >>> labels = (features["income"] < -1).astype(float)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> risk = model.fit(features, labels).risk(features)
    >>> evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    >>> facts = build_assessment_facts(model, evaluation, locale="en")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_assessment(facts, f"{folder}/assessment.html").name
    'assessment.html'
    """
    return write_document(render_assessment(facts), path, "impact assessment")


def render_household_letter(
    card: CardFacts,
    run: RunFacts,
    *,
    processing: Processing = NOTHING_READ,
    office: OfficeFacts | None = None,
) -> str:
    """Render the explanation that a household asked for.

    Parameters
    ----------
    card
        Facts of its card, not scoped to a role: it is the household's own information.
    run
        The round that the card belongs to.
    processing
        What the model reads, from `describe_processing`.
    office
        What the office fills in.

    Returns
    -------
    str
        An HTML document in the language of the run, without scripts. It names nobody: the office
        writes the name on paper.

    References
    ----------
    Personal Information Protection Law of the People's Republic of China (2021), articles 24, 44 to 48.

    Examples
    --------
    >>> import dataclasses
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import CardFacts, RunFacts
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures={},
    ... )  # fmt: skip
    >>> empty = dict.fromkeys((field.name for field in dataclasses.fields(CardFacts)), "")
    >>> known = {"order": 1, "household": "H0***23", "due_date": None, "confidence": "high"}
    >>> "Household: H0***23" in render_household_letter(CardFacts(**empty | known), run)
    True
    """
    context = {
        "card": card,
        "run": run,
        "processing": processing,
        "office": office or OfficeFacts(),
    }
    return _render("household_letter", run.locale, context)


def write_household_letter(
    card: CardFacts,
    run: RunFacts,
    path: str | Path,
    *,
    processing: Processing = NOTHING_READ,
    office: OfficeFacts | None = None,
) -> Path:
    """Write the explanation that a household asked for; only its owner can read the file.

    Parameters
    ----------
    card, run, processing, office
        As in `render_household_letter`.
    path
        The HTML file; an older one is replaced.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import dataclasses, tempfile
    >>> import pandas as pd
    >>> from poverty_risk.report.facts import CardFacts, RunFacts
    >>> run = RunFacts(
    ...     locale="en", as_of_date=pd.Timestamp("2024-01-01"), horizon_text="12 months",
    ...     outcome="any", model_id="m1", run_id="", snapshot="s1", scored=0, not_scored={},
    ...     figures={},
    ... )  # fmt: skip
    >>> empty = dict.fromkeys((field.name for field in dataclasses.fields(CardFacts)), "")
    >>> known = {"order": 1, "household": "H0***23", "due_date": None, "confidence": "high"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_household_letter(CardFacts(**empty | known), run, f"{folder}/letter.html").name
    'letter.html'
    """
    text = render_household_letter(card, run, processing=processing, office=office)
    return write_document(text, path, "household letter", private=True)


def _render(name: str, locale: str, context: Mapping[str, Any]) -> str:
    words = load_locale(locale)

    def show(value: float | None, unit: str) -> str:
        if value is None:
            return str(words["model_report"]["few"])
        return format_value(value, unit, locale).replace("-", "−")

    shared = {
        "lang": words["page"]["lang"],
        "words": words,
        "none": words["missing"],
        "separator": words["list_separator"],
        "day": lambda date: format_date(date, locale),
        "show": show,
    }
    return render_template(f"{name}_{locale}.html", {**shared, **context})
