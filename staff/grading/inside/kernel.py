"""The Linux system calls that isolate a process: namespaces, Landlock, seccomp, limits.

No portable library for these calls can be installed without a compiler or a system package. Each function does one
thing and raises OSError if the kernel refuses.
"""

import ctypes
import errno
import gc
import os
import platform
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = (
    1, 4, 22, 24, 38, 36,
)  # fmt: skip
LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same numbers on all machines
MOUNT_SETATTR = 442
LARGE_PAGE, COLLAPSE = 1 << 21, 25  # the size of a huge page in bytes; madvise's advice value
MOST_NAMES = 10_000  # maximum files and folders in the scratch folder: each uses kernel memory


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _prctl(option: int, value: int = 0, pointer=None) -> None:
    _check(LIBC.prctl(option, ctypes.c_ulong(value), pointer, 0, 0), f"prctl {option}")


# --- namespaces -----------------------------------------------------------------------------------------------------


def unshare() -> None:
    """Enter new user, network, IPC and UTS (host name) namespaces; children also enter a new process namespace."""
    uid, gid = os.geteuid(), os.getegid()
    _check(LIBC.unshare(NEWUSER | NEWPID | NEWNET | NEWIPC | NEWUTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def new_root(visible: list[Path], place: Path, scratch_bytes: int) -> None:
    """Switch to a new root with only the `visible` paths, read-only, and a writable /scratch of `scratch_bytes`.

    Args:
        place: an empty folder on which the new root is mounted; the mount is invisible to other processes.
    """
    _check(LIBC.unshare(NEWNS), "unshare mounts")
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in visible:
        _show(path, place)
    (place / "scratch").mkdir()
    options = f"size={scratch_bytes},nr_inodes={MOST_NAMES},mode=700"
    _mount("tmpfs", place / "scratch", "tmpfs", MS_NOSUID | MS_NODEV, options)
    (place / "old").mkdir()
    _mount("none", place, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    number = {"x86_64": 155, "aarch64": 41}[platform.machine()]
    _check(LIBC.syscall(number, os.fsencode(place), os.fsencode(place / "old")), "pivot_root")
    os.chdir("/")
    _check(LIBC.umount2(b"/old", MNT_DETACH), "umount")
    os.chdir("/scratch")


def _show(path: Path, root: Path) -> None:
    """Bind-mount a file or folder below the new root, read-only; if it is a symbolic link, recreate the link."""
    target = root / path.relative_to("/")
    if path.is_symlink():  # /lib -> usr/lib, python3 -> python3.11
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink() and not target.exists():
            target.symlink_to(os.readlink(path))
        return
    if target.exists():
        return
    if path.is_dir():
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(path, target, None, MS_BIND | MS_REC)
    if not str(path).startswith("/dev/"):
        attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID, 0, 0, 0)  # MOUNT_ATTR_RDONLY, _NOSUID
        arguments = (ctypes.c_int(-100), os.fsencode(target), ctypes.c_uint(0x8000), attributes, ctypes.c_size_t(32))
        _check(LIBC.syscall(MOUNT_SETATTR, *arguments), f"mount_setattr {path}")  # recursively


def _mount(source, target, kind: str | None, flags: int, options: str = "") -> None:
    names = [os.fsencode(source), os.fsencode(target), kind.encode() if kind else None]
    _check(LIBC.mount(*names, ctypes.c_ulong(flags), options.encode() or None), f"mount {target}")


def drop_capabilities() -> None:
    """Drop all capabilities, including those within the namespaces."""
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break
    header = struct.pack("Ii", 0x20080522, 0)
    _check(LIBC.capset(header, struct.pack("6I", *[0] * 6)), "capset")


# --- Landlock -------------------------------------------------------------------------------------------------------

FILES = {"execute": 1, "write": 2, "read": 4, "list": 8}
ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by Landlock version


def landlock_version() -> int:
    """Return the kernel's Landlock version; 0: not supported."""
    version = LIBC.syscall(LANDLOCK[0], None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(version, 0)


def landlock(readable: list[Path], writable: list[Path]) -> None:
    """Allow access only to these paths; where supported, also block TCP, abstract sockets and outgoing signals."""
    version = landlock_version()
    if version < 3:
        raise OSError(errno.EOPNOTSUPP, "the kernel has no Landlock, or a version that cannot prevent truncating files")
    every = max(rights for since, rights in ALL_FILES.items() if since <= version)
    attributes = struct.pack("QQQ", every, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _check(LIBC.syscall(LANDLOCK[0], attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)), "landlock")
    try:
        for paths, folder_rights in (readable, 1 | 4 | 8), (writable, every & ~1):
            for path in paths:
                if not path.exists():
                    continue
                rights = folder_rights if path.is_dir() else folder_rights & (1 | 2 | 4 | 1 << 14) & every
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
                rule = struct.pack("=Qi", rights, handle)
                _check(LIBC.syscall(LANDLOCK[1], rules, 1, rule, ctypes.c_uint32(0)), f"landlock {path}")
                os.close(handle)
        no_new_privileges()
        _check(LIBC.syscall(LANDLOCK[2], rules, ctypes.c_uint32(0)), "landlock_restrict_self")
    finally:
        os.close(rules)


# --- seccomp --------------------------------------------------------------------------------------------------------

# system calls that a submission does not need: (x86_64, aarch64); -1: the call does not exist
REFUSED = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "mount_setattr": (442, 442),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "sethostname": (170, 161), "quotactl": (179, 60), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "inotify_init": (253, -1), "inotify_init1": (294, 26), "fanotify_init": (300, 262), "memfd_create": (319, 279),
    "mq_open": (240, 180), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "prlimit64": (302, 261), "setpriority": (141, 140), "sched_setaffinity": (203, 122), "setsid": (112, 157),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "ioprio_set": (251, 30), "shmctl": (31, 195), "semctl": (66, 191), "semop": (65, 193), "semtimedop": (220, 192),
    "msgctl": (71, 187), "msgsnd": (69, 189), "msgrcv": (70, 188), "mq_unlink": (241, 181), "mknod": (133, -1),
    "mknodat": (259, 33), "truncate": (76, 45), "syslog": (103, 116),
}  # fmt: skip
# these pretend to succeed but do nothing, because Landlock does not protect the grader's files from them
PRETENDED = {
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, -1),
    "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "utime": (132, -1), "utimes": (235, -1),
    "futimesat": (261, -1), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
CLONE, CLONE3, TGKILL, IOCTL, FCNTL, PRCTL = (56, 220), (435, 435), (234, 131), (16, 29), (72, 25), (157, 167)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, ANY_BIT, GREATER_OR_EQUAL, RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
SET_OWN, SET_SIGNAL, SET_OWN_EX, SET_LEASE = 8, 10, 15, 1024  # fcntl commands that direct signals


def seccomp() -> None:
    """Block all system calls that start a process, create a socket or affect another process.

    Threads can still be started. The filter cannot be removed, and applies to all threads that are started later.
    """
    column, architecture = ARCHITECTURES[platform.machine()]
    program = [
        (LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0), (GREATER_OR_EQUAL, 0, 1, 0x40000000), (RETURN, 0, 0, KILL),  # the x32 ABI
        (EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, REFUSE | errno.ENOSYS),  # its flags cannot be inspected
        (EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, 16), (ANY_BIT, 0, 1, 0x10000), (RETURN, 0, 0, ALLOW),  # a thread
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        *_by_argument(TGKILL[column], 0, [os.getpid()], ALLOW, REFUSE | errno.EPERM),
        *_by_argument(IOCTL[column], 1, IOCTLS, ALLOW, REFUSE | errno.ENOTTY),
        *_by_argument(FCNTL[column], 1, [SET_OWN, SET_SIGNAL, SET_OWN_EX, SET_LEASE], REFUSE | errno.EPERM, ALLOW),
        *_by_argument(PRCTL[column], 0, [PR_SET_PDEATHSIG, PR_SET_DUMPABLE], REFUSE | errno.EPERM, ALLOW),
    ]  # fmt: skip
    for calls, verdict in ((REFUSED, REFUSE | errno.EPERM), (PRETENDED, REFUSE)):
        for numbers in calls.values():
            if numbers[column] >= 0:
                program += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, verdict)]
    program.append((RETURN, 0, 0, ALLOW))
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    no_new_privileges()
    _check(LIBC.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), header, 0, 0), "seccomp")


