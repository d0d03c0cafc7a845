"""What is written for readers holds: docstrings, examples, commands, words of both languages, README."""

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from numpydoc.validate import validate

import poverty_risk
from poverty_risk import OfficeRules, load_catalog, load_schema
from poverty_risk.cli import cli
from poverty_risk.wording import load_locale

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "poverty_risk"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLIC = sorted(poverty_risk._HOMES)
CATALOGS = ("archive", "eph")
LANGUAGES = ("zh", "en")
CHINESE = re.compile(r"[\u4e00-\u9fff]")

# -------------------------------------------------------------------------------------- docstrings

# What numpydoc finds that is not asked for here: types stand in the signature (PR04, PR05, RT02), an
# extended summary and references to other functions only where they help (ES01, SA01, SA04), a noun
# is often the better first line (SS05), ``None`` no capital letter (RT04).
NOT_ASKED = {
    "ES01",
    "PR04",
    "PR05",
    "RT02",
    "RT04",
    "SA01",
    "SA04",
    "SS05",
    "SS06",
    "GL01",
    "GL02",
    "GL03",
}
NOT_ASKED_OF_MEMBERS = NOT_ASKED | {"EX01", "PR01", "RT01", "RT03", "RT04", "PR07", "YD01"}
"""A property or a short method is told in a sentence; parameters that it does tell must be real."""


