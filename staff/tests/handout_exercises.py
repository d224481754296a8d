"""The exercises in Appendix C of the handout, for the tests that check their numbers."""

import re
from pathlib import Path

HANDOUT = Path(__file__).parents[2] / "handout"
TEXT = (HANDOUT / "C_exercises.md").read_text("utf-8")
EXERCISES = dict(re.findall(r"^### Exercise (\d+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def shown(value, digits=4):
    return f"{value:.{digits}f}".replace("-", "−")


def assert_quoted(exercise, *numbers):
    """Check that the exercise contains each number as printed."""
    for number in numbers:
        whole = rf"(?<![\d.,−-]){re.escape(number)}(?!\d|[.,]\d)"
        assert re.search(whole, EXERCISES[str(exercise)]), f"{number} is not in exercise {exercise}"


def assert_row(exercise, *cells):
    """Check that the exercise contains a table row that begins with these cells."""
    assert "| " + " | ".join(cells) + " |" in EXERCISES[str(exercise)], cells
