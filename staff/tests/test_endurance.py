"""Tests of runs that are killed at arbitrary moments, and of runs that belong to one process."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from endurance_cases import ENVIRONMENT, wait_for
from resuming_cases import TIMES, assert_same_end, checkpoint, events
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from course.files import write_whole
from course.locks import Held, HeldFolder
from course.training import entry
from small_runs import PARTS, REPOSITORY, Program

KILLS = int(os.environ.get("KILLS", "2"))  # how many times a run of each part is killed


# --- runs that are killed --------------------------------------------------------------------------------------------

# Prints "ready" when everything is imported, then counts the changes to files in the log folder. The first argument is
# the number of the change before which the process is killed (0: never). At the end it prints the number of changes.
RUNNER = """
import os, signal, sys
from functools import partial
import pytorch_lightning as pl
from {part} import train

changes, until, logs = 0, int(sys.argv[1]), {logs!r}

def count(event, args):
    global changes
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if not writes and event not in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod"):
        return
    if isinstance(args[0], (str, bytes, os.PathLike)) and os.fsdecode(args[0]).startswith(logs):
        changes += 1
        if changes == until:
            os.kill(os.getpid(), signal.SIGKILL)

pl.Trainer = partial(pl.Trainer, log_every_n_steps=2)
sys.addaudithook(count)
print("ready", flush=True)
status = train.main(sys.argv[2:])
print("changes:", changes, flush=True)
os._exit(status)
"""


class Killed:
    """The program of a part, which is run for three epochs and killed at random moments."""

    def __init__(self, program: Program):
        self.program = program
        self.takes, self.changes = 0.0, 0  # duration in seconds and number of file changes in a whole run

    def start(self, logs: Path, *argv: str, change: int = 0) -> subprocess.Popen:
        script = RUNNER.format(part=PARTS[self.program.name], logs=str(logs))
        command = [sys.executable, "-c", script, str(change), *self.program.flags(logs), "--epochs", "3", *argv]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=REPOSITORY, text=True, env=ENVIRONMENT, **pipes)
        self.program.started.append(process)
        line = process.stdout.readline()
        assert line == "ready\n", line + process.stderr.read()
        return process

    def whole(self, logs: Path) -> Path:
        process = self.start(logs)
        began = time.monotonic()
        out, err = process.communicate()
        assert process.returncode == 0, err
        self.takes = time.monotonic() - began
        self.changes = int(re.search(r"changes: (\d+)", out)[1])
        return self.program.run(logs)

    def kill(self, logs: Path, rng: random.Random, *argv: str) -> bool:
        """Kill the program at a random moment or file change; return False if it finished earlier."""
        if rng.random() < 0.5:
            process = self.start(logs, *argv, change=rng.randint(1, self.changes))
        else:
            process = self.start(logs, *argv)
            try:
                process.wait(timeout=rng.uniform(0, self.takes))
            except subprocess.TimeoutExpired:
                process.kill()
        _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), err
        return process.returncode != 0

    def end(self, logs: Path, *argv: str) -> None:
        process = self.start(logs, *argv)
        _, err = process.communicate()
        assert process.returncode == 0 and "Traceback" not in err, err


def how_to_go_on(logs: Path) -> list[str]:
    """Return the flags to resume the run, or none if the program was killed before its first checkpoint."""
    runs = sorted(logs.glob("*/version_*"))
    if not runs or not (runs[-1] / "checkpoints" / "last.ckpt").exists():
        return []
    return ["--resume", str(runs[-1])]


def event_values(run: Path) -> list[bytes]:
    """Return everything that TensorBoard reads, in order: scalars, pictures, texts, histograms, layout and flags."""
    found = []
    for path in sorted(run.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag.startswith("_hparams_/"):  # the order of the flags varies
                    value.metadata.plugin_data.content = bytes(sorted(value.metadata.plugin_data.content))
                if value.metadata.plugin_data.plugin_name == "scalars":
                    value.ClearField("metadata")  # the description is written again after each start
                if value.tag not in TIMES:
                    found.append(str(event.step).encode() + b" " + value.SerializeToString())
    return found


def files(run: Path) -> set[str]:
    paths = [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]
    return {path for path in paths if not path.startswith("events.out")}


@pytest.mark.slow
def test_killed_at_random_moments(program, tmp_path):
    """A killed run is resumed; in half the cases, it may be killed again."""
    rng = random.Random(program.name)
    killed = Killed(program)
    whole = killed.whole(tmp_path / "whole")
    kills, number = 0, 0
    while kills < KILLS:
        logs = tmp_path / f"killed_{number}"
        number += 1
        done = False
        while not done and kills < KILLS:
            done = not killed.kill(logs, rng, *how_to_go_on(logs))
            kills += not done
            if rng.random() < 0.5:
                break
        if not done:
            killed.end(logs, *how_to_go_on(logs))
        run = sorted(logs.glob("*/version_*"))[-1]
        assert_same_end(whole, run)
        assert event_values(run) == event_values(whole)
        assert files(run) == files(whole), "something was left behind"
        shutil.rmtree(logs)


def test_a_run_without_a_checkpoint_cannot_be_resumed(vae, tmp_path, capsys):
    run = tmp_path / "logs" / "vae" / "version_0"
    run.mkdir(parents=True)
    for value in (str(run), "last"):
        with pytest.raises(SystemExit) as caught:
            vae("--resume", value)
        assert caught.value.code == 2
        message = capsys.readouterr().err
        assert f"--resume {value}: " in message and "first" in message and str(run.parent) in message


# --- one process per run ---------------------------------------------------------------------------------------------

HOLD = "import sys; from course.locks import HeldFolder as H; held = H(sys.argv[1]); print('held', flush=True); input()"


def test_a_folder_is_held_until_the_process_ends(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes)
    try:
        assert process.stdout.readline() == "held\n"
        for _ in range(2):  # a refused attempt does not change the owner
            with pytest.raises(Held, match=f"process {process.pid} on "):
                HeldFolder(tmp_path)
    finally:
        process.kill()
        process.communicate()
    held = HeldFolder(tmp_path)
    assert held.locked and (tmp_path / ".lock.owner").read_text().startswith(f"process {os.getpid()} on ")


def test_a_folder_is_not_held_by_who_was_started(tmp_path):
    """The workers that load data do not hold the folder; they may outlive the run by a few seconds."""
    (read, write), (started, starting) = os.pipe(), os.pipe()
    owner = os.fork()
    if owner == 0:
        held = HeldFolder(tmp_path)
        if os.fork() == 0:
            os.close(write)
            os.write(starting, b"x")
            os.read(read, 1)  # blocks until the test ends
        os._exit(0 if held.locked else 1)
    os.close(read)
    try:
        assert os.waitpid(owner, 0)[1] == 0
        os.read(started, 1)  # the new process has released its copy of the lock
        HeldFolder(tmp_path)
    finally:
        os.close(write)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, number):
    """Some clusters have such file systems: a run may use its folder, but `locked` is False."""
    folder = tmp_path / "run"
    folder.mkdir()
    with mock.patch("fcntl.flock", side_effect=OSError(number, os.strerror(number))):
        held, again = HeldFolder(folder), HeldFolder(folder)
    assert not held.locked and not again.locked and held.is_there()
    held.release()
    folder.rename(tmp_path / "moved")
    assert not held.is_there()


def test_a_folder_that_was_replaced_is_another_one(tmp_path):
    held = HeldFolder(tmp_path / ".")
    assert held.is_there()
    other = write_whole(tmp_path / "other", b"")
    os.replace(other, tmp_path / ".lock")
    assert not held.is_there()
    (tmp_path / ".lock").unlink()
    assert not held.is_there()


@pytest.mark.slow
def test_two_runs_that_start_at_once(vae, tmp_path):
    both = [vae.start("--epochs", "1") for _ in range(2)]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err
    runs = sorted((tmp_path / "logs" / "vae").iterdir())
    assert [run.name for run in runs] == ["version_0", "version_1"]
    assert_same_end(*runs)
    assert event_values(runs[0]) == event_values(runs[1])


@pytest.mark.slow
def test_a_run_that_is_going_on_is_not_resumed(vae, capsys):
    first = vae.start("--epochs", "1000")
    wait_for(first, "epoch 2/")  # epoch 1 has its checkpoint
    run = vae.run()

    def assert_refused(by: subprocess.Popen) -> None:
        before = set(run.iterdir())
        for value in (str(run), "last"):
            assert vae("--resume", value) == 2
            message = capsys.readouterr().err
            assert f"--resume {run}: the run is still in progress in process {by.pid} on " in message
            assert "Traceback" not in message
        assert set(run.iterdir()) == before and by.poll() is None

    assert_refused(first)
    first.kill()
    first.communicate()
    second = vae.start("--resume", "last")
    wait_for(second, "epoch")
    assert_refused(second)
    second.send_signal(signal.SIGTERM)
    second.communicate()
    epochs = checkpoint(run)["run"]["epochs_done"]
    assert vae("--resume", "last", "--epochs", str(epochs + 1)) == 0
    assert [step for step, _ in events(run)["train/bpd"]] == [6 * epoch - 1 for epoch in range(1, epochs + 2)]


@pytest.mark.usefixtures("without_pictures")
def test_a_run_that_went_on_meanwhile(vae, capsys):
    """Another process continued the run after its checkpoint was read and before the lock was taken."""
    vae.finished(1)
    args = vae.train.parse_args([*vae.flags(), "--resume", "last", "--epochs", "3"])
    assert vae("--resume", "last", "--epochs", "2") == 0
    before = event_values(vae.run())
    assert entry.main(vae.train.train, args) == 2
    assert "has continued in the meantime" in capsys.readouterr().err
    assert event_values(vae.run()) == before
