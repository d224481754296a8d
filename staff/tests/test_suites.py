"""Tests of the messages and points that graded tests produce."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from small_runs import REPOSITORY

# a minimal submission with adapters and suites, which are run with the real conftest.py
SMALL = {
    "part1_vae/__init__.py": "",
    "part1_vae/broken.py": "def double(x):\n    return 2 * (x\n",
    "part1_vae/utils.py": """
def blank():
    raise NotImplementedError("Q1.7: draw z.")


def crash():
    return element([1, 2])


def element(numbers):
    return numbers[3]


def long():
    raise ValueError("x" * 100_000)


def graph():
    import torch

    x = torch.ones(2, requires_grad=True)
    y = x.exp().sum()
    y.backward()
    y.backward()


def disagree():
    assert 1 == 2, "the submission's own"
""",
    "tests/adapters/part1.py": """
from part1_vae import utils


def run_nothing():
    return None.detach()


def run_broken():
    from part1_vae.broken import double

    return double(1)
""",
    "tests/test_part1_vae.py": '''
"""PYTEST_DONT_REWRITE"""
from adapters import part1
import pytest
import torch
from adapters.part1 import utils
from judge import assert_value


@pytest.mark.question("1.7", points=0.5)
def test_right():
    assert_value("one", 1.0, 1.0)


@pytest.mark.question("1.7", points=1)
def test_blank():
    utils.blank()


@pytest.mark.question("1.8", points=1)
def test_crash():
    utils.crash()


@pytest.mark.question("1.8", points=1)
def test_long():
    utils.long()


@pytest.mark.question("1.8", points=1)
def test_graph():
    utils.graph()


@pytest.mark.question("1.8", points=1)
def test_disagree():
    utils.disagree()


@pytest.mark.question("1.8", points=1)
def test_nothing():
    part1.run_nothing()


@pytest.mark.question("1.8", points=1)
def test_broken():
    part1.run_broken()


@pytest.mark.question("1.9", points=1)
def test_skipped():
    pytest.skip("not today")


@pytest.fixture
def torn():
    yield
    raise ValueError("tear-down")


@pytest.mark.question("1.9", points=2)
def test_torn(torn):
    pass
''',
    "staff/hidden/test_part1_vae_hidden.py": '''
"""PYTEST_DONT_REWRITE"""
import pytest
import torch
from answers import Value
from judge import assert_value


@pytest.mark.question("1.7", points=0.5)
def test_half():
    assert_value("KLD", torch.ones(3), Value(2 * torch.ones(3), [("it is half", torch.ones(3))]))
''',
    "tests/test_part3_gpt.py": """
import pytest


@pytest.mark.question("3.2", points=4)
def test_attention():
    pass
""",
    "tests/test_other.py": """
def test_ungraded():
    assert sum([1, 1]) == 3
""",
}


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Return a folder with the small suites and the real conftest.py, judge.py and settings."""
    folder = tmp_path_factory.mktemp("small")
    own = {
        name: (REPOSITORY / name).read_text()
        for name in ("setup.cfg", "conftest.py", "tests/judge.py", "tests/answers.py", "tests/messages.py")
    }
    for name, content in (SMALL | own).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content.lstrip())
    return folder


@pytest.fixture(scope="module")
def ended(small):
    """Run all of the small suites; return the printed output and the content of --points-json."""
    result = run(small, "--points-json", "points.json", "--seed", "7")
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout, json.loads((small / "points.json").read_text())


@pytest.fixture(scope="module")
def messages(ended):
    return {test["name"]: test["message"] for test in ended[1]["tests"]}


# --- messages of failures ---------------------------------------------------------------------------------------------


def test_a_wrong_number_is_a_sentence_with_expected_and_obtained(messages):
    assert messages["test_half"] == (
        "KLD is wrong: it is half\nexpected 2, 2, 2\nobtained 1, 1, 1\n(3 of 3 numbers are wrong, the first at [0])"
    )


def test_a_blank_is_named_with_its_place(messages):
    assert messages["test_blank"] == (
        'Q1.7 is not filled in yet: draw z.\npart1_vae/utils.py:2, in blank: raise NotImplementedError("Q1.7: draw z.")'
    )


def test_an_exception_comes_with_the_places_in_the_submission_alone(messages):
    assert messages["test_crash"] == (
        "the code raises an exception: IndexError: list index out of range\n"
        "part1_vae/utils.py:6, in crash: return element([1, 2])\n"
        "part1_vae/utils.py:10, in element: return numbers[3]"
    )
    assert "AssertionError: the submission's own\npart1_vae/utils.py:" in messages["test_disagree"]
    assert "SyntaxError" in messages["test_broken"] and "part1_vae/broken.py:2" in messages["test_broken"]


def test_known_exceptions_have_a_hint(messages):
    assert "is z detached" in messages["test_graph"]


