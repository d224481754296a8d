"""Folders that only one process at a time may hold."""

import os
import socket
import warnings
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path

import filelock


class Held(Exception):
    """Another process holds the folder; the text names that process."""


class HeldFolder:
    """A folder that this process holds until it releases the folder or ends, for whatever reason.

    The lock is on the file .lock in the folder; .lock.owner names the owner. Child processes do not share it. Locks
    work across machines if the file system supports that, as NFS does; `locked` is False if the file system does not
    support locks at all.

    Raises:
        Held: another process holds the folder.
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
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", "utf-8")
        if hasattr(os, "register_at_fork"):  # otherwise, a worker that outlives this process would keep the lock
            os.register_at_fork(after_in_child=partial(_close_inherited, weakref.ref(self.lock)))

    def release(self) -> None:
        """Release the folder."""
        self.lock.release(force=True)

    def is_there(self) -> bool:
        """Return whether the folder still exists and has not been replaced by another folder of the same name."""
        try:
            return os.path.samestat(self.opened, os.stat(self.watched))
        except OSError:
            return False


def _acquire(lock: filelock.BaseFileLock) -> bool:
    """Acquire the lock without waiting; return False if the file system does not support locks.

    filelock's fallback, a file that exists while the lock is held, is not used: it would remain if a process were
    killed on another machine.

    Raises:
        filelock.Timeout: another process holds the lock.
        OSError: the file cannot be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock warns about its fallback
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
    """Close the lock's file in a forked process; this does not release the owner's lock."""
    handle = lock() and lock()._context.lock_file_fd
    with suppress(OSError):
        if handle is not None:
            os.close(handle)


def _read_owner(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")[:200].strip() or "another process"
    except OSError:
        return "another process"
