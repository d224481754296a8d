"""Tests of the sandbox and the judge."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest
from grading_cases import KL, a_template, points, solution

from course import rubric
from small_runs import REPOSITORY
from staff.grading import archives, grade, judge, sandbox
from staff.grading.inside.sandbox import Limits

# --- the sandbox and the judge --------------------------------------------------------------------------------------


def test_the_levels_hold_or_cannot_be_had(zygote):
    found = {level: sandbox.probe(zygote, level) for level in ("namespaces", "landlock", "user", "none")}
    for level in ("namespaces", "landlock"):
        assert found[level] in ([], None), f"{level} lets a submission {found[level]}"
    # a clone of this repository is usually readable by all users
    assert found["user"] in ([], None, ["read the tests or the solution"]), found["user"]
    for what in ("read a file outside", "read the tests or the solution", "start a process"):
        assert what in found["none"], "the probe must find what a weaker sandbox allows"
    level, weaker = sandbox.strongest(zygote)
    assert level == next((name for name, possible in found.items() if possible == []), "none")


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
    assert class_.grade(right, judges) is None, "the result already exists"
    result = class_.grade(archives.Submission("bob", wrong), judges)
    failed = {test["name"]: test for test in result["tests"] if test["outcome"] == "failed"}
    assert {"test_kld_values", "test_kld_gradients"} <= set(failed) and 20 < points(result) < 24
    assert "the standard deviation is used where the variance belongs" in failed["test_kld_values"]["message"]
    assert failed["test_vae_forward_losses"]["message"].startswith("first fix KLD or KLD_per_dim, Q1.7: ")
    # a submission is judged again if it or its tests have changed, or on request
    (right.source / "part1_vae" / "utils.py").write_text("raise ValueError('half done')\n")
    result = class_.grade(right, judges)
    assert points(result) == 16 and "ValueError: half done" in result["tests"][0]["message"]
    assert "part1_vae/utils.py:1" in result["tests"][0]["message"]
    assert class_.grade(right, judges) is None
    assert dataclasses.replace(class_, with_these="others").is_done("ada", result["sha256"]) is False
    class_.forget([right])
    class_.seed = None
    again = class_.grade(right, judges)
    assert again["seed"] == class_.seed_of(again["sha256"]), "the result must contain the seed"


def test_judged_again_it_gets_the_same_inputs(class_, tmp_path):
    """The seed is the same on any machine; another submission, other tests or an explicit seed change it."""
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
    assert "infinite loop" in messages["test_kld_values"] and "no time is left" in messages["test_bpd"]
    assert result["questions"]["2.5"]["automatic"] == 4 and result["questions"]["1.9"]["automatic"] == 2


def test_one_that_cannot_be_staged(class_, judges, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    result = class_.grade(archives.Submission("broken", tmp_path / "broken.zip"), judges)
    assert result["status"] == "unreadable" and result["problem"] and points(result) == 0
    assert class_.grade(archives.Submission("broken", tmp_path / "broken.zip"), judges), "a failure is judged again"


@pytest.mark.slow
def test_a_rule_that_costs_points(class_, judges, tmp_path):
    imports = ("part1_vae/utils.py", "import torch\n", "import torch\nfrom torch.distributions import Normal\n")
    user = archives.Submission("user", solution(tmp_path / "user", imports=imports))
    result = class_.grade(user, judges)
    (found,) = result["forbidden"]
    assert (found["file"], found["name"]) == ("part1_vae/utils.py", "torch.distributions") and found["line"] > 1
    assert points(result) == 24, "the rubric does not subtract points"
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
    """A judge that dies on every request."""

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
    assert len(made) == 2, "a second judge was tried"
    judges.close()


class StandInJudge:
    """A judge that only records whether it is open."""

    def __init__(self):
        self.is_open = True

    def close(self):
        self.is_open = False


def test_a_judge_that_failed_ends_with_the_last_who_asks_it():
    """Callers that are already using the judge may finish; the next caller gets another one."""
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
    with pytest.raises(grade.Closed, match="closed"):
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
