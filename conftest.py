"""Count points: graded tests are marked `@pytest.mark.question("1.7", points=1)`; a run ends with a table of points.

`needs=["2.4", "KLD"]` in the marker lists the blanks that must be filled in before the test can pass: all blanks of a
question, or the blanks in a function that belong to the test's own question or an earlier one.
"""

import atexit
import functools
import gc
import hashlib
import itertools
import json
import math
import re
import traceback
from pathlib import Path
from random import SystemRandom

import pytest

HIDDEN = "hidden"  # the folder with the tests that only graders have
ANSWERS = Path(__file__).parent / "tests" / "answers.npz"  # only in the students' repository
NOT_THE_SUBMISSION = {"tests", "course", "staff"}  # folders next to the parts
MOST_CHARACTERS = 1000  # maximum length of an exception's message
HINTS = {  # text in an exception's message -> possible cause
    "backward through the graph a second time": "is z detached before the discriminator's step?",
    "grad can be implicitly created only for scalar": "the loss should be one number: the mean over the batch?",
    "does not require grad": "there is nothing to differentiate: is something detached?",
    "modified by an inplace operation": "a tensor that the gradient needs is modified in place",
    "contains either `inf`, `nan` or element < 0": "these are not probabilities: is a softmax missing?",
    "is not on the expected device": "the test uses the meta device: is a tensor created without device=...?",
    "'NoneType' object": "a function returns None: is a `return` missing?",
    "got NoneType": "a function returns None: is a `return` missing?",
}


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, help="seed for random inputs (default: chosen at random and printed)")
    parser.addoption("--question", metavar="ID", help="run only the graded tests of one question, e.g. 1.7")
    parser.addoption("--points-json", metavar="FILE", help="write the points of each question and test to FILE")


def pytest_configure(config):
    if not __debug__:
        raise pytest.UsageError(
            "Python is running without asserts, so every test would pass: unset PYTHONOPTIMIZE and do not use -O"
        )
    _check_points_json(config.getoption("--points-json"))
    gc.disable()  # imported objects are never freed, and searching them for garbage would take a second
    seeds, seed = _seeds(), config.getoption("--seed")
    if seed is None:
        config.option.seed = SystemRandom().randrange(seeds)
    elif not 0 <= seed < seeds:
        why = "; expected values are recorded only for these seeds" if ANSWERS.exists() else ""
        raise pytest.UsageError(f"--seed {seed}: the seed must be from 0 to {seeds - 1}{why}")


@functools.cache
def _oracles():
    """Return the source of expected values: the oracles or, in the students' repository, the recorded values."""
    if ANSWERS.exists():
        from answers import Recorded

        return Recorded(ANSWERS)
    try:
        from staff import oracles  # pyright: ignore[reportMissingImports] (students have the recorded values)
    except ImportError:
        raise FileNotFoundError(f"{ANSWERS} is missing: restore it from the template") from None
    return oracles


def _seeds() -> int:
    """Return the number of valid seeds; in the students' repository, only those with recorded values."""
    return _oracles().seeds if ANSWERS.exists() else 2**31


def pytest_collection_finish(session):
    gc.freeze()  # never search these objects, even at the end, when pytest collects garbage five times
    atexit.register(gc.unfreeze)  # libraries warn about objects that still exist when Python exits
    gc.enable()


def pytest_report_header(config):
    return f"inputs drawn with --seed {config.getoption('--seed')}"


@pytest.hookimpl(tryfirst=True)  # before -m is evaluated
def pytest_collection_modifyitems(config, items):
    graded = {item: row for item in items if (row := _graded(item))}
    for item, row in graded.items():
        item.add_marker(f"part{row['question'][0]}")
    if config.getoption("--question") is None:
        return
    wanted = config.getoption("--question").lstrip("Qq")
    chosen = [item for item, row in graded.items() if row["question"] == wanted]
    if not chosen:
        known = sorted({row["question"] for row in graded.values()})
        raise pytest.UsageError(f"--question {wanted}: no graded tests; there are tests for {', '.join(known)}")
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _graded(item) -> dict | None:
    """Return the contents of a graded test's marker and the test's name; None for other tests."""
    marker = item.get_closest_marker("question")
    if marker is None:
        return None
    (question,), points = marker.args, marker.kwargs.get("points", 0)
    if not re.fullmatch(r"[1-9]\.\d+", question) or not 0 < points < math.inf:
        raise pytest.UsageError(f"{item.nodeid}: question {question!r} with {points} points")
    row = {"name": item.name, "question": question, "points": points, "hidden": item.path.parent.name == HIDDEN}
    return row | {"needs": [name for name in marker.kwargs.get("needs", ()) if not name[0].isdigit()]}


