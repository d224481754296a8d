"""Flag types for argparse: each converts a string to a validated value."""

import argparse
import math
import os
import re
from collections.abc import Callable


def whole_number(least: int, most: int = 1_000_000) -> Callable[[str], int]:
    """An argparse type: an integer from `least` to `most`."""

    def check(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return check


def _finite(text: str) -> float:
    """Convert a string to a number; NaN if it is not a finite number."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def positive_number(text: str) -> float:
    """An argparse type: a finite number above 0."""
    value = _finite(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0")
    return value


def number(least: float, below: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number that is at least `least`, and less than `below`."""

    def check(text: str) -> float:
        value = _finite(text)
        if not least <= value < below:
            limit = f" and below {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a finite number that is at least {least:g}{limit}")
        return value

    return check


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = _finite(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def folder(text: str) -> str:
    """An argparse type: the path of a folder, where ~ is the home folder."""
    return os.path.expanduser(text)  # unlike Path's, accepts users that do not exist


def device_list(text: str) -> int | list[int]:
    """An argparse type: a number of devices ("2"), or which ones ("0,3")."""
    if re.fullmatch(r"\d{1,4}", text) and int(text) > 0:
        return int(text)
    if re.fullmatch(r"\d{1,4}(,\d{1,4})+,?|\d{1,4},", text):
        return [int(number) for number in text.strip(",").split(",")]
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of devices (2) nor a list of them (0,3)")
