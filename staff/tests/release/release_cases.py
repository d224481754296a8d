"""Helpers that write the students' repository and run commands in it, for the tests of the release."""

import os
import subprocess
import sys
from pathlib import Path

from staff.release import build as release


def write_template(folder: Path, course: release.Course, filled: list[str] | None = None) -> None:
    for file, content in release.contents(course, "2026", filled or []).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def start(folder: Path, *words: str | Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=environment)
