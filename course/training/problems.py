"""Errors and signals that stop a training run, and their messages."""

import signal
import sys
from collections.abc import Callable

from pytorch_lightning.utilities.rank_zero import rank_zero_only


class Problem(Exception):
    """An error that the user can fix; the message says how. `status` is the exit status."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


class Stopped(BaseException):
    """SIGINT or SIGTERM was received. Like KeyboardInterrupt, it is not caught by `except Exception`."""

    def __init__(self, signum: int):
        self.signum = signum


def is_first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) in (0, None)


def say(text: str) -> None:
    if is_first_process():
        print(text, file=sys.stderr, flush=True)


def on_signals(handler: Callable) -> None:
    """Call `handler` on Ctrl-C and SIGTERM."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handler)


def raise_stopped(signum, frame) -> None:
    say(f"\nstopped by {signal.Signals(signum).name}")
    raise Stopped(signum)
