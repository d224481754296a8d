"""The graded tests against wrong solutions: each mistake, put into a copy of the parts, costs its question points.

A run judges a sample of each bank, another one each time; MISTAKES=all in the environment judges them all.
"""

import contextlib
import io
import multiprocessing
import os
import random
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

import mistakes_part1
import mistakes_part2
import mistakes_part3
from small_runs import PARTS, REPOSITORY

# imported once, in the process that the others are forked from
SLOW_IMPORTS = ["torch", "torchvision", "pytorch_lightning", "scipy.stats", "pytest", "tensorboard"]


def caught(folder: Path, mistake: tuple[str, tuple[str, str, str, str]]) -> tuple[str, bool]:
    """Run in a process of its own: the graded tests of the question, on a copy of the parts with the mistake in it.

    Returns:
        the mistake's name, and whether a test failed.
    """
    import torch

    name, (question, file, right, wrong) = mistake
    folder = folder / re.sub(r"\W", "_", name)
    for part in ("course", "tests", *PARTS.values()):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "staff"))
    shutil.copy(REPOSITORY / "setup.cfg", folder)
    source = (folder / file).read_text()
    assert source.count(right) == 1, f"{name}: {right!r} stands {source.count(right)} times in {file}"
    (folder / file).write_text(source.replace(right, wrong))

    torch.set_num_threads(1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    early = [module for module in sys.modules if module.split(".")[0] in ("course", *PARTS.values())]
    assert not early, f"{early} have been imported already, and not from the copy"
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--question", question])
    assert status in (0, 1), f"{name}: {out.getvalue()[-3000:]}"
    return name, status == 1


def verdicts(folder: Path, bank: dict) -> dict[str, bool]:
    """Name -> whether it was caught, for each mistake of the bank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        return dict(pool.imap_unordered(partial(caught, folder), bank.items()))


def sample(bank: dict, size: int, seed: int) -> dict:
    """So many of the bank, drawn with the seed; all of it where the environment says so."""
    if os.environ.get("MISTAKES") == "all":
        return bank
    names = random.Random(seed).sample(sorted(bank), min(size, len(bank)))
    return {name: bank[name] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("part", [mistakes_part1, mistakes_part2, mistakes_part3], ids=["part 1", "part 2", "part 3"])
def test_each_mistake_costs_points(tmp_path, pytestconfig, part):
    bank = sample(part.MISTAKES, 25, pytestconfig.getoption("--seed"))
    missed = [name for name, found in verdicts(tmp_path, bank).items() if not found]
    assert not missed, f"{len(missed)} of {len(bank)} wrong solutions lose no point: {missed}"


@pytest.mark.slow
def test_what_is_no_mistake_costs_none(tmp_path, pytestconfig):
    """The way that the mistakes are judged lets right solutions pass, and so do the tests."""
    harmless = {
        f"question {question}": (question, "course/files.py", '"""Files', '"""The files')
        for question in ("1.7", "1.8", "1.9", "2.4", "2.5", "3.2", "3.3")
    }
    right = harmless | sample(mistakes_part3.RIGHT, 4, pytestconfig.getoption("--seed"))
    blamed = [name for name, found in verdicts(tmp_path, right).items() if found]
    assert not blamed, f"right solutions lose points: {blamed}"
