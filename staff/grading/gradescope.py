"""Gradescope: its results.json, and the zip that makes it: `python -m staff.grading.gradescope --build OUT.zip`.

On Gradescope `run_autograder` of that zip calls `python -m staff.grading.gradescope --root /autograder`. A result is
there from the first moment on, whole and valid, because a run that is stopped for its time has no other.
"""

import argparse
import configparser
import io
import json
import math
import re
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course.files import write_whole
from course.flags import REPOSITORY
from course.rubric import Rubric
from course.rubric import read as read_rubric
from staff.grading.feedback import HIDDEN_FAILED, MOST, clean, figure, line
from staff.release.build import ReleaseError, tracked

HIDDEN = f"What these tests check is not shown. Where points are missing, {HIDDEN_FAILED}."
BEING_GRADED = "Your submission is being graded. If this is all that is here in the end, the time ran out."
BROKEN = "The grader failed. That does not say anything about your submission; please tell the staff."
Grade = Callable[[Path, str, Callable[[dict], None]], dict]


# --- results.json -----------------------------------------------------------------------------------------------------


def results_json(result: dict, rubric: Rubric, visibility: str = "visible", output: str = "") -> dict:
    """A result in Gradescope's schema.

    Args:
        result: as the grader writes it; one that is not finished may lack anything.
        visibility: of everything, e.g. "after_published". There are no entries with a visibility of their own: one that
            is hidden would hide the total.
        output: said above everything.
    """
    entries = _test_entries(result) + _evidence_entries(result)
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
    """A number from 0 to `most`; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0.0
    return round(float(min(value, most)), 4)


def _score(result: dict, rubric: Rubric) -> float:
    """What is known without a person; manual points are given on Gradescope itself."""
    points = []
    for name, question in result.get("questions", {}).items():
        if name in rubric.questions:
            of = rubric.questions[name]
            points += [_bounded(question["automatic"], of.automatic), _bounded(question["evidence"], of.evidence)]
    return round(math.fsum(points), 4)


def _test_entries(result: dict) -> list[dict]:
    """An entry for each test that students see, and one a question for all those that they do not."""
    entries = []
    tests = result.get("tests", [])
    for question in dict.fromkeys(test["question"] for test in tests):
        seen = [test for test in tests if test["question"] == question and not test["hidden"]]
        unseen = [test for test in tests if test["question"] == question and test["hidden"]]
        for number, test in enumerate(seen, start=1):
            passed = test["outcome"] == "passed"
            message = "" if passed else clean(test["message"] or "failed")
            name, place = f"Q{question}: {test['name']}", f"{question}.{number}"
            entries.append(_entry(name, place, test["points"] if passed else 0, test["points"], message, passed))
        if unseen:
            of = math.fsum(test["points"] for test in unseen)
            points = math.fsum(test["points"] for test in unseen if test["outcome"] == "passed")
            name, place = f"Q{question}: tests that you do not see", f"{question}.{len(seen) + 1}"
            entries.append(_entry(name, place, points, of, HIDDEN, points == of))
    return entries


def _evidence_entries(result: dict) -> list[dict]:
    entries = []
    for number, row in enumerate(result.get("evidence", []), start=1):
        lines = [
            f"{row['run']}: claimed {figure(row['claimed'])}, recomputed {figure(row['recomputed'])}",
            *filter(None, [row["warning"]]),
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
    """What was odd about the submission as a whole, a line each."""
    failed = result.get("status") == "failed"
    found = [f"This submission could not be judged: {result.get('problem') or 'no reason is known'}"] * failed
    found += [f"problem: {each}" for each in result.get("problems", [])]
    found += [f"forbidden: {each['file']}:{each['line']}: {each['name']}" for each in result.get("forbidden", [])]
    found += [f"left out: {each}" for each in result.get("left_out", [])]
    rest = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return [line(each) for each in found[:MOST]] + rest


# --- the schema -------------------------------------------------------------------------------------------------------

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
    """What violates the schema of results.json; nothing for a valid one."""
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
        return [f"{place}: is no object"]
    unknown = [f"{place}: {line(name)}: is not in the schema" for name in content if name not in schema]
    wrong = [name for name, fits in schema.items() if name in content and not fits(content[name])]
    return unknown + [f"{place}: {name}: cannot be {line(repr(content[name]), 60)}" for name in wrong]


def write_results(path: str | Path, content: dict) -> Path:
    """Write a results.json, whole or not at all.

    Raises:
        ValueError: it violates the schema; what was there before is still there.
        OSError: it cannot be written.
    """
    if problems := check(content):
        raise ValueError("; ".join(problems))
    return write_whole(path, json.dumps(content, indent=1, allow_nan=False).encode())


def write_progress(path: str | Path, result_so_far: dict, rubric: Rubric | None = None) -> Path:
    """Write what is known of a submission that is still being graded.

    Raises:
        ValueError, OSError: as `write_results`.
    """
    return write_results(path, results_json(result_so_far, rubric or read_rubric(), output=BEING_GRADED))


# --- one submission, on Gradescope ------------------------------------------------------------------------------------


def student_of(root: Path) -> str:
    """Who handed in, by submission_metadata.json, in letters that do no harm; "submission" where it does not say."""
    try:
        user = json.loads((root / "submission_metadata.json").read_text("utf-8"))["users"][0]
        name = str(user.get("email") or user.get("name") or user["id"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "submission"
    return re.sub(r"[^A-Za-z0-9@._-]+", "_", name)[:100].strip("._-") or "submission"


def grade(root: Path) -> None:
    """Grade root/submission into root/results/results.json, which is valid from the first moment on.

    Raises:
        OSError: not even the first one can be written.
    """
    path = root / "results" / "results.json"
    empty = {"score": 0, "output": BEING_GRADED, "stdout_visibility": "hidden", "tests": []}
    write_results(path, empty)
    try:
        from staff.grading.grade import grade_one  # here, so that a grader that cannot be imported is reported too

        rubric = read_rubric()
        result = grade_one(root / "submission", student_of(root), lambda so_far: _progress(path, so_far, rubric))
        write_results(path, results_json(result, rubric))
    except BaseException as error:  # SystemExit too: whatever happens, the staff has to see it and students a result
        traceback.print_exc(file=sys.stdout)  # standard output is for the staff alone
        extra = {"grader_failed": line(type(error).__name__)}
        write_results(path, empty | {"output": BROKEN, "extra_data": extra})


def _progress(path: Path, result_so_far: dict, rubric: Rubric) -> None:
    """What cannot be shown in between does not stop the grading."""
    try:
        write_progress(path, result_so_far, rubric)
    except Exception:
        traceback.print_exc(file=sys.stdout)


# --- the zip ----------------------------------------------------------------------------------------------------------

SOURCES = (
    "conftest.py", "course/", "staff/", "tests/", "LICENSE", "README.md", "constraints.txt", "pyproject.toml",
    "setup.cfg",
)  # fmt: skip
STAFF = "staff/tests/"
FOR_TESTS = ("pytest", "scipy")  # of the extra `dev`: what the graded suites import
SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, as root, when the image is built.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv
python3 -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --no-cache-dir -r "$root/source/requirements.txt" \\
  -c "$root/source/constraints.txt"
"""
RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission.
root="${AUTOGRADER_ROOT:-/autograder}"
python="$root/venv/bin/python"
[ -x "$python" ] || python=python3
cd "$root/source" || exit 1
chmod -R go-rwx "$root/source" "$root/submission"  # in case that submissions can be shut in as another user only
OMP_NUM_THREADS=1 "$python" -m staff.grading.gradescope --root "$root"
if [ ! -s "$root/results/results.json" ]; then
  mkdir -p "$root/results"
  echo '{"score": 0, "output": "@BROKEN@", "stdout_visibility": "hidden"}' > "$root/results/results.json"
