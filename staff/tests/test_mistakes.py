"""Run the graded tests on wrong solutions: each mistake, put into a copy of the parts, must cost its question points.

Each run tests a new sample from each bank; MISTAKES=all in the environment tests all entries.
"""

import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from mistakes import part1, part2, part3
from small_runs import PARTS, REPOSITORY

BANKS = {"part 1": part1, "part 2": part2, "part 3": part3}
# imported once, in the process from which the others are forked
SLOW_IMPORTS = ["torch", "torchvision", "pytorch_lightning", "scipy.stats", "pytest", "tensorboard"]


def judge(folder: Path, entry: tuple[str, tuple]) -> tuple[str, list[str]]:
    """Run the question's graded tests on a copy of the parts that contains the mistake; needs a separate process.

    Returns:
        the name of the mistake, and the messages from the failed tests.
    """
    import torch

    (name, (question, file, right, wrong, *_)), answers = entry, os.environ.get("ANSWERS")
    folder = folder / re.sub(r"\W", "_", f"{question} {name}")
    for part in ("course", "tests", *PARTS.values(), *([] if answers else ["staff/hidden", "staff/oracles"])):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for shared in ("conftest.py", "setup.cfg", *([] if answers else ["staff/__init__.py"])):
        shutil.copy(REPOSITORY / shared, folder / shared)
    if answers:  # as in the students' repository
        shutil.copy(answers, folder / "tests" / "answers.npz")
    source = (folder / file).read_text()
    assert source.count(right) == 1, f"{name}: {right!r} occurs {source.count(right)} times in {file}"
    (folder / file).write_text(source.replace(right, wrong))

    torch.set_num_threads(1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    early = [module for module in sys.modules if module.split(".")[0] in ("course", *PARTS.values())]
    assert not early, f"{early} were imported too early, and not from the copy"
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        suites = [str(path) for path in sorted(Path().glob(f"*/**/test_part{question[0]}_*.py"))]
        status = pytest.main(
            ["-q", "-p", "no:cacheprovider", *suites, "--question", question, "--points-json", "points.json"]
        )
    assert status in (0, 1), f"{name}: {out.getvalue()[-3000:]}"
    result = json.loads(Path("points.json").read_text())
    row = result["questions"][question]
    failed = [test["message"] for test in result["tests"] if test["outcome"] != "passed"]
    assert (row["earned"] < row["worth"]) == bool(failed), f"{name}: {row}"
    shutil.rmtree(folder)
    return name, failed


def verdicts(folder: Path, bank: dict) -> dict[str, list[str]]:
    """Return name -> messages from the failed tests, for each entry of the bank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        return dict(pool.imap_unordered(partial(judge, folder), bank.items()))


def sample(bank: dict, size: int, seed: int) -> dict:
    """Return `size` random entries of the bank, or all of them if MISTAKES=all is in the environment."""
    if os.environ.get("MISTAKES") == "all":
        return bank
    names = random.Random(seed).sample(sorted(bank), min(size, len(bank)))
    return {name: bank[name] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("part", BANKS.values(), ids=BANKS)
def test_each_mistake_costs_points(tmp_path, pytestconfig, part):
    bank = sample(part.MISTAKES, 16, pytestconfig.getoption("--seed"))
    found = verdicts(tmp_path, bank)
    missed = [name for name, messages in found.items() if not messages]
    assert not missed, f"{len(missed)} of {len(bank)} wrong solutions lose no points: {missed}"
    phrases = {name: entry[4] for name, entry in bank.items() if len(entry) > 4}
    unnamed = {name: found[name] for name, phrase in phrases.items() if not any(phrase in m for m in found[name])}
    assert not unnamed, f"{len(unnamed)} of {len(phrases)} known mistakes are not named: {unnamed}"


@pytest.mark.slow
@pytest.mark.parametrize("part", BANKS.values(), ids=BANKS)
def test_what_is_no_mistake_costs_none(tmp_path, pytestconfig, part):
    """Test unusual correct solutions and, for each question, a harmless change to a docstring."""
    questions = {entry[0] for entry in part.MISTAKES.values()}
    harmless = {f"Q{each}": (each, "course/files.py", '"""Atomic', '"""The atomic') for each in sorted(questions)}
    found = verdicts(tmp_path, harmless | sample(part.RIGHT, 4, pytestconfig.getoption("--seed")))
    blamed = {name: messages for name, messages in found.items() if messages}
    assert not blamed, f"correct solutions lose points: {blamed}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Return the file with the oracles' answers, as students get it."""
    from staff.release.build import recorded_answers  # imported late: the worker processes must not import course

    file = tmp_path_factory.mktemp("answers") / "answers.npz"
    file.write_bytes(recorded_answers())
    return file


@pytest.mark.slow
@pytest.mark.parametrize("part", BANKS.values(), ids=BANKS)
def test_the_students_own_tests_find_mistakes_too(tmp_path, pytestconfig, part, recorded, monkeypatch):
    """Use the tests without the oracles, as students have them; skip mistakes that only the hidden tests detect."""
    monkeypatch.setenv("ANSWERS", str(recorded))
    seed = pytestconfig.getoption("--seed")
    wrong, right = sample(part.MISTAKES, 10, seed), sample(part.RIGHT, 4, seed)
    found = verdicts(tmp_path, {name: entry for name, entry in wrong.items() if name not in part.HIDDEN_ALONE} | right)
    blamed = {name: found[name] for name in right if found[name]}
    assert not blamed, f"correct solutions lose points: {blamed}"
    missed = [name for name in wrong if name in found and not found[name]]
    assert not missed, f"{len(missed)} of {len(wrong)} wrong solutions lose no points: {missed}"
    phrases = {name: entry[4] for name, entry in wrong.items() if len(entry) > 4 and name in found}
    unnamed = {name: found[name] for name, phrase in phrases.items() if not any(phrase in m for m in found[name])}
    assert not unnamed, f"{len(unnamed)} of {len(phrases)} known mistakes are not named: {unnamed}"


@pytest.mark.slow
def test_fused_attention_earns_nothing(tmp_path):
    """Neither PyTorch's fused attention nor the template's is a valid answer to Q3.2."""
    from staff.release.suites import graded_tests, suites  # imported late: the worker processes must not import course

    bank = {name: entry for name, entry in part3.MISTAKES.items() if entry[4:] == (part3.WRITTEN_OUT,)}
    tests = [test for path in suites(REPOSITORY) for test in graded_tests(path.read_text("utf-8"), path.name)]
    failed = {name: len(messages) for name, messages in verdicts(tmp_path, bank).items()}
    assert len(bank) == 4 and set(failed.values()) == {sum(test.question == "3.2" for test in tests)}, failed


@pytest.mark.parametrize("part", BANKS.values(), ids=BANKS)
def test_each_entry_finds_its_line(part):
    """Check this in a fast test: the slow tests try only a sample, and may miss an outdated entry."""
    for name, (_, file, right, *_) in (part.MISTAKES | part.RIGHT).items():
        found = (REPOSITORY / file).read_text("utf-8").count(right)
        assert found == 1, f"{name}: {right!r} occurs {found} times in {file}"


def test_the_banks_are_large():
    """Many of the mistakes must also be recognised from their results."""
    wrong, right = (
        [entry for bank in BANKS.values() for entry in getattr(bank, of).values()] for of in ("MISTAKES", "RIGHT")
    )
    assert len(wrong) >= 60 and len(right) >= 20
    assert len([entry for entry in wrong if len(entry) > 4]) >= 25
