"""Run the graded suites against a submission: the tests here, the submission shut in elsewhere.

A judge is a process that has imported what tests need once; `Judge` starts one and talks to it in lines of JSON. For
each submission it forks, and in the fork pytest runs with a module `adapters` whose functions ask the submission's
process.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from course import rubric as rubrics
from course.grading import kernel
from course.grading.sandbox import Limits

REPOSITORY = Path(__file__).resolve().parents[2]
SUITES = ("tests/test_part1_vae.py", "tests/test_part2_aae.py", "tests/test_part3_gpt.py")


class JudgeError(Exception):
    """The judge itself failed: for the staff."""


@dataclass(frozen=True)
class Rules:
    """How a submission is judged: the sandbox's level (None: the strongest there is), seconds a question may take."""

    level: str | None = None
    seconds_per_question: float = 60
    limits: Limits = Limits()


# --- in the fork that judges one submission -------------------------------------------------------------------------


class Session:
    """The submission's processes, one a question; a new one where the last has ended."""

    def __init__(self, zygote, level: str, submission: Path, rules: Rules):
        self.zygote, self.level, self.submission, self.rules = zygote, level, submission, rules
        self.question, self.until, self.child = None, 0.0, None
        self.trouble: str | None = None  # the staff's, not the submission's
        self.seen: set[tuple[str, int, str]] = set()  # uses of forbidden names while it ran: file, line, name
        self.watch = to_watch(rubrics.read())

    def enter(self, question: str) -> None:
        """The tests of a question begin: nothing of an earlier one is left."""
        if question != self.question:
            self.leave()
            self.question, self.until = question, time.monotonic() + self.rules.seconds_per_question

    def leave(self) -> None:
        if self.child:
            self.child.close()
        self.child = None

    def call(self, name: str, *args, **kwargs):
        """Ask an adapter beside the submission; seeded by the noise of the test, so that a run can be repeated."""
        import torch

        from course.grading import children

        seed = int(torch.randint(2**31, ()))
        if time.monotonic() > self.until:
            raise children.Unfinished(f"no time is left: question {self.question} has {self._seconds()}")
        try:
            if self.child is None:
                self.child = children.Child(
                    self.zygote, self.level, self.submission, self.rules.limits, watch=self.watch
                )
                self.child.seen = self.seen
            return self.child.call(name, args, kwargs, seed, self.until)
        except children.Raised as error:
            error.called = name
            raise
        except children.Unfinished:
            self.child = None
            raise
        except children.SandboxError as error:
            self.child, self.trouble = None, str(error)
            raise

    def _seconds(self) -> str:
        return f"{self.rules.seconds_per_question:g} s for all of its tests"


def to_watch(rubric: rubrics.Rubric) -> dict:
    """The names that the rubric forbids, and by file the functions that may use them."""
    forbidden = rubric.forbidden
    allowed: dict[str, list[str]] = {}
    for rule in forbidden:
        for where in rule.where if rule.allowed else ():
            allowed.setdefault(where, []).extend(rule.allowed)
    return {"names": [rule.name for rule in forbidden], "allowed": allowed}


class Adapters(types.ModuleType):
    """What the tests import as `adapters`."""

    def __init__(self, session: Session):
        super().__init__("adapters")
        self._session = session

    def __getattr__(self, name: str) -> Callable:
        if not name.startswith("run_"):
            raise AttributeError(name)
        return partial(self._session.call, name)


class Progress:
    """A pytest plugin: a new process for each question, and a line for each test that is done."""

    def __init__(self, session: Session, say: Callable[[dict], None]):
        self.session, self.say = session, say

    def pytest_runtest_setup(self, item):
        marker = item.get_closest_marker("question")
        if marker:
            self.session.enter(marker.args[0])

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and getattr(report, "graded", None):
            row = {"message": None, "error": None, **report.graded}
            self.say({"test": {**row, "outcome": report.outcome, "seconds": round(report.duration, 3)}})


def judge_here(zygote, level: str, submission: Path, seed: int, rules: Rules, say: Callable[[dict], None]) -> None:
    """Run the suites; `say` gets a line for each test, and at the end how pytest ended."""
    import pytest

    session = Session(zygote, level, submission, rules)
    sys.modules["adapters"] = Adapters(session)
    os.chdir(REPOSITORY)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # whatever else is installed
    arguments = ["-q", "-p", "no:cacheprovider", f"--seed={seed}", *SUITES]
    status = pytest.main(arguments, plugins=[Progress(session, say)])
    session.leave()
    if any((submission / "logs").glob("*/*/")):
        say({"evidence": judge_runs(zygote, level, submission, seed, rules)})
    say({"ended": int(status), "trouble": session.trouble, "seen": sorted(session.seen)})