def _seed(request, what: str) -> int:
    """Return a 32-bit seed that depends on `--seed`, the test and `what`, but not on other tests."""
    text = f"{request.config.getoption('--seed')}/{request.node.name}/{what}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


@pytest.fixture
def rng(request):
    """Return the random number generator for a test's inputs, the same on every platform; see tests/inputs.py."""
    import numpy as np  # imported here: not every process that loads this file needs it

    return np.random.RandomState(_seed(request, "inputs"))


@pytest.fixture
def expected(request):
    """Return a function for expected values: `expected("kld", mean=mean, log_std=log_std)`; see tests/answers.py."""
    seed, number = request.config.getoption("--seed"), itertools.count()
    return lambda oracle, **inputs: _oracles().answer(seed, request.node.name, next(number), oracle, inputs)


@pytest.fixture(autouse=True)
def seeded(request):
    """Seed PyTorch's random number generator, which the code under test uses; the seed depends on `--seed`."""
    import torch

    torch.default_generator.manual_seed(_seed(request, "noise"))  # torch.manual_seed would look for GPUs


# --- messages of failures ---------------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.graded = _graded(item)
    if report.graded and report.skipped:
        report.graded |= {"message": f"skipped: {call.excinfo.value}"}
    if report.graded and report.failed:
        error = call.excinfo.value
        report.longrepr = explain(error, item.config.rootpath)
        report.graded |= {"message": report.longrepr, "error": _kind(error)}


def _kind(error: BaseException) -> str:
    """Return the name of the exception's class, or of the original class if the exception is from another process."""
    return getattr(error, "kind", type(error).__name__)


def explain(error: BaseException, root: Path) -> str:
    """Return the message for students: a sentence and, for an exception, the traceback's lines in their files."""
    places = getattr(error, "places", None)
    if places is None:
        places = _places(error, root)
    text = str(error)
    blank = re.match(r"Q(\d+\.\d+): ", text) if _kind(error) == "NotImplementedError" else None
    if _kind(error) == "Unfinished" or isinstance(error, AssertionError) and not places:
        return text  # a message from the grader or from the test itself
    if blank:
        return "\n".join([f"Q{blank[1]} is not filled in yet: {text[blank.end() :]}", *places[-1:]])
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}..."
    raised = f"{_kind(error)}: {text}"
    raised += "".join(f"\n{hint}" for known, hint in HINTS.items() if known in text)
    if places:
        return "\n".join([f"the code raises an exception: {raised}", *places[-5:]])
    steps = traceback.extract_tb(error.__traceback__)
    called = [(Path(step.filename), step.name) for step in steps]
    called = [f"{file.stem}.{name}" for file, name in called if file.parent.name == "adapters"]
    called += [error.called] if hasattr(error, "called") else []
    of = " by {2} in tests/adapters/{0}.py".format(*called[0].partition(".")) if called else ""
    return f"the return value cannot be used{of}: does it match the docstring?\n{raised}"


