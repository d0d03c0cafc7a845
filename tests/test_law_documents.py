"""Documents that the law asks for: their facts, what is left to the office, and what may not stand in them."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from card_samples import make_card, make_run
from page_reader import read_html
from poverty_risk import RiskModel
from poverty_risk.evaluation import compute_group_metrics, evaluate_risk
from poverty_risk.exceptions import DeclarationError, PovertyRiskError
from poverty_risk.report.law_documents import (
    OfficeFacts,
    build_assessment_facts,
    render_assessment,
    render_household_letter,
    write_assessment,
    write_household_letter,
)
from poverty_risk.report.processing import describe_processing
from poverty_risk.wording import LOCALES, load_locale
from small_county import train_small_county

NASTY = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def model():
    return train_small_county().model


@pytest.fixture(scope="module")
def evaluation():
    """By hand: 1,000 points; 100 outcomes, of which the 50 points of highest risk hold 40."""
    index = pd.MultiIndex.from_product(
        [[f"HOUSEHOLD{n:04d}" for n in range(1000)], pd.to_datetime(["2023-07-01"])],
        names=["household_id", "as_of_date"],
    )
    label = np.zeros(1000)
    label[:40] = label[100:160] = 1
    risk = pd.Series(np.linspace(0.4, 0.01, 1000), index)
    return pd.Series(label, index), risk


@pytest.fixture(scope="module")
def assessed(model, evaluation):
    labels, risk = evaluation
    compared = evaluate_risk(
        labels,
        {"model": risk, "rules": -risk.rename("margin")},
        budgets=[0.001, 0.05],
        replicates=0,
    )
    towns = pd.Series(np.repeat(["T1", "T2"], [960, 40]), labels.index)
    groups = {"township_id": compute_group_metrics(labels, risk, towns)}
    return {
        locale: build_assessment_facts(
            model,
            compared,
            locale=locale,
            training={"model_id": "m1", "history": "f1", "source": "simulate"},
            groups=groups,
            office=OfficeFacts(organisation=NASTY, retention="2027-12-31"),
            measures={"keyed": True},
        )
        for locale in LOCALES
    }


# ------------------------------------------------------------------------------- what a model reads


def test_what_is_read_is_told_from_catalogue_and_schema(model):
    """The small county's catalogue, by hand: which columns its entries name."""
    found = describe_processing(model, "en")
    tables = {table.label: table for table in found.tables}
    read = {spec.table for spec in model.catalog.specs if spec.table}
    schema = model.task.schema
    assert set(tables) == {schema.tables[name].label["en"] for name in read}
    income = tables["household income account"]
    assert "wage income" in income.sensitive
    assert "members counted" in income.columns
    assert "insurance claims" in (*income.sensitive, *income.unread)
    assert found.is_sensitive
    assert {"sex", "ethnic minority household"} == set(found.audit_only)
    assert found.features == len(model.catalog.model_names)
    for table in found.tables:
        assert not set(table.sensitive) & set(table.unread)


def test_a_model_without_a_catalogue_tells_nothing():
    found = describe_processing(RiskModel(), "zh")
    assert (found.tables, found.is_sensitive) == ((), False)


# ------------------------------------------------------------------------------------- assessment


@pytest.mark.parametrize("locale", LOCALES)
def test_an_assessment_holds_what_both_articles_ask_for(assessed, locale):
    text = re.sub(r"<[^>]+>", " ", render_assessment(assessed[locale]))
    wanted = {
        "zh": ["第五十五条", "敏感个人信息", "自动化决策", "委托处理", "境外",
               "是否合法、正当、必要", "对个人权益的影响和安全风险", "保护措施是否合法、有效、与风险程度相适应",
               "三年"],
        "en": ["Article 55", "Sensitive personal information", "Automated decision-making",
               "Processing by others", "abroad", "lawful, legitimate and necessary",
               "Influence on personal rights, and security risks",
               "lawful, effective and in proportion", "three years"],
    }[locale]  # fmt: skip
    assert [part for part in wanted if part not in text] == []


def test_figures_are_those_of_the_run_and_small_ones_are_left_out(assessed):
    """Of the 50 of highest risk 40 have the outcome: precision 80%, recall 40 of 100. Of 1: under 10."""
    text = re.sub(r"<[^>]+>", " ", render_assessment(assessed["en"]))
    assert "visiting 5% of households finds 40% of outcomes" in text
    assert "visiting 5%: 80% of visits find an outcome" in text
    assert "visiting 0.1% of households finds under 10, not shown" in text
    # T2 has no outcome, so T1's is the total; both are hidden.
    assert "township: 0 groups shown, 2 too small to show" in text
    assert "1,000" in text
    simulated = load_locale("en")["model_report"]["warnings"]["simulated"]
    assert simulated in text
    assert "2027-12-31" in text
    assert "A key is in use." in text
    assert "The office starts the log and verifies it." in text


