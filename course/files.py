"""Atomic file writes."""

import os
import time
from pathlib import Path

UNFINISHED = ".*.part"  # temporary names of `write_whole`; a killed process leaves its file behind
SECONDS_TO_REPLACE = 5.0  # for how long another program may have a file open on Windows


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write to a temporary file next to `path`, then move it into place; create the folder if it is missing.

    Raises:
        OSError: with `path` as its file name. An existing file at `path` is unchanged.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = str(path.parent / f".{path.name}.{os.urandom(8).hex()}.part")
        # not mkstemp, whose files only the owner may read: here, the umask decides who may
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)  # otherwise a power failure could leave an empty file
        _replace(temporary, path)
        return path
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _replace(temporary: str, path: Path) -> None:
    """`os.replace`. Windows refuses it while another program has the file open, such as a virus scanner: try again."""
    patience = time.monotonic() + SECONDS_TO_REPLACE
    while True:
        try:
            return os.replace(temporary, path)
        except PermissionError:
            if os.name != "nt" or time.monotonic() > patience:
                raise
            time.sleep(0.05)
