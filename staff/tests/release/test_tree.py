"""Tests of `make check` on trees with one fault each: in the rubric, handout, citations, links or staff passages."""

import dataclasses
import re

import pytest

from small_runs import REPOSITORY
from staff.marking import answers
from staff.release import build, handout, links, points, references, tree
from staff.release.leaks import find_answers, find_staff_lines

CHAPTER = "handout/01_variational_autoencoders.md"
# split into pieces, so that `make check` does not read them as citations in this file
EQUATION, FIGURE, QUESTION, SECTION = "Eq" + ". {}", "Fig" + "ure {}", "Q" + "{}", "Sect" + "ion {}"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    files = [file for file in build.tracked(REPOSITORY) if file.endswith(references.TEXT)]
    return {file: (REPOSITORY / file).read_text("utf-8") for file in files}


def found(course, texts, **changes) -> list[str]:
    """Return the problems found in the tree after changing some files."""
    changed = {**texts, **changes}
    return tree.of_texts(course, changed, set(build.tracked(REPOSITORY)) | set(changed), answers.read())


def replaced(texts: dict[str, str], file: str, old: str, new: str) -> dict[str, str]:
    assert old in texts[file]
    return {file: texts[file].replace(old, new, 1)}


def test_the_tree_agrees_with_itself(course):
    assert tree.problems(course) == []


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        (CHAPTER, "### Question 1.2 (3 points)", "### Question 1.2 (4 points)",
         "handout/: question 1.2 has 4 points, but 3 in the rubric"),
        (CHAPTER, "### Question 1.2 (3 points)", "### Sampling",
         "handout/: question 1.2 occurs 0 times; it should occur once"),
        (CHAPTER, "### Question 1.2 (3 points)", "### Question 1.2 (3 points)\n\n### Question 1.2 (3 points)\n",
         "handout/: question 1.2 occurs 2 times; it should occur once"),
        (CHAPTER, "### Question 1.3 (2 points)", "### Question 1.3 (2 points)\n\n### Question 1.17 (2 points)\n",
         "handout/: the rubric has no question 1.17"),
        (CHAPTER, "\\tag{13}", "\\tag{12}", "handout/: Equation 12 occurs 2 times"),
        (CHAPTER, "**Figure 2.**", "**Figure 1.**", "handout/: Figure 1 occurs 2 times"),
        ("handout/README.md", "#q1-7) | 12 | 8 | 2 | 2 |", "#q1-7) | 12 | 9 | 1 | 2 |",
         "handout/README.md: the table has (12.0, 9.0, 1.0, 2.0) for question 1.7, but the rubric has (12, 8, 2, 2)"),
        ("handout/00_introduction.md", "| together | 66 ", "| together | 65 ",
         "handout/00_introduction.md: the table of points has no row 'together' with 66 points"),
    ],
)  # fmt: skip
def test_rubric_and_handout_disagree(course, texts, file, old, new, message):
    problems = found(course, texts, **replaced(texts, file, old, new))
    assert [problem for problem in problems if problem.startswith(message)], problems


@pytest.mark.parametrize(
    "chapter, right, wrong, question",
    [
        ("03_attention_and_language_models", "test_part3_generation", "test_part3_gpt", "3.3"),
        ("02_adversarial_autoencoders", "test_part2_aae", "test_part2_none", "2.4"),
    ],
)
def test_the_file_that_is_linked_for_a_question_has_a_test_of_it(course, texts, chapter, right, wrong, question):
    file = f"handout/{chapter}.md"
    link = "`pytest --question {0}` ([`{1}.py`](../tests/{1}.py))"
    problems = found(course, texts, **replaced(texts, file, link.format(question, right), link.format(question, wrong)))
    wanted = f"{file}: tests/{wrong}.py has no tests for question {question}"
    assert wanted in without_lines(problems)


def without_lines(problems: list[str]) -> list[str]:
    return [re.sub(r"^([^:]*):\d+:", r"\1:", problem) for problem in problems]


