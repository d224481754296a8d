"""Tests for Gradescope: results.json is always valid, and the zip works in a folder with the layout of /autograder."""

import copy
import json
import math
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
from grading_results import HOSTILE, RUBRIC, case, hostile_result, make_result, question, run

from small_runs import REPOSITORY
from staff.grading import gradescope

TEXTS = ("output", "name", "number")


def texts_of(content: dict) -> list[str]:
    """Return all the text that a student can read."""
    return [content["output"], *(entry[name] for entry in content["tests"] for name in TEXTS)]


# --- results.json -----------------------------------------------------------------------------------------------------


def test_a_result_becomes_entries():
    tests = [case(), case("test_bpd", "failed", "the bpd is in nats", points=1.5)]
    content = gradescope.results_json(make_result(tests=tests), RUBRIC)
    assert gradescope.check(content) == []
    assert content["score"] == 9 and content["execution_time"] == 12.3
    kld, bpd, evidence = content["tests"]
    assert (kld["name"], kld["number"], kld["score"], kld["max_score"]) == ("Q1.7: test_kld", "1.7.1", 0.5, 0.5)
    assert (kld["status"], kld["output"], kld["visibility"]) == ("passed", "", "visible")
    assert (bpd["status"], bpd["score"], bpd["max_score"], bpd["number"]) == ("failed", 0, 1.5, "1.7.2")
    assert (bpd["output"], bpd["output_format"]) == ("the bpd is in nats", "text")
    assert (evidence["score"], evidence["max_score"], evidence["status"]) == (2, 2, "passed")
    assert evidence["output"] == "logs/vae/version_0: claimed 0.519, recomputed 0.52"
    assert content["stdout_visibility"] == "hidden"


def test_hidden_tests_are_summed_up():
    hidden = [
        case("test_secret", "failed", "the secret is wrong", hidden=True, points=0.625),
        case("test_other_secret", "passed", "", hidden=True, points=0.375),
    ]
    content = gradescope.results_json(make_result(tests=[hidden[0], case(), hidden[1]], evidence=[]), RUBRIC)
    assert gradescope.check(content) == []
    assert [entry["name"] for entry in content["tests"]] == ["Q1.7: test_kld", "Q1.7: hidden tests"]
    summed = content["tests"][1]
    assert (summed["score"], summed["max_score"], summed["status"]) == (0.375, 1, "failed")
    assert summed["output"] == gradescope.HIDDEN
    assert {entry["visibility"] for entry in content["tests"]} == {"visible"}, "a hidden test would hide the total"
    assert "secret" not in json.dumps(content) and "123456789" not in json.dumps(content)


def test_the_visibility_is_that_of_everything():
    content = gradescope.results_json(make_result(), RUBRIC, "after_published")
    assert content["visibility"] == "after_published"
    assert {entry["visibility"] for entry in content["tests"]} == {"after_published"}
    assert gradescope.check(content) == []


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_text_is_valid_and_harmless(word):
    content = gradescope.results_json(hostile_result("eve", [word]), RUBRIC)
    assert gradescope.check(content) == []
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")
    for text in texts_of(content):
        assert len(text) < 20_000 and not set(text) & set("\x00\x07\x08\x1b\x7f\x9b\u202e\u2066\ufeff")
    assert {entry["output_format"] for entry in content["tests"]} == {"text"}


@pytest.mark.parametrize("points", [math.nan, math.inf, -math.inf, -1, 10**400, 1e9, True, "7", None])
def test_a_score_is_never_impossible(points):
    result = make_result(tests=[case(points=points)], evidence=[run(points=points), run(of=points)])
    result["questions"]["1.7"] = question(points, points)
    result["questions"]["1.1"] = question(2, 2, name="1.1")
    content = gradescope.results_json(result, RUBRIC)
    assert gradescope.check(content) == []
    too_many = not isinstance(points, bool) and isinstance(points, int | float) and points > 2
    assert content["score"] == (10 if too_many else 0), "Q1.7 has 8 automatic points and 2 of evidence, Q1.1 has none"
    assert all(0 <= entry["score"] <= entry["max_score"] for entry in content["tests"])


def test_remarks_are_said():
    result = make_result(
        status="failed",
        problem="the archive is damaged",
        problems=["there is no folder part2_aae"] * 100,
        forbidden=[{"file": "a.py", "line": 3, "name": "torch.distributions", "question": None}],
    )
    output = gradescope.results_json(result, RUBRIC)["output"].splitlines()
    assert output[0] == "This submission could not be judged: the archive is damaged"
    assert output[1] == "problem: there is no folder part2_aae" and output[-1] == "and 52 more"
    assert len(output) == 51


