"""Write Gradescope's results.json, or build the zip to upload: `python -m staff.grading.gradescope --build OUT.zip`.

On Gradescope, `run_autograder` in that zip calls `python -m staff.grading.gradescope --root /autograder`. It writes a
complete, valid result immediately, because a run that reaches the time limit cannot write another.
"""

import json
import math
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course.files import write_whole
from course.parser import Parser
from course.rubric import Rubric
from course.rubric import read as read_rubric
from staff.grading.autograder import BROKEN, build_autograder
from staff.grading.feedback import HIDDEN_FAILED, MOST, clean, figure, line
from staff.grading.gradescope_schema import check
from staff.grading.ordinary import is_ordinary
from staff.release.build import ReleaseError

HIDDEN = f"These tests are not shown. If points are missing, {HIDDEN_FAILED}."
BUSY = "Not judged: the grader's machine was too busy. Submit again without changes; if this recurs, tell the staff."
BEING_GRADED = "Your submission is being graded. If this text remains, grading did not finish within the time limit."
Grade = Callable[[Path, str, Callable[[dict], None]], dict]


# --- results.json -----------------------------------------------------------------------------------------------------


def results_json(result: dict, rubric: Rubric, visibility: str = "visible", output: str = "") -> dict:
    """Convert a result to Gradescope's schema.

    Args:
        result: a result of the grader; an unfinished result may lack any field.
        visibility: applied to the whole result, e.g. "after_published". No entry has a different visibility: a hidden
            entry would hide the total.
        output: text shown above everything else.
    """
    entries = _test_entries(result, rubric) + _evidence_entries(result)
    for entry in entries:
        entry["visibility"] = visibility
    return {
        "score": _score(result, rubric),
        "execution_time": _bounded(result.get("seconds"), 1e6),
        "output": "\n".join([output] * bool(output) + _remarks(result)) or "Graded.",
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": visibility,
        "stdout_visibility": "hidden",
        "extra_data": {"edition": rubric.edition, "status": line(result.get("status", "being graded"))},
        "tests": entries,
    }


