"""Format numbers, durations and curves for report pages."""

from typing import NamedTuple

from course.rubric import Number
from course.runs.folder import Run
from course.runs.questions import Figure


class Cell(NamedTuple):
    """A table cell: text, and a note in smaller type below it."""

    text: str
    note: str = ""


class Table(NamedTuple):
    """A table with a header and rows of cells or figures."""

    header: list[str]
    rows: list[list[Cell | Figure]]


def value_text(value: object) -> str:
    """Format a number with four significant digits, or text truncated to 200 characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "–"
    return f"{value:,}" if type(value) is int and value >= 10_000 else str(value)[:200]


def duration_text(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def chart_title(number: Number) -> str:
    return f"{number.name}: {number.unit}"


def draw_curves(curves: dict[str, tuple[list[int], list[float]]], number: Number) -> bytes | None:
    """Draw curves over epochs as a PNG; return None if the number has no chart or there are no values."""
    from course.curves import curves_png

    curves = {label: curve for label, curve in curves.items() if curve[0]}
    if not number.curve or not curves:
        return None
    return curves_png(curves, number.unit.split(",")[0], "", log=number.curve == "log")


def chart_of_run(run: Run, number: Number) -> bytes | None:
    """Draw a chart of a number's training and validation values over epochs."""
    first = run.first_step.get(f"train/{number.name}_step")
    train, val = run.curve(f"train/{number.name}"), run.curve(f"val/{number.name}")
    label = "training (mean of each epoch)"
    if train[0] and first is not None:
        train, label = ([0, *train[0]], [first, *train[1]]), "training (first step, then the mean of each epoch)"
    return draw_curves({label: train, "validation": val}, number)
