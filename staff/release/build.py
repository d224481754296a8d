"""Build the students' repository in memory, from the solution and `template/`. The same tree gives the same bytes.

A file's folder decides whether students get it. `staff.release.checks` tests the result; `staff.release.write` saves
it.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from course import rubric as rubrics
from course.flags import REPOSITORY
from course.rubric import Rubric
from staff.release import editions, parts
from staff.release.markers import MarkerError, Region, marks_left, regions, template, without_staff
from staff.release.suites import GradedTest, disagreements, graded_tests, not_written, suites

MANIFEST = ".release.json"
TEMPLATE = "template/"  # files that are only for students
FOLDERS = ("course/", "tests/", "handout/", "theory/", ".vscode/", ".devcontainer/")  # released in full, like the parts
ROOT_FILES = (
    ".gitattributes",
    "LICENSE",
    "Makefile",
    "conftest.py",
    "constraints.txt",
    "environment.yml",
    "pyproject.toml",
    "setup.cfg",
)
ANSWERS = "tests/answers.npz"  # the oracles' recorded answers; students get these instead of the oracles
RUBRIC, LAUNCH = "course/rubric.toml", ".vscode/launch.json"
PICTURE = re.compile(r"\]\((?:\.\./)?(docs/[\w./-]+\.png)\)")
Files = dict[str, bytes]


class ReleaseError(Exception):
    """A release is not possible; the message has a line for each reason."""


@dataclass(frozen=True)
class Course:
    """Everything that must be consistent: the rubric, the parts' blanks, the graded tests, and sources with blanks."""

    rubric: Rubric
    blanks: list[Region]
    tests: list[GradedTest]
    sources: dict[str, str]  # file -> text

    def questions(self) -> list[str]:
        """Return the questions with blanks, in the rubric's order."""
        return [question for question in self.rubric.questions if question in {blank.question for blank in self.blanks}]


def read_course(root: Path = REPOSITORY, part: int | None = None, edition: str | None = None) -> Course:
    """Read the rubric, blanks and graded tests, and check that they agree.

    Args:
        part: read and compare only this part.
        edition: the edition of the assignment (default: the rubric's).

    Raises:
        ReleaseError: they cannot be read, or disagree; the message has a line for each problem, with file and line.
    """
    try:
        rubric = _part_of(rubrics.read(root / RUBRIC, edition), part)
        sources = _sources(rubric, root)
        blanks = [region for file, text in sources.items() for region in regions(text, file)]
        tests = [
            test
            for path in suites(root, part, rubric.edition)
            for test in graded_tests(path.read_text("utf-8"), path.relative_to(root).as_posix())
        ]
        problems = disagreements(rubric, blanks, tests) + parts.missing(rubric, root) + not_written(rubric, root)
    except (rubrics.RubricError, MarkerError) as error:
        raise ReleaseError(str(error)) from error
    if problems:
        raise ReleaseError("\n".join(problems))
    return Course(rubric, blanks, tests, sources)


def _part_of(rubric: Rubric, part: int | None) -> Rubric:
    """Reduce the rubric to one part."""
    if part is None:
        return rubric
    if part not in rubric.parts:
        raise ReleaseError(f"there is no part {part}; the parts are {', '.join(map(str, rubric.parts))}")
    questions = {id: question for id, question in rubric.questions.items() if question.part == part}
    return replace(
        rubric,
        parts={part: rubric.parts[part]},
        questions=questions,
        evidence=[each for each in rubric.evidence if each.question in questions],
        shows=[each for each in rubric.shows if each.question in questions],
        numbers=[each for each in rubric.numbers if each.part == part],
    )


def _sources(rubric: Rubric, root: Path) -> dict[str, str]:
    """Return the parts' Python files that have blanks: path -> text."""
    paths = [path for part in rubric.with_code for path in sorted((root / part.folder).rglob("*.py"))]
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}
    return {file: text for file, text in texts.items() if regions(text, file)}


