"""The grader's temporary folder: it holds all temporary files of a run and is removed at the end."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from course.locks import Held, HeldFolder
from staff.grading.inside.sandbox import take_away

PREFIX = "grading-"


@contextmanager
def workplace() -> Iterator[Path]:
    """Create a temporary folder and use it as TMPDIR for this process and its children inside the `with` block.

    Folders that killed runs left behind are removed first.

    Raises:
        OSError: the folder cannot be created.
    """
    base = Path(tempfile.gettempdir())
    remove_dead(base)
    new = Path(tempfile.mkdtemp(prefix=f"new-{PREFIX}", dir=base))
    os.chmod(new, 0o711)  # submissions that run as another user can open known paths in it but cannot list it
    held = HeldFolder(new)
    folder = new.rename(base / new.name.removeprefix("new-"))  # locked before it gets the name that other runs look for
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
    """Remove a folder, even if processes that are ending still write to it; the next run removes anything left over."""
    until = time.monotonic() + patience
    while folder.exists() and time.monotonic() < until:
        try:
            take_away(folder)
        except OSError:
            time.sleep(0.05)


def remove_dead(base: Path) -> None:
    """Remove the folders of runs that have ended; skip folders that cannot be removed."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(Held, OSError):
            if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
                continue
            held = HeldFolder(folder)
            held.release()
            if held.locked:
                take_away(folder)
