"""Tests of the status of each student: graded, partly graded, not readable, or nothing handed in."""

import json
import os
import re
import stat
import subprocess

import pytest
from class_cases import PARTS, RUBRIC, QuickJudge, parts, rows, unpacked, zipped
from grading_cases import released

from staff.grading import gradescope
from staff.grading.archives import part_folders
from staff.grading.report import mistakes


def test_a_missing_part_is_one_sentence(tmp_path, grade):
    zipped(tmp_path / "class" / "ada.zip", parts())
    zipped(tmp_path / "class" / "bob.zip", parts(folders=PARTS[:2]))
    assert grade("class") == 0
    assert "bob: partly graded: Missing: part3_gpt." in grade.said
    bob = rows(tmp_path)["bob"]
    assert (bob["status"], bob["problem"]) == ("partly graded", "Missing: part3_gpt.")
    page = (tmp_path / "grades" / "feedback" / "bob.md").read_text()
    result = json.loads((tmp_path / "grades" / "results" / "bob.json").read_text())
    names = [test["name"] for test in result["tests"] if test["question"].startswith("3.")]
    assert f"part3\\_gpt is missing, so its {len(names)} tests could not run." in page
    assert len(names) > 5 and not [name for name in names if f"`{name}`" in page]
    assert mistakes([result], RUBRIC) == []
    entries = [test for test in gradescope.results_json(result, RUBRIC)["tests"] if test["name"].startswith("Q3")]
    assert {test["output"] for test in entries if "hidden" not in test["name"]} == {"part3_gpt is missing."}


def test_a_submission_without_a_part_says_why(tmp_path, grade):
    zipped(tmp_path / "class" / "ada.zip", {"utils.py": b"", "gpt.py": b""})
    unpacked(tmp_path / "class" / "bob", {"report.pdf": b""})
    assert grade("class") == 0
    found = rows(tmp_path)
    assert found["ada"]["status"] == found["bob"]["status"] == "not readable"
    assert "The files gpt.py, utils.py are not in the folders of the parts" in found["ada"]["problem"]
    assert found["bob"]["problem"].startswith(f"It contains none of the folders {', '.join(part_folders().values())}")


@pytest.mark.parametrize("umask, mode", [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_the_umask_decides_who_can_read_grades(tmp_path, grade, umask, mode):
    zipped(tmp_path / "class" / "ada.zip", parts())
    (tmp_path / "roster.csv").write_text("id\nada\nbob\n")
    before = os.umask(umask)
    try:
        assert grade("class", "--roster", "roster.csv") == 0
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "grades").rglob("*") if path.is_file()]
    assert len(files) > 8 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}


def test_a_clone_of_the_students_repository_leaves_out_nothing_worth_a_word(tmp_path, grade):
    """With GitHub Classroom, the clone contains .git and the files of runs; only unexpected files are reported."""
    clone = {name: content for name, content in released().items() if not name.startswith("part")} | parts()
    clone |= {".git/HEAD": b"", "data/MNIST/raw/x": b"", ".venv/bin/python": b"", "part1_vae/__pycache__/a.pyc": b""}
    unpacked(tmp_path / "class" / "practical-octo", clone)
    unpacked(tmp_path / "class" / "practical-jane" / "repository", clone | {"cheats.txt": b"", "part1_vae/a.so": b""})
    assert grade("class") == 0
    folder = tmp_path / "grades"
    assert "Left out" not in (folder / "feedback" / "practical-octo.md").read_text()
    page = (folder / "report.html").read_text()
    assert "practical-octo</code>" not in page.partition("Worth checking")[2]
    found = re.findall(r"left out: ([^<]*)", page)
    assert found == ["repository/cheats.txt: is ignored", "repository/part1_vae/a.so: is never loaded"]
    shown = (folder / "feedback" / "practical-jane.md").read_text()
    assert "cheats.txt" in shown and ".git" not in shown and "conftest" not in shown


RUN = "logs/vae/version_0/summary.json"


@pytest.mark.parametrize("how", [RUN, "submission.zip"])
def test_runs_that_are_pushed_are_judged(tmp_path, grade, monkeypatch, how):
    """Runs are pushed with git, as for GitHub Classroom, in logs/ or in the zip from `make submission`."""
    whole, old = parts("packed") | {RUN: b"{}"}, {"logs/gpt/version_0/summary.json": b"{}"}
    pushed = released() | parts("pushed")
    packed = zipped(tmp_path / "submission.zip", whole | old).read_bytes()
    unpacked(tmp_path / "work", pushed | ({RUN: b"{}"} if how == RUN else {how: packed}))
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@x.org", "-C", str(tmp_path / "work")]
    for words in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "Hand in"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run(["git", "clone", "-q", tmp_path / "work", tmp_path / "class" / "practical-ada"], check=True)
    seen, judge = [], QuickJudge.judge

    def judging(self, root, *more):
        seen.append([(root / RUN).is_file(), (root / "part1_vae" / "utils.py").read_text()])
        return judge(self, root, *more)

    monkeypatch.setattr(QuickJudge, "judge", judging)
    assert grade("class") == 0
    assert seen == [[True, "pushed"]] and rows(tmp_path)["practical-ada"]["status"] == "graded"
    assert "Left out" not in (tmp_path / "grades" / "feedback" / "practical-ada.md").read_text()
