"""Check a release before it is written: the solution earns all points, and an open blank costs only its own points."""

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
from staff.release.outcomes import Wrong, describe, find_wrong, summarize
from staff.release.solutions import find_solutions
from staff.release.suites import suites


class Checks:
    """The checks of a release.

    Args:
        say: called with a line of text at the start of each check.
        answers: see `build.contents`; if None, the tests call the oracles in the tree at `root`.
    """

    def __init__(
        self,
        course: Course,
        year: str,
        say: Callable[[str], None],
        root: Path = REPOSITORY,
        answers: bytes | None = None,
    ):
        self.course, self.year, self.say, self.root, self.answers = course, year, say, root, answers

    def run(self) -> None:
        """Run all checks.

        Raises:
            ReleaseError: a check failed; the message has a line for each problem.
        """
        files = contents(self.course, self.year, root=self.root, answers=self.answers)
        problems = find_leaks(files, self.course) + find_solutions(files)
        fillings: list[tuple[str, ...]] = [(), *((question,) for question in self.course.questions())]
        fillings += sorted({(test.question, *test.needs) for test in self.course.tests if test.needs})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            solution = pool.submit(self.solution_earns_everything)
            templates = [pool.submit(self.filled, questions) for questions in fillings]
            problems += solution.result()
            found = [template.result() for template in templates]
        problems += [problem for others, _ in found for problem in others]
        problems += summarize(wrong for _, outcomes in found for wrong in outcomes)
        if problems:
            raise ReleaseError("\n".join(problems))

    def solution_earns_everything(self) -> list[str]:
        """Check that the solution passes every graded test, including the hidden ones."""
        self.say("the solution, with the hidden tests: does it earn every automatic point?")
        outcomes = self._judge(self.root)
        lost = [test for test in self.course.tests if outcomes.get(test.name, {}).get("outcome") != "passed"]
        return [f"{test.file}:{test.first}: the solution does not pass {test.name}" for test in lost]

    def filled(self, questions: tuple[str, ...]) -> tuple[list[str], list[Wrong]]:
        """Check that, with these questions' blanks filled in, only their tests pass and the others name a blank."""
        self.say(f"the template with {describe(questions)} filled in: do exactly the right tests pass?")
        with tempfile.TemporaryDirectory() as folder:
            for file, content in contents(self.course, self.year, questions, self.root, self.answers).items():
                write_whole(Path(folder) / file, content)
            outcomes = self._judge(Path(folder))
            problems = [] if questions else self._imports(Path(folder))
        hidden = [test for test in self.course.tests if test.hidden and test.name in outcomes]
        problems += [f"{test.file}:{test.first}: {test.name} is hidden but in the template" for test in hidden]
        public = [test for test in self.course.tests if not test.hidden]
        found = [find_wrong(test, outcomes.get(test.name), questions) for test in public]
        return problems, [wrong for wrong in found if wrong]

    def _judge(self, folder: Path) -> dict[str, dict]:
        """Run the graded suites in a folder and return test name -> entry in --points-json."""
        with tempfile.TemporaryDirectory() as results:
            report = Path(results) / "points.json"
            known = {test.file for test in self.course.tests}
            files = [path.relative_to(folder).as_posix() for path in suites(folder)]
            files = [file for file in files if file in known]
            pytest = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--points-json={report}"]
            ended = subprocess.run(
                [*pytest, *files], cwd=folder, env=self._environment(), capture_output=True, text=True
            )
            if ended.returncode not in (0, 1) or not report.exists():
                raise ReleaseError(f"the graded suites cannot be run:\n{(ended.stdout + ended.stderr)[-3000:]}")
            return {test["name"]: test for test in json.loads(report.read_text())["tests"]}

    def _imports(self, folder: Path) -> list[str]:
        """Check that each module of the template's packages can be imported."""
        packages = [path.parent for path in sorted(folder.glob("*/__init__.py"))]
        modules = [path.relative_to(folder) for package in packages for path in sorted(package.rglob("*.py"))]
        names = [".".join(path.with_suffix("").parts) for path in modules if not path.stem.startswith("__")]
        code = "\n".join(f"import {name}" for name in names)
        ended = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=folder, env=self._environment(), capture_output=True, text=True
        )
        return [f"the template cannot be imported:\n{ended.stderr[-3000:]}"] if ended.returncode else []

    def _environment(self) -> dict[str, str]:
        oracles = {} if self.answers else {"PYTHONPATH": str(self.root)}
        return {**os.environ, "OMP_NUM_THREADS": "1", **oracles}  # with small tensors, more threads are slower
