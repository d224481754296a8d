"""A parser with one-line errors for wrong flags, and a command line with several commands."""

import argparse
import difflib
import sys
from collections.abc import Iterable
from types import ModuleType


class WrongFlag(Exception):
    """The value of a flag cannot be used; the message names the flag and the value."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors, which suggest the closest match for an unknown flag."""

    used = False

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_known_args(self, args=None, namespace=None):
        self.used = True  # argparse also calls this for the selected command
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            near = (self._nearest(word.partition("=")[0]) for word in unknown if word.startswith("--"))
            hint = next((f"; did you mean {flag}?" for flag in near if flag), "; --help lists the flags")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return args

    def _nearest(self, word: str) -> str | None:
        """The flag most similar to a word, if any is."""
        names = [flag[2:] for flag in self._known_flags() if flag.startswith("--")]
        longer = [name for name in names if name.startswith(word[2:])]
        found = longer + difflib.get_close_matches(word[2:], names, n=1, cutoff=0.7)
        return f"--{found[0]}" if found else None

    def _known_flags(self) -> list[str]:
        """The flags of this parser and of the selected command."""
        flags = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = [parser for parser in action.choices.values() if parser.used]
                flags += [flag for parser in chosen for flag in parser._known_flags()]
        return flags


def make_parser(program: str, about: str | None, commands: Iterable[ModuleType]) -> Parser:
    """A parser with these commands.

    Args:
        program: its name in the help text, such as "python -m course".
        commands: modules whose `add(subparsers)` adds commands; each command sets `run`, a function of its flags.
    """
    parser = Parser(prog=program, description=about)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in commands:
        module.add(subparsers)
    return parser


def run(args: argparse.Namespace, problems: tuple[type[Exception], ...]) -> int:
    """Run the selected command; turn errors into one line.

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
        print("stopped; finished work is kept, run the same command again to continue", file=sys.stderr)
        return 130
