"""The entries of a submission, whatever it is packed in."""

import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from staff.grading.archives.entry import PIECE, Entry, Meter, why_refused
from staff.grading.archives.planning import never_counts
from staff.grading.archives.submission import PARTS_DEPTH, Limits, Names, SubmissionError, show
from staff.grading.archives.tar_files import of_tar, unpacked
from staff.grading.archives.zip_files import of_zip


def read_entries(source: Path, limits: Limits, folder: Path, opened: ExitStack) -> tuple[list[Entry], Meter]:
    """The entries of a folder or archive, sorted by name, and the meter for reading them.

    Args:
        folder: where a packed tar file may be unpacked to, in a file without a name.
        opened: closes what stays open for the entries to be read.
    """
    deadline = time.monotonic() + limits.seconds
    most = limits.total + limits.logs
    if source.is_dir():
        root = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, root)
        meter = Meter(limits, None, most, deadline)
        entries = _of_folder(source, root, limits)
    else:
        file = opened.enter_context(open(source, "rb"))
        packed = Meter(limits, os.fstat(file.fileno()).st_size, most, deadline)
        kind = _kind(source, file)
        if kind == "zip":
            meter = packed
            entries = of_zip(file, meter)
        else:
            meter = Meter(limits, None, most, deadline)
            if kind != "tar":
                file = unpacked(file, kind, packed, opened.enter_context(tempfile.TemporaryFile(dir=folder)))
            entries = of_tar(file, meter)
    found = []
    for entry in entries:
        found.append(entry)
        if len(found) > limits.entries:
            raise SubmissionError(f"It has more than {limits.entries} files; hand in the code and the runs only.")
    return sorted(found, key=lambda entry: entry.name), meter


def _kind(source: Path, file: BinaryIO) -> str:
    """By the first bytes, as many a .tar.gz is none; else by the name."""
    start = file.read(tarfile.BLOCKSIZE)
    file.seek(0)
    if start[257:262] == b"ustar":
        return "tar"
    for magic, kind in ((b"PK", "zip"), (b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ", "xz")):
        if start.startswith(magic):
            return kind
    return "zip" if source.name.lower().endswith(".zip") else "tar"


def _of_folder(source: Path, root: int, limits: Limits) -> Iterator[Entry]:
    """The entries below a folder. No link is followed, what never counts is not looked into."""
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
    """What is in a file below an open folder: each name is opened in turn, none of them may be a link by now.

    Raises:
        SubmissionError: it is no file any more, or cannot be read.
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
