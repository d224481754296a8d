"""Grade the bank of attacks as a class: they earn no points, spy on and damage nothing, and do not affect honest work.

Each run draws a new sample of attacks. ATTACKS=all in the environment selects all of them; any other word selects
those whose names contain it.
"""

import hashlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attacks import Places, harm, points, put, reading, texts
from small_runs import REPOSITORY
from staff.grading import sandbox
from staff.release import build as release

BANK = points.ATTACKS | reading.ATTACKS | harm.ATTACKS | texts.ATTACKS
SAMPLE = 20
WEAKER = [  # attacks that namespaces prevent by construction; Landlock must prevent them too
    "kept state", "self-modifying code", "solution by name", "/proc", "links", "other submissions", "grades", "network",
    "kill all", "a signal through a file", "disk", "many files", "deep folders", "a process that outlives the grading",
    "trace the parent", "device files", "other people's permissions", "other processes' priority", "write all",
]  # fmt: skip
HONEST = {"m-right": 24, "m-wrong": 22.25}  # the mistake affects the bits per dimension and two losses
SECONDS = 20  # time limit per question


def parts(files: dict[str, bytes]) -> dict[str, str]:
    """Return the Python files of the parts."""
    wanted = {file: content for file, content in files.items() if file.startswith("part") and file.endswith(".py")}
    return {file: content.decode() for file, content in wanted.items()}


@pytest.fixture(scope="module")
def trees() -> dict[str, dict[str, str]]:
    """Return the files of the template, the solution, and a solution with a known mistake."""
    course = release.read_course()
    template = parts(release.contents(course, "test"))
    solution = {file: (REPOSITORY / file).read_text() for file in template}
    wrong = dict(solution)
    wrong["part1_vae/utils.py"] = wrong["part1_vae/utils.py"].replace("* math.log2(math.e) /", "/")
    return {"template": template, "solution": solution, "wrong": wrong}


