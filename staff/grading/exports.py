"""Export the results: grades.csv, grades.json, feedback/, report.html.

The output is deterministic: the same results give the same bytes. Every file is written atomically.
"""

import csv
import io
import json
import math
import re
import unicodedata
from pathlib import Path

from course.files import write_whole
from course.rubric import Rubric
from staff.grading import feedback, report
from staff.grading.feedback import SHARES, known, known_of, line
from staff.grading.results import STATUSES

FORMULA = "=+-@\u2212"


def write(folder: str | Path, results: list[dict], rubric: Rubric) -> list[Path]:
    """Write all exports of these results, which come from `entries.apply`, and return the files.

    Raises:
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    files = {"grades.csv": grades_csv(results, rubric), "grades.json": grades_json(results, rubric)}
    for result in results:
        files[f"feedback/{result['student']}.md"] = feedback.markdown(result, rubric)
        files[f"feedback/{result['student']}.html"] = feedback.html_page(result, rubric)
    files["report.html"] = report.html_page(results, rubric)
    return [write_whole(folder / name, content.encode("utf-8")) for name, content in files.items()]


def cell(text: object, most: int = 500) -> str:
    """Return text for a spreadsheet cell: on one line, with an apostrophe before anything that looks like a formula.

    Text after a semicolon, comma or bar is also checked, because a program that uses these as separators starts a new
    cell there.
    """
    shown = " ".join(feedback.clean(text, most).split())
    parts = re.split(r"([;,|])", shown)
    shown = "".join(f"'{part}" if _starts_formula(part) else part for part in parts)
    return f"'{shown}" if str(text)[:1] in ("\t", "\r", "\n") and not shown.startswith("'") else shown


def _starts_formula(text: str) -> bool:
    plain = unicodedata.normalize("NFKC", text).lstrip(" \t\r\n\"\ufffd'")  # replaces full-width characters
    return plain[:1] in tuple(FORMULA)


def grades_csv(results: list[dict], rubric: Rubric) -> str:
    """Return the points as CSV, one row per student. A byte order mark at the start makes Excel read it as UTF-8.

    Points that are not known yet, e.g. because the answer has not been judged, are empty and count as 0 in the total.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    questions = [f"Q{name}" for name in rubric.questions]
    known_people = any(result["name"] or result["group"] for result in results)
    people = ["name", "group"] if known_people else []
    writer.writerow(["student", *people, "status", *questions, *SHARES, "total", "problem"])
    for result in results:
        row = _row(result)
        points = [row["questions"][name]["points"] for name in rubric.questions]
        numbers = [*points, *(row[share] for share in SHARES), row["total"]]
        shown = ["" if value is None else f"{value:.10g}" for value in numbers]
        people = [cell(result["name"]), cell(result["group"])] if known_people else []
        writer.writerow([cell(row["student"]), *people, STATUSES[row["status"]], *shown, cell(row["problem"] or "")])
    return "\ufeff" + file.getvalue()


def grades_json(results: list[dict], rubric: Rubric) -> str:
    """Return the points as JSON. `graded`: the time of the latest result; `open`: questions not fully judged yet."""
    content = {
        "edition": rubric.edition,
        "graded": max((result["graded"] for result in results), default=None),
        "number_of_students": len(results),
        "points": sum(part.points for part in rubric.parts.values()),
        "students": [_row(result) for result in results],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _row(result: dict) -> dict:
    """Return a student's row; points that are not known are None."""
    questions = {name: _question_row(question) for name, question in result["questions"].items()}
    return {
        "student": result["student"],
        "name": result["name"],
        "group": result["group"],
        "status": result["status"],
        "questions": questions,
        **{share: _sum(question[share] for question in questions.values()) for share in SHARES},
        "total": _sum(map(known, result["questions"].values())) or 0,
        "open": [name for name, question in result["questions"].items() if known_of(question) < _all_of(question)],
        "problem": result["problem"] and line(result["problem"], 500),
        "missing": result["missing"],
        "older": result["older"],
        "given": result.get("given", []),
        "comments": result.get("comments", []),
    }


def _question_row(question: dict) -> dict:
    shares = {share: question[share] if question[f"{share}_of"] else None for share in SHARES}
    there = any(points is not None for points in shares.values())
    return {"points": known(question) if there else None, **shares}


def _all_of(question: dict) -> float:
    return math.fsum(question[f"{share}_of"] for share in SHARES)


def _sum(values) -> float | None:
    """Return the sum of the known values; None if no value is known."""
    there = [value for value in values if value is not None]
    return round(math.fsum(there), 4) if there else None
