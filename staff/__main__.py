"""`python -m staff COMMAND ...`: the commands for staff: check, release, handout, grade, merge. --help lists them."""

import argparse
import sys

from course import command_line, tasks
from course.rubric import RubricError
from staff.grading import commands as grading
from staff.release import commands as release
from staff.site import commands as site

COMMANDS = (release, site, grading)
NEED_REPOSITORY = ("check", "release", "handout", "grade")  # they need the repository's tests, handout or template
PROBLEMS = (RubricError, *release.PROBLEMS, *site.PROBLEMS, *grading.PROBLEMS)


def parser() -> argparse.ArgumentParser:
    """Create the parser with all commands and their flags."""
    return command_line.make_parser("python -m staff", __doc__, COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    tasks.need_repository(words, NEED_REPOSITORY)
    return command_line.run(parser().parse_args(words), PROBLEMS)


if __name__ == "__main__":
    sys.exit(main())