BREAKING = [
    ("score", math.nan),
    ("score", -1),
    ("score", "1"),
    ("execution_time", math.inf),
    ("output", 3),
    ("output", "\ud800"),
    ("output_format", "markdown"),
    ("visibility", "never"),
    ("stdout_visibility", None),
    ("extra_data", {"x": math.nan}),
    ("extra_data", []),
    ("leaderboard", {}),
    ("leaderboard", [{"name": "x"}]),
    ("leaderboard", [{"name": "x", "value": 1, "order": "up"}]),
    ("tests", {}),
    ("tests", [3]),
    ("colour", "red"),
]
BREAKING_A_TEST = [
    ("score", 0.75),
    ("score", -0.5),
    ("score", math.nan),
    ("score", True),
    ("max_score", math.inf),
    ("status", "error"),
    ("name", None),
    ("number", 1),
    ("output", b""),
    ("output_format", "latex"),
    ("visibility", "secret"),
    ("tags", ["a", 1]),
    ("colour", "red"),
]


def test_the_check_knows_the_schema():
    valid = gradescope.results_json(make_result(), RUBRIC)
    valid["leaderboard"] = [{"name": "bpd", "value": 0.5, "order": "asc"}]
    valid["tests"][0]["tags"] = ["a"]
    assert gradescope.check(valid) == []
    for name, value in BREAKING:
        assert len(gradescope.check({**valid, name: value})) == 1, (name, value)
    for name, value in BREAKING_A_TEST:
        broken = copy.deepcopy(valid)
        broken["tests"][0][name] = value
        (problem,) = gradescope.check(broken)
        assert problem.startswith("tests[0]: "), (name, value)
    assert gradescope.check([]) == ["results: is not an object"]
    assert gradescope.check({"tests": []}) == ["results: neither a score nor tests"]


def test_what_violates_the_schema_is_not_written(tmp_path):
    path = gradescope.write_results(tmp_path / "results.json", {"score": 1})
    with pytest.raises(ValueError, match="score"):
        gradescope.write_results(path, {"score": math.nan})
    assert json.loads(path.read_text()) == {"score": 1}


def test_progress_may_lack_anything(tmp_path):
    result = make_result()
    for names in ([], ["tests"], ["questions"], ["questions", "tests", "student"]):
        path = gradescope.write_progress(tmp_path / "results.json", {name: result[name] for name in names})
        content = json.loads(path.read_text())
        assert gradescope.check(content) == [] and content["output"].startswith(gradescope.BEING_GRADED)


# --- one submission ---------------------------------------------------------------------------------------------------


@pytest.fixture
def autograder(tmp_path, monkeypatch):
    """Return a function: autograder(grade_one) grades with this stub, in a folder like /autograder -> results.json."""
    (tmp_path / "submission").mkdir()
    metadata = {"id": 1, "users": [{"id": 7, "email": "ada@../b.example", "name": "Ada"}]}
    (tmp_path / "submission_metadata.json").write_text(json.dumps(metadata))

    def grade(grade_one) -> dict:
        stub = types.ModuleType("staff.grading.grade")
        stub.grade_one = grade_one
        monkeypatch.setitem(sys.modules, "staff.grading.grade", stub)
        assert gradescope.main(["--root", str(tmp_path)]) == 0
        return read_valid(tmp_path)

    return grade


def read_valid(root: Path) -> dict:
    content = json.loads((root / "results" / "results.json").read_text())
    assert gradescope.check(content) == []
    return content


def test_a_submission_is_graded_and_the_result_is_valid_at_every_moment(autograder, tmp_path):
    seen = []

    def grade_one(source, student, on_progress):
        assert source == tmp_path / "submission" and student == "ada@.._b.example"
        seen.append(read_valid(tmp_path))
        on_progress({"status": "graded", "questions": make_result()["questions"]})
        seen.append(read_valid(tmp_path))
        on_progress({"tests": "nonsense"})
        seen.append(read_valid(tmp_path))
        return make_result(student)

    content = autograder(grade_one)
    assert [each["score"] for each in seen] == [0, 9, 9]
    assert all(each["output"].startswith(gradescope.BEING_GRADED) for each in seen)
    assert content == gradescope.results_json(make_result(), RUBRIC)


def raises(error):
    def grade_one(source, student, on_progress):
        on_progress(make_result())
        raise error

    return grade_one


