"""Tests of the time limits: only the CPU time of the submission counts, not the delays of a busy machine."""

import re
import time

import pytest
import torch
from class_cases import QuickJudge, parts, rows, zipped

from staff.grading import sandbox
from staff.grading.inside.sandbox import Limits
from staff.grading.judge import Rules
from staff.grading.judge_process import Session
from staff.grading.sandbox import Allowance

LONG = 300.0


@pytest.fixture
def ask(zygote, level, tmp_path):
    """Return a function: ask(code, allowance, limits) -> the value that the code's KLD returns, or the exception."""

    def ask(code: str, allowance: Allowance, **limits):
        folder = tmp_path.resolve() / "submission" / "part1_vae"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "utils.py").write_text(f"import time, threading\ndef KLD(*_):\n    {code}\n")
        child = sandbox.Child(zygote, level, folder.parent, Limits(**limits))
        try:
            return child.call("part1.run_kld", (torch.ones(1), torch.ones(1)), {}, 0, allowance.until, allowance)
        except (sandbox.Unfinished, sandbox.Undecided) as error:
            return error
        finally:
            child.close()
            ask.cpu = child.cpu

    return ask


def test_the_time_of_the_processor_is_the_limit(ask):
    error = ask("while True: pass", Allowance(1, LONG, time.monotonic() + LONG), cpu_seconds=1)
    assert isinstance(error, sandbox.Unfinished) and "1 s of CPU time: an infinite loop?" in str(error)
    assert 0.8 < ask.cpu < 3


IGNORED = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)"


@pytest.mark.parametrize("code", ["while True: pass", f"{IGNORED}\n    while True: pass"], ids=["plain", "ignored"])
def test_the_tests_of_a_question_share_their_time(zygote, level, tmp_path, code):
    folder = tmp_path.resolve() / "submission" / "part1_vae"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "utils.py").write_text(f"def KLD(*_):\n    {code}\n")
    session = Session(zygote, folder.parent, Rules(level, 1, Limits()))
    for message in ("an infinite loop?", "no time is left: question 1.7 has 1 s"):
        session.enter("1.7")
        with pytest.raises(sandbox.Unfinished, match=re.escape(message)):
            session.call("part1.run_kld", torch.ones(1), torch.ones(1))
    session.enter("1.8")
    with pytest.raises(sandbox.Unfinished, match="an infinite loop"):
        session.call("part1.run_kld", torch.ones(1), torch.ones(1))
    session.leave()


def test_threads_share_the_time_of_the_processor(ask):
    loop = (
        "[threading.Thread(target=lambda: sum(iter(int, 1)), daemon=True).start() for _ in range(20)]; time.sleep(99)"
    )
    error = ask(loop, Allowance(1, LONG, time.monotonic() + LONG), cpu_seconds=1)
    assert isinstance(error, sandbox.Unfinished) and "of CPU time" in str(error)


def test_one_that_sleeps_is_at_fault(ask):
    error = ask("time.sleep(1000)", Allowance(LONG, 1, time.monotonic() + LONG))
    assert isinstance(error, sandbox.Unfinished) and "was idle for longer than allowed: does it sleep or wait?" in str(
        error
    )
    assert ask.cpu < 3


def test_one_that_waits_for_a_busy_machine_is_not_judged(ask):
    """The wait ends while the code still has CPU time, so it is unclear whether the code or the machine is slow."""
    error = ask("while True: pass", Allowance(LONG, LONG, time.monotonic() + 1), cpu_seconds=60)
    assert isinstance(error, sandbox.Undecided) and "busy" in str(error)


def test_a_short_sleep_is_no_fault(ask):
    sleep = "import torch; time.sleep(1.2); return torch.tensor(3.0)"
    assert not isinstance(ask(sleep, Allowance(LONG, 60, time.monotonic() + LONG)), Exception)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(monkeypatch):
    """Make the first `fails` attempts at the submission "busy" undecided; busy() -> number of others each time."""
    running, besides, judge = [], [], QuickJudge.judge

    def judging(self, root, seed, rules, on_test):
        running.append(root)
        try:
            found = judge(self, root, seed, rules, on_test)
            if (root / "part1_vae" / "utils.py").read_text() == "busy":
                besides.append(len(running) - 1)
                for test in found["tests"] if len(besides) <= busy.fails else ():
                    test |= {"outcome": "undecided", "message": "not judged"}
            return found
        finally:
            running.remove(root)

    def busy() -> list[int]:
        return besides

    busy.fails = 1
    monkeypatch.setattr(QuickJudge, "judge", judging)
    return busy


def test_what_a_busy_machine_could_not_judge_is_tried_again_alone(tmp_path, grade, busy):
    for student in ("ada", "bob"):
        zipped(tmp_path / "class" / f"{student}.zip", parts("busy" if student == "ada" else student))
    assert grade("class", "-j", "2") == 0
    assert len(busy()) == 2 and busy()[-1] == 0, "the second time, it ran on its own"
    assert {row["total"] for row in rows(tmp_path).values()} == {"24"} and "busy" not in grade.said


def test_what_still_cannot_be_judged_is_open_and_the_staff_are_told(tmp_path, grade, busy):
    busy.fails = 2
    zipped(tmp_path / "class" / "ada.zip", parts("busy"))
    assert grade("class") == 0
    assert "the machine was busy; grade again: ada" in grade.said and len(busy()) == 2
    page = (tmp_path / "grades" / "feedback" / "ada.md").read_text()
    assert rows(tmp_path)["ada"]["total"] == "0" and "4 not judged" in page and "machine was too busy" in page
    assert "not fully judged" in (tmp_path / "grades" / "report.html").read_text()
    assert grade("class") == 0
    assert len(busy()) == 3 and rows(tmp_path)["ada"]["total"] == "24"
