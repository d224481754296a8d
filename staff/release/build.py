"""The students' repository, made in memory from the solution and `template/`. The same tree gives the same bytes.

The folder says whether students get a file. `staff.release.checks` tries the result, `staff.release.write` writes it.
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
from staff.release import parts
from staff.release.markers import MarkerError, Region, marks_left, regions, template, without_staff
from staff.release.suites import GradedTest, disagreements, graded_tests, not_written, suites

MANIFEST = ".release.json"
TEMPLATE = "template/"  # files that only students have
FOLDERS = ("course/", "tests/", "handout/", "theory/", ".vscode/", ".devcontainer/")  # released whole, as the parts are
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
ANSWERS = "tests/answers.npz"  # what the oracles answer, which students do not have
PICTURE = re.compile(r"\]\((?:\.\./)?(docs/[\w./-]+\.png)\)")
Files = dict[str, bytes]


class ReleaseError(Exception):
    """There can be no release; the message says why, with a line for each reason."""


@dataclass(frozen=True)
class Course:
    """What has to agree: the rubric, the blanks of the parts, the graded tests, and the sources with blanks."""

    rubric: Rubric
    blanks: list[Region]
    tests: list[GradedTest]
    sources: dict[str, str]  # file -> text

    def questions(self) -> list[str]:
        """The questions with blanks, in the rubric's order."""
        return [question for question in self.rubric.questions if question in {blank.question for blank in self.blanks}]


def read_course(root: Path = REPOSITORY, part: int | None = None) -> Course:
    """Read rubric, blanks and graded tests, and compare them.

    Args:
        part: read and compare this part alone.

    Raises:
        ReleaseError: they cannot be read or disagree: a line for each problem, with file and line.
    """
    try:
        rubric = _part_of(rubrics.read(root / "course" / "rubric.toml"), part)
        sources = _sources(rubric, root)
        blanks = [region for file, text in sources.items() for region in regions(text, file)]
        tests = [
            test
            for path in suites(root, part)
            for test in graded_tests(path.read_text("utf-8"), path.relative_to(root).as_posix())
        ]
        problems = disagreements(rubric, blanks, tests) + parts.missing(rubric, root) + not_written(rubric, root)
    except (rubrics.RubricError, MarkerError) as error:
        raise ReleaseError(str(error)) from error
    if problems:
        raise ReleaseError("\n".join(problems))
    return Course(rubric, blanks, tests, sources)


def _part_of(rubric: Rubric, part: int | None) -> Rubric:
    """The rubric of a part alone."""
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
    """The parts' Python files that have blanks."""
    paths = [path for part in rubric.parts.values() for path in sorted((root / part.folder).rglob("*.py"))]
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}
    return {file: text for file, text in texts.items() if regions(text, file)}


def contents(
    course: Course,
    edition: str,
    filled: Collection[str] = (),
    root: Path = REPOSITORY,
    answers: bytes | None = None,
    extra: Files | None = None,
) -> Files:
    """The students' repository: path -> bytes.

    Args:
        edition: replaces @EDITION@ in the files of template/.
        filled: questions whose blanks keep the solution.
        extra: files that were built, such as the handout's PDF.
        answers: what `recorded_answers` gave; a release without them is for a look at its other files.

    Raises:
        ReleaseError: git does not know the files, or a marker is wrong or in a file that cannot have one.
    """
    folders = (*(f"{part.folder}/" for part in course.rubric.parts.values()), *FOLDERS)
    files: Files = {}
    for file in tracked(root):
        if file.startswith(TEMPLATE):
            files[file.removeprefix(TEMPLATE)] = (root / file).read_bytes().replace(b"@EDITION@", edition.encode())
        elif file.startswith(folders) or file in ROOT_FILES:
            files[file] = _for_students(root / file, file, course, filled)
    if left := [mark for file, content in files.items() for mark in marks_left(content, file)]:
        raise ReleaseError("\n".join(left))
    for readme in [content for file, content in files.items() if file.endswith(".md")]:
        for picture in PICTURE.findall(readme.decode()):
            files[picture] = (root / picture).read_bytes()
    files.update(extra or {})
    if answers:
        files[ANSWERS] = answers
    files["answers.md"] = _answers(course.rubric).encode()
    manifest = {"edition": edition, "files": {file: sha256(files[file]) for file in sorted(files)}}
    files[MANIFEST] = json.dumps(manifest, indent=1).encode() + b"\n"
    return dict(sorted(files.items()))


def tracked(root: Path) -> list[str]:
    """The files that git knows, so that no stray file is released."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ReleaseError(f"{root}: a release is made of the files that git knows; git ls-files failed") from error
    return sorted(file for file in listed.stdout.split("\0") if (root / file).is_file())


def recorded_answers(root: Path = REPOSITORY) -> bytes:
    """What the oracles answer to the graded tests, for the seeds that students have; this takes a minute.

    Raises:
        ReleaseError: the solution fails a graded test.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "answers.npz")
        ended = subprocess.run(
            [sys.executable, "-B", "-m", "staff.oracles.record", file], cwd=root, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        )  # fmt: skip
        if ended.returncode:
            raise ReleaseError(f"the answers of the oracles cannot be recorded: {ended.stderr[-3000:]}")
        return file.read_bytes()


def _for_students(path: Path, file: str, course: Course, filled: Collection[str]) -> bytes:
    """A file of the solution, without solutions and without what is for staff only."""
    try:
        if file in course.sources:
            return template(course.sources[file], file, filled).encode()
        if _may_have_staff_blocks(file):
            return without_staff(path.read_text("utf-8"), file).encode()
        return path.read_bytes()
    except MarkerError as error:
        raise ReleaseError(str(error)) from error


def _may_have_staff_blocks(file: str) -> bool:
    """Everywhere else a block for staff is an error: what is in the students' folders is for students."""
    handout = file.startswith("handout/") and file.endswith(".md")
    return handout or file in ("Makefile", "setup.cfg") or file.endswith("README.md")


def _answers(rubric: Rubric) -> str:
    """A form for the written answers, with a heading for each question that a person marks."""
    lines = ["# Answers", "", "Write below each heading. Figures of a run can be shown by their path in `logs/`."]
    for question in rubric.questions.values():
        if question.manual:
            points = f"{question.points:g} point{'s' if question.points != 1 else ''}"
            lines += ["", f"## Q{question.id} ({points})", "", f"*{question.title}.*", ""]
    return "\n".join(lines) + "\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