def contents(
    course: Course,
    year: str,
    filled: Collection[str] = (),
    root: Path = REPOSITORY,
    answers: bytes | None = None,
    extra: Files | None = None,
) -> Files:
    """Return the students' repository for the course's edition: path -> bytes.

    Args:
        year: replaces @YEAR@ in the files of template/; the edition replaces @EDITION@.
        filled: questions whose blanks keep the solution.
        extra: files that were built, such as the handout's PDF.
        answers: the result of `recorded_answers`; without it, the files are complete except for the answers.

    Raises:
        ReleaseError: git cannot list its files, or a marker is wrong or in a file that must not have one.
    """
    files: Files = {}
    for file in filter(lambda file: is_for_students(file, course.rubric), tracked(root)):
        content = _for_students(root / file, file, course, year, filled)
        files[file.removeprefix(TEMPLATE)] = content
    if left := [mark for file, content in files.items() for mark in marks_left(content, file)]:
        raise ReleaseError("\n".join(left))
    for readme in [content for file, content in files.items() if file.endswith(".md")]:
        for picture in PICTURE.findall(readme.decode()):
            files[picture] = (root / picture).read_bytes()
    files.update(extra or {})
    if answers:
        files[ANSWERS] = answers
    files["answers.md"] = _answers(course.rubric).encode()
    sums = {file: sha256(files[file]) for file in sorted(files)}
    manifest = {"edition": course.rubric.edition, "year": year, "files": sums}
    files[MANIFEST] = json.dumps(manifest, indent=1).encode() + b"\n"
    return dict(sorted(files.items()))


def is_for_students(file: str, rubric: Rubric) -> bool:
    """Return whether the students of this edition get a file, given its path in the repository."""
    folders = (*(f"{part.folder}/" for part in rubric.with_code), *FOLDERS, TEMPLATE)
    return (file.startswith(folders) or file in ROOT_FILES) and editions.belongs(file, rubric.edition)


def tracked(root: Path) -> list[str]:
    """Return the files that git tracks, so that no stray file is released."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ReleaseError(f"{root}: a release contains the files that git tracks, but git ls-files failed") from error
    return sorted(file for file in listed.stdout.split("\0") if (root / file).is_file())


def recorded_answers(root: Path = REPOSITORY, edition: str | None = None) -> bytes:
    """Record the oracles' answers to an edition's graded tests, for the students' seeds. This takes a minute.

    Raises:
        ReleaseError: the solution fails a graded test.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "answers.npz")
        ended = subprocess.run(
            [sys.executable, "-B", "-m", "staff.oracles.record", file, *filter(None, [edition])],
            cwd=root, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        )  # fmt: skip
        if ended.returncode:
            raise ReleaseError(f"the oracles' answers cannot be recorded: {ended.stderr[-3000:]}")
        return file.read_bytes()


def _for_students(path: Path, file: str, course: Course, year: str, filled: Collection[str]) -> bytes:
    """Return the students' version of a file, without solutions, staff passages and passages of other editions."""
    edition = course.rubric.edition
    try:
        if file in course.sources:
            return template(course.sources[file], file, filled).encode()
        if file == RUBRIC:
            return editions.rubric_of(path.read_text("utf-8"), edition, year).encode()
        if file == LAUNCH:
            return editions.launch_of(path.read_text("utf-8"), edition).encode()
        content = path.read_bytes()
        if may_have_editions(file):
            content = editions.passages_of(content.decode(), file, edition).encode()
        if _may_have_staff_blocks(file):
            content = without_staff(content.decode(), file).encode()
    except MarkerError as error:
        raise ReleaseError(str(error)) from error
    if file.startswith(TEMPLATE):
        content = content.replace(b"@EDITION@", edition.encode()).replace(b"@YEAR@", year.encode())
    return content


def may_have_editions(file: str) -> bool:
    """Return whether a file may have passages that belong to one edition."""
    page = file.startswith(TEMPLATE) and file.endswith(".md")
    return page or file == "pyproject.toml" or _may_have_staff_blocks(file)


def _may_have_staff_blocks(file: str) -> bool:
    """Return whether a file may have blocks for staff. In other released files, such blocks are an error."""
    handout = file.startswith("handout/") and file.endswith(".md")
    return handout or file in ("Makefile", "setup.cfg") or file.endswith("README.md") and not file.startswith(TEMPLATE)


def _answers(rubric: Rubric) -> str:
    """Return the content of answers.md, with a heading for each question that is marked by hand."""
    lines = ["# Answers", "", "Write your answer below each heading. To show a run's figure, use its path in `logs/`."]
    for question in rubric.questions.values():
        if question.manual:
            points = f"{question.points:g} point{'s' if question.points != 1 else ''}"
            lines += ["", f"## Q{question.id} ({points})", "", f"*{question.title}.*", ""]
    return "\n".join(lines) + "\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
