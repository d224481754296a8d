"""Tests of the files that students get, and of writing a release."""

import ast
import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from release_cases import start, write_template

from course import submission
from small_runs import PARTS, REPOSITORY, Program
from staff import __main__ as command_line
from staff.release import build as release
from staff.release import checks
from staff.release.leaks import find_leaks
from staff.release.write import write

# --- the released files -----------------------------------------------------------------------------------------------


def test_what_is_in_the_release_and_what_is_not(files, course):
    assert {
        "README.md",
        "AGENTS.md",
        "CHANGELOG.md",
        "answers.md",
        "Makefile",
        "tests/judge.py",
        "part1_vae/train.job",
    } <= set(files)
    withheld = ["staff", "release.py", "markers.py", "suites.py", "bench", "template/", ".ci", "ruff.toml", "hidden"]
    assert not [file for file in files if any(name in file for name in withheld)]
    text = b"\n".join(content for file, content in files.items() if not file.endswith(".png")).decode()
    for test in course.tests:
        assert (f"def {test.name}(" in text) != test.hidden, test.name
    assert "STAFF" not in text and "SOLUTION" not in text and "@EDITION@" not in text and "@YEAR@" not in text
    assert "2026" in files["README.md"].decode() and "2026" in files["CHANGELOG.md"].decode()
    written = {question.id for question in course.rubric.questions.values() if question.manual}
    assert set(re.findall(r"^## Q(\S+)", files["answers.md"].decode(), re.MULTILINE)) == written


def test_what_the_release_imports_of_the_course_is_in_it(files):
    modules = {file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files}
    for file, content in files.items():
        for node in ast.walk(ast.parse(content)) if file.endswith(".py") else []:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "course":
                assert node.module in modules, f"{file}: {node.module}"
                if node.module in ("course", "course.runs", "course.training"):
                    assert not [each.name for each in node.names if f"{node.module}.{each.name}" not in modules], file
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "staff":
                assert (file, ast.unparse(node)) == ("conftest.py", "from staff import oracles"), file


def test_each_link_of_the_release_leads_somewhere(files):
    for file, content in files.items():
        if file.endswith(".md"):
            for target in re.findall(r"\]\(([^)#]+)", content.decode()):
                if not target.startswith("http"):
                    assert os.path.normpath(Path(file).parent / target) in files, f"{file}: {target}"


def test_the_same_tree_gives_the_same_bytes(tmp_path, course, files):
    subprocess.run(["git", "clone", "-q", REPOSITORY, tmp_path / "copy"], check=True)
    for file in release.tracked(REPOSITORY):  # the working tree, committed or not
        (tmp_path / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / file).write_bytes((REPOSITORY / file).read_bytes())
    (tmp_path / "copy" / "part1_vae" / "notes.py").write_text("x = 1\n")  # not tracked by git
    subprocess.run(["git", "-C", tmp_path / "copy", "add", *release.tracked(REPOSITORY)], check=True)
    copy = tmp_path / "copy"
    assert release.contents(release.read_course(copy), "2026", root=copy) == files
    assert release.contents(course, "2027") != files
    listed = json.loads(files[release.MANIFEST])["files"]
    assert listed == {
        file: hashlib.sha256(content).hexdigest() for file, content in files.items() if file != release.MANIFEST
    }


def test_the_solution_is_found_wherever_it_stands(files, course):
    assert find_leaks(files, course) == []
    line = "return mean + std * torch.randn_like(mean)"
    for file, content in {
        "course/notes.py": f"x = 1\n    {line}\n",
        "README.md": f"Write `{line}`.\n",
        "part1_vae/old.py": f"# {line}\n",
    }.items():
        (found,) = find_leaks({**files, file: content.encode()}, course)
        assert found.startswith(f"{file}:") and line in found
    assert "cannot be searched" in find_leaks({**files, "part1_vae/utils.pyc": b"\0"}, course)[0]
    assert "cannot be searched" in find_leaks({**files, "part1_vae/utils.bin": b"\0"}, course)[0]


def test_recorded_answers_are_searched_and_nothing_else_may_pass_for_them(course):
    def packed(**arrays) -> dict[str, bytes]:
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return {release.ANSWERS: content.getvalue()}

    def index(text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8)

    numbers = np.zeros(3, np.float32)
    assert find_leaks(packed(index=index("it is half"), numbers=numbers), course) == []
    line = "return mean + std * torch.randn_like(mean)"
    assert line in find_leaks(packed(index=index(f"look:\n{line}\n"), numbers=numbers), course)[0]
    for other in (packed(index=index("x")), packed(index=index("x"), numbers=np.zeros(3)), {release.ANSWERS: b"\0"}):
        assert "cannot be searched" in find_leaks(other, course)[0]


