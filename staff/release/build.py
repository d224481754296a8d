"""From the solution to the repository that students get, in memory: `contents`. The same tree gives the same bytes.

`checks` tries it both ways in temporary folders; `write` puts it in its place.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from course import rubric as rubrics
from course.flags import REPOSITORY
from course.rubric import Rubric
from staff.release.markers import MarkerError, Region, regions, template, without_staff
from staff.release.suites import GradedTest, disagreements, graded_tests, not_written, suites

MANIFEST = ".release.json"
STUDENTS = "template/"  # what only students have
RELEASED = (  # beside the folders of the parts
    "course/",
    "handout/",
    "theory/",
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
WITH_STAFF_BLOCKS = re.compile(r"(^|/)(Makefile|setup\.cfg|README\.md)$|^handout/")
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
    manifest = {"edition": edition, "files": {file: sha256_of(files[file]) for file in sorted(files)}}
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
        if file.endswith(".png"):
            return path.read_bytes()
        text = path.read_text("utf-8")
        if WITH_STAFF_BLOCKS.search(file):
            return without_staff(text, file).encode()
        if "BEGIN STAFF" in text:
            raise ReleaseError(f"{file}: a STAFF block may be in READMEs, the handout, Makefile and setup.cfg only")
        return text.encode()
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


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
