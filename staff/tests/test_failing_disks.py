"""Tests of disks that fail while a run writes to them."""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from endurance_cases import ENVIRONMENT, wait_for
from resuming_cases import checkpoint, events

from course.training import checkpoints, folders
from small_runs import PARTS, REPOSITORY, Program

# --- failing disks ---------------------------------------------------------------------------------------------------


class Disk:
    """A small disk, mounted only for processes started with `start`; this process reaches it at `outside`."""

    def __init__(self, place: Path, size: str):
        place.mkdir()
        script = f'mount -t tmpfs -o size={size} tmpfs "$0" && echo mounted && exec sleep 1000'
        command = ["unshare", "-rm", "sh", "-c", script, str(place)]
        self.keeper = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.is_mounted = self.keeper.stdout.readline() == "mounted\n"
        self.place, self.outside = place, Path(f"/proc/{self.keeper.pid}/root{place}")
        self.inside = ["nsenter", "-t", str(self.keeper.pid), "-U", "-m", "--preserve-credentials"]

    def start(self, program: Program, *argv: str) -> subprocess.Popen:
        script = str(REPOSITORY / PARTS[program.name] / "train.py")
        command = [*self.inside, sys.executable, script, *program.flags(self.place / "logs"), *argv]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=REPOSITORY, text=True, env=ENVIRONMENT, **pipes)
        program.started.append(process)
        return process

    def fill(self, left: int) -> None:
        """Fill the disk until only `left` bytes are free."""
        state = os.statvfs(self.outside)
        with open(self.outside / "ballast", "wb") as file:
            file.write(bytes(max(0, state.f_bavail * state.f_frsize - left)))

    def make_read_only(self) -> None:
        """Make the disk read-only for all files that are opened after this call."""
        # remounting fails while a file is being written, so it is tried several times
        again = 'for try in $(seq 100); do mount -o remount,ro,bind "$0" && exit 0; sleep 0.05; done; exit 1'
        script = f'mount --bind "$0" "$0" && {again}'
        subprocess.run([*self.inside, "sh", "-c", script, str(self.place)], check=True)

    def end(self) -> None:
        self.keeper.kill()
        self.keeper.communicate()


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("needs unshare and nsenter to mount a disk")
    disk = Disk(tmp_path / "disk", "6m")
    try:
        if not disk.is_mounted:
            pytest.skip(f"this machine does not allow mounting: {disk.keeper.stderr.read().strip()}")
        yield disk
    finally:
        disk.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "flags", "hits"),
    [
        (0, [], ""),  # hits the event file, whose name TensorBoard does not report
        (32_000, [], "checkpoints/"),
        (12_000, ["--sample_every", "1"], "figures/"),
    ],
)
def test_a_disk_that_gets_full(vae, disk, left, flags, hits):
    process = disk.start(vae, "--epochs", "1000", *flags)
    wait_for(process, "epoch 2/")
    run = disk.outside / "logs" / "vae" / "version_0"
    while checkpoint(run)["run"]["epochs_done"] < 2:
        time.sleep(0.01)
    disk.fill(left)
    _, message = process.communicate()
    assert process.returncode == 1 and "Traceback" not in message, message
    shown = disk.place / "logs" / "vae" / "version_0"
    assert "No space left on device" in message and f"--resume {shown}" in message
    assert f"error: {shown / hits}" in message
    assert f"The last good checkpoint is {shown / 'checkpoints' / 'last.ckpt'}" in message
    epochs = checkpoint(run)["run"]["epochs_done"]
    assert epochs >= 2 and not list(run.rglob("*.part"))
    (disk.outside / "ballast").unlink()
    process = disk.start(vae, "--resume", "last", "--epochs", str(epochs + 1))
    _, message = process.communicate()
    assert process.returncode == 0, message
    assert [step for step, _ in events(run)["train/bpd"]] == [6 * epoch - 1 for epoch in range(1, epochs + 2)]


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(vae, disk, tmp_path):
    process = disk.start(vae, "--epochs", "1000")
    wait_for(process, "epoch 2/")
    disk.make_read_only()
    _, message = process.communicate()
    shown = disk.place / "logs" / "vae" / "version_0"
    assert process.returncode == 1 and "Traceback" not in message, message
    assert "Read-only file system" in message and f"error: {shown}" in message
    assert torch.load(disk.outside / shown.relative_to(disk.place) / "checkpoints" / "last.ckpt", weights_only=True)
    process = disk.start(vae, "--resume", str(shown), "--log_dir", str(tmp_path / "elsewhere"))
    _, message = process.communicate()
    assert process.returncode == 2 and "Traceback" not in message, message
    assert f"--resume {shown}: cannot be written: Read-only file system" in message


@pytest.mark.slow
def test_a_folder_that_is_deleted(program):
    process = program.start("--epochs", "1000")
    wait_for(process, "epoch 1/")
    run = program.run()
    while run.exists():  # rm fails if the program writes a file in the meantime
        subprocess.run(["rm", "-rf", str(run)], stderr=subprocess.DEVNULL)
    _, message = process.communicate()
    assert process.returncode == 1 and "Traceback" not in message, message
    assert f"the run's folder {run} was moved or deleted during the run" in message
    assert not run.exists(), "the folder was created again"


def test_a_folder_that_disappears_while_it_is_listed(tmp_path, monkeypatch):
    """The error must not replace the message that the folder was deleted."""
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    folders.remove_if_empty(tmp_path / "version_0")


def test_a_checkpoint_that_cannot_be_written_leaves_no_view_of_its_buffer(tmp_path, monkeypatch):
    """A reference cycle may keep the traceback alive; a BytesIO with an open view then crashes Python 3.12.1."""
    buffers = []

    class Buffer(io.BytesIO):
        def __init__(self):
            super().__init__()
            buffers.append(self)

    monkeypatch.setattr(checkpoints, "io", SimpleNamespace(BytesIO=Buffer))
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(OSError) as caught:  # `caught` keeps the traceback and its frames alive
        checkpoints.WholeCheckpoints().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert caught.value.filename == str(tmp_path / "last.ckpt")
    buffers[0].close()  # raises BufferError if a view is still open
