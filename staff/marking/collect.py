"""Store the values in the tables that people filled in, and write a new form that contains all stored values."""

import csv
import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from course.files import write_whole
from course.rubric import Rubric
from staff.grading.exports import cell
from staff.grading.feedback import line
from staff.marking import entries as stored
from staff.marking import manual
from staff.marking.entries import Entries, Entry, Value
from staff.marking.manual import FORM, Row


def collect(folder: Path, files: Iterable[Path], students: list[str], rubric: Rubric, replace: bool = False) -> Entries:
    """Return the entries for the results in a folder, including those in `files` and in the folder's own form.

    Args:
        students: the students with results.
        replace: whether values in these files replace those entered from other files.

    Raises:
        ValueError: a table cannot be used, or two tables differ in a cell; nothing is written.
        OSError: a file cannot be read.
    """
    entries = stored.read(folder)
    own = Path(folder) / FORM
    problems = []
    base = _base(entries, own, rubric)
    if own.exists():
        names = {*students, *entries.students(), *base}
        problems += _put(own, manual.read(own, sorted(names), rubric), base, entries, replace=False)
    for path in files:
        if not (own.exists() and path.exists() and path.samefile(own)):
            rows = manual.read(path, sorted({*students, *entries.students()}), rubric)
            problems += _put(path, rows, {}, entries, replace)
    problems += entries.without_reason()
    if problems:
        raise ValueError("\n".join(problems))
    return entries


def _base(entries: Entries, own: Path, rubric: Rubric) -> dict[str, Row]:
    """Return the form as it was last written; any value that differs from it was typed by a person."""
    names = [row[0] for row in csv.reader(io.StringIO(entries.form, newline="")) if row]
    with suppress(ValueError):  # the form was written for an earlier rubric
        return manual.parse(entries.form, own, names, rubric)
    return {}


def _put(path: Path, rows: dict[str, Row], base: dict[str, Row], entries: Entries, replace: bool) -> list[str]:
    """Store the values typed in a file; return a sentence for each cell in which another file has a different value."""
    file, problems = str(path.resolve()), []
    for student, row in rows.items():
        before = base[student].typed if student in base else {}
        for column, value in row.typed.items():
            old = entries.value(student, *column)
            if same(value, old) or (column in before and same(value, before[column])):
                continue
            untouched = path.name == FORM and student in base and same(old, before.get(column))
            new = Entry(value, row.by or path.name, file, stored.now())
            problem = entries.put((student, *column), new, replace or untouched)
            problems += [f"{path}: line {row.line}: {problem}"] if problem else []
    return problems


def same(one: Value, other: Value) -> bool:
    """Return whether two cells mean the same: in the form, an apostrophe precedes text that looks like a formula."""
    if isinstance(one, str) and isinstance(other, str):
        return one == other or cell(one, stored.LONGEST) == other or one == cell(other, stored.LONGEST)
    return one == other


def keep(folder: Path, entries: Entries, students: list[str], rubric: Rubric) -> Path:
    """Write the entries, and a form with these entries and a row for every student. Return the form's path.

    If the form already has this content, leave it as the spreadsheet program saved it.

    Raises:
        OSError: a file cannot be written.
    """
    path = Path(folder) / FORM
    entries.form = manual.form(students, entries, rubric)
    stored.write(folder, entries)
    if not (path.exists() and _table(path.read_text("utf-8-sig")) == _table(entries.form)):
        write_whole(path, entries.form.encode("utf-8-sig"))
    return path


def _table(text: str) -> list[list[str]]:
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    return [[each.strip() for each in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]


def of_shards(folder: Path, shards: Iterable[Path], students: list[str], rubric: Rubric) -> Entries:
    """Return the entries for several shards of a class, and for the folder that they are merged into.

    Raises:
        ValueError: see `collect`; or two shards have conflicting entries.
    """
    entries = stored.read(folder)
    others = [collect(shard, (), students, rubric) for shard in shards if shard.resolve() != folder.resolve()]
    if problems := stored.join(entries, others):
        raise ValueError("\n".join(problems))
    return entries


def without_result(entries: Entries, students: list[str]) -> list[str]:
    """Return the students with entries but no result; their entries are kept but do not count."""
    return [line(student) for student in sorted(entries.students() - set(students))]
