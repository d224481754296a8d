"""The class at a glance: report.html. It is for the staff only, because it names hidden tests.

The page is a single file without scripts or external resources. Text from submissions is escaped as in `feedback`.
"""

import math
import re
from collections import Counter

from markupsafe import Markup

from course.rubric import Rubric
from staff.grading.feedback import (
    Block,
    Code,
    Heading,
    Items,
    Paragraph,
    Table,
    Text,
    as_html,
    is_of_part,
    known,
    known_of,
    line,
    missing_parts,
    number,
    page,
)
from staff.grading.ordinary import is_ordinary
from staff.grading.results import JUDGED, STATUSES, is_undecided

BARS = 12
MISTAKES = 30
SLOWEST = 10
NUMBER = re.compile(r"0x[0-9a-fA-F]+|(?<![\w.])[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)(?![\w])")


def html_page(results: list[dict], rubric: Rubric) -> str:
    """Return the page as HTML; `results` come from `entries.apply`."""
    judged = [result for result in results if result["status"] in JUDGED]
    return page(
        "The class at a glance",
        Markup(),
        "class.html",
        counts=as_html([Heading(1, f"The class, edition {rubric.edition}"), _counts(results, judged)]),
        chart=_chart([_automatic(result) for result in judged], _most_automatic(rubric)),
        questions=[_question(name, question.title, judged) for name, question in rubric.questions.items()],
        rest=as_html(
            _not_whole(results) + _given(results) + _mistakes(judged, rubric) + _slowest(results) + _warnings(results)
        ),
    )


# --- points -----------------------------------------------------------------------------------------------------------


def _automatic(result: dict) -> float:
    return math.fsum(question["automatic"] or 0 for question in result["questions"].values())


def _most_automatic(rubric: Rubric) -> float:
    return math.fsum(question.automatic for question in rubric.questions.values())


