"""`python -m staff COMMAND ...`: what staff run: check, release, handout, grade, merge; --help lists the commands."""

import argparse
import sys

from course import command_line
from course.rubric import RubricError
from staff.grading import commands as grading
from staff.release import commands as release
from staff.site import commands as site

COMMANDS = (release, site, grading)
PROBLEMS = (RubricError, *release.PROBLEMS, *site.PROBLEMS, *grading.PROBLEMS)


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    return command_line.make_parser("python -m staff", __doc__, COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return command_line.run(parser().parse_args(argv), PROBLEMS)


if __name__ == "__main__":
    sys.exit(main())
