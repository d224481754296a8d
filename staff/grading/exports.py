"""From the results to what the course gets: grades.csv, grades.json, feedback/, report.html.

The same results give the same bytes. Every file is written whole or not at all.
"""

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course.files import write_whole
from course.rubric import Rubric
from staff.grading import feedback, report
from staff.grading.feedback import SHARES, known, known_of, line

RESULTS = "results"
FORMULA = "=+-@\u2212"
Manual = dict[str, dict[str, float]]  # student -> question -> points


class ResultsError(ValueError):
    """Results that cannot be used; a line for each, which begins with the file."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_results(folder: str | Path) -> list[dict]:
    """The results in `folder`/results, one file a student, sorted by student.

    Raises:
        ResultsError: a file is damaged or has points that cannot be; all such files are named.
    """
    results, problems = [], []
    for path in sorted((Path(folder) / RESULTS).glob("*.json")):
        try:
            result = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{path}: cannot be read: {line(error)}")
            continue
        found = check_result(result)
        if not found and result["student"] != path.stem:
            found = [f"is of the student {line(result['student'])!r}"]
        problems += [f"{path}: {problem}" for problem in found]
        results.append(result)
    if problems:
        raise ResultsError("\n".join(problems))
    return sorted(results, key=lambda result: result["student"])


def is_points(value: Any) -> bool:
    """A number that can be points: finite, not negative; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1e6  # NaN and infinity are not, and whole numbers have no end


