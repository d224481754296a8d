"""Find forbidden names in a submission's syntax trees, without running any of its code.

For each file, one table maps names to their meanings (`F` -> torch.nn.functional). It is filled from all imports and
assignments regardless of scope, so a parameter with the same name as an import counts as the import. Code can hide a
name (`exec`, computed names), so the grader also checks at run time. Only this check covers code that never runs.
"""

import ast
import re
import threading
import warnings
from bisect import bisect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

# some Python versions, such as 3.11, share one depth counter between threads: concurrent parsing fails
PARSING = threading.Lock()
LARGEST = 500_000  # largest file to parse, in bytes: its syntax tree can take a thousand times as much memory
TOTAL = 2_000_000  # maximum bytes to parse per submission; parsing takes up to ten seconds per megabyte
MOST = 100  # maximum findings per file
PASSES = 5  # passes over a file, enough to resolve a chain of this many assignments in reverse order
LONGEST = 200  # maximum characters in a concatenated string
QUESTION = re.compile(rb"\s*#\s*Q(\d{1,3}\.\d{1,3})\b")
BUILTINS = ("getattr", "__import__", "vars")
TOOLS = (
    *(f"builtins.{name}" for name in BUILTINS), "importlib.import_module", "importlib.__import__", "sys.modules",
)  # fmt: skip
LOOKED_AT = (
    ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.Name, ast.Attribute, ast.Call,
    ast.Subscript, ast.Constant, ast.BinOp,
)  # fmt: skip

Node = tuple[ast.AST, str, int]  # a node, the "Class.function" that contains it, and the first line of the latter


@dataclass(frozen=True)
class Finding:
    """A forbidden name in a file of the staged submission.

    Attributes:
        name: the forbidden name as written in the rules.
        question: from the last comment "# Q3.2: ..." above the line in the same function; None if there is none.
        place: the function or class, as "Class.function"; empty at module level.
    """

    file: str
    line: int
    name: str
    question: str | None = None
    place: str = ""


def forbidden(root: Path, rules: dict[str, list[str]], allowed: Collection[str] = ()) -> list[Finding]:
    """Find the places where a submission uses forbidden names.

    Args:
        root: the folder that `archives.stage` created.
        rules: name -> folders or files where it is forbidden: {"torch.distributions": ["part1_vae"]}.
        allowed: files in which nothing is forbidden, because they came with the template: ["part3_gpt/fused.py"].

    Returns:
        At most one finding per name and line, sorted by file and line. A file that is not valid Python, or is too
        large, has no findings: the tests report what is wrong with it.
    """
    found, total = [], 0
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        names = [name for name, places in rules.items() if any(file.is_relative_to(place) for place in places)]
        names = names if file.as_posix() not in allowed else []
        source = _source(path) if names else b""
        total += len(source)
        tree = _parsed(source) if total <= TOTAL else None
        if tree is not None:
            found += _in_file(tree, source, file.as_posix(), names)
    return found


def _source(path: Path) -> bytes:
    """Return the content of a file; empty if it is not a regular file, is too large or cannot be read."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
            return b""
        return path.read_bytes()
    except OSError:
        return b""


def _parsed(source: bytes) -> ast.Module | None:
    try:
        with PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. about invalid escape sequences
            return ast.parse(source)
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError, OverflowError):
        return None


def _in_file(tree: ast.Module, source: bytes, file: str, names: list[str]) -> list[Finding]:
    nodes = list(_nodes(tree))
    meanings = _Names(names).of(nodes)
    comments = [(number, m[1].decode()) for number, m in enumerate(map(QUESTION.match, source.splitlines()), 1) if m]
    found: dict[tuple[int, str], Finding] = {}
    for node, place, first in nodes:
        if isinstance(getattr(node, "ctx", None), ast.Store):
            continue
        for name in meanings.get(id(node), frozenset()) & set(names):
            question = _question(comments, first, node.lineno) if place else None
            found.setdefault((node.lineno, name), Finding(file, node.lineno, name, question, place))
    return [found[key] for key in sorted(found)[:MOST]]


def _nodes(tree: ast.Module) -> Iterator[Node]:
    """Yield the relevant nodes, parents before children, without recursion: a tree can be deep."""
    todo: list[Node] = [(tree, "", 1)]
    while todo:
        node, place, first = todo.pop()
        if isinstance(node, LOOKED_AT):
            yield node, place, first
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            place, first = f"{place}.{node.name}".lstrip("."), node.lineno
        todo += [(child, place, first) for child in ast.iter_child_nodes(node)]


def _question(comments: list[tuple[int, str]], first: int, line: int) -> str | None:
    """Return the question of the last comment "# Q3.2: ..." between the function's first line and the given line."""
    last = bisect(comments, (line, "")) - 1
    return comments[last][1] if last >= 0 and comments[last][0] >= first else None


