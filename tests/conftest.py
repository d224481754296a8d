"""Points: a graded test carries `@pytest.mark.question("1.7", points=1)`; a run ends with a table of what it earned."""

import hashlib
import json
from pathlib import Path
from random import SystemRandom

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, help="seed of the random inputs (default: a fresh one, printed at the top)")
    parser.addoption("--question", metavar="ID", help="run the graded tests of one question only, e.g. 1.7")
    parser.addoption("--points-json", metavar="FILE", help="write the points of each question to FILE")


def pytest_configure(config):
    if config.getoption("--seed") is None:
        config.option.seed = SystemRandom().randrange(2**31)


def pytest_report_header(config):
    return f"inputs drawn with --seed {config.getoption('--seed')}"


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--question")
    if wanted is None:
        return
    markers = {item: item.get_closest_marker("question") for item in items}
    chosen = [item for item, marker in markers.items() if marker and marker.args[0] == wanted]
    if not chosen:
        known = sorted({marker.args[0] for marker in markers.values() if marker})
        raise pytest.UsageError(f"--question {wanted}: no graded test; there are tests for {', '.join(known)}")
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _seed(request, what: str) -> int:
    """A seed that is a function of `--seed` and the test, whichever others run. (Generators take 32 bits of it.)"""
    text = f"{request.config.getoption('--seed')}/{request.node.name}/{what}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


@pytest.fixture
def rng(request) -> torch.Generator:
    """For the random inputs of a test."""
    return torch.Generator().manual_seed(_seed(request, "inputs"))


@pytest.fixture(autouse=True)
def seeded(request):
    """The noise that the code under test draws comes from `--seed` too."""
    torch.manual_seed(_seed(request, "noise"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    marker = item.get_closest_marker("question")
    if marker:
        report.question = (marker.args[0], marker.kwargs["points"])


def pytest_terminal_summary(terminalreporter):
    points = _points(terminalreporter.stats)
    file = terminalreporter.config.getoption("--points-json")
    if file:
        Path(file).write_text(json.dumps(points, indent=2) + "\n")
    if not points:
        return
    terminalreporter.section("points for the automatic part")
    for question, row in points.items():
        lacks = f"  missing: {', '.join(row['missing'])}" if row["missing"] else ""
        terminalreporter.line(f"Q{question:5} {row['earned']:5g} of {row['worth']:<5g}{lacks}")
    earned, worth = (sum(row[key] for row in points.values()) for key in ("earned", "worth"))
    terminalreporter.line(f"sum    {earned:5g} of {worth:<5g}")


def _points(stats: dict) -> dict[str, dict]:
    """Question -> points earned, points that the tests which ran are worth, names of the tests that did not pass."""
    points: dict[str, dict] = {}
    lost = set()  # a test can fail and its tear-down too
    for outcome in ("failed", "error", "skipped", "xfailed", "xpassed", "passed"):
        for report in stats.get(outcome, []):
            if not hasattr(report, "question") or report.nodeid in lost:
                continue
            if outcome == "passed" and report.when != "call":
                continue
            question, worth = report.question
            row = points.setdefault(question, {"earned": 0, "worth": 0, "missing": []})
            row["worth"] += worth
            if outcome == "passed":
                row["earned"] += worth
            else:
                lost.add(report.nodeid)
                row["missing"].append(report.nodeid.rsplit("::", 1)[-1])
    return dict(sorted(points.items()))
