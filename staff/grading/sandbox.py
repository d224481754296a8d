"""The grader's interface to the sandbox: choose a level, start a submission's process, call it, end it.

`choose` finds out which level works on this machine. `Child` is a sandboxed process that runs a submission. The sandbox
itself, and the code that runs next to the submission, are in inside/. The rest of the grader uses only the limits, the
messages and the functions for cheap forks from that package.
"""

import json
import math
import os
import select
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from course.flags import REPOSITORY
from course.rubric import read as read_rubric
from staff.grading.inside import wire
from staff.grading.inside.sandbox import LEVELS, Limits, patience
from staff.grading.kit import SandboxError, Zygote

TO_END = 20  # seconds
STEP = 0.5  # seconds between two checks of a process that has not answered
MOST_LINES = 10_000_000  # largest line number to accept: a submission's process may send any number


class Raised(Exception):
    """An exception raised by a submission: the name of its class, its text, and its traceback in the submission."""

    def __init__(self, kind: str, text: str, places: list[str]):
        super().__init__(text)
        self.kind, self.places = kind, places


class Unfinished(Exception):
    """A submission's process gave no usable answer; the text tells the student why."""

    kind, places = "Unfinished", ()


class Undecided(Exception):
    """No answer came, possibly because the machine is too busy. The submission has to be judged again."""

    kind, places = "Undecided", ()


@dataclass
class Allowance:
    """The total time that a submission's processes may use: seconds of CPU time, and seconds of waiting.

    until: the deadline on the clock time.monotonic(), which applies even on a busy machine.
    """

    cpu: float
    idle: float
    until: float

    @classmethod
    def of(cls, seconds: float, until: float = math.inf) -> "Allowance":
        return cls(seconds, seconds, min(until, time.monotonic() + patience(seconds)))

    @property
    def cpu_seconds(self) -> int:
        """The CPU time limit of the next process, in whole seconds."""
        return max(1, math.ceil(self.cpu))


class Child:
    """A sandboxed process that runs a submission."""

    def __init__(self, zygote: Zygote, level: str, submission: Path, limits: Limits, serve: str = "calls", **more):
        self.limits = limits
        self.out_of_time = False  # whether it used up its CPU time
        self.said: dict | None = None  # the warden's final message, if it has arrived
        self.cpu = 0.0  # seconds of CPU time used; known once it is closed
        self.seen: set[tuple[str, int, str]] = set()  # uses of forbidden names: file, line, name
        self.answer, answer = socket.socketpair()
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wanted = {"serve": serve, "level": level, "submission": str(submission), "limits": limits.as_json(), **more}
        zygote.request(wanted, [answer.fileno(), control.fileno()])
        answer.close()
        control.close()

    def call(self, name: str, args: tuple, kwargs: dict, seed: int, until: float, allowance: Allowance | None = None):
        """Call an adapter and return its value.

        Args:
            until: the deadline; with an allowance, how long to wait on a busy machine.
            allowance: the time that the process may use.

        Raises:
            Raised: the submission raised an exception. Unfinished: its process has ended, was killed, or sent an
                unreadable answer; it cannot be called again. Undecided: no answer came, and the machine is busy.
        """
        request = {"call": name, "args": list(args), "kwargs": kwargs, "seed": seed}
        try:
            wire.write(self.answer.fileno(), wire.encode(request), until)
            if allowance:
                self._wait(until, allowance)
            return self._value(wire.read(self.answer.fileno(), until))
        except wire.Late:
            self.close()
            if allowance:
                raise Undecided("not judged: no answer came in time, and the machine is busy") from None
            raise Unfinished("the code did not finish within the time limit: an infinite loop?") from None
        except wire.Closed:
            raise Unfinished(self._why(self.close())) from None
        except wire.WireError as error:
            self.close()
            raise Unfinished(f"the return value of the code cannot be used: {error}") from None

    def _wait(self, until: float, allowance: Allowance) -> None:
        """Wait for an answer.

        Raises:
            Late: no answer came before `until`. Unfinished: the process was idle for longer than its allowance.
        """
        poll = select.poll()
        poll.register(self.answer.fileno(), select.POLLIN)
        while not poll.poll(STEP * 1000):
            if time.monotonic() > until:
                raise wire.Late
            allowance.idle -= STEP * self._is_idle()
            if allowance.idle <= 0:
                self.close()
                raise Unfinished("the code was idle for longer than allowed: does it sleep or wait?")

    def _is_idle(self) -> bool:
        try:
            self.control.settimeout(TO_END)
            self.control.send(b"?")
            said = json.loads(self.control.recv(4096))
            self.said = said if "ended" in said else None  # it has ended since the request
            return bool(said.get("idle"))
        except (OSError, ValueError):
            return False

    def read(self, until: float):
        """Return the next message from a process that sends messages unprompted."""
        return wire.read(self.answer.fileno(), until)

    def _value(self, reply):
        kinds = ({"value", "seen"}, {"error", "text", "places", "seen"})
        if not isinstance(reply, dict) or set(reply) not in kinds:
            raise wire.WireError("the answer is malformed")
        self._note(reply["seen"])
        if "value" in reply:
            return reply["value"]
        kind, text, places = str(reply["error"]), str(reply["text"]), reply["places"]
        if not isinstance(places, list) or not all(isinstance(place, str) for place in places):
            raise wire.WireError("the answer is malformed")
        raise Raised(kind[:100], text[:2000], [place[:300] for place in places[:5]])

    def _note(self, seen) -> None:
        """Record the uses of forbidden names that the submission's process reports."""
        for row in seen if isinstance(seen, list) else ():
            if isinstance(row, list) and list(map(type, row)) == [str, int, str] and len(self.seen) < 100:
                if 0 < row[1] <= MOST_LINES:
                    self.seen.add((row[0][:200], row[1], row[2][:200]))

    def _why(self, ended: str) -> str:
        if ended == "memory":
            return f"the code exceeds the memory limit of {self.limits.memory / 2**30:.0f} GB"
        if ended == "threads":
            return f"the code exceeds the limit of {self.limits.threads} threads"
        if ended == "disk":
            return f"the code exceeds the disk limit of {self.limits.scratch >> 20} MB"
        if ended == "unknown":
            raise SandboxError("the process that watches a submission has died")
        killed = ended in ("signal 9", "closed") and self.cpu > self.limits.cpu_seconds / 2  # SIGXCPU was ignored
        if ended == "signal 24" or killed:
            self.out_of_time = True
            return f"the code uses more than {self.limits.cpu_seconds} s of CPU time: an infinite loop?"
        if ended.startswith("sandbox"):
            raise SandboxError(ended)
        how = f" ({ended})" if ended.startswith(("exit", "signal")) else ""
        return f"the code ended its process{how}: does it call exit, or crash?"

    def _last(self) -> str:
        """Return how the process ended, from the warden's final message; skip late replies to earlier requests."""
        said = self.said or {}
        while "ended" not in said:
            said = json.loads(self.control.recv(4096))
        self.cpu = float(said.get("cpu", 0))
        return said["ended"]

    def close(self) -> str:
        """End the process and all of its descendants, and return how it ended."""
        self.answer.close()
        ended = "unknown"
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)
        with suppress(OSError, ValueError, KeyError):
            self.control.settimeout(TO_END)
            ended = self._last()
        self.control.close()
        return ended


