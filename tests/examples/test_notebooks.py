"""The notebooks run from beginning to end, with few rows and steps, on the real data and the real encoder."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "examples" / "notebooks").glob("*.ipynb"))
# What the last outputs of each say.
SAID = {
    "few_labels_much_text": "Distilled - labels alone:",
    "first_student": "'score': ",  # of which label is a matter of chance after so few steps
    "teacher_to_service": "Would publish alice/reviews (private):",
}


def outputs_of(notebook) -> str:
    """All text that cells printed or returned."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_all_notebooks_are_known_and_listed():
    assert [path.stem for path in NOTEBOOKS] == sorted(SAID)
    page = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\(notebooks/(\w+)\.ipynb\)", page) == [
        "first_student",
        "few_labels_much_text",
        "teacher_to_service",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join(line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"])
    targets = [each.partition("#")[0] for each in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert targets and not [each for each in targets if not (path.parent / each).exists()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.real_data
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    for name, value in {"STEPS": 2, "ROWS": 40, "OUTPUTS": tmp_path / "outputs"}.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=":")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")  # as where it is activated
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert SAID[path.stem] in outputs_of(notebook)
