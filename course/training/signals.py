"""Ctrl-C and SIGTERM."""

import signal
from collections.abc import Callable

from course.training.problems import Stopped, say


def on_signals(handler: Callable) -> None:
    """Call `handler` for Ctrl-C and SIGTERM."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handler)


def raise_stopped(signum, frame) -> None:
    say(f"\nstopped by {signal.Signals(signum).name}")
    raise Stopped(signum)