@pytest.mark.parametrize("locale", LOCALES)
def test_what_only_the_office_knows_is_left_as_lines(assessed, locale):
    empty = dataclasses.replace(assessed[locale], office=OfficeFacts())
    with_name = render_assessment(assessed[locale])
    blank = 'class="blank"'
    # Organisation and time limit are filled in.
    assert render_assessment(empty).count(blank) == with_name.count(blank) + 2
    assert with_name.count(blank) > 8
    assert "HOUSEHOLD" not in with_name


@pytest.mark.parametrize("locale", LOCALES)
def test_documents_escape_what_is_filled_in_and_ask_no_network(assessed, locale):
    office = OfficeFacts(organisation=NASTY, contact=NASTY, applicant=NASTY)
    for html in (
        render_assessment(assessed[locale]),
        render_household_letter(make_card(locale), make_run(locale), office=office),
    ):
        assert NASTY not in html
        assert "&lt;script&gt;" in html
        assert "<script" not in html
        assert "http" not in re.sub(r'http-equiv="[^"]*"', "", html)
        assert "default-src 'none'" in html
        assert f'lang="{load_locale(locale)["page"]["lang"]}"' in html
        assert read_html(html).one("h1").text


def test_an_assessment_of_a_model_without_a_task(evaluation):
    features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    labels = (features["income"] < -1).astype(float)
    bare = RiskModel(n_estimators=3, calibration=None, early_stopping_rounds=None)
    risk = bare.fit(features, labels).risk(features)
    found = evaluate_risk(labels, {"model": risk}, replicates=0)
    html = render_assessment(build_assessment_facts(bare, found, locale="zh"))
    assert "未发现，由单位核对" in html
    with pytest.raises(DeclarationError, match="'fr'"):
        build_assessment_facts(bare, found, locale="fr")


# ------------------------------------------------------------------------------------------ letter


@pytest.mark.parametrize("locale", LOCALES)
def test_a_letter_tells_the_household_what_its_card_says(locale, model):
    card, run = make_card(locale), make_run(locale)
    processing = describe_processing(model, locale)
    html = render_household_letter(card, run, processing=processing)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).replace("&#39;", "'")
    for part in (
        card.household, card.pseudonym, card.risk_text, card.why_text, card.tier_label,
        run.outcome, run.horizon_text, run.model_id, run.snapshot,
        str(load_locale(locale)["notice"]),
        *(reason.text for reason in (*card.reasons, *card.lowering)),
        *card.data_gaps,
        *(table.label for table in processing.tables),
    ):  # fmt: skip
        assert re.sub(r"\s+", " ", part) in text.replace("&#34;", '"').replace("&amp;", "&"), part


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("zh", ["第二十四条", "第四十五条", "第四十六条", "第四十七条", "第四十八条", "拒绝", "相关", "由人决定"]),
        ("en", ["24 and 48", "article 45", "article 46", "article 47", "right to refuse",
                "associated with", "people decide"]),
    ],
)  # fmt: skip
def test_a_letter_tells_of_the_rights_of_people(locale, words):
    html = render_household_letter(make_card(locale), make_run(locale))
    assert [word for word in words if word not in html] == []
    for banned in ("because of", "due to", "SHAP", "因为"):
        assert banned not in html


def test_a_letter_to_a_household_without_a_risk_or_reasons():
    card = dataclasses.replace(
        make_card("en"), risk=None, risk_text="", reasons=(), lowering=(), data_gaps=(), rules=()
    )
    html = render_household_letter(card, make_run("en"))
    assert "No estimate was made: too little is on record." in html
    assert "Nothing that stands out." in html


# ----------------------------------------------------------------------------------------- on disk


def test_documents_are_written_and_a_letter_is_for_its_owner_alone(assessed, tmp_path):
    letter = write_household_letter(make_card("zh"), make_run("zh"), tmp_path / "new" / "l.html")
    assert letter.stat().st_mode & 0o077 == 0
    assessment = write_assessment(assessed["zh"], tmp_path / "new" / "a.html")
    assert assessment.read_text(encoding="utf-8") == render_assessment(assessed["zh"])
    (tmp_path / "taken").mkdir()
    with pytest.raises(PovertyRiskError, match="impact assessment"):
        write_assessment(assessed["zh"], tmp_path / "taken")
    with pytest.raises(PovertyRiskError, match="household letter"):
        write_household_letter(make_card("zh"), make_run("zh"), tmp_path / "taken")
