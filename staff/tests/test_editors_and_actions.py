"""Tests that the files for GitHub and for editors refer only to things that exist, in both repositories."""

import importlib
import json
import re

import pytest
import yaml

from course.__main__ import parser
from small_runs import REPOSITORY
from staff.release.build import contents, read_course

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
SYSTEMS = {"ubuntu-latest", "macos-latest", "windows-latest"}
EDITORS = [".vscode/launch.json", ".vscode/settings.json", ".vscode/extensions.json", ".devcontainer/devcontainer.json"]
NOT_OURS = ("sudo apt-get install",)


@pytest.fixture(scope="module")
def students() -> dict[str, str]:
    """Return the text files of the students' repository: path -> content."""
    files = contents(read_course(), "2027")
    return {file: content.decode() for file, content in files.items() if not file.endswith((".png", ".npz", ".pdf"))}


@pytest.fixture(scope="module", params=["staff", "students"])
def repository(request, students) -> dict[str, str]:
    """Return the files for editors and GitHub, from each repository in turn: path -> content."""
    if request.param == "students":
        return students
    wanted = [*EDITORS, "Makefile", ".gitattributes", *map(str, (REPOSITORY / ".github").rglob("*.yml"))]
    return {file.replace(f"{REPOSITORY}/", ""): (REPOSITORY / file).read_text("utf-8") for file in wanted}


@pytest.fixture
def jobs(repository) -> dict[str, dict]:
    """Return the jobs of all workflows."""
    workflows = {
        file: yaml.safe_load(text) for file, text in repository.items() if file.startswith(".github/workflows/")
    }
    assert workflows
    return {f"{file} {name}": job for file, flow in workflows.items() for name, job in flow["jobs"].items()}


def test_the_tests_run_on_all_systems_and_supported_versions(jobs):
    matrices = [job["strategy"]["matrix"] for job in jobs.values() if "strategy" in job]
    tried = {(job["runs-on"], version) for job in jobs.values() for version in _matrix(job).get("python", [])}
    tried |= {(system, version) for each in matrices for system in each.get("os", []) for version in each["python"]}
    assert {pair for pair in tried if "$" not in pair[0]} == {(system, each) for system in SYSTEMS for each in VERSIONS}


def _matrix(job: dict) -> dict:
    return job.get("strategy", {}).get("matrix", {})


def test_the_steps_are_commands_that_exist(jobs, repository):
    targets = set(re.findall(r"^([\w-]+):", repository["Makefile"], re.MULTILINE))
    commands = parser()._subparsers._group_actions[0].choices
    words = [step["run"].split() for job in jobs.values() for step in job["steps"] if "run" in step]
    assert len(words) >= 5
    for command in words:
        if command[0] == "make":
            assert command[1] in targets, command
        elif not " ".join(command).startswith(NOT_OURS):
            assert command[0].endswith("python") and command[1:3] == ["-m", "course"], command
            assert command[3] in commands, command


def test_no_step_is_broken_on_windows(jobs):
    """The Windows shell has no make, no .venv/bin folder and no && (in PowerShell 5)."""
    for job in jobs.values():
        if "windows-latest" in _matrix(job).get("os", []):
            assert [
                step["run"] for step in job["steps"] if re.match(r"make|\.venv|.*&&|.*\$", step.get("run", ""))
            ] == []


def test_packages_and_mnist_are_cached(jobs):
    for name, job in jobs.items():
        uses = {step["uses"].partition("@")[0]: step.get("with", {}) for step in job["steps"] if "uses" in step}
        assert uses["actions/setup-python"]["cache"] == "pip", name
        assert uses["actions/cache"]["path"] == "data/MNIST", name


def test_a_step_uses_the_output_of_an_earlier_one(jobs):
    """GitHub silently replaces the output of a nonexistent step with an empty string."""
    found = 0
    for job in jobs.values():
        known: set[str] = set()
        for step in job["steps"]:
            for name in re.findall(r"steps\.([\w-]+)\.outputs", json.dumps(step)):
                assert name in known
                found += 1
            known |= {step["id"]} if "id" in step else set()
    assert found == (1 if any("classroom.yml" in name for name in jobs) else 0)


def test_launch_configurations_start_programs_with_flags_that_they_have(repository, students):
    configurations = json.loads(repository[".vscode/launch.json"])["configurations"]
    programs = [each["program"].replace("${workspaceFolder}/", "") for each in configurations]
    assert {f"{part}/train.py" for part in ("part1_vae", "part2_aae", "part3_gpt")} <= set(programs)
    for program, configuration in zip(programs, configurations, strict=True):
        if program == "${file}":
            program = "part1_vae/train.py"
        assert program in students
        if program.endswith("train.py"):  # generate.py needs a checkpoint
            options = importlib.import_module(f"{program.split('/')[0]}.options")
            assert options.parse_args([*configuration["args"], "--accelerator", "cpu"]).epochs


def test_the_test_explorer_has_the_graded_tests(repository, students):
    settings = json.loads(repository[".vscode/settings.json"])
    assert settings["python.testing.pytestEnabled"]
    (folder,) = settings["python.testing.pytestArgs"]
    assert any(file.startswith(f"{folder}/test_") for file in students)


def test_the_container_is_set_up(repository):
    container = json.loads(repository[".devcontainer/devcontainer.json"])
    assert container["image"].rpartition(":")[2] in VERSIONS
    assert container["postCreateCommand"].startswith("make setup")
    assert 6006 in container["forwardPorts"]


def test_line_ends_are_the_same_everywhere(repository):
    assert "* text=auto eol=lf" in repository[".gitattributes"].splitlines()
    assert not [file for file, text in repository.items() if "\r" in text]
