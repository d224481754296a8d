"""Which submissions there are in the folders and archives that are named."""

from collections.abc import Iterable
from pathlib import Path

from staff.grading.archives.planning import LOGS, NEVER
from staff.grading.archives.submission import (
    CODE,
    GRADESCOPE,
    PACKED,
    PART,
    PARTS_DEPTH,
    Submission,
    cut,
    key,
    part_folders,
    safe_name,
    show,
)


def find(paths: Iterable[Path]) -> tuple[list[Submission], list[str]]:
    """The submissions that these folders and archives are or hold.

    A folder is one submission if the folders of the parts lie in it, or in the only folder in it; else each folder and
    archive in it is one.

    Returns:
        the submissions, in the order of their names, and the names of files that are neither folder nor archive.

    Raises:
        ValueError: a path does not exist, or holds no submission.
    """
    sources: list[Path] = []
    skipped: list[str] = []
    for path in map(Path, paths):
        if _is_archive(path) or (path.is_dir() and _is_one(path)):
            sources.append(path)
            continue
        found, others = _each_in(path)
        sources += found
        skipped += others
    unique = {source.resolve(): source for source in sources}
    return _named(list(unique.values())), skipped


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(PACKED) and path.is_file()


def _each_in(path: Path) -> tuple[list[Path], list[str]]:
    if not path.exists():
        raise ValueError(f"{path}: does not exist")
    if not path.is_dir():
        raise ValueError(f"{path}: is neither a folder nor an archive ({', '.join(PACKED)})")
    found, others = [], []
    for child in sorted(path.iterdir()):
        if _may_be_one(child):
            found.append(child)
        else:
            others.append(show(child.name))
    if not found:
        raise ValueError(f"{path}: holds no submission, neither a folder nor an archive ({', '.join(PACKED)})")
    return found, others


def _may_be_one(path: Path) -> bool:
    """Whether an entry of a folder of submissions is one. A link could lead into somebody else's."""
    if path.is_symlink() or path.name.startswith(".") or path.name.lower() in NEVER | {LOGS, "course"}:
        return False
    return path.is_dir() or _is_archive(path)


def _is_one(folder: Path, depth: int = PARTS_DEPTH) -> bool:
    """Whether a folder is one submission, not a folder of them."""
    children = _children(folder)
    found = [child for child in children if _is_part(child)]
    inside = [child for child in children if _may_be_one(child)]
    if found and not _are_students(found, inside):
        return True
    holders = [child for child in inside if depth and child.is_dir() and _is_one(child, depth - 1)]
    names = {child.name for child in children}
    if GRADESCOPE in names:
        return False
    if ".git" in names and len(holders) == 1:
        return True  # a repository with the parts in one of its folders
    flat = any(child.suffix.lower() in CODE for child in children) and not any(map(_is_archive, inside))
    return len(holders) == len(inside) == 1 or (flat and not holders)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # `stage` says what is wrong with it


def _is_part(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir() or not PART.match(path.name):
        return False
    return any(child.suffix.lower() in CODE for child in _children(path))


def _are_students(parts: list[Path], inside: list[Path]) -> bool:
    """Whether folders that are named like parts are those of students: `part1-jan` beside other submissions."""
    if any(path.name in part_folders().values() for path in parts):
        return False
    others = [path for path in inside if path not in parts]
    return any(_is_archive(path) or any(map(_is_part, _children(path))) for path in others)


def _named(sources: list[Path]) -> list[Submission]:
    """Each with a name of its own: where two would have the same, the later ones get -2, -3 ..."""
    ordered = sorted((safe_name(_stem(source)), str(source), source) for source in sources)
    taken: set[str] = set()
    first, later = [], []
    for name, _, source in ordered:
        (later if key(name) in taken else first).append((name, source))
        taken.add(key(name))
    for name, source in later:
        number = 2
        while key(numbered := cut(name, 80 - len(f"-{number}")) + f"-{number}") in taken:
            number += 1
        taken.add(key(numbered))
        first.append((numbered, source))
    return [Submission(name, source) for name, source in sorted(first)]


def _stem(source: Path) -> str:
    name = source.resolve().name if source.name in ("", "..") else source.name
    ending = next((ending for ending in PACKED if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] if source.is_file() else name
