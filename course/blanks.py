"""Blanks that a student still has to fill in, marked by `raise NotImplementedError("Q1.7: ...")`."""

import ast
import re
import traceback
from dataclasses import dataclass
from pathlib import Path

from course.flags import REPOSITORY

QUESTION = re.compile(r"Q(\d+\.\d+): ")


@dataclass(frozen=True)
class Blank:
    """A place to fill in: in a file, relative to the repository, at a line; `what` says what to write there."""

    file: str
    line: int
    question: str
    what: str


def describe(error: NotImplementedError) -> str:
    """Describe which blank to fill in, and where, for a user whose program reached it."""
    if not QUESTION.match(str(error)):
        raise error  # not one of our blanks
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    place = file.relative_to(REPOSITORY).as_posix() if file.is_relative_to(REPOSITORY) else file
    return f"{error} (to be filled in: {place}, line {frame.lineno})"


def find(file: Path, root: Path = REPOSITORY) -> list[Blank]:
    """The blanks left in a Python file, in order.

    Raises:
        SyntaxError: the file is not valid Python.
    """
    blanks = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name("NotImplementedError"), args=[ast.Constant(str(what))])):
                if question := QUESTION.match(what):
                    place = file.relative_to(root).as_posix()
                    blanks.append(Blank(place, node.lineno, question[1], what[question.end() :]))
    return sorted(blanks, key=lambda blank: blank.line)
