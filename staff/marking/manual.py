"""Points that a person gives: a table to fill in, and back.

The table is a CSV file: a row a student, and for each question with manual points a column `Q1.1 (2)`, which says how
many they are at most. Excel may have changed commas to semicolons. An empty cell is not judged yet.
"""

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from course.rubric import Rubric
from staff.grading.exports import Manual, cell
from staff.grading.feedback import line, number

HEADER = re.compile(r"Q?(\d{1,3}\.\d{1,3})(?: ?\((\d{1,6}(?:\.\d{1,6})?)\))?", re.ASCII)
POINTS = re.compile(r"\d{1,6}(\.\d{0,6})?|\.\d{1,6}", re.ASCII)


def template(results: list[dict], rubric: Rubric) -> str:
    """The table to fill in, with what is known already.

    Write it to a file with the encoding utf-8-sig, so that Excel reads it right.
    """
    wanted = {name: question for name, question in rubric.questions.items() if question.manual}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["student", *(f"Q{name} ({number(question.manual)})" for name, question in wanted.items())])
    for result in results:
        known = [result["questions"][name]["manual"] for name in wanted]
        shown = ["" if points is None else number(points) for points in known]
        writer.writerow([cell(result["student"]), *shown])
    return file.getvalue()


@dataclass
class _Table:
    """A file as far as it is read, and what is wrong with it."""

    path: Path
    students: dict[str, str]  # as it stands in a cell -> student
    rubric: Rubric
    columns: dict[int, str] = field(default_factory=dict)  # number of the column, from 0 -> question
    student_column: int = 0
    width: int = 0
    points: Manual = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def wrong(self, row: int, column: int | None, problem: str) -> None:
        at = "" if column is None else f", column {column + 1}"
        name = f" (Q{self.columns[column]})" if column in self.columns else ""
        self.problems.append(f"{self.path}: line {row}{at}{name}: {problem}")


def read(path: str | Path, results: list[dict], rubric: Rubric) -> Manual:
    """The points in a table that was filled in: student -> question -> points.

    Args:
        results: of `exports.read_results`: the students that there are.

    Raises:
        ValueError: a line for each thing that is wrong, with line and column.
        OSError: the file cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8; save it as 'CSV UTF-8' (byte {error.start})") from error
    table = _Table(path, _cells(results), rubric)
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
    return table.points


def _cells(results: list[dict]) -> dict[str, str]:
    """How students stand in the table, and in their own words; two that stand there alike are left out."""
    names = [result["student"] for result in results]
    alike: dict[str, set[str]] = {}
    for name in names:
        alike.setdefault(cell(name), set()).add(name)
    return {text: min(those) for text, those in alike.items() if len(those) == 1} | {name: name for name in names}


def _rows(text: str, table: _Table) -> list[tuple[int, list[str]]]:
    """Each row that has something in it, with the line that it begins in."""
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
        table.wrong(begin, None, f"is no CSV: {error}")
    return rows


def _header(row: int, names: list[str], table: _Table) -> None:
    titles = [name.lower() for name in names]
    if titles.count("student") != 1:
        table.wrong(row, None, "one column has to be named student")
        return
    table.student_column, table.width = titles.index("student"), len(names)
    for column, name in enumerate(names):
        if column == table.student_column or not name:
            continue
        match = HEADER.fullmatch(name)
        question = table.rubric.questions.get(match[1]) if match else None
        if question is None or not question.manual:
            table.wrong(row, column, f"{line(name)!r}: no question that a person judges has this name")
        elif question.id in table.columns.values():
            table.wrong(row, column, f"Q{question.id} has a column already")
        elif match[2] and float(match[2]) != question.manual:
            table.wrong(row, column, f"Q{question.id} has {number(question.manual)} manual points, not {match[2]}")
        else:
            table.columns[column] = question.id


def _row(row: int, cells: list[str], table: _Table) -> None:
    if len(cells) > table.width:
        problem = f"{len(cells)} cells, the first line has {table.width}; a number with a decimal comma? Write 1.5"
        table.wrong(row, None, problem)
        return
    if len(cells) <= table.student_column or not cells[table.student_column]:
        table.wrong(row, table.student_column, "names no student")
        return
    name = cells[table.student_column]
    student = table.students.get(name)
    if student is None:
        table.wrong(row, table.student_column, f"there is no student {line(name)!r}")
    elif student in table.points:
        table.wrong(row, table.student_column, f"{line(name)!r} stands there twice")
        student = None
    points: dict[str, float] = {}
    for column, text in enumerate(cells):
        if column in table.columns and text:
            _points(row, column, text, points, table)
        elif text and column != table.student_column:
            table.wrong(row, column, f"{line(text)!r} stands in no question's column")
    if student is not None:
        table.points[student] = points


def _points(row: int, column: int, text: str, points: dict[str, float], table: _Table) -> None:
    """Put the points of a cell into `points`, or what is wrong with it into `table.problems`."""
    question = table.rubric.questions[table.columns[column]]
    if re.fullmatch(r"\d*,\d+", text, re.ASCII):
        table.wrong(row, column, f"{text}: write {text.replace(',', '.')}, with a point")
    elif re.fullmatch(r"-[\d.]+", text, re.ASCII):
        table.wrong(row, column, f"{line(text)} is negative")
    elif not POINTS.fullmatch(text):
        table.wrong(row, column, f"{line(text)!r} is no number")
    elif float(text) > question.manual:
        table.wrong(row, column, f"{text} is more than the {number(question.manual)} that there are")
    else:
        points[question.id] = float(text)
