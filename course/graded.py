"""The last lines printed after the graded tests: the points not counted, and the next step."""

import ast
from pathlib import Path

from course import blanks
from course.rubric import Rubric, read

SUITES = ("tests", "staff/hidden")  # students have only the first


def points_here(root: Path) -> dict[str, float]:
    """Add up the points of the graded tests in the repository, from their markers: question -> points.

    Unreadable files are skipped, because pytest reports them.
    """
    points: dict[str, float] = {}
    for path in [path for folder in SUITES for path in sorted((root / folder).glob("test_part*.py"))]:
        try:
            nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in nodes:
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="question"),
                    args=[ast.Constant(str(question))],
                    keywords=[ast.keyword("points", ast.Constant(int() | float() as worth)), *_],
                ):
                    points[question] = points.get(question, 0) + worth
    return points


def not_counted(ran: dict[str, float], root: Path, rubric: Rubric | None = None) -> str:
    """Describe the points missing from the table: "not counted: 6 points for runs, 36 for written answers".

    The text covers the whole assignment if the tests of all questions ran, else only the questions whose tests ran.

    Args:
        ran: question -> points of the tests that ran.
        root: the repository.
    """
    rubric = rubric or read()
    tested = [question.id for question in rubric.questions.values() if question.automatic]
    everything = set(tested) <= ran.keys()
    questions = [each for each in rubric.questions.values() if everything or each.id in ran]
    here = points_here(root)
    rows = {
        "in tests that did not run": sum(here.get(each.id, 0) - ran.get(each.id, 0) for each in questions),
        "in tests that only graders have": sum(each.automatic - here.get(each.id, 0) for each in questions),
        "for runs": sum(each.evidence for each in questions),
        "for written answers": sum(each.manual for each in questions),
    }
    parts = [f"{points:g} {what}" for what, points in rows.items() if points > 0]
    if not parts:
        return ""
    number, _, rest = parts[0].partition(" ")
    parts[0] = f"{number} point{'s' if number != '1' else ''} {rest}"
    of = "" if everything else f"of {', '.join(f'Q{each.id}' for each in questions)}, "
    return f"{of}not counted: {', '.join(parts)}"


def next_line(tests: list[dict], root: Path, rubric: Rubric | None = None) -> str:
    """Describe what to do after a test run: the first question, in the rubric's order, with a test that did not pass.

    Args:
        tests: the tests that ran, each with name, question, outcome and message.
        root: the repository.
    """
    rubric = rubric or read()
    order = list(rubric.questions)
    lost = [test for test in tests if test["outcome"] != "passed" and test["question"] in order]
    if not lost:
        return "next: `python -m course next` shows the step after these tests"
    first = min((test["question"] for test in lost), key=order.index)
    lost = [test for test in lost if test["question"] == first]
    more = "for a hint: python -m course next --hint"
    wrong = [test for test in lost if not (test["message"] or "").startswith(f"Q{first} is not filled in yet: ")]
    if wrong:
        return f"next: Q{first}, {wrong[0]['name']} fails, see above; {more}"
    question = rubric.questions[first]
    try:
        left = [blank for blank in blanks.in_order(rubric, rubric.parts[question.part], root) if blank.open]
        blank = next(blank for blank in left if blank.question == first)
    except (StopIteration, OSError, SyntaxError, ValueError):  # e.g. invalid Python, which a test reports
        return f"next: Q{first}, {lost[0]['name']}, see above; {more}"
    return f"next: Q{first}, {blank.file}, line {blank.line}: {blank.what.rstrip('.')}; {more}"
