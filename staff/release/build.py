"""From the solution to the repository that students get: `python -m staff release OUT`.

`contents` makes it in memory, `Checks` tries it both ways in temporary folders, and only then `write` puts it in its
place.
The same tree gives the same bytes.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from course import rubric as rubrics
from course.files import write_whole
from course.flags import REPOSITORY
from course.rubric import Rubric
from staff.release.markers import MarkerError, Region, regions, solution_lines, template, without_staff
from staff.release.suites import GradedTest, disagreements, graded_tests, not_written, suites

MANIFEST = ".release.json"
STUDENTS = "template/"  # what only students have
RELEASED = (  # beside the folders of the parts
    "course/",
    "tests/",
    "conftest.py",
    ".gitignore",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "environment.yml",
    "pyproject.toml",
    "setup.cfg",
)
PICTURE = re.compile(r"\]\((?:\.\./)?(docs/[\w./-]+\.png)\)")
LONG = 25  # a solution's line of so many characters must not stand within another line either
Files = dict[str, bytes]


class ReleaseError(Exception):
    """It cannot be released; the message says why, with a line for each reason."""


@dataclass(frozen=True)
class Course:
    """All that has to agree: the rubric, the blanks of the parts, the graded tests, and the files they are in."""

    rubric: Rubric
    blanks: list[Region]
    tests: list[GradedTest]
    sources: dict[str, str]  # the files with blanks

    def questions(self) -> list[str]:
        """Those with blanks, in the rubric's order."""
        return [question for question in self.rubric.questions if question in {blank.question for blank in self.blanks}]


def read_course(root: Path = REPOSITORY) -> Course:
    """Read and compare them.

    Raises:
        ReleaseError: something is wrong or does not agree: a line for each, with file and line.
    """
    try:
        rubric = rubrics.read(root / "course" / "rubric.toml")
        blanks, sources = [], {}
        for part in rubric.parts.values():
            for path in sorted((root / part.folder).rglob("*.py")):
                file, text = path.relative_to(root).as_posix(), path.read_text("utf-8")
                if found := regions(text, file):
                    blanks += found
                    sources[file] = text
        tests = [
            test
            for path in suites(root)
            for test in graded_tests(path.read_text("utf-8"), path.relative_to(root).as_posix())
        ]
        problems = disagreements(rubric, blanks, tests) + not_written(rubric, root)
    except (rubrics.RubricError, MarkerError) as error:
        raise ReleaseError(str(error)) from error
    if problems:
        raise ReleaseError("\n".join(problems))
    return Course(rubric, blanks, tests, sources)


# --- what is in it ----------------------------------------------------------------------------------------------------


def contents(course: Course, edition: str, filled: Collection[str] = (), root: Path = REPOSITORY) -> Files:
    """The students' repository: path -> bytes.

    Args:
        edition: stamped where the files of template/ say @EDITION@.
        filled: questions whose blanks keep the solution.

    Raises:
        ReleaseError: git does not know the files, or a mark is wrong.
    """
    files: Files = {}
    released = (*(f"{part.folder}/" for part in course.rubric.parts.values()), *RELEASED)
    for file in tracked(root):
        if file.startswith(STUDENTS):
            text = (root / file).read_text("utf-8")
            files[file.removeprefix(STUDENTS)] = text.replace("@EDITION@", edition).encode()
        elif file.startswith(released):
            files[file] = _for_students(root / file, file, course, filled)
    for readme in [content for file, content in files.items() if file.endswith(".md")]:
        for picture in PICTURE.findall(readme.decode()):
            files[picture] = (root / picture).read_bytes()
    files["answers.md"] = _answers(course.rubric).encode()
    manifest = {"edition": edition, "files": {file: _sha256(files[file]) for file in sorted(files)}}
    files[MANIFEST] = json.dumps(manifest, indent=1).encode() + b"\n"
    return dict(sorted(files.items()))


