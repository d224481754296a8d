"""Tests of the commands `python -m staff grade` and `merge`."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from grading_cases import KL, a_template, points, solution

from small_runs import REPOSITORY
from staff import __main__ as command_line
from staff.grading import archives, commands, grade, gradescope, judge
from staff.release import build as release

# --- the command line -------------------------------------------------------------------------------------------------


def test_shards_together_are_all_of_them():
    students = [archives.Submission(f"s{number}", Path(f"s{number}.zip")) for number in range(40)]
    for of in (1, 3, 10, 60):
        parts = [grade.shard(students, number, of) for number in range(1, of + 1)]
        assert sorted(each.student for each in sum(parts, [])) == sorted(each.student for each in students)
        assert of > 10 or all(parts)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "1/-3", "1/3/5"])
def test_what_is_no_shard(text, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(["grade", ".", "--shard", text])
    assert end.value.code == 2 and "like 3/10" in capsys.readouterr().err


HOSTILE = """
import os, socket, torch
from pathlib import Path

def take(what):
    try:
        what()
    except Exception:
        pass

take(lambda: Path({canary!r}).write_text("taken"))
take(lambda: socket.create_connection(("127.0.0.1", {port}), 1))
take(lambda: os.kill({pid}, 9))
take(lambda: exec(Path({solution!r}).read_text(), globals()))
"""


@pytest.fixture
def bystander():
    """Start an unrelated process, which a submission must not be able to kill."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def quick_judge(zygote, tmp_path, monkeypatch):
    """Make judge processes run only part 1's tests, and fork submissions' processes from this process's zygote."""
    start, fd = subprocess.Popen, zygote.requests.fileno()
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, pass_fds=(), **more: start(command, pass_fds=[*pass_fds, fd], **more)
    )
    monkeypatch.setattr(sys, "executable", shim(tmp_path, LENT.format(fd=fd)))


LENT = """kit.__doc__
from staff.release import suites
from staff.grading.kit import socket

class Lent(kit.Zygote):
    def __init__(self):
        self.requests, self.is_ready = socket.socket(fileno={fd}), True

    def close(self):
        self.requests.close()

kit.Zygote = Lent
every = suites.suites
suites.suites = lambda folder, **edition: every(folder, **edition)[:1]
"""


@pytest.mark.usefixtures("level", "quick_judge")
def test_an_honest_and_a_hostile_submission_in_part_1(tmp_path, level, bystander, capsys):
    an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys, at_a_time="1")


@pytest.mark.slow
def test_an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys):
    words = an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys, at_a_time="2")
    assert command_line.main(words) == 0
    assert "2 already judged" in capsys.readouterr().out


def an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys, at_a_time: str) -> list[str]:
    """Grade both submissions from the command line, in the strongest sandbox that works on this machine."""
    honest = a_template(tmp_path / "class" / "ada")
    text = (REPOSITORY / "part1_vae" / "utils.py").read_text()
    (honest / "part1_vae" / "utils.py").write_text(text.replace(KL, "0.5 * (torch.expm1(log_std)"))
    hostile = a_template(tmp_path / "class" / "eve")
    (tmp_path / "canary").write_text("sings")
    with socket.create_server(("127.0.0.1", 0)) as server:
        attack = HOSTILE.format(
            canary=str(tmp_path / "canary"), port=server.getsockname()[1], pid=bystander.pid,
            solution=str(REPOSITORY / "part1_vae" / "utils.py"),
        )  # fmt: skip
        (hostile / "part1_vae" / "utils.py").write_text(attack)
        (tmp_path / "class" / "grades.csv").write_text("no submission")
        words = ["grade", str(tmp_path / "class"), "-o", str(tmp_path / "grades"), "-j", at_a_time]
        assert command_line.main(words) == 0
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert bystander.poll() is None
    said = capsys.readouterr()
    assert "grades.csv: is not a submission" in said.err and f"sandbox: {level}\n" in said.err
    assert (tmp_path / "canary").read_text() == "sings"
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "grades" / "results").iterdir()}
    assert {each["status"] for each in results.values()} == {"graded"} and points(results["eve"]) == 0
    tests = {test["name"]: test for test in results["ada"]["tests"]}
    assert tests["test_bpd"]["outcome"] == "passed" and points(results["ada"]) > 0
    assert "the standard deviation is used where the variance belongs" in tests["test_kld_values"]["message"]
    rows = (tmp_path / "grades" / "grades.csv").read_text("utf-8-sig").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["ada", "eve"]
    return words


