"""Tests of the notebook that students start from, executed without a browser in a copy of their repository."""

import os
import re
import signal
import time
from pathlib import Path

import nbclient
import nbformat
import pytest

from small_runs import REPOSITORY, SMALL, SMALL_NETWORK
from staff.release.build import contents, read_course

NOTEBOOK = "notebooks/start.ipynb"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return the students' repository with Q1.7 and Q1.8 filled in, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("notebook") / "my practical"
    for file, content in contents(read_course(), "2027", filled=["1.7", "1.8"]).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


@pytest.fixture
def environment(monkeypatch, tmp_path, mnist_files):
    """Set up the environment: no network, oracles from this repository, and TensorBoard stopped afterwards."""
    variables = {"PYTHONPATH": str(REPOSITORY), "DGM_DATA_DIR": str(mnist_files), "OMP_NUM_THREADS": "1"}
    variables |= {"TMPDIR": str(tmp_path), "PIP_NO_INDEX": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield
    for info in (tmp_path / ".tensorboard-info").glob("pid-*.info"):
        os.kill(int(re.search(r"\d+", info.name)[0]), signal.SIGTERM)
    time.sleep(0.1)


def text_of(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


def test_it_is_handed_out_without_outputs(checkout):
    notebook = nbformat.read(checkout / NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    headings = [cell.source.splitlines()[0] for cell in notebook.cells if cell.cell_type == "markdown"]
    assert [heading for heading in headings if not heading.startswith("#")] == []


@pytest.mark.slow
def test_it_runs_from_nothing_to_a_zip(checkout, environment):
    notebook = nbformat.read(checkout / NOTEBOOK, as_version=4)
    small = " ".join([*SMALL, *SMALL_NETWORK["vae"]])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].source.count('FLAGS = ""') == 1
    code[0].source = code[0].source.replace('FLAGS = ""', f'FLAGS = "{small}"')
    place = {"metadata": {"path": str(checkout / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()

    printed = [text_of(cell) for cell in code]
    folder, _, gpu, _, blanks, tested, board, trained, _, resumed, zipped = printed
    assert folder.strip().endswith(str(checkout)) and "CPU" in gpu
    assert "Q1.9" in blanks and "Q1.7" not in blanks
    assert re.search(r"Q1\.7 +(\S+) of \1\b", tested), tested[-2000:]
    assert "epoch 2/2" in trained and "report.html" in trained, trained[-2000:]
    assert "epoch 3/3" in resumed and "epoch 2/3" not in resumed, resumed[-2000:]
    assert "submission.zip: " in zipped and (checkout / "submission.zip").is_file()
    kinds = [list(output.get("data", {})) for output in code[6].outputs]
    assert any("text/html" in kind for kind in kinds), board
    pictures = [output for output in code[8].outputs if "image/png" in output.get("data", {})]
    names = re.findall(r"(\S+)\.png", printed[8])
    assert len(pictures) == len(names) and {"bpd_curve", "samples_epoch_000"} <= set(names)