def tracked(root: Path) -> list[str]:
    """The files that git knows, so that nothing that happens to lie about is released."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ReleaseError(f"{root}: a release is made of the files that git knows; git ls-files failed") from error
    return sorted(file for file in listed.stdout.split("\0") if (root / file).is_file())


def _for_students(path: Path, file: str, course: Course, filled: Collection[str]) -> bytes:
    try:
        if file in course.sources:
            return template(course.sources[file], file, filled).encode()
        if not file.endswith(".png"):
            return without_staff(path.read_text("utf-8"), file).encode()
        return path.read_bytes()
    except MarkerError as error:
        raise ReleaseError(str(error)) from error


def _answers(rubric: Rubric) -> str:
    """A form for the written answers, a heading for each question that a person judges."""
    lines = ["# Answers", "", "Write below each heading. Figures of a run can be shown by their path in `logs/`."]
    for question in rubric.questions.values():
        if question.manual:
            points = f"{question.points:g} point{'s' if question.points != 1 else ''}"
            lines += ["", f"## Q{question.id} ({points})", "", f"*{question.title}.*", ""]
    return "\n".join(lines) + "\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- does it do what it should? ---------------------------------------------------------------------------------------


class Checks:
    """The release tried before it is written.

    Args:
        say: gets a line for each check that begins.
    """

    def __init__(self, course: Course, edition: str, say: Callable[[str], None], root: Path = REPOSITORY):
        self.course, self.edition, self.say, self.root = course, edition, say, root

    def run(self) -> None:
        """All of them.

        Raises:
            ReleaseError: what is wrong, a line for each.
        """
        problems = leaks(contents(self.course, self.edition, root=self.root), self.course)
        fillings: list[tuple[str, ...]] = [(), *((question,) for question in self.course.questions())]
        fillings += sorted({(test.question, *test.needs) for test in self.course.tests if test.needs})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = [
                pool.submit(self.solution_earns_everything),
                *(pool.submit(self.filled, each) for each in fillings),
            ]
            for each in found:
                problems += each.result()
        if problems:
            raise ReleaseError("\n".join(problems))

    def solution_earns_everything(self) -> list[str]:
        self.say("the solution, with the hidden tests: does it earn every automatic point?")
        outcomes = self._judge(self.root)
        lost = [test for test in self.course.tests if outcomes.get(test.name, {}).get("outcome") != "passed"]
        return [f"{test.file}:{test.first}: the solution does not pass {test.name}" for test in lost]

    def filled(self, questions: tuple[str, ...]) -> list[str]:
        """With the blanks of these questions filled in exactly their tests pass; the others say which blank is met."""
        named = " and ".join(f"Q{question}" for question in questions) or "no question"
        self.say(f"the template with {named} filled in: do exactly the right tests pass?")
        with tempfile.TemporaryDirectory() as folder:
            for file, content in contents(self.course, self.edition, questions, self.root).items():
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
        """Run the graded suites that lie in a folder: name of the test -> its entry in --points-json."""
        with tempfile.TemporaryDirectory() as results:
            report = Path(results) / "points.json"
            files = [path.relative_to(folder).as_posix() for path in suites(folder)]
            pytest = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--points-json={report}"]
            ended = subprocess.run([*pytest, *files], cwd=folder, env=_environment(), capture_output=True, text=True)
            if ended.returncode not in (0, 1) or not report.exists():
                raise ReleaseError(f"the graded suites cannot be run:\n{(ended.stdout + ended.stderr)[-3000:]}")
            return {test["name"]: test for test in json.loads(report.read_text())["tests"]}

    def _imports(self, folder: Path) -> list[str]:
        """Each module of the template can be imported."""
        modules = [
            ".".join(path.relative_to(folder).with_suffix("").parts)
            for path in sorted(folder.glob("*/*.py"))
            if path.parent.name != "tests" and path.name != "__init__.py"
        ]
        code = "\n".join(f"import {module}" for module in modules)
        ended = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=folder, env=_environment(), capture_output=True, text=True
        )
        return [f"the template cannot be imported:\n{ended.stderr[-3000:]}"] if ended.returncode else []


def _environment() -> dict[str, str]:
    """Small tensors: more threads only wait for each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


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


def leaks(files: Files, course: Course) -> list[str]:
    """Lines of the solution that stand in these files: "file:line: ..."."""
    solution = {line: file for file, text in course.sources.items() for line in solution_lines(text, file)}
    long = [line for line in solution if len(line) >= LONG]
    found = []
    for file, content in files.items():
        if file.endswith(".png"):
            continue
        if file.endswith((".pyc", ".pyo", ".so")) or b"\0" in content:
            found.append(f"{file}: is compiled, or no text: what is in it cannot be seen")
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            for wanted in [line.strip()] if line.strip() in solution else [each for each in long if each in line]:
                found.append(f"{file}:{number}: a line of the solution ({solution[wanted]}): {wanted}")
    return found


# --- put it in place ------------------------------------------------------------------------------------------------


def write(files: Files, out: Path, course: Course) -> None:
    """Write the release; in a folder with an earlier one, replace that and leave alone what is not of it.

    Raises:
        ReleaseError: the folder has something else in it, a file of the earlier release was changed since, or the
            solution can be found in what is there, in git's history too.
        OSError: it cannot be written.
    """
    refuse_unless_free(out)
    earlier = _earlier(out)
    others = {file: (out / file).read_bytes() for file in _present(out) if file not in earlier and file not in files}
    if found := leaks(others, course) + leaks(dict(_history(out)), course):
        raise ReleaseError("\n".join(found))
    for file in earlier.keys() - files.keys():
        (out / file).unlink(missing_ok=True)
    manifest = files[MANIFEST]
    for file, content in files.items():
        if file != MANIFEST:
            write_whole(out / file, content)
    write_whole(out / MANIFEST, manifest)  # last: a folder with it is a release


def refuse_unless_free(out: Path) -> None:
    """Say so at once if `write` would not write there, before the checks take minutes.

    Raises:
        ReleaseError: see `write`.
    """
    for file, sha256 in _earlier(out).items():
        if (out / file).exists() and _sha256((out / file).read_bytes()) != sha256:
            raise ReleaseError(f"{out / file}: was changed since the earlier release; move it away, then release again")


def _earlier(out: Path) -> dict[str, str]:
    """The files of the release that is there, and their sums; none if the folder is empty or missing."""
    if not out.exists() or not any(out.iterdir()):
        return {}
    try:
        return json.loads((out / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{out}: is not empty, and no earlier release ({MANIFEST} is missing or damaged)") from error


def _present(out: Path) -> Iterator[str]:
    for path in sorted(out.rglob("*")):
        file = path.relative_to(out).as_posix()
        if path.is_file() and not file.startswith(".git/"):
            yield file


def _history(out: Path) -> Iterator[tuple[str, bytes]]:
    """Each text that git keeps in the folder, of all branches: "git object" -> bytes."""
    if not (out / ".git").exists():
        return
    git = ["git", "-C", str(out)]
    listed = subprocess.run([*git, "rev-list", "--all", "--objects"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        name, _, path = line.partition(" ")
        kind = subprocess.run([*git, "cat-file", "-t", name], capture_output=True, text=True, check=True).stdout.strip()
        if kind == "blob" and not path.endswith(".png"):
            yield (
                f"git history, {path}",
                subprocess.run([*git, "cat-file", "blob", name], capture_output=True, check=True).stdout,
            )