@pytest.mark.slow
def test_a_class_on_the_command_line(tmp_path, level, capsys):
    for name in ("ada", "bob"):
        a_template(tmp_path / "class" / name)
    (tmp_path / "class" / "grades.csv").write_text("no submission")
    words = ["grade", str(tmp_path / "class"), "--seconds", "20", "-j", "1"]
    for number in (1, 2):
        assert command_line.main([*words, "-o", str(tmp_path / f"grades-{number}"), "--shard", f"{number}/2"]) == 0
    assert "grades.csv: is not a submission" in capsys.readouterr().err
    shards = [str(tmp_path / f"grades-{number}") for number in (1, 2)]
    out = tmp_path / "grades"
    assert command_line.main(["merge", *shards, "-o", str(out)]) == 0
    rows = (out / "grades.csv").read_text("utf-8-sig").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["ada", "bob"]
    assert {path.name for path in (out / "feedback").iterdir()} == {"ada.md", "ada.html", "bob.md", "bob.html"}
    assert "Q1.7 is not filled in yet" in (out / "feedback" / "ada.md").read_text()
    assert command_line.main([*words, "-o", str(out)]) == 0
    assert "2 already judged" in capsys.readouterr().out


def test_nothing_to_merge(tmp_path, capsys):
    assert command_line.main(["merge", str(tmp_path), "-o", str(tmp_path / "all")]) == 1
    assert "contains no results" in capsys.readouterr().err


def test_no_sandbox_no_grading(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "Judge", HelplessJudge)
    a_template(tmp_path / "ada")
    assert command_line.main(["grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades")]) == 1
    said = capsys.readouterr().err
    assert "landlock: is not available" in said and "--unsafe" in said and not (tmp_path / "grades").exists()
    args = command_line.parser().parse_args(["grade", str(tmp_path / "ada"), "--unsafe"])
    judges = grade.Judges(HelplessJudge)
    assert commands._level(args, judges) == "none"
    with pytest.raises(judge.JudgeError, match="no sandbox works on this machine; landlock: is not available"):
        monkeypatch.setattr(grade, "Judges", lambda: judges)
        grade.grade_one(tmp_path / "ada", "ada")


class HelplessJudge:
    """A judge on a machine where no sandbox works."""

    level, weaker = "none", ["landlock: is not available on this machine"]

    def __init__(self, level: str | None = None):
        pass

    def close(self):
        pass


@pytest.mark.slow
def test_a_sandbox_that_does_not_hold(tmp_path, monkeypatch, capsys):
    """The error that the judge process detects is printed as a message."""
    a_template(tmp_path / "ada")
    monkeypatch.setattr(sys, "executable", shim(tmp_path, "sandbox.probe = lambda zygote, level: ['reach a port']"))
    words = ["grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades"), "--sandbox", "landlock"]
    assert command_line.main(words) == 1
    assert "error: --sandbox landlock: lets a submission reach a port" in capsys.readouterr().err


def test_a_zygote_that_does_not_start(tmp_path, monkeypatch, capsys):
    a_template(tmp_path / "ada")
    monkeypatch.setattr(sys, "executable", shim(tmp_path, "kit.make_kit = lambda folder: 1 / 0"))
    assert command_line.main(["grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades")]) == 1
    assert "error: the judge has died: " in capsys.readouterr().err