def test_points_are_found_at_their_line(course):
    """Code blocks are ignored but do not shift the line numbers, and correct points are not reported."""
    top = "# Title\n```\n# Q1.8 (99 points)\n```\n### Q1.7: a VAE (12 points)\n\n"
    text = f"{top}| Q1.1 | 2 |\n| Q1.2 | 4 |\n\n### Q1.8 (1 point)\nall 66 points\n"
    problems = points.disagreements(course.rubric, {"docs/a.md": text})
    assert [problem for problem in problems if problem.startswith("docs/")] == [
        "docs/a.md:10: question 1.8 has 1 point, but 3 in the rubric",
        "docs/a.md:8: question 1.2 has 4 points, but 3 in the rubric",
    ]


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        ("part1_vae/README.md", "### Q1.7: train a VAE (12 points)", "### Q1.7: train a VAE (11 points)",
         ": question 1.7 has 11 points, but 12 in the rubric"),
        ("part1_vae/README.md", "### Q1.8: samples (3 points)", "### Q1.8: samples",
         ": question 1.8 occurs 0 times with its points; it should occur once"),
        ("part2_aae/README.md", "| Q2.1 | 3 |", "| Q2.1 | 4 |", ": question 2.1 has 4 points, but 3 in the rubric"),
        ("part3_gpt/README.md", "words (3 points)", "words (4 points)",
         ": 'Answered in words' has 4 points, but 3 in the rubric"),
        ("template/README.md", "all 66 points", "all 64 points",
         ": the assignment has 64 points, but 66 in the rubric"),
        ("handout/README.md", "| 34 points: latent", "| 35 points: latent",
         ": part 1 has 35 points, but 34 in the rubric"),
        (CHAPTER, "34 points. [Contents]", "33 points. [Contents]", ": part 1 has 33 points, but 34 in the rubric"),
        (CHAPTER, "8 of the points; 2 more are for", "9 of the points; 2 more are for",
         ": the automatic share of question 1.7 has 9 points, but 8 in the rubric"),
        (CHAPTER, "2 more are for the run", "1 more is for the run",
         ": the evidence share of question 1.7 has 1 point, but 2 in the rubric"),
        (CHAPTER, "and 2 for the plot", "and 3 for the plot",
         ": the manual share of question 1.7 has 3 points, but 2 in the rubric"),
        ("handout/02_adversarial_autoencoders.md", "2 points are for the runs", "3 points are for the runs",
         ": the evidence share of question 2.6 has 3 points, but 2 in the rubric"),
    ],
)  # fmt: skip
def test_points_that_a_page_states_are_compared(course, texts, file, old, new, message):
    assert without_lines(found(course, texts, **replaced(texts, file, old, new))) == [file + message]


def test_points_changed_in_the_rubric_alone_are_found_on_every_page_that_states_them(course, texts):
    """Raise Q3.2 from 4 points to 5, all of them automatic, so that "earns all points" remains true."""
    question = dataclasses.replace(course.rubric.questions["3.2"], points=5, automatic=5)
    parts = {**course.rubric.parts, 3: dataclasses.replace(course.rubric.parts[3], points=11)}
    rubric = dataclasses.replace(course.rubric, parts=parts, questions={**course.rubric.questions, "3.2": question})
    problems = "\n".join(without_lines(found(dataclasses.replace(course, rubric=rubric), texts)))
    for page in ("part3_gpt/README.md: question 3.2 has 4 points, but 5", "handout/: question 3.2 has 4 points, but 5",
                 "handout/README.md: the table has", "handout/00_introduction.md: the table",
                 "handout/03_attention_and_language_models.md: part 3 has 10 points, but 11",
                 "template/README.md: the assignment has 66 points, but 67"):  # fmt: skip
        assert page in problems


def test_a_question_of_the_rubric_is_looked_for(course, texts):
    questions = {**course.rubric.questions, "1.1": dataclasses.replace(course.rubric.questions["1.1"], points=5)}
    changed = dataclasses.replace(course, rubric=dataclasses.replace(course.rubric, questions=questions))
    assert "handout/: question 1.1 has 2 points, but 5 in the rubric" in found(changed, texts)


@pytest.mark.parametrize(
    "citation, kind, label",
    [
        (EQUATION.format("26"), "Eq.", "26"),
        (EQUATION.format("14z"), "Eq.", "14z"),
        (EQUATION.format("B.99"), "Eq.", "B.99"),
        ("Eq" + "uations 3, 4 and 77", "Eq.", "77"),
        ("Eq" + "s. 30 to 31", "Eq.", "30"),
        (QUESTION.format("1.10"), "question", "1.10"),
        ("Quest" + "ion 4.1", "question", "4.1"),
        (FIGURE.format("8"), "Figure", "8"),
    ],
)
@pytest.mark.parametrize("file", ["part1_vae/utils.py", "docs/errata.md", "Makefile"])
def test_a_citation_of_nothing_is_found(course, texts, file, citation, kind, label):
    line = texts[file].count("\n") + 2
    problems = found(course, texts, **{file: texts[file] + f"\n# As in {citation}."})
    assert problems[0] == f"{file}:{line}: there is no {kind} {label} in the handout"


