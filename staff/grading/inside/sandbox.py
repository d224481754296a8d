"""Shut this process in, before it has seen anything of a submission.

The levels, from the strongest. Each also has limits on memory, time and files, no environment, no inherited file but
the one it answers on, and, where the kernel has seccomp, no new process, no socket and no signal to others.
- namespaces: a root folder with the interpreter and this submission only, no network, no other process to be seen;
- landlock: the machine's processes can be seen, but files, ports and signals outside are refused;
- user: the rights of a user that there is none of, another one for each process (the grader has to be root), so the
  grader's own files are safe, and what any user of this machine may read can be read;
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
NOBODYS = 1_900_000_000  # from here on, numbers of users that belong to nobody
DEEPEST = 30  # folders in folders
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class Limits:
    """Of one process of a submission: seconds of CPU time, bytes of memory beyond the interpreter's, of scratch."""

    cpu_seconds: int = 120
    memory: int = 2 << 30
    scratch: int = 64 << 20
    open_files: int = 256
    threads: int = 128

    def as_json(self) -> dict:
        return asdict(self)


def patience(seconds: float) -> float:
    """How long to wait for what may take so many seconds, on a machine that is busy with other things."""
    return 5 * seconds + 30


def interpreter() -> list[Path]:
    """The folders that Python and its packages are in."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))}
    found |= {path for path in sys.path if path and os.path.isdir(path)}
    paths = sorted(Path(path).resolve() for path in found)
    return [path for path in paths if not any(other != path and path.is_relative_to(other) for other in paths)]


def visible(submission: Path, kit: Path) -> list[Path]:
    """What a submission may read: the system's libraries, the interpreter, the staff's kit, itself."""
    return [path for path in map(Path, SYSTEM) if path.exists()] + interpreter() + [kit, submission]


def enter(level: str, submission: Path, kit: Path, scratch: Path, limits: Limits, keep: tuple[int, ...]) -> None:
    """Shut in this process, which has one thread. For "namespaces", `kernel.unshare` and a fork came before.

    Args:
        scratch: an empty folder, for the new root or for files that the submission writes.
        keep: the file descriptors that stay open.

    Raises:
        OSError: the kernel refuses something; whoever called must not go on.
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
    kernel.die_with_parent()  # again: it ends where the user changes
    if level != "none":
        kernel.seccomp()


def _close_files(keep: tuple[int, ...]) -> None:
    """All but these; standard input, output and error lead nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    first = 3
    for kept in sorted(keep):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, 1 << 16)


# --- the warden: it starts a shut-in process, watches it, and leaves nothing of it ----------------------------------


def warden(level: str, submission: Path, kit: Path, limits: Limits, answer: int, control: socket.socket, serve) -> None:
    """Run `serve(answer)` shut in, until it ends, takes too much memory, or `control` is closed at its other end.

    What became of it goes over `control` as JSON: {"ended": "exit 0", "signal 9", "memory" or "sandbox: why", "cpu":
    seconds of the processor that it took}. Asked "?", it says whether the process is {"idle": true}, waiting and not
    computing. Call it in a fork of its own, which it ends.
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
    """The shut-in process: never returns. What keeps it from being shut in goes to the pipe `trouble`.

    `kernel.die_with_parent` knows nothing of a warden that was killed before it was called, and in a namespace of its
    own this process sees no other. But nobody reads that pipe any more then.
    """
    try:
        kernel.die_with_parent()
        with suppress(OSError):  # where the machine's memory ends, this process is the first to go
            Path("/proc/self/oom_score_adj").write_text("1000")
        enter(level, submission, kit, scratch, limits, (answer, trouble))
        if _nobody_reads(trouble):
            os._exit(1)
    except BaseException as error:
        with suppress(BrokenPipeError):
            os.write(trouble, f"{type(error).__name__}: {error}"[:900].encode())
        os._exit(1)
    os.close(trouble)  # the warden reads an end of file: it holds
    try:
        serve(answer)
    finally:
        os._exit(0)


def _nobody_reads(pipe: int) -> bool:
    """Whether the other end of a pipe that this process writes to is closed everywhere."""
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
    """Bytes that are this process's own, shared by memory alone, or page tables; not the interpreter's files."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    sizes = ("RssAnon", "RssShmem", "VmSwap", "VmPTE")
    memory = sum(int(fields[name].split()[0]) << 10 for name in sizes if name in fields)
    return memory, int(fields.get("Threads", 0))


def _is_idle(pid: int) -> bool:
    """Whether all threads of a process sleep or are stopped: none computes, or waits for a processor or a disk."""
    try:
        states = [
            Path(thread.path, "stat").read_text().rpartition(")")[2].split()[0]
            for thread in os.scandir(f"/proc/{pid}/task")
        ]
    except OSError:
        return False
    return not any(state in "RD" for state in states)


def _disk(folder: Path, pid: int, most: int) -> int:
    """Bytes that a process takes in its folder, at least a block for each name; above `most` it is not looked on."""
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
    """On the disk; of an open file only if it has no name any more."""
    try:
        state = entry.stat(follow_symlinks=nameless)
    except OSError:
        return 0  # gone already
    if nameless:
        return 512 * state.st_blocks if stat.S_ISREG(state.st_mode) and not state.st_nlink else 0
    return max(512 * state.st_blocks, 4096)


def take_away(folder: Path) -> None:
    """Delete a folder that nobody uses any more. What lies deep in it is moved up, so that no path gets too long."""
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
    """Kill the process and all that came of it; of a process namespace, the kernel kills the rest."""
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
