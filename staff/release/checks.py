"""Checks of a release before it is written: the solution earns every point, each blank costs exactly its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course.files import write_whole
from course.flags import REPOSITORY
from staff.release.build import Course, ReleaseError, contents
from staff.release.leaks import find_leaks
from staff.release.solutions import find_solutions
from staff.release.suites import GradedTest, suites


class Checks:
    """The checks of a release.

    Args:
        say: called with a line as each check begins.
        answers: see `build.contents`.
    """

    def __init__(
        self,
        course: Course,
        edition: str,
        say: Callable[[str], None],
        root: Path = REPOSITORY,
        answers: bytes | None = None,
    ):
        self.course, self.edition, self.say, self.root, self.answers = course, edition, say, root, answers

    def run(self) -> None:
        """Run all checks.

        Raises:
            ReleaseError: a check failed; the message has a line for each problem.
        """
        files = contents(self.course, self.edition, root=self.root, answers=self.answers)
        problems = find_leaks(files, self.course) + find_solutions(files)
        fillings: list[tuple[str, ...]] = [(), *((question,) for question in self.course.questions())]
        fillings += sorted({(test.question, *test.needs) for test in self.course.tests if test.needs})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            checks = [pool.submit(self.solution_earns_everything)]
            checks += [pool.submit(self.filled, questions) for questions in fillings]
            for check in checks:
                problems += check.result()
        if problems:
            raise ReleaseError("\n".join(problems))

    def solution_earns_everything(self) -> list[str]:
        """The solution passes every graded test, the hidden ones too."""
        self.say("the solution, with the hidden tests: does it earn every automatic point?")
        outcomes = self._judge(self.root)
        lost = [test for test in self.course.tests if outcomes.get(test.name, {}).get("outcome") != "passed"]
        return [f"{test.file}:{test.first}: the solution does not pass {test.name}" for test in lost]

    def filled(self, questions: tuple[str, ...]) -> list[str]:
        """With the blanks of these questions filled in, exactly their tests pass; the others name a blank."""
        named = " and ".join(f"Q{question}" for question in questions) or "no question"
        self.say(f"the template with {named} filled in: do exactly the right tests pass?")
        with tempfile.TemporaryDirectory() as folder:
            for file, content in contents(self.course, self.edition, questions, self.root, self.answers).items():
                write_whole(Path(folder) / file, content)
            outcomes = self._judge(Path(folder))
            problems = [] if questions else self._imports(Path(folder))
        for test in self.course.tests:
            if test.hidden:
                if test.name in outcomes:
                    problems.append(f"{test.file}:{test.first}: {test.name} is hidden, but it is in the template")
                continue
            wanted = {test.question, *test.needs} <= set(questions)
            if problem := _wrong(test, outcomes.get(test.name), wanted):
                problems.append(f"{test.file}:{test.first}: with {named} filled in, {test.name} {problem}")
        return problems

    def _judge(self, folder: Path) -> dict[str, dict]:
        """Run the graded suites in a folder: name of the test -> its entry in --points-json."""
        with tempfile.TemporaryDirectory() as results:
            report = Path(results) / "points.json"
            files = [path.relative_to(folder).as_posix() for path in suites(folder)]
            pytest = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--points-json={report}"]
            ended = subprocess.run([*pytest, *files], cwd=folder, env=_environment(), capture_output=True, text=True)
            if ended.returncode not in (0, 1) or not report.exists():
                raise ReleaseError(f"the graded suites cannot be run:\n{(ended.stdout + ended.stderr)[-3000:]}")
            return {test["name"]: test for test in json.loads(report.read_text())["tests"]}

    def _imports(self, folder: Path) -> list[str]:
        """Each module of the template's packages can be imported."""
        packages = [path.parent for path in sorted(folder.glob("*/__init__.py"))]
        modules = [path.relative_to(folder) for package in packages for path in sorted(package.rglob("*.py"))]
        names = [".".join(path.with_suffix("").parts) for path in modules if not path.stem.startswith("__")]
        code = "\n".join(f"import {name}" for name in names)
        ended = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=folder, env=_environment(), capture_output=True, text=True
        )
        return [f"the template cannot be imported:\n{ended.stderr[-3000:]}"] if ended.returncode else []


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}  # the tests' tensors are small: more threads are slower


def _wrong(test: GradedTest, entry: dict | None, should_pass: bool) -> str | None:
    """What is wrong with the outcome of a test in a template, or None."""
    if entry is None:
        return "does not run"
    if should_pass:
        return None if entry["outcome"] == "passed" else f"does not pass: {entry['message']}"
    if entry["outcome"] != "failed":
        return f"should fail, but it is {entry['outcome']}"
    if entry["error"] != "NotImplementedError":
        return f"should meet a blank, but: {entry['message']}"
    if not any(f"Q{question}" in entry["message"] for question in (test.question, *test.needs)):
        return f"should name its question, but: {entry['message']}"
    return None
