"""Rules for the layout of the repository, as functions of its files (path -> source). See test_layout.py."""

import ast
import re
from collections.abc import Iterator

LONGEST_FILE, LONGEST_FUNCTION = 350, 40  # lines
BANKS = re.compile(r"(^|/)(mistakes|attacks)/")  # wrong and hostile submissions may be of any length
PART = re.compile(r"part\d_\w+")
MAY_IMPORT = {  # top-level folder -> the other top-level folders that it may import
    "course": set(),
    "part": {"course"},
    "theory": {"course", "part"},
    "tests": {"course", "part"},
    "conftest": {"course", "tests"},
    "staff": {"course", "part", "tests", "bench", "conftest", "theory"},
    "bench": {"course", "part", "tests", "staff", "theory"},
}
STAFF_BLOCKS = re.compile(r"(^|/)(Makefile|setup\.cfg|README\.md)$|^handout/|^staff/")
RELATIVE = "."
Files = dict[str, str]


def top(path: str) -> str:
    """Return the path's key in MAY_IMPORT: "part" for all parts, and the module's name for files in the root."""
    first = path.split("/")[0].removesuffix(".py")
    return "part" if PART.fullmatch(first) else first


def imports(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield the line and name of each imported module, and whether it is imported as soon as the file is."""
    tree = ast.parse(source)
    inside = {id(child) for node in ast.walk(tree) if is_function(node) for child in ast.walk(node)}
    inside |= {id(child) for node in ast.walk(tree) if is_left_out(node) for child in ast.walk(node)}
    for node in ast.walk(tree):
        at_once = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, RELATIVE, at_once
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}", at_once) for alias in node.names)


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def is_left_out(node: ast.AST) -> bool:
    """Return whether importing the file skips this block, which is for type checkers or for `python -m`."""
    return isinstance(node, ast.If) and re.search(r"TYPE_CHECKING|^__name__ == '__main__'$", ast.unparse(node.test))


def modules(files: Files) -> dict[str, str]:
    """Return module name -> path; modules in tests/ and staff/tests/ can also be imported by their short name."""
    found = {}
    for path in files:
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        found[name] = path
        if path.startswith(("tests/", "staff/tests/")):
            found.setdefault(name.removeprefix("tests.") if path.startswith("tests/") else name.split(".")[-1], path)
    return found


def resolve(name: str, known: dict[str, str]) -> str | None:
    """Return the path of our module that `import name` or `from a import b` (name a.b) loads, or None."""
    return known.get(name) or known.get(name.rpartition(".")[0])


def forbidden_imports(files: Files) -> list[str]:
    """Return the imports that the rules forbid."""
    known, found = modules(files), []
    for path, source in files.items():
        for line, name, _ in imports(source):
            if name == RELATIVE:
                found.append(f"{path}:{line} has a relative import, which these rules cannot follow")
            target = resolve(name, known)
            if target is None or target == path:
                continue
            same = path.split("/")[0] == target.split("/")[0]  # compare folders, since one part may not import another
            oracles = path == "conftest.py" and target.startswith(
                "staff/oracles/"
            )  # allowed for the fixture that provides expected values
            if not same and not oracles and top(target) not in MAY_IMPORT[top(path)]:
                found.append(f"{path}:{line} imports {name}")
    return found


def too_long(files: Files) -> list[str]:
    """Return the files and functions that have too many lines."""
    found = []
    for path, source in files.items():
        if BANKS.search(path):
            continue
        if source.count("\n") > LONGEST_FILE:
            found.append(f"{path}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                found += [f"{path}:{node.lineno} {node.name}: {lines} lines"] * (lines > LONGEST_FUNCTION)
    return found


def imported_at_once(files: Files) -> dict[str, set[str]]:
    """Return path -> the paths of our modules that are imported as soon as the file is."""
    known = modules(files)
    return {
        path: {target for _, name, at_once in imports(source) if at_once and (target := resolve(name, known))} - {path}
        for path, source in files.items()
    }


def reached(files: Files, start: str) -> set[str]:
    """Return all of our modules that importing `start` loads, including their packages."""
    edges, found, new = imported_at_once(files), set(), {start}
    while new:
        found |= new
        packages = {f"{path.rpartition('/')[0]}/__init__.py" for path in new}
        new = (set().union(*(edges[path] for path in new)) | packages & set(files)) - found
    return found


def cycles(files: Files) -> list[str]:
    """Return the import cycles: modules that import each other at import time, directly or indirectly."""
    edges, found, done = imported_at_once(files), [], set()

    def visit(path: str, way: list[str]) -> None:
        if path in way:
            found.append(" -> ".join([*way[way.index(path) :], path]))
        elif path not in done:
            for target in sorted(edges.get(path, ())):
                visit(target, [*way, path])
            done.add(path)

    for path in sorted(edges):
        visit(path, [])
    return found


def staff_markers(files: Files) -> list[str]:
    """Return STAFF blocks in files where they are not allowed, and markers that hide a test."""
    found = []
    for path, text in files.items():
        for line, content in enumerate(text.splitlines(), 1):
            if "BEGIN STAFF" in content and not STAFF_BLOCKS.search(path):
                found.append(f"{path}:{line}: a STAFF block")
            if "mark.question(" in content and "hidden=" in content and path.startswith(("tests/", "staff/hidden/")):
                found.append(f"{path}:{line}: a marker that hides a test; the folder does that")
    return found
