"""The shape of the package: layers, public names, what is imported when, and what may not be in it."""

import ast
import importlib
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import poverty_risk

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "poverty_risk"
MODULES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in MODULES]
MOST_LINES = 460
HEAVY = ("duckdb", "ibis", "lightgbm", "matplotlib", "mlflow", "numpy", "pandas", "shap", "sklearn")


def _run(*code: str) -> str:
    """Output of Python code in an interpreter of its own, in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_import_contracts_hold():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(command), "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout)


# ------------------------------------------------------------------------------------ public names


def _typed_names() -> dict[str, str]:
    """Home of each name that type checkers see."""
    tree = _parse(SOURCE / "__init__.py")
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    names = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.name == alias.asname, "an explicit re-export"
            names[alias.name] = str(node.module).removeprefix("poverty_risk.")
    return names


def test_public_names_are_those_that_are_imported_lazily():
    assert set(poverty_risk.__all__) == {*poverty_risk._HOMES, "__version__"}
    assert len(poverty_risk.__all__) == len(set(poverty_risk.__all__))
    assert sorted(dir(poverty_risk)) == sorted(poverty_risk.__all__)


def test_type_checkers_see_the_same_names_from_the_same_homes():
    assert _typed_names() == poverty_risk._HOMES


@pytest.mark.parametrize("name", sorted(poverty_risk._HOMES))
def test_public_name_is_public_at_home_and_documented(name):
    home = importlib.import_module(f"poverty_risk.{poverty_risk._HOMES[name]}")
    assert name in home.__all__
    value = getattr(poverty_risk, name)
    assert value is getattr(home, name)
    # Of a class of pydantic or scikit-learn the docstring could be inherited.
    assert value.__dict__.get("__doc__") or not isinstance(value, type)
    assert (value.__doc__ or "").strip()


def test_a_name_that_does_not_exist_is_told():
    with pytest.raises(AttributeError, match="'poverty_risk' has no attribute 'predict_'"):
        poverty_risk.predict_  # noqa: B018 - reading it is the test


def test_version_is_that_of_the_distribution():
    declared = re.search(
        r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert declared is not None
    assert poverty_risk.__version__ == declared.group(1)


# --------------------------------------------------------------------------- what is imported when


def test_importing_the_package_imports_nothing_heavy():
    found = _run(
        "import sys, poverty_risk",
        f"print(sorted(set(sys.modules) & set({HEAVY})))",
    )
    assert found == "[]"


def test_the_door_for_other_programs_imports_neither_mlflow_nor_shap():
    found = _run(
        "import sys",
        "from poverty_risk import load_model, predict_risk",
        "print(sorted(set(sys.modules) & {'mlflow', 'shap', 'matplotlib'}))",
    )
    assert found == "[]"


def test_help_of_the_command_line_imports_nothing_heavy():
    found = _run(
        "import sys",
        "from click.testing import CliRunner",
        "from poverty_risk.cli import cli",
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0",
        f"print(sorted(set(sys.modules) & set({HEAVY})))",
    )
    assert found == "[]"


# Importing them takes seconds, or binds the package to them: each stands at one edge.
EDGES = {
    "lightgbm": ("boosting.py", "forest.py"),
    "numba": ("shapley/engine.py", "record_kernels.py"),
    "shap": ("explain.py", "tracking/"),
    "mlflow": ("tracking/", "serving/", "loading.py"),
    "matplotlib": ("figures.py", "tracking/", "report/"),
    "click": ("cli/",),
    "yaml": ("declarations.py",),
}
AT_START = {
    "lightgbm": ("boosting.py", "forest.py"),
    "numba": ("shapley/engine.py", "record_kernels.py"),
    "mlflow": ("serving/",),
    "click": ("cli/",),
}
"""Where they may be imported when the module is; elsewhere only within a function, or for types."""


def _imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def _imported_at_start(tree: ast.Module) -> set[str]:
    kept = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return _imported(ast.Module(body=kept, type_ignores=[]))


@pytest.mark.parametrize("library", EDGES)
def test_library_is_imported_at_its_edge_only(library):
    users = [n for p, n in zip(MODULES, NAMES, strict=True) if library in _imported(_parse(p))]
    assert users, "a library that nothing uses has no edge"
    assert [name for name in users if not name.startswith(EDGES[library])] == []


@pytest.mark.parametrize("library", ["lightgbm", "numba", "shap", "mlflow", "matplotlib", "click"])
def test_slow_library_is_imported_when_it_is_used(library):
    users = [
        n for p, n in zip(MODULES, NAMES, strict=True) if library in _imported_at_start(_parse(p))
    ]
    assert [name for name in users if not name.startswith(AT_START.get(library, ("-",)))] == []


# -------------------------------------------------------------------------- what may not be in it


def test_modules_are_found():
    assert len(MODULES) > 30
    assert {"model.py", "features/build.py", "cli/__init__.py"} <= set(NAMES)


def test_modules_are_short():
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in zip(NAMES, MODULES, strict=True)
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_modules_say_what_they_are_for():
    silent = [
        n for n, p in zip(NAMES, MODULES, strict=True) if ast.get_docstring(_parse(p)) is None
    ]
    assert silent == []


def test_chinese_stands_in_files_of_words_only():
    # Characters, and the full-width punctuation that goes with them.
    pattern = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+")
    found = {
        name: pattern.findall(path.read_text(encoding="utf-8"))
        for name, path in zip(NAMES, MODULES, strict=True)
    }
    assert pattern.findall("risk 风险，") == ["风险，"]
    assert {name: texts for name, texts in found.items() if texts} == {}


def _code(path: Path) -> list[str]:
    """Names and operators of a module, without its texts and comments."""
    with tokenize.open(path) as file:
        tokens = tokenize.generate_tokens(file.readline)
        return [t.string for t in tokens if t.type in (tokenize.NAME, tokenize.OP)]


def test_nothing_is_pickled():
    unsafe, found = re.compile("pickle|joblib|dill$|marshal$|shelve", re.IGNORECASE), []
    for name, path in zip(NAMES, MODULES, strict=True):
        tokens = _code(path)
        for position, token in enumerate(tokens):
            # The one use: to forbid it.
            forbids = tokens[position : position + 3] == ["allow_pickle", "=", "False"]
            if unsafe.search(token) and not forbids:
                found.append((name, token))
    assert found == []


def test_nothing_is_printed_or_evaluated():
    found = []
    for name, path in zip(NAMES, MODULES, strict=True):
        calls = [node.func for node in ast.walk(_parse(path)) if isinstance(node, ast.Call)]
        called = {function.id for function in calls if isinstance(function, ast.Name)}
        found += [
            (name, what)
            for what in called & {"print", "eval", "exec", "compile", "breakpoint", "__import__"}
        ]
    assert found == []


def test_files_name_no_machine_and_leave_nothing_to_do():
    # Spelt in pieces, so that this file does not name them either.
    traces = ["TO" + "DO", "FIX" + "ME", "/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/"]
    pattern = re.compile("|".join(rf"(?<![\w.]){trace}" for trace in traces))
    texts = [
        path
        for folder in ("src", "tests", "configs", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".md", ".toml", ".html", ".css"}
    ]
    texts += [ROOT / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")]
    assert len(texts) > len(MODULES)
    found = {
        str(path.relative_to(ROOT)): pattern.findall(path.read_text(encoding="utf-8"))
        for path in texts
        if path.is_file()
    }
    assert {name: traces for name, traces in found.items() if traces} == {}


def test_the_embedded_database_is_opened_in_one_place_and_says_nothing():
    opened = [path.name for path in MODULES if "duckdb.connect(" in path.read_text()]
    assert opened == ["database.py"]
    # A program that stands in no file, as in a notebook or a pipe.
    found = _run(
        "from poverty_risk.database import open_database",
        "with open_database() as database:",
        "    setting = database.execute(\"SELECT current_setting('enable_progress_bar')\")",
        "    print(setting.fetchone())",
    )
    assert found == "(False,)"
