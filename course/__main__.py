"""Commands for students: reports, comparison and diagnosis of runs, and the zip to hand in."""

import argparse
import sys

from course import command_line, submission
from course.rubric import RubricError
from course.runs import compare, diagnose, report
from course.runs.folder import RunError

COMMANDS = (report, compare, diagnose, submission)
PROBLEMS = (RunError, RubricError)


def parser() -> argparse.ArgumentParser:
    """Create the parser with all commands and their flags."""
    return command_line.make_parser("python -m course", __doc__, COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return command_line.run(parser().parse_args(argv), PROBLEMS)


if __name__ == "__main__":
    sys.exit(main())
