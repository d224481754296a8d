"""From the solution to the students' repository: marks, what is in it, leaks, writing it, handing in."""

import ast
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from course import __main__ as students
from course import blanks, rubric, submission
from small_runs import PARTS, REPOSITORY, Program
from staff import __main__ as command_line
from staff.release import build as release
from staff.release import suites
from staff.release.markers import MarkerError, regions, solution_lines, template, without_staff

BLANK = '''def half(x):
    """Half of x."""
    # Q1.7: half of x.
    # Hint: two halves are a whole.
    # BEGIN SOLUTION Q1.7
    return x / 2  # exact
    # END SOLUTION


TEXT = """
# BEGIN SOLUTION Q1.8
"""
'''


@pytest.fixture(scope="module")
def course() -> release.Course:
    return release.read_course()


@pytest.fixture(scope="module")
def files(course) -> release.Files:
    return release.contents(course, "2026")


# --- marks ------------------------------------------------------------------------------------------------------------


def test_a_blank_and_its_template():
    (region,) = regions(BLANK, "half.py")
    assert (region.begin, region.end, region.question, region.what) == (5, 7, "1.7", "half of x.")
    lines = template(BLANK, "half.py").splitlines()
    assert lines[2:6] == [
        "    # Q1.7: half of x.",
        "    # Hint: two halves are a whole.",
        '    raise NotImplementedError("Q1.7: half of x.")',
        "",
    ]
    assert lines[-2] == "# BEGIN SOLUTION Q1.8", "in a string it is no mark"
    assert "    return x / 2  # exact\n" in template(BLANK, "half.py", filled=["1.7"])
    assert "SOLUTION Q1.7" not in template(BLANK, "half.py", filled=["1.7"])
    assert "return x / 2" not in template(BLANK, "half.py", filled=["1.8"])
    assert solution_lines(BLANK, "half.py") == {"return x / 2  # exact"}


def test_a_long_message_is_wrapped(tmp_path):
    what = 'a \\ and a " and ' + " ".join(["many words"] * 20) + "."
    text = BLANK.replace("    # Q1.7: half of x.\n", f"    # Q1.7: {what}\n")
    made = template(text, "half.py")
    assert max(map(len, made.split("raise")[1].splitlines())) <= 120
    (tmp_path / "half.py").write_text(made)
    (blank,) = blanks.find(tmp_path / "half.py", tmp_path)
    assert blank.question == "1.7" and blank.what == what
    names = {}
    exec(made, names)
    with pytest.raises(NotImplementedError, match=re.escape(what)):
        names["half"](1)


WRONG_MARKS = {
    "4: nested in the region that begins at line 2": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\nx = 1\n# BEGIN SOLUTION Q1.8\n",
    "2: this region is not closed": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\nx = 1\n",
    "2: stray, no region begins": "x = 1\n# END SOLUTION\n",
    "1: '# BEGIN SOLUTION' is no mark": "# BEGIN SOLUTION\n",
    "1: '#BEGIN SOLUTION Q1.7' is no mark": "#BEGIN SOLUTION Q1.7\n",
    "1: '# begin solution Q1.7' is no mark": "# begin solution Q1.7\n",
    "3: '# END OF SOLUTION'": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\n# END OF SOLUTION\n",
    "1: a mark stands on a line of its own": "x = 1  # BEGIN SOLUTION Q1.7\n",
    "5: is not indented as the mark at line 3": (
        "if True:\n    # Q1.7: x\n    # BEGIN SOLUTION Q1.7\n    x = 1\n# END SOLUTION\n"
    ),
    "2: there is nothing in this region": "# Q1.7: x\n# BEGIN SOLUTION Q1.7\n\n# END SOLUTION\n",
    "2: above it should stand a comment '# Q1.7: '": "# Q1.8: x\n# BEGIN SOLUTION Q1.7\nx = 1\n# END SOLUTION\n",
    " is no Python": "x = (\n",
}


@pytest.mark.parametrize("message", WRONG_MARKS)
def test_wrong_marks_are_named(message):
    with pytest.raises(MarkerError, match=re.escape(f"part.py:{message}")):
        regions(WRONG_MARKS[message], "part.py")


