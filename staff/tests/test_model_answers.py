"""Tests that the model answers are complete and for staff only, have points that add up, and cite the handout."""

import dataclasses

import pytest

from course import rubric as rubrics
from small_runs import REPOSITORY
from staff.marking import answers
from staff.release import handout as handouts


@pytest.fixture(scope="module")
def model_answers() -> dict[str, answers.ModelAnswer]:
    return answers.read()


@pytest.fixture(scope="module")
def handout() -> handouts.Handout:
    chapters = (REPOSITORY / "handout").glob("*.md")
    return handouts.read({f"handout/{path.name}": path.read_text("utf-8") for path in chapters})


def test_the_2022_edition_has_its_own_answers_too():
    """The answers differ only for Q2.4, which does not ask for epochs, and Q3.1, which is on a different topic."""
    own, others, other = answers.read(), answers.read(edition="2022"), rubrics.read(edition="2022")
    assert {name for name, each in others.items() if own.get(name) != each} == {"2.4", "3.1"}
    manual = {question.id: question.manual for question in other.questions.values() if question.manual}
    assert {name: sum(credit.points for credit in each.credit) for name, each in others.items()} == manual
    assert (others["3.1"].words, own["3.1"].words) == (None, 200) and "epochs, next to" not in others["2.4"].answer


def test_each_question_with_manual_points_has_one_that_adds_up(model_answers):
    manual = {question.id: question.manual for question in rubrics.read().questions.values() if question.manual}
    assert {name: sum(credit.points for credit in each.credit) for name, each in model_answers.items()} == manual
    assert sum(manual.values()) == 36 and len(manual) == 17
    assert all(answer.mistakes for answer in model_answers.values())


def test_what_they_cite_is_in_the_handout(model_answers, handout):
    assert answers.disagreements(model_answers, rubrics.read(), handout) == []
    for answer in model_answers.values():
        assert len(answer.citations()) >= len(answer.sentences()), answer.id
        assert not any("[" in sentence for sentence in answer.plain())


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("1.1", {"credit": [answers.Credit(1, "")]}, "1.1: credit adds up to 1 points, but the rubric has 2"),
        ("1.1", {"answer": "Draw it [1.2]."}, None),
        ("1.1", {"answer": "Draw it."}, "question 1.1: has no citation: Draw it."),
        ("1.1", {"answer": "Draw it [7.7]."}, "question 1.1: there is no 7.7 in the handout"),
        ("1.1", {"answer": "Draw it [1.2; Exercise 99]."}, "question 1.1: there is no Exercise 99 in the handout"),
        ("1.3", {"mistakes": [answers.Mistake("no", 2, "")]}, "is worth 2; it should be at least 0 and below 2"),
        ("3.1", {"answer": "word " * 200 + "end [3.2]."}, "question 3.1: the answer has 201 words; the limit is 200"),
        ("3.2", {}, "question 3.2: the rubric has no manual points for it"),
    ],
)
def test_what_is_wrong_is_named(model_answers, handout, name, changes, message):
    answer = dataclasses.replace(model_answers.get(name, model_answers["1.1"]), id=name, **changes)
    changed = {**model_answers, name: answer}
    found = answers.disagreements(changed, rubrics.read(), handout)
    assert (found == []) if message is None else (len(found) == 1 and message in found[0]), found


def test_a_missing_answer_is_named(model_answers, handout):
    fewer = {name: answer for name, answer in model_answers.items() if name != "2.2"}
    assert answers.disagreements(fewer, rubrics.read(), handout) == [
        "staff/marking/answers.toml: question 2.2 has manual points, but no model answer"
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text.replace('id = "1.2"', 'id = "1.1"'), "duplicate questions: 1.1"),
        (lambda text: text.replace("because", "why"), "unexpected keyword argument 'why'"),
        (lambda text: "", "'question' is missing"),
        (lambda text: "[[question", "Expected"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, change, message):
    path = tmp_path / "answers.toml"
    path.write_text(change(answers.PATH.read_text("utf-8")), "utf-8")
    with pytest.raises(answers.AnswersError, match=message) as found:
        answers.read(path)
    assert str(found.value).startswith(f"{path}: ")
