"""Tests of `python -m course points`: the summary of a job, and the files for GitHub's classrooms."""

import base64
import json
import os
import subprocess
import sys

import jsonschema
import pytest

from course.__main__ import main
from small_runs import REPOSITORY

QUESTIONS = {
    "1.7": {"earned": 1.25, "worth": 2, "missing": ["test_kld", "test_bpd"]},
    "1.8": {"earned": 1, "worth": 1, "missing": []},
}
# the requirements of Classroom 50's result-v1.schema.json (repository foundation50/classroom50, August 2026)
RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema", "classroom", "assignment", "assignment_type", "owner", "submission", "commit", "release", "review",
        "datetime", "score", "max-score", "tests",
    ],
    "properties": {
        "schema": {"const": "classroom50/result/v1"},
        "assignment_type": {"enum": ["individual", "group"]},
        **{name: {"type": "string", "minLength": 1} for name in ("classroom", "assignment", "owner", "commit")},
        **{name: {"type": "string", "minLength": 1} for name in ("release", "review")},
        "submission": {"type": "string", "pattern": "^submit/"},
        "datetime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
        "score": {"type": "integer", "minimum": 0},
        "max-score": {"type": "integer", "minimum": 0},
        "tests": {
            "type": "array",
            "items": {
                "required": ["test-name", "passed", "score", "max-score"],
                "properties": {
                    "test-name": {"type": "string", "minLength": 1},
                    "passed": {"type": "boolean"},
                    "score": {"type": "integer", "minimum": 0},
                    "max-score": {"type": "integer", "minimum": 0},
                },
            },
        },
    },
}  # fmt: skip
RUNNER = {
    "CLASSROOM": "dgm", "ASSIGNMENT": "practical", "ASSIGNMENT_TYPE": "individual", "OWNER": "ada",
    "SUBMISSION_TAG": "submit/2027-01-01T00-00-00Z-abc1234", "COMMIT_URL": "https://c", "RELEASE_URL": "https://r",
    "REVIEW_URL": "https://v",
}  # fmt: skip


@pytest.fixture
def points(tmp_path) -> str:
    file = tmp_path / "points.json"
    file.write_text(json.dumps({"seed": 1, "questions": QUESTIONS, "tests": []}))
    return str(file)


def test_a_job_gets_a_table(points, tmp_path, capsys):
    page = tmp_path / "summary.md"
    page.write_text("earlier\n")
    assert main(["points", points, "--summary", str(page)]) == 0
    assert capsys.readouterr().out == "2.25 of 3 automatic points\n"
    lines = page.read_text("utf-8").splitlines()
    assert lines[:2] == ["earlier", "## 2.25 of 3 automatic points"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert [row[0].split()[0] for row in rows[2:]] == ["Q1.7", "Q1.8"] and len(set(map(len, rows))) == 1
    assert rows[2][1:] == ["1.25", "2", "`test_kld`, `test_bpd`"]


def test_github_classroom_adds_up_the_same_points(points, tmp_path):
    """Decode the output of the step and add up the scores, as GitHub Classroom's reporter does."""
    assert main(["points", points, "--classroom", str(tmp_path / "output")]) == 0
    name, _, encoded = (tmp_path / "output").read_text().partition("=")
    result = json.loads(base64.b64decode(encoded))
    assert name == "result" and result["status"] == "fail" and result["max_score"] == 3
    assert sum(test["score"] for test in result["tests"]) == 2.25
    assert [test["status"] for test in result["tests"]] == ["fail", "pass"]
    assert "test_bpd" in result["tests"][0]["message"]


def test_classroom_50_gets_whole_numbers(points, tmp_path, monkeypatch):
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)
    assert main(["points", points, "--classroom50", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(result, RESULT)
    assert (result["score"], result["max-score"]) == (9, 12), "quarters"
    assert [test["passed"] for test in result["tests"]] == [False, True] and result["owner"] == "ada"


def test_what_is_missing_is_named(points, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SUBMISSION_TAG", raising=False)
    assert main(["points", points, "--classroom50", str(tmp_path / "result.json")]) == 2
    assert "SUBMISSION_TAG" in capsys.readouterr().err
    assert main(["points", str(tmp_path / "none.json")]) == 2
    assert "--points-json" in capsys.readouterr().err
    (tmp_path / "none.json").write_text("[1]")
    assert main(["points", str(tmp_path / "none.json")]) == 2
    assert main(["points", points, "--summary", str(tmp_path)]) == 2
    assert f"--summary {tmp_path}" in capsys.readouterr().err


def test_what_pytest_writes_is_read(tmp_path):
    file = tmp_path / "points.json"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--question", "1.9", f"--points-json={file}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words, "tests"], cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    assert main(["points", str(file), "--summary", str(tmp_path / "page.md")]) == 0
    assert "| Q1.9 " in (tmp_path / "page.md").read_text("utf-8")