def test_what_is_for_the_staff_alone():
    text = "a\n# BEGIN STAFF\nb\n# END STAFF\nc\n<!-- BEGIN STAFF -->\nd\n<!-- END STAFF -->\ne\n"
    assert without_staff(text, "x.md") == "a\nc\ne\n"
    for wrong, message in {
        "# END STAFF\n": "x.md:1: stray",
        "a\n# BEGIN STAFF\n": "x.md:2: is not closed",
        "# BEGIN STAFF\n# BEGIN STAFF\n": "x.md:2: nested in line 1",
    }.items():
        with pytest.raises(MarkerError, match=message):
            without_staff(wrong, "x.md")


# --- graded tests and the rubric --------------------------------------------------------------------------------------

SUITE = """import pytest


@pytest.mark.question("1.7", points=0.5)
def test_one():
    assert True


@pytest.mark.question("2.5", points=1, needs=["2.4"])
def test_two():
    assert True
"""


def test_graded_tests_are_read():
    one, two = suites.graded_tests(SUITE, "test_x.py")
    assert (one.name, one.question, one.points, one.hidden, one.needs, one.first) == (
        "test_one",
        "1.7",
        0.5,
        False,
        (),
        4,
    )
    assert (two.question, two.points, two.hidden, two.needs) == ("2.5", 1, False, ("2.4",))
    assert all(test.hidden for test in suites.graded_tests(SUITE, "staff/hidden/test_x.py"))


@pytest.mark.parametrize(
    "wrong, message",
    {
        '@pytest.mark.question("1.7")': "test_one has no points",
        '@pytest.mark.question("1.7", points=0)': "test_one has no points",
        '@pytest.mark.question("1.7", points=-1)': "test_one has no points",
        '@pytest.mark.question("1.7", points=0.5, secret=True)': "not secret",
        '@pytest.mark.question("1.7", points=0.5, hidden=True)': "not hidden",
        '@pytest.mark.question("1.7", points=POINTS)': "cannot be read",
        "@pytest.mark.slow": "test_one has no question",
    }.items(),
)
def test_a_graded_test_without_points_is_named(wrong, message):
    text = SUITE.replace('@pytest.mark.question("1.7", points=0.5)', wrong)
    with pytest.raises(MarkerError, match=f"^test_x.py:5: .*{re.escape(message)}"):
        suites.graded_tests(text, "test_x.py")


def test_rubric_blanks_and_tests_agree(course):
    assert sum(part.points for part in course.rubric.parts.values()) == 66
    assert [part.points for part in course.rubric.parts.values()] == [34, 22, 10]
    assert sum(test.points for test in course.tests) == 24
    assert course.questions() == ["1.7", "1.8", "1.9", "2.4", "2.5", "3.2", "3.3"]
    assert 0 < sum(test.points for test in course.tests if test.hidden) < 2


