"""Does the tree agree with itself? Rubric, handout, model answers, citations, links, and what reaches students."""

from pathlib import Path

from course.flags import REPOSITORY
from staff.marking import answers
from staff.release import handout, links, points, references
from staff.release.build import TEMPLATE, Course, Files, ReleaseError, contents, tracked
from staff.release.leaks import find_answers, find_staff_lines

Answers = dict[str, answers.ModelAnswer]


def problems(course: Course, root: Path = REPOSITORY) -> list[str]:
    """A line for each disagreement, with the file, and the line in it where there is one."""
    files = tracked(root)
    texts = {file: (root / file).read_text("utf-8") for file in files if file.endswith(references.TEXT)}
    try:
        released = contents(course, course.rubric.edition, root=root)
        model_answers = answers.read(root / "staff" / "marking" / answers.PATH.name)
    except (ReleaseError, answers.AnswersError) as error:
        return [str(error)]
    return of_texts(course, texts, set(files), model_answers) + of_release(released, texts, model_answers)


def of_texts(course: Course, texts: dict[str, str], files: set[str], model_answers: Answers) -> list[str]:
    """Rubric, handout, model answers, citations and links."""
    chapters = handout.read(texts)
    found = references.disagreements(course.rubric, chapters, texts)
    found += points.disagreements(course.rubric, texts)
    found += references.dangling(course.rubric, chapters, texts)
    found += answers.disagreements(model_answers, course.rubric, chapters)
    # the pages in template/ are written for their place in the students' repository: `of_release` looks at them
    return found + links.dead({file: text for file, text in texts.items() if not file.startswith(TEMPLATE)}, files)


def of_release(released: Files, texts: dict[str, str], model_answers: Answers) -> list[str]:
    """Links that are dead for students only, and what is for staff."""
    pages = {file: content.decode("utf-8") for file, content in released.items() if file.endswith(".md")}
    found = [f"in the students' repository, {problem}" for problem in links.dead(pages, set(released))]
    sentences = {sentence: answer.id for answer in model_answers.values() for sentence in answer.plain()}
    return found + find_staff_lines(released, texts) + find_answers(released, sentences)
