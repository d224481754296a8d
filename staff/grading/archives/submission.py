"""The data classes for submissions and their limits, and helpers for the names of parts and files."""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from course.rubric import read as read_rubric

PACKED = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")
GRADESCOPE = "submission_metadata.yml"  # in an export, next to the submissions
PART = re.compile(r"part[ _.-]*([0-9])(?![0-9])", re.IGNORECASE)
PARTS_DEPTH = 3  # maximum number of folders that may enclose the parts' folders
CODE = (".py", ".ipynb")
MB = 1_000_000
Names = tuple[str, ...]  # a path, split into its names


@cache
def part_folders() -> dict[int, str]:
    """Return part number -> folder for each part that has code, according to the rubric."""
    return {part.number: part.folder for part in read_rubric().with_code}


class SubmissionError(Exception):
    """The submission cannot be graded; the message is a sentence for the student."""


@dataclass(frozen=True)
class Submission:
    """A submission of a student or group.

    Attributes:
        student: a unique name that is safe as a file name. source: the folder or archive.
        more: other files from the same attempt, such as logs.zip alongside code.zip.
        members: the students of a group, including this one; () if the student is not in a group.
        names: student -> name and group, if known.
        older: names of files that were handed in earlier and do not count.
        problem: why none of its files can be read.
        only_a_name: whether only the name of the file identifies the student.
        place: the download that the submission was unpacked from.
    """

    student: str
    source: Path
    more: tuple[Path, ...] = ()
    members: tuple[str, ...] = ()
    names: dict[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    older: tuple[str, ...] = ()
    problem: str = ""
    only_a_name: bool = False
    place: str = ""

    @property
    def everybody(self) -> tuple[str, ...]:
        return self.members or (self.student,)

    @property
    def where(self) -> str:
        """The folder or download that contains the submission."""
        return self.place or str(self.source.resolve().parent)

    @property
    def sources(self) -> tuple[Path, ...]:
        return (self.source, *self.more)


@dataclass(frozen=True)
class Limits:
    """The limits of a submission.

    files, depth, name: files that count; folders in a path; bytes of one name (UTF-8).
    total: bytes of the parts and the answers combined. runs, logs: runs in logs/, and their total bytes.
    ratio: unpacked bytes divided by the size of the archive; checked only above `small` unpacked bytes.
    entries, seconds: all entries, even those that do not count; time to unpack one submission.
    """

    files: int = 2000
    total: int = 300 * MB
    ratio: float = 200
    small: int = 10 * MB
    depth: int = 12
    name: int = 200
    runs: int = 12
    logs: int = 300 * MB
    entries: int = 100_000
    seconds: float = 120


@dataclass(frozen=True)
class Staged:
    """The copy of a submission.

    Attributes:
        root: the folder.
        left_out: "name: reason" for each entry that was left out; the last line may say how many more there are.
        parts: part number -> its folder in the submission, as the student named it.
        problems: sentences for the student, e.g. about a missing part or a notebook instead of a module.
    """

    root: Path
    left_out: list[str]
    parts: dict[int, str]
    problems: list[str]

    @property
    def missing(self) -> list[str]:
        """The folders of the missing parts."""
        return [folder for number, folder in part_folders().items() if number not in self.parts]


def safe_name(text: str) -> str:
    """Turn text into a file name: letters, digits and . _ -, at most 80 characters (200 bytes), not hidden or empty."""
    text = unicodedata.normalize("NFC", text)
    kept = "".join(char if char in "._-" or unicodedata.category(char)[0] in "LMN" else "_" for char in text)
    return cut(kept.lstrip(".-"), 80) or "student"


def cut(name: str, longest: int) -> str:
    """Cut a name to at most `longest` characters and 200 bytes: file systems limit the bytes in a name."""
    return name[:longest].encode()[:200].decode(errors="ignore")


def key(name: str) -> str:
    """Return a key that ignores case and Unicode form, as some file systems do when they compare names."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def show(text: str) -> str:
    """Return untrusted text as one line of at most 200 characters, with unprintable characters escaped (\\x1b)."""
    printable = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:300])
    text = "".join(printable)
    return text if len(text) <= 200 else text[:197] + "..."


def mb(size: int) -> str:
    return f"{size / MB:g} MB"
