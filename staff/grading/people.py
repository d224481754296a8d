"""Identify the students behind submissions: match each student across folders, and never merge two people into one.

The roster determines the owner, or else the platform that delivered the file, or else the file's name. If a student
or group made several attempts, the newest counts; files that were handed in together count as one attempt.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from staff.grading.archives import Submission, safe_name
from staff.grading.archives.finding import Found
from staff.grading.archives.submission import PACKED, key, show
from staff.grading.roster import Person, Roster


@dataclass
class Handed:
    """Everything that one student or group handed in. `members`: id -> the student, with name and group."""

    student: str
    members: dict[str, Person] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)


def who(found: Iterable[Found], roster: Roster) -> list[Handed]:
    """Return what each student or group handed in, sorted by student.

    Raises:
        ValueError: the owner of a file is not clear; the message has a line for each such file.
    """
    found = list(found)
    everybody: dict[str, Handed] = {}
    problems = []
    for each in found:
        try:
            handed = _handed(each, found, roster)
        except ValueError as error:
            problems.append(str(error))
            continue
        everybody.setdefault(key(handed.student), handed).found.append(each)
    problems += [problem for handed in everybody.values() for problem in _mixed(handed, roster)]
    problems += _in_two(everybody.values())
    if problems:
        raise ValueError("\n".join(problems))
    return sorted(everybody.values(), key=lambda handed: handed.student)


def _handed(found: Found, others: Iterable[Found], roster: Roster) -> Handed:
    """Return the student or group that handed in a file, with `found` still empty."""
    by_name = () if found.owners else roster.whose(found.stem) or roster.whose(found.loose_stem)
    matches = [roster.who(owner) for owner in found.owners] or [by_name]
    people = {person.id: person for match in matches for person in match}
    groups = {person.group for person in people.values()}
    together = len(groups) == 1 and "" not in groups
    if len(people) > max(1, len(found.owners)) and not together:
        named = ", ".join(f"{person.id} ({person.name})" for person in people.values())
        raise ValueError(
            f"{found.path}: {named} could have handed it in; add a column with their names in that system to the roster"
        )
    if people:
        ids = sorted({mate for student in people for mate in roster.group_of(student)})
        return Handed(ids[0], {student: roster.people[student] for student in ids})
    if found.owners:
        names = {_safe(owner.student): owner.person for owner in found.owners}
        return Handed(min(names), {student: Person(student, name) for student, name in names.items()})
    name = _safe((_beside(found, others) or found).stem)
    return Handed(name, {name: Person(name)})


def _beside(found: Found, others: Iterable[Found]) -> Found | None:
    """Return the submission with the same name in the same folder, such as `ada.zip` for `ada.pdf`. Return None for
    archives, and for files that a platform delivered."""
    if found.readable or found.owners:
        return None
    same = (each for each in others if each.readable and not each.owners and key(each.stem) == key(found.loose_stem))
    return next((each for each in same if each.path.resolve().parent == found.path.resolve().parent), None)


def _safe(text: str) -> str:
    """Turn a name into a file name. A long name is cut and ends in a hash of the full name, to stay unique."""
    name, whole = safe_name(text), unicodedata.normalize("NFC", text).lstrip(".-")
    if len(whole) <= len(name):
        return name
    return f"{name[:60]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def _mixed(handed: Handed, roster: Roster) -> list[str]:
    """Return a problem if several submissions share a name, and neither the roster nor a platform identifies them."""
    found = [each for each in handed.found if not _beside(each, handed.found)]
    if handed.student in roster.people or len(found) < 2:
        return []
    owners = [frozenset((owner.platform, owner.id) for owner in each.owners) for each in found]
    if all(owners) and len(set(owners)) == 1:
        return []
    paths = " and ".join(show(str(each.path)) for each in found[:5])
    return [
        f"{paths}: two submissions under the name {handed.student}. If they are by two people, rename one or use "
        "--roster; if they are by one person, remove the one that does not count"
    ]


def _in_two(everybody: Iterable[Handed]) -> list[str]:
    """Return a problem for each student who handed in work with different groups of people."""
    where: dict[str, Handed] = {}
    problems = []
    for handed in everybody:
        for student in handed.members:
            other = where.setdefault(student, handed)
            if other is not handed:
                paths = f"{show(str(other.found[0].path))} and {show(str(handed.found[0].path))}"
                problems.append(
                    f"{student}: handed in {paths}, with different people; remove the one that does not count"
                )
    return problems


def submission(handed: Handed, roster: Roster) -> Submission:
    """Return the submission that counts: the newest attempt, with all files that were handed in with it."""
    attempts: dict[tuple, list[Found]] = {}
    for each in handed.found:
        attempts.setdefault(_attempt(_with(each, handed.found)), []).append(each)
    newest, *before = sorted(attempts.values(), key=_newest, reverse=True)
    counted: dict[str, Found] = {}
    older = [each for attempt in before for each in attempt]
    for each in sorted(newest, key=_when, reverse=True):
        name = each.owners[0].file if each.owners else each.path.name
        if name in counted:
            older.append(each)
        else:
            counted[name] = each
    only_a_name = handed.student not in roster.people and not any(each.owners for each in handed.found)
    readable = [each.path for each in counted.values() if each.readable]
    others = [each.path for each in counted.values() if not each.readable]
    return Submission(
        handed.student, *_first(readable, others), members=tuple(sorted(handed.members)),
        names={student: (person.name, person.group) for student, person in handed.members.items()},
        older=tuple(show(each.path.name) for each in older), problem="" if readable else _why_not(others),
        only_a_name=only_a_name,
    )  # fmt: skip


def _first(readable: list[Path], others: list[Path]) -> tuple[Path, tuple[Path, ...]]:
    first, *more = readable or others
    return first, tuple(more)


def _with(found: Found, others: Iterable[Found]) -> Found:
    """Return a file's submission: an unreadable file next to a readable one is not a separate attempt."""
    if found.readable or found.owners:
        return found
    folder = found.path.resolve().parent
    return next((each for each in others if each.readable and each.path.resolve().parent == folder), found)


def _attempt(found: Found) -> tuple:
    """Return a key that the files of one attempt share: Canvas delivers them side by side in one folder."""
    path = found.path.resolve()
    return path.parent if path.is_file() else path, frozenset((owner.platform, owner.id) for owner in found.owners)


def _newest(attempt: list[Found]) -> tuple:
    """Return the time of an attempt; its unreadable files count only if no file is readable."""
    return max(map(_when, [each for each in attempt if each.readable] or attempt))


def _when(found: Found) -> tuple[tuple[int, ...], float, str]:
    order = max((owner.order for owner in found.owners), default=())
    return order, found.path.stat().st_mtime, str(found.path)


def _why_not(paths: list[Path]) -> str:
    names = ", ".join(sorted(show(path.name) for path in paths))
    return f"{names}: cannot be read; hand in the folders of the parts in one zip file ({', '.join(PACKED)})."
