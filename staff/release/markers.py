"""Process the marks that determine which lines of a file students get.

In Python, `# BEGIN SOLUTION Q1.7` and `# END SOLUTION` enclose a blank. The comment above it begins with `# Q1.7:` and
stays in the template. In files without blanks, lines between `BEGIN STAFF` and `END STAFF` (in Markdown or # comments)
are left out.
"""

import ast
import difflib
import io
import re
import textwrap
import tokenize
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from course.blanks import function_at

WIDTH = 120
EDITION = re.compile(r"(?:#|<!--)\s*(?:(?:begin|end)\s+edition\b|edition\s+\d)|^\s*end edition\b", re.IGNORECASE)
LOOKS_LIKE_ONE = re.compile(r"#.*\b(begin|end)\b.{,9}\bsolution", re.IGNORECASE)
BEGIN, END = re.compile(r"# BEGIN SOLUTION Q(\d+\.\d+)"), re.compile(r"# END SOLUTION")
COMMENT = re.compile(r"(?:#|<!--)(.*)")
MISSPELT = 0.75  # minimum similarity of a misspelt word such as BEGN or SOLUTON
STAFF = re.compile(r"(?:#|<!--) (BEGIN|END) STAFF(?: -->)?")


class MarkerError(Exception):
    """A mark is wrong; the message begins with the location."""


@dataclass(frozen=True)
class Region:
    """A blank: the line numbers of its marks, their indentation, the question, what to write, and a hint.

    `where` is the name of the function, such as `VAE.forward`.
    """

    file: str
    begin: int
    end: int
    indent: int
    question: str
    what: str
    hint: str
    where: str


def regions(text: str, file: str) -> list[Region]:
    """Return the blanks in a Python file.

    Args:
        file: its name, for error messages.

    Raises:
        MarkerError: a mark is nested, unclosed, stray or misspelt, or no comment says what to write.
    """
    lines = text.splitlines()
    found: list[Region] = []
    begun: tuple[int, int, str] | None = None
    for number, column, comment in _comments(text, file):
        begin, end = BEGIN.fullmatch(comment), END.fullmatch(comment)
        if not begin and not end:
            if LOOKS_LIKE_ONE.match(comment):
                raise MarkerError(f"{file}:{number}: {comment!r} is not a marker such as '# BEGIN SOLUTION Q1.7'")
            continue
        if lines[number - 1].strip() != comment:
            raise MarkerError(f"{file}:{number}: a marker must be on a line of its own")
        if begin and begun:
            raise MarkerError(f"{file}:{number}: this marker is inside the region that begins at line {begun[0]}")
        if end and not begun:
            raise MarkerError(f"{file}:{number}: no region begins before this marker")
        if begin:
            begun = number, column, begin[1]
            continue
        start, indent, question = begun
        if column != indent:
            raise MarkerError(f"{file}:{number}: this marker is not indented like the one at line {start}")
        if not any(line.strip() for line in lines[start : number - 1]):
            raise MarkerError(f"{file}:{start}: this region is empty")
        what, _, hint = _comment_above(lines, start, indent, question, file).partition("Hint: ")
        found.append(Region(file, start, number, indent, question, what.strip(), hint.strip(), _where(text, start)))
        begun = None
    if begun:
        raise MarkerError(f"{file}:{begun[0]}: this region is not closed")
    return found


