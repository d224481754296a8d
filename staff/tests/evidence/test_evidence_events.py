"""Tests of event files and of the rubric's rules for evidence."""

import math

import pytest
import torch
from evidence_cases import VAE_RUN, event_file, refused

from course import rubric as rubrics

# --- event files ------------------------------------------------------------------------------------------------------


def test_event_files_of_garbage(judge, staged):
    path = event_file(staged)
    path.write_bytes(b"garbage" * 1000)
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "has 0 of 3 epochs")
    path.write_bytes(b"")
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "has 0 of 3 epochs")
    with open(path, "wb") as file:
        file.truncate(100_000_000)
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "is too large")
    for each in path.parent.glob("events*"):
        each.unlink()
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "There is no event file")


def test_an_event_file_that_is_cut_off(judge, staged):
    path = event_file(staged)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"train/bpd") + 3])
    row = judge("curves", VAE_RUN | {"epochs": 3})
    assert row["points"] == 0 and "The curve train/bpd in the event file has 2 of 3 epochs" in row["warning"]


def test_a_curve_with_odd_numbers(judge, staged):
    from torch.utils.tensorboard import SummaryWriter

    run = staged / "logs/vae/version_0"
    for each in run.glob("events*"):
        each.unlink()
    with SummaryWriter(run) as writer:
        for step in range(3):
            writer.add_scalar("train/bpd", math.nan, step)
            writer.add_scalar("val/bpd", math.nan, step)
            writer.add_histogram("val/bpd", torch.ones(3), step)
    refused(judge("curves", VAE_RUN | {"epochs": 3}), "not finite")


def test_so_many_curves_are_read_and_no_more(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    from staff.grading.inside import stored_runs

    with SummaryWriter(tmp_path) as writer:
        for step in range(7):
            for tag in "abc":
                writer.add_scalar(tag, step / 2, step)
    paths = [str(path) for path in tmp_path.glob("events*")]
    curves = stored_runs.event_curves(paths, most_tags=2, most_points=5)
    assert {tag: (steps.tolist(), values.tolist()) for tag, (steps, values) in curves.items()} == {
        tag: ([0, 1, 2, 3, 4], [0, 0.5, 1, 1.5, 2]) for tag in "ab"
    }


# --- the rubric -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('what = "pictures"', 'what = "paintings"', "what is 'paintings'"),
        ('[[evidence]]\nquestion = "2.5"', '[[evidence]]\nquestion = "9.5"', "no such question"),
        ("half = 0.60\ndoubt = 0.42", "half = 0.50\ndoubt = 0.42", "ascending order"),
        ("run = 2", "run = 3", "run = 3, but the question has no such run"),
        ('pictures = ["samples"]\nat = [0, 10, 80]', 'pictures = ["samples"]', "`pictures` and `at`"),
        ('what = "curves"\npoints = 1\nfull = 0.55', 'what = "curves"\npoints = 1', "needs `full`"),
        ('what = "curves"\npoints = 1', 'what = "curves"\npoints = 2', "evidence is 2; [[evidence]] has 3"),
        ("runs = [{ z_dim = 20, epochs = 80 }]", "runs = [{ epochs = 80 }]", "its run needs a z_dim"),
    ],
)
def test_rules_that_do_not_add_up(tmp_path, old, new, message):
    text = rubrics.PATH.read_text()
    assert old in text
    (tmp_path / "rubric.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(rubrics.RubricError) as caught:
        rubrics.read(tmp_path / "rubric.toml")
    assert message in str(caught.value)
