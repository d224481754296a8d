"""A command line with several commands, as in `python -m course report`."""

import argparse
import sys
from collections.abc import Iterable
from types import ModuleType

from course.parser import Parser


class WrongFlag(Exception):
    """The value of a flag is invalid; the message names the flag and the value."""


def make_parser(program: str, about: str | None, commands: Iterable[ModuleType]) -> Parser:
    """Create a parser with these commands.

    Args:
        program: name of the program in the help text, such as "python -m course".
        commands: modules whose `add(subparsers)` adds commands; each command sets `run`, a function of its flags.
    """
    parser = Parser(prog=program, description=about)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in commands:
        module.add(subparsers)
    return parser


def run(args: argparse.Namespace, problems: tuple[type[Exception], ...]) -> int:
    """Run the selected command; print an error as a single line.

    Args:
        problems: exceptions whose text is an error message for the user.

    Returns:
        The exit status: 1 after an error, 2 for a wrong flag, 130 after Ctrl-C.
    """
    try:
        args.run(args)
        return 0
    except WrongFlag as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except problems as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished work is kept; to continue, run the same command again", file=sys.stderr)
        return 130
