"""The students' repository, for the tests of the release."""

from pathlib import Path

from staff.release import build as release


def write_template(folder: Path, course: release.Course, filled: list[str] | None = None) -> None:
    for file, content in release.contents(course, "2026", filled or []).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
