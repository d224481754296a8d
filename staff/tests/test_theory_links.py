"""Tests of the handout's links from written questions, exercises and "food for thought" boxes to demos in theory/."""

import re

import pytest
from handout_exercises import EXERCISES

from course import rubric as rubrics
from course.flags import REPOSITORY
from staff.release import editions

TEXT = "\n".join(path.read_text("utf-8") for path in sorted((REPOSITORY / "handout").glob("[0-9ABC]*.md")))
DEMOS = {path.stem for path in (REPOSITORY / "theory").glob("*.py")}
LINK = re.compile(r"^\*Demo:\* \[(\w+)\.py\]\(\.\./theory/(\w+)\.py\)", re.MULTILINE)
SHEET_AND_LECTURE = [str(number) for number in range(1, 21)]  # not exercises 21 (a table) and 22 (naive Bayes)
# part of the discussion sheet -> the exercise that covers it, and its demo
SHEET = {
    "1a": ("1", "information"),
    "1b": ("2", "information"),
    "2a": ("8", "monte_carlo"),
    "2b": ("9", "elbo"),
    "2c": ("11", "gradients"),
    "2d": ("12", "gradients"),
    "3a": ("13", "loss_terms"),
    "3b": ("14", "latent_size"),
    "3c": ("15", "decoding"),
    "3d": ("10", "elbo"),
}


def demos(text: str) -> set[str]:
    """Return the demos that a passage asks its reader to run."""
    found = LINK.findall(text)
    assert all(name == target for name, target in found), f"the text of a link differs from its target: {found}"
    return {target for _, target in found}


def question(edition: str, anchor: str) -> str:
    """Return the text of a question, from its heading to the next heading, anchor or "food for thought" box."""
    chapters = sorted((REPOSITORY / "handout").glob("[0-9ABC]*.md"))
    text = "\n".join(path.read_text("utf-8") for path in chapters if editions.belongs(f"handout/{path.name}", edition))
    start = text.index(f'<a id="q{anchor}"></a>')
    start = text.index("\n", text.index("### ", start))
    end = re.compile(r"^#|^<a id=|^> \*\*Food", re.MULTILINE).search(text, start)
    return text[start : end.start() if end else None]


def written() -> list[tuple[str, str]]:
    """Return the edition and anchor of each question whose points are all for a written answer."""
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


def food_for_thought() -> list[tuple[str, str]]:
    """Return the section number and the text of each "food for thought" box."""
    box = re.compile(r"^> \*\*Food for thought\.\*\* (.*?)^<details>\n<summary>Our", re.MULTILINE | re.DOTALL)
    section = re.compile(r"^## ([\dA-C]\.\d)", re.MULTILINE)
    return [(section.findall(TEXT[: found.start()])[-1], found[1]) for found in box.finditer(TEXT)]


def test_each_food_for_thought_names_its_demo():
    boxes = food_for_thought()
    assert len(boxes) == TEXT.count("> **Food for thought.**") == 10
    assert [box[:60] for _, box in boxes if not demos(box) & DEMOS] == []


@pytest.mark.parametrize("part", SHEET)
def test_part_of_the_discussion_sheet_has_its_demo(part):
    exercise, demo = SHEET[part]
    assert demo in demos(EXERCISES[exercise])


def places(text: str) -> set[str]:
    """Return the questions, exercises and boxes named in a line such as "Q1.3, Q1.4; exercises 9 and 10"."""
    found = {f"Q{name}" for name in re.findall(r"\bQ(\d\.\d)", text)}
    if "of the 2022 edition" in text:
        found = {"Q3.1, 2022" if name == "Q3.1" else name for name in found}
    for kind, pattern in {"exercise": r"\d+", "food for thought in": r"[\dA-C]\.\d"}.items():
        for numbers in re.findall(rf"(?i)\b{kind}s? ((?:{pattern}(?:, | and )?)+)", text):
            found |= {f"{kind} {number}" for number in re.findall(pattern, numbers)}
    return found


def named_in_the_handout() -> set[tuple[str, str]]:
    """Return (demo, place) for each demo of a written question, exercise or "food for thought" box."""
    texts = [
        (
            "Q3.1, 2022" if (edition, anchor) == ("2022", "3-1") else f"Q{anchor.replace('-', '.')}",
            question(edition, anchor),
        )
        for edition, anchor in written()
    ]
    texts += [(f"exercise {number}", text) for number, text in EXERCISES.items()]
    texts += [(f"food for thought in {section}", box) for section, box in food_for_thought()]
    return {(demo, place) for place, text in texts for demo in demos(text)}


def table() -> dict[str, str]:
    """Return demo -> its entry in the column "for" of the table in theory/README.md."""
    readme = (REPOSITORY / "theory" / "README.md").read_text("utf-8")
    return dict(re.findall(r"^\| \[(\w+)\.py\]\(\w+\.py\) \| ([^|]*) \|", readme, re.MULTILINE))


def test_table_of_demos_agrees_with_the_handout():
    assert {(demo, place) for demo, text in table().items() for place in places(text)} == named_in_the_handout()


@pytest.mark.parametrize("demo", sorted(DEMOS))
def test_script_names_the_same_questions_and_exercises(demo):
    top = (REPOSITORY / "theory" / f"{demo}.py").read_text("utf-8").split("# For ", 1)[1].split(". ", 1)[0]
    boxes = {place for place in places(table()[demo]) if place.startswith("food")}
    assert places(top.replace("\n#", "")) == places(table()[demo]) - boxes


def test_each_demo_is_named_and_shown_once():
    assert demos(TEXT) == DEMOS
    pictures = re.findall(r"^!\[.+\]\(\.\./theory/figures/(\w+)\.png\)$", TEXT, re.MULTILINE)
    assert sorted(pictures) == sorted(DEMOS)
    assert all((REPOSITORY / "theory" / "figures" / f"{name}.png").is_file() for name in pictures)
