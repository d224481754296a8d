"""Tests of faults around the grader: it or its processes are killed, the disk is full, or a process does not end."""

import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from course import rubric
from small_runs import REPOSITORY
from staff import __main__ as command_line
from staff.grading import archives, grade, judge, kit, sandbox
from staff.grading import results as results_module
from staff.grading.inside import sandbox as inside_sandbox
from staff.grading.inside import wire
from staff.grading.inside.sandbox import Limits
from staff.release import build as release

KILLS = int(os.environ.get("KILLS", "4"))  # how many times the grader is killed at a random moment
SEED = "11"


@pytest.fixture(scope="module")
def class_of_four(tmp_path_factory) -> Path:
    """Return a class of four templates, which are graded quickly; only bob's contains a correct answer."""
    course = release.read_course()
    folder = tmp_path_factory.mktemp("class")
    for student, filled in {"ada": [], "bob": ["2.5"], "cem": [], "dana": []}.items():
        for file, content in release.contents(course, "test", filled).items():
            if file.startswith("part") and file.endswith(".py"):
                (folder / student / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / student / file).write_bytes(content)
    return folder


pytestmark = pytest.mark.usefixtures("level")


def results(out: Path) -> dict[str, dict]:
    """Return student -> result, without durations and dates."""
    found = {}
    for path in sorted((out / "results").glob("*.json")):
        result = json.loads(path.read_text())
        assert result["status"] == "graded", result["problem"]
        tests = [{**test, "seconds": None} for test in result["tests"]]
        found[path.stem] = {**result, "tests": tests, "seconds": None, "graded": None}
    return found


