"""`python -m course COMMAND ...`: `report` and `diagnose` look at runs; --help lists the commands."""

import argparse
import sys

from course import diagnose, report
from course.rubric import RubricError
from course.runs import RunError

COMMANDS = [report, diagnose]
PROBLEMS: tuple[type[Exception], ...] = (RunError, RubricError)
# BEGIN STAFF
from course import staff  # noqa: E402

COMMANDS.append(staff)
PROBLEMS += staff.PROBLEMS
# END STAFF


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    parser = argparse.ArgumentParser(prog="python -m course", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 1 where what is named is not as it should be, 2 for a wrong flag."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except PROBLEMS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was done is kept, the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
