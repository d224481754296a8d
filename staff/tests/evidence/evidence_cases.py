"""Helpers that judge submitted runs, for the tests of the evidence."""

import dataclasses
import json
from pathlib import Path

from course import rubric as rubrics
from staff.grading import evidence

RUBRIC = rubrics.read()


IMAGES, MANY = 100, 500  # number of images to judge a run on; MANY is for tests that compare values


# flags of the tests' small runs, which have two latent dimensions and train for a few steps
VAE_RUN, AE_RUN, AAE_RUN = {"z_dim": 2}, {"z_dim": 2, "lambda_": 1.0}, {"z_dim": 2, "lambda_": 0.995}


def judge_one(
    root: Path, open_child, what: str, run: dict, seed: int = 1, seconds: float = 60, images: int = IMAGES, **fields
) -> dict:
    """Judge a run with these flags by one rule, worth 2 points; return the rule's row."""
    part = 2 if "lambda_" in run else 1
    question = next(each for each in RUBRIC.questions.values() if each.part == part and each.evidence)
    if what != "pictures":
        fields = {"full": 9.0} | fields
    rule = rubrics.Evidence(question.id, what, 2, **fields)
    changed = RUBRIC.questions | {question.id: dataclasses.replace(question, runs=[run])}
    rubric = dataclasses.replace(RUBRIC, questions=changed, evidence=[rule])
    (row,) = evidence.judge(rubric, root, open_child, seed, seconds, images)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    return row


def change_summary(root: Path, change, run: str = "logs/vae/version_0") -> None:
    path = root / run / "summary.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(row: dict, warning: str) -> None:
    assert row["points"] == 0 and row["recomputed"] is None, row
    assert warning in row["warning"]


def event_file(root: Path) -> Path:
    """Return the event file of the VAE's training; the run's other event file contains the test metrics."""
    return min((root / "logs/vae/version_0").glob("events*"))
