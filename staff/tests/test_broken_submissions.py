"""Tests with untidy or broken honest work: each part gets its points, and students are told what is wrong."""

import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from course import rubric
from mistakes import part1, part2, part3
from small_runs import REPOSITORY
from staff.grading import archives, grade, judge, sandbox
from staff.release import build as release

SEED = 5
Tree = dict[str, str | bytes]
UTILS, TRAIN = "part1_vae/utils.py", "part1_vae/train.py"


def solution() -> Tree:
    tracked = [file for file in release.tracked(REPOSITORY) if file.startswith("part") and file.endswith(".py")]
    return {file: (REPOSITORY / file).read_text("utf-8") for file in tracked}


def written(folder: Path, tree: Tree) -> Path:
    for file, content in tree.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Callable[[Tree, str], dict]:
    """Yield a function: graded(tree) -> the grader's result."""
    judges = grade.Judges()
    try:
        if judges.current().level == "none":
            pytest.skip("no sandbox works on this machine")
        class_ = grade.Class(tmp_path_factory.mktemp("grades"), rubric.read(), judge.Rules(), seed=SEED)

        def run(tree: Tree) -> dict:
            folder = tmp_path_factory.mktemp("submission")
            return class_.grade(archives.Submission(folder.name, written(folder, tree)), judges)

        yield run
    except (judge.JudgeError, sandbox.SandboxError) as error:
        pytest.skip(f"the judge does not work on this machine: {error}")
    finally:
        judges.close()


def of_questions(result: dict) -> dict[str, float]:
    """Return question -> automatic points, for the questions that have any."""
    return {name: row["automatic"] for name, row in result["questions"].items() if row["automatic_of"]}


def of_parts(result: dict) -> list[float]:
    return [sum(points for name, points in of_questions(result).items() if name[0] == part) for part in "123"]


def full() -> list[float]:
    return [sum(q.automatic for q in rubric.read().questions.values() if q.part == part) for part in (1, 2, 3)]


def messages(result: dict, part: int) -> str:
    return "\n".join(test["message"] or "" for test in result["tests"] if test["question"][0] == str(part))


