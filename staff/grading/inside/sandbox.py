"""Sandbox a process before it loads anything from a submission.

The levels, strongest first. Each also limits memory, time and files, clears the environment, and closes all inherited
files except the one for answers. All but `none` use seccomp to block new processes, sockets and outgoing signals.
- namespaces: a root folder with little more than the interpreter and this submission, no network, no other processes;
- landlock: other processes are visible, but access to files, ports and signals outside is denied;
- user: an unused user id, different for each process (the grader has to be root). This protects the grader's own
  files, but the submission can read everything that any user of this machine may read;
- none: limits only. Never chosen automatically.
"""

import json
import os
import resource
import select
import signal
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from staff.grading.inside import kernel

LEVELS = ("namespaces", "landlock", "user", "none")
NOBODYS = 1_900_000_000  # the first of a range of unused user ids
DEEPEST = 30  # maximum depth of nested folders
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class Limits:
    """Limits of a submission's process. memory: bytes beyond the interpreter's. scratch: bytes of files it writes."""

    cpu_seconds: int = 120
    memory: int = 2 << 30
    scratch: int = 64 << 20
    open_files: int = 256
    threads: int = 128

    def as_json(self) -> dict:
        return asdict(self)


def patience(seconds: float) -> float:
    """Return how long to wait on a busy machine for something that may take `seconds`."""
    return 5 * seconds + 30


def interpreter() -> list[Path]:
    """Return the folders that contain Python and its packages."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))}
    found |= {path for path in sys.path if path and os.path.isdir(path)}
    paths = sorted(Path(path).resolve() for path in found)
    return [path for path in paths if not any(other != path and path.is_relative_to(other) for other in paths)]


def visible(submission: Path, kit: Path) -> list[Path]:
    """Return the paths that a submission may read: system libraries, the interpreter, the kit, and the submission."""
    return [path for path in map(Path, SYSTEM) if path.exists()] + interpreter() + [kit, submission]


def enter(level: str, submission: Path, kit: Path, scratch: Path, limits: Limits, keep: tuple[int, ...]) -> None:
    """Sandbox this process, which must have one thread. For "namespaces", call `kernel.unshare` and fork first.

    Args:
        scratch: an empty folder, for the new root or for files that the submission writes.
        keep: the file descriptors that stay open.

    Raises:
        OSError: the kernel refuses something; the caller must not continue.
    """
    home = "/scratch" if level == "namespaces" else str(scratch)
    os.environ.clear()
    os.environ.update(HOME=home, TMPDIR=home, OMP_NUM_THREADS="1", PATH="/nowhere", LANG="C.UTF-8")
    tempfile.tempdir = home
    _close_files(keep)
    kernel.limit(limits.cpu_seconds, limits.scratch, limits.open_files, limits.memory)
    if level == "namespaces":
        paths = [*visible(submission, kit), *map(Path, DEVICES)]
        kernel.new_root(paths, scratch, limits.scratch)
        kernel.drop_capabilities()
    else:
        os.chdir(scratch)
    if level == "landlock":
        devices = [Path(device) for device in DEVICES]
        kernel.landlock([*visible(submission, kit), *devices], [scratch, Path("/dev/null")])
        kernel.drop_capabilities()
    if level == "user":
        user = os.stat(scratch).st_uid
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
    kernel.no_new_privileges()
    kernel.die_with_parent()  # again, because changing the user resets it
    if level != "none":
        kernel.seccomp()


def _close_files(keep: tuple[int, ...]) -> None:
    """Close all files except `keep`; redirect standard input, output and error to /dev/null."""
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    first = 3
    for kept in sorted(keep):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, 1 << 16)


# --- the warden: it starts a sandboxed process, monitors it, and cleans up after it ---------------------------------


def warden(level: str, submission: Path, kit: Path, limits: Limits, answer: int, control: socket.socket, serve) -> None:
    """Run `serve(answer)` in a sandbox until it ends, exceeds a limit, or the other end of `control` is closed.

    The outcome is sent over `control` as JSON: {"ended": "exit 0", "signal 9", "memory", "threads", "disk", "closed" or
    "sandbox: why", "cpu": seconds of CPU time used}. In reply to "?", the warden sends {"idle": true} if the process is
    waiting and not computing, else false. Call this in a separate fork: it never returns.
    """
    try:
        os.setsid()
        kernel.adopt_orphans()
        scratch = Path(tempfile.mkdtemp(prefix="submission-"))
        try:
            if level == "user":
                os.chown(scratch, NOBODYS + os.getpid(), NOBODYS + os.getpid())
            ended = _watch(level, submission, kit, scratch, limits, answer, control, serve)
        finally:
            take_away(scratch)
    except BaseException as error:
        ended = f"sandbox: {type(error).__name__}: {error}"
    with suppress(OSError):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        control.send(json.dumps({"ended": ended, "cpu": used.ru_utime + used.ru_stime}).encode())
    os._exit(0)


def _watch(level, submission, kit, scratch, limits, answer, control, serve) -> str:
    trouble_out, trouble_in = os.pipe()
    if level == "namespaces":
        try:
            kernel.unshare()
        except OSError as error:
            return f"sandbox: {error}"
    child = os.fork()
    if child == 0:
        _become(level, submission, kit, scratch, limits, answer, trouble_in, serve)
    os.close(trouble_in)
    os.close(answer)
    trouble = os.read(trouble_out, 1000).decode(errors="replace")
    if trouble:
        os.waitpid(child, 0)
        return f"sandbox: {trouble}"
    try:
        return _until_it_ends(child, limits, control, None if level == "namespaces" else scratch)
    finally:
        _end_all(child)


def _become(level, submission, kit, scratch, limits, answer, trouble, serve) -> None:
    """Become the sandboxed process; never return. Errors during sandbox setup are written to the pipe `trouble`.

    `kernel.die_with_parent` has no effect if the warden was killed before the call, and a process in a new namespace
    cannot see the warden. In that case the pipe has no reader, which is checked here.
    """
    try:
        kernel.die_with_parent()
        with suppress(OSError):  # if the machine runs out of memory, kill this process first
            Path("/proc/self/oom_score_adj").write_text("1000")
        enter(level, submission, kit, scratch, limits, (answer, trouble))
        if _nobody_reads(trouble):
            os._exit(1)
    except BaseException as error:
        with suppress(BrokenPipeError):
            os.write(trouble, f"{type(error).__name__}: {error}"[:900].encode())
        os._exit(1)
    os.close(trouble)  # the end of file tells the warden that the sandbox is set up
    try:
        serve(answer)
    finally:
        os._exit(0)


def _nobody_reads(pipe: int) -> bool:
    """Return whether every read end of a pipe that this process writes to is closed."""
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _until_it_ends(child: int, limits: Limits, control: socket.socket, on_disk: Path | None) -> str:
    control.settimeout(0.05)
    while True:
        if ended := _how(os.waitpid(child, os.WNOHANG)):
            return ended
        memory, threads = _memory_and_threads(child)
        if memory > limits.memory:
            return "memory"
        if threads > limits.threads:
            return "threads"
        if on_disk and _disk(on_disk, child, limits.scratch) > limits.scratch:
            return "disk"
        try:
            if control.recv(1) == b"?":
                control.send(json.dumps({"idle": _is_idle(child)}).encode())
                continue
        except TimeoutError:
            continue
        except OSError:
            pass
        return _how(os.waitpid(child, os.WNOHANG)) or "closed"


def _how(waited: tuple[int, int]) -> str | None:
    done, status = waited
    if not done:
        return None
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def _memory_and_threads(pid: int) -> tuple[int, int]:
    """Return a process's memory in bytes (private, shared, swap, page tables; no files) and its number of threads."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    sizes = ("RssAnon", "RssShmem", "VmSwap", "VmPTE")
    memory = sum(int(fields[name].split()[0]) << 10 for name in sizes if name in fields)
    return memory, int(fields.get("Threads", 0))


