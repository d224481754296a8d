"""Benchmark the grader's memory, and its speed against a fresh pytest for each submission and against the tests alone.

Half of the submissions are the solution; each of the others has a mistake from the banks. Two are graded at a time.
"""

import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

from bench.epochs import alone, seconds_of
from bench.record import Record, Row
from course.flags import REPOSITORY
from staff.release.suites import suites

PARTS = ("part1_vae", "part2_aae", "part3_gpt")
CLASS, FRESH, JOBS = 60, 6, 2
WARM = 5  # timed runs of the tests, in a process that has already run them once


def make_class(folder: Path, size: int) -> list[Path]:
    """Create `size` submissions; every other one has a mistake, drawn from the three banks in turn."""
    sys.path.insert(0, str(REPOSITORY / "staff" / "tests"))
    from mistakes import part1, part2, part3

    banks = [list(bank.MISTAKES.values()) for bank in (part1, part2, part3)]
    made = []
    for number in range(size):
        made.append(folder / f"student_{number:03d}")
        for part in PARTS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / part, made[-1] / part, ignore=ignored)
        if number % 2:
            _, file, old, new, *_ = banks[number % 3][number]
            path = made[-1] / file
            path.write_text(path.read_text().replace(old, new))
    return made


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def grade(folder: Path, out: Path) -> tuple[float, float]:
    """Run `python -m staff grade`; return the seconds, startup included, and the peak memory of all processes in GB."""
    command = [sys.executable, "-m", "staff", "grade", str(folder), "-o", str(out), "-j", str(JOBS)]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL)
    most = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, most))
    watcher.start()
    if process.wait():
        raise RuntimeError(f"the grader exited with status {process.returncode}")
    seconds = time.perf_counter() - began
    watcher.join()
    return seconds, most[0]


def _watch(process: subprocess.Popen, most: list[float]) -> None:
    while process.poll() is None:
        most[0] = max(most[0], sum(_memory(pid) for pid in _family(process.pid)) / 1e9)
        time.sleep(0.5)


def _family(pid: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        threads = [path.name for path in Path(f"/proc/{pid}/task").iterdir() if path.name != str(pid)]
        for thread in threads:
            children += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]


def _memory(pid: int) -> float:
    """Return the memory of a process in bytes; shared memory is divided among the processes that share it (PSS)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def fresh_pytest(submissions: list[Path], folder: Path) -> float:
    """Return the seconds needed to run a new pytest process for each submission, two at a time, without a sandbox.

    Raises:
        RuntimeError: pytest ran no tests; status 1 means that some failed, as they should for half of the submissions.
    """
    for submission in submissions:
        ignored = shutil.ignore_patterns("__pycache__")
        for part in ("tests", "course", "staff/oracles", "staff/hidden"):
            shutil.copytree(REPOSITORY / part, folder / submission.name / part, ignore=ignored)
        for file in ("conftest.py", "setup.cfg", "staff/__init__.py"):
            shutil.copy(REPOSITORY / file, folder / submission.name / file)
        for part in PARTS:
            shutil.copytree(submission / part, folder / submission.name / part)
    files = [path.relative_to(REPOSITORY).as_posix() for path in suites(REPOSITORY)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]

    def run(submission: Path) -> None:
        done = subprocess.run(command, cwd=folder / submission.name, env=environment(), capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"pytest exited with status {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")

    began = time.perf_counter()
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(run, submissions))
    return time.perf_counter() - began


def seconds_of_tests(files: list[Path], times: int) -> float:
    """Return the lower bound: the mean seconds of `times` runs of the tests on the solution, after a warm-up run.

    Raises:
        RuntimeError: a test fails.
    """
    import pytest
    import torch

    torch.set_num_threads(1)
    command = ["-q", "-p", "no:cacheprovider", *map(str, files)]

    def tests() -> None:
        with redirect_stdout(io.StringIO()) as said:
            if pytest.main(command):
                raise RuntimeError(f"the solution fails:\n{said.getvalue()[-2000:]}")

    return seconds_of(tests, times, torch.device("cpu"), warm_up=1) / times


def tests_alone(times: int) -> float:
    """Return the mean of `seconds_of_tests` for all graded tests, in as many parallel processes as the grader uses."""
    files = suites(REPOSITORY)
    with ThreadPoolExecutor(JOBS) as pool:
        return statistics.mean(pool.map(lambda _: alone(seconds_of_tests, files, times), range(JOBS)))


def speed(args, data: Path) -> Record:
    """Grade a class, then time a fresh pytest for a few of its submissions, and the tests alone."""
    size = args.batches or CLASS
    with tempfile.TemporaryDirectory() as folder:
        made = make_class(Path(folder, "class"), size)
        seconds, memory = grade(Path(folder, "class"), Path(folder, "grades"))
        few = made[: min(FRESH, size)]
        fresh = fresh_pytest(few, Path(folder, "fresh"))
    rate, fresh_rate = 60 * size / seconds, 60 * len(few) / fresh
    floor = 60 * JOBS / tests_alone(min(WARM, size))
    rows = [
        Row("submissions per minute, including startup and exports", round(rate, 1), "", 40, "at least"),
        Row(f"submissions per minute, with a fresh pytest for each ({len(few)}, no sandbox)", round(fresh_rate, 1)),
        Row("submissions per minute / the same with a fresh pytest", round(rate / fresh_rate, 1), "", 5, "at least"),
        Row("memory of the grader and all its processes", round(memory, 2), "GB", 2, "below"),
        Row("submissions per minute, with the tests alone in warm processes (no sandbox)", round(floor, 1)),
        Row("submissions per minute / the same with the tests alone", round(rate / floor, 2)),
        Row("the tests alone / a fresh pytest: the upper bound for any grader", round(floor / fresh_rate, 1)),
    ]
    return Record(f"a class of {size}, two at a time", rows)
