"""The students in a results folder: the roster, name clashes, and results of withdrawn submissions."""

import os
from collections.abc import Iterable
from pathlib import Path

from course.files import write_whole
from course.rubric import Rubric
from staff.grading import results, roster
from staff.grading.archives import Submission
from staff.grading.feedback import line
from staff.grading.roster import Roster

ROSTER = roster.FILE
WITHDRAWN = "withdrawn"  # the folder for results of withdrawn submissions
SHOWN = 5


def load_roster(out: Path, given: Path | None) -> Roster:
    """Return the given roster, or else the one saved by an earlier command; save a given roster with the results.

    Raises:
        ValueError, OSError: the roster cannot be used.
    """
    kept = Path(out) / roster.FILE
    if given is None:
        return roster.read(kept) if kept.exists() else Roster()
    found = roster.read(given)
    write_whole(kept, given.read_bytes())
    return found


def refuse_namesakes(out: Path, submissions: Iterable[Submission], same_students: bool) -> None:
    """Refuse a submission if its name is all that links it to an existing result from another folder.

    Raises:
        ValueError: a submission from another folder already has a result under the same name.
    """
    problems = []
    for submission in submissions if not same_students else ():
        path = Path(out) / results.RESULTS / f"{submission.student}.json"
        result, wrong = results.read(path) if submission.only_a_name and path.exists() else ({}, ["none"])
        if not wrong and result["where"] not in ("", submission.where):
            before = Path(result["where"]) / result["source"]
            problems.append(f"{submission.student}: {before} was graded under this name; {submission.source} is new")
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ValueError(
            "\n".join([*problems[:SHOWN], *more])
            + "\nIf they are by different people, rename them or use --roster; otherwise, use --same-students"
        )


def withdraw(out: Path, paths: Iterable[Path], submissions: Iterable[Submission]) -> list[str]:
    """Set aside the results of submissions that were removed from one of these paths, and return their students."""
    folders = {str(path.resolve()) for path in paths}
    there = {member for submission in submissions for member in submission.everybody}
    gone = []
    for path in sorted((Path(out) / results.RESULTS).glob("*.json")):
        result, wrong = results.read(path)
        if not wrong and path.stem not in there and _lay_in(result["where"], folders):
            target = Path(out) / WITHDRAWN / path.name
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
            gone.append(path.stem)
    return gone


def _lay_in(where: str, folders: set[str]) -> bool:
    return bool(where) and any(str(path) in folders for path in (Path(where), Path(where).parent))


def with_everybody(found: list[dict], people: Roster, rubric: Rubric) -> list[dict]:
    """Return the results, marked `unlisted` if not on the roster, and an empty result for each other student on it."""
    there = {result["student"] for result in found}
    rows = [result | {"unlisted": bool(people.people) and result["student"] not in people.people} for result in found]
    for person in people.people.values():
        if person.id not in there:
            nothing = results.failed(person.id, "", rubric, "", "nothing")
            rows.append(nothing | {"problem": None, "graded": "", "name": person.name, "group": person.group})
    return sorted(rows, key=lambda result: result["student"])


def newest(folders: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Return each student's newest result in these folders, as student -> file, and a line for each older result.

    An unusable file counts only if the student has no other.
    """
    chosen: dict[str, tuple[str, Path]] = {}
    said = []
    for folder in folders:
        for path in sorted((Path(folder) / results.RESULTS).glob("*.json")):
            result, wrong = results.read(path)
            graded = "" if wrong else result["graded"]
            before = chosen.get(path.stem)
            if before is None:
                chosen[path.stem] = (graded, path)
                continue
            if before[1].read_bytes() != path.read_bytes():
                old, new = sorted([before, (graded, path)], key=lambda each: each[0])
                said.append(f"{line(path.stem)}: {new[1]} counts because it is newer than {old[1]}")
                chosen[path.stem] = new
    return {student: path for student, (_, path) in chosen.items()}, said
