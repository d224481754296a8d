"""Files that are whole or not there, and folders that one process holds."""

import os
import socket
import tempfile
import warnings
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path

import filelock

UNFINISHED = ".*.part"  # what `write_whole` calls a file until it is whole; one stays behind where it is killed


def write_whole(path: str | Path, content: bytes) -> Path:
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
    """A folder that this process holds until it is released or the process ends, however it ends.

    The lock is on the file .lock in the folder; .lock.owner names the owner. Processes that the owner starts do not
    share the lock. It works across machines where the file system supports that, as NFS does; `locked` is False where
    the file system has no locks at all.

    Raises:
        Held: another process holds it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self.path, owner = Path(folder) / ".lock", Path(folder) / ".lock.owner"
        self.lock = filelock.FileLock(self.path, thread_local=False)
        try:
            self.locked = _acquire(self.lock)
        except filelock.Timeout as error:
            raise Held(_read_owner(owner)) from error
        self.watched = self.path if self.locked else self.path.parent
        self.opened = os.stat(self.watched)
        if not self.locked:
            return
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        if hasattr(os, "register_at_fork"):  # or a worker that outlives this process would keep the lock
            os.register_at_fork(after_in_child=partial(_close_inherited, weakref.ref(self.lock)))

    def release(self) -> None:
        """Let others have the folder."""
        self.lock.release(force=True)

    def is_there(self) -> bool:
        """Whether the folder is still where it was, and not another one of its name."""
        try:
            return os.path.samestat(self.opened, os.stat(self.watched))
        except OSError:
            return False


def _acquire(lock: filelock.BaseFileLock) -> bool:
    """Take the lock at once; False where the file system has no locks.

    filelock's own fallback, a file that exists while it is held, is not used: it would outlive a process that is killed
    on another machine.

    Raises:
        filelock.Timeout: another process has it.
        OSError: the file cannot be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the fallback
            lock.acquire(blocking=False)
    except OSError as error:
        if isinstance(error, filelock.Timeout) and not isinstance(lock, filelock.SoftFileLock):
            raise
        if error.filename:  # open() names the file, flock() does not
            raise
        return False
    if isinstance(lock, filelock.SoftFileLock):
        lock.release(force=True)
        return False
    return True


def _close_inherited(lock: "weakref.ref[filelock.BaseFileLock]") -> None:
    """In a process that was forked: close the lock's file, which does not release the owner's lock."""
    handle = lock() and lock()._context.lock_file_fd
    with suppress(OSError):
        if handle is not None:
            os.close(handle)


def _read_owner(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:200].strip() or "another process"
    except OSError:
        return "another process"