def _faults(name: str, not_asked: set[str]) -> list[tuple[str, str]]:
    return [
        error for error in validate(f"poverty_risk.{name}")["errors"] if error[0] not in not_asked
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_has_a_valid_docstring(name):
    value = getattr(poverty_risk, name)
    not_asked = NOT_ASKED
    if isinstance(value, type) and issubclass(value, Exception):
        not_asked = NOT_ASKED | {"PR02"}  # arguments are told as they are passed: *faults
    assert _faults(name, not_asked) == []


@pytest.mark.parametrize(
    "name", [n for n in PUBLIC if not isinstance(getattr(poverty_risk, n), type)]
)
def test_public_function_says_what_it_returns_and_shows_an_example(name):
    text = inspect.getdoc(getattr(poverty_risk, name)) or ""
    sections = re.findall(r"^(\w+)\n-+$", text, re.MULTILINE)
    assert {"Parameters", "Returns", "Examples"} <= set(sections)
    assert ">>>" in text


def _members() -> list[str]:
    found = []
    for name in PUBLIC:
        value = getattr(poverty_risk, name)
        if isinstance(value, type):
            found += [
                f"{name}.{member}"
                for member, what in vars(value).items()
                if not member.startswith("_")
                and isinstance(inspect.unwrap(getattr(what, "__func__", what)), _FUNCTIONS)
            ]
    return found


_FUNCTIONS = (type(_faults), property, functools.cached_property)


@pytest.mark.parametrize("name", _members())
def test_public_method_has_a_valid_docstring(name):
    assert _faults(name, NOT_ASKED_OF_MEMBERS) == []


# --------------------------------------------------------------------------------------- examples


def _modules_with_examples() -> list[str]:
    found = []
    for module in pkgutil.walk_packages(poverty_risk.__path__, "poverty_risk."):
        path = SOURCE.joinpath(*module.name.split(".")[1:])
        path = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        lines = path.read_text(encoding="utf-8").splitlines()
        if any(line.lstrip().startswith(">>> ") and "+SKIP" not in line for line in lines):
            found.append(module.name)
    return found


@pytest.mark.parametrize("name", _modules_with_examples())
def test_examples_of_a_module_run(name, monkeypatch):
    # Examples name configs by their path in the repository.
    monkeypatch.chdir(ROOT)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert found.attempted > 0
    assert found.failed == 0


# ------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_command_has_help_and_stands_in_the_readme(name):
    command = cli.commands[name]
    assert (command.help or "").strip().endswith(".")
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage: ")
    assert re.search(rf"\bpoverty-risk {name}\b", README)


def _written_commands() -> list[str]:
    lines = [
        line
        for block in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
    ]
    lines += re.findall(r"`([^`\n]+)`", README)
    # Shell variables that the block sets, as the shell would put them in.
    named = dict(re.findall(r'^(\w+)="([^"\n]*)"$', README, re.MULTILINE))
    lines = [re.sub(r"\$(\w+)", lambda found: named[found[1]], line) for line in lines]
    commands = [line.split("#")[0].strip() for line in lines if line.startswith("poverty-risk ")]
    return sorted(set(commands))


@pytest.mark.parametrize("line", _written_commands())
def test_command_line_of_the_readme_can_be_given(line):
    _, name, *rest = shlex.split(line)
    command = cli.commands[name]
    if isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    # Parsing alone: nothing is read or run. `<folder>` stands for a folder of the reader's.
    context = command.make_context(name, list(rest), resilient_parsing=False)
    assert context.params


def test_readme_shows_enough_commands():
    assert len(_written_commands()) >= len(cli.commands)


def test_commands_are_click_commands():
    assert all(isinstance(command, click.Command) for command in cli.commands.values())


# --------------------------------------------------------------------------- words of both languages


def _flat(mapping: dict, prefix: str = "") -> dict[str, object]:
    """Values by dotted key. How a language writes a unit, or contracts words, is its own matter."""
    found: dict[str, object] = {}
    for key, value in mapping.items():
        own = prefix == "units." or key == "contractions"
        if isinstance(value, dict) and not own:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


@functools.cache
def _words(language: str) -> dict[str, object]:
    path = SOURCE / "locales" / f"{language}.yaml"
    return _flat(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_both_languages_have_the_same_keys():
    assert len(_words("zh")) > 100
    assert set(_words("zh")) == set(_words("en"))


def test_both_languages_fill_the_same_places():
    def places(text: object) -> set[str]:
        return set(re.findall(r"{(\w+)", str(text)))

    zh, en = _words("zh"), _words("en")
    # Dates are written from the same day in different parts.
    keys = [key for key in zh if not key.startswith(("dates.", "units."))]
    assert {k: (places(zh[k]), places(en[k])) for k in keys if places(zh[k]) != places(en[k])} == {}


def test_each_language_is_written_in_itself():
    chinese = {key for key, text in _words("en").items() if CHINESE.search(str(text))}
    assert chinese == set()
    # Letters, marks and separators aside, Chinese texts are Chinese.
    foreign = {
        key
        for key, text in _words("zh").items()
        if re.search(r"[A-Za-z]{4,}", re.sub(r"{[^}]*}", "", str(text)))
        and not CHINESE.search(str(text))
        and not key.startswith(("units.", "dates."))
        and key not in ("workbook.font", "page.lang")  # names for programs
    }
    assert foreign == set()


def _model_features() -> list[tuple[str, str]]:
    return [(name, feature) for name in CATALOGS for feature in load_catalog(name).model_names]


CASES = [(raises, flag) for raises in (True, False) for flag in (None, True, False)]
"""What a sentence is chosen by: its direction and, for a flag, the value."""


@pytest.mark.parametrize("catalog", CATALOGS)
def test_every_feature_has_words_in_both_languages(catalog):
    silent = []
    for spec in load_catalog(catalog).specs:
        for language in LANGUAGES:
            words = spec.words.get(language)
            if words is None or not words.label.strip():
                silent.append((spec.name, language))
            elif bool(CHINESE.search(words.label)) != (language == "zh"):
                silent.append((spec.name, language, words.label))
    assert silent == []


@pytest.mark.parametrize("catalog", CATALOGS)
def test_sentences_say_the_same_cases_in_both_languages(catalog):
    """Where a feature has no sentence of its own, its label and value are told, in both languages."""
    uneven, strange = [], []
    for spec in load_catalog(catalog).specs:
        if spec.role != "model":
            continue
        for raises, flag in CASES:
            # A flag has a value; a number may be none ("no hospital stay").
            if (spec.kind == "flag" and flag is None) or (spec.kind != "flag" and flag):
                continue
            told = [spec.words[lang].sentence(raises=raises, flag=flag) for lang in LANGUAGES]
            if len({text is None for text in told}) > 1:
                uneven.append((spec.name, raises, flag))
            strange += [
                (spec.name, text)
                for text in told
                if text is not None and set(re.findall(r"{(\w*)", text)) - {"value"}
            ]
        asked = {spec.words[language].ask is None for language in LANGUAGES}
        if len(asked) > 1:
            uneven.append((spec.name, "ask"))
    assert (uneven, strange) == ([], [])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("catalog", CATALOGS)
def test_units_themes_risk_types_and_codes_have_words(catalog, language):
    words, loaded, schema = load_locale(language), load_catalog(catalog), load_schema(catalog)
    lacking: set[str] = set()
    for spec in loaded.specs:
        lacking |= {spec.theme} - set(words["themes"])
        lacking |= {spec.risk_type} - set(words["risk_types"])
        if spec.role == "model":
            # Codes of the panel are told as they stand: no officer reads them.
            if spec.kind == "category" and catalog == "archive":
                lacking |= set(loaded.codes(spec, schema)) - set(words["codes"])
            if spec.kind == "number":
                lacking |= {spec.unit} - set(words["units"])
    assert lacking == set()


def test_model_features_are_many():
    assert len(_model_features()) > 150


@pytest.mark.parametrize("name", CATALOGS)
def test_schema_labels_stand_in_both_languages(name):
    schema = load_schema(name)
    labels = [table.label for table in schema.tables.values()]
    labels += [c.label for table in schema.tables.values() for c in table.columns.values()]
    assert all(CHINESE.search(label.zh) for label in labels)
    assert not any(CHINESE.search(label.en) for label in labels)


def test_rules_read_features_of_the_catalogue():
    assert set(OfficeRules.load().features) <= set(load_catalog("archive").names)


# ------------------------------------------------------------------------------------------- README


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)\s]+)\)", README) + re.findall(r"<(https?://[^>]+)>", README)
    local = [t.split("#")[0] for t in targets if not t.startswith(("http://", "https://", "#"))]
    assert [target for target in local if not (ROOT / target).exists()] == []


# Written when commands run: not in the repository.
MADE = ("outputs/", "data/", ".venv/", "mlruns/")
CODE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)


