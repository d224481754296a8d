"""The grader's core: what passes between the processes, the sandbox's levels, a class, going on, shards."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch

from course import rubric
from small_runs import PARTS, REPOSITORY
from staff import __main__ as command_line
from staff.grading import archives, children, commands, grade, gradescope, judge
from staff.grading.inside import wire
from staff.grading.inside.sandbox import Limits
from staff.release import build as release

KL = "0.5 * (torch.expm1(2 * log_std)"


def solution(folder: Path, **changes: tuple[str, str, str]) -> Path:
    """A copy of the parts; changes: file, old, new."""
    for part in PARTS.values():
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in changes.values():
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
    return folder


@cache
def released() -> release.Files:
    return release.contents(release.read_course(), "2026")


def a_template(folder: Path) -> Path:
    """What a student has who has done nothing: quickly judged."""
    for file, content in released().items():
        if file.split("/")[0] in PARTS.values():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
    return folder


def points(result: dict) -> float:
    return sum(question["automatic"] for question in result["questions"].values())


# --- the wire ---------------------------------------------------------------------------------------------------------


def test_what_is_sent_arrives():
    tensors = [torch.arange(6).view(2, 3), torch.randn(2, 0, 3), torch.tensor(1.5), torch.tensor([True, False])]
    tensors += [torch.randn(3).to(dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)]
    value = {"a": [1, "two", None, True, 2.5, (3, 4)], "t": tensors, "inf": float("inf"), "strided": torch.eye(3)[:, 1]}
    message = wire.encode(value)
    text, blob = wire.HEADER.unpack(message[: wire.HEADER.size])
    body = message[wire.HEADER.size :]
    back = wire.decode(body[:text], body[text : text + blob])
    assert back["a"] == value["a"] and back["inf"] == value["inf"] and type(back["a"][5]) is tuple
    for one, other in zip([*back["t"], back["strided"]], [*tensors, value["strided"]], strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert wire.decode(*_message(float("nan"))) != 0


def _message(value) -> tuple[bytes, bytes]:
    message = wire.encode(value)
    size, _ = wire.HEADER.unpack(message[: wire.HEADER.size])
    return message[wire.HEADER.size :][:size], message[wire.HEADER.size + size :]


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {3}}, torch.ones(2, dtype=torch.complex64), b"bytes"])
def test_what_may_not_be_sent(value):
    with pytest.raises(wire.WireError):
        wire.encode(value)


@pytest.mark.parametrize(
    "text, blob",
    [
        (b"{", b""),
        (b"[1, 2]", b""),
        (b"NaN", b""),
        (b'{"float": "x"}', b""),
        (b'{"tensor": ["float32", [2]]}', b"\0" * 7),
        (b'{"tensor": ["float32", [1]]}', b"\0" * 8),
        (b'{"tensor": ["float32", [-1]]}', b""),
        (b'{"tensor": ["float32", [1.0]]}', b"\0" * 4),
        (b'{"tensor": ["float32", [true]]}', b"\0" * 4),
        (b'{"tensor": ["object", [1]]}', b"\0" * 8),
        (b'{"tensor": ["uint8", [1000000000000, 0]]}', b""),
        (b'{"tensor": ["uint8", [1, 1, 1, 1, 1, 1, 1, 1, 1]]}', b"\0"),
        (b'{"list": 1}', b""),
        (b'{"dict": [1]}', b""),
        (b'{"pickle": "x"}', b""),
        (b'{"list": [], "tuple": []}', b""),
        (b'{"list": [' * 100_000, b""),
        (b"1" * 5000, b""),
        (b"\xff", b""),
    ],
)
def test_what_is_no_message_is_refused(text, blob):
    with pytest.raises(wire.WireError):
        wire.decode(text, blob)


def test_a_byte_that_is_no_truth_value():
    found = wire.decode(b'{"tensor": ["bool", [3]]}', bytes([0, 1, 7]))
    assert found.view(torch.uint8).tolist() == [0, 1, 1]


# --- the sandbox and the judge --------------------------------------------------------------------------------------


def test_the_levels_hold_or_cannot_be_had(zygote):
    found = {level: children.probe(zygote, level) for level in ("namespaces", "landlock", "user", "none")}
    for level in ("namespaces", "landlock"):
        assert found[level] in ([], None), f"{level} lets a submission {found[level]}"
    # where this repository is open to all users, as a clone is
    assert found["user"] in ([], None, ["read the tests or the solution"]), found["user"]
    for what in ("read a file outside", "read the tests or the solution", "start a process"):
        assert what in found["none"], "the probe sees what is open"
    level, weaker = children.strongest(zygote)
    assert level == next((name for name, possible in found.items() if possible == []), "none")


@pytest.fixture(scope="module")
def judges(level):
    judges = grade.Judges()
    yield judges
    judges.close()


@pytest.fixture
def class_(tmp_path, level) -> grade.Class:
    limits = Limits(cpu_seconds=61)
    return grade.Class(tmp_path / "grades", rubric.read(), judge.Rules(level, 60, limits), seed=1)


@pytest.mark.slow
def test_a_class_is_graded_once(class_, judges, tmp_path):
    right = archives.Submission("ada", solution(tmp_path / "ada"))
    wrong = solution(tmp_path / "bob", kl=("part1_vae/utils.py", KL, "0.5 * (torch.expm1(log_std)"))
    progress: list[int] = []
    result = class_.grade(right, judges, lambda so_far: progress.append(len(so_far["tests"])))
    assert points(result) == 24 and result["sandbox"] == class_.rules.level and progress == list(range(1, 58))
    assert json.loads(class_.result_file("ada").read_text()) == result
    assert class_.grade(right, judges) is None, "it is there already"
    result = class_.grade(archives.Submission("bob", wrong), judges)
    failed = {test["name"]: test for test in result["tests"] if test["outcome"] == "failed"}
    assert {"test_kld_values", "test_kld_gradients"} <= set(failed) and 20 < points(result) < 24
    assert "the variance is exp(2 log_std), not exp(log_std)" in failed["test_kld_values"]["message"]
    # something has changed: the submission, what it is judged with, or somebody wants it
    (right.source / "part1_vae" / "utils.py").write_text("raise ValueError('half done')\n")
    result = class_.grade(right, judges)
    assert points(result) == 16 and "ValueError: half done" in result["tests"][0]["message"]
    assert "part1_vae/utils.py:1" in result["tests"][0]["message"]
    assert class_.grade(right, judges) is None
    assert dataclasses.replace(class_, with_these="others").is_done("ada", result["sha256"]) is False
    class_.forget([right])
    class_.seed = None
    again = class_.grade(right, judges)
    assert again["seed"] == class_.seed_of(again["sha256"]), "the seed stands in the result"


def test_judged_again_it_gets_the_same_inputs(class_, tmp_path):
    """On any machine; others for another submission, other tests, or a seed that somebody wants."""
    same = dataclasses.replace(class_, seed=None, out=tmp_path / "elsewhere")
    again = dataclasses.replace(same, out=tmp_path / "here")
    assert same.seed_of("0" * 64) == again.seed_of("0" * 64)
    others = [same.seed_of("1" * 64), dataclasses.replace(same, with_these="others").seed_of("0" * 64)]
    assert len({same.seed_of("0" * 64), *others}) == 3 and all(0 <= seed < 2**31 for seed in others)
    assert class_.seed_of("0" * 64) == class_.seed_of("1" * 64) == class_.seed == 1


@pytest.mark.slow
def test_a_submission_that_never_ends(class_, judges, tmp_path):
    slow = solution(
        tmp_path / "slow",
        loop=("part1_vae/utils.py", "    return KLD_per_dim", "    while True: pass\n    return KLD_per_dim"),
    )
    class_.rules = dataclasses.replace(class_.rules, seconds_per_question=12)
    began = time.monotonic()
    result = class_.grade(archives.Submission("slow", slow), judges)
    assert time.monotonic() - began < 300
    messages = {test["name"]: test["message"] for test in result["tests"] if test["outcome"] == "failed"}
    assert "endless loop" in messages["test_kld_values"] and "no time is left" in messages["test_bpd"]
    assert result["questions"]["2.5"]["automatic"] == 4 and result["questions"]["1.9"]["automatic"] == 2


def test_one_that_cannot_be_staged(class_, judges, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    result = class_.grade(archives.Submission("broken", tmp_path / "broken.zip"), judges)
    assert result["status"] == "failed" and result["problem"] and points(result) == 0
    assert class_.grade(archives.Submission("broken", tmp_path / "broken.zip"), judges), "what failed is tried again"


@pytest.mark.slow
def test_a_rule_that_costs_points(class_, judges, tmp_path):
    imports = ("part1_vae/utils.py", "import torch\n", "import torch\nfrom torch.distributions import Normal\n")
    user = archives.Submission("user", solution(tmp_path / "user", imports=imports))
    result = class_.grade(user, judges)
    (found,) = result["forbidden"]
    assert (found["file"], found["name"]) == ("part1_vae/utils.py", "torch.distributions") and found["line"] > 1
    assert points(result) == 24, "the rubric takes no points off"
    rules = [dataclasses.replace(rule, question="1.7", deduct=3.0) for rule in class_.rubric.forbidden]
    class_.rubric = dataclasses.replace(class_.rubric, forbidden=rules)
    class_.forget([user])
    assert class_.grade(user, judges)["questions"]["1.7"]["automatic"] == 5


@pytest.mark.slow
def test_what_the_syntax_tree_hides_is_noticed_while_it_runs(class_, judges, tmp_path):
    hidden = "__import__('torch.distri' + 'butions', fromlist=['x'])"
    normal = f"return {hidden}.Normal(mean, std).rsample()"
    draws = ("part1_vae/utils.py", "return mean + std * torch.randn_like(mean)", normal)
    fused = (
        "part3_gpt/gpt.py",
        "        return weights @ v\n",
        "        return getattr(F, 'scaled_dot_' + 'product_attention')(q, k, v)\n",
    )
    result = class_.grade(archives.Submission("sly", solution(tmp_path / "sly", draws=draws, fused=fused)), judges)
    found = {(each["file"], each["name"]) for each in result["forbidden"]}
    assert ("part1_vae/utils.py", "torch.distributions") in found
    assert ("part3_gpt/gpt.py", "torch.nn.functional.scaled_dot_product_attention") in found
    text = (tmp_path / "sly" / "part1_vae" / "utils.py").read_text().splitlines()
    lines = [each["line"] for each in result["forbidden"] if each["file"] == "part1_vae/utils.py"]
    assert all("rsample" in text[line - 1] for line in lines)
    honest = class_.grade(archives.Submission("honest", solution(tmp_path / "honest")), judges)
    assert honest["forbidden"] == [], "the provided fused_attention is allowed, and PyTorch's own uses do not count"


class DyingJudge:
    """Dies as often as it is asked."""

    def __init__(self, level: str):
        self.level, self.process = level, subprocess.Popen(["sleep", "100"])

    def judge(self, *_):
        raise judge.JudgeError("it died")

    def close(self):
        self.process.kill()
        self.process.wait()


def test_a_judge_that_dies_is_the_staffs_problem(class_, tmp_path):
    made: list[DyingJudge] = []
    judges = grade.Judges(lambda: made.append(DyingJudge(class_.rules.level)) or made[-1])
    result = class_.grade(archives.Submission("ada", a_template(tmp_path / "ada")), judges)
    assert result["status"] == "failed" and result["problem"] == "the grader failed: it died" and points(result) == 0
    assert len(made) == 2, "a second one was tried"
    judges.close()


class StandInJudge:
    """Answers until it is told to fail."""

    def __init__(self):
        self.is_open = True

    def close(self):
        self.is_open = False


def test_a_judge_that_failed_ends_with_the_last_who_asks_it():
    """Who asked it something at the same time gets an answer; who asks next asks another one."""
    judges = grade.Judges(StandInJudge)
    with judges.borrowed() as neighbours:
        with pytest.raises(judge.JudgeError), judges.borrowed() as mine:
            raise judge.JudgeError("it failed")
        assert mine is neighbours and mine.is_open
        with judges.borrowed() as another:
            assert another is not mine
    assert not mine.is_open and another.is_open
    with judges.borrowed() as same:
        assert same is another
    judges.close()
    assert not another.is_open
    with pytest.raises(RuntimeError, match="closed"):
        judges.current()


def test_what_makes_forks_cheap_changes_nothing():
    code = (
        "import gc, os; gc.disable(); from staff.grading.inside import kernel;"
        " numbers = [bytes([i % 256]) * 99_999 for i in range(500)];"
        " kernel.prepare_to_fork(); assert gc.get_freeze_count() > 1000 and gc.isenabled();"
        " assert numbers == [bytes([i % 256]) * 99_999 for i in range(500)];"
        " pid = os.fork() or os._exit(numbers[77][5]); assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 77"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


# --- the command line -------------------------------------------------------------------------------------------------


def test_shards_together_are_all_of_them():
    students = [f"s{number}" for number in range(11)]
    for of in (1, 3, 10, 20):
        parts = [grade.shard(students, number, of) for number in range(1, of + 1)]
        assert sorted(sum(parts, [])) == sorted(students)


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
    """A process that has nothing to do with it."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def quick_judge(zygote, tmp_path, monkeypatch):
    """Judge processes have the tests of part 1 alone, and fork submissions' processes from the zygote that is here."""
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
suites.suites = lambda folder: every(folder)[:1]
"""


@pytest.mark.usefixtures("level", "quick_judge")
def test_an_honest_and_a_hostile_submission_in_part_1(tmp_path, level, bystander, capsys):
    an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys, at_a_time="1")


@pytest.mark.slow
def test_an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys):
    words = an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys, at_a_time="2")
    assert command_line.main(words) == 0
    assert "2 there already" in capsys.readouterr().out


def an_honest_and_a_hostile_submission(tmp_path, level, bystander, capsys, at_a_time: str) -> list[str]:
    """From the command line, in the strongest sandbox there is."""
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
        (tmp_path / "class" / "notes.txt").write_text("no submission")
        words = ["grade", str(tmp_path / "class"), "-o", str(tmp_path / "grades"), "-j", at_a_time]
        assert command_line.main(words) == 0
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert bystander.poll() is None
    said = capsys.readouterr()
    assert "notes.txt: is neither a folder nor an archive" in said.err and f"sandbox: {level}\n" in said.err
    assert (tmp_path / "canary").read_text() == "sings"
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "grades" / "results").iterdir()}
    assert {each["status"] for each in results.values()} == {"graded"} and points(results["eve"]) == 0
    tests = {test["name"]: test for test in results["ada"]["tests"]}
    assert tests["test_bpd"]["outcome"] == "passed" and points(results["ada"]) > 0
    assert "the variance is exp(2 log_std), not exp(log_std)" in tests["test_kld_values"]["message"]
    rows = (tmp_path / "grades" / "grades.csv").read_text("utf-8-sig").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["ada", "eve"]
    return words


@pytest.mark.slow
def test_a_class_on_the_command_line(tmp_path, level, capsys):
    for name in ("ada", "bob"):
        a_template(tmp_path / "class" / name)
    (tmp_path / "class" / "notes.txt").write_text("no submission")
    words = ["grade", str(tmp_path / "class"), "--seconds", "20", "-j", "1"]
    for number in (1, 2):
        assert command_line.main([*words, "-o", str(tmp_path / f"grades-{number}"), "--shard", f"{number}/2"]) == 0
    assert "notes.txt: is neither a folder nor an archive" in capsys.readouterr().err
    shards = [str(tmp_path / f"grades-{number}") for number in (1, 2)]
    out = tmp_path / "grades"
    assert command_line.main(["merge", *shards, "-o", str(out)]) == 0
    rows = (out / "grades.csv").read_text("utf-8-sig").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["ada", "bob"]
    assert {path.name for path in (out / "feedback").iterdir()} == {"ada.md", "ada.html", "bob.md", "bob.html"}
    assert "Q1.7 is not filled in yet" in (out / "feedback" / "ada.md").read_text()
    assert command_line.main([*words, "-o", str(out)]) == 0
    assert "2 there already" in capsys.readouterr().out


def test_two_results_of_a_student_that_differ(tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / str(number) / "results").mkdir(parents=True)
        (tmp_path / str(number) / "results" / "ada.json").write_text(str(number))
    assert command_line.main(["merge", str(tmp_path / "1"), str(tmp_path / "2"), "-o", str(tmp_path / "all")]) == 1
    assert "two results of the same student that differ" in capsys.readouterr().err
    assert command_line.main(["merge", str(tmp_path), "-o", str(tmp_path / "all")]) == 1
    assert "no results in there" in capsys.readouterr().err


def test_no_sandbox_no_grading(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(judge, "Judge", HelplessJudge)
    a_template(tmp_path / "ada")
    assert command_line.main(["grade", str(tmp_path / "ada"), "-o", str(tmp_path / "grades")]) == 1
    said = capsys.readouterr().err
    assert "landlock: cannot be had here" in said and "--unsafe" in said and not (tmp_path / "grades").exists()
    args = command_line.parser().parse_args(["grade", str(tmp_path / "ada"), "--unsafe"])
    judges = grade.Judges(HelplessJudge)
    assert commands._level(args, judges) == "none"
    with pytest.raises(judge.JudgeError, match="no sandbox holds on this machine; landlock: cannot be had here"):
        monkeypatch.setattr(grade, "Judges", lambda: judges)
        grade.grade_one(tmp_path / "ada", "ada")


class HelplessJudge:
    """On a machine where no sandbox holds."""

    level, weaker = "none", ["landlock: cannot be had here"]

    def __init__(self, level: str | None = None):
        pass

    def close(self):
        pass


@pytest.mark.slow
def test_a_sandbox_that_does_not_hold(tmp_path, monkeypatch, capsys):
    """What the judge process finds out arrives as a message."""
    a_template(tmp_path / "ada")
    monkeypatch.setattr(sys, "executable", shim(tmp_path, "children.probe = lambda zygote, level: ['reach a port']"))
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
    """An interpreter that does this line before it runs the judge."""
    folder.joinpath("sitecustomize.py").write_text(f"from staff.grading import {line.partition('.')[0]}\n{line}\n")
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={folder}:{REPOSITORY} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return str(program)


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
    """The zip unpacked, a submission laid down, the program run as run_autograder does: the points, in the schema."""
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
    assert process.returncode == 0 and len(seen) > 5, "it fills while it is graded"
    content = json.loads((root / "results" / "results.json").read_text())
    assert 20 < content["score"] < 24
    hidden = [test.name for test in release.read_course().tests if test.hidden]
    assert not [name for name in hidden if name in json.dumps(content)]
    assert "the variance is exp(2 log_std)" in json.dumps(content)


def test_the_programs_start_without_pytorch():
    code = "import sys; from staff import __main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
