"""Ask for a submission to be judged: `Judge` is a process that has the graded suites collected, see `judge_process`."""

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
    "Python runs with -O or PYTHONOPTIMIZE, which removes the asserts of the graded tests: wrong submissions would get "
    "all points; run it without"
)


def _edition() -> str | None:
    """The rubric's; a rubric that cannot be read is reported by whoever needs its points."""
    with suppress(rubrics.RubricError):
        return rubrics.read().edition


SUITES = [path.relative_to(REPOSITORY).as_posix() for path in suites(REPOSITORY, edition=_edition())]


class JudgeError(Exception):
    """The judge itself failed: for the staff."""


@dataclass(frozen=True)
class Rules:
    """How a submission is judged.

    level: of the sandbox; None: the strongest there is.
    seconds_per_question: of the processor, that all tests of a question may take together.
    """

    level: str | None = None
    seconds_per_question: float = 60
    limits: Limits = Limits()

    @property
    def seconds(self) -> float:
        """How long the tests of a submission are waited for, however busy the machine is."""
        return 4 * patience(self.seconds_per_question) + 300


def to_watch(rubric: rubrics.Rubric) -> dict:
    """The names that the rubric forbids, and the files that came with the template and may use them."""
    allowed = sorted({file for rule in rubric.forbidden for file in rule.allowed})
    return {"names": [rule.name for rule in rubric.forbidden], "allowed": allowed}


class Judge:
    """A judge process, for several threads. `level`: what its sandbox is; `weaker`: why not a stronger one.

    Args:
        level: the sandbox that is wanted; None: the strongest that holds here.

    Raises:
        JudgeError: it does not start, or that level does not hold.
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
            stdout=subprocess.DEVNULL, stderr=self.errors, start_new_session=True,  # Ctrl-C is for the grader alone
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
            tests: the graded tests, each with its outcome; evidence: what its runs earn; seen: uses of forbidden names
            while it ran, each file, line, name.

        Args:
            on_test: gets each test as soon as it is done.

        Raises:
            JudgeError: the judge failed, or not all tests have an outcome.
        """
        seconds = int(rules.seconds + 2 * patience(2 * rules.seconds_per_question)) + 120  # the last for the runs
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
        lines = first_lines(tests, root=None)  # what a submission has is not read in here
        for test in tests:
            if line := lines.get(test["name"]):
                test["message"] = f"{line}\n{test['message']}"
            del test["needs"]
        return found

    def _rows(self, wanted: dict, until: float) -> Iterator[dict]:
        """What there is to say about a submission, until the fork that judges it ends."""
        answer, theirs = socket.socketpair()
        with answer:
            with theirs, suppress(OSError):  # if it is gone, nothing is said
                socket.send_fds(self.requests, [json.dumps(wanted).encode()], [theirs.fileno()])
            answer.settimeout(until - time.monotonic() + 60)
            with suppress(TimeoutError, ConnectionResetError), answer.makefile("rb") as lines:
                yield from (json.loads(line) for line in lines if line.endswith(b"\n"))

    def _gone(self) -> JudgeError:
        """Why there is no answer."""
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