def _bounded(value: Any, most: float) -> float:
    """Clamp a number to 0..`most`; return 0 for anything that is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0.0
    return round(float(min(value, most)), 4)


def _score(result: dict, rubric: Rubric) -> float:
    """Return the points for tests and evidence; manual points are entered on Gradescope itself."""
    points = []
    for name, question in result.get("questions", {}).items():
        if name in rubric.questions:
            of = rubric.questions[name]
            points += [_bounded(question["automatic"], of.automatic), _bounded(question["evidence"], of.evidence)]
    return round(math.fsum(points), 4)


def _test_entries(result: dict, rubric: Rubric) -> list[dict]:
    """Return an entry for each visible test, and one per question for all of its hidden tests."""
    entries, missing = [], set(result.get("missing", []))
    tests = result.get("tests", [])
    for question in dict.fromkeys(test["question"] for test in tests):
        seen = [test for test in tests if test["question"] == question and not test["hidden"]]
        unseen = [test for test in tests if test["question"] == question and test["hidden"]]
        folder = rubric.parts[rubric.questions[question].part].folder if question in rubric.questions else ""
        for number, test in enumerate(seen, start=1):
            passed = test["outcome"] == "passed"
            message = "" if passed else clean(test["message"] or "failed")
            message = BUSY if test["outcome"] == "undecided" else message
            message = f"{folder} is missing." if folder in missing else message
            name, place = f"Q{question}: {test['name']}", f"{question}.{number}"
            entries.append(_entry(name, place, test["points"] if passed else 0, test["points"], message, passed))
        if unseen:
            of = math.fsum(test["points"] for test in unseen)
            points = math.fsum(test["points"] for test in unseen if test["outcome"] == "passed")
            name, place = f"Q{question}: hidden tests", f"{question}.{len(seen) + 1}"
            busy = any(test["outcome"] == "undecided" for test in unseen)
            entries.append(_entry(name, place, points, of, f"{HIDDEN}\n{BUSY}" if busy else HIDDEN, points == of))
    return entries


def _evidence_entries(result: dict) -> list[dict]:
    entries = []
    for number, row in enumerate(result.get("evidence", []), start=1):
        lines = [
            f"{row['run']}: claimed {figure(row['claimed'])}, recomputed {figure(row['recomputed'])}",
            *filter(None, [row["warning"]]),
            *[BUSY] * (row.get("waits_for") == "time"),
        ]
        name, text = f"Q{row['question']}: {row['what']}", clean("\n".join(lines))
        entry = _entry(name, f"{row['question']}.run{number}", row["points"], row["of"], text, False)
        entries.append(entry | {"status": "passed" if entry["score"] == entry["max_score"] else "failed"})
    return entries


def _entry(name: str, number: str, score: Any, most: Any, output: str, passed: bool) -> dict:
    most = _bounded(most, 1e6)
    return {
        "name": line(name),
        "number": line(number),
        "score": _bounded(score, most),
        "max_score": most,
        "status": "passed" if passed else "failed",
        "output": output,
        "output_format": "text",
        "name_format": "text",
    }


def _remarks(result: dict) -> list[str]:
    """Return one line for each remark about the submission as a whole."""
    failed = result.get("status") in ("failed", "unreadable")
    found = [f"This submission could not be judged: {result.get('problem') or 'unknown reason'}"] * failed
    found += [f"problem: {each}" for each in result.get("problems", [])]
    found += [f"forbidden: {each['file']}:{each['line']}: {each['name']}" for each in result.get("forbidden", [])]
    found += [f"left out: {each}" for each in result.get("left_out", []) if not is_ordinary(each)]
    rest = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return [line(each) for each in found[:MOST]] + rest


def write_results(path: str | Path, content: dict) -> Path:
    """Write a results.json atomically.

    Raises:
        ValueError: the content violates the schema; an existing file is kept.
        OSError: the file cannot be written.
    """
    if problems := check(content):
        raise ValueError("; ".join(problems))
    return write_whole(path, json.dumps(content, indent=1, allow_nan=False).encode())


def write_progress(path: str | Path, result_so_far: dict, rubric: Rubric | None = None) -> Path:
    """Write the partial result of a submission that is still being graded.

    Raises:
        ValueError, OSError: see `write_results`.
    """
    return write_results(path, results_json(result_so_far, rubric or read_rubric(), output=BEING_GRADED))


# --- one submission, on Gradescope ------------------------------------------------------------------------------------


def student_of(root: Path) -> str:
    """Return the student's name from submission_metadata.json, reduced to safe characters, or else "submission"."""
    try:
        user = json.loads((root / "submission_metadata.json").read_text("utf-8"))["users"][0]
        name = str(user.get("email") or user.get("name") or user["id"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "submission"
    return re.sub(r"[^A-Za-z0-9@._-]+", "_", name)[:100].strip("._-") or "submission"


def grade(root: Path) -> None:
    """Grade root/submission and write root/results/results.json, which is valid at any time during grading.

    Raises:
        OSError: not even the initial result can be written.
    """
    path = root / "results" / "results.json"
    empty = {"score": 0, "output": BEING_GRADED, "stdout_visibility": "hidden", "tests": []}
    write_results(path, empty)
    try:
        from staff.grading.grade import grade_one  # imported here to report a failure as well

        rubric = read_rubric()
        result = grade_one(root / "submission", student_of(root), lambda so_far: _progress(path, so_far, rubric))
        write_results(path, results_json(result, rubric))
    except BaseException as error:  # also SystemExit: students need a result, and staff need every error
        traceback.print_exc(file=sys.stdout)  # only staff see standard output
        extra = {"grader_failed": line(type(error).__name__)}
        write_results(path, empty | {"output": BROKEN, "extra_data": extra})


def _progress(path: Path, result_so_far: dict, rubric: Rubric) -> None:
    """Write the partial result; if that fails, print the error and continue grading."""
    try:
        write_progress(path, result_so_far, rubric)
    except Exception:
        traceback.print_exc(file=sys.stdout)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = Parser(prog="python -m staff.grading.gradescope", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--root", type=Path, help="grade the submission in this folder (on Gradescope: /autograder)")
    what.add_argument("--build", type=Path, metavar="OUT", help="write the zip to upload")
    args = parser.parse_args(argv)
    if args.root:
        grade(args.root)
        return 0
    try:
        print(build_autograder(args.build))
    except (ReleaseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