def test_a_solution_that_is_installed(tmp_path, monkeypatch, capsys):
    a_template(tmp_path / "ada")
    line = f"kit.site.getsitepackages = lambda: [{str(REPOSITORY)!r}]"
    monkeypatch.setattr(sys, "executable", shim(tmp_path, line))
    assert command_line.main(["grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {REPOSITORY}/part1_vae: the solution is installed") and "Traceback" not in said


def shim(folder: Path, line: str) -> str:
    """Return the path of a Python interpreter that runs this line before the judge."""
    folder.joinpath("sitecustomize.py").write_text(f"from staff.grading import {line.partition('.')[0]}\n{line}\n")
    program = folder / "python"
    path, python = shlex.quote(f"{folder}:{REPOSITORY}"), shlex.quote(sys.executable)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {python} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("flags, variables", [(["-O"], {}), (["-OO"], {}), ([], {"PYTHONOPTIMIZE": "1"})])
def test_python_without_asserts_is_refused(tmp_path, flags, variables):
    """Without assert statements, the graded tests would check nothing."""
    a_template(tmp_path / "ada")
    command = [sys.executable, *flags, "-m", "staff", "grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades")]
    environment = {**os.environ, "DGM_DATA_DIR": str(tmp_path), **variables}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and not list(tmp_path.glob("grades/results/*"))
    assert ended.stderr.startswith("error: Python runs with -O or PYTHONOPTIMIZE"), ended.stderr


def test_a_judge_without_asserts_refuses(tmp_path, monkeypatch, capsys):
    """Only the judge process runs the graded tests, so it must check that asserts are enabled."""
    a_template(tmp_path / "ada")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -O "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert command_line.main(["grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades")]) == 1
    assert "error: Python runs with -O" in capsys.readouterr().err


def test_a_folder_without_submissions(tmp_path, capsys):
    assert command_line.main(["grade", str(tmp_path / "nothing"), "-o", str(tmp_path / "grades")]) == 1
    assert str(tmp_path / "nothing") in capsys.readouterr().err


def test_the_job_array_is_a_shell_script_that_says_what_it_needs():
    script = REPOSITORY / "staff" / "grading" / "grade.job"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    ended = subprocess.run(["bash", script], capture_output=True, text=True)
    assert ended.returncode == 2 and "usage: sbatch" in ended.stderr
    environment = {
        "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "10", "SLURM_CPUS_PER_TASK": "4", "PYTHON": "echo",
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    ended = subprocess.run(["bash", script, "class"], capture_output=True, text=True, env=environment)
    assert ended.stdout.strip() == "-m staff grade class -o grades-3 --shard 3/10 -j 4"


@pytest.mark.slow
def test_gradescopes_folder_from_beginning_to_end(tmp_path, level):
    """Unpack the zip, add a submission and start the program as run_autograder does; check points and schema."""
    root = tmp_path / "autograder"
    with zipfile.ZipFile(gradescope.build_autograder(tmp_path / "autograder.zip")) as archive:
        archive.extractall(root / "source")
    solution(root / "submission", kl=("part1_vae/utils.py", KL, "0.5 * (torch.expm1(log_std)"))
    (root / "results").mkdir()
    (root / "submission_metadata.json").write_text(json.dumps({"users": [{"name": "Ada", "email": "ada@uva.nl"}]}))
    command = [sys.executable, "-m", "staff.grading.gradescope", "--root", str(root)]
    process = subprocess.Popen(command, cwd=root / "source", env={**os.environ, "OMP_NUM_THREADS": "1"})
    seen = set()
    while process.poll() is None:
        time.sleep(0.1)
        if (root / "results" / "results.json").exists():
            content = json.loads((root / "results" / "results.json").read_text())
            assert gradescope.check(content) == []
            seen.add(content["score"])
    assert process.returncode == 0 and len(seen) > 5, "results.json fills up during grading"
    content = json.loads((root / "results" / "results.json").read_text())
    assert 20 < content["score"] < 24
    hidden = [test.name for test in release.read_course().tests if test.hidden]
    assert not [name for name in hidden if name in json.dumps(content)]
    assert "the standard deviation is used where the variance belongs" in json.dumps(content)


def test_the_programs_start_without_pytorch():
    code = "import sys; from staff import __main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
