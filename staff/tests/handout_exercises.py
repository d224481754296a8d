"""Appendix C of the handout, one exercise after another, for the tests of its numbers."""

import re
from pathlib import Path

HANDOUT = Path(__file__).parents[2] / "handout"
TEXT = (HANDOUT / "C_exercises.md").read_text("utf-8")
EXERCISES = dict(re.findall(r"^### Exercise (\d+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def shown(value, digits=4):
    return f"{value:.{digits}f}".replace("-", "−")


def assert_quoted(exercise, *numbers):
    """Each number, as it is printed, is in the exercise."""
    for number in numbers:
        whole = rf"(?<![\d.,−-]){re.escape(number)}(?!\d|[.,]\d)"
        assert re.search(whole, EXERCISES[str(exercise)]), f"{number} is not in exercise {exercise}"


def assert_row(exercise, *cells):
    """A row of a table, from its first cell on."""
    assert "| " + " | ".join(cells) + " |" in EXERCISES[str(exercise)], cells
