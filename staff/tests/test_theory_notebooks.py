"""Tests of the demos in theory/ as notebooks, executed without a browser."""

import os

import jupytext
import nbclient
import pytest

from course.flags import REPOSITORY

SCRIPTS = sorted((REPOSITORY / "theory").glob("*.py"))
FULL = 'parse_args([] if "ipykernel"'  # a notebook has no command line, so --quick is inserted here


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_as_a_notebook(script, tmp_path, monkeypatch, mnist_files):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    text = script.read_text("utf-8")
    assert text.count(FULL) == 1
    notebook = jupytext.reads(text.replace(FULL, FULL.replace("[]", '["--quick"]')), fmt="py:percent")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == kinds[-1] == "markdown" and kinds.count("code") > 1
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "the notebook shows no figure"
    assert not list(tmp_path.iterdir())  # it writes no files
