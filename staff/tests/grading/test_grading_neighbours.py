"""Tests, with real processes, that submissions on one core do not cost each other points, even with many threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from grading_cases import points, solution

from small_runs import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform cannot pin processes to a core"),
]
THREADS = """

def _compute():
    x = torch.ones(200, 200)
    while True:
        x @ x


import threading

for _ in range(118):
    threading.Thread(target=_compute, daemon=True).start()
"""


def grade_on_one_core(folder: Path, *words: str) -> dict[str, dict]:
    """Run `python -m staff grade` on folder/class with a single core; return student -> result."""
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "staff", "grade", str(folder / "class"), "-o", str(folder / "grades"), *words]
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text()) for path in (folder / "grades" / "results").iterdir()}


@pytest.mark.usefixtures("level")
def test_many_at_a_time_on_one_core(tmp_path):
    """Each question of each submission gets its full CPU time, however long the other submissions keep it waiting."""
    for number in range(6):
        utils = solution(tmp_path / "class" / f"s{number}") / "part1_vae" / "utils.py"
        utils.write_text(f"{utils.read_text()}# {number}\n")
    found = grade_on_one_core(tmp_path, "-j", "6", "--seconds", "12")
    assert {student: points(result) for student, result in found.items()} == {f"s{number}": 24 for number in range(6)}


@pytest.mark.usefixtures("level")
def test_a_neighbour_with_many_threads(tmp_path):
    solution(tmp_path / "class" / "ada")
    busy = solution(tmp_path / "class" / "eve")
    for file in ("part1_vae/utils.py", "part3_gpt/gpt.py"):
        (busy / file).write_text((busy / file).read_text() + THREADS)
    found = grade_on_one_core(tmp_path, "-j", "2", "--seconds", "8")
    assert points(found["ada"]) == 24
    assert {test["outcome"] for test in found["ada"]["tests"]} == {"passed"}
    assert points(found["eve"]) < 24, "its threads use up its own time"
