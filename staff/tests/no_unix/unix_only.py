"""Modules and calls that Windows lacks, and a search for uses of them in the students' files."""

import ast
from collections.abc import Iterator

MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "spwd",
    "syslog", "termios", "tty",
}  # fmt: skip
CALLS = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG", "chown", "chroot",
        "confstr", "copy_file_range", "ctermid", "eventfd", "fchdir", "fchmod", "fchown", "fdatasync", "fork",
        "forkpty", "fpathconf", "fstatvfs", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid",
        "getpgrp", "getpriority", "getresgid", "getresuid", "getsid", "getuid", "getxattr", "initgroups", "killpg",
        "lchown", "listxattr", "lockf", "major", "makedev", "memfd_create", "minor", "mkfifo", "mknod", "nice",
        "openpty", "pathconf", "pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate", "posix_spawn",
        "posix_spawnp", "pread", "preadv", "pwrite", "pwritev", "readv", "register_at_fork", "removexattr",
        "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_setaffinity", "sched_setscheduler",
        "sched_yield", "sendfile", "setegid", "seteuid", "setgid", "setgroups", "setpgid", "setpriority", "setsid",
        "setuid", "setxattr", "splice", "statvfs", "sync", "sysconf", "tcgetpgrp", "tcsetpgrp", "ttyname", "uname",
        "unshare", "wait", "wait3", "wait4", "waitid", "writev",
    },
    "signal": {
        "ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT",
        "SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "alarm", "getitimer", "pause", "pthread_kill",
        "pthread_sigmask", "set_wakeup_fd", "setitimer", "siginterrupt", "sigpending", "sigtimedwait", "sigwait",
    },
    "time": {"clock_settime", "pthread_getcpuclockid", "tzset"},
    "select": {"epoll", "kqueue", "poll"},
    "socket": {"AF_UNIX", "sethostname", "socketpair_unix"},
}  # fmt: skip


def uses(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and name of each Unix-only module or call that is not guarded by a condition on the platform."""

    def visit(node: ast.AST, guarded: bool) -> Iterator[tuple[int, str]]:
        if not guarded:
            yield from ((node.lineno, name) for name in _names(node))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, guarded or isinstance(node, ast.If) and child is not node.test and _asks(node.test))

    return visit(ast.parse(source), False)


def _asks(test: ast.AST) -> bool:
    """Return whether a condition tests the platform or its features."""
    text = ast.unparse(test)
    return any(question in text for question in ("sys.platform", "os.name", "hasattr(os", "hasattr(signal"))


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases if alias.name.partition(".")[0] in MODULES]
        case ast.ImportFrom(module=str(module), names=aliases):
            if module.partition(".")[0] in MODULES:
                return [module]
            return [f"{module}.{alias.name}" for alias in aliases if alias.name in CALLS.get(module, ())]
        case ast.Attribute(value=ast.Name(id=module), attr=name) if name in CALLS.get(module, ()):
            return [f"{module}.{name}"]
    return []
