"""One run: its flags, its folder and what it has done so far."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from course.files import HeldFolder
from course.training.problems import Problem


@dataclass
class Run:
    """One run: its flags, its folder and what it has done so far.

    `folder` is None for --fast_dev_run, which writes nothing. `history` has one dictionary an epoch.
    """

    args: object
    folder: Path | None
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0  # of training, from all its pieces
    best: dict = field(default_factory=dict)  # epoch and value of the monitored metric
    first_step: dict = field(default_factory=dict)  # the metrics of the first training step
    results: dict = field(default_factory=dict)  # the test metrics
    is_new: bool = True  # nothing has been written into the folder yet
    held: HeldFolder | None = None  # in the first process

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def figure(self, name: str) -> Path:
        return self.folder / "figures" / name

    def describe_last_checkpoint(self) -> str:
        """A sentence about the last checkpoint."""
        if self.folder and self.checkpoint("last.ckpt").exists():
            return f"The last good checkpoint is {self.checkpoint('last.ckpt')}."
        return "There is no checkpoint yet."

    def check_folder(self) -> None:
        """Called before something is written, which would make the folder anew.

        Raises:
            Problem: the folder is no longer there.
        """
        if self.held and not self.held.is_there():
            raise Problem(f"the run's folder {self.folder} was moved or deleted while it ran; start a new run")

    @contextmanager
    def explain_disk_errors(self) -> Iterator[None]:
        """Turn a failing disk into a `Problem` that names the file or the folder."""
        try:
            yield
        except OSError as error:
            self.check_folder()
            where = os.fsdecode(error.filename) if error.filename else self.folder or "a file"
            then = f"continue with --resume {self.folder}" if self.folder else "start again"
            reason = f"{where}: could not be written or read: {error.strerror or error}"
            raise Problem(f"{reason}. {self.describe_last_checkpoint()} Fix this, then {then}.") from error
