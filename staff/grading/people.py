"""Who a submission is of: the same student from whichever folder, and never two people under one name.

A roster says it, else the system that delivered the file, else the file's own name. Of several attempts of one student
or group, the newest counts; what was handed in together counts together.
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
    """All that one student, or one group, handed in. `members`: students with their names and group, by id."""

    student: str
    members: dict[str, Person] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)


def who(found: Iterable[Found], roster: Roster) -> list[Handed]:
    """What each student or group handed in, sorted by student.

    Raises:
        ValueError: it is not clear whose something is; a line for each.
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
    """Who handed something in, with nothing in it yet."""
    by_name = () if found.owners else roster.whose(found.stem) or roster.whose(found.loose_stem)
    matches = [roster.who(owner) for owner in found.owners] or [by_name]
    people = {person.id: person for match in matches for person in match}
    groups = {person.group for person in people.values()}
    together = len(groups) == 1 and "" not in groups
    if len(people) > max(1, len(found.owners)) and not together:
        named = ", ".join(f"{person.id} ({person.name})" for person in people.values())
        raise ValueError(
            f"{found.path}: {named} could have handed it in; put what the system calls them into a column of the roster"
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
    """Of a file that is no archive and that no system delivered: the submission of the same name that it lies beside,
    as `ada.pdf` lies beside `ada.zip`."""
    if found.readable or found.owners:
        return None
    same = (each for each in others if each.readable and not each.owners and key(each.stem) == key(found.loose_stem))
    return next((each for each in same if each.path.resolve().parent == found.path.resolve().parent), None)


def _safe(text: str) -> str:
    """A name as a file name; one that would be cut ends in a sum over all of it, so that two stay apart."""
    name, whole = safe_name(text), unicodedata.normalize("NFC", text).lstrip(".-")
    if len(whole) <= len(name):
        return name
    return f"{name[:60]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def _mixed(handed: Handed, roster: Roster) -> list[str]:
    """What tells two people of one name apart, where nothing but a file's name does."""
    found = [each for each in handed.found if not _beside(each, handed.found)]
    if handed.student in roster.people or len(found) < 2:
        return []
    owners = [frozenset((owner.platform, owner.id) for owner in each.owners) for each in found]
    if all(owners) and len(set(owners)) == 1:
        return []
    paths = " and ".join(show(str(each.path)) for each in found[:5])
    return [
        f"{paths}: two submissions under the name {handed.student}; of two people? Rename one, or give --roster. Of "
        "one? Remove the one that does not count"
    ]


def _in_two(everybody: Iterable[Handed]) -> list[str]:
    """Students who handed in both with a group and without it."""
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
    """What counts of it: the newest attempt, and what was handed in with it."""
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
    """What it counts together with: a file that cannot be read is no attempt where something else lies beside it."""
    if found.readable or found.owners:
        return found
    folder = found.path.resolve().parent
    return next((each for each in others if each.readable and each.path.resolve().parent == folder), found)


def _attempt(found: Found) -> tuple:
    """What is the same for the files of one attempt: Canvas delivers them side by side."""
    path = found.path.resolve()
    return path.parent if path.is_file() else path, frozenset((owner.platform, owner.id) for owner in found.owners)


def _newest(attempt: list[Found]) -> tuple:
    """When an attempt was handed in; a file that cannot be read counts only where nothing else can."""
    return max(map(_when, [each for each in attempt if each.readable] or attempt))


def _when(found: Found) -> tuple[tuple[int, ...], float, str]:
    order = max((owner.order for owner in found.owners), default=())
    return order, found.path.stat().st_mtime, str(found.path)


def _why_not(paths: list[Path]) -> str:
    names = ", ".join(sorted(show(path.name) for path in paths))
    return f"{names}: cannot be read; hand in the folders of the parts in one zip file ({', '.join(PACKED)})."
