"""Tests of the zip that students hand in."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from release_cases import write_template

from course import __main__ as students
from course import submission
from staff.release.write import write

# --- the zip to hand in ---------------------------------------------------------------------------------------------


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
    write(files, tmp_path, course)
    zipped = tmp_path / "mine.zip"
    a_run(tmp_path / "logs", "vae", 0, 12, z_dim=20, epochs=12)
    a_run(tmp_path / "logs", "vae", 1, 30, z_dim=20, epochs=80)
    a_run(tmp_path / "logs", "vae", 2, 30, z_dim=2, epochs=30)
    a_run(tmp_path / "logs", "aae", 0, 100, z_dim=8, lambda_=0.995, epochs=100)
    (tmp_path / "logs" / "aae" / "version_1").mkdir()
    (tmp_path / "logs" / "aae" / "version_1" / "summary.json").write_text("no json")
    (tmp_path / "part1_vae" / "mine.py").write_text("def f(:")
    submission.build(zipped, tmp_path / "logs", tmp_path)
    said = capsys.readouterr().out
    assert "part1_vae/mine.py: is not valid Python: invalid syntax" in said
    assert "Q1.7: part1_vae/utils.py, line " in said and "is not filled in: draw z ~ N(mean, std²)" in said
    assert re.search(r"Q1.7: python part1_vae/train.py --z_dim 20 --epochs 80: .*_1 stopped after epoch 30", said)
    assert "Q2.4: python part2_aae/train.py --z_dim 8 --lambda_ 1 --epochs 95: no such run" in said
    assert "Q2.5: python" not in said and "Q1.9: python" not in said
    assert "Q3.1: no answer in answers.md" in said
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


@pytest.fixture
def answered(tmp_path, course, capsys):
    """Return a function: answered(text) -> output and packed files of `submission` with this answer to Q1.7."""
    write_template(tmp_path, course, course.questions())
    answers = re.sub(r"\*\n\n", "*\n\nBecause.\n\n", (tmp_path / "answers.md").read_text() + "\n")

    def build(text: str, question: str = "1.7", **how) -> tuple[str, list[str]]:
        before, heading, after = answers.partition(f"## Q{question}")
        (tmp_path / "answers.md").write_text(before + heading + after.replace("Because.", text, 1))
        submission.build(tmp_path / "x.zip", tmp_path / "logs", tmp_path, **how)
        return capsys.readouterr().out, zipfile.ZipFile(tmp_path / "x.zip").namelist()

    return build


def test_pictures_of_the_answers_are_packed(tmp_path, answered):
    for name in ("my pictures/a b.png", "logs/vae/version_7/figures/bpd_curve.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"png")
    links = "![my own](my%20pictures/a%20b.png) <img width='9' src='./logs/vae/version_7/figures/bpd_curve.png'>"
    web = "![](https://example.org/x.png)"
    said, names = answered(f"{links} {web} ![gone](gone.png) ![not mine](../../outside.png)")
    assert {"my pictures/a b.png", "logs/vae/version_7/figures/bpd_curve.png"} <= set(names)
    lost = [line for line in said.splitlines() if line.startswith("missing  answers.md")]
    assert lost == [f"missing  answers.md: there is no picture {link}" for link in ("gone.png", "../../outside.png")]


def test_the_run_that_the_answers_name_is_packed(tmp_path, answered):
    for number, (flags, done) in enumerate([({}, 90), ({}, 80), ({"recipe": "fast"}, 99), ({}, 12)]):
        a_run(tmp_path / "logs", "vae", number, done, z_dim=20, epochs=done, **flags)

    def packed(text: str) -> set[str]:
        return {name.split("/")[2] for name in answered(text)[1] if name.startswith("logs/vae/")}

    assert packed("A curve.") == {"version_0"}, "the longest run with the assignment's recipe"
    assert packed("The run is logs/vae/version_1, see vae/version_2 for a faster one.") == {"version_1"}
    assert packed("The run is `logs/vae/version_3`.") == {"version_3"}
    assert packed("The run is `logs/aae/version_3` or vae/version_33.") == {"version_0"}


def test_words_are_counted(answered):
    for count in (200, 201):
        said, _ = answered("word " * count, question="3.1")
        assert ("the answer in answers.md has 201 words; the limit is 200" in said) == (count == 201)


@pytest.mark.parametrize("conftest", [None, "raise SystemExit('broken')"])
def test_the_tests_are_run(tmp_path, answered, conftest):
    points = {"1.7": {"earned": 3.5, "worth": 7.5}, "1.8": {"earned": 1, "worth": 1}}
    code = f"""
import json
from pathlib import Path

def pytest_addoption(parser):
    parser.addoption("--points-json")

def pytest_configure(config):
    config.addinivalue_line("markers", "question")
    assert config.getoption("-m") == "question"
    Path(config.getoption("--points-json")).write_text(json.dumps({{"questions": {points}}}))
"""
    (tmp_path / "conftest.py").write_text(conftest or code)
    said, _ = answered("Because.", test=True)
    failed = "missing  Q1.7: the tests give 3.5 of 7.5 points; pytest --question 1.7 shows why\n"
    assert (failed in said) == (conftest is None) and "Q1.8: the tests" not in said
    assert ("missing  the tests did not run: " in said) == (conftest is not None)


def test_a_zip_that_cannot_be_written(tmp_path, capsys):
    for out, message in ("x.tar", "must end in .zip"), ("/proc/x.zip", "cannot be written"):
        assert students.main(["submission", "-o", out, "--log_dir", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
