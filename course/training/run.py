"""A training run: its flags, its folder and its progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pytorch_lightning.loggers import TensorBoardLogger

from course.files import Held, HeldFolder
from course.stored_flags import defining_flags
from course.training.problems import Problem, Stopped, is_first_process, say


@dataclass
class Run:
    """A training run: its flags, its folder and its progress.

    `folder` is None for --fast_dev_run, which writes nothing. `history` has one dictionary per epoch.
    """

    args: object
    folder: Path | None
    history: list[dict] = field(default_factory=list)
    vectors: dict[str, list[float]] = field(default_factory=dict)  # of this epoch, e.g. the KL of each dimension
    seconds: float = 0.0  # training time, over all sessions
    best: dict = field(default_factory=dict)  # epoch and value of the monitored metric
    first_step: dict = field(default_factory=dict)  # the metrics of the first training step
    results: dict = field(default_factory=dict)  # the test metrics
    is_new: bool = True  # nothing has been written into the folder yet
    held: HeldFolder | None = None  # only in the first process

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def figure(self, name: str) -> Path:
        return self.folder / "figures" / name

    def load_best(self, model: torch.nn.Module) -> None:
        """Load the weights of best.ckpt into the model, if there is one.

        `trainer.test(ckpt_path="best")` would also restore the callbacks, and reset the history to that epoch.
        """
        if self.best:
            best = torch.load(self.checkpoint("best.ckpt"), map_location="cpu", weights_only=True)
            model.load_state_dict(best["state_dict"])

    def logger(self) -> TensorBoardLogger | bool:
        """A TensorBoard logger for the run's folder; only in the first process."""
        if not self.folder or not is_first_process():
            return False
        print(f"run folder: {self.folder}", flush=True)
        logs, program, version = self.folder.parent.parent, self.folder.parent.name, self.folder.name
        logger = RunLogger(logs, program, version, default_hp_metric=False)
        logger.log_hyperparams(defining_flags(self.args))
        return logger

    def describe_scores(self, test: float | None = None, digits: int = 4) -> str:
        """For figure titles: the best value of the monitored metric, and the test score, if known."""
        best = f": best validation {self.best['value']:.{digits}f} (epoch {self.best['epoch']})" if self.best else ""
        return best + ("" if test is None else f", test {test:.{digits}f}")

    def check_folder(self) -> None:
        """Call this before writing, which would otherwise recreate the folder.

        Raises:
            Problem: the folder no longer exists.
        """
        if self.held and not self.held.is_there():
            raise Problem(f"the run's folder {self.folder} was moved or deleted while it ran; start a new run")


class RunLogger(TensorBoardLogger):
    """Lightning's logger, without the tag `epoch` that Lightning adds to everything, and with descriptions of tags."""

    described: frozenset[str] = frozenset()

    def log_metrics(self, metrics, step=None):
        metrics = {tag: float(value) for tag, value in metrics.items() if tag != "epoch"}
        if new := [tag for tag in metrics if tag not in self.described]:
            from course.training import board  # imported here: not needed to start a run

            self.described |= set(new)
            for tag in new:
                board.add_described(self.experiment, self.name, tag, metrics.pop(tag), step)
        super().log_metrics(metrics, step)


@contextmanager
def open_run(args, model: torch.nn.Module) -> Iterator[Run]:
    """Create the run's folder, or use the folder being resumed, and lock it while the block runs.

    Args:
        model: compared with the checkpoint being resumed.

    Raises:
        Problem: the checkpoint does not fit the model, another process has the folder, or a disk fails.
    """
    run = _start(args, model)
    try:
        yield run
    except Stopped:
        if run.held and len(run.history) == args.epochs:
            say(f"the training is complete; to test it: --resume {run.folder}")
        raise
    except OSError as error:
        from course.training.explain import disk_problem

        raise disk_problem(error, run) from error
    finally:
        if run.held:
            run.held.release()
            _remove_if_empty(run.folder)


def _start(args, model: torch.nn.Module) -> Run:
    folder = None
    if args.checkpoint:
        from course.training.resuming import load_checkpoint, reopen  # imported here: most runs do not resume

        folder = load_checkpoint(args, model)
    if args.fast_dev_run or not is_first_process():
        return Run(args, folder)  # BestCheckpoint broadcasts the folder to other processes
    if folder is None:
        folder = new_folder(Path(args.log_dir) / args.program)
        return Run(args, folder, held=_hold(folder))
    held = _hold(folder, "--resume ")
    reopen(args, folder)
    return Run(args, folder, is_new=False, held=held)


def _hold(folder: Path, flag: str = "") -> HeldFolder:
    """Lock the folder for this process.

    Raises:
        Problem: another process has it.
    """
    try:
        held = HeldFolder(folder)
    except Held as error:
        raise Problem(
            f"--resume {folder}: the run is still in progress in {error}. Stop it, or wait until it ends; if"
            f" its machine is gone, delete {folder / '.lock'}",
            status=2,
        ) from error
    except OSError as error:
        raise Problem(f"{flag}{folder}: cannot be written: {error.strerror or error}", status=2) from error
    if not held.locked:
        say(f"{folder}: this file system has no locks: make sure that no two processes resume the run at the same time")
    return held


def new_folder(parent: Path) -> Path:
    """Create version_N with the smallest free number; runs that start simultaneously get different folders."""
    taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
    number = max(taken, default=-1) + 1
    while True:
        try:
            (parent / f"version_{number}").mkdir(parents=True)
            return parent / f"version_{number}"
        except FileExistsError:
            number += 1


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder if nothing but its lock was written, e.g. if the Trainer rejects the flags."""
    if folder.is_dir() and all(path.name in (".lock", ".lock.owner") for path in folder.iterdir()):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def summarize(run: Run, trainer, results: list[dict] | None = None) -> None:
    """Print the results of a completed run; write summary.json, the report, and TensorBoard's table of runs.

    Args:
        results: the return value of `trainer.test`. Without a test set, the best epoch's validation metrics are used.
    """
    if trainer.is_global_zero:
        from course.training import record  # imported here: not needed to start a run

        record.write(run, trainer, results)
