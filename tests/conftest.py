"""Points: a graded test carries `@pytest.mark.question("1.7", points=1)`; a run ends with a table of what it earned."""

from collections import defaultdict
from random import SystemRandom

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, help="seed of the random inputs (default: a fresh one, printed at the top)")


def pytest_configure(config):
    if config.getoption("--seed") is None:
        config.option.seed = SystemRandom().randrange(2**31)


def pytest_report_header(config):
    return f"inputs drawn with --seed {config.getoption('--seed')}"


@pytest.fixture
def rng(request) -> torch.Generator:
    """Random inputs: from `--seed`, the same for a test whichever others run."""
    name = sum(byte * 131**i for i, byte in enumerate(request.node.nodeid.encode()[-40:])) % 2**31
    return torch.Generator().manual_seed(request.config.getoption("--seed") * 2**31 + name)


@pytest.fixture(autouse=True)
def seeded(request):
    """The noise that the code under test draws also comes from `--seed`."""
    torch.manual_seed(request.config.getoption("--seed"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    marker = item.get_closest_marker("question")
    if marker:
        report.question = (marker.args[0], marker.kwargs["points"])


def pytest_terminal_summary(terminalreporter):
    worth, earned, missing = defaultdict(float), defaultdict(float), defaultdict(list)
    failed = set()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if not hasattr(report, "question") or report.nodeid in failed:
                continue
            question, points = report.question
            if outcome == "passed" and report.when == "call":
                worth[question] += points
                earned[question] += points
            elif outcome != "passed":
                failed.add(report.nodeid)
                worth[question] += points
                missing[question].append(report.nodeid.rsplit("::", 1)[-1])
    if not worth:
        return
    terminalreporter.section("points for the automatic part")
    for question in sorted(worth):
        lacks = f"  missing: {', '.join(missing[question])}" if missing[question] else ""
        terminalreporter.line(f"Q{question:5} {earned[question]:5g} of {worth[question]:<5g}{lacks}")
    terminalreporter.line(f"sum    {sum(earned.values()):5g} of {sum(worth.values()):<5g}")
