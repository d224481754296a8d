"""Find the submitted files and folders in the given paths, each with its owners according to the learning platform."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from staff.grading.archives.own_files import is_own
from staff.grading.archives.planning import LOGS, NEVER
from staff.grading.archives.platforms import Owner, gradescope_owners, owner_of, stem
from staff.grading.archives.submission import CODE, GRADESCOPE, PACKED, PART, part_folders, show

BESIDE = (".csv", ".yml", ".yaml", ".json", ".html", ".htm", ".txt", ".md", ".log", ".xlsx", ".ods")  # not submissions


@dataclass(frozen=True)
class Found:
    """A file or folder that was handed in, and its owners according to a learning platform; () if unknown."""

    path: Path
    owners: tuple[Owner, ...] = ()

    @property
    def readable(self) -> bool:
        return self.path.is_dir() or is_archive(self.path)

    @property
    def stem(self) -> str:
        name = self.path.resolve().name if self.path.name in ("", "..") else self.path.name
        return stem(name) if self.path.is_file() else name

    @property
    def loose_stem(self) -> str:
        """The name without its suffix, even if the file is not an archive."""
        return self.stem if self.readable else self.path.stem


def find(paths: Iterable[Path], own: Collection[Path] = ()) -> tuple[list[Found], list[str]]:
    """Find the submissions. A folder is one submission if the folders of the parts are directly in it; otherwise, each
    of its entries is one. The number and form of the paths on the command line do not matter.

    Args:
        own: files and folders that are never submissions; see `own_files.is_own` for others.

    Returns:
        The submissions, sorted by path, and the names of skipped entries: the course's own files and links.

    Raises:
        ValueError: a path does not exist or contains no submission.
    """
    paths = list(map(Path, paths))
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: does not exist")
    own = {path.resolve() for path in own}
    named, skipped = _separate(paths, own)
    single = [path for path in named if path.is_file() or owner_of(path.name) or _is_one(path)]
    several = [path for path in named if path not in single]
    if single and several:  # a folder in a student's submission must not count as other students' submissions
        raise ValueError(
            f"{single[0]} is a submission, and {several[0]} is a folder of submissions, because it does not "
            "directly contain the folder of a part: give only one of them"
        )
    found = {path.resolve(): _found(path) for path in single}
    for path in several:
        inside, others = _each_in(path, own)
        found |= {each.path.resolve(): each for each in inside}
        skipped += others
    if not found:
        raise ValueError(f"{', '.join(skipped)}: no submission found in the given paths")
    return sorted(found.values(), key=lambda each: str(each.path)), skipped


def _separate(paths: Iterable[Path], own: Collection[Path]) -> tuple[list[Path], list[str]]:
    """Return the paths without the course's own files, which `class/*` also matches, and the names of these files."""
    named, skipped = [], []
    for path in paths:
        if _found(path).owners or not is_own(path, own):
            named.append(path)
        else:
            skipped.append(show(path.name))
    return named, skipped


def _found(path: Path) -> Found:
    owners = gradescope_owners(path.parent).get(path.name)
    if owners is None:
        owner = owner_of(path.name)
        owners = [owner] if owner else []
    return Found(path, tuple(owners))


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(PACKED) and path.is_file()


def _each_in(folder: Path, own: Collection[Path]) -> tuple[list[Found], list[str]]:
    folder = _downloaded(folder)
    owners = gradescope_owners(folder)
    found, others = [], []
    for child in _submissions(folder):
        system = owners.get(child.name) or list(filter(None, [owner_of(child.name)]))
        if child.is_symlink() or (not system and is_own(child, own)):
            others.append(show(child.name))
        else:
            found.append(Found(child, tuple(system)))
    if not found:
        raise ValueError(f"{folder}: contains no submission: neither a folder nor an archive ({', '.join(PACKED)})")
    return found, others


def _submissions(folder: Path) -> list[Path]:
    return [
        child
        for child in sorted(folder.iterdir())
        if not child.name.startswith(".") and child.name.lower() not in NEVER | {LOGS, "course"}
    ]


def _downloaded(folder: Path) -> Path:
    """Return the folder of a platform's download if it is the only entry of `folder`; otherwise `folder` itself.

    Other subfolders are not searched: a student could also put files with other people's names into a folder.
    """
    inside = _submissions(folder)
    if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() and not owner_of(inside[0].name):
        children = _children(inside[0])
        names = [child.name for child in children if not _lies_beside(child)]
        if GRADESCOPE in {child.name for child in children} or (names and all(map(owner_of, names))):
            return inside[0]
    return folder


def _lies_beside(path: Path) -> bool:
    """Return whether a file can be part of a download without being a submission, such as index.html."""
    return path.is_file() and path.name.lower().endswith(BESIDE)


def _is_one(folder: Path) -> bool:
    """Return whether a folder is a single submission, not a folder of submissions."""
    children = _children(folder)
    if GRADESCOPE in {child.name for child in children}:
        return False
    parts = [child for child in children if _is_part(child)]
    if parts:
        return not _are_students(parts, children)
    return any(child.suffix.lower() in CODE and not owner_of(child.name) for child in children) and not any(
        map(_holds_parts, children)
    )


def _are_students(parts: list[Path], children: list[Path]) -> bool:
    """Return whether folders named like parts belong to students: `part1-jan` next to other submissions."""
    if any(path.name in part_folders().values() for path in parts):
        return False
    return any(_holds_parts(path) for path in children if path not in parts)


def _holds_parts(path: Path) -> bool:
    return is_archive(path) or (path.is_dir() and not path.is_symlink() and any(map(_is_part, _children(path))))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # `stage` reports the error


def _is_part(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir() or not PART.match(path.name):
        return False
    return any(child.suffix.lower() in CODE for child in _children(path))
