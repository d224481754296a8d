"""Tests that every student has a row in grades.csv, no matter what one submission contains or does."""

import json
import lzma

import pytest
from class_cases import QuickJudge, evidence, parts, rows, unpacked, zipped

from staff.grading import archives, results, sandbox

DIGITS = int("9" * 4000)


@pytest.fixture
def ada(tmp_path):
    zipped(tmp_path / "class" / "ada.zip", parts())
    return tmp_path


def test_submissions_that_cannot_be_read_cost_the_others_nothing(ada, grade):
    (ada / "class" / "bob.zip").write_bytes(b"PK\x03\x04 damaged")
    (ada / "class" / "cem.tar.xz").write_bytes(lzma.compress(b"") * 2000)
    zipped(ada / "class" / "dan.zip", {f"{number}/": b"" for number in range(5000)} | parts("many"))
    zipped(ada / "class" / "eve.zip", parts("open"))
    for attempt in ("the first time", "again"):
        assert grade("class") == 0, attempt
        found = rows(ada)
        assert list(found) == ["ada", "bob", "cem", "dan", "eve"]
        assert found["ada"]["total"] == found["eve"]["total"] == "24"
        for student in ("bob", "cem"):
            assert (found[student]["status"], found[student]["total"]) == ("not readable", "0")
            assert found[student]["problem"].startswith("The archive is damaged or incomplete")
        page = (ada / "grades" / "report.html").read_text()
        assert "5 students: 3 graded, 2 not readable" in page
        assert {path.stem for path in (ada / "grades" / "feedback").iterdir()} == set(found)


@pytest.mark.parametrize("line", [-1, DIGITS, None, "3"], ids=["negative", "4000 digits", "none", "text"])
def test_a_result_is_validated_where_it_is_written(ada, grade, line):
    zipped(ada / "class" / "eve.zip", parts("hostile"))
    QuickJudge.special["hostile"] = {"seen": [["part1_vae/utils.py", line, "torch.distributions"]]}
    if line is None:
        QuickJudge.special["hostile"] = {"evidence": [row | {"claimed": "0.5"} for row in evidence()]}
    assert grade("class") == 0
    found = rows(ada)
    assert found["ada"]["total"] == "24" and (found["eve"]["status"], found["eve"]["total"]) == ("failed", "0")
    assert found["eve"]["problem"].startswith("the grader failed: its result is invalid (")
    assert results.check(json.loads((ada / "grades" / "results" / "eve.json").read_text())) == []


def test_line_numbers_that_cannot_be_are_ignored_where_they_arrive():
    child = object.__new__(sandbox.Child)
    child.seen = set()
    child._note([["a.py", line, "torch.distributions"] for line in (-1, 0, DIGITS, True, 3)])
    assert child.seen == {("a.py", 3, "torch.distributions")}


@pytest.mark.parametrize(
    "error", [RecursionError("too deep"), MemoryError(), ValueError("null byte"), OSError(13, "No")]
)
def test_an_error_in_one_submission_is_its_own(ada, grade, error, monkeypatch):
    zipped(ada / "class" / "eve.zip", parts("hostile"))
    stage = archives.stage

    def failing(submission, root):
        if submission.student == "eve":
            raise error
        return stage(submission, root)

    monkeypatch.setattr(archives, "stage", failing)
    assert grade("class") == 0
    assert rows(ada)["ada"]["total"] == "24"
    assert rows(ada)["eve"]["problem"].startswith(f"the grader failed: {type(error).__name__}")
    monkeypatch.undo()


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b'{"seconds": %d}' % DIGITS, b'{"student": "bob"}'], ids=range(4)
)
def test_a_damaged_result_is_named_and_judged_again(ada, grade, content):
    """The student's row states the reason, other rows are still written, and the exit status reports the problem."""
    zipped(ada / "class" / "bob.zip", parts())
    assert grade("class") == 0
    (ada / "grades" / "results" / "bob.json").write_bytes(content)
    assert grade("class/ada.zip") == 1
    assert "results/bob.json: " in grade.said
    assert rows(ada)["ada"]["total"] == "24"
    assert (rows(ada)["bob"]["total"], rows(ada)["bob"]["status"]) == ("0", "failed")
    assert rows(ada)["bob"]["problem"].startswith("the result cannot be used; grade this submission again")
    assert grade("class") == 0
    assert "1 graded, 1 already judged" in grade.said and rows(ada)["bob"]["total"] == "24"


def test_a_student_whose_folder_is_named_like_a_part(ada, grade):
    """`part1-jan` is a student's folder; it must not make the whole class look like one submission with a part 1."""
    unpacked(ada / "class" / "part1-jan", {"notes.py": b"", **parts()})
    unpacked(ada / "class" / "eve", parts())
    assert grade("class") == 0
    found = rows(ada)
    assert list(found) == ["ada", "eve", "part1-jan"] and {row["total"] for row in found.values()} == {"24"}
