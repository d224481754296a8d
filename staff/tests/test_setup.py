"""Tests of the setup: the Makefile's environment, messages for a Python without PyTorch, and supported versions."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from course import tasks, without_pytorch
from course.__main__ import main
from small_runs import PARTS, REPOSITORY

PIP = "-m pip install --disable-pip-version-check -e .[dev] -c constraints.txt"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a checkout with the files that the setup needs, in a folder with a space and an umlaut in its name."""
    folder = tmp_path / "mein Übungsblatt"
    shutil.copytree(REPOSITORY / "course", folder / "course", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", *tasks.DESCRIPTIONS):
        shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture
def setup(monkeypatch):
    """Return a function: setup(folder) -> the commands that Python would run; only the marker file is written."""

    def setup(folder: Path, fails: str = "", **flags) -> list[str]:
        calls = []

        def run(command, cwd, env):
            assert cwd == folder
            calls.append(" ".join(map(str, command)).replace(f"{sys.executable} ", ""))
            (folder / ".venv").mkdir(exist_ok=True)
            return subprocess.CompletedProcess(command, 1 if fails and fails in command else 0)

        for name, place in {"REPOSITORY": ".", "ENVIRONMENT": ".venv", "INSTALLED": ".venv/installed"}.items():
            monkeypatch.setattr(tasks, name, folder / place)
        monkeypatch.setattr(tasks, "subprocess", SimpleNamespace(run=run))
        try:
            tasks.setup(**flags)
        except SystemExit as end:
            calls.append(f"exit {end.code}")
        return [call.replace(f"{folder}/.venv/bin/python ", "") for call in calls]

    return setup


def test_make_clean_keeps_data_runs_and_a_release(folder):
    kept = ["data/MNIST/raw/x", "logs/vae/version_0/summary.json", "build/release/.git/HEAD", "part1_vae/train.py"]
    removed = [".venv/bin/python", "build/handout/index.html", "build/autograder.zip", "course/__pycache__/x.pyc"]
    for name in [*kept, *removed]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for _ in range(2):  # the second time, there is less to remove
        subprocess.run(["make", "-s", "clean"], cwd=folder, check=True)
    assert [name for name in [*kept, *removed] if (folder / name).exists()] == kept


def test_a_release_goes_where_it_is_asked_for(folder):
    """`make release` accepts a path that contains a space."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\n')
    python.chmod(0o755)
    command = ["make", "-s", "release", "PYTHON=true", "OUT=my dir/x", "EDITION=2027"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert made.stdout.split("\n")[-6:] == ["<staff>", "<release>", "<my dir/x>", "<--edition>", "<2027>", ""]


def test_a_folder_that_was_moved_gets_a_new_environment(folder, setup):
    assert setup(folder) == ["-m venv .venv", PIP]
    assert setup(folder) == [], "there is nothing to do"
    moved = folder.rename(folder.with_name("another folder"))
    assert setup(moved) == ["-m venv --clear .venv", PIP]
    assert setup(moved) == []
    (moved / ".venv" / "installed").write_text("")  # earlier versions left the file empty
    assert setup(moved) == []


def test_what_failed_or_changed_is_installed_again(folder, setup):
    assert setup(folder, fails="pip") == ["-m venv .venv", PIP, "exit 1"]
    assert setup(folder, fails="venv") == ["-m venv .venv", "exit 1"]
    assert setup(folder) == ["-m venv .venv", PIP]
    later = (folder / ".venv" / "installed").stat().st_mtime + 1
    os.utime(folder / "constraints.txt", (later, later))
    assert setup(folder) == ["-m venv .venv", PIP]


def test_an_environment_does_not_clear_itself(folder, setup, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(folder / ".venv"))
    assert setup(folder) == [PIP]
    monkeypatch.setattr(sys, "prefix", str(folder.with_name("another folder") / ".venv"))
    moved = folder.rename(folder.with_name("another folder"))
    (message,) = setup(moved)
    assert "was created in another folder" in message and "deactivate" in message


UV = """#!/bin/sh
echo "$*" >> "$NOTES"
mkdir -p .venv
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("command", ["{python} -S -m course setup --uv", "make setup"])
def test_setting_up_needs_a_bare_python_only(folder, command, tmp_path):
    """Run without site-packages; uv and make's Python are stand-ins that record their arguments."""
    (tmp_path / "uv").write_text(UV)
    shutil.copy(tmp_path / "uv", tmp_path / "python3")
    for program in ("uv", "python3"):
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes")}
    words = [word.format(python=sys.executable) for word in command.split()]
    for _ in range(2):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    notes = (tmp_path / "notes").read_text().splitlines()
    if words[0] == "make":
        assert notes == ["-m course setup"] * 2
        return
    assert notes == [
        f"venv --allow-existing --python {sys.executable} .venv",
        f"pip install --python {folder}/.venv/bin/python -e .[dev] -c constraints.txt",
    ], "the second time, there is nothing to do"
    assert "source .venv/bin/activate" in done.stdout


def test_a_bare_python_is_allowed_what_needs_no_packages():
    assert without_pytorch.TASKS == tuple(tasks.TASKS)
    words = [[sys.executable, "-S", "-m", "course", *words] for words in (["setup", "--help"], ["report", "--help"])]
    done = [subprocess.run(each, cwd=REPOSITORY, env={}, capture_output=True, text=True) for each in words]
    assert [each.returncode for each in done] == [0, 1]
    assert "--uv" in done[0].stdout and "PyTorch is not installed" in done[1].stderr


def test_an_old_python_is_told_which_one_is_needed():
    """course/__init__.py uses only old syntax, so old versions of Python can compile it and print the message."""
    source = (REPOSITORY / "course" / "__init__.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 7))
    code = "import sys; sys.version_info = (3, 8, 1); sys.argv = ['-m', 'setup']; import course"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1 and "Python 3.11 or newer is needed" in done.stderr
    assert "make PYTHON=python3.12 setup" in done.stderr


def test_flags_are_passed_on(monkeypatch):
    """`python -m course test --question 1.7` passes its flags on to pytest."""
    ran = []
    run = lambda command, **options: ran.append((command, options)) or SimpleNamespace(returncode=0)  # noqa: E731
    monkeypatch.setattr(tasks, "subprocess", SimpleNamespace(run=run))
    assert main(["test", "--question", "1.7", "--help"]) == 0
    assert main(["tensorboard", "--port", "0"]) == 0
    (mnist, _), (test, options), (board, _) = ran
    assert mnist[1:] == ["-m", "course.data", "mnist"]
    assert test == [sys.executable, "-m", "pytest", "--question", "1.7", "--help"]
    assert options["env"]["OMP_NUM_THREADS"] == "1" and options["cwd"] == REPOSITORY
    assert board[:3] == [sys.executable, "-m", "tensorboard.main"] and board[-2:] == ["--port", "0"]


def test_the_status_of_a_failed_program_is_handed_on(monkeypatch):
    monkeypatch.setattr(tasks.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    for task in tasks.TASKS.keys() - {"setup", "theory"}:
        with pytest.raises(SystemExit) as end:
            main([task])
        assert end.value.code == 3, task
    with pytest.raises(SystemExit, match="error: failed: .*kl.py"):
        main(["theory"])


def test_the_demo_has_all_its_steps(monkeypatch):
    ran = []
    run = lambda command, **options: ran.append(command[1:3]) or SimpleNamespace(returncode=0)  # noqa: E731
    monkeypatch.setattr(tasks, "subprocess", SimpleNamespace(run=run))
    assert main(["demo"]) == 0
    assert ran == [
        ["-m", "course.data"],
        *([f"{part}/train.py", "--epochs"] for part in PARTS.values()),
        ["part3_gpt/generate.py", "--checkpoint"],
    ]


def test_a_command_that_is_not_there(monkeypatch):
    """One such command is uv, which `make setup` looks for."""

    def run(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(tasks.subprocess, "run", run)
    with pytest.raises(SystemExit, match=f"error: command not found: {re.escape(sys.executable)}; install it first"):
        main(["tensorboard"])


COMMANDS = ["-m course", "part3_gpt/generate.py", *(f"{part}/train.py" for part in PARTS.values())]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_python_without_pytorch_is_told_what_to_do(command):
    words = [str(REPOSITORY / word) if word.endswith(".py") else word for word in command.split()]
    done = subprocess.run([sys.executable, "-S", *words], cwd=REPOSITORY, env={}, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and f"PyTorch is not installed for {sys.executable}" in line
    assert "make setup" in line and "source .venv/bin/activate" in line


def test_the_supported_versions_are_the_same_everywhere():
    """Python 3.10 has reached its end of life; TensorBoard before 2.21 does not work with current setuptools."""
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    assert config["options"]["python_requires"] == ">=3.11"
    assert "tensorboard>=2.21" in config["options"]["install_requires"].split()
    assert tomllib.loads((REPOSITORY / "ruff.toml").read_text())["target-version"] == "py311"
    for name in ("README.md", "template/README.md"):
        assert "Python 3.11 to 3.14" in (REPOSITORY / name).read_text(), name
    assert "sys.version_info < (3, 11)" in (REPOSITORY / "course" / "__init__.py").read_text()
    assert not re.search(r"python_version", (REPOSITORY / "constraints.txt").read_text())
