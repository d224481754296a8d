"""Tests of the reports on graded tests with unexpected outcomes, and of checking a single part."""

import re
import shutil
import subprocess

import pytest

from small_runs import REPOSITORY
from staff import __main__ as command_line
from staff.release import build, checks, outcomes
from staff.release.suites import GradedTest


def graded(name: str = "test_x", question: str = "2.5", needs: tuple[str, ...] = (), first: int = 1) -> GradedTest:
    return GradedTest(f"tests/test_part{question[0]}.py", name, question, 1, False, needs, first, first + 1)


def entry(**fields) -> dict:
    return {"outcome": "failed", "error": "NotImplementedError", "message": "Q2.5 is not filled in yet", **fields}


@pytest.mark.parametrize(
    "outcome, should_pass, problem",
    [
        (entry(), False, None),
        (entry(message="Q2.4 is not filled in yet"), False, None),  # the test is marked as needing Q2.4
        (entry(outcome="passed"), True, None),
        (None, False, "does not run"),
        (entry(), True, "does not pass"),
        (entry(outcome="passed"), False, "should fail, but its outcome is passed"),
        (entry(outcome="skipped"), False, "should fail, but its outcome is skipped"),
        (entry(error="AttributeError"), False, "should stop at a blank"),
        (entry(message="Q3.2 is not filled in yet"), False, "should name its question"),
    ],
)
def test_what_counts_as_wrong_in_a_template(outcome, should_pass, problem):
    filled = ("2.5", "2.4") if should_pass else ("2.5",)
    found = outcomes.find_wrong(graded(needs=("2.4",)), outcome, filled)
    assert found is None if problem is None else found.what.startswith(problem)


def judged(tests: list[GradedTest], stop_at: str) -> list[str]:
    """Return the report on tests that stop at question `stop_at`'s blank, whichever questions are filled in."""
    fillings = [(), *((question,) for question in ("1.7", "1.8", "1.9", "2.4", "2.5", "3.3"))]
    stopped = entry(message=f"Q{stop_at} is not filled in yet: attention.\npart3_gpt/gpt.py:96, in attention: raise")
    found = [outcomes.find_wrong(test, stopped, filled) for test in tests for filled in fillings]
    return outcomes.summarize(wrong for wrong in found if wrong)


def test_tests_that_need_another_question_are_named_together():
    tests = [graded(f"test_{number}", "3.3", first=9 - number) for number in range(5)]
    assert judged(tests, stop_at="3.2") == [
        "tests/test_part3.py:5: test_4, test_3, test_2 and 2 more stop at the blank of Q3.2: "
        'add needs=["3.2"], or add a stand-in to the adapter'
    ]


def test_what_a_test_needs_already_is_kept():
    (line,) = judged([graded("test_x", "3.3", ("2.4",))], stop_at="3.2")
    assert 'test_x stops at the blank of Q3.2: add needs=["2.4", "3.2"], or' in line
    assert len(judged([graded("test_x", "3.3"), graded("test_y", "3.3", ("2.4",))], stop_at="3.2")) == 2


def test_what_goes_wrong_with_every_filling_is_said_once():
    broken = entry(error="AttributeError", message="no attribute\npart2_aae/models.py:{}, in forward")
    found = []
    for line, filled in enumerate([("1.7",), ("1.8",), ("2.4",)]):
        at_line = {**broken, "message": broken["message"].format(line)}
        found.append(outcomes.find_wrong(graded(), at_line, filled))
    assert outcomes.summarize(found) == [
        "tests/test_part2.py:1: with Q1.7 filled in, test_x should stop at a blank, but: no attribute\n"
        "part2_aae/models.py:0, in forward (also with 2 other combinations)"
    ]
    (once,) = outcomes.summarize(found[:1])
    assert "so too" not in once


# --- checking a single part -------------------------------------------------------------------------------------------


def test_a_part_is_checked_alone(capsys):
    assert command_line.main(["check", "--part", "2"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^Q(\d)", shown, re.MULTILINE) == ["2"] * 7
    assert re.search(r"^part 2 +22 ", shown, re.MULTILINE) and "of this part agree" in shown
    assert command_line.main(["check", "--part", "4"]) == 1
    assert "there is no part 4; the parts are 1, 2, 3" in capsys.readouterr().err


def test_a_part_alone_does_not_mind_the_others(tmp_path):
    for folder in ("course", "tests", "part1_vae", "part2_aae", "part3_gpt", "staff/hidden"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    model = tmp_path / "part1_vae" / "utils.py"
    model.write_text(model.read_text() + "# BEGIN SOLUTION Q1.7\n")
    assert [test.question[0] for test in build.read_course(tmp_path, part=2).tests][:1] == ["2"]
    with pytest.raises(build.ReleaseError, match="part1_vae/utils.py"):
        build.read_course(tmp_path)
    with pytest.raises(build.ReleaseError, match="part1_vae/utils.py"):
        build.read_course(tmp_path, part=1)


@pytest.mark.slow
def test_the_tests_of_a_part_are_run_alone(tmp_path):
    """Without the adapter's stand-in for attention in part 3, one line names all tests that need it."""
    root = tmp_path / "copy"
    for file in build.tracked(REPOSITORY):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes((REPOSITORY / file).read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    said: list[str] = []
    checks.Checks(build.read_course(root, part=3), "2031", said.append, root).run()
    assert [line for line in said if "Q3.3 filled in" in line] and not [line for line in said if "Q1.7" in line]
    adapters, stand_in = root / "tests" / "adapters" / "part3.py", "        block.attn.attention = _causal_mean\n"
    assert stand_in in adapters.read_text()
    adapters.write_text(adapters.read_text().replace(stand_in, "        pass\n"))
    with pytest.raises(build.ReleaseError) as found:
        checks.Checks(build.read_course(root, part=3), "2031", said.append, root).run()
    lines = [line for line in str(found.value).splitlines() if "the solution does not pass" not in line]
    assert len(lines) == 1, lines
    assert lines[0].endswith(' stop at the blank of Q3.2: add needs=["3.2"], or add a stand-in to the adapter')
