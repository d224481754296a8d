"""Unpack a learning platform's download: one archive with all students' files, such as Canvas's submissions.zip."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from staff.grading.archives.entry import Entry
from staff.grading.archives.finding import is_archive
from staff.grading.archives.planning import names_of
from staff.grading.archives.platforms import owner_of
from staff.grading.archives.reading import read_entries
from staff.grading.archives.submission import GRADESCOPE, Limits, Names, SubmissionError, show

EVERYBODYS = Limits(total=50_000_000_000, logs=50_000_000_000, entries=1_000_000, seconds=3600)


@contextmanager
def unpacked(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield the paths; if the only path is a platform's download, yield the folder that it was unpacked to instead.

    If there are several paths, each archive is treated as one student's, whatever it contains: a student may have put
    files with other people's names in it.

    Raises:
        ValueError: the download is damaged or too large.
    """
    if len(paths) != 1 or not is_archive(paths[0]) or owner_of(paths[0].name):
        yield paths
        return
    with TemporaryDirectory(prefix="bulk-") as folder, ExitStack() as opened:
        try:
            entries = list(_files(read_entries(paths[0], EVERYBODYS, Path(folder), opened)))
            if not _is_of_a_class([names for names, _ in entries]):
                yield paths
                return
            target = Path(folder, paths[0].name)  # named after the download
            for names, entry in entries:
                _write(target.joinpath(*names), entry)
        except SubmissionError as error:
            raise ValueError(f"{paths[0]}: {error}") from error
        yield [target]


def _files(entries: list[Entry]) -> Iterator[tuple[Names, Entry]]:
    for entry in entries:
        try:
            names = names_of(entry.name)
        except ValueError:
            continue
        if names and not entry.folder and not entry.refusal and "__MACOSX" not in names:
            yield names, entry


def _is_of_a_class(files: list[Names]) -> bool:
    """Return whether the files of an archive, at the top or in its only folder, have names from a learning platform."""
    for depth in (0, 1):
        names = {file[depth] for file in files if len(file) > depth and not file[depth].startswith(".")}
        if any(file[depth:] == (GRADESCOPE,) for file in files) or any(map(owner_of, names)):
            return True
        if len({file[0] for file in files}) != 1:
            return False
    return False


def _write(path: Path, entry: Entry) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            for piece in entry.pieces():
                file.write(piece)
    except FileExistsError as error:
        raise SubmissionError(f"{show(entry.name)} is in the archive twice.") from error
