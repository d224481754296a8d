"""The process that runs the graded suites. The tests run here; the submission runs in a separate, sandboxed process.

The process imports the tests' dependencies and has pytest collect the tests once. It forks for each submission. In
the fork, pytest runs the tests with an `adapters` package whose functions forward each call to the submission's
process, and reports each outcome as a line of JSON. `judge.Judge` starts this process.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from course import rubric as rubrics
from course.flags import REPOSITORY
from staff.grading.inside import kernel
from staff.grading.inside.sandbox import Limits
from staff.grading.judge import OPTIMIZED, SUITES, Rules, to_watch
from staff.grading.kit import SandboxError, Zygote

# --- in the fork that judges one submission -------------------------------------------------------------------------


class Session:
    """Manage the submission's processes: one per question, replaced when it ends."""

    def __init__(self, zygote: Zygote, submission: Path, rules: Rules):
        from staff.grading.sandbox import Allowance

        self.zygote, self.submission, self.rules = zygote, submission, rules
        self.until = time.monotonic() + rules.seconds
        self.question, self.child = None, None
        self.allowance = Allowance(0, 0, 0)  # the time left for the current question
        self.undecided = False  # whether a call in the current test was undecided
        self.trouble: str | None = None  # a failure of the sandbox, not of the submission
        self.seen: set[tuple[str, int, str]] = set()  # forbidden names used at run time: file, line, name
        self.watch = to_watch(rubrics.read())

    def enter(self, question: str) -> None:
        """Prepare for the next test. If it belongs to another question, end the process and reset the allowance."""
        from staff.grading.sandbox import Allowance

        self.undecided = False
        if question != self.question:
            self.leave()
            self.question = question
            self.allowance = Allowance.of(self.rules.seconds_per_question, self.until)

    def leave(self) -> None:
        if self.child:
            self.child.close()
            self._ended()

    def _ended(self) -> None:
        if self.child:
            self.allowance.cpu = 0 if self.child.out_of_time else self.allowance.cpu - self.child.cpu
        self.child = None

    def new_child(self, cpu_seconds: int, **more):
        """Return a sandboxed process that runs the submission, limited to `cpu_seconds` of CPU time."""
        from staff.grading import sandbox

        limits = replace(self.rules.limits, cpu_seconds=cpu_seconds)
        return sandbox.Child(self.zygote, self.rules.level, self.submission, limits, **more)

    def call(self, name: str, *args, **kwargs):
        """Call an adapter in the submission's process, with a seed drawn from the test's RNG for reproducibility."""
        import torch

        from staff.grading import sandbox

        seed, allowance = int(torch.randint(2**31, ())), self.allowance
        if min(allowance.cpu, allowance.idle) <= 0:
            raise sandbox.Unfinished(f"no time is left: question {self.question} has {self._seconds()}")
        try:
            if self.child is None:
                self.child = self.new_child(allowance.cpu_seconds, watch=self.watch)
                self.child.seen = self.seen
            return self.child.call(name, args, kwargs, seed, allowance.until, allowance)
        except sandbox.Raised as error:
            error.called = name
            raise
        except sandbox.Unfinished:
            self._ended()
            raise
        except sandbox.Undecided:
            self.undecided = True
            self._ended()
            raise
        except sandbox.SandboxError as error:
            self.child, self.trouble = None, str(error)
            raise

    def _seconds(self) -> str:
        return f"{self.rules.seconds_per_question:g} s for all of its tests"


class Adapters(types.ModuleType):
    """The package that the tests import as `adapters`. In a fork, `session` belongs to the fork's submission."""

    session: Session

    def __init__(self):
        super().__init__("adapters")
        self.__path__ = []  # makes it a package; its only modules are those added below
        sys.modules["adapters"] = self
        for path in (REPOSITORY / "tests" / "adapters").glob("part*.py"):
            module = AdapterModule(self, path.stem)
            setattr(self, path.stem, module)
            sys.modules[module.__name__] = module


