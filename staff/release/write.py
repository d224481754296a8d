"""Write a release to its folder, where it may replace an earlier one."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from course.files import write_whole
from staff.release.build import MANIFEST, Course, Files, ReleaseError, sha256
from staff.release.leaks import find_leaks


def write(files: Files, out: Path, course: Course) -> None:
    """Write the release. Replace an earlier release in this folder, and leave its other files unchanged.

    Raises:
        ReleaseError: the folder has files but no release, a file from the earlier release has changed, or a line of
            the solution is in its other files or in the folder's git history.
        OSError: a file cannot be written.
    """
    refuse_unless_free(out)
    earlier = _earlier(out)
    others = {file: (out / file).read_bytes() for file in _present(out) if file not in earlier and file not in files}
    if found := find_leaks(others, course) + find_leaks(dict(_history(out)), course):
        raise ReleaseError("\n".join(found))
    for file in earlier.keys() - files.keys():
        (out / file).unlink(missing_ok=True)
    manifest = files[MANIFEST]
    for file, content in files.items():
        if file != MANIFEST:
            write_whole(out / file, content)
    write_whole(out / MANIFEST, manifest)  # last: its presence marks a complete release


def refuse_unless_free(out: Path) -> None:
    """Refuse a folder that `write` would refuse. Call this before the checks, which take minutes.

    Raises:
        ReleaseError: see `write`.
    """
    for file, released in _earlier(out).items():
        if (out / file).exists() and sha256((out / file).read_bytes()) != released:
            raise ReleaseError(f"{out / file}: has changed since the earlier release; move it away, then release again")


def _earlier(out: Path) -> dict[str, str]:
    """Return the files of the release in this folder and their SHA-256; none if the folder is empty or missing."""
    if not out.exists() or not any(out.iterdir()):
        return {}
    try:
        return json.loads((out / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{out}: is not empty and not an earlier release ({MANIFEST} missing or damaged)") from error


def _present(out: Path) -> Iterator[str]:
    for path in sorted(out.rglob("*")):
        file = path.relative_to(out).as_posix()
        if path.is_file() and not file.startswith(".git/"):
            yield file


def _history(out: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file in the folder's git history, on all branches: "git history, path" and its bytes."""
    if not (out / ".git").exists():
        return
    for line in _git(out, "rev-list", "--all", "--objects").decode().splitlines():
        name, _, path = line.partition(" ")
        if _git(out, "cat-file", "-t", name).strip() == b"blob" and not path.endswith(".png"):
            yield f"git history, {path}", _git(out, "cat-file", "blob", name)


def _git(folder: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, check=True).stdout