def _by_argument(call: int, place: int, values: Iterable[int], verdict: int, otherwise: int) -> list[tuple]:
    """Return the filter steps for a call: `verdict` if argument number `place` is in `values`, else `otherwise`."""
    steps = [(LOAD, 0, 0, 16 + 8 * place)]
    for value in values:
        steps += [(EQUAL, 0, 1, value), (RETURN, 0, 0, verdict)]
    steps.append((RETURN, 0, 0, otherwise))
    return [(EQUAL, 0, len(steps), call), *steps]


# --- limits ---------------------------------------------------------------------------------------------------------


def no_new_privileges() -> None:
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, 9)


def adopt_orphans() -> None:
    """Make descendants whose parent has died children of this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def limit(cpu_seconds: int, file_bytes: int, open_files: int, data_bytes: int) -> None:
    """Limit this process's CPU time, file sizes, open files, and memory beyond its current use."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    data_bytes += pages * resource.getpagesize()
    limits = {
        resource.RLIMIT_CPU: cpu_seconds, resource.RLIMIT_FSIZE: file_bytes, resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_DATA: data_bytes, resource.RLIMIT_CORE: 0, resource.RLIMIT_MEMLOCK: 0,
    }  # fmt: skip
    for which, most in limits.items():
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        most_of_all = most
        if which == resource.RLIMIT_CPU and (hard == resource.RLIM_INFINITY or hard > most):
            most_of_all = most + 1  # SIGXCPU first, then SIGKILL, which cannot be ignored
        resource.setrlimit(which, (most, most_of_all))


# --- forks ----------------------------------------------------------------------------------------------------------


def prepare_to_fork() -> None:
    """Make forks of this process cheap: a fork copies the page table, and every page that it writes to.

    Existing Python objects are excluded from garbage collection, which would write to all of them. Memory is moved to
    huge pages if the kernel supports this (Linux 6.1 and newer), so that the page table is short.
    """
    gc.collect()
    gc.freeze()
    gc.enable()  # the caller may have disabled it during the imports
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, inode, *_ = line.split()
        if rights != "rw-p" or inode != "0":
            continue  # not private writable memory, or mapped from a file
        first, last = (int(address, 16) for address in addresses.split("-"))
        for start in range(-(-first // LARGE_PAGE) * LARGE_PAGE, last - LARGE_PAGE + 1, LARGE_PAGE):
            LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(LARGE_PAGE), COLLAPSE)  # failures do not matter
