"""Check that the rubric and handout agree, and that every equation, question, figure and test cited in a file exists.

Cite an equation of another paper as "their fifth equation" or "equation (5) in the paper", so that it is not
mistaken for an equation in the handout.
"""

import re
from collections.abc import Collection, Iterator

from course.rubric import Question, Rubric
from staff.release.handout import FOLDER, Handout
from staff.release.suites import GradedTest

LABEL = r"(?:[A-C]\.)?\d{1,2}[a-z]?(?!\w|\.\d)"
LABELS = re.compile(LABEL)
EQUATION = re.compile(rf"\b(?:Eqs?\.|[Ee]quations?)\s+({LABEL}(?:(?:, and|,| and| or| to)\s+{LABEL})*)")
QUESTION = re.compile(r"\b(?:Q|[Qq]uestions?\s+)(\d+\.\d+(?:(?:, and|,| and| or| to)\s+\d+\.\d+)*)")
FIGURE = re.compile(r"\bFig(?:ures?|s?\.)\s+((?:[A-C]\.)?\d+)")
SECTION = re.compile(r"\bSections? ([A-C1-9](?:\.\d+)+)")  # only in the handout: other papers also have sections
# a question and the linked file with its tests
LINKED = re.compile(r"`pytest --question (\d+\.\d+)`\s+\(\[`\w+\.py`\]\(\.\./(tests/\w+\.py)\)")
TESTS = "staff/tests/"  # these files invent rubrics with other questions
TEXT = (".md", ".py", ".toml", ".cfg", ".txt", ".yml", ".html", ".css", ".job", ".sh", "Makefile")
ROW = re.compile(r"^\| \[(\d+\.\d+)\]\([^)]*\) \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|", re.MULTILINE)
CONTENTS = FOLDER + "README.md"
INTRODUCTION = FOLDER + "00_introduction.md"


def disagreements(rubric: Rubric, handout: Handout, texts: dict[str, str]) -> list[str]:
    """Return the questions that are missing or repeated in the handout, or whose points differ from the rubric."""
    problems = []
    for question in rubric.questions.values():
        stated = handout.questions.get(question.id, [])
        if len(stated) != 1:
            problems.append(f"handout/: question {question.id} occurs {len(stated)} times; it should occur once")
        elif stated[0] != question.points:
            problems.append(
                f"handout/: question {question.id} has {stated[0]:g} points, but {question.points:g} in the rubric"
            )
    for unknown in handout.questions.keys() - rubric.questions.keys():
        problems.append(f"handout/: the rubric has no question {unknown}")
    for kind, known in (("Equation", handout.equations), ("Figure", handout.figures)):
        problems += [f"handout/: {kind} {label} occurs {times} times" for label, times in known.items() if times > 1]
    problems += _table_of_questions(rubric, texts.get(CONTENTS, ""))
    return problems + _table_of_parts(rubric, texts.get(INTRODUCTION, ""))


def _table_of_questions(rubric: Rubric, text: str) -> list[str]:
    rows = {name: tuple(float(cell.strip() or 0) for cell in cells) for name, *cells in ROW.findall(text)}
    wanted = {question.id: _row(question) for question in rubric.questions.values()}
    return [
        f"{CONTENTS}: the table has {rows.get(name)} for question {name}, but the rubric has {wanted.get(name)} "
        "(points, tests, run, by hand)"
        for name in sorted(rows.keys() | wanted.keys())
        if rows.get(name) != wanted.get(name)
    ]


def _row(question: Question) -> tuple[float, ...]:
    return (question.points, *question.shares())


def _table_of_parts(rubric: Rubric, text: str) -> list[str]:
    total = sum(part.points for part in rubric.parts.values())
    rows = [*((str(part.number), part.points) for part in rubric.parts.values()), ("together", total)]
    return [
        f"{INTRODUCTION}: the table of points has no row {first!r} with {points:g} points"
        for first, points in rows
        if not re.search(rf"^\| {first}\b[^|]*\| {points:g} \|$", text, re.MULTILINE)
    ]


def dangling(questions: Collection[str], handout: Handout, texts: dict[str, str]) -> list[str]:
    """Return the citations of things that do not exist: "file:line: ..."."""
    problems = []
    for file, text in texts.items():
        if file.endswith(TEXT):
            for position, kind, label in _citations(text, file):
                known = {"question": questions, "Section": handout.sections}.get(kind)
                if not (label in known if known is not None else handout.has(f"{kind} {label}")):
                    line = text.count("\n", 0, position) + 1
                    problems.append(f"{file}:{line}: there is no {kind} {label} in the handout")
    return problems


def without_test(tests: Collection[GradedTest], texts: dict[str, str]) -> list[str]:
    """Return the links to a question's tests whose target does not contain them: "file:line: ..."."""
    known = {(test.question, test.file) for test in tests if not test.hidden}
    return [
        f"{file}:{text.count(chr(10), 0, match.start()) + 1}: {match[2]} has no tests for question {match[1]}"
        for file, text in texts.items()
        if file.startswith(FOLDER)
        for match in LINKED.finditer(text)
        if match.groups() not in known
    ]


def _citations(text: str, file: str) -> Iterator[tuple[int, str, str]]:
    """Yield the position, kind and label of each citation."""
    for match in EQUATION.finditer(text):
        yield from ((match.start(), "Eq.", label) for label in LABELS.findall(match[1]))
    for match in QUESTION.finditer(text) if not file.startswith(TESTS) else ():
        yield from ((match.start(), "question", label) for label in re.findall(r"\d+\.\d+", match[1]))
    yield from ((match.start(), "Figure", match[1]) for match in FIGURE.finditer(text))
    if file.startswith(FOLDER):
        yield from ((match.start(), "Section", match[1]) for match in SECTION.finditer(text))
