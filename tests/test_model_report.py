"""The model report: facts by hand, what must not be told, and the document in both languages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from page_reader import Element, read_html
from poverty_risk.evaluation import Evaluation, compute_group_metrics, evaluate_risk
from poverty_risk.exceptions import DeclarationError, ModelFolderError, PovertyRiskError
from poverty_risk.explain import explain_risk
from poverty_risk.leakage import LeakageReport
from poverty_risk.model import RiskModel
from poverty_risk.report.model_charts import draw_forest, draw_reliability
from poverty_risk.report.model_evaluation import Interval, build_group_table
from poverty_risk.report.model_facts import ModelFacts, build_model_facts
from poverty_risk.report.model_report import (
    read_evaluation,
    read_training,
    render_model_report,
    write_model_report,
)
from poverty_risk.wording import LOCALES, load_locale
from small_county import SmallCounty, train_small_county

RISKS, OUTCOMES = (0.05, 0.1, 0.2, 0.4), (4, 8, 15, 30)
"""Four risks of 100 points each, and how many of them had the outcome: 57 of 400."""

NASTY = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def county() -> SmallCounty:
    return train_small_county()


def _points() -> tuple[pd.Series, pd.Series]:
    index = pd.MultiIndex.from_product(
        [[f"HOUSEHOLD{n:04d}" for n in range(400)], pd.to_datetime(["2023-07-01"])],
        names=["household_id", "as_of_date"],
    )
    label = np.concatenate([np.repeat([1.0, 0.0], [n, 100 - n]) for n in OUTCOMES])
    return pd.Series(label, index), pd.Series(np.repeat(RISKS, 100), index)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    labels, risk = _points()
    rules = (-risk).rename("margin")
    risks = {"model": risk, "rules": rules, "logistic": risk}
    return evaluate_risk(labels, risks, budgets=[0.05, 0.1], replicates=60, bins=4)


@pytest.fixture(scope="module")
def facts(county, evaluation) -> ModelFacts:
    return build_model_facts(county.model, evaluation, locale="en", training={"history": "f1"})


# ------------------------------------------------------------------------------ what is predicted


def test_task_is_told_from_the_model(facts):
    task = facts.task
    assert task is not None
    assert (task.cohort, task.label, task.horizon_text) == ("at_risk", "any", "12 months")
    # From schemas/archive.yaml: three definitions, the third made of two.
    assert [(one.table, one.reporting_lag_days) for one in task.definitions] == [
        ("monitoring status", 60),
        ("household income account", 120),
        ("housing, water and insurance checks", 60),
        ("schooling", 60),
    ]
    assert [(one.where, one.or_absent) for one in task.conditions] == [
        ("status == 'active'", False),
        ("status == 'cleared'", True),
    ]
    assert list(task.line) == sorted(task.line)


def test_model_without_a_task_or_catalogue_is_reported():
    features = pd.DataFrame({"income": np.linspace(-2, 2, 400)})
    labels = (features["income"] < -1).astype(float)
    model = RiskModel(n_estimators=5, calibration=None, early_stopping_rounds=None)
    evaluation = evaluate_risk(
        labels, {"model": model.fit(features, labels).risk(features)}, replicates=0
    )
    facts = build_model_facts(model, evaluation)
    assert facts.task is None
    assert [(one.name, one.label_zh, one.sources) for one in facts.features] == [
        ("income", "income", ())
    ]
    assert read_html(render_model_report(facts)).one("title")


# ------------------------------------------------------------------------------------- the figures


def test_periods_are_those_of_training_and_test(facts, county):
    boosted, later, test = facts.periods
    assert (boosted.name, later.name, test.name) == ("boosted", "later", "test")
    assert (boosted.points, later.points) == tuple(
        county.model.training_[name]["points"] for name in ("boosted", "later")
    )
    assert (test.points, test.positives, test.censored) == (400, 57, 0)
    assert test.rate == 57 / 400


@pytest.mark.parametrize(("positives", "told"), [(0, 0), (1, None), (9, None), (10, 10)])
def test_counts_under_ten_are_not_told(county, positives, told):
    label = pd.Series(np.repeat([1.0, 0.0], [positives, 200 - positives]))
    missing = pd.Series([math.nan] * positives, index=range(200, 200 + positives), dtype=float)
    labels = pd.concat([label, missing])
    risk = pd.Series(np.linspace(0.9, 0.1, len(labels)), labels.index)
    evaluation = evaluate_risk(labels, {"model": risk}, replicates=0)
    test = build_model_facts(county.model, evaluation).periods[-1]
    assert (test.positives, test.censored) == (told, told)
    assert test.rate == (None if told is None else told / 200)


def test_auc_counts_pairs(facts):
    label, risk = (series.to_numpy() for series in _points())
    above = risk[label == 1][:, None] - risk[label == 0][None, :]
    assert facts.compared[0].metrics["auc"].estimate == pytest.approx(
        ((above > 0) + (above == 0) / 2).mean()
    )
    interval = facts.compared[0].metrics["auc"]
    assert interval.low < interval.estimate < interval.high


def test_a_margin_has_metrics_of_its_order_alone(facts):
    rules = facts.compared[1]
    assert (rules.name, rules.label) == ("rules", "office rules")
    assert set(rules.metrics) == {"auc", "average_precision"}
    assert (rules.mean_risk, rules.slope) == (None, None)


def test_budgets_are_told_from_ten_outcomes_on(facts):
    # 5 %: 20 of the 100 points with the highest risk, 30 % of which had the outcome: 6 are found.
    # 10 %: 40 of them, 12 found. The rules visit those of the lowest risk, 4 %: 0.8 and 1.6 found.
    few, enough = (one for one in facts.budgets if one.name == "model")
    assert (few.visits, few.precision, few.recall, few.lift) == (20, None, None, None)
    assert (enough.visits, enough.precision.estimate) == (40, pytest.approx(0.3))
    assert enough.recall.estimate == pytest.approx(12 / 57)
    assert enough.lift == pytest.approx(0.3 / (57 / 400))
    assert enough.precision.low <= 0.3 <= enough.precision.high
    assert all(one.precision is None for one in facts.budgets if one.name == "rules")


def test_bins_are_pooled_to_ten_outcomes(facts):
    # 4 and 8 go together; the interval is scipy's Wilson interval of the pooled counts.
    assert [(one.points, one.positives) for one in facts.reliability] == [
        (200, 12),
        (100, 15),
        (100, 30),
    ]
    assert facts.reliability[0].mean_risk == pytest.approx(0.075)
    for one in facts.reliability:
        wilson = binomtest(one.positives, one.points).proportion_ci(method="wilson")
        assert (one.observed.low, one.observed.high) == pytest.approx((wilson.low, wilson.high))


def test_rest_of_the_bins_joins_the_last(county, evaluation):
    turned = evaluation.reliability.copy()
    turned["positives"] = turned["positives"].to_numpy()[::-1]
    facts = build_model_facts(county.model, dataclasses.replace(evaluation, reliability=turned))
    # 30 | 15 | 8 + 4
    assert [one.positives for one in facts.reliability] == [30, 15, 12]
    turned["positives"] = 2
    facts = build_model_facts(county.model, dataclasses.replace(evaluation, reliability=turned))
    assert facts.reliability == ()


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([20, 12, 30], [20, 12, 30]),
        ([20, 3, 12, 30], [20, 30]),  # 3 alone would follow from the total
        ([4, 6, 30], [30]),  # 4 and 6 cannot be told apart
        ([4, 5, 30, 40], [40]),  # their sum, 9, would follow from the total
        ([4, 5, 30], []),
        ([math.nan, 15, 20], [20]),
        ([0, 0, 50], []),
    ],
)
def test_groups_are_hidden_where_they_would_tell_small_counts(counts, told):
    labels, risk = _points()
    table = compute_group_metrics(labels, risk, pd.Series("all", labels.index))
    rows = pd.concat([table] * len(counts)).set_axis([f"g{n}" for n in range(len(counts))], axis=0)
    found = build_group_table("township_id", rows.assign(positives=counts))
    assert [one.positives for one in found.groups] == told
    assert found.hidden == len(counts) - len(told)


def test_group_of_points_without_one_is_named(county, evaluation):
    labels, risk = _points()
    group = pd.Series(np.where(risk >= 0.2, "T<1>", None), labels.index)
    tables = {"township_id": compute_group_metrics(labels, risk, group)}
    facts = build_model_facts(county.model, evaluation, locale="en", groups=tables)
    assert [(one.group, one.positives) for one in facts.groups[0].groups] == [
        ("T<1>", 45),
        ("", 12),
    ]
    text = read_html(render_model_report(facts)).one("main").text
    assert "T<1>" in text
    assert "not registered" in text


# ------------------------------------------------------------------------------- themes, features


def test_themes_by_contributions(county, evaluation):
    rows = county.features.iloc[:40]
    facts = build_model_facts(
        county.model, evaluation, explanation=explain_risk(county.model, rows)
    )
    values, _ = county.model.contributions(rows)
    catalog = county.model.catalog
    sums: dict[str, np.ndarray] = {}
    for name in values:
        theme = catalog[name].theme
        sums[theme] = sums.get(theme, np.zeros(40)) + values[name].to_numpy()
    expected = {theme: np.abs(total).mean() for theme, total in sums.items()}
    assert facts.importance == "contributions"
    assert {one.theme: one.amount for one in facts.themes} == pytest.approx(expected)
    amounts = [one.amount for one in facts.themes]
    assert amounts == sorted(amounts, reverse=True)
    assert sum(one.share for one in facts.themes) == pytest.approx(1.0)
    assert sum(one.features for one in facts.themes) == county.model.n_features_in_


def test_themes_by_gain_are_those_of_the_trees(county, facts):
    # From the splits as LightGBM lists them, instead of its own sums.
    (booster,) = county.model.forest_.boosters
    splits = booster.trees_to_dataframe().dropna(subset=["split_feature"])
    theme = [county.model.catalog[name].theme for name in splits["split_feature"]]
    expected = splits["split_gain"].groupby(theme).sum()
    assert facts.importance == "gain"
    found = {one.theme: one.amount for one in facts.themes if one.amount}
    assert found == pytest.approx(expected[expected > 0].to_dict(), rel=1e-4)


def test_feature_dictionary_is_that_of_the_catalogue(county, facts):
    assert [one.name for one in facts.features] == list(county.model.feature_names_in_)
    for one in facts.features:
        spec = county.model.catalog[one.name]
        assert (one.label_zh, one.label_en) == (spec.label("zh"), spec.label("en"))
        assert one.missing == county.model.reference_[one.name]["missing"]
        assert one.is_formula == (spec.formula is not None)
    direct = next(
        one for one in facts.features if county.model.catalog[one.name].lookback == "365d"
    )
    table = county.model.catalog[direct.name].table
    assert direct.lookback_days == 365
    assert direct.sources == (county.model.task.schema.tables[table].label["en"],)


# ------------------------------------------------------------------------------- what is told first


def _codes(facts: ModelFacts) -> list[tuple[str, str]]:
    return [item for item in facts.warnings if item[0] != "few_outcomes"]


def test_reader_is_warned_of_what_was_not_shown(facts):
    # The logistic regression has the same risks: no difference. The rules turn the order around.
    assert ("not_better", "logistic regression") in facts.warnings
    assert ("not_better", "office rules") not in facts.warnings
    assert ("few_outcomes", "100") in facts.warnings
    assert ("not_checked", "") in facts.warnings


def test_truth_need_not_be_beaten_and_leaks_are_told(county):
    labels, risk = _points()
    evaluation = evaluate_risk(labels, {"model": risk, "truth": labels * 0.8 + 0.1}, replicates=30)
    row = {
        "check": "auc",
        "feature": "x",
        "table": "visit",
        "value": 0.99,
        "verdict": "leak",
        "remedy": "",
    }
    leakage = LeakageReport(pd.DataFrame([row, row | {"feature": "y", "verdict": "ok"}]))
    facts = build_model_facts(
        county.model, evaluation, training={"source": "simulate"}, leakage=leakage
    )
    assert _codes(facts) == [("simulated", ""), ("leaks", "x")]
    assert facts.leakage is not None
    assert facts.leakage.counts == {"leak": 1, "ok": 1}
    assert facts.leakage.findings == (("leak", "auc", "x, visit", 0.99),)


def test_without_resamples_nothing_is_shown_to_be_better(county):
    labels, risk = _points()
    facts = build_model_facts(county.model, evaluate_risk(labels, {"model": risk}, replicates=0))
    assert ("no_intervals", "") in facts.warnings
    assert facts.differences == ()
    assert facts.compared[0].metrics["auc"].low is None


def test_unknown_entries_of_training_are_told(county, evaluation):
    with pytest.raises(DeclarationError, match="(?s)'fingerprint'.*'seed'.*any of"):
        build_model_facts(county.model, evaluation, training={"seed": 1, "fingerprint": "f"})
    with pytest.raises(DeclarationError, match="one of zh, en"):
        build_model_facts(county.model, evaluation, locale="fr")


# ------------------------------------------------------------------------------------ the drawings


def test_forest_stands_on_one_axis():
    drawn = draw_forest([Interval(0.70, 0.62, 0.75), Interval(0.68)])
    # Ticks every 0.05 from 0.6 to 0.75: 0.70 is two thirds of the way.
    assert [text for _, text in drawn.ticks] == ["0.6", "0.65", "0.7", "0.75"]
    assert [place for place, _ in drawn.ticks] == [0.0, 33.3, 66.7, 100.0]
    assert (drawn.marks[0].at, drawn.marks[0].low, drawn.marks[0].high) == (66.7, 13.3, 100.0)
    assert (drawn.marks[1].at, drawn.marks[1].low) == (53.3, None)


def test_forest_of_one_number_has_an_axis():
    drawn = draw_forest([Interval(1.0)])
    assert [text for _, text in drawn.ticks] == ["1", "1.01"]
    assert drawn.marks[0].at == 0.0


def test_reliability_stays_within_its_frame(facts):
    drawn = draw_reliability(facts.reliability, str)
    for x, y, low, high in drawn.points:
        assert drawn.left <= x <= drawn.right
        assert drawn.top <= high < y < low <= drawn.bottom
    # 0.075, 0.2 and 0.4 between 0.02 and 0.5 on a logarithmic axis of 300.
    places = [62 + 300 * math.log(x / 0.02) / math.log(25) for x in (0.075, 0.2, 0.4)]
    assert [x for x, *_ in drawn.points] == pytest.approx(places, abs=0.05)


# ------------------------------------------------------------------------------------ the document


@pytest.fixture(scope="module")
def pages(county, tmp_path_factory) -> dict[str, tuple[str, Element]]:
    labels, risk = _points()
    evaluation = evaluate_risk(
        labels, {"model": risk, NASTY: 0.5 - risk}, budgets=[0.05, 0.1], replicates=40
    )
    groups = {NASTY: compute_group_metrics(labels, risk, pd.Series(NASTY, labels.index))}
    training: dict[str, Any] = {"history": NASTY, "config": f"seed: 1 # {NASTY}", "command": "make"}
    found = {}
    for locale in LOCALES:
        path = tmp_path_factory.mktemp("reports") / "new" / f"{locale}.html"
        write_model_report(
            county.model, evaluation, path, locale=locale, training=training, groups=groups
        )
        html = path.read_text(encoding="utf-8")
        found[locale] = (html, read_html(html))
    return found


@pytest.mark.parametrize("locale", LOCALES)
def test_report_has_every_part(pages, locale):
    words = load_locale(locale)
    _, tree = pages[locale]
    sections = words["model_report"]["sections"]
    assert [h.text for h in tree.one("main").all("h2")] == list(sections.values())
    assert [a["href"] for a in tree.one("nav").all("a")] == [f"#{key}" for key in sections]
    assert {h["id"] for h in tree.one("main").all("h2")} == set(sections)
    assert tree.one("html")["lang"] == words["page"]["lang"]
    assert words["notice"] in tree.one("header").text
    box = tree.one("div", class_="never").text
    assert [line for line in words["model_report"]["not_for_text"] if line not in box] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_report_is_escaped_and_asks_no_network(pages, locale):
    html, tree = pages[locale]
    assert "<script" not in html
    assert NASTY in tree.one("main").text
    assert "http:" not in html
    assert "https:" not in html
    assert [e for e in tree.walk() if "src" in e.attributes or e.tag in ("script", "img")] == []
    assert [e["href"] for e in tree.all("link")] == ["data:,"]
    assert "default-src 'none'" in html


@pytest.mark.parametrize("locale", LOCALES)
def test_report_holds_no_household(pages, county, locale):
    html, _ = pages[locale]
    assert "HOUSEHOLD" not in html
    assert [household for household in county.tables.households if str(household) in html] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_every_placeholder_is_filled(pages, locale):
    _, tree = pages[locale]
    text = tree.one("body").text
    assert "{" not in text
    assert "None" not in text.replace("early_stopping_rounds=None", "")
    assert "nan" not in text.lower().split()


def _keys(words: Any, place: str = "") -> Iterator[str]:
    if isinstance(words, dict):
        for key, value in words.items():
            yield from _keys(value, f"{place}.{key}")
    elif isinstance(words, list):
        yield f"{place}[{len(words)}]"
    else:
        yield place


def test_both_languages_say_the_same_things():
    keys = [set(_keys(load_locale(locale)["model_report"])) for locale in LOCALES]
    assert len(keys[0]) > 100
    assert keys[0] == keys[1]


def test_report_that_cannot_be_written_is_told(county, evaluation, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PovertyRiskError, match="model report .*a file to write"):
        write_model_report(county.model, evaluation, tmp_path / "file" / "model.html")


# ------------------------------------------------------------------------------ from what is on disk


def test_report_from_disk_is_that_of_the_training(county, evaluation, tmp_path):
    model_id = county.model.save(tmp_path / "model", {"history": "f1", "task": "returns"})
    tables = tmp_path / "evaluation"
    tables.mkdir()
    for name in ("metrics", "intervals", "differences", "budgets", "reliability"):
        getattr(evaluation, name).to_csv(tables / f"{name}.csv")
    known = read_training(tmp_path / "model")
    assert known["model_id"] == model_id
    assert (known["history"], known["task"]) == ("f1", "returns")
    assert "lightgbm" in known["versions"]
    texts = [
        render_model_report(build_model_facts(model, tables_of, locale="en", training=known))
        for model, tables_of in [
            (county.model, evaluation),
            (RiskModel.load(tmp_path / "model"), read_evaluation(tables)),
        ]
    ]
    assert texts[0] == texts[1]


def test_evaluation_without_resamples_is_read_back(tmp_path):
    labels, risk = _points()
    evaluation = evaluate_risk(labels, {"model": risk.rename("margin")}, replicates=0)
    for name in ("metrics", "intervals", "differences", "budgets", "reliability"):
        getattr(evaluation, name).to_csv(tmp_path / f"{name}.csv")
    found = read_evaluation(tmp_path)
    assert (len(found.intervals), len(found.differences), len(found.reliability)) == (0, 0, 0)
    pd.testing.assert_frame_equal(found.budgets, evaluation.budgets)


def test_evaluation_that_is_none_is_told_at_once(tmp_path):
    (tmp_path / "metrics.csv").write_text("n,auc\n50,0.7\n", encoding="utf-8")
    with pytest.raises(PovertyRiskError, match="(?s)metrics.csv.*budgets.csv"):
        read_evaluation(tmp_path)


def test_training_of_no_model_folder_is_told(tmp_path):
    with pytest.raises(ModelFolderError, match="manifest.json"):
        read_training(tmp_path)
