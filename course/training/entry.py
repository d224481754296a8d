"""The entry point of a training script: turns errors and signals into one line and an exit status."""

import argparse
import logging
import threading
import warnings
from collections.abc import Callable

from course.training.problems import Stopped, is_first_process, on_signals, raise_stopped, say


def main(train: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Call `train(args)` and turn errors into a message and an exit status.

    Returns:
        0; 130 or 143 after Ctrl-C or SIGTERM; the status of a `Problem`; 1 for data or disk errors. Processes that the
        first process started always return 0: if one of them failed, the first process would be killed before exiting.
    """
    status = _status_of(train, args)
    return status if is_first_process() else 0


def _status_of(train: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    from course.training import speed  # imported here: readers can skip it, as it only makes runs faster

    on_signals(raise_stopped)
    _quiet()
    speed.keep_memory()
    speed.log_faster()
    speed.flush_subnormals(True)
    try:
        train(args)
        return 0
    except Stopped as stop:
        return 128 + stop.signum
    except Exception as error:
        from course.training.explain import explain

        problem = explain(error)
        if problem is None:
            raise
        say(f"error: {problem}")
        return problem.status
    finally:
        speed.flush_subnormals(False)


def _quiet() -> None:
    """Silence Lightning's advice, which does not apply: the data is in memory, and resuming is handled."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    threading.excepthook = _leave_to_the_writer
    for text in (
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*LeafSpec.*is deprecated.*",
        ".*`srun` command is available.*but is not used.*",
    ):
        warnings.filterwarnings("ignore", text)


def _leave_to_the_writer(failure) -> None:
    """Ignore disk errors in TensorBoard's writer thread: the next call that logs a value raises them again."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
