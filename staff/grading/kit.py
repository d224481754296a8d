"""The kit, i.e. the code that submissions need at run time, and the zygote: a process that imports it and forks.

This module does not import PyTorch, so that the zygote can start before its caller imports PyTorch.
"""

import json
import os
import shutil
import site
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from course.flags import REPOSITORY
from course.rubric import read as read_rubric

TO_IMPORT = 120  # seconds


class SandboxError(Exception):
    """The sandbox does not work on this machine, or the zygote does not start. The staff must fix this."""


def make_kit(folder: Path) -> Path:
    """Copy the code that submissions need at run time: inside/, course/ and the adapters. None of it is secret."""
    compiled = shutil.ignore_patterns("__pycache__")
    for source in ("staff/grading/inside", "course"):
        shutil.copytree(REPOSITORY / source, folder / source, ignore=compiled)
    shutil.copytree(REPOSITORY / "tests" / "adapters", folder / "adapters", ignore=compiled)
    for package in ("staff", "staff/grading"):
        shutil.copy(REPOSITORY / package / "__init__.py", folder / package / "__init__.py")
    return folder


def _refuse_installed_parts(packages: list[str]) -> None:
    """Refuse an installed solution: a submission could read it, and it would be imported in place of missing parts."""
    for part in read_rubric().with_code:
        for folder in packages:
            if Path(folder, part.folder).exists():
                raise SandboxError(
                    f"{folder}/{part.folder}: the solution is installed where submissions can read it; "
                    "uninstall it (pip uninstall), or install this repository with pip install -e"
                )


class Zygote:
    """The process that submissions' processes are forked from; see `inside.zygote`. It starts in the background.

    Raises:
        SandboxError: the solution is installed.
    """

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="kit-")
        self.kit = make_kit(Path(self.folder.name).resolve())
        self.kit.chmod(0o755)
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [sys.executable, "-I", "-S", "-B", self.kit / "staff" / "grading" / "inside" / "zygote.py"]
        packages = [path for path in site.getsitepackages() if os.path.isdir(path)]
        _refuse_installed_parts(packages)
        environment = {"PATH": os.defpath, "HOME": "/tmp", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
        environment["TMPDIR"] = tempfile.gettempdir()
        self.process = subprocess.Popen(
            [*program, self.kit, str(theirs.fileno()), *packages],
            pass_fds=[theirs.fileno()], env=environment, cwd=self.kit, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self.is_ready = False

    def close(self) -> None:
        self.requests.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def wait(self) -> None:
        """Wait until the zygote is ready.

        Raises:
            SandboxError: the zygote does not start.
        """
        self.requests.settimeout(TO_IMPORT)
        try:
            self.is_ready = self.requests.recv(100) == b"ready"
        except OSError:
            pass
        if not self.is_ready:
            raise SandboxError("the process that submissions are forked from did not start")

    def request(self, wanted: dict, handles: list[int]) -> None:
        """Request a fork for a `Child`, and pass on its file descriptors: answer and control.

        Raises:
            SandboxError: the zygote does not start, or has died.
        """
        if not self.is_ready:
            self.wait()
        try:
            socket.send_fds(self.requests, [json.dumps(wanted).encode()], handles)
        except OSError as error:
            raise SandboxError("the process that submissions are forked from has died") from error