def test_what_cannot_be_used_names_the_adapter(messages):
    assert messages["test_nothing"] == (
        "the return value cannot be used by run_nothing in tests/adapters/part1.py: "
        "does it match the docstring?\n"
        "AttributeError: 'NoneType' object has no attribute 'detach'\n"
        "a function returns None: is a `return` missing?"
    )


def test_a_long_message_is_cut(messages):
    assert len(messages["test_long"]) < 2000 and "xxx..." in messages["test_long"]


def test_the_output_shows_the_message_and_not_the_harness(ended, messages):
    printed = ended[0].split("short test summary")[0]
    for name, message in messages.items():
        assert message is None or name == "test_skipped" or message in printed, name
    for stack in ("def test_half", "def run_nothing", "Traceback", "site-packages", r"(adapters|test_part\w+)\.py:\d"):
        assert not re.search(stack, printed), stack


def test_other_tests_keep_the_output_of_pytest(ended):
    assert "assert 2 == 3" in ended[0] and "def test_ungraded" in ended[0]


# --- points -----------------------------------------------------------------------------------------------------------


def test_points_are_written_whole(ended, small):
    content = ended[1]
    assert content["seed"] == 7
    assert content["questions"]["1.7"] == {"earned": 0.5, "worth": 2, "missing": ["test_blank", "test_half"]}
    assert content["questions"]["1.9"] == {"earned": 0, "worth": 3, "missing": ["test_skipped", "test_torn"]}
    assert content["questions"]["3.2"] == {"earned": 4, "worth": 4, "missing": []}
    tests = {test.pop("name"): test for test in content["tests"]}
    assert tests["test_right"] == {
        "question": "1.7", "points": 0.5, "hidden": False, "outcome": "passed", "message": None, "error": None,
    }  # fmt: skip
    assert tests["test_half"]["hidden"] and tests["test_half"]["error"] == "AssertionError"
    assert tests["test_blank"]["error"] == "NotImplementedError"
    assert (tests["test_skipped"]["outcome"], tests["test_skipped"]["message"]) == ("skipped", "skipped: not today")
    assert tests["test_torn"]["outcome"] == "error"
    assert not list(small.glob("*.part")) and "test_ungraded" not in tests


def test_the_table_ends_with_a_sum(ended):
    assert re.search(r"Q1\.7 +0\.5 of 2 +missing: test_blank, test_half\n", ended[0])
    assert re.search(r"\nsum +4\.5 of 15 *\n", ended[0])


@pytest.mark.slow
def test_two_processes_give_the_same_points(ended, small):
    """Run the suites with pytest-xdist as `make test` does; failures are reported in the same way."""
    result = run(small, "-n", "2", "--dist", "loadscope", "--points-json", "two.json", "--seed", "7")
    assert result.returncode == 1, result.stdout + result.stderr
    assert json.loads((small / "two.json").read_text()) == ended[1]
    table = re.compile(r"=+ points for .*?\nsum [^\n]*", re.DOTALL)
    assert table.search(result.stdout)[0] == table.search(ended[0])[0]


@pytest.fixture
def conftest(pytestconfig):
    """Return the module conftest.py of the repository."""
    return pytestconfig.pluginmanager.get_plugin(str(REPOSITORY / "conftest.py"))


def item(*args, **fields) -> Mock:
    """Return a mock pytest item with this marker."""
    test = Mock(nodeid="f.py::x")
    test.get_closest_marker.return_value = pytest.mark.question(*args, **fields).mark
    return test


@pytest.mark.parametrize("points", [math.nan, math.inf, -1, 0])
def test_points_that_are_no_points_are_refused(conftest, points):
    with pytest.raises(pytest.UsageError, match="f.py::x: question '1.7' with"):
        conftest.pytest_collection_modifyitems(None, [item("1.7", points=points)])
    with pytest.raises(pytest.UsageError, match="f.py::x: question 'part 1' with"):
        conftest.pytest_collection_modifyitems(None, [item("part 1", points=1)])


def test_an_unknown_question_is_refused(conftest):
    config = Mock(getoption={"--question": "3.9"}.get)
    tests = [item("1.7", points=1), item("3.2", points=1)]
    with pytest.raises(pytest.UsageError, match="3.9: no graded tests; there are tests for 1.7, 3.2"):
        conftest.pytest_collection_modifyitems(config, tests)
    assert [test.add_marker.call_args.args for test in tests] == [("part1",), ("part3",)]


@pytest.mark.parametrize("name", ["3.2", "Q3.2", "q3.2"])
def test_a_question_is_selected(conftest, name):
    config = Mock(getoption={"--question": name}.get)
    tests = [item("1.7", points=1), item("3.2", points=1), item("3.2", points=2)]
    first, *chosen = tests
    conftest.pytest_collection_modifyitems(config, tests)
    assert tests == chosen
    config.hook.pytest_deselected.assert_called_once_with(items=[first])


@pytest.mark.slow
def test_a_part_is_selected(small):
    chosen = run(small, "-m", "question and part1", "--collect-only", "-q").stdout
    assert "test_half" in chosen and "test_attention" not in chosen and "test_ungraded" not in chosen
