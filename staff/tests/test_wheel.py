"""Tests of the installed package: its dependencies, its content, and its commands outside of the repository."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from report_cases import VAE

import layout
from small_runs import PARTS, REPOSITORY, make_run
from staff.release.build import tracked

INSTALLED_AS = {"PIL": "pillow", "yaml": "pyyaml", "xdist": "pytest-xdist"}
COMES_WITH = {"markupsafe": "jinja2", "lightning_fabric": "pytorch-lightning", "nbformat": "nbclient"}
FOR_EVERYBODY = ("course", *PARTS.values())


def declared(*extras: str) -> set[str]:
    """Return the packages that setup.cfg declares."""
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    lists = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    return {plain(word) for text in lists for word in re.findall(r"^([\w-]+)", text, re.MULTILINE)}


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def foreign_imports(folders: tuple[str, ...]) -> set[str]:
    """Return the packages that files in these folders import, with their names in setup.cfg; tests are ignored."""
    files = [file for file in tracked(REPOSITORY) if file.endswith(".py") and not file.startswith("staff/tests")]
    own = {name for file in files for name in (*Path(file).parts, Path(file).stem)}
    found = set()
    for file in files:
        if file.startswith(tuple(f"{folder}/" for folder in folders)):
            for _, module, _ in layout.imports((REPOSITORY / file).read_text("utf-8")):
                name = module.split(".")[0]
                if name and name not in own | sys.stdlib_module_names:
                    found.add(plain(INSTALLED_AS.get(name, COMES_WITH.get(name, name))))
    return found


def test_what_is_imported_is_declared():
    only_there = {"watchfiles", "pytest"}  # imported only if they are installed
    assert foreign_imports(FOR_EVERYBODY) - only_there <= declared()
    assert foreign_imports((*FOR_EVERYBODY, "staff")) <= declared("dev", "handout")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Build a wheel from the tracked files; return the folder into which it is unpacked, as pip would."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in tracked(REPOSITORY):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, source / file)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(out / "site-packages")
    return out / "site-packages"


def test_what_is_in_the_wheel(installed):
    """The wheel contains all files of the packages except the tests, including templates, rubric.toml and job.sh."""
    there = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    apart = ("staff/tests/", "staff/hidden/", "staff/grading/README.md")
    wanted = {file for file in tracked(REPOSITORY) if file.startswith(("course/", "staff/"))}
    wanted = {file for file in wanted if not file.startswith(apart)}
    assert {"course/rubric.toml", "course/job.sh", "course/templates/report.html"} <= wanted
    assert wanted - there == set()
    assert {f"{part}/train.py" for part in PARTS.values()} | {"part3_gpt/text/python_reference.txt"} <= there
    assert not [file for file in there if file.startswith(("tests/", "bench/", "theory/", "staff/tests/", "handout/"))]


@pytest.fixture
def run(installed, tmp_path):
    """Return a function: run("course", "report", ...) runs a command outside of the repository -> its output."""
    (tmp_path / "elsewhere").mkdir()

    def run(module: str, *words: object, status: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        environment.pop("DGM_DATA_DIR", None)
        command = [sys.executable, "-m", module, *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)
        assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    return run


def test_report_runs_from_the_wheel(run, installed, tmp_path):
    history = [{"train/bpd": 2.0, "val/bpd": 1.9}, {"train/bpd": 1.5, "val/bpd": 1.4}]
    folder = make_run(tmp_path / "logs" / "vae" / "version_0", "vae", VAE, history, {"samples_epoch_000.png": 9})
    before = sorted(installed.rglob("*.*"))
    assert str(folder) in run("course", "report", folder)
    page = (folder / "report.html").read_text()
    assert "Q1.7" in page and "bits per dimension" in page and "<style>" in page
    assert "report" in run("course", "--help") and "diagnose" in run("course", "--help")
    after = [path for path in sorted(installed.rglob("*.*")) if path.suffix != ".pyc" and path.name != "__pycache__"]
    assert after == [path for path in before if path.suffix != ".pyc"], "a file was written into the packages"


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS.values())
def test_training_programs_run_from_the_wheel(run, part):
    assert "--fast_dev_run" in run(f"{part}.train", "--help") and "data/" in run(f"{part}.train", "--help")


@pytest.mark.parametrize("words", [["course", "test"], ["course", "next"], ["course", "setup"], ["staff", "check"]])
def test_what_needs_the_repository_says_so(run, installed, words):
    said = run(*words, status=1)
    assert said == f"error: {words[1]} needs the repository, which is not in {installed}; run it in a clone\n"


def test_data_is_not_put_among_the_packages(run, installed):
    code = "from course.flags import data_dir; print(data_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(installed)}, cwd="/", capture_output=True, text=True
    )
    assert done.stdout == "data\n", done.stderr
