"""Flag types for argparse: each converts a string to a validated value."""

import argparse
import math
import os
import re
from collections.abc import Callable


def whole_number(least: int, most: int = 1_000_000) -> Callable[[str], int]:
    """Create an argparse type: an integer from `least` to `most`."""

    def check(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return check


def _number(allowed: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """Create an argparse type: a finite number for which `allowed` returns True; `what` describes it in errors."""

    def check(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return check


positive_number = _number(lambda value: value > 0, "a finite number above 0")
fraction = _number(lambda value: 0 <= value <= 1, "a number from 0 to 1")


def number(least: float, below: float = math.inf) -> Callable[[str], float]:
    """Create an argparse type: a finite number that is at least `least` and less than `below`."""
    limit = f" and below {below:g}" if below < math.inf else ""
    return _number(lambda value: least <= value < below, f"a finite number that is at least {least:g}{limit}")


def folder(text: str) -> str:
    """Convert a flag's value to the path of a folder, where ~ is the home folder; an argparse type."""
    return os.path.expanduser(text)  # unlike Path.expanduser, accepts users that do not exist


def device_list(text: str) -> int | list[int]:
    """Convert a flag's value to a number of devices ("2") or a list of them ("0,3"); an argparse type."""
    if re.fullmatch(r"\d{1,4}", text) and int(text) > 0:
        return int(text)
    if re.fullmatch(r"\d{1,4}(,\d{1,4})+,?|\d{1,4},", text):
        return [int(number) for number in text.strip(",").split(",")]
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of devices (2) nor a list of them (0,3)")
