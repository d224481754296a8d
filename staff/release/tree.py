"""Check that the tree is consistent: rubric, handout, model answers, citations, links and released files."""

import tomllib
from pathlib import Path

from course.flags import REPOSITORY
from course.rubric import Rubric
from staff.marking import answers
from staff.release import editions, handout, links, points, references
from staff.release.build import (
    RUBRIC,
    TEMPLATE,
    Course,
    Files,
    ReleaseError,
    contents,
    is_for_students,
    may_have_editions,
    tracked,
)
from staff.release.leaks import find_answers, find_staff_lines
from staff.release.markers import MarkerError

Answers = dict[str, answers.ModelAnswer]


def problems(course: Course, root: Path = REPOSITORY) -> list[str]:
    """Return a line for each inconsistency, with the file and, if possible, the line number."""
    files = tracked(root)
    texts = {file: (root / file).read_text("utf-8") for file in files if file.endswith(references.TEXT)}
    try:
        released = contents(course, course.rubric.year, root=root)
        model_answers = answers.read(root / "staff" / "marking" / answers.PATH.name, course.rubric.edition)
        found = of_texts(course, texts, set(files), model_answers)
    except (ReleaseError, MarkerError, answers.AnswersError) as error:
        return [str(error)]
    return found + of_release(released, texts, model_answers)


def of_texts(course: Course, texts: dict[str, str], files: set[str], model_answers: Answers) -> list[str]:
    """Check the rubric, handout, model answers, citations and links of an edition; staff files may cite any edition."""
    students, staffs = of_edition(texts, course.rubric)
    chapters, all_chapters = handout.read(students), handout.read(texts)
    found = references.disagreements(course.rubric, chapters, students)
    own = tomllib.loads(texts[RUBRIC])["edition"] == course.rubric.edition
    found += points.disagreements(course.rubric, students | staffs if own else students)
    found += references.dangling(course.rubric.questions, chapters, students)
    found += references.dangling(all_chapters.questions, all_chapters, staffs)
    found += references.without_test(course.tests, students)
    found += answers.disagreements(model_answers, course.rubric, chapters)
    found += [f"staff/release/editions.py: no file matches {pattern}" for pattern in editions.without_files(files)]
    # `of_release` checks the pages in template/, whose links are valid only in the students' repository
    return found + links.dead({file: text for file, text in texts.items() if not file.startswith(TEMPLATE)}, files)


def of_edition(texts: dict[str, str], rubric: Rubric) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts that students of an edition get, without passages from other editions, and the texts for staff.

    Line numbers do not change.

    Raises:
        MarkerError: an edition's mark is wrong.
    """
    students, staffs = {}, {}
    for file, text in texts.items():
        if is_for_students(file, rubric):
            passages = may_have_editions(file)
            students[file] = editions.passages_of(text, file, rubric.edition, same_lines=True) if passages else text
        elif editions.belongs(file, rubric.edition):
            staffs[file] = text
    return students, staffs


def of_release(released: Files, texts: dict[str, str], model_answers: Answers) -> list[str]:
    """Check a release for links that are dead only for students, staff-only passages, and model answers."""
    pages = {file: content.decode("utf-8") for file, content in released.items() if file.endswith(".md")}
    found = [f"in the students' repository, {problem}" for problem in links.dead(pages, set(released))]
    sentences = {sentence: answer.id for answer in model_answers.values() for sentence in answer.plain()}
    return found + find_staff_lines(released, texts) + find_answers(released, sentences)
