"""Recognize the course's own files among submissions: tables of grades and people, and the pages of a download.

Any other file counts as a submission: a missing row for a student is worse than an extra row.
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
OF_PEOPLE = {  # column titles in the tables of Canvas, Moodle, Brightspace, Blackboard, Gradescope and the grader
    "id", "student", "name", "first name", "last name", "full name", "user name", "username", "email", "email address",
    "sid", "identifier", "orgdefinedid", "student id", "sis user id", "sis login id", "section", "group",
}  # fmt: skip
START = 10_000  # number of bytes to read from a table


def is_own(path: Path, named: Collection[Path] = ()) -> bool:
    """Return whether a file or folder belongs to the course and is not a submission.

    Args:
        named: files and folders given on the command line for another purpose, such as the roster and the results.
    """
    if path.resolve() in named:
        return True
    if not path.is_file():
        return False
    name = path.name.lower()
    is_table = name.endswith(TABLES)
    return name in PAGES or (is_table and (bool(NAMED.search(path.stem)) or _lists_people(path)))


def _lists_people(path: Path) -> bool:
    """Return whether the first row of a CSV file has the column titles of a list of people."""
    try:
        with open(path, "rb") as file:
            text = file.read(START).decode("utf-8-sig", errors="replace")
        first = text.lstrip("\r\n").splitlines()[0]
        (cells,) = csv.reader([first], delimiter=max(",;\t", key=first.count))
    except (OSError, IndexError, ValueError, csv.Error):
        return False
    titles = [cell.strip().lower() for cell in cells]
    return titles[:1] == ["student"] or len(OF_PEOPLE.intersection(titles)) >= 2
