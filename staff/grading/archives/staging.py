"""Make a clean copy of the files that count in a submission."""

import ast
import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from course.flags import REPOSITORY
from staff.grading.archives.entry import Entry
from staff.grading.archives.planning import LOGS, Plan, inner_archives, make_plan, overlay, packed_hand_in
from staff.grading.archives.reading import read_archive, read_entries, spooled
from staff.grading.archives.submission import Limits, Staged, Submission, SubmissionError, mb, part_folders, show
from staff.grading.rules import PARSING


def stage(submission: Submission, folder: Path, limits: Limits | None = None) -> Staged:
    """Copy the files that count in a submission: the parts' folders under their standard names, logs/ and answers.md.

    Args:
        folder: a new or empty folder. If staging fails, the folder is removed, unless it was not empty.

    Raises:
        SubmissionError: the submission cannot be read or exceeds a limit; the message is a sentence for the student.
        FileExistsError: the folder is not empty.
        OSError: the source cannot be opened, or the copy cannot be written.
    """
    limits = limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "is not empty", str(folder))
    try:
        os.chmod(folder, 0o755)
        with ExitStack() as opened:
            plan = _plan(submission, folder, limits, opened)
            _copy(plan, folder, limits)
        return _staged(plan, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _plan(submission: Submission, folder: Path, limits: Limits, opened: ExitStack) -> Plan:
    """Merge the plans of all files of a submission. Unreadable files are left out if another file has a part.

    Raises:
        SubmissionError: a file cannot be read, and no other file has a part.
    """
    reading = _Reading(folder, limits, opened, time.monotonic() + limits.seconds)
    for source in submission.sources:
        reading.read(source)
    plan = overlay(reading.plans) if reading.plans else Plan()
    if reading.errors and not plan.parts:
        raise next(iter(reading.errors.values()))
    for name, error in reading.errors.items():
        plan.leave_out(name, str(error))
    return plan


@dataclass
class _Reading:
    """Collect the plans of a submission's files, each with its name, and the errors of unreadable files."""

    folder: Path
    limits: Limits
    opened: ExitStack
    deadline: float
    plans: list[tuple[str, Plan]] = field(default_factory=list)
    errors: dict[str, SubmissionError] = field(default_factory=dict)

    def read(self, source: Path) -> None:
        try:
            entries = read_entries(source, self.limits, self.folder, self.opened, self.deadline)
            plan = make_plan(entries, self.limits)
        except SubmissionError as error:
            self.errors[show(source.name)] = error
            return
        self.plans.append((show(source.name), plan))
        for entry in packed_hand_in(entries, plan) if plan.parts else inner_archives(entries):
            plan.left_out.pop(entry.name, None)
            self._read_inner(entry)

    def _read_inner(self, entry: Entry) -> None:
        name = show(entry.name)
        try:
            file = spooled(entry, self.folder, self.opened)
            entries = read_archive(entry.name, file, self.limits, self.folder, self.opened, self.deadline)
            self.plans.append((name, make_plan(entries, self.limits)))
        except SubmissionError as error:
            self.errors[name] = error


def _copy(plan: Plan, folder: Path, limits: Limits) -> None:
    size = {LOGS: 0, "": 0}
    for place, entry in sorted(plan.files.items()):
        kind = LOGS if place[0] == LOGS else ""
        path = folder
        for name in place[:-1]:
            path = path / name
            if not path.exists():
                path.mkdir()
                os.chmod(path, 0o755)  # mkdir's mode is subject to the umask
        fits = _write(path / place[-1], entry, size, kind, limits)
        if not fits:
            (path / place[-1]).unlink()
            plan.leave_out(place, f"the runs exceed {mb(limits.logs)}")


def _write(path: Path, entry: Entry, size: dict[str, int], kind: str, limits: Limits) -> bool:
    """Write one file. Return False if it belongs to a run and exceeds the limit for logs/, else True.

    Raises:
        SubmissionError: the file does not belong to a run and exceeds the limit for the parts.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(handle, "wb") as file:
        os.fchmod(handle, 0o644)
        for piece in entry.pieces():
            size[kind] += len(piece)
            if kind == LOGS and size[kind] > limits.logs:
                size[kind] -= file.tell() + len(piece)
                return False
            if kind != LOGS and size[kind] > limits.total:
                raise SubmissionError(f"Its parts exceed {mb(limits.total)}; hand in only the code.")
            file.write(piece)
    return True


def _staged(plan: Plan, folder: Path) -> Staged:
    """Add a missing `__init__.py` to each part, and report missing modules."""
    problems = plan.problems()
    for number, source in sorted(plan.parts.items()):
        part = folder / part_folders()[number]
        problems += _missing(part, show(source[-1]))
        if not (part / "__init__.py").exists():
            (part / "__init__.py").touch()
            os.chmod(part / "__init__.py", 0o644)
    parts = {number: show("/".join(source)) for number, source in sorted(plan.parts.items())}
    return Staged(folder, _listed(plan.left_out), parts, problems)


def _missing(part: Path, named: str) -> Iterator[str]:
    """Yield sentences about missing modules of a part, and notebooks handed in instead of modules."""
    needed = needed_modules().get(part.name, set())
    notebooks = {path.stem for path in part.glob("*.ipynb") if not path.with_suffix(".py").exists()}
    for module in sorted(needed | notebooks):
        if module not in notebooks and not (part / f"{module}.py").is_file():
            yield f"There is no file {named}/{module}.py."
        elif module in notebooks:
            what = f"{module}.py is needed" if module in needed else "only Python files are run"
            yield f"{named}/{show(module)}.ipynb is a notebook; {show(what)}."


def _listed(left_out: dict[str, str], most: int = 50) -> list[str]:
    lines = [f"{show(name)}: {reason}" for name, reason in sorted(left_out.items())]
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more"]


@cache
def needed_modules(adapters: Path = REPOSITORY / "tests" / "adapters") -> dict[str, set[str]]:
    """Return the modules of each part that the tests import: {"part1_vae": {"utils", ...}, ...}."""
    needed: dict[str, set[str]] = {folder: set() for folder in part_folders().values()}
    with PARSING:
        trees = [ast.parse(path.read_text("utf-8")) for path in sorted(adapters.glob("*.py"))]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module:
            part, _, module = node.module.partition(".")
            if part in needed:
                needed[part] |= {module} if module else {alias.name for alias in node.names}
    return needed
