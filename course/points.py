"""Report the points of a test run to GitHub: `python -m course points points.json`, with the file that pytest wrote."""

import argparse
import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from course import rubric
from course.command_line import WrongFlag
from course.files import write_whole

NOTE = "Not included: runs, written answers, and tests that only graders have."
# Classroom 50's runner sets these environment variables: field of result.json -> variable
RUNNER = {
    "classroom": "CLASSROOM",
    "assignment": "ASSIGNMENT",
    "assignment_type": "ASSIGNMENT_TYPE",
    "owner": "OWNER",
    "submission": "SUBMISSION_TAG",
    "commit": "COMMIT_URL",
    "release": "RELEASE_URL",
    "review": "REVIEW_URL",
}


def read(file: Path) -> dict[str, dict]:
    """Read a --points-json file: question -> points earned, points worth, names of tests that did not pass.

    Raises:
        WrongFlag: the file cannot be read, or pytest did not write it.
    """
    try:
        questions = json.loads(file.read_text("utf-8"))["questions"]
        return {
            question: {key: row[key] for key in ("earned", "worth", "missing")} for question, row in questions.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "is not what pytest writes"
        raise WrongFlag(f"{file}: {reason}; run `python -m course test --points-json {file}` first") from error


def total(questions: dict[str, dict]) -> tuple[float, float]:
    """Return the points earned and the points that the tests are worth."""
    return sum(row["earned"] for row in questions.values()), sum(row["worth"] for row in questions.values())


def summary(questions: dict[str, dict]) -> str:
    """Format the points as a Markdown table."""
    titles = {question.id: question.title for question in rubric.read().questions.values()}
    earned, worth = total(questions)
    lines = [f"## {earned:g} of {worth:g} automatic points", "", NOTE, ""]
    lines += ["| question | points | of | tests that did not pass |", "| --- | ---: | ---: | --- |"]
    for question, row in questions.items():
        missing = ", ".join(f"`{name}`" for name in row["missing"])
        lines.append(f"| Q{question} {titles.get(question, '')} | {row['earned']:g} | {row['worth']:g} | {missing} |")
    return "\n".join(lines) + "\n"


def classroom(questions: dict[str, dict]) -> dict:
    """Return the result in the format of GitHub Classroom's reporter, with a test for each question."""
    tests = [
        {
            "name": f"Q{question}",
            "status": "fail" if row["missing"] else "pass",
            "score": row["earned"],
            "message": f"did not pass: {', '.join(row['missing'])}" if row["missing"] else "",
            "test_code": "",
            "filename": "",
            "line_no": 0,
            "execution_time": "",
        }
        for question, row in questions.items()
    ]
    status = "fail" if any(row["missing"] for row in questions.values()) else "pass"
    return {"version": 1, "status": status, "max_score": total(questions)[1], "tests": tests}


def classroom50(questions: dict[str, dict]) -> dict:
    """Return the content of Classroom 50's result.json. Its scores are integers, so fractions of points are scaled.

    Raises:
        WrongFlag: the runner's environment variables are missing.
    """
    missing = [name for name in RUNNER.values() if not os.environ.get(name)]
    if missing:
        raise WrongFlag(f"--classroom50: Classroom 50's runner sets {', '.join(missing)}, which are missing here")
    numbers = [row[key] for row in questions.values() for key in ("earned", "worth")]
    factor = next(factor for factor in (1, 2, 4, 100) if factor == 100 or all(n * factor % 1 == 0 for n in numbers))

    def scaled(earned: float, worth: float) -> dict[str, int]:
        return {"score": round(earned * factor), "max-score": round(worth * factor)}

    unit = f" (in 1/{factor} points)" if factor > 1 else ""
    rows = [
        {"test-name": f"Q{question}{unit}", "passed": not row["missing"], **scaled(row["earned"], row["worth"])}
        for question, row in questions.items()
    ]
    return {
        "schema": "classroom50/result/v1",
        **{field: os.environ[name] for field, name in RUNNER.items()},
        "datetime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "score": sum(row["score"] for row in rows),
        "max-score": sum(row["max-score"] for row in rows),
        "tests": rows,
    }


def _write(flag: str, path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise WrongFlag(f"--{flag} {path}: cannot be written: {error.strerror or error}") from error


def _append(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def hand_on(args: argparse.Namespace) -> None:
    """Print the points, and write them in the formats selected by the flags."""
    questions = read(args.points)
    if args.summary:
        _write("summary", args.summary, lambda: _append(args.summary, summary(questions)))
    if args.classroom:
        encoded = base64.b64encode(json.dumps(classroom(questions)).encode()).decode()
        _write("classroom", args.classroom, lambda: _append(args.classroom, f"result={encoded}\n"))
    if args.classroom50:
        content = json.dumps(classroom50(questions), indent=2).encode() + b"\n"
        _write("classroom50", args.classroom50, lambda: write_whole(args.classroom50, content))
    earned, worth = total(questions)
    print(f"{earned:g} of {worth:g} automatic points")


def add(commands) -> None:
    """Add `points` to the commands."""
    parser = commands.add_parser("points", help="export the points of a test run for GitHub Classroom and Classroom 50")
    parser.add_argument("points", type=Path, metavar="FILE", help="the file written with --points-json")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append a table to FILE: $GITHUB_STEP_SUMMARY")
    reporter = "append `result=` for GitHub Classroom's reporter to FILE: $GITHUB_OUTPUT"
    parser.add_argument("--classroom", type=Path, metavar="FILE", help=reporter)
    parser.add_argument("--classroom50", type=Path, metavar="FILE", help="write Classroom 50's result.json to FILE")
    parser.set_defaults(run=hand_on)
