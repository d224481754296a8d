"""Compare the points stated in READMEs and the handout with the rubric.

`references` checks the points in the handout's headings and tables.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest

from course.rubric import Part, Question, Rubric
from staff.release.handout import FENCE, FOLDER, HEADING, QUESTION

NUMBER = r"\d+(?:\.\d+)?"
STATED = re.compile(rf"\(({NUMBER}) points?\)$")  # at the end of a heading
OF_QUESTION = re.compile(r"Q(\d+\.\d+)\b")
ROW = re.compile(rf"^\| Q(\d+\.\d+) \| ({NUMBER}) \|", re.MULTILINE)
TOTAL = re.compile(rf"\ball ({NUMBER}) points")
CHAPTER = re.compile(rf"^({NUMBER}) points\.", re.MULTILINE)
CONTENTS = re.compile(rf"^\| \[(\d+) [^\]]*\]\([^)]*\) \| ({NUMBER}) points:", re.MULTILINE)
# "earns 8 of the points; 2 more are for the run, and 2 for the plot and the score."
EARNED = re.compile(rf"\bearns ({NUMBER}|all) (?:of the )?points")
GIVEN = re.compile(rf"({NUMBER}) (?:points )?(?:more )?(?:(?:is|are) )?for (the runs?\b)?")


def disagreements(rubric: Rubric, texts: dict[str, str]) -> list[str]:
    """Return one line for each stated number that differs from the rubric: "file:line: ...".

    Args:
        texts: path -> text, for the whole tree.
    """
    pages = {file: FENCE.sub(_blank_lines, text) for file, text in texts.items() if file.endswith(".md")}
    problems = []
    for file, text in pages.items():
        if file.startswith(FOLDER):
            problems += _of_chapter(rubric, file, text)
        else:
            problems += _of_questions(rubric, file, text)
    for part in rubric.with_code:
        problems += _of_part(rubric, part, pages)
    total = sum(part.points for part in rubric.parts.values())
    for file, text in pages.items():
        stated = [(match.start(), float(match[1])) for match in TOTAL.finditer(text)]
        problems += [_problem(file, text, at, "the assignment", points, total) for at, points in stated]
    return [problem for problem in problems if problem]


def _blank_lines(fence: re.Match) -> str:
    return "\n" * fence[0].count("\n")


def _problem(file: str, text: str, position: int, what: str, stated: float, wanted: float) -> str | None:
    line = text.count("\n", 0, position) + 1
    points = f"{stated:g} point{'s' if stated != 1 else ''}"
    return None if stated == wanted else f"{file}:{line}: {what} has {points}, but {wanted:g} in the rubric"


def _of_questions(rubric: Rubric, file: str, text: str) -> Iterator[str | None]:
    """Check the headings of a README, such as "Q1.7: train a VAE (12 points)", and its tables."""
    for position, question, points in _stated(text):
        if question in rubric.questions:  # `references` reports unknown questions
            yield _problem(file, text, position, f"question {question}", points, rubric.questions[question].points)


def _stated(text: str) -> Iterator[tuple[int, str, float]]:
    """Yield the position, question and points of each heading and row that states points."""
    for heading in HEADING.finditer(text):
        if (points := STATED.search(heading[2])) and (question := OF_QUESTION.search(heading[2])):
            yield heading.start(), question[1], float(points[1])
    yield from ((row.start(), row[1], float(row[2])) for row in ROW.finditer(text))


def _of_part(rubric: Rubric, part: Part, pages: dict[str, str]) -> Iterator[str | None]:
    """Check that a part's README states each question's points once, and each table's sum in the heading above it."""
    file = f"{part.folder}/README.md"
    text = pages.get(file, "")
    there = [question for _, question, _ in _stated(text)]
    for question in rubric.questions.values():
        if question.part == part.number and there.count(question.id) != 1:
            times = there.count(question.id)
            yield f"{file}: question {question.id} occurs {times} times with its points; it should occur once"
    for title, position, section in _sections(text):
        if (points := STATED.search(title)) and not OF_QUESTION.search(title):
            total = sum(rubric.questions[row[1]].points for row in ROW.finditer(section) if row[1] in rubric.questions)
            yield _problem(file, text, position, f"{title.partition(' (')[0]!r}", float(points[1]), total)


def _sections(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield the title and position of each heading, and the text up to the next heading."""
    found = list(HEADING.finditer(text))
    for heading, following in zip_longest(found, found[1:]):
        yield heading[2], heading.start(), text[heading.end() : following.start() if following else None]


def _of_chapter(rubric: Rubric, file: str, text: str) -> Iterator[str | None]:
    """Check the handout: a part's points at the top of its chapter and in the contents, and each question's shares."""
    asked = [match[1] for title, _, _ in _sections(text) if (match := QUESTION.fullmatch(title))]
    parts = {rubric.questions[each].part for each in asked if each in rubric.questions}
    if match := CHAPTER.search(text) if len(parts) == 1 else None:
        (number,) = parts
        yield _problem(file, text, match.start(), f"part {number}", float(match[1]), rubric.parts[number].points)
    for row in CONTENTS.finditer(text):
        if part := rubric.parts.get(int(row[1])):
            yield _problem(file, text, row.start(), f"part {part.number}", float(row[2]), part.points)
    for title, position, section in _sections(text):
        match = QUESTION.fullmatch(title)
        if match and match[1] in rubric.questions:
            question = rubric.questions[match[1]]
            for share, stated, wanted in _shares(question, section):
                what = f"{share} of question {question.id}"
                yield _problem(file, text, position, what, stated, wanted)


def _shares(question: Question, section: str) -> Iterator[tuple[str, float, float]]:
    """Yield the shares stated in a question's section: the name, the stated points, the points in the rubric."""
    lines = [line for line in section.splitlines() if not line.startswith(">")]  # the question itself
    for sentence in re.split(r"\.\s", " ".join(lines)):
        if "points" not in sentence:
            continue
        if earned := EARNED.search(sentence):
            points = question.points if earned[1] == "all" else float(earned[1])
            yield "the automatic share", points, question.automatic
        given = GIVEN.findall(sentence)
        for name, wanted, of_run in (("evidence", question.evidence, True), ("manual", question.manual, False)):
            if stated := [float(points) for points, run in given if bool(run) == of_run]:
                yield f"the {name} share", sum(stated), wanted