@pytest.mark.parametrize(
    "grade_one",
    [
        raises(ZeroDivisionError("expected 42")),
        raises(SystemExit(0)),
        raises(KeyboardInterrupt()),
        raises(MemoryError()),
        lambda *_: None,
        lambda *_: {"questions": 3},
        None,
    ],
)
def test_a_grader_that_fails_says_so_to_the_staff(autograder, capsys, grade_one):
    content = autograder(grade_one)
    assert content["score"] == 0 and content["output"] == gradescope.BROKEN
    assert content["extra_data"]["grader_failed"] in capsys.readouterr().out
    assert "42" not in json.dumps(content), "the grader's output may contain expected values"


@pytest.mark.parametrize("content", [None, b"\xff", b"[]", b'{"users": []}', b'{"users": [{}]}', b'{"users": [3]}'])
def test_metadata_may_be_damaged(tmp_path, content):
    if content is not None:
        (tmp_path / "submission_metadata.json").write_bytes(content)
    assert gradescope.student_of(tmp_path) == "submission"


def test_names_do_no_harm(tmp_path):
    for name, wanted in (
        ("../../x", "x"),
        ("Ada L.", "Ada_L"),
        ("=1+1", "1_1"),
        ("..", "submission"),
        ("x" * 999, "x" * 100),
    ):
        (tmp_path / "submission_metadata.json").write_text(json.dumps({"users": [{"name": name}]}))
        assert gradescope.student_of(tmp_path) == wanted


# --- the zip ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return gradescope.build_autograder(tmp_path_factory.mktemp("zip") / "autograder.zip")


def test_what_is_in_the_zip(archive):
    with zipfile.ZipFile(archive) as content:
        modes = {entry.filename: entry.external_attr >> 16 for entry in content.infolist()}
        wanted = content.read("requirements.txt").decode().split()
    assert modes["run_autograder"] == modes["setup.sh"] == 0o100755
    assert modes["course/rubric.toml"] == 0o100644
    assert {"staff/grading/gradescope.py", "tests/adapters/part1.py", "tests/test_part1_vae.py"} <= modes.keys()
    assert {"constraints.txt", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= modes.keys()
    assert not [name for name in modes if name.startswith(("part", "staff/tests", "bench", "data", "logs", "template"))]
    assert {"torch", "pytest", "scipy"} <= {each.partition(">=")[0] for each in wanted}
    assert not [each for each in wanted if each.startswith(("transformers", "ruff", "#"))]


def test_the_same_tree_gives_the_same_zip(archive, tmp_path):
    assert gradescope.build_autograder(tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as content:
        assert {entry.date_time for entry in content.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert content.namelist() == sorted(content.namelist())


def test_the_scripts_are_bash(archive, tmp_path):
    unpack(archive, tmp_path)
    for script in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", tmp_path / "source" / script], check=True)


STUB = """
import json, sys
def grade_one(source, student, on_progress):
    assert (source / "answer.txt").read_text() == "42"
    on_progress({})
    return json.loads(RESULT)
"""


def unpack(archive: Path, root: Path) -> None:
    """Unpack the zip as Gradescope does, preserving the file modes."""
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            path = Path(content.extract(entry, root / "source"))
            path.chmod(entry.external_attr >> 16 & 0o777)


def run_autograder(root: Path, path: str) -> None:
    environment = {"AUTOGRADER_ROOT": str(root), "PATH": path}
    subprocess.run([root / "source" / "run_autograder"], env=environment, cwd="/", timeout=120, check=True)


def test_the_zip_grades_in_a_folder_like_gradescopes(archive, tmp_path):
    unpack(archive, tmp_path)
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "answer.txt").write_text("42")
    stub = f"RESULT = {json.dumps(make_result())!r}\n{STUB}"
    (tmp_path / "source" / "staff" / "grading" / "grade.py").write_text(stub)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    run_autograder(tmp_path, path)
    assert read_valid(tmp_path) == gradescope.results_json(make_result(), RUBRIC)
    first = (tmp_path / "results" / "results.json").read_bytes()
    run_autograder(tmp_path, path)
    assert (tmp_path / "results" / "results.json").read_bytes() == first, "regrading must give the same result"


def test_there_is_a_result_even_where_python_does_not_start(archive, tmp_path):
    unpack(archive, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to("/bin/false")
    run_autograder(tmp_path, f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert read_valid(tmp_path)["output"] == gradescope.BROKEN


def test_the_command_builds_it(tmp_path, archive):
    out = tmp_path / "out.zip"
    command = [sys.executable, "-m", "staff.grading.gradescope", "--build", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=120)
    assert out.read_bytes() == archive.read_bytes()


def test_a_zip_that_cannot_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert gradescope.main(["--build", str(tmp_path / "file" / "out.zip")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