fi
exit 0
"""


def build_autograder(out: Path, root: Path = REPOSITORY) -> Path:
    """Write the zip for Gradescope, of the files that git knows; the same tree gives the same bytes.

    Raises:
        ReleaseError: git does not know the files.
        OSError: it cannot be written.
    """
    files = {
        file: (root / file).read_bytes()
        for file in tracked(root)
        if file.startswith(SOURCES) and not file.startswith(STAFF)
    }
    files["requirements.txt"] = "\n".join([*requirements(root / "setup.cfg"), ""]).encode()
    files["setup.sh"] = SETUP.encode()
    files["run_autograder"] = RUN.replace("@BROKEN@", BROKEN).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED  # 3: Unix, or there are no modes
            entry.external_attr = (0o100755 if name in ("setup.sh", "run_autograder") else 0o100644) << 16
            archive.writestr(entry, content)
    return write_whole(out, buffer.getbuffer())


def requirements(setup: Path) -> list[str]:
    """What has to be installed to grade, from setup.cfg."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(setup.read_text("utf-8"))
    wanted = settings["options"]["install_requires"].split("\n")
    extra = settings["options.extras_require"]["dev"].split("\n")
    wanted += [each for each in extra if re.match(r"[\w-]*", each)[0] in FOR_TESTS]
    return [each.strip() for each in wanted if each.strip() and not each.strip().startswith("#")]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m staff.grading.gradescope", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--root", type=Path, help="grade the submission in this folder, on Gradescope /autograder")
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
