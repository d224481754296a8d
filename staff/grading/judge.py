"""The client side of judging: `Judge` starts a process that collects the graded suites; see `judge_process`."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from course import rubric as rubrics
from course.flags import REPOSITORY
from course.prerequisites import first_lines
from staff.grading.inside.sandbox import Limits, patience
from staff.release.suites import suites

TO_START = 180  # seconds
OPTIMIZED = (
    "Python runs with -O or PYTHONOPTIMIZE, which removes the asserts in the graded tests: wrong submissions would get "
    "full points; run Python without this option"
)


def _edition() -> str | None:
    """Return the rubric's edition, or None if the rubric is unreadable; the error is reported where points are used."""
    with suppress(rubrics.RubricError):
        return rubrics.read().edition


SUITES = [path.relative_to(REPOSITORY).as_posix() for path in suites(REPOSITORY, edition=_edition())]


class JudgeError(Exception):
    """The judge itself failed. The message is for the staff."""


@dataclass(frozen=True)
class Rules:
    """How a submission is judged.

    level: the sandbox level; None: the strongest available.
    seconds_per_question: the CPU time that all tests of a question may use together.
    """

    level: str | None = None
    seconds_per_question: float = 60
    limits: Limits = Limits()

    @property
    def seconds(self) -> float:
        """The maximum wall-clock time to wait for the tests of a submission, even on a busy machine."""
        return 4 * patience(self.seconds_per_question) + 300


def to_watch(rubric: rubrics.Rubric) -> dict:
    """Return the names that the rubric forbids, and the template files that may use them."""
    allowed = sorted({file for rule in rubric.forbidden for file in rule.allowed})
    return {"names": [rule.name for rule in rubric.forbidden], "allowed": allowed}


class Judge:
    """A judge process that threads can share. `level`: the sandbox level in use; `weaker`: why no stronger one works.

    Args:
        level: the requested sandbox level; None: the strongest that works on this machine.

    Raises:
        JudgeError: the process does not start, or the requested level does not work on this machine.
    """

    def __init__(self, level: str | None = None):
        if sys.flags.optimize:
            raise JudgeError(OPTIMIZED)
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.errors = tempfile.TemporaryFile()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "staff.grading.judge_process", str(theirs.fileno()), *filter(None, [level])],
            cwd=REPOSITORY, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.errors, start_new_session=True,  # Ctrl-C reaches only the grader
        )  # fmt: skip
        theirs.close()
        hello = self._hello()
        if "refused" in hello:
            self.close()
            raise JudgeError(hello["refused"])
        self.level, self.weaker = hello["level"], hello["weaker"]

    def _hello(self) -> dict:
        self.requests.settimeout(TO_START)
        try:
            hello = json.loads(self.requests.recv(1 << 16))
        except (OSError, ValueError):
            error = self._gone()
            self.close()
            raise error from None
        self.requests.settimeout(None)
        return hello

    def judge(self, submission: Path, seed: int, rules: Rules, on_test: Callable[[dict], None]) -> dict[str, list]:
        """Judge a staged submission.

        Returns:
            A dict with "tests": the graded tests with their outcomes; "evidence": the points for the runs; "seen": the
            forbidden names used at run time, each as file, line, name.

        Args:
            on_test: called with each test as soon as it is done.

        Raises:
            JudgeError: the judge failed, or not all tests have an outcome.
        """
        seconds = int(rules.seconds + 2 * patience(2 * rules.seconds_per_question)) + 120  # second term: for the runs
        wanted = {
            "submission": str(submission), "seed": seed, "level": rules.level or self.level, "seconds": seconds,
            "seconds_per_question": rules.seconds_per_question, "limits": rules.limits.as_json(),
        }  # fmt: skip
        tests: list[dict] = []
        found: dict = {"tests": tests, "evidence": [], "seen": [], "ended": None, "trouble": None}
        until = time.monotonic() + seconds
        for row in self._rows(wanted, until):
            found |= {name: value for name, value in row.items() if name != "test" and value is not None}
            if "test" in row:
                tests.append(row["test"])
                on_test(row["test"])
        if found["ended"] is None and found["trouble"] is None:
            raise JudgeError(f"judging took more than {seconds} s") if time.monotonic() > until else self._gone()
        if found["trouble"] or found["ended"] not in (0, 1):
            raise JudgeError(found["trouble"] or f"pytest ended with status {found['ended']}")
        lines = first_lines(tests, root=None)  # the submission's files are not read in this process
        for test in tests:
            if line := lines.get(test["name"]):
                test["message"] = f"{line}\n{test['message']}"
            del test["needs"]
        return found

    def _rows(self, wanted: dict, until: float) -> Iterator[dict]:
        """Yield the messages about a submission until the fork that judges it ends."""
        answer, theirs = socket.socketpair()
        with answer:
            with theirs, suppress(OSError):  # if the judge is gone, there are no messages
                socket.send_fds(self.requests, [json.dumps(wanted).encode()], [theirs.fileno()])
            answer.settimeout(until - time.monotonic() + 60)
            with suppress(TimeoutError, ConnectionResetError), answer.makefile("rb") as lines:
                yield from (json.loads(line) for line in lines if line.endswith(b"\n"))

    def _gone(self) -> JudgeError:
        """Return an error that explains why there is no answer."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip()[-500:]
        how = "does not answer" if self.process.poll() is None else "has died"
        return JudgeError(f"the judge {how}{': ' + said if said else ''}")

    def close(self) -> None:
        self.requests.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        self.errors.close()
