"""Tests of grading with and without MNIST: it is downloaded first, and runs that lacked it are judged later."""

import json
import subprocess
from pathlib import Path

import pytest
from class_cases import RUBRIC, QuickJudge, evidence, parts, rows, zipped

from course import download
from staff.grading import autograder, gradescope


@pytest.fixture
def mnist(monkeypatch):
    """Return a switch for MNIST: mnist["there"] makes it available, mnist["fetched"] counts the requests for it."""
    state = {"there": False, "fetched": 0}

    def fetch(name: str) -> Path:
        state["fetched"] += 1
        if not state["there"]:
            raise download.DataError("mnist cannot be downloaded: no network")
        return Path()

    monkeypatch.setattr(download, "fetch", fetch)
    return state


def test_what_could_not_be_judged_without_mnist_is_judged_again(tmp_path, grade, mnist):
    for student in ("ada", "bob"):
        zipped(tmp_path / "class" / f"{student}.zip", parts(student))
    QuickJudge.special["ada"] = {"evidence": evidence(None, waits_for="data")}
    for _ in range(2):
        assert grade("class") == 0
        assert "no network" in grade.said and "runs not judged because MNIST is missing: ada" in grade.said
        assert rows(tmp_path)["ada"]["evidence"] == "" and rows(tmp_path)["bob"]["evidence"] == "0"
    assert sorted(QuickJudge.judged) == ["ada", "bob"] and mnist["fetched"] == 2
    assert "2: not judged" in (tmp_path / "grades" / "feedback" / "ada.md").read_text()
    QuickJudge.special["ada"] = {"evidence": evidence(1.0)}
    mnist["there"] = True
    assert grade("class") == 0
    assert "1 graded, 1 already judged" in grade.said and "MNIST" not in grade.said
    assert sorted(QuickJudge.judged) == ["ada", "ada", "bob"] and rows(tmp_path)["ada"]["evidence"] == "6"
    result = json.loads((tmp_path / "grades" / "results" / "ada.json").read_text())
    assert result["questions"]["2.6"]["evidence"] == 2


def test_on_gradescope_the_score_is_the_sum_of_the_tests(tmp_path, grade):
    """If one row of a question could not be judged, another row that earned points still counts."""
    zipped(tmp_path / "class" / "ada.zip", parts("ada"))
    found = evidence(None, waits_for="data")
    found[1] |= {"points": 1.0, "waits_for": None}
    QuickJudge.special["ada"] = {"evidence": found}
    assert grade("class") == 0
    result = json.loads((tmp_path / "grades" / "results" / "ada.json").read_text())
    content = gradescope.results_json(result, RUBRIC)
    assert content["score"] == sum(test["score"] for test in content["tests"]) == 25


def test_gradescopes_image_has_mnist(tmp_path):
    """setup.sh downloads MNIST with the Python that it installed."""
    calls = tmp_path / "calls"
    script = tmp_path / "setup.sh"
    script.write_text(autograder.SETUP)
    (tmp_path / "source").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("apt-get", "python3"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nmkdir -p "{tmp_path}/venv/bin"\n')
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").write_text(f'#!/bin/sh\necho "$PWD: $@" >> "{calls}"\n')
    for path in [*(tmp_path / "bin").iterdir(), tmp_path / "venv" / "bin" / "python"]:
        path.chmod(0o755)
    environment = {"AUTOGRADER_ROOT": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    subprocess.run(["bash", script], env=environment, check=True)
    assert calls.read_text().splitlines()[-1] == f"{tmp_path / 'source'}: -m course.data mnist"