def plain(folder: Path, tree: Tree) -> dict[str, float]:
    """Run plain pytest in a folder with the submission, the tests and course/; return question -> points."""
    for shared in ("course", "tests", "staff/hidden", "staff/oracles"):
        shutil.copytree(REPOSITORY / shared, folder / shared, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("conftest.py", "setup.cfg", "staff/__init__.py"):
        shutil.copy(REPOSITORY / file, folder / file)
    written(folder, tree)
    # -S: hide the solution's editable installation, which students lack and which would stand in for missing files
    command = [sys.executable, "-S", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--points-json", "points.json"]
    command += ["--seed", str(SEED), *judge.SUITES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(site.getsitepackages())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout[-3000:]
    questions = json.loads((folder / "points.json").read_text())["questions"]
    return {question: row["earned"] for question, row in questions.items()}


# --- untidy but correct -----------------------------------------------------------------------------------------------


def noisy() -> Tree:
    """Return the solution with Windows line endings, a BOM, floods of output, unused absolute paths and warnings."""
    head = (
        "import sys, warnings\nsys.path.insert(0, 'C:/Users/me/practical')\nprint('x' * 100_000)\n"
        "for _ in range(1000):\n    print('epoch', _, file=sys.stderr)\nwarnings.warn('old')\n"
    )
    tree = {}
    for file, text in solution().items():
        text = text.replace("    return", "    print('here')\n    return") if file == UTILS else text
        docstring, quotes, rest = text.partition('"""\n') if text.startswith('"""') else ("", "", text)
        text = f"{docstring}{quotes}{head}{rest}" if file.endswith(("utils.py", "models.py", "gpt.py")) else text
        tree[file] = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    return tree


def elsewhere() -> Tree:
    """Return the solution in practical3/part1 etc., with relative imports and with modules that train when imported."""
    training = (
        "\nnet = torch.nn.Linear(784, 10)\noptimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for _ in range(300):\n    loss = net(torch.randn(64, 784)).square().mean()\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    )
    tree = {}
    for file, text in solution().items():
        part, name = file.split("/", 1)
        if name != "train.py":
            text = text.replace(f"from {part}.", "from .").replace(f"from {part} import", "from . import")
        if name in ("utils.py", "models.py"):
            text += training
        tree[f"practical3/{part.split('_')[0]}/{name}"] = text
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("make", [noisy, elsewhere])
def test_untidy_but_right(graded, make):
    result = graded(make())
    failed = {test["name"]: test["message"] for test in result["tests"] if test["outcome"] != "passed"}
    assert of_parts(result) == full(), failed


# --- broken -----------------------------------------------------------------------------------------------------------


def cannot_be_loaded() -> Tree:
    """Return a submission with a syntax error, a missing file, and an import of a package that is not installed."""
    tree = solution()
    tree[UTILS] = tree[UTILS].replace("def KLD(mean: Tensor, log_std: Tensor) -> Tensor:", "def KLD(mean, log_std)")
    del tree["part2_aae/models.py"]
    tree["part3_gpt/gpt.py"] = "import package_of_mine\n" + tree["part3_gpt/gpt.py"]
    return tree


def not_as_agreed() -> Tree:
    """Return a submission with a renamed function, without part 2, and with a path on the student's own machine."""
    tree = {file: content for file, content in solution().items() if not file.startswith("part2")}
    tree[UTILS] = tree[UTILS].replace("def KLD(", "def kl_divergence(")
    tree["part3_gpt/gpt.py"] += "\nWEIGHTS = open('/home/me/practical/weights.txt').read()\n"
    return tree


def a_notebook() -> Tree:
    """Return a submission with a notebook as a module, a `from utils import *` tied to the folder, and Python 2."""
    tree = solution()
    cells = [{"cell_type": "code", "source": tree.pop(UTILS).splitlines(True), "metadata": {}, "outputs": []}]
    tree["part1_vae/utils.ipynb"] = json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    tree["part2_aae/models.py"] = "from utils import *\n" + tree["part2_aae/models.py"]
    tree["part3_gpt/gpt.py"] = tree["part3_gpt/gpt.py"].replace("import math\n", "import math\nprint 'hello'\n", 1)
    return tree


WITHOUT_UTILS = 3  # points for the networks of part 1, which do not need utils.py
WITHOUT_KLD = 7.5  # points for the networks and the rest of utils.py


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "points", "said", "problems"),
    [
        (
            cannot_be_loaded,
            [WITHOUT_UTILS, 0, 0],
            {
                1: ["SyntaxError: expected ':'", "part1_vae/utils.py:"],
                2: ["No module named 'part2_aae.models'"],
                3: ["No module named 'package_of_mine'", "part3_gpt/gpt.py:1"],
            },
            ["There is no file part2_aae/models.py."],
        ),
        (
            not_as_agreed,
            [WITHOUT_KLD, 0, 0],
            {
                1: ["cannot import name 'KLD' from 'part1_vae.utils'"],
                2: ["No module named 'part2_aae'"],
                3: ["No such file or directory: '/home/me/practical/weights.txt'", "WEIGHTS = open("],
            },
            ["There is no folder part2_aae with Python files in it."],
        ),
        (
            a_notebook,
            [WITHOUT_UTILS, 0, 0],
            {1: ["No module named 'part1_vae.utils'"], 2: ["No module named 'utils'"], 3: ["print 'hello'"]},
            ["part1_vae/utils.ipynb is a notebook; utils.py is needed."],
        ),
    ],
)
def test_broken(graded, tmp_path, make, points, said, problems):
    tree = make()
    result = graded(tree)
    for part, phrases in said.items():
        for phrase in phrases:
            assert phrase in messages(result, part)
    assert result["problems"] == problems
    assert of_parts(result) == points
    assert of_questions(result) == plain(tmp_path, tree), "plain pytest gives different points"


@pytest.mark.slow
def test_one_broken_part_leaves_the_others_alone(graded):
    for part in (1, 2, 3):
        tree = {
            file: "raise RuntimeError('broken')" if file.startswith(f"part{part}") else content
            for file, content in solution().items()
        }
        expected = full()
        expected[part - 1] = 0
        assert of_parts(graded(tree)) == expected


# --- the same points as plain pytest ----------------------------------------------------------------------------------

WRONG = [(part1, "log_std for log_var"), (part2, None), (part3, None)]


def mistaken(bank, name: str | None) -> Tree:
    """Return the solution with one mistake from the bank (None: the first)."""
    _, file, right, wrong, *_ = bank.MISTAKES[name or sorted(bank.MISTAKES)[0]]
    tree = solution()
    assert tree[file].count(right) == 1
    tree[file] = tree[file].replace(right, wrong)
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [None, *WRONG], ids=["right", "part 1", "part 2", "part 3"])
def test_the_same_points_as_plain_pytest(graded, tmp_path, mistake):
    tree = mistaken(*mistake) if mistake else solution()
    points = of_questions(graded(tree))
    assert points == plain(tmp_path, tree)
    assert (sum(points.values()) < sum(full())) == bool(mistake)