@pytest.mark.parametrize(
    "file, line",
    [
        ("course/rubric.toml", "# BEGIN STAFF"),
        ("part1_vae/utils.py", "# END STAFF"),
        ("conftest.py", "# begin staff"),
        ("tests/judge.py", "    # BEGIN SOLUTION Q1.7"),
        ("handout/numbers.py", "# BEGIN STAFF"),
        ("template/README.md", "<!--BEGIN STAFF-->"),
        ("setup.cfg", "# BEGIN OF STAFF"),
        ("part1_vae/README.md", "<!-- End Staff -->"),
        ("part2_aae/models.py", "# BEGN STAFF"),
        ("part2_aae/models.py", "# BEGIN_STAF"),
        ("handout/chapter.md", "<!-- END STAF -->"),
        ("course/data.py", "# BEGIN SOLUTION Q1.7"),
        ("course/data.py", "    # begin soluton Q1.7"),
    ],
)
def test_a_mark_where_none_can_be_is_refused(tmp_path, course, file, line):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"one\n{line}\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    with pytest.raises(release.ReleaseError) as found:
        release.contents(dataclasses.replace(course, sources={}), "2026", root=tmp_path)
    place = f"{file.removeprefix('template/')}:2"
    assert str(found.value) == f"{place}: this mark must not be released: {line.strip()}"


def test_folders_decide_what_is_released(tmp_path, course):
    """Put an unlisted file into each kind of folder; the folder decides whether it is released."""
    released = {"theory/kl.py", "handout/chapter.md", "course/new/thing.py", "tests/expected.npz", "part1_vae/new.py"}
    withheld = {"staff/new.py", "bench/new.py", "docs/new.md", "CONTRIBUTING.md", "new.py", "course.py"}
    for file in released | withheld | {"template/notebooks/first.ipynb"}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"\0 not text" if file.endswith(".npz") else b"text\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    files = release.contents(dataclasses.replace(course, sources={}), "2026", root=tmp_path)
    assert set(files) == released | {"notebooks/first.ipynb", "answers.md", release.MANIFEST}


def test_writing_a_release(tmp_path, files, course):
    out = tmp_path / "new" / "release"
    write(files, out, course)
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    # an earlier release is replaced, but other files stay
    (out / "mine.txt").write_text("mine")
    fewer = {file: content for file, content in files.items() if file != "CHANGELOG.md"}
    manifest = json.loads(files[release.MANIFEST])
    del manifest["files"]["CHANGELOG.md"]
    write({**fewer, release.MANIFEST: json.dumps(manifest).encode()}, out, course)
    assert not (out / "CHANGELOG.md").exists() and (out / "mine.txt").read_text() == "mine"
    # edited files are not overwritten
    (out / "README.md").write_text("changed")
    with pytest.raises(release.ReleaseError, match="README.md: has changed since the earlier release"):
        write(files, out, course)
    assert (out / "README.md").read_text() == "changed"


def test_a_folder_with_something_else_is_refused(tmp_path, files, course):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(release.ReleaseError, match="is not empty and not an earlier release"):
        write(files, tmp_path, course)
    (tmp_path / release.MANIFEST).write_text("[]")
    with pytest.raises(release.ReleaseError, match="missing or damaged"):
        write(files, tmp_path, course)
    assert sorted(path.name for path in tmp_path.iterdir()) == [release.MANIFEST, "letter.txt"]


def test_the_solution_in_the_folder_or_in_its_history_is_refused(tmp_path, files, course):
    write(files, tmp_path, course)
    secret = (REPOSITORY / "part1_vae" / "utils.py").read_text()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    (tmp_path / "old.py").write_text(secret)
    with pytest.raises(release.ReleaseError, match=r"^old.py:\d+: a line of the solution"):
        write(files, tmp_path, course)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-qm", "x"],
        ["rm", "-q", "old.py"],
        ["commit", "-qm", "y"],
    ):
        subprocess.run([*git, *words], check=True)
    with pytest.raises(release.ReleaseError, match=r"^git history, old.py:\d+: a line of the solution"):
        write(files, tmp_path, course)


def test_a_folder_that_git_does_not_know_is_refused(tmp_path, course):
    with pytest.raises(release.ReleaseError, match="git ls-files failed"):
        release.contents(course, "2026", root=tmp_path)


