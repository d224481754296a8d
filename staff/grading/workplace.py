"""The temporary folder of a run of the grader: all that it and its processes write lies in there, and goes with it."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from course.files import Held, HeldFolder
from staff.grading.inside.sandbox import take_away

PREFIX = "grading-"


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that is the temporary folder of this process and of those that it starts, until this ends.

    What a run that was killed has left is removed first.

    Raises:
        OSError: it cannot be made.
    """
    base = Path(tempfile.gettempdir())
    remove_dead(base)
    new = Path(tempfile.mkdtemp(prefix=f"new-{PREFIX}", dir=base))
    os.chmod(new, 0o711)  # submissions that run as another user find what they are given, and can list nothing
    held = HeldFolder(new)
    folder = new.rename(base / new.name.removeprefix("new-"))  # it is held from the moment on that others can see it
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before[0]
        if before[1] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[1]
        held.release()
        _remove(folder)


def _remove(folder: Path, patience: float = 3.0) -> None:
    """Remove a folder in which processes that are just ending may still write; the next start removes what stays."""
    until = time.monotonic() + patience
    while folder.exists() and time.monotonic() < until:
        try:
            take_away(folder)
        except OSError:
            time.sleep(0.05)


def remove_dead(base: Path) -> None:
    """Remove the folders of runs that do not live any more; one that cannot be removed stays."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(Held, OSError):
            if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
                continue
            held = HeldFolder(folder)
            held.release()
            if held.locked:
                take_away(folder)
