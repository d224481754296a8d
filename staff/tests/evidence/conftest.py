"""Fixtures for submitted runs and the process that judges them."""

import hashlib
import shutil
from functools import cache, partial
from pathlib import Path
from unittest import mock

import pytest
from evidence_cases import judge_one
from PIL import Image

from small_runs import PARTS, REPOSITORY, Program
from staff.grading import sandbox
from staff.grading.inside.sandbox import Limits


@pytest.fixture(scope="module")
def logs(mnist_files, tmp_path_factory) -> Path:
    """Train a VAE for 3 epochs, and an autoencoder and an adversarial autoencoder for 1 epoch each; return the logs."""
    folder = tmp_path_factory.mktemp("runs") / "logs"
    longer = ["--batch_size", "128", "--limit_batches", "12"]
    for name, flags, epochs in [
        ("vae", ["--lr", "0.01"], 3),
        ("aae", ["--lambda_", "1"], 1),
        ("aae", ["--lambda_", "0.995"], 1),
    ]:
        program = Program(name, mnist_files, folder)
        program.pictures = False
        assert program(*longer, "--epochs", str(epochs), *flags) == 0
        newest = max((folder / name).iterdir())
        for figure in (f"{what}_epoch_{epoch:03d}" for what in ("samples", "reconstructions") for epoch in (0, epochs)):
            Image.new("L", (8, 8)).save(newest / "figures" / f"{figure}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def secrets_are_remembered():
    """Cache PBKDF2, which is slow by design, to make the tests faster."""
    with mock.patch.object(hashlib, "pbkdf2_hmac", cache(hashlib.pbkdf2_hmac)):
        yield


@pytest.fixture
def staged(tmp_path, logs) -> Path:
    """Return a submission with the correct solutions to parts 1 and 2 and with the runs in `logs`."""
    root = tmp_path.resolve() / "submission"
    for part in (PARTS["vae"], PARTS["aae"]):
        shutil.copytree(REPOSITORY / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(logs, root / "logs")
    return root


@pytest.fixture
def open_child(zygote, level, staged):
    return lambda seconds: sandbox.Child(zygote, level, staged, Limits(cpu_seconds=seconds))


@pytest.fixture
def judge(open_child, staged):
    """Return a function: judge(what, flags of the run, full=...) -> one rule's row for the staged submission."""
    return partial(judge_one, staged, open_child)
