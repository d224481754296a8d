"""Identify students by the names that learning platforms give to submitted files and folders.

| platform | file or folder |
| --- | --- |
| Canvas | `doejane_LATE_12345_678901_submission-1.zip`: name, user id, file number, file name |
| Moodle | `Jane Doe_12345_assignsubmission_file_`: a folder, or a file with its name appended |
| Brightspace | `12345-67890 - Jane Doe - Nov 20, 2026 1005 AM`: a folder, or a file with ` - ` and its name appended |
| Blackboard | `practical3_jdoe_attempt_2026-11-20-10-05-00_submission.zip`, and a `.txt` for each attempt |
| Gradescope | `submission_123`, described in `submission_metadata.yml` in the same folder |

Other platforms (ANS, GitHub Classroom, email) have no such pattern: a roster identifies their students.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from staff.grading.archives.submission import GRADESCOPE, PACKED, show

DATE = r"(?P<date>[A-Z][a-z]{2,8}\.? \d{1,2}, \d{4} \d{1,2}:?\d{2} [AP]M)"
PATTERNS = {
    "canvas": r"(?P<person>[^_]+)_(?:LATE_)?(?P<id>\d+)_(?P<order>\d+)_(?P<file>.+)",
    "moodle": r"(?P<person>.+)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.+)?|\.html)?",
    "brightspace": rf"(?P<id>\d+)-\d+ - (?P<person>.+?) - {DATE}(?: - (?P<file>.+))?",
    "blackboard": r"(?P<assignment>.+)_(?P<id>[\w.@-]+)_attempt_(?P<stamp>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|\.txt)?",
}
COMPILED = {platform: re.compile(pattern, re.ASCII) for platform, pattern in PATTERNS.items()}
AGAIN = re.compile(r"-\d+(?=(\.[^.]+)*$)")  # Canvas appends a number to the files of later attempts
METADATA = 20_000_000  # bytes


@dataclass(frozen=True)
class Owner:
    """The person or group who handed in a file, as identified by the learning platform.

    names: other names of the person, such as an email address. order: larger for a later attempt; () if unknown.
    file: the name that the student gave the file, without the attempt number.
    """

    platform: str
    id: str
    person: str = ""
    names: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    file: str = ""

    @property
    def student(self) -> str:
        """The name for the student's files if there is no roster."""
        return f"{self.person}_{self.id}" if self.person and self.person != self.id else self.id


def owner_of(name: str) -> Owner | None:
    """Parse the name of a file or folder; return None if it does not match any platform's pattern."""
    for platform, pattern in COMPILED.items():
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            person = found.get("person") or ""
            return Owner(platform, found["id"], person, (), _order(found), AGAIN.sub("", found.get("file") or ""))
    return None


def _order(found: dict[str, str | None]) -> tuple[int, ...]:
    if found.get("order"):
        return (int(found["order"][:18]),)
    if found.get("stamp"):
        return tuple(map(int, found["stamp"].split("-")))
    if not found.get("date"):
        return ()
    day, _, clock = found["date"].replace(".", "").partition(", ")
    year, time, half = clock.split(" ")
    time = time.replace(":", "").zfill(4)
    for form in ("%b", "%B"):
        try:
            when = datetime.strptime(f"{day} {year} {time} {half}", f"{form} %d %Y %I%M %p")
            return when.year, when.month, when.day, when.hour, when.minute
        except ValueError:
            continue
    return ()


def gradescope_owners(folder: Path) -> dict[str, list[Owner]]:
    """Return the owners in a Gradescope export: folder name -> the students who handed it in, several for a group.

    Raises:
        ValueError: submission_metadata.yml is damaged.
    """
    path = folder / GRADESCOPE
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > METADATA:
            raise ValueError(f"has more than {METADATA // 1_000_000} MB")
        content = yaml.load(path.read_text("utf-8"), Loader=Plain) or {}
        return {str(name): _submitters(str(name), entry or {}) for name, entry in content.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read ({show(str(error))}); export the submissions again") from error


class Plain(yaml.SafeLoader):
    """Load all scalars as strings, so that a student number such as 0123 is kept, and refuse aliases."""

    yaml_implicit_resolvers: dict = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has an alias")
        return super().compose_node(parent, index)


def _submitters(name: str, entry: dict) -> list[Owner]:
    owners = []
    for person in entry.get(":submitters") or []:
        texts = {key: str(person.get(f":{key}") or "").strip() for key in ("name", "sid", "email")}
        identity = texts["sid"] or texts["email"] or texts["name"]
        order = tuple(map(int, re.findall(r"\d{1,9}", str(entry.get(":created_at") or ""))[:6]))
        owners.append(Owner("gradescope", identity, texts["name"], tuple(filter(None, texts.values())), order))
    return [owner for owner in owners if owner.id]


def stem(name: str) -> str:
    """Return a file name without its archive suffix."""
    ending = next((ending for ending in PACKED if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
