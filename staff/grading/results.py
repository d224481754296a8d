"""The results of the grader: one file per student, validated when it is written and when it is read.

A result that cannot be used is replaced by one that has no points and states the reason, so other students' results are
not affected.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course.files import write_whole
from course.rubric import Rubric
from staff.grading.feedback import SHARES, line

RESULTS = "results"
LONGEST = 20_000_000  # maximum bytes of a result file
STATUSES = {  # status -> its text in the exports
    "graded": "graded",
    "partly": "partly graded",  # parts are missing
    "unreadable": "not readable",  # the submission's fault
    "failed": "failed",  # the grader's fault; judged again next time
    "nothing": "nothing handed in",
}
JUDGED = ("graded", "partly")
DAMAGED = "the result cannot be used; grade this submission again"


# --- a result without points ------------------------------------------------------------------------------------------


def blank(student: str, source: str, rubric: Rubric) -> dict:
    """Return a result without points for a submission that has not been judged."""
    questions = {}
    for name, question in rubric.questions.items():
        questions[name] = {"points": question.points}
        for share, points in zip(SHARES, question.shares(), strict=True):
            questions[name] |= {share: None, f"{share}_of": points, f"{share}_open": points}
        questions[name] |= {"automatic": 0.0, "automatic_open": 0.0}
    return {
        "student": student, "source": source, "status": "graded", "problem": None, "sandbox": None, "seed": None,
        "sha256": None, "judged_with": None, "left_out": [], "problems": [], "forbidden": [], "questions": questions,
        "tests": [], "evidence": [], "missing": [], "older": [], "name": "", "group": "", "where": "", "seconds": 0.0,
        "graded": now(),
    }  # fmt: skip


def failed(student: str, source: str, rubric: Rubric, problem: str, status: str = "failed") -> dict:
    """Return the result of a submission that could not be judged."""
    return blank(student, source, rubric) | {"status": status, "problem": line(problem, 500)}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


# --- files ------------------------------------------------------------------------------------------------------------


def write(path: Path, result: dict, rubric: Rubric) -> dict:
    """Write a result and return it. An invalid result is replaced by one that has no points and states the reason.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        problems = check(result) or unlike(result, rubric)
        content = json.dumps(result, indent=1).encode() + b"\n"
        if len(content) > LONGEST:
            problems = [f"it has {len(content)} bytes"]
    except (ValueError, TypeError, RecursionError) as error:
        problems = [line(error)]
    if problems:
        problem = f"the grader failed: its result is invalid ({'; '.join(problems[:3])})"
        result = failed(path.stem, str(result.get("source", "")), rubric, problem)
        content = json.dumps(result, indent=1).encode() + b"\n"
    write_whole(path, content)
    return result


def read(path: Path) -> tuple[dict, list[str]]:
    """Read a result from a file; return it and a list of its problems."""
    try:
        if path.stat().st_size > LONGEST:
            return {}, [f"is larger than {LONGEST // 1_000_000} MB"]
        result = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"cannot be read: {line(error)}"]
    problems = check(result)
    if not problems and result["student"] != path.stem:
        problems = [f"belongs to student {line(result['student'])!r}"]
    return result, problems


def read_all(folder: str | Path, rubric: Rubric) -> tuple[list[dict], list[str]]:
    """Return the results in `folder`/results, sorted by student, and a line for each problem found.

    A result that is damaged, or was judged with another rubric, is replaced by one without points.
    """
    results, problems = [], []
    for path in sorted((Path(folder) / RESULTS).glob("*.json")):
        result, wrong = read(path)
        wrong = wrong or unlike(result, rubric)
        if wrong:
            problems += [f"{path}: {each}" for each in wrong]
            result = failed(path.stem, path.name, rubric, f"{DAMAGED} ({path.name}: {wrong[0]})")
        results.append(result)
    return sorted(results, key=lambda result: result["student"]), problems


def is_undecided(result: dict) -> bool:
    """Return whether part of a result could not be judged because the machine was too busy."""
    tests = any(test["outcome"] == "undecided" for test in result["tests"])
    return tests or any(row["waits_for"] == "time" for row in result["evidence"])


