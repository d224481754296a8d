"""The handout says which demo of theory/ belongs to a written question, an exercise or a food for thought."""

import re

import pytest
from handout_exercises import EXERCISES

from course import rubric as rubrics
from course.flags import REPOSITORY
from staff.release import editions

TEXT = "\n".join(path.read_text("utf-8") for path in sorted((REPOSITORY / "handout").glob("[0-9ABC]*.md")))
DEMOS = {path.stem for path in (REPOSITORY / "theory").glob("*.py")}
LINK = re.compile(r"^\*Demo:\* \[(\w+)\.py\]\(\.\./theory/(\w+)\.py\)", re.MULTILINE)
SHEET_AND_LECTURE = [str(number) for number in range(1, 21)]  # exercises 21 and 22 are a table and Naive Bayes


def demos(text: str) -> set[str]:
    """The demos that a passage tells its reader to run."""
    found = LINK.findall(text)
    assert all(name == target for name, target in found), f"a link with another name: {found}"
    return {target for _, target in found}


def question(edition: str, anchor: str) -> str:
    """The text of a question: below its heading, up to the next heading or anchor."""
    chapters = sorted((REPOSITORY / "handout").glob("[0-9ABC]*.md"))
    text = "\n".join(path.read_text("utf-8") for path in chapters if editions.belongs(f"handout/{path.name}", edition))
    start = text.index(f'<a id="q{anchor}"></a>')
    start = text.index("\n", text.index("### ", start))
    end = re.compile(r"^#|^<a id=", re.MULTILINE).search(text, start)
    return text[start : end.start() if end else None]


def written() -> list[tuple[str, str]]:
    """Edition and anchor of the questions whose points are all for an answer in words."""
    questions = [
        (edition, each) for edition in editions.ONLY for each in rubrics.read(edition=edition).questions.values()
    ]
    return [(edition, each.id.replace(".", "-")) for edition, each in questions if each.manual == each.points]


@pytest.mark.parametrize("edition, anchor", written())
def test_written_question_names_its_demo(edition, anchor):
    assert demos(question(edition, anchor)) & DEMOS


@pytest.mark.parametrize("exercise", SHEET_AND_LECTURE)
def test_exercise_names_its_demo(exercise):
    assert demos(EXERCISES[exercise]) & DEMOS


def test_each_food_for_thought_names_its_demo():
    boxes = re.findall(r"^> \*\*Food for thought\.\*\* (.*?)^<details>\n<summary>Our", TEXT, re.MULTILINE | re.DOTALL)
    assert len(boxes) == TEXT.count("> **Food for thought.**") == 10
    assert [box[:60] for box in boxes if not demos(box) & DEMOS] == []


def test_each_demo_is_named_and_shown_once():
    assert demos(TEXT) == DEMOS
    pictures = re.findall(r"^!\[.+\]\(\.\./theory/figures/(\w+)\.png\)$", TEXT, re.MULTILINE)
    assert sorted(pictures) == sorted(DEMOS)
    assert all((REPOSITORY / "theory" / "figures" / f"{name}.png").is_file() for name in pictures)
