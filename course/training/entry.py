"""The entry point of a training script: turns errors and signals into one line and an exit status."""

import argparse
import logging
import threading
import warnings
from collections.abc import Callable

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from course.datasets import DataError
from course.training.problems import Problem, Stopped, is_first_process, say
from course.training.signals import on_signals, raise_stopped
from course.training.speed import flush_subnormals, keep_memory


def main(train: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Call `train(args)` and turn errors into a message and an exit status.

    Returns:
        0; 130 or 143 after Ctrl-C or SIGTERM; the status of a `Problem`; 1 for data or disk errors. Always 0 in the
        processes that the first one started: it would be killed if one of them failed before it exits.
    """
    status = _status_of(train, args)
    return status if is_first_process() else 0


def _status_of(train: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    on_signals(raise_stopped)
    _quiet()
    keep_memory()
    flush_subnormals(True)
    try:
        train(args)
        return 0
    except Stopped as stop:
        return 128 + stop.signum
    except (Problem, DataError) as error:
        say(f"error: {error}")
        return error.status
    except MisconfigurationException as error:
        say(f"error: Lightning's Trainer refuses these flags: {error}")
        return 2
    except NotImplementedError as error:
        from course import blanks

        say(f"error: {blanks.describe(error)}")
        return 1
    except torch.OutOfMemoryError as error:
        say(f"error: out of memory ({_first_line(error)}); try a smaller --batch_size")
        return 1
    except torch._dynamo.exc.TorchDynamoException as error:
        say(f"error: --compile: not possible on this machine: {_first_line(error)}; leave the flag out")
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        say(f"error: {error.strerror or error}{where}")
        return 1
    finally:
        flush_subnormals(False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _quiet() -> None:
    """Silence Lightning's advice that does not apply: the data is in memory, and resuming is handled."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    threading.excepthook = _leave_to_the_writer
    for text in (
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*it is recommended to use .Trainer.devices=1.*",
        ".*all_gather is deprecated.*",
        ".*LeafSpec.*is deprecated.*",
        ".*`srun` command is available.*but is not used.*",
    ):
        warnings.filterwarnings("ignore", text)


def _leave_to_the_writer(failure) -> None:
    """Ignore disk errors in TensorBoard's writer thread: they are raised again by the next call that logs something."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
