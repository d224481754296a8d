"""An entry of a submission: a file in a folder or an archive, read in chunks, within limits."""

import errno
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from staff.grading.archives.submission import Limits, SubmissionError, mb, show

PIECE = 1 << 16  # bytes per read


@dataclass(frozen=True)
class Entry:
    """A file or folder in a submission. `name`: relative path. `refusal`: why it can never count, e.g. "is a link"."""

    name: str
    folder: bool = False
    refusal: str = ""
    pieces: Callable[[], Iterator[bytes]] = field(default=lambda: iter(()), repr=False)


class Meter:
    """Count the unpacked bytes, and raise SubmissionError if there are too many.

    Args:
        packed: the size of the archive in bytes; None if it is not compressed.
        most: the maximum number of unpacked bytes.
    """

    def __init__(self, limits: Limits, packed: int | None, most: int, deadline: float):
        self.limits, self.packed, self.most, self.deadline = limits, packed, most, deadline
        self.unpacked = 0

    def count(self, size: int) -> None:
        self.unpacked += size
        if self.unpacked > self.most:
            raise SubmissionError(f"It unpacks to more than {mb(self.most)}; hand in only the code and the runs.")
        packed = None if self.packed is None else self.packed * self.limits.ratio
        if packed is not None and self.unpacked > max(packed, self.limits.small):
            raise SubmissionError(f"It unpacks to more than {self.limits.ratio:g} times the size of the archive.")
        self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise SubmissionError(f"Unpacking it takes longer than {self.limits.seconds:g} seconds.")


class Guard:
    """A file object for zipfile and tarfile that limits the size of each read, and checks the deadline."""

    def __init__(self, file: BinaryIO, longest: int, meter: Meter):
        self.file, self.longest, self.meter = file, longest, meter
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        self.meter.check_time()
        if size is None or not 0 <= size <= self.longest:
            content = self.file.read(self.longest + 1)
            if size is not None and size > self.longest or len(content) > self.longest:
                raise SubmissionError(f"A header or file list in the archive has more than {self.longest} bytes.")
            return content
        return self.file.read(size)


@contextmanager
def reading() -> Iterator[None]:
    """Report any exception raised while reading an archive as damage, unless it comes from the operating system.

    Raises:
        SubmissionError: in place of the many exceptions that zipfile and tarfile raise for invalid archives.
    """
    try:
        yield
    except SubmissionError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # gzip and bz2 raise OSError without an errno
            raise
        raise SubmissionError(_damaged(error)) from error
    except Exception as error:
        raise SubmissionError(_damaged(error)) from error


def _damaged(error: Exception) -> str:
    return f"The archive is damaged or incomplete ({show(str(error) or type(error).__name__)}); pack it again."


def why_refused(mode: int, links: int = 1) -> str:
    if stat.S_ISLNK(mode):
        return "is a link"
    if not stat.S_ISREG(mode):
        return "is neither a file nor a folder"
    return "is a hard link" if links > 1 else ""
