"""Tests that pytest uses the checkout in which it runs, even if another one is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from release_cases import write_template

from small_runs import REPOSITORY


@pytest.mark.parametrize(
    "folder, words",
    [
        (".", ["--question", "1.9"]),
        pytest.param("tests", ["--question", "1.9"], marks=pytest.mark.slow),
        pytest.param("part2_aae", ["../tests/test_part1_manifold.py"], marks=pytest.mark.slow),
        pytest.param("/", ["{checkout}/tests/test_part1_manifold.py"], marks=pytest.mark.slow),
    ],
)
def test_pytest_tests_the_checkout_that_it_is_run_in(tmp_path, course, folder, words):
    """The checkout is the template, where Q1.9 is not filled in; the solution comes first on Python's path."""
    checkout, script = tmp_path / "template", tmp_path / "bin" / "run_pytest"
    write_template(checkout, course)
    script.parent.mkdir()
    script.write_text("import pytest\nraise SystemExit(pytest.main())\n")  # like the script in .venv/bin
    words = [word.format(checkout=checkout) for word in words]
    ended = subprocess.run(
        [sys.executable, script, "-p", "no:cacheprovider", *words],
        cwd=Path(checkout, folder),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "Q1.9 is not filled in yet" in ended.stdout and "2 failed" in ended.stdout
    assert "warning" not in (ended.stdout + ended.stderr).lower()
