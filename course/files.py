"""Files that are whole or not there, and folders that one process holds."""

import errno
import fcntl
import os
import socket
import tempfile
from pathlib import Path

UNFINISHED = ".*.part"  # what `write_whole` calls a file until it is whole; one stays behind where it is killed


def write_whole(path: str | Path, content: bytes | memoryview) -> Path:
    """Write under a temporary name beside `path`, then move into place; make the folder where it is missing.

    Raises:
        OSError: with `path` as its file name. What was at `path` before is still there.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)  # or a power failure could leave the new name with no content
        os.chmod(temporary, 0o644)  # mkstemp's are for the owner alone
        os.replace(temporary, path)
        return path
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


class Held(Exception):
    """Another process holds the folder; the text says which."""


class HeldFolder:
    """A folder that this process holds until it ends, however it ends; another one that asks for it is refused.

    The lock is on the file .lock in the folder, which says whose it is. Processes that this one starts do not have it.
    It reaches across machines where the file system has locks (NFS has); `locked` says whether there are any.

    Raises:
        Held: another process holds it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self.path = Path(folder) / ".lock"
        self.file = open(self.path, "a+b", buffering=0)
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.locked = True
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                self.file.seek(0)
                raise Held(self.file.read(200).decode(errors="replace").strip() or "another process") from error
            self.locked = False
            return
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def is_there(self) -> bool:
        """Whether the folder is still where it was, and not another one of its name."""
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), os.stat(self.path))
        except OSError:
            return False
