"""The documentation site: complete, its links lead somewhere, its code runs and prints what stands there."""

import importlib.util
import json
import os
import posixpath
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import pytest
import yaml

import poverty_risk
from poverty_risk import load_catalog
from poverty_risk.cli import cli
from poverty_risk.consistency import load_consistency_rules
from poverty_risk.monitoring import load_monitoring_catalog
from poverty_risk.sources.mapping import list_mappings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
PACKAGES = ("mkdocs", "material", "mkdocstrings", "rjieba")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def generate():
    """Modules beside the pages, as MkDocs finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "generate")
        yield importlib.import_module


@pytest.fixture(scope="module")
def pages(generate):
    """All pages and pictures of the site by path: written ones and generated ones."""
    written = {
        str(path.relative_to(DOCS)): path.read_bytes()
        for path in DOCS.rglob("*")
        if path.is_file() and "generate" not in path.parts
    }
    made = generate("pages").write_pages()
    assert set(made).isdisjoint(written)
    return {path: _text(content) for path, content in (written | made).items()}


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode("utf-8", errors="replace")


def _without_code(text: str) -> str:
    return re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    )


# ---------------------------------------------------------------------------------------- complete


def test_every_public_name_is_on_one_page(generate):
    by_page = generate("reference_pages").list_names_by_page()
    shown = [name for names in by_page.values() for name in names]
    assert sorted(shown) == sorted(set(poverty_risk.__all__) - {"__version__"})


def test_every_public_name_is_listed_with_its_first_line(pages):
    for name in set(poverty_risk.__all__) - {"__version__"}:
        assert re.search(
            rf"\[`{name}`\]\(\w+\.md#poverty_risk\.{name}\) \| \w", pages["reference/index.md"]
        )


def test_every_command_and_option_is_on_the_page(pages, generate):
    page = pages["reference/commands.md"]
    commands = dict(generate("reference_pages").walk_commands())
    assert len(commands) > len(cli.commands)
    for name, command in commands.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            shown = (
                option.opts[0] if isinstance(option, click.Option) else option.human_readable_name
            )
            assert shown in section, (name, shown)


def test_every_key_of_the_config_is_on_the_page(pages):
    config = (ROOT / "configs" / "default.yaml").read_text(encoding="utf-8")
    shown = "\n\n".join(re.findall(r"```yaml\n(.*?)```", pages["reference/configs.md"], re.DOTALL))
    assert yaml.safe_load(shown) == yaml.safe_load(config)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("features", lambda: load_catalog("archive").names),
        ("consistency", lambda: load_consistency_rules().codes),
        ("monitoring", lambda: load_monitoring_catalog().checks),
        ("mappings", list_mappings),
        ("tables", lambda: poverty_risk.load_schema("archive").tables),
        ("tables", lambda: poverty_risk.load_schema("archive").labels),
    ],
)
def test_every_entry_of_a_catalogue_is_on_its_page(pages, page, names):
    text = pages[f"reference/{page}.md"]
    entries = list(names())
    assert entries
    text = text.replace("<wbr>", "")
    assert [name for name in entries if not re.search(rf"(?<![\w.]){name}(?!\w)", text)] == []


def test_every_notebook_is_a_page_with_its_outputs(pages):
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        page = pages[f"notebooks/{path.stem}.md"]
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        printed = [
            "".join(output["text"]).rstrip()
            for cell in cells
            for output in cell.get("outputs", [])
            if output["output_type"] == "stream"
        ]
        assert [text for text in printed if text not in page] == []
        drawn = [o for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
        assert page.count("](" + path.stem) == len(drawn)


def test_chinese_pages_are_chinese():
    pages = list((DOCS / "zh").glob("*.md"))
    assert len(pages) >= 4
    for path in pages:
        text = re.sub(r"\(\S+\)", "", _without_code(path.read_text(encoding="utf-8")))
        assert len(CHINESE.findall(text)) > 3 * len(re.findall(r"[A-Za-z]{2,}", text))


def test_the_guide_on_the_site_is_the_guide_that_is_printed(pages):
    for locale, path in (("zh", "zh/guide.md"), ("en", "explanation/guide.md")):
        guide = importlib.import_module("poverty_risk.report.guide").read_guide_text(locale)
        plain = re.sub(r"^(#+|-) ", "", pages[path], flags=re.MULTILINE)
        lines = [line.removeprefix("· ") for line in guide.splitlines() if line]
        assert [line for line in plain.splitlines() if line] == lines


# ------------------------------------------------------------------------------------------- links


def test_links_between_pages_lead_somewhere(pages):
    lost, followed = [], 0
    for path, text in pages.items():
        if not path.endswith(".md"):
            continue
        for target in (a or b for a, b in LINK.findall(_without_code(text))):
            assert not target.startswith("/"), (path, target)
            if target.startswith(("http://", "https://", "#")):
                continue
            followed += 1
            goal = posixpath.normpath(posixpath.join(posixpath.dirname(path), target.split("#")[0]))
            lost += [(path, target)] if goal not in pages else []
    assert followed > 100
    assert lost == []


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_time_figure_is_a_drawing_with_words(pages, language):
    root = ET.fromstring(pages[f"assets/time_{language}.svg"])
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert len(texts) == 17
    assert any(CHINESE.search(text) for text in texts) == (language == "zh")


# -------------------------------------------------------------------------------------------- code


@pytest.fixture(scope="module")
def tutorial(generate, tmp_path_factory):
    """Names and folder that the tutorial leaves behind, and what it printed."""
    folder = tmp_path_factory.mktemp("site")
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = generate("code_blocks").run_page("tutorial.md", names)
    return folder, names, ran


CODE_PAGES = sorted(
    str(path.relative_to(DOCS))
    for path in DOCS.rglob("*.md")
    if "\n```python\n" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("page", CODE_PAGES)
def test_code_prints_what_stands_below_it(page, tutorial, generate, monkeypatch):
    folder, names, ran = tutorial
    monkeypatch.chdir(folder)
    if page != "tutorial.md":
        ran = generate("code_blocks").run_page(page, dict(names))
    assert ran
    changed = {one.source: one.printed for one in ran if one.printed != one.expected}
    assert changed == {}, "python docs/generate/code_blocks.py --write"


def test_the_tutorial_prints_something(tutorial):
    assert sum(bool(one.printed) for one in tutorial[2]) > 8


def test_no_block_of_code_is_of_an_unknown_kind():
    kinds = {
        kind
        for path in DOCS.rglob("*.md")
        for kind in re.findall(r"^```(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert kinds == {"bash", "python", "text", "yaml"}


def _find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    program, *rest = words
    command: click.Command = cli
    if program == "mlflow":
        assert rest.pop(0) == "models"
        command = importlib.import_module("mlflow.models.cli").commands
    else:
        assert program == "poverty-risk"
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    return command, rest


def test_commands_of_shell_blocks_can_be_given(generate):
    lines = generate("code_blocks").list_shell_lines()
    assert len(lines) > 15
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page, line in lines:
        words = shlex.split(line)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), (page, line)
            continue
        command, rest = _find_command(words)
        # Parsing alone: nothing is read or run.
        context = command.make_context(words[0], list(rest), resilient_parsing=False)
        assert context.params, (page, line)


def test_yaml_blocks_can_be_read():
    blocks = [
        block
        for path in DOCS.rglob("*.md")
        for block in re.findall(
            r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    ]
    assert blocks
    assert all(isinstance(yaml.safe_load(block), dict) for block in blocks)


# ------------------------------------------------------------------------------------------- built


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    if MISSING:
        pytest.skip(f"the site needs {', '.join(MISSING)} (extra docs)")
    folder = tmp_path_factory.mktemp("built")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


def test_the_site_loads_nothing_from_elsewhere(site):
    loads = re.compile(
        r"""<(?:script|link|img|iframe|source|object)\b[^>]*?(?:src|href|data)\s*=\s*["']?(?:https?:)?//""",
    )
    read = 0
    for path in site.rglob("*"):
        if path.suffix == ".html":
            read += 1
            assert loads.findall(path.read_text(encoding="utf-8")) == [], path.name
        elif path.suffix == ".css":
            assert not re.search(
                r"url\(\s*[\"']?(?:https?:)?//|@import", path.read_text(encoding="utf-8")
            )
    assert read > 40


def test_every_page_is_in_the_navigation(site, pages):
    index = (site / "index.html").read_text(encoding="utf-8")
    navigation = index.split('class="md-nav md-nav--primary')[1].split('class="md-content"')[0]
    linked = set(re.findall(r'href="([^"#]+\.html)"', navigation))
    made = {path.removesuffix(".md") + ".html" for path in pages if path.endswith(".md")}
    assert made <= linked


def test_reference_pages_show_docstrings(site):
    page = (site / "reference" / "use.html").read_text(encoding="utf-8")
    assert 'id="poverty_risk.predict_risk"' in page
    assert "not_in_cohort" in page


def test_search_knows_chinese_words(site):
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert entries["config"]["lang"] == ["en", "zh"]
    texts = "".join(entry["text"] for entry in entries["docs"])
    assert "\u200b预测\u200b" in texts or "\u200b预测期\u200b" in texts
    # From a folder, without a server, the index is a script.
    assert (site / "search" / "search_index.js").is_file()


def test_chinese_pages_say_so(site):
    assert '<html lang="zh-CN"' in (site / "zh" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="en"' in (site / "index.html").read_text(encoding="utf-8")
