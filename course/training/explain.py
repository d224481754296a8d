"""Turn errors in a training run into messages; imported only if there is an error."""

import os
import re

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from course import blanks
from course.datasets import DataError
from course.training.problems import Problem


def explain(error: Exception) -> Problem | None:
    """Return the message and the exit status for the user, or None for a bug, which needs its traceback."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, DataError):
        return Problem(str(error), error.status)
    if isinstance(error, MisconfigurationException):
        return Problem(f"Lightning's Trainer does not accept these flags: {error}", status=2)
    if isinstance(error, NotImplementedError):
        return Problem(blanks.describe(error))
    if isinstance(error, torch.OutOfMemoryError):
        return Problem(f"out of memory ({_first_line(error)}); try a smaller --batch_size")
    if isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return Problem(f"--compile: not possible on this machine: {_first_line(error)}; omit the flag")
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return Problem(f"{error.strerror or error}{where}")
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_checkpoint(run) -> str:
    if run.folder and run.checkpoint("last.ckpt").exists():
        return f"The last good checkpoint is {run.checkpoint('last.ckpt')}."
    return "There is no checkpoint yet."


def disk_problem(error: OSError, run) -> Problem:
    """Describe a disk error while the run's folder is in use; the message names the file or the folder."""
    try:
        run.check_folder()
    except Problem as problem:
        return problem
    where = os.fsdecode(error.filename) if error.filename else run.folder or "a file"
    then = f"continue with --resume {run.folder}" if run.folder else "start again"
    reason = f"{where}: could not be written or read: {error.strerror or error}"
    return Problem(f"{reason}. {_last_checkpoint(run)} Fix this, then {then}.")


def not_finite(what: str, run, trainer) -> Problem:
    """Describe a loss, a metric or a parameter, named by `what`, that is NaN or infinite."""
    flags = vars(run.args).items()
    rates = " or ".join(f"--{name} (it was {value:g})" for name, value in flags if re.fullmatch("(.*_)?lr", name))
    step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    return Problem(
        f"{what} is no longer finite at step {step} (epoch {trainer.current_epoch + 1})."
        f" {_last_checkpoint(run)} Try a new run with a lower {rates}, another --seed, or"
        " --precision 32-true if you used another."
    )
