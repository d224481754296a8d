"""`startup`: measure how long a user waits for `--help`, for the first test of a file, and for all fast tests."""

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from bench.epochs import take_turns, value_table
from bench.grading import PARTS, environment
from bench.record import Record, Row
from course.flags import REPOSITORY
from staff.release.suites import suites

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
ALL = [*PYTEST, "-q", "-n", "2", "--dist", "loadscope", "--max-worker-restart", "0"]  # as in `make test`
DONE = re.compile(rb" (PASSED|FAILED|ERROR|SKIPPED)\b")  # how -v reports the outcome of a test
IMPORTS = {  # imports that every training script needs
    "import torch": "import torch",
    "import torch, torchvision, pytorch_lightning": "import torch, torchvision, pytorch_lightning",
}
FAST = "all fast tests in two processes, as timed by pytest"
NOTES = """The time of a test file is measured from the start of pytest to the end of the first test, including imports.
`make test` also runs ruff and checks that everything is installed and that MNIST has been downloaded."""
TO_END = 60  # seconds that pytest may take to stop after an interrupt


def seconds_of(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def seconds_to_the_first_test(file: str) -> float:
    """Return the seconds from starting pytest on a file to the end of its first test.

    Raises:
        RuntimeError: the file has no test, or its first test does not pass.
    """
    began, seen = time.perf_counter(), b""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*PYTEST, "-v", file], cwd=REPOSITORY, env=environment(), **pipes) as process:
        while not DONE.search(seen) and (piece := os.read(process.stdout.fileno(), 4096)):
            seen += piece
        seconds = time.perf_counter() - began
        process.send_signal(signal.SIGINT)  # so that pytest deletes its temporary files
        try:
            process.communicate(timeout=TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
    if not (done := DONE.search(seen)) or done[1] != b"PASSED":
        raise RuntimeError(f"{file}: the first test did not pass:\n{seen.decode(errors='replace')}")
    return seconds


def seconds_of_all() -> float:
    """Return the seconds that pytest reports for collecting and running all fast tests.

    Raises:
        RuntimeError: a test fails.
    """
    done = subprocess.run(ALL, cwd=REPOSITORY, env=environment(), capture_output=True, text=True)
    took = re.search(r"passed.* in ([\d.]+)s", done.stdout)
    if done.returncode or not took:
        raise RuntimeError(f"a test fails:\n{done.stdout[-2000:]}")
    return float(took[1])


def files_with_fast_tests() -> list[str]:
    listed = subprocess.run([*PYTEST, "-q", "--collect-only", "staff/tests"], cwd=REPOSITORY, env=environment(),
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    return sorted({line.split("::")[0] for line in listed.splitlines() if "::" in line})


def startup(args, data: Path) -> Record:
    graded = [path.relative_to(REPOSITORY).as_posix() for path in suites(REPOSITORY)]
    staffs = files_with_fast_tests()[: args.batches]
    helps = {f"{part}/train.py --help": [sys.executable, f"{part}/train.py", "--help"] for part in PARTS}
    ways = {name: partial(seconds_of, command) for name, command in helps.items()}
    ways |= {name: partial(seconds_of, [sys.executable, "-c", line]) for name, line in IMPORTS.items()}
    ways |= {file: partial(seconds_to_the_first_test, file) for file in [*graded, *staffs]}
    if not args.batches:
        ways[FAST] = seconds_of_all
    values = take_turns("start-up", ways, args.rounds)
    seconds = {name: round(statistics.median(of_rounds), 2) for name, of_rounds in values.items()}
    slowest = max(staffs, key=seconds.get)
    rows = [Row(name, seconds[name], "s", 1.5, "below") for name in helps]
    rows += [Row(f"{file}: the first test", seconds[file], "s", 5, "below") for file in graded]
    rows += [Row(f"{slowest}, the slowest staff test file: the first test", seconds[slowest], "s", 5, "below")]
    rows += [Row(name, seconds[name], "s") for name in IMPORTS]
    if not args.batches:
        rows += [Row(FAST, seconds[FAST], "s", 60, "below")]
    return Record("start-up", rows, [value_table("start-up", "seconds", values, digits=2)], NOTES)