class Grader:
    """The grader's command line, whose processes can be identified by their temporary folder."""

    def __init__(self, folder: Path, submissions: Path):
        self.out, self.temporary = folder / "grades", folder / f"tmp{random.randrange(10**12)}"
        self.temporary.mkdir()
        self.submissions = submissions

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "staff", "grade", str(self.submissions), "-o", str(self.out), "-j", "2"]
        environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, "--seed", SEED], cwd=REPOSITORY, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def processes(self) -> list[str]:
        """Return the grader's processes that still exist, except zombies."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                content = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            except OSError:
                continue
            if self.temporary.name.encode() in content:
                found.append(f"{path.name}: {content[:150]}")
        return found

    def gone_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path, class_of_four):
    """Kill the grader many times; every other time, kill its whole process group, as a batch system does."""
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Grader(tmp_path / "undisturbed", class_of_four)
    began = time.monotonic()
    process = undisturbed.start()
    assert process.wait() == 0, process.stderr.read()
    takes = time.monotonic() - began
    wanted = results(undisturbed.out)
    assert list(wanted) == ["ada", "bob", "cem", "dana"]

    grader = Grader(tmp_path, class_of_four)
    for number in range(KILLS):
        done = sorted((grader.out / "results").glob("*.json"))
        if len(done) == len(wanted):
            random.choice(done).unlink()  # so that something is left to do
        process = grader.start()
        try:
            process.wait(random.uniform(0, takes))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL) if number % 2 else process.kill()
            process.wait()
        assert grader.gone_within(60), f"{grader.processes()} are left"  # a process ends only after its imports
        for student, result in results(grader.out).items():
            assert result == wanted[student], "a result is either correct or missing"
    process = grader.start()
    assert process.wait() == 0, process.stderr.read()
    assert results(grader.out) == wanted
    assert {path.name for path in (grader.out / "feedback").iterdir()} == {
        f"{student}.{kind}" for student in wanted for kind in ("md", "html")
    }
    assert not list(grader.out.rglob(".*")), "a half-written file is left"
    assert not list(grader.temporary.iterdir()), "the next start removes what a killed grader left behind"


# --- a process of the grader is killed --------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def zygote_of(judges: grade.Judges) -> int:
    for child in children_of(judges.current().process.pid):
        if b"zygote.py" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise AssertionError("the judge has no zygote")


def kill_the_judge(judges: grade.Judges) -> None:
    judges.current().process.kill()


def kill_the_zygote(judges: grade.Judges) -> None:
    os.kill(zygote_of(judges), signal.SIGKILL)


def kill_a_warden(judges: grade.Judges) -> None:
    os.kill(children_of(zygote_of(judges))[-1], signal.SIGKILL)


@pytest.fixture
def course(tmp_path) -> grade.Class:
    return grade.Class(tmp_path / "grades", rubric.read(), judge.Rules(), seed=int(SEED))


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_the_judge, kill_the_zygote, kill_a_warden])
def test_a_process_of_the_grader_is_killed(course, class_of_four, kill):
    """The process is restarted, and the submission is graded from the beginning."""
    judges, killed = grade.Judges(), []

    def on_progress(result: dict) -> None:
        if len(result["tests"]) == 5 and not killed:
            kill(judges)
            killed.append(True)

    try:
        result = course.grade(archives.Submission("bob", class_of_four / "bob"), judges, on_progress)
        assert killed and result["status"] == "graded"
        names = [test["name"] for test in result["tests"]]
        assert len(names) == len(set(names)) == len(release.read_course().tests)
        assert result["questions"]["2.5"]["automatic"] > 0
        assert not [test for test in result["tests"] if test["error"] == "SandboxError"]
    finally:
        judges.close()


# --- the disk is full -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_disk_is_full(tmp_path, class_of_four, monkeypatch, capsys):
    out, write, written = tmp_path / "grades", results_module.write_whole, []
    arguments = ["grade", str(class_of_four), "-o", str(out), "-j", "1", "--seed", SEED]

    def full(path, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(results_module, "write_whole", full)
    assert command_line.main(arguments) == 1
    said = capsys.readouterr().err
    assert f"error: No space left on device: {out}/results/" in said and "Traceback" not in said
    before = results(out)
    assert list(before) == ["ada", "bob"]
    monkeypatch.undo()
    assert command_line.main(arguments) == 0
    assert {student: result for student, result in results(out).items() if student in before} == before
    assert list(results(out)) == ["ada", "bob", "cem", "dana"]
    assert "2 graded, 2 already judged" in capsys.readouterr().out


@pytest.mark.slow
def test_a_disk_that_is_small(tmp_path, class_of_four):
    """The results go to a file system that is too small for them; no half-written file is left."""
    out = tmp_path / "small"
    out.mkdir()
    inside = f"mount -t tmpfs -o size=64k none {out} && {sys.executable} -m staff grade {class_of_four} -o {out}/grades"
    inside += f" -j 1 --seed {SEED}; status=$?; find {out} -type f; exit $status"
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting")
    done = subprocess.run([*unshare, "sh", "-c", inside], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: No space left on device: " in done.stderr and "Traceback" not in done.stderr
    left = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(out))]
    assert left and all(path.suffix == ".json" and not path.name.startswith(".") for path in left), left


# --- processes that do not end ----------------------------------------------------------------------------------------


@pytest.fixture
def endless(tmp_path) -> Path:
    (tmp_path / "endless" / "part1_vae").mkdir(parents=True)
    (tmp_path / "endless" / "part1_vae" / "__init__.py").touch()
    (tmp_path / "endless" / "part1_vae" / "utils.py").write_text("def KLD(*_):\n    while True:\n        pass\n")
    return tmp_path / "endless"


class NewWarden:
    """The first process that the zygote forks after this object is created."""

    def __init__(self, zygote: kit.Zygote):
        self.zygote, self.before = zygote, set(children_of(zygote.process.pid))

    def wait(self) -> int:
        while not (found := set(children_of(self.zygote.process.pid)) - self.before):
            time.sleep(0.01)
        return min(found)


def ask(
    zygote: kit.Zygote, level: str, submission: Path, meanwhile: Callable[[], None] = lambda: None, seconds=1
) -> str:
    """Return the message for a student whose code does not end."""
    child = sandbox.Child(zygote, level, submission, Limits())
    meanwhile()
    with pytest.raises((sandbox.Unfinished, sandbox.SandboxError)) as caught:
        child.call("part1.run_kld", (torch.ones(1), torch.ones(1)), {}, seed=0, until=time.monotonic() + seconds)
    return str(caught.value)


def test_a_child_that_will_not_die(zygote, level, endless, monkeypatch):
    """The grader does not wait for a stopped warden; once the warden resumes, no process is left."""
    monkeypatch.setattr(sandbox, "TO_END", 0.3)
    warden = NewWarden(zygote)

    def stop_the_warden():
        os.kill(warden.wait(), signal.SIGSTOP)

    began = time.monotonic()
    assert "an infinite loop?" in ask(zygote, level, endless, stop_the_warden, seconds=0.3)
    assert time.monotonic() - began < 60
    assert "an infinite loop?" in ask(zygote, level, endless, seconds=0.3), "another child must still start and end"
    os.kill(warden.wait(), signal.SIGCONT)
    until = time.monotonic() + 60
    while set(children_of(zygote.process.pid)) - warden.before:
        assert time.monotonic() < until, "it is still there"
        time.sleep(0.05)


def test_a_warden_that_is_gone_is_the_staffs_trouble(zygote, level, endless):
    warden = NewWarden(zygote)
    killed = ask(zygote, level, endless, lambda: os.kill(warden.wait(), signal.SIGKILL), seconds=30)
    assert killed == "the process that watches a submission has died"


@pytest.mark.parametrize("watched", [True, False])
def test_a_process_whose_warden_was_gone_before_it_could_know_runs_nothing(tmp_path, watched):
    """The kernel's parent-death signal takes effect only once it is set, and by then the warden may be gone."""
    ours, theirs = socket.socketpair()
    trouble_out, trouble_in = os.pipe()
    if not watched:
        os.close(trouble_out)
    child = os.fork()
    if child == 0:
        place = ("none", tmp_path, tmp_path, tmp_path, Limits())
        inside_sandbox._become(*place, theirs.fileno(), trouble_in, lambda answer: os.write(answer, b"served"))
    theirs.close()
    os.close(trouble_in)
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), ours.recv(10)) == ((0, b"served") if watched else (1, b""))
    if watched:
        os.close(trouble_out)
    ours.close()


def test_a_zygote_that_is_gone_is_the_staffs_trouble(level, endless):
    zygote = kit.Zygote()
    zygote.process.kill()
    zygote.process.wait()
    with pytest.raises(sandbox.SandboxError, match="did not start"):
        sandbox.Child(zygote, level, endless, Limits())
    zygote.is_ready = True  # as before its death
    with pytest.raises(sandbox.SandboxError, match="has died"):
        sandbox.Child(zygote, level, endless, Limits())
    zygote.close()


def test_a_solution_that_is_installed_is_refused(tmp_path, monkeypatch):
    (tmp_path / "part2_aae").mkdir()
    monkeypatch.setattr(kit.site, "getsitepackages", lambda: [str(tmp_path)])
    with pytest.raises(sandbox.SandboxError, match="the solution is installed"):
        kit.Zygote()


def test_the_other_side_sends_no_message():
    """Malformed answers are refused, and nothing else happens."""
    impossible = '{"tensor": ["float32", [0, 250000000, 250000000, 250000000, 250000000]]}'
    for text in ('{"dict": []}', impossible, '{"list": 3}', "[" * 100_000, '{"float": "x"}'):
        with pytest.raises(wire.WireError):
            wire.decode(text.encode(), b"")