def _is_idle(pid: int) -> bool:
    """Return whether all threads of a process are asleep or stopped: none is running or waiting for a CPU or disk."""
    try:
        states = [
            Path(thread.path, "stat").read_text().rpartition(")")[2].split()[0]
            for thread in os.scandir(f"/proc/{pid}/task")
        ]
    except OSError:
        return False
    return not any(state in "RD" for state in states)


def _disk(folder: Path, pid: int, most: int) -> int:
    """Return how many bytes a process uses in its folder, at least one block per name; stop counting above `most`."""
    total, left = 0, [(folder, 0)]
    while left and total <= most:
        inside, depth = left.pop()
        with suppress(OSError), os.scandir(inside) as entries:
            for entry in entries:
                total += _bytes(entry)
                if entry.is_dir(follow_symlinks=False):
                    left.append((Path(entry.path), depth + 1))
                if total > most or depth > DEEPEST:
                    return most + 1
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as handles:
        total += sum(_bytes(handle, nameless=True) for handle in handles)
    return total


def _bytes(entry: os.DirEntry, nameless: bool = False) -> int:
    """Return the size of an entry on disk. With `nameless`, count only an open file that has been deleted."""
    try:
        state = entry.stat(follow_symlinks=nameless)
    except OSError:
        return 0  # gone already
    if nameless:
        return 512 * state.st_blocks if stat.S_ISREG(state.st_mode) and not state.st_nlink else 0
    return max(512 * state.st_blocks, 4096)


def take_away(folder: Path) -> None:
    """Delete a folder that is no longer in use. Nested entries are moved up first, so that no path gets too long."""
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in os.listdir(entry.path):
                path = os.path.join(entry.path, inner)
                if os.path.isdir(path) and not os.path.islink(path):
                    os.chmod(path, 0o700)
                os.rename(path, folder / os.urandom(16).hex())
            os.rmdir(entry.path)
    os.rmdir(folder)


def _end_all(child: int) -> None:
    """Kill the process and all of its descendants; in a process namespace, the kernel kills the descendants."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    while True:
        with suppress(OSError):
            for orphan in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                os.kill(int(orphan), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
