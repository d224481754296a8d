"""What graded tests expect, and what known mistakes would give: functions of a test's inputs alone.

A test asks with the fixture `expected` by the name of an oracle, a function of `part1`, `part2` or `part3`; it returns
an `answers.Answer`. Students have the same tests without this package: `record` writes the answers to some seeds down.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pytest puts tests/ on the path
    from answers import Answer

listener: Callable | None = None  # gets what is asked: test, oracle, inputs, answer


def answer(seed: int, test: str, number: int, oracle: str, inputs: dict) -> "Answer":
    """The answer of an oracle, as `answers.Recorded.answer` gives it."""
    from staff.oracles import part1, part2, part3  # each needs this package's helpers

    (function,) = (found for part in (part1, part2, part3) if (found := part.ORACLES.get(oracle)))
    given = function(**inputs)
    if listener:
        listener(test, oracle, inputs, given)
    return given
