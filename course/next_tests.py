"""A pytest plugin for `python -m course next`: runs the graded tests up to the first question with a failing test.

Each event is appended to a file as a line of JSON while the tests run: {"starts": name, "question": "1.7"}, then
{"ends": name, "question": "1.7", "passed": false, "message": ..., "reached": [[file, function], ...]}.
"""

import json
import sys
from pathlib import Path

import pytest

from course import rubric


def pytest_addoption(parser):
    parser.addoption("--events", metavar="FILE", required=True, help="the file to write the events to")


def pytest_configure(config):
    events = Events(Path(config.getoption("--events")), config.rootpath)
    config.pluginmanager.register(events, "events of the graded tests")


class Events:
    """Writes the events, and skips the questions after the first one with a failing test.

    Args:
        file: the file to write to.
        root: the repository; calls to functions in its files are recorded.
    """

    def __init__(self, file: Path, root: Path):
        self.file, self.root = file, root
        self.order = list(rubric.read().questions)
        self.failed: str | None = None  # the first question with a failing test
        self.reached: set[tuple[str, str]] = set()

    def write(self, **event) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        graded = [item for item in items if _question(item) in self.order]
        items[:] = sorted(graded, key=lambda item: self.order.index(_question(item)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        if self.failed and _question(item) != self.failed:
            return True  # skip this test
        self.reached = set()
        self.write(starts=item.name, question=_question(item))
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self):
        sys.settrace(self._note)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    def _note(self, frame, event, argument) -> None:
        """Record a function call, without tracing the function's lines."""
        file = frame.f_code.co_filename
        if file.startswith(str(self.root)):
            self.reached.add((Path(file).relative_to(self.root).as_posix(), frame.f_code.co_qualname))

    def pytest_runtest_logreport(self, report):
        graded = getattr(report, "graded", None)
        if graded is None or (report.passed and report.when != "call"):
            return
        self.failed = self.failed if report.passed else graded["question"]
        event = {"ends": graded["name"], "question": graded["question"], "passed": report.passed}
        self.write(**event, message=graded.get("message"), reached=sorted(self.reached))


def _question(item) -> str | None:
    marker = item.get_closest_marker("question")
    return marker.args[0] if marker else None
