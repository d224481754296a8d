"""The schema of Gradescope's results.json. Each file is validated before it is written."""

import json
import math
from collections.abc import Callable
from typing import Any

from staff.grading.feedback import line

VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
FORMATS = ("text", "html", "simple_format", "md", "ansi")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _at_least_0(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _in(values: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


def _is_data(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(value, dict)


SCHEMA = {
    "score": _at_least_0,
    "execution_time": _at_least_0,
    "output": _is_text,
    "output_format": _in(FORMATS),
    "test_output_format": _in(FORMATS),
    "test_name_format": _in(FORMATS),
    "visibility": _in(VISIBILITIES),
    "stdout_visibility": _in(VISIBILITIES),
    "extra_data": _is_data,
    "leaderboard": lambda value: isinstance(value, list),
    "tests": lambda value: isinstance(value, list),
}
TEST_SCHEMA = {
    "score": _at_least_0,
    "max_score": _at_least_0,
    "status": _in(("passed", "failed")),
    "name": _is_text,
    "name_format": _in(FORMATS),
    "number": _is_text,
    "output": _is_text,
    "output_format": _in(FORMATS),
    "tags": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "visibility": _in(VISIBILITIES),
    "extra_data": _is_data,
}
LEADERBOARD_SCHEMA = {
    "name": _is_text,
    "value": lambda value: _is_text(value) or _is_number(value),
    "order": _in(("asc", "desc")),
}


def check(content: Any) -> list[str]:
    """Return how the content violates the schema of results.json; an empty list if it is valid."""
    problems = _violations(content, SCHEMA, "results")
    if problems:
        return problems
    if "score" not in content and not content.get("tests"):
        problems.append("results: neither a score nor tests")
    for number, test in enumerate(content.get("tests", [])):
        place = f"tests[{number}]"
        found = _violations(test, TEST_SCHEMA, place)
        if not found and test.get("score", 0) > test.get("max_score", math.inf):
            found = [f"{place}: score {test['score']} is above max_score {test['max_score']}"]
        if not found and "score" not in test and "score" not in content and "status" not in test:
            found = [f"{place}: neither a score nor a status"]
        problems += found
    for number, entry in enumerate(content.get("leaderboard", [])):
        place = f"leaderboard[{number}]"
        found = _violations(entry, LEADERBOARD_SCHEMA, place)
        missing = [name for name in ("name", "value") if isinstance(entry, dict) and name not in entry]
        problems += found + [f"{place}: {name} is missing" for name in missing]
    return problems


def _violations(content: Any, schema: dict[str, Callable[[Any], bool]], place: str) -> list[str]:
    if not isinstance(content, dict):
        return [f"{place}: is not an object"]
    unknown = [f"{place}: {line(name)}: is not in the schema" for name in content if name not in schema]
    wrong = [name for name, fits in schema.items() if name in content and not fits(content[name])]
    return unknown + [f"{place}: {name}: cannot be {line(repr(content[name]), 60)}" for name in wrong]