def probe(zygote: Zygote, level: str) -> list[str] | None:
    """Try out a level and return what it fails to prevent on this machine; None if the level is not available."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        os.chmod(folder, 0o700)
        secret, submission = Path(folder, "secret"), Path(folder, "submission")
        secret.write_text("secret")
        submission.mkdir()
        trial = {"file": str(secret), "port": server.getsockname()[1], "pid": os.getpid(), "closed": closed()}
        child = Child(zygote, level, submission, Limits(), "probe", **trial)
        try:
            return child.read(time.monotonic() + 30)
        except (wire.Late, wire.Closed, wire.WireError):
            return None
        finally:
            child.close()


def closed() -> list[str]:
    """Return the repository files that a submission must not read: the tests, the solution, .git and staff/."""
    parts = [part.folder for part in read_rubric().with_code]
    folders = [
        REPOSITORY / name
        for name in ("tests", "staff", "staff/hidden", "staff/oracles", "staff/release", ".git", *parts)
    ]
    return [str(path) for folder in folders for path in sorted(folder.glob("*")) if path.is_file()]


def strongest(zygote: Zygote) -> tuple[str, list[str]]:
    """Return the strongest level that works on this machine, and a line for each stronger one that does not."""
    lines = []
    for level in LEVELS[:-1]:
        possible = probe(zygote, level)
        if possible == []:
            return level, lines
        lines.append(f"{level}: {_why_not(possible)}")
    return "none", lines


def choose(zygote: Zygote, level: str | None) -> tuple[str, list[str]]:
    """Return `level`, and no lines, if it works on this machine; if it is None, return `strongest(zygote)`.

    Raises:
        SandboxError: the requested level does not work on this machine.
    """
    if level is None:
        return strongest(zygote)
    possible = probe(zygote, level)
    if possible != []:
        raise SandboxError(f"--sandbox {level}: {_why_not(possible)}")
    return level, []


def _why_not(possible: list[str] | None) -> str:
    return "is not available on this machine" if possible is None else f"lets a submission {', '.join(possible)}"
