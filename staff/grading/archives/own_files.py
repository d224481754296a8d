"""The course's own files that lie among submissions: tables of grades and people, and the pages of a download.

Any other file is somebody's: that a student has no row is worse than a row too many.
"""

import csv
import re
from collections.abc import Collection
from pathlib import Path

from staff.grading.archives.submission import GRADESCOPE

TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".ods", ".json")
NAMED = re.compile(
    r"(?<![a-z])(grades?|gradebook|gradesexport|scores?|roster|participants|enrolments?|manual)(?![a-z])", re.IGNORECASE
)
PAGES = {GRADESCOPE, "index.html", "index.htm", "readme", "readme.md", "readme.txt", "readme.html"}
OF_PEOPLE = {  # columns in the tables of Canvas, Moodle, Brightspace, Blackboard, Gradescope and of the grader
    "id", "student", "name", "first name", "last name", "full name", "user name", "username", "email", "email address",
    "sid", "identifier", "orgdefinedid", "student id", "sis user id", "sis login id", "section", "group",
}  # fmt: skip
START = 10_000  # bytes of a table that are read


def is_own(path: Path, named: Collection[Path] = ()) -> bool:
    """Whether a file or folder is the course's own, and no submission.

    Args:
        named: files and folders that the command names for something else: the roster, the results.
    """
    if path.resolve() in named:
        return True
    if not path.is_file():
        return False
    name = path.name.lower()
    is_table = name.endswith(TABLES)
    return name in PAGES or (is_table and (bool(NAMED.search(path.stem)) or _lists_people(path)))


def _lists_people(path: Path) -> bool:
    """Whether the first row of a CSV file names what only a list of people has."""
    try:
        with open(path, "rb") as file:
            text = file.read(START).decode("utf-8-sig", errors="replace")
        first = text.lstrip("\r\n").splitlines()[0]
        (cells,) = csv.reader([first], delimiter=max(",;\t", key=first.count))
    except (OSError, IndexError, ValueError, csv.Error):
        return False
    titles = [cell.strip().lower() for cell in cells]
    return titles[:1] == ["student"] or len(OF_PEOPLE.intersection(titles)) >= 2
