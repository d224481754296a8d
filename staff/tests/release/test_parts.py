"""Tests of `make check` with a rubric that names nonexistent folders, run flags or files."""

import dataclasses

import pytest

from course.rubric import Forbidden, Rubric
from small_runs import REPOSITORY
from staff import __main__ as command_line
from staff.release import build, parts


def with_runs(rubric: Rubric, *runs: dict, question: str = "2.6") -> Rubric:
    changed = dataclasses.replace(rubric.questions[question], runs=list(runs))
    return dataclasses.replace(rubric, questions={**rubric.questions, question: changed})


def test_the_rubric_names_what_is_there(course):
    assert parts.missing(course.rubric, REPOSITORY) == []


def test_a_part_without_a_folder_is_named(course, tmp_path):
    other = dataclasses.replace(course.rubric.parts[2], folder="part2_ae")
    (problem,) = parts.missing(dataclasses.replace(course.rubric, parts={2: other}), REPOSITORY)
    assert problem == "course/rubric.toml: part 2: there is no folder part2_ae with an __init__.py"
    assert len([line for line in parts.missing(course.rubric, tmp_path) if "there is no folder" in line]) == 3


@pytest.mark.parametrize(
    "run, message",
    [
        ({"z_dims": 2}, "unrecognized arguments: --z_dims 2; did you mean --z_dim?"),
        ({"lambda": 1.0}, "unrecognized arguments: --lambda 1.0; did you mean --lambda_?"),
        ({"n_layer": 2}, "unrecognized arguments: --n_layer 2"),
        ({"z_dim": 0}, "argument --z_dim: "),
        ({"z_dim": "2"}, "z_dim = '2' should be 2, as recorded by runs"),
        ({"lr": 0.001}, "runs do not record a flag named --lr"),
    ],
)
def test_a_flag_that_the_part_does_not_have_is_named(course, run, message):
    (problem,) = parts.missing(with_runs(course.rubric, {"z_dim": 2, "lambda_": 1.0}, run), REPOSITORY)
    assert problem.startswith(f"course/rubric.toml: question 2.6: runs: {message}")


def test_a_flag_of_another_part_is_none(course):
    rubric = with_runs(course.rubric, {"n_layer": 2, "n_head": 2, "n_embd": 8}, question="3.2")
    assert parts.missing(rubric, REPOSITORY) == []
    assert "--lambda_" in parts.missing(with_runs(rubric, {"lambda_": 1.0}, question="1.9"), REPOSITORY)[0]


@pytest.mark.parametrize(
    "where, allowed, message",
    [
        (["part1_vae", "part4"], [], "where: there is no part4"),
        (["part3_gpt"], ["part3_gpt/fuse.py"], "allowed: there is no part3_gpt/fuse.py"),
    ],
)
def test_a_place_of_a_forbidden_name_that_is_not_there(course, where, allowed, message):
    rule = Forbidden("torch.distributions", where, allowed)
    (problem,) = parts.missing(dataclasses.replace(course.rubric, forbidden=[rule]), REPOSITORY)
    assert problem == f"course/rubric.toml: forbidden torch.distributions: {message}"


def test_check_says_it_without_a_traceback(course, monkeypatch, capsys):
    changed = with_runs(course.rubric, {"z_dims": 2}, {"z_dim": 2})
    monkeypatch.setattr(build.rubrics, "read", lambda *of: changed)
    assert command_line.main(["check"]) == 1
    said = capsys.readouterr().err
    assert "question 2.6: runs: unrecognized arguments: --z_dims 2" in said and "Traceback" not in said
