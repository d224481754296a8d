"""Tests of `python -m course next` in a repository with small blanks and tests, and the real conftest.py."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from course import graded, rubric
from course import next as next_step
from course.blanks import Blank
from small_runs import REPOSITORY

RUBRIC = rubric.read()
PART = RUBRIC.parts[1]
UTILS = """
def half(x):
    # Q1.7: half of x.
    # Hint: two halves are a whole.
    raise NotImplementedError("Q1.7: half of x.")


def quarter(x):
    # Q1.8: a quarter of x.
    # Hint: half of a half.
    raise NotImplementedError("Q1.8: a quarter of x.")
"""
NETWORK = """
class Doubler:
    def forward(self, x):
        # Q1.7: twice x.
        # Hint: x and x.
        raise NotImplementedError("Q1.7: twice x.")
"""
SUITE = '''
"""PYTEST_DONT_REWRITE"""
import time
import pytest
from part1_vae import network, utils


@pytest.mark.question("1.8", points=1)
def test_quarter():
    assert utils.quarter(8) == 2, "a quarter of 8 is 2"


@pytest.mark.question("1.7", points=1)
def test_doubler():
    assert network.Doubler().forward(utils.half(4)) == 4


@pytest.mark.question("1.7", points=0.5)
def test_half():
    assert utils.half(4) == 2, "half of 4 is 2"
'''
TABLE = "| file | contents |\n| --- | --- |\n| `utils.py`, `network.py` | all |\n"


@pytest.fixture
def small(tmp_path) -> Path:
    """Return a repository with three blanks in part 1."""
    folder = tmp_path / "practical"
    shutil.copytree(REPOSITORY / "course", folder / "course", ignore=shutil.ignore_patterns("__pycache__"))
    own = {
        name: (REPOSITORY / name).read_text()
        for name in ("setup.cfg", "conftest.py", "tests/answers.py", "tests/messages.py")
    }
    part = {"__init__.py": "", "utils.py": UTILS, "network.py": NETWORK, "README.md": TABLE}
    own |= {f"part1_vae/{name}": text for name, text in part.items()}
    for name, text in {**own, "tests/test_part1_small.py": SUITE}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def fill(small: Path, file: str, blank: str, code: str) -> None:
    path, line = small / "part1_vae" / file, f'raise NotImplementedError("{blank}")'
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, code))


def start(small: Path, *words: str, **more) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "course", "next", "--part", "1", *words],
        cwd=small,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def said(small: Path, *words: str) -> str:
    process = start(small, *words)
    output, errors = process.communicate()
    assert process.returncode == 0 and errors == "", errors
    return output


def test_a_student_who_fills_in_one_blank_after_the_other(small):
    first = said(small)
    assert first == (
        "part 1: Q1.7 --\n"
        "next: Q1.7, part1_vae/utils.py, line 5, in half, has to be filled in\n"
        "    half of x.\n"
        "test: python -m pytest --question 1.7\n"
        "hint: python -m course next --hint\n"
    ), "both tests of Q1.7 need this blank"
    fill(small, "utils.py", "Q1.7: half of x.", "return x / 3")
    assert said(small, "--hint") == (
        "part 1: Q1.7 -F\n"
        "next: Q1.7, test_half fails\n"
        "    half of 4 is 2\n"
        "The test runs these parts of your code:\n"
        "    part1_vae/utils.py, line 3, in half: half of x.\n"
        "hint: two halves are a whole.\n"
        "test: python -m pytest --question 1.7 -k test_half\n"
    )
    path = small / "part1_vae" / "utils.py"
    path.write_text(path.read_text().replace("x / 3", "x / 2"))
    second = said(small)
    assert "next: Q1.7, part1_vae/network.py, line 6, in Doubler.forward, has to be filled in" in second
    assert "test: python -m pytest --question 1.7 -k test_doubler\n" in second
    fill(small, "network.py", "Q1.7: twice x.", "return x + x")
    assert "part 1: Q1.7 .. Q1.8 -\nnext: Q1.8, part1_vae/utils.py, line 11, in quarter" in said(small)
    fill(small, "utils.py", "Q1.8: a quarter of x.", "return x / 4")
    assert said(small) == "part 1: Q1.7 .. Q1.8 .\nAll graded tests for part 1 pass.\n"


def test_a_file_that_is_not_python_is_named(small):
    fill(small, "network.py", "Q1.7: twice x.", "return x +")
    assert "next: part1_vae/network.py, line 6: invalid syntax\nThis is not valid Python" in said(small)


def test_what_keeps_the_tests_from_running_is_said(small):
    (small / "tests" / "test_part1_small.py").write_text("import nothing_of_that_name\n")
    process = start(small)
    assert "No module named 'nothing_of_that_name'" in process.communicate()[1] and process.returncode == 1
    (small / "tests" / "test_part1_small.py").write_text(
        SUITE.replace("utils.half(4) == 2", "__import__('os')._exit(9)")
    )
    fill(small, "utils.py", "Q1.7: half of x.", "return x / 2")
    process = start(small)
    assert "error: test_half ended the Python process (status 9)" in process.communicate()[1]
    (small / "tests" / "test_part1_small.py").unlink()
    assert "error: tests/test_part1*.py has no graded tests; restore" in start(small).communicate()[1]


def test_a_part_that_there_is_not(small):
    process = subprocess.run(
        [sys.executable, "-m", "course", "next", "--part", "4"], cwd=REPOSITORY, capture_output=True
    )
    assert process.returncode == 2 and process.stderr == b"error: --part 4: the parts are 1, 2, 3\n"


def test_a_test_that_hangs_is_named_and_ctrl_c_ends_it(small):
    (small / "course" / "next.py").write_text(
        (small / "course" / "next.py").read_text().replace("LONG = 30", "LONG = 1")
    )
    fill(small, "utils.py", "Q1.7: half of x.", "import time\n    time.sleep(600)")
    process = start(small, start_new_session=True)
    seen = ""
    while "Ctrl-C" not in seen or "test_doubler" not in seen:
        seen += process.stdout.readline() or pytest.fail(f"ended: {seen}")
    assert "test_doubler has been running for 1 seconds; press Ctrl-C to stop it" in seen
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors


@pytest.mark.slow
def test_watch_tests_again_whenever_a_file_changes(small):
    process = start(small, "--watch", start_new_session=True)

    def until(line: str) -> str:
        seen = []
        while not seen or line not in seen[-1]:
            seen.append(process.stdout.readline() or pytest.fail(f"ended: {seen}, {process.stderr.read()}"))
        return "".join(seen)

    try:
        assert "in half, has to be filled in" in until("waiting for a change in part1_vae/")
        fill(small, "utils.py", "Q1.7: half of x.", "return x / 2")
        assert "in Doubler.forward, has to be filled in" in until("waiting for a change")
        fill(small, "network.py", "Q1.7: twice x.", "return 3 * x")
        assert "test_doubler fails" in until("waiting for a change")
        path = small / "part1_vae" / "network.py"
        path.write_text(path.read_text().replace("3 * x", "2 * x"))
        after = until("waiting for a change")
        assert "It passes." in after and "in quarter, has to be filled in" in after
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


# --- the next step ----------------------------------------------------------------------------------------------------


def blank(name: str, question: str = "1.7", is_open: bool = True) -> Blank:
    return Blank("part1_vae/utils.py", len(name), question, f"write {name}", "", name, is_open)


def result(name: str, question: str = "1.7", at: Blank | None = None, wrong: str = "", reached: str = "") -> dict:
    message = f"Q{question} is not filled in yet: x\n{at.file}:{at.line}, in {at.where}: raise" if at else wrong or None
    functions = [["part1_vae/utils.py", function] for function in reached.split()]
    return {"ends": name, "question": question, "passed": not message, "message": message, "reached": functions}


def test_an_earlier_open_blank_comes_before_a_later_test_that_fails():
    a, bb, ccc = blank("a"), blank("bb", is_open=False), blank("ccc", is_open=False)
    results = [result("test_a", at=a), result("test_b", wrong="no", reached="bb"), result("test_c", reached="ccc")]
    assert next_step.choose(RUBRIC, PART, [a, bb, ccc], results).places == [a]
    assert next_step.choose(RUBRIC, PART, [bb, a, ccc], results).message == "no"


def test_a_test_that_fails_is_put_to_the_last_blank_that_it_runs():
    a, bb, ccc = (blank(name, is_open=False) for name in ("a", "bb", "ccc"))
    results = [result("test_all", wrong="sum", reached="a bb ccc"), result("test_b", wrong="no", reached="a bb")]
    step = next_step.choose(RUBRIC, PART, [a, bb, ccc], results)
    assert (step.message, step.places, step.select) == ("no", [a, bb], "test_b")


def test_a_blank_that_no_test_meets_is_a_step_all_the_same():
    a = blank("a", "1.8")
    step = next_step.choose(RUBRIC, PART, [a], [result("test_x"), result("test_y", "1.8")])
    assert (step.question, step.places, step.select) == ("1.8", [a], "")
    assert next_step.choose(RUBRIC, PART, [], [result("test_x")]) is None


def test_tests_are_selected_by_what_their_names_begin_with():
    a = blank("a")
    stopped = [result(f"test_kld_{end}", at=a) for end in ("values", "gradients", "extremes", "shapes")]
    others = [result("test_kl"), result("test_bpd")]
    assert next_step.choose(RUBRIC, PART, [a], stopped + others).select == "test_kld"
    others += [result("test_kld_stable")]
    assert next_step.choose(RUBRIC, PART, [a], stopped + others).select == ""
    assert next_step.choose(RUBRIC, PART, [a], stopped[:2] + others).select == "test_kld_values or test_kld_gradients"


def test_after_the_code_come_runs_answers_and_the_submission(tmp_path):
    rest = next_step.describe_rest(RUBRIC, tmp_path / "logs", tmp_path)
    order = [
        "next: runs\n    Q1.7: python part1_vae/train.py --z_dim 20",
        "then: written answers\n    answers.md",
        "then: python -m course submission",
    ]
    places = [rest.index(line) for line in order]
    assert places == sorted(places)
    written = "\n".join(f"## Q{question}\n\nBecause.\n" for question in RUBRIC.questions)
    (tmp_path / "answers.md").write_text(written)
    assert "written answers" not in next_step.describe_rest(RUBRIC, tmp_path / "logs", tmp_path)


# --- the end of a pytest run ------------------------------------------------------------------------------------------


def lost(name: str, question: str, message: str, outcome: str = "failed") -> dict:
    return {"name": name, "question": question, "message": message, "outcome": outcome}


def test_the_last_line_of_a_run_names_the_first_blank_of_the_first_question(small):
    open_17, open_18 = (f"Q{id} is not filled in yet: x\npart1_vae/utils.py:9, in f: raise" for id in ("1.7", "1.8"))
    tests = [lost("test_c", "1.8", open_18), lost("test_d", "1.7", open_17), lost("test_e", "1.7", None, "passed")]
    hint = "; for a hint: python -m course next --hint"
    assert graded.next_line(tests, small) == f"next: Q1.7, part1_vae/utils.py, line 5: half of x{hint}"
    tests += [lost("test_half", "1.7", "half of 4 is 2")]
    assert graded.next_line(tests, small) == f"next: Q1.7, test_half fails, see above{hint}"
    assert "`python -m course next` shows the step after" in graded.next_line(tests[2:3], small)
    (small / "part1_vae" / "utils.py").write_text("def f(:")
    assert graded.next_line(tests[:3], small) == f"next: Q1.7, test_d, see above{hint}"


def test_a_run_ends_with_what_it_does_not_count_and_what_comes_next(small):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"]
    ended = subprocess.run(
        command, cwd=small, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    *_, last = ended.stdout.splitlines()
    assert last.startswith("next: Q1.7, part1_vae/utils.py, line 5: half of x;")
    assert re.search(
        r"^of Q1.7, Q1.8, not counted: 6.5 points in tests that only graders have, 3 for runs, 3 for written answers$",
        ended.stdout,
        re.MULTILINE,
    ), ended.stdout


def test_all_points_of_the_assignment_are_in_the_table_or_below_it(course_tests):
    """Even if some tests are left out, the counted and uncounted points add up to the questions' points."""
    public = {test for test in course_tests if not test.hidden}
    for ran in (
        course_tests,
        public,
        [test for test in public if test.question != "1.7"],
        [test for test in public if "kld" in test.name],
    ):
        worth: dict[str, float] = {}
        for test in ran:
            worth[test.question] = worth.get(test.question, 0) + test.points
        line = graded.not_counted(worth, REPOSITORY)
        numbers = [float(number) for number in re.findall(r"(?:: |, )(\d+(?:\.\d+)?) ", line)]
        questions = RUBRIC.questions if len(worth) == 7 else worth
        assert sum(numbers) + sum(worth.values()) == sum(RUBRIC.questions[id].points for id in questions), line


@pytest.fixture(scope="module")
def course_tests():
    from staff.release.build import read_course

    return read_course().tests


def test_hidden_points_are_the_rubrics_less_those_of_the_tests_that_students_have(tmp_path, course_tests):
    shutil.copytree(REPOSITORY / "tests", tmp_path / "tests")
    hidden = sum(test.points for test in course_tests if test.hidden)
    everything = {question.id: question.automatic for question in RUBRIC.questions.values() if question.automatic}
    public = {
        id: worth - sum(test.points for test in course_tests if test.hidden and test.question == id)
        for id, worth in everything.items()
    }
    assert graded.not_counted(public, tmp_path) == (
        f"not counted: {hidden:g} points in tests that only graders have, 6 for runs, 36 for written answers"
    )
