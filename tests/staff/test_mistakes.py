"""The graded tests against wrong solutions: each mistake, put into a copy of the parts, costs its question points."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mistakes_part1
import mistakes_part2
import pytest

from small_runs import PARTS, REPOSITORY


def caught(folder: Path, name: str, question: str, file: str, right: str, wrong: str) -> bool:
    """Whether the graded tests of the question fail for a copy of the parts that has the mistake in it."""
    for part in ("course", "tests", *PARTS.values()):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "staff"))
    shutil.copy(REPOSITORY / "setup.cfg", folder)
    source = (folder / file).read_text()
    assert source.count(right) == 1, f"{name}: {right!r} stands {source.count(right)} times in {file}"
    (folder / file).write_text(source.replace(right, wrong))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--question", question],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)},
    )
    assert done.returncode in (0, 1), f"{name}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("bank", [mistakes_part1.MISTAKES, mistakes_part2.MISTAKES], ids=["part 1", "part 2"])
def test_each_mistake_costs_points(tmp_path, bank):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(lambda name: caught(tmp_path / name, name, *bank[name]), bank))
    missed = [name for name, verdict in zip(bank, verdicts, strict=True) if not verdict]
    assert not missed, f"{len(missed)} of {len(bank)} wrong solutions lose no point: {missed}"
