"""Fixtures that the tests of the grader share."""

from functools import partial

import pytest
from class_cases import QuickJudge

from course import download
from staff import __main__ as command_line
from staff.grading import grade as grading
from staff.grading import judge


@pytest.fixture(scope="module")
def judges(level):
    judges = grading.Judges()
    yield judges
    judges.close()


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    """Use MNIST if it is on this machine, but do not download it."""
    monkeypatch.setattr(download, "fetch", partial(download.fetch, download=False))


@pytest.fixture
def grade(tmp_path, monkeypatch, capsys):
    """Return a function: grade("class", "--manual", "x.csv") -> exit status; grade.said is the printed text."""
    monkeypatch.setattr(judge, "Judge", QuickJudge)
    monkeypatch.setattr(QuickJudge, "special", {})
    monkeypatch.setattr(QuickJudge, "judged", [])
    monkeypatch.chdir(tmp_path)

    def run(*words: object, command: str = "grade") -> int:
        status = command_line.main([command, *map(str, words), "-o", "grades"])
        said = capsys.readouterr()
        run.said = said.out + said.err
        assert "Traceback" not in run.said
        return status

    return run
