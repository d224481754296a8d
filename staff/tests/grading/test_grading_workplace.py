"""Tests of temporary files: a run keeps them in one folder, and the next start deletes the folder of a killed run."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from class_cases import QuickJudge, parts, zipped

from small_runs import REPOSITORY

RUN = """
import os, sys, tempfile, time
from pathlib import Path
from staff.grading.workplace import workplace
with workplace() as folder:
    copy = Path(tempfile.mkdtemp(prefix="staged-"), *["deep"] * 40)
    copy.mkdir(parents=True)
    (copy / "utils.py").write_text("a submission")
    print(folder, flush=True)
    time.sleep(600)
"""


GRADE = """
import multiprocessing, sys, time
multiprocessing.set_start_method("forkserver")  # the default since Python 3.14
from class_cases import QuickJudge
from staff import __main__ as command_line
from staff.grading import judge

def wait(*_):
    print("judging", flush=True)
    time.sleep(600)

judge.Judge, QuickJudge.judge = QuickJudge, wait
command_line.main(["grade", "class", "-o", "grades"])
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def run(temporary):
    """Return a function: run() -> a process that has a temporary folder, and the folder's name."""
    processes = []

    def start() -> tuple[subprocess.Popen, str]:
        environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen([sys.executable, "-c", RUN], env=environment, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, process.stdout.readline().strip().rpartition("/")[2]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_next_start_removes_what_a_killed_run_left(tmp_path, temporary, run, grade, monkeypatch):
    dead, left = run()
    _, living = run()
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    assert {path.name for path in temporary.iterdir()} == {left, living}
    zipped(tmp_path / "class" / "ada.zip", parts())
    seen, judge = [], QuickJudge.judge

    def judging(self, root, *more):
        seen.append(
            (root.relative_to(temporary).parts[0], os.environ["TMPDIR"], {each.name for each in temporary.iterdir()})
        )
        return judge(self, root, *more)

    monkeypatch.setattr(QuickJudge, "judge", judging)
    assert grade("class") == 0
    ((place, variable, names),) = seen
    assert names == {place, living} and variable == str(temporary / place), "a run keeps all files in its folder"
    assert [path.name for path in temporary.iterdir()] == [living]
    assert (temporary / living).exists() and tempfile.gettempdir() == str(temporary)


def test_what_is_somebody_elses_stays(temporary, tmp_path, grade):
    (temporary / "grading-notes.txt").write_text("mine")
    (temporary / "grading-link").symlink_to(tmp_path)
    zipped(tmp_path / "class" / "ada.zip", parts())
    assert grade("class") == 0
    assert {path.name for path in temporary.iterdir()} == {"grading-notes.txt", "grading-link"}
    assert (tmp_path / "class" / "ada.zip").exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs /dev/shm")
def test_a_killed_grader_leaves_nothing_in_shared_memory(temporary, tmp_path):
    """The grader leaves neither its progress bar's semaphore nor anything else that only a live process removes."""
    zipped(tmp_path / "class" / "ada.zip", parts())
    path = f"{REPOSITORY}:{Path(__file__).parent}:{Path(__file__).parents[1]}"
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-c", GRADE], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )  # fmt: skip
    with process.stdout:
        assert process.stdout.readline() == "judging\n"
        maps = [line.split() for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    mapped = {int(words[4]) for words in maps if words[5:] and words[5].startswith("/dev/shm/")}
    assert {entry.inode() for entry in os.scandir("/dev/shm")} & mapped == set()
