"""List the entries of a submission, which is a folder or a supported archive."""

import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from staff.grading.archives.entry import PIECE, Entry, Meter, why_refused
from staff.grading.archives.planning import never_counts
from staff.grading.archives.submission import PARTS_DEPTH, Limits, Names, SubmissionError, show
from staff.grading.archives.tar_files import of_tar, unpacked
from staff.grading.archives.zip_files import of_zip


def read_entries(
    source: Path, limits: Limits, folder: Path, opened: ExitStack, deadline: float | None = None
) -> list[Entry]:
    """Return the entries of a folder or archive, sorted by name; their bytes are counted as they are read.

    Args:
        folder: where to unpack a compressed tar file, in an unnamed temporary file.
        opened: closes the files that must stay open while the entries are read.
        deadline: in terms of `time.monotonic`.
    """
    deadline = deadline or time.monotonic() + limits.seconds
    if not source.is_dir():
        return read_archive(source.name, opened.enter_context(open(source, "rb")), limits, folder, opened, deadline)
    root = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    opened.callback(os.close, root)
    return _counted(_of_folder(source, root, limits), Meter(limits, None, limits.total + limits.logs, deadline), limits)


def read_archive(
    name: str, file: BinaryIO, limits: Limits, folder: Path, opened: ExitStack, deadline: float
) -> list[Entry]:
    """Return the entries of an open archive, as `read_entries` does."""
    size = os.fstat(file.fileno()).st_size
    packed = Meter(limits, size, limits.total + limits.logs, deadline)
    kind = _kind(name, file)
    if kind == "zip":
        return _counted(of_zip(file, packed), packed, limits)
    if kind != "tar":
        file = unpacked(file, kind, packed, opened.enter_context(tempfile.TemporaryFile(dir=folder)))
    meter = Meter(limits, None, limits.total + limits.logs, deadline)
    return _counted(of_tar(file, meter), meter, limits)


def spooled(entry: Entry, folder: Path, opened: ExitStack) -> BinaryIO:
    """Copy an archive inside a submission to an unnamed temporary file, and return the file."""
    file = opened.enter_context(tempfile.TemporaryFile(dir=folder))
    for piece in entry.pieces():
        file.write(piece)
    file.seek(0)
    return file


def _counted(entries: Iterator[Entry], meter: Meter, limits: Limits) -> list[Entry]:
    found = []
    for entry in entries:
        found.append(replace(entry, pieces=lambda pieces=entry.pieces: _counting(pieces, meter)))
        if len(found) > limits.entries:
            raise SubmissionError(f"It has more than {limits.entries} files; hand in only the code and the runs.")
    return sorted(found, key=lambda entry: entry.name)


def _counting(pieces: Callable[[], Iterator[bytes]], meter: Meter) -> Iterator[bytes]:
    for piece in pieces():
        meter.count(len(piece))
        yield piece


def _kind(name: str, file: BinaryIO) -> str:
    """Detect the kind of an archive from its first bytes, or else from its name: many .tar.gz files are not gzipped."""
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if start[257:262] == b"ustar":
        return "tar"
    for magic, kind in ((b"PK", "zip"), (b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ", "xz")):
        if start.startswith(magic):
            return kind
    return "zip" if name.lower().endswith(".zip") else "tar"


def _of_folder(source: Path, root: int, limits: Limits) -> Iterator[Entry]:
    """Yield the entries below a folder, without following links or entering folders that never count."""
    folders: list[Names] = [()]
    while folders:
        names = folders.pop()
        try:
            children = [
                (child.name, child.stat(follow_symlinks=False)) for child in os.scandir(source.joinpath(*names))
            ]
        except OSError as error:
            yield Entry("/".join(names), refusal=f"cannot be read: {error.strerror}")
            continue
        for child, state in children:
            path = (*names, child)
            name = "/".join(path)
            if stat.S_ISDIR(state.st_mode):
                yield Entry(name, folder=True)
                if not never_counts(path) and len(path) <= PARTS_DEPTH + limits.depth + 1:
                    folders.append(path)
            elif refusal := why_refused(state.st_mode, state.st_nlink):
                yield Entry(name, refusal=refusal)
            else:
                yield Entry(name, pieces=lambda path=path: _pieces_below(root, path))


def _pieces_below(root: int, names: Names) -> Iterator[bytes]:
    """Yield the content of a file below an open folder; open each folder in turn, in case one has become a link.

    Raises:
        SubmissionError: the path is no longer a regular file, or cannot be read.
    """
    with ExitStack() as opened:
        try:
            for name in names[:-1]:
                root = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
                opened.callback(os.close, root)
            handle = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
            file = opened.enter_context(open(handle, "rb"))
            state = os.fstat(handle)
            if refusal := why_refused(state.st_mode, state.st_nlink):
                raise SubmissionError(f"{show('/'.join(names))} {refusal}.")
            yield from iter(lambda: file.read(PIECE), b"")
        except OSError as error:
            raise SubmissionError(f"{show('/'.join(names))} cannot be read: {error.strerror}.") from error