def _comments(text: str, file: str) -> list[tuple[int, int, str]]:
    """Return the line, column and text of each comment. Strings that look like comments are ignored."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise MarkerError(f"{file}: is not valid Python: {error}") from error
    return [(*token.start, token.string) for token in tokens if token.type == tokenize.COMMENT]


def _where(text: str, line: int) -> str:
    """Return the function that contains a line; "" if the file is not valid Python, which is reported elsewhere."""
    with suppress(SyntaxError):
        return function_at(ast.parse(text), line)
    return ""


def _comment_above(lines: list[str], begin: int, indent: int, question: str, file: str) -> str:
    """Return the comment above the mark at line `begin`: what to write, and a hint."""
    comment: list[str] = []
    for line in reversed(lines[: begin - 1]):
        if not line.startswith(" " * indent + "# "):
            break
        comment.insert(0, line.strip()[2:])
        if comment[0].startswith(f"Q{question}: "):
            return " ".join(comment).removeprefix(f"Q{question}: ")
    raise MarkerError(f"{file}:{begin}: needs a comment above it, '# Q{question}: ...', that says what to write")


def template(text: str, file: str, filled: Collection[str] = ()) -> str:
    """Return a Python file as students get it: each blank raises NotImplementedError in place of the solution.

    Args:
        filled: questions whose blanks keep the solution, without the marks.

    Raises:
        MarkerError: see `regions`.
    """
    lines = text.splitlines(keepends=True)
    for region in reversed(regions(text, file)):
        if region.question in filled:
            kept = lines[region.begin : region.end - 1]
        else:
            kept = [_blank(region)]
        lines[region.begin - 1 : region.end] = kept
    return "".join(lines)


def _blank(region: Region) -> str:
    """Return the statement that replaces a blank in the template, wrapped if it is long."""
    margin, said = " " * region.indent, f"Q{region.question}: {region.what}"
    line = f"{margin}raise NotImplementedError({_quoted(said)})\n"
    if len(line) <= WIDTH + 1:
        return line
    parts = textwrap.wrap(said, WIDTH - region.indent - 8, drop_whitespace=False)
    inside = "".join(f"{margin}    {_quoted(part)}\n" for part in parts)
    return f"{margin}raise NotImplementedError(\n{inside}{margin})\n"


def _quoted(said: str) -> str:
    return '"' + said.replace("\\", "\\\\").replace('"', '\\"') + '"'


def solution_lines(text: str, file: str) -> set[str]:
    """Return the stripped lines between the marks, except comments and lines that contain only brackets."""
    lines = text.splitlines()
    inside = {line.strip() for region in regions(text, file) for line in lines[region.begin : region.end - 1]}
    return {line for line in inside if re.search(r"\w", line) and not line.startswith("#")}


def without_staff(text: str, file: str) -> str:
    """Remove the staff-only passages from a text file.

    Raises:
        MarkerError: a mark is nested, unclosed or stray.
    """
    kept: list[str] = []
    begun = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        mark = STAFF.fullmatch(line.strip())
        if not mark:
            if not begun:
                kept.append(line)
            continue
        if (mark[1] == "BEGIN") == bool(begun):
            why = f"the block at line {begun} is still open" if begun else "no block is open"
            raise MarkerError(f"{file}:{number}: {why}")
        begun = number if mark[1] == "BEGIN" else 0
    if begun:
        raise MarkerError(f"{file}:{begun}: is not closed")
    return "".join(kept)


def staff_lines(text: str) -> set[str]:
    """Return the stripped lines between BEGIN STAFF and END STAFF, except those that also occur outside."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    inside = False
    for line in map(str.strip, text.splitlines()):
        if mark := STAFF.fullmatch(line):
            inside = mark[1] == "BEGIN"
        else:
            found[inside].add(line)
    return found[True] - found[False]


def _may_be_a_mark(line: str) -> bool:
    """Return whether a comment has both words of a mark, or misspellings of them, at most one word apart."""
    if EDITION.search(line):
        return True
    words = re.findall(r"[a-z]+", comment[1].lower()) if (comment := COMMENT.search(line)) else []
    for at, word in enumerate(words):
        if _like(word, ("begin", "end")) and any(_like(each, ("solution", "staff")) for each in words[at + 1 : at + 3]):
            return True
    return False


def _like(word: str, wanted: tuple[str, ...]) -> bool:
    return bool(difflib.get_close_matches(word, wanted, 1, MISSPELT))


def marks_left(content: bytes, file: str) -> list[str]:
    """Return the lines of a released file that still look like marks: "file:line: ..."."""
    if b"\0" in content:
        return []
    lines = content.decode("utf-8", "replace").splitlines()
    why = "this mark must not be released"
    return [f"{file}:{number}: {why}: {line.strip()}" for number, line in enumerate(lines, 1) if _may_be_a_mark(line)]