def test_disagreements_are_named(course):
    def problems(**changes) -> str:
        changed = dataclasses.replace(course, **changes)
        return "\n".join(suites.disagreements(changed.rubric, changed.blanks, changed.tests))

    assert problems() == ""
    first = course.blanks[0]
    unknown = dataclasses.replace(first, question="1.10")
    assert f"{first.file}:{first.begin}: the rubric has no question 1.10" in problems(blanks=[*course.blanks, unknown])
    untested = [test for test in course.tests if test.question != "1.8"]
    place = next(blank for blank in course.blanks if blank.question == "1.8")
    assert f"{place.file}:{place.begin}: no graded test for this blank of question 1.8" in problems(tests=untested)
    test = course.tests[0]
    dearer = [dataclasses.replace(test, points=test.points + 1), *course.tests[1:]]
    assert "question 1.7 has 8 automatic points, its graded tests have 9" in problems(tests=dearer)
    strange = [*course.tests, dataclasses.replace(test, question="9.9")]
    assert f"{test.file}:{test.first}: {test.name}: the rubric has no question 9.9" in problems(tests=strange)
    needs = [*course.tests[1:], dataclasses.replace(test, needs=("9.9",))]
    assert "the rubric has no question 9.9" in problems(tests=needs)
    empty = [blank for blank in course.blanks if blank.question != "3.3"]
    assert "question 3.3 has automatic points, but no blank" in problems(blanks=empty)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("points = 34", "points = 35", "part 1 has 35 points, its questions 34"),
        (
            "automatic = 8",
            "automatic = 7",
            "question 1.7 has 12 points: automatic 7, evidence 2, manual 2 do not add up",
        ),
        ("automatic = 8\n", "automatic = 9\nsecret = 1\n", "secret"),
        ('id = "1.2"', 'id = "1.1"', "question 1.1 stands there twice"),
        ('id = "3.3"', 'id = "4.3"', "there is no part 4"),
        ('id = "1.1"', 'id = "1"', "an id is like"),
        ('edition = "2026"', "", "'edition' is missing"),
        ('edition = "2026"', 'edition = "2026', "rubric.toml: "),
        ('edition = "2026"', 'edition = "2026"\nyear = 1', "unknown: year"),
    ],
)
def test_a_rubric_that_does_not_add_up(tmp_path, old, new, message):
    text = rubric.PATH.read_text()
    assert old in text
    (tmp_path / "rubric.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(rubric.RubricError, match=re.escape(message)):
        rubric.read(tmp_path / "rubric.toml")


# --- what students get ------------------------------------------------------------------------------------------------


def test_what_is_in_the_release_and_what_is_not(files, course):
    assert {"README.md", "CHANGELOG.md", "answers.md", "Makefile", "tests/judge.py", "part1_vae/train.job"} <= set(
        files
    )
    withheld = ["staff", "release.py", "markers.py", "suites.py", "bench", "template/", ".ci", "grading"]
    assert not [file for file in files if any(name in file for name in withheld)]
    text = b"\n".join(content for file, content in files.items() if not file.endswith(".png")).decode()
    for test in course.tests:
        assert (f"def {test.name}(" in text) != test.hidden, test.name
    assert "STAFF" not in text and "SOLUTION" not in text and "@EDITION@" not in text
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
            assert not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "staff", file


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
    (tmp_path / "copy" / "part1_vae" / "notes.py").write_text("x = 1\n")  # git does not know it
    subprocess.run(["git", "-C", tmp_path / "copy", "add", *release.tracked(REPOSITORY)], check=True)
    copy = tmp_path / "copy"
    assert release.contents(release.read_course(copy), "2026", root=copy) == files
    assert release.contents(course, "2027") != files
    listed = json.loads(files[release.MANIFEST])["files"]
    assert listed == {
        file: hashlib.sha256(content).hexdigest() for file, content in files.items() if file != release.MANIFEST
    }


def test_the_solution_is_found_wherever_it_stands(files, course):
    assert release.leaks(files, course) == []
    line = "return mean + std * torch.randn_like(mean)"
    for file, content in {
        "course/notes.py": f"x = 1\n    {line}\n",
        "README.md": f"Write `{line}`.\n",
        "part1_vae/old.py": f"# {line}\n",
    }.items():
        (found,) = release.leaks({**files, file: content.encode()}, course)
        assert found.startswith(f"{file}:") and line in found
    assert "is compiled" in release.leaks({**files, "part1_vae/utils.pyc": b"\0"}, course)[0]
    assert "is compiled" in release.leaks({**files, "part1_vae/utils.bin": b"\0"}, course)[0]


def test_writing_a_release(tmp_path, files, course):
    out = tmp_path / "new" / "release"
    release.write(files, out, course)
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    # an earlier release is replaced; what is not of it stays
    (out / "mine.txt").write_text("mine")
    fewer = {file: content for file, content in files.items() if file != "CHANGELOG.md"}
    manifest = json.loads(files[release.MANIFEST])
    del manifest["files"]["CHANGELOG.md"]
    release.write({**fewer, release.MANIFEST: json.dumps(manifest).encode()}, out, course)
    assert not (out / "CHANGELOG.md").exists() and (out / "mine.txt").read_text() == "mine"
    # somebody's work is not overwritten
    (out / "README.md").write_text("changed")
    with pytest.raises(release.ReleaseError, match="README.md: was changed since the earlier release"):
        release.write(files, out, course)
    assert (out / "README.md").read_text() == "changed"


def test_a_folder_with_something_else_is_refused(tmp_path, files, course):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(release.ReleaseError, match="is not empty, and no earlier release"):
        release.write(files, tmp_path, course)
    (tmp_path / release.MANIFEST).write_text("[]")
    with pytest.raises(release.ReleaseError, match="is missing or damaged"):
        release.write(files, tmp_path, course)
    assert sorted(path.name for path in tmp_path.iterdir()) == [release.MANIFEST, "letter.txt"]


def test_the_solution_in_the_folder_or_in_its_history_is_refused(tmp_path, files, course):
    release.write(files, tmp_path, course)
    secret = (REPOSITORY / "part1_vae" / "utils.py").read_text()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    (tmp_path / "old.py").write_text(secret)
    with pytest.raises(release.ReleaseError, match=r"^old.py:\d+: a line of the solution"):
        release.write(files, tmp_path, course)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-qm", "x"],
        ["rm", "-q", "old.py"],
        ["commit", "-qm", "y"],
    ):
        subprocess.run([*git, *words], check=True)
    with pytest.raises(release.ReleaseError, match=r"^git history, old.py:\d+: a line of the solution"):
        release.write(files, tmp_path, course)