def test_paths_that_the_readme_names_exist():
    spans = re.findall(r"`([^`\n]+)`", CODE)
    paths = [s for s in spans if re.fullmatch(r"[\w.\-]+(/[\w.\-]+)+\.?\w*/?", s)]
    paths = [path for path in paths if not path.startswith(MADE)]
    assert len(paths) >= 3, "the README names no path: is the pattern wrong?"
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_configs_in_commands_of_the_readme_exist():
    named = set(re.findall(r"--config (\S+)", README))
    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_map_of_the_readme_names_modules():
    rows = re.findall(
        r"^\| (`.+?`.*?) \| ", README.split("## Map")[1].split("\n## ")[0], re.MULTILINE
    )
    named = [name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 20
    absent = [n for n in named if not (SOURCE / n).is_dir() and not (SOURCE / f"{n}.py").is_file()]
    assert absent == []


def test_notebooks_that_the_readme_names_exist():
    named = re.findall(r"`(0\d_\w+)`", README)
    assert named
    assert [name for name in named if not (ROOT / "notebooks" / f"{name}.ipynb").is_file()] == []


def test_make_targets_that_the_readme_names_exist():
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`+[^`]+`+", README))))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= named
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_public_names_in_the_readme_exist():
    assert re.findall(r"\bpr\.(\w+)", README)
    assert set(re.findall(r"\bpr\.(\w+)", README)) <= set(poverty_risk.__all__)
