"""Size of the page of a visit round, and how long Chromium takes to open it: 500 households.

Run with ``python benchmarks/page.py``; it prints and keeps the figures of both languages. A simulated
county is scored by a small model, so that cards say as much as real ones do. Each opening is a fresh
browser; its median counts. Needs chromium and chromedriver.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from measuring import run_script
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import poverty_risk as pr
from poverty_risk.alternatives import find_alternatives
from poverty_risk.baselines import OfficeRules
from poverty_risk.cohort import find_groups
from poverty_risk.report.dossier import build_visit_facts
from poverty_risk.report.facts import VisitFacts
from poverty_risk.report.html import render_page, write_page
from poverty_risk.report.round import Round
from poverty_risk.similar import build_similar_index, find_similar
from poverty_risk.visits import VisitList, build_visit_list

AS_OF, BEFORE = pd.Timestamp("2024-01-01"), pd.Timestamp("2023-07-01")
TRAINING = ("2019-07-01", "2020-07-01", "2021-07-01", "2022-07-01")
RESERVE = 40
KEY = b"only for benchmarks"

OPENED = """
const entry = performance.getEntriesByType('navigation')[0];
return [entry.loadEventEnd / 1000, document.querySelectorAll('*').length];
"""
CARD = """
const began = performance.now();
document.querySelector('#visits tbody a').click();
document.querySelector('dialog').getBoundingClientRect();
return (performance.now() - began) / 1000;
"""
SEARCH = """
const box = document.getElementById('search'), began = performance.now();
box.value = 'V0003';
box.dispatchEvent(new Event('input', { bubbles: true }));
document.body.getBoundingClientRect();
return (performance.now() - began) / 1000;
"""


def make_facts(households: int) -> dict[str, VisitFacts]:
    """Facts of a round with so many cards, in both languages."""
    tables = pr.make_household_history(3 * households, seed=1).tables
    catalog = pr.load_catalog("archive")
    points = pr.build_prediction_points(tables, TRAINING)
    labels = pr.label_returns(tables, points, "12mo", "any").dropna()
    training = pr.build_features(tables, points.loc[labels.index], catalog)
    task = pr.PredictionTask(tables.schema, "at_risk", "any", "12mo", dict(tables.line or {}))
    model = pr.RiskModel(
        catalog, task, n_estimators=60, learning_rate=0.1, min_child_samples=30, n_refits=4
    ).fit(training, labels)
    answer = pr.predict_risk(tables, as_of_date=AS_OF, model=model, explain=False)
    scored = answer.index[answer["status"] == "ok"]
    index = pd.MultiIndex.from_product([scored, [AS_OF]], names=["household_id", "as_of_date"])
    features = pr.build_features(tables, pd.DataFrame(index=index), catalog)
    rules = OfficeRules.load()
    listed = choose(tables, answer, features, rules, households)
    chosen = pd.concat([listed.visits, listed.reserve]).index
    rows = features[features.index.get_level_values("household_id").isin(chosen)]
    ids = rows.index.get_level_values("household_id").astype(str)
    similar = build_similar_index(model, training, labels)
    facts = {}
    for locale in ("zh", "en"):
        alternatives = find_alternatives(model, rows, locale=locale)
        alike = find_similar(model, rows, similar, locale=locale)
        round_ = Round(
            tables, model, features, answer, listed, rules, previous=BEFORE, run_id="9f3a61c2b7d9",
            alternatives={h: [a.text for a in found] for h, found in zip(ids, alternatives, strict=True)},
            similar={h: found.text for h, found in zip(ids, alike, strict=True)},
        )  # fmt: skip
        facts[locale] = build_visit_facts(round_, KEY, locale)
    return facts


def choose(
    tables: pr.HistoryTables,
    answer: pd.DataFrame,
    features: pd.DataFrame,
    rules: OfficeRules,
    households: int,
) -> VisitList:
    """A visit list and a reserve that have so many households together."""
    index = pd.MultiIndex.from_product([answer.index, [AS_OF]], names=features.index.names)
    risk = answer[["risk", "tier"]].join(find_groups(tables, index).droplevel("as_of_date"))
    ids = features.index.get_level_values("household_id")
    hits = rules.hits(features)
    codes = [[code for code in hits.columns if row[code]] for _, row in hits.iterrows()]
    risk["severity"] = pd.Series(rules.severity(features).to_numpy(), index=ids)
    risk["rule_codes"] = pd.Series(codes, index=ids)
    return build_visit_list(
        risk, capacity=households - RESERVE, as_of_date=AS_OF, minimum={"village_id": 1},
        reserve=RESERVE,
    )  # fmt: skip


def open_page(path: Path) -> dict[str, float]:
    """Open a page in a fresh browser; seconds of the clock and of its main thread."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update",
            "--window-size=1280,900", f"--user-data-dir={profile}",
        ):  # fmt: skip
            options.add_argument(argument)
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
            browser.get(path.as_uri())
            metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            seconds, elements = browser.execute_script(OPENED)
            return {
                "open_seconds": seconds,
                "open_thread_seconds": {one["name"]: one["value"] for one in metrics}[
                    "TaskDuration"
                ],
                "search_seconds": browser.execute_script(SEARCH),
                "card_seconds": browser.execute_script(CARD),
                "elements": elements,
                "chromium": browser.capabilities["browserVersion"],
            }
        finally:
            browser.quit()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of both languages."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for locale, facts in make_facts(options.households).items():
            began = time.perf_counter()
            render_page(facts)
            rendered = time.perf_counter() - began
            path = write_page(facts, Path(folder) / f"{locale}.html")
            opened = [open_page(path) for _ in range(options.repeats)]
            figures["chromium"] = opened[0].pop("chromium")
            figures[locale] = {
                "households": len(facts.cards),
                "megabytes": round(path.stat().st_size / 1e6, 2),
                "render_seconds": round(rendered, 2),
            } | {
                name: round(statistics.median(float(one[name]) for one in opened), 3)
                for name in opened[0]
            }
    return figures


if __name__ == "__main__":
    run_script(__file__, str(__doc__), measure, {}, {"households": 500, "repeats": 5})
