"""A training run: its flags, its folder and its progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pytorch_lightning.loggers import Logger

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
    seconds: float = 0.0  # training time, including that before each resumption
    best: dict = field(default_factory=dict)  # epoch and value of the monitored metric
    first_step: dict = field(default_factory=dict)  # the metrics of the first training step
    results: dict = field(default_factory=dict)  # the test metrics
    is_new: bool = True  # nothing has been written into the folder yet
    held: object = None  # a course.locks.HeldFolder; only in the first process

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def figure(self, name: str) -> Path:
        return self.folder / "figures" / name

    def load_best(self, model: torch.nn.Module) -> None:
        """Load the weights from best.ckpt into the model, if this file exists.

        `trainer.test(ckpt_path="best")` would also restore the callbacks, and reset the history to that epoch.
        """
        if self.best:
            best = torch.load(self.checkpoint("best.ckpt"), map_location="cpu", weights_only=True)
            model.load_state_dict(best["state_dict"])

    def logger(self) -> Logger | bool:
        """Create a TensorBoard logger for the run's folder; return False in other processes or without a folder."""
        if not self.folder or not is_first_process():
            return False
        from course.training.board import RunLogger  # imported here: --fast_dev_run does not need TensorBoard

        print(f"run folder: {self.folder}", flush=True)
        logs, program, version = self.folder.parent.parent, self.folder.parent.name, self.folder.name
        logger = RunLogger(logs, program, version, default_hp_metric=False)
        logger.log_hyperparams(defining_flags(self.args))
        return logger

    def describe_scores(self, test: float | None = None, digits: int = 4) -> str:
        """Format the best value of the monitored metric and the test score, if known, for figure titles."""
        best = f": best validation {self.best['value']:.{digits}f} (epoch {self.best['epoch']})" if self.best else ""
        return best + ("" if test is None else f", test {test:.{digits}f}")

    def check_folder(self) -> None:
        """Check that the folder still exists; call this before writing, which would recreate the folder.

        Raises:
            Problem: the folder no longer exists.
        """
        if self.held and not self.held.is_there():
            raise Problem(f"the run's folder {self.folder} was moved or deleted during the run; start a new run")


@contextmanager
def open_run(args, model: torch.nn.Module) -> Iterator[Run]:
    """Create the run's folder, or use the folder being resumed, and lock it while the block runs.

    Args:
        model: compared with the checkpoint being resumed.

    Raises:
        Problem: the checkpoint does not match the model, another process holds the folder, or a disk error occurs.
    """
    from course.training.folders import remove_if_empty, start  # imported here, as it imports this module

    run = start(args, model)
    try:
        yield run
    except Stopped:
        if run.held and len(run.history) == args.epochs:
            say(f"the training is complete; to test the model: --resume {run.folder}")
        raise
    except OSError as error:
        from course.training.explain import disk_problem

        raise disk_problem(error, run) from error
    finally:
        if run.held:
            run.held.release()
            remove_if_empty(run.folder)


def summarize(run: Run, trainer, results: list[dict] | None = None) -> None:
    """Print the results of a completed run; write summary.json, the report, and TensorBoard's table of runs.

    Args:
        results: the return value of `trainer.test`; None: use the validation metrics of the best epoch.
    """
    if trainer.is_global_zero:
        from course.training import record  # imported here: not needed to start a run

        record.write(run, trainer, results)
