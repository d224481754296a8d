"""Tests of grading on Gradescope: retries on a busy machine, and resubmissions."""

import json
import shutil
from pathlib import Path

import pytest
from class_cases import RUBRIC, TESTS, QuickJudge, evidence, parts, unpacked
from grading_cases import KL, a_template, solution

from staff.grading import grade, gradescope, judges


def judged(root: Path) -> dict:
    """Grade root/submission; return the content of results.json."""
    assert gradescope.main(["--root", str(root)]) == 0
    content = json.loads((root / "results" / "results.json").read_text())
    assert gradescope.check(content) == []
    return content


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """Return a function: submit(files, busy=1) -> content of results.json; the first `busy` attempts are undecided."""
    monkeypatch.setattr(grade, "Judges", lambda: judges.Judges(QuickJudge))
    monkeypatch.setattr(QuickJudge, "judged", [])
    judge = QuickJudge.judge

    def judging(self, *args):
        found = judge(self, *args)
        if len(QuickJudge.judged) <= submit.busy:
            found["tests"][0] |= {"outcome": "undecided", "message": "not judged"}
            found["tests"][-1] |= {"outcome": "undecided", "message": "not judged"}
            found["evidence"] = evidence(None, waits_for="time")
        return found

    def submit(files: dict[str, bytes], busy: int = 0) -> dict:
        submit.busy = busy
        QuickJudge.judged.clear()
        shutil.rmtree(tmp_path / "submission", ignore_errors=True)
        unpacked(tmp_path / "submission", files)
        return judged(tmp_path)

    monkeypatch.setattr(QuickJudge, "judge", judging)
    return submit


def test_what_a_busy_machine_could_not_judge_is_judged_again(submit):
    assert submit(parts(), busy=1)["score"] == 24 and len(QuickJudge.judged) == 2
    assert submit(parts())["score"] == 24 and len(QuickJudge.judged) == 1


def test_what_still_cannot_be_judged_is_no_mistake(submit):
    """An undecided test earns no points yet, and the student is told why and what to do."""
    content = submit(parts(), busy=2)
    lost = TESTS[0]["points"] + TESTS[-1]["points"]
    assert content["score"] == 24 - lost and len(QuickJudge.judged) == 2
    busy = [entry for entry in content["tests"] if gradescope.BUSY in entry["output"]]
    rows = len({test["name"] for test in (TESTS[0], TESTS[-1])}) + len(RUBRIC.evidence)
    assert len(busy) == rows and not any("not judged" == entry["output"] for entry in content["tests"])


def test_a_resubmission_is_judged_for_itself(submit):
    """Neither the points nor the files of an earlier submission count."""
    few = submit(parts(folders=["part1_vae"]))
    assert submit(parts())["score"] == 24 > few["score"] > 0
    again = submit(parts(folders=["part1_vae"]))
    assert again | {"execution_time": few["execution_time"]} == few


@pytest.mark.slow
def test_resubmissions_in_the_sandbox(tmp_path, level):
    """One student submits the template, a wrong solution, the solution, and the template again."""
    scores = []
    for number in range(4):
        shutil.rmtree(tmp_path / "submission", ignore_errors=True)
        mistake = {"kl": ("part1_vae/utils.py", KL, "0.5 * (torch.expm1(log_std)")} if number == 1 else {}
        a_template(tmp_path / "submission") if number in (0, 3) else solution(tmp_path / "submission", **mistake)
        scores.append(judged(tmp_path)["score"])
    assert scores[0] == scores[3] < 2 and 20 < scores[1] < 24 == scores[2]
