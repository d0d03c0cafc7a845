"""The officer's guide: the same in both languages, in HTML and as text, and two printed pages."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from page_reader import read_html
from poverty_risk.exceptions import DeclarationError, PovertyRiskError
from poverty_risk.report.guide import (
    make_plain_text,
    read_guide_text,
    render_guide,
    render_guide_body,
    write_guide,
)
from poverty_risk.wording import LOCALES, load_locale

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--no-pdf-header-footer",
)  # fmt: skip
A4 = (595, 842)
"""Points."""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed here")
@pytest.mark.parametrize("locale", LOCALES)
def test_guide_prints_on_two_a4_pages(locale, tmp_path):
    from pypdf import PdfReader

    page, printed = write_guide(tmp_path / "guide.html", locale), tmp_path / "guide.pdf"
    subprocess.run(
        [str(CHROMIUM), *ARGUMENTS, f"--user-data-dir={tmp_path / 'profile'}",
         f"--print-to-pdf={printed}", page.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pages = PdfReader(printed).pages
    assert len(pages) == 2
    for one in pages:
        assert (round(float(one.mediabox.width)), round(float(one.mediabox.height))) == A4
    # The first part is on the first page, the last on the second.
    headings = [h.text for h in read_html(render_guide_body(locale)).all("h3")]
    # Fonts share glyphs between characters and radicals; normalised they are the same again.
    texts = ["".join(unicodedata.normalize("NFKC", p.extract_text()).split()) for p in pages]
    for page_text, heading in zip(texts, (headings[0], headings[-1]), strict=True):
        assert "".join(unicodedata.normalize("NFKC", heading).split()) in page_text


def test_both_languages_have_the_same_parts():
    shapes = [
        [(e.tag, e.attributes.get("class")) for e in read_html(render_guide_body(locale)).walk()]
        for locale in LOCALES
    ]
    assert len(shapes[0]) > 100
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("locale", LOCALES)
def test_plain_text_is_that_of_the_html(locale):
    assert read_guide_text(locale) == make_plain_text(render_guide_body(locale))


def test_plain_text_by_hand():
    html = (
        "<style>h2 { color: red; }</style><article><h2>Guide</h2>\n<p>One &amp; <b>two</b>\nlines.</p>"
        "<h3>Part</h3><ol><li>first</li><li>second</li></ol><ul><li><b>a:</b> b</li></ul></article>"
    )
    lines = ["Guide", "One & two lines.", "", "Part", "1. first", "2. second", "· a: b"]
    assert make_plain_text(html) == "\n".join(lines) + "\n"


@pytest.mark.parametrize("locale", LOCALES)
def test_guide_needs_nothing_from_elsewhere(locale):
    html = render_guide(locale)
    tree = read_html(html)
    assert tree.one("html")["lang"] == load_locale(locale)["page"]["lang"]
    assert "http:" not in html
    assert "https:" not in html
    assert tree.all("script") == []
    assert [e for e in tree.walk() if "src" in e.attributes] == []
    assert [e["href"] for e in tree.walk() if "href" in e.attributes] == ["data:,"]
    assert "default-src 'none'" in tree.all("meta")[2]["content"]
    assert tree.one("title").text == tree.one("h2").text


@pytest.mark.parametrize("locale", LOCALES)
def test_body_is_a_part_of_a_page(locale):
    tags = {e.tag for e in read_html(render_guide_body(locale)).walk()}
    assert {"article", "h2", "h3"} <= tags
    assert tags.isdisjoint({"html", "head", "body", "h1", "script"})


@pytest.mark.parametrize("locale", LOCALES)
def test_guide_uses_the_words_of_card_and_workbook(locale):
    words, text = load_locale(locale), read_guide_text(locale)
    answers = words["workbook"]["found_true"]
    assert answers["not_at_home"] in text
    assert answers["no"] in text
    assert words["confidence"]["low"] in text
    assert {"zh": words["status"]["insufficient_data"], "en": "not assessed"}[locale] in text
    assert words["page"]["form"]["risk_type"].lower() in text.lower()
    for tier in ("red", "orange", "yellow", "green"):
        assert words["page"]["tier_letters"][tier].lower() in text.lower()


NEVER = {
    "zh": ["低保", "处罚", "考核干部", "贷款", "骗保", "公示", "身份证号", "电话", "银行账号", "健康状况"],
    "en": [
        "minimum living allowance", "punish", "appraise officials", "loans", "fraud", "publicity",
        "identity number", "telephone", "bank account", "health",
    ],
}  # fmt: skip


@pytest.mark.parametrize("locale", LOCALES)
def test_guide_says_what_it_is_never_for(locale):
    box = read_html(render_guide_body(locale)).one("section", class_="never").text
    assert [word for word in NEVER[locale] if word not in box] == []


@pytest.mark.parametrize(
    ("locale", "told"),
    [
        ("zh", ["第二十四条", "仅通过自动化决策", "随机抽查", "以入户核实为准", "照常排查", "每100户"]),
        ("en", ["article 24", "automated means alone", "Random check", "The visit decides", "screened as before", "of 100"]),
    ],
)  # fmt: skip
def test_guide_tells_what_officers_must_know(locale, told):
    text = read_guide_text(locale)
    assert [words for words in told if words not in text] == []


def test_another_language_is_told(tmp_path):
    with pytest.raises(DeclarationError, match="one of zh, en"):
        write_guide(tmp_path / "guide.html", "fr")
    with pytest.raises(DeclarationError, match="one of zh, en"):
        read_guide_text("../en")


def test_guide_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PovertyRiskError, match="guide .*a file to write"):
        write_guide(Path(tmp_path, "file", "guide.html"), "en")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