def unlike(result: dict, rubric: Rubric) -> list[str]:
    """Return how a result differs from the rubric: results for different rubrics must not be combined."""
    wanted = {name: question.shares() for name, question in rubric.questions.items()}
    there = {name: tuple(each[f"{share}_of"] for share in SHARES) for name, each in result["questions"].items()}
    if wanted == there and list(wanted) == list(there):
        return []
    differ = [name for name in {**wanted, **there} if wanted.get(name) != there.get(name)]
    named = ", ".join(f"Q{line(name)}" for name in differ) or "the order of the questions"
    return [f"was judged with another rubric (different: {named}); grade it again"]


# --- validation -------------------------------------------------------------------------------------------------------


def is_points(value: Any) -> bool:
    """Return whether a value is a valid number of points: from 0 to 1e6, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1e6  # excludes NaN, infinity and huge integers


def _number(value: Any) -> bool:
    """Return whether a value is a valid figure from a submission: a float, even NaN, or an integer from -1e6 to 1e6."""
    return isinstance(value, float) or is_points(value) or (type(value) is int and is_points(-value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


Fields = dict[str, Callable[[Any], bool]]
OF_RESULT: Fields = {
    "student": lambda value: _text(value) and value != "",
    "source": _text,
    "status": _one_of(*STATUSES),
    "problem": _or_none(_text),
    "sandbox": _or_none(_text),
    "seconds": is_points,
    "graded": _text,
    "left_out": _texts,
    "problems": _texts,
    "missing": _texts,
    "older": _texts,
    "name": _text,
    "group": _text,
    "where": _text,
    "forbidden": lambda value: isinstance(value, list),
    "questions": lambda value: isinstance(value, dict),
    "tests": lambda value: isinstance(value, list),
    "evidence": lambda value: isinstance(value, list),
}
OF_QUESTION: Fields = {"points": is_points} | {
    name: check
    for share in SHARES
    for name, check in ((share, _or_none(is_points)), (f"{share}_of", is_points), (f"{share}_open", is_points))
}
OF_TEST: Fields = {
    "name": _text,
    "question": _text,
    "points": is_points,
    "hidden": lambda value: isinstance(value, bool),
    "outcome": _one_of("passed", "failed", "undecided"),
    "message": _or_none(_text),
}
OF_EVIDENCE: Fields = {
    "question": _text,
    "what": _text,
    "run": _text,
    "claimed": _or_none(_number),
    "recomputed": _or_none(_number),
    "points": _or_none(is_points),
    "of": is_points,
    "warning": _or_none(_text),
    "waits_for": _or_none(_one_of("data", "time")),
}
OF_FORBIDDEN: Fields = {"file": _text, "line": _or_none(is_points), "name": _text, "question": _or_none(_text)}


def check(result: Any) -> list[str]:
    """Return the problems with the content of a result; an empty list if it can be used."""
    problems = _wrong_fields(result, OF_RESULT, "")
    if problems:
        return problems
    for name, question in result["questions"].items():
        found = _wrong_fields(question, OF_QUESTION, f"Q{line(name)}: ")
        problems += found or [
            f"Q{line(name)}: {share} has {question[share]:g} of {question[f'{share}_of']:g} points"
            for share in SHARES
            if question[share] is not None and question[share] > question[f"{share}_of"]
        ]
    for entry in result["evidence"]:
        found = _wrong_fields(entry, OF_EVIDENCE, "evidence: ")
        problems += found
        if not found and (entry["points"] or 0) > entry["of"]:
            problems.append(f"evidence: has {entry['points']:g} of {entry['of']:g} points")
    for name, fields in (("tests", OF_TEST), ("forbidden", OF_FORBIDDEN)):
        for entry in result[name]:
            problems += _wrong_fields(entry, fields, f"{name}: ")
    return problems


def _wrong_fields(content: Any, fields: Fields, place: str) -> list[str]:
    if not isinstance(content, dict):
        return [f"{place}is not an object"]
    missing = [f"{place}{name} is missing" for name in fields if name not in content]
    wrong = [name for name, fits in fields.items() if name in content and not fits(content[name])]
    return missing + [f"{place}{name} cannot be {_shown(content[name])}" for name in wrong]


def _shown(value: Any) -> str:
    try:
        return line(repr(value), 60)
    except (ValueError, RecursionError):  # an integer with over 4,300 digits
        return f"this {type(value).__name__}"
