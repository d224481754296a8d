"""Show the next step: `python -m course next`.

This is the first blank, in the order of the parts' READMEs, that is open or has a failing test. Once all tests pass,
the remaining steps are the runs, the written answers and the submission.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from course import blanks, submission
from course.blanks import Blank
from course.command_line import WrongFlag
from course.flags import REPOSITORY
from course.rubric import Part, Rubric, read
from course.tasks import FOR_TESTS

LONG = 30  # seconds after which the name of a running test is printed
MOST_NAMES = 3  # maximum number of test names in a command


class NextError(Exception):
    """The next step cannot be determined; the message says why."""


@dataclass(frozen=True)
class Step:
    """The next step.

    part, question: the step's part and question; the question is None if a file of the part is not valid Python.
    places: the blank to fill in, or the blanks whose code a failing test runs.
    select: the tests of this step, as an expression for pytest's -k; "" for all tests of the question.
    message: the message of a failing test, or what is wrong with a file; "" for an open blank.
    """

    part: Part
    question: str | None
    places: list[Blank] = field(default_factory=list)
    select: str = ""
    message: str = ""


# --- finding the step -------------------------------------------------------------------------------------------------


def find_step(rubric: Rubric, parts: list[Part], root: Path = REPOSITORY) -> Step | None:
    """Run the graded tests up to the first unsolved question; return its step, or None if all tests pass.

    Raises:
        NextError: the tests cannot be run.
    """
    for part in parts:
        print(f"part {part.number}:", end="", flush=True)
        step = _of_part(rubric, part, root)
        print(flush=True)
        if step:
            return step
    return None


def _of_part(rubric: Rubric, part: Part, root: Path, select: str = "") -> Step | None:
    """Find the next step in a part: run the selected tests, or all tests up to the first unsolved question."""
    try:
        places = blanks.in_order(rubric, part, root)
    except (SyntaxError, ValueError) as error:
        where = f"{Path(error.filename).relative_to(root)}, line {error.lineno}: " if _has_place(error, root) else ""
        return Step(part, None, message=f"{where}{getattr(error, 'msg', None) or error}")
    results = []
    for event in _run(part, root, select):
        if event.get("starts"):
            print("" if results and results[-1]["question"] == event["question"] else f" Q{event['question']} ", end="")
        else:
            results.append(event)
            print("." if event["passed"] else "-" if _is_at_blank(event) else "F", end="", flush=True)
    if not results:
        raise NextError(f"tests/test_part{part.number}*.py has no graded tests; restore the files in tests/")
    if select and all(result["passed"] for result in results):
        return None
    return choose(rubric, part, places, results)


def _has_place(error: Exception, root: Path) -> bool:
    return isinstance(error, SyntaxError) and bool(error.filename) and Path(error.filename).is_relative_to(root)


def choose(rubric: Rubric, part: Part, places: list[Blank], results: list[dict]) -> Step | None:
    """Choose the first step of a part, in the first question with an open blank or a failing test.

    Args:
        places: the part's blanks, in the order in which they should be filled in.
        results: the results of the tests: name (`ends`), question, passed, message, and the functions reached.
    """
    for question in rubric.questions:
        own = [blank for blank in places if blank.question == question]
        failed = [result for result in results if result["question"] == question and not result["passed"]]
        steps = []
        for at, blank in enumerate(own):
            if blank.open:
                place = f"{blank.file}:{blank.line}, in"
                stopped = [each["ends"] for each in failed if place in (each["message"] or "")]
                steps.append((at, Step(part, question, [blank], _select(stopped, results))))
        for result in [each for each in failed if not _is_at_blank(each)]:
            ran = [at for at, blank in enumerate(own) if [blank.file, blank.where] in result["reached"]]
            message = result["message"] or "it does not pass"
            step = Step(part, question, [own[at] for at in ran], result["ends"], message)
            steps.append((max(ran, default=-1), step))
        if steps:
            return min(steps, key=lambda step: step[0])[1]
    return None


def _is_at_blank(result: dict) -> bool:
    """Return whether a test stopped at an open blank of its question."""
    return (result["message"] or "").startswith(f"Q{result['question']} is not filled in yet")


def _select(names: list[str], results: list[dict]) -> str:
    """Build an expression for pytest's -k: the common prefix of the names if no other test has it, else the names.

    Return "" if these are all tests of their question, or too many to name.
    """
    asked = {result["question"] for result in results if result["ends"] in names}
    if {result["ends"] for result in results if result["question"] in asked} == {*names}:
        return ""
    words = os.path.commonprefix([name.split("_") for name in names])
    start = "_".join(words)
    if len(words) > 1 and all(result["ends"] in names for result in results if start in result["ends"]):
        return start
    return " or ".join(names) if len(names) <= MOST_NAMES else ""


# --- running the tests ------------------------------------------------------------------------------------------------


def _run(part: Part, root: Path, select: str) -> Iterator[dict]:
    """Run the part's graded tests with pytest; yield the events that `course.next_tests` writes.

    Raises:
        NextError: pytest cannot run the tests, or a test ends the Python process.
    """
    suites = sorted(path.relative_to(root).as_posix() for path in (root / "tests").glob(f"test_part{part.number}*.py"))
    chosen = ["-k", select] if select else []
    with tempfile.TemporaryDirectory() as folder:
        events, output = Path(folder, "events"), Path(folder, "output")
        pytest = [sys.executable, "-m", "pytest", "-p", "course.next_tests", f"--events={events}", "-q"]
        with output.open("wb") as out:
            process = subprocess.Popen(
                [*pytest, "-p", "no:cacheprovider", *chosen, *suites],
                cwd=root,
                env={**os.environ, **FOR_TESTS},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        running = ""
        try:
            for event in _follow(process, events):
                running = event.get("starts", "")
                yield event
        finally:
            process.kill()  # after Ctrl-C
            process.wait()
        if running and process.returncode not in (0, 1):
            raise NextError(f"{running} ended the Python process (status {process.returncode})")
        if process.returncode not in (0, 1, 5):  # 5: no tests
            raise NextError(f"the tests cannot be run:\n{_tail(output)}")


def _follow(process: subprocess.Popen, file: Path) -> Iterator[dict]:
    """Yield the events as they are written; name slow tests, so that the command does not seem to hang."""
    done, begun, told, running = 0, time.monotonic(), False, "the start of the tests"
    while True:
        ended = process.poll() is not None
        lines = file.read_text("utf-8").splitlines(keepends=True)[done:] if file.exists() else []
        for line in [line for line in lines if line.endswith("\n")]:
            event = json.loads(line)
            done, begun, told, running = done + 1, time.monotonic(), False, event.get("starts", running)
            yield event
        if ended:
            return
        if not told and time.monotonic() - begun > LONG:
            print(f"\n{running} has been running for {LONG} seconds; press Ctrl-C to stop it", flush=True)
            told = True
        time.sleep(0.05)


def _tail(output: Path) -> str:
    return "\n".join(output.read_text("utf-8", "replace").strip().splitlines()[-15:])


# --- describing the step ----------------------------------------------------------------------------------------------


def describe(step: Step, hint: bool) -> str:
    """Describe the step in words, with the command that tests it."""
    if step.question is None:
        return f"next: {step.message}\nThis is not valid Python; part {step.part.number} cannot be tested."
    lines = []
    if step.message:
        lines += [f"next: Q{step.question}, {step.select} fails", _indented(step.message)]
        lines += ["The test runs these parts of your code:"] * bool(step.places)
        lines += [f"    {_place(blank)}: {blank.what}" for blank in step.places]
    else:
        (blank,) = step.places
        lines += [f"next: Q{step.question}, {_place(blank)}, has to be filled in", _indented(blank.what)]
    if hint:
        hints = [f"hint: {blank.hint}" for blank in step.places if blank.hint]
        lines += hints or [f"hint: see question {step.question} in the handout"]
    chosen = f" -k {shlex.quote(step.select)}" if step.select else ""
    lines += [f"test: python -m pytest --question {step.question}{chosen}"]
    return "\n".join(lines if hint else [*lines, "hint: python -m course next --hint"])


def _place(blank: Blank) -> str:
    return f"{blank.file}, line {blank.line}, in {blank.where}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def describe_rest(rubric: Rubric, logs: Path, root: Path = REPOSITORY) -> str:
    """Describe the steps after the code: runs, answers, the submission."""
    runs = submission.find_runs(rubric, logs)[1]
    answers = submission.missing_answers(rubric, root)
    lines = ["All graded tests pass."]
    for what, missing in (("runs", runs), ("written answers", answers)):
        if missing:
            lines += [f"next: {what}" if len(lines) == 1 else f"then: {what}", *(f"    {each}" for each in missing)]
    first = "next" if len(lines) == 1 else "then"
    return "\n".join([*lines, f"{first}: python -m course submission, which builds the zip to hand in"])


# --- the command ------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    """Print the next step; with --watch, repeat this after each change to a file."""
    rubric = read()
    numbers = [part.number for part in rubric.with_code]
    if args.part is not None and args.part not in numbers:
        raise WrongFlag(f"--part {args.part}: the parts are {', '.join(map(str, numbers))}")
    changes = _changes(rubric) if args.watch else iter(())
    parts = [part for part in rubric.with_code if args.part in (None, part.number)]
    while step := find_step(rubric, parts):
        print(describe(step, args.hint), flush=True)
        while step:
            if args.watch:
                print(f"waiting for a change in {step.part.folder}/; press Ctrl-C to stop", flush=True)
            if next(changes, None) is None:
                return
            print("\nagain:", end="", flush=True)
            step = _of_part(rubric, step.part, REPOSITORY, step.select)
            print(f"\n{describe(step, args.hint)}" if step else "\nIt passes.", flush=True)
    print(describe_rest(rubric, args.log_dir) if args.part is None else f"All graded tests for part {args.part} pass.")


def _changes(rubric: Rubric) -> Iterator[set]:
    """Yield changes to Python files in the parts as they happen."""
    try:
        import watchfiles
    except ImportError:
        raise WrongFlag("--watch: needs watchfiles: python -m pip install watchfiles") from None
    folders = [folder for part in rubric.with_code if (folder := REPOSITORY / part.folder).is_dir()]
    python = watchfiles.PythonFilter()
    watched = watchfiles.watch(
        *folders, watch_filter=python, rust_timeout=500, yield_on_timeout=True, raise_interrupt=True
    )
    next(watched)  # start watching now, to notice changes during the first tests
    return filter(None, watched)


def add(commands) -> None:
    """Add `next` to the commands."""
    parser = commands.add_parser("next", help="show the next step: a blank, a failing test, a run or an answer")
    parser.add_argument("--hint", action="store_true", help="also print the hint")
    parser.add_argument("--watch", action="store_true", help="test again whenever a Python file of a part changes")
    parser.add_argument("--part", type=int, metavar="N", help="check only this part")
    parser.add_argument("--log_dir", type=Path, default=REPOSITORY / "logs", help="the folder with the runs")
    parser.set_defaults(run=run)