class Battle:
    """A class of attacks, the grader that grades it, and the files, sockets and processes they might reach."""

    def __init__(self, folder: Path, trees: dict, names: list[str], honest: bool = True):
        self.names, self.out = names, folder / "grades"
        self.canary, self.temporary = folder / "canary", folder / f"tmp{os.getpid()}x{random.randrange(10**9)}"
        self.marker = self.temporary.name
        for new in (self.canary, self.temporary):
            new.mkdir()
        (self.canary / "secret").write_text("not to be read")
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.tcp.getsockname())
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(f"\0{self.marker}")
        self.unix.listen()
        self.submissions = folder / "class"
        port = self.tcp.getsockname()[1]
        places = Places(self.canary, REPOSITORY, self.submissions / "m-right", port, self.marker, self.marker)
        for number, name in enumerate(names):
            attack = BANK[name]
            put(attack, self.submissions / f"a{number:03}", trees["solution" if attack.solved else "template"], places)
        for student, tree in {"m-right": "solution", "m-wrong": "wrong"}.items() if honest else ():
            for file, content in trees[tree].items():
                (self.submissions / student / file).parent.mkdir(parents=True, exist_ok=True)
                (self.submissions / student / file).write_text(content)

    def grade(self, *flags: str) -> subprocess.CompletedProcess:
        """Run the grader, then give remaining processes a moment to end."""
        environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "staff", "grade", str(self.submissions), "-o", str(self.out), "--seed", "7"]
        flags = ("-j", "2", "--seconds", str(SECONDS), *flags)
        done = subprocess.run([*command, *flags], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        time.sleep(0.5)
        return done

    def scores(self) -> dict[str, float]:
        """Return name of the attack or the student -> automatic points."""
        results = [json.loads(path.read_text()) for path in (self.out / "results").glob("*.json")]
        return {
            self._name(result["student"]): sum(question["automatic"] for question in result["questions"].values())
            for result in results
        }

    def _name(self, student: str) -> str:
        return self.names[int(student[1:])] if student[1:].isdecimal() else student

    def failed(self) -> dict[str, str]:
        """Return name -> problem for the submissions that could not be graded."""
        results = [json.loads(path.read_text()) for path in (self.out / "results").glob("*.json")]
        return {self._name(each["student"]): each["problem"] for each in results if each["status"] != "graded"}

    def processes(self) -> list[str]:
        """Return the grader's remaining processes: their command line or environment contains the temporary folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            for file in ("cmdline", "environ"):
                try:
                    content = (path / file).read_bytes()
                except OSError:
                    continue
                if self.marker.encode() in content:
                    found.append(f"{path.name}: {content[:200]}")
        return found

    def contacts(self) -> list[str]:
        """Return the names of the sockets to which something has connected or sent data."""
        found = []
        for name in ("tcp", "udp", "unix"):
            listener = getattr(self, name)
            listener.setblocking(False)
            try:
                listener.recv(1) if name == "udp" else listener.accept()
                found.append(name)
            except BlockingIOError:
                pass
        return found

    def texts(self) -> dict[Path, str]:
        return {path: path.read_bytes().decode() for path in self.out.rglob("*") if path.is_file()}

    def close(self) -> None:
        for each in (self.tcp, self.udp, self.unix):
            each.close()


def snapshot(*folders: Path) -> dict[str, str]:
    """Return the state of everything in the folders: contents, kinds, permissions and owners."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            if {".git", "__pycache__", ".pytest_cache", ".ruff_cache", "logs", "data"} & set(path.parts):
                continue
            state = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            found[str(path)] = f"{state.st_mode:o} {state.st_uid} {int(state.st_mtime) if content else ''} {content}"
    return found


def assert_nothing_happened(battle: Battle, before: dict[str, str], done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stderr[-3000:]
    assert not battle.failed()
    scores = battle.scores()
    too_many = {name: scores[name] for name in battle.names if scores[name] > BANK[name].most}
    assert not too_many, f"attacks that got points: {too_many}"
    assert battle.processes() == []
    assert battle.contacts() == []
    assert not [each for each in battle.temporary.iterdir() if not each.name.startswith("torchinductor")]
    assert snapshot(battle.canary, battle.submissions, REPOSITORY) == before
    assert f"{battle.marker}-found" not in "".join(battle.texts().values())


def assert_texts_are_harmless(battle: Battle, done: subprocess.CompletedProcess) -> None:
    """Check that no text that people read contains markup, control characters or formulas from a submission."""
    said = done.stdout + done.stderr
    assert "\x1b[31m" not in said and "\x1b]" not in said and battle.marker not in said.replace(str(battle.out), "")
    for path, text in battle.texts().items():
        assert not any(char in text for char in "\x00\x1b\x9b\u202e\u2066\u200b"), path
        if path.suffix == ".html":
            assert "<script" not in text and "<img src=x" not in text and 'href="javascript:' not in text, path
        if path.suffix == ".md":
            assert f"[{battle.marker}-link](" not in "".join(outside_code(text)), path
            assert "<script" not in "".join(outside_code(text)), path
        if path.suffix == ".csv":
            assert not any(line.startswith(("=", "@")) or ",=" in line for line in text.splitlines()), path


def outside_code(markdown: str) -> list[str]:
    """Return the lines outside of fenced and indented code blocks."""
    lines, fence = [], None
    for line in markdown.splitlines():
        mark = line.strip()
        if fence is None and mark.startswith("```"):
            fence = mark[: len(mark) - len(mark.lstrip("`"))]
        elif fence is not None and mark == fence:
            fence = None
        elif fence is None and not line.startswith("    "):
            lines.append(line)
    return lines


def chosen(names: list[str], seed: int) -> list[str]:
    word = os.environ.get("ATTACKS")
    if word is None:
        return random.Random(seed).sample(names, min(SAMPLE, len(names)))
    return [name for name in names if word in name or word == "all"]


@pytest.fixture
def fight(tmp_path, trees, free):
    """Return a function: fight(names, flags...) grades these attacks, runs the common checks and returns the battle."""
    battles = []

    def run(names: list[str], *flags: str, honest: bool = True) -> tuple[Battle, subprocess.CompletedProcess]:
        battle = Battle(tmp_path, trees, names, honest)
        battles.append(battle)
        before = snapshot(battle.canary, battle.submissions, REPOSITORY)
        done = battle.grade(*flags)
        assert_nothing_happened(battle, before, done)
        assert_texts_are_harmless(battle, done)
        if honest:
            assert {student: battle.scores()[student] for student in HONEST} == HONEST
        return battle, done

    yield run
    for battle in battles:
        battle.close()


@pytest.fixture(scope="module")
def free(zygote) -> list[str]:
    """Return the sandbox levels that work on this machine."""
    levels = [level for level in ("namespaces", "landlock") if sandbox.probe(zygote, level) == []]
    if not levels:
        pytest.skip("no sandbox works on this machine, so no attack is run")
    return levels


def test_the_bank_is_large():
    assert len(BANK) >= 45
    assert set(WEAKER) <= set(BANK)
    assert [name for name, attack in BANK.items() if attack.most] == []


def test_the_attacks_that_the_readme_names_exist():
    """The README's table names the attacks that test each rule of the sandbox."""
    text = (REPOSITORY / "staff" / "grading" / "README.md").read_text()
    table = text.split("| rule | attacks |")[1].split("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", row.split("|")[2]) for row in table.splitlines() if row.startswith("| ")]
    assert len(rows) >= 12 and all(set(names) <= set(BANK) and names for names in rows[1:]), rows


@pytest.mark.slow
def test_some_attacks(fight, pytestconfig):
    names = random.Random(pytestconfig.getoption("--seed")).sample(sorted(BANK), 3)
    fight(names, honest=False)


@pytest.mark.slow
def test_attacks(fight, free, pytestconfig):
    battle, _ = fight(chosen(sorted(BANK), pytestconfig.getoption("--seed")), "--sandbox", free[0])
    used = {json.loads(path.read_text())["sandbox"] for path in (battle.out / "results").glob("*.json")}
    assert used == {free[0]}


@pytest.mark.slow
def test_attacks_on_landlock(fight, free, pytestconfig):
    if "landlock" not in free:
        pytest.skip("Landlock does not work with this kernel")
    fight(chosen(WEAKER, pytestconfig.getoption("--seed")), "--sandbox", "landlock")
