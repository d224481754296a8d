"""Tests of the advice on what to fix first when a test fails because of a blank that another test checks on its own."""

import json
import shutil
import subprocess
import sys

import pytest

from course import prerequisites
from small_runs import REPOSITORY


def row(name: str, question: str, *needs: str, **fields) -> dict:
    """Return the result of a failed test."""
    given = {"name": name, "question": question, "outcome": "failed", "message": "wrong", "hidden": False}
    return {**given, "needs": list(needs), **fields}


KLD = row("test_kld", "1.7", "KLD", "KLD_per_dim")
FORWARD = row("test_forward", "1.7", "VAE.forward", "KLD", "KLD_per_dim", "elbo_to_bpd")
STOPPED = "Q1.7 is not filled in yet: draw z."


@pytest.mark.parametrize(
    "others, first",
    [
        ([KLD], "test_kld"),
        ([KLD, row("test_bpd", "1.7", "elbo_to_bpd")], "test_bpd"),  # test_bpd needs fewer blanks
        ([{**KLD, "message": STOPPED}], "test_kld"),
        ([{**KLD, "outcome": "passed"}], None),
        ([{**KLD, "hidden": True}], None),  # students do not see hidden tests
        ([row("test_manifold", "1.7", "visualize_manifold")], None),
        ([row("test_sample", "1.8", "KLD")], None),  # a later question
        ([row("test_more", "1.7", *FORWARD["needs"])], None),  # test_more needs the same blanks
        ([row("test_earlier", "1.5", *FORWARD["needs"])], "test_earlier"),
        ([row("test_nothing", "1.7")], None),
    ],
)
def test_which_test_comes_first(others, first):
    lines = prerequisites.first_lines([*others, FORWARD], None)
    assert set(lines) == ({"test_forward"} if first else set())
    assert not first or f"{first} fails too; run: python -m pytest -k {first}" in lines["test_forward"]
    assert "test_forward" not in prerequisites.first_lines([*others, {**FORWARD, "message": STOPPED}], None)


def test_what_a_test_that_passes_needs_is_right():
    passed = row("test_per_dim", "1.7", "KLD_per_dim", outcome="passed")
    line = prerequisites.first_lines([KLD, passed, FORWARD], None)["test_forward"]
    assert line.startswith("first fix KLD, Q1.7: this test needs it, and test_kld fails too")
    every = row("test_all", "1.7", "KLD", "KLD_per_dim", outcome="passed")
    assert "KLD or KLD_per_dim" in prerequisites.first_lines([KLD, every, FORWARD], None)["test_forward"]


def test_the_places_are_named_and_open_blanks_alone(tmp_path):
    (tmp_path / "part1_vae").mkdir()
    file = tmp_path / "part1_vae" / "utils.py"
    blank = "def {}(x):\n    # Q1.7: the divergence.\n    {}\n\n\n"
    filled, left = "return x", 'raise NotImplementedError("Q1.7: the divergence.")'
    file.write_text(blank.format("KLD", filled) + blank.format("KLD_per_dim", filled))
    (line,) = prerequisites.first_lines([KLD, FORWARD], tmp_path).values()
    assert line.startswith("first fix KLD (part1_vae/utils.py:2) or KLD_per_dim (part1_vae/utils.py:7), Q1.7: ")
    file.write_text(blank.format("KLD", filled) + blank.format("KLD_per_dim", left))
    (line,) = prerequisites.first_lines([KLD, FORWARD], tmp_path).values()
    assert line.startswith("first fill in KLD_per_dim (part1_vae/utils.py:8), Q1.7: ")
    file.write_text("def KLD(:")
    (line,) = prerequisites.first_lines([KLD, FORWARD], tmp_path).values()
    assert line.startswith("first fix KLD or KLD_per_dim, Q1.7: ")


def test_a_run_says_what_to_fix_first(tmp_path):
    """KLD is wrong, and therefore the losses of the VAE are wrong too."""
    for name in ("course", "tests", "part1_vae", "staff/oracles"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "setup.cfg", "staff/__init__.py"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    file, right = tmp_path / "part1_vae" / "utils.py", "return KLD_per_dim(mean, log_std).sum(dim=-1)"
    text = file.read_text("utf-8")
    assert right in text
    file.write_text(text.replace(right, "return 7 * KLD_per_dim(mean, log_std).sum(dim=-1)"), "utf-8")
    suites = ["tests/test_part1_vae.py", "tests/test_part1_formulas.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--points-json", "p.json"]
    ended = subprocess.run([*command, *suites], cwd=tmp_path, capture_output=True, text=True)
    tests = {test["name"]: test for test in json.loads((tmp_path / "p.json").read_text())["tests"]}
    message = tests["test_vae_forward_losses"]["message"]
    line = 1 + text[: text.index("# Q1.7: combine")].count("\n")
    assert message.startswith(f"first fix KLD (part1_vae/utils.py:{line}) or KLD_per_dim (part1_vae/utils.py:")
    assert "\nL_reg of VAE.forward is wrong: it is 7 times the expected value" in message
    assert message in ended.stdout and "needs" not in tests["test_kld_values"]
    assert tests["test_kld_values"]["message"].startswith("KLD of mean and log_std")