def _counts(results: list[dict], judged: list[dict]) -> Block:
    points = sorted(map(_automatic, judged))
    statuses = Counter(result["status"] for result in results)
    said = [f"{statuses[status]} {name}" for status, name in STATUSES.items() if statuses[status]]
    lines: list[Text] = [f"{len(results)} students: {', '.join(said) or 'none'}"]
    if points:
        middle = (points[(len(points) - 1) // 2] + points[len(points) // 2]) / 2
        mean = math.fsum(points) / len(points)
        lines.append(f"automatic points: mean {number(mean)}, median {number(middle)}, best {number(points[-1])}")
    levels = Counter(result["sandbox"] for result in results if result["sandbox"])
    lines += [["judged at sandbox level ", Code(name), f": {count}"] for name, count in sorted(levels.items())]
    return Items(lines)


def histogram(points: list[float], most: float) -> list[int]:
    """Count the points in each of `BARS` equal intervals from 0 to `most`; the last interval includes `most`."""
    counts = [0] * BARS
    for value in points:
        counts[min(int(value / most * BARS), BARS - 1) if most else 0] += 1
    return counts


def _chart(points: list[float], most: float) -> dict:
    """Return the position, height and count of each bar of the histogram, and its labels."""
    counts = histogram(points, most)
    high = max(*counts, 1)
    bars = [
        {"x": 10 + 52 * i, "height": 160 * count / high, "count": count, "start": number(most * i / BARS)}
        for i, count in enumerate(counts)
    ]
    title = f"Submissions by automatic points, from 0 to {number(most)}: {', '.join(map(str, counts))}"
    return {"bars": bars, "end": 10 + 52 * BARS, "most": number(most), "title": title}


def of_question(name: str, judged: list[dict]) -> dict | None:
    """Return a question's statistics: number of submissions, mean, fractions with full points and with no points.

    Points that are not known yet count neither as earned nor as available. Return None if no points are known at all.
    """
    pairs = [(known(each), known_of(each)) for each in (result["questions"][name] for result in judged)]
    pairs = [(points, of) for points, of in pairs if of]
    if not pairs:
        return None
    return {
        "count": len(pairs),
        "of": max(of for _, of in pairs),
        "mean": math.fsum(points for points, _ in pairs) / len(pairs),
        "share": math.fsum(points / of for points, of in pairs) / len(pairs),
        "full": sum(points >= of - 1e-9 for points, of in pairs) / len(pairs),
        "none": sum(points == 0 for points, _ in pairs) / len(pairs),
    }


def _question(name: str, title: str, judged: list[dict]) -> dict:
    """Return a row of the table of questions; its bar shows the mean fraction of the available points."""
    row = {"name": f"Q{name}", "count": 0, "mean": "", "bar": 0, "full": "", "none": "", "title": title}
    if found := of_question(name, judged):
        mean = f"{number(found['mean'])} of {number(found['of'])}"
        shares = {"full": f"{found['full']:.0%}", "none": f"{found['none']:.0%}", "bar": round(100 * found["share"])}
        row |= {"count": found["count"], "mean": mean, **shares}
    return row


# --- people ---------------------------------------------------------------------------------------------------------


def _given(results: list[dict]) -> list[Block]:
    """List the points that people changed: the student, the old and new points, who changed them, and why."""
    rows: list[list[Text]] = [
        [
            [Code(result["student"])],
            f"Q{row['question']} {row['share']}",
            "not judged" if row["before"] is None else number(row["before"]),
            f"{number(row['points'])} of {number(row['of'])}",
            [Code(row["by"])],
            [Code(row["reason"])],
        ]
        for result in results
        for row in result.get("given", [])
        if row["share"] != "manual"
    ]
    header = ["Student", "Points", "Before", "Now", "By", "Reason"]
    return [Heading(2, "Points changed by people"), Table(header, rows)] if rows else []


# --- mistakes ---------------------------------------------------------------------------------------------------------


def sentence(message: str | None) -> str:
    """Return the first line of a message with numbers replaced by N, so that similar mistakes give the same text."""
    lines = line((message or "").strip().split("\n", 1)[0])
    return NUMBER.sub("N", lines) or "no message"


def mistakes(judged: list[dict], rubric: Rubric) -> list[tuple[int, str, str, list[str]]]:
    """Return the mistakes, most common first: the number of submissions, question, sentence, and names of the tests.

    Failed tests for a missing part do not count as mistakes.
    """
    students: dict[tuple[str, str], set[str]] = {}
    tests: dict[tuple[str, str], set[str]] = {}
    for result in judged:
        missing = missing_parts(result, rubric)
        for test in result["tests"]:
            if test["outcome"] == "failed" and not any(is_of_part(test, part) for part in missing):
                key = (test["question"], sentence(test["message"]))
                students.setdefault(key, set()).add(result["student"])
                tests.setdefault(key, set()).add(test["name"])
    found = [(len(students[key]), *key, sorted(tests[key])) for key in students]
    return sorted(found, key=lambda row: (-row[0], row[1:]))


def _mistakes(judged: list[dict], rubric: Rubric) -> list[Block]:
    found = mistakes(judged, rubric)
    if not found:
        return []
    rows: list[list[Text]] = [
        [str(count), f"Q{question}", [Code(what)], _words(tests[:5])]
        for count, question, what, tests in found[:MISTAKES]
    ]
    rest = [Paragraph(f"and {len(found) - MISTAKES} more")] if len(found) > MISTAKES else []
    header = ["Submissions", "Question", "Mistake (N: a number)", "Tests"]
    return [Heading(2, "The most common mistakes"), Table(header, rows), *rest]


def _words(words: list[str]) -> Text:
    pieces: list[str] = []
    for word in words:
        pieces += [Code(word), " "]
    return pieces[:-1]


# --- runs -------------------------------------------------------------------------------------------------------------


def _not_whole(results: list[dict]) -> list[Block]:
    rows: list[list[Text]] = [
        [
            [Code(result["student"])],
            STATUSES[result["status"]],
            [Code(result["source"])],
            [Code(result["problem"] or "")],
        ]
        for result in results
        if result["status"] != "graded"
    ]
    header = ["Student", "Status", "Source", "Problem"]
    return [Heading(2, "Not fully graded"), Table(header, rows)] if rows else []


def _slowest(results: list[dict]) -> list[Block]:
    slowest = sorted(results, key=lambda result: (-result["seconds"], result["student"]))[:SLOWEST]
    rows: list[list[Text]] = [[[Code(result["student"])], number(result["seconds"])] for result in slowest]
    return [Heading(2, "Slowest"), Table(["Student", "Seconds"], rows)] if rows else []


def warnings(result: dict) -> list[str]:
    """Return warnings for the staff, e.g. about forbidden names, figures that differ, or unusual files left out."""
    found = ["is not on the roster"] if result.get("unlisted") else []
    found += [f"older, not counted: {each}" for each in result["older"]]
    found += [
        f"{use['file']}:{use['line']}: {use['name']} is forbidden"
        + (f" in Q{use['question']}" if use["question"] else "")
        for use in result["forbidden"]
    ]
    found += [
        f"Q{entry['question']}, {entry['run']}: {entry['warning']}"
        for entry in result["evidence"]
        if entry["warning"] and entry["run"]  # a missing run costs points but is not suspicious
    ]
    found += ["not fully judged: the machine was too busy"] if is_undecided(result) else []
    return found + [f"left out: {file}" for file in result["left_out"] if not is_ordinary(file)]


def _warnings(results: list[dict]) -> list[Block]:
    blocks: list[Block] = []
    for result in results:
        if found := warnings(result):
            blocks += [Heading(3, [Code(result["student"])]), Items([[Code(each)] for each in found])]
    return [Heading(2, "Worth checking"), *blocks] if blocks else []