def _number(value: Any) -> bool:
    """A figure of a submission: any float, NaN too."""
    return isinstance(value, float) or is_points(value) or (type(value) is int and is_points(-value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


Fields = dict[str, Callable[[Any], bool]]
OF_RESULT: Fields = {
    "student": lambda value: _text(value) and value != "",
    "source": _text,
    "status": _one_of("graded", "failed"),
    "problem": _or_none(_text),
    "sandbox": _or_none(_text),
    "seconds": is_points,
    "graded": _text,
    "left_out": _texts,
    "problems": _texts,
    "forbidden": lambda value: isinstance(value, list),
    "questions": lambda value: isinstance(value, dict),
    "tests": lambda value: isinstance(value, list),
    "evidence": lambda value: isinstance(value, list),
}
OF_QUESTION: Fields = {"points": is_points} | {
    name: check for share in SHARES for name, check in ((share, _or_none(is_points)), (f"{share}_of", is_points))
}
OF_TEST: Fields = {
    "name": _text,
    "question": _text,
    "points": is_points,
    "hidden": lambda value: isinstance(value, bool),
    "outcome": _one_of("passed", "failed"),
    "message": _or_none(_text),
}
OF_EVIDENCE: Fields = {
    "question": _text,
    "what": _text,
    "run": _text,
    "claimed": _or_none(_number),
    "recomputed": _or_none(_number),
    "points": _or_none(is_points),
    "of": is_points,
    "warning": _or_none(_text),
}
OF_FORBIDDEN: Fields = {"file": _text, "line": _or_none(is_points), "name": _text, "question": _or_none(_text)}


def check_result(result: Any) -> list[str]:
    """What is wrong with the content of a result file; nothing if it can be used."""
    problems = _wrong_fields(result, OF_RESULT, "")
    if problems:
        return problems
    for name, question in result["questions"].items():
        found = _wrong_fields(question, OF_QUESTION, f"Q{line(name)}: ")
        problems += found or [
            f"Q{line(name)}: {share} has {question[share]:g} of {question[f'{share}_of']:g} points"
            for share in SHARES
            if question[share] is not None and question[share] > question[f"{share}_of"]
        ]
    for entry in result["evidence"]:
        found = _wrong_fields(entry, OF_EVIDENCE, "evidence: ")
        problems += found
        if not found and (entry["points"] or 0) > entry["of"]:
            problems.append(f"evidence: has {entry['points']:g} of {entry['of']:g} points")
    for name, fields in (("tests", OF_TEST), ("forbidden", OF_FORBIDDEN)):
        for entry in result[name]:
            problems += _wrong_fields(entry, fields, f"{name}: ")
    return problems


def _wrong_fields(content: Any, fields: Fields, place: str) -> list[str]:
    if not isinstance(content, dict):
        return [f"{place}is no table of fields"]
    missing = [f"{place}{name} is missing" for name in fields if name not in content]
    wrong = [name for name, fits in fields.items() if name in content and not fits(content[name])]
    return missing + [f"{place}{name} cannot be {line(repr(content[name]), 60)}" for name in wrong]


# --- writing ----------------------------------------------------------------------------------------------------------


def write(folder: str | Path, rubric: Rubric, manual: Manual | None = None) -> list[Path]:
    """Make all exports of the results in `folder`/results; returns the files.

    Args:
        manual: the points that a person gave, from `manual.read`.

    Raises:
        ResultsError: a result is damaged or was judged by another rubric, or `manual` does not fit.
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    results = with_manual(read_results(folder), manual or {})
    refuse_another_rubric(results, rubric)
    files = {"grades.csv": grades_csv(results, rubric), "grades.json": grades_json(results, rubric)}
    for result in results:
        files[f"feedback/{result['student']}.md"] = feedback.markdown(result, rubric)
        files[f"feedback/{result['student']}.html"] = feedback.html_page(result, rubric)
    files["report.html"] = report.html_page(results, rubric)
    return [write_whole(folder / name, content.encode("utf-8")) for name, content in files.items()]


def with_manual(results: list[dict], manual: Manual) -> list[dict]:
    """The results with the points that a person gave put in.

    Raises:
        ResultsError: a student or a question that is not there, or points that are none or too many.
    """
    unknown = manual.keys() - {result["student"] for result in results}
    problems = [f"manual points: there is no student {line(student)!r}" for student in sorted(unknown)]
    judged = []
    for result in results:
        questions = dict(result["questions"])
        for name, points in manual.get(result["student"], {}).items():
            if name not in questions:
                problems.append(f"manual points: {line(result['student'])}: there is no question {line(name)}")
                continue
            questions[name] = questions[name] | {"manual": points}
        judged.append(result | {"questions": questions})
        problems += [f"manual points: {line(result['student'])}: {each}" for each in check_result(judged[-1])]
    if problems:
        raise ResultsError("\n".join(problems))
    return judged


def refuse_another_rubric(results: list[dict], rubric: Rubric) -> None:
    """Results of an earlier rubric must not be added up by this one.

    Raises:
        ResultsError: questions or points differ.
    """
    wanted = {name: question.shares() for name, question in rubric.questions.items()}
    problems = []
    for result in results:
        there = {name: tuple(each[f"{share}_of"] for share in SHARES) for name, each in result["questions"].items()}
        differ = [name for name in {**wanted, **there} if wanted.get(name) != there.get(name)]
        if differ or list(wanted) != list(there):
            named = ", ".join(f"Q{line(name)}" for name in differ) or "the order of the questions"
            problems.append(f"{line(result['student'])}: was judged by another rubric ({named} differ); grade it again")
    if problems:
        raise ResultsError("\n".join(problems))


def cell(text: object) -> str:
    """Text for a cell of a spreadsheet: on one line, and an apostrophe before what would be taken for a formula.

    A semicolon, comma or bar is looked behind as well: a program that separates cells by another character than we do
    finds a cell there.
    """
    shown = " ".join(feedback.clean(text, 500).split())
    parts = re.split(r"([;,|])", shown)
    shown = "".join(f"'{part}" if _starts_formula(part) else part for part in parts)
    return f"'{shown}" if str(text)[:1] in ("\t", "\r", "\n") and not shown.startswith("'") else shown


def _starts_formula(text: str) -> bool:
    plain = unicodedata.normalize("NFKC", text).lstrip(" \t\r\n\"\ufffd'")  # full-width forms become plain ones
    return plain[:1] in tuple(FORMULA)


def grades_csv(results: list[dict], rubric: Rubric) -> str:
    """The table, a row a student, comma-separated; it begins with a byte order mark, so that Excel reads UTF-8.

    What is not known (a person has not judged it) is empty, and counts as nothing in the total.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    questions = [f"Q{name}" for name in rubric.questions]
    writer.writerow(["student", "status", *questions, *SHARES, "total", "problem"])
    for result in results:
        row = _row(result)
        points = [row["questions"][name]["points"] for name in rubric.questions]
        numbers = [*points, *(row[share] for share in SHARES), row["total"]]
        shown = ["" if value is None else f"{value:.10g}" for value in numbers]
        writer.writerow([cell(row["student"]), row["status"], *shown, cell(row["problem"] or "")])
    return "\ufeff" + file.getvalue()


def grades_json(results: list[dict], rubric: Rubric) -> str:
    """The same for programs. `graded`: when the last of the results was made; `open`: what nobody has judged yet."""
    content = {
        "edition": rubric.edition,
        "graded": max((result["graded"] for result in results), default=None),
        "number_of_students": len(results),
        "points": sum(part.points for part in rubric.parts.values()),
        "students": [_row(result) for result in results],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _row(result: dict) -> dict:
    """A student's points; None for what is not known at all."""
    questions = {name: _question_row(question) for name, question in result["questions"].items()}
    return {
        "student": result["student"],
        "status": result["status"],
        "questions": questions,
        **{share: _sum(question[share] for question in questions.values()) for share in SHARES},
        "total": _sum(map(known, result["questions"].values())) or 0,
        "open": [name for name, question in result["questions"].items() if known_of(question) < _all_of(question)],
        "problem": result["problem"] and line(result["problem"], 500),
    }


def _question_row(question: dict) -> dict:
    shares = {share: question[share] if question[f"{share}_of"] else None for share in SHARES}
    there = any(points is not None for points in shares.values())
    return {"points": known(question) if there else None, **shares}


def _all_of(question: dict) -> float:
    return math.fsum(question[f"{share}_of"] for share in SHARES)


def _sum(values) -> float | None:
    """The sum of those that are known; None if none is."""
    there = [value for value in values if value is not None]
    return round(math.fsum(there), 4) if there else None
