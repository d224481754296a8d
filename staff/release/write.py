"""Put a release in its place, with nothing in that place lost."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from course.files import write_whole
from staff.release.build import MANIFEST, Course, Files, ReleaseError, sha256_of
from staff.release.leaks import leaks


def write(files: Files, out: Path, course: Course) -> None:
    """Write the release; in a folder with an earlier one, replace that and leave alone what is not of it.

    Raises:
        ReleaseError: the folder has something else in it, a file of the earlier release was changed since, or the
            solution can be found in what is there, in git's history too.
        OSError: it cannot be written.
    """
    refuse_unless_free(out)
    earlier = _earlier(out)
    others = {file: (out / file).read_bytes() for file in _present(out) if file not in earlier and file not in files}
    if found := leaks(others, course) + leaks(dict(_history(out)), course):
        raise ReleaseError("\n".join(found))
    for file in earlier.keys() - files.keys():
        (out / file).unlink(missing_ok=True)
    manifest = files[MANIFEST]
    for file, content in files.items():
        if file != MANIFEST:
            write_whole(out / file, content)
    write_whole(out / MANIFEST, manifest)  # last: a folder with it is a release


def refuse_unless_free(out: Path) -> None:
    """Say so at once if `write` would not write there, before the checks take minutes.

    Raises:
        ReleaseError: see `write`.
    """
    for file, sha256 in _earlier(out).items():
        if (out / file).exists() and sha256_of((out / file).read_bytes()) != sha256:
            raise ReleaseError(f"{out / file}: was changed since the earlier release; move it away, then release again")


def _earlier(out: Path) -> dict[str, str]:
    """The files of the release that is there, and their sums; none if the folder is empty or missing."""
    if not out.exists() or not any(out.iterdir()):
        return {}
    try:
        return json.loads((out / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{out}: is not empty, and no earlier release ({MANIFEST} is missing or damaged)") from error


def _present(out: Path) -> Iterator[str]:
    for path in sorted(out.rglob("*")):
        file = path.relative_to(out).as_posix()
        if path.is_file() and not file.startswith(".git/"):
            yield file


def _history(out: Path) -> Iterator[tuple[str, bytes]]:
    """Each text that git keeps in the folder, of all branches: "git object" -> bytes."""
    if not (out / ".git").exists():
        return
    git = ["git", "-C", str(out)]
    listed = subprocess.run([*git, "rev-list", "--all", "--objects"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        name, _, path = line.partition(" ")
        kind = subprocess.run([*git, "cat-file", "-t", name], capture_output=True, text=True, check=True).stdout.strip()
        if kind == "blob" and not path.endswith(".png"):
            yield (
                f"git history, {path}",
                subprocess.run([*git, "cat-file", "blob", name], capture_output=True, check=True).stdout,
            )
