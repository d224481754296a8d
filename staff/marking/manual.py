"""Write and read OUT/manual.csv, the table that people fill in.

It has one row per student. For each question there is a column for manual points, `Q1.7 (2)`; columns for points that
replace the grader's, `Q1.7 evidence (2)` and `Q1.7 automatic (8)`, with `Q1.7 reason`; and `Q1.7 comment`. The column
`by` names the person who filled in the row. Columns may be missing, and Excel may have changed commas to semicolons. An
empty cell is ignored; a minus sign withdraws an earlier entry.
"""

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from course.rubric import Question, Rubric
from staff.grading.exports import cell
from staff.grading.feedback import SHARES, line, number
from staff.marking.entries import LONGEST, TEXTS, Entries, Value

FORM = "manual.csv"
HEADER = re.compile(
    r"Q?(\d{1,3}\.\d{1,3})(?: (manual|evidence|automatic|reason|comment))?(?: ?\((\d{1,6}(?:\.\d{1,6})?)\))?",
    re.ASCII | re.IGNORECASE,
)
POINTS = re.compile(r"\d{1,6}(\.\d{0,6})?|\.\d{1,6}", re.ASCII)
TAKEN_BACK = "-"
Column = tuple[str, str]  # question, kind


# --- the form ---------------------------------------------------------------------------------------------------------


def columns(rubric: Rubric) -> dict[Column, str]:
    """Return all columns of the form: column -> title."""
    return {
        (question.id, kind): _title(question, kind)
        for question in rubric.questions.values()
        for kind in ("manual", "evidence", "automatic", "reason", "comment")
        if _has(question, kind)
    }


def _has(question: Question, kind: str) -> bool:
    if kind == "reason":
        return bool(question.evidence or question.automatic)
    return kind == "comment" or bool(getattr(question, kind))


def _title(question: Question, kind: str) -> str:
    if kind in TEXTS:
        return f"Q{question.id} {kind}"
    name = "" if kind == "manual" else f" {kind}"
    return f"Q{question.id}{name} ({number(getattr(question, kind))})"


def form(students: list[str], entries: Entries, rubric: Rubric) -> str:
    """Return the table to fill in, including the entries so far.

    Save it with the encoding utf-8-sig, so that Excel reads it correctly.
    """
    wanted = columns(rubric)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["student", *wanted.values(), "by"])
    for student in sorted({*students, *entries.students()}):
        shown = [as_cell(entries.value(student, *column)) for column in wanted]
        writer.writerow([cell(student), *shown, ""])
    return file.getvalue()


def as_cell(value: Value) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else cell(value, LONGEST)


# --- reading it -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A student's row: the typed values, and who typed them. The value None withdraws an earlier entry."""

    line: int
    by: str = ""
    typed: dict[Column, Value] = field(default_factory=dict)


@dataclass
class _Table:
    """The part of a file that has been read so far, and the problems found in it."""

    path: Path
    students: dict[str, str]  # text in a cell -> student
    rubric: Rubric
    columns: dict[int, Column] = field(default_factory=dict)  # index of the column
    student_column: int = 0
    by_column: int | None = None
    width: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def wrong(self, row: int, column: int | None, problem: str) -> None:
        at = "" if column is None else f", column {column + 1}"
        name = f" ({_name(*self.columns[column])})" if column in self.columns else ""
        self.problems.append(f"{self.path}: line {row}{at}{name}: {problem}")


def _name(question: str, kind: str) -> str:
    return f"Q{question}" if kind == "manual" else f"Q{question} {kind}"


def read(path: str | Path, students: list[str], rubric: Rubric) -> dict[str, Row]:
    """Read a filled-in table and return student -> row.

    Args:
        students: all students who may occur in the table.

    Raises:
        ValueError: the table has errors; the message lists each error with its line and column.
        OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8; save it as 'CSV UTF-8' (byte {error.start})") from error
    return parse(text, path, students, rubric)


def parse(text: str, path: Path, students: list[str], rubric: Rubric) -> dict[str, Row]:
    """Parse the text of the file `path` as `read` does."""
    table = _Table(path, _cells(students), rubric)
    rows = _rows(text, table)
    if rows:
        _header(*rows[0], table)
    elif not table.problems:
        table.problems.append(f"{path}: is empty")
    if not table.problems:
        for number_of_line, row in rows[1:]:
            _row(number_of_line, row, table)
    if table.problems:
        raise ValueError("\n".join(table.problems))
    return table.rows


def _cells(names: list[str]) -> dict[str, str]:
    """Map each possible cell text, in the form's spelling or as a plain name, to a student; omit ambiguous ones."""
    alike: dict[str, set[str]] = {}
    for name in names:
        alike.setdefault(cell(name), set()).add(name)
    return {text: min(those) for text, those in alike.items() if len(those) == 1} | {name: name for name in names}