class AdapterModule(types.ModuleType):
    """A module of `adapters`: each `run_...` function forwards its call to the submission's process."""

    def __init__(self, adapters: Adapters, name: str):
        super().__init__(f"adapters.{name}")
        self.adapters, self.name = adapters, name

    def __getattr__(self, name: str) -> Callable:
        if not name.startswith("run_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.adapters.session.call(f"{self.name}.{name}", *args, **kwargs)


class Forks:
    """A pytest plugin that, instead of running the collected tests, forks once for each requested submission.

    Args:
        requests: the socket for incoming requests, each with a submission and a file descriptor for its results.
        level: the sandbox level; None: the strongest that works on this machine.
    """

    def __init__(self, requests: socket.socket, zygote: Zygote, adapters: Adapters, level: str | None):
        self.requests, self.zygote, self.adapters, self.level = requests, zygote, adapters, level
        self.wanted: dict = {}  # in a fork: the request
        self.say: Callable[[dict], None] = lambda row: None

    def run(self) -> None:
        """Serve requests until the other side closes the socket. Each fork starts and exits inside this call."""
        import pytest

        os.chdir(REPOSITORY)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # ignore any other installed plugins
        try:
            status = pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-p", "no:logging", *SUITES], plugins=[self])
            if self.wanted:
                self._end(status)
        except BaseException as error:
            if not self.wanted:
                raise
            self.say({"trouble": f"{type(error).__name__}: {error}"})
        finally:
            if self.wanted:
                os._exit(0)

    def pytest_runtestloop(self, session):
        kernel.prepare_to_fork()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are never waited for
        hello = self._hello()
        self.requests.send(json.dumps(hello).encode())
        while "level" in hello:
            request, handles, _, _ = socket.recv_fds(self.requests, 1 << 16, 1)
            if not request:
                return True  # tells pytest that the tests have been run
            if os.fork() == 0:
                self._begin(json.loads(request), handles[0], session.config)
                return None  # lets pytest run the tests
            os.close(handles[0])
        return True

    def _hello(self) -> dict:
        """Try out the sandbox, and return a message with its level or with the reason why it does not work."""
        from staff.grading import sandbox

        try:
            level, weaker = sandbox.choose(self.zygote, self.level)
            return {"level": level, "weaker": weaker}
        except sandbox.SandboxError as error:
            return {"refused": str(error)}

    def _begin(self, wanted: dict, answer: int, config) -> None:
        self.wanted, self.say = wanted, partial(_say, os.fdopen(answer, "wb", buffering=0))
        kernel.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(wanted["seconds"])  # a hard limit: the signal ends the fork
        self.requests.close()
        config.option.seed = wanted["seed"]
        rules = Rules(wanted["level"], wanted["seconds_per_question"], Limits(**wanted["limits"]))
        self.adapters.session = Session(self.zygote, Path(wanted["submission"]), rules)

    def pytest_runtest_setup(self, item):
        marker = item.get_closest_marker("question")
        if marker:
            self.adapters.session.enter(marker.args[0])

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and getattr(report, "graded", None):
            row = {"message": None, "error": None, **report.graded}
            undecided = report.outcome == "failed" and self.adapters.session.undecided
            outcome = "undecided" if undecided else report.outcome
            self.say({"test": {**row, "outcome": outcome, "seconds": round(report.duration, 3)}})

    def pytest_internalerror(self, excinfo):
        self.say({"trouble": f"{excinfo.typename}: {excinfo.value}"})

    def _end(self, status: int) -> None:
        """Judge the submitted runs after the tests, and report how pytest ended."""
        session = self.adapters.session
        session.leave()
        self.say({"evidence": judge_runs(session, self.wanted["seed"])})
        self.say({"ended": int(status), "trouble": session.trouble, "seen": sorted(session.seen)})


def _say(lines, row: dict) -> None:
    lines.write(json.dumps(row).encode() + b"\n")


def judge_runs(session: Session, seed: int) -> list[dict]:
    """Judge the submitted run folders and return the rows of evidence with their points; see `evidence.judge`."""
    from staff.grading import evidence

    seconds = 2 * session.rules.seconds_per_question
    return evidence.judge(rubrics.read(), session.submission, session.new_child, seed, seconds)


# --- the judge process ----------------------------------------------------------------------------------------------


def main(fd: int, level: str | None) -> None:
    """Report the sandbox level, then judge the requested submissions until the other side closes the socket."""
    requests = socket.socket(fileno=fd)
    if sys.flags.optimize:
        requests.send(json.dumps({"refused": OPTIMIZED}).encode())
        return
    gc.disable()  # imported modules stay alive, so scanning them for garbage would only waste a second
    try:
        zygote = Zygote()  # starts up while this process imports modules
    except SandboxError as error:
        requests.send(json.dumps({"refused": str(error)}).encode())
        return
    try:
        Forks(requests, zygote, _import_all(), level).run()
    finally:
        zygote.close()


def _import_all() -> Adapters:
    """Import the tests' dependencies before forking, so that every fork already has them."""
    import scipy.stats  # noqa: F401
    import torch

    from staff.grading import evidence

    torch.set_num_threads(1)
    sys.path.insert(0, str(REPOSITORY / "tests"))
    for part in ("part1", "part2", "part3"):
        importlib.import_module(f"staff.oracles.{part}")  # these import modules of tests/
    with suppress(evidence.NoData):  # missing data is reported in the rows of evidence
        evidence.load_images()
    return Adapters()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    os._exit(0)  # skips the teardown of all these modules, which takes a second
