"""Atomic file writes."""

import os
import time
from pathlib import Path

UNFINISHED = ".*.part"  # temporary files of `write_whole`; a killed process leaves its file behind
SECONDS_TO_REPLACE = 5.0  # how long to wait on Windows while another program has the file open


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write to a temporary file next to `path`, then move it into place; create the folder if it is missing.

    Raises:
        OSError: the write failed; the error's file name is `path`, and an existing file there is unchanged.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = str(path.parent / f".{path.name}.{os.urandom(8).hex()}.part")
        # not mkstemp, whose files only the owner may read: the umask should determine the permissions
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
    """Call `os.replace`; on Windows, retry, because it fails while, say, a virus scanner has the file open."""
    patience = time.monotonic() + SECONDS_TO_REPLACE
    while True:
        try:
            return os.replace(temporary, path)
        except PermissionError:
            if os.name != "nt" or time.monotonic() > patience:
                raise
            time.sleep(0.05)