def _places(error: BaseException, root: Path) -> list[str]:
    """Return `part1_vae/utils.py:31, in KLD: return ...` for each stack frame in the submission's files."""
    steps = [(step.filename, step.lineno, step.name, step.line) for step in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        steps.append((error.filename, error.lineno, "<module>", (error.text or "").strip()))
    places = []
    for file, line, function, source in steps:
        path = Path(file or "")
        if not path.is_relative_to(root) or "site-packages" in path.parts:
            continue
        path = path.relative_to(root)
        if path.parts[0] not in NOT_THE_SUBMISSION:
            places.append(f"{path.as_posix()}:{line}, in {function}: {source}")
    return places


# --- points -----------------------------------------------------------------------------------------------------------


def _check_points_json(file: str | None) -> None:
    """Check before the tests run that FILE can be written.

    Raises:
        pytest.UsageError: FILE cannot be written; the message says why.
    """
    if file is None:
        return
    if Path(file).is_dir():
        raise pytest.UsageError(f"--points-json {file}: is a folder, not a file")
    if not Path(file).parent.is_dir():
        raise pytest.UsageError(f"--points-json {file}: there is no folder {Path(file).parent}; create it")


def pytest_sessionfinish(session):
    """Say what to fix first, and write the points to --points-json; pytest prints the terminal summary afterwards."""
    config, reporter = session.config, session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    _say_what_comes_first(reporter.stats, config.rootpath)
    file = config.getoption("points_json")
    if not file:
        return
    tests = [{key: value for key, value in test.items() if key != "needs"} for test in _tests(reporter.stats)]
    content = {"seed": config.getoption("--seed"), "questions": _points(tests), "tests": tests}
    temporary = Path(f"{file}.part")
    try:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
        temporary.replace(file)  # atomically, so that FILE is never incomplete
    except OSError as error:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        reporter.ensure_newline()
        reporter.line(f"ERROR: --points-json {file}: cannot be written: {error.strerror}", red=True)


def _say_what_comes_first(stats: dict, root: Path) -> None:
    """Put the blank to fix first at the start of a test's message, if a test of that blank fails as well."""
    failed = [report for report in stats.get("failed", []) if getattr(report, "graded", None)]
    if not failed:
        return
    from course import prerequisites  # imported here: not every process that loads this file has failures to explain

    lines = prerequisites.first_lines(_tests(stats), root)
    for report in failed:
        if line := lines.get(report.graded["name"]):
            report.longrepr = report.graded["message"] = f"{line}\n{report.graded['message']}"


def pytest_terminal_summary(terminalreporter, config):
    points = _points(_tests(terminalreporter.stats))
    if not points:
        return
    from course import graded  # imported here: not every process that loads this file has a table to print

    terminalreporter.section("points for the automatic part")
    for question, row in points.items():
        lacks = f"  missing: {', '.join(row['missing'])}" if row["missing"] else ""
        terminalreporter.line(f"Q{question:5} {row['earned']:5g} of {row['worth']:<5g}{lacks}")
    earned, worth = (sum(row[key] for row in points.values()) for key in ("earned", "worth"))
    terminalreporter.line(f"sum    {earned:5g} of {worth:<5g}")
    ran = {question: row["worth"] for question, row in points.items()}
    if more := graded.not_counted(ran, config.rootpath):
        terminalreporter.line(more)


def pytest_unconfigure(config):
    """Print the last line, below pytest's summary."""
    gc.enable()
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    tests = _tests(reporter.stats) if reporter and not reporter.no_summary else []
    if tests and not hasattr(config, "workerinput"):
        from course import graded

        reporter.ensure_newline()
        reporter.line(graded.next_line(tests, config.rootpath))


def _tests(stats: dict) -> list[dict]:
    """Return each graded test that ran: its marker, its outcome, and the message and exception of a failure."""
    tests: dict[str, dict] = {}
    for outcome in ("failed", "error", "skipped", "xfailed", "xpassed", "passed"):
        for report in stats.get(outcome, []):
            row = getattr(report, "graded", None)
            if row is None or report.nodeid in tests:  # a test and its teardown can both fail
                continue
            if outcome == "passed" and report.when != "call":
                continue
            tests[report.nodeid] = {**row, "outcome": outcome} | {
                "message": row.get("message"),
                "error": row.get("error"),
            }
    return [tests[nodeid] for nodeid in sorted(tests, key=lambda nodeid: (tests[nodeid]["hidden"], nodeid))]


def _points(tests: list[dict]) -> dict[str, dict]:
    """Return, per question, the points earned, the points of the tests that ran, and the tests that did not pass."""
    points: dict[str, dict] = {}
    for test in tests:
        row = points.setdefault(test["question"], {"earned": 0, "worth": 0, "missing": []})
        row["worth"] += test["points"]
        if test["outcome"] == "passed":
            row["earned"] += test["points"]
        else:
            row["missing"].append(test["name"])
    return dict(sorted(points.items()))
