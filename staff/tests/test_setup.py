"""Setting up: the Makefile's environment, what a Python without PyTorch is told, and the supported versions."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

from small_runs import PARTS, REPOSITORY

PYTHON = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A checkout as far as `make setup` looks at it, in a folder whose name has a space."""
    folder = tmp_path / "my practical"
    folder.mkdir()
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def make_setup(folder: Path) -> list[str]:
    """`make setup` with a stand-in for Python; returns the words with which it was called."""
    log, python = folder.parent / "log.txt", folder.parent / "python"
    log.write_text("")
    python.write_text(PYTHON.format(log=log))
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "setup", f"PYTHON='{python}'"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in log.read_text().splitlines() if line.startswith("-m")]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_folder_that_was_moved_gets_a_new_environment(folder):
    assert make_setup(folder)[0] == "-m venv .venv"
    assert make_setup(folder) == [], "there is nothing to do"
    moved = folder.rename(folder.with_name("another folder"))
    venv, pip = make_setup(moved)
    assert venv == "-m venv --clear .venv" and pip.startswith("-m pip install")
    assert make_setup(moved) == []
    (moved / ".venv" / "installed").write_text("")  # as it was before it held the folder
    assert make_setup(moved) == []


COMMANDS = ["-m course", "part3_gpt/generate.py", *(f"{part}/train.py" for part in PARTS.values())]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_python_without_pytorch_is_told_what_to_do(command):
    words = [str(REPOSITORY / word) if word.endswith(".py") else word for word in command.split()]
    done = subprocess.run([sys.executable, "-S", *words], cwd=REPOSITORY, env={}, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and f"PyTorch is not installed for {sys.executable}" in line
    assert "make setup" in line and "source .venv/bin/activate" in line


def test_the_supported_versions_are_the_same_everywhere():
    """Python 3.10 is at its end of life; TensorBoard before 2.21 needs what current setuptools no longer has."""
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    assert config["options"]["python_requires"] == ">=3.11"
    assert "tensorboard>=2.21" in config["options"]["install_requires"].split()
    assert tomllib.loads((REPOSITORY / "ruff.toml").read_text())["target-version"] == "py311"
    for name in ("README.md", "template/README.md"):
        assert "Python 3.11 to 3.14" in (REPOSITORY / name).read_text(), name
    assert "sys.version_info < (3, 11)" in (REPOSITORY / "Makefile").read_text()
    assert not re.search(r"python_version", (REPOSITORY / "constraints.txt").read_text())