class _Names:
    """Resolve the names in a file that can lead to a forbidden name.

    A meaning is a forbidden name, a prefix of one ("torch"), or one of TOOLS. This keeps the number of meanings
    small, whatever the file does.
    """

    def __init__(self, names: list[str]):
        self.names, self.wanted = names, (*names, *TOOLS)
        self.table: dict[str, set[str]] = {name: {f"builtins.{name}"} for name in BUILTINS}
        self.stars: set[str] = set()  # modules imported with `from module import *`

    def of(self, nodes: list[Node]) -> dict[int, frozenset[str]]:
        """Map the id of each node to the names that it can refer to; an import refers to the names that it imports."""
        for _ in range(PASSES):
            before = self._size()
            meanings: dict[int, frozenset[str]] = {}
            self.texts: dict[int, str] = {}
            for node, _, _ in reversed(nodes):  # children before parents
                if meaning := self._meaning(node, meanings):
                    meanings[id(node)] = frozenset(meaning)
                self._assign(node, meanings)
            if self._size() == before:
                break
        return meanings

    def _size(self) -> int:
        return len(self.stars) + sum(map(len, self.table.values()))

    def _cut(self, name: str) -> set[str]:
        """Reduce a name to its meanings: the forbidden names that contain it, plus itself if it is a prefix of one."""
        found = {wanted for wanted in self.wanted if f"{name}.".startswith(f"{wanted}.")}
        return found | ({name} if any(wanted.startswith(f"{name}.") for wanted in self.wanted) else set())

    def _bind(self, name: str, meaning: set[str] | frozenset[str]) -> None:
        if meaning:
            self.table.setdefault(name, set()).update(meaning)

    def _meaning(self, node: ast.AST, meanings: dict[int, frozenset[str]]) -> set[str] | frozenset[str]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return self._imported(node)
        if isinstance(node, ast.Name):
            starred = {found for module in self.stars for found in self._cut(f"{module}.{node.id}")}
            return self.table.get(node.id, set()) | starred
        if isinstance(node, ast.Attribute):
            return self._member(meanings.get(id(node.value)), node.attr)
        if isinstance(node, ast.NamedExpr):
            return meanings.get(id(node.value), frozenset())
        if isinstance(node, ast.Call):
            return self._called(node, meanings)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, meanings)
        self._text(node)
        return frozenset()

    def _imported(self, node: ast.Import | ast.ImportFrom) -> set[str]:
        """Add the names bound by an import to the table and return what they refer to."""
        found = set()
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                if node.level or not node.module:
                    continue  # a module of the submission, which is checked separately
                if alias.name == "*":
                    self.stars |= {node.module} if self._cut(node.module) else set()
                    found |= self._cut(node.module)
                    continue
                meaning = self._cut(f"{node.module}.{alias.name}")
                self._bind(alias.asname or alias.name, meaning)
            else:
                meaning = self._cut(alias.name)
                top = alias.name.partition(".")[0]
                self._bind(alias.asname or top, meaning if alias.asname else self._cut(top))
            found |= meaning
        return found

    def _assign(self, node: ast.AST, meanings: dict[int, frozenset[str]]) -> None:
        """Add the names bound by `a = b`, `a: T = b`, `(a := b)` and `a, b = c, d` to the table."""
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) or node.value is None:
            return
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name):
                    self._bind(name.id, meanings.get(id(value), frozenset()))

    def _member(self, of: frozenset[str] | None, name: str | None) -> set[str] | frozenset[str]:
        if not of or name is None:
            return frozenset()
        if name == "__dict__":
            return of
        return {found for each in of for found in self._cut(f"{each}.{name}")}

    def _called(self, node: ast.Call, meanings: dict[int, frozenset[str]]) -> set[str] | frozenset[str]:
        """Resolve getattr(torch, "distributions"), vars(torch), importlib.import_module("torch.distributions") ..."""
        function = meanings.get(id(node.func), frozenset())
        found: set[str] = set(function & set(self.names))
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        if not values:
            return found
        texts = [self.texts.get(id(value)) for value in values[:2]]
        if "builtins.getattr" in function and len(values) > 1:
            found |= self._member(meanings.get(id(values[0])), texts[1])
        if "builtins.vars" in function:
            found |= meanings.get(id(values[0]), frozenset())
        if function & {"importlib.import_module", "importlib.__import__", "builtins.__import__"} and texts[0]:
            name = texts[0] if not texts[0].startswith(".") else f"{texts[-1]}{texts[0]}"
            found |= self._cut(name) | self._cut(name.partition(".")[0])
        return found

    def _subscript(self, node: ast.Subscript, meanings: dict[int, frozenset[str]]) -> set[str] | frozenset[str]:
        """Resolve sys.modules["torch.distributions"], vars(torch)["distributions"], torch.__dict__["distributions"]."""
        of, text = meanings.get(id(node.value), frozenset()), self.texts.get(id(node.slice))
        if "sys.modules" in of and text:
            return self._cut(text)
        return self._member(of, text)

    def _text(self, node: ast.AST) -> None:
        """Record the value of a string literal, or of a concatenation of known strings."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= LONGEST:
            self.texts[id(node)] = node.value
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self.texts.get(id(node.left)), self.texts.get(id(node.right))
            if left is not None and right is not None and len(left) + len(right) <= LONGEST:
                self.texts[id(node)] = left + right