def test_a_folder_that_git_does_not_know_is_refused(tmp_path, course):
    with pytest.raises(release.ReleaseError, match="git ls-files failed"):
        release.contents(course, "2026", root=tmp_path)


@pytest.mark.parametrize(
    "argv, status, message",
    [
        (["release"], 2, "OUT"),
        (["release", "x", "--edition", "a b"], 2, "'a b': letters"),
        (["release", "course"], 1, "is not empty, and no earlier release"),
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
    assert re.search(r"^Q1.7 +12 +8 +2 +2 ", shown, re.MULTILINE) and "rubric, blanks and tests agree" in shown


def entry(**fields) -> dict:
    return {"outcome": "failed", "error": "NotImplementedError", "message": "Q2.5 is not filled in yet", **fields}


@pytest.mark.parametrize(
    "outcome, should_pass, problem",
    [
        (entry(), False, None),
        (entry(message="Q2.4 is not filled in yet"), False, None),  # it says that it needs Q2.4
        (entry(outcome="passed"), True, None),
        (None, False, "does not run"),
        (entry(), True, "does not pass"),
        (entry(outcome="passed"), False, "should fail, but it is passed"),
        (entry(outcome="skipped"), False, "should fail, but it is skipped"),
        (entry(error="AttributeError"), False, "should meet a blank"),
        (entry(message="Q3.2 is not filled in yet"), False, "should name its question"),
    ],
)
def test_what_counts_as_wrong_in_a_template(outcome, should_pass, problem):
    test = suites.GradedTest("tests/test_x.py", "test_x", "2.5", 1, False, ("2.4",), 1, 2)
    found = release._wrong(test, outcome, should_pass)
    assert found is None if problem is None else found.startswith(problem)


@pytest.mark.slow
def test_a_release_from_beginning_to_end(tmp_path, course):
    """Built and checked as staff does it; then filled in, one question after the other: the points rise to the full."""
    out = tmp_path / "practical"
    made = start(REPOSITORY, "-m", "course", "release", out, "--edition", "2031")
    assert made.returncode == 0, made.stderr
    assert "edition 2031" in (out / "README.md").read_text()
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


@pytest.mark.slow
def test_a_release_that_would_be_wrong_is_not_written(tmp_path):
    """A solution that loses points, and a graded test that passes without it."""
    root = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", REPOSITORY, root], check=True)
    for file in release.tracked(REPOSITORY):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes((REPOSITORY / file).read_bytes())
    utils = root / "part1_vae" / "utils.py"
    utils.write_text(utils.read_text().replace("- log_std\n    # END", "+ log_std\n    # END"))
    suite = root / "tests" / "test_part2_aae.py"
    free = "def test_aae_forward(rng):\n    return\n"
    suite.write_text(suite.read_text().replace("def test_aae_forward(rng):\n", free))
    subprocess.run(["git", "-C", root, "add", "-A"], check=True)
    course = release.read_course(root)
    checks = release.Checks(course, "2031", print, root)
    with pytest.raises(release.ReleaseError) as found:
        checks.run()
    assert "the solution does not pass test_kld_values" in str(found.value)
    assert "with no question filled in, test_aae_forward should fail, but it is passed" in str(found.value)


def start(folder: Path, *words: str | Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, filled, left_out",
    [("vae", ["1.7"], {"samples": "1.8", "manifold": "1.9"}), ("aae", ["2.4"], {"samples": "2.5", "manifold": "1.9"})]
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
        assert len(re.findall(rf"without {what}: Q{question}: .* \(to be filled in: ", said)) == 1, said
    newest = max((program.log_dir / name).iterdir())  # the first attempt may have begun one
    figures = {path.name.split("_epoch")[0] for path in newest.glob("figures/*")}
    assert not figures & set(left_out) and figures & {"reconstructions", "attention"}
    wanted = {"vae": "1.9", "aae": "2.6", "gpt": None}[name]
    if wanted:  # a run is found by its flags
        (question,) = (question for question in course.rubric.questions.values() if question.id == wanted)
        one = dataclasses.replace(
            course.rubric, questions={wanted: dataclasses.replace(question, runs=question.runs[:1])}
        )
        assert submission.find_runs(one, program.log_dir)[0] == [newest]
    if name == "gpt":
        told = start(tmp_path, Path("part3_gpt", "generate.py"), "--checkpoint", newest, "--prompt", "The ")
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert re.search(r"error: Q3.3: .*to be filled in: part3_gpt/gpt.py, line", told.stderr)


def write_template(folder: Path, course: release.Course, filled: list[str] | None = None) -> None:
    for file, content in release.contents(course, "2026", filled or []).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


# --- handing in -----------------------------------------------------------------------------------------------------


def a_run(logs: Path, name: str, number: int, done: int, **flags) -> Path:
    run = logs / name / f"version_{number}"
    (run / "checkpoints").mkdir(parents=True)
    (run / "figures").mkdir()
    (run / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    (run / "figures" / "samples_epoch_000.png").write_bytes(b"png")
    (run / "events.out.tfevents.1").write_bytes(b"events")
    (run / "hparams.yaml").write_text("{}\n")
    (run / "summary.json").write_text(json.dumps({"program": name, "flags": flags, "history": [{}] * done}))
    return run


def test_what_is_missing_is_said_before_it_is_packed(tmp_path, files, course, capsys):
    release.write(files, tmp_path, course)
    zipped = tmp_path / "mine.zip"
    a_run(tmp_path / "logs", "vae", 0, 12, z_dim=20, epochs=12)
    a_run(tmp_path / "logs", "vae", 1, 30, z_dim=20, epochs=80)
    a_run(tmp_path / "logs", "vae", 2, 30, z_dim=2, epochs=30)
    a_run(tmp_path / "logs", "aae", 0, 100, z_dim=8, lambda_=0.995, epochs=100)
    (tmp_path / "logs" / "aae" / "version_1").mkdir()
    (tmp_path / "logs" / "aae" / "version_1" / "summary.json").write_text("no json")
    submission.build(zipped, tmp_path / "logs", tmp_path)
    said = capsys.readouterr().out
    assert "Q1.7: part1_vae/utils.py, line " in said and "is not filled in: draw z from N(mean, std²)" in said
    assert re.search(r"Q1.7: python part1_vae/train.py --z_dim 20 --epochs 80: .*version_1 has 30 epochs", said)
    assert "Q2.4: python part2_aae/train.py --z_dim 8 --lambda_ 1 --epochs 95: no such run" in said
    assert "Q2.5: python" not in said and "Q1.9: python" not in said
    assert "Q3.1: nothing stands in answers.md" in said
    names = zipfile.ZipFile(zipped).namelist()
    assert {"answers.md", "part1_vae/utils.py", "part3_gpt/gpt.py", "logs/vae/version_1/checkpoints/best.ckpt"} <= set(
        names
    )
    assert "logs/vae/version_1/figures/samples_epoch_000.png" in names
    assert not [
        name for name in names if "version_0" in name and "vae" in name or "last.ckpt" in name or "tests" in name
    ]


def test_nothing_is_missing(tmp_path, course, capsys):
    write_template(tmp_path, course, course.questions())
    answers = tmp_path / "answers.md"
    answers.write_text(re.sub(r"\*\n\n", "*\n\nBecause.\n\n", answers.read_text() + "\n"))
    logs = tmp_path / "logs"
    a_run(logs, "vae", 0, 80, z_dim=20, epochs=80)
    a_run(logs, "vae", 1, 80, z_dim=2, epochs=80)
    for number, (z_dim, lambda_) in enumerate([(8, 1.0), (8, 0.995), (2, 1.0), (2, 0.995)]):
        a_run(logs, "aae", number, 100, z_dim=z_dim, lambda_=lambda_, epochs=100)
    submission.build(tmp_path / "x.zip", logs, tmp_path)
    said = capsys.readouterr().out
    assert "missing  " not in said and "6 runs" in said and "nothing is missing" in said


def test_a_zip_that_cannot_be_written(tmp_path, capsys):
    for out, message in ("x.tar", "should end in .zip"), ("/proc/x.zip", "cannot be written"):
        assert students.main(["submission", "-o", out, "--log_dir", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
