"""Suggest the flag that a user may have meant; imported only if a flag is unknown."""

import argparse
import difflib

from course.parser import Parser


def suggest(parser: Parser, unknown: list[str]) -> str:
    """Return the end of the error message for unknown arguments: the most similar flag, or a reference to --help."""
    near = (_nearest(_known_flags(parser), word.partition("=")[0]) for word in unknown if word.startswith("--"))
    return next((f"; did you mean {flag}?" for flag in near if flag), "; --help lists the flags")


def _nearest(flags: list[str], word: str) -> str | None:
    """Return the flag most similar to a word, or None."""
    names = [flag[2:] for flag in flags if flag.startswith("--")]
    longer = [name for name in names if name.startswith(word[2:])]
    found = longer + difflib.get_close_matches(word[2:], names, n=1, cutoff=0.7)
    return f"--{found[0]}" if found else None


def _known_flags(parser: Parser) -> list[str]:
    """Return the flags of a parser and of the selected command."""
    flags = list(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            chosen = [command for command in action.choices.values() if command.used]
            flags += [flag for command in chosen for flag in _known_flags(command)]
    return flags