def _rows(text: str, table: _Table) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, each with the number of its first line."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, begin = [], 1
    try:
        for row in reader:
            if any(each.strip() for each in row):
                rows.append((begin, [each.strip() for each in row]))
            begin = reader.line_num + 1
    except csv.Error as error:
        table.wrong(begin, None, f"is not valid CSV: {error}")
    return rows


def _header(row: int, names: list[str], table: _Table) -> None:
    titles = [name.lower() for name in names]
    if titles.count("student") != 1:
        table.wrong(row, None, "exactly one column must be named student")
        return
    table.student_column, table.width = titles.index("student"), len(names)
    table.by_column = titles.index("by") if "by" in titles else None
    for column, name in enumerate(names):
        if name and column not in (table.student_column, table.by_column):
            _title_of(row, column, name, table)


def _title_of(row: int, column: int, name: str, table: _Table) -> None:
    match = HEADER.fullmatch(name)
    question = table.rubric.questions.get(match[1]) if match else None
    kind = (match[2] or "manual").lower() if match else "manual"
    if question is None or not _has(question, kind):
        table.wrong(row, column, f"{line(name)!r}: no question of this name is marked by hand")
    elif (question.id, kind) in table.columns.values():
        table.wrong(row, column, f"{_name(question.id, kind)} already has a column")
    elif match[3] and kind not in TEXTS and float(match[3]) != getattr(question, kind):
        of = number(getattr(question, kind))
        table.wrong(row, column, f"Q{question.id} has {of} {kind} points, not {match[3]}")
    else:
        table.columns[column] = (question.id, kind)


def _row(row: int, cells: list[str], table: _Table) -> None:
    if len(cells) > table.width:
        problem = f"{len(cells)} cells, but the first line has {table.width}; use a decimal point, as in 1.5"
        table.wrong(row, None, problem)
        return
    if len(cells) <= table.student_column or not cells[table.student_column]:
        table.wrong(row, table.student_column, "the student is missing")
        return
    name = cells[table.student_column]
    student = table.students.get(name)
    if student is None:
        table.wrong(row, table.student_column, f"unknown student {line(name)!r}")
    elif student in table.rows:
        table.wrong(row, table.student_column, f"{line(name)!r} occurs twice")
        student = None
    found = Row(row)
    for column, text in enumerate(cells):
        if not text or column == table.student_column:
            continue
        if column == table.by_column:
            found.by = line(text, 100)
        elif column in table.columns:
            _cell(row, column, text, found, table)
        else:
            table.wrong(row, column, f"{line(text)!r} is not in a question's column")
    if student is not None:
        table.rows[student] = found


def _cell(row: int, column: int, text: str, found: Row, table: _Table) -> None:
    """Store the value of a cell in `found`, or add its problem to `table.problems`."""
    question, kind = table.columns[column]
    if text == TAKEN_BACK:
        found.typed[question, kind] = None
    elif kind in TEXTS:
        if len(text) > LONGEST:
            table.wrong(row, column, f"has {len(text)} characters; shorten it to {LONGEST} or fewer")
        found.typed[question, kind] = " ".join(text.split())
    elif kind in SHARES:
        _points(row, column, text, found, table)


def _points(row: int, column: int, text: str, found: Row, table: _Table) -> None:
    question, kind = table.columns[column]
    most = getattr(table.rubric.questions[question], kind)
    if re.fullmatch(r"\d*,\d+", text, re.ASCII):
        table.wrong(row, column, f"{text}: write {text.replace(',', '.')}, with a decimal point")
    elif re.fullmatch(r"-[\d.]+", text, re.ASCII):
        table.wrong(row, column, f"{line(text)} is negative")
    elif not POINTS.fullmatch(text):
        table.wrong(row, column, f"{line(text)!r} is not a number")
    elif float(text) > most:
        table.wrong(row, column, f"{text} is more than the maximum, {number(most)}")
    else:
        found.typed[question, kind] = float(text)
