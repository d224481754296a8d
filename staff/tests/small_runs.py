"""Training programs as the tests run them: for a few seconds, on real data, with a small network and few batches."""

import fcntl
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from unittest import mock

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = {"vae": "part1_vae", "aae": "part2_aae", "gpt": "part3_gpt"}
SMALL = ["--batch_size", "16", "--limit_batches", "6", "--accelerator", "cpu", "--no-progress_bar"]
SMALL_CNN = ["--num_filters", "2", "--z_dim", "2"]
SMALL_GPT = ["--n_layer", "2", "--n_head", "2", "--n_embd", "16", "--block_size", "16", "--generate_every_n_steps", "4"]
SMALL_NETWORK = {"vae": SMALL_CNN, "aae": SMALL_CNN, "gpt": SMALL_GPT}


@contextmanager
def mnist_once():
    """Check and read the images only once for all runs in this process; no run modifies them."""
    from course import data, datasets  # imported late, since tests that train nothing should not wait for it

    split, is_whole = _remember(data._split), _remember(datasets.is_whole)

    def known(path: Path, md5: str) -> bool:
        """Return whether the file is complete; check again only if the file has changed."""
        try:
            about = path.stat()
        except OSError:
            return False
        return is_whole(Version(path, about.st_ino, about.st_size, about.st_mtime_ns), md5)

    with mock.patch.object(data, "_split", split), mock.patch.object(datasets, "is_whole", known):
        yield


_remember = cache(cache)  # returns the same cached version for the same function


class Version(NamedTuple):
    """A version of a file, identified by inode, size and modification time; it can be read like a path."""

    path: Path
    inode: int
    size: int
    changed: int

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()


class Program:
    """The training program of one part, to be called in this process or started as a user would start it.

    Args:
        name: "vae", "aae" or "gpt", like the name of the folder for its runs.
        data: the data folder.
        log_dir: the default folder for runs.
    """

    pictures = True  # whether runs in this process draw pictures; see `without_pictures`

    def __init__(self, name: str, data: Path, log_dir: Path):
        self.name, self.data, self.log_dir = name, data, log_dir
        self.started: list[subprocess.Popen] = []

    @property
    def train(self) -> ModuleType:
        return importlib.import_module(f"{PARTS[self.name]}.train")

    def flags(self, log_dir: Path | None = None) -> list[str]:
        places = ["--data_dir", str(self.data), "--log_dir", str(log_dir or self.log_dir)]
        return [*SMALL, *SMALL_NETWORK[self.name], *places]

    def run(self, log_dir: Path | None = None) -> Path:
        """Return the folder of the first run."""
        return (log_dir or self.log_dir) / self.name / "version_0"

    def __call__(self, *argv: str, log_dir: Path | None = None) -> int:
        """Run the program in this process; return the exit status."""
        handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            with mnist_once(), nullcontext() if self.pictures else no_pictures():
                return self.train.main([*self.flags(log_dir), *argv])
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def finished(self, epochs: int = 3) -> Path:
        """Return the folder of a finished run, copied from one that is trained once for all tests.

        Args:
            epochs: 3, with `--sample_every 2` and the printed output in printed.txt; or fewer, without pictures.
        """
        return shutil.copytree(_trained(self.name, self.data if self.name != "gpt" else None, epochs), self.run())

    def start(self, *argv: str, log_dir: Path | None = None, cwd: Path = REPOSITORY) -> subprocess.Popen:
        """Start the program in a separate process, with text pipes."""
        command = [sys.executable, REPOSITORY / PARTS[self.name] / "train.py", *self.flags(log_dir), *argv]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.started.append(subprocess.Popen(command, cwd=cwd, text=True, env=environment, **pipes))
        return self.started[-1]

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


@contextmanager
def no_pictures():
    """Make runs draw no pictures, write no report and generate only short texts."""

    def save_curves(curves, path, *_, **__):
        path.parent.mkdir(exist_ok=True)

    def cut(self, lit, prompt, *_, **__):
        return prompt

    from course import figures
    from course.training import pictures, record

    gpt = importlib.import_module("part3_gpt.train")
    with (
        mock.patch.object(pictures.Pictures, "_draw", lambda self, trainer, model, epoch: None),
        mock.patch.object(record, "write_report", lambda run: None),
        mock.patch.object(figures, "save_curves", save_curves),
        mock.patch.object(gpt.Figures, "sample", cut),
    ):
        yield


def with_callback(callback):
    """Return a replacement for `pytorch_lightning.Trainer` that adds one callback."""
    from pytorch_lightning.trainer.trainer import Trainer

    return lambda **flags: Trainer(**{**flags, "callbacks": [*flags["callbacks"], callback]})


TEMPORARY = tempfile.TemporaryDirectory(prefix="runs-")
RUNS = Path(TEMPORARY.name)  # with pytest-xdist, all processes share a folder, see conftest.py


@cache
def _trained(name: str, data: Path | None, epochs: int) -> Path:
    """Return the folder of a run that several tests read or continue; the first test that needs it trains it."""
    program = Program(name, data or RUNS / "data", RUNS / f"{epochs}-epochs")
    program.pictures = epochs == 3
    printed_there = program.run() / "printed.txt"
    import pytorch_lightning as pl
    from pytorch_lightning.trainer.trainer import Trainer

    usual = mock.patch.object(pl, "Trainer", Trainer)  # even if the test that needs the run has replaced it
    with open(RUNS / f"{name}-{epochs}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed_there.exists():
            shutil.rmtree(program.run(), ignore_errors=True)  # left by an attempt that did not finish
            with usual, redirect_stdout(io.StringIO()) as printed:
                assert program("--epochs", str(epochs), *["--sample_every", "2"] * program.pictures) == 0
            printed_there.write_text(printed.getvalue())
    return program.run()


def make_run(folder: Path, program: str, flags: dict, history: list[dict], figures: dict[str, int], **more) -> Path:
    """Write a run's folder as `course.training` does, but without training; return the folder.

    Args:
        history: the metrics of each epoch; the epoch number is added.
        figures: name of a PNG file -> its grey value, 0..255.
        more: further entries for summary.json.
    """
    rows = [{"epoch": epoch, **row} for epoch, row in enumerate(history, start=1)]
    summary = {"program": program, "flags": flags, "history": rows, "training_seconds": 60.0, **more}
    (folder / "figures").mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    for name, grey in figures.items():
        Image.new("L", (8, 8), grey).save(folder / "figures" / name)
    return folder
