"""`python -m staff check` and `python -m staff release OUT`."""

import argparse
from pathlib import Path

from course import editions
from course import rubric as rubrics
from course.rubric import Question
from staff.release import build, tree, write
from staff.release.checks import Checks
from staff.site import build as site

PROBLEMS = (build.ReleaseError,)


def check(args: argparse.Namespace) -> None:
    """Compare the rubric, blanks and graded tests, plus all pages unless one part is selected; print a table."""
    course = build.read_course(part=args.part) if args.part else _agreed_course()
    if args.tests:
        Checks(course, course.rubric.year, lambda line: print(f"- {line}", flush=True)).run()
    print(f"{'':6}{'points':>7}{'automatic':>11}{'evidence':>10}{'manual':>8}{'blanks':>8}{'tests':>7}{'hidden':>8}")
    for question in course.rubric.questions.values():
        tests = [test for test in course.tests if test.question == question.id]
        blanks = sum(blank.question == question.id for blank in course.blanks)
        hidden = sum(test.points for test in tests if test.hidden)
        counts = f"{blanks or '':>8}{len(tests) or '':>7}{f'{hidden:g}' if hidden else '':>8}"
        print(f"Q{question.id:5}{question.points:7g}{_of(question)}{counts}  {question.title}")
    for part in course.rubric.parts.values():
        print(f"part {part.number} {part.points:6g}  {part.title}")
    if args.part:
        print("rubric, blanks and tests of this part agree")
        return
    total = sum(part.points for part in course.rubric.parts.values())
    print(f"all   {total:7g}  rubric, blanks, tests and handout agree")
    for edition in editions.known(rubrics.PATH)[1:]:
        other = _agreed_course(edition).rubric
        print(f"the {edition} edition agrees as well: {sum(part.points for part in other.parts.values()):g} points")


def _agreed_course(edition: str | None = None) -> build.Course:
    course = build.read_course(edition=edition)
    if problems := tree.problems(course):
        raise build.ReleaseError("\n".join([f"in the {course.rubric.edition} edition:", *problems]))
    return course


def _of(question: Question) -> str:
    automatic, evidence, manual = (f"{points:g}" if points else "" for points in question.shares())
    return f"{automatic:>11}{evidence:>10}{manual:>8}"


def make_release(args: argparse.Namespace) -> None:
    """Build, check and write a release."""
    course = _agreed_course(args.edition)
    edition, year = course.rubric.edition, args.year or course.rubric.year
    print(f"checking the {edition} edition for {year}; this takes several minutes", flush=True)
    write.refuse_unless_free(args.out)
    pdf = _pdf(edition)  # before the checks, which take minutes: fails if the PDF does not match the chapters
    print("- recording the oracles' answers, which the tests expect", flush=True)
    answers = build.recorded_answers(edition=edition)
    Checks(course, year, lambda line: print(f"- {line}", flush=True), answers=answers).run()
    files = build.contents(course, year, answers=answers, extra=pdf)
    write.write(files, args.out, course)
    print(f"{args.out}: {len(files)} files, {len(course.blanks)} blanks, {len(course.tests)} graded tests")


def _pdf(edition: str) -> build.Files:
    """Return the handout's PDF if `make handout` has built it; refuse one that does not match the chapters."""
    try:
        pdf = site.built_pdf(site.folder(edition), edition)
    except site.SiteError as error:
        raise build.ReleaseError(str(error)) from error
    return {f"handout/{site.PDF}": pdf} if pdf else {}


def year(text: str) -> str:
    if not text or not all(letter.isalnum() or letter in "-._" for letter in text):
        raise argparse.ArgumentTypeError(f"{text!r}: may contain only letters, digits, '-', '.' and '_', like 2026")
    return text


def edition(text: str) -> str:
    try:
        known = editions.known(rubrics.PATH)
    except (OSError, ValueError, TypeError, KeyError):
        return text  # the error is reported when the rubric is read
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r}: should be {' or '.join(sorted(known))}")
    return text


def add(commands) -> None:
    """Add `check` and `release` to the commands."""
    command = commands.add_parser("check", help="check that rubric, blanks, graded tests and handout agree")
    command.add_argument("--part", type=int, metavar="N", help="check only this part: rubric, blanks and tests")
    command.add_argument(
        "--tests", action="store_true", help="also run the tests, as release does: on the solution and with open blanks"
    )
    command.set_defaults(run=check)
    command = commands.add_parser("release", help="write the repository that students get")
    command.add_argument("out", type=Path, metavar="OUT", help="an empty or new folder, or one with an earlier release")
    command.add_argument("--edition", type=edition, help="the edition: 2023 or 2022 (default: the rubric's)")
    command.add_argument("--year", type=year, help="the year of the release (default: the rubric's)")
    command.set_defaults(run=make_release)
