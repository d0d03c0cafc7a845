"""Each notebook runs from top to bottom, and is committed with its outputs."""

import ast
import importlib
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import poverty_risk

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PANEL = "08_real_panel"
PANEL_FOLDER = Path(os.environ.get("POVERTY_RISK_EPH", ROOT.parent / "shared" / "data" / "eph"))
EPH_HOUSEHOLD = re.compile(r"\b[A-Z0-9]{4,}_\d\b")

# The kernel's transport announces itself by a warning that says nothing about the notebook.
runs_a_kernel = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook):
    return [output for cell in code_of(notebook) for output in cell.outputs]


def execute(path, tmp_path):
    """Run a notebook beside a copy of the run configs, so that it leaves nothing in the project."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    place = tmp_path / "notebooks"
    place.mkdir()
    notebook = read(path)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": place}}
    ).execute()
    return notebook


def test_the_course_is_whole():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_history_tables",
        "02_features",
        "03_train_and_compare",
        "04_reasons_and_visits",
        "05_tune_and_compare",
        "06_promote_and_roll_back",
        "07_monitor_and_retrain",
        "08_real_panel",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@runs_a_kernel
def test_notebook_runs(path, tmp_path, monkeypatch):
    if path.stem == PANEL:
        if not (PANEL_FOLDER / "hogar").is_dir():
            pytest.skip("the EPH files are not there; name their folder in POVERTY_RISK_EPH")
        monkeypatch.setenv("POVERTY_RISK_EPH", str(PANEL_FOLDER))
    if path.stem.startswith("05"):
        pytest.importorskip("optuna", reason="tuning needs the extra 'tune'")
    notebook = execute(path, tmp_path)
    assert all(cell.execution_count for cell in code_of(notebook))


@runs_a_kernel
def test_without_its_files_the_real_panel_stops_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("POVERTY_RISK_EPH", str(tmp_path))
    with pytest.raises(CellExecutionError, match="name their folder in POVERTY_RISK_EPH"):
        execute(ROOT / "notebooks" / f"{PANEL}.ipynb", tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_with_outputs(path):
    notebook = read(path)
    outputs = outputs_of(notebook)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root)/", str(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_uses_public_names_only(path):
    tree = ast.parse("\n".join(cell.source for cell in code_of(read(path))))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "pr"
    }
    assert used
    assert used <= set(poverty_risk.__all__)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("poverty_risk."):
            module = importlib.import_module(node.module)
            assert node.module.count(".") == 1, f"{node.module} lies too deep for a course"
            assert {alias.name for alias in node.names} <= set(module.__all__)


def test_outputs_show_no_household_of_the_real_panel():
    texts = [
        str(value)
        for output in outputs_of(read(ROOT / "notebooks" / f"{PANEL}.ipynb"))
        for kind, value in {**output.get("data", {}), "text": output.get("text", "")}.items()
        if kind != "image/png"
    ]
    assert texts
    assert not [text for text in texts if "household_id" in text or EPH_HOUSEHOLD.search(text)]
