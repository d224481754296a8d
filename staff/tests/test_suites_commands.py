"""Tests of the graded suites on the command line: invalid values for conftest.py's flags, and other test runners."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from small_runs import REPOSITORY

SUITE = """
import pytest
import judge

@pytest.mark.question("1.7", points=2)
def test_sum(pytestconfig):
    if "gone" in (breaks := pytestconfig.getoption("--points-json") or ""):
        import pathlib
        pathlib.Path(breaks).parent.rmdir()
"""


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def suite(tmp_path) -> Path:
    """Return a folder with one suite and the real conftest.py, judge.py and settings."""
    folder = tmp_path / "practical"
    shutil.copytree(REPOSITORY / "course", folder / "course", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "conftest.py", "tests/judge.py", "tests/answers.py", "tests/messages.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((REPOSITORY / name).read_text())
    (folder / "tests" / "test_part1_small.py").write_text(SUITE)
    return folder


def test_a_points_file_in_a_folder_that_is_missing_is_refused_before_the_tests(suite):
    ended = run(suite, "-m", "pytest", "tests", "--points-json", "nowhere/points.json")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert ended.stderr.strip() == "ERROR: --points-json nowhere/points.json: there is no folder nowhere; create it"


def test_the_table_is_printed_where_the_points_cannot_be_written(suite):
    (suite / "gone").mkdir()
    ended = run(suite, "-m", "pytest", "tests", "--points-json", "gone/points.json")
    assert "sum        2 of 2" in ended.stdout and "Traceback" not in ended.stdout + ended.stderr
    assert "--points-json gone/points.json: cannot be written: No such file" in ended.stdout
    assert ended.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


@pytest.mark.parametrize("words", ["tests/test_part1_small.py", "-m unittest", "-m unittest discover -s tests"])
def test_other_runners_say_what_to_run(suite, words):
    ended = run(suite, *words.split())
    assert ended.returncode == 1 and "python -m pytest" in ended.stderr and "OK" not in ended.stderr


@pytest.mark.parametrize(
    "flag, environment",
    [("-O", {}), ("-OO", {}), ("-B", {"PYTHONOPTIMIZE": "1"}), ("-B", {"PYTHONOPTIMIZE": "2"})],
)
def test_python_without_asserts_is_refused(suite, flag, environment):
    (suite / "tests" / "test_part1_small.py").write_text(SUITE + "    assert 1 == 2\n")
    ended = run(suite, flag, "-m", "pytest", "tests", **environment)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR and "passed" not in ended.stdout
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("ERROR: Python is running without asserts") and "PYTHONOPTIMIZE" in line and "-O" in line


HANGS = "import time\nimport torch  # which takes seconds\n\ndef test_hangs():\n    time.sleep(600)\n"
CRASHES = "import os\n\ndef test_crashes():\n    os._exit(3)\n\ndef test_after():\n    pass\n"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["-n", "1", "--max-worker-restart", "0"]])
def test_a_test_that_hangs_ends_the_run(suite, flags):
    """Without the timeout, both commands would wait until the test ends."""
    (suite / "tests" / "test_part1_small.py").write_text(HANGS)
    start = time.monotonic()
    ended = run(suite, "-m", "pytest", "tests", "-o", "faulthandler_timeout=10", *flags)
    assert ended.returncode != 0 and time.monotonic() - start < 300
    assert "test_hangs" in ended.stderr


@pytest.mark.slow
def test_a_worker_that_crashes_ends_the_run(suite):
    make = (REPOSITORY / "Makefile").read_text()
    flags = re.search(r"^PYTEST_FLAGS := (.*)$", make, re.MULTILINE)[1].split()
    (suite / "tests" / "test_part1_small.py").write_text(CRASHES)
    ended = run(suite, "-m", "pytest", "tests", *flags)
    assert ended.returncode != 0 and "crashed" in ended.stdout and "test_crashes" in ended.stdout
