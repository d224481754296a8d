"""The students of the course: roster.csv, one row per student.

Columns: `id`, the student's name in the grader; `name`; `group`; and further columns for the student's names on other
platforms: `canvas` and `moodle` (numbers), `brightspace`, `gradescope`, `github`, `email`, etc. Only `id` is required.
"""

import csv
import io
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from staff.grading.archives import safe_name
from staff.grading.archives.platforms import Owner
from staff.grading.feedback import line

FILE = "roster.csv"  # saved with the results, for later commands


@dataclass(frozen=True)
class Person:
    """A row of the roster. `names`: column -> the student's name on that platform."""

    id: str
    name: str = ""
    group: str = ""
    names: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Roster:
    """All students of the course, by id; empty if there is no roster."""

    people: dict[str, Person] = field(default_factory=dict)

    def group_of(self, student: str) -> list[str]:
        """Return the students who hand in together with this one, including this one."""
        group = self.people[student].group if student in self.people else ""
        return [each.id for each in self.people.values() if each.group == group] if group else [student]

    def who(self, owner: Owner) -> list[Person]:
        """Return the students who match an owner: by the platform's id, or else by a column, name or group."""
        people = self.people.values()
        by_number = [each for each in people if same(each.names.get(owner.platform, ""), owner.id)]
        ids = {plain(name) for name in (owner.id, *owner.names)}
        by_name = [each for each in people if ids & {plain(each.id), *map(plain, each.names.values())} - {""}]
        called = {letters(name) for name in (owner.person, *owner.names)} - {""}
        by_person = [each for each in people if called & _spellings(each.name)]
        group = [each for each in people if each.group and letters(each.group) in called]
        return by_number or by_name or by_person or group

    def whose(self, stem: str) -> list[Person]:
        """Return the students who match a file or folder name: by id, name or group, or by a GitHub name at its end."""
        people, text = self.people.values(), plain(stem)
        exact = [each for each in people if text in {plain(each.id), *map(plain, each.names.values())} - {""}]
        named = [each for each in people if letters(stem) in _spellings(each.name)]
        group = [each for each in people if each.group and text == plain(each.group)]
        ends = [each for each in people if (name := plain(each.names.get("github", ""))) and text.endswith(f"-{name}")]
        longest = max((len(each.names["github"]) for each in ends), default=0)
        ends = [each for each in ends if len(each.names["github"]) == longest]
        words = set(text.replace("_", " ").replace("-", " ").split())
        within = [each for each in people if plain(each.id) in words]
        return exact or named or group or ends or within


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def letters(text: str) -> str:
    """Reduce a name to its letters and digits, as Canvas does: it turns "Doe, Jane" into "doejane"."""
    return "".join(char for char in plain(text) if char.isalnum())


def same(one: str, other: str) -> bool:
    return bool(plain(one)) and plain(one) == plain(other)


def _spellings(name: str) -> set[str]:
    """Return a name in both orders, first name first and last name first, reduced by `letters`."""
    last, comma, first = name.partition(",")
    words = name.split()
    turned = f"{first} {last}" if comma else " ".join([*words[1:], *words[:1]])
    sorted_last = " ".join([*words[-1:], *words[:-1]])
    return {letters(name), letters(turned), letters(sorted_last)} - {""}


def read(path: Path) -> Roster:
    """Read a roster. Semicolons and tabs also work as separators, because Excel may have replaced the commas.

    Raises:
        ValueError: the roster is invalid; the message has a line for each problem.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8; save it as 'CSV UTF-8' (byte {error.start})") from error
    first = text.lstrip("\r\n").split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), restval="")
    titles = [(title or "").strip().lower() for title in reader.fieldnames or []]
    if titles.count("id") != 1 or len(set(titles)) != len(titles):
        raise ValueError(f"{path}: line 1: column titles must be unique, and one must be id: {line(first)!r}")
    reader.fieldnames = titles
    people: dict[str, Person] = {}
    taken: dict[str, str] = {}
    problems = []
    for row in reader:
        cells = {title: " ".join(value.split()) for title, value in row.items() if isinstance(value, str)}
        if any(cells.values()):
            problems += _add(cells, people, taken, f"{path}: line {reader.line_num}")
    if problems:
        raise ValueError("\n".join(problems))
    return Roster(people)


def _add(cells: dict[str, str], people: dict[str, Person], taken: dict[str, str], place: str) -> list[str]:
    """Add a row to the people and return its problems."""
    identity = cells.pop("id")
    if not identity or safe_name(identity) != identity:
        return [f"{place}: the id {line(identity)!r} cannot be a file name; use letters, digits and . _ -"]
    if plain(identity) in {plain(each) for each in people}:
        return [f"{place}: the id {line(identity)!r} occurs twice"]
    person = Person(identity, cells.pop("name", ""), cells.pop("group", ""), {k: v for k, v in cells.items() if v})
    problems = []
    for column, name in person.names.items():
        other = taken.setdefault(f"{column} {plain(name)}", identity)
        if other != identity:
            problems.append(f"{place}: {column} {line(name)!r} already belongs to {other}")
    people[identity] = person
    return problems
