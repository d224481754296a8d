"""What can stop a training run, and what is said then."""

import sys

from pytorch_lightning.utilities.rank_zero import rank_zero_only


class Problem(Exception):
    """Something the user can do something about: the message says what; `status` is the exit status."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. Like KeyboardInterrupt, it passes by the `except Exception` of whatever it meets."""

    def __init__(self, signum: int):
        self.signum = signum


def is_first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) in (0, None)


def say(text: str) -> None:
    if is_first_process():
        print(text, file=sys.stderr, flush=True)