@pytest.mark.parametrize(
    "citation", ["Eq. 13", "Eqs. 3a and 3d.", "Equation A.2", "Q1.7", "Questions 3.2 and 3.3", "Figure 6"]
)
def test_a_citation_of_something_is_none_of_them(course, texts, citation):
    assert (
        found(course, texts, **{"part1_vae/new.py": f"# {citation}, equation (99) of the paper, Eq. 13, 2023\n"}) == []
    )


def test_a_section_that_is_not_there_is_found_in_the_handout(course, texts):
    (problem,) = found(course, texts, **{CHAPTER: texts[CHAPTER] + f"\n{SECTION.format('1.9')}\n"})
    assert problem.endswith(f"there is no {SECTION.format('1.9')} in the handout")


PAGES = {
    "a/one.md": "# One: `two`, three\n\n<a id='here'></a>\n\n## Same\n## Same\n",
    "a/two.md": "",
    "b/three.md": "",
}


@pytest.mark.parametrize(
    "link, dead",
    [
        ("[x](one.md#one-two-three)", None),
        ("[x](one.md#here)", None),
        ("[x](one.md#same-1)", None),
        ("[x](../b/three.md)", None),
        ("[x](../b/)", None),
        ("[x](https://example.org/nothing#here)", None),
        ("`[x](nothing.md)` and ``` [x](nothing.md) ```", None),
        ("```\n[x](nothing.md)\n```", None),
        ("[x](nothing.md)", "there is no a/nothing.md"),
        ("![x](nothing.png)", "there is no a/nothing.png"),
        ('<img src="nothing.png">', "there is no a/nothing.png"),
        ("[x\ny](nothing.md)", "there is no a/nothing.md"),
        ("[x](one.md#same-2)", "a/one.md has no anchor #same-2"),
        ("[x](#here)", "a/two.md has no anchor #here"),
    ],
)
def test_dead_links(link, dead):
    pages = {**PAGES, "a/two.md": link}
    found = links.dead(pages, set(pages))
    assert [problem.partition("dead link: ")[2] for problem in found] == ([dead] if dead else []), found


def test_a_link_that_is_dead_for_students_only_is_found(course, files):
    page = {"part1_vae/README.md": b"[errata](../docs/errata.md)\n"}
    problems = tree.of_release({**files, **page}, {}, {})
    assert "in the students' repository, part1_vae/README.md:1: dead link: there is no docs/errata.md" in problems


def test_what_is_for_staff_is_found_in_a_release(course, files, texts):
    line = "make autograder   build the zip for Gradescope: build/autograder.zip"
    assert find_staff_lines(files, texts) == []
    (problem,) = find_staff_lines({**files, "theory/kl.py": f'x = 1\n\t@echo "{line}"\n'.encode()}, texts)
    assert problem == f'theory/kl.py:2: a staff-only line (Makefile): @echo "{line}"'


def test_a_model_answer_is_found_in_a_release_however_it_is_wrapped(files):
    sentences = {sentence: answer.id for answer in answers.read().values() for sentence in answer.plain()}
    assert find_answers(files, sentences) == []
    sentence = next(sentence for sentence, question in sentences.items() if question == "2.7")
    wrapped = sentence.replace(" ", "\n    ", 7).encode()
    (problem,) = find_answers({**files, "handout/C_exercises.md": b"- " + wrapped}, sentences)
    assert problem == f"handout/C_exercises.md: a sentence of the model answer to question 2.7: {sentence}"


def test_the_model_answers_themselves_are_not_released(files):
    assert not [file for file in files if "answers.toml" in file or "marking" in file]


def test_a_question_in_a_staff_block_is_not_in_the_handout():
    text = "# 1 A\n<!-- BEGIN STAFF -->\n### Question 1.1 (2 points)\n<!-- END STAFF -->\n"
    assert handout.read({"handout/a.md": text}).questions == {}
