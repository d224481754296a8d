"""Blanks that students fill in: `raise NotImplementedError("Q1.7: ...")`, below a comment that begins with `# Q1.7: `.

The comment describes the task and gives a hint. It stays after the blank is filled in, to mark the place.
"""

import ast
import io
import re
import tokenize
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course.flags import REPOSITORY
from course.rubric import Part, Rubric

QUESTION = re.compile(r"Q(\d+\.\d+): ")
HINT = "Hint: "
MARK = re.compile(r"# (?:BEGIN|END) [A-Z]+")  # below the comment, in the version with solutions
LISTED = re.compile(r"^\| (`[^|]*`) \|", re.MULTILINE)  # the files in the table of a part's README


@dataclass(frozen=True)
class Blank:
    """A place to fill in. `file` is relative to the repository; `what` describes the code to write.

    `where` is the name of the function, such as `VAE.forward`. `open` is False once the blank is filled in.
    """

    file: str
    line: int
    question: str
    what: str
    hint: str = ""
    where: str = ""
    open: bool = True


def describe(error: NotImplementedError) -> str:
    """Describe the blank that a program reached, and its location, for the user who should fill it in."""
    if not QUESTION.match(str(error)):
        raise error  # not one of our blanks
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    place = file.relative_to(REPOSITORY).as_posix() if file.is_relative_to(REPOSITORY) else file
    return f"{error} (to be filled in: {place}, line {frame.lineno})"


def find(file: Path, root: Path = REPOSITORY) -> list[Blank]:
    """Return the open blanks of a Python file, in order.

    Raises:
        SyntaxError: the file is not valid Python.
    """
    return [blank for blank in find_all(file, root) if blank.open]


def find_all(file: Path, root: Path = REPOSITORY) -> list[Blank]:
    """Return all blanks of a Python file, in order, including filled-in blanks that still have their comment.

    Raises:
        SyntaxError: the file is not valid Python.
    """
    with tokenize.open(file) as source:  # handles byte order marks and encoding declarations
        text = source.read()
    tree = ast.parse(text, str(file))
    place, said = file.relative_to(root).as_posix(), _open(tree)
    blanks = {}
    for first, below, comment in _comments(text):
        question, what, hint = _split(comment)
        line = below if below in said else first
        blanks[line] = Blank(place, line, question, what, hint, function_at(tree, line), open=below in said)
    for line, what in said.items():  # open blanks without a comment
        question = QUESTION.match(what)
        blank = Blank(place, line, question[1], what[question.end() :], where=function_at(tree, line))
        blanks.setdefault(line, blank)
    return sorted(blanks.values(), key=lambda blank: blank.line)


def in_order(rubric: Rubric, part: Part, root: Path = REPOSITORY) -> list[Blank]:
    """Return the blanks of a part by question and, within a question, in the order of the files in the part's README.

    Raises:
        SyntaxError: a file of the part is not valid Python.
    """
    blanks = [blank for file in _files(part, root) for blank in find_all(root / file, root)]
    order = list(rubric.questions)
    return sorted((blank for blank in blanks if blank.question in order), key=lambda blank: order.index(blank.question))


def _files(part: Part, root: Path) -> list[str]:
    """Return the part's Python files in the order of its README."""
    files = [path.relative_to(root).as_posix() for path in sorted((root / part.folder).rglob("*.py"))]
    readme = root / part.folder / "README.md"
    cells = LISTED.findall(readme.read_text("utf-8")) if readme.is_file() else []
    listed = [f"{part.folder}/{name}" for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return sorted(files, key=lambda file: listed.index(file) if file in listed else len(listed))


def _open(tree: ast.AST) -> dict[int, str]:
    """Find the open blanks, which raise NotImplementedError: line -> message."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name("NotImplementedError"), args=[ast.Constant(str(what))])):
                if QUESTION.match(what):
                    found[node.lineno] = what
    return found


def _comments(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the first line, the line below, and the text of each comment that begins with a question id."""
    lines = text.splitlines()
    starts = [
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and QUESTION.match(token.string[2:]) and token.line.strip() == token.string
    ]
    for start in starts:
        below = start + 1
        while below <= len(lines) and lines[below - 1].strip().startswith("# "):
            if MARK.match(lines[below - 1].strip()) or below in starts:
                break
            below += 1
        yield start, below, " ".join(line.strip()[2:] for line in lines[start - 1 : below - 1])


def _split(comment: str) -> tuple[str, str, str]:
    """Split a comment into the question, the task, and the hint."""
    question = QUESTION.match(comment)
    what, _, hint = comment[question.end() :].partition(HINT)
    return question[1], what.strip(), hint.strip()


def function_at(tree: ast.AST, line: int) -> str:
    """Return the qualified name of the function that contains a line, such as `VAE.forward`."""
    names = [
        (node.lineno, node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno <= line <= node.end_lineno
    ]
    return ".".join(name for _, name in sorted(names))