def judge_runs(zygote, level: str, submission: Path, seed: int, rules: Rules) -> list[dict]:
    """What the run folders that were handed in earn; see `evidence.judge`."""
    from course.grading import children, evidence

    def open_child():
        return children.Child(zygote, level, submission, rules.limits)

    return evidence.judge(rubrics.read(), submission, open_child, seed)


# --- the judge process ----------------------------------------------------------------------------------------------


def main(fd: int) -> None:
    """Say what the sandbox is; then judge what is asked for, one after the other, until the other side is gone."""
    from course.grading import children

    lines = os.fdopen(fd, "r+b", buffering=0)
    say = partial(_say, lines)
    zygote = children.Zygote()
    try:
        level, weaker = children.strongest(zygote)
        say({"level": level, "weaker": weaker})
        import pytest  # noqa: F401  (for the forks)
        import scipy.stats  # noqa: F401
        import torch

        torch.set_num_threads(1)
        sys.path.insert(0, str(REPOSITORY / "tests"))
        import judge  # noqa: F401  (tests/judge.py)
        from course.grading import evidence

        with suppress(evidence.NoData):  # then the rows of the evidence say so
            evidence.load_images()

        for line in os.fdopen(os.dup(fd), "rb"):
            _judge_in_a_fork(zygote, json.loads(line), say, fd)
    finally:
        zygote.close()


def _say(lines, row: dict) -> None:
    lines.write(json.dumps(row).encode() + b"\n")


def _judge_in_a_fork(zygote, wanted: dict, say: Callable[[dict], None], fd: int) -> None:
    rules = Rules(wanted["level"], wanted["seconds_per_question"], Limits(**wanted["limits"]))
    pid = os.fork()
    if pid == 0:
        try:
            kernel.die_with_parent()
            os.setsid()
            judge_here(zygote, rules.level, Path(wanted["submission"]), wanted["seed"], rules, say)
        except BaseException as error:
            say({"trouble": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(0)
    until = time.monotonic() + wanted["seconds"]
    grader = select.poll()
    grader.register(fd, 0)  # says only whether it is gone
    while time.monotonic() < until and not grader.poll(0):
        if os.waitpid(pid, os.WNOHANG)[0]:
            break
        time.sleep(0.01)
    else:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        say({"trouble": f"judging took more than {wanted['seconds']:.0f} s"})
    say({"done": True})


# --- the side that asks ---------------------------------------------------------------------------------------------


class Judge:
    """A judge process. `level`: what its sandbox is; `weaker`: why not a stronger one.

    Raises:
        JudgeError: it does not start.
    """

    def __init__(self):
        import socket

        self.socket, theirs = socket.socketpair()
        self.errors = tempfile.TemporaryFile()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "course.grading.judge", str(theirs.fileno())], cwd=REPOSITORY, env=environment,
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors,
        )  # fmt: skip
        theirs.close()
        self.waiting = b""
        hello = self._line(time.monotonic() + 180)
        self.level, self.weaker = hello["level"], hello["weaker"]

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
        seconds = 10 * rules.seconds_per_question + 300  # the runs have a time of their own
        wanted = {
            "submission": str(submission), "seed": seed, "level": rules.level or self.level, "seconds": seconds,
            "seconds_per_question": rules.seconds_per_question, "limits": rules.limits.as_json(),
        }  # fmt: skip
        self.socket.sendall(json.dumps(wanted).encode() + b"\n")
        tests: list[dict] = []
        found: dict[str, list] = {"tests": tests, "evidence": [], "seen": []}
        ended = trouble = None
        while "done" not in (row := self._line(time.monotonic() + seconds + 60)):
            ended, trouble = row.get("ended", ended), row.get("trouble") or trouble
            found |= {name: row[name] for name in ("evidence", "seen") if name in row}
            if "test" in row:
                tests.append(row["test"])
                on_test(row["test"])
        if trouble or ended not in (0, 1):
            raise JudgeError(trouble or f"pytest ended with status {ended}")
        return found

    def close(self) -> None:
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def _line(self, until: float) -> dict:
        while b"\n" not in self.waiting:
            ready, _, _ = select.select([self.socket], [], [], max(0, until - time.monotonic()))
            piece = self.socket.recv(1 << 16) if ready else b""
            if not piece:
                self.errors.seek(0)
                said = self.errors.read().decode(errors="replace").strip()[-500:]
                raise JudgeError(f"the judge {'has died' if ready else 'does not answer'}{': ' + said if said else ''}")
            self.waiting += piece
        line, _, self.waiting = self.waiting.partition(b"\n")
        return json.loads(line)


if __name__ == "__main__":
    main(int(sys.argv[1]))
