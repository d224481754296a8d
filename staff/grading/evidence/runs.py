"""Read a submitted run: its summary and the epochs that have pictures."""

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from course.rubric import Part
from course.runs.folder import fits
from staff.grading.archives import show

MOST_SUMMARY, MOST_EVENTS, MOST_CHECKPOINT = 2_000_000, 30_000_000, 200_000_000  # bytes
MOST_RUNS = 50  # maximum runs to search
PNG = b"\x89PNG\r\n\x1a\n"


class Doubt(Exception):
    """A run is not valid evidence; the text is a sentence for the student."""


@dataclass(frozen=True)
class Run:
    """The claims in a run's summary. Numbers that are not finite are dropped.

    `name`: the run's folder, for display. `history`: the numbers of each epoch.
    """

    folder: Path
    name: str
    flags: dict[str, float | str]
    results: dict[str, float]
    best_epoch: float | None
    history: list[dict[str, float]]


def find_run(root: Path, part: Part, wanted: dict) -> Run:
    """Return the run with these flags (except epochs) that has the most epochs; in a tie, the latest version.

    Raises:
        Doubt: there is no such run.
    """
    logs = root / "logs" / part.logs
    folders = sorted((path for path in children(logs) if path.is_dir()), key=_version)[-MOST_RUNS:]
    best, problems = None, []
    for folder in folders:
        try:
            run = read_run(folder, root)
        except Doubt as doubt:
            problems.append(str(doubt))
            continue
        if fits(run.flags, wanted) and (best is None or len(run.history) >= len(best.history)):
            best = run
    if best is None:
        lack = f"There is no run with {named(wanted)} in logs/{part.logs}."
        raise Doubt(" ".join([lack, *problems[:2]]))
    return best


def named(wanted: dict) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in wanted.items() if name != "epochs")


def _version(folder: Path) -> tuple[int, str]:
    number = re.search(r"[0-9]{1,9}$", folder.name)
    return int(number[0]) if number else -1, folder.name


def read_run(folder: Path, root: Path) -> Run:
    """Read the claims in a run's summary.json.

    Raises:
        Doubt: the file is missing or invalid.
    """
    name = show(folder.relative_to(root).as_posix())
    try:
        content = json.loads(_read(folder / "summary.json", root, MOST_SUMMARY), parse_int=float)
        flags, history = content["flags"], content["history"]
        if not isinstance(flags, dict) or not isinstance(history, list):
            raise TypeError("flags or history")
    except Doubt as doubt:
        raise Doubt(f"{name}: {doubt}") from None
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise Doubt(f"{name}: summary.json is damaged.") from None
    texts = {key: value for key, value in flags.items() if isinstance(value, str) and len(value) < 100}
    best = _finite(content.get("best")).get("epoch")
    return Run(
        folder, name, texts | _whole(_finite(flags)), _finite(content.get("results")), best, list(map(_finite, history))
    )


def _finite(fields) -> dict[str, float]:
    """Return the finite floats of a dictionary; an empty dictionary for any other value."""
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if type(value) is float and math.isfinite(value)}


def _whole(fields: dict[str, float]) -> dict[str, float]:
    return {name: int(value) if value.is_integer() else value for name, value in fields.items()}


def pictures(run: Path, root: Path, name: str) -> set[int]:
    """Return the epochs that have a picture with this name. Only the PNG signature of a file is checked."""
    epochs = set()
    for path in children(run / "figures"):
        found = re.fullmatch(re.escape(name) + r"_epoch_([0-9]{3,6})\.png", path.name)
        if found and _starts_with(path, root, PNG):
            epochs.add(int(found[1]))
    return epochs


def _starts_with(path: Path, root: Path, start: bytes) -> bool:
    try:
        with _opened(path, root) as (handle, _):
            return os.read(handle, len(start)) == start
    except Doubt:
        return False


def children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def need_file(path: Path, root: Path, most: int) -> int:
    """Check that a file exists and has at most `most` bytes, and return its size.

    Raises:
        Doubt: the file cannot be opened or is too large.
    """
    with _opened(path, root, most) as (_, size):
        return size


def _read(path: Path, root: Path, most: int) -> bytes:
    with _opened(path, root, most) as (handle, _), open(handle, "rb", closefd=False) as file:
        return file.read(most)


@contextmanager
def _opened(path: Path, root: Path, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Open a file in the submission, without following links, and yield its descriptor and size.

    Raises:
        Doubt: the file does not exist, is not a regular file, or has more than `most` bytes.
    """
    handle = None
    try:
        if path.parent.resolve() != root.resolve() / path.parent.relative_to(root):
            raise Doubt(f"{show(path.name)} is reached through a link.")
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise Doubt(f"{show(path.name)} is not a regular file.")
        if most is not None and state.st_size > most:
            sizes = f"{state.st_size / 1e6:.0f} MB; the limit is {most / 1e6:.0f} MB"
            raise Doubt(f"{show(path.name)} is too large: {sizes}.")
        yield handle, state.st_size
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = getattr(error, "strerror", None) or "its links form a loop"
        raise Doubt(f"{show(path.name)} cannot be read: {reason}.") from None
    finally:
        if handle is not None:
            os.close(handle)