@pytest.mark.parametrize(
    "argv, status, message",
    [
        (["release"], 2, "OUT"),
        (["release", "x", "--year", "a b"], 2, "'a b': may contain only letters"),
        (["release", "x", "--edition", "2021"], 2, "--edition: '2021': should be 2022 or 2023"),
        (["release", "course"], 1, "is not empty and not an earlier release"),
        (["nothing"], 2, "invalid choice"),
    ],
)
def test_wrong_words_on_the_command_line(argv, status, message, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    try:
        assert command_line.main(argv) == status
    except SystemExit as end:
        assert end.code == status
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_check_shows_the_points(capsys):
    assert command_line.main(["check"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^Q1.7 +12 +8 +2 +2 ", shown, re.MULTILINE) and "rubric, blanks, tests and handout agree" in shown


@pytest.mark.slow
def test_a_release_from_beginning_to_end(tmp_path, course):
    """Build and check a release as staff would, then fill in one question at a time: the points rise to the maximum."""
    out = tmp_path / "practical"
    made = start(REPOSITORY, "-m", "staff", "release", out, "--year", "2031")
    assert made.returncode == 0, made.stderr
    again = start(REPOSITORY, "-m", "staff", "release", tmp_path / "again", "--year", "2031")
    assert again.returncode == 0, again.stderr
    assert _bytes(tmp_path / "again") == _bytes(out), "the same tree gives the same bytes"
    assert 0 < (out / release.ANSWERS).stat().st_size < 3e6
    assert "practical 2031" in (out / "README.md").read_text()
    public = sum(test.points for test in course.tests if not test.hidden)
    earned = [0.0]
    for done in range(1, len(course.questions()) + 1):
        write_template(out, course, course.questions()[:done])
        report = tmp_path / "points.json"
        ended = start(out, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--points-json={report}")
        questions = json.loads(report.read_text())["questions"]
        assert ended.returncode == (1 if done < len(course.questions()) else 0), ended.stdout[-2000:]
        earned.append(sum(row["earned"] for row in questions.values()))
        assert earned[-1] > earned[-2]
    assert earned[-1] == public


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_release_that_would_be_wrong_is_not_written(tmp_path):
    """Break the solution so that it loses points, and a graded test so that it passes without the solution."""
    root = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", REPOSITORY, root], check=True)
    for file in release.tracked(REPOSITORY):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes((REPOSITORY / file).read_bytes())
    utils = root / "part1_vae" / "utils.py"
    assert "- log_std\n    # END" in utils.read_text()
    utils.write_text(utils.read_text().replace("- log_std\n    # END", "+ log_std\n    # END"))
    suite, head = root / "tests" / "test_part2_networks.py", "def test_aae_forward(rng, expected):\n"
    assert head in suite.read_text()
    suite.write_text(suite.read_text().replace(head, head + "    return\n"))
    subprocess.run(["git", "-C", root, "add", "-A"], check=True)
    course = release.read_course(root)
    with pytest.raises(release.ReleaseError) as found:
        checks.Checks(course, "2031", print, root).run()
    assert "the solution does not pass test_kld_values" in str(found.value)
    assert "with no question filled in, test_aae_forward should fail, but its outcome is passed" in str(found.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, filled, left_out",
    [("vae", ["1.7"], {"samples": "1.8", "manifold": "1.9"}), ("aae", ["2.4"], {"samples": "2.5"})]
    + [("gpt", ["3.2"], {"samples": "3.3"})],
)
def test_a_student_trains_before_all_is_filled_in(tmp_path, course, mnist_files, name, filled, left_out):
    program = Program(name, mnist_files, tmp_path / "logs")
    train = Path(PARTS[name], "train.py")
    flags = [
        *program.flags(),
        "--epochs",
        "1",
        *(["--lambda_", "1"] if name == "aae" else ["--no-flash"] * (name == "gpt")),
    ]
    write_template(tmp_path, course)
    empty = start(tmp_path, train, *flags)
    assert empty.returncode == 1 and "Traceback" not in empty.stderr, empty.stderr
    assert re.search(rf"error: Q{filled[0]}: .* \(to be filled in: {PARTS[name]}/\w+.py, line \d+\)", empty.stderr)
    write_template(tmp_path, course, filled)
    partly = start(tmp_path, train, *flags)
    assert partly.returncode == 0, partly.stderr
    said = partly.stdout + partly.stderr
    for what, question in left_out.items():
        assert len(re.findall(rf"skipping {what}: Q{question}: .* \(to be filled in: ", said)) == 1, said
    newest = max((program.log_dir / name).iterdir())  # the failed attempt may have left a folder
    figures = {path.name.split("_epoch")[0] for path in newest.glob("figures/*")}
    assert not figures & set(left_out) and figures & {"reconstructions", "attention"}
    wanted = {"vae": "1.9", "aae": "2.6", "gpt": None}[name]
    if wanted:  # the submission finds the run by its flags
        (question,) = (question for question in course.rubric.questions.values() if question.id == wanted)
        one = dataclasses.replace(
            course.rubric, questions={wanted: dataclasses.replace(question, runs=question.runs[:1])}
        )
        assert submission.find_runs(one, program.log_dir)[0] == [newest]
    if name == "gpt":
        told = start(tmp_path, Path("part3_gpt", "generate.py"), "--checkpoint", newest, "--prompt", "The ")
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert re.search(r"error: Q3.3: .*to be filled in: part3_gpt/gpt.py, line", told.stderr)
